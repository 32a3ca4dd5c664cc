//! The normal form: between polynomials and products everything is one affine map Σ Lᵢ·xᵢ + b.
//!
//! A [`Quantity`] is the input, the result of such a map, of a polynomial or of a product. Batch normalisation, pooling, padding,
//! slicing, dense layers and sums are composed as long as only one map uses them; what several use is computed once. Multiples and
//! sums that a product takes or becomes part of are made within it (`product`), where they cost no level.

use crate::activation::Activation;
use crate::coefficients::centred::Centred;
use crate::coefficients::tokens::{Moves, Scores, Tokens};
use crate::cost::CostModel;
use crate::error::Error;
use crate::layout::{Layout, Scale};
use crate::linear_op::{Chain, LinearOp, Link, chain_row, chain_stride, columnwise, unsupported};
use crate::target::{Layers, Target};
use approx::Polynomial;
use nn::{Boundary, NodeId, Op, PolyGraph, PolyNode, Rotary, Shape};
use runtime::Purpose;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Number of a quantity; sources come before what is made of them.
pub(crate) type Id = usize;

/// How a quantity arises.
#[derive(Clone, Debug, PartialEq)]
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
    /// factor·left·right + Σ c·v + constant, element by element. An operand may have a shorter period, or one ciphertext where the
    /// product has several: it repeats.
    Product {
        left: Id,
        right: Id,
        factor: f64,
        add: Vec<(f64, Id)>,
        constant: f64,
    },
    /// What is kept from run to run with what the run writes: a sum that costs no level.
    Sum {
        /// What came in.
        kept: Id,
        /// What is written: a product, whose unit is that of what is kept.
        new: Id,
    },
    /// Ciphertexts made of another tensor's by moving slots.
    Moved { argument: Id, moves: Arc<Moves> },
    /// factor·Σ left·right: of every ciphertext, over these pairs of the operands'.
    Dot {
        left: Id,
        right: Id,
        factor: f64,
        pairs: Arc<[Vec<(usize, usize)>]>,
    },
}

/// Where a linear map is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Domain {
    /// By diagonals and rotations.
    #[default]
    Slots,
    /// Below the bootstrap, by products of polynomials; the result comes up by half bootstraps.
    Coefficients,
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
    /// What that layer is for.
    pub(crate) purpose: Purpose,
    /// How it arises.
    pub(crate) kind: Kind,
    /// Its shape, pictures not yet flattened.
    pub(crate) shape: Shape,
    /// Where it lies.
    pub(crate) layout: Layout,
    /// Largest magnitude expected.
    pub(crate) bound: f64,
    /// The polynomial or the product that takes it: its unit is chosen by that polynomial's interval, or that product's range.
    pub(crate) feeds: Option<Id>,
    /// Levels that it takes.
    pub(crate) depth: usize,
    /// Largest magnitude of its plan value where nothing before it is bootstrapped: 1, less or more for a product, whose unit is that of
    /// its operands. Bootstraps before it only lessen it.
    pub(crate) reach: f64,
    /// The integer that a product is multiplied by, so that it doesn't become small.
    pub(crate) times: u32,
    /// For a linear map, where it is carried out.
    pub(crate) domain: Domain,
}

impl Quantity {
    /// What `node` makes: one level deep, in a unit of its own.
    pub(crate) fn of(
        node: &PolyNode,
        kind: Kind,
        shape: Shape,
        layout: Layout,
        bound: f64,
    ) -> Self {
        Self {
            layer: node.name().into(),
            purpose: purpose(node),
            kind,
            shape,
            layout,
            bound,
            feeds: None,
            depth: 1,
            reach: 1.0,
            times: 1,
            domain: Domain::Slots,
        }
    }

    /// Whether another one is the same, whatever uses it.
    fn is(&self, other: &Self) -> bool {
        let like = |q: &Self| (q.bound.to_bits(), q.domain, q.times);
        like(self) == like(other) && self.kind == other.kind && self.layout == other.layout
    }

    /// Largest magnitude of network value for a plan value of 1, where nothing before it is bootstrapped.
    pub(crate) fn nominal_unit(&self) -> f64 {
        self.bound / self.reach
    }

