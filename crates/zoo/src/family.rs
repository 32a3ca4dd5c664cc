//! What a family says of itself to the registry, and what reading a network gives.

use crate::encoder::Encoder;
use crate::language::LanguageModel;
use approx::Activation;
use nn::format::Checkpoint;
use nn::{Error, Graph, Metadata, Nonlinearity, PolyGraph, Result};

/// What a checkpoint does not say itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Which activation a state dict was trained with.
    pub activation: Option<Activation>,
    /// Which output of an ONNX model is the network's, where it has several.
    pub output: Option<String>,
}

impl From<Option<Activation>> for Options {
    fn from(activation: Option<Activation>) -> Self {
        Self {
            activation,
            output: None,
        }
    }
}

impl Options {
    /// The activation, which weights of this family need.
    pub(crate) fn activation(&self, family: &'static str) -> Result<Activation> {
        self.activation.ok_or_else(|| Error::Unstated {
            family,
            known: Activation::names(),
        })
    }
}

/// A family's entry in the registry.
pub(crate) struct Family {
    /// For messages.
    pub(crate) name: &'static str,
    /// The model that a checkpoint holds, if it is of this family.
    pub(crate) read: fn(&Checkpoint, &Options) -> Result<Claim>,
    /// Whether a tensor of this name may be left unread; none where that is not looked at.
    pub(crate) leaves: Option<fn(&str) -> bool>,
}

/// A network that a file holds is all that it computes: nothing may be left unread.
pub(crate) fn nothing(_: &str) -> bool {
    false
}

impl Family {
    /// Refuses what was read of a checkpoint where tensors are left that change what the network computes.
    pub(crate) fn expect_all_read(&self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(leaves) = self.leaves else {
            return Ok(());
        };
        let counts = |name: &&str| !name.ends_with("num_batches_tracked") && !leaves(name);
        let unread = checkpoint.tensors.unread();
        let left: Vec<&str> = unread.into_iter().filter(counts).collect();
        let Some(first) = left.first() else {
            return Ok(());
        };
        let others = match left.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        Err(Error::malformed(
            self.name,
            format!(
                "tensor {first}{others} is no part of the network as it is read here, or one before it is missing; export the model as ONNX"
            ),
        ))
    }
}

/// What a family makes of a checkpoint.
pub(crate) enum Claim {
    /// It is of the family.
    Model(Box<Model>),
    /// It is not, for this reason.
    Declined(String),
}

/// A network that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// With functions that are no polynomials yet.
    Trained(Graph, Metadata),
    /// Of polynomials.
    Polynomial(Box<PolyGraph>),
    /// A language model, which has a graph for every length.
    Language(LanguageModel),
    /// An encoder, which has a graph for every length.
    Encoder(Encoder),
}

impl Model {
    /// The one graph of a network with inputs of one shape, polynomial or not.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a transformer, whose graph depends on a length and an attention.
    pub fn graph(self) -> Result<(Graph, Metadata)> {
        match self {
            Self::Trained(graph, metadata) => Ok((graph, metadata)),
            Self::Polynomial(graph) => {
                let metadata = graph.metadata().clone();
                let network = graph.network().clone();
                let graph = network.try_map(|_, p| Ok(Nonlinearity::Polynomial(p)))?;
                Ok((graph, metadata))
            }
            Self::Language(_) | Self::Encoder(_) => Err(Error::malformed(
                "network",
                "it is a transformer, whose network depends on the length and the attention; one with inputs of one shape is needed",
            )),
        }
    }
}
