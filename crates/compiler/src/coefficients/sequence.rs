//! Sequences of any length, with or without a public first token, as sequences of a power of two of tokens.
//!
//! What fills a sequence up must stay in the ranges that calibration found: it goes through the same norms and polynomials. So places without a token hold copies of
//! others' values, made once of the input, with the same positions and the same view: they stay copies in every layer, and no key is looked for there. A
//! public first token has a place of its own, whose key and value are the network's constants.
//!
//! A picture whose pixels only move, to columns of patches, is encrypted as these columns.
//!
//! Of an answer that is wanted at some positions ([`nn::PolyGraph::at_positions`]), one position goes on as a token alone ([`super::vectors`]); of several, all places
//! are computed, and the answer shows these.

use super::tokens::Tokens;
use crate::Error;
use crate::emit::Shown;
use crate::linear_op::unsupported;
use nn::{
    AxisSlice, Conv2d, Network, NodeId, Op, Parameter, PolyGraph, PolyNode, Rearrange, Repeat,
    Rotary, Shape, Slice, Unfold,
};
use std::borrow::Cow;
use std::sync::Arc;

/// A network of tokens.
pub(crate) struct Sequence<'a> {
    /// As many nodes, in the same order; each sequence has as many columns as there are places for tokens. Whatever it computes there, only
    /// [`crate::normal`] knows what it stands for.
    pub(crate) graph: Cow<'a, PolyGraph>,
    pub(crate) tokens: Tokens,
    /// Shapes of the input and the answer, and where their values are.
    pub(crate) ports: [Shown; 2],
}

/// What the columns of a node are.
#[derive(Clone, Debug, PartialEq)]
enum Columns {
    /// These tokens, of all that lie there.
    Tokens(Arc<[usize]>),
    /// A token alone, which lies as a column of channels.
    One,
    /// One number for all.
    Same,
}

impl Columns {
    /// Columns of a node, and which of them show its values.
    fn places(&self, tokens: Tokens) -> (usize, Vec<usize>) {
        match self {
            Self::Tokens(all) => {
                let first = tokens.range(0, 0).start;
                (tokens.length(), all.iter().map(|t| first + t).collect())
            }
            Self::One => (1, vec![0]),
            Self::Same => (tokens.length(), Vec::new()),
        }
    }
}

impl<'a> Sequence<'a> {
    /// Reads the network's input and attention.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what does not treat all tokens alike, or sequences that are too short or too long.
    pub(crate) fn of(graph: &'a PolyGraph, n: usize) -> Result<Self, Error> {
        let (input, output) = (graph.input(), graph.output());
        let refused = || {
            let reason = format!(
                "{} is no sequence of 5 tokens or more that a ciphertext holds",
                input.shape()
            );
            let remedy = "compile it with linear layers in slots";
            unsupported(input, reason, remedy)
        };
        let cut = cut(graph);
        let columns = cut.map_or(input.shape(), PolyNode::shape);
        let (channels, _, count) = columns
            .as_image()
            .filter(|s| s.1 == 1)
            .ok_or_else(refused)?;
        let rows = graph.nodes().iter().filter_map(|n| match n.op() {
            Op::Unfold(u) => Some(u.rows),
            _ => None,
        });
        let public = rows.max().map_or(0, |r| r.saturating_sub(count));
        let tokens = Tokens::new(n, count, public).ok_or_else(refused)?;
        let own = graph.output().shape().as_image().map(|s| s.2);
        let shown = |node: &PolyNode, (wide, places): (usize, Vec<usize>)| {
            let shape = node.shape().dims();
            let all = table(shape[0], wide);
            let values = all.flat_map(|row| places.iter().map(move |t| row + t));
            (shape.clone(), values.collect())
        };
        if tokens.whole() && own == Some(count) && cut.is_none() {
            let ports = [input, output].map(|n| shown(n, (count, (0..count).collect())));
            let graph = Cow::Borrowed(graph);
            return Ok(Self {
                graph,
                tokens,
                ports,
            });
        }
        let mut filling = Filling {
            graph,
            cut: cut.map(PolyNode::id),
            tokens,
            columns: Vec::new(),
            made: Network::builder(),
        };
        for node in graph.nodes() {
            filling.node(node)?;
        }
        let of = |id: NodeId| filling.columns[id.index()].places(tokens);
        let mut ports = [input, output].map(|n| shown(n, of(n.id())));
        if let Some(node) = cut {
            let (wide, own) = of(input.id());
            let places = table(channels, wide);
            let places = places.flat_map(|row| own.iter().map(move |t| row + t));
            ports[0].1 = pixels(node, input.shape().len(), places)?;
        }
        let made: PolyGraph = filling.made.finish(output.id())?.into();
        let ranges = graph.ranges().ok_or_else(|| Error::Calibration {
            layer: input.name().into(),
        })?;
        let graph = Cow::Owned(made.with_ranges(ranges.to_vec())?);
        Ok(Self {
            graph,
            tokens,
            ports,
        })
    }
}

