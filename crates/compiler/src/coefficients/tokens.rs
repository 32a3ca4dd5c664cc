//! Where tokens lie, in coefficients and in the slots above them, and how slots move for attention.
//!
//! A sequence of L places (a power of two; [`super::sequence`] says what lies where there is no token) in a ring of degree N: channel c at token t has coefficient leaf(c) + m·t of ciphertext ⌊leaf/m⌋, m = N/L
//! channels to a ciphertext. Half bootstraps bring it up in two parts, tokens below and from T = L/2 on, with bits reversed: slot κ·T + τ, κ the
//! leaf's bits reversed, τ those of t modulo T. Which channel has which leaf is free to choose: each layer packs its outputs as what reads them needs.
//!
//! **Heads.** For attention κ = c·B + h: channel c of B heads that share a ciphertext. Rotations by multiples of B·T then turn the channels of all heads,
//! exactly, and those below T move tokens.
//!
//! **Scores.** Of queries in part p and keys in part b, S\[r, τ\] = Σ_c Q\[c, τ\]·K\[c, τ + r\] for all distances r modulo T: the channel's place of a head
//! holds the distance. S\[r\] = Σ_j Q\[r + j\]·K\[r + j, τ + r\]: a sum of as many products as a head has channels, whose scores are once a head and dense.
//! With j = A·g + a it is Σ_g of Z_g turned by A·g, Z_g = Σ_a Q_a ⊙ K_ag: Q_a is Q turned by a, and Z_g is relinearised once. K_ag comes of K skewed,
//! K'\[c, τ\] = K\[c, τ + c\], by at most four diagonals. The map that turns and sums the Z_g has the mask as its weights.
//! **Values** are weighed in the same way: Y\[c, τ\] = Σ_j S\[c + j\]·V\[c, τ + c + j\]. Where T is more than the channels of a head, distances
//! take several ciphertexts; where it is less, they repeat.

use crate::layout::Layout;
use ckks::coefficients::slot_of;
use nn::{Boundary, Shape};
use runtime::folding::Folding;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A sequence in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Degree of the ring.
    n: usize,
    /// Places for tokens.
    length: usize,
    /// Public ones before the first token.
    public: usize,
    /// Tokens.
    count: usize,
}

/// Heads in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// How many.
    pub(crate) count: usize,
    /// Channels of a head.
    pub(crate) size: usize,
    /// The same as a power of two.
    pub(crate) padded: usize,
    /// Heads that share a ciphertext.
    beside: usize,
}

/// Scores of heads: their ciphertexts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scores {
    pub(crate) heads: Heads,
    blocks: Vec<Block>,
}

/// What a ciphertext of scores holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    /// Which of the ciphertexts that heads share.
    group: usize,
    /// Part of the queries, part of the keys.
    queries: usize,
    keys: usize,
    /// Which distances: those from `padded` times this on.
    distances: usize,
}

/// Where slots of every ciphertext come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moves {
    /// Slots of a ciphertext, and of a column and a row of walks.
    pub(crate) slots: usize,
    pub(crate) size: [usize; 2],
    /// Ciphertexts that are read.
    pub(crate) inputs: usize,
    /// For each result the ciphertexts that it is made of, and how.
    pub(crate) outputs: Vec<Vec<(usize, Arc<[Shift]>)>>,
    /// What is added to results, in the units of what is read.
    pub(crate) added: BTreeMap<usize, Vec<f64>>,
}

/// Slots that move by the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shift {
    /// Columns and planes.
    pub(crate) by: [i64; 2],
    /// A factor for every slot of the result.
    pub(crate) values: Vec<f32>,
}

impl Tokens {
    /// Fewest tokens: bootstraps need four slots.
    pub(crate) const FEWEST: usize = 8;

