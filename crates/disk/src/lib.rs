//! Files that are written whole or not at all.
//!
//! An [`Output`] is opened before the work whose result it takes, so that a name that can't be written is refused at once. It is written
//! under another name in the same folder, and takes its place, on disk, when it is finished: a crash leaves the old file or the new one.
//! What is no regular file (a device, a pipe, standard output) is written to as it is.

#![deny(missing_docs)]

use rustix::fs::OFlags;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the folder.
    Everyone,
    /// Its owner alone.
    Owner,
}

/// Standard output's name as a file.
pub const STDOUT: &str = "/dev/stdout";
const ENDING: &[u8] = b".partial";
/// Random letters in a temporary name.
const LETTERS: usize = 8;
/// Of a file's name, on all file systems that count.
const LONGEST_NAME: usize = 255;
const MOST_LINKS: usize = 40;

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// None where it is written to as it is.
    place: Option<Place>,
    cleaned: Vec<PathBuf>,
}

/// Temporary files of this process.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn open() -> MutexGuard<'static, Vec<PathBuf>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process has written and not finished, before it ends by a signal. For programs that end now: while and after this is called
/// nothing is finished any more, and who tries waits for ever, in whichever part of the process.
pub fn abandon() {
    let all = open();
    for path in all.iter() {
        let _ = std::fs::remove_file(path);
    }
    // outputs that are finished now wait for the end
    std::mem::forget(all);
}

/// As [`abandon`], where there is no memory left: nothing is waited for, and nothing is removed where another thread is at the list.
pub fn abandon_at_once() {
    if let Ok(all) = OPEN.try_lock() {
        for path in all.iter() {
            let _ = std::fs::remove_file(path);
        }
        std::mem::forget(all);
    }
}

#[derive(Debug)]
struct Place {
    temporary: PathBuf,
    target: PathBuf,
}

impl Output {
    /// Opens what will be at `path`. A symbolic link is followed, but never for a secret; an existing file stays as it is until
    /// [`Output::finish`], and its permissions are kept, but a secret is always its owner's alone. Left-overs of writers of the same file
    /// that were killed are removed.
    ///
    /// # Errors
    /// Folders, folders that are missing or can't be written to, and for a secret whatever is no regular file.
    pub fn create(path: &Path, access: Access) -> Result<Self> {
        let existing = match std::fs::metadata(path) {
            Ok(m) => Some(m),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let refuse = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what));
        match &existing {
            _ if path.as_os_str().is_empty() => return refuse("no name is given"),
            Some(m) if m.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            _ if access == Access::Owner && path.is_symlink() => {
                return refuse("it is a symbolic link, and a secret is never written through one");
            }
            Some(m) if access == Access::Owner && !m.is_file() => {
                return refuse("it is no regular file, and a secret is written to nothing else");
            }
            _ if path == Path::new(STDOUT) => {
                let out = std::io::stdout().as_fd().try_clone_to_owned()?;
                return Ok(Self::direct(out.into()));
            }
            Some(m) if !m.is_file() => {
                return Ok(Self::direct(OpenOptions::new().write(true).open(path)?));
            }
            _ => {}
        }
        let target = followed(path)?;
        let cleaned = clean(path);
        loop {
            let temporary = temporary_name(&target)?;
            let Some(file) = create_new(&temporary, access)? else {
                continue;
            };
            open().push(temporary.clone());
            let output = Self {
                file,
                place: Some(Place { temporary, target }),
                cleaned,
            };
            // before the first byte; a secret is its owner's alone since it was made
            if let (Access::Everyone, Some(m)) = (access, &existing) {
                let mode = Permissions::from_mode(m.mode() & 0o777);
                output.file.set_permissions(mode)?;
            }
            return Ok(output);
        }
    }

    fn direct(file: File) -> Self {
        Self {
            file,
            place: None,
            cleaned: Vec::new(),
        }
    }

    /// What earlier writers that were killed left behind and [`Output::create`] removed.
    pub fn cleaned(&self) -> &[PathBuf] {
        &self.cleaned
    }

    /// Whether it is a regular file that appears when it is finished.
    pub fn is_file(&self) -> bool {
        self.place.is_some()
    }

    /// Puts what was written on disk, under its temporary name.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync(&self) -> Result<()> {
        match self.place {
            Some(_) => self.file.sync_all(),
            None => Ok(()),
        }
    }

    /// Puts the file, then its name on disk.
    ///
    /// # Errors
    /// The file system's; nothing is left behind then, and what was there before is there still.
    pub fn finish(mut self) -> Result<()> {
        if let Some(place) = &mut self.place {
            let target = std::mem::take(&mut place.target);
            return self.finish_at(&target);
        }
        Ok(())
    }

    /// As [`Output::finish`], in another place of the same file system.
    ///
    /// # Errors
    /// Those of [`Output::finish`].
    pub fn finish_at(mut self, target: &Path) -> Result<()> {
        self.sync()?;
        let Some(place) = &self.place else {
            return Ok(());
        };
        let mut all = open();
        std::fs::rename(&place.temporary, target)?;
        all.retain(|path| *path != place.temporary);
        drop(all);
        self.place = None;
        sync_folder(folder_of(target))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // whatever went wrong is told by who saw it
            let _ = std::fs::remove_file(&place.temporary);
            open().retain(|path| *path != place.temporary);
        }
    }
}

