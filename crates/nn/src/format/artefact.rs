//! Our own model file `.pvm`: one network with everything that belongs to it.
//!
//! A safetensors file whose `__metadata__` holds `"polyveil"` (the version) and `"graph"`: JSON with the nodes in topological
//! order, the metadata and the output. Programs that know less refuse by version: `"8"` is written; `"1"` to `"7"`, which had fewer
//! operators and no checksum ([`super::seal`]), are read. Tensors: `NODE.weight`, `.bias`, `.scale`, `.mean`, `.variance`, `.value` in f32;
//! `NODE.poly` (Chebyshev coefficients) and `NODE.interval` in f64; `ranges`, f64 `(nodes, 2)`, when calibrated; `task`, bytes.
//! The same network gives the same bytes.

use super::element::{Element, decode};
use super::limited::read_limited;
use super::seal;
use super::state_dict::open_safetensors;
use crate::Result;
use crate::error::Error;
use crate::graph::{Graph, Kept, NodeId, is_plain};
use crate::op::{
    Attention, AvgPool, BatchNorm, Conv2d, Linear, MaxPool, Nonlinearity, Norm, Op, Pad, Rearrange,
    Repeat, Rotary, Slice, Softmax, Unfold,
};
use crate::poly_graph::{Metadata, PolyGraph, Range};
use crate::purpose::Purpose;
use crate::tensor::{Parameter, Shape};
use approx::{Activation, Polynomial};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const FORMAT: &str = "Polyveil model (.pvm)";
/// The tensor that holds the task's bytes.
const TASK: &str = "task";
/// The version that is written.
pub const VERSION: &str = "8";
/// The version from which on inputs and outputs are a task's business.
const TASK_VERSION: &str = "7";
const KNOWN: &str = "1 to 8";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    nodes: Vec<Record>,
    output: usize,
    /// Pairs of a step: the input that is kept, and what is kept in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<[usize; 2]>,
    metadata: Described,
}

/// Metadata less the task.
#[derive(Serialize, Deserialize)]
struct Described {
    name: String,
    provenance: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<serde_json::Value>,
    /// What versions before 7 said of inputs and outputs.
    #[serde(flatten, skip_serializing)]
    earlier: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    name: String,
    inputs: Vec<usize>,
    op: OpRecord,
    /// Where it is not that of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<Purpose>,
}

/// An operator, written without its tensors. Paddings are `[top, bottom, left, right]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum OpRecord {
    Input {
        shape: Shape,
    },
    Constant {
        shape: Shape,
        #[serde(skip)]
        value: Parameter,
    },
    Conv(Conv2d),
    Gemm(Linear),
    BatchNormalization(BatchNorm),
    Polynomial,
    Activation {
        name: Activation,
    },
    Add,
    Mul,
    AveragePool(AvgPool),
    MaxPool(MaxPool),
    GlobalAveragePool,
    Norm(Norm),
    Rotary(Rotary),
    Attention(Attention),
    Unfold(Unfold),
    Repeat(Repeat),
    Pad(Pad),
    Slice(Slice),
    Flatten,
    Reshape {
        shape: Shape,
    },
    Rearrange(Rearrange),
    Softmax {
        gives: Softmax,
    },
    Identity,
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(FORMAT, detail)
}

/// A tensor to be written.
enum Stored {
    Single(Parameter),
    Double(Vec<usize>, Vec<f64>),
    Bytes(Arc<[u8]>),
}

