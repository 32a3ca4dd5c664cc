//! How long values are alive, and what they take meanwhile: the one place for verification, runs, schedules and estimates of memory.

use std::collections::{BTreeMap, BTreeSet};

/// Of the values of a sequence of steps, the last step that reads each: from then on its memory is free.
#[derive(Clone, Debug)]
pub struct Liveness<K>(BTreeMap<K, usize>);

impl<K: Copy + Ord> Liveness<K> {
    /// From what each step reads, in order; `kept` are alive for ever.
    pub fn new<R: IntoIterator<Item = K>>(
        steps: impl IntoIterator<Item = R>,
        kept: impl IntoIterator<Item = K>,
    ) -> Self {
        let mut last = BTreeMap::new();
        for (step, reads) in steps.into_iter().enumerate() {
            last.extend(reads.into_iter().map(|value| (value, step)));
        }
        last.extend(kept.into_iter().map(|value| (value, usize::MAX)));
        Self(last)
    }
    /// Whether something after this step needs the value.
    pub fn outlives(&self, value: K, step: usize) -> bool {
        self.0.get(&value).is_some_and(|&last| last > step)
    }
    /// Of the values that a step reads and makes, those that nothing after it needs.
    pub fn ending(&self, step: usize, values: impl IntoIterator<Item = K>) -> BTreeSet<K> {
        let ends = |&value: &K| !self.outlives(value, step);
        values.into_iter().filter(ends).collect()
    }
}

/// Bytes of what is alive.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resident {
    bytes: u64,
    peak: u64,
}

impl Resident {
    /// A value is made.
    pub fn hold(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
    /// A value ends.
    pub fn release(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }
    /// A step needs so much beside what is alive.
    pub fn work(&mut self, bytes: u64) {
        self.peak = self.peak.max(self.bytes + bytes);
    }
    /// Now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// The most that was alive and needed at once.
    pub fn peak(&self) -> u64 {
        self.peak
    }
}
