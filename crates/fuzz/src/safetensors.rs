//! Mutations of safetensors files, of `.pvm` models and of checkpoints: the header, the description inside of it, the data.

use crate::random::Random;
use crate::{bytes, json};
use serde_json::Value;

/// A safetensors file from its header and data.
pub(crate) fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    while !header.len().is_multiple_of(8) {
        header.push(b' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// Header and data of a valid file.
pub(crate) fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = file.first_chunk().map_or(0, |l| u64::from_le_bytes(*l)) as usize;
    (file[8..8 + length].to_vec(), file[8 + length..].to_vec())
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = r.seed(seeds).clone();
    for _ in 0..r.few() {
        match r.below(12) {
            0 => {
                let other = r.pick(seeds);
                header = bytes::splice(r, &header, &other.0);
            }
            1 => data = r.pick(seeds).1.clone(),
            2 => bytes::mutate(r, &mut data),
            3 | 4 if !data.is_empty() => {
                let at = r.below(data.len());
                data[at] ^= 1 << r.below(8);
            }
            5..=8 => describe(r, &mut header),
            _ => json::mutate(r, &mut header),
        }
    }
    let mut out = file(&header, &data);
    if r.one_in(16) {
        out[..8].copy_from_slice(&r.boundary().to_le_bytes());
    }
    if r.one_in(16) {
        bytes::mutate(r, &mut out);
    }
    out
}

/// Mutates the description of a network or of a run's state, which is JSON in a string of the header.
fn describe(r: &mut Random, header: &mut Vec<u8>) {
    let Ok(mut value) = serde_json::from_slice::<Value>(header) else {
        return bytes::mutate(r, header);
    };
    let described = |key: &&str| value["__metadata__"][key].is_string();
    let Some(key) = ["graph", "state"].into_iter().find(described) else {
        return json::mutate(r, header);
    };
    let text = value["__metadata__"][key].as_str().unwrap_or_default();
    let mut text = text.as_bytes().to_vec();
    json::mutate(r, &mut text);
    value["__metadata__"][key] = String::from_utf8_lossy(&text).into_owned().into();
    *header = value.to_string().into_bytes();
}
