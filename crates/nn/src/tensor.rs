//! Values and weights.

use crate::Result;
use crate::error::Error;
pub use crate::shape::Shape;
use std::sync::Arc;

/// Values of one shape in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    values: Vec<f64>,
}

impl Tensor {
    /// A tensor with these values, row-major. Values may be anything, NaN included: what a network overflows to must be visible.
    ///
    /// # Errors
    /// [`Error::Length`] when the count doesn't fit.
    pub fn new(shape: Shape, values: Vec<f64>) -> Result<Self> {
        if shape.checked_len() != Some(values.len()) {
            return Err(Error::Length {
                tensor: "value".into(),
                shape: shape.dims(),
                needed: shape.checked_len().unwrap_or(0),
                had: values.len(),
            });
        }
        Ok(Self { shape, values })
    }

    /// A sequence `(D, 1, L)` of these rows of D numbers, a column each: how tokens are embedded.
    ///
    /// # Errors
    /// [`Error::Length`] for none.
    pub fn sequence<R: IntoIterator<Item = f64>>(width: usize, rows: Vec<R>) -> Result<Self> {
        let length = rows.len();
        let mut x = vec![0.0; width * length];
        for (t, row) in rows.into_iter().enumerate() {
            for (c, v) in row.into_iter().take(width).enumerate() {
                x[c * length + t] = v;
            }
        }
        Self::new(Shape::image(width, 1, length), x)
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            values: vec![0.0; shape.len()],
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its values, row-major.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Its values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Its values alone.
    #[must_use]
    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// Index of the largest value (the first of equals).
    #[must_use]
    pub fn argmax(&self) -> usize {
        let values = &self.values;
        (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
    }
}

/// The product of these lengths, if it doesn't overflow.
pub(crate) fn product(lengths: &[usize]) -> Option<usize> {
    lengths.iter().try_fold(1usize, |p, &d| p.checked_mul(d))
}

/// A trained tensor: shape and finite f32 values (what models are stored in), shared between copies.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameter {
    shape: Vec<usize>,
    values: Arc<[f32]>,
}

impl Parameter {
    /// Checks length and finiteness; `name` is for the message.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NotFinite`].
    pub fn new(
        name: &str,
        shape: impl Into<Vec<usize>>,
        values: impl Into<Arc<[f32]>>,
    ) -> Result<Self> {
        let (shape, values) = (shape.into(), values.into());
        let needed = product(&shape).unwrap_or(usize::MAX);
        if needed != values.len() {
            return Err(Error::Length {
                tensor: name.into(),
                shape,
                needed,
                had: values.len(),
            });
        }
        if let Some((index, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotFinite {
                tensor: name.into(),
                index,
                value: f64::from(*value),
            });
        }
        Ok(Self { shape, values })
    }

    /// The same values, shared, under another shape; `name` is for the message.
    ///
    /// # Errors
    /// [`Error::TensorShape`] unless the shapes hold as many values.
    pub fn reshaped(&self, name: &str, shape: &[usize]) -> Result<Self> {
        if product(shape) != Some(self.values.len()) {
            return Err(Error::shape(name, shape, &self.shape));
        }
        Ok(Self {
            shape: shape.to_vec(),
            values: Arc::clone(&self.values),
        })
    }

    /// A row of a table `(V, D)`; None beyond its end.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<impl Iterator<Item = f64>> {
        let width = *self.shape.last()?;
        let start = row.checked_mul(width)?;
        let values = self.values.get(start..)?.get(..width)?;
        Some(values.iter().copied().map(f64::from))
    }

    /// Axis lengths, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values, row-major; finite.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Values as f64.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        self.values.iter().map(|&v| f64::from(v)).collect()
    }
}
