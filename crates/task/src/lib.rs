//! What a client encodes and reads.
//!
//! A [`Task`] says how a row of numbers, a picture, a prompt or a sentence becomes a network's input, and what the network's outputs mean. It goes with
//! the network as opaque bytes ([`Task::to_bytes`]) in its `.pvm`, from there to the client, and nowhere else: neither plans nor servers read it.
//!
//! Modules in reading order: [`vectors`], [`normalization`], [`pictures`] (with [`picture`]: files), [`prompts`], [`sentences`], [`answer`] and [`scores`] (what
//! outputs mean), [`tokenizer`] (text to tokens, of all kinds), [`embedding`] (tokens to numbers, in the checkpoint's precision).
//!
//! The crate knows nothing of ciphertexts, plans, operators or training.

pub mod answer;
pub mod embedding;
pub mod error;
pub mod normalization;
pub mod picture;
pub mod pictures;
pub mod prompts;
pub mod scores;
pub mod sentences;
pub mod tokenizer;
pub mod vectors;

mod bytes;

pub use answer::{Answer, Candidate, Named, Outputs, Scores, Tokens};
pub use embedding::{Embedding, Precision};
pub use error::{Error, Result};
pub use normalization::{Channels, Normalization, Stated};
pub use picture::Picture;
pub use pictures::Pictures;
pub use prompts::Prompts;
pub use sentences::{SentenceEmbedding, Sentences};
pub use tokenizer::Tokenizer;
pub use vectors::Vectors;

use bytes::{Reader, Writer};
use nn::{Shape, Tensor};
use std::sync::Arc;
use tokenizer::Long;

const MAGIC: &[u8; 6] = b"PVTASK";
const VERSION: u8 = 1;
const FORMAT: &str = "task";
/// What inputs are, by the number of the kind; the last are rows in a shape, and prompts whose answers hold some positions alone.
const KINDS: [&str; 6] = [
    "rows",
    "pictures",
    "prompts",
    "sentences",
    "rows",
    "prompts",
];

/// What a network's inputs and outputs mean.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Task {
    /// Rows of numbers.
    Vectors(Vectors),
    /// Pictures.
    Pictures(Pictures),
    /// Prompts of a language model.
    Prompts(Prompts),
    /// Sentences of an encoder.
    Sentences(Sentences),
}

