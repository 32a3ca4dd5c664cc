//! Mutations of protobuf messages as trees of fields, whatever the schema.

use crate::bytes;
use crate::random::Random;
use prost::encoding::{decode_varint, encode_varint};

/// One field: its key (number and wire type) and its content.
#[derive(Clone)]
pub(crate) struct Field {
    key: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// The fields of a message; None where it is none.
pub(crate) fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = decode_varint(&mut bytes).ok()?;
        if !(1..=64).contains(&(key >> 3)) {
            return None;
        }
        let length = match key & 7 {
            0 => 0,
            1 => 8,
            5 => 4,
            2 => usize::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            _ => return None,
        };
        let part = bytes.split_off(..length)?;
        let content = match key & 7 {
            0 => Content::Varint(decode_varint(&mut bytes).ok()?),
            2 => match parse(part) {
                Some(fields) if !fields.is_empty() => Content::Message(fields),
                _ => Content::Bytes(part.to_vec()),
            },
            _ => Content::Fixed(part.to_vec()),
        };
        fields.push(Field { key, content });
    }
    Some(fields)
}

fn encode(r: &mut Random, fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for f in fields {
        encode_varint(f.key, &mut out);
        let part = match &f.content {
            Content::Varint(v) => {
                encode_varint(*v, &mut out);
                continue;
            }
            Content::Fixed(b) => {
                out.extend(b);
                continue;
            }
            Content::Bytes(b) => b.clone(),
            Content::Message(m) => encode(r, m),
        };
        let length = if r.one_in(256) {
            r.boundary()
        } else {
            part.len() as u64
        };
        encode_varint(length, &mut out);
        out.extend(part);
    }
    out
}

/// One mutation somewhere in the tree.
fn mutate(r: &mut Random, fields: &mut Vec<Field>, seeds: &[Vec<Field>]) {
    if fields.is_empty() {
        fields.extend(r.pick(seeds).first().cloned());
        return;
    }
    let at = r.below(fields.len());
    if let Content::Message(inner) = &mut fields[at].content
        && !r.one_in(5)
    {
        return mutate(r, inner, seeds);
    }
    let count = fields.len();
    match r.below(10) {
        0 => drop(fields.remove(at)),
        1 => {
            let copy = fields[at].clone();
            let times = if r.one_in(16) { r.below(64) } else { 1 };
            drop(fields.splice(at..at, std::iter::repeat_n(copy, times)));
        }
        2 => fields.swap(at, r.below(count)),
        3 => {
            fields[at].key = if r.one_in(4) {
                r.boundary()
            } else {
                (1 + r.next() % 20) << 3 | (fields[at].key & 7)
            }
        }
        4 => {
            // a field of another message
            let mut from = r.pick(seeds);
            while let Content::Message(inner) = &r.pick(from).content
                && !r.one_in(3)
                && !inner.is_empty()
            {
                from = inner;
            }
            fields.insert(at, r.pick(from).clone());
        }
        5 => {
            let inner = std::mem::take(&mut fields[at].content);
            let key = fields[at].key & !7 | 2;
            let depth = *r.pick(&[1usize, 2, 99, 100, 101, 1000]);
            fields[at].content = (0..depth).fold(inner, |content, _| {
                Content::Message(vec![Field { key, content }])
            });
            fields[at].key = key;
        }
        6 => {
            let other = r.below(count);
            fields[at].content = fields[other].content.clone();
        }
        _ => match &mut fields[at].content {
            Content::Varint(v) => match r.below(4) {
                0 => *v = r.below(20) as u64,
                1 => *v = v.wrapping_add(*r.pick(&[1, u64::MAX])),
                2 => *v = (r.below(16) as u64).wrapping_neg(),
                _ => *v = r.boundary(),
            },
            Content::Fixed(b) | Content::Bytes(b) => {
                let length = b.len();
                bytes::mutate(r, b);
                if fields[at].key & 7 != 2 {
                    let Content::Fixed(b) = &mut fields[at].content else {
                        return;
                    };
                    b.resize(length, 0);
                }
            }
            Content::Message(_) => {
                fields[at].content = Content::Bytes(vec![r.next() as u8; r.below(40)])
            }
        },
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[Vec<Field>]) -> Vec<u8> {
    let mut fields = r.pick(seeds).clone();
    for _ in 0..r.few() {
        mutate(r, &mut fields, seeds);
    }
    let out = encode(r, &fields);
    bytes::finish(r, out)
}
