//! Baby-step giant-step splits: offset = giant + baby, chosen for cost and for rotations shared with other maps.
//!
//! An offset is a walk (columns, rows, planes). Each axis is cut at some count: the baby step walks the remainder, the giant step the
//! multiple. The smallest (negative) steps go either with the babies or with the giants.

use crate::cost::CostModel;
use crate::pack::{Packed, Walk};
use ckks::MapSize;
use std::collections::BTreeSet;

/// A split of every diagonal of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Split {
    /// (giant, baby) of each diagonal.
    pub(crate) steps: Vec<(usize, usize)>,
    /// Its sizes.
    pub(crate) size: MapSize,
    /// All rotations but 0, folds included, as signed steps: a rotation by −1 is the same whatever the period.
    pub(crate) rotations: BTreeSet<i64>,
}

/// Of every quantity that is a linear map, its split.
pub(crate) type Splits = Vec<Option<Split>>;

/// Splits are chosen in rounds, from the second on with the rotations of all other maps known. How many times its worth a key counts
/// in the first round: each is tried, the best outcome taken.
pub(crate) const EAGERNESS: [f64; 4] = [0.2, 1.0, 6.0, 40.0];

/// Splits every linear map, maps of the same pattern alike.
pub(crate) fn split_all(packed: &[Option<Packed>], cost: &CostModel, key_seconds: f64) -> Splits {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (v, map) in packed.iter().enumerate() {
        let Some(map) = map else { continue };
        match groups
            .iter_mut()
            .find(|g| packed[g[0]].as_ref().is_some_and(|m| alike(m, map)))
        {
            Some(group) => group.push(v),
            None => groups.push(vec![v]),
        }
    }
    // those with the most rotations choose first
    groups.sort_by_key(|g| {
        std::cmp::Reverse(
            g.iter()
                .filter_map(|&v| packed[v].as_ref())
                .map(|m| m.diagonals.len())
                .sum::<usize>(),
        )
    });
    let base = |splits: &[Option<Split>]| -> f64 {
        let level = cost.levels().div_ceil(2);
        let steps = |s: &Split| {
            s.size.babies as f64 * cost.baby(level) + s.size.giants as f64 * cost.giant(level)
        };
        splits.iter().flatten().map(steps).sum::<f64>()
            + rotations(splits).len() as f64 * key_seconds
    };
    let mut best: Option<(f64, Vec<Option<Split>>)> = None;
    for eagerness in EAGERNESS {
        let mut splits: Vec<Option<Split>> = vec![None; packed.len()];
        for factor in [eagerness, 0.5 * (1.0 + eagerness), 1.0, 1.0] {
            for group in &groups {
                let others = splits
                    .iter()
                    .enumerate()
                    .filter(|(w, _)| !group.contains(w))
                    .filter_map(|(_, s)| s.as_ref());
                let known: BTreeSet<i64> =
                    others.flat_map(|s| s.rotations.iter().copied()).collect();
                let maps: Vec<&Packed> = group.iter().filter_map(|&v| packed[v].as_ref()).collect();
                for (&v, split) in
                    group
                        .iter()
                        .zip(split(&maps, &known, cost, factor * key_seconds))
                {
                    splits[v] = Some(split);
                }
            }
        }
        let price = base(&splits);
        if best.as_ref().is_none_or(|b| price < b.0) {
            best = Some((price, splits));
        }
    }
    best.map_or_else(Vec::new, |b| b.1)
}

/// The different rotations of all maps.
pub(crate) fn rotations(splits: &[Option<Split>]) -> BTreeSet<i64> {
    let all = splits.iter().flatten();
    all.flat_map(|s| s.rotations.iter().copied()).collect()
}

/// The cheapest common cut for maps of the same pattern; a rotation that is not among `known` costs a key more.
fn split(
    maps: &[&Packed],
    known: &BTreeSet<i64>,
    cost: &CostModel,
    key_seconds: f64,
) -> Vec<Split> {
    let span = (0..3)
        .map(|a| {
            maps.iter()
                .flat_map(|m| &m.inputs)
                .map(|i| i.span[a])
                .max()
                .unwrap_or(1)
        })
        .collect::<Vec<_>>();
    let level = cost.levels().div_ceil(2);
    let (baby_cost, giant_cost) = (cost.baby(level), cost.giant(level));
    let slots = maps.iter().map(|m| m.slots).max().unwrap_or(1);
    let mut seen = vec![0u32; slots];
    let mut stamp = 0;
    let mut tallies: Vec<Tally> = maps.iter().map(|m| Tally::new(m, known)).collect();
    let mut best: Option<(f64, Walk, Anchor)> = None;
    for c in counts(span[0]) {
        for r in counts(span[1]) {
            for k in counts(span[2])
                .into_iter()
                .filter(|k| k.count_ones() == 1 || *k == span[2])
            {
                for anchor in [Anchor::Baby, Anchor::Giant] {
                    stamp += 1;
                    let mut price = 0.0;
                    for (map, tally) in maps.iter().zip(&mut tallies) {
                        let (size, new) = tally.count(map, [c, r, k], anchor, stamp, &mut seen);
                        price += size.babies as f64 * baby_cost
                            + size.giants as f64 * giant_cost
                            + new as f64 * key_seconds;
                    }
                    if best.as_ref().is_none_or(|b| price < b.0 * (1.0 - 1e-12)) {
                        best = Some((price, [c, r, k], anchor));
                    }
                }
            }
        }
    }
    let (_, cut, anchor) = best.unwrap_or((0.0, [1, 1, 1], Anchor::Baby));
    maps.iter().map(|m| finish(m, &cut, anchor, cost)).collect()
}

