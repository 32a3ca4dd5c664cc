//! Multilayer perceptrons: dense layers with the same activation between them, as torch's `Sequential` of `Linear` has them.
//!
//! Names are anything that ends in `.weight` and `.bias`; layers come in the order of the numbers in their names (`0.weight`, `2.weight`,
//! `fc1.weight`, `fc2.weight`). The activation behind layer `NAME` is called `NAME.act`.

use crate::family::{Claim, Family, Model, Options};
use crate::resnet::{Builder, Weights};
use approx::Activation;
use nn::format::Checkpoint;
use nn::{Graph, Linear, Metadata, Nonlinearity, Op, Result, Shape};

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "multilayer perceptron",
    read: claim,
    leaves: None,
};

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let tensors = checkpoint.tensors.tensors();
    let mut layers: Vec<&str> = Vec::new();
    for (name, tensor) in tensors {
        match (name.rsplit_once('.'), &tensor.shape[..]) {
            (Some((layer, "weight")), [_, _]) => layers.push(layer),
            (Some((layer, "bias")), [_]) if tensors.contains_key(&format!("{layer}.weight")) => {}
            _ => {
                return Ok(Claim::Declined(format!(
                    "tensor {name} of shape {:?} is no part of a dense layer",
                    tensor.shape
                )));
            }
        }
    }
    // Names without their digits must be equal, so that the digits are the order.
    let number = |layer: &str| -> (String, Vec<u64>) {
        let runs = layer.split(|c: char| !c.is_ascii_digit());
        let numbers = runs.filter_map(|run| run.parse().ok()).collect();
        (layer.replace(|c: char| c.is_ascii_digit(), ""), numbers)
    };
    layers.sort_by_key(|layer| number(layer));
    let named_alike = layers
        .windows(2)
        .all(|pair| number(pair[0]).0 == number(pair[1]).0);
    let Some(&first) = layers.first().filter(|_| named_alike) else {
        return Ok(Claim::Declined(
            "its layers are not numbered, so nothing says their order".into(),
        ));
    };
    let weight = |layer: &str| checkpoint.tensors.parameter(&format!("{layer}.weight"));
    let activation = match layers.len() {
        1 => None,
        _ => Some(options.activation(FAMILY.name)?),
    };
    let mut b = Graph::builder();
    let mut x = b.input("input", Shape::Vector(weight(first)?.shape()[1]))?;
    for (i, &layer) in layers.iter().enumerate() {
        let bias = format!("{layer}.bias");
        let linear = Linear {
            weight: weight(layer)?,
            bias: match tensors.contains_key(&bias) {
                true => Some(checkpoint.tensors.parameter(&bias)?),
                false => None,
            },
        };
        x = b.add(layer, Op::Linear(linear), &[x])?;
        if let Some(activation) = activation.filter(|_| i + 1 < layers.len()) {
            let op = Op::Elementwise(activation.into());
            x = b.add(format!("{layer}.act"), op, &[x])?;
        }
    }
    let graph = b.finish(x)?;
    Ok(Claim::Model(Box::new(Model::Trained(
        graph,
        Metadata::default(),
    ))))
}

/// Linear layers with an activation between any two.
#[derive(Debug, Clone, PartialEq)]
pub struct Perceptron<'a> {
    /// Values of an input.
    pub inputs: usize,
    /// Values of each hidden layer.
    pub hidden: &'a [usize],
    /// Values of an output.
    pub outputs: usize,
    /// Between layers.
    pub activation: Activation,
}

impl Perceptron<'_> {
    /// The network with new weights (He et al. 2015).
    ///
    /// # Errors
    /// [`nn::Error::Invalid`] for a layer of no values.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let mut function = |_: &str| Ok(Nonlinearity::from(self.activation));
        let mut b = Builder::new(Weights::New(seed), &mut function);
        let mut x = b.network.input("input", Shape::Vector(self.inputs))?;
        for (i, &to) in self.hidden.iter().chain([&self.outputs]).enumerate() {
            x = b.dense(&format!("linear{}", i + 1), x, to)?;
            if i < self.hidden.len() {
                x = b.activation(&format!("act{}", i + 1), x)?;
            }
        }
        b.network.finish(x)
    }
}
