//! The directory of a zip file (torch checkpoints, `.npz`); what lies in the entries is their readers' business.

use crate::Result;
use crate::error::Error;
use std::collections::BTreeMap;

/// [`Entry::method`] of entries that are not compressed.
pub const STORED: u16 = 0;
/// [`Entry::method`] of deflate streams.
pub const DEFLATED: u16 = 8;

/// One file in a zip.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// How it is compressed.
    pub method: u16,
    /// Its bytes as they lie in the zip.
    pub bytes: &'a [u8],
    /// How many bytes it claims to have unpacked: a claim, so nothing to allocate by.
    pub size: usize,
    /// The CRC-32 that the unpacked bytes should have.
    crc: u32,
}

impl Entry<'_> {
    /// Refuses unpacked bytes that are not those that the zip was made of, by length and CRC-32.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn expect(&self, name: &str, unpacked: &[u8]) -> Result<()> {
        match unpacked.len() == self.size && crc32fast::hash(unpacked) == self.crc {
            true => Ok(()),
            false => Err(malformed(format!(
                "entry {name} is damaged (its length or checksum differs); copy or download it again"
            ))),
        }
    }
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("zip", detail)
}

fn truncated(detail: impl Into<String>) -> Error {
    Error::truncated("zip", detail)
}

fn little(bytes: &[u8], at: usize, size: usize) -> Result<usize> {
    let raw = at.checked_add(size).and_then(|end| bytes.get(at..end));
    let raw = raw.ok_or_else(|| truncated("its directory is cut off"))?;
    Ok(raw.iter().rev().fold(0, |v, &b| v << 8 | usize::from(b)))
}

/// Every entry by name.
///
/// # Errors
/// [`Error::Truncated`], [`Error::Malformed`], zip64 archives among them.
pub fn entries(bytes: &[u8]) -> Result<BTreeMap<&str, Entry<'_>>> {
    let cut_off = || truncated("its end record is missing");
    let tail = bytes.len().saturating_sub(22 + 65_535);
    let end = bytes[tail..].windows(4).rposition(|w| w == b"PK\x05\x06");
    let end = tail + end.ok_or_else(cut_off)?;
    if bytes.len() < end + 22 + little(bytes, end + 20, 2)? {
        return Err(cut_off());
    }
    let count = little(bytes, end + 10, 2)?;
    let mut at = little(bytes, end + 16, 4)?;
    if count == 0xffff || at == 0xffff_ffff {
        return Err(malformed(
            "it is a zip64 archive; save a smaller one, or a model as safetensors",
        ));
    }
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        if bytes.get(at..at + 4) != Some(b"PK\x01\x02") {
            return Err(truncated("its directory is cut off"));
        }
        let (packed, size) = (little(bytes, at + 20, 4)?, little(bytes, at + 24, 4)?);
        let [name_length, extra, comment] = [28, 30, 32].map(|i| little(bytes, at + i, 2));
        let name_length = name_length?;
        let local = little(bytes, at + 42, 4)?;
        let name = bytes.get(at + 46..at + 46 + name_length);
        let name = std::str::from_utf8(name.ok_or_else(cut_off)?)
            .map_err(|_| malformed("an entry's name is not UTF-8"))?;
        if bytes.get(local..local.saturating_add(4)) != Some(b"PK\x03\x04") {
            return Err(truncated(format!("entry {name} is missing")));
        }
        let data = local + 30 + little(bytes, local + 26, 2)? + little(bytes, local + 28, 2)?;
        let end = data.checked_add(packed);
        let data = end.and_then(|end| bytes.get(data..end));
        let data = data.ok_or_else(|| truncated(format!("entry {name} is cut off")))?;
        let entry = Entry {
            method: little(bytes, at + 10, 2)? as u16,
            bytes: data,
            size,
            crc: little(bytes, at + 16, 4)? as u32,
        };
        entries.insert(name, entry);
        at += 46 + name_length + extra? + comment?;
    }
    Ok(entries)
}
