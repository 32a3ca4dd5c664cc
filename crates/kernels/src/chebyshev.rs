//! Chebyshev series on an interval, elementwise.

use crate::PART;
use rayon::prelude::*;

/// y = Σ c_k·T_k(t) with t = (2x − lo − hi)/(hi − lo); nothing is clamped.
pub fn chebyshev_forward(coefficients: &[f32], interval: (f32, f32), x: &[f32], y: &mut [f32]) {
    assert_eq!(
        x.len(),
        y.len(),
        "chebyshev_forward: x and y differ in length"
    );
    let (a, b) = to_unit(interval);
    y.par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .for_each(|(y, x)| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = clenshaw(coefficients, a * x + b);
            }
        });
}

/// dx = dy·p′(x) (overwrites dx), and to `dcoefficients` adds Σ dy·T_k(t), in f64 between parts.
pub fn chebyshev_backward(
    coefficients: &[f32],
    interval: (f32, f32),
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dcoefficients: Option<&mut [f64]>,
) {
    assert!(
        x.len() == dx.len() && dy.len() == dx.len(),
        "chebyshev_backward: x, dy and dx differ in length"
    );
    let (a, b) = to_unit(interval);
    let slope = derivative_series(coefficients, a);
    dx.par_chunks_mut(PART)
        .zip(x.par_chunks(PART).zip(dy.par_chunks(PART)))
        .for_each(|(dx, (x, dy))| {
            for (dx, (&x, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)) {
                *dx = dy * clenshaw(&slope, a * x + b);
            }
        });
    let Some(dcoefficients) = dcoefficients else {
        return;
    };
    assert_eq!(
        dcoefficients.len(),
        coefficients.len(),
        "chebyshev_backward: dcoefficients has one element per coefficient"
    );
    let parts: Vec<Vec<f64>> = x
        .par_chunks(PART)
        .zip(dy.par_chunks(PART))
        .map(|(x, dy)| {
            let mut sums = vec![0.0f64; coefficients.len()];
            for (&x, &dy) in x.iter().zip(dy) {
                let t = a * x + b;
                let (mut t0, mut t1) = (1.0f32, t);
                for sum in &mut sums {
                    *sum += f64::from(dy * t0);
                    (t0, t1) = (t1, 2.0 * t * t1 - t0);
                }
            }
            sums
        })
        .collect();
    for part in parts {
        dcoefficients
            .iter_mut()
            .zip(part)
            .for_each(|(d, p)| *d += p);
    }
}

/// t = a·x + b maps the interval onto [−1, 1].
fn to_unit((lo, hi): (f32, f32)) -> (f32, f32) {
    let (lo, hi) = (f64::from(lo), f64::from(hi));
    ((2.0 / (hi - lo)) as f32, (-(lo + hi) / (hi - lo)) as f32)
}

/// The series of dp/dx, one coefficient shorter, computed in f64.
fn derivative_series(coefficients: &[f32], a: f32) -> Vec<f32> {
    let n = coefficients.len();
    // d_(k−1) = d_(k+1) + 2k·c_k, d_0 halved
    let mut d = vec![0.0f64; n + 1];
    for k in (1..n).rev() {
        d[k - 1] = d[k + 1] + 2.0 * k as f64 * f64::from(coefficients[k]);
    }
    d[0] /= 2.0;
    d[..n.saturating_sub(1)]
        .iter()
        .map(|d| (d * f64::from(a)) as f32)
        .collect()
}

fn clenshaw(coefficients: &[f32], t: f32) -> f32 {
    let Some((&first, rest)) = coefficients.split_first() else {
        return 0.0;
    };
    let (mut b1, mut b2) = (0.0f32, 0.0f32);
    for &c in rest.iter().rev() {
        (b1, b2) = (2.0 * t * b1 - b2 + c, b1);
    }
    t * b1 - b2 + first
}
