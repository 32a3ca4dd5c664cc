//! Depthwise convolutions: one input channel per output channel, vectors along the channels.
//!
//! A picture is copied, a vector of channels at a time, into a zero-padded plane of `(row, column, lane)`. The input gradient of a
//! convolution of stride 1 is the convolution with the mirrored kernel; with a stride, the output gradient is spread over a plane with
//! zeros in between.

#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls into registers"
)]

use super::Convolution;
use crate::instructions::{Instructions, Vector, kernels};
use rayon::prelude::*;

/// Parts of the batch whose weight gradients are summed apart, whatever the number of threads.
const PARTS: usize = 16;
/// Taps of a weight gradient that are kept in registers at once.
const TAPS: usize = 8;

/// A plane that a picture's pixels are spread over, and the outputs that are computed from it.
#[derive(Clone, Copy)]
struct Plane {
    rows: usize,
    columns: usize,
    /// Where pixel (0, 0) goes.
    first: (isize, isize),
    /// Distance of neighbouring pixels.
    step: (usize, usize),
}

/// y = x ∗ w + bias.
pub(super) fn forward(
    instructions: Instructions,
    shape: &Convolution,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let plane = input_plane(shape);
    let taps = taps(shape, plane.columns);
    let picture = Picture {
        source: (shape.input.0, shape.input.1),
        plane,
        taps: &taps,
        w,
        bias,
        target: (shape.output.0, shape.output.1),
        stride: shape.stride,
        channels: shape.input.2,
    };
    picture.all(instructions, x, y);
}

/// dx = the gradient with respect to the input.
pub(super) fn backward_input(
    instructions: Instructions,
    shape: &Convolution,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) {
    let vertical = (shape.kernel.0 - 1) * shape.dilation.0;
    let horizontal = (shape.kernel.1 - 1) * shape.dilation.1;
    // dx[i] = Σ_k dy[(i + padding − k·dilation)/stride]·w[k]: in the plane, pixel o lies at o·stride + reach − padding
    let plane = Plane {
        rows: shape.input.0 + vertical,
        columns: shape.input.1 + horizontal,
        first: (
            vertical as isize - shape.padding.0 as isize,
            horizontal as isize - shape.padding.1 as isize,
        ),
        step: shape.stride,
    };
    let mirrored: Vec<f32> = w
        .chunks_exact(shape.input.2)
        .rev()
        .flatten()
        .copied()
        .collect();
    let taps = taps(shape, plane.columns);
    let picture = Picture {
        source: (shape.output.0, shape.output.1),
        plane,
        taps: &taps,
        w: &mirrored,
        bias: None,
        target: (shape.input.0, shape.input.1),
        stride: (1, 1),
        channels: shape.input.2,
    };
    picture.all(instructions, dy, dx);
}

/// dw += the gradient with respect to the weights.
pub(super) fn backward_weight(
    instructions: Instructions,
    shape: &Convolution,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let plane = input_plane(shape);
    let taps = taps(shape, plane.columns);
    let per_part = shape.batch.div_ceil(PARTS);
    let mut sums = vec![0.0f32; shape.batch.div_ceil(per_part) * dw.len()];
    sums.par_chunks_mut(dw.len())
        .zip(
            x.par_chunks(per_part * shape.input_size())
                .zip(dy.par_chunks(per_part * shape.output_size())),
        )
        .for_each_init(Vec::new, |scratch, (dw, (x, dy))| {
            for (x, dy) in x
                .chunks_exact(shape.input_size())
                .zip(dy.chunks_exact(shape.output_size()))
            {
                weights(instructions, shape, plane, &taps, scratch, x, dy, dw);
            }
        });
    for sum in sums.chunks_exact(dw.len()) {
        dw.iter_mut().zip(sum).for_each(|(d, s)| *d += s);
    }
}

fn input_plane(shape: &Convolution) -> Plane {
    let (rows, columns) = shape.reach();
    Plane {
        rows,
        columns,
        first: (shape.padding.0 as isize, shape.padding.1 as isize),
        step: (1, 1),
    }
}

/// The pixel of each tap in a plane, relative to the first.
fn taps(shape: &Convolution, columns: usize) -> Vec<usize> {
    (0..shape.kernel.0)
        .flat_map(|ky| {
            (0..shape.kernel.1)
                .map(move |kx| ky * shape.dilation.0 * columns + kx * shape.dilation.1)
        })
        .collect()
}

