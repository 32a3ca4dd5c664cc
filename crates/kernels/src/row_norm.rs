//! Layer normalisation and root-mean-square normalisation: each row by its own statistics.
//!
//! With μ the row's mean (0 without centring), v the mean of (x − μ)² and r an inverse root of v + ε that the caller computes (so that it may be
//! any function of v): y = (x − μ)·r·scale + bias.

use crate::has_size;
use crate::instructions::{fused, instructions, kernels};
use crate::normalization::{rows_per_part, sum_in_order};
use rayon::prelude::*;

/// Sums that are taken side by side.
const WIDE: usize = 16;

/// What rows are normalised about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centre {
    /// Their means: layer normalisation.
    Mean,
    /// 0: by the root of the mean square.
    Zero,
}

/// Mean (0 about [`Centre::Zero`]) and mean square of x − mean of every row of `x` (`rows × channels`).
pub fn row_moments(
    channels: usize,
    x: &[f32],
    centre: Centre,
    mean: &mut [f32],
    variance: &mut [f32],
) {
    assert!(
        channels > 0 && has_size(x, &[mean.len(), channels]) && mean.len() == variance.len(),
        "row_moments: x is rows × channels, mean and variance have one element per row"
    );
    let instructions = instructions();
    let rows = rows_per_part(channels);
    mean.par_chunks_mut(rows)
        .zip(variance.par_chunks_mut(rows))
        .zip(x.par_chunks(rows * channels))
        .for_each(|((mean, variance), x)| {
            moments(
                instructions,
                channels,
                x,
                centre == Centre::Mean,
                mean,
                variance,
            );
        });
}

/// Σ of `f` over a row, in f32 side by side and in f64 at the end.
#[inline(always)]
fn sum(n: usize, mut f: impl FnMut(usize, f32) -> f32) -> f64 {
    let mut sums = [0.0f32; WIDE];
    for first in (0..n - n % WIDE).step_by(WIDE) {
        for (i, s) in sums.iter_mut().enumerate() {
            *s = f(first + i, *s);
        }
    }
    for c in n - n % WIDE..n {
        sums[c % WIDE] = f(c, sums[c % WIDE]);
    }
    sums.iter().map(|&s| f64::from(s)).sum()
}

kernels! {
    fn moments<V>(
        channels: usize,
        x: &[f32],
        centred: bool,
        mean: &mut [f32],
        variance: &mut [f32],
    ) {
        let n = channels;
        for ((x, mean), variance) in x
            .chunks_exact(n)
            .zip(mean.iter_mut())
            .zip(variance.iter_mut())
        {
            let m = if centred {
                (sum(n, |c, s| s + x[c]) / n as f64) as f32
            } else {
                0.0
            };
            *mean = m;
            *variance = (sum(n, |c, s| {
                let d = x[c] - m;
                fused::<V>(d, d, s)
            }) / n as f64) as f32;
        }
    }
}

/// y = (x − mean)·inverse·scale + bias, with mean and inverse per row, scale and bias per channel.
pub fn row_norm_forward(
    x: &[f32],
    mean: &[f32],
    inverse: &[f32],
    scale: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let channels = scale.len();
    assert!(
        channels > 0
            && x.len() == y.len()
            && has_size(x, &[mean.len(), channels])
            && inverse.len() == mean.len()
            && bias.is_none_or(|b| b.len() == channels),
        "row_norm_forward: x and y are rows × channels, mean and inverse of rows, scale and bias of channels"
    );
    let instructions = instructions();
    let rows = rows_per_part(channels);
    y.par_chunks_mut(rows * channels)
        .zip(x.par_chunks(rows * channels))
        .zip(mean.par_chunks(rows).zip(inverse.par_chunks(rows)))
        .for_each(|((y, x), (mean, inverse))| {
            forward(instructions, x, mean, inverse, scale, bias, y);
        });
}

kernels! {
    fn forward<V>(
        x: &[f32],
        mean: &[f32],
        inverse: &[f32],
        scale: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let n = scale.len();
        let rows = y.chunks_exact_mut(n).zip(x.chunks_exact(n));
        for ((y, x), (&m, &r)) in rows.zip(mean.iter().zip(inverse)) {
            match bias {
                None => {
                    for ((y, x), s) in y.iter_mut().zip(x).zip(scale) {
                        *y = (x - m) * r * s;
                    }
                }
                Some(b) => {
                    for ((y, x), (&s, &b)) in y.iter_mut().zip(x).zip(scale.iter().zip(b)) {
                        *y = fused::<V>((x - m) * r, s, b);
                    }
                }
            }
        }
    }
}

