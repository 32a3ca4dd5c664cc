//! A network with the approximations that a homomorphic circuit has in place of divisions, roots and activations, read by the oracle.
//!
//! [`Approximations`] go beside a [`Graph`], they don't change it: the same nodes, evaluated with or without them. What
//! [`crate::lower`] makes of graph and approximations computes what `Network::evaluate_with` computes, in many more nodes.

use crate::Result;
use crate::attention::Scheme;
use crate::error::Error;
use crate::graph::{Graph, Node, NodeId};
use crate::op::Op;
use crate::sequence;
use crate::tensor::{Shape, Tensor};
use approx::{Polynomial, Program};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What stands in place of one node's function.
#[derive(Debug, Clone, PartialEq)]
pub enum Substitute {
    /// Of an activation.
    Polynomial(Polynomial),
    /// Of a norm's `c/√(variance + ε)` or of Power-Softmax' division: a program with or without a numerator.
    Program(Program),
}

/// The approximations of a network's nodes; nodes without one, and columns before the first that is encrypted, are computed as they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Approximations {
    /// The first encrypted column: public positions before it need no approximation.
    pub first: usize,
    /// By node.
    pub by_node: BTreeMap<NodeId, Substitute>,
}

/// Approximations as a file has them: by the nodes' names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    first: usize,
    nodes: BTreeMap<String, StoredSubstitute>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredSubstitute {
    Polynomial {
        coefficients: Vec<f64>,
        interval: (f64, f64),
    },
    Program {
        function: approx::Function,
        interval: (f64, f64),
        method: approx::Method,
    },
}

const FORMAT: &str = "approximations.json";

impl Approximations {
    /// One line each: node, function, interval, levels.
    #[must_use]
    pub fn described(&self, graph: &Graph) -> Vec<String> {
        let line = |(id, substitute): (&NodeId, &Substitute)| {
            let name = graph.node(*id).name();
            let on = |(low, high)| format!("on [{low:.4}, {high:.4}]");
            match substitute {
                Substitute::Polynomial(p) => {
                    let (degree, on) = (p.degree(), on(p.interval()));
                    format!("{name}: polynomial of degree {degree} {on}")
                }
                Substitute::Program(p) => {
                    let (function, on) = (p.function().name(), on(p.interval()));
                    format!("{name}: {function} {on}, {} levels", p.depth())
                }
            }
        };
        self.by_node.iter().map(line).collect()
    }

    /// As JSON (`approximations.json` of a training run), by the names of the graph's nodes.
    ///
    /// # Errors
    /// [`Error::Malformed`] where JSON can't hold them.
    pub fn to_json(&self, graph: &Graph) -> Result<String> {
        let stored = |substitute: &Substitute| match substitute {
            Substitute::Polynomial(p) => StoredSubstitute::Polynomial {
                coefficients: p.coefficients().to_vec(),
                interval: p.interval(),
            },
            Substitute::Program(p) => StoredSubstitute::Program {
                function: p.function(),
                interval: p.interval(),
                method: p.method(),
            },
        };
        let nodes = self.by_node.iter();
        let all = Stored {
            first: self.first,
            nodes: nodes
                .map(|(id, substitute)| (graph.node(*id).name().to_string(), stored(substitute)))
                .collect(),
        };
        serde_json::to_string_pretty(&all).map_err(|e| Error::malformed(FORMAT, e.to_string()))
    }

    /// The same approximations again, for a graph with these nodes (of any length).
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such file or names a node that the graph doesn't have; [`Error::Approximation`] for numbers that
    /// make no polynomial or program.
    pub fn from_json(graph: &Graph, json: &str) -> Result<Self> {
        let malformed = |detail: String| Error::malformed(FORMAT, detail);
        let all: Stored = serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        let mut by_node = BTreeMap::new();
        for (name, substitute) in all.nodes {
            let node = graph.find(&name).ok_or_else(|| {
                malformed(format!(
                    "the network has no such node as {name}; give approximations and network of one run"
                ))
            })?;
            let unfit = Error::approximation(&name);
            let substitute = match substitute {
                StoredSubstitute::Polynomial {
                    coefficients,
                    interval,
                } => {
                    Substitute::Polynomial(Polynomial::new(coefficients, interval).map_err(unfit)?)
                }
                StoredSubstitute::Program {
                    function,
                    interval,
                    method,
                } => Substitute::Program(Program::new(function, interval, method).map_err(unfit)?),
            };
            by_node.insert(node.id(), substitute);
        }
        Ok(Self {
            first: all.first,
            by_node,
        })
    }

