//! Llama in a GGUF: its metadata, its tensors under llama.cpp's names, its vocabulary.
//!
//! llama.cpp turns adjacent channels together and its converter sorts the rows of queries and keys for that; here they are sorted back, so that
//! channel k turns with k + d/2, as in every model of this crate. A tensor or a setting that would change the network and is not known
//! is refused; a model without `output.weight` has the embedding as its output head.

use super::gguf::{File, Value, malformed};
use super::llama2c::halve;
use crate::Result;
use crate::error::Error;
use crate::models::language::{Architecture, LanguageModel};
use crate::models::llama::Config;
use std::collections::BTreeMap;

/// No size is larger.
const MAX_SIZE: u64 = 1 << 24;

/// A vocabulary of byte-level pairs, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// How text is cut before pairs are merged (`tokenizer.ggml.pre`).
    pub cut: String,
    /// The tokens in order.
    pub tokens: Vec<String>,
    /// The merges, the first one first, `left right`.
    pub merges: Vec<String>,
    /// The tokens that are no text.
    pub special: Vec<u32>,
    /// The token that begins a sequence, if the file names one.
    pub begin: Option<u32>,
    /// The token that ends a sequence, if the file names one.
    pub end: Option<u32>,
}

/// The metadata of a model.
struct Fields<'f, 'a>(&'f BTreeMap<&'a str, Value<'a>>);

impl Fields<'_, '_> {
    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?
            .ok_or_else(|| malformed(format!("{key} is missing")))
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) if (1..=MAX_SIZE).contains(n) => Ok(Some(*n as usize)),
            Some(other) => Err(malformed(format!(
                "{key} is {}, it must be a whole number from 1 to {MAX_SIZE}",
                shown(other)
            ))),
        }
    }

    /// A positive number: the shortest decimal that is this single.
    fn number(&self, key: &str, usual: Option<f64>) -> Result<f64> {
        let value = match (self.0.get(key), usual) {
            (None, Some(usual)) => return Ok(usual),
            (None, None) => return Err(malformed(format!("{key} is missing"))),
            (Some(Value::F32(v)), _) => v.to_string().parse().unwrap_or(f64::NAN),
            (Some(Value::F64(v)), _) => *v,
            (Some(_), _) => f64::NAN,
        };
        if value.is_finite() && value > 0.0 {
            return Ok(value);
        }
        let had = self.0.get(key).map_or_else(String::new, shown);
        Err(malformed(format!("{key} is {had}, it must be above 0")))
    }

    /// Refuses another value than the one that is built here.
    fn only(&self, key: &str, known: &[Value<'_>]) -> Result<()> {
        match self.0.get(key) {
            Some(v) if !known.contains(v) => Err(malformed(format!(
                "{key} is {}, only {} is known",
                shown(v),
                known.iter().map(shown).collect::<Vec<_>>().join(" or ")
            ))),
            _ => Ok(()),
        }
    }

    fn token(&self, key: &str, tokens: usize) -> Result<Option<u32>> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) if (*n as usize) < tokens => Ok(u32::try_from(*n).ok()),
            Some(other) => Err(malformed(format!(
                "{key} is {}, there are {tokens} tokens",
                shown(other)
            ))),
        }
    }
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Unsigned(v) => v.to_string(),
        Value::Signed(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Text(v) => format!("{v:?}"),
        Value::Texts(_) | Value::Numbers(_) | Value::Other => "an array".into(),
    }
}

fn configuration(file: &File<'_>) -> Result<Config> {
    let f = Fields(file.metadata());
    match f.0.get("general.architecture") {
        Some(Value::Text("llama")) => {}
        other => {
            return Err(malformed(format!(
                "general.architecture is {}, llama is known",
                other.map_or("missing".into(), shown)
            )));
        }
    }
    f.only("llama.rope.scaling.type", &[Value::Text("none")])?;
    f.only("llama.expert_count", &[Value::Unsigned(0)])?;
    let (width, heads) = (
        f.size("llama.embedding_length")?,
        f.size("llama.attention.head_count")?,
    );
    let head = match f.optional_size("llama.attention.key_length")? {
        Some(head) => head,
        None if width % heads == 0 => width / heads,
        None => {
            return Err(malformed(format!(
                "{heads} heads (llama.attention.head_count) don't divide the width {width}"
            )));
        }
    };
    let whole = [Value::Unsigned(head as u64)];
    f.only("llama.attention.value_length", &whole)?;
    f.only("llama.rope.dimension_count", &whole)?;
    let rows = file
        .tensors()
        .find(|t| t.0 == "token_embd.weight")
        .and_then(|t| t.1.first().copied());
    let vocabulary = match f.optional_size("llama.vocab_size")? {
        Some(n) => n,
        None => rows.ok_or_else(|| malformed("llama.vocab_size is missing"))?,
    };
    let config = Config {
        width,
        hidden: f.size("llama.feed_forward_length")?,
        layers: f.size("llama.block_count")?,
        heads,
        kv_heads: f
            .optional_size("llama.attention.head_count_kv")?
            .unwrap_or(heads),
        head,
        vocabulary,
        max_length: f.size("llama.context_length")?,
        epsilon: f.number("llama.attention.layer_norm_rms_epsilon", None)?,
        base: f.number("llama.rope.freq_base", Some(10_000.0))?,
        tied: file.tensors().all(|t| t.0 != "output.weight"),
    };
    config.check()?;
    Ok(config)
}

