//! The ResNets for small pictures of He et al. 2016 (sec. 4.2): 3×3 stem, three stages of n basic blocks with `width`, 2·`width` and 4·`width`
//! channels, global mean, dense layer; 6n + 2 layers, so n = 3 is ResNet-20 and n = 18 ResNet-110. From a state dict, or with new weights
//! and other skip connections, to be trained; and a smaller network for first steps and tests.
//!
//! Names as in akamaster/pytorch_resnet_cifar10: `conv1`, `bn1`, `layerS.B.conv1`, …, `linear` (or `fc`), with or without `module.`;
//! the activations are called `act1` (stem), `layerS.B.act1` and `layerS.B.act2` (after the addition).
//! Numbers of blocks and channels are read off the weights. A block that changes the shape has shortcut A (every second row and
//! column, channels of zeros on both sides) unless the file holds `layerS.B.shortcut.{0,1}` or `.downsample.{0,1}` (1×1 convolution
//! and batch norm).
//!
//! New weights depend on the seed, the node's name and the weight's position only: networks that differ in their skip connections begin
//! with the same convolutions, on every machine.

use crate::family::{Claim, Family, Model, Options, nothing};
use crate::random::uniform;
use approx::{Activation, Polynomial};
use nn::format::Checkpoint;
use nn::format::state_dict::StateDict;
use nn::op::ElementFunction;
use nn::{
    BatchNorm, Conv2d, Error, Graph, Linear, Metadata, Network, NetworkBuilder, NodeId,
    Nonlinearity, Op, Pad, Padding, Parameter, PolyGraph, Result, Shape, Slice,
};
use serde::{Deserialize, Serialize};
use task::{Normalization, Outputs, Pictures, Task};

/// Torch's default for batch norms.
pub const EPSILON: f64 = 1e-5;
/// More blocks in one stage than any of the family has (ResNet-1202: 200).
const MAX_BLOCKS: usize = 256;

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "ResNet for small pictures",
    read: claim,
    leaves: Some(nothing),
};

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let weights = &checkpoint.tensors;
    for needed in ["conv1.weight", "layer1.0.conv1.weight"] {
        if weights.find(needed).is_none() {
            return Ok(Claim::Declined(format!("it has no tensor {needed}")));
        }
    }
    if weights.find("layer4.0.conv1.weight").is_some() {
        return Ok(Claim::Declined("it has a fourth stage, layer4".into()));
    }
    let holds_polynomials = weights.tensors().keys().any(|k| k.ends_with(".poly"));
    Ok(Claim::Model(Box::new(if holds_polynomials {
        let graph = from_state_dict_with_polynomials(weights)?;
        let metadata = metadata(graph.input_shape());
        Model::Polynomial(Box::new(graph.with_metadata(metadata)))
    } else {
        let graph = from_state_dict(weights, options.activation(FAMILY.name)?)?;
        let metadata = metadata(graph.input().shape());
        Model::Trained(graph, metadata)
    })))
}

/// Of published weights for pictures of this shape; one that is no picture's has no task.
pub(crate) fn metadata(input: Shape) -> Metadata {
    let outputs = Outputs::Classes(Vec::new());
    let pictures = Pictures::new(input, Normalization::imagenet(), outputs);
    Metadata {
        task: pictures.ok().map(|p| Task::Pictures(p).to_bytes()),
        ..Metadata::default()
    }
}

/// What carries a value past the convolutions of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// Every block of two convolutions adds its input (He et al. 2016): shortcut A, every second row and column and channels of zeros
    /// where the shape changes.
    #[default]
    Standard,
    /// Nothing.
    None,
    /// Nothing in the graph; convolutions are to be parameterised by Dirac's (the trainer's `Parameterization::Dirac`), which folds a
    /// skip connection into their weights.
    Dirac,
    /// Long connections that share one source, the first activation: before the last activation of each stage it is added, every second
    /// (third stage: fourth) row and column and channels of zeros where the shape changes. To be trained with
    /// the trainer's `Parameterization::Dirac`, which stands for the short connections.
    ///
    /// Drucker and Zimerman (arXiv 2306.06736) replace the connections of blocks by Dirac's parameterisation and long connections of a
    /// shared source. What costs under encryption is not the sum but that both operands must meet at one level: with one
    /// source, one ciphertext is kept, and what it needs to be lowered or bootstrapped is done once. Which value is the source and
    /// where it is added is our choice: the first activation is the only value at full size that all stages come after, and rows,
    /// columns and channels are selected, not averaged, since a selection is what the packing after a stride holds already.
    LongShared,
}

