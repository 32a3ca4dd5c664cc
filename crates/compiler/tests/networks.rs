//! Whole networks: the plan computes what the oracle computes, and what cannot be compiled is refused.

mod support;

use approx::{Activation, Polynomial};
use ckks::ParametersSpec;
use nn::{Graph, Network, NodeId, Nonlinearity, Op, PolyGraph, Shape};
use polyveil_compiler::{CostTable, Error, Target, Watch, compile, summarise};
use runtime::{Operation, Work};
use support::{Builder, Random, act, agree, conv_bn, describe, free_level, replaced, resnet, twin};

fn target(log_n: u32) -> Target {
    Target {
        parameters: Some(ParametersSpec::toy(log_n)),
        ..Target::default()
    }
}

fn with_levels(log_n: u32, levels: usize) -> Target {
    let mut target = target(log_n);
    (target.parameters.iter_mut()).for_each(|p| p.residual.levels = levels);
    target
}

fn build(
    seed: u64,
    shape: Shape,
    layers: impl FnOnce(&mut Builder, &mut Random, NodeId) -> NodeId,
) -> (Graph, Random) {
    let mut random = Random(seed);
    let mut b = Network::builder();
    let x = b.input("input", shape).expect("valid");
    let y = layers(&mut b, &mut random, x);
    (b.finish(y).expect("valid"), random)
}

fn poly(b: &mut Builder, name: &str, x: NodeId, monomial: &[f64], interval: (f64, f64)) -> NodeId {
    let p = Polynomial::from_monomial(monomial, interval).expect("valid");
    b.add(name, Op::Elementwise(Nonlinearity::Polynomial(p)), &[x])
        .expect("valid")
}

fn count(plan: &runtime::Plan, f: impl Fn(&Operation) -> bool) -> usize {
    plan.steps.iter().filter(|s| f(&s.operation)).count()
}

#[test]
fn a_residual_network_with_bootstraps() {
    for (seed, log_n) in [(1, 13), (2, 8)] {
        let mut random = Random(seed);
        let graph = resnet(&mut random, 8, &[4, 8], 2, 10);
        let (graph, inputs) = twin(&graph, &mut random, 3, 15);
        let plan = agree(&graph, &target(log_n), &inputs, 1e-6);
        assert!(
            count(&plan, |o| matches!(o, Operation::Bootstrap { .. })) > 3,
            "{}",
            describe(&plan)
        );
        // 1 stem, 2 for each block, the pooled dense layer: joins and shortcuts have none of their own
        assert_eq!(count(&plan, |o| matches!(o, Operation::Linear { .. })), 10);
        let two =
            |o: &Operation| matches!(o, Operation::Bootstrap { inputs, .. } if inputs.len() == 2);
        assert_eq!(count(&plan, two) > 0, log_n == 8);
    }
}

#[test]
fn squares_and_quartics_take_one_and_two_levels() {
    for (coefficients, levels) in [
        (&[0.1, 0.5, 0.3][..], 1 + 3 * 2),
        (&[0.1, 0.5, 0.3, 0.05, -0.02], 1 + 3 * 3),
    ] {
        let (graph, mut random) = build(5, Shape::image(2, 8, 8), |b, random, mut x| {
            for i in 0..3 {
                let conv = random.convolution(
                    if i == 0 { 2 } else { 4 },
                    4,
                    3,
                    1 + usize::from(i == 1),
                    1,
                );
                x = conv_bn(b, random, &format!("conv{i}"), x, conv);
                x = poly(b, &format!("act{i}"), x, coefficients, (-4.0, 4.5));
            }
            let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
            b.add("dense", Op::Linear(random.dense(64, 10)), &[x])
                .expect("valid")
        });
        let (graph, inputs) = twin(&graph, &mut random, 3, 0);
        let plan = agree(&graph, &target(12), &inputs, 1e-6);
        assert_eq!(free_level(&plan), levels, "{}", describe(&plan));
        // the interval goes with them: the vertex is not in its middle
        let polynomial = |s: &&runtime::Step| {
            s.work() != Work::Alarm && !matches!(s.operation, Operation::Linear { .. })
        };
        for step in plan.steps.iter().filter(polynomial) {
            let (low, high) = step.interval.expect("a narrower one");
            assert!((-1.0..-0.1).contains(&low) && high <= 1.0 && (low + high).abs() > 1e-3);
        }
        // too few levels for all at once: bootstraps between, in a chain of 4
        let short = with_levels(12, 4);
        let plan = agree(&graph, &short, &inputs, 1e-6);
        assert!(count(&plan, |o| matches!(o, Operation::Bootstrap { .. })) > 0);
    }
}

