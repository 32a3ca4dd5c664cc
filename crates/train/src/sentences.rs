//! Runs on labelled sentences: encoders that classify them, or that first learn to guess hidden tokens.

use crate::approximations::{entries, write_network};
use crate::batch::{Batch, IGNORED};
use crate::checkpoint::write_whole;
use crate::config::{Checked, Run};
use crate::error::{Error, Result, need};
use crate::model::{Model, Parameterization};
use crate::score::Score;
use crate::sequence::Places;
use crate::sources::{Batches, Part, Source, batches, fit};
use crate::trainer::Trainer;
use data::sentences::{HeldOut, Masking, Sentences};
use nn::AttentionScheme;
use nn::format::read_limited;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use task::tokenizer::{LIMIT, Long, Tokenizer};
use zoo::bert::{Config, Family, Head};
use zoo::encoder::{Encoder, Start};

/// A run on labelled sentences.
pub type SentenceConfig = Run<Network, Data>;

/// An encoder to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Network {
    /// From a folder with `config.json` and `model.safetensors`: its head where it is the objective's, else a new one.
    File {
        /// Its path.
        path: PathBuf,
        /// How its attention weighs; another scheme than it was trained with is a change that training has to follow.
        #[serde(default = "crate::language::softmax")]
        attention: AttentionScheme,
    },
    /// BERT with new weights.
    Bert {
        /// Blocks.
        layers: usize,
        /// Width of a token.
        width: usize,
        /// Heads; they divide the width.
        heads: usize,
        /// Width of the inner layer.
        hidden: usize,
        /// Of the inner layer: `gelu`, `silu` or `relu`.
        #[serde(default = "gelu")]
        activation: String,
        /// How attention weighs.
        #[serde(default = "crate::language::softmax")]
        attention: AttentionScheme,
    },
}

fn gelu() -> String {
    "gelu".into()
}

impl Network {
    /// How its attention weighs.
    #[must_use]
    pub fn attention(&self) -> AttentionScheme {
        match self {
            Self::File { attention, .. } | Self::Bert { attention, .. } => *attention,
        }
    }

    /// The encoder with its weights and this head, for this vocabulary and sentences of this length.
    ///
    /// # Errors
    /// [`Error::Network`] for what can't be read or built, or has another vocabulary; [`Error::Setting`] for an activation that there isn't.
    pub fn load(
        &self,
        head: Head,
        vocabulary: &Tokenizer,
        length: usize,
        seed: u64,
    ) -> Result<Encoder> {
        let padding = padding(vocabulary)?;
        let encoder = match self {
            Self::File { path, .. } => {
                let encoder = Encoder::load(path)?;
                if encoder.config().head == head {
                    encoder
                } else {
                    encoder.with_head(head, seed)?
                }
            }
            Self::Bert {
                layers,
                width,
                heads,
                hidden,
                activation,
                ..
            } => {
                let config = Config {
                    family: Family::Bert,
                    sizes: zoo::blocks::Sizes {
                        layers: *layers,
                        width: *width,
                        hidden: *hidden,
                        heads: *heads,
                        kv_heads: *heads,
                        head: width / (*heads).max(1),
                        vocabulary: vocabulary.len(),
                        max_length: length,
                    },
                    types: 2,
                    epsilon: 1e-5,
                    padding,
                    activation: crate::networks::activation(activation)?,
                    head,
                };
                Encoder::random(config, seed)?
            }
        };
        let config = encoder.config();
        let same = |what, needed: usize, had: usize| match needed == had {
            true => Ok(()),
            false => Err(nn::Error::Count { what, needed, had }),
        };
        let (needed, had) = (config.sizes.vocabulary, vocabulary.len());
        // models round the number of a published vocabulary up
        if needed < had || matches!(vocabulary, Tokenizer::WordPiece(_)) {
            let what = "tokens of the vocabulary (does it belong to the model?)";
            same(what, needed, had)?;
        }
        let what = "the padding token's number (does the vocabulary belong to the model?)";
        same(what, config.padding as usize, padding as usize)?;
        Ok(encoder)
    }
}

