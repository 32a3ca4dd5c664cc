//! Division and inverse square roots as programs of additions and multiplications, with a proven error and a known depth.
//!
//! Notation: `x ∈ [l, h]`, `0 < l < h`; `y` stands for the function's value, `w = x·y` or `√x·y` for what should be 1, and the error
//! is relative, `|1 − w|`. `σ = (h + l)/(h − l)`, `θ = acosh σ ≈ 2√(l/h)`.
//!
//! **1/x.** The polynomial p of degree N − 1 with the least error is known: `1 − x·p(x) = T_N(s)/T_N(σ)`, `s = (h + l − 2x)/(h − l)`, and
//! its error is `1/cosh(Nθ)`. Since `T_2N = 2·T_N² − 1`, doubling N takes one level and two products:
//! `s ← 2s² − 1`, `z ← z·(s + σ)`, `σ ← 2σ² − 1`. That is Goldschmidt's division with the best relaxation factor in every step (aSOR),
//! centred on 1; its constants are 1, 2 and σ, and no factor of a product is other than an integer, so that none costs a level. No
//! polynomial of degree below 2^k is better than k levels of this, and k levels reach no degree above 2^k: to one degree, it is the
//! best that k levels can do. Without relaxation, `r ← r²`, `z ← z·(1 + r)`, the error is only `((h − l)/(h + l))^(2^k)`: N grows like
//! h/l, not like √(h/l).
//!
//! **1/√x.** A polynomial start, minimax in the relative error (exchange algorithm), then Newton's steps `y ← αy + βx·y³` with the α and
//! β that are best for the interval which w is proven to lie in (without relaxation 3/2 and −1/2): two levels and three products each, and
//! they correct what noise did before them. A form that carries w along, like Goldschmidt's, has the same depth and does not correct.
//!
//! References: R. E. Goldschmidt (1964); J. Moon, D. Yoo, X. Jiang, M. Kim, "THOR: Secure Transformer Inference with Homomorphic
//! Encryption" (2024), for adaptive relaxation; S. Panda, "Polynomial Approximation of Inverse sqrt Function for FHE" (2022); E. Grishina, M.
//! Smirnov, M. Rakhuba, "Accelerating Newton-Schulz Iteration for Orthogonalization via Chebyshev-type Polynomials" (2025), for the best
//! cubic; Y. Nakatsukasa, R. Freund (2016), N. Amsel et al. (2025), for why compositions of best steps are best.

mod build;
mod choose;
mod start;
#[cfg(test)]
mod tests;

pub use choose::choose;
pub use start::START_DEGREE_LIMIT;

use crate::polynomial::Polynomial;
use serde::{Deserialize, Serialize};

/// What is computed from x, and from a numerator a where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// 1/x.
    Reciprocal,
    /// a/x: the iterations that carry a along cost no level more than 1/x.
    Quotient,
    /// 1/√x.
    InverseSquareRoot,
    /// a/√x, as normalisations have it.
    RootQuotient,
}

impl Function {
    /// Its formula.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reciprocal => "1/x",
            Self::Quotient => "a/x",
            Self::InverseSquareRoot => "1/sqrt(x)",
            Self::RootQuotient => "a/sqrt(x)",
        }
    }

    /// Whether it has a numerator.
    #[must_use]
    pub fn has_numerator(self) -> bool {
        matches!(self, Self::Quotient | Self::RootQuotient)
    }

    /// Whether it takes the root of x.
    #[must_use]
    pub fn has_root(self) -> bool {
        matches!(self, Self::InverseSquareRoot | Self::RootQuotient)
    }

    /// Its value, for a numerator of 1.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        1.0 / if self.has_root() { x.sqrt() } else { x }
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The minimax polynomial of this degree alone.
    Polynomial {
        /// Its degree.
        degree: usize,
    },
    /// Goldschmidt's division from the best constant; 1/x and a/x only.
    Goldschmidt {
        /// Factors 1 + r, so that the result is a polynomial of degree 2^steps − 1.
        steps: u32,
    },
    /// Goldschmidt's division with the best relaxation (aSOR) from the minimax polynomial of degree `start − 1`; 1/x and a/x only.
    OverRelaxation {
        /// 1 or 3: the result is the minimax polynomial of degree start·2^steps − 1.
        start: usize,
        /// Doublings of the number of coefficients.
        steps: u32,
    },
    /// Newton's steps from the minimax polynomial of this degree.
    Newton {
        /// Degree of the start, at least 1.
        degree: usize,
        /// Steps, two levels each.
        steps: u32,
    },
    /// Newton's steps with the best factors for the interval that each starts from.
    RelaxedNewton {
        /// Degree of the start, at least 1.
        degree: usize,
        /// Steps, two levels each.
        steps: u32,
    },
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Polynomial { degree } => write!(f, "polynomial {degree}"),
            Self::Goldschmidt { steps } => write!(f, "Goldschmidt {steps}"),
            Self::OverRelaxation { start, steps } => write!(f, "aSOR {start}·2^{steps}"),
            Self::Newton { degree, steps } => write!(f, "polynomial {degree}, Newton {steps}"),
            Self::RelaxedNewton { degree, steps } => {
                write!(f, "polynomial {degree}, relaxed Newton {steps}")
            }
        }
    }
}

