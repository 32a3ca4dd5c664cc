//! Single linear layers: the packed map computes what the oracle computes.

mod support;

use ckks::ParametersSpec;
use nn::{AvgPool, AxisSlice, Conv2d, Graph, Network, Op, Pad, Padding, Shape, Slice};
use polyveil_compiler::Target;
use runtime::Operation;
use support::{Builder, Random, agree, conv_bn, free_level, shortcut_a, twin};

fn target(log_n: u32) -> Target {
    Target {
        parameters: Some(ParametersSpec::toy(log_n)),
        ..Target::default()
    }
}

/// Adds layers to an input and gives the number of linear steps of the plan that it agrees with.
fn check(
    log_n: u32,
    shape: Shape,
    seed: u64,
    layers: impl FnOnce(&mut Builder, &mut Random, nn::NodeId) -> nn::NodeId,
) -> runtime::Plan {
    let mut random = Random(seed);
    let mut b = Network::builder();
    let x = b.input("input", shape).expect("valid");
    let y = layers(&mut b, &mut random, x);
    let graph: Graph = b.finish(y).expect("valid");
    let (graph, inputs) = twin(&graph, &mut random, 2, 7);
    agree(&graph, &target(log_n), &inputs, 1e-6)
}

fn maps(plan: &runtime::Plan) -> usize {
    plan.steps
        .iter()
        .filter(|s| matches!(s.operation, Operation::Linear { .. }))
        .count()
}

#[test]
fn convolutions_of_all_kinds() {
    let mut seed = 0;
    for (channels, out, height, width) in [(3, 4, 8, 8), (5, 7, 6, 9), (1, 3, 7, 5)] {
        for kernel in [1, 2, 3] {
            for stride in [1, 2, 3] {
                for padding in [0, 1] {
                    seed += 1;
                    let plan = check(
                        12,
                        Shape::image(channels, height, width),
                        seed,
                        |b, random, x| {
                            let conv = Conv2d {
                                bias: Some(random.parameter(&[out], 0.5)),
                                ..random.convolution(channels, out, kernel, stride, padding)
                            };
                            b.add("conv", Op::Conv2d(conv), &[x]).expect("valid")
                        },
                    );
                    assert_eq!(
                        (maps(&plan), plan.steps.len(), free_level(&plan)),
                        (1, 1, 1)
                    );
                }
            }
        }
    }
}

#[test]
fn groups_and_dilation() {
    for groups in [2, 6] {
        check(12, Shape::image(6, 8, 8), groups as u64, |b, random, x| {
            let weight = random.parameter(&[12, 6 / groups, 3, 3], 0.3);
            let conv = Conv2d {
                groups,
                dilation: (2, 1),
                stride: (1, 2),
                padding: Padding {
                    top: 2,
                    bottom: 1,
                    left: 0,
                    right: 1,
                },
                ..Conv2d::new(weight)
            };
            b.add("conv", Op::Conv2d(conv), &[x]).expect("valid")
        });
    }
}

#[test]
fn several_ciphertexts_in_and_out() {
    // 128 slots: two planes of 8×8 in a ciphertext
    let plan = check(8, Shape::image(5, 8, 8), 3, |b, random, x| {
        let conv = random.convolution(5, 9, 3, 2, 1);
        let x = conv_bn(b, random, "a", x, conv);
        support::act(b, "act", x, approx::Activation::Silu)
    });
    assert_eq!(plan.input.registers.len(), 3);
    let plan = check(8, Shape::image(2, 16, 16), 3, |b, random, x| {
        let conv = random.convolution(2, 3, 3, 1, 1);
        conv_bn(b, random, "a", x, conv)
    });
    assert_eq!(
        (plan.input.registers.len(), plan.output.registers.len()),
        (4, 6)
    );
}

#[test]
fn strides_pools_and_dense_layers_are_one_map() {
    let plan = check(13, Shape::image(6, 8, 8), 5, |b, random, x| {
        let conv = random.convolution(6, 10, 3, 2, 1);
        let x = conv_bn(b, random, "conv", x, conv);
        let x = b.add("pool", Op::GlobalAvgPool, &[x]).expect("valid");
        let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
        b.add("dense", Op::Linear(random.dense(10, 10)), &[x])
            .expect("valid")
    });
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.steps[0].layer, "dense");
    assert_eq!((plan.output.slots, plan.output.places.len()), (16, 10));
}

