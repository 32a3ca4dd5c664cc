//! From an affine map and two layouts to generalised diagonals: single-shot multiplexed packing.
//!
//! Entry (j, p) of the matrix – output slot j takes input slot p – lies on diagonal p − j. Where the result has fewer slots than an
//! input (periods m < n), diagonals are taken modulo m, each of length n, and the n/m partial sums are folded by rotations
//! by m, 2m, …, n/2: every slot then holds a result, repeated with period m, and no partial sum is left.

use crate::coefficients::tokens::{Moves, Shift};
use crate::layout::narrow;
use crate::linear_op::{Chain, chain_row, columnwise};
use crate::normal::{Domain, Id, Kind, Normal, Quantity};
use std::collections::{BTreeMap, BTreeSet};

/// An offset as a walk: columns, rows, planes; signed.
pub(crate) type Walk = [i64; 3];

/// One input ciphertext of a map.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The quantity.
    pub(crate) source: Id,
    /// Which of its different ciphertexts.
    pub(crate) ciphertext: usize,
    /// Slots of one step of a [`Walk`].
    pub(crate) pitch: Walk,
    /// Smallest steps that occur.
    pub(crate) least: Walk,
    /// Number of steps from the smallest to the largest, along each axis.
    pub(crate) span: Walk,
}

/// One diagonal with weights in network units.
#[derive(Clone, Debug)]
pub(crate) struct Diagonal {
    /// Index into [`Packed::inputs`].
    pub(crate) input: usize,
    /// Output ciphertext.
    pub(crate) output: usize,
    /// Its offset.
    pub(crate) walk: Walk,
    /// Its shortest period, each value once for [`Diagonal::run`] neighbouring slots.
    pub(crate) values: Vec<f32>,
    /// Slots that a value stands for, a power of two: as many as a channel has tokens of the same weight.
    pub(crate) run: usize,
}

impl Diagonal {
    /// Slots of its period.
    pub(crate) fn len(&self) -> usize {
        self.values.len() * self.run
    }
}

/// Of a quantity, which of its different ciphertexts each one is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Twins {
    /// By ciphertext: numbers from 0 on, in order of first occurrence.
    pub(crate) of: Vec<usize>,
    /// For a product, of every different ciphertext: those of its operands, then those of its summands.
    pub(crate) operands: Vec<Vec<usize>>,
    /// How many are different.
    pub(crate) count: usize,
}

impl Twins {
    pub(crate) fn by_key<K: Ord>(keys: impl Iterator<Item = K>) -> Self {
        let mut seen = BTreeMap::new();
        let of = keys
            .map(|key| {
                let next = seen.len();
                *seen.entry(key).or_insert(next)
            })
            .collect();
        Self {
            of,
            operands: Vec::new(),
            count: seen.len(),
        }
    }
}

/// A map in diagonal form.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Period of the map.
    pub(crate) slots: usize,
    /// Period of the results.
    pub(crate) period: usize,
    /// Number of output ciphertexts.
    pub(crate) outputs: usize,
    /// Input ciphertexts.
    pub(crate) inputs: Vec<Input>,
    /// Non-zero diagonals, at least one for each output.
    pub(crate) diagonals: Vec<Diagonal>,
    /// Rotations of the folds.
    pub(crate) folds: Vec<usize>,
}

/// One source with all chains that lead from it.
struct Group<'a> {
    source: Id,
    chains: Vec<&'a Chain>,
    places: Vec<(u32, u32)>,
    /// Period of the source.
    slots: usize,
    /// Period of offsets.
    modulus: usize,
    /// Index of the first ciphertext among the inputs.
    first: usize,
    /// Walk of each offset below the modulus.
    walks: Vec<Walk>,
    pitch: Walk,
    /// Columns, rows and planes of the modulus.
    size: [usize; 3],
    /// Columns that are treated alike: entries are looked up for the first.
    columns: usize,
}

/// What is known of a map before it is packed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Of each source, which offsets occur.
    used: Vec<Vec<bool>>,
    /// Values in its diagonals, at most: before repetitions are dropped and equal ciphertexts are found.
    pub(crate) values: u64,
    /// Of these, the most that one output ciphertext has.
    pub(crate) together: u64,
}

