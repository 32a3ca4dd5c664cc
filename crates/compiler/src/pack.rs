//! From an affine map and two layouts to generalised diagonals: single-shot multiplexed packing.
//!
//! Entry (j, p) of the matrix – output slot j takes input slot p – lies on diagonal p − j. Where the result has fewer slots than an
//! input (periods m < n), diagonals are taken modulo m, each of length n, and the n/m partial sums are folded by rotations
//! by m, 2m, …, n/2: every slot then holds a result, repeated with period m, and no partial sum is left.
//!
//! Of a picture's or a sequence's channels a diagonal is kept as one weight for each, as far as all positions have the same, and a mask of
//! the slots that have it: whatever is of a whole period, maps share.

use crate::coefficients::tokens::{Moves, Shift};
use crate::layout::narrow;
use crate::linear_op::{Chain, chain_row, columnwise, varies};
use crate::normal::{Domain, Id, Kind, Normal, Quantity};
use crate::shifted::{Kinds, Sets};
use ckks::map::{Classes, Values};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Diagonal {
    /// Index into [`Packed::inputs`].
    pub(crate) input: usize,
    /// Output ciphertext.
    pub(crate) output: usize,
    /// Its offset.
    pub(crate) walk: Walk,
    /// Its shortest period.
    pub(crate) values: Values,
}

/// What the diagonals of all maps have in common, each once.
#[derive(Debug, Default)]
pub(crate) struct Common {
    classes: BTreeSet<Arc<Classes>>,
    masks: BTreeSet<Arc<[u8]>>,
}

/// Fewer runs of slots than this are kept one by one.
const FEWEST_RUNS: usize = 16;

impl Common {
    fn classes(&mut self, classes: Classes) -> Arc<Classes> {
        match self.classes.get(&classes) {
            Some(known) => known.clone(),
            None => {
                let new = Arc::new(classes);
                self.classes.insert(new.clone());
                new
            }
        }
    }

    /// A mask; none where it leaves out nothing.
    fn mask(&mut self, mask: &[u8]) -> Option<Arc<[u8]>> {
        if mask.iter().all(|&b| b == u8::MAX) {
            return None;
        }
        Some(match self.masks.get(mask) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<[u8]> = mask.into();
                self.masks.insert(new.clone());
                new
            }
        })
    }

    /// Values of `run` slots each, their shortest period.
    fn values(&mut self, mut values: Vec<f32>, run: usize) -> Values {
        drop_repetitions(&mut values);
        let some = values.iter().copied().find(|&v| v != 0.0).unwrap_or(0.0);
        let masked = values.iter().all(|&v| v == 0.0 || v == some);
        if values.len() >= FEWEST_RUNS && masked {
            let mut mask = vec![0; values.len() / 8];
            for (k, _) in values.iter().enumerate().filter(|v| *v.1 != 0.0) {
                mask[k / 8] |= 1 << (k % 8);
            }
            return Values::Kernel {
                weights: [some].into(),
                classes: self.classes(Classes::new(run, vec![0; values.len()])),
                mask: self.mask(&mask),
            };
        }
        if run == 1 || values.len() == 1 {
            return Values::Real(values.into());
        }
        Values::Kernel {
            classes: self.classes(Classes::runs(values.len(), run)),
            weights: values.into(),
            mask: None,
        }
    }
}

/// A diagonal while its entries are found.
enum Partial {
    /// All slots of a class that have any have the same: by class, and bits of runs of slots.
    Alike(Vec<f64>, Vec<u64>),
    /// By run of slots.
    Various(Vec<f64>),
}

/// Slots that get the same value: those of a set's rows, or some that follow each other.
struct Marks<'a> {
    slots: &'a [u32],
    /// Bits of the whole set's slots, by number of the word.
    words: &'a [(u32, u64)],
    /// How far on they lie.
    shift: usize,
}

