//! Models of llama2.c (A. Karpathy, 2023), in its first format.
//!
//! **Model**: seven little-endian i32 (width, hidden, layers, heads, key/value heads, tokens, longest sequence; a negative number of tokens says
//! that the output head is not the embedding), then f32: the embedding, and of all layers in turn the first norm, queries, keys,
//! values, output, the second norm, gate (w1), down (w2), up (w3); the last norm, two tables of the rotary angles (computed here, not
//! read), the output head if it has its own. llama2.c turns adjacent channels together; here the rows of queries and keys are sorted so
//! that channel k turns with k + d/2, as in Hugging Face's checkpoints: the same network.

use crate::Result;
use crate::error::Error;
use crate::format::element::Element;
use crate::format::state_dict::{StateDict, StateTensor};
use crate::tensor::product;
use std::collections::BTreeMap;

const MODEL: &str = "llama2.c model";
/// ε of the norms and base of the rotary positions, which the format does not hold.
const EPSILON: f64 = 1e-5;
const BASE: f64 = 10_000.0;

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(MODEL, detail)
}

/// The sizes that a model's header holds.
struct Sizes {
    width: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    vocabulary: usize,
    max_length: usize,
    tied: bool,
}

impl Sizes {
    /// As the `config.json` of a Llama has them.
    fn config(&self) -> String {
        serde_json::json!({
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.max_length,
            "rms_norm_eps": EPSILON,
            "rope_theta": BASE,
            "tie_word_embeddings": self.tied,
        })
        .to_string()
    }
}

/// The text of a `config.json` and the tensors, under the names of Hugging Face's checkpoints of Llama, of a model's bytes.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`] for a header that is none or a length that it doesn't announce, [`Error::NotFinite`].
pub fn read(bytes: &[u8]) -> Result<(String, StateDict)> {
    let config = header(bytes)?;
    let numbers = count(&config).ok_or_else(|| malformed("its sizes overflow"))?;
    let body = &bytes[28..];
    let needed = numbers
        .checked_mul(4)
        .ok_or_else(|| malformed("its sizes overflow"))?;
    let detail = format!("its header announces {needed} bytes, {} follow", body.len());
    if body.len() < needed {
        return Err(Error::truncated(MODEL, detail));
    }
    if body.len() > needed {
        return Err(malformed(detail));
    }
    let mut rest = body;
    let mut take = |shape: Vec<usize>| {
        let (head, tail) = rest.split_at(4 * shape.iter().product::<usize>());
        rest = tail;
        let values = Element::F32.decode_all(head).collect();
        StateTensor { shape, values }
    };
    let (d, h) = (config.width, config.hidden);
    let (q, kv) = (config.heads * config.head, config.kv_heads * config.head);
    let mut tensors = BTreeMap::new();
    tensors.insert(
        "model.embed_tokens.weight".into(),
        take(vec![config.vocabulary, d]),
    );
    for (name, shape) in [
        ("input_layernorm", vec![d]),
        ("self_attn.q_proj", vec![q, d]),
        ("self_attn.k_proj", vec![kv, d]),
        ("self_attn.v_proj", vec![kv, d]),
        ("self_attn.o_proj", vec![d, q]),
        ("post_attention_layernorm", vec![d]),
        ("mlp.gate_proj", vec![h, d]),
        ("mlp.down_proj", vec![d, h]),
        ("mlp.up_proj", vec![h, d]),
    ] {
        for l in 0..config.layers {
            let mut tensor = take(shape.clone());
            if matches!(name, "self_attn.q_proj" | "self_attn.k_proj") {
                let columns = tensor.shape[1];
                halve(&mut tensor.values, columns, config.head);
            }
            tensors.insert(format!("model.layers.{l}.{name}.weight"), tensor);
        }
    }
    tensors.insert("model.norm.weight".into(), take(vec![d]));
    take(vec![2, config.max_length, config.head / 2]);
    if !config.tied {
        tensors.insert("lm_head.weight".into(), take(vec![config.vocabulary, d]));
    }
    Ok((config.config(), StateDict::new(tensors)))
}

/// Whether the bytes begin like a model's header.
#[must_use]
pub fn recognises(bytes: &[u8]) -> bool {
    header(bytes).is_ok()
}

fn header(bytes: &[u8]) -> Result<Sizes> {
    let Some(head) = bytes.first_chunk::<28>() else {
        return Err(Error::truncated(
            MODEL,
            format!("{} bytes are not even a header", bytes.len()),
        ));
    };
    let mut fields = [0i64; 7];
    for (field, raw) in fields.iter_mut().zip(head.as_chunks::<4>().0) {
        *field = i32::from_le_bytes(*raw).into();
    }
    let shared = fields[5] > 0;
    fields[5] = fields[5].abs();
    let mut sizes = [0usize; 7];
    for (size, &field) in sizes.iter_mut().zip(&fields) {
        *size = usize::try_from(field)
            .ok()
            .filter(|s| (1..=1 << 24).contains(s))
            .ok_or_else(|| {
                malformed(format!("its header holds {field}, sizes are from 1 to 2^24; newer versions of the format are not read"))
            })?;
    }
    let [
        width,
        hidden,
        layers,
        heads,
        kv_heads,
        vocabulary,
        max_length,
    ] = sizes;
    if width % heads != 0 {
        let detail = format!("{heads} heads don't divide the width {width}");
        return Err(malformed(detail));
    }
    let head = width / heads;
    if head % 2 != 0 {
        let detail = format!("heads of {head} channels can't be turned in pairs");
        return Err(malformed(detail));
    }
    Ok(Sizes {
        width,
        hidden,
        layers,
        heads,
        kv_heads,
        head,
        vocabulary,
        max_length,
        tied: shared,
    })
}

/// How many numbers the file of such a model holds.
fn count(c: &Sizes) -> Option<usize> {
    let sum = |terms: &[usize]| terms.iter().try_fold(0usize, |s, &v| s.checked_add(v));
    let kv = product(&[c.kv_heads, c.head])?;
    let layer = sum(&[
        product(&[2, c.width])?,
        product(&[2, c.width, c.width])?,
        product(&[2, kv, c.width])?,
        product(&[3, c.hidden, c.width])?,
    ])?;
    let heads = if c.tied { 1 } else { 2 };
    sum(&[
        product(&[heads, c.vocabulary, c.width])?,
        product(&[c.layers, layer])?,
        c.width,
        product(&[2, c.max_length, c.head / 2])?,
    ])
}

/// Rows 0, 1, 2, 3, … of each head become 0, 2, …, 1, 3, …: what turned with its neighbour turns with the row half a head away.
pub fn halve<T: Copy>(values: &mut [T], columns: usize, head: usize) {
    for to in values.chunks_mut(head * columns) {
        let from = to.to_vec();
        for (row, to) in to.chunks_mut(columns).enumerate() {
            let (half, k) = (row / (head / 2), row % (head / 2));
            let source = 2 * k + half;
            to.copy_from_slice(&from[source * columns..][..columns]);
        }
    }
}
