//! The work of the evaluator's operations: one table, read by the meter, by planners, and by whoever predicts.
//!
//! Everything is counted at a level of a parameter set ([`At`]): so many transforms, multiply-adds and passes over limbs. Seconds come
//! from a [`CostTable`].

use crate::keys::KeyName;
use crate::{BlockMap, Level, Parameters, SwitchingKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Counts of work; limb counts are in units of N coefficients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// NTTs of one limb of N (smaller ones count by their size).
    pub ntts: f64,
    /// Lazy multiply-adds of one limb by one limb (inner products with keys and diagonals).
    pub multiply_adds: f64,
    /// Multiply-adds of basis conversion: (source limb, target limb) pairs.
    pub conversions: f64,
    /// Passes of additions, scalar products, permutations over one limb.
    pub passes: f64,
    /// Limbs of key expanded from seeds.
    pub expansions: f64,
    /// Encoded slots times log2(slots): butterflies of the f64 transform.
    pub encodes: f64,
    /// Decompositions into digits.
    pub decompositions: f64,
    /// Inner products with a key.
    pub key_switches: f64,
    /// Bootstraps.
    pub bootstraps: f64,
}

impl Cost {
    fn fields(&mut self) -> [&mut f64; 9] {
        [
            &mut self.ntts,
            &mut self.multiply_adds,
            &mut self.conversions,
            &mut self.passes,
            &mut self.expansions,
            &mut self.encodes,
            &mut self.decompositions,
            &mut self.key_switches,
            &mut self.bootstraps,
        ]
    }
    /// Sum.
    #[must_use]
    pub fn plus(mut self, mut other: Self) -> Self {
        for (a, b) in self.fields().into_iter().zip(other.fields()) {
            *a += *b;
        }
        self
    }
    /// The same work so many times.
    #[must_use]
    pub fn times(mut self, count: f64) -> Self {
        self.fields().into_iter().for_each(|a| *a *= count);
        self
    }
    /// Work in a ring of degree 2^log_small in limbs of one of degree 2^log_n, each unit by what it takes there; switches of keys are counted one by one.
    #[must_use]
    pub(crate) fn in_ring(self, log_small: u32, log_n: u32) -> Self {
        // toys stand for rings as far apart whose costs are known
        let log_large = log_n.max(16);
        let table = CostTable::default();
        let small = table
            .for_ring((log_large + log_small - log_n).max(13))
            .units();
        let large = table.for_ring(log_large).units();
        // what lies deeper costs as at the least known degree, by its size
        let below = (13 - i64::from(log_large + log_small - log_n)).max(0);
        let share = |unit: usize| small[unit] / large[unit] * 0.5f64.powi(below as i32);
        Self {
            ntts: self.ntts * share(0),
            multiply_adds: self.multiply_adds * share(1),
            conversions: self.conversions * share(2),
            passes: self.passes * share(3),
            expansions: self.expansions * share(4),
            ..self
        }
    }
    /// Difference: the work between two readings.
    #[must_use]
    pub fn since(mut self, mut earlier: Self) -> Self {
        for (a, b) in self.fields().into_iter().zip(earlier.fields()) {
            *a -= *b;
        }
        self
    }
    /// How much of each kind of work that has a cost of its own, in the order of [`CostTable::units`]; the others are made of these.
    pub fn units(&self) -> [f64; UNITS] {
        [
            self.ntts,
            self.multiply_adds,
            self.conversions,
            self.passes,
            self.expansions,
            self.encodes,
        ]
    }
    /// By primitive: (name, count, CPU seconds); the seconds add up to [`Cost::seconds`].
    pub fn primitives(&self, table: &CostTable) -> Vec<(&'static str, f64, f64)> {
        let each = self.units().into_iter().zip(table.units());
        let named = NAMES.into_iter().zip(each);
        named.map(|(name, (n, each))| (name, n, n * each)).collect()
    }
    /// CPU seconds.
    pub fn seconds(&self, table: &CostTable) -> f64 {
        let each = self.units().into_iter().zip(table.units());
        each.map(|(n, each)| n * each).sum()
    }
}

