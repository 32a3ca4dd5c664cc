//! What a run will cost, fixed before it starts.

use crate::placement::Placement;
use crate::verified::VerifiedPlan;
use crate::wire::container::short;
use ckks::CostTable;
use cost::{MachineCost, Ratios};
use serde::Serialize;

/// What a prediction rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Basis {
    /// Where the cost table comes from, for people.
    pub source: String,
    /// The costs, scaled by the probe where there was one.
    pub cost: MachineCost,
    /// By how much the probe scaled them; none without a probe.
    pub scaled: Option<Ratios>,
}

impl Basis {
    /// The shipped table, not scaled.
    pub fn shipped() -> Self {
        Self {
            source: "shipped".into(),
            cost: MachineCost::default(),
            scaled: None,
        }
    }
}

/// Time and memory of one run of one plan, from its first step to its last; nothing changes it once it is made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// First digits of the plan's digest.
    pub plan: String,
    /// Threads.
    pub threads: usize,
    /// Wall seconds.
    pub seconds: f64,
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// Largest resident size of the process that evaluates.
    pub peak_bytes: u64,
    /// Bytes that the run fetches from the system before its first step, once in a process.
    pub fresh_bytes: u64,
    /// CPU seconds of that, no part of `cpu_seconds`.
    pub fresh_cpu_seconds: f64,
    /// CPU seconds of each step.
    pub steps: Vec<f64>,
    /// What it rests on.
    pub basis: Basis,
}

impl Prediction {
    /// For a run of `plan` on `threads` quiet cores.
    pub fn new(plan: &VerifiedPlan, basis: Basis, threads: usize) -> Self {
        let steps = plan.predicted_steps(&basis.cost.on(threads));
        let cpu_seconds: f64 = steps.iter().sum();
        let more = plan.facts().more_on(threads);
        let fresh_bytes = plan.facts().buffer_bytes(None) + more;
        Self {
            plan: short(plan.digest()),
            threads,
            seconds: basis.cost.wall(cpu_seconds, threads),
            cpu_seconds,
            peak_bytes: plan.facts().peak_bytes + more,
            fresh_bytes,
            fresh_cpu_seconds: basis.cost.fresh(fresh_bytes),
            steps,
            basis,
        }
    }
    /// The same run with keys on disk: another peak, with what its threads add ([`PlanFacts::more_on`](crate::PlanFacts::more_on)), and the reads' time.
    #[must_use]
    pub fn with_keys_on_disk(mut self, placement: &Placement) -> Self {
        self.fresh_bytes = self.fresh_bytes + placement.peak_bytes - self.peak_bytes;
        self.fresh_cpu_seconds = self.basis.cost.fresh(self.fresh_bytes);
        self.peak_bytes = placement.peak_bytes;
        self.seconds += placement.seconds();
        self.cpu_seconds += placement.seconds();
        self
    }
    /// Wall seconds of each step.
    pub fn step_seconds(&self) -> Vec<f64> {
        self.steps
            .iter()
            .map(|&s| self.basis.cost.wall(s, self.threads))
            .collect()
    }
    /// CPU seconds of units of work at N = 2^16, as it was made with.
    pub fn table(&self) -> CostTable {
        self.basis.cost.on(self.threads)
    }
    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON")
    }
}
