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
