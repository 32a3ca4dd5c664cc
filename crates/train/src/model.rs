//! A network in training: the graph's nodes with trainable parameters, and the way back to a graph.
//!
//! Values are batches of pictures as rows of channels, `(n, h, w, c)`; a vector is one row. The graph itself is the tape: the
//! forward pass goes through the nodes in order, the backward pass in reverse ([`crate::pass`]).

use crate::activation::{Function, RangeLoss, Seen, Unit};
use crate::dirac::Dirac;
use crate::error::{Error, Result};
use crate::inverse::{InverseUnit, VarianceLoss};
use crate::layout::{hwc, to_hwc, to_hwio, to_oihw, transposed};
use crate::parameter::{Kind, Parameter};
use crate::sequence::{Attend, Embedding, Places, RowNorm, Turn};
use crate::workspace::Workspace;
use kernels::Convolution;
use nn::{AvgPool, BatchNorm, Conv2d, Graph, Linear, Network, Nonlinearity, Op, Shape, Tensor};
use std::sync::OnceLock;

/// What a node does in training.
#[derive(Debug)]
pub(crate) enum Layer {
    Input,
    Constant(Vec<f32>),
    Convolution(Filter),
    Linear(Dense),
    BatchNorm(Norm),
    RowNorm(Box<RowNorm>),
    Rotary(Turn),
    Attention(Box<Attend>),
    Activation(Box<Unit>),
    Add,
    Mul,
    AveragePool(AvgPool),
    /// Where each value comes from, both in the order `(h, w, c)`; zeros for [`nn::Rearrange::ZERO`].
    Rearrange(Vec<u32>),
    /// Of each row of channels.
    Softmax(kernels::Softmax),
    /// factor·x + shift, which is not trained.
    Affine {
        factor: f32,
        shift: f32,
    },
    Identity,
}

impl Layer {
    fn inverse_mut(&mut self) -> Option<&mut InverseUnit> {
        match self {
            Self::RowNorm(n) if !n.clear => Some(&mut n.root),
            Self::Attention(a) if a.powers() => Some(&mut a.division),
            _ => None,
        }
    }
}

/// A convolution; parameters by their places.
#[derive(Debug)]
pub(crate) struct Filter {
    /// With batch 1; a pass sets the batch.
    pub(crate) geometry: Convolution,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) dirac: Option<Dirac>,
}

/// A linear map of rows.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
}

/// A batch normalisation with its running statistics.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    pub(crate) scale: usize,
    pub(crate) bias: usize,
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    pub(crate) epsilon: f32,
    /// What the last training batch was normalised by: mean and 1/√(variance + ε).
    pub(crate) batch: Option<(Vec<f32>, Vec<f32>)>,
}

/// How convolutions with an equal number of input and output channels and stride 1 are parameterised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parameterization {
    /// By their weights.
    #[default]
    Plain,
    /// By Dirac's, which holds a skip connection inside.
    Dirac,
}

/// A network in training.
#[derive(Debug)]
pub struct Model {
    graph: Graph,
    pub(crate) layers: Vec<Layer>,
    pub(crate) inputs: Vec<Vec<usize>>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) last_use: Vec<usize>,
    pub(crate) output: usize,
    /// All parameters.
    pub parameters: Vec<Parameter>,
    /// How inputs of activations are held in their intervals.
    pub range_loss: RangeLoss,
    /// How normalisations' variances are kept together.
    pub variance_loss: VarianceLoss,
    /// How attention's divisors are kept together, where powers are taken as they are.
    pub division_loss: VarianceLoss,
    /// What the next backward pass's range and variance losses count, relative to a whole batch's.
    pub share: f32,
    /// Whether backward passes compute activations again instead of keeping them.
    pub recompute: bool,
    /// Positions at the beginning of every sequence that are public, as a first token that is always the same: exact, and in no interval.
    pub public: usize,
    /// Nodes behind which a forward pass forgets what is not needed later, where it is made again.
    pub(crate) cuts: OnceLock<Vec<usize>>,
    pub(crate) embedding: Option<Embedding>,
    /// The weight of a new batch in the running statistics of batch normalisations.
    pub momentum: f32,
    /// Whether normalisations train with their running statistics, as constants, instead of the batch's.
    pub frozen: bool,
    pub(crate) values: Vec<Option<Vec<f32>>>,
    pub(crate) workspace: Workspace,
    pub(crate) batch: usize,
    /// Whether the last pass was one of training.
    pub(crate) training: bool,
}

