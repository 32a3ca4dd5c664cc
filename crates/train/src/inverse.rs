//! Divisions and inverse roots in training: exact, or the programs of additions and products that a homomorphic circuit carries out.
//!
//! A unit's *divisor* is one positive number a row: a normalisation's variance + ε (whose inverse root is taken), or the divisor of a row of
//! attention's powers. A program holds on an interval of divisors; [`VarianceLoss`] narrows it, as in Zimerman et al., *Converting Transformers to
//! Polynomial Form* (arXiv 2311.08610), eq. 11.

use crate::activation::Seen;
use crate::error::{Error, Result};
use crate::mode::Mode;
use approx::{Function, Program};
use nn::lower::Numerator;
use serde::{Deserialize, Serialize};

/// How training narrows the interval of a unit's divisors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum VarianceLoss {
    /// Not at all.
    #[default]
    None,
    /// `weight · max d` over the batch's rows, for each unit. [arXiv 2311.08610]
    Largest {
        /// β.
        weight: f32,
    },
    /// `weight · mean (ln d − mean ln d)²` over the batch's rows, for each unit: what a program costs depends on the interval's ratio.
    Spread {
        /// Its weight.
        weight: f32,
    },
}

impl VarianceLoss {
    pub(crate) fn weight(self) -> f32 {
        match self {
            Self::None => 0.0,
            Self::Largest { weight } | Self::Spread { weight } => weight,
        }
    }

    /// The loss of these divisors, times `share`; its derivatives by each of them, if there is a loss.
    pub(crate) fn evaluate(self, divisors: &[f32], share: f32) -> (f64, Option<Vec<f32>>) {
        match self {
            Self::Largest { weight } if weight > 0.0 => {
                let mut at = 0;
                for (i, d) in divisors.iter().enumerate() {
                    if *d > divisors[at] {
                        at = i;
                    }
                }
                let mut slopes = vec![0.0; divisors.len()];
                slopes[at] = weight * share;
                let loss = f64::from(weight * share) * f64::from(divisors[at]);
                (loss, Some(slopes))
            }
            Self::Spread { weight } if weight > 0.0 => {
                let n = divisors.len() as f64;
                let logs: Vec<f64> = divisors.iter().map(|&d| f64::from(d).ln()).collect();
                let mean = logs.iter().sum::<f64>() / n;
                let weight = f64::from(weight * share) / n;
                let loss = weight * logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>();
                let slope =
                    |(l, d): (&f64, &f32)| (2.0 * weight * (l - mean) / f64::from(*d)) as f32;
                (loss, Some(logs.iter().zip(divisors).map(slope).collect()))
            }
            _ => (0.0, None),
        }
    }
}

/// How divisions or inverse roots become programs of additions and products.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iteration {
    /// The relative error is at most 2^−bits on the interval.
    pub bits: f64,
    /// What calibration saw is widened to both sides by this factor, above 1: [low/factor, high·factor].
    #[serde(default = "two")]
    pub factor: f64,
    /// Whether the program carries the numerator along, which saves a level and takes its steps on as many values as the numerator has;
    /// otherwise a product at the end brings it in.
    #[serde(default = "yes")]
    pub carried: bool,
    /// Pictures (or windows of text) to calibrate on.
    #[serde(default = "crate::config::count::<2000>")]
    pub pictures: usize,
}

fn yes() -> bool {
    true
}

fn two() -> f64 {
    2.0
}

/// Where a program's numerator is.
pub(crate) fn numerator(carried: bool) -> Numerator {
    match carried {
        true => Numerator::Carried,
        false => Numerator::Apart,
    }
}

/// One division or inverse root of a network in training.
#[derive(Debug, Clone, PartialEq)]
pub struct InverseUnit {
    /// The node's name.
    pub name: String,
    /// Of a root or of a division; with a numerator where the program carries it along.
    pub function: Function,
    /// No divisor is smaller.
    pub least: f32,
    /// What it computes with, once that is no longer the exact function.
    pub program: Option<Program>,
    /// Where the program was asked to hold.
    pub domain: (f32, f32),
    /// The precision that was asked for; the program's relative error is at most 2^−bits.
    pub bits: f32,
    /// The divisors seen since the ranges were cleared.
    pub seen: Seen,
}

