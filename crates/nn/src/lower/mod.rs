//! From a transformer to linear maps, products and polynomials.
//!
//! [`fit`] chooses what stands in place of every division, root and activation, on the intervals that data shows ([`Pieces`]); [`expand`]
//! writes graph and pieces as a [`PolyGraph`] of primitives; [`lower`] does both and calibrates the result.
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
use crate::attention::AttentionScheme;
use crate::calibrate::{Calibration, FitOptions, calibrate, calibrate_with};
use crate::error::Error;
use crate::evaluate::Outside;
use crate::graph::{Graph, NodeId};
use crate::op::{Nonlinearity, Op};
use crate::pieces::{Piece, Pieces};
use crate::poly_graph::{PolyGraph, Range};
use crate::tensor::{Shape, Tensor};
use approx::iteration::{self, Function};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::collections::BTreeMap;

/// Where a division's numerator goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerator {
    /// Through the iteration, which saves a level: as many values in every step as the numerator has.
    #[default]
    Carried,
    /// Multiplied at the end: one value a position (and head) in every step.
    Apart,
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
    /// pieces.
    pub activations: FitOptions,
    /// The embedded first token, if it is public: one value a channel. Inputs must begin with it.
    pub begin: Option<Vec<f64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bits: 12.0,
            budget: 16,
            margin: 0.25,
            numerator: Numerator::Carried,
            activations: FitOptions::default(),
            begin: None,
        }
    }
}

/// A lowered network.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// The primitives, with the ranges that they show on the data. Its input begins after a public first token: [`after_first`].
    pub graph: PolyGraph,
    /// What stands for what, by the nodes of the network that was lowered.
    pub pieces: Pieces,
}

/// Chooses the pieces on the data, expands, and calibrates.
///
/// # Errors
/// Those of [`fit`] and [`expand`]; [`Error::Exceeded`] when the data leaves an interval in the end.
pub fn lower<I>(graph: &Graph, inputs: &I, options: &Options) -> Result<Lowered>
where
    I: IntoParallelIterator<Item = Result<Tensor>> + Clone,
{
    let pieces = fit(graph, inputs, options)?;
    let lowered = expand(graph, &pieces, options.begin.as_deref())?;
    let rest = || {
        let inputs = inputs.clone().into_par_iter();
        inputs.map(|x| encrypted(graph, &x?, options.begin.as_deref()))
    };
    let own = calibrate(lowered.network(), rest())?;
    if own.outside > 0 {
        let first = |x: Result<Tensor>| -> Result<Option<Outside>> {
            Ok(lowered.evaluate(&x?)?.outside.into_iter().next())
        };
        let exceeded: Vec<Option<Outside>> = rest().map(first).collect::<Result<_>>()?;
        if let Some(worst) = exceeded.into_iter().flatten().next() {
            return Err(Error::Exceeded {
                node: worst.name,
                value: worst.value,
                interval: worst.interval,
                outside: own.outside,
                all: own.inputs,
            });
        }
    }
    Ok(Lowered {
        graph: lowered.with_ranges(own.ranges)?,
        pieces,
    })
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
    Err(Error::Invalid {
        node: graph.input().name().into(),
        operator: graph.input().op().name().into(),
        detail:
            "an input does not begin with the public first token; put it there or lower without it"
                .into(),
    })
}

/// The columns of an image from `first` on: what is encrypted of an embedded sequence.
///
/// # Errors
/// [`Error::InputShape`] unless it has more columns.
pub fn after_first(x: &Tensor, first: usize) -> Result<Tensor> {
    match x.shape() {
        _ if first == 0 => Ok(x.clone()),
        Shape::Image {
            channels,
            height,
            width,
        } if width > first => {
            let rows = x.values().chunks(width);
            let values = rows.flat_map(|row| row[first..].iter().copied()).collect();
            Tensor::new(Shape::image(channels, height, width - first), values)
        }
        had => Err(Error::InputShape {
            needed: Shape::image(1, 1, first + 1),
            had,
        }),
    }
}

/// What stands in place of every division, root and activation: on the data's intervals, widened, taken first from the network as it is, then
/// (for as many rounds as the options say) from the network with its pieces.
///
/// # Errors
/// Those of [`calibrate`], [`Error::Approximation`] with the node for what can't be had,
/// [`Error::Invalid`] for softmax.
pub fn fit<I>(graph: &Graph, inputs: &I, options: &Options) -> Result<Pieces>
where
    I: IntoParallelIterator<Item = Result<Tensor>> + Clone,
{
    let mut pieces = Pieces {
        first: usize::from(options.begin.is_some()),
        by_node: BTreeMap::new(),
    };
    let mut seen = calibrate_with(graph, &pieces, inputs.clone())?;
    for round in 0.. {
        pieces.by_node = choose(graph, &seen, options)?;
        if round >= options.activations.rounds {
            break;
        }
        seen = seen.merge(&calibrate_with(graph, &pieces, inputs.clone())?);
    }
    Ok(pieces)
}

fn choose(graph: &Graph, seen: &Calibration, options: &Options) -> Result<BTreeMap<NodeId, Piece>> {
    let mut pieces = BTreeMap::new();
    for node in graph.nodes() {
        let Some(histogram) = &seen.histograms[node.id().index()] else {
            continue;
        };
        let carried = options.numerator == Numerator::Carried;
        let (function, least) = match node.op() {
            Op::Elementwise(Nonlinearity::Activation(a)) => {
                let fit = crate::calibrate::fit(node.name(), *a, histogram, &options.activations)?;
                pieces.insert(node.id(), Piece::Polynomial(fit.approximation.polynomial));
                continue;
            }
            Op::Norm(n) if carried => (Function::RootQuotient, n.epsilon),
            Op::Norm(n) => (Function::InverseSquareRoot, n.epsilon),
            Op::Attention(a) => match a.scheme {
                AttentionScheme::Power(p) if carried => (Function::Quotient, p.epsilon()),
                AttentionScheme::Power(p) => (Function::Reciprocal, p.epsilon()),
                _ => return Err(attention::no_polynomial(node.name())),
            },
            _ => continue,
        };
        let range = histogram.range().ok_or(Error::NoData)?;
        let interval = widened(range, options.margin, least);
        let program = iteration::choose(function, interval, options.bits, options.budget).map_err(
            |source| Error::Approximation {
                node: node.name().into(),
                source,
            },
        )?;
        pieces.insert(node.id(), Piece::Program(program));
    }
    Ok(pieces)
}

/// A divisor's interval: never below what is always added to it.
fn widened(seen: Range, margin: f64, least: f64) -> (f64, f64) {
    let factor = 1.0 + margin.max(1e-6);
    // Strictly below, so that a divisor which is exactly the least one lies inside in spite of rounding.
    let low = (seen.min / factor).max(least * (1.0 - 1e-9));
    (low, seen.max * factor)
}
