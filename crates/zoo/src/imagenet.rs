//! Networks for large pictures as torchvision builds them, with new weights or those of a state dict (ResNet, Wide-ResNet and ResNeXt, MobileNetV2,
//! VGG; timm's ResNets have the same names): the residual networks of He et al. 2016 (table 1), a 7×7 stem of stride 2, a
//! mean over 3×3 places of stride 2 where the paper has a maximum (state dicts keep it), four stages of basic or bottleneck blocks with projections on the
//! shortcut where shapes change (v1.5: the stride is the 3×3 convolution's); and MobileNetV2 of Sandler et al. 2018 (table 2), inverted bottlenecks whose
//! narrow ends have no activation. Global mean and dense layer at the end.

use crate::family::{Claim, Family, Model, Options, nothing};
use crate::resnet::{Builder, Weights, metadata};
use approx::{Activation, Polynomial};
use nn::format::Checkpoint;
use nn::format::state_dict::StateDict;
use nn::op::ElementFunction;
use nn::{
    AvgPool, Error, Graph, MaxPool, Network, NodeId, Nonlinearity, Op, Padding, PolyGraph, Range,
    Result, Shape,
};

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "torchvision's networks for pictures of 224×224",
    read: claim,
    leaves: Some(nothing),
};

/// Height and width of the pictures that published weights were trained on.
const SIZE: usize = 224;
/// Channels of these pictures.
const CHANNELS: usize = 3;
/// Most blocks of a stage, and layers of a chain.
const MOST: usize = 256;

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let weights = &checkpoint.tensors;
    let has = |name: &str| weights.find(name).is_some();
    let body = if has("conv1.weight") && has("layer4.0.conv1.weight") {
        let blocks = [1, 2, 3, 4].map(|stage| {
            let there = |k: &usize| has(&format!("layer{stage}.{k}.conv1.weight"));
            (0..MOST).take_while(there).count()
        });
        match has("layer1.0.conv3.weight") {
            true => Body::Bottleneck(blocks, 1),
            false => Body::Basic(blocks),
        }
    } else if has("features.18.0.weight") && has("classifier.1.weight") {
        Body::Inverted
    } else if has("features.0.weight") && has("classifier.6.weight") {
        chain(weights)
    } else {
        return Ok(Claim::Declined(
            "it has neither layer4.0.conv1.weight (ResNet) nor features.18.0.weight (MobileNetV2) nor classifier.6.weight (VGG)".into(),
        ));
    };
    let first = ["conv1.weight", "features.0.0.weight", "features.0.weight"];
    let first = first.iter().find_map(|name| weights.find(name));
    if let Some(&[_, channels, ..]) = first.map(|t| &t.shape[..])
        && channels != CHANNELS
    {
        return Err(Error::malformed(
            FAMILY.name,
            format!(
                "its first convolution takes pictures of {channels} channels, those of {CHANNELS} are read by their tensors' names; export the network as ONNX, which goes with any number: torch.onnx.export(model, (input,), \"net.onnx\")"
            ),
        ));
    }
    let network = ImageNet {
        body,
        size: SIZE,
        classes: 0,
        // of weights alone nobody knows it: torchvision's are relu, MobileNetV2's relu6
        activation: options.activation(FAMILY.name)?,
    };
    let mut function = |_: &str| Ok(Nonlinearity::from(network.activation));
    let graph = network.build(Builder::new(Weights::File(weights), &mut function))?;
    let metadata = metadata(graph.input().shape());
    Ok(Claim::Model(Box::new(Model::Trained(graph, metadata))))
}

/// VGG of a file: which of its layers are there.
fn chain(weights: &StateDict) -> Body {
    let has = |at: usize| weights.find(&format!("features.{at}.weight")).is_some();
    let normalised = weights.find("features.1.running_mean").is_some();
    let (mut layers, mut at) = (Vec::new(), 0);
    while at < MOST && has(at) {
        // the activation behind it, and a maximum where a number is left out
        at += 2 + usize::from(normalised);
        let pooled = !has(at);
        at += usize::from(pooled);
        layers.push((0, pooled));
    }
    Body::Chain(layers, normalised)
}

