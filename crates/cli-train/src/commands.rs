//! The commands: arguments become calls of the library, and what it gives is printed.

#[path = "../../cli/src/terminal.rs"]
pub(crate) mod terminal;

use crate::arguments::*;
use polyveil::data::Answers;
use polyveil::files::{Content, Output};
use polyveil::inputs::Source;
use polyveil::machine::Machine;
use polyveil::nn::AttentionScheme;
use polyveil::nn::attention::{Denominator, PowerSoftmax};
use polyveil::task::Channels;
use polyveil::training::config::{Data, Pixels};
use polyveil::training::corpus;
use polyveil::training::search::Searching;
use polyveil::training::tasks::Asking;
use polyveil::training::{self, Saving, Scaling, Start, Vectors};
use polyveil::{Error, Help, Listener, Progress, Result, data, network};
use std::path::{Path, PathBuf};
use terminal::{Line, note, say, say_line};

/// What helps against an error, in this program's options.
pub(crate) fn remedy(error: &Error) -> Option<&'static str> {
    Some(match (error.cause(), error.help()) {
        (_, Some(Help::NameTokenizer)) => "--tokenizer FILE",
        (_, Some(Help::NameActivation)) => "--activation NAME",
        (_, Some(Help::NameNormalization)) => {
            "--normalization none|imagenet|cifar10|half, or --mean, --deviation, --range, --channels"
        }
        (_, Some(Help::NameScaling)) => "--normalization none, or --mean and --deviation",
        (_, Some(Help::NameLabels)) => "--value-columns LIST",
        (_, Some(Help::RaiseBudget)) => "--budget, --degrees",
        (_, Some(Help::Overwrite)) => "--force",
        (_, Some(Help::MeasureMachine)) => "`polyveil bench --save` measures a cost table",
        (Error::Task(polyveil::task::Error::TooLong { .. }), _) => "--truncate cuts sentences",
        (
            Error::Data(data::Error::Split { wanted: None, .. })
            | Error::Training(training::Error::Data(data::Error::Split { wanted: None, .. })),
            _,
        ) => "--split PART",
        (
            Error::Data(data::Error::Heading { .. })
            | Error::Training(training::Error::Data(data::Error::Heading { .. })),
            _,
        ) => "--heading yes|no; in a configuration heading = \"yes\" or \"no\"",
        (
            Error::Training(training::Error::Setting {
                setting: "held_out",
                ..
            }),
            _,
        ) => "--held-out N; in a configuration held_out",
        (
            Error::Training(training::Error::Setting {
                setting: "normalization",
                ..
            }),
            _,
        ) => "--normalization NAME, or --mean and --deviation; in a configuration normalization",
        _ => return None,
    })
}

fn with_line<T>(work: impl FnOnce(Listener<'_>) -> Result<T>) -> Result<T> {
    let mut line = Line::new();
    work(&mut |p| line.hear(p))
}

/// Warns of models in which nothing would tell of damage.
fn look_at<'a>(models: impl IntoIterator<Item = &'a PathBuf>) {
    let warnings = models
        .into_iter()
        .filter_map(|m| network::without_checksum(m));
    warnings.for_each(|w| note(format_args!("warning: {w}")));
}

impl StartArgs {
    fn start(&self) -> Result<Start> {
        let train = self.train.clone().ok_or("--train DATA is needed")?;
        Ok(self.with(Data {
            train,
            split: self.split,
            second: self.second.clone(),
            held_out: self.held_out,
            drop_twins: self.drop_twins,
            limit: None,
            labels: self.labels.clone(),
            normalization: Some(self.pixels()?),
            size: None,
            skip_damaged: false,
            augmentation: data::Augmentation {
                flip: !self.no_flip,
                crop_padding: self.shift,
                contrast: (self.contrast > 1.0).then_some((1.0, self.contrast)),
                ..data::Augmentation::default()
            },
        }))
    }

