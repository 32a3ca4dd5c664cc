//! Sequences: their operators, products with sums and copies, and whole transformer layers compute what the oracle computes.

mod support;

use approx::Polynomial;
use ckks::ParametersSpec;
use nn::lower::Numerator;
use nn::{
    Boundary, Conv2d, Network, NodeId, Op, Pairing, Parameter, Repeat, Rotary, Shape, Unfold,
};
use polyveil_compiler::{Target, compile, summarise};
use runtime::Plan;
use runtime::{Operation, Work};
use support::transformer::{Size, transformer};
use support::{Builder, Random, agree, describe, free_level, twin};

fn target(log_n: u32) -> Target {
    Target {
        parameters: Some(ParametersSpec::toy(log_n)),
        ..Target::default()
    }
}

fn check(
    log_n: u32,
    shape: Shape,
    layers: impl FnOnce(&mut Builder, &mut Random, NodeId) -> NodeId,
) -> Plan {
    let mut random = Random(7);
    let mut b = Network::builder();
    let x = b.input("input", shape).expect("valid");
    let y = layers(&mut b, &mut random, x);
    let graph = b.finish(y).expect("valid");
    let (graph, inputs) = twin(&graph, &mut random, 3, 7);
    agree(&graph, &target(log_n), &inputs, 1e-6)
}

fn count(plan: &Plan, f: impl Fn(&Operation) -> bool) -> usize {
    plan.steps.iter().filter(|s| f(&s.operation)).count()
}

fn maps(plan: &Plan) -> usize {
    count(plan, |o| matches!(o, Operation::Linear { .. }))
}

fn sequence(channels: usize, length: usize) -> Shape {
    Shape::image(channels, 1, length)
}

fn multiple(b: &mut Builder, name: &str, x: NodeId, factor: f64, constant: f64) -> NodeId {
    let p = Polynomial::from_monomial(&[constant, factor], (-1e3, 1e3)).expect("valid");
    b.add(name, Op::Elementwise(p.into()), &[x]).expect("valid")
}

fn unfold(rows: usize, boundary: Boundary) -> Op<nn::Nonlinearity> {
    Op::Unfold(Unfold { rows, boundary })
}

#[test]
fn a_sequence_unfolds_causally_and_cyclically_into_one_and_several_ciphertexts() {
    for (log_n, channels, length, rows) in
        [(12, 8, 4, 4), (7, 8, 8, 8), (10, 5, 6, 3), (6, 3, 5, 5)]
    {
        for boundary in [Boundary::Causal, Boundary::Cyclic] {
            let plan = check(log_n, sequence(channels, length), |b, _, x| {
                b.add("rows", unfold(rows, boundary), &[x]).expect("valid")
            });
            assert_eq!(maps(&plan), 1);
            let padded = channels.next_power_of_two() * length.next_power_of_two();
            assert_eq!(
                plan.output.registers.len(),
                (padded * rows).div_ceil(1 << (log_n - 1))
            );
        }
    }
}

#[test]
fn rotary_embeddings_join_the_projection() {
    for (pairing, head, rotated) in [
        (Pairing::Adjacent, 4, 4),
        (Pairing::Half, 4, 4),
        (Pairing::Half, 8, 4),
    ] {
        let plan = check(10, sequence(8, 6), |b, random, x| {
            let conv = random.convolution(8, 16, 1, 1, 0);
            let x = b.add("project", Op::Conv2d(conv), &[x]).expect("valid");
            let rotary = Rotary {
                head,
                rotated,
                base: 100.0,
                pairing,
                first: 1,
            };
            b.add("turn", Op::Rotary(rotary), &[x]).expect("valid")
        });
        assert_eq!((maps(&plan), plan.steps.len()), (1, 1));
        // offsets are whole channels: 16 of them, whatever turns
        assert!(summarise(&plan).diagonals <= 16, "{}", describe(&plan));
    }
}

