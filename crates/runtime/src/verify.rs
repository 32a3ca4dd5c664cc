//! The validator: one pass of [`Meter`] over the steps proves levels, scales, slots and registers, and gathers what the plan
//! costs, which keys it needs and how large its error may become. Only a plan that passed can be run.

use crate::Register;
use crate::alarm::Sums;
use crate::facts::{KeySize, PlanFacts, StepFacts};
use crate::folding;
use crate::liveness::{Liveness, Resident};
use crate::operation::{LARGEST_VALUE, Operation};
use crate::plan::{Plan, Port, Step};
use crate::wire::ciphertexts::ciphertext_bytes;
use crate::wire::conformance::{self, KeyList, key_bytes};
use crate::wire::keys::evaluation_keys_bytes;
use crate::wire::ports::{check_name, check_port, check_sequence};
use crate::{Error, Result};
use ckks::keys::{KeyName, SwitchingKey};
use ckks::memory;
use ckks::{
    Arithmetic, BlockMap, Context, Level, MapSize, Meter, MeterValue, Parameters, ReadWeights,
    Weights,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Most registers of one plan.
const REGISTERS_LIMIT: usize = 1 << 20;
/// Most summands of one product.
const MOST_SUMMANDS: usize = 64;
/// Most products that are summed.
const MOST_PRODUCTS: usize = 1 << 12;

/// The context, what is known of the plan, and the unit of every register; a context of its parameters may be there, and `read` is
/// what is known of weights already.
pub(crate) fn verify(
    plan: &Plan,
    (context, read): (Option<&Context>, &ReadWeights),
) -> Result<(Context, PlanFacts, BTreeMap<Register, f64>)> {
    let same = |c: &&Context| *c.parameters().spec() == plan.parameters;
    let context = match context.filter(same) {
        Some(context) => context.clone(),
        None => {
            let parameters = conformance::parameters(plan.parameters.clone(), "plan")?;
            Context::new(&parameters)
        }
    };
    let parameters = context.parameters().clone();
    for (name, port) in [("input", &plan.input), ("output", &plan.output)] {
        check_port(port, &parameters).map_err(misfit(name))?;
    }
    if let Some(sequence) = &plan.sequence {
        let checked = check_sequence((&plan.input, &plan.output), sequence, &parameters);
        checked.map_err(misfit("sequence"))?;
    }
    let name = check_name("the network's name", &plan.description.name);
    name.map_err(misfit("description"))?;
    if let Some(simulated) = &plan.description.simulated {
        simulated.check().map_err(misfit("description"))?;
    }
    if let Some(alarm) = &plan.description.alarm {
        let checked = alarm.check(&parameters, plan.output.inputs());
        checked.map_err(misfit("alarm"))?;
    }
    let liveness = liveness(plan)?;
    let mut pass = Pass::new(plan, &context, read)?;
    let steps = (0..plan.steps.len())
        .map(|index| pass.step(index, &liveness))
        .collect::<Result<Vec<_>>>()?;
    let Pass {
        reading,
        resident,
        units,
        sums,
        thread_bytes,
        ..
    } = pass;
    let peak = resident.peak();
    let [output_error, output_weights, output_magnitude] = reading.output(&plan.output, &sums)?;
    reading.kept(&units)?;
    reading.alarm(plan, &sums)?;
    let meter = reading.meter;
    let keys = meter.keys();
    let masked = folding::masked_bytes(&parameters, &layouts_down(plan));
    let kept = plan.bootstraps();
    let process = memory::process(&parameters, kept.iter().copied(), peak);
    let peak_without_keys = weight_bytes(plan) + masked + process;
    let key_sizes: BTreeMap<KeyName, KeySize> = (keys.0.iter())
        .map(|(&key, &limit)| {
            let size = KeySize {
                memory: SwitchingKey::bytes_for(&parameters, key, limit),
                file: key_bytes(&parameters, key, limit),
            };
            (key, size)
        })
        .collect();
    let list: KeyList = keys.0.iter().map(|(&k, &l)| (k, l)).collect();
    let facts = PlanFacts {
        steps,
        bootstraps: kept.len() as u64,
        key_file_bytes: evaluation_keys_bytes(&parameters, &list),
        peak_bytes: peak_without_keys + key_sizes.values().map(|s| s.memory).sum::<u64>(),
        peak_without_keys,
        working_bytes: memory::transforms(&parameters, kept) + masked + peak,
        thread_bytes,
        most_limbs: parameters.ring().moduli().len(),
        key_sizes,
        key_use: meter.key_use(),
        output_error,
        output_weights,
        output_magnitude,
        total: meter.cost(),
        keys,
    };
    Ok((context, facts, units))
}

/// A plan read by the meter, step by step; what becomes of the results is the reader's business.
pub(crate) struct Reading<'a> {
    plan: &'a Plan,
    meter: Meter,
    /// What is known of the registers that are alive.
    pub(crate) live: BTreeMap<Register, MeterValue>,
    /// Largest magnitudes of biases, by address: many outputs may share one.
    biases: RefCell<HashMap<(usize, usize), f64>>,
}

