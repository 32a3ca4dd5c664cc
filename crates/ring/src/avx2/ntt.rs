//! The NTT in radix-2^K passes, depth first, with the last two layers of every 8 elements in registers.
//!
//! Between the first and the last pass the limb holds the bits of doubles. A factor times anything below 2^52 in size lies in
//! ±0.63q; only what is added to it grows, by as much per layer, and is reduced as seldom as 2^52 allows.

use std::arch::x86_64::*;

use super::{Factor, Wide, doubles, factor, words};
use crate::Modulus;
use crate::modulus::Shoup;

/// The smallest size that these kernels take.
pub(crate) const LEAST: usize = 64;

/// Moduli below this need no reduction in the forward transform (17 layers reach 9.7q) and one of sums per pass in the inverse
/// one, where five layers from canonical residues reach 32q.
const LOOSE: u64 = 1 << 47;

/// The twiddles of a table as factors for these kernels, in the table's order.
pub(crate) struct Twiddles {
    w: Vec<f64>,
    quotients: Vec<f64>,
}

impl Twiddles {
    pub(crate) fn new(q: &Modulus, w: &[u64]) -> Self {
        let w: Vec<f64> = w.iter().map(|&w| q.centered(w) as f64).collect();
        let quotients = w.iter().map(|w| w / q.q as f64).collect();
        Twiddles { w, quotients }
    }
}

/// How many layers the next pass takes when `layers` remain above the last five.
fn pass_layers(layers: u32) -> u32 {
    match layers {
        1 => 1,
        2 | 4 => 2,
        _ => 3,
    }
}

/// One transform: the modulus, the tables and the limb.
struct Transform {
    m: Wide,
    w: *const f64,
    quotients: *const f64,
    a: *mut u64,
    n: usize,
    loose: bool,
}

impl Transform {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(q: &Modulus, table: &Twiddles, a: &mut [u64]) -> Self {
        let n = a.len();
        assert!(n.is_power_of_two() && n >= LEAST && table.w.len() >= n);
        Transform {
            m: Wide::new(q),
            w: table.w.as_ptr(),
            quotients: table.quotients.as_ptr(),
            a: a.as_mut_ptr(),
            n,
            loose: q.q < LOOSE,
        }
    }

    /// # Safety
    /// `i < self.n`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn twiddle(&self, i: usize) -> Factor {
        // SAFETY: both tables have n words.
        unsafe {
            Factor {
                w: _mm256_broadcast_sd(&*self.w.add(i)),
                quotient: _mm256_broadcast_sd(&*self.quotients.add(i)),
            }
        }
    }

    /// `lanes` of each table from place i on.
    ///
    /// # Safety
    /// `lanes` may read from i on.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn lanes(&self, i: usize, lanes: impl Fn(*const f64) -> __m256d) -> Factor {
        // SAFETY: i lies in the tables.
        unsafe {
            Factor {
                w: lanes(self.w.add(i)),
                quotient: lanes(self.quotients.add(i)),
            }
        }
    }
}

/// The first two elements of each of two groups of four, and the last two.
///
/// # Safety
/// Eight words at `p` may be read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_halves(p: *const u64) -> (__m256d, __m256d) {
    // SAFETY: the offsets are below 8.
    unsafe {
        let two = |i: usize| _mm_loadu_pd(p.add(i).cast());
        (
            _mm256_set_m128d(two(4), two(0)),
            _mm256_set_m128d(two(6), two(2)),
        )
    }
}

/// Undoes [`load_halves`].
///
/// # Safety
/// Eight words at `p` may be written.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_halves(p: *mut u64, x: __m256d, y: __m256d) {
    // SAFETY: the offsets are below 8.
    unsafe {
        _mm_storeu_pd(p.cast(), _mm256_castpd256_pd128(x));
        _mm_storeu_pd(p.add(2).cast(), _mm256_castpd256_pd128(y));
        _mm_storeu_pd(p.add(4).cast(), _mm256_extractf128_pd::<1>(x));
        _mm_storeu_pd(p.add(6).cast(), _mm256_extractf128_pd::<1>(y));
    }
}

