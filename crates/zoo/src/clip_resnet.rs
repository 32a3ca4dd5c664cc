//! CLIP's image tower with convolutions, as OpenAI and open_clip publish it (RN50, RN101, RN50x4 and larger): a residual network of bottleneck blocks with
//! three changes. Its stem has three convolutions and a mean; every stride is a mean over as many places in front of a convolution, on the shortcut, too,
//! so that nothing is left out between two; and its end is attention: the mean of all places asks, all places and the mean answer.
//!
//! Numbers of blocks, channels, heads (64 channels each) and the pictures' size are read off the tensors, `visual.*` or without that beginning. Here every
//! token asks and the first one's answer is kept, which is the same. The activation is ReLU unless another is named.
//!
//! Reference: A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), sec. 2.4.

use crate::encoder::channels;
use crate::family::{Claim, Family, Model, Options};
use crate::resnet::{Builder, Weights};
use crate::vit::clip_normalization;
use approx::Activation;
use nn::attention::{AttentionScheme, Mask};
use nn::format::Checkpoint;
use nn::format::state_dict::StateDict;
use nn::{
    Attention, AvgPool, Conv2d, Error, Graph, Metadata, NodeId, Nonlinearity, Op, Padding,
    Parameter, Rearrange, Result, Shape,
};
use task::{Outputs, Pictures, Task};

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "CLIP's image tower with convolutions",
    read: claim,
    leaves: Some(|name| !name.starts_with("visual.")),
};

/// Most blocks of a stage.
const MOST: usize = 256;
/// Channels of a head.
const HEAD: usize = 64;
/// What the stem and the stages' means divide a picture's height and width by.
const STRIDES: usize = 32;

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let weights = &checkpoint.tensors;
    let beginnings = ["visual.", ""];
    let of = |b: &&str| weights.find(&format!("{b}attnpool.positional_embedding"));
    let Some(beginning) = beginnings.into_iter().find(|b| of(b).is_some()) else {
        return Ok(Claim::Declined(
            "it has no tensor visual.attnpool.positional_embedding".into(),
        ));
    };
    let graph = graph(weights, beginning, options.activation)?;
    let (input, outputs) = (graph.input().shape(), Outputs::Values(Vec::new()));
    let pictures = Pictures::new(input, clip_normalization(), outputs);
    let metadata = Metadata {
        task: pictures.ok().map(|p| Task::Pictures(p).to_bytes()),
        ..Metadata::default()
    };
    Ok(Claim::Model(Box::new(Model::Trained(graph, metadata))))
}

fn malformed(detail: String) -> Error {
    Error::malformed("CLIP's image tower", detail)
}

/// The network of these tensors.
fn graph(weights: &StateDict, beginning: &str, activation: Option<Activation>) -> Result<Graph> {
    let positions = format!("{beginning}attnpool.positional_embedding");
    let &[tokens, width] = &weights.require(&positions)?.shape[..] else {
        return Err(malformed(format!("{positions} is no table")));
    };
    let side = tokens.saturating_sub(1).isqrt();
    if side == 0 || side * side + 1 != tokens {
        return Err(malformed(format!(
            "{positions} has {tokens} rows, which are not a mean and the places of square pictures"
        )));
    }
    if width == 0 || !width.is_multiple_of(HEAD) {
        return Err(malformed(format!(
            "{positions} has {width} channels, which are not heads of {HEAD}"
        )));
    }
    let activation = activation.unwrap_or(Activation::Relu);
    let mut function = |_: &str| Ok(Nonlinearity::from(activation));
    let mut tower = Tower {
        b: Builder::new(Weights::File(weights), &mut function),
        beginning,
    };
    let size = side.saturating_mul(STRIDES);
    let input = Shape::image(3, size, size);
    let x = tower.b.network.input("input", input)?;
    let x = tower.convolutions(x)?;
    let had = tower.b.network.shape(x);
    let needed = Shape::image(width, side, side);
    if had != needed {
        return Err(malformed(format!(
            "{positions} is for {needed}, the convolutions end in {had}"
        )));
    }
    let x = tower.pooled(x, (weights.parameter(&positions)?, tokens))?;
    tower.b.network.finish(x)
}

struct Tower<'a, 'b> {
    b: Builder<'a, Nonlinearity>,
    /// Of all tensors' names.
    beginning: &'b str,
}

impl Tower<'_, '_> {
    fn name(&self, part: &str) -> String {
        format!("{}{part}", self.beginning)
    }

    fn has(&self, part: &str) -> bool {
        self.b.has(&format!("{}.weight", self.name(part)))
    }

    fn add(&mut self, name: &str, op: Op<Nonlinearity>, inputs: &[NodeId]) -> Result<NodeId> {
        let name = self.name(name);
        self.b.network.add(name, op, inputs)
    }

    /// A convolution without stride, unless the stem's first, and its batch normalisation: both names end alike.
    fn layer(
        &mut self,
        (block, end): (&str, usize),
        x: NodeId,
        size: (usize, usize),
        stride: usize,
    ) -> Result<NodeId> {
        let conv = self.name(&format!("{block}conv{end}"));
        let norm = self.name(&format!("{block}bn{end}"));
        self.b.convolution(&conv, &norm, x, size, stride)
    }

