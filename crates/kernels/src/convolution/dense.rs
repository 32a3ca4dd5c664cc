//! Dense convolutions and their input gradients, by register tiles over a padded, transposed copy of each picture.
//!
//! A picture is copied into `(row, channel, phase, column)` order with its zero padding: the pixels of a tile are then contiguous for
//! every tap and channel. A phase is a column modulo the stride, so that this holds for strided convolutions as well. The input
//! gradient of a strided convolution falls into one convolution of stride 1 per phase of the input, each with some of the taps.

use super::Convolution;
use crate::instructions::{Instructions, kernels};
use crate::tile::{Start, Tile, packed_size, rows_at, sizes, vectors_at};
use rayon::prelude::*;

/// How a picture is copied.
struct Packing {
    /// Height, width, channels of the picture.
    picture: (usize, usize, usize),
    rows: usize,
    /// Columns per phase.
    width: usize,
    phases: usize,
    top: usize,
    left: usize,
}

impl Packing {
    fn pitch(&self) -> usize {
        self.phases * self.width
    }

    fn row(&self) -> usize {
        self.picture.2 * self.pitch()
    }

    /// Copies the picture; what no pixel falls on is left as it is.
    fn copy(&self, x: &[f32], out: &mut [f32]) {
        let (h, w, c) = self.picture;
        let pitch = self.pitch();
        for (y, x) in x
            .chunks_exact(w * c)
            .enumerate()
            .take(h.min(self.rows.saturating_sub(self.top)))
        {
            let out = &mut out[(y + self.top) * self.row()..][..self.row()];
            for phase in 0..self.phases {
                // the picture's columns of this phase: the first, where it goes, and how many fit
                let column = (phase + self.phases - self.left % self.phases) % self.phases;
                let index = (column + self.left) / self.phases;
                if column >= w || index >= self.width {
                    continue;
                }
                let count = (w - column).div_ceil(self.phases).min(self.width - index);
                transpose(
                    &x[column * c..],
                    self.phases * c,
                    (count, c),
                    &mut out[phase * self.width + index..],
                    pitch,
                );
            }
        }
    }
}

/// out\[channel\]\[pixel\] = x\[pixel\]\[channel\], with the distances between pixels of x and between channels of out.
fn transpose(
    x: &[f32],
    step: usize,
    (pixels, channels): (usize, usize),
    out: &mut [f32],
    pitch: usize,
) {
    let (whole_pixels, whole_channels) = (pixels - pixels % 4, channels - channels % 4);
    for pixel in (0..whole_pixels).step_by(4) {
        let rows: [&[f32]; 4] = std::array::from_fn(|i| &x[(pixel + i) * step..][..channels]);
        for channel in (0..whole_channels).step_by(4) {
            let mut block = [[0.0f32; 4]; 4];
            for (block, row) in block.iter_mut().zip(rows) {
                block.copy_from_slice(&row[channel..][..4]);
            }
            for i in 0..4 {
                let column = [block[0][i], block[1][i], block[2][i], block[3][i]];
                out[(channel + i) * pitch + pixel..][..4].copy_from_slice(&column);
            }
        }
    }
    for channel in 0..channels {
        let first = if channel < whole_channels {
            whole_pixels
        } else {
            0
        };
        for pixel in first..pixels {
            out[channel * pitch + pixel] = x[pixel * step + channel];
        }
    }
}

/// A convolution of stride 1 over a packed picture.
struct Pass {
    /// Where each tap of the output's first pixel lies in the packed picture.
    taps: Vec<usize>,
    /// Which tap of the weights each of them is.
    kernel: Vec<usize>,
    rows: usize,
    columns: usize,
    /// First pixel, and the distances between rows and pixels in the output.
    output: usize,
    output_row: usize,
    output_pixel: usize,
}

