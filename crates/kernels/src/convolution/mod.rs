//! Two-dimensional convolutions (cross-correlations, as in every framework) of NHWC pictures.

mod dense;
mod depthwise;
mod weights;

use crate::instructions::instructions;
use rayon::prelude::*;

/// The geometry of a convolution. Padding below and to the right follows from the output's size; whatever lies outside the picture is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Pictures.
    pub batch: usize,
    /// Height, width, channels of the input.
    pub input: (usize, usize, usize),
    /// Height, width, channels of the output.
    pub output: (usize, usize, usize),
    /// Height, width of the kernel.
    pub kernel: (usize, usize),
    /// Vertical, horizontal stride.
    pub stride: (usize, usize),
    /// Vertical, horizontal distance between the kernel's taps (1: dense).
    pub dilation: (usize, usize),
    /// Rows above, columns to the left.
    pub padding: (usize, usize),
    /// Groups: output channels in group g see the input channels in group g only.
    pub groups: usize,
}

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

    fn is_depthwise(&self) -> bool {
        self.groups == self.input.2 && self.groups == self.output.2
    }

    /// Rows and columns from the first pixel that a tap reaches to the last, padding included.
    fn reach(&self) -> (usize, usize) {
        let along = |size: usize, stride: usize, kernel: usize, dilation: usize| {
            (size - 1) * stride + (kernel - 1) * dilation + 1
        };
        let (size, stride, kernel, dilation) =
            (self.output, self.stride, self.kernel, self.dilation);
        (
            along(size.0, stride.0, kernel.0, dilation.0),
            along(size.1, stride.1, kernel.1, dilation.1),
        )
    }

    fn input_size(&self) -> usize {
        self.input.0 * self.input.1 * self.input.2
    }

    fn output_size(&self) -> usize {
        self.output.0 * self.output.1 * self.output.2
    }

    fn weight_size(&self) -> usize {
        self.kernel.0 * self.kernel.1 * (self.input.2 / self.groups) * self.output.2
    }

    fn picture<'a>(&self, n: usize, x: &'a [f32]) -> &'a [f32] {
        &x[n * self.input_size()..][..self.input_size()]
    }

    fn check(&self, x: &[f32], w: &[f32], y: &[f32]) {
        assert!(
            self.groups > 0
                && self.input.2.is_multiple_of(self.groups)
                && self.output.2.is_multiple_of(self.groups),
            "Convolution: groups do not divide the channels"
        );
        assert!(
            x.len() == self.batch * self.input_size(),
            "Convolution: the input's length is not its shape's"
        );
        assert!(
            y.len() == self.batch * self.output_size(),
            "Convolution: the output's length is not its shape's"
        );
        assert!(
            w.len() == self.weight_size(),
            "Convolution: the weights' length is not (kh, kw, c_in / groups, c_out)"
        );
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
