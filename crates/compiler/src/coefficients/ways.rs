//! What a network leaves open, decided by what it costs, from shapes alone.

use super::costs::{Costs, least_bytes};
use super::kernel::{Reading, image};
use super::network::{self, Choice, Id, Kind, Quantity};
use super::slots::{self, Stays};
use super::transformer::WEIGHT_BITS;
use super::{emit, layout};
use crate::activation::Activation;
use crate::alarm::{self, Owned};
use crate::choose::KEY_BYTE;
use crate::draft::simulating;
use crate::target::{Layers, Watch};
use crate::{Error, Needs, Target};
use approx::Polynomial;
use ckks::ParametersSpec;
use nn::{Op, PolyGraph, PolyNode};
use runtime::{Description, Operation, Plan, Port, Register, Step, VerifiedPlan, size};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What a network costs with linear layers in coefficients.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// CPU seconds of a run.
    pub cpu_seconds: f64,
    /// Most bytes of a run.
    pub peak_bytes: u64,
    /// The same with keys on disk, where only so the target's limit is kept.
    pub least_bytes: u64,
    /// Evaluation keys.
    pub keys: usize,
    /// Bytes of their file.
    pub key_bytes: u64,
    /// Half bootstraps.
    pub bootstraps: u64,
    /// Name of the parameters.
    pub parameters: String,
    /// Security of the weakest published key.
    pub security_bits: u32,
    /// What compiling takes.
    pub compiling: Needs,
    /// Layers of one place that are carried out in slots all the same.
    pub in_slots: Vec<String>,
}

impl Estimate {
    /// What this plan costs, whose compilation takes so much.
    pub(crate) fn of(plan: &VerifiedPlan, target: &Target, compiling: Needs) -> Self {
        let facts = plan.facts();
        Self {
            cpu_seconds: plan.predicted_steps(&target.cost).iter().sum(),
            peak_bytes: facts.peak_bytes,
            least_bytes: least_bytes(plan, target),
            keys: facts.keys.0.len(),
            key_bytes: facts.key_file_bytes,
            bootstraps: facts.bootstraps,
            parameters: plan.parameters().spec().name.clone(),
            security_bits: plan.parameters().security_bits(),
            compiling,
            in_slots: Vec::new(),
        }
    }

    /// What it costs each run: CPU seconds, its keys included.
    pub(crate) fn price(&self) -> f64 {
        self.cpu_seconds + KEY_BYTE * self.key_bytes as f64
    }
    pub(crate) fn text(&self) -> String {
        let layers = match self.in_slots.len() {
            0 => String::new(),
            n => format!(" but for {n} of one place"),
        };
        format!(
            "{:.3} CPU seconds{layers}, keys {}, under {}",
            self.cpu_seconds,
            size(self.key_bytes),
            self.parameters
        )
    }
}

/// Most inputs of one run: beyond that they fill ciphertexts of their own.
const MOST_BESIDE: usize = 1 << 10;
/// Transforms of N = 2^16 that a half bootstrap takes, at least: of four slots to two levels (`half_bootstraps_take_so_much`).
pub(crate) const LEAST_TRANSFORMS: f64 = 6000.0;
/// CPU seconds of compiling a weight, and of what every network takes: assumed, as those of slots are.
const SECONDS: (f64, f64) = (1e-7, 1.0);

/// Bytes of looking at a network and of verifying its plan, whatever it is: between 300 and 390 MiB, as threads happen to meet.
const VERIFYING: u64 = 340 << 20;
/// Bytes of simulated runs, and of each for every value of the layer with most of them: what is alive, exactly and with errors, and as a layer reads it.
/// Fitted to measured peaks (`cli/tests/memory.rs`, `predictions_of_compiling_hold`; ResNet-18, -50 and -152, MobileNetV2 at 224 px: within 6 %).
const SIMULATED: [u64; 2] = [72 << 20, 85];

/// What compiling takes: biases of every value, and the more of two: kernels in double precision beside what looks at the network and verifies the plan;
/// kernels as they are and in phases and their integers beside runs that are simulated afterwards, one on each thread.
fn compiling(graph: &PolyGraph, quantities: &[Quantity]) -> Needs {
    let (mut weights, mut values, mut largest) = (0, 0, 0);
    for q in quantities {
        if let Kind::Linear { terms, .. } = &q.kind {
            let here = q.shape.iter().product::<usize>() as u64;
            weights += terms.iter().map(|t| t.1.count() as u64).sum::<u64>();
            values += here;
            largest = largest.max(here);
        }
    }
    let (each, any) = SECONDS;
    let threads = rayon::current_num_threads() as u64;
    let [any_run, of_value] = SIMULATED;
    let simulated = any_run + threads * of_value * largest;
    Needs {
        bytes: 8 * values + (8 * weights + VERIFYING).max(20 * weights + simulated),
        seconds: any + each * weights as f64 + simulating(graph, 0.0),
    }
}