/// What the meter says of one step.
pub(crate) struct ReadStep {
    /// Highest level of its operands.
    level_in: Option<usize>,
    /// By register, within the bounds that normalisation promises.
    pub(crate) results: Vec<(Register, MeterValue)>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(plan: &'a Plan, meter: Meter) -> Result<Self> {
        let mut live = BTreeMap::new();
        let mut bound = input_bound(plan);
        if plan.input.in_coefficients(&plan.parameters) {
            // the meter counts in slots
            bound *= (meter.parameters().n() as f64).sqrt();
        }
        let own = &plan.input.registers[..];
        for (registers, level, slots) in plan.given() {
            // what is given beside the input, and what is kept, is at most 1; errors of what is kept are those of the runs before
            let bound = if std::ptr::eq(registers, own) {
                bound
            } else {
                1.0
            };
            for &r in registers {
                let fresh = meter.input(Level::new(level), slots, bound)?;
                if live.insert(r, fresh).is_some() {
                    return Err(misfit("input")(format!("register {r} occurs twice")));
                }
            }
        }
        let biases = RefCell::default();
        Ok(Self {
            plan,
            meter,
            live,
            biases,
        })
    }

    /// Reads a step; its results are not alive yet.
    pub(crate) fn step(&self, index: usize) -> Result<ReadStep> {
        let step = &self.plan.steps[index];
        let refuse = |reason: String| refusal(index, step, reason);
        let operation = &step.operation;
        // calibration's promise, checked on the clear twin (`ClearTwin`): operands stay in their interval
        let limit = operation.operand_limit().unwrap_or(f64::INFINITY);
        let operands: Vec<MeterValue> = (operation.reads().iter())
            .map(|r| {
                let v = self.live.get(r).ok_or_else(|| {
                    refuse(format!(
                        "register {r} is read before it is written or after its last use"
                    ))
                })?;
                Ok(v.clone().within(limit))
            })
            .collect::<Result<_>>()?;
        let results = self.measure(operation, &operands);
        let results = results.map_err(|e| refuse(e.to_string()))?;
        let bound = operation.result_bound();
        Ok(ReadStep {
            level_in: operands.iter().map(|v| v.info.level.index()).max(),
            results: (operation.writes().into_iter().zip(results))
                // normalisation's promise: plan values stay within 1, or within what linear arithmetic can reach, if less
                .map(|(r, v)| (r, v.within(bound)))
                .collect(),
        })
    }

    /// The results of an operation. Where it is a polynomial of one operand, the operand's error grows by the slope. A map has its weights in
    /// single precision: what that changes is an error of its own.
    fn measure(
        &self,
        operation: &Operation,
        operands: &[MeterValue],
    ) -> std::result::Result<Vec<MeterValue>, ckks::Error> {
        let meter = &self.meter;
        match (operation, operation.as_polynomial()?, operands) {
            (_, Some(polynomial), [x]) => {
                let circuit = |x: &MeterValue| {
                    let results = operation.apply(meter, std::slice::from_ref(x))?;
                    Ok(results[0].clone())
                };
                Ok(vec![meter.through(x, &polynomial, circuit)?])
            }
            (
                Operation::Linear {
                    map, bias, period, ..
                },
                ..,
            ) => self.linear(operands, map, bias, *period),
            (Operation::Weigh { terms, .. }, ..) => {
                let lost = folding::rounding(terms, operands, meter.parameters());
                let results = operation.apply(meter, operands)?;
                Ok(results.iter().map(|y| meter.rounded(y, lost)).collect())
            }
            (Operation::Descend { to, .. }, ..) => {
                Ok(vec![folding::descend_bounded(meter, operands, to)?])
            }
            _ => operation.apply(meter, operands),
        }
    }

