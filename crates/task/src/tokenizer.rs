//! Text to tokens and back: one type for the tokenizers of all kinds of models.

mod cut;
mod gguf;
mod json;
pub mod llama2c;
pub mod published;
pub mod wordpiece;

pub use json::LIMIT;
pub use llama2c::Scored;
pub use published::Published;
pub use wordpiece::WordPiece;

use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use nn::format::read_limited;
use std::path::Path;
use std::sync::Arc;

/// A tokenizer of any kind. Copies share what is large.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Tokenizer {
    /// By characters; a token is a character's place in this list.
    Characters(Vec<char>),
    /// llama2.c's.
    Scored(Arc<Scored>),
    /// A `vocab.txt` of BERT's kind.
    WordPiece(Arc<WordPiece>),
    /// Of a `tokenizer.json` of Hugging Face or a GGUF.
    Published(Arc<Published>),
}

/// What is done with a text that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Long {
    /// It is refused.
    Refuse,
    /// Its first tokens are taken, and what ends a sequence.
    Cut,
}

impl From<WordPiece> for Tokenizer {
    fn from(t: WordPiece) -> Self {
        Self::WordPiece(Arc::new(t))
    }
}

impl From<Scored> for Tokenizer {
    fn from(t: Scored) -> Self {
        Self::Scored(Arc::new(t))
    }
}

impl From<Published> for Tokenizer {
    fn from(t: Published) -> Self {
        Self::Published(Arc::new(t))
    }
}

impl Tokenizer {
    /// From a file, told by its content: a GGUF with a vocabulary, `tokenizer.json`, a list of characters (`alphabet.json`), `vocab.txt`, or
    /// llama2.c's file. In a folder `alphabet.json` is looked for first, then `tokenizer.json`, then `vocab.txt`.
    ///
    /// # Errors
    /// [`Error::Nn`] for a file that can't be read or is too large, [`Error::NoVocabulary`] for a folder that has none of them, and what the kind's reader refuses.
    pub fn load(path: &Path) -> Result<Self> {
        let names = ["alphabet.json", "tokenizer.json", "vocab.txt"];
        let found = names.map(|n| path.join(n)).into_iter().find(|p| p.exists());
        let path = match found {
            Some(file) => file,
            None if path.is_dir() => {
                return Err(Error::NoVocabulary {
                    folder: path.display().to_string(),
                });
            }
            None => path.into(),
        };
        let bytes = read_limited(&path, nn::format::DEFAULT_LIMIT)?;
        if nn::format::gguf::recognises(&bytes) {
            let file = nn::format::gguf::File::read(&bytes)?;
            return Self::of_gguf(&file)?
                .ok_or_else(|| Error::malformed("GGUF", "it holds no vocabulary"));
        }
        Error::check_size(&path.display().to_string(), LIMIT, bytes.len())?;
        Self::from_bytes(&bytes)
    }

