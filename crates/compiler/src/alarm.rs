//! The alarm of a plan: sums of high even powers of what polynomials, roots and divisions take, for [`runtime::alarm`].
//!
//! Every operand t of a polynomial, square or quartic lies in [−1, 1] as calibration promises, and so does the normalised divisor that a division
//! squares first. It is squared [`SQUARINGS`] times where levels allow it, to t^32; one with fewer levels enters later, and a plan's own levels never
//! change. Squares of several operands are summed and share what follows, as [`TOGETHER`] says; the last are added up, slot by slot, and the slots
//! folded to fewer sums for each input. Operands that share would sum to large numbers at the ends of their intervals: a factor brings
//! them to [`SHARED`]. The factor takes a level. Where few are left, that level is one more squaring instead, and the operand goes alone.
//! Below the levels for slots, which bootstraps need and the alarm takes as well, squares come with a gain ([`runtime::alarm::gain`]), which the factor
//! undoes: there every operand has one. The lower, the fewer primes.
//! Whatever is summed early is seen late: of two operands whose squares are summed first, one must be √2 times as large to count as both, of two whose
//! fourth powers are summed, 1.19 times. So nothing shares its first squaring.
//!
//! **Batches.** Of inputs side by side in slots each sum is one input's. Where inputs are channels after each other in coefficients it depends on the layer
//! and on the ciphertext whose value a slot has ([`Owned`]): only operands of which each slot has the same owner share sums then, and slots are folded
//! as far as they have one owner. Each such group is a ciphertext more beside the answer; those that a plan has the most operands of have one of
//! their own ([`MOST_GROUPS`]), and the others are summed together, over all inputs.
//!
//! **Threshold.** What the sums read if all operands lie at the ends of their intervals, in all slots at once, and [`SLACK`] beyond. No input whose
//! values keep their intervals exceeds it, whatever their distribution. So an operand that goes alone at the power p is seen from
//! (slots that are folded × operands)^(1/p) half widths on.
//!
//! **Range.** Sums are read at the bottom of the chain, where coefficients up to about 2^9 do not wrap. A ciphertext's coefficients are means over
//! slots; folding makes them sums. Folding shows the client less of the network, and of a value that leaves its interval alone, too: it must outweigh all
//! that is folded with it. So slots are folded as far as the threshold keeps below [`FOLDED`]. Where it is above [`MOST`] without any folding, all lies a level higher; without bootstraps, what would make it larger is
//! watched at a lower power or not at all. What is far larger than the threshold wraps anyhow, in the alarm as elsewhere: to garbage in all of
//! its sums, which are all small with a probability of about (threshold/512)^sums.

use crate::cost::CostModel;
use crate::error::Error;
use crate::normal::{Id, Kind, Normal};
use ckks::{Level, Parameters};
use runtime::alarm::gain;
use runtime::{Alarm, Operation, Owners, Plan, Purpose, Register, Step, Sums, Work};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Squarings of an operand whose levels allow it.
const SQUARINGS: usize = 5;
/// How many operands, or sums of them, each squaring takes together.
const TOGETHER: [usize; SQUARINGS] = [1, 2, 2, 2, 8];
/// Groups of operands that have the same owners, at most, or as many as there are inputs: apart each would have an alarm's ciphertext.
const MOST_GROUPS: usize = 16;
/// Fewest sums of one input.
const SUMS: usize = 16;
/// Slots are folded as far as this keeps above the threshold: at 16 one wrong answer of 358 was not told.
const FOLDED: f64 = 0.25;
/// The largest threshold at the bottom of the chain, of what has no factor.
const MOST: f64 = 64.0;
/// The least threshold: what is far below it may be the error of encryption.
const LEAST: f64 = 1.0 / 16.0;
/// What operands that share count together, if all lie at their ends: as much as one that goes alone.
const SHARED: f64 = 1.0;
/// What the end of an interval is scaled to where an operand with a factor goes alone, by its purpose: it counts 1/86 there at the power 32.
const END_ALONE: f64 = 0.87;
/// An operand without a factor counts this at most.
const PLAIN: f64 = 16.0;
/// So many levels left are squarings, and none is a factor's.
const PLAIN_LEVELS: usize = 4;
/// How far beyond its interval a value may lie, by the errors of encryption and of rounded weights.
const SLACK: f64 = 1.01;