/// The even elements of what [`load_halves`] gives, and the odd ones; undoes itself.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn parities(x: __m256d, y: __m256d) -> (__m256d, __m256d) {
    (_mm256_unpacklo_pd(x, y), _mm256_unpackhi_pd(x, y))
}

/// The portable twin is `portable::forward`.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn forward(q: &Modulus, table: &Twiddles, a: &mut [u64]) {
    let t = Transform::new(q, table, a);
    let layers = t.n.trailing_zeros() - 5;
    // SAFETY: the one block of size n at level 1. Canonical residues are as large as after one layer.
    unsafe { forward_block(&t, layers, 0, 1) }
}

/// The most layers from one reduction to the next whose results may still be multiplied, for moduli that are not loose.
///
/// With q < 2^50, elements in ±c·q go to ±(c + 1/2 + c/32)q. The layer that reduces gives 9/8, and five more give
/// 1.66, 2.21, 2.78, 3.37, 3.97 < 4; the next, 4.60, may only be reduced.
const SPAN: u32 = 6;

/// All layers of block `i` of size 32·2^layers, whose elements are as large as `used` layers after a reduction.
///
/// # Safety
/// Block `i` of that size lies in the limb; layers > 0.
#[target_feature(enable = "avx2,fma")]
unsafe fn forward_block(t: &Transform, layers: u32, i: usize, used: u32) {
    // SAFETY: the 2^k blocks that begin at i·2^k are the parts of block i.
    unsafe {
        let k = pass_layers(layers);
        let (first, reduce) = (32 << layers == t.n, !t.loose && used + k > SPAN);
        match (k, first, reduce) {
            (1, true, _) => forward_pass::<2, true, false>(t, layers, i),
            (1, _, false) => forward_pass::<2, false, false>(t, layers, i),
            (1, _, true) => forward_pass::<2, false, true>(t, layers, i),
            (2, true, _) => forward_pass::<4, true, false>(t, layers, i),
            (2, _, false) => forward_pass::<4, false, false>(t, layers, i),
            (2, _, true) => forward_pass::<4, false, true>(t, layers, i),
            (_, true, _) => forward_pass::<8, true, false>(t, layers, i),
            (_, _, false) => forward_pass::<8, false, false>(t, layers, i),
            (_, _, true) => forward_pass::<8, false, true>(t, layers, i),
        }
        let used = if reduce { k } else { used + k };
        let parts = i << k..(i + 1) << k;
        if layers > k {
            parts.for_each(|part| forward_block(t, layers - k, part, used));
        } else {
            // Step by step for all parts: one part alone is a single long chain of dependent operations.
            for part in parts.clone() {
                if t.loose || used + 5 <= SPAN + 1 {
                    forward_pass::<8, false, false>(t, 0, part);
                } else {
                    forward_pass::<8, false, true>(t, 0, part);
                }
            }
            parts.for_each(|part| forward_last(t, part));
        }
    }
}

/// The first log2 R layers of block `i` of size 32·2^layers; FIRST takes words, REDUCE reduces what is not multiplied.
///
/// # Safety
/// As for [`forward_block`], and log2 R <= layers.
#[target_feature(enable = "avx2,fma")]
unsafe fn forward_pass<const R: usize, const FIRST: bool, const REDUCE: bool>(
    t: &Transform,
    layers: u32,
    i: usize,
) {
    let size = 32usize << layers;
    let (blocks, stride) = (t.n / size, size / R);
    let m = t.m;
    // SAFETY: twiddle indices are below R·blocks <= n; the addresses are i·size + j + k·stride + lane < n.
    unsafe {
        let f = factors::<R, true>(t, blocks, i);
        let start = t.a.add(i * size);
        for j in (0..stride).step_by(4) {
            let p = start.add(j);
            let mut v = [_mm256_setzero_pd(); R];
            for (k, v) in v.iter_mut().enumerate() {
                let x = _mm256_loadu_si256(p.add(k * stride).cast());
                *v = if FIRST {
                    doubles(x)
                } else {
                    _mm256_castsi256_pd(x)
                };
            }
            forward_layers::<R, REDUCE>(&m, &mut v, &f);
            for (k, v) in v.iter().enumerate() {
                _mm256_storeu_pd(p.add(k * stride).cast(), *v);
            }
        }
    }
}