impl Stored {
    fn dtype(&self) -> &'static str {
        match self {
            Self::Single(_) => "F32",
            Self::Double(..) => "F64",
            Self::Bytes(_) => "U8",
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Single(p) => p.shape().to_vec(),
            Self::Double(shape, _) => shape.clone(),
            Self::Bytes(bytes) => vec![bytes.len()],
        }
    }

    /// Bytes in the file.
    fn len(&self) -> usize {
        match self {
            Self::Single(p) => 4 * p.values().len(),
            Self::Double(_, values) => 8 * values.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Its little-endian bytes, in small blocks.
    fn each_block(&self, mut take: impl FnMut(&[u8])) {
        match self {
            Self::Single(p) => {
                for block in p.values().chunks(1 << 12) {
                    take(
                        &block
                            .iter()
                            .flat_map(|v| v.to_le_bytes())
                            .collect::<Vec<_>>(),
                    );
                }
            }
            Self::Double(_, values) => {
                take(
                    &values
                        .iter()
                        .flat_map(|v| v.to_le_bytes())
                        .collect::<Vec<_>>(),
                );
            }
            Self::Bytes(bytes) => take(bytes),
        }
    }
}

impl OpRecord {
    /// Its tensors in f32, by their names behind the node's.
    fn tensors(&mut self) -> Vec<(&'static str, &mut Parameter)> {
        let (mut tensors, bias) = match self {
            Self::Constant { value, .. } => (vec![("value", value)], None),
            Self::Conv(Conv2d { weight, bias, .. }) | Self::Gemm(Linear { weight, bias }) => {
                (vec![("weight", weight)], bias.as_mut())
            }
            Self::Norm(Norm { scale, bias, .. }) => (vec![("scale", scale)], bias.as_mut()),
            Self::BatchNormalization(b) => {
                let all = vec![
                    ("scale", &mut b.scale),
                    ("bias", &mut b.bias),
                    ("mean", &mut b.mean),
                    ("variance", &mut b.variance),
                ];
                (all, None)
            }
            _ => return Vec::new(),
        };
        tensors.extend(bias.map(|b| ("bias", b)));
        tensors
    }
}

/// The file's bytes; deterministic.
///
/// # Errors
/// [`Error::Malformed`] when the description can't be written as JSON (it always can).
pub fn to_bytes(graph: &PolyGraph) -> Result<Vec<u8>> {
    Ok(parts_of(graph)?.bytes())
}

/// The checksum in the file that [`to_bytes`] gives, without the file: what a plan names its network by.
///
/// # Errors
/// As [`to_bytes`].
pub fn digest(graph: &PolyGraph) -> Result<[u8; 32]> {
    let parts = parts_of(graph)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&parts.header);
    for (_, tensor) in &parts.tensors {
        tensor.each_block(|block| {
            hasher.update(block);
        });
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The bytes of a network that may have activations and maxima; deterministic. A polynomial network gives what [`to_bytes`] gives
/// without ranges.
///
/// # Errors
/// [`Error::Malformed`] as [`to_bytes`].
pub fn graph_to_bytes(graph: &Graph, metadata: &Metadata) -> Result<Vec<u8>> {
    Ok(parts(graph, None, metadata)?.bytes())
}

/// A file before it is sealed: its header, with its length, and its tensors in their order.
struct Parts {
    header: Vec<u8>,
    tensors: Vec<(String, Stored)>,
}

impl Parts {
    fn bytes(self) -> Vec<u8> {
        let mut out = self.header;
        out.reserve_exact(self.tensors.iter().map(|(_, t)| t.len()).sum());
        for (_, tensor) in self.tensors {
            tensor.each_block(|block| out.extend_from_slice(block));
        }
        seal::seal(&mut out);
        out
    }
}

fn parts_of(graph: &PolyGraph) -> Result<Parts> {
    let network = graph.network().clone();
    parts(
        &network.try_map(|_, p| Ok(Nonlinearity::Polynomial(p)))?,
        graph.ranges(),
        graph.metadata(),
    )
}

fn parts(graph: &Graph, ranges: Option<&[Range]>, metadata: &Metadata) -> Result<Parts> {
    let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
    let mut nodes = Vec::new();
    for node in graph.nodes() {
        let op = record(node.name(), node.op(), &mut tensors);
        nodes.push(Record {
            name: node.name().into(),
            inputs: node.inputs().iter().map(|i| i.index()).collect(),
            op,
            purpose: Some(node.purpose()).filter(|&p| p != Purpose::of(node.op())),
        });
    }
    if let Some(ranges) = ranges {
        let ends = ranges.iter().flat_map(|r| [r.min, r.max]).collect();
        tensors.insert("ranges".into(), Stored::Double(vec![ranges.len(), 2], ends));
    }
    let document = Document {
        nodes,
        output: graph.output().id().index(),
        kept: (graph.kept().iter())
            .map(|k| [k.before.index(), k.after.index()])
            .collect(),
        metadata: Described {
            // what is written can be read
            name: (metadata.name.chars())
                .map(|c| {
                    if is_plain(c.encode_utf8(&mut [0; 4])) {
                        c
                    } else {
                        '_'
                    }
                })
                .collect(),
            provenance: metadata.provenance.clone(),
            training: metadata.training.clone(),
            earlier: BTreeMap::new(),
        },
    };
    if let Some(task) = &metadata.task {
        tensors.insert(TASK.into(), Stored::Bytes(task.clone()));
    }
    let json = |e: serde_json::Error| malformed(e.to_string());
    let text = serde_json::to_string(&document).map_err(json)?;
    let metadata = BTreeMap::from([
        (seal::KEY, seal::OPEN.to_string()),
        ("graph", text),
        ("polyveil", VERSION.to_string()),
    ]);
    let mut header = BTreeMap::from([(
        "__metadata__".to_string(),
        serde_json::to_value(metadata).map_err(json)?,
    )]);
    // Wider types first keeps every tensor aligned to its type.
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, t)| match t {
        Stored::Double(..) => 0,
        Stored::Single(_) => 1,
        Stored::Bytes(_) => 2,
    });
    let mut begin = 0;
    for (name, t) in &tensors {
        let end = begin + t.len();
        let entry = serde_json::json!({"dtype": t.dtype(), "shape": t.shape(), "data_offsets": [begin, end]});
        header.insert(name.clone(), entry);
        begin = end;
    }
    let mut header = serde_json::to_string(&header).map_err(json)?;
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    Ok(Parts {
        header: out,
        tensors,
    })
}

