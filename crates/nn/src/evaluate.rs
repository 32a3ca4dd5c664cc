//! The oracle: what a network computes, in f64 and without any guard.

use crate::Result;
use crate::approximations::{Approximations, divisors};
use crate::error::Error;
use crate::graph::{Network, Node, NodeId};
use crate::kernels;
use crate::op::{ElementFunction, Op};
use crate::sequence;
use crate::tensor::{Shape, Tensor};
use std::collections::BTreeMap;

/// Values that a polynomial was given outside of its interval, for one input picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Outside {
    /// The polynomial's node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The value that lies farthest outside.
    pub value: f64,
    /// The polynomial's interval.
    pub interval: (f64, f64),
    /// How many values lie outside.
    pub count: usize,
}

impl std::fmt::Display for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            value,
            interval,
            count,
            ..
        } = self;
        write!(
            f,
            "node {name}: {count} values outside [{:.4}, {:.4}], the farthest is {value:.4}",
            interval.0, interval.1
        )
    }
}

/// A network's output for one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The output node's value.
    pub output: Tensor,
    /// Nodes whose polynomial left its interval, in topological order; empty when all stayed inside.
    pub outside: Vec<Outside>,
}

/// What inputs are given.
type Given<'t> = BTreeMap<NodeId, &'t Tensor>;

/// Every node's value for one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// One per node, in the order of [`Network::nodes`].
    pub values: Vec<Tensor>,
    /// Nodes whose polynomial left its interval, in topological order.
    pub outside: Vec<Outside>,
}

