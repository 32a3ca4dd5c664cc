//! What one token of a published language model takes against keys and values that are kept, from its shape: plans of a step of its first block and of its first two
//! are made, of random weights, and every further block takes as much as the second adds.
//!
//! ```text
//! cargo run --release -p polyveil-compiler --example one_token -- [MODEL [CONTEXT [POWER [slots | coefficients | cheapest]]]]
//! ```

use nn::approximations::Approximations;
use nn::calibrate::FitOptions;
use nn::lower::{Options, adapt, adapt_step};
use nn::{AttentionScheme, PowerSoftmax, Tensor};
use polyveil_compiler::{Layers, Target, compile};
use runtime::{Cache, VerifiedPlan};
use std::collections::BTreeMap;
use std::time::Instant;
use zoo::architecture::Architecture;
use zoo::language::LanguageModel;

/// Tokens that ranges are taken of.
const TOKENS: usize = 6;

type Failure = Box<dyn std::error::Error>;

/// The model's first blocks.
fn shallow(architecture: &Architecture, layers: usize) -> Architecture {
    let mut own = architecture.clone();
    match &mut own {
        Architecture::Llama(c) => c.sizes.layers = layers,
        Architecture::GptNeoX(c) => c.sizes.layers = layers,
    }
    own
}

fn plan(
    architecture: Architecture,
    (context, power): (usize, u32),
    target: &Target,
) -> Result<VerifiedPlan, Failure> {
    let vocabulary = u32::try_from(architecture.sizes().vocabulary)?;
    let model = LanguageModel::random(architecture, 3)?;
    let scheme = AttentionScheme::Power(PowerSoftmax::new(power, 0.1)?);
    let token = |s: u32, t: u32| (7919 * s + 104_729 * t + t * s) % vocabulary;
    let sequences: Vec<Vec<u32>> = (0..2)
        .map(|s| (0..TOKENS as u32).map(|t| token(s, t)).collect())
        .collect();
    let embedded = sequences.iter().map(|t| model.embed(t));
    let data: Vec<Tensor> = embedded.collect::<Result<_, _>>()?;
    let graph = model.graph(TOKENS, scheme)?;
    let options = Options {
        activations: FitOptions {
            degree: 15,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let whole = adapt(&graph, &data, &options)?;
    let step = model.step(context, scheme)?;
    let json = whole.approximations.to_json(&graph)?;
    let approximations = Approximations::from_json(&step.graph, &json)?;
    let mut inputs = Vec::new();
    for tokens in &sequences {
        let mut steps = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            steps.push(step.inputs(model.embed(&[*token])?.values(), position)?);
        }
        inputs.push(steps);
    }
    let lowered = adapt_step(&step.graph, &approximations, &inputs, None)?;
    Ok(compile(&lowered, target)?)
}

/// CPU seconds by what steps are for.
fn seconds(plan: &VerifiedPlan, target: &Target) -> BTreeMap<&'static str, f64> {
    let mut by = BTreeMap::new();
    let steps = plan.plan().steps.iter();
    for (step, taken) in steps.zip(plan.predicted_steps(&target.cost)) {
        *by.entry(step.work().name()).or_default() += taken;
    }
    by
}

/// The layers that take most, and the step at which memory is largest.
fn dearest(plan: &VerifiedPlan, target: &Target) -> Result<(), Failure> {
    let mut by: BTreeMap<(&str, &str), (usize, f64)> = BTreeMap::new();
    let steps = plan.plan().steps.iter();
    for (step, taken) in steps.zip(plan.predicted_steps(&target.cost)) {
        let entry = by.entry((&step.layer, step.operation.doing())).or_default();
        *entry = (entry.0 + 1, entry.1 + taken);
    }
    let mut all: Vec<_> = by.into_iter().collect();
    all.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for ((layer, what), (count, seconds)) in all.iter().take(24) {
        println!("    {seconds:7.2} CPU s: {count} of {what}, {layer}");
    }
    if let Some(step) = plan.peak_step()? {
        println!(
            "    memory is largest at {} ({})",
            step.layer,
            step.operation.doing()
        );
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |i: usize, default: &str| arguments.get(i).map_or(default.into(), String::clone);
    let name = given(0, "smollm2-135m");
    let sizes = (given(1, "128").parse()?, given(2, "4").parse()?);
    let layers = Layers::named(&given(3, "coefficients")).ok_or(Layers::NAMES)?;
    let architecture = Architecture::published(&name).ok_or("no published model of this name")?;
    let target = Target {
        layers,
        ..Target::default()
    };
    let mut plans = Vec::new();
    for count in [1, 2] {
        let start = Instant::now();
        let own = plan(shallow(&architecture, count), sizes, &target)?;
        let by = seconds(&own, &target);
        let facts = own.facts();
        println!(
            "{count} of {} blocks: {:.1} CPU s, {} bootstraps, {} keys of {:.2} GB, peak {:.2} GB, cache of {:.1} MB, made in {:.0} s",
            architecture.sizes().layers,
            by.values().sum::<f64>(),
            facts.bootstraps,
            facts.keys.0.len(),
            facts.key_file_bytes as f64 / 1e9,
            facts.peak_bytes as f64 / 1e9,
            Cache::file_bytes(&own) as f64 / 1e6,
            start.elapsed().as_secs_f64()
        );
        if count == 1 {
            dearest(&own, &target)?;
        }
        plans.push((by, facts.bootstraps, Cache::file_bytes(&own)));
    }
    let [(first, few, small), (second, more, large)] = &plans[..] else {
        return Ok(());
    };
    let further = (architecture.sizes().layers - 1) as f64;
    let mut all = 0.0;
    for (work, seconds) in second {
        let own = first.get(work).copied().unwrap_or(0.0);
        let whole = own + further * (seconds - own);
        println!("  {work}: {whole:.1} CPU s");
        all += whole;
    }
    println!(
        "{name}, one token against {} kept: {all:.0} CPU s, {:.0} bootstraps, cache of {:.2} GB",
        sizes.0,
        *few as f64 + further * (*more as f64 - *few as f64),
        (*small as f64 + further * (*large as f64 - *small as f64)) / 1e9
    );
    Ok(())
}
