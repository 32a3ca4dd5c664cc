//! Zip files as lists of entries, with right checksums; fields of the directory are mutated in place.

use crate::bytes;
use crate::random::Random;

/// A file in a zip.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    /// 0: as it is, 8: deflated; others are stated and stored.
    pub(crate) method: u8,
    pub(crate) data: Vec<u8>,
}

/// The file, and where its directory begins.
pub(crate) fn file(entries: &[Entry]) -> (Vec<u8>, usize) {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, method, data } in entries {
        let packed = match method {
            8 => bytes::deflate(data),
            _ => data.clone(),
        };
        let mut sum = flate2::Crc::new();
        sum.update(data);
        let mut common = vec![20, 0, 0, 0, *method, 0, 0, 0, 0, 0];
        common.extend(sum.sum().to_le_bytes());
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
pub(crate) fn mutate(r: &mut Random, entries: &mut Vec<Entry>) {
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
pub(crate) fn encode(r: &mut Random, entries: &[Entry]) -> Vec<u8> {
    let (mut out, directory) = file(entries);
    if !r.one_in(4) {
        return out;
    }
    let end = out.len() - 22;
    let record = directory
        + (0..r.below(entries.len() + 1))
            .map(|i| 46 + entries[i].name.len())
            .sum::<usize>();
    let (at, width) = if r.one_in(2) {
        let (offset, width) = *r.pick(&[(8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]);
        (end + offset, width)
    } else {
        let (offset, width) = *r.pick(&[
            (0, 4),
            (10, 2),
            (16, 4),
            (20, 4),
            (24, 4),
            (28, 2),
            (30, 2),
            (32, 2),
            (42, 4),
        ]);
        (record + offset, width)
    };
    let value = r.boundary().to_le_bytes();
    if let Some(field) = out.get_mut(at..at + width) {
        field.copy_from_slice(&value[..width]);
    }
    out
}
