//! Encoders that classify sentences: calibrate, encrypt, and evaluate beside the polynomial twin in the clear; one line of JSON each.

use crate::Result;
use crate::arguments::{CalibrateArgs, EvaluateArgs};
use crate::evaluate::{Bench, Results, classes, margin, row, summary};
use crate::network::{label, load_polynomial, named, top};
use crate::terminal::note;
use clap::Args;
use compiler::Task;
use data::Sentences;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use nn::{Metadata, PolyGraph, SentenceFormat};
use runtime::Report;
use runtime::report::Answer;
use serde_json::json;
use std::path::{Path, PathBuf};
use zoo::sentences::{Trained, polynomials};

/// Sentences that `calibrate` looks at unless it is told.
const SENTENCES: usize = 2000;

/// Options of `calibrate` for encoders.
#[derive(Args, Debug)]
pub struct SentenceArgs {
    /// Encoder that classifies sentences: labelled ones to calibrate on, the class's number, a tab and the sentence a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text", "tokens"])]
    sentences: Option<PathBuf>,
    /// Cut sentences that are longer than the network takes; they are refused without it.
    #[arg(long, requires = "sentences")]
    truncate: bool,
}

impl SentenceArgs {
    /// Whether an encoder is meant.
    pub fn given(&self) -> bool {
        self.sentences.is_some()
    }
}

/// An encoder and sentences become a polynomial encoder.
pub fn calibrate(a: &CalibrateArgs) -> Result<()> {
    let path = a
        .sentences
        .sentences
        .as_deref()
        .ok_or("sentences are needed: --sentences FILE")?;
    let mut trained = Trained::load(&a.model).map_err(named(&a.model))?;
    let t = &a.text;
    match (t.power, trained.attention) {
        (Some(_), AttentionScheme::Power(_)) => {
            return Err(format!(
                "{}: the run says which attention it was trained with; leave --power out",
                a.model.display()
            )
            .into());
        }
        (Some(exponent), _) => {
            let power = PowerSoftmax::new(exponent, t.epsilon)?;
            trained.attention = AttentionScheme::Power(match t.mean {
                true => power.over(Denominator::Mean),
                false => power,
            });
        }
        (None, _) => {}
    }
    if let Some(length) = t.length {
        trained.length = length;
    }
    let labels = trained.labels().map_err(named(&a.model))?.to_vec();
    let set = Sentences::open(path, Some(labels.len()))?;
    let format = trained
        .encoder
        .sentences(trained.vocabulary.clone(), trained.length, Vec::new())
        .map_err(named(&a.model))?;
    let n = a.limit.unwrap_or(SENTENCES).min(set.len());
    let sentences: Vec<Vec<u32>> = (0..n)
        .map(|i| i * set.len() / n)
        .map(|i| encode(&format, path, i, &set.lines()[i].0, a.sentences.truncate))
        .collect::<Result<_>>()?;
    let options = crate::commands::lowering(a);
    note(format_args!("calibrating on {n} sentences"));
    let made = polynomials(&trained, &sentences, &options, t.leave_out).map_err(
        |e| -> Box<dyn std::error::Error + Send + Sync> {
            match e {
                nn::Error::Exceeded { .. } => {
                    format!("{e}; or let --leave-out N leave so many out").into()
                }
                e => named(&a.model)(e),
            }
        },
    )?;
    let graph = trained.graph(zoo::encoder::Start::Normalized)?;
    for node in made.approximations.described(&graph) {
        note(format_args!("  {node}"));
    }
    if let Some((_, first)) = made.left_out.first() {
        let left_out = made.left_out.len();
        note(format_args!(
            "{left_out} of {n} sentences leave an interval and are left out; the first: {first}"
        ));
    }
    let name = a.model.file_stem();
    let name = name.map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let provenance = format!(
        "encoder of {name} for sentences of {} tokens; {n} calibrated, {} of them left out",
        made.format.length(),
        made.left_out.len()
    );
    let graph = made.graph.with_metadata(Metadata {
        name: a.name.clone().unwrap_or(name),
        labels,
        provenance: vec![provenance],
        training: trained.record.clone(),
        sentences: Some(made.format),
        ..Metadata::default()
    })?;
    nn::format::artefact::save(&graph, &a.output)?;
    note(format_args!("wrote {}", a.output.display()));
    Ok(())
}

