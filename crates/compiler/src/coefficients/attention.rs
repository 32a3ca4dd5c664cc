//! Sequences in normal form where linear maps on tokens are carried out in coefficients: which maps those are, and attention, which is recognised in what
//! the network's lowering writes ([`nn::lower`]) and made of sums of products ([`super::tokens`]).

use super::tokens::{Heads, Moves, Scores, Tokens};
use super::vectors::Low;
use crate::Error;
use crate::layout::Layout;
use crate::linear_op::{Chain, LinearOp, Link, chain_row, columnwise, unsupported};
use crate::normal::{Builder, Domain, Expression, Id, Kind, Quantity, Rows, Symbol};
use crate::product::single;
use nn::{Conv2d, NodeId, Op, PolyNode, Rotary, Shape};
use std::sync::Arc;

/// How much larger than scores and weighed values parts of their sums may be, and what is not yet masked.
const PARTS: f64 = 4.0;

impl Builder<'_> {
    /// Where a map on tokens is carried out.
    pub(crate) fn domain(&self, value: &Expression, layout: &Layout) -> Domain {
        if let Some(least) = self.vectors.filter(|_| !layout.is_table()) {
            return self.domain_of_one(value, layout, least);
        }
        let folded = |layout: &Layout| Tokens::leaves(layout).is_some();
        if self.tokens.is_none() || !folded(layout) {
            return Domain::Slots;
        }
        let same = |(source, chain): &(Id, Chain)| {
            let from = &self.quantities[*source];
            let alike = columnwise(std::iter::once(chain), from.shape, value.shape);
            alike.is_some() && folded(&from.layout)
        };
        let still = |(source, chain): &(Id, Chain)| {
            let stays = chain.iter().all(|l| l.op.stays());
            stays && self.quantities[*source].layout == *layout
        };
        match value.terms.iter().all(same) && !value.terms.iter().all(still) {
            true => Domain::Coefficients,
            false => Domain::Slots,
        }
    }

    /// The same of one token alone: matrices are carried out in coefficients, and what is added to them; what moves channels or sums few of them stays in slots. A token of
    /// a sequence is read where it lies in coefficients.
    fn domain_of_one(&self, value: &Expression, layout: &Layout, least: usize) -> Domain {
        let n = self.cost.parameters().n();
        let reads = |(source, chain): &(Id, Chain)| {
            let from = &self.quantities[*source];
            let one = !from.layout.is_table() || chosen(&[chain], from.shape).is_some();
            one && Low::of(&from.layout, n).is_some_and(|l| l.rises())
        };
        let lies = !layout.is_table() && Low::of(layout, n).is_some();
        if !lies || !value.terms.iter().all(reads) {
            return Domain::Slots;
        }
        // of a channel in the middle: all are alike
        let middle = value.shape.len() / 2;
        let inputs = |(_, chain): &(Id, Chain)| {
            let mut count = 0;
            chain_row(chain, middle, 1.0, &mut |_, w| {
                count += usize::from(w != 0.0);
            });
            count
        };
        let most = value.terms.iter().map(inputs).max().unwrap_or(0);
        match most >= least && value.shape.len() >= least {
            true => Domain::Coefficients,
            false => Domain::Slots,
        }
    }

    /// The value of a node that is only used less its mean: without it.
    pub(crate) fn less_its_mean(&self, node: &PolyNode, value: Expression) -> Expression {
        if self.centred.value(node.id()).is_none() || value.terms.is_empty() {
            return value;
        }
        let length = value.shape.columns();
        let (shape, channels) = (value.shape, value.shape.len() / length.max(1));
        let none = |t: &(Id, Chain)| {
            let scalar = t.1.iter().all(|l| l.op.scalar().is_some());
            t.1.last()
                .is_some_and(|l| matches!(l.op, LinearOp::Centre { .. }))
                || (scalar && self.without_mean.contains(&t.0))
        };
        let mut all = value;
        let (done, rest): (Vec<_>, Vec<_>) = all.terms.drain(..).partition(none);
        let name = all.name;
        let rest = Expression { terms: rest, ..all };
        let mut value = rest.then(
            LinearOp::Centre { channels, length },
            None,
            shape,
            name,
            node.id(),
        );
        value.terms.extend(done);
        value
    }

    /// Where a map's result lies that nothing asks to lie elsewhere; none where it is no sequence of tokens.
    pub(crate) fn tokens_layout(&self, value: &Expression) -> Option<Layout> {
        let tokens = self.tokens?;
        let sums = value
            .terms
            .iter()
            .flat_map(|t| &t.1)
            .find_map(|l| match &l.op {
                LinearOp::Keys { layout, .. } => Some(layout.clone()),
                _ => None,
            });
        if sums.is_some() {
            return sums;
        }
        let (source, _) = value.terms.first()?;
        let first = &self.quantities[*source];
        let still = value.terms.iter().all(|(source, chain)| {
            chain.iter().all(|l| l.op.stays()) && self.quantities[*source].layout == first.layout
        });
        if still && first.shape == value.shape {
            return Some(first.layout.clone());
        }
        match value.shape.as_image()? {
            (1, 1, columns) if columns == tokens.length() => Some(tokens.single()),
            (channels, 1, columns) if columns == tokens.length() => Some(tokens.state(channels)),
            _ => None,
        }
    }

    /// The value of a node of a sequence's operators; none for all others.
    pub(crate) fn tokens_node(&mut self, node: &PolyNode) -> Result<Option<Expression>, Error> {
        let Some(tokens) = self.tokens else {
            return Ok(None);
        };
        let inputs = node.inputs();
        let symbol = |b: &Self, i: usize| inputs.get(i).and_then(|id| b.symbols.get(id)).cloned();
        if let Some(x) = self.centred.taken(node.id()) {
            return Ok(Some(self.values[x.index()].clone()));
        }
        if self.skipped.contains(&node.id()) {
            let mut values = inputs.iter().map(|i| &self.values[i.index()]).rev();
            return Ok(values.find(|v| !v.terms.is_empty()).cloned());
        }
        if node.shape().columns() == 1 {
            // a token alone has no attention
            return Ok(None);
        }
        let made = match (node.op(), symbol(self, 0), symbol(self, 1)) {
            (Op::Rotary(r), None, _) => Symbol::Turned {
                value: self.values[inputs[0].index()].clone(),
                rotary: *r,
            },
            (Op::Repeat(_), _, _) => Symbol::Repeated(inputs[0]),
            (Op::Unfold(u), _, _) => Symbol::Unfolded(Rows {
                of: inputs[0],
                boundary: u.boundary,
                public: None,
            }),
            (Op::Add, Some(Symbol::Unfolded(rows)), None) => self.with_public(rows, inputs[1])?,
            (Op::Add, None, Some(Symbol::Unfolded(rows))) => self.with_public(rows, inputs[0])?,
            (Op::Mul, Some(Symbol::Repeated(queries)), Some(Symbol::Unfolded(keys)))
            | (Op::Mul, Some(Symbol::Unfolded(keys)), Some(Symbol::Repeated(queries))) => {
                Symbol::Products { queries, keys }
            }
            (Op::Mul, None, Some(Symbol::Unfolded(values))) => Symbol::Weighed {
                weights: inputs[0],
                values,
            },
            (Op::Mul, Some(Symbol::Unfolded(values)), None) => Symbol::Weighed {
                weights: inputs[1],
                values,
            },
            (Op::Mul, None | Some(Symbol::Turned { .. }), None)
                if self.marks(inputs[1]).is_some() =>
            {
                let marks = self.marks(inputs[1]).unwrap_or(inputs[1]);
                let keys = inputs[0];
                Symbol::Marked { keys, marks }
            }
            (Op::Mul, None, None) => return self.masked(node, tokens),
            (Op::Conv2d(c), Some(Symbol::Products { queries, keys }), _) => {
                return self.scores(node, c, (queries, keys), tokens).map(Some);
            }
            (Op::Conv2d(_), Some(Symbol::Weighed { weights, values }), _) => {
                return self.weighed(node, weights, values, tokens).map(Some);
            }
            (Op::Conv2d(c), None, _) if c.kernel().0 > 1 => return self.summed(node, tokens),
            (_, Some(Symbol::Turned { value, rotary }), None) => Symbol::Turned {
                value: self.alike(node, &value)?,
                rotary,
            },
            (_, None, None) => return Ok(None),
            _ => return Err(refused(node, "what becomes of a sequence beside itself")),
        };
        self.symbols.insert(node.id(), made);
        Ok(Some(Expression {
            terms: Vec::new(),
            bias: Vec::new(),
            shape: node.shape(),
            name: (0, None),
        }))
    }

    /// Rows with those of a public token.
    fn with_public(&self, rows: Rows, constant: NodeId) -> Result<Symbol, Error> {
        let node = self.graph.node(constant);
        let tokens = self
            .tokens
            .filter(|t| t.public() == 1 && rows.public.is_none());
        let (Some(tokens), Op::Constant(shape, p)) = (tokens, node.op()) else {
            return Err(refused(node, "what is added to a sequence beside itself"));
        };
        // the first query's row of the public key
        let (places, at) = (tokens.length(), tokens.real(0));
        let each = p.values().iter().skip(at * places + at);
        let each = each.step_by(places * places).take(shape.dims()[0]);
        let public = each.map(|v| f64::from(*v)).collect();
        Ok(Symbol::Unfolded(Rows {
            public: Some(public),
            ..rows
        }))
    }

    /// The one channel that a node's channels are copies of.
    fn marks(&self, node: NodeId) -> Option<NodeId> {
        let node = self.graph.node(node);
        let Op::Conv2d(c) = node.op() else {
            return None;
        };
        let copies = c.weight.shape()[1..] == [1, 1, 1] && c.groups == 1 && c.bias.is_none();
        let ones = copies && c.weight.values().iter().all(|w| *w == 1.0);
        node.inputs().first().copied().filter(|_| ones)
    }

    /// A map that treats the channels of each head alike, of a value whose positions are not applied yet.
    fn alike(&self, node: &PolyNode, value: &Expression) -> Result<Expression, Error> {
        let name = (1, Some(node.id()));
        let from = node.inputs()[0];
        match node.op() {
            Op::Conv2d(_) => {
                let op = LinearOp::of(node, value.shape)?;
                let (op, offset) = op.ok_or_else(|| refused(node, "no map"))?;
                Ok(value.then(op, offset, node.shape(), name, from))
            }
            Op::Elementwise(p) if p.degree() < 2 => {
                let m = p.to_monomial();
                let rows = value.shape.len();
                let op = LinearOp::Diagonal {
                    factors: vec![m.get(1).copied().unwrap_or(0.0)],
                    inner: rows,
                    rows,
                };
                match m[0] == 0.0 {
                    true => Ok(value.then(op, None, node.shape(), name, from)),
                    false => Err(refused(node, "a constant between positions and products")),
                }
            }
            _ => Err(refused(node, "what lies between positions and products")),
        }
    }

    /// Queries, keys or values, as they lie for attention: a quantity, and what it is to be multiplied by.
    fn of_heads(&mut self, id: NodeId, heads: Heads, tokens: Tokens) -> Result<(Id, f64), Error> {
        let node = self.graph.node(id);
        if let Some(Symbol::Marked { keys, marks }) = self.symbols.get(&id).cloned() {
            let (left, factor) = self.of_heads(keys, heads, tokens)?;
            let (own, value) = (self.graph.node(marks), &self.values[marks.index()]);
            let right = self.linear(own, value.clone(), Some(tokens.single()))?;
            let kind = Kind::Product {
                left,
                right,
                factor: 1.0,
                add: Vec::new(),
                constant: 0.0,
            };
            let q = &self.quantities[left];
            let (shape, layout, bound) = (q.shape, q.layout.clone(), q.bound);
            let id = self.push(Quantity::of(node, kind, shape, layout, bound));
            self.settle(id)?;
            return Ok((id, factor));
        }
        let (bound, layout) = (self.bound(node)?, tokens.by_heads(heads));
        if let Some(Symbol::Turned { value, rotary }) = self.symbols.get(&id).cloned() {
            // a turn keeps the length of a pair
            let before = std::f64::consts::SQRT_2 * bound;
            let from = self.affine(node, value, Some(layout.clone()), before)?;
            return Ok((self.turn(node, from, rotary, bound), 1.0));
        }
        let value = self.values[id.index()].clone();
        if let Some(operand) = single(&value).filter(|o| o.constant == 0.0)
            && self.quantities[operand.id].layout == layout
        {
            return Ok((operand.id, operand.factor));
        }
        let id = self.affine(node, value, Some(layout), bound)?;
        Ok((id, 1.0))
    }

    fn turn(&mut self, node: &PolyNode, from: Id, rotary: Rotary, bound: f64) -> Id {
        let (shape, layout) = (
            self.quantities[from].shape,
            self.quantities[from].layout.clone(),
        );
        let op = LinearOp::Rotary {
            rotary,
            rows: shape.len(),
            length: shape.columns(),
            tokens: self.tokens.filter(|t| !t.whole()),
        };
        let link = Link {
            op,
            before: node.id(),
            terms: 1,
        };
        let kind = Kind::Linear {
            terms: vec![(from, vec![Arc::new(link)])],
            bias: vec![0.0; shape.len()],
        };
        self.push(Quantity::of(node, kind, shape, layout, bound))
    }

    pub(crate) fn moved(
        &mut self,
        node: &PolyNode,
        argument: Id,
        moves: Moves,
        layout: Layout,
    ) -> Id {
        let bound = self.quantities[argument].bound;
        let kind = Kind::Moved {
            argument,
            moves: Arc::new(moves),
        };
        let shape = layout.shape();
        self.push(Quantity {
            purpose: runtime::Purpose::Repacking,
            ..Quantity::of(node, kind, shape, layout, bound)
        })
    }

    /// So many copies of what a quantity holds, each moved in its way.
    fn copies(&mut self, node: &PolyNode, of: Id, heads: Heads, moves: Moves) -> Id {
        let Some(tokens) = self.tokens else { return of };
        let layout = tokens.copies(heads, moves.outputs.len());
        self.moved(node, of, moves, layout)
    }

    fn scores(
        &mut self,
        node: &PolyNode,
        conv: &Conv2d,
        (queries, keys): (NodeId, Rows),
        tokens: Tokens,
    ) -> Result<Expression, Error> {
        let channels = self.graph.shape(node.inputs()[0]).dims()[0];
        let heads = tokens.heads(conv.groups, channels / conv.groups);
        let heads = heads.ok_or_else(|| refused(node, "a head that no ciphertext holds"))?;
        let (q, a) = self.of_heads(queries, heads, tokens)?;
        let (k, b) = self.of_heads(keys.of, heads, tokens)?;
        let bound = self.bound(node)?;
        let count = |b: &Self, id: Id| b.quantities[id].layout.ciphertexts;
        let moves = tokens.turned(heads, count(self, q), Tokens::turns_of_queries(heads));
        let left = self.copies(node, q, heads, moves);
        let right = self.skewed(node, (k, b), keys.public, heads);
        let moves = tokens.delayed(heads, count(self, right));
        let right = self.copies(node, right, heads, moves);
        let seen = |t: usize, u: usize| tokens.sees(t, u, keys.boundary);
        let scores = tokens.scores(heads, seen);
        let shares = self.shares(node, tokens);
        let same = |s: &Vec<f32>| s.iter().all(|v| *v == s[0]);
        let (shares, times) = match shares {
            Some(s) if same(&s) => (None, f64::from(s[0])),
            other => (other, 1.0),
        };
        let moves = tokens.scored(&scores, |t, u| match (seen(t, u), &shares) {
            (true, Some(shares)) => shares[t],
            (seen, _) => f32::from(u8::from(seen)),
        });
        let kind = Kind::Dot {
            left,
            right,
            factor: a * b * times,
            pairs: tokens.scoring(&scores),
        };
        let id = self.parts(
            node,
            heads,
            (kind, bound),
            moves,
            tokens.by_distance(&scores),
        );
        self.scores.insert(id, scores);
        Ok(self.value(id))
    }

    /// Parts of sums, and then these.
    fn parts(
        &mut self,
        node: &PolyNode,
        heads: Heads,
        (kind, bound): (Kind, f64),
        moves: Moves,
        layout: Layout,
    ) -> Id {
        let Some(tokens) = self.tokens else { return 0 };
        let parts = tokens.copies(heads, moves.inputs);
        let id = self.push(Quantity::of(
            node,
            kind,
            parts.shape(),
            parts,
            PARTS * bound,
        ));
        let id = self.moved(node, id, moves, layout);
        self.quantities[id].bound = bound;
        id
    }

    /// What sums over a query's keys are multiplied by in public, at most 1, and for all of them the same: scores take its p-th root, p the power that they
    /// are raised to, and no sum is multiplied by anything.
    fn shares(&mut self, scores: &PolyNode, tokens: Tokens) -> Option<Vec<f32>> {
        let graph = self.graph;
        let users = |id: NodeId| self.consumers[id.index()].as_slice();
        let (mut x, mut power) = (scores.id(), 1.0);
        let last = loop {
            match *users(x) {
                // both operands of a square
                [a, b] | [a, b, ..] if a == b => (x, power) = (a, 2.0 * power),
                [a] if *graph.node(a).inputs() == [x, x] => (x, power) = (a, 2.0 * power),
                _ => break x,
            }
        };
        let (mut found, mut skipped): (Option<&[f32]>, Vec<NodeId>) = (None, Vec::new());
        for user in users(last) {
            // a sum, or a product and then one
            let sum = match (graph.node(*user).op(), users(*user)) {
                (Op::Conv2d(_), _) => *user,
                (Op::Mul, [sum]) => *sum,
                _ => return None,
            };
            let [times] = *users(sum) else { return None };
            let [a, b] = *graph.node(times).inputs() else {
                return None;
            };
            let (Op::Mul, Op::Constant(_, c)) = (
                graph.node(times).op(),
                graph.node(if a == sum { b } else { a }).op(),
            ) else {
                return None;
            };
            let c = c.values();
            let alike = c
                .chunks(tokens.length())
                .all(|row| *row == c[..tokens.length()]);
            if !alike || found.is_some_and(|f| f != c) {
                return None;
            }
            found = Some(c);
            skipped.push(times);
        }
        let shares = &found?[..tokens.length()];
        let small = shares.iter().all(|s| *s > 0.0 && *s <= 1.0);
        self.skipped.extend(skipped.iter().filter(|_| small));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "weights are kept in single precision"
        )]
        let root = |s: &f32| f64::from(*s).powf(1.0 / power) as f32;
        small.then(|| shares.iter().map(root).collect())
    }

    fn skewed(
        &mut self,
        node: &PolyNode,
        (of, factor): (Id, f64),
        public: Option<Arc<[f64]>>,
        heads: Heads,
    ) -> Id {
        let Some(tokens) = self.tokens else { return of };
        let public: Option<Vec<f64>> = public.map(|p| p.iter().map(|v| v / factor).collect());
        let count = self.quantities[of].layout.ciphertexts;
        let id = self.copies(
            node,
            of,
            heads,
            tokens.skewed(heads, count, public.as_deref()),
        );
        let most = public.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
        let q = &mut self.quantities[id];
        q.bound = q.bound.max(most);
        id
    }

    /// The scores that a value is made of, element by element.
    fn scores_of(&self, value: &Expression) -> Option<Scores> {
        let [(mut id, _)] = value.terms[..] else {
            return None;
        };
        loop {
            if let Some(scores) = self.scores.get(&id) {
                return Some(scores.clone());
            }
            let q = &self.quantities[id];
            match q.kind {
                Kind::Polynomial { .. } | Kind::Product { .. } => id = *q.sources().first()?,
                Kind::Moved { argument, .. } => id = argument,
                _ => return None,
            }
        }
    }

    /// Weights as one quantity, and what it is to be multiplied by.
    fn weights(&mut self, id: NodeId) -> Result<(Id, f64, Scores), Error> {
        let node = self.graph.node(id);
        let mut value = self.values[id.index()].clone();
        if let Some(id) = self.absorb(node, &value)? {
            value = self.value(id);
        }
        let no_weights = || refused(node, "weights that are no scores");
        let scores = self.scores_of(&value).ok_or_else(no_weights)?;
        let operand = single(&value).filter(|o| o.constant == 0.0);
        let operand = operand.ok_or_else(no_weights)?;
        Ok((operand.id, operand.factor, scores))
    }

    fn weighed(
        &mut self,
        node: &PolyNode,
        weights: NodeId,
        values: Rows,
        tokens: Tokens,
    ) -> Result<Expression, Error> {
        let (p, a, scores) = self.weights(weights)?;
        let heads = scores.heads;
        let (v, b) = self.of_heads(values.of, heads, tokens)?;
        let count = |b: &Self, id: Id| b.quantities[id].layout.ciphertexts;
        let moves = tokens.turned(heads, count(self, p), tokens.turns_of_weights(heads));
        let left = self.copies(node, p, heads, moves);
        let right = self.skewed(node, (v, b), values.public, heads);
        let moves = tokens.delivered(heads, count(self, right));
        let right = self.copies(node, right, heads, moves);
        let kind = Kind::Dot {
            left,
            right,
            factor: a * b,
            pairs: tokens.weighing(&scores),
        };
        let layout = tokens.by_heads(heads);
        let moves = tokens.summed(&scores, layout.ciphertexts);
        let bound = self.bound(node)?;
        let id = self.parts(node, heads, (kind, bound), moves, layout);
        Ok(self.value(id))
    }

    /// Sums over a query's keys.
    fn summed(&mut self, node: &PolyNode, tokens: Tokens) -> Result<Option<Expression>, Error> {
        let from = node.inputs()[0];
        let value = self.values[from.index()].clone();
        let Some(scores) = self.scores_of(&value) else {
            return Ok(None);
        };
        let (keys, times) = tokens.keys(&scores);
        let op = LinearOp::Keys {
            keys: keys.into(),
            weight: 1.0 / times as f64,
            head: scores.heads.size,
            length: tokens.length(),
            layout: tokens.sums(scores.heads),
        };
        let name = (2, Some(node.id()));
        Ok(Some(value.then(op, None, node.shape(), name, from)))
    }

    /// Scores times a mask, a constant by distance and query.
    fn masked(&mut self, node: &PolyNode, tokens: Tokens) -> Result<Option<Expression>, Error> {
        let [a, b] = [0, 1].map(|i| self.values[node.inputs()[i].index()].clone());
        let (value, mask) = match (a.terms.is_empty(), b.terms.is_empty()) {
            (false, true) => (a, b),
            (true, false) => (b, a),
            _ => return Ok(None),
        };
        let Some(scores) = self
            .scores_of(&value)
            .filter(|_| value.shape != node.shape())
        else {
            return Ok(None);
        };
        let length = tokens.length();
        let row = |t: usize, u: usize| (t + length - u) % length * length + t;
        // the same for all channels
        let mask = &mask.bias;
        #[expect(clippy::cast_possible_truncation, reason = "a mask of ones and zeros")]
        let moves = tokens.mask(&scores, |t, u| {
            mask.get(row(t, u)).map_or(0.0, |v| *v as f32)
        });
        let operand = single(&value).filter(|o| o.constant == 0.0 && o.factor == 1.0);
        let operand = operand.ok_or_else(|| refused(node, "a mask of what is no score"))?;
        let Some(moves) = moves else {
            return Ok(Some(value));
        };
        let layout = self.quantities[operand.id].layout.clone();
        let id = self.moved(node, operand.id, moves, layout);
        self.scores.insert(id, scores);
        Ok(Some(self.value(id)))
    }
}

/// The one place of a sequence that these chains read, behind nothing but what treats all places alike.
pub(crate) fn chosen(chains: &[&Chain], from: Shape) -> Option<usize> {
    let (_, 1, length) = from.as_image()? else {
        return None;
    };
    let place = |chain: &&Chain| {
        let selects = |l: &Arc<Link>| matches!(l.op, LinearOp::Select { stride: None, .. });
        let at = chain.iter().position(selects)?;
        let LinearOp::Select { index, .. } = &chain[at].op else {
            return None;
        };
        let before = chain[..at].to_vec();
        let between = Shape::image(index.len(), 1, length);
        columnwise(std::iter::once(&before), from, between)?;
        let first = *index.first()? as usize;
        let mut all = index.iter().enumerate();
        let alike = all.all(|(c, i)| *i as usize == first + c * length);
        (alike && first < length).then_some(first)
    };
    let mut places = chains.iter().map(place);
    let first = places.next()??;
    places.all(|p| p == Some(first)).then_some(first)
}

fn refused(node: &PolyNode, what: &str) -> Error {
    unsupported(
        node,
        format!("{what} is not known in coefficients"),
        "compile it with linear layers in slots",
    )
}
