//! Causal language models: an embedding and a graph for any length.
//!
//! The embedding is the client's: a model's graph takes the embedded sequence `(D, 1, L)` and gives the logits of all positions,
//! `(V, 1, L)`; its last node is the output head, which a tied model shares with the embedding. Graphs of all lengths have the same nodes with
//! the same weights, so a model trained at one length is read back by [`LanguageModel::with_weights_of`] and built at another.

use crate::architecture::Architecture;
use crate::blocks::{
    Blocks, Recall, Role, Sizes, Weights, collect, fitting, fresh, parameter_of, read, state,
    within,
};
use crate::step::Step;
use crate::{gguf_llama, llama2c};
use nn::attention::AttentionScheme;
use nn::format::state_dict::StateDict;
use nn::format::{DEFAULT_LIMIT, gguf, read_limited};
use nn::{Graph, NodeId, Parameter, Result, Shape, Tensor};
use std::path::Path;

/// A causal language model with all its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageModel {
    architecture: Architecture,
    weights: Weights,
}

impl LanguageModel {
    /// A model whose weights `values(name, shape)` gives.
    ///
    /// # Errors
    /// `Error::Malformed` for sizes that don't fit each other, `Error::Length` and `Error::NotFinite` for values that don't fit.
    pub fn new(
        architecture: Architecture,
        mut values: impl FnMut(&str, &[usize]) -> Vec<f32>,
    ) -> Result<Self> {
        Self::with_roles(architecture, |name, shape, _| values(name, shape))
    }

    /// New weights, for training from scratch: the same for the same seed.
    ///
    /// # Errors
    /// `Error::Malformed` for sizes that don't fit each other.
    pub fn random(architecture: Architecture, seed: u64) -> Result<Self> {
        let of = architecture.clone();
        Self::with_roles(architecture, |name, shape, role| {
            let inputs = shape.last().copied().unwrap_or(1);
            of.initial(role, inputs).values(seed, name, shape)
        })
    }

    pub(crate) fn with_roles(
        architecture: Architecture,
        values: impl FnMut(&str, &[usize], Role) -> Vec<f32>,
    ) -> Result<Self> {
        architecture.check()?;
        Ok(Self {
            weights: fresh(|each| architecture.tensors(each), values)?,
            architecture,
        })
    }

    /// From the text of a `config.json` and the tensors of Hugging Face's checkpoint; tensors that the model doesn't have (buffers of
    /// old releases) are left aside.
    ///
    /// # Errors
    /// Those of [`Architecture::from_json`], `Error::MissingTensor`, `Error::TensorShape`, `Error::NotFinite`.
    pub fn from_checkpoint(config: &str, checkpoint: &StateDict) -> Result<Self> {
        let architecture = Architecture::from_json(config)?;
        let make = |name: &str, shape: Vec<usize>, _| {
            let (stored, whole, part) = architecture.stored(name, shape.clone());
            let all = read(checkpoint, &stored, &whole)?;
            let own = part.map(|part| architecture.part(all, part));
            let values = own.as_deref().unwrap_or(all).iter().map(|&v| v as f32);
            Parameter::new(&stored, shape, values.collect::<Vec<f32>>())
        };
        Ok(Self {
            weights: collect(|each| architecture.tensors(each), make)?,
            architecture,
        })
    }

