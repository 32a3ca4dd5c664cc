//! Inputs with a class each: pictures and sentences.

use super::{Excess, Row, Subject, margin, row};
use crate::error::Result;
use crate::network::{label, top};
use nn::{Normalization, PolyGraph, SentenceFormat, Tensor};
use serde_json::{Value, json};
use std::path::Path;

/// How many lines' class is that in the clear, and the true one.
fn classes(all: &[Value]) -> Row {
    let count = |key: &str| all.iter().filter(|d| d["class"] == d[key]).count();
    row(json!({ "same_class_as_clear": count("clear_class"), "right": count("true_class") }))
}

fn best(values: &[f64]) -> Option<usize> {
    top(values, 1).first().copied()
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
        let normalization = graph.metadata().normalization.clone();
        Ok(Self {
            set: data::Dataset::open(path, &options)?.0,
            normalization: normalization.unwrap_or_else(nn::picture::imagenet_normalization),
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
    format: &'a SentenceFormat,
    labels: &'a [String],
    path: &'a Path,
    excess: Excess,
}

impl<'a> Sentences<'a> {
    pub(super) fn open(graph: &'a PolyGraph, path: &'a Path, excess: Excess) -> Result<Self> {
        let format = graph.metadata().sentences.as_ref();
        let format = format.ok_or("this network classifies no sentences")?;
        let labels = &graph.metadata().labels;
        Ok(Self {
            set: data::Sentences::open(path, Some(labels.len().max(2)))?,
            format,
            labels,
            path,
            excess,
        })
    }

    fn tokens(&self, index: usize) -> Result<Vec<u32>> {
        let text = &self.set.lines()[index].0;
        crate::calibrate::sentence_tokens(self.format, self.path, index, text, self.excess)
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
            "class": class, "clear_class": best(clear), "label": class.map(|c| label(self.labels, c)), "logits": answer,
            "too_close": stated.is_none_or(|s| margin(clear) < 2.0 * s),
        }))
    }
    fn examples(&self) -> Result<Vec<Tensor>> {
        let each = self.format.examples().iter().map(|t| self.format.input(t));
        Ok(each.collect::<nn::Result<_>>()?)
    }
    fn summary(&self, lines: &[Value]) -> Row {
        let mut line = classes(lines);
        let close = lines.iter().filter(|d| d["too_close"] == true).count();
        line.insert("too_close".into(), close.into());
        line
    }
}
