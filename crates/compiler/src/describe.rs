//! A plan as text and in numbers.

use crate::cost::{CostTable, MapSize};
use runtime::plan::{Operation, Plan};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A plan in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Steps.
    pub steps: usize,
    /// Linear maps.
    pub maps: usize,
    /// Diagonals of all maps.
    pub diagonals: usize,
    /// Rotations carried out, those inside of bootstraps not counted.
    pub rotations: usize,
    /// Distinct rotations, those inside of bootstraps not counted.
    pub distinct_rotations: BTreeSet<usize>,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Bytes of weights as the plan holds them.
    pub weight_bytes: usize,
    /// Seconds on one thread, by the cost table.
    pub seconds: f64,
    /// Of these, seconds in bootstraps.
    pub bootstrap_seconds: f64,
}

/// The level of each register, in the order in which they are written; None for one that no step writes.
///
/// A register whose level would be negative is None, too: no verified plan has one.
pub fn levels(plan: &Plan) -> Vec<Option<usize>> {
    let count = plan.steps.iter().flat_map(|s| s.operation.writes()).chain(plan.input.registers.iter().copied()).max().map_or(0, |m| m + 1);
    let mut levels = vec![None; count];
    for &r in &plan.input.registers {
        levels[r] = Some(plan.input.level);
    }
    for step in &plan.steps {
        let from = operand_level(&step.operation, &levels);
        let to = match &step.operation {
            Operation::Align { level, .. } => from.filter(|f| f >= level).map(|_| *level),
            Operation::Bootstrap { bootstrap, .. } => from.map(|_| bootstrap.target),
            other => from.and_then(|f| f.checked_sub(depth(other))),
        };
        for r in step.operation.writes() {
            levels[r] = to;
        }
    }
    levels
}

/// The lowest level among operands, None if one has none or they differ where they must not.
fn operand_level(operation: &Operation, levels: &[Option<usize>]) -> Option<usize> {
    let reads = operation.reads();
    let first = *levels.get(*reads.first()?)?;
    reads.iter().all(|&r| levels.get(r).copied().flatten() == first).then_some(first).flatten()
}

/// Levels that an operation takes.
fn depth(operation: &Operation) -> usize {
    match operation {
        Operation::Linear { .. } | Operation::Square { .. } | Operation::Multiply { .. } => 1,
        Operation::Quartic { .. } => 2,
        Operation::Polynomial { polynomial, .. } => polynomial.depth(),
        _ => 0,
    }
}

/// Sizes of a linear step's map.
pub(crate) fn map_size(map: &ckks::BlockMap) -> MapSize {
    let count = |steps: Vec<usize>| steps.into_iter().filter(|&s| s != 0).count();
    MapSize {
        diagonals: map.terms().len(),
        babies: (0..map.inputs()).map(|i| count(map.babies(i))).sum(),
        giants: (0..map.outputs()).map(|o| count(map.giants(o))).sum(),
        folds: map.folds().len() * map.outputs(),
        inputs: map.inputs(),
        outputs: map.outputs(),
    }
}

/// Predicted seconds of every step on one thread.
pub fn predict(plan: &Plan, cost: &CostTable) -> Vec<f64> {
    let levels = levels(plan);
    let max_slots = 1usize << (plan.parameters.log_n - 1);
    let residual = plan.parameters.residual.levels;
    plan.steps
        .iter()
        .map(|step| {
            let level = operand_level(&step.operation, &levels).unwrap_or(0);
            match &step.operation {
                Operation::Linear { map, .. } => cost.linear(&map_size(map), level),
                Operation::Polynomial { polynomial, .. } => cost.polynomial(polynomial.degree(), level),
                Operation::Square { .. } | Operation::Multiply { .. } => cost.product(level),
                Operation::Quartic { .. } => 2.0 * cost.product(level),
                Operation::Align { level, .. } => cost.align(*level),
                Operation::Bootstrap { bootstrap: b, .. } => cost.bootstrap(b.slots, max_slots, b.target, residual),
                Operation::Split { .. } => cost.rotation(level),
                Operation::Add { .. } | Operation::Join { .. } => 2.0 * cost.pass,
            }
        })
        .collect()
}

/// A plan in numbers.
pub fn summarise(plan: &Plan, cost: &CostTable) -> Summary {
    let mut summary = Summary { steps: plan.steps.len(), ..Summary::default() };
    for (step, seconds) in plan.steps.iter().zip(predict(plan, cost)) {
        summary.seconds += seconds;
        match &step.operation {
            Operation::Linear { map, .. } => {
                let size = map_size(map);
                summary.maps += 1;
                summary.diagonals += size.diagonals;
                summary.rotations += size.babies + size.giants + size.folds;
                summary.distinct_rotations.extend(map.rotations());
                summary.weight_bytes += map.terms().iter().map(|t| 4 * t.values.len()).sum::<usize>();
            }
            Operation::Bootstrap { .. } => {
                summary.bootstraps += 1;
                summary.bootstrap_seconds += seconds;
            }
            _ => {}
        }
    }
    summary
}

/// A plan as text: parameters, ports, and one line per step with layer, operation, levels, slots and sizes.
pub fn describe(plan: &Plan) -> String {
    let levels = levels(plan);
    let mut text = String::new();
    let p = &plan.parameters;
    let bootstrapping = if p.bootstrap.is_some() { "bootstrapping" } else { "no bootstrapping" };
    let _ = writeln!(text, "parameters {}: N = 2^{}, {} levels, {bootstrapping}", p.name, p.log_n, p.residual.levels);
    for (what, port) in [("input", &plan.input), ("output", &plan.output)] {
        let (shape, ciphertexts) = (&port.shape, port.registers.len());
        let _ = writeln!(text, "{what} {}: shape {shape:?}, ciphertexts {ciphertexts}, slots {}, level {}", port.name, port.slots, port.level);
    }
    let width = plan.steps.iter().map(|s| s.layer.len()).max().unwrap_or(0);
    let show = |level: Option<usize>| level.map_or("?".to_string(), |l| l.to_string());
    for step in &plan.steps {
        let from = operand_level(&step.operation, &levels);
        let to = step.operation.writes().first().and_then(|&r| levels.get(r).copied().flatten());
        let detail = match &step.operation {
            Operation::Linear { map, period, .. } => {
                let s = map_size(map);
                let blocks = if s.inputs * s.outputs > 1 { format!(", {} in {} out", s.inputs, s.outputs) } else { String::new() };
                let folds = if map.folds().is_empty() { String::new() } else { format!(", folds {}", map.folds().len()) };
                format!("linear      slots {}→{period}, diagonals {}, babies {}, giants {}{folds}{blocks}", map.slots(), s.diagonals, s.babies, s.giants)
            }
            Operation::Polynomial { polynomial, .. } => format!("polynomial  degree {}", polynomial.degree()),
            Operation::Square { .. } => "square".into(),
            Operation::Quartic { .. } => "quartic".into(),
            Operation::Add { .. } => "add".into(),
            Operation::Multiply { .. } => "multiply".into(),
            Operation::Align { .. } => "align".into(),
            Operation::Bootstrap { bootstrap, .. } => format!("bootstrap   slots {}, gain {:.4}", bootstrap.slots, bootstrap.gain),
            Operation::Join { .. } => "join".into(),
            Operation::Split { .. } => "split".into(),
        };
        let _ = writeln!(text, "{:width$}  {:>2}→{:<2} {detail}", step.layer, show(from), show(to));
    }
    text
}