/// The smallest end of an interval that is scaled: a smaller one counts for less than others.
const LEAST_END: f64 = 1e-3;
/// What is smaller is taken for a constant: 0 is not watched, and another one has no half widths.
const CONSTANT: f64 = 1e-6;

/// How often an operand with so many levels left is squared.
const fn squarings(left: usize, factor: Factor) -> usize {
    let left = match factor {
        Factor::Level => left.saturating_sub(1),
        Factor::None => left,
    };
    if left < SQUARINGS { left } else { SQUARINGS }
}

/// What squares are multiplied by at each squaring if the sums lie at this level.
fn gains(parameters: &Parameters, bottom: usize) -> [f64; SQUARINGS] {
    std::array::from_fn(|stage| gain(parameters, bottom + SQUARINGS - stage))
}

/// Whether a level is taken for a factor.
#[derive(Clone, Copy, PartialEq)]
enum Factor {
    Level,
    None,
}

impl Factor {
    fn of(left: usize, parameters: &Parameters) -> Self {
        match left > PLAIN_LEVELS || parameters.floor() > Level::new(0) {
            true => Self::Level,
            false => Self::None,
        }
    }
}

/// How many a squaring takes together of what entered at another.
const fn together(entry: usize, stage: usize, factor: Factor) -> usize {
    let alone = matches!(factor, Factor::None) || stage == entry;
    if alone && stage + 1 < SQUARINGS {
        1
    } else {
        TOGETHER[stage]
    }
}

/// What the end of an interval is scaled to for an operand with a factor: all that share come to [`SHARED`] then, the gains in it.
fn end(entry: usize, gains: &[f64; SQUARINGS]) -> f64 {
    let before = |after: f64, stage: usize| {
        (after / gains[stage] / together(entry, stage, Factor::Level) as f64).sqrt()
    };
    (entry..SQUARINGS).rev().fold(SHARED, before) / SLACK
}

/// CPU seconds of watching one ciphertext at a free level, its share of what others share with it.
pub(crate) fn seconds(cost: &CostModel, level: usize) -> Result<f64, Error> {
    let level = cost.level(level).index();
    let (mut seconds, mut share, mut had) = (0.0, 1.0, level);
    let factor = Factor::of(level, cost.parameters());
    let entry = SQUARINGS - squarings(level, factor);
    for stage in entry..SQUARINGS {
        let left = SQUARINGS - stage;
        let together = together(entry, stage, factor);
        let squares = Operation::Squares {
            inputs: vec![(1.0, 0); together],
            sum: None,
            output: 1,
            level: left,
        };
        share /= together as f64;
        // the first brings it down
        seconds += share * cost.operation_at(&squares, Level::new(had))?;
        had = left - 1;
    }
    Ok(seconds)
}

/// Whether the operand of a quantity is watched.
pub(crate) fn watches(normal: &Normal, v: Id) -> bool {
    let square = |v: Id| match normal.quantities[v].kind {
        Kind::Product { left, right, .. } => (left == right).then_some(left),
        _ => None,
    };
    let polynomial = matches!(normal.quantities[v].kind, Kind::Polynomial { .. });
    polynomial || square(v).is_some_and(|x| square(x).is_none())
}

/// What is known of a register.
#[derive(Clone, Copy)]
struct Known {
    level: usize,
    slots: usize,
    /// Largest magnitude that the plan promises.
    bound: f64,
    /// Whether it is a square of something watched: it leaves its range after that one does.
    follows: bool,
}

/// Of operands in slots, whose each slot is, where inputs of a batch share ciphertexts of coefficients; of nothing where there is one input, or all lie
/// side by side.
pub(crate) type Owned = BTreeMap<Register, Owners>;

