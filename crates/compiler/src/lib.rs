//! A polynomial network becomes a plan: packing, rotations, levels, bootstraps.
//!
//! [`compile`] is deterministic: the same network and target give the same plan, byte for byte.
//!
//! Notation: g gap, n slots (period) of a value, ℓ level; network value = unit × plan value.
//!
//! Modules in reading order: `normal` (between polynomials everything is one affine map; its rows from `linear_op`; `product`, what
//! products take in; `cut`, where two maps are cheaper than one) → `layout` (where
//! values lie) → `pack` (maps as diagonals; `shifted`, whose rows are another's moved; `twins`, what is the same and made once) → `split` (baby and giant steps) → `stages` and `schedule` (levels and bootstraps by shortest path over
//! `cost`; `search`, under a memory limit; `choose`, which parameters; `kept`, at which level lies what is kept from run to run; `layers`, slots or [`coefficients`]) → `activation` and `units` (intervals and leading coefficients folded away) → `emit` (the plan; `order`, depth first for a batch) → `alarm` (what a client sees of values that left their intervals) → [`describe()`]; [`price`] (what
//! an activation costs in a deep network), [`outline`] (what a network costs whose degrees are open), [`mod@sketch`] (what one costs whose weights
//! are not there).
//!
//! What this crate knows nothing of: keys, ciphertexts, randomness, the clock.
//!
//! Reference: \[LLKN22\] multiplexed packing; Orion's single-shot convolutions and shortest path.

pub mod coefficients;
pub mod describe;
pub mod error;
pub mod outline;

mod activation;
mod alarm;
mod choose;
mod cost;
mod cut;
mod draft;
mod emit;
mod kept;
mod layers;
mod layout;
mod linear_op;
mod normal;
mod order;
mod pack;
pub mod price;
mod product;
#[cfg(test)]
mod random;
mod schedule;
mod search;
mod shifted;
pub mod sketch;
mod split;
mod stages;
mod target;
mod twins;
mod units;

pub use ckks::CostTable;
pub use describe::{Summary, describe, summarise};
pub use error::Error;
pub use layout::Scale;
pub use outline::{Choice, Outline};
pub use price::{Price, Pricing};
pub use sketch::{Sketch, sketch};

pub use draft::Needs;
pub use layers::{estimate, needs};
use nn::PolyGraph;
use runtime::VerifiedPlan;
pub use target::{Layers, Target, Watch};

/// Compiles a network, under the target's parameters or the cheapest that hold it (`choose`), with linear layers in slots or in coefficients, whichever
/// is cheaper (`layers`).
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer.
///
/// # Errors
/// [`Error::Calibration`] without ranges; [`Error::Unsupported`], [`Error::TooLarge`] for operators and shapes that packing does not
/// cover; [`Error::Depth`], [`Error::Levels`] when the parameters have too few levels; [`Error::Weight`] when a folded weight
/// overflows; [`Error::Memory`] where no plan keeps the memory limit; [`Error::Ckks`] for inconsistent or insecure parameters.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    layers::compile(graph, target)
}
