//! A network on its way to a plan: what is known of it once it is packed, and the passes from there.

use crate::alarm::{self, Owned};
use crate::coefficients::sequence::Sequence;
use crate::cost::CostModel;
use crate::emit::{self, Shared};
use crate::error::Error;
use crate::normal::{self, Normal};
use crate::pack::{self, Packed, Survey, Twins};
use crate::schedule::{self, Machine, Stage};
use crate::split::{self, Splits, Tallies};
use crate::stages::stages;
use crate::target::Target;
use crate::target::Watch;
use crate::{kept, twins, units};
use ckks::{Parameters, ParametersSpec};
use nn::{Op, PolyGraph};
use runtime::{Description, Plan, VerifiedPlan};
use std::cell::RefCell;

/// A network on its way to a plan.
pub(crate) struct Draft<'a> {
    pub(crate) graph: &'a PolyGraph,
    /// Its digest.
    model: [u8; 32],
    pub(crate) target: &'a Target,
    pub(crate) normal: Normal,
    /// Which ciphertexts of a quantity are different.
    pub(crate) twins: Vec<Twins>,
    pub(crate) cost: CostModel,
    /// Weights of the plans written so far, for those that follow.
    pub(crate) weights: RefCell<Shared>,
    /// What cuts of its maps come to, once it is packed.
    pub(crate) tallies: Tallies,
    /// What linear maps in coefficients take, by quantity; empty where there are none.
    pub(crate) weighing: Vec<f64>,
    ports: Option<[emit::Shown; 2]>,
}

impl<'a> Draft<'a> {
    /// A network's normal form in the ring of a set.
    pub(crate) fn normal(
        graph: &'a PolyGraph,
        target: &'a Target,
        set: ParametersSpec,
        sequence: Option<&Sequence<'_>>,
    ) -> Result<Self, Error> {
        let parameters = Parameters::new(set)?;
        let max_slots = target.slots_of_one(&parameters)?;
        let mut cost = CostModel::new(&parameters, target.cost, target.batch)?;
        let read = sequence.map_or(graph, |s| &*s.graph);
        let tokens = sequence.map(|s| s.tokens);
        let normal = normal::normalise(read, target, max_slots, None, tokens, &mut cost)?;
        cost.prepare(normal.quantities.iter().map(|q| q.layout.period))?;
        Ok(Self {
            graph,
            model: nn::format::artefact::digest(graph)?,
            target,
            normal,
            twins: Vec::new(),
            cost,
            weights: RefCell::default(),
            tallies: Tallies::new(),
            weighing: Vec::new(),
            ports: sequence.map(|s| s.ports.clone()),
        })
    }

    /// The same network under another set of the same ring, without bootstrapping as this one.
    pub(crate) fn under(&mut self, set: ParametersSpec) -> Result<(), Error> {
        let parameters = Parameters::new(set)?;
        self.cost = CostModel::new(&parameters, self.target.cost, self.target.batch)?;
        Ok(())
    }

    /// Packs its maps.
    pub(crate) fn pack(&mut self) -> Result<Vec<Option<Packed>>, Error> {
        let normal = &self.normal;
        let surveyed = normal.quantities.iter().map(|q| pack::survey(normal, q));
        let surveys: Vec<Survey> = surveyed.collect();
        let of = (self.target, self.cost.parameters());
        require_room(self.graph, of, normal, &surveys)?;
        let (packed, twins) = twins::pack_all(normal, &surveys);
        self.twins = twins;
        self.tallies = split::tallies(&packed);
        Ok(packed)
    }

    /// Splits its maps.
    pub(crate) fn split(&self, packed: &[Option<Packed>]) -> Splits {
        split::split_all((packed, &self.tallies), &self.cost, self.key_price())
    }

    /// Packs a network's maps and splits them.
    pub(crate) fn new(
        graph: &'a PolyGraph,
        target: &'a Target,
        set: ParametersSpec,
    ) -> Result<(Self, Vec<Option<Packed>>, Splits), Error> {
        let mut draft = Self::normal(graph, target, set, None)?;
        let packed = draft.pack()?;
        let splits = draft.split(&packed);
        Ok((draft, packed, splits))
    }

