//! Checkpoints: after bootstraps the live registers go into a file, so that a killed run resumes with the same answer.

use crate::Register;
use crate::interpreter::{Done, Observer, State};
use crate::operation::Operation;
use crate::verified::VerifiedPlan;
use crate::wire::ciphertexts::{
    CIPHERTEXT, META, ciphertext_bytes, read_ciphertext, write_ciphertext,
};
use crate::wire::conformance::{self, residual_level};
use crate::wire::{
    KeyId,
    container::{Digest, Kind, Reader, Writer, file_length},
};
use crate::{Error, Help, Remedy, Result};
use ckks::{Ciphertext, Engine, Evaluator, Info, ParametersSpec};
use disk::{Access, Output};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) parameters: ParametersSpec,
    /// Digest of the input file.
    input: Digest,
    pub(crate) next: usize,
    /// (register, level, slots)
    pub(crate) registers: Vec<(Register, usize, usize)>,
}

/// A sparing checkpointer computes so many times as long as it took to write the last checkpoint before it writes another: a large plan comes to
/// thousands of places, with a gigabyte alive at some.
const PAUSE: u32 = 20;

/// Writes a checkpoint after each bootstrap; the file is replaced atomically.
#[derive(Debug)]
pub struct Checkpointer<'a, E: Engine = Evaluator> {
    plan: &'a VerifiedPlan,
    engine: &'a E,
    path: PathBuf,
    input: Digest,
    sparing: bool,
    access: Access,
    /// When the last one was written, and how long that took.
    written: Option<(Instant, Duration)>,
}

/// Digest of an input file, which ties a checkpoint to it.
///
/// # Errors
/// [`Error::Io`].
pub fn input_digest(mut input: impl Read, name: &str) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut input, &mut hasher).map_err(Error::io(name))?;
    Ok(*hasher.finalize().as_bytes())
}

/// Reads an input file on the way to whom it is for, and knows its digest in the end.
#[derive(Debug)]
pub struct Hashing<R> {
    input: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Hashing<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        let hasher = blake3::Hasher::new();
        Self { input, hasher }
    }
    /// The digest of what was read, as [`input_digest`] gives it.
    pub fn digest(&self) -> Digest {
        *self.hasher.finalize().as_bytes()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let had = self.input.read(bytes)?;
        self.hasher.update(&bytes[..had]);
        Ok(had)
    }
}

impl<'a, E: Engine> Checkpointer<'a, E> {
    /// For an engine's run of `plan` on the input with this digest.
    pub fn new(plan: &'a VerifiedPlan, engine: &'a E, path: PathBuf, input: Digest) -> Self {
        Self {
            plan,
            engine,
            path,
            input,
            sparing: false,
            access: Access::Everyone,
            written: None,
        }
    }
    /// The same whose file is its owner's alone, for folders in which nobody else has business.
    #[must_use]
    pub fn private(self) -> Self {
        Self {
            access: Access::Owner,
            ..self
        }
    }
    /// The same that leaves checkpoints out where they would take more than a twentieth of the time.
    #[must_use]
    pub fn sparing(self) -> Self {
        Self {
            sparing: true,
            ..self
        }
    }
    /// Whether the run has come to a bootstrap and wrote the file.
    pub fn has_written(&self) -> bool {
        self.written.is_some()
    }
    /// Whether one is due after this step. In coefficients, what is alive is small: before the way up and after the way down.
    fn is_due(&self, operation: &Operation) -> bool {
        let place = matches!(
            operation,
            Operation::Bootstrap { .. } | Operation::Weigh { .. } | Operation::Descend { .. }
        );
        let pause = |(at, took): (Instant, Duration)| self.sparing && at.elapsed() < PAUSE * took;
        place && !self.written.is_some_and(pause)
    }
    /// Writes the state to the file, which is replaced atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, state: &State<E::Value>) -> Result<()> {
        let name = self.path.display().to_string();
        let file = Output::create(&self.path, self.access).map_err(Error::io(&name))?;
        let file = self.write(state, BufWriter::new(file), &name)?;
        let file = file.into_inner().map_err(|e| e.into_error());
        file.and_then(Output::finish).map_err(Error::io(&name))
    }
    /// Writes the state.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write<W: Write>(&self, state: &State<E::Value>, out: W, name: &str) -> Result<W> {
        let parameters = self.plan.parameters();
        let live = state.live.iter();
        let stand: Vec<(Register, Info)> = live.map(|(&r, v)| (r, self.engine.info(v))).collect();
        let meta = Meta {
            parameters: parameters.spec().clone(),
            input: self.input,
            next: state.next,
            registers: stand
                .iter()
                .map(|(r, v)| (*r, v.level.index(), v.slots))
                .collect(),
        };
        let meta = conformance::json(&meta);
        let (ids, head) = (self.plan.ids(state.key), (META, &meta[..]));
        let lengths = stand
            .iter()
            .map(|(_, v)| ciphertext_bytes(parameters, v.level));
        let mut file = Writer::list(out, name, Kind::Checkpoint, ids, head, CIPHERTEXT, lengths)?;
        for v in state.live.values() {
            file.begin()?;
            write_ciphertext(&mut file, parameters, &self.engine.download(v)?)?;
        }
        file.finish()
    }
}

