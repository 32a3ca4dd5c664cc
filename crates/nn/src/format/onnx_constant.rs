//! Constants of an ONNX file: decoding, and folding of the few operators that exporters leave between constants.

use super::element::{Element, decode};
use super::onnx_proto::{NodeProto, TensorProto};
use crate::Result;
use crate::error::Error;
use crate::tensor::product;
use std::rc::Rc;

const FORMAT: &str = "ONNX";

/// A constant with its ONNX axes (the batch axis, if any, included).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    /// At most [`MOST_AXES`].
    pub(crate) dims: Vec<usize>,
    /// Shared, since nodes may pass constants on any number of times.
    pub(crate) values: Rc<[f64]>,
}

/// Most axes of a constant.
const MOST_AXES: usize = 8;

impl Constant {
    pub(crate) fn from_proto(t: &TensorProto) -> Result<Self> {
        let bad = |detail: String| Error::malformed(FORMAT, format!("tensor {}: {detail}", t.name));
        if t.data_location != 0 {
            return Err(bad(
                "its values lie in another file; save the model as one file".into(),
            ));
        }
        let element = match t.data_type {
            1 => Element::F32,
            2 => Element::U8,
            3 => Element::I8,
            5 => Element::I16,
            6 => Element::I32,
            7 => Element::I64,
            9 => Element::Bool,
            10 => Element::F16,
            11 => Element::F64,
            16 => Element::Bf16,
            other => return Err(bad(format!("element type {other} is not read"))),
        };
        if t.dims.len() > MOST_AXES {
            return Err(bad(format!(
                "it has {} axes; {MOST_AXES} are read",
                t.dims.len()
            )));
        }
        let dims = t.dims.iter().map(|&d| usize::try_from(d).ok());
        let dims: Option<Vec<_>> = dims.collect();
        let dims = dims.ok_or_else(|| bad(format!("shape {:?} is negative", t.dims)))?;
        let count = product(&dims).ok_or_else(|| bad("it is too large".into()))?;
        // before anything is copied: a file may refer to one tensor many times
        let had = match element {
            _ if !t.raw_data.is_empty() => {
                if !t.raw_data.len().is_multiple_of(element.size()) {
                    return Err(bad(format!(
                        "{} bytes are no whole number of values",
                        t.raw_data.len()
                    )));
                }
                t.raw_data.len() / element.size()
            }
            Element::F32 => t.float_data.len(),
            Element::F64 => t.double_data.len(),
            Element::I64 => t.int64_data.len(),
            _ => t.int32_data.len(),
        };
        if had != count {
            return Err(Error::Length {
                tensor: t.name.clone(),
                shape: dims,
                needed: count,
                had,
            });
        }
        let values: Rc<[f64]> = if t.raw_data.is_empty() {
            match element {
                Element::F32 => t.float_data.iter().map(|&v| f64::from(v)).collect(),
                Element::F64 => t.double_data[..].into(),
                Element::I64 => t.int64_data.iter().map(|&v| v as f64).collect(),
                Element::F16 | Element::Bf16 => {
                    let halves = t.int32_data.iter().map(|v| v.to_le_bytes());
                    halves.map(|raw| decode(element, &raw[..2])).collect()
                }
                _ => t.int32_data.iter().map(|&v| f64::from(v)).collect(),
            }
        } else {
            element.decode_all(&t.raw_data).collect()
        };
        Ok(Self { dims, values })
    }

    /// One number.
    pub(crate) fn of(value: f64) -> Self {
        Self {
            dims: vec![],
            values: [value].into(),
        }
    }

    /// A one-dimensional constant of integers.
    pub(crate) fn list(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Rc<[f64]> = values.into_iter().collect();
        Self {
            dims: vec![values.len()],
            values,
        }
    }

    pub(crate) fn integers(&self) -> Vec<i64> {
        self.values.iter().map(|&v| v as i64).collect()
    }

    pub(crate) fn scalar(&self) -> Option<f64> {
        match self.values[..] {
            [v] => Some(v),
            _ => None,
        }
    }

    /// The constant broadcast to `dims` (right-aligned), or None when it doesn't fit.
    pub(crate) fn broadcast(&self, dims: &[usize]) -> Option<Vec<f64>> {
        let (more, own) = self
            .dims
            .split_at(self.dims.len().saturating_sub(dims.len()));
        let mut own = own.to_vec();
        own.splice(0..0, vec![1; dims.len() - own.len()]);
        if more.iter().any(|&o| o != 1) {
            return None;
        }
        if own.iter().zip(dims).any(|(&o, &d)| o != 1 && o != d) {
            return None;
        }
        let total: usize = dims.iter().product();
        let at = |mut flat: usize| {
            let (mut index, mut step) = (0, 1);
            for (&o, &d) in own.iter().zip(dims).rev() {
                if o != 1 {
                    index += flat % d * step;
                }
                step *= o;
                flat /= d;
            }
            self.values[index]
        };
        Some((0..total).map(at).collect())
    }
}

/// The result of an operator whose inputs are all constants; None when it isn't one that is folded.
pub(crate) fn fold(node: &NodeProto, inputs: &[&Constant]) -> Option<Constant> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let [first, rest @ ..] = inputs else {
        return None;
    };
    match node.op_type.as_str() {
        "Identity" | "Cast" => Some((*first).clone()),
        "Squeeze" | "Unsqueeze" if first.values.len() == 1 => {
            Some(Constant::list(first.values.iter().copied()))
        }
        "Concat" if inputs.iter().all(|c| c.dims.len() == 1) => Some(Constant::list(
            inputs.iter().flat_map(|c| c.values.iter().copied()),
        )),
        "Gather" if first.dims.len() == 1 && attribute("axis").is_none_or(|a| a.i == 0) => {
            let length = first.values.len() as i64;
            let pick = |i: i64| {
                let i = usize::try_from(if i < 0 { i + length } else { i });
                first.values.get(i.ok()?).copied()
            };
            let index = rest.first()?;
            let values = index.integers().into_iter().map(pick);
            Some(Constant {
                dims: index.dims.clone(),
                values: values.collect::<Option<_>>()?,
            })
        }
        _ => None,
    }
}
