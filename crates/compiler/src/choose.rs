//! Which parameters a network is compiled for: the cheapest that hold its levels and its precision at 128 bits of security.
//!
//! Without bootstrapping a network takes as many levels as its longest path, and its set is made to measure: for each ring of N = 2^13 to
//! 2^16 every size of digits, with the widest primes that the security table leaves. The cheapest plan is taken that is precise enough, by predicted CPU seconds in which keys have a price ([`KEY_BYTE`]). Sets with bootstrapping are asked
//! only by networks that need more levels than they have, or find no other.

use crate::draft::Draft;
use crate::error::Error;
use crate::normal::{Kind, Normal};
use crate::schedule::Decision;
use crate::split::{self, Splits};
use crate::target::Target;
use ckks::levelled::{LEVELLED_RINGS, fine_bits};
use ckks::{KeyName, KeyRequest, ParametersSpec, keys};
use nn::{Op, PolyGraph};
use runtime::{VerifiedPlan, size};

/// An answer is precise enough where its stated error is at most this share of its magnitude, or where primes are as wide as bootstrapping's.
const PRECISE: f64 = 1.0 / 256.0;
/// Seconds of each run that a byte of keys counts: they are made, sent and stored, and a run reads most of them once.
pub(crate) const KEY_BYTE: f64 = 1e-9;

/// What a plan costs each run: CPU seconds, its keys included.
pub(crate) fn price(plan: &VerifiedPlan, target: &Target) -> f64 {
    let seconds: f64 = plan.predicted_steps(&target.cost).iter().sum();
    seconds + KEY_BYTE * plan.facts().key_file_bytes as f64
}

/// Whether a network may do without bootstraps, by its polynomials and products alone.
pub(crate) fn fits_levels(graph: &PolyGraph) -> bool {
    let levels = least_levels(graph).max(1);
    let mut rings = LEVELLED_RINGS;
    rings.any(|log_n| !ParametersSpec::levelled_sets(log_n, levels).is_empty())
}

/// The set under which is counted what compiling takes, where none is asked for: the one with bootstrapping, or for what may do without the largest set
/// that is tried. Counting under a larger one would take more than compiling does, most of it the ring's tables.
pub(crate) fn counted(graph: &PolyGraph, target: &Target) -> ParametersSpec {
    let linear = graph
        .nodes()
        .iter()
        .filter(|n| matches!(n.op(), Op::Conv2d(_) | Op::Linear(_)));
    // as many as the longest path has at most
    let levels = least_levels(graph) + linear.count();
    let mut largest = ParametersSpec::levelled_sets(*LEVELLED_RINGS.end(), levels.max(1));
    match (&target.parameters, largest.pop()) {
        (None, Some(set)) => set,
        _ => target.set(),
    }
}

/// A plan that is precise enough.
struct Offer {
    /// Predicted seconds, and what keys count.
    price: f64,
    seconds: f64,
    plan: VerifiedPlan,
}

/// A set that holds the levels, and how the network is carried out under it.
struct Candidate {
    price: f64,
    set: ParametersSpec,
    splits: Splits,
    decisions: Vec<Decision>,
}

/// What was found so far.
struct Choice<'a> {
    graph: &'a PolyGraph,
    target: &'a Target,
    /// Levels that the network takes without bootstrapping, at least.
    levels: usize,
    best: Option<Offer>,
    /// What is said of rings and sets that were not taken.
    refused: Vec<String>,
    /// The least memory that a plan needs, of those that do not keep the limit.
    least_memory: u64,
}

/// Compiles for the cheapest parameters that hold the network.
pub(crate) fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    let mut choice = Choice {
        graph,
        target,
        levels: least_levels(graph),
        best: None,
        refused: Vec::new(),
        least_memory: u64::MAX,
    };
    for log_n in LEVELLED_RINGS {
        choice.ring(log_n)?;
    }
    let standard = ParametersSpec::standard();
    if choice.best.is_none() || choice.levels > standard.residual.levels {
        match compile_under(graph, target, standard) {
            Ok(plan) => choice.offer(plan),
            Err(e) if choice.best.is_some() => choice.refused.push(format!("standard-16: {e}")),
            Err(Error::Memory {
                network,
                needed,
                had,
            }) => {
                return Err(Error::Memory {
                    network,
                    needed: needed.min(choice.least_memory),
                    had,
                });
            }
            Err(e) => return Err(e),
        }
    }
    choice.take()
}

