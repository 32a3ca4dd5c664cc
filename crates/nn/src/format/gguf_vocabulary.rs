//! The vocabulary that a GGUF holds beside its model.

use super::gguf::{File, Value, malformed};
use crate::Result;

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

/// The file's vocabulary; None where it has none.
///
/// # Errors
/// [`Error::Malformed`] for one that is no byte-level BPE, or whose parts don't fit each other.
pub fn vocabulary(file: &File<'_>) -> Result<Option<Vocabulary>> {
    if !file.metadata().contains_key("tokenizer.ggml.model") {
        return Ok(None);
    }
    file.only("tokenizer.ggml.model", &[Value::Text("gpt2")])?;
    let texts = |key: &str| match file.metadata().get(key) {
        Some(Value::Texts(list)) => Ok(list.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
        _ => Err(malformed(format!("{key} is no list of texts"))),
    };
    let tokens = texts("tokenizer.ggml.tokens")?;
    let merges = texts("tokenizer.ggml.merges")?;
    let special = match file.metadata().get("tokenizer.ggml.token_type") {
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
    let cut = match file.metadata().get("tokenizer.ggml.pre") {
        Some(Value::Text(cut)) => (*cut).into(),
        None => "gpt-2".into(),
        Some(_) => return Err(malformed("tokenizer.ggml.pre is no text")),
    };
    let n = tokens.len();
    Ok(Some(Vocabulary {
        cut,
        merges,
        special,
        begin: file.token("tokenizer.ggml.bos_token_id", n)?,
        end: file.token("tokenizer.ggml.eos_token_id", n)?,
        tokens,
    }))
}
