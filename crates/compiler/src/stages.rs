//! What the scheduler must know of every quantity: the levels that it takes and what it costs at each.

use crate::activation::Activation;
use crate::cost::CostModel;
use crate::error::Error;
use crate::normal::{Binding, Id, Kind, Normal, Quantity};
use crate::pack::Twins;
use crate::schedule::{Stage, Way};
use crate::split::Splits;
use approx::Polynomial;
use runtime::Operation;

/// One stage for every quantity.
pub(crate) fn stages(
    normal: &Normal,
    splits: &Splits,
    twins: &[Twins],
    cost: &CostModel,
) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::with_capacity(normal.quantities.len());
    for (v, (q, split)) in normal.quantities.iter().zip(splits).enumerate() {
        let ciphertexts = twins[v].count;
        let operation = representative(q)?;
        let seconds = cost.by_level(q.depth, |level| {
            Ok(match (split, &operation) {
                (Some(split), _) => cost.linear(&split.size, level),
                (None, Some(operation)) => cost.operation(operation, level)? * ciphertexts as f64,
                // encrypting higher costs the client and the wire a little
                (None, None) => 1e-3 * (level * ciphertexts) as f64,
            })
        })?;
        stages.push(stage(normal, v, seconds, (q.layout.period, ciphertexts)));
    }
    Ok(stages)
}

/// The stage of quantity `v`, with seconds at each level, of so many slots and ciphertexts.
pub(crate) fn stage(
    normal: &Normal,
    v: Id,
    seconds: Vec<f64>,
    (slots, ciphertexts): (usize, usize),
) -> Stage {
    let q = &normal.quantities[v];
    Stage {
        layer: q.layer.clone(),
        sources: q.sources(),
        ways: vec![Way::free(q.depth, seconds)],
        slots,
        ciphertexts,
        reserve: normal.reserve(v),
    }
}

/// An operation that costs what the quantity's will: units don't matter.
pub(crate) fn representative(q: &Quantity) -> Result<Option<Operation>, Error> {
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
pub(crate) fn carried_out(
    q: &Quantity,
    binding: Binding,
    polynomial: &Polynomial,
) -> Result<(usize, Operation), Error> {
    let activation = match binding {
        Binding::Free if q.feeds.is_none() => Activation::absorbed(polynomial, 1.0),
        _ => Activation::general(polynomial, 1.0),
    };
    let depth = activation.depth()?;
    Ok((depth, activation.form.operation(0, 1)?))
}