    fn pixels(&self) -> Result<Pixels> {
        let stated = self.pixels.stated();
        match stated.name.as_deref() {
            Some("measured" | "network") | None if stated.name.is_some() || !stated.is_said() => {
                match stated.channels {
                    Channels::Rgb => Ok(stated.name.as_deref().unwrap_or("network").into()),
                    _ => Err("--channels goes with --mean, --deviation, --range or a normalisation that has a name of its own".into()),
                }
            }
            _ => Ok(Pixels::Given(stated)),
        }
    }

    fn with<D>(&self, data: D) -> Start<D> {
        Start {
            model: self.model.clone(),
            activation: self.activation.clone(),
            seed: self.seed,
            data,
        }
    }

    /// The run's vectors, where vectors are given.
    fn vectors(&self) -> Result<Option<Start<Vectors>>> {
        let Some(path) = &self.table.vectors else {
            return Ok(None);
        };
        let normalization = match self.pixels.normalization.as_deref() {
            None if self.pixels.stated().is_said() => {
                return Err(
                    "rows know --normalization network, measured and none here, no numbers".into(),
                );
            }
            None | Some("network") => Scaling::Network,
            Some("measured") => Scaling::Measured,
            Some("none") => Scaling::None,
            Some(other) => {
                return Err(format!(
                    "--normalization {other}: vectors know network, measured and none"
                )
                .into());
            }
        };
        Ok(Some(self.with(Vectors {
            vectors: path.clone(),
            split: self.split,
            labels: self.table.class_column.clone(),
            targets: self.table.value_columns.clone(),
            without: self.table.without.clone(),
            heading: self.table.heading.unwrap_or_default(),
            classes: self.labels.clone(),
            held_out: self.held_out,
            normalization,
        })))
    }
}

/// How a run is saved, and what it may replace.
fn saving(saving: &Saving, overwrite: OverwriteArgs) -> Saving {
    Saving {
        existing: overwrite.existing(),
        ..*saving
    }
}

pub(crate) fn train(a: &TrainArgs) -> Result<()> {
    let saving = saving(&a.saving, a.overwrite);
    with_line(|tell| training::train(&a.config, &a.output, &saving, tell)).map(drop)
}

pub(crate) fn adapt(a: &AdaptArgs) -> Result<()> {
    let (how, saving) = (&a.how, &saving(&a.saving, a.overwrite));
    look_at([&a.start.model]);
    let folder = Some(a.output.as_path());
    let run = |tell: Listener<'_>| match a.start.vectors()? {
        Some(start) => training::adapt_vectors(&start, how, folder, saving, tell),
        None => training::adapt(&a.start.start()?, how, folder, saving, tell),
    };
    with_line(run).map(drop)
}

pub(crate) fn search(a: &SearchArgs) -> Result<()> {
    look_at([&a.from.model]);
    let found = with_line(|tell| {
        let machine = match &a.machine {
            Some(path) => Machine::open(path, tell)?,
            None => Machine::default(),
        };
        let options = Searching {
            machine,
            ..a.searching.clone()
        };
        let output = (a.output.as_path(), a.overwrite.existing());
        training::search::search(&a.from.start()?, &options, output, tell)
    })?;
    say_line(found)
}

pub(crate) fn score(a: &ScoreArgs) -> Result<()> {
    let path = a.data.as_ref().or(a.sentences.as_ref());
    let path = path.ok_or("--data DATA or --sentences FILE is needed")?;
    let source = Source {
        split: a.split,
        cut: a.truncate,
        answers: Answers::of(a.class_column.clone(), &a.value_columns),
        without: a.without.clone(),
        heading: a.heading.unwrap_or_default(),
        ..Source::of(path)
    };
    look_at(&a.models);
    let scores = with_line(|tell| {
        training::score::score(
            &a.models,
            &source,
            a.activation.as_deref(),
            &a.pixels.stated(),
            tell,
        )
    })?;
    match a.json {
        true => say_line(serde_json::Value::from(scores.json())),
        false => say(scores),
    }
}

