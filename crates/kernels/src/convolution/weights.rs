//! Weight gradients of dense convolutions: blocks of (input values × output channels) stay in registers over a whole picture.
//!
//! A picture is copied with its zero padding, in its own order. Where taps of a kernel's row are neighbours, the inputs of all of
//! them are contiguous for one output pixel, and so are their weights: a *run*.

#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls into registers"
)]

use super::Convolution;
use crate::instructions::{Instructions, Vector, kernels};
use crate::tile::{rows_at, vectors_at};
use rayon::prelude::*;

/// Contiguous inputs of an output pixel and their weights.
#[derive(Clone, Copy)]
struct Run {
    /// In the padded picture, for output pixel 0.
    input: usize,
    /// First row (of c_out floats) of the weights.
    weight: usize,
    length: usize,
}

/// A weight gradient is summed in at most this many parts of the batch, whatever the number of threads.
const PARTS: usize = 16;
/// Parts' sums take no more floats than this together, or one gradient.
const PARTS_SIZE: usize = 1 << 21;

/// dw += the gradient with respect to the weights.
pub(super) fn backward_weight(
    instructions: Instructions,
    shape: &Convolution,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let gin = shape.input.2 / shape.groups;
    let padded = shape.reach();
    let row = padded.1 * shape.input.2;
    let mut runs = vec![];
    for ky in 0..shape.kernel.0 {
        let first = ky * shape.dilation.0 * row;
        if shape.groups == 1 && shape.dilation.1 == 1 {
            runs.push(Run {
                input: first,
                weight: ky * shape.kernel.1 * gin,
                length: shape.kernel.1 * gin,
            });
            continue;
        }
        for kx in 0..shape.kernel.1 {
            runs.push(Run {
                input: first + kx * shape.dilation.1 * shape.input.2,
                weight: (ky * shape.kernel.1 + kx) * gin,
                length: gin,
            });
        }
    }
    let parts = (PARTS_SIZE / dw.len().max(1))
        .clamp(1, PARTS)
        .min(shape.batch);
    let per_part = shape.batch.div_ceil(parts);
    // a task is a part of the batch and, where parts are few, some of the runs
    let tasks_per_part = if parts >= PARTS.min(shape.batch) {
        1
    } else {
        runs.len()
    };
    let runs_per_task = runs.len().div_ceil(tasks_per_part);
    let stripe = runs_per_task * runs[0].length * shape.output.2;
    let parts = shape.batch.div_ceil(per_part);
    let mut sums = vec![0.0f32; parts * dw.len()];
    let stripes = dw.len().div_ceil(stripe);
    sums.par_chunks_mut(dw.len())
        .enumerate()
        .flat_map(|(part, sum)| {
            sum.par_chunks_mut(stripe)
                .enumerate()
                .map(move |(s, sum)| (part, s, sum))
        })
        .for_each_init(
            || vec![0.0f32; padded.0 * row],
            |scratch, (part, s, sum)| {
                debug_assert!(s < stripes);
                let runs = &runs[s * runs_per_task..((s + 1) * runs_per_task).min(runs.len())];
                for n in part * per_part..((part + 1) * per_part).min(shape.batch) {
                    pad(shape, padded, shape.picture(n, x), scratch);
                    let dy = &dy[n * shape.output_size()..][..shape.output_size()];
                    picture(instructions, shape, row, runs, scratch, dy, sum);
                }
            },
        );
    dw.par_chunks_mut(1 << 12).enumerate().for_each(|(i, dw)| {
        let first = i << 12;
        for part in 0..parts {
            let sum = &sums[part * (sums.len() / parts) + first..][..dw.len()];
            dw.iter_mut().zip(sum).for_each(|(d, s)| *d += s);
        }
    });
}

/// Copies a picture into the padded one; the border is zero already and stays so.
fn pad(shape: &Convolution, padded: (usize, usize), x: &[f32], out: &mut [f32]) {
    let (h, w, c) = shape.input;
    let (top, left) = shape.padding;
    let columns = w.min(padded.1.saturating_sub(left)) * c;
    for y in 0..h.min(padded.0.saturating_sub(top)) {
        out[((y + top) * padded.1 + left) * c..][..columns]
            .copy_from_slice(&x[y * w * c..][..columns]);
    }
}

