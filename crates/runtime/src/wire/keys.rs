//! Evaluation keys as a file.

use super::ciphertexts::{conform, read_limb};
use super::conformance;
use super::conformance::{KeyList, key_bytes, key_request, parameters_digest};
use super::packing::pack;
use super::{
    KeyId,
    container::{Digest, Ids, Kind, Reader, Writer, file_length},
};
use crate::{Error, Help, Result};
use ckks::keys::{EvaluationKeys, KeyName, KeyRequest, SwitchingKey};
use ckks::{Parameters, ParametersSpec};
use std::io::{Read, Write};

pub(crate) const LIST: [u8; 4] = *b"list";
pub(crate) const KEY: [u8; 4] = *b"key ";

/// One client's evaluation keys, with the id of its key pair: what a server may have of it.
#[derive(Clone, Debug)]
pub struct ServerKeys {
    /// The key pair.
    pub id: KeyId,
    /// The keys.
    pub keys: EvaluationKeys,
}

impl ServerKeys {
    /// Reads a key file; `needed` says what the plan must have.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(
        input: impl Read,
        name: &str,
        parameters: &Parameters,
        needed: &KeyRequest,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let mut keys = EvaluationKeys::new();
        let id = each_key(input, name, parameters, needed, progress, |section, key| {
            keys.insert(section.key, key);
        })?;
        Ok(Self { id, keys })
    }
    /// Writes the key file of a plan with this digest.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(
        &self,
        out: W,
        name: &str,
        parameters: &Parameters,
        plan: Digest,
    ) -> Result<W> {
        let ids = Ids {
            parameters: parameters_digest(parameters),
            plan,
            key: self.id,
            ..Ids::default()
        };
        let list = self.keys.iter().map(|(&k, key)| (k, key.limit())).collect();
        let mut file = KeysWriter::new(out, name, ids, parameters, &list)?;
        for (&k, key) in self.keys.iter() {
            file.put(k, key)?;
        }
        file.finish()
    }
}

/// Bytes of the file of these keys.
pub(crate) fn evaluation_keys_bytes(parameters: &Parameters, keys: &KeyList) -> u64 {
    let head = head(parameters, keys).len() as u64;
    let sections = keys
        .iter()
        .map(|&(k, limit)| key_bytes(parameters, k, limit));
    file_length(std::iter::once(head).chain(sections))
}

fn head(parameters: &Parameters, keys: &KeyList) -> Vec<u8> {
    conformance::json(&(parameters.spec(), keys))
}

/// Writes a key file, key by key.
pub(crate) struct KeysWriter<'a, W: Write> {
    file: Writer<W>,
    parameters: &'a Parameters,
    bytes: Vec<u8>,
}

impl<'a, W: Write> KeysWriter<'a, W> {
    /// Begins a file of these keys.
    pub(crate) fn new(
        out: W,
        name: &str,
        ids: Ids,
        parameters: &'a Parameters,
        keys: &KeyList,
    ) -> Result<Self> {
        let head = head(parameters, keys);
        let of = |&(key, limit): &(KeyName, usize)| key_bytes(parameters, key, limit);
        let (kind, head, lengths) = (Kind::EvaluationKeys, (LIST, &head[..]), keys.iter().map(of));
        Ok(Self {
            file: Writer::list(out, name, kind, ids, head, KEY, lengths)?,
            parameters,
            bytes: Vec::new(),
        })
    }
    /// Writes the next key.
    pub(crate) fn put(&mut self, name: KeyName, key: &SwitchingKey) -> Result<()> {
        self.file.begin()?;
        self.file.write(key.seed())?;
        let layout = SwitchingKey::layout(self.parameters, name, key.limit());
        for (limb, q) in key.limbs().zip(layout) {
            self.bytes.clear();
            pack(&limb, q.bits(), &mut self.bytes);
            self.file.write(&self.bytes)?;
        }
        Ok(())
    }
    pub(crate) fn finish(self) -> Result<W> {
        self.file.finish()
    }
}

/// Where a key lies in its file.
pub(crate) struct SectionOfKey {
    pub(crate) key: KeyName,
    pub(crate) limit: usize,
    /// Offset of the section's head.
    pub(crate) offset: u64,
    /// BLAKE3 of the section's head and payload.
    pub(crate) checksum: Digest,
}

/// Checks a file of evaluation keys from end to end and hands its keys on one by one; what was handed on counts only once all of
/// the file has passed. Gives the id of their key pair.
pub(crate) fn each_key(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    progress: &mut dyn FnMut(usize, usize),
    mut found: impl FnMut(SectionOfKey, SwitchingKey),
) -> Result<KeyId> {
    let mut file = Reader::new(input, name, Kind::EvaluationKeys)?;
    file.expect_parameters(&parameters_digest(parameters))?;
    let (_, list): (ParametersSpec, KeyList) = file.json(LIST, 1 << 20)?;
    let request = key_request(&list, parameters, name)?;
    let missing = |(key, limit): &(&KeyName, &usize)| request.0.get(key).is_none_or(|h| h < limit);
    if let Some((key, limit)) = needed.0.iter().find(missing) {
        let problem = format!("no {key} up to prime {limit}, which this plan needs");
        let remedy = Help::MakeKeys.with("make new keys for this plan");
        return Err(Error::file(name, "list of keys", problem, remedy));
    }
    let mut bytes = Vec::new();
    for (done, &(key, limit)) in list.iter().enumerate() {
        let layout = SwitchingKey::layout(parameters, key, limit);
        let offset = file.position();
        file.begin_exact(KEY, key_bytes(parameters, key, limit))?;
        let mut seed = [0u8; 32];
        file.take(&mut seed)?;
        let read = SwitchingKey::read(parameters, key, limit, seed, |k, limb| {
            read_limb(&mut file, layout[k].bits(), &mut bytes, limb)
        });
        let made = read.map_err(|e| conform(e, name))?;
        let checksum = file.end()?;
        let section = SectionOfKey {
            key,
            limit,
            offset,
            checksum,
        };
        found(section, made);
        progress(done + 1, list.len());
    }
    let id = file.header().ids.key;
    file.finish()?;
    Ok(id)
}
