//! Random networks for tests of what becomes of pictures.

use approx::Polynomial;
use nn::op::AvgPool;
use nn::{
    AxisSlice, Conv2d, Linear, Network, NetworkBuilder, NodeId, Op, Pad, Padding, Parameter,
    PolyGraph, Range, Shape, Slice,
};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

type Builder = NetworkBuilder<Polynomial>;

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn pick(&mut self, least: usize, most: usize) -> usize {
        least + self.next() as usize % (most - least + 1)
    }
    /// Some of them 0, many alike.
    fn parameter(&mut self, shape: &[usize]) -> Parameter {
        let mut value = || (self.pick(0, 8) as f32 - 4.0) / 8.0;
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
        Parameter::new("random", shape, values).expect("finite")
    }
    fn padding(&mut self, most: usize) -> Padding {
        Padding {
            top: self.pick(0, most),
            bottom: self.pick(0, most),
            left: self.pick(0, most),
            right: self.pick(0, most),
        }
    }
    fn convolution(&mut self, channels: usize) -> Conv2d {
        let groups = if channels.is_multiple_of(2) {
            self.pick(1, 2)
        } else {
            1
        };
        let kernel = [0; 2].map(|_| self.pick(1, 3));
        let out = groups * self.pick(1, 4);
        let weight = self.parameter(&[out, channels / groups, kernel[0], kernel[1]]);
        Conv2d {
            groups,
            stride: (self.pick(1, 2), self.pick(1, 2)),
            dilation: (1, self.pick(1, 2)),
            padding: self.padding(2),
            bias: (self.pick(0, 1) == 1).then(|| self.parameter(&[out])),
            ..Conv2d::new(weight)
        }
    }

    /// A layer whose result has the places of its input, or fewer.
    fn layer(&mut self, b: &mut Builder, x: NodeId, shape: Shape) -> Option<NodeId> {
        let (channels, height, width) = shape.as_image()?;
        let op = match self.pick(0, 5) {
            0..=2 => Op::Conv2d(self.convolution(channels)),
            3 => {
                let kernel = (self.pick(1, 3), self.pick(1, 3));
                let padding = self.padding(kernel.0.min(kernel.1) - 1);
                Op::AvgPool(AvgPool {
                    kernel,
                    stride: (self.pick(1, 2), self.pick(1, 2)),
                    padding,
                    count_include_pad: self.pick(0, 1) == 1,
                })
            }
            4 => Op::Pad(Pad {
                channels: (self.pick(0, 2), self.pick(0, 2)),
                spatial: self.padding(1),
            }),
            _ => {
                let mut axis = |size: usize| {
                    let (begin, step) = (self.pick(0, 1).min(size - 1), self.pick(1, 2));
                    let end = size;
                    AxisSlice { begin, end, step }
                };
                Op::Slice(Slice {
                    axes: vec![axis(channels), axis(height), axis(width)],
                })
            }
        };
        b.add(format!("layer{}", self.next()), op, &[x]).ok()
    }

    /// A network of pictures, its ranges made up.
    pub(crate) fn pictures(&mut self) -> PolyGraph {
        let mut b = Network::builder();
        let shape = Shape::image(self.pick(1, 4), self.pick(4, 17), self.pick(4, 17));
        let mut x = b.input("input", shape).expect("valid");
        for k in 0..self.pick(1, 3) {
            for _ in 0..self.pick(1, 3) {
                let shape = b.shape(x);
                x = self.layer(&mut b, x, shape).unwrap_or(x);
            }
            let p = Polynomial::from_monomial(&[0.2, 0.5, 0.3], (-9.0, 9.0)).expect("valid");
            let act = Op::Elementwise(p);
            x = b.add(format!("act{k}"), act, &[x]).expect("valid");
            if self.pick(0, 1) == 1 {
                let channels = b.shape(x).as_image().map_or(1, |s| s.0);
                let weight = self.parameter(&[channels, channels, 3, 3]);
                let conv = Conv2d {
                    padding: Padding::same(1),
                    ..Conv2d::new(weight)
                };
                let name = format!("beside{k}");
                let y = b.add(&name, Op::Conv2d(conv), &[x]).expect("valid");
                x = b.add(format!("sum{k}"), Op::Add, &[x, y]).expect("valid");
            }
        }
        if self.pick(0, 2) == 0 {
            x = b.add("mean", Op::GlobalAvgPool, &[x]).expect("valid");
        }
        x = b.add("flat", Op::Flatten, &[x]).expect("valid");
        let (from, to) = (b.shape(x).len(), self.pick(1, 5));
        let dense = Linear {
            weight: self.parameter(&[to, from]),
            bias: None,
        };
        x = b.add("dense", Op::Linear(dense), &[x]).expect("valid");
        let graph = PolyGraph::from(b.finish(x).expect("valid"));
        let range = Range {
            min: -9.0,
            max: 9.0,
        };
        let ranges = vec![range; graph.nodes().len()];
        graph.with_ranges(ranges).expect("one each")
    }
}
