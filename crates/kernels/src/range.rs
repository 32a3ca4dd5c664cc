//! Ranges of values: extremes, and the loss that keeps values inside an interval.

use crate::PART;
use rayon::prelude::*;

/// The smallest and the largest element; (NaN, NaN) if any element is NaN, (+∞, −∞) of nothing.
pub fn extremes(x: &[f32]) -> (f32, f32) {
    let fold = |part: &[f32]| {
        let (mut lo, mut hi, mut nan) = (f32::INFINITY, f32::NEG_INFINITY, false);
        for &v in part {
            lo = lo.min(v);
            hi = hi.max(v);
            nan |= v.is_nan();
        }
        if nan { (f32::NAN, f32::NAN) } else { (lo, hi) }
    };
    let join = |a: (f32, f32), b: (f32, f32)| {
        if a.0.is_nan() || b.0.is_nan() {
            (f32::NAN, f32::NAN)
        } else {
            (a.0.min(b.0), a.1.max(b.1))
        }
    };
    x.par_chunks(PART)
        .map(fold)
        .reduce(|| (f32::INFINITY, f32::NEG_INFINITY), join)
}

/// The loss on elements near or beyond the edge of an interval; answers Σ weight·u² over u > 0 and adds its gradient to `dx`.
///
/// With h the half width and c the centre of the interval, u = |x − c|/h − edge.
pub fn boundary_loss(
    x: &[f32],
    interval: (f32, f32),
    edge: f32,
    weight: f32,
    dx: &mut [f32],
) -> f64 {
    assert_eq!(
        x.len(),
        dx.len(),
        "boundary_loss: x and dx differ in length"
    );
    let centre = 0.5 * (interval.0 + interval.1);
    let inverse = 2.0 / (interval.1 - interval.0);
    let factor = 2.0 * weight * inverse;
    let parts: Vec<f64> = dx
        .par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .map(|(dx, x)| {
            let mut sum = 0.0f64;
            for (dx, &x) in dx.iter_mut().zip(x) {
                let d = (x - centre) * inverse;
                let u = d.abs() - edge;
                if u > 0.0 {
                    sum += f64::from(u * u);
                    *dx += (factor * u).copysign(d * factor);
                }
            }
            sum
        })
        .collect();
    parts.iter().sum::<f64>() * f64::from(weight)
}
