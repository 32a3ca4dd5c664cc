//! A sequence's network whose answer is wanted at some positions alone.
//!
//! What treats all positions alike can be done after the choice as well as before it: so the choice goes as far up as it can, to what the last attention gives and to the
//! residual stream beside it, as an encoder's class token does ([`crate::op::Slice`] in its graph). A norm of what is needed at all positions stays where it is: others may share
//! its root.

use crate::error::Error;
use crate::graph::{Network, NodeId};
use crate::op::{Op, Rearrange};
use crate::poly_graph::{PolyGraph, PolyNode, Range};
use crate::purpose::Purpose;
use crate::tensor::Shape;
use crate::{NetworkBuilder, Result};
use approx::Polynomial;
use std::collections::HashMap;

impl PolyGraph {
    /// The network from a sequence `(D, 1, L)` whose answer `(V, 1, L)` is computed at these positions alone, `(V, 1, K)`, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a network that gives no answer at every position of its input, no position, one twice or out of order, one outside of the length;
    /// [`Error::Inputs`] for a step of a sequence.
    pub fn at_positions(&self, positions: &[usize]) -> Result<Self> {
        self.require_one_input()?;
        let length = self.checked(positions)?;
        if positions.len() == length {
            return Ok(self.clone());
        }
        let narrow = self.narrow(length);
        let mut cut = Cut {
            graph: self,
            positions,
            made: Network::builder(),
            whole: Vec::new(),
            chosen: HashMap::new(),
            sources: Vec::new(),
        };
        for node in self.nodes() {
            let id = match narrow[node.id().index()] {
                true => {
                    let inputs = node.inputs().iter().map(|i| match narrow[i.index()] {
                        true => Ok(cut.whole[i.index()]),
                        false => cut.choice(*i),
                    });
                    let inputs = inputs.collect::<Result<Vec<_>>>()?;
                    cut.add(node, &inputs)?
                }
                false => {
                    let inputs: Vec<NodeId> = (node.inputs().iter())
                        .map(|i| cut.whole[i.index()])
                        .collect();
                    cut.add(node, &inputs)?
                }
            };
            cut.whole.push(id);
        }
        let output = self.output().id();
        let last = match narrow[output.index()] {
            true => cut.whole[output.index()],
            false => cut.choice(output)?,
        };
        let Cut { made, sources, .. } = cut;
        // every node serves the answer still, so none is dropped and numbers stay
        let network = made.finish(last)?;
        let ranges: Option<Vec<Range>> = sources.iter().map(|id| self.range(*id)).collect();
        let graph = Self::from(network).with_metadata(self.metadata().clone());
        match ranges {
            Some(ranges) => graph.with_ranges(ranges),
            None => Ok(graph),
        }
    }

    /// The sequence's length, if these are some of its positions.
    fn checked(&self, positions: &[usize]) -> Result<usize> {
        let (input, output) = (self.input().shape(), self.output());
        let refuse =
            |detail: String| Err(Error::invalid(output.name(), output.op().name(), detail));
        let sequence = |shape: Shape| shape.as_image().filter(|s| s.1 == 1).map(|s| s.2);
        let length = match (sequence(input), sequence(output.shape())) {
            (Some(length), Some(own)) if length == own => length,
            _ => {
                return refuse(format!(
                    "from {input} to {}, it gives no answer at every position of a sequence; leave the positions out",
                    output.shape()
                ));
            }
        };
        if let Some(outside) = positions.iter().find(|p| **p >= length) {
            return refuse(format!(
                "position {outside} is outside of its {length}, which are 0 to {}",
                length - 1
            ));
        }
        if positions.is_empty() || !positions.is_sorted_by(|a, b| a < b) {
            return refuse(format!(
                "positions {positions:?}: at least one is needed, each once, in ascending order"
            ));
        }
        Ok(length)
    }

    /// Which nodes are needed at the answer's positions alone.
    fn narrow(&self, length: usize) -> Vec<bool> {
        let (consumers, output) = (self.consumers(), self.output().id());
        let mut narrow = vec![false; self.nodes().len()];
        for node in self.nodes().iter().rev() {
            let own = &consumers[node.id().index()];
            let all = own.iter().all(|c| narrow[c.index()]);
            let last = node.id() == output;
            narrow[node.id().index()] = all && (last || !own.is_empty()) && alike(node, length);
        }
        // a norm of what is made at all positions
        for node in self.nodes() {
            let wide = |i: &NodeId| !narrow[i.index()];
            if node.purpose() == Purpose::Norm && node.inputs().iter().any(wide) {
                narrow[node.id().index()] = false;
            }
        }
        narrow
    }
}

