//! Text to tokens and back as published models cut it: `tokenizer.json` of Hugging Face, and the byte-level pairs of a GGUF's vocabulary.
//!
//! The cutting is the crate `tokenizers`', which made these files in the first place. Here is what stands before it, since a file comes
//! from outside: its size is limited, only the kinds that are listed in [`check`] are taken, and what would make the same text give
//! different tokens twice (dropout), or cut and pad sequences by itself is refused or switched off.
//!
//! Modules in reading order: [`check`] (what a file may hold), [`byte_level`] (a `tokenizer.json` of a vocabulary and its merges), [`error`].
//!
//! The crate knows nothing of networks. It is apart from `nn` because `tokenizers` and the 40 crates that come with it alone take some 70 CPU seconds to build,
//! which who never reads such a file should not wait for.

pub mod byte_level;
pub mod check;
pub mod error;

pub use error::{Error, Result};

use std::path::Path;

/// Files of more bytes are refused: 64 MiB.
pub const LIMIT: u64 = 64 << 20;

/// A tokenizer of a published model.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    len: usize,
    /// Bytes that no token spells.
    missing: Vec<u8>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.len)
    }
}

/// Two tokenizers are the same when their files are.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Tokenizer {
    /// From the text of a `tokenizer.json`. Truncation and padding that it asks for are switched off: lengths are the caller's.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`], [`Error::Unsupported`], [`Error::Gap`], [`Error::Added`].
    pub fn from_json(json: &str) -> Result<Self> {
        if json.len() as u64 > LIMIT {
            return Err(Error::TooLarge {
                what: "tokenizer.json".into(),
                limit: LIMIT,
                had: json.len() as u64,
            });
        }
        let malformed = |detail: String| Error::Malformed { detail };
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        let checked = check::file(value)?;
        let stripped = checked.json.to_string();
        let inner: tokenizers::Tokenizer =
            stripped.parse().map_err(|e| malformed(format!("{e}")))?;
        let len = inner.get_vocab_size(true);
        for id in 0..len {
            let known = u32::try_from(id).ok().and_then(|i| inner.id_to_token(i));
            if known.is_none() {
                return Err(Error::Gap { id, tokens: len });
            }
        }
        if let Some(&token) = checked.framing.iter().find(|&&t| t >= len as u64) {
            return Err(Error::Malformed {
                detail: format!("it puts token {token} around texts, the vocabulary has {len}"),
            });
        }
        for (content, id) in &checked.added {
            let had = inner.token_to_id(content);
            if had != Some(*id) {
                return Err(Error::Added {
                    token: content.clone(),
                    id: *id,
                    had,
                });
            }
        }
        Ok(Self {
            inner,
            json: stripped,
            len,
            missing: checked.missing,
        })
    }

    /// From a file `tokenizer.json`, or from the one in a folder.
    ///
    /// # Errors
    /// [`Error::Io`] with the path, and those of [`Tokenizer::from_json`].
    pub fn load(path: &Path) -> Result<Self> {
        let path = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.into()
        };
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let had = std::fs::metadata(&path).map_err(io)?.len();
        if had > LIMIT {
            return Err(Error::TooLarge {
                what: path.display().to_string(),
                limit: LIMIT,
                had,
            });
        }
        Self::from_json(&std::fs::read_to_string(&path).map_err(io)?)
    }

    /// The text of its `tokenizer.json`, without truncation and padding: what [`Tokenizer::from_json`] reads.
    #[must_use]
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// Number of tokens, added ones included; they are numbered from 0 without a gap.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The tokens of a text and nothing around them. Special tokens that are written out in the text are taken for such, as Hugging Face's
    /// readers do.
    ///
    /// # Errors
    /// [`Error::Bytes`] for a byte that the vocabulary can't spell, [`Error::Encoding`] where its model refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.cut(text, false)
    }

    /// The tokens of a text with what the file puts around a sequence (BERT: `[CLS]` before, `[SEP]` behind).
    ///
    /// # Errors
    /// [`Error::Bytes`] for a byte that the vocabulary can't spell, [`Error::Encoding`] where its model refuses.
    pub fn sequence(&self, text: &str) -> Result<Vec<u32>> {
        self.cut(text, true)
    }

    fn cut(&self, text: &str, whole: bool) -> Result<Vec<u32>> {
        if let Some(byte) = text.bytes().find(|b| self.missing.contains(b)) {
            return Err(Error::Bytes { byte });
        }
        let encoding = self
            .inner
            .encode_fast(text, whole)
            .map_err(|e| Error::Encoding {
                detail: e.to_string(),
            })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, special ones left out. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that there isn't.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        if let Some(&token) = tokens.iter().find(|&&t| t as usize >= self.len) {
            return Err(Error::Token {
                token,
                vocabulary: self.len,
            });
        }
        self.inner
            .decode(tokens, true)
            .map_err(|e| Error::Encoding {
                detail: e.to_string(),
            })
    }

    /// A token as people read it, special ones by their names.
    #[must_use]
    pub fn piece(&self, token: u32) -> Option<String> {
        let name = self.inner.id_to_token(token)?;
        match self.inner.decode(&[token], false) {
            Ok(text) if !text.is_empty() => Some(text),
            _ => Some(name),
        }
    }

    /// The token of this name, such as `[CLS]` or `<|endoftext|>`.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }
}
