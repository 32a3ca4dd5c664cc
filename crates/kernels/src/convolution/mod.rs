//! Two-dimensional convolutions (cross-correlations, as in every framework) of NHWC pictures.

mod dense;
mod depthwise;
mod passes;
mod weights;

use crate::has_size;

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
        let ((h, width, from), (rows, columns, to)) = (self.input, self.output);
        assert!(
            has_size(x, &[self.batch, h, width, from]),
            "Convolution: the input's length is not its shape's"
        );
        assert!(
            has_size(y, &[self.batch, rows, columns, to]),
            "Convolution: the output's length is not its shape's"
        );
        assert!(
            has_size(w, &[self.kernel.0, self.kernel.1, from / self.groups, to]),
            "Convolution: the weights' length is not (kh, kw, c_in / groups, c_out)"
        );
        // where a window's last tap lies, counted from the padding on
        let reach = |stride: usize, output: usize, dilation: usize, kernel: usize| {
            let steps = stride.checked_mul(output)?;
            steps.checked_add(dilation.checked_mul(kernel)?)
        };
        let (tall, wide) = (
            reach(self.stride.0, rows, self.dilation.0, self.kernel.0),
            reach(self.stride.1, columns, self.dilation.1, self.kernel.1),
        );
        let most = isize::MAX as usize;
        assert!(
            [tall, wide].iter().all(|r| r.is_some_and(|r| r <= most))
                && self.padding.0 <= most
                && self.padding.1 <= most,
            "Convolution: windows reach further than there are numbers"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_whose_sizes_wrap_are_refused() {
        // 2^32·2^32 = 0 and (2^32 + 1)·(2^32 + 1) = 2^33 + 1 in 64 bits
        let plain = Convolution {
            batch: 1,
            input: (1, 1, 1),
            output: (1, 1, 1),
            kernel: (1, 1),
            stride: (1, 1),
            dilation: (1, 1),
            padding: (0, 0),
            groups: 1,
        };
        let huge = 1 << 32;
        let refused = |c: Convolution, x: usize, w: usize, y: usize| {
            let (x, w, mut y) = (vec![0.0; x], vec![0.0; w], vec![0.0; y]);
            std::panic::catch_unwind(move || c.forward(&x, &w, None, &mut y)).is_err()
        };
        assert!(!refused(plain, 1, 1, 1));
        assert!(refused(
            Convolution {
                input: (huge, huge, 1),
                ..plain
            },
            0,
            1,
            1
        ));
        assert!(refused(
            Convolution {
                kernel: (huge, huge),
                ..plain
            },
            1,
            0,
            1
        ));
        assert!(refused(
            Convolution {
                stride: (usize::MAX, 1),
                ..plain
            },
            1,
            1,
            1
        ));
        assert!(refused(
            Convolution {
                dilation: (1, usize::MAX),
                ..plain
            },
            1,
            1,
            1
        ));
        assert!(refused(
            Convolution {
                padding: (usize::MAX, 0),
                ..plain
            },
            1,
            1,
            1
        ));
        let product = std::panic::catch_unwind(|| {
            let no = crate::Transpose::No;
            crate::gemm((huge, huge, huge), 1.0, (&[], no), (&[], no), 0.0, &mut []);
        });
        assert!(product.is_err());
    }
}
