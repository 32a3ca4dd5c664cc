//! The NTT in radix-2^K passes, depth first, with the last seven layers of every 128 elements in registers.
//!
//! A pass takes K layers of one block with 2^K strided registers, then goes on with each of the 2^K smaller blocks, so that
//! a limb of 2^16 leaves the second-level cache once: the blocks of the second pass fit the first.
//!
//! For OPEN moduli, those below [`OPEN_LIMIT`], no butterfly corrects anything: elements grow, and only their lowest 52 bits
//! mean anything, which is all that the multiplier reads. Others keep elements within 4q by a correction in each butterfly; what
//! is left undone in it depends on whether its results are added or multiplied next.

use std::arch::x86_64::*;

use super::{Factor, Wide, factor, high, least, set, subtract_if_above};
use crate::Modulus;
use crate::modulus::Shoup;

/// The smallest size that these kernels take.
pub(crate) const LEAST: usize = 128;

/// Below this, 35q < 2^52: what a transform of 17 layers grows to from below q by 2q per layer.
const OPEN_LIMIT: u64 = (1 << 52) / 35;

/// How many blocks of 64 elements ahead the twiddles are prefetched: one limb's tables come from memory, not from a cache.
const AHEAD: isize = 8;

/// How many words ahead the limb itself is prefetched by the inverse transform.
const DATA_AHEAD: usize = 768;

/// How many layers the next pass takes when `layers` remain above the last seven.
///
/// Blocks of more than 16 KiB go by eighths: 16 lines that lie a multiple of 4 KiB apart do not fit their one set of the
/// first-level cache.
fn pass_layers(layers: u32) -> u32 {
    match layers {
        1 | 2 | 4 => layers,
        _ => 3,
    }
}

/// One transform: the modulus, the tables and the limb.
struct Transform {
    m: Wide,
    w: *const u64,
    ws: *const u64,
    tail: *const u64,
    a: *mut u64,
    /// Where the inverse transform finds what it writes to `a`: `a` itself or as many words elsewhere.
    from: *const u64,
    n: usize,
    /// ⌊2^52/q⌋.
    inv52: __m512i,
}

impl Transform {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn new(q: &Modulus, w: &[u64], ws: &[u64], tail: &[u64], a: &mut [u64]) -> Self {
        let n = a.len();
        assert!(
            n.is_power_of_two()
                && n >= LEAST
                && w.len() == n
                && ws.len() == n
                && tail.len() == 6 * n / 8
        );
        let a = a.as_mut_ptr();
        Transform {
            m: Wide::new(q),
            w: w.as_ptr(),
            ws: ws.as_ptr(),
            tail: tail.as_ptr(),
            a,
            from: a.cast_const(),
            n,
            inv52: set(q.inv52),
        }
    }

    /// # Safety
    /// `i < self.n`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    unsafe fn twiddle(&self, i: usize) -> Factor {
        // SAFETY: both tables have n words.
        unsafe {
            Factor {
                w: set(*self.w.add(i)),
                ws: set(*self.ws.add(i)),
            }
        }
    }

    /// The lane-wise twiddles of block b of 64 elements; prefetches those of block `ahead`, which need not exist.
    ///
    /// # Safety
    /// `64·b < self.n`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    unsafe fn tail(&self, b: usize, ahead: isize) -> Tail {
        // SAFETY: the table has 48 words per block, 16 per twiddle; the first four words of w and ws always exist.
        unsafe {
            let p = self.tail.add(48 * b);
            for line in 0..6 {
                _mm_prefetch::<_MM_HINT_T0>(
                    self.tail.wrapping_offset(48 * ahead + 8 * line).cast(),
                );
            }
            let lanes = |at: usize| Factor {
                w: _mm512_loadu_si512(p.add(at).cast()),
                ws: _mm512_loadu_si512(p.add(at + 8).cast()),
            };
            Tail {
                lanes: [lanes(0), lanes(16), lanes(32)],
                turns: [self.twiddle(1), self.twiddle(2), self.twiddle(3)],
            }
        }
    }
}

/// Twiddles of the layers of strides 4, 2, 1 after a transposition, lane g being group g of 8 elements.
struct Tail {
    /// The first twiddle of each group at strides 4, 2, 1.
    lanes: [Factor; 3],
    /// ψ^(N/2), ψ^(N/4), ψ^(3N/4): what the others of the group are turned by.
    turns: [Factor; 3],
}

