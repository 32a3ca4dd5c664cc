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
    /// What its values are; each is one of this type.
    pub(crate) element: Element,
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
                "its values lie in another file; save the model as one file: torch.onnx.export(…, external_data=False), or onnx.save(onnx.load(\"MODEL\"), \"ONE\")".into(),
            ));
        }
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

    /// One number of this type.
    pub(crate) fn of(element: Element, value: f64) -> Self {
        Self {
            element,
            dims: vec![],
            values: [value].into(),
        }
    }

    /// A one-dimensional constant.
    pub(crate) fn list(element: Element, values: impl IntoIterator<Item = f64>) -> Self {
        let values: Rc<[f64]> = values.into_iter().collect();
        Self {
            element,
            dims: vec![values.len()],
            values,
        }
    }

    /// The values of a constant of integers.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let whole = self.element.is_integer();
        whole.then(|| self.values.iter().map(|&v| v as i64).collect())
    }

    /// What `Cast` makes of it: integers keep their low bits, floats lose what is behind the point. None where ONNX leaves the result open
    /// (a float that the integer type does not hold), and for integers that f64 does not hold.
    fn cast(&self, to: Element) -> Option<Self> {
        if self.element == to {
            return Some(self.clone());
        }
        let integer = |v: f64| {
            let (whole, exact) = (v.trunc() as i128, v.abs() <= (1u64 << 53) as f64);
            let kept = match to {
                Element::I8 => f64::from(whole as i8),
                Element::U8 => f64::from(whole as u8),
                Element::I16 => f64::from(whole as i16),
                Element::I32 => f64::from(whole as i32),
                _ => whole as i64 as f64,
            };
            let defined = self.element.is_integer() || kept == v.trunc();
            (exact && defined).then_some(kept)
        };
        let one = |&v: &f64| match to {
            Element::F64 => Some(v),
            Element::F32 => Some(f64::from(v as f32)),
            Element::F16 => Some(nearest(v, 11, -14, 65504.0)),
            Element::Bf16 => Some(nearest(v, 8, -126, f64::from(f32::MAX))),
            Element::Bool => Some(f64::from(u8::from(v != 0.0))),
            _ => integer(v),
        };
        Some(Self {
            element: to,
            dims: self.dims.clone(),
            values: self.values.iter().map(one).collect::<Option<_>>()?,
        })
    }

    /// With other axes of as many values.
    fn with_axes(&self, dims: Vec<usize>) -> Option<Self> {
        (dims.len() <= MOST_AXES).then(|| Self {
            dims,
            ..self.clone()
        })
    }

    pub(crate) fn scalar(&self) -> Option<f64> {
        match self.values[..] {
            [v] => Some(v),
            _ => None,
        }
    }

    /// The constant broadcast to `dims` (right-aligned), or None when it doesn't fit: one with more axes would give its result as many.
    pub(crate) fn broadcast(&self, dims: &[usize]) -> Option<Vec<f64>> {
        let mut own = vec![1; dims.len().checked_sub(self.dims.len())?];
        own.extend(&self.dims);
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

/// Operators that are computed where all their inputs are constants.
pub(super) const FOLDED: &str =
    "Identity, Cast, Squeeze, Unsqueeze, and Concat and Gather of lists";

/// The result of an operator whose inputs are all constants; None when it isn't one that is folded.
pub(super) fn fold(node: &NodeProto, inputs: &[&Constant]) -> Option<Constant> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let [first, rest @ ..] = inputs else {
        return None;
    };
    // which of `rank` axes are named, if any are
    let axes = |rank: usize| -> Option<Option<Vec<bool>>> {
        let given = match (attribute("axes"), rest.first()) {
            (Some(a), None) => a.ints.clone(),
            (None, Some(c)) => c.integers()?,
            (None, None) => return Some(None),
            _ => return None,
        };
        let mut named = vec![false; rank];
        for axis in given {
            let from_end = if axis < 0 { rank as i64 } else { 0 };
            let axis = usize::try_from(axis.saturating_add(from_end)).ok()?;
            if std::mem::replace(named.get_mut(axis)?, true) {
                return None;
            }
        }
        Some(Some(named))
    };
    match node.op_type.as_str() {
        "Identity" => Some((*first).clone()),
        "Cast" => first.cast(element(attribute("to")?.i)?),
        "Squeeze" => {
            let dims = first.dims.iter().copied();
            let named = axes(first.dims.len())?;
            let named = named.unwrap_or_else(|| dims.clone().map(|d| d == 1).collect());
            let both = || dims.clone().zip(&named);
            if both().any(|(d, &gone)| gone && d != 1) {
                return None;
            }
            first.with_axes(both().filter(|b| !b.1).map(|b| b.0).collect())
        }
        "Unsqueeze" => {
            let more = match (attribute("axes"), rest.first()) {
                (Some(a), _) => a.ints.len(),
                (None, c) => c?.values.len(),
            };
            if more > MOST_AXES {
                return None;
            }
            let mut dims = first.dims.iter().copied();
            let named = axes(first.dims.len() + more)??;
            first.with_axes(
                named
                    .iter()
                    .map_while(|&new| if new { Some(1) } else { dims.next() })
                    .collect(),
            )
        }
        "Concat"
            if inputs
                .iter()
                .all(|c| c.dims.len() == 1 && c.element == first.element) =>
        {
            let along = attribute("axis").is_some_and(|a| matches!(a.i, 0 | -1));
            let values = inputs.iter().flat_map(|c| c.values.iter().copied());
            along.then(|| Constant::list(first.element, values))
        }
        "Gather"
            if first.dims.len() == 1 && attribute("axis").is_none_or(|a| matches!(a.i, 0 | -1)) =>
        {
            let length = first.values.len() as i64;
            let pick = |i: i64| {
                let i = usize::try_from(if i < 0 { i.saturating_add(length) } else { i });
                first.values.get(i.ok()?).copied()
            };
            let index = rest.first()?;
            let values = index.integers()?.into_iter().map(pick);
            Some(Constant {
                element: first.element,
                dims: index.dims.clone(),
                values: values.collect::<Option<_>>()?,
            })
        }
        _ => None,
    }
}
