//! How text is cut: by what belongs to a model, whichever file that is.

use crate::error::{Error, Result, named};
use nn::format::{DEFAULT_LIMIT, gguf, llama2c, read_limited};
use std::path::Path;
use tokenizer::{Tokenizer, byte_level};

/// A tokenizer of any kind.
#[derive(Debug)]
pub(super) enum Vocabulary {
    /// `tokenizer.json`, or a GGUF's.
    Published(Box<Tokenizer>),
    /// llama2.c's.
    Pieces(llama2c::Tokenizer),
    /// A run's `alphabet.json`.
    Characters(nn::prompt::Vocabulary),
}

impl Vocabulary {
    /// From a GGUF, a `tokenizer.json` or the folder that holds one, a run's `alphabet.json` or the folder that holds one, or a file of llama2.c.
    pub(super) fn load(path: &Path) -> Result<Self> {
        Self::read(path).map_err(named(path))
    }

    fn read(path: &Path) -> Result<Self> {
        let alphabet = path.join("alphabet.json");
        let named = |name: &str| path.file_name().is_some_and(|n| n == name);
        if named("alphabet.json") || (path.is_dir() && alphabet.exists()) {
            let file = if path.is_dir() { &alphabet } else { path };
            let list: Vec<char> = serde_json::from_slice(&read_limited(file, 16 << 20)?)
                .map_err(|e| Error::from(e.to_string()))?;
            return Ok(Self::Characters(nn::prompt::Vocabulary::Characters(list)));
        }
        if path.is_dir() || path.extension().is_some_and(|e| e == "json") {
            return Ok(Self::Published(Box::new(Tokenizer::load(path)?)));
        }
        let bytes = read_limited(path, DEFAULT_LIMIT)?;
        if !gguf::recognises(&bytes) {
            return Ok(Self::Pieces(llama2c::Tokenizer::from_bytes(&bytes)?));
        }
        let file = gguf::File::read(&bytes)?;
        let v = gguf::vocabulary(&file)?.ok_or("the GGUF holds no vocabulary")?;
        let cut = byte_level::Cut::named(&v.cut)?;
        let tokenizer = byte_level::tokenizer(cut, &v.tokens, &v.merges, &v.special)?;
        Ok(Self::Published(Box::new(tokenizer)))
    }

    /// How many tokens there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Published(t) => t.len(),
            Self::Pieces(t) => t.len(),
            Self::Characters(c) => c.size(),
        }
    }

    /// A text's tokens; llama2.c's begin with its first token.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u16>> {
        let tokens = match self {
            Self::Published(t) => t.encode(text)?,
            Self::Pieces(t) => t.encode(text)?,
            Self::Characters(c) => c.encode(text)?,
        };
        let short = tokens.into_iter().map(u16::try_from);
        short.collect::<std::result::Result<_, _>>().map_err(|_| {
            format!(
                "the vocabulary has {} tokens, 65,536 at most fit what texts are kept in",
                self.len()
            )
            .into()
        })
    }
}

/// A text file.
pub(super) fn text(path: &Path) -> Result<String> {
    let raw = read_limited(path, DEFAULT_LIMIT).map_err(named(path))?;
    String::from_utf8(raw).map_err(|e| named(path)(e.to_string()))
}
