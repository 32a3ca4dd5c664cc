//! The plan: a straight-line program over CKKS values, with everything that client and server must know.
//!
//! A plan is written by the compiler, verified by [`Plan::new`] and carried out by [`Plan::run`] over any
//! [`Arithmetic`]: ciphertexts, clear values or the meter.
//!
//! Every value is *normalised*: network value = `unit` × plan value, so that polynomials see [−1, 1] and bootstraps
//! see |x| ≤ 1/2. Units cost nothing: they are folded into linear maps.

use ckks::{Arithmetic, BlockMap, Bootstrap, Complex64, Error, Level, ParametersSpec, Polynomial};
use std::sync::Arc;

/// Largest magnitude that a product's result may be promised to keep: from level 1 on, 50 bits and more are left above the scale.
pub const LARGEST_VALUE: f64 = (1u64 << 24) as f64;

/// A register of the program; written once.
pub type Register = usize;

/// One operation. Levels are residual levels; every result is at the canonical scale of its level.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Block map plus bias; one level. All inputs at the same level.
    Linear {
        /// Inputs, one for each of the map's.
        inputs: Vec<Register>,
        /// Outputs, one for each of the map's.
        outputs: Vec<Register>,
        /// The matrix.
        map: BlockMap,
        /// For each output, what is added to its slots (length a power of two, at most the map's slots), or nothing.
        bias: Vec<Option<Arc<[f64]>>>,
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
    /// factor·x·y + Σ c·v + constant, one level: the sum is taken before the product is rescaled, where any c is exact.
    Multiply {
        /// First operand.
        left: Register,
        /// Second operand.
        right: Register,
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
    /// A bootstrap; the operand must satisfy |x| ≤ 1/2 and is brought to level 0 first.
    Bootstrap {
        /// Operand.
        input: Register,
        /// Result.
        output: Register,
        /// Slots, target level, gain.
        bootstrap: Bootstrap,
    },
    /// x + i·y: two real values as one complex one.
    Join {
        /// Real part.
        left: Register,
        /// Imaginary part.
        right: Register,
        /// Result.
        output: Register,
    },
    /// Twice the real and imaginary parts (2·Re z, 2·Im z).
    Split {
        /// Operand.
        input: Register,
        /// 2·Re.
        real: Register,
        /// 2·Im.
        imaginary: Register,
    },
}

/// What a layer is for, as the network's lowering says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
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
    /// Alignments, joins, and what only moves values.
    Rest,
}

impl Work {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Weights,
        Self::Products,
        Self::Bootstrap,
        Self::Attention,
        Self::Functions,
        Self::Rest,
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
        }
    }
}