/// The factors of log2 R layers of block `i` of `blocks`: `f[2^level + g]` is that of group g at that level. Those of the inverse
/// transform are mirrored.
///
/// # Safety
/// R·blocks <= n and i < blocks.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn factors<const R: usize, const FORWARD: bool>(
    t: &Transform,
    blocks: usize,
    i: usize,
) -> [Factor; R] {
    let mut f = [Factor {
        w: _mm256_setzero_pd(),
        quotient: _mm256_setzero_pd(),
    }; R];
    for (k, f) in f.iter_mut().enumerate().skip(1) {
        let level = usize::BITS - 1 - k.leading_zeros();
        let group = k - (1 << level);
        let at = if FORWARD {
            ((blocks + i) << level) + group
        } else {
            // Index 2M - 1 - (i·2^level + group) with M = blocks·2^level.
            ((2 * blocks - i) << level) - 1 - group
        };
        // SAFETY: below R·blocks.
        *f = unsafe { t.twiddle(at) };
    }
    f
}

/// log2 R layers of butterflies between registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn forward_layers<const R: usize, const REDUCE: bool>(
    m: &Wide,
    v: &mut [__m256d; R],
    f: &[Factor; R],
) {
    if REDUCE {
        v[..R / 2].iter_mut().for_each(|u| *u = m.reduce(*u));
    }
    if R > 4 {
        forward_layer::<R, 4>(m, v, f);
    }
    if R > 2 {
        forward_layer::<R, 2>(m, v, f);
    }
    forward_layer::<R, 1>(m, v, f);
}

/// One layer between registers that lie HALF apart; constant bounds, so that it becomes straight-line code.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn forward_layer<const R: usize, const HALF: usize>(
    m: &Wide,
    v: &mut [__m256d; R],
    f: &[Factor; R],
) {
    for pair in 0..R / 2 {
        let (group, lane) = (pair / HALF, pair % HALF);
        let x = 2 * HALF * group + lane;
        (v[x], v[x + HALF]) = butterfly(m, v[x], v[x + HALF], f[R / (2 * HALF) + group]);
    }
}

/// (x + y·w, x − y·w), for y below 2^52.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn butterfly(m: &Wide, x: __m256d, y: __m256d, f: Factor) -> (__m256d, __m256d) {
    let t = m.mul(y, f);
    (_mm256_add_pd(x, t), _mm256_sub_pd(x, t))
}

/// (x + y, (y − x)·w), for differences below 2^52.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_butterfly(m: &Wide, x: __m256d, y: __m256d, f: Factor) -> (__m256d, __m256d) {
    (_mm256_add_pd(x, y), m.mul(_mm256_sub_pd(y, x), f))
}

/// The last two layers of block `b` of 32 elements; gives canonical words.
///
/// # Safety
/// `32·b < t.n`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn forward_last(t: &Transform, b: usize) {
    let m = t.m;
    // SAFETY: the block's 32 words lie in the limb; the layers of strides 2 and 1 have n/4 and n/2 twiddles, from there on.
    unsafe {
        let p = t.a.add(32 * b);
        for k in (0..8).step_by(2) {
            // Two groups of four: in lanes 0 and 1 the first.
            let (x, y) = load_halves(p.add(4 * k));
            let f = t.lanes(t.n / 4 + 8 * b + k, |w| {
                _mm256_permute_pd::<0b1100>(_mm256_broadcast_pd(&*w.cast()))
            });
            let (x, y) = butterfly(&m, x, y, f);
            let (x, y) = parities(x, y);
            let f = t.lanes(t.n / 2 + 16 * b + 2 * k, |w| _mm256_loadu_pd(w));
            let (x, y) = butterfly(&m, x, y, f);
            let canonical = |x| _mm256_castsi256_pd(words(m.canonical(x)));
            let (x, y) = parities(canonical(x), canonical(y));
            store_halves(p.add(4 * k), x, y);
        }
    }
}

