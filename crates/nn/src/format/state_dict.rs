//! Named tensors from torch checkpoints (`.pt`, `.th`, `.model`: legacy or zip) and safetensors files.

use super::element::Element;
use super::limited::{DEFAULT_LIMIT, read_limited};
use super::torch;
use crate::Result;
use crate::error::Error;
use crate::tensor::Parameter;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use super::element::StateTensor;

/// Most parts that all names begin with.
const MOST_PREFIXES: usize = 8;

/// Tensors by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, StateTensor>,
    /// What may stand before every name: `module.`, which data-parallel training leaves there, and what all names begin with, up to each of its dots.
    prefixes: Vec<String>,
    asked: Asked,
}

/// Names that were asked for and found. What was asked is no part of what a state dict is.
#[derive(Debug, Default)]
struct Asked(Mutex<BTreeSet<String>>);

impl Asked {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Asked {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Asked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl StateDict {
    /// From tensors in memory.
    #[must_use]
    pub fn new(tensors: BTreeMap<String, StateTensor>) -> Self {
        Self {
            prefixes: prefixes(&tensors),
            tensors,
            asked: Asked::default(),
        }
    }

    /// From a file of at most `limit` bytes ([`DEFAULT_LIMIT`] is a good one).
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], and those of [`StateDict::from_bytes`].
    pub fn load(path: &Path, limit: u64) -> Result<Self> {
        Self::from_bytes(&read_limited(path, limit)?)
    }

    /// From a folder of Hugging Face's, with the text of its `config.json`: `model.safetensors`, or `pytorch_model.bin` where that is missing.
    ///
    /// # Errors
    /// As [`StateDict::load`], at most [`DEFAULT_LIMIT`] bytes.
    pub fn load_folder(folder: &Path) -> Result<(String, Self)> {
        let config = read_limited(&folder.join("config.json"), 1 << 20)?;
        let files = ["model.safetensors", "pytorch_model.bin"].map(|n| folder.join(n));
        let file = files.iter().find(|f| f.exists()).unwrap_or(&files[0]);
        let tensors = Self::load(file, DEFAULT_LIMIT)?;
        Ok((String::from_utf8_lossy(&config).into_owned(), tensors))
    }

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's readers take them.
    ///
    /// # Errors
    /// [`Error::Io`].
    #[cfg(unix)]
    pub fn save_folder(&self, folder: &Path, config: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (text, weights) = (folder.join("config.json"), folder.join("model.safetensors"));
        let write = |path: &Path, bytes: &[u8]| {
            disk::write(path, disk::Access::Everyone, bytes).map_err(Error::io(path))
        };
        write(&text, config.as_bytes())?;
        write(&weights, &self.to_safetensors()?)
    }

    /// Whether the bytes begin like a file of torch's or of safetensors.
    #[must_use]
    pub fn recognises(bytes: &[u8]) -> bool {
        bytes.get(8) == Some(&b'{') || matches!(bytes, [b'P', b'K', 3, 4, ..] | [0x80, ..])
    }