#[test]
fn polynomials_of_polynomials_products_and_shared_sums() {
    let (graph, mut random) = build(6, Shape::image(3, 8, 8), |b, random, x| {
        let conv = random.convolution(3, 4, 3, 1, 1);
        let x = conv_bn(b, random, "a", x, conv);
        let y = act(b, "act", x, Activation::Gelu);
        let y = poly(b, "twice", y, &[0.2, 1.0, 0.0, -0.1], (-0.4, 6.0));
        let conv = random.convolution(4, 4, 3, 1, 1);
        let z = conv_bn(b, random, "b", y, conv);
        let gate = act(b, "gate", z, Activation::Sigmoid);
        let conv = random.convolution(4, 4, 1, 1, 0);
        let value = conv_bn(b, random, "value", y, conv);
        let product = b.add("product", Op::Mul, &[gate, value]).expect("valid");
        // a sum without activation, used three times
        let sum = b.add("sum", Op::Add, &[product, x]).expect("valid");
        let v = act(b, "pre", sum, Activation::Silu);
        let conv = random.convolution(4, 4, 3, 1, 1);
        let v = conv_bn(b, random, "c", v, conv);
        let sum = b.add("sum2", Op::Add, &[sum, v]).expect("valid");
        let square = b.add("square", Op::Mul, &[sum, sum]).expect("valid");
        let both = b.add("both", Op::Mul, &[square, product]).expect("valid");
        b.add("flatten", Op::Flatten, &[both]).expect("valid")
    });
    let (graph, inputs) = twin(&graph, &mut random, 4, 9);
    for levels in [10, 5] {
        let target = with_levels(11, levels);
        let plan = agree(&graph, &target, &inputs, 1e-6);
        assert!(
            // the product with a summand is one more: a sum would be a map and a level
            count(&plan, |o| matches!(o, Operation::Multiply { .. })) == 3,
            "{}",
            describe(&plan)
        );
    }
}

#[test]
fn the_answer_may_be_a_polynomial_or_the_input() {
    let (graph, mut random) = build(8, Shape::Vector(5), |b, random, x| {
        let x = b
            .add("dense", Op::Linear(random.dense(5, 3)), &[x])
            .expect("valid");
        poly(b, "act", x, &[0.1, 0.4, -0.3], (-4.0, 4.0))
    });
    let (graph, inputs) = twin(&graph, &mut random, 3, 0);
    let plan = agree(&graph, &target(8), &inputs, 1e-6);
    let own = plan.steps.iter().filter(|s| s.work() != Work::Alarm);
    assert_eq!((own.count(), free_level(&plan)), (2, 2));
    let (graph, mut random) = build(9, Shape::Vector(5), |b, _, x| {
        b.add("same", Op::Identity, &[x]).expect("valid")
    });
    let (graph, inputs) = twin(&graph, &mut random, 3, 0);
    assert!(agree(&graph, &target(8), &inputs, 1e-12).steps.is_empty());
}

#[test]
fn the_same_network_gives_the_same_plan() {
    let plans: Vec<_> = (0..2)
        .map(|_| {
            let mut random = Random(3);
            let graph = resnet(&mut random, 8, &[4, 8], 1, 10);
            let (graph, _) = twin(&graph, &mut random, 2, 15);
            compile(&graph, &target(12)).expect("compiles")
        })
        .collect();
    assert_eq!(plans[0].plan(), plans[1].plan());
    assert_eq!(format!("{:?}", plans[0]), format!("{:?}", plans[1]));
}