/// What is found by looking at costs alone.
pub(crate) struct Found {
    way: Way,
    pub(crate) estimate: Estimate,
}

/// What a network leaves open.
#[derive(Clone, Debug)]
struct Way {
    /// Which values are there.
    choice: Choice,
    /// Layers of one place between two activations that are carried out in slots.
    stays: BTreeSet<String>,
    /// Channels that a ciphertext holds at least.
    channels: usize,
    /// Levels between two half bootstraps.
    levels: usize,
}

/// How much cheaper a run must be with some layers in slots: what is counted is not measured.
const WORTH: f64 = 1.05;
/// How much more memory such a run may take where nobody says how much there is.
const MORE_MEMORY: f64 = 1.4;

/// Decides for each sum that several layers use whether it becomes a value of its own, which takes half bootstraps, or is part of each of them, which
/// takes products: one after the other, whichever is cheaper. Then which means of activations are summed in slots, how many channels a ciphertext holds at
/// least, and, where the target lets layers lie wherever they cost least, which stay in slots.
pub(crate) fn search(graph: &PolyGraph, target: &Target) -> Result<Found, Error> {
    let batch = target.batch;
    if !batch.is_power_of_two() || batch > MOST_BESIDE {
        let most = MOST_BESIDE;
        return Err(Error::Batch { batch, most });
    }
    let [channels, more @ ..] = layout::LEAST_CHANNELS;
    let mut way = Way {
        choice: Choice {
            apart: network::shared(graph),
            gathered: BTreeSet::new(),
        },
        stays: BTreeSet::new(),
        channels,
        levels: 0,
    };
    let first = network::quantities(graph, target, Reading::Shapes, &way.choice)?;
    way.levels = deepest(&first)?;
    let mut ways = Ways::new(graph, target);
    let mut least = ways.price(&way)?;
    for v in way.choice.apart.clone() {
        let mut fewer = way.clone();
        fewer.choice.apart.remove(&v);
        let seconds = ways.price(&fewer)?;
        if seconds < least {
            (way, least) = (fewer, seconds);
        }
    }
    for v in network::means(graph) {
        let mut other = way.clone();
        other.choice.gathered.insert(v);
        other.choice.apart.remove(&v);
        // what does not fit there is dearer
        let seconds = ways.price(&other).unwrap_or(f64::INFINITY);
        if seconds < least {
            (way, least) = (other, seconds);
        }
    }
    for channels in more {
        let other = Way {
            channels,
            ..way.clone()
        };
        // what does not fit there is dearer
        let seconds = ways.price(&other).unwrap_or(f64::INFINITY);
        if seconds < least {
            (way, least) = (other, seconds);
        }
    }
    let plain = ways.foreseen(way)?;
    if target.layers != Layers::Cheapest {
        return Ok(plain);
    }
    let most = MORE_MEMORY * plain.estimate.peak_bytes as f64;
    for (seconds, way) in ways.mixed(&plain.way)? {
        if WORTH * seconds >= least {
            break;
        }
        let found = ways.foreseen(way)?;
        let estimate = &found.estimate;
        let fits = match target.max_memory {
            Some(limit) => estimate.least_bytes <= limit,
            None => estimate.peak_bytes as f64 <= most,
        };
        if fits && WORTH * estimate.price() < plain.estimate.price() {
            return Ok(found);
        }
    }
    Ok(plain)
}

/// What ways take.
struct Ways<'a> {
    graph: &'a PolyGraph,
    target: &'a Target,
    /// By levels between two half bootstraps.
    costs: BTreeMap<usize, Costs>,
}