    /// From a file's bytes; the format is told by its first bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Malformed`], [`Error::Version`], [`Error::PickleGlobal`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let tensors = match bytes {
            [b'P', b'K', 3, 4, ..] => torch::read_zip(bytes)?,
            [0x80, ..] if bytes.get(8) != Some(&b'{') => torch::read_legacy(bytes)?,
            _ => read_safetensors(bytes)?,
        };
        Ok(Self::new(tensors))
    }

    /// All tensors by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, StateTensor> {
        &self.tensors
    }

    /// The tensor of this name, or of this name behind `module.` or what all names begin with (which training and compiling leave there: `net.`,
    /// `_orig_mod.`).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&StateTensor> {
        let all = |name: &str| self.tensors.get_key_value(name);
        let mut behind = self.prefixes.iter();
        let (name, tensor) =
            all(name).or_else(|| behind.find_map(|prefix| all(&format!("{prefix}{name}"))))?;
        self.asked.names().insert(name.clone());
        Some(tensor)
    }

    /// Names of the tensors that [`find`](Self::find) was never asked for, in order.
    #[must_use]
    pub fn unread(&self) -> Vec<&str> {
        let asked = self.asked.names();
        let names = self.tensors.keys().filter(|n| !asked.contains(*n));
        names.map(String::as_str).collect()
    }

    /// As [`StateDict::find`].
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn require(&self, name: &str) -> Result<&StateTensor> {
        let names = || self.tensors.keys().map(String::as_str);
        self.find(name).ok_or_else(|| Error::missing(name, names()))
    }

    /// The tensor of this name as a weight.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::NotFinite`].
    pub fn parameter(&self, name: &str) -> Result<Parameter> {
        let t = self.require(name)?;
        let values: Vec<_> = t.values.iter().map(|&v| v as f32).collect();
        Parameter::new(name, t.shape.clone(), values)
    }

    /// The bytes of a safetensors file of these tensors in f32; deterministic.
    ///
    /// # Errors
    /// [`Error::Malformed`] when they can't be written (they always can).
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let malformed =
            |e: safetensors::SafeTensorError| Error::malformed("safetensors", e.to_string());
        let bytes = |t: &StateTensor| -> Vec<u8> {
            let values = t.values.iter();
            values.flat_map(|&v| (v as f32).to_le_bytes()).collect()
        };
        let data: Vec<Vec<u8>> = self.tensors.values().map(bytes).collect();
        let views = self.tensors.iter().zip(&data).map(|((name, t), bytes)| {
            let view = TensorView::new(Dtype::F32, t.shape.clone(), bytes);
            Ok((name, view.map_err(malformed)?))
        });
        safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(malformed)
    }
}

/// `module.`, and what all names begin with up to each of its dots. What stands before numbers alone is a layer's name.
fn prefixes(tensors: &BTreeMap<String, StateTensor>) -> Vec<String> {
    let mut found = vec!["module.".to_string()];
    // names are in order: what the first and the last begin with, all do
    if let (Some((first, _)), Some((last, _))) =
        (tensors.first_key_value(), tensors.last_key_value())
    {
        let same = first
            .bytes()
            .zip(last.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let dots = first.match_indices('.').filter(|(at, _)| *at < same);
        let dots = dots.take(MOST_PREFIXES);
        found.extend(dots.map(|(at, _)| first[..=at].to_string()));
    }
    found
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, StateTensor>> {
    let file = open_safetensors(bytes, "safetensors")?;
    let mut out = BTreeMap::new();
    for (name, view) in file.iter() {
        let element = element(view.dtype()).ok_or_else(|| {
            Error::malformed(
                "safetensors",
                format!(
                    "tensor {name} has type {:?}; floats and integers are read",
                    view.dtype()
                ),
            )
        })?;
        let tensor = StateTensor {
            shape: view.shape().to_vec(),
            values: element.decode_all(view.data()).collect(),
        };
        out.insert(name.to_string(), tensor);
    }
    Ok(out)
}

/// Checked header and views; one clear error for what is truncated or foreign.
pub(crate) fn open_safetensors<'a>(
    bytes: &'a [u8],
    format: &'static str,
) -> Result<SafeTensors<'a>> {
    use safetensors::SafeTensorError as E;
    let head = bytes.first_chunk::<8>().map(|h| u64::from_le_bytes(*h));
    let Some(head) = head else {
        return Err(Error::truncated(
            format,
            format!("{} bytes are not even a header", bytes.len()),
        ));
    };
    if bytes.get(8).is_some_and(|&b| b != b'{') || head > 100_000_000 {
        return Err(Error::malformed(
            format,
            "it is neither safetensors nor a torch checkpoint nor a model of this project",
        ));
    }
    SafeTensors::deserialize(bytes).map_err(|e| match e {
        E::HeaderTooSmall | E::InvalidHeaderLength | E::MetadataIncompleteBuffer => {
            Error::truncated(
                format,
                format!(
                    "{} bytes are fewer than the header announces ({e})",
                    bytes.len()
                ),
            )
        }
        other => Error::malformed(format, other.to_string()),
    })
}

fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I8 => Element::I8,
        Dtype::U8 => Element::U8,
        Dtype::BOOL => Element::Bool,
        Dtype::I16 => Element::I16,
        Dtype::I32 => Element::I32,
        Dtype::I64 => Element::I64,
        _ => return None,
    })
}