    /// From the bytes of any file but a GGUF, told by its content.
    ///
    /// # Errors
    /// What the kind's reader refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Ok(Scored::from_bytes(bytes)?.into());
        };
        match text.trim_start().chars().next() {
            Some('{') => Ok(Published::from_json(text)?.into()),
            // "[PAD]" is no list either
            Some('[') if !text.contains("[UNK]") => {
                let list = serde_json::from_str(text)
                    .map_err(|e| Error::malformed("alphabet.json", e.to_string()));
                Ok(Self::Characters(list?))
            }
            _ if text.contains("[UNK]") => Ok(WordPiece::from_text(text)?.into()),
            _ => Ok(Scored::from_bytes(bytes)?.into()),
        }
    }

    /// A GGUF's vocabulary; None where it has none.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that is no byte-level BPE or whose parts don't fit each other, [`Error::Unsupported`] for an unknown way of cutting.
    pub fn of_gguf(file: &nn::format::gguf::File<'_>) -> Result<Option<Self>> {
        Ok(gguf::vocabulary(file)?.map(Into::into))
    }

    /// Number of tokens.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a model without tokens is refused"
    )]
    pub fn len(&self) -> usize {
        match self {
            Self::Characters(c) => c.len(),
            Self::Scored(t) => t.len(),
            Self::WordPiece(t) => t.len(),
            Self::Published(t) => t.len(),
        }
    }

    /// Refuses an embedding of another number of rows. It may have more than a published tokenizer has tokens: models round their number up.
    pub(crate) fn check_rows(&self, rows: usize) -> Result<()> {
        if matches!(self, Self::Published(_)) && self.len() < rows {
            return Ok(());
        }
        let what = "tokens of the vocabulary (does the tokenizer belong to the model?)";
        Error::check_count(what, rows, self.len())
    }

    /// The tokens of a text and nothing around them.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Self::Published(t) = self {
            return t.encode(text);
        }
        let [before, behind] = self.frame().map(|f| f.len());
        let mut tokens = self.sequence(text)?;
        tokens.truncate(tokens.len() - behind);
        tokens.drain(..before);
        Ok(tokens)
    }

    /// The tokens of a text with what the model has around a sequence ([`Tokenizer::frame`]).
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token.
    pub fn sequence(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Scored(t) => t.encode(text),
            Self::WordPiece(t) => Ok(t.encode(text)),
            Self::Published(t) => {
                let [before, behind] = t.frame();
                Ok([before, &t.encode(text)?[..], behind].concat())
            }
            Self::Characters(list) => text
                .chars()
                .map(|character| {
                    let token = list.iter().position(|&c| c == character);
                    let token = token.and_then(|t| u32::try_from(t).ok());
                    token.ok_or(Error::Character {
                        character,
                        known: list.len(),
                    })
                })
                .collect(),
        }
    }

    /// The tokens of a text as [`Tokenizer::sequence`] has them, at most so many; whether they were cut.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a longer text that is not to be cut, [`Error::Encoding`], [`Error::Character`].
    pub fn within(&self, text: &str, length: usize, long: Long) -> Result<(Vec<u32>, bool)> {
        let mut tokens = self.sequence(text)?;
        let (had, limit) = (tokens.len(), length);
        match long {
            _ if had <= limit => return Ok((tokens, false)),
            Long::Refuse => return Err(Error::TooLong { had, limit }),
            Long::Cut => {}
        }
        let [_, behind] = self.frame();
        tokens.truncate(length.saturating_sub(behind.len()));
        tokens.extend(behind);
        Ok((tokens, true))
    }

    /// The tokens before and behind a sequence.
    #[must_use]
    pub fn frame(&self) -> [Vec<u32>; 2] {
        match self {
            Self::Characters(_) => [Vec::new(), Vec::new()],
            Self::Scored(_) => [vec![llama2c::BEGIN], Vec::new()],
            Self::WordPiece(t) => [vec![t.begin()], vec![t.end()]],
            Self::Published(t) => t.frame().clone(),
        }
    }

    /// What fills short sentences up, in a vocabulary that has it: `[PAD]` or `<pad>`.
    #[must_use]
    pub fn padding(&self) -> Option<u32> {
        match self {
            Self::WordPiece(t) => Some(t.padding()),
            Self::Published(t) => t.token("[PAD]").or_else(|| t.token("<pad>")),
            Self::Characters(_) | Self::Scored(_) => None,
        }
    }

    /// What stands for a token to be guessed, in a vocabulary that has it: `[MASK]` or `<mask>`.
    #[must_use]
    pub fn mask(&self) -> Option<u32> {
        match self {
            Self::WordPiece(t) => Some(t.mask()),
            Self::Published(t) => t.token("[MASK]").or_else(|| t.token("<mask>")),
            Self::Characters(_) | Self::Scored(_) => None,
        }
    }

    /// The text of tokens; special ones are none.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let unknown = |token| Error::Token {
            token,
            vocabulary: self.len(),
        };
        match self {
            Self::Scored(t) => t.decode(tokens),
            Self::Published(t) => t.decode(tokens),
            Self::WordPiece(t) => {
                let mut text = String::new();
                for &token in tokens {
                    let piece = t.piece(token).ok_or_else(|| unknown(token))?;
                    if !t.is_special(token) {
                        wordpiece::join(&mut text, piece);
                    }
                }
                Ok(text)
            }
            Self::Characters(list) => tokens
                .iter()
                .map(|&token| {
                    list.get(token as usize)
                        .copied()
                        .ok_or_else(|| unknown(token))
                })
                .collect(),
        }
    }

    /// One token as people read it: quoted, with its spaces.
    #[must_use]
    pub fn show(&self, token: u32) -> String {
        let text = match self {
            Self::Scored(t) => t.piece(token).map(|p| String::from_utf8_lossy(p).into()),
            Self::WordPiece(t) => t.piece(token).map(String::from),
            Self::Published(t) => t.piece(token),
            Self::Characters(list) => list.get(token as usize).map(char::to_string),
        };
        text.map_or_else(|| format!("token {token}"), |t| format!("{t:?}"))
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        match self {
            Self::Characters(list) => {
                w.u8(0);
                w.bytes(list.iter().collect::<String>().as_bytes());
            }
            Self::Scored(t) => {
                w.u8(1);
                w.bytes(&t.to_bytes());
            }
            Self::WordPiece(t) => {
                w.u8(2);
                w.bytes(t.to_text().as_bytes());
            }
            Self::Published(t) => {
                w.u8(3);
                t.write(w);
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        match r.u8()? {
            0 => Ok(Self::Characters(r.text()?.chars().collect())),
            1 => Ok(Scored::from_bytes(r.bytes()?)?.into()),
            2 => Ok(WordPiece::from_text(&r.text()?)?.into()),
            3 => Ok(Published::read(r)?.into()),
            other => Err(r.unknown("kind of tokenizer", other)),
        }
    }
}