impl<'a> Ways<'a> {
    const fn new(graph: &'a PolyGraph, target: &'a Target) -> Self {
        Self {
            graph,
            target,
            costs: BTreeMap::new(),
        }
    }
    /// Costs under the target's set, or the preset with so many free levels.
    fn costs(&mut self, levels: usize) -> Result<&mut Costs, Error> {
        Ok(match self.costs.entry(levels) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let spec = match &self.target.parameters {
                    Some(spec) => spec.clone(),
                    None => {
                        let spec = ParametersSpec::coefficients(levels.max(LEAST_LEVELS))?;
                        match has_wide_means(self.graph) {
                            true => spec.with_weight_bits(WEIGHT_BITS),
                            false => spec,
                        }
                    }
                };
                new.insert(Costs::new(spec, self.target.cost)?)
            }
        })
    }
    /// CPU seconds.
    fn price(&mut self, way: &Way) -> Result<f64, Error> {
        let quantities =
            network::quantities(self.graph, self.target, Reading::Shapes, &way.choice)?;
        let program = self.program(&quantities, way)?;
        self.costs(way.levels)?.seconds(&program.steps)
    }
    fn foreseen(&mut self, way: Way) -> Result<Found, Error> {
        let quantities =
            network::quantities(self.graph, self.target, Reading::Shapes, &way.choice)?;
        let plan = self.plan((&quantities, &way), Reading::Shapes)?;
        let compiling = compiling(self.graph, &quantities);
        let estimate = Estimate {
            in_slots: way.stays.iter().cloned().collect(),
            ..Estimate::of(&plan, self.target, compiling)
        };
        Ok(Found { way, estimate })
    }

    /// Ways with layers of one place in slots, with their CPU seconds, the cheapest first: under sets with the levels that it takes, layers of one shape
    /// go there together, one shape after the other, where that is cheaper. Narrow values that such layers widen become values of their own for it.
    fn mixed(&mut self, plain: &Way) -> Result<Vec<(f64, Way)>, Error> {
        let deepest = plain.levels;
        let groups = groups(self.graph, self.target, plain)?;
        let narrow = groups.iter().any(|g| !g.0.is_empty());
        let levels = match &self.target.parameters {
            Some(_) => vec![deepest],
            // a map behind a refreshed value, or between two activations
            None if narrow => vec![deepest + 1, 2 * deepest + 1],
            None => vec![2 * deepest + 1],
        };
        let mut all: Vec<(f64, Way)> = Vec::new();
        for levels in levels {
            if groups.is_empty() || levels > MOST_LEVELS {
                continue;
            }
            let mut here = Way {
                levels,
                ..plain.clone()
            };
            let mut least = self.price(&here)?;
            for (nodes, layers) in &groups {
                let mut other = here.clone();
                other.choice.apart.extend(nodes);
                other.stays.extend(layers.iter().cloned());
                // what does not fit there is dearer
                let seconds = self.price(&other).unwrap_or(f64::INFINITY);
                if seconds < least {
                    (here, least) = (other, seconds);
                    all.push((seconds, here.clone()));
                }
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(all)
    }

    fn program(&mut self, quantities: &[Quantity], way: &Way) -> Result<Program, Error> {
        let (graph, batch) = (self.graph, self.target.batch);
        let costs = self.costs(way.levels)?;
        let parameters = costs.parameters();
        let laid = layout::lay(quantities, parameters.n(), way.channels)?;
        let stays = Stays::of(quantities, &laid, &way.stays)?;
        let names = [graph.input().name(), graph.output().name()];
        let shapes = [graph.input().shape().dims(), graph.output().shape().dims()];
        let of = (names, shapes, batch);
        let emitted = emit::emit(quantities, &laid, parameters, &stays, of)?;
        let mut steps = emitted.steps;
        let parameters = costs.narrow(&mut steps)?;
        Ok(Program {
            steps,
            ports: emitted.ports,
            owned: emitted.owned,
            parameters,
        })
    }

    fn plan(
        &mut self,
        (quantities, way): (&[Quantity], &Way),
        reading: Reading,
    ) -> Result<VerifiedPlan, Error> {
        let (graph, target) = (self.graph, self.target);
        let program = self.program(quantities, way)?;
        let metadata = graph.metadata();
        let stays: Vec<&str> = way.stays.iter().map(String::as_str).collect();
        let description = Description {
            name: metadata.name.clone(),
            input_bound: quantities[0].bound,
            task: runtime::wire::task_digest(metadata.task.as_deref().unwrap_or_default()),
            model: match reading {
                Reading::Weights => nn::format::artefact::digest(graph)?,
                Reading::Shapes => [0; 32],
            },
            parameters: match (&target.parameters, &stays[..]) {
                (Some(_), []) => String::new(),
                (_, []) => format!(
                    "the deepest activation takes {} levels between two half bootstraps",
                    way.levels
                ),
                (_, stays) => format!(
                    "{} levels between two half bootstraps, since {} layers of one place stay in slots for less than a way down and up: {}",
                    way.levels,
                    stays.len(),
                    stays.join(", ")
                ),
            },
            ..Description::default()
        };
        let [input, output] = program.ports;
        let mut plan = Plan {
            parameters: program.parameters,
            description,
            input,
            output,
            sequence: None,
            steps: program.steps,
        };
        let costs = self.costs(way.levels)?;
        if target.watch == Watch::Operands {
            alarm::watch(&mut plan, costs.parameters(), &program.owned);
        }
        costs.verified(plan, way.stays.len())
    }
}

/// What may go to slots together: nodes that become values of their own for it, and layers.
type Group = (Vec<usize>, Vec<String>);

fn groups(graph: &PolyGraph, target: &Target, plain: &Way) -> Result<Vec<Group>, Error> {
    let between = |choice: &Choice| -> Result<Vec<(Shape, String, String)>, Error> {
        let all = network::quantities(graph, target, Reading::Shapes, choice)?;
        let of = |v: Id| {
            let (source, kernel) = slots::between_activations(&all, v)?;
            let source = all[source].layer.clone();
            let shape = [kernel.from, kernel.to, [kernel.groups; 3]];
            Some((shape, all[v].layer.clone(), source))
        };
        Ok((0..all.len()).filter_map(of).collect())
    };
    let had = between(&plain.choice)?;
    let narrow = alike(network::narrow(graph).into_iter().map(|v| {
        let node = &graph.nodes()[v];
        (image(node.shape()), v)
    }));
    let mut groups = Vec::new();
    for nodes in narrow {
        let mut choice = plain.choice.clone();
        choice.apart.extend(&nodes);
        let names = nodes.iter().map(|v| graph.nodes()[*v].name());
        let names: BTreeSet<&str> = names.collect();
        let layers = between(&choice)?
            .into_iter()
            .filter(|l| names.contains(&*l.2));
        let layers: Vec<String> = layers.map(|l| l.1).collect();
        if !layers.is_empty() {
            groups.push((nodes, layers));
        }
    }
    let own = alike(had.into_iter().map(|(shape, layer, _)| (shape, layer)));
    groups.extend(own.into_iter().map(|layers| (Vec::new(), layers)));
    Ok(groups)
}

/// Shapes before and after a layer, and its groups.
type Shape = [[usize; 3]; 3];

/// Those of one kind together, in the order of kinds.
fn alike<K: Ord, V>(all: impl Iterator<Item = (K, V)>) -> Vec<Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (kind, value) in all {
        groups.entry(kind).or_default().push(value);
    }
    groups.into_values().collect()
}

