//! Runs on labelled sentences, vocabularies for them, and how well encoders classify.

use super::run::{Lines, paired_interval, wilson};
use crate::Result;
use clap::Args;
use data::Sentences;
use nn::wordpiece::{WordPiece, words};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use train::sentences::{Corpus, SentenceConfig, export, models, tokens};
use train::{Event, Trainer};
use zoo::encoder::Start;
use zoo::sentences::Trained;

/// Trains to the end, exports after every stage, and says what came out; saves every so many seconds.
pub fn execute(config: &SentenceConfig, folder: &Path, every: f64) -> Result<()> {
    let corpus = Corpus::open(&config.data)?;
    let (encoder, model, teacher) = models(config, &corpus)?;
    let (train, held_out) = corpus.sizes();
    eprintln!(
        "{train} sentences to train on, {held_out} held out for choices, {} left out as parts of those, {} cut; {} parameters",
        corpus.relatives,
        corpus.truncated,
        model
            .parameters
            .iter()
            .map(|p| p.values.len())
            .sum::<usize>()
    );
    let mut trainer = Trainer::new(config, model, teacher, corpus, folder)?;
    trainer.every = Duration::try_from_secs_f64(every)
        .map_err(|e| format!("--checkpoint-every {every}: {e}"))?;
    eprintln!(
        "Ctrl-C stops this run; the same command goes on from its last checkpoint, with the same result"
    );
    let mut lines = Lines::default();
    let stages: Vec<&str> = config.stages.iter().map(|s| s.name.as_str()).collect();
    let mut done = false;
    while !done {
        let stage = trainer.position().stage;
        done = trainer
            .run_stage(&mut |e| {
                match e {
                    Event::Epoch {
                        stage,
                        epoch,
                        loss,
                        held_out,
                        extremes,
                        ..
                    } => eprintln!(
                        "{stage}, pass {epoch}: loss {loss:.4}, {:.4} on held-out sentences, {:.1} % right ({} values outside), inputs of activations in [{:.2}, {:.2}]",
                        held_out.loss,
                        100.0 * held_out.accuracy(),
                        held_out.outside,
                        extremes.0,
                        extremes.1
                    ),
                    other => lines.show(other),
                }
                ControlFlow::Continue(())
            })?
            .is_some();
        let score = trainer.score()?;
        let (position, corpus) = (trainer.position(), trainer.sources());
        let write = |folder: &Path| {
            let model = &trainer.model;
            export(
                folder,
                config,
                &encoder,
                model,
                corpus,
                &score,
                &position.log,
            )
        };
        match stages.get(stage) {
            Some(name) if !done && stages.len() > 1 => write(&folder.join("stages").join(name))?,
            _ => {}
        }
        if done {
            write(folder)?;
            eprintln!(
                "{}: {} of {} held-out ones right ({:.1} %), {} values outside of their intervals",
                folder.display(),
                score.right,
                score.pictures,
                100.0 * score.accuracy(),
                score.outside
            );
        }
    }
    Ok(())
}

/// Options of `vocabulary`.
#[derive(Args, Debug)]
pub struct VocabularyArgs {
    /// Labelled sentences, `label TAB sentence` a line; labels are not looked at.
    #[arg(long, value_name = "FILE")]
    sentences: PathBuf,
    /// Pieces at most.
    #[arg(long, default_value_t = 6000, value_name = "N")]
    size: usize,
    /// The vocabulary, BERT's `vocab.txt`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn vocabulary(a: &VocabularyArgs) -> Result<()> {
    let set = Sentences::open(&a.sentences, None)?;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (text, _) in set.lines() {
        for word in words(text) {
            *counted.entry(word).or_default() += 1;
        }
    }
    let made = WordPiece::train(&counted, a.size)?;
    std::fs::write(&a.output, made.to_text())
        .map_err(|e| format!("{}: {e}", a.output.display()))?;
    let longest = set.lines().iter().map(|(t, _)| made.encode(t).len()).max();
    eprintln!(
        "{}: {} pieces for {} words; the longest of {} sentences has {} tokens",
        a.output.display(),
        made.len(),
        counted.len(),
        set.len(),
        longest.unwrap_or(0)
    );
    Ok(())
}

