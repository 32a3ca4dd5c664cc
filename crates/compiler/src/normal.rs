//! The normal form: between polynomials and products everything is one affine map Σ Lᵢ·xᵢ + b.
//!
//! A [`Quantity`] is the input, the result of such a map, of a polynomial or of a product. Batch normalisation, pooling, padding,
//! slicing, dense layers and sums are composed as long as only one map uses them; what several use is computed once.

use crate::activation::Activation;
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp, chain_row, chain_stride};
use crate::{Error, Target};
use approx::Polynomial;
use nn::{NodeId, Op, PolyGraph, PolyNode, Shape};
use std::sync::Arc;

/// Number of a quantity; sources come before what is made of them.
pub(crate) type Id = usize;

/// How a quantity arises.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Encrypted by the client.
    Input,
    /// Σ chain·source + bias.
    Linear {
        terms: Vec<(Id, Chain)>,
        bias: Vec<f64>,
    },
    /// A polynomial of each value.
    Polynomial {
        argument: Id,
        polynomial: Polynomial,
        binding: Binding,
    },
    /// An element-by-element product.
    Product { left: Id, right: Id },
}

/// What a polynomial may ask of its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The argument serves nothing else: its affine map or coefficients take in the interval's.
    Free,
    /// The argument is shared: the polynomial is written in its unit.
    Fixed,
}

/// One quantity.
#[derive(Clone, Debug)]
pub(crate) struct Quantity {
    /// The layer that reports show.
    pub(crate) layer: String,
    /// How it arises.
    pub(crate) kind: Kind,
    /// Its shape, pictures not yet flattened.
    pub(crate) shape: Shape,
    /// Where it lies.
    pub(crate) layout: Layout,
    /// Largest magnitude expected.
    pub(crate) bound: f64,
    /// The polynomial whose interval it takes in, or the product whose range: its unit is theirs to choose.
    pub(crate) feeds: Option<Id>,
    /// Levels that it takes.
    pub(crate) depth: usize,
}

impl Quantity {
    /// The quantities that it is made of, each once.
    pub(crate) fn sources(&self) -> Vec<Id> {
        let mut sources = match &self.kind {
            Kind::Input => Vec::new(),
            Kind::Linear { terms, .. } => terms.iter().map(|t| t.0).collect(),
            Kind::Polynomial { argument, .. } => vec![*argument],
            Kind::Product { left, right } => vec![*left, *right],
        };
        let mut seen = Vec::new();
        sources.retain(|s| {
            !seen.contains(s) && {
                seen.push(*s);
                true
            }
        });
        sources
    }
}

/// A network in normal form.
#[derive(Clone, Debug)]
pub(crate) struct Normal {
    /// In topological order; the first is the input.
    pub(crate) quantities: Vec<Quantity>,
    /// The answer.
    pub(crate) output: Id,
}

/// A node's value before anything is decided: terms and bias, the shape before flattening, and the layer that names it.
#[derive(Clone, Debug)]
struct Expression {
    terms: Vec<(Id, Chain)>,
    bias: Vec<f64>,
    shape: Shape,
    name: (u8, String),
}

impl Expression {
    fn of(id: Id, q: &Quantity) -> Self {
        Self {
            terms: vec![(id, Chain::new())],
            bias: vec![0.0; q.shape.len()],
            shape: q.shape,
            name: (0, String::new()),
        }
    }
    fn direct(&self) -> Option<Id> {
        match &self.terms[..] {
            [(id, chain)] if chain.is_empty() && self.bias.iter().all(|&b| b == 0.0) => Some(*id),
            _ => None,
        }
    }
    fn then(
        &self,
        op: LinearOp,
        offset: Option<Vec<f64>>,
        shape: Shape,
        name: (u8, String),
    ) -> Self {
        let op = Arc::new(op);
        let mut bias = offset.unwrap_or_else(|| vec![0.0; op.rows()]);
        if self.bias.iter().any(|&b| b != 0.0) {
            let chain = [Arc::clone(&op)];
            for (r, b) in bias.iter_mut().enumerate() {
                chain_row(&chain, r, 1.0, &mut |c, w| *b += w * self.bias[c]);
            }
        }
        let terms = self
            .terms
            .iter()
            .map(|(id, chain)| {
                (
                    *id,
                    chain.iter().cloned().chain([Arc::clone(&op)]).collect(),
                )
            })
            .collect();
        let name = if name.0 >= self.name.0 {
            name
        } else {
            self.name.clone()
        };
        Self {
            terms,
            bias,
            shape,
            name,
        }
    }
}

/// Brings a network into normal form.
pub(crate) fn normalise(
    graph: &PolyGraph,
    target: &Target,
    max_slots: usize,
) -> Result<Normal, Error> {
    let mut b = Builder {
        graph,
        target,
        max_slots,
        consumers: graph.consumers(),
        quantities: Vec::new(),
        values: Vec::new(),
    };
    for node in graph.nodes() {
        let value = b.node(node)?;
        let value = b.share(node, value)?;
        b.values.push(value);
    }
    let node = graph.output();
    let value = b.values[node.id().index()].clone();
    if value.terms.is_empty() {
        return Err(unsupported(
            node,
            "the network's answer is a constant",
            "check the exported graph",
        ));
    }
    let output = match value.direct() {
        Some(id) => id,
        None => b.linear(node, value, None)?,
    };
    Ok(Normal {
        quantities: b.quantities,
        output,
    })
}