    /// As [`Operation::apply`] does it, but that no bias is read twice.
    fn linear(
        &self,
        operands: &[MeterValue],
        map: &BlockMap,
        bias: &[Option<Arc<[f64]>>],
        period: usize,
    ) -> std::result::Result<Vec<MeterValue>, ckks::Error> {
        let (meter, parameters) = (&self.meter, self.meter.parameters());
        let level = operands.first().map_or(Level::new(0), |x| x.info.level);
        let below = ckks::typing::below(parameters, "plan", level)?;
        let scale = parameters.scale(below);
        let results = meter.mapped(operands, map, scale, Weights::Rounded)?;
        (results.iter().zip(bias))
            .map(|(y, bias)| {
                let y = meter.with_slots(y, period)?;
                let Some(bias) = bias else { return Ok(y) };
                meter.add_up_to(&y, bias.len(), self.magnitude(bias)?)
            })
            .collect()
    }

    fn magnitude(&self, bias: &[f64]) -> std::result::Result<f64, ckks::Error> {
        let key = (bias.as_ptr() as usize, bias.len());
        let mut biases = self.biases.borrow_mut();
        let most = *biases
            .entry(key)
            .or_insert_with(|| match bias.iter().all(|b| b.is_finite()) {
                true => bias.iter().map(|b| b.abs()).fold(0.0, f64::max),
                false => f64::NAN,
            });
        match most.is_nan() {
            false => Ok(most),
            true => Err(ckks::Error::conformance("bias", "a constant is not finite")),
        }
    }

