//! Runs on text: language models, windows of tokens, and what comes out.

use crate::approximations::{entries, graph, write_network};
use crate::batch::Batch;
use crate::checkpoint::write_whole;
use crate::config::{Checked, Run};
use crate::error::{Result, need};
use crate::model::{Model, Parameterization};
use crate::score::Score;
use crate::sources::{Batches, Part, Source, batches, fit};
use crate::trainer::Trainer;
use data::{Text, Windows};
use nn::AttentionScheme;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zoo::architecture::Architecture;
use zoo::architecture::llama;
use zoo::language::LanguageModel;

/// A run on text.
pub type LanguageConfig = Run<Network, Data>;

/// A language model to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Network {
    /// From a folder with `config.json` and `model.safetensors`, or a file of llama2.c.
    File {
        /// Its path.
        path: PathBuf,
        /// How its attention weighs; another scheme than it was trained with is a change that training has to follow.
        #[serde(default = "softmax")]
        attention: AttentionScheme,
    },
    /// Llama with new weights.
    Llama {
        /// Blocks.
        layers: usize,
        /// Width of a token.
        width: usize,
        /// Heads of queries; they divide the width.
        heads: usize,
        /// Heads of keys and values, as many as of queries if absent.
        kv_heads: Option<usize>,
        /// Width of the SwiGLU's inner layer, 8/3 of the width up to a multiple of 16 if absent.
        hidden: Option<usize>,
        /// Whether the output's weights are the embedding.
        #[serde(default)]
        tied: bool,
        /// How attention weighs.
        #[serde(default = "softmax")]
        attention: AttentionScheme,
    },
}

pub(crate) fn softmax() -> AttentionScheme {
    AttentionScheme::Softmax
}

impl Network {
    /// How its attention weighs.
    #[must_use]
    pub fn attention(&self) -> AttentionScheme {
        match self {
            Self::File { attention, .. } | Self::Llama { attention, .. } => *attention,
        }
    }

    /// The model with its weights, for so many tokens and windows of this length.
    ///
    /// # Errors
    /// [`crate::Error::Network`] for what can't be read or built.
    pub fn load(&self, vocabulary: usize, length: usize, seed: u64) -> Result<LanguageModel> {
        let (layers, width, heads, kv_heads, hidden, tied) = match self {
            Self::File { path, .. } => return Ok(LanguageModel::load(path)?),
            Self::Llama {
                layers,
                width,
                heads,
                kv_heads,
                hidden,
                tied,
                ..
            } => (*layers, *width, *heads, *kv_heads, *hidden, *tied),
        };
        let remedy = format!("a number that divides the width {width}");
        need(
            heads > 0 && width % heads.max(1) == 0,
            "heads",
            heads,
            remedy,
        )?;
        let config = llama::Config {
            sizes: zoo::blocks::Sizes {
                width,
                hidden: hidden.unwrap_or((8 * width / 3).next_multiple_of(16)),
                layers,
                heads,
                kv_heads: kv_heads.unwrap_or(heads),
                head: width / heads,
                vocabulary,
                max_length: length,
            },
            epsilon: 1e-5,
            base: 10_000.0,
            tied,
        };
        Ok(LanguageModel::random(Architecture::Llama(config), seed)?)
    }
}

/// Text to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The file.
    pub text: PathBuf,
    /// How it is cut into tokens.
    #[serde(default)]
    pub tokens: Tokens,
    /// Tokens of a window, which is what the model sees at once.
    pub length: usize,
    /// So many tokens at the end are held out: choices are made on them.
    pub held_out: usize,
    /// Windows begin with this token only. It is public, as every window has it: its position is in no interval and no program's.
    pub begin: Option<u32>,
}

/// How a text is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Tokens {
    /// By characters, numbered by their code points.
    #[default]
    Characters,
    /// The file holds tokens already, as [`Text::binary`] reads them.
    Binary {
        /// How many there are.
        vocabulary: usize,
    },
}

impl Checked for Data {
    fn check(&self) -> Result<()> {
        let (length, remedy) = (self.length, "windows of 1 to 65,536 tokens");
        need((1..=1 << 16).contains(&length), "length", length, remedy)
    }
}

/// Opened text. Held-out tokens are in no training window.
#[derive(Debug, Clone)]
pub struct Passages {
    /// To train on and to calibrate on.
    pub train: Windows,
    /// To make choices on.
    pub held_out: Windows,
    /// The characters in the order of their tokens, of a text by characters.
    pub alphabet: Option<Vec<char>>,
}

impl Passages {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// [`crate::Error::Data`].
    pub fn open(c: &Data) -> Result<Self> {
        let (text, alphabet) = match c.tokens {
            Tokens::Characters => {
                let (text, alphabet) = Text::characters(&c.text)?;
                (text, Some(alphabet))
            }
            Tokens::Binary { vocabulary } => (Text::binary(&c.text, vocabulary)?, None),
        };
        let (train, held_out) = text.split(c.held_out)?;
        Ok(Self {
            train: Windows::new(train, c.length, c.begin)?,
            held_out: Windows::new(held_out, c.length, c.begin)?,
            alphabet,
        })
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.train.text().vocabulary()
    }

