//! Causal language models: an embedding and a graph for any length.
//!
//! The embedding is the client's: a model's graph takes the embedded sequence `(D, 1, L)` and gives the logits of all positions,
//! `(V, 1, L)`; its last node is the output head, which a tied model shares with the embedding. Graphs of all lengths have the same nodes with
//! the same weights, so a model trained at one length is read back by [`LanguageModel::with_weights_of`] and built at another.

use crate::config::Fields;
use crate::{gguf_llama, gpt_neox, llama};
use nn::Error;
use nn::Result;
use nn::attention::{AttentionScheme, Mask};
use nn::format::gguf;
use nn::format::llama2c;
use nn::format::state_dict::{StateDict, StateTensor};
use nn::format::{DEFAULT_LIMIT, read_limited};
use nn::{Attention, Conv2d, Nonlinearity, Norm, NormKind, Op, Rotary};
use nn::{Graph, NetworkBuilder, NodeId};
use nn::{Parameter, Shape, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// More blocks than any model has.
const MAX_LAYERS: usize = 1024;

/// Which model, with its sizes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Architecture {
    /// Llama and what is built like it.
    Llama(llama::Config),
    /// GPT-NeoX, as Pythia.
    GptNeoX(gpt_neox::Config),
}

/// Takes a tensor's name and shape.
pub(crate) type Tensors<'a> = dyn FnMut(String, Vec<usize>) -> Result<()> + 'a;

impl Architecture {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the field that is missing, out of range or unknown.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = Fields::parse(text)?;
        let architecture = match json.get("model_type").and_then(Value::as_str) {
            Some("llama") => Self::Llama(llama::Config::read(&json)?),
            Some("gpt_neox") => Self::GptNeoX(gpt_neox::Config::read(&json)?),
            other => {
                return Err(crate::config::refuse(format!(
                    "model_type is {}, llama and gpt_neox are known",
                    other.unwrap_or("missing")
                )));
            }
        };
        architecture.check()?;
        Ok(architecture)
    }

    /// The text of a `config.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Llama(c) => c.write(),
            Self::GptNeoX(c) => c.write(),
        };
        format!("{json:#}\n")
    }

    fn check(&self) -> Result<()> {
        let layers = match self {
            Self::Llama(c) => c.check().map(|()| c.layers)?,
            Self::GptNeoX(c) => c.check().map(|()| c.layers)?,
        };
        if layers > MAX_LAYERS {
            return Err(crate::config::refuse(format!(
                "{layers} layers are more than {MAX_LAYERS}"
            )));
        }
        Ok(())
    }

    /// Every tensor of the model with its shape.
    ///
    /// # Errors
    /// Whatever `each` returns.
    pub fn tensors(&self, mut each: impl FnMut(String, Vec<usize>) -> Result<()>) -> Result<()> {
        match self {
            Self::Llama(c) => c.tensors(&mut each),
            Self::GptNeoX(c) => c.tensors(&mut each),
        }
    }

    /// Width D of a token.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Llama(c) => c.width,
            Self::GptNeoX(c) => c.width,
        }
    }

    /// Number of tokens V.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Llama(c) => c.vocabulary,
            Self::GptNeoX(c) => c.vocabulary,
        }
    }

    /// The longest sequence that the model knows.
    #[must_use]
    pub fn max_length(&self) -> usize {
        match self {
            Self::Llama(c) => c.max_length,
            Self::GptNeoX(c) => c.max_length,
        }
    }

    /// Whether the output head is the embedding.
    #[must_use]
    pub fn tied(&self) -> bool {
        match self {
            Self::Llama(c) => c.tied,
            Self::GptNeoX(c) => c.tied,
        }
    }

    /// The embedding's tensor and the output head's node.
    fn ends(&self) -> (&'static str, &'static str) {
        match self {
            Self::Llama(_) => (llama::Config::EMBEDDING, llama::Config::HEAD),
            Self::GptNeoX(_) => (gpt_neox::Config::EMBEDDING, gpt_neox::Config::HEAD),
        }
    }
}

/// A causal language model with all its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageModel {
    architecture: Architecture,
    weights: BTreeMap<String, Parameter>,
}

impl LanguageModel {
    /// A model whose weights `values(name, shape)` gives: fresh ones, for training from scratch.
    ///
    /// # Errors
    /// [`Error::Malformed`] for sizes that don't fit each other, [`Error::Length`] and [`Error::NotFinite`] for values that don't fit.
    pub fn new(
        architecture: Architecture,
        mut values: impl FnMut(&str, &[usize]) -> Vec<f32>,
    ) -> Result<Self> {
        architecture.check()?;
        let mut weights = BTreeMap::new();
        architecture.tensors(|name, shape| {
            let values = values(&name, &shape);
            let parameter = Parameter::new(&name, shape, values)?;
            weights.insert(name, parameter);
            Ok(())
        })?;
        Ok(Self {
            architecture,
            weights,
        })
    }

