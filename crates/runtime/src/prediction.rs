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
pub struct Prediction {
    /// First digits of the plan's digest.
    plan: String,
    threads: usize,
    seconds: f64,
    cpu_seconds: f64,
    peak_bytes: u64,
    /// Memory that is fetched from the system before the first step.
    fresh_bytes: u64,
    fresh_cpu_seconds: f64,
    /// CPU seconds by step.
    steps: Vec<f64>,
    basis: Basis,
}

impl Prediction {
    /// For a run of `plan` on `threads` quiet cores.
    pub fn new(plan: &VerifiedPlan, basis: Basis, threads: usize) -> Self {
        let steps = plan.predicted_steps(&basis.cost.on(threads));
        let cpu_seconds: f64 = steps.iter().sum();
        let fresh_bytes = plan.facts().buffer_bytes(None);
        Self {
            plan: short(plan.digest()),
            threads,
            seconds: basis.cost.wall(cpu_seconds, threads),
            cpu_seconds,
            peak_bytes: plan.facts().peak_bytes,
            fresh_bytes,
            fresh_cpu_seconds: basis.cost.fresh(fresh_bytes),
            steps,
            basis,
        }
    }
    /// The same run with keys on disk: another peak, and the reads' time.
    #[must_use]
    pub fn with_keys_on_disk(mut self, placement: &Placement) -> Self {
        self.fresh_bytes = self.fresh_bytes + placement.peak_bytes - self.peak_bytes;
        self.fresh_cpu_seconds = self.basis.cost.fresh(self.fresh_bytes);
        self.peak_bytes = placement.peak_bytes;
        self.seconds += placement.seconds();
        self.cpu_seconds += placement.seconds();
        self
    }
    /// Threads.
    pub fn threads(&self) -> usize {
        self.threads
    }
    /// Wall seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
    /// CPU seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_seconds
    }
    /// Largest resident size of the process that evaluates.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }
    /// Bytes that the run fetches from the system before its first step, and the CPU seconds of that: once in a process, and no
    /// part of [`Prediction::cpu_seconds`].
    pub fn fresh(&self) -> (u64, f64) {
        (self.fresh_bytes, self.fresh_cpu_seconds)
    }
    /// CPU seconds of each step.
    pub fn steps(&self) -> &[f64] {
        &self.steps
    }
    /// Wall seconds of each step.
    pub fn step_seconds(&self) -> Vec<f64> {
        self.steps
            .iter()
            .map(|&s| self.basis.cost.wall(s, self.threads))
            .collect()
    }
    /// What it rests on.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }
    /// CPU seconds of units of work, as it was made with.
    pub fn table(&self) -> CostTable {
        self.basis.cost.on(self.threads)
    }
    /// One JSON object.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data is always JSON")
    }
}
