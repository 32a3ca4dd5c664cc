//! Tables in Markdown.

use std::fmt::Display;

/// A table: its first column is text, the others are numbers.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new<H: AsRef<str>>(head: &[H]) -> Self {
        let mut table = Self(String::new());
        table.row(head.iter().map(AsRef::as_ref));
        table.0 += &format!("|---|{}\n", "---:|".repeat(head.len().saturating_sub(1)));
        table
    }
    pub(crate) fn row<C: Display>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.0.push('|');
        for cell in cells {
            self.0 += &format!(" {cell} |");
        }
        self.0.push('\n');
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a cell says where there is nothing.
pub(crate) fn or_none(text: Option<impl Display>) -> String {
    text.map_or_else(|| "–".into(), |t| t.to_string())
}

#[cfg(feature = "train")]
/// An interval of two numbers.
pub(crate) fn interval((low, high): (f64, f64)) -> String {
    format!("[{low:.1}, {high:.1}]")
}
