//! Encrypted runs in the rings that the compiler chooses: answers within what is stated.

use approx::Activation;
use nn::calibrate::{Degree, FitOptions};
use nn::lower::{Options, Outliers, adapt};
use nn::{Graph, Linear, Network, Nonlinearity, Op, Parameter, PolyGraph, Shape, Tensor};
use polyveil::machine::{Machine, Probing};
use polyveil::progress::silent;
use polyveil::session::{Precision, Session};
use polyveil::{compile, compiler::Target};
use std::sync::Arc;

/// Numbers in [−1, 1): SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Calibrated on random inputs, which are given too.
fn calibrated(graph: &Graph) -> (PolyGraph, Vec<Tensor>) {
    let (shape, mut state) = (graph.input().shape(), 7);
    let mut values = || (0..shape.len()).map(|_| uniform(&mut state)).collect();
    let inputs: Vec<Tensor> = (0..20)
        .map(|_| Tensor::new(shape, values()).expect("fits"))
        .collect();
    let options = Options {
        activations: FitOptions {
            degree: Degree::Fixed(4),
            margin: 0.3,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    (
        adapt(graph, &inputs, &options).expect("finite").graph,
        inputs,
    )
}

fn table() -> Graph {
    let mut state = 1;
    let mut dense = |from: usize, to: usize| {
        let size = (1.0 / from as f64).sqrt();
        let values = (0..from * to).map(|_| (size * uniform(&mut state)) as f32);
        let weight =
            Parameter::new("weight", [to, from], values.collect::<Vec<f32>>()).expect("finite");
        Op::Linear(Linear { weight, bias: None })
    };
    let mut b = Network::builder();
    let x = b.input("input", Shape::Vector(30)).expect("valid");
    let x = b.add("dense1", dense(30, 16), &[x]).expect("valid");
    let silu = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
    let x = b.add("act", silu, &[x]).expect("valid");
    let x = b.add("dense2", dense(16, 2), &[x]).expect("valid");
    b.finish(x).expect("valid")
}

fn small(width: usize, side: usize) -> Graph {
    zoo::resnet::Small {
        width,
        classes: 2,
        input: (side, side, 1),
        activation: Activation::Silu,
    }
    .graph(1)
    .expect("valid")
}

/// log2 N of the chosen ring; the answer of an encrypted run is within what the plan states.
fn runs(graph: &Graph) -> u32 {
    let (graph, inputs) = calibrated(graph);
    let plan = Arc::new(compile(&graph, &Target::default()).expect("compiles"));
    println!("{}", plan.plan().description.parameters);
    let stated = plan.facts().output_error + plan.facts().output_weights;
    let made = Machine::default().predict(&plan, None, Probing::AsItIs);
    let session = Session::new(plan.clone(), &graph, made.expect("made"), &mut silent);
    let session = session.expect("keys");
    let found = session.run(inputs[0].values(), Precision::Unmeasured, &mut silent);
    let found = found.expect("runs").values;
    let want = graph.evaluate(&inputs[0]).expect("fits").output;
    let off = found.iter().zip(want.values()).map(|(f, w)| (f - w).abs());
    let off = off.fold(0.0, f64::max);
    println!("largest error {off:.1e}, stated {stated:.1e}");
    assert!(
        found.len() == 2 && off > 0.0 && off <= stated,
        "{off} {stated}"
    );
    // what is stated is not so wide that it says nothing
    assert!(off > stated / 1e4, "{off} {stated}");
    plan.parameters().spec().log_n
}

#[test]
fn answers_in_rings_of_different_sizes_are_within_what_is_stated() {
    assert_eq!(runs(&table()), 13);
    assert_eq!(runs(&small(2, 8)), 14);
}

#[test]
#[ignore = "seconds in release: the network of the tutorial on chest X-rays"]
fn the_network_of_the_tutorial() {
    assert!(runs(&small(16, 28)) < 16);
}
