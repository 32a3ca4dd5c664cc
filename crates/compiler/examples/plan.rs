//! The plan of a trained ResNet-CIFAR and what it will cost.
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example plan -- MODEL TRAIN.bin [DEGREE]
//! ```
//! `MODEL` is a state dict with SiLU activations, `TRAIN.bin` a CIFAR-10 binary file; ranges come from its first 200 pictures.

use nn::calibrate::FitOptions;
use nn::format::{DEFAULT_LIMIT, state_dict::StateDict};
use nn::lower::{Options, Outliers, adapt};
use polyveil_compiler::{Target, compile, describe, summarise};
use runtime::report::{Answer, Measured};
use runtime::{Basis, Prediction, Report};
use std::path::Path;
use std::time::Instant;
use zoo::resnet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, train, rest @ ..] = &arguments[..] else {
        return Err("MODEL TRAIN.bin [DEGREE]".into());
    };
    let degree = rest.first().map_or(Ok(15), |d| d.parse())?;
    let graph = resnet::from_state_dict(
        &StateDict::load(Path::new(model), DEFAULT_LIMIT)?,
        approx::Activation::Silu,
    )?;
    let (pictures, _) = data::Dataset::open(Path::new(train), &data::Options::default())?;
    let normalization = task::Normalization::imagenet();
    let options = Options {
        activations: FitOptions {
            degree,
            margin: 0.3,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let inputs: Vec<nn::Tensor> = (0..200)
        .map(|i| pictures.tensor(i, &normalization))
        .collect::<Result<_, _>>()?;
    let twin = adapt(&graph, &inputs, &options)?.graph;
    let start = Instant::now();
    let verified = compile(&twin, &Target::default())?;
    let plan = verified.plan();
    let compiled = start.elapsed().as_secs_f64();
    println!("{}", describe(&verified));
    let summary = summarise(plan);
    println!(
        "{} maps, {} diagonals, {} rotations ({} distinct), {} bootstraps, {:.0} MB of weights; compiled in {compiled:.1} s",
        summary.maps,
        summary.diagonals,
        summary.rotations,
        summary.distinct_rotations.len(),
        summary.bootstraps,
        summary.weight_bytes as f64 / 1e6
    );
    let facts = verified.facts();
    let on = |threads| Prediction::new(&verified, Basis::shipped(), threads).seconds;
    println!(
        "{:.0} s on one thread, {:.0} s on two; keys {:.2} GB, peak {:.2} GB, error of the answer below {:.2e}",
        on(1),
        on(2),
        facts.key_file_bytes as f64 / 1e9,
        facts.peak_bytes as f64 / 1e9,
        facts.output_error
    );
    let prediction = Prediction::new(&verified, Basis::shipped(), 1);
    let report = Report::new(
        &verified,
        &prediction,
        &Measured::default(),
        Answer::default(),
    );
    print!("{}", report.breakdown());
    Ok(())
}