impl Choice<'_> {
    /// Compiles for the cheapest set of one ring, where it may be cheaper than what there is.
    fn ring(&mut self, log_n: u32) -> Result<(), Error> {
        // what the network at least takes spares bringing a deep one into normal form
        if ParametersSpec::levelled_sets(log_n, self.levels.max(1)).is_empty() {
            self.too_small(log_n);
            return Ok(());
        }
        match self.sets(log_n) {
            // a larger ring may do
            Err(e @ (Error::Batch { .. } | Error::TooLarge { .. } | Error::Packing { .. })) => {
                self.refused.push(format!("2^{log_n}: {e}"));
                Ok(())
            }
            other => other,
        }
    }

    fn sets(&mut self, log_n: u32) -> Result<(), Error> {
        let any = ParametersSpec::levelled(log_n, 1, fine_bits(log_n), 1);
        let mut draft = Draft::normal(self.graph, self.target, any, None)?;
        self.levels = self.levels.max(levels(&draft.normal));
        let sets = ParametersSpec::levelled_sets(log_n, self.levels.max(1));
        if sets.is_empty() {
            self.too_small(log_n);
            return Ok(());
        }
        let packed = draft.pack()?;
        let mut candidates: Vec<Candidate> = Vec::new();
        for set in sets {
            draft.under(set.clone())?;
            let splits = draft.split(&packed);
            let (decisions, seconds) = match draft.schedule(&splits, None) {
                // the longest path is not all: a value may have to be left levels that no path counts
                Err(e @ Error::Levels { .. }) => {
                    self.refused.push(format!("2^{log_n}: {}: {e}", set.name));
                    continue;
                }
                scheduled => scheduled?,
            };
            let counted = split::rotations(&splits).len() as f64 * draft.key_price();
            let bytes = key_bytes(&draft, &splits, &decisions);
            candidates.push(Candidate {
                price: seconds - counted + KEY_BYTE * bytes as f64,
                set,
                splits,
                decisions,
            });
        }
        candidates.sort_by(|a, b| a.price.total_cmp(&b.price));
        let mut coarse: Vec<String> = Vec::new();
        for c in candidates {
            let name = c.set.name.clone();
            if coarse.contains(&name) {
                continue;
            }
            if self.best.as_ref().is_some_and(|b| b.price <= c.price) {
                self.refused
                    .push(format!("2^{log_n}: {name}: {:.3} s", c.price));
                break;
            }
            draft.under(c.set)?;
            let made = match self.target.max_memory {
                None => draft.plan(&packed, &c.splits, &c.decisions),
                Some(limit) => draft.within(&packed, (c.splits, c.decisions), limit),
            };
            let plan = match made {
                Err(Error::Memory { needed, .. }) => {
                    self.least_memory = self.least_memory.min(needed);
                    let needed = size(needed);
                    self.refused
                        .push(format!("2^{log_n}: {name}: {needed} of memory"));
                    continue;
                }
                made => made?,
            };
            let facts = plan.facts();
            let (error, magnitude) = (facts.output_error, facts.output_magnitude);
            if error <= PRECISE * magnitude
                || plan.parameters().spec().log_scale >= fine_bits(log_n)
            {
                self.offer(plan);
                break;
            }
            self.refused.push(format!(
                "2^{log_n}: {name}: an error of {error:.1e}, more than 1/256 of the answer's {magnitude:.1e}"
            ));
            coarse.push(name);
        }
        Ok(())
    }

    fn too_small(&mut self, log_n: u32) {
        let (levels, limit) = (self.levels, ckks::security::ternary_limit(log_n));
        let needed = ParametersSpec::least_log_qp(log_n, levels.max(1));
        self.refused.push(format!(
            "2^{log_n}: {levels} levels and their keys take {needed:.0} bits of modulus at least, 128 bits of security leave {limit:.0}"
        ));
    }

    /// Takes a plan where it is cheaper.
    fn offer(&mut self, plan: VerifiedPlan) {
        let offer = Offer {
            price: price(&plan, self.target),
            seconds: plan.predicted_steps(&self.target.cost).iter().sum(),
            plan,
        };
        let cheaper = self.best.as_ref().is_none_or(|b| offer.price < b.price);
        let dearer = match cheaper {
            true => self.best.replace(offer),
            false => Some(offer),
        };
        self.refused.extend(dearer.map(|o| o.text()));
    }

    fn take(mut self) -> Result<VerifiedPlan, Error> {
        let taken = self.best.take().ok_or_else(|| Error::Calibration {
            layer: self.graph.input().name().into(),
        })?;
        let without = match taken.plan.facts().bootstraps {
            0 => "without a bootstrap",
            _ => "at least",
        };
        let mut why = format!(
            "the network takes {} levels {without}; of what holds them, by predicted CPU seconds and 1 ms for each MB of keys\ntaken: {}\n",
            self.levels,
            taken.text()
        );
        // by ring
        self.refused.sort();
        for line in &self.refused {
            why += &format!("not {line}\n");
        }
        Ok(taken.plan.because(why))
    }
}