impl Skip {
    /// Whether convolutions are to be parameterised by Dirac's.
    #[must_use]
    pub fn dirac(self) -> bool {
        matches!(self, Self::Dirac | Self::LongShared)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(name.into()).ok()
    }

    /// All names, for messages.
    pub const NAMES: &str = "standard, none, dirac, long-shared";
}

/// The residual network of He et al. 2016, sec. 4.2: a 3×3 convolution, three stages of n blocks with `width`, 2·`width` and
/// 4·`width` channels, the second and third at half and a quarter of the size, global mean, dense layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNet {
    /// 6n + 2: 20, 32, 44, 56, …
    pub depth: usize,
    /// Channels of the first stage; 16 in the paper.
    pub width: usize,
    /// Outputs.
    pub classes: usize,
    /// Height, width and channels of pictures.
    pub input: (usize, usize, usize),
    /// Everywhere.
    pub activation: Activation,
    /// What carries values past convolutions.
    pub skip: Skip,
}

impl ResNet {
    /// The network with new weights.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another depth than 6n + 2 and for sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let blocks = self.depth.saturating_sub(2) / 6;
        if !(1..=200).contains(&blocks) || self.depth != 6 * blocks + 2 {
            return Err(impossible(format!(
                "depth {}: a residual network has 6n + 2 layers: 8, 14, 20, 32, 44, 56, 110",
                self.depth
            )));
        }
        check(self.width, self.classes, self.input)?;
        let mut function = |_: &str| Ok(Nonlinearity::from(self.activation));
        let (height, width, channels) = self.input;
        Builder::new(Weights::New(seed), &mut function).resnet(
            Shape::image(channels, height, width),
            self.width,
            [blocks; 3],
            self.skip,
            self.classes,
        )
    }
}

/// Three 3×3 convolutions of stride 2 with `width`, 2·`width` and 4·`width` channels, each with a batch normalisation and an activation,
/// global mean, dense layer: for small pictures, first steps and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    /// Channels of the first convolution; 16 is a good number.
    pub width: usize,
    /// Outputs.
    pub classes: usize,
    /// Height, width and channels of pictures.
    pub input: (usize, usize, usize),
    /// Everywhere.
    pub activation: Activation,
}

impl Small {
    /// The network with new weights.
    ///
    /// # Errors
    /// [`Error::Malformed`] for sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        check(self.width, self.classes, self.input)?;
        let mut function = |_: &str| Ok(Nonlinearity::from(self.activation));
        let mut b = Builder::new(Weights::New(seed), &mut function);
        let (height, width, channels) = self.input;
        let mut x = b
            .network
            .input("input", Shape::image(channels, height, width))?;
        for i in 1..=3usize {
            let (conv, norm) = (format!("conv{i}"), format!("bn{i}"));
            x = b.convolution(&conv, &norm, x, (self.width << (i - 1), 3), 2)?;
            x = b.activation(&format!("act{i}"), x)?;
        }
        b.head(x, self.classes)
    }
}

/// The network with these weights and this activation everywhere; the input is `(3, 32, 32)` or what the stem's weights take.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::NotFinite`], [`Error::Invalid`] when a shape doesn't fit.
pub fn from_state_dict(weights: &StateDict, activation: Activation) -> Result<Graph> {
    read(weights, &mut |_| Ok(Nonlinearity::Activation(activation)))
}