    /// Whether the value at this index of a tensor is encrypted.
    pub(crate) fn covers(&self, shape: Shape, index: usize) -> bool {
        match shape {
            Shape::Image { width, .. } => index % width >= self.first,
            Shape::Vector(_) => true,
        }
    }

    /// The node's polynomial.
    pub(crate) fn polynomial(&self, node: NodeId) -> Option<&Polynomial> {
        match self.by_node.get(&node) {
            Some(Substitute::Polynomial(p)) => Some(p),
            _ => None,
        }
    }

    pub(crate) fn program(&self, node: NodeId) -> Option<&Program> {
        match self.by_node.get(&node) {
            Some(Substitute::Program(p)) => Some(p),
            _ => None,
        }
    }

    /// The node's value, if it has a substitute (then the node's function is not asked).
    pub(crate) fn apply<N>(&self, node: &Node<N>, inputs: &[&Tensor]) -> Option<Vec<f64>> {
        let program = self.program(node.id())?;
        let x = inputs.first()?;
        let (values, shape) = (x.values(), x.shape());
        match node.op() {
            Op::Norm(n) => {
                let area = shape.len() / n.scale.values().len();
                let width = shape.columns();
                Some(sequence::norm_by(n, values, area, |t, c, variance| {
                    if t % width < self.first {
                        c / variance.sqrt()
                    } else {
                        quotient(program, c, variance)
                    }
                }))
            }
            Op::Attention(a) => {
                let length = a.keys(inputs.get(1)?.shape());
                // Public columns are constants of the model, which stores f32.
                let stored = |x: &Tensor| {
                    let values = x.values().iter().enumerate();
                    let value = |(i, &v): (usize, &f64)| match i % length < self.first {
                        true => f64::from(v as f32),
                        false => v,
                    };
                    values.map(value).collect::<Vec<f64>>()
                };
                let (k, v) = (stored(inputs.get(1)?), stored(inputs.get(2)?));
                let weigh = |scores: &[f64], weights: &mut [f64]| {
                    a.scheme.numerators(scores, weights);
                    let divisor = a.scheme.divisor(scores);
                    for w in weights {
                        *w = quotient(program, *w, divisor);
                    }
                };
                let marks = inputs.get(3).map(|m| m.values());
                let mut y = sequence::attention_by(a, [values, &k, &v], marks, length, weigh);
                if self.first > 0 {
                    let (k, v) = (inputs.get(1)?.values(), inputs.get(2)?.values());
                    let exact = sequence::attention(a, [values, k, v], marks, length);
                    for (y, exact) in y.chunks_mut(length).zip(exact.chunks(length)) {
                        let first = self.first.min(length);
                        y[..first].copy_from_slice(&exact[..first]);
                    }
                }
                Some(y)
            }
            _ => None,
        }
    }
}

fn quotient(program: &Program, a: f64, x: f64) -> f64 {
    if program.function().has_numerator() {
        program.eval_quotient(a, x)
    } else {
        a * program.eval(x)
    }
}

/// What the node divides by or takes the root of, at each encrypted position; None if it does neither.
pub(crate) fn divisors<N>(node: &Node<N>, inputs: &[&Tensor], first: usize) -> Option<Vec<f64>> {
    let x = inputs.first()?;
    let mut out = Vec::new();
    match node.op() {
        Op::Norm(n) => {
            let channels = n.scale.values().len();
            let area = x.shape().len() / channels;
            let width = x.shape().columns();
            let mut seen = 0;
            sequence::norm_by(n, x.values(), area, |t, c, variance| {
                if t % width >= first && seen % channels == 0 {
                    out.push(variance);
                }
                seen += 1;
                c
            });
        }
        Op::Attention(a) if matches!(a.scheme.division(), Ok(Some(_))) => {
            let k = inputs.get(1)?;
            let marks = inputs.get(3).map(|m| m.values());
            let qk = [x.values(), k.values()];
            sequence::scores(a, qk, marks, a.keys(k.shape()), |_, i, scores| {
                if i >= first {
                    out.push(Scheme::divisor(&a.scheme, scores));
                }
            });
        }
        _ => return None,
    }
    Some(out)
}
