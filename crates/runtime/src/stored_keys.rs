//! Evaluation keys that stay in their file: checked once from end to end, then read one by one when they are used, each held to
//! the checksum that the check saw.

use crate::machine::read_at;
use crate::wire::conformance::key_bytes;
use crate::wire::keys::{KEY, SectionOfKey, ServerKeys, each_key};
use crate::wire::packing::{packed_len, unpack};
use crate::{Error, Result};
use ckks::Parameters;
use ckks::keys::{EvaluationKeys, KeyName, KeyRequest, SwitchingKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Seek};

/// Checks a whole key file as [`ServerKeys::read`] does, holding one key at a time; keeps the keys of `kept`
/// in memory and reads the others from the file whenever they are used.
///
/// # Errors
/// [`Error::File`] with the field that is wrong, or where the file cannot be read again from any place (a pipe); [`Error::Io`].
pub(crate) fn open_evaluation_keys(
    mut file: File,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    kept: &BTreeSet<KeyName>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<ServerKeys> {
    if !file.metadata().map_err(Error::io(name))?.is_file() {
        return Err(Error::file(
            name,
            "kind of file",
            "keys are to be read again from it, but it is no regular file",
            "save it to a file first, or run with keys in memory",
        ));
    }
    file.rewind().map_err(Error::io(name))?;
    let mut keys = EvaluationKeys::new();
    let mut sections = BTreeMap::new();
    let input = BufReader::with_capacity(1 << 20, &file);
    let id = each_key(input, name, parameters, needed, progress, |section, key| {
        if kept.contains(&section.key) {
            keys.insert(section.key, key);
        } else {
            sections.insert(section.key, section);
        }
    })?;
    let limits = KeyRequest(sections.iter().map(|(&k, s)| (k, s.limit)).collect());
    let stored = StoredKeys {
        file,
        name: name.into(),
        parameters: parameters.clone(),
        sections,
    };
    let keys = keys.with_stored(limits, move |key| stored.load(key));
    Ok(ServerKeys { id, keys })
}

/// A checked key file.
struct StoredKeys {
    file: File,
    name: String,
    parameters: Parameters,
    sections: BTreeMap<KeyName, SectionOfKey>,
}

impl StoredKeys {
    fn load(&self, key: KeyName) -> std::result::Result<SwitchingKey, ckks::Error> {
        let fail = |reason: String| ckks::Error::StoredKey {
            key: key.to_string(),
            reason,
        };
        let changed = || {
            fail(format!(
                "the key file {} changed while in use; put the client's file back, leave it alone until the run ends, and go on from the last checkpoint",
                self.name
            ))
        };
        let section = self.sections.get(&key).ok_or_else(changed)?;
        let (mut at, mut hasher) = (section.offset, blake3::Hasher::new());
        let mut take = |bytes: &mut [u8]| {
            match read_at(&self.file, bytes, at) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(changed()),
                Err(e) => return Err(fail(format!("{}: {e}", self.name))),
            }
            at += bytes.len() as u64;
            hasher.update(bytes);
            Ok(())
        };
        let (mut head, mut seed) = ([0u8; 12], [0u8; 32]);
        take(&mut head)?;
        let length = key_bytes(&self.parameters, key, section.limit);
        if head[..4] != KEY || head[4..] != length.to_le_bytes() {
            return Err(changed());
        }
        take(&mut seed)?;
        let layout = SwitchingKey::layout(&self.parameters, key, section.limit);
        let mut bytes = Vec::new();
        let made = SwitchingKey::read(&self.parameters, key, section.limit, seed, |k, limb| {
            bytes.resize(packed_len(limb.len(), layout[k].bits()), 0);
            take(&mut bytes)?;
            unpack(&bytes, layout[k].bits(), limb);
            Ok(())
        })
        .map_err(|e| match e {
            // residues were below their primes when the file was opened
            ckks::Error::Conformance { .. } => changed(),
            e => e,
        })?;
        if hasher.finalize().as_bytes() == &section.checksum {
            Ok(made)
        } else {
            Err(changed())
        }
    }
}
