//! A plan as text and in numbers.

use ckks::MapSize;
use runtime::{Operation, Plan, VerifiedPlan};
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
    /// Distinct rotations, those inside of bootstraps not counted, as signed steps (−1 is the same whatever the period).
    pub distinct_rotations: BTreeSet<i64>,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Bytes of weights as the plan holds them.
    pub weight_bytes: usize,
}

/// A plan in numbers.
pub fn summarise(plan: &Plan) -> Summary {
    let mut summary = Summary {
        steps: plan.steps.len(),
        ..Summary::default()
    };
    for step in &plan.steps {
        match &step.operation {
            Operation::Linear { map, .. } => {
                let size = MapSize::of(map);
                summary.maps += 1;
                summary.diagonals += size.diagonals;
                summary.rotations += size.babies + size.giants + size.folds * size.outputs;
                summary.distinct_rotations.extend(
                    map.rotations()
                        .into_iter()
                        .map(|r| crate::split::signed(r, map.slots())),
                );
                let weights = map.terms().iter().map(|t| t.values.stored()[0].1);
                summary.weight_bytes += weights.sum::<usize>();
            }
            Operation::Bootstrap { .. } | Operation::HalfBootstrap { .. } => {
                summary.bootstraps += 1
            }
            _ => {}
        }
    }
    summary
}

/// A plan as text: parameters, ports, and one line per step with layer, operation, levels, slots and sizes.
pub fn describe(verified: &VerifiedPlan) -> String {
    let plan = verified.plan();
    let mut text = String::new();
    let p = &plan.parameters;
    let bootstrapping = if p.bootstrap.is_some() {
        "bootstrapping"
    } else {
        "no bootstrapping"
    };
    let weights = p.weight_bits().map(|b| format!(", weights of {b} bits"));
    let weights = weights.unwrap_or_default();
    let _ = writeln!(
        text,
        "parameters {}: N = 2^{}, {} levels, {bootstrapping}{weights}",
        p.name, p.log_n, p.residual.levels
    );
    for (what, port) in [("input", &plan.input), ("output", &plan.output)] {
        let (shape, ciphertexts) = (&port.shape, port.registers.len());
        let _ = writeln!(
            text,
            "{what} {}: shape {shape:?}, ciphertexts {ciphertexts}, slots {}, level {}",
            port.name, port.slots, port.level
        );
    }
    let _ = match &plan.description.alarm {
        Some(alarm) => writeln!(text, "alarm: {alarm}"),
        None => writeln!(
            text,
            "no alarm: nobody sees a value that leaves its interval"
        ),
    };
    let width = plan.steps.iter().map(|s| s.layer.len()).max().unwrap_or(0);
    for (step, facts) in plan.steps.iter().zip(&verified.facts().steps) {
        let detail = match &step.operation {
            Operation::Linear { map, period, .. } => {
                let s = MapSize::of(map);
                let blocks = if s.inputs * s.outputs > 1 {
                    format!(", {} in {} out", s.inputs, s.outputs)
                } else {
                    String::new()
                };
                let folds = if map.folds().is_empty() {
                    String::new()
                } else {
                    format!(", folds {}", map.folds().len())
                };
                format!(
                    "linear      slots {}→{period}, diagonals {}, babies {}, giants {}{folds}{blocks}",
                    map.slots(),
                    s.diagonals,
                    s.babies,
                    s.giants
                )
            }
            Operation::Polynomial { polynomial, .. } => {
                format!("polynomial  degree {}", polynomial.degree())
            }
            Operation::Bootstrap {
                inputs, bootstrap, ..
            } => format!(
                "bootstrap   slots {}, gain {:.4}{}",
                bootstrap.slots,
                bootstrap.gain,
                if inputs.len() > 1 { ", two" } else { "" }
            ),
            Operation::HalfBootstrap { slots, gain, .. } => {
                format!("half bootstrap  slots {slots}, gain {gain}")
            }
            Operation::Weigh {
                outputs,
                to,
                terms,
                within,
                ..
            } => {
                let [channels, height, width] = to.shape;
                format!(
                    "weigh       {} terms of {} in {} out, {channels}×{height}×{width} in rows of {}, {} apart, {within:?} ring",
                    terms.len(),
                    terms.iter().map(|t| t.inputs().len()).sum::<usize>(),
                    outputs.len(),
                    to.pitch,
                    to.spacing
                )
            }
            Operation::Squares { inputs, .. } => format!("alarm       {} squares", inputs.len()),
            Operation::Fold { slots, .. } => format!("alarm       {slots} sums"),
            other => other.doing().into(),
        };
        let _ = writeln!(
            text,
            "{:width$}  {:>2}→{:<2} {detail}",
            step.layer, facts.level_in, facts.level_out
        );
    }
    text
}