/// What a backward pass of [`row_norm_forward`] knows of its rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The rows' means; zeros without centring.
    pub mean: &'a [f32],
    /// What the forward pass multiplied with.
    pub inverse: &'a [f32],
    /// The derivative of `inverse` by the row's variance; −inverse³/2 for an inverse root.
    pub slope: &'a [f32],
    /// The derivative of further losses by the row's variance.
    pub extra: Option<&'a [f32]>,
    /// Whether the mean is the row's.
    pub centred: bool,
}

/// The backward pass of [`row_norm_forward`], in which mean, variance and inverse depend on x: overwrites `dx`, adds to `dscale` and `dbias`.
pub fn row_norm_backward(
    x: &[f32],
    dy: &[f32],
    rows: &Rows<'_>,
    scale: &[f32],
    dx: &mut [f32],
    dscale: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    let channels = scale.len();
    let count = rows.mean.len();
    assert!(
        channels > 0
            && has_size(x, &[count, channels])
            && dy.len() == x.len()
            && dx.len() == x.len()
            && rows.inverse.len() == count
            && rows.slope.len() == count
            && rows.extra.is_none_or(|e| e.len() == count)
            && dscale.len() == channels
            && dbias.as_ref().is_none_or(|b| b.len() == channels),
        "row_norm_backward: x, dy and dx are rows × channels, the rows' vectors of rows, scale and its gradient of channels"
    );
    let instructions = instructions();
    let part = rows_per_part(channels);
    let parts: Vec<Vec<f64>> = dx
        .par_chunks_mut(part * channels)
        .zip(x.par_chunks(part * channels))
        .zip(dy.par_chunks(part * channels))
        .enumerate()
        .map(|(i, ((dx, x), dy))| {
            let first = i * part;
            let of = |v: &'_ [f32]| first..(first + part).min(v.len());
            let rows = Rows {
                mean: &rows.mean[of(rows.mean)],
                inverse: &rows.inverse[of(rows.inverse)],
                slope: &rows.slope[of(rows.slope)],
                extra: rows.extra.map(|e| &e[of(e)]),
                centred: rows.centred,
            };
            backward(instructions, x, dy, rows, scale, dx)
        })
        .collect();
    let total = sum_in_order(parts, 2 * channels);
    let (s, b) = total.split_at(channels);
    dscale.iter_mut().zip(s).for_each(|(d, t)| *d += *t as f32);
    if let Some(dbias) = dbias {
        dbias.iter_mut().zip(b).for_each(|(d, t)| *d += *t as f32);
    }
}

/// Rows whose contributions to a channel's sum are added in f32.
const FEW: usize = 32;

kernels! {
    fn backward<V>(
        x: &[f32],
        dy: &[f32],
        rows: Rows<'_>,
        scale: &[f32],
        dx: &mut [f32],
    ) -> Vec<f64> {
        let n = scale.len();
        let scale = &scale[..n];
        let mut total = vec![0.0f64; 2 * n];
        let mut few = vec![0.0f32; 2 * n];
        let (few_scale, few_bias) = few.split_at_mut(n);
        for row in 0..rows.mean.len() {
            let (x, dy) = (&x[row * n..][..n], &dy[row * n..][..n]);
            let dx = &mut dx[row * n..][..n];
            let (m, r) = (rows.mean[row], rows.inverse[row]);
            let one = sum(n, |c, s| fused::<V>(dy[c], scale[c], s));
            let two = sum(n, |c, s| fused::<V>(dy[c] * scale[c], x[c] - m, s));
            let variance = two as f32 * rows.slope[row] + rows.extra.map_or(0.0, |e| e[row]);
            let along = 2.0 * variance / n as f32;
            let offset = if rows.centred {
                -r * (one / n as f64) as f32
            } else {
                0.0
            };
            for c in 0..n {
                let d = x[c] - m;
                dx[c] = fused::<V>(r * dy[c], scale[c], fused::<V>(along, d, offset));
                few_scale[c] = fused::<V>(dy[c] * r, d, few_scale[c]);
                few_bias[c] += dy[c];
            }
            if row % FEW == FEW - 1 || row + 1 == rows.mean.len() {
                let few = few_scale.iter_mut().chain(few_bias.iter_mut());
                for (t, f) in total.iter_mut().zip(few) {
                    *t += f64::from(*f);
                    *f = 0.0;
                }
            }
        }
        total
    }
}
