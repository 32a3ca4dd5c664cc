//! Files: opened with their names in errors, written whole or not at all.

use crate::error::{Result, named};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the folder.
    Everyone,
    /// Its owner alone.
    Owner,
}

/// Writes beside `path` and moves the finished file there; `write` gets the file and its name for errors.
///
/// # Errors
/// What `write` finds, or the file system; nothing is left behind then.
pub fn write<T>(
    path: &Path,
    access: Access,
    write: impl FnOnce(BufWriter<File>, &str) -> Result<T>,
) -> Result<T> {
    let partial = with_suffix(path, ".partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match access {
            Access::Everyone => 0o644,
            Access::Owner => 0o600,
        },
    );
    let file = options.open(&partial).map_err(named(&partial))?;
    let name = path.display().to_string();
    let written = write(BufWriter::with_capacity(1 << 20, file), &name)
        .and_then(|v| Ok(std::fs::rename(&partial, path).map(|()| v)?));
    if written.is_err() {
        // the first error is the one to tell
        let _ = std::fs::remove_file(&partial);
    }
    written.map_err(named(path))
}

/// Writes a file that everyone may read.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, Access::Everyone, |mut out, _| {
        std::io::Write::write_all(&mut out, bytes)?;
        Ok(std::io::Write::flush(&mut out)?)
    })
}

/// Opens a file.
///
/// # Errors
/// With its name.
pub fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(named(path))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Larger files, and the file system's.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(named(path))?;
    if bytes.len() as u64 > limit {
        let limit = runtime::size(limit);
        return Err(named(path)(format!(
            "more than {limit}, which no such file has"
        )));
    }
    Ok(bytes)
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// `path` with something behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file's name without folder and ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}

/// A file's name without its folder.
#[cfg(feature = "train")]
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