/// Adds the alarm to a plan, before each step whose operand it watches and at the end. Nothing changes where nothing can be watched.
pub(crate) fn watch(plan: &mut Plan, parameters: &Parameters, owned: &Owned) {
    watch_at(plan, parameters, owned, 0);
    let large = |alarm: &Alarm| alarm.threshold > MOST;
    if parameters.floor() > Level::new(0) && plan.description.alarm.as_ref().is_some_and(large) {
        plan.steps.retain(|s| s.work() != Work::Alarm);
        watch_at(plan, parameters, owned, 1);
    }
}

/// [`watch`], with the sums at this level.
fn watch_at(plan: &mut Plan, parameters: &Parameters, owned: &Owned, bottom: usize) {
    let groups = groups(owned, plan.output.batch);
    let numbers: HashMap<&Owners, usize> = groups.iter().zip(1..).map(|(o, g)| (*o, g)).collect();
    let own = |(r, owners): (&Register, &Owners)| Some((*r, *numbers.get(owners)?));
    let mut writer = Writer {
        parameters,
        bottom,
        gains: gains(parameters, bottom),
        next: next(plan),
        steps: Vec::with_capacity(2 * plan.steps.len()),
        known: HashMap::new(),
        group_of: owned.iter().filter_map(own).collect(),
        groups: std::iter::once(None)
            .chain(groups.iter().map(|o| Some((*o).clone())))
            .map(Group::new)
            .collect(),
        plain: 0.0,
        watched: Vec::new(),
    };
    for (registers, level, slots) in plan.given() {
        let known = Known {
            level,
            slots,
            bound: 1.0,
            follows: false,
        };
        let own = registers.iter().map(|r| (*r, known));
        writer.known.extend(own);
    }
    for step in std::mem::take(&mut plan.steps) {
        let follows = writer.step(&step);
        writer.results(&step.operation, follows);
        writer.steps.push(step);
    }
    plan.description.alarm = writer.finish(plan.output.batch);
    plan.steps = writer.steps;
}

/// The owners whose operands are summed by themselves, those of most operands first.
fn groups(owned: &Owned, inputs: usize) -> Vec<&Owners> {
    let mut counts: BTreeMap<&Owners, usize> = BTreeMap::new();
    owned
        .values()
        .for_each(|o| *counts.entry(o).or_default() += 1);
    let mut all: Vec<&Owners> = counts.keys().copied().collect();
    all.sort_by_key(|o| Reverse(counts[o]));
    let most = MOST_GROUPS.max(inputs);
    if all.len() > most {
        // what is summed over all inputs is one, too
        all.truncate(most - 1);
    }
    all
}

/// The first register that nothing writes.
fn next(plan: &Plan) -> Register {
    let written = plan.steps.iter().flat_map(|s| s.operation.writes());
    let given = plan.given().flat_map(|g| g.0.iter().copied());
    let all = written.chain(given);
    all.max().map_or(0, |r| r + 1)
}

/// What is squared.
#[derive(Clone, Copy)]
struct Summand {
    factor: f64,
    register: Register,
    /// Its largest magnitude, the factor in it, if all values keep their intervals.
    most: f64,
}

struct Writer<'a> {
    parameters: &'a Parameters,
    /// The level of the sums.
    bottom: usize,
    gains: [f64; SQUARINGS],
    next: Register,
    steps: Vec<Step>,
    known: HashMap<Register, Known>,
    /// The group of each operand that has one of its own, and not the first.
    group_of: HashMap<Register, usize>,
    groups: Vec<Group>,
    /// The largest sum of one slot, of what has no factor, if all values keep their intervals.
    plain: f64,
    /// Of everything that is watched, its power, what t is where an operand at the end of its interval is not scaled to 1, and in units of that
    /// end how far the middle of the interval is from 0, and its half width.
    watched: Vec<(u32, f64, [f64; 2])>,
}

/// Operands that are summed together.
struct Group {
    /// Whose the slots are; nothing where a sum is over all inputs, or inputs lie side by side.
    owners: Option<Owners>,
    /// What waits for others before each squaring.
    pending: [Vec<Summand>; SQUARINGS],
    sum: Option<Register>,
    /// The longest period that was seen.
    slots: usize,
    /// The largest sum of one slot if all values keep their intervals.
    most: f64,
}

