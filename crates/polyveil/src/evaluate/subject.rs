//! What can be evaluated, one by one.

use crate::error::Result;
use crate::progress::Listener;
use nn::Tensor;
use serde_json::Value;

/// What lines say, beside what all have.
pub(super) type Row = serde_json::Map<String, Value>;

/// The fields of a JSON object.
pub(super) fn row(object: Value) -> Row {
    match object {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

/// What is evaluated: inputs by their index, and what answers are compared by.
pub(super) trait Subject {
    /// What goes in.
    fn noun(&self) -> &'static str;
    /// How many there are in all.
    fn len(&self) -> usize;
    /// Inputs that count as one where inputs are counted.
    fn together(&self) -> usize {
        1
    }
    /// Why an input can't be taken at all.
    fn refuses(&self, index: usize) -> Result<Option<String>>;
    /// Says what is ignored of all of them.
    fn warn(&self, _tell: Listener<'_>) {}
    /// The content of what is at hand and no file's.
    fn content(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    /// An input, and what names it.
    fn input(&self, index: usize) -> Result<(Tensor, Row)>;
    /// An answer beside the network's in the clear, for a stated error.
    fn compare(&self, index: usize, answer: &[f64], clear: &[f64], stated: Option<f64>) -> Row;
    /// What all lines say together.
    fn summary(&self, lines: &[Value]) -> Row;
}