#[test]
fn verified_by_the_runtime_and_right_in_the_clear_interpreter() {
    let mut random = Random(4);
    let graph = resnet(&mut random, 4, &[2, 4], 1, 3);
    let (graph, inputs) = twin(&graph, &mut random, 2, 15);
    let plan = agree(&graph, &target(8), &inputs, 1e-6);
    let summary = summarise(&plan);
    let verified = runtime::VerifiedPlan::new(plan).expect("a sound plan");
    assert_eq!(verified.facts().bootstraps, summary.bootstraps as u64);
    let clear = ckks::Clear::new(verified.context(), 7);
    for input in &inputs {
        let port = &verified.plan().input;
        let mut slots =
            vec![vec![ckks::Complex64::new(0.0, 0.0); port.slots]; port.registers.len()];
        for (&(c, s), x) in port.places.iter().zip(input.values()) {
            slots[c as usize][s as usize].re = x / port.unit;
        }
        let values = slots
            .iter()
            .map(|v| clear.input(v, ckks::Level::new(port.level)).expect("fits"))
            .collect();
        let state = verified
            .start(values, runtime::KeyId::default())
            .expect("fits");
        let outputs = verified.run(&clear, state, &mut ()).expect("runs");
        let port = &verified.plan().output;
        let want = graph.evaluate(input).expect("fits").output;
        for (&(c, s), w) in port.places.iter().zip(want.values()) {
            let got = port.unit * outputs[c as usize].values[s as usize].re;
            assert!((got - w).abs() < 1e-3, "{got} and {w}");
        }
    }
}

fn refused(graph: &PolyGraph, target: &Target) -> Error {
    compile(graph, target).expect_err("refused")
}

#[test]
fn refusals_name_the_layer_and_the_remedy() {
    let mut random = Random(10);
    let (linear, _) = build(10, Shape::Vector(5), |b, random, x| {
        b.add("dense", Op::Linear(random.dense(5, 3)), &[x])
            .expect("valid")
    });
    let uncalibrated = PolyGraph::try_from(linear.clone()).expect("polynomial");
    let error = refused(&uncalibrated, &target(8));
    assert!(matches!(&error, Error::Calibration { layer } if layer == "input"));
    assert!(error.to_string().contains("calibrate the network"));

    let (deep, _) = build(11, Shape::Vector(5), |b, random, x| {
        let x = b
            .add("dense", Op::Linear(random.dense(5, 3)), &[x])
            .expect("valid");
        let x = act(b, "act", x, Activation::Silu);
        b.add("head", Op::Linear(random.dense(3, 3)), &[x])
            .expect("valid")
    });
    let (graph, _) = twin(&deep, &mut random, 4, 31);
    let levelled = Target {
        parameters: Some(ParametersSpec::toy_levelled(8, 5)),
        ..Target::default()
    };
    let error = refused(&graph, &levelled);
    assert!(
        matches!(&error, Error::Levels { layer, needed: 7, had: 5, .. } if layer == "act"),
        "{error}"
    );
    assert!(error.to_string().contains("bootstrapping"));
    let short = Target {
        parameters: Some(ParametersSpec::toy_levelled(8, 4)),
        ..Target::default()
    };
    let error = refused(&graph, &short);
    assert!(
        matches!(&error, Error::Depth { layer, needed: 5, had: 4, degree: 15, .. } if layer == "act"),
        "{error}"
    );
    assert!(
        compile(
            &graph,
            &Target {
                parameters: Some(ParametersSpec::toy_levelled(8, 7)),
                ..Target::default()
            }
        )
        .is_ok()
    );

    let (constant, mut random) = build(12, Shape::Vector(5), |b, _, x| {
        poly(b, "zero", x, &[1.0], (-1.0, 1.0))
    });
    let (graph, _) = twin(&constant, &mut random, 1, 0);
    assert!(
        matches!(refused(&graph, &target(8)), Error::Unsupported { layer, .. } if layer == "zero")
    );

    let (large, mut random) = build(13, Shape::image(12, 256, 128), |b, random, x| {
        let conv = random.convolution(12, 3, 1, 1, 0);
        conv_bn(b, random, "conv", x, conv)
    });
    let (graph, _) = twin(&large, &mut random, 1, 0);
    assert!(
        matches!(refused(&graph, &target(6)), Error::TooLarge { layer, needed: 12288, .. } if layer == "input")
    );

    let (weights, mut random) = build(14, Shape::Vector(2), |b, _, x| {
        let huge = |n: &str| nn::Parameter::new(n, [2, 2], vec![1e30f32; 4]).expect("finite");
        let x = b
            .add(
                "a",
                Op::Linear(nn::Linear {
                    weight: huge("a"),
                    bias: None,
                }),
                &[x],
            )
            .expect("valid");
        b.add(
            "b",
            Op::Linear(nn::Linear {
                weight: huge("b"),
                bias: None,
            }),
            &[x],
        )
        .expect("valid")
    });
    let ranges = vec![
        nn::Range {
            min: -1.0,
            max: 1.0
        };
        3
    ];
    let graph = PolyGraph::try_from(weights)
        .expect("polynomial")
        .with_ranges(ranges)
        .expect("valid");
    let _ = random.next();
    assert!(matches!(refused(&graph, &target(8)), Error::Weight { layer, .. } if layer == "b"));
}

