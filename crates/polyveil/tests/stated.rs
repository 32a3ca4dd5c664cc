//! What is stated of an error where the bound says little: simulated, the same every time, and near what encrypted runs have.

use approx::Activation;
use ckks::ParametersSpec;
use nn::calibrate::{FitOptions, batch_norms};
use nn::lower::{Options, Outliers, adapt};
use nn::{
    BatchNorm, Conv2d, Linear, Network, Nonlinearity, Op, Padding, Parameter, PolyGraph, Shape,
    Tensor,
};
use polyveil::machine::{Machine, Probing};
use polyveil::progress::silent;
use polyveil::session::{Precision, Session};
use polyveil::{compile, compiler::Target};
use runtime::VerifiedPlan;
use std::sync::Arc;

/// A residual network of so many blocks with random weights, and inputs that it was calibrated on.
fn deep(blocks: usize) -> (PolyGraph, Vec<Tensor>) {
    let random = |name: &str, shape: &[usize], size: f64| {
        let values = zoo::random::uniform(3, name, shape.iter().product(), size);
        Parameter::new(name, shape, values).expect("finite")
    };
    let act = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
    let mut b = Network::builder();
    let x = b.input("input", Shape::image(3, 8, 8)).expect("valid");
    let conv = |name: &str, from: usize| {
        let size = (3.0 / (from * 9) as f64).sqrt();
        Op::Conv2d(Conv2d {
            padding: Padding::same(1),
            ..Conv2d::new(random(name, &[4, from, 3, 3], size))
        })
    };
    let mut x = b.add("stem", conv("stem", 3), &[x]).expect("valid");
    for block in 0..blocks {
        let name = |what: &str| format!("{block}.{what}");
        let mut y = x;
        for half in ["1", "2"] {
            let name = |what: &str| name(&format!("{what}{half}"));
            let norm = BatchNorm::identity(&name("bn"), 4, 1.0, 1e-5).expect("valid");
            let conv = conv(&name("conv"), 4);
            y = b.add(name("conv"), conv, &[y]).expect("valid");
            y = b.add(name("bn"), Op::BatchNorm(norm), &[y]).expect("valid");
            if half == "2" {
                y = b.add(name("add"), Op::Add, &[y, x]).expect("valid");
            }
            y = b.add(name("act"), act.clone(), &[y]).expect("valid");
        }
        x = y;
    }
    let x = b.add("pool", Op::GlobalAvgPool, &[x]).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let dense = Op::Linear(Linear {
        weight: random("dense", &[5, 4], 0.8),
        bias: None,
    });
    let x = b.add("dense", dense, &[x]).expect("valid");
    let graph = b.finish(x).expect("valid");
    let input = |i: u64| {
        let values = zoo::random::uniform(i, "input", 192, 1.0);
        Tensor::new(
            graph.input().shape(),
            values.into_iter().map(f64::from).collect(),
        )
        .expect("fits")
    };
    let inputs: Vec<Tensor> = (100..120).map(input).collect();
    let graph = batch_norms(graph, &inputs).expect("finite");
    let options = Options {
        activations: FitOptions {
            degree: 4,
            margin: 0.5,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let graph = adapt(&graph, &inputs, &options).expect("finite").graph;
    (graph, inputs)
}

/// The largest differences of an encrypted answer to the plan's in the clear, and of that to the network's.
fn errors(plan: &Arc<VerifiedPlan>, graph: &PolyGraph, x: &Tensor) -> [f64; 2] {
    let made = Machine::default().predict(plan, None, Probing::AsItIs);
    let session = Session::new(plan.clone(), graph, made.expect("made"), &mut silent);
    let session = session.expect("keys");
    let found = session.run(x.values(), Precision::Unmeasured, &mut silent);
    let found = found.expect("runs").values;
    let clear = plan.simulate(x.values(), None).expect("fits");
    let want = graph.evaluate(x).expect("fits").output;
    let apart = |a: &[f64], b: &[f64]| {
        a.iter()
            .zip(b)
            .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()))
    };
    [apart(&found, &clear), apart(&clear, want.values())]
}

