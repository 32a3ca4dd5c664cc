//! Each pass by the kernels of its kind.

use super::{Convolution, dense, depthwise, weights};
use crate::instructions::instructions;
use rayon::prelude::*;

impl Convolution {
    /// y = x ∗ w + bias.
    pub fn forward(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.check(x, w, y);
        assert!(
            bias.is_none_or(|b| b.len() == self.output.2),
            "Convolution: bias has one element per output channel"
        );
        if y.is_empty() {
            return;
        }
        if self.is_depthwise() {
            depthwise::forward(instructions(), self, x, w, bias, y);
        } else {
            dense::forward(instructions(), self, x, w, bias, y);
        }
    }

    /// The gradient with respect to the input; overwrites dx.
    pub fn backward_input(&self, dy: &[f32], w: &[f32], dx: &mut [f32]) {
        self.check(dx, w, dy);
        if dx.is_empty() {
            return;
        }
        if self.is_depthwise() {
            depthwise::backward_input(instructions(), self, dy, w, dx);
        } else {
            dense::backward_input(instructions(), self, dy, w, dx);
        }
    }

    /// Adds the gradients with respect to the weights and the bias to `dw` and `db`.
    pub fn backward_weight(&self, x: &[f32], dy: &[f32], dw: &mut [f32], db: Option<&mut [f32]>) {
        self.check(x, dw, dy);
        if x.is_empty() || dy.is_empty() {
            return;
        }
        if self.is_depthwise() {
            depthwise::backward_weight(instructions(), self, x, dy, dw);
        } else {
            weights::backward_weight(instructions(), self, x, dy, dw);
        }
        if let Some(db) = db {
            bias_gradient(self.output.2, dy, db);
        }
    }
}

/// db\[c\] += the sum of column c of dy.
fn bias_gradient(channels: usize, dy: &[f32], db: &mut [f32]) {
    assert_eq!(
        db.len(),
        channels,
        "Convolution: db has one element per output channel"
    );
    let parts: Vec<Vec<f64>> = dy
        .par_chunks(crate::normalization::rows_per_part(channels) * channels)
        .map(|part| {
            let mut sum = vec![0.0f64; channels];
            for row in part.chunks_exact(channels) {
                sum.iter_mut()
                    .zip(row)
                    .for_each(|(s, &v)| *s += f64::from(v));
            }
            sum
        })
        .collect();
    let total = crate::normalization::sum_in_order(parts, channels);
    db.iter_mut().zip(total).for_each(|(d, t)| *d += t as f32);
}