/// CPU seconds by a table, and predicted peak.
fn measured(plan: &runtime::VerifiedPlan, table: &CostTable) -> (f64, u64) {
    let facts = plan.facts();
    (facts.total.seconds(table), facts.peak_bytes)
}

#[test]
fn another_machine_gets_another_plan() {
    let mut random = Random(3);
    let graph = resnet(&mut random, 8, &[4, 8], 2, 10);
    let (graph, _) = twin(&graph, &mut random, 1, 15);
    let plain = CostTable::default();
    let rest = plain.scaled(0.1);
    // transforms dear: giant steps, which decompose, are avoided; keys dear to read: so are baby steps
    let machines = [
        CostTable {
            ntt: plain.ntt,
            ..rest
        },
        CostTable {
            multiply_add: 20.0 * plain.multiply_add,
            expansion: 20.0 * plain.expansion,
            ..rest
        },
    ];
    let plans = machines.map(|cost| {
        let target = Target {
            cost,
            key_seconds: 0.0,
            ..target(13)
        };
        compile(&graph, &target).expect("compiles")
    });
    assert_ne!(plans[0].digest(), plans[1].digest());
    for (own, other) in [(0, 1), (1, 0)] {
        let seconds = |plan: usize| measured(&plans[plan], &machines[own]).0;
        assert!(seconds(own) < seconds(other), "machine {own}");
    }
}

#[test]
fn a_memory_limit_chooses_a_smaller_plan_or_refuses() {
    let mut random = Random(4);
    let graph = resnet(&mut random, 8, &[4, 8], 2, 10);
    let (graph, inputs) = twin(&graph, &mut random, 1, 15);
    let within = |max_memory| {
        let target = Target {
            max_memory,
            ..target(13)
        };
        compile(&graph, &target)
    };
    let free = within(None).expect("compiles");
    let (seconds, peak) = measured(&free, &CostTable::default());
    // what it takes is enough, and changes nothing
    let same = within(Some(peak)).expect("fits");
    assert_eq!(same.digest(), free.digest());
    // a byte less: another plan, that costs more
    let smaller = within(Some(peak - 1)).expect("there is a smaller one");
    let (more, less) = measured(&smaller, &CostTable::default());
    assert!(
        less < peak && more > seconds,
        "{less} of {peak}, {more} and {seconds}"
    );
    let less_than_it_takes = Target {
        max_memory: Some(peak - 1),
        ..target(13)
    };
    assert_eq!(
        &agree(&graph, &less_than_it_takes, &inputs, 1e-6).digest(),
        smaller.digest()
    );
    // nothing fits: the refusal names what would
    let error = within(Some(1)).expect_err("too little");
    let Error::Memory { needed, had: 1, .. } = error else {
        panic!("{error}");
    };
    assert!(needed <= less);
    assert_eq!(
        measured(&within(Some(needed)).expect("fits"), &CostTable::default()).1,
        needed
    );
    assert!(matches!(
        within(Some(needed - 1)),
        Err(Error::Memory { .. })
    ));
    // unless the run may leave keys on disk: that too has a smallest
    let on_disk = |max_memory| {
        let target = Target {
            max_memory: Some(max_memory),
            keys_on_disk: true,
            ..target(13)
        };
        compile(&graph, &target)
    };
    let fits =
        |plan: &runtime::VerifiedPlan, limit| plan.facts().keys_on_disk(limit).peak_bytes <= limit;
    assert!(fits(&on_disk(needed - 1).expect("fits"), needed - 1));
    let Err(Error::Memory { needed: least, .. }) = on_disk(1) else {
        panic!("one byte is not enough");
    };
    assert!(least < needed);
    assert!(fits(&on_disk(least).expect("fits"), least));
    assert!(matches!(on_disk(least - 1), Err(Error::Memory { .. })));
    // a limit that the cheapest plan keeps changes nothing
    assert_eq!(on_disk(peak).expect("fits").digest(), free.digest());
}

