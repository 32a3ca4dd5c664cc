//! Models of llama2.c (A. Karpathy, 2023), in its first format.
//!
//! **Model**: seven little-endian i32 (width, hidden, layers, heads, key/value heads, tokens, longest sequence; a negative number of tokens says
//! that the output head is not the embedding), then f32: the embedding, and of all layers in turn the first norm, queries, keys,
//! values, output, the second norm, gate (w1), down (w2), up (w3); the last norm, two tables of the rotary angles (computed here, not
//! read), the output head if it has its own. llama2.c turns adjacent channels together; here the rows of queries and keys are sorted so
//! that channel k turns with k + d/2, as in Hugging Face's checkpoints: the same network.

use crate::architecture::Architecture;
use crate::architecture::llama::Config;
use crate::blocks::Sizes;
use nn::{Error, Result};
use std::collections::BTreeMap;

/// Values by the names of Hugging Face's checkpoints.
type Weights = BTreeMap<String, Vec<f32>>;

const MODEL: &str = "llama2.c model";
/// ε of the norms and base of the rotary positions, which the format does not hold.
const EPSILON: f64 = 1e-5;
const BASE: f64 = 10_000.0;

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(MODEL, detail)
}

/// What a layer has, in the file's order: of each of these that of every layer.
const PARTS: [&str; 9] = [
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.down_proj",
    "mlp.up_proj",
];

/// The model of a file's bytes.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`] for a header that is none or a length that it doesn't announce.
pub(crate) fn read(bytes: &[u8]) -> Result<(Architecture, Weights)> {
    let config = header(bytes)?;
    let sizes = config.sizes;
    let architecture = Architecture::Llama(config);
    architecture.check()?;
    let mut rest = &bytes[28..];
    let had = rest.len();
    let truncated = |announced: String| {
        let detail = format!("its header announces {announced}, {had} bytes follow");
        Error::truncated(MODEL, detail)
    };
    // names are made for layers that can be there: of one number at least for each part
    if sizes.layers > had / (4 * PARTS.len()) {
        return Err(truncated(format!("{} layers", sizes.layers)));
    }
    let mut lengths = BTreeMap::new();
    architecture.tensors(|name, shape, _| {
        lengths.insert(name, shape.iter().product());
        Ok(())
    })?;
    // of cosines and sines
    let angles = 2 * sizes.max_length * (sizes.head / 2);
    let needed = 4 * (angles + lengths.values().sum::<usize>());
    if had < needed {
        return Err(truncated(format!("{needed} bytes")));
    }
    if had > needed {
        let detail = format!("its header announces {needed} bytes, {had} follow");
        return Err(malformed(detail));
    }
    let layer = |part| (0..sizes.layers).map(move |l| format!("model.layers.{l}.{part}.weight"));
    let layers = PARTS.into_iter().flat_map(layer);
    let mut order = vec!["model.embed_tokens.weight".to_string()];
    order.extend(layers.chain(["model.norm.weight".into(), String::new()]));
    order.extend((!architecture.tied()).then(|| "lm_head.weight".into()));
    let mut weights = Weights::new();
    for name in order {
        // what has no name are the angles
        let length = lengths.get(&name).copied().unwrap_or(angles);
        let (own, tail) = rest.split_at(4 * length);
        rest = tail;
        if name.is_empty() {
            continue;
        }
        let numbers = own.as_chunks::<4>().0.iter();
        let mut values: Vec<f32> = numbers.map(|b| f32::from_le_bytes(*b)).collect();
        if name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight") {
            halve(&mut values, sizes.width, sizes.head);
        }
        weights.insert(name, values);
    }
    Ok((architecture, weights))
}

/// Whether the bytes begin like a model's header.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    header(bytes).is_ok()
}

fn header(bytes: &[u8]) -> Result<Config> {
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
    let sizes = Sizes {
        layers,
        width,
        hidden,
        heads,
        kv_heads,
        head,
        vocabulary,
        max_length,
    };
    Ok(Config {
        sizes,
        epsilon: EPSILON,
        base: BASE,
        tied: shared,
    })
}

/// Rows 0, 1, 2, 3, … of each head become 0, 2, …, 1, 3, …: what turned with its neighbour turns with the row half a head away.
pub(crate) fn halve(values: &mut [f32], columns: usize, head: usize) {
    for to in values.chunks_mut(head * columns) {
        let from = to.to_vec();
        for (row, to) in to.chunks_mut(columns).enumerate() {
            let (half, k) = (row / (head / 2), row % (head / 2));
            let source = 2 * k + half;
            to.copy_from_slice(&from[source * columns..][..columns]);
        }
    }
}
