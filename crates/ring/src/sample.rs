//! Randomness: expansion of seeds to uniform residues, and the small secret distributions.

use aes::Aes256;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Modulus;
#[cfg(target_arch = "x86_64")]
use crate::backend::has_vaes;
#[cfg(target_arch = "x86_64")]
use crate::{Backend, backend, ifma};

type Cipher = ctr::Ctr64BE<Aes256>;

/// Deterministic expansion of a 32-byte seed by AES-256 in counter mode.
///
/// Stream s is the key stream with the 16-byte initial block (s, 0), both big-endian words; (s, 2^63) begins the second
/// range, from which rejected words are redrawn. The output is part of the wire format and must never change.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Expander {
    seed: [u8; 32],
}

impl Expander {
    /// Takes the seed as the AES key.
    pub fn new(seed: [u8; 32]) -> Self {
        Expander { seed }
    }

    /// Fills `out` with exactly uniform residues modulo q.
    ///
    /// Each little-endian 64-bit word w gives ⌊w·q/2^64⌋ unless the low word of w·q is below 2^64 mod q (probability below
    /// q/2^64); such places are refilled, in order, from the second range by the same rule. One seed and stream must be used
    /// with one modulus only.
    pub fn uniform(&self, stream: u64, q: &Modulus, out: &mut [u64]) {
        self.begin(stream, q).fill(out);
    }

    /// The same residues, to be taken piece by piece.
    pub fn begin(&self, stream: u64, q: &Modulus) -> Uniform<'_> {
        self.begin_above(stream, q.value(), q.value().wrapping_neg() % q.value())
    }

    /// [`Self::begin`] with the low words below `threshold` rejected; any other threshold than 2^64 mod q is for tests.
    fn begin_above(&self, stream: u64, q: u64, threshold: u64) -> Uniform<'_> {
        Uniform {
            taken: 0,
            spare: Spare::new(&self.seed, stream, q, threshold),
        }
    }
}

/// Words that are drawn at a time: [`Uniform::fill`] takes whole multiples but for its last call.
const DRAWN: usize = 64;

/// A stream of uniform residues.
pub struct Uniform<'a> {
    taken: usize,
    spare: Spare<'a>,
}

impl Uniform<'_> {
    /// The next residues.
    ///
    /// # Panics
    /// If the residues taken so far are not a multiple of 64.
    pub fn fill(&mut self, out: &mut [u64]) {
        assert!(
            self.taken.is_multiple_of(DRAWN),
            "all pieces of a stream but the last are multiples of {DRAWN}"
        );
        // two words per cipher block
        let counter = self.taken as u64 / 2;
        self.taken += out.len();
        #[cfg(target_arch = "x86_64")]
        if backend() == Backend::Ifma && has_vaes() {
            // SAFETY: the two conditions hold only where the processor has every feature that the kernel enables.
            unsafe { ifma::sample::uniform(&mut self.spare, counter, out) };
            return;
        }
        self.spare.fill_portable(counter, out);
    }
}

impl Spare<'_> {
    fn fill_portable(&mut self, counter: u64, out: &mut [u64]) {
        const WORDS: usize = 512;
        let (q, threshold) = (self.q, self.threshold);
        let mut words = cipher(self.seed, self.stream, counter);
        let mut bytes = [0u8; 8 * WORDS];
        for block in out.chunks_mut(WORDS) {
            let bytes = &mut bytes[..8 * block.len()];
            bytes.fill(0);
            words.apply_keystream(bytes);
            let mut rejected = false;
            for (o, w) in block.iter_mut().zip(bytes.as_chunks::<8>().0) {
                let wide = u128::from(u64::from_le_bytes(*w)) * u128::from(q);
                rejected |= (wide as u64) < threshold;
                *o = (wide >> 64) as u64;
            }
            if rejected {
                for (o, w) in block.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *o = self.settle(u64::from_le_bytes(*w));
                }
            }
        }
    }
}

/// The second range of a stream, from which rejected words are redrawn in the order of their places.
pub(crate) struct Spare<'a> {
    pub(crate) seed: &'a [u8; 32],
    pub(crate) stream: u64,
    pub(crate) q: u64,
    pub(crate) threshold: u64,
    cipher: Option<Cipher>,
}

