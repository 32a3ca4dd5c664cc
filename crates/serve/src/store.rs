//! The files of a service: plans, keys, inputs, checkpoints and answers, each under a name of hexadecimal digits in a folder of its kind.
//! Keys and answers that are whole may lie in a bucket instead: what is written bit by bit, and what one run alone needs, stays in the folder.

use crate::bucket::Bucket;
use crate::error::{Code, Error, Result};
use crate::records::{PART, hex};
use rand_core::RngCore;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let finished = |name: &str| match self {
            // none is ever removed: whatever is there may stay
            Self::Plans => true,
            Self::Uploads => {
                (name.rsplit_once('-')).is_some_and(|(_, digest)| is_hex(digest, DIGEST))
            }
            Self::Keys => is_hex(name, DIGEST),
            Self::Inputs | Self::Checkpoints | Self::Answers => is_hex(name, ID),
        };
        let unfinished = |name: &str| {
            let (name, letters) = name.strip_suffix(".partial")?.rsplit_once('.')?;
            Some(is_hex(letters, 8) && finished(name))
        };
        finished(name) || unfinished(name) == Some(true)
    }
}

/// Hexadecimal digits of a digest, and of a job's id.
const DIGEST: usize = 64;
const ID: usize = 32;

/// A file of the service, wherever it lies: read from its beginning, or the part of it that is asked for.
#[derive(Debug)]
pub struct Object {
    of: Of,
    length: u64,
    /// What is not read yet.
    left: std::ops::Range<u64>,
}

#[derive(Debug)]
enum Of {
    Folder(File),
    /// With its name there, and what was fetched and not read yet.
    Bucket(Arc<Bucket>, String, std::io::Cursor<Vec<u8>>),
}

/// Bytes that are fetched from a bucket at a time.
const PIECE: u64 = 8 << 20;

impl Object {
    fn new(of: Of, length: u64) -> Self {
        let left = 0..length;
        Self { of, length, left }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads these bytes alone.
    ///
    /// # Errors
    /// The file system's.
    pub fn part(mut self, of: std::ops::Range<u64>) -> Result<Self> {
        match &mut self.of {
            Of::Folder(file) => {
                let sought = file.seek(SeekFrom::Start(of.start));
                sought.map_err(Error::io("the file"))?;
            }
            Of::Bucket(_, _, piece) => *piece = Default::default(),
        }
        self.left = of;
        Ok(self)
    }
}

impl Read for Object {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.end.saturating_sub(self.left.start);
        let most = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buf = &mut buf[..most];
        if buf.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.of {
            Of::Folder(file) => file.read(buf)?,
            Of::Bucket(bucket, name, piece) => {
                if piece.position() == piece.get_ref().len() as u64 {
                    let next = self.left.start..self.left.start + left.min(PIECE);
                    let fetched = bucket.range(name, next).map_err(std::io::Error::other)?;
                    *piece = std::io::Cursor::new(fetched);
                }
                piece.read(buf)?
            }
        };
        self.left.start += read as u64;
        Ok(read)
    }
}

/// Where the folder says in which bucket keys and answers lie, and under which mark of its own.
const NOTE: &str = "bucket";