/// Copies `count` channels of a picture from `channel` on into a plane of `V::LANES` floats per pixel; what no pixel falls on is left.
///
/// # Safety
/// The machine has `V`'s instructions; `scratch` holds the plane.
#[inline(always)]
unsafe fn fill<V: Vector>(
    plane: Plane,
    (h, w): (usize, usize),
    channels: usize,
    channel: usize,
    x: &[f32],
    scratch: &mut [f32],
) {
    let count = (channels - channel).min(V::LANES);
    assert!(scratch.len() == plane.rows * plane.columns * V::LANES && x.len() == h * w * channels);
    for y in 0..h {
        let row = (y * plane.step.0) as isize + plane.first.0;
        if row < 0 || row >= plane.rows as isize {
            continue;
        }
        for column in 0..w {
            let to = (column * plane.step.1) as isize + plane.first.1;
            if to < 0 || to >= plane.columns as isize {
                continue;
            }
            // SAFETY: (row, to) is within the plane, (y, column) within the picture, and the channel has `count` successors
            unsafe {
                let from = x.as_ptr().add((y * w + column) * channels + channel);
                let value = if count == V::LANES {
                    V::load(from)
                } else {
                    V::load_part(from, count)
                };
                value.store(
                    scratch
                        .as_mut_ptr()
                        .add((row as usize * plane.columns + to as usize) * V::LANES),
                );
            }
        }
    }
}

/// A convolution of one picture.
#[derive(Clone, Copy)]
struct Picture<'a> {
    source: (usize, usize),
    plane: Plane,
    taps: &'a [usize],
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    target: (usize, usize),
    /// Of the target's pixels in the plane.
    stride: (usize, usize),
    channels: usize,
}

impl Picture<'_> {
    fn all(&self, instructions: Instructions, x: &[f32], y: &mut [f32]) {
        let (from, to) = (
            self.source.0 * self.source.1 * self.channels,
            self.target.0 * self.target.1 * self.channels,
        );
        y.par_chunks_mut(to)
            .zip(x.par_chunks(from))
            .for_each_init(Vec::new, |scratch, (y, x)| {
                whole(instructions, *self, scratch, x, y)
            });
    }
}

kernels! {
    fn whole<V>(picture: Picture<'_>, scratch: &mut Vec<f32>, x: &[f32], y: &mut [f32]) {
        let (plane, taps, channels) = (picture.plane, picture.taps, picture.channels);
        let (target, stride) = (picture.target, picture.stride);
        let pixels = plane.rows * plane.columns;
        scratch.resize(pixels * V::LANES, 0.0);
        // the taps' weights of these channels, a vector each, and the bias
        let mut kernel = vec![0.0f32; (taps.len() + 1) * V::LANES];
        let most = V::ROWS[0];
        let mut channel = 0;
        while channel < channels {
            let count = (channels - channel).min(V::LANES);
            // SAFETY: scratch was sized for the plane
            unsafe { fill::<V>(plane, picture.source, channels, channel, x, scratch) };
            for (kernel, w) in kernel
                .chunks_exact_mut(V::LANES)
                .zip(picture.w.chunks_exact(channels))
            {
                kernel[..count].copy_from_slice(&w[channel..][..count]);
            }
            if let Some(bias) = picture.bias {
                kernel[taps.len() * V::LANES..][..count].copy_from_slice(&bias[channel..][..count]);
            }
            for row in 0..target.0 {
                let mut column = 0;
                while column < target.1 {
                    let columns = crate::tile::rows_at(target.1, column, most);
                    let first = row * stride.0 * plane.columns + column * stride.1;
                    debug_assert!(
                        taps.iter()
                            .all(|tap| first + tap + (columns - 1) * stride.1 < pixels)
                    );
                    let to = (row * target.1 + column) * channels + channel;
                    assert!(to + (columns - 1) * channels + count <= y.len());
                    // SAFETY: the plane has every pixel that a target's pixel and a tap reach (it is sized by them; the first
                    // assertion says so), the kernel one vector per tap and one for the bias, y its pixels (the second)
                    unsafe {
                        let x = scratch.as_ptr().add(first * V::LANES);
                        let y = y.as_mut_ptr().add(to);
                        macro_rules! columns {
                            ($($p:literal)*) => {
                                match columns {
                                    $($p if $p <= V::ROWS[0] => pixels_of_row::<V, $p>(x, stride.1 * V::LANES, taps, kernel.as_ptr(), y, channels, count),)*
                                    _ => unreachable!("{columns} pixels at once"),
                                }
                            };
                        }
                        columns!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
                    }
                    column += columns;
                }
            }
            channel += count;
        }
    }
}

