//! A plan without weights: levels, bootstraps, keys, memory and time of a network too large to pack here, from its shape alone.
//!
//! A stand-in of the same structure with a few channels ([`nn::models::shape::StandIn`]) is brought into normal form and scheduled like any
//! network; but each of its tensors counts with its full number of channels and tokens ([`Scale`]), and a map's diagonals and rotations are
//! counted from the [`Pattern`] of its operators, not from their entries. `tests/sketch.rs` holds the sketch of what can be compiled to its plan.
//!
//! Notation: a *row* is a sequence of all channels; an unfolded tensor has one for each distance (`layout`). n ciphertexts, G channels in each.

use crate::cost::{CostModel, MapSize};
use crate::emit::{MOST_AT_ONCE, MOST_DIAGONALS, MOST_RESULTS, MOST_SUMS};
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp};
use crate::normal::{self, Id, Kind, Normal, Quantity};
use crate::schedule::{self, Machine, Stage, Way};
use crate::split::signed;
use crate::{EAGERNESS, Error, Target, representative};
use ckks::keys::{KeyRequest, SwitchingKey};
use ckks::map::{Term, Values};
use ckks::{Arithmetic, BlockMap, Bootstrap, Level, Meter, Parameters};
use nn::{Boundary, PolyGraph, Shape};
use runtime::plan::{Class, Operation};
use runtime::verify::{ciphertext_memory, map_memory, overhead};
use std::collections::{BTreeMap, BTreeSet};

/// What a stand-in's sizes stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Full number of channels by the stand-in's.
    pub channels: BTreeMap<usize, usize>,
    /// Tokens of the stand-in and of the network.
    pub tokens: (usize, usize),
    /// By how much channels are narrowed: those of the stand-in's heads and of the network's.
    pub narrowed: (usize, usize),
}

/// Slots of one input, in the stand-in and in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rings {
    small: usize,
    full: usize,
}

impl Scale {
    /// A ring for the stand-in in which it takes as many ciphertexts as the network does, where that can be.
    fn rings(&self, full: usize) -> Rings {
        let tokens = self.tokens.0.next_power_of_two();
        let channels = (full / self.tokens.1.next_power_of_two()).max(1);
        let channels = (channels * self.narrowed.0 / self.narrowed.1).max(1);
        Rings {
            small: tokens * (1 << channels.ilog2()),
            full,
        }
    }

    /// The layout of the network's tensor in place of the stand-in's.
    pub(crate) fn layout(&self, small: &Layout, max_slots: usize) -> Result<Layout, Error> {
        let full = |channels: usize| self.channels.get(&channels).copied();
        small
            .resized(full, self.tokens, max_slots)
            .ok_or_else(|| Error::Unsupported {
                layer: format!("a tensor of shape {}", small.shape()),
                operator: "shape".into(),
                reason: "the stand-in has a size that stands for none".into(),
                remedy: "narrow the network differently",
            })
    }
}

/// How a chain of operators mixes channels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mixing {
    None,
    /// Within so many groups.
    Groups(usize),
    All,
}

/// What a chain does to rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rows {
    Same,
    Unfold { cyclic: bool },
    Repeat,
    Sum,
}

/// The entries of a chain of operators, by their places alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pattern {
    mixing: Mixing,
    rows: Rows,
    /// All channels of a group get the same.
    uniform: bool,
    /// So many groups get the same.
    copies: usize,
    /// Weights differ from token to token.
    by_token: bool,
    /// Weights differ from channel to channel.
    by_channel: bool,
}

