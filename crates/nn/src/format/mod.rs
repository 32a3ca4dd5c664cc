//! Files: reading is size-limited, and anything truncated or foreign gives one clear error.
//!
//! [`state_dict`] (named tensors from torch or safetensors files), [`onnx`] (whole networks; [`onnx_proto`] is its schema),
//! [`artefact`] (our own `.pvm`), [`llama2c`] (small language models), [`gguf`] (language models of llama.cpp, some quantised); [`zip`] (directories of zip files) is for torch and `.npz`.

pub mod artefact;
pub mod gguf;
pub mod llama2c;
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

pub use limited::{DEFAULT_LIMIT, read_limited};

use crate::Result;
use crate::error::Error;
use crate::graph::Graph;
use crate::poly_graph::{Metadata, PolyGraph};
use state_dict::StateDict;
use std::path::Path;

/// What a file or a folder holds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// A whole network with functions that are no polynomials.
    Trained(Graph, Metadata),
    /// A whole network of polynomials.
    Polynomial(Box<PolyGraph>),
    /// Tensors under their names: what network they belong to is not said.
    Checkpoint(Checkpoint),
    /// The bytes of a GGUF, whose tensors are read one at a time ([`gguf::File`]).
    Gguf(Vec<u8>),
}

/// Named tensors, and what stands beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The text of a `config.json`, where there is one.
    pub config: Option<String>,
    /// The tensors.
    pub tensors: StateDict,
}

/// Reads any file, or folder of Hugging Face's, of at most [`DEFAULT_LIMIT`] bytes; its content tells what it is, never its name.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`], and those of [`from_bytes`].
pub fn open(path: &Path) -> Result<Content> {
    if path.is_dir() {
        let (config, tensors) = StateDict::load_folder(path)?;
        return Ok(Content::Checkpoint(Checkpoint {
            config: Some(config),
            tensors,
        }));
    }
    read(read_limited(path, DEFAULT_LIMIT)?, path.parent(), None)
}

/// As [`open`], an ONNX model's output of this name.
///
/// # Errors
/// As [`open`].
pub fn open_output(path: &Path, output: &str) -> Result<Content> {
    read(
        read_limited(path, DEFAULT_LIMIT)?,
        path.parent(),
        Some(output),
    )
}

/// As [`open`], from a file's bytes.
///
/// # Errors
/// What the format's reader refuses.
pub fn from_bytes(bytes: Vec<u8>) -> Result<Content> {
    read(bytes, None, None)
}

fn read(bytes: Vec<u8>, folder: Option<&Path>, output: Option<&str>) -> Result<Content> {
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
        return Ok(Content::Gguf(bytes));
    }
    let (config, tensors) = if StateDict::recognises(&bytes) {
        (None, StateDict::from_bytes(&bytes)?)
    } else if onnx::recognises(&bytes) {
        let graph = onnx::read(&bytes, onnx::Options { folder, output })?;
        return Ok(match PolyGraph::try_from(graph.clone()) {
            Ok(graph) => Content::Polynomial(Box::new(graph)),
            Err(_) => Content::Trained(graph, Metadata::default()),
        });
    } else if llama2c::recognises(&bytes) {
        let (config, tensors) = llama2c::read(&bytes)?;
        (Some(config), tensors)
    } else {
        return Err(Error::malformed(
            "network",
            "it begins like none of the formats that are read: .pvm, ONNX, safetensors, torch, GGUF, llama2.c",
        ));
    };
    Ok(Content::Checkpoint(Checkpoint { config, tensors }))
}
