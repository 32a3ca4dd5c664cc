//! Randomness: expansion of seeds to uniform residues, and the small secret distributions.

use aes::Aes256;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Modulus;

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
        const WORDS: usize = 512;
        let q = q.value();
        let threshold = q.wrapping_neg() % q;
        let mut words = self.cipher(stream, 0);
        let mut spare: Option<Cipher> = None;
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
                    let mut word = *w;
                    while u64::from_le_bytes(word).wrapping_mul(q) < threshold {
                        word = [0; 8];
                        spare
                            .get_or_insert_with(|| self.cipher(stream, 1 << 63))
                            .apply_keystream(&mut word);
                    }
                    *o = ((u128::from(u64::from_le_bytes(word)) * u128::from(q)) >> 64) as u64;
                }
            }
        }
    }

    fn cipher(&self, stream: u64, counter: u64) -> Cipher {
        let mut first = [0u8; 16];
        first[..8].copy_from_slice(&stream.to_be_bytes());
        first[8..].copy_from_slice(&counter.to_be_bytes());
        Cipher::new(&self.seed.into(), &first.into())
    }
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
        let (mut main, mut spare) = (e.cipher(9, 0), e.cipher(9, 1 << 63));
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
}