/// Kinds of work that have a cost of their own.
pub const UNITS: usize = 6;

const NAMES: [&str; UNITS] = [
    "NTT",
    "inner products",
    "basis conversion",
    "additions, permutations",
    "key expansion",
    "encoding",
];

/// CPU seconds of one unit of each kind of work; for N = 2^16 unless it comes from [`CostTable::for_ring`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// One NTT of one limb.
    pub ntt: f64,
    /// One lazy multiply-add of a limb.
    pub multiply_add: f64,
    /// One (source, target) limb pair of basis conversion.
    pub conversion: f64,
    /// One pass over a limb.
    pub pass: f64,
    /// One limb expanded from a seed.
    pub expansion: f64,
    /// One butterfly of the encoder.
    pub encode: f64,
}

/// What a limb in a ring is of one for N = 2^16. Rings below 2^13 are toys that stand for 2^16: what they cost is what it costs.
pub fn ring_share(log_n: u32) -> f64 {
    match log_n {
        13.. => (f64::from(log_n) - 16.0).exp2(),
        _ => 1.0,
    }
}

impl Default for CostTable {
    /// Shipped default: N = 2^16 on an AMD EPYC (Zen 4), as fitted by `polyveil bench --save --with-network`.
    fn default() -> Self {
        Self {
            ntt: 0.094e-3,
            multiply_add: 24.7e-6,
            conversion: 8.75e-6,
            pass: 38e-6,
            expansion: 47.7e-6,
            encode: 1.105e-9,
        }
    }
}

impl From<[f64; UNITS]> for CostTable {
    /// From the costs in the order of the fields.
    fn from(units: [f64; UNITS]) -> Self {
        let [ntt, multiply_add, conversion, pass, expansion, encode] = units;
        Self {
            ntt,
            multiply_add,
            conversion,
            pass,
            expansion,
            encode,
        }
    }
}

impl CostTable {
    /// For a machine (or a ring) that is `factor` times slower.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        self.units().map(|unit| unit * factor).into()
    }
    /// What a machine whose costs these are, for N = 2^16, takes in another ring ([`ring_share`]): transforms follow N·log N, the rest N; encoding is counted in
    /// butterflies. In smaller rings operands lie nearer: `cargo run --release -p polyveil --example rings` measures by how much.
    #[must_use]
    pub fn for_ring(self, log_n: u32) -> Self {
        // transforms, inner products, conversions, passes
        let [ntt, multiply_add, conversion, pass] = match log_n {
            16.. => [1.0; 4],
            15 => [0.82, 0.92, 0.84, 0.91],
            14 => [0.80, 0.89, 0.82, 0.89],
            13 => [0.80, 0.75, 0.80, 0.75],
            _ => return self,
        };
        let share = ring_share(log_n);
        Self {
            ntt: ntt * self.ntt * share * f64::from(log_n) / 16.0,
            multiply_add: multiply_add * self.multiply_add * share,
            conversion: conversion * self.conversion * share,
            pass: pass * self.pass * share,
            expansion: self.expansion * share,
            encode: self.encode,
        }
    }
    /// The costs, in the order of the fields.
    pub fn units(&self) -> [f64; UNITS] {
        let Self {
            ntt,
            multiply_add,
            conversion,
            pass,
            expansion,
            encode,
        } = *self;
        [ntt, multiply_add, conversion, pass, expansion, encode]
    }
}

/// Sizes of a block map, which are all that its work depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MapSize {
    /// Diagonals.
    pub diagonals: usize,
    /// Baby rotations, 0 not counted, summed over inputs.
    pub babies: usize,
    /// Giant rotations, 0 not counted, summed over outputs.
    pub giants: usize,
    /// Giant steps of 0, summed over outputs.
    pub unmoved: usize,
    /// Rotations folded onto each of the outputs.
    pub folds: usize,
    /// Input ciphertexts.
    pub inputs: usize,
    /// Input ciphertexts with baby rotations.
    pub decomposed: usize,
    /// Output ciphertexts.
    pub outputs: usize,
    /// Values that encoding the diagonals works on ([`MapSize::stored`]).
    pub values: usize,
    /// Butterflies of encoding them ([`MapSize::butterflies_of`]).
    pub butterflies: f64,
}

