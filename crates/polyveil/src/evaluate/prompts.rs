//! At every position of a prompt, the next token beside that in the clear.

use super::{Row, Subject, row};
use crate::client::{after, token};
use crate::error::{Result, named};
use crate::largest_error;
use crate::network::task_of_graph;
use nn::{PolyGraph, Tensor};
use serde_json::{Value, json};
use std::path::Path;
use task::Task;
use task::scores::{log_probability, margin};

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
fn compare(
    format: &task::Prompts,
    answer: &[f64],
    clear: &[f64],
    positions: usize,
    stated: f64,
) -> Comparison {
    let mut out = Comparison::default();
    let mut squares = (0.0, 0usize);
    for position in 0..positions {
        let at = |values| format.logits_at(values, position).unwrap_or_default();
        let (a, t) = (at(answer), at(clear));
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
fn nats(format: &task::Prompts, tokens: &[u32], answer: &[f64]) -> Option<f64> {
    let first = format.public() + 1;
    let found = tokens.get(first..).filter(|found| !found.is_empty())?;
    let each = found.iter().enumerate().map(|(position, &token)| {
        let logits = format.logits_at(answer, position).unwrap_or_default();
        -log_probability(&logits, token as usize)
    });
    Some(each.sum::<f64>() / found.len() as f64)
}

pub(super) struct Prompts<'a> {
    format: task::Prompts,
    all: Vec<String>,
    path: &'a Path,
}

impl<'a> Prompts<'a> {
    pub(super) fn open(graph: &PolyGraph, path: &'a Path) -> Result<Self> {
        let lines = std::fs::read_to_string(path).map_err(named(path))?;
        let all = lines.lines().filter(|l| !l.trim().is_empty());
        Ok(Self {
            format: language(graph)?,
            all: all.map(String::from).collect(),
            path,
        })
    }

    fn tokens(&self, index: usize) -> Result<Vec<u32>> {
        let place = format!("{}: prompt {index}", self.path.display());
        let tokens = self.format.encode(&self.all[index]);
        tokens.map_err(|e| named(Path::new(&place))(e))
    }
}

impl Subject for Prompts<'_> {
    fn noun(&self) -> &'static str {
        "prompt"
    }
    fn len(&self) -> usize {
        self.all.len()
    }
    fn refuses(&self, index: usize) -> Result<Option<String>> {
        self.tokens(index).map(|_| None)
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let tokens = self.tokens(index)?;
        let named = row(json!({ "prompt": self.all[index], "tokens": tokens.len() }));
        Ok((self.format.input(&tokens)?, named))
    }
    fn compare(&self, index: usize, answer: &[f64], clear: &[f64], stated: Option<f64>) -> Row {
        let format = &self.format;
        let tokens = self.tokens(index).unwrap_or_default();
        let last = after(format, tokens.len());
        let next = |values: &[f64]| {
            let logits = format.logits_at(values, last).unwrap_or_default();
            format.tokenizer().show(token(&logits))
        };
        let mut line = row(json!({ "next": next(answer), "clear_next": next(clear) }));
        let stated = stated.unwrap_or(f64::INFINITY);
        line.extend(row(json!(compare(format, answer, clear, last + 1, stated))));
        line.extend(row(json!({
            "nats": nats(format, &tokens, answer), "clear_nats": nats(format, &tokens, clear),
        })));
        line
    }
    fn examples(&self) -> Result<Vec<Tensor>> {
        passages(&self.format)
    }
    fn summary(&self, all: &[Value]) -> Row {
        let sum = |key: &str| all.iter().filter_map(|d| d[key].as_u64()).sum::<u64>();
        let squares = all.iter().filter_map(|d| d["mean_square_error"].as_f64());
        // of all tokens that were found, each prompt's as many times as it has them
        let perplexity = |key: &str| {
            let of = |d: &Value| Some((d[key].as_f64()?, d["positions"].as_u64()? as f64 - 1.0));
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
}

/// How a calibrated language model takes prompts.
pub(super) fn language(graph: &PolyGraph) -> Result<task::Prompts> {
    match task_of_graph(graph)? {
        Task::Prompts(format) => Ok(format),
        _ => Err("this network takes no prompts: it is no language model".into()),
    }
}

/// The passages that it was calibrated on, as inputs: what its error is stated on.
pub(super) fn passages(format: &task::Prompts) -> Result<Vec<Tensor>> {
    let each = format.passages().iter().map(|t| format.input(t));
    Ok(each.collect::<task::Result<_>>()?)
}