/// VGG's convolutions.
fn vgg<N: ElementFunction>(
    b: &mut Builder<'_, N>,
    mut x: NodeId,
    layers: &[(usize, bool)],
    normalised: bool,
) -> Result<NodeId> {
    let name = |i: usize| format!("features.{i}");
    let mut at = 0;
    for &(channels, pooled) in layers {
        x = match normalised {
            true => b.convolution(&name(at), &name(at + 1), x, (channels, 3), 1)?,
            false => b.biased(&name(at), x, (channels, 3))?,
        };
        at += 1 + usize::from(normalised);
        x = b.activation(&name(at), x)?;
        at += 1;
        if pooled {
            let op = pool(b, 2, Padding::default());
            x = b.network.add(name(at), op, &[x])?;
            at += 1;
        }
    }
    Ok(x)
}

/// VGG's three dense layers.
fn dense_layers<N: ElementFunction>(
    mut b: Builder<'_, N>,
    x: NodeId,
    widths: [usize; 3],
) -> Result<Network<N>> {
    let mut x = b.network.add("flatten", Op::Flatten, &[x])?;
    for (part, width) in [0, 3, 6].into_iter().zip(widths) {
        if part > 0 {
            x = b.activation(&format!("classifier.{}", part - 2), x)?;
        }
        x = b.dense(&format!("classifier.{part}"), x, width)?;
    }
    b.network.finish(x)
}

/// Pooling by a stride of 2: a maximum with a file's weights, a mean with new ones.
fn pool<N: ElementFunction>(b: &Builder<'_, N>, size: usize, padding: Padding) -> Op<N> {
    let (kernel, stride) = ((size, size), (2, 2));
    match b.is_read() {
        true => Op::MaxPool(MaxPool {
            kernel,
            stride,
            padding,
            ceil_mode: false,
        }),
        false => Op::AvgPool(AvgPool {
            kernel,
            stride,
            padding,
            count_include_pad: true,
        }),
    }
}

/// A network for large pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNet {
    body: Body,
    /// Height and width of pictures.
    pub size: usize,
    /// Outputs.
    pub classes: usize,
    /// Everywhere.
    pub activation: Activation,
}

/// What it is made of; channels are those of new weights.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    /// Blocks of the four stages: two 3×3 convolutions each.
    Basic([usize; 4]),
    /// Blocks of the four stages: 1×1, 3×3, 1×1 with four times as many channels as a stage's width; how many times that wide the first two are.
    Bottleneck([usize; 4], usize),
    /// 1×1 to more channels, 3×3 of each channel, 1×1 to few.
    Inverted,
    /// A chain of 3×3 convolutions, with so many channels and pooling behind them or not, with batch normalisation or biases; three dense layers.
    Chain(Vec<(usize, bool)>, bool),
}

/// Channels of a residual network's first stage.
const WIDTH: usize = 64;
/// How much wider than its input, channels, blocks, and stride of the first block, of MobileNetV2's stages.
const INVERTED: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

/// VGG with so many convolutions in each of its five stages (Simonyan and Zisserman 2014, table 1: A, B, D, E), pooling behind the last of them.
fn published_chain(counts: [usize; 5], normalised: bool) -> Body {
    let stages = counts.into_iter().zip([64, 128, 256, 512, 512]);
    let layers =
        stages.flat_map(|(count, channels)| (1..=count).map(move |i| (channels, i == count)));
    Body::Chain(layers.collect(), normalised)
}

impl ImageNet {
    /// Names that are known.
    pub const NAMES: [&str; 16] = [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "wide_resnet50_2",
        "wide_resnet101_2",
        "mobilenet_v2",
        "vgg11",
        "vgg11_bn",
        "vgg13",
        "vgg13_bn",
        "vgg16",
        "vgg16_bn",
        "vgg19",
        "vgg19_bn",
    ];

