//! A network as quantities: linear ones, sums of kernels over others, what polynomials make of them, and sums of that in slots.

use super::kernel::{Kernel, Reading, image};
use super::windows;
use crate::activation::Activation;
use crate::normal::purpose;
use crate::{Error, Target};
use approx::Polynomial;
use nn::{Op, PolyGraph, PolyNode};
use runtime::Purpose;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
        /// Largest magnitude of its values in a plan: less than 1 where several are summed.
        most: f64,
    },
    /// A sum of activations, value by value, in slots: those beyond its own shape are zeros on the way down.
    Sum { of: Vec<Id> },
    /// A product of two activations, or of such products, value by value, in slots.
    Product { of: [Id; 2] },
}

impl Kind {
    /// How its polynomial is carried out, if it has one.
    pub(crate) fn activation(&self) -> Option<Activation> {
        match self {
            Self::Activation {
                polynomial: Some(p),
                most,
                ..
            } => Some(Activation::absorbed(p, *most)),
            _ => None,
        }
    }
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
    /// The quantity that it is, where it is one as it stands.
    whole: Option<Id>,
}

/// What of a network's values is left open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Of [`shared`] nodes, and [`narrow`] ones, those that become values of their own.
    pub(crate) apart: BTreeSet<usize>,
    /// Of [`means`], those whose windows are summed in slots.
    pub(crate) gathered: BTreeSet<usize>,
}

/// The numbers of means of an activation's values, which nobody else uses, that can be summed in slots.
pub(crate) fn means(graph: &PolyGraph) -> BTreeSet<usize> {
    let consumers = graph.consumers();
    let alone = |n: &&PolyNode| {
        let source = n.inputs().first().map(|i| graph.node(*i));
        let alone = |s: &PolyNode| match s.op() {
            Op::Elementwise(p) => p.degree() > 1 && consumers[s.id().index()].len() == 1,
            _ => false,
        };
        source.filter(|s| alone(s)).is_some_and(|s| {
            let (from, to) = (image(s.shape()), image(n.shape()));
            windows::of(n, from, to).is_some()
        })
    };
    let nodes = graph.nodes().iter().filter(alone);
    nodes.map(|n| n.id().index()).collect()
}

/// Of polynomials of single values that go to every place of a picture and nowhere else, as squeeze-and-excite has them, the number of the node that takes
/// them there: applied to what lies at every place already, they need no half bootstraps of their own.
fn gates(graph: &PolyGraph) -> BTreeMap<usize, usize> {
    let consumers = graph.consumers();
    let spread = |n: &PolyNode| {
        let mut at = match n.op() {
            Op::Elementwise(p) if p.degree() > 1 && n.id() != graph.output().id() => n,
            _ => return None,
        };
        loop {
            let [next] = consumers[at.id().index()][..] else {
                return None;
            };
            at = graph.node(next);
            let from = image(graph.shape(at.inputs()[0]));
            match at.op() {
                Op::Reshape(_) | Op::Flatten | Op::Identity if from[1..] == [1, 1] => {}
                Op::Rearrange(r) => {
                    let kernel = Kernel::rearranged(r, from, image(at.shape()))?;
                    return kernel
                        .spreads()
                        .then_some((n.id().index(), at.id().index()));
                }
                _ => return None,
            }
        }
    };
    graph.nodes().iter().filter_map(spread).collect()
}

impl Expression {
    /// Every `step`-th row and column, from this row and column on.
    fn every(&self, step: usize, first: [usize; 2]) -> Self {
        let [channels, height, width] = self.shape;
        let terms = self.terms.iter().map(|(id, k)| (*id, k.every(step, first)));
        let rows = (first[0]..height).step_by(step);
        let columns = (first[1]..width).step_by(step);
        let shape = [channels, rows.len(), columns.len()];
        let planes = self.bias.chunks_exact(height * width);
        let bias = planes.flat_map(|plane| {
            let (rows, columns) = (rows.clone(), columns.clone());
            rows.flat_map(move |y| columns.clone().map(move |x| plane[y * width + x]))
        });
        Self {
            terms: terms.collect(),
            bias: bias.collect(),
            shape,
            whole: None,
        }
    }
}

/// The least share of an activation's range that values are scaled to that are summed.
const LEAST_SUMMAND: f64 = 1.0 / 16.0;

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

