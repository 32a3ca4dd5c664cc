//! Block maps: matrices in diagonal form with their baby-step giant-step split.

use crate::{Complex64, Error};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which of a diagonal's weights stands in each slot. Diagonals of many maps share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Classes {
    run: usize,
    of: Vec<u16>,
    /// One more than the largest.
    count: usize,
}

impl Classes {
    /// `of[j]` for the `run` slots from run·j on, each a power of two.
    pub fn new(run: usize, of: Vec<u16>) -> Self {
        let count = of.iter().max().map_or(0, |&c| usize::from(c) + 1);
        Self { run, of, count }
    }
    /// A class for every `run` neighbouring slots (a batch side by side); no slot where these are more than 2^16.
    pub fn runs(count: usize, run: usize) -> Self {
        let last = u16::try_from(count.wrapping_sub(1));
        Self::new(
            run,
            last.map_or_else(|_| Vec::new(), |last| (0..=last).collect()),
        )
    }
    /// The same, each for so many times the slots.
    #[must_use]
    pub fn wider(&self, times: usize) -> Self {
        Self::new(self.run * times, self.of.clone())
    }
    /// Slots that each class in [`Classes::of`] stands for.
    pub fn run(&self) -> usize {
        self.run
    }
    /// Classes of the runs of a period.
    pub fn of(&self) -> &[u16] {
        &self.of
    }
    /// Slots of the period.
    fn len(&self) -> usize {
        self.of.len().saturating_mul(self.run)
    }
}

/// One generalised diagonal's values, real or complex; the length is a power of two that divides the map's slots
/// (shorter: the diagonal is periodic).
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Real values in single precision (network weights).
    Real(Arc<[f32]>),
    /// Real values in single precision of which many are alike or 0: each slot has its class's weight. A convolution's diagonal has a weight for each
    /// pair of channels, and the mask leaves out what its kernel reaches beyond the edge.
    Kernel {
        /// By class.
        weights: Arc<[f32]>,
        /// Of every run of slots.
        classes: Arc<Classes>,
        /// Bit k of byte b for run 8·b + k, 0 where it has 0 in place of its weight; none leaves out nothing.
        mask: Option<Arc<[u8]>>,
    },
    /// Complex values in double precision (transforms).
    Complex(Arc<[Complex64]>),
}