#[test]
fn a_deep_networks_stated_error_is_simulated_and_holds() {
    let (graph, inputs) = deep(8);
    let target = Target {
        parameters: Some(ParametersSpec::toy_coefficients(10, 4).expect("a preset")),
        ..Target::default()
    };
    let plan = compile(&graph, &target).expect("compiles");
    let bounds = plan.answer_bounds();
    let simulated = bounds.simulated.expect("the bound says little");
    // the same every time, in one digest
    assert_eq!(
        compile(&graph, &target).expect("compiles").digest(),
        plan.digest()
    );
    println!("{bounds:?}");

    assert!(bounds.stated().contains("simulated runs"), "{bounds}");
    let plan = Arc::new(plan);
    let (mut most, stated) = (
        [0.0f64; 2],
        [simulated.error, simulated.network.expect("shown")],
    );
    for x in inputs.iter().take(3) {
        let errors = errors(&plan, &graph, x);
        for ((most, error), stated) in most.iter_mut().zip(errors).zip(stated) {
            println!("{error:.1e} of {stated:.1e}");
            assert!(error <= stated, "{error:.1e} {stated:.1e}");
            *most = most.max(error);
        }
    }
    println!(
        "errors {most:?}, stated {stated:?}, bounds {:.1e} and {:.1e}",
        bounds.error, bounds.weights
    );
    assert!(
        stated.iter().zip(most).all(|(s, m)| *s < 100.0 * m),
        "{stated:?} {most:?}"
    );
    // sharing counts with what holds for all inputs
    assert_eq!(plan.client_spec().answer.error, plan.facts().output_error);
}

/// Slots that one matrix fills from a single one are summed by the next, with signs that no fold sees: errors that the bound takes as independent are
/// the same in all of them.
fn conspiring() -> PolyGraph {
    const WIDTH: usize = 256;
    let sign = |seed: u64| -> Vec<f32> {
        let all = zoo::random::uniform(seed, "signs", WIDTH, 1.0);
        all.into_iter().map(f32::signum).collect()
    };
    let (s, t) = (sign(1), sign(2));
    let dense = |rows: usize, value: &dyn Fn(usize, usize) -> f32| {
        let each = (0..rows).flat_map(|r| (0..WIDTH).map(move |c| (r, c)));
        let values: Vec<f32> = each.map(|(r, c)| value(r, c)).collect();
        Op::Linear(Linear {
            weight: Parameter::new("w", [rows, WIDTH], values).expect("finite"),
            bias: None,
        })
    };
    let odd = approx::Polynomial::new(vec![0.0, 1.0, 0.0, 0.1], (-2.0, 2.0)).expect("valid");
    let mut b = Network::<approx::Polynomial>::builder();
    let mut x = b.input("x", Shape::Vector(WIDTH)).expect("valid");
    let copies = dense(WIDTH, &|r, c| if c == 0 { t[r] } else { 0.0 });
    let sums = dense(WIDTH, &|r, c| s[r] * t[c] / 4.0);
    for (name, matrix) in [("copies", copies), ("sums", sums)] {
        x = b.add(name, matrix, &[x]).expect("valid");
        let act = Op::Elementwise(odd.clone());
        x = b.add(format!("{name}.act"), act, &[x]).expect("valid");
    }
    let last = dense(2, &|r, c| s[c] * (1.0 - 2.0 * r as f32) / 16.0);
    let y = b.add("last", last, &[x]).expect("valid");
    let graph = PolyGraph::from(b.finish(y).expect("valid"));
    let wide = |_: &nn::Node<approx::Polynomial>| nn::Range {
        min: -2.0,
        max: 2.0,
    };
    let ranges = graph.nodes().iter().map(wide).collect();
    graph.with_ranges(ranges).expect("fits")
}