impl Operation {
    /// Operands.
    pub fn reads(&self) -> Vec<Register> {
        match self {
            Self::Linear { inputs, .. } => inputs.clone(),
            Self::Polynomial { input, .. }
            | Self::Square { input, .. }
            | Self::Quartic { input, .. }
            | Self::Align { input, .. }
            | Self::Bootstrap { input, .. }
            | Self::Split { input, .. } => vec![*input],
            Self::Add { left, right, .. } | Self::Join { left, right, .. } => vec![*left, *right],
            Self::Multiply {
                left, right, add, ..
            } => [*left, *right]
                .into_iter()
                .chain(add.iter().map(|a| a.1))
                .collect(),
        }
    }
    /// Results.
    pub fn writes(&self) -> Vec<Register> {
        match self {
            Self::Linear { outputs, .. } => outputs.clone(),
            Self::Polynomial { output, .. }
            | Self::Square { output, .. }
            | Self::Quartic { output, .. }
            | Self::Align { output, .. }
            | Self::Bootstrap { output, .. } => vec![*output],
            Self::Add { output, .. }
            | Self::Multiply { output, .. }
            | Self::Join { output, .. } => vec![*output],
            Self::Split {
                real, imaginary, ..
            } => vec![*real, *imaginary],
        }
    }
    /// What its time counts as in a layer for `purpose`.
    pub const fn work(&self, purpose: Purpose) -> Work {
        match self {
            Self::Linear { .. } => purpose.of_map(),
            Self::Polynomial { .. }
            | Self::Square { .. }
            | Self::Quartic { .. }
            | Self::Multiply { .. } => purpose.of_product(),
            Self::Bootstrap { .. } => Work::Bootstrap,
            Self::Add { .. } | Self::Align { .. } | Self::Join { .. } | Self::Split { .. } => {
                Work::Rest
            }
        }
    }
    /// Carries it out; results in the order of [`Operation::writes`].
    ///
    /// # Errors
    /// What the interpreter refuses.
    pub fn apply<A: Arithmetic + ?Sized>(
        &self,
        a: &A,
        xs: &[A::Value],
    ) -> Result<Vec<A::Value>, Error> {
        let below = |level: Level| {
            a.parameters().below(level).ok_or(Error::Levels {
                operation: "plan",
                needed: 1,
                had: 0,
            })
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
                let p = a.mul(&xs[0], &xs[0])?;
                let scale = a.info(&p).scale;
                let p = if *constant == 0.0 {
                    p
                } else {
                    a.linear_combination(&[(1.0, &p)], *constant, level, scale)?
                };
                let y = a.relinearize_rescale(&p)?;
                vec![a.with_exact_scale(&y, a.parameters().scale(below(level)?))?]
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
                let p = a.mul(&factor(*c1, *c0)?, &factor(-*c1, *d0)?)?;
                let p = a.linear_combination(&[(1.0, &p)], *e, mid, a.info(&p).scale)?;
                let y = a.relinearize_rescale(&p)?;
                vec![a.with_exact_scale(&y, a.parameters().scale(below(mid)?))?]
            }
            Self::Add { .. } => vec![a.add(&xs[0], &xs[1])?],
            Self::Multiply {
                factor,
                add,
                constant,
                ..
            } => {
                let level = a.info(&xs[0]).level;
                let mut p = a.mul(&xs[0], &xs[1])?;
                if *factor != 1 || *constant != 0.0 || !add.is_empty() {
                    let scale = a.info(&p).scale;
                    let terms: Vec<(f64, &A::Value)> = std::iter::once((f64::from(*factor), &p))
                        .chain(add.iter().map(|t| t.0).zip(&xs[2..]))
                        .collect();
                    p = a.linear_combination(&terms, *constant, level, scale)?;
                }
                let y = a.relinearize_rescale(&p)?;
                vec![a.with_exact_scale(&y, a.parameters().scale(below(level)?))?]
            }
            Self::Align { level, .. } => vec![a.align(&xs[0], Level::new(*level))?],
            Self::Bootstrap { bootstrap, .. } => {
                let x = a.align(&xs[0], Level::new(0))?;
                vec![a.bootstrap(&x, bootstrap)?]
            }
            Self::Join { .. } => vec![a.add(&xs[0], &a.mul_i(&xs[1])?)?],
            Self::Split { .. } => {
                let c = a.conjugate(&xs[0])?;
                let imaginary = a.mul_integer(&a.mul_i(&a.sub(&xs[0], &c)?)?, -1)?;
                vec![a.add(&xs[0], &c)?, imaginary]
            }
        })
    }
}

/// One step: an operation and the layer that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name of the layer in the network (reports group by it).
    pub layer: String,
    /// What that layer is for.
    pub purpose: Purpose,
    /// What is done.
    pub operation: Operation,
    /// Network value = unit × plan value, for the results.
    pub unit: f64,
}

impl Step {
    /// What its time counts as.
    pub const fn work(&self) -> Work {
        self.operation.work(self.purpose)
    }
}

/// An encrypted input or output: how a tensor lies in the slots.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Port {
    /// Its name in the network.
    pub name: String,
    /// Shape (C, H, W) or (features).
    pub shape: Vec<usize>,
    /// One register per ciphertext.
    pub registers: Vec<Register>,
    /// Period of each ciphertext's slots.
    pub slots: usize,
    /// For each element of the tensor (row-major): (ciphertext, slot). A section of its own in files.
    #[serde(skip)]
    pub places: Vec<(u32, u32)>,
    /// Tensors side by side, a power of two: element e of tensor b lies `batch · slot + b` slots into its ciphertext.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    pub batch: usize,
    /// Level at which it is encrypted or left.
    pub level: usize,
    /// Network value = unit × plan value.
    pub unit: f64,
}

fn alone() -> usize {
    1
}
fn is_alone(batch: &usize) -> bool {
    *batch == 1
}

/// What a plan says of the data that it was made for.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Description {
    /// Name of the network.
    pub name: String,
    /// Largest |input| (network units) that calibration saw, with its margin.
    pub input_bound: f64,
    /// Digest of the task, what the client encodes and reads ([`task_digest`](crate::wire::task_digest)): the task itself is in the client
    /// file alone.
    #[serde(default)]
    pub task: [u8; 32],
}

/// A verified program.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Parameter set.
    pub parameters: ParametersSpec,
    /// What the client must know.
    pub description: Description,
    /// Encrypted inputs.
    pub input: Port,
    /// Encrypted outputs.
    pub output: Port,
    /// The program.
    pub steps: Vec<Step>,
}
