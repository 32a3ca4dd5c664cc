//! Graph and approximations as primitives, node by node.

use crate::Result;
use crate::approximations::Approximations;
use crate::attention::Order;
use crate::error::Error;
use crate::evaluate::Trace;
use crate::graph::{Graph, Kept, Network, NetworkBuilder, Node, NodeId};
use crate::op::{Conv2d, Nonlinearity, Op};
use crate::poly_graph::PolyGraph;
use crate::purpose::Purpose;
use crate::tensor::{Parameter, Shape, Tensor};
use approx::{Polynomial, Program};

/// Graph and approximations as a network of linear maps, products and polynomials, without ranges: what [`Network::evaluate_with`] computes, on the
/// columns from [`Approximations::first`] on. `begin` is the embedded first token where that is 1.
///
/// # Errors
/// [`Error::NotPolynomial`], [`Error::NotLowered`] for a node that needs a substitute and has none, [`Error::Maximum`], [`Error::Invalid`] for
/// softmax and for what mixes positions beside a public first token.
pub fn expand(
    graph: &Graph,
    approximations: &Approximations,
    begin: Option<&[f64]>,
) -> Result<PolyGraph> {
    let mut e = Expansion {
        network: Network::builder(),
        values: Vec::new(),
        approximations,
        width: graph.input().shape().columns(),
        public: public(graph, approximations, begin)?,
    };
    for node in graph.nodes() {
        let value = e.expand(node)?;
        e.values.push(value);
    }
    let now = |id: NodeId| e.values[id.index()];
    let kept = graph.kept().iter().map(|k| Kept {
        before: now(k.before),
        after: now(k.after),
    });
    let kept: Vec<Kept> = kept.collect();
    let output = now(graph.output().id());
    if graph.require_one_input().is_err() {
        return Ok(e.network.finish_step(output, &kept)?.into());
    }
    Ok(e.network.finish(output)?.into())
}

/// What the network computes for the first token alone, if that is public.
fn public(
    graph: &Graph,
    approximations: &Approximations,
    begin: Option<&[f64]>,
) -> Result<Option<Trace>> {
    let input = graph.input();
    let refuse = |detail: String| Error::invalid(input.name(), input.op().name(), detail);
    let Some(begin) = begin else {
        return match approximations.first {
            0 => Ok(None),
            _ => Err(refuse("its public first token is not given".into())),
        };
    };
    let mut x = Tensor::zeros(input.shape());
    let width = x.shape().columns();
    if width < 2 || x.shape().dims()[1..] != [1, width] || x.shape().dims()[0] != begin.len() {
        return Err(refuse(format!(
            "a public first token of {} channels and at least one other don't fit {}",
            begin.len(),
            x.shape()
        )));
    }
    if approximations.first != 1 {
        return Err(refuse(
            "its approximations were not chosen for a public first token".into(),
        ));
    }
    for (row, &v) in x.values_mut().chunks_mut(width).zip(begin) {
        row[0] = v;
    }
    graph.evaluate_all(&x).map(Some)
}

/// Key and value of the public first token, one number a channel.
pub(super) struct First {
    pub(super) key: Vec<f64>,
    pub(super) value: Vec<f64>,
}

/// A polynomial network under construction.
pub(super) struct Expansion<'a> {
    network: NetworkBuilder<Polynomial>,
    /// By number of the graph's nodes.
    values: Vec<NodeId>,
    approximations: &'a Approximations,
    /// Of the graph's input, the public column included.
    width: usize,
    public: Option<Trace>,
}

