//! Activations in training: a function, its polynomial, or a blend of both, with the ranges that they see.
//!
//! A unit knows two intervals: `domain`, on which its polynomial is fitted and will be evaluated under encryption, and `target`, in
//! which the range loss holds its inputs. [Baruch et al., arXiv 2304.14836] penalise the worst violation of the target;
//! [`RangeLoss::Boundary`] every element near or beyond its edge, relative to its width.

use crate::mode::Mode;
use crate::parameter::Parameter;
use crate::workspace::Workspace;
use approx::{Activation, Polynomial};
use nn::histogram::Histogram;
use serde::{Deserialize, Serialize};

/// How training holds activations' inputs in their target intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum RangeLoss {
    /// Not at all.
    #[default]
    None,
    /// `weight · max(0, max x − high, low − min x)` over the whole batch, for each activation: one element feels it. [arXiv 2304.14836]
    Worst {
        /// λ.
        weight: f32,
    },
    /// `weight · Σ max(0, |x − centre|/half − edge)²` over all elements, per picture (per token), for each activation.
    Boundary {
        /// Its weight.
        weight: f32,
        /// Where it starts, relative to half the interval's width: 0.9 starts before the edge.
        edge: f32,
    },
}

impl RangeLoss {
    /// The same loss, this share of it.
    pub(crate) fn times(self, share: f32) -> Self {
        match self {
            Self::None => self,
            Self::Worst { weight } => Self::Worst {
                weight: weight * share,
            },
            Self::Boundary { weight, edge } => Self::Boundary {
                weight: weight * share,
                edge,
            },
        }
    }
}

/// What an activation computes at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// The original function.
    Original,
    /// The polynomial.
    Polynomial,
    /// `ratio · polynomial + (1 − ratio) · original`.
    Blend {
        /// From 0 to 1.
        ratio: f32,
    },
}

/// Smallest and largest value seen, and how many lay outside the domain.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Smallest.
    pub low: f32,
    /// Largest.
    pub high: f32,
    /// Values outside the polynomial's domain.
    pub outside: u64,
    /// Whether some value was no number.
    pub nan: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            outside: 0,
            nan: false,
        }
    }
}

impl Seen {
    /// Of values that should lie in `domain`, where there is one.
    pub(crate) fn record(&mut self, x: &[f32], domain: Option<(f32, f32)>) {
        let (low, high) = kernels::extremes(x);
        if low.is_nan() || high.is_nan() {
            self.nan = true;
        } else {
            self.low = self.low.min(low);
            self.high = self.high.max(high);
        }
        if let Some((a, b)) = domain
            && !(low >= a && high <= b)
        {
            let outside = x.iter().filter(|&&v| !(v >= a && v <= b)).count();
            self.outside += outside as u64;
        }
    }
}

/// The share of values that the running quantiles leave out at each end.
const TAIL: f64 = 1e-4;
/// How many values of a batch they are estimated from.
const SAMPLE: usize = 1 << 15;
/// The weight of a new batch in the running quantiles.
const PACE: f32 = 0.02;

/// One activation node in training.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The node's name.
    pub name: String,
    /// The function that the network was trained with, None where it was a polynomial from the start.
    pub original: Option<Activation>,
    /// What it computes now.
    pub function: Function,
    /// Index of its coefficients (Chebyshev on the domain) among the model's parameters, once there are any.
    pub coefficients: Option<usize>,
    /// Where the polynomial is defined.
    pub domain: (f32, f32),
    /// Where the range loss holds the inputs.
    pub target: (f32, f32),
    /// What it saw since the ranges were cleared, in training and evaluation.
    pub seen: Seen,
    /// Running quantiles of its inputs in training, each leaving out one value of ten thousand; None before the first batch.
    pub quantiles: Option<(f32, f32)>,
    /// In training, polynomials see inputs clamped to the domain widened by this share of its width on each side.
    pub guard: Option<f32>,
    /// Counts of its inputs, while a calibration collects them.
    pub(crate) histogram: Option<Box<Histogram>>,
    /// Whether the last batch in training was clamped.
    clamping: bool,
}

impl Unit {
    pub(crate) fn new(name: &str, original: Option<Activation>) -> Self {
        Self {
            name: name.into(),
            original,
            function: Function::Original,
            coefficients: None,
            domain: (-1.0, 1.0),
            target: (-10.0, 10.0),
            seen: Seen::default(),
            quantiles: None,
            guard: None,
            histogram: None,
            clamping: false,
        }
    }