impl Tail {
    /// x times twiddle number c of the layer that has 2^level twiddles per group, as [`times`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
    fn mul<const OPEN: bool>(&self, m: &Wide, x: __m512i, level: usize, c: usize) -> __m512i {
        if c == 0 {
            times::<OPEN>(m, x, self.lanes[level])
        } else {
            times::<OPEN>(m, m.shoup_open(x, self.lanes[level]), self.turns[c - 1])
        }
    }
}

/// x·w modulo q in [0, 2q), if OPEN in the lowest 52 bits only; reads those of x.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn times<const OPEN: bool>(m: &Wide, x: __m512i, f: Factor) -> __m512i {
    if OPEN {
        m.shoup_open(x, f)
    } else {
        m.shoup_lazy(x, f)
    }
}

/// What the forward transform knows of a butterfly's x before it, where moduli are not OPEN.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// 0 <= x < 2q.
    Low,
    /// 0 <= x < 4q.
    Positive,
    /// −2q < x < 2q: a difference that [`After::Added`] left.
    Signed,
}

/// What the forward transform does next with a butterfly's results, where moduli are not OPEN.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Both are the x of their next butterfly: 0 <= sum < 4q, and the difference is between −2q and 2q.
    Added,
    /// Both are the y of their next butterfly: from 0 to 4q in the lowest 52 bits, which are all that the multiplier reads.
    Multiplied,
    /// From 0 to 4q.
    Any,
}

/// (x, y) → (x + t, x − t) with t = y·w below 2q, of which `t` gives the lowest 52 bits. If OPEN both grow by 2q; else y is below 4q
/// in the lowest 52 bits, x is as `before` says, and what is left as `after` says: 8 operations instead of 9 for either use.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn butterfly<const OPEN: bool>(
    m: &Wide,
    v: &mut [__m512i],
    (x, y): (usize, usize),
    (before, after): (Before, After),
    t: impl Fn(__m512i) -> __m512i,
) {
    let u = match before {
        _ if OPEN => v[x],
        Before::Low => v[x],
        Before::Positive => subtract_if_above(v[x], m.q2),
        Before::Signed => least(v[x], _mm512_add_epi64(v[x], m.q2)),
    };
    let mut t = t(v[y]);
    if !OPEN && after != After::Multiplied {
        t = _mm512_and_si512(t, m.mask);
    }
    v[x] = _mm512_add_epi64(u, t);
    let u = if !OPEN && after == After::Added {
        u
    } else {
        _mm512_add_epi64(u, m.q2)
    };
    v[y] = _mm512_sub_epi64(u, t);
}

/// How a butterfly of lane `lane` of group `group` stands between the layers before and after it of the same registers, whose
/// pairs lie 2·half and half/2 apart; `first` is for the first layer, `last` for the last one.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn between(
    (first, last): (Option<Before>, After),
    group: usize,
    lane: usize,
    half: usize,
) -> (Before, After) {
    let before = match first {
        Some(first) => first,
        None if group % 2 == 1 => Before::Signed,
        None => Before::Positive,
    };
    let after = match half {
        1 => last,
        _ if lane < half / 2 => After::Added,
        _ => After::Multiplied,
    };
    (before, after)
}

/// (x, y) → (x + y, (y − x)·w), the product by `t` to below 2q. Both are below `bound` before; the sum is below 2q after, or if
/// OPEN below 2·bound.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn inverse_butterfly<const OPEN: bool>(
    m: &Wide,
    bound: __m512i,
    v: &mut [__m512i],
    x: usize,
    y: usize,
    t: impl Fn(__m512i) -> __m512i,
) {
    let d = _mm512_sub_epi64(_mm512_add_epi64(v[y], bound), v[x]);
    let s = _mm512_add_epi64(v[x], v[y]);
    v[x] = if OPEN { s } else { subtract_if_above(s, m.q2) };
    v[y] = t(d);
}

/// The lowest 52 bits modulo q in [0, 2q), in the lowest 52 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn close(t: &Transform, x: __m512i) -> __m512i {
    _mm512_madd52lo_epu64(x, high(x, t.inv52), t.m.minus_q)
}