impl Expansion<'_> {
    fn expand(&mut self, node: &Node<Nonlinearity>) -> Result<NodeId> {
        self.purpose(node.purpose());
        let name = node.name();
        let inputs: Vec<NodeId> = node
            .inputs()
            .iter()
            .map(|i| self.values[i.index()])
            .collect();
        let op = match &self.public {
            Some(_) => self.without_first(node)?,
            None => node.op().clone(),
        };
        match op {
            Op::Norm(n) => {
                let program = self.program(node)?.clone();
                self.norm(name, &n, &program, inputs[0])
            }
            Op::Attention(a) => {
                let program = self.program(node).ok().cloned();
                let first = self.public.as_ref().map(|trace| {
                    let column = |i: usize| {
                        let value = &trace.values[node.inputs()[i].index()];
                        let first = value.values().iter().step_by(value.shape().columns());
                        first.copied().collect()
                    };
                    First {
                        key: column(1),
                        value: column(2),
                    }
                });
                self.attention(name, &a, program.as_ref(), &inputs, first.as_ref())
            }
            op => {
                let substitute = self.approximations.polynomial(node.id()).cloned();
                let op = op.try_map(|f| match (substitute, f) {
                    (Some(p), _) | (None, Nonlinearity::Polynomial(p)) => Ok(p),
                    (None, Nonlinearity::Activation(a)) => Err(Error::not_polynomial(name, a)),
                })?;
                self.network.add(name, op, &inputs)
            }
        }
    }

    fn program(&self, node: &Node<Nonlinearity>) -> Result<&Program> {
        let program = self.approximations.program(node.id());
        program.ok_or_else(|| Error::not_lowered(node.name(), node.op().name()))
    }

    /// The operator on the columns after the first, if it treats every column alike.
    fn without_first(&self, node: &Node<Nonlinearity>) -> Result<Op<Nonlinearity>> {
        let mut op = node.op().clone();
        let less = |shape: Shape| {
            let image = shape.as_image().filter(|i| i.2 == self.width);
            image.map(|(channels, height, width)| Shape::image(channels, height, width - 1))
        };
        let flat = |left: usize, right: usize| left == 0 && right == 0;
        let alike = match &mut op {
            Op::Input(shape) => less(*shape).map(|s| *shape = s).is_some(),
            Op::Constant(shape, p) => match less(*shape) {
                None => false,
                Some(shorter) => {
                    let rows = p.values().chunks(self.width);
                    let values: Vec<f32> = rows.flat_map(|row| row[1..].to_vec()).collect();
                    *p = Parameter::new(node.name(), shorter.dims(), values)?;
                    *shape = shorter;
                    true
                }
            },
            Op::Conv2d(c) => {
                c.kernel().1 == 1 && c.stride.1 == 1 && flat(c.padding.left, c.padding.right)
            }
            Op::AvgPool(p) => {
                p.kernel.1 == 1 && p.stride.1 == 1 && flat(p.padding.left, p.padding.right)
            }
            Op::Pad(p) => flat(p.spatial.left, p.spatial.right),
            Op::Slice(s) => match s.axes.get_mut(2) {
                Some(a) if (a.begin, a.end, a.step) == (0, self.width, 1) => {
                    a.end -= 1;
                    true
                }
                _ => false,
            },
            Op::Rotary(r) => {
                r.first += 1;
                true
            }
            Op::Attention(a) => a.mask.order == Order::Causal,
            Op::BatchNorm(_)
            | Op::Elementwise(_)
            | Op::Add
            | Op::Mul
            | Op::Norm(_)
            | Op::Repeat(_)
            | Op::Identity => true,
            _ => false,
        };
        if alike && node.shape().columns() == self.width {
            return Ok(op);
        }
        Err(self.refuse(
            node.name(),
            "it mixes positions, so the first token can't be public; lower the network with the first token encrypted",
        ))
    }

    pub(super) fn refuse(&self, name: &str, detail: &str) -> Error {
        Error::invalid(name, "lowering", detail)
    }

    /// What the nodes made from here on are for.
    pub(super) fn purpose(&mut self, purpose: Purpose) {
        self.network.set_purpose(Some(purpose));
    }

    pub(super) fn shape(&self, node: NodeId) -> Shape {
        self.network.shape(node)
    }

    pub(super) fn node(
        &mut self,
        name: &str,
        op: Op<Polynomial>,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        self.network.add(name, op, inputs)
    }

    pub(super) fn add(&mut self, name: &str, x: NodeId, y: NodeId) -> Result<NodeId> {
        self.node(name, Op::Add, &[x, y])
    }

    pub(super) fn product(&mut self, name: &str, x: NodeId, y: NodeId) -> Result<NodeId> {
        self.node(name, Op::Mul, &[x, y])
    }

    pub(super) fn polynomial(&mut self, name: &str, x: NodeId, p: Polynomial) -> Result<NodeId> {
        self.node(name, Op::Elementwise(p), &[x])
    }

    /// factor·x + shift; x itself where that is the same.
    pub(super) fn affine(
        &mut self,
        name: &str,
        x: NodeId,
        (factor, shift): (f64, f64),
    ) -> Result<NodeId> {
        // A power of two, so that its Chebyshev coefficients are exact.
        const WIDE: f64 = (1u64 << 40) as f64;
        if factor == 1.0 && shift == 0.0 {
            return Ok(x);
        }
        self.affine_on(name, x, (factor, shift), (-WIDE, WIDE))
    }

    /// factor·x + shift for x in this interval.
    pub(super) fn affine_on(
        &mut self,
        name: &str,
        x: NodeId,
        (factor, shift): (f64, f64),
        interval: (f64, f64),
    ) -> Result<NodeId> {
        let polynomial = Polynomial::from_monomial(&[shift, factor], interval);
        self.polynomial(name, x, polynomial.map_err(Error::approximation(name))?)
    }

    pub(super) fn constant(
        &mut self,
        name: &str,
        shape: Shape,
        values: Vec<f32>,
    ) -> Result<NodeId> {
        let values = Parameter::new(name, shape.dims(), values)?;
        self.node(name, Op::Constant(shape, values), &[])
    }

    /// Each output channel the sum of its group's input channels.
    pub(super) fn ones(
        &mut self,
        name: &str,
        x: NodeId,
        (from, to): (usize, usize),
        groups: usize,
    ) -> Result<NodeId> {
        let shape = [to, from / groups, 1, 1];
        let weight = Parameter::new(name, shape, vec![1.0; to * (from / groups)])?;
        self.grouped(name, x, weight, groups)
    }

    /// A convolution in groups, without a bias.
    pub(super) fn grouped(
        &mut self,
        name: &str,
        x: NodeId,
        weight: Parameter,
        groups: usize,
    ) -> Result<NodeId> {
        let conv = Conv2d {
            groups,
            ..Conv2d::new(weight)
        };
        self.node(name, Op::Conv2d(conv), &[x])
    }
}