    /// The quantities that it is made of, each once.
    pub(crate) fn sources(&self) -> Vec<Id> {
        let all = match &self.kind {
            Kind::Input => Vec::new(),
            Kind::Linear { terms, .. } => terms.iter().map(|t| t.0).collect(),
            Kind::Polynomial { argument, .. } | Kind::Moved { argument, .. } => vec![*argument],
            Kind::Dot { left, right, .. } => vec![*left, *right],
            Kind::Sum { kept, new } => vec![*kept, *new],
            Kind::Product {
                left, right, add, ..
            } => [*left, *right]
                .into_iter()
                .chain(add.iter().map(|a| a.1))
                .collect(),
        };
        let mut sources = Vec::with_capacity(all.len());
        for v in all {
            if !sources.contains(&v) {
                sources.push(v);
            }
        }
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
    /// What is given anew for each run beside the first input.
    pub(crate) more: Vec<Id>,
    /// What is kept from run to run: as it comes in, and with what the run writes.
    pub(crate) kept: Vec<(Id, Id)>,
}

/// How strongly a node names a map of which it is part, and the node.
pub(crate) type Named = (u8, Option<NodeId>);

/// A node's value before anything is decided: terms and bias, the shape before flattening, and the node that names it.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) terms: Vec<(Id, Chain)>,
    pub(crate) bias: Vec<f64>,
    pub(crate) shape: Shape,
    pub(crate) name: Named,
}

impl Expression {
    pub(crate) fn direct(&self) -> Option<Id> {
        match &self.terms[..] {
            [(id, chain)] if chain.is_empty() && self.bias.iter().all(|&b| b == 0.0) => Some(*id),
            _ => None,
        }
    }
    pub(crate) fn then(
        &self,
        op: LinearOp,
        offset: Option<Vec<f64>>,
        shape: Shape,
        name: Named,
        before: NodeId,
    ) -> Self {
        let mut bias = offset.unwrap_or_else(|| vec![0.0; op.rows()]);
        let op = Arc::new(Link {
            op,
            before,
            terms: self.terms.len(),
        });
        if self.bias.iter().any(|&b| b != 0.0) {
            let chain = vec![Arc::clone(&op)];
            // where tokens have equal biases and are treated alike, one stands for all
            let even = |of: &[f64], l| of.chunks(l).all(|b| b.iter().all(|&x| x == b[0]));
            let alike = columnwise(std::iter::once(&chain), self.shape, shape);
            let alike = alike.filter(|&l| even(&self.bias, l) && even(&bias, l));
            let tokens = alike.unwrap_or(1);
            for (k, same) in bias.chunks_mut(tokens).enumerate() {
                let mut b = same[0];
                chain_row(&chain, k * tokens, 1.0, &mut |c, w| b += w * self.bias[c]);
                same.fill(b);
            }
        }
        let mut terms = self.terms.clone();
        (terms.iter_mut()).for_each(|t| t.1.push(Arc::clone(&op)));
        Self {
            terms,
            bias,
            shape,
            name: if name.0 >= self.name.0 {
                name
            } else {
                self.name
            },
        }
    }
}

/// What a sequence's operators stand for until a product takes them.
#[derive(Clone, Debug)]
pub(crate) enum Symbol {
    /// A value with rotary positions, which are not applied yet: maps that treat the channels of a head alike come first.
    Turned { value: Expression, rotary: Rotary },
    /// A row again and again.
    Repeated(NodeId),
    /// A sequence beside itself delayed.
    Unfolded(Rows),
    /// Keys times one number a token.
    Marked { keys: NodeId, marks: NodeId },
    /// Queries times delayed keys, before they are summed.
    Products { queries: NodeId, keys: Rows },
    /// Weights times delayed values, before they are summed.
    Weighed { weights: NodeId, values: Rows },
}

/// A sequence beside itself delayed.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) of: NodeId,
    pub(crate) boundary: Boundary,
    /// What a public first token has in its place, one number a channel.
    pub(crate) public: Option<Arc<[f64]>>,
}

/// What the network's sizes stand for, where it stands for a larger one, and that one's slots.
pub(crate) type Sized<'a> = Option<(&'a Scale, usize)>;

