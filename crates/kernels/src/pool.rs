//! Average pooling of NHWC pictures.

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
    fn check(&self, x: usize, y: usize) {
        let (h, w, c) = self.input;
        assert!(
            x == self.batch * h * w * c,
            "average_pool: the input's length is not its shape's"
        );
        assert!(
            y == self.batch * self.output.0 * self.output.1 * c,
            "average_pool: the output's length is not its shape's"
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

    fn weight(&self) -> f32 {
        1.0 / (self.kernel.0 * self.kernel.1) as f32
    }
}

/// y = the mean of each window; padding counts as zeros (the divisor is always the whole window).
pub fn average_pool_forward(window: &Window, x: &[f32], y: &mut [f32]) {
    window.check(x.len(), y.len());
    let (h, w, c) = window.input;
    let weight = window.weight();
    let out = window.output.0 * window.output.1 * c;
    if out == 0 || h * w == 0 {
        y.fill(0.0);
        return;
    }
    y.par_chunks_mut(out)
        .zip(x.par_chunks(h * w * c))
        .for_each(|(y, x)| {
            y.fill(0.0);
            window.each(|o, i| {
                y[o * c..][..c]
                    .iter_mut()
                    .zip(&x[i * c..][..c])
                    .for_each(|(y, x)| *y += weight * x)
            });
        });
}

/// The gradient of [`average_pool_forward`]; overwrites dx.
pub fn average_pool_backward(window: &Window, dy: &[f32], dx: &mut [f32]) {
    window.check(dx.len(), dy.len());
    let (h, w, c) = window.input;
    let weight = window.weight();
    let out = window.output.0 * window.output.1 * c;
    if out == 0 || h * w == 0 {
        dx.fill(0.0);
        return;
    }
    dx.par_chunks_mut(h * w * c)
        .zip(dy.par_chunks(out))
        .for_each(|(dx, dy)| {
            dx.fill(0.0);
            window.each(|o, i| {
                dx[i * c..][..c]
                    .iter_mut()
                    .zip(&dy[o * c..][..c])
                    .for_each(|(dx, dy)| *dx += weight * dy)
            });
        });
}

/// y (`batch × channels`) = the mean over each picture's pixels (x is `batch × pixels × channels`).
pub fn global_average_forward(
    batch: usize,
    pixels: usize,
    channels: usize,
    x: &[f32],
    y: &mut [f32],
) {
    assert!(
        x.len() == batch * pixels * channels && y.len() == batch * channels,
        "global_average_forward: a length is not its shape's"
    );
    if x.is_empty() {
        y.fill(0.0);
        return;
    }
    let weight = 1.0 / pixels as f32;
    y.par_chunks_mut(channels)
        .zip(x.par_chunks(pixels * channels))
        .for_each(|(y, x)| {
            y.fill(0.0);
            for x in x.chunks_exact(channels) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= weight);
        });
}

/// The gradient of [`global_average_forward`]; overwrites dx.
pub fn global_average_backward(
    batch: usize,
    pixels: usize,
    channels: usize,
    dy: &[f32],
    dx: &mut [f32],
) {
    assert!(
        dx.len() == batch * pixels * channels && dy.len() == batch * channels,
        "global_average_backward: a length is not its shape's"
    );
    if dx.is_empty() {
        return;
    }
    let weight = 1.0 / pixels as f32;
    dx.par_chunks_mut(pixels * channels)
        .zip(dy.par_chunks(channels))
        .for_each(|(dx, dy)| {
            for dx in dx.chunks_exact_mut(channels) {
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = weight * dy);
            }
        });
}
