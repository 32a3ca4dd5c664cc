//! Networks as directed acyclic graphs that are well-formed by construction.

use crate::Result;
use crate::attention::AttentionScheme;
use crate::error::Error;
use crate::infer::infer;
use crate::op::{Attention, BatchNorm, ElementFunction, Nonlinearity, Op, PaddingCounts};
use crate::purpose::Purpose;
use crate::tensor::Shape;
use approx::Activation;
use std::collections::HashMap;

/// Number of a node in its network: nodes are numbered in topological order from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The position in [`Network::nodes`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operator with its place in the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<N> {
    id: NodeId,
    name: String,
    op: Op<N>,
    inputs: Vec<NodeId>,
    shape: Shape,
    purpose: Purpose,
}

impl<N> Node<N> {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its name, unique in the network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it computes.
    #[must_use]
    pub fn op(&self) -> &Op<N> {
        &self.op
    }

    /// The nodes whose outputs it takes, all numbered below it.
    #[must_use]
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The shape of its output.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }
}

/// A value that stays where the network is carried out, from one run to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The input that it comes in by; only [`Kept::after`] takes it.
    pub before: NodeId,
    /// What is kept in its place: the sum of it and of what the run writes.
    pub after: NodeId,
}

/// A network: nodes in topological order, one input, one output, every node used, all shapes consistent, all weights finite.
/// A node's output may have several consumers.
///
/// A step of a sequence ([`NetworkBuilder::finish_step`]) has more inputs, and values that are kept from run to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Network<N> {
    nodes: Vec<Node<N>>,
    input: NodeId,
    output: NodeId,
    kept: Vec<Kept>,
}

/// A network as trained: elementwise functions are activations or polynomials.
pub type Graph = Network<Nonlinearity>;

impl<N> Network<N> {
    /// An empty network to add nodes to.
    #[must_use]
    pub fn builder() -> NetworkBuilder<N> {
        NetworkBuilder {
            nodes: Vec::new(),
            names: HashMap::new(),
            purpose: None,
        }
    }

    /// All nodes; a node's inputs come before it.
    #[must_use]
    pub fn nodes(&self) -> &[Node<N>] {
        &self.nodes
    }

