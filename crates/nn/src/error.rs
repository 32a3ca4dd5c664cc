//! Everything that can go wrong in this crate, in the user's units.

use crate::tensor::Shape;

/// Why a network, a file or an input was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's length doesn't fit its shape.
    #[error("tensor {tensor}: shape {shape:?} needs {needed} values, {had} were given")]
    Length {
        /// Which tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values that the shape needs.
        needed: usize,
        /// Values given.
        had: usize,
    },
    /// A weight is NaN or infinite.
    #[error("tensor {tensor} holds {value} at position {index}; weights must be finite, so export the model again from a checkpoint that did not diverge")]
    NotFinite {
        /// Which tensor.
        tensor: String,
        /// Position of the first bad value.
        index: usize,
        /// That value.
        value: f64,
    },
    /// An operator can't take what it is given.
    #[error("node {node} ({operator}): {detail}")]
    Invalid {
        /// The node's name.
        node: String,
        /// Its operator.
        operator: &'static str,
        /// What is needed, what was given.
        detail: String,
    },
    /// Two nodes have the same name, or a name is empty.
    #[error("node name {node:?} is empty or used twice; give every node its own name")]
    Name {
        /// The name.
        node: String,
    },
    /// A node refers to one that does not exist before it.
    #[error("node {node} takes the output of node number {input}, which does not exist before it")]
    Dangling {
        /// The node that refers.
        node: String,
        /// What it refers to.
        input: usize,
    },
    /// The network has no input, more than one, or the output doesn't depend on it.
    #[error("the network needs exactly one input that its output depends on, {found} were found")]
    Inputs {
        /// How many inputs the output depends on.
        found: usize,
    },
    /// A node is not a polynomial.
    #[error("node {node} applies {function}, which is not a polynomial; replace it by one, with `calibrate_to_polynomials` or `Graph::replace_activations`")]
    NotPolynomial {
        /// The first such node.
        node: String,
        /// Its function.
        function: String,
    },
    /// An input tensor has another shape than the network's input.
    #[error("the network takes an input of shape {needed}, {had} was given")]
    InputShape {
        /// The network's.
        needed: Shape,
        /// The tensor's.
        had: Shape,
    },
    /// Ranges, labels or normalisation don't fit the network.
    #[error("{what}: {needed} needed, {had} given")]
    Count {
        /// Which list.
        what: &'static str,
        /// How many entries it must have.
        needed: usize,
        /// How many it has.
        had: usize,
    },
    /// A range's ends aren't finite or not in order.
    #[error("range [{min}, {max}] of node {node} is not two finite numbers in order")]
    Range {
        /// The node.
        node: String,
        /// Lower end.
        min: f64,
        /// Upper end.
        max: f64,
    },
    /// No polynomial could be made for a node.
    #[error("node {node}: {source}")]
    Approximation {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: approx::Error,
    },
}
