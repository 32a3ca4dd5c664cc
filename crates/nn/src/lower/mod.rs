//! From a trained network to linear maps, products and polynomials: one path for every operator.
//!
//! [`fit`] chooses what stands in place of every division, root and activation, on the intervals that data shows ([`Approximations`]); [`expand`]
//! writes graph and approximations as a [`PolyGraph`] of primitives; [`adapt`] does both and calibrates the result.
//!
//! **Norm**: `c = x − (Σx)/D`, `x' = (Σc²)/D + ε`, then the program of `c/√x'`, then scale and bias.
//! **Attention** (Power-Softmax): the scores of a query against the key d positions before are a grouped 1×1 convolution of
//! `Repeat(q)·Unfold(k)`, one row for each distance d, the same for all channels of a head; they are masked (where the unfolding's zeros don't
//! do it) and raised to p by squarings; values are weighed by `·Unfold(v)` and summed over the rows, and only then divided, on `(H·d, 1, L)`.
//! **Programs** become a product and sums each step, so that a scheduler can put a bootstrap between any two. Factors and shifts are
//! polynomials of degree 1, which keep f64 precision and which a compiler folds into the maps around; on ±2^40 they are exact.
//!
//! **A public first token** ([`Options::begin`]): position 0 of a causal model attends to itself alone, so its keys and values are
//! constants of the model. The network is then that of positions 1 to L − 1, and each attention has one row more: the score against
//! the constant key. Left in, the first token's outsize activations would set every interval.

mod attention;
mod expand;
mod norm;
mod program;

pub use expand::expand;

use crate::Result;
use crate::approximations::{Approximations, Substitute};
use crate::attention::Scheme;
use crate::calibrate::{Calibration, Fit, FitOptions, calibrate, calibrate_steps};
use crate::error::Error;
use crate::evaluate::Outside;
use crate::graph::{Graph, NodeId};
use crate::op::{Nonlinearity, Op};
use crate::poly_graph::{PolyGraph, Range};
use crate::tensor::{Shape, Tensor};
use approx::iteration::{self, Function};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::collections::BTreeMap;

/// Where a division's numerator goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerator {
    /// Multiplied at the end: one value a position (and head) in every step.
    #[default]
    Apart,
    /// Through the iteration, which saves a level: as many values in every step as the numerator has.
    Carried,
}

/// How a network is lowered.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Precision of divisions and roots, relative, in bits.
    pub bits: f64,
    /// Multiplicative depth that one division or root may take.
    pub budget: u32,
    /// By which factor less one a divisor's interval is widened at both ends.
    pub margin: f64,
    /// Where numerators go.
    pub numerator: Numerator,
    /// How activations become polynomials; [`FitOptions::rounds`] is also how often all intervals are taken again from the network with its
    /// approximations.
    pub activations: FitOptions,
    /// The embedded first token, if it is public: one value a channel. Inputs must begin with it.
    pub begin: Option<Vec<f64>>,
    /// What stands in place of functions where that is known already, as after training; the nodes that it lacks get theirs from [`fit`].
    pub given: Option<Approximations>,
    /// What becomes of inputs on which a value leaves an interval.
    pub outliers: Outliers,
    /// What inputs may hold beyond what calibration sees, as tokens that it never saw.
    pub input: Option<Range>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: 12.0,
            budget: 16,
            margin: 0.25,
            numerator: Numerator::Apart,
            activations: FitOptions::default(),
            begin: None,
            given: None,
            outliers: Outliers::LeaveOut(0),
            input: None,
        }
    }
}

/// What becomes of inputs on which a value leaves the interval of what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outliers {
    /// They count like all others: ranges cover what polynomials do there.
    Keep,
    /// They are left out of all ranges; more than so many are refused.
    LeaveOut(usize),
}

/// A network made polynomial.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// The primitives, with the ranges that they show on the data. Its input begins after a public first token: [`after_first`].
    pub graph: PolyGraph,
    /// What stands for what, by the nodes of the network that was adapted.
    pub approximations: Approximations,
    /// How activations were replaced, in topological order, but those whose approximations were given.
    pub fits: Vec<Fit>,
    /// Inputs on which a value left its interval, by their number, and where it did first.
    pub outside: Vec<(usize, Outside)>,
}

