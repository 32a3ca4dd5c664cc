//! What families of language models and encoders are built of, and what a family of language models says of itself ([`Decoder`]).

use crate::random::uniform;
use nn::attention::{AttentionScheme, Mask};
use nn::format::state_dict::{StateDict, StateTensor};
use nn::{
    Attention, Conv2d, Error, Graph, Kept, NetworkBuilder, NodeId, Nonlinearity, Norm, NormKind,
    Op, Pairing, Parameter, Result, Rotary, Shape,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a tensor is in its model: what its random values are like follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A table with a row for each token, or each type of them.
    Tokens,
    /// A table with a row for each position.
    Positions,
    /// What a norm multiplies by.
    Scale,
    /// What a norm or a linear layer adds.
    Bias,
    /// A linear layer.
    Linear,
    /// A linear layer whose output is added to the sequence.
    Residual,
}

/// How the values of a new tensor are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// All are this one.
    All(f32),
    /// Uniform in ±bound.
    Within(f64),
}

impl Initial {
    /// The values: a function of seed and name.
    pub(crate) fn values(self, seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        match self {
            Self::All(value) => vec![value; count],
            Self::Within(bound) => uniform(seed, name, count, bound),
        }
    }
}

/// Takes a tensor's name, shape and role.
pub type Tensors<'a> = dyn FnMut(String, Vec<usize>, Role) -> Result<()> + 'a;

/// What every language model has, whatever its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Blocks.
    pub layers: usize,
    /// Width D of a token.
    pub width: usize,
    /// Width of the inner layer.
    pub hidden: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Channels of one head.
    pub head: usize,
    /// Tokens there are.
    pub vocabulary: usize,
    /// Longest sequence.
    pub max_length: usize,
}

impl Sizes {
    /// Of BERT-base, RoBERTa-base and ViT-B, but for the last two.
    pub(crate) const BASE: Self = Self {
        layers: 12,
        width: 768,
        hidden: 3072,
        heads: 12,
        kv_heads: 12,
        head: 64,
        vocabulary: 0,
        max_length: 0,
    };
}

