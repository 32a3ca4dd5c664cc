//! A checksum in a safetensors file: BLAKE3 of all of its bytes, with zeros in the checksum's own place.

use std::ops::Range;

/// The key of the checksum in the file's metadata.
pub const KEY: &str = "blake3";
/// What is in the checksum's place before the file is sealed.
pub const OPEN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the header stands.
fn header(file: &[u8]) -> Option<Range<usize>> {
    let length = u64::from_le_bytes(file.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    file.get(8..end).map(|_| 8..end)
}

/// Puts the names of a header that was just written in order, so that the same content gives the same bytes: writers take metadata as a map
/// without one.
pub fn order(file: &mut [u8]) {
    let Some(header) = header(file) else { return };
    let sorted = serde_json::from_slice::<serde_json::Value>(&file[header.clone()]);
    let text = sorted.map(|v| v.to_string()).unwrap_or_default();
    if (1..=header.len()).contains(&text.len()) {
        let (begin, rest) = file[header].split_at_mut(text.len());
        begin.copy_from_slice(text.as_bytes());
        rest.fill(b' ');
    }
}

/// Where the checksum stands, if the file has one.
fn place(file: &[u8]) -> Option<Range<usize>> {
    let header = &file[header(file)?];
    let before = format!("\"{KEY}\":\"");
    let at = header
        .windows(before.len())
        .position(|w| w == before.as_bytes())?;
    let begin = 8 + at + before.len();
    file.get(begin..begin + OPEN.len())
        .map(|_| begin..begin + OPEN.len())
}

fn digest(file: &[u8], place: &Range<usize>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&file[..place.start])
        .update(OPEN.as_bytes())
        .update(&file[place.end..]);
    hasher.finalize().to_hex().to_string()
}

/// Puts the checksum of a whole file in its place, where it has one.
pub fn seal(file: &mut [u8]) {
    if let Some(place) = place(file) {
        let digest = digest(file, &place);
        file[place].copy_from_slice(digest.as_bytes());
    }
}

/// Whether a file has a checksum, and it is that of its bytes.
#[must_use]
pub fn intact(file: &[u8]) -> bool {
    place(file).is_some_and(|place| file[place.clone()] == *digest(file, &place).as_bytes())
}
