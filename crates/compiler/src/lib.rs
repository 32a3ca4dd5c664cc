//! A polynomial network becomes a plan: packing, rotations, levels, bootstraps.
//!
//! [`compile`] is deterministic: the same network and target give the same plan, byte for byte.
//!
//! Notation: g gap, n slots (period) of a value, ℓ level; network value = unit × plan value.
//!
//! Modules in reading order: `normal` (between polynomials everything is one affine map; its rows from `linear_op`; `product`, what
//! products take in; `cut`, where two maps are cheaper than one) → `layout` (where
//! values lie) → `pack` (maps as diagonals; `twins`, what is the same and made once) → `split` (baby and giant steps) → `schedule` (levels and bootstraps by shortest path over
//! `cost`) → `activation` and `units` (intervals and leading coefficients folded away) → `emit` (the plan; `order`, depth first for a batch) → [`describe()`]; [`price`] (what
//! an activation costs in a deep network), [`outline`] (what a network costs whose degrees are open), [`mod@sketch`] (what one costs whose weights
//! are not there).
//!
//! What this crate knows nothing of: keys, ciphertexts, randomness, the clock.
//!
//! Reference: \[LLKN22\] multiplexed packing; Orion's single-shot convolutions and shortest path.

pub mod describe;
pub mod error;
pub mod outline;

mod activation;
mod cost;
mod cut;
mod emit;
mod layout;
mod linear_op;
mod normal;
mod order;
mod pack;
pub mod price;
mod product;
mod schedule;
pub mod sketch;
mod split;
mod task;
mod twins;
mod units;

pub use ckks::meter::CostTable;
pub use describe::{Summary, describe, levels, summarise};
pub use error::Error;
pub use outline::{Choice, Outline};
pub use price::{Price, Pricing};
pub use sketch::{Scale, Sketch, sketch};

use activation::{Activation, Form};
use approx::Polynomial;
use ckks::{Parameters, ParametersSpec};
use cost::CostModel;
use nn::PolyGraph;
use normal::{Binding, Kind, Normal, Quantity};
use pack::Packed;
use runtime::Plan;
use runtime::plan::{Description, Operation};
use schedule::{Machine, Stage, Way};
use split::Split;
use std::collections::BTreeSet;
pub use task::Task;
use twins::Twins;

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The parameter set.
    pub parameters: ParametersSpec,
    /// Seconds of units of work on the machine that will run the plan.
    pub cost: CostTable,
    /// What one more rotation key may cost, in seconds of each run: keys take memory, and are made, sent and stored once.
    pub key_seconds: f64,
    /// The most memory that the run may take, in bytes of predicted peak; where the cheapest plan takes more, a dearer one that fits.
    pub max_memory: Option<u64>,
    /// Whether the run may leave keys on disk to keep that limit (`runtime::Server::open`): such a plan then counts as one that fits,
    /// and as much dearer as reading the keys takes.
    pub keys_on_disk: bool,
    /// Inputs that one run takes side by side, a power of two: every slot of the packing of one becomes as many neighbours. Up to the ring's
    /// slots it costs bootstraps of more slots, then more ciphertexts; where each holds one channel, linear layers rotate nothing.
    pub batch: usize,
    /// Values outside of polynomials (the input, residual sums, the answer) may be this many times larger than calibration saw.
    pub range_margin: f64,
}

impl Default for Target {
    /// The standard parameters with bootstrapping, the shipped costs, 20 ms for a key, no memory limit, keys in memory, one input at a time, margin 1.25.
    fn default() -> Self {
        Self {
            parameters: ParametersSpec::standard(),
            cost: CostTable::default(),
            key_seconds: 0.02,
            max_memory: None,
            keys_on_disk: false,
            batch: 1,
            range_margin: 1.25,
        }
    }
}