/// A published model: its name, and what makes its configuration.
pub type Published<T> = (&'static str, fn() -> T);

/// A family of causal language models: the configuration of one of them. To add a family, implement this in a file of its own and name it in
/// [`crate::architecture`].
pub trait Decoder: Sized + Clone + 'static {
    /// What `model_type` of a `config.json` says.
    const MODEL_TYPE: &'static str;
    /// The embedding's name.
    const EMBEDDING: &'static str;
    /// The output head's name.
    const HEAD: &'static str;
    /// Published models' names, with their configurations as their `config.json` has them.
    const PUBLISHED: &'static [Published<Self>];
    /// Values of a token of the inner layer that a backward pass needs, in widths of that layer.
    const INNER: u64;

    /// From the fields of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the field that is missing, out of range or unknown.
    fn read(json: &Value) -> Result<Self>;

    /// The fields of a `config.json`.
    fn write(&self) -> Value;

    /// Refuses sizes that don't fit each other.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    fn check(&self) -> Result<()>;

    /// The same structure with these sizes; all of a head's channels turn with the position.
    fn resized(&self, sizes: Sizes) -> Self;

    /// Every tensor between the embedding and the output head, its shape and its role, given one at a time.
    ///
    /// # Errors
    /// Whatever `each` returns.
    fn tensors(&self, each: &mut Tensors<'_>) -> Result<()>;

    /// What a tensor of this role, whose rows have so many values, is before training. As in GPT-2, where a family does not say otherwise:
    /// outputs of blocks are smaller the more `layers` are added up.
    fn initial(role: Role, inputs: usize, layers: usize) -> Initial {
        let inputs = (inputs as f64).sqrt();
        let deviation = match role {
            Role::Scale => return Initial::All(1.0),
            Role::Bias => return Initial::All(0.0),
            Role::Tokens | Role::Positions => 0.02,
            Role::Linear => 1.0 / inputs,
            Role::Residual => 1.0 / (2.0 * layers as f64).sqrt() / inputs,
        };
        Initial::Within(deviation * 3f64.sqrt())
    }

    /// From the embedded sequence `(D, 1, L)` to the last norm's output, of the same shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Invalid`].
    fn blocks(&self, b: &mut Blocks<'_>, scheme: AttentionScheme, x: NodeId) -> Result<NodeId>;

    /// Where a tensor of ours is in a checkpoint: the checkpoint's tensor, its shape, and which part of it, if it holds several.
    fn stored(&self, name: &str, shape: Vec<usize>) -> (String, Vec<usize>, Option<usize>) {
        (name.into(), shape, None)
    }

    /// One part of the values of a tensor that holds several.
    fn part(&self, values: &[f64], _part: usize) -> Vec<f64> {
        values.to_vec()
    }

    /// Puts parts together, as checkpoints have them.
    fn fuse(&self, _tensors: &mut BTreeMap<String, StateTensor>) {}
}

/// A model's tensors by their names.
pub(crate) type Weights = BTreeMap<String, Parameter>;

/// The parameter that `make` gives for each of these tensors.
pub(crate) fn collect(
    tensors: impl FnOnce(&mut Tensors<'_>) -> Result<()>,
    mut make: impl FnMut(&str, Vec<usize>, Role) -> Result<Parameter>,
) -> Result<Weights> {
    let mut weights = Weights::new();
    tensors(&mut |name, shape, role| {
        let parameter = make(&name, shape, role)?;
        weights.insert(name, parameter);
        Ok(())
    })?;
    Ok(weights)
}

/// What `values` gives for each of these tensors.
pub(crate) fn fresh(
    tensors: impl FnOnce(&mut Tensors<'_>) -> Result<()>,
    mut values: impl FnMut(&str, &[usize], Role) -> Vec<f32>,
) -> Result<Weights> {
    collect(tensors, |name, shape, role| {
        let values = values(name, &shape, role);
        Parameter::new(name, shape, values)
    })
}

/// The values of the checkpoint's tensor, which must have this shape.
pub(crate) fn read<'c>(
    checkpoint: &'c StateDict,
    name: &str,
    shape: &[usize],
) -> Result<&'c [f64]> {
    let tensor = checkpoint.require(name)?;
    if tensor.shape == shape {
        return Ok(&tensor.values);
    }
    Err(Error::shape(name, shape, &tensor.shape))
}

/// As checkpoints have them.
pub(crate) fn state(weights: &Weights) -> BTreeMap<String, StateTensor> {
    let tensor = |p: &Parameter| StateTensor {
        shape: p.shape().to_vec(),
        values: p.to_f64(),
    };
    weights
        .iter()
        .map(|(name, p)| (name.clone(), tensor(p)))
        .collect()
}

/// The node's tensor of this kind.
pub(crate) fn parameter_of(
    graph: &Graph,
    node: &str,
    part: &str,
    tensor: &str,
) -> Result<Parameter> {
    let op = graph.find(node).map(nn::Node::op);
    let parameter = match (op, part) {
        (Some(Op::Conv2d(c)), "weight") => Some(c.weight.clone()),
        (Some(Op::Conv2d(c)), "bias") => c.bias.clone(),
        (Some(Op::Norm(n)), "weight") => Some(n.scale.clone()),
        (Some(Op::Norm(n)), "bias") => n.bias.clone(),
        _ => None,
    };
    let names = || graph.nodes().iter().map(nn::Node::name);
    parameter.ok_or_else(|| Error::missing(tensor, names()))
}

/// The parameter under a model's shape, which may leave out a convolution's kernel of 1×1.
pub(crate) fn fitting(parameter: &Parameter, name: &str, shape: &[usize]) -> Result<Parameter> {
    let own = parameter.shape();
    let same = own == shape || own.strip_prefix(shape) == Some(&[1, 1]);
    if same {
        return parameter.reshaped(name, shape);
    }
    Err(Error::shape(name, shape, own))
}

/// A model's attention, the same in all blocks.
pub(crate) struct Heads {
    pub(crate) sizes: Sizes,
    /// Channels of a head that turn with the position.
    pub(crate) rotated: usize,
    /// Base of the rotary positions.
    pub(crate) base: f64,
    pub(crate) scheme: AttentionScheme,
}

/// What attention looks back by.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    /// Cosines, then sines, one for each channel of a head.
    pub(crate) turn: Option<NodeId>,
    /// 1 where this token's keys and values go.
    pub(crate) place: Option<NodeId>,
    /// Rows.
    pub(crate) context: usize,
    pub(crate) kept: Vec<Kept>,
    /// Cosines and sines for so many channels.
    pub(crate) turns: BTreeMap<usize, [NodeId; 2]>,
    /// The angles, which are the same in all blocks.
    pub(crate) rotary: Option<Rotary>,
}

impl Recall {
    pub(crate) fn new(
        network: &mut NetworkBuilder<Nonlinearity>,
        sizes: &Sizes,
        context: usize,
    ) -> Result<Self> {
        if context < 2 {
            let detail = format!("a context of {context} tokens, at least 2 are needed");
            return Err(Error::invalid("place", "Input", detail));
        }
        let turn = network.input("turn", Shape::image(2 * sizes.head, 1, 1))?;
        let channels = sizes.kv_heads * sizes.head;
        let place = network.input("place", Shape::image(channels, context, 1))?;
        Ok(Self {
            turn: Some(turn),
            place: Some(place),
            context,
            ..Self::default()
        })
    }

    pub(crate) fn inputs(&self) -> Result<[NodeId; 2]> {
        let both = self.turn.zip(self.place).map(|(t, p)| [t, p]);
        both.ok_or(Error::Inputs(1))
    }
}

/// A graph under construction with the weights that it takes by name.
pub struct Blocks<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) network: NetworkBuilder<Nonlinearity>,
    /// What attention looks back by where the graph is one of a single token.
    pub(crate) step: Option<Recall>,
}

