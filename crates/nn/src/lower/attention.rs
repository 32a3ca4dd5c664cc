//! Attention: its scores, and what its scheme's circuit is written in.

use super::expand::{Expansion, First};
use super::program::Divisor;
use crate::Result;
use crate::attention::{Circuit, Order, Scheme, share};
use crate::error::Error;
use crate::graph::NodeId;
use crate::op::{Attention, Boundary, Op, Repeat, Unfold};
use crate::purpose::Purpose;
use crate::tensor::Parameter;
use approx::Program;

impl Expansion<'_> {
    /// `first` belongs to a public first token, which the sequence of `[q, k, v]` (and marks, where the mask takes them) then lacks.
    pub(super) fn attention(
        &mut self,
        name: &str,
        a: &Attention,
        program: Option<&Program>,
        inputs: &[NodeId],
        first: Option<&First>,
    ) -> Result<NodeId> {
        a.scheme
            .division()
            .map_err(|why| no_polynomial(name, why))?;
        let at = |part: &str| format!("{name}/{part}");
        let &[q, mut k, v, ref marks @ ..] = inputs else {
            return Err(self.refuse(name, "it has no queries, keys and values"));
        };
        if a.mask.order == Order::Kept && a.heads != a.kv_heads {
            return self.in_turns(name, a, program, [q, k, v]);
        }
        self.purpose(Purpose::Repacking);
        if let Some(&marks) = marks.first() {
            // A score is linear in its key: a key of zeros scores 0, as a product of the score would, on L times fewer values.
            let channels = self.shape(k).dims()[0];
            let marks = self.ones(&at("marks"), marks, (1, channels), 1)?;
            k = self.product(&at("keys/marked"), k, marks)?;
        }
        let Some((channels, _, width)) = self.shape(q).as_image() else {
            return Err(self.refuse(name, "its queries are no sequence"));
        };
        let boundary = match a.mask.order {
            Order::Causal => Some(Boundary::Causal),
            Order::Full | Order::Marked => Some(Boundary::Cyclic),
            // a key in each row already
            Order::Kept => None,
        };
        let rows = match (boundary, self.shape(k).as_image()) {
            (None, Some((_, rows, _))) => rows,
            _ => width + usize::from(first.is_some()),
        };
        let unfolded = |e: &mut Self, part: &str, x: NodeId, constant: Option<&[f64]>| {
            // copies for heads that share keys and values are part of the projection that makes these
            e.purpose(Purpose::Weights);
            let x = e.share_heads(&at(&format!("{part}/heads")), x, a)?;
            e.purpose(Purpose::Repacking);
            let x = match boundary {
                Some(boundary) => {
                    let unfold = Op::Unfold(Unfold { rows, boundary });
                    e.node(&at(&format!("{part}/unfolded")), unfold, &[x])?
                }
                None => x,
            };
            match constant {
                None => Ok(x),
                Some(values) => e.last_row(&at(part), x, &values_of_heads(values, a)),
            }
        };
        let keys = unfolded(self, "keys", k, first.map(|f| &f.key[..]))?;
        let values = unfolded(self, "values", v, first.map(|f| &f.value[..]))?;
        let q = self.affine(&at("scaled"), q, (a.scale, 0.0))?;
        let q = self.node(&at("queries"), Op::Repeat(Repeat { rows }), &[q])?;
        self.purpose(Purpose::Products);
        let products = self.product(&at("products"), q, keys)?;
        // Every channel of a head has the head's score, so that values are weighed without a map (and a level) between.
        let mut scores = self.ones(&at("scores"), products, (channels, channels), a.heads)?;
        self.purpose(Purpose::Attention);
        if let Some(mask) = self.mask(a, width, first.is_some()) {
            let shape = self.shape(scores);
            let mask = self.constant(&at("mask"), shape, mask.repeat(channels))?;
            scores = self.product(&at("masked"), scores, mask)?;
        }
        let mut rows = Rows {
            e: self,
            name,
            a,
            program,
            values,
            size: (channels, rows, width),
            hidden: usize::from(first.is_some()),
        };
        let y = a.scheme.circuit(&mut rows, scores)?;
        self.node(name, Op::Identity, &[y])
    }

    /// Attention of one query to keys and values that are kept and that its heads share: the heads take turns, so that what is kept is read as it lies. The division waits
    /// for all turns.
    fn in_turns(
        &mut self,
        name: &str,
        a: &Attention,
        program: Option<&Program>,
        [q, k, v]: [NodeId; 3],
    ) -> Result<NodeId> {
        let Some((channels, rows, width)) = self.shape(k).as_image() else {
            return Err(self.refuse(name, "its keys are no rows"));
        };
        let at = |turn: usize, part: &str| format!("{name}/turn{turn}/{part}");
        let q = self.affine(&format!("{name}/scaled"), q, (a.scale, 0.0))?;
        let head = channels / a.kv_heads;
        let mut scores = Vec::new();
        for turn in 0..a.heads / a.kv_heads {
            self.purpose(Purpose::Repacking);
            let own = self.grouped(
                &at(turn, "heads"),
                q,
                a.turn(&at(turn, "heads"), (turn, head), Way::Taken)?,
                a.kv_heads,
            )?;
            let repeat = Op::Repeat(Repeat { rows });
            let own = self.node(&at(turn, "queries"), repeat, &[own])?;
            self.purpose(Purpose::Products);
            let products = self.product(&at(turn, "products"), own, k)?;
            let size = (channels, channels);
            scores.push(self.ones(&at(turn, "scores"), products, size, a.kv_heads)?);
        }
        let mut turns = Turns {
            rows: Rows {
                e: self,
                name,
                a,
                program,
                values: v,
                size: (channels, rows, width),
                hidden: 0,
            },
            head,
            each: vec![scores],
        };
        let y = a.scheme.circuit(&mut turns, Turned::Each(0))?;
        let y = turns.whole(y)?;
        self.node(name, Op::Identity, &[y])
    }

    /// Which scores of `(R, L)` count, where not all do that the unfolding leaves: 1 or 0 by row (distance, the public token last) and column.
    fn mask(&self, a: &Attention, width: usize, public: bool) -> Option<Vec<f32>> {
        let hidden = usize::from(public);
        let valid = a.mask.valid?.saturating_sub(hidden);
        // A causal row of distance d begins with zeros; key i − d is hidden if it is padding.
        let row = |d: usize| {
            (0..width).map(move |i| {
                let key = (i + width - d) % width;
                f32::from(u8::from(key < valid))
            })
        };
        let mut mask: Vec<f32> = (0..width).flat_map(row).collect();
        if public {
            mask.extend(std::iter::repeat_n(1.0, width));
        }
        Some(mask)
    }

    /// x^p by squarings and products, p even.
    fn power(&mut self, name: &str, x: NodeId, p: u32) -> Result<NodeId> {
        // the largest power of two in p, and what is left: none, or the square or the fourth power
        let (largest, mut power, mut left) = (1 << p.ilog2(), x, None);
        let mut squarings = 1;
        while squarings < largest {
            if p & squarings != 0 {
                left = Some(power);
            }
            squarings *= 2;
            power = self.product(&format!("{name}{squarings}"), power, power)?;
        }
        match left {
            None => Ok(power),
            Some(left) => self.product(&format!("{name}{p}"), power, left),
        }
    }

    /// Keys or values for every head of the queries.
    fn share_heads(&mut self, name: &str, x: NodeId, a: &Attention) -> Result<NodeId> {
        if a.heads == a.kv_heads {
            return Ok(x);
        }
        let head = self.shape(x).dims()[0] / a.kv_heads;
        // One group a shared head: its `head` channels, `copies` times.
        let mut weight = Vec::with_capacity(a.heads * head * head);
        for to in 0..a.heads * head {
            weight.extend((0..head).map(|from| f32::from(u8::from(from == to % head))));
        }
        let weight = Parameter::new(name, [a.heads * head, head, 1, 1], weight)?;
        self.grouped(name, x, weight, a.kv_heads)
    }

    /// One number a channel in the last row, which is zeros.
    fn last_row(&mut self, name: &str, x: NodeId, values: &[f64]) -> Result<NodeId> {
        let shape = self.shape(x);
        let width = shape.columns();
        let plane = shape.len() / values.len().max(1);
        let mut constant = vec![0.0; shape.len()];
        for (plane_of, &v) in constant.chunks_mut(plane).zip(values) {
            plane_of[plane - width..].fill(v as f32);
        }
        let constant = self.constant(&format!("{name}/first"), shape, constant)?;
        self.add(&format!("{name}/rows"), x, constant)
    }

    /// Σ over the rows of `(C, R, L)`.
    fn sum_rows(
        &mut self,
        name: &str,
        x: NodeId,
        (channels, rows, _): (usize, usize, usize),
    ) -> Result<NodeId> {
        let weight = Parameter::new(name, [channels, 1, rows, 1], vec![1.0; channels * rows])?;
        self.grouped(name, x, weight, channels)
    }
}

