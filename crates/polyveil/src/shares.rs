//! Where a run's time goes, by what steps do: predicted, and measured beside a reference loop.

use cost::workload::Reference;
use runtime::VerifiedPlan;
use runtime::machine::thread_cpu_seconds;
use serde::Serialize;
use std::collections::BTreeMap;

/// What steps of a kind take.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// What they do.
    pub what: &'static str,
    /// How many.
    pub steps: usize,
    /// CPU seconds of the run.
    pub cpu_seconds: Option<f64>,
    /// As predicted.
    pub predicted_cpu_seconds: f64,
}

/// What steps of each kind are predicted to take, in the order in which they come first.
pub(crate) fn shares(plan: &VerifiedPlan, predicted: &[f64]) -> Vec<Share> {
    let mut all: Vec<Share> = Vec::new();
    for (step, seconds) in plan.plan().steps.iter().zip(predicted) {
        let what = step.operation.doing();
        match all.iter_mut().find(|s| s.what == what) {
            Some(share) => {
                share.steps += 1;
                share.predicted_cpu_seconds += seconds;
            }
            None => all.push(Share {
                what,
                steps: 1,
                cpu_seconds: None,
                predicted_cpu_seconds: *seconds,
            }),
        }
    }
    all
}

/// Adds what a run's steps took: seconds by the clock and of all threads, by number.
pub(crate) fn add_measured(
    all: &mut [Share],
    plan: &VerifiedPlan,
    steps: &BTreeMap<usize, (f64, f64)>,
) {
    for (index, (_, cpu)) in steps {
        let what = plan.plan().steps[*index].operation.doing();
        if let Some(share) = all.iter_mut().find(|s| s.what == what) {
            *share.cpu_seconds.get_or_insert(0.0) += cpu;
        }
    }
}

/// The least of a few CPU times of the reference loop, milliseconds.
pub(crate) fn reference() -> f64 {
    let mut reference = Reference::default();
    let mut once = |_| {
        let start = thread_cpu_seconds();
        reference.run();
        thread_cpu_seconds() - start
    };
    1e3 * (0..200).map(&mut once).fold(f64::INFINITY, f64::min)
}
