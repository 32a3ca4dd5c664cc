//! AVX2 and FMA kernels: four residues per register, as doubles that are exact integers.
//!
//! A product of integers x·w is h + l with h = fl(x·w) and l = fma(x, w, -h), both exact. With b an integer near x·w/q, the
//! remainder x·w - b·q = fma(-b, q, h) + l is exact too, since it is an integer below 2^53. Remainders are signed and lie
//! about 0; what the kernels give is canonical. Reference: van der Hoeven, Lecerf, Quintin, *Modular SIMD arithmetic in
//! Mathemagix*, ACM Transactions on Mathematical Software 43 (2016).
//!
//! Every function here enables the features that [`crate::backend::has_avx2`] checks; callers outside this module must have
//! seen `backend() == Avx2`. Each has a portable twin of the same name that gives the same words.

pub(crate) mod convert;
pub(crate) mod limb;
pub(crate) mod ntt;

use std::arch::x86_64::*;

use crate::Modulus;

/// Added to a double below 2^52 in size 2^52, its mantissa holds the integer.
const TWO_52: f64 = (1u64 << 52) as f64;

/// Rounds to integers: the doubles from 2^52 to 2^53 are the integers, and this is their middle.
const MIDDLE: f64 = 1.5 * TWO_52;

#[inline]
#[target_feature(enable = "avx2,fma")]
fn set(x: u64) -> __m256i {
    _mm256_set1_epi64x(x as i64)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(x: &[u64; 4]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(x: &mut [u64; 4], v: __m256i) {
    // SAFETY: the reference covers the 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(x.as_mut_ptr().cast(), v) }
}

/// Words below 2^52 as doubles.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn doubles(x: __m256i) -> __m256d {
    let placed = _mm256_or_si256(x, set(TWO_52.to_bits()));
    _mm256_sub_pd(_mm256_castsi256_pd(placed), _mm256_set1_pd(TWO_52))
}

/// Doubles from 0 to 2^52, rounded to the nearest integer (ties to even), as words.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn words(x: __m256d) -> __m256i {
    let placed = _mm256_add_pd(x, _mm256_set1_pd(TWO_52));
    _mm256_xor_si256(_mm256_castpd_si256(placed), set(TWO_52.to_bits()))
}

/// The integer nearest to x·y, for |x·y| < 2^51.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn nearest(x: __m256d, y: __m256d) -> __m256d {
    let middle = _mm256_set1_pd(MIDDLE);
    _mm256_sub_pd(_mm256_fmadd_pd(x, y, middle), middle)
}

/// `negative` where the sign bit of `x` is set, else `x`; both as words.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn unless_negative(x: __m256i, negative: __m256i) -> __m256i {
    let x = _mm256_castsi256_pd(x);
    _mm256_castpd_si256(_mm256_blendv_pd(x, _mm256_castsi256_pd(negative), x))
}

/// A modulus spread over registers.
#[derive(Clone, Copy)]
struct Wide {
    q: __m256d,
    /// 1/q, rounded.
    inverse: __m256d,
    /// The modulus as words.
    word: __m256i,
}

/// A fixed factor per lane: |w| <= q/2, and w/q, rounded.
#[derive(Clone, Copy)]
struct Factor {
    w: __m256d,
    quotient: __m256d,
}

/// The factor `w` by its representative about 0.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn factor(q: &Modulus, w: u64) -> Factor {
    let w = q.centered(w) as f64;
    Factor {
        w: _mm256_set1_pd(w),
        quotient: _mm256_set1_pd(w / q.q as f64),
    }
}

impl Wide {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(q: &Modulus) -> Self {
        Wide {
            q: _mm256_set1_pd(q.q as f64),
            inverse: _mm256_set1_pd(1.0 / q.q as f64),
            word: set(q.q),
        }
    }

