//! Counts of values in bins of equal relative width: no range has to be known beforehand, and merging is exact.

use crate::poly_graph::Range;

/// Bins per octave.
const PER_OCTAVE: usize = 16;
/// Magnitudes below 2^LOWEST share the middle bin, those above 2^HIGHEST the outermost.
const LOWEST: i64 = -16;
const HIGHEST: i64 = 24;
const SIDE: usize = (HIGHEST - LOWEST) as usize * PER_OCTAVE;
/// Bits to drop from an f64 so that its exponent and the first four bits of its fraction remain.
const SHIFT: u32 = 48;
const FIRST: u64 = ((1023 + LOWEST) as u64) << 4;

/// How often values occurred, in bins of 1/16 octave on both sides of zero (middle bin: magnitudes below 2^−16).
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    min: f64,
    max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; 2 * SIDE + 1],
            total: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

fn bin(value: f64) -> usize {
    let index = (value.abs().to_bits() >> SHIFT).saturating_sub(FIRST);
    let below = value.abs() < 2f64.powi(LOWEST as i32);
    match (below, value > 0.0) {
        (true, _) => SIDE,
        (false, true) => SIDE + 1 + (index as usize).min(SIDE - 1),
        (false, false) => SIDE - 1 - (index as usize).min(SIDE - 1),
    }
}

/// Lower and upper end of a bin.
fn ends(bin: usize) -> (f64, f64) {
    let edge = |i: usize| f64::from_bits((FIRST + i as u64) << SHIFT);
    match bin {
        SIDE => (-edge(0), edge(0)),
        b if b > SIDE => (edge(b - SIDE - 1), edge(b - SIDE)),
        b => (-edge(SIDE - b), -edge(SIDE - 1 - b)),
    }
}

impl Histogram {
    /// Counts one finite value.
    pub fn add(&mut self, value: f64) {
        self.counts[bin(value)] += 1;
        self.total += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        self.total += other.total;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Exact smallest and largest value; None before the first.
    #[must_use]
    pub fn range(&self) -> Option<Range> {
        (self.total > 0).then_some(Range {
            min: self.min,
            max: self.max,
        })
    }

    /// Probability density at `x`: share of the values in its bin over the bin's width.
    #[must_use]
    pub fn density(&self, x: f64) -> f64 {
        let b = bin(x);
        let (low, high) = ends(b);
        self.counts[b] as f64 / (self.total.max(1) as f64 * (high - low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_their_values() {
        for i in -400..400 {
            let v = f64::from(i) * 0.037 + 1e-7;
            let (low, high) = ends(bin(v));
            assert!(low <= v && v <= high, "{v} in {low}..{high}");
        }
        for b in 1..2 * SIDE {
            assert_eq!(ends(b).0, ends(b - 1).1, "bin {b}");
        }
    }

    #[test]
    fn density_of_an_even_spread() {
        let mut h = Histogram::default();
        for i in 0..100_000 {
            h.add(-2.0 + 5.0 * (f64::from(i) + 0.5) / 100_000.0);
        }
        for x in [-1.5, 0.3, 1.1, 2.5] {
            assert!((h.density(x) - 0.2).abs() < 0.01, "{x}: {}", h.density(x));
        }
        assert_eq!(h.density(7.0), 0.0);
        assert_eq!(Histogram::default().range(), None);
    }
}
