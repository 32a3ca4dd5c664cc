//! Ranges of values: extremes, and the loss that keeps values inside an interval.

use crate::PART;
use crate::instructions::{fused, instructions, kernels};
use rayon::prelude::*;

/// Elements that are compared side by side, whatever the vector.
const WIDE: usize = 64;

/// The smallest and the largest element; (NaN, NaN) if any element is NaN, (+∞, −∞) of nothing.
pub fn extremes(x: &[f32]) -> (f32, f32) {
    let instructions = instructions();
    let join = |a: (f32, f32), b: (f32, f32)| {
        if a.0.is_nan() || b.0.is_nan() {
            (f32::NAN, f32::NAN)
        } else {
            (a.0.min(b.0), a.1.max(b.1))
        }
    };
    x.par_chunks(PART)
        .map(|x| extremes_of(instructions, x))
        .reduce(|| (f32::INFINITY, f32::NEG_INFINITY), join)
}

kernels! {
    fn extremes_of<V>(x: &[f32]) -> (f32, f32) {
        let (mut lo, mut hi, mut nan) = (
            [f32::INFINITY; WIDE],
            [f32::NEG_INFINITY; WIDE],
            [0u32; WIDE],
        );
        let (whole, rest) = x.as_chunks::<WIDE>();
        let mut end = [0.0f32; WIDE];
        if let Some(&first) = rest.first() {
            // the end, filled up with one of its own elements
            end.fill(first);
            end[..rest.len()].copy_from_slice(rest);
        }
        for x in whole.iter().chain((!rest.is_empty()).then_some(&end)) {
            for i in 0..WIDE {
                lo[i] = if x[i] < lo[i] { x[i] } else { lo[i] };
                hi[i] = if x[i] > hi[i] { x[i] } else { hi[i] };
                nan[i] |= u32::from(x[i].is_nan());
            }
        }
        if nan.iter().any(|&n| n != 0) {
            return (f32::NAN, f32::NAN);
        }
        (
            lo.into_iter().fold(f32::INFINITY, f32::min),
            hi.into_iter().fold(f32::NEG_INFINITY, f32::max),
        )
    }
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
    let instructions = instructions();
    let centre = 0.5 * (interval.0 + interval.1);
    let inverse = 2.0 / (interval.1 - interval.0);
    let parts: Vec<f64> = dx
        .par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .map(|(dx, x)| {
            boundary(
                instructions,
                x,
                centre,
                inverse,
                edge,
                2.0 * weight * inverse,
                dx,
            )
        })
        .collect();
    parts.iter().sum::<f64>() * f64::from(weight)
}

kernels! {
    fn boundary<V>(
        x: &[f32],
        centre: f32,
        inverse: f32,
        edge: f32,
        factor: f32,
        dx: &mut [f32],
    ) -> f64 {
        let mut total = 0.0f64;
        let step = |dx: &mut f32, x: f32| {
            let d = (x - centre) * inverse;
            let u = d.abs() - edge;
            // a NaN is not inside either, but has no edge to be drawn to
            let u = if u > 0.0 { u } else { 0.0 };
            *dx = fused::<V>(factor, u.copysign(d), *dx);
            u
        };
        // f32 sums over short blocks, f64 between them
        for (dx, x) in dx.chunks_mut(16 * WIDE).zip(x.chunks(16 * WIDE)) {
            let mut sum = [0.0f32; WIDE];
            let (dx, dx_rest) = dx.as_chunks_mut::<WIDE>();
            let (x, x_rest) = x.as_chunks::<WIDE>();
            for (dx, x) in dx.iter_mut().zip(x) {
                for i in 0..WIDE {
                    let u = step(&mut dx[i], x[i]);
                    sum[i] = fused::<V>(u, u, sum[i]);
                }
            }
            for (i, (dx, &x)) in dx_rest.iter_mut().zip(x_rest).enumerate() {
                let u = step(dx, x);
                sum[i] = fused::<V>(u, u, sum[i]);
            }
            total += sum.iter().map(|&s| f64::from(s)).sum::<f64>();
        }
        total
    }
}
