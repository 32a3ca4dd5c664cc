//! Maps by the pattern of their operators: diagonals, rotations and equal results, counted without an entry.
//!
//! A chain of operators becomes a [`Pattern`] (which channels it mixes, what it does to rows), a layout [`Rowed`]; [`count`] makes of both what
//! `pack`, `split`, `twins` and `emit::pieces` find out from entries.

use crate::cost::CostModel;
use crate::emit::{MOST_DIAGONALS, MOST_RESULTS, MOST_SUMS};
use crate::error::Error;
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp};
use crate::split::{cuts, signed};
use ckks::MapSize;
use nn::Boundary;
use std::collections::BTreeSet;

/// How a chain of operators mixes channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mixing {
    None,
    /// Within so many groups.
    Groups(usize),
    All,
}

/// What a chain does to rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rows {
    Same,
    Unfold { cyclic: bool },
    Repeat,
    Sum,
}

/// The entries of a chain of operators, by their places alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pattern {
    pub(super) mixing: Mixing,
    pub(super) rows: Rows,
    /// All channels of a group get the same.
    pub(super) uniform: bool,
    /// So many groups get the same.
    pub(super) copies: usize,
    /// Weights differ from token to token.
    pub(super) by_token: bool,
    /// Weights differ from channel to channel.
    pub(super) by_channel: bool,
}

impl Pattern {
    pub(super) fn of(chain: &Chain, layer: &str) -> Result<Self, Error> {
        let mut p = Self {
            mixing: Mixing::None,
            rows: Rows::Same,
            uniform: false,
            copies: 1,
            by_token: false,
            by_channel: false,
        };
        let refuse = |what: &str| Error::Unsupported {
            layer: layer.into(),
            operator: what.into(),
            reason: "its cost is not known from its shape".into(),
            remedy: "compile the network itself",
        };
        for link in chain {
            match &link.op {
                LinearOp::Convolution {
                    conv,
                    input: (from, height, _),
                    output: (to, rows, _),
                } => {
                    let shape = conv.weight.shape();
                    let first = conv.weight.values().first();
                    let same = conv.weight.values().iter().all(|w| Some(w) == first);
                    match (shape[2], shape[3]) {
                        (k, 1) if k == *height && k > 1 && *rows == 1 && conv.groups == *from => {
                            p.rows = Rows::Sum;
                        }
                        (1, 1) if conv.groups == *from && from == to => {
                            p.uniform &= same;
                            p.by_channel |= !same;
                        }
                        (1, 1) => {
                            p.by_channel |= !same;
                            if conv.groups == 1 {
                                (p.mixing, p.copies) = (Mixing::All, 1);
                            } else {
                                p.mixing = match p.mixing {
                                    Mixing::All => Mixing::All,
                                    Mixing::Groups(g) => Mixing::Groups(g.min(conv.groups)),
                                    Mixing::None => Mixing::Groups(conv.groups),
                                };
                                p.copies *= (to / from).max(1);
                            }
                            p.uniform = same;
                        }
                        _ => return Err(refuse("Conv")),
                    }
                }
                LinearOp::Diagonal { inner, .. } if link.op.scalar().is_none() => {
                    // of a mask or of shares, which all channels have in common
                    p.by_token |= *inner == 1;
                    p.uniform &= *inner == 1;
                    p.by_channel |= *inner != 1;
                }
                LinearOp::Diagonal { .. } | LinearOp::Select { .. } => {}
                LinearOp::Rotary {
                    rotary,
                    rows,
                    length,
                    ..
                } => {
                    if p.mixing == Mixing::None {
                        p.mixing = Mixing::Groups(rows / length / rotary.head);
                    }
                    (p.uniform, p.by_token, p.by_channel) = (false, true, true);
                }
                LinearOp::Unfold { unfold, .. } => {
                    p.rows = Rows::Unfold {
                        cyclic: unfold.boundary == Boundary::Cyclic,
                    };
                }
                LinearOp::Repeat { .. } => p.rows = Rows::Repeat,
                LinearOp::Keys { .. } | LinearOp::Centre { .. } => return Err(refuse("Attention")),
                LinearOp::Dense { .. } => {
                    (p.mixing, p.uniform, p.by_channel) = (Mixing::All, false, true);
                }
                LinearOp::Pool { .. } => return Err(refuse("AveragePool")),
            }
        }
        Ok(p)
    }
}