/// Brings a network into normal form.
pub(crate) fn normalise(
    graph: &PolyGraph,
    target: &Target,
    max_slots: usize,
    sized: Sized<'_>,
    tokens: Option<Tokens>,
    cost: &mut CostModel,
) -> Result<Normal, Error> {
    let mut b = Builder {
        graph,
        target,
        max_slots,
        sized,
        tokens,
        vectors: vectors(graph, target, cost, tokens),
        symbols: BTreeMap::new(),
        centred: Centred::default(),
        skipped: BTreeSet::new(),
        without_mean: BTreeSet::new(),
        scores: BTreeMap::new(),
        cost,
        consumers: graph.consumers(),
        quantities: Vec::new(),
        values: Vec::new(),
    };
    if tokens.is_some() {
        b.centred = Centred::of(graph, &b.consumers);
    }
    for node in graph.nodes() {
        let value = match b.tokens_node(node)? {
            Some(value) => value,
            None => b.node(node)?,
        };
        let value = b.less_its_mean(node, value);
        let value = b.share(node, value)?;
        b.values.push(value);
    }
    let node = graph.output();
    let value = b.values[node.id().index()].clone();
    if value.terms.is_empty() {
        return Err(unsupported(
            node,
            "the network's answer is a constant".into(),
            "check the exported graph",
        ));
    }
    let output = match value.direct() {
        Some(id) => id,
        None => b.linear(node, value, None)?,
    };
    let of = |id: NodeId| {
        let direct = b.values[id.index()].direct();
        direct.ok_or_else(|| not_kept(graph.node(id)))
    };
    let more = graph.inputs().skip(1).map(|n| of(n.id()));
    let kept = graph
        .kept()
        .iter()
        .map(|k| Ok((of(k.before)?, of(k.after)?)));
    let (more, kept) = (
        more.collect::<Result<_, Error>>()?,
        kept.collect::<Result<_, Error>>()?,
    );
    Ok(Normal {
        quantities: b.quantities,
        output,
        more,
        kept,
    }
    .pruned())
}

/// From how many inputs on a channel's sum is made in coefficients, of a token alone, in a step of a sequence or behind one: a half bootstrap takes as long as so many diagonals.
fn vectors(
    graph: &PolyGraph,
    target: &Target,
    cost: &CostModel,
    tokens: Option<Tokens>,
) -> Option<usize> {
    const DIAGONALS: usize = 192;
    let products = cost.parameters().products() > ckks::Level::new(0);
    let behind = tokens.is_some() && graph.output().shape().columns() == 1;
    let alone = behind || !graph.kept().is_empty();
    if !alone || !products {
        return None;
    }
    match target.layers {
        Layers::Slots => None,
        Layers::Coefficients => Some(3),
        Layers::Cheapest => Some(DIAGONALS),
    }
}

impl Normal {
    /// Without what nothing uses: products that became part of others.
    fn pruned(self) -> Self {
        let count = self.quantities.len();
        let mut used = vec![false; count];
        // the input stays, whatever the network makes of it
        (used[0], used[self.output]) = (true, true);
        self.more.iter().for_each(|v| used[*v] = true);
        self.kept.iter().for_each(|(_, after)| used[*after] = true);
        for v in (0..count).rev() {
            if used[v] {
                for w in self.quantities[v].sources() {
                    used[w] = true;
                }
            }
        }
        let number: Vec<Id> = (used.iter())
            .scan(0, |next, &u| {
                *next += usize::from(u);
                Some(*next - usize::from(u))
            })
            .collect();
        let quantities = self
            .quantities
            .into_iter()
            .enumerate()
            .filter(|(v, _)| used[*v])
            .map(|(_, mut q)| {
                match &mut q.kind {
                    Kind::Input => {}
                    Kind::Linear { terms, .. } => {
                        terms.iter_mut().for_each(|t| t.0 = number[t.0]);
                    }
                    Kind::Polynomial { argument, .. } | Kind::Moved { argument, .. } => {
                        *argument = number[*argument];
                    }
                    Kind::Dot { left, right, .. }
                    | Kind::Sum {
                        kept: left,
                        new: right,
                    } => {
                        (*left, *right) = (number[*left], number[*right]);
                    }
                    Kind::Product {
                        left, right, add, ..
                    } => {
                        (*left, *right) = (number[*left], number[*right]);
                        add.iter_mut().for_each(|a| a.1 = number[a.1]);
                    }
                }
                q.feeds = q.feeds.filter(|&f| used[f]).map(|f| number[f]);
                q
            })
            .collect();
        Self {
            quantities,
            output: number[self.output],
            more: self.more.iter().map(|v| number[*v]).collect(),
            kept: (self.kept.iter())
                .map(|(before, after)| (number[*before], number[*after]))
                .collect(),
        }
    }
}