impl<N: ElementFunction> Network<N> {
    /// The output for one input, in f64. Polynomials outside of their intervals are evaluated as they are and reported.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn evaluate(&self, input: &Tensor) -> Result<Evaluation> {
        self.evaluate_with(&Approximations::default(), input)
    }

    /// As [`Network::evaluate`], with approximations in place of functions.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn evaluate_with(
        &self,
        approximations: &Approximations,
        input: &Tensor,
    ) -> Result<Evaluation> {
        let output = self.output().id().index();
        let last_use = self.last_uses();
        let given = self.only(input)?;
        let (mut values, outside) = self.run(approximations, given, |values, now| {
            self.forget(&last_use, values, now);
            Ok(())
        })?;
        let output = values[output]
            .take()
            .unwrap_or_else(|| Tensor::zeros(self.output().shape()));
        Ok(Evaluation { output, outside })
    }

    /// Every node's value for one input.
    ///
    /// # Errors
    /// [`Error::InputShape`].
    pub fn evaluate_all(&self, input: &Tensor) -> Result<Trace> {
        let none = Approximations::default();
        let (values, outside) = self.run(&none, self.only(input)?, |_, _| Ok(()))?;
        Ok(Trace {
            values: values.into_iter().flatten().collect(),
            outside,
        })
    }

    /// Shows every node with its value and those of its inputs, in topological order, and lets go of what nothing takes any more: a network of
    /// attention written in primitives has values that together take many times the memory of those alive at once. Gives what left an interval.
    ///
    /// # Errors
    /// [`Error::InputShape`], and what `see` finds.
    pub(crate) fn visit(
        &self,
        approximations: &Approximations,
        input: &Tensor,
        mut see: impl FnMut(&Node<N>, &Tensor, &[&Tensor]) -> Result<()>,
    ) -> Result<Vec<Outside>> {
        let last_use = self.last_uses();
        let given = self.only(input)?;
        let (_, outside) = self.run(approximations, given, |values, now| {
            let node = &self.nodes()[now];
            let inputs = node.inputs().iter();
            let inputs: Vec<&Tensor> = inputs.filter_map(|i| values[i.index()].as_ref()).collect();
            if let Some(value) = &values[now] {
                see(node, value, &inputs)?;
            }
            self.forget(&last_use, values, now);
            Ok(())
        })?;
        Ok(outside)
    }

    /// Drops the values that node number `now` is the last to take, but the output's.
    fn forget(&self, last_use: &[usize], values: &mut [Option<Tensor>], now: usize) {
        let output = self.output().id().index();
        for i in self.nodes()[now].inputs() {
            if last_use[i.index()] == now && i.index() != output {
                values[i.index()] = None;
            }
        }
    }

    /// Every node's value in one step of a sequence: `inputs` as [`Network::inputs`] has them, `kept` what the step before left of
    /// [`Network::kept`], or zeros.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::InputShape`].
    pub fn evaluate_step(
        &self,
        approximations: &Approximations,
        inputs: &[Tensor],
        kept: &[Tensor],
    ) -> Result<Trace> {
        let nodes: Vec<_> = (self.inputs().map(Node::id))
            .chain(self.kept().iter().map(|k| k.before))
            .collect();
        let (needed, had) = (nodes.len(), inputs.len() + kept.len());
        if needed != had || kept.len() != self.kept().len() {
            let what = "inputs and kept values";
            return Err(Error::Count { what, needed, had });
        }
        let given = nodes.into_iter().zip(inputs.iter().chain(kept));
        let given = given.map(|(id, x)| (id, self.fitting(id, x)));
        let given = given.map(|(id, x)| Ok((id, x?)));
        let given = given.collect::<Result<Given<'_>>>()?;
        let (values, outside) = self.run(approximations, given, |_, _| Ok(()))?;
        Ok(Trace {
            values: values.into_iter().flatten().collect(),
            outside,
        })
    }

    /// What is kept before anything was.
    #[must_use]
    pub fn nothing_kept(&self) -> Vec<Tensor> {
        let shapes = self.kept().iter().map(|k| self.node(k.before).shape());
        shapes.map(Tensor::zeros).collect()
    }

    /// What a step's values leave to be kept.
    #[must_use]
    pub fn left(&self, trace: &Trace) -> Vec<Tensor> {
        let after = self.kept().iter().map(|k| k.after.index());
        after.map(|i| trace.values[i].clone()).collect()
    }

    fn fitting<'t>(&self, id: NodeId, x: &'t Tensor) -> Result<&'t Tensor> {
        let (needed, had) = (self.node(id).shape(), x.shape());
        match needed == had {
            true => Ok(x),
            false => Err(Error::InputShape { needed, had }),
        }
    }

    /// The values of a network's only input.
    fn only<'t>(&self, input: &'t Tensor) -> Result<Given<'t>> {
        self.require_one_input()?;
        let id = self.input().id();
        Ok([(id, self.fitting(id, input)?)].into())
    }

    fn run(
        &self,
        approximations: &Approximations,
        given: Given<'_>,
        mut after: impl FnMut(&mut [Option<Tensor>], usize) -> Result<()>,
    ) -> Result<(Vec<Option<Tensor>>, Vec<Outside>)> {
        let nothing = Tensor::zeros(self.input().shape());
        let mut values: Vec<Option<Tensor>> = vec![None; self.nodes().len()];
        let mut outside = Vec::new();
        for (i, node) in self.nodes().iter().enumerate() {
            let inputs: Vec<&Tensor> = node
                .inputs()
                .iter()
                .filter_map(|i| values[i.index()].as_ref())
                .collect();
            debug_assert_eq!(
                inputs.len(),
                node.inputs().len(),
                "a value is dropped only after its last use"
            );
            let own = given.get(&node.id()).copied().unwrap_or(&nothing);
            let value = apply(node, approximations, own, &inputs);
            outside.extend(leaves_interval(node, &inputs, approximations));
            values[i] = Some(value);
            after(&mut values, i)?;
        }
        Ok((values, outside))
    }
}

/// The node's function, if any of its inputs lies outside of the interval of what stands for it.
fn leaves_interval<N: ElementFunction>(
    node: &Node<N>,
    inputs: &[&Tensor],
    approximations: &Approximations,
) -> Option<Outside> {
    let Op::Elementwise(n) = node.op() else {
        let interval = approximations.program(node.id())?.interval();
        let values = divisors(node, inputs, approximations.first)?;
        return outside(node, interval, values.into_iter());
    };
    let interval = approximations
        .polynomial(node.id())
        .or_else(|| n.polynomial())?
        .interval();
    let x = inputs.first()?;
    let encrypted = |&(i, _): &(usize, &f64)| approximations.covers(x.shape(), i);
    let values = x.values().iter().enumerate().filter(encrypted);
    outside(node, interval, values.map(|(_, &v)| v))
}

