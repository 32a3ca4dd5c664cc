//! Average pooling of NHWC pictures.

use crate::has_size;
use rayon::prelude::*;

/// What the sum over a window is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The pixels of the window: what lies outside of the picture counts as zeros.
    Window,
    /// Those of its pixels that lie in the picture.
    Picture,
}

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
    /// Of the mean.
    pub divisor: Divisor,
}

impl Window {
    fn check(&self, x: &[f32], y: &[f32]) {
        let ((h, w, c), (rows, columns)) = (self.input, self.output);
        assert!(
            has_size(x, &[self.batch, h, w, c]) && has_size(y, &[self.batch, rows, columns, c]),
            "average_pool: the input's or the output's length is not its shape's"
        );
    }

    /// Calls `visit(output pixel, input pixel, weight)` for every pixel of every window within the picture.
    fn each(&self, mut visit: impl FnMut(usize, usize, f32)) {
        let (h, w, _) = self.input;
        // the rows (or columns) of a picture that a window covers
        let within = |at: usize, stride: usize, padding: usize, kernel: usize, size: usize| {
            let first = at * stride;
            first.saturating_sub(padding).min(size)
                ..(first + kernel).saturating_sub(padding).min(size)
        };
        for oy in 0..self.output.0 {
            let rows = within(oy, self.stride.0, self.padding.0, self.kernel.0, h);
            for ox in 0..self.output.1 {
                let columns = within(ox, self.stride.1, self.padding.1, self.kernel.1, w);
                let pixels = match self.divisor {
                    Divisor::Window => self.kernel.0 * self.kernel.1,
                    Divisor::Picture => rows.len() * columns.len(),
                };
                let weight = 1.0 / pixels as f32;
                for y in rows.clone() {
                    for x in columns.clone() {
                        visit(oy * self.output.1 + ox, y * w + x, weight);
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
        let pictures = to.par_chunks_mut(target).zip(from.par_chunks(source));
        pictures.for_each(|(to, from)| {
            to.fill(0.0);
            self.each(|output, input, weight| {
                let (i, o) = order(output, input);
                let pixel = to[o * c..][..c].iter_mut().zip(&from[i * c..][..c]);
                pixel.for_each(|(to, from)| *to += weight * from);
            });
        });
    }
}

/// y = the mean of each window.
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
