//! Buffers that are used again: fresh pages cost more than most operators.

use std::collections::HashMap;

/// What a workspace lends: numbers, or only how many there would be ([`crate::memory`]).
pub(crate) trait Buffer {
    /// Of this length.
    fn new(length: usize) -> Self;
    fn length(&self) -> usize;
}

impl Buffer for Vec<f32> {
    fn new(length: usize) -> Self {
        vec![0.0; length]
    }

    fn length(&self) -> usize {
        self.len()
    }
}

/// Buffers that nobody needs at the moment, by length.
#[derive(Debug)]
pub(crate) struct Workspace<B = Vec<f32>> {
    lengths: HashMap<usize, Shelf<B>>,
    held: usize,
    most: usize,
}

#[derive(Debug)]
struct Shelf<B> {
    free: Vec<B>,
    /// Buffers that were taken and not given back.
    taken: usize,
}

impl<B> Default for Workspace<B> {
    fn default() -> Self {
        Self {
            lengths: HashMap::new(),
            held: 0,
            most: 0,
        }
    }
}

impl<B: Buffer> Workspace<B> {
    /// A buffer of this length with unspecified contents.
    pub(crate) fn take(&mut self, length: usize) -> B {
        let shelf = self.lengths.entry(length).or_insert_with(|| Shelf {
            free: Vec::new(),
            taken: 0,
        });
        shelf.taken += 1;
        shelf.free.pop().unwrap_or_else(|| {
            self.held += length;
            self.most = self.most.max(self.held);
            B::new(length)
        })
    }

    /// The most floats that there were at once in buffers made here.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Gives a buffer back. What comes from elsewhere (a batch of inputs) takes the place of one that was taken, or is dropped:
    /// otherwise a run would keep every batch it has seen.
    pub(crate) fn give(&mut self, v: B) {
        if let Some(shelf) = self.lengths.get_mut(&v.length())
            && shelf.taken > 0
        {
            shelf.taken -= 1;
            shelf.free.push(v);
        }
    }

    /// Frees what nobody needs at the moment, where other lengths are about to be needed.
    pub(crate) fn clear(&mut self) {
        for (length, shelf) in &mut self.lengths {
            self.held -= length * shelf.free.len();
            shelf.free = Vec::new();
        }
    }
}

impl Workspace {
    /// A copy.
    pub(crate) fn copy(&mut self, of: &[f32]) -> Vec<f32> {
        let mut v = self.take(of.len());
        v.copy_from_slice(of);
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_vectors_do_not_pile_up() {
        let mut w: Workspace = Workspace::default();
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

    #[test]
    fn what_is_cleared_is_no_longer_held() {
        let mut w: Workspace = Workspace::default();
        let (a, b) = (w.take(5), w.take(7));
        w.give(a);
        w.clear();
        let c = w.take(6);
        assert_eq!((w.held, w.most), (13, 13));
        w.give(b);
        w.give(c);
        w.clear();
        assert_eq!((w.held, w.most), (0, 13));
    }
}
