//! Networks whose linear layers lie in coefficients, below the bootstrap: convolutions of any size are products of polynomials with integer weights,
//! without diagonals and with a handful of keys; slots hold activations alone.
//!
//! `network` (sums of kernels over inputs and activations; `kernel`, chains of operators that are one kernel) → `layout` (phases of large
//! pictures, places, channels) → `emit` (units, integer weights, steps, ports; `costs`, what they take). What a layer's outputs leave at places without a value goes
//! through the activation and is masked on the way down.
//!
//! Transformers take the normal form of slots instead (`transformer`): `tokens` says where values lie, `attention` what becomes of scores, `centred` which
//! means are taken off the weights before, `weigh` what a linear map is in coefficients.

mod attention;
pub(crate) mod centred;
mod costs;
mod emit;
mod kernel;
mod layout;
mod network;
pub(crate) mod tokens;
mod transformer;
pub(crate) mod weigh;

use crate::activation::Activation;
use crate::alarm;
use crate::choose::KEY_BYTE;
use crate::target::Watch;
use crate::{Error, Needs, Target};
use ckks::ParametersSpec;
pub(crate) use costs::LEAST_ROOM;
use costs::{Costs, least_bytes, within_memory, within_room};
use kernel::Reading;
use network::{Kind, Quantity};
use nn::PolyGraph;
use runtime::{Description, Plan, Port, Step, VerifiedPlan, size};
use std::collections::BTreeSet;

/// Compiles a network with every linear layer in coefficients.
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer. Where the target names no parameters, the preset with as many
/// free levels as the deepest activation takes; else they must have SlotToCoeff first.
///
/// # Errors
/// As [`crate::compile`]; [`Error::Unsupported`] for products of values, zeros around pictures that are no convolution's, and means whose divisor is
/// another one at the border.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    if transformer::is(graph) {
        return transformer::compile(graph, target);
    }
    compile_found(graph, target, &search(graph, target)?)
}

/// Whether a network is one of tokens, which is compiled in its own way.
pub(crate) fn is_transformer(graph: &PolyGraph) -> bool {
    transformer::is(graph)
}

/// What compiling takes.
pub(crate) fn needs(graph: &PolyGraph, target: &Target) -> Result<Needs, Error> {
    match transformer::is(graph) {
        true => Ok(transformer::needs(graph)),
        false => Ok(estimate(graph, target)?.compiling),
    }
}

/// [`compile`], with what was found before.
pub(crate) fn compile_found(
    graph: &PolyGraph,
    target: &Target,
    found: &Found,
) -> Result<VerifiedPlan, Error> {
    within_room(graph, target, found.estimate.compiling.bytes)?;
    let quantities = network::quantities(graph, target, Reading::Weights, &found.apart)?;
    let mut costs = costs(&quantities, target)?;
    let how = (found.channels, Reading::Weights);
    let plan = made(graph, target, &quantities, &mut costs, how)?;
    within_memory(graph, target, plan)
}

/// What a network costs with every linear layer in coefficients.
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
}

