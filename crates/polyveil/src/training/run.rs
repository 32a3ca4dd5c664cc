//! Training runs: as a configuration says, to the end, on pictures, text or sentences.

use super::start::{Adapting, Start};
use crate::error::{Error, Result};
use crate::progress::{Listener, Progress, Say};
use nn::Metadata;
use nn::format::artefact;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use train::config::Config;
use train::language::{AnyConfig, LanguageConfig, Passages};
use train::sentences::{Corpus, SentenceConfig};
use train::sources::Source;
use train::{Event, Model, Score, Sources, Trainer, language, sentences};

/// How often a run is saved, and what it may end with.
#[derive(Debug, Clone, Copy)]
pub struct Saving {
    /// Time between checkpoints: what a kill loses at most.
    pub every: Duration,
    /// So many of the pictures that intervals are measured on may drive a polynomial out of all bounds: they are left out, and the run says
    /// so.
    pub max_diverging: usize,
}

impl Default for Saving {
    /// A checkpoint a minute, and no picture that diverges.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            max_diverging: 0,
        }
    }
}

/// Trains as a TOML file says, in a folder; goes on where it was stopped.
///
/// # Errors
/// Configurations and data that can't be read or do not fit; runs that diverge.
pub fn train(config: &Path, folder: &Path, saving: &Saving, tell: Listener<'_>) -> Result<Score> {
    let config = AnyConfig::load(config)?;
    if saving.max_diverging > 0 && !matches!(config, AnyConfig::Pictures(_)) {
        return Err(format!(
            "{} diverging inputs are allowed, but only runs on pictures measure intervals and leave such pictures out; text and sentences are left out when the network is calibrated",
            saving.max_diverging
        )
        .into());
    }
    match config {
        AnyConfig::Pictures(config) => pictures(&config, folder, saving, tell),
        AnyConfig::Text(config) => text(&config, folder, saving, tell),
        AnyConfig::Sentences(config) => encoder(&config, folder, saving, tell),
    }
}

/// Makes a trained network polynomial and trains it back, in a folder; goes on where it was stopped.
///
/// # Errors
/// As [`train`].
pub fn adapt(
    start: &Start,
    how: &Adapting,
    folder: &Path,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    pictures(&how.config(start, tell)?, folder, saving, tell)
}

fn parameters(model: &Model) -> usize {
    model.parameters.iter().map(|p| p.values.len()).sum()
}

/// Trains to the end, and calls `ended` after every stage: with its name, or with none after the last one.
fn drive<'a, S: Source>(
    trainer: &mut Trainer<'a, S>,
    (noun, stages): (&str, Vec<&str>),
    saving: &Saving,
    tell: Listener<'_>,
    mut ended: impl FnMut(&mut Trainer<'a, S>, Option<&str>, Listener<'_>) -> Result<()>,
) -> Result<()> {
    trainer.every = saving.every;
    tell.note(
        "Ctrl-C stops this run; the same command goes on from its last checkpoint, with the same result",
    );
    loop {
        let stage = trainer.position().stage;
        let done = trainer
            .run_stage(&mut |e| {
                report(e, noun, tell);
                ControlFlow::Continue(())
            })?
            .is_some();
        if done {
            return ended(trainer, None, tell);
        }
        if let Some(name) = stages.get(stage).filter(|_| stages.len() > 1) {
            ended(trainer, Some(name), tell)?;
        }
    }
}

/// What a trainer reports, in words.
fn report(event: &Event<'_>, noun: &str, tell: Listener<'_>) {
    match event {
        Event::Step {
            stage,
            done,
            loss,
            accuracy,
            remaining,
        } => tell(Progress {
            message: &format!(
                "{stage}: {:5.1} % of the run, loss {loss:.4}, {:.1} % right, {} to go",
                100.0 * done,
                100.0 * accuracy,
                clock(*remaining)
            ),
            fraction: Some(*done),
            remaining: Some(*remaining),
        }),
        Event::Epoch {
            stage,
            epoch,
            loss,
            training,
            held_out,
            extremes,
        } => tell.note(format_args!(
            "{stage}, pass {epoch}: loss {loss:.4}, {:.1} % right in training; on held-out {noun} loss {:.4}, {:.1} % right, {} values outside; inputs of activations in [{:.2}, {:.2}]",
            100.0 * training,
            held_out.loss,
            100.0 * held_out.accuracy(),
            held_out.outside,
            extremes.0,
            extremes.1
        )),
        Event::Note(text) => tell.note(text),
        _ => {}
    }
}