pub(crate) fn sample(a: &SampleArgs) -> Result<()> {
    let mut drawing = a.drawing.clone();
    if let Some(p) = a.power {
        let power = PowerSoftmax::new(p, a.epsilon)?.over(Denominator::Mean);
        drawing.attention = AttentionScheme::Power(power);
    }
    let tokenizer = a.tokenizer.as_deref();
    let stories = with_line(|tell| corpus::sample(&a.model, &drawing, tokenizer, &a.output, tell))?;
    stories
        .iter()
        .for_each(|story| note(format_args!("— {story}")));
    Ok(())
}

pub(crate) fn vocabulary(a: &VocabularyArgs) -> Result<()> {
    let output = (a.output.as_path(), a.overwrite.existing());
    with_line(|tell| corpus::vocabulary(&a.sentences, a.size, output, tell))
}

pub(crate) fn tokenize(a: &TokenizeArgs) -> Result<()> {
    let output = (a.output.as_path(), a.overwrite.existing());
    with_line(|tell| corpus::tokenize(&a.texts, &a.tokenizer, output, tell))
}

pub(crate) fn tasks(a: &TasksArgs) -> Result<()> {
    let power = a.power.map(|p| PowerSoftmax::new(p, a.epsilon));
    let asking = Asking {
        piqa: a.piqa.clone().zip(a.labels.clone()),
        power: power.transpose()?,
        ..a.asking.clone()
    };
    let answers = with_line(|tell| training::tasks::judge(&a.models, &asking, tell))?;
    match a.json {
        true => say_line(format_args!("{:#}", serde_json::Value::from(answers.0))),
        false => say_line(answers),
    }
}

pub(crate) fn table(a: &TableArgs) -> Result<()> {
    let activation = a.activation.as_deref();
    let files = a.models.iter().chain(&a.measured).map(|(_, path)| path);
    let inputs: Vec<&Path> = files.chain([&a.data]).map(PathBuf::as_path).collect();
    let existing = a.overwrite.existing();
    let mut tell = |p: Progress<'_>| note(p.message);
    let open = |path: &PathBuf| Output::create(path, Content::Other, &inputs, existing, &mut tell);
    let output = a.output.as_ref().map(open).transpose()?;
    look_at(a.models.iter().map(|(_, path)| path));
    let text = training::table::table(&a.models, &a.measured, &a.data, activation)?;
    match output {
        None => say(text),
        Some(file) => file.write_bytes(text.as_bytes()),
    }
}

/// This command as it was given, for the document that it writes.
fn command() -> String {
    let quoted = |word: String| match word.contains(' ') {
        true => format!("\"{word}\""),
        false => word,
    };
    let words = std::env::args().skip(1).map(quoted);
    std::iter::once("polyveil-train".into())
        .chain(words)
        .collect::<Vec<String>>()
        .join(" ")
}

pub(crate) fn study(study: &Study) -> Result<()> {
    let command = command();
    match study {
        // costs are those that ship with the program, so that the document depends on no machine
        Study::Activations { output, overwrite } => with_line(|tell| {
            training::study::activations(
                (output, overwrite.existing()),
                &training::activations::Options::default(),
                &polyveil::compiler::Target::default(),
                &command,
                tell,
            )
        }),
        Study::Attention {
            networks,
            windows,
            output,
            overwrite,
        } => with_line(|tell| {
            let place = (output.as_path(), overwrite.existing());
            training::study::attention(networks, *windows, place, &command, tell)
        }),
        Study::Skips {
            config,
            runs,
            saving: how,
            output,
            overwrite,
        } => with_line(|tell| {
            let saving = saving(how, *overwrite);
            training::study::skips((config, runs), &saving, output, &command, tell)
        }),
    }
}

/// Prints what a shell reads to complete this program's commands and options.
pub(crate) fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "polyveil-train", &mut script);
    say(String::from_utf8_lossy(&script))
}
