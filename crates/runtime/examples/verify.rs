//! What verifying plans takes, and what it finds: the table of `docs/noise.md`.
//!
//! ```text
//! cargo run --release -p polyveil-runtime --example verify -- PLAN...
//! ```

use polyveil_runtime::{VerifiedPlan, machine::cpu_seconds};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "| plan | MB | steps | read and verified, CPU s | values up to | by encryption at most | by weights at most |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let start = cpu_seconds();
        let plan = VerifiedPlan::read(&bytes[..], &path)?;
        let seconds = cpu_seconds() - start;
        let (facts, bounds) = (plan.facts(), plan.answer_bounds());
        println!(
            "| {path} | {:.1} | {} | {seconds:.2} | {:.3} | {:.1e} (2^{:.1}) | {:.1e} |",
            bytes.len() as f64 / 1e6,
            facts.steps.len(),
            bounds.magnitude,
            bounds.error,
            bounds.error.log2(),
            bounds.weights,
        );
    }
    Ok(())
}
