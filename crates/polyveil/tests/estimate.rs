//! Estimates from shapes against the plans that the networks get.

use approx::Activation;
use ckks::ParametersSpec;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use nn::format::artefact;
use nn::{
    Conv2d, Graph, Linear, MaxPool, Metadata, Network, Op, Padding, Parameter, PolyGraph, Shape,
};
use polyveil::compiler::{Layers, Target, compile};
use polyveil::estimate::Estimating;
use polyveil::estimate_pictures::{Pictures, is_network, pictures};
use polyveil::estimate_tokens::{Whole, whole};
use polyveil::machine::{Machine, Probing};
use polyveil::network;
use std::path::Path;
use zoo::shape::{Polynomials, TransformerShape};

const LAYERS: usize = 4;
const LENGTH: usize = 8;

/// Within so much of what the plan has: what `docs/plans.md` says of estimates.
fn near(what: &str, estimated: f64, plan: f64, share: f64) {
    let ratio = estimated / plan;
    println!("{what}: {estimated:.4e} for {plan:.4e}");
    assert!((ratio - 1.0).abs() <= share, "{what}: {ratio}");
}

#[test]
fn an_estimate_in_coefficients_is_what_the_plan_takes() {
    let config = format!(
        r#"{{"model_type": "llama", "hidden_act": "silu", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": {LAYERS},
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40, "max_position_embeddings": {LENGTH}}}"#
    );
    let shape = TransformerShape::from_json(&config).expect("a shape");
    let power = PowerSoftmax::new(4, 0.25).expect("even");
    let scheme = AttentionScheme::Power(power.over(Denominator::Mean));
    let polynomials = Polynomials {
        bits: 12.0,
        degree: 7,
        widened: 4.0,
    };
    let target = Target {
        parameters: Some(ParametersSpec::toy_coefficients(9, 9).expect("a preset")),
        layers: Layers::Coefficients,
        ..Target::default()
    };
    let estimated =
        whole(&shape, (LENGTH, None), (scheme, polynomials), &target).expect("estimated");
    // calibrated and compiled as a whole
    let network = shape.random(scheme, LENGTH).expect("a network");
    let lowered = network.polynomials(polynomials).expect("within reach");
    let plan = compile(&lowered.graph, &target).expect("compiles");
    let files = (plan.plan()).write_beside((Vec::new(), "plan"), (Vec::new(), "weights"));
    let file = files.expect("written").1.len() as f64;
    let plan = Whole::of(&plan, &target.cost);
    near("CPU s", estimated.cpu_seconds(), plan.cpu_seconds(), 0.1);
    let bytes = |w: &Whole| w.peak_bytes as f64;
    near("peak", bytes(&estimated), bytes(&plan), 0.15);
    let bytes = |w: &Whole| w.weight_bytes as f64;
    near("weights", bytes(&estimated), file, 0.05);
    near("the plan's weights", bytes(&plan), file, 0.05);
    let bytes = |w: &Whole| w.held_bytes as f64;
    // which maps need one depends on each block's intervals, and here they are a few kB
    near("weights in memory", bytes(&estimated), bytes(&plan), 0.3);
    let count = |w: &Whole| w.bootstraps as f64;
    near("bootstraps", count(&estimated), count(&plan), 0.1);
    assert_eq!(estimated.ports, plan.ports);
    // the last position alone: as its own plan says
    let last = whole(
        &shape,
        (LENGTH, Some(&[LENGTH - 1])),
        (scheme, polynomials),
        &target,
    );
    let last = last.expect("estimated");
    let cut = lowered.graph.at_positions(&[LENGTH - 1]).expect("within");
    let plan = Whole::of(&compile(&cut, &target).expect("compiles"), &target.cost);
    near("CPU s", last.cpu_seconds(), plan.cpu_seconds(), 0.1);
    assert_eq!(last.ports, plan.ports);
}

/// A convolution, ReLU, maxima over 2×2 and classes, of a picture of one channel.
fn of_pictures(size: usize) -> Graph {
    let weights = |name: &str, dims: &[usize]| {
        let count = dims.iter().product();
        let values = zoo::random::uniform(1, name, count, 0.4);
        Parameter::new(name, dims, values).expect("fits")
    };
    let mut b = Network::builder();
    let x = b.input("x", Shape::image(1, size, size)).expect("valid");
    let conv = Conv2d::new(weights("conv", &[3, 1, 3, 3]));
    let y = b.add("conv", Op::Conv2d(conv), &[x]).expect("valid");
    let y = (b.add("act", Op::Elementwise(Activation::Relu.into()), &[y])).expect("valid");
    let pool = MaxPool {
        kernel: (2, 2),
        stride: (2, 2),
        padding: Padding::default(),
        ceil_mode: false,
    };
    let y = b.add("pool", Op::MaxPool(pool), &[y]).expect("valid");
    let y = b.add("flat", Op::Flatten, &[y]).expect("valid");
    let inner = b.shape(y).len();
    let linear = Linear {
        weight: weights("linear", &[2, inner]),
        bias: None,
    };
    let y = b.add("linear", Op::Linear(linear), &[y]).expect("valid");
    b.finish(y).expect("valid")
}

