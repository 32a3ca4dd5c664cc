//! The client file: what a client must know of a plan, without its weights. Keys are made from it alone.
//!
//! Sections: `spec` (JSON), `plcs` (where the ports' values lie), `task` (what the client encodes and reads, in the words of whoever
//! made the network). Its digest covers the first two; the first names the digest of the third.

use super::conformance::{self, KeyList, key_request, parameters_digest};
use super::container::{DAMAGED, Digest, Ids, Kind, Reader, hash_parts, write_file};
use super::ports::{PLACES, check_name, check_port, check_sequence, places_bytes, read_places};
use crate::answer::AnswerBounds;
use crate::plan::{Description, Port, Sequence, inputs};
use crate::{Error, Result};
use ckks::keys::KeyRequest;
use ckks::{Parameters, ParametersSpec};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::sync::Arc;

pub(crate) const SPEC: [u8; 4] = *b"spec";
pub(crate) const TASK: [u8; 4] = *b"task";
/// Most bytes of the specification.
pub(crate) const SPEC_LIMIT: u64 = 16 << 20;
/// Most bytes of a task, the one limit that there is: embeddings are the bulk.
pub const TASK_LIMIT: u64 = 4 << 30;

/// What the client must know of a plan: nothing about weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientSpec {
    /// Parameter set.
    pub parameters: ParametersSpec,
    /// Name, bound on inputs, digest of the task.
    pub description: Description,
    /// How the input lies in slots.
    pub input: Port,
    /// How the output lies in slots.
    pub output: Port,
    /// Of a step of a sequence, what it has beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
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
    /// The client's inputs, the first one first.
    pub fn inputs(&self) -> impl Iterator<Item = &Port> {
        inputs(&self.input, self.sequence.as_ref())
    }
    fn check(&self, name: &str) -> Result<Parameters> {
        let parameters = conformance::parameters(self.parameters.clone(), name)?;
        key_request(&self.keys, &parameters, name)?;
        let refuse = |what: &str, reason| Error::file(name, what, reason, "compile the plan again");
        for (what, port) in [("input", &self.input), ("output", &self.output)] {
            check_port(port, &parameters).map_err(|reason| refuse(what, reason))?;
        }
        if let Some(sequence) = &self.sequence {
            let checked = check_sequence((&self.input, &self.output), sequence, &parameters);
            checked.map_err(|reason| refuse("sequence", reason))?;
        }
        if let Some(alarm) = &self.description.alarm {
            let alarm = alarm.check(&parameters, self.output.inputs());
            alarm.map_err(|reason| refuse("alarm", reason))?;
        }
        check_name("the network's name", &self.description.name)
            .map_err(|reason| refuse("description", reason))?;
        let answer = self.answer.check();
        answer.map_err(|reason| refuse("bounds of the answer", reason))?;
        if self.answer.simulated != self.description.simulated {
            let reason = "the plan's simulated error is another one".into();
            return Err(refuse("bounds of the answer", reason));
        }
        Ok(parameters)
    }
}

/// The digest by which plans and client files name a task; zero for none.
pub fn task_digest(task: &[u8]) -> Digest {
    if task.is_empty() {
        return [0; 32];
    }
    *blake3::hash(task).as_bytes()
}

/// What a client has of a network: its specification and its task.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFile {
    spec: ClientSpec,
    task: Arc<[u8]>,
    parameters: Parameters,
    ids: Ids,
}

impl ClientFile {
    /// Puts a plan's specification and the task that it names together.
    ///
    /// # Errors
    /// [`Error::File`] for another task, or where the specification does not hold together.
    pub fn new(spec: ClientSpec, task: Arc<[u8]>) -> Result<Self> {
        Self::checked(spec, task, "client file")
    }
    fn checked(spec: ClientSpec, task: Arc<[u8]>, name: &str) -> Result<Self> {
        let parameters = spec.check(name)?;
        if task_digest(&task) != spec.description.task {
            let problem = "this is not the task that the plan names";
            let remedy = "take plan and client file of one compilation";
            return Err(Error::file(name, "section `task`", problem, remedy));
        }
        // of what it says: the same JSON in other bytes would be another file once it is written again
        let json = conformance::json(&spec);
        let places = places_bytes((&spec.input, &spec.output), spec.sequence.as_ref());
        let ids = Ids {
            parameters: parameters_digest(&parameters),
            plan: spec.plan,
            client: *hash_parts(&[&json, &places]).finalize().as_bytes(),
            ..Ids::default()
        };
        Ok(Self {
            spec,
            task,
            parameters,
            ids,
        })
    }
    /// What it knows of the plan.
    pub fn spec(&self) -> &ClientSpec {
        &self.spec
    }
    /// The task's bytes; empty for none.
    pub fn task(&self) -> &Arc<[u8]> {
        &self.task
    }
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    /// What names it in a client's key.
    pub fn digest(&self) -> &Digest {
        &self.ids.client
    }
    /// What it belongs to.
    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Writes the client file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, out: W, name: &str) -> Result<W> {
        let spec = conformance::json(&self.spec);
        let ports = (&self.spec.input, &self.spec.output);
        let places = places_bytes(ports, self.spec.sequence.as_ref());
        let sections: [([u8; 4], &[u8]); 3] =
            [(SPEC, &spec), (PLACES, &places), (TASK, &self.task)];
        write_file(out, name, Kind::ClientFile, self.ids, &sections)
    }
    /// Reads a client file. The task is in memory once.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong.
    pub fn read(input: impl Read, name: &str) -> Result<Self> {
        let mut file = Reader::new(input, name, Kind::ClientFile)?;
        let mut spec: ClientSpec = file.json(SPEC, SPEC_LIMIT)?;
        let ports = (&mut spec.input, &mut spec.output);
        read_places(&mut file, ports, spec.sequence.as_mut())?;
        let task = file.shared(TASK, TASK_LIMIT)?;
        let ids = file.header().ids;
        file.finish()?;
        let read = Self::checked(spec, task, name)?;
        if read.ids != ids {
            let problem = "it does not name what the file holds";
            return Err(Error::file(name, "header", problem, DAMAGED));
        }
        Ok(read)
    }
}
