//! Linear operators as functions that list one row's entries; chains of them compose without being multiplied out.
//!
//! Row and column numbers are row-major positions in the operator's output and input tensor.

use crate::coefficients::tokens::Tokens;
use crate::error::Error;
use crate::layout::{Layout, narrow};
use nn::op::window;
use nn::{AvgPool, Boundary, Conv2d, NodeId, Op, Pairing, PolyNode, Rotary, Shape, Unfold};
use std::sync::Arc;

type Image = (usize, usize, usize);

/// What an operator adds, if anything.
type Bias = Option<Vec<f64>>;

/// One linear operator without its bias.
#[derive(Debug, PartialEq)]
pub(crate) enum LinearOp {
    /// A convolution.
    Convolution {
        conv: Conv2d,
        input: Image,
        output: Image,
    },
    /// A dense matrix, `(out, in)`.
    Dense { weight: nn::Parameter },
    /// y[r] = factors[r / inner]·x[r].
    Diagonal {
        factors: Vec<f64>,
        inner: usize,
        rows: usize,
    },
    /// A mean over windows.
    Pool {
        pool: AvgPool,
        input: Image,
        output: Image,
    },
    /// Rotary position embedding of a sequence of this length.
    Rotary {
        rotary: Rotary,
        rows: usize,
        length: usize,
        /// Places with copies of other tokens have their positions.
        tokens: Option<Tokens>,
    },
    /// The sequence (C, 1, L) beside itself delayed.
    Unfold {
        unfold: Unfold,
        channels: usize,
        length: usize,
    },
    /// The sequence (C, 1, L) again and again.
    Repeat {
        rows: usize,
        channels: usize,
        length: usize,
    },
    /// Less the mean over the channels of each token.
    Centre { channels: usize, length: usize },
    /// Sums over a query's keys, of scores that lie as `layout`'s source says: y[r] = Σ weight·x[i] over what `keys` lists for the head and the token of r.
    Keys {
        keys: Arc<[Vec<u32>]>,
        weight: f64,
        /// Channels of a head.
        head: usize,
        length: usize,
        /// Where the sums lie: those of a head's channels in one place.
        layout: Layout,
    },
    /// y[r] = x[index[r]], or 0 for `u32::MAX`; by how much rows and columns are thinned out, None where they become others.
    Select {
        index: Vec<u32>,
        stride: Option<(usize, usize)>,
    },
}

/// An operator in a chain, and where in the network it stands.
#[derive(Debug)]
pub(crate) struct Link {
    /// The operator.
    pub(crate) op: LinearOp,
    /// The node whose value it takes: there a chain can be cut in two.
    pub(crate) before: NodeId,
    /// How many terms that value had.
    pub(crate) terms: usize,
}

/// Equal where they do the same, wherever they stand.
impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op
    }
}

/// Operators from first to last: the composition applies the first one first.
pub(crate) type Chain = Vec<Arc<Link>>;