/// What llama.cpp calls a tensor of Hugging Face's checkpoints.
fn stored(name: &str) -> Option<String> {
    Some(match name {
        "model.embed_tokens.weight" => "token_embd.weight".into(),
        "model.norm.weight" => "output_norm.weight".into(),
        "lm_head.weight" => "output.weight".into(),
        _ => {
            let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part.strip_suffix(".weight")? {
                "input_layernorm" => "attn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "post_attention_layernorm" => "ffn_norm",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                _ => return None,
            };
            format!("blk.{layer}.{part}.weight")
        }
    })
}

/// The file's model; the embedding must have a row for each token of its vocabulary, if it has one.
///
/// # Errors
/// [`Error::Malformed`] with the key or the tensor that is unknown, [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::NotFinite`],
/// [`Error::Count`] for a vocabulary of another size.
pub fn language_model(file: &File<'_>) -> Result<LanguageModel> {
    let config = configuration(file)?;
    if let Some(Value::Texts(tokens)) = file.metadata().get("tokenizer.ggml.tokens")
        && tokens.len() != config.vocabulary
    {
        return Err(Error::Count {
            what: "tokens of the GGUF's vocabulary, one for each row of the embedding",
            needed: config.vocabulary,
            had: tokens.len(),
        });
    }
    let (head, columns) = (config.head, config.width);
    let architecture = Architecture::Llama(config);
    let mut values = BTreeMap::new();
    let mut known = Vec::new();
    architecture.tensors(|name, shape| {
        let tensor = stored(&name)
            .ok_or_else(|| malformed(format!("tensor {name} has no name of llama.cpp's")))?;
        let mut all = file.values(&tensor, &shape)?;
        if let Some((index, value)) = all.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotFinite {
                tensor,
                index,
                value: f64::from(*value),
            });
        }
        if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") {
            halve(&mut all, columns, head);
        }
        known.push(tensor);
        values.insert(name, all);
        Ok(())
    })?;
    known.sort_unstable();
    let unknown = file
        .tensors()
        .find(|(name, _)| known.binary_search_by(|k| k.as_str().cmp(name)).is_err());
    if let Some((name, _)) = unknown {
        return Err(malformed(format!(
            "tensor {name} belongs to no Llama that is known; without it this would be another network"
        )));
    }
    LanguageModel::new(architecture, |name, _| {
        values.remove(name).unwrap_or_default()
    })
}

/// The file's vocabulary; None where it has none.
///
/// # Errors
/// [`Error::Malformed`] for one that is no byte-level BPE, or whose parts don't fit each other.
pub fn vocabulary(file: &File<'_>) -> Result<Option<Vocabulary>> {
    let f = Fields(file.metadata());
    if !f.0.contains_key("tokenizer.ggml.model") {
        return Ok(None);
    }
    f.only("tokenizer.ggml.model", &[Value::Text("gpt2")])?;
    let texts = |key: &str| match f.0.get(key) {
        Some(Value::Texts(list)) => Ok(list.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
        _ => Err(malformed(format!("{key} is no list of texts"))),
    };
    let tokens = texts("tokenizer.ggml.tokens")?;
    let merges = texts("tokenizer.ggml.merges")?;
    let special = match f.0.get("tokenizer.ggml.token_type") {
        None => Vec::new(),
        Some(Value::Numbers(kinds)) if kinds.len() == tokens.len() => {
            // control and user-defined ones
            let special = kinds.iter().enumerate().filter(|(_, k)| matches!(k, 3 | 4));
            special.filter_map(|(i, _)| u32::try_from(i).ok()).collect()
        }
        Some(_) => {
            return Err(malformed(format!(
                "tokenizer.ggml.token_type must have a number for each of the {} tokens",
                tokens.len()
            )));
        }
    };
    let cut = match f.0.get("tokenizer.ggml.pre") {
        Some(Value::Text(cut)) => (*cut).into(),
        None => "gpt-2".into(),
        Some(_) => return Err(malformed("tokenizer.ggml.pre is no text")),
    };
    let n = tokens.len();
    Ok(Some(Vocabulary {
        cut,
        merges,
        special,
        begin: f.token("tokenizer.ggml.bos_token_id", n)?,
        end: f.token("tokenizer.ggml.eos_token_id", n)?,
        tokens,
    }))
}
