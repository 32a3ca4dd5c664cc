//! What a polynomial network costs under encryption, predicted by compiling it with the shipped cost table.

use crate::error::Result;
use compiler::{Pricing, Target};
use nn::PolyGraph;
use runtime::prediction::{Basis, Prediction};

/// A plan in four numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Price {
    /// Levels that the activations take, one after the other.
    pub(super) levels: usize,
    /// Bootstraps.
    pub(super) bootstraps: usize,
    /// CPU seconds.
    pub(super) cpu_seconds: f64,
    /// Wall seconds on two threads.
    pub(super) seconds: f64,
    /// Bytes at the peak, with all keys.
    pub(super) peak_bytes: u64,
}

/// Compiles the network and predicts; the same figures on every machine.
pub(super) fn price(graph: &PolyGraph) -> Result<Price> {
    let plan = crate::compile(graph, &Target::default())?;
    let bootstraps = compiler::summarise(plan.plan()).bootstraps;
    let pricing = Pricing::new(&Target::default())?;
    let mut levels = 0;
    for (_, p) in graph.polynomials() {
        levels += pricing.polynomial(p)?.levels;
    }
    let made = Prediction::new(&plan, Basis::shipped(), 2);
    Ok(Price {
        levels,
        bootstraps,
        cpu_seconds: made.cpu_seconds,
        seconds: made.seconds,
        peak_bytes: made.peak_bytes,
    })
}
