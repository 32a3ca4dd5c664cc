//! The size of a picture.

/// The shape of every picture of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
}

impl Shape {
    /// Number of values of one picture.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a set's pictures are never empty"
    )]
    pub fn len(self) -> usize {
        self.height * self.width * self.channels
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}
