//! BERT's tokenizer: words in lower case, cut into the longest pieces that a vocabulary has.
//!
//! A vocabulary is `vocab.txt`, a piece a line, the line's number its token; pieces that begin with `##` continue a word. Text is cut at white
//! space and around punctuation; a word with a character that no piece has is `[UNK]`. Unlike the original, accents stay where they are.
//!
//! [`WordPiece::train`] makes one from counted words by joining the most frequent neighbours, as byte-pair encoding does.
//!
//! References: M. Schuster, K. Nakajima, "Japanese and Korean Voice Search" (2012); R. Sennrich et al., "Neural Machine Translation of Rare Words with
//! Subword Units" (2016).

use super::cut::{chinese, punctuation};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const FORMAT: &str = "vocab.txt";
/// Most pieces: multilingual vocabularies have some 250,000.
const PIECES_LIMIT: usize = 1 << 20;
/// Longer words are unknown, as in the original.
const WORD_LIMIT: usize = 100;
/// How a piece begins that continues a word.
pub(super) const CONTINUES: &str = "##";
/// Every vocabulary has these; [`WordPiece::train`] puts them first, in this order.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Words to tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct WordPiece {
    pieces: Vec<String>,
    index: HashMap<String, u32>,
    special: [u32; 5],
}

impl WordPiece {
    /// From pieces, a line each.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a piece that is empty or there twice, and without one of `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::new(text.lines().map(|l| l.trim_end().to_string()).collect())
    }

    fn new(pieces: Vec<String>) -> Result<Self> {
        if pieces.len() > PIECES_LIMIT {
            return Err(malformed(format!(
                "{} pieces, at most {PIECES_LIMIT} are read",
                pieces.len()
            )));
        }
        let mut index = HashMap::with_capacity(pieces.len());
        for (token, piece) in (0u32..).zip(&pieces) {
            if piece.is_empty() {
                return Err(malformed(format!("line {} is empty", token + 1)));
            }
            if let Some(before) = index.insert(piece.clone(), token) {
                return Err(malformed(format!(
                    "{piece:?} is in lines {} and {}",
                    before + 1,
                    token + 1
                )));
            }
        }
        let mut special = [0; 5];
        for (token, name) in special.iter_mut().zip(SPECIAL) {
            let found = index.get(name).copied();
            *token = found.ok_or_else(|| malformed(format!("it has no {name}")))?;
        }
        Ok(Self {
            pieces,
            index,
            special,
        })
    }

    /// A vocabulary of at most `size` pieces for counted words, as [`words`] gives them: all their characters, then what joining the most
    /// frequent neighbours makes, until nothing occurs twice.
    ///
    /// # Errors
    /// [`Error::Count`] for a size that can't hold the characters; [`Error::Malformed`] above 65,536.
    pub fn train(counted: &BTreeMap<String, u64>, size: usize) -> Result<Self> {
        let mut names: Vec<String> = SPECIAL.map(str::to_string).to_vec();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        let mut number = |name: String, names: &mut Vec<String>| -> usize {
            *numbers.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            })
        };
        // characters first, in their order
        let initial: BTreeSet<char> = counted.keys().filter_map(|w| w.chars().next()).collect();
        let later: BTreeSet<char> = counted.keys().flat_map(|w| w.chars().skip(1)).collect();
        for c in initial {
            number(c.to_string(), &mut names);
        }
        for c in later {
            number(format!("{CONTINUES}{c}"), &mut names);
        }
        if names.len() > size {
            return Err(Error::Count {
                what: "pieces of a vocabulary, at least its characters and special ones",
                needed: names.len(),
                had: size,
            });
        }
        let mut spelled: Vec<(Vec<usize>, u64)> = Vec::with_capacity(counted.len());
        for (word, &count) in counted {
            let symbols = word.chars().enumerate().map(|(i, c)| match i {
                0 => number(c.to_string(), &mut names),
                _ => number(format!("{CONTINUES}{c}"), &mut names),
            });
            spelled.push((symbols.collect(), count));
        }
        // neighbours: how often they occur, and in which words
        let mut pairs: BTreeMap<(usize, usize), (u64, BTreeSet<usize>)> = BTreeMap::new();
        for (w, (symbols, count)) in spelled.iter().enumerate() {
            for pair in symbols.windows(2) {
                let entry = pairs.entry((pair[0], pair[1])).or_default();
                entry.0 += count;
                entry.1.insert(w);
            }
        }
        while names.len() < size {
            let best = pairs
                .iter()
                .max_by_key(|(pair, (n, _))| (*n, std::cmp::Reverse(**pair)));
            let Some((&(left, right), (2.., words))) = best else {
                break;
            };
            let words = words.clone();
            let joined = format!(
                "{}{}",
                names[left],
                names[right].trim_start_matches(CONTINUES)
            );
            let joined = number(joined, &mut names);
            for w in words {
                let (symbols, count) = &mut spelled[w];
                for pair in symbols.windows(2) {
                    if let Some(entry) = pairs.get_mut(&(pair[0], pair[1])) {
                        entry.0 = entry.0.saturating_sub(*count);
                        entry.1.remove(&w);
                        if entry.1.is_empty() {
                            pairs.remove(&(pair[0], pair[1]));
                        }
                    }
                }
                let mut next = Vec::with_capacity(symbols.len());
                let mut i = 0;
                while i < symbols.len() {
                    if symbols[i] == left && symbols.get(i + 1) == Some(&right) {
                        next.push(joined);
                        i += 2;
                    } else {
                        next.push(symbols[i]);
                        i += 1;
                    }
                }
                *symbols = next;
                for pair in symbols.windows(2) {
                    let entry = pairs.entry((pair[0], pair[1])).or_default();
                    entry.0 += *count;
                    entry.1.insert(w);
                }
            }
        }
        Self::new(names)
    }

    /// As `vocab.txt`.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.pieces.iter().map(|p| format!("{p}\n")).collect()
    }

    /// Number of pieces.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a vocabulary without its special pieces is refused"
    )]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The piece of a token.
    #[must_use]
    pub fn piece(&self, token: u32) -> Option<&str> {
        self.pieces.get(token as usize).map(String::as_str)
    }

    /// Whether a token is none of a text.
    #[must_use]
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    /// What fills short sentences up.
    #[must_use]
    pub fn padding(&self) -> u32 {
        self.special[0]
    }

    /// What stands for unknown words.
    #[must_use]
    pub fn unknown(&self) -> u32 {
        self.special[1]
    }

    /// What begins a sentence.
    #[must_use]
    pub fn begin(&self) -> u32 {
        self.special[2]
    }

    /// What ends a sentence.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.special[3]
    }

    /// What stands for a token to be guessed.
    #[must_use]
    pub fn mask(&self) -> u32 {
        self.special[4]
    }

    /// The tokens of a sentence, between `[CLS]` and `[SEP]`.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = vec![self.begin()];
        for word in words(text) {
            longest_first(&self.index, self.unknown(), &word, &mut tokens);
        }
        tokens.push(self.end());
        tokens
    }
}

