//! A transformer's operators against their definitions, their files, and what no polynomial network holds.

use crate::{Stream, assert_close};
use approx::Polynomial;
use polyveil_nn::attention::{Denominator, Order, Scaling};
use polyveil_nn::format::artefact;
use polyveil_nn::{
    Attention, AttentionScheme, Boundary, Conv2d, Error, Graph, Mask, Metadata, Network,
    Nonlinearity, Norm, NormKind, Op, Pairing, Parameter, PolyGraph, PowerSoftmax, Repeat, Rotary,
    Shape, Tensor, Unfold,
};

fn run(op: Op<Nonlinearity>, x: &Tensor) -> Tensor {
    let mut b = Graph::builder();
    let input = b.input("x", x.shape()).expect("valid");
    let y = b.add("y", op, &[input]).expect("valid");
    let graph = b.finish(y).expect("valid");
    graph.evaluate(x).expect("fits").output
}

fn power() -> PowerSoftmax {
    PowerSoftmax::new(4, 1e-3).expect("even")
}

fn rotary(pairing: Pairing, head: usize, rotated: usize, first: usize) -> Rotary {
    Rotary {
        head,
        rotated,
        base: 100.0,
        pairing,
        first,
    }
}

#[test]
fn norms() {
    let mut s = Stream::new(31);
    for shape in [
        Shape::image(6, 1, 5),
        Shape::image(4, 3, 2),
        Shape::Vector(7),
    ] {
        for kind in [NormKind::Layer, NormKind::RootMeanSquare] {
            let channels = shape.dims()[0];
            let area = shape.len() / channels;
            let x = s.tensor(shape);
            let norm = Norm {
                kind,
                scale: s.parameter(&[channels]),
                bias: (kind == NormKind::Layer).then(|| s.parameter(&[channels])),
                epsilon: 1e-2,
            };
            let mut expected = vec![0.0; x.values().len()];
            for t in 0..area {
                let value = |c: usize| x.values()[c * area + t];
                let mean = match kind {
                    NormKind::Layer => (0..channels).map(value).sum::<f64>() / channels as f64,
                    NormKind::RootMeanSquare => 0.0,
                };
                let variance = (0..channels)
                    .map(|c| (value(c) - mean) * (value(c) - mean))
                    .sum::<f64>()
                    / channels as f64;
                for c in 0..channels {
                    expected[c * area + t] = (value(c) - mean) / (variance + 1e-2).sqrt()
                        * f64::from(norm.scale.values()[c])
                        + norm.bias.as_ref().map_or(0.0, |b| f64::from(b.values()[c]));
                }
            }
            assert_close(run(Op::Norm(norm), &x).values(), &expected, 1e-12);
        }
    }
}

#[test]
fn rotary_turns_pairs() {
    let mut s = Stream::new(32);
    let (heads, head, rotated, length, first) = (2, 6, 4, 5, 3);
    let x = s.tensor(Shape::image(heads * head, 1, length));
    for pairing in [Pairing::Adjacent, Pairing::Half] {
        let y = run(Op::Rotary(rotary(pairing, head, rotated, first)), &x);
        let mut expected = x.values().to_vec();
        for h in 0..heads {
            for (k, pair) in [[(0, 1), (0, 2)], [(2, 3), (1, 3)]].iter().enumerate() {
                let (a, b) = pair[usize::from(pairing == Pairing::Half)];
                for t in 0..length {
                    let angle = (first + t) as f64 / 100f64.powf(k as f64 / 2.0);
                    let (sin, cos) = angle.sin_cos();
                    let at = |c: usize| (h * head + c) * length + t;
                    let (re, im) = (x.values()[at(a)], x.values()[at(b)]);
                    expected[at(a)] = re * cos - im * sin;
                    expected[at(b)] = re * sin + im * cos;
                }
            }
        }
        assert_close(y.values(), &expected, 1e-12);
    }
}

struct Heads {
    heads: usize,
    kv_heads: usize,
    width: usize,
    length: usize,
}

