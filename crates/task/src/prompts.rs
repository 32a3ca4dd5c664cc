//! From a prompt's text to a language model's input, and from its logits to text.
//!
//! A prompt shorter than the network's length is filled up with the end of a passage that calibration saw: what stands behind a prompt is
//! nothing to causal attention, but it has to stay within the calibrated ranges, since one value that outgrows its modulus spoils its whole
//! ciphertext. The passages are also what a plan's error is estimated on.

use crate::answer::{Answer, Tokens};
use crate::bytes::{Reader, Writer};
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::scores;
use crate::tokenizer::Tokenizer;
use nn::lower::after_first;
use nn::{Shape, Tensor};

const FORMAT: &str = "prompt description";
/// Most tokens of a prompt.
const LENGTH_LIMIT: usize = 1 << 16;
/// Most passages.
const PASSAGES_LIMIT: usize = 64;

/// What a client knows of a language model: vocabulary, embedding, passages of its length, the first of which fills short prompts up.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts {
    tokenizer: Tokenizer,
    embedding: Embedding,
    begin: Option<u32>,
    passages: Vec<Vec<u32>>,
    /// Positions that answers hold, ascending; all if none are said.
    positions: Option<Vec<usize>>,
}

impl Prompts {
    /// For prompts of as many tokens as the passages have, which all begin with the public token `begin` if there is one. An embedding may have
    /// more rows than a published tokenizer has tokens: models round their number up.
    ///
    /// # Errors
    /// [`Error::Count`] where tokenizer and embedding don't fit each other, [`Error::Token`]; [`Error::Malformed`] for passages of different lengths
    /// or that don't begin with the public token, or one that is not the tokenizer's own.
    pub fn new(
        tokenizer: Tokenizer,
        embedding: Embedding,
        begin: Option<u32>,
        passages: Vec<Vec<u32>>,
    ) -> Result<Self> {
        let malformed = |detail: String| Error::malformed(FORMAT, detail);
        tokenizer.check_rows(embedding.rows())?;
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
        let mut tokens = passages.iter().flatten().chain(&begin);
        tokens.try_for_each(|&t| embedding.row(t).map(drop))?;
        if let Some(begin) = begin {
            if let Some(other) = passages.iter().find(|p| p[0] != begin) {
                return Err(malformed(format!(
                    "a passage that begins with token {}, not with the public token {begin}",
                    other[0]
                )));
            }
            if let Some(&own) = tokenizer.frame()[0].first()
                && begin != own
            {
                return Err(malformed(format!(
                    "{begin} as the public first token: its tokenizer begins every text with {own}"
                )));
            }
        }
        Ok(Self {
            tokenizer,
            embedding,
            begin,
            passages,
            positions: None,
        })
    }

    /// The same with answers that hold the logits of these positions alone (from 0, a public token's not counted), of all of them if none are said.
    ///
    /// # Errors
    /// [`Error::Malformed`] for no position, one twice or out of order, one outside of the length.
    pub fn with_positions(mut self, positions: Option<Vec<usize>>) -> Result<Self> {
        let count = self.count();
        if let Some(chosen) = &positions {
            if let Some(outside) = chosen.iter().find(|p| **p >= count) {
                return Err(Error::malformed(
                    FORMAT,
                    format!(
                        "position {outside} in answers to prompts of {} tokens, {} of them public: its positions are 0 to {}",
                        self.length(),
                        self.public(),
                        count - 1
                    ),
                ));
            }
            if chosen.is_empty() || !chosen.is_sorted_by(|a, b| a < b) {
                return Err(Error::malformed(
                    FORMAT,
                    format!(
                        "positions {chosen:?} in answers: at least one is needed, each once, in ascending order"
                    ),
                ));
            }
        }
        self.positions = positions.filter(|chosen| chosen.len() < count);
        Ok(self)
    }

    /// The positions that answers hold, ascending; none where these are all.
    #[must_use]
    pub fn positions(&self) -> Option<&[usize]> {
        self.positions.as_deref()
    }

    /// Positions of a prompt of the full length.
    #[must_use]
    pub fn count(&self) -> usize {
        self.length() - self.public()
    }