/// Rows to columns of 8 × 8 words.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn transpose(r: [__m512i; 8]) -> [__m512i; 8] {
    let even = [
        _mm512_unpacklo_epi64(r[0], r[1]),
        _mm512_unpacklo_epi64(r[2], r[3]),
        _mm512_unpacklo_epi64(r[4], r[5]),
        _mm512_unpacklo_epi64(r[6], r[7]),
    ];
    let odd = [
        _mm512_unpackhi_epi64(r[0], r[1]),
        _mm512_unpackhi_epi64(r[2], r[3]),
        _mm512_unpackhi_epi64(r[4], r[5]),
        _mm512_unpackhi_epi64(r[6], r[7]),
    ];
    let [c0, c2, c4, c6] = quarters(even);
    let [c1, c3, c5, c7] = quarters(odd);
    [c0, c1, c2, c3, c4, c5, c6, c7]
}

/// Both halves of 128 words transposed.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn transposes(v: [__m512i; 16]) -> [[__m512i; 8]; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = v;
    [transpose([a, b, c, d, e, f, g, h]), transpose(rest)]
}

/// Transposes 4 × 4 quarter registers.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn quarters(t: [__m512i; 4]) -> [__m512i; 4] {
    let a = _mm512_shuffle_i64x2::<0x88>(t[0], t[1]);
    let b = _mm512_shuffle_i64x2::<0xdd>(t[0], t[1]);
    let c = _mm512_shuffle_i64x2::<0x88>(t[2], t[3]);
    let d = _mm512_shuffle_i64x2::<0xdd>(t[2], t[3]);
    [
        _mm512_shuffle_i64x2::<0x88>(a, c),
        _mm512_shuffle_i64x2::<0x88>(b, d),
        _mm512_shuffle_i64x2::<0xdd>(a, c),
        _mm512_shuffle_i64x2::<0xdd>(b, d),
    ]
}

/// The portable twin is `portable::forward`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn forward(q: &Modulus, w: &[u64], ws: &[u64], tail: &[u64], a: &mut [u64]) {
    let t = Transform::new(q, w, ws, tail, a);
    let layers = t.n.trailing_zeros() - 7;
    // SAFETY: the one block of size n at level 1.
    unsafe {
        if q.q < OPEN_LIMIT {
            forward_block::<true>(&t, layers, 0)
        } else {
            forward_block::<false>(&t, layers, 0)
        }
    }
}

/// All layers of block `i` of size 128·2^layers.
///
/// # Safety
/// Block `i` of that size lies in the limb.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn forward_block<const OPEN: bool>(t: &Transform, layers: u32, i: usize) {
    // SAFETY: the 2^k blocks that begin at i·2^k are the parts of block i.
    unsafe {
        if layers == 0 {
            return match !OPEN && i % 2 == 1 {
                false => forward_last::<false, OPEN>(t, i),
                true => forward_last::<true, OPEN>(t, i),
            };
        }
        let k = pass_layers(layers);
        match k {
            1 => forward_pass::<2, OPEN>(t, layers, i),
            2 => forward_pass::<4, OPEN>(t, layers, i),
            3 => forward_pass::<8, OPEN>(t, layers, i),
            _ => forward_pass::<16, OPEN>(t, layers, i),
        }
        for part in i << k..(i + 1) << k {
            forward_block::<OPEN>(t, layers - k, part);
        }
    }
}

/// The first log2 R layers of block `i` of size 128·2^layers.
///
/// # Safety
/// As for [`forward_block`], and log2 R <= layers.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn forward_pass<const R: usize, const OPEN: bool>(t: &Transform, layers: u32, i: usize) {
    // SAFETY: the caller's.
    unsafe {
        match (OPEN, 128 << layers == t.n, i % 2 == 1) {
            // Says no more than the truth: nothing is corrected.
            (true, ..) => forward_rows::<R, false, false, true, OPEN>(t, layers, i),
            // Each part's lower half is added in the layer after these, its upper half multiplied.
            (false, true, _) => {
                forward_rows::<R, true, false, false, OPEN>(t, layers, i);
                forward_rows::<R, true, false, true, OPEN>(t, layers, i);
            }
            (false, false, false) => {
                forward_rows::<R, false, false, false, OPEN>(t, layers, i);
                forward_rows::<R, false, false, true, OPEN>(t, layers, i);
            }
            (false, false, true) => {
                forward_rows::<R, false, true, false, OPEN>(t, layers, i);
                forward_rows::<R, false, true, true, OPEN>(t, layers, i);
            }
        }
    }
}

