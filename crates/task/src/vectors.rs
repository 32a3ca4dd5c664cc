//! Plain vectors: rows of a table, and signals or other numbers in a shape.

use crate::answer::Outputs;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use crate::normalization::Normalization;
use nn::{Shape, Tensor};

/// A row of any columns as a network's input: `(v − mean)/deviation`, as it is without a normalisation.
///
/// # Errors
/// [`Error::Count`] for a normalisation of another number of columns.
pub fn normalized(row: &[f64], normalization: Option<&Normalization>) -> Result<Tensor> {
    let mut values = row.to_vec();
    if let Some(n) = normalization {
        n.check(row.len())?;
        for ((v, m), d) in values.iter_mut().zip(&n.mean).zip(&n.deviation) {
            *v = (*v - m) / d;
        }
    }
    Ok(Tensor::new(Shape::Vector(row.len()), values)?)
}

/// How rows of numbers become a network's inputs: `(v − mean)/deviation` by column, or as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    columns: Vec<String>,
    /// The network's input, of as many values.
    shape: Shape,
    normalization: Option<Normalization>,
    outputs: Outputs,
}

impl Vectors {
    /// Rows of these columns.
    ///
    /// # Errors
    /// [`Error::Count`] without a column or for a normalisation of another number of columns, [`Error::Value`] for one that is not finite or
    /// divides by nothing.
    pub fn new(
        columns: Vec<String>,
        normalization: Option<Normalization>,
        outputs: Outputs,
    ) -> Result<Self> {
        if columns.is_empty() {
            Error::check_count("columns", 1, 0)?;
        }
        if let Some(n) = &normalization {
            n.check(columns.len())?;
        }
        Error::check_names("column", &columns)?;
        outputs.check_names()?;
        Ok(Self {
            shape: Shape::Vector(columns.len()),
            columns,
            normalization,
            outputs,
        })
    }

    /// The same for a network that takes a row's numbers in this shape, row-major: a signal's.
    ///
    /// # Errors
    /// [`Error::Network`] for a shape of another number of values.
    pub fn shaped(self, shape: Shape) -> Result<Self> {
        match shape.checked_len() == Some(self.columns.len()) {
            true => Ok(Self { shape, ..self }),
            false => Err(Error::Network {
                what: "input",
                kind: "rows",
                needed: self.shape.to_string(),
                had: shape,
            }),
        }
    }

    /// The same with outputs of another meaning.
    ///
    /// # Errors
    /// Names that a terminal would obey.
    pub fn with_outputs(self, outputs: Outputs) -> Result<Self> {
        outputs.check_names()?;
        Ok(Self { outputs, ..self })
    }

    /// The network's input.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The columns' names.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Each column's mean and deviation, if rows are normalised.
    #[must_use]
    pub fn normalization(&self) -> Option<&Normalization> {
        self.normalization.as_ref()
    }

    /// What the outputs mean.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// A row as the network's input.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of values, [`Error::Value`] with the column for one that is not finite.
    pub fn input(&self, row: &[f64]) -> Result<Tensor> {
        Error::check_count("values of a row", self.columns.len(), row.len())?;
        if let Some((column, &value)) = self.columns.iter().zip(row).find(|(_, v)| !v.is_finite()) {
            return Err(Error::Value {
                column: format!("column {column:?}"),
                value,
            });
        }
        let values = normalized(row, self.normalization.as_ref())?.into_values();
        Ok(Tensor::new(self.shape, values)?)
    }

    pub(crate) fn check(&self, input: Shape, output: Shape) -> Result<()> {
        crate::same("input", "rows", self.shape, input)?;
        self.outputs.check(output)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        if self.shape.as_image().is_some() {
            self.shape.dims().into_iter().for_each(|d| w.size(d));
        }
        w.texts(&self.columns);
        w.option(self.normalization.as_ref(), |w, n| n.write(w));
        self.outputs.write(w);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let columns = r.texts()?;
        let normalization = r.option(Normalization::read)?;
        Self::new(columns, normalization, Outputs::read(r)?)
    }

    /// Those of a shape, which stands before the rest.
    pub(crate) fn read_shaped(r: &mut Reader<'_>) -> Result<Self> {
        let shape = Shape::image(r.size()?, r.size()?, r.size()?);
        Self::read(r)?.shaped(shape)
    }
}
