//! What a step is made on.

use crate::pass::Inputs;
use std::sync::Arc;

/// A label that does not count: rows with it have no loss and no gradient.
pub const IGNORED: usize = usize::MAX;

/// Inputs of a model, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Pictures `(n, h, w, c)`, or vectors `(n, width)`.
    Numbers(Vec<f32>),
    /// Windows of tokens, or sentences filled up with padding, `(n, length)`.
    Tokens(Vec<u32>),
}

/// What a model should answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// A class for each row of outputs, [`IGNORED`] where none counts: of an input, or of each of its tokens.
    Classes(Vec<usize>),
    /// The outputs themselves.
    Numbers {
        /// `(n, outputs)`.
        values: Vec<f32>,
        /// How much the squared error of each output counts: one over its variance in training, so that losses have no unit.
        weights: Arc<[f32]>,
    },
}

/// What a step is made on.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// What the model is given.
    pub values: Values,
    /// What it should answer.
    pub wanted: Wanted,
}

impl Batch {
    pub(crate) fn tokens(tokens: Vec<u32>, classes: Vec<usize>) -> Self {
        Self {
            values: Values::Tokens(tokens),
            wanted: Wanted::Classes(classes),
        }
    }

    /// What the model is given.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        match &self.values {
            Values::Numbers(x) => Inputs::Numbers(x),
            Values::Tokens(t) => Inputs::Tokens(t),
        }
    }

    /// Rows of outputs that it is to answer with.
    #[must_use]
    pub fn rows(&self) -> usize {
        match &self.wanted {
            Wanted::Classes(classes) => classes.len(),
            Wanted::Numbers { values, weights } => values.len() / weights.len().max(1),
        }
    }

    /// How many of them count.
    #[must_use]
    pub fn counted(&self) -> usize {
        match &self.wanted {
            Wanted::Classes(classes) => classes.iter().filter(|&&c| c != IGNORED).count(),
            Wanted::Numbers { .. } => self.rows(),
        }
    }

    /// The batch in `parts` (or fewer) as equal as `rows` of outputs an input permit.
    pub(crate) fn parts(self, parts: usize, rows: usize) -> Vec<Self> {
        if parts <= 1 {
            return vec![self];
        }
        let n = self.rows() / rows;
        let size = n.div_ceil(parts);
        let part = |from: usize| {
            let to = n.min(from + size);
            fn cut<T: Copy>(all: &[T], n: usize, from: usize, to: usize) -> Vec<T> {
                let one = all.len() / n;
                all[from * one..to * one].to_vec()
            }
            Self {
                values: match &self.values {
                    Values::Numbers(x) => Values::Numbers(cut(x, n, from, to)),
                    Values::Tokens(t) => Values::Tokens(cut(t, n, from, to)),
                },
                wanted: match &self.wanted {
                    Wanted::Classes(c) => Wanted::Classes(cut(c, n, from, to)),
                    Wanted::Numbers { values, weights } => Wanted::Numbers {
                        values: cut(values, n, from, to),
                        weights: Arc::clone(weights),
                    },
                },
            }
        };
        (0..n).step_by(size.max(1)).map(part).collect()
    }
}

impl From<data::Batch> for Batch {
    fn from(b: data::Batch) -> Self {
        Self {
            values: Values::Numbers(b.images),
            wanted: Wanted::Classes(b.labels),
        }
    }
}
