//! Mutations of the project's own files: sections and header are edited apart, and checksums, lengths and digests are mostly
//! repaired, so that mutants get past them.

use crate::random::Random;
use crate::{bytes, json};
use ckks::ParametersSpec;
use runtime::wire::container::Kind;
use std::io::Read;

/// A file taken apart.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Bytes 0 to 160: all but the header's checksum.
    header: Vec<u8>,
    sections: Vec<Section>,
}

#[derive(Clone)]
struct Section {
    tag: Vec<u8>,
    payload: Vec<u8>,
    /// The length that the section states; None: the true one.
    length: Option<u64>,
    /// Inflated here, deflated in the file.
    deflated: bool,
}

impl Parts {
    /// Takes a valid file apart.
    pub(crate) fn of(file: &[u8]) -> Self {
        let mut sections = Vec::new();
        let mut at = 192;
        while at < file.len() {
            let length = u64::from_le_bytes(file[at + 4..at + 12].try_into().unwrap_or_default());
            let (from, to) = (at + 12, at + 12 + length as usize);
            let tag = file[at..at + 4].to_vec();
            let deflated = tag == b"blob";
            let mut payload = file[from..to].to_vec();
            if deflated {
                let mut raw = Vec::new();
                let mut inflate = flate2::read::DeflateDecoder::new(&payload[..]);
                inflate.read_to_end(&mut raw).expect("a valid seed");
                payload = raw;
            }
            sections.push(Section {
                tag,
                payload,
                length: None,
                deflated,
            });
            at = to + 32;
        }
        Self {
            header: file[..160].to_vec(),
            sections,
        }
    }

    fn kind(&self) -> u8 {
        self.header[5]
    }

    fn bytes(&self, sums: bool) -> Vec<u8> {
        let sum = |part: &[u8]| {
            if sums {
                *blake3::hash(part).as_bytes()
            } else {
                [0; 32]
            }
        };
        let mut out = self.header.clone();
        out.extend(sum(&self.header));
        for s in &self.sections {
            let packed = if s.deflated {
                bytes::deflate(&s.payload)
            } else {
                s.payload.clone()
            };
            let mut section = s.tag.clone();
            section.extend(s.length.unwrap_or(packed.len() as u64).to_le_bytes());
            section.extend(packed);
            out.extend(&section);
            out.extend(sum(&section));
        }
        out
    }

    /// The header's length and count as they should be.
    fn repair_header(&mut self) {
        let length = self.bytes(false).len() as u64;
        self.header[8..16].copy_from_slice(&length.to_le_bytes());
        self.header[16..20].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
    }

    /// The parameters' digest as it should be, where the first section names valid ones.
    fn repair_parameters(&mut self) {
        let Some(first) = self.sections.first() else {
            return;
        };
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&first.payload) else {
            return;
        };
        let spec = if self.kind() == Kind::EvaluationKeys as u8 {
            &value[0]
        } else {
            &value["parameters"]
        };
        if let Ok(spec) = serde_json::from_value::<ParametersSpec>(spec.clone())
            && let Ok(p) = runtime::checked_parameters(spec, "mutant")
        {
            self.header[32..64].copy_from_slice(&runtime::parameters_digest(&p));
        }
    }

    /// A client file's digests as they should be: that of its task in its first section, its own in the header.
    fn repair_client(&mut self) {
        let [spec, _, task, ..] = &mut self.sections[..] else {
            return;
        };
        if self.header[5] != Kind::ClientFile as u8 {
            return;
        }
        let text = String::from_utf8_lossy(&spec.payload).into_owned();
        let key = "\"task\":[";
        if let Some((before, rest)) = text.split_once(key)
            && let Some((_, after)) = rest.split_once(']')
        {
            let digest = runtime::wire::task_digest(&task.payload).map(|b| b.to_string());
            spec.payload = format!("{before}{key}{}]{after}", digest.join(",")).into_bytes();
        }
        // in the form in which it is written, where it can be read
        if let Ok(read) = serde_json::from_slice::<runtime::ClientSpec>(&spec.payload) {
            spec.payload = serde_json::to_vec(&read).unwrap_or_default();
        }
        let hasher = content(&self.sections[..2]);
        self.header[96..128].copy_from_slice(hasher.finalize().as_bytes());
    }

    /// The plan's digest as it should be: of a plan's content, of the plan that a client file names.
    fn repair_plan(&mut self) {
        if self.kind() == Kind::Plan as u8 && self.sections.len() == 5 {
            let mut hasher = content(&self.sections[..4]);
            // of each weight vector's own digest
            let table = serde_json::from_slice(&self.sections[3].payload);
            let table: Vec<(String, usize)> = table.unwrap_or_default();
            let mut weights = &self.sections[4].payload[..];
            for (form, length) in table {
                let width = match &form[..] {
                    "Single" => 4,
                    "Double" => 8,
                    _ => 16,
                };
                let bytes = length.saturating_mul(width).min(weights.len());
                let (vector, rest) = weights.split_at(bytes);
                hasher.update(blake3::hash(vector).as_bytes());
                weights = rest;
            }
            self.header[64..96].copy_from_slice(hasher.finalize().as_bytes());
        }
    }
}

