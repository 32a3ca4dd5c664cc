//! The validator: one pass of [`Meter`] over the steps proves levels, scales, slots and registers, and gathers what the plan
//! costs, which keys it needs and how large its error may become. Only a plan that passed can be run.

use crate::plan::{LARGEST_VALUE, Operation, Plan, Register, Step};
use crate::sharing::AnswerBounds;
use crate::wire::ciphertexts::ciphertext_bytes;
use crate::wire::client_file::{ClientFile, ClientSpec};
use crate::wire::conformance::{self, key_bytes, parameters_digest};
use crate::wire::container::{Digest, Ids, KeyId};
use crate::wire::keys::evaluation_keys_bytes;
use crate::wire::ports::check_port;
use crate::{Error, Result};
use ckks::keys::{KeyName, KeyRequest, KeyUse, SwitchingKey};
use ckks::meter::{Cost, CostTable};
use ckks::{Arithmetic, Bootstrap, Context, Level, Meter, Parameters, Polynomial};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type MeterValue = <Meter as Arithmetic>::Value;

/// Most registers of one plan.
const REGISTERS_LIMIT: usize = 1 << 20;
/// Most summands of one product.
const MOST_SUMMANDS: usize = 64;
/// Code, tables of tests and the allocator's slack, beyond what is counted.
const BASE_BYTES: u64 = 200 << 20;

/// What is known of one step.
#[derive(Clone, Debug)]
pub struct StepFacts {
    /// Its cost.
    pub cost: Cost,
    /// Highest level of its operands.
    pub level_in: usize,
    /// Lowest level of its results.
    pub level_out: usize,
    /// Bound on the error of its results, plan units.
    pub error_bound: f64,
    /// Bytes that what is alive after it takes in a checkpoint.
    pub stored: u64,
    /// Registers that nobody reads after it.
    pub released: BTreeSet<Register>,
}

/// Bytes of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySize {
    /// In memory.
    pub memory: u64,
    /// In the key file.
    pub file: u64,
}

/// What verification finds out.
#[derive(Clone, Debug)]
pub struct PlanFacts {
    /// Evaluation keys that it needs.
    pub keys: KeyRequest,
    /// The bytes of each of them.
    pub key_sizes: BTreeMap<KeyName, KeySize>,
    /// How the steps use them.
    pub key_use: KeyUse,
    /// One for each step.
    pub steps: Vec<StepFacts>,
    /// Cost of all steps.
    pub total: Cost,
    /// Number of bootstraps.
    pub bootstraps: u64,
    /// Bytes of the evaluation keys' file.
    pub key_file_bytes: u64,
    /// Predicted peak memory of the server's process, all keys in memory.
    pub peak_bytes: u64,
    /// The same without any key.
    pub peak_without_keys: u64,
    /// The part of it that steps take in buffers: ciphertexts and encoded diagonals.
    pub working_bytes: u64,
    /// Bound on the error of the output, network units.
    pub output_error: f64,
    /// Bound on the magnitude of the output, network units, as calibration promises it.
    pub output_magnitude: f64,
}

/// A plan that passed: the only kind that runs.
#[derive(Clone, Debug)]
pub struct VerifiedPlan {
    plan: Plan,
    context: Context,
    digest: Digest,
    facts: PlanFacts,
    units: BTreeMap<Register, f64>,
}

/// Largest magnitude (plan units) that an operation's operands may have, where there is one.
pub fn operand_limit(operation: &Operation) -> Option<f64> {
    match operation {
        Operation::Polynomial { .. } | Operation::Square { .. } | Operation::Quartic { .. } => {
            Some(1.0)
        }
        Operation::Bootstrap { .. } => Some(0.5),
        _ => None,
    }
}

impl Plan {
    /// Checks the plan and says what is known of it.
    ///
    /// # Errors
    /// [`Error::Plan`] with the step and its layer, [`Error::Port`].
    pub fn verify(&self) -> Result<PlanFacts> {
        Ok(VerifiedPlan::new(self.clone())?.facts)
    }
}