/// Finds which diagonals a map has, without their values; other kinds have none.
pub(crate) fn survey(normal: &Normal, q: &Quantity) -> Survey {
    if !matches!(q.kind, Kind::Linear { .. }) || q.domain == Domain::Coefficients {
        return Survey::default();
    }
    let out_places = q.layout.places();
    let groups = groups(normal, q, |_, ciphertext| ciphertext);
    let mut found = Survey {
        used: groups.iter().map(|g| vec![false; g.modulus]).collect(),
        ..Survey::default()
    };
    for rows in rows(q, &out_places) {
        let mut values = 0;
        for (group, used) in groups.iter().zip(&mut found.used) {
            let diagonals = group.survey(&rows, &out_places, used);
            values += (diagonals * group.slots.max(q.layout.period)) as u64;
        }
        found.values += values;
        found.together = found.together.max(values);
    }
    found
}

/// The rows of each ciphertext.
fn rows(q: &Quantity, places: &[(u32, u32)]) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); q.layout.ciphertexts];
    // several values may share a place, where they are the same
    let mut seen = BTreeSet::new();
    for (r, place) in places.iter().enumerate() {
        if !q.layout.is_table() || seen.insert(*place) {
            rows[place.0 as usize].push(r);
        }
    }
    rows
}

/// A map's sources; `number` gives the number of a source's ciphertext.
fn groups<'a>(normal: &Normal, q: &'a Quantity, number: impl Fn(Id, u32) -> u32) -> Vec<Group<'a>> {
    let terms: &[(Id, Chain)] = match &q.kind {
        Kind::Linear { terms, .. } => terms,
        _ => &[],
    };
    let group = |source: Id| {
        let layout = &normal.quantities[source].layout;
        let modulus = layout.period.min(q.layout.period);
        let width = layout.width.min(modulus);
        let height = layout.height.min(modulus / width);
        let chains = terms.iter().filter(|t| t.0 == source).map(|t| &t.1);
        let mut group = Group {
            source,
            chains: chains.collect(),
            places: (layout.places().into_iter())
                .map(|(c, s)| (number(source, c), s))
                .collect(),
            slots: layout.period,
            modulus,
            first: 0,
            walks: Vec::new(),
            pitch: [1, signed(width), signed(width * height)],
            size: [width, height, modulus / (width * height)],
            columns: 1,
        };
        if layout.by_column() && q.layout.by_column() {
            let chains = group.chains.iter().copied();
            group.columns = columnwise(chains, layout.shape(), q.layout.shape()).unwrap_or(1);
        }
        group
    };
    q.sources().into_iter().map(group).collect()
}

/// Packs quantity `q`, which must be [`Kind::Linear`]; other kinds have no terms. `twins` are those of the quantities before it.
pub(crate) fn pack(normal: &Normal, q: &Quantity, survey: &Survey, twins: &[Twins]) -> Packed {
    let out_places = q.layout.places();
    let period = q.layout.period;
    let mut inputs = Vec::new();
    let twin = |source: Id, c: u32| narrow(twins[source].of[c as usize]);
    let mut groups = groups(normal, q, twin);
    for (group, used) in groups.iter_mut().zip(&survey.used) {
        let (least, span) = group.walk(used);
        group.first = inputs.len();
        for ciphertext in 0..twins[group.source].count {
            inputs.push(Input {
                source: group.source,
                ciphertext,
                pitch: group.pitch,
                least,
                span,
            });
        }
    }
    let sources = groups.iter().map(|g| g.slots);
    let slots = sources.max().unwrap_or(1).max(period);
    let mut diagonals = Vec::new();
    for (output, rows) in rows(q, &out_places).iter().enumerate() {
        let before = diagonals.len();
        for group in &groups {
            group.fill(output, rows, &out_places, slots, period, &mut diagonals);
        }
        if diagonals.len() == before {
            diagonals.push(Diagonal {
                input: 0,
                output,
                walk: [0; 3],
                values: vec![0.0],
                run: 1,
            });
        }
    }
    let folds = (0..)
        .map(|i| period << i)
        .take_while(|&f| f < slots)
        .collect();
    Packed {
        slots,
        period,
        outputs: q.layout.ciphertexts,
        inputs,
        diagonals,
        folds,
    }
}

