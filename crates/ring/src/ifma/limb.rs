//! One-limb kernels; lengths are multiples of 8, checked by `crate::limb`.

use std::arch::x86_64::*;

use super::{SHORT, Sum, Wide, factor, high, load, low, set, store, subtract_if_above};
use crate::limb::Shared;
use crate::modulus::Shoup;
use crate::vector::{Term, limb_kernels};
use crate::{Modulus, portable};

limb_kernels!("avx512f,avx512dq,avx512vl,avx512ifma", __m512i, 8, 4, 4);

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

/// How many words ahead the factors are fetched into the second-level cache where there are more than [`DOT_STREAMS`] of
/// them. The limbs of one sum lie at the same place of their pages, hence all in the same few sets of the first level, where
/// so many evict what the processor itself fetches ahead; fewer go faster without.
const DOT_AHEAD: usize = 256;

/// The most full-length factors that the processor keeps up with by itself.
const DOT_STREAMS: usize = 14;

/// Chooses the block and the reduction.
///
/// # Safety
/// The terms were made by [`Term::new`] for the length of every output.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn dots<const O: usize, const V: usize>(
    q: &Modulus,
    out: [&mut [u64]; O],
    terms: Vec<Term<O>>,
) {
    let sum = Sum::new(q);
    let streams = O * terms.len() + terms.iter().filter(|t| t.shift == 0).count();
    // SAFETY: as the caller promises; the lengths are multiples of 8, and of 8·V where V registers are taken at a time.
    unsafe {
        if !out[0].len().is_multiple_of(8 * V) {
            return dot_blocks::<O, true, false, 1>(&sum, out, 0, &terms);
        }
        match (terms.len() > SHORT, streams > DOT_STREAMS) {
            (false, false) => dot_blocks::<O, false, false, V>(&sum, out, 0, &terms),
            (false, true) => dot_blocks::<O, false, true, V>(&sum, out, 0, &terms),
            (true, _) => dot_blocks::<O, true, true, V>(&sum, out, 0, &terms),
        }
    }
}

/// Words of a piece of all factors in full length that the nearest cache holds: half of 48 KiB and more.
const DOT_NEAR: usize = 1 << 12;

/// [`crate::limb::dot2_runs_each`], piece by piece; false, and nothing done, for runs that are no power of two and for odd lengths.
///
/// Pieces of factors are fetched ahead by the first sum, of shared factors in full length by every one.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn dot2_runs_each(
    q: &Modulus,
    out: &mut [[&mut [u64]; 2]],
    factors: &[Vec<Shared<'_>>],
) -> bool {
    const V: usize = 4;
    let n = out.first().map_or(0, |o| o[0].len());
    let terms: Option<Vec<Vec<Term<2>>>> = (factors.iter())
        .map(|f| f.iter().map(|(x, y)| Term::new(n, *x, y)).collect())
        .collect();
    let (Some(terms), true) = (terms, n.is_multiple_of(8 * V)) else {
        return false;
    };
    let sum = Sum::new(q);
    let most = terms.iter().map(Vec::len).max().unwrap_or(0);
    let piece = (DOT_NEAR / (2 * most.max(1)))
        .next_power_of_two()
        .max(8 * V);
    for at in (0..n).step_by(piece) {
        let end = n.min(at + piece);
        for (k, (out, terms)) in out.iter_mut().zip(&terms).enumerate() {
            let out = out.each_mut().map(|o| &mut o[at..end]);
            let fetch = k == 0 || terms.iter().any(|t| t.shift == 0);
            // SAFETY: Term::new checked the lengths against n, which Rust's slices show every output to have; pieces are multiples of 8·V.
            unsafe {
                match (terms.len() > SHORT, fetch) {
                    (false, false) => dot_blocks::<2, false, false, V>(&sum, out, at, terms),
                    (false, true) => dot_blocks::<2, false, true, V>(&sum, out, at, terms),
                    (true, _) => dot_blocks::<2, true, true, V>(&sum, out, at, terms),
                }
            }
        }
    }
    true
}