    /// Its polynomial as it is now.
    ///
    /// # Errors
    /// [`approx::Error`] for coefficients that are not finite.
    pub fn polynomial(
        &self,
        parameters: &[Parameter],
    ) -> Result<Option<Polynomial>, approx::Error> {
        let Some(index) = self.coefficients else {
            return Ok(None);
        };
        let coefficients = parameters[index]
            .values
            .iter()
            .map(|&c| f64::from(c))
            .collect();
        let domain = (f64::from(self.domain.0), f64::from(self.domain.1));
        Polynomial::new(coefficients, domain).map(Some)
    }

    /// Records what the unit is given.
    pub(crate) fn record(&mut self, x: &[f32], mode: Mode) {
        self.seen.record(x, self.coefficients.map(|_| self.domain));
        if mode.trains() && !self.seen.nan {
            self.follow_quantiles(x);
        }
        if let Some(h) = &mut self.histogram {
            for &v in x.iter().filter(|v| v.is_finite()) {
                h.add(f64::from(v));
            }
        }
    }

    fn follow_quantiles(&mut self, x: &[f32]) {
        // an odd step visits all channels: channels are powers of two or small numbers
        let step = (x.len() / SAMPLE).max(1) | 1;
        let mut sample: Vec<f32> = x.iter().step_by(step).copied().collect();
        let tail = ((sample.len() as f64) * TAIL) as usize;
        let last = sample.len() - 1 - tail;
        let low = *sample.select_nth_unstable_by(tail, f32::total_cmp).1;
        let high = *sample.select_nth_unstable_by(last, f32::total_cmp).1;
        self.quantiles = Some(match self.quantiles {
            None => (low, high),
            Some((a, b)) => (a + PACE * (low - a), b + PACE * (high - b)),
        });
    }

    /// `y = f(x)`.
    pub(crate) fn forward(
        &mut self,
        x: &[f32],
        y: &mut [f32],
        parameters: &[Parameter],
        mode: Mode,
        workspace: &mut Workspace,
    ) {
        if mode.records() {
            self.record(x, mode);
        }
        let within = self.bounds().filter(|_| mode.trains());
        self.clamping = within.is_some_and(|(low, high)| {
            let seen = kernels::extremes(x);
            !(seen.0 >= low && seen.1 <= high)
        });
        let clamped = self.clamped(x, workspace);
        let x = clamped.as_deref().unwrap_or(x);
        match (self.function, self.coefficients) {
            (Function::Polynomial, Some(c)) => {
                kernels::chebyshev_forward(&parameters[c].values, self.domain, x, y);
            }
            (Function::Blend { ratio }, Some(c)) => {
                kernels::chebyshev_forward(&parameters[c].values, self.domain, x, y);
                let original = |out: &mut [f32]| function_forward(self.original, x, out);
                blend(ratio, y, original, workspace);
            }
            _ => function_forward(self.original, x, y),
        }
        if let Some(clamped) = clamped {
            workspace.give(clamped);
        }
    }

    /// Buffers as long as its inputs that a pass takes and gives back, at most.
    pub(crate) fn buffers(&self) -> usize {
        let blends = matches!(self.function, Function::Blend { .. });
        usize::from(self.bounds().is_some()) + usize::from(blends)
    }

    /// Where the guard holds what the polynomial sees.
    fn bounds(&self) -> Option<(f32, f32)> {
        let guard = (self.guard).filter(|_| self.function != Function::Original)?;
        let by = guard * (self.domain.1 - self.domain.0);
        Some((self.domain.0 - by, self.domain.1 + by))
    }

    /// The inputs within bounds, where the last batch was clamped; a backward pass makes them again instead of keeping them.
    fn clamped(&self, x: &[f32], workspace: &mut Workspace) -> Option<Vec<f32>> {
        let (low, high) = self.bounds().filter(|_| self.clamping)?;
        let mut clamped = workspace.copy(x);
        for v in &mut clamped {
            *v = if v.is_nan() { 0.0 } else { v.clamp(low, high) };
        }
        Some(clamped)
    }

