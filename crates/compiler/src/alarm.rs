//! The alarm of a plan: sums of high even powers of what polynomials, roots and divisions take, for [`runtime::alarm`].
//!
//! Every operand t of a polynomial, square or quartic lies in [−1, 1] as calibration promises, and so does the normalised divisor that a division
//! squares first. Where levels allow it, t is raised to the power 2^[`SQUARINGS`] = 32: two operands are summed after each of the first three
//! squarings, t₁² + t₂² and then the sum of two such squares, and eight share what follows. An operand with fewer levels enters later, at the power that is
//! left; a plan's own levels never change. The last results are added up, slot by slot, and the slots folded to a few sums for each input. The end of an interval counts as [`END`], by a factor, where there is a level for that, else as what it is.
//!
//! **Threshold.** Values of an input like those of calibration lie near the middle of their intervals, which calibration made wider by a margin. The
//! mean of t^p over slots is then far below that of values spread evenly, 1/(p + 1). A sum of n slots of each of k operands may read n·Σ 1/(2p) or
//! so: half of that, and [`LEAST`] at least. What norms and attention divide by crowds at one end of its interval: it counts as if it lay there in all slots. The power makes the exact figure matter little: at 32, a value 1.3 half widths from the middle counts 150.
//!
//! **Range.** Sums are read at the bottom of the chain, where coefficients up to about 2^9 do not wrap. A ciphertext's coefficients are means over
//! slots; folding makes them sums. So slots are folded as far as the threshold keeps below [`MOST`]. What is far larger than the threshold wraps
//! anyhow, in the alarm as elsewhere: to garbage in all of its sums, which are all small with a probability of about (threshold/512)^sums.

use crate::cost::CostModel;
use crate::error::Error;
use crate::normal::{Id, Kind, Normal};
use ckks::{Level, Parameters};
use runtime::{Alarm, Operation, Plan, Purpose, Register, Step};
use std::collections::HashMap;

/// Squarings of an operand whose levels allow it.
const SQUARINGS: usize = 5;
/// After so many of the first squarings two operands are summed.
const PAIRED: usize = 3;
/// Fewest sums of one input.
const SUMS: usize = 16;
/// Slots are folded as far as this keeps above the threshold.
const MOST: f64 = 64.0;
/// The least threshold: several operands may lie near their ends in one slot.
const LEAST: f64 = 16.0;
/// What the end of an interval counts as where a level is left for a factor: alone, no operand within its interval then exceeds its share of the
/// threshold, END^32 ≤ 1/64.
const END: f64 = 0.87;