/// P neighbouring pixels of an output row, one vector of channels.
///
/// # Safety
/// The machine has `V`'s instructions; the pointers are valid for P pixels `step` floats apart at every tap, a vector per tap and one for
/// the bias, and P pixels `pitch` floats apart of `count` channels.
#[inline(always)]
unsafe fn pixels_of_row<V: Vector, const P: usize>(
    x: *const f32,
    step: usize,
    taps: &[usize],
    w: *const f32,
    y: *mut f32,
    pitch: usize,
    count: usize,
) {
    // SAFETY: the caller's contract
    unsafe {
        let mut acc = [V::load(w.add(taps.len() * V::LANES)); P];
        for (t, &tap) in taps.iter().enumerate() {
            let w = V::load(w.add(t * V::LANES));
            let x = x.add(tap * V::LANES);
            for p in 0..P {
                acc[p] = acc[p].add_product(V::load(x.add(p * step)), w);
            }
        }
        for p in 0..P {
            if count == V::LANES {
                acc[p].store(y.add(p * pitch));
            } else {
                acc[p].store_part(y.add(p * pitch), count);
            }
        }
    }
}

kernels! {
    /// The weight gradient of one picture.
    fn weights<V>(
        shape: &Convolution,
        plane: Plane,
        taps: &[usize],
        scratch: &mut Vec<f32>,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
    ) {
        let channels = shape.input.2;
        let pixels = plane.rows * plane.columns;
        let outputs = (shape.output.0, shape.output.1);
        // the plane of x, then the output gradient, both a vector of channels per pixel
        scratch.resize((pixels + outputs.0 * outputs.1) * V::LANES, 0.0);
        let (input, output) = scratch.split_at_mut(pixels * V::LANES);
        let whole = Plane {
            rows: outputs.0,
            columns: outputs.1,
            first: (0, 0),
            step: (1, 1),
        };
        let mut channel = 0;
        while channel < channels {
            let count = (channels - channel).min(V::LANES);
            // SAFETY: scratch was sized for both planes
            unsafe {
                fill::<V>(
                    plane,
                    (shape.input.0, shape.input.1),
                    channels,
                    channel,
                    x,
                    input,
                );
                fill::<V>(whole, outputs, channels, channel, dy, output);
            }
            for (part, taps) in taps.chunks(TAPS).enumerate() {
                debug_assert!(taps.iter().all(|tap| tap
                    + (outputs.0 - 1) * shape.stride.0 * plane.columns
                    + (outputs.1 - 1) * shape.stride.1
                    < pixels));
                macro_rules! taps {
                    ($($t:literal)*) => {
                        match taps.len() {
                            // SAFETY: the plane has every pixel that an output's pixel and a tap reach: the assertion above
                            $($t => unsafe { products::<V, $t>(input.as_ptr(), (shape.stride.0 * plane.columns, shape.stride.1), taps, output.as_ptr(), outputs, |t, sum| {
                                let dw = &mut dw[(part * TAPS + t) * channels + channel..][..count];
                                dw.iter_mut().zip(sum).for_each(|(d, s)| *d += s);
                            }) },)*
                            n => unreachable!("{n} taps at once"),
                        }
                    };
                }
                taps!(1 2 3 4 5 6 7 8);
            }
            channel += count;
        }
    }
}

/// Σ over output pixels of x\[pixel + tap\]·dy\[pixel\] for T taps.
///
/// # Safety
/// The machine has `V`'s instructions; x has every pixel that an output's pixel and a tap reach, dy every output's pixel.
#[inline(always)]
unsafe fn products<V: Vector, const T: usize>(
    x: *const f32,
    stride: (usize, usize),
    taps: &[usize],
    dy: *const f32,
    outputs: (usize, usize),
    mut add: impl FnMut(usize, &[f32]),
) {
    // SAFETY: the caller's contract
    unsafe {
        let mut acc = [V::splat(0.0); T];
        let mut offset = [0usize; T];
        for t in 0..T {
            offset[t] = taps[t] * V::LANES;
        }
        for row in 0..outputs.0 {
            let mut x = x.add(row * stride.0 * V::LANES);
            let mut dy = dy.add(row * outputs.1 * V::LANES);
            for _ in 0..outputs.1 {
                let d = V::load(dy);
                for t in 0..T {
                    acc[t] = acc[t].add_product(V::load(x.wrapping_add(offset[t])), d);
                }
                x = x.wrapping_add(stride.1 * V::LANES);
                dy = dy.wrapping_add(V::LANES);
            }
        }
        let mut sum = [0.0f32; 16];
        for (t, acc) in acc.iter().enumerate() {
            acc.store(sum.as_mut_ptr());
            add(t, &sum[..V::LANES]);
        }
    }
}
