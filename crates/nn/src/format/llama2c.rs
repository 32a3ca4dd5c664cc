//! Models and tokenizers of llama2.c (A. Karpathy, 2023), in its first format.
//!
//! **Model**: seven little-endian i32 (width, hidden, layers, heads, key/value heads, tokens, longest sequence; a negative number of tokens says
//! that the output head is not the embedding), then f32: the embedding, and of all layers in turn the first norm, queries, keys,
//! values, output, the second norm, gate (w1), down (w2), up (w3); the last norm, two tables of the rotary angles (computed here, not
//! read), the output head if it has its own. llama2.c turns adjacent channels together; here the rows of queries and keys are sorted so
//! that channel k turns with k + d/2, as in Hugging Face's checkpoints: the same network.
//!
//! **Tokenizer**: i32 length of the longest token, then for each token f32 score, i32 length, bytes. Tokens 0 to 2 are unknown, begin (BOS)
//! and end; 3 to 258 are single bytes, written `<0x00>`.

use crate::Result;
use crate::error::Error;
use crate::format::state_dict::{StateDict, StateTensor};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const MODEL: &str = "llama2.c model";
const TOKENIZER: &str = "llama2.c tokenizer";
/// ε of the norms and base of the rotary positions, which the format does not hold.
const EPSILON: f64 = 1e-5;
const BASE: f64 = 10_000.0;

