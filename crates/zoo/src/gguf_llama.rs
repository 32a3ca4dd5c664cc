//! Llama in a GGUF: its metadata, and its tensors under llama.cpp's names.
//!
//! llama.cpp turns adjacent channels together and its converter sorts the rows of queries and keys for that; here they are sorted back, so that
//! channel k turns with k + d/2, as in every model of this crate. A tensor or a setting that would change the network and is not known
//! is refused; a model without `output.weight` has the embedding as its output head.

use crate::architecture::Architecture;
use crate::architecture::llama::Config;
use crate::blocks::{Decoder, Sizes};
use crate::llama2c::halve;
use nn::format::gguf::{File, Value};
use nn::{Error, Result};
use std::collections::BTreeMap;

/// Values by the names of Hugging Face's checkpoints.
type Weights = BTreeMap<String, Vec<f32>>;

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("GGUF", detail)
}

fn configuration(file: &File<'_>) -> Result<Config> {
    let f = file;
    match f.metadata().get("general.architecture") {
        Some(Value::Text("llama")) => {}
        other => {
            return Err(malformed(format!(
                "general.architecture is {}, llama is known",
                other.map_or("missing".into(), Value::to_string)
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
        sizes: Sizes {
            layers: f.size("llama.block_count")?,
            width,
            hidden: f.size("llama.feed_forward_length")?,
            heads,
            kv_heads: f
                .optional_size("llama.attention.head_count_kv")?
                .unwrap_or(heads),
            head,
            vocabulary,
            max_length: f.size("llama.context_length")?,
        },
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
pub(crate) fn read(file: &File<'_>) -> Result<(Architecture, Weights)> {
    let config = configuration(file)?;
    if let Some(Value::Texts(tokens)) = file.metadata().get("tokenizer.ggml.tokens")
        && tokens.len() != config.sizes.vocabulary
    {
        return Err(Error::Count {
            what: "tokens of the GGUF's vocabulary, one for each row of the embedding",
            needed: config.sizes.vocabulary,
            had: tokens.len(),
        });
    }
    let (head, columns) = (config.sizes.head, config.sizes.width);
    let architecture = Architecture::Llama(config);
    let mut values = BTreeMap::new();
    let mut known = Vec::new();
    architecture.tensors(|name, shape, _| {
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
    Ok((architecture, values))
}