    /// So many tokens behind so many public ones, one at most, in the least power of two of places; none where they can't lie so: more than half of
    /// the places must have one.
    pub(crate) fn new(n: usize, count: usize, public: usize) -> Option<Self> {
        let all = count.checked_add(public)?;
        let length = all.checked_next_power_of_two()?.max(Self::FEWEST);
        let fits = 2 * all > length && length <= n / 2 && public <= 1;
        fits.then_some(Self {
            n,
            length,
            public,
            count,
        })
    }
    /// Places for tokens.
    pub(crate) fn length(self) -> usize {
        self.length
    }
    /// Tokens.
    pub(crate) fn count(self) -> usize {
        self.count
    }
    /// Public ones before them.
    pub(crate) fn public(self) -> usize {
        self.public
    }
    /// Whether every place has a token.
    pub(crate) fn whole(self) -> bool {
        self.count == self.length
    }
    /// Whether a place has a token.
    pub(crate) fn is_token(self, place: usize) -> bool {
        self.range(0, self.count).contains(&place)
    }
    /// The places of so many tokens from one on.
    pub(crate) fn range(self, first: usize, count: usize) -> Range<usize> {
        self.public + first..self.public + first + count
    }
    /// The place with a token whose values lie in this one, too: the same slot of the other part, or, for a public token, the next place, since queries of
    /// the first part may see no key of the second.
    pub(crate) fn real(self, place: usize) -> usize {
        match place {
            p if self.is_token(p) => p,
            p if p < self.public => p + 1,
            p => p - self.columns(),
        }
    }
    /// Whether a query sees a key that no mask hides.
    pub(crate) fn sees(self, query: usize, key: usize, boundary: Boundary) -> bool {
        let there = key < self.public || self.is_token(key);
        there && (boundary == Boundary::Cyclic || key <= self.real(query))
    }
    /// Places without a token filled with copies, of so many ciphertexts; none where there is no such place.
    pub(crate) fn filled(self, inputs: usize) -> Option<Moves> {
        if self.whole() {
            return None;
        }
        let (columns, signed) = (self.columns(), |x: usize| {
            i64::try_from(x).unwrap_or(i64::MAX)
        });
        let part = |part: usize| {
            // by the part that it comes from, and by how far
            let mut found: BTreeMap<(usize, i64), Vec<f32>> = BTreeMap::new();
            for t in part * columns..(part + 1) * columns {
                let (to, from) = (self.column(t), self.real(t));
                let key = (from / columns, signed(self.column(from)) - signed(to));
                found.entry(key).or_insert_with(|| vec![0.0; columns])[to] = 1.0;
            }
            found
        };
        let parts = [part(0), part(1)];
        let output = |ciphertext: usize| {
            let each = parts[ciphertext % 2].iter();
            let each = each.map(|((part, by), values)| {
                let values = values.clone();
                let by = [*by, 0];
                (ciphertext / 2 * 2 + part, [Shift { by, values }].into())
            });
            each.collect()
        };
        Some(Moves {
            slots: self.slots(),
            size: [columns, 1],
            inputs,
            outputs: (0..inputs).map(output).collect(),
            added: BTreeMap::new(),
        })
    }
    fn slots(self) -> usize {
        self.n / 2
    }
    /// Channels that a ciphertext holds.
    pub(crate) fn each(self) -> usize {
        self.n / self.length
    }
    /// Tokens of a part.
    fn columns(self) -> usize {
        self.length / 2
    }
    fn column(self, t: usize) -> usize {
        slot_of(t % self.columns(), self.columns())
    }
    fn place(self, leaf: usize, t: usize) -> (u32, u32) {
        let (each, columns) = (self.each(), self.columns());
        let slot = slot_of(leaf % each, each) * columns + self.column(t);
        narrow(2 * (leaf / each) + t / columns, slot)
    }
    fn laid(self, leaves: impl ExactSizeIterator<Item = usize>, beside: usize) -> Layout {
        let channels = leaves.len();
        let (mut table, mut groups) = (Vec::with_capacity(channels * self.length), 0);
        for leaf in leaves {
            groups = groups.max(leaf / self.each() + 1);
            table.extend((0..self.length).map(|t| self.place(leaf, t)));
        }
        let shape = Shape::image(channels, 1, self.length);
        Layout::table(
            shape,
            table,
            (self.columns(), beside),
            (self.slots(), 2 * groups),
        )
    }
    /// Channels one after the other.
    pub(crate) fn state(self, channels: usize) -> Layout {
        self.laid(0..channels, 1)
    }
    /// One channel, which every place of a channel holds.
    pub(crate) fn single(self) -> Layout {
        let columns = self.columns();
        let table = (0..self.length).map(|t| narrow(t / columns, self.column(t)));
        let shape = Shape::image(1, 1, self.length);
        Layout::table(shape, table.collect(), (columns, 1), (columns, 2))
    }
    /// None where a head does not fit a ciphertext.
    pub(crate) fn heads(self, count: usize, size: usize) -> Option<Heads> {
        let padded = size.checked_next_power_of_two()?;
        let beside = self.each() / padded;
        (beside > 0 && count > 0).then_some(Heads {
            count,
            size,
            padded,
            beside,
        })
    }
    /// Queries, keys, values, and what is made of them.
    pub(crate) fn by_heads(self, h: Heads) -> Layout {
        let (each, channels) = (self.each(), h.count * h.size);
        let leaf = |channel: usize| {
            let (head, c) = (channel / h.size, channel % h.size);
            let place = c * h.beside + head % h.beside;
            each * (head / h.beside) + slot_of(place, each)
        };
        self.laid((0..channels).map(leaf), h.beside)
    }
    /// Sums over a query's keys: one for each head, which all of its channels hold.
    pub(crate) fn sums(self, h: Heads) -> Layout {
        let columns = self.columns();
        let channels = (0..h.count).flat_map(|head| std::iter::repeat_n(head, h.size));
        let places = |head: usize| {
            (0..self.length).map(move |t| {
                let slot = head % h.beside * columns + self.column(t);
                narrow(2 * (head / h.beside) + t / columns, slot)
            })
        };
        let shape = Shape::image(h.count * h.size, 1, self.length);
        let groups = h.count.div_ceil(h.beside);
        Layout::table(
            shape,
            channels.flat_map(places).collect(),
            (columns, h.beside),
            (h.beside * columns, 2 * groups),
        )
    }
    /// The scores of heads; `later` says whether queries of the first part see keys of the second.
    pub(crate) fn scores(self, heads: Heads, later: impl Fn(usize, usize) -> bool) -> Scores {
        let groups = heads.count.div_ceil(heads.beside);
        let mut blocks = Vec::new();
        for group in 0..groups {
            for (queries, keys) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (first, second) = (queries * self.columns(), keys * self.columns());
                let mut pairs = (0..self.columns())
                    .flat_map(|t| (0..self.columns()).map(move |u| (first + t, second + u)));
                if !pairs.any(|(t, u)| later(t, u)) {
                    continue;
                }
                for distances in 0..self.times(heads) {
                    blocks.push(Block {
                        group,
                        queries,
                        keys,
                        distances,
                    });
                }
            }
        }
        Scores { heads, blocks }
    }
    /// Ciphertexts that the distances of a part take.
    fn times(self, h: Heads) -> usize {
        self.columns().div_ceil(h.padded)
    }
    /// Distances that a ciphertext holds.
    fn distances(self, h: Heads) -> usize {
        self.columns().min(h.padded)
    }
    /// Where scores lie: all slots, one after the other.
    pub(crate) fn by_distance(self, s: &Scores) -> Layout {
        let (slots, count) = (self.slots(), s.blocks.len());
        let table = (0..count).flat_map(|k| (0..slots).map(move |j| narrow(k, j)));
        let shape = Shape::Vector(count * slots);
        let size = (self.columns(), s.heads.beside);
        Layout::table(shape, table.collect(), size, (slots, count))
    }
    /// So many ciphertexts that serve one product.
    pub(crate) fn copies(self, h: Heads, count: usize) -> Layout {
        let size = (self.columns(), h.beside);
        Layout::table(Shape::Vector(0), Vec::new(), size, (self.slots(), count))
    }

    /// `per` results of each of `inputs` ciphertexts: result k takes for channel c and column τ what lies at the channel and column that `from` says.
    fn moves(
        self,
        h: Heads,
        (inputs, per): (usize, usize),
        from: impl Fn(usize, usize, usize) -> (usize, usize),
    ) -> Moves {
        let (columns, planes) = (self.columns(), self.each() / h.beside);
        let signed = |x: usize| i64::try_from(x).unwrap_or(i64::MAX);
        let each: Vec<Arc<[Shift]>> = (0..per)
            .map(|k| {
                let mut found: BTreeMap<[i64; 2], Vec<f32>> = BTreeMap::new();
                for c in 0..planes {
                    for column in 0..columns {
                        let (plane, at) = from(k, c, column);
                        let plane = signed((plane + planes - c) % planes);
                        let by = [signed(at) - signed(column), plane];
                        let none = || vec![0.0; self.slots()];
                        let values = found.entry(by).or_insert_with(none);
                        for head in 0..h.beside {
                            values[(c * h.beside + head) * columns + column] = 1.0;
                        }
                    }
                }
                let shifts = found.into_iter().map(|(by, values)| Shift { by, values });
                shifts.collect()
            })
            .collect();
        Moves {
            slots: self.slots(),
            size: [columns, h.beside],
            inputs,
            outputs: (0..inputs)
                .flat_map(|i| each.iter().map(move |e| vec![(i, Arc::clone(e))]))
                .collect(),
            added: BTreeMap::new(),
        }
    }
    /// X_a\[c, τ\] = X\[c + a, τ\] for a below `count`.
    pub(crate) fn turned(self, h: Heads, inputs: usize, count: usize) -> Moves {
        self.moves(h, (inputs, count), |a, c, column| {
            ((c + a) % h.padded, column)
        })
    }
    /// How a sum over so many j is taken: A, and how many g.
    fn steps(count: usize) -> (usize, usize) {
        let small = 1 << count.ilog2().div_ceil(2);
        (small, count / small)
    }
    /// So many turns of queries.
    pub(crate) fn turns_of_queries(h: Heads) -> usize {
        Self::steps(h.padded).0
    }
    /// So many turns of weights.
    pub(crate) fn turns_of_weights(self, h: Heads) -> usize {
        Self::steps(self.distances(h)).0
    }
    /// K'\[c, τ\] = K\[c, τ + c\], with this in the place of the public token's, one number a channel.
    pub(crate) fn skewed(self, h: Heads, inputs: usize, public: Option<&[f64]>) -> Moves {
        let columns = self.columns();
        let mut all = self.moves(h, (inputs, 1), |_, c, column| (c, (column + c) % columns));
        let Some(public) = public else { return all };
        // where its place goes, in the first part
        let places = |c: usize| {
            let at = (self.column(0) + columns - c % columns) % columns;
            (0..h.beside).map(move |head| (head, (c * h.beside + head) * columns + at))
        };
        for (k, output) in all.outputs.iter_mut().enumerate().step_by(2) {
            let mut added = vec![0.0; self.slots()];
            for (_, shifts) in output {
                let mut less = shifts.to_vec();
                for c in 0..self.each() / h.beside {
                    for (head, slot) in places(c) {
                        less.iter_mut().for_each(|s| s.values[slot] = 0.0);
                        let channel = (k / 2 * h.beside + head) * h.size + c;
                        let own = c < h.size && k / 2 * h.beside + head < h.count;
                        added[slot] = if own { public[channel] } else { 0.0 };
                    }
                }
                *shifts = less.into();
            }
            all.added.insert(k, added);
        }
        all
    }
    /// The column of skewed values that holds column τ + r of channel c.
    fn unskewed(self, column: usize, r: usize, c: usize) -> usize {
        let columns = self.columns();
        (column + r + (columns - c % columns)) % columns
    }
    /// K_ag\[r, τ\] = K\[r + a, τ + (r − A·g)\] of skewed keys, for all g and a, and so for each ciphertext of distances.
    pub(crate) fn delayed(self, h: Heads, inputs: usize) -> Moves {
        let (small, _) = Self::steps(h.padded);
        let count = self.times(h) * h.padded;
        self.moves(h, (inputs, count), |k, r, column| {
            let (times, j) = (k / h.padded, k % h.padded);
            let (a, turn) = (j % small, j - j % small);
            let c = (r + a) % h.padded;
            let distance = (r + h.padded - turn) % h.padded + times * h.padded;
            (c, self.unskewed(column, distance, c))
        })
    }
    /// V_ag\[c, τ\] = V\[c − A·g, τ + (c + a)\] of skewed values, over the distances that a ciphertext holds, and so for each ciphertext of distances.
    pub(crate) fn delivered(self, h: Heads, inputs: usize) -> Moves {
        let distances = self.distances(h);
        let (small, _) = Self::steps(distances);
        let count = self.times(h) * distances;
        self.moves(h, (inputs, count), |k, place, column| {
            let (times, j) = (k / distances, k % distances);
            let (a, turn) = (j % small, j - j % small);
            let c = (place + h.padded - turn) % h.padded;
            let distance = (place + a) % h.padded + times * h.padded;
            (c, self.unskewed(column, distance, c))
        })
    }
    /// Which of turned queries and delayed keys are multiplied for each ciphertext of scores.
    pub(crate) fn scoring(self, s: &Scores) -> Arc<[Vec<(usize, usize)>]> {
        let (padded, times) = (s.heads.padded, self.times(s.heads));
        let (small, large) = Self::steps(padded);
        let pairs = |b: &Block, g: usize| {
            let queries = (2 * b.group + b.queries) * small;
            let keys = ((2 * b.group + b.keys) * times + b.distances) * padded;
            let all = (0..small).map(|a| (queries + a, keys + g * small + a));
            all.collect()
        };
        let each = (0..large).flat_map(|g| s.blocks.iter().map(move |b| pairs(b, g)));
        each.collect()
    }
    /// Which of turned weights and delivered values are multiplied for each ciphertext of the result.
    pub(crate) fn weighing(self, s: &Scores) -> Arc<[Vec<(usize, usize)>]> {
        let (distances, times) = (self.distances(s.heads), self.times(s.heads));
        let (small, large) = Self::steps(distances);
        let groups = s.heads.count.div_ceil(s.heads.beside);
        let of = |out: usize| {
            let blocks = s.blocks.iter().enumerate();
            let own = blocks.filter(|(_, b)| 2 * b.group + b.queries == out % (2 * groups));
            own.flat_map(|(k, b)| {
                let values = ((2 * b.group + b.keys) * times + b.distances) * distances;
                let values = values + out / (2 * groups) * small;
                (0..small).map(move |a| (k * small + a, values + a))
            })
            .collect()
        };
        (0..2 * groups * large).map(of).collect()
    }
    /// Sums of as many ciphertexts as there are turns, each turned by as much more: a full turn of `count` channels, times what this says of each slot. The
    /// parts of all sums for one turn follow each other, so that what they share is used up together.
    fn gathered(self, h: Heads, count: usize, values: Vec<Vec<f32>>) -> Moves {
        let (small, large) = Self::steps(count);
        let (sums, inputs) = (values.len(), values.len() * large);
        let of = |(k, values): (usize, Vec<f32>)| {
            let turn = |g: usize| {
                let by = [0, i64::try_from(g * small).unwrap_or(0)];
                let values = values.clone();
                (g * sums + k, [Shift { by, values }].into())
            };
            (0..large).map(turn).collect()
        };
        Moves {
            slots: self.slots(),
            size: [self.columns(), h.beside],
            inputs,
            outputs: values.into_iter().enumerate().map(of).collect(),
            added: BTreeMap::new(),
        }
    }
    /// So many results of weighing.
    pub(crate) fn summed(self, s: &Scores, results: usize) -> Moves {
        self.gathered(s.heads, self.distances(s.heads), vec![vec![1.0]; results])
    }
    /// Scores, times what this says of the query's and the key's token.
    pub(crate) fn scored(self, s: &Scores, value: impl Fn(usize, usize) -> f32) -> Moves {
        self.gathered(s.heads, s.heads.padded, self.masks(s, value).0)
    }
    /// The tokens of a query and a key, by a slot's channel and column.
    fn pair(self, h: Heads, b: &Block, c: usize, column: usize) -> (usize, usize) {
        let columns = self.columns();
        let r = (c + b.distances * h.padded) % columns;
        let token = |part: usize, column: usize| part * columns + slot_of(column, columns);
        (
            token(b.queries, column),
            token(b.keys, (column + r) % columns),
        )
    }
    /// What this says of the query's and the key's token in every slot, and whether that is 1 everywhere.
    fn masks(self, s: &Scores, value: impl Fn(usize, usize) -> f32) -> (Vec<Vec<f32>>, bool) {
        let (h, columns) = (s.heads, self.columns());
        let planes = self.each() / h.beside;
        let mut plain = true;
        let each = s.blocks.iter().map(|b| {
            let mut values = vec![0.0; self.slots()];
            for c in 0..planes {
                for column in 0..columns {
                    let (t, u) = self.pair(h, b, c, column);
                    let v = value(t, u);
                    plain &= v == 1.0;
                    let first = c * h.beside * columns + column;
                    (0..h.beside).for_each(|head| values[first + head * columns] = v);
                }
            }
            values
        });
        (each.collect(), plain)
    }
    /// Scores times what this says of the query's and the key's token; none where that is 1 everywhere.
    pub(crate) fn mask(self, s: &Scores, value: impl Fn(usize, usize) -> f32) -> Option<Moves> {
        let (masks, plain) = self.masks(s, value);
        (!plain).then(|| self.gathered(s.heads, 1, masks))
    }
    /// For each head and token of a query, the places of its scores; and in how many of them each is.
    pub(crate) fn keys(self, s: &Scores) -> (Vec<Vec<u32>>, usize) {
        let (h, columns) = (s.heads, self.columns());
        let mut all = Vec::with_capacity(h.count * self.length);
        for head in 0..h.count {
            for t in 0..self.length {
                let blocks = s.blocks.iter().enumerate();
                let own =
                    blocks.filter(|(_, b)| b.group == head / h.beside && b.queries == t / columns);
                let places = own.flat_map(|(k, _)| {
                    (0..h.padded).map(move |c| {
                        let plane = c * h.beside + head % h.beside;
                        narrow(0, k * self.slots() + plane * columns + self.column(t)).1
                    })
                });
                all.push(places.collect());
            }
        }
        (all, h.padded / self.distances(h))
    }

    /// The leaf of each channel; none where it is no sequence that lies in coefficients.
    pub(crate) fn leaves(layout: &Layout) -> Option<Vec<usize>> {
        let (channels, height, length) = layout.shape().as_image()?;
        if !layout.is_table() || height != 1 {
            return None;
        }
        let tokens = Self::new(2 * layout.period, length, 0).filter(|t| t.whole())?;
        let (each, columns) = (tokens.each(), tokens.columns());
        let places = layout.places();
        let leaf = |c: usize| {
            let (ciphertext, slot) = places[c * length];
            let leaf = slot_of(slot as usize / columns, each);
            let leaf = leaf + each * (ciphertext as usize / 2);
            (places[c * length..][..length].iter().enumerate())
                .all(|(t, p)| *p == tokens.place(leaf, t))
                .then_some(leaf)
        };
        (0..channels).map(leaf).collect()
    }
    /// How such a sequence lies in coefficients.
    pub(crate) fn folding(layout: &Layout, leaves: &[usize]) -> Folding {
        let length = layout.shape().columns();
        let last = leaves.iter().max().map_or(0, |l| l + 1);
        Folding {
            spacing: 2 * layout.period / length,
            gap: 1,
            pitch: length,
            shape: [last, 1, length],
        }
    }
    /// Ciphertext and coefficient of every value.
    pub(crate) fn coefficients(layout: &Layout) -> Vec<(u32, u32)> {
        let length = layout.shape().columns();
        let each = 2 * layout.period / length;
        let leaves = Self::leaves(layout).unwrap_or_default();
        let of =
            |leaf: usize| (0..length).map(move |t| narrow(leaf / each, leaf % each + each * t));
        leaves.into_iter().flat_map(of).collect()
    }
}

/// Places are below 2^28.
fn narrow(ciphertext: usize, slot: usize) -> (u32, u32) {
    let narrow = crate::layout::narrow;
    (narrow(ciphertext), narrow(slot))
}
