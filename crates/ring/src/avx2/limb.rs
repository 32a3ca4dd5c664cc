//! One-limb kernels; lengths are multiples of 8, checked by `crate::limb`.

use std::arch::x86_64::*;

use super::{SHORT, Sum, Wide, doubles, factor, load, set, store, words};
use crate::modulus::Shoup;
use crate::vector::{Term, limb_kernels};
use crate::{Modulus, portable};

limb_kernels!("avx2,fma", __m256i, 4, 2, 1);

/// Of two variable residues.
struct Product(Wide);

impl Product {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(q: &Modulus) -> Self {
        Product(Wide::new(q))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mul(&self, a: __m256i, b: __m256i) -> __m256i {
        words(self.0.lift(self.0.product(doubles(a), doubles(b))))
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn mul_scalar(q: &Modulus, a: &mut [u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(q, s.w));
    one(a, |a| words(m.lift(m.mul(doubles(a), s))));
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn mul_scalar_to(q: &Modulus, out: &mut [u64], a: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(q, s.w));
    two(out, a, |_, a| words(m.lift(m.mul(doubles(a), s))));
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn mul_scalar_add(q: &Modulus, acc: &mut [u64], a: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(q, s.w));
    two(acc, a, |o, a| {
        words(m.canonical(_mm256_add_pd(doubles(o), m.mul(doubles(a), s))))
    });
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn sub_mul_scalar(q: &Modulus, a: &mut [u64], b: &[u64], s: Shoup) {
    let (m, s) = (Wide::new(q), factor(q, s.w));
    two(a, b, |a, b| {
        words(m.lift(m.mul(_mm256_sub_pd(doubles(a), doubles(b)), s)))
    });
}

impl<const O: usize> Term<O> {
    /// The shared factor of the four elements from `at` on.
    ///
    /// # Safety
    /// `at` is a multiple of 4 and at + 4 is at most the length that [`Self::new`] was given.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn shared(&self, at: usize) -> __m256d {
        // SAFETY: the shared factor has at least (at + 4) >> shift words, and one more than at >> shift.
        unsafe {
            let from = self.shared.add(at >> self.shift);
            doubles(match self.shift {
                0 => _mm256_loadu_si256(from.cast()),
                1 => {
                    let both = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
                    _mm256_permute4x64_epi64::<0b01_01_00_00>(both)
                }
                _ => set(*from),
            })
        }
    }
}

/// # Safety
/// Every output has the length, a multiple of 8, that the terms were made for; V is 1 or 2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots<const O: usize, const V: usize>(
    q: &Modulus,
    out: [&mut [u64]; O],
    terms: Vec<Term<O>>,
) {
    let sum = Sum::new(q, terms.len());
    // Many factors at the same place of their pages share the few lines of one set of the first-level cache: a line must be
    // used up while it is there, so 16 registers of each are taken in turn, the next 16 are fetched, and the sums wait on the
    // stack.
    let tiles = terms.len() > SHORT && out[0].len().is_multiple_of(64);
    // SAFETY: as the caller's; 16 registers hold 64 words.
    unsafe {
        if tiles {
            dot_blocks::<O, true, 16>(&sum, out, &terms)
        } else if terms.len() > SHORT {
            dot_blocks::<O, true, V>(&sum, out, &terms)
        } else {
            dot_blocks::<O, false, V>(&sum, out, &terms)
        }
    }
}

/// Sums V registers of each output at a time.
///
/// # Safety
/// As for [`dots`], and the length is a multiple of 4·V.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_blocks<const O: usize, const LONG: bool, const V: usize>(
    sum: &Sum,
    out: [&mut [u64]; O],
    terms: &[Term<O>],
) {
    for at in (0..out[0].len()).step_by(4 * V) {
        let mut sums = [[sum.start; V]; O];
        for t in terms {
            for v in 0..V {
                // SAFETY: at + 4·V <= the length, so the factors have four words from at + 4·v on.
                unsafe {
                    let y = t.shared(at + 4 * v);
                    if V > 2 && v % 2 == 0 && t.shift == 0 {
                        _mm_prefetch::<_MM_HINT_T1>(t.shared.wrapping_add(at + 4 * (V + v)).cast());
                    }
                    for (sums, own) in sums.iter_mut().zip(t.own) {
                        let x = doubles(_mm256_loadu_si256(own.add(at + 4 * v).cast()));
                        if V > 2 && v % 2 == 0 {
                            _mm_prefetch::<_MM_HINT_T1>(own.wrapping_add(at + 4 * (V + v)).cast());
                        }
                        sums[v] = sum.add(sums[v], x, y);
                    }
                }
            }
        }
        for o in 0..O {
            let block = out[o][at..at + 4 * V].as_chunks_mut::<4>().0;
            for v in 0..V {
                store(&mut block[v], words(sum.finish::<LONG>(sums[o][v])));
            }
        }
    }
}

/// Eight elements of `a`: from one aligned group by register permutations where the indices allow it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn gather(a: &[u64], p: &[u32; 8]) -> [__m256i; 2] {
    // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
    let index = unsafe { _mm256_loadu_si256(p.as_ptr().cast()) };
    let group = p[0] >> 3;
    let other = _mm256_xor_si256(index, _mm256_set1_epi32((group << 3) as i32));
    if _mm256_testz_si256(other, _mm256_set1_epi32(!7)) == 0 {
        let (low, high) = p.split_at(4);
        let four = |p: &[u32]| {
            let at = |i: usize| a[p[i] as usize] as i64;
            _mm256_set_epi64x(at(3), at(2), at(1), at(0))
        };
        return [four(low), four(high)];
    }
    let group = a.as_chunks::<8>().0[group as usize].as_chunks::<4>().0;
    let (g0, g1) = (load(&group[0]), load(&group[1]));
    let four = |p: __m128i| {
        // Word i is halves 2i and 2i + 1; the permutation takes the lowest three bits.
        let twice = _mm256_slli_epi64::<1>(_mm256_cvtepu32_epi64(p));
        let odd = _mm256_add_epi64(twice, set(1));
        let halves = _mm256_or_si256(twice, _mm256_slli_epi64::<32>(odd));
        let (low, high) = (
            _mm256_permutevar8x32_epi32(g0, halves),
            _mm256_permutevar8x32_epi32(g1, halves),
        );
        // Bit 2 of the index chooses the register.
        let choice = _mm256_slli_epi64::<60>(twice);
        _mm256_castpd_si256(_mm256_blendv_pd(
            _mm256_castsi256_pd(low),
            _mm256_castsi256_pd(high),
            _mm256_castsi256_pd(choice),
        ))
    };
    [
        four(_mm256_castsi256_si128(other)),
        four(_mm256_extracti128_si256::<1>(other)),
    ]
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn permute(out: &mut [u64], a: &[u64], perm: &[u32]) {
    let (out, perm) = (out.as_chunks_mut::<8>().0, perm.as_chunks::<8>().0);
    for (o, p) in out.iter_mut().zip(perm) {
        let o = o.as_chunks_mut::<4>().0;
        let [x, y] = gather(a, p);
        store(&mut o[0], x);
        store(&mut o[1], y);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn permute_add(q: &Modulus, acc: &mut [u64], a: &[u64], perm: &[u32]) {
    let m = Wide::new(q);
    let (acc, perm) = (acc.as_chunks_mut::<8>().0, perm.as_chunks::<8>().0);
    for (o, p) in acc.iter_mut().zip(perm) {
        let o = o.as_chunks_mut::<4>().0;
        let [x, y] = gather(a, p);
        let (x, y) = (m.add(load(&o[0]), x), m.add(load(&o[1]), y));
        store(&mut o[0], x);
        store(&mut o[1], y);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn from_i64(q: &Modulus, out: &mut [u64], x: &[i64]) {
    let s = Sum::new(q, 0);
    let out = out.as_chunks_mut::<4>().0;
    for (o, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
        // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
        let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        let sign = _mm256_cmpgt_epi64(_mm256_setzero_si256(), x);
        let size = _mm256_sub_epi64(_mm256_xor_si256(x, sign), sign);
        let r = s.reduce::<false>(_mm256_srli_epi64::<{ super::SPLIT as i32 }>(size), size);
        let minus = _mm256_castsi256_pd(_mm256_slli_epi64::<63>(sign));
        store(o, words(s.wide.lift(_mm256_xor_pd(r, minus))));
    }
}

/// 32-bit halves and, where there are, 16 bits above them. The portable twin is `packed::unpack`.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn unpack(low: &[u64], high: Option<&[u64]>, out: &mut [u64]) {
    let low = low.as_chunks::<2>().0;
    let out = out.as_chunks_mut::<4>().0;
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    let lower = |w: &[u64; 2]| unsafe { _mm256_cvtepu32_epi64(_mm_loadu_si128(w.as_ptr().cast())) };
    match high {
        None => out
            .iter_mut()
            .zip(low)
            .for_each(|(o, w)| store(o, lower(w))),
        Some(high) => {
            for ((o, w), h) in out.iter_mut().zip(low).zip(high) {
                let h = _mm256_cvtepu16_epi64(_mm_set_epi64x(0, *h as i64));
                store(o, _mm256_or_si256(lower(w), _mm256_slli_epi64::<32>(h)));
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn lift_centered(from: &Modulus, to: &Modulus, out: &mut [u64], x: &[u64]) {
    let m = Wide::new(to);
    let (whole, half) = (
        _mm256_set1_pd(from.q as f64),
        _mm256_set1_pd((from.q / 2) as f64),
    );
    two(out, x, |_, x| {
        let x = doubles(x);
        let above = _mm256_cmp_pd::<_CMP_GT_OQ>(x, half);
        words(m.canonical(_mm256_sub_pd(x, _mm256_and_pd(above, whole))))
    });
}