/// Compiles a network.
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer.
///
/// # Errors
/// [`Error::Calibration`] without ranges; [`Error::Unsupported`], [`Error::TooLarge`] for operators and shapes that packing does not
/// cover; [`Error::Depth`], [`Error::Levels`] when the parameters have too few levels; [`Error::Weight`] when a folded weight
/// overflows; [`Error::Memory`] where no plan keeps the memory limit; [`Error::Ckks`] for inconsistent or insecure parameters.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<Plan, Error> {
    let parameters = Parameters::new(target.parameters.clone())?;
    let batch = target.batch;
    let most = parameters.max_slots() / layout::LEAST_PERIOD;
    if !batch.is_power_of_two() || batch > most {
        return Err(Error::Batch { batch, most });
    }
    let max_slots = parameters.max_slots() / batch;
    let mut cost = CostModel::new(parameters, target.cost, batch, [])?;
    let normal = normal::normalise(graph, target, max_slots, None, &mut cost)?;
    cost.prepare(normal.quantities.iter().map(|q| q.layout.period))?;
    let draft = Draft {
        graph,
        target,
        normal,
        twins: Vec::new(),
        cost,
    };
    let (maps, twins) = maps(&draft.normal, &draft.cost, target.key_seconds);
    let draft = Draft { twins, ..draft };
    let (decisions, _) = draft.schedule(&maps, None)?;
    let plan = draft.plan(maps, &decisions)?;
    match target.max_memory {
        None => Ok(plan),
        Some(limit) => draft.within(plan, limit),
    }
}

/// How many times its worth a rotation key counts where memory is short: fewer keys, more rotations.
const THRIFT: [f64; 3] = [1.0, 5.0, 50.0];

/// A network on its way to a plan.
struct Draft<'a> {
    graph: &'a PolyGraph,
    target: &'a Target,
    normal: Normal,
    twins: Vec<Twins>,
    cost: CostModel,
}

impl Draft<'_> {
    /// Decides on levels and bootstraps, which reach one level only if one is given; and what that costs: seconds of a run, and its
    /// rotation keys at [`Target::key_seconds`].
    fn schedule(
        &self,
        maps: &emit::Maps,
        bootstrap_target: Option<usize>,
    ) -> Result<(Vec<schedule::Decision>, f64), Error> {
        let Self {
            target,
            normal,
            cost,
            ..
        } = self;
        let machine = Machine {
            bootstrap: &|slots, to| cost.bootstrap(slots, to),
            align: &|level| cost.align(level),
            levels: cost.levels(),
            bootstraps: target.parameters.bootstrap.is_some(),
            target: bootstrap_target,
            most_bootstraps: None,
            parameters: &target.parameters.name,
        };
        let stages = stages(normal, maps, &self.twins, cost)?;
        let (decisions, seconds) = schedule::schedule(&stages, normal.output, machine)?;
        let rotations: BTreeSet<i64> = maps
            .iter()
            .flatten()
            .flat_map(|(_, split)| split.rotations.iter().copied())
            .collect();
        Ok((
            decisions,
            seconds + rotations.len() as f64 * target.key_seconds,
        ))
    }

    fn plan(&self, maps: emit::Maps, decisions: &[schedule::Decision]) -> Result<Plan, Error> {
        let Self {
            graph,
            target,
            normal,
            ..
        } = self;
        let units = units::units(normal, decisions)?;
        let names = [graph.input().name(), graph.output().name()];
        let (steps, input, output) = emit::emit(
            &emit::Draft {
                normal,
                decisions,
                units: &units,
                twins: &self.twins,
                batch: target.batch,
            },
            maps,
            names,
        )?;
        let metadata = graph.metadata();
        let description = Description {
            name: metadata.name.clone(),
            input_bound: normal.quantities[0].bound,
            task: runtime::wire::task_digest(&Task::of(metadata).to_bytes()),
        };
        Ok(Plan {
            parameters: target.parameters.clone(),
            description,
            input,
            output,
            steps,
        })
    }

    /// The cheapest plan whose predicted peak keeps the limit: `first`, or one with fewer rotation keys and more rotations, or whose
    /// bootstraps all reach the same level, so that fewer encoded transforms are kept, or one whose run leaves keys on disk.
    fn within(&self, first: Plan, limit: u64) -> Result<Plan, Error> {
        let mut smallest = u64::MAX;
        // what the limit adds to a plan's seconds, if it keeps the limit at all
        let mut extra = |plan: &Plan| -> Result<Option<f64>, Error> {
            let facts = plan.verify()?;
            if facts.peak_bytes <= limit {
                return Ok(Some(0.0));
            }
            smallest = smallest.min(facts.peak_bytes);
            if !self.target.keys_on_disk {
                return Ok(None);
            }
            let placement = facts.keys_on_disk(limit);
            smallest = smallest.min(placement.peak_bytes);
            Ok((placement.peak_bytes <= limit).then(|| placement.seconds()))
        };
        if extra(&first)? == Some(0.0) {
            return Ok(first);
        }
        let mut splits: Vec<emit::Maps> = Vec::new();
        for thrift in THRIFT {
            let (made, _) = maps(&self.normal, &self.cost, thrift * self.target.key_seconds);
            let same = |other: &emit::Maps| {
                let pairs = made.iter().flatten().zip(other.iter().flatten());
                pairs.into_iter().all(|(a, b)| a.1 == b.1)
            };
            if !splits.iter().any(same) {
                splits.push(made);
            }
        }
        let levels = 1..=self.cost.levels();
        let mut choices: Vec<(f64, usize, Vec<schedule::Decision>)> = Vec::new();
        for (index, maps) in splits.iter().enumerate() {
            for target in std::iter::once(None).chain(levels.clone().rev().map(Some)) {
                // a target that some layer cannot do with is no choice
                if let Ok((decisions, price)) = self.schedule(maps, target)
                    && !choices.iter().any(|c| c.1 == index && c.2 == decisions)
                {
                    choices.push((price, index, decisions));
                }
            }
        }
        choices.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut best: Option<(f64, Plan)> = None;
        for (price, index, decisions) in &choices {
            if best.as_ref().is_some_and(|b| b.0 <= *price) {
                break;
            }
            let plan = self.plan(splits[*index].clone(), decisions)?;
            if let Some(seconds) = extra(&plan)?
                && best.as_ref().is_none_or(|b| price + seconds < b.0)
            {
                best = Some((price + seconds, plan));
            }
        }
        best.map(|b| b.1).ok_or_else(|| Error::Memory {
            network: self.graph.metadata().name.clone(),
            needed: smallest,
            had: limit,
        })
    }
}