    /// The published network of this name, with 1000 classes.
    #[must_use]
    pub fn named(name: &str, size: usize, activation: Activation) -> Option<Self> {
        let body = match name {
            "resnet18" => Body::Basic([2, 2, 2, 2]),
            "resnet34" => Body::Basic([3, 4, 6, 3]),
            "resnet50" => Body::Bottleneck([3, 4, 6, 3], 1),
            "resnet101" => Body::Bottleneck([3, 4, 23, 3], 1),
            "resnet152" => Body::Bottleneck([3, 8, 36, 3], 1),
            "wide_resnet50_2" => Body::Bottleneck([3, 4, 6, 3], 2),
            "wide_resnet101_2" => Body::Bottleneck([3, 4, 23, 3], 2),
            "mobilenet_v2" => Body::Inverted,
            _ => {
                let (depth, normalised) = match name.strip_suffix("_bn") {
                    Some(depth) => (depth, true),
                    None => (name, false),
                };
                let counts = match depth {
                    "vgg11" => [1, 1, 2, 2, 2],
                    "vgg13" => [2, 2, 2, 2, 2],
                    "vgg16" => [2, 2, 3, 3, 3],
                    "vgg19" => [2, 2, 4, 4, 4],
                    _ => return None,
                };
                published_chain(counts, normalised)
            }
        };
        Some(Self {
            body,
            size,
            classes: 1000,
            activation,
        })
    }

    /// The network with new weights.
    ///
    /// # Errors
    /// Sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let mut function = |_: &str| Ok(Nonlinearity::from(self.activation));
        self.build(Builder::new(Weights::New(seed), &mut function))
    }

    /// The network's shape, with this polynomial for every activation and zeros for weights: for what depends on neither weights nor ranges.
    ///
    /// # Errors
    /// As [`ImageNet::graph`].
    pub fn outline(&self, polynomial: &Polynomial) -> Result<PolyGraph> {
        let mut function = |_: &str| Ok(polynomial.clone());
        let graph = self.build(Builder::new(Weights::Zeros, &mut function))?;
        let one = Range {
            min: -1.0,
            max: 1.0,
        };
        let ranges = vec![one; graph.nodes().len()];
        PolyGraph::from(graph).with_ranges(ranges)
    }

    fn build<N: ElementFunction>(&self, mut b: Builder<'_, N>) -> Result<Network<N>> {
        let input = Shape::image(CHANNELS, self.size, self.size);
        let x = b.network.input("input", input)?;
        let x = match &self.body {
            Body::Basic(blocks) => residual(&mut b, x, *blocks, (1, 1))?,
            Body::Bottleneck(blocks, wide) => residual(&mut b, x, *blocks, (4, *wide))?,
            Body::Inverted => inverted(&mut b, x)?,
            Body::Chain(layers, normalised) => {
                let x = vgg(&mut b, x, layers, *normalised)?;
                if b.is_read() && b.network.shape(x).dims()[1..] != [7, 7] {
                    return Err(Error::malformed(
                        "VGG",
                        "its convolutions don't end in pictures of 7×7; export the network as ONNX",
                    ));
                }
                return dense_layers(b, x, [4096, 4096, self.classes]);
            }
        };
        b.head(x, self.classes)
    }
}

/// A residual network's stem and stages; blocks end `times` as wide as their stage: bottlenecks where that is more than 1, `wide` times as wide as it within.
fn residual<N: ElementFunction>(
    b: &mut Builder<'_, N>,
    x: NodeId,
    blocks: [usize; 4],
    (times, wide): (usize, usize),
) -> Result<NodeId> {
    let x = b.convolution("conv1", "bn1", x, (WIDTH, 7), 2)?;
    let x = b.activation("act1", x)?;
    let pool = pool(b, 3, Padding::same(1));
    let mut x = b.network.add("pool1", pool, &[x])?;
    let mut from = WIDTH;
    for (stage, blocks) in (1..).zip(blocks) {
        let width = WIDTH << (stage - 1);
        let to = times * width;
        for block in 0..blocks {
            let name = format!("layer{stage}.{block}");
            let part = |p: &str| format!("{name}.{p}");
            let stride = if stage > 1 && block == 0 { 2 } else { 1 };
            let layers: &[(usize, usize, usize)] = match times {
                1 => &[(width, 3, stride), (to, 3, 1)],
                _ => &[(wide * width, 1, 1), (wide * width, 3, stride), (to, 1, 1)],
            };
            let mut y = x;
            for (i, &(channels, kernel, stride)) in (1..).zip(layers) {
                let (conv, norm) = (part(&format!("conv{i}")), part(&format!("bn{i}")));
                let groups = b.groups(&conv, y);
                y = b.grouped(&conv, &norm, y, (channels, kernel, groups), stride)?;
                if i < layers.len() {
                    y = b.activation(&part(&format!("act{i}")), y)?;
                }
            }
            if from != to || stride != 1 {
                let (conv, norm) = (part("downsample.0"), part("downsample.1"));
                x = b.convolution(&conv, &norm, x, (to, 1), stride)?;
            }
            y = b.network.add(part("add"), Op::Add, &[y, x])?;
            x = b.activation(&part(&format!("act{}", layers.len())), y)?;
            from = to;
        }
    }
    Ok(x)
}