impl Pattern {
    pub(crate) fn of(chain: &Chain, layer: &str) -> Result<Self, Error> {
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
struct Rowed {
    /// Slots from one channel to the next.
    width: usize,
    period: usize,
    /// Channels that a period holds.
    held: usize,
    rows: usize,
    /// Ciphertexts of a row.
    ciphertexts: usize,
    /// Rows of a ciphertext, where it holds several.
    rows_each: usize,
    /// Channels of a row.
    channels: usize,
    all: usize,
}

impl Rowed {
    fn of(layout: &Layout) -> Self {
        let (channels, rows) = match layout.shape() {
            Shape::Image {
                channels, height, ..
            } => (channels, height),
            other => (other.len(), 1),
        };
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
pub(crate) struct Source<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) different: usize,
    pub(crate) alike: Alike,
    pub(crate) pattern: Pattern,
}

/// Which ciphertexts of a row are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alike {
    #[default]
    None,
    /// All of a group.
    Groups,
    /// Those at the same place of several groups.
    Copies,
}

/// What a map is counted as.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) size: MapSize,
    /// Steps of babies and giants, as signed slots of one input.
    rotations: BTreeSet<i64>,
    /// Different results.
    pub(crate) different: usize,
    /// Why not all are.
    alike: Alike,
    /// Parts of it that share no input.
    apart: usize,
    /// Numbers that the plan holds for it.
    numbers: usize,
}

/// Counts a map; a rotation that is not among `known` costs a key more.
pub(crate) fn count(
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
    counted.size.outputs = different;
    counted.apart = (sources.iter())
        .map(|s| apart(s, &t, different))
        .min()
        .unwrap_or(1);
    for source in sources {
        let one = term(cost, source, &t, different, known, key_seconds);
        let s = &mut counted.size;
        s.diagonals += one.size.diagonals;
        s.babies += one.size.babies;
        s.giants = s.giants.max(one.size.giants);
        s.folds = s.folds.max(one.size.folds);
        s.inputs += one.size.inputs;
        s.decomposed += one.size.decomposed;
        s.values += one.size.values;
        s.butterflies += one.size.butterflies;
        counted.numbers += one.numbers;
        counted.rotations.extend(one.rotations);
    }
    counted.size.unmoved = different;
    // babies again for each piece
    let again = pieces(&counted).div_ceil(counted.apart);
    counted.size.babies *= again;
    counted.size.decomposed *= again;
    counted
}

/// Pieces that a map is made in (`emit::pieces`).
fn pieces(counted: &Counted) -> usize {
    let MapSize {
        diagonals,
        babies,
        giants,
        unmoved,
        outputs,
        ..
    } = counted.size;
    let shares = if babies + giants > 0 {
        let sums = (giants + unmoved).div_ceil(MOST_SUMS);
        sums.max(diagonals.div_ceil(MOST_DIAGONALS))
    } else {
        outputs.div_ceil(MOST_RESULTS)
    };
    shares.min(outputs).max(counted.apart).max(1)
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
    // how channels and tokens are cut
    let powers = |n: usize| (0..).map(|e| 1usize << e).take_while(move |&c| c < 2 * n);
    let level = cost.levels().div_ceil(2);
    let (baby_cost, giant_cost) = (cost.baby(level), cost.giant(level));
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
    let mut best: Option<(f64, usize, usize, BTreeSet<i64>)> = None;
    for c in powers(span) {
        for d in powers(of_input) {
            let (babies, giants) = moving(c, d);
            let work = babies as f64 * baby_cost + giants as f64 * giant_cost;
            if best.as_ref().is_some_and(|b| b.0 <= work) {
                continue;
            }
            let set = steps(c, d);
            let price = work + set.difference(known).count() as f64 * key_seconds;
            if best.as_ref().is_none_or(|b| price < b.0) {
                best = Some((price, c, d, set));
            }
        }
    }
    let (_, c, d, rotations) = best.unwrap_or((0.0, 1, 1, BTreeSet::new()));
    let (babies, giants) = moving(c, d);
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
    let length = if whole == t.width && !by_token {
        1
    } else {
        whole
    };
    let folds = match p.rows {
        Rows::Sum => (f.rows_each.min(f.rows.next_power_of_two())).ilog2() as usize,
        _ => (f.period / t.period).max(1).ilog2() as usize,
    };
    Counted {
        size: MapSize {
            diagonals,
            babies,
            giants,
            unmoved: outputs,
            folds,
            inputs,
            decomposed: if babies > 0 { inputs } else { 0 },
            outputs,
            values: diagonals * cost.stored(length),
            butterflies: diagonals as f64 * cost.butterflies(length),
        },
        rotations: (0..folds)
            .filter_map(|i| i64::try_from(t.period << i).ok())
            .chain(rotations)
            .collect(),
        numbers: numbers * diagonals,
        ..Counted::default()
    }
}