impl LinearOp {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Convolution {
                output: (c, h, w), ..
            }
            | Self::Pool {
                output: (c, h, w), ..
            } => c * h * w,
            Self::Dense { weight } => weight.shape()[0],
            Self::Diagonal { rows, .. } | Self::Rotary { rows, .. } => *rows,
            Self::Unfold {
                unfold: Unfold { rows, .. },
                channels,
                length,
            }
            | Self::Repeat {
                rows,
                channels,
                length,
            } => channels * rows * length,
            Self::Centre { channels, length } => channels * length,
            Self::Keys { layout, .. } => layout.shape().len(),
            Self::Select { index, .. } => index.len(),
        }
    }

    /// By how much it thins out rows and columns of a picture; None where they become others.
    pub(crate) fn stride(&self) -> Option<(usize, usize)> {
        match self {
            Self::Convolution { conv, .. } => Some(conv.stride),
            Self::Pool { pool, .. } => Some(pool.stride),
            Self::Select { stride, .. } => *stride,
            Self::Dense { .. }
            | Self::Diagonal { .. }
            | Self::Rotary { .. }
            | Self::Unfold { .. }
            | Self::Keys { .. }
            | Self::Centre { .. }
            | Self::Repeat { .. } => Some((1, 1)),
        }
    }

    /// Whether every value stays where it is, or turns within its head at its token.
    pub(crate) fn stays(&self) -> bool {
        matches!(self, Self::Diagonal { .. } | Self::Rotary { .. })
    }

    /// The factor, where it only multiplies.
    pub(crate) fn scalar(&self) -> Option<f64> {
        match self {
            Self::Diagonal { factors, .. } => {
                let first = *factors.first()?;
                factors.iter().all(|&f| f == first).then_some(first)
            }
            _ => None,
        }
    }

    /// Whether every row is a copy of some value, so that nothing needs to be computed where the copies lie in their places already.
    pub(crate) fn copies(&self) -> bool {
        match self {
            Self::Convolution {
                conv,
                input: (_, h, w),
                output: (_, oh, ow),
            } => {
                conv.weight.shape()[1..] == [1, 1, 1]
                    && (h, w) == (oh, ow)
                    && conv.padding == nn::Padding::default()
                    && conv.weight.values().iter().all(|&x| x == 1.0)
            }
            Self::Repeat { .. } => true,
            Self::Select { index, .. } => index.iter().all(|&i| i != u32::MAX),
            _ => false,
        }
    }

    /// Whether a row has more than one entry, or several rows have the same.
    pub(crate) fn mixes(&self) -> bool {
        match self {
            Self::Diagonal { .. } | Self::Select { .. } => false,
            // one factor a channel
            Self::Convolution { conv, .. } => {
                conv.weight.shape()[1..] != [1, 1, 1] || conv.groups != conv.out_channels()
            }
            _ => true,
        }
    }

    /// Whether it does to every column of a sequence (C, 1, L) the same, and to nothing else.
    fn columnwise(&self, columns: usize) -> bool {
        match self {
            Self::Convolution {
                conv,
                input: (_, 1, from),
                output: (_, 1, to),
            } => {
                *from == columns
                    && *to == columns
                    && conv.weight.shape()[2..] == [1, 1]
                    && conv.padding == nn::Padding::default()
            }
            Self::Diagonal { inner, .. } => *inner == columns || self.scalar().is_some(),
            Self::Centre { length, .. } => *length == columns,
            // whole channels
            Self::Select { index, stride } => {
                let mut rows = index.chunks(columns.max(1));
                *stride == Some((1, 1))
                    && rows.all(|row| {
                        let first = row[0] as usize;
                        let own = (0..row.len()).map(|t| narrow(first + t));
                        first.is_multiple_of(columns) && own.eq(row.iter().copied())
                    })
            }
            _ => false,
        }
    }

    /// Whether its result is a sequence unfolded.
    pub(crate) fn unfolds(&self) -> bool {
        matches!(self, Self::Unfold { .. } | Self::Repeat { .. })
    }

    /// Calls `entry(column, weight)` for every entry of row `r`.
    fn row(&self, r: usize, entry: &mut dyn FnMut(usize, f64)) {
        match self {
            Self::Diagonal { factors, inner, .. } => entry(r, factors[r / inner]),
            Self::Select { index, .. } => {
                if index[r] != u32::MAX {
                    entry(index[r] as usize, 1.0);
                }
            }
            Self::Rotary {
                rotary,
                length,
                tokens,
                ..
            } => {
                let (c, t) = (r / length % rotary.head, r % length);
                let t = tokens.map_or(t, |places| places.real(t));
                let (k, first) = match rotary.pairing {
                    _ if c >= rotary.rotated => return entry(r, 1.0),
                    Pairing::Adjacent => (c / 2, c % 2 == 0),
                    Pairing::Half => (c % (rotary.rotated / 2), c < rotary.rotated / 2),
                };
                let (a, b) = rotary.pair(k);
                let (sin, cos) = rotary.angle(k, t).sin_cos();
                entry(r, cos);
                if first {
                    entry(r + (b - a) * length, -sin);
                } else {
                    entry(r - (b - a) * length, sin);
                }
            }
            Self::Unfold { unfold, length, .. } => {
                let (c, d, t) = (
                    r / (unfold.rows * length),
                    r / length % unfold.rows,
                    r % length,
                );
                match unfold.boundary {
                    Boundary::Causal if t < d => {}
                    _ => entry(c * length + (t + length - d) % length, 1.0),
                }
            }
            Self::Repeat { rows, length, .. } => {
                entry(r / (rows * length) * length + r % length, 1.0);
            }
            Self::Centre { channels, length } => {
                for c in 0..*channels {
                    let at = c * length + r % length;
                    let own = f64::from(u8::from(at == r));
                    entry(at, own - 1.0 / *channels as f64);
                }
            }
            Self::Keys {
                keys,
                weight,
                head,
                length,
                ..
            } => {
                let at = r / (head * length) * length + r % length;
                for &i in keys.get(at).into_iter().flatten() {
                    entry(i as usize, *weight);
                }
            }
            Self::Dense { weight } => {
                let n = weight.shape()[1];
                for (c, &w) in weight.values()[r * n..(r + 1) * n].iter().enumerate() {
                    entry(c, f64::from(w));
                }
            }
            Self::Convolution {
                conv,
                input: (_, h, w),
                output: (outs, oh, ow),
            } => {
                let (o, i, j) = (r / (oh * ow), r / ow % oh, r % ow);
                let shape = conv.weight.shape();
                let (channels, kh, kw) = (shape[1], shape[2], shape[3]);
                let first = o / (outs / conv.groups) * channels;
                let values = conv.weight.values();
                for u in 0..kh {
                    let y =
                        (i * conv.stride.0 + u * conv.dilation.0).wrapping_sub(conv.padding.top);
                    if y >= *h {
                        continue;
                    }
                    for v in 0..kw {
                        let x = (j * conv.stride.1 + v * conv.dilation.1)
                            .wrapping_sub(conv.padding.left);
                        if x >= *w {
                            continue;
                        }
                        for c in 0..channels {
                            let weight = values[((o * channels + c) * kh + u) * kw + v];
                            entry(((first + c) * h + y) * w + x, f64::from(weight));
                        }
                    }
                }
            }
            Self::Pool {
                pool,
                input: (_, h, w),
                output: (_, oh, ow),
            } => {
                let (c, i, j) = (r / (oh * ow), r / ow % oh, r % ow);
                let rows = window(i, pool.stride.0, pool.padding.top, pool.kernel.0, *h);
                let columns = window(j, pool.stride.1, pool.padding.left, pool.kernel.1, *w);
                let count = if pool.count_include_pad {
                    pool.kernel.0 * pool.kernel.1
                } else {
                    rows.len() * columns.len()
                };
                for y in rows {
                    for x in columns.clone() {
                        entry((c * h + y) * w + x, 1.0 / count.max(1) as f64);
                    }
                }
            }
        }
    }

    /// The operator of a node that is linear in its only input, with its bias; None where it only renames positions.
    pub(crate) fn of(node: &PolyNode, input: Shape) -> Result<Option<(Self, Bias)>, Error> {
        let spread = |values: Vec<f64>, inner: usize| -> Vec<f64> {
            let runs = values.iter().map(|&v| std::iter::repeat_n(v, inner));
            runs.flatten().collect()
        };
        let pool = |pool: AvgPool| {
            Ok::<_, Error>(Self::Pool {
                pool,
                input: image(node, input)?,
                output: image(node, node.shape())?,
            })
        };
        let op = match node.op() {
            Op::Conv2d(c) => {
                let (input, output) = (image(node, input)?, image(node, node.shape())?);
                let bias = c.bias.as_ref();
                let bias = bias.map(|b| spread(b.to_f64(), output.1 * output.2));
                let conv = c.clone();
                let op = Self::Convolution {
                    conv,
                    input,
                    output,
                };
                return Ok(Some((op, bias)));
            }
            Op::Linear(l) => {
                let weight = l.weight.clone();
                let bias = l.bias.as_ref().map(nn::Parameter::to_f64);
                return Ok(Some((Self::Dense { weight }, bias)));
            }
            Op::BatchNorm(b) => {
                let inner = match input {
                    Shape::Image { height, width, .. } => height * width,
                    _ => 1,
                };
                let (factors, offsets) = b.factor_and_offset().into_iter().unzip();
                let op = Self::Diagonal {
                    factors,
                    inner,
                    rows: input.len(),
                };
                return Ok(Some((op, Some(spread(offsets, inner)))));
            }
            Op::AvgPool(p) => pool(*p)?,
            Op::GlobalAvgPool => {
                let (_, h, w) = image(node, input)?;
                pool(AvgPool {
                    kernel: (h, w),
                    stride: (h, w),
                    padding: nn::Padding::default(),
                    count_include_pad: true,
                })?
            }
            Op::Pad(p) => Self::padding(p, image(node, input)?, image(node, node.shape())?),
            Op::Slice(s) => Self::slice(node, s, input)?,
            Op::Rearrange(r) => {
                let mut index = Vec::with_capacity(node.shape().len());
                r.each(|from| index.push(from.map_or(u32::MAX, narrow)));
                let places = |shape: Shape| shape.as_image().map(|(_, h, w)| (h, w));
                let same = places(input) == places(r.shape);
                Self::Select {
                    index,
                    stride: same.then_some((1, 1)),
                }
            }
            Op::Rotary(r) => {
                let (channels, _, length) = image(node, input)?;
                Self::Rotary {
                    rotary: *r,
                    rows: channels * length,
                    length,
                    tokens: None,
                }
            }
            Op::Unfold(u) => {
                let (channels, _, length) = image(node, input)?;
                Self::Unfold {
                    unfold: *u,
                    channels,
                    length,
                }
            }
            Op::Repeat(r) => {
                let (channels, _, length) = image(node, input)?;
                Self::Repeat {
                    rows: r.rows,
                    channels,
                    length,
                }
            }
            Op::Flatten | Op::Reshape(_) | Op::Identity => return Ok(None),
            _ => {
                return Err(unsupported(
                    node,
                    "no packing is known for it".into(),
                    "replace it by convolutions, dense layers, pooling, sums, products and polynomials",
                ));
            }
        };
        Ok(Some((op, None)))
    }

    fn padding(p: &nn::Pad, (c, h, w): Image, (oc, oh, ow): Image) -> Self {
        let mut index = vec![u32::MAX; oc * oh * ow];
        for (k, y, x) in positions((c, h, w)) {
            let to = ((k + p.channels.0) * oh + y + p.spatial.top) * ow + x + p.spatial.left;
            index[to] = narrow((k * h + y) * w + x);
        }
        Self::Select {
            index,
            stride: Some((1, 1)),
        }
    }

    fn slice(node: &PolyNode, s: &nn::Slice, input: Shape) -> Result<Self, Error> {
        if let ([a], Shape::Vector(n)) = (&s.axes[..], node.shape()) {
            return Ok(Self::Select {
                index: (0..n).map(|i| narrow(a.begin + i * a.step)).collect(),
                stride: Some((1, 1)),
            });
        }
        let (_, h, w) = image(node, input)?;
        let [a, b, c] = s.axes[..] else {
            let reason = format!("{} axes", s.axes.len());
            return Err(unsupported(node, reason, "slice along 1 or 3 axes"));
        };
        let index = positions(image(node, node.shape())?).map(|(k, y, x)| {
            let row = (a.begin + k * a.step) * h + b.begin + y * b.step;
            narrow(row * w + c.begin + x * c.step)
        });
        Ok(Self::Select {
            index: index.collect(),
            stride: Some((b.step, c.step)),
        })
    }
}

