//! Operators, their parameters and their shapes. What serde makes of one is how files describe it: without its tensors, which are stored apart.

use crate::attention::{AttentionScheme, Mask, Order};
use crate::error::Error;
use crate::tensor::{Parameter, Shape};
use approx::{Activation, Polynomial};
use serde::{Deserialize, Serialize};

/// An operator. `N` is what may be applied to single elements: [`Nonlinearity`] in a [`Graph`](crate::Graph), [`Polynomial`] in a
/// [`PolyGraph`](crate::PolyGraph).
#[derive(Debug, Clone, PartialEq)]
pub enum Op<N> {
    /// The network's input of this shape. No inputs.
    Input(Shape),
    /// A constant of this shape (same number of values as the parameter). No inputs.
    Constant(Shape, Parameter),
    /// Cross-correlation, `(C, H, W) → (O, H', W')`.
    Conv2d(Conv2d),
    /// `y = W x + b`, `(in) → (out)`.
    Linear(Linear),
    /// Per-channel affine map in inference form, same shape.
    BatchNorm(BatchNorm),
    /// A function of each element, same shape.
    Elementwise(N),
    /// Sum of two nodes of equal shape; both may be the same node.
    Add,
    /// Element-by-element product of two nodes of equal shape; both may be the same node.
    Mul,
    /// Mean over a window, `(C, H, W) → (C, H', W')`.
    AvgPool(AvgPool),
    /// Maximum over a window, `(C, H, W) → (C, H', W')`. No polynomial computes it, so no [`PolyGraph`](crate::PolyGraph) holds it.
    MaxPool(MaxPool),
    /// Mean over all positions, `(C, H, W) → (C, 1, 1)`.
    GlobalAvgPool,
    /// Centred (or not) and brought to unit size over the channels at each position, same shape. A root and a division, so no
    /// [`PolyGraph`](crate::PolyGraph) holds it.
    Norm(Norm),
    /// Rotary position embedding, `(C, 1, L) → (C, 1, L)`.
    Rotary(Rotary),
    /// Attention of queries `(H·d, 1, L)` to keys and values `(H'·d, 1, L)`, `→ (H·d, 1, L)`; inputs in this order, then the marks
    /// `(1, 1, L)` where the mask takes them ([`Order::Marked`]). A division at least, so no [`PolyGraph`](crate::PolyGraph) holds it.
    Attention(Attention),
    /// The sequence beside itself delayed, `(C, 1, L) → (C, R, L)`.
    Unfold(Unfold),
    /// The row again and again, `(C, 1, L) → (C, R, L)`.
    Repeat(Repeat),
    /// Zeros added around, `(C, H, W) → (C', H', W')`.
    Pad(Pad),
    /// Every `step`-th element between `begin` and `end` on each axis.
    Slice(Slice),
    /// `(C, H, W) → (C·H·W)`; values keep their order.
    Flatten,
    /// Another shape with as many values; values keep their order.
    Reshape(Shape),
    /// Values in another order, some perhaps several times, some not at all, zeros among them.
    Rearrange(Rearrange),
    /// Softmax over the channels at each position (over the features of a vector), same shape. Exponentials and a division, so no
    /// [`PolyGraph`](crate::PolyGraph) holds it.
    Softmax(Softmax),
    /// The input itself.
    Identity,
}