fn malformed(format: &'static str, detail: impl Into<String>) -> Error {
    Error::Malformed {
        format,
        detail: detail.into(),
    }
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
    let numbers = count(&config).ok_or_else(|| malformed(MODEL, "its sizes overflow"))?;
    let body = &bytes[28..];
    let needed = numbers
        .checked_mul(4)
        .ok_or_else(|| malformed(MODEL, "its sizes overflow"))?;
    if body.len() < needed {
        return Err(Error::Truncated {
            format: MODEL,
            detail: format!("its header announces {needed} bytes, {} follow", body.len()),
        });
    }
    if body.len() > needed {
        let detail = format!("its header announces {needed} bytes, {} follow", body.len());
        return Err(malformed(MODEL, detail));
    }
    let mut rest = body;
    let mut take = |shape: Vec<usize>| {
        let (head, tail) = rest.split_at(4 * shape.iter().product::<usize>());
        rest = tail;
        let values = head
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect();
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
        return Err(Error::Truncated {
            format: MODEL,
            detail: format!("{} bytes are not even a header", bytes.len()),
        });
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
                malformed(
                    MODEL,
                    format!("its header holds {field}, sizes are from 1 to 2^24; newer versions of the format are not read"),
                )
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
        return Err(malformed(MODEL, detail));
    }
    let head = width / heads;
    if head % 2 != 0 {
        let detail = format!("heads of {head} channels can't be turned in pairs");
        return Err(malformed(MODEL, detail));
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
    let product = |factors: &[usize]| factors.iter().try_fold(1usize, |p, &f| p.checked_mul(f));
    let kv = product(&[c.kv_heads, c.head])?;
    let layer = [
        product(&[2, c.width])?,
        product(&[2, c.width, c.width])?,
        product(&[2, kv, c.width])?,
        product(&[3, c.hidden, c.width])?,
    ]
    .iter()
    .try_fold(0usize, |s, &v| s.checked_add(v))?;
    let heads = if c.tied { 1 } else { 2 };
    [
        product(&[heads, c.vocabulary, c.width])?,
        product(&[c.layers, layer])?,
        c.width,
        product(&[2, c.max_length, c.head / 2])?,
    ]
    .iter()
    .try_fold(0usize, |s, &v| s.checked_add(v))
}

/// Rows 0, 1, 2, 3, … of each head become 0, 2, …, 1, 3, …: what turned with its neighbour turns with the row half a head away.
pub fn halve<T: Copy>(values: &mut [T], columns: usize, head: usize) {
    for to in values.chunks_mut(head * columns) {
        let from = to.to_vec();
        for (row, to) in to.chunks_mut(columns).enumerate() {
            let source = if row < head / 2 {
                2 * row
            } else {
                2 * (row - head / 2) + 1
            };
            to.copy_from_slice(&from[source * columns..][..columns]);
        }
    }
}

/// Token that begins a sequence (BOS).
pub const BEGIN: u32 = 1;
/// Token that ends a sequence (EOS).
pub const END: u32 = 2;
/// The token of byte 0.
const FIRST_BYTE: u32 = 3;

/// Text to tokens and back: byte-pair encoding whose merges are ranked by the tokens' scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenizer {
    pieces: Vec<(Vec<u8>, f32)>,
    tokens: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    /// From the bytes of a file.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let truncated = |detail: String| Error::Truncated {
            format: TOKENIZER,
            detail,
        };
        let Some((_, mut rest)) = bytes.split_first_chunk::<4>() else {
            return Err(truncated("it has no header".into()));
        };
        let mut pieces = Vec::new();
        let mut tokens = HashMap::new();
        while !rest.is_empty() {
            let at = u32::try_from(pieces.len())
                .map_err(|_| malformed(TOKENIZER, "it holds more than 2^32 tokens"))?;
            let Some((score, tail)) = rest.split_first_chunk::<4>() else {
                return Err(truncated(format!("token {at} has no score")));
            };
            let Some((length, tail)) = tail.split_first_chunk::<4>() else {
                return Err(truncated(format!("token {at} has no length")));
            };
            let length = usize::try_from(i32::from_le_bytes(*length))
                .map_err(|_| malformed(TOKENIZER, format!("token {at} has a negative length")))?;
            let score = f32::from_le_bytes(*score);
            if !score.is_finite() {
                return Err(malformed(TOKENIZER, format!("token {at} scores {score}")));
            }
            let Some(piece) = tail.get(..length) else {
                return Err(truncated(format!("token {at} has {length} bytes")));
            };
            rest = &tail[length..];
            // Of two equal pieces the first counts, as in a search from the front.
            tokens.entry(piece.to_vec()).or_insert(at);
            pieces.push((piece.to_vec(), score));
        }
        if pieces.len() <= END as usize {
            return Err(malformed(
                TOKENIZER,
                format!("{} tokens are not even the special ones", pieces.len()),
            ));
        }
        Ok(Self { pieces, tokens })
    }

    /// From a file of at most 64 MiB.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], and those of [`Tokenizer::from_bytes`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&super::limited::read_limited(path, 64 << 20)?)
    }

    /// Number of tokens.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer is never empty")]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The file's bytes: what [`Tokenizer::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).to_le_bytes();
        let longest = self.pieces.iter().map(|p| p.0.len()).max().unwrap_or(0);
        let mut bytes = length(longest).to_vec();
        for (piece, score) in &self.pieces {
            bytes.extend(score.to_le_bytes());
            bytes.extend(length(piece.len()));
            bytes.extend(piece);
        }
        bytes
    }

    /// A token's bytes, single bytes written `<0x00>`.
    #[must_use]
    pub fn piece(&self, token: u32) -> Option<&[u8]> {
        self.pieces.get(token as usize).map(|p| &p.0[..])
    }

    /// The tokens of a text, [`BEGIN`] first. A space is put before the text, as in training. Characters without a token are spelled in bytes.
    ///
    /// # Errors
    /// [`Error::Encoding`] for a byte that the vocabulary can't spell.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        let mut buffer = [0; 4];
        let prefix = if text.is_empty() { "" } else { " " };
        for c in prefix.chars().chain(text.chars()) {
            let piece = c.encode_utf8(&mut buffer).as_bytes();
            match self.tokens.get(piece) {
                Some(&token) => tokens.push(token),
                None => {
                    for &byte in piece {
                        tokens.push(self.byte_token(byte)?);
                    }
                }
            }
        }
        // The best pair becomes one token until none does.
        while let Some((at, token)) = self.best_pair(&tokens) {
            tokens[at] = token;
            tokens.remove(at + 1);
        }
        tokens.insert(0, BEGIN);
        Ok(tokens)
    }

    /// The first of the pairs whose union scores best.
    fn best_pair(&self, tokens: &[u32]) -> Option<(usize, u32)> {
        let mut best: Option<(usize, u32, f32)> = None;
        let mut union = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            union.clear();
            union.extend_from_slice(&self.pieces[pair[0] as usize].0);
            union.extend_from_slice(&self.pieces[pair[1] as usize].0);
            if let Some(&token) = self.tokens.get(&union) {
                let score = self.pieces[token as usize].1;
                if best.is_none_or(|(_, _, b)| score > b) {
                    best = Some((at, token, score));
                }
            }
        }
        best.map(|(at, token, _)| (at, token))
    }

    fn byte_token(&self, byte: u8) -> Result<u32> {
        let token = FIRST_BYTE + u32::from(byte);
        match self.pieces.get(token as usize) {
            Some((piece, _)) if spelled(piece) == Some(byte) => Ok(token),
            _ => Err(Error::Encoding { byte }),
        }
    }

    /// The text of tokens; [`BEGIN`] and [`END`] are none, the space before the text is left out. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that there isn't.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        let mut begins = true;
        for &token in tokens {
            let Some((piece, _)) = self.pieces.get(token as usize) else {
                return Err(Error::Token {
                    token,
                    vocabulary: self.len(),
                });
            };
            if token == BEGIN || token == END {
                begins = true;
                continue;
            }
            match spelled(piece) {
                Some(byte) => bytes.push(byte),
                None if begins => bytes.extend(piece.strip_prefix(b" ").unwrap_or(piece)),
                None => bytes.extend_from_slice(piece),
            }
            begins = false;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The byte of a piece such as `<0x0A>`.
fn spelled(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .flatten()
}