/// The portable twin is `portable::inverse`.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn inverse(q: &Modulus, table: &Twiddles, w1: u64, scale: Shoup, a: &mut [u64]) {
    let t = Transform::new(q, table, a);
    let layers = t.n.trailing_zeros() - 5;
    // The last layer multiplies by 1/n too.
    let scale = [factor(q, scale.w), factor(q, q.mul(scale.w, w1))];
    // SAFETY: the one block of size n at level 1.
    unsafe {
        if t.loose {
            inverse_block::<false>(&t, layers, 0, &scale)
        } else {
            inverse_block::<true>(&t, layers, 0, &scale)
        }
    }
}

/// All layers of block `i` of size 32·2^layers; leaves elements in ±0.58q, see [`inverse_layers`].
///
/// # Safety
/// Block `i` of that size lies in the limb; layers > 0.
#[target_feature(enable = "avx2,fma")]
unsafe fn inverse_block<const TIGHT: bool>(
    t: &Transform,
    layers: u32,
    i: usize,
    scale: &[Factor; 2],
) {
    // SAFETY: the 2^k blocks that begin at i·2^k are the parts of block i.
    unsafe {
        let k = pass_layers(layers);
        let parts = i << k..(i + 1) << k;
        if layers > k {
            parts.for_each(|part| inverse_block::<TIGHT>(t, layers - k, part, scale));
        } else {
            parts
                .clone()
                .for_each(|part| inverse_first::<TIGHT>(t, part));
            parts.for_each(|part| inverse_pass::<8, TIGHT, false>(t, 0, part, scale));
        }
        match (k, 32 << layers == t.n) {
            (1, false) => inverse_pass::<2, TIGHT, false>(t, layers, i, scale),
            (1, true) => inverse_pass::<2, TIGHT, true>(t, layers, i, scale),
            (2, false) => inverse_pass::<4, TIGHT, false>(t, layers, i, scale),
            (2, true) => inverse_pass::<4, TIGHT, true>(t, layers, i, scale),
            (_, false) => inverse_pass::<8, TIGHT, false>(t, layers, i, scale),
            (_, true) => inverse_pass::<8, TIGHT, true>(t, layers, i, scale),
        }
    }
}

/// The last log2 R layers of block `i` of size 32·2^layers; if LAST, multiplies by `scale[0]` = 1/n as well (`scale[1]` = 1/n
/// times the last twiddle) and gives canonical words.
///
/// # Safety
/// As for [`inverse_block`], and log2 R <= layers.
#[target_feature(enable = "avx2,fma")]
unsafe fn inverse_pass<const R: usize, const TIGHT: bool, const LAST: bool>(
    t: &Transform,
    layers: u32,
    i: usize,
    scale: &[Factor; 2],
) {
    let size = 32usize << layers;
    let (blocks, stride) = (t.n / size, size / R);
    let m = t.m;
    // SAFETY: the mirrored twiddle indices are below R·blocks <= n; the addresses are i·size + j + k·stride + lane < n.
    unsafe {
        let f = factors::<R, false>(t, blocks, i);
        let start = t.a.add(i * size);
        for j in (0..stride).step_by(4) {
            let p = start.add(j);
            let mut v = [_mm256_setzero_pd(); R];
            for (k, v) in v.iter_mut().enumerate() {
                *v = _mm256_loadu_pd(p.add(k * stride).cast());
            }
            inverse_layers::<R, TIGHT, LAST>(&m, &mut v, &f);
            if LAST {
                for x in 0..R / 2 {
                    let y = x + R / 2;
                    let (s, d) = (_mm256_add_pd(v[x], v[y]), _mm256_sub_pd(v[y], v[x]));
                    v[x] = m.lift(m.mul(s, scale[0]));
                    v[y] = m.lift(m.mul(d, scale[1]));
                }
            }
            for (k, v) in v.iter().enumerate() {
                if LAST {
                    _mm256_storeu_si256(p.add(k * stride).cast(), words(*v));
                } else {
                    _mm256_storeu_pd(p.add(k * stride).cast(), *v);
                }
            }
        }
    }
}