/// One number a channel of keys or values, for every head of the queries.
fn values_of_heads(values: &[f64], a: &Attention) -> Vec<f64> {
    let head = values.len() / a.kv_heads;
    let copies = a.heads / a.kv_heads;
    values
        .chunks(head)
        .flat_map(|group| std::iter::repeat_n(group, copies).flatten().copied())
        .collect()
}

/// Which way channels go between all heads and those of one turn.
#[derive(Clone, Copy)]
enum Way {
    /// From all.
    Taken,
    /// To all.
    Given,
}

impl Attention {
    /// The channels of one turn, the same of each group of heads: a convolution's weights, in a group for each shared head.
    fn turn(&self, name: &str, (turn, head): (usize, usize), way: Way) -> Result<Parameter> {
        let all = self.heads / self.kv_heads * head;
        let one = |c: usize, of: usize| f32::from(u8::from(of == turn * head + c));
        let group: Vec<f32> = match way {
            Way::Taken => (0..head)
                .flat_map(|c| (0..all).map(move |of| one(c, of)))
                .collect(),
            Way::Given => (0..all)
                .flat_map(|of| (0..head).map(move |c| one(c, of)))
                .collect(),
        };
        let (to, from) = match way {
            Way::Taken => (head, all),
            Way::Given => (all, head),
        };
        let shape = [self.kv_heads * to, from, 1, 1];
        Parameter::new(name, shape, group.repeat(self.kv_heads))
    }
}

