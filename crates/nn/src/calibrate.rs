//! Ranges and densities over a data set, and the polynomials that they call for.
//!
//! [`calibrate`] runs a network over inputs, in parallel and with a result that doesn't depend on the order, and keeps each node's
//! smallest and largest value and a [`Histogram`] of what every elementwise function is given. [`fit()`] gives the polynomial that is nearest to an
//! activation where the data lies.

use crate::Result;
use crate::approximations::{self, Approximations};
use crate::error::Error;
use crate::evaluate::{self, Outside};
use crate::graph::{Graph, Network, Node};
use crate::histogram::Histogram;
use crate::op::{BatchNorm, ElementFunction, Op};
use crate::poly_graph::Range;
use crate::tensor::{Parameter, Tensor};
use approx::least_squares::{density_samples, weighted_root_mean_square};
use approx::{Activation, Approximation, weighted_least_squares};
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator,
};

/// What a network did on a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Smallest and largest output of each node, in the order of the nodes.
    pub ranges: Vec<Range>,
    /// Inputs of each elementwise node, and what each norm takes the root of and each Power-Softmax divides by; None for other nodes.
    pub histograms: Vec<Option<Histogram>>,
    /// Number of inputs seen.
    pub inputs: usize,
    /// Number of inputs on which some polynomial left its interval.
    pub outside: usize,
}

impl Calibration {
    fn empty<N>(network: &Network<N>) -> Self {
        let elementwise = |n: &crate::Node<N>| {
            matches!(n.op(), Op::Elementwise(_) | Op::Norm(_) | Op::Attention(_))
                .then(Histogram::default)
        };
        Self {
            ranges: vec![
                Range {
                    min: f64::INFINITY,
                    max: f64::NEG_INFINITY
                };
                network.nodes().len()
            ],
            histograms: network.nodes().iter().map(elementwise).collect(),
            inputs: 0,
            outside: 0,
        }
    }

    fn add<N: ElementFunction>(
        &mut self,
        network: &Network<N>,
        approximations: &Approximations,
        input: &Tensor,
    ) -> Result<()> {
        let outside = network.visit(approximations, input, |node, value, inputs| {
            self.see(approximations, node, value, inputs)
        })?;
        self.count(&outside);
        Ok(())
    }

    /// One input more, with what left an interval.
    fn count(&mut self, outside: &[Outside]) {
        self.inputs += 1;
        self.outside += usize::from(!outside.is_empty());
    }

    fn see<N: ElementFunction>(
        &mut self,
        approximations: &Approximations,
        node: &Node<N>,
        value: &Tensor,
        inputs: &[&Tensor],
    ) -> Result<()> {
        let range = &mut self.ranges[node.id().index()];
        for &v in value.values() {
            if !v.is_finite() {
                return Err(Error::Diverged {
                    node: node.name().into(),
                    value: v,
                });
            }
            range.min = range.min.min(v);
            range.max = range.max.max(v);
        }
        let Some(histogram) = &mut self.histograms[node.id().index()] else {
            return Ok(());
        };
        if let Some(divisors) = approximations::divisors(node, inputs, approximations.first) {
            divisors.into_iter().for_each(|v| histogram.add(v));
        } else if let (Op::Elementwise(_), Some(x)) = (node.op(), inputs.first()) {
            let values = x.values().iter().enumerate();
            let encrypted = values.filter(|(i, _)| approximations.covers(x.shape(), *i));
            encrypted.for_each(|(_, &v)| histogram.add(v));
        }
        Ok(())
    }

    /// What two data sets show together.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (a, b) in self.ranges.iter_mut().zip(&other.ranges) {
            a.min = a.min.min(b.min);
            a.max = a.max.max(b.max);
        }
        for (a, b) in self.histograms.iter_mut().zip(&other.histograms) {
            if let (Some(a), Some(b)) = (a.as_mut(), b) {
                a.merge(b);
            }
        }
        self.inputs += other.inputs;
        self.outside += other.outside;
        self
    }
}

/// The network with the mean and variance of every batch normalisation taken from these inputs, as a trained one has them: each sees what those
/// before it make of them. All inputs go through one node after the other, so what is alive between two nodes is in memory for each input.
///
/// # Errors
/// [`Error::NoData`], [`Error::InputShape`], [`Error::NotFinite`].
pub fn batch_norms(mut graph: Graph, inputs: &[Tensor]) -> Result<Graph> {
    let needed = graph.input().shape();
    if inputs.is_empty() {
        return Err(Error::NoData);
    }
    if let Some(x) = inputs.iter().find(|x| x.shape() != needed) {
        let had = x.shape();
        return Err(Error::InputShape { needed, had });
    }
    let last = graph.last_uses();
    let none = Approximations::default();
    // of each node a value for every input
    let mut values: Vec<Vec<Tensor>> = vec![Vec::new(); graph.nodes().len()];
    for index in 0..graph.nodes().len() {
        let node = &graph.nodes()[index];
        let from: Vec<usize> = node.inputs().iter().map(|i| i.index()).collect();
        if let Op::BatchNorm(norm) = node.op() {
            let norm = measured(node.name(), norm, &values[from[0]])?;
            graph = graph.with_norm(index, norm);
        }
        let node = &graph.nodes()[index];
        let made = (inputs.par_iter().enumerate()).map(|(k, input)| {
            let operands: Vec<&Tensor> = from.iter().map(|&v| &values[v][k]).collect();
            evaluate::apply(node, &none, input, &operands)
        });
        values[index] = made.collect();
        for &v in from.iter().filter(|&&v| last[v] == index) {
            values[v] = Vec::new();
        }
    }
    Ok(graph)
}

