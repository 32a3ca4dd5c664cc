//! Powers of scores over the number of keys: attention without a division, so without its levels and its interval.
//!
//! `w_j = x_j^p/n` for a row that sees n keys, p even. As with attention by ReLU (M. Wortsman et al., "Replacing softmax with ReLU in Vision
//! Transformers" (2023)), weights don't sum to 1, and the public 1/n is what keeps them of one size for all lengths.

use super::{Circuit, Division, Scheme, share};
use crate::Result;
use crate::error::Error;
use serde::{Deserialize, Serialize};

/// `w_j = x_j^p/n`, p even from 2 to 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Undivided {
    exponent: u32,
}

impl Undivided {
    /// Of this exponent.
    ///
    /// # Errors
    /// [`Error::Exponent`] unless it is even and from 2 to 12.
    pub fn new(exponent: u32) -> Result<Self> {
        match exponent {
            2..=12 if exponent.is_multiple_of(2) => Ok(Self { exponent }),
            had => Err(Error::Exponent(had)),
        }
    }
}

impl TryFrom<u32> for Undivided {
    type Error = Error;

    fn try_from(exponent: u32) -> Result<Self> {
        Self::new(exponent)
    }
}

impl From<Undivided> for u32 {
    fn from(u: Undivided) -> Self {
        u.exponent
    }
}

impl std::fmt::Display for Undivided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "undivided powers (p = {})", self.exponent)
    }
}

impl Scheme for Undivided {
    fn weights(&self, scores: &[f64], weights: &mut [f64]) {
        let n = scores.len() as f64;
        for (w, &x) in weights.iter_mut().zip(scores) {
            *w = x.powi(self.exponent as i32) / n;
        }
    }

    fn division(&self) -> std::result::Result<Option<Division>, &'static str> {
        Ok(None)
    }

    fn numerators(&self, scores: &[f64], numerators: &mut [f64]) {
        let share = share(scores.len());
        for (n, x) in numerators.iter_mut().zip(scores) {
            *n = x.powi(self.exponent as i32) * share;
        }
    }

    fn divisor(&self, _: &[f64]) -> f64 {
        1.0
    }

    fn passes_over_zeros(&self) -> bool {
        false
    }

    fn circuit<C: Circuit>(&self, c: &mut C, scores: C::Value) -> Result<C::Value> {
        let powers = c.power(scores, self.exponent)?;
        let weighed = c.weigh(powers)?;
        let sum = c.sum_weighed(weighed)?;
        let [mean] = c.mean([sum])?;
        Ok(mean)
    }
}