    /// x·w mod q in ±q·(1/2 + |x|/2^55), for |x| < 2^52: the quotient is below 2^51, and that of the factor errs by at most
    /// 2^-55.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn mul(&self, x: __m256d, f: Factor) -> __m256d {
        let h = _mm256_mul_pd(x, f.w);
        let l = _mm256_fmsub_pd(x, f.w, h);
        let b = nearest(x, f.quotient);
        _mm256_add_pd(_mm256_fnmadd_pd(b, self.q, h), l)
    }

    /// x·y mod q in ±3q/4, for x, y in ±q: h and 1/q err by 2^-53 of themselves, so the quotient, below 2^50, by 1/4.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn product(&self, x: __m256d, y: __m256d) -> __m256d {
        let h = _mm256_mul_pd(x, y);
        let l = _mm256_fmsub_pd(x, y, h);
        let b = nearest(h, self.inverse);
        _mm256_add_pd(_mm256_fnmadd_pd(b, self.q, h), l)
    }

    /// x mod q in ±q·(1/2 + 2^-14), for |x| < 2^53.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce(&self, x: __m256d) -> __m256d {
        _mm256_fnmadd_pd(nearest(x, self.inverse), self.q, x)
    }

    /// x in ±q made canonical.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn lift(&self, x: __m256d) -> __m256d {
        let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
        _mm256_add_pd(x, _mm256_and_pd(negative, self.q))
    }

    /// x mod q canonical, for |x| < 2^53.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn canonical(&self, x: __m256d) -> __m256d {
        self.lift(self.reduce(x))
    }

    /// a + b of canonical words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn add(&self, a: __m256i, b: __m256i) -> __m256i {
        let sum = _mm256_add_epi64(a, b);
        unless_negative(_mm256_sub_epi64(sum, self.word), sum)
    }

    /// a - b of canonical words.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sub(&self, a: __m256i, b: __m256i) -> __m256i {
        let d = _mm256_sub_epi64(a, b);
        unless_negative(d, _mm256_add_epi64(d, self.word))
    }
}

/// The bits below which the low halves of products lie.
const SPLIT: u32 = 51;

/// The most products whose high words sum below 2^52, carry included: 7·2^49 + 2^4.
const SHORT: usize = 7;

/// The constants of lazy sums of products.
///
/// A product below 2^100 plus 2^103 is rounded to a multiple of 2^51, so that its mantissa is h = round(xy/2^51) < 2^49 + 1,
/// and l = xy - h·2^51 is exact in ±2^50. Both are summed as the bit patterns of 2^103 + 2^51·h and [`MIDDLE`] + l; the sums
/// start at minus the patterns of the constants.
#[derive(Clone, Copy)]
struct Sum {
    wide: Wide,
    two51: Factor,
    two91: Factor,
    /// What the sums of h and l start from.
    start: (__m256i, __m256i),
}

/// 2^103: its last place is 2^51.
const HIGH: f64 = TWO_52 * (1u64 << SPLIT) as f64;

impl Sum {
    /// For `terms` products, at most 2048.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(q: &Modulus, terms: usize) -> Self {
        // The sum of the l lies in ±2^61: 2^62 more makes it positive, and 2^11 less in the sum of the h undoes that.
        let high = (terms as u64)
            .wrapping_mul(HIGH.to_bits())
            .wrapping_add(1 << (62 - SPLIT));
        let low = (terms as u64)
            .wrapping_mul(MIDDLE.to_bits())
            .wrapping_sub(1 << 62);
        let two51 = q.reduce(1 << SPLIT);
        Sum {
            wide: Wide::new(q),
            two51: factor(q, two51),
            two91: factor(q, q.mul(two51, q.reduce(1 << 40))),
            start: (set(high.wrapping_neg()), set(low.wrapping_neg())),
        }
    }

    /// Adds x·y to (h, l), for x, y from 0 to 2^50.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn add(&self, (h, l): (__m256i, __m256i), x: __m256d, y: __m256d) -> (__m256i, __m256i) {
        let high = _mm256_fmadd_pd(x, y, _mm256_set1_pd(HIGH));
        let low = _mm256_fmadd_pd(x, y, _mm256_sub_pd(_mm256_set1_pd(HIGH + MIDDLE), high));
        (
            _mm256_add_epi64(h, _mm256_castpd_si256(high)),
            _mm256_add_epi64(l, _mm256_castpd_si256(low)),
        )
    }

    /// The sum modulo q, canonical; LONG where it may have more than [`SHORT`] terms.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn finish<const LONG: bool>(&self, (h, l): (__m256i, __m256i)) -> __m256d {
        let h = _mm256_add_epi64(h, _mm256_srli_epi64::<{ SPLIT as i32 }>(l));
        self.wide.lift(self.reduce::<LONG>(h, l))
    }

    /// `h·2^51 + (l mod 2^51)` modulo q, in ±q: for h < 2^61 if LONG, else h < 2^52.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce<const LONG: bool>(&self, h: __m256i, l: __m256i) -> __m256d {
        let m = &self.wide;
        let l = doubles(_mm256_and_si256(l, set((1 << SPLIT) - 1)));
        if !LONG {
            return m.reduce(_mm256_add_pd(l, m.mul(doubles(h), self.two51)));
        }
        let middle = _mm256_and_si256(h, set((1 << 40) - 1));
        let top = m.mul(doubles(_mm256_srli_epi64::<40>(h)), self.two91);
        let sum = _mm256_add_pd(l, m.mul(doubles(middle), self.two51));
        m.reduce(_mm256_add_pd(sum, top))
    }
}
