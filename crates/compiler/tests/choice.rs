//! Which parameters networks are compiled for where none are named, and what is said of it.

mod support;

use approx::{Activation, Polynomial};
use ckks::ParametersSpec;
use nn::{Network, Nonlinearity, Op, PolyGraph, Shape, Tensor};
use polyveil_compiler::{Error, Target, compile};
use runtime::VerifiedPlan;
use support::{Random, act, agree, conv_bn, twin};
use zoo::resnet::Small;

/// Linear layers with a polynomial between any two.
fn vectors(widths: &[usize], degree: usize) -> (PolyGraph, Vec<Tensor>) {
    let mut random = Random(31);
    let mut b = Network::builder();
    let mut x = b.input("input", Shape::Vector(widths[0])).expect("valid");
    for (i, pair) in widths.windows(2).enumerate() {
        if i > 0 {
            x = act(&mut b, &format!("act{i}"), x, Activation::Silu);
        }
        let dense = Op::Linear(random.dense(pair[0], pair[1]));
        x = b.add(format!("dense{i}"), dense, &[x]).expect("valid");
    }
    twin(&b.finish(x).expect("valid"), &mut random, 6, degree)
}

/// Two convolutions and a dense layer on pictures of 12×12.
fn pictures(degree: usize) -> (PolyGraph, Vec<Tensor>) {
    let mut random = Random(32);
    let mut b = Network::builder();
    let mut x = b.input("input", Shape::image(1, 12, 12)).expect("valid");
    for (i, (from, to)) in [(1, 4), (4, 8)].into_iter().enumerate() {
        let conv = random.convolution(from, to, 3, 2, 1);
        x = conv_bn(&mut b, &mut random, &format!("conv{i}"), x, conv);
        x = act(&mut b, &format!("act{i}"), x, Activation::Silu);
    }
    x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    x = b
        .add("dense", Op::Linear(random.dense(72, 5)), &[x])
        .expect("valid");
    twin(&b.finish(x).expect("valid"), &mut random, 6, degree)
}

/// The network of the tutorial on chest X-rays, with new weights.
fn xray() -> (PolyGraph, Vec<Tensor>) {
    let small = Small {
        width: 16,
        classes: 2,
        input: (28, 28, 1),
        activation: Activation::Silu,
    };
    twin(&small.graph(1).expect("valid"), &mut Random(33), 20, 4)
}

fn chosen(graph: &PolyGraph, inputs: &[Tensor]) -> VerifiedPlan {
    let target = Target::default();
    let plan = compile(graph, &target).expect("compiles");
    agree(graph, &target, inputs, 1e-5);
    let (p, facts) = (plan.parameters(), plan.facts());
    let why = &plan.plan().description.parameters;
    println!("{why}");
    assert_eq!(p.security_bits(), 128);
    assert!(
        why.contains(&format!("taken: 2^{}: {}", p.spec().log_n, p.spec().name)),
        "{why}"
    );
    // the chain has the levels that the network takes, and no more
    assert_eq!(p.residual().index(), plan.plan().input.level);
    assert!(
        facts.output_error <= facts.output_magnitude / 256.0,
        "{why}"
    );
    assert_eq!(
        ParametersSpec::named(&p.spec().name).as_ref(),
        Some(p.spec())
    );
    plan
}

#[test]
fn each_network_gets_the_smallest_ring_and_chain_that_hold_it() {
    let (graph, inputs) = vectors(&[30, 16, 2], 4);
    let plan = chosen(&graph, &inputs);
    assert_eq!(
        (plan.parameters().n(), plan.plan().input.level),
        (1 << 13, 4)
    );
    let why = &plan.plan().description.parameters;
    assert!(
        why.starts_with("the network takes 4 levels without a bootstrap; "),
        "{why}"
    );
    // larger rings are dearer
    assert!(
        why.contains("not 2^14: levelled-14-4x38-") && why.contains("CPU seconds"),
        "{why}"
    );

    let (graph, inputs) = pictures(4);
    let plan = chosen(&graph, &inputs);
    assert_eq!(
        (plan.parameters().n(), plan.plan().input.level),
        (1 << 14, 7)
    );
    let why = &plan.plan().description.parameters;
    assert!(
        why.contains("not 2^13: 7 levels and their keys take "),
        "{why}"
    );
    assert!(
        why.contains(" bits of modulus at least, 128 bits of security leave 214"),
        "{why}"
    );

    let (graph, inputs) = xray();
    let plan = chosen(&graph, &inputs);
    assert_eq!(plan.plan().input.level, 10);
    assert!(plan.parameters().n() <= 1 << 15);
    // random weights; with those of the tutorial it is 94 MB (`the_network_of_the_tutorial`)
    assert!(plan.facts().key_file_bytes < 140 << 20);
}