/// What a vocabulary fills short sentences up with.
fn padding(vocabulary: &Tokenizer) -> Result<u32> {
    let remedy = "one with a token for padding: `[PAD]` or `<pad>`";
    let none = || Error::setting("vocabulary", format!("{} tokens", vocabulary.len()), remedy);
    vocabulary.padding().ok_or_else(none)
}

/// What is learned from sentences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Objective {
    /// Their classes.
    #[default]
    Classes,
    /// Tokens that are hidden, without labels.
    Masked {
        /// The share that is hidden, 0.15 in BERT.
        share: f64,
        /// Sentences of fewer words are left out: where a file has phrases beside the sentences that they come from.
        words: usize,
    },
}

/// Sentences to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The file: `label TAB sentence` a line.
    pub sentences: PathBuf,
    /// BERT's `vocab.txt`, or a `tokenizer.json` of Hugging Face as RoBERTa has.
    pub vocabulary: PathBuf,
    /// Tokens of a sentence at most, `[CLS]` and `[SEP]` included; shorter ones are filled up.
    pub length: usize,
    /// Cut longer sentences; they are refused without it.
    #[serde(default)]
    pub truncate: bool,
    /// So many sentences are held out, spread over the file: choices are made on them. What is part of one is not trained on.
    pub held_out: usize,
    /// Sentences of fewer words are not held out.
    #[serde(default)]
    pub held_out_words: usize,
    /// Names of the classes, in the order of their numbers.
    pub labels: Vec<String>,
    /// What is learned.
    #[serde(default)]
    pub objective: Objective,
}

impl Checked for Data {
    fn check(&self) -> Result<()> {
        let (length, remedy) = (self.length, "sentences of 3 to 4,096 tokens");
        need((3..=1 << 12).contains(&length), "length", length, remedy)?;
        let (labels, remedy) = (&self.labels, "the names of at least two classes");
        need(labels.len() >= 2, "labels", format!("{labels:?}"), remedy)?;
        if let Objective::Masked { share, .. } = self.objective {
            let remedy = "a share between 0 and 1; 0.15 is usual";
            need(share > 0.0 && share < 1.0, "objective.share", share, remedy)?;
        }
        Ok(())
    }
}

/// A sentence's tokens and its class.
type Example = (Vec<u32>, usize);

