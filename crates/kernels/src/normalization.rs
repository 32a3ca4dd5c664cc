//! Batch normalisation: statistics, the affine map per channel, and the backward pass.

use crate::PART;
use crate::instructions::{fused, instructions, kernels};
use rayon::prelude::*;

/// Rows per part of a pass over `rows × channels`: at least one, independent of the number of threads.
pub(crate) fn rows_per_part(channels: usize) -> usize {
    (PART / channels.max(1)).max(1)
}

/// Mean and biased variance of every channel of `x` (`rows × channels`).
///
/// Sums are of x − first row, in f32 over eight rows and in f64 between them, so that a mean far from 0 does not cancel the variance.
pub fn batch_norm_statistics(channels: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    assert!(
        channels > 0 && !x.is_empty() && x.len().is_multiple_of(channels),
        "batch_norm_statistics: x is not rows × channels"
    );
    let instructions = instructions();
    let rows = x.len() / channels;
    let shift = &x[..channels];
    let parts: Vec<Vec<f64>> = x
        .par_chunks(rows_per_part(channels) * channels)
        .map(|x| moments(instructions, channels, shift, x))
        .collect();
    let total = sum_in_order(parts, 2 * channels);
    let n = rows as f64;
    let mean = (0..channels)
        .map(|c| (f64::from(shift[c]) + total[c] / n) as f32)
        .collect();
    let variance = (0..channels)
        .map(|c| (total[channels + c] / n - (total[c] / n).powi(2)).max(0.0) as f32)
        .collect();
    (mean, variance)
}

/// The parts' sums, added in the order of the parts.
pub(crate) fn sum_in_order(parts: Vec<Vec<f64>>, length: usize) -> Vec<f64> {
    let mut total = vec![0.0; length];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}

/// y = x·factor\[c\] + offset\[c\] on `rows × channels`.
pub fn channel_affine(channels: usize, x: &[f32], factor: &[f32], offset: &[f32], y: &mut [f32]) {
    assert!(
        factor.len() == channels && offset.len() == channels,
        "channel_affine: factor and offset have one element per channel"
    );
    assert!(
        x.len() == y.len() && x.len().is_multiple_of(channels.max(1)),
        "channel_affine: x and y are rows × channels"
    );
    if channels == 0 {
        return;
    }
    let part = rows_per_part(channels) * channels;
    let instructions = instructions();
    y.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(y, x)| affine(instructions, channels, x, factor, offset, y));
}

/// Where mean and deviation of a batch normalisation come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// From x, on which they depend: training mode.
    Batch,
    /// From elsewhere: constants.
    Fixed,
}

/// The backward pass of batch normalisation.
///
/// With x̂ = (x − mean)·inverse_deviation and y = scale·x̂ + bias: overwrites `dx`, adds to `dscale` (Σ dy·x̂) and `dbias` (Σ dy).
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of the formula; a struct would only rename them"
)]
pub fn batch_norm_backward(
    channels: usize,
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    inverse_deviation: &[f32],
    statistics: Statistics,
    scale: &[f32],
    dx: &mut [f32],
    dscale: &mut [f32],
    dbias: &mut [f32],
) {
    assert!(
        channels > 0 && !x.is_empty() && x.len().is_multiple_of(channels),
        "batch_norm_backward: x is not rows × channels"
    );
    assert!(
        dy.len() == x.len() && dx.len() == x.len(),
        "batch_norm_backward: x, dy and dx differ in length"
    );
    assert!(
        [
            mean.len(),
            inverse_deviation.len(),
            scale.len(),
            dscale.len(),
            dbias.len()
        ] == [channels; 5],
        "batch_norm_backward: the vectors have one element per channel"
    );
    let instructions = instructions();
    let part = rows_per_part(channels) * channels;
    let parts: Vec<Vec<f64>> = x
        .par_chunks(part)
        .zip(dy.par_chunks(part))
        .map(|(x, dy)| products(instructions, channels, x, dy, mean))
        .collect();
    let total = sum_in_order(parts, 2 * channels);
    // dx = scale·r·(dy − mean(dy) − x̂·mean(dy·x̂)) = dy·a + x·b + c with constants per channel; fixed ones have no means
    let share = match statistics {
        Statistics::Fixed => 0.0,
        Statistics::Batch => channels as f64 / x.len() as f64,
    };
    let mut constants = vec![0.0f32; 3 * channels];
    for c in 0..channels {
        let r = f64::from(inverse_deviation[c]);
        let a = f64::from(scale[c]) * r;
        let b = -a * r * r * total[channels + c] * share;
        constants[c] = a as f32;
        constants[channels + c] = b as f32;
        constants[2 * channels + c] = (-a * total[c] * share) as f32;
        dscale[c] += (total[channels + c] * r) as f32;
        dbias[c] += total[c] as f32;
    }
    let (a, rest) = constants.split_at(channels);
    let (b, offset) = rest.split_at(channels);
    dx.par_chunks_mut(part)
        .zip(x.par_chunks(part).zip(dy.par_chunks(part)))
        .for_each(|(dx, (x, dy))| {
            combination(instructions, channels, x, dy, mean, a, b, offset, dx)
        });
}

