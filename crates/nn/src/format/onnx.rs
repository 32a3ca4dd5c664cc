//! ONNX import: inference graphs of networks of pictures, signals, sequences and vectors, batch size 1 or free.
//!
//! What is read is listed in `onnx_schema`, with every attribute, input and output: a node with any other is refused by name, so that nothing is
//! ignored. What depends on constants only is computed (`onnx_fold`). Operators that only move values cost nothing by themselves: they change where
//! a tensor's values are taken from (`onnx_axes`), and become a node where another operator needs them in their places (`onnx_place`). Patterns of
//! operators that stand for an activation, a norm or an attention become that. Weights given in f64 are rounded to f32.

use super::onnx_axes::Axes;
use super::onnx_constant::{Constant, type_name};
use super::onnx_external::External;
use super::onnx_import::{Import, Stop, Value, View, standard};
use super::onnx_operator::Importing;
use super::onnx_place::shape_of;
use super::onnx_proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use crate::Result;
use crate::error::Error;
use crate::graph::Graph;
use prost::Message;
use prost::encoding::decode_varint;
use std::collections::HashSet;
use std::path::Path;

const FORMAT: &str = "ONNX";
/// Versions of the operators that are read: those before broadcast otherwise, and train unless they are told not to.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=26;

/// Least height and width of what is taken for a picture whose channels come last: of smaller ones an axis might be taken for another.
const SMALLEST: usize = 16;

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

/// What is to be read of a model, and from where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The folder that the model lies in: tensors may have their values in files there.
    pub folder: Option<&'a Path>,
    /// Which output is the network's, where it has several.
    pub output: Option<&'a str>,
}

/// Reads a model from its bytes, all of it in them.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(bytes: &[u8]) -> Result<Graph> {
    read(bytes, Options::default())
}

/// Reads a model from its bytes.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`], [`Error::UnsupportedOperator`], [`Error::NotFinite`], [`Error::Length`],
/// [`Error::Invalid`] when an operator's attributes or shapes can't be taken.
pub fn read(bytes: &[u8], options: Options<'_>) -> Result<Graph> {
    let model = ModelProto::decode(bytes).map_err(|e| {
        let detail = e.to_string();
        // prost has no structured error; a message cut off anywhere underflows.
        if detail.contains("underflow") || detail.contains("truncated") {
            Error::truncated(FORMAT, detail)
        } else {
            Error::malformed(FORMAT, detail)
        }
    })?;
    from_proto(&model, options)
}

/// Reads a decoded model.
///
/// # Errors
/// As [`read`].
pub fn from_proto(model: &ModelProto, options: Options<'_>) -> Result<Graph> {
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
    let output = output(graph, options.output)?;
    let external = External::beside(options.folder);
    let mut import = Import::new(graph, opset, model.encoded_len(), external);
    if import.initializers.len() < graph.initializer.len() {
        return Err(malformed("two of its constants have one name"));
    }
    // what nothing depends on may be of any kind
    let needed = import.needed(output);
    for sparse in graph.sparse_initializer.iter().flat_map(|s| &s.values) {
        if needed.contains(sparse.name.as_str()) {
            let detail = "is stored as a sparse one; store it as a plain one";
            return Err(malformed(&format!("tensor {}: it {detail}", sparse.name)));
        }
    }
    for input in &graph.input {
        let name = input.name.as_str();
        if needed.contains(name) && !import.initializers.contains_key(name) {
            let view = add_input(&mut import, input)?;
            import.values.insert(name, Value::Node(view));
        }
    }
    for node in &graph.node {
        if node.output.iter().any(|o| needed.contains(o.as_str())) {
            add(&mut import, node)?;
        }
        import.used(node);
    }
    match import.values.get(output).cloned() {
        Some(Value::Node(view)) => {
            let id = import.result(output, &view)?;
            let inputs: Vec<&str> = (graph.input.iter().map(|i| i.name.as_str()))
                .filter(|name| needed.contains(name) && !import.initializers.contains_key(name))
                .collect();
            import.network.finish(id).map_err(|e| match e {
                Error::Inputs(several) if several > 1 => malformed(&format!(
                    "its output depends on {several} inputs ({}), and a network has one here; export it with one input that holds all of them, one behind the other, and take that apart by slices before its first layers",
                    inputs.join(", ")
                )),
                e => e,
            })
        }
        Some(Value::Refused(why)) => Err(import.refusals.swap_remove(why)),
        _ => Err(malformed(&format!(
            "its output {output} is not computed from its input"
        ))),
    }
}

