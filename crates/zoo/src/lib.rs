//! Published model families: what a checkpoint's tensors mean.
//!
//! One file for each family and one line for each in a registry, which is all that a new one needs: below for inputs of one shape,
//! in [`architecture`] for text, which [`language`] loads, embeds for and builds for any length; [`bert`] (and RoBERTa) for sentences, which [`encoder`] does the same for. [`shape`] knows them without weights; [`trained`] makes them polynomial.
//! [`open`] and [`from_bytes`] read any network.

pub mod architecture;
pub mod bert;
pub mod blocks;
pub mod encoder;
pub mod language;
pub mod published;
pub mod random;
pub mod shape;
pub mod step;
pub mod trained;

mod config;
mod family;
mod gguf_llama;
mod llama2c;

pub use family::{Model, Options};

use family::{Claim, Family};
use language::LanguageModel;
use nn::format::{Checkpoint, Content};
use nn::{Error, Result};
use std::path::Path;

macro_rules! families {
    ($($access:vis $file:ident: $($family:ident),+;)*) => {
        $($access mod $file;)*

        /// Families in the order in which a checkpoint is shown to them.
        const FAMILIES: &[Family] = &[$($($file::$family),+),*];
    };
}

// The registry. Language models have their own, `architecture`.
families! {
    pub resnet: FAMILY;
    clip_resnet: FAMILY;
    pub imagenet: FAMILY;
    convnext: FAMILY;
    pub efficientnet: FAMILY;
    transformers: LANGUAGE, ENCODER;
    pub vit: FAMILY;
    pub mlp: FAMILY;
}

/// How the line of a network's provenance begins that names the family whose network its tensors were read as.
pub const READ_AS: &str = "read by its tensors' names as one of the family: ";

/// Any network that is read here, told by its content.
///
/// # Errors
/// Those of [`nn::format::open`], [`identify`] and [`LanguageModel::from_bytes`].
pub fn open(path: &Path, options: &Options) -> Result<Model> {
    model(nn::format::open(path, options.output.as_deref())?, options)
}

/// As [`open`], of a file's bytes.
///
/// # Errors
/// Those of [`open`] but for the file's own.
pub fn from_bytes(bytes: Vec<u8>, options: &Options) -> Result<Model> {
    let onnx = nn::format::onnx::Options {
        output: options.output.as_deref(),
        ..Default::default()
    };
    model(nn::format::from_bytes(bytes, onnx)?, options)
}

fn model(content: Content, options: &Options) -> Result<Model> {
    Ok(match content {
        Content::Trained(graph, metadata) => Model::Trained(graph, metadata),
        Content::Polynomial(graph) => Model::Polynomial(graph),
        Content::Checkpoint(checkpoint) => identify(&checkpoint, options)?,
        Content::Other(bytes) if LanguageModel::recognises(&bytes) => {
            Model::Language(LanguageModel::from_bytes(&bytes)?)
        }
        Content::Other(bytes) => return Err(Error::malformed("network", foreign(&bytes))),
    })
}

/// What a file is that no reader takes, and how its network gets here.
fn foreign(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
        "it is HDF5, as Keras writes it, which is not read; convert the network to ONNX: load it with Keras and take tf2onnx.convert.from_keras(model, output_path=\"net.onnx\")"
    } else if bytes.get(4..8) == Some(b"TFL3") {
        "it is a network of TensorFlow Lite, which is not read; convert it to ONNX with tf2onnx.convert, which reads such files"
    } else {
        "it begins like none of the formats that are read: .pvm, ONNX, safetensors, torch, GGUF, llama2.c"
    }
}

/// The model that a checkpoint holds, by the family that claims it.
///
/// # Errors
/// [`Error::Unclaimed`] with every family and what speaks against it; what the family that claims it refuses, [`Error::Unstated`] for
/// an activation that was not named among it.
pub fn identify(checkpoint: &Checkpoint, options: &Options) -> Result<Model> {
    let mut declined = Vec::new();
    for family in FAMILIES {
        match (family.read)(checkpoint, options)? {
            Claim::Model(mut model) => {
                family.expect_all_read(checkpoint)?;
                // tensors do not say what is computed with them: who reads this can see what was taken for granted
                if let Model::Trained(_, metadata) = model.as_mut() {
                    let family = format!("{READ_AS}{}", family.name);
                    metadata.provenance.push(family);
                }
                return Ok(*model);
            }
            Claim::Declined(why) => declined.push(format!("{}: {why}", family.name)),
        }
    }
    Err(Error::Unclaimed(declined.join("; ")))
}