/// Why a scheme is refused.
pub(super) fn no_polynomial(node: &str, why: &str) -> Error {
    Error::invalid(node, "Attention", why)
}

/// An attention's circuit from its scores on: values `(C, R, L)`, one row for each distance.
struct Rows<'r, 'e> {
    e: &'r mut Expansion<'e>,
    name: &'r str,
    a: &'r Attention,
    program: Option<&'r Program>,
    values: NodeId,
    /// Channels C, rows R, columns L.
    size: (usize, usize, usize),
    /// Columns before the first of these.
    hidden: usize,
}

impl Rows<'_, '_> {
    fn at(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }
}

/// A value of each turn, by number, or of all heads.
#[derive(Clone, Copy)]
enum Turned {
    Each(usize),
    Whole(NodeId),
}

/// An attention's circuit whose heads take turns.
struct Turns<'r, 'e> {
    rows: Rows<'r, 'e>,
    /// Channels of a head.
    head: usize,
    each: Vec<Vec<NodeId>>,
}

impl Turns<'_, '_> {
    fn at(&self, turn: usize, part: &str) -> String {
        format!("{}/turn{turn}/{part}", self.rows.name)
    }

    fn of(&self, x: Turned) -> Result<Vec<NodeId>> {
        match x {
            Turned::Each(i) => Ok(self.each[i].clone()),
            Turned::Whole(_) => {
                let name = self.rows.name;
                Err(self
                    .rows
                    .e
                    .refuse(name, "its scheme goes back from all heads to a turn"))
            }
        }
    }

    fn whole(&self, x: Turned) -> Result<NodeId> {
        match x {
            Turned::Whole(x) => Ok(x),
            Turned::Each(_) => {
                let name = self.rows.name;
                Err(self
                    .rows
                    .e
                    .refuse(name, "its scheme ends before rows are summed"))
            }
        }
    }

    fn map(
        &mut self,
        x: Turned,
        mut f: impl FnMut(&mut Self, usize, NodeId) -> Result<NodeId>,
    ) -> Result<Turned> {
        let mut made = Vec::new();
        for (turn, x) in self.of(x)?.into_iter().enumerate() {
            made.push(f(self, turn, x)?);
        }
        self.each.push(made);
        Ok(Turned::Each(self.each.len() - 1))
    }

