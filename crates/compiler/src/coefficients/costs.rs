//! What steps in coefficients cost, each shape of them once, and which ring layers are carried out in.

use crate::{Error, Target};
use ckks::{Context, CostTable, Level, MapSize, Meter, Parameters, ParametersSpec, ReadWeights};
use nn::PolyGraph;
use runtime::folding::{Term, Within};
use runtime::{Operation, Plan, Register, Step, VerifiedPlan};
use std::collections::BTreeMap;

/// log2 of the smallest degree that a small ring may have in a secure set.
const LEAST_SMALL: u32 = 13;
/// How much smaller than a toy's ring its small ring is, as logarithm: as 2^13 beside 2^16.
const TOY_SMALLER: u32 = 3;

/// Bytes that looking at a network takes, at least: the tables of N = 2^16 and what verification has.
pub(crate) const LEAST_ROOM: u64 = 300 << 20;

/// Whether compiling, which takes so many bytes, has room for them.
pub(crate) fn within_room(graph: &PolyGraph, target: &Target, needed: u64) -> Result<(), Error> {
    match target.room.filter(|r| r.bytes < needed) {
        Some(room) => Err(Error::Room {
            network: graph.metadata().name.clone(),
            needed: room.resident + needed,
            had: room.whole(),
            limit: room.limit,
        }),
        None => Ok(()),
    }
}

/// The plan, if it keeps the target's limit.
pub(super) fn within_memory(
    graph: &PolyGraph,
    target: &Target,
    plan: VerifiedPlan,
) -> Result<VerifiedPlan, Error> {
    let needed = least_bytes(&plan, target);
    match target.max_memory {
        Some(limit) if needed > limit => Err(Error::Memory {
            network: graph.metadata().name.clone(),
            needed,
            had: limit,
        }),
        _ => Ok(plan),
    }
}

/// The least memory that a run takes: with keys on disk where it needs them to keep the target's limit and may have them there.
pub(super) fn least_bytes(plan: &VerifiedPlan, target: &Target) -> u64 {
    let facts = plan.facts();
    let over = target.max_memory.filter(|&limit| facts.peak_bytes > limit);
    match over.filter(|_| target.keys_on_disk) {
        Some(limit) => facts.keys_on_disk(limit).peak_bytes,
        None => facts.peak_bytes,
    }
}

/// Costs under one set.
pub(super) struct Costs {
    /// As it was asked for.
    parameters: Parameters,
    /// With the smallest ring that is secure, if there is one.
    context: Context,
    /// What was read of the context's transforms.
    read: ReadWeights,
    table: CostTable,
    known: BTreeMap<String, f64>,
}

