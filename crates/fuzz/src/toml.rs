//! Mutations of TOML texts, line by line.

use crate::bytes::{self, MOST};
use crate::random::Random;

fn value(r: &mut Random) -> Vec<u8> {
    const ODD: &str = "0 1 2 -1 0.5 1.0 1e308 1e999 -0.0 nan -inf inf 0x10 1_000 true false \"none\" \"relu\" 'x' \
        \"\\u0000\" [] {} [1,2] [2.0,-2.0] 1979-05-27 \"\"\"\n\"\"\"";
    match r.below(8) {
        0 | 1 => r.boundary().to_string().into_bytes(),
        2 => r.below(300).to_string().into_bytes(),
        3 => {
            let depth = *r.pick(&[2usize, 79, 80, 81, 500, 10_000]);
            let (left, right) = *r.pick(&[("[", "]"), ("{a=", "}")]);
            (left.repeat(depth) + "1" + &right.repeat(depth)).into_bytes()
        }
        _ => r.word(ODD),
    }
}

fn mutate(r: &mut Random, lines: &mut Vec<Vec<u8>>, seeds: &[Vec<u8>]) {
    let count = lines.len();
    let at = r.below(count);
    match r.below(12) {
        _ if count == 0 => lines.push(r.pick(seeds).clone()),
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines.swap(at, r.below(count)),
        3 => {
            let part = lines[r.span(count)].to_vec();
            drop(lines.splice(at..at, part));
        }
        4 => {
            const HEADS: &str = "[[stage]] [stage.rate] [stage.substitution.order] [network] [teacher] \
                [data.augmentation.resized_crop] [[stage.x]] #";
            lines.insert(at, r.word(HEADS));
        }
        5 => {
            let depth = *r.pick(&[3usize, 79, 80, 81, 5000]);
            let head = "[a".to_owned() + &".a".repeat(depth) + "]";
            lines.insert(at, head.into_bytes());
        }
        6 => bytes::mutate(r, &mut lines[at]),
        _ => {
            // another value for a key
            let other = lines[r.below(count)].clone();
            let equals = |line: &[u8]| line.iter().position(|&b| b == b'=');
            if let Some(end) = equals(&lines[at]) {
                let new = match equals(&other) {
                    Some(from) if r.one_in(4) => other[from + 1..].to_vec(),
                    _ => value(r),
                };
                lines[at].truncate(end + 1);
                lines[at].extend(new);
            }
        }
    }
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let text = r.pick(seeds);
    let mut lines: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..r.few() {
        mutate(r, &mut lines, seeds);
    }
    let mut out = lines.join(&b'\n');
    out.truncate(MOST);
    out
}
