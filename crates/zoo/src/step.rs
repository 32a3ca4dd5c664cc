//! One token of a language model against the keys and values of those before it.
//!
//! The graph is that of the whole sequence for a single token, block by block and name by name; what differs is attention. Each block keeps its keys and its values,
//! `(H'·d, 1, 1)` a token, as rows of `(H'·d, R, 1)` for R tokens; where this token's go, and by which angles its queries and keys turn, comes in as inputs of
//! their own. So one graph serves every position, and only whoever makes the inputs has to know it.
//!
//! A row is written once and only read afterwards: `after = before + place·new`, where the place is 1 in one row. Rows that are still zeros score 0 and weigh
//! nothing in Power-Softmax over the sum. A token reads what it has just written, as a query of the whole sequence sees its own key.

use crate::blocks::{Blocks, Heads, Recall, Sizes};
use nn::attention::Mask;
use nn::{
    Attention, Conv2d, Error, Graph, Kept, NetworkBuilder, NodeId, Nonlinearity, Op, Parameter,
    Repeat, Result, Rotary, Shape, Tensor,
};

impl Blocks<'_> {
    /// Attention of one token to those before it and itself.
    pub(crate) fn recalled(
        &mut self,
        name: &str,
        heads: &Heads,
        rotary: Rotary,
        mut recall: Recall,
        [q, k, v]: [NodeId; 3],
    ) -> Result<(NodeId, Recall)> {
        recall.rotary = Some(rotary);
        let q = self.turned(&format!("{name}.query_rotary"), &rotary, &mut recall, q)?;
        let k = self.turned(&format!("{name}.key_rotary"), &rotary, &mut recall, k)?;
        let k = self.written(&format!("{name}.keys"), &mut recall, k)?;
        let v = self.written(&format!("{name}.values"), &mut recall, v)?;
        let attention = Attention {
            heads: heads.sizes.heads,
            kv_heads: heads.sizes.kv_heads,
            scale: 1.0 / (heads.sizes.head as f64).sqrt(),
            mask: Mask::KEPT,
            scheme: heads.scheme,
        };
        let attended = self.add(name, Op::Attention(attention), &[q, k, v])?;
        Ok((attended, recall))
    }

    /// x·cos + x′·sin, x′ the other channel of each pair.
    fn turned(
        &mut self,
        name: &str,
        rotary: &Rotary,
        recall: &mut Recall,
        x: NodeId,
    ) -> Result<NodeId> {
        let channels = self.network.shape(x).dims()[0];
        let [cos, sin] = self.turns(rotary, recall, channels)?;
        let head = rotary.head;
        let mut weight = vec![0.0; head * head];
        for pair in 0..rotary.rotated / 2 {
            let (a, b) = rotary.pair(pair);
            weight[a * head + b] = -1.0;
            weight[b * head + a] = 1.0;
        }
        let other = format!("{name}.other");
        let weight = weight.repeat(channels / head);
        let weight = Parameter::new(&other, [channels, head, 1, 1], weight)?;
        let conv = Conv2d {
            groups: channels / head,
            ..Conv2d::new(weight)
        };
        let turned = self.add(&other, Op::Conv2d(conv), &[x])?;
        let along = self.add(&format!("{name}.cos"), Op::Mul, &[x, cos])?;
        let across = self.add(&format!("{name}.sin"), Op::Mul, &[turned, sin])?;
        self.add(name, Op::Add, &[along, across])
    }

    /// Cosines and sines for the channels of all heads.
    fn turns(
        &mut self,
        rotary: &Rotary,
        recall: &mut Recall,
        channels: usize,
    ) -> Result<[NodeId; 2]> {
        if let Some(known) = recall.turns.get(&channels) {
            return Ok(*known);
        }
        let [turn, _] = recall.inputs()?;
        let mut both = [turn; 2];
        for (i, (part, made)) in ["cos", "sin"].iter().zip(&mut both).enumerate() {
            let name = format!("turn.{channels}.{part}");
            let mut weight = vec![0.0; channels * 2 * rotary.head];
            for c in 0..channels {
                weight[c * 2 * rotary.head + i * rotary.head + c % rotary.head] = 1.0;
            }
            let weight = Parameter::new(&name, [channels, 2 * rotary.head, 1, 1], weight)?;
            *made = self.add(&name, Op::Conv2d(Conv2d::new(weight)), &[turn])?;
        }
        recall.turns.insert(channels, both);
        Ok(both)
    }

    /// Keys or values that are kept, with this token's.
    fn written(&mut self, name: &str, recall: &mut Recall, x: NodeId) -> Result<NodeId> {
        let [_, place] = recall.inputs()?;
        let rows = recall.context;
        let shape = self.network.shape(place);
        let before = self.network.input(format!("{name}.before"), shape)?;
        let row = self.add(&format!("{name}.row"), Op::Repeat(Repeat { rows }), &[x])?;
        let new = self.add(&format!("{name}.new"), Op::Mul, &[row, place])?;
        let after = self.add(name, Op::Add, &[before, new])?;
        recall.kept.push(Kept { before, after });
        Ok(after)
    }
}

/// The graph of one token, and how its inputs follow from a token's embedding and position.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// From the embedded token `(D, 1, 1)`, the angles `turn` and the `place` to the logits `(V, 1, 1)`; keys and values of every block are kept.
    pub graph: Graph,
    /// Tokens that keys and values are kept of.
    pub context: usize,
    rotary: Rotary,
    channels: usize,
}

impl Step {
    pub(crate) fn of(
        network: NetworkBuilder<Nonlinearity>,
        logits: NodeId,
        recall: Recall,
        sizes: &Sizes,
    ) -> Result<Self> {
        Ok(Self {
            graph: network.finish_step(logits, &recall.kept)?,
            context: recall.context,
            rotary: recall.rotary.ok_or(Error::Inputs(1))?,
            channels: sizes.kv_heads * sizes.head,
        })
    }

    /// The inputs of the token at this position, from 0 on, whose embedding this is.
    ///
    /// # Errors
    /// `Error::Invalid` for a position beyond the context, `Error::Length` for an embedding of another width.
    pub fn inputs(&self, embedded: &[f64], position: usize) -> Result<Vec<Tensor>> {
        if position >= self.context {
            let detail = format!(
                "position {position}, but keys and values are kept of {} tokens; begin anew",
                self.context
            );
            return Err(Error::invalid("place", "Input", detail));
        }
        let width = self.graph.input().shape();
        let token = Tensor::new(width, embedded.to_vec())?;
        let head = self.rotary.head;
        let mut turn = vec![1.0; head];
        turn.resize(2 * head, 0.0);
        for pair in 0..self.rotary.rotated / 2 {
            let (sin, cos) = self.rotary.angle(pair, position).sin_cos();
            let (a, b) = self.rotary.pair(pair);
            for channel in [a, b] {
                (turn[channel], turn[head + channel]) = (cos, sin);
            }
        }
        let turn = Tensor::new(Shape::image(2 * head, 1, 1), turn)?;
        let mut place = vec![0.0; self.channels * self.context];
        for row in place.chunks_mut(self.context) {
            row[position] = 1.0;
        }
        let place = Tensor::new(Shape::image(self.channels, self.context, 1), place)?;
        Ok(vec![token, turn, place])
    }
}
