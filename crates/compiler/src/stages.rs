//! What the scheduler must know of every quantity: the levels that it takes and what it costs at each.

use crate::activation::Activation;
use crate::cost::CostModel;
use crate::error::Error;
use crate::normal::{Binding, Domain, Id, Kind, Normal, Quantity};
use crate::schedule::{Landing, Stage, Way};
use approx::Polynomial;
use ckks::MapSize;
use runtime::Operation;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// One stage for every quantity, whose map, if it is one, has this size, and which has so many slots and different ciphertexts; `weighing` are the
/// seconds of linear maps in coefficients, by quantity.
pub(crate) fn stages<'a>(
    normal: &Normal,
    sizes: impl Iterator<Item = (Option<&'a MapSize>, usize, usize)>,
    cost: &CostModel,
    weighing: &[f64],
) -> Result<Vec<Stage>, Error> {
    // what operations of one ciphertext cost at each level
    let mut known: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut stages = Vec::with_capacity(normal.quantities.len());
    for (v, (q, (map, slots, ciphertexts))) in normal.quantities.iter().zip(sizes).enumerate() {
        let seconds = match (map, representative(q)?) {
            _ if q.domain == Domain::Coefficients => {
                let seconds = weighing.get(v).copied().unwrap_or(f64::INFINITY);
                cost.by_level(0, |_| Ok(seconds))?
            }
            (Some(size), _) => cost.by_level(q.depth, |level| Ok(cost.linear(size, level)))?,
            (None, Some(operation)) => {
                let one = match known.entry(cost_key(&operation)) {
                    Entry::Occupied(seconds) => seconds.into_mut(),
                    Entry::Vacant(place) => {
                        place.insert(cost.by_level(q.depth, |l| cost.operation(&operation, l))?)
                    }
                };
                one.iter().map(|s| s * ciphertexts as f64).collect()
            }
            (None, None) => cost.by_level(0, |l| Ok(cost.encrypted(l) * ciphertexts as f64))?,
        };
        stages.push(Stage {
            layer: q.layer.clone(),
            sources: q.sources(),
            ways: vec![Way::free(q.depth, seconds)],
            slots,
            ciphertexts,
            reserve: normal.reserve(v),
            landing: landing(normal, v),
            at: None,
        });
    }
    Ok(stages)
}

fn landing(normal: &Normal, v: Id) -> Landing {
    let all = &normal.quantities;
    match &all[v].kind {
        _ if all[v].domain == Domain::Coefficients => Landing::Up,
        // copies for one product
        Kind::Moved { argument, .. }
            if all[v].layout.ciphertexts > all[*argument].layout.ciphertexts =>
        {
            Landing::Held
        }
        // parts of sums, which are not masked yet; and what is kept as it is
        Kind::Dot { .. } | Kind::Sum { .. } => Landing::Held,
        _ => Landing::Free,
    }
}

/// The same for operations that cost the same.
fn cost_key(operation: &Operation) -> String {
    match operation {
        Operation::Polynomial { polynomial, .. } => {
            format!("polynomial {:?}", polynomial.coefficients())
        }
        Operation::Multiply { add, more, .. } => format!("multiply {} {}", add.len(), more.len()),
        other => format!("{other:?}"),
    }
}

/// An operation that costs what the quantity's will: units don't matter.
fn representative(q: &Quantity) -> Result<Option<Operation>, Error> {
    Ok(match &q.kind {
        Kind::Input | Kind::Linear { .. } | Kind::Moved { .. } => None,
        Kind::Sum { .. } => Some(Operation::Add {
            left: 0,
            right: 0,
            output: 1,
        }),
        Kind::Dot { pairs, .. } => Some(Operation::Multiply {
            left: 0,
            right: 0,
            more: vec![(0, 0); pairs.iter().map(Vec::len).max().unwrap_or(1) - 1],
            output: 1,
            factor: 1,
            add: Vec::new(),
            constant: 0.0,
            bound: 1.0,
        }),
        Kind::Product { add, .. } => Some(Operation::Multiply {
            left: 0,
            right: 0,
            more: Vec::new(),
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