/// MobileNetV2's layers; names as in torchvision, activations beside them.
fn inverted<N: ElementFunction>(b: &mut Builder<'_, N>, x: NodeId) -> Result<NodeId> {
    let layer = |b: &mut Builder<'_, N>, name: &str, x, size: (usize, usize, usize), stride| {
        let (conv, norm) = (format!("{name}.0"), format!("{name}.1"));
        let y = b.grouped(&conv, &norm, x, size, stride)?;
        b.activation(&format!("{name}.2"), y)
    };
    let mut from = 32;
    let mut x = layer(b, "features.0", x, (from, 3, 1), 2)?;
    let mut number = 1;
    for [wider, channels, blocks, first] in INVERTED {
        for block in 0..blocks {
            let stride = if block == 0 { first } else { 1 };
            let name = format!("features.{number}.conv");
            let wide = wider * from;
            let (mut y, mut part) = (x, 0);
            if wider > 1 {
                y = layer(b, &format!("{name}.0"), y, (wide, 1, 1), 1)?;
                part = 1;
            }
            y = layer(b, &format!("{name}.{part}"), y, (wide, 3, wide), stride)?;
            let (conv, norm) = (
                format!("{name}.{}", part + 1),
                format!("{name}.{}", part + 2),
            );
            y = b.convolution(&conv, &norm, y, (channels, 1), 1)?;
            x = match stride == 1 && from == channels {
                true => (b.network).add(format!("features.{number}.add"), Op::Add, &[y, x])?,
                false => y,
            };
            (from, number) = (channels, number + 1);
        }
    }
    layer(b, &format!("features.{number}"), x, (1280, 1, 1), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_published_sizes() {
        // torchvision's numbers of parameters, in which running means and variances do not count
        for (name, size, count) in [
            ("resnet18", 64, 11_689_512),
            ("resnet34", 64, 21_797_672),
            ("resnet50", 64, 25_557_032),
            ("resnet152", 64, 60_192_808),
            ("wide_resnet50_2", 64, 68_883_240),
            ("mobilenet_v2", 64, 3_504_872),
            // pictures of 1×1 in the place of 7×7 before the dense layers, so 48·512·4096 numbers fewer; no biases that a batch norm takes away
            ("vgg11", 32, 132_863_336 - 100_663_296),
            ("vgg13_bn", 32, 133_053_736 - 100_663_296 - 2_944),
            ("vgg16", 32, 138_357_544 - 100_663_296),
            ("vgg19", 32, 143_667_240 - 100_663_296),
        ] {
            let network = ImageNet::named(name, size, Activation::Silu).expect("known");
            let square = Polynomial::new(vec![0.5, 1.0, 0.5], (-1.0, 1.0)).expect("valid");
            let graph = network.outline(&square).expect("builds");
            let of = |op: &Op<Polynomial>| match op {
                Op::Conv2d(c) => {
                    c.weight.values().len() + c.bias.as_ref().map_or(0, |b| b.values().len())
                }
                Op::BatchNorm(b) => 2 * b.scale.values().len(),
                Op::Linear(l) => {
                    l.weight.values().len() + l.bias.as_ref().map_or(0, |b| b.values().len())
                }
                _ => 0,
            };
            assert_eq!(
                graph.nodes().iter().map(|n| of(n.op())).sum::<usize>(),
                count,
                "{name}"
            );
        }
        for name in ImageNet::NAMES {
            assert!(
                ImageNet::named(name, 64, Activation::Silu).is_some(),
                "{name}"
            );
        }
        for name in ["vgg12", "vgg_bn", "resnet18_bn", "mobilenet_v2_bn", ""] {
            assert!(
                ImageNet::named(name, 64, Activation::Silu).is_none(),
                "{name}"
            );
        }
    }
}
