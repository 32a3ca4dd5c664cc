//! Last words and better answers by an encrypted language model, beside those in the clear.

use super::subject::{Row, Subject, row};
use crate::error::Result;
use crate::positions::listed;
use crate::questions::{Questions, Sequence};
use nn::Tensor;
use serde_json::{Value, json};
use task::Prompts;
use task::scores::{argmax, log_probability};

pub(super) struct Asked<'a> {
    pub(super) format: &'a Prompts,
    pub(super) questions: Questions,
}

/// A sequence, with tokens left out behind the public one so that it fits the plan.
struct Cut {
    tokens: Vec<u32>,
    first: usize,
    cut: usize,
}

impl Asked<'_> {
    /// As lm-evaluation-harness cuts it; None where what is to be found is longer than the plan takes.
    fn sequence(&self, index: usize) -> Result<Option<Cut>> {
        let (format, public) = (self.format, self.format.public());
        let encode = |text: &str| Ok(format.tokens(text)?);
        let Sequence { mut tokens, first } = self.questions.sequence(index, 0, encode)?;
        let cut = tokens.len().saturating_sub(format.length());
        // the first target needs an encrypted token before it: the public one has no logits
        if first <= cut + public || first >= tokens.len() {
            return Ok(None);
        }
        tokens.drain(public..public + cut);
        let first = first - cut;
        Ok(Some(Cut { tokens, first, cut }))
    }

    /// The logarithm of the continuation's probability by these logits, and whether each of its tokens is the likeliest.
    fn judged(&self, s: &Cut, answer: &[f64]) -> (f64, bool) {
        let (mut sum, mut greedy) = (0.0, true);
        for (i, &token) in s.tokens.iter().enumerate().skip(s.first) {
            let logits = self.format.logits_at(answer, i - 1 - self.format.public());
            let logits = logits.unwrap_or_default();
            sum += log_probability(&logits, token as usize);
            greedy &= argmax(&logits) == token as usize;
        }
        (sum, greedy)
    }
}

impl Subject for Asked<'_> {
    fn noun(&self) -> &'static str {
        "sequence"
    }
    fn len(&self) -> usize {
        self.questions.len() * self.questions.each()
    }
    fn together(&self) -> usize {
        self.questions.each()
    }
    fn refuses(&self, index: usize) -> Result<Option<String>> {
        let Some(s) = self.sequence(index)? else {
            return Ok(Some(format!(
                "sequence {index} is left out: what is to be found is longer than the {} tokens that the plan takes",
                self.format.length()
            )));
        };
        let chosen = self.format.positions();
        let mut needed = (s.first..s.tokens.len()).map(|i| i - 1 - self.format.public());
        let lacks = chosen.and_then(|c| needed.find(|p| c.binary_search(p).is_err()));
        Ok(lacks.map(|p| {
            format!(
                "sequence {index} is left out: it needs the logits of position {p}, and the answer holds those of {} alone",
                listed(chosen.unwrap_or_default())
            )
        }))
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let s = self.sequence(index)?;
        let s = s.ok_or("a sequence that does not fit")?;
        let named =
            json!({ "tokens": s.tokens.len(), "cut": s.cut, "to_find": s.tokens.len() - s.first });
        Ok((self.format.input(&s.tokens)?, row(named)))
    }
    fn compare(&self, index: usize, answer: &[f64], clear: &[f64], _: Option<f64>) -> Row {
        let sequence = self.sequence(index).ok().flatten();
        let judged = |values| {
            let none = (f64::NEG_INFINITY, false);
            sequence.as_ref().map_or(none, |s| self.judged(s, values))
        };
        let ((log, greedy), (clear, clear_greedy)) = (judged(answer), judged(clear));
        row(json!({
            "log_probability": log, "clear_log_probability": clear, "greedy": greedy, "clear_greedy": clear_greedy,
        }))
    }
    fn summary(&self, all: &[Value]) -> Row {
        let number = |key: &str, index: usize| {
            let line = all.iter().find(|l| l["index"] == index)?;
            Some(line[key].as_f64().unwrap_or(f64::NEG_INFINITY))
        };
        let cut = all.iter().filter(|l| l["cut"].as_u64() > Some(0)).count();
        row(match self.questions {
            Questions::Lambada(_) => {
                let right = |key: &str| all.iter().filter(|l| l[key] == true).count();
                let perplexity = |key: &str| {
                    let each = all
                        .iter()
                        .map(|l| l[key].as_f64().unwrap_or(f64::NEG_INFINITY));
                    (-each.sum::<f64>() / all.len().max(1) as f64).exp()
                };
                json!({
                    "lambada_right": right("greedy"), "lambada_right_clear": right("clear_greedy"),
                    "last_word_perplexity": perplexity("log_probability"), "last_word_perplexity_clear": perplexity("clear_log_probability"),
                    "cut": cut,
                })
            }
            Questions::Piqa(_) => {
                let better = |key: &str| self.questions.better(|i| number(key, i));
                let (own, clear) = (better("log_probability"), better("clear_log_probability"));
                json!({
                    "questions": own[0], "piqa_right": own[1], "piqa_right_clear": clear[1],
                    "piqa_right_by_length": own[2], "piqa_right_by_length_clear": clear[2], "cut": cut,
                })
            }
        })
    }
}
