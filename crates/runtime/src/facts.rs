//! What verification finds out of a plan.

use crate::Register;
use ckks::Cost;
use ckks::keys::{KeyName, KeyRequest, KeyUse};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one step.
#[derive(Clone, Debug)]
pub struct StepFacts {
    /// Its cost.
    pub cost: Cost,
    /// Highest level of its operands.
    pub level_in: usize,
    /// Lowest level of its results.
    pub level_out: usize,
    /// Bound on the error of its results, plan units.
    pub error_bound: f64,
    /// Bytes that what is alive after it takes in a checkpoint.
    pub stored: u64,
    /// Registers that nobody reads after it.
    pub released: BTreeSet<Register>,
}

/// Bytes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySize {
    /// In memory.
    pub memory: u64,
    /// In the key file.
    pub file: u64,
}

/// What verification finds out. Which keys a run may leave on disk, and what that saves: [`placement`](crate::placement).
#[derive(Clone, Debug)]
pub struct PlanFacts {
    /// Evaluation keys that it needs.
    pub keys: KeyRequest,
    /// The bytes of each of them.
    pub key_sizes: BTreeMap<KeyName, KeySize>,
    /// How the steps use them.
    pub key_use: KeyUse,
    /// One for each step.
    pub steps: Vec<StepFacts>,
    /// Cost of all steps.
    pub total: Cost,
    /// Number of bootstraps.
    pub bootstraps: u64,
    /// Bytes of the evaluation keys' file.
    pub key_file_bytes: u64,
    /// Predicted peak memory of the server's process, all keys in memory, on two threads at most: see [`PlanFacts::more_on`].
    pub peak_bytes: u64,
    /// The same without any key.
    pub peak_without_keys: u64,
    /// The part of it that steps take in buffers: ciphertexts and encoded diagonals.
    pub working_bytes: u64,
    /// The most that a map takes on each thread.
    pub thread_bytes: u64,
    /// Of the primes, which maps share out among threads.
    pub most_limbs: usize,
    /// Bound on the error that encryption adds to the plan's exact answer, network units.
    pub output_error: f64,
    /// Bound on the difference between the plan's exact answer and the network's, network units: the plan has its folded weights in single
    /// precision.
    pub output_weights: f64,
    /// Bound on the magnitude of the output, network units, as calibration promises it.
    pub output_magnitude: f64,
}
