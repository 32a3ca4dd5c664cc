//! Rows of a map between pictures that are another row, shifted: a convolution has the same entries at every place but those near the border. What is
//! known of one row of a [`Set`] is known of all, and entries are looked up for that one alone.

use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp};
use nn::op::window;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Of every row and every column of a picture, a kind: places of one channel whose rows and columns are of the same kinds have the same entries in the
/// same order, and each entry is as far from its place.
#[derive(Debug, PartialEq)]
pub(crate) struct Kinds {
    rows: Vec<u32>,
    columns: Vec<u32>,
}

/// What a kind of an operator's rows is, or of its columns: of every source, its number in the kernel, how far it is and its own kind.
type Taps = Vec<(usize, i64, u32)>;

/// Of each row or column of a [`LinearOp::Select`], which of the source's it shows.
type Shown = Vec<Option<usize>>;

/// A picture on its way through a chain: its rows and columns by kind, and by how much both were thinned out.
struct Traced {
    channels: usize,
    axes: [Vec<u32>; 2],
    stride: [usize; 2],
}

impl Kinds {
    /// Those of a map of these chains from one source; none where they are not known, or where places of the result are not as far from each other as
    /// what they take is.
    pub(crate) fn of<'a>(
        chains: impl Iterator<Item = &'a Chain>,
        from: &Layout,
        to: &Layout,
    ) -> Option<Self> {
        let plain = |l: &Layout| !l.by_row() && !l.is_table();
        // a ciphertext of results takes from two neighbours at most
        let near = from.ciphertexts == 1 || from.period >= to.period;
        let image = from.shape().as_image().filter(|_| near)?;
        let (_, height, width) = to.shape().as_image()?;
        if !(plain(from) && plain(to)) {
            return None;
        }
        let mut all: [Vec<Vec<u32>>; 2] = [vec![Vec::new(); height], vec![Vec::new(); width]];
        for chain in chains {
            let mut at = Traced {
                channels: image.0,
                axes: [vec![0; image.1], vec![0; image.2]],
                stride: [1, 1],
            };
            for (i, link) in chain.iter().enumerate() {
                let next = chain.get(i + 1).map(|l| &l.op);
                at = at.then(&link.op, next, to)?;
            }
            if at.axes.each_ref().map(Vec::len) != [height, width] {
                return None;
            }
            // slots from one place to the next, of what is taken and of the result
            let taken = [from.gap.0 * from.width, from.gap.1];
            let made = [to.gap.0 * to.width, to.gap.1];
            if (0..2).any(|a| all[a].len() > 1 && at.stride[a] * taken[a] != made[a]) {
                return None;
            }
            for (all, kinds) in all.iter_mut().zip(at.axes) {
                all.iter_mut().zip(kinds).for_each(|(of, k)| of.push(k));
            }
        }
        let [rows, columns] = all.map(|kinds| numbered(kinds.into_iter()));
        Some(Self { rows, columns })
    }
}

impl Traced {
    /// After an operator, `next` to which or in whose result `to` it ends; none where its rows are not known to be alike.
    fn then(self, op: &LinearOp, next: Option<&LinearOp>, to: &Layout) -> Option<Self> {
        let sizes = self.axes.each_ref().map(Vec::len);
        let own = (self.channels, sizes[0], sizes[1]);
        match op {
            LinearOp::Convolution {
                conv,
                input,
                output,
            } if *input == own => {
                let steps = [conv.stride.0, conv.stride.1];
                let first = [conv.padding.top, conv.padding.left];
                let apart = [conv.dilation.0, conv.dilation.1];
                let kernel = [2, 3].map(|a| conv.weight.shape()[a]);
                let taps = |a: usize, i: usize| {
                    let at = move |u: usize| (i * steps[a] + u * apart[a]).wrapping_sub(first[a]);
                    let all = (0..kernel[a]).map(move |u| (u, at(u)));
                    all.filter(|t| t.1 < sizes[a]).collect()
                };
                Some(self.taken(output.0, [output.1, output.2], steps, taps))
            }
            LinearOp::Pool {
                pool,
                input,
                output,
            } if *input == own => {
                let steps = [pool.stride.0, pool.stride.1];
                let first = [pool.padding.top, pool.padding.left];
                let kernel = [pool.kernel.0, pool.kernel.1];
                // how many there are says what they count
                let taps = |a: usize, i: usize| {
                    let all = window(i, steps[a], first[a], kernel[a], sizes[a]);
                    all.enumerate().collect()
                };
                Some(self.taken(output.0, [output.1, output.2], steps, taps))
            }
            LinearOp::Diagonal { inner, rows, .. } => {
                let places = sizes[0] * sizes[1];
                let all = *rows == self.channels * places;
                let by_channel = inner.is_multiple_of(places) || op.scalar().is_some();
                (all && by_channel).then_some(self)
            }
            LinearOp::Select { index, stride } => {
                let stride = (*stride)?;
                let (height, width) = match next {
                    None => to.shape().as_image().map(|s| (s.1, s.2))?,
                    Some(LinearOp::Convolution { input, .. } | LinearOp::Pool { input, .. }) => {
                        (input.1, input.2)
                    }
                    // of numbers in a row it matters only that they are read alike
                    Some(_) => (sizes[0], sizes[1]),
                };
                let shown = separable(index, [sizes[0], sizes[1]], [height, width])?;
                let taps = |a: usize, i: usize| shown[a][i].map(|y| (0, y)).into_iter().collect();
                let channels = index.len() / (height * width);
                let steps = [stride.0, stride.1];
                Some(self.taken(channels, [height, width], steps, taps))
            }
            _ => None,
        }
    }