impl MapSize {
    /// Of a map.
    pub fn of(map: &BlockMap) -> Self {
        let steps = map.steps();
        let moved =
            |steps: &BTreeSet<usize>| steps.iter().filter(|&&s| s % map.slots() != 0).count();
        let babies: Vec<usize> = steps.babies.iter().map(moved).collect();
        let giants = &steps.giants;
        let lengths = || map.terms().iter().map(|t| t.values.len());
        Self {
            diagonals: map.terms().len(),
            babies: babies.iter().sum(),
            giants: giants.iter().map(moved).sum(),
            unmoved: giants.iter().map(|g| g.len() - moved(g)).sum(),
            folds: map.folds().len(),
            inputs: map.inputs(),
            decomposed: babies.iter().filter(|&&b| b > 0).count(),
            outputs: map.outputs(),
            values: lengths().map(Self::stored).sum(),
            butterflies: lengths().map(Self::butterflies_of).sum(),
        }
    }
    /// Of two maps into the same outputs.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            diagonals: self.diagonals + other.diagonals,
            babies: self.babies + other.babies,
            giants: self.giants.max(other.giants),
            unmoved: other.unmoved,
            folds: self.folds.max(other.folds),
            inputs: self.inputs + other.inputs,
            decomposed: self.decomposed + other.decomposed,
            outputs: other.outputs,
            values: self.values + other.values,
            butterflies: self.butterflies + other.butterflies,
        }
    }
    /// Values that encoding a diagonal of this length works on: one shorter than four values is encoded as four.
    pub fn stored(len: usize) -> usize {
        len.max(4)
    }
    /// Butterflies of encoding a diagonal of this length.
    pub fn butterflies_of(len: usize) -> f64 {
        len as f64 * (len as f64).log2().max(1.0)
    }
    /// Whether anything is rotated.
    pub(crate) fn moves(&self) -> bool {
        self.babies + self.giants + self.folds > 0
    }
}

/// Where a map's rotated inputs meet its diagonals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hoisting {
    /// Modulo Q \[HS18\]: every rotated input is divided by P, products take the level's limbs alone.
    Single,
    /// Modulo QP \[BMTH21\]: nothing is divided before the giant steps, products take the special limbs, too.
    Double,
}

/// A level of a parameter set, in numbers of limbs.
#[derive(Clone, Debug)]
pub struct At<'a> {
    parameters: &'a Parameters,
    level: Level,
    /// Limbs of the level.
    pub(crate) kept: f64,
    /// Special limbs that key switching takes there.
    pub(crate) special: f64,
    /// Sizes of the digits.
    pub(crate) digits: Vec<f64>,
}

/// Passes over so many limbs.
pub(crate) fn passes(count: f64) -> Cost {
    Cost {
        passes: count,
        ..Cost::default()
    }
}

/// Dividing one polynomial with `keep + drop` limbs by `drop`.
pub(crate) fn division(keep: f64, drop: f64) -> Cost {
    Cost {
        ntts: keep + drop,
        conversions: drop + drop * keep,
        passes: 2.0 * keep + drop,
        ..Cost::default()
    }
}

impl<'a> At<'a> {
    /// That level.
    pub fn new(parameters: &'a Parameters, level: Level) -> Self {
        let kept = parameters.limbs(level);
        let digits = parameters.digits().iter();
        let digits = digits.map(|d| kept.iter().filter(|k| d.contains(k)).count() as f64);
        Self {
            parameters,
            level,
            kept: kept.len() as f64,
            special: parameters.special_at(level).len() as f64,
            digits: digits.filter(|&c| c > 0.0).collect(),
        }
    }

    /// Limbs of QP.
    fn all(&self) -> f64 {
        self.kept + self.special
    }

