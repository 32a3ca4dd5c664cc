//! From a prompt's text to a language model's input, and from its logits to text: the client's half of a polynomial language model.
//!
//! A [`PromptFormat`] goes with the network in its `.pvm` ([`Metadata::prompts`](crate::Metadata)), from there into plans and client keys. A
//! prompt shorter than the network's length is filled up with the end of a passage that calibration saw: what stands behind a prompt is
//! nothing to causal attention, but it has to stay within the calibrated ranges, since one value that outgrows its modulus spoils its whole
//! ciphertext. The passages are also what a plan's error is estimated on.

use crate::Result;
use crate::error::Error;
use crate::format::llama2c::{BEGIN, Tokenizer};
use crate::lower::after_first;
use crate::tensor::{Parameter, Shape, Tensor};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "prompt description";
const VERSION: u32 = 1;
/// Most tokens of a prompt.
const LENGTH_LIMIT: usize = 1 << 16;
/// Most passages.
const PASSAGES_LIMIT: usize = 64;
/// Most numbers of an embedding: it is kept in a client's key as text.
const EMBEDDING_LIMIT: usize = 1 << 22;

/// How text is cut into tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Vocabulary {
    /// By a tokenizer.
    Pieces(Tokenizer),
    /// By characters; a token is a character's place in this list.
    Characters(Vec<char>),
}

impl Vocabulary {
    /// Number of tokens.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Pieces(t) => t.len(),
            Self::Characters(c) => c.len(),
        }
    }

    /// The tokens of a text; a tokenizer's begin with [`BEGIN`].
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Pieces(t) => t.encode(text),
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

    /// The text of tokens.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        match self {
            Self::Pieces(t) => t.decode(tokens),
            Self::Characters(list) => tokens
                .iter()
                .map(|&token| {
                    list.get(token as usize).copied().ok_or(Error::Token {
                        token,
                        vocabulary: list.len(),
                    })
                })
                .collect(),
        }
    }

    /// One token as people read it: quoted, with its spaces.
    #[must_use]
    pub fn show(&self, token: u32) -> String {
        match self {
            Self::Pieces(t) => match t.piece(token) {
                Some(piece) => format!("{:?}", String::from_utf8_lossy(piece)),
                None => format!("token {token}"),
            },
            Self::Characters(list) => match list.get(token as usize) {
                Some(c) => format!("{:?}", c.to_string()),
                None => format!("token {token}"),
            },
        }
    }
}

/// What a client knows of a language model: vocabulary, embedding, passages of its length, the first of which fills short prompts up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct PromptFormat {
    vocabulary: Vocabulary,
    embedding: Parameter,
    begin: Option<u32>,
    passages: Vec<Vec<u32>>,
}

impl PromptFormat {
    /// For prompts of as many tokens as the passages have, which all begin with the public token `begin` if there is one; `embedding` is
    /// `(V, D)`.
    ///
    /// # Errors
    /// [`Error::Count`] where vocabulary, embedding and length don't fit each other, [`Error::Token`], [`Error::TooLarge`];
    /// [`Error::Malformed`] for passages of different lengths or that don't begin with the public token, or one that is not the tokenizer's own.
    pub fn new(
        vocabulary: Vocabulary,
        embedding: Parameter,
        begin: Option<u32>,
        passages: Vec<Vec<u32>>,
    ) -> Result<Self> {
        let malformed = |detail: String| Error::Malformed {
            format: FORMAT,
            detail,
        };
        let &[rows, width] = embedding.shape() else {
            return Err(malformed(format!(
                "an embedding of shape {:?}, which is not (tokens, channels)",
                embedding.shape()
            )));
        };
        if rows != vocabulary.size() {
            return Err(Error::Count {
                what: "tokens of the vocabulary (does the tokenizer belong to the model?)",
                needed: rows,
                had: vocabulary.size(),
            });
        }
        if width == 0 || rows.saturating_mul(width) > EMBEDDING_LIMIT {
            return Err(Error::TooLarge {
                what: "the embedding, which every client key holds,".into(),
                limit: 4 * EMBEDDING_LIMIT as u64,
                had: 4 * (rows as u64).saturating_mul(width as u64),
            });
        }
        let least = 1 + usize::from(begin.is_some());
        let length = passages.first().map_or(0, Vec::len);
        if length < least || length > LENGTH_LIMIT || passages.len() > PASSAGES_LIMIT {
            return Err(malformed(format!(
                "{} passages of {length} tokens; 1 to {PASSAGES_LIMIT} of {least} to {LENGTH_LIMIT} tokens are possible",
                passages.len()
            )));
        }
        if let Some(other) = passages.iter().find(|p| p.len() != length) {
            return Err(malformed(format!(
                "passages of {length} and of {} tokens; all must have the same number",
                other.len()
            )));
        }
        let known = |&&token: &&u32| token as usize >= rows;
        if let Some(&token) = passages.iter().flatten().chain(&begin).find(known) {
            return Err(Error::Token {
                token,
                vocabulary: rows,
            });
        }
        if let Some(begin) = begin {
            if let Some(other) = passages.iter().find(|p| p[0] != begin) {
                return Err(malformed(format!(
                    "a passage that begins with token {}, not with the public token {begin}",
                    other[0]
                )));
            }
            if matches!(vocabulary, Vocabulary::Pieces(_)) && begin != BEGIN {
                return Err(malformed(format!(
                    "{begin} as the public first token: its tokenizer begins every text with {BEGIN}"
                )));
            }
        }
        Ok(Self {
            vocabulary,
            embedding,
            begin,
            passages,
        })
    }

