//! The plan of a transformer of random weights and what it will cost.
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example transformer -- [LAYERS [VOCABULARY [BITS]]]
//! ```
//! Everything else is stories260K: 64 channels, 8 heads, 4 of keys and values, 172 hidden channels, 32 tokens.

#[path = "../tests/support/mod.rs"]
mod support;

use polyveil_compiler::{Target, compile, describe, summarise};
use rayon::prelude::*;
use runtime::plan::Operation;
use runtime::{Basis, Prediction};
use std::collections::BTreeMap;
use std::time::Instant;
use support::Random;
use support::transformer::{Size, transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| -> Result<usize, std::num::ParseIntError> {
        arguments.get(i).map_or(Ok(default), |a| a.parse())
    };
    let size = Size {
        layers: number(0, 1)?,
        width: 64,
        heads: 8,
        kv_heads: 4,
        hidden: 172,
        length: 32,
        vocabulary: number(1, 0)?,
        bits: number(2, 12)? as f64,
        degree: 15,
    };
    let mut random = Random(1);
    let shape = nn::Shape::image(size.width, 1, size.length);
    let inputs: Vec<nn::Tensor> = (0..3).map(|_| random.tensor(shape)).collect();
    let start = Instant::now();
    let graph = transformer(3, size, &inputs);
    let ranges = nn::calibrate::calibrate(&graph, inputs.par_iter().map(|x| Ok(x.clone())))?.ranges;
    let graph = nn::PolyGraph::try_from(graph)?.with_ranges(ranges)?;
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let plan = compile(&graph, &Target::default())?;
    let compiled = start.elapsed().as_secs_f64();
    println!("{}", describe(&plan));
    let summary = summarise(&plan);
    println!(
        "{} maps, {} diagonals, {} rotations ({} distinct), {} bootstraps, {:.0} MB of weights; compiled in {compiled:.1} s",
        summary.maps,
        summary.diagonals,
        summary.rotations,
        summary.distinct_rotations.len(),
        summary.bootstraps,
        summary.weight_bytes as f64 / 1e6
    );
    let verified = runtime::VerifiedPlan::new(plan)?;
    let facts = verified.facts();
    let prediction = |threads| Prediction::new(&verified, Basis::shipped(), threads);
    println!(
        "{} keys, {:.2} GB in the file; peak {:.2} GB; {:.0} CPU s; {:.0} s on 2 threads; error of the answer {:.2e} of {:.2}",
        facts.keys.0.len(),
        facts.key_file_bytes as f64 / 1e9,
        facts.peak_bytes as f64 / 1e9,
        prediction(1).cpu_seconds(),
        prediction(2).seconds(),
        facts.output_error,
        facts.output_magnitude,
    );
    // where the time goes
    let mut by: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (step, seconds) in verified.plan().steps.iter().zip(prediction(1).steps()) {
        let what = match &step.operation {
            Operation::Bootstrap { bootstrap, .. } => format!("bootstrap of {}", bootstrap.slots),
            other => other.doing().to_owned(),
        };
        for key in [what, format!("  {}", step.layer)] {
            let entry = by.entry(key).or_default();
            *entry = (entry.0 + 1, entry.1 + seconds);
        }
    }
    for (what, (count, seconds)) in by {
        println!("{what:40} {count:4} steps {seconds:8.2} CPU s");
    }
    Ok(())
}
