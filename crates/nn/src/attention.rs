//! How scores become weights: the one place where attention's schemes are defined, differentiated and checked.
//!
//! A row is what one query scores against the keys that it sees, x; a [`Scheme`] turns it into weights w. Keys that a query does not see
//! weigh exactly 0: [`Mask::visible`] says how many it sees, and a scheme is given those only. For the power schemes that is the same
//! as multiplying the scores by a mask of zeros and ones before the power, which is how the encrypted circuit does it.
//!
//! **Softmax**: `w_j = e^(x_j)/Σ e^(x_i)`. No polynomial network has it.
//!
//! **Power-Softmax** (p even, ε ≥ 0, n keys seen): `w_j = x_j^p/(ε + Σ x_i^p)`, or, agnostic of the length, `w_j = (1/n)·x_j^p/(ε + mean x_i^p)`,
//! where 1/n is public; the second is the first with n·ε. Both may be computed after dividing x by the row's largest magnitude c (and ε by c^p),
//! which changes nothing but what overflows. Weights sum to S/(ε + S) < 1 with S the sum (the mean) of powers; a row of zeros weighs nothing.
//!
//! Reference: I. Zimerman et al., "Power-Softmax: Towards Secure LLM Inference over Encrypted Data" (2024), Eqs. 2–8 and 11.

use crate::Result;
use crate::error::Error;
use crate::op::Attention;
use crate::sequence;
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// The real numbers that schemes are computed in: f64 for the oracle, f32 for training.
pub trait Real:
    Copy
    + PartialOrd
    + std::iter::Sum
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Not a number.
    const NAN: Self;
    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// |x|.
    fn abs(self) -> Self;
    /// e^x.
    fn exp(self) -> Self;
    /// x^n.
    fn powi(self, n: i32) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NAN: Self = <$t>::NAN;
            fn of(x: f64) -> Self {
                x as Self
            }
            fn abs(self) -> Self {
                self.abs()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn powi(self, n: i32) -> Self {
                self.powi(n)
            }
        }
    };
}
real!(f32);
real!(f64);

/// From a row of scores to a row of weights, and back for gradients. All slices are as long as the row, which is never empty.
pub trait Scheme {
    /// The weights of the keys that these scores belong to.
    fn weights<T: Real>(&self, scores: &[T], weights: &mut [T]);

    /// The gradient by the scores, from the scores, the weights that they gave and the gradient by those weights.
    fn gradient<T: Real>(&self, scores: &[T], weights: &[T], upstream: &[T], gradient: &mut [T]);

    /// As [`Scheme::weights`] for a whole row of which the first `visible` keys are seen; the others weigh 0.
    fn masked_weights<T: Real>(&self, scores: &[T], visible: usize, weights: &mut [T]) {
        let (seen, hidden) = weights.split_at_mut(visible);
        self.weights(&scores[..visible], seen);
        hidden.fill(T::ZERO);
    }

    /// As [`Scheme::gradient`] for a whole row of which the first `visible` keys are seen; the others' scores have no influence.
    fn masked_gradient<T: Real>(
        &self,
        scores: &[T],
        visible: usize,
        weights: &[T],
        upstream: &[T],
        gradient: &mut [T],
    ) {
        let (seen, hidden) = gradient.split_at_mut(visible);
        self.gradient(
            &scores[..visible],
            &weights[..visible],
            &upstream[..visible],
            seen,
        );
        hidden.fill(T::ZERO);
    }
}

/// The schemes by name, as models are stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionScheme {
    /// Softmax.
    Softmax,
    /// Power-Softmax.
    Power(PowerSoftmax),
}

impl std::fmt::Display for AttentionScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Softmax => f.write_str("softmax"),
            Self::Power(p) => p.fmt(f),
        }
    }
}

impl Scheme for AttentionScheme {
    fn weights<T: Real>(&self, scores: &[T], weights: &mut [T]) {
        match self {
            Self::Softmax => Softmax.weights(scores, weights),
            Self::Power(p) => p.weights(scores, weights),
        }
    }

    fn gradient<T: Real>(&self, scores: &[T], weights: &[T], upstream: &[T], gradient: &mut [T]) {
        match self {
            Self::Softmax => Softmax.gradient(scores, weights, upstream, gradient),
            Self::Power(p) => p.gradient(scores, weights, upstream, gradient),
        }
    }
}

/// `w_j = e^(x_j)/Σ e^(x_i)`, computed after subtracting the largest score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax;

impl Scheme for Softmax {
    fn weights<T: Real>(&self, scores: &[T], weights: &mut [T]) {
        let largest = scores
            .iter()
            .fold(scores[0], |m, &x| if x > m { x } else { m });
        let mut sum = T::ZERO;
        for (w, &x) in weights.iter_mut().zip(scores) {
            *w = (x - largest).exp();
            sum = sum + *w;
        }
        for w in weights {
            *w = *w / sum;
        }
    }

    fn gradient<T: Real>(&self, _: &[T], weights: &[T], upstream: &[T], gradient: &mut [T]) {
        let mean: T = weights.iter().zip(upstream).map(|(&w, &g)| w * g).sum();
        for ((out, &w), &g) in gradient.iter_mut().zip(weights).zip(upstream) {
            *out = w * (g - mean);
        }
    }
}

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
#[serde(try_from = "PowerParts", into = "PowerParts")]
pub struct PowerSoftmax {
    exponent: u8,
    epsilon: f64,
    denominator: Denominator,
    scaling: Scaling,
}

#[derive(Serialize, Deserialize)]
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
        Ok(Self {
            denominator: p.denominator,
            scaling: p.scaling,
            ..Self::new(p.exponent, p.epsilon)?
        })
    }
}