impl<'a> Spare<'a> {
    pub(crate) fn new(seed: &'a [u8; 32], stream: u64, q: u64, threshold: u64) -> Self {
        Spare {
            seed,
            stream,
            q,
            threshold,
            cipher: None,
        }
    }

    /// The residue for the word `w` of the first range.
    pub(crate) fn settle(&mut self, mut w: u64) -> u64 {
        while w.wrapping_mul(self.q) < self.threshold {
            let mut word = [0; 8];
            self.cipher
                .get_or_insert_with(|| cipher(self.seed, self.stream, 1 << 63))
                .apply_keystream(&mut word);
            w = u64::from_le_bytes(word);
        }
        ((u128::from(w) * u128::from(self.q)) >> 64) as u64
    }
}

fn cipher(seed: &[u8; 32], stream: u64, counter: u64) -> Cipher {
    let mut first = [0u8; 16];
    first[..8].copy_from_slice(&stream.to_be_bytes());
    first[8..].copy_from_slice(&counter.to_be_bytes());
    Cipher::new(seed.into(), &first.into())
}

impl std::fmt::Debug for Expander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expander { .. }")
    }
}

/// `n` coefficients, each -1, 0 or 1 with probability 1/3.
///
/// A byte modulo 3; byte 255 is redrawn, which says nothing of the values kept.
pub fn ternary(rng: &mut impl CryptoRng, n: usize) -> Zeroizing<Vec<i8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(n));
    let mut bytes = Zeroizing::new([0u8; 256]);
    while out.len() < n {
        rng.fill_bytes(&mut bytes[..]);
        let left = n - out.len();
        out.extend(
            bytes
                .iter()
                .filter(|&&b| b != 255)
                .take(left)
                .map(|&b| (b % 3) as i8 - 1),
        );
    }
    out
}

/// `n` coefficients of which exactly `h`, uniformly chosen, are ±1 with random signs and the rest 0.
///
/// Selection sampling: position i is taken with probability (left to take)/(n - i), without a secret-dependent branch or
/// index. Cost: about n words of randomness.
///
/// # Panics
/// If `h` is above `n`.
pub fn sparse_ternary(rng: &mut impl CryptoRng, n: usize, h: usize) -> Zeroizing<Vec<i8>> {
    assert!(h <= n, "weight {h} of {n} coefficients");
    let mut out = Zeroizing::new(Vec::with_capacity(n));
    let mut left = h as u64;
    for i in 0..n {
        let draw = below(rng, (n - i) as u64);
        // 1 if draw < left; both are below 2^63.
        let take = draw.wrapping_sub(left) >> 63;
        left -= take;
        let sign = 1 - 2 * (rng.next_u32() >> 31) as i8;
        out.push(take as i8 * sign);
    }
    out
}

/// Uniform below `bound`, by multiplication with rejection; the number of draws does not depend on the result.
fn below(rng: &mut impl CryptoRng, bound: u64) -> u64 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let wide = u128::from(rng.next_u64()) * u128::from(bound);
        if wide as u64 >= threshold {
            return (wide >> 64) as u64;
        }
    }
}

/// The standard deviation 8/√(2π) of [`gaussian`].
pub const GAUSSIAN_SIGMA: f64 = 3.1915382432114616;

/// Round(2^63·P(|x| <= k)) for k = 0 … 19, for the discrete Gaussian with density ∝ exp(-π·x²/64) on |x| <= 20.
const GAUSSIAN_TABLE: [u64; 20] = [
    1152921504736766914,
    3348309853545216709,
    5243078603737565361,
    6725474864353373407,
    7776796609015046744,
    8452677584687532088,
    8846561309760180147,
    9054640711076092104,
    9154285222416572016,
    9197540680209443963,
    9214561939310163517,
    9220633574810274352,
    9222596857961029356,
    9223172328938889470,
    9223325235862937282,
    9223362065218237723,
    9223370106482231429,
    9223371698022981089,
    9223371983567905030,
    9223372030008135319,
];