    /// The node with this number.
    ///
    /// # Panics
    /// When `id` is another, larger network's.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node<N> {
        &self.nodes[id.0]
    }

    /// The same with another batch normalisation of as many channels at a node that is one.
    pub(crate) fn with_norm(mut self, index: usize, norm: BatchNorm) -> Self {
        if let Some(Op::BatchNorm(own)) = self.nodes.get_mut(index).map(|n| &mut n.op) {
            *own = norm;
        }
        self
    }

    /// The node with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Node<N>> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// The only input node; of a step, the first.
    #[must_use]
    pub fn input(&self) -> &Node<N> {
        self.node(self.input)
    }

    /// The only output node.
    #[must_use]
    pub fn output(&self) -> &Node<N> {
        self.node(self.output)
    }

    /// What is given anew for each run, in order: one input, or several of a step.
    pub fn inputs(&self) -> impl Iterator<Item = &Node<N>> {
        let kept = |n: &&Node<N>| self.kept.iter().any(|k| k.before == n.id);
        let inputs = self.nodes.iter().filter(|n| matches!(n.op, Op::Input(_)));
        inputs.filter(move |n| !kept(n))
    }

    /// What stays from run to run, in order; nothing unless it is a step.
    #[must_use]
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Refuses a step where a network of one input is needed.
    ///
    /// # Errors
    /// [`Error::Inputs`].
    pub fn require_one_input(&self) -> Result<()> {
        match self.inputs().count() + self.kept.len() {
            1 => Ok(()),
            several => Err(Error::Inputs(several)),
        }
    }

    /// For each node, the nodes that take its output, once per use, in increasing order.
    #[must_use]
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for node in &self.nodes {
            for input in &node.inputs {
                consumers[input.0].push(node.id);
            }
        }
        consumers
    }

    /// For each node, the last one that takes its output; itself where none does.
    #[must_use]
    pub fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for node in &self.nodes {
            node.inputs.iter().for_each(|i| last[i.0] = node.id.0);
        }
        last
    }

    /// The node before those at the end that only reshape.
    #[must_use]
    pub fn last_operator(&self) -> &Node<N> {
        self.last_but(|op| matches!(op, Op::Flatten | Op::Reshape(_) | Op::Identity))
    }

    /// The node before those at the end that `passed` says are none.
    fn last_but(&self, passed: impl Fn(&Op<N>) -> bool) -> &Node<N> {
        let mut last = self.output();
        while let (true, Some(&before)) = (passed(&last.op), last.inputs.first()) {
            last = self.node(before);
        }
        last
    }

    /// The same network with every elementwise function mapped; shapes, names and numbers stay.
    ///
    /// # Errors
    /// Whatever `f` returns, and [`Error::Maximum`] or [`Error::NotLowered`] where `M` is for polynomial networks.
    pub fn try_map<M: ElementFunction>(
        self,
        mut f: impl FnMut(&str, N) -> Result<M>,
    ) -> Result<Network<M>> {
        let nodes = self.nodes.into_iter().map(|node| {
            refuse_unless_polynomial::<M, _>(&node.op, &node.name)?;
            Ok(Node {
                op: node.op.try_map(|n| f(&node.name, n))?,
                id: node.id,
                name: node.name,
                inputs: node.inputs,
                shape: node.shape,
                purpose: node.purpose,
            })
        });
        Ok(Network {
            nodes: nodes.collect::<Result<_>>()?,
            input: self.input,
            output: self.output,
            kept: self.kept,
        })
    }
}

/// Refuses an operator that no network of polynomials holds where `M` is for such networks.
fn refuse_unless_polynomial<M: ElementFunction, N>(op: &Op<N>, name: &str) -> Result<()> {
    let refusal = op.refusal(name).filter(|_| M::POLYNOMIAL);
    refusal.map_or(Ok(()), Err)
}

impl Graph {
    /// The activation nodes in topological order.
    pub fn activations(&self) -> impl Iterator<Item = (&Node<Nonlinearity>, Activation)> {
        self.nodes.iter().filter_map(|n| match &n.op {
            Op::Elementwise(Nonlinearity::Activation(a)) => Some((n, *a)),
            _ => None,
        })
    }

    /// Refuses networks that take maxima, for which nothing stands in a circuit.
    ///
    /// # Errors
    /// [`Error::Maximum`] with the first node that does.
    pub fn refuse_maxima(&self) -> Result<()> {
        let mut maxima = self.nodes.iter().filter(|n| matches!(n.op, Op::MaxPool(_)));
        let refusal = maxima.next().and_then(|n| n.op.refusal(&n.name));
        refusal.map_or(Ok(()), Err)
    }

