//! Mutations that know nothing of a format.

use crate::random::Random;
use std::io::Write;

/// No mutant is larger.
pub const MOST: usize = 1 << 16;

/// One mutation: bits, bytes, numbers at boundaries, cuts, insertions, copies.
pub fn mutate(r: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(r.next() as u8);
        return;
    }
    let at = r.below(bytes.len());
    match r.below(12) {
        0 | 1 => bytes[at] ^= 1 << r.below(8),
        2 => bytes[at] = r.next() as u8,
        3 => bytes[at] = *r.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'0', b'-']),
        4 | 5 => {
            let width = *r.pick(&[2usize, 4, 8]);
            let mut value = r.boundary().to_le_bytes();
            if r.one_in(4) {
                value[..width].reverse();
            }
            put(bytes, at, &value[..width]);
        }
        6 => bytes.truncate(at),
        7 => {
            let most = if r.one_in(8) { 4096 } else { 32 };
            let length = bytes.len() + r.below(most);
            bytes.resize(length, r.next() as u8);
        }
        8 => drop(bytes.drain(r.span(bytes.len()))),
        9 | 10 => {
            let copy = bytes[r.span(bytes.len())].to_vec();
            insert(bytes, at, &copy);
        }
        _ => {
            let copy = bytes[r.span(bytes.len())].to_vec();
            put(bytes, at, &copy);
        }
    }
}

/// Writes over what is there, as far as it reaches.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (b, v) in bytes.iter_mut().skip(at).zip(value) {
        *b = *v;
    }
}

/// Cut where it is too large, and once in 16 times damaged.
pub fn finish(r: &mut Random, mut file: Vec<u8>) -> Vec<u8> {
    file.truncate(MOST);
    if r.one_in(16) {
        mutate(r, &mut file);
    }
    file
}

/// The checksum of zips, gzip files and PNGs.
pub fn crc(parts: &[&[u8]]) -> u32 {
    let mut sum = flate2::Crc::new();
    parts.iter().for_each(|p| sum.update(p));
    sum.sum()
}

/// One mutant of files that nothing is known of.
pub fn generate(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut file = r.pick(seeds).clone();
    for _ in 0..=r.below(3) {
        mutate(r, &mut file);
    }
    file
}

/// Inserts unless the result would be too large.
pub fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    if bytes.len() + part.len() <= MOST {
        drop(bytes.splice(at..at, part.iter().copied()));
    }
}

/// As a deflate stream; without compression where it is short: compressors take longer to set up than mutants to decode.
pub fn deflate(raw: &[u8]) -> Vec<u8> {
    if raw.len() > MOST {
        let mut packed =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(raw).expect("in memory");
        return packed.finish().expect("in memory");
    }
    let mut out = Vec::with_capacity(raw.len() + 16);
    let blocks = raw.len().div_ceil(65_535).max(1);
    for i in 0..blocks {
        let block = &raw[i * 65_535..raw.len().min((i + 1) * 65_535)];
        out.push(u8::from(i + 1 == blocks));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    out
}

/// The beginning of one and the end of another.
pub fn splice(r: &mut Random, a: &[u8], b: &[u8]) -> Vec<u8> {
    let (x, y) = (r.below(a.len() + 1), r.below(b.len() + 1));
    let y = if r.one_in(2) { x.min(b.len()) } else { y };
    [&a[..x], &b[y..]].concat()
}

/// As a gzip file.
pub fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(deflate(raw));
    out.extend(crc(&[raw]).to_le_bytes());
    out.extend((raw.len() as u32).to_le_bytes());
    out
}