/// [`forward_pass`] of the lower or UPPER half of each of the R parts, of all if OPEN; FIRST if the block is the whole limb,
/// whose residues are canonical, SIGNED if it is the differences of the layer before.
///
/// # Safety
/// As for [`forward_pass`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn forward_rows<
    const R: usize,
    const FIRST: bool,
    const SIGNED: bool,
    const UPPER: bool,
    const OPEN: bool,
>(
    t: &Transform,
    layers: u32,
    i: usize,
) {
    let size = 128usize << layers;
    let (blocks, stride) = (t.n / size, size / R);
    let range = match (OPEN, UPPER) {
        (true, _) => 0..stride,
        (false, false) => 0..stride / 2,
        (false, true) => stride / 2..stride,
    };
    let m = t.m;
    // SAFETY: twiddle indices are below R·blocks <= n; the addresses are i·size + j + k·stride + lane < n.
    unsafe {
        let f = factors::<R, true>(t, blocks, i);
        let start = t.a.add(i * size);
        for j in range.step_by(8) {
            let p = start.add(j);
            let mut v = [_mm512_setzero_si512(); R];
            for (k, v) in v.iter_mut().enumerate() {
                *v = _mm512_loadu_si512(p.add(k * stride).cast());
            }
            forward_layers::<R, FIRST, SIGNED, UPPER, OPEN>(&m, &mut v, &f);
            for (k, v) in v.iter().enumerate() {
                _mm512_storeu_si512(p.add(k * stride).cast(), *v);
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
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn factors<const R: usize, const FORWARD: bool>(
    t: &Transform,
    blocks: usize,
    i: usize,
) -> [Factor; R] {
    let mut f = [factor(Shoup::default()); R];
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

/// log2 R layers of butterflies between registers; `f` as of [`factors`], the constants as of [`forward_rows`].
///
/// They are generic so that each has one caller, which the compiler then inlines: registers would go through memory otherwise.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn forward_layers<
    const R: usize,
    const FIRST: bool,
    const SIGNED: bool,
    const UPPER: bool,
    const OPEN: bool,
>(
    m: &Wide,
    v: &mut [__m512i; R],
    f: &[Factor; R],
) {
    let first = match (FIRST, SIGNED) {
        (true, _) => Before::Low,
        (false, true) => Before::Signed,
        (false, false) => Before::Positive,
    };
    let last = if UPPER {
        After::Multiplied
    } else {
        After::Added
    };
    if R > 8 {
        forward_layer::<R, 8, OPEN>(m, v, f, (first, last));
    }
    if R > 4 {
        forward_layer::<R, 4, OPEN>(m, v, f, (first, last));
    }
    if R > 2 {
        forward_layer::<R, 2, OPEN>(m, v, f, (first, last));
    }
    forward_layer::<R, 1, OPEN>(m, v, f, (first, last));
}

/// One layer between registers that lie HALF apart; constant bounds, so that it becomes straight-line code.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn forward_layer<const R: usize, const HALF: usize, const OPEN: bool>(
    m: &Wide,
    v: &mut [__m512i; R],
    f: &[Factor; R],
    (first, last): (Before, After),
) {
    let ends = ((2 * HALF == R).then_some(first), last);
    for pair in 0..R / 2 {
        let (group, lane) = (pair / HALF, pair % HALF);
        let x = 2 * HALF * group + lane;
        let how = between(ends, group, lane, HALF);
        butterfly::<OPEN>(m, v, (x, x + HALF), how, |y| {
            m.shoup_open(y, f[R / (2 * HALF) + group])
        });
    }
}

/// The last seven layers of block `b` of 128 elements, SIGNED as for [`forward_rows`]; gives canonical residues.
///
/// One half of the block alone would leave the multiplier waiting: its layers are short chains of dependent operations.
///
/// # Safety
/// `128·b < t.n`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn forward_last<const SIGNED: bool, const OPEN: bool>(t: &Transform, b: usize) {
    let m = t.m;
    // SAFETY: the block's 128 words lie in the limb; twiddle indices are below 16·blocks < n.
    unsafe {
        let p = t.a.add(128 * b);
        let f = factors::<16, true>(t, t.n / 128, b);
        let mut v = [_mm512_setzero_si512(); 16];
        for (k, v) in v.iter_mut().enumerate() {
            *v = _mm512_loadu_si512(p.add(8 * k).cast());
        }
        let first = if SIGNED {
            Before::Signed
        } else {
            Before::Positive
        };
        // Where the transposition puts the x and the y of the next layer is no longer a matter of registers.
        let ends = (first, After::Any);
        forward_layer::<16, 8, OPEN>(&m, &mut v, &f, ends);
        forward_layer::<16, 4, OPEN>(&m, &mut v, &f, ends);
        forward_layer::<16, 2, OPEN>(&m, &mut v, &f, ends);
        forward_layer::<16, 1, OPEN>(&m, &mut v, &f, ends);
        let mut v = transposes(v);
        let ahead = 2 * b as isize + AHEAD;
        let tail = [t.tail(2 * b, ahead), t.tail(2 * b + 1, ahead + 1)];
        forward_tail::<0, 4, OPEN>(&m, &mut v, &tail);
        forward_tail::<1, 2, OPEN>(&m, &mut v, &tail);
        forward_tail::<2, 1, OPEN>(&m, &mut v, &tail);
        // Sums and differences in turn.
        let canonical = |k: usize, x: __m512i| {
            let x = if OPEN {
                _mm512_and_si512(close(t, x), m.mask)
            } else if k.is_multiple_of(2) {
                subtract_if_above(x, m.q2)
            } else {
                least(x, _mm512_add_epi64(x, m.q2))
            };
            subtract_if_above(x, m.q)
        };
        for (k, mut v) in v.into_iter().enumerate() {
            for (k, v) in v.iter_mut().enumerate() {
                *v = canonical(k, *v);
            }
            for (i, v) in transpose(v).iter().enumerate() {
                _mm512_storeu_si512(p.add(64 * k + 8 * i).cast(), *v);
            }
        }
    }
}

/// The layer of stride HALF, 2^LEVEL twiddles per group, of two transposed halves.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn forward_tail<const LEVEL: usize, const HALF: usize, const OPEN: bool>(
    m: &Wide,
    v: &mut [[__m512i; 8]; 2],
    tail: &[Tail; 2],
) {
    let ends = ((HALF == 4).then_some(Before::Positive), After::Added);
    for pair in 0..8 {
        let (h, group, lane) = (pair % 2, pair / 2 / HALF, pair / 2 % HALF);
        let x = 2 * HALF * group + lane;
        let how = between(ends, group, lane, HALF);
        butterfly::<OPEN>(m, &mut v[h], (x, x + HALF), how, |y| {
            tail[h].mul::<true>(m, y, LEVEL, group)
        });
    }
}

/// The portable twin is `portable::inverse`.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
pub(crate) fn inverse(
    q: &Modulus,
    w: &[u64],
    ws: &[u64],
    tail: &[u64],
    scale: Shoup,
    a: &mut [u64],
    from: Option<&[u64]>,
) {
    let mut t = Transform::new(q, w, ws, tail, a);
    if let Some(from) = from {
        assert!(from.len() == t.n);
        t.from = from.as_ptr();
    }
    let layers = t.n.trailing_zeros() - 7;
    // The last layer multiplies by 1/n too.
    let both = q.shoup(q.mul(scale.w, w[1]));
    // SAFETY: the one block of size n at level 1.
    unsafe {
        if q.q < OPEN_LIMIT {
            inverse_block::<true>(&t, layers, 0, [scale, both])
        } else {
            inverse_block::<false>(&t, layers, 0, [scale, both])
        }
    }
    if layers == 0 {
        super::limb::mul_scalar(q, a, scale);
    }
}

/// All layers of block `i` of size 128·2^layers.
///
/// # Safety
/// Block `i` of that size lies in the limb.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn inverse_block<const OPEN: bool>(t: &Transform, layers: u32, i: usize, scale: [Shoup; 2]) {
    // SAFETY: the 2^k blocks that begin at i·2^k are the parts of block i.
    unsafe {
        if layers == 0 {
            return inverse_first::<OPEN>(t, i);
        }
        let k = pass_layers(layers);
        for part in i << k..(i + 1) << k {
            inverse_block::<OPEN>(t, layers - k, part, scale);
        }
        match (k, 128 << layers == t.n) {
            (1, false) => inverse_pass::<2, false, OPEN>(t, layers, i, scale),
            (1, true) => inverse_pass::<2, true, OPEN>(t, layers, i, scale),
            (2, false) => inverse_pass::<4, false, OPEN>(t, layers, i, scale),
            (2, true) => inverse_pass::<4, true, OPEN>(t, layers, i, scale),
            (3, false) => inverse_pass::<8, false, OPEN>(t, layers, i, scale),
            (3, true) => inverse_pass::<8, true, OPEN>(t, layers, i, scale),
            (_, false) => inverse_pass::<16, false, OPEN>(t, layers, i, scale),
            (_, true) => inverse_pass::<16, true, OPEN>(t, layers, i, scale),
        }
    }
}

/// The last log2 R layers of block `i` of size 128·2^layers. Takes and leaves x < 2q, if OPEN in the lowest 52 bits; if LAST, multiplies by `scale[0]` = 1/n as well
/// (`scale[1]` = 1/n times the last twiddle) and gives canonical residues.
///
/// # Safety
/// As for [`inverse_block`], and log2 R <= layers.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn inverse_pass<const R: usize, const LAST: bool, const OPEN: bool>(
    t: &Transform,
    layers: u32,
    i: usize,
    scale: [Shoup; 2],
) {
    let size = 128usize << layers;
    let (blocks, stride) = (t.n / size, size / R);
    let m = t.m;
    // SAFETY: the mirrored twiddle indices are below R·blocks <= n; the addresses are i·size + j + k·stride + lane < n.
    unsafe {
        let f = factors::<R, false>(t, blocks, i);
        let scale = scale.map(|s| factor(s));
        let start = t.a.add(i * size);
        for j in (0..stride).step_by(8) {
            let p = start.add(j);
            let mut v = [_mm512_setzero_si512(); R];
            for (k, v) in v.iter_mut().enumerate() {
                *v = _mm512_loadu_si512(p.add(k * stride).cast());
            }
            inverse_layers::<R, LAST, OPEN>(&m, m.q2, &mut v, &f);
            if LAST {
                let bound = if OPEN { multiple::<R>(m.q) } else { m.q2 };
                for x in 0..R / 2 {
                    let y = x + R / 2;
                    let d = _mm512_sub_epi64(_mm512_add_epi64(v[y], bound), v[x]);
                    v[x] = m.shoup(_mm512_add_epi64(v[x], v[y]), scale[0]);
                    v[y] = m.shoup(d, scale[1]);
                }
            }
            if OPEN && !LAST {
                v[..R / 2].iter_mut().for_each(|x| *x = close(t, *x));
            }
            for (k, v) in v.iter().enumerate() {
                _mm512_storeu_si512(p.add(k * stride).cast(), *v);
            }
        }
    }
}

