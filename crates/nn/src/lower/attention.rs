//! Power-Softmax attention and rotary positions.

use super::expand::Expansion;
use super::program::Divisor;
use crate::Result;
use crate::attention::{AttentionScheme, Denominator, Order};
use crate::error::Error;
use crate::graph::NodeId;
use crate::op::{Attention, Boundary, Conv2d, Op, Pad, Padding, Repeat, Rotary, Unfold};
use crate::pieces::share;
use crate::tensor::{Parameter, Shape};
use approx::Program;

/// Why softmax is refused.
pub(super) fn no_polynomial(node: &str) -> Error {
    Error::Invalid {
        node: node.into(),
        operator: "Attention".into(),
        detail:
            "softmax has no polynomial form here; take Power-Softmax and train the network with it"
                .into(),
    }
}

/// Key and value of the public first token, one number a channel.
pub(super) struct First {
    pub(super) key: Vec<f64>,
    pub(super) value: Vec<f64>,
}

impl Expansion<'_> {
    /// `first` belongs to a public first token, which the sequence of `[q, k, v]` then lacks.
    pub(super) fn attention(
        &mut self,
        name: &str,
        a: &Attention,
        program: &Program,
        [q, k, v]: [NodeId; 3],
        first: Option<&First>,
    ) -> Result<NodeId> {
        let AttentionScheme::Power(power) = a.scheme else {
            return Err(no_polynomial(name));
        };
        let at = |part: &str| format!("{name}/{part}");
        let Shape::Image {
            channels, width, ..
        } = self.shape(q)
        else {
            return Err(self.refuse(name, "its queries are no sequence"));
        };
        let (heads, head) = (a.heads, channels / a.heads);
        let boundary = match a.mask.order {
            Order::Causal => Boundary::Causal,
            Order::Full => Boundary::Cyclic,
        };
        let rows = width + usize::from(first.is_some());
        let unfolded = |e: &mut Self, part: &str, x: NodeId, constant: Option<&[f64]>| {
            let x = e.share_heads(&at(&format!("{part}/heads")), x, a)?;
            let unfold = Op::Unfold(Unfold {
                rows: width,
                boundary,
            });
            let x = e.node(&at(&format!("{part}/unfolded")), unfold, &[x])?;
            match constant {
                None => Ok(x),
                Some(values) => e.last_row(&at(part), x, &values_of_heads(values, a)),
            }
        };
        let keys = unfolded(self, "keys", k, first.map(|f| &f.key[..]))?;
        let values = unfolded(self, "values", v, first.map(|f| &f.value[..]))?;
        let q = self.affine(&at("scaled"), q, (a.scale, 0.0))?;
        let q = self.node(&at("queries"), Op::Repeat(Repeat { rows }), &[q])?;
        let products = self.product(&at("products"), q, keys)?;
        let mut scores = self.ones(&at("scores"), products, (channels, heads), heads)?;
        if let Some(mask) = self.mask(a, width, first.is_some()) {
            let shape = self.shape(scores);
            let mask = self.constant(&at("mask"), shape, mask.repeat(heads))?;
            scores = self.product(&at("masked"), scores, mask)?;
        }
        let powers = self.power(&at("power"), scores, power.exponent())?;

        // Sums over the distances, on all of which the division waits.
        let sum = self.sum_rows(&at("sum"), powers, (heads, rows))?;
        let weights = self.ones(&at("weights"), powers, (heads, channels), heads)?;
        let weighed = self.product(&at("weighed"), weights, values)?;
        let mut numerator = self.sum_rows(&at("numerator"), weighed, (channels, rows))?;
        let mut node = sum;
        if power.denominator() == Denominator::Mean {
            let hidden = usize::from(first.is_some());
            let shares: Vec<f32> = (0..width)
                .map(|i| share(power, a.mask.visible(i + hidden, width + hidden)) as f32)
                .collect();
            let shape = self.shape(sum);
            let shares_of_heads = self.constant(&at("shares"), shape, shares.repeat(heads))?;
            node = self.product(&at("mean"), sum, shares_of_heads)?;
            let shape = self.shape(numerator);
            let all = self.constant(&at("numerator.shares"), shape, shares.repeat(channels))?;
            numerator = self.product(&at("numerator.mean"), numerator, all)?;
        }
        let divisor = Divisor {
            node,
            scale: 1.0,
            shift: power.epsilon(),
        };
        let spread = |e: &mut Self, name: &str, x| e.ones(name, x, (heads, channels), heads);
        debug_assert_eq!(channels, heads * head);
        let y = self.quotient(&at("division"), program, &divisor, numerator, spread)?;
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
        let square = self.product(&format!("{name}2"), x, x)?;
        match p {
            2 => Ok(square),
            4 | 8 | 12 if p % 4 == 0 => {
                let fourth = self.product(&format!("{name}4"), square, square)?;
                match p {
                    4 => Ok(fourth),
                    _ => {
                        let eighth = self.product(&format!("{name}8"), fourth, fourth)?;
                        if p == 8 {
                            return Ok(eighth);
                        }
                        self.product(&format!("{name}12"), eighth, fourth)
                    }
                }
            }
            _ => {
                let fourth = self.product(&format!("{name}4"), square, square)?;
                if p == 6 {
                    return self.product(&format!("{name}6"), fourth, square);
                }
                let eighth = self.product(&format!("{name}8"), fourth, fourth)?;
                self.product(&format!("{name}10"), eighth, square)
            }
        }
    }

    /// Keys or values for every head of the queries.
    fn share_heads(&mut self, name: &str, x: NodeId, a: &Attention) -> Result<NodeId> {
        if a.heads == a.kv_heads {
            return Ok(x);
        }
        let Shape::Image { channels, .. } = self.shape(x) else {
            return Err(self.refuse(name, "it is no sequence"));
        };
        let head = channels / a.kv_heads;
        let copies = a.heads / a.kv_heads;
        // One group a shared head: its `head` channels, `copies` times.
        let mut weight = Vec::with_capacity(a.heads * head * head);
        for to in 0..a.heads * head {
            weight.extend((0..head).map(|from| f32::from(u8::from(from == to % head))));
        }
        debug_assert_eq!(weight.len(), a.kv_heads * copies * head * head);
        let weight = Parameter::new(name, [a.heads * head, head, 1, 1], weight)?;
        let conv = Conv2d {
            groups: a.kv_heads,
            ..Conv2d::new(weight)
        };
        self.node(name, Op::Conv2d(conv), &[x])
    }

    /// One row more, which holds one number a channel.
    fn last_row(&mut self, name: &str, x: NodeId, values: &[f64]) -> Result<NodeId> {
        let pad = Pad {
            channels: (0, 0),
            spatial: Padding {
                bottom: 1,
                ..Padding::default()
            },
        };
        let padded = self.node(&format!("{name}/padded"), Op::Pad(pad), &[x])?;
        let shape = self.shape(padded);
        let Shape::Image { height, width, .. } = shape else {
            return Err(self.refuse(name, "it is no image"));
        };
        let mut constant = vec![0.0; shape.len()];
        for (plane, &v) in constant.chunks_mut(height * width).zip(values) {
            plane[(height - 1) * width..].fill(v as f32);
        }
        let constant = self.constant(&format!("{name}/first"), shape, constant)?;
        self.add(&format!("{name}/rows"), padded, constant)
    }

    /// Σ over the rows of `(C, R, L)`.
    fn sum_rows(
        &mut self,
        name: &str,
        x: NodeId,
        (channels, rows): (usize, usize),
    ) -> Result<NodeId> {
        let weight = Parameter::new(name, [channels, 1, rows, 1], vec![1.0; channels * rows])?;
        let conv = Conv2d {
            groups: channels,
            ..Conv2d::new(weight)
        };
        self.node(name, Op::Conv2d(conv), &[x])
    }

    /// x·cos + x'·sin, x' the pairs' partners with their signs.
    pub(super) fn rotary(&mut self, name: &str, r: &Rotary, x: NodeId) -> Result<NodeId> {
        let shape = self.shape(x);
        let Shape::Image {
            channels, width, ..
        } = shape
        else {
            return Err(self.refuse(name, "it is no sequence"));
        };
        let heads = channels / r.head;
        let mut partner = vec![0.0f32; channels * r.head];
        let mut cos = vec![1.0f32; shape.len()];
        let mut sin = vec![0.0f32; shape.len()];
        for h in 0..heads {
            for k in 0..r.rotated / 2 {
                let (a, b) = r.pair(k);
                let row = |c: usize| h * r.head + c;
                partner[row(a) * r.head + b] = -1.0;
                partner[row(b) * r.head + a] = 1.0;
                for t in 0..width {
                    let (s, c) = r.turn(k, t);
                    for channel in [row(a), row(b)] {
                        cos[channel * width + t] = c;
                        sin[channel * width + t] = s;
                    }
                }
            }
        }
        let at = |part: &str| format!("{name}/{part}");
        let weight = Parameter::new(name, [channels, r.head, 1, 1], partner)?;
        let conv = Conv2d {
            groups: heads,
            ..Conv2d::new(weight)
        };
        let partner = self.node(&at("partner"), Op::Conv2d(conv), &[x])?;
        let cos = self.constant(&at("cos"), shape, cos)?;
        let sin = self.constant(&at("sin"), shape, sin)?;
        let straight = self.product(&at("straight"), x, cos)?;
        let across = self.product(&at("across"), partner, sin)?;
        self.add(name, straight, across)
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
