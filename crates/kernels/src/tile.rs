//! The inner loop of dense convolutions and matrix products: a few rows times one or two vectors of columns, kept in registers.

#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls into registers"
)]

use crate::instructions::{Vector, kernels};

/// What the accumulators of a tile start from.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    /// One vector's worth of floats per vector of columns, padded.
    Bias(*const f32),
    /// What the output holds.
    Output,
}

/// y\[row\]\[column\] = start + Σ over taps t and channels c of x\[t + c·pitch + row\]·w\[t\]\[c\]\[column\].
///
/// The rows of one channel are contiguous, so that a row is a constant displacement; `w` is packed in the order of the loop, N·LANES
/// columns each.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    pub(crate) x: *const f32,
    pub(crate) taps: &'a [usize],
    pub(crate) channels: usize,
    pub(crate) pitch: usize,
    pub(crate) w: *const f32,
    pub(crate) start: Start,
    pub(crate) y: *mut f32,
    /// From one row of y to the next.
    pub(crate) y_pitch: usize,
    /// Columns that are stored, at most N·LANES.
    pub(crate) columns: usize,
}

impl Tile<'_> {
    /// # Safety
    /// The machine has `V`'s instructions; x, w and y are valid for what the formula touches; `1 ≤ rows ≤ V::ROWS[vectors − 1]`.
    #[inline(always)]
    pub(crate) unsafe fn run<V: Vector>(&self, rows: usize, vectors: usize) {
        macro_rules! rows {
            ($n:literal: $($p:literal)*) => {
                match rows {
                    // SAFETY: the caller's contract
                    $($p if $p <= V::ROWS[$n - 1] => unsafe { self.fixed::<V, $p, $n>() },)*
                    _ => unreachable!("a tile of {rows} rows"),
                }
            };
        }
        if vectors == 1 {
            rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        } else {
            rows!(2: 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }

    #[inline(always)]
    unsafe fn fixed<V: Vector, const P: usize, const N: usize>(&self) {
        let last = self.columns - (N - 1) * V::LANES;
        // SAFETY: the caller's contract: every pointer below is one that the formula names
        unsafe {
            let mut acc = [[V::splat(0.0); N]; P];
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    for p in 0..P {
                        for n in 0..N {
                            acc[p][n] = V::load(bias.add(n * V::LANES));
                        }
                    }
                }
                Start::Output => {
                    for p in 0..P {
                        for n in 0..N {
                            let y = self.y.add(p * self.y_pitch + n * V::LANES);
                            acc[p][n] = if n + 1 < N || last == V::LANES {
                                V::load(y)
                            } else {
                                V::load_part(y, last)
                            };
                        }
                    }
                }
            }
            let mut w = self.w;
            for &tap in self.taps {
                let mut x = self.x.add(tap);
                for _ in 0..self.channels {
                    let mut column = [V::splat(0.0); N];
                    for n in 0..N {
                        column[n] = V::load(w.add(n * V::LANES));
                    }
                    for p in 0..P {
                        let value = V::splat(*x.add(p));
                        for n in 0..N {
                            acc[p][n] = acc[p][n].add_product(value, column[n]);
                        }
                    }
                    x = x.wrapping_add(self.pitch);
                    w = w.add(N * V::LANES);
                }
            }
            for p in 0..P {
                for n in 0..N {
                    let y = self.y.add(p * self.y_pitch + n * V::LANES);
                    if n + 1 < N || last == V::LANES {
                        acc[p][n].store(y);
                    } else {
                        acc[p][n].store_part(y, last);
                    }
                }
            }
        }
    }
}

kernels! {
    /// Lanes of the vector, and rows of a tile of two.
    pub(crate) fn sizes<V>() -> (usize, usize) {
        (V::LANES, V::ROWS[1])
    }
}

/// The vectors per tile for `columns` output columns from `at` on: two where more than one vector is left.
#[inline(always)]
pub(crate) fn vectors_at(columns: usize, at: usize, lanes: usize) -> usize {
    if columns - at > lanes { 2 } else { 1 }
}

/// Rows of the tile at `at` of `total`: tiles as equal as they can be, none above `most`.
#[inline(always)]
pub(crate) fn rows_at(total: usize, at: usize, most: usize) -> usize {
    let left = total - at;
    left.div_ceil(left.div_ceil(most))
}

/// Floats of packed weights for `columns` columns and `depth` products each.
pub(crate) fn packed_size(columns: usize, depth: usize, lanes: usize) -> usize {
    columns.div_ceil(lanes) * lanes * depth
}
