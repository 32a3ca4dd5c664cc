//! Encoders that classify sentences: calibrate, encrypt, and evaluate beside the polynomial twin in the clear; one line of JSON each.

use crate::commands::{memory, rng};
use crate::demo::serve;
use crate::evaluate::{Results, alone, plan, through};
use crate::machine::Machine;
use crate::network::{label, load_polynomial, named, top};
use crate::prompts::{SAFETY, stated};
use crate::terminal::{duration, note};
use crate::{CalibrateArgs, EvaluateArgs, Result, text};
use clap::Args;
use data::Sentences;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use nn::calibrate::{Degree, FitOptions};
use nn::lower::sentences::{Trained, polynomials};
use nn::lower::{Numerator, Options};
use nn::{Metadata, PolyGraph, SentenceFormat};
use runtime::plan::Description;
use runtime::report::Measured;
use runtime::{ClearTwin, Client, Stopwatch};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Sentences that `calibrate` looks at unless it is told.
const SENTENCES: usize = 2000;

/// Options of `calibrate` for encoders.
#[derive(Args, Debug)]
pub(crate) struct SentenceArgs {
    /// Encoder that classifies sentences: labelled ones to calibrate on, the class's number, a tab and the sentence a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "text", "tokens"])]
    sentences: Option<PathBuf>,
    /// Cut sentences that are longer than the network takes; they are refused without it.
    #[arg(long, requires = "sentences")]
    truncate: bool,
}

impl SentenceArgs {
    /// Whether an encoder is meant.
    pub(crate) fn given(&self) -> bool {
        self.sentences.is_some()
    }
}

