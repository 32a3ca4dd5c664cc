//! Rotary position embedding: pairs of channels turned by an angle that grows with the position.
//!
//! Reference: Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding* (arXiv 2104.09864).

use crate::has_size;
use crate::instructions::{fused, instructions, kernels};
use crate::normalization::rows_per_part;
use rayon::prelude::*;

/// Which channels of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1.
    Adjacent,
    /// i and i + half of the turned channels.
    Halves,
}

/// Which way channels are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turning {
    /// By the angles.
    Forwards,
    /// Back by them, which is also the backward pass.
    Backwards,
}

/// Rotations of the first channels of every head; the others stay.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// Heads side by side in a row.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Which channels form a pair.
    pub pairs: Pairs,
    /// The angles' cosines, `positions × pairs`; row i of x is at position i modulo the number of positions.
    pub cosine: &'a [f32],
    /// Their sines.
    pub sine: &'a [f32],
    /// Positions of the tables.
    pub positions: usize,
}

impl Rotary<'_> {
    /// Turns every row of x (`rows × heads·width`) into y.
    pub fn turn(&self, x: &[f32], turning: Turning, y: &mut [f32]) {
        let channels = self.heads.saturating_mul(self.width);
        let pairs = self.cosine.len() / self.positions.max(1);
        assert!(
            channels > 0
                && self.positions > 0
                && x.len() == y.len()
                && x.len().is_multiple_of(channels)
                && has_size(self.cosine, &[pairs, self.positions])
                && self.sine.len() == self.cosine.len()
                && pairs <= self.width / 2,
            "Rotary: x and y are rows × heads·width, the tables positions × pairs"
        );
        let rows = rows_per_part(channels);
        let instructions = instructions();
        y.par_chunks_mut(rows * channels)
            .zip(x.par_chunks(rows * channels))
            .enumerate()
            .for_each(|(i, (y, x))| {
                turned(
                    instructions,
                    self,
                    i * rows,
                    pairs,
                    match turning {
                        Turning::Forwards => 1.0,
                        Turning::Backwards => -1.0,
                    },
                    x,
                    y,
                );
            });
    }
}

kernels! {
    fn turned<V>(
        rotary: &Rotary<'_>,
        first: usize,
        pairs: usize,
        sign: f32,
        x: &[f32],
        y: &mut [f32],
    ) {
        let Rotary {
            heads,
            width,
            pairs: order,
            cosine,
            sine,
            positions,
        } = *rotary;
        let p = pairs;
        let rows = y.chunks_exact_mut(heads * width);
        for (row, (y, x)) in rows.zip(x.chunks_exact(heads * width)).enumerate() {
            let at = (first + row) % positions * p;
            let (cosine, sine) = (&cosine[at..][..p], &sine[at..][..p]);
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                match order {
                    Pairs::Adjacent => {
                        for i in 0..p {
                            let (a, b, c, s) = (x[2 * i], x[2 * i + 1], cosine[i], sign * sine[i]);
                            y[2 * i] = fused::<V>(a, c, -b * s);
                            y[2 * i + 1] = fused::<V>(a, s, b * c);
                        }
                    }
                    Pairs::Halves => {
                        for i in 0..p {
                            let (a, b, c, s) = (x[i], x[p + i], cosine[i], sign * sine[i]);
                            y[i] = fused::<V>(a, c, -b * s);
                            y[p + i] = fused::<V>(a, s, b * c);
                        }
                    }
                }
                y[2 * p..].copy_from_slice(&x[2 * p..]);
            }
        }
    }
}
