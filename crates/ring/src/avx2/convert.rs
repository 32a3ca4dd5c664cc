//! Basis conversion of one tile; the tile's length is a multiple of 8, checked by `crate::convert`.

use std::arch::x86_64::*;

use super::{SHORT, Sum, Wide, doubles, factor, load, store, words};
use crate::Modulus;
use crate::modulus::Shoup;

/// The f64 terms are added in the order of the rows, without fused operations, as in the portable twin.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn prepare(
    source: &[Modulus],
    factors: &[Shoup],
    recips: &[f64],
    src: &[&[u64]],
    at: usize,
    y: &mut [u64],
    v: &mut [u64],
) {
    let len = v.len();
    let sums = v.as_chunks_mut::<4>().0;
    // The sums' bits wait in v.
    sums.iter_mut().for_each(|v| *v = [0; 4]);
    for (i, row) in y.chunks_exact_mut(len).enumerate() {
        let (m, f) = (Wide::new(&source[i]), factor(&source[i], factors[i].w));
        let recip = _mm256_set1_pd(recips[i]);
        let x = src[i][at..at + len].as_chunks::<4>().0;
        let row = row.as_chunks_mut::<4>().0;
        for ((x, row), sum) in x.iter().zip(row).zip(sums.iter_mut()) {
            let r = m.lift(m.mul(doubles(load(x)), f));
            store(row, words(r));
            let old = _mm256_castsi256_pd(load(sum));
            let new = _mm256_add_pd(old, _mm256_mul_pd(r, recip));
            store(sum, _mm256_castpd_si256(new));
        }
    }
    for v in sums {
        let sum = _mm256_castsi256_pd(load(v));
        store(v, words(sum));
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn finish(q: &Modulus, constants: &[u64], y: &[u64], v: &[u64], out: &mut [u64]) {
    let sum = Sum::new(q, constants.len());
    match (constants.len() <= SHORT, out.len().is_multiple_of(16)) {
        (true, true) => blocks::<false, 4>(&sum, constants, y, v, out),
        (true, false) => blocks::<false, 1>(&sum, constants, y, v, out),
        (false, true) => blocks::<true, 4>(&sum, constants, y, v, out),
        (false, false) => blocks::<true, 1>(&sum, constants, y, v, out),
    }
}

/// Σ y_i·c_i + v·c_k, B registers at a time; every factor is below 2^50.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn blocks<const LONG: bool, const B: usize>(
    sum: &Sum,
    constants: &[u64],
    y: &[u64],
    v: &[u64],
    out: &mut [u64],
) {
    let len = out.len();
    for (b, out) in out.as_chunks_mut::<4>().0.chunks_exact_mut(B).enumerate() {
        let span = 4 * B * b..4 * B * (b + 1);
        let mut sums = [sum.start; B];
        for (row, &c) in y.chunks_exact(len).chain(std::iter::once(v)).zip(constants) {
            let c = _mm256_set1_pd(c as f64);
            let row = row[span.clone()].as_chunks::<4>().0;
            for i in 0..B {
                sums[i] = sum.add(sums[i], doubles(load(&row[i])), c);
            }
        }
        for i in 0..B {
            store(&mut out[i], words(sum.finish::<LONG>(sums[i])));
        }
    }
}
