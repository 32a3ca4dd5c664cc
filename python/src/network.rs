//! A polynomial network with its calibrated ranges.

use crate::arrays::{Array, Held, answer_shape, doubles};
use crate::errors;
use crate::work::work;
use polyveil::files::{Content, Existing, Output};
use polyveil::nn::format::artefact;
use polyveil::nn::{PolyGraph, Tensor};
use polyveil::task::{self, Task};
use polyveil::{Input, Progress, Result, network};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file may take the place of.
pub(crate) fn existing(overwrite: bool) -> Existing {
    match overwrite {
        true => Existing::Any,
        false => Existing::Kin,
    }
}

/// Writes a file of ours, whole or not at all; one that is there stays unless it is to be replaced.
pub(crate) fn save(
    (path, overwrite): (&Path, bool),
    content: Content,
    bytes: &[u8],
    tell: polyveil::Listener<'_>,
) -> Result<()> {
    expect_new(path, overwrite)?;
    Output::create(path, content, &[], existing(overwrite), tell)?.write_bytes(bytes)
}

/// Refuses a place that is taken.
pub(crate) fn expect_new(path: &Path, overwrite: bool) -> Result<()> {
    match path.exists() && !overwrite {
        false => Ok(()),
        true => Err(polyveil::Error::Refused {
            what: format!("{} is there already", path.display()),
            help: Some(polyveil::Help::Overwrite),
        }),
    }
}

/// Polynomials in place of activations.
#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Network {
    pub(crate) graph: Arc<PolyGraph>,
}

impl Network {
    pub(crate) fn of(graph: PolyGraph) -> Self {
        Self {
            graph: Arc::new(graph),
        }
    }

    fn tensor(task: &Task, input: &Input) -> Result<Tensor> {
        Ok(match input {
            Input::Row(row) => task.encode(&task::Input::Row(row))?,
            Input::Picture(picture) => task.encode(&task::Input::Picture(picture))?,
            _ => return Err("arrays are rows or pictures".into()),
        })
    }
}

#[pymethods]
impl Network {
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, hear: &Bound<'_, PyAny>) -> PyResult<Self> {
        work(py, hear, |tell| {
            if let Some(warning) = network::without_checksum(&path) {
                tell(Progress {
                    message: &format!("warning: {warning}"),
                    fraction: None,
                    remaining: None,
                });
            }
            Ok(Self::of(network::load_polynomial(&path)?))
        })
    }

    #[staticmethod]
    fn from_bytes(bytes: &[u8]) -> PyResult<Self> {
        let graph = artefact::from_bytes(bytes);
        Ok(Self::of(graph.map_err(|e| errors::raised(e.into()))?))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = artefact::to_bytes(&self.graph).map_err(|e| errors::raised(e.into()))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        overwrite: bool,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        work(py, hear, |tell| {
            let bytes = artefact::to_bytes(&self.graph)?;
            save((&path, overwrite), Content::Model, &bytes, tell)
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.graph.metadata().name
    }

    #[getter]
    fn input_shape(&self) -> Vec<usize> {
        self.graph.input_shape().dims()
    }

    /// Outputs in the clear, the lengths of their axes, and on how many inputs a value left its interval.
    fn values<'py>(
        &self,
        py: Python<'py>,
        array: Array,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<(Bound<'py, PyBytes>, Vec<usize>, usize)> {
        let (values, shape, outside) = work(py, hear, |_| {
            let task = network::task_of_graph(&self.graph)?;
            let (inputs, held) = array.inputs(&task)?;
            let each = inputs.par_iter().map(|input| {
                let made = self.graph.evaluate(&Self::tensor(&task, input)?)?;
                Ok((made.output.into_values(), !made.outside.is_empty()))
            });
            let each: Vec<(Vec<f64>, bool)> = each.collect::<Result<_>>()?;
            let one = answer_shape(&task, self.graph.output().shape().len());
            let shape = match held {
                Held::Alone => one,
                Held::Several(count) => [vec![count], one].concat(),
            };
            let outside = each.iter().filter(|e| e.1).count();
            let values: Vec<f64> = each.into_iter().flat_map(|e| e.0).collect();
            Ok((values, shape, outside))
        })?;
        Ok((doubles(py, &values), shape, outside))
    }
}