#[test]
fn copies_cost_nothing_where_they_lie_already() {
    for log_n in [12, 8] {
        // Repeat beside Unfold: the sequence's own ciphertext, for one or several ciphertexts
        let plan = check(log_n, sequence(8, 8), |b, random, x| {
            let conv = random.convolution(8, 8, 1, 1, 0);
            let q = b.add("q", Op::Conv2d(conv), &[x]).expect("valid");
            let q = b
                .add("q.rows", Op::Repeat(Repeat { rows: 8 }), &[q])
                .expect("valid");
            let k = b
                .add("k.rows", unfold(8, Boundary::Causal), &[x])
                .expect("valid");
            let p = b.add("qk", Op::Mul, &[q, k]).expect("valid");
            let weight = Parameter::new("sum", [8, 4, 1, 1], vec![0.5; 32]).expect("finite");
            let conv = Conv2d {
                groups: 2,
                ..Conv2d::new(weight)
            };
            b.add("scores", Op::Conv2d(conv), &[p]).expect("valid")
        });
        let ciphertexts = if log_n == 12 { 1 } else { 4 };
        // ciphertexts that share nothing are summed apart
        assert_eq!(maps(&plan), 2 + ciphertexts, "{}", describe(&plan));
        assert_eq!(
            count(&plan, |o| matches!(o, Operation::Multiply { .. })),
            ciphertexts
        );
        // a sum of four neighbours has seven diagonals
        for step in plan.steps.iter().filter(|s| s.layer == "scores") {
            let Operation::Linear { map, .. } = &step.operation else {
                panic!("a map")
            };
            assert_eq!(map.terms().len(), 7);
        }
    }
    // one channel beside many
    let plan = check(10, sequence(8, 8), |b, random, x| {
        let conv = random.convolution(8, 1, 1, 1, 0);
        let one = b.add("one", Op::Conv2d(conv), &[x]).expect("valid");
        let ones = Parameter::new("ones", [8, 1, 1, 1], vec![1.0; 8]).expect("finite");
        let all = b
            .add("all", Op::Conv2d(Conv2d::new(ones)), &[one])
            .expect("valid");
        b.add("scaled", Op::Mul, &[x, all]).expect("valid")
    });
    assert_eq!(
        (maps(&plan), free_level(&plan)),
        (1, 2),
        "{}",
        describe(&plan)
    );
}

#[test]
fn sums_and_multiples_of_products_take_no_level() {
    // 2(x + 1/2)(1/4 − x) + x − 1/2, its square, and that times the sum before
    let plan = check(8, sequence(4, 4), |b, _, x| {
        let left = multiple(b, "left", x, 1.0, 0.5);
        let right = multiple(b, "right", x, -1.0, 0.25);
        let p = b.add("p", Op::Mul, &[left, right]).expect("valid");
        let p = multiple(b, "twice", p, 2.0, -0.5);
        let sum = b.add("sum", Op::Add, &[p, x]).expect("valid");
        let square = b.add("square", Op::Mul, &[sum, sum]).expect("valid");
        let less = multiple(b, "less", square, 0.25, -0.5);
        b.add("out", Op::Mul, &[less, sum]).expect("valid")
    });
    assert_eq!(
        (maps(&plan), free_level(&plan)),
        (0, 3),
        "{}",
        describe(&plan)
    );
    assert_eq!(
        plan.steps
            .iter()
            .filter(|s| s.work() != Work::Alarm && !matches!(s.operation, Operation::Align { .. }))
            .count(),
        3
    );
}

/// z ← z·(s + 5), s ← 2s² − 1: z grows sixfold a step.
fn growing(steps: usize) -> (nn::PolyGraph, Vec<nn::Tensor>) {
    let mut random = Random(7);
    let mut b = Network::builder();
    let x = b.input("input", sequence(4, 2)).expect("valid");
    let (mut s, mut z) = (x, x);
    for i in 0..steps {
        let square = b
            .add(format!("square{i}"), Op::Mul, &[s, s])
            .expect("valid");
        let more = multiple(&mut b, &format!("more{i}"), s, 1.0, 5.0);
        z = b.add(format!("z{i}"), Op::Mul, &[z, more]).expect("valid");
        s = multiple(&mut b, &format!("s{i}"), square, 2.0, -1.0);
    }
    twin(&b.finish(z).expect("valid"), &mut random, 3, 7)
}

