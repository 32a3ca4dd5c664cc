//! Batch normalisation: statistics, the affine map per channel, and the backward pass.

use crate::PART;
use rayon::prelude::*;

/// Rows per part of a pass over `rows × channels`: at least one, independent of the number of threads.
pub(crate) fn rows_per_part(channels: usize) -> usize {
    (PART / channels.max(1)).max(1)
}

/// Mean and biased variance of every channel of `x` (`rows × channels`).
///
/// Sums are of x − first row, in f64 between parts, so that a mean far from 0 does not cancel the variance.
pub fn batch_norm_statistics(channels: usize, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    assert!(
        channels > 0 && !x.is_empty() && x.len().is_multiple_of(channels),
        "batch_norm_statistics: x is not rows × channels"
    );
    let rows = x.len() / channels;
    let shift = &x[..channels];
    let parts: Vec<Vec<f64>> = x
        .par_chunks(rows_per_part(channels) * channels)
        .map(|part| {
            let mut sums = vec![0.0f64; 2 * channels];
            let (sum, square) = sums.split_at_mut(channels);
            for row in part.chunks_exact(channels) {
                for c in 0..channels {
                    let d = f64::from(row[c] - shift[c]);
                    sum[c] += d;
                    square[c] += d * d;
                }
            }
            sums
        })
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
    y.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                for c in 0..channels {
                    y[c] = x[c] * factor[c] + offset[c];
                }
            }
        });
}

/// The backward pass of batch normalisation in training mode, where mean and deviation depend on x.
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
    let part = rows_per_part(channels) * channels;
    let parts: Vec<Vec<f64>> = x
        .par_chunks(part)
        .zip(dy.par_chunks(part))
        .map(|(x, dy)| {
            let mut sums = vec![0.0f64; 2 * channels];
            let (bias, product) = sums.split_at_mut(channels);
            for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact(channels)) {
                for c in 0..channels {
                    bias[c] += f64::from(dy[c]);
                    product[c] += f64::from(dy[c] * (x[c] - mean[c]));
                }
            }
            sums
        })
        .collect();
    let total = sum_in_order(parts, 2 * channels);
    // dx = scale·r·(dy − mean(dy) − x̂·mean(dy·x̂)) = dy·a + x·b + c with constants per channel
    let n = (x.len() / channels) as f64;
    let mut constants = vec![0.0f32; 3 * channels];
    for c in 0..channels {
        let r = f64::from(inverse_deviation[c]);
        let a = f64::from(scale[c]) * r;
        let b = -a * r * r * total[channels + c] / n;
        constants[c] = a as f32;
        constants[channels + c] = b as f32;
        constants[2 * channels + c] = (-a * total[c] / n) as f32;
        dscale[c] += (total[channels + c] * r) as f32;
        dbias[c] += total[c] as f32;
    }
    let (a, rest) = constants.split_at(channels);
    let (b, offset) = rest.split_at(channels);
    dx.par_chunks_mut(part)
        .zip(x.par_chunks(part).zip(dy.par_chunks(part)))
        .for_each(|(dx, (x, dy))| {
            for (dx, (x, dy)) in dx
                .chunks_exact_mut(channels)
                .zip(x.chunks_exact(channels).zip(dy.chunks_exact(channels)))
            {
                for c in 0..channels {
                    dx[c] = dy[c] * a[c] + (x[c] - mean[c]) * b[c] + offset[c];
                }
            }
        });
}
