//! Buffers that are used again: fresh pages cost more than most operators.

use std::collections::HashMap;

/// Vectors that nobody needs at the moment, by length.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    free: HashMap<usize, Vec<Vec<f32>>>,
    made: usize,
}

impl Workspace {
    /// A vector of this length with unspecified contents.
    pub(crate) fn take(&mut self, length: usize) -> Vec<f32> {
        if let Some(v) = self.free.get_mut(&length).and_then(Vec::pop) {
            return v;
        }
        self.made += length;
        vec![0.0; length]
    }

    /// Floats of all vectors that were made here; none is freed.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// A vector of zeros.
    pub(crate) fn zeros(&mut self, length: usize) -> Vec<f32> {
        let mut v = self.take(length);
        v.fill(0.0);
        v
    }

    /// A copy.
    pub(crate) fn copy(&mut self, of: &[f32]) -> Vec<f32> {
        let mut v = self.take(of.len());
        v.copy_from_slice(of);
        v
    }

    /// Gives a vector back.
    pub(crate) fn give(&mut self, v: Vec<f32>) {
        if !v.is_empty() {
            self.free.entry(v.len()).or_default().push(v);
        }
    }
}
