//! Training runs: as a configuration says, to the end, on pictures, vectors, text or sentences.

use super::start::{Adapting, Original, Start, Vectors};
use crate::error::{Error, Help, Result, named};
use crate::files::{Content, Existing, clean, expect_folder, expect_place};
use crate::memory;
use crate::network::{Network, network};
use crate::progress::{Listener, Progress, Say};
use data::Dataset;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use train::config::{self, Run};
use train::direct::{AtHand, Finished};
use train::language::{LanguageConfig, Passages};
use train::runs::{CHECKPOINT, CONFIGURATION, FILES};
use train::sentences::{Corpus, SentenceConfig};
use train::sources::{Direct, Source};
use train::vectors::Table;
use train::{
    AnyConfig, Event, Model, Score, Sources, Trainer, approximations, language, sentences,
};

/// How often a run is saved, and what it may end with.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Saving {
    /// Time between checkpoints: what a kill loses at most.
    #[cfg_attr(feature = "clap", arg(long = "checkpoint-every", value_name = "SECONDS", default_value = "60", value_parser = seconds))]
    pub every: Duration,
    /// So many of the pictures that intervals are measured on may drive a polynomial out of all bounds: they are left out, and the run says
    /// so.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = 0))]
    pub max_diverging: usize,
    /// What may be done to files that are in the run's folder and not a run's.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub existing: Existing,
}

#[cfg(feature = "clap")]
fn seconds(text: &str) -> std::result::Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

impl Default for Saving {
    /// A checkpoint a minute, and no picture that diverges.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            max_diverging: 0,
            existing: Existing::Kin,
        }
    }
}

/// The folder of a run, if it has one, and the file that its configuration was read from.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: Option<&'a Path>,
    pub(super) config: Option<&'a Path>,
}

impl Place<'_> {
    /// Refuses a folder that holds files which are no run's and would be replaced, and never gives up an input of the run; removes what a killed
    /// run left half written.
    fn claim(&self, text: &str, existing: Existing, tell: Listener<'_>) -> Result<()> {
        let Some(folder) = self.folder else {
            return Ok(());
        };
        expect_folder(folder)?;
        let paths = train::runs::paths(text);
        let inputs: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let all: Vec<&Path> = inputs.iter().copied().chain(self.config).collect();
        let begun = folder.join(CHECKPOINT).exists();
        for name in FILES.into_iter().chain([CHECKPOINT, CONFIGURATION]) {
            let path = folder.join(name);
            if begun && name == CONFIGURATION {
                continue;
            }
            // a configuration may lie in its run's folder, as the run would write it
            let same = name == CONFIGURATION
                && std::fs::read_to_string(&path).is_ok_and(|had| had == text);
            let own = match begun || same {
                true => Existing::Any,
                false => existing,
            };
            let others = if same { &inputs } else { &all };
            expect_place(&path, Content::Other, others, own)?;
            if own == Existing::Kin && path.is_dir() {
                return Err(named(&path)(Error::refused(
                    "it is there, and the run would write into it",
                    Help::Overwrite,
                )));
            }
            clean(&path, tell);
        }
        Ok(())
    }
}

/// Trains as a TOML file says, in a folder; goes on where it was stopped.
///
/// # Errors
/// Configurations and data that can't be read or do not fit; runs that diverge.
pub fn train(config: &Path, folder: &Path, saving: &Saving, tell: Listener<'_>) -> Result<Score> {
    let place = Place {
        folder: Some(folder),
        config: Some(config),
    };
    let config = AnyConfig::load(config)?;
    if saving.max_diverging > 0 && !matches!(config, AnyConfig::Pictures(_) | AnyConfig::Vectors(_))
    {
        return Err(format!(
            "{} diverging inputs are allowed, but only runs on pictures and vectors measure intervals and leave such inputs out; text and sentences are left out when the network is calibrated",
            saving.max_diverging
        )
        .into());
    }
    match config {
        AnyConfig::Pictures(config) => {
            Ok(direct::<Sources>((&config, None), "pictures", place, saving, tell)?.score)
        }
        AnyConfig::Vectors(config) => {
            Ok(direct::<Table>((&config, None), "vectors", place, saving, tell)?.score)
        }
        AnyConfig::Text(config) => text(&config, (place, folder), saving, tell),
        AnyConfig::Sentences(config) => encoder(&config, (place, folder), saving, tell),
    }
}

/// What adaptation comes to.
pub struct Adapted {
    /// On held-out data.
    pub score: Score,
    /// The network; polynomial, unless a recipe left activations.
    pub network: Network,
}

impl TryFrom<Finished> for Adapted {
    type Error = Error;

    fn try_from(finished: Finished) -> Result<Self> {
        Ok(Self {
            network: network(finished.network)?,
            score: finished.score,
        })
    }
}