/// The layers of strides 1, 2, … between registers, without the last if LAST.
///
/// Sums double from layer to layer. From ±0.58q, products are in ±0.58q and the sum of four in ±2.32q, so that a third layer's
/// differences would pass 2^52 for q above 2^49.7: TIGHT reduces those sums before it. The sums of the last layer are reduced.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_layers<const R: usize, const TIGHT: bool, const LAST: bool>(
    m: &Wide,
    v: &mut [__m256d; R],
    f: &[Factor; R],
) {
    let end = if LAST { R / 2 } else { R };
    if end > 1 {
        inverse_layer::<R, 1>(m, v, f);
    }
    if end > 2 {
        inverse_layer::<R, 2>(m, v, f);
    }
    if R > 4 && TIGHT {
        v.iter_mut().step_by(4).for_each(|v| *v = m.reduce(*v));
    }
    if end > 4 {
        inverse_layer::<R, 4>(m, v, f);
    }
    if !LAST {
        v[..R / 2].iter_mut().for_each(|v| *v = m.reduce(*v));
    }
}

/// One inverse layer between registers that lie HALF apart, as [`forward_layer`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn inverse_layer<const R: usize, const HALF: usize>(
    m: &Wide,
    v: &mut [__m256d; R],
    f: &[Factor; R],
) {
    for pair in 0..R / 2 {
        let (group, lane) = (pair / HALF, pair % HALF);
        let x = 2 * HALF * group + lane;
        (v[x], v[x + HALF]) = inverse_butterfly(m, v[x], v[x + HALF], f[R / (2 * HALF) + group]);
    }
}

/// The first two inverse layers of block `b` of 32 elements. Takes canonical words, leaves doubles in ±0.58q, sums below 4q if
/// not TIGHT.
///
/// # Safety
/// `32·b < t.n`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn inverse_first<const TIGHT: bool>(t: &Transform, b: usize) {
    let m = t.m;
    // SAFETY: the block's 32 words lie in the limb; the mirrored twiddles of strides 2 and 1 lie in the second quarter and in the
    // second half of the tables.
    unsafe {
        let p = t.a.add(32 * b);
        for k in (0..8).step_by(2) {
            let (x, y) = load_halves(p.add(4 * k));
            let (x, y) = parities(x, y);
            let (x, y) = (
                doubles(_mm256_castpd_si256(x)),
                doubles(_mm256_castpd_si256(y)),
            );
            let f = t.lanes(t.n - 4 - 16 * b - 2 * k, |w| {
                _mm256_permute4x64_pd::<0b00_01_10_11>(_mm256_loadu_pd(w))
            });
            let (x, y) = inverse_butterfly(&m, x, y, f);
            let (x, y) = parities(x, y);
            let f = t.lanes(t.n / 2 - 2 - 8 * b - k, |w| {
                _mm256_permute_pd::<0b0011>(_mm256_broadcast_pd(&*w.cast()))
            });
            let (x, y) = inverse_butterfly(&m, x, y, f);
            // Sums of four residues, below 4q, and of two products.
            let x = if TIGHT { m.reduce(x) } else { x };
            store_halves(p.add(4 * k), x, y);
        }
    }
}
