//! Losses and gradients of blocks as PyTorch computes them: `training/pytorch_gradients.py` wrote `golden/blocks.json`.

use approx::Activation;
use nn::{
    Attention, AttentionScheme, BatchNorm, Conv2d, Graph, Mask, NodeId, Nonlinearity, Norm,
    NormKind, Op, Padding, Parameter, Rearrange, Shape, format::onnx,
};
use std::collections::HashMap;
use train::mode::Mode;
use train::{Model, Parameterization};

const BATCH: usize = 3;

/// As the script's.
fn numbers(seed: usize, count: usize, bound: f64) -> Vec<f32> {
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f64 / 504.5 - 1.0;
    (0..count).map(|i| (bound * number(i)) as f32).collect()
}

/// A convolution's output channels, kernel, groups, stride, and whether it has a bias.
#[derive(Clone, Copy)]
struct Shaped(usize, usize, usize, usize, bool);

struct Block {
    network: nn::NetworkBuilder<Nonlinearity>,
    seed: usize,
}

impl Block {
    fn parameter(&mut self, name: &str, shape: &[usize], bound: f64, centre: f32) -> Parameter {
        let values = numbers(self.seed, shape.iter().product(), bound);
        self.seed += 1;
        let values: Vec<f32> = values.iter().map(|v| centre + v).collect();
        Parameter::new(name, shape.to_vec(), values).expect("finite")
    }

    fn add(&mut self, name: &str, op: Op<Nonlinearity>, inputs: &[NodeId]) -> NodeId {
        self.network.add(name, op, inputs).expect("fits")
    }

    fn channels(&self, x: NodeId) -> usize {
        self.network.shape(x).dims()[0]
    }

    fn conv(&mut self, name: &str, x: NodeId, shape: Shaped) -> NodeId {
        let Shaped(out, kernel, groups, stride, bias) = shape;
        let weight = [out, self.channels(x) / groups, kernel, kernel];
        let mut op = Conv2d::new(self.parameter(name, &weight, 0.5, 0.0));
        op.bias = bias.then(|| self.parameter(name, &[out], 0.3, 0.0));
        op.padding = match self.network.shape(x).as_image() {
            Some((_, 1, _)) => Padding::default(),
            _ => Padding::same(kernel / 2),
        };
        (op.groups, op.stride) = (groups, (stride, stride));
        self.add(name, Op::Conv2d(op), &[x])
    }

    fn pointwise(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        self.conv(name, x, Shaped(out, 1, 1, 1, true))
    }

    fn batch_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let n = self.channels(x);
        let all = |v: f32| Parameter::new(name, [n], vec![v; n]).expect("finite");
        let op = BatchNorm {
            scale: self.parameter(name, &[n], 0.3, 1.0),
            bias: self.parameter(name, &[n], 0.3, 0.0),
            mean: all(0.0),
            variance: all(1.0),
            epsilon: 1e-5,
        };
        self.add(name, Op::BatchNorm(op), &[x])
    }

    fn layer_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let n = self.channels(x);
        let op = Norm {
            kind: NormKind::Layer,
            scale: self.parameter(name, &[n], 0.3, 1.0),
            bias: Some(self.parameter(name, &[n], 0.3, 0.0)),
            epsilon: 1e-5,
        };
        self.add(name, Op::Norm(op), &[x])
    }

    fn act(&mut self, name: &str, f: Activation, x: NodeId) -> NodeId {
        self.add(name, Op::Elementwise(f.into()), &[x])
    }

    fn squeeze_and_excite(&mut self, x: NodeId) -> NodeId {
        let y = self.conv("conv", x, Shaped(8, 3, 1, 1, true));
        let s = self.add("mean", Op::GlobalAvgPool, &[y]);
        let s = self.pointwise("reduce", s, 3);
        let s = self.act("relu", Activation::Relu, s);
        let s = self.pointwise("expand", s, 8);
        let s = self.act("sigmoid", Activation::HardSigmoid, s);
        let spread = Rearrange {
            shape: self.network.shape(y),
            offsets: vec![(0..8).collect(), vec![0; 36]],
        };
        let s = self.add("spread", Op::Rearrange(spread), &[s]);
        let y = self.add("product", Op::Mul, &[y, s]);
        self.act("swish", Activation::HardSwish, y)
    }

    fn convnext(&mut self, x: NodeId) -> NodeId {
        let y = self.conv("depthwise", x, Shaped(8, 7, 8, 1, true));
        let y = self.layer_norm("norm", y);
        let y = self.pointwise("up", y, 32);
        let y = self.act("gelu", Activation::Gelu, y);
        let y = self.pointwise("down", y, 8);
        let y = self.conv("layer scale", y, Shaped(8, 1, 8, 1, false));
        self.add("sum", Op::Add, &[x, y])
    }

    fn inverted_bottleneck(&mut self, x: NodeId) -> NodeId {
        let y = self.conv("up", x, Shaped(16, 1, 1, 1, false));
        let y = self.batch_norm("norm1", y);
        let y = self.act("relu1", Activation::Relu6, y);
        let y = self.conv("depthwise", y, Shaped(16, 3, 16, 2, false));
        let y = self.batch_norm("norm2", y);
        let y = self.act("relu2", Activation::Relu6, y);
        let y = self.conv("down", y, Shaped(6, 1, 1, 1, false));
        self.batch_norm("norm3", y)
    }

    fn transformer(&mut self, x: NodeId) -> NodeId {
        let y = self.layer_norm("norm1", x);
        let qkv = ["queries", "keys", "values"].map(|name| self.pointwise(name, y, 16));
        let attention = Attention {
            heads: 2,
            kv_heads: 2,
            scale: 1.0 / 8f64.sqrt(),
            mask: Mask::FULL,
            scheme: AttentionScheme::Softmax,
        };
        let y = self.add("attention", Op::Attention(attention), &qkv);
        let y = self.pointwise("out", y, 16);
        let x = self.add("first sum", Op::Add, &[x, y]);
        let y = self.layer_norm("norm2", x);
        let y = self.pointwise("up", y, 32);
        let y = self.act("gelu", Activation::Gelu, y);
        let y = self.pointwise("down", y, 16);
        self.add("second sum", Op::Add, &[x, y])
    }
}

