//! ONNX import: inference graphs of convolutional networks, batch size 1 or free.
//!
//! Read are Conv, Gemm, MatMul, Add, Mul, BatchNormalization, the operators of [`Activation`] (Relu, Sigmoid, Tanh, Gelu, HardSwish), the patterns `x·Sigmoid(x)` (SiLU) and
//! `x/2·(1 + Erf(x/√2))` (GELU), AveragePool, GlobalAveragePool, ReduceMean over spatial axes, MaxPool, GlobalMaxPool, Pad, Slice, Flatten, Reshape,
//! Squeeze, Unsqueeze, Identity, Dropout, Cast and Constant. Anything else that the output depends on is refused by operator and
//! node name. Weights given in f64 are rounded to f32.

use super::onnx_constant::Constant;
use super::onnx_operator::Importing;
use super::onnx_proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::Result;
use crate::error::Error;
use crate::graph::{Graph, Network, NetworkBuilder, NodeId};
use crate::op::Nonlinearity;
use crate::tensor::Shape;
use approx::Activation;
use prost::Message;
use prost::encoding::decode_varint;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

const FORMAT: &str = "ONNX";
/// Values that uses of constants may make beyond the file's own bytes: scalars added to pictures, weights that layers share.
const MOST_COPIES: usize = 1 << 24;

/// Whether the bytes begin like a model: fields of ONNX' outermost message, each with its own kind of value. Protocol buffers have no
/// signature; no other format here begins so.
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    // ir_version, producer's name and version, domain, model_version, documentation, graph, opset_import, metadata, training, functions
    const NUMBERS: [u64; 2] = [1, 5];
    const MESSAGES: [u64; 9] = [2, 3, 4, 6, 7, 8, 14, 20, 25];
    let mut rest = bytes;
    let mut fields = 0;
    while !rest.is_empty() {
        let Ok(tag) = decode_varint(&mut rest) else {
            break;
        };
        let Ok(value) = (match (tag >> 3, tag & 7) {
            (field, 0) if NUMBERS.contains(&field) => decode_varint(&mut rest).map(|_| 0),
            (field, 2) if MESSAGES.contains(&field) => decode_varint(&mut rest),
            _ => return false,
        }) else {
            break;
        };
        fields += 1;
        match usize::try_from(value).ok().and_then(|n| rest.get(n..)) {
            Some(behind) => rest = behind,
            // cut off: its reader says so
            None => break,
        }
    }
    fields > 1
}

/// Reads a model from its bytes.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`], [`Error::UnsupportedOperator`], [`Error::NotFinite`], [`Error::Length`],
/// [`Error::Invalid`] when an operator's attributes or shapes can't be taken.
pub fn from_bytes(bytes: &[u8]) -> Result<Graph> {
    let model = ModelProto::decode(bytes).map_err(|e| {
        let detail = e.to_string();
        // prost has no structured error; a message cut off anywhere underflows.
        if detail.contains("underflow") || detail.contains("truncated") {
            Error::truncated(FORMAT, detail)
        } else {
            Error::malformed(FORMAT, detail)
        }
    })?;
    from_proto(&model)
}

/// Reads a decoded model.
///
/// # Errors
/// As [`from_bytes`].
pub fn from_proto(model: &ModelProto) -> Result<Graph> {
    let malformed = |detail: &str| Error::malformed(FORMAT, detail);
    let graph = model.graph.as_ref();
    let graph = graph.ok_or_else(|| malformed("it holds no graph"))?;
    // Always written, and behind the graph: its absence is how a file cut off between two fields shows.
    let mut sets = model.opset_import.iter();
    let opset = sets.find(|o| o.domain.is_empty()).map(|o| o.version);
    let opset =
        opset.ok_or_else(|| Error::truncated(FORMAT, "the version of its operators is missing"))?;
    let [output] = &graph.output[..] else {
        return Err(malformed(&format!(
            "it has {} outputs, one is needed",
            graph.output.len()
        )));
    };
    let mut import = Import {
        graph,
        opset,
        producers: (graph.node.iter())
            .flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n)))
            .collect(),
        values: HashMap::new(),
        network: Network::builder(),
        suffixes: HashMap::new(),
        copies_left: Cell::new(model.encoded_len().saturating_add(MOST_COPIES)),
    };
    for t in &graph.initializer {
        let constant = Value::Constant(Constant::from_proto(t)?);
        import.values.insert(&t.name, constant);
    }
    for input in &graph.input {
        if matches!(import.values.get(&input.name[..]), Some(Value::Constant(_))) {
            continue;
        }
        let id = import.network.input(&input.name, input_shape(input)?)?;
        import.values.insert(&input.name, Value::Node(id));
    }
    let needed = import.needed(&output.name);
    for node in &graph.node {
        if node.output.iter().any(|o| needed.contains(o.as_str())) {
            import.node(node)?;
        }
    }
    match import.values.get(output.name.as_str()) {
        Some(Value::Node(id)) => import.network.finish(*id),
        _ => Err(malformed(&format!(
            "its output {} is not computed from its input",
            output.name
        ))),
    }
}