impl Marks<'_> {
    /// Bits of 64 slots each; none where these would not begin with a word.
    fn bits(&self) -> Option<impl Iterator<Item = (usize, u64)>> {
        let (first, last) = (*self.slots.first()?, *self.slots.last()?);
        let below = |w: u32, slot: u32| match slot.saturating_sub(64 * w) {
            n @ ..64 => (1 << n) - 1,
            _ => u64::MAX,
        };
        let words = self.words.iter().map(move |&(w, bits)| {
            let own = below(w, last + 1) & !below(w, first);
            (self.shift / 64 + w as usize, bits & own)
        });
        self.shift.is_multiple_of(64).then_some(words)
    }
}

/// Bits of slots in ascending order, by number of the word.
fn words(slots: &[u32], words: &mut Vec<(u32, u64)>) {
    words.clear();
    for &slot in slots {
        match words.last_mut() {
            Some((w, bits)) if *w == slot / 64 => *bits |= 1 << (slot % 64),
            _ => words.push((slot / 64, 1 << (slot % 64))),
        }
    }
}

/// In single precision: checked for overflow when it is scaled.
#[expect(clippy::cast_possible_truncation, reason = "weights are kept so")]
fn single(v: f64) -> f32 {
    v as f32
}

/// Classes of a diagonal's runs, and how many the first halves have, quarters and so on.
struct Whole {
    classes: Arc<Classes>,
    counts: Vec<usize>,
}

impl Whole {
    fn new(classes: Arc<Classes>) -> Self {
        let of = classes.of();
        let count = |runs: usize| of[..runs].iter().max().map_or(0, |&c| usize::from(c) + 1);
        let halves = (0..=of.len().ilog2()).map(|k| count(of.len() >> k));
        let counts = halves.collect();
        Self { classes, counts }
    }
}

impl Partial {
    /// Value of run k.
    fn at(&self, k: usize, of: &[u16]) -> f64 {
        match self {
            Self::Alike(weights, mask) if mask[k / 64] >> (k % 64) & 1 == 1 => {
                weights[usize::from(of[k])]
            }
            Self::Alike(..) => 0.0,
            Self::Various(values) => values[k],
        }
    }

    fn put(&mut self, k: usize, value: f64, of: &[u16]) {
        if let Self::Alike(weights, mask) = self {
            let weight = &mut weights[usize::from(of[k])];
            if *weight == 0.0 || *weight == value {
                *weight = value;
                mask[k / 64] |= 1 << (k % 64);
                return;
            }
            *self = Self::Various((0..of.len()).map(|k| self.at(k, of)).collect());
        }
        if let Self::Various(values) = self {
            values[k] = value;
        }
    }

    /// The same at several runs of one class, each a slot.
    fn put_all(&mut self, marks: &Marks<'_>, value: f64, of: &[u16]) {
        let run = |slot: &u32| marks.shift + *slot as usize;
        if let Self::Alike(weights, mask) = self
            && let (Some(bits), Some(k)) = (marks.bits(), marks.slots.first().map(run))
        {
            let weight = &mut weights[usize::from(of[k])];
            if *weight == 0.0 || *weight == value {
                *weight = value;
                bits.for_each(|(w, bits)| mask[w] |= bits);
                return;
            }
        }
        for k in marks.slots.iter().map(run) {
            self.put(k, value, of);
        }
    }

    /// Runs of the shortest period that halving finds.
    fn period(&self, of: &[u16]) -> usize {
        let at = |k: usize| single(self.at(k, of));
        // no weight is 0 in single precision alone: what has none has no bit, and the other way round
        let exact = match self {
            Self::Alike(weights, _) => weights.iter().all(|&w| w == 0.0 || single(w) != 0.0),
            Self::Various(_) => false,
        };
        let repeats = |half: usize| match self {
            Self::Alike(_, mask) if exact && half >= 64 => {
                let (first, second) = mask[..half / 32].split_at(half / 64);
                let alike = |(i, &bits): (usize, &u64)| {
                    let mut own = (0..64).filter(|b| bits >> b & 1 == 1).map(|b| 64 * i + b);
                    bits == 0 || own.all(|k| at(k) == at(k + half))
                };
                first == second && first.iter().enumerate().all(alike)
            }
            _ => (0..half).all(|k| at(k) == at(k + half)),
        };
        let mut runs = of.len();
        while runs > 1 && repeats(runs / 2) {
            runs /= 2;
        }
        runs
    }