impl<E: Engine> Observer<E::Value> for Checkpointer<'_, E> {
    fn end(&mut self, done: &Done<'_, E::Value>) -> Result<()> {
        if self.is_due(&done.step.operation) {
            let begun = Instant::now();
            self.save(done.state)?;
            self.written = Some((Instant::now(), begun.elapsed()));
        }
        Ok(())
    }
}

/// Most bytes that a checkpoint of this plan takes on disk.
pub fn checkpoint_bytes(plan: &VerifiedPlan) -> u64 {
    let most = plan.facts().steps.iter().map(|s| s.stored).max();
    file_length([most.unwrap_or(0), 4096])
}

/// Reads a checkpoint of `plan` on the input with this digest, under the server's key pair, for [`crate::Server::resume`].
///
/// # Errors
/// [`Error::File`] with the field that is wrong, [`Error::OtherKey`].
pub fn read_checkpoint(
    path: &Path,
    plan: &VerifiedPlan,
    input: &Digest,
    key: KeyId,
) -> Result<State<Ciphertext>> {
    let name = path.display().to_string();
    let file = BufReader::new(std::fs::File::open(path).map_err(Error::io(&name))?);
    read_checkpoint_from(file, &name, plan, input, key)
}

/// As [`read_checkpoint`], from any reader; `name` is for messages.
///
/// # Errors
/// [`Error::File`] with the field that is wrong.
pub fn read_checkpoint_from(
    input: impl Read,
    name: &str,
    plan: &VerifiedPlan,
    digest: &Digest,
    key: KeyId,
) -> Result<State<Ciphertext>> {
    let parameters = plan.parameters();
    let (mut file, meta) = begin(input, name, plan, digest, key)?;
    let mut live = BTreeMap::new();
    for (r, level, slots) in meta.registers {
        let level = residual_level(parameters, level, name)?;
        live.insert(r, read_ciphertext(&mut file, parameters, level, slots)?);
    }
    file.finish()?;
    Ok(State {
        next: meta.next,
        key,
        live,
    })
}

/// Refuses a file that [`read_checkpoint`] would refuse for what it belongs to; its ciphertexts are not read.
///
/// # Errors
/// As [`read_checkpoint`].
pub fn expect_checkpoint(
    path: &Path,
    plan: &VerifiedPlan,
    input: &Digest,
    key: KeyId,
) -> Result<()> {
    let name = path.display().to_string();
    let file = BufReader::new(std::fs::File::open(path).map_err(Error::io(&name))?);
    begin(file, &name, plan, input, key).map(drop)
}

/// Reads a checkpoint up to its ciphertexts.
fn begin<R: Read>(
    input: R,
    name: &str,
    plan: &VerifiedPlan,
    digest: &Digest,
    key: KeyId,
) -> Result<(Reader<R>, Meta)> {
    let mut file = Reader::new(input, name, Kind::Checkpoint)?;
    file.expect(&plan.ids(key))?;
    let meta: Meta = file.json(META, 1 << 20)?;
    let refuse =
        |problem: String, remedy: Remedy| Error::file(name, "section `meta`", problem, remedy);
    if &meta.input != digest {
        return Err(refuse(
            "the checkpoint belongs to another encrypted input".into(),
            Help::Anew.with("give that input, or start from the beginning"),
        ));
    }
    let had: Vec<Register> = meta.registers.iter().map(|r| r.0).collect();
    if meta.next == 0 || plan.live_after(meta.next - 1) != Some(had) {
        return Err(refuse(
            format!("its registers are not those that step {} needs", meta.next),
            Help::Anew.with("start from the beginning"),
        ));
    }
    Ok((file, meta))
}
