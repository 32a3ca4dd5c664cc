//! The plan of a transformer of random weights and what it will cost.
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example transformer -- [LAYERS [VOCABULARY [BITS [CARRIED [ENCRYPTED]]]]]
//! ```
//! Everything else is stories260K: 64 channels, 8 heads, 4 of keys and values, 172 hidden channels, 32 tokens.

#[path = "../tests/support/mod.rs"]
mod support;

use nn::lower::Numerator;
use polyveil_compiler::{Target, compile, describe, summarise};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::Operation;
use runtime::{Basis, Client, Prediction, Server, Stopwatch, VerifiedPlan};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
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
        epsilon: 0.1,
        bits: number(2, 12)? as f64,
        degree: 15,
        numerator: if number(3, 0)? == 0 {
            Numerator::Apart
        } else {
            Numerator::Carried
        },
        public: false,
        valid: None,
    };
    let start = Instant::now();
    let (graph, inputs) = transformer(3, size, 8);
    println!("built in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let verified = compile(&graph, &Target::default())?;
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
    let prediction = |threads| Prediction::new(&verified, Basis::shipped(), threads);
    println!(
        "{} keys, {:.2} GB in the file; peak {:.2} GB; {:.0} CPU s; {:.0} s on 2 threads; error of the answer {:.2e} of {:.2}",
        facts.keys.0.len(),
        facts.key_file_bytes as f64 / 1e9,
        facts.peak_bytes as f64 / 1e9,
        prediction(1).cpu_seconds,
        prediction(2).seconds,
        facts.output_error,
        facts.output_magnitude,
    );
    // where the time goes
    let mut by: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (step, seconds) in verified.plan().steps.iter().zip(prediction(1).steps) {
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
    if number(4, 0)? > 0 {
        encrypted(Arc::new(verified), &graph, &inputs[0])?;
    }
    Ok(())
}

/// Runs the plan on ciphertexts and compares the answer with the clear twin's.
fn encrypted(
    plan: Arc<VerifiedPlan>,
    graph: &nn::PolyGraph,
    input: &nn::Tensor,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let start = Instant::now();
    let client = Client::new(
        plan.client_file(graph.metadata().task.clone().unwrap_or_default())?,
        &mut rng,
    );
    let keys = client.write_evaluation_keys(Vec::new(), "keys", &mut rng, &mut |_, _| {})?;
    let server = Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {})?;
    drop(keys);
    println!("keys in {:.1} s", start.elapsed().as_secs_f64());
    let state = server.start(&client.encrypt(input.values(), &mut rng)?)?;
    let mut watch = Stopwatch::default();
    let start = Instant::now();
    let answer = client.decrypt(&server.run(state, &mut watch)?)?;
    let wall = start.elapsed().as_secs_f64();
    let cpu: f64 = watch.steps.values().map(|s| s.1).sum();
    let want = graph.evaluate(input)?.output;
    let errors = answer.iter().zip(want.values()).map(|(a, b)| (a - b).abs());
    let (most, squares) = errors.fold((0.0f64, 0.0), |(m, s), e| (m.max(e), s + e * e));
    println!(
        "encrypted: {wall:.1} s, {cpu:.1} CPU s; largest error {most:.2e}, mean square {:.2e}, of values up to {:.2}",
        squares / answer.len() as f64,
        want.values().iter().fold(0.0f64, |m, v| m.max(v.abs()))
    );
    Ok(())
}
