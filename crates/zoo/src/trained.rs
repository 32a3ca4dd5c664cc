//! Transformers as they were trained, and made polynomial for one length: what lies between a training run's folder (or a checkpoint and
//! text) and a calibrated [`PolyGraph`] with its task.

use crate::bert::Head;
use crate::encoder::{Encoder, Start};
use crate::language::LanguageModel;
use nn::approximations::Approximations;
use nn::attention::AttentionScheme;
use nn::evaluate::Outside;
use nn::format::{artefact, read_limited};
use nn::lower::{Adapted, Options, Outliers, adapt, leaving};
use nn::{Error, Graph, Op, PolyGraph, Range, Result, Shape, Tensor};
use serde::de::DeserializeOwned;
use std::path::Path;
use task::{Embedding, Prompts, Sentences, Tokenizer};

/// Most bytes of the small files of a run's folder.
const TEXT_LIMIT: u64 = 16 << 20;
/// Most bytes of its network.
const NETWORK_LIMIT: u64 = 1 << 30;
/// Passages or sentences that are kept with a model.
const EXAMPLES: usize = 4;

/// The file of what stands for what, as it is called and as older runs call it.
const APPROXIMATIONS: [&str; 2] = ["approximations.json", "pieces.json"];

/// What a training run left beside a model's weights; nothing in checkpoints of others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// The attention that it trained.
    pub attention: Option<AttentionScheme>,
    /// The length that it trained at.
    pub length: Option<usize>,
    /// The text of its `approximations.json`, if anything is in it: what stands in place of activations, roots and divisions, as training left it.
    pub approximations: Option<String>,
    /// Whether those leave the first token public.
    pub public: Option<bool>,
    /// Its characters in the order of their tokens, if it was trained by characters.
    pub alphabet: Option<Vec<char>>,
    /// Its record.
    pub record: Option<serde_json::Value>,
}

impl Run {
    /// From a folder, whatever of a run is in it; from a file nothing.
    fn read(path: &Path) -> Result<Self> {
        let mut out = Self::default();
        let network = path.join("network.pvm");
        if network.exists() {
            let bytes = read_limited(&network, NETWORK_LIMIT)?;
            let (graph, metadata) = artefact::graph_from_bytes(&bytes)?;
            out.record = metadata.training;
            out.attention = graph.nodes().iter().find_map(|n| match n.op() {
                Op::Attention(a) => Some(a.scheme),
                _ => None,
            });
            if let Shape::Image { width, .. } = graph.input().shape() {
                out.length = Some(width);
            }
        }
        let [today, yesterday] = APPROXIMATIONS;
        let own = match json::<serde_json::Value>(path, today)? {
            None => json(path, yesterday)?,
            found => found,
        };
        if let Some((text, json)) = own {
            out.public = json["first"].as_u64().map(|first| first > 0);
            // a run without substitutions has none
            let any = json["nodes"].as_object().is_some_and(|n| !n.is_empty());
            out.approximations = any.then_some(text);
        }
        out.alphabet = json(path, "alphabet.json")?.map(|(_, list)| list);
        Ok(out)
    }

    /// What stands in place of functions of the model's network, where training left it.
    ///
    /// # Errors
    /// Those of [`Approximations::from_json`].
    pub fn approximations(&self, graph: &Graph) -> Result<Option<Approximations>> {
        let json = self.approximations.as_deref();
        json.map(|json| Approximations::from_json(graph, json))
            .transpose()
    }
}

/// The text of a file of the folder, and what it says, if it is there.
fn json<T: DeserializeOwned>(folder: &Path, name: &'static str) -> Result<Option<(String, T)>> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&read_limited(&path, TEXT_LIMIT)?).into_owned();
    let value = serde_json::from_str(&text).map_err(|e| Error::malformed(name, e.to_string()))?;
    Ok(Some((text, value)))
}

/// A polynomial network, and what its calibration left aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomials<Format> {
    /// The network with ranges, from what is encrypted to what is decrypted.
    pub graph: PolyGraph,
    /// How text becomes its inputs.
    pub format: Format,
    /// What stands for what.
    pub approximations: Approximations,
    /// Inputs that were calibrated on.
    pub inputs: usize,
    /// Inputs in which a value left its interval, which are in no range, by their number; and where it did first.
    pub left_out: Vec<(usize, Outside)>,
}

