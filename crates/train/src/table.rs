//! Tables in Markdown.

use std::fmt::{Display, Formatter};

/// A table: its first column is text, the others are numbers.
#[derive(Default)]
pub(crate) struct Table(String);

impl Table {
    /// A row of cells, each with its column's head; heads are written before the first row.
    pub(crate) fn row<H: Display>(&mut self, cells: impl IntoIterator<Item = (H, String)>) {
        let (heads, cells): (Vec<H>, Vec<String>) = cells.into_iter().unzip();
        if self.0.is_empty() {
            let heads: String = heads.iter().map(|head| format!(" {head} |")).collect();
            let numbers = "---:|".repeat(cells.len() - 1);
            self.0 = format!("|{heads}\n|---|{numbers}\n");
        }
        self.0 += &format!("| {} |\n", cells.join(" | "));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