/// The values outside of the interval, if there are any (NaN counts as outside).
pub(crate) fn outside<N>(
    node: &Node<N>,
    interval: (f64, f64),
    values: impl Iterator<Item = f64>,
) -> Option<Outside> {
    let (mut count, mut worst, mut by) = (0, 0.0, -1.0);
    for value in values {
        let distance = (interval.0 - value).max(value - interval.1);
        if distance > 0.0 || value.is_nan() {
            count += 1;
            if distance > by || value.is_nan() {
                (worst, by) = (value, distance);
            }
        }
    }
    (count > 0).then(|| Outside {
        node: node.id(),
        name: node.name().into(),
        value: worst,
        interval,
        count,
    })
}

/// One operator on checked shapes. `input` is what an input is given.
pub(crate) fn apply<N: ElementFunction>(
    node: &Node<N>,
    approximations: &Approximations,
    input: &Tensor,
    inputs: &[&Tensor],
) -> Tensor {
    if let Some(values) = approximations.apply(node, inputs) {
        return tensor(node, &values);
    }
    let x = inputs.first().copied().unwrap_or(input);
    let from = x.shape();
    let to = node.shape();
    let v = x.values();
    let both = |f: fn(f64, f64) -> f64| {
        let pairs = v.iter().zip(inputs[1].values());
        pairs.map(|(&a, &b)| f(a, b)).collect()
    };
    let values: Vec<f64> = match node.op() {
        Op::Input(_) | Op::Identity | Op::Flatten | Op::Reshape(_) => v.to_vec(),
        Op::Constant(_, p) => p.to_f64(),
        Op::Conv2d(c) => kernels::conv2d(c, v, axes(from), axes(to)),
        Op::Linear(l) => kernels::linear(l, v),
        Op::BatchNorm(b) => kernels::batch_norm(b, v),
        Op::Elementwise(f) => match approximations.polynomial(node.id()) {
            None => v.iter().map(|&x| f.value(x)).collect(),
            Some(p) => {
                let encrypted = |i| approximations.covers(from, i);
                let value = |(i, &x)| if encrypted(i) { p.eval(x) } else { f.value(x) };
                v.iter().enumerate().map(value).collect()
            }
        },
        Op::Add => both(|a, b| a + b),
        Op::Mul => both(|a, b| a * b),
        Op::AvgPool(p) => kernels::avg_pool(p, v, axes(from), axes(to)),
        Op::MaxPool(p) => kernels::max_pool(p, v, axes(from), axes(to)),
        Op::GlobalAvgPool => {
            let area = v.len() / axes(from).0;
            v.chunks(area)
                .map(|c| c.iter().sum::<f64>() / area as f64)
                .collect()
        }
        Op::Norm(n) => n.apply(v, v.len() / axes(from).0),
        Op::Rotary(r) => sequence::rotary(r, v, axes(from).2),
        Op::Attention(a) => {
            let (k, v) = (inputs[1].values(), inputs[2].values());
            let marks = inputs.get(3).map(|m| m.values());
            sequence::attention(a, [x.values(), k, v], marks, a.keys(inputs[1].shape()))
        }
        Op::Rearrange(r) => {
            let mut y = Vec::with_capacity(to.len());
            r.each(|from| y.push(from.map_or(0.0, |i| v[i])));
            y
        }
        Op::Softmax(s) => kernels::softmax(*s, v, axes(from).0),
        Op::Unfold(u) => sequence::unfold(*u, v, axes(from).2),
        Op::Repeat(r) => sequence::repeat(*r, v, axes(from).2),
        Op::Pad(p) => kernels::pad(*p, v, axes(from), axes(to)),
        Op::Slice(s) => kernels::slice(s, v, from),
    };
    tensor(node, &values)
}

fn tensor<N>(node: &Node<N>, values: &[f64]) -> Tensor {
    debug_assert_eq!(
        values.len(),
        node.shape().len(),
        "shape inference and oracle agree at node {}",
        node.name()
    );
    let mut out = Tensor::zeros(node.shape());
    out.values_mut().copy_from_slice(values);
    out
}

/// `(channels, height, width)`; a vector of n is `(n, 1, 1)`.
fn axes(shape: Shape) -> (usize, usize, usize) {
    shape.as_image().unwrap_or((shape.len(), 1, 1))
}