/// What an outline says of a choice is what the compiler does with it.
#[test]
fn an_outline_foresees_the_plan_of_every_choice() {
    use nn::calibrate::FitOptions;
    use nn::lower::{Options, Outliers, adapt};
    let mut random = Random(77);
    let mut b = nn::Network::builder();
    let x = b.input("input", nn::Shape::image(2, 4, 4)).expect("valid");
    let mut y = x;
    for i in 0..3 {
        let conv = random.convolution(2, 2, 3, 1, 1);
        y = b
            .add(format!("conv{i}"), nn::Op::Conv2d(conv), &[y])
            .expect("valid");
        let silu = nn::Nonlinearity::Activation(approx::Activation::Silu);
        y = b
            .add(format!("act{i}"), nn::Op::Elementwise(silu), &[y])
            .expect("valid");
    }
    let graph: nn::Graph = b.finish(y).expect("valid");
    let inputs: Vec<nn::Tensor> = (0..20)
        .map(|_| random.tensor(graph.input().shape()))
        .collect();
    let fit = |degree| {
        let options = Options {
            activations: FitOptions {
                degree,
                rounds: 0,
                ..FitOptions::default()
            },
            outliers: Outliers::Keep,
            ..Options::default()
        };
        adapt(&graph, &inputs, &options).expect("fits")
    };
    let twins = [fit(2), fit(4), fit(7)];
    let alternatives: Vec<Vec<approx::Polynomial>> = (0..3)
        .map(|i| {
            twins
                .iter()
                .map(|t| t.fits[i].approximation.polynomial.clone())
                .collect()
        })
        .collect();
    // of the network alone
    let target = Target {
        watch: Watch::Nothing,
        ..target(12)
    };
    let outline =
        polyveil_compiler::Outline::new(&twins[2].graph, &alternatives, &target).expect("fits");
    for choice in [[0, 0, 0], [2, 2, 2], [1, 0, 2], [2, 1, 1]] {
        let prices: Vec<Vec<f64>> = choice
            .iter()
            .map(|&c| {
                (0..3)
                    .map(|k| if k == c { 1.5 } else { f64::INFINITY })
                    .collect()
            })
            .collect();
        let foreseen = outline
            .cheapest(&prices, None)
            .expect("fits")
            .expect("possible");
        assert_eq!(foreseen.alternatives, choice);
        let chosen = alternatives
            .iter()
            .zip(choice)
            .map(|(row, k)| row[k].clone());
        let ranges = twins[2].graph.ranges().expect("calibrated").to_vec();
        let chosen = replaced(&graph, chosen).with_ranges(ranges).expect("valid");
        let plan = compile(&chosen, &target).expect("compiles");
        assert_eq!(
            summarise(plan.plan()).bootstraps,
            foreseen.bootstraps,
            "{choice:?}"
        );
        let exact: f64 = plan.predicted_steps(&target.cost).iter().sum();
        assert!(
            (foreseen.cpu_seconds / exact - 1.0).abs() < 0.1,
            "{choice:?}: {} foreseen, {exact} planned",
            foreseen.cpu_seconds
        );
    }
    // a limit that no choice keeps
    let free = vec![vec![0.0; 3]; 3];
    let least = (0..20).find(|&n| outline.cheapest(&free, Some(n)).expect("fits").is_some());
    let cheapest = outline
        .cheapest(&free, None)
        .expect("fits")
        .expect("possible");
    assert!(least.is_some_and(|n| n <= cheapest.bootstraps));
}