/// The name of the output that is asked for.
fn output<'a>(graph: &'a GraphProto, asked: Option<&str>) -> Result<&'a str> {
    let names: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let list = || names.join(", ");
    match (asked, &names[..]) {
        (Some(name), _) => {
            let found = names.iter().find(|n| **n == name);
            found.copied().ok_or_else(|| {
                Error::malformed(FORMAT, format!("it has no output {name}, but: {}", list()))
            })
        }
        (None, [one]) => Ok(one),
        (None, []) => Err(Error::malformed(FORMAT, "it has no outputs")),
        (None, _) => Err(Error::Outputs(list())),
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

/// Adds the network's input.
fn add_input(import: &mut Import<'_>, input: &ValueInfoProto) -> Result<View> {
    let refused = |detail: String| Error::invalid(&input.name, "Input", detail);
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let element = tensor.map_or(0, |t| i64::from(t.elem_type));
    if matches!(element, 6 | 7) {
        return Err(refused(
            "it takes whole numbers, as tokens are; a client embeds its tokens itself: export the model with embedded tokens as its input (inputs_embeds), or take the checkpoint in the place of the ONNX file".into(),
        ));
    }
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
    if !(1..=5).contains(&dims.len()) {
        return Err(refused(format!(
            "shape ({text}) is neither that of pictures (batch, channels, height, width), of signals (batch, channels, length) nor of features (batch, features); export with such an input"
        )));
    }
    // a picture or a row of features may come without a batch
    let whole = matches!(dims.len(), 1 | 3);
    if dims[0].dim_value > 1 && !whole {
        return Err(refused(format!(
            "batch size {} of ({text}) is fixed; export with batch size 1 or a free batch axis",
            dims[0].dim_value
        )));
    }
    let batch = |k: usize| k == 0 && dims.len() > 1;
    let sizes = dims
        .iter()
        .enumerate()
        .map(|(k, d)| match length(d.dim_value) {
            None if batch(k) => Some(1),
            n => n,
        });
    let sizes: Vec<usize> = sizes.collect::<Option<_>>().ok_or_else(|| {
        refused(format!(
            "shape ({text}) leaves more open than the batch; export with fixed sizes"
        ))
    })?;
    let stored: Vec<usize> = match sizes[..] {
        [1, h, w, c] if h.min(w) >= SMALLEST && channels_last(import, &input.name, c) => {
            vec![0, 3, 1, 2]
        }
        _ => (0..sizes.len()).collect(),
    };
    let shape = shape_of(&stored.iter().map(|&k| sizes[k]).collect::<Vec<_>>());
    let too_large = || refused(format!("shape ({text}) has too many values"));
    shape.checked_len().ok_or_else(too_large)?;
    import.charge(sizes.iter().sum())?;
    let axes = Axes::stored(&sizes, &stored).ok_or_else(too_large)?;
    let node = import.network.input(&input.name, shape)?;
    Ok(View { node, axes })
}

/// Whether an input (1, height, width, channels) is a picture whose channels come last, as TensorFlow has them: all that takes it, before or behind
/// what is done to every value alone and around them, puts them first.
fn channels_last(import: &Import<'_>, input: &str, channels: usize) -> bool {
    if !matches!(channels, 1..=4) {
        return false;
    }
    let mut values = HashSet::from([input]);
    let mut first = false;
    for node in &import.graph.node {
        if !node.input.iter().any(|i| values.contains(i.as_str())) {
            continue;
        }
        match node.op_type.as_str() {
            "Identity" | "Cast" | "Add" | "Sub" | "Mul" | "Div" | "Clip" | "Pad" => {
                values.extend(node.output.iter().map(String::as_str));
            }
            "Transpose" => {
                let perm = node.attribute.iter().find(|a| a.name == "perm");
                if perm.is_none_or(|p| p.ints != [0, 3, 1, 2]) {
                    return false;
                }
                first = true;
            }
            // what tf2onnx makes of it where there is one channel
            "Reshape" if channels == 1 => {
                let to = (node.input.get(1)).and_then(|to| import.initializers.get(to.as_str()));
                let to = to.filter(|t| t.dims == [4]);
                let to = to.and_then(|t| Constant::from_proto(t, &import.external).ok());
                if !matches!(to.and_then(|t| t.integers()).as_deref(), Some([_, 1, _, _])) {
                    return false;
                }
                first = true;
            }
            _ => return false,
        }
    }
    first
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
    let name = import.free_name(base);
    let values = Importing { import, node, name }.values();
    let mut values = match values {
        Ok(values) => values,
        Err(stop) => {
            let why = match stop {
                Stop::Earlier(why) => why,
                Stop::New(e) => {
                    import.refusals.push(e);
                    import.refusals.len() - 1
                }
            };
            vec![Value::Refused(why); node.output.len()]
        }
    };
    values.truncate(node.output.len());
    for (output, value) in node.output.iter().zip(values) {
        if output.is_empty() {
            continue;
        }
        if import.values.insert(output, value).is_some() {
            return Err(Error::malformed(
                FORMAT,
                format!("it computes {output} twice"),
            ));
        }
    }
    Ok(())
}