    /// What one more rotation key costs.
    pub(crate) fn key_price(&self) -> f64 {
        self.target.key_price(self.cost.parameters())
    }

    /// Decides on levels and bootstraps, which reach one level only if one is given; and what that costs: seconds of a run, and its
    /// rotation keys at [`Target::key_seconds`].
    pub(crate) fn schedule(
        &self,
        splits: &Splits,
        bootstrap_target: Option<usize>,
    ) -> Result<(Vec<schedule::Decision>, f64), Error> {
        let machine = Machine {
            target: bootstrap_target,
            ..self.cost.machine()
        };
        let (stages, output) = (self.stages(splits)?, self.normal.output);
        let (decisions, seconds) = match self.normal.kept.is_empty() {
            true => schedule::schedule(&stages, output, machine)?,
            false => kept::schedule(&self.normal, stages, machine)?,
        };
        let keys = split::rotations(splits).len() as f64;
        Ok((decisions, seconds + keys * self.key_price()))
    }

    /// What the scheduler must know of every quantity.
    pub(crate) fn stages(&self, splits: &Splits) -> Result<Vec<Stage>, Error> {
        let all = self.normal.quantities.iter().zip(splits).zip(&self.twins);
        let sizes = all.map(|((q, split), twins)| {
            let size = split.as_ref().map(|s| &s.size);
            (size, q.layout.period, twins.count)
        });
        stages(&self.normal, sizes, &self.cost, &self.weighing)
    }

    /// The plan of these maps and decisions, verified.
    pub(crate) fn plan(
        &self,
        packed: &[Option<Packed>],
        splits: &Splits,
        decisions: &[schedule::Decision],
    ) -> Result<VerifiedPlan, Error> {
        let plan = self.written(packed, splits, decisions)?;
        let (context, read) = (self.cost.context(), self.cost.read());
        Ok(VerifiedPlan::sharing(plan, context, read)?)
    }

    /// The plan, not verified.
    pub(crate) fn written(
        &self,
        packed: &[Option<Packed>],
        splits: &Splits,
        decisions: &[schedule::Decision],
    ) -> Result<Plan, Error> {
        let Self {
            graph,
            model,
            target,
            normal,
            ..
        } = self;
        let units = units::units(normal, decisions, self.cost.parameters())?;
        let inputs: Vec<&str> = graph.inputs().map(nn::Node::name).collect();
        let kept: Vec<&str> = (graph.kept().iter())
            .map(|k| graph.node(k.after).name())
            .collect();
        let names = (&inputs[..], graph.output().name(), &kept[..]);
        let emitted = emit::emit(
            &emit::Draft {
                normal,
                decisions,
                units: &units,
                twins: &self.twins,
                splits,
                weights: &self.weights,
                giants: self.cost.giants(),
                batch: target.batch,
                parameters: self.cost.parameters(),
                ports: &self.ports,
            },
            packed,
            names,
        )?;
        let metadata = graph.metadata();
        let description = Description {
            name: metadata.name.clone(),
            input_bound: normal.quantities[0].bound,
            task: runtime::wire::task_digest(metadata.task.as_deref().unwrap_or_default()),
            model: *model,
            ..Description::default()
        };
        let mut plan = Plan {
            parameters: self.cost.parameters().spec().clone(),
            description,
            input: emitted.input,
            output: emitted.output,
            sequence: emitted.sequence,
            steps: emitted.steps,
        };
        if target.watch == Watch::Operands {
            alarm::watch(&mut plan, self.cost.parameters(), &Owned::new());
        }
        Ok(plan)
    }
}

/// What compiling takes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Needs {
    /// Bytes beyond what the process has of the network already.
    pub bytes: u64,
    /// CPU seconds, a rough figure, fitted to a few small networks.
    pub seconds: f64,
}