impl Model {
    /// A model that computes what `graph` computes; its activations' units are original functions, its polynomials units with these
    /// coefficients.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an operator that has no training form.
    pub fn new(graph: Graph, parameterization: Parameterization) -> Result<Self> {
        let mut parameters = Vec::new();
        let mut layers = Vec::new();
        for node in graph.nodes() {
            let from = node.inputs().first().map(|&i| graph.node(i).shape());
            layers.push(layer(node, from, parameterization, &mut parameters)?);
        }
        let inputs: Vec<Vec<usize>> = graph
            .nodes()
            .iter()
            .map(|n| n.inputs().iter().map(|i| i.index()).collect())
            .collect();
        let last_use = graph.last_uses();
        Ok(Self {
            cuts: OnceLock::new(),
            variance_loss: VarianceLoss::None,
            division_loss: VarianceLoss::None,
            share: 1.0,
            recompute: false,
            public: 0,
            embedding: None,
            shapes: graph.nodes().iter().map(nn::Node::shape).collect(),
            values: layers.iter().map(|_| None).collect(),
            output: graph.output().id().index(),
            layers,
            inputs,
            last_use,
            parameters,
            range_loss: RangeLoss::None,
            momentum: 0.1,
            frozen: false,
            workspace: Workspace::default(),
            batch: 0,
            training: false,
            graph,
        })
    }

    /// The graph that it was made from: names and shapes are the model's, weights are old.
    #[must_use]
    pub fn template(&self) -> &Graph {
        &self.graph
    }

