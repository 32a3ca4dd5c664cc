//! Power-Softmax.

use super::{Circuit, Division, Scheme, Undivided, share};
use crate::Result;
use crate::error::Error;
use serde::{Deserialize, Serialize};

/// What a row of powers is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denominator {
    /// Their sum.
    Sum,
    /// Their mean over the keys seen, the weights being multiplied by the public 1/n: what is divided by no longer grows with the length.
    Mean,
}

/// What the scores are divided by before the power; it changes no weight, only what overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Nothing, as in a homomorphic circuit.
    None,
    /// The row's largest magnitude: the stable form, for training.
    Largest,
}

/// Power-Softmax with an even exponent from 2 to 12 and ε ≥ 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PowerParts")]
pub struct PowerSoftmax {
    exponent: u32,
    epsilon: f64,
    denominator: Denominator,
    scaling: Scaling,
}

/// As it is stored, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerParts {
    exponent: u32,
    epsilon: f64,
    denominator: Denominator,
    scaling: Scaling,
}

impl TryFrom<PowerParts> for PowerSoftmax {
    type Error = Error;

    fn try_from(p: PowerParts) -> Result<Self> {
        let checked = Self::new(p.exponent, p.epsilon)?;
        Ok(checked.over(p.denominator).scaled(p.scaling))
    }
}

impl std::fmt::Display for PowerSoftmax {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let over = match self.denominator {
            Denominator::Sum => "sum",
            Denominator::Mean => "mean",
        };
        write!(
            f,
            "Power-Softmax (p = {}, ε = {}, over the {over})",
            self.exponent, self.epsilon
        )
    }
}

impl PowerSoftmax {
    /// Over the sum, in the stable form.
    ///
    /// # Errors
    /// [`Error::Exponent`] unless the exponent is even and from 2 to 12; [`Error::Epsilon`] unless ε is finite and not negative.
    pub fn new(exponent: u32, epsilon: f64) -> Result<Self> {
        Undivided::new(exponent)?;
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(Error::Epsilon(epsilon));
        }
        Ok(Self {
            exponent,
            epsilon,
            denominator: Denominator::Sum,
            scaling: Scaling::Largest,
        })
    }

    /// The same over this denominator.
    #[must_use]
    pub fn over(self, denominator: Denominator) -> Self {
        Self {
            denominator,
            ..self
        }
    }

    /// The same computed with this scaling.
    #[must_use]
    pub fn scaled(self, scaling: Scaling) -> Self {
        Self { scaling, ..self }
    }

    /// p.
    #[must_use]
    pub fn exponent(self) -> u32 {
        self.exponent
    }

    /// ε.
    #[must_use]
    pub fn epsilon(self) -> f64 {
        self.epsilon
    }

    /// What the powers are divided by.
    #[must_use]
    pub fn denominator(self) -> Denominator {
        self.denominator
    }

    /// How it is computed.
    #[must_use]
    pub fn scaling(self) -> Scaling {
        self.scaling
    }

    /// The public 1/n that circuits multiply sums by; 1 where sums are divided by.
    fn stored_share(self, n: usize) -> f64 {
        match self.denominator {
            Denominator::Sum => 1.0,
            Denominator::Mean => share(n),
        }
    }

    /// ε as the sum over `n` keys sees it.
    fn epsilon_of_sum(self, n: usize) -> f64 {
        match self.denominator {
            Denominator::Sum => self.epsilon,
            Denominator::Mean => self.epsilon * n as f64,
        }
    }

    /// A row's scale c and the denominator of its powers of x/c.
    fn row(self, scores: &[f64]) -> (f64, f64) {
        let p = self.exponent as i32;
        let largest = match self.scaling {
            Scaling::None => 1.0,
            Scaling::Largest => {
                let largest = scores
                    .iter()
                    .fold(0.0, |m, x| if x.abs() > m { x.abs() } else { m });
                // Nothing to scale in a row of zeros; NaN must stay visible.
                if largest > 0.0 { largest } else { 1.0 }
            }
        };
        let sum: f64 = scores.iter().map(|&x| (x / largest).powi(p)).sum();
        // In this order, so that ε = 0 stays 0 where c^p underflows.
        let epsilon = self.epsilon_of_sum(scores.len());
        let epsilon = match epsilon > 0.0 {
            true => epsilon / largest.powi(p),
            false => 0.0,
        };
        (largest, epsilon + sum)
    }
}

impl Scheme for PowerSoftmax {
    fn weights(&self, scores: &[f64], weights: &mut [f64]) {
        let p = self.exponent as i32;
        let (largest, denominator) = self.row(scores);
        if denominator == 0.0 {
            weights.fill(0.0);
            return;
        }
        for (w, &x) in weights.iter_mut().zip(scores) {
            *w = (x / largest).powi(p) / denominator;
        }
    }

    fn division(&self) -> std::result::Result<Option<Division>, &'static str> {
        Ok(Some(Division {
            least: self.epsilon,
        }))
    }

    fn numerators(&self, scores: &[f64], numerators: &mut [f64]) {
        let share = self.stored_share(scores.len());
        for (n, x) in numerators.iter_mut().zip(scores) {
            *n = x.powi(self.exponent as i32) * share;
        }
    }

    fn divisor(&self, scores: &[f64]) -> f64 {
        let sum: f64 = scores.iter().map(|x| x.powi(self.exponent as i32)).sum();
        self.epsilon + sum * self.stored_share(scores.len())
    }

    fn passes_over_zeros(&self) -> bool {
        // a mean is over the keys that are there
        self.denominator == Denominator::Sum
    }

    fn circuit<C: Circuit>(&self, c: &mut C, scores: C::Value) -> Result<C::Value> {
        let powers = c.power(scores, self.exponent)?;
        let weighed = c.weigh(powers)?;
        // Sums over the distances, on all of which the division waits.
        let mut sum = c.sum(powers)?;
        let mut numerator = c.sum_weighed(weighed)?;
        if self.denominator == Denominator::Mean {
            [sum, numerator] = c.mean([sum, numerator])?;
        }
        c.divide(numerator, sum, self.epsilon)
    }
}
