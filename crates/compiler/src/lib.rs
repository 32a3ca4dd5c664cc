//! A polynomial network becomes a plan: packing, rotations, levels, bootstraps.
//!
//! [`compile`] is deterministic: the same network and target give the same plan, byte for byte.
//!
//! Notation: g gap, n slots (period) of a value, ℓ level; network value = unit × plan value.
//!
//! Modules in reading order: `normal` (between polynomials everything is one affine map; its rows from `linear_op`) → `layout` (where
//! values lie) → `pack` (maps as diagonals) → `split` (baby and giant steps) → `schedule` (levels and bootstraps by shortest path over
//! [`cost`]) → `activation` and `units` (intervals and leading coefficients folded away) → `emit` (the plan) → [`describe`].
//!
//! What this crate knows nothing of: keys, ciphertexts, randomness, the clock.
//!
//! Reference: [LLKN22] multiplexed packing; Orion's single-shot convolutions and shortest path.

pub mod cost;
pub mod describe;
pub mod error;

mod activation;
mod emit;
mod layout;
mod linear_op;
mod normal;
mod pack;
mod schedule;
mod split;
mod units;

pub use cost::{CostTable, MapSize};
pub use describe::{Summary, describe, levels, predict, summarise};
pub use error::Error;

use ckks::ParametersSpec;
use nn::PolyGraph;
use normal::{Kind, Normal, Quantity};
use pack::Packed;
use runtime::Plan;
use runtime::plan::Description;
use schedule::{Machine, Stage};
use split::Split;
use std::collections::BTreeSet;

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The parameter set.
    pub parameters: ParametersSpec,
    /// What operations cost.
    pub cost: CostTable,
    /// Values outside of polynomials (the input, residual sums, the answer) may be this many times larger than calibration saw.
    pub range_margin: f64,
}

impl Default for Target {
    /// The standard parameters with bootstrapping, rough costs, margin 1.25.
    fn default() -> Self {
        Self { parameters: ParametersSpec::standard(), cost: CostTable::default(), range_margin: 1.25 }
    }
}

/// Compiles a network.
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer.
///
/// # Errors
/// [`Error::Calibration`] without ranges; [`Error::Unsupported`], [`Error::TooLarge`] for operators and shapes that packing does not
/// cover; [`Error::Depth`], [`Error::Levels`] when the parameters have too few levels; [`Error::Weight`] when a folded weight overflows.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<Plan, Error> {
    let max_slots = 1usize << target.parameters.log_n.saturating_sub(1);
    let normal = normal::normalise(graph, target, max_slots)?;
    let maps = maps(&normal, &target.cost);
    let stages = stages(&normal, &maps, target)?;
    let machine = Machine {
        cost: &target.cost,
        levels: target.parameters.residual.levels,
        bootstraps: target.parameters.bootstrap.is_some(),
        max_slots,
        parameters: &target.parameters.name,
    };
    let (decisions, _) = schedule::schedule(&stages, normal.output, machine)?;
    let units = units::units(&normal, &decisions)?;
    let names = [graph.input().name(), graph.output().name()];
    let (steps, input, output) = emit::emit(&normal, maps, &decisions, &units, names)?;
    let metadata = graph.metadata();
    let (mean, deviation) = metadata.normalization.as_ref().map_or((Vec::new(), Vec::new()), |n| (n.mean.clone(), n.deviation.clone()));
    let input_bound = normal.quantities[0].bound;
    let description = Description { name: metadata.name.clone(), mean, deviation, labels: metadata.labels.clone(), input_bound };
    Ok(Plan { parameters: target.parameters.clone(), description, input, output, steps })
}

/// Packs and splits every linear map; a second round knows the rotations of all others.
fn maps(normal: &Normal, cost: &CostTable) -> emit::Maps {
    let packed: Vec<Option<Packed>> =
        normal.quantities.iter().map(|q| matches!(q.kind, Kind::Linear { .. }).then(|| pack::pack(normal, q))).collect();
    let mut splits: Vec<Option<Split>> = vec![None; packed.len()];
    for _ in 0..2 {
        for (v, packed) in packed.iter().enumerate() {
            if let Some(packed) = packed {
                let others = splits.iter().enumerate().filter(|(w, _)| *w != v).filter_map(|(_, s)| s.as_ref());
                let known: BTreeSet<usize> = others.flat_map(|s| s.rotations.iter().copied()).chain(packed.folds.iter().copied()).collect();
                splits[v] = Some(split::split(packed, &known, cost));
            }
        }
    }
    packed.into_iter().zip(splits).map(|(p, s)| p.zip(s)).collect()
}

/// What the scheduler must know of every quantity.
fn stages(normal: &Normal, maps: &emit::Maps, target: &Target) -> Result<Vec<Stage>, Error> {
    let cost = &target.cost;
    let seconds = |q: &Quantity, v: usize, level: usize| -> f64 {
        let each = match &q.kind {
            // encrypting higher costs the client and the wire a little
            Kind::Input => 1e-3 * level as f64,
            Kind::Linear { .. } => return maps[v].as_ref().map_or(0.0, |m| cost.linear(&m.1.size, level)),
            Kind::Polynomial { polynomial, .. } => match q.depth {
                1 => cost.product(level),
                2 if polynomial.degree() == 4 => 2.0 * cost.product(level),
                _ => cost.polynomial(polynomial.degree(), level),
            },
            Kind::Product { .. } => cost.product(level),
        };
        each * q.layout.ciphertexts as f64
    };
    Ok(normal
        .quantities
        .iter()
        .enumerate()
        .map(|(v, q)| Stage {
            layer: q.layer.clone(),
            sources: q.sources(),
            depth: q.depth,
            seconds: (0..=target.parameters.residual.levels).map(|level| seconds(q, v, level)).collect(),
            slots: q.layout.period,
            ciphertexts: q.layout.ciphertexts,
        })
        .collect())
}