    /// The same network with every maximum over windows replaced by the mean over the same windows. Padding counts as zeros, as in IBM's toolbox
    /// (torch's default, `count_include_pad`); what `ceil_mode` adds beyond it counts as nothing, as in torch. Where both meet, the zeros come
    /// from a node of their own, `NAME.pad`.
    ///
    /// # Errors
    /// None that a well-formed graph causes.
    pub fn with_average_pools(&self) -> Result<Self> {
        let mut b = Self::builder();
        let mut now: Vec<NodeId> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<NodeId> = node.inputs.iter().map(|i| now[i.0]).collect();
            b.set_purpose(Some(node.purpose));
            now.push(match &node.op {
                Op::MaxPool(pool) => {
                    let mut x = inputs[0];
                    let size = b.shape(x).as_image().map_or((1, 1), |(_, h, w)| (h, w));
                    let (zeros, mean) = pool.average(size, PaddingCounts::AsZeros);
                    if let Some(zeros) = zeros {
                        x = b.add(format!("{}.pad", node.name), Op::Pad(zeros), &[x])?;
                    }
                    b.add(&node.name, Op::AvgPool(mean), &[x])?
                }
                op => b.add(&node.name, op.clone(), &inputs)?,
            });
        }
        b.finish(now[self.output.0])
    }

    /// Whether any attention weighs by softmax, for which nothing stands in a circuit.
    #[must_use]
    pub fn attends_by_softmax(&self) -> bool {
        self.nodes.iter().any(|n| by_softmax(&n.op).is_some())
    }

    /// The same network with this scheme in the place of every attention's softmax.
    #[must_use]
    pub fn with_attention(&self, scheme: AttentionScheme) -> Self {
        let mut made = self.clone();
        for node in &mut made.nodes {
            if let Some(attention) = by_softmax(&node.op) {
                node.op = Op::Attention(Attention {
                    scheme,
                    ..attention
                });
            }
        }
        made
    }

    /// The network before a softmax that is its last operator, if it ends in one: whoever reads its answer takes it, of all outputs.
    ///
    /// # Errors
    /// [`Error::SoftmaxOfParts`] where the softmax at the end runs over some of its values at a time, or over each by itself: nobody takes that.
    pub fn without_last_softmax(&self) -> Result<Option<Self>> {
        let moves = |op: &Op<_>| {
            matches!(
                op,
                Op::Flatten
                    | Op::Reshape(_)
                    | Op::Identity
                    | Op::Rearrange(_)
                    | Op::Slice(_)
                    | Op::Pad(_)
            )
        };
        let last = self.last_but(moves);
        let (Op::Softmax(_), Some(&before)) = (&last.op, last.inputs.first()) else {
            return Ok(None);
        };
        let shape = last.shape;
        let values = shape.len();
        let over = shape.as_image().map_or(values, |(channels, ..)| channels);
        if over < values || over == 1 {
            return Err(Error::SoftmaxOfParts {
                node: last.name.clone(),
                over,
                values,
            });
        }
        // outputs in another order than the scores'
        if last.id != self.last_operator().id {
            return Ok(None);
        }
        // nothing but what comes before the softmax has a lower number
        Ok(Some(Self {
            nodes: self.nodes[..=before.0].to_vec(),
            input: self.input,
            output: before,
            kept: Vec::new(),
        }))
    }
}

/// An attention by softmax.
fn by_softmax<N>(op: &Op<N>) -> Option<Attention> {
    match op {
        Op::Attention(a) if a.scheme == AttentionScheme::Softmax => Some(*a),
        _ => None,
    }
}

/// Whether a name has neither control characters nor marks that turn the direction of what follows: a terminal would obey them.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !name.chars().any(|c| c.is_control() || turns(c))
}

/// A network under construction; every addition is checked.
#[derive(Debug, Clone)]
pub struct NetworkBuilder<N> {
    nodes: Vec<Node<N>>,
    names: HashMap<String, NodeId>,
    purpose: Option<Purpose>,
}

impl<N: ElementFunction> NetworkBuilder<N> {
    /// Adds a node and infers its shape.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Dangling`], [`Error::Invalid`] when the operator can't take these inputs, [`Error::Maximum`] and
    /// [`Error::NotLowered`] for what no polynomial network holds.
    pub fn add(&mut self, name: impl Into<String>, op: Op<N>, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        if name.is_empty() || !is_plain(&name) || self.names.contains_key(&name) {
            return Err(Error::Name(name));
        }
        refuse_unless_polynomial::<N, _>(&op, &name)?;
        let shape = |i: &NodeId| {
            let dangling = || Error::dangling(&name, i.0);
            self.nodes.get(i.0).map(|n| n.shape).ok_or_else(dangling)
        };
        let shapes = inputs.iter().map(shape).collect::<Result<Vec<_>>>()?;
        let shape = infer(&name, &op, &shapes)?;
        let id = NodeId(self.nodes.len());
        self.names.insert(name.clone(), id);
        self.nodes.push(Node {
            id,
            name,
            purpose: self.purpose.unwrap_or(Purpose::of(&op)),
            op,
            inputs: inputs.to_vec(),
            shape,
        });
        Ok(id)
    }