impl Group<'_> {
    fn entries(&self, r: usize, entry: &mut dyn FnMut(usize, f64)) {
        for chain in &self.chains {
            chain_row(chain, r, 1.0, entry);
        }
    }

    /// Marks the offsets that occur in these rows; gives the number of their diagonals.
    fn survey(&self, rows: &[usize], out_places: &[(u32, u32)], used: &mut [bool]) -> usize {
        let mut seen = vec![false; self.inputs() * self.modulus];
        let mut diagonals = 0;
        for &r in rows.iter().filter(|&&r| r.is_multiple_of(self.columns)) {
            let j = out_places[r].1;
            self.entries(r, &mut |c, w| {
                if w != 0.0 {
                    let (ciphertext, p) = self.places[c];
                    let d = (p.wrapping_sub(j) as usize) & (self.modulus - 1);
                    let seen = &mut seen[ciphertext as usize * self.modulus + d];
                    diagonals += usize::from(!*seen);
                    (*seen, used[d]) = (true, true);
                }
            });
        }
        diagonals
    }

    /// Ciphertexts of the source.
    fn inputs(&self) -> usize {
        1 + self.places.iter().map(|p| p.0 as usize).max().unwrap_or(0)
    }

    /// Writes every offset as a short signed walk, where these occur; gives the smallest steps and the spans.
    fn walk(&mut self, used: &[bool]) -> (Walk, Walk) {
        let size = self.size;
        let used = || (0..used.len()).filter(|&d| used[d]);
        let (columns, c0, c_span) = axis(size[0], used().map(|d| d % size[0]));
        let lift = |d: usize| {
            let c = columns[d % size[0]];
            let rest = (signed(d) - c).rem_euclid(signed(self.modulus)) / signed(size[0]);
            (c, usize::try_from(rest).unwrap_or(0))
        };
        let (lines, r0, r_span) = axis(size[1], used().map(|d| lift(d).1 % size[1]));
        let planes = size[2];
        self.walks = (0..self.modulus)
            .map(|d| {
                let (c, rest) = lift(d);
                let r = lines[rest % size[1]];
                let k = (signed(rest) - r)
                    .div_euclid(signed(size[1]))
                    .rem_euclid(signed(planes));
                [c, r, k]
            })
            .collect();
        ([c0, r0, 0], [c_span, r_span, signed(planes)])
    }

    /// Appends the diagonals of one output ciphertext.
    fn fill(
        &self,
        output: usize,
        rows: &[usize],
        out_places: &[(u32, u32)],
        slots: usize,
        period: usize,
        diagonals: &mut Vec<Diagonal>,
    ) {
        let length = self.slots.max(period);
        let share = length as f64 / slots as f64;
        let mut at = vec![u32::MAX; self.inputs() * self.modulus];
        let mut found: Vec<(usize, usize, Vec<f64>)> = Vec::new();
        let wrapped = |w| self.slots_of(w).rem_euclid(signed(self.slots));
        let offset = |w| usize::try_from(wrapped(w)).unwrap_or(0);
        let offsets: Vec<usize> = self.walks.iter().map(offset).collect();
        for &r in rows.iter().filter(|&&r| r.is_multiple_of(self.columns)) {
            let j = out_places[r].1 as usize;
            self.entries(r, &mut |c, w| {
                if w == 0.0 {
                    return;
                }
                let (ciphertext, p) = (self.places[c].0 as usize, self.places[c].1 as usize);
                let d = p.wrapping_sub(j) & (self.modulus - 1);
                let slot = if self.slots >= period {
                    p.wrapping_sub(offsets[d]) & (self.slots - 1)
                } else {
                    j
                };
                let index = &mut at[ciphertext * self.modulus + d];
                if *index == u32::MAX {
                    *index = narrow(found.len());
                    found.push((ciphertext, d, vec![0.0; length]));
                }
                for value in &mut found[*index as usize].2[slot..slot + self.columns] {
                    *value += w * share;
                }
            });
        }
        found.sort_by_key(|f| (f.0, f.1));
        for (ciphertext, d, values) in found {
            if values.iter().any(|&v| v != 0.0) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "weights are kept in single precision; checked for overflow when scaled"
                )]
                let (values, run) = shortest(values.into_iter().map(|v| v as f32).collect());
                diagonals.push(Diagonal {
                    input: self.first + ciphertext,
                    output,
                    walk: self.walks[d],
                    values,
                    run,
                });
            }
        }
    }

    fn slots_of(&self, walk: &Walk) -> i64 {
        walk.iter().zip(&self.pitch).map(|(w, p)| w * p).sum()
    }
}