#[test]
fn weights_that_conspire_do_not_exceed_what_is_stated() {
    let graph = conspiring();
    let x = vec![0.0; 256];
    let precise = ParametersSpec::named("levelled-15-11x40-3").expect("a set");
    for parameters in [None, Some(precise)] {
        let small = parameters.is_some();
        let target = Target {
            parameters,
            ..Target::default()
        };
        let plan = Arc::new(compile(&graph, &target).expect("compiles"));
        let (bounds, noise) = (plan.answer_bounds(), runtime::Noise::of(&plan));
        let noise = noise.expect("verified");
        let exact = plan.simulate(&x, None).expect("runs");
        let errors = (100..116).map(|seed| {
            let noisy = plan.simulate(&x, Some((&noise, seed))).expect("runs");
            largest(&noisy, &exact)
        });
        let worst = errors.fold(0.0, f64::max);
        let client = polyveil::client_file(&plan, &graph).expect("its own");
        let client = polyveil::Client::new(client).expect("a task");
        let keys = client.evaluation_keys().expect("keys");
        let input = client.encrypt(&[polyveil::Input::Row(x.clone())]);
        let server = polyveil::Server::new(plan.clone(), &keys).expect("its own");
        let answer = server.run(&input.expect("encrypts")).expect("runs");
        let answer = client.keys().read_doubtful(&answer[..], "answer");
        let encrypted = largest(&answer.expect("can be right").values, &exact);
        println!(
            "{}: bound {:.1e}, stated {:.1e} of {:.1}; simulated afresh {worst:.1e}, encrypted {encrypted:.1e}",
            plan.parameters().spec().name,
            bounds.error,
            bounds.stated_error(),
            bounds.magnitude
        );
        // it was stated where it is small beside the largest value
        let bound = bounds.error + bounds.weights;
        assert!(!small || bound < bounds.magnitude / 16384.0);
        assert!(worst < bounds.stated_error() && encrypted < bounds.stated_error());
    }
}

fn largest(had: &[f64], want: &[f64]) -> f64 {
    let each = had.iter().zip(want).map(|(h, w)| (h - w).abs());
    each.fold(0.0, f64::max)
}

/// Two convolutions and two dense layers, each behind an activation and a mean: few values of many coefficients, and equal weights that are rounded alike.
#[test]
fn what_integer_weights_change_is_stated_of_small_networks_too() {
    let random = |name: &str, shape: &[usize], size: f64| {
        let values = zoo::random::uniform(5, name, shape.iter().product(), size);
        Parameter::new(name, shape, values).expect("finite")
    };
    let mut b = Network::builder();
    let mut x = b.input("input", Shape::image(3, 16, 16)).expect("valid");
    let act = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
    for (name, from, to) in [("first", 3, 4), ("second", 4, 8)] {
        let conv = Conv2d {
            padding: Padding::same(1),
            ..Conv2d::new(random(name, &[to, from, 3, 3], 1.0))
        };
        let mean = nn::op::AvgPool {
            kernel: (2, 2),
            stride: (2, 2),
            padding: Padding::default(),
            count_include_pad: true,
        };
        x = b.add(name, Op::Conv2d(conv), &[x]).expect("valid");
        x = (b.add(format!("{name}.act"), act.clone(), &[x])).expect("valid");
        x = (b.add(format!("{name}.mean"), Op::AvgPool(mean), &[x])).expect("valid");
    }
    x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    for (name, from, to) in [("third", 128, 16), ("fourth", 16, 5)] {
        let linear = Op::Linear(Linear {
            weight: random(name, &[to, from], (3.0 / from as f64).sqrt()),
            bias: None,
        });
        x = b.add(name, linear, &[x]).expect("valid");
        if name == "third" {
            x = b.add("third.act", act.clone(), &[x]).expect("valid");
        }
    }
    let graph = b.finish(x).expect("valid");
    let input = |i: u64| {
        let values = zoo::random::uniform(i, "input", 768, 1.0).into_iter();
        Tensor::new(graph.input().shape(), values.map(f64::from).collect()).expect("fits")
    };
    let inputs: Vec<Tensor> = (0..20).map(input).collect();
    let options = Options {
        activations: FitOptions {
            degree: 4,
            margin: 0.3,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let graph = adapt(&graph, &inputs, &options).expect("finite").graph;
    let target = Target {
        parameters: Some(ParametersSpec::toy_coefficients(12, 2).expect("a preset")),
        layers: polyveil::compiler::Layers::Coefficients,
        ..Target::default()
    };
    let plan = compile(&graph, &target).expect("compiles");
    let bounds = plan.answer_bounds();
    let most = inputs.iter().map(|x| {
        let had = plan.simulate(x.values(), None).expect("fits");
        let want = graph.evaluate(x).expect("fits").output;
        let apart = had.iter().zip(want.values()).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, f64::max)
    });
    let most = most.fold(0.0, f64::max);
    println!("{most:.1e}; {bounds:?}");
    assert!(bounds.simulated.is_some(), "{bounds:?}");
    for stated in [bounds.stated_weights(), bounds.weights] {
        assert!(most <= stated && stated < 200.0 * most, "{most} {stated}");
    }
}
