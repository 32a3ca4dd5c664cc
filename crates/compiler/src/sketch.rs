//! A plan without weights: levels, bootstraps, keys, memory and time of a network too large to pack here, from its shape alone.
//!
//! A stand-in of the same structure with a few channels (`zoo::shape::StandIn`) is brought into normal form and scheduled like any
//! network; but each of its tensors counts with its full number of channels and tokens ([`Scale`]), and a map's diagonals and rotations are
//! counted from the pattern of its operators (`maps`), not from their entries; memory in `peak`. `tests/sketch.rs` holds the sketch of what can be compiled to its plan.
//!
//! Notation: a *row* is a sequence of all channels; an unfolded tensor has one for each distance (`layout`). n ciphertexts, G channels in each.

mod maps;
mod peak;

pub(crate) use maps::size;

use crate::alarm;
use crate::cost::CostModel;
use crate::error::Error;
use crate::layout::{Layout, Scale};
use crate::linear_op::Chain;
use crate::normal::{self, Id, Kind, Normal};
use crate::schedule::{self, Refresh, Stage};
use crate::search::KEY_PRICE_FACTORS;
use crate::split::FIRST_KEY_FACTORS;
use crate::stages::stages;
use crate::target::Target;
use crate::target::Watch;
use ckks::coefficients::Parts;
use ckks::keys::KeyRequest;
use ckks::{Arithmetic, Bootstrap, Meter, Parameters};
use maps::{Alike, Counted, Pattern, Source, count, more};
use nn::PolyGraph;
use runtime::{Operation, Purpose, Work};
use std::collections::{BTreeMap, BTreeSet};

/// A step, or as many alike as there are ciphertexts, of a plan that is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The layer that reports show.
    pub layer: String,
    /// What that layer is for.
    pub purpose: Purpose,
    /// What its time counts as.
    pub work: Work,
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

