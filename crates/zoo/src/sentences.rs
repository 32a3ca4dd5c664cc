//! Encoders that classify sentences, made polynomial: what lies between a training run's folder (or a checkpoint and sentences) and a calibrated
//! [`PolyGraph`] that takes sentences.

use crate::bert::Head;
use crate::encoder::{Encoder, Start};
use nn::Error;
use nn::Graph;
use nn::Op;
use nn::Result;
use nn::approximations::Approximations;
use nn::attention::AttentionScheme;
use nn::evaluate::Outside;
use nn::format::{artefact, read_limited};
use nn::lower::{Options, Outliers, adapt};
use nn::{PolyGraph, Range};
use nn::{Shape, Tensor};
use std::path::Path;
use task::{Sentences, Tokenizer};

/// Most bytes of the small files of a run's folder.
const TEXT_LIMIT: u64 = 16 << 20;
/// Most bytes of its network.
const NETWORK_LIMIT: u64 = 1 << 30;
/// Sentences that are kept with a model.
const EXAMPLES: usize = 4;

/// An encoder as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Its weights.
    pub encoder: Encoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its attention: the run's, or softmax, since checkpoints of others don't say it.
    pub attention: AttentionScheme,
    /// Tokens of a sentence: the run's, or as many as the model knows.
    pub length: usize,
    /// The text of its `pieces.json`, if anything is in it: what stands in place of activations, roots and divisions, as training left it.
    pub pieces: Option<String>,
    /// The record of the run that trained it.
    pub record: Option<serde_json::Value>,
}

impl Trained {
    /// From the folder of a training run, or a folder of Hugging Face's with its `vocab.txt` or `tokenizer.json`.
    ///
    /// # Errors
    /// Those of [`Encoder::load`] and [`Tokenizer::load`]; [`Error::Count`] where they don't fit; [`Error::Malformed`] for a run's own files.
    pub fn load(folder: &Path) -> task::Result<Self> {
        let encoder = Encoder::load(folder)?;
        let vocabulary = Some(folder.join("vocab.txt")).filter(|v| v.exists());
        let tokenizer = Tokenizer::load(&vocabulary.unwrap_or_else(|| folder.into()))?;
        let (needed, had) = (encoder.config().vocabulary, tokenizer.len());
        let what = "tokens of the vocabulary (does it belong to the model?)";
        if had > needed || had < needed && matches!(tokenizer, Tokenizer::WordPiece(_)) {
            return Err(Error::Count { what, needed, had }.into());
        }
        let mut out = Self {
            attention: AttentionScheme::Softmax,
            length: encoder.config().max_length(),
            encoder,
            tokenizer,
            pieces: None,
            record: None,
        };
        let file = |name: &str| Some(folder.join(name)).filter(|p| p.exists());
        if let Some(network) = file("network.pvm") {
            let (graph, metadata) =
                artefact::graph_from_bytes(&read_limited(&network, NETWORK_LIMIT)?)?;
            out.record = metadata.training;
            for node in graph.nodes() {
                if let Op::Attention(a) = node.op() {
                    out.attention = a.scheme;
                }
            }
            if let Shape::Image { width, .. } = graph.input().shape() {
                out.length = width;
            }
        }
        if let Some(pieces) = file("pieces.json") {
            let bytes = read_limited(&pieces, TEXT_LIMIT)?;
            let json: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|e| Error::Malformed {
                    format: "pieces.json",
                    detail: e.to_string(),
                })?;
            // a run without substitutions has none
            let any = json["nodes"].as_object().is_some_and(|n| !n.is_empty());
            out.pieces = any.then(|| String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(out)
    }

    /// The names of the classes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an encoder that does not classify.
    pub fn labels(&self) -> Result<&[String]> {
        match &self.encoder.config().head {
            Head::Classification { labels } => Ok(labels),
            other => Err(Error::Malformed {
                format: "config.json",
                detail: format!("the encoder's head is {other:?}, it does not classify"),
            }),
        }
    }

    /// Its network.
    ///
    /// # Errors
    /// Those of [`Encoder::graph`].
    pub fn graph(&self, start: Start) -> Result<Graph> {
        self.encoder.graph(self.length, self.attention, start)
    }

    /// What stands in place of activations, roots and divisions of its network; nothing where training left nothing.
    ///
    /// # Errors
    /// Those of [`Approximations::from_json`].
    pub fn pieces(&self, graph: &Graph) -> Result<Approximations> {
        match &self.pieces {
            Some(json) => Approximations::from_json(graph, json),
            None => Ok(Approximations::default()),
        }
    }
}

/// A polynomial encoder, and what its calibration left aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomials {
    /// The network with ranges, from embedded tokens and marks to the classes' logits.
    pub graph: PolyGraph,
    /// How sentences become its inputs.
    pub format: Sentences,
    /// What stands for what.
    pub approximations: Approximations,
    /// Sentences in which a value left its interval, which are in no range, by their number; and where it did first.
    pub left_out: Vec<(usize, Outside)>,
}

/// Makes an encoder polynomial, with a run's own pieces or with pieces chosen on these sentences. At most `most_left_out` of them may leave an
/// interval.
///
/// # Errors
/// Those of [`Encoder::sentences`] and [`adapt`].
pub fn polynomials(
    trained: &Trained,
    sentences: &[Vec<u32>],
    options: &Options,
    most_left_out: usize,
) -> task::Result<Polynomials> {
    trained.labels()?;
    let format = |examples| {
        let tokenizer = trained.tokenizer.clone();
        trained
            .encoder
            .sentences(tokenizer, trained.length, examples)
    };
    let plain = format(Vec::new())?;
    let graph = trained.graph(Start::Normalized)?;
    let inputs: Vec<Tensor> = sentences
        .iter()
        .map(|tokens| plain.input(tokens))
        .collect::<task::Result<_>>()?;
    let bound = plain.bound();
    let options = Options {
        given: trained.pieces.is_some().then_some(trained.pieces(&graph)?),
        outliers: Outliers::LeaveOut(most_left_out),
        // Sentences may use tokens that calibration never saw.
        input: Some(Range {
            min: -bound,
            max: bound,
        }),
        ..options.clone()
    };
    let adapted = adapt(&graph, &inputs, &options)?;
    let left = |i: &usize| adapted.outside.iter().all(|(out, _)| out != i);
    let kept: Vec<usize> = (0..inputs.len()).filter(left).collect();
    let n = EXAMPLES.min(kept.len());
    let examples = (0..n).map(|i| sentences[kept[i * kept.len() / n]].clone());
    Ok(Polynomials {
        graph: adapted.graph,
        format: format(examples.collect())?,
        approximations: adapted.approximations,
        left_out: adapted.outside,
    })
}
