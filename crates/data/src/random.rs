//! Random numbers by counter: a stream is named by a few words, and what one stream draws depends on no other.

/// SplitMix64 (Steele, Lea, Flood 2014) from a key that is made of the stream's name.
pub(crate) struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of this name, from its beginning.
    pub(crate) fn of(name: [u64; 4]) -> Self {
        Self(name.into_iter().fold(STEP, |key, word| {
            mixed(key ^ mixed(word.wrapping_add(STEP))).wrapping_add(STEP)
        }))
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Below `n`, which is not 0; uniform up to n/2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.word()) * n as u128) >> 64) as usize
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * ((self.word() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// The numbers below `n` in random order (Fisher and Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// The order of a pass: all numbers below `n`, a function of seed and pass.
#[must_use]
pub fn order(n: usize, seed: u64, pass: u64) -> Vec<usize> {
    Random::of([seed, pass, u64::from_le_bytes(*b"sentence"), 0]).permutation(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_neighbouring_names_are_unlike_and_uniform() {
        let n = 4096;
        // the first draw of neighbouring streams, as augmentation uses them
        let mut counts = [0usize; 16];
        for i in 0..n {
            counts[Random::of([7, 0, 0, i]).below(16)] += 1;
        }
        // χ² of 15 degrees of freedom: 37.7 is its 0.999 quantile
        let expected = n as f64 / 16.0;
        let chi: f64 = counts
            .iter()
            .map(|&c| (c as f64 - expected).powi(2) / expected)
            .sum();
        assert!(chi < 37.7, "χ² {chi}, {counts:?}");
        let first = |name| Random::of(name).word();
        assert_ne!(first([1, 2, 0, 0]), first([2, 1, 0, 0]));
        assert_ne!(first([0, 0, 1, 0]), first([0, 0, 0, 1]));
    }

    #[test]
    fn permutations_hold_every_number_once() {
        let order = Random::of([1, 2, 3, 4]).permutation(1000);
        let fixed = order.iter().enumerate().filter(|(i, o)| i == *o).count();
        assert!(fixed < 10, "{fixed} fixed points, 1 is expected");
        let mut sorted = order;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
    }
}
