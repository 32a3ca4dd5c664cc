//! From a sentence's text to an encoder's input, and from its outputs to classes or values.
//!
//! The client looks tokens up, adds positions, normalises, and marks what is no padding; all of it is encrypted, the number of tokens with it. A
//! few sentences of calibration are kept, on which a plan's error is estimated.

use crate::answer::Outputs;
use crate::bytes::{Reader, Writer};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::tokenizer::{Long, Tokenizer};
use nn::{Norm, NormKind, Parameter, Shape, Tensor};

const FORMAT: &str = "sentence description";
/// Most tokens of a sentence.
const LENGTH_LIMIT: usize = 1 << 12;
/// Most sentences of calibration.
const EXAMPLES_LIMIT: usize = 64;

/// From tokens to what an encoder takes.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceEmbedding {
    /// A row for each token.
    pub words: Embedding,
    /// A row for each place, that of the token type added.
    pub positions: Embedding,
    /// The layer norm of their sum.
    pub norm: Norm,
    /// The token that fills short sentences up.
    pub padding: u32,
}

/// What a client knows of an encoder: tokenizer, embeddings with their norm, the length, the outputs' names.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentences {
    tokenizer: Tokenizer,
    embedding: SentenceEmbedding,
    outputs: Outputs,
    examples: Vec<Vec<u32>>,
}

fn malformed(detail: String) -> Error {
    Error::malformed(FORMAT, detail)
}

impl Sentences {
    /// For sentences of as many tokens as there are positions.
    ///
    /// # Errors
    /// [`Error::Count`] where tokenizer, embeddings and norm don't fit each other, [`Error::Malformed`] for an ε or a length out of range, and what
    /// is wrong with an example.
    pub fn new(
        tokenizer: Tokenizer,
        embedding: SentenceEmbedding,
        outputs: Outputs,
        examples: Vec<Vec<u32>>,
    ) -> Result<Self> {
        let SentenceEmbedding {
            words,
            positions,
            norm,
            padding,
        } = &embedding;
        tokenizer.check_rows(words.rows())?;
        outputs.check_names()?;
        let bias = norm.bias.as_ref().map_or(0, |b| b.values().len());
        for (what, had) in [
            ("channels of positions", positions.width()),
            ("scales of the embeddings' norm", norm.scale.values().len()),
            ("shifts of the embeddings' norm", bias),
        ] {
            Error::check_count(what, words.width(), had)?;
        }
        if !(norm.epsilon.is_finite() && norm.epsilon > 0.0) {
            return Err(malformed(format!("an ε of {}", norm.epsilon)));
        }
        let length = positions.rows();
        if !(3..=LENGTH_LIMIT).contains(&length) || examples.len() > EXAMPLES_LIMIT {
            return Err(malformed(format!(
                "{length} tokens and {} examples; 3 to {LENGTH_LIMIT} tokens and {EXAMPLES_LIMIT} examples are possible",
                examples.len()
            )));
        }
        words.row(*padding).map(drop)?;
        let out = Self {
            tokenizer,
            embedding,
            outputs,
            examples,
        };
        for example in &out.examples {
            out.check_tokens(example)?;
        }
        Ok(out)
    }

    /// How text is cut.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What the outputs mean.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Most tokens of a sentence, what stands around it included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.embedding.positions.rows()
    }

    /// Channels of a token.
    #[must_use]
    pub fn width(&self) -> usize {
        self.embedding.words.width()
    }

    /// Sentences that calibration saw.
    #[must_use]
    pub fn examples(&self) -> &[Vec<u32>] {
        &self.examples
    }

    /// A sentence's tokens; a longer one's first ones and what ends it where it may be cut, and whether it was.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Empty`] for a text without words, [`Error::Encoding`].
    pub fn encode(&self, text: &str, long: Long) -> Result<(Vec<u32>, bool)> {
        let (tokens, cut) = self.tokenizer.within(text, self.length(), long)?;
        let around: usize = self.tokenizer.frame().iter().map(Vec::len).sum();
        Error::check_length(tokens.len(), around, self.length())?;
        Ok((tokens, cut))
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        Error::check_length(tokens.len(), 0, self.length())?;
        let words = &self.embedding.words;
        tokens.iter().try_for_each(|&t| words.row(t).map(drop))
    }

    /// What is encrypted of a sentence: `(D + 1, 1, L)`, its embedded tokens normalised and filled up with padding, and marks of what is none.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TooLong`], [`Error::Empty`].
    pub fn input(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check_tokens(tokens)?;
        let (width, length) = (self.width(), self.length());
        let embedding = &self.embedding;
        let mut filled = tokens.to_vec();
        filled.resize(length, embedding.padding);
        let words = embedding.words.sequence(&filled)?;
        let mut sum = words.into_values();
        for (i, position) in embedding.positions.values().enumerate() {
            // positions are kept with the token type added, in single precision
            sum[i % width * length + i / width] += position;
        }
        let mut x = embedding.norm.apply(&sum, length);
        x.resize((width + 1) * length, 0.0);
        x[width * length..][..tokens.len()].fill(1.0);
        Ok(Tensor::new(Shape::image(width + 1, 1, length), x)?)
    }

    /// No value of an input is larger: a normalised channel is at most √(D − 1) before scale and shift.
    #[must_use]
    pub fn bound(&self) -> f64 {
        let most = (self.width() as f64 - 1.0).max(0.0).sqrt();
        let norm = &self.embedding.norm;
        let bias = norm.bias.as_ref().map_or(&[][..], Parameter::values);
        let scales = norm.scale.values().iter().zip(bias);
        scales.fold(1.0, |m: f64, (&s, &b)| {
            m.max(most * f64::from(s).abs() + f64::from(b).abs())
        })
    }

    pub(crate) fn check(&self, input: Shape, output: Shape) -> Result<()> {
        let needed = Shape::image(self.width() + 1, 1, self.length());
        crate::same("input", "sentences", needed, input)?;
        self.outputs.check(output)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        let e = &self.embedding;
        self.tokenizer.write(w);
        self.outputs.write(w);
        w.list(self.examples.iter(), |w, s| w.tokens(s));
        w.u32(e.padding);
        w.f64(e.norm.epsilon);
        let shifts = e.norm.bias.as_ref().map_or(&[][..], Parameter::values);
        for vector in [e.norm.scale.values(), shifts] {
            w.list(vector.iter(), |w, v| w.u32(v.to_bits()));
        }
        e.positions.write(w);
        e.words.write(w);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let tokenizer = Tokenizer::read(r)?;
        let outputs = Outputs::read(r)?;
        let examples = r.list(8, Reader::tokens)?;
        let padding = r.u32()?;
        let epsilon = r.f64()?;
        let mut vector = |what: &str| -> Result<Parameter> {
            let values = r.list(4, |r| Ok(f32::from_bits(r.u32()?)))?;
            Ok(Parameter::new(what, [values.len()], values)?)
        };
        let norm = Norm {
            kind: NormKind::Layer,
            scale: vector("scales")?,
            bias: Some(vector("shifts")?),
            epsilon,
        };
        let positions = Embedding::read(r)?;
        let embedding = SentenceEmbedding {
            words: Embedding::read(r)?,
            positions,
            norm,
            padding,
        };
        Self::new(tokenizer, embedding, outputs, examples)
    }
}
