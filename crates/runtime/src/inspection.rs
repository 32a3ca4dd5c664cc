//! What a file says about itself, read from its header and its first sections; of the others the checksums are checked.

use crate::checkpoint;
use crate::plan::Description;
use crate::wire::ciphertexts::{META, PortMeta};
use crate::wire::client_file::{self, ClientSpec, SPEC, TASK, TASK_LIMIT};
use crate::wire::conformance::{self, KeyList, parameters_digest};
use crate::wire::keys::LIST;
use crate::wire::ports::read_places;
use crate::wire::{
    KeyId,
    container::{Header, Kind, Reader, VERSION, short},
};
use crate::{Error, Result, size};
use ckks::{KeyName, Parameters, ParametersSpec};
use serde::Deserialize;
use std::io::{Read, Seek};

/// Most bytes of a first section.
const LIMIT: u64 = 256 << 20;

/// What a file says about itself.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What it holds.
    pub kind: Kind,
    /// Version of the format.
    pub version: u16,
    /// Its stated length.
    pub length: u64,
    /// First bytes of the parameters' digest.
    pub parameters_digest: String,
    /// First bytes of the plan's digest.
    pub plan_digest: String,
    /// The id of its key pair, if it has one.
    pub key: Option<KeyId>,
    /// Its parameters, checked; a client's key has only their digest.
    pub parameters: Option<Parameters>,
    /// More, as name and value.
    pub details: Details,
}

/// Names and values.
type Details = Vec<(&'static str, String)>;

/// Explains a file.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub fn inspect(mut input: impl Read + Seek, name: &str) -> Result<Inspection> {
    let header = Header::read(&mut input, name)?;
    input.rewind().map_err(Error::io(name))?;
    let mut file = Reader::new(input, name, header.kind)?;
    let (spec, details) = match header.kind {
        Kind::ClientKey => (None, vec![("client file", short(&header.ids.client))]),
        Kind::Weights => (None, Vec::new()),
        kind => {
            let (spec, details) = match kind {
                Kind::ClientFile => client_file(&mut file)?,
                Kind::EvaluationKeys => evaluation_keys(&mut file)?,
                Kind::Input | Kind::Answer => ciphertexts(&mut file)?,
                Kind::Checkpoint => checkpoint(&mut file)?,
                Kind::Cache => cache(&mut file)?,
                Kind::Plan | Kind::ClientKey | Kind::Weights => plan(&mut file)?,
            };
            (Some(spec), details)
        }
    };
    let parameters = spec.map(|s| conformance::parameters(s, name)).transpose()?;
    if let Some(parameters) = &parameters {
        file.expect_parameters(&parameters_digest(parameters))?;
    }
    file.check_rest()?;
    Ok(Inspection {
        kind: header.kind,
        version: VERSION,
        length: header.length,
        parameters_digest: short(&header.ids.parameters),
        plan_digest: short(&header.ids.plan),
        key: Some(header.ids.key).filter(|id| *id != KeyId::default()),
        parameters,
        details,
    })
}

fn client_file<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    let mut spec: ClientSpec = file.json(SPEC, client_file::SPEC_LIMIT)?;
    let ports = (&mut spec.input, &mut spec.output);
    read_places(file, ports, spec.sequence.as_mut())?;
    let length = file.begin(TASK, TASK_LIMIT)?;
    let (input, answer) = (&spec.input, &spec.answer);
    let details = vec![
        ("network", spec.description.name.clone()),
        (
            "input",
            format!(
                "{:?} in {} ciphertexts of {} slots at level {}",
                input.shape,
                input.registers.len(),
                input.slots,
                input.level
            ),
        ),
        (
            "answer",
            format!("{} values of {answer}", spec.output.elements()),
        ),
        (
            "alarm",
            match &spec.description.alarm {
                Some(alarm) => alarm.to_string(),
                None => "none: nobody sees a value that leaves its interval".into(),
            },
        ),
        ("evaluation keys", spec.keys.len().to_string()),
        (
            "task",
            match length {
                0 => "none".into(),
                _ => size(length),
            },
        ),
    ];
    Ok((spec.parameters, details))
}

fn evaluation_keys<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    let (spec, list): (ParametersSpec, KeyList) = file.json(LIST, LIMIT)?;
    let parameters = conformance::parameters(spec, file.name())?;
    let request = conformance::key_request(&list, &parameters, file.name())?;
    let bytes = size(request.bytes(&parameters));
    let mut details = vec![("keys", format!("{} ({bytes})", list.len()))];
    let (small, list): (Vec<_>, Vec<_>) = list
        .into_iter()
        .partition(|k| matches!(k.0, KeyName::Small(_)));
    let (galois, others): (Vec<_>, Vec<_>) = list
        .into_iter()
        .partition(|k| matches!(k.0, KeyName::Galois(_)));
    let named = |(key, limit)| ("key", format!("{key} up to prime {limit}"));
    details.extend(others.into_iter().map(named));
    details.push(("Galois keys", galois.len().to_string()));
    if !small.is_empty() {
        details.push(("small ring", format!("{} Galois keys", small.len())));
    }
    Ok((parameters.spec().clone(), details))
}

fn ciphertexts<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    let meta: PortMeta = file.json(META, LIMIT)?;
    let text = format!(
        "{} of {} slots at level {}",
        meta.ciphertexts, meta.slots, meta.level
    );
    Ok((meta.parameters, vec![("ciphertexts", text)]))
}

fn checkpoint<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    let meta: checkpoint::Meta = file.json(META, LIMIT)?;
    let details = vec![
        ("next step", meta.next.to_string()),
        ("live ciphertexts", meta.registers.len().to_string()),
    ];
    Ok((meta.parameters, details))
}

fn cache<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    let meta: crate::cache::Meta = file.json(META, LIMIT)?;
    let count = meta.kept.iter().map(|k| k[0]);
    let count = count.fold(0usize, usize::saturating_add);
    let details = vec![
        ("runs so far", meta.runs.to_string()),
        ("tensors", meta.kept.len().to_string()),
        ("ciphertexts", count.to_string()),
    ];
    Ok((meta.parameters, details))
}

fn plan<R: Read>(file: &mut Reader<R>) -> Result<(ParametersSpec, Details)> {
    #[derive(Deserialize)]
    struct Head {
        parameters: ParametersSpec,
        description: Description,
    }
    let head: Head = file.json(*b"head", LIMIT)?;
    Ok((head.parameters, vec![("network", head.description.name)]))
}