/// The normalisation with the mean and variance of each channel of these.
fn measured(name: &str, norm: &BatchNorm, xs: &[Tensor]) -> Result<BatchNorm> {
    let channels = norm.scale.values().len();
    let count: usize = xs.iter().map(|x| x.values().len() / channels.max(1)).sum();
    let moments: Vec<(f64, f64)> = (0..channels)
        .into_par_iter()
        .map(|c| {
            let planes = || {
                xs.iter().flat_map(|x| {
                    let each = x.values().len() / channels;
                    &x.values()[c * each..][..each]
                })
            };
            let mean = planes().sum::<f64>() / count as f64;
            let variance = planes().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
            (mean, variance)
        })
        .collect();
    let parameter = |of: fn(&(f64, f64)) -> f64| {
        #[expect(clippy::cast_possible_truncation, reason = "as trained ones are")]
        let values: Vec<f32> = moments.iter().map(|m| of(m) as f32).collect();
        Parameter::new(name, [channels], values)
    };
    Ok(BatchNorm {
        mean: parameter(|m| m.0)?,
        variance: parameter(|m| m.1)?,
        ..norm.clone()
    })
}

/// As [`fn@calibrate`], of a step over sequences: each is the inputs of its steps in order, which begin with nothing kept.
///
/// # Errors
/// As [`fn@calibrate`], and those of [`Network::evaluate_step`].
pub fn calibrate_steps<N: ElementFunction>(
    network: &Network<N>,
    approximations: &Approximations,
    sequences: &[Vec<Vec<Tensor>>],
) -> Result<Calibration> {
    let of = |steps: &Vec<Vec<Tensor>>| {
        let (mut seen, mut kept) = (Calibration::empty(network), network.nothing_kept());
        for inputs in steps {
            let trace = network.evaluate_step(approximations, inputs, &kept)?;
            kept = network.left(&trace);
            for (node, value) in network.nodes().iter().zip(&trace.values) {
                let inputs = node.inputs().iter().map(|i| &trace.values[i.index()]);
                seen.see(approximations, node, value, &inputs.collect::<Vec<_>>())?;
            }
            seen.count(&trace.outside);
        }
        Ok(seen)
    };
    let all: Result<Vec<Calibration>> = sequences.par_iter().map(of).collect();
    let nothing = Calibration::empty(network);
    let calibration = all?.iter().fold(nothing, |all, one| all.merge(one));
    match calibration.inputs {
        0 => Err(Error::NoData),
        _ => Ok(calibration),
    }
}

/// Ranges and densities of a network over a data set, with approximations in place of functions; the histograms leave public columns aside. The
/// same inputs in any order and on any number of threads give the same result.
///
/// # Errors
/// [`Error::NoData`], [`Error::Diverged`] at a value that isn't finite, [`Error::InputShape`], and what the inputs bring.
pub fn calibrate<N: ElementFunction>(
    network: &Network<N>,
    approximations: &Approximations,
    inputs: impl IntoParallelIterator<Item = Result<Tensor>>,
) -> Result<Calibration> {
    let calibration = inputs
        .into_par_iter()
        .try_fold(
            || Calibration::empty(network),
            |mut sum, input| {
                sum.add(network, approximations, &input?)?;
                Ok(sum)
            },
        )
        .try_reduce(|| Calibration::empty(network), |a, b| Ok(a.merge(&b)))?;
    if calibration.inputs == 0 {
        return Err(Error::NoData);
    }
    Ok(calibration)
}

/// How activations become polynomials.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Degree of the polynomials.
    pub degree: usize,
    /// Added to the calibrated interval at both ends, relative to its width.
    pub margin: f64,
    /// Fit on this interval, whatever was seen.
    pub interval: Option<Range>,
    /// Share of the weight that is spread evenly over the interval, so that the polynomial is held where data is rare.
    pub floor: f64,
    /// How often ranges and densities are taken again from the polynomial network itself and merged before the final fit.
    pub rounds: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            degree: 15,
            margin: 0.1,
            interval: None,
            floor: 0.02,
            rounds: 1,
        }
    }
}

