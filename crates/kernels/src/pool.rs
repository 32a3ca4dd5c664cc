//! Average pooling of NHWC pictures.

use crate::has_size;
use rayon::prelude::*;

/// The geometry of a pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pictures.
    pub batch: usize,
    /// Height, width, channels of the input.
    pub input: (usize, usize, usize),
    /// Height, width of the output; the channels are the input's.
    pub output: (usize, usize),
    /// Height, width of the window.
    pub kernel: (usize, usize),
    /// Vertical, horizontal step of the window.
    pub stride: (usize, usize),
    /// Rows above, columns to the left; what lies below and to the right follows from the output.
    pub padding: (usize, usize),
}

impl Window {
    fn check(&self, x: &[f32], y: &[f32]) {
        let ((h, w, c), (rows, columns)) = (self.input, self.output);
        assert!(
            has_size(x, &[self.batch, h, w, c]) && has_size(y, &[self.batch, rows, columns, c]),
            "average_pool: the input's or the output's length is not its shape's"
        );
    }

    /// Calls `visit(output pixel, input pixel)` for every pixel of every window within the picture.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let (h, w, _) = self.input;
        for oy in 0..self.output.0 {
            for ox in 0..self.output.1 {
                for ky in 0..self.kernel.0 {
                    for kx in 0..self.kernel.1 {
                        let (y, x) = (
                            (oy * self.stride.0 + ky).wrapping_sub(self.padding.0),
                            (ox * self.stride.1 + kx).wrapping_sub(self.padding.1),
                        );
                        if y < h && x < w {
                            visit(oy * self.output.1 + ox, y * w + x);
                        }
                    }
                }
            }
        }
    }

    /// Elements of a picture of the input and of the output.
    fn sizes(&self) -> (usize, usize) {
        let (h, w, c) = self.input;
        (h * w * c, self.output.0 * self.output.1 * c)
    }

    /// Overwrites `to` with the weighted sums of `from`'s pixels; `order` says which of an output's and an input's pixel is the source.
    fn spread(
        &self,
        from: &[f32],
        to: &mut [f32],
        (source, target): (usize, usize),
        order: impl Fn(usize, usize) -> (usize, usize) + Sync,
    ) {
        if source == 0 || target == 0 {
            to.fill(0.0);
            return;
        }
        let c = self.input.2;
        let weight = 1.0 / (self.kernel.0 * self.kernel.1) as f32;
        let pictures = to.par_chunks_mut(target).zip(from.par_chunks(source));
        pictures.for_each(|(to, from)| {
            to.fill(0.0);
            self.each(|output, input| {
                let (i, o) = order(output, input);
                let pixel = to[o * c..][..c].iter_mut().zip(&from[i * c..][..c]);
                pixel.for_each(|(to, from)| *to += weight * from);
            });
        });
    }
}

/// y = the mean of each window; padding counts as zeros (the divisor is always the whole window).
pub fn average_pool_forward(window: &Window, x: &[f32], y: &mut [f32]) {
    window.check(x, y);
    window.spread(x, y, window.sizes(), |output, input| (input, output));
}

/// The gradient of [`average_pool_forward`]; overwrites dx.
pub fn average_pool_backward(window: &Window, dy: &[f32], dx: &mut [f32]) {
    window.check(dx, dy);
    let (input, output) = window.sizes();
    window.spread(dy, dx, (output, input), |output, input| (output, input));
}
