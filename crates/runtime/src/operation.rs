//! The operations of a plan: what they read and write, what they do over any [`Arithmetic`], and what their time counts as.

use crate::alarm;
use crate::folding::{self, Folding, TermOn, Within};
use crate::{Integers, Register};
use ckks::coefficients::Parts;
use ckks::{Arithmetic, BlockMap, Bootstrap, Complex64, Error, Level, Polynomial, typing};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Largest magnitude that a product's result may be promised to keep: from level 1 on, 50 bits and more are left above the scale.
pub const LARGEST_VALUE: f64 = (1u64 << 24) as f64;

/// One operation. Levels are residual levels; every result is at the canonical scale of its level.
///
/// Generic in how maps and biases are held: [`Operation`] has their values, a plan's file has numbers of weight vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationOn<Map, Bias, Rows> {
    /// Block map plus bias; one level. All inputs at the same level.
    Linear {
        /// Inputs, one for each of the map's.
        inputs: Vec<Register>,
        /// Outputs, one for each of the map's.
        outputs: Vec<Register>,
        /// The matrix.
        map: Map,
        /// For each output, what is added to its slots (length a power of two, at most the map's slots), or nothing.
        bias: Vec<Option<Bias>>,
        /// True period of the outputs, at most the map's slots.
        period: usize,
    },
    /// p(x), |x| ≤ 1; `p.depth()` levels.
    Polynomial {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// Chebyshev coefficients on [−1, 1].
        polynomial: Polynomial,
    },
    /// x² + c; one level.
    Square {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// c.
        constant: f64,
    },
    /// (x² + a·x + b)(x² − a·x + d) + e; two levels. Any quartic, its leading coefficient and cubic term folded into its neighbours.
    Quartic {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// a, b, d, e.
        coefficients: [f64; 4],
    },
    /// x + y, at the same level.
    Add {
        /// First operand.
        left: Register,
        /// Second operand.
        right: Register,
        /// Result.
        output: Register,
    },
    /// factor·(x·y + Σ u·v) + Σ c·v + constant, one level: the sum is taken before the product is rescaled, where any c is exact, and before it is
    /// relinearised, which is done once.
    Multiply {
        /// First operand.
        left: Register,
        /// Second operand.
        right: Register,
        /// The pairs (u, v) of further products.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more: Vec<(Register, Register)>,
        /// Result.
        output: Register,
        /// An integer, which costs nothing.
        factor: u32,
        /// The pairs (c, v), each v at the level of the operands.
        add: Vec<(f64, Register)>,
        /// What is added to every slot.
        constant: f64,
        /// Largest magnitude of the result that calibration promises: 1 unless a sum outgrows its operands.
        bound: f64,
    },
    /// The same value at a lower level.
    Align {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// Target level.
        level: usize,
    },
    /// A bootstrap of one or two real vectors together; operands must satisfy |x| ≤ 1/2 and are brought to the lowest level first.
    Bootstrap {
        /// Operands.
        inputs: Vec<Register>,
        /// Results, one for each operand.
        outputs: Vec<Register>,
        /// Slots, target level, gain.
        bootstrap: Bootstrap,
    },
    /// Σ (c·x)² over the pairs (c, x), times [`crate::alarm::gain`], and a sum of such; one level below `level`, to which operands are brought for what it
    /// takes to align them. One relinearisation: the alarm's ([`crate::alarm`]).
    Squares {
        /// The pairs (c, x); c is 1 where x is at `level` already, since a factor takes a level.
        inputs: Vec<(f64, Register)>,
        /// What is added, one level below.
        sum: Option<Register>,
        /// Result.
        output: Register,
        /// Level of the squares.
        level: usize,
    },
    /// Sums of the slots that are `slots` apart, everywhere, brought down to a level: any, since it is the client who reads them.
    Fold {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// Period of the result: a power of two.
        slots: usize,
        /// Level of the result.
        level: usize,
    },
    /// Slots to coefficients, from any level above SlotToCoeff; places without a value become zero.
    Descend {
        /// Two real vectors of all slots, or one of fewer.
        inputs: Vec<Register>,
        /// Result, in coefficients at the level of products.
        output: Register,
        /// Where values lie.
        to: Folding,
    },
    /// A linear layer in coefficients, from the level of products to level 0.
    Weigh {
        /// Outputs, one for each ciphertext of the layout.
        outputs: Vec<Register>,
        /// How the result lies.
        to: Folding,
        /// What is summed, in the level of products.
        terms: Vec<TermOn<Rows>>,
        /// For each output, what is added to its values in the order of their coefficients (length a power of two), or nothing.
        bias: Vec<Option<Bias>>,
        /// Where products and packing are carried out.
        #[serde(default, skip_serializing_if = "Within::is_whole")]
        within: Within,
    },
    /// Coefficients at level 0, |x| ≤ 1/2, to slots: gain·x, times [`ckks::HalfBootstrap::ratio`] for a target below the highest level.
    HalfBootstrap {
        /// Operand.
        input: Register,
        /// Results: two real vectors of all slots, or one of twice the operand's.
        outputs: Vec<Register>,
        /// Slots of the operand.
        slots: usize,
        /// Level of the results.
        target: usize,
        /// An integer, which costs nothing.
        gain: u32,
    },
}

