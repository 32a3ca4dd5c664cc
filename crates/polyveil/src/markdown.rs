//! Tables in Markdown.

// the training crate's tables are the same
#[path = "../../train/src/table.rs"]
mod table;

use std::fmt::Display;
pub(crate) use table::Table;

/// What a cell says where there is nothing.
pub(crate) fn or_none(text: Option<impl Display>) -> String {
    text.map_or_else(|| "–".into(), |t| t.to_string())
}

#[cfg(feature = "train")]
/// An interval of two numbers.
pub(crate) fn interval((low, high): (f64, f64)) -> String {
    format!("[{low:.1}, {high:.1}]")
}
