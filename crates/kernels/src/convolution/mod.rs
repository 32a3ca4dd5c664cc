//! Two-dimensional convolutions (cross-correlations, as in every framework) of NHWC pictures.

mod dense;
mod depthwise;
mod passes;
mod weights;

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
