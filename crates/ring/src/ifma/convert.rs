//! Basis conversion of one tile; the tile's length is a multiple of 8, checked by `crate::convert`.

use std::arch::x86_64::*;

use super::{SHORT, Sum, Wide, factor, load, set, store};
use crate::Modulus;
use crate::modulus::Shoup;

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn prepare(
    source: &[Modulus],
    factors: &[Shoup],
    recips: &[f64],
    src: &[&[u64]],
    at: usize,
    y: &mut [u64],
    v: &mut [u64],
) {
    if v.len().is_multiple_of(64) {
        prepare_blocks::<8>(source, factors, recips, src, at, y, v);
    } else {
        prepare_blocks::<1>(source, factors, recips, src, at, y, v);
    }
}

/// B registers at a time; the f64 terms are added in the order of the rows, without fused operations, as in the portable twin.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn prepare_blocks<const B: usize>(
    source: &[Modulus],
    factors: &[Shoup],
    recips: &[f64],
    src: &[&[u64]],
    at: usize,
    y: &mut [u64],
    v: &mut [u64],
) {
    let len = v.len();
    for (b, v) in v.as_chunks_mut::<8>().0.chunks_exact_mut(B).enumerate() {
        let span = 8 * B * b..8 * B * (b + 1);
        let mut sums = [_mm512_setzero_pd(); B];
        for (i, row) in y.chunks_exact_mut(len).enumerate() {
            let (m, f, recip) = (
                Wide::new(&source[i]),
                factor(factors[i]),
                _mm512_set1_pd(recips[i]),
            );
            let x = src[i][at + span.start..at + span.end].as_chunks::<8>().0;
            let row = row[span.clone()].as_chunks_mut::<8>().0;
            for j in 0..B {
                let r = m.shoup(load(&x[j]), f);
                store(&mut row[j], r);
                let term = _mm512_mul_pd(_mm512_cvtepu64_pd(r), recip);
                sums[j] = _mm512_add_pd(sums[j], term);
            }
        }
        for (v, sum) in v.iter_mut().zip(sums) {
            store(v, _mm512_cvtpd_epu64(sum));
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn finish(q: &Modulus, constants: &[u64], y: &[u64], v: &[u64], out: &mut [u64]) {
    let sum = Sum::new(q);
    match (constants.len() <= SHORT, out.len().is_multiple_of(64)) {
        (true, true) => blocks::<false, 8>(&sum, constants, y, v, out),
        (true, false) => blocks::<false, 1>(&sum, constants, y, v, out),
        (false, true) => blocks::<true, 8>(&sum, constants, y, v, out),
        (false, false) => blocks::<true, 1>(&sum, constants, y, v, out),
    }
}

/// Σ y_i·c_i + v·c_k, B registers at a time; every factor is below 2^50, so 25 products fit the long reduction.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn blocks<const LONG: bool, const B: usize>(
    sum: &Sum,
    constants: &[u64],
    y: &[u64],
    v: &[u64],
    out: &mut [u64],
) {
    let len = out.len();
    for (b, out) in out.as_chunks_mut::<8>().0.chunks_exact_mut(B).enumerate() {
        let span = 8 * B * b..8 * B * (b + 1);
        let mut l = [_mm512_setzero_si512(); B];
        let mut h = [_mm512_setzero_si512(); B];
        for (row, &c) in y.chunks_exact(len).chain(std::iter::once(v)).zip(constants) {
            let c = set(c);
            let row = row[span.clone()].as_chunks::<8>().0;
            for i in 0..B {
                let x = load(&row[i]);
                l[i] = _mm512_madd52lo_epu64(l[i], x, c);
                h[i] = _mm512_madd52hi_epu64(h[i], x, c);
            }
        }
        for i in 0..B {
            store(&mut out[i], sum.reduce::<LONG>(h[i], l[i]));
        }
    }
}