    /// Limbs of the level below; of the lowest, its own.
    fn below(&self) -> f64 {
        let below = self.parameters.below(self.level);
        below.map_or(self.kept, |l| self.parameters.limbs(l).len() as f64)
    }

    /// Limbs of this level alone.
    fn group(&self) -> f64 {
        self.parameters.group(self.level).len() as f64
    }

    /// Decomposing a polynomial into digits.
    pub(crate) fn decomposition(&self) -> Cost {
        Cost {
            decompositions: 1.0,
            ntts: self.kept,
            conversions: self.kept,
            passes: 2.0 * self.kept,
            ..Cost::default()
        }
    }

    /// The digits modulo all limbs.
    pub(crate) fn digit_limbs(&self) -> Cost {
        let all = self.all();
        Cost {
            ntts: self.digits.iter().map(|d| all - d).sum(),
            conversions: self.digits.iter().map(|d| (all - d) * d).sum(),
            passes: self.kept,
            ..Cost::default()
        }
    }

    /// The inner product of the digits with a key.
    pub(crate) fn times_key(&self) -> Cost {
        let d = self.digits.len() as f64;
        Cost {
            multiply_adds: 2.0 * d * self.all(),
            expansions: d * self.all(),
            key_switches: 1.0,
            ..Cost::default()
        }
    }

    /// Dividing both polynomials of a result by P.
    pub(crate) fn down(&self) -> Cost {
        division(self.kept, self.special).times(2.0)
    }

    /// Switching a polynomial to another key.
    pub(crate) fn switch(&self) -> Cost {
        self.decomposition()
            .plus(self.digit_limbs())
            .plus(self.times_key())
            .plus(self.down())
    }

    /// Dividing a polynomial by the level's primes.
    pub(crate) fn rescale(&self) -> Cost {
        division(self.below(), self.group())
    }

    /// Dividing both polynomials of a result by P and the level's primes at once.
    pub(crate) fn down_and_rescale(&self, special: f64) -> Cost {
        division(self.below(), self.group() + special).times(2.0)
    }

    /// A rotation of a ciphertext whose digits are there.
    pub(crate) fn rotation(&self) -> Cost {
        self.times_key()
            .plus(self.down())
            .plus(self.digit_limbs())
            .plus(passes(3.0 * self.kept))
    }

    /// One baby rotation more of a map's decomposed input.
    pub fn baby(&self) -> Cost {
        self.times_key().plus(passes(2.0 * self.all() + self.kept))
    }

    /// One giant rotation more of a map's sums.
    pub fn giant(&self) -> Cost {
        division(self.kept, self.special)
            .plus(self.decomposition())
            .plus(self.digit_limbs())
            .plus(self.times_key())
            .plus(passes(3.0 * self.all()))
    }

    /// ModRaise to this level, up to what is under the sparse secret.
    pub(crate) fn raised(&self) -> Cost {
        let lifted = Cost {
            ntts: 2.0 * self.kept + 1.0,
            passes: 4.0 * self.kept + 1.0,
            bootstraps: 1.0,
            ..Cost::default()
        };
        division(1.0, 1.0).times(2.0).plus(lifted)
    }

    /// One image of what was raised, modulo the level and one special prime.
    pub(crate) fn raised_image(&self) -> Cost {
        let all = self.kept + 1.0;
        Cost {
            multiply_adds: 2.0 * all,
            expansions: all,
            passes: 2.0 * all + self.kept,
            key_switches: 1.0,
            ..Cost::default()
        }
    }

    /// A block map of what was raised.
    pub(crate) fn raised_map(&self, size: &MapSize) -> Cost {
        let count = |n: usize| n as f64;
        let sums = self.kept + 1.0;
        let giant = division(self.kept, 1.0)
            .plus(self.decomposition())
            .plus(self.digit_limbs())
            .plus(self.times_key())
            .plus(passes(3.0 * self.all()));
        let special = if size.giants > 0 { self.special } else { 1.0 };
        let mut cost = self
            .encodings(size.values, size.butterflies, sums)
            .plus(self.raised_image().times(count(size.babies) + 1.0))
            .plus(giant.times(count(size.giants)))
            .plus(passes(2.0 * sums).times(count(size.unmoved)));
        cost.multiply_adds += 2.0 * sums * count(size.diagonals);
        cost.plus(self.end(size, special))
    }

