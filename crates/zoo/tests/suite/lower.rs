//! Adapted networks compute what their graphs compute with the same pieces, and nearly what the graphs compute without.

use crate::language::stories;
use crate::{Stream, assert_close};
use approx::Polynomial;
use nn::approximations::Approximations;
use nn::attention::{Denominator, Order};
use nn::calibrate::FitOptions;
use nn::lower::{Adapted, Numerator, Options, adapt, after_first, check, expand, fit};
use nn::{
    Attention, AttentionScheme, Boundary, Error, Graph, Mask, Norm, NormKind, Op, PowerSoftmax,
    Shape, Tensor, Unfold,
};
use zoo::architecture::Architecture;
use zoo::architecture::{gpt_neox, llama};
use zoo::language::LanguageModel;

const LENGTH: usize = 6;

pub(crate) fn tiny_llama() -> Architecture {
    Architecture::Llama(llama::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head: 2,
            vocabulary: 13,
            max_length: 16,
        },
        epsilon: 1e-2,
        base: 100.0,
        tied: true,
    })
}

pub(crate) fn tiny_neox() -> Architecture {
    Architecture::GptNeoX(gpt_neox::Config {
        sizes: zoo::blocks::Sizes {
            width: 12,
            hidden: 10,
            layers: 2,
            heads: 3,
            kv_heads: 3,
            head: 4,
            vocabulary: 13,
            max_length: 16,
        },
        epsilon: 1e-2,
        rotary_share: 0.5,
        base: 100.0,
        parallel: true,
        tied: false,
    })
}

pub(crate) fn model(architecture: Architecture) -> LanguageModel {
    let mut s = Stream::new(61);
    LanguageModel::new(architecture, |name, shape| {
        let p = s.parameter(shape);
        let gain = if shape.len() == 1 && name.ends_with("weight") {
            1.0
        } else {
            0.0
        };
        p.values().iter().map(|v| gain + 0.5 * v).collect()
    })
    .expect("fits")
}

/// Sequences that begin with token 1.
fn inputs(model: &LanguageModel, count: usize, length: usize) -> Vec<Tensor> {
    let vocabulary = model.architecture().sizes().vocabulary as u32;
    let mut state = 12345u32;
    let mut token = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocabulary
    };
    (0..count)
        .map(|_| {
            let tokens: Vec<u32> = (0..length)
                .map(|t| if t == 0 { 1 } else { token() })
                .collect();
            model.embed(&tokens).expect("known")
        })
        .collect()
}

fn begin(x: &Tensor) -> Vec<f64> {
    let width = x.shape().dims()[2];
    x.values().iter().step_by(width).copied().collect()
}

pub(crate) fn precise() -> Options {
    Options {
        bits: 20.0,
        activations: FitOptions {
            degree: 40,
            ..FitOptions::default()
        },
        ..Options::default()
    }
}

fn lowered(graph: &Graph, data: &[Tensor], options: &Options) -> Result<Adapted, Error> {
    adapt(graph, data, options)
}

/// The lowered network against the graph with the same pieces (to rounding) and without (to `error`, relative to the largest value).
fn compare(graph: &Graph, lowered: &Adapted, data: &[Tensor], error: f64) {
    let first = lowered.approximations.first;
    for x in data {
        let own = lowered
            .graph
            .evaluate(&after_first(x, first).expect("longer"))
            .expect("fits");
        let pieces = graph
            .evaluate_with(&lowered.approximations, x)
            .expect("fits");
        assert!(own.outside.is_empty() && pieces.outside.is_empty());
        let expected = after_first(&pieces.output, first).expect("longer");
        let size = expected.values().iter().fold(1.0f64, |m, v| m.max(v.abs()));
        assert_close(own.output.values(), expected.values(), 1e-9 * size);
        let exact = after_first(&graph.evaluate(x).expect("fits").output, first).expect("longer");
        assert_close(own.output.values(), exact.values(), error * size);
        assert!(
            exact != expected,
            "pieces are approximations, so equality would show that they were not used"
        );
    }
}

fn power(p: u32) -> PowerSoftmax {
    PowerSoftmax::new(p, 1e-2).expect("even")
}

