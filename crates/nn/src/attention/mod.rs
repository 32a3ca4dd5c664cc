//! How scores become weights: the one place where attention's schemes are defined and checked.
//!
//! A row is what one query scores against the keys that it sees, x; a [`Scheme`] turns it into weights w. Keys that a query does not see
//! weigh exactly 0: [`Mask::visible`] says how many it sees, and a scheme is given those only. For the power schemes that is the same
//! as multiplying the scores by a mask of zeros and ones before the power, which is how the encrypted circuit does it.
//!
//! **Softmax**: `w_j = e^(x_j)/Σ e^(x_i)`. No polynomial network has it.
//!
//! **Undivided powers**: `w_j = x_j^p/n`.
//!
//! **Power-Softmax** (p even, ε ≥ 0, n keys seen): `w_j = x_j^p/(ε + Σ x_i^p)`, or, agnostic of the length, `w_j = (1/n)·x_j^p/(ε + mean x_i^p)`,
//! where 1/n is public; the second is the first with n·ε. Both may be computed after dividing x by the row's largest magnitude c (and ε by c^p),
//! which changes nothing but what overflows. Weights sum to S/(ε + S) < 1 with S the sum (the mean) of powers; a row of zeros weighs nothing.
//!
//! Reference: I. Zimerman et al., "Power-Softmax: Towards Secure LLM Inference over Encrypted Data" (2024), Eqs. 2–8 and 11.

mod power;
mod softmax;
mod undivided;

pub use power::{Denominator, PowerSoftmax, Scaling};
pub use softmax::Softmax;
pub use undivided::Undivided;

use crate::Result;
use serde::{Deserialize, Serialize};

/// From a row of scores to a row of weights, and how a circuit does it. All slices are as long as the row, which is
/// never empty. To add a scheme, implement this in a file of its own and name it in the registry below.
pub trait Scheme {
    /// The weights of the keys that these scores belong to.
    fn weights(&self, scores: &[f64], weights: &mut [f64]);

    /// How the scheme divides, if it has a polynomial form with a division.
    ///
    /// # Errors
    /// Why it has no polynomial form.
    fn division(&self) -> std::result::Result<Option<Division>, &'static str>;

    /// A row's numerators; the weights, where nothing is divided.
    fn numerators(&self, scores: &[f64], numerators: &mut [f64]);

    /// What the numerators of these scores are divided by: at least [`Division::least`].
    fn divisor(&self, scores: &[f64]) -> f64;

    /// The score of a key that an input marks with 1 (seen) or 0 (padding), of which the latter weighs nothing.
    fn marked(&self, score: f64, mark: f64) -> f64 {
        score * mark
    }

    /// Whether keys that score 0 weigh nothing, and change no other key's weight: places for keys that are not there yet may then be zeros.
    fn passes_over_zeros(&self) -> bool;

    /// From scores to the weighed values, in a circuit.
    ///
    /// # Errors
    /// Those of the circuit's operations.
    fn circuit<C: Circuit>(&self, c: &mut C, scores: C::Value) -> Result<C::Value>;
}

/// The division of a scheme that has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Division {
    /// No divisor is smaller.
    pub least: f64,
}

/// What a scheme's circuit is written in. Scores are rows, one for each distance between query and key, the same for all channels of a head.
pub trait Circuit {
    /// A value under computation.
    type Value: Copy;

    /// x^p by squarings and products, p even.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    fn power(&mut self, x: Self::Value, p: u32) -> Result<Self::Value>;

    /// Numerators times the values that they weigh.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    fn weigh(&mut self, numerators: Self::Value) -> Result<Self::Value>;

    /// The sum over all distances of what is divided by.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    fn sum(&mut self, numerators: Self::Value) -> Result<Self::Value>;

    /// The sum over all distances of weighed values.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    fn sum_weighed(&mut self, weighed: Self::Value) -> Result<Self::Value>;

    /// Sums times the public 1/n ([`share`]) of rows that see n keys.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`].
    fn mean<const N: usize>(&mut self, sums: [Self::Value; N]) -> Result<[Self::Value; N]>;

