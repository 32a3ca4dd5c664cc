//! What a file says about itself, read from its header and first section.

use crate::wire::ClientSpec;
use crate::wire::conformance::{self, KeyList, parameters_digest};
use crate::wire::container::{Header, KeyId, Kind, Reader, VERSION, short};
use crate::{Error, Result, size};
use ckks::{Parameters, ParametersSpec};
use serde_json::Value;
use std::io::{Read, Seek};

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
    /// Its parameters, checked.
    pub parameters: Parameters,
    /// More, as name and value.
    pub details: Vec<(String, String)>,
}

/// Explains a file.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub fn inspect(mut input: impl Read + Seek, name: &str) -> Result<Inspection> {
    let header = Header::read(&mut input, name)?;
    input.rewind().map_err(Error::io(name))?;
    let mut file = Reader::new(input, name, header.kind)?;
    let tag = match header.kind {
        Kind::ClientKey => *b"spec",
        Kind::EvaluationKeys => *b"list",
        Kind::Input | Kind::Answer | Kind::Checkpoint => *b"meta",
        Kind::Plan => *b"head",
        Kind::Model => {
            return Err(Error::file(
                name,
                "kind",
                "models are stored as .pvm files, not in this container",
                "make one with `polyveil calibrate`",
            ));
        }
    };
    let first: Value = file.json(tag, 256 << 20)?;
    let read = |v: &Value| -> Result<ParametersSpec> {
        serde_json::from_value(v.clone()).map_err(|e| {
            Error::file(
                name,
                "parameters",
                format!("cannot be read ({e})"),
                "make the file again with this program",
            )
        })
    };
    let spec = if header.kind == Kind::EvaluationKeys {
        read(&first[0])?
    } else {
        read(&first["parameters"])?
    };
    let parameters = conformance::parameters(spec, name)?;
    file.expect_parameters(&parameters_digest(&parameters))?;
    let mut details = Vec::new();
    let mut say = |what: &str, value: String| details.push((what.to_owned(), value));
    let number = |v: &Value| v.as_u64().map_or("?".to_owned(), |n| n.to_string());
    match header.kind {
        Kind::ClientKey => {
            let spec: ClientSpec = serde_json::from_value(first).map_err(|e| {
                Error::file(
                    name,
                    "section `spec`",
                    format!("cannot be read ({e})"),
                    "run `polyveil keygen` again",
                )
            })?;
            say("network", spec.description.name.clone());
            say(
                "input",
                format!(
                    "{:?} in {} ciphertexts of {} slots at level {}",
                    spec.input.shape,
                    spec.input.registers.len(),
                    spec.input.slots,
                    spec.input.level
                ),
            );
            say(
                "answer",
                format!(
                    "{} values of magnitude up to {:.3}, each with an error of at most {:.1e}",
                    spec.output.places.len(),
                    spec.answer.magnitude,
                    spec.answer.error
                ),
            );
            say("evaluation keys", spec.keys.len().to_string());
        }
        Kind::EvaluationKeys => {
            let list: KeyList = serde_json::from_value(first[1].clone()).unwrap_or_default();
            let request = conformance::key_request(&list, &parameters, name)?;
            say(
                "keys",
                format!("{} ({})", list.len(), size(request.bytes(&parameters))),
            );
            for (key, limit) in list
                .iter()
                .filter(|k| !matches!(k.0, ckks::KeyName::Galois(_)))
            {
                say("key", format!("{key} up to prime {limit}"));
            }
            say(
                "Galois keys",
                list.iter()
                    .filter(|k| matches!(k.0, ckks::KeyName::Galois(_)))
                    .count()
                    .to_string(),
            );
        }
        Kind::Input | Kind::Answer => {
            say(
                "ciphertexts",
                format!(
                    "{} of {} slots at level {}",
                    number(&first["ciphertexts"]),
                    number(&first["slots"]),
                    number(&first["level"])
                ),
            );
        }
        Kind::Checkpoint => {
            say("next step", number(&first["next"]));
            say(
                "live ciphertexts",
                first["registers"]
                    .as_array()
                    .map_or(0, Vec::len)
                    .to_string(),
            );
        }
        Kind::Plan => {
            say(
                "network",
                first["description"]["name"]
                    .as_str()
                    .unwrap_or("?")
                    .to_owned(),
            );
        }
        Kind::Model => {}
    }
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