    /// Encoding `len` slots for the level's limbs.
    pub(crate) fn encoding(&self, len: usize) -> Cost {
        self.encodings(
            MapSize::stored(len),
            MapSize::butterflies_of(len),
            self.kept,
        )
    }

    /// Encoding so many values by so many butterflies.
    fn encodings(&self, values: usize, butterflies: f64, limbs: f64) -> Cost {
        let words = 2.0 * values as f64 / self.parameters.n() as f64;
        Cost {
            encodes: butterflies,
            ntts: limbs * words,
            passes: limbs * words,
            ..Cost::default()
        }
    }

    /// How a map is cheaper, by the shipped costs: many diagonals repay the division of few rotated inputs.
    pub fn hoisting(&self, size: &MapSize) -> Hoisting {
        let table = CostTable::default();
        let seconds = |hoisting| self.map_by(size, hoisting).seconds(&table);
        match size.moves() && seconds(Hoisting::Double) <= seconds(Hoisting::Single) {
            true => Hoisting::Double,
            false => Hoisting::Single,
        }
    }

    /// A block map, at level 1 at least; and of all its work, the rotations of its folds.
    pub fn map(&self, size: &MapSize) -> Cost {
        self.map_by(size, self.hoisting(size))
    }

    fn map_by(&self, size: &MapSize, hoisting: Hoisting) -> Cost {
        let count = |n: usize| n as f64;
        // limbs of sums, and the special ones among those that the end divides
        let (sums, special, baby, giant) = match hoisting {
            Hoisting::Double => (self.all(), self.special, self.baby(), self.giant()),
            Hoisting::Single => {
                let divided = (self.times_key().plus(self.down())).plus(passes(3.0 * self.kept));
                let giant = self.decomposition().plus(self.digit_limbs());
                let giant = giant.plus(self.times_key());
                let giant = giant.plus(passes(3.0 * self.all() + self.kept));
                let special = if size.giants > 0 { self.special } else { 0.0 };
                (self.kept, special, divided, giant)
            }
        };
        let mut cost = self
            .encodings(size.values, size.butterflies, sums)
            .plus(passes(2.0 * self.kept).times(count(size.inputs)))
            .plus((self.decomposition().plus(self.digit_limbs())).times(count(size.decomposed)))
            .plus(baby.times(count(size.babies)))
            .plus(giant.times(count(size.giants)))
            .plus(passes(2.0 * sums).times(count(size.unmoved)));
        cost.multiply_adds += 2.0 * sums * count(size.diagonals);
        cost.plus(self.end(size, special))
    }

    /// The end of a map, whose sums have so many special primes: every output is divided, and folded, by itself.
    fn end(&self, size: &MapSize, special: f64) -> Cost {
        let end = match size.folds {
            0 => self.down_and_rescale(special),
            folds => {
                let fold = self
                    .rotation()
                    .plus(self.decomposition())
                    .plus(passes(2.0 * self.kept));
                let down = division(self.kept, special).times(2.0);
                let down = if special > 0.0 { down } else { Cost::default() };
                down.plus(self.rescale().times(2.0))
                    .plus(fold.times(folds as f64))
            }
        };
        end.times(size.outputs as f64)
    }
}

/// Making a key that is needed up to `limit` limbs: a product and an expansion for each of its limbs.
pub fn key(parameters: &Parameters, name: KeyName, limit: usize) -> Cost {
    let share = SwitchingKey::degree(parameters, name) as f64 / parameters.n() as f64;
    let limbs = share * SwitchingKey::layout(parameters, name, limit).len() as f64;
    Cost {
        ntts: limbs,
        expansions: limbs,
        passes: 3.0 * limbs,
        ..Cost::default()
    }
}
