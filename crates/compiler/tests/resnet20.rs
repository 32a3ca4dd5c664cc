//! The plan of a ResNet-20 with polynomials of degree 15, as text.

mod support;

use polyveil_compiler::{Layers, Target, compile, describe, summarise};
use std::time::Instant;
use support::{Random, resnet, twin};

/// Compiled in release, also runs the plan in f64. Set `POLYVEIL_BLESS=1` to write the golden file anew.
#[test]
fn golden_plan() {
    let mut random = Random(20);
    let graph = resnet(&mut random, 32, &[16, 32, 64], 3, 10);
    let (graph, inputs) = twin(&graph, &mut random, 1, 15);
    let start = Instant::now();
    // the other way costs nearly the same
    let target = Target {
        layers: Layers::Slots,
        ..Target::default()
    };
    let verified = compile(&graph, &target).expect("compiles");
    let plan = verified.plan();
    let seconds = start.elapsed().as_secs_f64();
    let summary = summarise(plan);
    let text = describe(&verified);
    println!("{text}");
    println!(
        "{} steps, {} maps, {} diagonals, {} rotations ({} distinct), {} bootstraps, {:.1} MB of weights, compiled in {seconds:.1} s",
        summary.steps,
        summary.maps,
        summary.diagonals,
        summary.rotations,
        summary.distinct_rotations.len(),
        summary.bootstraps,
        summary.weight_bytes as f64 / 1e6,
    );
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resnet20.txt");
    if std::env::var_os("POLYVEIL_BLESS").is_some() {
        std::fs::write(golden, &text).expect("writable");
    }
    assert!(
        text == std::fs::read_to_string(golden).expect("readable"),
        "the plan has changed: compare `git diff` after POLYVEIL_BLESS=1"
    );
    support::little_alarm("degree 15", &verified, &target.cost);
    if !cfg!(debug_assertions) {
        support::agree(&graph, &target, &inputs, 1e-5);
    }
}

/// Quartics take two levels, so fewer bootstraps are needed.
#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "slow: cargo test --release -p polyveil-compiler"
)]
fn of_degree_four() {
    let mut random = Random(20);
    let graph = resnet(&mut random, 32, &[16, 32, 64], 3, 10);
    let (graph, _) = twin(&graph, &mut random, 1, 4);
    let plan = compile(&graph, &Target::default()).expect("compiles");
    let summary = summarise(plan.plan());
    support::little_alarm("degree 4", &plan, &Target::default().cost);
    assert!(summary.bootstraps <= 7, "{summary:?}");
}
