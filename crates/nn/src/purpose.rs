//! What a node is for, as the costs of a network are told apart.

use crate::op::Op;
use serde::{Deserialize, Serialize};

/// What a node is for. Lowering says it of the primitives that it makes; other nodes have that of their operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Convolutions, projections, dense layers, pooling and residual sums.
    Weights,
    /// Products of encrypted tensors with each other, queries with keys and weights with values, and the sums over them.
    Products,
    /// From scores to attention weights: powers, their sum, the division.
    Attention,
    /// Norms.
    Norm,
    /// Activations.
    Activation,
    /// Keys, values and queries brought to the places where products need them.
    Repacking,
}

impl Purpose {
    /// That of a node with this operator, where nothing else is said.
    #[must_use]
    pub const fn of<N>(op: &Op<N>) -> Self {
        match op {
            Op::Elementwise(_) => Self::Activation,
            Op::Norm(_) => Self::Norm,
            Op::Attention(_) => Self::Attention,
            _ => Self::Weights,
        }
    }
}
