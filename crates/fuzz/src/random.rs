//! Reproducible choices: execution `n` of a decoder, or try `n` of a group, depends on nothing but the seed, the name and `n`.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    /// Those of one execution.
    pub fn new(seed: u64, name: &str, execution: u64) -> Self {
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        let mut start = Self(seed ^ name);
        let first = start.next();
        Self(first ^ execution.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
    /// 64 bits.
    #[allow(clippy::should_implement_trait, reason = "never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `n`; 0 for n = 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.next().checked_rem(n as u64).unwrap_or(0) as usize
    }
    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Uniform in [−1, 1).
    pub fn centred(&mut self) -> f64 {
        2.0 * self.uniform() - 1.0
    }
    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// A number at which lengths, counts, levels and versions tend to break: a power of two, one below or one above it, or a small one.
    pub fn boundary(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(10) as u64,
            _ => (1u64 << self.below(64))
                .wrapping_add(self.next() % 3)
                .wrapping_sub(1),
        }
    }
    /// One of them.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
    /// One of several words.
    pub fn word(&mut self, words: &str) -> Vec<u8> {
        let all: Vec<&str> = words.split_whitespace().collect();
        self.pick(&all).as_bytes().to_vec()
    }
    /// One of several seeds; the last, which is the largest, seldom.
    pub fn seed<'a, T>(&mut self, seeds: &'a [T]) -> &'a T {
        let few = if self.one_in(16) {
            seeds.len()
        } else {
            seeds.len().max(2) - 1
        };
        &seeds[self.below(few)]
    }
    /// How many mutations to make: 1 half of the time, 2 a quarter of it, up to 6.
    pub fn few(&mut self) -> usize {
        (self.next().trailing_zeros() as usize).min(5) + 1
    }
    /// A part of `0..length`, short ones preferred.
    pub fn span(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.below(length + 1);
        let most = length - begin;
        let few = if self.one_in(4) { most } else { most.min(16) };
        begin..begin + self.below(few + 1)
    }
}
