//! What a `tokenizer.json` may hold.
//!
//! | part | kinds |
//! |---|---|
//! | model | BPE on bytes without dropout, WordPiece |
//! | normalizer | BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, StripAccents, and sequences of them |
//! | pre_tokenizer | BertPreTokenizer, ByteLevel, Digits, Punctuation, Whitespace, WhitespaceSplit, and sequences of them |
//! | post_processor | BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing, and sequences of them |
//! | decoder | ByteLevel, WordPiece |
//!
//! Regular expressions from a file (Split, Replace) and tables of a foreign format (Precompiled) are refused by name.

use crate::byte_level;
use crate::error::{Error, Result};
use serde_json::Value;

/// More tokens than any model has.
const MAX_TOKENS: u64 = 1 << 22;
/// Sequences of sequences are at most so deep.
const MAX_DEPTH: usize = 4;

const PARTS: [(&str, &[&str], &str); 4] = [
    (
        "normalizer",
        &[
            "BertNormalizer",
            "Lowercase",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "StripAccents",
        ],
        "normalizers",
    ),
    (
        "pre_tokenizer",
        &[
            "BertPreTokenizer",
            "ByteLevel",
            "Digits",
            "Punctuation",
            "Whitespace",
            "WhitespaceSplit",
        ],
        "pretokenizers",
    ),
    (
        "post_processor",
        &[
            "BertProcessing",
            "ByteLevel",
            "RobertaProcessing",
            "TemplateProcessing",
        ],
        "processors",
    ),
    ("decoder", &["ByteLevel", "WordPiece"], "decoders"),
];

/// A file's content that was found good, less truncation and padding, its added tokens with their numbers, and what it can't spell.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) json: Value,
    pub(crate) added: Vec<(String, u32)>,
    /// Bytes without a token, of a vocabulary of bytes.
    pub(crate) missing: Vec<u8>,
    /// Tokens that are put around a sequence.
    pub(crate) framing: Vec<u64>,
}

pub(crate) fn file(mut json: Value) -> Result<Checked> {
    let malformed = |detail: &str| Error::Malformed {
        detail: detail.into(),
    };
    let object = json
        .as_object_mut()
        .ok_or_else(|| malformed("it is not an object"))?;
    object.insert("truncation".into(), Value::Null);
    object.insert("padding".into(), Value::Null);
    for (part, known, list) in PARTS {
        if let Some(value) = object.get(part).filter(|v| !v.is_null()) {
            kinds(part, known, list, value, 0)?;
        }
    }
    let bytes = object
        .get("pre_tokenizer")
        .is_some_and(|v| mentions(v, "ByteLevel", 0));
    let model = object
        .get("model")
        .ok_or_else(|| malformed("it has no model"))?;
    let vocabulary = vocabulary(model)?;
    let mut missing = Vec::new();
    match kind(model) {
        "BPE" => {
            if !bytes {
                return Err(Error::Unsupported {
                    part: "pre_tokenizer",
                    had: "not ByteLevel".into(),
                    known: "BPE on bytes (ByteLevel)".into(),
                });
            }
            let dropout = model.get("dropout").filter(|v| !v.is_null());
            if let Some(dropout) = dropout.filter(|v| v.as_f64() != Some(0.0)) {
                return Err(Error::Unsupported {
                    part: "dropout",
                    had: dropout.to_string(),
                    known: "none: the same text must give the same tokens".into(),
                });
            }
            for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
                let had = model.get(part).filter(|v| !v.is_null());
                if let Some(had) = had.filter(|v| v.as_str() != Some("")) {
                    return Err(Error::Unsupported {
                        part,
                        had: had.to_string(),
                        known: "none in BPE on bytes".into(),
                    });
                }
            }
            missing = (0..=255)
                .filter(|&b| !vocabulary.contains_key(&byte_level::letter(b).to_string()))
                .collect();
        }
        "WordPiece" => {}
        had => {
            return Err(Error::Unsupported {
                part: "model",
                had: if had.is_empty() {
                    "of no kind".into()
                } else {
                    had.into()
                },
                known: "BPE on bytes, WordPiece".into(),
            });
        }
    }
    let mut framing = Vec::new();
    if let Some(processor) = object.get("post_processor") {
        frames(processor, &mut framing)?;
    }
    let added = added(object.get("added_tokens"))?;
    Ok(Checked {
        json,
        added,
        missing,
        framing,
    })
}

