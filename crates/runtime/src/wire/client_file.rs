//! What a client must know of a plan.

use super::conformance::{self, KeyList, key_request};
use super::container::Digest;
use super::ports::check_port;
use crate::plan::{Description, Port};
use crate::sharing::AnswerBounds;
use crate::{Error, Result};
use ckks::keys::KeyRequest;
use ckks::{Parameters, ParametersSpec};
use serde::{Deserialize, Serialize};

/// What the client must know of a plan: nothing about weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// Parameter set.
    pub parameters: ParametersSpec,
    /// Name, normalisation, labels, bound on inputs.
    pub description: Description,
    /// How the input lies in slots.
    pub input: Port,
    /// How the output lies in slots.
    pub output: Port,
    /// How wrong and how large the output may be.
    pub answer: AnswerBounds,
    /// The evaluation keys that the plan needs.
    pub keys: KeyList,
    /// Digest of the plan.
    pub plan: Digest,
}

impl ClientSpec {
    /// The evaluation keys that the plan needs.
    pub fn key_request(&self) -> KeyRequest {
        KeyRequest(self.keys.iter().copied().collect())
    }
}

pub(crate) fn checked(spec: &ClientSpec, name: &str) -> Result<Parameters> {
    let parameters = conformance::parameters(spec.parameters.clone(), name)?;
    key_request(&spec.keys, &parameters, name)?;
    for (what, port) in [("input", &spec.input), ("output", &spec.output)] {
        check_port(port, &parameters)
            .map_err(|reason| Error::file(name, what, reason, "compile the plan again"))?;
    }
    spec.answer.check().map_err(|reason| {
        Error::file(
            name,
            "bounds of the answer",
            reason,
            "compile the plan again",
        )
    })?;
    Ok(parameters)
}
