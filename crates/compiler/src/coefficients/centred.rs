//! What norms take the mean off: where nothing else uses it, the mean is taken off the weights before.
//!
//! A sequence that only norms and sums for norms read, as the residual stream of most transformers, may lack its mean at every token from the beginning: the
//! weights of all that is added to it lack theirs (an exact change), and no norm takes one off.

use nn::{NodeId, Op, PolyGraph, PolyNode};
use std::collections::BTreeMap;

/// The tokens of a network that are only used less their mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Centred {
    /// By node, what its mean is taken off in, to say how large that is.
    values: BTreeMap<NodeId, NodeId>,
    /// The nodes of what takes it off.
    taking: BTreeMap<NodeId, NodeId>,
}

impl Centred {
    /// Finds them; `consumers` are those of every node.
    pub(crate) fn of(graph: &PolyGraph, consumers: &[Vec<NodeId>]) -> Self {
        let mut taking = BTreeMap::new();
        let mut difference = BTreeMap::new();
        for node in graph.nodes() {
            if let Some((x, mean, sum)) = taken(graph, node) {
                for part in [node.id(), mean, sum] {
                    taking.insert(part, x);
                }
                difference.insert(x, node.id());
            }
        }
        let mut values: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for node in graph.nodes().iter().rev() {
            let x = node.id();
            let mut bound = difference.get(&x).copied();
            let all = consumers[x.index()].iter().all(|c| {
                let reader = graph.node(*c);
                let adds = match reader.op() {
                    Op::Add | Op::Identity => true,
                    Op::Rearrange(r) => r.of_columns(node.shape()).is_some(),
                    _ => false,
                };
                let own = taking.get(c) == Some(&x);
                let passed = values.get(c).filter(|_| adds).copied();
                bound = bound.or(passed);
                own || passed.is_some()
            });
            let last = x == graph.output().id();
            if let (true, false, Some(bound)) = (all, last, bound) {
                values.insert(x, bound);
            }
        }
        taking.retain(|_, x| values.contains_key(x));
        Self { values, taking }
    }
    /// The node whose range is that of the node less its mean, where it is only used so.
    pub(crate) fn value(&self, node: NodeId) -> Option<NodeId> {
        self.values.get(&node).copied()
    }
    /// What a node takes the mean off that has none.
    pub(crate) fn taken(&self, node: NodeId) -> Option<NodeId> {
        self.taking.get(&node).copied()
    }
}

/// What a node takes the mean off: the nodes of x, −Σx/C and Σx.
fn taken(graph: &PolyGraph, node: &PolyNode) -> Option<(NodeId, NodeId, NodeId)> {
    let ([x, mean], Op::Add) = (node.inputs(), node.op()) else {
        return None;
    };
    let (times, sum) = match graph.node(*mean).op() {
        Op::Elementwise(p) if p.degree() == 1 => {
            (p.to_monomial(), *graph.node(*mean).inputs().first()?)
        }
        _ => return None,
    };
    let Op::Conv2d(c) = graph.node(sum).op() else {
        return None;
    };
    let channels = c.out_channels();
    let ones = c.weight.shape() == [channels, channels, 1, 1]
        && c.bias.is_none()
        && c.weight.values().iter().all(|w| *w == 1.0);
    let whole = (times[1] * channels as f64 + 1.0).abs() < 1e-9 && times[0].abs() < 1e-12;
    (ones && whole && graph.node(sum).inputs() == [*x]).then_some((*x, *mean, sum))
}
