//! Ciphertexts of a tensor that hold the same values, which are made once.
//!
//! Where a ciphertext holds a channel or a few (a large batch), a sum over a head's channels that all of them take, or keys that several
//! heads share, would otherwise be computed once for every channel.

use crate::normal::{Domain, Id, Kind, Normal, Quantity};
use crate::pack::{Common, Packed, Survey, Twins, moved, pack};
use std::cmp::Ordering;

/// Packs every linear map as it was surveyed, for different ciphertexts only, and finds which are different.
pub(crate) fn pack_all(normal: &Normal, surveys: &[Survey]) -> (Vec<Option<Packed>>, Vec<Twins>) {
    let mut all: Vec<Twins> = Vec::with_capacity(normal.quantities.len());
    let mut packed = Vec::with_capacity(normal.quantities.len());
    let mut common = Common::default();
    for (q, survey) in normal.quantities.iter().zip(surveys) {
        let (map, twins) = one(normal, q, survey, &all, &mut common);
        packed.push(map);
        all.push(twins);
    }
    (packed, all)
}

fn one(
    normal: &Normal,
    q: &Quantity,
    survey: &Survey,
    all: &[Twins],
    common: &mut Common,
) -> (Option<Packed>, Twins) {
    let count = q.layout.ciphertexts;
    match &q.kind {
        _ if q.domain == Domain::Coefficients => (None, Twins::by_key(0..count)),
        Kind::Input | Kind::Dot { .. } | Kind::Sum { .. } => (None, Twins::by_key(0..count)),
        Kind::Moved { argument, moves } => {
            let map = moved(moves, *argument, common);
            (Some(map), Twins::by_key(0..count))
        }
        Kind::Polynomial { argument, .. } => (None, all[*argument].clone()),
        Kind::Product {
            left, right, add, ..
        } => {
            // one ciphertext, or few, where there are more, repeat
            let operand = |v: Id, i: usize| all[v].of[i % all[v].of.len()];
            let operands = |i: usize| -> Vec<usize> {
                [*left, *right]
                    .into_iter()
                    .chain(add.iter().map(|a| a.1))
                    .map(|v| operand(v, i))
                    .collect()
            };
            let mut twins = Twins::by_key((0..count).map(operands));
            twins.operands = vec![Vec::new(); twins.count];
            for (i, &t) in twins.of.iter().enumerate() {
                twins.operands[t] = operands(i);
            }
            (None, twins)
        }
        Kind::Linear { bias, .. } => {
            let mut map = pack(normal, q, survey, all, common);
            if count == 1 {
                return (Some(map), Twins::by_key(0..1));
            }
            let mut added: Vec<Vec<(u32, u64)>> = vec![Vec::new(); count];
            for ((ciphertext, slot), b) in q.layout.places().into_iter().zip(bias) {
                if *b != 0.0 {
                    added[ciphertext as usize].push((slot, b.to_bits()));
                }
            }
            added.iter_mut().for_each(|a| a.sort_unstable());
            let mut terms: Vec<Vec<_>> = vec![Vec::new(); count];
            for d in &map.diagonals {
                // maps share classes and masks: the same ones lie in one place
                let [_, classes, mask] = d.values.stored();
                let weights = Bits(d.values.weights());
                terms[d.output].push((d.input, d.walk, classes, mask, weights));
            }
            let twins = Twins::by_key(terms.into_iter().zip(added));
            let mut first = vec![usize::MAX; twins.count];
            for (i, &t) in twins.of.iter().enumerate() {
                first[t] = first[t].min(i);
            }
            map.diagonals.retain_mut(|d| {
                let (was, is) = (d.output, twins.of[d.output]);
                d.output = is;
                first[is] == was
            });
            map.outputs = twins.count;
            (Some(map), twins)
        }
    }
}

/// Values that are compared bit by bit, where they lie.
#[derive(Clone, Copy)]
struct Bits<'a>(&'a [f32]);

impl Bits<'_> {
    fn each(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|v| v.to_bits())
    }
}

impl Ord for Bits<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.each().cmp(other.each())
    }
}

impl PartialOrd for Bits<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bits<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bits<'_> {}