/// Steps and ports, and the set that has the rings they are carried out in.
struct Program {
    steps: Vec<Step>,
    ports: [Port; 2],
    owned: Owned,
    parameters: ParametersSpec,
}

/// The plan in the way that was found.
pub(super) fn made(
    graph: &PolyGraph,
    target: &Target,
    found: &Found,
) -> Result<VerifiedPlan, Error> {
    let quantities = network::quantities(graph, target, Reading::Weights, &found.way.choice)?;
    Ways::new(graph, target).plan((&quantities, &found.way), Reading::Weights)
}

/// What a network takes whose polynomials are open, under one set.
pub(crate) struct Open {
    /// CPU seconds of each polynomial's alternatives, its half bootstraps and the way down included; infinite where it needs more levels.
    pub(crate) seconds: Vec<Vec<f64>>,
    /// CPU seconds of everything else.
    pub(crate) rest: f64,
    /// Half bootstraps.
    pub(crate) bootstraps: usize,
}

/// What a network takes with other polynomials, under each preset that one of them needs.
pub(crate) fn open(
    graph: &PolyGraph,
    alternatives: &[Vec<Polynomial>],
    target: &Target,
) -> Result<Vec<Open>, Error> {
    let all_there = Target {
        layers: Layers::Coefficients,
        ..target.clone()
    };
    let found = search(graph, &all_there)?.way;
    let known = network::quantities(graph, target, Reading::Shapes, &found.choice)?;
    // levels that products take of what each polynomial makes, in the polynomials' order
    let (_, left) = slots::levels(&known, &vec![false; known.len()])?;
    let mut more: Vec<(&str, usize)> = Vec::new();
    for (q, left) in known.iter().zip(left) {
        let polynomial = q.kind.activation().is_some();
        match more.iter_mut().find(|m| m.0 == q.layer) {
            Some((_, levels)) => *levels = left.max(*levels),
            None if polynomial => more.push((&q.layer, left)),
            None => {}
        }
    }
    let more = more.iter().map(|m| m.1).chain(std::iter::repeat(0));
    let depths = alternatives.iter().zip(more).map(|(row, more)| {
        let depth = |p: &Polynomial| Ok(Activation::absorbed(p, 1.0).depth()? + more);
        row.iter().map(depth).collect()
    });
    let depths: Vec<Vec<usize>> = depths.collect::<Result<_, Error>>()?;
    let sets: BTreeSet<usize> = depths
        .iter()
        .flatten()
        .map(|d| *d.max(&LEAST_LEVELS))
        .collect();
    let most = alternatives.iter().map(Vec::len).max().unwrap_or(0);
    let (mut all, mut ways) = (Vec::new(), Ways::new(graph, target));
    for levels in sets.into_iter().filter(|l| *l <= MOST_LEVELS) {
        let way = Way {
            levels,
            ..found.clone()
        };
        let mut open = Open {
            seconds: depths
                .iter()
                .map(|d| vec![f64::INFINITY; d.len()])
                .collect(),
            rest: f64::INFINITY,
            bootstraps: 0,
        };
        for k in 0..most {
            let mut quantities = known.clone();
            let mut names = Vec::new();
            for q in &mut quantities {
                if let Kind::Activation {
                    polynomial: Some(p),
                    ..
                } = &mut q.kind
                {
                    // a mean's windows have several of one node
                    let known = names.iter().position(|n| *n == q.layer);
                    let i = known.unwrap_or(names.len());
                    if known.is_none() {
                        names.push(q.layer.clone());
                    }
                    let fits =
                        |j: &usize| depths.get(i).is_some_and(|d| d.get(*j) <= Some(&levels));
                    // where this one does not fit, any that does
                    let Some(j) = [k].into_iter().chain(0..k).find(|j| fits(j)) else {
                        return Ok(all);
                    };
                    *p = alternatives[i][j].clone();
                }
            }
            let plan = ways.plan((&quantities, &way), Reading::Shapes)?;
            let (steps, seconds) = (&plan.plan().steps, plan.predicted_steps(&target.cost));
            let mut own = vec![0.0; names.len()];
            let mut rest = 0.0;
            let mut readers: BTreeMap<Register, usize> = BTreeMap::new();
            for (step, seconds) in steps.iter().zip(&seconds).rev() {
                let named = || names.iter().position(|n| *n == step.layer);
                let of = match &step.operation {
                    Operation::Squares { .. } => None,
                    Operation::HalfBootstrap { outputs, .. } => {
                        outputs.iter().find_map(|r| readers.get(r).copied())
                    }
                    _ => named(),
                };
                match of {
                    Some(i) => {
                        own[i] += seconds;
                        readers.extend(step.operation.reads().into_iter().map(|r| (r, i)));
                    }
                    None => rest += seconds,
                }
            }
            for (i, row) in open.seconds.iter_mut().enumerate() {
                if depths[i].get(k).is_some_and(|d| *d <= levels) {
                    row[k] = own[i];
                }
            }
            open.rest = open.rest.min(rest);
            open.bootstraps = plan.facts().bootstraps as usize;
        }
        all.push(open);
    }
    Ok(all)
}

/// Places of a mean's window from which on 16 bits leave its weights too few digits.
const WIDE_MEAN: usize = 65;

/// Whether means run over so many places that weights are held with as many bits as those of sequences.
fn has_wide_means(graph: &PolyGraph) -> bool {
    let wide = |n: &PolyNode| {
        let places = match n.op() {
            Op::GlobalAvgPool => image(graph.shape(n.inputs()[0]))[1..].iter().product(),
            Op::AvgPool(p) => p.kernel.0 * p.kernel.1,
            _ => 0,
        };
        places >= WIDE_MEAN
    };
    graph.nodes().iter().any(wide)
}

/// Free levels of the smallest preset and of the largest.
const LEAST_LEVELS: usize = 2;
const MOST_LEVELS: usize = 9;

/// Levels that the deepest activation takes, products of its values included.
fn deepest(quantities: &[Quantity]) -> Result<usize, Error> {
    let (levels, _) = slots::levels(quantities, &vec![false; quantities.len()])?;
    Ok(levels.into_iter().max().unwrap_or(0))
}