    /// In single precision.
    fn finish(self, whole: &Whole, common: &mut Common) -> Values {
        let of = whole.classes.of();
        let (run, runs) = (whole.classes.run(), self.period(of));
        let count = whole.counts[(of.len() / runs).ilog2() as usize];
        match &self {
            Self::Alike(weights, mask) if runs >= FEWEST_RUNS && 2 * count <= runs => {
                let bytes = mask[..runs.div_ceil(64)]
                    .iter()
                    .flat_map(|w| w.to_le_bytes());
                let mask: Vec<u8> = bytes.take(runs / 8).collect();
                Values::Kernel {
                    weights: weights[..count].iter().map(|&w| single(w)).collect(),
                    classes: match runs == of.len() {
                        true => whole.classes.clone(),
                        false => common.classes(Classes::new(run, of[..runs].to_vec())),
                    },
                    mask: common.mask(&mask),
                }
            }
            _ => common.values((0..runs).map(|k| single(self.at(k, of))).collect(), run),
        }
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
    /// Slots that are kept as one: the columns, where they fill a row of slots.
    run: usize,
    /// Of the result's places, if it is known, which have the same entries.
    kinds: Option<Kinds>,
}

/// An output ciphertext.
struct Output<'a> {
    number: usize,
    /// Rows whose results it holds.
    rows: &'a [usize],
    /// Places of all rows.
    places: &'a [(u32, u32)],
    /// Of each slot, the number of its channel among those of this ciphertext.
    channel: Vec<u16>,
    /// Channels.
    channels: usize,
}

impl<'a> Output<'a> {
    fn new(number: usize, q: &Quantity, rows: &'a [usize], places: &'a [(u32, u32)]) -> Self {
        let each = match q.layout.shape().as_image() {
            Some((_, height, width)) => height * width,
            None => 1,
        };
        let (mut channel, mut channels) = (vec![0; q.layout.period], 0u16);
        let mut last = None;
        for &r in rows {
            if last.is_some_and(|last| last != r / each) {
                channels = channels.saturating_add(1);
            }
            last = Some(r / each);
            channel[places[r].1 as usize] = channels;
        }
        Self {
            number,
            rows,
            places,
            channel,
            channels: usize::from(channels) + 1,
        }
    }
}

/// What is known of a map before it is packed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Survey {
    /// Of each source, which offsets occur.
    used: Vec<Vec<bool>>,
    /// Slots of its diagonals, at most: before repetitions are dropped and equal ciphertexts are found.
    pub(crate) values: u64,
    /// Bytes of them, about: a number for every channel where its positions are alike, and masks for every offset.
    pub(crate) bytes: u64,
    /// The most of these that one output ciphertext has.
    pub(crate) together: u64,
}

/// Finds which diagonals a map has, without their values; other kinds have none.
pub(crate) fn survey(normal: &Normal, q: &Quantity) -> Survey {
    if !matches!(q.kind, Kind::Linear { .. }) || q.domain == Domain::Coefficients {
        return Survey::default();
    }
    surveyed(q, &groups(normal, q, |_, ciphertext| ciphertext))
}

fn surveyed(q: &Quantity, groups: &[Group<'_>]) -> Survey {
    let out_places = q.layout.places();
    let mut found = Survey {
        used: groups.iter().map(|g| vec![false; g.modulus]).collect(),
        ..Survey::default()
    };
    for (number, rows) in rows(q, &out_places).iter().enumerate() {
        let channels = Output::new(number, q, rows, &out_places).channels;
        let mut bytes = 0;
        for (group, used) in groups.iter().zip(&mut found.used) {
            let diagonals = group.survey(rows, &out_places, used);
            let length = group.slots.max(q.layout.period);
            found.values += (diagonals * length) as u64;
            let numbers = match group.chains.iter().any(|c| varies(c)) {
                true => length / group.run,
                false => channels.min(length),
            };
            bytes += 4 * (diagonals * numbers) as u64;
        }
        found.bytes += bytes;
        found.together = found.together.max(bytes);
    }
    for (group, used) in groups.iter().zip(&found.used) {
        let offsets = used.iter().filter(|u| **u).count();
        found.bytes += (offsets * group.slots.max(q.layout.period) / 8 / group.run) as u64;
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
            run: 1,
            kinds: None,
        };
        if layout.by_column() && q.layout.by_column() {
            let chains = group.chains.iter().copied();
            group.columns = columnwise(chains, layout.shape(), q.layout.shape()).unwrap_or(1);
            if layout.width == group.columns {
                group.run = group.columns;
            }
        }
        // ciphertexts that are others in place of their own are no neighbours
        if group.columns == 1 && (0..narrow(layout.ciphertexts)).all(|c| number(source, c) == c) {
            group.kinds = Kinds::of(group.chains.iter().copied(), layout, &q.layout);
        }
        group
    };
    q.sources().into_iter().map(group).collect()
}