/// The quantities of a network; the first is the input, the last the answer, a linear one.
pub(crate) fn quantities(
    graph: &PolyGraph,
    target: &Target,
    reading: Reading,
    choice: &Choice,
) -> Result<Vec<Quantity>, Error> {
    let mut b = Builder {
        graph,
        target,
        reading,
        gathered: &choice.gathered,
        gates: gates(graph),
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
        if heavy && choice.apart.contains(&node.id().index()) {
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
    gathered: &'a BTreeSet<usize>,
    /// [`gates`].
    gates: BTreeMap<usize, usize>,
    quantities: Vec<Quantity>,
}

impl<'a> Builder<'a> {
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
        let Expression {
            terms, bias, shape, ..
        } = value;
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
                    let sum = Arc::make_mut(&mut k.weights);
                    sum.iter_mut()
                        .zip(&*kernel.weights)
                        .for_each(|(a, b)| *a += b);
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
            whole: Some(id),
        }
    }
    /// Makes a value of its own of a sum: what several use, or a kernel looks at whose zeros are not the sum's.
    fn refreshed(&mut self, node: &PolyNode, value: Expression) -> Result<Expression, Error> {
        let (shape, bound) = (value.shape, self.bound(node)?);
        let argument = self.linear(node, value, bound)?;
        let kind = Kind::Activation {
            argument,
            polynomial: None,
            most: 1.0,
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
                whole: None,
            }),
            Op::Add => {
                let [x, y] = [operands[0], operands[1]];
                let terms = x.terms.iter().chain(&y.terms).cloned().collect();
                let bias = x.bias.iter().zip(&y.bias).map(|(a, b)| a + b).collect();
                let whole = None;
                Ok(Expression {
                    terms,
                    bias,
                    shape,
                    whole,
                })
            }
            Op::Mul if operands.iter().any(|o| o.terms.is_empty()) => {
                let (value, constant) = match operands[1].terms.is_empty() {
                    true => (operands[0], operands[1]),
                    false => (operands[1], operands[0]),
                };
                self.times(node, value, &constant.bias)
            }
            Op::Mul => self.product(node, [operands[0], operands[1]]),
            // where its values go to every place of a picture, it is applied there
            Op::Elementwise(_) if self.gates.contains_key(&node.id().index()) => {
                Ok(operands[0].clone())
            }
            Op::Elementwise(p) => self.polynomial(node, p, operands[0]),
            _ => {
                let from = node.inputs()[0];
                let before = operands[0];
                if let (Some(p), false) = (self.gathers(node), before.terms.is_empty()) {
                    return self.gathered(node, p, before);
                }
                let Some((kernel, offsets)) =
                    Kernel::of(node, before.shape, self.graph.shape(from), self.reading)?
                else {
                    return Ok(before.clone());
                };
                let value = self.then(node, before, &kernel, &offsets)?;
                let gate = self.gates.iter().find(|g| *g.1 == node.id().index());
                match gate.map(|g| &self.graph.nodes()[*g.0]) {
                    Some(gate) => match gate.op() {
                        Op::Elementwise(p) => self.polynomial(gate, p, &value),
                        _ => Ok(value),
                    },
                    None => Ok(value),
                }
            }
        }
    }
    /// A product of two values, in slots.
    fn product(
        &mut self,
        node: &PolyNode,
        operands: [&Expression; 2],
    ) -> Result<Expression, Error> {
        let mut of = [0; 2];
        for ((id, value), input) in of.iter_mut().zip(operands).zip(node.inputs()) {
            let in_slots = |id: &Id| {
                let kind = &self.quantities[*id].kind;
                matches!(kind, Kind::Activation { .. } | Kind::Product { .. })
            };
            *id = match value.whole.filter(in_slots) {
                Some(whole) => whole,
                None => {
                    let own = self.refreshed(self.graph.node(*input), value.clone())?;
                    own.whole.unwrap_or_default()
                }
            };
        }
        let shape = image(node.shape());
        let [a, b] = of.map(|id| self.quantities[id].bound);
        let bound = self.bound(node).map_or(a * b, |own| own.min(a * b));
        let id = self.push(node, Kind::Product { of }, shape, bound);
        Ok(self.value(id))
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
            whole: None,
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
        let reads = |n: &PolyNode| n.inputs().first() == Some(&node.id());
        let mut means = self.gathered.iter().map(|v| &self.graph.nodes()[*v]);
        if means.any(reads) {
            // the mean applies it
            return Ok(value.clone());
        }
        let argument = self.argument(node, p, value.clone())?;
        let kind = Kind::Activation {
            argument,
            polynomial: Some(p.clone()),
            most: 1.0,
        };
        let id = self.push(node, kind, value.shape, p.sup_norm().max(1e-12));
        Ok(self.value(id))
    }
    /// What the polynomial of a node is applied to.
    fn argument(
        &mut self,
        node: &PolyNode,
        p: &Polynomial,
        value: Expression,
    ) -> Result<Id, Error> {
        let (lo, hi) = p.interval();
        let from = self.graph.node(node.inputs()[0]);
        self.linear(from, value, lo.abs().max(hi.abs()))
    }
    /// The polynomial of the values that a mean sums in slots, if it does.
    fn gathers(&self, node: &PolyNode) -> Option<&'a Polynomial> {
        let mean = self.gathered.contains(&node.id().index());
        let source = self.graph.node(*node.inputs().first()?);
        match source.op() {
            Op::Elementwise(p) if mean => Some(p),
            _ => None,
        }
    }
    /// A mean of an activation's values, from its argument: every so many rows and columns of it are values of their own, which lie at the same places.
    fn gathered(
        &mut self,
        node: &PolyNode,
        p: &Polynomial,
        before: &Expression,
    ) -> Result<Expression, Error> {
        let to = image(node.shape());
        let source = self.graph.node(node.inputs()[0]);
        let Some(mean) = windows::of(node, before.shape, to) else {
            return Err(crate::linear_op::unsupported(
                node,
                "its windows are not known".into(),
                "compile it with linear layers in slots",
            ));
        };
        let (step, most) = (mean.step, mean.factor.max(LEAST_SUMMAND));
        let phases = mean.phases();
        let mut arguments = Vec::with_capacity(phases.len());
        for first in &phases {
            let value = before.every(step, *first);
            let shape = value.shape;
            arguments.push((self.argument(source, p, value)?, shape));
        }
        let largest = p.sup_norm().max(1e-12);
        let values = arguments.into_iter().map(|(argument, shape)| {
            let kind = Kind::Activation {
                argument,
                polynomial: Some(p.clone()),
                most,
            };
            self.push(source, kind, shape, largest)
        });
        let values: Vec<Id> = values.collect();
        let mut terms = Vec::new();
        for sum in mean.sums() {
            let from = [to[0], sum.size[0], sum.size[1]];
            let of: Vec<Id> = (phases.iter().zip(&values))
                .filter(|(phase, _)| sum.phases.contains(phase))
                .map(|(_, id)| *id)
                .collect();
            let bound = largest * of.len() as f64;
            let id = self.push(node, Kind::Sum { of }, from, bound);
            terms.push((id, Kernel::moved(from, to, sum.before, mean.factor)));
        }
        Ok(Expression {
            terms,
            bias: match self.reading {
                Reading::Weights => vec![0.0; to.iter().product()],
                Reading::Shapes => Vec::new(),
            },
            shape: to,
            whole: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::op::AvgPool;
    use nn::{Conv2d, Network, Parameter, Range, Shape, Tensor};

    /// Uniform in [−1, 1), by SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
        fn uniform(&mut self) -> f64 {
            (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }
        fn pick(&mut self, least: usize, most: usize) -> usize {
            least + self.next() as usize % (most - least + 1)
        }
        fn parameter(&mut self, shape: &[usize]) -> Parameter {
            let values = (0..shape.iter().product()).map(|_| self.uniform() as f32);
            Parameter::new("random", shape, values.collect::<Vec<f32>>()).expect("finite")
        }
        fn convolution(&mut self, channels: [usize; 2], kernel: usize, stride: usize) -> Conv2d {
            let weight = self.parameter(&[channels[1], channels[0], kernel, kernel]);
            Conv2d {
                stride: (stride, stride),
                padding: nn::Padding::same(kernel / 2),
                bias: Some(self.parameter(&[channels[1]])),
                ..Conv2d::new(weight)
            }
        }
    }

    /// A convolution, a polynomial, a mean of these windows, and a convolution beside a shortcut.
    fn stem(random: &mut Random, size: [usize; 2], pool: AvgPool) -> PolyGraph {
        let mut b = Network::builder();
        let x = b.input("input", Shape::image(2, size[0], size[1]));
        let (kernel, stride) = (2 * random.pick(0, 2) + 1, random.pick(1, 2));
        let conv = Op::Conv2d(random.convolution([2, 3], kernel, stride));
        let x = b.add("conv", conv, &[x.expect("valid")]).expect("valid");
        let p = Polynomial::from_monomial(&[0.2, 0.5, 0.3], (-9.0, 9.0)).expect("valid");
        let x = b.add("act", Op::Elementwise(p), &[x]).expect("valid");
        let x = b.add("mean", Op::AvgPool(pool), &[x]).expect("valid");
        let conv = Op::Conv2d(random.convolution([3, 3], 3, 1));
        let y = b.add("block", conv, &[x]).expect("valid");
        let x = b.add("add", Op::Add, &[x, y]).expect("valid");
        let graph = PolyGraph::from(b.finish(x).expect("valid"));
        let range = Range {
            min: -9.0,
            max: 9.0,
        };
        let ranges = vec![range; graph.nodes().len()];
        graph.with_ranges(ranges).expect("one each")
    }

    /// What quantities say, in double precision.
    fn evaluate(quantities: &[Quantity], x: &Tensor) -> Vec<f64> {
        let mut values: Vec<Vec<f64>> = Vec::new();
        for q in quantities {
            let [channels, height, width] = q.shape;
            let value = match &q.kind {
                Kind::Input => x.values().to_vec(),
                Kind::Linear { terms, bias } => {
                    let mut sum = bias.clone();
                    for (id, kernel) in terms {
                        let term = kernel.apply(&values[*id]);
                        assert_eq!(sum.len(), term.len(), "{}", q.layer);
                        sum.iter_mut().zip(term).for_each(|(s, t)| *s += t);
                    }
                    sum
                }
                Kind::Activation {
                    argument,
                    polynomial,
                    ..
                } => {
                    let p = |x: f64| polynomial.as_ref().map_or(x, |p| p.eval(x));
                    values[*argument].iter().map(|x| p(*x)).collect()
                }
                Kind::Product { of } => {
                    let [a, b] = of.map(|id| &values[id]);
                    a.iter().zip(b).map(|(a, b)| a * b).collect()
                }
                Kind::Sum { of } => {
                    let mut sum = vec![0.0; channels * height * width];
                    for id in of {
                        let [_, h, w] = quantities[*id].shape;
                        for (i, s) in sum.iter_mut().enumerate() {
                            let (c, y, x) = (i / (height * width), i / width % height, i % width);
                            *s += values[*id][(c * h + y) * w + x];
                        }
                    }
                    sum
                }
            };
            values.push(value);
        }
        values.pop().expect("an answer")
    }

    /// Windows of any size, steps and zeros around pictures of any size, at every border.
    #[test]
    fn means_summed_in_slots_are_the_oracle_s() {
        let (mut random, mut known) = (Random(3), 0);
        for _ in 0..400 {
            let size = [0; 2].map(|_| random.pick(9, 16));
            let kernel = (random.pick(1, 4), random.pick(1, 4));
            let step = random.pick(2, 4);
            let counts = random.pick(0, 3) > 0;
            let mut pad = |k: usize| if counts { random.pick(0, k - 1) } else { 0 };
            let padding = [pad(kernel.0), pad(kernel.0), pad(kernel.1), pad(kernel.1)];
            let pool = AvgPool {
                kernel,
                stride: (step, step),
                padding: padding.into(),
                count_include_pad: counts,
            };
            let name = format!("{pool:?} of {size:?}");
            let graph = stem(&mut random, size, pool);
            let gathered = means(&graph);
            if gathered.is_empty() {
                continue;
            }
            known += 1;
            let apart = BTreeSet::new();
            let choice = Choice { apart, gathered };
            let all = quantities(&graph, &Target::default(), Reading::Weights, &choice);
            let shape = graph.input().shape();
            let values = (0..shape.len()).map(|_| random.uniform()).collect();
            let x = Tensor::new(shape, values).expect("fits");
            let want = graph.evaluate(&x).expect("runs").output;
            let had = evaluate(&all.expect("known"), &x);
            assert_eq!(had.len(), want.values().len(), "{name}");
            for (a, b) in had.iter().zip(want.values()) {
                assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{name}: {a}, {b}");
            }
        }
        assert!(known > 100, "{known}");
    }
}
