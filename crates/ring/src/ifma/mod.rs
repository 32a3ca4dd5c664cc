//! AVX-512 IFMA kernels: eight residues per register, 52-bit multiply-add.
//!
//! Every function here enables the features that [`crate::backend::has_ifma`] checks; callers outside this module must have
//! seen `backend() == Ifma`. Each has a portable twin of the same name that gives the same words.

pub(crate) mod convert;
pub(crate) mod limb;
pub(crate) mod ntt;
pub(crate) mod reference;
pub(crate) mod sample;

use std::arch::x86_64::*;

use crate::Modulus;
use crate::modulus::Shoup;

/// A modulus spread over registers.
#[derive(Clone, Copy)]
struct Wide {
    q: __m512i,
    q2: __m512i,
    /// 2^52 - q: multiplies like -q modulo 2^52.
    minus_q: __m512i,
    /// 2^52 - 1.
    mask: __m512i,
}

/// A Shoup factor per lane.
#[derive(Clone, Copy)]
struct Factor {
    w: __m512i,
    ws: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn set(x: u64) -> __m512i {
    _mm512_set1_epi64(x as i64)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn load(x: &[u64; 8]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn store(x: &mut [u64; 8], v: __m512i) {
    // SAFETY: the reference covers the 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(x.as_mut_ptr().cast(), v) }
}

/// The one of a and b that is not negative, or the smaller: for whole numbers between −2^52 and 2^52, exclusive.
///
/// As doubles, whole numbers below 2^52 are in the same order, and negative ones above −2^52 are NaN, for which the instruction
/// gives b. So a may be negative, b not. `vpminuq` shares its pipes with the multiplier on Zen 4 and takes two operations on
/// Intel; this one does neither.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn least(a: __m512i, b: __m512i) -> __m512i {
    _mm512_castpd_si512(_mm512_min_pd(
        _mm512_castsi512_pd(a),
        _mm512_castsi512_pd(b),
    ))
}

/// x - m where x >= m, else x; both below 2^52.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn subtract_if_above(x: __m512i, m: __m512i) -> __m512i {
    least(_mm512_sub_epi64(x, m), x)
}

/// High 52 bits of the 104-bit products of 52-bit words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn high(a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52hi_epu64(_mm512_setzero_si512(), a, b)
}

/// Low 52 bits of the 104-bit products of 52-bit words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn low(a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(_mm512_setzero_si512(), a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn factor(s: Shoup) -> Factor {
    Factor {
        w: set(s.w),
        ws: set(s.ws),
    }
}

impl Wide {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        Wide {
            q: set(q.q),
            q2: set(2 * q.q),
            minus_q: set((1 << 52) - q.q),
            mask: set((1 << 52) - 1),
        }
    }

    /// a·w mod q in [0, 2q), for the lowest 52 bits of a.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn shoup_lazy(&self, a: __m512i, f: Factor) -> __m512i {
        _mm512_and_si512(self.shoup_open(a, f), self.mask)
    }

    /// a·w mod q in [0, 2q) in the lowest 52 bits, for the lowest 52 bits of a.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn shoup_open(&self, a: __m512i, f: Factor) -> __m512i {
        _mm512_madd52lo_epu64(low(a, f.w), high(a, f.ws), self.minus_q)
    }

    /// a·w mod q, canonical, for a < 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn shoup(&self, a: __m512i, f: Factor) -> __m512i {
        subtract_if_above(self.shoup_lazy(a, f), self.q)
    }

    /// a + b, canonical.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn add(&self, a: __m512i, b: __m512i) -> __m512i {
        subtract_if_above(_mm512_add_epi64(a, b), self.q)
    }

    /// a - b, canonical.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn sub(&self, a: __m512i, b: __m512i) -> __m512i {
        let d = _mm512_sub_epi64(a, b);
        least(d, _mm512_add_epi64(d, self.q))
    }

    /// x < 4q made canonical.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn canonical(&self, x: __m512i) -> __m512i {
        subtract_if_above(subtract_if_above(x, self.q2), self.q)
    }

    /// x mod q in [0, 2q) for x < 2^52, with `inv52` = ⌊2^52/q⌋.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce_lazy(&self, x: __m512i, inv52: __m512i) -> __m512i {
        let sum = _mm512_madd52lo_epu64(x, high(x, inv52), self.minus_q);
        _mm512_and_si512(sum, self.mask)
    }
}

/// The constants that reduce a lazy sum of products.
#[derive(Clone, Copy)]
struct Sum {
    wide: Wide,
    inv52: __m512i,
    two52: Factor,
    two92: Factor,
    below_2_40: __m512i,
}

/// The most products whose high words sum below 2^52, carry included: 15·2^48 + 2^12.
const SHORT: usize = 15;

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus) -> Self {
        Sum {
            wide: Wide::new(q),
            inv52: set(q.inv52),
            two52: factor(q.two52),
            two92: factor(q.two92),
            below_2_40: set((1 << 40) - 1),
        }
    }

    /// `h·2^52 + l mod q`, canonical: for h < 2^60 if LONG, else h < 2^52 - 2^12.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn reduce<const LONG: bool>(&self, h: __m512i, l: __m512i) -> __m512i {
        let m = &self.wide;
        let h = _mm512_add_epi64(h, _mm512_srli_epi64::<52>(l));
        if !LONG {
            // Modulo 2^52, and with l its low 52 bits: the remainder is h·(2^52 mod q) - ⌊h·ws/2^52⌋·q < 2q plus
            // l - ⌊l·inv52/2^52⌋·q < 2q, in one sum below 4q < 2^52. The multiplier ignores the bits of l above.
            let quotient = _mm512_madd52hi_epu64(high(l, self.inv52), h, self.two52.ws);
            let sum = _mm512_madd52lo_epu64(l, h, self.two52.w);
            let sum = _mm512_madd52lo_epu64(sum, quotient, m.minus_q);
            return m.canonical(_mm512_and_si512(sum, m.mask));
        }
        let l = m.reduce_lazy(_mm512_and_si512(l, m.mask), self.inv52);
        let middle = m.shoup_lazy(_mm512_and_si512(h, self.below_2_40), self.two52);
        let top = m.shoup_lazy(_mm512_srli_epi64::<40>(h), self.two92);
        let r = subtract_if_above(_mm512_add_epi64(middle, l), m.q2);
        m.canonical(_mm512_add_epi64(r, top))
    }
}
