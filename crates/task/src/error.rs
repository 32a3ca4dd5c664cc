//! Everything that can go wrong in this crate, in the user's units.

use nn::Shape;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Bytes that are not what this format says.
    pub(crate) fn malformed(format: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::Malformed { format, detail }
    }

    pub(crate) fn unsupported(part: &'static str, had: &str, known: &str) -> Self {
        Self::Unsupported {
            part,
            had: had.into(),
            known: known.into(),
        }
    }

    /// Refuses more bytes than are read.
    pub(crate) fn check_size(what: &str, limit: u64, had: usize) -> Result<()> {
        let had = had as u64;
        if had > limit {
            let what = what.into();
            return Err(Self::TooLarge { what, limit, had });
        }
        Ok(())
    }

    /// Refuses so many tokens, of which `known` say nothing, where more than the limit or none that say something.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Empty`].
    pub fn check_length(had: usize, known: usize, limit: usize) -> Result<()> {
        match had {
            _ if had > limit => Err(Self::TooLong { had, limit }),
            _ if had <= known => Err(Self::Empty),
            _ => Ok(()),
        }
    }

    /// Refuses names that are not [plain](nn::graph::is_plain).
    pub(crate) fn check_names(what: &'static str, names: &[String]) -> Result<()> {
        match names.iter().position(|name| !nn::graph::is_plain(name)) {
            None => Ok(()),
            Some(at) => Err(Self::Control {
                what,
                number: at + 1,
                name: names[at].clone(),
            }),
        }
    }

    /// Refuses another number of something than is needed.
    pub(crate) fn check_count(what: &'static str, needed: usize, had: usize) -> Result<()> {
        if had != needed {
            return Err(Self::Count { what, needed, had });
        }
        Ok(())
    }
}

/// Why a task, a vocabulary or an input was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or a file that `nn` refuses.
    #[error(transparent)]
    Nn(#[from] nn::Error),
    /// Bytes that are not what they were taken for.
    #[error("not a usable {format}: {detail}")]
    Malformed {
        /// What they were read as.
        format: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A name that a terminal would obey.
    #[error("{what} {number} is {name:?}: names have no control characters; give it a plain one")]
    Control {
        /// What it names.
        what: &'static str,
        /// Its number, from 1.
        number: usize,
        /// The name.
        name: String,
    },
    /// A folder without any file that holds a vocabulary.
    #[error("{folder} holds no vocabulary: vocab.txt, tokenizer.json or alphabet.json")]
    NoVocabulary {
        /// The folder.
        folder: String,
    },
    /// A version that is not read.
    #[error("the {format} has version {had}, {known} is read; make it again with this release")]
    Version {
        /// What it is.
        format: &'static str,
        /// Its version.
        had: u8,
        /// What is read.
        known: u8,
    },
    /// A part of a tokenizer of a kind that is not read.
    #[error("the tokenizer's {part} is {had}; known are {known}")]
    Unsupported {
        /// Which part.
        part: &'static str,
        /// What it is.
        had: String,
        /// What may stand there.
        known: String,
    },
    /// Larger than the limit.
    #[error("{what} takes {had} bytes, at most {limit} are read")]
    TooLarge {
        /// What.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        had: u64,
    },
    /// Two counts that must be equal.
    #[error("{what}: {needed} needed, {had} given")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there must be.
        needed: usize,
        /// How many there are.
        had: usize,
    },
    /// The task is not one of this network.
    #[error("the network's {what} has shape {had}, {kind} need {needed}")]
    Network {
        /// Input or output.
        what: &'static str,
        /// What the task is about.
        kind: &'static str,
        /// What fits.
        needed: String,
        /// The network's.
        had: Shape,
    },
    /// An input of another kind.
    #[error("the network takes {needed}, {had} was given")]
    Kind {
        /// What it takes.
        needed: &'static str,
        /// What was given.
        had: &'static str,
    },
    /// A number that is not finite.
    #[error("{column} is {value}; all values must be finite")]
    Value {
        /// Where.
        column: String,
        /// NaN or an infinity.
        value: f64,
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
    /// This byte is spelled by no token: the text would lose it silently.
    #[error(
        "byte 0x{0:02x} of the text has no token; leave the character out or use a tokenizer with all bytes"
    )]
    Encoding(u8),
    /// A character that no token stands for.
    #[error(
        "the character {character:?} has no token, the model knows {known} characters; leave it out or write another"
    )]
    Character {
        /// The character.
        character: char,
        /// How many there are.
        known: usize,
    },
    /// A text of nothing.
    #[error("the text holds no token to encrypt; write at least one character")]
    Empty,
    /// A text is longer than the network takes.
    #[error("a text of {had} tokens is too long, at most {limit} are possible; shorten it")]
    TooLong {
        /// Its length.
        had: usize,
        /// The longest possible.
        limit: usize,
    },
    /// A picture doesn't have the size that the network takes.
    #[error("the picture is {}×{} pixels, the network takes {}×{}; scale it beforehand or ask for resizing explicitly", had.0, had.1, needed.0, needed.1)]
    PictureSize {
        /// Width and height of the network's input.
        needed: (usize, usize),
        /// Width and height of the picture.
        had: (usize, usize),
    },
    /// What is said of a normalisation does not fit.
    #[error("{0}")]
    Normalization(String),
    /// A network of this input doesn't take pictures.
    #[error("the network takes an input of shape {0}, which is no picture with 1 or 3 channels")]
    NoPicture(Shape),
}