/// One graph whose q, k and v are three slices of the input, so that all three are inputs.
fn attend(a: Attention, h: &Heads, x: &Tensor) -> Tensor {
    let mut b = Graph::builder();
    let input = b.input("x", x.shape()).expect("valid");
    let (q, kv) = (h.heads * h.width, h.kv_heads * h.width);
    let mut parts = Vec::new();
    for (name, begin, end) in [("q", 0, q), ("k", q, q + kv), ("v", q + kv, q + 2 * kv)] {
        let all = |end| polyveil_nn::AxisSlice {
            begin: 0,
            end,
            step: 1,
        };
        let channels = polyveil_nn::AxisSlice {
            begin,
            end,
            step: 1,
        };
        let slice = polyveil_nn::Slice {
            axes: vec![channels, all(1), all(h.length)],
        };
        parts.push(b.add(name, Op::Slice(slice), &[input]).expect("valid"));
    }
    let y = b.add("y", Op::Attention(a), &parts).expect("valid");
    let graph = b.finish(y).expect("valid");
    graph.evaluate(x).expect("fits").output
}

#[test]
fn attention() {
    let mut s = Stream::new(33);
    let h = Heads {
        heads: 4,
        kv_heads: 2,
        width: 3,
        length: 6,
    };
    let n = h.length;
    let x = s.tensor(Shape::image((4 + 2 * 2) * 3, 1, n));
    let at = |c: usize, t: usize| x.values()[c * n + t];
    for order in [Order::Causal, Order::Full] {
        for valid in [None, Some(4)] {
            for scheme in [
                AttentionScheme::Softmax,
                AttentionScheme::Power(power()),
                AttentionScheme::Power(power().over(Denominator::Mean).scaled(Scaling::None)),
            ] {
                let a = Attention {
                    heads: 4,
                    kv_heads: 2,
                    scale: 0.7,
                    mask: Mask { order, valid },
                    scheme,
                };
                let mut expected = vec![0.0; 12 * n];
                for head in 0..4 {
                    for i in 0..n {
                        let sees =
                            |j: usize| (order == Order::Full || j <= i) && j < valid.unwrap_or(n);
                        let score = |j: usize| {
                            0.7 * (0..3)
                                .map(|c| at(head * 3 + c, i) * at(12 + head / 2 * 3 + c, j))
                                .sum::<f64>()
                        };
                        let seen: Vec<usize> = (0..n).filter(|&j| sees(j)).collect();
                        let raw: Vec<f64> = seen
                            .iter()
                            .map(|&j| match scheme {
                                AttentionScheme::Softmax => score(j).exp(),
                                _ => score(j).powi(4),
                            })
                            .collect();
                        let epsilon = match scheme {
                            AttentionScheme::Power(p) if p.denominator() == Denominator::Mean => {
                                1e-3 * seen.len() as f64
                            }
                            AttentionScheme::Power(_) => 1e-3,
                            _ => 0.0,
                        };
                        let sum = epsilon + raw.iter().sum::<f64>();
                        for c in 0..3 {
                            expected[(head * 3 + c) * n + i] = seen
                                .iter()
                                .zip(&raw)
                                .map(|(&j, w)| w / sum * at(18 + head / 2 * 3 + c, j))
                                .sum();
                        }
                    }
                }
                assert_close(attend(a, &h, &x).values(), &expected, 1e-12);
            }
        }
    }
}

