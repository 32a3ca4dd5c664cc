//! Linear layers on values in coefficients: layouts against a plain convolution, products and packing exactly modulo Q, noise against its formula, whole cycles in three interpreters.

mod cycles;
mod layers;
mod layouts;
mod products;
mod rings;

use ckks::folded::{Convolution, Folded, Pitch};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A layer of a network, as frameworks say it.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    channels: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    pad: [usize; 2],
    stride: usize,
    groups: usize,
}

impl Layer {
    const fn new(channels: usize, outputs: usize, size: [usize; 2], kernel: [usize; 2]) -> Self {
        Self {
            channels,
            outputs,
            size,
            kernel,
            pad: [kernel[0] / 2, kernel[1] / 2],
            stride: 1,
            groups: 1,
        }
    }
    const fn pad(self, pad: [usize; 2]) -> Self {
        Self { pad, ..self }
    }
    const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }
    const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
    /// Height and width of the output.
    fn out(&self) -> [usize; 2] {
        [0, 1].map(|d| (self.size[d] + 2 * self.pad[d] - self.kernel[d]) / self.stride + 1)
    }
    fn row(&self) -> usize {
        self.channels / self.groups * self.kernel[0] * self.kernel[1]
    }
    /// Folded into a ring of degree n, seen as t classes.
    fn folded(&self, n: usize, t: usize) -> Convolution {
        let ([h, w], [oh, ow]) = (self.size, self.out());
        let pitch = match self.stride {
            1 => Pitch::Tight,
            _ => Pitch::Power,
        };
        let input = Folded::fitting(n, [self.channels, h, w], self.pad, pitch).expect("fits");
        let output = if (self.stride, [oh, ow]) == (1, self.size) {
            input.with_channels(self.outputs)
        } else {
            Folded::fitting(n, [self.outputs, oh, ow], [1, 1], pitch)
        };
        let [input, output] =
            [input, output.expect("fits")].map(|l| l.narrowed(t).expect("whole channels"));
        Convolution::new(
            &input,
            &output,
            self.kernel,
            self.pad,
            self.stride,
            self.groups,
        )
        .unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }
    /// The convolution by its definition.
    fn plain(&self, x: &[i128], w: &[i32]) -> Vec<i128> {
        let ([h, width], [oh, ow], [kh, kw]) = (self.size, self.out(), self.kernel);
        let (per, each) = (self.channels / self.groups, self.outputs / self.groups);
        let mut out = Vec::new();
        for o in 0..self.outputs {
            for y in 0..oh {
                for at in 0..ow {
                    let mut sum = 0;
                    for c in 0..per {
                        for j in 0..kh {
                            for i in 0..kw {
                                let row = (y * self.stride + j).wrapping_sub(self.pad[0]);
                                let column = (at * self.stride + i).wrapping_sub(self.pad[1]);
                                if row < h && column < width {
                                    let channel = o / each * per + c;
                                    let weight = w[((o * per + c) * kh + j) * kw + i];
                                    sum += i128::from(weight)
                                        * x[(channel * h + row) * width + column];
                                }
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }
}

/// Every shape of layer that pictures and vectors need, in a ring of degree 512 or more.
fn layers() -> Vec<Layer> {
    let mut all = vec![
        // dense layers and attention's projections
        Layer::new(5, 7, [1, 1], [1, 1]),
        Layer::new(16, 16, [1, 8], [1, 1]),
        Layer::new(3, 40, [1, 1], [1, 1]),
        // kernels
        Layer::new(2, 3, [4, 4], [5, 5]),
        Layer::new(4, 2, [6, 3], [1, 3]),
        Layer::new(4, 2, [3, 6], [3, 1]),
        Layer::new(2, 2, [3, 5], [2, 3]).pad([1, 1]),
        Layer::new(2, 5, [5, 4], [3, 3]).pad([0, 0]),
        Layer::new(2, 2, [4, 3], [3, 3]).pad([2, 2]),
        // groups and depthwise
        Layer::new(8, 12, [3, 3], [3, 3]).groups(4),
        Layer::new(9, 9, [4, 4], [3, 3]).groups(9),
        // strides
        Layer::new(3, 6, [6, 6], [3, 3]).stride(2),
        Layer::new(5, 8, [6, 6], [1, 1]).stride(2),
        Layer::new(3, 2, [5, 7], [3, 3]).stride(2),
        Layer::new(2, 3, [7, 7], [3, 3]).stride(3),
        Layer::new(4, 4, [6, 6], [2, 2])
            .pad([0, 0])
            .stride(2)
            .groups(4),
        Layer::new(4, 4, [6, 6], [3, 3])
            .pad([0, 0])
            .stride(3)
            .groups(4),
        Layer::new(6, 6, [7, 7], [3, 3]).stride(2).groups(6),
        // the whole picture at once: a mean and a dense layer
        Layer::new(6, 10, [4, 4], [4, 4]).pad([0, 0]),
    ];
    // m = 8 channels fill a ciphertext of degree 512 with 64 places
    for channels in [1, 3, 7, 8, 9] {
        for outputs in [1, 7, 8, 9] {
            all.push(Layer::new(channels, outputs, [6, 6], [3, 3]));
        }
    }
    all
}

/// Random numbers; the same for the same seed.
struct Random(ChaCha20Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }
    /// Signed numbers of at most so many bits.
    fn signed(&mut self, bits: u32, count: usize) -> Vec<i32> {
        let mut one = || (self.0.next_u64() as i64 >> (64 - bits - 1)) as i32;
        (0..count).map(|_| one()).collect()
    }
}

/// A set with levels in coefficients.
fn parameters(spec: Result<ckks::ParametersSpec, ckks::Error>) -> ckks::Parameters {
    ckks::Parameters::new(spec.expect("a set")).expect("parameters")
}
