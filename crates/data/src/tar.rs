//! Tar archives as streams: names and bytes of files; nothing is written to a disk.

use crate::Result;
use crate::error::Error;
use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use tar::{Archive, EntryType};

const FORMAT: &str = "tar";
const BLOCK: u64 = 512;
/// Most bytes of the heads, names and attributes before one member's data.
const NAME_LIMIT: u64 = 1 << 17;

/// Whether a block is the head of a member of a ustar, pax or GNU archive.
pub(crate) fn is_header(block: &[u8]) -> bool {
    block.get(257..262) == Some(b"ustar")
}

/// Gives no more bytes than are left: what lies before a member's data is held in memory, however long it says it is.
struct Limited<'a, R> {
    stream: R,
    left: &'a Cell<u64>,
    /// Whether the end was met.
    ended: &'a Cell<bool>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out)?;
        self.ended.set(read == 0);
        let left = self.left.get().checked_sub(read as u64);
        let too_long = || io::Error::other(format!("a name takes more than {NAME_LIMIT} bytes"));
        self.left.set(left.ok_or_else(too_long)?);
        Ok(read)
    }
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
    let malformed = |detail: String| Error::malformed(path, FORMAT, detail);
    let (left, ended) = (Cell::new(NAME_LIMIT), Cell::new(false));
    let cut_off = || Error::reading(path, FORMAT, ErrorKind::UnexpectedEof.into());
    let failed = |e: io::Error| match e.kind() {
        _ if ended.get() => cut_off(),
        // what the reader says of heads
        ErrorKind::Other => malformed(format!("{e}; copy or download it again")),
        _ => Error::reading(path, FORMAT, e),
    };
    let mut archive = Archive::new(Limited {
        stream,
        left: &left,
        ended: &ended,
    });
    let mut room = total;
    let entries = archive.entries().map_err(failed)?;
    for entry in entries {
        let mut entry = entry.map_err(failed)?;
        left.set(u64::MAX);
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if kind == EntryType::GNUSparse {
            return Err(malformed(
                "it has sparse members; pack them as whole files".into(),
            ));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let file = matches!(kind, EntryType::Regular | EntryType::Continuous) && wanted(&name);
        let mut data = Vec::new();
        if file {
            let too_large = |limit| {
                let what = format!("member {name}");
                Error::too_large(path, what, limit, "remove it, or split the archive")
            };
            // heads and names that unpack to far more than they were are memory too
            let noted = BLOCK + 4 * name.len() as u64;
            let left = room.checked_sub(noted).ok_or_else(|| too_large(total))?;
            if size > limit.min(left) {
                return Err(too_large(limit.min(left)));
            }
            // grows with what comes, not with what the head says
            entry.read_to_end(&mut data).map_err(failed)?;
            room = left - data.len() as u64;
        }
        let skipped = io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
        if skipped + data.len() as u64 != size {
            return Err(cut_off());
        }
        if file {
            take(name, data);
        }
        left.set(NAME_LIMIT);
    }
    if ended.get() {
        // without the mark that ends it
        return Err(cut_off());
    }
    // the checksum of a gzipped stream comes last
    left.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    Ok(())
}