impl InverseUnit {
    pub(crate) fn new(name: &str, function: Function, least: f32) -> Self {
        Self {
            name: name.into(),
            function,
            least,
            program: None,
            domain: (0.0, f32::INFINITY),
            bits: 0.0,
            seen: Seen::default(),
        }
    }

    /// The inverse (root) of a divisor. In training, what lies outside of a program's interval gets the exact function: a step must not be lost to
    /// one row; evaluation has no such guard.
    #[must_use]
    pub fn value(&self, divisor: f32, mode: Mode) -> f32 {
        match &self.program {
            Some(p) if !mode.trains() || (self.domain.0..=self.domain.1).contains(&divisor) => {
                p.eval(f64::from(divisor)) as f32
            }
            _ => self.exact(divisor),
        }
    }

    pub(crate) fn exact(&self, divisor: f32) -> f32 {
        self.function.value(f64::from(divisor)) as f32
    }

    pub(crate) fn record(&mut self, divisors: &[f32]) {
        self.seen
            .record(divisors, self.program.as_ref().map(|_| self.domain));
    }

    /// The program of the fewest levels on what was seen since the ranges were cleared, widened.
    ///
    /// # Errors
    /// [`Error::Network`] where nothing was seen, [`Error::Fit`] where no program holds.
    pub fn substitute(&mut self, how: &Iteration) -> Result<()> {
        if self.seen.low > self.seen.high {
            return Err(Error::Network(nn::Error::NoData));
        }
        let factor = how.factor as f32;
        // a little below, for rounding
        let least = self.least * (1.0 - 1e-6);
        let domain = (
            (self.seen.low / factor).max(least),
            // an interval needs two ends
            (self.seen.high * factor).max(self.least * 1.001),
        );
        self.set(domain, how.bits as f32, numerator(how.carried))
    }

    /// The program of the fewest levels on this interval.
    ///
    /// # Errors
    /// [`Error::Fit`] where no program holds.
    pub fn set(&mut self, domain: (f32, f32), bits: f32, numerator: Numerator) -> Result<()> {
        self.function = match (self.function.has_root(), numerator) {
            (true, Numerator::Apart) => Function::InverseSquareRoot,
            (true, Numerator::Carried) => Function::RootQuotient,
            (false, Numerator::Apart) => Function::Reciprocal,
            (false, Numerator::Carried) => Function::Quotient,
        };
        let interval = (f64::from(domain.0), f64::from(domain.1));
        let program =
            approx::iteration::choose(self.function, interval, f64::from(bits), u32::MAX)?;
        self.program = Some(program);
        self.domain = domain;
        self.bits = bits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_their_differences_as_derivatives() {
        let divisors = [0.3f32, 2.0, 0.9, 1.4];
        for loss in [
            VarianceLoss::Largest { weight: 0.4 },
            VarianceLoss::Spread { weight: 0.7 },
        ] {
            let (_, slopes) = loss.evaluate(&divisors, 0.5);
            let slopes = slopes.expect("a loss");
            for i in 0..4 {
                let at = |h: f32| {
                    let mut d = divisors;
                    d[i] += h;
                    loss.evaluate(&d, 0.5).0
                };
                let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
                assert!(
                    (slope - f64::from(slopes[i])).abs() < 1e-4,
                    "{loss:?}, {i}: {slope} not {}",
                    slopes[i]
                );
            }
        }
        assert_eq!(VarianceLoss::None.evaluate(&divisors, 1.0), (0.0, None));
    }

    #[test]
    fn programs_replace_the_exact_function_and_only_training_is_guarded() {
        let mut u = InverseUnit::new("u", Function::InverseSquareRoot, 1e-5);
        u.record(&[0.5, 2.0]);
        u.substitute(&Iteration {
            bits: 12.0,
            factor: 2.0,
            carried: true,
            pictures: 1,
        })
        .expect("a program");
        assert_eq!(u.domain, (0.25, 4.0));
        for d in [0.25f32, 0.7, 4.0] {
            let relative = f64::from(u.value(d, Mode::Evaluate)) * f64::from(d).sqrt() - 1.0;
            assert!(relative.abs() < 2f64.powi(-12) + 1e-7, "{d}: {relative}");
        }
        assert!((u.value(100.0, Mode::Train) - 0.1).abs() < 1e-6);
        assert!((u.value(100.0, Mode::Evaluate) - 0.1).abs() > 0.1);
        u.record(&[100.0, 1.0]);
        assert_eq!(u.seen.outside, 1);
    }
}
