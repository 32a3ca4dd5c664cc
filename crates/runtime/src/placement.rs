//! Where a run keeps the evaluation keys: all in memory, or some there and the others in their file, read each time they are used.
//!
//! Which keys stay is fixed before the run. Every bootstrap uses the same keys in the same order, and on such a cycle a cache of
//! the keys last used never hits until it holds the whole cycle; keeping the keys that are used most saves a read at each use.

use crate::facts::PlanFacts;
use ckks::keys::KeyName;
use serde::Serialize;
use std::collections::BTreeSet;

/// Bytes of a key file per second, as assumed for predictions: reading, checksum and unpacking on one core, with the file in the
/// system's cache or on a disk that is as fast.
pub const READ_RATE: f64 = 1.1e9;

/// A run's keys, some of them on disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placement {
    /// Keys that stay in memory; the others are read each time they are used.
    pub kept: BTreeSet<KeyName>,
    /// Predicted peak memory of the server's process.
    pub peak_bytes: u64,
    /// Keys read while the plan is carried out.
    pub reads: u64,
    /// Bytes of these reads.
    pub read_bytes: u64,
}

impl Placement {
    /// Seconds that the reads add, wall and CPU, at [`READ_RATE`].
    pub fn seconds(&self) -> f64 {
        self.read_bytes as f64 / READ_RATE
    }
}

impl PlanFacts {
    /// Bytes of buffers that a run takes, keys among them: what it fetches from the system once.
    pub fn buffer_bytes(&self, placement: Option<&Placement>) -> u64 {
        let peak = placement.map_or(self.peak_bytes, |p| p.peak_bytes);
        peak - self.peak_without_keys + self.working_bytes
    }
    /// Bytes that a run on so many threads may take beyond what is predicted, which counts a few threads on every machine, so that plans do not
    /// depend on it.
    pub fn more_on(&self, threads: usize) -> u64 {
        let counted = threads.min(self.most_limbs);
        self.thread_bytes * counted.saturating_sub(ckks::memory::THREADS) as u64
    }
    /// Keys on disk, but for those that are worth most and fit into `most` bytes of predicted peak. Where even none fits, the peak
    /// is above `most`: it is the smallest that there is.
    pub fn keys_on_disk(&self, most: u64) -> Placement {
        let times = |name| self.key_use.times.get(name).copied().unwrap_or(0);
        let names = self.keys.0.keys();
        let mut ranked: Vec<(&KeyName, u64)> = names.map(|name| (name, times(name))).collect();
        ranked.sort_by_key(|&(name, times)| (std::cmp::Reverse(times), *name));
        let mut kept = BTreeSet::new();
        let mut in_memory = 0;
        for &(name, _) in &ranked {
            let bytes = self.key_sizes[name].memory;
            kept.insert(*name);
            if self.peak_without_keys + in_memory + bytes + self.passing(&kept) <= most {
                in_memory += bytes;
            } else {
                kept.remove(name);
            }
        }
        ranked.retain(|r| !kept.contains(r.0));
        let bytes = |(name, times): &(&KeyName, u64)| times * self.key_sizes[name].file;
        Placement {
            peak_bytes: self.peak_without_keys + in_memory + self.passing(&kept),
            reads: ranked.iter().map(|r| r.1).sum(),
            read_bytes: ranked.iter().map(bytes).sum(),
            kept,
        }
    }
    /// The most bytes of keys that an operation holds beside those that stay.
    fn passing(&self, kept: &BTreeSet<KeyName>) -> u64 {
        let bytes = |name: &KeyName| {
            if kept.contains(name) {
                0
            } else {
                self.key_sizes[name].memory
            }
        };
        let together = self.key_use.together.iter();
        together
            .map(|names| names.iter().map(bytes).sum())
            .chain(self.keys.0.keys().map(bytes))
            .max()
            .unwrap_or(0)
    }
}