/// From `(n, c, h, w)` to `(n, h, w, c)`.
fn to_rows(x: &[f32], shape: Shape) -> Vec<f32> {
    let pixels = shape.len() / shape.dims()[0];
    let one = |x: &[f32]| -> Vec<f32> {
        let pixel = |p: usize| x.iter().skip(p).step_by(pixels).copied();
        (0..pixels).flat_map(pixel).collect()
    };
    x.chunks_exact(shape.len()).flat_map(one).collect()
}

#[derive(serde::Deserialize)]
struct Golden {
    loss: f64,
    gradients: HashMap<String, Vec<f32>>,
}

fn golden() -> HashMap<String, Golden> {
    serde_json::from_str(include_str!("golden/blocks.json")).expect("the script's")
}

/// The model after a step back from the script's loss, which must be `golden`'s.
fn stepped(name: &str, graph: Graph, golden: &Golden) -> Model {
    let shape = graph.input().shape();
    let mut model = Model::new(graph, Parameterization::Plain).expect("trains");
    let x = to_rows(&numbers(99, BATCH * shape.len(), 1.5), shape);
    let y = model.forward(x, BATCH, Mode::Train).to_vec();
    let loss: f64 = y.iter().map(|&y| f64::from(y).powi(2) / 2.0).sum();
    let off = (loss - golden.loss).abs() / golden.loss;
    assert!(off < 1e-5, "{name}: loss {loss}, PyTorch's {}", golden.loss);
    model.backward(y);
    model
}

/// Holds the gradient of the parameter of this name against PyTorch's, whose values have other places.
fn agrees(model: &Model, name: &str, golden: (&Golden, &str), place: impl Fn(usize) -> usize) {
    let (golden, theirs) = golden;
    let p = model.parameters.iter().find(|p| p.name == name);
    let (p, expected) = (p.expect(name), &golden.gradients[theirs]);
    let all = golden.gradients.values().flatten();
    let scale = all.fold(0.0f32, |m, v| m.max(v.abs()));
    assert_eq!(p.gradient.len(), expected.len(), "{theirs}");
    for (i, e) in expected.iter().enumerate() {
        let g = p.gradient[place(i)];
        assert!(
            (g - e).abs() < 2e-5 * scale,
            "{theirs}[{i}]: {g}, PyTorch's {e} (largest {scale})"
        );
    }
}