/// Makes a trained network polynomial and trains it back. In a folder it goes on where it was stopped, and what was trained stays there if the end
/// fails: where intervals are measured or the polynomial network is made. Without one nothing is written, and such a failure loses the
/// training: give runs that take long a folder.
///
/// # Errors
/// As [`fn@train`].
pub fn adapt(
    start: &Start,
    how: &Adapting,
    folder: Option<&Path>,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Adapted> {
    let original = start.original()?;
    let data = original.normalised(start.data.clone(), tell);
    let second = data.second.is_some();
    let config = how.config(&original, (start.seed, data), second, tell)?;
    let from = (original, None);
    adapted::<Sources>((&config, "pictures"), from, folder, saving, tell)
}

/// As [`adapt`], of a network that takes plain vectors; without a folder a failure at the end loses the training here, too.
///
/// # Errors
/// As [`fn@train`].
pub fn adapt_vectors(
    start: &Start<Vectors>,
    how: &Adapting,
    folder: Option<&Path>,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Adapted> {
    let original = start.original()?;
    let config = how.config(&original, (start.seed, start.data.clone()), false, tell)?;
    let from = (original, None);
    adapted::<Table>((&config, "vectors"), from, folder, saving, tell)
}

/// Labelled inputs at hand, and how they are taken. What the latter say of files is not read: paths there are names, for the network's record.
pub enum Examples {
    /// Pictures.
    Pictures(Dataset, config::Data),
    /// Rows of numbers.
    Rows(data::Vectors, Vectors),
}

/// As [`adapt`], of a network and labelled inputs at hand, with this seed: no file is read or written, and a failure at the end loses the
/// training.
///
/// # Errors
/// As [`fn@train`].
pub fn adapt_network(
    network: Network,
    (examples, seed): (Examples, u64),
    how: &Adapting,
    max_diverging: usize,
    tell: Listener<'_>,
) -> Result<Adapted> {
    let original = Original::at_hand(network)?;
    let saving = &Saving {
        max_diverging,
        ..Saving::default()
    };
    match examples {
        Examples::Pictures(set, data) => {
            let data = original.normalised(data, tell);
            let config = how.config(&original, (seed, data), false, tell)?;
            let from = (original, Some(set));
            adapted::<Sources>((&config, "pictures"), from, None, saving, tell)
        }
        Examples::Rows(set, data) => {
            let config = how.config(&original, (seed, data), false, tell)?;
            let from = (original, Some(set));
            adapted::<Table>((&config, "vectors"), from, None, saving, tell)
        }
    }
}

fn adapted<S: Direct>(
    (config, noun): (&Run<config::Network, S::Data>, &str),
    (original, set): (Original, Option<S::Set>),
    folder: Option<&Path>,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Adapted> {
    let place = Place {
        folder,
        config: None,
    };
    let at_hand = AtHand {
        network: original.network,
        set,
    };
    direct::<S>((config, Some(at_hand)), noun, place, saving, tell)?.try_into()
}

fn parameters(model: &Model) -> usize {
    model.parameters.iter().map(|p| p.values.len()).sum()
}

/// Trains to the end, and calls `ended` after every stage: with its name, or with none after the last one, whose score it gives.
fn drive<'a, S: Source, R>(
    (noun, config): (&str, &'a Run<S::Network, S::Data>),
    (model, teacher, sources): (Model, Option<Model>, S),
    (place, saving): (Place<'_>, &Saving),
    tell: Listener<'_>,
    mut ended: impl FnMut(&mut Trainer<'a, S>, Option<&str>, Listener<'_>) -> Result<Option<R>>,
) -> Result<R> {
    let kept = memory::train(
        (&model, teacher.as_ref()),
        (sources.a_step(config.batch), &config.stages),
        tell,
    )?;
    let mut trainer = Trainer::new(config, model, teacher, sources, place.folder)?;
    trainer.every = saving.every;
    trainer.kept = kept;
    if place.folder.is_some() {
        tell.note("Ctrl-C stops this run; the same command goes on from its last checkpoint, with the same result");
    }
    loop {
        let stage = trainer.position().stage;
        let done = trainer.run_stage(&mut |e| {
            report(e, noun, tell);
            ControlFlow::Continue(())
        })?;
        if done.is_some() {
            return ended(&mut trainer, None, tell)?.ok_or_else(|| "the run has no score".into());
        }
        if let Some(stage) = config.stages.get(stage).filter(|_| config.stages.len() > 1) {
            ended(&mut trainer, Some(&stage.name), tell)?;
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

/// A run on pictures or vectors.
pub(super) fn direct<S: Direct>(
    (config, at_hand): (&Run<config::Network, S::Data>, Option<AtHand<S>>),
    noun: &str,
    place: Place<'_>,
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Finished> {
    place.claim(&config.to_toml()?, saving.existing, tell)?;
    let start = train::direct::start::<S>(config, at_hand)?;
    tell.note(format_args!(
        "{}; {} parameters",
        start.sources.summary(),
        parameters(&start.model)
    ));
    let step = start.sources.a_step(config.batch);
    if step < config.batch {
        tell.note(format_args!(
            "batches of {step} {noun}, all that there are to train on, in the place of {}",
            config.batch
        ));
    }
    for what in start.sources.left_out() {
        tell.note(format_args!("left out {what}"));
    }
    let metadata = start.metadata;
    let parts = (start.model, start.teacher, start.sources);
    let (what, place) = ((noun, config), (place, saving));
    drive(what, parts, place, tell, |trainer, stage, tell| {
        if stage.is_some() {
            return Ok(None);
        }
        let finished = train::direct::finish(trainer, metadata.clone(), saving.max_diverging)?;
        if let Some((seen, left_out)) = finished.measured {
            let mirrored = match trainer.sources().mirrored(&[]) {
                Some(_) => " and on their mirror images",
                None => "",
            };
            tell.note(format_args!(
                "intervals measured on {seen} {noun}{mirrored}, widened by an eighth of their width on each side"
            ));
            let programs = approximations::programs(&trainer.model).lines().count() - 1;
            if programs > 0 {
                tell.note(format_args!(
                    "{programs} norms and divisions became programs of sums and products"
                ));
            }
            if left_out > 0 {
                tell.note(format_args!(
                    "{left_out} of them drive a polynomial out of all bounds and are left out: such {noun} get no answer"
                ));
            }
        }
        let path = finished.path.as_deref();
        say_score(
            path.unwrap_or(Path::new("the network")),
            noun,
            &finished.score,
            tell,
        );
        Ok(Some(finished))
    })
}

/// A run on text.
fn text(
    config: &LanguageConfig,
    (place, folder): (Place<'_>, &Path),
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    place.claim(&config.to_toml()?, saving.existing, tell)?;
    let passages = Passages::open(&config.data)?;
    let (network, model, teacher) = language::models(config, &passages)?;
    tell.note(format_args!(
        "{} tokens to train on, {} held out for choices; {} parameters",
        passages.train.text().tokens().len(),
        passages.held_out.text().tokens().len(),
        parameters(&model)
    ));
    let (what, parts) = (("text", config), (model, teacher, passages));
    drive(
        what,
        parts,
        (place, saving),
        tell,
        |trainer, stage, tell| {
            if stage.is_some() {
                return Ok(None);
            }
            let score = language::export(folder, trainer, &network)?;
            let circuits = approximations::programs(&trainer.model).lines().count() - 1;
            tell.note(format_args!(
            "{}: {:.4} nats a token on {} held-out tokens, {:.1} % right, {} values outside of their intervals; {circuits} programs",
            folder.display(),
            score.loss,
            score.answers,
            100.0 * score.accuracy(),
            score.outside
        ));
            Ok(Some(score))
        },
    )
}

/// A run on sentences; every stage is exported.
fn encoder(
    config: &SentenceConfig,
    (place, folder): (Place<'_>, &Path),
    saving: &Saving,
    tell: Listener<'_>,
) -> Result<Score> {
    place.claim(&config.to_toml()?, saving.existing, tell)?;
    let corpus = Corpus::open(&config.data)?;
    let (network, model, teacher) = sentences::models(config, &corpus)?;
    let (train, held_out) = corpus.sizes();
    tell.note(format_args!(
        "{train} sentences to train on, {held_out} held out for choices, {} left out as parts of those, {} cut; {} parameters",
        corpus.relatives,
        corpus.truncated,
        parameters(&model)
    ));
    let (what, parts) = (("sentences", config), (model, teacher, corpus));
    drive(
        what,
        parts,
        (place, saving),
        tell,
        |trainer, stage, tell| {
            let into = match stage {
                Some(name) => folder.join("stages").join(name),
                None => folder.to_path_buf(),
            };
            let score = sentences::export(&into, trainer, &network)?;
            if stage.is_none() {
                say_score(folder, "ones", &score, tell);
            }
            Ok(Some(score))
        },
    )
}

fn say_score(path: &Path, noun: &str, score: &Score, tell: Listener<'_>) {
    let path = path.display();
    for e in &score.errors {
        tell.note(format_args!(
            "{path}: on {} held-out {noun} a root mean squared error of {:.4}, R² {:.4}",
            score.answers, e.rmse, e.r2
        ));
    }
    let right = format!(
        "{} of {} held-out {noun} right ({:.1} %), ",
        score.right,
        score.answers,
        100.0 * score.accuracy()
    );
    tell.note(format_args!(
        "{path}: {}{} values outside of their intervals",
        if score.errors.is_empty() { &right } else { "" },
        score.outside
    ));
}