    /// The sum over the rows of every turn, at the heads' places.
    fn joined(&mut self, x: Turned, part: &str) -> Result<Turned> {
        let (a, head, size) = (self.rows.a, self.head, self.rows.size);
        let mut whole = None;
        for (turn, x) in self.of(x)?.into_iter().enumerate() {
            let sum = self.rows.e.sum_rows(&self.at(turn, part), x, size)?;
            let name = self.at(turn, &format!("{part}/heads"));
            let weight = a.turn(&name, (turn, head), Way::Given)?;
            let own = self.rows.e.grouped(&name, sum, weight, a.kv_heads)?;
            whole = Some(match whole {
                None => own,
                Some(others) => {
                    let name = self.at(turn, &format!("{part}/joined"));
                    self.rows.e.add(&name, others, own)?
                }
            });
        }
        let none = || Error::not_lowered(self.rows.name, "Attention");
        whole.map(Turned::Whole).ok_or_else(none)
    }
}

impl Circuit for Turns<'_, '_> {
    type Value = Turned;

    fn power(&mut self, x: Turned, p: u32) -> Result<Turned> {
        self.rows.e.purpose(Purpose::Attention);
        self.map(x, |t, turn, x| t.rows.e.power(&t.at(turn, "power"), x, p))
    }

    fn weigh(&mut self, numerators: Turned) -> Result<Turned> {
        self.rows.e.purpose(Purpose::Products);
        self.map(numerators, |t, turn, x| {
            let values = t.rows.values;
            t.rows.e.product(&t.at(turn, "weighed"), x, values)
        })
    }

    fn sum(&mut self, numerators: Turned) -> Result<Turned> {
        self.rows.e.purpose(Purpose::Attention);
        self.joined(numerators, "sum")
    }

    fn sum_weighed(&mut self, weighed: Turned) -> Result<Turned> {
        self.rows.e.purpose(Purpose::Products);
        self.joined(weighed, "numerator")
    }

    fn mean<const N: usize>(&mut self, _: [Turned; N]) -> Result<[Turned; N]> {
        // zeros weigh in a mean
        let name = self.rows.name;
        Err(self
            .rows
            .e
            .refuse(name, "a mean over places that may be empty"))
    }

    fn divide(&mut self, weighed: Turned, sums: Turned, epsilon: f64) -> Result<Turned> {
        let (weighed, sums) = (self.whole(weighed)?, self.whole(sums)?);
        let quotient = self.rows.divide(weighed, sums, epsilon)?;
        Ok(Turned::Whole(quotient))
    }
}

impl Circuit for Rows<'_, '_> {
    type Value = NodeId;

    fn power(&mut self, x: NodeId, p: u32) -> Result<NodeId> {
        self.e.purpose(Purpose::Attention);
        self.e.power(&self.at("power"), x, p)
    }

    fn weigh(&mut self, numerators: NodeId) -> Result<NodeId> {
        self.e.purpose(Purpose::Products);
        self.e.product(&self.at("weighed"), numerators, self.values)
    }

    fn sum(&mut self, numerators: NodeId) -> Result<NodeId> {
        self.e.purpose(Purpose::Attention);
        self.e.sum_rows(&self.at("sum"), numerators, self.size)
    }

    fn sum_weighed(&mut self, weighed: NodeId) -> Result<NodeId> {
        self.e.purpose(Purpose::Products);
        self.e.sum_rows(&self.at("numerator"), weighed, self.size)
    }

    fn mean<const N: usize>(&mut self, mut sums: [NodeId; N]) -> Result<[NodeId; N]> {
        self.e.purpose(Purpose::Attention);
        let (channels, _, width) = self.size;
        let visible = |i| (self.a.mask).visible(i + self.hidden, width + self.hidden);
        let shares: Vec<f32> = (0..width).map(|i| share(visible(i)) as f32).collect();
        let Some(&first) = sums.first() else {
            return Ok(sums);
        };
        let shape = self.e.shape(first);
        let shares = self
            .e
            .constant(&self.at("shares"), shape, shares.repeat(channels))?;
        for (sum, part) in sums.iter_mut().zip(["mean", "numerator/mean"]) {
            *sum = self.e.product(&self.at(part), *sum, shares)?;
        }
        Ok(sums)
    }

    fn divide(&mut self, weighed: NodeId, sums: NodeId, epsilon: f64) -> Result<NodeId> {
        self.e.purpose(Purpose::Attention);
        let missing = || Error::not_lowered(self.name, "Attention");
        let program = self.program.ok_or_else(missing)?;
        let divisor = Divisor {
            node: sums,
            scale: 1.0,
            shift: epsilon,
        };
        let spread = |_: &mut Expansion<'_>, _: &str, x| Ok(x);
        self.e
            .quotient(&self.at("division"), program, &divisor, weighed, spread)
    }
}
