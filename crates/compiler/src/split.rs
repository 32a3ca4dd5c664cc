//! Baby-step giant-step splits: offset = giant + baby, chosen for cost and for rotations shared with other maps.
//!
//! An offset is a walk (columns, rows, planes). Each axis is cut at some count: the baby step walks the remainder, the giant step the
//! multiple. The smallest (negative) steps go either with the babies or with the giants.

use crate::cost::CostModel;
use crate::pack::{Packed, Walk};
use ckks::MapSize;
use ckks::map::GiantRotation;
use std::cmp::Reverse;
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
pub(crate) const FIRST_KEY_FACTORS: [f64; 4] = [0.2, 1.0, 6.0, 40.0];

/// Splits every linear map, maps of the same pattern alike.
pub(crate) fn split_all(packed: &[Option<Packed>], cost: &CostModel, key_seconds: f64) -> Splits {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (v, map) in packed.iter().enumerate() {
        let Some(map) = map else { continue };
        let same = |g: &&mut Vec<usize>| packed[g[0]].as_ref().is_some_and(|m| alike(m, map));
        match groups.iter_mut().find(same) {
            Some(group) => group.push(v),
            None => groups.push(vec![v]),
        }
    }
    // those with the most rotations choose first
    let maps_of =
        |g: &[usize]| -> Vec<&Packed> { g.iter().filter_map(|&v| packed[v].as_ref()).collect() };
    let diagonals = |m: &&Packed| m.diagonals.len();
    groups.sort_by_key(|g| Reverse(maps_of(g).iter().map(diagonals).sum::<usize>()));
    let base = |splits: &[Option<Split>]| -> f64 {
        let level = cost.levels().div_ceil(2).max(1);
        let each = splits.iter().flatten();
        each.map(|s| cost.linear(&s.size, level)).sum::<f64>()
            + rotations(splits).len() as f64 * key_seconds
    };
    let tries = FIRST_KEY_FACTORS.map(|first| {
        let mut splits: Vec<Option<Split>> = vec![None; packed.len()];
        for factor in [first, 0.5 * (1.0 + first), 1.0, 1.0] {
            for group in &groups {
                // of all other maps
                group.iter().for_each(|&v| splits[v] = None);
                let known = rotations(&splits);
                let made = split(&maps_of(group), &known, cost, factor * key_seconds);
                for (&v, split) in group.iter().zip(made) {
                    splits[v] = Some(split);
                }
            }
        }
        (base(&splits), splits)
    });
    let best = tries.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
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
    let inputs = || maps.iter().flat_map(|m| &m.inputs);
    let span = [0, 1, 2].map(|a| inputs().map(|i| i.span[a]).max().unwrap_or(1));
    let seconds = cost.maps_at(cost.levels().div_ceil(2).max(1));
    let sizes: Vec<MapSize> = maps.iter().map(|m| unsplit(m, cost)).collect();
    let slots = maps.iter().map(|m| m.slots).max().unwrap_or(1);
    let mut seen = vec![0u32; slots];
    let mut stamp = 0;
    let mut tallies: Vec<Tally> = maps.iter().map(|m| Tally::new(m, known)).collect();
    let mut best: Option<(f64, Walk, Anchor)> = None;
    let [columns, rows, planes] = span.map(|s| cuts(usize::try_from(s).unwrap_or(1)));
    let walk = |cut: &usize| i64::try_from(*cut).unwrap_or(1);
    for c in columns.iter().map(walk) {
        for r in rows.iter().map(walk) {
            let planes = planes.iter().map(walk);
            for k in planes.filter(|k| k.count_ones() == 1 || *k == span[2]) {
                for anchor in [Anchor::Baby, Anchor::Giant] {
                    stamp += 1;
                    let mut price = 0.0;
                    for ((map, tally), size) in maps.iter().zip(&mut tallies).zip(&sizes) {
                        let [babies, giants, new] =
                            tally.count(map, [c, r, k], anchor, stamp, &mut seen);
                        let size = MapSize {
                            babies,
                            giants,
                            decomposed: size.inputs.min(babies),
                            ..*size
                        };
                        price += seconds(&size) + new as f64 * key_seconds;
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

/// A map's size but for what a split decides.
fn unsplit(packed: &Packed, cost: &CostModel) -> MapSize {
    let lengths = || packed.diagonals.iter().map(|d| d.values.len());
    MapSize {
        diagonals: packed.diagonals.len(),
        folds: packed.folds.len(),
        inputs: packed.inputs.len(),
        outputs: packed.outputs,
        values: lengths().map(|len| cost.stored(len)).sum(),
        butterflies: lengths().map(|len| cost.butterflies(len)).sum(),
        ..MapSize::default()
    }
}

fn finish(packed: &Packed, cut: &Walk, anchor: Anchor, cost: &CostModel) -> Split {
    let steps: Vec<(usize, usize)> = packed
        .diagonals
        .iter()
        .map(|d| cut_one(packed, d.input, &d.walk, cut, anchor))
        .collect();
    let pairs = || packed.diagonals.iter().zip(&steps);
    let babies: BTreeSet<(usize, usize)> = pairs()
        .filter(|(_, s)| s.1 != 0)
        .map(|(d, s)| (d.input, s.1))
        .collect();
    let giants: BTreeSet<(usize, usize)> = pairs().map(|(d, s)| (d.output, s.0)).collect();
    let moved = giants.iter().filter(|g| g.1 != 0).count();
    let size = MapSize {
        babies: babies.len(),
        giants: moved,
        unmoved: giants.len() - moved,
        decomposed: babies.iter().map(|b| b.0).collect::<BTreeSet<_>>().len(),
        ..unsplit(packed, cost)
    };
    let slots = packed.slots;
    let babies = steps
        .iter()
        .map(|s| s.1)
        .chain(packed.folds.iter().copied());
    let known: BTreeSet<usize> = babies.collect();
    let mut differences = Vec::new();
    let mut of_output = vec![BTreeSet::new(); packed.outputs];
    for &(output, giant) in &giants {
        of_output[output].insert(giant);
    }
    let giant_rotations: Vec<GiantRotation> = (of_output.iter())
        .flat_map(|g| (cost.giants()).giant_rotations(g, slots, &known, &mut differences))
        .collect();
    let all = known
        .into_iter()
        .chain(giant_rotations.into_iter().map(|c| c.by));
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
pub(crate) fn cuts(span: usize) -> BTreeSet<usize> {
    let powers = (0..usize::BITS).map(|e| 1 << e);
    (1..=span.min(6))
        .chain(powers.take_while(|&c| c < span))
        .chain((1..=4).map(|d| span.div_ceil(d)))
        .collect()
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
    // a layout's period is a power of two, and this is asked millions of times
    let last = i64::try_from(packed.slots).unwrap_or(i64::MAX) - 1;
    let wrap = |x: i64| usize::try_from(x & last).unwrap_or(0);
    (wrap(giant), wrap(baby))
}

/// Distinct (input, output, walk) and marks that are cleared by a stamp.
struct Tally {
    walks: Vec<(usize, usize, Walk)>,
    babies: Vec<u32>,
    giants: Vec<u32>,
    known: Vec<bool>,
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

    /// Baby and giant rotations but 0 under a cut, and how many of them are neither known nor seen under this stamp.
    fn count(
        &mut self,
        packed: &Packed,
        cut: Walk,
        anchor: Anchor,
        stamp: u32,
        seen: &mut [u32],
    ) -> [usize; 3] {
        let [mut babies, mut giants, mut new] = [0; 3];
        for (input, output, walk) in &self.walks {
            let (giant, baby) = cut_one(packed, *input, walk, &cut, anchor);
            let marks = [
                (
                    &mut self.babies[input * packed.slots + baby],
                    &mut babies,
                    baby,
                ),
                (
                    &mut self.giants[output * packed.slots + giant],
                    &mut giants,
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
        [babies, giants, new]
    }
}
