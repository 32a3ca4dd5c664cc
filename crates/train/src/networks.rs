//! Networks that a configuration names.

use crate::config;
use crate::error::{Error, Result, need};
use crate::model::{Model, Parameterization};
use approx::Activation;
use nn::{Graph, Metadata};
use zoo::mlp::Perceptron;
use zoo::resnet::{ResNet, Skip, Small};

/// An activation by its name.
///
/// # Errors
/// [`Error::Setting`] for an unknown one.
pub fn activation(name: &str) -> Result<Activation> {
    Activation::named(name).ok_or_else(|| {
        Error::setting(
            "activation",
            name,
            format!("known are {}", Activation::names()),
        )
    })
}

/// The graph that a configuration names, for inputs of this size and so many classes, and how its convolutions are parameterised.
///
/// # Errors
/// [`Error::Network`] for a file that can't be read, [`Error::Setting`] for unknown names.
pub fn graph(
    network: &config::Network,
    (height, width, channels): (usize, usize, usize),
    classes: usize,
    seed: u64,
) -> Result<(Graph, Metadata, Parameterization)> {
    let input = (height, width, channels);
    let mut parameterization = Parameterization::Plain;
    let graph = match network {
        config::Network::File {
            path,
            activation: name,
        } => {
            let activation = name.as_deref().map(activation).transpose()?;
            let (graph, metadata) = zoo::open(path, &activation.into())?.graph()?;
            return Ok((graph, metadata, parameterization));
        }
        config::Network::Resnet {
            depth,
            width,
            activation: name,
            skip,
        } => {
            let known = || format!("known are {}", Skip::NAMES);
            let network = ResNet {
                depth: *depth,
                width: *width,
                classes,
                input,
                activation: activation(name)?,
                skip: Skip::named(skip).ok_or_else(|| Error::setting("skip", skip, known()))?,
            };
            if network.skip.dirac() {
                parameterization = Parameterization::Dirac;
            }
            network.graph(seed)?
        }
        config::Network::Mlp {
            hidden,
            activation: name,
        } => {
            need(
                hidden.iter().all(|n| (1..=1 << 16).contains(n)) && hidden.len() <= 64,
                "hidden",
                format!("{hidden:?}"),
                "at most 64 layers of 1 to 65,536 values",
            )?;
            let inputs = height * width * channels;
            let perceptron = Perceptron {
                inputs,
                hidden,
                outputs: classes,
                activation: activation(name)?,
            };
            perceptron.graph(seed)?
        }
        config::Network::Small {
            width,
            activation: name,
        } => Small {
            width: *width,
            classes,
            input,
            activation: activation(name)?,
        }
        .graph(seed)?,
    };
    Ok((graph, Metadata::default(), parameterization))
}

/// The model that a configuration names.
///
/// # Errors
/// As [`graph`]; [`Error::Unsupported`].
pub fn model(
    network: &config::Network,
    input: (usize, usize, usize),
    outputs: usize,
    seed: u64,
) -> Result<(Model, Metadata)> {
    let (graph, metadata, parameterization) = graph(network, input, outputs, seed)?;
    Ok((Model::new(graph, parameterization)?, metadata))
}