#[test]
fn primitives_compute_the_same() {
    for architecture in [tiny_llama(), tiny_neox()] {
        let model = model(architecture);
        let data = inputs(&model, 12, LENGTH);
        let (carried, apart) = (Numerator::Carried, Numerator::Apart);
        for (p, over, numerators) in [
            (4, Denominator::Sum, [carried, apart]),
            (6, Denominator::Mean, [apart, carried]),
        ] {
            let scheme = AttentionScheme::Power(power(p).over(over));
            let graph = model.graph(LENGTH, scheme).expect("builds");
            let publics = [None, Some(begin(&data[0]))];
            for (public, numerator) in publics.into_iter().zip(numerators) {
                let options = Options {
                    begin: public,
                    numerator,
                    ..precise()
                };
                let lowered = lowered(&graph, &data, &options).expect("lowers");
                compare(&graph, &lowered, &data, 1e-3);
                assert!(lowered.graph.ranges().is_some());
                for node in lowered.graph.nodes() {
                    let primitive = matches!(
                        node.op(),
                        Op::Input(_)
                            | Op::Constant(..)
                            | Op::Conv2d(_)
                            | Op::Elementwise(_)
                            | Op::Add
                            | Op::Mul
                            | Op::Unfold(_)
                            | Op::Repeat(_)
                            | Op::Rotary(_)
                            | Op::Identity
                    );
                    assert!(primitive, "{} is {}", node.name(), node.op().name());
                }
            }
        }
    }
}

#[test]
fn coarse_pieces_compute_the_same() {
    let model = model(tiny_llama());
    let data = inputs(&model, 12, LENGTH);
    let scheme = AttentionScheme::Power(power(2));
    let graph = model.graph(LENGTH, scheme).expect("builds");
    for numerator in [Numerator::Carried, Numerator::Apart] {
        let options = Options {
            bits: 8.0,
            numerator,
            ..Options::default()
        };
        let lowered = lowered(&graph, &data, &options).expect("lowers");
        compare(&graph, &lowered, &data, 0.1);
    }
}

/// Attention of the input with itself behind a norm.
fn bare(channels: usize, length: usize, mask: Mask, p: u32) -> Graph {
    let mut b = Graph::builder();
    let x = b
        .input("x", Shape::image(channels, 1, length))
        .expect("valid");
    let norm = Norm {
        kind: NormKind::RootMeanSquare,
        scale: Stream::new(62).parameter(&[channels]),
        bias: None,
        epsilon: 0.1,
    };
    let x = b.add("norm", Op::Norm(norm), &[x]).expect("valid");
    let attention = Attention {
        heads: 2,
        kv_heads: 2,
        scale: 0.8,
        mask,
        scheme: AttentionScheme::Power(power(p).over(Denominator::Mean)),
    };
    let y = b
        .add("attention", Op::Attention(attention), &[x, x, x])
        .expect("valid");
    b.finish(y).expect("valid")
}

#[test]
fn every_mask_and_exponent() {
    let mut s = Stream::new(63);
    let data: Vec<Tensor> = (0..8)
        .map(|_| s.tensor(Shape::image(6, 1, LENGTH)))
        .collect();
    for order in [Order::Causal, Order::Full] {
        for valid in [None, Some(4), Some(1)] {
            for p in [2, 4, 6, 8, 10, 12] {
                let graph = bare(6, LENGTH, Mask { order, valid }, p);
                let lowered = lowered(&graph, &data, &precise()).expect("lowers");
                compare(&graph, &lowered, &data, 2e-5);
            }
        }
    }
    let public: Vec<Tensor> = data
        .iter()
        .map(|x| {
            let mut x = x.clone();
            for row in x.values_mut().chunks_mut(LENGTH) {
                row[0] = 0.3;
            }
            x
        })
        .collect();
    for valid in [None, Some(4)] {
        let mask = Mask {
            order: Order::Causal,
            valid,
        };
        let graph = bare(6, LENGTH, mask, 4);
        let options = Options {
            begin: Some(vec![0.3; 6]),
            ..precise()
        };
        let lowered = lowered(&graph, &public, &options).expect("lowers");
        assert_eq!(lowered.graph.input_shape(), Shape::image(6, 1, LENGTH - 1));
        compare(&graph, &lowered, &public, 2e-5);
        // an input that begins otherwise
        let e = adapt(&graph, &data, &options).expect_err("others");
        assert!(e.to_string().contains("public first token"), "{e}");
    }
}