/// Puts a piece behind a text: at once where it continues a word, else after a space.
pub(super) fn join(text: &mut String, piece: &str) {
    match piece.strip_prefix(CONTINUES) {
        Some(rest) => *text += rest,
        None if text.is_empty() => *text += piece,
        None => *text += &format!(" {piece}"),
    }
}

/// The longest piece of a word first, then the longest that continues it; `unknown` for a word that has none.
pub(super) fn longest_first(
    index: &HashMap<String, u32>,
    unknown: u32,
    word: &str,
    tokens: &mut Vec<u32>,
) {
    let before = tokens.len();
    let mut rest = word;
    if word.chars().count() > WORD_LIMIT {
        tokens.push(unknown);
        return;
    }
    while !rest.is_empty() {
        let lead = if rest.len() == word.len() {
            ""
        } else {
            CONTINUES
        };
        let ends = rest.char_indices().map(|(i, c)| i + c.len_utf8());
        let longest = ends.collect::<Vec<_>>().into_iter().rev().find_map(|end| {
            let token = index.get(&format!("{lead}{}", &rest[..end]))?;
            Some((*token, end))
        });
        let Some((token, end)) = longest else {
            tokens.truncate(before);
            tokens.push(unknown);
            return;
        };
        tokens.push(token);
        rest = &rest[end..];
    }
}

fn malformed(detail: String) -> Error {
    Error::malformed(FORMAT, detail)
}

/// The words of a text: in lower case, cut at white space and control characters, each mark of punctuation (and each Chinese character) a word.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let alone = |c: char| punctuation(c) || chinese(c);
    let mut out = Vec::new();
    let mut word = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_whitespace() || c.is_control() || alone(c) {
            if !word.is_empty() {
                out.push(std::mem::take(&mut word));
            }
            if alone(c) {
                out.push(c.to_string());
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}