pub(crate) struct Builder<'a> {
    pub(crate) graph: &'a PolyGraph,
    target: &'a Target,
    max_slots: usize,
    pub(crate) sized: Sized<'a>,
    /// How tokens lie, where linear maps on them are carried out in coefficients.
    pub(crate) tokens: Option<Tokens>,
    /// Of one token alone, the fewest inputs of a channel's sum that is made in coefficients; none where all lies in slots.
    pub(crate) vectors: Option<usize>,
    /// What a sequence's operators stand for until a product takes them.
    pub(crate) symbols: BTreeMap<NodeId, Symbol>,
    /// What is only used less its mean.
    pub(crate) centred: Centred,
    /// Products with constants that attention's masks hold.
    pub(crate) skipped: BTreeSet<NodeId>,
    /// Quantities that have no mean.
    pub(crate) without_mean: BTreeSet<Id>,
    /// How scores of attention lie, by quantity.
    pub(crate) scores: BTreeMap<Id, Scores>,
    pub(crate) cost: &'a mut CostModel,
    pub(crate) consumers: Vec<Vec<NodeId>>,
    pub(crate) quantities: Vec<Quantity>,
    /// One per node done.
    pub(crate) values: Vec<Expression>,
}

impl Builder<'_> {
    pub(crate) fn bound(&self, node: &PolyNode) -> Result<f64, Error> {
        let range = self
            .graph
            .range(node.id())
            .ok_or_else(|| Error::Calibration {
                layer: node.name().into(),
            })?;
        Ok(range.magnitude().max(1e-6) * self.target.range_margin)
    }

    pub(crate) fn push(&mut self, quantity: Quantity) -> Id {
        let same = |q: &Quantity| q.feeds.is_none() && q.is(&quantity);
        if self.tokens.is_some()
            && let Some(known) = self.quantities.iter().position(same)
        {
            return known;
        }
        self.quantities.push(quantity);
        self.quantities.len() - 1
    }

    /// A quantity as it is.
    pub(crate) fn value(&self, id: Id) -> Expression {
        let shape = self.quantities[id].shape;
        Expression {
            terms: vec![(id, Chain::new())],
            bias: vec![0.0; shape.len()],
            shape,
            name: Named::default(),
        }
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
            value.terms.len() > 1 || value.terms.iter().any(|t| t.1.iter().any(|l| l.op.mixes()));
        if !heavy || self.consumers[node.id().index()].len() < 2 {
            return Ok(value);
        }
        if let Some(id) = self.absorb(node, &value)? {
            return Ok(self.value(id));
        }
        let id = match self.centred.value(node.id()) {
            Some(difference) => {
                let bound = self.bound(self.graph.node(difference))?;
                let id = self.affine(node, value, None, bound)?;
                self.without_mean.insert(id);
                id
            }
            None => self.linear(node, value, None)?,
        };
        Ok(self.value(id))
    }

    pub(crate) fn linear(
        &mut self,
        node: &PolyNode,
        value: Expression,
        layout: Option<Layout>,
    ) -> Result<Id, Error> {
        let bound = self.bound(node)?;
        self.affine(node, value, layout, bound)
    }

    pub(crate) fn affine(
        &mut self,
        node: &PolyNode,
        value: Expression,
        layout: Option<Layout>,
        bound: f64,
    ) -> Result<Id, Error> {
        let graph = self.graph;
        let named = |value: &Expression| value.name.1.map_or(node, |id| graph.node(id));
        let layout = match layout {
            Some(layout) => layout,
            None => self.layout_of(named(&value).name(), &value)?,
        };
        let domain = self.domain(&value, &layout);
        let differs = |of: &[f64]| of.iter().any(|b| *b != of[0]);
        let mut tokens = value.bias.chunks(value.shape.columns().max(1));
        if domain == Domain::Coefficients && tokens.any(differs) {
            // what is added in coefficients is the same for all tokens: what differs is added in slots
            let most = value.bias.iter().fold(0.0f64, |m, b| m.max(b.abs()));
            let Expression { terms, shape, .. } = value;
            let (bias, own) = (vec![0.0; value.bias.len()], value.bias);
            let bare = Expression {
                terms,
                bias,
                shape,
                name: value.name,
            };
            let id = self.affine(node, bare, Some(layout.clone()), bound + most)?;
            let value = Expression {
                bias: own,
                name: value.name,
                ..self.value(id)
            };
            return self.affine(node, value, Some(layout), bound);
        }
        let value = match domain {
            Domain::Coefficients => value,
            Domain::Slots => self.cut(node, value, &layout)?,
        };
        let named = named(&value);
        let Expression {
            terms, bias, shape, ..
        } = value;
        let kind = Kind::Linear { terms, bias };
        Ok(self.push(Quantity {
            domain,
            depth: usize::from(domain == Domain::Slots),
            ..Quantity::of(named, kind, shape, layout, bound)
        }))
    }

    /// Where a value would lie that is made by one map.
    pub(crate) fn layout_of(&self, layer: &str, value: &Expression) -> Result<Layout, Error> {
        let (source, chain) = &value.terms[0];
        if let Some(layout) = self.tokens_layout(value) {
            return layout.checked(layer, self.max_slots);
        }
        let source = &self.quantities[*source].layout;
        let unfolded = matches!(value.shape, Shape::Image { height: 2.., .. })
            && chain.iter().any(|l| l.op.unfolds());
        let layout = if unfolded {
            Layout::unfolded(value.shape, self.max_slots)
        } else {
            match chain_stride(chain) {
                Some(stride) => Layout::after(value.shape, source, stride, self.max_slots),
                None => Layout::fresh(value.shape, self.max_slots),
            }
        };
        layout.checked(layer, self.max_slots)
    }

    fn node(&mut self, node: &PolyNode) -> Result<Expression, Error> {
        let input = |i: usize| &self.values[node.inputs()[i].index()];
        match node.op() {
            Op::Input(shape) => {
                let bound = self.bound(node)?;
                let layout = match &self.tokens {
                    Some(tokens) => tokens.state(shape.dims()[0]),
                    None if self.in_rows(*shape) => Layout::unfolded(*shape, self.max_slots),
                    None => Layout::fresh(*shape, self.max_slots),
                };
                let layout = layout.checked(node.name(), self.max_slots)?;
                let count = layout.ciphertexts;
                let mut id = self.push(Quantity {
                    depth: 0,
                    ..Quantity::of(node, Kind::Input, *shape, layout.clone(), bound)
                });
                if let Some(moves) = self.tokens.and_then(|t| t.filled(count)) {
                    id = self.moved(node, id, moves, layout);
                }
                Ok(self.value(id))
            }
            Op::Constant(shape, p) => Ok(Expression {
                terms: Vec::new(),
                bias: p.to_f64(),
                shape: *shape,
                name: Named::default(),
            }),
            Op::Add if self.graph.kept().iter().any(|k| k.after == node.id()) => self.kept(node),
            Op::Add => {
                let (x, y) = (input(0).clone(), input(1));
                let bias = x.bias.iter().zip(&y.bias).map(|(a, b)| a + b).collect();
                let shape = if x.terms.is_empty() { y.shape } else { x.shape };
                let name = if y.name.0 > x.name.0 { y.name } else { x.name };
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
                let from = node.inputs()[0];
                let name = (rank, Some(node.id()));
                Ok(match LinearOp::of(node, self.graph.shape(from))? {
                    None => value.clone(),
                    Some((op, offset)) => value.then(op, offset, node.shape(), name, from),
                })
            }
        }
    }

    /// Whether an input lies as a sequence beside itself does, of which each row is a token.
    fn in_rows(&self, shape: Shape) -> bool {
        let rows = matches!(
            shape,
            Shape::Image {
                height: 2..,
                width: 1,
                ..
            }
        );
        rows && !self.graph.kept().is_empty()
    }

    /// What is kept from run to run: the product that is written is added to it as it is.
    fn kept(&mut self, node: &PolyNode) -> Result<Expression, Error> {
        let [kept, new] = [0, 1].map(|i| self.values[node.inputs()[i].index()].direct());
        let (Some(kept), Some(new)) = (kept, new) else {
            return Err(not_kept(node));
        };
        let product = &self.quantities[new];
        let same = product.layout == self.quantities[kept].layout;
        if !(same && matches!(product.kind, Kind::Product { .. })) {
            return Err(not_kept(node));
        }
        let bound = self.bound(node)?.max(product.bound);
        let (layout, reach) = (
            product.layout.clone(),
            product.reach * bound / product.bound,
        );
        let sum = Quantity {
            depth: 0,
            reach,
            ..Quantity::of(node, Kind::Sum { kept, new }, node.shape(), layout, bound)
        };
        let id = self.push(sum);
        Ok(self.value(id))
    }

    fn polynomial(&mut self, node: &PolyNode, p: &Polynomial) -> Result<Expression, Error> {
        let from = node.inputs()[0];
        let mut value = self.values[from.index()].clone();
        if value.terms.is_empty() {
            let bias = value.bias.iter().map(|&x| p.eval(x)).collect();
            return Ok(Expression { bias, ..value });
        }
        if p.degree() < 2 {
            let shape = value.shape;
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
            let offset = Some(vec![m[0]; shape.len()]);
            return Ok(value.then(op, offset, shape, (1, Some(node.id())), from));
        }
        if let Some(id) = self.absorb(self.graph.node(from), &value)? {
            value = self.value(id);
            self.values[from.index()] = value.clone();
        }
        let (lo, hi) = p.interval();
        let inner = (value.direct()).and_then(|id| match &self.quantities[id].kind {
            Kind::Polynomial { polynomial, .. } if self.sole(from) => Some((id, polynomial)),
            _ => None,
        });
        let (argument, binding) = match (inner, value.direct()) {
            (Some((id, inner)), _) => {
                // its coefficients take in the interval map
                self.quantities[id].depth = Activation::general(inner, 1.0).depth()?;
                (id, Binding::Free)
            }
            (None, Some(id))
                if self.quantities[id].reach <= 1.0
                    && Activation::extends(p, self.quantities[id].nominal_unit()) =>
            {
                (id, Binding::Fixed)
            }
            _ => (
                self.affine(self.graph.node(from), value, None, lo.abs().max(hi.abs()))?,
                Binding::Free,
            ),
        };
        if let (Binding::Free, Some(known)) = (binding, self.known(argument, p)) {
            return Ok(self.value(known));
        }
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
        let kind = Kind::Polynomial {
            argument,
            polynomial: p.clone(),
            binding,
        };
        let (shape, layout) = (argument_of.shape, argument_of.layout.clone());
        let quantity = Quantity {
            depth: activation.depth()?,
            ..Quantity::of(node, kind, shape, layout, p.sup_norm().max(1e-12))
        };
        let id = self.push(quantity);
        Ok(self.value(id))
    }

    /// The same polynomial of the same, which was made for another node: two norms of the same tokens have one root.
    fn known(&self, argument: Id, p: &Polynomial) -> Option<Id> {
        self.tokens?;
        let own = &self.quantities[argument];
        self.quantities.iter().position(|q| match &q.kind {
            Kind::Polynomial {
                argument: other,
                polynomial,
                binding: Binding::Free,
            } => *other != argument && polynomial == p && self.quantities[*other].is(own),
            _ => false,
        })
    }
}

/// What is kept from run to run and is no sum with a product.
fn not_kept(node: &PolyNode) -> Error {
    unsupported(
        node,
        "what is kept from run to run is more than its sum with a product that lies as it does"
            .into(),
        "write a value times a place",
    )
}

/// What a plan's steps for this node are for.
pub(crate) fn purpose(node: &PolyNode) -> Purpose {
    match node.purpose() {
        nn::Purpose::Weights => Purpose::Weights,
        nn::Purpose::Products => Purpose::Products,
        nn::Purpose::Attention => Purpose::Attention,
        nn::Purpose::Norm => Purpose::Norm,
        nn::Purpose::Activation => Purpose::Activation,
        nn::Purpose::Repacking => Purpose::Repacking,
    }
}