/// How one activation was replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The node's name.
    pub node: String,
    /// What it was given over the data set.
    pub seen: Range,
    /// The polynomial and its largest error on its interval.
    pub approximation: Approximation,
    /// Root-mean-square error under the weights of the fit.
    pub root_mean_square_error: f64,
}

/// The polynomial nearest to an activation where the data lies: weighted least squares on the seen interval, widened by the margin.
///
/// # Errors
/// [`Error::NoData`] for an empty histogram, [`Error::Approximation`].
pub fn fit(
    node: &str,
    activation: Activation,
    histogram: &Histogram,
    options: &FitOptions,
) -> Result<Fit> {
    /// Points at which the density is sampled.
    const POINTS: usize = 4000;
    let seen = histogram.range().ok_or(Error::NoData)?;
    let mut wide = options
        .interval
        .unwrap_or_else(|| seen.widened(options.margin));
    if wide.max - wide.min < 1e-6 {
        // A constant input: any interval around it will do.
        wide = Range {
            min: wide.min - 1.0,
            max: wide.max + 1.0,
        };
    }
    let interval = within(activation, seen, wide);
    let f = |x| activation.value(x);
    let samples = density_samples(|x| histogram.density(x), interval, options.floor, POINTS);
    let approximation = weighted_least_squares(f, interval, options.degree, &samples)
        .map_err(Error::approximation(node))?;
    let fitted = |x| approximation.polynomial.eval(x);
    Ok(Fit {
        node: node.into(),
        seen,
        root_mean_square_error: weighted_root_mean_square(f, fitted, &samples),
        approximation,
    })
}

/// The interval without what the function has no values on, which a margin may reach: below 0 of a root, and the other side of a reciprocal's pole.
fn within(activation: Activation, seen: Range, wide: Range) -> (f64, f64) {
    match activation {
        Activation::Sqrt => (wide.min.max(0.0), wide.max),
        Activation::Reciprocal if seen.min > 0.0 => (wide.min.max(seen.min / 2.0), wide.max),
        Activation::Reciprocal if seen.max < 0.0 => (wide.min, wide.max.min(seen.max / 2.0)),
        _ => (wide.min, wide.max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Linear, Nonlinearity, Parameter, Shape};

    fn network() -> Graph {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::Vector(2)).expect("valid");
        let weight = Parameter::new("w", [2, 2], vec![1.0, 2.0, -1.0, 0.5]).expect("valid");
        let y = b
            .add("dense", Op::Linear(Linear { weight, bias: None }), &[x])
            .expect("valid");
        let y = b
            .add(
                "act",
                Op::Elementwise(Nonlinearity::Activation(Activation::Silu)),
                &[y],
            )
            .expect("valid");
        b.finish(y).expect("valid")
    }

    fn inputs() -> Vec<Tensor> {
        (0..500)
            .map(|i| {
                let a = f64::from(i);
                Tensor::new(
                    Shape::Vector(2),
                    vec![(a * 0.37).sin() * 2.0, (a * 0.73).cos()],
                )
                .expect("fits")
            })
            .collect()
    }

    #[test]
    fn calibration_does_not_depend_on_the_order() {
        let data = inputs();
        let forward = calibrate(
            &network(),
            &Approximations::default(),
            data.par_iter().cloned().map(Ok),
        )
        .expect("calibrates");
        let backward = calibrate(
            &network(),
            &Approximations::default(),
            data.par_iter().rev().cloned().map(Ok),
        )
        .expect("calibrates");
        assert_eq!(forward, backward);
        assert_eq!(forward.inputs, 500);
        let all = |f: fn(f64, f64) -> f64, start| {
            data.iter().flat_map(|t| t.values().to_vec()).fold(start, f)
        };
        assert_eq!(forward.ranges[0].min, all(f64::min, f64::INFINITY));
        assert_eq!(forward.ranges[0].max, all(f64::max, f64::NEG_INFINITY));
        assert_eq!(
            forward.histograms[2].as_ref().and_then(Histogram::range),
            Some(forward.ranges[1])
        );
    }

    #[test]
    fn every_refusal() {
        let none: Vec<Tensor> = Vec::new();
        assert!(matches!(
            calibrate(
                &network(),
                &Approximations::default(),
                none.into_par_iter().map(Ok)
            ),
            Err(Error::NoData)
        ));
        let wrong = vec![Tensor::zeros(Shape::Vector(3))];
        assert!(matches!(
            calibrate(
                &network(),
                &Approximations::default(),
                wrong.into_par_iter().map(Ok)
            ),
            Err(Error::InputShape { .. })
        ));
        let huge = vec![Tensor::new(Shape::Vector(2), vec![f64::MAX, f64::MAX]).expect("fits")];
        let e = calibrate(
            &network(),
            &Approximations::default(),
            huge.into_par_iter().map(Ok),
        )
        .expect_err("overflows");
        assert!(
            matches!(&e, Error::Diverged { node, .. } if node == "dense"),
            "{e}"
        );
    }
}
