//! The server: a plan and a client's evaluation keys. No field can hold a secret key.

use crate::interpreter::{Observer, State};
use crate::stored_keys::open_evaluation_keys;
use crate::verified::VerifiedPlan;
use crate::wire::ciphertexts::write_answer;
use crate::wire::{Encrypted, ServerKeys};
use crate::wire::{KeyId, container::Ids};
use crate::{Error, Help, Result};
use ckks::keys::KeyName;
use ckks::{Ciphertext, Engine, Evaluator, SeededCiphertext};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// Computes on ciphertexts only, with one client's keys: [`ServerKeys`], which can't hold a secret one.
///
/// ```compile_fail,E0308
/// # use polyveil_runtime::{Client, Result, Server, VerifiedPlan};
/// # use std::sync::Arc;
/// fn serve(plan: Arc<VerifiedPlan>, client: Client) -> Result<Server> {
///     Server::new(plan, client)
/// }
/// ```
///
/// ```
/// # use polyveil_runtime::{Result, Server, ServerKeys, VerifiedPlan};
/// # use std::sync::Arc;
/// fn serve(plan: Arc<VerifiedPlan>, keys: ServerKeys) -> Result<Server> {
///     Server::new(plan, keys)
/// }
/// ```
///
/// Servers of the same plan share its [`ckks::Context`], and so every
/// encoded plaintext.
#[derive(Debug)]
pub struct Server<E: Engine = Evaluator> {
    plan: Arc<VerifiedPlan>,
    engine: E,
    key: KeyId,
}

impl Server {
    /// Takes a plan and one client's keys.
    ///
    /// # Errors
    /// If a key that the plan needs is missing.
    pub fn new(plan: Arc<VerifiedPlan>, keys: ServerKeys) -> Result<Self> {
        let engine = Evaluator::new(plan.context(), keys.keys);
        Self::with_engine(plan, engine, keys.id)
    }
    /// Takes a plan and reads one client's key file.
    ///
    /// # Errors
    /// [`crate::Error::File`] with the field that is wrong.
    pub fn read(
        plan: Arc<VerifiedPlan>,
        keys: impl Read,
        name: &str,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let needed = &plan.facts().keys;
        let keys = ServerKeys::read(keys, name, plan.parameters(), needed, progress)?;
        Self::new(plan, keys)
    }
    /// Takes a plan and checks one client's key file, which stays open: keys of `kept` stay in memory, the others are read from it
    /// each time they are used. Answers are the same, bit for bit. A file that changes meanwhile is an error of the step that
    /// meets it.
    ///
    /// # Errors
    /// [`crate::Error::File`] with the field that is wrong, [`crate::Error::Io`].
    pub fn open(
        plan: Arc<VerifiedPlan>,
        keys: File,
        name: &str,
        kept: &BTreeSet<KeyName>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let needed = &plan.facts().keys;
        let keys = open_evaluation_keys(keys, name, plan.parameters(), needed, kept, progress)?;
        Self::new(plan, keys)
    }
}

