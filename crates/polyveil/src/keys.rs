//! A client's keys on files.

use crate::error::{Result, named};
use crate::files::{Access, with_suffix};
use crate::key_folder::{KeyFolder, NewKeys};
use crate::machine::Machine;
use crate::memory;
use crate::network::{self, CLIENT_FILE};
use crate::progress::{Listener, Say, duration};
use crate::session::rng;
use runtime::machine::require_disk;
use runtime::{Client, size};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What keys are made over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeygenOptions {
    /// Keys that are in the folder are replaced, not kept: what was encrypted with them can then never be decrypted.
    pub replace: bool,
    /// A toy parameter set, which protects nothing, is taken.
    pub accept_toy: bool,
}

/// A client's files in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// Secret: stays with the client.
    pub secret: PathBuf,
    /// Public: goes to the server.
    pub public: PathBuf,
}

impl KeyFiles {
    /// Their names in a folder.
    pub fn within(folder: &Path) -> Self {
        Self {
            secret: folder.join("client.key"),
            public: folder.join("evaluation.keys"),
        }
    }
}

/// Makes a client's keys from a client file and writes them into a folder, which is made if missing, with the client file beside them. All of
/// them are there in the end, or none: a pair that is replaced stays until the new one is on disk, and a program that is killed leaves one of
/// the two, or what the next call puts right.
///
/// # Errors
/// Toy parameters and existing keys as the options have it; a lack of room on disk.
pub fn keygen(
    client_file: &Path,
    folder: &Path,
    options: KeygenOptions,
    machine: &Machine,
    tell: Listener<'_>,
) -> Result<KeyFiles> {
    let file = network::client_file(client_file)?;
    let parameters = file.parameters();
    let name = &parameters.spec().name;
    if parameters.spec().is_toy() && !options.accept_toy {
        return Err(named(client_file)(format!(
            "`{name}` is a toy parameter set that protects nothing; accept it by name, or compile for a secure one"
        )));
    }
    std::fs::create_dir_all(folder).map_err(named(folder))?;
    let locked = |tell: Listener<'_>| -> Result<KeyFolder> {
        let locked = KeyFolder::lock(folder, tell)?;
        if !options.replace {
            locked.expect_empty()?;
        }
        Ok(locked)
    };
    // not held for as long as it takes to make keys
    drop(locked(tell)?);
    let count = file.spec().keys.len();
    let list = file.spec().keys.iter().copied();
    let threads = rayon::current_num_threads();
    let (_, seconds) = machine.cost().keys(parameters, list, threads);
    let memory = memory::keygen(&file)?;
    let mut rng = rng();
    let client = Client::new(file, &mut rng);
    let bytes = client.evaluation_keys_bytes();
    tell.note(format_args!(
        "making {count} evaluation keys: {} on disk, {} of memory, about {}",
        size(bytes),
        size(memory),
        duration(seconds)
    ));
    require_disk(folder, bytes + (1 << 20))?;
    let keys = KeyFiles::within(folder);
    let public = Staged::write(&keys.public, Access::Everyone, |out, name| {
        let mut told = |done, all| tell.count("key", done, all);
        let written = client.write_evaluation_keys(out, name, &mut rng, &mut told);
        Ok(written.map(drop)?)
    })?;
    let secret = Staged::write(&keys.secret, Access::Owner, |out, name| {
        Ok(client.write(out, name).map(drop)?)
    })?;
    let beside = Staged::copy(client_file, &folder.join(CLIENT_FILE))?;
    locked(tell)?.install(&NewKeys {
        secret: secret.0.clone(),
        public: public.0.clone(),
        client: beside.as_ref().map(|b| b.0.clone()),
    })?;
    Ok(keys)
}

/// A whole file under a name for the time being, on disk; it goes if nobody moves it.
struct Staged(PathBuf);

impl Staged {
    /// Beside `path`, under a name that nobody has.
    fn write(
        path: &Path,
        access: Access,
        write: impl FnOnce(BufWriter<&File>, &str) -> Result<()>,
    ) -> Result<Self> {
        let (staged, file) = Self::new(path, |partial| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(match access {
                Access::Everyone => 0o644,
                Access::Owner => 0o600,
            });
            options.open(partial)
        })?;
        let name = path.display().to_string();
        write(BufWriter::with_capacity(1 << 20, &file), &name)?;
        file.sync_all().map_err(named(path))?;
        Ok(staged)
    }
    /// Another file, to be put at `path`; none if it lies there.
    fn copy(from: &Path, path: &Path) -> Result<Option<Self>> {
        if path.exists() && from.canonicalize()? == path.canonicalize()? {
            return Ok(None);
        }
        if let Ok((staged, ())) = Self::new(path, |partial| std::fs::hard_link(from, partial)) {
            return Ok(Some(staged));
        }
        let mut source = File::open(from).map_err(named(from))?;
        let copied = Self::write(path, Access::Everyone, |mut out, _| {
            std::io::copy(&mut source, &mut out)?;
            Ok(out.flush()?)
        });
        copied.map(Some)
    }
    fn new<T>(path: &Path, mut make: impl FnMut(&Path) -> std::io::Result<T>) -> Result<(Self, T)> {
        let mut number = std::process::id();
        loop {
            let partial = with_suffix(path, &format!(".{number}.partial"));
            match make(&partial) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                made => {
                    let made = made.map_err(named(&partial))?;
                    return Ok((Self(partial), made));
                }
            }
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