/// Splits are chosen in rounds, from the second on with the rotations of all other maps known. How many times its worth a key counts
/// in the first round: each is tried, the best outcome taken.
const EAGERNESS: [f64; 4] = [0.2, 1.0, 6.0, 40.0];

/// Packs and splits every linear map, maps of the same pattern alike; and finds which ciphertexts are different.
fn maps(normal: &Normal, cost: &CostModel, key_seconds: f64) -> (emit::Maps, Vec<Twins>) {
    let (packed, twins) = twins::pack_all(normal);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (v, map) in packed.iter().enumerate() {
        let Some(map) = map else { continue };
        match groups
            .iter_mut()
            .find(|g| packed[g[0]].as_ref().is_some_and(|m| split::alike(m, map)))
        {
            Some(group) => group.push(v),
            None => groups.push(vec![v]),
        }
    }
    // those with the most rotations choose first
    groups.sort_by_key(|g| {
        std::cmp::Reverse(
            g.iter()
                .filter_map(|&v| packed[v].as_ref())
                .map(|m| m.diagonals.len())
                .sum::<usize>(),
        )
    });
    let base = |splits: &[Option<Split>]| -> f64 {
        let rotations: BTreeSet<i64> = splits
            .iter()
            .flatten()
            .flat_map(|s| s.rotations.iter().copied())
            .collect();
        let level = cost.levels().div_ceil(2);
        let steps = |s: &Split| {
            s.size.babies as f64 * cost.baby(level) + s.size.giants as f64 * cost.giant(level)
        };
        splits.iter().flatten().map(steps).sum::<f64>() + rotations.len() as f64 * key_seconds
    };
    let mut best: Option<(f64, Vec<Option<Split>>)> = None;
    for eagerness in EAGERNESS {
        let mut splits: Vec<Option<Split>> = vec![None; packed.len()];
        for factor in [eagerness, 0.5 * (1.0 + eagerness), 1.0, 1.0] {
            for group in &groups {
                let others = splits
                    .iter()
                    .enumerate()
                    .filter(|(w, _)| !group.contains(w))
                    .filter_map(|(_, s)| s.as_ref());
                let known: BTreeSet<i64> =
                    others.flat_map(|s| s.rotations.iter().copied()).collect();
                let maps: Vec<&Packed> = group.iter().filter_map(|&v| packed[v].as_ref()).collect();
                for (&v, split) in
                    group
                        .iter()
                        .zip(split::split(&maps, &known, cost, factor * key_seconds))
                {
                    splits[v] = Some(split);
                }
            }
        }
        let price = base(&splits);
        if best.as_ref().is_none_or(|b| price < b.0) {
            best = Some((price, splits));
        }
    }
    let splits = best.map_or_else(Vec::new, |b| b.1);
    let maps = packed
        .into_iter()
        .zip(splits)
        .map(|(p, s)| p.zip(s))
        .collect();
    (maps, twins)
}