impl<E: Engine> Server<E> {
    /// Takes a plan and an engine with the keys of the client whose key pair is `key`.
    ///
    /// # Errors
    /// If a key that the plan needs is missing, or the engine has other parameters, or no small ring where the plan needs one.
    pub fn with_engine(plan: Arc<VerifiedPlan>, engine: E, key: KeyId) -> Result<Self> {
        if engine.parameters() != plan.parameters() {
            let reason = format!("it has {:?}", engine.parameters());
            return Err(ckks::Error::conformance("engine", reason).into());
        }
        let changes = plan.facts().keys.0.contains_key(&KeyName::RingDown);
        if changes && engine.small().is_none() {
            let reason = "the plan has layers in a small ring, and it has none";
            return Err(ckks::Error::conformance("engine", reason).into());
        }
        let had = engine.key_request();
        for (&name, &limit) in &plan.facts().keys.0 {
            if had.0.get(&name).is_none_or(|&h| h < limit) {
                return Err(ckks::Error::MissingKey {
                    key: name.to_string(),
                    level: limit,
                }
                .into());
            }
        }
        Ok(Self { plan, engine, key })
    }
    /// The plan.
    pub fn plan(&self) -> &Arc<VerifiedPlan> {
        &self.plan
    }
    /// The interpreter over ciphertexts.
    pub fn engine(&self) -> &E {
        &self.engine
    }
    /// The key pair that it computes for.
    pub fn key(&self) -> KeyId {
        self.key
    }
    /// CPU seconds of each step on this engine, by its own table of costs.
    pub fn predicted_steps(&self) -> Vec<f64> {
        self.plan.predicted_steps(&self.engine.cost_table())
    }
    /// Bytes that values take on this engine at most, and what it holds beside them now.
    ///
    /// # Errors
    /// `Error::Plan`: none for a verified plan.
    pub fn engine_bytes(&self) -> Result<(u64, u64)> {
        let values = self
            .plan
            .peak_of_values(|level| self.engine.value_bytes(level));
        Ok((values?, self.engine.held_bytes()))
    }
    /// What its client's inputs and answers belong to.
    fn ids(&self) -> Ids {
        self.plan.ids(self.key)
    }
    /// Reads an encrypted input.
    ///
    /// # Errors
    /// [`crate::Error::File`] with the field that is wrong, [`crate::Error::OtherKey`] for another client's.
    pub fn read_input(&self, input: impl Read, name: &str) -> Result<State<E::Value>> {
        self.start(&self.plan.read_input(input, name, self.key)?)
    }
    /// The state before the first step for an input of this client.
    ///
    /// # Errors
    /// [`crate::Error::Input`] for another number of ciphertexts, [`crate::Error::OtherKey`] for another client's.
    pub fn start(&self, input: &Encrypted<SeededCiphertext>) -> Result<State<E::Value>> {
        if !self.plan.plan().kept().is_empty() {
            return Err(Error::Input {
                reason: "the plan is a step of a sequence, and takes what the last run left".into(),
                remedy: "take its steps with a cache".into(),
            });
        }
        self.key.expect(&input.key, "the encrypted input")?;
        let upload = |c: &SeededCiphertext| self.engine.upload(c.expand(self.plan.parameters()));
        let inputs = input
            .ciphertexts
            .iter()
            .map(upload)
            .collect::<std::result::Result<_, _>>()?;
        self.plan.start(inputs, self.key)
    }
    /// The state that a checkpoint keeps.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn resume(&self, state: State<Ciphertext>) -> Result<State<E::Value>> {
        let upload = |(r, c)| Ok((r, self.engine.upload(c)?));
        Ok(State {
            next: state.next,
            key: state.key,
            live: state.live.into_iter().map(upload).collect::<Result<_>>()?,
        })
    }
    /// Carries out the plan from a state on.
    ///
    /// # Errors
    /// [`crate::Error::Step`] with the layer, [`crate::Error::OtherKey`] for another client's state, or what the observer finds.
    pub fn run(
        &self,
        state: State<E::Value>,
        observer: &mut (impl Observer<E::Value> + ?Sized),
    ) -> Result<Encrypted<Ciphertext>> {
        self.key.expect(&state.key, "the state")?;
        let answer = self.plan.run(&self.engine, state, observer)?;
        let ciphertexts = answer.iter().map(|y| Ok(self.engine.download(y)?));
        Ok(Encrypted {
            key: self.key,
            ciphertexts: ciphertexts.collect::<Result<_>>()?,
        })
    }
    /// From an encrypted input's bytes to those of its answer.
    ///
    /// # Errors
    /// As [`Server::read_input`] and [`Server::run`].
    pub fn answer(
        &self,
        input: &[u8],
        observer: &mut (impl Observer<E::Value> + ?Sized),
    ) -> Result<Vec<u8>> {
        let answer = self.run(self.read_input(input, "encrypted input")?, observer)?;
        self.write_answer(&answer, Vec::new(), "encrypted answer")
    }
    /// Writes an answer file.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::OtherKey`] for another client's.
    pub fn write_answer<W: Write>(
        &self,
        answer: &Encrypted<Ciphertext>,
        out: W,
        name: &str,
    ) -> Result<W> {
        self.key.expect(&answer.key, "the answer")?;
        let (parameters, port) = (self.plan.parameters(), &self.plan.plan().output);
        let answer = &answer.ciphertexts;
        if answer.len() < port.registers.len() {
            return Err(Error::Input {
                reason: format!(
                    "{} ciphertexts, the answer has {}",
                    answer.len(),
                    port.registers.len()
                ),
                remedy: Help::Run.with("give the answer of a run of this plan"),
            });
        }
        write_answer(answer, out, name, parameters, self.ids(), port)
    }
}