impl From<PowerSoftmax> for PowerParts {
    fn from(p: PowerSoftmax) -> Self {
        Self {
            exponent: p.exponent.into(),
            epsilon: p.epsilon,
            denominator: p.denominator,
            scaling: p.scaling,
        }
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

/// A row as the power schemes see it: c, the powers' denominator D with y = x/c.
struct Row<T> {
    largest: T,
    denominator: T,
}

impl PowerSoftmax {
    /// Over the sum, in the stable form.
    ///
    /// # Errors
    /// [`Error::Exponent`] unless the exponent is even and from 2 to 12; [`Error::Epsilon`] unless ε is finite and not negative.
    pub fn new(exponent: u32, epsilon: f64) -> Result<Self> {
        match u8::try_from(exponent) {
            Ok(p @ 2..=12) if p % 2 == 0 => {
                if !(epsilon.is_finite() && epsilon >= 0.0) {
                    return Err(Error::Epsilon { had: epsilon });
                }
                Ok(Self {
                    exponent: p,
                    epsilon,
                    denominator: Denominator::Sum,
                    scaling: Scaling::Largest,
                })
            }
            _ => Err(Error::Exponent { had: exponent }),
        }
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
        self.exponent.into()
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

    /// What a row's reciprocal is taken of: ε plus the sum or the mean of the powers of the scores that the query sees.
    #[must_use]
    pub fn divisor(self, scores: &[f64]) -> f64 {
        let sum: f64 = scores.iter().map(|x| x.powi(self.exponent.into())).sum();
        self.epsilon
            + match self.denominator {
                Denominator::Sum => sum,
                Denominator::Mean => sum / scores.len() as f64,
            }
    }

    /// ε as the sum over `n` keys sees it.
    fn epsilon_of_sum(self, n: usize) -> f64 {
        match self.denominator {
            Denominator::Sum => self.epsilon,
            Denominator::Mean => self.epsilon * n as f64,
        }
    }

    fn row<T: Real>(self, scores: &[T]) -> Row<T> {
        let p = i32::from(self.exponent);
        let largest = match self.scaling {
            Scaling::None => T::ONE,
            Scaling::Largest => {
                let largest = scores
                    .iter()
                    .fold(T::ZERO, |m, x| if x.abs() > m { x.abs() } else { m });
                // Nothing to scale in a row of zeros; NaN must stay visible.
                if largest > T::ZERO { largest } else { T::ONE }
            }
        };
        let sum: T = scores.iter().map(|&x| (x / largest).powi(p)).sum();
        // In this order, so that ε = 0 stays 0 where c^p underflows.
        let epsilon = self.epsilon_of_sum(scores.len());
        let epsilon = if epsilon > 0.0 {
            T::of(epsilon) / largest.powi(p)
        } else {
            T::ZERO
        };
        Row {
            largest,
            denominator: epsilon + sum,
        }
    }
}

impl Scheme for PowerSoftmax {
    fn weights<T: Real>(&self, scores: &[T], weights: &mut [T]) {
        let p = i32::from(self.exponent);
        let row = self.row(scores);
        if row.denominator == T::ZERO {
            weights.fill(T::ZERO);
            return;
        }
        for (w, &x) in weights.iter_mut().zip(scores) {
            *w = (x / row.largest).powi(p) / row.denominator;
        }
    }

    /// `∂w_j/∂x_k = p·x_k^(p−1)/D·(δ_jk − w_j)`: c is a number that changes nothing, not a function of the scores.
    fn gradient<T: Real>(&self, scores: &[T], weights: &[T], upstream: &[T], gradient: &mut [T]) {
        let p = i32::from(self.exponent);
        let row = self.row(scores);
        if row.denominator == T::ZERO {
            gradient.fill(T::ZERO);
            return;
        }
        let mean: T = weights.iter().zip(upstream).map(|(&w, &g)| w * g).sum();
        let factor = T::of(f64::from(self.exponent)) / row.denominator / row.largest;
        for ((out, &x), &g) in gradient.iter_mut().zip(scores).zip(upstream) {
            *out = factor * (x / row.largest).powi(p - 1) * (g - mean);
        }
    }
}

/// Calls `row(head, position, scores, weights)` with the keys that each query sees, from the queries and keys `(H·d, 1, L)` that are the
/// node's first two inputs ([`Trace`](crate::Trace) has them); of an attention with marks, as if all were marked.
pub fn observe(
    attention: &Attention,
    queries: &Tensor,
    keys: &Tensor,
    mut row: impl FnMut(usize, usize, &[f64], &[f64]),
) {
    let length = match queries.shape() {
        Shape::Image { width, .. } => width,
        Shape::Vector(_) => 1,
    };
    let mut weights = vec![0.0; length];
    let (q, k) = (queries.values(), keys.values());
    sequence::scores(attention, [q, k], None, length, |head, i, scores| {
        let weights = &mut weights[..scores.len()];
        attention.scheme.weights(scores, weights);
        row(head, i, scores, weights);
    });
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
}

impl Mask {
    /// Itself and what is before, no padding.
    pub const CAUSAL: Self = Self {
        order: Order::Causal,
        valid: None,
    };
    /// Everything.
    pub const FULL: Self = Self {
        order: Order::Full,
        valid: None,
    };
    /// What a fourth input marks.
    pub const MARKED: Self = Self {
        order: Order::Marked,
        valid: None,
    };

    /// How many keys, from the first on, the query at this position of a sequence of this length sees; at least one.
    #[must_use]
    pub fn visible(self, query: usize, length: usize) -> usize {
        let order = match self.order {
            Order::Causal => query + 1,
            Order::Full | Order::Marked => length,
        };
        order.min(self.valid.unwrap_or(length)).min(length)
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
