//! The server: a plan and a client's evaluation keys. No field can hold a secret key.

use crate::Result;
use crate::interpreter::{Observer, State};
use crate::stored_keys::open_evaluation_keys;
use crate::verify::VerifiedPlan;
use crate::wire::ciphertexts::{read_input, write_answer};
use crate::wire::keys::read_evaluation_keys;
use ckks::keys::{EvaluationKeys, KeyName};
use ckks::{Ciphertext, Evaluator, SeededCiphertext};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// Computes on ciphertexts only.
#[derive(Debug)]
pub struct Server {
    plan: Arc<VerifiedPlan>,
    evaluator: Evaluator,
}

impl Server {
    /// Takes a plan and one client's keys.
    ///
    /// # Errors
    /// If a key that the plan needs is missing.
    pub fn new(plan: Arc<VerifiedPlan>, keys: EvaluationKeys) -> Result<Self> {
        let had = keys.request();
        for (&key, &limit) in &plan.facts().keys.0 {
            if had.0.get(&key).is_none_or(|&h| h < limit) {
                return Err(ckks::Error::MissingKey {
                    key: key.to_string(),
                    level: limit,
                }
                .into());
            }
        }
        let evaluator = Evaluator::new(plan.parameters(), keys)?;
        Ok(Self { plan, evaluator })
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
        let keys =
            read_evaluation_keys(keys, name, plan.parameters(), &plan.facts().keys, progress)?;
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
    /// The plan.
    pub fn plan(&self) -> &Arc<VerifiedPlan> {
        &self.plan
    }
    /// The interpreter over ciphertexts.
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }
    /// Reads an encrypted input.
    ///
    /// # Errors
    /// [`crate::Error::File`] with the field that is wrong.
    pub fn read_input(&self, input: impl Read, name: &str) -> Result<State<Ciphertext>> {
        let p = &self.plan;
        self.start(&read_input(
            input,
            name,
            p.parameters(),
            p.digest(),
            &p.plan().input,
        )?)
    }
    /// The state before the first step for an input.
    ///
    /// # Errors
    /// [`crate::Error::Input`] for another number of ciphertexts.
    pub fn start(&self, input: &[SeededCiphertext]) -> Result<State<Ciphertext>> {
        self.plan.start(
            input
                .iter()
                .map(|c| c.expand(self.plan.parameters()))
                .collect(),
        )
    }
    /// Carries out the plan from a state on.
    ///
    /// # Errors
    /// [`crate::Error::Step`] with the layer, or what the observer finds.
    pub fn run(
        &self,
        state: State<Ciphertext>,
        observer: &mut (impl Observer<Ciphertext> + ?Sized),
    ) -> Result<Vec<Ciphertext>> {
        self.plan.run(&self.evaluator, state, observer)
    }
    /// Writes an answer file.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn write_answer<W: Write>(&self, answer: &[Ciphertext], out: W, name: &str) -> Result<W> {
        let p = &self.plan;
        write_answer(
            answer,
            out,
            name,
            p.parameters(),
            p.digest(),
            &p.plan().output,
        )
    }
}
