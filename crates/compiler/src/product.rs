//! Products: what they take in and what they become part of, so that multiples, constants, sums and copies cost no level.
//!
//! An operand a·x + a₀ is no map of its own: (a·x + a₀)·(b·y + b₀) = ab·xy + ab₀·x + a₀b·y + a₀b₀ is one product with summands. A sum
//! Σ c·v + c₀ that holds a product is that product with more summands ([`Builder::absorb`]). Copies ([`LinearOp::copies`]) that lie where
//! the other operand needs them, because a ciphertext repeats with its period, are read where they are.
//!
//! [`LinearOp::copies`]: crate::linear_op::LinearOp::copies

use crate::error::Error;
use crate::layout::Layout;
use crate::linear_op::{LinearOp, Link, chain_row};
use crate::normal::{Builder, Expression, Id, Kind, Normal, Quantity};
use crate::schedule::Reserve;
use nn::{NodeId, Op, PolyNode};
use runtime::operation::LARGEST_VALUE;
use std::sync::Arc;

/// Products whose plan values may be larger than this keep a level in reserve: at level 0, 2^10 is left above the scale.
pub(crate) const LARGEST_AT_THE_BOTTOM: f64 = 64.0;

/// Σ c·v + constant.
struct Scalar {
    terms: Vec<(f64, Id)>,
    constant: f64,
}

/// factor·v + constant, in the places of the product.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) id: Id,
    pub(crate) factor: f64,
    pub(crate) constant: f64,
    /// Whether it is a map that serves nothing else.
    made: bool,
}

impl Expression {
    /// As a sum of multiples and one constant, if it is that.
    fn scalar(&self) -> Option<Scalar> {
        let constant = *self.bias.first()?;
        if self.bias.iter().any(|&b| b != constant) {
            return None;
        }
        let mut terms: Vec<(f64, Id)> = Vec::new();
        for (id, chain) in &self.terms {
            let mut c = 1.0;
            for link in chain {
                c *= link.op.scalar()?;
            }
            match terms.iter_mut().find(|t| t.1 == *id) {
                Some(t) => t.0 += c,
                None => terms.push((c, *id)),
            }
        }
        terms
            .iter()
            .all(|t| t.0 != 0.0)
            .then_some(Scalar { terms, constant })
    }
}

