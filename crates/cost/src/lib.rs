//! What one machine takes for the units of work that [`ckks::work`] counts: measured, fitted, scaled by a probe.
//!
//! [`machine`] predicts with a fitted table, [`workload`] holds the operations that a table is fitted to and the probe's loops. How work
//! is counted, and the formula of every operation, stay in [`ckks::work`], beside the evaluator that they describe.
//!
//! What this crate knows nothing of: plans, files, clocks (they are arguments).

pub mod machine;
pub mod workload;

pub use machine::{
    MachineCost, Observation, Ratios, Residual, Threading, Trust, fit, meter_version,
};
pub use workload::Probe;