/// A step, or as many alike as there are ciphertexts, of a plan that is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The layer that reports show.
    pub layer: String,
    /// For the breakdown.
    pub class: Class,
    /// Ciphertexts that it makes.
    pub ciphertexts: usize,
    /// CPU seconds on one thread's cost table.
    pub seconds: f64,
}

/// What a plan would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// In order.
    pub parts: Vec<Part>,
    /// Levels on the longest path.
    pub levels: usize,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Bootstraps one after the other on the way to the answer: places, each of one tensor.
    pub places: usize,
    /// Evaluation keys.
    pub keys: KeyRequest,
    /// Their bytes in memory.
    pub key_bytes: u64,
    /// Bytes of the plan's weights.
    pub weight_bytes: u64,
    /// Peak memory of the server, keys included.
    pub peak_bytes: u64,
    /// Ciphertexts that the client sends and gets back.
    pub ports: (usize, usize),
}

impl Sketch {
    /// CPU seconds of a run.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        self.parts.iter().map(|p| p.seconds).sum()
    }
}

/// How many times its worth a rotation key counts where memory is short.
const THRIFT: [f64; 5] = [1.0, 5.0, 50.0, 500.0, 5000.0];

/// Sketches the plan of the network that `graph` stands for. With a memory limit, as few rotation keys as it takes to keep it, if that can be.
///
/// # Errors
/// Those of [`crate::compile`]; [`Error::Unsupported`] for operators whose cost does not follow from shapes.
pub fn sketch(graph: &PolyGraph, scale: &Scale, target: &Target) -> Result<Sketch, Error> {
    let parameters = Parameters::new(target.parameters.clone())?;
    let most = parameters.max_slots() / crate::layout::LEAST_PERIOD;
    if !target.batch.is_power_of_two() || target.batch > most {
        let batch = target.batch;
        return Err(Error::Batch { batch, most });
    }
    let rings = scale.rings(parameters.max_slots() / target.batch);
    let mut cost = CostModel::new(parameters, target.cost, target.batch, [])?;
    let sized = Some((scale, rings.full));
    let normal = normal::normalise(graph, target, rings.small, sized, &mut cost)?;
    let layouts: Vec<Layout> = (normal.quantities.iter())
        .map(|q| scale.layout(&q.layout, rings.full))
        .collect::<Result<_, _>>()?;
    cost.prepare(layouts.iter().map(|l| l.period))?;
    let draft = Draft {
        target,
        normal: &normal,
        layouts: &layouts,
        cost: &cost,
    };
    let mut best: Option<Sketch> = None;
    for thrift in THRIFT {
        let sketch = draft.sketch(thrift * target.key_seconds)?;
        let fits = target.max_memory.is_none_or(|m| sketch.peak_bytes <= m);
        // where it is not the keys that are too large, fewer of them don't help
        let other = sketch.peak_bytes - sketch.key_bytes;
        let hopeless = target.max_memory.is_some_and(|m| other > m);
        if fits || (hopeless && best.is_none()) {
            return Ok(sketch);
        }
        if best
            .as_ref()
            .is_none_or(|b| sketch.peak_bytes < b.peak_bytes)
        {
            best = Some(sketch);
        }
    }
    best.ok_or_else(|| Error::Calibration {
        layer: graph.input().name().into(),
    })
}

struct Draft<'a> {
    target: &'a Target,
    normal: &'a Normal,
    layouts: &'a [Layout],
    cost: &'a CostModel,
}

