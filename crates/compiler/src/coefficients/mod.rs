//! Networks whose linear layers lie in coefficients, below the bootstrap: convolutions of any size are products of polynomials with integer weights,
//! without diagonals and with a handful of keys; slots hold activations alone.
//!
//! `network` (sums of kernels over inputs and activations; `kernel`, chains of operators that are one kernel) → `layout` (phases of large
//! pictures, places, channels) → `emit` (units, integer weights, steps, ports). What a layer's outputs leave at places without a value goes
//! through the activation and is masked on the way down.

mod emit;
mod kernel;
mod layout;
mod network;

use crate::activation::Activation;
use crate::{Error, Target};
use ckks::{Context, CostTable, Level, Meter, Parameters, ParametersSpec};
use network::Kind;
use nn::PolyGraph;
use runtime::folding::Within;
use runtime::{Description, Operation, Plan, Step, VerifiedPlan};

/// Compiles a network with every linear layer in coefficients.
///
/// Needs calibrated ranges on the input, on sums that several layers use, and on the answer. Where the target names no parameters, the preset with as many
/// free levels as the deepest activation takes; else they must have SlotToCoeff first.
///
/// # Errors
/// As [`crate::compile`]; [`Error::Unsupported`] for products of values, zeros around pictures that are no convolution's, and means whose divisor is
/// another one at the border.
pub fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    let quantities = network::quantities(graph, target)?;
    let deepest = deepest(&quantities)?;
    let spec = match &target.parameters {
        Some(spec) => spec.clone(),
        None => ParametersSpec::coefficients(deepest.max(LEAST_LEVELS))?,
    };
    let parameters = Parameters::new(spec.clone())?;
    if parameters.products() == Level::new(0) {
        return Err(Error::Ckks(ckks::Error::Parameters {
            name: spec.name,
            reason: "layers in coefficients need a set with levels of products below SlotToCoeff"
                .into(),
        }));
    }
    let laid = layout::lay(&quantities, parameters.n())?;
    let names = [graph.input().name(), graph.output().name()];
    let shapes = [graph.input().shape().dims(), graph.output().shape().dims()];
    let (mut steps, input, output) = emit::emit(&quantities, &laid, &parameters, (names, shapes))?;
    let spec = narrowed(&mut steps, spec, &target.cost)?;
    let metadata = graph.metadata();
    let description = Description {
        name: metadata.name.clone(),
        input_bound: quantities[0].bound,
        task: runtime::wire::task_digest(metadata.task.as_deref().unwrap_or_default()),
        model: nn::format::artefact::digest(graph)?,
        parameters: match target.parameters {
            Some(_) => String::new(),
            None => {
                format!("the deepest activation takes {deepest} levels between two half bootstraps")
            }
        },
    };
    Ok(VerifiedPlan::new(Plan {
        parameters: spec,
        description,
        input,
        output,
        steps,
    })?)
}

/// log2 of the smallest degree that a small ring may have in a secure set.
const LEAST_SMALL: u32 = 13;
/// How much smaller than a toy's ring its small ring is, as logarithm: as 2^13 beside 2^16.
const TOY_SMALLER: u32 = 3;

/// Carries layers out in a small ring where that takes less time, and names it in the parameters if any is.
fn narrowed(
    steps: &mut [Step],
    spec: ParametersSpec,
    table: &CostTable,
) -> Result<ParametersSpec, Error> {
    let least = match spec.is_toy() {
        true => spec.log_n.saturating_sub(TOY_SMALLER),
        false => LEAST_SMALL,
    };
    // the smallest that is secure
    let found = (least..spec.log_n)
        .find_map(|log| Parameters::new(spec.clone().with_small_ring(Some(log))).ok());
    let Some(parameters) = found else {
        return Ok(spec);
    };
    let (context, level) = (Context::new(&parameters), parameters.products());
    let table = table.for_ring(spec.log_n);
    let mut any = false;
    for step in steps {
        let Operation::Weigh { within, .. } = &mut step.operation else {
            continue;
        };
        *within = Within::Small;
        let seconds = |operation: &Operation| -> Result<f64, ckks::Error> {
            let meter = Meter::new(&context);
            let x = meter.input(level, parameters.max_slots(), 1.0)?;
            let operands = vec![x; operation.reads().len()];
            operation.apply(&meter, &operands)?;
            Ok(meter.cost().seconds(&table))
        };
        // refused where places lie too near each other
        let small = seconds(&step.operation).unwrap_or(f64::INFINITY);
        if let Operation::Weigh { within, .. } = &mut step.operation {
            *within = Within::Whole;
        }
        let is_less = small < seconds(&step.operation)?;
        if let Operation::Weigh { within, .. } = &mut step.operation
            && is_less
        {
            (*within, any) = (Within::Small, true);
        }
    }
    Ok(match any {
        true => parameters.spec().clone(),
        false => spec,
    })
}

/// Free levels of the smallest preset.
const LEAST_LEVELS: usize = 2;

/// Levels that the deepest activation takes.
fn deepest(quantities: &[network::Quantity]) -> Result<usize, Error> {
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