impl Builder<'_> {
    pub(crate) fn product(&mut self, node: &PolyNode) -> Result<Expression, Error> {
        let [a, b] = [0, 1].map(|i| node.inputs()[i]);
        for input in [a, b] {
            let value = self.values[input.index()].clone();
            if let Some(id) = self.absorb(self.graph.node(input), &value)? {
                self.values[input.index()] = self.value(id);
            }
        }
        let [x, y] = [a, b].map(|i| self.values[i.index()].clone());
        if x.terms.is_empty() || y.terms.is_empty() {
            let (constant, value, from) = if x.terms.is_empty() {
                (x, y, b)
            } else {
                (y, x, a)
            };
            let op = LinearOp::Diagonal {
                rows: constant.bias.len(),
                factors: constant.bias,
                inner: 1,
            };
            let shape = value.shape;
            return Ok(value.then(op, None, shape, (1, Some(node.id())), from));
        }
        let bound = self.bound(node)?;
        let [left, right] = if a == b {
            let operand = self.anchor(a, &x)?;
            [operand, operand]
        } else {
            // the layout is that of an operand that exists, or that no copies make
            let rank = |b: &Self, e: &Expression| match e.scalar() {
                Some(s) if s.terms.len() == 1 => b.quantities[s.terms[0].1].layout.extent() * 4,
                _ if copied(e).is_none() => b.tokens_layout(e).map_or(2, |l| l.extent() * 4 - 1),
                _ => 1,
            };
            let swap = rank(self, &y) > rank(self, &x);
            let ((a, x), (b, y)) = if swap {
                ((b, y), (a, x))
            } else {
                ((a, x), (b, y))
            };
            let first = self.anchor(a, &x)?;
            let layout = self.quantities[first.id].layout.clone();
            let second = self.beside(b, &y, &layout)?;
            if swap {
                [second, first]
            } else {
                [first, second]
            }
        };
        let mut add = vec![
            (left.factor * right.constant, left.id),
            (left.constant * right.factor, right.id),
        ];
        add.retain(|a| a.0 != 0.0);
        let wide = [left.id, right.id]
            .into_iter()
            .max_by_key(|&id| self.quantities[id].layout.extent())
            .unwrap_or(left.id);
        let plain = add.is_empty();
        let kind = Kind::Product {
            left: left.id,
            right: right.id,
            factor: left.factor * right.factor,
            add,
            constant: left.constant * right.constant,
        };
        let wide = &self.quantities[wide];
        let (shape, layout) = (wide.shape, wide.layout.clone());
        let id = self.push(Quantity::of(node, kind, shape, layout, bound));
        self.settle(id)?;
        // one factor that can take any unit keeps a product small enough to be bootstrapped
        if let (true, Some(made)) = (plain, [right, left].into_iter().find(|o| o.made)) {
            self.quantities[made.id].feeds = Some(id);
        }
        Ok(self.value(id))
    }

    /// Sets a product's integer factor and its reach.
    pub(crate) fn settle(&mut self, id: Id) -> Result<(), Error> {
        let q = &self.quantities[id];
        let Kind::Product {
            left,
            right,
            factor,
            ..
        } = &q.kind
        else {
            return Ok(());
        };
        let unit = factor.abs()
            * self.quantities[*left].nominal_unit()
            * self.quantities[*right].nominal_unit();
        let (times, reach) = fill(q.bound / unit, 1.0);
        if reach > LARGEST_VALUE {
            return Err(Error::Unsupported {
                layer: q.layer.clone(),
                operator: "Mul".into(),
                reason: format!(
                    "its values grow to {reach:.0} times their operands', at most {LARGEST_VALUE:.0} are supported"
                ),
                remedy: "ask divisions for fewer bits, or train for a narrower range of what they divide by",
            });
        }
        let q = &mut self.quantities[id];
        (q.times, q.reach) = (times, reach);
        Ok(())
    }

    /// The operand that gives the product its layout.
    fn anchor(&mut self, node: NodeId, value: &Expression) -> Result<Operand, Error> {
        if let Some(operand) = single(value) {
            return Ok(operand);
        }
        let id = self.linear(self.graph.node(node), value.clone(), None)?;
        Ok(made(id))
    }

    /// The other operand, in the same places.
    fn beside(
        &mut self,
        node: NodeId,
        value: &Expression,
        layout: &Layout,
    ) -> Result<Operand, Error> {
        if let Some(operand) = single(value)
            && self.quantities[operand.id].layout == *layout
        {
            return Ok(operand);
        }
        if let Some(operand) = single(value).filter(|_| self.tokens.is_some()) {
            let source = &self.quantities[operand.id].layout;
            if lies_there(&[], source, layout, [&value.bias, &value.bias]) {
                return Ok(operand);
            }
        }
        if let Some((from, suffix)) = copied(value) {
            let mut inner = self.values[from.index()].clone();
            if let Some(id) = self.absorb(self.graph.node(from), &inner)? {
                inner = self.value(id);
                self.values[from.index()] = inner.clone();
            }
            let operand = single(&inner);
            let source = match operand {
                Some(o) => self.quantities[o.id].layout.clone(),
                None => self.layout_of(self.graph.node(from).name(), &inner)?,
            };
            if lies_there(&suffix, &source, layout, [&inner.bias, &value.bias]) {
                return Ok(match operand {
                    Some(o) => o,
                    None => {
                        let id = self.linear(self.graph.node(from), inner, None)?;
                        self.values[from.index()] = self.value(id);
                        Operand {
                            made: self.consumers[from.index()].len() == 1,
                            ..made(id)
                        }
                    }
                });
            }
        }
        let id = self.linear(self.graph.node(node), value.clone(), Some(layout.clone()))?;
        Ok(made(id))
    }

    /// A sum of multiples with a product among them as one product with more summands; None where that is not what it is, or would only
    /// repeat a product that is needed anyway.
    pub(crate) fn absorb(
        &mut self,
        node: &PolyNode,
        value: &Expression,
    ) -> Result<Option<Id>, Error> {
        let Some(sum) = value.scalar() else {
            return Ok(None);
        };
        let is_product = |id: Id| matches!(self.quantities[id].kind, Kind::Product { .. });
        let Some(&(c, p)) = sum
            .terms
            .iter()
            .filter(|t| is_product(t.1))
            .max_by_key(|t| t.1)
        else {
            return Ok(None);
        };
        let layout = &self.quantities[p].layout;
        let alone = sum.terms.len() == 1;
        if alone && (sum.constant == 0.0 || !self.exclusive(node))
            || sum
                .terms
                .iter()
                .any(|t| self.quantities[t.1].layout != *layout)
        {
            return Ok(None);
        }
        let Kind::Product {
            left,
            right,
            factor,
            add,
            constant,
        } = &self.quantities[p].kind
        else {
            return Ok(None);
        };
        let mut add: Vec<(f64, Id)> = add.iter().map(|&(d, v)| (c * d, v)).collect();
        for &(d, v) in sum.terms.iter().filter(|t| t.1 != p) {
            match add.iter_mut().find(|a| a.1 == v) {
                Some(a) => a.0 += d,
                None => add.push((d, v)),
            }
        }
        add.retain(|a| a.0 != 0.0);
        let quantity = Quantity {
            kind: Kind::Product {
                left: *left,
                right: *right,
                factor: c * factor,
                add,
                constant: c * constant + sum.constant,
            },
            bound: self.bound(node)?,
            feeds: None,
            ..self.quantities[p].clone()
        };
        let id = self.push(quantity);
        self.settle(id)?;
        Ok(Some(id))
    }

    /// Whether the product that `node` is a multiple of, plus a constant, serves nothing else.
    fn exclusive(&self, node: &PolyNode) -> bool {
        let constant = |id: &&NodeId| matches!(self.graph.node(**id).op(), Op::Constant(..));
        let Some(&from) = node.inputs().iter().find(|id| !constant(id)) else {
            return false;
        };
        if node.inputs().iter().filter(|id| !constant(id)).count() > 1 {
            // the product itself
            return true;
        }
        self.consumers[from.index()].len() == 1 && self.exclusive(self.graph.node(from))
    }
}