/// The folder of a service, and its bucket where it has one.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    bucket: Option<Arc<Bucket>>,
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
            bucket: None,
            settling: Mutex::new(()),
        })
    }

    /// Keys and answers lie in a bucket, of which the folder makes a note: they would not be found without it, nor in another.
    ///
    /// # Errors
    /// Another bucket than the one of the note, or none; one that is another folder's; keys or answers that lie in the folder; those of the
    /// file system and of the bucket.
    pub fn with_bucket(self, bucket: Option<Arc<Bucket>>) -> Result<Self> {
        let refuse = |cause: String, remedy: &str| Err(Error::new(Code::Conflict, cause, remedy));
        let root = self.root.display();
        let note = self.root.join(NOTE);
        let noted = match std::fs::read_to_string(&note) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            read => Some(read.map_err(Error::io(note.display()))?),
        };
        let noted =
            (noted.as_deref()).map(|text| text.trim().split_once(' ').unwrap_or((text, "")));
        let (bucket, own) = match (bucket, noted) {
            (None, None) => return Ok(self),
            (None, Some((had, _))) => {
                let cause = format!("keys and answers of {root} lie in {had}");
                return refuse(cause, "name that bucket");
            }
            (Some(bucket), Some((had, own))) if had == bucket.address() => {
                (bucket, own.to_string())
            }
            (Some(bucket), Some((had, _))) => {
                let cause = format!(
                    "keys and answers of {root} lie in {had}, not in {}",
                    bucket.address()
                );
                let remedy = "name that bucket; nothing is moved to another";
                return refuse(cause, remedy);
            }
            (Some(bucket), None) => {
                let lies = |kind: Kind| {
                    let entries = std::fs::read_dir(self.root.join(kind.folder()));
                    entries.is_ok_and(|mut all| all.next().is_some())
                };
                if [Kind::Keys, Kind::Answers].into_iter().any(lies) {
                    let cause = format!("keys or answers lie in {root} already");
                    let remedy = "name no bucket, or begin with a new folder: nothing is moved";
                    return refuse(cause, remedy);
                }
                let mut mark = [0; 16];
                polyveil::session::rng().fill_bytes(&mut mark);
                (bucket, hex(&mark))
            }
        };
        match bucket.owner()? {
            Some(owner) if owner != own => {
                let cause = format!("{} has what another service keeps", bucket.address());
                let remedy = "give each service a bucket or a prefix of its own";
                return refuse(cause, remedy);
            }
            Some(_) => {}
            None => {
                // in this order: what a note promises is made good at the next start
                write(&note, format!("{} {own}\n", bucket.address()).as_bytes())?;
                bucket.claim(&own)?;
            }
        }
        Ok(Self {
            bucket: Some(bucket),
            ..self
        })
    }

    /// The bucket and the object's name in it, for what lies there.
    fn object(&self, kind: Kind, name: &str) -> Option<(&Arc<Bucket>, String)> {
        let there = matches!(kind, Kind::Keys | Kind::Answers);
        let bucket = self.bucket.as_ref().filter(|_| there)?;
        Some((bucket, format!("{}/{name}", kind.folder())))
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
    /// The file system's; a bucket that can't be reached.
    pub fn put(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<()> {
        match self.object(kind, name) {
            Some((bucket, name)) => bucket.put(&name, bytes, bytes.len() as u64),
            None => write(&self.path(kind, name), bytes),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// The file system's; a bucket that can't be reached.
    pub fn read(&self, kind: Kind, name: &str) -> Result<Object> {
        let failed = Error::io(kind.folder());
        if let Some((bucket, name)) = self.object(kind, name) {
            let Some(length) = bucket.length(&name)? else {
                return Err(failed(std::io::ErrorKind::NotFound.into()));
            };
            let of = Of::Bucket(bucket.clone(), name, std::io::Cursor::default());
            return Ok(Object::new(of, length));
        }
        let opened = File::open(self.path(kind, name));
        let opened = opened.and_then(|file| file.metadata().map(|m| (file, m.len())));
        opened
            .map(|(file, length)| Object::new(Of::Folder(file), length))
            .map_err(failed)
    }

    /// A file that can be read anywhere: of what lies in a bucket a copy, which goes when it is closed.
    ///
    /// # Errors
    /// The file system's; a bucket that can't be reached; a lack of room.
    pub fn local(&self, kind: Kind, name: &str) -> Result<File> {
        let mut object = match self.read(kind, name)? {
            Object {
                of: Of::Folder(file),
                ..
            } => return Ok(file),
            object => object,
        };
        self.require_room(object.length())?;
        // no account's name is empty; one that a kill leaves is swept
        let path = self.path(Kind::Uploads, &format!("-{name}"));
        let mut options = OpenOptions::new();
        let file = (options.read(true).write(true).create_new(true)).mode(0o600);
        let _ = std::fs::remove_file(&path);
        let copied = file.open(&path).and_then(|mut file| {
            let _ = std::fs::remove_file(&path);
            std::io::copy(&mut object, &mut file)?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        });
        copied.map_err(Error::io("a copy of the keys"))
    }

    /// Removes a file; one that is not there is gone already, and one that can't be removed now goes once it has no record.
    pub fn remove(&self, kind: Kind, name: &str) {
        match self.object(kind, name) {
            Some((bucket, name)) => drop(bucket.remove(&name)),
            None => drop(std::fs::remove_file(self.path(kind, name))),
        }
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
        let file = self.local(Kind::Uploads, name)?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut &file, &mut hasher).map_err(Error::io("keys"))?;
        file.sync_all().map_err(Error::io("keys"))?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Sends a file of keys to the bucket, which may take minutes, ahead of [`Store::place_upload`]; nothing where there is no bucket.
    ///
    /// # Errors
    /// The file system's; a bucket that can't be reached.
    pub fn send_ahead(&self, name: &str, digest: &str) -> Result<()> {
        let Some((bucket, object)) = self.object(Kind::Keys, digest) else {
            return Ok(());
        };
        let file = self.read(Kind::Uploads, name)?;
        let length = file.length();
        if bucket.length(&object)? == Some(length) {
            return Ok(());
        }
        bucket.put(&object, file, length)
    }

    /// Puts a file of keys in its place. Where one of the same content is there, another account's, that one stays: nobody's keys are
    /// replaced by what another sent.
    ///
    /// # Errors
    /// The file system's; a bucket that can't be reached.
    pub fn place_upload(&self, name: &str, digest: &str) -> Result<()> {
        let from = self.path(Kind::Uploads, name);
        if self.bucket.is_some() {
            // again where it was removed meanwhile, with another's record
            self.send_ahead(name, digest)?;
            return std::fs::remove_file(from).map_err(Error::io("keys"));
        }
        let to = self.path(Kind::Keys, digest);
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
            if let Some((bucket, _)) = self.object(kind, "") {
                // what can't be listed now is looked at again
                for name in bucket.list(kind.folder()).unwrap_or_default() {
                    let object = format!("{}/{name}", kind.folder());
                    let stray = kind.names(&name) && !named.contains(&(kind, name));
                    gone += usize::from(stray && bucket.remove(&object).is_ok());
                }
                continue;
            }
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