fn kind(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or("")
}

/// The entries of a sequence, under any of the names that sequences have.
fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    let lists = PARTS.iter().filter_map(|p| value.get(p.2)?.as_array());
    lists.flatten()
}

fn mentions(value: &Value, name: &str, depth: usize) -> bool {
    kind(value) == name || depth < MAX_DEPTH && entries(value).any(|v| mentions(v, name, depth + 1))
}

fn kinds(
    part: &'static str,
    known: &[&str],
    list: &str,
    value: &Value,
    depth: usize,
) -> Result<()> {
    let had = kind(value);
    let inner = value.get(list).and_then(Value::as_array);
    if had == "Sequence"
        && depth < MAX_DEPTH
        && let Some(inner) = inner
    {
        return inner
            .iter()
            .try_for_each(|v| kinds(part, known, list, v, depth + 1));
    }
    if known.contains(&had) {
        return Ok(());
    }
    Err(Error::Unsupported {
        part,
        had: if had.is_empty() {
            "of no kind".into()
        } else {
            had.into()
        },
        known: known.join(", "),
    })
}

/// Collects the tokens that stand around sequences. A template's names must be known to it: `tokenizers` relies on that.
fn frames(processor: &Value, tokens: &mut Vec<u64>) -> Result<()> {
    for inner in entries(processor) {
        frames(inner, tokens)?;
    }
    // BertProcessing and RobertaProcessing: a name and its number
    let pair = |key: &str| processor.get(key)?.get(1)?.as_u64();
    tokens.extend(["sep", "cls"].into_iter().filter_map(pair));
    if kind(processor) != "TemplateProcessing" {
        return Ok(());
    }
    let known = processor.get("special_tokens").and_then(Value::as_object);
    for token in known.into_iter().flat_map(serde_json::Map::values) {
        let ids = token.get("ids").and_then(Value::as_array);
        tokens.extend(ids.into_iter().flatten().filter_map(Value::as_u64));
    }
    let parts = ["single", "pair"]
        .into_iter()
        .filter_map(|p| processor.get(p)?.as_array());
    for part in parts.flatten() {
        if part["Sequence"]["id"] == "B"
            && processor["single"]
                .as_array()
                .is_some_and(|s| s.contains(part))
        {
            return Err(Error::Malformed {
                detail: "its template puts a second text where there is one".into(),
            });
        }
        let Some(name) = part.get("SpecialToken").map(|t| &t["id"]) else {
            continue;
        };
        let found = name
            .as_str()
            .is_some_and(|n| known.is_some_and(|k| k.contains_key(n)));
        if !found {
            return Err(Error::Malformed {
                detail: format!(
                    "its template puts {name} around texts, which is none of its special tokens"
                ),
            });
        }
    }
    Ok(())
}

fn vocabulary(model: &Value) -> Result<&serde_json::Map<String, Value>> {
    let malformed = |detail: String| Error::Malformed { detail };
    let vocabulary = model
        .get("vocab")
        .and_then(Value::as_object)
        .filter(|v| !v.is_empty())
        .ok_or_else(|| malformed("its model has no vocabulary".into()))?;
    for (token, id) in vocabulary {
        if id.as_u64().is_none_or(|i| i >= MAX_TOKENS) {
            return Err(malformed(format!(
                "token {token:?} has number {id}, numbers are from 0 to {}",
                MAX_TOKENS - 1
            )));
        }
    }
    Ok(vocabulary)
}

fn added(value: Option<&Value>) -> Result<Vec<(String, u32)>> {
    let Some(list) = value.filter(|v| !v.is_null()) else {
        return Ok(Vec::new());
    };
    let malformed = |detail: &str| Error::Malformed {
        detail: detail.into(),
    };
    let list = list
        .as_array()
        .ok_or_else(|| malformed("added_tokens is not a list"))?;
    list.iter()
        .map(|entry| {
            let content = entry.get("content").and_then(Value::as_str);
            let id = entry.get("id").and_then(Value::as_u64);
            match (content, id.and_then(|i| u32::try_from(i).ok())) {
                (Some(content), Some(id)) if !content.is_empty() => Ok((content.into(), id)),
                _ => Err(malformed("an added token has no text or no number")),
            }
        })
        .collect()
}
