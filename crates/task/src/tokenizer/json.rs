//! What a `tokenizer.json` of Hugging Face may hold.
//!
//! | part | kinds |
//! |---|---|
//! | model | BPE on bytes without dropout, WordPiece |
//! | normalizer | BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, StripAccents, and sequences of them |
//! | pre_tokenizer | BertPreTokenizer, ByteLevel, Digits, Punctuation, Split by the patterns of GPT-2, Llama 3 and Qwen 2, Whitespace, WhitespaceSplit, and sequences of them |
//! | post_processor | BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing, and sequences of them |
//! | decoder | ByteLevel, WordPiece |
//!
//! Everything else is refused by name. Truncation and padding that a file asks for are left aside: lengths are the caller's.

use super::cut::{self, Cut, Normalizer};
use super::published::{Added, MAX_TOKENS, Model, Parts, Published, malformed, pairs};
use crate::error::{Error, Result};
use serde_json::Value;

/// Files of more bytes are refused: 64 MiB.
pub const LIMIT: u64 = 64 << 20;

/// Sequences of sequences are at most so deep.
const MAX_DEPTH: usize = 4;

fn unsupported(part: &'static str, had: impl AsRef<str>, known: &str) -> Error {
    match had.as_ref() {
        "" => Error::unsupported(part, "of no kind", known),
        had => Error::unsupported(part, had, known),
    }
}

impl Published {
    /// From the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Unsupported`].
    pub fn from_json(json: &str) -> Result<Self> {
        Error::check_size("tokenizer.json", LIMIT, json.len())?;
        let value: Value = serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        if !value.is_object() {
            return Err(malformed("it is not an object"));
        }
        let mut normalizers = Vec::new();
        each(&value["normalizer"], "normalizers", 0, &mut |v| {
            normalizer(v, &mut normalizers)
        })?;
        let mut cuts = Vec::new();
        let mut bytes = false;
        each(&value["pre_tokenizer"], "pretokenizers", 0, &mut |v| {
            bytes |= kind(v) == "ByteLevel";
            pre_tokenizer(v, &mut cuts)
        })?;
        each(&value["decoder"], "decoders", 0, &mut |v| match kind(v) {
            "ByteLevel" | "WordPiece" => Ok(()),
            had => Err(unsupported("decoder", had, "ByteLevel, WordPiece")),
        })?;
        let mut frame = [Vec::new(), Vec::new()];
        each(&value["post_processor"], "processors", 0, &mut |v| {
            post_processor(v, &mut frame)
        })?;
        let model = &value["model"];
        let mut tokens = vocabulary(model)?;
        let added = added(&value["added_tokens"], &mut tokens)?;
        let n = tokens.len();
        let tokens: Vec<String> = (tokens.into_iter().enumerate())
            .map(|(id, t)| {
                t.ok_or_else(|| malformed(format!("token {id} of {n} has no text; tokens must be numbered from 0 without a gap")))
            })
            .collect::<Result<_>>()?;
        let model = match kind(model) {
            "BPE" if !bytes => {
                return Err(unsupported(
                    "pre_tokenizer",
                    "not ByteLevel",
                    "BPE on bytes (ByteLevel)",
                ));
            }
            "BPE" => pairs_of(model, &tokens)?,
            "WordPiece" => pieces(model, &tokens)?,
            had => return Err(unsupported("model", had, "BPE on bytes, WordPiece")),
        };
        Self::new(Parts {
            tokens,
            added,
            normalizers,
            cuts,
            model,
            frame,
        })
    }
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("")
}

/// A setting that is on or off; null and absence are the usual.
fn on(value: &Value, key: &str, usual: bool) -> bool {
    value[key].as_bool().unwrap_or(usual)
}

/// A part's entries: itself, or those of a sequence, which are under `list`.
fn each(
    value: &Value,
    list: &str,
    depth: usize,
    take: &mut dyn FnMut(&Value) -> Result<()>,
) -> Result<()> {
    match value[list].as_array() {
        _ if value.is_null() => Ok(()),
        Some(inner) if kind(value) == "Sequence" && depth < MAX_DEPTH => inner
            .iter()
            .try_for_each(|v| each(v, list, depth + 1, take)),
        _ => take(value),
    }
}

fn normalizer(v: &Value, out: &mut Vec<Normalizer>) -> Result<()> {
    match kind(v) {
        "NFC" => out.push(Normalizer::Nfc),
        "NFD" => out.push(Normalizer::Nfd),
        "NFKC" => out.push(Normalizer::Nfkc),
        "NFKD" => out.push(Normalizer::Nfkd),
        "Lowercase" => out.push(Normalizer::Lowercase),
        "StripAccents" => out.push(Normalizer::NoMarks),
        "BertNormalizer" => {
            let lower = on(v, "lowercase", true);
            if on(v, "clean_text", true) {
                out.push(Normalizer::Clean);
            }
            if on(v, "handle_chinese_chars", true) {
                out.push(Normalizer::Chinese);
            }
            if on(v, "strip_accents", lower) {
                out.extend([Normalizer::Nfd, Normalizer::NoAccents]);
            }
            if lower {
                out.push(Normalizer::Lowercase);
            }
        }
        had => {
            let known = "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, StripAccents";
            return Err(unsupported("normalizer", had, known));
        }
    }
    Ok(())
}