impl Values {
    /// Real values, each for `run` neighbouring slots.
    pub fn runs(values: Arc<[f32]>, run: usize) -> Self {
        if run == 1 || values.len() == 1 {
            return Self::Real(values);
        }
        Self::Kernel {
            classes: Classes::runs(values.len(), run).into(),
            weights: values,
            mask: None,
        }
    }
    /// Length of the period in slots.
    pub fn len(&self) -> usize {
        match self {
            Values::Real(v) => v.len(),
            Values::Kernel { classes, .. } => classes.len(),
            Values::Complex(v) => v.len(),
        }
    }
    /// Neighbouring slots that are alike.
    pub fn run(&self) -> usize {
        match self {
            Values::Kernel { classes, .. } => classes.run,
            _ => 1,
        }
    }
    /// The real numbers that are stored.
    pub fn weights(&self) -> &[f32] {
        match self {
            Values::Real(v) | Values::Kernel { weights: v, .. } => v,
            Values::Complex(_) => &[],
        }
    }
    /// Whether it has no slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        match self {
            Values::Real(v) | Values::Kernel { weights: v, .. } => v.iter().all(|x| x.is_finite()),
            Values::Complex(v) => v.iter().all(|x| x.re.is_finite() && x.im.is_finite()),
        }
    }
    /// Addresses and bytes of what is stored: the same for diagonals that share it.
    pub fn stored(&self) -> [(usize, usize); 3] {
        let at = |v: &[f32]| (v.as_ptr() as usize, size_of_val(v));
        match self {
            Values::Real(v) => [at(v), (0, 0), (0, 0)],
            Values::Kernel {
                weights,
                classes,
                mask,
            } => [
                at(weights),
                (classes.of.as_ptr() as usize, size_of_val(&classes.of[..])),
                (mask.as_ref()).map_or((0, 0), |m| (m.as_ptr() as usize, m.len())),
            ],
            Values::Complex(v) => [(v.as_ptr() as usize, size_of_val(&v[..])), (0, 0), (0, 0)],
        }
    }
    /// Value at slot j (taken modulo the period).
    pub fn at(&self, j: usize) -> Complex64 {
        match self {
            Values::Real(v) => Complex64::new(f64::from(v[j % v.len()]), 0.0),
            Values::Kernel {
                weights,
                classes,
                mask,
            } => {
                let k = j / classes.run % classes.of.len();
                let kept = (mask.as_ref()).is_none_or(|m| m[k / 8] >> (k % 8) & 1 == 1);
                let weight = weights[usize::from(classes.of[k])];
                Complex64::new(if kept { f64::from(weight) } else { 0.0 }, 0.0)
            }
            Values::Complex(v) => v[j % v.len()],
        }
    }
    /// Calls `put(j, v)` for the values of one period that are not left out: v stands in the [`Values::run`] slots from run·j on.
    pub fn each(&self, put: impl FnMut(usize, Complex64)) {
        self.each_of(|_, v| v, put);
    }
    /// The same with what `of` makes of each number that is stored, and its number: once of those that stand in many slots.
    pub(crate) fn each_of<T: Copy>(
        &self,
        of: impl Fn(usize, Complex64) -> T,
        mut put: impl FnMut(usize, T),
    ) {
        let real = |(k, w): (usize, &f32)| of(k, Complex64::new(f64::from(*w), 0.0));
        match self {
            Values::Real(v) => (v.iter().enumerate()).for_each(|(j, w)| put(j, real((j, w)))),
            Values::Complex(v) => (v.iter().enumerate()).for_each(|(j, &z)| put(j, of(j, z))),
            Values::Kernel {
                weights,
                classes,
                mask,
            } => {
                let weights: Vec<T> = weights.iter().enumerate().map(real).collect();
                let mut one = |j: usize| put(j, weights[usize::from(classes.of[j])]);
                let Some(mask) = mask else {
                    (0..classes.of.len()).for_each(one);
                    return;
                };
                for (k, bytes) in mask.chunks(8).enumerate() {
                    let mut bits = [0; 8];
                    bits[..bytes.len()].copy_from_slice(bytes);
                    let mut bits = u64::from_le_bytes(bits);
                    while bits != 0 {
                        one(64 * k + bits.trailing_zeros() as usize);
                        bits &= bits - 1;
                    }
                }
            }
        }
    }
    /// All values of a period, rotated to the right.
    pub(crate) fn rotated(&self, by: usize) -> Vec<Complex64> {
        let (len, run) = (self.len(), self.run());
        let mut all = vec![Complex64::new(0.0, 0.0); len];
        self.each(|j, v| {
            for k in 0..run {
                all[(run * j + k + by) % len] = v;
            }
        });
        all
    }
    /// Why weights, classes and mask do not fit together, where they don't.
    fn misfit(&self) -> Option<String> {
        let Values::Kernel {
            weights,
            classes,
            mask,
        } = self
        else {
            return None;
        };
        let (runs, bytes) = (classes.of.len(), mask.as_ref().map(|m| m.len()));
        let beyond = |m: &Arc<[u8]>| runs < 8 && m.iter().any(|&b| u32::from(b) >> runs != 0);
        let fits = classes.run.is_power_of_two()
            && classes.count <= weights.len()
            && bytes.is_none_or(|b| b == runs.div_ceil(8))
            && !mask.as_ref().is_some_and(beyond);
        (!fits).then(|| {
            format!(
                "{} weights for {} classes of {runs} runs of {} slots, a mask of {bytes:?} bytes",
                weights.len(),
                classes.count,
                classes.run
            )
        })
    }
}