impl Blocks<'_> {
    fn weight(&self, name: &str) -> Result<&Parameter> {
        let names = || self.weights.keys().map(String::as_str);
        let own = self.weights.get(name);
        own.ok_or_else(|| Error::missing(name, names()))
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        op: Op<Nonlinearity>,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        self.network.add(name, op, inputs)
    }

    /// A linear layer on each token.
    pub(crate) fn linear(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.linear_of(name, name, x)
    }

    pub(crate) fn linear_of(&mut self, name: &str, tensor: &str, x: NodeId) -> Result<NodeId> {
        let full = format!("{tensor}.weight");
        let weight = self.weight(&full)?;
        let shape = weight.shape();
        let weight = weight.reshaped(&full, &[shape[0], shape[1], 1, 1])?;
        let conv = Conv2d {
            bias: self.weights.get(&format!("{tensor}.bias")).cloned(),
            ..Conv2d::new(weight)
        };
        self.add(name, Op::Conv2d(conv), &[x])
    }

    pub(crate) fn norm(
        &mut self,
        name: &str,
        (kind, epsilon): (NormKind, f64),
        x: NodeId,
    ) -> Result<NodeId> {
        let norm = Norm {
            kind,
            scale: self.weight(&format!("{name}.weight"))?.clone(),
            bias: self.weights.get(&format!("{name}.bias")).cloned(),
            epsilon,
        };
        self.add(name, Op::Norm(norm), &[x])
    }

    /// Rotary positions on queries and keys, then causal attention.
    pub(crate) fn attention(
        &mut self,
        name: &str,
        heads: &Heads,
        [q, k, v]: [NodeId; 3],
    ) -> Result<NodeId> {
        let rotary = Rotary {
            head: heads.sizes.head,
            rotated: heads.rotated,
            base: heads.base,
            pairing: Pairing::Half,
            first: 0,
        };
        if let Some(recall) = self.step.take() {
            let recall = self.recalled(name, heads, rotary, recall, [q, k, v]);
            let (attended, recall) = recall?;
            self.step = Some(recall);
            return Ok(attended);
        }
        let q = self.add(&format!("{name}.query_rotary"), Op::Rotary(rotary), &[q])?;
        let k = self.add(&format!("{name}.key_rotary"), Op::Rotary(rotary), &[k])?;
        let attention = Attention {
            heads: heads.sizes.heads,
            kv_heads: heads.sizes.kv_heads,
            scale: 1.0 / (heads.sizes.head as f64).sqrt(),
            mask: Mask::CAUSAL,
            scheme: heads.scheme,
        };
        self.add(name, Op::Attention(attention), &[q, k, v])
    }
}

/// Refuses a sequence that is longer than a model knows.
pub(crate) fn within(length: usize, limit: usize) -> Result<()> {
    if length <= limit {
        return Ok(());
    }
    let detail = format!(
        "a sequence of {length} tokens is too long, at most {limit} are possible; shorten it"
    );
    Err(Error::invalid("embedding", "Input", detail))
}