/// What a client has.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A row of numbers.
    Row(&'a [f64]),
    /// A picture of the network's size.
    Picture(&'a Picture),
    /// A prompt or a sentence.
    Text(&'a str),
    /// Its tokens.
    Tokens(&'a [u32]),
}

impl Task {
    /// What inputs are, in the plural: rows, pictures, prompts, sentences.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        KINDS[self.number()]
    }

    /// Its place in [`KINDS`].
    fn number(&self) -> usize {
        match self {
            Self::Vectors(t) if t.shape().as_image().is_some() => 4,
            Self::Vectors(_) => 0,
            Self::Pictures(_) => 1,
            Self::Prompts(t) if t.positions().is_some() => 5,
            Self::Prompts(_) => 2,
            Self::Sentences(_) => 3,
        }
    }

    /// What the client encrypts of an input.
    ///
    /// # Errors
    /// [`Error::Kind`] for an input of another kind, and those of the kind.
    pub fn encode(&self, input: &Input<'_>) -> Result<Tensor> {
        match (self, input) {
            (Self::Vectors(t), Input::Row(row)) => t.input(row),
            (Self::Pictures(t), Input::Picture(picture)) => t.input(picture),
            (Self::Prompts(t), Input::Text(text)) => t.input(&t.encode(text)?),
            (Self::Prompts(t), Input::Tokens(tokens)) => t.input(tokens),
            (Self::Sentences(t), Input::Text(text)) => t.input(&t.encode(text, Long::Refuse)?.0),
            (Self::Sentences(t), Input::Tokens(tokens)) => t.input(tokens),
            _ => Err(Error::Kind {
                needed: self.kind(),
                had: match input {
                    Input::Row(_) => "a row of numbers",
                    Input::Picture(_) => "a picture",
                    Input::Text(_) | Input::Tokens(_) => "a text",
                },
            }),
        }
    }

    /// What a network's output says.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of values.
    pub fn decode<'a>(&'a self, values: &'a [f64]) -> Result<Answer<'a>> {
        match self {
            Self::Prompts(t) => t.decode(values),
            Self::Vectors(t) => t.outputs().decode(values),
            Self::Pictures(t) => t.outputs().decode(values),
            Self::Sentences(t) => t.outputs().decode(values),
        }
    }

    /// What outputs mean; a language model's are tokens.
    #[must_use]
    pub fn outputs(&self) -> Option<&Outputs> {
        match self {
            Self::Prompts(_) => None,
            Self::Vectors(t) => Some(t.outputs()),
            Self::Pictures(t) => Some(t.outputs()),
            Self::Sentences(t) => Some(t.outputs()),
        }
    }

    /// Whether a network from inputs of this shape to outputs of that is one for this task.
    ///
    /// # Errors
    /// [`Error::Network`], [`Error::Count`].
    pub fn check(&self, input: Shape, output: Shape) -> Result<()> {
        match self {
            Self::Vectors(t) => t.check(input, output),
            Self::Pictures(t) => t.check(input, output),
            Self::Prompts(t) => t.check(input, output),
            Self::Sentences(t) => t.check(input, output),
        }
    }

    /// The largest magnitude that a value of an input can have; rows have none.
    #[must_use]
    pub fn bound(&self) -> Option<f64> {
        match self {
            Self::Vectors(_) => None,
            Self::Pictures(t) => Some(t.bound()),
            Self::Prompts(t) => Some(t.embedding().bound()),
            Self::Sentences(t) => Some(t.bound()),
        }
    }

    /// Inputs of calibration that are kept with the task, as tensors: what an error can be estimated on. Rows and pictures keep none.
    ///
    /// # Errors
    /// Those of the kind's inputs.
    pub fn examples(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::Vectors(_) | Self::Pictures(_) => Ok(Vec::new()),
            Self::Prompts(t) => t.passages().iter().map(|p| t.input(p)).collect(),
            Self::Sentences(t) => t.examples().iter().map(|s| t.input(s)).collect(),
        }
    }

    /// The task's bytes; the same task gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Arc<[u8]> {
        let mut w = Writer::default();
        w.0.extend(MAGIC);
        w.u8(VERSION);
        w.u8(self.number() as u8);
        match self {
            Self::Vectors(t) => t.write(&mut w),
            Self::Pictures(t) => t.write(&mut w),
            Self::Prompts(t) => t.write(&mut w),
            Self::Sentences(t) => t.write(&mut w),
        }
        w.0.into()
    }

    /// From what [`Task::to_bytes`] wrote; how many bytes may be read of a file is for its reader to say. An embedding stays where it is in `bytes`, which is shared.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Version`], and what is refused when a task is made.
    pub fn from_bytes(bytes: &Arc<[u8]>) -> Result<Self> {
        let malformed = |detail: &str| Error::malformed(FORMAT, detail);
        let mut r = Reader::new(bytes);
        if r.array::<6>()? != *MAGIC {
            return Err(malformed("it does not begin like one"));
        }
        let had = r.u8()?;
        if had != VERSION {
            return Err(Error::Version {
                format: FORMAT,
                had,
                known: VERSION,
            });
        }
        let out = match r.u8()? {
            0 => Self::Vectors(Vectors::read(&mut r)?),
            1 => Self::Pictures(Pictures::read(&mut r)?),
            2 => Self::Prompts(Prompts::read(&mut r)?),
            3 => Self::Sentences(Sentences::read(&mut r)?),
            4 => Self::Vectors(Vectors::read_shaped(&mut r)?),
            5 => Self::Prompts(Prompts::read_at_positions(&mut r)?),
            other => return Err(r.unknown("kind of task", other)),
        };
        r.end()?;
        Ok(out)
    }

    /// The task of a network; None where its file has none.
    ///
    /// # Errors
    /// Those of [`Task::from_bytes`].
    pub fn of(metadata: &nn::Metadata) -> Result<Option<Self>> {
        metadata.task.as_ref().map(Self::from_bytes).transpose()
    }

    /// The BLAKE3 digest of the task's bytes, by which plans and keys name it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        blake3::hash(&self.to_bytes()).into()
    }
}

/// Refuses a network's input or output of another shape.
fn same(what: &'static str, kind: &'static str, needed: Shape, had: Shape) -> Result<()> {
    if needed == had {
        return Ok(());
    }
    Err(Error::Network {
        what,
        kind,
        needed: needed.to_string(),
        had,
    })
}