/// CPU seconds of making, writing into the plan and verifying one value of a diagonal, and of what every network takes: without bootstraps, which
/// is the choice among small sets, and with them.
const SECONDS: (f64, [f64; 2]) = (2e-8, [0.2, 2.5]);
/// CPU seconds of a multiplication of simulated runs, and how many each value of the network stands for beside those of its layers: 3e-10 on a quiet
/// machine with AVX-512 (ResNet-18), 1e-9 and more on a busy one with AVX2 (`cli/tests/memory.rs`, `predictions_of_compiling_hold`: within a factor of 3.5).
const SIMULATED: (f64, f64) = (8e-10, 150.0);

/// CPU seconds of the runs that are simulated of a plan, whose layers multiply so often in a run, and of the network in the clear beside them.
pub(crate) fn simulating(graph: &PolyGraph, products: f64) -> f64 {
    let (mut values, mut own) = (0, 0);
    for node in graph.nodes() {
        let shape = node.shape();
        values += shape.len();
        own += match node.op() {
            Op::Conv2d(c) => shape.len() * (c.weight.values().len() / c.out_channels().max(1)),
            Op::Linear(l) => l.weight.values().len(),
            _ => 0,
        };
    }
    let (each, beside) = SIMULATED;
    let products = products.max(own as f64) + beside * values as f64;
    let runs = runtime::noise::runs(products, graph.output().shape().len());
    each * runs as f64 * (2.0 * products + own as f64)
}

/// What compiling a network with linear layers in slots will take, counted under a set.
pub(crate) fn needs(
    graph: &PolyGraph,
    target: &Target,
    set: ParametersSpec,
) -> Result<Needs, Error> {
    let draft = Draft::normal(graph, target, set, None)?;
    let (normal, parameters) = (&draft.normal, draft.cost.parameters());
    let surveys: Vec<Survey> = (normal.quantities.iter())
        .map(|q| pack::survey(normal, q))
        .collect();
    let values: u64 = surveys.iter().map(|s| s.values).sum();
    let (each, any) = SECONDS;
    Ok(Needs {
        bytes: compiling_bytes(normal, &surveys, parameters),
        seconds: any[usize::from(is_deep(normal, parameters))]
            + each * values as f64
            + simulating(graph, values as f64),
    })
}

/// Whether a network takes more levels than there are without bootstraps.
fn is_deep(normal: &Normal, parameters: &Parameters) -> bool {
    let depth: usize = normal.quantities.iter().map(|q| q.depth).sum();
    depth > parameters.residual().index()
}

/// Refuses a network whose diagonals leave the room that there is, before they are made.
fn require_room(
    graph: &PolyGraph,
    (target, parameters): (&Target, &Parameters),
    normal: &Normal,
    surveys: &[Survey],
) -> Result<(), Error> {
    let Some(room) = target.room else {
        return Ok(());
    };
    let needed = room.resident + compiling_bytes(normal, surveys, parameters);
    let largest = surveys.iter().zip(&normal.quantities);
    match largest.max_by_key(|(s, _)| s.bytes) {
        Some((survey, q)) if needed > room.whole() => Err(Error::Packing {
            layer: q.layer.clone(),
            network: graph.metadata().name.clone(),
            needed,
            share: survey.bytes,
            had: room.whole(),
            limit: room.limit,
        }),
        _ => Ok(()),
    }
}

/// Bytes that compiling takes beyond what it has of the network: weights of diagonals as they are packed, as a plan has them and as simulated runs read
/// them, those of one ciphertext in double precision while they are found, and what verification has. Fitted to measured peaks
/// (`cli/tests/memory.rs`, `predictions_of_compiling_hold`).
fn compiling_bytes(normal: &Normal, surveys: &[Survey], parameters: &Parameters) -> u64 {
    let words = (parameters.ring().moduli().len() * parameters.n()) as u64;
    // two sets of the ring's tables, and what bootstraps are counted with
    let verifying = match is_deep(normal, parameters) {
        true => 125 * words,
        false => 64 * words,
    };
    let (mut kept, mut packing) = (0, 0);
    for survey in surveys {
        kept += survey.bytes;
        packing = packing.max(kept + 2 * survey.together);
    }
    // a twelfth on top: what is measured of small networks is up to an eighth above the parts
    packing.max(kept * 57 / 10 + verifying) * 13 / 12
}