impl<N> Op<N> {
    /// The operator's name, as in ONNX where it has one there.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "Input",
            Self::Constant(..) => "Constant",
            Self::Conv2d(_) => "Conv",
            Self::Linear(_) => "Gemm",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Elementwise(_) => "Elementwise",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::AvgPool(_) => "AveragePool",
            Self::MaxPool(_) => "MaxPool",
            Self::GlobalAvgPool => "GlobalAveragePool",
            Self::Norm(n) => match n.kind {
                NormKind::Layer => "LayerNormalization",
                NormKind::RootMeanSquare => "RMSNormalization",
            },
            Self::Rotary(_) => "RotaryEmbedding",
            Self::Attention(_) => "Attention",
            Self::Unfold(_) => "Unfold",
            Self::Repeat(_) => "Repeat",
            Self::Pad(_) => "Pad",
            Self::Slice(_) => "Slice",
            Self::Flatten => "Flatten",
            Self::Reshape(_) => "Reshape",
            Self::Rearrange(_) => "Rearrange",
            Self::Softmax(Softmax::Shares) => "Softmax",
            Self::Softmax(Softmax::Logarithms) => "LogSoftmax",
            Self::Identity => "Identity",
        }
    }

    /// How many nodes it takes.
    #[must_use]
    pub fn arity(&self) -> usize {
        match self {
            Self::Input(_) | Self::Constant(..) => 0,
            Self::Add | Self::Mul => 2,
            Self::Attention(a) => 3 + usize::from(a.mask.order == Order::Marked),
            _ => 1,
        }
    }

    /// The same operator with its function mapped.
    pub(crate) fn try_map<M>(self, f: impl FnOnce(N) -> crate::Result<M>) -> crate::Result<Op<M>> {
        Ok(match self {
            Self::Elementwise(n) => Op::Elementwise(f(n)?),
            Self::Input(s) => Op::Input(s),
            Self::Constant(s, p) => Op::Constant(s, p),
            Self::Conv2d(x) => Op::Conv2d(x),
            Self::Linear(x) => Op::Linear(x),
            Self::BatchNorm(x) => Op::BatchNorm(x),
            Self::Add => Op::Add,
            Self::Mul => Op::Mul,
            Self::AvgPool(x) => Op::AvgPool(x),
            Self::MaxPool(x) => Op::MaxPool(x),
            Self::GlobalAvgPool => Op::GlobalAvgPool,
            Self::Norm(x) => Op::Norm(x),
            Self::Rotary(x) => Op::Rotary(x),
            Self::Attention(x) => Op::Attention(x),
            Self::Unfold(x) => Op::Unfold(x),
            Self::Repeat(x) => Op::Repeat(x),
            Self::Pad(x) => Op::Pad(x),
            Self::Slice(x) => Op::Slice(x),
            Self::Flatten => Op::Flatten,
            Self::Reshape(s) => Op::Reshape(s),
            Self::Rearrange(r) => Op::Rearrange(r),
            Self::Softmax(s) => Op::Softmax(s),
            Self::Identity => Op::Identity,
        })
    }

    /// Why no polynomial network holds this operator, whatever its activations become; None if one may.
    pub(crate) fn refusal(&self, node: &str) -> Option<Error> {
        match self {
            Self::MaxPool(_) => Some(Error::Maximum(node.into())),
            Self::Softmax(_) => Some(Error::Softmax(node.into())),
            Self::Norm(_) | Self::Attention(_) => Some(Error::not_lowered(node, self.name())),
            _ => None,
        }
    }
}

/// A function of one element in a network as trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Nonlinearity {
    /// An activation function, not a polynomial.
    Activation(Activation),
    /// A polynomial.
    Polynomial(Polynomial),
}

impl Nonlinearity {
    /// `factor·x + shift`, wherever x may lie; `node` is for the message.
    ///
    /// # Errors
    /// [`Error::Approximation`] for what is no number.
    pub fn affine(node: &str, factor: f64, shift: f64) -> crate::Result<Self> {
        // a power of two, so that its Chebyshev coefficients are exact
        const WIDE: f64 = (1u64 << 40) as f64;
        let p = Polynomial::from_monomial(&[shift, factor], (-WIDE, WIDE));
        Ok(p.map_err(Error::approximation(node))?.into())
    }
}

impl From<Activation> for Nonlinearity {
    fn from(a: Activation) -> Self {
        Self::Activation(a)
    }
}

impl From<Polynomial> for Nonlinearity {
    fn from(p: Polynomial) -> Self {
        Self::Polynomial(p)
    }
}

/// Something applied to each element.
pub trait ElementFunction: Clone + Send + Sync {
    /// Whether networks of these functions may hold only what polynomials compute, so no [`Op::MaxPool`], [`Op::Norm`] or
    /// [`Op::Attention`].
    const POLYNOMIAL: bool;
    /// Its value at `x`; no guard.
    fn value(&self, x: f64) -> f64;
    /// The polynomial behind it, if it is one.
    fn polynomial(&self) -> Option<&Polynomial>;
}

impl ElementFunction for Nonlinearity {
    const POLYNOMIAL: bool = false;

    fn value(&self, x: f64) -> f64 {
        match self {
            Self::Activation(a) => a.value(x),
            Self::Polynomial(p) => p.eval(x),
        }
    }

    fn polynomial(&self) -> Option<&Polynomial> {
        match self {
            Self::Activation(_) => None,
            Self::Polynomial(p) => Some(p),
        }
    }
}

impl ElementFunction for Polynomial {
    const POLYNOMIAL: bool = true;

    fn value(&self, x: f64) -> f64 {
        self.eval(x)
    }

    fn polynomial(&self) -> Option<&Polynomial> {
        Some(self)
    }
}

/// Whether there is a tensor, which is stored apart.
mod presence {
    use super::Parameter;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(p: &Option<Parameter>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bool(p.is_some())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        d: D,
    ) -> Result<Option<Parameter>, D::Error> {
        Ok(bool::deserialize(d)?.then(Parameter::default))
    }
}

