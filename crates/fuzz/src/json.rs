//! Mutations of JSON texts: numbers, strings, keys, nesting, missing, doubled and exchanged values.

use crate::bytes::{self, MOST, insert};
use crate::random::Random;
use std::ops::Range;

/// Places of values and keys in a text, containers included.
fn values(text: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut open, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        let begin = at;
        at += 1;
        match text[begin] {
            b'{' | b'[' => open.push(begin),
            b'}' | b']' => found.extend(open.pop().map(|from| from..at)),
            b'"' => {
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(text.len());
                found.push(begin..at);
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                while at < text.len()
                    && matches!(text[at], b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'a'..=b'z')
                {
                    at += 1;
                }
                found.push(begin..at);
            }
            _ => {}
        }
    }
    found
}

fn number(r: &mut Random, had: &[u8]) -> Vec<u8> {
    const ODD: &str = "-1 -0.0 0.5 1e308 -1e308 1e-320 1e999 -9223372036854775808 18446744073709551616 \
        1e18446744073709551616 0.30000000000000004 00 1. 2.0";
    let whole = std::str::from_utf8(had)
        .ok()
        .and_then(|s| s.parse::<i64>().ok());
    let new = match (r.below(4), whole) {
        (0, Some(v)) => v.wrapping_add(*r.pick(&[-2, -1, 1, 2])).to_string(),
        (0 | 1, _) => r.below(20).to_string(),
        (2, _) => r.boundary().to_string(),
        _ => return r.word(ODD),
    };
    new.into_bytes()
}

fn string(r: &mut Random) -> Vec<u8> {
    let mut inside = match r.below(6) {
        0 => Vec::new(),
        1 => vec![b'A'; r.below(20_000)],
        2 => br"\u0000\ud83d\ude00\uffff".to_vec(),
        3 => br"\ud800".to_vec(),
        4 => b"toy-".to_vec(),
        _ => vec![0xff, 0xc0, b'a'],
    };
    inside.insert(0, b'"');
    inside.push(b'"');
    inside
}

/// One mutation.
pub(crate) fn mutate(r: &mut Random, text: &mut Vec<u8>) {
    let all = values(text);
    if all.is_empty() || r.one_in(16) {
        return bytes::mutate(r, text);
    }
    let at = r.pick(&all).clone();
    let first = text[at.start];
    let is_number = matches!(first, b'-' | b'0'..=b'9');
    let is_key = first == b'"' && text.get(at.end) == Some(&b':');
    let new = match r.below(12) {
        0..=3 if is_number => number(r, &text[at.clone()]),
        0..=2 if first == b'"' => string(r),
        4 => r.word(r#"null true [] {} "" 0 [0]"#),
        5 => {
            let depth = *r.pick(&[1usize, 2, 120, 127, 128, 129, 5000]);
            let (left, right) = *r.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let (left, right) = (left.repeat(depth), right.repeat(depth));
            [left.as_bytes(), &text[at.clone()], right.as_bytes()].concat()
        }
        6 => {
            // gone, with one comma beside it
            let (mut from, mut to) = (at.start, at.end);
            if text.get(to) == Some(&b',') {
                to += 1;
            } else if from > 0 && text[from - 1] == b',' {
                from -= 1;
            }
            drop(text.drain(from..to));
            return;
        }
        7 | 8 if !is_key => {
            let times = if r.one_in(8) { r.below(200) } else { 1 };
            let copy = [b",", &text[at.clone()]].concat();
            for _ in 0..times {
                insert(text, at.end, &copy);
            }
            return;
        }
        7 | 8 => {
            // the same key again, with another value
            let value = text[r.pick(&all).clone()].to_vec();
            let pair = [&text[at.clone()], b":", &value, b","].concat();
            return insert(text, at.start, &pair);
        }
        9 if is_number => number(r, &text[at.clone()]),
        _ => text[r.pick(&all).clone()].to_vec(),
    };
    if text.len() + new.len() <= MOST {
        drop(text.splice(at, new));
    }
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut text = r.pick(seeds).clone();
    for _ in 0..r.few() {
        mutate(r, &mut text);
    }
    text.truncate(MOST);
    text
}
