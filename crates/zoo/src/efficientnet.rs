//! timm's EfficientNet-Lite (0 to 4): a 3×3 stem of stride 2, seven stages of inverted bottlenecks without squeeze-and-excite (Tan and Le 2019, and what
//! TensorFlow's repository of TPU models made of it), a 1×1 convolution at the end; ReLU6 everywhere unless another activation is named.
//!
//! Tensors say blocks, channels and kernels, but neither where zeros are padded nor what batch normalisations add to variances, which those with TensorFlow's
//! weights (`tf_…`) do their own way: that, the size of pictures and how they are normalised stand in timm's `config.json`.

use crate::config::{Fields, about_pictures, picture_size, refuse, three};
use crate::family::{Claim, Family, Model, Options, nothing};
use approx::Activation;
use nn::format::Checkpoint;
use nn::format::state_dict::StateDict;
use nn::{
    BatchNorm, Conv2d, Error, Graph, Linear, Metadata, Network, NetworkBuilder, NodeId,
    Nonlinearity, Op, Padding, Parameter, Result, Shape,
};
use task::{Normalization, Outputs, Pictures, Task};

/// The registry's entry.
pub(crate) const FAMILY: Family = Family {
    name: "EfficientNet-Lite",
    read: claim,
    leaves: Some(nothing),
};

/// Strides of the stages' first blocks.
const STRIDES: [usize; 7] = [1, 2, 2, 2, 1, 2, 1];
/// Most blocks of a stage.
const MOST: usize = 256;
/// Most rows and columns of a kernel.
const LARGEST: usize = 15;
/// Height and width of the pictures that Lite 0 to 4 were trained on.
const SIZES: [usize; 5] = [224, 240, 260, 300, 380];

/// Where zeros are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pads {
    /// As many on both sides.
    Even,
    /// As TensorFlow's `SAME`: as many as are needed, one more at the end where they are odd.
    Same,
}

/// What the tensors do not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where zeros are padded.
    pub pads: Pads,
    /// Height and width of pictures of three channels.
    pub size: (usize, usize),
    /// How pixels become inputs.
    pub normalization: Normalization,
}

impl Config {
    /// From the text of timm's `config.json`: `architecture`, and `pretrained_cfg` with `input_size`, `mean` and `std`, without which they are as published.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another architecture and for what is out of range.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = Fields::parse(text)?;
        let own = json["architecture"].as_str().unwrap_or_default();
        let (pads, lite) = match own.strip_prefix("tf_") {
            Some(rest) => (Pads::Same, rest),
            None => (Pads::Even, own),
        };
        let number = lite.strip_prefix("efficientnet_lite");
        let number = number.and_then(|n| n.parse::<usize>().ok());
        let Some(usual) = number.and_then(|n| SIZES.get(n).copied()) else {
            return Err(refuse(format!(
                "architecture is {own:?}; of timm's EfficientNets efficientnet_lite0 to efficientnet_lite4 are read, and the same with tf_ before it; export others as ONNX"
            )));
        };
        let about = about_pictures(&json);
        let numbers = |name: &str| three(about, name);
        let size = picture_size(about)?.unwrap_or((usual, usual));
        let published = match pads {
            Pads::Same => Normalization::new(vec![0.5; 3], vec![0.5; 3]),
            Pads::Even => Normalization::imagenet(),
        };
        let mean = numbers("mean")?.map_or(published.mean, |m| m.to_vec());
        let deviation = numbers("std")?.map_or(published.deviation, |d| d.to_vec());
        if deviation.iter().any(|d| *d <= 0.0) {
            return Err(refuse("std must be above 0"));
        }
        Ok(Self {
            pads,
            size,
            normalization: Normalization::new(mean, deviation),
        })
    }

    /// What batch normalisations add to variances.
    fn epsilon(&self) -> f64 {
        match self.pads {
            Pads::Same => 1e-3,
            Pads::Even => 1e-5,
        }
    }
}

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let weights = &checkpoint.tensors;
    for needed in ["conv_stem.weight", "blocks.0.0.conv_dw.weight"] {
        if weights.find(needed).is_none() {
            return Ok(Claim::Declined(format!("it has no tensor {needed}")));
        }
    }
    let Some(text) = &checkpoint.config else {
        return Err(Error::malformed(
            "EfficientNet-Lite",
            "its tensors do not say how it pads and what its batch norms add to variances: put timm's config.json beside its file, in which architecture is efficientnet_lite0 or another, or export the network as ONNX",
        ));
    };
    let config = Config::from_json(text)?;
    let squeezes = |name: &&String| name.contains(".se.");
    if let Some(name) = weights.tensors().keys().find(squeezes) {
        return Err(Error::malformed(
            "EfficientNet-Lite",
            format!(
                "it has no squeeze-and-excite, but the file has {name}; export the network as ONNX"
            ),
        ));
    }
    let (height, width) = config.size;
    let mut reader = Reader {
        weights,
        config: &config,
        activation: options.activation.unwrap_or(Activation::Relu6),
        network: Network::builder(),
    };
    let x = (reader.network).input("input", Shape::image(3, height, width))?;
    let end = reader.layers(x)?;
    let graph: Graph = reader.network.finish(end)?;
    let (input, outputs) = (graph.input().shape(), Outputs::Classes(Vec::new()));
    let pictures = Pictures::new(input, config.normalization, outputs);
    let pictures = pictures.map_err(|e| refuse(e.to_string()))?;
    let metadata = Metadata {
        task: Some(Task::Pictures(pictures).to_bytes()),
        ..Metadata::default()
    };
    Ok(Claim::Model(Box::new(Model::Trained(graph, metadata))))
}