/// (O, C, Kh, Kw) in PyTorch, (Kh, Kw, C, O) here.
fn of_convolution(shape: &[usize]) -> impl Fn(usize) -> usize {
    let (outputs, channels, taps) = (shape[0], shape[1], shape[2] * shape[3]);
    move |i| {
        let (o, rest) = (i / (taps * channels), i % (taps * channels));
        (rest % taps * channels + rest / taps) * outputs + o
    }
}

/// (C, O, Kh, Kw) in PyTorch, (Kh, Kw, C, O) here, taps from the end.
fn of_transposed(shape: &[usize]) -> impl Fn(usize) -> usize {
    let (outputs, channels, taps) = (shape[0], shape[1], shape[2] * shape[3]);
    move |i| {
        let (c, o, tap) = (i / taps / outputs, i / taps % outputs, i % taps);
        ((taps - 1 - tap) * channels + c) * outputs + o
    }
}

#[test]
fn blocks_have_the_gradients_that_pytorch_gives() {
    type Build = fn(&mut Block, NodeId) -> NodeId;
    let blocks: [(&str, Shape, Build); 4] = [
        (
            "squeeze and excite",
            Shape::image(5, 6, 6),
            Block::squeeze_and_excite,
        ),
        ("convnext", Shape::image(8, 6, 7), Block::convnext),
        (
            "inverted bottleneck",
            Shape::image(6, 7, 7),
            Block::inverted_bottleneck,
        ),
        ("transformer", Shape::image(16, 1, 7), Block::transformer),
    ];
    for (name, shape, build) in blocks {
        let mut b = Block {
            network: Graph::builder(),
            seed: 1,
        };
        let x = b.network.input("x", shape).expect("fits");
        let y = build(&mut b, x);
        let graph = b.network.finish(y).expect("a network");
        let golden = &golden()[name];
        let model = stepped(name, graph, golden);
        assert_eq!(model.parameters.len(), golden.gradients.len(), "{name}");
        for p in &model.parameters {
            let node = p.name.rsplit_once('.').map_or("", |(node, _)| node);
            match model.template().find(node).map(nn::Node::op) {
                Some(Op::Conv2d(c)) if p.name.ends_with(".weight") => {
                    let place = of_convolution(c.weight.shape());
                    agrees(&model, &p.name, (golden, &p.name), place);
                }
                _ => agrees(&model, &p.name, (golden, &p.name), |i| i),
            }
        }
    }
}

/// Transposed convolutions, Resize, Split, Concat, norms over groups and places and their activations, which the importer writes in other operators. The
/// gradient of the first convolution is made of those of all that lies behind it; what a norm's scales are imported as is not trained.
#[test]
fn imported_blocks_have_the_gradients_that_pytorch_gives() {
    let u_net = &include_bytes!("golden/u-net.onnx")[..];
    let norms = &include_bytes!("golden/norms.onnx")[..];
    let mut compared = 0;
    for (name, bytes, layers) in [
        (
            "u-net",
            u_net,
            [
                ("first", "/Conv"),
                ("down", "/Conv_1"),
                ("up", "/ConvTranspose"),
                ("last", "/Conv_2"),
            ],
        ),
        (
            "norms",
            norms,
            [
                ("first", "/Conv"),
                ("second", "/Conv_1"),
                ("third", "/Conv_2"),
                ("last", "/Conv_3"),
            ],
        ),
    ] {
        let golden = &golden()[name];
        let model = stepped(name, onnx::from_bytes(bytes).expect("reads"), golden);
        for (theirs, node) in layers {
            let Some(Op::Conv2d(c)) = model.template().find(node).map(nn::Node::op) else {
                panic!("{name}: {node} is no convolution");
            };
            let (shape, weight) = (c.weight.shape(), format!("{theirs}.weight"));
            let (own, golden_weight) = (format!("{node}.weight"), (golden, weight.as_str()));
            match node.ends_with("Transpose") {
                true => agrees(&model, &own, golden_weight, of_transposed(shape)),
                false => agrees(&model, &own, golden_weight, of_convolution(shape)),
            }
            let bias = format!("{theirs}.bias");
            agrees(&model, &format!("{node}.bias"), (golden, &bias), |i| i);
            compared += 2;
        }
        let scales = golden.gradients.keys().filter(|k| {
            let norm = k.split('.').next().unwrap_or_default();
            ["groups", "places", "response"].contains(&norm)
        });
        assert_eq!(golden.gradients.len() - scales.count(), 8, "{name}");
    }
    assert_eq!(compared, 16);
}