pub(crate) fn unsupported(node: &PolyNode, reason: String, remedy: &'static str) -> Error {
    Error::Unsupported {
        layer: node.name().into(),
        operator: node.op().name().into(),
        reason,
        remedy,
    }
}

/// The sizes of a picture, which the node needs.
fn image(node: &PolyNode, shape: Shape) -> Result<Image, Error> {
    shape.as_image().ok_or_else(|| {
        let reason = format!("needs a picture, {shape} was given");
        unsupported(
            node,
            reason,
            "give it an input of shape (channels, height, width)",
        )
    })
}

fn positions((c, h, w): Image) -> impl Iterator<Item = Image> {
    (0..c * h * w).map(move |r| (r / (h * w), r / w % h, r % w))
}

/// Columns of the sequence, if the chains do to each of them the same: then what is known of the first is known of all.
pub(crate) fn columnwise<'a>(
    chains: impl Iterator<Item = &'a Chain>,
    from: Shape,
    to: Shape,
) -> Option<usize> {
    let (_, 1, columns) = from.as_image()? else {
        return None;
    };
    let same = to.as_image().is_some_and(|t| (t.1, t.2) == (1, columns));
    let mut ops = chains.flatten();
    (same && ops.all(|l| l.op.columnwise(columns))).then_some(columns)
}

