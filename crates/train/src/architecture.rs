//! Networks to train from nothing: residual networks for small pictures, with and without skip connections, and a small one.
//!
//! Names are those of `zoo::resnet`, so that state dicts and tools fit. New weights depend on the seed, the node's name
//! and the weight's position only: networks that differ in their skip connections begin with the same convolutions, on every machine.

use crate::surgery::batch_norm;
use crate::{Error, Result};
use approx::Activation;
use nn::{
    AxisSlice, Conv2d, Graph, Linear, NetworkBuilder, NodeId, Nonlinearity, Op, Pad, Padding,
    Parameter, Shape, Slice,
};
use serde::{Deserialize, Serialize};

/// What carries a value past the convolutions of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Skip {
    /// Every block of two convolutions adds its input (He et al. 2016): shortcut A, every second row and column and channels of zeros
    /// where the shape changes.
    #[default]
    Standard,
    /// Nothing.
    None,
    /// Nothing in the graph; convolutions are to be parameterised by Dirac's ([`crate::Parameterization::Dirac`]), which folds a skip
    /// connection into their weights.
    Dirac,
    /// Long connections that share one source, the first activation: before the last activation of each stage it is added, every second
    /// (third stage: fourth) row and column and channels of zeros where the shape changes. To be trained with
    /// [`crate::Parameterization::Dirac`], which stands for the short connections.
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
}

impl std::str::FromStr for Skip {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "standard" => Self::Standard,
            "none" => Self::None,
            "dirac" => Self::Dirac,
            "long-shared" => Self::LongShared,
            other => {
                return Err(setting(
                    "skip",
                    other,
                    "known are standard, none, dirac, long-shared",
                ));
            }
        })
    }
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
    /// [`Error::Setting`] for another depth than 6n + 2 and for sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let blocks = self.depth.saturating_sub(2) / 6;
        if !(1..=200).contains(&blocks) || self.depth != 6 * blocks + 2 {
            return Err(setting(
                "network.depth",
                self.depth,
                "a residual network has 6n + 2 layers: 8, 14, 20, 32, 44, 56, 110",
            ));
        }
        let mut b = Builder::new(seed, self.activation, self.width, self.classes, self.input)?;
        let x = b.input(self.input)?;
        let x = b.convolution("conv1", "bn1", x, self.width, 1)?;
        let first = b.activation("act1", x)?;
        let mut x = first;
        for stage in 1..=3usize {
            let channels = self.width << (stage - 1);
            for block in 0..blocks {
                let name = format!("layer{stage}.{block}");
                let part = |p: &str| format!("{name}.{p}");
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let y = b.convolution(&part("conv1"), &part("bn1"), x, channels, stride)?;
                let y = b.activation(&part("act1"), y)?;
                let mut y = b.convolution(&part("conv2"), &part("bn2"), y, channels, 1)?;
                match self.skip {
                    Skip::Standard => y = b.add(&part("add"), &part("shortcut"), y, x)?,
                    Skip::LongShared if block + 1 == blocks => {
                        let long = format!("layer{stage}.long");
                        y = b.add(&format!("{long}.add"), &long, y, first)?;
                    }
                    _ => {}
                }
                x = b.activation(&part("act2"), y)?;
            }
        }
        b.head(x, self.classes)
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
    /// [`Error::Setting`] for sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let mut b = Builder::new(seed, self.activation, self.width, self.classes, self.input)?;
        let mut x = b.input(self.input)?;
        for i in 1..=3usize {
            let channels = self.width << (i - 1);
            x = b.convolution(&format!("conv{i}"), &format!("bn{i}"), x, channels, 2)?;
            x = b.activation(&format!("act{i}"), x)?;
        }
        b.head(x, self.classes)
    }
}

fn setting(setting: &'static str, value: impl ToString, remedy: &str) -> Error {
    Error::Setting {
        setting,
        value: value.to_string(),
        remedy: remedy.into(),
    }
}

struct Builder {
    seed: u64,
    activation: Activation,
    network: NetworkBuilder<Nonlinearity>,
}

impl Builder {
    fn new(
        seed: u64,
        activation: Activation,
        width: usize,
        classes: usize,
        (h, w, c): (usize, usize, usize),
    ) -> Result<Self> {
        // Far above every network that a processor trains, and small enough that no product overflows.
        for (name, value, most) in [
            ("network.width", width, 1 << 10),
            ("classes", classes, 1 << 16),
            ("the pictures' height", h, 1 << 12),
            ("the pictures' width", w, 1 << 12),
            ("the pictures' channels", c, 1 << 10),
        ] {
            if !(1..=most).contains(&value) {
                return Err(setting(name, value, &format!("from 1 to {most}")));
            }
        }
        Ok(Self {
            seed,
            activation,
            network: Graph::builder(),
        })
    }

    fn input(&mut self, (h, w, c): (usize, usize, usize)) -> Result<NodeId> {
        Ok(self.network.input("input", Shape::image(c, h, w))?)
    }