impl Normal {
    /// The levels that quantity `v` needs to be left.
    pub(crate) fn reserve(&self, v: Id) -> Reserve {
        let q = &self.quantities[v];
        let Kind::Product { left, right, .. } = &q.kind else {
            return Reserve::default();
        };
        // before it is multiplied by an integer
        let magnitude = q.reach / f64::from(q.times);
        let halved = [left, right]
            .into_iter()
            .any(|&w| self.quantities[w].feeds == Some(v));
        let fits = magnitude <= if halved { 1.0 } else { 0.5 };
        Reserve {
            always: usize::from(q.reach > LARGEST_AT_THE_BOTTOM),
            refresh: usize::from(!fits),
        }
    }
}

/// The largest integer that keeps `magnitude` within `most`, at least 1, and what the magnitude becomes.
pub(crate) fn fill(magnitude: f64, most: f64) -> (u32, f64) {
    let times = (most * (1.0 + 1e-12) / magnitude)
        .floor()
        .clamp(1.0, 1024.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 1024"
    )]
    (times as u32, times * magnitude)
}

pub(crate) fn single(value: &Expression) -> Option<Operand> {
    match value.scalar()? {
        Scalar { terms, constant } if terms.len() == 1 => Some(Operand {
            id: terms[0].1,
            factor: terms[0].0,
            constant,
            made: false,
        }),
        _ => None,
    }
}

fn made(id: Id) -> Operand {
    Operand {
        id,
        factor: 1.0,
        constant: 0.0,
        made: true,
    }
}

/// The node whose value is copied, and how, if the last that is done to a value is copying.
fn copied(value: &Expression) -> Option<(NodeId, Vec<Arc<Link>>)> {
    let longest = &value.terms.first()?.1;
    let shared = |l: &Arc<Link>, back: usize| {
        value.terms.iter().all(|t| {
            t.1.len()
                .checked_sub(back + 1)
                .is_some_and(|i| Arc::ptr_eq(&t.1[i], l))
        })
    };
    let count = longest
        .iter()
        .rev()
        .enumerate()
        .take_while(|(back, l)| l.op.copies() && shared(l, *back))
        .count();
    let suffix = longest[longest.len() - count..].to_vec();
    Some((suffix.first()?.before, suffix))
}

/// Whether copies of what lies in `source` lie in `layout`'s places, read with the source's period, and nothing is added to them.
fn lies_there(suffix: &[Arc<Link>], source: &Layout, layout: &Layout, bias: [&[f64]; 2]) -> bool {
    if source.period > layout.period || !layout.ciphertexts.is_multiple_of(source.ciphertexts) {
        return false;
    }
    let from = source.places();
    layout
        .places()
        .into_iter()
        .enumerate()
        .all(|(r, (ciphertext, slot))| {
            let mut there = true;
            chain_row(suffix, r, 1.0, &mut |c, _| {
                let (ct, s) = from[c];
                there &= ct as usize == ciphertext as usize % source.ciphertexts
                    && s as usize == slot as usize % source.period
                    && bias[0][c] == bias[1][r];
            });
            there
        })
}