/// `n` coefficients of the discrete Gaussian with σ = 8/√(2π) ≈ 3.19 ([`GAUSSIAN_SIGMA`]), cut at ±20 (6.2 σ).
///
/// Constant time: every draw is compared with the whole cumulative table, no branch and no index depends on it.
pub fn gaussian(rng: &mut impl CryptoRng, n: usize) -> Zeroizing<Vec<i8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(n));
    for _ in 0..n {
        let word = rng.next_u64();
        let (draw, sign) = (word >> 1, (word & 1) as i8);
        // draw >= bound, both below 2^63, without a comparison.
        let magnitude: u64 = GAUSSIAN_TABLE
            .iter()
            .map(|&bound| 1 - (draw.wrapping_sub(bound) >> 63))
            .sum();
        out.push((magnitude as i8 ^ -sign) + sign);
    }
    out
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn moments(x: &[i8]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        (
            mean,
            x.iter()
                .map(|&x| (f64::from(x) - mean).powi(2))
                .sum::<f64>()
                / n,
        )
    }

    #[test]
    fn ternary_is_uniform() {
        let x = ternary(&mut ChaCha20Rng::seed_from_u64(1), 300_000);
        assert_eq!(x.len(), 300_000);
        for value in -1..=1 {
            let count = x.iter().filter(|&&x| x == value).count() as f64;
            assert!(
                (count - 1e5).abs() < 5.0 * (3e5f64 * 2.0 / 9.0).sqrt(),
                "{value}: {count}"
            );
        }
        assert!(x.iter().all(|x| (-1..=1).contains(x)));
    }

    #[test]
    fn sparse_weight_is_exact_and_spread() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (n, h) = (4096, 192);
        let mut front = 0;
        let mut sum = 0i32;
        for _ in 0..200 {
            let x = sparse_ternary(&mut rng, n, h);
            assert_eq!(x.iter().filter(|&&x| x != 0).count(), h);
            front += x[..n / 4].iter().filter(|&&x| x != 0).count();
            sum += x.iter().map(|&x| i32::from(x)).sum::<i32>();
        }
        let total = (200 * h) as f64;
        assert!((front as f64 - total / 4.0).abs() < 5.0 * (total * 3.0 / 16.0).sqrt());
        assert!(f64::from(sum).abs() < 5.0 * total.sqrt());
        assert!(sparse_ternary(&mut rng, 64, 64).iter().all(|&x| x != 0));
        assert!(sparse_ternary(&mut rng, 64, 0).iter().all(|&x| x == 0));
    }

    #[test]
    fn gaussian_has_its_moments_and_frequencies() {
        let n = 1_000_000;
        let x = gaussian(&mut ChaCha20Rng::seed_from_u64(3), n);
        let (mean, variance) = moments(&x);
        let want = GAUSSIAN_SIGMA * GAUSSIAN_SIGMA;
        assert!(
            mean.abs() < 5.0 * GAUSSIAN_SIGMA / (n as f64).sqrt(),
            "mean {mean}"
        );
        assert!(
            (variance / want - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt(),
            "variance {variance}"
        );
        let density = |k: f64| {
            (-k * k / (2.0 * want)).exp() / (GAUSSIAN_SIGMA * std::f64::consts::TAU.sqrt())
        };
        let mut chi = 0.0;
        for k in -10..=10i8 {
            let expected = n as f64 * density(f64::from(k));
            let count = x.iter().filter(|&&x| x == k).count() as f64;
            chi += (count - expected).powi(2) / expected;
        }
        assert!(chi < 55.0, "chi-square {chi} at 21 degrees of freedom");
        assert!(x.iter().all(|&x| x.abs() <= 20));
    }

    #[test]
    fn expansion_is_uniform_deterministic_and_independent() {
        let e = Expander::new([5; 32]);
        for (q, n) in [(1125899906842597u64, 100_000), (65537, 40_000)] {
            let q = Modulus::new(q).expect("prime");
            let mut a = vec![0; n];
            e.uniform(1, &q, &mut a);
            assert!(a.iter().all(|&x| x < q.value()));
            let mean = a.iter().map(|&x| x as f64).sum::<f64>() / n as f64 / q.value() as f64;
            assert!((mean - 0.5).abs() < 5.0 / (12.0 * n as f64).sqrt());
            let mut bins = [0f64; 16];
            a.iter()
                .for_each(|&x| bins[(u128::from(x) * 16 / u128::from(q.value())) as usize] += 1.0);
            let expected = n as f64 / 16.0;
            assert!(
                bins.iter()
                    .map(|b| (b - expected).powi(2) / expected)
                    .sum::<f64>()
                    < 45.0
            );
            let (mut same, mut other) = (vec![0; n], vec![0; n]);
            e.uniform(1, &q, &mut same);
            e.uniform(2, &q, &mut other);
            assert_eq!(a, same);
            assert!(a.iter().zip(&other).filter(|(a, b)| a == b).count() < 10);
            let mut short = vec![0; 1000];
            e.uniform(1, &q, &mut short);
            assert_eq!(short, a[..1000]);
        }
    }

    #[test]
    fn rejected_words_are_redrawn_from_the_second_range() {
        // With a 50-bit prime about one word in 2^14 is rejected: recompute every element from the two ranges.
        let (seed, n) = ([6; 32], 1 << 17);
        let q = Modulus::new(1125899906842597).expect("prime");
        let threshold = (u128::from(q.value()).wrapping_neg() as u64) % q.value();
        let e = Expander::new(seed);
        let mut out = vec![0; n];
        e.uniform(9, &q, &mut out);
        let (mut main, mut spare) = (cipher(&seed, 9, 0), cipher(&seed, 9, 1 << 63));
        let mut redrawn = 0;
        for o in out {
            let mut w = [0; 8];
            main.apply_keystream(&mut w);
            while u64::from_le_bytes(w).wrapping_mul(q.value()) < threshold {
                w = [0; 8];
                spare.apply_keystream(&mut w);
                redrawn += 1;
            }
            assert_eq!(
                u128::from(o),
                (u128::from(u64::from_le_bytes(w)) * u128::from(q.value())) >> 64
            );
        }
        println!("{redrawn} words redrawn");
    }

    #[test]
    fn pieces_are_the_whole() {
        // a threshold that rejects often, so that the second range is carried over
        let expander = Expander::new([8; 32]);
        let begin = || expander.begin_above(3, 65537, 1 << 60);
        let (mut whole, mut pieces) = (vec![0; 5000], vec![0; 5000]);
        begin().fill(&mut whole);
        let mut stream = begin();
        for piece in pieces.chunks_mut(192) {
            stream.fill(piece);
        }
        assert_eq!(whole, pieces);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vector_expansion_equals_the_portable_one() {
        if !crate::backend::has_ifma() || !has_vaes() {
            return;
        }
        let mut seeds = vec![[0; 32], [255; 32], [0x80; 32]];
        seeds.extend((0..20).map(|i| std::array::from_fn(|j| (i * 37 + j * 11) as u8)));
        // 2^64 mod q rejects one word in 2^14 at most; the higher thresholds reject often, and redrawn words again.
        let mut cases = vec![
            (1125899906842597, 1 << 60),
            (16411, 1 << 63),
            (65537, 4095),
            (65537, 4097),
        ];
        cases.extend(
            [16411u64, 65537, 2147473409, 1125899906842597].map(|q| (q, q.wrapping_neg() % q)),
        );
        for (i, seed) in seeds.iter().enumerate() {
            for &(q, threshold) in &cases {
                for stream in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
                    for n in [0, 1, 8, 63, 64, 65, 127, 1000, 1 << 13] {
                        if n > 1000 && i > 2 {
                            continue;
                        }
                        let (mut a, mut b) = (vec![1; n], vec![2; n]);
                        let mut spare = Spare::new(seed, stream, q, threshold);
                        // SAFETY: has_ifma() and has_vaes() were true.
                        unsafe { ifma::sample::uniform(&mut spare, 0, &mut a) };
                        Spare::new(seed, stream, q, threshold).fill_portable(0, &mut b);
                        assert!(a == b, "seed {i}, q {q}, threshold {threshold}, n {n}");
                    }
                }
            }
        }
        // A long one, past 2^16 blocks, and true rejections.
        let q = 1125899906842597u64;
        let (mut a, mut b) = (vec![1; 1 << 18], vec![2; 1 << 18]);
        let begin = || Spare::new(&seeds[3], 5, q, q.wrapping_neg() % q);
        // SAFETY: has_ifma() and has_vaes() were true.
        unsafe { ifma::sample::uniform(&mut begin(), 0, &mut a) };
        begin().fill_portable(0, &mut b);
        assert!(a == b);
    }
}