    /// The shape of one input.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.graph.input().shape()
    }

    /// Number of outputs of one picture.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.graph.output().shape().len()
    }

    /// The activations' units in topological order.
    pub fn units(&self) -> impl Iterator<Item = &Unit> {
        self.layers.iter().filter_map(|l| match l {
            Layer::Activation(u) => Some(&**u),
            _ => None,
        })
    }

    /// The activations' units in topological order.
    pub fn units_mut(&mut self) -> impl Iterator<Item = &mut Unit> {
        self.layers.iter_mut().filter_map(|l| match l {
            Layer::Activation(u) => Some(&mut **u),
            _ => None,
        })
    }

    /// The batch normalisations with their nodes' names.
    pub(crate) fn norms(&self) -> impl Iterator<Item = (&str, &Norm)> {
        let nodes = self.layers.iter().zip(self.graph.nodes());
        nodes.filter_map(|(l, n)| match l {
            Layer::BatchNorm(b) => Some((n.name(), b)),
            _ => None,
        })
    }

    /// The same, to be changed.
    pub(crate) fn norms_mut(&mut self) -> impl Iterator<Item = (&str, &mut Norm)> {
        let nodes = self.layers.iter_mut().zip(self.graph.nodes());
        nodes.filter_map(|(l, n)| match l {
            Layer::BatchNorm(b) => Some((n.name(), b)),
            _ => None,
        })
    }

    /// Takes tokens as inputs from now on: each is a row of this table `(vocabulary, width)`, or, without one, of the output's weights.
    ///
    /// # Errors
    /// [`Error::Setting`] for a table that does not fit the input's channels, or an output that is no linear layer of as many.
    pub fn embed(&mut self, table: Option<Vec<f32>>) -> Result<()> {
        self.embed_wide(table, hwc(self.input_shape()).2)
    }

    fn embed_wide(&mut self, table: Option<Vec<f32>>, width: usize) -> Result<()> {
        let refuse = |value: String, remedy: &str| Err(Error::setting("embedding", value, remedy));
        let (parameter, tied) = match (table, &self.layers[self.output]) {
            (Some(t), _) if t.is_empty() || t.len() % width != 0 => {
                return refuse(
                    format!("{} values", t.len()),
                    "a row for each token, as wide as the network's input",
                );
            }
            (Some(t), _) => (self.table("embedding", t), false),
            (None, Layer::Linear(l)) if l.from == width => (l.weight, true),
            _ => {
                return refuse(
                    "tied".into(),
                    "the network must end in a linear layer whose inputs are as wide as its own",
                );
            }
        };
        self.embedding = Some(Embedding::new(parameter, tied, width));
        Ok(())
    }

    /// Adds a table of rows to the parameters.
    fn table(&mut self, name: &str, values: Vec<f32>) -> usize {
        let parameter = Parameter::new(name.into(), Kind::Weight, values);
        self.parameters.push(parameter);
        self.parameters.len() - 1
    }

    /// Takes sentences as inputs from now on, filled up to their length with padding: each token is a row of `words` (of the output's weights
    /// without them) and a row of `positions`, added; marks of what is no padding are one channel more. The norm of these sums, called
    /// `norm`, is evaluated in the clear by the client, so it gets no polynomial program.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Model::embed`].
    pub(crate) fn embed_sentences(
        &mut self,
        words: Option<Vec<f32>>,
        positions: Vec<f32>,
        places: Places,
        norm: &str,
    ) -> Result<()> {
        self.embed_wide(words, hwc(self.input_shape()).2 - 1)?;
        let parameter = self.table("positions", positions);
        if let Some(e) = &mut self.embedding {
            e.sentences = Some(Places {
                parameter,
                ..places
            });
        }
        for (layer, node) in self.layers.iter_mut().zip(self.graph.nodes()) {
            if let Layer::RowNorm(n) = layer
                && node.name() == norm
            {
                n.clear = true;
            }
        }
        Ok(())
    }

    /// The table of positions, for a model that takes sentences.
    #[must_use]
    pub(crate) fn positions_table(&self) -> Option<&[f32]> {
        let places = self.embedding.as_ref()?.sentences?;
        Some(&self.parameters[places.parameter].values)
    }

    /// The table of the embedding, `(vocabulary, width)`, and whether it is the output's.
    #[must_use]
    pub fn embedding(&self) -> Option<(Vec<f32>, bool)> {
        let e = self.embedding.as_ref()?;
        Some((e.table(&self.parameters), e.tied))
    }

    /// Number of tokens that it knows, for a model that takes tokens.
    #[must_use]
    pub fn vocabulary(&self) -> Option<usize> {
        let e = self.embedding.as_ref()?;
        Some(self.parameters[e.parameter].values.len() / e.width)
    }

    /// Positions of one input: tokens of a window, or 1.
    #[must_use]
    pub fn positions(&self) -> usize {
        let (h, w, _) = hwc(self.shapes[self.output]);
        h * w
    }

    /// Divisions and inverse roots that programs may compute, in topological order.
    pub fn inverses(&self) -> impl Iterator<Item = &InverseUnit> {
        self.layers.iter().filter_map(|l| match l {
            Layer::RowNorm(n) if !n.clear => Some(&n.root),
            Layer::Attention(a) if a.powers() => Some(&a.division),
            _ => None,
        })
    }

    /// Divisions and inverse roots that programs may compute, in topological order.
    pub fn inverses_mut(&mut self) -> impl Iterator<Item = &mut InverseUnit> {
        self.layers.iter_mut().filter_map(Layer::inverse_mut)
    }

    /// Takes attention's powers as they are from now on, as a homomorphic circuit does: the same weights, but divisors that programs may
    /// divide by and that losses may narrow.
    pub(crate) fn unscale_powers(&mut self) {
        for layer in &mut self.layers {
            if let Layer::Attention(a) = layer {
                a.unscale();
            }
        }
    }

    /// Floats that passes have held at once so far.
    #[must_use]
    pub fn held(&self) -> usize {
        self.workspace.most()
    }

    /// Forgets what the units saw.
    pub fn clear_ranges(&mut self) {
        self.all_seen().for_each(|seen| *seen = Seen::default());
    }

    /// What each unit and each inverse saw, to be [set](Self::set_seen) later.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.watched().map(|(_, seen)| *seen).collect()
    }

    /// What each unit and each inverse saw, with their nodes' names.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (&str, &Seen)> {
        let units = self.units().map(|u| (&u.name[..], &u.seen));
        units.chain(self.inverses().map(|u| (&u.name[..], &u.seen)))
    }

    pub(crate) fn set_seen(&mut self, seen: &[Seen]) {
        for (to, seen) in self.all_seen().zip(seen) {
            *to = *seen;
        }
    }

    /// Values that lay outside of their polynomials' and programs' intervals.
    pub(crate) fn outside(&self) -> u64 {
        self.watched().map(|(_, seen)| seen.outside).sum()
    }

    /// In the order of [`Self::seen`].
    fn all_seen(&mut self) -> impl Iterator<Item = &mut Seen> {
        let (mut units, mut inverses) = (Vec::new(), Vec::new());
        for layer in &mut self.layers {
            match layer {
                Layer::Activation(u) => units.push(&mut u.seen),
                other => inverses.extend(other.inverse_mut().map(|u| &mut u.seen)),
            }
        }
        units.into_iter().chain(inverses)
    }

    /// Gives the unit of this number a polynomial with these Chebyshev coefficients on this domain, and what it computes from now on.
    pub fn set_polynomial(
        &mut self,
        unit: usize,
        coefficients: &[f64],
        domain: (f32, f32),
        function: Function,
    ) {
        let values: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
        let next = self.parameters.len();
        let Some(u) = self.units_mut().nth(unit) else {
            return;
        };
        u.domain = domain;
        u.function = function;
        let index = *u.coefficients.get_or_insert(next);
        let name = format!("{}.coefficients", u.name);
        if index == next {
            let mut p = Parameter::new(name, Kind::Coefficient, values);
            p.trainable = false;
            self.parameters.push(p);
        } else {
            let p = &mut self.parameters[index];
            p.gradient = vec![0.0; values.len()];
            p.values = values;
        }
    }

    /// Sets all gradients to 0.
    pub fn clear_gradients(&mut self) {
        for p in &mut self.parameters {
            p.clear();
        }
    }

    /// The graph that the model computes now; blended units give their polynomial, or their function where they have none yet.
    ///
    /// # Errors
    /// [`Error::Network`] for weights that are not finite.
    pub fn to_graph(&self) -> Result<Graph> {
        let mut builder = Network::builder();
        let mut ids = Vec::new();
        for (node, layer) in self.graph.nodes().iter().zip(&self.layers) {
            let op = self.operator(node, layer)?;
            let inputs: Vec<_> = node.inputs().iter().map(|i| ids[i.index()]).collect();
            ids.push(builder.add(node.name(), op, &inputs)?);
        }
        Ok(builder.finish(ids[self.output])?)
    }

    fn operator(&self, node: &nn::Node<Nonlinearity>, layer: &Layer) -> Result<Op<Nonlinearity>> {
        let named = |what: &str| format!("{}.{what}", node.name());
        let p = |what: &str, shape: Vec<usize>, values: Vec<f32>| {
            nn::Parameter::new(&named(what), shape, values).map_err(Error::from)
        };
        let plain = |index: usize| self.parameters[index].values.clone();
        let bias = |bias: Option<usize>, count: usize| {
            bias.map(|b| p("bias", vec![count], plain(b))).transpose()
        };
        Ok(match (layer, node.op()) {
            (Layer::Convolution(f), Op::Conv2d(c)) => {
                let shape = c.weight.shape().to_vec();
                let weight = to_oihw(&f.weights(&self.parameters), &shape);
                Op::Conv2d(Conv2d {
                    bias: bias(f.bias, shape[0])?,
                    weight: p("weight", shape, weight)?,
                    ..c.clone()
                })
            }
            (Layer::Linear(l), old) => {
                let (from, to) = (l.from, l.to);
                let values = transposed(&self.parameters[l.weight].values, from, to);
                let bias = bias(l.bias, to)?;
                match old {
                    Op::Conv2d(c) => Op::Conv2d(Conv2d {
                        weight: p("weight", vec![to, from, 1, 1], values)?,
                        bias,
                        ..c.clone()
                    }),
                    _ => Op::Linear(Linear {
                        weight: p("weight", vec![to, from], values)?,
                        bias,
                    }),
                }
            }
            (Layer::BatchNorm(b), Op::BatchNorm(old)) => {
                let n = vec![b.mean.len()];
                Op::BatchNorm(BatchNorm {
                    scale: p("scale", n.clone(), plain(b.scale))?,
                    bias: p("bias", n.clone(), plain(b.bias))?,
                    mean: p("mean", n.clone(), b.mean.clone())?,
                    variance: p("variance", n, b.variance.clone())?,
                    epsilon: old.epsilon,
                })
            }
            (Layer::RowNorm(n), Op::Norm(old)) => {
                let channels = self.parameters[n.scale].values.len();
                Op::Norm(nn::Norm {
                    scale: p("scale", vec![channels], plain(n.scale))?,
                    bias: bias(n.bias, channels)?,
                    ..old.clone()
                })
            }
            (Layer::Activation(u), old) => match (u.function, u.polynomial(&self.parameters)?) {
                (Function::Polynomial | Function::Blend { .. }, Some(p)) => {
                    Op::Elementwise(Nonlinearity::Polynomial(p))
                }
                _ => old.clone(),
            },
            (_, old) => old.clone(),
        })
    }
}

