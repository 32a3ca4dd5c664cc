//! From a sentence's text to an encoder's input: the client's half of a polynomial encoder that classifies.
//!
//! A [`SentenceFormat`] goes with the network in its `.pvm` ([`Metadata::sentences`](crate::Metadata)), from there into plans and client keys. The
//! client looks tokens up, adds positions, normalises, and marks what is no padding; all of it is encrypted, the number of tokens with it. A
//! few sentences of calibration are kept, on which a plan's error is estimated.

use crate::Result;
use crate::error::Error;
use crate::op::{Norm, NormKind};
use crate::prompt::{from_hex, to_hex};
use crate::tensor::{Parameter, Shape, Tensor};
use crate::wordpiece::WordPiece;
use serde::{Deserialize, Serialize};

const FORMAT: &str = "sentence description";
const KIND: &str = "sentences";
const VERSION: u32 = 1;
/// Most tokens of a sentence.
const LENGTH_LIMIT: usize = 1 << 12;
/// Most sentences of calibration.
const EXAMPLES_LIMIT: usize = 64;
/// Most numbers of the embeddings: they are kept in a client's key as text.
const EMBEDDING_LIMIT: usize = 1 << 22;

/// What a client knows of an encoder: vocabulary, embeddings with their norm, the length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct SentenceFormat {
    vocabulary: WordPiece,
    words: Parameter,
    positions: Parameter,
    norm: Norm,
    examples: Vec<Vec<u32>>,
}

fn malformed(detail: String) -> Error {
    Error::Malformed {
        format: FORMAT,
        detail,
    }
}

impl SentenceFormat {
    /// From its parts: vocabulary, embeddings of tokens `(V, D)` and of positions `(L, D)`, their norm, sentences of calibration.
    ///
    /// # Errors
    /// [`Error::Count`] where vocabulary and embeddings differ, [`Error::TooLarge`], [`Error::Token`], [`Error::Malformed`].
    pub fn new(
        vocabulary: WordPiece,
        words: Parameter,
        positions: Parameter,
        norm: Norm,
        examples: Vec<Vec<u32>>,
    ) -> Result<Self> {
        let (&[rows, width], &[length, other]) = (words.shape(), positions.shape()) else {
            return Err(malformed("its embeddings are not (rows, channels)".into()));
        };
        if rows != vocabulary.len() {
            return Err(Error::Count {
                what: "tokens of the vocabulary (does vocab.txt belong to the model?)",
                needed: rows,
                had: vocabulary.len(),
            });
        }
        let bias = norm.bias.as_ref().map_or(0, |b| b.values().len());
        for (what, had) in [
            ("channels of positions", other),
            ("scales of the embeddings' norm", norm.scale.values().len()),
            ("shifts of the embeddings' norm", bias),
        ] {
            if had != width {
                return Err(Error::Count {
                    what,
                    needed: width,
                    had,
                });
            }
        }
        if !(norm.epsilon.is_finite() && norm.epsilon > 0.0) {
            return Err(malformed(format!("an ε of {}", norm.epsilon)));
        }
        if !(3..=LENGTH_LIMIT).contains(&length) || examples.len() > EXAMPLES_LIMIT {
            return Err(malformed(format!(
                "{length} tokens and {} examples; 3 to {LENGTH_LIMIT} tokens and {EXAMPLES_LIMIT} examples are possible",
                examples.len()
            )));
        }
        let size = (rows + length).saturating_mul(width);
        if width == 0 || size > EMBEDDING_LIMIT {
            return Err(Error::TooLarge {
                what: "the embedding, which every client key holds,".into(),
                limit: 4 * EMBEDDING_LIMIT as u64,
                had: 4 * size as u64,
            });
        }
        let out = Self {
            vocabulary,
            words,
            positions,
            norm,
            examples,
        };
        for example in &out.examples {
            out.check(example)?;
        }
        Ok(out)
    }

    /// How text is cut.
    #[must_use]
    pub fn vocabulary(&self) -> &WordPiece {
        &self.vocabulary
    }