    fn active(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let name = self.name(name);
        self.b.activation(&name, x)
    }

    /// A mean over 2×2 places, which stands for a stride of 2.
    fn halved(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let pool = AvgPool {
            kernel: (2, 2),
            stride: (2, 2),
            padding: Padding::default(),
            count_include_pad: true,
        };
        self.add(name, Op::AvgPool(pool), &[x])
    }

    /// The stem and the four stages.
    fn convolutions(&mut self, mut x: NodeId) -> Result<NodeId> {
        for (end, stride) in [(1, 2), (2, 1), (3, 1)] {
            x = self.layer(("", end), x, (0, 3), stride)?;
            x = self.active(&format!("act{end}"), x)?;
        }
        x = self.halved("avgpool", x)?;
        for stage in 1..=4 {
            let there = |k: &usize| self.has(&format!("layer{stage}.{k}.conv1"));
            let blocks = (0..MOST).take_while(there).count();
            // at least one, so that a missing stage is named
            for block in 0..blocks.max(1) {
                let halves = stage > 1 && block == 0;
                x = self.block(&format!("layer{stage}.{block}."), halves, x)?;
            }
        }
        Ok(x)
    }

    fn block(&mut self, block: &str, halves: bool, x: NodeId) -> Result<NodeId> {
        let part = |p: &str| format!("{block}{p}");
        let y = self.layer((block, 1), x, (0, 1), 1)?;
        let y = self.active(&part("act1"), y)?;
        let y = self.layer((block, 2), y, (0, 3), 1)?;
        let mut y = self.active(&part("act2"), y)?;
        if halves {
            y = self.halved(&part("avgpool"), y)?;
        }
        let y = self.layer((block, 3), y, (0, 1), 1)?;
        let mut z = x;
        if halves {
            z = self.halved(&part("downsample.-1"), z)?;
        }
        if halves || self.has(&part("downsample.0")) {
            let conv = self.name(&part("downsample.0"));
            let norm = self.name(&part("downsample.1"));
            z = self.b.convolution(&conv, &norm, z, (0, 1), 1)?;
        }
        let y = self.add(&part("add"), Op::Add, &[y, z])?;
        self.active(&part("act3"), y)
    }

    /// Attention over the mean and all places, of which the mean's answer is left.
    fn pooled(&mut self, x: NodeId, (positions, tokens): (Parameter, usize)) -> Result<NodeId> {
        let pool = |p: &str| format!("attnpool.{p}");
        let width = self.b.network.shape(x).dims()[0];
        let shape = Shape::image(width, 1, tokens);
        // a tensor has fewer than 2^28 values
        let narrow = |at: usize| u32::try_from(at).unwrap_or(Rearrange::ZERO);
        let columns = |from: usize, columns: Vec<u32>| {
            let offsets = vec![(0..width).map(|c| narrow(c * from)).collect(), columns];
            Op::Rearrange(Rearrange { shape, offsets })
        };
        let places = (0..tokens - 1).map(narrow);
        let places = std::iter::once(Rearrange::ZERO).chain(places).collect();
        let mut first = vec![Rearrange::ZERO; tokens];
        first[0] = 0;
        let mean = self.add(&pool("mean"), Op::GlobalAvgPool, &[x])?;
        let mean = self.add(&pool("first"), columns(1, first), &[mean])?;
        let all = self.add(&pool("places"), columns(tokens - 1, places), &[x])?;
        let all = self.add(&pool("tokens"), Op::Add, &[all, mean])?;
        let of = positions.values();
        let constant = (0..width * tokens).map(|i| of[i % tokens * width + i / tokens]);
        let name = self.name(&pool("positional_embedding"));
        let constant = Parameter::new(&name, shape.dims(), constant.collect::<Vec<f32>>())?;
        let constant = (self.b.network).add(name, Op::Constant(shape, constant), &[])?;
        let x = self.add(&pool("embedded"), Op::Add, &[all, constant])?;
        let mut parts = Vec::new();
        for part in ["q_proj", "k_proj", "v_proj"] {
            parts.push(self.projection(&pool(part), x, width)?);
        }
        let heads = width / HEAD;
        let attention = Op::Attention(Attention {
            heads,
            kv_heads: heads,
            scale: 1.0 / (HEAD as f64).sqrt(),
            mask: Mask::FULL,
            scheme: AttentionScheme::Softmax,
        });
        let x = self.add(&pool("attention"), attention, &parts)?;
        let x = self.add(&pool("answer"), channels(0..width, 1), &[x])?;
        let x = self.add(&pool("flatten"), Op::Flatten, &[x])?;
        let name = self.name(&pool("c_proj"));
        self.b.dense(&name, x, 0)
    }

    /// A linear layer on every column.
    fn projection(&mut self, name: &str, x: NodeId, width: usize) -> Result<NodeId> {
        let (weight, bias) = self.b.pointwise(&self.name(name), [width, width])?;
        let conv = Conv2d {
            bias: Some(bias),
            ..Conv2d::new(weight)
        };
        self.add(name, Op::Conv2d(conv), &[x])
    }
}