/// Rotations are below this; they count modulo the map's slots, and any representative may be chosen (one that other maps use).
const MOST_ROTATION: usize = 1 << 17;
/// Folding k times sums 2^k slots, and no ring has more than 2^16.
const MOST_FOLDS: usize = 16;

/// One diagonal of one block: `out[j] += values[j] · in[j + giant + baby]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Index of the input.
    pub input: usize,
    /// Index of the output.
    pub output: usize,
    /// Giant step: a rotation to the left; modulo the slots.
    pub giant: usize,
    /// Baby step: a rotation to the left; modulo the slots.
    pub baby: usize,
    /// The diagonal, not rotated.
    pub values: Values,
}

/// How the sums before giant steps are rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Giants {
    /// Each by its own step, with a key for each.
    #[default]
    Apart,
    /// Each onto the sum of a step nearer to 0, by the difference: as many rotations, and keys for a few differences alone (Horner's rule).
    Chained,
}

impl Giants {
    /// Whether each has its own key.
    pub fn apart(&self) -> bool {
        *self == Self::Apart
    }
}

/// One rotation of a sum before a giant step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiantRotation {
    /// The giant step whose sum it is.
    pub giant: usize,
    /// The giant step onto whose sum it is added; none: onto the result.
    pub onto: Option<usize>,
    /// The rotation.
    pub by: usize,
}

/// Differences that are looked for, and giant steps of one output among which they are: a map with more has a key for each of the others.
const MOST_DIFFERENCES: usize = 64;
const MOST_CHAINED: usize = 512;
/// Steps nearer to 0 from which a new difference is taken.
const NEIGHBOURS: usize = 16;

impl Giants {
    /// The rotations of one output's giant steps, in an order in which what is rotated is complete; `known` rotations have keys anyway, and
    /// `differences` are those that other outputs found.
    pub fn giant_rotations(
        self,
        giants: &BTreeSet<usize>,
        slots: usize,
        known: &BTreeSet<usize>,
        differences: &mut Vec<usize>,
    ) -> Vec<GiantRotation> {
        let moved = giants.iter().copied().filter(|g| g % slots != 0);
        let alone = |giant| GiantRotation {
            giant,
            onto: None,
            by: giant,
        };
        if self == Self::Apart {
            return moved.map(alone).collect();
        }
        let mut moved: Vec<usize> = moved.collect();
        moved.sort_by_key(|&g| ((g % slots).min(slots - g % slots), g));
        let mut reached = vec![false; slots.min(MOST_ROTATION)];
        let steps = moved.iter().map(|g| g % slots).chain([0]);
        let all: Vec<usize> = steps
            .filter(|&s| !std::mem::replace(&mut reached[s], true))
            .collect();
        // how many steps a difference joins to others
        let joins = |by: usize| {
            let from = |s: &&usize| reached.get((**s + slots - by) % slots) == Some(&true);
            all.iter().filter(from).count()
        };
        // by residue
        let mut before: BTreeMap<usize, usize> = BTreeMap::new();
        let mut giant_rotations: Vec<GiantRotation> = Vec::with_capacity(moved.len());
        for giant in moved {
            let step = giant % slots;
            let onto = |&by: &usize| {
                let onto = before.get(&((step + slots - by) % slots)).copied();
                onto.map(|onto| (onto, by))
            };
            let room = differences.len() < MOST_DIFFERENCES && all.len() <= MOST_CHAINED;
            let nearer = match known.contains(&step) || differences.contains(&step) {
                true => None,
                false => differences.iter().find_map(onto).or_else(|| {
                    // the difference that joins most, 0 among what is reached
                    let last = giant_rotations
                        .iter()
                        .rev()
                        .take(if room { NEIGHBOURS } else { 0 });
                    let new = last.map(|c| (c.giant, (step + slots - c.giant % slots) % slots));
                    let best = new.filter(|n| n.1 != 0).max_by_key(|n| joins(n.1));
                    best.filter(|n| joins(n.1) > joins(step))
                }),
            };
            giant_rotations.push(match nearer {
                Some((onto, by)) => GiantRotation {
                    giant,
                    onto: Some(onto),
                    by,
                },
                None => GiantRotation {
                    by: step,
                    ..alone(giant)
                },
            });
            let by = nearer.map_or(step, |n| n.1);
            if !differences.contains(&by) && differences.len() < MOST_DIFFERENCES {
                differences.push(by);
            }
            before.entry(step).or_insert(giant);
        }
        giant_rotations.reverse();
        giant_rotations
    }
}

