//! Softmax of rows, and its logarithm.

use crate::attention::largest;
use crate::function::exp;
use crate::has_size;
use crate::instructions::{instructions, kernels};
use crate::normalization::rows_per_part;
use rayon::prelude::*;

/// What a softmax gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Softmax {
    /// e^x over the row's sum of them.
    Shares,
    /// Their logarithms.
    Logarithms,
}

/// y = the softmax of each row of `channels`.
pub fn softmax_forward(kind: Softmax, channels: usize, x: &[f32], y: &mut [f32]) {
    assert!(
        channels > 0 && x.len() == y.len() && x.len().is_multiple_of(channels),
        "softmax_forward: x and y are rows × channels"
    );
    let part = rows_per_part(channels) * channels;
    let instructions = instructions();
    y.par_chunks_mut(part)
        .zip(x.par_chunks(part))
        .for_each(|(y, x)| forward(instructions, kind, channels, x, y));
}

/// The gradient of [`softmax_forward`] from what it gave; overwrites dx.
pub fn softmax_backward(kind: Softmax, channels: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(
        channels > 0
            && y.len().is_multiple_of(channels)
            && has_size(dy, &[y.len()])
            && has_size(dx, &[y.len()]),
        "softmax_backward: y, dy and dx are rows × channels"
    );
    let part = rows_per_part(channels) * channels;
    let instructions = instructions();
    dx.par_chunks_mut(part)
        .zip(y.par_chunks(part).zip(dy.par_chunks(part)))
        .for_each(|(dx, (y, dy))| backward(instructions, kind, channels, y, dy, dx));
}

kernels! {
    fn forward<V>(kind: Softmax, channels: usize, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            let most = largest(x, f32::NEG_INFINITY, |v| v);
            for (y, x) in y.iter_mut().zip(x) {
                *y = exp::<V>(x - most);
            }
            let sum: f64 = y.iter().map(|&v| f64::from(v)).sum();
            match kind {
                Softmax::Shares => {
                    let factor = (1.0 / sum) as f32;
                    y.iter_mut().for_each(|y| *y *= factor);
                }
                Softmax::Logarithms => {
                    let shift = (f64::from(most) + sum.ln()) as f32;
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = x - shift);
                }
            }
        }
    }
}

kernels! {
    fn backward<V>(kind: Softmax, channels: usize, y: &[f32], dy: &[f32], dx: &mut [f32]) {
        let rows = y.chunks_exact(channels).zip(dy.chunks_exact(channels));
        for (dx, (y, dy)) in dx.chunks_exact_mut(channels).zip(rows) {
            match kind {
                // y·(dy − Σ dy·y)
                Softmax::Shares => {
                    let products = y.iter().zip(dy).map(|(y, d)| f64::from(y * d));
                    let mean = products.sum::<f64>() as f32;
                    for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                        *dx = y * (dy - mean);
                    }
                }
                // dy − e^y·Σ dy, where y is at most 0 but for rounding
                Softmax::Logarithms => {
                    let sum = dy.iter().map(|&d| f64::from(d)).sum::<f64>() as f32;
                    for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                        *dx = dy - exp::<V>(y.min(0.0)) * sum;
                    }
                }
            }
        }
    }
}