impl Draft<'_> {
    fn sources<'b>(
        &'b self,
        terms: &[(Id, Chain)],
        counts: &[Counted],
        layer: &str,
    ) -> Result<Vec<Source<'b>>, Error> {
        let mut sources: Vec<Source<'b>> = Vec::new();
        for (id, chain) in terms {
            let source = Source {
                layout: &self.layouts[*id],
                different: counts[*id].different,
                alike: counts[*id].alike,
                pattern: Pattern::of(chain, layer)?,
            };
            // of several terms of one source, that with the most entries: it holds the others, but its sums are no longer alike
            let same = (sources.iter_mut()).find(|s| std::ptr::eq(s.layout, source.layout));
            match same {
                Some(other) => {
                    if more(&source.pattern) > more(&other.pattern) {
                        *other = source;
                    }
                    other.pattern.uniform = false;
                }
                None => sources.push(source),
            }
        }
        Ok(sources)
    }

    /// Sizes of every map and numbers of different ciphertexts.
    fn counts(&self, known: &BTreeSet<i64>, key_seconds: f64) -> Result<Vec<Counted>, Error> {
        let mut counts: Vec<Counted> = Vec::with_capacity(self.layouts.len());
        let mut known = known.clone();
        for (q, layout) in self.normal.quantities.iter().zip(self.layouts) {
            let all = layout.ciphertexts;
            let counted = match &q.kind {
                Kind::Input => Counted {
                    different: all,
                    ..Counted::default()
                },
                Kind::Polynomial { argument, .. } => Counted {
                    different: counts[*argument].different,
                    alike: counts[*argument].alike,
                    ..Counted::default()
                },
                Kind::Product {
                    left, right, add, ..
                } => {
                    let share = |v: Id| {
                        let all = self.layouts[v].ciphertexts.max(1) as f64;
                        (counts[v].different as f64 / all, counts[v].alike)
                    };
                    let others = [*right].into_iter().chain(add.iter().map(|a| a.1));
                    let (one, alike) = share(*left);
                    let same = |(s, a): (f64, Alike)| (s / one - 1.0).abs() < 1e-9 && a == alike;
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a count"
                    )]
                    let (different, alike) = match others.map(share).all(same) {
                        true => ((one * all as f64).round() as usize, alike),
                        false => (all, Alike::None),
                    };
                    Counted {
                        different: different.max(1),
                        alike,
                        ..Counted::default()
                    }
                }
                Kind::Linear { terms, .. } => {
                    let sources = self.sources(terms, &counts, &q.layer)?;
                    let counted = count(self.cost, &sources, layout, &known, key_seconds);
                    known.extend(&counted.rotations);
                    counted
                }
            };
            counts.push(counted);
        }
        Ok(counts)
    }

    fn sketch(&self, key_seconds: f64) -> Result<Sketch, Error> {
        let Self {
            target,
            normal,
            layouts,
            cost,
        } = self;
        // as for plans (`crate::maps`): the second time with all rotations of the first known
        let mut best: Option<(f64, Vec<Counted>)> = None;
        for eagerness in EAGERNESS {
            let first = self.counts(&BTreeSet::new(), eagerness * key_seconds)?;
            let known = first.iter().flat_map(|c| c.rotations.clone()).collect();
            let counts = self.counts(&known, key_seconds)?;
            let rotations: BTreeSet<i64> =
                counts.iter().flat_map(|c| c.rotations.clone()).collect();
            let level = cost.levels().div_ceil(2);
            let work = |c: &Counted| {
                c.size.babies as f64 * cost.baby(level) + c.size.giants as f64 * cost.giant(level)
            };
            let price = counts.iter().map(work).sum::<f64>() + rotations.len() as f64 * key_seconds;
            if best.as_ref().is_none_or(|b| price < b.0) {
                best = Some((price, counts));
            }
        }
        let counts = best.map_or_else(Vec::new, |b| b.1);
        let mut stages = Vec::with_capacity(layouts.len());
        let mut memory: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (v, (q, counted)) in normal.quantities.iter().zip(&counts).enumerate() {
            stages.push(Stage {
                layer: q.layer.clone(),
                sources: q.sources(),
                ways: vec![Way {
                    depth: q.depth,
                    seconds: self.seconds(q, counted, &mut memory)?,
                    price: 0.0,
                }],
                slots: layouts[v].period,
                ciphertexts: counted.different,
                reserve: normal.reserve(v),
            });
        }
        let machine = Machine {
            bootstrap: &|slots, to| cost.bootstrap(slots, to),
            align: &|level| cost.align(level),
            levels: cost.levels(),
            bootstraps: target.parameters.bootstrap.is_some(),
            target: None,
            most_bootstraps: None,
            parameters: &target.parameters.name,
        };
        let (decisions, _) = schedule::schedule(&stages, normal.output, machine)?;
        self.gather(&stages, &counts, &decisions)
    }

    /// CPU seconds at each level; `known` remembers what operations of one ciphertext cost.
    fn seconds(
        &self,
        q: &Quantity,
        counted: &Counted,
        known: &mut BTreeMap<String, Vec<f64>>,
    ) -> Result<Vec<f64>, Error> {
        let levels = self.cost.levels();
        let count = counted.different as f64;
        let operation = representative(q)?;
        let one = match (&q.kind, operation) {
            (Kind::Linear { .. }, _) => {
                return Ok((0..=levels)
                    .map(|level| match level {
                        0 => 0.0,
                        _ => self.cost.linear(&counted.size, level),
                    })
                    .collect());
            }
            (_, None) => (0..=levels).map(|level| 1e-3 * level as f64).collect(),
            (_, Some(operation)) => {
                let key = cost_key(&operation);
                match known.get(&key) {
                    Some(seconds) => seconds.clone(),
                    None => {
                        let mut seconds = vec![0.0; levels + 1];
                        for (level, s) in seconds.iter_mut().enumerate().skip(q.depth) {
                            *s = self.cost.operation(&operation, level)?;
                        }
                        known.insert(key, seconds.clone());
                        seconds
                    }
                }
            }
        };
        Ok(one.into_iter().map(|s| s * count).collect())
    }

    fn gather(
        &self,
        stages: &[Stage],
        counts: &[Counted],
        decisions: &[schedule::Decision],
    ) -> Result<Sketch, Error> {
        let Self {
            normal,
            layouts,
            cost,
            target,
        } = self;
        let quantities = &normal.quantities;
        let parameters = cost.parameters();
        let batch = target.batch;
        let level_of = |v: Id| {
            let d = decisions[v];
            d.bootstrap.unwrap_or(d.level - quantities[v].depth)
        };
        let meter = Meter::new(parameters);
        let mut parts = Vec::new();
        let mut done: BTreeSet<(Id, usize)> = BTreeSet::new();
        let mut bootstraps: Vec<Bootstrap> = Vec::new();
        // rotations with the highest level that a map of this many slots has them at
        let mut turns: BTreeMap<(usize, i64), usize> = BTreeMap::new();
        let (mut count, mut places) = (0, 0);
        for (v, (stage, counted)) in stages.iter().zip(counts).enumerate() {
            let (q, d) = (&quantities[v], decisions[v]);
            let part = |class, ciphertexts, seconds| Part {
                layer: q.layer.clone(),
                class,
                ciphertexts,
                seconds,
            };
            for &w in &stage.sources {
                if level_of(w) > d.level && done.insert((w, d.level)) {
                    let copies = counts[w].different;
                    let seconds = cost.align(d.level) * copies as f64;
                    parts.push(part(Class::Other, copies, seconds));
                }
            }
            let class = match &q.kind {
                Kind::Input => None,
                Kind::Linear { .. } => Some(Class::Linear),
                Kind::Polynomial { .. } | Kind::Product { .. } => Some(Class::Activation),
            };
            if let Some(class) = class {
                let seconds = stage.ways[0].seconds[d.level];
                parts.push(part(class, counted.different, seconds));
            }
            for &r in &counted.rotations {
                let slots = layouts[v].period.max(
                    (stage.sources.iter())
                        .map(|&w| layouts[w].period)
                        .max()
                        .unwrap_or(1),
                );
                let at = turns.entry((slots, r)).or_default();
                *at = (*at).max(d.level);
            }
            if let Some(to) = d.bootstrap {
                let pairs = counted.different.div_ceil(2);
                count += pairs;
                places += 1;
                let slots = layouts[v].period;
                let seconds = pairs as f64 * cost.bootstrap(slots, to);
                parts.push(part(Class::Bootstrap, counted.different, seconds));
                let bootstrap = Bootstrap {
                    slots: slots * batch,
                    target: to,
                    gain: 1.0,
                };
                if !bootstraps.contains(&bootstrap) {
                    bootstraps.push(bootstrap);
                }
            }
        }
        for b in &bootstraps {
            let x = meter.input(Level::new(0), b.slots, 0.5)?;
            meter.bootstrap(&x, b)?;
        }
        for ((slots, turn), level) in turns {
            let slots = slots * batch;
            let step = (turn * i64::try_from(batch).unwrap_or(1))
                .rem_euclid(i64::try_from(slots).unwrap_or(1));
            let term = Term {
                input: 0,
                output: 0,
                giant: 0,
                baby: usize::try_from(step).unwrap_or(0),
                values: Values::Real(vec![1.0].into()),
            };
            let map = BlockMap::new(slots, 1, 1, vec![term], Vec::new())?;
            let x = meter.input(Level::new(level), slots, 0.5)?;
            let below = parameters.scale(Level::new(level.saturating_sub(1)));
            meter.linear(&[x], &map, below)?;
        }
        let top = meter.input(parameters.residual(), 4, 0.5)?;
        let square = Operation::Square {
            input: 0,
            output: 1,
            constant: 0.0,
        };
        square.apply(&meter, &[top])?;
        let keys = meter.keys();
        let key_bytes: u64 = (keys.0.iter())
            .map(|(&key, &limit)| SwitchingKey::bytes_for(parameters, key, limit))
            .sum();
        let weight_bytes = counts.iter().map(|c| 4 * c.numbers as u64).sum::<u64>();
        let peak = self.peak(stages, counts, decisions, &level_of);
        Ok(Sketch {
            parts,
            levels: depth(normal),
            bootstraps: count,
            places,
            key_bytes,
            keys,
            weight_bytes,
            peak_bytes: overhead(parameters, &bootstraps, peak) + weight_bytes + key_bytes,
            ports: (counts[0].different, counts[normal.output].different),
        })
    }

    /// The most that ciphertexts and a step's sums take.
    fn peak(
        &self,
        stages: &[Stage],
        counts: &[Counted],
        decisions: &[schedule::Decision],
        level_of: &dyn Fn(Id) -> usize,
    ) -> u64 {
        let parameters = self.cost.parameters();
        let count = stages.len();
        let mut last: Vec<usize> = (0..count).collect();
        let mut summed = vec![false; count];
        for (v, stage) in stages.iter().enumerate() {
            for &w in &stage.sources {
                last[w] = v;
                summed[w] |= !self.layouts[v].by_row();
            }
        }
        last[self.normal.output] = count;
        let mut mixed = vec![false; count];
        for (w, stage) in stages.iter().enumerate().rev() {
            if self.layouts[w].by_row() {
                let sums = matches!(self.normal.quantities[w].kind, Kind::Linear { .. });
                let mixes = mixed[w] || sums;
                for &v in stage.sources.iter().filter(|&&v| self.layouts[v].by_row()) {
                    mixed[v] |= mixes;
                }
            }
        }
        let most = counts.iter().map(|c| c.different).max().unwrap_or(1);
        let deep = self.target.batch > 1 || most > MOST_AT_ONCE;
        // an unfolding makes all rows at once
        let made = |v: Id| {
            matches!(self.normal.quantities[v].kind, Kind::Linear { .. })
                && stages[v].sources.iter().any(|&w| !self.layouts[w].by_row())
        };
        // of an unfolded tensor, one head's rows where they are made at once or waited for, else one row's
        let alive = |v: Id| {
            let t = Rowed::of(&self.layouts[v]);
            let all = counts[v].different;
            if !deep || t.rows == 1 {
                return all;
            }
            // sums over a head's channels wait for all of its ciphertexts
            let together = if mixed[v] {
                self.head_ciphertexts(v)
            } else {
                1
            };
            let together = together.min(counts[v].different.div_ceil(t.rows));
            let apart = (counts[v].different / t.rows / together).max(1);
            match made(v) || summed[v] {
                true => all.div_ceil(apart),
                false => all.div_ceil(apart * t.rows),
            }
        };
        let bytes = |v: Id, level: usize| {
            alive(v) as u64 * ciphertext_memory(parameters, Level::new(level))
        };
        let mut resident = 0u64;
        let mut peak = 0u64;
        for v in 0..count {
            let d = decisions[v];
            let size = &counts[v].size;
            let parts = pieces(&counts[v]);
            let sums = [
                size.inputs.div_ceil(counts[v].apart.max(1)),
                (size.giants + size.unmoved).div_ceil(parts),
                size.outputs.div_ceil(parts),
            ];
            let values = size.values / parts;
            let working = map_memory(parameters, Level::new(d.level), sums, values)
                .max(overhead_of_bootstrap(parameters, d.bootstrap));
            // row by row, a result takes the place of what it is made of
            let row_by_row = deep && Rowed::of(&self.layouts[v]).rows > 1 && !made(v);
            let (before, after): (Vec<usize>, Vec<usize>) = (0..=v)
                .filter(|&w| last[w] == v)
                .partition(|&w| row_by_row && w < v && self.layouts[w].by_row());
            for w in before {
                resident -= bytes(w, level_of(w));
            }
            resident += bytes(v, level_of(v));
            peak = peak.max(resident + working);
            for w in after {
                resident -= bytes(w, level_of(w));
            }
        }
        peak
    }

    /// Ciphertexts that the channels of a head take.
    fn head_ciphertexts(&self, v: Id) -> usize {
        let t = Rowed::of(&self.layouts[v]);
        let groups = self.normal.quantities.iter().find_map(|q| match &q.kind {
            Kind::Linear { terms, .. } => {
                terms
                    .iter()
                    .find_map(|t| match Pattern::of(&t.1, &q.layer).ok()? {
                        Pattern {
                            mixing: Mixing::Groups(g),
                            uniform: true,
                            ..
                        } => Some(g),
                        _ => None,
                    })
            }
            _ => None,
        });
        (t.channels / groups.unwrap_or(1) / t.held).max(1)
    }
}

fn overhead_of_bootstrap(parameters: &Parameters, target: Option<usize>) -> u64 {
    target.map_or(0, |to| runtime::verify::bootstrap_memory(parameters, to))
}

/// The same for operations that cost the same.
fn cost_key(operation: &Operation) -> String {
    match operation {
        Operation::Polynomial { polynomial, .. } => {
            format!("polynomial {:?}", polynomial.coefficients())
        }
        Operation::Multiply { add, .. } => format!("multiply {}", add.len()),
        other => format!("{other:?}"),
    }
}

/// An order of patterns by how many entries they have.
fn more(p: &Pattern) -> (usize, bool) {
    let mixing = match p.mixing {
        Mixing::None => 0,
        Mixing::Groups(_) => 1,
        Mixing::All => 2,
    };
    (mixing, p.rows != Rows::Same)
}

/// Levels on the longest path.
fn depth(normal: &Normal) -> usize {
    let mut deep = vec![0; normal.quantities.len()];
    for (v, q) in normal.quantities.iter().enumerate() {
        let before = q.sources().into_iter().map(|w| deep[w]).max().unwrap_or(0);
        deep[v] = before + q.depth;
    }
    deep[normal.output]
}