/// The steps of a map.
pub(crate) struct Steps {
    /// Different ones of each input.
    pub(crate) babies: Vec<BTreeSet<usize>>,
    /// Different ones of each output.
    pub(crate) giants: Vec<BTreeSet<usize>>,
}

/// A matrix between vectors of `slots` slots, given by generalised diagonals, each with its split
/// offset = giant + baby (mod slots). The split, and so the set of rotations, belongs to the map.
///
/// `folds`: after the diagonals, y ← y + rotate(y, f) for each f in turn (a dense layer with few outputs).
/// The map and its folds cost one level together.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMap {
    slots: usize,
    inputs: usize,
    outputs: usize,
    terms: Vec<Term>,
    folds: Vec<usize>,
    giants: Giants,
    /// A name under which an interpreter may keep the encoded diagonals between uses (the bootstrap's own maps).
    pin: Option<usize>,
}

impl BlockMap {
    /// Checks and builds a map.
    ///
    /// # Errors
    /// If a term is out of range, a diagonal's length does not divide the slots, or a value is not finite.
    pub fn new(
        slots: usize,
        inputs: usize,
        outputs: usize,
        terms: Vec<Term>,
        folds: Vec<usize>,
    ) -> Result<Self, Error> {
        let mut read = BTreeSet::new();
        let fresh = terms.iter().filter(|t| read.insert(t.values.stored()[0]));
        if let Some(t) = fresh.into_iter().find(|t| !t.values.is_finite()) {
            let diagonal = t.giant.wrapping_add(t.baby) % slots.max(1);
            let reason = format!("NaN or infinity on diagonal {diagonal}");
            return Err(Error::conformance("block map", reason));
        }
        Self::of_finite(slots, inputs, outputs, terms, folds)
    }