fn input_shape(input: &ValueInfoProto) -> Result<Shape> {
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| &s.dim);
    let dims: Vec<i64> = dims.into_iter().flatten().map(|d| d.dim_value).collect();
    let refused = |detail: String| Error::invalid(&input.name, "Input", detail);
    if dims.first().is_some_and(|&n| n > 1) {
        return Err(refused(format!(
            "batch size {} is fixed; export with batch size 1 or a free batch axis",
            dims[0]
        )));
    }
    let length = |d: i64| usize::try_from(d).ok().filter(|&d| d > 0);
    let sizes: Option<Vec<_>> = dims.iter().skip(1).map(|&d| length(d)).collect();
    match sizes.as_deref() {
        Some(&[c, h, w]) => Ok(Shape::image(c, h, w)),
        Some(&[n]) => Ok(Shape::Vector(n)),
        _ => Err(refused(format!(
            "shape {dims:?} is neither (batch, channels, height, width) nor (batch, features) with fixed lengths"
        ))),
    }
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Node(NodeId),
    Constant(Constant),
}

/// A model being imported.
pub(super) struct Import<'a> {
    graph: &'a GraphProto,
    pub(super) opset: i64,
    producers: HashMap<&'a str, &'a NodeProto>,
    pub(super) values: HashMap<&'a str, Value>,
    pub(super) network: NetworkBuilder<Nonlinearity>,
    /// For each name, the number from which on no node has it.
    suffixes: HashMap<&'a str, usize>,
    copies_left: Cell<usize>,
}

/// What a node computes as far as import is concerned.
pub(super) enum Pattern<'a> {
    /// The activation of one value, whatever lies between.
    Activation(Activation, &'a str),
    /// The operator itself.
    Plain,
}

impl<'a> Import<'a> {
    /// Accounts for `count` values that are made of a constant, so that a small file can't ask for much memory.
    pub(super) fn charge(&self, count: usize) -> Result<()> {
        let left = self.copies_left.get().checked_sub(count);
        self.copies_left.set(left.ok_or_else(|| Error::malformed(FORMAT, format!(
                "its constants, where they are used, have more values than its bytes and {MOST_COPIES} together"
            )))?);
        Ok(())
    }

    fn producer(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = *self.producers.get(value)?;
        (node.op_type == op && node.domain.is_empty()).then_some(node)
    }

    /// The scalar that a value holds, from an initializer or a Constant node.
    fn scalar(&self, value: &str) -> Option<f64> {
        if let Some(Value::Constant(c)) = self.values.get(value) {
            return c.scalar();
        }
        let node = self.producer(value, "Constant")?;
        let a = node.attribute.first()?;
        // many nodes may ask for one constant: decode none that is no scalar
        let larger = a.floats.len().max(a.ints.len()) > 1
            || a.t.as_ref().is_some_and(|t| t.dims.iter().any(|&d| d != 1));
        if larger {
            return None;
        }
        constant_node(node).ok()?.scalar()
    }