/// R·x for a power of two R.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn multiple<const R: usize>(x: __m512i) -> __m512i {
    _mm512_sll_epi64(x, _mm_set_epi64x(0, i64::from(R.trailing_zeros())))
}

/// The layers of strides 1, 2, … between registers, without the last if LAST; `f[2^level + g]` is the factor of group g at that
/// level. Elements are below `bound` before, and below bound·R after if OPEN.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn inverse_layers<const R: usize, const LAST: bool, const OPEN: bool>(
    m: &Wide,
    bound: __m512i,
    v: &mut [__m512i; R],
    f: &[Factor; R],
) {
    let end = if LAST { R / 2 } else { R };
    if end > 1 {
        inverse_layer::<R, 1, OPEN>(m, bound, v, f);
    }
    if end > 2 {
        inverse_layer::<R, 2, OPEN>(m, bound, v, f);
    }
    if end > 4 {
        inverse_layer::<R, 4, OPEN>(m, bound, v, f);
    }
    if end > 8 {
        inverse_layer::<R, 8, OPEN>(m, bound, v, f);
    }
}

/// One inverse layer between registers that lie HALF apart, as [`forward_layer`]; elements have grown by HALF since `bound`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn inverse_layer<const R: usize, const HALF: usize, const OPEN: bool>(
    m: &Wide,
    bound: __m512i,
    v: &mut [__m512i; R],
    f: &[Factor; R],
) {
    let bound = if OPEN { multiple::<HALF>(bound) } else { m.q2 };
    for pair in 0..R / 2 {
        let (group, lane) = (pair / HALF, pair % HALF);
        let x = 2 * HALF * group + lane;
        inverse_butterfly::<OPEN>(m, bound, v, x, x + HALF, |y| {
            times::<OPEN>(m, y, f[R / (2 * HALF) + group])
        });
    }
}

