//! Reading with a limit.

use crate::Result;
use crate::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Files above this size are refused unless another limit is given: 2 GiB.
pub const DEFAULT_LIMIT: u64 = 2 << 30;

/// The file's bytes.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`].
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = Error::io(path);
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let too_large = |had| Error::TooLarge {
        what: path.display().to_string(),
        limit,
        had,
    };
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // The file may grow while it is read, or be a pipe whose size is unknown.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}