    fn dims(&self, x: NodeId) -> (usize, usize, usize) {
        match self.network.shape(x).dims()[..] {
            [c, h, w] => (c, h, w),
            _ => (self.network.shape(x).len(), 1, 1),
        }
    }

    /// 3×3, with the batch normalisation behind it.
    fn convolution(
        &mut self,
        name: &str,
        norm: &str,
        x: NodeId,
        channels: usize,
        stride: usize,
    ) -> Result<NodeId> {
        let (from, _, _) = self.dims(x);
        let conv = Conv2d {
            stride: (stride, stride),
            padding: Padding::same(1),
            ..Conv2d::new(weights(
                self.seed,
                &format!("{name}.weight"),
                &[channels, from, 3, 3],
            )?)
        };
        let y = self.network.add(name, Op::Conv2d(conv), &[x])?;
        Ok(self
            .network
            .add(norm, batch_norm(norm, channels, 1.0)?, &[y])?)
    }

    fn activation(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        Ok(self
            .network
            .add(name, Op::Elementwise(self.activation.into()), &[x])?)
    }

    /// `y` plus `x`, which loses rows and columns and gets channels of zeros on both sides where `y`'s shape needs it.
    fn add(&mut self, name: &str, shortcut: &str, y: NodeId, x: NodeId) -> Result<NodeId> {
        let ((from, h, w), (to, oh, _)) = (self.dims(x), self.dims(y));
        let mut z = x;
        if (from, h) != (to, oh) {
            // Strides halve sizes and round up.
            let step = (1..=h).find(|s| h.div_ceil(*s) <= oh).unwrap_or(1);
            let axis = |end, step| AxisSlice {
                begin: 0,
                end,
                step,
            };
            let axes = vec![axis(from, 1), axis(h, step), axis(w, step)];
            z = self
                .network
                .add(format!("{shortcut}.slice"), Op::Slice(Slice { axes }), &[z])?;
            let zeros = to.saturating_sub(from);
            let pad = Pad {
                channels: (zeros / 2, zeros - zeros / 2),
                spatial: Padding::default(),
            };
            z = self
                .network
                .add(format!("{shortcut}.pad"), Op::Pad(pad), &[z])?;
        }
        Ok(self.network.add(name, Op::Add, &[y, z])?)
    }

    fn head(mut self, x: NodeId, classes: usize) -> Result<Graph> {
        let (channels, _, _) = self.dims(x);
        let x = self.network.add("pool", Op::GlobalAvgPool, &[x])?;
        let x = self.network.add("flatten", Op::Flatten, &[x])?;
        let linear = Linear {
            weight: weights(self.seed, "linear.weight", &[classes, channels])?,
            bias: Some(Parameter::new(
                "linear.bias",
                [classes],
                vec![0.0; classes],
            )?),
        };
        let x = self.network.add("linear", Op::Linear(linear), &[x])?;
        Ok(self.network.finish(x)?)
    }
}

/// He et al. 2015: uniform in ±√(6/fan-in), of variance 2/fan-in. Uniform, since it needs nothing but a square root, which all machines
/// round alike.
fn weights(seed: u64, name: &str, shape: &[usize]) -> Result<Parameter> {
    let inputs: usize = shape[1..].iter().product();
    let bound = (6.0 / inputs as f64).sqrt();
    let values = uniform(seed, name, shape.iter().product(), bound);
    Ok(Parameter::new(name, shape, values)?)
}

/// So many numbers, uniform in ±bound; each depends on seed, name and its place only.
pub(crate) fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<f32> {
    // FNV-1a of the name chooses the stream.
    let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let key = mix(mix(seed).wrapping_add(stream));
    (0..count as u64)
        .map(|i| {
            let bits = mix(key.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            // 53 bits in [0, 1)
            let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
            (bound * (2.0 * unit - 1.0)) as f32
        })
        .collect()
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 well-mixed bits out.
pub(crate) fn mix(v: u64) -> u64 {
    let v = v.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::format::state_dict::{StateDict, StateTensor};
    use std::collections::BTreeMap;
    use zoo::resnet;

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
        let first: Vec<u32> = weights(1, "conv1.weight", &[1, 3, 1, 1])
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
        assert_eq!(resnet::depth(&dict), 20);
        assert_eq!(
            resnet::from_state_dict(&dict, Activation::Silu).expect("reads"),
            graph
        );
    }

    #[test]
    fn impossible_networks_are_refused() {
        let refused = |net: ResNet, word: &str| {
            let e = net.graph(1).expect_err("refused");
            assert!(
                matches!(e, Error::Setting { .. }) && e.to_string().contains(word),
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
            assert_eq!(name.parse::<Skip>().expect("known"), skip);
            assert_eq!(serde_json::to_value(skip).expect("JSON"), name);
        }
        let e = "long".parse::<Skip>().expect_err("unknown");
        assert!(e.to_string().contains("long-shared"), "{e}");
    }
}