    /// From the text of a `config.json` and the tensors of Hugging Face's checkpoint; tensors that the model doesn't have (buffers of
    /// old releases) are left aside.
    ///
    /// # Errors
    /// Those of [`Architecture::from_json`], [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::NotFinite`].
    pub fn from_checkpoint(config: &str, checkpoint: &StateDict) -> Result<Self> {
        let architecture = Architecture::from_json(config)?;
        let mut weights = BTreeMap::new();
        architecture.tensors(|name, shape| {
            let (stored, whole, part) = match &architecture {
                Architecture::Llama(_) => (name.clone(), shape.clone(), None),
                Architecture::GptNeoX(c) => c.stored(&name, shape.clone()),
            };
            let tensor = checkpoint.require(&stored)?;
            if tensor.shape != whole {
                return Err(Error::TensorShape {
                    tensor: stored,
                    needed: whole,
                    had: tensor.shape.clone(),
                });
            }
            let values = match (&architecture, part) {
                (Architecture::GptNeoX(c), Some(part)) => c.part(&tensor.values, part),
                _ => tensor.values.clone(),
            };
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            let parameter = Parameter::new(&stored, shape, values)?;
            weights.insert(name, parameter);
            Ok(())
        })?;
        Ok(Self {
            architecture,
            weights,
        })
    }

    /// From a folder with `config.json` and `model.safetensors` (or `pytorch_model.bin`), or from a file of llama.cpp (GGUF) or llama2.c; at
    /// most [`DEFAULT_LIMIT`] bytes each.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], and those of [`LanguageModel::from_checkpoint`] and [`LanguageModel::from_bytes`].
    pub fn load(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Self::from_bytes(&read_limited(path, DEFAULT_LIMIT)?);
        }
        let (config, checkpoint) = StateDict::load_folder(path)?;
        Self::from_checkpoint(&config, &checkpoint)
    }

    /// From the bytes of a file of llama.cpp (GGUF) or llama2.c.
    ///
    /// # Errors
    /// Those of [`gguf_llama::language_model`], [`llama2c::read`] and [`LanguageModel::from_checkpoint`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if gguf::recognises(bytes) {
            return gguf_llama::language_model(&gguf::File::read(bytes)?);
        }
        let (config, checkpoint) = llama2c::read(bytes)?;
        Self::from_checkpoint(&config, &checkpoint)
    }

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's readers take them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.to_checkpoint()
            .save_folder(folder, &self.architecture.to_json())
    }

    /// The tensors under the checkpoint's names.
    #[must_use]
    pub fn to_checkpoint(&self) -> StateDict {
        let mut tensors: BTreeMap<String, StateTensor> = self
            .weights
            .iter()
            .map(|(name, p)| {
                let tensor = StateTensor {
                    shape: p.shape().to_vec(),
                    values: p.to_f64(),
                };
                (name.clone(), tensor)
            })
            .collect();
        if let Architecture::GptNeoX(c) = &self.architecture {
            c.fuse(&mut tensors);
        }
        StateDict::new(tensors)
    }

    /// The same model with the weights that a graph of it has now, and with its own embedding: what training changed. An output head that
    /// is no longer the embedding makes the model untied.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for a layer that the graph lacks, [`Error::TensorShape`] for one of another shape.
    pub fn with_weights_of(&self, graph: &Graph) -> Result<Self> {
        let mut out = self.clone();
        let (embedding, head) = self.architecture.ends();
        let embedding = format!("{embedding}.weight");
        for (name, own) in &mut out.weights {
            if *name == embedding {
                continue;
            }
            let (node, part) = name.rsplit_once('.').unwrap_or((name.as_str(), ""));
            *own = fitting(&parameter_of(graph, node, part, name)?, name, own.shape())?;
        }
        if self.architecture.tied() {
            let name = format!("{head}.weight");
            let own = &self.weights[&embedding];
            let trained = parameter_of(graph, head, "weight", &name)?;
            let trained = fitting(&trained, &name, own.shape())?;
            if trained != *own {
                out.weights.insert(name, trained);
                match &mut out.architecture {
                    Architecture::Llama(c) => c.tied = false,
                    Architecture::GptNeoX(c) => c.tied = false,
                }
            }
        }
        Ok(out)
    }

    /// The same model with this embedding `(V, D)`; the output head of a tied model with it.
    ///
    /// # Errors
    /// [`Error::TensorShape`].
    pub fn with_embedding(mut self, embedding: &Parameter) -> Result<Self> {
        let name = format!("{}.weight", self.architecture.ends().0);
        let embedding = fitting(embedding, &name, self.weights[&name].shape())?;
        self.weights.insert(name, embedding);
        Ok(self)
    }

    /// Which model it is.
    #[must_use]
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The embedding `(V, D)`.
    #[must_use]
    pub fn embedding(&self) -> &Parameter {
        &self.weights[&format!("{}.weight", self.architecture.ends().0)]
    }

    /// The embedded sequence `(D, 1, L)`: what the client encrypts.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that there isn't, [`Error::TooLong`] for more than the model knows, [`Error::Length`] for none.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        self.check_length(tokens.len())?;
        let (width, vocabulary) = (self.architecture.width(), self.architecture.vocabulary());
        let table = self.embedding().values();
        let mut x = vec![0.0; width * tokens.len()];
        for (t, &token) in tokens.iter().enumerate() {
            if token as usize >= vocabulary {
                return Err(Error::Token { token, vocabulary });
            }
            let row = &table[token as usize * width..][..width];
            for (c, &v) in row.iter().enumerate() {
                x[c * tokens.len() + t] = f64::from(v);
            }
        }
        Tensor::new(Shape::image(width, 1, tokens.len()), x)
    }

    fn check_length(&self, length: usize) -> Result<()> {
        let limit = self.architecture.max_length();
        if length > limit {
            return Err(Error::TooLong { had: length, limit });
        }
        Ok(())
    }

    /// The network from an embedded sequence of this length to the logits of all positions, with this attention.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Invalid`] for a length of 0.
    pub fn graph(&self, length: usize, scheme: AttentionScheme) -> Result<Graph> {
        self.check_length(length)?;
        let mut b = Blocks {
            weights: &self.weights,
            network: Graph::builder(),
        };
        let width = self.architecture.width();
        let x = b
            .network
            .input("embedding", Shape::image(width, 1, length))?;
        let x = match &self.architecture {
            Architecture::Llama(c) => c.blocks(&mut b, scheme, x)?,
            Architecture::GptNeoX(c) => c.blocks(&mut b, scheme, x)?,
        };
        let (embedding, head) = self.architecture.ends();
        let tensor = if self.architecture.tied() {
            embedding
        } else {
            head
        };
        let logits = b.linear_of(head, tensor, x)?;
        b.network.finish(logits)
    }

    /// The logits `(V, 1, L)` of all positions, by the oracle.
    ///
    /// # Errors
    /// Those of [`LanguageModel::embed`] and [`LanguageModel::graph`].
    pub fn logits(&self, tokens: &[u32], scheme: AttentionScheme) -> Result<Tensor> {
        let graph = self.graph(tokens.len(), scheme)?;
        Ok(graph.evaluate(&self.embed(tokens)?)?.output)
    }
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
    parameter.ok_or_else(|| Error::MissingTensor {
        tensor: tensor.into(),
        had: graph.nodes().len(),
        example: graph.output().name().into(),
    })
}

