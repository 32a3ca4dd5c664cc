//! Networks made of `+`, `×` and polynomials.

use crate::error::Error;
use crate::graph::{Graph, Network, Node, NodeId};
use crate::op::Nonlinearity;
use crate::tensor::Shape;
use crate::{Result, op::Op};
use approx::Polynomial;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A node of a [`PolyGraph`]: `Op::Elementwise` holds the [`Polynomial`] with its interval.
pub type PolyNode = Node<Polynomial>;

/// Smallest and largest value seen at a node's output over a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Range {
    /// Largest magnitude.
    #[must_use]
    pub fn magnitude(self) -> f64 {
        self.min.abs().max(self.max.abs())
    }

    /// The range with `margin` times its width added at both ends.
    #[must_use]
    pub fn widened(self, margin: f64) -> Self {
        let by = margin * (self.max - self.min);
        Self {
            min: self.min - by,
            max: self.max + by,
        }
    }
}

/// What is known about a network beside what it computes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// The model's name.
    pub name: String,
    /// Where weights, ranges and polynomials come from, oldest first.
    pub provenance: Vec<String>,
    /// The record of the run that trained the network: configuration, epochs, digests of data, accuracy on held-out data, as the
    /// trainer wrote it. Absent in networks that were not trained here.
    pub training: Option<serde_json::Value>,
    /// What inputs and outputs mean, in bytes that only clients read.
    pub task: Option<Arc<[u8]>>,
}

/// A network of which every operator is linear, a product or a polynomial with an interval.
///
/// Made by `TryFrom<Graph>`; read by the compiler. It is its [`Network`] in everything that doesn't ask for ranges or metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct PolyGraph {
    network: Network<Polynomial>,
    ranges: Option<Vec<Range>>,
    metadata: Metadata,
}

impl TryFrom<Graph> for PolyGraph {
    type Error = Error;

    /// Without ranges and metadata.
    ///
    /// # Errors
    /// [`Error::NotPolynomial`], [`Error::Maximum`] or [`Error::NotLowered`] with the first node that is not a polynomial.
    fn try_from(graph: Graph) -> Result<Self> {
        let network = graph.try_map(|node, n| match n {
            Nonlinearity::Polynomial(p) => Ok(p),
            Nonlinearity::Activation(a) => Err(Error::not_polynomial(node, a)),
        })?;
        Ok(network.into())
    }
}

impl From<Network<Polynomial>> for PolyGraph {
    fn from(network: Network<Polynomial>) -> Self {
        Self {
            network,
            ranges: None,
            metadata: Metadata::default(),
        }
    }
}

impl std::ops::Deref for PolyGraph {
    type Target = Network<Polynomial>;

    fn deref(&self) -> &Self::Target {
        &self.network
    }
}

impl PolyGraph {
    /// The same network with calibrated ranges, one per node in the order of `PolyGraph::nodes`.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of ranges, [`Error::Range`] for ends that aren't finite and in order.
    pub fn with_ranges(mut self, ranges: Vec<Range>) -> Result<Self> {
        if ranges.len() != self.nodes().len() {
            return Err(Error::Count {
                what: "calibrated ranges",
                needed: self.nodes().len(),
                had: ranges.len(),
            });
        }
        for (range, node) in ranges.iter().zip(self.nodes()) {
            if !(range.min.is_finite() && range.max.is_finite() && range.min <= range.max) {
                return Err(Error::Range {
                    node: node.name().into(),
                    min: range.min,
                    max: range.max,
                });
            }
        }
        self.ranges = Some(ranges);
        Ok(self)
    }

    /// The same network with this metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The network itself.
    #[must_use]
    pub fn network(&self) -> &Network<Polynomial> {
        &self.network
    }

    /// The shape of a node's output.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> Shape {
        self.node(id).shape()
    }

    /// The input's shape.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.input().shape()
    }

    /// The calibrated range of a node's output; None before calibration.
    #[must_use]
    pub fn range(&self, id: NodeId) -> Option<Range> {
        self.ranges.as_ref().map(|r| r[id.index()])
    }

    /// All calibrated ranges in the order of the nodes; None before calibration.
    #[must_use]
    pub fn ranges(&self) -> Option<&[Range]> {
        self.ranges.as_deref()
    }

    /// Name, labels, normalisation, provenance.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The polynomial nodes in topological order.
    pub fn polynomials(&self) -> impl Iterator<Item = (&PolyNode, &Polynomial)> {
        self.nodes().iter().filter_map(|n| match n.op() {
            Op::Elementwise(p) => Some((n, p)),
            _ => None,
        })
    }
}