/// A layout as rows of ciphertexts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rowed {
    /// Slots from one channel to the next.
    width: usize,
    period: usize,
    /// Channels that a period holds.
    pub(super) held: usize,
    pub(super) rows: usize,
    /// Ciphertexts of a row.
    pub(super) ciphertexts: usize,
    /// Rows of a ciphertext, where it holds several.
    rows_each: usize,
    /// Channels of a row.
    pub(super) channels: usize,
    all: usize,
}

impl Rowed {
    pub(super) fn of(layout: &Layout) -> Self {
        let shape = layout.shape();
        let (channels, rows, _) = shape.as_image().unwrap_or((shape.len(), 1, 1));
        let row = layout.height * layout.width;
        let (ciphertexts, rows_each) = match layout.by_row() {
            false => (layout.ciphertexts, 1),
            true if row >= layout.period => (row / layout.period, 1),
            true => (1, layout.period / row),
        };
        Self {
            width: layout.width,
            period: layout.period,
            held: if layout.by_row() && rows_each > 1 {
                layout.height
            } else {
                layout.period / layout.width
            }
            .max(1),
            rows: if layout.by_row() { rows } else { 1 },
            ciphertexts,
            rows_each,
            channels,
            all: layout.ciphertexts,
        }
    }
}

/// A source of a map: where it lies, how many of its ciphertexts are different, and what is done to it.
pub(super) struct Source<'a> {
    pub(super) layout: &'a Layout,
    pub(super) different: usize,
    pub(super) alike: Alike,
    pub(super) pattern: Pattern,
}

/// Which ciphertexts of a row are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Alike {
    #[default]
    None,
    /// All of a group.
    Groups,
    /// Those at the same place of several groups.
    Copies,
}

/// What a map is counted as.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pub(super) size: MapSize,
    /// Steps of babies and giants, as signed slots of one input.
    pub(super) rotations: BTreeSet<i64>,
    /// Different results.
    pub(super) different: usize,
    /// Why not all are.
    pub(super) alike: Alike,
    /// Parts of it that share no input.
    pub(super) apart: usize,
    /// Numbers that the plan holds for it.
    pub(super) numbers: usize,
}