fn pre_tokenizer(v: &Value, out: &mut Vec<Cut>) -> Result<()> {
    match kind(v) {
        "BertPreTokenizer" => out.push(Cut::Bert),
        "Whitespace" => out.push(Cut::Words),
        "WhitespaceSplit" => out.push(Cut::Whitespace),
        "Digits" => out.push(match on(v, "individual_digits", false) {
            true => Cut::Digits,
            false => Cut::Numbers,
        }),
        "Punctuation" => match v["behavior"].as_str() {
            None | Some("Isolated") => out.push(Cut::Punctuation),
            Some(had) => return Err(unsupported("Punctuation's behavior", had, "Isolated")),
        },
        "ByteLevel" => {
            if on(v, "add_prefix_space", true) {
                out.push(Cut::Space);
            }
            if on(v, "use_regex", true) {
                out.push(Cut::Gpt2);
            }
        }
        "Split" => {
            let cut = match v["pattern"]["Regex"].as_str() {
                Some(cut::GPT2) => Cut::Gpt2,
                Some(cut::LLAMA3) => Cut::Llama3,
                Some(cut::QWEN2) => Cut::Qwen2,
                _ => {
                    let had = format!("Split by {}", v["pattern"]);
                    let known = "Split by the patterns of GPT-2, Llama 3 and Qwen 2";
                    return Err(unsupported("pre_tokenizer", had, known));
                }
            };
            // the patterns take all of a text, so that what they match and what they leave are the same cuts
            let behavior = (v["behavior"].as_str(), on(v, "invert", false));
            if !matches!(
                behavior,
                (Some("Isolated"), false) | (Some("Removed"), true)
            ) {
                let had = format!("{} (invert {})", v["behavior"], behavior.1);
                return Err(unsupported("Split's behavior", had, "Isolated"));
            }
            out.push(cut);
        }
        had => {
            let known = "BertPreTokenizer, ByteLevel, Digits, Punctuation, Split, Whitespace, WhitespaceSplit";
            return Err(unsupported("pre_tokenizer", had, known));
        }
    }
    Ok(())
}

/// Puts a processor's tokens around those that are there.
fn post_processor(v: &Value, frame: &mut [Vec<u32>; 2]) -> Result<()> {
    let token = |id: &Value| {
        let token = id.as_u64().and_then(|t| u32::try_from(t).ok());
        token.ok_or_else(|| malformed(format!("it puts {id} around texts, which is no token")))
    };
    let [before, behind] = match kind(v) {
        "ByteLevel" => return Ok(()),
        "BertProcessing" | "RobertaProcessing" => {
            [vec![token(&v["cls"][1])?], vec![token(&v["sep"][1])?]]
        }
        "TemplateProcessing" => {
            let mut parts = [Vec::new(), Vec::new()];
            let mut texts = 0;
            for part in v["single"].as_array().into_iter().flatten() {
                if let Some(text) = part.get("Sequence") {
                    if text["id"] != "A" {
                        return Err(malformed(
                            "its template puts a second text where there is one",
                        ));
                    }
                    texts += 1;
                    continue;
                }
                let name = &part["SpecialToken"]["id"];
                let ids = name.as_str().map(|n| &v["special_tokens"][n]["ids"]);
                let ids = ids.and_then(Value::as_array).ok_or_else(|| {
                    malformed(format!(
                        "its template puts {name} around texts, which is none of its special tokens"
                    ))
                })?;
                for id in ids {
                    parts[texts.min(1)].push(token(id)?);
                }
            }
            if texts != 1 {
                return Err(malformed(format!(
                    "its template has {texts} texts, one is needed"
                )));
            }
            parts
        }
        had => {
            let known = "BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing";
            return Err(unsupported("post_processor", had, known));
        }
    };
    frame[0].splice(0..0, before);
    frame[1].extend(behind);
    Ok(())
}

/// Numbers that tokens of so many may have: a few may be left out, but a short file with a large number is no long table.
fn most_numbers(tokens: usize) -> usize {
    const LEFT_OUT: usize = 1 << 16;
    MAX_TOKENS.min(2 * tokens + LEFT_OUT)
}

