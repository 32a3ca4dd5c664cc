//! Inputs with a class each: pictures and sentences.

use super::{Excess, Row, Subject, row};
use crate::error::Result;
use crate::network::{label, pictures, task_of_graph};
use nn::{PolyGraph, Tensor};
use serde_json::{Value, json};
use std::path::Path;
use task::scores::{argmax, margin};
use task::{Normalization, Task};

/// How many lines' class is that in the clear, and the true one.
fn classes(all: &[Value]) -> Row {
    let count = |key: &str| all.iter().filter(|d| d["class"] == d[key]).count();
    row(json!({ "same_class_as_clear": count("clear_class"), "right": count("true_class") }))
}

fn best(values: &[f64]) -> Option<usize> {
    (!values.is_empty()).then(|| argmax(values))
}

pub(super) struct Pictures {
    set: data::Dataset,
    normalization: Normalization,
}

impl Pictures {
    pub(super) fn open(graph: &PolyGraph, path: &Path, split: Option<data::Split>) -> Result<Self> {
        let options = data::Options {
            split,
            ..data::Options::default()
        };
        Ok(Self {
            set: data::Dataset::open(path, &options)?.0,
            normalization: pictures(&task_of_graph(graph)?)?.normalization().clone(),
        })
    }
}

impl Subject for Pictures {
    fn noun(&self) -> &'static str {
        "picture"
    }
    fn len(&self) -> usize {
        self.set.len()
    }
    fn refuses(&self, _: usize) -> Result<Option<String>> {
        Ok(None)
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let named = row(json!({ "true_class": self.set.label(index) }));
        Ok((self.set.tensor(index, &self.normalization)?, named))
    }
    fn compare(&self, _: usize, answer: &[f64], clear: &[f64], _: Option<f64>) -> Row {
        row(json!({ "class": best(answer), "clear_class": best(clear) }))
    }
    fn examples(&self) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }
    fn summary(&self, lines: &[Value]) -> Row {
        classes(lines)
    }
}

pub(super) struct Sentences<'a> {
    set: data::Sentences,
    format: task::Sentences,
    path: &'a Path,
    excess: Excess,
}

impl<'a> Sentences<'a> {
    pub(super) fn open(graph: &PolyGraph, path: &'a Path, excess: Excess) -> Result<Self> {
        let Task::Sentences(format) = task_of_graph(graph)? else {
            return Err("this network classifies no sentences".into());
        };
        let labels = format.outputs().names();
        Ok(Self {
            set: data::Sentences::open(path, Some(labels.len().max(2)))?,
            format,
            path,
            excess,
        })
    }

    fn tokens(&self, index: usize) -> Result<Vec<u32>> {
        let text = &self.set.lines()[index].0;
        crate::calibrate::sentence_tokens(&self.format, self.path, index, text, self.excess)
    }
}

impl Subject for Sentences<'_> {
    fn noun(&self) -> &'static str {
        "sentence"
    }
    fn len(&self) -> usize {
        self.set.len()
    }
    fn refuses(&self, index: usize) -> Result<Option<String>> {
        self.tokens(index).map(|_| None)
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let tokens = self.tokens(index)?;
        let (sentence, class) = &self.set.lines()[index];
        let named = json!({ "sentence": sentence, "true_class": class, "tokens": tokens.len() });
        Ok((self.format.input(&tokens)?, row(named)))
    }
    fn compare(&self, _: usize, answer: &[f64], clear: &[f64], stated: Option<f64>) -> Row {
        let class = best(answer);
        row(json!({
            "class": class, "clear_class": best(clear), "label": class.map(|c| label(self.format.outputs().names(), c)), "logits": answer,
            "too_close": stated.is_none_or(|s| margin(clear) < 2.0 * s),
        }))
    }
    fn examples(&self) -> Result<Vec<Tensor>> {
        let each = self.format.examples().iter().map(|t| self.format.input(t));
        Ok(each.collect::<task::Result<_>>()?)
    }
    fn summary(&self, lines: &[Value]) -> Row {
        let mut line = classes(lines);
        let close = lines.iter().filter(|d| d["too_close"] == true).count();
        line.insert("too_close".into(), close.into());
        line
    }
}