/// Whether a node does the same at every position of a sequence, and is no part of an attention.
fn alike(node: &PolyNode, length: usize) -> bool {
    let sequence = node.shape().as_image().map(|s| (s.1, s.2)) == Some((1, length));
    let op = match node.op() {
        Op::Conv2d(c) => {
            c.kernel() == (1, 1) && c.stride == (1, 1) && c.padding == crate::Padding::default()
        }
        Op::Elementwise(_) | Op::Add | Op::Mul | Op::BatchNorm(_) | Op::Identity => true,
        _ => false,
    };
    let attends = matches!(
        node.purpose(),
        Purpose::Attention | Purpose::Products | Purpose::Repacking
    );
    sequence && op && !attends
}

/// The network under construction.
struct Cut<'a> {
    graph: &'a PolyGraph,
    positions: &'a [usize],
    made: NetworkBuilder<Polynomial>,
    /// By the graph's number: the node itself, at all positions or at those that are wanted.
    whole: Vec<NodeId>,
    /// The choice from a node at all positions.
    chosen: HashMap<NodeId, NodeId>,
    /// For each node that is made, the graph's node whose range it has.
    sources: Vec<NodeId>,
}

impl Cut<'_> {
    fn add(&mut self, node: &PolyNode, inputs: &[NodeId]) -> Result<NodeId> {
        self.made.set_purpose(Some(node.purpose()));
        self.sources.push(node.id());
        self.made.add(node.name(), node.op().clone(), inputs)
    }

    fn choice(&mut self, of: NodeId) -> Result<NodeId> {
        if let Some(known) = self.chosen.get(&of) {
            return Ok(*known);
        }
        let node = self.graph.node(of);
        let name = format!("{}/positions", node.name());
        let op = Rearrange::columns(&name, node.shape(), self.positions)?;
        self.made.set_purpose(Some(Purpose::Repacking));
        self.sources.push(of);
        let id = self
            .made
            .add(name, Op::Rearrange(op), &[self.whole[of.index()]])?;
        self.chosen.insert(of, id);
        Ok(id)
    }
}

impl Rearrange {
    /// These columns of a sequence `(C, 1, L)`; `name` is for the message.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another shape.
    pub fn columns(name: &str, from: Shape, columns: &[usize]) -> Result<Self> {
        let offset = |v: usize| u32::try_from(v).ok().filter(|v| *v != Self::ZERO);
        let offsets = from.as_image().filter(|s| s.1 == 1).and_then(|(c, _, l)| {
            let channels = (0..c).map(|c| offset(c * l));
            let within = columns.iter().map(|t| offset(*t).filter(|_| *t < l));
            let both: [Option<Vec<u32>>; 2] = [channels.collect(), within.collect()];
            let [channels, within] = both;
            Some((c, vec![channels?, vec![0], within?]))
        });
        let Some((channels, offsets)) = offsets else {
            let detail = format!("columns {columns:?} of {from}, which is no sequence with these");
            return Err(Error::invalid(name, "Rearrange", detail));
        };
        Ok(Self {
            shape: Shape::image(channels, 1, columns.len()),
            offsets,
        })
    }

    /// The columns that it takes of a sequence of this shape, the same of every channel, if that is all that it does.
    #[must_use]
    pub fn of_columns(&self, from: Shape) -> Option<Vec<usize>> {
        let (channels, rows, length) = from.as_image()?;
        let taken = (1, self.shape.columns());
        let shape = self.shape.as_image().map(|s| (s.0, (s.1, s.2)));
        if rows != 1 || shape != Some((channels, taken)) {
            return None;
        }
        let (mut columns, mut at, mut fits) = (Vec::with_capacity(taken.1), 0, true);
        self.each(|from| {
            let (channel, column) = (at / taken.1, at % taken.1);
            match from {
                Some(from) if from / length == channel => match channel {
                    0 => columns.push(from % length),
                    _ => fits &= columns.get(column) == Some(&(from % length)),
                },
                _ => fits = false,
            }
            at += 1;
        });
        (fits && columns.len() == taken.1).then_some(columns)
    }
}