/// Rows and columns of zeros around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "[usize; 4]", into = "[usize; 4]")]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// The same on all four sides.
    #[must_use]
    pub fn same(by: usize) -> Self {
        [by; 4].into()
    }
}

impl From<[usize; 4]> for Padding {
    fn from([top, bottom, left, right]: [usize; 4]) -> Self {
        Self {
            top,
            bottom,
            left,
            right,
        }
    }
}

impl From<Padding> for [usize; 4] {
    fn from(p: Padding) -> Self {
        [p.top, p.bottom, p.left, p.right]
    }
}

/// Positions of window `i` on one axis of this length with so many zeros before it, cut to the axis.
#[must_use]
pub fn window(
    i: usize,
    stride: usize,
    before: usize,
    kernel: usize,
    length: usize,
) -> std::ops::Range<usize> {
    let begin = (i * stride).saturating_sub(before);
    let end = (i * stride + kernel).saturating_sub(before).min(length);
    begin.min(end)..end
}

/// Cross-correlation with zero padding, as in every framework:
/// `y[o, i, j] = b[o] + Σ_{c, u, v} w[o, c, u, v] · x[g·C/G + c, i·s_h + u·d_h − top, j·s_w + v·d_w − left]`, `g = o·G/O`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// `(O, C/G, K_h, K_w)`.
    #[serde(skip)]
    pub weight: Parameter,
    /// `(s_h, s_w)`, at least 1.
    pub stride: (usize, usize),
    /// Zeros around the input.
    pub padding: Padding,
    /// `(d_h, d_w)`, at least 1.
    pub dilation: (usize, usize),
    /// `G`, divides both `C` and `O`.
    pub groups: usize,
    /// `(O)`.
    #[serde(with = "presence")]
    pub bias: Option<Parameter>,
}

impl Conv2d {
    /// Stride 1, no padding, no bias, no dilation, one group.
    #[must_use]
    pub fn new(weight: Parameter) -> Self {
        Self {
            weight,
            bias: None,
            stride: (1, 1),
            padding: Padding::default(),
            dilation: (1, 1),
            groups: 1,
        }
    }

    /// Output channels `O`.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        self.weight.shape()[0]
    }

    /// `(K_h, K_w)`.
    #[must_use]
    pub fn kernel(&self) -> (usize, usize) {
        (self.weight.shape()[2], self.weight.shape()[3])
    }
}

/// `y = W x + b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// `W`, `(out, in)`.
    #[serde(skip)]
    pub weight: Parameter,
    /// `b`, `(out)`.
    #[serde(with = "presence")]
    pub bias: Option<Parameter>,
}

/// `y[c] = scale[c]·(x[c] − mean[c])/√(variance[c] + epsilon) + bias[c]` on each channel (each feature of a vector).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// `(C)`.
    #[serde(skip)]
    pub scale: Parameter,
    /// `(C)`.
    #[serde(skip)]
    pub bias: Parameter,
    /// `(C)`.
    #[serde(skip)]
    pub mean: Parameter,
    /// `(C)`, not negative.
    #[serde(skip)]
    pub variance: Parameter,
    /// Positive unless every variance is.
    pub epsilon: f64,
}

