//! Losses on the outputs, with their gradients.

use crate::batch::{IGNORED, Wanted};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Cross-entropy with labels, mixed with the divergence from a teacher; where numbers are predicted, squared errors, mixed with those
/// against the teacher.
///
/// `(1 − α)·CE(labels, smoothed) + α·T²·KL(teacher ∥ student at temperature T)`, mean over the batch.
/// Reference: Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network* (arXiv 1503.02531).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loss {
    /// Share of the labels' weight that is spread over all classes.
    pub smoothing: f32,
    /// α, the teacher's share; ignored without a teacher.
    pub teacher: f32,
    /// T.
    pub temperature: f32,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            smoothing: 0.0,
            teacher: 0.7,
            temperature: 4.0,
        }
    }
}

/// What a batch of outputs gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The loss, mean over the batch.
    pub loss: f64,
    /// Its derivative by the outputs.
    pub gradient: Vec<f32>,
    /// How many of the largest outputs are the label's.
    pub right: usize,
}

/// The probabilities and their logarithms, which are finite where the outputs are.
fn softmax_and_logarithm(row: &[f32], temperature: f64) -> (Vec<f64>, Vec<f64>) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scores: Vec<f64> = row
        .iter()
        .map(|&v| f64::from(v - largest) / temperature)
        .collect();
    let e: Vec<f64> = scores.iter().map(|s| s.exp()).collect();
    let sum: f64 = e.iter().sum();
    let ln = sum.ln();
    (
        e.into_iter().map(|v| v / sum).collect(),
        scores.into_iter().map(|s| s - ln).collect(),
    )
}

/// How far outputs `(n, classes)` are from a reference's: the divergence of their class probabilities, KL(reference ∥ outputs), mean
/// over the rows; infinite where an output is no finite number.
#[must_use]
pub fn divergence(reference: &[f32], outputs: &[f32], classes: usize) -> f64 {
    if outputs.iter().any(|v| !v.is_finite()) {
        return f64::INFINITY;
    }
    let rows = reference
        .chunks_exact(classes)
        .zip(outputs.chunks_exact(classes));
    let sum: f64 = rows
        .flat_map(|(r, o)| {
            let [p, q] = [r, o].map(|row| softmax_and_logarithm(row, 1.0).0);
            p.into_iter().zip(q)
        })
        .map(|(p, q)| p * (p.max(1e-30).ln() - q.max(1e-30).ln()))
        .sum();
    sum.max(0.0) / (reference.len() / classes).max(1) as f64
}

/// Index of the largest value; the first of equals, and 0 when none is a number.
#[must_use]
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] || row[best].is_nan() {
            best = i;
        }
    }
    best
}

impl Loss {
    /// The loss of outputs beside what was wanted, the mean over rows that count.
    ///
    /// # Panics
    /// When a label is no class, or the lengths differ.
    #[must_use]
    pub fn of(&self, outputs: &[f32], wanted: &Wanted, teacher: Option<&[f32]>) -> Outcome {
        match wanted {
            Wanted::Classes(labels) => self.evaluate(outputs, labels, teacher),
            Wanted::Numbers { values, weights } => self.squares(outputs, values, weights, teacher),
        }
    }

    /// `(1 − α)·Σ w·(y − target)² + α·Σ w·(y − teacher)²`, mean over all outputs.
    fn squares(
        &self,
        outputs: &[f32],
        targets: &[f32],
        weights: &[f32],
        teacher: Option<&[f32]>,
    ) -> Outcome {
        let alpha = teacher.map_or(0.0, |_| f64::from(self.teacher));
        let teacher = teacher.unwrap_or(targets);
        let n = outputs.len().max(1) as f64;
        let mut out = Outcome {
            loss: 0.0,
            gradient: Vec::with_capacity(outputs.len()),
            right: 0,
        };
        let weights = weights.iter().cycle();
        for (((&y, &t), &q), &w) in outputs.iter().zip(targets).zip(teacher).zip(weights) {
            let [y, t, q, w] = [y, t, q, w].map(f64::from);
            let (own, taught) = ((1.0 - alpha) * w / n, alpha * w / n);
            out.loss += own * (y - t).powi(2) + taught * (y - q).powi(2);
            let slope = 2.0 * (own * (y - t) + taught * (y - q));
            out.gradient.push(slope as f32);
        }
        out
    }