fn record(name: &str, op: &Op<Nonlinearity>, tensors: &mut BTreeMap<String, Stored>) -> OpRecord {
    let mut insert = |part: &str, t| drop(tensors.insert(format!("{name}.{part}"), t));
    let mut record = match op.clone() {
        Op::Input(shape) => OpRecord::Input { shape },
        Op::Constant(shape, value) => OpRecord::Constant { shape, value },
        Op::Conv2d(c) => OpRecord::Conv(c),
        Op::Linear(l) => OpRecord::Gemm(l),
        Op::BatchNorm(b) => OpRecord::BatchNormalization(b),
        Op::Elementwise(Nonlinearity::Activation(name)) => OpRecord::Activation { name },
        Op::Elementwise(Nonlinearity::Polynomial(p)) => {
            let coefficients = p.coefficients().to_vec();
            insert("poly", Stored::Double(vec![p.degree() + 1], coefficients));
            let ends = <[f64; 2]>::from(p.interval());
            insert("interval", Stored::Double(vec![2], ends.to_vec()));
            OpRecord::Polynomial
        }
        Op::Add => OpRecord::Add,
        Op::Mul => OpRecord::Mul,
        Op::AvgPool(p) => OpRecord::AveragePool(p),
        Op::MaxPool(p) => OpRecord::MaxPool(p),
        Op::GlobalAvgPool => OpRecord::GlobalAveragePool,
        Op::Norm(n) => OpRecord::Norm(n),
        Op::Rotary(r) => OpRecord::Rotary(r),
        Op::Attention(a) => OpRecord::Attention(a),
        Op::Unfold(u) => OpRecord::Unfold(u),
        Op::Repeat(r) => OpRecord::Repeat(r),
        Op::Pad(p) => OpRecord::Pad(p),
        Op::Slice(s) => OpRecord::Slice(s),
        Op::Flatten => OpRecord::Flatten,
        Op::Reshape(shape) => OpRecord::Reshape { shape },
        Op::Rearrange(r) => OpRecord::Rearrange(r),
        Op::Softmax(gives) => OpRecord::Softmax { gives },
        Op::Identity => OpRecord::Identity,
    };
    for (part, parameter) in record.tensors() {
        insert(part, Stored::Single(parameter.clone()));
    }
    record
}