/// What `score --sentences` needs.
pub struct Scored<'a> {
    pub models: &'a [PathBuf],
    pub sentences: &'a Path,
    pub truncate: bool,
    pub json: bool,
}

/// Accuracy of encoders on labelled sentences, in f64, with what stands in place of functions where a run left it so.
pub fn score(a: &Scored<'_>) -> Result<()> {
    let mut first: Option<Vec<bool>> = None;
    let mut rows = Vec::new();
    if !a.json {
        println!(
            "| network | right | accuracy, 95 % | against the first | sentences outside an interval |\n|---|---:|---:|---:|---:|"
        );
    }
    for path in a.models {
        let named = |e: nn::Error| format!("{}: {e}", path.display());
        let trained = Trained::load(path).map_err(named)?;
        let labels = trained.labels().map_err(named)?.to_vec();
        let set = Sentences::open(a.sentences, Some(labels.len()))?;
        let length = trained.length;
        let graph = trained.graph(Start::Normalized).map_err(named)?;
        let pieces = trained.pieces(&graph).map_err(named)?;
        let judged: Vec<(bool, bool, bool)> = set
            .lines()
            .par_iter()
            .enumerate()
            .map(|(i, (text, label))| -> Result<_> {
                let (tokens, cut) =
                    tokens(&trained.vocabulary, text, length, a.truncate).map_err(|e| {
                        format!(
                            "{}: sentence {}: {e}; --truncate cuts it",
                            a.sentences.display(),
                            i + 1
                        )
                    })?;
                let x = trained
                    .encoder
                    .input(&tokens, &[], length, Start::Normalized)?;
                let e = graph.evaluate_with(&pieces, &x)?;
                Ok((e.output.argmax() == *label, !e.outside.is_empty(), cut))
            })
            .collect::<Result<_>>()?;
        let right: Vec<bool> = judged.iter().map(|j| j.0).collect();
        let count = |f: fn(&(bool, bool, bool)) -> bool| judged.iter().filter(|j| f(j)).count();
        let (good, outside, cut) = (count(|j| j.0), count(|j| j.1), count(|j| j.2));
        let (low, high) = wilson(good, right.len());
        let paired = first.as_ref().map(|f| {
            let gained = right.iter().zip(f).filter(|&(&r, &f)| r && !f).count();
            let lost = right.iter().zip(f).filter(|&(&r, &f)| !r && f).count();
            (gained, lost)
        });
        if a.json {
            rows.push(serde_json::json!({
                "model": path.display().to_string(), "right": good, "sentences": right.len(), "interval_95": [low, high],
                "gained": paired.map(|p| p.0), "lost": paired.map(|p| p.1), "sentences_outside": outside, "cut": cut,
            }));
        } else {
            let pair = paired.map_or_else(
                || "–".into(),
                |(g, l)| {
                    let (low, high) = paired_interval(g, l, right.len());
                    let points = 100.0 * (g as f64 - l as f64) / right.len() as f64;
                    format!("{g} gained, {l} lost: {points:+.1} [{low:+.1}, {high:+.1}]")
                },
            );
            println!(
                "| {}{} | {good} of {} | {:.1} % [{low:.1}, {high:.1}] | {pair} | {outside} |",
                path.display(),
                if cut > 0 {
                    format!(" ({cut} sentences cut)")
                } else {
                    String::new()
                },
                right.len(),
                100.0 * good as f64 / right.len() as f64,
            );
        }
        first.get_or_insert(right);
    }
    if a.json {
        println!("{}", serde_json::Value::from(rows));
    }
    Ok(())
}