/// Opened sentences. Held-out ones and their parts are in no training.
#[derive(Debug, Clone)]
pub struct Corpus {
    train: Arc<Vec<Example>>,
    held_out: Arc<Vec<Example>>,
    vocabulary: Tokenizer,
    /// Of the vocabulary's file: its name beside a checkpoint, and its content.
    file: (&'static str, Arc<[u8]>),
    padding: u32,
    mask: Option<u32>,
    data: Data,
    /// Sentences that were cut.
    pub truncated: usize,
    /// Sentences that were left out since they are part of held-out ones.
    pub relatives: usize,
}

impl Corpus {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Network`] for the vocabulary; [`Error::Setting`] for sentences that are too long.
    pub fn open(c: &Data) -> Result<Self> {
        let file = read_limited(&c.vocabulary, LIMIT)?;
        let vocabulary = Tokenizer::from_bytes(&file)?;
        let name = match vocabulary {
            Tokenizer::WordPiece(_) => "vocab.txt",
            Tokenizer::Published(_) => "tokenizer.json",
            _ => {
                let remedy = "a vocab.txt of BERT's kind or a tokenizer.json";
                return Err(Error::setting("vocabulary", c.vocabulary.display(), remedy));
            }
        };
        let padding = padding(&vocabulary)?;
        let mask = vocabulary.mask();
        let hides = matches!(c.objective, Objective::Masked { .. });
        let remedy =
            "masked needs a vocabulary with a token that hides others: `[MASK]` or `<mask>`";
        let objective = format!("{:?}", c.objective);
        need(mask.is_some() || !hides, "objective", &objective, remedy)?;
        let long = match c.truncate {
            true => Long::Cut,
            false => Long::Refuse,
        };
        let all = Sentences::open(&c.sentences, Some(c.labels.len()))?;
        let (train, held_out) = all.split(HeldOut {
            sentences: c.held_out,
            words: c.held_out_words,
        })?;
        let relatives = all.len() - train.len() - held_out.len();
        let mut truncated = 0;
        let mut encode = |set: &Sentences| -> Result<Vec<Example>> {
            let words = match c.objective {
                Objective::Classes => 0,
                Objective::Masked { words, .. } => words,
            };
            let lines = set.lines().iter();
            lines
                .filter(|(text, _)| words == 0 || text.split_whitespace().count() >= words)
                .map(|(text, label)| {
                    let (tokens, cut) = vocabulary.within(text, c.length, long).map_err(|e| {
                        Error::setting(
                            "length",
                            c.length,
                            format!("room for all sentences, or truncate = true ({text:?}: {e})"),
                        )
                    })?;
                    truncated += usize::from(cut);
                    Ok((tokens, *label))
                })
                .collect()
        };
        let (train, held_out) = (encode(&train)?, encode(&held_out)?);
        let some = !train.is_empty() && !held_out.is_empty();
        let remedy = "fewer words: no sentence is that long";
        need(some, "objective.words", objective, remedy)?;
        Ok(Self {
            train: Arc::new(train),
            held_out: Arc::new(held_out),
            vocabulary,
            file: (name, file.into()),
            padding,
            mask,
            data: c.clone(),
            truncated,
            relatives,
        })
    }

    /// How many sentences are trained on, and how many held out.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.train.len(), self.held_out.len())
    }

    /// How text is cut.
    #[must_use]
    pub fn vocabulary(&self) -> &Tokenizer {
        &self.vocabulary
    }

    /// The head that the objective needs.
    #[must_use]
    pub fn head(&self) -> Head {
        match self.data.objective {
            Objective::Classes => Head::Classification {
                labels: self.data.labels.clone(),
            },
            Objective::Masked { .. } => Head::MaskedLanguage,
        }
    }

    /// One batch of these numbered examples; masks are a function of the name and the number.
    fn batch(&self, all: &[Example], numbers: &[usize], (seed, pass): (u64, u64)) -> Batch {
        let (length, padding) = (self.data.length, self.padding);
        let (mut tokens, mut labels) = (Vec::new(), Vec::new());
        for &i in numbers {
            let (sentence, class) = &all[i];
            let fill = length - sentence.len();
            match self.data.objective {
                Objective::Classes => {
                    tokens.extend_from_slice(sentence);
                    labels.push(*class);
                }
                Objective::Masked { share, .. } => {
                    let masking = Masking {
                        share,
                        mask: self.mask.unwrap_or(padding),
                        vocabulary: self.vocabulary.len(),
                    };
                    let (mut hidden, behind) = masking.apply(sentence, (seed, pass, i as u64));
                    // a random token that is padding would be no mark
                    for (h, own) in hidden.iter_mut().zip(sentence) {
                        *h = if *h == padding { *own } else { *h };
                    }
                    tokens.extend(hidden);
                    labels.extend(behind.iter().map(|b| b.map_or(IGNORED, |t| t as usize)));
                    labels.extend(std::iter::repeat_n(IGNORED, fill));
                }
            }
            tokens.extend(std::iter::repeat_n(padding, fill));
        }
        Batch::tokens(tokens, labels)
    }

    fn part(&self, part: Part) -> &[Example] {
        match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        }
    }
}

impl Source for Corpus {
    type Network = Network;
    type Data = Data;

    fn fit(&self, model: &Model) -> Result<()> {
        let (_, width, _) = crate::layout::hwc(model.input_shape());
        let sentences = |length| format!("sentences of {length} tokens");
        let outputs = model.outputs() / model.positions();
        let classes = match self.head() {
            Head::Classification { labels } => labels.len(),
            // a model may know more tokens than a published vocabulary has
            _ => outputs.max(self.vocabulary.len()),
        };
        fit(
            (sentences(width), sentences(self.data.length)),
            (outputs, classes),
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
        name: (u64, u64),
    ) -> Result<Batches> {
        let corpus = self.clone();
        let make = move |these: &[usize]| Ok(corpus.batch(corpus.part(part), these, name));
        Ok(batches(numbers, batch, make))
    }

    fn merit(&self, score: &Score) -> f64 {
        match self.data.objective {
            Objective::Classes => score.accuracy(),
            Objective::Masked { .. } => -score.loss,
        }
    }
}

/// An encoder in training: its graph for sentences of this length with this attention, its embeddings and their norm inside.
///
/// # Errors
/// [`Error::Network`], [`Error::Unsupported`].
pub fn model(encoder: &Encoder, length: usize, attention: AttentionScheme) -> Result<Model> {
    let config = encoder.config();
    let graph = encoder.graph(length, attention, Start::Sums)?;
    let mut model = Model::new(graph, Parameterization::Plain)?;
    let tied = config.head == Head::MaskedLanguage;
    let words = (!tied).then(|| encoder.words().values().to_vec());
    let places = Places {
        parameter: 0,
        length,
        first: config.first_position(),
        padding: config.padding,
        padding_row: match config.family {
            Family::Roberta => Some(config.padding as usize),
            _ => None,
        },
    };
    let norm = config.name("embeddings.LayerNorm");
    model.embed_sentences(words, encoder.positions(), places, &norm)?;
    Ok(model)
}

/// What a run trains and who teaches it, from its configuration.
///
/// # Errors
/// As [`Network::load`] and [`model`]; [`Error::Setting`] for batch normalisations, which encoders are not trained with.
pub fn models(run: &SentenceConfig, corpus: &Corpus) -> Result<(Encoder, Model, Option<Model>)> {
    let length = run.data.length;
    run.networks(|network| {
        let encoder = network.load(corpus.head(), &corpus.vocabulary, length, run.seed)?;
        let trained = model(&encoder, length, network.attention())?;
        Ok((encoder, trained))
    })
}

/// The encoder with the weights that a model has now.
///
/// # Errors
/// [`Error::Network`] for weights that are not finite.
pub fn trained(encoder: &Encoder, model: &Model) -> Result<Encoder> {
    let mut out = encoder.clone();
    if let (Some((words, _)), Some(positions)) = (model.embedding(), model.positions_table()) {
        let (d, rows) = (encoder.config().sizes.width, encoder.config().positions());
        let words = nn::Parameter::new("words", encoder.words().shape().to_vec(), words)?;
        let positions = nn::Parameter::new("positions", [rows, d], positions.to_vec())?;
        out = out.with_embeddings(&words, &positions)?;
    }
    Ok(out.with_weights_of(&model.to_graph()?)?)
}

/// Scores what a model is now and writes it into a folder: `config.json` and `model.safetensors`, the vocabulary's file, `network.pvm` (the same weights
/// and attention for sentences of this length behind their embeddings, original activations), `approximations.json` with what stands in place of
/// activations, roots and divisions, `programs.csv`.
///
/// # Errors
/// [`Error::Network`], [`Error::File`].
pub fn export(
    folder: &Path,
    trainer: &mut Trainer<'_, Corpus>,
    encoder: &Encoder,
) -> Result<Score> {
    let score = trainer.score()?;
    let (run, corpus) = (trainer.config, trainer.sources());
    let encoder = trained(encoder, &trainer.model)?;
    encoder.save(folder)?;
    let entries = entries(trainer, ("sentences", corpus.sizes()), ("of", &score));
    let network = encoder.graph(run.data.length, run.network.attention(), Start::Normalized)?;
    write_network(folder, &trainer.model, &network, &trainer.text, entries)?;
    let (name, vocabulary) = &corpus.file;
    write_whole(&folder.join(name), vocabulary)?;
    Ok(score)
}