    /// `dx = f'(x)·dy`, the gradient of the coefficients, and the range loss with its gradient; gives back the range loss.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything a backward step needs, once"
    )]
    pub(crate) fn backward(
        &mut self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        parameters: &mut [Parameter],
        loss: RangeLoss,
        batch: usize,
        workspace: &mut Workspace,
    ) -> f64 {
        let clamped = self.clamped(x, workspace);
        {
            let x = clamped.as_deref().unwrap_or(x);
            match (self.function, self.coefficients) {
                (Function::Polynomial, Some(c)) => {
                    self.polynomial_backward(c, x, dy, dx, parameters, 1.0);
                }
                (Function::Blend { ratio }, Some(c)) => {
                    self.polynomial_backward(c, x, dy, dx, parameters, ratio);
                    let original = |out: &mut [f32]| function_backward(self.original, x, dy, out);
                    blend(ratio, dx, original, workspace);
                }
                _ => function_backward(self.original, x, dy, dx),
            }
        }
        if let Some(clamped) = clamped {
            for ((d, v), c) in dx.iter_mut().zip(x).zip(&clamped) {
                if v != c {
                    *d = 0.0;
                }
            }
            workspace.give(clamped);
        }
        self.range_loss(x, dx, loss, batch)
    }

    fn polynomial_backward(
        &self,
        c: usize,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        parameters: &mut [Parameter],
        share: f32,
    ) {
        let Parameter {
            values,
            gradient,
            trainable,
            ..
        } = &mut parameters[c];
        let mut sums = trainable.then(|| vec![0.0f64; values.len()]);
        kernels::chebyshev_backward(values, self.domain, x, dy, dx, sums.as_deref_mut());
        for (g, d) in gradient.iter_mut().zip(sums.unwrap_or_default()) {
            *g += share * d as f32;
        }
    }

    /// `y = f(x)` by the original function (the polynomial where there never was one), of what no interval needs to hold.
    pub(crate) fn exact(&self, x: &[f32], y: &mut [f32], parameters: &[Parameter]) {
        match (self.original, self.coefficients) {
            (None, Some(c)) => {
                kernels::chebyshev_forward(&parameters[c].values, self.domain, x, y);
            }
            (original, _) => function_forward(original, x, y),
        }
    }

    /// `dx = f'(x)·dy` of [`Unit::exact`].
    pub(crate) fn exact_backward(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        parameters: &[Parameter],
    ) {
        match (self.original, self.coefficients) {
            (None, Some(c)) => {
                let values = &parameters[c].values;
                kernels::chebyshev_backward(values, self.domain, x, dy, dx, None);
            }
            (original, _) => function_backward(original, x, dy, dx),
        }
    }

    fn range_loss(&self, x: &[f32], dx: &mut [f32], loss: RangeLoss, batch: usize) -> f64 {
        let (low, high) = self.target;
        match loss {
            RangeLoss::None => 0.0,
            RangeLoss::Worst { weight } => {
                let (min, max) = kernels::extremes(x);
                if min.is_nan() || max.is_nan() {
                    // the paper's value for a batch that is no number; it has no gradient
                    return 1000.0 * f64::from(weight);
                }
                let (above, below) = (max - high, low - min);
                let worst = above.max(below);
                if worst <= 0.0 {
                    return 0.0;
                }
                let (value, sign) = if above >= below {
                    (max, weight)
                } else {
                    (min, -weight)
                };
                if let Some(i) = x.iter().position(|&v| v == value) {
                    dx[i] += sign;
                }
                f64::from(weight) * f64::from(worst)
            }
            RangeLoss::Boundary { weight, edge } => {
                kernels::boundary_loss(x, self.target, edge, weight / batch as f32, dx)
            }
        }
    }
}

/// `y = ratio·y + (1 − ratio)·original`.
fn blend(ratio: f32, y: &mut [f32], original: impl Fn(&mut [f32]), workspace: &mut Workspace) {
    let mut other = workspace.take(y.len());
    original(&mut other);
    for (y, o) in y.iter_mut().zip(&other) {
        *y = ratio * *y + (1.0 - ratio) * o;
    }
    workspace.give(other);
}

fn kernel(activation: Activation) -> kernels::Function {
    let (value, derivative) = activation.functions();
    kernels::Function::named(activation.name())
        .unwrap_or(kernels::Function::Other { value, derivative })
}

/// The activation; the identity where there is none (a polynomial whose coefficients were not set yet).
fn function_forward(activation: Option<Activation>, x: &[f32], y: &mut [f32]) {
    match activation.map(kernel) {
        Some(f) => kernels::function_forward(f, x, y),
        None => y.copy_from_slice(x),
    }
}

fn function_backward(activation: Option<Activation>, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    match activation.map(kernel) {
        Some(f) => kernels::function_backward(f, x, dy, dx),
        None => dx.copy_from_slice(dy),
    }
}