    /// As [`BlockMap::new`], of values that the caller knows to be finite: those of many maps may be the same, and are then read once.
    ///
    /// # Errors
    /// As [`BlockMap::new`].
    pub fn of_finite(
        slots: usize,
        inputs: usize,
        outputs: usize,
        terms: Vec<Term>,
        folds: Vec<usize>,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::conformance("block map", reason));
        if !slots.is_power_of_two() {
            return Err(Error::Slots {
                operation: "block map",
                slots,
                most: 1 << 16,
            });
        }
        for t in &terms {
            if t.input >= inputs
                || t.output >= outputs
                || t.giant >= MOST_ROTATION
                || t.baby >= MOST_ROTATION
            {
                return refuse(format!(
                    "term ({}, {}, {}, {}) out of range",
                    t.input, t.output, t.giant, t.baby
                ));
            }
            if t.values.is_empty() || !t.values.len().is_power_of_two() || t.values.len() > slots {
                return refuse(format!(
                    "diagonal of length {} in a map of {slots} slots",
                    t.values.len()
                ));
            }
            if let Some(misfit) = t.values.misfit() {
                return refuse(misfit);
            }
        }
        if folds.len() > MOST_FOLDS || folds.iter().any(|&f| f >= MOST_ROTATION) {
            return refuse(format!("{} folds or one of them out of range", folds.len()));
        }
        let mut reached = vec![false; outputs];
        terms.iter().for_each(|t| reached[t.output] = true);
        if let Some(o) = reached.iter().position(|r| !r) {
            return refuse(format!("output {o} has no term"));
        }
        Ok(Self {
            slots,
            inputs,
            outputs,
            terms,
            folds,
            giants: Giants::Apart,
            pin: None,
        })
    }

    /// The same map, whose encoded diagonals an evaluator keeps under this name.
    #[must_use]
    pub fn pinned(self, pin: usize) -> Self {
        Self {
            pin: Some(pin),
            ..self
        }
    }
    /// The same map, whose sums before giant steps are rotated so.
    #[must_use]
    pub fn with_giants(self, giants: Giants) -> Self {
        Self { giants, ..self }
    }
    /// How sums before giant steps are rotated.
    pub fn giant_steps(&self) -> Giants {
        self.giants
    }
    /// The rotations of sums before giant steps, by output.
    pub fn giant_rotations(&self) -> Vec<Vec<GiantRotation>> {
        let Steps { babies, giants } = self.steps();
        let babies = babies
            .into_iter()
            .flatten()
            .chain(self.folds.iter().copied());
        let known = babies.map(|b| b % self.slots).collect();
        let mut differences = Vec::new();
        (giants.iter())
            .map(|g| (self.giants).giant_rotations(g, self.slots, &known, &mut differences))
            .collect()
    }
    /// A name under which an interpreter may keep the encoded diagonals between uses: maps of the same parameters with the same
    /// name are the same map. Only the maps of [`crate::Transforms`] have one.
    pub fn pin(&self) -> Option<usize> {
        self.pin
    }
    /// Period of the vectors that it maps between.
    pub fn slots(&self) -> usize {
        self.slots
    }
    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
    /// The diagonals.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
    /// Rotations folded onto the result.
    pub fn folds(&self) -> &[usize] {
        &self.folds
    }
    /// Distinct baby steps for one input, ascending (0 included where used).
    pub fn babies(&self, input: usize) -> Vec<usize> {
        let terms = self.terms.iter().filter(|t| t.input == input);
        let steps: BTreeSet<usize> = terms.map(|t| t.baby).collect();
        steps.into_iter().collect()
    }
    /// Distinct giant steps for one output, ascending.
    pub fn giants(&self, output: usize) -> Vec<usize> {
        let terms = self.terms.iter().filter(|t| t.output == output);
        let steps: BTreeSet<usize> = terms.map(|t| t.giant).collect();
        steps.into_iter().collect()
    }
    /// All baby steps by input and giant steps by output.
    pub(crate) fn steps(&self) -> Steps {
        let mut steps = Steps {
            babies: vec![BTreeSet::new(); self.inputs],
            giants: vec![BTreeSet::new(); self.outputs],
        };
        for t in &self.terms {
            steps.babies[t.input].insert(t.baby);
            steps.giants[t.output].insert(t.giant);
        }
        steps
    }
    /// All non-zero rotations that it uses.
    pub fn rotations(&self) -> BTreeSet<usize> {
        let giant_rotations = self.giant_rotations().into_iter().flatten().map(|c| c.by);
        (self.terms.iter().map(|t| t.baby))
            .chain(giant_rotations)
            .chain(self.folds.iter().copied())
            .filter(|&r| r % self.slots != 0)
            .collect()
    }
    /// Whether anything is rotated: where nothing is, a map is sums of multiples, and no key and no special prime is needed.
    pub fn moves(&self) -> bool {
        let moved =
            |t: &Term| !t.giant.is_multiple_of(self.slots) || !t.baby.is_multiple_of(self.slots);
        !self.folds.is_empty() || self.terms.iter().any(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(outputs: usize, reached: usize, folds: usize) -> Result<BlockMap, Error> {
        let term = |output| Term {
            input: 0,
            output,
            giant: 0,
            baby: 0,
            values: Values::Real(vec![0.5].into()),
        };
        BlockMap::new(
            8,
            1,
            outputs,
            (0..reached).map(term).collect(),
            vec![1; folds],
        )
    }

    #[test]
    fn a_kernels_values_are_its_classes_weights_where_the_mask_has_them() {
        let values = Values::Kernel {
            weights: vec![0.5, -2.0].into(),
            classes: Classes::new(2, vec![0, 1, 1, 0]).into(),
            mask: Some([0b1011].into()),
        };
        let all = [0.5, 0.5, -2.0, -2.0, 0.0, 0.0, 0.5, 0.5].map(|v| Complex64::new(v, 0.0));
        assert_eq!((values.len(), values.run()), (8, 2));
        assert_eq!([0, 1, 2, 3, 4, 5, 14, 15].map(|j| values.at(j)), all);
        assert_eq!(values.rotated(3)[3..], all[..5]);
        let term = |values| Term {
            input: 0,
            output: 0,
            giant: 0,
            baby: 0,
            values,
        };
        let map = |values| BlockMap::new(8, 1, 1, vec![term(values)], Vec::new());
        assert!(map(values.clone()).is_ok());
        let Values::Kernel {
            weights, classes, ..
        } = values
        else {
            return;
        };
        let kernel = |weights: &[f32], classes: &Arc<Classes>, mask: &[u8]| Values::Kernel {
            weights: weights.into(),
            classes: classes.clone(),
            mask: Some(mask.into()),
        };
        // a class without a weight, a mask of another length, bits beyond the period, runs of three
        for misfit in [
            kernel(&weights[..1], &classes, &[0b1011]),
            kernel(&weights, &classes, &[0b1011, 0]),
            kernel(&weights, &classes, &[0b1_1011]),
            kernel(&weights, &Classes::new(3, vec![0]).into(), &[1]),
        ] {
            assert!(map(misfit).is_err());
        }
    }

    #[test]
    fn chained_giant_steps_reach_the_result_by_few_rotations() {
        let slots = 1024;
        let reaches = |giants: &[usize], most: usize| {
            let giants: BTreeSet<usize> = giants.iter().copied().collect();
            let mut differences = Vec::new();
            let giant_rotations =
                Giants::Chained.giant_rotations(&giants, slots, &BTreeSet::new(), &mut differences);
            // each moved step once; what it is added to comes later
            let moved = giants.iter().filter(|g| *g % slots != 0).count();
            assert_eq!(giant_rotations.len(), moved);
            for (i, c) in giant_rotations.iter().enumerate() {
                let (mut at, mut sum) = (Some(c.giant), 0);
                let mut from = i;
                while let Some(giant) = at {
                    let j = from
                        + giant_rotations[from..]
                            .iter()
                            .position(|d| d.giant == giant)
                            .expect("later");
                    (sum, at, from) = (sum + giant_rotations[j].by, giant_rotations[j].onto, j);
                }
                assert_eq!(sum % slots, c.giant % slots);
            }
            let by: BTreeSet<usize> = giant_rotations.iter().map(|c| c.by).collect();
            assert!(by.len() <= most, "{by:?}");
        };
        reaches(&[0, 16, 32, 48, 64, 80], 1);
        reaches(&[16, 32, 48], 1);
        reaches(&[0, 16, 32, 1024 - 16, 1024 - 32], 2);
        // rows from a step that is none of them
        reaches(
            &(0..9)
                .map(|i| (1024 - 165 + 32 * i) % 1024)
                .collect::<Vec<_>>(),
            3,
        );
        // rows and planes, both ways
        let grid = |rows: i64, planes: i64| -> Vec<usize> {
            let all = (-rows..=rows).flat_map(|r| (-planes..=planes).map(move |p| 5 * r + 100 * p));
            all.map(|g| usize::try_from(g.rem_euclid(1024)).expect("small"))
                .collect()
        };
        reaches(&grid(2, 3), 4);
        // nothing in common
        reaches(&[3, 50, 200, 411], 4);
        reaches(&[0], 0);
    }

    #[test]
    fn maps_that_cannot_be_are_refused() {
        assert!(map(3, 3, MOST_FOLDS).is_ok());
        let message = map(3, 2, 0).expect_err("no term").to_string();
        assert!(message.contains("output 2"), "{message}");
        // found by `polyveil-fuzz`: the meter counted 2^(number of folds) slots
        let message = map(3, 3, MOST_FOLDS + 1).expect_err("folds").to_string();
        assert!(message.contains("17 folds"), "{message}");
    }
}