/// One operation of a [`Program`]; it makes the next value.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// p(v): ⌈log2(degree + 1)⌉ levels.
    Polynomial {
        /// v.
        of: usize,
        /// p, on an interval that holds all values of v.
        polynomial: Polynomial,
    },
    /// Σ c·v + constant. An integer c is exact and costs nothing, any other a level.
    Sum {
        /// The pairs (c, v).
        terms: Vec<(f64, usize)>,
        /// What is added.
        constant: f64,
    },
    /// factor·left·right + Σ c·v + constant: one level. The sum is taken before the product is rescaled, where any c is exact for a v
    /// that is a level above the result.
    Multiply {
        /// An integer, so that it costs nothing.
        factor: i32,
        /// First operand.
        left: usize,
        /// Second operand.
        right: usize,
        /// The pairs (c, v).
        add: Vec<(f64, usize)>,
        /// What is added.
        constant: f64,
    },
}

/// The value number of the input v₀, an affine image of x.
pub const INPUT: usize = 0;
/// The value number of the numerator.
pub const NUMERATOR: usize = 1;
/// The value number of the first step's result; the others follow.
pub const FIRST: usize = 2;

/// A computation of a [`Function`] on an interval: steps over values, numbered [`INPUT`], [`NUMERATOR`], [`FIRST`], [`FIRST`] + 1, …; the
/// last step's value times [`Program::output`] is the result.
///
/// The maps at both ends, x ↦ v₀ and the output's factor, are left to what stands before and after (a linear layer's weights, a unit),
/// where they cost nothing; on its own each would be one more level.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    function: Function,
    method: Method,
    interval: (f64, f64),
    input: (f64, f64),
    steps: Vec<Step>,
    output: f64,
    error: f64,
}

impl Program {
    /// What it computes.
    #[must_use]
    pub fn function(&self) -> Function {
        self.function
    }

    /// How.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Where x may lie.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// (scale, shift) of v₀ = scale·x + shift, which lies in [−1, 1].
    #[must_use]
    pub fn input(&self) -> (f64, f64) {
        self.input
    }

    /// The steps in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What the last value is to be multiplied by.
    #[must_use]
    pub fn output(&self) -> f64 {
        self.output
    }

    /// A proven bound of the relative error on the interval, for exact arithmetic.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.error
    }

    /// −log2 of the error.
    #[must_use]
    pub fn bits(&self) -> f64 {
        -self.error.log2()
    }

    /// Levels from v₀ (and the numerator) to the last value.
    #[must_use]
    pub fn depth(&self) -> u32 {
        let mut depths = vec![0; FIRST];
        for step in &self.steps {
            let sum = |terms: &[(f64, usize)]| {
                terms
                    .iter()
                    .map(|&(c, v)| depths[v] + u32::from(c.fract() != 0.0))
                    .max()
                    .unwrap_or(0)
            };
            let depth = match step {
                Step::Polynomial { of, polynomial } => depths[*of] + polynomial.depth(),
                Step::Sum { terms, .. } => sum(terms),
                Step::Multiply {
                    left, right, add, ..
                } => (1 + depths[*left].max(depths[*right])).max(sum(add)),
            };
            depths.push(depth);
        }
        depths.last().copied().unwrap_or(0)
    }

    /// Products of two values, those inside of polynomials included.
    #[must_use]
    pub fn multiplications(&self) -> usize {
        self.steps
            .iter()
            .map(|step| match step {
                Step::Polynomial { polynomial, .. } => start::products(polynomial.degree()),
                Step::Sum { .. } => 0,
                Step::Multiply { .. } => 1,
            })
            .sum()
    }

    /// The approximation at x, for a numerator of 1.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        self.eval_quotient(1.0, x)
    }

    /// The approximation for the numerator a; without one in the function, a is ignored.
    #[must_use]
    pub fn eval_quotient(&self, a: f64, x: f64) -> f64 {
        self.values(a, x)
            .last()
            .map_or(f64::NAN, |v| v * self.output)
    }

    /// All values for the numerator a, by number.
    #[must_use]
    pub fn values(&self, a: f64, x: f64) -> Vec<f64> {
        let mut values = vec![self.input.0 * x + self.input.1, a];
        for step in &self.steps {
            let sum =
                |terms: &[(f64, usize)]| terms.iter().map(|&(c, v)| c * values[v]).sum::<f64>();
            let value = match step {
                Step::Polynomial { of, polynomial } => polynomial.eval(values[*of]),
                Step::Sum { terms, constant } => sum(terms) + constant,
                Step::Multiply {
                    factor,
                    left,
                    right,
                    add,
                    constant,
                } => f64::from(*factor) * values[*left] * values[*right] + sum(add) + constant,
            };
            values.push(value);
        }
        values
    }
}
