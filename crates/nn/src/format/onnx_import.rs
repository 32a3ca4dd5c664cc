//! What is known of a model while it is imported: constants, nodes so far, and patterns of operators that stand for one.

use super::element::Element;
use super::onnx_constant::Constant;
use super::onnx_proto::{GraphProto, NodeProto, TensorProto};
use crate::Result;
use crate::error::Error;
use crate::graph::{Network, NetworkBuilder, NodeId};
use crate::op::Nonlinearity;
use approx::Activation;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Values that uses of constants may make beyond the file's own bytes: scalars added to pictures, weights that layers share.
const MOST_COPIES: usize = 1 << 24;

/// Whether it is ONNX' own domain, which has two names.
pub(super) fn standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Node(NodeId),
    Constant(Constant),
}

/// A model being imported.
pub(super) struct Import<'a> {
    graph: &'a GraphProto,
    pub(super) opset: i64,
    producers: HashMap<&'a str, &'a NodeProto>,
    pub(super) initializers: HashMap<&'a str, &'a TensorProto>,
    pub(super) values: HashMap<&'a str, Value>,
    pub(super) network: NetworkBuilder<Nonlinearity>,
    /// For each name, the number from which on no node has it.
    pub(super) suffixes: HashMap<&'a str, usize>,
    copies_left: Cell<usize>,
}

/// What a node computes as far as import is concerned.
pub(super) enum Pattern<'a> {
    /// The activation of one value, whatever lies between.
    Activation(Activation, &'a str),
    /// The operator itself.
    Plain,
}

impl<'a> Import<'a> {
    /// Of this graph, in a file of so many bytes.
    pub(super) fn new(graph: &'a GraphProto, opset: i64, bytes: usize) -> Self {
        Self {
            graph,
            opset,
            producers: (graph.node.iter())
                .flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n)))
                .collect(),
            initializers: (graph.initializer.iter())
                .map(|t| (t.name.as_str(), t))
                .collect(),
            values: HashMap::new(),
            network: Network::builder(),
            suffixes: HashMap::new(),
            copies_left: Cell::new(bytes.saturating_add(MOST_COPIES)),
        }
    }

    /// Accounts for `count` values that are made of a constant, so that a small file can't ask for much memory.
    pub(super) fn charge(&self, count: usize) -> Result<()> {
        let left = self.copies_left.get().checked_sub(count);
        self.copies_left.set(left.ok_or_else(|| Error::malformed("ONNX", format!(
                "its constants, where they are used, have more values than its bytes and {MOST_COPIES} together"
            )))?);
        Ok(())
    }

    /// The node that computes a value, if it is this operator without any attributes (a Constant has some).
    fn producer(&self, value: &str, op: &str) -> Option<&'a NodeProto> {
        let node = *self.producers.get(value)?;
        let plain = node.attribute.is_empty() || op == "Constant";
        (node.op_type == op && standard(&node.domain) && plain).then_some(node)
    }

    /// The scalar that a value holds, from an initializer or a Constant node.
    fn scalar(&self, value: &str) -> Option<f64> {
        if let Some(Value::Constant(c)) = self.values.get(value) {
            return c.scalar();
        }
        // many nodes may ask for one constant: decode none that is no scalar
        let larger = |t: &TensorProto| t.dims.iter().any(|&d| d != 1);
        if let Some(t) = self.initializers.get(value) {
            return (!larger(t)).then(|| Constant::from_proto(t).ok()?.scalar())?;
        }
        let node = self.producer(value, "Constant")?;
        let a = node.attribute.first()?;
        if a.floats.len().max(a.ints.len()) > 1 || a.t.as_ref().is_some_and(larger) {
            return None;
        }
        constant_node(node).ok()?.scalar()
    }

    /// `x·Sigmoid(x)` and `x/2·(1 + Erf(x/√2))`, the factors in any order.
    pub(super) fn pattern(&self, node: &'a NodeProto) -> Pattern<'a> {
        if node.op_type != "Mul" || node.input.len() != 2 {
            return Pattern::Plain;
        }
        for (x, other) in [(0, 1), (1, 0)].map(|(a, b)| (&node.input[a], &node.input[b])) {
            let sigmoid = self.producer(other, "Sigmoid");
            if sigmoid.is_some_and(|s| s.input.first() == Some(x)) {
                return Pattern::Activation(Activation::Silu, x);
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
                    return Pattern::Activation(Activation::Gelu, x);
                }
            }
        }
        Pattern::Plain
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

    /// Names of the values that the output depends on, patterns counting as one operator.
    pub(super) fn needed(&self, output: &'a str) -> HashSet<&'a str> {
        let mut needed = HashSet::from([output]);
        for node in self.graph.node.iter().rev() {
            if node.output.iter().any(|o| needed.contains(o.as_str())) {
                match self.pattern(node) {
                    Pattern::Activation(_, x) => drop(needed.insert(x)),
                    Pattern::Plain => needed.extend(node.input.iter().map(String::as_str)),
                }
            }
        }
        needed
    }
}

/// The value of a Constant node.
pub(super) fn constant_node(node: &NodeProto) -> Result<Constant> {
    let detail = "only tensors and numbers are read";
    let bad = || Error::invalid(&node.name, "Constant", detail);
    let [a] = &node.attribute[..] else {
        return Err(bad());
    };
    match (a.name.as_str(), &a.t) {
        ("value", Some(t)) => Constant::from_proto(t),
        ("value_float", _) => Ok(Constant::of(Element::F32, f64::from(a.f))),
        ("value_int", _) => Ok(Constant::of(Element::I64, a.i as f64)),
        ("value_floats", _) => {
            let values = a.floats.iter().map(|&v| f64::from(v));
            Ok(Constant::list(Element::F32, values))
        }
        ("value_ints", _) => Ok(Constant::list(
            Element::I64,
            a.ints.iter().map(|&v| v as f64),
        )),
        _ => Err(bad()),
    }
}