fn of_file(path: &Path, run: bool) -> (Pictures, Vec<String>) {
    let name = path.to_str().expect("a name");
    assert!(is_network(name));
    let options = Estimating {
        degree: Some(3),
        max_memory: Some(4_000_000_000),
        run,
        ..Estimating::default()
    };
    let mut said = Vec::new();
    let row = pictures(name, &options, &mut |s: polyveil::progress::Progress<
        '_,
    >| {
        said.push(s.message.to_string());
    });
    (row.expect("estimated"), said)
}

/// Families that are read from state dicts alone get one of random values.
#[test]
fn published_networks_of_every_family_are_estimated() {
    let of = |name: &str, size: usize| {
        let options = Estimating {
            size: Some(size),
            ..Estimating::default()
        };
        pictures(name, &options, &mut polyveil::progress::silent)
    };
    for name in ["efficientnet_lite0", "convnextv2_nano", "clip_rn50"] {
        let start = std::time::Instant::now();
        let row = of(name, 32).expect("estimated");
        println!("{row}{:.1} s", start.elapsed().as_secs_f64());
        assert_eq!(row.input, [3, 32, 32], "{name}");
        assert!(row.bootstraps > 10 && row.security_bits >= 128, "{row}");
    }
    let error = of("clip_rn50", 48).expect_err("no places").to_string();
    assert!(error.contains("a multiple of 32, 48 is none"), "{error}");
    let error = of("resnet", 32).expect_err("unknown").to_string();
    assert!(
        error.contains("resnet18") && error.contains("clip_rn50"),
        "{error}"
    );
}

/// Before anybody calibrates it: what its plan takes, and run where it is asked for.
#[test]
fn a_file_is_estimated_as_its_plan() {
    let at = std::env::temp_dir().join(format!("polyveil-estimate-{}", std::process::id()));
    std::fs::create_dir_all(&at).expect("a folder");
    let file = at.join("net.pvm");
    let trained = artefact::graph_to_bytes(&of_pictures(8), &Metadata::default()).expect("bytes");
    std::fs::write(&file, trained).expect("written");
    let (row, said) = of_file(&file, true);
    assert!(said.iter().any(|s| s.contains("means: 1")), "{said:?}");
    assert_eq!(
        (&row.input[..], row.degree, row.bootstraps),
        (&[1, 8, 8][..], 3, 0)
    );
    assert!(row.max_abs_error <= row.stated_error && row.max_abs_error.is_some());

    let xor = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/xor.onnx");
    let (row, _) = of_file(&xor, false);
    assert_eq!((&row.input[..], row.degree), (&[2][..], 3));

    // a network of linear layers alone, which has nothing to be fitted
    let mut b = Network::builder();
    let x = b.input("x", Shape::Vector(3)).expect("valid");
    let weight = Parameter::new("w", [2, 3], vec![0.5; 6]).expect("fits");
    let linear = Op::Linear(Linear { weight, bias: None });
    let y = b.add("linear", linear, &[x]).expect("valid");
    let linear: Graph = b.finish(y).expect("valid");
    let linear = artefact::graph_to_bytes(&linear, &Metadata::default()).expect("bytes");
    std::fs::write(&file, linear).expect("written");
    let (row, _) = of_file(&file, true);
    assert_eq!((&row.input[..], row.degree), (&[3][..], 1));

    // of layers in coefficients the shapes say it, and of others the plan
    for size in [8, 64] {
        let graph: PolyGraph = {
            let squares = of_pictures(size).with_average_pools().expect("pools");
            let data: Vec<_> = (0..2)
                .map(|seed| zoo::random::uniform(seed, "x", size * size, 1.0))
                .map(|v| {
                    nn::Tensor::new(
                        Shape::image(1, size, size),
                        v.iter().map(|&v| v.into()).collect(),
                    )
                })
                .collect::<Result<_, _>>()
                .expect("fits");
            let options = nn::lower::Options {
                activations: nn::calibrate::FitOptions {
                    degree: 3,
                    ..Default::default()
                },
                ..Default::default()
            };
            nn::lower::adapt(&squares, &data, &options)
                .expect("adapts")
                .graph
        };
        std::fs::write(&file, artefact::to_bytes(&graph).expect("bytes")).expect("written");
        let graph = network::load_polynomial(&file).expect("read");
        let (row, _) = of_file(&file, false);
        let basis = Machine::default().basis(Probing::AsItIs).expect("costs");
        let target = Target {
            max_memory: Some(4_000_000_000),
            cost: basis.cost.on(row.threads),
            ..Target::default()
        };
        let plan = compile(&graph, &target).expect("compiles");
        let seconds: f64 = plan.predicted_steps(&target.cost).iter().sum();
        near("CPU s", row.predicted_cpu_seconds, seconds, 0.1);
        near(
            "peak",
            row.predicted_peak_bytes as f64,
            plan.facts().peak_bytes as f64,
            0.1,
        );
        assert_eq!(row.bootstraps, plan.facts().bootstraps);
    }
    std::fs::remove_dir_all(&at).expect("removed");
    assert!(!is_network("resnet18"));
}