impl Costs {
    pub(super) fn new(spec: ParametersSpec, table: CostTable) -> Result<Self, Error> {
        let least = match spec.is_toy() {
            true => spec.log_n.saturating_sub(TOY_SMALLER),
            false => LEAST_SMALL,
        };
        let parameters = Parameters::new(spec)?;
        let spec = parameters.spec();
        if parameters.products() == Level::new(0) {
            return Err(Error::Ckks(ckks::Error::Parameters {
                name: spec.name.clone(),
                reason:
                    "layers in coefficients need a set with levels of products below SlotToCoeff"
                        .into(),
            }));
        }
        let small = (least..spec.log_n)
            .find_map(|log| Parameters::new(spec.clone().with_small_ring(Some(log))).ok());
        Ok(Self {
            context: Context::new(small.as_ref().unwrap_or(&parameters)),
            read: ReadWeights::default(),
            table: table.for_ring(spec.log_n),
            parameters,
            known: BTreeMap::new(),
        })
    }
    /// A plan, verified, with so many layers in slots: with what is known of transforms, if they are the plan's, and if no weights would stay.
    pub(super) fn verified(&self, plan: Plan, layers: usize) -> Result<VerifiedPlan, Error> {
        let same = *self.context.parameters().spec() == plan.parameters;
        let own = ReadWeights::default();
        let read = match layers {
            0 if same => &self.read,
            _ => &own,
        };
        Ok(VerifiedPlan::sharing(plan, &self.context, read)?)
    }
    /// As they were asked for.
    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Carries layers out in a small ring where that takes less time, and names it in the parameters if any is.
    pub(super) fn narrow(&mut self, steps: &mut [Step]) -> Result<ParametersSpec, Error> {
        let mut any = false;
        for step in steps {
            let operation = &mut step.operation;
            if matches!(operation, Operation::Weigh { .. }) {
                self.settle(operation)?;
            }
            any |= matches!(operation, Operation::Weigh { within, .. } if *within == Within::Small);
        }
        Ok(match any {
            true => self.context.parameters().spec().clone(),
            false => self.parameters.spec().clone(),
        })
    }
    /// Carries a layer out in the ring where it takes less time; gives CPU seconds.
    pub(super) fn settle(&mut self, operation: &mut Operation) -> Result<f64, Error> {
        // refused where places lie too near each other
        if !set(operation, Within::Small) {
            return self.operation(operation, self.parameters.residual());
        }
        let level = self.parameters.products();
        let small = self.operation(operation, level).unwrap_or(f64::INFINITY);
        set(operation, Within::Whole);
        let whole = self.operation(operation, level)?;
        if small < whole {
            set(operation, Within::Small);
        }
        Ok(small.min(whole))
    }
    /// CPU seconds of all steps.
    pub(super) fn seconds(&mut self, steps: &[Step]) -> Result<f64, Error> {
        // of what lies in slots
        let mut levels: BTreeMap<Register, Level> = BTreeMap::new();
        let mut seconds = 0.0;
        for step in steps {
            let (operation, p) = (&step.operation, &self.parameters);
            let reads = operation.reads();
            let level = reads.iter().filter_map(|r| levels.get(r)).min();
            let level = level.copied().unwrap_or(p.residual());
            let after = match operation {
                Operation::HalfBootstrap { target, .. } => Some(Level::new(*target)),
                Operation::Linear { .. }
                | Operation::Square { .. }
                | Operation::Multiply { .. } => p.below(level),
                Operation::Align { level, .. } => Some(Level::new(*level)),
                Operation::Quartic { .. } => p.below(level).and_then(|l| p.below(l)),
                Operation::Polynomial { polynomial, .. } => {
                    Some(Level::new(level.index().saturating_sub(polynomial.depth())))
                }
                _ => None,
            };
            seconds += self.operation(operation, level)?;
            if let Some(after) = after {
                levels.extend(operation.writes().into_iter().map(|r| (r, after)));
            }
        }
        Ok(seconds)
    }
    fn operation(&mut self, operation: &Operation, level: Level) -> Result<f64, Error> {
        let shape = shape(operation, level);
        if let Some(&seconds) = self.known.get(&shape) {
            return Ok(seconds);
        }
        let seconds = self.metered(operation, level)?;
        self.known.insert(shape, seconds);
        Ok(seconds)
    }
    fn metered(&self, operation: &Operation, level: Level) -> Result<f64, Error> {
        let p = self.context.parameters();
        let (level, slots) = match operation {
            Operation::Weigh { .. } => (p.products(), p.max_slots()),
            Operation::HalfBootstrap { slots, .. } => (Level::new(0), *slots),
            Operation::Descend { to, .. } => (p.floor(), to.slots(p.n())),
            Operation::Linear { map, .. } => (level, map.slots()),
            _ => (level, p.max_slots()),
        };
        let meter = match operation {
            // layers' weights do not stay
            Operation::Linear { .. } => Meter::new(&self.context),
            _ => Meter::new(&self.context).sharing(&self.read),
        };
        let x = meter.input(level, slots, 0.5)?;
        operation.apply(&meter, &vec![x; operation.reads().len()])?;
        Ok(meter.cost().seconds(&self.table))
    }
}

/// Sets the ring of a linear layer; false for other operations.
fn set(operation: &mut Operation, ring: Within) -> bool {
    match operation {
        Operation::Weigh { within, .. } => {
            *within = ring;
            true
        }
        _ => false,
    }
}

/// What an operation's cost depends on, as text.
fn shape(operation: &Operation, level: Level) -> String {
    match operation {
        Operation::Weigh {
            to, terms, within, ..
        } => {
            let mut text = format!("{within:?} {to:?}");
            for term in terms {
                text += &match term {
                    Term::Kernel {
                        from,
                        kernel,
                        before,
                        stride,
                        groups,
                        ..
                    } => format!(" {from:?} {kernel:?} {before:?} {stride} {groups}"),
                    Term::Multiple { .. } => " multiple".into(),
                };
            }
            text
        }
        Operation::HalfBootstrap { slots, target, .. } => format!("up {slots} {target}"),
        Operation::Descend { to, inputs, .. } => format!("down {} {to:?}", inputs.len()),
        Operation::Polynomial { polynomial, .. } => {
            format!("degree {} at {level:?}", polynomial.degree())
        }
        Operation::Linear { map, .. } => {
            let (terms, sizes) = (map.terms().len(), MapSize::of(map));
            format!("{terms} {sizes:?} at {level:?}")
        }
        other => format!("{} at {level:?}", other.doing()),
    }
}
