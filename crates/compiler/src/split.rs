//! Baby-step giant-step splits: offset = giant + baby, chosen for cost and for rotations shared with other maps.
//!
//! An offset is a walk (columns, rows, planes). Each axis is cut at some count: the baby step walks the remainder, the giant step the
//! multiple. The smallest (negative) steps go either with the babies or with the giants.

use crate::cost::CostModel;
use crate::layout::narrow;
use crate::pack::{Diagonal, Packed, Walk};
use ckks::MapSize;
use ckks::map::GiantRotation;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

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

/// Of every quantity that is a linear map, what its cuts come to.
pub(crate) type Tallies = Vec<Option<RefCell<Tally>>>;

/// The tallies of these maps, empty.
pub(crate) fn tallies(packed: &[Option<Packed>]) -> Tallies {
    let of = |map: &Packed| RefCell::new(Tally::new(map));
    packed.iter().map(|map| map.as_ref().map(of)).collect()
}

/// A map while its splits are chosen.
struct Map<'a> {
    packed: &'a Packed,
    tally: &'a RefCell<Tally>,
    /// But for what a split decides.
    size: MapSize,
    /// What was chosen so far, by cut.
    made: RefCell<BTreeMap<(Walk, Anchor), Rc<Split>>>,
}

/// Splits every linear map, maps of the same pattern alike.
pub(crate) fn split_all(
    (packed, tallies): (&[Option<Packed>], &Tallies),
    cost: &CostModel,
    key_seconds: f64,
) -> Splits {
    let maps: Vec<Option<Map<'_>>> = (packed.iter().zip(tallies))
        .map(|(packed, tally)| {
            let packed = packed.as_ref()?;
            Some(Map {
                packed,
                tally: tally.as_ref()?,
                size: unsplit(packed, cost),
                made: RefCell::default(),
            })
        })
        .collect();
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
        |g: &[usize]| -> Vec<&Map<'_>> { g.iter().filter_map(|&v| maps[v].as_ref()).collect() };
    let diagonals = |m: &&Map<'_>| m.packed.diagonals.len();
    groups.sort_by_key(|g| Reverse(maps_of(g).iter().map(diagonals).sum::<usize>()));
    let base = |splits: &[Option<Rc<Split>>]| -> f64 {
        let level = cost.levels().div_ceil(2).max(1);
        let each = splits.iter().flatten();
        each.map(|s| cost.linear(&s.size, level)).sum::<f64>()
            + known(splits).len() as f64 * key_seconds
    };
    let tries = FIRST_KEY_FACTORS.map(|first| {
        let mut splits: Vec<Option<Rc<Split>>> = vec![None; packed.len()];
        for factor in [first, 0.5 * (1.0 + first), 1.0, 1.0] {
            for group in &groups {
                // of all other maps
                group.iter().for_each(|&v| splits[v] = None);
                let known = known(&splits);
                let made = split(&maps_of(group), &known, cost, factor * key_seconds);
                for (&v, split) in group.iter().zip(made) {
                    splits[v] = Some(split);
                }
            }
        }
        (base(&splits), splits)
    });
    let best = tries.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    drop(maps);
    let own = |split: Rc<Split>| Rc::try_unwrap(split).unwrap_or_else(|s| (*s).clone());
    let best = best.map_or_else(Vec::new, |b| b.1);
    best.into_iter().map(|split| split.map(own)).collect()
}

/// The different rotations of all maps.
pub(crate) fn rotations(splits: &[Option<Split>]) -> BTreeSet<i64> {
    let all = splits.iter().flatten();
    all.flat_map(|s| s.rotations.iter().copied()).collect()
}

/// The same while they are chosen.
fn known(splits: &[Option<Rc<Split>>]) -> BTreeSet<i64> {
    let all = splits.iter().flatten();
    all.flat_map(|s| s.rotations.iter().copied()).collect()
}

