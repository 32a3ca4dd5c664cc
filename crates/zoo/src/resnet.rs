//! The ResNets for 32×32 pictures of He et al. 2016 (sec. 4.2): 3×3 stem, three stages of n basic blocks with 16, 32, 64 channels,
//! global mean, dense layer; 6n + 2 layers, so n = 3 is ResNet-20 and n = 18 ResNet-110.
//!
//! Names as in akamaster/pytorch_resnet_cifar10: `conv1`, `bn1`, `layerS.B.conv1`, …, `linear` (or `fc`), with or without `module.`;
//! the activations are called `act1` (stem), `layerS.B.act1` and `layerS.B.act2` (after the addition).
//! Numbers of blocks and channels are read off the weights. A block that changes the shape has shortcut A (every second row and
//! column, channels of zeros on both sides) unless the file holds `layerS.B.shortcut.{0,1}` or `.downsample.{0,1}` (1×1 convolution
//! and batch norm).

use approx::{Activation, Polynomial};
use nn::PolyGraph;
use nn::Shape;
use nn::format::state_dict::StateDict;
use nn::op::ElementFunction;
use nn::{AxisSlice, BatchNorm, Conv2d, Linear, Nonlinearity, Op, Pad, Padding, Slice};
use nn::{Error, Result};
use nn::{Graph, Network, NetworkBuilder, NodeId};

/// Torch's default for batch norms.
const EPSILON: f64 = 1e-5;
/// More blocks in one stage than any of the family has (ResNet-1202: 200).
const MAX_BLOCKS: usize = 256;

/// The network with these weights and this activation everywhere; the input is `(3, 32, 32)` or what the stem's weights take.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::NotFinite`], [`Error::Invalid`] when a shape doesn't fit.
pub fn from_state_dict(weights: &StateDict, activation: Activation) -> Result<Graph> {
    build(weights, &mut |_| Ok(Nonlinearity::Activation(activation)))
}

/// The polynomial network whose state dict holds, for each activation, `<name>.poly` (Chebyshev coefficients, `T_0` first) and
/// `<name>.interval` (two ends).
///
/// # Errors
/// As [`from_state_dict`], and [`Error::Approximation`] for unusable coefficients or ends, [`Error::Length`] unless there are two ends.
pub fn from_state_dict_with_polynomials(weights: &StateDict) -> Result<PolyGraph> {
    let network: Network<Polynomial> = build(weights, &mut |name| {
        let ends = weights.require(&format!("{name}.interval"))?;
        let &[low, high] = &ends.values[..] else {
            let had = ends.values.len();
            return Err(Error::Length {
                tensor: format!("{name}.interval"),
                shape: ends.shape.clone(),
                needed: 2,
                had,
            });
        };
        let coefficients = weights.require(&format!("{name}.poly"))?.values.clone();
        Polynomial::new(coefficients, (low, high)).map_err(|source| Error::Approximation {
            node: name.into(),
            source,
        })
    })?;
    Ok(network.into())
}

/// Number of layers (20, 32, 44, 56, 110 …) of the network that these weights belong to.
#[must_use]
pub fn depth(weights: &StateDict) -> usize {
    2 + (1..=3).map(|s| 2 * blocks(weights, s)).sum::<usize>()
}

fn blocks(weights: &StateDict, stage: usize) -> usize {
    (0..MAX_BLOCKS)
        .take_while(|b| {
            weights
                .find(&format!("layer{stage}.{b}.conv1.weight"))
                .is_some()
        })
        .count()
}

type Function<'f, N> = &'f mut dyn FnMut(&str) -> Result<N>;