#[test]
fn unfold_and_repeat() {
    let x = Tensor::new(Shape::image(2, 1, 4), (1..=8).map(f64::from).collect()).expect("fits");
    let unfold = |boundary| run(Op::Unfold(Unfold { rows: 3, boundary }), &x);
    let more = Unfold {
        rows: 6,
        boundary: Boundary::Causal,
    };
    let more = run(Op::Unfold(more), &x);
    assert_eq!(
        more.values()[12..24],
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    );
    let causal = unfold(Boundary::Causal);
    assert_eq!(causal.shape(), Shape::image(2, 3, 4));
    assert_eq!(
        causal.values()[..12],
        [1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 1.0, 2.0]
    );
    assert_eq!(
        unfold(Boundary::Cyclic).values()[12..],
        [5.0, 6.0, 7.0, 8.0, 8.0, 5.0, 6.0, 7.0, 7.0, 8.0, 5.0, 6.0]
    );
    let repeated = run(Op::Repeat(Repeat { rows: 2 }), &x);
    assert_eq!(repeated.shape(), Shape::image(2, 2, 4));
    assert_eq!(
        repeated.values()[..8],
        [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]
    );
}

fn norm(channels: usize) -> Norm {
    Norm {
        kind: NormKind::Layer,
        scale: Stream::new(34).parameter(&[channels]),
        bias: Some(Stream::new(35).parameter(&[channels])),
        epsilon: 1e-5,
    }
}

fn attention_of(scheme: AttentionScheme) -> Attention {
    Attention {
        heads: 2,
        kv_heads: 1,
        scale: 0.5,
        mask: Mask {
            order: Order::Causal,
            valid: Some(3),
        },
        scheme,
    }
}

fn small() -> Graph {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(4, 1, 5)).expect("valid");
    let x = b.add("norm", Op::Norm(norm(4)), &[x]).expect("valid");
    let q = rotary(Pairing::Half, 2, 2, 1);
    let q = b.add("q", Op::Rotary(q), &[x]).expect("valid");
    let weight = Stream::new(36).parameter(&[2, 4, 1, 1]);
    let k = b
        .add("k", Op::Conv2d(Conv2d::new(weight)), &[x])
        .expect("valid");
    let scheme = AttentionScheme::Power(power().over(Denominator::Mean).scaled(Scaling::None));
    let y = b
        .add("y", Op::Attention(attention_of(scheme)), &[q, k, k])
        .expect("valid");
    let y = b
        .add("repeat", Op::Repeat(Repeat { rows: 2 }), &[y])
        .expect("valid");
    b.finish(y).expect("valid")
}

fn lowered() -> PolyGraph {
    let mut b = Network::<Polynomial>::builder();
    let x = b.input("x", Shape::image(4, 1, 5)).expect("valid");
    let x = b
        .add("r", Op::Rotary(rotary(Pairing::Adjacent, 4, 2, 0)), &[x])
        .expect("valid");
    let unfold = Unfold {
        rows: 5,
        boundary: Boundary::Cyclic,
    };
    let y = b.add("u", Op::Unfold(unfold), &[x]).expect("valid");
    b.finish(y).expect("valid").into()
}

