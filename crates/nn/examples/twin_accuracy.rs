//! How many points of accuracy polynomial activations cost, per degree, without any guard.
//!
//! ```text
//! cargo run --release -p polyveil-nn --example twin_accuracy -- MODEL TRAIN.bin [--activation silu] [--test TEST.bin]
//!     [--degrees 15,18,27,31] [--margin 0.1] [--floor 0.02] [--rounds 1] [--calibrate 1000] [--held-out 1000]
//! ```
//! `MODEL` is a ResNet-CIFAR state dict, `TRAIN.bin` and `TEST.bin` are CIFAR-10 binary files. Ranges and densities are taken from
//! the first `--calibrate` pictures of TRAIN, the choice is to be made on its last `--held-out` ones, and TEST is only looked at when
//! it is given.

use approx::Activation;
use polyveil_nn::calibrate::{Degree, FitOptions, calibrate_to_polynomials};
use polyveil_nn::format::{DEFAULT_LIMIT, state_dict::StateDict};
use polyveil_nn::models::resnet_cifar;
use polyveil_nn::picture::{self, CifarRecord};
use polyveil_nn::{Graph, PolyGraph, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

struct Score {
    original: f64,
    twin: f64,
    agreement: f64,
    outside: BTreeMap<String, usize>,
    first: Vec<String>,
    pictures_outside: usize,
    /// Pictures whose logits are no numbers; the largest difference leaves them out.
    diverged: usize,
    largest_error: f64,
    largest_logit: f64,
}

fn score(graph: &Graph, twin: &PolyGraph, records: &[CifarRecord]) -> Result<Score> {
    let normalization = picture::imagenet_normalization();
    let each = records
        .par_iter()
        .map(|r| {
            let input = r.to_tensor(&normalization)?;
            Ok((
                usize::from(r.label),
                graph.evaluate(&input)?,
                twin.evaluate(&input)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let percent = |count: usize| 100.0 * count as f64 / records.len() as f64;
    let (mut outside, mut first) = (BTreeMap::new(), Vec::new());
    let (mut largest_error, mut largest_logit) = (0.0_f64, 0.0_f64);
    for (_, a, b) in &each {
        if let Some(o) = b.outside.first() {
            first.push(o.to_string());
        }
        for o in &b.outside {
            *outside.entry(o.name.clone()).or_insert(0) += o.count;
        }
        for (x, y) in a.output.values().iter().zip(b.output.values()) {
            if !y.is_finite() {
                continue;
            }
            largest_error = largest_error.max((x - y).abs());
            largest_logit = largest_logit.max(y.abs());
        }
    }
    Ok(Score {
        original: percent(
            each.iter()
                .filter(|(l, a, _)| a.output.argmax() == *l)
                .count(),
        ),
        twin: percent(
            each.iter()
                .filter(|(l, _, b)| b.output.argmax() == *l)
                .count(),
        ),
        agreement: percent(
            each.iter()
                .filter(|(_, a, b)| a.output.argmax() == b.output.argmax())
                .count(),
        ),
        pictures_outside: each
            .iter()
            .filter(|(_, _, b)| !b.outside.is_empty())
            .count(),
        diverged: each
            .iter()
            .filter(|(_, _, b)| b.output.values().iter().any(|v| !v.is_finite()))
            .count(),
        outside,
        first,
        largest_error,
        largest_logit,
    })
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    let mut options = BTreeMap::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(a) = arguments.next() {
        match a.strip_prefix("--") {
            Some(name) => drop(options.insert(
                name.to_string(),
                arguments.next().ok_or("an option needs a value")?,
            )),
            None => files.push(a),
        }
    }
    let [model, train] = &files[..] else {
        return Err("usage: twin_accuracy MODEL TRAIN.bin [options]".into());
    };
    let option =
        |name: &str, default: &str| options.get(name).cloned().unwrap_or_else(|| default.into());
    let name = option("activation", "silu");
    let activation = Activation::ALL
        .into_iter()
        .find(|a| a.name() == name)
        .ok_or("unknown activation")?;
    let weights = StateDict::load(Path::new(model), DEFAULT_LIMIT)?;
    let graph = resnet_cifar::from_state_dict(&weights, activation)?;
    let train = picture::load_cifar(Path::new(train))?;
    let held_out = &train[train.len()
        - option("held-out", "1000")
            .parse::<usize>()?
            .min(train.len())..];
    let calibration = &train[..option("calibrate", "1000")
        .parse::<usize>()?
        .min(train.len() - held_out.len())];
    let test = options
        .get("test")
        .map(|t| picture::load_cifar(Path::new(t)))
        .transpose()?;
    let normalization = picture::imagenet_normalization();
    let inputs = calibration.par_iter().map(|r| r.to_tensor(&normalization));
    for degree in option("degrees", "15,18,27,31").split(',') {
        let fit = FitOptions {
            degree: Degree::Fixed(degree.parse()?),
            margin: option("margin", "0.1").parse()?,
            interval: None,
            floor: option("floor", "0.02").parse()?,
            rounds: option("rounds", "1").parse()?,
        };
        let twin = match calibrate_to_polynomials(&graph, &inputs, &fit) {
            Ok(twin) => twin,
            Err(e) => {
                println!("degree {degree}: {e}");
                continue;
            }
        };
        println!(
            "degree {degree}, {} calibration pictures, {} of them leave an interval",
            calibration.len(),
            twin.outside
        );
        if options.contains_key("verbose") {
            for f in &twin.fits {
                let (low, high) = f.approximation.polynomial.interval();
                println!(
                    "  {:16} [{low:8.3}, {high:8.3}] depth {} rms {:.5} sup {:.4} at {:.3}",
                    f.node,
                    f.approximation.depth(),
                    f.root_mean_square_error,
                    f.approximation.sup_error,
                    f.approximation.worst_at
                );
            }
        }
        for (what, records) in [("held-out", Some(held_out)), ("test", test.as_deref())] {
            let Some(records) = records.filter(|r| !r.is_empty()) else {
                continue;
            };
            let s = score(&graph, &twin.graph, records)?;
            println!(
                "  {what} ({}): original {:.2} %, twin {:.2} %, same class {:.2} %, logits ±{:.1}, largest logit difference {:.3}, {} pictures diverge, {} leave an interval {:?}",
                records.len(),
                s.original,
                s.twin,
                s.agreement,
                s.largest_logit,
                s.largest_error,
                s.diverged,
                s.pictures_outside,
                s.outside
            );
            for line in s.first {
                println!("    first to leave in one picture: {line}");
            }
        }
    }
    Ok(())
}
