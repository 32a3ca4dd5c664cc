//! Encoders of sentences: embeddings, a graph for any length, a head.
//!
//! The embeddings are the client's, their layer norm included, so that it costs nothing under encryption: a graph takes `(D + 1, 1, L)`, the
//! embedded tokens and a last channel of marks, 1 for a token and 0 for padding. Padding is embedded as the token that it is, so that its values stay in the
//! ranges of others'; attention does not look at it ([`Order::Marked`](nn::attention::Order::Marked)). How many tokens a sentence has is thus encrypted with it.

use crate::bert::{Config, Head};
use crate::blocks::{
    Blocks, Role, Weights, collect, fitting, fresh, parameter_of, read, state, within,
};
use approx::Activation;
use nn::Result;
use nn::attention::{AttentionScheme, Mask};
use nn::format::state_dict::StateDict;
use nn::{Attention, Conv2d, NormKind, Op, Slice};
use nn::{Graph, NodeId};
use nn::{Parameter, Shape};
use std::path::Path;
use task::{Embedding, Outputs, SentenceEmbedding, Sentences, Tokenizer};

/// Where a graph begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the sums of embeddings, whose norm is its first node: what is trained.
    Sums,
    /// Behind that norm: what is encrypted.
    Normalized,
}

/// An encoder with all its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    config: Config,
    weights: Weights,
}

impl Encoder {
    /// An encoder whose weights `values(name, shape)` gives.
    ///
    /// # Errors
    /// `Error::Malformed` for sizes that don't fit each other, `Error::Length` and `Error::NotFinite` for values that don't fit.
    pub fn new(config: Config, mut values: impl FnMut(&str, &[usize]) -> Vec<f32>) -> Result<Self> {
        Self::with_roles(config, |name, shape, _| values(name, shape))
    }

    /// New weights, for training from scratch: the same for the same seed.
    ///
    /// # Errors
    /// `Error::Malformed` for sizes that don't fit each other.
    pub fn random(config: Config, seed: u64) -> Result<Self> {
        Self::with_roles(config, initial(seed))
    }

    pub(crate) fn with_roles(
        config: Config,
        values: impl FnMut(&str, &[usize], Role) -> Vec<f32>,
    ) -> Result<Self> {
        config.check()?;
        let weights = fresh(|each| config.tensors(each), values)?;
        Ok(Self { config, weights })
    }

    /// From the text of a `config.json` and the tensors of Hugging Face's checkpoint, with or without the leading `bert.` or `roberta.`, norms
    /// under today's or yesterday's names; tensors that the model doesn't have are left aside.
    ///
    /// # Errors
    /// Those of [`Config::from_json`], `Error::MissingTensor`, `Error::TensorShape`, `Error::NotFinite`.
    pub fn from_checkpoint(config: &str, checkpoint: &StateDict) -> Result<Self> {
        let config = Config::from_json(config)?;
        let make = |name: &str, shape: Vec<usize>, _| {
            let yesterday = |name: &str| match name.rsplit_once("LayerNorm.") {
                Some((base, "weight")) => format!("{base}LayerNorm.gamma"),
                Some((base, "bias")) => format!("{base}LayerNorm.beta"),
                _ => name.into(),
            };
            let bare = name.strip_prefix(config.prefix()).unwrap_or(name);
            let (own, old) = (name.to_string(), yesterday(name));
            let names = [own, bare.into(), old, yesterday(bare)];
            let found = names.iter().find(|n| checkpoint.find(n).is_some());
            let stored = found.unwrap_or(&names[0]);
            let values = read(checkpoint, stored, &shape)?.iter().map(|&v| v as f32);
            let parameter = Parameter::new(stored, shape, values.collect::<Vec<f32>>())?;
            parameter.reshaped(name, parameter.shape())
        };
        let weights = collect(|each| config.tensors(each), make)?;
        Ok(Self { config, weights })
    }

    /// From a folder with `config.json` and `model.safetensors` (or `pytorch_model.bin`), at most [`nn::format::DEFAULT_LIMIT`] bytes each.
    ///
    /// # Errors
    /// `Error::Io`, `Error::TooLarge`, and those of [`Encoder::from_checkpoint`].
    pub fn load(folder: &Path) -> Result<Self> {
        let (config, checkpoint) = StateDict::load_folder(folder)?;
        Self::from_checkpoint(&config, &checkpoint)
    }

