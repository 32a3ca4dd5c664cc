//! The non-polynomial functions of today's networks: one file for each, one line of the registry below.
//!
//! Who asks the registry: ONNX import for an operator's activation ([`Activation::of_onnx_operator`]), configurations and checkpoints for
//! names ([`Activation::named`], [`Activation::names`]), training and the oracle for values and derivatives.

use serde::{Deserialize, Serialize};

/// What is known of one activation function.
#[derive(Debug)]
struct Definition {
    /// In lower case.
    name: &'static str,
    /// Other names in use.
    aliases: &'static [&'static str],
    /// The ONNX operator that computes it from one input, without attributes.
    onnx: Option<&'static str>,
    /// At any `x`.
    value: fn(f64) -> f64,
    /// At any `x`; at a kink that of the left side.
    derivative: fn(f64) -> f64,
}

macro_rules! registry {
    ($($variant:ident in $file:ident: $about:literal,)*) => {
        $(mod $file;)*

        /// An activation function, applied to each element.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Activation {
            $(#[doc = $about] $variant,)*
        }

        /// A real function.
pub type Function = fn(f64) -> f64;

impl Activation {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            const fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$variant => &$file::DEFINITION,)*
                }
            }
        }
    };
}

registry! {
    Relu in relu: "`max(x, 0)`.",
    Silu in silu: "`x·σ(x)`, also called swish.",
    Gelu in gelu: "`x·Φ(x)` with the normal distribution function `Φ` (the exact form, not the tanh one).",
    Sigmoid in sigmoid: "`σ(x) = 1/(1 + e^(−x))`.",
    Tanh in tanh: "`tanh(x)`.",
    HardSwish in hard_swish: "`x·min(max(x + 3, 0), 6)/6`, the swish of MobileNetV3.",
    HardSigmoid in hard_sigmoid: "`min(max(x + 3, 0), 6)/6`, the sigmoid of MobileNetV3.",
    Relu6 in relu6: "`min(max(x, 0), 6)`.",
    Elu in elu: "`x` above 0, `e^x − 1` below.",
    Selu in selu: "`λx` above 0, `λα(e^x − 1)` below.",
    Softplus in softplus: "`ln(1 + e^x)`.",
    Mish in mish: "`x·tanh(ln(1 + e^x))`.",
    GeluTanh in gelu_tanh: "`x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))`, what some models take for GELU.",
    QuickGelu in quick_gelu: "`x·σ(1.702x)`, what OpenAI's CLIP takes for GELU.",
    Softsign in softsign: "`x/(1 + |x|)`.",
    Sqrt in sqrt: "`√x`; NaN below 0, so intervals must lie above.",
    Reciprocal in reciprocal: "`1/x`; intervals must not hold 0.",
}

impl Activation {
    /// The one of this name, in any case; `swish` is SiLU.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|a| {
            let definition = a.definition();
            definition.name == name || definition.aliases.contains(&name.as_str())
        })
    }

    /// All names, for messages: `relu, silu, …`.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The one that this ONNX operator computes.
    #[must_use]
    pub fn of_onnx_operator(operator: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|a| a.definition().onnx == Some(operator))
    }

    /// The function's value at `x`.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        (self.definition().value)(x)
    }

    /// Value and derivative as plain functions.
    #[must_use]
    pub fn functions(self) -> (Function, Function) {
        let definition = self.definition();
        (definition.value, definition.derivative)
    }

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
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
            (Activation::QuickGelu, 1.0, 0.845_795_765_932_821_2),
            (Activation::Sigmoid, -700.0, 9.859_676_543_759_77e-305),
            (Activation::Tanh, 0.5, 0.462_117_157_260_009_76),
            (Activation::HardSwish, -4.0, 0.0),
            (Activation::HardSwish, 1.5, 1.125),
            (Activation::HardSwish, 3.5, 3.5),
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
    fn names_are_told_apart_and_found_again() {
        for f in Activation::ALL {
            assert_eq!(Activation::named(f.name()), Some(f));
            assert_eq!(Activation::named(&f.name().to_uppercase()), Some(f));
            let stored = serde_json::to_string(&f).expect("plain");
            assert_eq!(stored, format!("\"{f}\""));
            let operator = f.definition().onnx;
            assert_eq!(
                operator.and_then(Activation::of_onnx_operator),
                operator.map(|_| f)
            );
            assert!(Activation::names().contains(f.name()));
        }
        assert_eq!(Activation::named("swish"), Some(Activation::Silu));
        assert_eq!(Activation::named("maxout"), None);
    }

    #[test]
    fn derivatives_match_difference_quotients() {
        for f in Activation::ALL {
            let (_, derivative) = f.functions();
            for i in -40..40 {
                let x = 0.1 * f64::from(i) + 0.05;
                let quotient = (f.value(x + 1e-5) - f.value(x - 1e-5)) / 2e-5;
                if f == Activation::Sqrt && x < 0.0 {
                    assert!(derivative(x).is_nan());
                    continue;
                }
                let within = 1e-8 * (1.0 + quotient * quotient);
                assert!((derivative(x) - quotient).abs() < within, "{f} at {x}");
            }
        }
    }
}
