//! Expansion of seeds by AES-256 in counter mode on four blocks per register, reduced as it comes out of the cipher.

use std::arch::x86_64::*;

use zeroize::Zeroizing;

use super::{high, set, store};
use crate::sample::Spare;

/// Registers of four cipher blocks in flight.
const REGISTERS: usize = 8;
/// Words that one round of the loop gives.
const WORDS: usize = 8 * REGISTERS;
/// Cipher blocks, hence counter values, that it takes.
const BLOCKS: u64 = 4 * REGISTERS as u64;

/// The round keys of AES-256.
type Keys = [[u8; 16]; 15];

/// The FIPS-197 key schedule.
#[target_feature(enable = "avx512f,aes")]
fn schedule(seed: &[u8; 32]) -> Zeroizing<Keys> {
    /// The columns of `old` summed from the left, plus one word of the assisting round in all of them.
    #[inline]
    #[target_feature(enable = "avx512f,aes")]
    fn next(old: __m128i, word: __m128i) -> __m128i {
        let two = _mm_xor_si128(old, _mm_slli_si128::<4>(old));
        _mm_xor_si128(_mm_xor_si128(two, _mm_slli_si128::<8>(two)), word)
    }
    let mut keys = Zeroizing::new([[0; 16]; 15]);
    keys[0].copy_from_slice(&seed[..16]);
    keys[1].copy_from_slice(&seed[16..]);
    let (mut a, mut b) = (block(&keys[0]), block(&keys[1]));
    macro_rules! rounds {
        ($($at:literal: $constant:literal),*) => {$(
            a = next(a, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(b)));
            put(&mut keys[$at], a);
            b = next(b, _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(a)));
            put(&mut keys[$at + 1], b);
        )*};
    }
    rounds!(2: 1, 4: 2, 6: 4, 8: 8, 10: 16, 12: 32);
    a = next(
        a,
        _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<64>(b)),
    );
    put(&mut keys[14], a);
    keys
}

#[inline]
#[target_feature(enable = "avx512f,aes")]
fn block(x: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,aes")]
fn put(x: &mut [u8; 16], v: __m128i) {
    // SAFETY: the reference covers the 16 bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(x.as_mut_ptr().cast(), v) }
}

/// Fills `out` as [`crate::sample::Uniform::fill`] does, from cipher block `counter` on; the portable twin is
/// `Spare::fill_portable`. The modulus is below 2^50.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma,avx512bw,aes,vaes")]
pub(crate) fn uniform(spare: &mut Spare<'_>, mut counter: u64, out: &mut [u64]) {
    let stream = spare.stream;
    let bytes = schedule(spare.seed);
    let keys: [__m512i; 15] = std::array::from_fn(|r| _mm512_broadcast_i32x4(block(&bytes[r])));
    let (q, threshold) = (set(spare.q), set(spare.threshold));
    // Counters of one round of the loop differ in the lowest five bits only, which are bits 56 and up of the swapped word.
    let offsets: [__m512i; REGISTERS] = std::array::from_fn(|r| {
        let at = |block: usize| ((4 * r + block) as i64) << 56;
        _mm512_set_epi64(at(3), 0, at(2), 0, at(1), 0, at(0), 0)
    });
    let mut draw = |out: &mut [u64; WORDS]| {
        let first = _mm_set_epi64x(counter.swap_bytes() as i64, stream.swap_bytes() as i64);
        counter += BLOCKS;
        let start = _mm512_xor_si512(_mm512_broadcast_i32x4(first), keys[0]);
        let mut s: [__m512i; REGISTERS] =
            std::array::from_fn(|r| _mm512_xor_si512(start, offsets[r]));
        for key in &keys[1..14] {
            s = s.map(|s| _mm512_aesenc_epi128(s, *key));
        }
        let s = s.map(|s| _mm512_aesenclast_epi128(s, keys[14]));
        let mut doubtful = 0;
        let (parts, _) = out.as_chunks_mut::<8>();
        for (o, w) in parts.iter_mut().zip(s) {
            // w = a·2^12 + b. w·q/2^12 = a·q + ⌊b·q/2^12⌋ + …, and a·q = h·2^52 + l.
            let a = _mm512_srli_epi64::<12>(w);
            // The multiplier takes the low 52 bits: b·2^40.
            let low = _mm512_madd52lo_epu64(high(_mm512_slli_epi64::<40>(w), q), a, q);
            let h = _mm512_add_epi64(high(a, q), _mm512_srli_epi64::<52>(low));
            // The low word of w·q without its last 12 bits: too low by less than 2^12, so that no rejection is missed.
            doubtful |= _mm512_cmplt_epu64_mask(_mm512_slli_epi64::<12>(low), threshold);
            store(o, h);
        }
        if doubtful != 0 {
            settle(spare, s, out);
        }
    };
    let (parts, rest) = out.as_chunks_mut::<WORDS>();
    parts.iter_mut().for_each(&mut draw);
    if !rest.is_empty() {
        let mut last = [0; WORDS];
        draw(&mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Does one round of the loop word by word.
#[cold]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
fn settle(spare: &mut Spare<'_>, s: [__m512i; REGISTERS], out: &mut [u64; WORDS]) {
    let mut words = [0; WORDS];
    let parts = words.as_chunks_mut::<8>().0;
    parts.iter_mut().zip(s).for_each(|(p, s)| store(p, s));
    out.iter_mut()
        .zip(words)
        .for_each(|(o, w)| *o = spare.settle(w));
}
