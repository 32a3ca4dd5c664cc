//! Tar archives as streams: names and bytes of files; nothing is written to a disk.

use crate::Result;
use crate::error::Error;
use std::io::{self, Read};
use std::path::Path;

const FORMAT: &str = "tar";
const BLOCK: usize = 512;
/// Most bytes of a name or an extended header.
const NAME_LIMIT: u64 = 1 << 16;

/// Whether a block is the head of a member of a ustar, pax or GNU archive.
pub(crate) fn is_header(block: &[u8]) -> bool {
    block.get(257..262) == Some(b"ustar")
}

/// A number field: octal digits, or big-endian bytes after a set bit.
fn number(field: &[u8]) -> Option<u64> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        let bytes = std::iter::once(first & 0x7f).chain(rest.iter().copied());
        return bytes
            .into_iter()
            .try_fold(0u64, |v, b| Some(v.checked_mul(256)? | u64::from(b)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|c| c == ' ' || c == '\0');
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
}

/// A text field, up to its first zero.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

struct Reader<'a, R> {
    stream: R,
    path: &'a Path,
}

impl<R: Read> Reader<'_, R> {
    fn malformed(&self, detail: impl Into<String>) -> Error {
        Error::malformed(self.path, FORMAT, detail)
    }

    fn failed(&self, e: io::Error) -> Error {
        Error::reading(self.path, FORMAT, e)
    }

    fn too_large(&self, name: &str, limit: u64) -> Error {
        Error::too_large(
            self.path,
            format!("member {name}"),
            limit,
            "remove it, or split the archive",
        )
    }

    fn exactly(&self, had: u64, wanted: u64) -> Result<()> {
        if had == wanted {
            return Ok(());
        }
        Err(self.failed(io::ErrorKind::UnexpectedEof.into()))
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.stream).take(count), &mut io::sink());
        let skipped = skipped.map_err(|e| self.failed(e))?;
        self.exactly(skipped, count)
    }

    /// A member's data with the padding after it.
    fn data(&mut self, name: &str, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            return Err(self.too_large(name, limit));
        }
        // grows with what comes, not with what the head says
        let mut data = Vec::new();
        let read = (&mut self.stream).take(size).read_to_end(&mut data);
        read.map_err(|e| self.failed(e))?;
        self.exactly(data.len() as u64, size)?;
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(data)
    }

    /// The next head; None at the end mark.
    fn head(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut head = [0; BLOCK];
        self.stream
            .read_exact(&mut head)
            .map_err(|e| self.failed(e))?;
        if head.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let sum: u64 = head
            .iter()
            .enumerate()
            .map(|(i, &b)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u64::from(b)
                }
            })
            .sum();
        if number(&head[148..156]) != Some(sum) {
            return Err(self.malformed("a head's checksum differs; copy or download it again"));
        }
        Ok(Some(head))
    }
}

/// The value of a key in an extended (pax) header: records `LENGTH KEY=VALUE\n`.
fn pax<'a>(mut records: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut value = None;
    while let Some(space) = records.iter().position(|&b| b == b' ') {
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
        if let Some(v) = record
            .strip_prefix(key.as_bytes())
            .and_then(|r| r.strip_prefix(b"="))
        {
            value = Some(v);
        }
        records = &records[length..];
    }
    value
}

/// Gives every file that is wanted to `take`; at most `limit` bytes a member, `total` in all, heads and names with them.
pub(crate) fn members(
    stream: impl Read,
    path: &Path,
    limit: u64,
    total: u64,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(String, Vec<u8>),
) -> Result<()> {
    let mut r = Reader { stream, path };
    let mut left = total;
    // from the members before, about the next one
    let (mut long_name, mut long_size) = (None::<String>, None::<u64>);
    while let Some(head) = r.head()? {
        let size = number(&head[124..136]).ok_or_else(|| r.malformed("a size is no number"))?;
        match head[156] {
            b'L' => {
                long_name = Some(text(&r.data("of a long name", size, NAME_LIMIT)?));
                continue;
            }
            b'x' => {
                let records = r.data("of attributes", size, NAME_LIMIT)?;
                if let Some(name) = pax(&records, "path") {
                    long_name = Some(text(name));
                }
                if let Some(size) = pax(&records, "size") {
                    let size = std::str::from_utf8(size).ok().and_then(|s| s.parse().ok());
                    long_size = Some(size.ok_or_else(|| r.malformed("a size is no number"))?);
                }
                continue;
            }
            b'S' => {
                return Err(r.malformed("it has sparse members; pack them as whole files"));
            }
            _ => {}
        }
        let own_name = || {
            let (name, prefix) = (text(&head[..100]), text(&head[345..500]));
            // GNU's own format has other things there
            if head[257..263] == *b"ustar\0" && !prefix.is_empty() {
                format!("{prefix}/{name}")
            } else {
                name
            }
        };
        let name = long_name.take().unwrap_or_else(own_name);
        let size = long_size.take().unwrap_or(size);
        if matches!(head[156], 0 | b'0' | b'7') && wanted(&name) {
            // heads and names that unpack to far more than they were are memory too
            let noted = (BLOCK + 4 * name.len()) as u64;
            let Some(room) = left.checked_sub(noted) else {
                return Err(r.too_large(&name, total));
            };
            let data = r.data(&name, size, limit.min(room))?;
            left = room - data.len() as u64;
            take(name, data);
        } else {
            let padded = size
                .checked_next_multiple_of(BLOCK as u64)
                .ok_or_else(|| r.malformed("a size is beyond every disk"))?;
            r.skip(padded)?;
        }
    }
    // the checksum of a gzipped stream comes last
    io::copy(&mut r.stream, &mut io::sink()).map_err(|e| r.failed(e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_attributes() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"  17    "), Some(15));
        assert_eq!(number(&[0; 12]), Some(0));
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]),
            Some(0x10203)
        );
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0x80; 8]), Some(0x0080_8080_8080_8080));
        assert_eq!(number(b"9\0\0\0\0\0\0\0"), None);
        let records = b"12 size=345\n16 path=a/b.jpg\n";
        assert_eq!(pax(records, "size"), Some(&b"345"[..]));
        assert_eq!(pax(records, "path"), Some(&b"a/b.jpg"[..]));
        assert_eq!(pax(b"99 path=a\n", "path"), None);
        assert_eq!(pax(b"1 path=a\n", "path"), None);
    }
}
