//! A transformer of random weights in the shape of Llama's, with Power-Softmax of power 4.

use super::{Builder, Random};
use approx::Activation;
use nn::attention::{AttentionScheme, Mask, Order, PowerSoftmax};
use nn::calibrate::FitOptions;
use nn::lower::{Numerator, Options, adapt, after_first};
use nn::{
    Attention, Graph, Network, NodeId, Norm, NormKind, Op, Pairing, PolyGraph, Rotary, Shape,
    Tensor,
};

/// Its shape, and how it is lowered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) hidden: usize,
    pub(crate) length: usize,
    /// 0: the answer is the last layer's.
    pub(crate) vocabulary: usize,
    /// What is added to attention's sums.
    pub(crate) epsilon: f64,
    /// Bits of divisions and roots.
    pub(crate) bits: f64,
    /// Degree of SiLU.
    pub(crate) degree: usize,
    pub(crate) numerator: Numerator,
    /// Whether the first token is public, and not encrypted.
    pub(crate) public: bool,
    /// Tokens that are not padding, if not all.
    pub(crate) valid: Option<usize>,
}

/// One layer of eight channels.
#[allow(dead_code)]
pub(crate) const SMALL: Size = Size {
    layers: 1,
    width: 8,
    heads: 2,
    kv_heads: 2,
    hidden: 12,
    length: 8,
    vocabulary: 10,
    epsilon: 0.1,
    bits: 10.0,
    degree: 7,
    numerator: Numerator::Apart,
    public: false,
    valid: None,
};

/// The network, some inputs of it, and its polynomial twin, calibrated on them.
pub(crate) fn transformer(seed: u64, size: Size, inputs: usize) -> (PolyGraph, Vec<Tensor>) {
    let mut random = Random(seed);
    let graph = network(&mut random, size);
    lowered(&graph, &mut random, size, inputs)
}

/// The same of one block's attention alone.
#[allow(dead_code)]
pub(crate) fn attention(seed: u64, size: Size, inputs: usize) -> (PolyGraph, Vec<Tensor>) {
    let mut random = Random(seed);
    let mut b = Network::builder();
    let x = b
        .input("tokens", Shape::image(size.width, 1, size.length))
        .expect("valid");
    let x = attends(&mut b, &mut random, size, "", x);
    let graph = b.finish(x).expect("valid");
    lowered(&graph, &mut random, size, inputs)
}

fn lowered(
    graph: &Graph,
    random: &mut Random,
    size: Size,
    inputs: usize,
) -> (PolyGraph, Vec<Tensor>) {
    let mut inputs: Vec<Tensor> = (0..inputs)
        .map(|_| random.tensor(graph.input().shape()))
        .collect();
    let first =
        |x: &Tensor| -> Vec<f64> { x.values().iter().step_by(size.length).copied().collect() };
    let begin = size.public.then(|| first(&inputs[0]));
    for x in &mut inputs {
        if let Some(begin) = &begin {
            let rows = x.values_mut().chunks_mut(size.length);
            rows.zip(begin).for_each(|(row, &v)| row[0] = v);
        }
    }
    let options = Options {
        bits: size.bits,
        numerator: size.numerator,
        activations: FitOptions {
            degree: size.degree,
            ..FitOptions::default()
        },
        begin,
        ..Options::default()
    };
    let lowered = adapt(graph, &inputs, &options).expect("within reach");
    let hidden = usize::from(size.public);
    let encrypted = inputs
        .iter()
        .map(|x| after_first(x, hidden).expect("more tokens"));
    (lowered.graph, encrypted.collect())
}

fn mix(
    b: &mut Builder,
    random: &mut Random,
    name: &str,
    (from, to, size): (usize, usize, f64),
    x: NodeId,
) -> NodeId {
    let weight = random.parameter(&[to, from, 1, 1], size * (3.0 / from as f64).sqrt());
    b.add(name, Op::Conv2d(nn::Conv2d::new(weight)), &[x])
        .expect("valid")
}

fn norm(b: &mut Builder, random: &mut Random, name: &str, width: usize, x: NodeId) -> NodeId {
    let norm = Norm {
        kind: NormKind::RootMeanSquare,
        scale: random.positive(width),
        bias: None,
        epsilon: 1e-5,
    };
    b.add(name, Op::Norm(norm), &[x]).expect("valid")
}

/// Queries, keys and values of `n`, with rotary positions, and what attention makes of them.
fn attends(b: &mut Builder, random: &mut Random, size: Size, at: &str, n: NodeId) -> NodeId {
    let (width, head) = (size.width, size.width / size.heads);
    let kv = size.kv_heads * head;
    let rotary = Rotary {
        head,
        rotated: head,
        base: 10_000.0,
        pairing: Pairing::Adjacent,
        first: 0,
    };
    let attention = Attention {
        heads: size.heads,
        kv_heads: size.kv_heads,
        scale: 1.0 / (head as f64).sqrt(),
        mask: Mask {
            order: Order::Causal,
            valid: size.valid,
        },
        scheme: AttentionScheme::Power(PowerSoftmax::new(4, size.epsilon).expect("valid")),
    };
    let at = |part: &str| format!("{at}{part}");
    let q = mix(b, random, &at("q"), (width, width, 1.0), n);
    let q = b
        .add(at("q.turned"), Op::Rotary(rotary), &[q])
        .expect("valid");
    let k = mix(b, random, &at("k"), (width, kv, 1.0), n);
    let k = b
        .add(at("k.turned"), Op::Rotary(rotary), &[k])
        .expect("valid");
    let v = mix(b, random, &at("v"), (width, kv, 1.0), n);
    b.add(at("attention"), Op::Attention(attention), &[q, k, v])
        .expect("valid")
}

fn network(random: &mut Random, size: Size) -> Graph {
    let Size { width, hidden, .. } = size;
    let mut b = Network::builder();
    let mut x = b
        .input("tokens", Shape::image(width, 1, size.length))
        .expect("valid");
    for layer in 0..size.layers {
        let at = |part: &str| format!("layer{layer}.{part}");
        let n = norm(&mut b, random, &at("norm1"), width, x);
        let a = attends(&mut b, random, size, &at(""), n);
        let a = mix(&mut b, random, &at("out"), (width, width, 0.4), a);
        x = b.add(at("add1"), Op::Add, &[x, a]).expect("valid");
        let n = norm(&mut b, random, &at("norm2"), width, x);
        let gate = mix(&mut b, random, &at("gate"), (width, hidden, 0.8), n);
        let gate = b
            .add(
                at("silu"),
                Op::Elementwise(Activation::Silu.into()),
                &[gate],
            )
            .expect("valid");
        let up = mix(&mut b, random, &at("up"), (width, hidden, 0.8), n);
        let both = b.add(at("gated"), Op::Mul, &[gate, up]).expect("valid");
        let down = mix(&mut b, random, &at("down"), (hidden, width, 0.4), both);
        x = b.add(at("add2"), Op::Add, &[x, down]).expect("valid");
    }
    if size.vocabulary > 0 {
        let n = norm(&mut b, random, "norm", width, x);
        x = mix(&mut b, random, "logits", (width, size.vocabulary, 1.0), n);
    }
    b.finish(x).expect("valid")
}