/// Packed weights and geometry of one call.
struct Plan<'a> {
    packing: Packing,
    /// From one row of an output to the next in the packed picture.
    row_step: usize,
    passes: Vec<(Pass, Vec<f32>)>,
    groups: usize,
    inputs: usize,
    outputs: usize,
    bias: Option<&'a [f32]>,
    output_size: usize,
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
    let (cin, cout) = (shape.input.2, shape.output.2);
    let (gin, gout) = (cin / shape.groups, cout / shape.groups);
    let (rows, columns) = shape.reach();
    let packing = Packing {
        picture: shape.input,
        rows,
        width: columns.div_ceil(shape.stride.1),
        phases: shape.stride.1,
        top: shape.padding.0,
        left: shape.padding.1,
    };
    let mut taps = vec![];
    for ky in 0..shape.kernel.0 {
        for kx in 0..shape.kernel.1 {
            let column = kx * shape.dilation.1;
            taps.push(
                ky * shape.dilation.0 * packing.row()
                    + column % shape.stride.1 * packing.width
                    + column / shape.stride.1,
            );
        }
    }
    let kernel = (0..taps.len()).collect();
    let pass = Pass {
        taps,
        kernel,
        rows: shape.output.0,
        columns: shape.output.1,
        output: 0,
        output_row: shape.output.1 * cout,
        output_pixel: cout,
    };
    let lanes = sizes(instructions).0;
    let packed = pack(
        lanes,
        &pass,
        shape.groups,
        gin,
        gout,
        |tap, g, i| Weights {
            first: (tap * gin + i) * cout + g * gout,
            step: 1,
        },
        w,
    );
    let row_step = shape.stride.0 * packing.row();
    let plan = Plan {
        packing,
        row_step,
        passes: vec![(pass, packed)],
        groups: shape.groups,
        inputs: gin,
        outputs: gout,
        bias,
        output_size: shape.output_size(),
    };
    plan.run(instructions, x, shape.input_size(), y);
}

/// dx = the gradient with respect to the input.
pub(super) fn backward_input(
    instructions: Instructions,
    shape: &Convolution,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
) {
    let (cin, cout) = (shape.input.2, shape.output.2);
    let (gin, gout) = (cin / shape.groups, cout / shape.groups);
    let (sy, sx) = shape.stride;
    // input row r·s + phase meets output row r + offset under tap k, where phase + padding − k·dilation = s·offset
    let offset = |phase: usize, padding: usize, k: usize, dilation: usize, s: usize| {
        let at = (phase + padding) as isize - (k * dilation) as isize;
        (at.rem_euclid(s as isize) == 0).then(|| at.div_euclid(s as isize))
    };
    let along = |size: usize, s: usize, padding: usize, kernel: usize, dilation: usize| {
        // per phase: how many pixels, and which taps at which offsets; over all: padding before, and the packed size
        let phases: Vec<(usize, Vec<(usize, isize)>)> = (0..s.min(size))
            .map(|phase| {
                (
                    (size - phase).div_ceil(s),
                    (0..kernel)
                        .filter_map(|k| Some((k, offset(phase, padding, k, dilation, s)?)))
                        .collect(),
                )
            })
            .collect();
        let before = phases
            .iter()
            .flat_map(|(_, taps)| taps)
            .map(|&(_, o)| -o)
            .max()
            .unwrap_or(0)
            .max(0);
        let length = phases
            .iter()
            .flat_map(|(n, taps)| taps.iter().map(move |&(_, o)| *n as isize + o + before))
            .max()
            .unwrap_or(1)
            .max(1);
        (phases, before as usize, length as usize)
    };
    let (vertical, top, rows) = along(
        shape.input.0,
        sy,
        shape.padding.0,
        shape.kernel.0,
        shape.dilation.0,
    );
    let (horizontal, left, width) = along(
        shape.input.1,
        sx,
        shape.padding.1,
        shape.kernel.1,
        shape.dilation.1,
    );
    let packing = Packing {
        picture: shape.output,
        rows,
        width,
        phases: 1,
        top,
        left,
    };
    let lanes = sizes(instructions).0;
    let mut passes = vec![];
    for (fy, (rows, vertical)) in vertical.iter().enumerate() {
        for (fx, (columns, horizontal)) in horizontal.iter().enumerate() {
            let (mut taps, mut kernel) = (vec![], vec![]);
            for &(ky, oy) in vertical {
                for &(kx, ox) in horizontal {
                    taps.push(
                        (oy + top as isize) as usize * packing.row()
                            + (ox + left as isize) as usize,
                    );
                    kernel.push(ky * shape.kernel.1 + kx);
                }
            }
            let output_row = sy * shape.input.1 * cin;
            let pass = Pass {
                taps,
                kernel,
                rows: *rows,
                columns: *columns,
                output: (fy * shape.input.1 + fx) * cin,
                output_row,
                output_pixel: sx * cin,
            };
            let packed = pack(
                lanes,
                &pass,
                shape.groups,
                gout,
                gin,
                |tap, g, i| Weights {
                    first: tap * gin * cout + g * gout + i,
                    step: cout,
                },
                w,
            );
            passes.push((pass, packed));
        }
    }
    let row_step = packing.row();
    let plan = Plan {
        packing,
        row_step,
        passes,
        groups: shape.groups,
        inputs: gout,
        outputs: gin,
        bias: None,
        output_size: shape.input_size(),
    };
    plan.run(instructions, dy, shape.output_size(), dx);
}