/// Seconds as people say them.
fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..=99 => format!("{s} s"),
        100..=5999 => format!("{} min", s.div_ceil(60)),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn names(stages: &[train::config::Stage]) -> Vec<&str> {
    stages.iter().map(|s| s.name.as_str()).collect()
}

/// (height, width, channels).
pub(super) fn picture_shape(sources: &Sources) -> (usize, usize, usize) {
    let s = sources.train.shape();
    (s.height, s.width, s.channels)
}

/// A run on pictures; gives the score on held-out ones.
pub(super) fn pictures(
    config: &Config,
    folder: &Path,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    let mut sources = Sources::open(&config.data)?;
    let input = picture_shape(&sources);
    let classes = sources.train.classes().len();
    let (graph, metadata, parameterization) =
        train::networks::graph(&config.network, input, classes, config.seed)?;
    // no polynomial computes a maximum
    let mut graph = train::surgery::average_pools(&graph)?;
    if let Some(place) = &config.batch_norms {
        graph = train::surgery::insert_batch_norms(&graph, place)?;
    }
    let model = Model::new(graph, parameterization)?;
    sources.adopt(&config.data, &metadata)?;
    let teacher = config
        .teacher
        .as_ref()
        .map(|t| train::networks::model(t, input, classes, config.seed))
        .transpose()?
        .map(|(t, _)| t);
    let second = sources.second.as_ref();
    tell.note(format_args!(
        "{} pictures to train on{}, {} held out for choices, {} left out as near-duplicates of those; {} parameters",
        sources.train.len(),
        second.map_or_else(String::new, |s| format!(" and {} to mix in", s.len())),
        sources.held_out.len(),
        sources.twins,
        parameters(&model)
    ));
    for s in &sources.skipped {
        tell.note(format_args!("left out {}: {}", s.picture, s.reason));
    }
    let mut trainer = Trainer::new(config, model, teacher, sources, folder)?;
    let mut score = None;
    let what = ("pictures", names(&config.stages));
    drive(&mut trainer, what, saving, tell, |trainer, stage, tell| {
        if stage.is_none() {
            score = Some(finish(
                config,
                folder,
                trainer,
                metadata.clone(),
                saving,
                tell,
            )?);
        }
        Ok(())
    })?;
    score.ok_or_else(|| "the run did not end".into())
}

/// A run on text.
fn text(
    config: &LanguageConfig,
    folder: &Path,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    let passages = Passages::open(&config.data)?;
    let (network, model, teacher) = language::models(config, &passages)?;
    tell.note(format_args!(
        "{} tokens to train on, {} held out for choices; {} parameters",
        passages.train.text().tokens().len(),
        passages.held_out.text().tokens().len(),
        parameters(&model)
    ));
    let mut trainer = Trainer::new(config, model, teacher, passages, folder)?;
    let what = ("text", names(&config.stages));
    let mut last = None;
    drive(&mut trainer, what, saving, tell, |trainer, stage, tell| {
        if stage.is_some() {
            return Ok(());
        }
        let score = trainer.score()?;
        let (log, passages) = (&trainer.position().log, trainer.sources());
        language::export(
            folder,
            config,
            &network,
            &trainer.model,
            passages,
            &score,
            log,
        )?;
        let circuits = language::programs(&trainer.model).lines().count() - 1;
        tell.note(format_args!(
            "{}: {:.4} nats a token on {} held-out tokens, {:.1} % right, {} values outside of their intervals; {circuits} programs",
            folder.display(),
            score.loss,
            score.pictures,
            100.0 * score.accuracy(),
            score.outside
        ));
        last = Some(score);
        Ok(())
    })?;
    last.ok_or_else(|| "the run did not end".into())
}