/// The first seven inverse layers of block `b` of 128 elements. Takes canonical residues, leaves x < 2q, if OPEN in the lowest 52
/// bits.
///
/// The mirrored twiddles are those of block `blocks-1-b` with groups and lanes in reverse order, so the rows enter the
/// transposition in reverse order.
///
/// # Safety
/// `128·b < t.n`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
unsafe fn inverse_first<const OPEN: bool>(t: &Transform, b: usize) {
    let m = t.m;
    let blocks = t.n / 128;
    // SAFETY: the block's 128 words lie in the limb and in the source; twiddle indices are below 16·blocks < n, the mirrored block is
    // below blocks.
    unsafe {
        let (p, from) = (t.a.add(128 * b), t.from.add(128 * b));
        // Nothing has touched the limb yet, and the passes in between hide its order from the processor's own prefetching.
        for line in 0..16 {
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(DATA_AHEAD + 8 * line).cast());
        }
        let mut v = [_mm512_setzero_si512(); 16];
        for (k, v) in v.iter_mut().enumerate() {
            *v = _mm512_loadu_si512(from.add(8 * (15 - k)).cast());
        }
        let mut v = transposes(v);
        let mirrored = 2 * (blocks - 1 - b);
        let ahead = mirrored as isize - AHEAD;
        let tail = [t.tail(mirrored, ahead), t.tail(mirrored + 1, ahead + 1)];
        // Sums of 1, 2 and 4 residues.
        inverse_tail::<2, 1, OPEN>(&m, &mut v, &tail);
        inverse_tail::<1, 2, OPEN>(&m, &mut v, &tail);
        inverse_tail::<0, 4, OPEN>(&m, &mut v, &tail);
        let ends = [transpose(v[1]), transpose(v[0])];
        let mut v = [_mm512_setzero_si512(); 16];
        for (k, v) in v.iter_mut().enumerate() {
            *v = ends[k / 8][7 - k % 8];
        }
        let f = factors::<16, false>(t, blocks, b);
        if OPEN {
            // Sums of 8 residues: two more layers reach 32q, which only the first of every four registers does.
            let bound = multiple::<8>(m.q);
            inverse_layer::<16, 1, OPEN>(&m, bound, &mut v, &f);
            inverse_layer::<16, 2, OPEN>(&m, bound, &mut v, &f);
            v.iter_mut().step_by(4).for_each(|x| *x = close(t, *x));
            // The others are below 4q, as sums of two products at most.
            inverse_layer::<16, 4, OPEN>(&m, m.q, &mut v, &f);
            inverse_layer::<16, 8, OPEN>(&m, m.q, &mut v, &f);
            v[..8].iter_mut().for_each(|x| *x = close(t, *x));
        } else {
            inverse_layer::<16, 1, OPEN>(&m, m.q2, &mut v, &f);
            inverse_layer::<16, 2, OPEN>(&m, m.q2, &mut v, &f);
            inverse_layer::<16, 4, OPEN>(&m, m.q2, &mut v, &f);
            inverse_layer::<16, 8, OPEN>(&m, m.q2, &mut v, &f);
        }
        for (k, v) in v.iter().enumerate() {
            _mm512_storeu_si512(p.add(8 * k).cast(), *v);
        }
    }
}

/// The inverse layer of stride HALF, 2^LEVEL twiddles per group, of two transposed halves; elements are sums of HALF residues.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn inverse_tail<const LEVEL: usize, const HALF: usize, const OPEN: bool>(
    m: &Wide,
    v: &mut [[__m512i; 8]; 2],
    tail: &[Tail; 2],
) {
    let bound = if OPEN { multiple::<HALF>(m.q) } else { m.q2 };
    for pair in 0..8 {
        let (h, group, lane) = (pair % 2, pair / 2 / HALF, pair / 2 % HALF);
        let x = 2 * HALF * group + lane;
        inverse_butterfly::<OPEN>(m, bound, &mut v[h], x, x + HALF, |y| {
            tail[h].mul::<OPEN>(m, y, LEVEL, (1 << LEVEL) - 1 - group)
        });
    }
}
