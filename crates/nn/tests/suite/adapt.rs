//! One path from a trained network and data to a polynomial one, for every operator.

use crate::{Stream, assert_close};
use approx::Activation;
use polyveil_nn::attention::{AttentionScheme, Mask, PowerSoftmax, Undivided};
use polyveil_nn::calibrate::FitOptions;
use polyveil_nn::lower::{Adapted, Options, Outliers, adapt};
use polyveil_nn::{
    Attention, Conv2d, Graph, Linear, NodeId, Nonlinearity, Norm, NormKind, Op, Padding, Shape,
    Tensor,
};

type Builder = polyveil_nn::NetworkBuilder<Nonlinearity>;

fn inputs(shape: Shape, count: usize) -> Vec<Tensor> {
    let mut random = Stream::new(count as u64);
    (0..count).map(|_| random.tensor(shape)).collect()
}

fn precise() -> Options {
    Options {
        bits: 20.0,
        activations: FitOptions {
            degree: 40,
            ..FitOptions::default()
        },
        ..Options::default()
    }
}

/// The polynomial network computes what the network does, and says in what ranges.
fn agree(graph: &Graph, adapted: &Adapted, data: &[Tensor], tolerance: f64) {
    assert!(adapted.outside.is_empty());
    assert!(adapted.graph.ranges().is_some());
    for x in data {
        let (a, b) = (
            graph.evaluate(x).expect("fits").output,
            adapted.graph.evaluate(x).expect("fits"),
        );
        assert!(b.outside.is_empty());
        assert_close(a.values(), b.output.values(), tolerance);
    }
}

fn convolution(
    random: &mut Stream,
    from: usize,
    to: usize,
    kernel: (usize, usize),
) -> Op<Nonlinearity> {
    Op::Conv2d(Conv2d {
        padding: Padding {
            top: kernel.0 / 2,
            bottom: kernel.0 / 2,
            left: kernel.1 / 2,
            right: kernel.1 / 2,
        },
        ..Conv2d::new(random.parameter(&[to, from, kernel.0, kernel.1]))
    })
}

fn norm(random: &mut Stream, channels: usize) -> Op<Nonlinearity> {
    Op::Norm(Norm {
        kind: NormKind::Layer,
        scale: random.parameter(&[channels]),
        bias: Some(random.parameter(&[channels])),
        epsilon: 0.1,
    })
}

fn dense(random: &mut Stream, from: usize, to: usize) -> Op<Nonlinearity> {
    Op::Linear(Linear {
        weight: random.parameter(&[to, from]),
        bias: Some(random.parameter(&[to])),
    })
}

fn add(b: &mut Builder, name: &str, op: Op<Nonlinearity>, inputs: &[NodeId]) -> NodeId {
    b.add(name, op, inputs).expect("valid")
}

fn silu() -> Op<Nonlinearity> {
    Op::Elementwise(Activation::Silu.into())
}

#[test]
fn activations_alone() {
    let mut random = Stream::new(1);
    let mut b = Graph::builder();
    let x = b.input("x", Shape::Vector(2)).expect("valid");
    let y = add(&mut b, "dense", dense(&mut random, 2, 2), &[x]);
    let y = add(&mut b, "act", silu(), &[y]);
    let graph = b.finish(y).expect("valid");
    let data = inputs(Shape::Vector(2), 500);
    let adapted = adapt(&graph, &data, &Options::default()).expect("fits");
    assert_eq!(adapted.fits[0].approximation.polynomial.depth(), 4);
    agree(&graph, &adapted, &data, 1e-3);
    let options = Options {
        activations: FitOptions {
            degree: 7,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let small = adapt(&graph, &data, &options).expect("fits");
    assert!(small.fits[0].approximation.polynomial.degree() < 15);
    // what stands in place of functions may be given
    let options = Options {
        given: Some(small.approximations.clone()),
        ..Options::default()
    };
    let again = adapt(&graph, &data, &options).expect("fits");
    assert_eq!(again.graph, small.graph);
    assert!(again.fits.is_empty());
}

#[test]
fn a_convolutional_network_with_layer_norms() {
    let mut random = Stream::new(2);
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(2, 6, 5)).expect("valid");
    let y = add(
        &mut b,
        "conv1",
        convolution(&mut random, 2, 4, (3, 3)),
        &[x],
    );
    let y = add(&mut b, "norm1", norm(&mut random, 4), &[y]);
    let y = add(&mut b, "act1", silu(), &[y]);
    let z = add(
        &mut b,
        "conv2",
        convolution(&mut random, 4, 4, (3, 3)),
        &[y],
    );
    let y = add(&mut b, "sum", Op::Add, &[y, z]);
    let y = add(&mut b, "pool", Op::GlobalAvgPool, &[y]);
    let y = add(&mut b, "flatten", Op::Flatten, &[y]);
    // over the features of a vector, too
    let y = add(&mut b, "norm2", norm(&mut random, 4), &[y]);
    let y = add(&mut b, "dense", dense(&mut random, 4, 3), &[y]);
    let graph = b.finish(y).expect("valid");
    let data = inputs(graph.input().shape(), 40);
    let adapted = adapt(&graph, &data, &precise()).expect("adapts");
    assert_eq!(adapted.approximations.by_node.len(), 3);
    agree(&graph, &adapted, &data, 1e-4);
}

fn attention(scheme: AttentionScheme) -> Op<Nonlinearity> {
    Op::Attention(Attention {
        heads: 2,
        kv_heads: 2,
        scale: 0.7,
        mask: Mask::FULL,
        scheme,
    })
}

fn transformer(scheme: AttentionScheme) -> Graph {
    const WIDTH: usize = 4;
    let mut random = Stream::new(3);
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(WIDTH, 1, 6)).expect("valid");
    let y = add(
        &mut b,
        "mixed",
        convolution(&mut random, WIDTH, WIDTH, (1, 3)),
        &[x],
    );
    let y = add(&mut b, "norm", norm(&mut random, WIDTH), &[y]);
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let op = convolution(&mut random, WIDTH, WIDTH, (1, 1));
        add(&mut b, name, op, &[y])
    });
    let y = add(&mut b, "attention", attention(scheme), &[q, k, v]);
    let y = add(&mut b, "residual", Op::Add, &[x, y]);
    let z = add(
        &mut b,
        "wide",
        convolution(&mut random, WIDTH, WIDTH, (1, 5)),
        &[y],
    );
    let y = add(&mut b, "act", silu(), &[z]);
    b.finish(y).expect("valid")
}

