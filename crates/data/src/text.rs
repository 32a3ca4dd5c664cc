//! Text as a stream of tokens, and windows of it: the same windows for the same seed.

use crate::options::check_held_out;
use crate::random::Random;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Files of more bytes are refused.
pub(crate) const LIMIT: u64 = 16 << 30;

/// From so many tokens on a file shows whether its tokens have two bytes or four.
const WIDE: usize = 16;

/// A stream of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    tokens: Arc<[u32]>,
    vocabulary: usize,
}

/// A file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let fail = Error::io(path);
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > limit {
        let what = format!("the text of {size} bytes");
        return Err(Error::too_large(path, what, limit, "take a part of it"));
    }
    std::fs::read(path).map_err(fail)
}

/// A file of text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64, format: &'static str) -> Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|e| Error::malformed(path, format, format!("{e}; text must be UTF-8")))
}

impl Text {
    /// These tokens, all below `vocabulary`.
    ///
    /// # Errors
    /// [`Error::Option`] for a token that is not.
    pub fn new(tokens: Vec<u32>, vocabulary: usize) -> Result<Self> {
        if let Some(i) = tokens.iter().position(|&t| t as usize >= vocabulary) {
            return Err(Error::option(format!(
                "token {i} of the text is {}, the vocabulary has {vocabulary}: give the text's own vocabulary",
                tokens[i]
            )));
        }
        Ok(Self {
            tokens: tokens.into(),
            vocabulary,
        })
    }

    /// A text file by its characters, with the characters in the order of their tokens, which is that of their code points.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Content`] for too large a file and for what is no UTF-8.
    pub fn characters(path: &Path) -> Result<(Self, Vec<char>)> {
        let text = read_text(path, LIMIT, "text")?;
        let mut alphabet: Vec<char> = text.chars().collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let numbers: HashMap<char, u32> = alphabet.iter().copied().zip(0..).collect();
        let tokens = text.chars().map(|c| numbers[&c]).collect();
        Ok((Self::new(tokens, alphabet.len())?, alphabet))
    }

    /// A file of tokens: [`Text::token_bytes`] each, the lowest first.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Content`] for too large a file and half a token, [`Error::Option`] for a token beyond the vocabulary.
    pub fn binary(path: &Path, vocabulary: usize) -> Result<Self> {
        let bytes = read(path, LIMIT)?;
        let each = Self::token_bytes(vocabulary);
        if !bytes.len().is_multiple_of(each) {
            let detail = format!(
                "{} bytes are no whole number of tokens of {each}",
                bytes.len()
            );
            return Err(Error::truncated(path, "token", detail));
        }
        let token = |bytes: &[u8]| bytes.iter().rev().fold(0, |t, &b| t << 8 | u32::from(b));
        let tokens: Vec<u32> = bytes.chunks_exact(each).map(token).collect();
        // no text has token 0 at every second place
        let high = tokens.iter().skip(1).step_by(2);
        if each == 2
            && tokens.len() >= WIDE
            && high.max() == Some(&0)
            && tokens.iter().any(|&t| t > 0)
        {
            let detail = format!(
                "every second token is 0, as if tokens had four bytes each: a vocabulary of {vocabulary} has tokens of two"
            );
            return Err(Error::malformed(path, "token", detail));
        }
        Self::new(tokens, vocabulary)
    }

    /// Bytes of a token in a file: two where that holds every number of the vocabulary, else four.
    #[must_use]
    pub fn token_bytes(vocabulary: usize) -> usize {
        if vocabulary <= 1 << 16 { 2 } else { 4 }
    }

    /// Tokens of this vocabulary as [`Text::binary`] reads them.
    #[must_use]
    pub fn to_bytes(tokens: &[u32], vocabulary: usize) -> Vec<u8> {
        let each = Self::token_bytes(vocabulary);
        let bytes = tokens.iter().map(|t| t.to_le_bytes());
        bytes.flat_map(|b| b.into_iter().take(each)).collect()
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many different tokens there may be.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The first tokens and the last `held_out` ones.
    ///
    /// # Errors
    /// [`Error::Option`] where one of both would be empty.
    pub fn split(&self, held_out: usize) -> Result<(Self, Self)> {
        check_held_out("tokens", held_out, self.tokens.len())?;
        let (a, b) = self.tokens.split_at(self.tokens.len() - held_out);
        let part = |tokens: &[u32]| Self {
            tokens: tokens.into(),
            vocabulary: self.vocabulary,
        };
        Ok((part(a), part(b)))
    }
}

/// Windows of a text: so many tokens with the one that follows each.
#[derive(Debug, Clone)]
pub struct Windows {
    text: Text,
    length: usize,
    /// Where windows begin, if only at some places.
    starts: Option<Arc<[usize]>>,
}

impl Windows {
    /// Windows of `length` tokens, anywhere or only where the token `begin` stands.
    ///
    /// # Errors
    /// [`Error::Option`] for a text without a window.
    pub fn new(text: Text, length: usize, begin: Option<u32>) -> Result<Self> {
        let places = text.tokens.len().saturating_sub(length);
        let tokens = &text.tokens;
        let of = |token| (0..places).filter(move |&i| tokens[i] == token);
        let starts: Option<Arc<[usize]>> = begin.map(|token| of(token).collect());
        if length == 0 || places == 0 || starts.as_ref().is_some_and(|s| s.is_empty()) {
            return Err(Error::option(format!(
                "the text of {} tokens has no window of {length} tokens and a following one{}: give a longer text or shorter windows",
                text.tokens.len(),
                begin.map_or_else(String::new, |t| format!(" that begins with token {t}"))
            )));
        }
        Ok(Self {
            text,
            length,
            starts,
        })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Tokens of a window.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Disjoint windows that follow one another, or all beginnings where there are only some.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one window")]
    pub fn len(&self) -> usize {
        match &self.starts {
            Some(s) => s.len(),
            None => (self.text.tokens.len() - 1) / self.length,
        }
    }

    /// Adds the tokens of window `i` of [`Windows::len`] and the tokens that follow each.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn window(&self, i: usize, tokens: &mut Vec<u32>, next: &mut Vec<usize>) {
        let start = match &self.starts {
            Some(s) => s[i],
            None => i * self.length,
        };
        self.at(start, tokens, next);
    }

    /// Adds draw number `k` of a pass: a function of (seed, pass, k), uniform over all places where windows may begin.
    pub fn draw(
        &self,
        (seed, pass, k): (u64, u64, u64),
        tokens: &mut Vec<u32>,
        next: &mut Vec<usize>,
    ) {
        /// Tells these streams from those of pictures.
        const WINDOWS: u64 = 0x7465_7874;
        let mut random = Random::of([seed, pass, k, WINDOWS]);
        let start = match &self.starts {
            Some(s) => s[random.below(s.len())],
            None => random.below(self.text.tokens.len() - self.length),
        };
        self.at(start, tokens, next);
    }

    fn at(&self, start: usize, tokens: &mut Vec<u32>, next: &mut Vec<usize>) {
        let window = &self.text.tokens[start..start + self.length + 1];
        tokens.extend_from_slice(&window[..self.length]);
        next.extend(window[1..].iter().map(|&t| t as usize));
    }
}
