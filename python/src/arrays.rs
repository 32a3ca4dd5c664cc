//! NumPy's arrays as the library's inputs: `uint8` are pixels, everything else is numbers.

use polyveil::data::{Answers, Dataset, Heading, Known, Split, Vectors};
use polyveil::inputs::{Given, Source};
use polyveil::nn::Shape;
use polyveil::task::{Outputs, Picture, Task};
use polyveil::{Input, Result, data};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::path::PathBuf;

/// An array, row-major.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Array {
    /// Whether its values are bytes; doubles otherwise.
    pixels: bool,
    shape: Vec<usize>,
    bytes: PyBackedBytes,
}

/// What an array holds for a network.
pub(crate) enum Held {
    /// One input, without an axis for several.
    Alone,
    /// So many.
    Several(usize),
}

impl Array {
    fn numbers(&self) -> Vec<f64> {
        if self.pixels {
            return self.bytes.iter().map(|&b| f64::from(b)).collect();
        }
        let each = self.bytes.chunks_exact(8);
        let number = |b: &[u8]| f64::from_ne_bytes(b.try_into().unwrap_or_default());
        each.map(number).collect()
    }

    /// How many inputs of this shape it holds.
    pub(crate) fn held(&self, shape: Shape) -> Result<Held> {
        let flat = |dims: &[usize]| !self.pixels && *dims == [shape.len()];
        let is = |dims: &[usize]| shape.holds(dims) || flat(dims);
        match &self.shape[..] {
            dims if is(dims) => Ok(Held::Alone),
            [count, rest @ ..] if *count > 0 && is(rest) => Ok(Held::Several(*count)),
            dims => Err(format!(
                "the array has shape {dims:?}, the network takes inputs of shape {shape}: one of them, or several with an axis in front"
            )
            .into()),
        }
    }

    /// Refuses bytes where numbers are taken in a shape, and the other way round: they would differ by a factor of 255, or more.
    fn expect(&self, task: &Task) -> Result<()> {
        let image = shape_of(task).is_some_and(|s| s.as_image().is_some());
        match (task, self.pixels) {
            (Task::Vectors(_), true) if image => Err(
                "the network takes numbers as it was calibrated on them, this array has dtype uint8, which are pixels; give floats, normalised as they were there".into(),
            ),
            (Task::Pictures(_), false) => Err(
                "the network takes pixels, which it normalises itself, this array is not of dtype uint8; give pixels from 0 to 255 as uint8".into(),
            ),
            (Task::Vectors(_) | Task::Pictures(_), _) => Ok(()),
            _ => Err(format!("the network takes {}, no array", task.kind()).into()),
        }
    }

    /// Inputs of a task, each as a client has it.
    pub(crate) fn inputs(&self, task: &Task) -> Result<(Vec<Input>, Held)> {
        self.expect(task)?;
        let shape = shape_of(task).ok_or("the network takes no array")?;
        let held = self.held(shape)?;
        let inputs = match (task, shape) {
            (
                Task::Pictures(_),
                Shape::Image {
                    channels,
                    height,
                    width,
                },
            ) => {
                let pictures = self.bytes.chunks_exact(shape.len());
                let picture = |planes: &[u8]| {
                    let pixels = interleaved(planes, channels);
                    let picture = Picture::from_pixels(width, height, channels, pixels);
                    let picture = picture.map(Input::Picture);
                    Ok(picture.ok_or_else(|| format!("{shape} is no picture"))?)
                };
                pictures.map(picture).collect::<Result<_>>()?
            }
            _ => {
                let all = self.numbers();
                let rows = all.chunks_exact(shape.len());
                rows.map(|row| Input::Row(row.to_vec())).collect()
            }
        };
        Ok((inputs, held))
    }
}

/// Planes (C, H, W) as (H, W, C).
fn interleaved(planes: &[u8], channels: usize) -> Vec<u8> {
    let each = planes.len() / channels.max(1);
    let pixel = |i: usize| planes.iter().skip(i).step_by(each).copied();
    (0..each).flat_map(pixel).collect()
}

/// The shape of a task's inputs, where these are arrays.
fn shape_of(task: &Task) -> Option<Shape> {
    match task {
        Task::Vectors(t) => Some(t.shape()),
        Task::Pictures(t) => Some(t.shape()),
        _ => None,
    }
}

/// The axes' lengths of one answer.
pub(crate) fn answer_shape(task: &Task, values: usize) -> Vec<usize> {
    match task.outputs() {
        Some(Outputs::Tensor(shape)) => shape.dims(),
        _ => vec![values],
    }
}

