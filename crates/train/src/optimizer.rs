//! Stochastic gradient descent with momentum, and AdamW.

use crate::parameter::{Kind, Parameter};
use serde::{Deserialize, Serialize};

/// How gradients move parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Rule {
    /// Nesterov's momentum; the decay is added to the gradient.
    Sgd {
        /// For example 0.9.
        momentum: f32,
        /// For weights, for example 5e-4.
        decay: f32,
    },
    /// Loshchilov, Hutter (arXiv 1711.05101): Adam with a decay of its own.
    AdamW {
        /// (β₁, β₂).
        betas: (f32, f32),
        /// For weights, times the learning rate.
        decay: f32,
    },
}

impl Default for Rule {
    fn default() -> Self {
        Self::Sgd {
            momentum: 0.9,
            decay: 5e-4,
        }
    }
}

/// Limits on a step's gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Clipping {
    /// None.
    #[default]
    None,
    /// Each element to `[−limit, limit]`, as in P1.
    Value {
        /// The largest magnitude.
        limit: f32,
    },
    /// All of them together to this Euclidean norm.
    Norm {
        /// The largest norm.
        limit: f32,
    },
}

/// The state of a rule, vector for vector of the parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Optimizer {
    /// Momentum, or Adam's first moment.
    pub first: Vec<Vec<f32>>,
    /// Adam's second moment.
    pub second: Vec<Vec<f32>>,
    /// Steps done.
    pub steps: u64,
}

const ADAM_EPSILON: f32 = 1e-8;

impl Optimizer {
    /// Moves the trainable parameters along their gradients; polynomials' coefficients at `coefficient_rate`. Gives back the gradients'
    /// norm before clipping, or None without a step when it is not finite.
    pub fn step(
        &mut self,
        parameters: &mut [Parameter],
        rule: Rule,
        rate: f32,
        coefficient_rate: f32,
        clipping: Clipping,
    ) -> Option<f64> {
        let squares: f64 = parameters
            .iter()
            .filter(|p| p.trainable)
            .flat_map(|p| &p.gradient)
            .map(|&g| f64::from(g) * f64::from(g))
            .sum();
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return None;
        }
        let trained = parameters.iter_mut().filter(|p| p.trainable);
        let gradients = trained.flat_map(|p| &mut p.gradient);
        match clipping {
            Clipping::None => {}
            Clipping::Value { limit } => gradients.for_each(|g| *g = g.clamp(-limit, limit)),
            Clipping::Norm { limit } => {
                let factor = (f64::from(limit) / norm.max(1e-30)).min(1.0) as f32;
                gradients.for_each(|g| *g *= factor);
            }
        }
        self.steps += 1;
        self.first.resize(parameters.len(), Vec::new());
        self.second.resize(parameters.len(), Vec::new());
        for (i, p) in parameters.iter_mut().enumerate() {
            if !p.trainable {
                continue;
            }
            let n = p.values.len();
            let rate = if p.kind == Kind::Coefficient {
                coefficient_rate
            } else {
                rate
            };
            fit(&mut self.first[i], n);
            let (Rule::Sgd { decay, .. } | Rule::AdamW { decay, .. }) = rule;
            let decay = match p.kind {
                Kind::Weight => decay,
                _ => 0.0,
            };
            match rule {
                Rule::Sgd { momentum, .. } => {
                    for ((v, g), m) in p.values.iter_mut().zip(&p.gradient).zip(&mut self.first[i])
                    {
                        let g = g + decay * *v;
                        *m = momentum * *m + g;
                        *v -= rate * (g + momentum * *m);
                    }
                }
                Rule::AdamW {
                    betas: (b1, b2), ..
                } => {
                    fit(&mut self.second[i], n);
                    let k = self.steps as f64;
                    let correct1 = (1.0 - f64::from(b1).powf(k)) as f32;
                    let correct2 = (1.0 - f64::from(b2).powf(k)) as f32;
                    let moments = self.first[i].iter_mut().zip(&mut self.second[i]);
                    for ((v, g), (m, s)) in p.values.iter_mut().zip(&p.gradient).zip(moments) {
                        *m = b1 * *m + (1.0 - b1) * g;
                        *s = b2 * *s + (1.0 - b2) * g * g;
                        let step = (*m / correct1) / ((*s / correct2).sqrt() + ADAM_EPSILON);
                        *v -= rate * (step + decay * *v);
                    }
                }
            }
        }
        Some(norm)
    }
}

/// Coefficients may have come or changed their number since the last step.
fn fit(state: &mut Vec<f32>, length: usize) {
    if state.len() != length {
        *state = vec![0.0; length];
    }
}

/// The learning rate over a stage: linear warm-up, then a half cosine to `last` times the peak.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// The largest.
    pub peak: f32,
    /// Share of the steps that rise to it.
    pub warm_up: f32,
    /// The final one, relative to the peak.
    pub last: f32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            peak: 0.05,
            warm_up: 0.05,
            last: 0.0,
        }
    }
}

impl Rate {
    /// The rate at `progress` from 0 to 1.
    #[must_use]
    pub fn at(&self, progress: f64) -> f32 {
        let warm = f64::from(self.warm_up);
        let share = if progress < warm {
            progress / warm
        } else {
            let p = (progress - warm) / (1.0 - warm).max(1e-9);
            let last = f64::from(self.last);
            last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * p.min(1.0)).cos())
        };
        (f64::from(self.peak) * share) as f32
    }
}
