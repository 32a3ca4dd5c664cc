//! Constants of an ONNX file: decoding, types, broadcasting.

use super::element::{Element, decode};
use super::onnx_axes::Axes;
use super::onnx_external::External;
use super::onnx_proto::{NodeProto, TensorProto};
use crate::Result;
use crate::error::Error;
use crate::tensor::product;
use std::rc::Rc;

const FORMAT: &str = "ONNX";

/// A constant with its ONNX axes (the batch axis, if any, included).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constant {
    /// What its values are; each is one of this type.
    pub(crate) element: Element,
    /// At most [`MOST_AXES`].
    pub(crate) dims: Vec<usize>,
    /// Shared, since nodes may pass constants on any number of times.
    pub(crate) values: Rc<[f64]>,
}

/// Most axes of a constant.
pub(super) const MOST_AXES: usize = 8;

impl Constant {
    pub(crate) fn from_proto(t: &TensorProto, external: &External) -> Result<Self> {
        let bad = |detail: String| Error::malformed(FORMAT, format!("tensor {}: {detail}", t.name));
        let element = element(i64::from(t.data_type));
        let element = element.ok_or_else(|| {
            bad(format!(
                "its values are of type {}, which is not read",
                type_name(i64::from(t.data_type))
            ))
        })?;
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
        if t.data_location != 0 {
            let raw = external.read(t, count.saturating_mul(element.size()))?;
            return Ok(Self::new(element, dims, element.decode_all(&raw)));
        }
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
        Ok(Self {
            element,
            dims,
            values,
        })
    }

    /// Of these lengths, and as many values of this type.
    pub(super) fn new(
        element: Element,
        dims: Vec<usize>,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self {
            element,
            dims,
            values: values.into_iter().collect(),
        }
    }

    /// One number of this type.
    pub(crate) fn of(element: Element, value: f64) -> Self {
        Self::new(element, vec![], [value])
    }

    /// A one-dimensional constant.
    pub(crate) fn list(element: Element, values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        Self::new(element, vec![values.len()], values)
    }

    /// The values of a constant of integers.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let whole = self.element.is_integer();
        whole.then(|| self.values.iter().map(|&v| v as i64).collect())
    }

    /// What `Cast` makes of it: integers keep their low bits, floats lose what is behind the point. None where ONNX leaves the result open
    /// (a float that the integer type does not hold), and for integers that f64 does not hold.
    pub(super) fn cast(&self, to: Element) -> Option<Self> {
        if self.element == to {
            return Some(self.clone());
        }
        let integer = |v: f64| {
            // the largest integer stands for "to the end"
            let (whole, exact) = (v.trunc() as i128, v.abs() <= (1u64 << 53) as f64);
            let kept = wrapped(to, whole);
            let defined =
                self.element.is_integer() || self.element == Element::Bool || kept == v.trunc();
            (exact && defined).then_some(kept)
        };
        let one = |&v: &f64| match to {
            Element::Bool => Some(f64::from(u8::from(v != 0.0))),
            _ if to.is_integer() => integer(v),
            _ => Some(to.nearest(v)),
        };
        Some(Self {
            element: to,
            dims: self.dims.clone(),
            values: self.values.iter().map(one).collect::<Option<_>>()?,
        })
    }

    pub(crate) fn scalar(&self) -> Option<f64> {
        match self.values[..] {
            [v] => Some(v),
            _ => None,
        }
    }

    /// Its values at these places of it.
    pub(super) fn moved(&self, axes: &Axes) -> Self {
        Self {
            element: self.element,
            dims: axes.dims(),
            values: axes.gather(&self.values),
        }
    }

    /// With other values, as many.
    pub(super) fn with_values(&self, values: impl IntoIterator<Item = f64>) -> Self {
        Self::new(self.element, self.dims.clone(), values)
    }

    /// With other lengths of as many values.
    pub(super) fn with_dims(&self, dims: Vec<usize>) -> Self {
        Self {
            dims,
            ..self.clone()
        }
    }

    /// The constant broadcast to `dims` (right-aligned), or None when it doesn't fit: one with more axes would give its result as many.
    pub(crate) fn broadcast(&self, dims: &[usize]) -> Option<Rc<[f64]>> {
        if self.dims == dims {
            return Some(Rc::clone(&self.values));
        }
        let axes = Axes::row_major(&self.dims)?.broadcast(dims)?;
        Some(axes.gather(&self.values))
    }
}

/// The low bits of a number as this type has them.
pub(super) fn wrapped(to: Element, whole: i128) -> f64 {
    match to {
        Element::I8 => f64::from(whole as i8),
        Element::U8 => f64::from(whole as u8),
        Element::I16 => f64::from(whole as i16),
        Element::I32 => f64::from(whole as i32),
        _ => whole as i64 as f64,
    }
}

impl Element {
    /// The nearest number of a type of floats; of others the number itself.
    pub(super) fn nearest(self, v: f64) -> f64 {
        match self {
            Self::F32 => f64::from(v as f32),
            Self::F16 => nearest(v, 11, -14, 65504.0),
            Self::Bf16 => nearest(v, 8, -126, f64::from(f32::MAX)),
            _ => v,
        }
    }
}

/// The nearest number of so many binary digits and an exponent of at least `least`, ties to even; infinite beyond `largest`.
fn nearest(v: f64, digits: i32, least: i32, largest: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let exponent = ((v.abs().to_bits() >> 52) as i32 - 1023).max(least);
    let unit = 2f64.powi(exponent - digits + 1);
    let rounded = (v / unit).round_ties_even() * unit;
    match rounded.abs() <= largest {
        true => rounded,
        false => f64::INFINITY.copysign(v),
    }
}

/// Numbers, names and elements of the types that constants are read of.
const TYPES: [(i64, &str, Element); 10] = [
    (1, "float", Element::F32),
    (2, "uint8", Element::U8),
    (3, "int8", Element::I8),
    (5, "int16", Element::I16),
    (6, "int32", Element::I32),
    (7, "int64", Element::I64),
    (9, "bool", Element::Bool),
    (10, "float16", Element::F16),
    (11, "double", Element::F64),
    (16, "bfloat16", Element::Bf16),
];

/// The element of this number.
pub(super) fn element(number: i64) -> Option<Element> {
    TYPES.iter().find(|t| t.0 == number).map(|t| t.2)
}

/// What a type is called, for messages.
pub(super) fn type_name(number: i64) -> String {
    let known = TYPES.iter().find(|t| t.0 == number);
    known.map_or_else(|| format!("number {number}"), |t| t.1.into())
}

/// The value of a Constant node.
pub(super) fn constant_node(node: &NodeProto, external: &External) -> Result<Constant> {
    let detail = "only tensors and numbers are read";
    let bad = || Error::invalid(&node.name, "Constant", detail);
    let [a] = &node.attribute[..] else {
        return Err(bad());
    };
    match (a.name.as_str(), &a.t) {
        ("value", Some(t)) => Constant::from_proto(t, external),
        ("value_float", _) => Ok(Constant::of(Element::F32, f64::from(a.f))),
        ("value_int", _) => Ok(Constant::of(Element::I64, a.i as f64)),
        ("value_floats", _) => {
            let values = a.floats.iter().map(|&v| f64::from(v));
            Ok(Constant::list(Element::F32, values))
        }
        ("value_ints", _) => Ok(Constant::list(
            Element::I64,
            a.ints.iter().map(|&v| v as f64),
        )),
        _ => Err(bad()),
    }
}