/// A run on sentences; every stage is exported.
fn encoder(
    config: &SentenceConfig,
    folder: &Path,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    let corpus = Corpus::open(&config.data)?;
    let (network, model, teacher) = sentences::models(config, &corpus)?;
    let (train, held_out) = corpus.sizes();
    tell.note(format_args!(
        "{train} sentences to train on, {held_out} held out for choices, {} left out as parts of those, {} cut; {} parameters",
        corpus.relatives,
        corpus.truncated,
        parameters(&model)
    ));
    let mut trainer = Trainer::new(config, model, teacher, corpus, folder)?;
    let what = ("sentences", names(&config.stages));
    let mut last = None;
    drive(&mut trainer, what, saving, tell, |trainer, stage, tell| {
        let score = trainer.score()?;
        let (log, corpus) = (&trainer.position().log, trainer.sources());
        let into = match stage {
            Some(name) => folder.join("stages").join(name),
            None => folder.to_path_buf(),
        };
        sentences::export(&into, config, &network, &trainer.model, corpus, &score, log)?;
        if stage.is_none() {
            say_score(folder, "ones", &score, tell);
        }
        last = Some(score);
        Ok(())
    })?;
    last.ok_or_else(|| "the run did not end".into())
}

fn say_score(path: &Path, noun: &str, score: &Score, tell: Listener<'_>) {
    tell.note(format_args!(
        "{}: {} of {} held-out {noun} right ({:.1} %), {} values outside of their intervals",
        path.display(),
        score.right,
        score.pictures,
        100.0 * score.accuracy(),
        score.outside
    ));
}

/// A network whose intervals can't be measured is kept for training on; gives back what to say.
fn unfinished(
    folder: &Path,
    trainer: &Trainer<'_>,
    metadata: &Metadata,
    error: train::Error,
) -> Error {
    let path = folder.join("unfinished.pvm");
    let kept = trainer
        .model
        .to_graph()
        .map_err(|e| e.to_string())
        .and_then(|g| artefact::graph_to_bytes(&g, metadata).map_err(|e| e.to_string()))
        .and_then(|b| train::checkpoint::write_whole(&path, &b).map_err(|e| e.to_string()));
    match kept {
        Ok(()) => format!("{error}; what was trained is in {}", path.display()),
        Err(e) => format!("{error}; what was trained is in the checkpoint alone: {e}"),
    }
    .into()
}

/// Measures, exports, and says what came out.
fn finish(
    config: &Config,
    folder: &Path,
    trainer: &mut Trainer<'_>,
    mut metadata: Metadata,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    let sources = trainer.sources().clone();
    let polynomial = trainer.model.units().any(|u| u.coefficients.is_some());
    let mut diverged = 0;
    if polynomial {
        let (batch, allowed) = (config.batch, saving.max_diverging);
        let measured =
            train::export::measure_intervals(&mut trainer.model, &sources, batch, 0.125, allowed);
        let (seen, left_out) = measured.map_err(|e| unfinished(folder, trainer, &metadata, e))?;
        tell.note(format_args!(
            "intervals measured on {seen} pictures and their mirror images, widened by an eighth of their width on each side"
        ));
        if left_out > 0 {
            tell.note(format_args!(
                "{left_out} of them drive a polynomial out of all bounds and are left out: such pictures get no answer"
            ));
        }
        diverged = left_out;
    }
    let held_out = trainer.score()?;
    if metadata.name.is_empty() {
        metadata.name = folder
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into());
    }
    metadata.labels = sources.labels(&metadata);
    metadata.normalization = Some(sources.normalization.clone());
    metadata
        .provenance
        .push(format!("polyveil-train {}", env!("CARGO_PKG_VERSION")));
    let text = config.to_toml()?;
    metadata.training = Some(train::export::record(
        config,
        &text,
        &sources,
        &held_out,
        diverged,
        &trainer.position().log,
    ));
    let path = folder.join("network.pvm");
    let bytes = match train::export::polynomial(&trainer.model, &sources, metadata.clone())? {
        Some(graph) => artefact::to_bytes(&graph)?,
        None => artefact::graph_to_bytes(&trainer.model.to_graph()?, &metadata)?,
    };
    train::checkpoint::write_whole(&path, &bytes)?;
    say_score(&path, "pictures", &held_out, tell);
    Ok(held_out)
}
