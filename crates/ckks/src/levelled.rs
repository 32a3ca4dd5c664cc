//! Parameter sets without bootstrapping, made to measure: ring, levels, scale and digits, and nothing that a network does not need.

use crate::ParametersSpec;
use crate::parameters::{WEIGHT_BITS, Zone};
use crate::security;

/// Rings that levelled sets are made for, as log2 N.
pub const LEVELLED_RINGS: std::ops::RangeInclusive<u32> = 13..=16;
/// Levels and digits that a set may have.
const MOST_LEVELS: usize = 60;
const MOST_DIGITS: usize = 16;
/// Primes of a digit, and of P.
const LARGEST_DIGIT: usize = 24;
/// Bits of any prime.
const MOST_BITS: u32 = 50;
/// Bits of q0 above the scale: values up to 2^9 at level 0, where plans promise 64 at most.
const HEADROOM: u32 = 10;
/// Bits of P above the largest digit: switching a key then adds no more than rounding does.
const SLACK: u32 = 2;
/// The primes' product may lie a little above the power of two that they are drawn near.
const DRAWN: f64 = 0.5;
/// Bits that a level's scale may be off: of the ten above it, plans promise seven.
const MOST_DRIFT: f64 = 1.0;

/// Bits of a level's prime at which rounding is relative to a value what it is in [`ParametersSpec::standard`]: a rounding's error grows as N.
pub const fn fine_bits(log_n: u32) -> u32 {
    24 + log_n
}

/// Bits of a level's prime: below, too few primes lie near each other for scales to keep.
const fn least_bits(log_n: u32) -> u32 {
    15 + log_n
}

impl ParametersSpec {
    /// Without bootstrapping: N = 2^`log_n`, so many levels of one prime of `bits` bits, key switching in digits of at most `digit` primes. q0
    /// has 2^10 above the scale, P 2^2 above the largest digit. Its name says all four; whether it is secure, [`Parameters::new`](crate::Parameters::new) says.
    pub fn levelled(log_n: u32, levels: usize, bits: u32, digit: usize) -> Self {
        let limbs = levels + 1;
        let dnum = limbs.div_ceil(digit.clamp(1, limbs));
        // as even as digits can be
        let digit = limbs.div_ceil(dnum);
        let base_bits = (bits + HEADROOM).min(MOST_BITS);
        let first = base_bits + (digit as u32 - 1) * bits;
        let special = (first + SLACK).div_ceil(digit as u32).min(MOST_BITS);
        Self {
            name: format!("levelled-{log_n}-{levels}x{bits}-{digit}"),
            log_n,
            base_bits,
            residual: Zone::new(levels, &[bits]),
            bootstrap: None,
            special_bits: vec![special; digit],
            dnum,
            log_scale: bits,
        }
    }

    /// The set of a name: `standard-16`, `coefficients-16-K`, `coefficients-16-K-20` for weights of 20 bits, or that of a levelled set,
    /// `levelled-LOG N-LEVELSxBITS-DIGIT` ([`ParametersSpec::levelled`]).
    pub fn named(name: &str) -> Option<Self> {
        let coefficients = (2..=9)
            .filter_map(|k| Self::coefficients(k).ok())
            .flat_map(|set| WEIGHT_BITS.map(|bits| set.clone().with_weight_bits(bits)));
        let preset = std::iter::once(Self::standard())
            .chain(coefficients)
            .find(|set| set.name == name);
        if preset.is_some() {
            return preset;
        }
        let numbers: Vec<usize> = (name.strip_prefix("levelled-")?)
            .split(['-', 'x'])
            .map(|n| n.parse().ok())
            .collect::<Option<_>>()?;
        let &[log_n, levels, bits, digit] = &numbers[..] else {
            return None;
        };
        let small = |n: usize| u32::try_from(n).ok();
        let (log_n, bits) = (small(log_n)?, small(bits)?);
        let known = LEVELLED_RINGS.contains(&log_n)
            && (1..=MOST_LEVELS).contains(&levels)
            && (least_bits(log_n)..=MOST_BITS).contains(&bits)
            && (1..=levels + 1).contains(&digit);
        let made = known.then(|| Self::levelled(log_n, levels, bits, digit));
        made.filter(|made| made.name == name)
    }