kernels! {
    /// The gradient of some runs over one padded picture; `dw` begins at the first run's weights.
    fn picture<V>(
        shape: &Convolution,
        row: usize,
        runs: &[Run],
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
    ) {
        let (gin, gout) = (shape.input.2 / shape.groups, shape.output.2 / shape.groups);
        for g in 0..shape.groups {
            for &Run {
                input,
                weight,
                length,
            } in runs
            {
                let mut o = 0;
                while o < gout {
                    let vectors = vectors_at(gout, o, V::LANES);
                    let columns = (vectors * V::LANES).min(gout - o);
                    let mut first = 0;
                    while first < length {
                        let rows = rows_at(length, first, V::ROWS[vectors - 1]);
                        let from = input + g * gin + first;
                        let to = (weight - runs[0].weight + first) * shape.output.2 + g * gout + o;
                        debug_assert!(
                            from + (shape.output.0 - 1) * shape.stride.0 * row
                                + (shape.output.1 - 1) * shape.stride.1 * shape.input.2
                                + rows
                                <= x.len()
                        );
                        debug_assert!(to + (rows - 1) * shape.output.2 + columns <= dw.len());
                        // SAFETY: the padded picture has every pixel that the taps of the output's pixels reach, dy every output
                        // pixel (`Convolution::check`), and dw the rows of the runs; the assertions above say so for this block
                        unsafe {
                            let block = Block {
                                x: x.as_ptr().add(from),
                                x_row: shape.stride.0 * row,
                                x_pixel: shape.stride.1 * shape.input.2,
                                dy: dy.as_ptr().add(g * gout + o),
                                size: (shape.output.0, shape.output.1),
                                dw: dw.as_mut_ptr().add(to),
                                pitch: shape.output.2,
                                columns,
                            };
                            block.run::<V>(rows, vectors);
                        }
                        first += rows;
                    }
                    o += columns;
                }
            }
        }
    }
}

/// dw\[row\]\[column\] += Σ over pixels of x\[pixel + row\]·dy\[pixel\]\[column\].
struct Block {
    x: *const f32,
    x_row: usize,
    x_pixel: usize,
    dy: *const f32,
    size: (usize, usize),
    dw: *mut f32,
    /// From one pixel of dy, or row of dw, to the next.
    pitch: usize,
    columns: usize,
}

impl Block {
    /// # Safety
    /// The machine has `V`'s instructions; the pointers are valid for what the formula touches; `1 ≤ rows ≤ V::ROWS[vectors − 1]`.
    #[inline(always)]
    unsafe fn run<V: Vector>(&self, rows: usize, vectors: usize) {
        macro_rules! rows {
            ($n:literal $whole:literal: $($p:literal)*) => {
                match rows {
                    // SAFETY: the caller's contract
                    $($p if $p <= V::ROWS[$n - 1] => unsafe { self.fixed::<V, $p, $n, $whole>() },)*
                    _ => unreachable!("a block of {rows} rows"),
                }
            };
        }
        // whole or not is decided here and not in the loops: the compiler would keep two sets of accumulators
        match (vectors, self.columns == vectors * V::LANES) {
            (1, true) => rows!(1 true: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            (1, false) => rows!(1 false: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            (_, true) => rows!(2 true: 1 2 3 4 5 6 7 8 9 10 11 12),
            (_, false) => rows!(2 false: 1 2 3 4 5 6 7 8 9 10 11 12),
        }
    }

    #[inline(always)]
    unsafe fn fixed<V: Vector, const P: usize, const N: usize, const WHOLE: bool>(&self) {
        let last = self.columns - (N - 1) * V::LANES;
        // SAFETY: the caller's contract: every pointer below is one that the formula names
        unsafe {
            let mut acc = [[V::splat(0.0); N]; P];
            for y in 0..self.size.0 {
                let mut x = self.x.add(y * self.x_row);
                let mut dy = self.dy.add(y * self.size.1 * self.pitch);
                for _ in 0..self.size.1 {
                    let mut column = [V::splat(0.0); N];
                    for n in 0..N {
                        let dy = dy.add(n * V::LANES);
                        column[n] = if n + 1 < N || WHOLE {
                            V::load(dy)
                        } else {
                            V::load_part(dy, last)
                        };
                    }
                    for p in 0..P {
                        let value = V::splat(*x.add(p));
                        for n in 0..N {
                            acc[p][n] = acc[p][n].add_product(value, column[n]);
                        }
                    }
                    x = x.wrapping_add(self.x_pixel);
                    dy = dy.wrapping_add(self.pitch);
                }
            }
            let one = V::splat(1.0);
            for p in 0..P {
                for n in 0..N {
                    let dw = self.dw.add(p * self.pitch + n * V::LANES);
                    if n + 1 < N || WHOLE {
                        V::load(dw).add_product(one, acc[p][n]).store(dw);
                    } else {
                        V::load_part(dw, last)
                            .add_product(one, acc[p][n])
                            .store_part(dw, last);
                    }
                }
            }
        }
    }
}