impl Group {
    fn new(owners: Option<Owners>) -> Self {
        Self {
            owners,
            pending: Default::default(),
            sum: None,
            slots: 1,
            most: 0.0,
        }
    }
    /// How far slots are folded: so that each input has some sums, none of two inputs.
    fn folded(&self, batch: usize) -> usize {
        let least = match &self.owners {
            Some(owners) => owners.period().max(SUMS * owners.runs()),
            None => SUMS * batch,
        };
        let mut slots = self.slots;
        while slots > least && (self.slots / (slots / 2)) as f64 * self.most <= FOLDED {
            slots /= 2;
        }
        slots
    }
}

impl Writer<'_> {
    fn known(&self, r: Register) -> Known {
        let none = Known {
            level: 0,
            slots: 1,
            bound: 1.0,
            follows: false,
        };
        self.known.get(&r).copied().unwrap_or(none)
    }

    /// Watches what a step takes; gives whether its results follow it.
    fn step(&mut self, step: &Step) -> bool {
        let (input, squares) = match &step.operation {
            Operation::Polynomial { input, .. } | Operation::Quartic { input, .. } => {
                (*input, false)
            }
            // of other squares, those of norms and scores, calibration promises a range and no interval
            Operation::Square {
                input, constant, ..
            } if *constant != 0.0 || step.purpose == Purpose::Activation => (*input, true),
            Operation::Multiply {
                left,
                right,
                more,
                add,
                constant,
                ..
            } if left == right && more.is_empty() && add.is_empty() && *constant != 0.0 => {
                (*left, true)
            }
            _ => return false,
        };
        let of = self.known(input);
        if !of.follows || !squares {
            let ends = step.interval.map(|(low, high)| low.abs().max(high.abs()));
            let most = match squares {
                true => of.bound.max(ends.unwrap_or(1.0)),
                false => ends.unwrap_or(1.0),
            };
            self.enter(step, input, of, most);
        }
        squares
    }

    /// An operand of at most this magnitude.
    fn enter(&mut self, step: &Step, input: Register, of: Known, most: f64) {
        let Some(left) = of.level.checked_sub(self.bottom).filter(|left| *left > 0) else {
            return;
        };
        if most < CONSTANT {
            return;
        }
        // what norms and attention divide by is mostly near one end: with others like it, it would often read most
        let alone = matches!(step.purpose, Purpose::Norm | Purpose::Attention);
        let scalable = left > 1 && most < 1e3;
        let mut factor = Factor::of(left, self.parameters);
        if factor == Factor::None {
            let count = (most * SLACK).powi(1 << squarings(left, factor));
            match count <= PLAIN && self.plain + count <= MOST {
                true => self.plain += count,
                false => factor = Factor::Level,
            }
        }
        if factor == Factor::Level && !scalable {
            return;
        }
        let squarings = squarings(left, factor);
        let stage = SQUARINGS - squarings;
        let power = 1u32 << squarings;
        // what 1 comes to, by the gains alone
        let gained = self.gains[stage..].iter().fold(1.0, |x, gain| x * x * gain);
        let gained: f64 = f64::powf(gained, 1.0 / f64::from(power));
        let most_scaled = most.max(LEAST_END);
        let scale = match (factor, alone) {
            (Factor::None, _) => 1.0,
            (Factor::Level, true) => END_ALONE / gained / most_scaled,
            (Factor::Level, false) => end(stage, &self.gains) / most_scaled,
        };
        let end = most * scale;
        let group = self.group_of.get(&input).copied().unwrap_or(0);
        let slots = &mut self.groups[group].slots;
        *slots = (*slots).max(of.slots);
        // powers are taken about 0, half widths about the middle
        let wide = step.interval.filter(|(low, high)| high - low > CONSTANT);
        let interval = wide.map_or([0.0, 1.0], |(low, high)| {
            [(low + high).abs(), high - low].map(|v| v / 2.0 / most)
        });
        self.watched.push((power, end * gained, interval));
        let (layer, purpose) = (step.layer.clone(), step.purpose);
        let like = move |operation| Step {
            layer: layer.clone(),
            purpose,
            operation,
            unit: 1.0,
            interval: None,
        };
        let x = Summand {
            factor: scale,
            register: input,
            most: end * SLACK,
        };
        let to = match alone || factor == Factor::None {
            true => SQUARINGS - 1,
            false => (stage + 1).min(SQUARINGS - 1),
        };
        let x = (stage..to).fold(x, |x, stage| self.squares((group, stage), &[x], &like));
        self.put((group, to), x, &like);
    }

    /// Puts something before a squaring, which is done where enough wait for it.
    fn put(
        &mut self,
        (group, stage): (usize, usize),
        x: Summand,
        like: &impl Fn(Operation) -> Step,
    ) {
        let pending = &mut self.groups[group].pending[stage];
        pending.push(x);
        if pending.len() >= TOGETHER[stage] {
            self.square((group, stage), like);
        }
    }

    /// The sum of squares, which is part of the group's sum if there is no further squaring.
    fn squares(
        &mut self,
        (group, stage): (usize, usize),
        inputs: &[Summand],
        like: &impl Fn(Operation) -> Step,
    ) -> Summand {
        let (output, last) = (self.next, stage + 1 == SQUARINGS);
        self.next += 1;
        let most = self.gains[stage] * inputs.iter().map(|x| x.most * x.most).sum::<f64>();
        let group = &mut self.groups[group];
        let sum = match last {
            true => {
                group.most += most;
                group.sum.replace(output)
            }
            false => None,
        };
        self.steps.push(like(Operation::Squares {
            inputs: inputs.iter().map(|x| (x.factor, x.register)).collect(),
            sum,
            output,
            level: self.bottom + SQUARINGS - stage,
        }));
        Summand {
            factor: 1.0,
            register: output,
            most,
        }
    }

    fn square(&mut self, (group, stage): (usize, usize), like: &impl Fn(Operation) -> Step) {
        let inputs = std::mem::take(&mut self.groups[group].pending[stage]);
        let output = self.squares((group, stage), &inputs, like);
        if stage + 1 < SQUARINGS {
            self.put((group, stage + 1), output, like);
        }
    }

    /// Squares what is left, folds the sums, and leaves them at the bottom.
    fn finish(&mut self, batch: usize) -> Option<Alarm> {
        let like = |operation| Step {
            layer: "alarm".into(),
            purpose: Purpose::Repacking,
            operation,
            unit: 1.0,
            interval: None,
        };
        let (mut sums, mut threshold, level) = (Vec::new(), LEAST, self.bottom);
        for group in 0..self.groups.len() {
            for stage in 0..SQUARINGS {
                if !self.groups[group].pending[stage].is_empty() {
                    self.square((group, stage), &like);
                }
            }
            let of = &self.groups[group];
            let Some(input) = of.sum else { continue };
            let slots = of.folded(batch);
            threshold = threshold.max((of.slots / slots) as f64 * of.most);
            let (output, owners) = (self.next, of.owners.clone());
            self.next += 1;
            self.steps.push(like(Operation::Fold {
                input,
                output,
                slots,
                level,
            }));
            sums.push(Sums {
                register: output,
                slots,
                owners,
            });
        }
        let mut sums = sums.into_iter();
        let first = sums.next()?;
        let reaches = self.watched.iter();
        let reaches = reaches.map(|(power, end, [middle, half])| {
            (threshold.powf(1.0 / f64::from(*power)) / end - middle) / half
        });
        Some(Alarm {
            first,
            level,
            threshold,
            reach: reaches.fold(1.0, f64::max),
            watched: self.watched.len(),
            more: sums.collect(),
        })
    }

    /// What is known of a step's results.
    fn results(&mut self, operation: &Operation, follows: bool) {
        let reads = operation.reads();
        let all = reads.iter().map(|&r| self.known(r));
        let (level, slots) = all.fold((0, 1), |m, k| (m.0.max(k.level), m.1.max(k.slots)));
        let down = |by: usize| level.saturating_sub(by);
        let mut known = Known {
            level,
            slots,
            bound: 1.0,
            follows,
        };
        match operation {
            Operation::Linear { period, .. } => (known.level, known.slots) = (down(1), *period),
            Operation::Polynomial { polynomial, .. } => known.level = down(polynomial.depth()),
            Operation::Square { .. } => known.level = down(1),
            Operation::Multiply { bound, .. } => (known.level, known.bound) = (down(1), *bound),
            Operation::Quartic { .. } => known.level = down(2),
            Operation::Align { input, level, .. } => {
                known = Known {
                    level: *level,
                    ..self.known(*input)
                };
            }
            Operation::Bootstrap { bootstrap, .. } => {
                (known.level, known.slots) = (bootstrap.target, bootstrap.slots);
            }
            Operation::HalfBootstrap {
                outputs,
                target,
                slots,
                ..
            } => {
                // two vectors of as many slots, or one of twice as many
                (known.level, known.slots) = (*target, 2 * slots / outputs.len().max(1));
            }
            Operation::Descend { .. } => known.level = self.parameters.products().index(),
            Operation::Weigh { .. } => known.level = Level::new(0).index(),
            _ => {}
        }
        for r in operation.writes() {
            self.known.insert(r, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckks::{ParametersSpec, Polynomial};
    use runtime::{Description, Port, VerifiedPlan};

    /// A polynomial of 16 values in an interval, and its alarm.
    fn watched(interval: (f64, f64)) -> Plan {
        let port = |name: &str, register, level| Port {
            name: name.into(),
            shape: vec![16],
            registers: vec![register],
            slots: 16,
            places: (0..16).map(|s| (0, s)).collect(),
            batch: 1,
            level,
            unit: 1.0,
        };
        let (input, output, level) = (0, 1, 6);
        let polynomial = Polynomial::new(vec![0.1, 0.3, 0.05]).expect("valid");
        let mut plan = Plan {
            parameters: ParametersSpec::toy_levelled(6, level),
            description: Description {
                name: "toy".into(),
                input_bound: 1.0,
                ..Description::default()
            },
            input: port("x", input, level),
            output: port("y", output, level - polynomial.depth()),
            sequence: None,
            steps: vec![Step {
                layer: "act".into(),
                purpose: Purpose::Activation,
                operation: Operation::Polynomial {
                    input,
                    output,
                    polynomial,
                },
                unit: 1.0,
                interval: Some(interval),
            }],
        };
        let parameters = Parameters::new(plan.parameters.clone()).expect("valid");
        watch(&mut plan, &parameters, &Owned::new());
        plan
    }

    #[test]
    fn reach_is_said_of_the_end_that_powers_see() {
        for (low, high) in [(-1.0, 1.0), (0.5, 1.0), (-0.8, 0.2), (0.3, 0.3)] {
            let plan = watched((low, high));
            let alarm = plan.description.alarm.clone().expect("one");
            let [middle, half] = match low < high {
                true => [(low + high) / 2.0, (high - low) / 2.0],
                false => [0.0, high],
            };
            // one value there alone
            let mut sum = f64::abs(middle) + alarm.reach * half;
            for step in &plan.steps {
                if let Operation::Squares { inputs, .. } = &step.operation {
                    sum = (inputs[0].0 * sum).powi(2);
                }
            }
            let off = sum / alarm.threshold - 1.0;
            assert!(off.abs() < 1e-9, "{low} to {high}: {sum} of {alarm}");
            VerifiedPlan::new(plan).expect("verified");
        }
    }

    #[test]
    fn owners_of_most_operands_have_groups_of_their_own() {
        let owner = |b: usize| Owners::new(1, vec![crate::layout::narrow(b)]);
        let mut owned = Owned::new();
        // b + 1 operands of each of 20 inputs
        for b in 0..20 {
            let first = owned.len();
            owned.extend((first..=first + b).map(|r| (r, owner(b))));
        }
        assert_eq!(groups(&owned, 32).len(), 20);
        let most: Vec<Owners> = groups(&owned, 4).into_iter().cloned().collect();
        let want: Vec<Owners> = (5..20).rev().map(owner).collect();
        assert_eq!(most, want);
    }

    #[test]
    fn zeros_alone_are_not_watched() {
        let plan = watched((0.0, 0.0));
        assert!(plan.description.alarm.is_none());
        VerifiedPlan::new(plan).expect("verified");
    }
}