    /// Refuses a plan whose alarm is not where it says, or not in slots.
    fn alarm(&self, plan: &Plan, sums: &BTreeSet<Register>) -> Result<()> {
        let Some(alarm) = &plan.description.alarm else {
            return Ok(());
        };
        let level = Level::new(alarm.level);
        for Sums {
            register: r, slots, ..
        } in alarm.sums()
        {
            let had = self.live.get(r).map(|v| v.info);
            if level < self.meter.parameters().floor() && !sums.contains(r) {
                let reason = format!("register {r} is not in slots");
                return Err(misfit("alarm")(reason));
            }
            if !had.is_some_and(|i| i.level == level && i.slots <= *slots) {
                return Err(misfit("alarm")(format!(
                    "register {r} does not end at level {level:?} with {slots} slots: {had:?}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses a plan that leaves what it keeps otherwise than it takes it.
    fn kept(&self, units: &BTreeMap<Register, f64>) -> Result<()> {
        for kept in self.plan.kept() {
            for r in &kept.after {
                let had = self.live.get(r).map(|v| v.info);
                let (level, slots) = (Level::new(kept.level), kept.slots);
                let unit = units.get(r).copied().unwrap_or(f64::NAN);
                let same = (unit / kept.unit - 1.0).abs() < 1e-9;
                if !had.is_some_and(|i| i.level == level && i.slots <= slots) || !same {
                    return Err(misfit("sequence")(format!(
                        "register {r} of `{}` is not left as it comes in, at level {level:?} with {slots} slots and unit {}: {had:?}, unit {unit}",
                        kept.name, kept.unit
                    )));
                }
            }
        }
        Ok(())
    }

    /// Bounds on what the port gives, network units: the encryption's error, that of rounded weights, the magnitude.
    fn output(&self, port: &Port, sums: &BTreeSet<Register>) -> Result<[f64; 3]> {
        let refuse = misfit("output");
        if let Some(r) = port.registers.iter().find(|r| sums.contains(r)) {
            return Err(refuse(format!("register {r} is a sum of the alarm's")));
        }
        // the meter counts in slots, where an error of every coefficient is √N times as large
        let slope = match port.in_coefficients(&self.plan.parameters) {
            true => 1.0 / (self.meter.parameters().n() as f64).sqrt(),
            false => 1.0,
        };
        let mut most = [0.0f64; 3];
        for r in &port.registers {
            let v = self.live.get(r);
            let v = v.ok_or_else(|| refuse(format!("register {r} is never written")))?;
            let (had, slots) = (v.info.level.index(), v.info.slots);
            if v.info.level != Level::new(port.level) || slots > port.slots {
                return Err(refuse(format!(
                    "register {r} ends at level {had} with {slots} slots, the port says {} and {}",
                    port.level, port.slots
                )));
            }
            let of = [v.error_bound() * slope, v.weights_bound() * slope, v.bound];
            (most.iter_mut().zip(of)).for_each(|(m, v)| *m = m.max(stated(v * port.unit.abs())));
        }
        Ok(most)
    }
}

/// A bound as it is stated: products of many may be more than a number holds.
fn stated(bound: f64) -> f64 {
    if bound.is_finite() { bound } else { f64::MAX }
}

/// A port, or what a plan says beside its steps, that does not fit.
fn misfit(port: &str) -> impl Fn(String) -> Error + '_ {
    move |reason| {
        let port = port.into();
        Error::Port { port, reason }
    }
}

fn refusal(index: usize, step: &Step, reason: String) -> Error {
    Error::Plan {
        step: index,
        layer: step.layer.clone(),
        reason,
    }
}

/// The validator between two steps.
struct Pass<'a> {
    reading: Reading<'a>,
    parameters: &'a Parameters,
    units: BTreeMap<Register, f64>,
    /// The alarm's, below the levels for slots.
    sums: BTreeSet<Register>,
    /// The most that a map takes on each thread.
    thread_bytes: u64,
    /// What is alive, in memory and in a checkpoint.
    resident: Resident,
    stored: Resident,
    allowed: folding::Allowance,
}

impl<'a> Pass<'a> {
    fn new(plan: &'a Plan, context: &'a Context, read: &ReadWeights) -> Result<Self> {
        let reading = Reading::new(plan, Meter::new(context).sharing(read))?;
        let mut pass = Self {
            units: given_units(plan),
            reading,
            parameters: context.parameters(),
            sums: BTreeSet::new(),
            thread_bytes: 0,
            resident: Resident::default(),
            stored: Resident::default(),
            allowed: folding::Allowance::default(),
        };
        let inputs: Vec<Level> = pass.reading.live.values().map(|v| v.info.level).collect();
        for level in inputs {
            pass.hold(level);
        }
        Ok(pass)
    }

    /// Bytes of a ciphertext in memory and in a checkpoint.
    fn bytes(&self, level: Level) -> (u64, u64) {
        let file = ciphertext_bytes(self.parameters, level) + 64;
        (memory::ciphertext(self.parameters, level), file)
    }
    fn hold(&mut self, level: Level) {
        let (memory, file) = self.bytes(level);
        self.resident.hold(memory);
        self.stored.hold(file);
    }

    /// What an operation for slots reads lies in slots, and what one for coefficients reads in coefficients: the level says which. An alarm's sums lie in
    /// slots at any level, and only the alarm reads those below.
    fn check_form(&self, operation: &Operation) -> std::result::Result<(), String> {
        let p = self.parameters;
        let alarm = matches!(
            operation,
            Operation::Squares { .. } | Operation::Fold { .. }
        );
        let sum = |r: &Register| self.sums.contains(r);
        if let Some(r) = operation.reads().into_iter().find(|r| !alarm && sum(r)) {
            return Err(format!("register {r} is a sum of the alarm's"));
        }
        let in_coefficients = match operation {
            Operation::Weigh { .. } => true,
            // its own checks say at which level
            Operation::HalfBootstrap { .. } => return Ok(()),
            _ => false,
        };
        for r in operation.reads() {
            let Some(v) = self.reading.live.get(&r) else {
                continue;
            };
            let fits = match in_coefficients {
                true => v.info.level == p.products() && p.floor() > Level::new(0),
                false => v.info.level >= p.floor() || sum(&r),
            };
            if !fits {
                let form = if in_coefficients {
                    "coefficients at the level of products"
                } else {
                    "slots"
                };
                return Err(format!(
                    "register {r} at level {} is not in {form}",
                    v.info.level.index()
                ));
            }
        }
        Ok(())
    }

    fn step(&mut self, index: usize, liveness: &Liveness<Register>) -> Result<StepFacts> {
        let step = &self.reading.plan.steps[index];
        let refuse = |reason: String| refusal(index, step, reason);
        let operation = &step.operation;
        check_operation(step, self.parameters, &mut self.allowed).map_err(refuse)?;
        self.check_form(operation).map_err(refuse)?;
        let before = self.reading.meter.cost();
        let ReadStep { level_in, results } = self.reading.step(index)?;
        let level_in = level_in.unwrap_or(0);
        let levels = results.iter().map(|(_, v)| v.info.level.index());
        let mut facts = StepFacts {
            cost: self.reading.meter.cost().since(before),
            level_in,
            level_out: levels.min().unwrap_or(level_in),
            error_bound: (results.iter().map(|(_, v)| stated(v.error_bound()))).fold(0.0, f64::max),
            stored: 0,
            released: BTreeSet::new(),
        };
        let (working, each) = working_bytes(self.parameters, operation, Level::new(level_in));
        self.resident.work(working);
        self.thread_bytes = self.thread_bytes.max(each);
        let sums = matches!(
            operation,
            Operation::Squares { .. } | Operation::Fold { .. }
        );
        let down = matches!(
            operation,
            Operation::Descend { .. } | Operation::Weigh { .. }
        );
        let below = sums || down;
        for (r, v) in results {
            if sums && v.info.level < self.parameters.floor() {
                self.sums.insert(r);
            }
            if !below && v.info.level < self.parameters.floor() {
                return Err(refuse(format!(
                    "register {r} is left at level {}, below the lowest for slots, {}",
                    v.info.level.index(),
                    self.parameters.floor().index()
                )));
            }
            let want = self.parameters.scale(v.info.level);
            if v.info.scale != want {
                return Err(refuse(format!(
                    "register {r} is at scale 2^{:.9}, its level's is 2^{:.9}",
                    v.info.scale.log2(),
                    want.log2()
                )));
            }
            self.units.insert(r, step.unit);
            self.hold(v.info.level);
            if self.reading.live.insert(r, v).is_some() || r >= REGISTERS_LIMIT {
                return Err(refuse(format!(
                    "register {r} is written twice or out of range"
                )));
            }
        }
        let own = operation.reads().into_iter().chain(operation.writes());
        facts.released = liveness.ending(index, own);
        for r in &facts.released {
            if let Some(v) = self.reading.live.remove(r) {
                let (memory, file) = self.bytes(v.info.level);
                self.resident.release(memory);
                self.stored.release(file);
            }
        }
        facts.stored = self.stored.bytes();
        Ok(facts)
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

/// Network value = unit × plan value, of what a run begins with.
fn given_units(plan: &Plan) -> BTreeMap<Register, f64> {
    let ports = plan.inputs().map(|p| (&p.registers, p.unit));
    let kept = plan.kept().iter().map(|k| (&k.before, k.unit));
    let all = ports.chain(kept);
    all.flat_map(|(registers, unit)| registers.iter().map(move |r| (*r, unit)))
        .collect()
}

/// How long registers are alive; those of the output stay. Refuses writes to a register that already exists.
fn liveness(plan: &Plan) -> Result<Liveness<Register>> {
    let mut written: BTreeSet<Register> = plan.given().flat_map(|g| g.0.iter().copied()).collect();
    for (i, step) in plan.steps.iter().enumerate() {
        for r in step.operation.writes() {
            if !written.insert(r) {
                return Err(refusal(i, step, format!("register {r} is written twice")));
            }
        }
    }
    let alarm = plan.description.alarm.iter().flat_map(|a| a.sums());
    let alarm = alarm.map(|s| &s.register);
    let left = plan.kept().iter().flat_map(|k| &k.after);
    let kept = plan
        .output
        .registers
        .iter()
        .chain(alarm)
        .chain(left)
        .copied();
    Ok(Liveness::new(
        plan.steps.iter().map(|s| s.operation.reads()),
        kept,
    ))
}

/// What [`Meter`] cannot see: shapes, finiteness, counts.
fn check_operation(
    step: &Step,
    parameters: &Parameters,
    allowed: &mut folding::Allowance,
) -> std::result::Result<(), String> {
    // negative units are fine: a leading coefficient's sign is folded away with it
    if !(step.unit.is_finite() && step.unit != 0.0) {
        return Err(format!("unit {} is zero or not finite", step.unit));
    }
    check_name("the layer", &step.layer)?;
    if let Some((low, high)) = step.interval {
        let within = low <= high && low.abs().max(high.abs()) <= 1.0 + 1e-6;
        if !within || step.operation.operand_limit() != Some(1.0) {
            let operation = step.operation.doing();
            return Err(format!("the interval {low} to {high} for a {operation}"));
        }
    }
    match &step.operation {
        Operation::Linear {
            inputs,
            outputs,
            map,
            bias,
            period,
        } => {
            let (i, o, b) = (inputs.len(), outputs.len(), bias.len());
            let (from, to) = (map.inputs(), map.outputs());
            if (i, o, b) != (from, to, to) {
                return Err(format!(
                    "{i} inputs, {o} outputs, {b} biases for a map from {from} to {to}"
                ));
            }
            let (slots, most) = (map.slots(), parameters.max_slots());
            if !period.is_power_of_two() || *period > slots || slots > most {
                return Err(format!(
                    "period {period} and {slots} slots in a ring of {most}"
                ));
            }
            for b in bias.iter().flatten() {
                if !b.len().is_power_of_two() || b.len() > slots {
                    return Err(format!("a bias of length {}", b.len()));
                }
            }
            Ok(())
        }
        Operation::Multiply {
            more,
            factor,
            add,
            constant,
            bound,
            ..
        } => {
            allowed.products(more.len())?;
            finite(&[*constant])?;
            finite(&add.iter().map(|a| a.0).collect::<Vec<_>>())?;
            if *factor == 0 || add.len() > MOST_SUMMANDS || more.len() >= MOST_PRODUCTS {
                return Err(format!(
                    "{} products with factor {factor} and {} summands",
                    1 + more.len(),
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
        Operation::Weigh {
            outputs,
            to,
            terms,
            bias,
            within,
        } => {
            if outputs.len() != bias.len() {
                return Err(format!("{} outputs, {} biases", outputs.len(), bias.len()));
            }
            folding::check_weigh((to, terms, *within), bias, parameters, allowed)
        }
        Operation::Descend { inputs, to, .. } => {
            let n = parameters.n();
            to.folded(n).map_err(|e| e.to_string())?;
            allowed.descend(to, n)?;
            let needed = if to.gap == 1 { 2 } else { 1 };
            if inputs.len() != needed || to.slots(n) < 4 {
                return Err(format!("{} operands, {needed} are needed", inputs.len()));
            }
            Ok(())
        }
        Operation::HalfBootstrap {
            outputs,
            slots,
            target,
            gain,
            ..
        } => {
            let most = parameters.max_slots();
            let needed = if *slots == most { 2 } else { 1 };
            let fits = slots.is_power_of_two() && (4..=most).contains(slots);
            let residual = parameters.residual().index();
            if !fits
                || outputs.len() != needed
                || *target > residual
                || !(1..=1 << 20).contains(gain)
            {
                return Err(format!(
                    "a half bootstrap of {slots} slots to level {target} with gain {gain} and {} results",
                    outputs.len()
                ));
            }
            Ok(())
        }
        Operation::Square { constant, .. } => finite(&[*constant]),
        Operation::Squares { .. } | Operation::Fold { .. } => {
            check_sums(&step.operation, parameters, allowed)
        }
        Operation::Quartic { coefficients, .. } => finite(coefficients),
        Operation::Align { level, .. } if !in_slots(*level, parameters) => {
            Err(format!("level {level} does not exist"))
        }
        Operation::Bootstrap {
            inputs,
            outputs,
            bootstrap,
        } => {
            finite(&[bootstrap.gain])?;
            let name = &parameters.spec().name;
            let (i, o) = (inputs.len(), outputs.len());
            if !(1..=2).contains(&i) || o != i {
                return Err(format!("a bootstrap of {i} vectors with {o} results"));
            }
            if !bootstrap.slots.is_power_of_two()
                || bootstrap.slots > parameters.max_slots()
                || !in_slots(bootstrap.target, parameters)
                || bootstrap.gain <= 0.0
            {
                return Err(format!("{bootstrap:?} does not fit parameters `{name}`"));
            }
            if parameters.bootstrap().is_none() {
                return Err(format!("parameters `{name}` have no bootstrapping"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An alarm's operations.
fn check_sums(
    operation: &Operation,
    parameters: &Parameters,
    allowed: &mut folding::Allowance,
) -> std::result::Result<(), String> {
    let levels = parameters.residual().index();
    match operation {
        Operation::Squares { inputs, level, .. } => {
            finite(&inputs.iter().map(|x| x.0).collect::<Vec<_>>())?;
            allowed.squares(inputs.len())?;
            let count = inputs.len();
            match (1..=MOST_SUMMANDS).contains(&count) && *level <= levels {
                true => Ok(()),
                false => Err(format!("{count} squares at level {level} of {levels}")),
            }
        }
        Operation::Fold { slots, level, .. } => {
            let fits = slots.is_power_of_two() && *slots <= parameters.max_slots();
            match fits && *level <= levels {
                true => Ok(()),
                false => Err(format!("sums of slots {slots} apart at level {level}")),
            }
        }
        _ => Ok(()),
    }
}

fn finite(v: &[f64]) -> std::result::Result<(), String> {
    match v.iter().all(|x| x.is_finite()) {
        true => Ok(()),
        false => Err("a constant is not finite".to_owned()),
    }
}

/// Whether values lie in slots at this level.
fn in_slots(level: usize, parameters: &Parameters) -> bool {
    (parameters.floor().index()..=parameters.residual().index()).contains(&level)
}

/// Bytes that a step needs beside what is alive, and those of them that it needs on each thread.
pub(crate) fn working_bytes(
    parameters: &Parameters,
    operation: &Operation,
    level: Level,
) -> (u64, u64) {
    let whole = match operation {
        Operation::Linear { map, .. } => {
            let values = map.terms().iter().map(|t| t.values.len()).sum();
            let size = MapSize::of(map);
            let each = memory::map_thread(parameters, level, &size, values);
            return (memory::map(parameters, level, &size, values), each);
        }
        Operation::Bootstrap { bootstrap, .. } => memory::bootstrap(parameters, bootstrap.target),
        Operation::HalfBootstrap { target, .. } => memory::bootstrap(parameters, *target),
        Operation::Weigh {
            to, terms, within, ..
        } => {
            let one = memory::ciphertext(parameters, level);
            folding::weigh_bytes((to, terms, *within), parameters, one)
        }
        Operation::Descend { .. } => 2 * memory::bootstrap(parameters, parameters.floor().index()),
        _ => memory::product(parameters, level),
    };
    (whole, 0)
}

/// How values lie that go down to coefficients.
fn layouts_down(plan: &Plan) -> BTreeSet<&folding::Folding> {
    let of = plan.steps.iter().filter_map(|s| match &s.operation {
        Operation::Descend { to, .. } => Some(to),
        _ => None,
    });
    of.collect()
}

/// Bytes of the plan's weights, shared ones once.
fn weight_bytes(plan: &Plan) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    for step in &plan.steps {
        if let Operation::Weigh { terms, .. } = &step.operation {
            for term in terms {
                if let folding::Term::Kernel { weights, .. } = term
                    && seen.insert(weights.identity())
                {
                    bytes += weights.held_bytes();
                }
            }
        }
        if let Operation::Linear { map, .. } = &step.operation {
            for (address, size) in map.terms().iter().flat_map(|t| t.values.stored()) {
                if seen.insert((address, 0)) {
                    bytes += size as u64;
                }
            }
        }
    }
    bytes
}