/// An operation with its weights.
pub type Operation = OperationOn<BlockMap, Arc<[f64]>, Integers>;

/// What a layer is for, as the network's lowering says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Convolutions, projections, dense layers, pooling and residual sums.
    #[default]
    Weights,
    /// Products of encrypted tensors with each other, and the sums over them.
    Products,
    /// Power-Softmax: from scores to attention weights.
    Attention,
    /// Norms.
    Norm,
    /// Activations.
    Activation,
    /// Values brought to the places where products need them.
    Repacking,
}

impl Purpose {
    /// What a linear map counts as in a layer for this.
    pub const fn of_map(self) -> Work {
        match self {
            Self::Weights | Self::Activation => Work::Weights,
            other => other.of_product(),
        }
    }
    /// What a product or a polynomial counts as in a layer for this.
    pub const fn of_product(self) -> Work {
        match self {
            Self::Products => Work::Products,
            Self::Attention => Work::Attention,
            Self::Repacking => Work::Rest,
            Self::Weights | Self::Norm | Self::Activation => Work::Functions,
        }
    }
}

/// What the time of a step counts as: what it does, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Work {
    /// Linear maps of weights.
    Weights,
    /// Products of ciphertexts with each other, where a layer is one.
    Products,
    /// Bootstraps, whatever for.
    Bootstrap,
    /// Power-Softmax.
    Attention,
    /// Norms and activations.
    Functions,
    /// Alignments, and what only moves values.
    Rest,
    /// The alarm's sums.
    Alarm,
}

impl Work {
    /// All, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::Weights,
        Self::Products,
        Self::Bootstrap,
        Self::Attention,
        Self::Functions,
        Self::Rest,
        Self::Alarm,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weights => "matrices of weights",
            Self::Products => "products of ciphertexts",
            Self::Bootstrap => "bootstrapping",
            Self::Attention => "Power-Softmax",
            Self::Functions => "norms and activations",
            Self::Rest => "additions and repacking",
            Self::Alarm => "alarm",
        }
    }
}

