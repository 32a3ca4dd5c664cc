//! How much a block map lets magnitudes and errors grow.
//!
//! The work is linear in the weights that are there. A weight vector is read once, however many terms and maps share it. Sums over single
//! rows, which need all terms of a map side by side, are taken exactly where a map's weights pay for it; a map that repeats what was seen
//! before, and would cost more than its share of a file, is bounded by its diagonals' largest values.

use crate::errors::{Mixing, UNIQUE};
use crate::map::{Term, Values};
use crate::work::MapSize;
use crate::{BlockMap, Complex64};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values of row sums that may be worked on for each weight that was not seen before.
const WORK_PER_WEIGHT: usize = 8;
/// The same, whatever the weights are.
const FREE_WORK: usize = 1 << 20;
/// Terms of about the same size in a row, from which on a matrix mixes.
pub(crate) const MIXING_TERMS: f64 = 4.0;

/// What is known of a weight vector.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// Mean of |v|².
    energy: f64,
    /// Largest |v|.
    most: f64,
}

/// What was read of weights, and of a context's transforms. Plans of one network that are compared have most of them in common: meters that share this
/// read those once ([`Meter::sharing`](crate::Meter::sharing)), and say what they would say by themselves. What was read stays in memory with it.
#[derive(Clone, Debug, Default)]
pub struct ReadWeights(Arc<Mutex<Read>>);

/// What a weight vector is known by: the addresses and bytes of what it has stored.
type Address = [(usize, usize); 3];
/// Numbers of weight vectors with how often each stands in a row, in the order in which they are summed, and folds.
type Summed = (Vec<(usize, usize)>, Vec<usize>);

#[derive(Debug, Default)]
struct Read {
    /// Kept alive, so that no other vector has the address; with a number.
    vectors: HashMap<Address, (Values, usize, Summary)>,
    /// Of the rows of an output, the largest Σ|Mₖⱼ|² and the largest Σ|Mₖⱼ|.
    rows: HashMap<Summed, (f64, f64)>,
}

impl Read {
    /// The number of a vector, and what is known of it.
    fn vector(&mut self, values: &Values) -> (usize, Summary) {
        let key = values.stored();
        if let Some((_, number, known)) = self.vectors.get(&key) {
            return (*number, *known);
        }
        let (number, summary) = (self.vectors.len(), Summary::of(values));
        self.vectors.insert(key, (values.clone(), number, summary));
        (number, summary)
    }
}

impl ReadWeights {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a meter read of weights so far.
#[derive(Debug)]
pub(crate) struct Known {
    /// Perhaps by other meters, too.
    pub(crate) read: ReadWeights,
    /// Which vectors this one met, by number.
    met: Vec<bool>,
    /// Maps that are the same wherever they have this name.
    pinned: HashMap<usize, Arc<Gain>>,
    credit: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            read: ReadWeights::default(),
            met: Vec::new(),
            pinned: HashMap::new(),
            credit: FREE_WORK,
        }
    }
}

fn magnitude(v: Complex64) -> f64 {
    if v.im == 0.0 { v.re.abs() } else { v.norm() }
}

impl Summary {
    fn of(values: &Values) -> Self {
        let (mut sum, mut most) = (0.0f64, 0.0f64);
        if let Values::Complex(all) = values {
            for v in all.iter() {
                sum += v.norm_sqr();
                most = most.max(magnitude(*v));
            }
        } else {
            // the sum's order says its last bits, the largest has none: found afterwards it holds nothing up
            let mut used = vec![false; values.weights().len()];
            let of = |k: usize, v: Complex64| (v.norm_sqr(), k);
            values.each_of(of, |_, (square, k)| {
                sum += square;
                used[k] = true;
            });
            let used = values.weights().iter().zip(used).filter(|u| u.1);
            most = used.map(|u| f64::from(u.0.abs())).fold(most, f64::max);
        }
        Self {
            energy: sum / count(values) as f64,
            most,
        }
    }
}

/// Values of a period, each of a run once.
fn count(values: &Values) -> usize {
    values.len() / values.run()
}

impl Known {
    fn summary(&mut self, values: &Values) -> Summary {
        let (number, summary) = self.read.lock().vector(values);
        if self.met.len() <= number {
            self.met.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.met[number], true) {
            let more = WORK_PER_WEIGHT * count(values);
            self.credit = self.credit.saturating_add(more);
        }
        summary
    }