impl BatchNorm {
    /// With scale 1, bias 0, mean 0 and this variance everywhere.
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`].
    pub fn identity(
        name: &str,
        channels: usize,
        variance: f32,
        epsilon: f64,
    ) -> crate::Result<Self> {
        let all = |value: f32| Parameter::new(name, [channels], vec![value; channels]);
        Ok(Self {
            scale: all(1.0)?,
            bias: all(0.0)?,
            mean: all(0.0)?,
            variance: all(variance)?,
            epsilon,
        })
    }

    /// The same map as `(factor, offset)` per channel: `y = factor·x + offset`.
    #[must_use]
    pub fn factor_and_offset(&self) -> Vec<(f64, f64)> {
        let (scale, bias) = (self.scale.to_f64(), self.bias.to_f64());
        let (mean, variance) = (self.mean.to_f64(), self.variance.to_f64());
        (0..scale.len())
            .map(|c| {
                let factor = scale[c] / (variance[c] + self.epsilon).sqrt();
                (factor, bias[c] - mean[c] * factor)
            })
            .collect()
    }
}

/// Mean over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// `(K_h, K_w)`, at least 1.
    pub kernel: (usize, usize),
    /// `(s_h, s_w)`, at least 1.
    pub stride: (usize, usize),
    /// Zeros around the input.
    pub padding: Padding,
    /// Whether the divisor is always `K_h·K_w` (true), or the number of window positions on the unpadded image (false).
    pub count_include_pad: bool,
}

/// Maximum over a window; padding never is the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// `(K_h, K_w)`, at least 1.
    pub kernel: (usize, usize),
    /// `(s_h, s_w)`, at least 1.
    pub stride: (usize, usize),
    /// Rows and columns around the input that windows may cover.
    pub padding: Padding,
    /// Whether a last window may reach beyond the padding at the bottom and at the right, as long as it begins before it (true), or
    /// must end in it (false).
    pub ceil_mode: bool,
}

/// What padding is to a mean over windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddingCounts {
    /// Zeros among its terms.
    AsZeros,
    /// Nothing: fewer terms.
    Not,
}

impl MaxPool {
    /// The padding with the rows and columns that `ceil_mode` adds on an image of this height and width.
    #[must_use]
    pub fn reach(&self, (height, width): (usize, usize)) -> Padding {
        let beyond = |length: usize, before: usize, after: usize, window: usize, stride: usize| {
            let padded = length.saturating_add(before).saturating_add(after);
            let (Some(room), 1..) = (padded.checked_sub(window), stride) else {
                return 0;
            };
            let begin = room.div_ceil(stride).saturating_mul(stride);
            if !self.ceil_mode || begin >= length.saturating_add(before) {
                return 0;
            }
            begin - room
        };
        let p = self.padding;
        let bottom = beyond(height, p.top, p.bottom, self.kernel.0, self.stride.0);
        let right = beyond(width, p.left, p.right, self.kernel.1, self.stride.1);
        Padding {
            bottom: p.bottom.saturating_add(bottom),
            right: p.right.saturating_add(right),
            ..p
        }
    }

    /// The mean over the same windows of an image of this height and width; zeros to be added before it where [`AvgPool`] alone can't
    /// say which of the positions outside of the image count: padding does as `padding` says, what `ceil_mode` adds never does.
    #[must_use]
    pub fn average(&self, size: (usize, usize), padding: PaddingCounts) -> (Option<Pad>, AvgPool) {
        let count_include_pad = padding == PaddingCounts::AsZeros;
        let (p, reach) = (self.padding, self.reach(size));
        let pool = |padding, count_include_pad| AvgPool {
            kernel: self.kernel,
            stride: self.stride,
            padding,
            count_include_pad,
        };
        if reach == p || !count_include_pad {
            return (None, pool(reach, count_include_pad));
        }
        let beyond = Padding {
            bottom: reach.bottom - p.bottom,
            right: reach.right - p.right,
            ..Padding::default()
        };
        let zeros = (p != Padding::default()).then_some(Pad {
            channels: (0, 0),
            spatial: p,
        });
        (zeros, pool(beyond, false))
    }
}

/// At each position of an image, over its channels (over the features of a vector):
/// `y[c] = scale[c]·(x[c] − μ)/√(variance + epsilon) + bias[c]`, see [`NormKind`] for μ and the variance.
///
/// References: J. Ba, J. Kiros, G. Hinton, "Layer Normalization" (2016); B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization" (2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// What is subtracted.
    pub kind: NormKind,
    /// `(C)`.
    #[serde(skip)]
    pub scale: Parameter,
    /// Positive.
    pub epsilon: f64,
    /// `(C)`.
    #[serde(with = "presence")]
    pub bias: Option<Parameter>,
}

/// What a [`Norm`] subtracts before it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// μ is the mean over the channels, the variance is that around it.
    Layer,
    /// μ = 0, the variance is the mean of squares.
    RootMeanSquare,
}

/// Rotary position embedding: in each head of `head` channels, the first `rotated` channels are pairs, and the pair of number k is turned by
/// the angle `(first + t)·base^(−2k/rotated)` at position t; the other channels stay.
///
/// Reference: J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Channels of one head; heads are stacked in the channels.
    pub head: usize,
    /// Channels of a head that turn; even, at most `head`.
    pub rotated: usize,
    /// Above 1, often 10,000.
    pub base: f64,
    /// Which channels are a pair.
    pub pairing: Pairing,
    /// The position of the first column.
    pub first: usize,
}

impl Rotary {
    /// The two channels (within a head) of pair k.
    #[must_use]
    pub fn pair(&self, k: usize) -> (usize, usize) {
        match self.pairing {
            Pairing::Adjacent => (2 * k, 2 * k + 1),
            Pairing::Half => (k, k + self.rotated / 2),
        }
    }

    /// The angle by which pair k turns in column t.
    #[must_use]
    pub fn angle(&self, k: usize, t: usize) -> f64 {
        let exponent = -2.0 * k as f64 / self.rotated as f64;
        (self.first + t) as f64 * self.base.powf(exponent)
    }
}

/// Which channels turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// 2k and 2k + 1, as in the paper and in llama2.c.
    Adjacent,
    /// k and k + rotated/2, as in GPT-NeoX and in Hugging Face's checkpoints of Llama, whose weights are permuted for it.
    Half,
}

/// `y[h, i] = Σ_j w[h, i, j]·v[g, j]` with g = h·H'/H the head's group, w[h, i] the scheme's weights of the scores
/// `scale·⟨q[h, i], k[g, j]⟩` over the keys j that the mask lets position i see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// H, heads of the queries.
    pub heads: usize,
    /// H', heads of keys and values; divides H.
    pub kv_heads: usize,
    /// What scores are multiplied by, mostly 1/√d.
    pub scale: f64,
    /// Which keys are seen.
    pub mask: Mask,
    /// How scores become weights.
    pub scheme: AttentionScheme,
}

/// `y[c, d, i] = x[c, 0, i − d]` for d below `rows`: what attention's scores and sums run over, one row for each distance. Causal rows from the
/// length on are all zeros, room for what is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfold {
    /// R, at least 1; cyclic at most L.
    pub rows: usize,
    /// What is before the first position.
    pub boundary: Boundary,
}

/// What stands before a sequence's first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Zeros.
    Causal,
    /// The end of the sequence: positions count modulo its length.
    Cyclic,
}

/// `y[c, d, i] = x[c, 0, i]` for d below `rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// R, at least 1.
    pub rows: usize,
}

