//! Networks that a configuration names.

use crate::config;
use crate::error::{Error, Result, need};
use crate::model::{Model, Parameterization};
use approx::Activation;
use nn::{Graph, Linear, Metadata, Network, Nonlinearity, Op, Parameter, Shape};
use zoo::random::uniform;
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
            let (graph, metadata) = zoo::open(
                path,
                &zoo::Options {
                    activation,
                    ..zoo::Options::default()
                },
            )?
            .graph()?;
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
            mlp(inputs, hidden, classes, activation(name)?, seed)?
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

/// Linear layers with an activation between any two, with new weights (He et al. 2015).
fn mlp(
    inputs: usize,
    hidden: &[usize],
    outputs: usize,
    activation: Activation,
    seed: u64,
) -> Result<Graph> {
    let mut b = Network::builder();
    let mut at = b.add("input", Op::Input(Shape::Vector(inputs)), &[])?;
    let mut from = inputs;
    for (i, &to) in hidden.iter().chain([&outputs]).enumerate() {
        let name = format!("linear{}", i + 1);
        let weight = format!("{name}.weight");
        let values = uniform(seed, &weight, from * to, (6.0 / from as f64).sqrt());
        let bias = Parameter::new(&format!("{name}.bias"), [to], vec![0.0; to])?;
        let linear = Linear {
            weight: Parameter::new(&weight, [to, from], values)?,
            bias: Some(bias),
        };
        at = b.add(name, Op::Linear(linear), &[at])?;
        if i < hidden.len() {
            let activation = Op::Elementwise(Nonlinearity::Activation(activation));
            at = b.add(format!("act{}", i + 1), activation, &[at])?;
        }
        from = to;
    }
    Ok(b.finish(at)?)
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