impl<Map, Bias, Rows> OperationOn<Map, Bias, Rows> {
    /// Operands.
    pub fn reads(&self) -> Vec<Register> {
        match self {
            Self::Linear { inputs, .. }
            | Self::Bootstrap { inputs, .. }
            | Self::Descend { inputs, .. } => inputs.clone(),
            Self::Weigh { terms, .. } => {
                let inputs = terms.iter().flat_map(TermOn::inputs);
                inputs.copied().collect()
            }
            Self::Polynomial { input, .. }
            | Self::Square { input, .. }
            | Self::Quartic { input, .. }
            | Self::Align { input, .. }
            | Self::Fold { input, .. }
            | Self::HalfBootstrap { input, .. } => vec![*input],
            Self::Squares { inputs, sum, .. } => inputs.iter().map(|x| x.1).chain(*sum).collect(),
            Self::Add { left, right, .. } => vec![*left, *right],
            Self::Multiply {
                left,
                right,
                more,
                add,
                ..
            } => [(*left, *right)]
                .iter()
                .chain(more)
                .flat_map(|pair| [pair.0, pair.1])
                .chain(add.iter().map(|a| a.1))
                .collect(),
        }
    }
    /// Results.
    pub fn writes(&self) -> Vec<Register> {
        match self {
            Self::Linear { outputs, .. }
            | Self::Bootstrap { outputs, .. }
            | Self::Weigh { outputs, .. }
            | Self::HalfBootstrap { outputs, .. } => outputs.clone(),
            Self::Polynomial { output, .. }
            | Self::Square { output, .. }
            | Self::Quartic { output, .. }
            | Self::Align { output, .. }
            | Self::Add { output, .. }
            | Self::Multiply { output, .. }
            | Self::Squares { output, .. }
            | Self::Fold { output, .. }
            | Self::Descend { output, .. } => vec![*output],
        }
    }
    /// What its time counts as in a layer for `purpose`.
    pub const fn work(&self, purpose: Purpose) -> Work {
        match self {
            Self::Linear { .. } | Self::Weigh { .. } => purpose.of_map(),
            Self::Polynomial { .. }
            | Self::Square { .. }
            | Self::Quartic { .. }
            | Self::Multiply { .. } => purpose.of_product(),
            Self::Bootstrap { .. } | Self::HalfBootstrap { .. } | Self::Descend { .. } => {
                Work::Bootstrap
            }
            Self::Add { .. } | Self::Align { .. } => Work::Rest,
            Self::Squares { .. } | Self::Fold { .. } => Work::Alarm,
        }
    }
    /// In a word, for progress and listings.
    pub const fn doing(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear map",
            Self::Polynomial { .. } => "polynomial",
            Self::Square { .. } => "square",
            Self::Quartic { .. } => "quartic",
            Self::Add { .. } => "add",
            Self::Multiply { .. } => "multiply",
            Self::Align { .. } => "align",
            Self::Bootstrap { .. } => "bootstrap",
            Self::Descend { .. } => "slots to coefficients",
            Self::Weigh { .. } => "linear layer in coefficients",
            Self::HalfBootstrap { .. } => "half bootstrap",
            Self::Squares { .. } => "alarm: sum of squares",
            Self::Fold { .. } => "alarm: sum over slots",
        }
    }

    /// The same operation with its map and biases held otherwise.
    ///
    /// # Errors
    /// What `linear`, `bias` and `rows` refuse.
    pub(crate) fn try_map<M, B, R, E>(
        self,
        linear: impl FnOnce(Map, Vec<Option<Bias>>) -> Result<(M, Vec<Option<B>>), E>,
        of_bias: impl Fn(Bias) -> Result<B, E>,
        of_rows: impl Fn(Rows) -> Result<R, E>,
    ) -> Result<OperationOn<M, B, R>, E> {
        macro_rules! with_the_rest_as_it_is {
            ($($variant:ident { $($field:ident),* })*) => {
                match self {
                    Self::Linear { inputs, outputs, map, bias, period } => {
                        let (map, bias) = linear(map, bias)?;
                        OperationOn::Linear { inputs, outputs, map, bias, period }
                    }
                    Self::Weigh { outputs, to, terms, bias, within } => OperationOn::Weigh {
                        outputs,
                        to,
                        within,
                        terms: terms.into_iter().map(|t| t.try_map(&of_rows)).collect::<Result<_, E>>()?,
                        bias: bias.into_iter().map(|b| b.map(&of_bias).transpose()).collect::<Result<_, E>>()?,
                    },
                    $(Self::$variant { $($field),* } => OperationOn::$variant { $($field),* },)*
                }
            };
        }
        Ok(with_the_rest_as_it_is! {
            Polynomial { input, output, polynomial }
            Square { input, output, constant }
            Quartic { input, output, coefficients }
            Add { left, right, output }
            Multiply { left, right, more, output, factor, add, constant, bound }
            Align { input, output, level }
            Bootstrap { inputs, outputs, bootstrap }
            Descend { inputs, output, to }
            HalfBootstrap { input, outputs, slots, target, gain }
            Squares { inputs, sum, output, level }
            Fold { input, output, slots, level }
        })
    }
}

