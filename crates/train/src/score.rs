//! How a network does on what it was not trained on.

use crate::batch::{Batch, Wanted};
use crate::error::Result;
use crate::loss::{Loss, argmax};
use crate::mode::Mode;
use crate::model::Model;

/// How a network does on pictures, vectors, or tokens of a text that it was not trained on; every guard is off.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Score {
    /// Answers that are right.
    pub right: usize,
    /// Answers that were judged: one for an input, or one for each token that counts.
    pub answers: usize,
    /// Values outside of their polynomial's domain.
    pub outside: u64,
    /// The class of each row of outputs; none where numbers are predicted.
    pub classes: Vec<usize>,
    /// Mean cross-entropy with the labels, in nats; where numbers are predicted, the mean squared error, each output's in units of its
    /// variance in training.
    pub loss: f64,
    /// Where numbers are predicted: each output's errors.
    pub errors: Vec<Errors>,
}

/// How well one number is predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Root of the mean squared error, in the target's unit.
    pub rmse: f64,
    /// Coefficient of determination: 1 − squared errors / squared distances of the targets from their mean.
    pub r2: f64,
}

impl Errors {
    /// Of predictions beside what they should have been, output by output.
    #[must_use]
    pub fn of(predicted: &[f64], targets: &[f64], outputs: usize) -> Vec<Self> {
        let column = |all: &[f64], k: usize| -> Vec<f64> {
            all.iter().skip(k).step_by(outputs).copied().collect()
        };
        let errors = |k: usize| {
            let (p, t) = (column(predicted, k), column(targets, k));
            let n = t.len().max(1) as f64;
            let mean = t.iter().sum::<f64>() / n;
            let squared: f64 = p.iter().zip(&t).map(|(p, t)| (p - t).powi(2)).sum();
            let total: f64 = t.iter().map(|t| (t - mean).powi(2)).sum();
            Self {
                rmse: (squared / n).sqrt(),
                r2: 1.0 - squared / total,
            }
        };
        (0..outputs).map(errors).collect()
    }
}

impl Score {
    /// Share of the answers that are right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.answers.max(1) as f64
    }

    /// How a model does on these batches.
    ///
    /// # Errors
    /// What the batches bring.
    pub fn of(model: &mut Model, batches: impl Iterator<Item = Result<Batch>>) -> Result<Self> {
        let before = model.seen();
        model.clear_ranges();
        let mut score = Self::default();
        let plain = Loss {
            smoothing: 0.0,
            ..Loss::default()
        };
        let (mut predicted, mut targets, mut width) = (Vec::new(), Vec::new(), 0);
        for batch in batches {
            let batch = batch?;
            let n = batch.counted();
            let outputs = model.run(batch.inputs(), Mode::Evaluate);
            let outcome = plain.of(outputs, &batch.wanted, None);
            score.loss += outcome.loss * n as f64;
            score.right += outcome.right;
            score.answers += n;
            match &batch.wanted {
                Wanted::Classes(labels) => {
                    let classes = outputs.len() / labels.len().max(1);
                    let rows = outputs.chunks_exact(classes);
                    score.classes.extend(rows.map(argmax));
                }
                Wanted::Numbers { values, weights } => {
                    width = weights.len();
                    predicted.extend(outputs.iter().map(|&v| f64::from(v)));
                    targets.extend(values.iter().map(|&v| f64::from(v)));
                }
            }
        }
        score.loss /= score.answers.max(1) as f64;
        score.errors = Errors::of(&predicted, &targets, width);
        score.outside = model.outside();
        model.set_seen(&before);
        Ok(score)
    }
}