/// Rows whose sums are taken in f32 before they go to f64: a conversion per element would cost more than the sums.
const ROWS: usize = 8;

/// Sums per channel over all rows: `$add` adds element `$at` of channel `$c` to `$first` and `$second`.
macro_rules! sums_per_channel {
    ($channels:expr, $length:expr, |$at:ident, $c:ident, $first:ident, $second:ident| $add:block) => {{
        let channels: usize = $channels;
        let mut sums = vec![0.0f64; 2 * channels];
        let (one, two) = sums.split_at_mut(channels);
        let rows = $length / channels;
        for row in (0..rows - rows % ROWS).step_by(ROWS) {
            for $c in 0..channels {
                let (mut $first, mut $second) = (0.0f32, 0.0f32);
                for r in 0..ROWS {
                    let $at = (row + r) * channels + $c;
                    $add
                }
                one[$c] += f64::from($first);
                two[$c] += f64::from($second);
            }
        }
        for row in rows - rows % ROWS..rows {
            for $c in 0..channels {
                let (mut $first, mut $second) = (0.0f32, 0.0f32);
                let $at = row * channels + $c;
                $add
                one[$c] += f64::from($first);
                two[$c] += f64::from($second);
            }
        }
        sums
    }};
}

kernels! {
    /// Σ (x − shift) and Σ (x − shift)² per channel.
    fn moments<V>(channels: usize, shift: &[f32], x: &[f32]) -> Vec<f64> {
        let shift = &shift[..channels];
        sums_per_channel!(channels, x.len(), |at, c, sum, square| {
            let d = x[at] - shift[c];
            sum += d;
            square = fused::<V>(d, d, square);
        })
    }
}

kernels! {
    fn affine<V>(
        channels: usize,
        x: &[f32],
        factor: &[f32],
        offset: &[f32],
        y: &mut [f32],
    ) {
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for (y, ((&x, &factor), &offset)) in y.iter_mut().zip(x.iter().zip(factor).zip(offset))
            {
                *y = fused::<V>(x, factor, offset);
            }
        }
    }
}

kernels! {
    /// Σ dy and Σ dy·(x − mean) per channel.
    fn products<V>(channels: usize, x: &[f32], dy: &[f32], mean: &[f32]) -> Vec<f64> {
        let (dy, mean) = (&dy[..x.len()], &mean[..channels]);
        sums_per_channel!(channels, x.len(), |at, c, sum, product| {
            sum += dy[at];
            product = fused::<V>(dy[at], x[at] - mean[c], product);
        })
    }
}

kernels! {
    /// dx = dy·a + (x − mean)·b + offset.
    fn combination<V>(
        channels: usize,
        x: &[f32],
        dy: &[f32],
        mean: &[f32],
        a: &[f32],
        b: &[f32],
        offset: &[f32],
        dx: &mut [f32],
    ) {
        let n = channels;
        let (mean, a, b, offset) = (&mean[..n], &a[..n], &b[..n], &offset[..n]);
        for (dx, (x, dy)) in dx
            .chunks_exact_mut(n)
            .zip(x.chunks_exact(n).zip(dy.chunks_exact(n)))
        {
            for c in 0..n {
                dx[c] = fused::<V>(dy[c], a[c], fused::<V>(x[c] - mean[c], b[c], offset[c]));
            }
        }
    }
}
