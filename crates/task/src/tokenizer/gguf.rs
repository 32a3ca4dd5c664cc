//! The vocabulary of a GGUF: byte-level pairs in its metadata.

use super::Published;
use crate::error::{Error, Result};
use nn::format::gguf::{File, Value};

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("GGUF", detail)
}

/// The file's vocabulary; None where it has none.
pub(super) fn vocabulary(file: &File<'_>) -> Result<Option<Published>> {
    let fields = file.metadata();
    if !fields.contains_key("tokenizer.ggml.model") {
        return Ok(None);
    }
    file.only("tokenizer.ggml.model", &[Value::Text("gpt2")])?;
    let texts = |key: &str| match fields.get(key) {
        Some(Value::Texts(list)) => Ok(list.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
        _ => Err(malformed(format!("{key} is no list of texts"))),
    };
    let tokens = texts("tokenizer.ggml.tokens")?;
    let merges = texts("tokenizer.ggml.merges")?;
    let special = match fields.get("tokenizer.ggml.token_type") {
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
    let cut = match fields.get("tokenizer.ggml.pre") {
        Some(Value::Text(cut)) => cut,
        None => "gpt-2",
        Some(_) => return Err(malformed("tokenizer.ggml.pre is no text")),
    };
    let begin = file.token("tokenizer.ggml.bos_token_id", tokens.len())?;
    let end = file.token("tokenizer.ggml.eos_token_id", tokens.len())?;
    // llama.cpp puts Llama 3's first token before every text unless the file says otherwise
    let added = |key: &str, usual: bool| match fields.get(key) {
        Some(Value::Bool(on)) => *on,
        _ => usual,
    };
    let before = begin.filter(|_| added("tokenizer.ggml.add_bos_token", cut == "llama-bpe"));
    let behind = end.filter(|_| added("tokenizer.ggml.add_eos_token", false));
    let made = Published::byte_level(cut, tokens, &merges, &special)?;
    let list = |token: Option<u32>| token.into_iter().collect();
    Ok(Some(made.framed(list(before), list(behind))?))
}
