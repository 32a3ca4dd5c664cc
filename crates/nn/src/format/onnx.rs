//! ONNX import: inference graphs of convolutional networks, batch size 1 or free.
//!
//! Read are Conv, Gemm, MatMul, Add, Mul, Sub and Div (by constants), BatchNormalization, the operators of [`approx::Activation`] (Relu, Sigmoid, Tanh, Gelu, HardSwish), the patterns `x·Sigmoid(x)` (SiLU) and
//! `x/2·(1 + Erf(x/√2))` (GELU), AveragePool, GlobalAveragePool, ReduceMean over spatial axes, MaxPool, GlobalMaxPool, Pad, Slice, Flatten, Reshape,
//! Squeeze, Unsqueeze, Identity, Dropout, Cast (to floats), Shape and Constant. Anything else that the output depends on is refused by operator
//! and node name, and so is every attribute, input or output of these that is not known (`onnx_schema`). Weights given in f64 are rounded to f32.

use super::onnx_constant::{Constant, type_name};
use super::onnx_import::{Import, Value, standard};
use super::onnx_operator::Importing;
use super::onnx_proto::{ModelProto, NodeProto, ValueInfoProto};
use crate::Result;
use crate::error::Error;
use crate::graph::Graph;
use crate::tensor::Shape;
use prost::Message;
use prost::encoding::decode_varint;

const FORMAT: &str = "ONNX";
/// Versions of the operators that are read: those before broadcast otherwise, and train unless they are told not to.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

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
    let mut import = Import::new(graph, opset, model.encoded_len());
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
            add(&mut import, node)?;
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

/// Adds what this node computes.
fn add<'a>(import: &mut Import<'a>, node: &'a NodeProto) -> Result<()> {
    let Some(output) = node.output.first() else {
        return Ok(());
    };
    let base = match &node.name {
        name if name.is_empty() => output,
        name => name,
    };
    let suffix = import.suffixes.entry(base).or_default();
    let name = loop {
        let name = match *suffix {
            0 => base.clone(),
            k => format!("{base}#{k}"),
        };
        if !import.network.contains(&name) {
            break name;
        }
        *suffix += 1;
    };
    let value = Importing { import, node, name }.value()?;
    match import.values.insert(output, value) {
        None => Ok(()),
        Some(_) => Err(Error::malformed(
            FORMAT,
            format!("it computes {output} twice"),
        )),
    }
}