/// CPU seconds of watching one ciphertext that has so many levels left, its share of what others share with it.
pub(crate) fn seconds(cost: &CostModel, level: usize) -> Result<f64, Error> {
    let (mut seconds, mut share, mut had) = (0.0, 1.0, level);
    for stage in SQUARINGS.saturating_sub(level)..SQUARINGS {
        let left = SQUARINGS - stage;
        let squares = Operation::Squares {
            inputs: vec![(1.0, 0)],
            sum: None,
            output: 1,
            level: cost.level(left).index(),
        };
        // the first brings it down
        seconds += share * cost.operation(&squares, had)?;
        had = left - 1;
        if stage < PAIRED {
            share *= 0.5;
        }
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

/// Adds the alarm to a plan, before each step whose operand it watches and at the end. Nothing changes where nothing can be watched.
pub(crate) fn watch(plan: &mut Plan, parameters: &Parameters) {
    let mut writer = Writer {
        parameters,
        bottom: parameters.floor().index(),
        next: next(plan),
        steps: Vec::with_capacity(2 * plan.steps.len()),
        known: HashMap::new(),
        pending: Default::default(),
        sum: None,
        slots: 1,
        share: 0.0,
        watched: Vec::new(),
    };
    for &r in &plan.input.registers {
        let known = Known {
            level: plan.input.level,
            slots: plan.input.slots,
            bound: 1.0,
            follows: false,
        };
        writer.known.insert(r, known);
    }
    for step in std::mem::take(&mut plan.steps) {
        let follows = writer.step(&step);
        writer.results(&step.operation, follows);
        writer.steps.push(step);
    }
    plan.description.alarm = writer.finish(plan.output.batch);
    plan.steps = writer.steps;
}

/// The first register that nothing writes.
fn next(plan: &Plan) -> Register {
    let written = plan.steps.iter().flat_map(|s| s.operation.writes());
    let all = written.chain(plan.input.registers.iter().copied());
    all.max().map_or(0, |r| r + 1)
}

struct Writer<'a> {
    parameters: &'a Parameters,
    /// The level of the sums: the lowest in slots.
    bottom: usize,
    next: Register,
    steps: Vec<Step>,
    known: HashMap<Register, Known>,
    /// What waits for a partner before each squaring.
    pending: [Vec<(f64, Register)>; SQUARINGS],
    sum: Option<Register>,
    /// The longest period that was seen.
    slots: usize,
    /// What the mean of a slot may be.
    share: f64,
    /// Of everything that is watched, its power, and what t is where an operand at the end of its interval is not scaled to 1.
    watched: Vec<(u32, f64)>,
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
        // a factor takes a level; where there is none to spare, an operand is taken as it is
        let (left, factor) = match left > SQUARINGS && (1e-3..1e3).contains(&most) {
            true => (SQUARINGS, END / most),
            false => (left.min(SQUARINGS), 1.0),
        };
        let (end, power) = (most * factor, 1u32 << left);
        // What norms and attention divide by is the same in many slots, and mostly near one end: all slots may lie there. Others are spread.
        let (norm, power_of) = (
            matches!(step.purpose, Purpose::Norm | Purpose::Attention),
            |x: f64| x.powf(f64::from(power)),
        );
        let share = match norm {
            true => power_of(end),
            false => power_of(end.max(1.0)) * 0.5 / f64::from(power),
        };
        if share.is_nan() || share > MOST / 4.0 {
            return;
        }
        let squarings = left;
        self.slots = self.slots.max(of.slots);
        self.share += share;
        self.watched.push((power, end));
        let (layer, purpose) = (step.layer.clone(), step.purpose);
        let like = move |operation| Step {
            layer: layer.clone(),
            purpose,
            operation,
            unit: 1.0,
            interval: None,
        };
        let (stage, x) = (SQUARINGS - squarings, (factor, input));
        // several near their ends would add up in all slots, and be squared
        match norm {
            true => self.alone(stage, x, &like),
            false => self.put(stage, x, &like),
        }
    }

    /// Raises something to its power without a partner.
    fn alone(&mut self, stage: usize, mut x: (f64, Register), like: &impl Fn(Operation) -> Step) {
        for stage in stage..SQUARINGS {
            x = (1.0, self.squares(stage, vec![x], like));
        }
    }

    /// Puts something before a squaring, which is done where it has its partner.
    fn put(&mut self, stage: usize, x: (f64, Register), like: &impl Fn(Operation) -> Step) {
        self.pending[stage].push(x);
        let needed = if stage < PAIRED { 2 } else { 1 };
        if self.pending[stage].len() >= needed {
            self.square(stage, like);
        }
    }

    /// The sum of squares, which is part of the alarm's sum if there is no further squaring.
    fn squares(
        &mut self,
        stage: usize,
        inputs: Vec<(f64, Register)>,
        like: &impl Fn(Operation) -> Step,
    ) -> Register {
        let (output, last) = (self.next, stage + 1 == SQUARINGS);
        self.next += 1;
        let sum = match last {
            true => self.sum.replace(output),
            false => None,
        };
        self.steps.push(like(Operation::Squares {
            inputs,
            sum,
            output,
            level: self.bottom + SQUARINGS - stage,
        }));
        output
    }

    fn square(&mut self, stage: usize, like: &impl Fn(Operation) -> Step) {
        let inputs = std::mem::take(&mut self.pending[stage]);
        let output = self.squares(stage, inputs, like);
        if stage + 1 < SQUARINGS {
            self.put(stage + 1, (1.0, output), like);
        }
    }

    /// Squares what is left, folds the sums, and leaves them at level 0.
    fn finish(&mut self, batch: usize) -> Option<Alarm> {
        let like = |operation| Step {
            layer: "alarm".into(),
            purpose: Purpose::Repacking,
            operation,
            unit: 1.0,
            interval: None,
        };
        for stage in 0..SQUARINGS {
            if !self.pending[stage].is_empty() {
                self.square(stage, &like);
            }
        }
        let input = self.sum?;
        let mut slots = self.slots;
        let least = SUMS * batch;
        while slots > least && (self.slots / (slots / 2)) as f64 * self.share <= MOST {
            slots /= 2;
        }
        let folded = (self.slots / slots) as f64;
        let (level, output) = (0, self.next);
        self.next += 1;
        self.steps.push(like(Operation::Fold {
            input,
            output,
            slots,
            level,
        }));
        let threshold = (folded * self.share).max(LEAST);
        let reaches = self.watched.iter();
        let reaches = reaches.map(|(power, end)| threshold.powf(1.0 / f64::from(*power)) / end);
        Some(Alarm {
            register: output,
            slots,
            level,
            threshold,
            reach: reaches.fold(1.0, f64::max),
            watched: self.watched.len(),
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
            Operation::HalfBootstrap { target, slots, .. } => {
                (known.level, known.slots) = (*target, *slots);
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
