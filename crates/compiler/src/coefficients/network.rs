//! A network as quantities: linear ones, sums of kernels over others, and what polynomials make of them.

use super::kernel::{Kernel, Reading, image};
use crate::normal::purpose;
use crate::{Error, Target};
use approx::Polynomial;
use nn::{Op, PolyGraph, PolyNode};
use runtime::Purpose;
use std::collections::BTreeSet;

/// Number of a quantity; sources come before what is made of them.
pub(crate) type Id = usize;

/// How a quantity arises.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Encrypted by the client, in coefficients.
    Input,
    /// Σ kernel·source + bias, at level 0. Sources are inputs and activations.
    Linear {
        terms: Vec<(Id, Kernel)>,
        /// Of every value; none where the shape alone is read.
        bias: Vec<f64>,
    },
    /// A polynomial of each value of a linear quantity, refreshed; none where it is only refreshed.
    Activation {
        argument: Id,
        polynomial: Option<Polynomial>,
    },
}

/// One quantity.
#[derive(Clone, Debug)]
pub(crate) struct Quantity {
    /// The layer that reports show.
    pub(crate) layer: String,
    pub(crate) purpose: Purpose,
    pub(crate) kind: Kind,
    pub(crate) shape: [usize; 3],
    /// Largest magnitude expected.
    pub(crate) bound: f64,
}

/// A node's value before anything is decided.
#[derive(Clone, Default)]
struct Expression {
    terms: Vec<(Id, Kernel)>,
    bias: Vec<f64>,
    shape: [usize; 3],
}

/// The numbers of nodes that several use and that are no value of their own already.
pub(crate) fn shared(graph: &PolyGraph) -> BTreeSet<usize> {
    let consumers = graph.consumers();
    let several = |n: &&PolyNode| {
        let own = matches!(n.op(), Op::Input(_) | Op::Constant(..) | Op::Elementwise(_));
        !own && consumers[n.id().index()].len() > 1
    };
    let nodes = graph.nodes().iter().filter(several);
    nodes.map(|n| n.id().index()).collect()
}

/// The numbers of nodes with few channels, linear ones, that a layer of one place widens: as a value of its own each takes fewer half bootstraps than
/// what is made of it.
pub(crate) fn narrow(graph: &PolyGraph) -> BTreeSet<usize> {
    let consumers = graph.consumers();
    let narrow = |n: &&PolyNode| {
        let own = matches!(n.op(), Op::Input(_) | Op::Constant(..) | Op::Elementwise(_));
        let [consumer] = consumers[n.id().index()][..] else {
            return false;
        };
        let consumer = graph.node(consumer);
        let wide = match consumer.op() {
            Op::Conv2d(c) => c.kernel() == (1, 1) && c.stride == (1, 1),
            _ => false,
        };
        !own && wide && image(n.shape())[0] < image(consumer.shape())[0]
    };
    let nodes = graph.nodes().iter().filter(narrow);
    nodes.map(|n| n.id().index()).collect()
}

/// The quantities of a network; the first is the input, the last the answer, a linear one. Of nodes that several use those `apart` become values of
/// their own.
pub(crate) fn quantities(
    graph: &PolyGraph,
    target: &Target,
    reading: Reading,
    apart: &BTreeSet<usize>,
) -> Result<Vec<Quantity>, Error> {
    let mut b = Builder {
        graph,
        target,
        reading,
        quantities: Vec::new(),
    };
    let mut values: Vec<Expression> = Vec::new();
    // kernels of a convolution and of what comes behind it are not held together for the whole network: how often each is still read
    let mut readers = vec![0_usize; graph.nodes().len()];
    let read = graph.nodes().iter().flat_map(|n| n.inputs());
    read.for_each(|i| readers[i.index()] += 1);
    readers[graph.output().id().index()] += 1;
    for node in graph.nodes() {
        let operands: Vec<&Expression> =
            (node.inputs().iter()).map(|i| &values[i.index()]).collect();
        let mut value = b.node(node, &operands)?;
        let heavy = value.terms.len() > 1 || value.terms.iter().any(|t| !t.1.is_diagonal());
        if heavy && apart.contains(&node.id().index()) {
            value = b.refreshed(node, value)?;
        }
        values.push(value);
        for i in node.inputs() {
            readers[i.index()] -= 1;
            if readers[i.index()] == 0 {
                values[i.index()] = Expression::default();
            }
        }
    }
    let node = graph.output();
    let value = values.swap_remove(node.id().index());
    let bound = b.bound(node)?;
    b.linear(node, value, bound)?;
    if target.batch > 1 {
        (b.quantities.iter_mut()).for_each(|q| q.beside(target.batch));
    }
    Ok(b.quantities)
}