    /// How text is cut.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Most tokens of a prompt, the public first one included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.passages[0].len()
    }

    /// Passages of its length that calibration saw.
    #[must_use]
    pub fn passages(&self) -> &[Vec<u32>] {
        &self.passages
    }

    /// How many tokens at the beginning are public and not encrypted: 0 or 1.
    #[must_use]
    pub fn public(&self) -> usize {
        usize::from(self.begin.is_some())
    }

    /// Channels of a token.
    #[must_use]
    pub fn width(&self) -> usize {
        self.embedding.shape()[1]
    }

    /// The public first token's embedding.
    #[must_use]
    pub fn begin(&self) -> Option<Vec<f64>> {
        self.begin.map(|token| self.row(token).collect())
    }

    fn row(&self, token: u32) -> impl Iterator<Item = f64> {
        let width = self.width();
        let row = &self.embedding.values()[token as usize * width..][..width];
        row.iter().copied().map(f64::from)
    }

    /// A prompt's tokens, the public first one included.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token, [`Error::TooLong`], [`Error::NoPrompt`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.tokens(text)?;
        self.check(&tokens)?;
        Ok(tokens)
    }

    /// A text's tokens, the public first one included, however many.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.vocabulary.encode(text)?;
        if let (Some(begin), Vocabulary::Characters(_)) = (self.begin, &self.vocabulary) {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.length() {
            return Err(Error::TooLong {
                had: tokens.len(),
                limit: self.length(),
            });
        }
        if tokens.len() <= self.public() {
            return Err(Error::NoPrompt);
        }
        Ok(())
    }

    /// These tokens, then the first passage's from there on.
    #[must_use]
    pub fn padded(&self, tokens: &[u32]) -> Vec<u32> {
        let rest = self.passages[0].iter().skip(tokens.len());
        tokens.iter().chain(rest).copied().collect()
    }

    /// What is encrypted of a prompt: its embedded tokens after the public one, `(D, 1, L)`, filled up.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TooLong`], [`Error::NoPrompt`]; [`Error::Malformed`] for one that does not begin with the public token.
    pub fn input(&self, tokens: &[u32]) -> Result<Tensor> {
        after_first(&self.embed(tokens)?, self.public())
    }

    /// The whole embedded prompt `(D, 1, L)`, filled up, the public first token included.
    ///
    /// # Errors
    /// Those of [`PromptFormat::input`].
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check(tokens)?;
        if self.begin.is_some_and(|b| tokens[0] != b) {
            return Err(Error::Malformed {
                format: FORMAT,
                detail: format!(
                    "a prompt begins with token {}, not with the public one",
                    tokens[0]
                ),
            });
        }
        let (length, vocabulary) = (self.length(), self.vocabulary.size());
        let mut x = vec![0.0; self.width() * length];
        for (t, token) in self.padded(tokens).into_iter().enumerate() {
            if token as usize >= vocabulary {
                return Err(Error::Token { token, vocabulary });
            }
            for (c, v) in self.row(token).enumerate() {
                x[c * length + t] = v;
            }
        }
        Tensor::new(Shape::image(self.width(), 1, length), x)
    }

    /// The logits of a position (from 0, the public token's not counted) in an answer `(V, 1, L)`; None beyond its end.
    #[must_use]
    pub fn logits_at(&self, answer: &[f64], position: usize) -> Option<Vec<f64>> {
        let width = self.length() - self.public();
        let fits = answer.len() == width * self.vocabulary.size() && position < width;
        fits.then(|| {
            answer
                .iter()
                .skip(position)
                .step_by(width)
                .copied()
                .collect()
        })
    }

    /// As plans and client keys carry it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("plain data is always JSON")
    }

    /// From what [`PromptFormat::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such description, or its numbers don't fit each other.
    pub fn from_json(value: &serde_json::Value) -> Result<Self> {
        Self::deserialize(value).map_err(|e| Error::Malformed {
            format: FORMAT,
            detail: e.to_string(),
        })
    }

    /// Whether a network from inputs of this shape to outputs of that is one for such prompts.
    ///
    /// # Errors
    /// [`Error::Count`].
    pub fn check_network(&self, input: Shape, output: Shape) -> Result<()> {
        let positions = self.length() - self.public();
        for (what, had, needed) in [
            ("embedded tokens", input, self.width()),
            ("logits of all positions", output, self.vocabulary.size()),
        ] {
            if had != Shape::image(needed, 1, positions) {
                return Err(Error::Count {
                    what,
                    needed: needed * positions,
                    had: had.len(),
                });
            }
        }
        Ok(())
    }
}