    /// Whether so much work is paid for; then it counts as done.
    fn pay(&mut self, work: usize) -> bool {
        let left = self.credit.checked_sub(work);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// Of a map.
    pub(crate) fn gain(&mut self, map: &BlockMap) -> Arc<Gain> {
        if let Some(known) = map.pin().and_then(|pin| self.pinned.get(&pin)) {
            return known.clone();
        }
        let gain = Arc::new(self.measure(map));
        if let Some(pin) = map.pin() {
            self.pinned.insert(pin, gain.clone());
        }
        gain
    }

    fn measure(&mut self, map: &BlockMap) -> Gain {
        let mut by_output: Vec<Vec<&Term>> = vec![Vec::new(); map.outputs()];
        map.terms().iter().for_each(|t| by_output[t.output].push(t));
        let repeated = repeats(map);
        let folded = (map.folds().len() as f64).exp2();
        let mut gain = Gain {
            mean: 0.0,
            most: 0.0,
            row_sum: 0.0,
            blocks: Vec::with_capacity(map.outputs()),
            terms_of_a_row: by_output.iter().map(Vec::len).max().unwrap_or(1),
            longest: 1,
            size: MapSize::of(map),
            babies: BTreeSet::new(),
            others: Vec::new(),
            slots: map.slots(),
            turns: false,
            offsets: Vec::new(),
            folds: map.folds().to_vec(),
            alike: Mutex::default(),
        };
        let moves = |s: &usize| !s.is_multiple_of(map.slots());
        let babies = map.terms().iter().map(|t| t.baby);
        gain.babies.extend(babies.filter(moves));
        for giant_rotations in map.giant_rotations() {
            gain.others.extend(giant_rotations.iter().map(|c| c.by));
            gain.others.extend(map.folds());
        }
        for terms in &by_output {
            let mut blocks: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
            let (mut most, mut row_sum) = (0.0, 0.0);
            for t in terms {
                let Summary {
                    energy, most: high, ..
                } = self.summary(&t.values);
                let (all, roots) = blocks.entry(t.input).or_default();
                (*all, *roots) = (*all + energy, *roots + energy.sqrt());
                (most, row_sum) = (most + high * high, row_sum + high);
                gain.longest = gain.longest.max(t.values.len());
                // the transforms of a bootstrap are applied to errors that have no direction
                gain.turns |= matches!(t.values, Values::Complex(_)) && map.pin().is_none();
            }
            let mean = folded * blocks.values().map(|b| b.0).sum::<f64>();
            let (mut most, mut row_sum) = (folded * most, folded * row_sum);
            if let Some(largest) = self.rows(map, terms) {
                (most, row_sum) = largest;
            }
            gain.mean = gain.mean.max(mean);
            gain.most = gain.most.max(most);
            gain.row_sum = gain.row_sum.max(row_sum);
            let blocks = blocks.into_iter().map(|(input, (energy, roots))| Block {
                input,
                energy: folded * energy,
                mixes: !repeated && folded * roots * roots >= MIXING_TERMS * energy,
            });
            gain.blocks.push(blocks.collect());
        }
        gain.offsets = (map.terms().iter())
            .map(|t| (t.output, t.input, (t.giant + t.baby) % map.slots()))
            .collect();
        gain
    }

    /// The largest Σ|Mₖⱼ|² of a row of an output, and the largest Σ|Mₖⱼ|, folds included; none where that is too much work.
    fn rows(&mut self, map: &BlockMap, terms: &[&Term]) -> Option<(f64, f64)> {
        // in the order of the terms, never of their addresses: sums of floats depend on it
        let mut different: Vec<(f64, &Values)> = Vec::new();
        let mut places = HashMap::new();
        for t in terms {
            let place = places.entry(t.values.stored());
            let place = *place.or_insert_with(|| {
                different.push((0.0, &t.values));
                different.len() - 1
            });
            different[place].0 += 1.0;
        }
        different.sort_by_key(|(_, values)| values.len());
        // rows repeat with the longest diagonal's period, and those of a run are alike
        let period = different.last().map_or(1, |(_, longest)| longest.len());
        let runs = different.iter().map(|d| d.1).filter(|v| v.len() > 1);
        let run = runs.map(Values::run).min().unwrap_or(1);
        let apart = map.folds().iter().any(|f| f % run != 0);
        let run = if apart { 1 } else { run.min(period) };
        let period = period / run;
        let work: usize = (different.iter())
            .map(|(_, values)| (values.len() / run).max(1))
            .sum();
        if !self.pay(work + period * (2 + map.folds().len())) {
            return None;
        }
        let key: Summed = {
            let mut read = self.read.lock();
            let mut numbered = |(times, values): &(f64, &Values)| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of terms"
                )]
                let times = *times as usize;
                (read.vector(values).0, times)
            };
            let each = different.iter().map(&mut numbered).collect();
            (each, map.folds().to_vec())
        };
        if let Some(known) = self.read.lock().rows.get(&key) {
            return Some(*known);
        }
        // from the shortest to the longest
        let mut rows = vec![(0.0, 0.0)];
        for (times, values) in different {
            let length = (values.len() / run).max(1);
            while rows.len() < length {
                rows.extend_from_within(..);
            }
            let of = |_: usize, v: Complex64| {
                let v = magnitude(v);
                (times * v * v, times * v)
            };
            let add = |row: &mut (f64, f64), (square, size): (f64, f64)| {
                (row.0, row.1) = (row.0 + square, row.1 + size);
            };
            match (values.run() / run).max(1) {
                1 => values.each_of(of, |j, v| add(&mut rows[j], v)),
                alike => values.each_of(of, |j, v| {
                    let rows = &mut rows[alike * j..alike * (j + 1)];
                    rows.iter_mut().for_each(|row| add(row, v));
                }),
            }
        }
        for &f in map.folds() {
            let shifted = |j: usize| rows[(j + f / run) % period];
            rows = (0..period)
                .map(|j| (rows[j].0 + shifted(j).0, rows[j].1 + shifted(j).1))
                .collect();
        }
        let most = |a: f64, b: f64| f64::max(a, b);
        let largest = |a: (f64, f64), b: (f64, f64)| (most(a.0, b.0), most(a.1, b.1));
        let largest = rows.into_iter().fold((0.0, 0.0), largest);
        self.read.lock().rows.insert(key, largest);
        Some(largest)
    }
}