#[test]
fn dense_layers_between_all_sizes() {
    for (from, to) in [(1, 1), (10, 3), (3, 10), (64, 64), (100, 10), (7, 130)] {
        let plan = check(
            9,
            Shape::Vector(from),
            (from * 1000 + to) as u64,
            |b, random, x| {
                b.add("dense", Op::Linear(random.dense(from, to)), &[x])
                    .expect("valid")
            },
        );
        assert_eq!(plan.output.slots, to.next_power_of_two().max(4));
    }
}

#[test]
fn pooling_with_padding_and_odd_windows() {
    for (kernel, stride, padding, count_include_pad) in [
        ((2, 2), (2, 2), 0, true),
        ((3, 3), (2, 2), 1, false),
        ((3, 3), (2, 2), 1, true),
        ((3, 2), (1, 3), 0, true),
    ] {
        check(12, Shape::image(5, 9, 8), 7, |b, _, x| {
            b.add(
                "pool",
                Op::AvgPool(AvgPool {
                    kernel,
                    stride,
                    padding: Padding::same(padding),
                    count_include_pad,
                }),
                &[x],
            )
            .expect("valid")
        });
    }
}

#[test]
fn shortcut_a_joins_its_convolution_in_one_map() {
    let plan = check(13, Shape::image(4, 8, 8), 9, |b, random, x| {
        let conv = random.convolution(4, 8, 3, 2, 1);
        let y = conv_bn(b, random, "conv", x, conv);
        let z = shortcut_a(b, "short", x, 8);
        b.add("add", Op::Add, &[y, z]).expect("valid")
    });
    assert_eq!(
        (plan.steps.len(), plan.steps[0].layer.as_str()),
        (1, "conv")
    );
}

#[test]
fn slices_pads_and_constants() {
    check(12, Shape::image(4, 8, 8), 11, |b, random, x| {
        let cut = |begin, end, step| AxisSlice { begin, end, step };
        let y = b
            .add(
                "slice",
                Op::Slice(Slice {
                    axes: vec![cut(1, 4, 2), cut(0, 7, 1), cut(3, 8, 2)],
                }),
                &[x],
            )
            .expect("valid");
        let y = b
            .add(
                "pad",
                Op::Pad(Pad {
                    channels: (1, 0),
                    spatial: Padding {
                        top: 1,
                        bottom: 0,
                        left: 2,
                        right: 3,
                    },
                }),
                &[y],
            )
            .expect("valid");
        let shape = b.shape(y);
        let offset = b
            .add(
                "offset",
                Op::Constant(shape, random.parameter(&shape.dims(), 1.0)),
                &[],
            )
            .expect("valid");
        let factor = b
            .add(
                "factor",
                Op::Constant(shape, random.parameter(&shape.dims(), 1.0)),
                &[],
            )
            .expect("valid");
        let y = b.add("add", Op::Add, &[y, offset]).expect("valid");
        b.add("mul", Op::Mul, &[y, factor]).expect("valid")
    });
    check(12, Shape::Vector(24), 12, |b, random, x| {
        let x = b
            .add("shape", Op::Reshape(Shape::image(2, 3, 4)), &[x])
            .expect("valid");
        let conv = random.convolution(2, 3, 3, 1, 1);
        conv_bn(b, random, "conv", x, conv)
    });
}

#[test]
fn the_answer_holds_nothing_but_replicated_results() {
    let mut random = Random(21);
    let mut b = Network::builder();
    let x = b.input("input", Shape::image(4, 8, 8)).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let x = b
        .add("dense", Op::Linear(random.dense(256, 10)), &[x])
        .expect("valid");
    let (graph, inputs) = twin(&b.finish(x).expect("valid"), &mut random, 1, 7);
    let plan = agree(&graph, &target(12), &inputs, 1e-6);
    let Operation::Linear { map, .. } = &plan.steps[0].operation else {
        panic!("one map")
    };
    let x: Vec<f64> = (0..256).map(|_| random.uniform()).collect();
    let y = &support::apply(map, &[&x])[0];
    for (j, v) in y.iter().enumerate() {
        let want = if j % 16 < 10 { y[j % 16] } else { 0.0 };
        assert!((v - want).abs() < 1e-6, "slot {j} holds {v}, not {want}");
    }
}
