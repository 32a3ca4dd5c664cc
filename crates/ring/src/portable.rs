//! The portable twins of all kernels: plain Rust, the reference for every other backend.
//!
//! Lengths are checked by the callers in `limb`, `ntt` and `convert`.

use crate::Modulus;
use crate::modulus::{Shoup, shoup_lazy, subtract_if_above};

pub(crate) fn add(q: &Modulus, a: &mut [u64], b: &[u64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = q.add(*a, *b));
}

pub(crate) fn add_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    out.iter_mut()
        .zip(a)
        .zip(b)
        .for_each(|((o, a), b)| *o = q.add(*a, *b));
}

pub(crate) fn sub(q: &Modulus, a: &mut [u64], b: &[u64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = q.sub(*a, *b));
}

pub(crate) fn sub_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    out.iter_mut()
        .zip(a)
        .zip(b)
        .for_each(|((o, a), b)| *o = q.sub(*a, *b));
}

pub(crate) fn neg(q: &Modulus, a: &mut [u64]) {
    a.iter_mut().for_each(|a| *a = q.neg(*a));
}

pub(crate) fn mul(q: &Modulus, a: &mut [u64], b: &[u64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = q.mul(*a, *b));
}

pub(crate) fn mul_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    out.iter_mut()
        .zip(a)
        .zip(b)
        .for_each(|((o, a), b)| *o = q.mul(*a, *b));
}

pub(crate) fn add_scalar(q: &Modulus, a: &mut [u64], s: u64) {
    a.iter_mut().for_each(|a| *a = q.add(*a, s));
}

pub(crate) fn mul_scalar(q: &Modulus, a: &mut [u64], s: Shoup) {
    a.iter_mut().for_each(|a| *a = q.mul_shoup(*a, s));
}

pub(crate) fn mul_scalar_to(q: &Modulus, out: &mut [u64], a: &[u64], s: Shoup) {
    out.iter_mut()
        .zip(a)
        .for_each(|(o, a)| *o = q.mul_shoup(*a, s));
}

pub(crate) fn mul_scalar_add(q: &Modulus, acc: &mut [u64], a: &[u64], s: Shoup) {
    acc.iter_mut()
        .zip(a)
        .for_each(|(o, a)| *o = q.add(*o, q.mul_shoup(*a, s)));
}

pub(crate) fn sub_mul_scalar(q: &Modulus, a: &mut [u64], b: &[u64], s: Shoup) {
    // a + q - b < 2q < 2^52.
    a.iter_mut()
        .zip(b)
        .for_each(|(a, b)| *a = q.mul_shoup(*a + q.q - *b, s));
}

/// `out = Σ x·y`, y repeated in runs; a run of 1 is the plain product. Sums stay below 2^28·2^100 = 2^128.
pub(crate) fn dot_runs(q: &Modulus, out: &mut [u64], pairs: &[(&[u64], &[u64])]) {
    const BLOCK: usize = 256;
    let n = out.len();
    for (b, block) in out.chunks_mut(BLOCK).enumerate() {
        let start = b * BLOCK;
        let mut sums = [0u128; BLOCK];
        for (x, y) in pairs {
            let run = n / y.len();
            let x = &x[start..start + block.len()];
            if run == 1 {
                let y = &y[start..start + block.len()];
                for ((s, x), y) in sums.iter_mut().zip(x).zip(y) {
                    *s += u128::from(*x) * u128::from(*y);
                }
            } else {
                let (mut at, mut left) = (start / run, run - start % run);
                for (s, x) in sums.iter_mut().zip(x) {
                    *s += u128::from(*x) * u128::from(y[at]);
                    left -= 1;
                    if left == 0 {
                        (at, left) = (at + 1, run);
                    }
                }
            }
        }
        for (o, s) in block.iter_mut().zip(&sums) {
            *o = q.reduce_u128(*s);
        }
    }
}

/// [`dot_runs`] of `x0` and of `x1` with the same `y`.
pub(crate) fn dot2_runs(
    q: &Modulus,
    out0: &mut [u64],
    out1: &mut [u64],
    x0: &[&[u64]],
    x1: &[&[u64]],
    y: &[&[u64]],
) {
    for (out, x) in [(out0, x0), (out1, x1)] {
        let pairs: Vec<_> = x.iter().copied().zip(y.iter().copied()).collect();
        dot_runs(q, out, &pairs);
    }
}