fn build<N: ElementFunction>(weights: &StateDict, function: Function<'_, N>) -> Result<Network<N>> {
    let mut b = Builder {
        weights,
        function,
        network: Network::builder(),
    };
    let channels = weights
        .require("conv1.weight")?
        .shape
        .get(1)
        .copied()
        .unwrap_or(0);
    let x = b.network.input("input", Shape::image(channels, 32, 32))?;
    let x = b.conv("conv1", x, 1, 1)?;
    let x = b.batch_norm("bn1", x)?;
    let mut x = b.activation("act1", x)?;
    for stage in 1..=3 {
        // At least one block, so that a missing stage is named.
        for block in 0..blocks(weights, stage).max(1) {
            let stride = if stage > 1 && block == 0 { 2 } else { 1 };
            x = b.block(&format!("layer{stage}.{block}"), x, stride)?;
        }
    }
    let x = b.network.add("pool", Op::GlobalAvgPool, &[x])?;
    let x = b.network.add("flatten", Op::Flatten, &[x])?;
    let head = if weights.find("fc.weight").is_some() {
        "fc"
    } else {
        "linear"
    };
    let weight = weights.parameter(&format!("{head}.weight"))?;
    let bias = Some(weights.parameter(&format!("{head}.bias"))?);
    let x = b
        .network
        .add(head, Op::Linear(Linear { weight, bias }), &[x])?;
    b.network.finish(x)
}

struct Builder<'a, N> {
    weights: &'a StateDict,
    function: Function<'a, N>,
    network: NetworkBuilder<N>,
}

impl<N: ElementFunction> Builder<'_, N> {
    fn conv(&mut self, name: &str, x: NodeId, stride: usize, padding: usize) -> Result<NodeId> {
        let bias = format!("{name}.bias");
        let conv = Conv2d {
            bias: self
                .weights
                .find(&bias)
                .map(|_| self.weights.parameter(&bias))
                .transpose()?,
            stride: (stride, stride),
            padding: Padding::same(padding),
            ..Conv2d::new(self.weights.parameter(&format!("{name}.weight"))?)
        };
        self.network.add(name, Op::Conv2d(conv), &[x])
    }

    fn batch_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let p = |part: &str| self.weights.parameter(&format!("{name}.{part}"));
        let norm = BatchNorm {
            scale: p("weight")?,
            bias: p("bias")?,
            mean: p("running_mean")?,
            variance: p("running_var")?,
            epsilon: EPSILON,
        };
        self.network.add(name, Op::BatchNorm(norm), &[x])
    }

    fn activation(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let f = (self.function)(name)?;
        self.network.add(name, Op::Elementwise(f), &[x])
    }

    fn block(&mut self, name: &str, x: NodeId, stride: usize) -> Result<NodeId> {
        let y = self.conv(&format!("{name}.conv1"), x, stride, 1)?;
        let y = self.batch_norm(&format!("{name}.bn1"), y)?;
        let y = self.activation(&format!("{name}.act1"), y)?;
        let y = self.conv(&format!("{name}.conv2"), y, 1, 1)?;
        let y = self.batch_norm(&format!("{name}.bn2"), y)?;
        let shortcut = self.shortcut(name, x, y, stride)?;
        let y = self
            .network
            .add(format!("{name}.add"), Op::Add, &[y, shortcut])?;
        self.activation(&format!("{name}.act2"), y)
    }

    fn shortcut(&mut self, name: &str, x: NodeId, y: NodeId, stride: usize) -> Result<NodeId> {
        for kind in ["shortcut", "downsample"] {
            if self
                .weights
                .find(&format!("{name}.{kind}.0.weight"))
                .is_some()
            {
                let z = self.conv(&format!("{name}.{kind}.0"), x, stride, 0)?;
                return self.batch_norm(&format!("{name}.{kind}.1"), z);
            }
        }
        if self.network.shape(x) == self.network.shape(y) {
            return Ok(x);
        }
        let (
            Shape::Image {
                channels: from,
                height,
                width,
            },
            Shape::Image { channels: to, .. },
        ) = (self.network.shape(x), self.network.shape(y))
        else {
            return Ok(x);
        };
        let every = |length| AxisSlice {
            begin: 0,
            end: length,
            step: stride,
        };
        let all = AxisSlice {
            begin: 0,
            end: from,
            step: 1,
        };
        let slice = Slice {
            axes: vec![all, every(height), every(width)],
        };
        let z = self
            .network
            .add(format!("{name}.shortcut.slice"), Op::Slice(slice), &[x])?;
        let before = to.saturating_sub(from) / 2;
        let pad = Pad {
            channels: (before, to.saturating_sub(from) - before),
            spatial: Padding::default(),
        };
        self.network
            .add(format!("{name}.shortcut.pad"), Op::Pad(pad), &[z])
    }
}