#[test]
fn one_level_more_in_the_network_is_one_level_more_in_the_chain() {
    let mut random = Random(34);
    let mut last = None;
    for squares in 1..=6usize {
        let mut b = Network::builder();
        let mut x = b.input("input", Shape::Vector(8)).expect("valid");
        let dense = random.dense(8, 8);
        x = b.add("dense", Op::Linear(dense), &[x]).expect("valid");
        for i in 0..squares {
            let p = Polynomial::from_monomial(&[0.1, 0.5, 0.3], (-1.5, 1.5)).expect("valid");
            let square = Op::Elementwise(Nonlinearity::Polynomial(p));
            x = b.add(format!("square{i}"), square, &[x]).expect("valid");
            let dense = random.dense(8, 8);
            x = b
                .add(format!("map{i}"), Op::Linear(dense), &[x])
                .expect("valid");
        }
        let (graph, _) = twin(&b.finish(x).expect("valid"), &mut random, 3, 0);
        let plan = compile(&graph, &Target::default()).expect("compiles");
        let levels = plan.parameters().residual().index();
        assert_eq!(levels, 1 + 2 * squares);
        let n = plan.parameters().n();
        assert!(
            last.is_none_or(|l| l <= n),
            "rings do not shrink as networks grow"
        );
        last = Some(n);
    }
    // one layer more at the front: one level
    for (layers, levels) in [(1, 1), (2, 1)] {
        let mut b = Network::builder();
        let mut x = b.input("input", Shape::Vector(8)).expect("valid");
        for i in 0..layers {
            let dense = random.dense(8, 8);
            x = b
                .add(format!("dense{i}"), Op::Linear(dense), &[x])
                .expect("valid");
        }
        let (graph, _) = twin(&b.finish(x).expect("valid"), &mut random, 3, 0);
        let plan = compile(&graph, &Target::default()).expect("compiles");
        assert_eq!(plan.parameters().residual().index(), levels);
    }
}

#[test]
fn named_sets_are_kept_and_too_short_ones_name_layer_and_remedy() {
    let named = |name: &str| Target {
        parameters: Some(ParametersSpec::named(name).expect(name)),
        ..Target::default()
    };
    let (graph, inputs) = vectors(&[30, 16, 2], 4);
    agree(&graph, &named("levelled-14-6x38-3"), &inputs, 1e-5);
    let plan = compile(&graph, &named("levelled-14-6x38-3")).expect("fits");
    assert_eq!(plan.parameters().spec().name, "levelled-14-6x38-3");
    assert_eq!(plan.plan().description.parameters, "");
    let error = compile(&graph, &named("levelled-13-3x37-1")).expect_err("too short");
    assert!(
        matches!(&error, Error::Levels { layer, needed: 4, had: 3, .. } if layer == "dense1"),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("`standard-16`") && text.contains("leave the choice to the compiler"));
    let error = compile(&graph, &named("levelled-13-6x40-2")).expect_err("insecure");
    assert!(error.to_string().contains("128"), "{error}");
    // one activation that no named chain of any kind holds in one piece
    let (graph, _) = vectors(&[4, 4, 2], 31);
    let error = compile(&graph, &named("levelled-13-3x37-1")).expect_err("too deep");
    assert!(
        matches!(&error, Error::Depth { layer, needed: 5, had: 3, .. } if layer == "act1"),
        "{error}"
    );
}

#[test]
fn a_batch_is_packed_into_a_ring_that_holds_it() {
    let (graph, inputs) = vectors(&[30, 16, 2], 4);
    let batch = |batch| {
        let target = Target {
            batch,
            ..Target::default()
        };
        agree(&graph, &target, &inputs, 1e-5);
        compile(&graph, &target).expect("compiles")
    };
    let (one, many) = (batch(1), batch(4096));
    assert_eq!(one.parameters().n(), 1 << 13);
    // 2^13 has too few slots for a period of four each
    assert!(many.parameters().n() > 1 << 13);
    let why = &many.plan().description.parameters;
    assert!(why.contains("not 2^13: a batch of 4096 inputs"), "{why}");
    // as many inputs as no ring has slots for
    let target = Target {
        batch: 1 << 14,
        ..Target::default()
    };
    let error = compile(&graph, &target).expect_err("too many");
    assert!(matches!(error, Error::Batch { most: 8192, .. }), "{error}");
}