/// Ciphertexts made of a quantity's by moving slots.
pub(crate) fn moved(moves: &Moves, source: Id) -> Packed {
    let [columns, rows] = moves.size;
    let pitch = [1, signed(columns), signed(columns * rows)];
    let all = || moves.outputs.iter().flatten().flat_map(|m| m.1.iter());
    let least = all().map(|s| s.by[0]).min().unwrap_or(0);
    let most = all().map(|s| s.by[0]).max().unwrap_or(0);
    let inputs = (0..moves.inputs).map(|ciphertext| Input {
        source,
        ciphertext,
        pitch,
        least: [least, 0, 0],
        span: [most - least + 1, 1, signed(moves.slots) / pitch[2]],
    });
    // results of other inputs move alike
    let mut short: BTreeMap<*const Shift, (Vec<f32>, usize)> = BTreeMap::new();
    let mut diagonals = Vec::new();
    let each = moves.outputs.iter().enumerate();
    for (output, (input, shifts)) in each.flat_map(|(o, all)| all.iter().map(move |m| (o, m))) {
        for shift in shifts.iter() {
            let known = short.entry(std::ptr::from_ref(shift));
            let (values, run) = known.or_insert_with(|| shortest(shift.values.clone()));
            diagonals.push(Diagonal {
                input: *input,
                output,
                walk: [shift.by[0], 0, shift.by[1]],
                values: values.clone(),
                run: *run,
            });
        }
    }
    Packed {
        slots: moves.slots,
        period: moves.slots,
        outputs: moves.outputs.len(),
        inputs: inputs.collect(),
        diagonals,
        folds: Vec::new(),
    }
}

/// The shortest window of a cyclic axis that holds all `used` residues: the signed step of each residue, the first and the length.
fn axis(size: usize, used: impl Iterator<Item = usize>) -> (Vec<i64>, i64, i64) {
    let mut present = vec![false; size];
    used.for_each(|u| present[u] = true);
    let mut best = (0, 0); // length of the longest run of absent residues, and where it ends
    for end in 0..size {
        if present[end] {
            let gap = (1..=size)
                .take_while(|&g| !present[(end + size - g) % size])
                .count();
            if gap > best.0 {
                best = (gap, end);
            }
        }
    }
    let (gap, start) = best;
    let first = if 2 * start > size || (start > 0 && 2 * start == size && size > 2) {
        signed(start) - signed(size)
    } else {
        signed(start)
    };
    let steps = (0..size)
        .map(|u| (signed(u) - first).rem_euclid(signed(size)) + first)
        .collect();
    (steps, first, signed(size - gap).max(1))
}

/// Leaves one period of the shortest that halving finds.
pub(crate) fn drop_repetitions<T: PartialEq>(values: &mut Vec<T>) {
    while values.len() > 1 && values[..values.len() / 2] == values[values.len() / 2..] {
        values.truncate(values.len() / 2);
    }
}

/// Drops repetitions, then says equal neighbours once: values, and how many slots each stands for.
fn shortest(mut values: Vec<f32>) -> (Vec<f32>, usize) {
    drop_repetitions(&mut values);
    let mut run = 1;
    while values.len() > 1 && values.chunks_exact(2).all(|pair| pair[0] == pair[1]) {
        values = values.into_iter().step_by(2).collect();
        run *= 2;
    }
    values.shrink_to_fit();
    (values, run)
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_becomes_the_shortest_signed_window() {
        let (steps, first, span) = axis(32, [31, 0, 1].into_iter());
        assert_eq!((first, span), (-1, 3));
        assert_eq!((steps[31], steps[0], steps[1], steps[2]), (-1, 0, 1, 2));
        let (_, first, span) = axis(8, 0..8);
        assert_eq!((first, span), (0, 8));
        let (steps, first, span) = axis(16, [3, 4].into_iter());
        assert_eq!((first, span, steps[3], steps[2]), (3, 2, 3, 18));
        assert_eq!(axis(1, [0].into_iter()), (vec![0], 0, 1));
    }

    #[test]
    fn repetitions_are_dropped_and_neighbours_said_once() {
        assert_eq!(shortest(vec![1.0, 2.0, 1.0, 2.0]), (vec![1.0, 2.0], 1));
        assert_eq!(shortest(vec![0.0; 8]), (vec![0.0], 1));
        assert_eq!(shortest(vec![1.0, 2.0, 3.0, 2.0]).0.len(), 4);
        let twice = vec![1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0];
        assert_eq!(shortest(twice), (vec![1.0, 2.0], 2));
    }
}
