//! Zip files as lists of entries, with right checksums; fields of the directory are mutated in place.

use crate::bytes;
use crate::random::Random;

/// A file in a zip.
#[derive(Clone)]
pub struct Entry {
    /// As it stands in the file.
    pub name: Vec<u8>,
    /// 0: as it is, 8: deflated; others are stated and stored.
    pub method: u8,
    /// Not packed.
    pub data: Vec<u8>,
}

/// The file, and where its directory begins.
pub fn file(entries: &[Entry]) -> (Vec<u8>, usize) {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, method, data } in entries {
        let packed = match method {
            8 => bytes::deflate(data),
            _ => data.clone(),
        };
        let mut common = vec![20, 0, 0, 0, *method, 0, 0, 0, 0, 0];
        common.extend(bytes::crc(&[data]).to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let offset = out.len() as u32;
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name);
        out.extend(packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name);
    }
    let (start, size) = (out.len(), directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend((entries.len() as u16).to_le_bytes());
    }
    out.extend(size.to_le_bytes());
    out.extend((start as u32).to_le_bytes());
    out.extend([0, 0]);
    (out, start)
}

/// One mutation of an entry, whatever is in it.
pub fn mutate(r: &mut Random, entries: &mut Vec<Entry>) {
    let count = entries.len();
    let at = r.below(count);
    match r.below(5) {
        _ if count == 0 => {}
        0 => drop(entries.remove(at)),
        1 => entries.insert(at, entries[at].clone()),
        2 => entries[at].method = r.below(10) as u8,
        3 => bytes::mutate(r, &mut entries[at].name),
        _ => bytes::mutate(r, &mut entries[at].data),
    }
}

/// The file; once in four times with another number in a field of the directory or of the end record.
pub fn encode(r: &mut Random, entries: &[Entry]) -> Vec<u8> {
    let (mut out, directory) = file(entries);
    if !r.one_in(4) {
        return out;
    }
    let end = out.len() - 22;
    let record = directory
        + (0..r.below(entries.len() + 1))
            .map(|i| 46 + entries[i].name.len())
            .sum::<usize>();
    // fields have 2 or 4 bytes
    let at = if r.one_in(2) {
        end + *r.pick(&[8, 10, 12, 16, 20])
    } else {
        record + *r.pick(&[0, 10, 16, 20, 24, 28, 30, 32, 42])
    };
    let value = r.boundary().to_le_bytes();
    let width = *r.pick(&[2, 4]);
    bytes::put(&mut out, at, &value[..width]);
    out
}
