//! The files of a service: plans, keys, inputs, checkpoints and answers, each under a name of hexadecimal digits in a folder of its kind.

use crate::error::{Code, Error, Result};
use crate::records::PART;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Plans, with client files and weights beside them, by digest.
    Plans,
    /// Files of keys on their way, by account and digest.
    Uploads,
    /// Evaluation keys, by digest: one file whoever sent it.
    Keys,
    /// Encrypted inputs, by job.
    Inputs,
    /// Checkpoints of runs, by job.
    Checkpoints,
    /// Encrypted answers, by job.
    Answers,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Plans,
        Self::Uploads,
        Self::Keys,
        Self::Inputs,
        Self::Checkpoints,
        Self::Answers,
    ];
    const fn folder(self) -> &'static str {
        match self {
            Self::Plans => "plans",
            Self::Uploads => "uploads",
            Self::Keys => "keys",
            Self::Inputs => "inputs",
            Self::Checkpoints => "checkpoints",
            Self::Answers => "answers",
        }
    }

    /// Whether the service gives such names to files of this kind, finished or not.
    fn names(self, name: &str) -> bool {
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let finished = |name: &str| match self {
            // none is ever removed: whatever is there may stay
            Self::Plans => true,
            Self::Uploads => (name.rsplit_once('-')).is_some_and(|(_, digest)| hex(digest, DIGEST)),
            Self::Keys => hex(name, DIGEST),
            Self::Inputs | Self::Checkpoints | Self::Answers => hex(name, ID),
        };
        let unfinished = |name: &str| {
            let (name, letters) = name.strip_suffix(".partial")?.rsplit_once('.')?;
            Some(hex(letters, 8) && finished(name))
        };
        finished(name) || unfinished(name) == Some(true)
    }
}

/// Hexadecimal digits of a digest, and of a job's id.
const DIGEST: usize = 64;
const ID: usize = 32;

/// The folder of a service.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Held while a file comes to its place before its record does, and while files without records are removed.
    settling: Mutex<()>,
}

impl Store {
    /// Opens a folder, which is made if missing, for its owner alone.
    ///
    /// # Errors
    /// A folder that holds others' files where those of a service would come; the file system's.
    pub fn open(root: &Path) -> Result<Self> {
        // before anything is made in it
        expect_own(root)?;
        for folder in [root.to_path_buf()]
            .into_iter()
            .chain(Kind::ALL.map(|k| root.join(k.folder())))
        {
            let mut builder = std::fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&folder);
            made.map_err(Error::io(folder.display()))?;
        }
        Ok(Self {
            root: root.into(),
            settling: Mutex::new(()),
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file is.
    pub fn path(&self, kind: Kind, name: &str) -> PathBuf {
        self.root.join(kind.folder()).join(name)
    }

    /// While this is held no file without a record is removed.
    pub fn settle(&self) -> MutexGuard<'_, ()> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses where there is no room for so many bytes.
    ///
    /// # Errors
    /// [`crate::Code::DiskFull`].
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        Ok(polyveil::runtime::machine::require_disk(&self.root, bytes)?)
    }

    /// A file that takes its place, whole and on disk, when it is finished.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self, kind: Kind, name: &str) -> Result<disk::Output> {
        let path = self.path(kind, name);
        disk::Output::create(&path, disk::Access::Owner).map_err(Error::io(kind.folder()))
    }

    /// Writes a file whole.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<()> {
        write(&self.path(kind, name), bytes)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, kind: Kind, name: &str) -> Result<File> {
        File::open(self.path(kind, name)).map_err(Error::io(kind.folder()))
    }

    /// Removes a file; one that is not there is gone already.
    pub fn remove(&self, kind: Kind, name: &str) {
        let _ = std::fs::remove_file(self.path(kind, name));
    }

    /// Writes a part of a file of keys in its place.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_part(&self, name: &str, part: u64, bytes: &[u8]) -> Result<()> {
        let mut options = OpenOptions::new();
        let file = (options.write(true).create(true).truncate(false)).mode(0o600);
        let written = file
            .open(self.path(Kind::Uploads, name))
            .and_then(|file| file.write_all_at(bytes, part * PART));
        written.map_err(Error::io("keys"))
    }

    /// BLAKE3 of a file of keys that has all parts, which is put on disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn hash_upload(&self, name: &str) -> Result<[u8; 32]> {
        let file = self.read(Kind::Uploads, name)?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut &file, &mut hasher).map_err(Error::io("keys"))?;
        file.sync_all().map_err(Error::io("keys"))?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Puts a file of keys in its place. Where one of the same content is there, another account's, that one stays: nobody's keys are
    /// replaced by what another sent.
    ///
    /// # Errors
    /// The file system's.
    pub fn place_upload(&self, name: &str, digest: &str) -> Result<()> {
        let (from, to) = (
            self.path(Kind::Uploads, name),
            self.path(Kind::Keys, digest),
        );
        let placed = match to.exists() {
            true => std::fs::remove_file(from),
            false => std::fs::rename(from, to)
                .and_then(|()| disk::sync_folder(&self.root.join(Kind::Keys.folder()))),
        };
        placed.map_err(Error::io("keys"))
    }

    /// Removes files that no record names, which a process that was killed left behind or whose records went; gives how many.
    pub fn clean(&self, named: &HashSet<(Kind, String)>) -> usize {
        let mut gone = 0;
        for kind in Kind::ALL.into_iter().filter(|k| *k != Kind::Plans) {
            let Ok(entries) = std::fs::read_dir(self.root.join(kind.folder())) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // what is being written has another name soon
                let unfinished = name.ends_with(".partial");
                // what somebody else put here is not the service's to remove
                let own = kind.names(&name);
                let named = named.contains(&(kind, name));
                if own && !named && (!unfinished || dead(&entry.path())) {
                    gone += usize::from(std::fs::remove_file(entry.path()).is_ok());
                }
            }
        }
        gone
    }
}

/// Refuses a folder where others' files lie in the place of a service's: that of a client, say, whose keys lie in `keys`.
fn expect_own(root: &Path) -> Result<()> {
    for kind in Kind::ALL {
        let folder = root.join(kind.folder());
        let Ok(mut entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let foreign = entries.find_map(|e| {
            let name = e.ok()?.file_name().to_string_lossy().into_owned();
            (!kind.names(&name)).then_some(name)
        });
        if let Some(name) = foreign {
            let cause = format!(
                "{}: it is no file of a service",
                folder.join(name).display()
            );
            let remedy = "choose another folder for the service, or move the file elsewhere";
            return Err(Error::new(Code::Conflict, cause, remedy));
        }
    }
    Ok(())
}

/// Whoever writes a file holds its lock.
fn dead(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// Writes bytes whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = disk::Output::create(path, disk::Access::Owner).and_then(|mut out| {
        out.write_all(bytes)?;
        out.finish()
    });
    written.map_err(Error::io(path.display()))
}
