//! What is known of a model while it is imported: constants, nodes so far, and patterns of operators that stand for one.

use super::onnx_axes::Axes;
use super::onnx_constant::{Constant, constant_node};
use super::onnx_external::External;
use super::onnx_proto::{GraphProto, NodeProto, TensorProto};
use crate::Result;
use crate::error::Error;
use crate::graph::{Network, NetworkBuilder, NodeId};
use crate::op::Nonlinearity;
use approx::Activation;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Values that uses of constants may make beyond [`PER_BYTE`] for each of the file's own bytes: scalars added to pictures, weights that layers share.
const MOST_COPIES: usize = 1 << 24;

/// Values for each byte: weights that are computed, as standardised ones are, pass through several operators.
const PER_BYTE: usize = 4;

/// Constants of more values are forgotten behind their last use.
const LARGE: usize = 1 << 18;

/// Whether it is ONNX' own domain, which has two names.
pub(super) fn standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// A computed tensor: which of a node's values it has, with all of its ONNX axes.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) node: NodeId,
    pub(super) axes: Axes,
}

impl View {
    /// The node's values at other places.
    pub(super) fn with(&self, axes: Axes) -> Self {
        let node = self.node;
        Self { node, axes }
    }

    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        self.with(self.axes.transposed(order))
    }

    pub(super) fn broadcast(&self, dims: &[usize]) -> Option<Self> {
        self.axes.broadcast(dims).map(|axes| self.with(axes))
    }
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Node(View),
    Constant(Constant),
    /// Not read, for the reason of this number: only what the output needs beside patterns must be.
    Refused(usize),
}

/// Why a node gives no value.
pub(super) enum Stop {
    /// For a reason of its own.
    New(Error),
    /// One of its inputs has none.
    Earlier(usize),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::New(e)
    }
}

/// What comes of a node, or of a part of it.
pub(super) type Imported<T = Value> = std::result::Result<T, Stop>;

/// A model being imported.
pub(super) struct Import<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) opset: i64,
    producers: HashMap<&'a str, &'a NodeProto>,
    pub(super) initializers: HashMap<&'a str, &'a TensorProto>,
    pub(super) external: External,
    pub(super) values: HashMap<&'a str, Value>,
    pub(super) refusals: Vec<Error>,
    pub(super) network: NetworkBuilder<Nonlinearity>,
    /// For each name, the number from which on no node has it.
    pub(super) suffixes: HashMap<String, usize>,
    /// Values of constants, and the file's bytes.
    copies: (Cell<usize>, usize),
    /// How often each value is still to be used.
    uses: HashMap<&'a str, usize>,
}