/// Whether a file that begins with these bytes is most likely one of ours.
#[must_use]
pub fn begins_like_one(head: &[u8]) -> bool {
    let text = head.get(8..).unwrap_or_default();
    text.starts_with(br#"{"__metadata__":{"blake3":"#) || begins_without_checksum(head)
}

/// Whether a file that begins with these bytes is most likely one of ours from before version 8: of damage nothing tells.
#[must_use]
pub fn begins_without_checksum(head: &[u8]) -> bool {
    let text = head.get(8..).unwrap_or_default();
    text.starts_with(br#"{"__metadata__":{"graph":"#)
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`], and those of [`from_bytes`].
pub fn load(path: &Path, limit: u64) -> Result<PolyGraph> {
    from_bytes(&read_limited(path, limit)?)
}

/// Whether the bytes begin like one of our files (of any version).
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    open_safetensors(bytes, FORMAT).is_ok()
        && SafeTensors::read_metadata(bytes).is_ok_and(|(_, m)| {
            m.metadata()
                .as_ref()
                .is_some_and(|m| m.contains_key("polyveil"))
        })
}

/// Reads and checks the bytes of a polynomial network's file.
///
/// # Errors
/// Those of [`graph_from_bytes`], and [`Error::NotPolynomial`], [`Error::Maximum`] or [`Error::NotLowered`] for a network that still
/// has activations, maxima, norms or attention.
pub fn from_bytes(bytes: &[u8]) -> Result<PolyGraph> {
    let (network, ranges, metadata) = read(bytes)?;
    let mut graph = PolyGraph::try_from(network)?;
    if let Some(ranges) = ranges {
        graph = graph.with_ranges(ranges)?;
    }
    Ok(graph.with_metadata(metadata))
}

/// Reads and checks the bytes of any network's file; calibrated ranges are left aside.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`], [`Error::Version`], [`Error::MissingTensor`], [`Error::NotFinite`],
/// [`Error::Approximation`], and all errors of building a network.
pub fn graph_from_bytes(bytes: &[u8]) -> Result<(Graph, Metadata)> {
    let (graph, _, metadata) = read(bytes)?;
    Ok((graph, metadata))
}

fn read(bytes: &[u8]) -> Result<(Graph, Option<Vec<Range>>, Metadata)> {
    let tensors = open_safetensors(bytes, FORMAT)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let version = metadata.get("polyveil").ok_or_else(|| {
        malformed("it is a safetensors file of weights, not a model; convert it with the architecture that it belongs to")
    })?;
    if !matches!(version.as_bytes(), [b'1'..=b'8']) {
        return Err(Error::Version {
            format: FORMAT,
            had: version.clone(),
            known: KNOWN,
        });
    }
    if version == VERSION && !seal::intact(bytes) {
        return Err(malformed(
            "its bytes do not match their checksum: it is damaged; copy or make it again",
        ));
    }
    let text = metadata
        .get("graph")
        .ok_or_else(|| malformed("the description of the network is missing"))?;
    let document: Document =
        serde_json::from_str(text).map_err(|e| malformed(format!("its description: {e}")))?;
    let said = |v: &serde_json::Value| !v.is_null() && v.as_array().is_none_or(|l| !l.is_empty());
    let earlier = document.metadata.earlier;
    if let Some(field) = earlier.iter().find(|(_, v)| said(v)).map(|(k, _)| k) {
        return Err(malformed(format!(
            "it was written before version {TASK_VERSION} and says in its {field} how inputs become numbers, which is not read any more; make it again from its source"
        )));
    }
    if !is_plain(&document.metadata.name) {
        return Err(malformed(
            "the network's name has control characters: write the file again under a plain name",
        ));
    }
    let task = tensors.names().contains(&TASK);
    let task = task.then(|| view(&tensors, TASK, Dtype::U8)).transpose()?;
    let metadata = Metadata {
        name: document.metadata.name,
        provenance: document.metadata.provenance,
        training: document.metadata.training,
        task: task.map(|(_, bytes)| bytes.into()),
    };
    let mut builder = Graph::builder();
    let mut ids: Vec<NodeId> = Vec::new();
    let count = document.nodes.len();
    for r in document.nodes {
        let op = operator(&r.name, r.op, &tensors)?;
        let known = |&i: &usize| {
            let id = ids.get(i).copied();
            id.ok_or_else(|| Error::dangling(&r.name, i))
        };
        let inputs = r.inputs.iter().map(known).collect::<Result<Vec<_>>>()?;
        builder.set_purpose(r.purpose);
        ids.push(builder.add(r.name, op, &inputs)?);
    }
    let output = ids.get(document.output);
    let output = output.ok_or_else(|| Error::dangling("output", document.output))?;
    let node = |i: usize| {
        ids.get(i)
            .copied()
            .ok_or_else(|| Error::dangling("kept", i))
    };
    let kept = document.kept.iter().map(|&[before, after]| {
        let (before, after) = (node(before)?, node(after)?);
        Ok(Kept { before, after })
    });
    let kept = kept.collect::<Result<Vec<_>>>()?;
    let graph = match kept.is_empty() {
        true => builder.finish(*output)?,
        false => builder.finish_step(*output, &kept)?,
    };
    if graph.nodes().len() != count {
        return Err(malformed("some nodes don't contribute to the output"));
    }
    let range = |r: &[f64]| Range {
        min: r[0],
        max: r.get(1).copied().unwrap_or(f64::NAN),
    };
    let ranges = tensors.names().contains(&"ranges");
    let ends = ranges.then(|| f64s(&tensors, "ranges")).transpose()?;
    let ranges = ends.map(|ends| ends.chunks(2).map(range).collect());
    Ok((graph, ranges, metadata))
}

fn operator(
    name: &str,
    mut record: OpRecord,
    tensors: &SafeTensors<'_>,
) -> Result<Op<Nonlinearity>> {
    for (part, parameter) in record.tensors() {
        *parameter = f32s(tensors, &format!("{name}.{part}"))?;
    }
    Ok(match record {
        OpRecord::Input { shape } => Op::Input(shape),
        OpRecord::Constant { shape, value } => Op::Constant(shape, value),
        OpRecord::Conv(c) => Op::Conv2d(c),
        OpRecord::Gemm(l) => Op::Linear(l),
        OpRecord::BatchNormalization(b) => Op::BatchNorm(b),
        OpRecord::Polynomial => {
            let ends = f64s(tensors, &format!("{name}.interval"))?;
            let &[low, high] = &ends[..] else {
                return Err(malformed(format!(
                    "tensor {name}.interval has {} values instead of 2",
                    ends.len()
                )));
            };
            let p = Polynomial::new(f64s(tensors, &format!("{name}.poly"))?, (low, high));
            Op::Elementwise(p.map_err(Error::approximation(name))?.into())
        }
        OpRecord::Activation { name } => Op::Elementwise(name.into()),
        OpRecord::Add => Op::Add,
        OpRecord::Mul => Op::Mul,
        OpRecord::AveragePool(p) => Op::AvgPool(p),
        OpRecord::MaxPool(p) => Op::MaxPool(p),
        OpRecord::GlobalAveragePool => Op::GlobalAvgPool,
        OpRecord::Norm(n) => Op::Norm(n),
        OpRecord::Rotary(r) => Op::Rotary(r),
        OpRecord::Attention(a) => Op::Attention(a),
        OpRecord::Unfold(u) => Op::Unfold(u),
        OpRecord::Repeat(r) => Op::Repeat(r),
        OpRecord::Pad(p) => Op::Pad(p),
        OpRecord::Slice(s) => Op::Slice(s),
        OpRecord::Flatten => Op::Flatten,
        OpRecord::Reshape { shape } => Op::Reshape(shape),
        OpRecord::Rearrange(r) => Op::Rearrange(r),
        OpRecord::Softmax { gives } => Op::Softmax(gives),
        OpRecord::Identity => Op::Identity,
    })
}

fn view<'a>(tensors: &SafeTensors<'a>, name: &str, dtype: Dtype) -> Result<(Vec<usize>, &'a [u8])> {
    let view = tensors.tensor(name);
    let view = view.map_err(|_| Error::missing(name, tensors.names()))?;
    if view.dtype() != dtype {
        return Err(malformed(format!(
            "tensor {name} has type {:?} instead of {dtype:?}",
            view.dtype()
        )));
    }
    Ok((view.shape().to_vec(), view.data()))
}

fn f32s(tensors: &SafeTensors<'_>, name: &str) -> Result<Parameter> {
    let (shape, data) = view(tensors, name, Dtype::F32)?;
    let values = data
        .chunks_exact(4)
        .map(|raw| decode(Element::F32, raw) as f32);
    Parameter::new(name, shape, values.collect::<Vec<_>>())
}

fn f64s(tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f64>> {
    let (_, data) = view(tensors, name, Dtype::F64)?;
    let values = data.chunks_exact(8).map(|raw| decode(Element::F64, raw));
    let values: Vec<f64> = values.collect();
    match values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        Some((index, &value)) => Err(Error::NotFinite {
            tensor: name.into(),
            index,
            value,
        }),
        None => Ok(values),
    }
}