impl Operation {
    /// Carries it out; results in the order of [`Operation::writes`].
    ///
    /// # Errors
    /// What the interpreter refuses.
    pub fn apply<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        xs: &[A::Value],
    ) -> Result<Vec<A::Value>, Error> {
        let below = |level: Level| typing::below(a.parameters(), "plan", level);
        // a product at a level, brought one down
        let lowered = |product: &A::Value, level: Level| {
            let y = a.relinearize_rescale(product)?;
            a.with_exact_scale(&y, a.parameters().scale(below(level)?))
        };
        Ok(match self {
            Self::Linear {
                map, bias, period, ..
            } => {
                let scale = a.parameters().scale(below(a.info(&xs[0]).level)?);
                let mut ys = a.linear(xs, map, scale)?;
                for (y, b) in ys.iter_mut().zip(bias) {
                    *y = a.with_slots(y, *period)?;
                    if let Some(b) = b {
                        let b: Vec<Complex64> = b.iter().map(|&v| Complex64::new(v, 0.0)).collect();
                        *y = a.add_plain(y, &b)?;
                    }
                }
                ys
            }
            Self::Polynomial { polynomial, .. } => vec![a.polynomial(&xs[0], polynomial)?],
            Self::Square { constant, .. } => {
                let level = a.info(&xs[0]).level;
                let p = match *constant == 0.0 {
                    true => a.mul(&xs[0], &xs[0])?,
                    false => a.mul_combination((1.0, &xs[0], &xs[0]), &[], *constant)?,
                };
                vec![lowered(&p, level)?]
            }
            Self::Quartic {
                coefficients: [c1, c0, d0, e],
                ..
            } => {
                let level = a.info(&xs[0]).level;
                let mid = below(level)?;
                let square = a.relinearize(&a.mul(&xs[0], &xs[0])?)?;
                let scale = a.info(&square).scale;
                let factor = |linear: f64, constant: f64| {
                    let y = a.linear_combination(
                        &[(1.0, &square), (linear, &xs[0])],
                        constant,
                        level,
                        scale,
                    )?;
                    a.with_exact_scale(&a.rescale(&y)?, a.parameters().scale(mid))
                };
                let (x, y) = (factor(*c1, *c0)?, factor(-*c1, *d0)?);
                let p = a.mul_combination((1.0, &x, &y), &[], *e)?;
                vec![lowered(&p, mid)?]
            }
            Self::Add { .. } => vec![a.add(&xs[0], &xs[1])?],
            Self::Multiply {
                more,
                factor,
                add,
                constant,
                ..
            } => {
                let level = a.info(&xs[0]).level;
                let (pairs, added) = xs.split_at(2 * (1 + more.len()));
                let terms =
                    || -> Vec<(f64, &A::Value)> { add.iter().map(|t| t.0).zip(added).collect() };
                let plain = *factor == 1 && *constant == 0.0 && add.is_empty();
                let p = if more.is_empty() && !plain {
                    let product = (f64::from(*factor), &pairs[0], &pairs[1]);
                    a.mul_combination(product, &terms(), *constant)?
                } else {
                    let mut p = a.mul(&pairs[0], &pairs[1])?;
                    for pair in pairs[2..].chunks_exact(2) {
                        p = a.add(&p, &a.mul(&pair[0], &pair[1])?)?;
                    }
                    if !plain {
                        let scale = a.info(&p).scale;
                        let all: Vec<(f64, &A::Value)> = std::iter::once((f64::from(*factor), &p))
                            .chain(terms())
                            .collect();
                        p = a.linear_combination(&all, *constant, level, scale)?;
                    }
                    p
                };
                vec![lowered(&p, level)?]
            }
            Self::Align { level, .. } => vec![a.align(&xs[0], Level::new(*level))?],
            Self::Bootstrap { bootstrap, .. } => {
                let low = |x| a.align(x, a.parameters().floor());
                let x = Parts {
                    first: low(&xs[0])?,
                    second: xs.get(1).map(low).transpose()?,
                };
                a.bootstrap(&x, bootstrap)?.into_vec()
            }
            Self::Descend { to, .. } => vec![folding::descend(a, xs, to)?],
            Self::Weigh {
                to,
                terms,
                bias,
                within,
                ..
            } => folding::weigh(a, xs, (to, terms, *within), bias)?,
            Self::HalfBootstrap { target, gain, .. } => folding::rise(a, &xs[0], *target, *gain)?,
            Self::Squares { inputs, level, .. } => vec![alarm::squares(a, inputs, xs, *level)?],
            Self::Fold { slots, level, .. } => vec![alarm::fold(a, &xs[0], *slots, *level)?],
        })
    }

    /// Whether it is a function of one operand on [−1, 1].
    pub(crate) const fn is_function(&self) -> bool {
        matches!(
            self,
            Self::Polynomial { .. } | Self::Square { .. } | Self::Quartic { .. }
        )
    }

    /// Largest magnitude (plan units) that its operands may have, where there is one.
    pub(crate) const fn operand_limit(&self) -> Option<f64> {
        match self {
            Self::Polynomial { .. } | Self::Square { .. } | Self::Quartic { .. } => Some(1.0),
            Self::Bootstrap { .. } => Some(0.5),
            _ => None,
        }
    }

    /// What a run in the clear that draws errors takes for it, in multiplications, about.
    pub(crate) fn clear_products(&self, n: usize) -> f64 {
        // an error for each slot, and a few passes over all of them
        let slots = 32.0 * (n * self.writes().len()) as f64;
        slots
            + match self {
                Self::Linear { map, .. } => map.terms().len() as f64 * map.slots() as f64,
                Self::Weigh { to, terms, .. } => {
                    let places = (n / to.spacing.max(1)) as f64;
                    let weights = terms.iter().map(|t| match t {
                        TermOn::Kernel {
                            weights,
                            kernel,
                            flat,
                            ..
                        } => weights.len() * if *flat { kernel[0] * kernel[1] } else { 1 },
                        TermOn::Multiple { .. } => 0,
                    });
                    places * weights.sum::<usize>() as f64
                }
                // the maps' diagonals and the sine's products
                Self::HalfBootstrap { .. } | Self::Bootstrap { .. } => 400.0 * n as f64,
                _ => 0.0,
            }
    }

    /// Largest magnitude (plan units) that its operands' coefficients may have, where there is one.
    pub(crate) const fn coefficient_limit(&self) -> Option<f64> {
        match self {
            // a lower target's scale is not the highest one's exactly
            Self::HalfBootstrap { .. } => Some(0.5 * (1.0 + 1.0 / 64.0)),
            _ => None,
        }
    }

    /// Bound on a result's magnitude that normalisation promises.
    pub(crate) const fn result_bound(&self) -> f64 {
        match self {
            // known from the polynomial itself
            Self::Polynomial { .. } | Self::Square { .. } | Self::Quartic { .. } => f64::INFINITY,
            // of coefficients, where the meter counts in slots
            Self::Descend { .. } => f64::INFINITY,
            // as large as what left an interval
            Self::Squares { .. } | Self::Fold { .. } => f64::INFINITY,
            Self::Multiply { bound, .. } => *bound,
            _ => 1.0,
        }
    }

    /// What a square or a quartic computes, on [−1, 1]; none for the others.
    ///
    /// # Errors
    /// If a coefficient is not finite.
    pub(crate) fn as_polynomial(&self) -> Result<Option<Polynomial>, Error> {
        let power = match self {
            Self::Square { constant, .. } => [*constant, 0.0, 1.0, 0.0],
            Self::Quartic {
                coefficients: [a, b, d, e],
                ..
            } => [b * d + e, a * (d - b), b + d - a * a, 1.0],
            _ => return Ok(None),
        };
        // 1, x, x², x⁴ in Chebyshev polynomials
        let [c0, c1, c2, c4] = power;
        Ok(Some(Polynomial::new(vec![
            c0 + c2 / 2.0 + 3.0 * c4 / 8.0,
            c1,
            c2 / 2.0 + c4 / 2.0,
            0.0,
            c4 / 8.0,
        ])?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_and_quartics_are_the_polynomials_that_they_compute() {
        let (a, b, d, e) = (0.7, -0.3, 1.1, 0.25);
        let quartic = Operation::Quartic {
            input: 0,
            output: 1,
            coefficients: [a, b, d, e],
        };
        let square = Operation::Square {
            input: 0,
            output: 1,
            constant: 0.4,
        };
        let (q, s) = (
            quartic.as_polynomial().expect("finite").expect("one"),
            square.as_polynomial().expect("finite").expect("one"),
        );
        for x in [-1.0, -0.4, 0.0, 0.3, 0.9f64] {
            assert!(
                (q.evaluate(x) - ((x * x + a * x + b) * (x * x - a * x + d) + e)).abs() < 1e-12
            );
            assert!((s.evaluate(x) - (x * x + 0.4)).abs() < 1e-12);
        }
    }
}