/// Doubles and the lengths of their axes, for Python.
pub(crate) fn doubles<'py>(py: Python<'py>, values: &[f64]) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    PyBytes::new(py, &bytes)
}

/// Data: an array with what is known of it, or a path with how it is read.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Data {
    array: Option<Array>,
    pub(crate) path: Option<PathBuf>,
    labels: Option<Vec<usize>>,
    targets: Option<Array>,
    /// Names of the classes, in order of the labels.
    pub(crate) classes: Vec<String>,
    /// The column or array of the labels in a file.
    pub(crate) label_column: Option<String>,
    /// Those of numbers to predict.
    pub(crate) target_columns: Vec<String>,
    pub(crate) without: Vec<String>,
    split: Option<String>,
    /// Whether a table's first line is a heading; None where that is told by its fields.
    heading: Option<bool>,
}

/// What an array becomes.
pub(crate) enum Set {
    Pictures(Dataset),
    Rows(Vectors),
}

impl Data {
    pub(crate) fn heading(&self) -> Heading {
        match self.heading {
            None => Heading::Told,
            Some(true) => Heading::Present,
            Some(false) => Heading::Absent,
        }
    }

    fn split(&self) -> Result<Option<Split>> {
        Ok(match self.split.as_deref() {
            None => None,
            Some("train") => Some(Split::Train),
            Some("val") => Some(Split::Validation),
            Some("test") => Some(Split::Test),
            Some(other) => {
                return Err(format!("split = {other:?}: there are train, val and test").into());
            }
        })
    }

    /// The array, for a network of this input and so many outputs; none of a path.
    pub(crate) fn set(&self, input: Shape, outputs: usize) -> Result<Option<Set>> {
        let Some(array) = &self.array else {
            return Ok(None);
        };
        let Held::Several(count) = array.held(input)? else {
            let what = format!("data are several inputs of shape {input}, with an axis in front");
            return Err(what.into());
        };
        let known = [
            self.labels.as_ref().map(Vec::len),
            self.targets.as_ref().and_then(|t| t.shape.first().copied()),
        ];
        if let Some(had) = known.into_iter().flatten().find(|had| *had != count) {
            return Err(
                format!("{count} inputs and {had} labels or targets; give one each").into(),
            );
        }
        let names = self.labels.as_ref().map(|labels| {
            let last = labels.iter().max().map_or(0, |most| most + 1);
            match &self.classes[..] {
                [] => (0..last.max(outputs)).map(|i| i.to_string()).collect(),
                names => names.to_vec(),
            }
        });
        Ok(Some(match (input, array.pixels) {
            (
                Shape::Image {
                    channels,
                    height,
                    width,
                },
                true,
            ) => {
                if self.targets.is_some() {
                    return Err("pictures as pixels have one label each; numbers to predict go with floats: normalise the array and give it as floats".into());
                }
                let shape = data::Shape {
                    height,
                    width,
                    channels,
                };
                let planes = array.bytes.chunks_exact(input.len());
                let pixels = planes.flat_map(|p| interleaved(p, channels)).collect();
                let labels = self.labels.clone().unwrap_or_else(|| vec![0; count]);
                let names = names.unwrap_or_default();
                Set::Pictures(Dataset::from_pixels(shape, names, pixels, &labels)?)
            }
            _ => {
                let known = match (&self.labels, names, &self.targets) {
                    (Some(labels), Some(names), _) => Known::Classes {
                        names: names.into(),
                        labels: labels.clone().into(),
                    },
                    (_, _, Some(targets)) => Known::Numbers {
                        width: targets.shape[1..].iter().product(),
                        values: targets.numbers().into(),
                    },
                    _ => Known::Nothing,
                };
                Set::Rows(Vectors::new(input.len(), array.numbers(), known)?)
            }
        }))
    }

    /// As the library takes data.
    pub(crate) fn source(&self, input: Shape, outputs: usize) -> Result<Source> {
        if let Some(set) = self.set(input, outputs)? {
            return Ok(Source::given(
                "the array",
                match set {
                    Set::Pictures(set) => Given::Pictures(set),
                    Set::Rows(rows) => Given::Rows(rows),
                },
            ));
        }
        let path = self.path.as_ref().ok_or("data are an array or a path")?;
        Ok(Source {
            answers: match (&self.label_column, &self.target_columns[..]) {
                (Some(name), _) => Answers::Classes(Some(name.clone())),
                (None, []) => Answers::None,
                (None, names) => Answers::Numbers(names.to_vec()),
            },
            without: self.without.clone(),
            heading: self.heading(),
            split: self.split()?,
            ..Source::of(path)
        })
    }
}