impl<'a> Import<'a> {
    /// Of this graph, in a file of so many bytes.
    pub(super) fn new(graph: &'a GraphProto, opset: i64, bytes: usize, external: External) -> Self {
        Self {
            graph,
            opset,
            producers: (graph.node.iter())
                .flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n)))
                .collect(),
            initializers: (graph.initializer.iter())
                .map(|t| (t.name.as_str(), t))
                .collect(),
            uses: graph.node.iter().flat_map(|n| &n.input).fold(
                HashMap::new(),
                |mut uses, name| {
                    *uses.entry(name.as_str()).or_default() += 1;
                    uses
                },
            ),
            external,
            values: HashMap::new(),
            refusals: Vec::new(),
            network: Network::builder(),
            suffixes: HashMap::new(),
            copies: (Cell::new(0), bytes),
        }
    }

    /// Accounts for `count` values that are made of a constant, so that a small file can't ask for much memory.
    pub(super) fn charge(&self, count: usize) -> Result<()> {
        let made = self.copies.0.get().saturating_add(count);
        let bytes = self.copies.1.saturating_add(self.external.bytes());
        if made > bytes.saturating_mul(PER_BYTE).saturating_add(MOST_COPIES) {
            return Err(Error::malformed(
                "ONNX",
                format!(
                    "its constants, where they are used, have more values than {PER_BYTE} for each of its bytes and {MOST_COPIES} together"
                ),
            ));
        }
        self.copies.0.set(made);
        Ok(())
    }

    /// A name that no node has yet, this one if it is free.
    pub(super) fn free_name(&mut self, base: &str) -> String {
        let suffix = self.suffixes.entry(base.into()).or_default();
        loop {
            let name = match *suffix {
                0 => base.to_string(),
                k => format!("{base}#{k}"),
            };
            *suffix += 1;
            if !self.network.contains(&name) {
                return name;
            }
        }
    }

    /// Forgets large constants that no node behind this one uses.
    pub(super) fn used(&mut self, node: &'a NodeProto) {
        for name in &node.input {
            let left = self.uses.entry(name.as_str()).or_default();
            *left = left.saturating_sub(1);
            if let (0, Some(Value::Constant(c))) = (*left, self.values.get(name.as_str()))
                && c.values.len() > LARGE
            {
                self.values.remove(name.as_str());
            }
        }
    }

    /// The node that computes a value, if it is this operator of ONNX'.
    pub(super) fn made_by(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = *self.producers.get(value)?;
        (node.op_type == op && standard(&node.domain)).then_some(node)
    }

    /// As [`Import::made_by`], without any attributes (a Constant has some).
    fn producer(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = self.made_by(value, op)?;
        (node.attribute.is_empty() || op == "Constant").then_some(node)
    }

    /// The scalar that a value holds, from an initializer or a Constant node.
    pub(super) fn scalar(&self, value: &str) -> Option<f64> {
        match self.values.get(value) {
            Some(Value::Constant(c)) => return c.scalar(),
            Some(_) => return None,
            None => {}
        }
        // many nodes may ask for one constant: decode none that is no scalar
        let larger = |t: &TensorProto| t.dims.iter().any(|&d| d != 1);
        if let Some(t) = self.initializers.get(value) {
            let read = || Constant::from_proto(t, &self.external).ok()?.scalar();
            return (!larger(t)).then(read)?;
        }
        let node = self.producer(value, "Constant")?;
        let a = node.attribute.first()?;
        if a.floats.len().max(a.ints.len()) > 1 || a.t.as_ref().is_some_and(larger) {
            return None;
        }
        constant_node(node, &self.external).ok()?.scalar()
    }

    /// The activation that a node's result is of one value, whatever lies between: `x·Sigmoid(x)`, `x·HardSigmoid(x)`, `x·Tanh(Softplus(x))`,
    /// `x/2·(1 + Erf(x/√2))`, the factors in any order.
    pub(super) fn pattern(&self, node: &'a NodeProto) -> Option<(Activation, &'a str)> {
        if node.op_type != "Mul" || node.input.len() != 2 {
            return None;
        }
        for (x, other) in [(0, 1), (1, 0)].map(|(a, b)| (&node.input[a], &node.input[b])) {
            let of_x = |n: &NodeProto| n.input.first() == Some(x);
            if self.producer(other, "Sigmoid").is_some_and(of_x) {
                return Some((Activation::Silu, x));
            }
            let hard = self.made_by(other, "HardSigmoid").filter(|n| of_x(n));
            if hard.is_some_and(|n| {
                let attribute = |name: &str, default: f64| {
                    let a = n.attribute.iter().find(|a| a.name == name);
                    a.map_or(default, |a| f64::from(a.f))
                };
                let (alpha, beta) = (attribute("alpha", 0.2), attribute("beta", 0.5));
                (alpha - 1.0 / 6.0).abs() < 1e-6 && (beta - 0.5).abs() < 1e-6
            }) {
                return Some((Activation::HardSwish, x));
            }
            let inner = self.producer(other, "Tanh").and_then(|n| n.input.first());
            let softplus = inner.and_then(|v| self.producer(v, "Softplus"));
            if softplus.is_some_and(of_x) {
                return Some((Activation::Mish, x));
            }
        }
        let mut factor = 1.0;
        let mut leaves = Vec::new();
        self.factors(node, 3, &mut factor, &mut leaves);
        if let [a, b] = leaves[..]
            && (factor - 0.5).abs() < 1e-6
        {
            for (x, other) in [(a, b), (b, a)] {
                if self.one_plus_erf(other) == Some(x) {
                    return Some((Activation::Gelu, x));
                }
            }
        }
        None
    }

    /// Product of the scalar factors, and the other factors, of a tree of multiplications.
    fn factors(
        &self,
        node: &'a NodeProto,
        depth: usize,
        factor: &mut f64,
        leaves: &mut Vec<&'a str>,
    ) {
        for input in &node.input {
            match (self.scalar(input), self.producer(input, "Mul")) {
                (Some(c), _) => *factor *= c,
                (None, Some(m)) if depth > 0 && m.input.len() == 2 => {
                    self.factors(m, depth - 1, factor, leaves)
                }
                _ => leaves.push(input),
            }
        }
    }

    /// The `x` of `1 + Erf(x/√2)`.
    fn one_plus_erf(&self, value: &str) -> Option<&'a str> {
        // √2 as half precision has it is off by 1.5e-4
        let near = |v: f64, to: f64| (v - to).abs() < 2e-4;
        let add = self.producer(value, "Add")?;
        let [a, b] = &add.input[..] else { return None };
        let erf = match (self.scalar(a), self.scalar(b)) {
            (Some(one), None) if near(one, 1.0) => b,
            (None, Some(one)) if near(one, 1.0) => a,
            _ => return None,
        };
        let argument = self.producer(erf, "Erf")?.input.first()?;
        if let Some(div) = self.producer(argument, "Div") {
            let [x, by] = &div.input[..] else { return None };
            return near(self.scalar(by)?, SQRT_2).then_some(x);
        }
        let [a, b] = &self.producer(argument, "Mul")?.input[..] else {
            return None;
        };
        let root = |v: &str| near(self.scalar(v).unwrap_or(0.0), FRAC_1_SQRT_2);
        let (x, _) = [(a, b), (b, a)].into_iter().find(|(_, by)| root(by))?;
        Some(x)
    }

    /// The `x` and ε of `(x − μ)/√(mean (x − μ)² + ε)`, and over which axes: what this Div computes where it is a norm written out.
    pub(super) fn norm(&self, div: &'a NodeProto) -> Option<(&'a str, &'a NodeProto, f64)> {
        let [centred, root] = &div.input[..] else {
            return None;
        };
        let sum = match self.made_by(root, "Sqrt") {
            Some(sqrt) => sqrt.input.first()?,
            None => {
                let pow = self.made_by(root, "Pow")?;
                pow.input
                    .first()
                    .filter(|_| self.scalar(&pow.input[1]) == Some(0.5))?
            }
        };
        let [a, b] = &self.made_by(sum, "Add")?.input[..] else {
            return None;
        };
        let (variance, epsilon) = match (self.scalar(a), self.scalar(b)) {
            (Some(e), None) => (b, e),
            (None, Some(e)) => (a, e),
            _ => return None,
        };
        let mean = self.made_by(variance, "ReduceMean")?;
        let square = mean.input.first()?;
        let squared = match (self.made_by(square, "Pow"), self.made_by(square, "Mul")) {
            (Some(p), _) if self.scalar(p.input.get(1)?) == Some(2.0) => p.input.first()?,
            (_, Some(m)) if m.input.first() == m.input.get(1) => m.input.first()?,
            _ => return None,
        };
        // torch squares a second difference of the same two
        let difference = |v: &str| self.made_by(v, "Sub").map(|n| &n.input);
        let [x, m] = &difference(centred)?[..] else {
            return None;
        };
        if squared != centred && difference(squared)? != difference(centred)? {
            return None;
        }
        let of_x = self.made_by(m, "ReduceMean")?;
        let same = of_x.input.first() == Some(x) && of_x.input.get(1..) == mean.input.get(1..);
        (same && of_x.attribute == mean.attribute).then_some((x, mean, epsilon))
    }

    /// Names of the values that the output depends on.
    pub(super) fn needed(&self, output: &'a str) -> HashSet<&'a str> {
        let mut needed = HashSet::from([output]);
        for node in self.graph.node.iter().rev() {
            if node.output.iter().any(|o| needed.contains(o.as_str())) {
                needed.extend(node.input.iter().map(String::as_str));
            }
        }
        needed
    }
}