#[test]
fn files_keep_sequences() {
    let graph = small();
    let bytes = artefact::graph_to_bytes(&graph, &Metadata::default()).expect("writes");
    let (read, _) = artefact::graph_from_bytes(&bytes).expect("reads");
    assert_eq!(read, graph);
    let bytes = artefact::to_bytes(&lowered()).expect("writes");
    assert_eq!(artefact::from_bytes(&bytes).expect("reads"), lowered());
    // an odd exponent is refused in files; of a version without checksums, so that it is the exponent that is refused
    let mut bytes = artefact::graph_to_bytes(&graph, &Metadata::default()).expect("writes");
    for (from, to) in [
        (r#""polyveil":"8""#, r#""polyveil":"7""#),
        (r#"exponent\":4"#, r#"exponent\":3"#),
    ] {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        let at = at.expect("there");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    let e = artefact::graph_from_bytes(&bytes).expect_err("refused");
    assert!(e.to_string().contains("even exponent"), "{e}");
}

#[test]
fn polynomial_networks_refuse_divisions() {
    let e = PolyGraph::try_from(small()).expect_err("a norm");
    assert!(
        matches!(&e, Error::NotLowered { node, operator } if node == "norm" && operator == "LayerNormalization"),
        "{e}"
    );
    let mut b = Network::<Polynomial>::builder();
    let x = b.input("x", Shape::image(4, 1, 5)).expect("valid");
    let scheme = AttentionScheme::Power(power());
    let k = b
        .add(
            "k",
            Op::Conv2d(Conv2d::new(Stream::new(1).parameter(&[2, 4, 1, 1]))),
            &[x],
        )
        .expect("valid");
    let e = b
        .add("a", Op::Attention(attention_of(scheme)), &[x, k, k])
        .expect_err("refused");
    assert!(
        matches!(&e, Error::NotLowered { node, .. } if node == "a"),
        "{e}"
    );
}

#[test]
fn every_refusal_says_why() {
    let refused = |op: Op<Nonlinearity>, shape: Shape, why: &str| {
        let mut b = Graph::builder();
        let x = b.input("x", shape).expect("valid");
        let inputs = vec![x; op.arity()];
        let e = b.add("y", op, &inputs).expect_err(why).to_string();
        assert!(e.contains(why), "{e}");
    };
    let row = Shape::image(4, 1, 5);
    refused(Op::Norm(norm(3)), row, "scale must have shape [4]");
    let zero = Norm {
        epsilon: 0.0,
        ..norm(4)
    };
    refused(Op::Norm(zero), row, "epsilon is 0");
    let r = rotary(Pairing::Half, 2, 2, 0);
    refused(Op::Rotary(r), Shape::image(4, 2, 5), "needs a sequence");
    refused(Op::Rotary(Rotary { head: 3, ..r }), row, "must divide 4");
    refused(Op::Rotary(Rotary { head: 0, ..r }), row, "must divide 4");
    refused(Op::Rotary(Rotary { rotated: 1, ..r }), row, "even");
    refused(Op::Rotary(Rotary { rotated: 4, ..r }), row, "at most");
    refused(Op::Rotary(Rotary { base: 1.0, ..r }), row, "above 1");
    let far = Rotary {
        first: usize::MAX,
        ..r
    };
    refused(Op::Rotary(far), row, "too large");
    let a = Attention {
        kv_heads: 2,
        ..attention_of(AttentionScheme::Softmax)
    };
    let with = |change: fn(&mut Attention)| {
        let mut a = a;
        change(&mut a);
        Op::Attention(a)
    };
    refused(with(|a| a.kv_heads = 0), row, "must divide 2 heads");
    refused(with(|a| a.heads = 3), row, "must divide 3 heads");
    refused(with(|a| a.kv_heads = 1), row, "don't fit 4 and 4");
    refused(with(|a| a.scale = f64::NAN), row, "finite");
    refused(with(|a| a.mask.valid = Some(0)), row, "0 of 5 positions");
    refused(with(|a| a.mask.valid = Some(6)), row, "6 of 5 positions");
    refused(Op::Attention(a), Shape::Vector(4), "needs a sequence");
    let unfold = |rows| {
        Op::Unfold(Unfold {
            rows,
            boundary: Boundary::Cyclic,
        })
    };
    refused(unfold(0), row, "at least 1");
    refused(unfold(6), row, "at most the length 5");
    refused(unfold(1), Shape::image(4, 2, 5), "needs a sequence");
    refused(Op::Repeat(Repeat { rows: 0 }), row, "at least one row");
    let huge = Op::Repeat(Repeat {
        rows: usize::MAX / 2,
    });
    refused(huge, row, "larger than");
    // three different inputs
    let mut b = Graph::builder();
    let x = b.input("x", row).expect("valid");
    let wide = b
        .add("wide", Op::Repeat(Repeat { rows: 1 }), &[x])
        .expect("valid");
    let weight = Parameter::new("w", [2, 4, 1, 1], vec![1.0; 8]).expect("finite");
    let half = b
        .add("half", Op::Conv2d(Conv2d::new(weight)), &[x])
        .expect("valid");
    let e = b
        .add("y", Op::Attention(a), &[x, wide, half])
        .expect_err("refused");
    assert!(e.to_string().contains("must have one shape"), "{e}");
}
