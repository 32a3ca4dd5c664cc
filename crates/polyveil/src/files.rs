//! Files: opened with their names in errors, written whole or not at all, and never over what must stay.

use crate::error::{Error, Help, Result, named};
use crate::progress::{Listener, Say};
pub use disk::{Access, abandon};
use runtime::wire::container::Kind;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What a file holds: decides who may read it, and which existing file it may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file of the wire format.
    Container(Kind),
    /// A network (`.pvm`).
    Model,
    /// A chart.
    Svg,
    /// JSON.
    Json,
    /// A text or something else that is not told from others.
    Other,
}

impl Content {
    /// What an existing file holds; none of an empty one.
    fn of(path: &Path) -> Result<Option<Self>> {
        let mut head = Vec::new();
        let file = File::open(path).map_err(named(path))?;
        file.take(4096)
            .read_to_end(&mut head)
            .map_err(named(path))?;
        let begins = |with: &[u8]| head.trim_ascii_start().starts_with(with);
        Ok(match Kind::of(&head) {
            Some(kind) => Some(Self::Container(kind)),
            None if head.is_empty() => None,
            None if nn::format::artefact::begins_like_one(&head) => Some(Self::Model),
            None if begins(b"<svg") || begins(b"<?xml") => Some(Self::Svg),
            None if begins(b"{") || begins(b"[") => Some(Self::Json),
            None => Some(Self::Other),
        })
    }

    fn access(self) -> Access {
        match self {
            Self::Container(Kind::ClientKey) => Access::Owner,
            _ => Access::Everyone,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Container(kind) => kind.name(),
            Self::Model => "model",
            Self::Svg => "chart",
            Self::Json => "JSON",
            Self::Other => "another kind of file",
        }
    }
}

/// What may be done to a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced where it is of the same kind, and no secret key.
    #[default]
    Kin,
    /// It is replaced, unless it is a secret key that something else would replace.
    Any,
}

/// A file that is being written. What is at its place stays as it is until it is finished; dropped before, nothing is left of it.
#[derive(Debug)]
pub struct Output {
    file: BufWriter<disk::Output>,
    path: PathBuf,
}

impl Output {
    /// Opens a file for what will be made: before the work, so that no result is lost. `others` are the inputs of the same work, and what
    /// else it writes.
    ///
    /// # Errors
    /// What can't be written to; one of `others`; existing files that must stay.
    pub fn create(
        path: &Path,
        content: Content,
        others: &[&Path],
        existing: Existing,
    ) -> Result<Self> {
        if let Some(other) = others.iter().find(|other| disk::same_file(path, other)) {
            let what = format!(
                "it would take the place of {}, which the same work needs; choose another name",
                other.display()
            );
            return Err(named(path)(what));
        }
        let there = match path.is_file() && path != Path::new(disk::STDOUT) {
            true => Content::of(path)?,
            false => None,
        };
        let key = Content::Container(Kind::ClientKey);
        let refused = match there {
            Some(had) if had == key => content != key || existing == Existing::Kin,
            // texts are told from our own files, not from one another
            Some(had) if content == Content::Other => {
                existing == Existing::Kin && matches!(had, Content::Container(_) | Content::Model)
            }
            Some(had) => existing == Existing::Kin && had != content,
            None => false,
        };
        if let (Some(had), true) = (there, refused) {
            return Err(named(path)(match had == key {
                true => Error::from(
                    "a secret key is there, and nothing may take its place: what was encrypted with it could never be decrypted; choose another name",
                ),
                false => Error::refused(
                    format!(
                        "{} is there, and {} would take its place",
                        had.name(),
                        content.name()
                    ),
                    Help::Overwrite,
                ),
            }));
        }
        let file = disk::Output::create(path, content.access()).map_err(named(path))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.into(),
        })
    }

    /// Says what an earlier writer of the same file that was killed left behind; it is removed already.
    pub fn tell_cleaned(&self, tell: Listener<'_>) {
        for path in self.file.get_ref().cleaned() {
            tell.note(format_args!(
                "removed {}, which a killed run left behind",
                path.display()
            ));
        }
    }

    /// Refuses where there is no room for so many bytes.
    ///
    /// # Errors
    /// [`runtime::Error::Disk`].
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        match self.is_file() {
            true => Ok(runtime::machine::require_disk(
                folder_of(&self.path),
                bytes,
            )?),
            false => Ok(()),
        }
    }

    /// Whether it is a regular file, not a device, a pipe or standard output.
    pub fn is_file(&self) -> bool {
        self.file.get_ref().is_file()
    }

    /// Writes the file and puts it in its place, on disk; `write` gets the name for errors.
    ///
    /// # Errors
    /// What `write` finds, or the file system; what was there before is there still then.
    pub fn write<T>(
        self,
        write: impl FnOnce(&mut BufWriter<disk::Output>, &str) -> Result<T>,
    ) -> Result<T> {
        let (file, written) = self.fill(write)?;
        file.place()?;
        Ok(written)
    }

    /// Writes the file and puts it on disk, but not yet in its place: for files that must appear together.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn fill<T>(
        mut self,
        write: impl FnOnce(&mut BufWriter<disk::Output>, &str) -> Result<T>,
    ) -> Result<(Filled, T)> {
        let path = self.path;
        let name = path.display().to_string();
        let written = write(&mut self.file, &name).map_err(named(&path))?;
        let file = self
            .file
            .into_inner()
            .map_err(|e| named(&path)(e.into_error()))?;
        file.sync().map_err(named(&path))?;
        Ok((Filled { file, path }, written))
    }

    /// As [`Output::write`], of bytes.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_bytes(self, bytes: &[u8]) -> Result<()> {
        self.write(|out, _| Ok(out.write_all(bytes)?))
    }
}

/// A file that is on disk under another name.
#[derive(Debug)]
pub struct Filled {
    file: disk::Output,
    path: PathBuf,
}

impl Filled {
    /// Puts it in its place.
    ///
    /// # Errors
    /// The file system's.
    pub fn place(self) -> Result<()> {
        self.file.finish().map_err(named(&self.path))
    }
}

/// Writes a text or something else that everyone may read; never over a file of our own.
///
/// # Errors
/// Those of [`Output`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    Output::create(path, Content::Other, &[], Existing::Kin)?.write_bytes(bytes)
}

/// A warning where others than its owner may read a secret file.
///
/// # Errors
/// The file system's.
pub fn readable_by_others(path: &Path) -> Result<Option<String>> {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path).map_err(named(path))?;
    let mode = found.permissions().mode() & 0o777;
    Ok((found.is_file() && mode & 0o077 != 0).then(|| {
        format!(
            "{}: others can read this secret key (mode {mode:04o}); make it yours alone: chmod 600",
            path.display()
        )
    }))
}

/// Makes a folder for secrets, with those above it: its owner's alone. One that is there stays as it is.
///
/// # Errors
/// The file system's.
pub fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(named(path))
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

pub(crate) use disk::folder_of;

/// `path` with something behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file's name without folder and ending, as a network's: characters that no name may have are left out.
pub(crate) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: &char| nn::graph::is_plain(c.encode_utf8(&mut [0; 4]));
    stem.chars().filter(plain).collect()
}

/// A file's name without its folder.
#[cfg(feature = "train")]
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
