//! What a plan's exact answer holds beside its values: in slots that no value has, and in imaginary parts.

use crate::Register;
use crate::answer::{places, used};
use crate::operation::Operation;
use crate::plan::Plan;
use ckks::BlockMap;
use ckks::map::Values;
use std::collections::{BTreeMap, BTreeSet};

/// Slots, terms and steps that may be looked at for one plan: ten times what networks have. A plan that would take more is bounded by its
/// answer's magnitude.
const MOST_WORK: usize = 1 << 27;

/// Bounds on magnitudes, network units.
pub(crate) struct Beside {
    pub(crate) unused: f64,
    pub(crate) imaginary: f64,
}

/// Of a plan that passed, whose answer has at most this magnitude anywhere.
pub(crate) fn beside(plan: &Plan, magnitude: f64) -> Beside {
    if plan.output.in_coefficients(&plan.parameters) {
        // what packing leaves at places without a value
        return Beside {
            unused: magnitude,
            imaginary: 0.0,
        };
    }
    let (port, complex) = (&plan.output, complex(plan));
    let writers = writers(plan);
    let mut work = MOST_WORK;
    let idle = |(r, places): (&Register, &Vec<usize>)| {
        let Some(left) = work.checked_sub(port.slots) else {
            return magnitude;
        };
        work = left;
        let used = used(port, places, port.slots);
        if used.iter().all(|u| *u) {
            return 0.0;
        }
        let held = held(plan, &writers, (*r, &used), &mut work);
        held.map_or(magnitude, |v| (v * port.unit.abs()).min(magnitude))
    };
    let places = places(port);
    Beside {
        unused: (port.registers.iter().zip(&places))
            .map(idle)
            .fold(0.0, f64::max),
        imaginary: match port.registers.iter().any(|r| complex.contains(r)) {
            true => magnitude,
            false => 0.0,
        },
    }
}

/// The step that writes each register.
fn writers(plan: &Plan) -> BTreeMap<Register, &Operation> {
    let steps = plan.steps.iter().map(|s| &s.operation);
    steps
        .flat_map(|o| o.writes().into_iter().map(move |r| (r, o)))
        .collect()
}

/// Registers whose values may have an imaginary part.
fn complex(plan: &Plan) -> BTreeSet<Register> {
    let mut complex = BTreeSet::new();
    for step in &plan.steps {
        let turns = match &step.operation {
            // real parts come back, and nothing else
            Operation::Bootstrap { .. } => false,
            other => other.reads().iter().any(|r| complex.contains(r)) || has_complex(other),
        };
        if turns {
            complex.extend(step.operation.writes());
        }
    }
    complex
}

fn has_complex(operation: &Operation) -> bool {
    let Operation::Linear { map, .. } = operation else {
        return false;
    };
    let mut terms = map.terms().iter();
    terms.any(|t| matches!(t.values, Values::Complex(_)))
}

/// The largest magnitude in the slots that are not used, plan units, where the plan itself says it: where the matrix that a register comes
/// from has no row for them, and so its bias is all there is.
fn held(
    plan: &Plan,
    writers: &BTreeMap<Register, &Operation>,
    (mut register, used): (Register, &[bool]),
    work: &mut usize,
) -> Option<f64> {
    let mut gain = 1.0;
    // every step back is an earlier step
    for _ in 0..plan.steps.len() {
        *work = work.checked_sub(64)?;
        match writers.get(&register)? {
            Operation::Align { input, .. } => register = *input,
            Operation::Bootstrap {
                inputs,
                outputs,
                bootstrap,
            } => {
                gain *= bootstrap.gain;
                register = inputs[outputs.iter().position(|o| *o == register)?];
            }
            Operation::Linear {
                outputs,
                map,
                bias,
                period,
                ..
            } => {
                let each = map.slots() * (2 + map.folds().len());
                let output = outputs.iter().position(|o| *o == register)?;
                let own = map.terms().iter().filter(|t| t.output == output);
                let read: usize = own.map(|t| t.values.len() / t.values.run()).sum();
                *work = work.checked_sub(map.terms().len() + read + each)?;
                let rows = rows(map, output);
                let idle = || (0..used.len()).filter(|j| !used[*j]);
                if idle().any(|j| rows[j % period]) {
                    return None;
                }
                let bias = bias[output].as_deref().unwrap_or(&[0.0]);
                let added = idle().map(|j| bias[j % bias.len()].abs());
                return Some(gain * added.fold(0.0, f64::max));
            }
            _ => return None,
        }
    }
    None
}

/// The rows of one output that are not zero.
fn rows(map: &BlockMap, output: usize) -> Vec<bool> {
    // diagonals that repeat alike, and each weight vector, are looked at once
    let mut alike: BTreeMap<(usize, usize), Vec<bool>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for t in map.terms().iter().filter(|t| t.output == output) {
        let run = t.values.run();
        let length = t.values.len() / run;
        if !seen.insert(t.values.stored()) {
            continue;
        }
        let rows = alike
            .entry((length, run))
            .or_insert_with(|| vec![false; length]);
        t.values.each(|j, v| rows[j] |= v.norm_sqr() != 0.0);
    }
    let slots = map.slots();
    let mut all: Vec<bool> = (0..slots)
        .map(|j| {
            let mut alike = alike.iter();
            alike.any(|((length, run), rows)| rows[j / run % length])
        })
        .collect();
    for f in map.folds() {
        all = (0..slots).map(|j| all[j] || all[(j + f) % slots]).collect();
    }
    all
}