    fn part(&self, part: Part) -> &Windows {
        match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        }
    }

    /// Batches of what `add` adds for each number: tokens, and those that follow them.
    fn batches(
        &self,
        part: Part,
        numbers: Vec<usize>,
        batch: usize,
        add: impl Fn(&Windows, usize, &mut Vec<u32>, &mut Vec<usize>) + 'static,
    ) -> Batches {
        let windows = self.part(part).clone();
        batches(numbers, batch, move |these| {
            let (mut tokens, mut next) = (Vec::new(), Vec::new());
            for &i in these {
                add(&windows, i, &mut tokens, &mut next);
            }
            Ok(Batch::tokens(tokens, next))
        })
    }
}

impl Source for Passages {
    type Network = Network;
    type Data = Data;

    fn fit(&self, model: &Model) -> Result<()> {
        let windows = |length| format!("windows of {length} tokens");
        let positions = model.positions();
        let outputs = match model.vocabulary() {
            Some(known) if model.outputs() == known * positions => known,
            _ => 0,
        };
        fit(
            (windows(positions), windows(self.train.length())),
            (outputs, self.vocabulary()),
        )
    }

    fn inputs(&self, part: Part) -> usize {
        self.part(part).len()
    }

    fn numbered(
        &self,
        part: Part,
        numbers: Vec<usize>,
        batch: usize,
        _: (u64, u64),
    ) -> Result<Batches> {
        Ok(self.batches(part, numbers, batch, Windows::window))
    }

    // windows are drawn
    fn a_step(&self, batch: usize) -> usize {
        batch
    }

    fn pass(&self, run: &LanguageConfig, pass: u64, first: usize, _: f32) -> Result<Batches> {
        let (seed, batch) = (run.seed, run.batch);
        let numbers = (first * batch..self.batches_a_pass(batch) * batch).collect();
        let draw = move |windows: &Windows, k, tokens: &mut _, next: &mut _| {
            windows.draw((seed, pass, k as u64), tokens, next);
        };
        Ok(self.batches(Part::Train, numbers, batch, draw))
    }

    fn merit(&self, score: &Score) -> f64 {
        -score.loss
    }
}

/// A language model in training: its graph for windows of this length with this attention, its embedding inside.
///
/// # Errors
/// [`crate::Error::Network`], [`crate::Error::Unsupported`].
pub fn model(language: &LanguageModel, length: usize, attention: AttentionScheme) -> Result<Model> {
    let mut model = Model::new(language.graph(length, attention)?, Parameterization::Plain)?;
    let table = (!language.architecture().tied()).then(|| language.embedding().values().to_vec());
    model.embed(table)?;
    Ok(model)
}

/// What a run trains and who teaches it, from its configuration.
///
/// # Errors
/// As [`Network::load`] and [`model`]; [`crate::Error::Setting`] for batch normalisations, which language models are not trained with.
pub fn models(
    run: &LanguageConfig,
    passages: &Passages,
) -> Result<(LanguageModel, Model, Option<Model>)> {
    let length = run.data.length;
    run.networks(|network| {
        let language = network.load(passages.vocabulary(), length, run.seed)?;
        let mut trained = model(&language, length, network.attention())?;
        trained.public = usize::from(run.data.begin.is_some());
        Ok((language, trained))
    })
}

/// The language model with the weights that a model has now.
///
/// # Errors
/// [`crate::Error::Network`] for weights that are not finite.
pub fn trained(language: &LanguageModel, model: &Model) -> Result<LanguageModel> {
    let mut out = language.clone();
    if let Some((table, _)) = model.embedding() {
        let shape = language.embedding().shape().to_vec();
        out = out.with_embedding(&nn::Parameter::new("embedding", shape, table)?)?;
    }
    Ok(out.with_weights_of(&model.to_graph()?)?)
}

/// Scores a run's model and writes what it came to into a folder: `config.json` and `model.safetensors`, `network.pvm` (the same weights and
/// attention for windows of this length, original activations), `approximations.json` with what stands in place of activations, roots and divisions,
/// `programs.csv`, and `alphabet.json` of a text by characters.
///
/// # Errors
/// [`crate::Error::Network`], [`crate::Error::File`].
pub fn export(
    folder: &Path,
    trainer: &mut Trainer<'_, Passages>,
    language: &LanguageModel,
) -> Result<Score> {
    let score = trainer.score()?;
    let (model, passages) = (&trainer.model, trainer.sources());
    trained(language, model)?.save(folder)?;
    let tokens = |windows: &Windows| windows.text().tokens().len();
    let sizes = (tokens(&passages.train), tokens(&passages.held_out));
    let entries = entries(trainer, ("tokens", sizes), ("tokens", &score));
    write_network(folder, model, &graph(model)?, &trainer.text, entries)?;
    if let Some(alphabet) = &passages.alphabet {
        let json = serde_json::json!(alphabet).to_string();
        write_whole(&folder.join("alphabet.json"), json.as_bytes())?;
    }
    Ok(score)
}
