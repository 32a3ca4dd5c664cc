//! Files: reading is size-limited, and anything truncated or foreign gives one clear error.
//!
//! [`state_dict`] (named tensors from torch or safetensors files), [`onnx`] (whole networks; [`onnx_proto`] is its schema),
//! [`artefact`] (our own `.pvm`), [`gguf`] (language models of llama.cpp, some quantised); [`zip`] (directories of zip files) is for torch and `.npz`.

pub mod artefact;
pub mod gguf;
pub mod onnx;
pub mod onnx_proto;
pub mod seal;
pub mod state_dict;
pub mod zip;

mod element;
mod limited;
mod onnx_arithmetic;
mod onnx_axes;
mod onnx_constant;
mod onnx_einsum;
mod onnx_external;
mod onnx_fold;
mod onnx_import;
mod onnx_layers;
mod onnx_move;
mod onnx_operator;
mod onnx_place;
mod onnx_schema;
mod pickle;
mod torch;

pub use element::half_to_f64;
pub use limited::{DEFAULT_LIMIT, read_limited};

use crate::Result;
use crate::error::Error;
use crate::graph::Graph;
use crate::poly_graph::{Metadata, PolyGraph};
use state_dict::StateDict;
use std::path::Path;

/// Most bytes of a text beside weights.
const TEXT_LIMIT: u64 = 1 << 20;

/// What a file or a folder holds.
#[derive(Debug)]
pub enum Content {
    /// A whole network with functions that are no polynomials.
    Trained(Graph, Metadata),
    /// A whole network of polynomials.
    Polynomial(Box<PolyGraph>),
    /// Tensors under their names: what network they belong to is not said.
    Checkpoint(Checkpoint),
    /// Bytes of none of these, as a language model's are: of a GGUF ([`gguf::File`]), or unknown here.
    Other(Vec<u8>),
}

/// Named tensors, and what stands beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The text of a `config.json`, where there is one.
    pub config: Option<String>,
    /// The text of a `preprocessor_config.json`, how pictures become inputs, where there is one.
    pub preprocessor: Option<String>,
    /// The tensors.
    pub tensors: StateDict,
}

/// Reads any file, or folder of Hugging Face's, of at most [`DEFAULT_LIMIT`] bytes; its content tells what it is, never its name. Of an ONNX model,
/// the output of this name; of a file of weights, with the `config.json` that timm writes beside it.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`], and what the format's reader refuses.
pub fn open(path: &Path, output: Option<&str>) -> Result<Content> {
    if path.is_dir() {
        let (config, tensors) = StateDict::load_folder(path)?;
        let beside = path.join("preprocessor_config.json");
        let preprocessor = match beside.exists() {
            true => Some(read_limited(&beside, TEXT_LIMIT)?),
            false => None,
        };
        return Ok(Content::Checkpoint(Checkpoint {
            config: Some(config),
            preprocessor: preprocessor.map(|b| String::from_utf8_lossy(&b).into_owned()),
            tensors,
        }));
    }
    let folder = path.parent();
    let mut content = from_bytes(
        read_limited(path, DEFAULT_LIMIT)?,
        onnx::Options { folder, output },
    )?;
    if let Content::Checkpoint(checkpoint) = &mut content {
        checkpoint.config = timms_config(path);
    }
    Ok(content)
}

/// The text of the `config.json` beside a file, where timm wrote it, which names an `architecture`: others may be another model's.
fn timms_config(path: &Path) -> Option<String> {
    let bytes = read_limited(&path.with_file_name("config.json"), TEXT_LIMIT).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    json["architecture"].as_str()?;
    String::from_utf8(bytes).ok()
}

/// As [`open`], of a file's bytes. Without a folder, an ONNX model that keeps weights in other files is refused.
///
/// # Errors
/// What the format's reader refuses.
pub fn from_bytes(bytes: Vec<u8>, options: onnx::Options<'_>) -> Result<Content> {
    if artefact::recognises(&bytes) {
        return match artefact::from_bytes(&bytes) {
            Ok(graph) => Ok(Content::Polynomial(Box::new(graph))),
            Err(
                Error::NotPolynomial { .. }
                | Error::Maximum { .. }
                | Error::Softmax { .. }
                | Error::NotLowered { .. },
            ) => {
                let (graph, metadata) = artefact::graph_from_bytes(&bytes)?;
                Ok(Content::Trained(graph, metadata))
            }
            Err(e) => Err(e),
        };
    }
    if gguf::recognises(&bytes) {
        return Ok(Content::Other(bytes));
    }
    if StateDict::recognises(&bytes) {
        return Ok(Content::Checkpoint(Checkpoint {
            config: None,
            preprocessor: None,
            tensors: StateDict::from_bytes(&bytes)?,
        }));
    }
    if onnx::recognises(&bytes) {
        let graph = onnx::read(&bytes, options)?;
        return Ok(match PolyGraph::try_from(graph.clone()) {
            Ok(graph) => Content::Polynomial(Box::new(graph)),
            Err(_) => Content::Trained(graph, Metadata::default()),
        });
    }
    Ok(Content::Other(bytes))
}