/// The parameter under a model's shape, which may leave out a convolution's kernel of 1×1.
pub(crate) fn fitting(parameter: &Parameter, name: &str, shape: &[usize]) -> Result<Parameter> {
    let own = parameter.shape();
    let same = own == shape || own.strip_prefix(shape) == Some(&[1, 1]);
    if same {
        return parameter.reshaped(name, shape);
    }
    Err(Error::TensorShape {
        tensor: name.into(),
        needed: shape.to_vec(),
        had: own.to_vec(),
    })
}

/// A model's attention, the same in all blocks.
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) rotary: Rotary,
    pub(crate) scheme: AttentionScheme,
}

/// A graph under construction with the weights that it takes by name.
pub(crate) struct Blocks<'a> {
    pub(crate) weights: &'a BTreeMap<String, Parameter>,
    pub(crate) network: NetworkBuilder<Nonlinearity>,
}

impl Blocks<'_> {
    fn weight(&self, name: &str) -> Result<&Parameter> {
        self.weights.get(name).ok_or_else(|| Error::MissingTensor {
            tensor: name.into(),
            had: self.weights.len(),
            example: self.weights.keys().next().cloned().unwrap_or_default(),
        })
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

    fn linear_of(&mut self, name: &str, tensor: &str, x: NodeId) -> Result<NodeId> {
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
        let q = self.add(
            &format!("{name}.query_rotary"),
            Op::Rotary(heads.rotary),
            &[q],
        )?;
        let k = self.add(
            &format!("{name}.key_rotary"),
            Op::Rotary(heads.rotary),
            &[k],
        )?;
        let attention = Attention {
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            scale: 1.0 / (heads.rotary.head as f64).sqrt(),
            mask: Mask::CAUSAL,
            scheme: heads.scheme,
        };
        self.add(name, Op::Attention(attention), &[q, k, v])
    }
}