/// Sketches the plan of the network that `graph` stands for. With a memory limit, as few rotation keys as it takes to keep it, if that can be.
///
/// # Errors
/// Those of [`crate::compile`]; [`Error::Unsupported`] for operators whose cost does not follow from shapes.
pub fn sketch(graph: &PolyGraph, scale: &Scale, target: &Target) -> Result<Sketch, Error> {
    let parameters = Parameters::new(target.set())?;
    let rings = scale.rings(target.slots_of_one(&parameters)?);
    let mut cost = CostModel::new(&parameters, target.cost, target.batch)?;
    let sized = Some((scale, rings.full));
    let normal = normal::normalise(graph, target, rings.small, sized, None, &mut cost)?;
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
    for factor in KEY_PRICE_FACTORS {
        let sketch = draft.sketch(factor * target.key_price(&parameters))?;
        let fits = target.max_memory.is_none_or(|m| sketch.peak_bytes <= m);
        // where it is not the keys that are too large, fewer of them don't help
        let other = sketch.peak_bytes - sketch.key_bytes;
        let hopeless = target.max_memory.is_some_and(|m| other > m);
        if fits || (hopeless && best.is_none()) {
            return Ok(sketch);
        }
        let smaller = |b: &Sketch| sketch.peak_bytes < b.peak_bytes;
        if best.as_ref().is_none_or(smaller) {
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
                // of tokens in coefficients, which plans are made for
                Kind::Moved { .. } | Kind::Dot { .. } | Kind::Sum { .. } => Counted::default(),
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
            normal,
            layouts,
            cost,
            ..
        } = self;
        // as for plans (`split::split_all`): the second time with all rotations of the first known
        let mut best: Option<(f64, Vec<Counted>)> = None;
        for factor in FIRST_KEY_FACTORS {
            let first = self.counts(&BTreeSet::new(), factor * key_seconds)?;
            let known = first.iter().flat_map(|c| c.rotations.clone()).collect();
            let counts = self.counts(&known, key_seconds)?;
            let rotations: BTreeSet<i64> =
                counts.iter().flat_map(|c| c.rotations.clone()).collect();
            let seconds = cost.maps_at(cost.levels().div_ceil(2).max(1));
            let work = counts.iter().map(|c| seconds(&c.size)).sum::<f64>();
            let price = work + rotations.len() as f64 * key_seconds;
            if best.as_ref().is_none_or(|b| price < b.0) {
                best = Some((price, counts));
            }
        }
        let counts = best.map_or_else(Vec::new, |b| b.1);
        let all = normal.quantities.iter().zip(*layouts).zip(&counts);
        let sizes = all.map(|((q, layout), counted)| {
            let map = matches!(q.kind, Kind::Linear { .. }).then_some(&counted.size);
            (map, layout.period, counted.different)
        });
        let stages = stages(normal, sizes, cost, &[])?;
        let (decisions, _) = schedule::schedule(&stages, normal.output, cost.machine())?;
        self.gather(&stages, &counts, &decisions)
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
        let meter = Meter::new(cost.context());
        let mut parts = Vec::new();
        let mut done: BTreeSet<(Id, usize)> = BTreeSet::new();
        let mut bootstraps: Vec<(Bootstrap, usize)> = Vec::new();
        // rotations with the highest level that a map of this many slots has them at
        let mut turns: BTreeMap<(usize, i64), usize> = BTreeMap::new();
        let (mut count, mut places) = (0, 0);
        for (v, (stage, counted)) in stages.iter().zip(counts).enumerate() {
            let (q, d) = (&quantities[v], decisions[v]);
            let part = |work, ciphertexts, seconds| Part {
                layer: q.layer.clone(),
                purpose: q.purpose,
                work,
                ciphertexts,
                seconds,
            };
            for &w in &stage.sources {
                if level_of(w) > d.level && done.insert((w, d.level)) {
                    let copies = counts[w].different;
                    let seconds = cost.align(d.level) * copies as f64;
                    parts.push(part(Work::Rest, copies, seconds));
                }
            }
            let work = match &q.kind {
                Kind::Input => None,
                Kind::Linear { .. } | Kind::Moved { .. } => Some(q.purpose.of_map()),
                Kind::Polynomial { .. }
                | Kind::Product { .. }
                | Kind::Dot { .. }
                | Kind::Sum { .. } => Some(q.purpose.of_product()),
            };
            if let Some(work) = work {
                let seconds = stage.ways[0].seconds[d.level];
                parts.push(part(work, counted.different, seconds));
            }
            if target.watch == Watch::Operands && alarm::watches(normal, v) {
                let seconds = alarm::seconds(cost, d.level)? * counted.different as f64;
                parts.push(part(Work::Alarm, counted.different, seconds));
            }
            for &r in &counted.rotations {
                let from = stage.sources.iter().map(|&w| layouts[w].period);
                let slots = layouts[v].period.max(from.max().unwrap_or(1));
                let at = turns.entry((slots, r)).or_default();
                *at = (*at).max(d.level);
            }
            if let Some(to) = d.bootstrap {
                count += counted.different.div_ceil(2);
                places += 1;
                let slots = layouts[v].period;
                let seconds = cost.bootstrap(slots, counted.different, to);
                parts.push(part(Work::Bootstrap, counted.different, seconds));
                let bootstrap = Bootstrap {
                    slots: slots * batch,
                    target: cost.level(to).index(),
                    gain: 1.0,
                };
                let odd = counted.different % 2 == 1;
                let vectors = [(odd, 1), (counted.different > 1, 2)];
                for (_, vectors) in vectors.into_iter().filter(|v| v.0) {
                    if !bootstraps.contains(&(bootstrap, vectors)) {
                        bootstraps.push((bootstrap, vectors));
                    }
                }
            }
        }
        for (b, vectors) in &bootstraps {
            let x = meter.input(cost.level(0), b.slots, 0.5)?;
            let x = Parts {
                second: (*vectors == 2).then(|| x.clone()),
                first: x,
            };
            meter.bootstrap(&x, b)?;
        }
        for ((slots, turn), level) in turns {
            let x = meter.input(cost.level(level), slots * batch, 0.5)?;
            let [slots, batch] = [x.info.slots, batch].map(|n| i64::try_from(n).unwrap_or(1));
            meter.rotate(&x, (turn * batch).rem_euclid(slots))?;
        }
        let top = meter.input(parameters.residual(), 4, 0.5)?;
        let square = Operation::Square {
            input: 0,
            output: 1,
            constant: 0.0,
        };
        square.apply(&meter, &[top])?;
        let keys = meter.keys();
        let key_bytes = keys.memory(parameters);
        let weight_bytes = counts.iter().map(|c| 4 * c.numbers as u64).sum::<u64>();
        let peak = self.peak(stages, counts, decisions, &level_of);
        let kept = (bootstraps.iter()).map(|(b, vectors)| b.kept(*vectors));
        Ok(Sketch {
            parts,
            levels: schedule::longest(stages),
            bootstraps: count,
            places,
            key_bytes,
            keys,
            weight_bytes,
            peak_bytes: ckks::memory::process(parameters, kept, peak) + weight_bytes + key_bytes,
            ports: (counts[0].different, counts[normal.output].different),
        })
    }
}
