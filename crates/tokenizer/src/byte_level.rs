//! Byte-level pairs: a `tokenizer.json` of a vocabulary, its merges and its special tokens, as a GGUF holds them.
//!
//! Every byte is one printable character (GPT-2's table), so that a vocabulary is text: the bytes from `!` to `~`, `¡` to `¬` and `®` to
//! `ÿ` are themselves, the others are U+0100 and following in order.
//!
//! Reference: A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).

use crate::Tokenizer;
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// How a text is cut before pairs are merged, by llama.cpp's names (`tokenizer.ggml.pre`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// GPT-2's: words with the space before them, numbers, punctuation, spaces.
    Gpt2,
    /// SmolLM's: each digit alone, then as GPT-2.
    Smollm,
}

impl Cut {
    /// The one of this name.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "gpt-2" | "gpt2" => Ok(Self::Gpt2),
            "smollm" => Ok(Self::Smollm),
            other => Err(Error::Unsupported {
                part: "tokenizer.ggml.pre",
                had: other.into(),
                known: "gpt-2, smollm".into(),
            }),
        }
    }
}

/// The character of a byte.
#[must_use]
pub fn letter(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if own(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !own(b)).count();
    // at most 67 others
    char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The tokenizer of these tokens in order, these merges (`left right`, the first one first) and the numbers of the special tokens.
///
/// # Errors
/// [`Error::Count`] for a special token beyond the last, [`Error::Malformed`] for two equal tokens or a merge that is none, and those of
/// [`Tokenizer::from_json`].
pub fn tokenizer(
    cut: Cut,
    tokens: &[String],
    merges: &[String],
    special: &[u32],
) -> Result<Tokenizer> {
    let mut vocabulary = Map::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert(token.clone(), id.into()).is_some() {
            return Err(Error::Malformed {
                detail: format!("token {id} ({token:?}) has another one's text"),
            });
        }
    }
    let added = special
        .iter()
        .map(|&id| {
            let content = tokens.get(id as usize).ok_or(Error::Count {
                what: "is the number of a special token, and as many",
                needed: tokens.len(),
                had: id as usize + 1,
            })?;
            Ok(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
            }))
        })
        .collect::<Result<Vec<Value>>>()?;
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let cutter = match cut {
        Cut::Gpt2 => bytes.clone(),
        Cut::Smollm => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            bytes.clone(),
        ]}),
    };
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": cutter,
        "post_processor": null,
        "decoder": bytes,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    Tokenizer::from_json(&file.to_string())
}
