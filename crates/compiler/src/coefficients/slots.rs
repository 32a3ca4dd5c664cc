//! Layers that look at one place only, between two activations: carried out in slots they take no way down and up again, which costs more than their
//! diagonals where few channels are read. In slots the channels of a ciphertext lie in the high bits, reversed ([`slot_of`]), so that a rotation by a run of
//! places is one of channels; both halves of the places take the same map.

use super::kernel::Kernel;
use super::layout::Laid;
use super::network::{Id, Kind, Quantity};
use crate::Error;
use ckks::coefficients::slot_of;
use ckks::map::{Giants, Term, Values};
use ckks::{BlockMap, Folded};
use std::collections::BTreeSet;

/// Channels of a ciphertext, at most: beyond that there are more diagonals than a way down and up costs.
const MOST_CHANNELS: usize = 256;
/// How much dearer a giant step is than a baby step, whose digits are made once.
const GIANT: usize = 2;

/// Which linear quantities are carried out in slots, and levels that each activation takes until values are in coefficients again.
pub(super) struct Stays {
    pub(super) linear: Vec<bool>,
    pub(super) levels: Vec<usize>,
    /// Of these, how many are left for what is made of its values in slots.
    pub(super) left: Vec<usize>,
}

impl Stays {
    /// Those of these layers where it is possible.
    pub(super) fn of(
        quantities: &[Quantity],
        laid: &Laid,
        layers: &BTreeSet<String>,
    ) -> Result<Self, Error> {
        let linear: Vec<bool> = (0..quantities.len())
            .map(|v| layers.contains(&quantities[v].layer) && possible(quantities, laid, v))
            .collect();
        let (levels, left) = levels(quantities, &linear)?;
        Ok(Self {
            linear,
            levels,
            left,
        })
    }
    /// Whether a quantity is read in slots, or by a linear one in coefficients.
    pub(super) fn read(&self, quantities: &[Quantity], v: Id, in_slots: bool) -> bool {
        let reads = |(w, q): (Id, &Quantity)| match &q.kind {
            Kind::Linear { terms, .. } => {
                self.linear[w] == in_slots && terms.iter().any(|t| t.0 == v)
            }
            Kind::Product { of } => in_slots && of.contains(&v),
            _ => false,
        };
        quantities.iter().enumerate().any(reads)
    }
}

/// [`Stays::levels`] and [`Stays::left`] where these linear quantities are carried out in slots.
pub(super) fn levels(
    quantities: &[Quantity],
    linear: &[bool],
) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let (mut levels, mut left) = (vec![0; quantities.len()], vec![0; quantities.len()]);
    for v in (0..quantities.len()).rev() {
        let kind = &quantities[v].kind;
        left[v] = levels[v];
        if let Kind::Product { of } = kind {
            for id in of {
                levels[*id] = levels[*id].max(levels[v] + 1);
            }
        }
        let Kind::Activation { argument, .. } = kind else {
            continue;
        };
        if let Some(activation) = kind.activation() {
            levels[v] += activation.depth()?;
        }
        if let (true, Kind::Linear { terms, .. }) = (linear[*argument], &quantities[*argument].kind)
        {
            let source = terms[0].0;
            levels[source] = levels[source].max(levels[v] + 1);
        }
    }
    Ok((levels, left))
}

/// The source and the kernel of a linear quantity of one term, of one place, of an activation's values, that becomes one activation's argument alone.
pub(super) fn between_activations(quantities: &[Quantity], v: Id) -> Option<(Id, &Kernel)> {
    let Kind::Linear { terms, .. } = &quantities[v].kind else {
        return None;
    };
    let [(source, kernel)] = &terms[..] else {
        return None;
    };
    let readers = quantities.iter().filter_map(|q| match &q.kind {
        Kind::Activation {
            argument,
            polynomial,
            ..
        } if *argument == v => Some(polynomial.is_some()),
        _ => None,
    });
    let alone = readers.collect::<Vec<_>>() == [true];
    let activation = matches!(quantities[*source].kind, Kind::Activation { .. });
    (alone && activation && kernel.is_pointwise()).then_some((*source, kernel))
}

/// Whether its values, and its source's, lie at the same places, so few channels in a ciphertext that their diagonals are few.
fn possible(quantities: &[Quantity], laid: &Laid, v: Id) -> bool {
    let Some((source, _)) = between_activations(quantities, v) else {
        return false;
    };
    let how = |f: &Folded| (f.gap(), f.spacing(), f.pitch());
    let (from, to) = (&laid.layouts[source], &laid.layouts[v]);
    laid.phases[source] == laid.phases[v]
        && how(from) == how(to)
        && from.gap() == 1
        && from.spacing() <= MOST_CHANNELS
}

/// A kernel, whose weights are multiplied by `factor`, as a map from the ciphertexts of one half of the places to those of the result; values are held in
/// p² phases of each channel, each of which takes the same weights.
pub(super) fn map(
    layer: &str,
    (kernel, p): (&Kernel, usize),
    (from, to): (&Folded, &Folded),
    factor: f64,
) -> Result<BlockMap, Error> {
    let (each, half) = (from.spacing(), from.degree() / 2);
    let run = half / each;
    let (inputs, outputs) = (from.ciphertexts(), to.ciphertexts());
    let cost = |babies: usize| inputs * babies + GIANT * outputs * (each / babies);
    let powers = (0..=each.ilog2()).map(|k| 1 << k);
    let babies = powers.min_by_key(|b| cost(*b)).unwrap_or(1);
    let mut terms = Vec::new();
    for (output, input) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
        for diagonal in 0..each {
            let mut values = vec![0.0; each];
            let mut any = false;
            for (k, value) in values.iter_mut().enumerate() {
                let o = output * each + slot_of(k, each);
                let i = input * each + slot_of((k + diagonal) % each, each);
                let weight =
                    (o % (p * p) == i % (p * p)).then(|| kernel.between(o / (p * p), i / (p * p)));
                let Some(w) = weight.flatten() else {
                    continue;
                };
                *value = narrowed(layer, w * factor)?;
                any = true;
            }
            if any {
                terms.push(Term {
                    input,
                    output,
                    giant: (diagonal - diagonal % babies) * run,
                    baby: diagonal % babies * run,
                    values: Values::runs(values.into(), run),
                });
            }
        }
    }
    // giant steps are multiples of one: chained they take one key
    Ok(BlockMap::new(half, inputs, outputs, terms, Vec::new())?.with_giants(Giants::Chained))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights are in single precision, and finite"
)]
fn narrowed(layer: &str, w: f64) -> Result<f32, Error> {
    let value = w as f32;
    match value.is_finite() {
        true => Ok(value),
        false => Err(Error::Weight {
            layer: layer.into(),
            value: w,
        }),
    }
}

/// What is added to the slots of one half of the places, from values in the order of coefficients, repeated.
pub(super) fn bias(values: &[f64], part: usize, half: usize) -> Vec<f64> {
    let of = |slot: usize| values[(part * half + slot_of(slot, half)) % values.len()];
    (0..half).map(of).collect()
}
