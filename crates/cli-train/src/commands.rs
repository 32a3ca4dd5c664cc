//! The commands: arguments become calls of the library, and what it gives is printed.

#[path = "../../cli/src/terminal.rs"]
pub(crate) mod terminal;

use crate::arguments::*;
use polyveil::data::Answers;
use polyveil::files::write_bytes;
use polyveil::inputs::Source;
use polyveil::machine::Machine;
use polyveil::nn::AttentionScheme;
use polyveil::nn::attention::{Denominator, PowerSoftmax};
use polyveil::task::Channels;
use polyveil::training::config::{Data, Pixels};
use polyveil::training::corpus;
use polyveil::training::search::Searching;
use polyveil::training::tasks::Asking;
use polyveil::training::{self, Scaling, Start, Vectors};
use polyveil::{Error, Help, Listener, Result, data};
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
        (_, Some(Help::RaiseBudget)) => "--budget, --degrees",
        (_, Some(Help::MeasureMachine)) => "`polyveil bench --save` measures a cost table",
        (Error::Task(polyveil::task::Error::TooLong { .. }), _) => "--truncate cuts sentences",
        _ => return None,
    })
}

fn with_line<T>(work: impl FnOnce(Listener<'_>) -> Result<T>) -> Result<T> {
    let mut line = Line::new();
    work(&mut |p| line.hear(p))
}

impl StartArgs {
    fn start(&self) -> Result<Start> {
        let train = self.train.clone().ok_or("--train DATA is needed")?;
        Ok(self.with(Data {
            train,
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
            labels: self.table.class_column.clone(),
            targets: self.table.value_columns.clone(),
            without: self.table.without.clone(),
            classes: self.labels.clone(),
            held_out: self.held_out,
            normalization,
        })))
    }
}

pub(crate) fn train(a: &TrainArgs) -> Result<()> {
    with_line(|tell| training::train(&a.config, &a.output, &a.saving, tell)).map(drop)
}

pub(crate) fn adapt(a: &AdaptArgs) -> Result<()> {
    let (how, saving) = (&a.how, &a.saving);
    let run = |tell: Listener<'_>| match a.start.vectors()? {
        Some(start) => training::adapt_vectors(&start, how, &a.output, saving, tell),
        None => training::adapt(&a.start.start()?, how, &a.output, saving, tell),
    };
    with_line(run).map(drop)
}

pub(crate) fn search(a: &SearchArgs) -> Result<()> {
    let found = with_line(|tell| {
        let machine = match &a.machine {
            Some(path) => Machine::open(path, tell)?,
            None => Machine::default(),
        };
        let options = Searching {
            machine,
            ..a.searching.clone()
        };
        training::search::search(&a.from.start()?, &options, &a.output, tell)
    })?;
    say_line(found)
}

pub(crate) fn score(a: &ScoreArgs) -> Result<()> {
    let path = a.data.as_ref().or(a.sentences.as_ref());
    let path = path.ok_or("--data DATA or --sentences FILE is needed")?;
    let source = Source {
        split: a.split,
        cut: a.truncate,
        answers: match (&a.class_column, &a.value_columns[..]) {
            (Some(name), _) => Answers::Classes(Some(name.clone())),
            (None, []) => Answers::None,
            (None, names) => Answers::Numbers(names.to_vec()),
        },
        without: a.without.clone(),
        ..Source::of(path)
    };
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
    with_line(|tell| corpus::vocabulary(&a.sentences, a.size, &a.output, tell))
}

pub(crate) fn tokenize(a: &TokenizeArgs) -> Result<()> {
    with_line(|tell| corpus::tokenize(&a.texts, &a.tokenizer, &a.output, tell))
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
    let text = training::table::table(&a.models, &a.measured, &a.data, activation)?;
    match &a.output {
        None => say(text),
        Some(path) => write_bytes(path, text.as_bytes()),
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
        Study::Activations { output } => training::study::activations(
            output,
            &training::activations::Options::default(),
            &polyveil::compiler::Target::default(),
            &command,
        ),
        Study::Attention {
            networks,
            windows,
            output,
        } => {
            with_line(|tell| training::study::attention(networks, *windows, output, &command, tell))
        }
        Study::Skips {
            config,
            runs,
            saving,
            output,
        } => {
            with_line(|tell| training::study::skips((config, runs), saving, output, &command, tell))
        }
    }
}