    /// Weighed values divided by ε + sums, with the program that stands in the division's place.
    ///
    /// # Errors
    /// [`crate::Error::NotLowered`] where there is none.
    fn divide(
        &mut self,
        weighed: Self::Value,
        sums: Self::Value,
        epsilon: f64,
    ) -> Result<Self::Value>;
}

/// The public 1/n of a row that sees n keys, as a network stores numbers.
#[must_use]
pub fn share(n: usize) -> f64 {
    f64::from((1.0 / n as f64) as f32)
}

macro_rules! registry {
    ($($(#[$about:meta])* $variant:ident($scheme:ident),)*) => {
        /// The schemes by name, as models are stored.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AttentionScheme {
            /// Softmax.
            Softmax,
            $($(#[$about])* $variant($scheme),)*
        }

        /// Asks the scheme.
        macro_rules! each {
            ($own:expr, $s:ident => $result:expr) => {
                match $own {
                    AttentionScheme::Softmax => {
                        let $s = &Softmax;
                        $result
                    }
                    $(AttentionScheme::$variant($s) => $result,)*
                }
            };
        }
    };
}

registry! {
    /// Power-Softmax.
    Power(PowerSoftmax),
    /// Powers without a division.
    Undivided(Undivided),
}

impl std::fmt::Display for AttentionScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        each!(self, s => s.fmt(f))
    }
}

impl Scheme for AttentionScheme {
    fn weights(&self, scores: &[f64], weights: &mut [f64]) {
        each!(self, s => s.weights(scores, weights));
    }

    fn division(&self) -> std::result::Result<Option<Division>, &'static str> {
        each!(self, s => s.division())
    }

    fn numerators(&self, scores: &[f64], numerators: &mut [f64]) {
        each!(self, s => s.numerators(scores, numerators));
    }

    fn divisor(&self, scores: &[f64]) -> f64 {
        each!(self, s => Scheme::divisor(s, scores))
    }

    fn marked(&self, score: f64, mark: f64) -> f64 {
        each!(self, s => s.marked(score, mark))
    }

    fn passes_over_zeros(&self) -> bool {
        each!(self, s => s.passes_over_zeros())
    }

    fn circuit<C: Circuit>(&self, c: &mut C, scores: C::Value) -> Result<C::Value> {
        each!(self, s => s.circuit(c, scores))
    }
}

/// Which keys the queries see, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// In which order.
    pub order: Order,
    /// How many positions from the first on are tokens; the rest is padding that nobody sees. All if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<usize>,
}

/// Whether a query sees what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Itself and what is before.
    Causal,
    /// All.
    Full,
    /// All that a fourth input `(1, 1, L)` marks with 1; what it marks with 0 is padding. Scores of Power-Softmax are multiplied by it before
    /// the power and a mean is over all L, marked or not, so that how many are marked is nothing that a circuit has to know.
    Marked,
    /// One query, `(H·d, 1, 1)`, all keys and values that are kept, `(H'·d, R, 1)`, one a row. Rows that nothing was written to are zeros: a score of 0 weighs
    /// nothing in a sum of powers ([`Scheme::passes_over_zeros`]).
    Kept,
}

impl Mask {
    /// Itself and what is before, no padding.
    pub const CAUSAL: Self = Self::all(Order::Causal);
    /// Everything.
    pub const FULL: Self = Self::all(Order::Full);
    /// What a fourth input marks.
    pub const MARKED: Self = Self::all(Order::Marked);
    /// Everything that is kept.
    pub const KEPT: Self = Self::all(Order::Kept);

    const fn all(order: Order) -> Self {
        let valid = None;
        Self { order, valid }
    }

    /// How many keys, from the first on, the query at this position of a sequence of this length sees; at least one.
    #[must_use]
    pub fn visible(self, query: usize, length: usize) -> usize {
        let order = match self.order {
            Order::Causal => query + 1,
            Order::Full | Order::Marked | Order::Kept => length,
        };
        order.min(self.valid.unwrap_or(length)).min(length)
    }
}

#[cfg(test)]
mod tests;
