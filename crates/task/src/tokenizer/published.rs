//! Tokenizers of published models: byte-level pairs and word pieces, with the tokens that are added to them.
//!
//! A text is cut at the added tokens that it spells out, normalised, cut into words (`super::cut`), and each word into tokens: its bytes, of which
//! the neighbours that come first in the list of merges are joined until none is left; or the longest pieces from the left.
//!
//! Every byte is one printable character (GPT-2's table), so that a vocabulary of bytes is text: the bytes from `!` to `~`, `¡` to `¬` and `®` to
//! `ÿ` are themselves, the others are U+0100 and following in order.
//!
//! References: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016); A. Radford et al., "Language Models are
//! Unsupervised Multitask Learners" (2019).

use super::cut::{Cut, Normalizer};
use super::wordpiece;
use crate::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// More tokens than any model has.
pub(super) const MAX_TOKENS: usize = 1 << 22;

pub(super) fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("tokenizer.json", detail)
}

/// A token that is found in a text before anything else is done to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Added {
    pub(super) content: String,
    pub(super) id: u32,
    /// No text of its own when tokens are read.
    pub(super) special: bool,
    /// Looked for in the normalised text.
    pub(super) normalized: bool,
    /// Takes the white space before it along.
    pub(super) left: bool,
    /// Takes the white space behind it along.
    pub(super) right: bool,
}

/// How words become tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Model {
    /// Bytes, joined in the order of these pairs.
    Pairs(Vec<(u32, u32)>),
    /// As `Pairs`, but a word that is a token is that token.
    WholeOrPairs(Vec<(u32, u32)>),
    /// Longest pieces first; this token for words that have none.
    Pieces(u32),
}

/// Everything that a file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    pub(super) tokens: Vec<String>,
    pub(super) added: Vec<Added>,
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) cuts: Vec<Cut>,
    pub(super) model: Model,
    /// Tokens before and behind a sequence.
    pub(super) frame: [Vec<u32>; 2],
}

/// A tokenizer of a published model.
#[derive(Clone, PartialEq)]
pub struct Published {
    parts: Parts,
    index: HashMap<String, u32>,
    /// Of a pair: which comes first, and what it becomes.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// The token of each byte.
    bytes: Vec<Option<u32>>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Published({} tokens)", self.parts.tokens.len())
    }
}

/// The character of a byte.
#[must_use]
pub fn letter(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if own(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !own(b)).count();
    // at most 67 others
    char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character.
fn byte(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ 0..=0xff => {
            let b = n as u8;
            (letter(b) == c).then_some(b)
        }
        0x100..=0x143 => (0..=255).find(|&b| letter(b) == c),
        _ => None,
    }
}