/// The node that makes columns of the input's values, if moving them is all that is done to a picture.
fn cut(graph: &PolyGraph) -> Option<&PolyNode> {
    let input = graph.input();
    let [only] = graph.consumers()[input.id().index()][..] else {
        return None;
    };
    let node = graph.node(only);
    let rows = |shape: Shape| shape.as_image().map(|s| s.1);
    let moves = matches!(node.op(), Op::Rearrange(_)) && rows(input.shape()) > Some(1);
    (moves && rows(node.shape()) == Some(1)).then_some(node)
}

/// The first place of each channel.
fn table(channels: usize, places: usize) -> impl Iterator<Item = usize> {
    (0..channels).map(move |c| c * places)
}

/// Where each of so many values of a picture is, of those places that the node's have.
fn pixels(
    node: &PolyNode,
    count: usize,
    places: impl Iterator<Item = usize>,
) -> Result<Vec<usize>, Error> {
    let mut all = vec![None; count];
    let (mut places, mut again) = (places, false);
    if let Op::Rearrange(r) = node.op() {
        r.each(|from| {
            let place = places.next();
            if let Some(own) = from.and_then(|from| all.get_mut(from)) {
                again |= own.is_some();
                *own = place;
            }
        });
    }
    let each: Option<Vec<usize>> = all.into_iter().collect();
    each.filter(|_| !again).ok_or_else(|| {
        unsupported(
            node,
            "it does not take each pixel once".into(),
            "cut pictures into patches that cover them and do not overlap, or compile it with linear layers in slots",
        )
    })
}

struct Filling<'a> {
    graph: &'a PolyGraph,
    /// What makes columns of a picture.
    cut: Option<NodeId>,
    tokens: Tokens,
    /// Of the nodes done.
    columns: Vec<Columns>,
    made: nn::NetworkBuilder<approx::Polynomial>,
}