/// Counts a map; a rotation that is not among `known` costs a key more.
pub(super) fn count(
    cost: &CostModel,
    sources: &[Source<'_>],
    to: &Layout,
    known: &BTreeSet<i64>,
    key_seconds: f64,
) -> Counted {
    let t = Rowed::of(to);
    let (different, alike) = match sources {
        [one] => different(one, &t),
        _ => (t.all, Alike::None),
    };
    let mut counted = Counted {
        different,
        alike,
        ..Counted::default()
    };
    counted.apart = (sources.iter())
        .map(|s| apart(s, &t, different))
        .min()
        .unwrap_or(1);
    for source in sources {
        let one = term(cost, source, &t, different, known, key_seconds);
        counted.size = counted.size.beside(one.size);
        counted.numbers += one.numbers;
        counted.rotations.extend(one.rotations);
    }
    (counted.size.outputs, counted.size.unmoved) = (different, different);
    // babies again for each piece
    let again = pieces(&counted).div_ceil(counted.apart);
    counted.size.babies *= again;
    counted.size.decomposed *= again;
    counted
}

/// Pieces that a map is made in (`emit::pieces`).
pub(super) fn pieces(counted: &Counted) -> usize {
    let s = &counted.size;
    let shares = if s.babies + s.giants > 0 {
        let sums = (s.giants + s.unmoved).div_ceil(MOST_SUMS);
        sums.max(s.diagonals.div_ceil(MOST_DIAGONALS))
    } else {
        s.outputs.div_ceil(MOST_RESULTS)
    };
    shares.min(s.outputs).max(counted.apart).max(1)
}

/// The size of a map from these sources, all of whose ciphertexts are different.
pub(crate) fn size(
    cost: &CostModel,
    terms: &[(Layout, Chain)],
    to: &Layout,
) -> Result<MapSize, Error> {
    let mut sources: Vec<Source<'_>> = Vec::with_capacity(terms.len());
    for (layout, chain) in terms {
        sources.push(Source {
            layout,
            different: layout.ciphertexts,
            alike: Alike::None,
            pattern: Pattern::of(chain, "")?,
        });
    }
    Ok(count(cost, &sources, to, &BTreeSet::new(), 0.0).size)
}

/// How many results of this source alone are different.
fn different(source: &Source<'_>, t: &Rowed) -> (usize, Alike) {
    let f = Rowed::of(source.layout);
    let share = source.different as f64 / f.all.max(1) as f64;
    let whole = |groups: usize| t.channels / groups.max(1) >= t.held;
    let (ratio, alike) = match source.pattern.mixing {
        Mixing::None => (share, source.alike),
        Mixing::All if source.pattern.uniform => (1.0 / t.ciphertexts as f64, Alike::Groups),
        Mixing::Groups(groups) if source.pattern.uniform && whole(groups) => {
            (groups as f64 / t.ciphertexts as f64, Alike::Groups)
        }
        // heads of whole ciphertexts
        Mixing::All | Mixing::Groups(_) if t.ciphertexts.is_multiple_of(source.pattern.copies) => {
            (1.0 / source.pattern.copies as f64, Alike::Copies)
        }
        Mixing::All | Mixing::Groups(_) => (1.0, Alike::None),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let count = (ratio * t.all as f64).round() as usize;
    (count.clamp(1, t.all.max(1)), alike)
}

/// Parts of a map that share no input.
fn apart(source: &Source<'_>, t: &Rowed, outputs: usize) -> usize {
    let rows = (outputs / t.ciphertexts.max(1)).clamp(1, t.rows.max(1));
    let parts = match (source.pattern.rows, source.pattern.mixing) {
        (Rows::Unfold { .. }, Mixing::None) => source.different,
        (_, Mixing::None) => outputs,
        (Rows::Unfold { .. }, _) => 1,
        (_, Mixing::All) => rows,
        (_, Mixing::Groups(groups)) => rows * groups.min(t.ciphertexts),
    };
    parts.clamp(1, outputs.max(1))
}

/// Counts one source's part.
fn term(
    cost: &CostModel,
    source: &Source<'_>,
    t: &Rowed,
    outputs: usize,
    known: &BTreeSet<i64>,
    key_seconds: f64,
) -> Counted {
    let f = Rowed::of(source.layout);
    let p = &source.pattern;
    let inputs = source.different;
    let in_row = (inputs / f.rows.max(1)).max(1);
    let held = f.held.min(t.held);
    // of every result: its inputs, and the channels that each is turned by, from the first on
    let (each, first, span) = match p.mixing {
        Mixing::None => (1, 0, 1),
        Mixing::All => (in_row, 0, held),
        Mixing::Groups(groups) => {
            let (a, b) = (f.channels / groups.max(1), t.channels / groups.max(1));
            if a.max(b) >= held {
                (
                    (a / held).max(1) * in_row / f.ciphertexts.min(in_row).max(1),
                    0,
                    held,
                )
            } else {
                (
                    1,
                    1 - i64::try_from(b.max(1)).unwrap_or(1),
                    (a + b).max(2) - 1,
                )
            }
        }
    };
    // and the tokens, of a result and of an input
    let (delays, of_input, turns) = match p.rows {
        Rows::Unfold { cyclic } => (t.rows_each, t.rows, 1 + usize::from(cyclic)),
        Rows::Sum => (f.all.div_ceil(t.ciphertexts.max(1)), 1, 1),
        Rows::Same | Rows::Repeat => (1, 1, 1),
    };
    let diagonals = outputs * each * span * delays * turns;
    let length = f.period.max(t.period);
    let whole = match (p.mixing, p.by_channel) {
        (Mixing::None, false) if t.rows_each > 1 && of_input > 1 => length,
        (Mixing::None, false) => t.width,
        // a sum over groups is alike from group to group, one over all that a ciphertext holds everywhere
        (Mixing::Groups(groups), false) if span < held => {
            (t.channels / groups.max(1)).next_power_of_two() * t.width
        }
        (Mixing::Groups(_) | Mixing::All, false) if span == held => t.width,
        _ => length,
    };
    // one number for all tokens of a channel, or each its own
    let by_token = p.by_token || of_input > 1;
    let numbers = if by_token {
        whole
    } else {
        (whole / t.width).max(1)
    };
    let uniform = whole == t.width && !by_token;
    let length = if uniform { 1 } else { whole };
    let folds = match p.rows {
        Rows::Sum => (f.rows_each.min(f.rows.next_power_of_two())).ilog2() as usize,
        _ => (f.period / t.period).max(1).ilog2() as usize,
    };
    let unsplit = MapSize {
        diagonals,
        unmoved: outputs,
        folds,
        inputs,
        outputs,
        values: diagonals * cost.stored(length),
        butterflies: diagonals as f64 * cost.butterflies(length),
        ..MapSize::default()
    };
    let seconds = cost.maps_at(cost.levels().div_ceil(2).max(1));
    // how channels and tokens are cut
    let moving = |c: usize, d: usize| {
        let babies = c.min(span) * d.min(of_input) - 1;
        let held_delays = if of_input > 1 {
            t.rows_each.div_ceil(d)
        } else {
            1
        };
        let giants = span.div_ceil(c) * held_delays;
        // giant steps of 0: the first cut of channels, and rows of the first cut
        let still = if of_input > 1 {
            (outputs * d).div_ceil(of_input.max(1)).min(outputs)
        } else {
            outputs
        };
        (babies * inputs, (giants * outputs).saturating_sub(still))
    };
    let steps = |c: usize, d: usize| -> BTreeSet<i64> {
        let slot = |channel: i64, delay: usize| {
            channel * i64::try_from(t.width).unwrap_or(1) - i64::try_from(delay).unwrap_or(0)
        };
        let wide = |n: usize| i64::try_from(n).unwrap_or(0);
        let period = wide(f.period.max(t.period));
        let mut set = BTreeSet::new();
        for baby in 0..c.min(span) {
            for delay in 0..d.min(of_input) {
                set.insert(slot(wide(baby), delay));
            }
        }
        for giant in 0..span.div_ceil(c) {
            for delay in 0..of_input.div_ceil(d) {
                set.insert(slot(first + wide(giant * c), delay * d));
            }
        }
        set.into_iter()
            .map(|s| s.rem_euclid(period))
            .filter(|&s| s != 0)
            .map(|s| signed(usize::try_from(s).unwrap_or(0), f.period.max(t.period)))
            .collect()
    };
    let mut best: Option<(f64, MapSize, BTreeSet<i64>)> = None;
    for c in cuts(span) {
        for d in cuts(of_input) {
            let (babies, giants) = moving(c, d);
            let size = MapSize {
                babies,
                giants,
                decomposed: if babies > 0 { inputs } else { 0 },
                ..unsplit
            };
            let work = seconds(&size);
            if best.as_ref().is_some_and(|b| b.0 <= work) {
                continue;
            }
            let set = steps(c, d);
            let price = work + set.difference(known).count() as f64 * key_seconds;
            if best.as_ref().is_none_or(|b| price < b.0) {
                best = Some((price, size, set));
            }
        }
    }
    let (_, size, rotations) = best.unwrap_or((0.0, unsplit, BTreeSet::new()));
    Counted {
        size,
        rotations: (0..folds)
            .filter_map(|i| i64::try_from(t.period << i).ok())
            .chain(rotations)
            .collect(),
        numbers: numbers * diagonals,
        ..Counted::default()
    }
}

/// An order of patterns by how many entries they have.
pub(super) fn more(p: &Pattern) -> (usize, bool) {
    let mixing = match p.mixing {
        Mixing::None => 0,
        Mixing::Groups(_) => 1,
        Mixing::All => 2,
    };
    (mixing, p.rows != Rows::Same)
}
