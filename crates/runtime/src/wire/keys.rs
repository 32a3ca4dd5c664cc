//! Evaluation keys as a file.

use super::ciphertexts::{conform, read_limb};
use super::client_file::ClientSpec;
use super::conformance;
use super::conformance::{KeyList, key_bytes, key_request, parameters_digest};
use super::container::{Digest, Kind, Reader, file_length};
use crate::{Error, Result};
use ckks::keys::{EvaluationKeys, KeyName, KeyRequest, SwitchingKey};
use ckks::{Parameters, ParametersSpec};
use std::io::Read;

pub(crate) const LIST: [u8; 4] = *b"list";
pub(crate) const KEY: [u8; 4] = *b"key ";

/// Bytes of the evaluation keys' file for a plan.
pub(crate) fn evaluation_keys_bytes(parameters: &Parameters, spec: &ClientSpec) -> u64 {
    let head = conformance::json(&(&spec.parameters, &spec.keys)).len() as u64;
    file_length(
        std::iter::once(head).chain(
            spec.keys
                .iter()
                .map(|&(key, limit)| key_bytes(parameters, key, limit)),
        ),
    )
}

/// Reads evaluation keys one by one; `needed` says what the plan must have.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub fn read_evaluation_keys(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<EvaluationKeys> {
    let mut keys = EvaluationKeys::new();
    each_key(input, name, parameters, needed, progress, |section, key| {
        keys.insert(section.key, key);
    })?;
    Ok(keys)
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
/// the file has passed.
pub(crate) fn each_key(
    input: impl Read,
    name: &str,
    parameters: &Parameters,
    needed: &KeyRequest,
    progress: &mut dyn FnMut(usize, usize),
    mut found: impl FnMut(SectionOfKey, SwitchingKey),
) -> Result<()> {
    let mut file = Reader::new(input, name, Kind::EvaluationKeys)?;
    file.expect_parameters(&parameters_digest(parameters), &parameters.spec().name)?;
    let (_, list): (ParametersSpec, KeyList) = file.json(LIST, 1 << 20)?;
    let request = key_request(&list, parameters, name)?;
    if let Some((key, limit)) = needed
        .0
        .iter()
        .find(|(key, limit)| request.0.get(key).is_none_or(|had| had < *limit))
    {
        return Err(Error::file(
            name,
            "list of keys",
            format!("no {key} up to prime {limit}, which this plan needs"),
            "run `polyveil keygen` again for this plan",
        ));
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
    file.finish()?;
    Ok(())
}