impl<Format> Polynomials<Format> {
    fn of(adapted: Adapted, format: Format, inputs: usize) -> Self {
        Self {
            graph: adapted.graph,
            format,
            approximations: adapted.approximations,
            inputs,
            left_out: adapted.outside,
        }
    }
}

/// A language model as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedLanguageModel {
    /// Its weights.
    pub model: LanguageModel,
    /// What its run left.
    pub run: Run,
}

impl TrainedLanguageModel {
    /// From the folder of a training run, a folder of Hugging Face's, or a file of llama.cpp or llama2.c.
    ///
    /// # Errors
    /// Those of [`LanguageModel::load`]; [`Error::Malformed`] for a run's own files.
    pub fn load(path: &Path) -> Result<Self> {
        Ok(Self {
            model: LanguageModel::load(path)?,
            run: Run::read(path)?,
        })
    }

    /// Makes the model polynomial for prompts of a length, which is that of all `windows`: tokens that begin like prompts, with the public
    /// token `begin` if there is one. With the run's own approximations, or with some that are chosen on the windows, each whole, and cut short
    /// and filled up. At most `most_left_out` prompts may leave an interval.
    ///
    /// # Errors
    /// Those of [`Prompts::new`] and [`adapt`]; [`Error::Malformed`] for approximations that were made with another first token,
    /// [`Error::NoData`].
    pub fn polynomials(
        &self,
        attention: AttentionScheme,
        (tokenizer, begin): (Tokenizer, Option<u32>),
        windows: &[Vec<u32>],
        options: &Options,
        most_left_out: usize,
    ) -> task::Result<Polynomials<Prompts>> {
        let embedding = Embedding::new(self.model.embedding())?;
        let format = |passages: Vec<Vec<u32>>| {
            Prompts::new(tokenizer.clone(), embedding.clone(), begin, passages)
        };
        let first = windows.first().ok_or(Error::NoData)?;
        let mut prompts = format(vec![first.clone()])?;
        let graph = self.model.graph(prompts.length(), attention)?;
        let whole: Vec<Tensor> = embed(&prompts, windows)?;
        let given = self.run.approximations(&graph)?;
        let mut passages: Vec<Vec<u32>> = windows.iter().take(EXAMPLES).cloned().collect();
        if let Some(given) = &given {
            check_first(given.first, prompts.public())?;
            // What fills prompts up has to lie within the given intervals.
            let bad = leaving(&graph, given, &whole)?;
            let good = (windows.iter().enumerate()).filter(|(i, _)| bad.iter().all(|b| b.0 != *i));
            passages = good.map(|(_, w)| w.clone()).take(EXAMPLES).collect();
        }
        if !passages.is_empty() {
            prompts = format(passages)?;
        }
        // Prompts of every length are prompts: as many cut windows as whole ones.
        let positions = prompts.length() - prompts.public();
        let cut: Vec<Vec<u32>> = (windows.iter().enumerate())
            .map(|(i, w)| w[..prompts.public() + 1 + i % positions].to_vec())
            .collect();
        let mut inputs = whole;
        inputs.extend(embed(&prompts, &cut)?);
        // Prompts may use tokens that calibration never saw.
        let all = self.model.embedding().values().iter().copied();
        let nothing = (f32::INFINITY, f32::NEG_INFINITY);
        let (min, max) = all.fold(nothing, |(low, high), v| (low.min(v), high.max(v)));
        let options = Options {
            begin: prompts.begin(),
            given,
            outliers: Outliers::LeaveOut(most_left_out),
            input: Some(Range {
                min: min.into(),
                max: max.into(),
            }),
            ..options.clone()
        };
        let adapted = adapt(&graph, &inputs, &options)?;
        Ok(Polynomials::of(adapted, prompts, inputs.len()))
    }
}

/// Intervals that were made with a public first token hold for prompts with one only.
fn check_first(made: usize, asked: usize) -> Result<()> {
    if made == asked {
        return Ok(());
    }
    let with = |public: usize| if public == 0 { "without" } else { "with" };
    let (made, asked) = (with(made), with(asked));
    let detail = format!(
        "its intervals were made {made} a public first token, prompts are asked for {asked} one"
    );
    Err(Error::malformed(APPROXIMATIONS[0], detail))
}

fn embed(prompts: &Prompts, all: &[Vec<u32>]) -> task::Result<Vec<Tensor>> {
    all.iter().map(|tokens| prompts.embed(tokens)).collect()
}

