//! evaluate --prompts: prompts through client, server and client, beside the polynomial twin in the clear; one line of JSON each.

use crate::commands::{memory, rng};
use crate::demo::serve;
use crate::evaluate::{Results, plan, through};
use crate::machine::Machine;
use crate::network::{load_polynomial, named, top};
use crate::terminal::{duration, note};
use crate::text::{self, after, token};
use crate::{EvaluateArgs, Result};
use nn::{PolyGraph, PromptFormat, Tensor};
use rayon::prelude::*;
use runtime::report::Measured;
use runtime::{ClearTwin, Client, Noise, Stopwatch, VerifiedPlan};
use serde_json::json;
use std::time::Instant;

/// Simulated runs on each passage that the model brings along.
const RUNS: u64 = 2;
/// The stated error is the largest simulated one times this. With 2, one of ten measured prompts exceeded it by a quarter.
pub(crate) const SAFETY: f64 = 4.0;

/// What the error of a plan's logits is stated to be, before anything is encrypted.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Stated {
    /// The statement: [`SAFETY`] times the largest difference seen.
    pub(crate) error: f64,
    /// The largest difference of a logit in the simulations.
    largest: f64,
    /// The root mean square of all.
    deviation: f64,
    /// The largest difference of a logit without any noise: the part of it that is the plan's own.
    pub(crate) bias: f64,
    /// Simulated runs with errors.
    pub(crate) runs: usize,
}

/// Simulates runs on inputs of calibration ([`Noise`]) and compares with the network in f64: what is stated covers the steps' noise, and
/// what the plan computes otherwise than the network (the bootstraps' sine).
pub(crate) fn stated(plan: &VerifiedPlan, graph: &PolyGraph, inputs: &[Tensor]) -> Result<Stated> {
    let noise = Noise::of(plan)?;
    let groups: Vec<&[Tensor]> = inputs.chunks(plan.plan().input.batch).collect();
    let all: Vec<(Vec<f64>, f64)> = (groups.par_iter().enumerate())
        .map(|(i, group)| {
            let (mut inputs, mut exact) = (Vec::new(), Vec::new());
            for x in *group {
                exact.push(graph.evaluate(x)?.output.into_values());
                inputs.extend_from_slice(x.values());
            }
            // a batch beyond the passages repeats them
            let differences = |noise| -> Result<Vec<f64>> {
                let answers = plan.simulate(&inputs, noise)?;
                let pairs = answers.chunks(exact[0].len()).zip(exact.iter().cycle());
                Ok(pairs
                    .flat_map(|(answer, exact)| answer.iter().zip(exact).map(|(a, b)| a - b))
                    .collect())
            };
            let quiet = differences(None)?;
            let bias = quiet.iter().fold(0.0f64, |m, d| m.max(d.abs()));
            let mut noisy = Vec::new();
            for run in 0..RUNS {
                noisy.extend(differences(Some((&noise, 1 + RUNS * i as u64 + run)))?);
            }
            Ok((noisy, bias))
        })
        .collect::<Result<_>>()?;
    let values = || all.iter().flat_map(|a| &a.0);
    let largest = values().fold(0.0f64, |m, d| m.max(d.abs()));
    let squares: f64 = values().map(|d| d * d).sum();
    let count = values().count();
    // a maximum passes NaN by
    if values().any(|d| !d.is_finite()) {
        return Err("simulated runs diverge: noise is larger than what the smallest divisors leave room for; train their intervals narrower (`division_loss`, `variance_loss`), or calibrate with a larger --epsilon".into());
    }
    Ok(Stated {
        error: SAFETY * largest,
        largest,
        deviation: (squares / count.max(1) as f64).sqrt(),
        bias: all.iter().fold(0.0, |m, a| m.max(a.1)),
        runs: all.len() * RUNS as usize,
    })
}

/// One prompt's answer beside the twin's.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
struct Comparison {
    positions: usize,
    /// Positions with the same likeliest token.
    same: usize,
    /// Positions where the twin's two best lie closer than twice the stated error.
    too_close: usize,
    /// Other positions with another likeliest token: there should be none.
    different: usize,
    max_abs_error: f64,
    mean_square_error: f64,
}

