//! The residual networks for large pictures of He et al. 2016 (table 1), as torchvision builds them, with new weights: a 7×7 stem of stride 2, a
//! mean over 3×3 places of stride 2 where the paper has a maximum, four stages of basic or bottleneck blocks with projections on the
//! shortcut where shapes change (v1.5: the stride is the 3×3 convolution's), global mean, dense layer.

use crate::resnet::{Builder, Weights};
use approx::Activation;
use nn::{AvgPool, Graph, Nonlinearity, Op, Padding, Result, Shape};

/// A residual network for large pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNet {
    /// Blocks of the four stages.
    blocks: [usize; 4],
    block: Block,
    /// Height and width of pictures.
    pub size: usize,
    /// Outputs.
    pub classes: usize,
    /// Channels of the first stage: 64 in the paper.
    pub width: usize,
    /// Everywhere.
    pub activation: Activation,
}

/// What a stage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, 1×1 with four times as many channels.
    Bottleneck,
}

impl ImageNet {
    /// Names that are known.
    pub const NAMES: [&str; 5] = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];

    /// The published network of this name, with 1000 classes.
    #[must_use]
    pub fn named(name: &str, size: usize, activation: Activation) -> Option<Self> {
        let (blocks, block) = match name {
            "resnet18" => ([2, 2, 2, 2], Block::Basic),
            "resnet34" => ([3, 4, 6, 3], Block::Basic),
            "resnet50" => ([3, 4, 6, 3], Block::Bottleneck),
            "resnet101" => ([3, 4, 23, 3], Block::Bottleneck),
            "resnet152" => ([3, 8, 36, 3], Block::Bottleneck),
            _ => return None,
        };
        Some(Self {
            blocks,
            block,
            size,
            classes: 1000,
            width: 64,
            activation,
        })
    }

    /// The network with new weights.
    ///
    /// # Errors
    /// Sizes that are 0 or too large.
    pub fn graph(&self, seed: u64) -> Result<Graph> {
        let mut function = |_: &str| Ok(Nonlinearity::from(self.activation));
        let mut b = Builder::new(Weights::New(seed), &mut function);
        let input = Shape::image(3, self.size, self.size);
        let x = b.network.input("input", input)?;
        let x = b.convolution("conv1", "bn1", x, (self.width, 7), 2)?;
        let x = b.activation("act1", x)?;
        let pool = AvgPool {
            kernel: (3, 3),
            stride: (2, 2),
            padding: Padding::same(1),
            count_include_pad: true,
        };
        let mut x = b.network.add("pool1", Op::AvgPool(pool), &[x])?;
        let mut from = self.width;
        for (stage, blocks) in (1..).zip(self.blocks) {
            let width = self.width << (stage - 1);
            let to = match self.block {
                Block::Basic => width,
                Block::Bottleneck => 4 * width,
            };
            for block in 0..blocks {
                let name = format!("layer{stage}.{block}");
                let part = |p: &str| format!("{name}.{p}");
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let layers: &[(usize, usize, usize)] = match self.block {
                    Block::Basic => &[(width, 3, stride), (to, 3, 1)],
                    Block::Bottleneck => &[(width, 1, 1), (width, 3, stride), (to, 1, 1)],
                };
                let mut y = x;
                for (i, &(channels, kernel, stride)) in (1..).zip(layers) {
                    let (conv, norm) = (part(&format!("conv{i}")), part(&format!("bn{i}")));
                    y = b.convolution(&conv, &norm, y, (channels, kernel), stride)?;
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
        b.head(x, self.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_published_sizes() {
        // torchvision's numbers of parameters, in which running means and variances do not count
        for (name, count) in [
            ("resnet18", 11_689_512),
            ("resnet34", 21_797_672),
            ("resnet50", 25_557_032),
            ("resnet152", 60_192_808),
        ] {
            let network = ImageNet::named(name, 64, Activation::Silu).expect("known");
            let graph = network.graph(1).expect("builds");
            let of = |op: &Op<Nonlinearity>| match op {
                Op::Conv2d(c) => c.weight.values().len(),
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
    }
}