    /// Most tokens of a sentence, `[CLS]` and `[SEP]` included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.positions.shape()[0]
    }

    /// Channels of a token.
    #[must_use]
    pub fn width(&self) -> usize {
        self.words.shape()[1]
    }

    /// Sentences that calibration saw.
    #[must_use]
    pub fn examples(&self) -> &[Vec<u32>] {
        &self.examples
    }

    /// A sentence's tokens.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::NoPrompt`] for a text without words.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.vocabulary.encode(text);
        if tokens.len() < 3 {
            return Err(Error::NoPrompt);
        }
        self.check(&tokens)?;
        Ok(tokens)
    }

    /// As [`SentenceFormat::encode`], a longer sentence cut to its first tokens and `[SEP]`; whether it was.
    ///
    /// # Errors
    /// [`Error::NoPrompt`].
    pub fn encode_cut(&self, text: &str) -> Result<(Vec<u32>, bool)> {
        let mut tokens = self.vocabulary.encode(text);
        if tokens.len() < 3 {
            return Err(Error::NoPrompt);
        }
        let long = tokens.len() > self.length();
        if long {
            tokens.truncate(self.length() - 1);
            tokens.push(self.vocabulary.end());
        }
        Ok((tokens, long))
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.len() > self.length() {
            return Err(Error::TooLong {
                had: tokens.len(),
                limit: self.length(),
            });
        }
        if tokens.is_empty() {
            return Err(Error::NoPrompt);
        }
        let vocabulary = self.vocabulary.len();
        match tokens.iter().find(|&&t| t as usize >= vocabulary) {
            Some(&token) => Err(Error::Token { token, vocabulary }),
            None => Ok(()),
        }
    }

    /// What is encrypted of a sentence: `(D + 1, 1, L)`, its embedded tokens normalised and filled up with padding, and marks of what is none.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TooLong`], [`Error::NoPrompt`].
    pub fn input(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check(tokens)?;
        let (width, length) = (self.width(), self.length());
        let mut x = vec![0.0; (width + 1) * length];
        for t in 0..length {
            let token = tokens.get(t).copied().unwrap_or(self.vocabulary.padding());
            let word = &self.words.values()[token as usize * width..][..width];
            let position = &self.positions.values()[t * width..][..width];
            for (c, (w, p)) in word.iter().zip(position).enumerate() {
                // positions are kept with the token type added, in single precision
                x[c * length + t] = f64::from(*w) + f64::from(*p);
            }
        }
        let values = self.norm.apply(&x[..width * length], length);
        x[..width * length].copy_from_slice(&values);
        x[width * length..][..tokens.len()].fill(1.0);
        Tensor::new(Shape::image(width + 1, 1, length), x)
    }

    /// No value of an input is larger: a normalised channel is at most √(D − 1) before scale and shift.
    #[must_use]
    pub fn bound(&self) -> f64 {
        let most = (self.width() as f64 - 1.0).max(0.0).sqrt();
        let bias = self.norm.bias.as_ref().map_or(&[][..], Parameter::values);
        let scales = self.norm.scale.values().iter().zip(bias);
        scales.fold(1.0, |m: f64, (&s, &b)| {
            m.max(most * f64::from(s).abs() + f64::from(b).abs())
        })
    }

    /// As plans and client keys carry it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("plain data is always JSON")
    }

    /// Whether a plan's description of its client's half is of this kind.
    #[must_use]
    pub fn described_by(value: &serde_json::Value) -> bool {
        value["kind"] == KIND
    }

    /// From what [`SentenceFormat::to_json`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such description, or its numbers don't fit each other.
    pub fn from_json(value: &serde_json::Value) -> Result<Self> {
        Self::deserialize(value).map_err(|e| malformed(e.to_string()))
    }

    /// Whether a network that takes inputs of this shape is one for such sentences.
    ///
    /// # Errors
    /// [`Error::Count`].
    pub fn check_network(&self, input: Shape) -> Result<()> {
        let needed = Shape::image(self.width() + 1, 1, self.length());
        if input == needed {
            return Ok(());
        }
        Err(Error::Count {
            what: "embedded tokens and their marks",
            needed: needed.len(),
            had: input.len(),
        })
    }
}

/// As files have it. Bytes are in hexadecimal.
#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Stored {
    kind: String,
    version: u32,
    vocabulary: String,
    width: usize,
    /// Single precision, the low byte first.
    words: String,
    positions: String,
    scale: String,
    bias: String,
    epsilon: f64,
    examples: Vec<Vec<u32>>,
}

impl From<SentenceFormat> for Stored {
    fn from(f: SentenceFormat) -> Self {
        let hex = |p: &Parameter| to_hex(p.values().iter().flat_map(|v| v.to_le_bytes()));
        Self {
            kind: KIND.into(),
            version: VERSION,
            width: f.width(),
            vocabulary: f.vocabulary.to_text(),
            words: hex(&f.words),
            positions: hex(&f.positions),
            scale: hex(&f.norm.scale),
            bias: f.norm.bias.as_ref().map(hex).unwrap_or_default(),
            epsilon: f.norm.epsilon,
            examples: f.examples,
        }
    }
}

impl TryFrom<Stored> for SentenceFormat {
    type Error = Error;

    fn try_from(s: Stored) -> Result<Self> {
        if s.kind != KIND || s.version != VERSION {
            return Err(Error::Version {
                format: FORMAT,
                had: format!("{} {}", s.kind, s.version),
                known: "sentences 1",
            });
        }
        let numbers = |what: &str, text: &str| -> Result<Vec<f32>> {
            let raw = from_hex(text)
                .ok_or_else(|| malformed(format!("its {what} are not hexadecimal")))?;
            let (numbers, rest) = raw.as_chunks::<4>();
            if !rest.is_empty() || s.width == 0 {
                return Err(malformed(format!("its {what} are no whole number of rows")));
            }
            Ok(numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
        };
        let table = |what: &str, text: &str| -> Result<Parameter> {
            let values = numbers(what, text)?;
            Parameter::new(what, [values.len() / s.width, s.width], values)
        };
        let vector = |what: &str, text: &str| -> Result<Parameter> {
            let values = numbers(what, text)?;
            Parameter::new(what, [values.len()], values)
        };
        let norm = Norm {
            kind: NormKind::Layer,
            scale: vector("scales", &s.scale)?,
            bias: Some(vector("shifts", &s.bias)?),
            epsilon: s.epsilon,
        };
        Self::new(
            WordPiece::from_text(&s.vocabulary)?,
            table("words", &s.words)?,
            table("positions", &s.positions)?,
            norm,
            s.examples,
        )
    }
}