    /// After an operator whose row or column i takes these rows or columns, each with its number in the kernel.
    fn taken(
        &self,
        channels: usize,
        sizes: [usize; 2],
        steps: [usize; 2],
        taps: impl Fn(usize, usize) -> Vec<(usize, usize)>,
    ) -> Self {
        let axis = |a: usize| {
            let of = |i: usize| -> Taps {
                let far = |y: usize| signed(y) - signed(i * steps[a]);
                let all = taps(a, i).into_iter();
                all.map(|(u, y)| (u, far(y), self.axes[a][y])).collect()
            };
            numbered((0..sizes[a]).map(of))
        };
        Self {
            channels,
            axes: [axis(0), axis(1)],
            stride: [0, 1].map(|a| self.stride[a] * steps[a]),
        }
    }
}

/// Numbers in order of first occurrence.
fn numbered<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<u32> {
    let mut known = BTreeMap::new();
    let mut next = 0;
    keys.map(|key| match known.entry(key) {
        Entry::Occupied(e) => *e.get(),
        Entry::Vacant(e) => {
            next += 1;
            *e.insert(next - 1)
        }
    })
    .collect()
}

/// The rows and the columns that a selection shows of the same channel, where these are the same for all channels and at all places.
fn separable(index: &[u32], from: [usize; 2], to: [usize; 2]) -> Option<[Shown; 2]> {
    let [height, width] = to;
    let (places, taken) = (height * width, from[0] * from[1]);
    if places == 0 || taken == 0 || !index.len().is_multiple_of(places) {
        return None;
    }
    let mut known: Option<[Shown; 2]> = None;
    for plane in index.chunks(places) {
        let Some(first) = plane.iter().position(|&i| i != u32::MAX) else {
            continue;
        };
        let channel = plane[first] as usize / taken;
        // where a value lies in its channel
        let place = |i: u32| match i {
            u32::MAX => None,
            i => Some((i as usize % taken / from[1], i as usize % from[1])),
        };
        let row = |y: usize| place(plane[y * width + first % width]).map(|p| p.0);
        let column = |x: usize| place(plane[first / width * width + x]).map(|p| p.1);
        let shown = [
            (0..height).map(row).collect::<Shown>(),
            (0..width).map(column).collect::<Shown>(),
        ];
        let whole = plane.iter().enumerate().all(|(k, &i)| {
            let wanted = shown[0][k / width].zip(shown[1][k % width]);
            place(i) == wanted && (i == u32::MAX || i as usize / taken == channel)
        });
        if !whole || known.as_ref().is_some_and(|k| *k != shown) {
            return None;
        }
        known = Some(shown);
    }
    Some(known.unwrap_or_else(|| [vec![None; height], vec![None; width]]))
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Rows of one ciphertext in sets, the rows of each of which are its first one shifted.
pub(crate) struct Sets {
    /// Of each set, its first row and where its slots end.
    sets: Vec<(usize, usize)>,
    /// Slots of the rows, set by set.
    slots: Vec<u32>,
}

/// A row and its slots, and those of the rows that are this one shifted, in ascending order.
#[derive(Clone, Copy)]
pub(crate) struct Set<'a> {
    pub(crate) first: usize,
    pub(crate) slots: &'a [u32],
}

impl Sets {
    /// Of these rows, in ascending order, every set; where kinds are not known, every row on its own.
    pub(crate) fn of(
        kinds: Option<&Kinds>,
        rows: impl Iterator<Item = usize>,
        places: &[(u32, u32)],
    ) -> Self {
        let (mut sets, mut slots) = (Vec::new(), Vec::new());
        let Some(kinds) = kinds else {
            for r in rows {
                slots.push(places[r].1);
                sets.push((r, slots.len()));
            }
            return Self { sets, slots };
        };
        let width = kinds.columns.len();
        let each = kinds.rows.len() * width;
        let mut channel: BTreeMap<(u32, u32), (usize, Vec<u32>)> = BTreeMap::new();
        let mut end = |channel: &mut BTreeMap<_, (usize, Vec<u32>)>| {
            for (first, own) in std::mem::take(channel).into_values() {
                slots.extend(own);
                sets.push((first, slots.len()));
            }
        };
        let mut last = 0;
        for r in rows {
            if r / each != last {
                end(&mut channel);
                last = r / each;
            }
            let kind = (kinds.rows[r % each / width], kinds.columns[r % width]);
            let set = channel.entry(kind).or_insert_with(|| (r, Vec::new()));
            set.1.push(places[r].1);
        }
        end(&mut channel);
        Self { sets, slots }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Set<'_>> {
        let begins = std::iter::once(0).chain(self.sets.iter().map(|s| s.1));
        (self.sets.iter().zip(begins)).map(|(&(first, end), begin)| Set {
            first,
            slots: &self.slots[begin..end],
        })
    }
}

impl Set<'_> {
    /// How many rows have an entry in the same ciphertext of a source of so many slots in which the first has it at this one: the others have it in the
    /// next ciphertext.
    pub(crate) fn before(&self, slot: u32, slots: usize) -> usize {
        let left = slots - slot as usize;
        let near = |j: &u32| ((*j - self.slots[0]) as usize) < left;
        match self.slots.last().is_none_or(near) {
            true => self.slots.len(),
            false => self.slots.partition_point(near),
        }
    }
}