/// From a trained network and calibration inputs to a calibrated polynomial network, for every operator: approximations are chosen on the
/// inputs (where they are not given), the network is written in primitives, and these take their ranges from the inputs.
///
/// # Errors
/// [`Error::Maximum`] before anything is computed, those of [`fit`] and [`expand`], [`Error::Exceeded`] when more inputs leave an interval
/// than may, [`Error::NoData`].
pub fn adapt(graph: &Graph, inputs: &[Tensor], options: &Options) -> Result<Adapted> {
    graph.refuse_maxima()?;
    let begin = options.begin.as_deref();
    let (approximations, fits) = fit(graph, inputs, options)?;
    let lowered = expand(graph, &approximations, begin)?;
    let mut outside = Vec::new();
    if let Outliers::LeaveOut(most) = options.outliers {
        outside = leaving(graph, &approximations, inputs)?;
        if let Some((_, first)) = outside.first().filter(|_| outside.len() > most) {
            return Err(Error::Exceeded {
                node: first.name.clone(),
                value: first.value,
                interval: first.interval,
                outside: outside.len(),
                all: inputs.len(),
            });
        }
    }
    let mut kept = vec![true; inputs.len()];
    outside.iter().for_each(|(i, _)| kept[*i] = false);
    let rest = inputs.par_iter().zip(&kept).filter(|(_, kept)| **kept);
    let mut own = calibrate(
        lowered.network(),
        &Approximations::default(),
        rest.map(|(x, _)| encrypted(graph, x, begin)),
    )?;
    if options.outliers == Outliers::Keep && own.outside > 0 {
        outside = leaving(graph, &approximations, inputs)?;
    }
    if let Some(wider) = options.input {
        let input = &mut own.ranges[lowered.input().id().index()];
        input.min = input.min.min(wider.min);
        input.max = input.max.max(wider.max);
    }
    Ok(Adapted {
        graph: lowered.with_ranges(own.ranges)?,
        approximations,
        fits,
        outside,
    })
}

/// A step of a sequence made polynomial with approximations that are there already, as its whole sequence's network has them, and calibrated on sequences: each is
/// the inputs of its steps in order. `input` is what the first input may hold beyond what calibration sees.
///
/// # Errors
/// Those of [`expand`] and [`calibrate_steps`]; [`Error::Exceeded`] where a value leaves an interval.
pub fn adapt_step(
    graph: &Graph,
    approximations: &Approximations,
    sequences: &[Vec<Vec<Tensor>>],
    input: Option<Range>,
) -> Result<PolyGraph> {
    let lowered = expand(graph, approximations, None)?;
    let none = Approximations::default();
    let mut seen = calibrate_steps(lowered.network(), &none, sequences)?;
    if seen.outside > 0 {
        return Err(first_outside(graph, approximations, sequences, &seen)?);
    }
    if let Some(wider) = input {
        let first = &mut seen.ranges[lowered.input().id().index()];
        first.min = first.min.min(wider.min);
        first.max = first.max.max(wider.max);
    }
    lowered.with_ranges(seen.ranges)
}

/// What leaves its interval first.
fn first_outside(
    graph: &Graph,
    approximations: &Approximations,
    sequences: &[Vec<Vec<Tensor>>],
    seen: &Calibration,
) -> Result<Error> {
    for steps in sequences {
        let mut kept = graph.nothing_kept();
        for inputs in steps {
            let trace = graph.evaluate_step(approximations, inputs, &kept)?;
            kept = graph.left(&trace);
            if let Some(first) = trace.outside.first() {
                return Ok(Error::Exceeded {
                    node: first.name.clone(),
                    value: first.value,
                    interval: first.interval,
                    outside: seen.outside,
                    all: seen.inputs,
                });
            }
        }
    }
    Ok(Error::NoData)
}

/// The inputs on which a value leaves its interval, by their number, and where it does first.
///
/// # Errors
/// [`Error::InputShape`].
pub fn leaving(
    graph: &Graph,
    approximations: &Approximations,
    inputs: &[Tensor],
) -> Result<Vec<(usize, Outside)>> {
    let first = |(i, x)| {
        let outside = graph.evaluate_with(approximations, x)?.outside;
        Ok(outside.into_iter().next().map(|first| (i, first)))
    };
    let all: Result<Vec<_>> = inputs.par_iter().enumerate().map(first).collect();
    Ok(all?.into_iter().flatten().collect())
}

/// An input less its public first token, which must be the given one.
fn encrypted(graph: &Graph, x: &Tensor, begin: Option<&[f64]>) -> Result<Tensor> {
    let Some(begin) = begin else {
        return Ok(x.clone());
    };
    let rest = after_first(x, 1)?;
    let width = x.values().len() / begin.len().max(1);
    let own = x.values().iter().step_by(width.max(1));
    if own.eq(begin) {
        return Ok(rest);
    }
    let detail =
        "an input does not begin with the public first token; put it there or lower without it";
    let (node, operator) = (graph.input().name(), graph.input().op().name());
    Err(Error::invalid(node, operator, detail))
}

/// The columns of an image from `first` on: what is encrypted of an embedded sequence.
///
/// # Errors
/// [`Error::InputShape`] unless it has more columns.
pub fn after_first(x: &Tensor, first: usize) -> Result<Tensor> {
    match x.shape().as_image() {
        _ if first == 0 => Ok(x.clone()),
        Some((channels, height, width)) if width > first => {
            let rows = x.values().chunks(width);
            let values = rows.flat_map(|row| row[first..].iter().copied()).collect();
            Tensor::new(Shape::image(channels, height, width - first), values)
        }
        _ => Err(Error::InputShape {
            needed: Shape::image(1, 1, first + 1),
            had: x.shape(),
        }),
    }
}