/// What the scheduler must know of every quantity.
fn stages(
    normal: &Normal,
    maps: &emit::Maps,
    twins: &[Twins],
    cost: &CostModel,
) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::with_capacity(normal.quantities.len());
    for (v, (q, map)) in normal.quantities.iter().zip(maps).enumerate() {
        let ciphertexts = twins[v].count;
        let operation = representative(q)?;
        let mut seconds = vec![0.0; cost.levels() + 1];
        for (level, seconds) in seconds.iter_mut().enumerate().skip(q.depth) {
            *seconds = match (map, &operation) {
                (Some(map), _) => cost.linear(&map.1.size, level),
                (None, Some(operation)) => cost.operation(operation, level)? * ciphertexts as f64,
                // encrypting higher costs the client and the wire a little
                (None, None) => 1e-3 * (level * ciphertexts) as f64,
            };
        }
        stages.push(Stage {
            layer: q.layer.clone(),
            sources: q.sources(),
            ways: vec![Way {
                depth: q.depth,
                seconds,
                price: 0.0,
            }],
            slots: q.layout.period,
            ciphertexts,
            reserve: normal.reserve(v),
        });
    }
    Ok(stages)
}

/// An operation that costs what the quantity's will: units don't matter.
fn representative(q: &Quantity) -> Result<Option<Operation>, Error> {
    Ok(match &q.kind {
        Kind::Input | Kind::Linear { .. } => None,
        Kind::Product { add, .. } => Some(Operation::Multiply {
            left: 0,
            right: 0,
            output: 1,
            factor: 1,
            add: add.iter().map(|_| (0.5, 0)).collect(),
            constant: 0.0,
            bound: 1.0,
        }),
        Kind::Polynomial {
            polynomial,
            binding,
            ..
        } => Some(carried_out(q, *binding, polynomial)?.1),
    })
}

/// How a polynomial is carried out in the place of quantity `q`: the levels that it takes, and an operation that costs as much.
fn carried_out(
    q: &Quantity,
    binding: Binding,
    polynomial: &Polynomial,
) -> Result<(usize, Operation), Error> {
    let activation = match binding {
        Binding::Free if q.feeds.is_none() => Activation::absorbed(polynomial, 1.0),
        _ => Activation::general(polynomial, 1.0),
    };
    let depth = activation.depth()?;
    Ok((depth, operation(activation.form)?))
}

/// What a form is in a plan, from register 0 to register 1.
fn operation(form: Form) -> Result<Operation, Error> {
    let (input, output) = (0, 1);
    Ok(match form {
        Form::Square { constant } => Operation::Square {
            input,
            output,
            constant,
        },
        Form::Quartic { coefficients } => Operation::Quartic {
            input,
            output,
            coefficients,
        },
        Form::General { coefficients } => Operation::Polynomial {
            input,
            output,
            polynomial: ckks::Polynomial::new(coefficients)?,
        },
    })
}
