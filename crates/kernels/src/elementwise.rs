//! Sums of whole slices.

use crate::PART;
use rayon::prelude::*;

/// y += a·x.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "axpy: x and y differ in length");
    y.par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .for_each(|(y, x)| {
            for (y, x) in y.iter_mut().zip(x) {
                *y += a * x;
            }
        });
}

/// out = x + y.
pub fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    assert!(
        x.len() == out.len() && y.len() == out.len(),
        "add: x, y and out differ in length"
    );
    out.par_chunks_mut(PART)
        .zip(x.par_chunks(PART).zip(y.par_chunks(PART)))
        .for_each(|(out, (x, y))| {
            for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
                *out = x + y;
            }
        });
}