/// Where the weights of one tap, group and input channel lie, by output channel.
struct Weights {
    first: usize,
    step: usize,
}

/// Weights in the order of the tiles: group, block of output channels, tap, input channel, output channel.
fn pack(
    lanes: usize,
    pass: &Pass,
    groups: usize,
    inputs: usize,
    outputs: usize,
    at: impl Fn(usize, usize, usize) -> Weights,
    w: &[f32],
) -> Vec<f32> {
    let mut packed =
        Vec::with_capacity(groups * packed_size(outputs, pass.taps.len() * inputs, lanes));
    for g in 0..groups {
        let mut o = 0;
        while o < outputs {
            let block = vectors_at(outputs, o, lanes) * lanes;
            let real = block.min(outputs - o);
            for &tap in &pass.kernel {
                for i in 0..inputs {
                    let from = at(tap, g, i);
                    let w = &w[from.first + o * from.step..];
                    if from.step == 1 {
                        packed.extend_from_slice(&w[..real]);
                    } else {
                        packed.extend(w.iter().step_by(from.step).take(real));
                    }
                    packed.extend(std::iter::repeat_n(0.0, block - real));
                }
            }
            o += block;
        }
    }
    packed
}

impl Plan<'_> {
    fn run(&self, instructions: Instructions, x: &[f32], picture: usize, y: &mut [f32]) {
        // the widest tile may read beyond the last pixel of a row, never beyond the last row's channels: see `Picture`
        let size = self.packing.rows * self.packing.row();
        y.par_chunks_mut(self.output_size)
            .zip(x.par_chunks(picture))
            .for_each_init(
                || vec![0.0f32; size],
                |packed, (y, x)| {
                    self.packing.copy(x, packed);
                    passes(instructions, self, packed, y);
                },
            );
    }
}

kernels! {
    /// All passes over one packed picture.
    fn passes<V>(plan: &Plan<'_>, packed: &[f32], y: &mut [f32]) {
        let mut bias = [0.0f32; 64];
        for (pass, weights) in &plan.passes {
            let mut w = 0;
            for g in 0..plan.groups {
                let mut o = 0;
                while o < plan.outputs {
                    let vectors = vectors_at(plan.outputs, o, V::LANES);
                    let columns = (vectors * V::LANES).min(plan.outputs - o);
                    let mut start = Start::Zero;
                    if let Some(b) = plan.bias {
                        bias[..columns].copy_from_slice(&b[g * plan.outputs + o..][..columns]);
                        start = Start::Bias(bias.as_ptr());
                    }
                    for row in 0..pass.rows {
                        let mut column = 0;
                        while column < pass.columns {
                            let rows = rows_at(pass.columns, column, V::ROWS[vectors - 1]);
                            let from = row * plan.row_step
                                + g * plan.inputs * plan.packing.pitch()
                                + column;
                            let to = pass.output
                                + row * pass.output_row
                                + column * pass.output_pixel
                                + g * plan.outputs
                                + o;
                            // the last float that the tile reads and writes, by its formula
                            debug_assert!(pass.taps.iter().all(|tap| from
                                + tap
                                + (plan.inputs - 1) * plan.packing.pitch()
                                + rows
                                <= packed.len()));
                            debug_assert!(to + (rows - 1) * pass.output_pixel + columns <= y.len());
                            // SAFETY: the packed picture has every row and column that the taps of the output's pixels reach
                            // (`Packing` is sized by them), the packed weights follow the tiles' order, and the output's pixels
                            // lie within y (`Convolution::check`); the two assertions above say so for this tile
                            unsafe {
                                let tile = Tile {
                                    x: packed.as_ptr().add(from),
                                    taps: &pass.taps,
                                    channels: plan.inputs,
                                    pitch: plan.packing.pitch(),
                                    w: weights.as_ptr().add(w),
                                    start,
                                    y: y.as_mut_ptr().add(to),
                                    y_pitch: pass.output_pixel,
                                    columns,
                                };
                                tile.run::<V>(rows, vectors);
                            }
                            column += rows;
                        }
                    }
                    w += vectors * V::LANES * pass.taps.len() * plan.inputs;
                    o += columns;
                }
            }
        }
    }
}