impl Quantity {
    /// The same for so many inputs, whose channels follow each other.
    fn beside(&mut self, inputs: usize) {
        self.shape[0] *= inputs;
        if let Kind::Linear { terms, bias } = &mut self.kind {
            terms.iter_mut().for_each(|t| t.1.beside(inputs));
            *bias = bias.repeat(inputs);
        }
    }
}

struct Builder<'a> {
    graph: &'a PolyGraph,
    target: &'a Target,
    reading: Reading,
    quantities: Vec<Quantity>,
}

impl Builder<'_> {
    fn bound(&self, node: &PolyNode) -> Result<f64, Error> {
        let range = self.graph.range(node.id());
        let range = range.ok_or_else(|| Error::Calibration {
            layer: node.name().into(),
        })?;
        Ok(range.magnitude().max(1e-6) * self.target.range_margin)
    }
    fn push(&mut self, node: &PolyNode, kind: Kind, shape: [usize; 3], bound: f64) -> Id {
        self.quantities.push(Quantity {
            layer: node.name().into(),
            purpose: purpose(node),
            kind,
            shape,
            bound,
        });
        self.quantities.len() - 1
    }
    fn linear(&mut self, node: &PolyNode, value: Expression, bound: f64) -> Result<Id, Error> {
        let Expression { terms, bias, shape } = value;
        if terms.is_empty() {
            return Err(crate::linear_op::unsupported(
                node,
                "its value is a constant".into(),
                "check the exported graph",
            ));
        }
        // kernels over one source are one where they look at the same places
        let mut sums: Vec<(Id, Kernel)> = Vec::new();
        for (id, kernel) in terms {
            let kernel = kernel.grown();
            let same = sums.iter_mut().find(|(v, k)| {
                let like = |k: &Kernel| (k.size, k.before, k.stride, k.groups, k.flat);
                *v == id && like(k) == like(&kernel)
            });
            match same {
                Some((_, k)) => {
                    (k.weights.iter_mut().zip(&kernel.weights)).for_each(|(a, b)| *a += b)
                }
                None => sums.push((id, kernel)),
            }
        }
        Ok(self.push(node, Kind::Linear { terms: sums, bias }, shape, bound))
    }
    fn value(&self, id: Id) -> Expression {
        let shape = self.quantities[id].shape;
        Expression {
            terms: vec![(id, Kernel::identity(shape))],
            bias: match self.reading {
                Reading::Weights => vec![0.0; shape.iter().product()],
                Reading::Shapes => Vec::new(),
            },
            shape,
        }
    }
    /// Makes a value of its own of a sum: what several use, or a kernel looks at whose zeros are not the sum's.
    fn refreshed(&mut self, node: &PolyNode, value: Expression) -> Result<Expression, Error> {
        let (shape, bound) = (value.shape, self.bound(node)?);
        let argument = self.linear(node, value, bound)?;
        let kind = Kind::Activation {
            argument,
            polynomial: None,
        };
        let id = self.push(node, kind, shape, bound);
        Ok(self.value(id))
    }

    fn node(&mut self, node: &PolyNode, operands: &[&Expression]) -> Result<Expression, Error> {
        let shape = image(node.shape());
        match node.op() {
            Op::Input(_) => {
                let bound = self.bound(node)?;
                let id = self.push(node, Kind::Input, shape, bound);
                Ok(self.value(id))
            }
            Op::Constant(_, p) => Ok(Expression {
                terms: Vec::new(),
                bias: p.to_f64(),
                shape,
            }),
            Op::Add => {
                let [x, y] = [operands[0], operands[1]];
                let terms = x.terms.iter().chain(&y.terms).cloned().collect();
                let bias = x.bias.iter().zip(&y.bias).map(|(a, b)| a + b).collect();
                Ok(Expression { terms, bias, shape })
            }
            Op::Mul if operands.iter().any(|o| o.terms.is_empty()) => {
                let (value, constant) = match operands[1].terms.is_empty() {
                    true => (operands[0], operands[1]),
                    false => (operands[1], operands[0]),
                };
                self.times(node, value, &constant.bias)
            }
            Op::Elementwise(p) => self.polynomial(node, p, operands[0]),
            _ => {
                let from = node.inputs()[0];
                let before = operands[0];
                let Some((kernel, offsets)) =
                    Kernel::of(node, before.shape, self.graph.shape(from), self.reading)?
                else {
                    return Ok(before.clone());
                };
                self.then(node, before, &kernel, &offsets)
            }
        }
    }
    /// A value times constants, one for each channel.
    fn times(
        &mut self,
        node: &PolyNode,
        value: &Expression,
        constants: &[f64],
    ) -> Result<Expression, Error> {
        if value.terms.is_empty() {
            let bias = value.bias.iter().zip(constants).map(|(a, b)| a * b);
            return Ok(Expression {
                bias: bias.collect(),
                ..value.clone()
            });
        }
        let [channels, height, width] = value.shape;
        let planes = constants.chunks(height * width);
        if planes.clone().any(|p| p.iter().any(|c| *c != p[0])) {
            return Err(crate::linear_op::unsupported(
                node,
                "its factors differ from place to place".into(),
                "multiply by one number for each channel",
            ));
        }
        let factors = planes.map(|p| p[0]).collect();
        let kernel = Kernel::diagonal(value.shape, factors);
        self.then(node, value, &kernel, &vec![0.0; channels])
    }
    fn then(
        &mut self,
        node: &PolyNode,
        before: &Expression,
        kernel: &Kernel,
        offsets: &[f64],
    ) -> Result<Expression, Error> {
        let composed: Option<Vec<(Id, Kernel)>> = (before.terms.iter())
            .map(|(id, k)| Some((*id, k.then(kernel)?)))
            .collect();
        let Some(terms) = composed else {
            let from = self.graph.node(node.inputs()[0]);
            let own = self.refreshed(from, before.clone())?;
            return self.then(node, &own, kernel, offsets);
        };
        let places = kernel.to[1] * kernel.to[2];
        let mut bias = match self.reading {
            // nobody knows what it becomes
            Reading::Shapes => Vec::new(),
            _ if before.bias.iter().all(|b| *b == 0.0) => vec![0.0; kernel.to[0] * places],
            Reading::Weights => kernel.apply(&before.bias),
        };
        for (b, offset) in bias.chunks_mut(places).zip(offsets) {
            b.iter_mut().for_each(|b| *b += offset);
        }
        Ok(Expression {
            terms,
            bias,
            shape: kernel.to,
        })
    }
    fn polynomial(
        &mut self,
        node: &PolyNode,
        p: &Polynomial,
        value: &Expression,
    ) -> Result<Expression, Error> {
        if value.terms.is_empty() {
            let bias = value.bias.iter().map(|&x| p.eval(x)).collect();
            return Ok(Expression {
                bias,
                ..value.clone()
            });
        }
        if p.degree() < 2 {
            let m = p.to_monomial();
            let (offset, factor) = (m[0], m.get(1).copied().unwrap_or(0.0));
            let channels = value.shape[0];
            let kernel = Kernel::diagonal(value.shape, vec![factor; channels]);
            return self.then(node, value, &kernel, &vec![offset; channels]);
        }
        let (lo, hi) = p.interval();
        let from = self.graph.node(node.inputs()[0]);
        let argument = self.linear(from, value.clone(), lo.abs().max(hi.abs()))?;
        let kind = Kind::Activation {
            argument,
            polynomial: Some(p.clone()),
        };
        let id = self.push(node, kind, value.shape, p.sup_norm().max(1e-12));
        Ok(self.value(id))
    }
}
