//! Language models for one prompt length, made polynomial: what lies between a training run's folder (or a checkpoint and text) and a
//! calibrated [`PolyGraph`] that takes prompts.

use crate::language::LanguageModel;
use nn::Error;
use nn::Op;
use nn::Result;
use nn::Tensor;
use nn::approximations::Approximations;
use nn::attention::AttentionScheme;
use nn::evaluate::Outside;
use nn::format::{artefact, read_limited};
use nn::lower::{Options, Outliers, adapt, leaving};
use nn::{PolyGraph, Range};
use std::path::Path;
use task::{Embedding, Prompts, Tokenizer};

/// Most bytes of the small files of a run's folder.
const TEXT_LIMIT: u64 = 16 << 20;
/// Most bytes of its network.
const NETWORK_LIMIT: u64 = 1 << 30;

/// A language model as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Its weights.
    pub model: LanguageModel,
    /// Its attention, where the files say it: checkpoints of others don't.
    pub attention: Option<AttentionScheme>,
    /// The text of its `pieces.json`: what stands in place of activations, roots and divisions, as training left it.
    pub pieces: Option<String>,
    /// Whether those pieces leave the first token public.
    pub public: Option<bool>,
    /// Its characters in the order of their tokens, if it was trained by characters.
    pub alphabet: Option<Vec<char>>,
    /// The record of the run that trained it.
    pub record: Option<serde_json::Value>,
}

impl Trained {
    /// From the folder of a training run, a folder of Hugging Face's, or a file of llama2.c.
    ///
    /// # Errors
    /// Those of [`LanguageModel::load`]; [`Error::Malformed`] for a run's own files.
    pub fn load(path: &Path) -> Result<Self> {
        let mut out = Self {
            model: LanguageModel::load(path)?,
            attention: None,
            pieces: None,
            public: None,
            alphabet: None,
            record: None,
        };
        let file = |name: &str| Some(path.join(name)).filter(|p| path.is_dir() && p.exists());
        if let Some(network) = file("network.pvm") {
            let (graph, metadata) =
                artefact::graph_from_bytes(&read_limited(&network, NETWORK_LIMIT)?)?;
            out.record = metadata.training;
            out.attention = graph.nodes().iter().find_map(|n| match n.op() {
                Op::Attention(a) => Some(a.scheme),
                _ => None,
            });
        }
        if let Some(pieces) = file("pieces.json") {
            let bytes = read_limited(&pieces, TEXT_LIMIT)?;
            let json: serde_json::Value =
                serde_json::from_slice(&bytes).map_err(|e| Error::Malformed {
                    format: "pieces.json",
                    detail: e.to_string(),
                })?;
            out.public = json["first"].as_u64().map(|first| first > 0);
            // a run without substitutions has none
            let any = json["nodes"].as_object().is_some_and(|n| !n.is_empty());
            out.pieces = any.then(|| String::from_utf8_lossy(&bytes).into_owned());
        }
        if let Some(alphabet) = file("alphabet.json") {
            let list = serde_json::from_slice(&read_limited(&alphabet, TEXT_LIMIT)?);
            out.alphabet = Some(list.map_err(|e| Error::Malformed {
                format: "alphabet.json",
                detail: e.to_string(),
            })?);
        }
        Ok(out)
    }
}

/// A polynomial language model, and what its calibration left aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomials {
    /// The network with ranges, from embedded tokens after the public one to the logits of their positions.
    pub graph: PolyGraph,
    /// How prompts become its inputs.
    pub format: Prompts,
    /// What stands for what.
    pub approximations: Approximations,
    /// Prompts that were calibrated on: every window whole, and cut short and filled up.
    pub prompts: usize,
    /// Prompts in which a value left its interval, which are in no range, by their number; and where it did first.
    pub left_out: Vec<(usize, Outside)>,
}

/// Passages that are kept with a model.
const PASSAGES: usize = 4;

/// Makes a model polynomial for prompts of a length, which is that of all `windows`: tokens that begin like prompts, with the public token
/// `begin` if there is one. With a run's own pieces, or with pieces chosen on the windows. At most `most_left_out` prompts may leave an
/// interval.
///
/// # Errors
/// Those of [`Prompts::new`] and [`adapt`]; [`Error::Malformed`]
/// for approximations that were made with another first token, [`Error::NoData`].
pub fn polynomials(
    trained: &Trained,
    attention: AttentionScheme,
    (tokenizer, begin): (Tokenizer, Option<u32>),
    windows: &[Vec<u32>],
    options: &Options,
    most_left_out: usize,
) -> task::Result<Polynomials> {
    let embedding = Embedding::new(trained.model.embedding())?;
    let format = |passages: Vec<Vec<u32>>| {
        Prompts::new(tokenizer.clone(), embedding.clone(), begin, passages)
    };
    let first = windows.first().ok_or(Error::NoData)?;
    let mut prompts = format(vec![first.clone()])?;
    let graph = trained.model.graph(prompts.length(), attention)?;
    let whole: Vec<Tensor> = embed(&prompts, windows)?;
    let given = match &trained.pieces {
        Some(json) => Approximations::from_json(&graph, json)?,
        None => Approximations::default(),
    };
    if trained.pieces.is_some() && given.first != prompts.public() {
        let with = |public: usize| if public == 0 { "without" } else { "with" };
        let (made, asked) = (with(given.first), with(prompts.public()));
        return Err(Error::Malformed {
            format: "pieces.json",
            detail: format!(
                "its intervals were made {made} a public first token, prompts are asked for {asked} one"
            ),
        }
        .into());
    }
    // Where intervals are given, what fills prompts up has to lie within them.
    if trained.pieces.is_some() {
        let bad = leaving(&graph, &given, &whole)?;
        let good = (windows.iter().enumerate()).filter(|(i, _)| bad.iter().all(|b| b.0 != *i));
        let passages: Vec<Vec<u32>> = good.map(|(_, w)| w.clone()).take(PASSAGES).collect();
        if !passages.is_empty() {
            prompts = format(passages)?;
        }
    } else {
        prompts = format(windows.iter().take(PASSAGES).cloned().collect())?;
    }
    // Prompts of every length are prompts: as many cut windows as whole ones.
    let positions = prompts.length() - prompts.public();
    let cut: Vec<Vec<u32>> = (windows.iter().enumerate())
        .map(|(i, w)| w[..prompts.public() + 1 + i % positions].to_vec())
        .collect();
    let mut inputs = whole;
    inputs.extend(embed(&prompts, &cut)?);
    // Prompts may use tokens that calibration never saw.
    let all = trained.model.embedding().values().iter().copied();
    let ends = all.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    let options = Options {
        begin: prompts.begin(),
        given: trained.pieces.is_some().then_some(given),
        outliers: Outliers::LeaveOut(most_left_out),
        input: Some(Range {
            min: ends.0.into(),
            max: ends.1.into(),
        }),
        ..options.clone()
    };
    let adapted = adapt(&graph, &inputs, &options)?;
    Ok(Polynomials {
        graph: adapted.graph,
        format: prompts,
        approximations: adapted.approximations,
        prompts: inputs.len(),
        left_out: adapted.outside,
    })
}

fn embed(prompts: &Prompts, all: &[Vec<u32>]) -> task::Result<Vec<Tensor>> {
    all.iter().map(|tokens| prompts.embed(tokens)).collect()
}