#[test]
fn stories_lower() {
    let Some((bytes, _)) = stories() else { return };
    let model = LanguageModel::from_bytes(&bytes).expect("reads");
    let data = inputs(&model, 3, 10);
    // trained with softmax, so its scores are far too large for high powers; here they only have to be the same
    let power = PowerSoftmax::new(2, 1.0).expect("even");
    let scheme = AttentionScheme::Power(power.over(Denominator::Mean));
    let graph = model.graph(10, scheme).expect("builds");
    let options = Options {
        begin: Some(begin(&data[0])),
        bits: 16.0,
        ..precise()
    };
    let lowered = lowered(&graph, &data, &options).expect("lowers");
    compare(&graph, &lowered, &data, 0.05);
}

#[test]
fn refusals() {
    let model = model(tiny_llama());
    let data = inputs(&model, 6, LENGTH);
    let softmax = model
        .graph(LENGTH, AttentionScheme::Softmax)
        .expect("builds");
    let e = lowered(&softmax, &data, &Options::default()).expect_err("softmax");
    assert!(e.to_string().contains("take Power-Softmax"), "{e}");
    // known before there is any data
    assert_eq!(
        check(&softmax).expect_err("softmax").to_string(),
        e.to_string()
    );

    // a node without a piece
    let graph = model
        .graph(LENGTH, AttentionScheme::Power(power(4)))
        .expect("builds");
    check(&graph).expect("divides by powers");
    let e = expand(&graph, &Approximations::default(), None).expect_err("no pieces");
    assert!(
        matches!(&e, Error::NotLowered { node, .. } if node == "model.layers.0.input_layernorm"),
        "{e}"
    );

    // a budget that no program keeps
    let options = Options {
        bits: 20.0,
        budget: 2,
        ..Options::default()
    };
    let e = lowered(&graph, &data, &options).expect_err("two levels");
    assert!(
        matches!(&e, Error::Approximation { node, .. } if node == "model.layers.0.input_layernorm"),
        "{e}"
    );

    // intervals that other data leaves
    let (pieces, _) = fit(&graph, &data[..1], &Options::default()).expect("fits");
    let outside = data[1..]
        .iter()
        .map(|x| graph.evaluate_with(&pieces, x).expect("fits").outside.len())
        .sum::<usize>();
    assert!(outside > 0, "one sequence shows no intervals");
    let options = Options {
        bits: 3.0,
        margin: 0.0,
        activations: FitOptions {
            margin: 0.0,
            rounds: 0,
            degree: 2,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let e = lowered(&graph, &data, &options).expect_err("no room");
    assert!(matches!(e, Error::Exceeded { .. }), "{e}");

    // a public first token where positions are mixed otherwise, and without its embedding
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(2, 1, 3)).expect("valid");
    let unfold = Unfold {
        rows: 2,
        boundary: Boundary::Causal,
    };
    let x = b.add("unfold", Op::Unfold(unfold), &[x]).expect("valid");
    let mixing = b.finish(x).expect("valid");
    let pieces = Approximations {
        first: 1,
        ..Approximations::default()
    };
    let e = expand(&mixing, &pieces, Some(&[0.0, 0.0])).expect_err("mixes");
    assert!(e.to_string().contains("node unfold"), "{e}");
    assert!(expand(&mixing, &pieces, None).is_err());
    assert!(expand(&mixing, &pieces, Some(&[0.0])).is_err());
    assert!(expand(&mixing, &Approximations::default(), Some(&[0.0, 0.0])).is_err());
}

#[test]
fn affine_nodes_are_exact() {
    // what lowering relies on: a factor on a symmetric power of two is the factor
    let wide = (1u64 << 40) as f64;
    let p = Polynomial::from_monomial(&[0.1, -1.0 / 7.0], (-wide, wide)).expect("valid");
    for x in [1.0, 1e-9, 123.456, -7e5] {
        assert!((p.eval(x) - (0.1 - x / 7.0)).abs() <= 1e-15 * (0.1 + x.abs()));
    }
}
