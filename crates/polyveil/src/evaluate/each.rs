//! Inputs one by one: pictures, rows, sentences and prompts.

use super::prompts;
use super::subject::{Row, Subject, row};
use crate::error::Result;
use crate::inputs::Inputs;
use crate::largest_error;
use crate::network::label;
use crate::positions::{Missing, missing};
use crate::progress::Listener;
use nn::Tensor;
use serde_json::{Value, json};
use task::scores::{argmax, margin};
use task::{Outputs, Task};

pub(super) struct Each<'a> {
    pub(super) task: &'a Task,
    pub(super) inputs: Inputs<'a>,
}

impl Subject for Each<'_> {
    fn noun(&self) -> &'static str {
        self.inputs.noun()
    }
    fn len(&self) -> usize {
        self.inputs.len()
    }
    fn refuses(&self, index: usize) -> Result<Option<String>> {
        if self.inputs.text(index).is_none() {
            return Ok(None);
        }
        let encoded = self.inputs.encode(index)?;
        match (self.task, &encoded.tokens) {
            (Task::Prompts(format), Some((tokens, _))) => {
                let none = match missing(format, tokens.len()) {
                    Some(Missing::All(said)) => Some(said),
                    _ => None,
                };
                Ok(none.map(|said| format!("prompt {index} is left out: {said}")))
            }
            _ => Ok(None),
        }
    }
    fn warn(&self, tell: Listener<'_>) {
        self.inputs.warn([0; 2], tell);
    }
    fn content(&self) -> Result<Option<Vec<u8>>> {
        self.inputs.content()
    }
    fn input(&self, index: usize) -> Result<(Tensor, Row)> {
        let encoded = self.inputs.encode(index)?;
        let mut named = Row::new();
        if let (Some(text), Some((tokens, _))) = (self.inputs.text(index), &encoded.tokens) {
            named.insert(self.noun().into(), text.into());
            named.insert("tokens".into(), tokens.len().into());
        }
        if encoded.transparent {
            named.insert("transparent".into(), true.into());
        }
        if encoded.greyed {
            named.insert("greyed".into(), true.into());
        }
        if let Some(class) = self.inputs.class(index) {
            named.insert("true_class".into(), class.into());
        }
        Ok((encoded.tensor, named))
    }
    fn compare(&self, index: usize, answer: &[f64], clear: &[f64], stated: Option<f64>) -> Row {
        if let Task::Prompts(format) = self.task {
            let tokens = self.inputs.encode(index).ok().and_then(|e| e.tokens);
            let tokens = tokens.map(|t| t.0).unwrap_or_default();
            let stated = stated.unwrap_or(f64::INFINITY);
            return prompts::compare(format, &tokens, (answer, clear), stated);
        }
        let outputs = self.task.outputs();
        let Some(names) = outputs.and_then(Outputs::classes) else {
            let target = self.inputs.target(index);
            let mut line = row(json!({ "values": answer, "clear_values": clear }));
            if let Some(least) = outputs.and_then(Outputs::least) {
                let of = |values| outputs.and_then(|o| o.holding(values));
                line.extend(row(
                    json!({ "labels": of(answer), "clear_labels": of(clear) }),
                ));
                if let Some(right) = self.inputs.holding(index) {
                    line.insert("true_labels".into(), right.into());
                }
                if let Some(stated) = stated {
                    let close = clear.iter().any(|v| (v - least).abs() < stated);
                    line.insert("too_close".into(), close.into());
                }
            } else if !target.is_empty() {
                let off = |values| largest_error(values, target);
                let errors =
                    json!({ "target_error": off(answer), "clear_target_error": off(clear) });
                line.extend(row(errors));
            }
            return line;
        };
        let class = argmax(answer);
        let mut line = row(json!({ "class": class, "clear_class": argmax(clear) }));
        if let Some(stated) = stated {
            let close = margin(clear) < 2.0 * stated;
            let more =
                json!({ "label": label(names, class), "logits": answer, "too_close": close });
            line.extend(row(more));
        }
        line
    }
    fn summary(&self, lines: &[Value]) -> Row {
        if let Task::Prompts(_) = self.task {
            return prompts::summary(lines);
        }
        let mean = |key: &str| {
            let all: Vec<f64> = lines.iter().filter_map(|d| d[key].as_f64()).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        let labels = self.task.outputs().filter(|o| o.least().is_some());
        if let Some(outputs) = labels {
            return labels_summary(outputs, lines);
        }
        if self.task.outputs().and_then(Outputs::classes).is_none() {
            return row(json!({
                "mean_target_error": mean("target_error"), "clear_mean_target_error": mean("clear_target_error"),
            }));
        }
        let same = |key: &str| lines.iter().filter(|d| d["class"] == d[key]).count();
        let mut line = row(json!({ "same_class_as_clear": same("clear_class") }));
        if lines.iter().any(|d| d["true_class"].is_u64()) {
            line.insert("right".into(), same("true_class").into());
        }
        if lines.iter().any(|d| d["too_close"].is_boolean()) {
            let close = lines.iter().filter(|d| d["too_close"] == true);
            line.insert("too_close".into(), close.count().into());
        }
        line
    }
}

/// On how many inputs each label is as in the clear, and right where the data say it, and on how many all of them.
fn labels_summary(outputs: &Outputs, lines: &[Value]) -> Row {
    let lines: Vec<&Value> = lines.iter().filter(|d| d["labels"].is_array()).collect();
    let count = |is: &dyn Fn(&Value) -> bool| lines.iter().filter(|d| is(d)).count();
    let known = lines.iter().any(|d| d["true_labels"].is_array());
    let first = lines.first().and_then(|d| d["labels"].as_array());
    let each = (0..first.map_or(0, Vec::len)).map(|i| {
        let same = count(&|d| d["labels"][i] == d["clear_labels"][i]);
        let mut label = row(json!({ "label": outputs.name(i), "same_as_clear": same }));
        if known {
            let right = count(&|d| d["labels"][i] == d["true_labels"][i]);
            let holds = count(&|d| d["true_labels"][i] == true);
            label.extend(row(json!({ "right": right, "holds": holds })));
        }
        Value::from(label)
    });
    let each: Vec<Value> = each.collect();
    let same = count(&|d| d["labels"] == d["clear_labels"]);
    let mut line = row(json!({ "same_labels_as_clear": same, "each_label": each }));
    if known {
        let right = count(&|d| d["labels"] == d["true_labels"]);
        line.insert("all_labels_right".into(), right.into());
    }
    if lines.iter().any(|d| d["too_close"].is_boolean()) {
        let close = count(&|d| d["too_close"] == true);
        line.insert("too_close".into(), close.into());
    }
    line
}
