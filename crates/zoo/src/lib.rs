//! Published model families: what a checkpoint's tensors mean.
//!
//! One file for each family: [`resnet`] for pictures; [`llama`] and [`gpt_neox`] for text, which [`language`] loads, embeds for and builds
//! for any length; [`bert`] (and RoBERTa) for sentences, which [`encoder`] does the same for; [`shape`] without weights. [`prompts`] and
//! [`sentences`] make them polynomial.

pub mod bert;
pub mod encoder;
pub mod gguf_llama;
pub mod gpt_neox;
pub mod language;
pub mod llama;
pub mod prompts;
pub mod resnet;
pub mod sentences;
pub mod shape;

mod config;

use nn::format::{DEFAULT_LIMIT, artefact, onnx, read_limited, state_dict::StateDict};
use nn::{Error, Graph, Metadata, Nonlinearity, Result};
use std::path::Path;

/// Any network that this program reads, told by its content and, for ONNX, its name. `activation` is what a state dict was trained with,
/// which it does not say itself.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`], what the format's reader refuses, and [`Error::Malformed`] for a state dict whose activation was
/// not named.
pub fn load(path: &Path, activation: Option<approx::Activation>) -> Result<(Graph, Metadata)> {
    let bytes = read_limited(path, DEFAULT_LIMIT)?;
    if artefact::recognises(&bytes) {
        return artefact::graph_from_bytes(&bytes);
    }
    let named_onnx = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if named_onnx {
        return Ok((onnx::from_bytes(&bytes)?, Metadata::default()));
    }
    let weights = StateDict::from_bytes(&bytes)?;
    let normalization = Some(nn::picture::imagenet_normalization());
    let metadata = Metadata {
        normalization,
        ..Metadata::default()
    };
    if weights.tensors().keys().any(|k| k.ends_with(".poly")) {
        let network = resnet::from_state_dict_with_polynomials(&weights)?
            .network()
            .clone();
        return Ok((
            network.try_map(|_, p| Ok(Nonlinearity::Polynomial(p)))?,
            metadata,
        ));
    }
    let activation = activation.ok_or_else(|| Error::Malformed {
        format: "state dict",
        detail: "it does not say which activation it was trained with; name it: --activation relu (or silu, gelu, sigmoid, tanh)".into(),
    })?;
    Ok((resnet::from_state_dict(&weights, activation)?, metadata))
}
