//! A client's keys on files.

use crate::error::{Result, named};
use crate::files::{self, Content, Existing, Output};
use crate::machine::Machine;
use crate::memory;
use crate::network::{self, CLIENT_FILE};
use crate::progress::{Listener, Say, duration};
use crate::session::rng;
use runtime::machine::require_disk;
use runtime::sharing::RECORD_NAME;
use runtime::wire::container::Kind;
use runtime::{Client, size};
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

/// Makes a client's keys from a client file and writes them into a folder, which is made if missing, with the client file beside them.
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
    let keys = KeyFiles::within(folder);
    let file = network::client_file(client_file)?;
    let parameters = file.parameters();
    let name = &parameters.spec().name;
    if parameters.spec().is_toy() && !options.accept_toy {
        return Err(named(client_file)(format!(
            "`{name}` is a toy parameter set that protects nothing; accept it by name, or compile for a secure one"
        )));
    }
    if !options.replace && (keys.secret.exists() || keys.public.exists()) {
        return Err(format!("{} already holds keys; choose another folder, or replace them (what was encrypted with them is then lost)", folder.display()).into());
    }
    files::private_folder(folder)?;
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
    place(client_file, &folder.join(CLIENT_FILE))?;
    let existing = match options.replace {
        true => Existing::Any,
        false => Existing::Kin,
    };
    let open =
        |path, kind| Output::create(path, Content::Container(kind), &[client_file], existing);
    let (public, secret) = (
        open(&keys.public, Kind::EvaluationKeys)?,
        open(&keys.secret, Kind::ClientKey)?,
    );
    let (public, ()) = public.fill(|out, name| {
        let mut told = |done, all| tell.count("key", done, all);
        let written = client.write_evaluation_keys(out, name, &mut rng, &mut told);
        Ok(written.map(drop)?)
    })?;
    let (secret, ()) = secret.fill(|out, name| Ok(client.write(out, name).map(drop)?))?;
    public.place()?;
    secret.place()?;
    // answers that were shared under the key that is gone now
    let record = folder.join(RECORD_NAME);
    if options.replace && record.exists() {
        std::fs::remove_file(&record).map_err(named(&record))?;
    }
    Ok(keys)
}

/// Puts the client file beside the keys that are made from it.
fn place(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        if from.canonicalize()? == to.canonicalize()? {
            return Ok(());
        }
        std::fs::remove_file(to).map_err(named(to))?;
    }
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).map_err(named(to))?;
    }
    Ok(())
}