pub(crate) fn permute(out: &mut [u64], a: &[u64], perm: &[u32]) {
    out.iter_mut()
        .zip(perm)
        .for_each(|(o, &p)| *o = a[p as usize]);
}

pub(crate) fn permute_add(q: &Modulus, acc: &mut [u64], a: &[u64], perm: &[u32]) {
    acc.iter_mut()
        .zip(perm)
        .for_each(|(o, &p)| *o = q.add(*o, a[p as usize]));
}

pub(crate) fn from_i64(q: &Modulus, out: &mut [u64], x: &[i64]) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = q.from_i64(*x));
}

pub(crate) fn lift_centered(from: &Modulus, to: &Modulus, out: &mut [u64], x: &[u64]) {
    let shift = to.neg(to.reduce(from.q));
    let half = from.q / 2;
    out.iter_mut()
        .zip(x)
        .for_each(|(o, &x)| *o = to.add(to.reduce(x), if x > half { shift } else { 0 }));
}

/// Forward negacyclic NTT; `w[i] = ψ^brv(i)`. Keeps every element below 4q between layers.
pub(crate) fn forward(q: &Modulus, w: &[u64], ws: &[u64], a: &mut [u64]) {
    let (n, q2) = (a.len(), 2 * q.q);
    let (mut m, mut t) = (1, n / 2);
    while m < n {
        for (i, block) in a.chunks_exact_mut(2 * t).enumerate() {
            let s = Shoup {
                w: w[m + i],
                ws: ws[m + i],
            };
            let (low, high) = block.split_at_mut(t);
            for (x, y) in low.iter_mut().zip(high) {
                let u = subtract_if_above(*x, q2);
                let v = shoup_lazy(*y, s, q.q);
                *x = u + v;
                *y = u + q2 - v;
            }
        }
        m *= 2;
        t /= 2;
    }
    a.iter_mut()
        .for_each(|x| *x = subtract_if_above(subtract_if_above(*x, q2), q.q));
}

/// Inverse of [`forward`], with `scale = N^-1`. Keeps every element below 2q between layers.
///
/// The inverse of the twiddle at m+i is minus the twiddle at 2m-1-i, so one table serves both directions.
pub(crate) fn inverse(q: &Modulus, w: &[u64], ws: &[u64], scale: Shoup, a: &mut [u64]) {
    let (n, q2) = (a.len(), 2 * q.q);
    let (mut m, mut t) = (n / 2, 1);
    while m > 0 {
        for (i, block) in a.chunks_exact_mut(2 * t).enumerate() {
            let at = 2 * m - 1 - i;
            let s = Shoup {
                w: w[at],
                ws: ws[at],
            };
            let (low, high) = block.split_at_mut(t);
            for (x, y) in low.iter_mut().zip(high) {
                let (u, v) = (*x, *y);
                *x = subtract_if_above(u + v, q2);
                *y = shoup_lazy(v + q2 - u, s, q.q);
            }
        }
        m /= 2;
        t *= 2;
    }
    a.iter_mut().for_each(|x| *x = q.mul_shoup(*x, scale));
}

/// One tile of basis conversion, first half: `y_i = x_i·factor_i mod q_i` and `v = round(Σ y_i/q_i)`.
///
/// `y` holds one row of `v.len()` words per source; `at` is where the tile starts in each source limb.
pub(crate) fn convert_prepare(
    source: &[Modulus],
    factors: &[Shoup],
    recips: &[f64],
    src: &[&[u64]],
    at: usize,
    y: &mut [u64],
    v: &mut [u64],
) {
    let len = v.len();
    for (o, v) in v.iter_mut().enumerate() {
        let mut sum = 0.0f64;
        for (i, q) in source.iter().enumerate() {
            let r = q.mul_shoup(src[i][at + o], factors[i]);
            y[i * len + o] = r;
            sum += r as f64 * recips[i];
        }
        *v = sum.round_ties_even() as u64;
    }
}

/// One tile of basis conversion, second half: `out = Σ y_i·c_i + v·c_k mod q`.
pub(crate) fn convert_finish(
    q: &Modulus,
    constants: &[u64],
    y: &[u64],
    v: &[u64],
    out: &mut [u64],
) {
    let len = out.len();
    for (o, out) in out.iter_mut().enumerate() {
        let mut sum = u128::from(v[o]) * u128::from(constants[constants.len() - 1]);
        for (i, c) in constants[..constants.len() - 1].iter().enumerate() {
            sum += u128::from(y[i * len + o]) * u128::from(*c);
        }
        *out = q.reduce_u128(sum);
    }
}
