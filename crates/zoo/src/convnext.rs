//! ConvNeXt, versions 1 and 2 (Liu et al. 2022, Woo et al. 2023), from a state dict: a 4×4 stem of stride 4, four stages of blocks (7×7 of each channel, a
//! norm over channels, 1×1 to four times as many, GELU, 1×1 back), a norm and a 2×2 convolution of stride 2 between stages. Version 2 has a
//! normalisation of responses (GRN) behind GELU; version 1 a factor for each channel at a block's end, which is folded into the layer before it.
//!
//! Names as the authors', timm's and torchvision's; sizes are read off the weights, and that of pictures off timm's `config.json` where there is one.

use crate::config::{Fields, about_pictures, picture_size};
use crate::family::{Claim, Family, Model, Options, nothing};
use crate::resnet::metadata;
use approx::Activation;
use nn::format::Checkpoint;
use nn::format::state_dict::StateDict;
use nn::op::{Norm, NormKind, Rearrange};
use nn::{
    Conv2d, Error, Graph, Linear, Network, NetworkBuilder, NodeId, Nonlinearity, Op, Padding,
    Parameter, Result, Shape,
};

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "ConvNeXt",
    read: claim,
    leaves: Some(nothing),
};

/// Height and width of the pictures that most published weights were trained on.
const SIZE: usize = 224;
/// Most blocks of a stage.
const MOST: usize = 256;
/// What all its norms add to variances, and GRN to its mean.
const EPSILON: f64 = 1e-6;

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let weights = &checkpoint.tensors;
    let there = |s: &Scheme| weights.find(&format!("{}.weight", s.block(0, 0, Part::Each)));
    let Some(scheme) = SCHEMES.iter().find(|s| there(s).is_some()) else {
        let name = |s: &Scheme| s.block(0, 0, Part::Each) + ".weight";
        let names: Vec<String> = SCHEMES.iter().map(name).collect();
        return Ok(Claim::Declined(format!(
            "it has none of {}",
            names.join(", ")
        )));
    };
    let size = match &checkpoint.config {
        Some(text) => picture_size(about_pictures(&Fields::parse(text)?))?,
        None => None,
    };
    let mut reader = Reader {
        weights,
        scheme,
        size: size.unwrap_or((SIZE, SIZE)),
        activation: options.activation.unwrap_or(Activation::Gelu),
        network: Network::builder(),
    };
    let end = reader.layers()?;
    let graph: Graph = reader.network.finish(end)?;
    let metadata = metadata(graph.input().shape());
    Ok(Claim::Model(Box::new(Model::Trained(graph, metadata))))
}

/// A part of a block.
#[derive(Clone, Copy)]
enum Part {
    /// 7×7 of each channel.
    Each,
    Norm,
    Wide,
    Narrow,
}

