//! One-limb kernels; lengths are multiples of 8, checked by `crate::limb`.

use std::arch::x86_64::*;

use super::{SHORT, Sum, Wide, factor, high, load, low, set, store, subtract_if_above};
use crate::modulus::Shoup;
use crate::{Modulus, portable};

/// a\[i\] = f(a\[i\]).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn one(a: &mut [u64], f: impl Fn(__m512i) -> __m512i) {
    a.as_chunks_mut::<8>()
        .0
        .iter_mut()
        .for_each(|a| store(a, f(load(a))));
}

/// a\[i\] = f(a\[i\], b\[i\]).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn two(a: &mut [u64], b: &[u64], f: impl Fn(__m512i, __m512i) -> __m512i) {
    let b = b.as_chunks::<8>().0;
    a.as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(b)
        .for_each(|(a, b)| store(a, f(load(a), load(b))));
}

/// out\[i\] = f(a\[i\], b\[i\]).
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn three(out: &mut [u64], a: &[u64], b: &[u64], f: impl Fn(__m512i, __m512i) -> __m512i) {
    let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    out.as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(a)
        .zip(b)
        .for_each(|((o, a), b)| store(o, f(load(a), load(b))));
}

/// Constants of the product of two variable residues.
struct Product {
    m: Wide,
    mu: __m512i,
    shift: __m128i,
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        Product {
            m: Wide::new(q),
            mu: set(q.mu),
            shift: _mm_set_epi64x(0, i64::from(52 - q.bits)),
        }
    }

    /// x·y canonical. `top` = ⌊xy/2^(bits-1)⌋ < 2^(bits+1), and the remainder after the Barrett estimate is below 2.5q.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn mul(&self, x: __m512i, y: __m512i) -> __m512i {
        let top = high(_mm512_sll_epi64(x, self.shift), _mm512_add_epi64(y, y));
        let sum = _mm512_madd52lo_epu64(low(x, y), high(top, self.mu), self.m.minus_q);
        self.m.canonical(_mm512_and_si512(sum, self.m.mask))
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn add(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let m = Wide::new(q);
    two(a, b, |a, b| m.add(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn add_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let m = Wide::new(q);
    three(out, a, b, |a, b| m.add(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn sub(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let m = Wide::new(q);
    two(a, b, |a, b| m.sub(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn sub_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let m = Wide::new(q);
    three(out, a, b, |a, b| m.sub(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn neg(q: &Modulus, a: &mut [u64]) {
    let m = Wide::new(q);
    one(a, |a| subtract_if_above(_mm512_sub_epi64(m.q, a), m.q));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn mul(q: &Modulus, a: &mut [u64], b: &[u64]) {
    let p = Product::new(q);
    two(a, b, |a, b| p.mul(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn mul_to(q: &Modulus, out: &mut [u64], a: &[u64], b: &[u64]) {
    let p = Product::new(q);
    three(out, a, b, |a, b| p.mul(a, b));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn add_scalar(q: &Modulus, a: &mut [u64], s: u64) {
    let (m, s) = (Wide::new(q), set(s));
    one(a, |a| m.add(a, s));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn mul_scalar(q: &Modulus, a: &mut [u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(s));
    one(a, |a| m.shoup(a, s));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn mul_scalar_to(q: &Modulus, out: &mut [u64], a: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(s));
    two(out, a, |_, a| m.shoup(a, s));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn mul_scalar_add(q: &Modulus, acc: &mut [u64], a: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(s));
    // The sum is below 3q.
    two(acc, a, |o, a| {
        m.canonical(_mm512_add_epi64(o, m.shoup_lazy(a, s)))
    });
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn sub_mul_scalar(q: &Modulus, a: &mut [u64], b: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(s));
    two(a, b, |a, b| {
        m.shoup(_mm512_sub_epi64(_mm512_add_epi64(a, m.q), b), s)
    });
}

/// One pair of a lazy sum: x in full, y shortened by 2^shift.
struct Term {
    x: *const u64,
    y: *const u64,
    shift: u32,
}

/// Falls back to the portable kernel for runs that are no power of two.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn dot_runs<const ADD: bool>(q: &Modulus, out: &mut [u64], pairs: &[(&[u64], &[u64])]) {
    let n = out.len();
    if n == 0 || pairs.iter().any(|(_, y)| !(n / y.len()).is_power_of_two()) {
        return portable::dot_runs::<ADD>(q, out, pairs);
    }
    let terms: Vec<Term> = pairs
        .iter()
        .map(|(x, y)| {
            assert!(x.len() == n && n.is_multiple_of(y.len()));
            Term {
                x: x.as_ptr(),
                y: y.as_ptr(),
                shift: (n / y.len()).trailing_zeros(),
            }
        })
        .collect();
    let sum = Sum::new(q);
    // SAFETY: every x has n words, every y has n >> shift, and `out` gives the n offsets.
    unsafe {
        match (pairs.len() <= SHORT, n.is_multiple_of(32)) {
            (true, true) => dot_blocks::<ADD, false, 4>(&sum, out, &terms),
            (true, false) => dot_blocks::<ADD, false, 1>(&sum, out, &terms),
            (false, true) => dot_blocks::<ADD, true, 4>(&sum, out, &terms),
            (false, false) => dot_blocks::<ADD, true, 1>(&sum, out, &terms),
        }
    }
}

/// Sums V registers at a time.
///
/// # Safety
/// `out.len()` is a multiple of 8·V; each term's x is readable for `out.len()` words and its y for `out.len() >> shift` words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn dot_blocks<const ADD: bool, const LONG: bool, const V: usize>(
    sum: &Sum,
    out: &mut [u64],
    terms: &[Term],
) {
    let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    let (chunks, _) = out.as_chunks_mut::<8>();
    for (b, block) in chunks.chunks_exact_mut(V).enumerate() {
        let at = 8 * V * b;
        let mut l = [_mm512_setzero_si512(); V];
        let mut h = [_mm512_setzero_si512(); V];
        for t in terms {
            let mut y = [_mm512_setzero_si512(); V];
            // SAFETY: at + 8·V <= out.len(), so all offsets below (after the shift for y) lie inside the terms' slices; the
            // masked load reads only 8 >> shift words.
            unsafe {
                if t.shift == 0 {
                    for (v, y) in y.iter_mut().enumerate() {
                        *y = _mm512_loadu_si512(t.y.add(at + 8 * v).cast());
                    }
                } else if (8 * V) >> t.shift <= 1 {
                    y = [set(*t.y.add(at >> t.shift)); V];
                } else if t.shift >= 3 {
                    for (v, y) in y.iter_mut().enumerate() {
                        *y = set(*t.y.add((at + 8 * v) >> t.shift));
                    }
                } else {
                    let mask = ((1u32 << (8 >> t.shift)) - 1) as u8;
                    let spread = _mm512_srl_epi64(lanes, _mm_set_epi64x(0, i64::from(t.shift)));
                    for (v, y) in y.iter_mut().enumerate() {
                        let few =
                            _mm512_maskz_loadu_epi64(mask, t.y.add((at + 8 * v) >> t.shift).cast());
                        *y = _mm512_permutexvar_epi64(spread, few);
                    }
                }
                for v in 0..V {
                    let x = _mm512_loadu_si512(t.x.add(at + 8 * v).cast());
                    l[v] = _mm512_madd52lo_epu64(l[v], x, y[v]);
                    h[v] = _mm512_madd52hi_epu64(h[v], x, y[v]);
                }
            }
        }
        for v in 0..V {
            let r = sum.reduce::<LONG>(h[v], l[v]);
            let r = if ADD {
                sum.wide.add(r, load(&block[v]))
            } else {
                r
            };
            store(&mut block[v], r);
        }
    }
}

/// Eight elements of `a`: from one aligned group by a register permutation where the indices allow it.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn gather(a: &[u64], p: &[u32; 8]) -> __m512i {
    // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
    let index = unsafe { _mm256_loadu_si256(p.as_ptr().cast()) };
    let group = p[0] >> 3;
    let other = _mm256_xor_si256(index, _mm256_set1_epi32((group << 3) as i32));
    if _mm256_cmplt_epu32_mask(other, _mm256_set1_epi32(8)) == 0xff {
        let group = &a.as_chunks::<8>().0[group as usize];
        return _mm512_permutexvar_epi64(_mm512_cvtepu32_epi64(index), load(group));
    }
    load(&p.map(|i| a[i as usize]))
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn permute(out: &mut [u64], a: &[u64], perm: &[u32]) {
    let (out, perm) = (out.as_chunks_mut::<8>().0, perm.as_chunks::<8>().0);
    out.iter_mut()
        .zip(perm)
        .for_each(|(o, p)| store(o, gather(a, p)));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn permute_add(q: &Modulus, acc: &mut [u64], a: &[u64], perm: &[u32]) {
    let m = Wide::new(q);
    let (acc, perm) = (acc.as_chunks_mut::<8>().0, perm.as_chunks::<8>().0);
    acc.iter_mut()
        .zip(perm)
        .for_each(|(o, p)| store(o, m.add(load(o), gather(a, p))));
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn from_i64(q: &Modulus, out: &mut [u64], x: &[i64]) {
    let s = Sum::new(q);
    let m = s.wide;
    for (o, x) in out
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(x.as_chunks::<8>().0)
    {
        // SAFETY: the reference covers the 64 bytes; the load needs no alignment.
        let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
        let size = _mm512_abs_epi64(x);
        // size = h·2^52 + l with h <= 2^11.
        let r = s.reduce::<false>(_mm512_setzero_si512(), size);
        let minus = subtract_if_above(_mm512_sub_epi64(m.q, r), m.q);
        store(o, _mm512_mask_mov_epi64(r, _mm512_movepi64_mask(x), minus));
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn lift_centered(from: &Modulus, to: &Modulus, out: &mut [u64], x: &[u64]) {
    let (m, inv52) = (Wide::new(to), set(to.inv52));
    let (shift, half) = (set(to.neg(to.reduce(from.q))), set(from.q / 2));
    two(out, x, |_, x| {
        let r = subtract_if_above(m.reduce_lazy(x, inv52), m.q);
        m.add(
            r,
            _mm512_maskz_mov_epi64(_mm512_cmpgt_epu64_mask(x, half), shift),
        )
    });
}
