//! Evaluation sets of language models: LAMBADA (the last word of a passage) and PIQA (the better of two answers).
//!
//! LAMBADA is a file of JSON lines with `text`; PIQA one of JSON lines with `goal`, `sol1`, `sol2` and a file with the right answer, 0 or 1, of each
//! line.
//!
//! References: D. Paperno et al., "The LAMBADA Dataset" (2016); Y. Bisk et al., "PIQA: Reasoning about Physical Commonsense in Natural Language" (2020).

use crate::text::{LIMIT, read_text};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// A passage whose last word is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// What stands before the last word's space.
    pub context: String,
    /// The last word.
    pub word: String,
}

/// A question with two answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is to be done.
    pub goal: String,
    /// Two ways to do it.
    pub answers: [String; 2],
    /// The better one, 0 or 1.
    pub right: usize,
}

impl Passage {
    /// What is to be found behind the context.
    #[must_use]
    pub fn continuation(&self) -> String {
        format!(" {}", self.word)
    }
}

impl Question {
    /// What stands before an answer, as lm-evaluation-harness puts it.
    #[must_use]
    pub fn prompt(&self) -> String {
        format!("Question: {}\nAnswer:", self.goal)
    }

    /// What is to be found behind the prompt: this answer, 0 or 1.
    #[must_use]
    pub fn continuation(&self, answer: usize) -> String {
        format!(" {}", self.answers[answer])
    }
}

const LAMBADA: &str = "LAMBADA";
const PIQA: &str = "PIQA";

fn text(path: &Path, format: &'static str) -> Result<String> {
    read_text(path, LIMIT, format)
}

/// Each line's object, with the line's number from 1; empty lines at the end are none.
fn objects<'a, T: Deserialize<'a>>(
    path: &Path,
    format: &'static str,
    text: &'a str,
) -> Result<Vec<(usize, T)>> {
    let lines = text.trim_end().lines().enumerate();
    let read = lines.map(|(i, line)| {
        let object = serde_json::from_str(line)
            .map_err(|e| Error::malformed(path, format, format!("line {}: {e}", i + 1)))?;
        Ok((i + 1, object))
    });
    let all: Vec<(usize, T)> = read.collect::<Result<_>>()?;
    if all.is_empty() {
        return Err(Error::content(path, format!("it has no line of {format}")));
    }
    Ok(all)
}

/// The passages of a file.
///
/// # Errors
/// [`Error::Io`], and [`Error::Content`] for too large a file and with the line that is no passage or has no word before its last
/// one.
pub fn lambada(path: &Path) -> Result<Vec<Passage>> {
    #[derive(Deserialize)]
    struct Line {
        text: String,
    }
    let content = text(path, LAMBADA)?;
    let lines = objects::<Line>(path, LAMBADA, &content)?;
    let passages = lines.into_iter().map(|(i, line)| {
        let parts = line.text.rsplit_once(' ');
        let parts = parts.filter(|(context, word)| !context.is_empty() && !word.is_empty());
        let (context, word) = parts.ok_or_else(|| {
            let detail = format!("line {i} has no last word behind a space, which is to be found");
            Error::malformed(path, LAMBADA, detail)
        })?;
        Ok(Passage {
            context: context.into(),
            word: word.into(),
        })
    });
    passages.collect()
}

/// The questions of a file with their right answers.
///
/// # Errors
/// [`Error::Io`], and [`Error::Content`] for too large a file and with the line that is no question or no label, or with both counts
/// where they differ.
pub fn piqa(path: &Path, labels: &Path) -> Result<Vec<Question>> {
    #[derive(Deserialize)]
    struct Line {
        goal: String,
        sol1: String,
        sol2: String,
    }
    let content = text(path, PIQA)?;
    let lines = objects::<Line>(path, PIQA, &content)?;
    let right = text(labels, "PIQA label")?;
    let right: Vec<&str> = right.trim_end().lines().collect();
    if right.len() != lines.len() {
        let (had, needed, path) = (right.len(), lines.len(), path.display());
        let detail = format!(
            "it has {had} labels, {path} has {needed} questions; give the labels of these questions"
        );
        return Err(Error::malformed(labels, "PIQA label", detail));
    }
    let questions = lines.into_iter().zip(right).map(|((i, line), right)| {
        let right = match right.trim() {
            "0" => 0,
            "1" => 1,
            other => {
                let detail = format!("line {i} is {other:?}, a label is 0 or 1");
                return Err(Error::malformed(labels, "PIQA label", detail));
            }
        };
        if line.sol1.is_empty() || line.sol2.is_empty() {
            let detail = format!("line {i} has an empty answer");
            return Err(Error::malformed(path, PIQA, detail));
        }
        Ok(Question {
            goal: line.goal,
            answers: [line.sol1, line.sol2],
            right,
        })
    });
    questions.collect()
}
