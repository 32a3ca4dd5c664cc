//! ONNX import: inference graphs of convolutional networks, batch size 1 or free.
//!
//! Read are Conv, Gemm, MatMul, Add, Mul, Sub and Div (by constants), BatchNormalization, the operators of [`Activation`] (Relu, Sigmoid, Tanh, Gelu, HardSwish), the patterns `x·Sigmoid(x)` (SiLU) and
//! `x/2·(1 + Erf(x/√2))` (GELU), AveragePool, GlobalAveragePool, ReduceMean over spatial axes, MaxPool, GlobalMaxPool, Pad, Slice, Flatten, Reshape,
//! Squeeze, Unsqueeze, Identity, Dropout, Cast (to floats), Shape and Constant. Anything else that the output depends on is refused by operator
//! and node name, and so is every attribute, input or output of these that is not known (`onnx_schema`). Weights given in f64 are rounded to f32.

use super::element::Element;
use super::onnx_constant::{Constant, type_name};
use super::onnx_operator::Importing;
use super::onnx_proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
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
/// Versions of the operators that are read: those before broadcast otherwise, and train unless they are told not to.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;
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
    let opset = opset(model)?;
    if let Some(f) = model.functions.iter().find(|f| standard(&f.domain)) {
        return Err(malformed(&format!(
            "it has an operator {} of its own instead of ONNX'",
            f.name
        )));
    }
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
        initializers: (graph.initializer.iter())
            .map(|t| (t.name.as_str(), t))
            .collect(),
        values: HashMap::new(),
        network: Network::builder(),
        suffixes: HashMap::new(),
        copies_left: Cell::new(model.encoded_len().saturating_add(MOST_COPIES)),
    };
    if import.initializers.len() < graph.initializer.len() {
        return Err(malformed("two of its constants have one name"));
    }
    // what nothing depends on may be of any kind
    let needed = import.needed(&output.name);
    for t in graph
        .initializer
        .iter()
        .filter(|t| needed.contains(t.name.as_str()))
    {
        let constant = Value::Constant(Constant::from_proto(t)?);
        import.values.insert(&t.name, constant);
    }
    for sparse in graph.sparse_initializer.iter().flat_map(|s| &s.values) {
        if needed.contains(sparse.name.as_str()) {
            let detail = "is stored as a sparse one; store it as a plain one";
            return Err(malformed(&format!("tensor {}: it {detail}", sparse.name)));
        }
    }
    for input in &graph.input {
        let name = input.name.as_str();
        if needed.contains(name) && !import.initializers.contains_key(name) {
            let id = import.network.input(name, input_shape(input)?)?;
            import.values.insert(name, Value::Node(id));
        }
    }
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

/// Whether it is ONNX' own domain, which has two names.
pub(super) fn standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The version of ONNX' operators.
fn opset(model: &ModelProto) -> Result<i64> {
    let mut sets = model.opset_import.iter().filter(|o| standard(&o.domain));
    // always written, and behind the graph: its absence is how a file cut off between two fields shows
    let missing = || Error::truncated(FORMAT, "the version of its operators is missing");
    let first = sets.next().ok_or_else(missing)?.version;
    match sets.find(|o| o.version != first) {
        Some(_) => Err(Error::malformed(FORMAT, "it has two versions of operators")),
        None if OPSETS.contains(&first) => Ok(first),
        None => Err(Error::Version {
            format: "ONNX",
            had: format!("{first} of its operators (opset)"),
            known: "7 to 26",
        }),
    }
}

fn input_shape(input: &ValueInfoProto) -> Result<Shape> {
    let refused = |detail: String| Error::invalid(&input.name, "Input", detail);
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let element = tensor.map_or(0, |t| i64::from(t.elem_type));
    if !matches!(element, 0 | 1 | 10 | 11 | 16) {
        return Err(refused(format!(
            "it takes values of type {}; export the network with an input of floats",
            type_name(element)
        )));
    }
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| &s.dim);
    let dims: Vec<_> = dims.into_iter().flatten().collect();
    let length = |d: i64| usize::try_from(d).ok().filter(|&d| d > 0);
    let text: Vec<String> = (dims.iter())
        .map(|d| match (length(d.dim_value), d.dim_param.as_str()) {
            (Some(n), _) => n.to_string(),
            (None, "") => "?".into(),
            (None, name) => name.into(),
        })
        .collect();
    let text = text.join(", ");
    if !matches!(dims.len(), 2 | 4) {
        return Err(refused(format!(
            "shape ({text}) is neither (batch, channels, height, width) nor (batch, features); export with such an input"
        )));
    }
    if dims[0].dim_value > 1 {
        return Err(refused(format!(
            "batch size {} of ({text}) is fixed; export with batch size 1 or a free batch axis",
            dims[0].dim_value
        )));
    }
    let sizes: Option<Vec<_>> = dims[1..].iter().map(|d| length(d.dim_value)).collect();
    match sizes.as_deref() {
        Some(&[c, h, w]) => Ok(Shape::image(c, h, w)),
        Some(&[n]) => Ok(Shape::Vector(n)),
        _ => Err(refused(format!(
            "shape ({text}) leaves more open than the batch; export with fixed sizes"
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
    initializers: HashMap<&'a str, &'a TensorProto>,
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

    /// The node that computes a value, if it is this operator without any attributes (a Constant has some).
    fn producer(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = *self.producers.get(value)?;
        let plain = node.attribute.is_empty() || op == "Constant";
        (node.op_type == op && standard(&node.domain) && plain).then_some(node)
    }

    /// The scalar that a value holds, from an initializer or a Constant node.
    fn scalar(&self, value: &str) -> Option<f64> {
        if let Some(Value::Constant(c)) = self.values.get(value) {
            return c.scalar();
        }
        // many nodes may ask for one constant: decode none that is no scalar
        let larger = |t: &TensorProto| t.dims.iter().any(|&d| d != 1);
        if let Some(t) = self.initializers.get(value) {
            return (!larger(t)).then(|| Constant::from_proto(t).ok()?.scalar())?;
        }
        let node = self.producer(value, "Constant")?;
        let a = node.attribute.first()?;
        if a.floats.len().max(a.ints.len()) > 1 || a.t.as_ref().is_some_and(larger) {
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
        // √2 as half precision has it is off by 1.5e-4
        let near = |v: f64, to: f64| (v - to).abs() < 2e-4;
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
        match self.values.insert(output, value) {
            None => Ok(()),
            Some(_) => Err(Error::malformed(
                FORMAT,
                format!("it computes {output} twice"),
            )),
        }
    }
}

/// The value of a Constant node.
pub(super) fn constant_node(node: &NodeProto) -> Result<Constant> {
    let detail = "only tensors and numbers are read";
    let bad = || Error::invalid(&node.name, "Constant", detail);
    let [a] = &node.attribute[..] else {
        return Err(bad());
    };
    match (a.name.as_str(), &a.t) {
        ("value", Some(t)) => Constant::from_proto(t),
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
