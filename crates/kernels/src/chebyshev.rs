//! Chebyshev series on an interval, elementwise.

use crate::PART;
use crate::instructions::{Vector, instructions, kernels};
use rayon::prelude::*;

/// Vectors that are computed at once: their chains of sums hide one another's latency.
const WIDE: usize = 4;
/// Elements whose products with T_k are summed in f32 before the sum goes to f64.
const BLOCK: usize = 1024;

/// y = Σ c_k·T_k(t) with t = (2x − lo − hi)/(hi − lo); nothing is clamped.
pub fn chebyshev_forward(coefficients: &[f32], interval: (f32, f32), x: &[f32], y: &mut [f32]) {
    assert_eq!(
        x.len(),
        y.len(),
        "chebyshev_forward: x and y differ in length"
    );
    let (instructions, unit) = (instructions(), to_unit(interval));
    y.par_chunks_mut(PART)
        .zip(x.par_chunks(PART))
        .for_each(|(y, x)| match filled(x) {
            None => forward(instructions, coefficients, unit, x, y),
            Some(x) => {
                let mut whole = vec![0.0; x.len()];
                forward(instructions, coefficients, unit, &x, &mut whole);
                y.copy_from_slice(&whole[..y.len()]);
            }
        });
}

/// With zeros up to whole steps of every kernel, where it has none.
fn filled(x: &[f32]) -> Option<Vec<f32>> {
    let whole = x.len().next_multiple_of(16 * WIDE);
    (whole > x.len()).then(|| {
        x.iter()
            .copied()
            .chain(std::iter::repeat(0.0))
            .take(whole)
            .collect()
    })
}

/// dx = dy·p′(x) (overwrites dx), and to `dcoefficients` adds Σ dy·T_k(t): in f32 over short blocks, in f64 between them.
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
    let (instructions, unit) = (instructions(), to_unit(interval));
    let slope = derivative_series(coefficients, unit.0);
    let count = dcoefficients.as_ref().map_or(0, |d| d.len());
    assert!(
        dcoefficients.is_none() || count == coefficients.len(),
        "chebyshev_backward: dcoefficients has one element per coefficient"
    );
    let parts: Vec<Vec<f64>> = dx
        .par_chunks_mut(PART)
        .zip(x.par_chunks(PART).zip(dy.par_chunks(PART)))
        .map(|(dx, (x, dy))| match (filled(x), filled(dy)) {
            // beyond, dy is 0 and adds nothing
            (Some(x), Some(dy)) => {
                let mut whole = vec![0.0; x.len()];
                let sums = backward(instructions, &slope, count, unit, &x, &dy, &mut whole);
                dx.copy_from_slice(&whole[..dx.len()]);
                sums
            }
            _ => backward(instructions, &slope, count, unit, x, dy, dx),
        })
        .collect();
    if let Some(dcoefficients) = dcoefficients {
        for part in parts {
            dcoefficients
                .iter_mut()
                .zip(part)
                .for_each(|(d, p)| *d += p);
        }
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

/// Σ c_k·T_k(t) by Clenshaw's recurrence.
///
/// # Safety
/// The machine has `V`'s instructions.
#[inline(always)]
unsafe fn clenshaw<V: Vector>(coefficients: &[f32], t: [V; WIDE]) -> [V; WIDE] {
    // SAFETY: the caller's contract; no pointers
    unsafe {
        let zero = V::splat(0.0);
        let Some((&first, rest)) = coefficients.split_first() else {
            return [zero; WIDE];
        };
        let (mut b1, mut b2, mut twice) = ([zero; WIDE], [zero; WIDE], t);
        for i in 0..WIDE {
            twice[i] = t[i].add_product(t[i], V::splat(1.0));
        }
        for &c in rest.iter().rev() {
            let c = V::splat(c);
            for i in 0..WIDE {
                let next = c.minus(b2[i]).add_product(twice[i], b1[i]);
                b2[i] = b1[i];
                b1[i] = next;
            }
        }
        let first = V::splat(first);
        for i in 0..WIDE {
            b2[i] = first.minus(b2[i]).add_product(t[i], b1[i]);
        }
        b2
    }
}

/// t of `WIDE` vectors of x.
///
/// # Safety
/// The machine has `V`'s instructions; x has WIDE·LANES floats.
#[inline(always)]
unsafe fn unit_of<V: Vector>((a, b): (f32, f32), x: &[f32]) -> [V; WIDE] {
    // SAFETY: the caller's contract
    unsafe {
        let mut t = [V::splat(b); WIDE];
        for i in 0..WIDE {
            t[i] = t[i].add_product(V::splat(a), V::load(x[i * V::LANES..][..V::LANES].as_ptr()));
        }
        t
    }
}

kernels! {
    /// Of whole steps.
    fn forward<V>(coefficients: &[f32], unit: (f32, f32), x: &[f32], y: &mut [f32]) {
        let step = WIDE * V::LANES;
        for (y, x) in y.chunks_exact_mut(step).zip(x.chunks_exact(step)) {
            // SAFETY: x and y have WIDE vectors
            unsafe {
                let value = clenshaw::<V>(coefficients, unit_of::<V>(unit, x));
                for i in 0..WIDE {
                    value[i].store(y[i * V::LANES..][..V::LANES].as_mut_ptr());
                }
            }
        }
    }
}

kernels! {
    /// Of whole steps.
    fn backward<V>(
        slope: &[f32],
        // Coefficients that want a gradient.
        count: usize,
        unit: (f32, f32),
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
    ) -> Vec<f64> {
        let step = WIDE * V::LANES;
        let mut total = vec![0.0f64; count];
        let mut sums = vec![0.0f32; count * V::LANES];
        for ((dx, x), dy) in dx
            .chunks_mut(BLOCK)
            .zip(x.chunks(BLOCK))
            .zip(dy.chunks(BLOCK))
        {
            sums.fill(0.0);
            let steps = x.chunks_exact(step).zip(dy.chunks_exact(step));
            for (dx, (x, dy)) in dx.chunks_exact_mut(step).zip(steps) {
                // SAFETY: x, dy and dx have WIDE vectors, sums one per coefficient
                unsafe {
                    let zero = V::splat(0.0);
                    let t = unit_of::<V>(unit, x);
                    let slope = clenshaw::<V>(slope, t);
                    // dy·T_k, by T's own recurrence, for every k
                    let (mut d0, mut d1, mut twice) = ([zero; WIDE], [zero; WIDE], t);
                    for i in 0..WIDE {
                        d0[i] = V::load(dy[i * V::LANES..][..V::LANES].as_ptr());
                        d1[i] = zero.add_product(d0[i], t[i]);
                        twice[i] = t[i].add_product(t[i], V::splat(1.0));
                        zero.add_product(d0[i], slope[i])
                            .store(dx[i * V::LANES..][..V::LANES].as_mut_ptr());
                    }
                    let one = V::splat(1.0);
                    for sum in sums.chunks_exact_mut(V::LANES) {
                        let pair = [d0[0].add_product(one, d0[1]), d0[2].add_product(one, d0[3])];
                        let four = pair[0].add_product(one, pair[1]);
                        V::load(sum.as_ptr())
                            .add_product(one, four)
                            .store(sum.as_mut_ptr());
                        for i in 0..WIDE {
                            let next = zero.minus(d0[i]).add_product(twice[i], d1[i]);
                            d0[i] = d1[i];
                            d1[i] = next;
                        }
                    }
                }
            }
            for (total, sum) in total.iter_mut().zip(sums.chunks_exact(V::LANES)) {
                *total += f64::from(sum.iter().sum::<f32>());
            }
        }
        total
    }
}