/// `y[i₁, …, iₙ] = x[o₁[i₁] + … + oₙ[iₙ]]` in row-major positions of x, and 0 where one of the offsets is [`Rearrange::ZERO`]: what transpositions,
/// slices, repetitions, reversals and paddings of any number of axes come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rearrange {
    /// Of y.
    pub shape: Shape,
    /// The offsets along each axis, outermost first; their lengths' product is the number of values of y.
    pub offsets: Vec<Vec<u32>>,
}

impl Rearrange {
    /// Not a position: the value is 0.
    pub const ZERO: u32 = u32::MAX;

    /// Calls `take(position)` for each value of y in turn, with where it comes from in x, None for a zero.
    pub fn each(&self, mut take: impl FnMut(Option<usize>)) {
        let Some((last, outer)) = self.offsets.split_last() else {
            return take(Some(0));
        };
        let placed = |o: u32| (o != Self::ZERO).then_some(o as usize);
        let count: usize = outer.iter().map(Vec::len).product();
        let mut at = vec![0usize; outer.len()];
        for _ in 0..count {
            let mut chosen = outer.iter().zip(&at).map(|(o, &i)| o[i]);
            let base = chosen.try_fold(0usize, |s, o| Some(s + placed(o)?));
            for &o in last {
                take(base.and_then(|b| Some(b + placed(o)?)));
            }
            for (i, o) in at.iter_mut().zip(outer).rev() {
                *i += 1;
                if *i < o.len() {
                    break;
                }
                *i = 0;
            }
        }
    }
}

/// What a softmax gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// `e^x[c] / Σ e^x[k]`.
    Shares,
    /// Their logarithms, `x[c] − ln Σ e^x[k]`.
    Logarithms,
}

/// Zeros added `(before, after)` on each axis of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Channels of zeros.
    pub channels: (usize, usize),
    /// Rows and columns of zeros.
    #[serde(rename = "padding")]
    pub spatial: Padding,
}

/// A selection on each axis of the shape, in the shape's order (three axes for an image, one for a vector).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// One per axis.
    pub axes: Vec<AxisSlice>,
}

/// Indices `begin, begin + step, …` below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[usize; 3]", into = "[usize; 3]")]
pub struct AxisSlice {
    /// First index.
    pub begin: usize,
    /// One past the last candidate; at most the axis' length.
    pub end: usize,
    /// At least 1.
    pub step: usize,
}

impl From<[usize; 3]> for AxisSlice {
    fn from([begin, end, step]: [usize; 3]) -> Self {
        Self { begin, end, step }
    }
}

impl From<AxisSlice> for [usize; 3] {
    fn from(a: AxisSlice) -> Self {
        [a.begin, a.end, a.step]
    }
}

impl AxisSlice {
    /// Number of indices.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "an empty slice is refused when the graph is built"
    )]
    pub fn len(self) -> usize {
        self.end
            .saturating_sub(self.begin)
            .div_ceil(self.step.max(1))
    }
}