    /// Writes `config.json` and `model.safetensors` into a folder, as Hugging Face's readers take them.
    ///
    /// # Errors
    /// `Error::Io`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.to_checkpoint()
            .save_folder(folder, &self.config.to_json())
    }

    /// The tensors under the checkpoint's names.
    #[must_use]
    pub fn to_checkpoint(&self) -> StateDict {
        StateDict::new(state(&self.weights))
    }

    /// Sizes and constants.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same encoder with another head, whose weights are new, as those of [`Encoder::random`], where the encoder has none of that name and
    /// shape.
    ///
    /// # Errors
    /// As [`Encoder::random`].
    pub fn with_head(&self, head: Head, seed: u64) -> Result<Self> {
        let new = initial(seed);
        let config = Config {
            head,
            ..self.config.clone()
        };
        Self::with_roles(config, |name, shape, role| match self.weights.get(name) {
            Some(own) if own.shape() == shape => own.values().to_vec(),
            _ => new(name, shape, role),
        })
    }

    /// The same encoder with the weights that a graph of it has now: what training changed. Embeddings are not in a graph; the tied output of
    /// [`Head::MaskedLanguage`] is theirs.
    ///
    /// # Errors
    /// `Error::MissingTensor` for a layer that the graph lacks, `Error::TensorShape` for one of another shape.
    pub fn with_weights_of(&self, graph: &Graph) -> Result<Self> {
        let mut out = self.clone();
        let norm = self.config.name("embeddings.LayerNorm");
        for (name, own) in &mut out.weights {
            let (node, part) = name.rsplit_once('.').unwrap_or((name.as_str(), ""));
            if node.ends_with("_embeddings") || node == norm && graph.find(node).is_none() {
                continue;
            }
            *own = fitting(&parameter_of(graph, node, part, name)?, name, own.shape())?;
        }
        Ok(out)
    }

    /// The same encoder with these embeddings of tokens `(V, D)` and of positions, to which those of the first token type are added already.
    ///
    /// # Errors
    /// `Error::TensorShape`.
    pub fn with_embeddings(mut self, words: &Parameter, positions: &Parameter) -> Result<Self> {
        let types = self.config.name("embeddings.token_type_embeddings.weight");
        let types = self.weights[&types].values()[..self.config.sizes.width].to_vec();
        let rows = positions.values().chunks(self.config.sizes.width);
        let less: Vec<f32> = rows
            .flat_map(|row| row.iter().zip(&types).map(|(p, t)| p - t))
            .collect();
        let positions = Parameter::new("positions", positions.shape().to_vec(), less)?;
        for (part, table) in [("word", words), ("position", &positions)] {
            let name = self
                .config
                .name(&format!("embeddings.{part}_embeddings.weight"));
            let table = fitting(table, &name, self.weights[&name].shape())?;
            self.weights.insert(name, table);
        }
        Ok(self)
    }

    fn table(&self, part: &str) -> &Parameter {
        let name = format!("embeddings.{part}_embeddings.weight");
        &self.weights[&self.config.name(&name)]
    }

    /// The embeddings of tokens `(V, D)`.
    #[must_use]
    pub fn words(&self) -> &Parameter {
        self.table("word")
    }

    /// The embeddings of positions, one a row, those of the first token type added.
    #[must_use]
    pub fn positions(&self) -> Vec<f32> {
        let width = self.config.sizes.width;
        let types = &self.table("token_type").values()[..width];
        let rows = self.table("position").values().chunks(width);
        rows.flat_map(|row| row.iter().zip(types).map(|(p, t)| p + t))
            .collect()
    }

    /// Scale, shift and ε of the embeddings' norm.
    #[must_use]
    pub fn norm(&self) -> (&Parameter, &Parameter, f64) {
        let at = |part: &str| {
            let name = format!("embeddings.LayerNorm.{part}");
            &self.weights[&self.config.name(&name)]
        };
        (at("weight"), at("bias"), self.config.epsilon)
    }

    /// What a client knows of this encoder for sentences of up to so many tokens.
    ///
    /// # Errors
    /// [`task::Error::TooLong`], and those of [`Sentences::new`].
    pub fn sentences(
        &self,
        tokenizer: Tokenizer,
        length: usize,
        examples: Vec<Vec<u32>>,
    ) -> task::Result<Sentences> {
        task::Error::check_length(length, 0, self.config.sizes.max_length)?;
        let (width, first) = (self.config.sizes.width, self.config.first_position());
        let positions = self.positions()[first * width..][..length * width].to_vec();
        let positions = Parameter::new("positions", [length, width], positions)?;
        let labels = match &self.config.head {
            Head::Classification { labels } => labels.clone(),
            _ => Vec::new(),
        };
        let embedding = SentenceEmbedding {
            words: Embedding::new(self.words())?,
            positions: Embedding::new(&positions)?,
            norm: self.embedding_norm(),
            padding: self.config.padding,
        };
        Sentences::new(tokenizer, embedding, Outputs::Classes(labels), examples)
    }

    fn embedding_norm(&self) -> nn::Norm {
        let (scale, bias, epsilon) = self.norm();
        nn::Norm {
            kind: NormKind::Layer,
            scale: scale.clone(),
            bias: Some(bias.clone()),
            epsilon,
        }
    }

    /// The network for sentences of up to so many tokens, with this attention, to what the head gives.
    ///
    /// # Errors
    /// `Error::Invalid` for a length of 0 or more than the model knows.
    pub fn graph(&self, length: usize, scheme: AttentionScheme, start: Start) -> Result<Graph> {
        within(length, self.config.sizes.max_length)?;
        let config = &self.config;
        let mut b = Blocks {
            weights: &self.weights,
            network: Graph::builder(),
            step: None,
        };
        let width = config.sizes.width;
        let input = Op::Input(Shape::image(width + 1, 1, length));
        let input = b.add("embedding", input, &[])?;
        let mut x = b.add("embedding.tokens", channels(0..width, length), &[input])?;
        let marks = b.add(
            "embedding.marks",
            channels(width..width + 1, length),
            &[input],
        )?;
        let norm = (NormKind::Layer, config.epsilon);
        if start == Start::Sums {
            x = b.norm(&config.name("embeddings.LayerNorm"), norm, x)?;
        }
        for l in 0..config.sizes.layers {
            let last = l + 1 == config.sizes.layers;
            let first = last && matches!(config.head, Head::Classification { .. });
            x = self.block(&mut b, (l, first), scheme, [x, marks])?;
        }
        let output = match &config.head {
            Head::None => x,
            Head::MaskedLanguage => {
                let [dense, layer_norm, output] = config.masked();
                let y = b.linear(dense, x)?;
                let activation = Op::Elementwise(config.activation.into());
                let y = b.add(&format!("{dense}.act"), activation, &[y])?;
                let y = b.norm(layer_norm, norm, y)?;
                let words = self.words();
                let words = words.reshaped("decoder", &[config.sizes.vocabulary, width, 1, 1])?;
                let conv = Conv2d {
                    bias: self.weights.get(&format!("{output}.bias")).cloned(),
                    ..Conv2d::new(words)
                };
                b.add(output, Op::Conv2d(conv), &[y])?
            }
            Head::Classification { .. } => {
                let [dense, output] = config.classifier();
                let y = b.linear(dense, x)?;
                let tanh = Op::Elementwise(Activation::Tanh.into());
                let y = b.add(&format!("{dense}.act"), tanh, &[y])?;
                b.linear(output, y)?
            }
        };
        b.network.finish(output)
    }

    /// Where the head takes the first position alone (`first`), so does all of the last block that follows its attention.
    fn block(
        &self,
        b: &mut Blocks<'_>,
        (l, first): (usize, bool),
        scheme: AttentionScheme,
        [mut x, marks]: [NodeId; 2],
    ) -> Result<NodeId> {
        let config = &self.config;
        let norm = (NormKind::Layer, config.epsilon);
        let at = |name: &str| config.name(&format!("encoder.layer.{l}.{name}"));
        let [q, k, v] = [
            b.linear(&at("attention.self.query"), x)?,
            b.linear(&at("attention.self.key"), x)?,
            b.linear(&at("attention.self.value"), x)?,
        ];
        let attention = Op::Attention(Attention {
            heads: config.sizes.heads,
            kv_heads: config.sizes.heads,
            scale: 1.0 / (config.sizes.head as f64).sqrt(),
            mask: Mask::MARKED,
            scheme,
        });
        let mut y = b.add(&at("attention.self"), attention, &[q, k, v, marks])?;
        if first {
            y = b.add("first.attended", channels(0..config.sizes.width, 1), &[y])?;
            x = b.add("first", channels(0..config.sizes.width, 1), &[x])?;
        }
        let y = b.linear(&at("attention.output.dense"), y)?;
        let y = b.add(&at("attention.residual"), Op::Add, &[x, y])?;
        let x = b.norm(&at("attention.output.LayerNorm"), norm, y)?;
        let y = b.linear(&at("intermediate.dense"), x)?;
        let activation = Op::Elementwise(config.activation.into());
        let y = b.add(&at("intermediate.act"), activation, &[y])?;
        let y = b.linear(&at("output.dense"), y)?;
        let y = b.add(&at("residual"), Op::Add, &[x, y])?;
        b.norm(&at("output.LayerNorm"), norm, y)
    }
}

/// What tensors are before training.
fn initial(seed: u64) -> impl Fn(&str, &[usize], Role) -> Vec<f32> {
    move |name, shape, role| {
        let inputs = shape.last().copied().unwrap_or(1);
        Config::initial(role, inputs).values(seed, name, shape)
    }
}

/// These channels at the first so many positions.
pub(crate) fn channels(of: std::ops::Range<usize>, length: usize) -> Op<nn::Nonlinearity> {
    let axes = [[of.start, of.end, 1], [0, 1, 1], [0, length, 1]];
    Op::Slice(Slice {
        axes: axes.map(Into::into).into(),
    })
}
