//! Tables in Markdown.

use std::fmt::{Display, Formatter};

/// A table: its first column is text, the others are numbers.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new(head: &[impl AsRef<str>]) -> Self {
        let mut table = Self(String::new());
        table.row(head);
        table.0 += &format!("|---|{}\n", "---:|".repeat(head.len().saturating_sub(1)));
        table
    }

    pub(crate) fn row(&mut self, cells: &[impl AsRef<str>]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        self.0 += &format!("| {} |\n", cells.join(" | "));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