/// Whether two outputs have a diagonal in common: then they are no siblings, their errors are alike.
fn repeats(map: &BlockMap) -> bool {
    let mut terms: Vec<_> = (map.terms().iter())
        .map(|t| {
            let offset = (t.giant + t.baby) % map.slots();
            (t.input, offset, t.values.stored(), t.output)
        })
        .collect();
    terms.sort_unstable();
    (terms.windows(2))
        .any(|w| (w[0].0, w[0].1, w[0].2) == (w[1].0, w[1].1, w[1].2) && w[0].3 != w[1].3)
}

/// What one output takes from one input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) input: usize,
    /// Mean over the rows of Σ|Mₖⱼ|², folds included.
    pub(crate) energy: f64,
    /// Whether many entries of a row count.
    pub(crate) mixes: bool,
}

/// How much a map lets magnitudes and errors grow, folds included.
#[derive(Debug)]
pub(crate) struct Gain {
    /// Mean over the rows of Σⱼ|Mₖⱼ|², of the output where it is largest: the variance of independent errors grows by it.
    pub(crate) mean: f64,
    /// Its largest row, or more.
    pub(crate) most: f64,
    /// Largest Σⱼ|Mₖⱼ|, or more: how the bound on magnitudes grows.
    pub(crate) row_sum: f64,
    /// By output.
    pub(crate) blocks: Vec<Vec<Block>>,
    /// Most terms of an output.
    pub(crate) terms_of_a_row: usize,
    /// Longest diagonal.
    pub(crate) longest: usize,
    /// Its sizes.
    pub(crate) size: MapSize,
    /// Baby steps that rotate.
    pub(crate) babies: BTreeSet<usize>,
    /// All other rotations, one by one.
    pub(crate) others: Vec<usize>,
    slots: usize,
    turns: bool,
    /// (output, input, offset) of every term.
    offsets: Vec<(usize, usize, usize)>,
    folds: Vec<usize>,
    /// What was counted of repetitions, by period.
    alike: Mutex<BTreeMap<usize, f64>>,
}

/// Positions that counting repetitions may work on, whatever the terms are.
const FREE_POSITIONS: usize = 1 << 10;

