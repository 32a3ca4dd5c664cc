//! LAMBADA and PIQA: last words and better answers by an encrypted language model, beside those in the clear.

use super::{Row, Subject, row};

use crate::error::Result;
use data::tasks::{Passage, Question, lambada, piqa};
use nn::Tensor;
use serde_json::{Value, json};
use std::path::Path;
use task::Prompts;
use task::scores::{argmax, log_probability};

/// A sequence, and from which token on each is to be found by those before it.
struct Sequence {
    tokens: Vec<u32>,
    first: usize,
    /// Tokens left out behind the public one, so that it fits the plan.
    cut: usize,
}

impl Sequence {
    /// Context and continuation as lm-evaluation-harness cuts them; None where the continuation alone is longer than the plan takes.
    fn new(format: &Prompts, context: &str, continuation: &str) -> Result<Option<Self>> {
        let kept = context.trim_end();
        let all = format!("{kept}{}{continuation}", &context[kept.len()..]);
        let (mut tokens, public) = (format.tokens(&all)?, format.public());
        let first = format.tokens(kept)?.len();
        let cut = tokens.len().saturating_sub(format.length());
        // one token before the first is to be had, and is not the public one, whose logits nobody computes
        if first <= cut + public || first >= tokens.len() {
            return Ok(None);
        }
        tokens.drain(public..public + cut);
        let first = first - cut;
        Ok(Some(Self { tokens, first, cut }))
    }

    /// The logarithm of the continuation's probability by these logits, and whether each of its tokens is the likeliest.
    fn judged(&self, format: &Prompts, answer: &[f64]) -> (f64, bool) {
        let mut sum = 0.0;
        let mut greedy = true;
        for (i, &token) in self.tokens.iter().enumerate().skip(self.first) {
            let logits = format.logits_at(answer, i - 1 - format.public());
            let logits = logits.unwrap_or_default();
            sum += log_probability(&logits, token as usize);
            greedy &= argmax(&logits) == token as usize;
        }
        (sum, greedy)
    }
}

/// A question with the lines of both answers.
type Judged<'a> = (&'a Question, [&'a Value; 2]);

/// What is asked.
enum Task {
    Lambada(Vec<Passage>),
    Piqa(Vec<Question>),
}

impl Task {
    fn len(&self) -> usize {
        match self {
            Self::Lambada(all) => all.len(),
            Self::Piqa(all) => all.len(),
        }
    }

    /// Sequences of each item.
    fn each(&self) -> usize {
        match self {
            Self::Lambada(_) => 1,
            Self::Piqa(_) => 2,
        }
    }

    fn sequence(&self, format: &Prompts, index: usize) -> Result<Option<Sequence>> {
        match self {
            Self::Lambada(all) => {
                let passage = &all[index];
                Sequence::new(format, &passage.context, &passage.continuation())
            }
            Self::Piqa(all) => {
                let question = &all[index / 2];
                Sequence::new(
                    format,
                    &question.prompt(),
                    &question.continuation(index % 2),
                )
            }
        }
        .map_err(|e| format!("number {}: {e}", index / self.each()).into())
    }

    /// Accuracies and perplexities by these lines.
    fn summary(&self, lines: &[Value]) -> Value {
        let number = |line: &Value, key: &str| line[key].as_f64().unwrap_or(f64::NEG_INFINITY);
        match self {
            Self::Lambada(_) => {
                let right = |key: &str| lines.iter().filter(|l| l[key] == true).count();
                let perplexity = |key: &str| {
                    let sum: f64 = lines.iter().map(|l| number(l, key)).sum();
                    (-sum / lines.len().max(1) as f64).exp()
                };
                json!({
                    "lambada_right": right("greedy"), "lambada_right_clear": right("clear_greedy"),
                    "last_word_perplexity": perplexity("log_probability"), "last_word_perplexity_clear": perplexity("clear_log_probability"),
                })
            }
            Self::Piqa(all) => {
                let found = |index: usize| lines.iter().find(|l| l["index"] == index);
                let pairs: Vec<Judged<'_>> = (all.iter().enumerate())
                    .filter_map(|(q, question)| {
                        Some((question, [found(2 * q)?, found(2 * q + 1)?]))
                    })
                    .collect();
                // the first of equals
                let right = |key: &str, length: fn(&str) -> f64| {
                    let better = |(q, both): &&Judged<'_>| {
                        let of = |k: usize| number(both[k], key) / length(&q.answers[k]);
                        usize::from(of(1) > of(0)) == q.right
                    };
                    pairs.iter().filter(better).count()
                };
                let (one, characters): (fn(&str) -> f64, fn(&str) -> f64) =
                    (|_| 1.0, |s| s.chars().count() as f64);
                json!({
                    "questions": pairs.len(),
                    "piqa_right": right("log_probability", one), "piqa_right_clear": right("clear_log_probability", one),
                    "piqa_right_by_length": right("log_probability", characters),
                    "piqa_right_by_length_clear": right("clear_log_probability", characters),
                })
            }
        }
    }
}