fn unsupported(node: &PolyNode, reason: &str, remedy: &'static str) -> Error {
    Error::Unsupported {
        layer: node.name().into(),
        operator: node.op().name().into(),
        reason: reason.into(),
        remedy,
    }
}

struct Builder<'a> {
    graph: &'a PolyGraph,
    target: &'a Target,
    max_slots: usize,
    consumers: Vec<Vec<NodeId>>,
    quantities: Vec<Quantity>,
    /// One per node done.
    values: Vec<Expression>,
}

impl Builder<'_> {
    fn bound(&self, node: &PolyNode) -> Result<f64, Error> {
        let range = self
            .graph
            .range(node.id())
            .ok_or_else(|| Error::Calibration {
                layer: node.name().into(),
            })?;
        Ok(range.magnitude().max(1e-6) * self.target.range_margin)
    }

    fn push(&mut self, quantity: Quantity) -> Id {
        self.quantities.push(quantity);
        self.quantities.len() - 1
    }

    /// Whether a polynomial's node, perhaps renamed, is used once.
    fn sole(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        self.consumers[id.index()].len() == 1
            && match node.op() {
                Op::Flatten | Op::Reshape(_) | Op::Identity => self.sole(node.inputs()[0]),
                other => matches!(other, Op::Elementwise(_)),
            }
    }

    /// Materialises what several nodes use, unless repeating it is free.
    fn share(&mut self, node: &PolyNode, value: Expression) -> Result<Expression, Error> {
        let heavy =
            value.terms.len() > 1 || value.terms.iter().any(|t| t.1.iter().any(|o| o.mixes()));
        if !heavy || self.consumers[node.id().index()].len() < 2 {
            return Ok(value);
        }
        let id = self.linear(node, value, None)?;
        Ok(Expression::of(id, &self.quantities[id]))
    }

    fn linear(
        &mut self,
        node: &PolyNode,
        value: Expression,
        layout: Option<Layout>,
    ) -> Result<Id, Error> {
        let bound = self.bound(node)?;
        self.affine(node, value, layout, bound)
    }

    fn affine(
        &mut self,
        node: &PolyNode,
        value: Expression,
        layout: Option<Layout>,
        bound: f64,
    ) -> Result<Id, Error> {
        let layer = if value.name.1.is_empty() {
            node.name().into()
        } else {
            value.name.1
        };
        let (source, chain) = &value.terms[0];
        let layout = match layout {
            Some(layout) => layout,
            None => Layout::after(
                &layer,
                value.shape,
                &self.quantities[*source].layout,
                chain_stride(chain),
                self.max_slots,
            )?,
        };
        let kind = Kind::Linear {
            terms: value.terms,
            bias: value.bias,
        };
        Ok(self.push(Quantity {
            layer,
            kind,
            shape: value.shape,
            layout,
            bound,
            feeds: None,
            depth: 1,
        }))
    }

    fn node(&mut self, node: &PolyNode) -> Result<Expression, Error> {
        let input = |i: usize| &self.values[node.inputs()[i].index()];
        match node.op() {
            Op::Input(shape) => {
                let bound = self.bound(node)?;
                let layout = Layout::fresh(node.name(), *shape, self.max_slots)?;
                let id = self.push(Quantity {
                    layer: node.name().into(),
                    kind: Kind::Input,
                    shape: *shape,
                    layout,
                    bound,
                    feeds: None,
                    depth: 0,
                });
                Ok(Expression::of(id, &self.quantities[id]))
            }
            Op::Constant(shape, p) => Ok(Expression {
                terms: Vec::new(),
                bias: p.to_f64(),
                shape: *shape,
                name: (0, String::new()),
            }),
            Op::Add => {
                let (x, y) = (input(0).clone(), input(1));
                let bias = x.bias.iter().zip(&y.bias).map(|(a, b)| a + b).collect();
                let shape = if x.terms.is_empty() { y.shape } else { x.shape };
                let name = if y.name.0 > x.name.0 {
                    y.name.clone()
                } else {
                    x.name
                };
                Ok(Expression {
                    terms: x.terms.into_iter().chain(y.terms.iter().cloned()).collect(),
                    bias,
                    shape,
                    name,
                })
            }
            Op::Mul => self.product(node),
            Op::Elementwise(p) => self.polynomial(node, p),
            _ => {
                let value = input(0);
                let rank = match node.op() {
                    Op::Conv2d(_) | Op::Linear(_) => 3,
                    Op::AvgPool(_) | Op::GlobalAvgPool => 2,
                    _ => 1,
                };
                Ok(
                    match LinearOp::of(node, self.graph.shape(node.inputs()[0]))? {
                        None => value.clone(),
                        Some((op, offset)) => {
                            value.then(op, offset, node.shape(), (rank, node.name().into()))
                        }
                    },
                )
            }
        }
    }

    fn product(&mut self, node: &PolyNode) -> Result<Expression, Error> {
        let [a, b] = [0, 1].map(|i| node.inputs()[i]);
        let [x, y] = [a, b].map(|i| self.values[i.index()].clone());
        let name = |rank| (rank, node.name().to_string());
        if x.terms.is_empty() || y.terms.is_empty() {
            let (constant, value) = if x.terms.is_empty() { (x, y) } else { (y, x) };
            let op = LinearOp::Diagonal {
                rows: constant.bias.len(),
                factors: constant.bias,
                inner: 1,
            };
            let shape = value.shape;
            return Ok(value.then(op, None, shape, name(1)));
        }
        if a == b {
            let bound = self.bound(self.graph.node(a))?;
            let square =
                Polynomial::from_monomial(&[0.0, 0.0, 1.0], (-bound, bound)).map_err(|source| {
                    Error::Polynomial {
                        layer: node.name().into(),
                        source,
                    }
                })?;
            return self.polynomial(node, &square);
        }
        let bound = self.bound(node)?;
        // one factor is a map of its own that can take any unit, so that the product can be bootstrapped
        let (left, made) = match x.direct() {
            Some(id) => (id, None),
            None => self
                .linear(self.graph.node(a), x, None)
                .map(|id| (id, Some(id)))?,
        };
        let layout = self.quantities[left].layout.clone();
        let (right, made) = match (y.direct(), made) {
            (Some(id), Some(made)) if self.quantities[id].layout == layout => (id, made),
            _ => self
                .linear(self.graph.node(b), y, Some(layout.clone()))
                .map(|id| (id, id))?,
        };
        let shape = self.quantities[left].shape;
        let kind = Kind::Product { left, right };
        let id = self.push(Quantity {
            layer: node.name().into(),
            kind,
            shape,
            layout,
            bound,
            feeds: None,
            depth: 1,
        });
        self.quantities[made].feeds = Some(id);
        Ok(Expression::of(id, &self.quantities[id]))
    }

    fn polynomial(&mut self, node: &PolyNode, p: &Polynomial) -> Result<Expression, Error> {
        let from = node.inputs()[0];
        let value = self.values[from.index()].clone();
        if p.degree() < 2 || value.terms.is_empty() {
            let shape = value.shape;
            if value.terms.is_empty() {
                let bias = value.bias.iter().map(|&x| p.eval(x)).collect();
                return Ok(Expression { bias, ..value });
            }
            let m = p.to_monomial();
            let Some(&factor) = m.get(1) else {
                return Ok(Expression {
                    terms: Vec::new(),
                    bias: vec![m[0]; shape.len()],
                    ..value
                });
            };
            let op = LinearOp::Diagonal {
                factors: vec![factor],
                inner: shape.len(),
                rows: shape.len(),
            };
            return Ok(value.then(
                op,
                Some(vec![m[0]; shape.len()]),
                shape,
                (1, node.name().into()),
            ));
        }
        let (lo, hi) = p.interval();
        let (argument, binding) = match value.direct() {
            Some(id)
                if self.sole(from)
                    && matches!(self.quantities[id].kind, Kind::Polynomial { .. }) =>
            {
                // its coefficients take in the interval map
                let depth = Activation::general(
                    &polynomial_of(&self.quantities[id]).unwrap_or_else(|| p.clone()),
                    1.0,
                )
                .depth()?;
                self.quantities[id].depth = depth;
                (id, Binding::Free)
            }
            Some(id) if Activation::extends(p, self.quantities[id].bound) => (id, Binding::Fixed),
            _ => (
                self.affine(self.graph.node(from), value, None, lo.abs().max(hi.abs()))?,
                Binding::Free,
            ),
        };
        let id = self.quantities.len();
        let activation = match binding {
            Binding::Free => {
                self.quantities[argument].feeds = Some(id);
                Activation::absorbed(p, 1.0)
            }
            Binding::Fixed => {
                Activation::fixed(node.name(), p, self.quantities[argument].bound, 1.0)?
            }
        };
        let argument_of = &self.quantities[argument];
        let quantity = Quantity {
            layer: node.name().into(),
            kind: Kind::Polynomial {
                argument,
                polynomial: p.clone(),
                binding,
            },
            shape: argument_of.shape,
            layout: argument_of.layout.clone(),
            bound: p.sup_norm().max(1e-12),
            feeds: None,
            depth: activation.depth()?,
        };
        self.push(quantity);
        Ok(Expression::of(id, &self.quantities[id]))
    }
}

fn polynomial_of(q: &Quantity) -> Option<Polynomial> {
    match &q.kind {
        Kind::Polynomial { polynomial, .. } => Some(polynomial.clone()),
        _ => None,
    }
}
