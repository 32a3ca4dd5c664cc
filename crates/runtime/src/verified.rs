//! A plan that passed: what is known of it, and where to find what can be done with it.

use crate::Register;
use crate::Result;
use crate::answer::AnswerBounds;
use crate::beside::{Beside, beside};
use crate::facts::{PlanFacts, StepFacts};
use crate::operation::Operation;
use crate::plan::{Plan, Step};
use crate::plan_file::Limits;
use crate::simulated::Simulated;
use crate::verify::{self, Reading};
use crate::wire::ciphertexts::read_input;
use crate::wire::conformance::parameters_digest;
use crate::wire::{ClientFile, ClientSpec, Encrypted};
use crate::wire::{
    KeyId,
    container::{Digest, Header, Ids, Kind},
};
use ckks::memory::{self, KeptTransforms};
use ckks::{
    Context, CostTable, HalfBootstrap, Level, Meter, MeterValue, Parameters, ReadWeights,
    SeededCiphertext,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A plan that passed: the only kind that runs.
///
/// [`VerifiedPlan::run`] and its parts are in [`interpreter`](crate::interpreter), [`VerifiedPlan::simulate`] is in
/// [`noise`](crate::noise), the file's format in [`plan_file`](crate::plan_file).
#[derive(Clone, Debug)]
pub struct VerifiedPlan {
    plan: Plan,
    context: Context,
    /// Of the weights, too, so it is made when it is first asked for.
    digest: OnceLock<Digest>,
    facts: PlanFacts,
    units: BTreeMap<Register, f64>,
}

impl VerifiedPlan {
    /// Verifies a plan.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with the step and its layer, [`Error::Port`](crate::Error::Port).
    pub fn new(plan: Plan) -> Result<Self> {
        Self::checked(plan, (None, &ReadWeights::default()))
    }

    /// The same with what other plans of the network have: a context, if it is of the plan's parameters, and what was read of weights, which has this
    /// one's afterwards, too.
    ///
    /// # Errors
    /// As [`VerifiedPlan::new`].
    pub fn sharing(plan: Plan, context: &Context, read: &ReadWeights) -> Result<Self> {
        Self::checked(plan, (Some(context), read))
    }

    fn checked(plan: Plan, known: (Option<&Context>, &ReadWeights)) -> Result<Self> {
        let (context, facts, units) = verify::verify(&plan, known)?;
        Ok(Self {
            plan,
            context,
            digest: OnceLock::new(),
            facts,
            units,
        })
    }

    /// Reads and verifies a plan file.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) with the field that is wrong, [`Error::Plan`](crate::Error::Plan), [`Error::Port`](crate::Error::Port).
    pub fn read(input: impl std::io::Read, name: &str) -> Result<Self> {
        Self::read_within(input, name, Limits::default(), None)
    }

    /// As [`VerifiedPlan::read`], within limits of the caller's; `beside` is where its integers are, if they are not in it
    /// ([`Plan::write_beside`]).
    ///
    /// # Errors
    /// As [`VerifiedPlan::read`].
    pub fn read_within(
        input: impl std::io::Read,
        name: &str,
        limits: Limits,
        beside: Option<&Path>,
    ) -> Result<Self> {
        let (plan, digest) = Plan::read_within(input, name, limits, beside)?;
        Ok(Self {
            digest: OnceLock::from(digest),
            ..Self::new(plan)?
        })
    }

    /// The same plan, saying why it has its parameters.
    #[must_use]
    pub fn because(mut self, why: String) -> Self {
        self.plan.description.parameters = why;
        self.digest = OnceLock::new();
        self
    }

    /// The same plan, stating what simulated runs say of its error.
    #[must_use]
    pub fn stating(mut self, simulated: Simulated) -> Self {
        self.plan.description.simulated = Some(simulated);
        self.digest = OnceLock::new();
        self
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        self.context.parameters()
    }
    /// Its parameters with what is computed from them alone: servers of this plan share it.
    pub fn context(&self) -> &Context {
        &self.context
    }
    /// Its digest: what ties keys, inputs and answers to it.
    pub fn digest(&self) -> &Digest {
        self.digest.get_or_init(|| self.plan.digest())
    }
    /// What the files of a run under this key pair belong to.
    pub(crate) fn ids(&self, key: KeyId) -> Ids {
        Ids {
            parameters: self.parameters_digest(),
            plan: *self.digest(),
            key,
            ..Ids::default()
        }
    }
    /// Reads an encrypted input of the client with this key pair.
    ///
    /// # Errors
    /// [`crate::Error::File`] with the field that is wrong, [`crate::Error::OtherKey`] for another client's.
    pub fn read_input(
        &self,
        input: impl Read,
        name: &str,
        key: KeyId,
    ) -> Result<Encrypted<SeededCiphertext>> {
        read_input(
            input,
            name,
            self.parameters(),
            &self.ids(key),
            &self.plan().inputs().collect::<Vec<_>>(),
        )
    }
    /// What its files belong to, whoever the client is.
    pub fn header(&self) -> Header {
        Header {
            kind: Kind::Plan,
            length: 0,
            sections: 0,
            ids: self.ids(KeyId::default()),
        }
    }
    /// The digest of its parameters.
    pub fn parameters_digest(&self) -> Digest {
        parameters_digest(self.parameters())
    }
    /// What verification found out.
    pub fn facts(&self) -> &PlanFacts {
        &self.facts
    }
    /// Network value = unit × plan value, for a register.
    pub fn unit(&self, register: Register) -> f64 {
        self.units.get(&register).copied().unwrap_or(1.0)
    }
    /// How wrong and how large the answer may be, and what it holds beside its values.
    pub fn answer_bounds(&self) -> AnswerBounds {
        let magnitude = self.facts.output_magnitude;
        let Beside { unused, imaginary } = beside(&self.plan, magnitude);
        AnswerBounds {
            error: self.facts.output_error,
            weights: self.facts.output_weights,
            magnitude,
            unused,
            imaginary,
            simulated: self.plan.description.simulated,
        }
    }
    /// What the client must know.
    pub fn client_spec(&self) -> ClientSpec {
        ClientSpec {
            parameters: self.plan.parameters.clone(),
            description: self.plan.description.clone(),
            input: self.plan.input.clone(),
            output: self.plan.output.clone(),
            sequence: self.plan.sequence.clone(),
            answer: self.answer_bounds(),
            keys: self.facts.keys.0.iter().map(|(&k, &l)| (k, l)).collect(),
            plan: *self.digest(),
        }
    }
    /// The client file of this plan and the task that it names.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) for another task.
    pub fn client_file(&self, task: Arc<[u8]>) -> Result<ClientFile> {
        ClientFile::new(self.client_spec(), task)
    }
    /// Predicted CPU seconds of each step, by a table for N = 2^16.
    pub fn predicted_steps(&self, table: &CostTable) -> Vec<f64> {
        let table = table.for_ring(self.parameters().spec().log_n);
        let steps = self.facts.steps.iter();
        steps.map(|s| s.cost.seconds(&table)).collect()
    }
    /// The meter's root mean square of the error that a fresh encryption has and that each step adds to exact operands, by register.
    pub(crate) fn own_deviations(&self) -> Result<(f64, Vec<BTreeMap<Register, f64>>)> {
        let mut reading = Reading::new(&self.plan, Meter::new(&self.context))?;
        let fresh = reading
            .live
            .values()
            .map(MeterValue::deviation)
            .fold(0.0, f64::max);
        reading.live.values_mut().for_each(|v| *v = v.exact());
        let mut steps = Vec::with_capacity(self.plan.steps.len());
        for (index, facts) in self.facts.steps.iter().enumerate() {
            let results = reading.step(index)?.results;
            steps.push(results.iter().map(|(r, v)| (*r, v.deviation())).collect());
            let results = results.into_iter().map(|(r, v)| (r, v.exact()));
            reading.live.extend(results);
            reading.live.retain(|r, _| !facts.released.contains(r));
        }
        Ok((fresh, steps))
    }
    /// The step at which ciphertexts and its own sums take most memory; none where there are no steps. The plan is read once more.
    ///
    /// # Errors
    /// `Error::Plan`: none for a verified plan.
    pub fn peak_step(&self) -> Result<Option<&Step>> {
        let parameters = self.parameters();
        let most = self.most_alive(|facts, step, alive| {
            let values = alive.map(|level| memory::ciphertext(parameters, level));
            let level = Level::new(facts.level_in);
            let (working, _) = verify::working_bytes(parameters, &step.operation, level);
            values.sum::<u64>() + working
        })?;
        Ok(most.map(|(_, step)| step))
    }
    /// The most bytes that the values of a run take at once, where one takes so many at a level; what steps need beside is not counted.
    ///
    /// # Errors
    /// `Error::Plan`: none for a verified plan.
    pub(crate) fn peak_of_values(&self, each: impl Fn(Level) -> u64) -> Result<u64> {
        let most = self.most_alive(|_, _, alive| alive.map(&each).sum())?;
        Ok(most.map_or(0, |(bytes, _)| bytes))
    }
    /// The step that takes most by a count of the levels of what is alive before it.
    fn most_alive(
        &self,
        count: impl Fn(&StepFacts, &Step, &mut dyn Iterator<Item = Level>) -> u64,
    ) -> Result<Option<(u64, &Step)>> {
        let mut reading = Reading::new(&self.plan, Meter::new(&self.context))?;
        let mut most = None;
        for (index, (step, facts)) in self.plan.steps.iter().zip(&self.facts.steps).enumerate() {
            let bytes = count(
                facts,
                step,
                &mut reading.live.values().map(|v| v.info.level),
            );
            if most.is_none_or(|(had, _)| bytes > had) {
                most = Some((bytes, step));
            }
            let results = reading.step(index)?.results;
            reading.live.extend(results);
            reading.live.retain(|r, _| !facts.released.contains(r));
        }
        Ok(most)
    }
    /// Registers that are alive after a step, ascending; none where there is no such step.
    pub fn live_after(&self, step: usize) -> Option<Vec<Register>> {
        if step >= self.plan.steps.len() {
            return None;
        }
        let given = self.plan.given().flat_map(|g| g.0.iter().copied());
        let mut live: BTreeSet<Register> = given.collect();
        for (s, f) in self.plan.steps.iter().zip(&self.facts.steps).take(step + 1) {
            live.extend(s.operation.writes());
            for r in &f.released {
                live.remove(r);
            }
        }
        Some(live.into_iter().collect())
    }
}

impl Plan {
    /// What the bootstraps, whole and half ones, keep encoded, in the order of the steps.
    pub(crate) fn bootstraps(&self) -> Vec<KeptTransforms> {
        let of = self.steps.iter().filter_map(|s| match &s.operation {
            Operation::Bootstrap {
                inputs, bootstrap, ..
            } => Some(bootstrap.kept(inputs.len())),
            &Operation::HalfBootstrap { slots, target, .. } => {
                Some(HalfBootstrap { target }.kept(slots))
            }
            _ => None,
        });
        of.collect()
    }
}
