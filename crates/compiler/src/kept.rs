//! Levels of a step of a sequence: what is kept from run to run comes in at the level at which it is left.
//!
//! Nothing is done to what is kept but that something is added: it costs no level, is never bootstrapped, and its error grows by that of what is written alone. So one
//! level serves every run. Which one is cheapest is tried: a low one spares products with whole caches their primes, a high one spares bootstraps of what follows.
//!
//! What every block reads of the client (where a token's values go, and by which angles they turn) is encrypted at the highest level and stays what it is: one
//! choice for all blocks, so that the path through them has fewer states.

use crate::error::Error;
use crate::normal::{Id, Kind, Normal};
use crate::schedule::{Decision, Landing, Machine, Stage, schedule as path};

/// [`path`] for a network with values that are kept, at the level that costs least.
pub(crate) fn schedule(
    normal: &Normal,
    mut stages: Vec<Stage>,
    machine: Machine<'_>,
) -> Result<(Vec<Decision>, f64), Error> {
    pin(normal, &mut stages, machine.levels);
    let mut best: Result<(Vec<Decision>, f64), Error> = Err(Error::Levels {
        layer: stages.first().map_or_else(String::new, |s| s.layer.clone()),
        needed: 1,
        had: machine.levels,
        parameters: machine.parameters.into(),
    });
    for level in 1..=machine.levels {
        for &(before, after) in &normal.kept {
            stages[before].at = Some(level);
            stages[after].at = Some(level);
        }
        let found = path(&stages, normal.output, machine);
        let better = match (&best, &found) {
            (Ok((_, best)), Ok((_, own))) => own < best,
            (Ok(_), Err(_)) => false,
            (Err(_), _) => true,
        };
        if better {
            best = found;
        }
    }
    best
}

/// The further inputs, and maps of nothing but these, at the highest level that they can have.
fn pin(normal: &Normal, stages: &mut [Stage], levels: usize) {
    let mut left: Vec<Option<usize>> = vec![None; stages.len()];
    for (v, q) in normal.quantities.iter().enumerate() {
        let level = match &q.kind {
            Kind::Input => normal.more.contains(&v).then_some(levels),
            Kind::Linear { .. } => lowest(&q.sources(), &left),
            _ => None,
        };
        let Some(level) = level.filter(|l| *l >= q.depth) else {
            continue;
        };
        left[v] = Some(level - q.depth);
        (stages[v].at, stages[v].landing) = (Some(level), Landing::Held);
    }
}

/// The lowest level of these, if all are known.
fn lowest(sources: &[Id], levels: &[Option<usize>]) -> Option<usize> {
    let known: Option<Vec<usize>> = sources.iter().map(|s| levels[*s]).collect();
    known?.into_iter().min()
}