/// An encoder and sentences become a polynomial encoder.
pub(crate) fn calibrate(a: &CalibrateArgs) -> Result<()> {
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
    let format = SentenceFormat::of(
        &trained.encoder,
        trained.vocabulary.clone(),
        trained.length,
        Vec::new(),
    )
    .map_err(named(&a.model))?;
    let n = a.limit.unwrap_or(SENTENCES).min(set.len());
    let sentences: Vec<Vec<u32>> = (0..n)
        .map(|i| i * set.len() / n)
        .map(|i| encode(&format, path, i, &set.lines()[i].0, a.sentences.truncate))
        .collect::<Result<_>>()?;
    let options = Options {
        bits: t.bits,
        numerator: match t.carry {
            true => Numerator::Carried,
            false => Numerator::Apart,
        },
        activations: FitOptions {
            degree: Degree::Fixed(a.degree),
            margin: a.margin,
            ..FitOptions::default()
        },
        ..Options::default()
    };
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
    let graph = trained.graph(nn::models::encoder::Start::Normalized)?;
    for node in made.pieces.described(&graph) {
        note(format_args!("  {node}"));
    }
    if let (left_out @ 1.., Some(first)) = &made.left_out {
        note(format_args!(
            "{left_out} of {n} sentences leave an interval and are left out; the first: {first}"
        ));
    }
    let name = a.model.file_stem();
    let name = name.map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let provenance = format!(
        "encoder of {name} for sentences of {} tokens; {n} calibrated, {} of them left out",
        made.format.length(),
        made.left_out.0
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
pub(crate) fn format(description: &Description) -> Result<Option<SentenceFormat>> {
    let format = description.client.as_ref();
    let format = format.filter(|c| SentenceFormat::described_by(c));
    Ok(format.map(SentenceFormat::from_json).transpose()?)
}

/// Sentences as a plan's input, one after another.
pub(crate) fn inputs(
    format: &SentenceFormat,
    texts: &[String],
    truncate: bool,
) -> Result<Vec<f64>> {
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

pub(crate) fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
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
        let machine = Machine::load(&a.predict)?;
        let plan = alone(plan(a, &graph, &machine)?)?;
        let prediction = machine.announce(&a.predict, &plan, None, threads)?;
        memory(&plan, plan.facts().peak_bytes, a.max_memory)?;
        let start = Instant::now();
        let examples = format.examples().iter().map(|t| format.input(t));
        let stated = stated(&plan, &graph, &examples.collect::<nn::Result<Vec<_>>>()?)?;
        note(format_args!(
            "stated error of a logit: {:.2e} ({SAFETY} times the largest of {} simulated runs on sentences of calibration; without noise they differ from the network by {:.2e}; {})",
            stated.error,
            stated.runs,
            stated.bias,
            duration(start.elapsed().as_secs_f64())
        ));
        results.append(&json!({ "prediction": prediction, "stated": stated }))?;
        let client = Client::new(plan.client_spec(), &mut rng())?;
        let server = serve(&client, &plan)?;
        let (mut sum, mut runs) = (Stopwatch::default(), 0u32);
        for (turn, &index) in open.iter().enumerate() {
            let tokens = &tokens[index - wanted.start];
            let (sentence, class) = &set.lines()[index];
            let x = format.input(tokens)?;
            let twin = graph.evaluate(&x)?;
            // the network's intervals, and the plan's own: operands of bootstraps
            let outside = match twin.outside.first() {
                Some(outside) => Some(outside.to_string()),
                None => match ClearTwin::new(&plan, client.spec(), x.values())?.finish() {
                    Err(e @ runtime::Error::Range { .. }) => Some(e.to_string()),
                    other => other.map(|_| None)?,
                },
            };
            if let Some(outside) = outside {
                results.append(
                    &json!({ "index": index, "sentence": sentence, "true_class": class, "outside": outside }),
                )?;
                note(format_args!(
                    "sentence {index} leaves the calibrated ranges in the clear twin ({outside}) and is left out; calibrate on sentences that cover it (`polyveil calibrate`)"
                ));
                continue;
            }
            let twin = twin.output.into_values();
            let (answer, watch) = through((&client, &server), x.values(), &prediction)?;
            let best = |values: &[f64]| top(values, 1).first().copied().unwrap_or(0);
            let margin = match top(&twin, 2)[..] {
                [first, second] => twin[first] - twin[second],
                _ => f64::INFINITY,
            };
            // a NaN would be no maximum
            let error = answer.iter().zip(&twin).fold(0.0f64, |m, (a, t)| {
                let e = (a - t).abs();
                if e.is_nan() { f64::INFINITY } else { m.max(e) }
            });
            let seconds = |of: fn(&(f64, f64)) -> f64| watch.steps.values().map(of).sum::<f64>();
            let row = json!({
                "index": index, "sentence": sentence, "tokens": tokens.len(), "true_class": class, "class": best(&answer),
                "clear_class": best(&twin), "label": label(&labels, best(&answer)), "logits": answer, "max_abs_error": error,
                "stated_error": stated.error, "too_close": margin < 2.0 * stated.error,
                "seconds": seconds(|s| s.0), "cpu_seconds": seconds(|s| s.1), "peak_bytes": runtime::machine::peak_bytes(),
            });
            results.append(&row)?;
            note(format_args!("{}/{}: {row}", turn + 1, open.len()));
            runs += 1;
            for (step, (wall, cpu)) in watch.steps {
                let total = sum.steps.entry(step).or_default();
                *total = (total.0 + wall, total.1 + cpu);
            }
        }
        // of one sentence, as predictions are
        let one = |s: (f64, f64)| (s.0 / f64::from(runs), s.1 / f64::from(runs));
        let measured = Measured {
            steps: sum.steps.into_iter().map(|(i, s)| (i, one(s))).collect(),
            ..Measured::default()
        };
        eprint!("{}", text::breakdown(&plan, &prediction, &measured));
    }
    summary(&results, wanted)
}

/// One JSON object about all sentences that were asked for.
fn summary(results: &Results<'_>, wanted: std::ops::Range<usize>) -> Result<()> {
    let (left_out, all) = results.of(wanted)?;
    let count = |key: &str| all.iter().filter(|d| d["class"] == d[key]).count();
    let numbers = |key: &str| -> Vec<f64> {
        let mut all: Vec<f64> = all.iter().filter_map(|d| d[key].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let largest = |key: &str| numbers(key).last().copied();
    let median = |key: &str| numbers(key).get(all.len() / 2).copied();
    println!(
        "{}",
        json!({
            "sentences": all.len(), "left_out": left_out.len(), "same_class_as_clear": count("clear_class"), "right": count("true_class"),
            "too_close": all.iter().filter(|d| d["too_close"] == true).count(), "stated_error": largest("stated_error"),
            "max_abs_error": largest("max_abs_error"), "median_seconds": median("seconds"),
            "median_cpu_seconds": median("cpu_seconds"), "peak_bytes": largest("peak_bytes"),
        })
    );
    Ok(())
}
