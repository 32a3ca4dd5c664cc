//! evaluate --prompts: at every position of a prompt, the next token beside the twin's.

use crate::Result;
use crate::arguments::EvaluateArgs;
use crate::evaluate::{Bench, Results, largest_error, margin, row, summary};
use crate::network::named;
use crate::tasks::log_probability;
use crate::text::{self, after, token};
use nn::PromptFormat;
use runtime::Report;
use runtime::report::Answer;
use serde_json::json;

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
        let close = margin(&t) < 2.0 * stated;
        let same = token(&a) == token(&t);
        out.positions += 1;
        out.same += usize::from(same);
        out.too_close += usize::from(close);
        out.different += usize::from(!close && !same);
        out.max_abs_error = out.max_abs_error.max(largest_error(&a, &t));
        for (a, t) in a.iter().zip(&t) {
            let e = a - t;
            squares = (squares.0 + e * e, squares.1 + 1);
        }
    }
    out.mean_square_error = squares.0 / squares.1.max(1) as f64;
    out
}

/// Nats a token of the prompt, found by those before it; none where there is none to find.
fn nats(format: &PromptFormat, tokens: &[u32], answer: &[f64]) -> Option<f64> {
    let first = format.public() + 1;
    let found = tokens.get(first..).filter(|found| !found.is_empty())?;
    let each = found.iter().enumerate().map(|(position, &token)| {
        let logits = format.logits_at(answer, position).unwrap_or_default();
        -log_probability(&logits, token)
    });
    Some(each.sum::<f64>() / found.len() as f64)
}

pub fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
    let (graph, format) = text::language(&a.model)?;
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
        let passages = text::passages(&format)?;
        let (bench, stated) = Bench::new("prompt", a, &graph, &results, Some(passages), threads)?;
        let stated = stated.map_or(f64::INFINITY, |s| s.error);
        let of = |index: usize| &tokens[index - wanted.start];
        let input = |index| {
            Ok((
                format.input(of(index))?,
                row(json!({ "prompt": all[index] })),
            ))
        };
        let measured = bench.each(&open, input, |index, answer, twin| {
            let last = after(&format, of(index).len());
            let next = |values: &[f64]| {
                let logits = format.logits_at(values, last).unwrap_or_default();
                format.vocabulary().show(token(&logits))
            };
            let mut line = row(json!({
                "tokens": of(index).len(), "next": next(answer), "clear_next": next(twin), "stated_error": stated,
            }));
            line.extend(row(json!(compare(&format, answer, twin, last + 1, stated))));
            line.extend(row(json!({
                "nats": nats(&format, of(index), answer), "clear_nats": nats(&format, of(index), twin),
            })));
            line
        })?;
        eprint!(
            "{}",
            Report::new(&bench.plan, &bench.prediction, &measured, Answer::default()).breakdown()
        );
    }
    summary("prompt", &results, wanted, |all| {
        let sum = |key: &str| all.iter().filter_map(|d| d[key].as_u64()).sum::<u64>();
        let squares = all.iter().filter_map(|d| d["mean_square_error"].as_f64());
        // of all tokens that were found, each prompt's as many times as it has them
        let perplexity = |key: &str| {
            let of = |d: &serde_json::Value| {
                Some((d[key].as_f64()?, d["positions"].as_u64()? as f64 - 1.0))
            };
            let (sum, count) =
                (all.iter().filter_map(of)).fold((0.0, 0.0), |(s, n), (x, k)| (s + x * k, n + k));
            (count > 0.0).then(|| (sum / count).exp())
        };
        row(json!({
            "perplexity": perplexity("nats"), "clear_perplexity": perplexity("clear_nats"),
            "positions": sum("positions"), "same_token_as_clear": sum("same"), "too_close": sum("too_close"), "different": sum("different"),
            "largest_mean_square_error": squares.fold(0.0, f64::max),
        }))
    })
}
