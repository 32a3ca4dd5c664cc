//! Baby-step giant-step splits: offset = giant + baby, chosen for cost and for rotations shared with other maps.
//!
//! An offset is a walk (columns, rows, planes). Each axis is cut at some count: the baby step walks the remainder, the giant step the
//! multiple. The smallest (negative) steps go either with the babies or with the giants.

use crate::cost::{CostTable, MapSize};
use crate::pack::{Packed, Walk};
use std::collections::BTreeSet;

/// Level at which splits are weighed.
const TYPICAL_LEVEL: usize = 5;

/// A split of every diagonal of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// (giant, baby) of each diagonal.
    pub(crate) steps: Vec<(usize, usize)>,
    /// Its sizes.
    pub(crate) size: MapSize,
    /// All rotations but 0, folds included.
    pub(crate) rotations: BTreeSet<usize>,
}

/// The cheapest split; a rotation that is not among `known` costs a key more.
pub(crate) fn split(packed: &Packed, known: &BTreeSet<usize>, cost: &CostTable) -> Split {
    let span = (0..3).map(|a| packed.inputs.iter().map(|i| i.span[a]).max().unwrap_or(1)).collect::<Vec<_>>();
    let (baby_cost, giant_cost) = (cost.baby(TYPICAL_LEVEL), cost.giant(TYPICAL_LEVEL));
    let mut is_known = vec![false; packed.slots];
    known.iter().filter(|&&r| r < packed.slots).for_each(|&r| is_known[r] = true);
    let mut tally = Tally::new(packed);
    let mut best: Option<(f64, Walk, Anchor)> = None;
    for c in counts(span[0]) {
        for r in counts(span[1]) {
            for k in counts(span[2]).into_iter().filter(|k| k.count_ones() == 1 || *k == span[2]) {
                for anchor in [Anchor::Baby, Anchor::Giant] {
                    let (size, new) = tally.count(packed, [c, r, k], anchor, &is_known);
                    let price = size.babies as f64 * baby_cost + size.giants as f64 * giant_cost + new as f64 * cost.key;
                    if best.as_ref().is_none_or(|b| price < b.0 * (1.0 - 1e-12)) {
                        best = Some((price, [c, r, k], anchor));
                    }
                }
            }
        }
    }
    let (_, cut, anchor) = best.unwrap_or((0.0, [1, 1, 1], Anchor::Baby));
    let steps: Vec<(usize, usize)> = packed.diagonals.iter().map(|d| cut_one(packed, d.input, &d.walk, &cut, anchor)).collect();
    let (mut size, _) = tally.count(packed, cut, anchor, &is_known);
    size.folds = packed.folds.len() * packed.outputs;
    let rotations = steps.iter().flat_map(|s| [s.0, s.1]).chain(packed.folds.iter().copied()).filter(|&r| r != 0).collect();
    Split { steps, size, rotations }
}

/// Who takes the smallest steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Baby,
    Giant,
}

/// Cuts worth trying on an axis.
fn counts(span: i64) -> Vec<i64> {
    let mut counts: BTreeSet<i64> = (1..=span.min(6)).chain((0..40).map(|e| 1 << e).take_while(|&c| c < span)).collect();
    counts.extend((1..=4).map(|d| (span + d - 1) / d));
    counts.into_iter().collect()
}

fn cut_one(packed: &Packed, input: usize, walk: &Walk, cut: &Walk, anchor: Anchor) -> (usize, usize) {
    let i = &packed.inputs[input];
    let (mut baby, mut giant) = (0, 0);
    for a in 0..3 {
        let step = walk[a] - i.least[a];
        let low = step.rem_euclid(cut[a]);
        baby += low * i.pitch[a];
        giant += (step - low) * i.pitch[a];
        match anchor {
            Anchor::Baby => baby += i.least[a] * i.pitch[a],
            Anchor::Giant => giant += i.least[a] * i.pitch[a],
        }
    }
    let slots = i64::try_from(packed.slots).unwrap_or(i64::MAX);
    let wrap = |x: i64| usize::try_from(x.rem_euclid(slots)).unwrap_or(0);
    (wrap(giant), wrap(baby))
}

/// Distinct (input, output, walk) and marks that are cleared by a stamp.
struct Tally {
    walks: Vec<(usize, usize, Walk)>,
    babies: Vec<u32>,
    giants: Vec<u32>,
    seen: Vec<u32>,
    stamp: u32,
}

impl Tally {
    fn new(packed: &Packed) -> Self {
        Self {
            walks: packed.diagonals.iter().map(|d| (d.input, d.output, d.walk)).collect(),
            babies: vec![0; packed.slots * packed.inputs.len()],
            giants: vec![0; packed.slots * packed.outputs],
            seen: vec![0; packed.slots],
            stamp: 0,
        }
    }

    /// Sizes under a cut, and how many rotations are new.
    fn count(&mut self, packed: &Packed, cut: Walk, anchor: Anchor, known: &[bool]) -> (MapSize, usize) {
        self.stamp += 1;
        let mut size = MapSize { diagonals: packed.diagonals.len(), inputs: packed.inputs.len(), outputs: packed.outputs, ..MapSize::default() };
        let mut new = 0;
        for (input, output, walk) in &self.walks {
            let (giant, baby) = cut_one(packed, *input, walk, &cut, anchor);
            let marks = [(&mut self.babies[input * packed.slots + baby], &mut size.babies, baby), (&mut self.giants[output * packed.slots + giant], &mut size.giants, giant)];
            for (mark, count, rotation) in marks {
                if *mark != self.stamp && rotation != 0 {
                    *mark = self.stamp;
                    *count += 1;
                    if self.seen[rotation] != self.stamp {
                        self.seen[rotation] = self.stamp;
                        new += usize::from(!known[rotation]);
                    }
                }
            }
        }
        (size, new)
    }
}