pub(super) struct Questions<'a> {
    format: &'a Prompts,
    task: Task,
}

impl<'a> Questions<'a> {
    pub(super) fn lambada(format: &'a Prompts, path: &Path) -> Result<Self> {
        let task = Task::Lambada(lambada(path)?);
        Ok(Self { format, task })
    }

    pub(super) fn piqa(format: &'a Prompts, path: &Path, labels: &Path) -> Result<Self> {
        let task = Task::Piqa(piqa(path, labels)?);
        Ok(Self { format, task })
    }
}

impl Subject for Questions<'_> {
    fn noun(&self) -> &'static str {
        "sequence"
    }
    fn len(&self) -> usize {
        self.task.len() * self.task.each()
    }
    fn together(&self) -> usize {
        self.task.each()
    }
    fn refuses(&self, index: usize) -> Result<Option<String>> {
        let fits = self.task.sequence(self.format, index)?.is_some();
        Ok((!fits).then(|| {
            format!(
                "sequence {index} is left out: what is to be found is longer than the {} tokens that the plan takes",
                self.format.length()
            )
        }))
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let s = self.task.sequence(self.format, index)?;
        let s = s.ok_or("a sequence that does not fit")?;
        let named =
            json!({ "tokens": s.tokens.len(), "cut": s.cut, "to_find": s.tokens.len() - s.first });
        Ok((self.format.input(&s.tokens)?, row(named)))
    }
    fn compare(&self, index: usize, answer: &[f64], clear: &[f64], _: Option<f64>) -> Row {
        let sequence = self.task.sequence(self.format, index).ok().flatten();
        let judged = |values| {
            let none = (f64::NEG_INFINITY, false);
            sequence
                .as_ref()
                .map_or(none, |s| s.judged(self.format, values))
        };
        let ((log, greedy), (clear, clear_greedy)) = (judged(answer), judged(clear));
        row(json!({
            "log_probability": log, "clear_log_probability": clear, "greedy": greedy, "clear_greedy": clear_greedy,
        }))
    }
    fn summary(&self, all: &[Value]) -> Row {
        let mut line = row(self.task.summary(all));
        let cut = all.iter().filter(|l| l["cut"].as_u64() > Some(0));
        line.insert("cut".into(), cut.count().into());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_answer_is_the_likelier_one_as_a_whole_or_by_character() {
        let question = |answers: [&str; 2], right| Question {
            goal: "open a jar".into(),
            answers: answers.map(String::from),
            right,
        };
        let task = Task::Piqa(vec![
            question(["turn the lid", "turn"], 0),
            question(["hit it", "wait"], 1),
            question(["twist it", "paint it"], 1),
        ]);
        let line = |index: usize, log: f64, clear: f64| json!({ "index": index, "log_probability": log, "clear_log_probability": clear });
        // the first is likelier by character only, the second either way; of the third one answer is missing
        let lines = [
            line(0, -6.0, -6.0),
            line(1, -5.0, -7.0),
            line(2, -9.0, -9.0),
            line(3, -2.0, -2.0),
            line(4, -1.0, -1.0),
        ];
        assert_eq!(
            task.summary(&lines),
            json!({
                "questions": 2, "piqa_right": 1, "piqa_right_clear": 2, "piqa_right_by_length": 2, "piqa_right_by_length_clear": 2,
            })
        );
    }
}
