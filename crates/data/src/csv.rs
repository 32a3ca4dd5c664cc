//! Tables as text (CSV): fields between commas, semicolons or tabs, quoted where they hold one; a heading or none.

use crate::Result;
use crate::error::Error;
use std::borrow::Cow;
use std::path::Path;

pub(crate) const FORMAT: &str = "CSV";

/// A table's rows, each with the line of the file that it begins on, from 1.
pub(crate) struct Rows<'a> {
    path: &'a Path,
    rest: &'a str,
    separator: char,
    line: usize,
    /// Fields of a row, once one was read.
    width: Option<usize>,
}

impl<'a> Rows<'a> {
    /// The separator is the one of comma, semicolon and tab that the first line has most of.
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut counts = [(0, ','), (0, ';'), (0, '\t')];
        let mut quoted = false;
        for c in rest.chars() {
            if c == '\n' && !quoted {
                break;
            }
            quoted ^= c == '"';
            for (count, separator) in &mut counts {
                *count += usize::from(!quoted && c == *separator);
            }
        }
        // the first of equals
        counts.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let line = rest.lines().next().unwrap_or_default();
        // commas within numbers separate nothing, and are refused where they stand
        let within = |separator: char| {
            let mut fields = line.split(separator);
            line.contains(separator)
                && fields.clone().any(|f| pointed(f).is_some())
                && fields.all(|f| pointed(f).is_some() || f.trim().parse::<f64>().is_ok())
        };
        let separator = [';', '\t'].into_iter().find(|&s| within(s));
        Self {
            path,
            rest,
            separator: separator.unwrap_or(counts[0].1),
            line: 1,
            width: None,
        }
    }

    fn malformed(&self, detail: String) -> Error {
        Error::malformed(self.path, FORMAT, detail)
    }

    /// The next row's line and fields, without spaces around them; empty lines are no rows.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Vec<Cow<'a, str>>)>> {
        loop {
            let line = self.rest.lines().next().unwrap_or_default();
            if !line.trim().is_empty() {
                break;
            }
            match self.rest.split_once('\n') {
                Some((_, rest)) => (self.rest, self.line) = (rest, self.line + 1),
                None => return Ok(None),
            }
        }
        let first = self.line;
        let mut fields = Vec::new();
        loop {
            let field = self.field()?;
            fields.push(field);
            let next = self.rest.chars().next();
            self.rest = &self.rest[next.map_or(0, char::len_utf8)..];
            match next {
                Some(c) if c == self.separator => {}
                Some('\n') => {
                    self.line += 1;
                    break;
                }
                _ => break,
            }
        }
        let width = *self.width.get_or_insert(fields.len());
        if fields.len() != width {
            return Err(self.malformed(format!(
                "line {first} has {} fields, the lines before it have {width}; give every row the same columns",
                fields.len()
            )));
        }
        Ok(Some((first, fields)))
    }

    /// The next field, up to its separator or line's end.
    fn field(&mut self) -> Result<Cow<'a, str>> {
        let end = [self.separator, '\n'];
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        let plain = &self.rest[..length];
        if !plain.trim_start().starts_with('"') {
            self.rest = &self.rest[length..];
            return Ok(Cow::Borrowed(plain.trim()));
        }
        let line = self.line;
        let open = plain.len() - plain.trim_start().len() + 1;
        let mut text = String::new();
        let mut rest = &self.rest[open..];
        loop {
            let Some((part, behind)) = rest.split_once('"') else {
                return Err(self.malformed(format!(
                    "line {line} has a quotation mark that is never closed; close it, or double those that are part of a text"
                )));
            };
            text.push_str(part);
            self.line += part.matches('\n').count();
            match behind.strip_prefix('"') {
                Some(more) => {
                    text.push('"');
                    rest = more;
                }
                None => {
                    rest = behind;
                    break;
                }
            }
        }
        let length = rest.find(end).unwrap_or(rest.len());
        if !rest[..length].trim().is_empty() {
            return Err(self.malformed(format!(
                "line {line} goes on behind a closing quotation mark; double the marks that are part of a text"
            )));
        }
        self.rest = &rest[length..];
        Ok(Cow::Owned(text))
    }
}

/// What stands for a value that is missing, in lower case.
const MISSING: [&str; 8] = ["", "na", "n/a", "nan", "null", "none", "?", "-"];

pub(crate) fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|m| text.trim().eq_ignore_ascii_case(m))
}

/// A number that is written with a decimal comma, with a point instead.
pub(crate) fn pointed(text: &str) -> Option<String> {
    let (whole, part) = text.trim().split_once(',')?;
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let number = digits(whole.trim_start_matches(['-', '+']))
        && part.starts_with(|c: char| c.is_ascii_digit());
    let pointed = format!("{whole}.{part}");
    (number && pointed.parse::<f64>().is_ok()).then_some(pointed)
}

/// What is wrong with a text in place of a finite number.
pub(crate) enum Unusable {
    /// It is a word, as others of its column will be.
    Word(String),
    /// This value.
    Value(String),
}

/// A finite number.
pub(crate) fn number(text: &str) -> std::result::Result<f64, Unusable> {
    if is_missing(text) {
        return Err(Unusable::Value(format!(
            "has no value ({text:?}); fill it in, or leave its row or column out"
        )));
    }
    match text.trim().parse::<f64>() {
        Ok(v) if v.is_finite() => Ok(v),
        Ok(_) => Err(Unusable::Value(format!(
            "is {text:?}; replace what is no finite number, or leave its row out"
        ))),
        Err(_) if pointed(text).is_some() => Err(Unusable::Value(format!(
            "is {text:?}, with a decimal comma; write numbers with a point, as {}",
            pointed(text).unwrap_or_default()
        ))),
        Err(_) => Err(Unusable::Word(format!(
            "is {text:?}, which is no number; make numbers of texts, or leave the column out"
        ))),
    }
}