/// An encoder that classifies sentences as it was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedEncoder {
    /// Its weights.
    pub encoder: Encoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its attention: the run's, or softmax, since checkpoints of others don't say it.
    pub attention: AttentionScheme,
    /// Tokens of a sentence: the run's, or as many as the model knows.
    pub length: usize,
    /// What its run left.
    pub run: Run,
}

impl TrainedEncoder {
    /// From the folder of a training run, or a folder of Hugging Face's with its `vocab.txt` or `tokenizer.json`.
    ///
    /// # Errors
    /// Those of [`Encoder::load`] and [`Tokenizer::load`]; [`Error::Count`] where they don't fit; [`Error::Malformed`] for a run's own files.
    pub fn load(folder: &Path) -> task::Result<Self> {
        let encoder = Encoder::load(folder)?;
        let vocabulary = Some(folder.join("vocab.txt")).filter(|v| v.exists());
        let tokenizer = Tokenizer::load(&vocabulary.unwrap_or_else(|| folder.into()))?;
        Ok(Self::new(encoder, tokenizer, Run::read(folder)?)?)
    }

    /// From an encoder, its tokenizer and what its run left, if there was one.
    ///
    /// # Errors
    /// [`Error::Count`] for a tokenizer of another encoder.
    pub fn new(encoder: Encoder, tokenizer: Tokenizer, run: Run) -> Result<Self> {
        let (needed, had) = (encoder.config().sizes.vocabulary, tokenizer.len());
        let what = "tokens of the vocabulary (does it belong to the model?)";
        if had > needed || had < needed && matches!(tokenizer, Tokenizer::WordPiece(_)) {
            return Err(Error::Count { what, needed, had });
        }
        Ok(Self {
            attention: run.attention.unwrap_or(AttentionScheme::Softmax),
            length: run
                .length
                .unwrap_or_else(|| encoder.config().sizes.max_length),
            encoder,
            tokenizer,
            run,
        })
    }

    /// The names of the classes.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an encoder that does not classify.
    pub fn labels(&self) -> Result<&[String]> {
        match &self.encoder.config().head {
            Head::Classification { labels } => Ok(labels),
            other => {
                let detail = format!("the encoder's head is {other:?}, it does not classify");
                Err(Error::malformed("config.json", detail))
            }
        }
    }

    /// Its network.
    ///
    /// # Errors
    /// Those of [`Encoder::graph`].
    pub fn graph(&self, start: Start) -> Result<Graph> {
        self.encoder.graph(self.length, self.attention, start)
    }

    /// How sentences become its network's inputs; these examples are kept with it.
    ///
    /// # Errors
    /// Those of [`Encoder::sentences`].
    pub fn format(&self, examples: Vec<Vec<u32>>) -> task::Result<Sentences> {
        (self.encoder).sentences(self.tokenizer.clone(), self.length, examples)
    }

    /// Makes the encoder polynomial, with the run's own approximations or with some that are chosen on these sentences. At most
    /// `most_left_out` of them may leave an interval.
    ///
    /// # Errors
    /// Those of [`TrainedEncoder::format`] and [`adapt`].
    pub fn polynomials(
        &self,
        sentences: &[Vec<u32>],
        options: &Options,
        most_left_out: usize,
    ) -> task::Result<Polynomials<Sentences>> {
        self.labels()?;
        let plain = self.format(Vec::new())?;
        let graph = self.graph(Start::Normalized)?;
        let inputs: Vec<Tensor> = (sentences.iter())
            .map(|tokens| plain.input(tokens))
            .collect::<task::Result<_>>()?;
        // Sentences may use tokens that calibration never saw.
        let bound = plain.bound();
        let options = Options {
            given: self.run.approximations(&graph)?,
            outliers: Outliers::LeaveOut(most_left_out),
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
        let format = self.format(examples.collect())?;
        Ok(Polynomials::of(adapted, format, inputs.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approximations_are_read_by_their_old_name_too() {
        let folder = std::env::temp_dir().join(format!("polyveil-run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, node: &str| {
            let text = format!("{{\"first\": 1, \"nodes\": {{\"{node}\": {{}}}}}}");
            std::fs::write(folder.join(name), text).expect("writes");
        };
        let found = || Run::read(&folder).expect("reads").approximations;
        assert_eq!(found(), None);
        write("pieces.json", "old");
        assert!(found().is_some_and(|text| text.contains("old")));
        write("approximations.json", "new");
        assert!(found().is_some_and(|text| text.contains("new")));
        std::fs::remove_dir_all(&folder).expect("removes");
    }
}