/// The cheapest common cut for maps of the same pattern; a rotation that is not among `known` costs a key more.
fn split(
    maps: &[&Map<'_>],
    known: &BTreeSet<i64>,
    cost: &CostModel,
    key_seconds: f64,
) -> Vec<Rc<Split>> {
    let inputs = || maps.iter().flat_map(|m| &m.packed.inputs);
    let span = [0, 1, 2].map(|a| inputs().map(|i| i.span[a]).max().unwrap_or(1));
    let seconds = cost.maps_at(cost.levels().div_ceil(2).max(1));
    let slots = maps.iter().map(|m| m.packed.slots).max().unwrap_or(1);
    let known: Vec<Bits> = maps.iter().map(|m| without_keys(m.packed, known)).collect();
    let mut seen = Bits::new(slots);
    let mut best: Option<(f64, Walk, Anchor)> = None;
    let [columns, rows, planes] = span.map(|s| cuts(usize::try_from(s).unwrap_or(1)));
    let walk = |cut: &usize| i64::try_from(*cut).unwrap_or(1);
    for c in columns.iter().map(walk) {
        for r in rows.iter().map(walk) {
            let planes = planes.iter().map(walk);
            for k in planes.filter(|k| k.count_ones() == 1 || *k == span[2]) {
                for anchor in [Anchor::Baby, Anchor::Giant] {
                    seen.0.fill(0);
                    let mut price = 0.0;
                    for (map, known) in maps.iter().zip(&known) {
                        let mut tally = map.tally.borrow_mut();
                        let counted = tally.count([c, r, k], anchor);
                        let size = MapSize {
                            babies: counted.babies,
                            giants: counted.giants,
                            decomposed: map.size.inputs.min(counted.babies),
                            ..map.size
                        };
                        let new = counted.unseen(known, &mut seen);
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
    let made = |m: &&Map<'_>| {
        let mut made = m.made.borrow_mut();
        let new = || Rc::new(finish(m.packed, &cut, anchor, (cost, &m.size)));
        made.entry((cut, anchor)).or_insert_with(new).clone()
    };
    maps.iter().map(made).collect()
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

fn finish(
    packed: &Packed,
    cut: &Walk,
    anchor: Anchor,
    (cost, unsplit): (&CostModel, &MapSize),
) -> Split {
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
        ..*unsplit
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A set of rotations.
#[derive(Clone, Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }
    /// Whether it was not there.
    fn add(&mut self, rotation: usize) -> bool {
        let (word, bit) = (&mut self.0[rotation / 64], 1 << (rotation % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Rotations of a map that take no key more: those of other maps, and its folds.
fn without_keys(packed: &Packed, known: &BTreeSet<i64>) -> Bits {
    let mut bits = Bits::new(packed.slots);
    let slots = i64::try_from(packed.slots).unwrap_or(i64::MAX);
    let steps = known.iter().map(|&step| (step, step.rem_euclid(slots)));
    for (step, rotation) in steps {
        let rotation = usize::try_from(rotation).unwrap_or(0);
        if signed(rotation, packed.slots) == step {
            bits.add(rotation);
        }
    }
    packed
        .folds
        .iter()
        .filter(|f| **f < packed.slots)
        .for_each(|f| {
            bits.add(*f);
        });
    bits
}

/// What a cut of a map comes to.
#[derive(Clone, Debug)]
struct Counted {
    /// Rotations but 0 of inputs.
    babies: usize,
    /// And of sums for outputs.
    giants: usize,
    /// The different ones of both: bits, by number of the word.
    rotations: Vec<(u32, u64)>,
}

impl Counted {
    /// How many rotations are neither known nor seen; then they are.
    fn unseen(&self, known: &Bits, seen: &mut Bits) -> usize {
        let mut new = 0;
        for &(word, bits) in &self.rotations {
            let word = word as usize;
            new += (bits & !known.0[word] & !seen.0[word]).count_ones() as usize;
            seen.0[word] |= bits;
        }
        new
    }
}

/// Steps from the smallest of an input, and which smallest these are.
type Step = (u32, [u32; 3]);

/// Steps that belong together, each once, and how many inputs or outputs have just these.
type Steps = Vec<(usize, Vec<Step>)>;

/// What cuts of a map come to: each is counted once, since rounds ask for it again and again.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    slots: usize,
    /// Pitches and smallest steps of inputs, each once.
    frames: Vec<(Walk, Walk)>,
    /// The least that is taken off all walks along each axis beside the smallest steps, and how many steps there are from there on.
    first: Walk,
    count: [usize; 3],
    /// Of inputs, and of outputs.
    inputs: Steps,
    outputs: Steps,
    known: BTreeMap<(Walk, Anchor), Counted>,
}

impl Tally {
    fn new(packed: &Packed) -> Self {
        let mut frames = Vec::new();
        let of: Vec<usize> = (packed.inputs.iter())
            .map(|i| {
                let frame = (i.pitch, i.least);
                let known = frames.iter().position(|f| *f == frame);
                known.unwrap_or_else(|| {
                    frames.push(frame);
                    frames.len() - 1
                })
            })
            .collect();
        let step = |d: &Diagonal| {
            let least = &packed.inputs[d.input].least;
            [0, 1, 2].map(|a| d.walk[a] - least[a])
        };
        let steps = || packed.diagonals.iter().map(step);
        let first = [0, 1, 2].map(|a| steps().map(|s| s[a]).min().unwrap_or(0).min(0));
        let last = [0, 1, 2].map(|a| steps().map(|s| s[a]).max().unwrap_or(0).max(0));
        let far = |a: usize, step: i64| u32::try_from(step - first[a]).unwrap_or(u32::MAX);
        let mut inputs = vec![Vec::new(); packed.inputs.len()];
        let mut outputs = vec![Vec::new(); packed.outputs];
        for (d, step) in packed.diagonals.iter().zip(steps()) {
            let step = (narrow(of[d.input]), [0, 1, 2].map(|a| far(a, step[a])));
            inputs[d.input].push(step);
            outputs[d.output].push(step);
        }
        let together = |all: Vec<Vec<Step>>| -> Steps {
            let mut times: BTreeMap<Vec<Step>, usize> = BTreeMap::new();
            for mut steps in all {
                steps.sort_unstable();
                steps.dedup();
                *times.entry(steps).or_default() += 1;
            }
            times.into_iter().map(|(steps, n)| (n, steps)).collect()
        };
        Self {
            slots: packed.slots,
            frames,
            first,
            count: [0, 1, 2].map(|a| far(a, last[a]) as usize + 1),
            inputs: together(inputs),
            outputs: together(outputs),
            known: BTreeMap::new(),
        }
    }

    fn count(&mut self, cut: Walk, anchor: Anchor) -> &Counted {
        if !self.known.contains_key(&(cut, anchor)) {
            let counted = self.counted(cut, anchor);
            self.known.insert((cut, anchor), counted);
        }
        &self.known[&(cut, anchor)]
    }

    fn counted(&self, cut: Walk, anchor: Anchor) -> Counted {
        let mut all = Bits::new(self.slots);
        let mut of = |steps: &Steps, giants: bool| -> usize {
            let axes = self.axes(cut, anchor, giants);
            // of which of the lists a rotation was met last
            let mut met = vec![0; self.slots];
            let mut count = 0;
            for (number, (times, steps)) in (1..).zip(steps) {
                let mut own = 0;
                for (frame, step) in steps {
                    let [columns, rows, planes] = &axes[*frame as usize];
                    let far = columns[step[0] as usize]
                        .wrapping_add(rows[step[1] as usize])
                        .wrapping_add(planes[step[2] as usize]);
                    let rotation = far & (self.slots - 1);
                    if rotation != 0 && met[rotation] != number {
                        met[rotation] = number;
                        own += 1;
                        all.add(rotation);
                    }
                }
                count += times * own;
            }
            count
        };
        let (babies, giants) = (of(&self.inputs, false), of(&self.outputs, true));
        let words = (0..).zip(all.0).filter(|w| w.1 != 0);
        Counted {
            babies,
            giants,
            rotations: words.collect(),
        }
    }

    /// By frame and axis, what every step adds to the baby step or to the giant one, modulo the slots.
    fn axes(&self, cut: Walk, anchor: Anchor, giants: bool) -> Vec<[Vec<usize>; 3]> {
        let last = i64::try_from(self.slots).unwrap_or(i64::MAX) - 1;
        let wrap = |x: i64| usize::try_from(x & last).unwrap_or(0);
        let of = |&(pitch, least): &(Walk, Walk)| {
            [0, 1, 2].map(|a| {
                let far = |n: usize| {
                    let step = self.first[a] + i64::try_from(n).unwrap_or(0);
                    let low = step.rem_euclid(cut[a]);
                    let smallest = match giants == (anchor == Anchor::Giant) {
                        true => least[a],
                        false => 0,
                    };
                    let own = if giants { step - low } else { low };
                    wrap((own + smallest) * pitch[a])
                };
                (0..self.count[a]).map(far).collect()
            })
        };
        self.frames.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use crate::draft::Draft;
    use crate::random::Random;
    use ckks::ParametersSpec;

    /// Beside counting the steps of every diagonal.
    #[test]
    fn a_tally_counts_what_diagonals_have() {
        let mut random = Random(2);
        let mut several = 0;
        for case in 0..24 {
            let graph = random.pictures();
            let target = Target::default();
            let set = ParametersSpec::toy_levelled([7, 8, 10][case % 3], 8);
            let mut draft = Draft::normal(&graph, &target, set, None).expect("known");
            let maps = draft.pack().expect("fits");
            for (packed, tally) in maps.iter().zip(&draft.tallies) {
                let (Some(packed), Some(tally)) = (packed, tally) else {
                    continue;
                };
                let mut tally = tally.borrow_mut();
                several += usize::from(tally.inputs.len() < packed.inputs.len());
                let known: BTreeSet<i64> =
                    (0..20).map(|_| random.pick(0, 200) as i64 - 100).collect();
                let keys = without_keys(packed, &known);
                for _ in 0..40 {
                    let cut = [0; 3].map(|_| random.pick(1, 9) as i64);
                    for anchor in [Anchor::Baby, Anchor::Giant] {
                        let steps: Vec<_> = (packed.diagonals.iter())
                            .map(|d| (d, cut_one(packed, d.input, &d.walk, &cut, anchor)))
                            .collect();
                        let babies: BTreeSet<_> = (steps.iter())
                            .filter(|s| s.1.1 != 0)
                            .map(|(d, s)| (d.input, s.1))
                            .collect();
                        let giants: BTreeSet<_> = (steps.iter())
                            .filter(|s| s.1.0 != 0)
                            .map(|(d, s)| (d.output, s.0))
                            .collect();
                        let all: BTreeSet<usize> =
                            babies.iter().chain(&giants).map(|s| s.1).collect();
                        let has_key = |r: &&usize| {
                            packed.folds.contains(r) || known.contains(&signed(**r, packed.slots))
                        };
                        let new = all.iter().filter(|r| !has_key(r)).count();
                        let counted = tally.count(cut, anchor);
                        assert_eq!(
                            (counted.babies, counted.giants),
                            (babies.len(), giants.len())
                        );
                        let mut seen = Bits::new(packed.slots);
                        assert_eq!(counted.unseen(&keys, &mut seen), new);
                        assert_eq!(counted.unseen(&keys, &mut seen), 0);
                        let rotations =
                            (0..packed.slots).filter(|r| seen.0[r / 64] >> (r % 64) & 1 == 1);
                        assert!(rotations.eq(all));
                    }
                }
            }
        }
        assert!(several > 0);
    }
}