impl VerifiedPlan {
    /// Verifies a plan.
    ///
    /// # Errors
    /// [`Error::Plan`] with the step and its layer, [`Error::Port`].
    pub fn new(plan: Plan) -> Result<Self> {
        let digest = plan.digest();
        Self::with_digest(plan, digest)
    }

    /// Reads and verifies a plan file.
    ///
    /// # Errors
    /// [`Error::File`] with the field that is wrong, [`Error::Plan`], [`Error::Port`].
    pub fn read(input: impl std::io::Read, name: &str) -> Result<Self> {
        let (plan, digest) = Plan::read(input, name)?;
        Self::with_digest(plan, digest)
    }

    fn with_digest(plan: Plan, digest: Digest) -> Result<Self> {
        let parameters = conformance::parameters(plan.parameters.clone(), "plan")?;
        let context = Context::new(&parameters);
        for (name, port) in [("input", &plan.input), ("output", &plan.output)] {
            check_port(port, &parameters).map_err(|reason| Error::Port {
                port: name.into(),
                reason,
            })?;
        }
        let meter = Meter::new(&context);
        let last_use = last_uses(&plan)?;
        let mut live: BTreeMap<Register, MeterValue> = BTreeMap::new();
        // in memory, and in a checkpoint
        let bytes = |v: &MeterValue| {
            let level = meter.info(v).level;
            let file = ciphertext_bytes(&parameters, level) + 64;
            (ciphertext_memory(&parameters, level), file)
        };
        let mut units: BTreeMap<Register, f64> = BTreeMap::new();
        let bound = input_bound(&plan);
        for &r in &plan.input.registers {
            units.insert(r, plan.input.unit);
            if live
                .insert(
                    r,
                    meter.input(Level::new(plan.input.level), plan.input.slots, bound)?,
                )
                .is_some()
            {
                return Err(Error::Port {
                    port: "input".into(),
                    reason: format!("register {r} occurs twice"),
                });
            }
        }
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut before = meter.cost();
        let mut peak = 0u64;
        // bytes of what is alive
        let (mut resident, mut stored) = live
            .values()
            .map(bytes)
            .fold((0u64, 0u64), |a, b| (a.0 + b.0, a.1 + b.1));
        for (index, step) in plan.steps.iter().enumerate() {
            let refuse = |reason: String| Error::Plan {
                step: index,
                layer: step.layer.clone(),
                reason,
            };
            check_operation(step, &parameters).map_err(refuse)?;
            let mut operands: Vec<MeterValue> = Vec::new();
            for r in step.operation.reads() {
                let mut v = live.get(&r).cloned().ok_or_else(|| {
                    refuse(format!(
                        "register {r} is read before it is written or after its last use"
                    ))
                })?;
                // calibration's promise, checked on the clear twin (`ClearTwin`): operands stay in their interval
                if let Some(limit) = operand_limit(&step.operation) {
                    v.bound = v.bound.min(limit);
                }
                operands.push(v);
            }
            let level_in = operands
                .iter()
                .map(|v| meter.info(v).level.index())
                .max()
                .unwrap_or(0);
            let results =
                measure(&meter, &step.operation, &operands).map_err(|e| refuse(e.to_string()))?;
            let now = meter.cost();
            let cost = now.since(before);
            before = now;
            let level_out = results
                .iter()
                .map(|v| meter.info(v).level.index())
                .min()
                .unwrap_or(level_in);
            let error_bound = results.iter().map(|v| v.error_bound()).fold(0.0, f64::max);
            peak = peak
                .max(resident + working_bytes(&parameters, &step.operation, Level::new(level_in)));
            for (r, mut v) in step.operation.writes().into_iter().zip(results) {
                let info = meter.info(&v);
                let (scale, want) = (info.scale, parameters.scale(info.level));
                if scale != want {
                    return Err(refuse(format!(
                        "register {r} is at scale 2^{:.9}, its level's is 2^{:.9}",
                        scale.log2(),
                        want.log2()
                    )));
                }
                // normalisation's promise: plan values stay within 1, or within what linear arithmetic can reach, if less
                v.bound = v.bound.min(normal_bound(&step.operation));
                v.rms = v.rms.min(v.bound);
                units.insert(r, step.unit);
                let (memory, file) = bytes(&v);
                (resident, stored) = (resident + memory, stored + file);
                if live.insert(r, v).is_some() || r >= REGISTERS_LIMIT {
                    return Err(refuse(format!(
                        "register {r} is written twice or out of range"
                    )));
                }
            }
            let mut released = BTreeSet::new();
            for r in step
                .operation
                .reads()
                .into_iter()
                .chain(step.operation.writes())
            {
                if last_use.get(&r).is_none_or(|&last| last <= index) {
                    released.insert(r);
                    if let Some(v) = live.remove(&r) {
                        let (memory, file) = bytes(&v);
                        (resident, stored) = (resident - memory, stored - file);
                    }
                }
            }
            steps.push(StepFacts {
                cost,
                level_in,
                level_out,
                error_bound,
                stored,
                released,
            });
        }
        let port = &plan.output;
        let (mut output_error, mut output_magnitude) = (0.0f64, 0.0f64);
        for r in &port.registers {
            let v = live.get(r).ok_or_else(|| Error::Port {
                port: "output".into(),
                reason: format!("register {r} is never written"),
            })?;
            let info = meter.info(v);
            if info.level != Level::new(port.level) || info.slots > port.slots {
                return Err(Error::Port {
                    port: "output".into(),
                    reason: format!(
                        "register {r} ends at level {} with {} slots, the port says {} and {}",
                        info.level.index(),
                        info.slots,
                        port.level,
                        port.slots
                    ),
                });
            }
            output_error = output_error.max(v.error_bound() * port.unit.abs());
            output_magnitude = output_magnitude.max(v.bound * port.unit.abs());
        }
        let keys = meter.keys();
        let total = meter.cost();
        let bootstraps = || {
            plan.steps.iter().filter_map(|s| match &s.operation {
                Operation::Bootstrap { bootstrap, .. } => Some(bootstrap),
                _ => None,
            })
        };
        let working_bytes = transform_bytes(bootstraps(), &parameters) + peak;
        let peak_without_keys = weight_bytes(&plan) + overhead(&parameters, bootstraps(), peak);
        let key_sizes: BTreeMap<KeyName, KeySize> = keys
            .0
            .iter()
            .map(|(&key, &limit)| {
                let size = KeySize {
                    memory: SwitchingKey::bytes_for(&parameters, key, limit),
                    file: key_bytes(&parameters, key, limit),
                };
                (key, size)
            })
            .collect();
        let mut verified = Self {
            digest,
            facts: PlanFacts {
                steps,
                bootstraps: bootstraps().count() as u64,
                key_file_bytes: 0,
                peak_bytes: peak_without_keys + key_sizes.values().map(|s| s.memory).sum::<u64>(),
                peak_without_keys,
                working_bytes,
                key_sizes,
                key_use: meter.key_use(),
                output_error,
                output_magnitude,
                total,
                keys,
            },
            plan,
            context,
            units,
        };
        verified.facts.key_file_bytes =
            evaluation_keys_bytes(&parameters, &verified.client_spec().keys);
        Ok(verified)
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
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    /// What the files of a run under this key pair belong to.
    pub(crate) fn ids(&self, key: KeyId) -> Ids {
        Ids {
            parameters: self.parameters_digest(),
            plan: self.digest,
            key,
            ..Ids::default()
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
    /// What the client must know.
    pub fn client_spec(&self) -> ClientSpec {
        ClientSpec {
            parameters: self.plan.parameters.clone(),
            description: self.plan.description.clone(),
            input: self.plan.input.clone(),
            output: self.plan.output.clone(),
            answer: AnswerBounds {
                error: self.facts.output_error,
                magnitude: self.facts.output_magnitude,
            },
            keys: self.facts.keys.0.iter().map(|(&k, &l)| (k, l)).collect(),
            plan: self.digest,
        }
    }
    /// The client file of this plan and the task that it names.
    ///
    /// # Errors
    /// [`Error::File`] for another task.
    pub fn client_file(&self, task: Arc<[u8]>) -> Result<ClientFile> {
        ClientFile::new(self.client_spec(), task)
    }
    /// Predicted CPU seconds of each step.
    pub fn predicted_steps(&self, table: &CostTable) -> Vec<f64> {
        self.facts
            .steps
            .iter()
            .map(|s| s.cost.seconds(table))
            .collect()
    }
    /// The meter's root mean square of the error that a fresh encryption has and that each step adds to exact operands, by register.
    pub(crate) fn own_deviations(&self) -> Result<(f64, Vec<BTreeMap<Register, f64>>)> {
        let (plan, meter) = (&self.plan, Meter::new(&self.context));
        let bound = input_bound(plan);
        let mut live: BTreeMap<Register, MeterValue> = BTreeMap::new();
        let mut fresh = 0.0;
        for &r in &plan.input.registers {
            let v = meter.input(Level::new(plan.input.level), plan.input.slots, bound)?;
            fresh = v.deviation;
            live.insert(r, exact(v));
        }
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (index, (step, facts)) in plan.steps.iter().zip(&self.facts.steps).enumerate() {
            let refuse = |reason: String| Error::Plan {
                step: index,
                layer: step.layer.clone(),
                reason,
            };
            let limit = operand_limit(&step.operation).unwrap_or(f64::INFINITY);
            let operands: Vec<MeterValue> = (step.operation.reads().iter())
                .filter_map(|r| live.get(r))
                .map(|v| MeterValue {
                    bound: v.bound.min(limit),
                    ..*v
                })
                .collect();
            let results =
                measure(&meter, &step.operation, &operands).map_err(|e| refuse(e.to_string()))?;
            let mut own = BTreeMap::new();
            for (r, mut v) in step.operation.writes().into_iter().zip(results) {
                own.insert(r, v.deviation);
                v.bound = v.bound.min(normal_bound(&step.operation));
                v.rms = v.rms.min(v.bound);
                live.insert(r, exact(v));
            }
            for r in &facts.released {
                live.remove(r);
            }
            steps.push(own);
        }
        Ok((fresh, steps))
    }
    /// Registers that are alive after a step, ascending; none where there is no such step.
    pub fn live_after(&self, step: usize) -> Option<Vec<Register>> {
        if step >= self.plan.steps.len() {
            return None;
        }
        let mut live: BTreeSet<Register> = self.plan.input.registers.iter().copied().collect();
        for (s, f) in self.plan.steps.iter().zip(&self.facts.steps).take(step + 1) {
            live.extend(s.operation.writes());
            for r in &f.released {
                live.remove(r);
            }
        }
        Some(live.into_iter().collect())
    }
}

/// Bound on the input's magnitude, plan units.
fn input_bound(plan: &Plan) -> f64 {
    let bound = plan.description.input_bound / plan.input.unit.abs();
    if bound.is_finite() && bound > 0.0 {
        bound
    } else {
        1.0
    }
}

/// The same value without an error.
fn exact(v: MeterValue) -> MeterValue {
    MeterValue {
        deviation: 0.0,
        peak: 1.0,
        ..v
    }
}

/// Last step that reads each register; output registers live for ever. Refuses writes to a register that already exists.
fn last_uses(plan: &Plan) -> Result<BTreeMap<Register, usize>> {
    let mut last = BTreeMap::new();
    let mut written: BTreeSet<Register> = plan.input.registers.iter().copied().collect();
    for (i, step) in plan.steps.iter().enumerate() {
        for r in step.operation.reads() {
            last.insert(r, i);
        }
        for r in step.operation.writes() {
            if !written.insert(r) {
                return Err(Error::Plan {
                    step: i,
                    layer: step.layer.clone(),
                    reason: format!("register {r} is written twice"),
                });
            }
        }
    }
    for &r in &plan.output.registers {
        last.insert(r, usize::MAX);
    }
    Ok(last)
}

/// One step read by the meter. Where a step is a polynomial of one operand, the operand's error grows by the slope, which the
/// products inside of it cannot see.
fn measure(
    meter: &Meter,
    operation: &Operation,
    operands: &[MeterValue],
) -> std::result::Result<Vec<MeterValue>, ckks::Error> {
    let (Some(polynomial), [x]) = (polynomial_of(operation)?, operands) else {
        return operation.apply(meter, operands);
    };
    let exact = MeterValue {
        deviation: 0.0,
        bound: x.bound.min(1.0),
        rms: x.rms.min(1.0),
        ..*x
    };
    let (slope, steepest) = polynomial.slope();
    let peak = if slope > 0.0 {
        (x.peak * steepest / slope).max(1.0)
    } else {
        1.0
    };
    let bound = polynomial.sup();
    let results = operation.apply(meter, &[exact])?;
    Ok(results
        .into_iter()
        .map(|y| MeterValue {
            deviation: y.deviation.hypot(x.deviation * slope),
            peak,
            bound,
            rms: bound,
            ..y
        })
        .collect())
}

/// What a square or a quartic computes, on [−1, 1].
fn polynomial_of(operation: &Operation) -> std::result::Result<Option<Polynomial>, ckks::Error> {
    let power = match operation {
        Operation::Square { constant, .. } => [*constant, 0.0, 1.0, 0.0],
        Operation::Quartic {
            coefficients: [a, b, d, e],
            ..
        } => [b * d + e, a * (d - b), b + d - a * a, 1.0],
        _ => return Ok(None),
    };
    // 1, x, x², x⁴ in Chebyshev polynomials
    let [c0, c1, c2, c4] = power;
    Ok(Some(Polynomial::new(vec![
        c0 + c2 / 2.0 + 3.0 * c4 / 8.0,
        c1,
        c2 / 2.0 + c4 / 2.0,
        0.0,
        c4 / 8.0,
    ])?))
}

/// Bound on a result's magnitude that normalisation promises.
fn normal_bound(operation: &Operation) -> f64 {
    match operation {
        // known from the polynomial itself
        Operation::Polynomial { .. } | Operation::Square { .. } | Operation::Quartic { .. } => {
            f64::INFINITY
        }
        Operation::Multiply { bound, .. } => *bound,
        // two real vectors in one
        Operation::Join { .. } => std::f64::consts::SQRT_2,
        _ => 1.0,
    }
}

/// What [`Meter`] cannot see: shapes, finiteness, counts.
fn check_operation(step: &Step, parameters: &Parameters) -> std::result::Result<(), String> {
    // negative units are fine: a leading coefficient's sign is folded away with it
    if !(step.unit.is_finite() && step.unit != 0.0) {
        return Err(format!("unit {} is zero or not finite", step.unit));
    }
    let finite = |v: &[f64]| {
        if v.iter().all(|x| x.is_finite()) {
            Ok(())
        } else {
            Err("a constant is not finite".to_owned())
        }
    };
    match &step.operation {
        Operation::Linear {
            inputs,
            outputs,
            map,
            bias,
            period,
        } => {
            if inputs.len() != map.inputs()
                || outputs.len() != map.outputs()
                || bias.len() != map.outputs()
            {
                return Err(format!(
                    "{} inputs, {} outputs, {} biases for a map from {} to {}",
                    inputs.len(),
                    outputs.len(),
                    bias.len(),
                    map.inputs(),
                    map.outputs()
                ));
            }
            if !period.is_power_of_two()
                || *period > map.slots()
                || map.slots() > parameters.max_slots()
            {
                return Err(format!(
                    "period {period} and {} slots in a ring of {}",
                    map.slots(),
                    parameters.max_slots()
                ));
            }
            for b in bias.iter().flatten() {
                finite(b)?;
                if !b.len().is_power_of_two() || b.len() > map.slots() {
                    return Err(format!("a bias of length {}", b.len()));
                }
            }
            Ok(())
        }
        Operation::Multiply {
            factor,
            add,
            constant,
            bound,
            ..
        } => {
            finite(&[*constant])?;
            finite(&add.iter().map(|a| a.0).collect::<Vec<_>>())?;
            if *factor == 0 || add.len() > MOST_SUMMANDS {
                return Err(format!(
                    "a product with factor {factor} and {} summands",
                    add.len()
                ));
            }
            if !(*bound > 0.0 && *bound <= LARGEST_VALUE) {
                return Err(format!(
                    "results up to {bound}, at most {LARGEST_VALUE} are supported"
                ));
            }
            Ok(())
        }
        Operation::Square { constant, .. } => finite(&[*constant]),
        Operation::Quartic { coefficients, .. } => finite(coefficients),
        Operation::Align { level, .. } if *level > parameters.residual().index() => {
            Err(format!("level {level} does not exist"))
        }
        Operation::Bootstrap { bootstrap, .. } => {
            finite(&[bootstrap.gain])?;
            if !bootstrap.slots.is_power_of_two()
                || bootstrap.slots > parameters.max_slots()
                || bootstrap.target > parameters.residual().index()
                || bootstrap.gain <= 0.0
            {
                return Err(format!(
                    "{bootstrap:?} does not fit parameters `{}`",
                    parameters.spec().name
                ));
            }
            if parameters.bootstrap().is_none() {
                return Err(format!(
                    "parameters `{}` have no bootstrapping",
                    parameters.spec().name
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Bytes of a ciphertext in memory.
pub fn ciphertext_memory(parameters: &Parameters, level: Level) -> u64 {
    2 * 8 * (parameters.limbs(level).len() * parameters.n()) as u64
}

/// Bytes that a step needs beside what is alive: a pair of sums modulo QP for every giant step, a pair in all, and digits; rotated
/// copies exist for a few limbs at a time. A polynomial keeps its powers.
fn working_bytes(parameters: &Parameters, operation: &Operation, level: Level) -> u64 {
    match operation {
        Operation::Linear { map, .. } => {
            let giants: usize = (0..map.outputs()).map(|o| map.giants(o).len()).sum();
            let values = map.terms().iter().map(|t| t.values.len()).sum();
            let sizes = [map.inputs(), giants, map.outputs()];
            map_memory(parameters, level, sizes, values)
        }
        Operation::Bootstrap { bootstrap, .. } => bootstrap_memory(parameters, bootstrap.target),
        _ => extended(parameters, level) * (parameters.dnum_at(level) + 8),
    }
}

/// Bytes of a polynomial modulo QP.
fn extended(parameters: &Parameters, level: Level) -> u64 {
    8 * ((parameters.limbs(level).len() + parameters.special().len()) * parameters.n()) as u64
}

/// Bytes that a map at this level needs beside what is alive: of `[inputs, giant steps of all outputs, outputs]`, and of so many slots of
/// diagonals, two coefficients of eight bytes each.
pub fn map_memory(parameters: &Parameters, level: Level, sizes: [usize; 3], values: usize) -> u64 {
    let [inputs, giants, outputs] = sizes.map(|n| n as u64);
    extended(parameters, level) * (2 * giants + 2 * outputs + inputs + 2) + 16 * values as u64
}

/// Bytes that a bootstrap to this level needs beside what is alive.
pub fn bootstrap_memory(parameters: &Parameters, target: usize) -> u64 {
    let top = parameters.top(Level::new(target));
    let stages = parameters.bootstrap().map_or(0, |b| {
        parameters
            .max_slots()
            .ilog2()
            .div_ceil(b.coeff_to_slot.levels as u32)
    });
    // half of the bits of a map's diagonals are giant steps
    extended(parameters, top) * ((2 << stages.div_ceil(2)) + 5)
}

/// Bytes of a server's process besides keys and weights, where ciphertexts and steps take `peak` at most and it does these bootstraps.
pub fn overhead<'a>(
    parameters: &Parameters,
    bootstraps: impl IntoIterator<Item = &'a Bootstrap>,
    peak: u64,
) -> u64 {
    // buffers that wait to be used again, next to those in use
    let pool = peak.min(ring::buffer::POOL_BYTES as u64);
    BASE_BYTES + table_bytes(parameters) + transform_bytes(bootstraps, parameters) + peak + pool
}

trait Digits {
    fn dnum_at(&self, level: Level) -> u64;
}
impl Digits for Parameters {
    fn dnum_at(&self, level: Level) -> u64 {
        let limbs = self.limbs(level);
        self.digits()
            .iter()
            .filter(|d| limbs.iter().any(|i| d.contains(i)))
            .count() as u64
    }
}

/// Bytes of the bootstraps' diagonals, which an evaluator keeps encoded: for each slot count (and, for SlotToCoeff's first map,
/// target and gain) one group of butterflies per level, of which only the outermost have the full period.
fn transform_bytes<'a>(
    bootstraps: impl IntoIterator<Item = &'a Bootstrap>,
    parameters: &Parameters,
) -> u64 {
    let Some(spec) = parameters.bootstrap() else {
        return 0;
    };
    let full = parameters.max_slots();
    let mut slots = BTreeSet::new();
    let mut first = BTreeSet::new();
    for b in bootstraps {
        slots.insert(b.slots);
        first.insert((b.slots, b.target, b.gain.to_bits()));
    }
    // (terms, period) of each group from the small strides up
    let groups = |slots: usize, levels: usize| -> Vec<(u64, u64)> {
        let (log, size) = (
            slots.ilog2() as usize,
            full.ilog2().div_ceil(levels as u32) as usize,
        );
        (0..levels)
            .map(|g| {
                let (from, to) = ((g * size).min(log), ((g + 1) * size).min(log));
                let outermost = g + 1 == levels;
                let terms = if outermost {
                    1u64 << (to - from)
                } else {
                    (2 << (to - from)) - 1
                };
                (
                    terms,
                    (1u64 << to) * if outermost && slots < full { 2 } else { 1 },
                )
            })
            .collect()
    };
    let limbs = |level: Level| (parameters.limbs(level).len() + parameters.special().len()) as u64;
    // a period of p complex slots is kept as 2p words per limb
    let bytes = |terms: u64, period: u64, limbs: u64| terms * limbs * 16 * period;
    let mut total = 0;
    let top = parameters.top(parameters.residual());
    for slots in slots {
        let mut level = top;
        for (terms, period) in groups(slots, spec.coeff_to_slot.levels).into_iter().rev() {
            total += bytes(terms, period, limbs(level));
            level = parameters.below(level).unwrap_or(level);
        }
        // the last map also brings both halves together
        let merged = if slots < full { 2 } else { 1 };
        let different = first.iter().filter(|f| f.0 == slots).count() as u64;
        level = parameters.residual();
        let count = spec.slot_to_coeff.levels;
        for (i, (terms, period)) in groups(slots, count).into_iter().enumerate().rev() {
            level = parameters.above(level, top);
            let times =
                if i == 0 { different } else { 1 } * if i + 1 == count { merged } else { 1 };
            total += bytes(terms * times, period, limbs(level));
        }
    }
    total
}

/// Bytes of NTT tables.
fn table_bytes(parameters: &Parameters) -> u64 {
    (parameters.ring().moduli().len() * parameters.n() * 30) as u64
}

/// Bytes of the plan's weights, shared ones once.
fn weight_bytes(plan: &Plan) -> u64 {
    use ckks::map::Values;
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    for step in &plan.steps {
        if let Operation::Linear { map, .. } = &step.operation {
            for t in map.terms() {
                let (address, size) = match &t.values {
                    Values::Real(v) | Values::Runs { values: v, .. } => {
                        (v.as_ptr() as usize, 4 * v.len())
                    }
                    Values::Complex(v) => (v.as_ptr() as usize, 16 * v.len()),
                };
                if seen.insert(address) {
                    bytes += size as u64;
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_and_quartics_are_the_polynomials_that_they_compute() {
        let (a, b, d, e) = (0.7, -0.3, 1.1, 0.25);
        let quartic = Operation::Quartic {
            input: 0,
            output: 1,
            coefficients: [a, b, d, e],
        };
        let square = Operation::Square {
            input: 0,
            output: 1,
            constant: 0.4,
        };
        let (q, s) = (
            polynomial_of(&quartic).expect("finite").expect("one"),
            polynomial_of(&square).expect("finite").expect("one"),
        );
        for x in [-1.0, -0.4, 0.0, 0.3, 0.9f64] {
            assert!(
                (q.evaluate(x) - ((x * x + a * x + b) * (x * x - a * x + d) + e)).abs() < 1e-12
            );
            assert!((s.evaluate(x) - (x * x + 0.4)).abs() < 1e-12);
        }
    }
}
