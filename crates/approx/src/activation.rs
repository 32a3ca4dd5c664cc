//! The non-polynomial functions of today's networks.

use serde::{Deserialize, Serialize};

/// An activation function, applied to each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)`, also called swish.
    Silu,
    /// `x·Φ(x)` with the normal distribution function `Φ` (the exact form, not the tanh one).
    Gelu,
    /// `σ(x) = 1/(1 + e^(−x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Relu,
        Self::Silu,
        Self::Gelu,
        Self::Sigmoid,
        Self::Tanh,
    ];

    /// The one of this name, in any case; `swish` is SiLU.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = if name == "swish" { "silu" } else { &name };
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// The function's value at `x`.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Silu => x * sigmoid(x),
            Self::Gelu => x * normal_distribution(x),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
        }
    }

    /// The function's derivative at `x`; 0 for ReLU at its kink.
    #[must_use]
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Relu => f64::from(u8::from(x > 0.0)),
            Self::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Self::Gelu => {
                normal_distribution(x)
                    + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
            }
            Self::Sigmoid => {
                let s = sigmoid(x);
                s * (1.0 - s)
            }
            Self::Tanh => 1.0 - x.tanh().powi(2),
        }
    }

    /// Points where the function is not smooth.
    #[must_use]
    pub fn kinks(self) -> &'static [f64] {
        match self {
            Self::Relu => &[0.0],
            _ => &[],
        }
    }

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
        }
    }
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// `Φ(x) = erfc(−x/√2)/2`.
fn normal_distribution(x: f64) -> f64 {
    0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The complementary error function, to about 1e-15 relative to 1.
///
/// For |x| < 2.5 the series `erf x = 2/√π · e^(−x²) Σ 2^n x^(2n+1)/(2n+1)!!` (all terms of one sign, no cancellation), beyond that
/// the continued fraction `erfc x = e^(−x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …))))`.
fn erfc(x: f64) -> f64 {
    let magnitude = x.abs();
    if magnitude < 2.5 {
        let mut term = magnitude;
        let mut sum = magnitude;
        let mut n = 0.0;
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * magnitude * magnitude / (2.0 * n + 1.0);
            sum += term;
        }
        let erf = 2.0 / std::f64::consts::PI.sqrt() * (-magnitude * magnitude).exp() * sum;
        if x >= 0.0 { 1.0 - erf } else { 1.0 + erf }
    } else {
        let mut fraction = magnitude;
        for k in (1..=60).rev() {
            fraction = magnitude + 0.5 * f64::from(k) / fraction;
        }
        let tail = (-magnitude * magnitude).exp() / (std::f64::consts::PI.sqrt() * fraction);
        if x >= 0.0 { tail } else { 2.0 - tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let cases = [
            (Activation::Relu, -1.5, 0.0),
            (Activation::Relu, 1.5, 1.5),
            (Activation::Silu, 1.0, 0.731_058_578_630_004_9),
            (Activation::Gelu, 1.0, 0.841_344_746_068_542_9),
            (Activation::Gelu, -2.0, -0.045_500_263_896_358_42),
            (Activation::Gelu, -4.0, -0.000_126_684_967_332_479_45),
            (Activation::Sigmoid, -700.0, 9.859_676_543_759_77e-305),
            (Activation::Tanh, 0.5, 0.462_117_157_260_009_76),
        ];
        for (f, x, expected) in cases {
            assert!(
                (f.value(x) - expected).abs() < 1e-14,
                "{f}({x}) = {} instead of {expected}",
                f.value(x)
            );
        }
    }

    #[test]
    fn erfc_is_continuous_where_the_two_formulas_meet() {
        assert!((erfc(2.5 - 1e-12) - erfc(2.5)).abs() < 1e-14);
        assert!((erfc(2.5) - 4.069_520_174_449_589e-4).abs() < 1e-16);
    }

    #[test]
    fn derivatives_match_difference_quotients() {
        for f in Activation::ALL {
            for i in -40..40 {
                let x = 0.1 * f64::from(i) + 0.05;
                let quotient = (f.value(x + 1e-5) - f.value(x - 1e-5)) / 2e-5;
                assert!((f.derivative(x) - quotient).abs() < 1e-8, "{f} at {x}");
            }
        }
    }
}