impl Estimate {
    /// What it costs each run: CPU seconds, its keys included.
    pub(crate) fn price(&self) -> f64 {
        self.cpu_seconds + KEY_BYTE * self.key_bytes as f64
    }
    pub(crate) fn text(&self) -> String {
        format!(
            "{:.3} CPU seconds, keys {}, under {}",
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

/// What compiling takes: kernels in double precision, as they are and in phases, their integers, and biases of every value.
fn compiling(quantities: &[Quantity]) -> Needs {
    let (mut weights, mut values) = (0, 0);
    for q in quantities {
        if let Kind::Linear { terms, bias } = &q.kind {
            weights += terms.iter().map(|t| t.1.count() as u64).sum::<u64>();
            values += bias.len() as u64;
        }
    }
    let (each, any) = SECONDS;
    Needs {
        bytes: 20 * weights + 8 * values + LEAST_ROOM,
        seconds: any + each * weights as f64,
    }
}

/// What [`compile`] would give, from the network's shapes alone: no weight is looked at.
///
/// # Errors
/// As [`compile`], but for what depends on weights.
pub fn estimate(graph: &PolyGraph, target: &Target) -> Result<Estimate, Error> {
    Ok(search(graph, target)?.estimate)
}

/// What is found by looking at costs alone.
pub(crate) struct Found {
    /// Sums that several layers use and that become values of their own.
    apart: BTreeSet<usize>,
    /// Channels that a ciphertext holds at least.
    channels: usize,
    pub(crate) estimate: Estimate,
}

/// Decides for each sum that several layers use whether it becomes a value of its own, which takes half bootstraps, or is part of each of them, which
/// takes products: one after the other, whichever is cheaper. Then how many channels a ciphertext holds at least.
pub(crate) fn search(graph: &PolyGraph, target: &Target) -> Result<Found, Error> {
    let batch = target.batch;
    if !batch.is_power_of_two() || batch > MOST_BESIDE {
        let most = MOST_BESIDE;
        return Err(Error::Batch { batch, most });
    }
    let mut apart = network::shared(graph);
    let mut quantities = network::quantities(graph, target, Reading::Shapes, &apart)?;
    let mut costs = costs(&quantities, target)?;
    let mut price = |quantities: &[Quantity], channels| {
        let program = program(graph, target, (quantities, channels), &mut costs)?;
        costs.seconds(&program.steps)
    };
    let [mut channels, more @ ..] = layout::LEAST_CHANNELS;
    let mut least = price(&quantities, channels)?;
    for v in apart.clone() {
        let mut fewer = apart.clone();
        fewer.remove(&v);
        let others = network::quantities(graph, target, Reading::Shapes, &fewer)?;
        let seconds = price(&others, channels)?;
        if seconds < least {
            (apart, quantities, least) = (fewer, others, seconds);
        }
    }
    for other in more {
        // what does not fit there is dearer
        let seconds = price(&quantities, other).unwrap_or(f64::INFINITY);
        if seconds < least {
            (channels, least) = (other, seconds);
        }
    }
    let how = (channels, Reading::Shapes);
    let plan = made(graph, target, &quantities, &mut costs, how)?;
    let facts = plan.facts();
    let estimate = Estimate {
        cpu_seconds: plan.predicted_steps(&target.cost).iter().sum(),
        peak_bytes: facts.peak_bytes,
        least_bytes: least_bytes(&plan, target),
        keys: facts.keys.0.len(),
        key_bytes: facts.key_file_bytes,
        bootstraps: facts.bootstraps,
        parameters: plan.parameters().spec().name.clone(),
        security_bits: plan.parameters().security_bits(),
        compiling: compiling(&quantities),
    };
    Ok(Found {
        apart,
        channels,
        estimate,
    })
}

/// Costs under the target's set, or the preset with as many free levels as the deepest activation takes.
fn costs(quantities: &[Quantity], target: &Target) -> Result<Costs, Error> {
    let spec = match &target.parameters {
        Some(spec) => spec.clone(),
        None => ParametersSpec::coefficients(deepest(quantities)?.max(LEAST_LEVELS))?,
    };
    Costs::new(spec, target.cost)
}

/// Steps and ports, and the set that has the rings they are carried out in.
struct Program {
    steps: Vec<Step>,
    ports: [Port; 2],
    parameters: ParametersSpec,
}

fn program(
    graph: &PolyGraph,
    target: &Target,
    (quantities, channels): (&[Quantity], usize),
    costs: &mut Costs,
) -> Result<Program, Error> {
    let parameters = costs.parameters();
    let laid = layout::lay(quantities, parameters.n(), channels)?;
    let names = [graph.input().name(), graph.output().name()];
    let shapes = [graph.input().shape().dims(), graph.output().shape().dims()];
    let of = (names, shapes, target.batch);
    let (mut steps, input, output) = emit::emit(quantities, &laid, parameters, of)?;
    let parameters = costs.narrow(&mut steps)?;
    Ok(Program {
        steps,
        ports: [input, output],
        parameters,
    })
}

fn made(
    graph: &PolyGraph,
    target: &Target,
    quantities: &[Quantity],
    costs: &mut Costs,
    (channels, reading): (usize, Reading),
) -> Result<VerifiedPlan, Error> {
    let program = program(graph, target, (quantities, channels), costs)?;
    let metadata = graph.metadata();
    let description = Description {
        name: metadata.name.clone(),
        input_bound: quantities[0].bound,
        task: runtime::wire::task_digest(metadata.task.as_deref().unwrap_or_default()),
        model: match reading {
            Reading::Weights => nn::format::artefact::digest(graph)?,
            Reading::Shapes => [0; 32],
        },
        parameters: match target.parameters {
            Some(_) => String::new(),
            None => format!(
                "the deepest activation takes {} levels between two half bootstraps",
                deepest(quantities)?
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
        steps: program.steps,
    };
    if target.watch == Watch::Operands {
        alarm::watch(&mut plan, costs.parameters());
    }
    Ok(VerifiedPlan::new(plan)?)
}

/// Free levels of the smallest preset.
const LEAST_LEVELS: usize = 2;

/// Levels that the deepest activation takes.
fn deepest(quantities: &[Quantity]) -> Result<usize, Error> {
    let mut most = 0;
    for q in quantities {
        if let Kind::Activation {
            polynomial: Some(p),
            ..
        } = &q.kind
        {
            most = most.max(Activation::absorbed(p, 1.0).depth()?);
        }
    }
    Ok(most)
}