/// Writes a file of these bytes.
///
/// # Errors
/// Those of [`Output`].
pub fn write(path: &Path, access: Access, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path, access)?;
    output.write_all(bytes)?;
    output.finish()
}

/// Puts a folder's names on disk.
///
/// # Errors
/// The file system's.
pub fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder)?.sync_all() {
        // some file systems have nothing to do here and say so
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Whether two names stand for one file, which need not be there yet.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let id = |m: Metadata| (m.dev(), m.ino());
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => id(a) == id(b),
        (Err(_), Err(_)) => match (followed(a), followed(b)) {
            (Ok(a), Ok(b)) => {
                let folder = |p: &Path| std::fs::metadata(folder_of(p)).map(id).ok();
                a.file_name() == b.file_name() && folder(&a).is_some() && folder(&a) == folder(&b)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Where a chain of symbolic links ends, be there a file or not.
fn followed(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::other("too many symbolic links"))
}

/// A name beside `target` that nobody can foresee.
fn temporary_name(target: &Path) -> Result<PathBuf> {
    let missing = || Error::new(ErrorKind::InvalidInput, "this names no file");
    let name = target.file_name().ok_or_else(missing)?.as_bytes();
    let mut beside = prefix(name).to_vec();
    let random = RandomState::new().build_hasher().finish() as u32;
    beside.extend(format!(".{random:0LETTERS$x}").bytes());
    beside.extend(ENDING);
    Ok(folder_of(target).join(std::ffi::OsString::from_vec(beside)))
}

/// As much of a name as leaves room for the rest of a temporary one.
fn prefix(name: &[u8]) -> &[u8] {
    &name[..name.len().min(LONGEST_NAME - ENDING.len() - LETTERS - 1)]
}

/// Makes and locks a file; none where another process was faster. What is a secret was never open to others, who would keep it open.
fn create_new(path: &Path, access: Access) -> Result<Option<File>> {
    let mode = match access {
        Access::Owner => 0o600,
        Access::Everyone => 0o644,
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let folder = folder_of(path).display();
            let what = format!("the folder {folder} does not exist");
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        Err(e) => return Err(e),
    };
    // A lock says that the writer is alive. Where locks are not known, nobody takes the file for a left-over either.
    let cleaning = matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    let gone = std::fs::symlink_metadata(path).map_or(true, |m| {
        file.metadata()
            .map_or(true, |own| (own.dev(), own.ino()) != (m.dev(), m.ino()))
    });
    Ok((!cleaning && !gone).then_some(file))
}

/// Removes what killed writers of a file left behind; gives their names, which whoever calls must tell.
pub fn clean(path: &Path) -> Vec<PathBuf> {
    let Ok(target) = followed(path) else {
        return Vec::new();
    };
    let name = target.file_name().unwrap_or_default().as_bytes();
    let own = |n: &[u8]| {
        let letters = n
            .strip_prefix(prefix(name))
            .and_then(|n| n.strip_prefix(b"."));
        let letters = letters.and_then(|n| n.strip_suffix(ENDING));
        letters.is_some_and(|l| l.len() == LETTERS && l.iter().all(u8::is_ascii_hexdigit))
    };
    let Ok(all) = std::fs::read_dir(folder_of(&target)) else {
        return Vec::new();
    };
    let mut cleaned = Vec::new();
    for entry in all.flatten().filter(|e| own(e.file_name().as_bytes())) {
        let path = entry.path();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags as i32)
            .open(&path);
        // a living writer holds the lock
        let dead = file.is_ok_and(|f| {
            f.metadata().is_ok_and(|m| m.is_file())
                && f.try_lock().is_ok()
                && std::fs::remove_file(&path).is_ok()
        });
        if dead {
            cleaned.push(path);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests;
