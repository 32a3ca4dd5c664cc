//! Networks whose linear layers lie in coefficients, below the bootstrap: convolutions of any size are products of polynomials with integer weights,
//! without diagonals and with a handful of keys; slots hold activations alone.
//!
//! `network` (sums of kernels over inputs and activations, and products of activations; `kernel`, chains of operators that are one kernel; `windows`, means that are sums in slots) →
//! `layout` (phases of large pictures, places, channels) → `emit` (units, integer weights, steps, ports; `costs`, what they take); `ways` decides by what it takes, `slots` are layers that
//! stay in slots between two activations. What a layer's outputs leave at places without a value goes
//! through the activation and is masked on the way down.
//!
//! Transformers take the normal form of slots instead (`transformer`): `tokens` says where values lie, `attention` what becomes of scores, `centred` which
//! means are taken off the weights before, `weigh` what a linear map is in coefficients. A step of a sequence (`step`) has one token's matrices there (`vectors`).

mod attention;
pub(crate) mod centred;
mod costs;
mod emit;
mod kernel;
mod layout;
mod network;
pub(crate) mod sequence;
mod slots;
pub(crate) mod step;
pub(crate) mod tokens;
mod transformer;
pub(crate) mod vectors;
mod ways;
pub(crate) mod weigh;
mod windows;

use crate::{Error, Needs, Target};
pub(crate) use costs::LEAST_ROOM;
use costs::within_memory;
pub(crate) use costs::within_room;
use nn::PolyGraph;
use runtime::VerifiedPlan;
pub use ways::Estimate;
pub(crate) use ways::{Found, LEAST_TRANSFORMS, Open, open, search};

/// Compiles a network with every linear layer in coefficients, but for layers of one place where the target lets layers lie wherever they cost least
/// ([`crate::Layers`]).
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer. Where the target names no parameters, the preset with as many
/// free levels as the deepest activation, and what stays in slots with it, takes; else they must have SlotToCoeff first.
///
/// # Errors
/// As [`crate::compile`]; [`Error::Unsupported`] for zeros around pictures that are no convolution's, and means whose divisor is
/// another one at the border.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    if transformer::is(graph) {
        return transformer::compile(graph, target);
    }
    compile_found(graph, target, &search(graph, target)?)
}

/// Whether a network is one of tokens, which is compiled in its own way.
pub(crate) fn is_transformer(graph: &PolyGraph) -> bool {
    transformer::is(graph)
}

/// What compiling takes.
pub(crate) fn needs(graph: &PolyGraph, target: &Target) -> Result<Needs, Error> {
    match transformer::is(graph) {
        true => Ok(transformer::needs(graph)),
        false => Ok(estimate(graph, target)?.compiling),
    }
}

/// [`compile`], with what was found before.
pub(crate) fn compile_found(
    graph: &PolyGraph,
    target: &Target,
    found: &Found,
) -> Result<VerifiedPlan, Error> {
    within_room(graph, target, found.estimate.compiling.bytes)?;
    let plan = ways::made(graph, target, found)?;
    within_memory(graph, target, plan)
}

/// What [`compile`] would give, from the network's shapes alone: no weight is looked at.
///
/// # Errors
/// As [`compile`], but for what depends on weights.
pub fn estimate(graph: &PolyGraph, target: &Target) -> Result<Estimate, Error> {
    Ok(search(graph, target)?.estimate)
}