    /// From a folder with `config.json` and `model.safetensors` (or `pytorch_model.bin`), or from a file of llama.cpp (GGUF) or llama2.c; at
    /// most [`DEFAULT_LIMIT`] bytes each.
    ///
    /// # Errors
    /// `Error::Io`, `Error::TooLarge`, and those of [`LanguageModel::from_checkpoint`] and [`LanguageModel::from_bytes`].
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
    /// Those of [`gguf::File::read`], and [`nn::Error`]s with what the file's tensors or its header lack.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (architecture, mut values) = match gguf::recognises(bytes) {
            true => gguf_llama::read(&gguf::File::read(bytes)?)?,
            false => llama2c::read(bytes)?,
        };
        Self::new(architecture, |name, _| {
            values.remove(name).unwrap_or_default()
        })
    }

    /// Whether the bytes begin like such a file.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        gguf::recognises(bytes) || llama2c::recognises(bytes)
    }

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's readers take them.
    ///
    /// # Errors
    /// `Error::Io`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.to_checkpoint()
            .save_folder(folder, &self.architecture.to_json())
    }

    /// The tensors under the checkpoint's names.
    #[must_use]
    pub fn to_checkpoint(&self) -> StateDict {
        let mut tensors = state(&self.weights);
        self.architecture.fuse(&mut tensors);
        StateDict::new(tensors)
    }

    /// The same model with the weights that a graph of it has now, and with its own embedding: what training changed. An output head that
    /// is no longer the embedding makes the model untied.
    ///
    /// # Errors
    /// `Error::MissingTensor` for a layer that the graph lacks, `Error::TensorShape` for one of another shape.
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
                out.architecture = out.architecture.untied();
            }
        }
        Ok(out)
    }

    /// The same model with this embedding `(V, D)`; the output head of a tied model with it.
    ///
    /// # Errors
    /// `Error::TensorShape`.
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
    /// [`task::Error::Token`] for a token that there isn't, [`task::Error::TooLong`] for more than the model knows, [`task::Error::Empty`] for none.
    pub fn embed(&self, tokens: &[u32]) -> task::Result<Tensor> {
        let Sizes {
            width,
            vocabulary,
            max_length,
            ..
        } = self.architecture.sizes();
        task::Error::check_length(tokens.len(), 0, max_length)?;
        let table = self.embedding();
        let row = |&token: &u32| {
            let row = table.row(token as usize);
            row.ok_or(task::Error::Token { token, vocabulary })
        };
        let rows: task::Result<Vec<_>> = tokens.iter().map(row).collect();
        Ok(Tensor::sequence(width, rows?)?)
    }

    /// The network from an embedded sequence of this length to the logits of all positions, with this attention.
    ///
    /// # Errors
    /// `Error::Invalid` for a length of 0 or more than the model knows.
    pub fn graph(&self, length: usize, scheme: AttentionScheme) -> Result<Graph> {
        within(length, self.architecture.sizes().max_length)?;
        let mut b = Blocks {
            weights: &self.weights,
            network: Graph::builder(),
            step: None,
        };
        let width = self.architecture.sizes().width;
        let x = b
            .network
            .input("embedding", Shape::image(width, 1, length))?;
        let logits = self.to_logits(&mut b, scheme, x)?;
        b.network.finish(logits)
    }

    /// The network of one token against the keys and values of at most `context` tokens, itself included, which are kept from token to token: the same blocks with
    /// the same names, so that what stands for a function in the whole sequence's network stands for it here ([`Step`]).
    ///
    /// # Errors
    /// `Error::Invalid` for a context of less than 2 tokens or more than the model knows, and for attention that gives weight to places where no
    /// key is yet, as softmax does.
    pub fn step(&self, context: usize, scheme: AttentionScheme) -> Result<Step> {
        let sizes = self.architecture.sizes();
        within(context, sizes.max_length)?;
        let mut b = Blocks {
            weights: &self.weights,
            network: Graph::builder(),
            step: None,
        };
        let x = (b.network).input("embedding", Shape::image(sizes.width, 1, 1))?;
        b.step = Some(Recall::new(&mut b.network, &sizes, context)?);
        let logits = self.to_logits(&mut b, scheme, x)?;
        let recall = b.step.take().unwrap_or_default();
        Step::of(b.network, logits, recall, &sizes)
    }

    fn to_logits(&self, b: &mut Blocks<'_>, scheme: AttentionScheme, x: NodeId) -> Result<NodeId> {
        let x = self.architecture.blocks(b, scheme, x)?;
        let (embedding, head) = self.architecture.ends();
        let tensor = if self.architecture.tied() {
            embedding
        } else {
            head
        };
        b.linear_of(head, tensor, x)
    }
}
