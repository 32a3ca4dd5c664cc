//! What the error of an answer is stated to be, before anything is encrypted, where a plan's own bound says nothing.

use crate::error::Result;
use nn::{PolyGraph, Tensor};
use rayon::prelude::*;
use runtime::{Noise, VerifiedPlan};

/// Simulated runs on each input of calibration that the model brings along.
const RUNS: u64 = 2;
/// The stated error is the largest simulated one times this. With 2, one of ten measured prompts exceeded it by a quarter.
const SAFETY: f64 = 4.0;

/// What the error of a plan's logits is stated to be, before anything is encrypted.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Stated {
    /// The statement: `SAFETY` times the largest difference seen.
    pub error: f64,
    /// The largest difference of a logit in the simulations.
    largest: f64,
    /// The root mean square of all.
    deviation: f64,
    /// The largest difference of a logit without any noise: the part of it that is the plan's own.
    bias: f64,
    /// Simulated runs with errors.
    runs: usize,
}

/// Simulates runs on inputs of calibration ([`Noise`]) and compares with the network in f64: what is stated covers the steps' noise, and
/// what the plan computes otherwise than the network (the bootstraps' sine).
pub(super) fn stated(plan: &VerifiedPlan, graph: &PolyGraph, inputs: &[Tensor]) -> Result<Stated> {
    let noise = Noise::of(plan)?;
    let groups: Vec<&[Tensor]> = inputs.chunks(plan.plan().input.batch).collect();
    let all: Vec<(Vec<f64>, f64)> = (groups.par_iter().enumerate())
        .map(|(i, group)| {
            let (mut inputs, mut exact) = (Vec::new(), Vec::new());
            for x in *group {
                exact.push(graph.evaluate(x)?.output.into_values());
                inputs.extend_from_slice(x.values());
            }
            // a batch beyond the passages repeats them
            let differences = |noise| -> Result<Vec<f64>> {
                let answers = plan.simulate(&inputs, noise)?;
                let pairs = answers.chunks(exact[0].len()).zip(exact.iter().cycle());
                Ok(pairs
                    .flat_map(|(answer, exact)| answer.iter().zip(exact).map(|(a, b)| a - b))
                    .collect())
            };
            let quiet = differences(None)?;
            let bias = quiet.iter().fold(0.0f64, |m, d| m.max(d.abs()));
            let mut noisy = Vec::new();
            for run in 0..RUNS {
                noisy.extend(differences(Some((&noise, 1 + RUNS * i as u64 + run)))?);
            }
            Ok((noisy, bias))
        })
        .collect::<Result<_>>()?;
    let values = || all.iter().flat_map(|a| &a.0);
    let largest = values().fold(0.0f64, |m, d| m.max(d.abs()));
    let squares: f64 = values().map(|d| d * d).sum();
    let count = values().count();
    // a maximum passes NaN by
    if values().any(|d| !d.is_finite()) {
        return Err("simulated runs diverge: noise is larger than what the smallest divisors leave room for; train their intervals narrower, or let Power-Softmax add a larger ε".into());
    }
    Ok(Stated {
        error: SAFETY * largest,
        largest,
        deviation: (squares / count.max(1) as f64).sqrt(),
        bias: all.iter().fold(0.0, |m, a| m.max(a.1)),
        runs: all.len() * RUNS as usize,
    })
}

impl std::fmt::Display for Stated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "stated error of a logit: {:.2e}, {SAFETY} times the largest of {} simulated runs on inputs of calibration, whose root mean square is {:.2e}; without noise they differ from the network by {:.2e}",
            self.error, self.runs, self.deviation, self.bias
        )
    }
}