/// Sums V registers of each output at a time; the outputs begin at word `from` of what the terms are factors of.
///
/// # Safety
/// Every output has the same length, a multiple of 8·V, and `from` is one; each term's own factors are readable for `from` and as many words more,
/// its shared factor for `(from + length) >> shift` words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn dot_blocks<const O: usize, const LONG: bool, const FETCH: bool, const V: usize>(
    sum: &Sum,
    out: [&mut [u64]; O],
    from: usize,
    terms: &[Term<O>],
) {
    let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    for to in (0..out[0].len()).step_by(8 * V) {
        let at = from + to;
        let mut l = [[_mm512_setzero_si512(); V]; O];
        let mut h = [[_mm512_setzero_si512(); V]; O];
        for t in terms {
            let mut y = [_mm512_setzero_si512(); V];
            // SAFETY: at + 8·V <= from + the length, so all offsets below (after the shift for the shared factor) lie inside the
            // factors; the masked load reads only 8 >> shift words. A prefetch may point anywhere.
            unsafe {
                if t.shift == 0 {
                    for (v, y) in y.iter_mut().enumerate() {
                        *y = _mm512_loadu_si512(t.shared.add(at + 8 * v).cast());
                        if FETCH {
                            let ahead = t.shared.wrapping_add(at + 8 * v + DOT_AHEAD);
                            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        }
                    }
                } else if (8 * V) >> t.shift <= 1 {
                    y = [set(*t.shared.add(at >> t.shift)); V];
                } else if t.shift >= 3 {
                    for (v, y) in y.iter_mut().enumerate() {
                        *y = set(*t.shared.add((at + 8 * v) >> t.shift));
                    }
                } else {
                    let mask = ((1u32 << (8 >> t.shift)) - 1) as u8;
                    let spread = _mm512_srl_epi64(lanes, _mm_set_epi64x(0, i64::from(t.shift)));
                    for (v, y) in y.iter_mut().enumerate() {
                        let from = t.shared.add((at + 8 * v) >> t.shift);
                        let few = _mm512_maskz_loadu_epi64(mask, from.cast());
                        *y = _mm512_permutexvar_epi64(spread, few);
                    }
                }
                for o in 0..O {
                    for v in 0..V {
                        let x = _mm512_loadu_si512(t.own[o].add(at + 8 * v).cast());
                        if FETCH {
                            let ahead = t.own[o].wrapping_add(at + 8 * v + DOT_AHEAD);
                            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                        }
                        l[o][v] = _mm512_madd52lo_epu64(l[o][v], x, y[v]);
                        h[o][v] = _mm512_madd52hi_epu64(h[o][v], x, y[v]);
                    }
                }
            }
        }
        for o in 0..O {
            let block = out[o][to..to + 8 * V].as_chunks_mut::<8>().0;
            for v in 0..V {
                store(&mut block[v], sum.reduce::<LONG>(h[o][v], l[o][v]));
            }
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

/// Words of packed halves that are fetched ahead.
const PACKED_AHEAD: usize = 256;

/// 32-bit halves and, where there are, 16 bits above them. The portable twin is `packed::unpack`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn unpack(low: &[u64], high: Option<&[u64]>, out: &mut [u64]) {
    let low = low.as_chunks::<4>().0;
    let out = out.as_chunks_mut::<8>().0;
    // SAFETY: the references cover the 32 and the 16 bytes; the loads need no alignment.
    let lower =
        |w: &[u64; 4]| unsafe { _mm512_cvtepu32_epi64(_mm256_loadu_si256(w.as_ptr().cast())) };
    // what is packed comes from memory, in pieces too short for the processor's own prefetching to pay
    match high {
        None => {
            for (o, w) in out.iter_mut().zip(low) {
                _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(PACKED_AHEAD).cast());
                store(o, lower(w));
            }
        }
        Some(high) => {
            for ((o, w), h) in out.iter_mut().zip(low).zip(high.as_chunks::<2>().0) {
                _mm_prefetch::<_MM_HINT_T0>(w.as_ptr().wrapping_add(PACKED_AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T0>(h.as_ptr().wrapping_add(PACKED_AHEAD / 2).cast());
                // SAFETY: as above.
                let h = unsafe { _mm512_cvtepu16_epi64(_mm_loadu_si128(h.as_ptr().cast())) };
                store(o, _mm512_or_si512(lower(w), _mm512_slli_epi64::<32>(h)));
            }
        }
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
