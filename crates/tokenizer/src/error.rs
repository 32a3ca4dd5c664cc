//! Everything that can go wrong in this crate, in the user's units.

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tokenizer's file, a text or a token was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than the limit.
    #[error("{what} takes {had} bytes, at most {limit} are read")]
    TooLarge {
        /// Which file.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        had: u64,
    },
    /// A file is no tokenizer.
    #[error("not a usable tokenizer.json: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A part of a kind that is not read.
    #[error("the tokenizer's {part} is {had}, read are {known}")]
    Unsupported {
        /// Which part of the file.
        part: &'static str,
        /// What it is.
        had: String,
        /// What may stand there.
        known: String,
    },
    /// A number without a token.
    #[error("token {id} of {tokens} has no text; tokens must be numbered from 0 without a gap")]
    Gap {
        /// The number.
        id: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A byte that no token spells: the text would lose it silently.
    #[error(
        "byte 0x{byte:02x} of the text has no token; leave the character out or use a tokenizer with all bytes"
    )]
    Bytes {
        /// The byte.
        byte: u8,
    },
    /// An added token that has another number than the file says.
    #[error("the added token {token:?} should be number {id}, the vocabulary makes it {}", had.map_or("none".into(), |h| h.to_string()))]
    Added {
        /// Its text.
        token: String,
        /// Its number in the file.
        id: u32,
        /// Its number in the vocabulary.
        had: Option<u32>,
    },
    /// A vocabulary, its kinds and its merges don't fit each other.
    #[error("the vocabulary has {needed} tokens, {had} {what} were given")]
    Count {
        /// Which list.
        what: &'static str,
        /// Entries that it must have.
        needed: usize,
        /// Entries that it has.
        had: usize,
    },
    /// A text that can't be cut.
    #[error("the text can't be cut into tokens: {detail}")]
    Encoding {
        /// Why.
        detail: String,
    },
    /// A token that the vocabulary doesn't have.
    #[error(
        "token {token} is unknown, the vocabulary has {vocabulary}; use the tokenizer that belongs to the model"
    )]
    Token {
        /// The token.
        token: u32,
        /// Number of tokens there are.
        vocabulary: usize,
    },
}