/// Compares the logits of the prompt's positions.
fn compare(
    format: &PromptFormat,
    answer: &[f64],
    twin: &[f64],
    positions: usize,
    stated: f64,
) -> Comparison {
    let mut out = Comparison::default();
    let mut squares = (0.0, 0usize);
    for position in 0..positions {
        let at = |values| format.logits_at(values, position).unwrap_or_default();
        let (a, t) = (at(answer), at(twin));
        let best = top(&t, 2);
        let margin = match best[..] {
            [first, second] => t[first] - t[second],
            _ => f64::INFINITY,
        };
        let close = margin < 2.0 * stated;
        let same = token(&a) == token(&t);
        out.positions += 1;
        out.same += usize::from(same);
        out.too_close += usize::from(close);
        out.different += usize::from(!close && !same);
        for (a, t) in a.iter().zip(&t) {
            let e = (a - t).abs();
            // a NaN would be no maximum
            out.max_abs_error = if e.is_nan() {
                f64::INFINITY
            } else {
                out.max_abs_error.max(e)
            };
            squares = (squares.0 + e * e, squares.1 + 1);
        }
    }
    out.mean_square_error = squares.0 / squares.1.max(1) as f64;
    out
}

pub(crate) fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
    let graph: PolyGraph = load_polynomial(&a.model)?;
    let format = graph
        .metadata()
        .prompts
        .clone()
        .ok_or_else(|| format!("{}: {}", a.model.display(), text::NO_LANGUAGE))?;
    let path = a
        .prompts
        .as_deref()
        .ok_or("prompts are needed: --prompts FILE")?;
    let lines = std::fs::read_to_string(path).map_err(named(path))?;
    let all: Vec<&str> = lines.lines().filter(|l| !l.trim().is_empty()).collect();
    let wanted = a.skip..(a.skip + a.count).min(all.len());
    // refused before anything is computed
    let tokens: Vec<Vec<u32>> = (wanted.clone())
        .map(|i| {
            let tokens = format.encode(all[i]);
            tokens.map_err(|e| format!("{}: prompt {i}: {e}", path.display()).into())
        })
        .collect::<Result<_>>()?;
    let results = Results(&a.output);
    let open = results.missing(wanted.clone())?;
    if !open.is_empty() {
        let machine = Machine::load(&a.predict)?;
        let plan = plan(a, &graph, &machine)?;
        let prediction = machine.announce(&a.predict, &plan, None, threads)?;
        memory(&plan, plan.facts().peak_bytes, a.max_memory)?;
        let start = Instant::now();
        let passages = format.passages().iter().map(|t| format.input(t));
        let stated = stated(&plan, &graph, &passages.collect::<nn::Result<Vec<_>>>()?)?;
        note(format_args!(
            "stated error of a logit: {:.2e} ({SAFETY} times the largest of {} simulated runs on passages of calibration, whose root mean square is {:.2e}; without noise they differ from the network by {:.2e}; {})",
            stated.error,
            stated.runs,
            stated.deviation,
            stated.bias,
            duration(start.elapsed().as_secs_f64())
        ));
        results.append(&json!({ "prediction": prediction, "stated": stated }))?;
        let client = Client::new(plan.client_spec(), &mut rng())?;
        let server = serve(&client, &plan)?;
        let output = plan.plan().output.places.len();
        let (mut sum, mut runs) = (Stopwatch::default(), 0u32);
        let batch = plan.plan().input.batch;
        for (turn, group) in open.chunks(batch).enumerate() {
            // the network's intervals, then the plan's own: operands of bootstraps
            let leaves = |values: &[f64]| -> Result<Option<String>> {
                match ClearTwin::new(&plan, client.spec(), values)?.finish() {
                    Err(e @ runtime::Error::Range { .. }) => Ok(Some(e.to_string())),
                    other => Ok(other.map(|_| None)?),
                }
            };
            let leave_out = |index: usize, outside: &str| -> Result<()> {
                results
                    .append(&json!({ "index": index, "prompt": all[index], "outside": outside }))?;
                note(format_args!(
                    "prompt {index} leaves the calibrated ranges in the clear twin ({outside}) and is left out; calibrate on text that covers it (`polyveil calibrate`)"
                ));
                Ok(())
            };
            let mut taken = Vec::new();
            for &index in group {
                let x = format.input(&tokens[index - wanted.start])?;
                let twin = graph.evaluate(&x)?;
                match twin.outside.first() {
                    Some(outside) => leave_out(index, &outside.to_string())?,
                    None => taken.push((index, x, twin.output.into_values())),
                }
            }
            let together = |taken: &[(usize, Tensor, Vec<f64>)]| -> Vec<f64> {
                let values = taken.iter().flat_map(|t| t.1.values());
                values.copied().collect()
            };
            // all at once; one by one only where one of them does
            if !taken.is_empty() && leaves(&together(&taken))?.is_some() {
                let mut within = Vec::new();
                for one in taken {
                    match leaves(one.1.values())? {
                        Some(outside) => leave_out(one.0, &outside)?,
                        None => within.push(one),
                    }
                }
                taken = within;
            }
            if taken.is_empty() {
                continue;
            }
            let inputs = together(&taken);
            let (answers, watch) = through((&client, &server), &inputs, &prediction)?;
            let seconds = |of: fn(&(f64, f64)) -> f64| watch.steps.values().map(of).sum::<f64>();
            let count = taken.len();
            for ((index, _, twin), answer) in taken.iter().zip(answers.chunks(output)) {
                let tokens = &tokens[index - wanted.start];
                let last = after(&format, tokens.len());
                let found = compare(&format, answer, twin, last + 1, stated.error);
                let next = |values: &[f64]| {
                    let logits = format.logits_at(values, last).unwrap_or_default();
                    format.vocabulary().show(token(&logits))
                };
                let mut row = json!({
                    "index": index, "prompt": all[*index], "tokens": tokens.len(), "next": next(answer), "clear_next": next(twin),
                    "stated_error": stated.error, "seconds": seconds(|s| s.0), "cpu_seconds": seconds(|s| s.1),
                    "peak_bytes": runtime::machine::peak_bytes(),
                });
                if let (Some(row), serde_json::Value::Object(found)) =
                    (row.as_object_mut(), json!(found))
                {
                    row.extend(found);
                    if batch > 1 {
                        row.insert("prompts_in_the_run".into(), count.into());
                    }
                }
                results.append(&row)?;
                note(format_args!(
                    "{}/{}: {row}",
                    (turn * batch + count).min(open.len()),
                    open.len()
                ));
            }
            runs += 1;
            for (step, (wall, cpu)) in watch.steps {
                let total = sum.steps.entry(step).or_default();
                *total = (total.0 + wall, total.1 + cpu);
            }
        }
        // of one run, as predictions are
        let one = |s: (f64, f64)| (s.0 / f64::from(runs), s.1 / f64::from(runs));
        let measured = Measured {
            steps: sum.steps.into_iter().map(|(i, s)| (i, one(s))).collect(),
            ..Measured::default()
        };
        eprint!("{}", text::breakdown(&plan, &prediction, &measured));
    }
    summary(&results, wanted)
}

/// One JSON object about all prompts that were asked for.
fn summary(results: &Results<'_>, wanted: std::ops::Range<usize>) -> Result<()> {
    let (left_out, all) = results.of(wanted)?;
    let sum = |key: &str| all.iter().filter_map(|d| d[key].as_u64()).sum::<u64>();
    let numbers = |key: &str| -> Vec<f64> {
        let mut all: Vec<f64> = all.iter().filter_map(|d| d[key].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let largest = |key: &str| numbers(key).last().copied();
    let median = |key: &str| numbers(key).get(all.len() / 2).copied();
    println!(
        "{}",
        json!({
            "prompts": all.len(), "left_out": left_out.len(), "positions": sum("positions"), "same_token_as_clear": sum("same"),
            "too_close": sum("too_close"), "different": sum("different"), "stated_error": largest("stated_error"),
            "max_abs_error": largest("max_abs_error"), "largest_mean_square_error": largest("mean_square_error"),
            "median_seconds": median("seconds"), "median_cpu_seconds": median("cpu_seconds"), "peak_bytes": largest("peak_bytes"),
        })
    );
    Ok(())
}