    /// What the nodes added from here on are for; none: what their operators are for by themselves.
    pub fn set_purpose(&mut self, purpose: Option<Purpose>) {
        self.purpose = purpose;
    }

    /// Adds the input.
    ///
    /// # Errors
    /// As [`NetworkBuilder::add`].
    pub fn input(&mut self, name: impl Into<String>, shape: Shape) -> Result<NodeId> {
        self.add(name, Op::Input(shape), &[])
    }

    /// The shape of a node added before.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.0].shape
    }

    /// Whether a node of this name was added.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The network that computes `output`. Nodes that the output doesn't depend on are dropped and the rest renumbered.
    ///
    /// # Errors
    /// [`Error::Dangling`] for an unknown output, [`Error::Inputs`] unless the output depends on exactly one input.
    pub fn finish(self, output: NodeId) -> Result<Network<N>> {
        let network = self.finish_step(output, &[])?;
        network.require_one_input()?;
        Ok(network)
    }

    /// As [`NetworkBuilder::finish`], for one step of a sequence: a network of several inputs, some of which are kept from run to run. What is kept only
    /// grows by sums: the first operand of `after` is `before`, which nothing else takes.
    ///
    /// # Errors
    /// [`Error::Dangling`] for an unknown node, [`Error::Inputs`] where nothing is given anew, [`Error::Invalid`] for values that are kept otherwise.
    pub fn finish_step(self, output: NodeId, kept: &[Kept]) -> Result<Network<N>> {
        let ends = || kept.iter().map(|k| k.after).chain([output]);
        let known = ends().chain(kept.iter().map(|k| k.before));
        if let Some(unknown) = known.into_iter().find(|id| id.0 >= self.nodes.len()) {
            return Err(Error::dangling("output", unknown.0));
        }
        for k in kept {
            let (before, after) = (&self.nodes[k.before.0], &self.nodes[k.after.0]);
            let takes = |n: &&Node<N>| n.inputs.contains(&k.before);
            let first = after.inputs.first() == Some(&k.before);
            let once = self.nodes.iter().filter(takes).count() == 1;
            let twice = after.inputs.get(1) == Some(&k.before);
            let sum = matches!((&before.op, &after.op), (Op::Input(_), Op::Add));
            if !(sum && first && once && !twice) || k.before == output {
                let detail = "what is kept from run to run is an input, and its sum with what the run writes is all that is made of it";
                return Err(Error::invalid(&after.name, after.op.name(), detail));
            }
        }
        let mut used = vec![false; self.nodes.len()];
        ends().for_each(|id| used[id.0] = true);
        for i in (0..self.nodes.len()).rev() {
            if used[i] {
                for input in &self.nodes[i].inputs {
                    used[input.0] = true;
                }
            }
        }
        let mut renumbered = vec![NodeId(0); self.nodes.len()];
        let mut nodes = Vec::new();
        for node in self.nodes {
            if !used[node.id.0] {
                continue;
            }
            let id = NodeId(nodes.len());
            renumbered[node.id.0] = id;
            let inputs = node.inputs.iter().map(|i| renumbered[i.0]).collect();
            nodes.push(Node { id, inputs, ..node });
        }
        let kept = kept.iter().map(|k| Kept {
            before: renumbered[k.before.0],
            after: renumbered[k.after.0],
        });
        let network = Network {
            nodes,
            input: NodeId(0),
            output: renumbered[output.0],
            kept: kept.collect(),
        };
        let input = network.inputs().next().map(|n| n.id);
        Ok(Network {
            input: input.ok_or(Error::Inputs(0))?,
            ..network
        })
    }
}