/// Calls `entry(column, weight)` for row `r` of the composition; a column may come several times.
pub(crate) fn chain_row(
    chain: &[Arc<Link>],
    r: usize,
    weight: f64,
    entry: &mut dyn FnMut(usize, f64),
) {
    match chain.split_last() {
        None => entry(r, weight),
        Some((last, [])) => last.op.row(r, &mut |c, w| entry(c, weight * w)),
        Some((last, rest)) => last.op.row(r, &mut |c, w| {
            if w != 0.0 {
                chain_row(rest, c, weight * w, entry);
            }
        }),
    }
}

/// Whether the entries of a channel may differ between positions: where a window's mean leaves the edge out, or a second window is cut off there,
/// or factors are of positions.
pub(crate) fn varies(chain: &[Arc<Link>]) -> bool {
    let mut before = false;
    chain.iter().any(|link| {
        let (window, padded) = match &link.op {
            LinearOp::Convolution { conv, .. } => (
                conv.weight.shape()[2..] != [1, 1],
                conv.padding != nn::Padding::default(),
            ),
            LinearOp::Pool { pool, .. } if !pool.count_include_pad => return true,
            LinearOp::Pool { pool, .. } => (true, pool.padding != nn::Padding::default()),
            LinearOp::Diagonal { inner, .. } => (*inner == 1 && link.op.scalar().is_none(), false),
            LinearOp::Dense { .. } | LinearOp::Rotary { .. } | LinearOp::Keys { .. } => {
                return true;
            }
            LinearOp::Select { .. }
            | LinearOp::Unfold { .. }
            | LinearOp::Repeat { .. }
            | LinearOp::Centre { .. } => (false, false),
        };
        let cut = before && padded;
        before |= window;
        cut
    })
}

/// The product of strides along a chain; None where rows and columns become others.
pub(crate) fn chain_stride(chain: &[Arc<Link>]) -> Option<(usize, usize)> {
    let mut strides = chain.iter().map(|l| l.op.stride());
    strides.try_fold((1, 1), |a, b| b.map(|b| (a.0 * b.0, a.1 * b.1)))
}
