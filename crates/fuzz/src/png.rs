//! Mutations of PNG files as lists of chunks, checksums repaired; the picture's lines are edited inflated.

use crate::bytes;
use crate::random::Random;
use std::io::Read;

/// A chunk: type and data.
pub(crate) type Chunk = (Vec<u8>, Vec<u8>);

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The chunks of a valid file; `IDAT` inflated.
pub(crate) fn parse(file: &[u8]) -> Vec<Chunk> {
    let (mut chunks, mut at) = (Vec::new(), 8);
    while at + 12 <= file.len() {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap_or_default()) as usize;
        let kind = file[at + 4..at + 8].to_vec();
        let mut data = file[at + 8..at + 8 + length].to_vec();
        if kind == b"IDAT" {
            let mut raw = Vec::new();
            flate2::read::ZlibDecoder::new(&data[..])
                .read_to_end(&mut raw)
                .expect("a valid seed");
            data = raw;
        }
        chunks.push((kind, data));
        at += 12 + length;
    }
    chunks
}

fn encode(r: &mut Random, chunks: &[Chunk]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    for (kind, data) in chunks {
        let mut data = data.clone();
        if kind == b"IDAT" {
            let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), &v| {
                let a = (a + u32::from(v)) % 65_521;
                (a, (a + b) % 65_521)
            });
            let (packed, sum) = (bytes::deflate(&data), (b << 16 | a).to_be_bytes());
            data = [&[0x78, 0x01][..], &packed, &sum].concat();
            if r.one_in(16) {
                bytes::mutate(r, &mut data);
            }
        }
        let length = if r.one_in(128) {
            r.boundary() as u32
        } else {
            data.len() as u32
        };
        out.extend(length.to_be_bytes());
        let sum = bytes::crc(&[kind, &data]);
        out.extend(kind);
        out.extend(data);
        out.extend(if r.one_in(256) { 0 } else { sum }.to_be_bytes());
    }
    out
}

/// One mutant.
pub(crate) fn generate(r: &mut Random, seeds: &[Vec<Chunk>]) -> Vec<u8> {
    let mut chunks = r.pick(seeds).clone();
    for _ in 0..r.few() {
        let count = chunks.len();
        let at = r.below(count);
        match r.below(10) {
            0 if count > 0 => drop(chunks.remove(at)),
            1 if count > 0 => chunks.insert(at, chunks[at].clone()),
            2 if count > 0 => chunks.swap(at, r.below(count)),
            3 => {
                const KINDS: &str =
                    "PLTE tRNS gAMA cHRM sRGB iCCP tEXt zTXt iTXt acTL fcTL fdAT eXIf pHYs";
                let data = (0..r.below(60)).map(|_| r.next() as u8).collect();
                chunks.insert(at, (r.word(KINDS), data));
            }
            4 | 5 => {
                // width, height, depth, colour, compression, filter, interlacing
                let is_head = |c: &&mut Chunk| c.0 == b"IHDR" && c.1.len() >= 13;
                if let Some((_, head)) = chunks.iter_mut().find(is_head) {
                    match r.below(6) {
                        0 | 1 => {
                            let at = 4 * r.below(2);
                            // large pictures cost time, so they are rare
                            let size = if r.one_in(64) {
                                r.boundary() as u32
                            } else {
                                r.below(40) as u32
                            };
                            head[at..at + 4].copy_from_slice(&size.to_be_bytes());
                        }
                        2 => head[8] = *r.pick(&[1, 2, 4, 8, 16]),
                        3 => head[9] = *r.pick(&[0, 2, 3, 4, 6]),
                        4 => head[12] ^= 1,
                        _ => head[8 + r.below(5)] = r.next() as u8,
                    }
                }
            }
            _ if count > 0 => bytes::mutate(r, &mut chunks[at].1),
            _ => {}
        }
    }
    let out = encode(r, &chunks);
    bytes::finish(r, out)
}