/// How a source names its tensors; `S` is a stage, `B` a block.
struct Scheme {
    /// Convolution and norm of the stem.
    stem: [&'static str; 2],
    /// Norm and convolution before a stage, whose number may be doubled.
    between: [&'static str; 2],
    /// [`Part`]s.
    block: [&'static str; 4],
    /// The factors at a block's end.
    factors: &'static str,
    /// Factors and offsets of the normalisation of responses.
    responses: [&'static str; 2],
    /// Norm and dense layer at the end.
    end: [&'static str; 2],
    /// A stage's number in names of its blocks and of what is before it, from its own.
    numbered: fn(usize) -> (usize, usize),
}

const SCHEMES: [Scheme; 3] = [
    // the authors'
    Scheme {
        stem: ["downsample_layers.0.0", "downsample_layers.0.1"],
        between: ["downsample_layers.S.0", "downsample_layers.S.1"],
        block: [
            "stages.S.B.dwconv",
            "stages.S.B.norm",
            "stages.S.B.pwconv1",
            "stages.S.B.pwconv2",
        ],
        factors: "stages.S.B.gamma",
        responses: ["stages.S.B.grn.gamma", "stages.S.B.grn.beta"],
        end: ["norm", "head"],
        numbered: |s| (s, s),
    },
    // timm's
    Scheme {
        stem: ["stem.0", "stem.1"],
        between: ["stages.S.downsample.0", "stages.S.downsample.1"],
        block: [
            "stages.S.blocks.B.conv_dw",
            "stages.S.blocks.B.norm",
            "stages.S.blocks.B.mlp.fc1",
            "stages.S.blocks.B.mlp.fc2",
        ],
        factors: "stages.S.blocks.B.gamma",
        responses: [
            "stages.S.blocks.B.mlp.grn.weight",
            "stages.S.blocks.B.mlp.grn.bias",
        ],
        end: ["head.norm", "head.fc"],
        numbered: |s| (s, s),
    },
    // torchvision's
    Scheme {
        stem: ["features.0.0", "features.0.1"],
        between: ["features.S.0", "features.S.1"],
        block: [
            "features.S.B.block.0",
            "features.S.B.block.2",
            "features.S.B.block.3",
            "features.S.B.block.5",
        ],
        factors: "features.S.B.layer_scale",
        responses: ["features.S.B.grn.gamma", "features.S.B.grn.beta"],
        end: ["classifier.0", "classifier.2"],
        numbered: |s| (2 * s + 1, 2 * s),
    },
];

impl Scheme {
    fn named(&self, name: &str, (stage, block): (usize, usize)) -> String {
        let (own, _) = (self.numbered)(stage);
        let name = name.replace('S', &own.to_string());
        name.replace('B', &block.to_string())
    }

    fn block(&self, stage: usize, block: usize, part: Part) -> String {
        self.named(self.block[part as usize], (stage, block))
    }

    fn between(&self, stage: usize) -> [String; 2] {
        let (_, number) = (self.numbered)(stage);
        self.between
            .map(|name| name.replace('S', &number.to_string()))
    }
}

/// Reads the weights in the network's order.
struct Reader<'a> {
    weights: &'a StateDict,
    scheme: &'a Scheme,
    size: (usize, usize),
    activation: Activation,
    network: NetworkBuilder<Nonlinearity>,
}

impl Reader<'_> {
    fn layers(&mut self) -> Result<NodeId> {
        let scheme = self.scheme;
        let stem = self
            .weights
            .require(&format!("{}.weight", scheme.stem[0]))?;
        let channels = stem.shape.get(1).copied().unwrap_or(0);
        let picture = Shape::image(channels, self.size.0, self.size.1);
        let mut x = self.network.input("input", picture)?;
        for stage in 0..4 {
            x = match stage {
                0 => {
                    let y = self.thinned(scheme.stem[0], x, 4)?;
                    self.norm(scheme.stem[1], y)?
                }
                _ => {
                    let [norm, convolution] = scheme.between(stage);
                    let y = self.norm(&norm, x)?;
                    self.thinned(&convolution, y, 2)?
                }
            };
            let mut block = 0;
            while block < MOST && self.has(&scheme.block(stage, block, Part::Each)) {
                x = self.block((stage, block), x)?;
                block += 1;
            }
        }
        let x = self.network.add("pool", Op::GlobalAvgPool, &[x])?;
        let x = self.norm(scheme.end[0], x)?;
        let x = self.network.add("flatten", Op::Flatten, &[x])?;
        let linear = Linear {
            weight: self.weight(scheme.end[1], None)?,
            bias: self.optional(&format!("{}.bias", scheme.end[1]))?,
        };
        self.network.add(scheme.end[1], Op::Linear(linear), &[x])
    }

    fn block(&mut self, at: (usize, usize), x: NodeId) -> Result<NodeId> {
        let scheme = self.scheme;
        let name = |part| scheme.block(at.0, at.1, part);
        let each = name(Part::Each);
        let (channels, ..) = self.size(x);
        let conv = Conv2d {
            bias: self.optional(&format!("{each}.bias"))?,
            padding: Padding::same(3),
            groups: channels,
            ..Conv2d::new(self.weight(&each, Some([7, 7]))?)
        };
        let y = self.network.add(&each, Op::Conv2d(conv), &[x])?;
        let y = self.norm(&name(Part::Norm), y)?;
        let (wide, narrow) = (name(Part::Wide), name(Part::Narrow));
        let conv = Conv2d {
            bias: self.optional(&format!("{wide}.bias"))?,
            ..Conv2d::new(self.weight(&wide, Some([1, 1]))?)
        };
        let y = self.network.add(&wide, Op::Conv2d(conv), &[y])?;
        let f = Op::Elementwise(self.activation.into());
        let mut y = self.network.add(format!("{wide}.act"), f, &[y])?;
        let mut conv = Conv2d {
            bias: self.optional(&format!("{narrow}.bias"))?,
            ..Conv2d::new(self.weight(&narrow, Some([1, 1]))?)
        };
        let [factors, offsets] = scheme.responses.map(|name| scheme.named(name, at));
        if self.weights.find(&factors).is_some() {
            y = self.responses(&wide, (&factors, y))?;
            conv = shifted(&narrow, conv, &self.vector(&offsets)?)?;
        }
        let factors = scheme.named(scheme.factors, at);
        let first = scheme.named(scheme.factors, (0, 0));
        // all blocks have them, or none
        if self.weights.find(&first).is_some() || self.weights.find(&factors).is_some() {
            conv = scaled(&narrow, conv, &self.vector(&factors)?)?;
        }
        let y = self.network.add(&narrow, Op::Conv2d(conv), &[y])?;
        let sum = format!("{}.add", each.rsplit_once('.').map_or(&*each, |n| n.0));
        self.network.add(sum, Op::Add, &[y, x])
    }

    /// `x·(1 + γ·g/(mean of g + ε))`, where g is the root of the sum of a channel's squares; what GRN adds goes into the next layer.
    fn responses(&mut self, name: &str, (factors, x): (&str, NodeId)) -> Result<NodeId> {
        let (channels, h, w) = self.size(x);
        let part = |p: &str| format!("{name}.grn.{p}");
        let net = &mut self.network;
        let y = net.add(part("squares"), Op::Mul, &[x, x])?;
        let y = net.add(part("mean"), Op::GlobalAvgPool, &[y])?;
        let y = net.add(part("sum"), affine(name, (h * w) as f64, 0.0)?, &[y])?;
        let root = Op::Elementwise(Activation::Sqrt.into());
        let g = net.add(part("root"), root, &[y])?;
        let share = 1.0 / channels as f32;
        let all = Parameter::new(name, [1, channels, 1, 1], vec![share; channels])?;
        let all = Op::Conv2d(Conv2d::new(all));
        let y = net.add(part("response"), all, &[g])?;
        let y = net.add(part("shifted"), affine(name, 1.0, EPSILON)?, &[y])?;
        let inverse = Op::Elementwise(Activation::Reciprocal.into());
        let y = net.add(part("inverse"), inverse, &[y])?;
        let y = net.add(part("spread"), spread((1, 1, 1), (channels, 1, 1)), &[y])?;
        let y = net.add(part("share"), Op::Mul, &[g, y])?;
        let factors = self.vector(factors)?;
        let weight = Parameter::new(name, [channels, 1, 1, 1], factors)?;
        let conv = Conv2d {
            bias: Some(Parameter::new(name, [channels], vec![1.0; channels])?),
            groups: channels,
            ..Conv2d::new(weight)
        };
        let net = &mut self.network;
        let y = net.add(part("factor"), Op::Conv2d(conv), &[y])?;
        let wide = spread((channels, 1, 1), (channels, h, w));
        let y = net.add(part("factors"), wide, &[y])?;
        net.add(part("mul"), Op::Mul, &[x, y])
    }

    /// A convolution whose stride is its size.
    fn thinned(&mut self, name: &str, x: NodeId, size: usize) -> Result<NodeId> {
        let conv = Conv2d {
            bias: self.optional(&format!("{name}.bias"))?,
            stride: (size, size),
            ..Conv2d::new(self.weight(name, Some([size, size]))?)
        };
        self.network.add(name, Op::Conv2d(conv), &[x])
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let norm = Norm {
            kind: NormKind::Layer,
            scale: self.weights.parameter(&format!("{name}.weight"))?,
            epsilon: EPSILON,
            // without one it is a norm of root mean squares
            bias: Some(self.weights.parameter(&format!("{name}.bias"))?),
        };
        self.network.add(name, Op::Norm(norm), &[x])
    }

    fn has(&self, name: &str) -> bool {
        self.weights.find(&format!("{name}.weight")).is_some()
    }

    fn size(&self, x: NodeId) -> (usize, usize, usize) {
        self.network.shape(x).as_image().unwrap_or_default()
    }

    fn optional(&self, name: &str) -> Result<Option<Parameter>> {
        let there = self.weights.find(name).is_some();
        there.then(|| self.weights.parameter(name)).transpose()
    }

    /// A layer's matrix; of a convolution with this kernel, whose 1×1 ones may lie as dense layers.
    fn weight(&self, name: &str, kernel: Option<[usize; 2]>) -> Result<Parameter> {
        let p = self.weights.parameter(&format!("{name}.weight"))?;
        match (kernel, p.shape()) {
            (Some([1, 1]), &[to, from]) => {
                Parameter::new(name, [to, from, 1, 1], p.values().to_vec())
            }
            (Some(kernel), [_, _, had @ ..]) if *had != kernel => Err(Error::malformed(
                "ConvNeXt",
                format!(
                    "{name}: a kernel of {had:?}, where one of {kernel:?} is known; export the network as ONNX"
                ),
            )),
            _ => Ok(p),
        }
    }

    /// One number a channel, whatever axes of length 1 lie beside.
    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.weights.parameter(name)?.values().to_vec())
    }
}

fn affine(name: &str, factor: f64, shift: f64) -> Result<Op<Nonlinearity>> {
    Ok(Op::Elementwise(Nonlinearity::affine(name, factor, shift)?))
}

/// Every value of a shape again and again, up to another.
fn spread(from: (usize, usize, usize), to: (usize, usize, usize)) -> Op<Nonlinearity> {
    let along = |from: usize, to: usize, step: usize| -> Vec<u32> {
        let place = |i: usize| if from == 1 { 0 } else { (i * step) as u32 };
        (0..to).map(place).collect()
    };
    Op::Rearrange(Rearrange {
        shape: Shape::image(to.0, to.1, to.2),
        offsets: vec![
            along(from.0, to.0, from.1 * from.2),
            along(from.1, to.1, from.2),
            along(from.2, to.2, 1),
        ],
    })
}

/// The layer behind what adds these offsets.
fn shifted(name: &str, conv: Conv2d, offsets: &[f32]) -> Result<Conv2d> {
    let [to, from, ..] = *conv.weight.shape() else {
        return Ok(conv);
    };
    if offsets.len() != from {
        return Err(unfit(name, "offsets", (offsets.len(), from)));
    }
    if let Some(b) = conv.bias.as_ref().filter(|b| b.values().len() != to) {
        return Err(unfit(name, "biases", (b.values().len(), to)));
    }
    let rows = conv.weight.values().chunks_exact(from);
    let had = (0..to).map(|o| conv.bias.as_ref().map_or(0.0, |b| b.values()[o]));
    let sum = |row: &[f32]| -> f64 {
        let terms = row.iter().zip(offsets);
        terms.map(|(&w, &b)| f64::from(w) * f64::from(b)).sum()
    };
    let bias: Vec<f32> = rows.zip(had).map(|(row, b)| b + sum(row) as f32).collect();
    Ok(Conv2d {
        bias: Some(Parameter::new(name, [to], bias)?),
        ..conv
    })
}

/// The layer before these factors.
fn scaled(name: &str, conv: Conv2d, factors: &[f32]) -> Result<Conv2d> {
    let [to, from, h, w] = *conv.weight.shape() else {
        return Ok(conv);
    };
    if factors.len() != to {
        return Err(unfit(name, "factors", (factors.len(), to)));
    }
    let rows = conv.weight.values().chunks_exact(from).zip(factors);
    let values: Vec<f32> = rows
        .flat_map(|(row, f)| row.iter().map(move |w| w * f))
        .collect();
    let bias = conv.bias.as_ref().map(|b| {
        let values = b.values().iter().zip(factors).map(|(b, f)| b * f);
        Parameter::new(name, [to], values.collect::<Vec<_>>())
    });
    Ok(Conv2d {
        weight: Parameter::new(name, [to, from, h, w], values)?,
        bias: bias.transpose()?,
        ..conv
    })
}

fn unfit(name: &str, what: &str, (had, needed): (usize, usize)) -> Error {
    Error::malformed(
        "ConvNeXt",
        format!("{name}: {had} {what}, where {needed} channels need one each"),
    )
}