/// Reads the weights in the network's order.
struct Reader<'a> {
    weights: &'a StateDict,
    config: &'a Config,
    activation: Activation,
    network: NetworkBuilder<Nonlinearity>,
}

impl Reader<'_> {
    fn layers(&mut self, x: NodeId) -> Result<NodeId> {
        let mut x = self.active(("conv_stem", "bn1"), x, 2)?;
        for (stage, stride) in STRIDES.into_iter().enumerate() {
            let name = |k: usize| format!("blocks.{stage}.{k}");
            let there = |k: &usize| self.has(&format!("{}.conv_dw", name(*k)));
            let blocks = (0..MOST).take_while(there).count();
            // at least one, so that a missing stage is named
            for k in 0..blocks.max(1) {
                x = self.block(&name(k), x, if k == 0 { stride } else { 1 })?;
            }
        }
        let x = self.active(("conv_head", "bn2"), x, 1)?;
        let x = self.network.add("global_pool", Op::GlobalAvgPool, &[x])?;
        let x = self.network.add("flatten", Op::Flatten, &[x])?;
        let linear = Linear {
            weight: self.weights.parameter("classifier.weight")?,
            bias: Some(self.weights.parameter("classifier.bias")?),
        };
        self.network.add("classifier", Op::Linear(linear), &[x])
    }

    /// Wider, each channel, narrower; the first stage's are not made wider. What it is given is added where nothing changes its shape.
    fn block(&mut self, block: &str, x: NodeId, stride: usize) -> Result<NodeId> {
        let part = |p: &str| format!("{block}.{p}");
        let y = match self.has(&part("conv_pwl")) {
            true => {
                let y = self.active((&part("conv_pw"), &part("bn1")), x, 1)?;
                let y = self.active((&part("conv_dw"), &part("bn2")), y, stride)?;
                self.normal((&part("conv_pwl"), &part("bn3")), y, 1)?
            }
            false => {
                let y = self.active((&part("conv_dw"), &part("bn1")), x, stride)?;
                self.normal((&part("conv_pw"), &part("bn2")), y, 1)?
            }
        };
        match stride == 1 && self.network.shape(x) == self.network.shape(y) {
            true => self.network.add(part("add"), Op::Add, &[y, x]),
            false => Ok(y),
        }
    }

    fn active(&mut self, names: (&str, &str), x: NodeId, stride: usize) -> Result<NodeId> {
        let y = self.normal(names, x, stride)?;
        let f = Op::Elementwise(self.activation.into());
        self.network.add(format!("{}.act", names.1), f, &[y])
    }

    /// A convolution and its batch normalisation.
    fn normal(&mut self, (conv, norm): (&str, &str), x: NodeId, stride: usize) -> Result<NodeId> {
        let weight = self.weights.parameter(&format!("{conv}.weight"))?;
        let &[_, each, rows, columns] = weight.shape() else {
            return Err(Error::malformed(
                "EfficientNet-Lite",
                format!("{conv}.weight is no convolution"),
            ));
        };
        if !(1..=LARGEST).contains(&rows.min(columns)) || rows.max(columns) > LARGEST {
            return Err(Error::malformed(
                "EfficientNet-Lite",
                format!("{conv}.weight: a kernel of {rows}×{columns}, up to {LARGEST} are known"),
            ));
        }
        let [from, height, width] = self.network.shape(x).dims()[..] else {
            return Err(Error::malformed(
                "EfficientNet-Lite",
                format!("{conv} is given no picture"),
            ));
        };
        let pads = |length: usize, kernel: usize| match self.config.pads {
            Pads::Even => (kernel / 2, kernel / 2),
            Pads::Same => {
                let last = (length.div_ceil(stride) - 1) * stride;
                let zeros = (last + kernel).saturating_sub(length);
                (zeros / 2, zeros - zeros / 2)
            }
        };
        let ((top, bottom), (left, right)) = (pads(height, rows), pads(width, columns));
        let op = Conv2d {
            stride: (stride, stride),
            padding: Padding::from([top, bottom, left, right]),
            // a depthwise one has a channel each
            groups: if each == 1 { from } else { 1 },
            ..Conv2d::new(weight)
        };
        let y = self.network.add(conv, Op::Conv2d(op), &[x])?;
        let part =
            |p: &str| -> Result<Parameter> { self.weights.parameter(&format!("{norm}.{p}")) };
        let op = BatchNorm {
            scale: part("weight")?,
            bias: part("bias")?,
            mean: part("running_mean")?,
            variance: part("running_var")?,
            epsilon: self.config.epsilon(),
        };
        self.network.add(norm, Op::BatchNorm(op), &[y])
    }

    fn has(&self, name: &str) -> bool {
        self.weights.find(&format!("{name}.weight")).is_some()
    }
}
