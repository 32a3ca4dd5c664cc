//! Buffers that are used again: fresh pages cost more than most operators.

use std::collections::HashMap;

/// Vectors that nobody needs at the moment, by length.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    lengths: HashMap<usize, Shelf>,
    made: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    free: Vec<Vec<f32>>,
    /// Vectors that were taken and not given back.
    taken: usize,
}

impl Workspace {
    /// A vector of this length with unspecified contents.
    pub(crate) fn take(&mut self, length: usize) -> Vec<f32> {
        let shelf = self.lengths.entry(length).or_default();
        shelf.taken += 1;
        shelf.free.pop().unwrap_or_else(|| {
            self.made += length;
            vec![0.0; length]
        })
    }

    /// Floats of all vectors that were made here; none is freed.
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// A copy.
    pub(crate) fn copy(&mut self, of: &[f32]) -> Vec<f32> {
        let mut v = self.take(of.len());
        v.copy_from_slice(of);
        v
    }

    /// Gives a vector back. What comes from elsewhere (a batch of inputs) takes the place of one that was taken, or is dropped:
    /// otherwise a run would keep every batch it has seen.
    pub(crate) fn give(&mut self, v: Vec<f32>) {
        if let Some(shelf) = self.lengths.get_mut(&v.len())
            && shelf.taken > 0
        {
            shelf.taken -= 1;
            shelf.free.push(v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_vectors_do_not_pile_up() {
        let mut w = Workspace::default();
        for _ in 0..10 {
            w.give(vec![0.0; 3]);
            w.give(vec![0.0; 5]);
            let v = w.take(5);
            w.give(v);
        }
        let kept: usize = w.lengths.values().map(|s| s.free.len()).sum();
        assert_eq!(kept, 1);
        // what is taken anew is given back as often
        let (a, b) = (w.take(5), w.take(5));
        w.give(a);
        w.give(b);
        assert_eq!(w.lengths[&5].free.len(), 2);
    }
}