    /// Which of an answer's columns holds this position; none where it is not there.
    fn column(&self, position: usize) -> Option<usize> {
        scores::held(self.positions(), self.count(), position)
    }

    /// Columns of an answer.
    fn columns(&self) -> usize {
        self.positions().map_or(self.count(), <[usize]>::len)
    }

    /// How text is cut.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens' embedding `(V, D)`.
    #[must_use]
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
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
        self.embedding.width()
    }

    /// The public first token's embedding.
    #[must_use]
    pub fn begin(&self) -> Option<Vec<f64>> {
        let row = self.embedding.row(self.begin?);
        row.ok().map(Iterator::collect)
    }

    /// A prompt's tokens, the public first one included.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token, [`Error::TooLong`], [`Error::Empty`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.tokens(text)?;
        self.check_tokens(&tokens)?;
        Ok(tokens)
    }

    /// A text's tokens, the public first one included, however many.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Character`] for what has no token.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.sequence(text)?;
        if let (Some(begin), true) = (self.begin, self.tokenizer.frame()[0].is_empty()) {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        Error::check_length(tokens.len(), self.public(), self.length())
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
    /// [`Error::Token`], [`Error::TooLong`], [`Error::Empty`]; [`Error::Malformed`] for one that does not begin with the public token.
    pub fn input(&self, tokens: &[u32]) -> Result<Tensor> {
        Ok(after_first(&self.embed(tokens)?, self.public())?)
    }

    /// The whole embedded prompt `(D, 1, L)`, filled up, the public first token included.
    ///
    /// # Errors
    /// Those of [`Prompts::input`].
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check_tokens(tokens)?;
        if self.begin.is_some_and(|b| tokens[0] != b) {
            return Err(Error::malformed(
                FORMAT,
                format!(
                    "a prompt begins with token {}, not with the public one",
                    tokens[0]
                ),
            ));
        }
        self.embedding.sequence(&self.padded(tokens))
    }

    /// The logits of a position (from 0, the public token's not counted) in an answer `(V, 1, K)`; None where it does not hold that one.
    #[must_use]
    pub fn logits_at(&self, answer: &[f64], position: usize) -> Option<Vec<f64>> {
        let width = self.columns();
        let fits = answer.len() == width * self.embedding.rows();
        fits.then(|| scores::column(answer, width, self.column(position)?))?
    }

    pub(crate) fn decode<'a>(&'a self, values: &'a [f64]) -> Result<Answer<'a>> {
        let needed = self.columns() * self.embedding.rows();
        Error::check_count("values of an answer", needed, values.len())?;
        Ok(Answer::Tokens(Tokens {
            tokenizer: &self.tokenizer,
            public: self.public(),
            count: self.count(),
            chosen: self.positions(),
            values,
        }))
    }

    pub(crate) fn check(&self, input: Shape, output: Shape) -> Result<()> {
        let embedded = Shape::image(self.width(), 1, self.count());
        let logits = Shape::image(self.embedding.rows(), 1, self.columns());
        crate::same("input", "prompts", embedded, input)?;
        crate::same("output", "prompts", logits, output)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        self.tokenizer.write(w);
        w.option(self.begin, Writer::u32);
        w.list(self.passages.iter(), |w, p| w.tokens(p));
        self.embedding.write(w);
        if let Some(positions) = &self.positions {
            w.list(positions.iter(), |w, p| w.size(*p));
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let tokenizer = Tokenizer::read(r)?;
        let begin = r.option(Reader::u32)?;
        let passages = r.list(8, Reader::tokens)?;
        Self::new(tokenizer, Embedding::read(r)?, begin, passages)
    }

    /// As [`Prompts::read`], with the positions that answers hold, which are not all.
    pub(crate) fn read_at_positions(r: &mut Reader<'_>) -> Result<Self> {
        let all = Self::read(r)?;
        let positions = r.list(8, Reader::size)?;
        if positions.len() >= all.count() {
            let detail = "as many positions in answers as there are, or more";
            return Err(Error::malformed(FORMAT, detail));
        }
        all.with_positions(Some(positions))
    }
}