/// The parameters of a node's layer, added to the others.
struct New<'a> {
    node: &'a nn::Node<Nonlinearity>,
    parameters: &'a mut Vec<Parameter>,
}

impl New<'_> {
    fn parameter(&mut self, what: &str, kind: Kind, values: Vec<f32>) -> usize {
        let name = format!("{}.{what}", self.node.name());
        self.parameters.push(Parameter::new(name, kind, values));
        self.parameters.len() - 1
    }

    /// From weights `(to, from, …)`.
    fn linear(&mut self, weight: &nn::Parameter, bias: Option<&nn::Parameter>) -> Layer {
        let (to, from) = (weight.shape()[0], weight.shape()[1]);
        let values = transposed(weight.values(), to, from);
        Layer::Linear(Dense {
            from,
            to,
            weight: self.parameter("weight", Kind::Weight, values),
            bias: bias.map(|b| self.parameter("bias", Kind::Offset, b.values().to_vec())),
        })
    }
}

fn layer(
    node: &nn::Node<Nonlinearity>,
    from: Option<Shape>,
    parameterization: Parameterization,
    parameters: &mut Vec<Parameter>,
) -> Result<Layer> {
    let mut new = New { node, parameters };
    let offset = |new: &mut New<'_>, what: &str, p: &nn::Parameter| {
        new.parameter(what, Kind::Offset, p.values().to_vec())
    };
    Ok(match (node.op(), from) {
        (Op::Input(_), _) => Layer::Input,
        (Op::Constant(shape, p), _) => Layer::Constant(to_hwc(p.values(), *shape)),
        // on tokens, a linear layer: one matrix product
        (Op::Conv2d(c), Some(from)) if hwc(from).0 == 1 && pointwise(c) => {
            new.linear(&c.weight, c.bias.as_ref())
        }
        (Op::Conv2d(c), Some(from)) => {
            let shape = c.weight.shape();
            let (kh, kw) = c.kernel();
            let geometry = Convolution {
                batch: 1,
                input: hwc(from),
                output: hwc(node.shape()),
                kernel: (kh, kw),
                stride: c.stride,
                dilation: c.dilation,
                padding: (c.padding.top, c.padding.left),
                groups: c.groups,
            };
            let weight = to_hwio(c.weight.values(), shape);
            let weight = new.parameter("weight", Kind::Weight, weight);
            let bias = c.bias.as_ref().map(|b| offset(&mut new, "bias", b));
            let square = shape[0] == shape[1]
                && c.groups == 1
                && c.stride == (1, 1)
                && kh % 2 == 1
                && kw % 2 == 1
                && kh > 1;
            let mut all = |what, value| new.parameter(what, Kind::Offset, vec![value; shape[0]]);
            let dirac = (parameterization == Parameterization::Dirac && square).then(|| Dirac {
                identity: all("dirac.identity", 1.0),
                share: all("dirac.share", 0.1),
                shape: (kh, kw, shape[1], shape[0]),
            });
            Layer::Convolution(Filter {
                geometry,
                weight,
                bias,
                dirac,
            })
        }
        (Op::Linear(l), _) => new.linear(&l.weight, l.bias.as_ref()),
        (Op::BatchNorm(b), _) => Layer::BatchNorm(Norm {
            scale: offset(&mut new, "scale", &b.scale),
            bias: offset(&mut new, "bias", &b.bias),
            mean: b.mean.values().to_vec(),
            variance: b.variance.values().to_vec(),
            epsilon: b.epsilon as f32,
            batch: None,
        }),
        (Op::Norm(n), _) => {
            let scale = offset(&mut new, "scale", &n.scale);
            let bias = n.bias.as_ref().map(|b| offset(&mut new, "bias", b));
            Layer::RowNorm(Box::new(RowNorm::new(node.name(), n, scale, bias)))
        }
        (Op::Rotary(r), Some(from)) => Layer::Rotary(Turn::new(r, from)),
        (Op::Attention(a), Some(from)) => {
            Layer::Attention(Box::new(Attend::new(node.name(), a, from)))
        }
        (Op::Elementwise(Nonlinearity::Activation(a)), _) => {
            Layer::Activation(Box::new(Unit::new(node.name(), Some(*a))))
        }
        (Op::Elementwise(Nonlinearity::Polynomial(p)), _) if p.degree() < 2 => {
            let m = p.to_monomial();
            Layer::Affine {
                factor: m.get(1).map_or(0.0, |&f| f as f32),
                shift: m[0] as f32,
            }
        }
        (Op::Elementwise(Nonlinearity::Polynomial(p)), _) => {
            let mut unit = Unit::new(node.name(), None);
            let (low, high) = p.interval();
            unit.domain = (low as f32, high as f32);
            unit.target = unit.domain;
            unit.function = Function::Polynomial;
            let coefficients = p.coefficients().iter().map(|&c| c as f32).collect();
            unit.coefficients =
                Some(new.parameter("coefficients", Kind::Coefficient, coefficients));
            Layer::Activation(Box::new(unit))
        }
        (Op::Add, _) => Layer::Add,
        (Op::Mul, _) => Layer::Mul,
        (Op::AvgPool(p), _) => Layer::AveragePool(*p),
        (Op::GlobalAvgPool, Some(from)) => {
            let (height, width, _) = hwc(from);
            Layer::AveragePool(AvgPool {
                kernel: (height, width),
                stride: (1, 1),
                padding: nn::Padding::default(),
                count_include_pad: true,
            })
        }
        (
            Op::Pad(_)
            | Op::Slice(_)
            | Op::Flatten
            | Op::Reshape(_)
            | Op::Rearrange(_)
            | Op::Unfold(_)
            | Op::Repeat(_),
            Some(from),
        ) => moved(node, from)?,
        (Op::Softmax(kind), _) => Layer::Softmax(match kind {
            nn::Softmax::Shares => kernels::Softmax::Shares,
            nn::Softmax::Logarithms => kernels::Softmax::Logarithms,
        }),
        (Op::Identity, _) => Layer::Identity,
        // on purpose: what is trained shall be what becomes polynomial, and no polynomial is a maximum
        (Op::MaxPool(_), _) => {
            return Err(Error::unsupported(
                node.name(),
                node.op().name(),
                "put a mean over the same windows in its place, as adaptation does (Graph::with_average_pools)",
            ));
        }
        // every operator that is left takes an input, and a graph gives it one
        (op, None) => {
            let remedy = "give it the input that it takes";
            return Err(Error::unsupported(node.name(), op.name(), remedy));
        }
    })
}

