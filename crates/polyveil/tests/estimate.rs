//! Estimates from shapes against the plans that the networks get.

use ckks::ParametersSpec;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use polyveil::compiler::{Layers, Target, compile};
use polyveil::estimate_tokens::{Whole, whole};
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
    let estimated = whole(&shape, LENGTH, (scheme, polynomials), &target).expect("estimated");
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
}