    /// The levelled sets of a ring with so many levels that have 128 bits of security, one for each size of digits, each with the widest primes that
    /// leave it so, [`fine_bits`] at most.
    pub fn levelled_sets(log_n: u32, levels: usize) -> Vec<Self> {
        let limit = security::ternary_limit(log_n) - DRAWN;
        let mut sets: Vec<Self> = Vec::new();
        for digit in 1..=(levels + 1).min(LARGEST_DIGIT) {
            let widest = (least_bits(log_n)..=fine_bits(log_n))
                .rev()
                .map(|bits| Self::levelled(log_n, levels, bits, digit))
                .find(|set| set.nominal_log_qp() <= limit);
            let within = |set: &Self| levels <= MOST_LEVELS && set.dnum <= MOST_DIGITS;
            if let Some(set) = widest.filter(within)
                && !sets.contains(&set)
                && set.drift().is_ok_and(|off| off <= MOST_DRIFT)
            {
                sets.push(set);
            }
        }
        sets
    }

    /// log2 of QP at least that a levelled set with so many levels takes.
    pub fn least_log_qp(log_n: u32, levels: usize) -> f64 {
        let digits = (levels + 1).div_ceil(MOST_DIGITS)..=(levels + 1).min(LARGEST_DIGIT);
        digits
            .map(|digit| Self::levelled(log_n, levels, least_bits(log_n), digit).nominal_log_qp())
            .fold(f64::INFINITY, f64::min)
    }

    /// log2 of QP without bootstrapping, as the bits say it.
    fn nominal_log_qp(&self) -> f64 {
        let levels = self.residual.levels as u32 * self.residual.bits.iter().sum::<u32>();
        f64::from(self.base_bits + levels + self.special_bits.iter().sum::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Parameters};

    #[test]
    fn every_set_that_is_offered_has_128_bits_and_keeps_its_scales() {
        let mut made = 0;
        for log_n in LEVELLED_RINGS {
            let mut fewer = usize::MAX;
            for levels in 1..=MOST_LEVELS {
                let sets = ParametersSpec::levelled_sets(log_n, levels);
                assert!(sets.len() <= fewer.max(levels + 1));
                if sets.is_empty() {
                    // more levels do not fit either
                    assert!(fewer == 0 || levels > 2, "2^{log_n}: {levels} levels");
                    fewer = 0;
                    continue;
                }
                assert!(fewer > 0, "2^{log_n}: {levels} levels after none");
                // the largest rings' tables take a while: of every number of levels the finest and the coarsest digits
                let count = sets.len();
                let some = sets.into_iter().enumerate();
                for (_, set) in some.filter(|(i, _)| *i == 0 || i + 1 == count || log_n < 15) {
                    let name = set.name.clone();
                    assert_eq!(ParametersSpec::named(&name).as_ref(), Some(&set));
                    let p = Parameters::new(set).expect(&name);
                    assert_eq!((p.security_bits(), p.n()), (128, 1 << log_n), "{name}");
                    assert_eq!(p.residual().index(), levels, "{name}");
                    for level in 0..=levels {
                        let off = p.scale(Level::new(level)).log2() - f64::from(p.spec().log_scale);
                        assert!(
                            off.abs() <= MOST_DRIFT,
                            "{name}: level {level} is off by {off}"
                        );
                    }
                    made += 1;
                }
            }
        }
        assert!(made > 100, "{made}");
    }

    #[test]
    fn names_that_are_no_set_are_none() {
        for name in [
            "",
            "levelled",
            "levelled-12-3x30-1",
            "levelled-14-0x30-1",
            "levelled-14-3x10-1",
            "levelled-14-3x30-9",
            "levelled-14-3x30",
            "levelled-14-3x30-1-1",
            "levelled-014-3x30-1",
            "levelled-14-99999999999999999999x30-1",
            "standard-15",
            "toy-14",
        ] {
            assert_eq!(ParametersSpec::named(name), None, "{name}");
        }
        let standard = ParametersSpec::standard();
        assert_eq!(ParametersSpec::named("standard-16"), Some(standard));
        // one that is known by its name need not be secure
        let wide = ParametersSpec::named("levelled-13-9x40-2").expect("well-formed");
        assert!(matches!(
            Parameters::new(wide),
            Err(crate::Error::Insecure { .. })
        ));
    }
}
