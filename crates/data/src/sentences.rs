//! Labelled sentences: a line each, the class's number, a tab, the sentence. The same order and the same masks for the same seed.

use crate::random::Random;
use crate::text::read_text;
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Files of more bytes are refused.
const LIMIT: u64 = 1 << 30;
/// More classes than any file means.
const CLASSES_LIMIT: usize = 1000;
/// Passages of so many words that two sentences share make them relatives.
const SHARED: usize = 6;

/// Labelled sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentences {
    lines: Arc<Vec<(String, usize)>>,
    classes: usize,
}

/// Which sentences of a file are held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldOut {
    /// How many, spread over the file.
    pub sentences: usize,
    /// Those of fewer words are not held out: where a file has phrases beside whole sentences.
    pub words: usize,
}

impl Sentences {
    /// These sentences with the numbers of their classes; there are `classes` of them, or as many as the largest says.
    ///
    /// # Errors
    /// [`Error::Option`] for none, for an empty one, and for a number that is none of the classes.
    pub fn new(lines: Vec<(String, usize)>, classes: Option<usize>) -> Result<Self> {
        let largest = lines.iter().map(|(_, l)| l + 1).max();
        let least = largest.ok_or_else(|| Error::option("there are no sentences"))?;
        let classes = classes.unwrap_or(least.max(2));
        let wrong = |(text, label): &(String, usize)| text.trim().is_empty() || *label >= classes;
        if let Some(i) = lines.iter().position(wrong) {
            let (text, label) = &lines[i];
            return Err(Error::option(format!(
                "sentence {i}, counted from 0, is {text:?} of class {label}: a text of one of {classes} classes is needed"
            )));
        }
        Ok(Self {
            lines: Arc::new(lines),
            classes,
        })
    }

    /// A file of lines `label TAB sentence`, the first of which may be a heading. Labels are numbers from 0; there are `classes` of them, or
    /// as many as the largest says.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Content`] for too large a file, and with the line for one without tab, label or sentence, or whose label is none of
    /// the classes; [`Error::Content`] for a file without sentences.
    pub fn open(path: &Path, classes: Option<usize>) -> Result<Self> {
        let malformed = |detail: String| Error::malformed(path, "sentence", detail);
        let text = read_text(path, LIMIT, "sentence")?;
        let known = classes.unwrap_or(CLASSES_LIMIT);
        let mut lines = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let number = i + 1;
            let cut = line.split_once('\t');
            let Some((label, sentence)) = cut.map(|(l, s)| (l.trim(), s.trim())) else {
                return Err(malformed(format!(
                    "line {number} has no tab: a line is the class's number, a tab and the sentence"
                )));
            };
            let heading = i == 0 && !label.is_empty() && label.parse::<f64>().is_err();
            if heading {
                continue;
            }
            let parsed = label.parse().ok().filter(|&l: &usize| l < known);
            let label = parsed.ok_or_else(|| {
                malformed(format!(
                    "line {number} has the label {label:?}; labels are numbers from 0 to {}",
                    known - 1
                ))
            })?;
            if sentence.is_empty() {
                return Err(malformed(format!("line {number} has no sentence")));
            }
            lines.push((sentence.to_string(), label));
        }
        if lines.is_empty() {
            let detail =
                "it has no sentences; a line is the class's number, a tab and the sentence";
            return Err(Error::content(path, detail));
        }
        Self::new(lines, classes)
    }

    /// How many sentences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The sentences with their classes, in the file's order.
    #[must_use]
    pub fn lines(&self) -> &[(String, usize)] {
        &self.lines
    }

    /// The sentences to train on and those held out. What is part of a held-out one, or shares six words in a row with it, is in neither: a file may have
    /// phrases beside the sentences that they come from.
    ///
    /// # Errors
    /// [`Error::Option`] where one of both would be empty.
    pub fn split(&self, held_out: HeldOut) -> Result<(Self, Self)> {
        let words = |text: &str| text.split_whitespace().count();
        let eligible: Vec<usize> = (0..self.len())
            .filter(|&i| words(&self.lines[i].0) >= held_out.words)
            .collect();
        let n = held_out.sentences;
        if n == 0 || n > eligible.len() {
            return Err(Error::option(format!(
                "{n} sentences of at least {} words can't be held out: there are {}, and choices need at least one",
                held_out.words,
                eligible.len()
            )));
        }
        let chosen: HashSet<usize> = (0..n).map(|i| eligible[i * eligible.len() / n]).collect();
        let split =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_string).collect() };
        let mut shared: HashSet<Vec<String>> = HashSet::new();
        let mut phrases: HashSet<Vec<String>> = HashSet::new();
        for &i in &chosen {
            let all = split(&self.lines[i].0);
            shared.extend(all.windows(SHARED).map(<[String]>::to_vec));
            // single words and pairs are parts of nearly everything
            for n in 3..SHARED {
                phrases.extend(all.windows(n).map(<[String]>::to_vec));
            }
            phrases.insert(all);
        }
        let related = |text: &str| {
            let all = split(text);
            phrases.contains(&all) || all.windows(SHARED).any(|w| shared.contains(w))
        };
        let (mut train, mut held) = (Vec::new(), Vec::new());
        for (i, line) in self.lines.iter().enumerate() {
            if chosen.contains(&i) {
                held.push(line.clone());
            } else if !related(&line.0) {
                train.push(line.clone());
            }
        }
        if train.is_empty() {
            return Err(Error::option(format!(
                "with {n} sentences held out, none is left to train on"
            )));
        }
        let part = |lines| Self {
            lines: Arc::new(lines),
            classes: self.classes,
        };
        Ok((part(train), part(held)))
    }
}

/// How tokens are hidden for masked-language modelling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// Share of the tokens that are to be guessed.
    pub share: f64,
    /// What stands for four fifths of them; a tenth becomes another token, a tenth stays.
    pub mask: u32,
    /// Number of tokens that there are.
    pub vocabulary: usize,
}

impl Masking {
    /// The sentence with tokens hidden, at least one between the first and the last, and what stood there: a function of the name.
    ///
    /// Reference: J. Devlin et al., "BERT" (2019), section 3.1.
    #[must_use]
    pub fn apply(
        &self,
        tokens: &[u32],
        (seed, pass, number): (u64, u64, u64),
    ) -> (Vec<u32>, Vec<Option<u32>>) {
        let mut random = Random::of([seed, pass, u64::from_le_bytes(*b"masking\0"), number]);
        let mut hidden = tokens.to_vec();
        let mut labels = vec![None; tokens.len()];
        if tokens.len() < 3 {
            return (hidden, labels);
        }
        let inner = 1..tokens.len() - 1;
        let sure = inner.start + random.below(inner.len());
        for i in inner {
            let chosen = random.between((0.0, 1.0)) < self.share || i == sure;
            let (kind, other) = (random.below(10), random.below(self.vocabulary.max(1)));
            if chosen {
                labels[i] = Some(tokens[i]);
                match kind {
                    0 => {}
                    1 => hidden[i] = u32::try_from(other).unwrap_or(self.mask),
                    _ => hidden[i] = self.mask,
                }
            }
        }
        (hidden, labels)
    }
}