    /// `x·Sigmoid(x)` and `x/2·(1 + Erf(x/√2))`, the factors in any order.
    pub(super) fn pattern(&self, node: &'a NodeProto) -> Pattern<'a> {
        if node.op_type != "Mul" || node.input.len() != 2 {
            return Pattern::Plain;
        }
        for (x, other) in [(0, 1), (1, 0)].map(|(a, b)| (&node.input[a], &node.input[b])) {
            let sigmoid = self.producer(other, "Sigmoid");
            if sigmoid.is_some_and(|s| s.input.first() == Some(x)) {
                return Pattern::Activation(Activation::Silu, x);
            }
        }
        let mut factor = 1.0;
        let mut leaves = Vec::new();
        self.factors(node, 3, &mut factor, &mut leaves);
        if let [a, b] = leaves[..]
            && (factor - 0.5).abs() < 1e-6
        {
            for (x, other) in [(a, b), (b, a)] {
                if self.one_plus_erf(other) == Some(x) {
                    return Pattern::Activation(Activation::Gelu, x);
                }
            }
        }
        Pattern::Plain
    }

    /// Product of the scalar factors, and the other factors, of a tree of multiplications.
    fn factors(
        &self,
        node: &'a NodeProto,
        depth: usize,
        factor: &mut f64,
        leaves: &mut Vec<&'a str>,
    ) {
        for input in &node.input {
            match (self.scalar(input), self.producer(input, "Mul")) {
                (Some(c), _) => *factor *= c,
                (None, Some(m)) if depth > 0 && m.input.len() == 2 => {
                    self.factors(m, depth - 1, factor, leaves)
                }
                _ => leaves.push(input),
            }
        }
    }

    /// The `x` of `1 + Erf(x/√2)`.
    fn one_plus_erf(&self, value: &str) -> Option<&'a str> {
        let near = |v: f64, to: f64| (v - to).abs() < 1e-5;
        let add = self.producer(value, "Add")?;
        let [a, b] = &add.input[..] else { return None };
        let erf = match (self.scalar(a), self.scalar(b)) {
            (Some(one), None) if near(one, 1.0) => b,
            (None, Some(one)) if near(one, 1.0) => a,
            _ => return None,
        };
        let argument = self.producer(erf, "Erf")?.input.first()?;
        if let Some(div) = self.producer(argument, "Div") {
            let [x, by] = &div.input[..] else { return None };
            return near(self.scalar(by)?, SQRT_2).then_some(x);
        }
        let [a, b] = &self.producer(argument, "Mul")?.input[..] else {
            return None;
        };
        let root = |v: &str| near(self.scalar(v).unwrap_or(0.0), FRAC_1_SQRT_2);
        let (x, _) = [(a, b), (b, a)].into_iter().find(|(_, by)| root(by))?;
        Some(x)
    }

    /// Names of the values that the output depends on, patterns counting as one operator.
    fn needed(&self, output: &'a str) -> HashSet<&'a str> {
        let mut needed = HashSet::from([output]);
        for node in self.graph.node.iter().rev() {
            if node.output.iter().any(|o| needed.contains(o.as_str())) {
                match self.pattern(node) {
                    Pattern::Activation(_, x) => drop(needed.insert(x)),
                    Pattern::Plain => needed.extend(node.input.iter().map(String::as_str)),
                }
            }
        }
        needed
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<()> {
        let Some(output) = node.output.first() else {
            return Ok(());
        };
        let base = match &node.name {
            name if name.is_empty() => output,
            name => name,
        };
        let suffix = self.suffixes.entry(base).or_default();
        let name = loop {
            let name = match *suffix {
                0 => base.clone(),
                k => format!("{base}#{k}"),
            };
            if !self.network.contains(&name) {
                break name;
            }
            *suffix += 1;
        };
        let value = Importing {
            import: self,
            node,
            name,
        }
        .value()?;
        self.values.insert(output, value);
        Ok(())
    }
}

/// The value of a Constant node.
pub(super) fn constant_node(node: &NodeProto) -> Result<Constant> {
    let detail = "only tensors and numbers are read";
    let bad = || Error::invalid(&node.name, "Constant", detail);
    let a = node.attribute.first().ok_or_else(bad)?;
    match (a.name.as_str(), &a.t) {
        ("value", Some(t)) => Constant::from_proto(t),
        ("value_float", _) => Ok(Constant::of(f64::from(a.f))),
        ("value_int", _) => Ok(Constant::of(a.i as f64)),
        ("value_floats", _) => Ok(Constant::list(a.floats.iter().map(|&v| f64::from(v)))),
        ("value_ints", _) => Ok(Constant::list(a.ints.iter().map(|&v| v as f64))),
        _ => Err(bad()),
    }
}