/// The polynomial network whose state dict holds, for each activation, `<name>.poly` (Chebyshev coefficients, `T_0` first) and
/// `<name>.interval` (two ends).
///
/// # Errors
/// As [`from_state_dict`], and [`Error::Approximation`] for unusable coefficients or ends, [`Error::Length`] unless there are two ends.
pub fn from_state_dict_with_polynomials(weights: &StateDict) -> Result<PolyGraph> {
    let network: Network<Polynomial> = read(weights, &mut |name| {
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
        Polynomial::new(coefficients, (low, high)).map_err(Error::approximation(name))
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

fn impossible(detail: String) -> Error {
    Error::malformed("network", detail)
}

/// Far above every network that a processor trains, and small enough that no product overflows.
fn check(width: usize, classes: usize, (h, w, c): (usize, usize, usize)) -> Result<()> {
    for (name, value, most) in [
        ("width", width, 1 << 10),
        ("number of classes", classes, 1 << 16),
        ("the pictures' height", h, 1 << 12),
        ("the pictures' width", w, 1 << 12),
        ("number of the pictures' channels", c, 1 << 10),
    ] {
        if !(1..=most).contains(&value) {
            return Err(impossible(format!("{name} {value}: from 1 to {most}")));
        }
    }
    Ok(())
}

fn read<N: ElementFunction>(weights: &StateDict, function: Function<'_, N>) -> Result<Network<N>> {
    let shape = &weights.require("conv1.weight")?.shape;
    let (width, channels) = (
        shape.first().copied().unwrap_or(0),
        shape.get(1).copied().unwrap_or(0),
    );
    // At least one block, so that a missing stage is named.
    let stages = [1, 2, 3].map(|stage| blocks(weights, stage).max(1));
    Builder::new(Weights::File(weights), function).resnet(
        Shape::image(channels, 32, 32),
        width,
        stages,
        Skip::Standard,
        0,
    )
}

pub(crate) type Function<'f, N> = &'f mut dyn FnMut(&str) -> Result<N>;

/// Where weights come from.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// What the file has, whatever its shape: construction of the graph checks it.
    File(&'a StateDict),
    /// New ones, of the shape that is asked for.
    New(u64),
    /// Zeros: for what depends on shapes alone.
    Zeros,
}

impl Weights<'_> {
    fn has(self, name: &str) -> bool {
        matches!(self, Self::File(weights) if weights.find(name).is_some())
    }

    /// He et al. 2015: uniform in ±√(6/fan-in), of variance 2/fan-in. Uniform, since it needs nothing but a square root, which all machines
    /// round alike.
    fn matrix(self, name: &str, shape: &[usize]) -> Result<Parameter> {
        match self {
            Self::File(weights) => weights.parameter(name),
            Self::New(seed) => {
                let inputs: usize = shape[1..].iter().product();
                let bound = (6.0 / inputs as f64).sqrt();
                let values = uniform(seed, name, shape.iter().product(), bound);
                Parameter::new(name, shape, values)
            }
            Self::Zeros => Parameter::new(name, shape, vec![0.0; shape.iter().product()]),
        }
    }

    fn batch_norm(self, name: &str, channels: usize) -> Result<BatchNorm> {
        let Self::File(weights) = self else {
            return BatchNorm::identity(name, channels, 1.0, EPSILON);
        };
        let part = |part: &str| weights.parameter(&format!("{name}.{part}"));
        Ok(BatchNorm {
            scale: part("weight")?,
            bias: part("bias")?,
            mean: part("running_mean")?,
            variance: part("running_var")?,
            epsilon: EPSILON,
        })
    }
}

pub(crate) struct Builder<'a, N> {
    weights: Weights<'a>,
    function: Function<'a, N>,
    pub(crate) network: NetworkBuilder<N>,
}

impl<'a, N: ElementFunction> Builder<'a, N> {
    pub(crate) fn new(weights: Weights<'a>, function: Function<'a, N>) -> Self {
        Self {
            weights,
            function,
            network: Network::builder(),
        }
    }

    fn resnet(
        mut self,
        input: Shape,
        width: usize,
        stages: [usize; 3],
        skip: Skip,
        classes: usize,
    ) -> Result<Network<N>> {
        let x = self.network.input("input", input)?;
        let x = self.convolution("conv1", "bn1", x, (width, 3), 1)?;
        let first = self.activation("act1", x)?;
        let mut x = first;
        for (stage, blocks) in (1..).zip(stages) {
            let channels = width << (stage - 1);
            for block in 0..blocks {
                let name = format!("layer{stage}.{block}");
                let part = |p: &str| format!("{name}.{p}");
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let y = self.convolution(&part("conv1"), &part("bn1"), x, (channels, 3), stride)?;
                let y = self.activation(&part("act1"), y)?;
                let mut y = self.convolution(&part("conv2"), &part("bn2"), y, (channels, 3), 1)?;
                match skip {
                    Skip::Standard => {
                        let z = self.projected(&name, x, channels, stride)?;
                        y = self.add(&part("add"), &part("shortcut"), y, z)?;
                    }
                    Skip::LongShared if block + 1 == blocks => {
                        let long = format!("layer{stage}.long");
                        y = self.add(&format!("{long}.add"), &long, y, first)?;
                    }
                    _ => {}
                }
                x = self.activation(&part("act2"), y)?;
            }
        }
        self.head(x, classes)
    }

    fn dims(&self, x: NodeId) -> (usize, usize, usize) {
        match self.network.shape(x).dims()[..] {
            [c, h, w] => (c, h, w),
            _ => (self.network.shape(x).len(), 1, 1),
        }
    }

    /// A convolution with the batch normalisation behind it; its kernel is 3×3 with padding, or 1×1.
    pub(crate) fn convolution(
        &mut self,
        name: &str,
        norm: &str,
        x: NodeId,
        (channels, kernel): (usize, usize),
        stride: usize,
    ) -> Result<NodeId> {
        self.grouped(name, norm, x, (channels, kernel, 1), stride)
    }

    /// The same in groups of channels.
    pub(crate) fn grouped(
        &mut self,
        name: &str,
        norm: &str,
        x: NodeId,
        (channels, kernel, groups): (usize, usize, usize),
        stride: usize,
    ) -> Result<NodeId> {
        let y = self.plain(name, x, (channels, kernel, groups), stride)?;
        let norm_of = self.weights.batch_norm(norm, channels)?;
        self.network.add(norm, Op::BatchNorm(norm_of), &[y])
    }

    /// Whether weights come from a file that has this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }

    /// Whether weights come from a file.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.weights, Weights::File(_))
    }

    /// The groups of a file's convolution of this name; 1 of new ones.
    pub(crate) fn groups(&self, name: &str, x: NodeId) -> usize {
        let Weights::File(weights) = self.weights else {
            return 1;
        };
        let of = weights.find(&format!("{name}.weight"));
        let each = of.and_then(|t| t.shape.get(1).copied()).unwrap_or(0);
        (self.dims(x).0.checked_div(each)).map_or(1, |g| g.max(1))
    }

    /// A convolution in groups of channels, with a bias where the file has one, and nothing behind it.
    pub(crate) fn plain(
        &mut self,
        name: &str,
        x: NodeId,
        (channels, kernel, groups): (usize, usize, usize),
        stride: usize,
    ) -> Result<NodeId> {
        let bias = format!("{name}.bias");
        let bias = match self.weights {
            Weights::File(w) if self.weights.has(&bias) => Some(w.parameter(&bias)?),
            _ => None,
        };
        self.convolve(name, x, (channels, kernel, groups), stride, bias)
    }

    /// A convolution that no batch normalisation follows, with its bias.
    pub(crate) fn biased(
        &mut self,
        name: &str,
        x: NodeId,
        (channels, kernel): (usize, usize),
    ) -> Result<NodeId> {
        let bias = self.bias(name, channels)?;
        self.convolve(name, x, (channels, kernel, 1), 1, Some(bias))
    }

    fn bias(&self, name: &str, channels: usize) -> Result<Parameter> {
        let name = format!("{name}.bias");
        match self.weights {
            Weights::File(w) => w.parameter(&name),
            _ => Parameter::new(&name, [channels], vec![0.0; channels]),
        }
    }

    fn convolve(
        &mut self,
        name: &str,
        x: NodeId,
        (channels, kernel, groups): (usize, usize, usize),
        stride: usize,
        bias: Option<Parameter>,
    ) -> Result<NodeId> {
        let (from, _, _) = self.dims(x);
        let shape = [channels, from / groups.max(1), kernel, kernel];
        let weight = self.weights.matrix(&format!("{name}.weight"), &shape)?;
        let conv = Conv2d {
            bias,
            stride: (stride, stride),
            padding: Padding::same(kernel / 2),
            groups,
            ..Conv2d::new(weight)
        };
        self.network.add(name, Op::Conv2d(conv), &[x])
    }

    pub(crate) fn activation(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let f = (self.function)(name)?;
        self.network.add(name, Op::Elementwise(f), &[x])
    }

    /// Through the 1×1 convolution that the file has beside a block; `x` itself where it has none.
    fn projected(
        &mut self,
        block: &str,
        x: NodeId,
        channels: usize,
        stride: usize,
    ) -> Result<NodeId> {
        for kind in ["shortcut", "downsample"] {
            let conv = format!("{block}.{kind}.0");
            if self.weights.has(&format!("{conv}.weight")) {
                let norm = format!("{block}.{kind}.1");
                return self.convolution(&conv, &norm, x, (channels, 1), stride);
            }
        }
        Ok(x)
    }

    /// `y` plus `x`, which loses rows and columns and gets channels of zeros on both sides where `y`'s shape needs it.
    fn add(&mut self, name: &str, shortcut: &str, y: NodeId, x: NodeId) -> Result<NodeId> {
        let ((from, h, w), (to, oh, _)) = (self.dims(x), self.dims(y));
        let mut z = x;
        if (from, h) != (to, oh) {
            // Strides halve sizes and round up.
            let step = (1..=h).find(|s| h.div_ceil(*s) <= oh).unwrap_or(1);
            let axes = [[0, from, 1], [0, h, step], [0, w, step]];
            let axes = axes.map(Into::into).into();
            let slice = Op::Slice(Slice { axes });
            z = self.network.add(format!("{shortcut}.slice"), slice, &[z])?;
            let zeros = to.saturating_sub(from);
            let pad = Op::Pad(Pad {
                channels: (zeros / 2, zeros - zeros / 2),
                spatial: Padding::default(),
            });
            z = self.network.add(format!("{shortcut}.pad"), pad, &[z])?;
        }
        self.network.add(name, Op::Add, &[y, z])
    }

    pub(crate) fn head(mut self, x: NodeId, classes: usize) -> Result<Network<N>> {
        let x = self.network.add("pool", Op::GlobalAvgPool, &[x])?;
        let x = self.network.add("flatten", Op::Flatten, &[x])?;
        let names = ["fc", "classifier.1"];
        let there = |n: &&str| self.weights.has(&format!("{n}.weight"));
        let name = names.into_iter().find(there).unwrap_or("linear");
        let x = self.dense(name, x, classes)?;
        self.network.finish(x)
    }

    /// The weight of a linear layer on every place as a 1×1 convolution's, and its bias.
    pub(crate) fn pointwise(
        &self,
        name: &str,
        [to, from]: [usize; 2],
    ) -> Result<(Parameter, Parameter)> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let matrix = self.weights.matrix(&weight, &[to, from])?;
        if matrix.shape() != [to, from] {
            return Err(Error::shape(&weight, &[to, from], matrix.shape()));
        }
        let bias = match self.weights {
            Weights::File(w) => w.parameter(&bias)?,
            _ => Parameter::new(&bias, [to], vec![0.0; to])?,
        };
        Ok((matrix.reshaped(&weight, &[to, from, 1, 1])?, bias))
    }

    /// A dense layer with its bias.
    pub(crate) fn dense(&mut self, name: &str, x: NodeId, classes: usize) -> Result<NodeId> {
        let channels = self.network.shape(x).len();
        let linear = Linear {
            weight: self
                .weights
                .matrix(&format!("{name}.weight"), &[classes, channels])?,
            bias: Some(self.bias(name, classes)?),
        };
        self.network.add(name, Op::Linear(linear), &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::format::state_dict::{StateDict, StateTensor};
    use std::collections::BTreeMap;

    fn resnet(depth: usize, skip: Skip) -> ResNet {
        ResNet {
            depth,
            width: 16,
            classes: 10,
            input: (32, 32, 3),
            activation: Activation::Silu,
            skip,
        }
    }

    /// The tensors of a torch module with these layers.
    fn state_dict(graph: &Graph) -> BTreeMap<String, StateTensor> {
        let mut all = BTreeMap::new();
        for node in graph.nodes() {
            let mut keep = |part: &str, p: &Parameter| {
                let tensor = StateTensor {
                    shape: p.shape().to_vec(),
                    values: p.to_f64(),
                };
                all.insert(format!("{}.{part}", node.name()), tensor);
            };
            match node.op() {
                Op::Conv2d(c) => keep("weight", &c.weight),
                Op::BatchNorm(b) => {
                    keep("weight", &b.scale);
                    keep("bias", &b.bias);
                    keep("running_mean", &b.mean);
                    keep("running_var", &b.variance);
                }
                Op::Linear(l) => {
                    keep("weight", &l.weight);
                    keep("bias", l.bias.as_ref().expect("has one"));
                }
                _ => {}
            }
        }
        all
    }

    /// What training changes.
    fn parameters(graph: &Graph) -> usize {
        let running = |name: &str| name.contains(".running_");
        let tensors = state_dict(graph);
        let trained = tensors.iter().filter(|(n, _)| !running(n));
        trained.map(|(_, t)| t.values.len()).sum()
    }

    #[test]
    fn residual_networks_have_the_published_sizes() {
        // 0.27, 0.46, 0.66, 0.85, 1.7 million in He et al. 2016, table 6
        for (depth, count) in [
            (20, 269_722),
            (32, 464_154),
            (44, 658_586),
            (56, 853_018),
            (110, 1_727_962),
        ] {
            for skip in [Skip::Standard, Skip::None, Skip::Dirac, Skip::LongShared] {
                let graph = resnet(depth, skip).graph(1).expect("builds");
                assert_eq!(parameters(&graph), count, "{depth} {skip:?}");
                assert_eq!(graph.activations().count(), depth - 1);
                assert_eq!(graph.output().shape(), Shape::Vector(10));
                let sums = graph
                    .nodes()
                    .iter()
                    .filter(|n| matches!(n.op(), Op::Add))
                    .count();
                let expected = match skip {
                    Skip::Standard => (depth - 2) / 2,
                    Skip::LongShared => 3,
                    _ => 0,
                };
                assert_eq!(sums, expected, "{depth} {skip:?}");
            }
        }
    }

    #[test]
    fn other_pictures_and_widths() {
        for (input, last) in [((28, 28, 1), (7, 7)), ((33, 30, 2), (9, 8))] {
            for skip in [Skip::Standard, Skip::LongShared] {
                let net = ResNet {
                    depth: 14,
                    width: 8,
                    classes: 2,
                    input,
                    activation: Activation::Relu,
                    skip,
                };
                let graph = net.graph(7).expect("builds");
                let shape = graph.find("layer3.1.act2").expect("there").shape();
                assert_eq!(shape, Shape::image(32, last.0, last.1));
                assert_eq!(graph.output().shape(), Shape::Vector(2));
            }
        }
        let small = Small {
            width: 16,
            classes: 10,
            input: (28, 28, 1),
            activation: Activation::Gelu,
        };
        let graph = small.graph(1).expect("builds");
        assert_eq!(
            graph.find("act3").expect("there").shape(),
            Shape::image(64, 4, 4)
        );
        assert_eq!(
            parameters(&graph),
            9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 650
        );
    }

    #[test]
    fn long_connections_share_their_source() {
        let graph = resnet(20, Skip::LongShared).graph(1).expect("builds");
        let x: Vec<f64> = (0..3072).map(|i| (i as f64 * 0.37).sin()).collect();
        let x = nn::Tensor::new(Shape::image(3, 32, 32), x).expect("fits");
        let trace = graph.evaluate_all(&x).expect("fits");
        let value = |name: &str| trace.values[graph.find(name).expect(name).id().index()].values();
        let first = value("act1");
        for (stage, size, step, channels) in [(1, 32, 1, 16), (2, 16, 2, 32), (3, 8, 4, 64)] {
            let (sum, branch) = (
                value(&format!("layer{stage}.long.add")),
                value(&format!("layer{stage}.2.bn2")),
            );
            let before = (channels - 16) / 2;
            for c in 0..channels {
                for (i, j) in [(0, 0), (1, 3), (size - 1, size - 2)] {
                    let at = (c * size + i) * size + j;
                    let source = if (before..before + 16).contains(&c) {
                        first[((c - before) * 32 + i * step) * 32 + j * step]
                    } else {
                        0.0
                    };
                    assert_eq!(sum[at], branch[at] + source, "stage {stage}, channel {c}");
                }
            }
        }
        let source = graph.find("act1").expect("there").id();
        // conv1 of the first block, and the three long connections
        assert_eq!(graph.consumers()[source.index()].len(), 4);
    }

    #[test]
    fn weights_follow_seed_name_and_position_only() {
        let standard = resnet(20, Skip::Standard);
        assert_eq!(
            standard.graph(5).expect("builds"),
            standard.graph(5).expect("builds")
        );
        let (a, b) = (
            state_dict(&standard.graph(5).expect("builds")),
            state_dict(&standard.graph(6).expect("builds")),
        );
        let plain = state_dict(&resnet(20, Skip::None).graph(5).expect("builds"));
        assert_eq!(a, plain);
        let mut seen = Vec::new();
        for (name, t) in a
            .iter()
            .filter(|(n, _)| n.contains("conv") || n.as_str() == "linear.weight")
        {
            assert_ne!(t.values, b[name].values, "{name}");
            assert!(!seen.contains(&t.values[0].to_bits()), "{name}");
            seen.push(t.values[0].to_bits());
            let inputs: usize = t.shape[1..].iter().product();
            let count = t.values.len() as f64;
            let mean = t.values.iter().sum::<f64>() / count;
            let variance = t.values.iter().map(|v| v * v).sum::<f64>() / count;
            let wanted = 2.0 / inputs as f64;
            // five standard deviations of the estimates; a uniform variable's square varies by √0.8 of its mean
            assert!(
                mean.abs() < 5.0 * (wanted / count).sqrt(),
                "{name}: mean {mean}"
            );
            assert!(
                (variance / wanted - 1.0).abs() < 5.0 * (0.8 / count).sqrt(),
                "{name}: variance {variance}"
            );
        }
        // the same words on every machine
        let first: Vec<u32> = Weights::New(1)
            .matrix("conv1.weight", &[1, 3, 1, 1])
            .expect("finite")
            .values()
            .iter()
            .map(|v| v.to_bits())
            .collect();
        assert_eq!(first, [1_051_037_256, 3_216_029_034, 3_212_732_044]);
    }

    #[test]
    fn state_dicts_are_those_of_the_published_family() {
        let graph = resnet(20, Skip::Standard).graph(3).expect("builds");
        let dict = StateDict::new(state_dict(&graph));
        assert_eq!(super::depth(&dict), 20);
        assert_eq!(
            super::from_state_dict(&dict, Activation::Silu).expect("reads"),
            graph
        );
    }

    #[test]
    fn impossible_networks_are_refused() {
        let refused = |net: ResNet, word: &str| {
            let e = net.graph(1).expect_err("refused");
            assert!(
                matches!(e, Error::Malformed { .. }) && e.to_string().contains(word),
                "{e}"
            );
        };
        for depth in [0, 2, 18, 21] {
            refused(resnet(depth, Skip::Standard), "6n + 2");
        }
        let net = resnet(20, Skip::Standard);
        refused(
            ResNet {
                width: 0,
                ..net.clone()
            },
            "width",
        );
        refused(
            ResNet {
                classes: 0,
                ..net.clone()
            },
            "classes",
        );
        refused(
            ResNet {
                input: (0, 32, 3),
                ..net.clone()
            },
            "height",
        );
        refused(
            ResNet {
                input: (32, 32, 1 << 20),
                ..net
            },
            "channels",
        );
        for (name, skip) in [
            ("standard", Skip::Standard),
            ("none", Skip::None),
            ("dirac", Skip::Dirac),
            ("long-shared", Skip::LongShared),
        ] {
            assert_eq!(Skip::named(name), Some(skip));
            assert!(Skip::NAMES.contains(name));
            assert_eq!(serde_json::to_value(skip).expect("JSON"), name);
        }
        assert_eq!(Skip::named("long"), None);
    }
}