/// The layer of an operator that only moves values: the oracle moves their numbers, from 1 on; 0 is no value.
fn moved(node: &nn::Node<Nonlinearity>, from: Shape) -> Result<Layer> {
    let mut b = Network::builder();
    let x = b.add("from", Op::Input(from), &[])?;
    let y = b.add("to", node.op().clone(), &[x])?;
    let ((h, w, c), (th, tw, tc)) = (hwc(from), hwc(node.shape()));
    let numbers: Vec<f64> = (1..=from.len()).map(|i| i as f64).collect();
    let numbers = Tensor::new(from, transposed(&numbers, h * w, c))?;
    let moved = b.finish(y)?.evaluate(&numbers)?.output;
    let moved = transposed(moved.values(), tc, th * tw);
    let stays = |(i, &number): (usize, &f64)| number == (i + 1) as f64;
    if moved.len() == from.len() && moved.iter().enumerate().all(stays) {
        return Ok(Layer::Identity);
    }
    // shapes have fewer values than 2^32
    let place = |number: &f64| (*number as u32).wrapping_sub(1);
    Ok(Layer::Rearrange(moved.iter().map(place).collect()))
}

/// One tap, one group, nothing left out or added.
fn pointwise(c: &Conv2d) -> bool {
    c.kernel() == (1, 1)
        && c.stride == (1, 1)
        && c.padding == nn::Padding::default()
        && c.groups == 1
}