impl Gain {
    /// The most entries of one row that read the same error of this period.
    fn repetitions(&self, period: usize) -> f64 {
        let period = period.min(self.slots);
        let known = || self.alike.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = known().get(&period) {
            return known;
        }
        let mut all: Vec<_> = (self.offsets.iter())
            .map(|&(output, input, offset)| (output, input, offset % period))
            .collect();
        let mut beyond = 1.0;
        for &f in &self.folds {
            if all.len() > FREE_POSITIONS.max(16 * self.offsets.len()) {
                beyond *= 2.0;
            } else {
                let moved = |&(o, i, at): &(usize, usize, usize)| (o, i, (at + f) % period);
                let more: Vec<_> = all.iter().map(moved).collect();
                all.extend(more);
            }
        }
        all.sort_unstable();
        let most = all.chunk_by(|a, b| a == b).map(<[_]>::len).max();
        let most = beyond * most.unwrap_or(1) as f64;
        known().insert(period, most);
        most
    }
}

impl Mixing for Gain {
    fn gain(&self, energy: f64, period: usize) -> f64 {
        // (Σ over slots that are alike)² ≤ their number × Σ of squares
        (energy * self.repetitions(period)).sqrt().min(self.row_sum)
    }
    fn period(&self, period: usize) -> usize {
        let Gain { slots, folds, .. } = self;
        if period == UNIQUE && folds.is_empty() {
            return UNIQUE;
        }
        let mut period = period.max(self.longest).min(*slots);
        let mut folds: BTreeSet<usize> = folds.iter().map(|f| f % slots).collect();
        // folding by half a period halves it
        while let Some(&half) = folds
            .iter()
            .find(|&f| f % period == period / 2 && period > 1)
        {
            folds.remove(&half);
            period /= 2;
        }
        period
    }
    fn turns(&self) -> bool {
        self.turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another meter read, or this one before, changes nothing that is said of a map, whether its rows are paid for or not.
    #[test]
    fn weights_that_were_read_say_the_same() {
        let (slots, terms) = (1 << 15, 40);
        let vectors: Vec<Values> = (0..5)
            .map(|i| {
                let weight = |j: usize| 1.0 / ((7 * i + 3 * j + 1) as f32);
                Values::Real((0..slots).map(weight).collect())
            })
            .collect();
        let map = |first: usize, times: usize| {
            let term = |i: usize| Term {
                output: i % 2,
                input: 0,
                giant: 0,
                baby: i,
                values: vectors[(first + i / times) % vectors.len()].clone(),
            };
            let all = (0..terms).map(term).collect();
            BlockMap::new(slots, 1, 2, all, vec![slots / 2]).expect("a sound map")
        };
        let maps: Vec<BlockMap> = (0..12).map(|k| map(k % 5, 1 + k % 3)).collect();
        let read = ReadWeights::default();
        let all = |read: Option<&ReadWeights>, order: &mut dyn Iterator<Item = usize>| {
            let mut known = Known::default();
            if let Some(read) = read {
                known.read = read.clone();
            }
            let said = order.map(|k| {
                let gain = known.gain(&maps[k]);
                [gain.mean, gain.most, gain.row_sum].map(f64::to_bits)
            });
            said.collect::<Vec<_>>()
        };
        all(Some(&read), &mut (0..12).rev().chain([3, 5]));
        let alone = all(None, &mut (0..12).chain(0..12));
        assert_eq!(all(Some(&read), &mut (0..12).chain(0..12)), alone);
        assert_eq!(all(Some(&read), &mut (0..12).chain(0..12)), alone);
        // some are bounded by their diagonals alone
        assert!((0..12).any(|k| alone[k] != alone[12 + k]));
    }

    /// Where the weights lie in memory is chance: a plan's bound must not depend on it.
    #[test]
    fn a_gain_does_not_depend_on_addresses() {
        let slots = 64;
        let gain = |descending: bool| {
            let mut room: Vec<Arc<[f32]>> = (0..24).map(|_| vec![0.0; slots].into()).collect();
            room.sort_by_key(|v| v.as_ptr() as usize);
            if descending {
                room.reverse();
            }
            let terms = (room.into_iter().enumerate())
                .map(|(i, mut v)| {
                    let values = Arc::get_mut(&mut v).expect("not shared yet");
                    for (j, x) in values.iter_mut().enumerate() {
                        *x = 1.0 / ((7 * i + 3 * j + 1) as f32);
                    }
                    Term {
                        output: 0,
                        input: 0,
                        giant: 0,
                        baby: i,
                        values: Values::Real(v),
                    }
                })
                .collect();
            let map = BlockMap::new(slots, 1, 1, terms, Vec::new()).expect("a sound map");
            let gain = Known::default().gain(&map);
            (gain.most.to_bits(), gain.row_sum.to_bits())
        };
        assert_eq!(gain(false), gain(true));
    }
}