impl Published {
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let n = parts.tokens.len();
        if n == 0 || n > MAX_TOKENS {
            return Err(malformed(format!(
                "{n} tokens; 1 to {MAX_TOKENS} are possible"
            )));
        }
        let mut index = HashMap::with_capacity(n);
        for (id, token) in (0u32..).zip(&parts.tokens) {
            if index.insert(token.clone(), id).is_some() {
                return Err(malformed(format!(
                    "token {id} ({token:?}) has another one's text"
                )));
            }
        }
        let framing = parts.frame.iter().flatten();
        if let Some(&token) = framing.clone().find(|&&t| t as usize >= n) {
            return Err(malformed(format!(
                "it puts token {token} around texts, the vocabulary has {n}"
            )));
        }
        for a in &parts.added {
            let had = index.get(&a.content).copied();
            if had != Some(a.id) || a.content.is_empty() {
                return Err(malformed(format!(
                    "the added token {:?} should be number {}, the vocabulary makes it {}",
                    a.content,
                    a.id,
                    had.map_or("none".into(), |h| h.to_string())
                )));
            }
        }
        let mut merges = HashMap::new();
        let mut bytes = Vec::new();
        match &parts.model {
            Model::Pairs(list) | Model::WholeOrPairs(list) => {
                merges.reserve(list.len());
                let text = |t: u32| {
                    let text = parts.tokens.get(t as usize);
                    text.ok_or_else(|| malformed(format!("a merge of token {t}, there are {n}")))
                };
                for (rank, &(left, right)) in (0u32..).zip(list) {
                    let joined = format!("{}{}", text(left)?, text(right)?);
                    let token = index.get(&joined).ok_or_else(|| {
                        malformed(format!("merge {rank} gives {joined:?}, which is no token"))
                    })?;
                    merges.insert((left, right), (rank, *token));
                }
                let spelled = |b| index.get(&letter(b).to_string()).copied();
                bytes = (0..=255).map(spelled).collect();
            }
            &Model::Pieces(unknown) if unknown as usize >= n => {
                return Err(malformed(format!(
                    "token {unknown} stands for unknown words, the vocabulary has {n}"
                )));
            }
            Model::Pieces(_) => {}
        }
        Ok(Self {
            parts,
            index,
            merges,
            bytes,
        })
    }

    /// Byte-level pairs: these tokens in order, written in the characters of their bytes ([`letter`]), merges (`left right`, the first one first),
    /// the numbers of the special tokens, and how text is cut before pairs are merged, by llama.cpp's names (`tokenizer.ggml.pre`).
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an unknown cut, [`Error::Count`] for a special token beyond the last, [`Error::Malformed`] for two equal tokens
    /// or a merge that is none.
    pub fn byte_level(
        cut: &str,
        tokens: Vec<String>,
        merges: &[String],
        special: &[u32],
    ) -> Result<Self> {
        let (cuts, whole) = match cut {
            "gpt-2" | "gpt2" => (vec![Cut::Gpt2], false),
            "smollm" => (vec![Cut::Digits, Cut::Gpt2], false),
            "llama-bpe" => (vec![Cut::Llama3], true),
            "qwen2" => (vec![Cut::Qwen2], false),
            other => {
                let known = "gpt-2, smollm, llama-bpe, qwen2";
                return Err(Error::unsupported("tokenizer.ggml.pre", other, known));
            }
        };
        let added = special.iter().map(|&id| {
            let content = tokens.get(id as usize).ok_or(Error::Count {
                what: "tokens, of which one of this number is special",
                needed: id as usize + 1,
                had: tokens.len(),
            })?;
            Ok(Added {
                content: content.clone(),
                id,
                special: true,
                ..Added::default()
            })
        });
        let added = added.collect::<Result<_>>()?;
        let merges = pairs(&tokens, merges.iter().map(|m| m.split_once(' ')))?;
        Self::new(Parts {
            added,
            normalizers: Vec::new(),
            cuts,
            model: match whole {
                true => Model::WholeOrPairs(merges),
                false => Model::Pairs(merges),
            },
            frame: [Vec::new(), Vec::new()],
            tokens,
        })
    }

    /// The same with these tokens before and behind every sequence.
    ///
    /// # Errors
    /// [`Error::Malformed`] for one that there isn't.
    pub fn framed(self, before: Vec<u32>, behind: Vec<u32>) -> Result<Self> {
        Self::new(Parts {
            frame: [before, behind],
            ..self.parts
        })
    }

    /// Number of tokens, added ones included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer is never empty")]
    pub fn len(&self) -> usize {
        self.parts.tokens.len()
    }

    /// The token of this name, such as `[CLS]` or `<|endoftext|>`.
    #[must_use]
    pub fn token(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    /// The tokens before and behind a sequence.
    #[must_use]
    pub fn frame(&self) -> &[Vec<u32>; 2] {
        &self.parts.frame
    }

    /// The tokens of a text and nothing around them. Added tokens that are written out in the text are taken for such, as Hugging Face's readers
    /// do.
    ///
    /// # Errors
    /// [`Error::Encoding`] for a byte that the vocabulary can't spell.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        self.split(text, false, &mut out, &mut |text, out| {
            let normal =
                (self.parts.normalizers.iter()).fold(text.to_string(), |text, n| n.apply(&text));
            self.split(&normal, true, out, &mut |text, out| {
                let cuts = self.parts.cuts.iter();
                let words = cuts.fold(vec![text.to_string()], |words, cut| cut.apply(words));
                words.iter().try_for_each(|word| self.word(word, out))
            })
        })?;
        Ok(out)
    }

    /// Takes added tokens out of a text, of those that begin at one place the longest, and hands what is between them on.
    fn split(
        &self,
        text: &str,
        normalized: bool,
        out: &mut Vec<u32>,
        between: &mut dyn FnMut(&str, &mut Vec<u32>) -> Result<()>,
    ) -> Result<()> {
        let added: Vec<&Added> = (self.parts.added.iter())
            .filter(|a| a.normalized == normalized)
            .collect();
        let mut done = 0;
        let mut at = 0;
        while at < text.len() && !added.is_empty() {
            let rest = &text[at..];
            let here = added.iter().filter(|a| rest.starts_with(&a.content));
            let Some(token) = here.max_by_key(|a| a.content.len()) else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let mut before = &text[done..at];
            if token.left {
                before = before.trim_end();
            }
            if !before.is_empty() {
                between(before, out)?;
            }
            out.push(token.id);
            at += token.content.len();
            if token.right {
                at = text.len() - text[at..].trim_start().len();
            }
            done = at;
        }
        match &text[done..] {
            "" => Ok(()),
            rest => between(rest, out),
        }
    }

    fn word(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        match &self.parts.model {
            &Model::Pieces(unknown) => {
                wordpiece::longest_first(&self.index, unknown, word, out);
                return Ok(());
            }
            Model::WholeOrPairs(_) => {
                let spelled: String = word.bytes().map(letter).collect();
                if let Some(&token) = self.index.get(&spelled) {
                    out.push(token);
                    return Ok(());
                }
            }
            Model::Pairs(_) => {}
        }
        let symbols = word.bytes().map(|byte| {
            let token = self.bytes.get(usize::from(byte)).copied().flatten();
            token.ok_or(Error::Encoding(byte))
        });
        let symbols = symbols.collect::<Result<Vec<u32>>>()?;
        self.merge(symbols, out);
        Ok(())
    }

    /// Joins neighbours, the pair that comes first in the list first, of equal pairs the left one.
    fn merge(&self, mut symbols: Vec<u32>, out: &mut Vec<u32>) {
        let n = symbols.len();
        // a symbol that was joined to the one before it is gone: its successor is itself
        let mut next: Vec<usize> = (1..=n).collect();
        let mut before: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
        let mut heap = BinaryHeap::new();
        let candidate = |symbols: &[u32], left: usize, right: usize| {
            let pair = (*symbols.get(left)?, *symbols.get(right)?);
            let &(rank, token) = self.merges.get(&pair)?;
            Some(Reverse((rank, left, pair, token)))
        };
        heap.extend((1..n).filter_map(|i| candidate(&symbols, i - 1, i)));
        while let Some(Reverse((_, left, pair, token))) = heap.pop() {
            let right = next[left];
            let alive = right != left && right < n;
            if !alive || (symbols[left], symbols[right]) != pair {
                continue;
            }
            symbols[left] = token;
            let behind = next[right];
            (next[left], next[right]) = (behind, right);
            if behind < n {
                before[behind] = left;
            }
            heap.extend(candidate(&symbols, before[left], left));
            heap.extend(candidate(&symbols, left, behind));
        }
        out.extend((0..n).filter(|&i| next[i] != i).map(|i| symbols[i]));
    }

    /// The text of tokens, special ones left out. Bytes that are no UTF-8 become U+FFFD; word pieces are joined by spaces.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that there isn't.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let pieces = matches!(self.parts.model, Model::Pieces(_));
        let mut joined = String::new();
        let mut bytes = Vec::new();
        for &token in tokens {
            let text = self.parts.tokens.get(token as usize);
            let text = text.ok_or(Error::Token {
                token,
                vocabulary: self.len(),
            })?;
            match self.parts.added.iter().find(|a| a.id == token) {
                Some(a) if a.special => {}
                None if pieces => wordpiece::join(&mut joined, text),
                None => match text.chars().map(byte).collect::<Option<Vec<u8>>>() {
                    Some(own) => bytes.extend(own),
                    None => bytes.extend(text.bytes()),
                },
                Some(_) if pieces => joined += text,
                Some(_) => bytes.extend(text.bytes()),
            }
        }
        match pieces {
            true => Ok(joined),
            false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// A token as people read it, special ones by their names.
    #[must_use]
    pub fn piece(&self, token: u32) -> Option<String> {
        let name = self.parts.tokens.get(token as usize)?;
        match self.decode(&[token]) {
            Ok(text) if !text.is_empty() => Some(text),
            _ => Some(name.clone()),
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        let p = &self.parts;
        w.texts(&p.tokens);
        w.list(p.added.iter(), |w, a| {
            w.bytes(a.content.as_bytes());
            w.u32(a.id);
            for flag in [a.special, a.normalized, a.left, a.right] {
                w.u8(flag.into());
            }
        });
        // both in the order of their lists
        w.list(p.normalizers.iter(), |w, &n| w.u8(n as u8));
        w.list(p.cuts.iter(), |w, &c| w.u8(c as u8));
        match &p.model {
            Model::Pieces(unknown) => {
                w.u8(2);
                w.u32(*unknown);
            }
            Model::Pairs(merges) | Model::WholeOrPairs(merges) => {
                w.u8(matches!(p.model, Model::WholeOrPairs(_)).into());
                w.list(merges.iter(), |w, &(left, right)| {
                    w.u32(left);
                    w.u32(right);
                });
            }
        }
        p.frame.iter().for_each(|f| w.tokens(f));
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let tokens = r.texts()?;
        let added = r.list(16, |r| {
            let (content, id) = (r.text()?, r.u32()?);
            let mut flag = || r.one_of("mark of an added token", &[false, true]);
            Ok(Added {
                content,
                id,
                special: flag()?,
                normalized: flag()?,
                left: flag()?,
                right: flag()?,
            })
        })?;
        let normalizers = r.list(1, |r| r.one_of("normalizer", &Normalizer::ALL))?;
        let cuts = r.list(1, |r| r.one_of("way of cutting", &Cut::ALL))?;
        let merges = |r: &mut Reader<'_>| r.list(8, |r| Ok((r.u32()?, r.u32()?)));
        let model = match r.u8()? {
            0 => Model::Pairs(merges(r)?),
            1 => Model::WholeOrPairs(merges(r)?),
            2 => Model::Pieces(r.u32()?),
            other => return Err(r.unknown("model of a tokenizer", other)),
        };
        let frame = [r.tokens()?, r.tokens()?];
        Self::new(Parts {
            tokens,
            added,
            normalizers,
            cuts,
            model,
            frame,
        })
    }
}

/// Merges by the numbers of their tokens.
pub(super) fn pairs<'a>(
    tokens: &[String],
    merges: impl Iterator<Item = Option<(&'a str, &'a str)>>,
) -> Result<Vec<(u32, u32)>> {
    let index: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let each = merges.enumerate().map(|(rank, merge)| {
        let (left, right) = merge.ok_or_else(|| malformed(format!("merge {rank} is no pair")))?;
        let token = |t: &str| {
            let token = index.get(t).copied();
            token.ok_or_else(|| malformed(format!("merge {rank} joins {t:?}, which is no token")))
        };
        Ok((token(left)?, token(right)?))
    });
    each.collect()
}
