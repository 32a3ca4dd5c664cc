//! Networks that a configuration names.

use crate::config;
use crate::error::{Error, Result};
use crate::model::{Model, Parameterization};
use approx::Activation;
use nn::{Graph, Metadata};
use zoo::resnet::{ResNet, Skip, Small};

/// An activation by its name.
///
/// # Errors
/// [`Error::Setting`] for an unknown one.
pub fn activation(name: &str) -> Result<Activation> {
    Activation::named(name).ok_or_else(|| Error::Setting {
        setting: "activation",
        value: name.into(),
        remedy: format!("known are {}", Activation::names()),
    })
}

fn named_skip(name: &str) -> Result<Skip> {
    Skip::named(name).ok_or_else(|| Error::Setting {
        setting: "skip",
        value: name.into(),
        remedy: format!("known are {}", Skip::NAMES),
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
    let (graph, skip) = match network {
        config::Network::File {
            path,
            activation: name,
        } => {
            let name = name.as_deref().map(activation).transpose()?;
            let (graph, metadata) = zoo::open(path, &zoo::Options { activation: name })?.graph()?;
            return Ok((graph, metadata, Parameterization::Plain));
        }
        config::Network::Resnet {
            depth,
            width,
            activation: name,
            skip,
        } => {
            let (activation, skip) = (activation(name)?, named_skip(skip)?);
            let network = ResNet {
                depth: *depth,
                width: *width,
                classes,
                input,
                activation,
                skip,
            };
            (network.graph(seed)?, skip)
        }
        config::Network::Small {
            width,
            activation: name,
        } => {
            let network = Small {
                width: *width,
                classes,
                input,
                activation: activation(name)?,
            };
            (network.graph(seed)?, Skip::None)
        }
    };
    let parameterization = if skip.dirac() {
        Parameterization::Dirac
    } else {
        Parameterization::Plain
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
    classes: usize,
    seed: u64,
) -> Result<(Model, Metadata)> {
    let (graph, metadata, parameterization) = graph(network, input, classes, seed)?;
    Ok((Model::new(graph, parameterization)?, metadata))
}
