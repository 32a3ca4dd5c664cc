//! A step of a sequence with the matrices of its token in coefficients: in slots they take as many diagonals as a token has channels, in coefficients one key switch in the
//! small ring for each output. What is kept, and what is made of it, stays in slots.

use super::costs::{Costs, within_memory, within_room};
use super::transformer::{KEYS, finished, needs, preset};
use crate::draft::Draft;
use crate::{Error, Target};
use nn::PolyGraph;
use runtime::VerifiedPlan;

/// Compiles a step whose target lets matrices lie in coefficients.
pub(crate) fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    within_room(graph, target, needs(graph).bytes)?;
    let set = match &target.parameters {
        Some(set) => set.clone(),
        None => preset()?,
    };
    let mut costs = Costs::new(set.clone(), target.cost)?;
    let dear = Target {
        key_seconds: KEYS * target.key_seconds,
        ..target.clone()
    };
    let draft = Draft::normal(graph, &dear, set, None)?;
    within_memory(graph, target, finished(draft, &mut costs)?)
}