/// Packs quantity `q`, which must be [`Kind::Linear`]; other kinds have no terms. `twins` are those of the quantities before it.
pub(crate) fn pack(
    normal: &Normal,
    q: &Quantity,
    survey: &Survey,
    twins: &[Twins],
    common: &mut Common,
) -> Packed {
    let twin = |source: Id, c: u32| narrow(twins[source].of[c as usize]);
    packed(q, groups(normal, q, twin), survey, twins, common)
}

fn packed(
    q: &Quantity,
    mut groups: Vec<Group<'_>>,
    survey: &Survey,
    twins: &[Twins],
    common: &mut Common,
) -> Packed {
    let out_places = q.layout.places();
    let period = q.layout.period;
    let mut inputs = Vec::new();
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
        let made = Output::new(output, q, rows, &out_places);
        for group in &groups {
            diagonals.extend(group.diagonals(&made, (slots, period), common));
        }
        if diagonals.len() == before {
            diagonals.push(Diagonal {
                input: 0,
                output,
                walk: [0; 3],
                values: Values::Real([0.0].into()),
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
    /// Those of these rows whose entries are looked up, and the rows that are these shifted.
    fn sets(&self, rows: &[usize], places: &[(u32, u32)]) -> Sets {
        let own = rows.iter().filter(|&&r| r.is_multiple_of(self.columns));
        Sets::of(self.kinds.as_ref(), own.copied(), places)
    }

    fn entries(&self, r: usize, entry: &mut dyn FnMut(usize, f64)) {
        for chain in &self.chains {
            chain_row(chain, r, 1.0, entry);
        }
    }

    /// Marks the offsets that occur in these rows; gives the number of their diagonals.
    fn survey(&self, rows: &[usize], out_places: &[(u32, u32)], used: &mut [bool]) -> usize {
        let mut seen = vec![false; self.inputs() * self.modulus];
        let mut diagonals = 0;
        for set in self.sets(rows, out_places).iter() {
            self.entries(set.first, &mut |c, w| {
                if w != 0.0 {
                    let (ciphertext, p) = self.places[c];
                    let d = (p.wrapping_sub(set.slots[0]) as usize) & (self.modulus - 1);
                    let several = set.before(p, self.slots) < set.slots.len();
                    for ciphertext in
                        ciphertext as usize..=ciphertext as usize + usize::from(several)
                    {
                        let seen = &mut seen[ciphertext * self.modulus + d];
                        diagonals += usize::from(!*seen);
                        (*seen, used[d]) = (true, true);
                    }
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

    /// The diagonals of one output ciphertext, of a map of so many slots with results of this period.
    fn diagonals(
        &self,
        output: &Output<'_>,
        (slots, period): (usize, usize),
        common: &mut Common,
    ) -> Vec<Diagonal> {
        let length = self.slots.max(period);
        let share = length as f64 / slots as f64;
        let runs = length / self.run;
        let of = (0..runs).map(|k| output.channel[k * self.run % period]);
        let whole = Whole::new(common.classes(Classes::new(self.run, of.collect())));
        let of = whole.classes.of();
        let none = || match runs >= FEWEST_RUNS && 2 * output.channels <= runs {
            true => Partial::Alike(vec![0.0; output.channels], vec![0; runs.div_ceil(64)]),
            false => Partial::Various(vec![0.0; runs]),
        };
        let mut at = vec![u32::MAX; self.inputs() * self.modulus];
        let mut found: Vec<(usize, usize, Partial)> = Vec::new();
        let wrapped = |w| self.slots_of(w).rem_euclid(signed(self.slots));
        let offset = |w| usize::try_from(wrapped(w)).unwrap_or(0);
        let offsets: Vec<usize> = self.walks.iter().map(offset).collect();
        // a row's entries by place: several columns may lie in one, and chains meet
        let mut met = vec![u32::MAX; self.inputs() * self.slots];
        let mut row: Vec<(usize, usize, f64)> = Vec::new();
        let mut bits = Vec::new();
        for set in self.sets(output.rows, output.places).iter() {
            words(set.slots, &mut bits);
            self.entries(set.first, &mut |c, w| {
                if w == 0.0 {
                    return;
                }
                let (ciphertext, p) = (self.places[c].0 as usize, self.places[c].1 as usize);
                let met = &mut met[ciphertext * self.slots + p];
                if *met == u32::MAX {
                    *met = narrow(row.len());
                    row.push((ciphertext, p, 0.0));
                }
                row[*met as usize].2 += w * share;
            });
            let j = set.slots[0] as usize;
            for (ciphertext, p, value) in row.drain(..) {
                met[ciphertext * self.slots + p] = u32::MAX;
                if value == 0.0 {
                    continue;
                }
                let d = p.wrapping_sub(j) & (self.modulus - 1);
                let slot = if self.slots >= period {
                    p.wrapping_sub(offsets[d]) & (self.slots - 1)
                } else {
                    j
                };
                let mut partial = |ciphertext: usize| {
                    let index = &mut at[ciphertext * self.modulus + d];
                    if *index == u32::MAX {
                        *index = narrow(found.len());
                        found.push((ciphertext, d, none()));
                    }
                    *index as usize
                };
                if set.slots.len() == 1 {
                    let index = partial(ciphertext);
                    for k in slot / self.run..(slot + self.columns) / self.run {
                        found[index].2.put(k, value, of);
                    }
                    continue;
                }
                let (here, next) = set.slots.split_at(set.before(narrow(p), self.slots));
                let beside = (!next.is_empty()).then(|| partial(ciphertext + 1));
                let both = [(Some(partial(ciphertext)), here), (beside, next)];
                for (index, slots) in both.into_iter().filter_map(|b| b.0.zip(Some(b.1))) {
                    let (words, shift) = (&bits[..], slot - j);
                    let marks = Marks {
                        slots,
                        words,
                        shift,
                    };
                    found[index].2.put_all(&marks, value, of);
                }
            }
        }
        found.sort_by_key(|f| (f.0, f.1));
        (found.into_iter())
            .map(|(ciphertext, d, values)| Diagonal {
                input: self.first + ciphertext,
                output: output.number,
                walk: self.walks[d],
                values: values.finish(&whole, common),
            })
            .collect()
    }

    fn slots_of(&self, walk: &Walk) -> i64 {
        walk.iter().zip(&self.pitch).map(|(w, p)| w * p).sum()
    }
}

/// Ciphertexts made of a quantity's by moving slots.
pub(crate) fn moved(moves: &Moves, source: Id, common: &mut Common) -> Packed {
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
    let mut short: BTreeMap<*const Shift, Values> = BTreeMap::new();
    let mut diagonals = Vec::new();
    let each = moves.outputs.iter().enumerate();
    for (output, (input, shifts)) in each.flat_map(|(o, all)| all.iter().map(move |m| (o, m))) {
        for shift in shifts.iter() {
            let known = short.entry(std::ptr::from_ref(shift));
            let values = known.or_insert_with(|| common.values(shift.values.clone(), 1));
            diagonals.push(Diagonal {
                input: *input,
                output,
                walk: [shift.by[0], 0, shift.by[1]],
                values: values.clone(),
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

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use crate::draft::Draft;
    use crate::random::Random;
    use ckks::ParametersSpec;

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

    /// Networks of all kinds of maps between pictures, and dense layers behind them.
    #[test]
    fn rows_that_are_shifted_pack_as_they_do_one_by_one() {
        let mut random = Random(1);
        let (mut maps, mut shifted) = (0, 0);
        for case in 0..60 {
            let graph = random.pictures();
            let target = Target::default();
            // from planes in several ciphertexts to several in one
            let set = ParametersSpec::toy_levelled([7, 8, 10, 12][case % 4], 8);
            let draft = Draft::normal(&graph, &target, set, None).expect("known");
            let normal = &draft.normal;
            let all = normal.quantities.iter();
            let twins: Vec<Twins> = all
                .map(|q| Twins::by_key(0..q.layout.ciphertexts))
                .collect();
            for q in &normal.quantities {
                if !matches!(q.kind, Kind::Linear { .. }) {
                    continue;
                }
                let own = || groups(normal, q, |_, c| c);
                let alone = || {
                    let mut alone = own();
                    alone.iter_mut().for_each(|g| g.kinds = None);
                    alone
                };
                maps += 1;
                shifted += usize::from(own().iter().all(|g| g.kinds.is_some()));
                let surveys = [surveyed(q, &own()), surveyed(q, &alone())];
                assert_eq!(surveys[0], surveys[1], "{} of {case}", q.layer);
                let mut common = Common::default();
                let new = packed(q, own(), &surveys[0], &twins, &mut common);
                let old = packed(q, alone(), &surveys[0], &twins, &mut common);
                assert_eq!(new.diagonals.len(), old.diagonals.len(), "{}", q.layer);
                for (a, b) in new.diagonals.iter().zip(&old.diagonals) {
                    assert_eq!(a, b, "{} of {case}", q.layer);
                }
            }
        }
        assert!(shifted > 40 && shifted < maps, "{shifted} of {maps}");
    }

    #[test]
    fn a_diagonal_has_a_weight_for_each_channel_as_long_as_these_are_alike() {
        let mut common = Common::default();
        // two channels, each of sixteen slots
        let of: Vec<u16> = (0..32).map(|k| k / 16).collect();
        let whole = Whole::new(common.classes(Classes::new(1, of.clone())));
        let mut finish = |entries: &[(usize, f64)]| {
            let mut d = Partial::Alike(vec![0.0; 2], vec![0]);
            entries.iter().for_each(|&(k, v)| d.put(k, v, &of));
            let values = d.finish(&whole, &mut common);
            for k in 0..32 {
                let wanted = entries
                    .iter()
                    .find(|e| e.0 % values.len() == k % values.len());
                assert_eq!(
                    values.at(k).re,
                    wanted.map_or(0.0, |e| e.1),
                    "{k} of {entries:?}"
                );
            }
            values
        };
        let kernel = finish(&[(0, 0.5), (3, 0.5), (17, -1.0)]);
        assert!(matches!(&kernel, Values::Kernel { weights, .. } if **weights == [0.5, -1.0]));
        let Values::Real(various) = finish(&[(0, 0.5), (3, 0.25), (17, -1.0)]) else {
            panic!("weights of a channel differ");
        };
        assert_eq!(various.len(), 32);
        let both = (0..32).map(|k| (k, 0.5)).collect::<Vec<_>>();
        assert_eq!(finish(&both), Values::Real([0.5].into()));
        // a period of half the length
        let half = finish(&[(2, 0.5), (18, 0.5)]);
        assert_eq!((half.len(), half.weights()), (16, &[0.5][..]));
    }

    #[test]
    fn values_are_kept_as_one_period_or_a_mask() {
        let mut common = Common::default();
        let values = |v: &[f32], run, common: &mut Common| common.values(v.to_vec(), run);
        assert_eq!(
            values(&[1.0, 2.0, 1.0, 2.0], 1, &mut common),
            Values::Real([1.0, 2.0].into())
        );
        assert_eq!(
            values(&[0.0; 8], 4, &mut common),
            Values::Real([0.0].into())
        );
        let runs = values(&[1.0, 2.0, 3.0, 2.0], 4, &mut common);
        assert_eq!((runs.len(), runs.at(11).re, runs.at(12).re), (16, 3.0, 2.0));
        let mut mask = [0.0; 16];
        (mask[3], mask[9]) = (0.25, 0.25);
        let mask = values(&mask, 1, &mut common);
        assert_eq!((mask.len(), mask.weights()), (16, &[0.25][..]));
        assert_eq!([3, 4, 25].map(|j| mask.at(j).re), [0.25, 0.0, 0.25]);
    }
}
