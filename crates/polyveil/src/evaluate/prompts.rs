//! At every position of a prompt, the next token beside that in the clear.

use super::subject::{Row, row};
use crate::largest_error;
use serde_json::{Value, json};
use task::Prompts;
use task::scores::{argmax, log_probability, margin};

/// One prompt's answer beside the clear answer's.
#[derive(Debug, Default, PartialEq, serde::Serialize)]
struct Comparison {
    positions: usize,
    /// Positions with the same likeliest token.
    same: usize,
    /// Positions where the clear answer's two best lie closer than twice the stated error.
    too_close: usize,
    /// Other positions with another likeliest token: there should be none.
    different: usize,
    max_abs_error: f64,
    mean_square_error: f64,
}

/// Compares the logits of the prompt's positions.
fn positions(
    format: &Prompts,
    answer: &[f64],
    clear: &[f64],
    positions: usize,
    stated: f64,
) -> Comparison {
    let mut out = Comparison::default();
    let mut squares = (0.0, 0usize);
    for position in 0..positions {
        let at = |values| format.logits_at(values, position);
        let (Some(a), Some(t)) = (at(answer), at(clear)) else {
            continue;
        };
        let close = margin(&t) < 2.0 * stated;
        let same = argmax(&a) == argmax(&t);
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

/// Nats a token of the prompt, found by those before it, and how many are; none where there is none to find.
fn nats(format: &Prompts, tokens: &[u32], answer: &[f64]) -> Option<(f64, usize)> {
    let found = tokens.iter().skip(format.public() + 1).enumerate();
    let each = found.filter_map(|(position, &token)| {
        let logits = format.logits_at(answer, position)?;
        Some(-log_probability(&logits, token as usize))
    });
    let all: Vec<f64> = each.collect();
    (!all.is_empty()).then(|| (all.iter().sum::<f64>() / all.len() as f64, all.len()))
}

/// The answer to a prompt of these tokens beside that in the clear.
pub(super) fn compare(
    format: &Prompts,
    tokens: &[u32],
    (answer, clear): (&[f64], &[f64]),
    stated: f64,
) -> Row {
    let last = tokens.len() - format.public() - 1;
    let next = |values: &[f64]| {
        let logits = format.logits_at(values, last)?;
        let best = u32::try_from(argmax(&logits)).unwrap_or(u32::MAX);
        Some(format.tokenizer().show(best))
    };
    let [own, twin] = [answer, clear].map(|values| nats(format, tokens, values));
    let mut line = row(json!({
        "next": next(answer), "clear_next": next(clear), "nats": own.map(|n| n.0), "clear_nats": twin.map(|n| n.0), "found": own.map_or(0, |n| n.1),
    }));
    line.extend(row(json!(positions(
        format,
        answer,
        clear,
        last + 1,
        stated
    ))));
    line
}

/// What all prompts say together.
pub(super) fn summary(all: &[Value]) -> Row {
    let sum = |key: &str| all.iter().filter_map(|d| d[key].as_u64()).sum::<u64>();
    let squares = all.iter().filter_map(|d| d["mean_square_error"].as_f64());
    // of all tokens that were found, each prompt's as many times as it has them
    let perplexity = |key: &str| {
        // of lines from before answers had some positions alone: of all but the last
        let found = |d: &Value| {
            let all = || Some(d["positions"].as_u64()?.saturating_sub(1));
            d["found"].as_u64().or_else(all)
        };
        let of = |d: &Value| Some((d[key].as_f64()?, found(d)? as f64));
        let (sum, count) =
            (all.iter().filter_map(of)).fold((0.0, 0.0), |(s, n), (x, k)| (s + x * k, n + k));
        (count > 0.0).then(|| (sum / count).exp())
    };
    row(json!({
        "perplexity": perplexity("nats"), "clear_perplexity": perplexity("clear_nats"),
        "positions": sum("positions"), "same_token_as_clear": sum("same"), "too_close": sum("too_close"), "different": sum("different"),
        "largest_mean_square_error": squares.fold(0.0, f64::max),
    }))
}