/// Whether two maps are cut alike.
fn alike(a: &Packed, b: &Packed) -> bool {
    let pattern = |m: &Packed| {
        (
            m.slots,
            m.period,
            m.outputs,
            m.inputs.first().map(|i| (i.pitch, i.least, i.span)),
        )
    };
    pattern(a) == pattern(b)
}

fn finish(packed: &Packed, cut: &Walk, anchor: Anchor, cost: &CostModel) -> Split {
    let steps: Vec<(usize, usize)> = packed
        .diagonals
        .iter()
        .map(|d| cut_one(packed, d.input, &d.walk, cut, anchor))
        .collect();
    let distinct = |pairs: &mut dyn Iterator<Item = (usize, usize)>| -> BTreeSet<(usize, usize)> {
        pairs.collect()
    };
    let babies = distinct(
        &mut packed
            .diagonals
            .iter()
            .zip(&steps)
            .filter(|(_, s)| s.1 != 0)
            .map(|(d, s)| (d.input, s.1)),
    );
    let giants = distinct(
        &mut packed
            .diagonals
            .iter()
            .zip(&steps)
            .map(|(d, s)| (d.output, s.0)),
    );
    let moved = giants.iter().filter(|g| g.1 != 0).count();
    let size = MapSize {
        diagonals: packed.diagonals.len(),
        babies: babies.len(),
        giants: moved,
        unmoved: giants.len() - moved,
        folds: packed.folds.len(),
        inputs: packed.inputs.len(),
        decomposed: babies.iter().map(|b| b.0).collect::<BTreeSet<_>>().len(),
        outputs: packed.outputs,
        values: packed.diagonals.iter().map(|d| cost.stored(d.len())).sum(),
        butterflies: packed
            .diagonals
            .iter()
            .map(|d| cost.butterflies(d.len()))
            .sum(),
    };
    let all = steps
        .iter()
        .flat_map(|s| [s.0, s.1])
        .chain(packed.folds.iter().copied());
    let rotations = all
        .filter(|&r| r != 0)
        .map(|r| signed(r, packed.slots))
        .collect();
    Split {
        steps,
        size,
        rotations,
    }
}

/// A rotation of vectors with this period, as the step of least magnitude.
pub(crate) fn signed(rotation: usize, slots: usize) -> i64 {
    let step = |r: usize| i64::try_from(r).unwrap_or(i64::MAX);
    if 2 * rotation > slots {
        step(rotation) - step(slots)
    } else {
        step(rotation)
    }
}

/// Who takes the smallest steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Baby,
    Giant,
}

/// Cuts worth trying on an axis.
fn counts(span: i64) -> Vec<i64> {
    let mut counts: BTreeSet<i64> = (1..=span.min(6))
        .chain((0..40).map(|e| 1 << e).take_while(|&c| c < span))
        .collect();
    counts.extend((1..=4).map(|d| (span + d - 1) / d));
    counts.into_iter().collect()
}

fn cut_one(
    packed: &Packed,
    input: usize,
    walk: &Walk,
    cut: &Walk,
    anchor: Anchor,
) -> (usize, usize) {
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
    known: Vec<bool>,
}

/// Rotations but 0.
#[derive(Clone, Copy, Default)]
struct Counted {
    babies: usize,
    giants: usize,
}

impl Tally {
    fn new(packed: &Packed, known: &BTreeSet<i64>) -> Self {
        let folds: BTreeSet<usize> = packed.folds.iter().copied().collect();
        Self {
            walks: packed
                .diagonals
                .iter()
                .map(|d| (d.input, d.output, d.walk))
                .collect(),
            babies: vec![0; packed.slots * packed.inputs.len()],
            giants: vec![0; packed.slots * packed.outputs],
            known: (0..packed.slots)
                .map(|r| folds.contains(&r) || known.contains(&signed(r, packed.slots)))
                .collect(),
        }
    }

    /// Rotations under a cut, and how many are neither known nor seen under this stamp.
    fn count(
        &mut self,
        packed: &Packed,
        cut: Walk,
        anchor: Anchor,
        stamp: u32,
        seen: &mut [u32],
    ) -> (Counted, usize) {
        let mut counted = Counted::default();
        let mut new = 0;
        for (input, output, walk) in &self.walks {
            let (giant, baby) = cut_one(packed, *input, walk, &cut, anchor);
            let marks = [
                (
                    &mut self.babies[input * packed.slots + baby],
                    &mut counted.babies,
                    baby,
                ),
                (
                    &mut self.giants[output * packed.slots + giant],
                    &mut counted.giants,
                    giant,
                ),
            ];
            for (mark, count, rotation) in marks {
                if *mark != stamp && rotation != 0 {
                    *mark = stamp;
                    *count += 1;
                    if seen[rotation] != stamp {
                        seen[rotation] = stamp;
                        new += usize::from(!self.known[rotation]);
                    }
                }
            }
        }
        (counted, new)
    }
}