impl Offer {
    fn text(&self) -> String {
        let (spec, facts) = (self.plan.parameters().spec(), self.plan.facts());
        format!(
            "2^{}: {}: {:.3} s ({:.3} CPU seconds, keys {}), an error of {:.1e}",
            spec.log_n,
            spec.name,
            self.price,
            self.seconds,
            size(facts.key_file_bytes),
            facts.output_error
        )
    }
}

/// Bytes of the keys that the network needs so carried out.
fn key_bytes(draft: &Draft<'_>, splits: &Splits, decisions: &[Decision]) -> u64 {
    let parameters = draft.cost.parameters();
    let mut request = KeyRequest::default();
    let quantities = draft.normal.quantities.iter().zip(splits);
    for ((q, split), decision) in quantities.zip(decisions) {
        let limit = parameters.key_limit(draft.cost.level(decision.level));
        let rotations = split.iter().flat_map(|s| &s.rotations);
        for &by in rotations {
            let by = by * draft.target.batch as i64;
            request.need(KeyName::Galois(keys::galois_element(parameters, by)), limit);
        }
        if matches!(q.kind, Kind::Polynomial { .. } | Kind::Product { .. }) {
            request.need(KeyName::Relinearization, limit);
        }
    }
    request.bytes(parameters)
}

/// Levels that a network takes without bootstraps: those of its longest path, and what large values need to be left.
fn levels(normal: &Normal) -> usize {
    let all = &normal.quantities;
    let mut left: Vec<usize> = (0..all.len()).map(|v| normal.reserve(v).always).collect();
    for v in (0..all.len()).rev() {
        let level = left[v] + all[v].depth;
        for w in all[v].sources() {
            left[w] = left[w].max(level);
        }
    }
    left.first().copied().unwrap_or(0)
}

/// Levels that polynomials and products alone take, at least: a polynomial of degree d takes ⌈log2 d⌉.
fn least_levels(graph: &PolyGraph) -> usize {
    let mut depth: Vec<Option<usize>> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let inputs = || node.inputs().iter().map(|i| depth[i.index()]);
        // none: a constant
        let deepest = inputs().flatten().max();
        let own = match node.op() {
            Op::Input(_) => 0,
            Op::Elementwise(p) => p.degree().max(1).next_power_of_two().ilog2() as usize,
            Op::Mul => usize::from(inputs().all(|d| d.is_some())),
            _ => 0,
        };
        let input = matches!(node.op(), Op::Input(_)).then_some(0);
        depth.push(input.or(deepest.map(|d| d + own)));
    }
    depth[graph.output().id().index()].unwrap_or(0)
}

/// Compiles a network under these parameters.
pub(crate) fn compile_under(
    graph: &PolyGraph,
    target: &Target,
    set: ParametersSpec,
) -> Result<VerifiedPlan, Error> {
    let (draft, packed, splits) = Draft::new(graph, target, set)?;
    let (decisions, _) = draft.schedule(&splits, None)?;
    match target.max_memory {
        None => draft.plan(&packed, &splits, &decisions),
        Some(limit) => draft.within(&packed, (splits, decisions), limit),
    }
}
