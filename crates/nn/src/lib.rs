//! What a network is and what it computes.
//!
//! A [`Graph`] is a network as trained: operators in topological order, one input, one output, batch-less shapes
//! `(channels, height, width)` or `(features)`. A [`PolyGraph`] is the same made of `+`, `×` and polynomials only; it is made by
//! `TryFrom<Graph>` and is what the compiler reads.
//!
//! Modules in reading order: [`tensor`] (shapes, values, weights), [`op`] (operators), [`graph`] and [`poly_graph`],
//! [`purpose`] (what a node is for), [`attention`] (how scores become weights), [`evaluate`] (the f64 oracle), [`approximations`] (approximations beside a network), [`mod@calibrate`] and
//! [`histogram`] (ranges), [`mod@lower`] (from a network and data to polynomials), [`mod@format`] (files). What inputs and outputs
//! mean is in the crate `task`, published architectures are in the crate `zoo`.
//!
//! The crate knows nothing of pictures, text, levels, slots, moduli or gradients. The oracle never clamps: a polynomial outside of its interval is
//! evaluated as it is, and reported.

pub mod approximations;
pub mod attention;
pub mod calibrate;
pub mod error;
pub mod evaluate;
pub mod format;
pub mod graph;
pub mod histogram;
pub mod lower;
pub mod op;
pub mod poly_graph;
pub mod purpose;
pub mod tensor;

mod infer;
mod kernels;
mod positions;
mod sequence;
mod shape;

pub use attention::{AttentionScheme, Mask, PowerSoftmax};
pub use error::Error;
pub use evaluate::{Evaluation, Outside, Trace};
pub use graph::{Graph, Kept, Network, NetworkBuilder, Node, NodeId};
pub use op::{
    Attention, AvgPool, AxisSlice, BatchNorm, Boundary, Conv2d, Linear, MaxPool, Nonlinearity,
    Norm, NormKind, Op, Pad, Padding, Pairing, Rearrange, Repeat, Rotary, Slice, Softmax, Unfold,
};
pub use poly_graph::{Metadata, PolyGraph, PolyNode, Range};
pub use purpose::Purpose;
pub use tensor::{Parameter, Shape, Tensor};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
