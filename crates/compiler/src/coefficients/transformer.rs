//! Transformers with their linear layers in coefficients: everything else as in slots, with tokens where [`super::tokens`] says.

use super::costs::{Costs, LEAST_ROOM, within_memory, within_room};
use super::sequence::Sequence;
use super::vectors::Low;
use super::weigh::{self, Scaled};
use crate::draft::{Draft, simulating};
use crate::normal::{Domain, Kind};
use crate::{Error, Needs, Target};
use ckks::{Parameters, ParametersSpec};
use nn::{Op, PolyGraph};
use runtime::{Operation, VerifiedPlan};
use std::collections::BTreeMap;

/// Free levels where the target names no parameters: roots take most of them.
const LEVELS: usize = 9;
/// Bits of weights there: rounded to 16, they may change a transformer's logits by more than encryption does (`docs/noise.md`).
pub(super) const WEIGHT_BITS: u32 = 20;

/// How much dearer a rotation key is than elsewhere: attention has many rotations, which all layers share, and keys are most of what a run holds.
pub(super) const KEYS: f64 = 5.0;
/// Bytes of masks that move slots.
const MOVES: u64 = 1 << 30;
/// CPU seconds of compiling a weight, and of what every network takes.
const SECONDS: (f64, f64) = (1e-7, 10.0);

/// Whether a network is one of tokens.
pub(super) fn is(graph: &PolyGraph) -> bool {
    let unfolds = |op: &Op<_>| matches!(op, Op::Unfold(_));
    graph.nodes().iter().any(|n| unfolds(n.op()))
}

/// What sequences are compiled for where the target names no parameters.
pub(super) fn preset() -> Result<ParametersSpec, Error> {
    Ok(ParametersSpec::coefficients(LEVELS)?.with_weight_bits(WEIGHT_BITS))
}

/// What compiling takes beside the network: weights as integers; what moves slots; verification.
pub(super) fn needs(graph: &PolyGraph) -> Needs {
    let weights = |op: &Op<_>| match op {
        Op::Conv2d(c) => c.weight.values().len() as u64,
        Op::Linear(l) => l.weight.values().len() as u64,
        _ => 0,
    };
    let weights: u64 = graph.nodes().iter().map(|n| weights(n.op())).sum();
    let (each, any) = SECONDS;
    Needs {
        bytes: 5 * weights + MOVES + LEAST_ROOM,
        seconds: any + each * weights as f64 + simulating(graph, 0.0),
    }
}

pub(super) fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    within_room(graph, target, needs(graph).bytes)?;
    let batch = target.batch;
    if batch != 1 {
        return Err(Error::Batch { batch, most: 1 });
    }
    let set = match &target.parameters {
        Some(set) => set.clone(),
        None => preset()?,
    };
    let mut costs = Costs::new(set.clone(), target.cost)?;
    let parameters = Parameters::new(set.clone())?;
    let sequence = Sequence::of(graph, parameters.n())?;
    let dear = Target {
        key_seconds: KEYS * target.key_seconds,
        ..target.clone()
    };
    let draft = Draft::normal(graph, &dear, set, Some(&sequence))?;
    within_memory(graph, target, finished(draft, &mut costs)?)
}

/// The plan of a normal form some of whose maps lie in coefficients.
pub(super) fn finished(mut draft: Draft<'_>, costs: &mut Costs) -> Result<VerifiedPlan, Error> {
    let packed = draft.pack()?;
    draft.weighing = weighing(&draft, costs)?;
    let splits = draft.split(&packed);
    let (decisions, _) = draft.schedule(&splits, None)?;
    let mut plan = draft.written(&packed, &splits, &decisions)?;
    plan.parameters = costs.narrow(&mut plan.steps)?;
    Ok(VerifiedPlan::new(plan)?)
}

/// Seconds of every linear map in coefficients, its sources' ways down shared among those that read them.
fn weighing(draft: &Draft<'_>, costs: &mut Costs) -> Result<Vec<f64>, Error> {
    let (all, n) = (&draft.normal.quantities, draft.cost.parameters().n());
    let low = |q: &crate::normal::Quantity| q.domain == Domain::Coefficients;
    let mut readers: BTreeMap<usize, usize> = BTreeMap::new();
    for q in all.iter().filter(|q| low(q)) {
        for source in q.sources() {
            *readers.entry(source).or_default() += 1;
        }
    }
    let mut seconds = vec![0.0; all.len()];
    for (v, q) in all.iter().enumerate().filter(|(_, q)| low(q)) {
        let Kind::Linear { terms, bias } = &q.kind else {
            continue;
        };
        let count = |source: usize| {
            let low = Low::of(&all[source].layout, n);
            low.map_or(0, |l| l.ciphertexts)
        };
        let mut operation = weigh::operation(
            q,
            (terms, bias),
            |source| &all[source].layout,
            |source| (vec![0; count(source)], 1.0),
            Scaled::Nothing,
            ((0..count(v)).collect(), draft.cost.parameters()),
        )?;
        seconds[v] = costs.settle(&mut operation)?;
        for source in q.sources() {
            let Some(low) = Low::of(&all[source].layout, n) else {
                continue;
            };
            let mut down = Operation::Descend {
                inputs: (0..low.parts).collect(),
                output: low.parts,
                to: low.folding,
            };
            let shared = readers.get(&source).copied().unwrap_or(1);
            seconds[v] += costs.settle(&mut down)? * count(source) as f64 / shared as f64;
        }
    }
    Ok(seconds)
}
