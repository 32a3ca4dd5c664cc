//! llama2.c's tokenizer (A. Karpathy, 2023): pairs are joined in the order of the scores of what they become.
//!
//! A file is i32 length of the longest token, then for each token f32 score, i32 length, bytes. Tokens 0 to 2 are unknown, begin (BOS) and end; 3 to
//! 258 are single bytes, written `<0x00>`.

use crate::error::{Error, Result};
use std::collections::HashMap;

const FORMAT: &str = "llama2.c tokenizer";

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(FORMAT, detail)
}

/// Token that begins a sequence (BOS).
pub const BEGIN: u32 = 1;
/// Token that ends a sequence (EOS).
pub const END: u32 = 2;
/// The token of byte 0.
const FIRST_BYTE: u32 = 3;

/// Text to tokens and back: byte-pair encoding whose merges are ranked by the tokens' scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pieces: Vec<(Vec<u8>, f32)>,
    tokens: HashMap<Vec<u8>, u32>,
}

impl Scored {
    /// From the bytes of a file.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let truncated = |detail: String| malformed(format!("it ends too early: {detail}"));
        let Some((_, mut rest)) = bytes.split_first_chunk::<4>() else {
            return Err(truncated("it has no header".into()));
        };
        let mut pieces = Vec::new();
        let mut tokens = HashMap::new();
        while !rest.is_empty() {
            let at = u32::try_from(pieces.len())
                .map_err(|_| malformed("it holds more than 2^32 tokens"))?;
            let Some((score, tail)) = rest.split_first_chunk::<4>() else {
                return Err(truncated(format!("token {at} has no score")));
            };
            let Some((length, tail)) = tail.split_first_chunk::<4>() else {
                return Err(truncated(format!("token {at} has no length")));
            };
            let length = usize::try_from(i32::from_le_bytes(*length))
                .map_err(|_| malformed(format!("token {at} has a negative length")))?;
            let score = f32::from_le_bytes(*score);
            if !score.is_finite() {
                return Err(malformed(format!("token {at} scores {score}")));
            }
            let Some(piece) = tail.get(..length) else {
                return Err(truncated(format!("token {at} has {length} bytes")));
            };
            rest = &tail[length..];
            // Of two equal pieces the first counts, as in a search from the front.
            tokens.entry(piece.to_vec()).or_insert(at);
            pieces.push((piece.to_vec(), score));
        }
        if pieces.len() <= END as usize {
            return Err(malformed(format!(
                "{} tokens are not even the special ones",
                pieces.len()
            )));
        }
        Ok(Self { pieces, tokens })
    }

    /// Number of tokens.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer is never empty")]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The file's bytes: what [`Scored::from_bytes`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = |n: usize| i32::try_from(n).unwrap_or(i32::MAX).to_le_bytes();
        let longest = self.pieces.iter().map(|p| p.0.len()).max().unwrap_or(0);
        let mut bytes = length(longest).to_vec();
        for (piece, score) in &self.pieces {
            bytes.extend(score.to_le_bytes());
            bytes.extend(length(piece.len()));
            bytes.extend(piece);
        }
        bytes
    }

    /// A token's bytes, single bytes written `<0x00>`.
    #[must_use]
    pub fn piece(&self, token: u32) -> Option<&[u8]> {
        self.pieces.get(token as usize).map(|p| &p.0[..])
    }

    /// The tokens of a text, [`BEGIN`] first. A space is put before the text, as in training. Characters without a token are spelled in bytes.
    ///
    /// # Errors
    /// [`Error::Encoding`] for a byte that the vocabulary can't spell.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        let mut buffer = [0; 4];
        let prefix = if text.is_empty() { "" } else { " " };
        for c in prefix.chars().chain(text.chars()) {
            let piece = c.encode_utf8(&mut buffer).as_bytes();
            match self.tokens.get(piece) {
                Some(&token) => tokens.push(token),
                None => {
                    for &byte in piece {
                        tokens.push(self.byte_token(byte)?);
                    }
                }
            }
        }
        // The best pair becomes one token until none does.
        while let Some((at, token)) = self.best_pair(&tokens) {
            tokens[at] = token;
            tokens.remove(at + 1);
        }
        tokens.insert(0, BEGIN);
        Ok(tokens)
    }

    /// The first of the pairs whose union scores best.
    fn best_pair(&self, tokens: &[u32]) -> Option<(usize, u32)> {
        let mut best: Option<(usize, u32, f32)> = None;
        let mut union = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            union.clear();
            union.extend_from_slice(&self.pieces[pair[0] as usize].0);
            union.extend_from_slice(&self.pieces[pair[1] as usize].0);
            if let Some(&token) = self.tokens.get(&union) {
                let score = self.pieces[token as usize].1;
                if best.is_none_or(|(_, _, b)| score > b) {
                    best = Some((at, token, score));
                }
            }
        }
        best.map(|(at, token, _)| (at, token))
    }

    fn byte_token(&self, byte: u8) -> Result<u32> {
        let token = FIRST_BYTE + u32::from(byte);
        match self.pieces.get(token as usize) {
            Some((piece, _)) if spelled(piece) == Some(byte) => Ok(token),
            _ => Err(Error::Encoding(byte)),
        }
    }

    /// The text of tokens; [`BEGIN`] and [`END`] are none, the space before the text is left out. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that there isn't.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        let mut begins = true;
        for &token in tokens {
            let Some((piece, _)) = self.pieces.get(token as usize) else {
                return Err(Error::Token {
                    token,
                    vocabulary: self.len(),
                });
            };
            if token == BEGIN || token == END {
                begins = true;
                continue;
            }
            match spelled(piece) {
                Some(byte) => bytes.push(byte),
                None if begins => bytes.extend(piece.strip_prefix(b" ").unwrap_or(piece)),
                None => bytes.extend_from_slice(piece),
            }
            begins = false;
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The byte of a piece such as `<0x0A>`.
fn spelled(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .flatten()
}