/// As files have it. Bytes are in hexadecimal: exact, and twice as fast to read as numbers in decimal.
#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    vocabulary: StoredVocabulary,
    width: usize,
    /// Single precision, the low byte first.
    embedding: String,
    begin: Option<u32>,
    passages: Vec<Vec<u32>>,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
enum StoredVocabulary {
    /// The bytes of llama2.c's file.
    Tokenizer(String),
    Characters(Vec<char>),
}

pub(crate) fn to_hex(bytes: impl IntoIterator<Item = u8>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |d: u8| char::from(DIGITS[usize::from(d & 15)]);
    let bytes = bytes.into_iter();
    bytes.flat_map(|b| [digit(b >> 4), digit(b)]).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |d: u8| {
        let value = char::from(d).to_digit(16)?;
        u8::try_from(value).ok()
    };
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect();
    bytes.filter(|_| rest.is_empty())
}

impl From<PromptFormat> for Stored {
    fn from(p: PromptFormat) -> Self {
        let width = p.width();
        let numbers = p.embedding.values().iter();
        Self {
            version: VERSION,
            vocabulary: match p.vocabulary {
                Vocabulary::Pieces(t) => StoredVocabulary::Tokenizer(to_hex(t.to_bytes())),
                Vocabulary::Characters(c) => StoredVocabulary::Characters(c),
            },
            width,
            embedding: to_hex(numbers.flat_map(|v| v.to_le_bytes())),
            begin: p.begin,
            passages: p.passages,
        }
    }
}

impl TryFrom<Stored> for PromptFormat {
    type Error = Error;

    fn try_from(s: Stored) -> Result<Self> {
        if s.version != VERSION {
            return Err(Error::Version {
                format: FORMAT,
                had: s.version.to_string(),
                known: "1",
            });
        }
        let bytes = |what: &str, text: &str| {
            from_hex(text).ok_or_else(|| Error::Malformed {
                format: FORMAT,
                detail: format!("its {what} is not hexadecimal"),
            })
        };
        let vocabulary = match s.vocabulary {
            StoredVocabulary::Tokenizer(text) => {
                Vocabulary::Pieces(Tokenizer::from_bytes(&bytes("tokenizer", &text)?)?)
            }
            StoredVocabulary::Characters(list) => Vocabulary::Characters(list),
        };
        let raw = bytes("embedding", &s.embedding)?;
        let (numbers, rest) = raw.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Error::Malformed {
                format: FORMAT,
                detail: "its embedding is no whole number of values".into(),
            });
        }
        let values: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let shape = [vocabulary.size(), s.width];
        let embedding = Parameter::new("embedding", shape, values)?;
        Self::new(vocabulary, embedding, s.begin, s.passages)
    }
}