impl Filling<'_> {
    fn node(&mut self, node: &PolyNode) -> Result<(), Error> {
        let (op, columns) = self.filled(node)?;
        self.made.set_purpose(Some(node.purpose()));
        self.made.add(node.name(), op, node.inputs())?;
        self.columns.push(columns);
        Ok(())
    }

    fn filled(&self, node: &PolyNode) -> Result<(Op<approx::Polynomial>, Columns), Error> {
        let places = self.tokens.length();
        let refuse = || {
            let reason =
                "it does not treat all tokens alike, and these fill no power of two".into();
            unsupported(
                node,
                reason,
                "pad the sequence, or compile it with linear layers in slots",
            )
        };
        let mut inputs = node.inputs().iter().map(|i| &self.columns[i.index()]);
        let first = inputs.next().cloned().unwrap_or(Columns::Same);
        let same = inputs.try_fold(first, |a, b| match (&a, b) {
            (Columns::Same, b) => Some(b.clone()),
            (_, Columns::Same) => Some(a),
            (a, b) => (a == b).then(|| b.clone()),
        });
        let columns = same.ok_or_else(refuse)?;
        let width = |id: NodeId| self.graph.shape(id).as_image();
        let op = match node.op() {
            Op::Input(shape) => {
                let columns = self.cut.map_or(*shape, |cut| self.graph.shape(cut));
                let (channels, _, count) = columns.as_image().ok_or_else(refuse)?;
                let op = Op::Input(Shape::image(channels, 1, places));
                return Ok((op, Columns::Tokens((0..count).collect())));
            }
            Op::Constant(shape, p) => {
                let (shape, values, columns) =
                    self.constant(*shape, p.values()).ok_or_else(refuse)?;
                let p = Parameter::new(node.name(), shape.dims(), values)?;
                return Ok((Op::Constant(shape, p), columns));
            }
            Op::Conv2d(c) if *c.weight.shape().get(2..).unwrap_or_default() == [1, 1] => {
                let plain = c.stride == (1, 1) && c.padding == nn::Padding::default();
                Op::Conv2d(plain.then(|| c.clone()).ok_or_else(refuse)?)
            }
            // a sum over rows
            Op::Conv2d(c) if c.kernel() == (self.tokens.count() + self.tokens.public(), 1) => {
                let ones =
                    c.weight.values().iter().all(|w| *w == 1.0) && c.groups == c.out_channels();
                let shape = [c.out_channels(), 1, places, 1];
                let weight = vec![1.0; c.out_channels() * places];
                let weight = Parameter::new(node.name(), shape, weight)?;
                let groups = c.groups;
                let made = ones.then(|| Conv2d {
                    groups,
                    ..Conv2d::new(weight)
                });
                Op::Conv2d(made.ok_or_else(refuse)?)
            }
            Op::Linear(l)
                if node
                    .inputs()
                    .iter()
                    .all(|i| self.made.shape(*i).columns() == places) =>
            {
                let [to, from] = *l.weight.shape() else {
                    return Err(refuse());
                };
                let weight = l.weight.reshaped(node.name(), &[to, from, 1, 1])?;
                let bias = l.bias.clone();
                Op::Conv2d(Conv2d {
                    bias,
                    ..Conv2d::new(weight)
                })
            }
            Op::Rearrange(_) if self.cut == Some(node.id()) => Op::Identity,
            Op::Rearrange(r) => return self.chosen(node, r, &columns).ok_or_else(refuse),
            Op::Elementwise(_) | Op::Add | Op::Mul | Op::Identity | Op::BatchNorm(_) => {
                node.op().clone()
            }
            Op::Rotary(r) => Op::Rotary(Rotary {
                first: r
                    .first
                    .checked_sub(self.tokens.public())
                    .ok_or_else(refuse)?,
                ..*r
            }),
            Op::Unfold(u) => Op::Unfold(Unfold { rows: places, ..*u }),
            Op::Repeat(_) => Op::Repeat(Repeat { rows: places }),
            Op::Flatten | Op::Reshape(_)
                if width(node.inputs()[0]).is_some_and(|s| (s.1, s.2) == (1, 1)) =>
            {
                Op::Identity
            }
            Op::Slice(s) => {
                let [channels, rows, own] = s.axes[..] else {
                    return Err(refuse());
                };
                let (Columns::Tokens(all_of), 1) = (&columns, own.step) else {
                    return Err(refuse());
                };
                let kept = all_of.get(own.begin..own.end).ok_or_else(refuse)?;
                let cut = Columns::Tokens(kept.into());
                let whole = AxisSlice {
                    begin: 0,
                    end: places,
                    step: 1,
                };
                let (all, one, _) = width(node.inputs()[0]).ok_or_else(refuse)?;
                let same = |axis: AxisSlice, size: usize| {
                    (axis.begin, axis.end, axis.step) == (0, size, 1)
                };
                let op = match same(channels, all) && same(rows, one) {
                    true => Op::Identity,
                    false => Op::Slice(Slice {
                        axes: vec![channels, rows, whole],
                    }),
                };
                return Ok((op, cut));
            }
            _ => return Err(refuse()),
        };
        Ok((op, columns))
    }

    /// Some columns of a sequence, of all channels.
    fn chosen(
        &self,
        node: &PolyNode,
        r: &Rearrange,
        of: &Columns,
    ) -> Option<(Op<approx::Polynomial>, Columns)> {
        let from = self.graph.shape(node.inputs()[0]);
        let Columns::Tokens(all) = of else {
            return None;
        };
        let taken = r.of_columns(from)?.into_iter();
        let tokens: Arc<[usize]> = taken.map(|c| all.get(c).copied()).collect::<Option<_>>()?;
        let places = Columns::Tokens(Arc::clone(&tokens)).places(self.tokens);
        let [place] = places.1[..] else {
            return Some((Op::Identity, Columns::Tokens(tokens)));
        };
        let filled = Shape::image(from.dims()[0], 1, self.tokens.length());
        let one = Rearrange::columns(node.name(), filled, &[place]).ok()?;
        Some((Op::Rearrange(one), Columns::One))
    }

    /// One number a token, or one a query and a key.
    fn constant(&self, shape: Shape, own: &[f32]) -> Option<(Shape, Vec<f32>, Columns)> {
        let t = self.tokens;
        let (channels, rows, width) = shape.as_image()?;
        let (count, places) = (t.count(), t.length());
        let mut values = Vec::new();
        match (rows, width) {
            (1, 1) => {
                values.extend(own.iter().flat_map(|v| std::iter::repeat_n(*v, places)));
                Some((Shape::image(channels, 1, places), values, Columns::Same))
            }
            (1, w) if w == count => {
                let row = |row: &[f32]| {
                    (0..places)
                        .map(|p| row[t.real(p) - t.public()])
                        .collect::<Vec<_>>()
                };
                values.extend(own.chunks(count).flat_map(row));
                Some((
                    Shape::image(channels, 1, places),
                    values,
                    Columns::Tokens((0..count).collect()),
                ))
            }
            (rows, w) if w == count && rows == count + t.public() => {
                // row r, column p: the key r places before
                let index = |r: usize, p: usize| {
                    let query = t.real(p) - t.public();
                    let key = (p + places - r) % places;
                    if key < t.public() {
                        Some((rows - 1) * count + query)
                    } else {
                        let key = t.is_token(key).then(|| key - t.public())?;
                        Some((query + count - key) % count * count + query)
                    }
                };
                let pattern: Vec<Option<usize>> = (0..places)
                    .flat_map(|r| (0..places).map(move |p| (r, p)))
                    .map(|(r, p)| index(r, p))
                    .collect();
                for plane in own.chunks(rows * count) {
                    values.extend(pattern.iter().map(|i| i.map_or(0.0, |i| plane[i])));
                }
                let shape = Shape::image(channels, places, places);
                Some((shape, values, Columns::Tokens((0..count).collect())))
            }
            _ => None,
        }
    }
}