/// What digests of contents begin with: every section after its length.
fn content(sections: &[Section]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for s in sections {
        hasher.update(&(s.payload.len() as u64).to_le_bytes());
        hasher.update(&s.payload);
    }
    hasher
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[Parts]) -> Vec<u8> {
    // the first seed is the cheapest to decode
    let most = if r.one_in(8) { seeds.len() } else { 1 };
    let mut parts = seeds[r.below(most)].clone();
    let mut described = false;
    for _ in 0..r.few() {
        let count = parts.sections.len();
        let at = r.below(count);
        match r.below(16) {
            0 => {
                let at = *r.pick(&[0, 5, 6, 8, 16, 20, 28, 32, 64, 96, 128, 144]);
                let width = match at {
                    5 => 1,
                    6 => 2,
                    8 => 8,
                    _ => 4,
                };
                let value = r.boundary().to_le_bytes();
                bytes::put(&mut parts.header, at, &value[..width]);
                if at == 5 {
                    parts.header[5] = r.below(10) as u8;
                }
            }
            1 if count > 0 => parts.sections[at].length = Some(r.boundary()),
            2 if count > 0 => match r.below(5) {
                0 => drop(parts.sections.remove(at)),
                1 => parts.sections.insert(at, parts.sections[at].clone()),
                2 => parts.sections.swap(at, r.below(count)),
                3 => parts.sections[at].tag[r.below(4)] ^= 1 << r.below(8),
                _ => parts.sections.truncate(at),
            },
            3 => {
                let other = r.pick(seeds);
                if let (Some(s), Some(o)) = (parts.sections.get_mut(at), other.sections.get(at)) {
                    s.payload = if r.one_in(2) {
                        o.payload.clone()
                    } else {
                        bytes::splice(r, &s.payload, &o.payload)
                    };
                    described |= at == 0;
                }
            }
            _ if count > 0 => {
                // texts are where the structure is
                let is_text = |payload: &[u8]| payload.first().is_some_and(|b| b"[{".contains(b));
                let texts = parts.sections.iter().filter(|s| is_text(&s.payload));
                let texts = texts.count();
                let first = texts > 0 && !r.one_in(4);
                let at = if first { r.below(texts) } else { at };
                let payload = &mut parts.sections[at].payload;
                if is_text(payload) {
                    json::mutate(r, payload);
                    described |= at == 0;
                } else if r.one_in(2) && !payload.is_empty() {
                    // of the same length: residues, coefficients, weights
                    let at = r.below(payload.len());
                    payload[at] ^= 1 << r.below(8);
                } else {
                    bytes::mutate(r, payload);
                }
            }
            _ => {}
        }
    }
    if described && !r.one_in(4) {
        parts.repair_parameters();
    }
    if !r.one_in(16) {
        parts.repair_client();
        parts.repair_plan();
    }
    if !r.one_in(16) {
        parts.repair_header();
    }
    let mut out = parts.bytes(!r.one_in(32));
    if r.one_in(16) {
        bytes::mutate(r, &mut out);
    }
    out
}
