//! What a polynomial network costs under encryption, predicted by compiling it.

use crate::error::Result;
use compiler::{Pricing, Target};
use nn::PolyGraph;
use runtime::{Basis, Prediction, VerifiedPlan};
use train::search::Cost;

/// What a plan's run takes on so many threads.
pub(super) fn cost(plan: &VerifiedPlan, basis: Basis, threads: usize) -> Cost {
    let made = Prediction::new(plan, basis, threads);
    Cost {
        seconds: made.seconds,
        cpu_seconds: made.cpu_seconds,
        bootstraps: compiler::summarise(plan.plan()).bootstraps,
        bytes: made.peak_bytes,
    }
}

/// By the shipped cost table, on two threads: the same figures on every machine.
pub(super) fn price(graph: &PolyGraph) -> Result<Cost> {
    let plan = crate::compiled(graph, &Target::default())?;
    Ok(cost(&plan, Basis::shipped(), 2))
}

/// Levels that the activations take, one after the other.
pub(super) fn levels(graph: &PolyGraph) -> Result<usize> {
    let pricing = Pricing::new(&Target::default())?;
    let mut levels = 0;
    for (_, p) in graph.polynomials() {
        levels += pricing.polynomial(p)?.levels;
    }
    Ok(levels)
}
