//! A client's keys on files.

use crate::error::{Result, named};
use crate::files::{self, Content, Existing, Filled, Output};
pub use crate::key_folder::KeyFiles;
use crate::key_folder::{KeyFolder, NewKeys};
use crate::machine::{Machine, judged};
use crate::memory;
use crate::network::{self, CLIENT_FILE};
use crate::progress::{Listener, Say, duration};
use crate::session::rng;
use runtime::machine::require_disk;
use runtime::wire::container::Kind;
use runtime::{Client, ClientFile, size};
use std::path::Path;

/// What keys are made over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeygenOptions {
    /// Keys that are in the folder are replaced, not kept: what was encrypted with them can then never be decrypted.
    pub replace: bool,
    /// A toy parameter set, which protects nothing, is taken.
    pub accept_toy: bool,
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
    files::private_folder(folder, "keys", tell)?;
    let locked = |tell: Listener<'_>| -> Result<KeyFolder> {
        let locked = KeyFolder::lock(folder, tell)?;
        if !options.replace {
            locked.expect_empty(&file)?;
        }
        locked.expect_client_file()?;
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
    let client = Client::new(file.clone(), &mut rng);
    let bytes = client.evaluation_keys_bytes();
    tell.note(format_args!(
        "making {count} evaluation keys: {} on disk, {} of memory, about {}",
        size(bytes),
        size(memory),
        duration(seconds)
    ));
    for kind in client.parameters().key_security() {
        tell.note(judged(&kind));
    }
    require_disk(folder, bytes + (1 << 20))?;
    let keys = KeyFiles::within(folder);
    let mut open = |path, kind| -> Result<Output> {
        let content = Content::Container(kind);
        Output::create(path, content, &[client_file], Existing::Any, tell)
    };
    let public = open(&keys.public, Kind::EvaluationKeys)?;
    let secret = open(&keys.secret, Kind::ClientKey)?;
    let beside = beside((client_file, &file), &folder.join(CLIENT_FILE), tell)?;
    let (public, ()) = public.fill(|out, name| {
        let mut told = |done, all| tell.count("key", done, all);
        let written = client.write_evaluation_keys(out, name, &mut rng, &mut told);
        Ok(written.map(drop)?)
    })?;
    let (secret, ()) = secret.fill(|out, name| Ok(client.write(out, name).map(drop)?))?;
    locked(tell)?.install(NewKeys {
        secret,
        public,
        client: beside,
    })?;
    Ok(keys)
}

/// A copy of the client file, to be put beside the keys that are made from it; none where it lies there.
fn beside(
    (path, file): (&Path, &ClientFile),
    to: &Path,
    tell: Listener<'_>,
) -> Result<Option<Filled>> {
    if disk::same_file(path, to) {
        return Ok(None);
    }
    let content = Content::Container(Kind::ClientFile);
    let output = Output::create(to, content, &[], Existing::Kin, tell)?;
    // what was read: a pipe is read once
    let (copy, ()) = output.fill(|out, name| Ok(file.write(out, name).map(drop)?))?;
    Ok(Some(copy))
}