fn vocabulary(model: &Value) -> Result<Vec<Option<String>>> {
    let vocabulary = model["vocab"].as_object().filter(|v| !v.is_empty());
    let vocabulary = vocabulary.ok_or_else(|| malformed("its model has no vocabulary"))?;
    let mut tokens = vec![None; vocabulary.len()];
    let most = most_numbers(vocabulary.len());
    for (token, id) in vocabulary {
        let at = id.as_u64().filter(|&i| i < most as u64);
        let at = at.ok_or_else(|| {
            malformed(format!(
                "token {token:?} has number {id}, numbers are from 0 to {}",
                most - 1
            ))
        })?;
        put(&mut tokens, at as usize, token)?;
    }
    Ok(tokens)
}

fn put(tokens: &mut Vec<Option<String>>, at: usize, token: &str) -> Result<()> {
    if at >= tokens.len() {
        tokens.resize(at + 1, None);
    }
    match tokens[at].replace(token.into()) {
        Some(other) if other != token => Err(malformed(format!(
            "{other:?} and {token:?} both have number {at}"
        ))),
        _ => Ok(()),
    }
}

fn added(value: &Value, tokens: &mut Vec<Option<String>>) -> Result<Vec<Added>> {
    let none = Vec::new();
    let list = match value {
        Value::Null => &none,
        Value::Array(list) => list,
        _ => return Err(malformed("added_tokens is not a list")),
    };
    let known: std::collections::HashSet<String> = tokens.iter().flatten().cloned().collect();
    let most = most_numbers(tokens.len() + list.len());
    let each = list.iter().map(|entry| {
        let id = entry["id"].as_u64().and_then(|i| u32::try_from(i).ok());
        let id = id.filter(|&i| (i as usize) < most);
        let (Some(content), Some(id)) = (entry["content"].as_str().filter(|c| !c.is_empty()), id)
        else {
            return Err(malformed("an added token has no text or no number"));
        };
        if on(entry, "single_word", false) {
            let had = format!("{content:?} as a single word");
            return Err(unsupported("added token", had, "tokens anywhere in a text"));
        }
        // one of the model's keeps its number, which is compared in the end
        if !known.contains(content) {
            put(tokens, id as usize, content)?;
        }
        Ok(Added {
            content: content.into(),
            id,
            special: on(entry, "special", false),
            normalized: on(entry, "normalized", true),
            left: on(entry, "lstrip", false),
            right: on(entry, "rstrip", false),
        })
    });
    each.collect()
}

fn pairs_of(model: &Value, tokens: &[String]) -> Result<Model> {
    let set = |part: &str| {
        let had = model.get(part).filter(|v| !v.is_null());
        had.filter(|v| v.as_str() != Some("") && v.as_f64() != Some(0.0) && **v != false)
    };
    for (part, known) in [
        ("dropout", "none: the same text must give the same tokens"),
        ("continuing_subword_prefix", "none in BPE on bytes"),
        ("end_of_word_suffix", "none in BPE on bytes"),
        ("byte_fallback", "none in BPE on bytes"),
    ] {
        if let Some(had) = set(part) {
            return Err(unsupported(part, had.to_string(), known));
        }
    }
    let list = model["merges"].as_array();
    let list = list.ok_or_else(|| malformed("its model has no merges"))?;
    // a text, or a list of two since version 0.20
    let pair = |m: &'_ Value| -> Option<(String, String)> {
        match m {
            Value::String(text) => text.split_once(' ').map(|(a, b)| (a.into(), b.into())),
            m => match m.as_array()?.as_slice() {
                [a, b] => Some((a.as_str()?.into(), b.as_str()?.into())),
                _ => None,
            },
        }
    };
    let list: Vec<Option<(String, String)>> = list.iter().map(pair).collect();
    let borrowed = list
        .iter()
        .map(|p| p.as_ref().map(|(a, b)| (&a[..], &b[..])));
    let merges = pairs(tokens, borrowed)?;
    Ok(match on(model, "ignore_merges", false) {
        true => Model::WholeOrPairs(merges),
        false => Model::Pairs(merges),
    })
}

fn pieces(model: &Value, tokens: &[String]) -> Result<Model> {
    for (key, usual) in [
        ("continuing_subword_prefix", Value::from("##")),
        ("max_input_chars_per_word", 100.into()),
    ] {
        let had = model.get(key).filter(|v| **v != usual);
        if let Some(had) = had {
            let part = "WordPiece model's setting";
            return Err(unsupported(
                part,
                format!("{key} {had}"),
                &usual.to_string(),
            ));
        }
    }
    let name = model["unk_token"].as_str();
    let unknown = name.and_then(|n| tokens.iter().position(|t| t == n));
    let unknown = unknown.and_then(|u| u32::try_from(u).ok()).ok_or_else(|| {
        malformed(format!(
            "no token stands for unknown words: unk_token is {}",
            model["unk_token"]
        ))
    })?;
    Ok(Model::Pieces(unknown))
}