#[test]
fn products_that_grow_are_brought_down_before_a_bootstrap() {
    let (graph, inputs) = growing(8);
    let mut target = target(6);
    (target.parameters.iter_mut()).for_each(|p| p.residual.levels = 5);
    let plan = agree(&graph, &target, &inputs, 1e-6);
    assert!(count(&plan, |o| matches!(o, Operation::Bootstrap { .. })) > 0);
    let grown = |o: &Operation| matches!(o, Operation::Multiply { bound, .. } if *bound > 100.0);
    // its bootstraps have a map of one value before them
    assert!(
        maps(&plan) > 0 && count(&plan, grown) > 0,
        "{}",
        describe(&plan)
    );
    let error = compile(&growing(16).0, &target).expect_err("grows too far");
    assert!(error.to_string().contains("its values grow to"), "{error}");
}

#[test]
fn a_projection_that_unfolds_is_two_maps() {
    let plan = check(12, sequence(16, 16), |b, random, x| {
        let conv = random.convolution(16, 16, 1, 1, 0);
        let k = b.add("k", Op::Conv2d(conv), &[x]).expect("valid");
        b.add("k.rows", unfold(16, Boundary::Causal), &[k])
            .expect("valid")
    });
    let summary = summarise(&plan);
    assert_eq!(
        (summary.maps, summary.diagonals),
        (2, 16 + 16),
        "{}",
        describe(&plan)
    );
}

const SMALL: Size = Size {
    layers: 1,
    width: 8,
    heads: 2,
    kv_heads: 1,
    hidden: 12,
    length: 4,
    vocabulary: 10,
    epsilon: 0.1,
    bits: 12.0,
    degree: 7,
    numerator: Numerator::Carried,
    public: false,
    valid: None,
};

#[test]
fn transformer_layers() {
    for (log_n, layers, numerator, length, public) in [
        (10, 1, Numerator::Carried, 4, false),
        (10, 1, Numerator::Apart, 4, false),
        (7, 2, Numerator::Apart, 4, false),
        // lengths that fill no power of two; a public first token, whose key has a row of its own
        (10, 1, Numerator::Apart, 6, false),
        (8, 1, Numerator::Apart, 6, true),
    ] {
        let size = Size {
            layers,
            numerator,
            length,
            public,
            ..SMALL
        };
        let (graph, inputs) = transformer(3, size, 4);
        let plan = agree(&graph, &target(log_n), &inputs, 1e-4);
        assert!(count(&plan, |o| matches!(o, Operation::Bootstrap { .. })) > 0);
        runtime::VerifiedPlan::new(plan).expect("a sound plan");
    }
}

/// Rotations of linear maps, by layer.
fn moving(plan: &Plan) -> Vec<&str> {
    let moves = |o: &Operation| matches!(o, Operation::Linear { map, .. } if map.moves());
    let steps = plan.steps.iter().filter(|s| moves(&s.operation));
    steps.map(|s| s.layer.as_str()).collect()
}

#[test]
fn transformer_layers_of_a_batch() {
    // one ciphertext for several tensors, for one, for a channel or two
    for (log_n, batch, numerator, length, public) in [
        (10, 2, Numerator::Apart, 4, false),
        (10, 16, Numerator::Apart, 4, false),
        (10, 64, Numerator::Carried, 4, false),
        (10, 128, Numerator::Apart, 4, false),
        (9, 64, Numerator::Carried, 4, false),
        (8, 16, Numerator::Apart, 6, true),
    ] {
        let size = Size {
            numerator,
            length,
            public,
            ..SMALL
        };
        let (graph, inputs) = transformer(3, size, 4);
        let target = Target {
            batch,
            ..target(log_n)
        };
        let plan = agree(&graph, &target, &inputs, 1e-4);
        assert_eq!((plan.input.batch, plan.output.batch), (batch, batch));
        let channels_alone = batch * length.next_power_of_two() == 1 << (log_n - 1);
        if channels_alone {
            // nothing moves but the delays of keys and values
            let moving = moving(&plan);
            assert!(moving.iter().all(|l| l.contains("attention")), "{moving:?}");
        }
        runtime::VerifiedPlan::new(plan).expect("a sound plan");
    }
}

#[test]
fn batches_that_cannot_be_are_refused() {
    let (graph, _) = transformer(3, SMALL, 4);
    for batch in [0, 3, 256] {
        let target = Target {
            batch,
            ..target(10)
        };
        let error = compile(&graph, &target).expect_err("refused");
        assert!(error.to_string().contains("at most 128"), "{error}");
    }
}