/// Refuses a network that [`adapt`] makes polynomial on no inputs: it takes maxima, or its attention divides as no program can.
///
/// # Errors
/// [`Error::Maximum`], [`Error::Invalid`] for softmax.
pub fn check(graph: &Graph) -> Result<()> {
    graph.refuse_maxima()?;
    for node in graph.nodes() {
        if let Op::Attention(a) = node.op()
            && let Err(why) = a.scheme.division()
        {
            return Err(attention::no_polynomial(node.name(), why));
        }
    }
    Ok(())
}

/// What stands in place of every division, root and activation: what is given, and for the other nodes what is chosen on the data's intervals,
/// widened, taken first from the network with what is given, then (for as many rounds as the options say) from the network with all its
/// approximations.
///
/// # Errors
/// Those of [`fn@calibrate`], [`Error::Approximation`] with the node for what can't be had,
/// [`Error::Invalid`] for softmax.
pub fn fit(
    graph: &Graph,
    inputs: &[Tensor],
    options: &Options,
) -> Result<(Approximations, Vec<Fit>)> {
    let given = options.given.clone();
    let mut approximations = given.unwrap_or_else(|| Approximations {
        first: usize::from(options.begin.is_some()),
        by_node: BTreeMap::new(),
    });
    let given = approximations.by_node.clone();
    let mut nodes = graph.nodes().iter();
    if nodes.all(|n| given.contains_key(&n.id()) || !needs_substitute(n.op())) {
        return Ok((approximations, Vec::new()));
    }
    let calibrated = |approximations: &Approximations| {
        calibrate(graph, approximations, inputs.par_iter().cloned().map(Ok))
    };
    let mut seen = calibrated(&approximations)?;
    let mut round = 0;
    loop {
        let fits;
        (approximations.by_node, fits) = choose(graph, &seen, options, &given)?;
        if round >= options.activations.rounds {
            return Ok((approximations, fits));
        }
        seen = seen.merge(&calibrated(&approximations)?);
        round += 1;
    }
}

/// Whether an operator is none of a polynomial network's, but something may stand in its place.
fn needs_substitute(op: &Op<Nonlinearity>) -> bool {
    match op {
        Op::Elementwise(Nonlinearity::Activation(_)) | Op::Norm(_) => true,
        Op::Attention(a) => !matches!(a.scheme.division(), Ok(None)),
        _ => false,
    }
}

type Substitutes = BTreeMap<NodeId, Substitute>;

fn choose(
    graph: &Graph,
    seen: &Calibration,
    options: &Options,
    given: &Substitutes,
) -> Result<(Substitutes, Vec<Fit>)> {
    let mut chosen = given.clone();
    let mut fits = Vec::new();
    let nodes = graph.nodes().iter();
    for node in nodes.filter(|n| !given.contains_key(&n.id())) {
        let Some(histogram) = &seen.histograms[node.id().index()] else {
            continue;
        };
        let carried = options.numerator == Numerator::Carried;
        let (function, least) = match node.op() {
            Op::Elementwise(Nonlinearity::Activation(a)) => {
                let fit = crate::calibrate::fit(node.name(), *a, histogram, &options.activations)?;
                let polynomial = fit.approximation.polynomial.clone();
                chosen.insert(node.id(), Substitute::Polynomial(polynomial));
                fits.push(fit);
                continue;
            }
            Op::Norm(n) if carried => (Function::RootQuotient, n.epsilon),
            Op::Norm(n) => (Function::InverseSquareRoot, n.epsilon),
            Op::Attention(a) => match a.scheme.division() {
                Ok(Some(d)) if carried => (Function::Quotient, d.least),
                Ok(Some(d)) => (Function::Reciprocal, d.least),
                Ok(None) => continue,
                Err(why) => return Err(attention::no_polynomial(node.name(), why)),
            },
            _ => continue,
        };
        let range = histogram.range().ok_or(Error::NoData)?;
        let interval = widened(range, options.margin, least);
        let program = iteration::choose(function, interval, options.bits, options.budget);
        let program = program.map_err(Error::approximation(node.name()))?;
        chosen.insert(node.id(), Substitute::Program(program));
    }
    Ok((chosen, fits))
}

/// A divisor's interval: never below what is always added to it.
fn widened(seen: Range, margin: f64, least: f64) -> (f64, f64) {
    let factor = 1.0 + margin.max(1e-6);
    // Strictly below, so that a divisor which is exactly the least one lies inside in spite of rounding.
    let low = (seen.min / factor).max(least * (1.0 - 1e-9));
    (low, seen.max * factor)
}
