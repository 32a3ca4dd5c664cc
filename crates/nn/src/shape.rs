//! Shapes of values.

use serde::{Deserialize, Serialize};

/// The shape of a node's output for one image (batch-less).
///
/// A sequence of L tokens of width D is an image of one row, `(D, 1, L)`: a linear layer on every token is a 1×1 convolution, which with
/// channels innermost is one matrix product over the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `(channels, height, width)`, row-major: index `(c·height + y)·width + x`.
    Image {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// `(features)`.
    Vector(usize),
}

impl Shape {
    /// `(channels, height, width)`.
    #[must_use]
    pub fn image(channels: usize, height: usize, width: usize) -> Self {
        Self::Image {
            channels,
            height,
            width,
        }
    }

    /// Positions of a sequence: an image's columns; a vector is one.
    #[must_use]
    pub fn columns(self) -> usize {
        match self {
            Self::Image { width, .. } => width,
            Self::Vector(_) => 1,
        }
    }

    /// Channels, height and width of an image.
    #[must_use]
    pub fn as_image(self) -> Option<(usize, usize, usize)> {
        match self {
            Self::Image {
                channels,
                height,
                width,
            } => Some((channels, height, width)),
            Self::Vector(_) => None,
        }
    }

    /// Whether an array of these lengths is a value of this shape, row-major: a signal (channels, length) is kept as an image of one row, and axes
    /// between the first and the last as one.
    #[must_use]
    pub fn holds(self, array: &[usize]) -> bool {
        match *array {
            [c, l] => self.dims() == [c, 1, l] || self.dims() == *array,
            [c, ref middle @ .., l] if middle.len() > 1 => {
                self.dims() == [c, middle.iter().product(), l]
            }
            _ => self.dims() == *array,
        }
    }

    /// Number of values.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "shapes in a network are never empty"
    )]
    pub fn len(self) -> usize {
        self.dims().iter().product()
    }

    /// The axes' lengths: three for an image, one for a vector.
    #[must_use]
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Vector(n) => vec![n],
            Self::Image {
                channels,
                height,
                width,
            } => vec![channels, height, width],
        }
    }

    /// The number of values when no axis is empty and the product neither overflows nor exceeds 2^28.
    #[must_use]
    pub fn checked_len(self) -> Option<usize> {
        let sizes = 1..=MAX_VALUES;
        (self.dims().iter()).try_fold(1usize, |p, &d| {
            p.checked_mul(d).filter(|p| sizes.contains(p))
        })
    }
}

/// Most values that one tensor of a network may have (2^28).
pub(crate) const MAX_VALUES: usize = 1 << 28;

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        write!(f, "({})", lengths.join(", "))
    }
}