/// A sentence of a file as tokens; what is wrong names its number.
fn encode(
    format: &SentenceFormat,
    path: &Path,
    index: usize,
    text: &str,
    truncate: bool,
) -> Result<Vec<u32>> {
    let tokens = match truncate {
        true => format.encode_cut(text).map(|(tokens, _)| tokens),
        false => format.encode(text),
    };
    tokens.map_err(|e| {
        let remedy = match e {
            nn::Error::TooLong { .. } => ", or --truncate",
            _ => "",
        };
        format!("{}: sentence {index}: {e}{remedy}", path.display()).into()
    })
}

/// How sentences become inputs, if the plan is an encoder's.
pub fn format(task: &Task) -> Result<Option<SentenceFormat>> {
    let format = task.client.as_ref();
    let format = format.filter(|c| SentenceFormat::described_by(c));
    Ok(format.map(SentenceFormat::from_json).transpose()?)
}

/// Sentences as a plan's input, one after another.
pub fn inputs(format: &SentenceFormat, texts: &[String], truncate: bool) -> Result<Vec<f64>> {
    if texts.is_empty() {
        return Err("this plan classifies sentences: give one, --text TEXT".into());
    }
    let mut values = Vec::new();
    for text in texts {
        let tokens = if truncate {
            let (tokens, cut) = format.encode_cut(text)?;
            if cut {
                note(format_args!(
                    "the sentence was cut to {} tokens",
                    tokens.len()
                ));
            }
            tokens
        } else {
            format.encode(text).map_err(|e| match e {
                nn::Error::TooLong { .. } => format!("{e}, or --truncate"),
                e => e.to_string(),
            })?
        };
        values.extend(format.input(&tokens)?.into_values());
    }
    Ok(values)
}

pub fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
    let graph: PolyGraph = load_polynomial(&a.model)?;
    let format = graph.metadata().sentences.clone().ok_or_else(|| {
        format!(
            "{}: this network classifies no sentences (`polyveil calibrate --sentences` makes one that does)",
            a.model.display()
        )
    })?;
    let path = a
        .sentences
        .as_deref()
        .ok_or("sentences are needed: --sentences FILE")?;
    let labels = graph.metadata().labels.clone();
    let set = Sentences::open(path, Some(labels.len().max(2)))?;
    let wanted = a.skip..(a.skip + a.count).min(set.len());
    // refused before anything is computed
    let tokens: Vec<Vec<u32>> = (wanted.clone())
        .map(|i| encode(&format, path, i, &set.lines()[i].0, a.truncate))
        .collect::<Result<_>>()?;
    let results = Results(&a.output);
    let open = results.missing(wanted.clone())?;
    if !open.is_empty() {
        let examples = format.examples().iter().map(|t| format.input(t));
        let examples = examples.collect::<nn::Result<Vec<_>>>()?;
        let (bench, stated) = Bench::new("sentence", a, &graph, &results, Some(examples), threads)?;
        let stated = stated.map_or(f64::INFINITY, |s| s.error);
        let of = |index: usize| &tokens[index - wanted.start];
        let input = |index: usize| {
            let (sentence, class) = &set.lines()[index];
            let named = json!({ "sentence": sentence, "true_class": class });
            Ok((format.input(of(index))?, row(named)))
        };
        let measured = bench.each(&open, input, |index, answer, twin| {
            let best = |values: &[f64]| top(values, 1).first().copied().unwrap_or(0);
            row(json!({
                "tokens": of(index).len(), "class": best(answer), "clear_class": best(twin), "label": label(&labels, best(answer)),
                "logits": answer, "stated_error": stated, "too_close": margin(twin) < 2.0 * stated,
            }))
        })?;
        eprint!(
            "{}",
            Report::new(&bench.plan, &bench.prediction, &measured, Answer::default()).breakdown()
        );
    }
    summary("sentence", &results, wanted, |all| {
        let mut line = classes(all);
        let close = all.iter().filter(|d| d["too_close"] == true).count();
        line.insert("too_close".into(), close.into());
        line
    })
}