    /// The loss of outputs `(n, classes)`, the mean over rows whose labels count.
    ///
    /// # Panics
    /// When a label is no class, or the lengths differ.
    #[must_use]
    pub fn evaluate(&self, outputs: &[f32], labels: &[usize], teacher: Option<&[f32]>) -> Outcome {
        /// Rows of a task.
        const ROWS: usize = 64;
        let classes = outputs.len() / labels.len();
        let n = labels.iter().filter(|&&l| l != IGNORED).count().max(1);
        let mut gradient = vec![0.0f32; outputs.len()];
        let rows = outputs
            .par_chunks(ROWS * classes)
            .zip(labels.par_chunks(ROWS));
        let losses: Vec<Vec<(f64, bool)>> = rows
            .zip(gradient.par_chunks_mut(ROWS * classes))
            .enumerate()
            .map(|(part, ((outputs, labels), gradient))| {
                let rows = outputs.chunks_exact(classes).zip(labels);
                rows.zip(gradient.chunks_exact_mut(classes))
                    .enumerate()
                    .map(|(i, ((row, &label), gradient))| {
                        if label == IGNORED {
                            return (0.0, false);
                        }
                        let at = (part * ROWS + i) * classes;
                        let teacher = teacher.map(|t| &t[at..at + classes]);
                        let loss = self.row(row, label, teacher, n as f64, gradient);
                        (loss, argmax(row) == label)
                    })
                    .collect()
            })
            .collect();
        let mut out = Outcome {
            loss: 0.0,
            gradient,
            right: 0,
        };
        for (loss, right) in losses.into_iter().flatten() {
            out.loss += loss / n as f64;
            out.right += usize::from(right);
        }
        out
    }

    /// The loss of one row of outputs; writes its gradient, divided by `n`.
    fn row(
        &self,
        row: &[f32],
        label: usize,
        teacher: Option<&[f32]>,
        n: f64,
        gradient: &mut [f32],
    ) -> f64 {
        let classes = row.len();
        let alpha = teacher.map_or(0.0, |_| f64::from(self.teacher));
        let t = f64::from(self.temperature);
        let smoothing = f64::from(self.smoothing);
        let spread = smoothing / classes as f64;
        let target = |c: usize| spread + (1.0 - smoothing) * f64::from(u8::from(c == label));
        let (p, ln_p) = softmax_and_logarithm(row, 1.0);
        let mut loss = if smoothing == 0.0 {
            -ln_p[label]
        } else {
            -(0..classes).map(|c| target(c) * ln_p[c]).sum::<f64>()
        };
        loss *= 1.0 - alpha;
        let taught = teacher.map(|teacher| {
            let (q, ln_q) = softmax_and_logarithm(teacher, t);
            let (s, ln_s) = softmax_and_logarithm(row, t);
            let divergence = (0..classes).filter(|&c| q[c] > 0.0);
            let divergence: f64 = divergence.map(|c| q[c] * (ln_q[c] - ln_s[c])).sum();
            loss += alpha * t * t * divergence;
            (q, s)
        });
        for (c, g) in gradient.iter_mut().enumerate() {
            let mut slope = (1.0 - alpha) * (p[c] - target(c));
            if let Some((q, s)) = &taught {
                slope += alpha * t * (s[c] - q[c]);
            }
            *g = (slope / n) as f32;
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_difference() {
        let loss = Loss {
            smoothing: 0.1,
            teacher: 0.6,
            temperature: 3.0,
        };
        let outputs = [0.3f32, -1.2, 2.0, 0.5, 0.1, -0.7];
        let teacher = [1.0f32, 0.0, 1.5, -1.0, 0.4, 0.2];
        let labels = [2, 0];
        let at = |o: &[f32]| loss.evaluate(o, &labels, Some(&teacher)).loss;
        let gradient = loss.evaluate(&outputs, &labels, Some(&teacher)).gradient;
        for i in 0..6 {
            let (mut up, mut down) = (outputs, outputs);
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (at(&up) - at(&down)) / 2e-2;
            assert!(
                (slope - f64::from(gradient[i])).abs() < 1e-4,
                "{i}: {slope} against {}",
                gradient[i]
            );
        }
    }

    #[test]
    fn squares_are_weighed_and_have_their_differences_as_derivatives() {
        let loss = Loss {
            teacher: 0.25,
            ..Loss::default()
        };
        let wanted = Wanted::Numbers {
            values: vec![1.0, 100.0, 2.0, 300.0],
            weights: [1.0, 1e-4].into(),
        };
        let outputs = [0.5f32, 150.0, 2.5, 250.0];
        let taught = [1.0f32, 120.0, 2.0, 280.0];
        // (0.25 + 0.25 + 0.25 + 0.25)/4 without the teacher
        assert!((loss.of(&outputs, &wanted, None).loss - 0.25).abs() < 1e-6);
        let at = |o: &[f32]| loss.of(o, &wanted, Some(&taught)).loss;
        let gradient = loss.of(&outputs, &wanted, Some(&taught)).gradient;
        for i in 0..4 {
            let (mut up, mut down) = (outputs, outputs);
            up[i] += 0.125;
            down[i] -= 0.125;
            let slope = (at(&up) - at(&down)) / 0.25;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-6, "{i}");
        }
    }

    #[test]
    fn a_teacher_that_agrees_pulls_nowhere() {
        let loss = Loss {
            smoothing: 0.0,
            teacher: 1.0,
            temperature: 4.0,
        };
        let outputs = [0.3f32, -1.2, 2.0];
        let o = loss.evaluate(&outputs, &[0], Some(&outputs));
        assert!(o.loss.abs() < 1e-12 && o.gradient.iter().all(|g| g.abs() < 1e-7));
        assert_eq!(o.right, 0);
    }
}