#[test]
fn a_transformer_with_a_convolution() {
    let power = PowerSoftmax::new(2, 0.5).expect("even");
    let graph = transformer(AttentionScheme::Power(power));
    let data = inputs(graph.input().shape(), 40);
    let adapted = adapt(&graph, &data, &precise()).expect("adapts");
    assert_eq!(adapted.approximations.by_node.len(), 3);
    agree(&graph, &adapted, &data, 1e-3);
}

/// A scheme is one file and one line: this one has no division, so no program stands in for it.
#[test]
fn another_attention_scheme() {
    let scheme = AttentionScheme::Undivided(Undivided::new(2).expect("even"));
    let stored = serde_json::to_string(&scheme).expect("plain");
    assert_eq!(stored, "{\"undivided\":2}");
    assert_eq!(
        serde_json::from_str::<AttentionScheme>(&stored).expect("its own"),
        scheme
    );
    assert!(serde_json::from_str::<AttentionScheme>("{\"undivided\":3}").is_err());
    let graph = transformer(scheme);
    let data = inputs(graph.input().shape(), 40);
    let adapted = adapt(&graph, &data, &precise()).expect("adapts");
    // the norm's root and the activation
    assert_eq!(adapted.approximations.by_node.len(), 2);
    // weights don't sum to 1, so the activation's interval is wide
    agree(&graph, &adapted, &data, 1e-2);
    let e = adapt(&transformer(AttentionScheme::Softmax), &data, &precise()).expect_err("no form");
    assert!(e.to_string().contains("take Power-Softmax"), "{e}");
}

#[test]
fn outliers_are_refused_left_out_or_kept() {
    let mut random = Stream::new(4);
    let mut b = Graph::builder();
    let x = b.input("x", Shape::Vector(2)).expect("valid");
    let y = add(&mut b, "dense", dense(&mut random, 2, 2), &[x]);
    let y = add(&mut b, "act", silu(), &[y]);
    let graph = b.finish(y).expect("valid");
    let data = inputs(Shape::Vector(2), 50);
    let given = adapt(&graph, &data, &precise())
        .expect("fits")
        .approximations;
    let mut more = data.clone();
    more.insert(
        7,
        Tensor::new(Shape::Vector(2), vec![9.0, -9.0]).expect("fits"),
    );
    let options = |outliers| Options {
        given: Some(given.clone()),
        outliers,
        ..Options::default()
    };
    let e = adapt(&graph, &more, &options(Outliers::LeaveOut(0))).expect_err("outside");
    assert!(
        matches!(&e, polyveil_nn::Error::Exceeded { node, outside: 1, all: 51, .. } if node == "act"),
        "{e}"
    );
    let left_out = adapt(&graph, &more, &options(Outliers::LeaveOut(1))).expect("one may");
    let kept = adapt(&graph, &more, &options(Outliers::Keep)).expect("all may");
    for adapted in [&left_out, &kept] {
        assert_eq!(adapted.outside.len(), 1);
        assert_eq!(adapted.outside[0].0, 7);
    }
    let without = adapt(&graph, &data, &options(Outliers::LeaveOut(0))).expect("none does");
    assert_eq!(left_out.graph, without.graph);
    let input = |a: &Adapted| a.graph.range(a.graph.input().id()).expect("calibrated");
    assert!(input(&left_out).max < 2.0 && input(&kept).max == 9.0);
}
