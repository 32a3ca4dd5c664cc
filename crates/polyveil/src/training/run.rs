//! `train`, `adapt` and `score`.

use crate::Result;
use clap::Args;
use nn::Metadata;
use nn::format::artefact;
use rayon::prelude::*;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use train::config::{Config, Data, Degrees, Network, Order, Stage, Substitution, Target};
use train::language::AnyConfig;
use train::{End, Event, Sources, Trainer};

/// Options of `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// What to train: TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The run's folder.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    saving: Saving,
}

/// How often a run is saved, and what it may end with.
#[derive(Args, Debug)]
pub struct Saving {
    /// Seconds between checkpoints: what a kill loses at most.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    pub checkpoint_every: f64,
    /// So many of the pictures that intervals are measured on may drive a polynomial out of all bounds: they are left out, and the run
    /// says so.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub may_explode: usize,
}

impl Saving {
    /// A checkpoint a minute, and no picture that explodes.
    pub const DEFAULT: Self = Self {
        checkpoint_every: 60.0,
        may_explode: 0,
    };
}

/// A trained network and the pictures with which it becomes polynomial: what `adapt` and `search` start from.
#[derive(Args, Debug)]
pub struct Start {
    /// The trained network: a state dict, ONNX, safetensors or .pvm.
    pub model: PathBuf,
    /// Its activation, where its file does not say.
    #[arg(long, value_name = "NAME")]
    activation: Option<String>,
    /// Pictures to train on.
    #[arg(long, value_name = "DATA")]
    train: PathBuf,
    /// More pictures, mixed in towards the end; they calibrate, too.
    #[arg(long, value_name = "DATA")]
    pub second: Option<PathBuf>,
    /// So many pictures are held out for choices.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    held_out: usize,
    /// Take near-duplicates of held-out pictures out of the training pictures.
    #[arg(long)]
    drop_twins: bool,
    /// Class labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    labels: Vec<String>,
    /// How pictures become inputs: as the network's file says, `imagenet`, or `measured` on the training pictures.
    #[arg(long, default_value = "network", value_name = "NAME")]
    normalization: String,
    /// Train on the pictures as they are, not on mirror images too: where left and right mean something, as in digits.
    #[arg(long)]
    no_flip: bool,
    /// Shift training pictures by up to so many pixels.
    #[arg(long, default_value_t = 4, value_name = "N")]
    shift: usize,
    /// Multiply training pictures' contrast by up to this factor, so that intervals hold for harder pictures than the training's: 1.6 for
    /// photographs; 1 leaves it alone, where contrast means something.
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    contrast: f64,
    /// Decides order and augmentation.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

impl Start {
    /// The network's place in a configuration.
    pub fn network(&self) -> Network {
        Network::File {
            path: self.model.clone(),
            activation: self.activation.clone(),
        }
    }

    /// The pictures' place in a configuration.
    pub fn data(&self) -> Data {
        Data {
            train: self.train.clone(),
            second: self.second.clone(),
            held_out: self.held_out,
            drop_twins: self.drop_twins,
            limit: None,
            labels: self.labels.clone(),
            normalization: self.normalization.clone(),
            size: None,
            skip_damaged: false,
            augmentation: data::Augmentation {
                flip: !self.no_flip,
                crop_padding: self.shift,
                contrast: (self.contrast > 1.0).then_some((1.0, self.contrast)),
                ..data::Augmentation::default()
            },
        }
    }

    /// A run that ends with polynomials in the network's activations.
    pub fn config(&self, stages: Vec<Stage>) -> Result<Config> {
        Ok(Config {
            seed: self.seed,
            batch: 64,
            network: self.network(),
            batch_norms: None,
            teacher: teacher(self.network())?,
            data: self.data(),
            stages,
        })
    }
}

/// How a network becomes polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Recipe {
    /// A loss on every value near its interval's edge, low degrees blended in, coefficients trained, the original as teacher.
    Boundary,
    /// As arXiv 2304.14836: a loss on each activation's worst violation of [−10, 10] first, then degree 18 by least squares with fixed
    /// coefficients and the loss fifty times as strong; labels alone teach.
    P1,
}

/// Options of `adapt`.
#[derive(Args, Debug)]
pub struct AdaptArgs {
    #[command(flatten)]
    start: Start,
    /// Degree of the polynomials [default: 4, and 18 with `--recipe p1`].
    #[arg(long, value_name = "D")]
    degree: Option<usize>,
    /// How.
    #[arg(long, value_enum, default_value_t = Recipe::Boundary, value_name = "NAME")]
    recipe: Recipe,
    /// Passes over the training pictures; `p1` has as many again before the activations become polynomials.
    #[arg(long, value_name = "N")]
    epochs: Option<f64>,
    /// The largest learning rate.
    #[arg(long, value_name = "R")]
    rate: Option<f32>,
    /// Insert batch normalisations: `after` every convolution, `before` every convolution but the first, or behind nodes of these names,
    /// separated by commas.
    #[arg(long, value_name = "WHERE")]
    batch_norms: Option<String>,
    /// The run's folder.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    #[command(flatten)]
    saving: Saving,
}

/// Options of `score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Networks; the others are compared with the first.
    #[arg(required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// Activation of networks whose files do not say.
    #[arg(long, value_name = "NAME")]
    activation: Option<String>,
    /// Labelled pictures.
    #[arg(long, value_name = "DATA", required_unless_present = "sentences")]
    data: Option<PathBuf>,
    /// Or labelled sentences, `label TAB sentence` a line: the networks are then folders of runs on sentences, and the answer is a table.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "activation", "split"])]
    sentences: Option<PathBuf>,
    /// Cut sentences that are longer than a network takes; they are refused without it.
    #[arg(long, requires = "sentences")]
    truncate: bool,
    /// Which part, where there are several: train, validation or test.
    #[arg(long, value_name = "PART")]
    split: Option<data::Split>,
    /// One JSON object on stdout instead of lines.
    #[arg(long)]
    json: bool,
}

pub fn train(a: &TrainArgs) -> Result<()> {
    match AnyConfig::load(&a.config)? {
        AnyConfig::Pictures(config) => execute(&config, &a.output, &a.saving).map(drop),
        AnyConfig::Text(config) => {
            super::language::execute(&config, &a.output, a.saving.checkpoint_every)
        }
        AnyConfig::Sentences(config) => {
            super::sentences::execute(&config, &a.output, a.saving.checkpoint_every)
        }
    }
}

pub fn adapt(a: &AdaptArgs) -> Result<()> {
    let second = a.start.second.is_some();
    let mut config = a.start.config(match a.recipe {
        Recipe::Boundary => schedule(a.degree.unwrap_or(4), a.epochs, a.rate, second),
        Recipe::P1 => p1(a.degree.unwrap_or(18), a.epochs, a.rate),
    })?;
    if a.recipe == Recipe::P1 {
        config.teacher = None;
    }
    config.batch_norms = a.batch_norms.as_deref().map(place);
    execute(&config, &a.output, &a.saving).map(drop)
}

fn place(text: &str) -> train::surgery::Where {
    use train::surgery::Where;
    match text {
        "after" => Where::AfterEveryConvolution,
        "before" => Where::BeforeEveryConvolutionButTheFirst,
        names => Where::After(names.split(',').map(|n| n.trim().into()).collect()),
    }
}

/// The original network teaches, unless it takes maxima, which training does not compute: its averages then learn from labels alone.
fn teacher(network: Network) -> Result<Option<Network>> {
    if let Network::File { path, activation } = &network {
        let named = activation.as_deref().and_then(approx::Activation::named);
        let (graph, _) = zoo::open(path, &zoo::Options { activation: named })
            .and_then(zoo::Model::graph)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let maximum = |n: &nn::Node<nn::Nonlinearity>| matches!(n.op(), nn::Op::MaxPool(_));
        if let Some(n) = graph.nodes().iter().find(|n| maximum(n)) {
            eprintln!(
                "node {} and all others of its kind become averages; the original can't teach, pictures' labels do",
                n.name()
            );
            return Ok(None);
        }
    }
    Ok(Some(network))
}

/// The default schedule: higher degrees are nearer to the original and need less training.
pub fn schedule(degree: usize, epochs: Option<f64>, rate: Option<f32>, second: bool) -> Vec<Stage> {
    use train::optimizer::{Clipping, Rate};
    let (default_epochs, default_rate, blend) = match degree {
        0..=3 => (15.0, 0.03, 0.4),
        4..=8 => (8.0, 0.02, 0.3),
        _ => (3.0, 0.003, 0.0),
    };
    let trainable = degree <= 8;
    vec![Stage {
        name: format!("degree-{degree}"),
        epochs: epochs.unwrap_or(default_epochs),
        rate: Rate {
            peak: rate.unwrap_or(default_rate),
            warm_up: 0.05,
            last: 0.0,
        },
        coefficient_rate: if trainable { 0.1 } else { 0.0 },
        clipping: Clipping::Norm { limit: 1.0 },
        loss: train::loss::Loss {
            teacher: 0.9,
            ..train::loss::Loss::default()
        },
        // weaker losses let single pictures explode: training/README.md
        range_loss: train::activation::RangeLoss::Boundary {
            weight: 10.0,
            edge: 0.6,
        },
        target: Target::Domain,
        substitution: Some(Substitution {
            degree: Degrees::One(degree),
            order: if blend > 0.0 {
                Order::Blend { share: blend }
            } else {
                Order::All
            },
            // high degrees explode soon outside: a wide interval, and no step beyond it in training
            margin: if trainable { 0.15 } else { 0.5 },
            interval: None,
            floor: 0.02,
            pictures: 2000,
        }),
        guard: Some(if trainable { 0.1 } else { 0.0 }),
        second_share: if second { 0.375 } else { 0.0 },
        second_from: 0.5,
        frozen_from: Some(0.6),
        ..Stage::default()
    }]
}

/// The two stages of arXiv 2304.14836, with its toolbox's settings: λ = 0.002 on [−10, 10] with the original activations, then
/// least squares on evenly spread points and λ = 0.1 on the ranges that calibration saw.
fn p1(degree: usize, epochs: Option<f64>, rate: Option<f32>) -> Vec<Stage> {
    use train::activation::RangeLoss;
    use train::optimizer::Rate;
    let stage = |name: String, weight, target| Stage {
        name,
        epochs: epochs.unwrap_or(3.0),
        rate: Rate {
            peak: rate.unwrap_or(0.005),
            warm_up: 0.0,
            last: 0.0,
        },
        range_loss: RangeLoss::Worst { weight },
        target,
        ..Stage::default()
    };
    let interval = Target::Fixed {
        low: -10.0,
        high: 10.0,
    };
    vec![
        stage("range".into(), 0.002, interval),
        Stage {
            substitution: Some(Substitution {
                degree: Degrees::One(degree),
                order: Order::All,
                margin: 0.15,
                interval: None,
                floor: 1.0,
                pictures: 2000,
            }),
            guard: Some(0.0),
            ..stage(format!("degree-{degree}"), 0.1, Target::Seen)
        },
    ]
}

/// (height, width, channels).
pub fn picture_shape(sources: &Sources) -> (usize, usize, usize) {
    let s = sources.train.shape();
    (s.height, s.width, s.channels)
}

/// Trains to the end, exports, and gives back the score on held-out pictures; saves every so many seconds.
pub fn execute(config: &Config, folder: &Path, saving: &Saving) -> Result<train::Score> {
    let every = saving.checkpoint_every;
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
    let model = train::Model::new(graph, parameterization)?;
    sources.adopt(&config.data, &metadata)?;
    let teacher = config
        .teacher
        .as_ref()
        .map(|t| train::networks::model(t, input, classes, config.seed))
        .transpose()?
        .map(|(t, _)| t);
    eprintln!(
        "{} pictures to train on{}, {} held out for choices; {} parameters{}",
        sources.train.len(),
        sources
            .second
            .as_ref()
            .map_or_else(String::new, |s| format!(" and {} to mix in", s.len())),
        sources.held_out.len(),
        model
            .parameters
            .iter()
            .map(|p| p.values.len())
            .sum::<usize>(),
        if sources.twins > 0 {
            format!(
                "; {} near-duplicates of held-out pictures left out",
                sources.twins
            )
        } else {
            String::new()
        }
    );
    for s in &sources.skipped {
        eprintln!("left out {}: {}", s.picture, s.reason);
    }
    let mut trainer = Trainer::new(config, model, teacher, sources, folder)?;
    trainer.every = Duration::try_from_secs_f64(every)
        .map_err(|e| format!("--checkpoint-every {every}: {e}"))?;
    eprintln!(
        "Ctrl-C stops this run; the same command goes on from its last checkpoint, with the same result"
    );
    let mut lines = Lines::default();
    let end = trainer.run(&mut |e| {
        lines.show(e);
        ControlFlow::Continue(())
    })?;
    debug_assert_eq!(end, End::Finished, "nothing here stops a run");
    finish(config, folder, &mut trainer, metadata, saving)
}

/// A network whose intervals can't be measured is kept for training on; gives back what to say.
fn unfinished(
    folder: &Path,
    trainer: &Trainer<'_>,
    metadata: &Metadata,
    error: &train::Error,
) -> String {
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
}

/// Measures, exports, and says what came out.
fn finish(
    config: &Config,
    folder: &Path,
    trainer: &mut Trainer<'_>,
    mut metadata: Metadata,
    saving: &Saving,
) -> Result<train::Score> {
    let sources = trainer.sources().clone();
    let polynomial = trainer.model.units().any(|u| u.coefficients.is_some());
    let mut exploded = 0;
    if polynomial {
        let (batch, allowed) = (config.batch, saving.may_explode);
        let measured =
            train::export::measure_intervals(&mut trainer.model, &sources, batch, 0.125, allowed);
        let (seen, left_out) = measured.map_err(|e| unfinished(folder, trainer, &metadata, &e))?;
        eprintln!(
            "intervals measured on {seen} pictures and their mirror images, widened by an eighth of their width on each side"
        );
        if left_out > 0 {
            eprintln!(
                "{left_out} of them drive a polynomial out of all bounds and are left out: such pictures get no answer"
            );
        }
        exploded = left_out;
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
        exploded,
        &trainer.position().log,
    ));
    let path = folder.join("network.pvm");
    let bytes = match train::export::polynomial(&trainer.model, &sources, metadata.clone())? {
        Some(graph) => artefact::to_bytes(&graph)?,
        None => artefact::graph_to_bytes(&trainer.model.to_graph()?, &metadata)?,
    };
    train::checkpoint::write_whole(&path, &bytes)?;
    eprintln!(
        "{}: {} of {} held-out pictures right ({:.1} %), {} values outside of their intervals",
        path.display(),
        held_out.right,
        held_out.pictures,
        100.0 * held_out.accuracy(),
        held_out.outside
    );
    Ok(held_out)
}

/// Progress on stderr: one line that changes on a terminal, lines otherwise.
#[derive(Default)]
pub struct Lines {
    last: Option<Instant>,
}

impl Lines {
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Step {
                stage,
                done,
                loss,
                accuracy,
                remaining,
            } => {
                let terminal = std::io::stderr().is_terminal();
                let pause = Duration::from_secs_f64(if terminal { 0.5 } else { 60.0 });
                if self.last.is_some_and(|l| l.elapsed() < pause) {
                    return;
                }
                self.last = Some(Instant::now());
                let text = format!(
                    "{stage}: {:5.1} % of the run, loss {loss:.4}, {:.1} % right, {} to go",
                    100.0 * done,
                    100.0 * accuracy,
                    clock(*remaining)
                );
                if terminal {
                    eprint!("\r{text}\x1b[K");
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("{text}");
                }
            }
            Event::Epoch {
                stage,
                epoch,
                loss,
                training,
                held_out,
                extremes,
            } => {
                if std::io::stderr().is_terminal() {
                    eprint!("\r\x1b[K");
                }
                eprintln!(
                    "{stage}, pass {epoch}: loss {loss:.4}, {:.1} % right in training, {:.1} % on held-out pictures ({} values outside), inputs of activations in [{:.2}, {:.2}]",
                    100.0 * training,
                    100.0 * held_out.accuracy(),
                    held_out.outside,
                    extremes.0,
                    extremes.1
                );
            }
            Event::Note(text) => eprintln!("{text}"),
            _ => {}
        }
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

pub fn score(a: &ScoreArgs) -> Result<()> {
    if let Some(sentences) = &a.sentences {
        return super::sentences::score(&super::sentences::Scored {
            models: &a.models,
            sentences,
            truncate: a.truncate,
            json: a.json,
        });
    }
    let data = a
        .data
        .as_deref()
        .ok_or("--data DATA or --sentences FILE is needed")?;
    let (set, _) = data::Dataset::open(
        data,
        &data::Options {
            split: a.split,
            ..data::Options::default()
        },
    )?;
    let mut first: Option<Vec<bool>> = None;
    let mut rows = Vec::new();
    for path in &a.models {
        let activation = a
            .activation
            .as_deref()
            .map(train::networks::activation)
            .transpose()?;
        let (graph, metadata) = zoo::open(path, &zoo::Options { activation })
            .and_then(zoo::Model::graph)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let judged =
            judge(&graph, &metadata, &set).map_err(|e| format!("{}: {e}", path.display()))?;
        let two = finding(&judged, &set);
        let Judged {
            right,
            outside,
            pictures,
            ..
        } = judged;
        let count = right.iter().filter(|&&r| r).count();
        let (low, high) = wilson(count, right.len());
        let paired = first.as_ref().map(|f| {
            let gained = right.iter().zip(f).filter(|&(&r, &f)| r && !f).count();
            let lost = right.iter().zip(f).filter(|&(&r, &f)| !r && f).count();
            (gained, lost)
        });
        if a.json {
            rows.push(serde_json::json!({
                "model": path.display().to_string(), "right": count, "pictures": right.len(), "interval_95": [low, high],
                "gained": paired.map(|p| p.0), "lost": paired.map(|p| p.1),
                "values_outside": outside, "pictures_outside": pictures,
                "two_classes": two.map(|t| serde_json::json!({ "auc": t.auc, "positive_right": t.positive.0, "positives": t.positive.1, "negative_right": t.negative.0, "negatives": t.negative.1 })),
            }));
        } else {
            let pair = paired.map_or_else(String::new, |(g, l)| {
                let (low, high) = paired_interval(g, l, right.len());
                format!(
                    ", {g} gained and {l} lost against the first: {:+.1} points [{:+.1}, {:+.1}]",
                    100.0 * (g as f64 - l as f64) / right.len() as f64,
                    low,
                    high
                )
            });
            println!(
                "{}: {count} of {} right, {:.1} % [{low:.1}, {high:.1}]{pair}; {outside} values outside intervals, in {pictures} pictures",
                path.display(),
                right.len(),
                100.0 * count as f64 / right.len() as f64
            );
            if let Some(t) = two {
                let label = |c: usize| metadata.labels.get(c).unwrap_or(&set.classes()[c]);
                let part = |(right, all): (usize, usize), what: &str, class: usize| {
                    let (low, high) = wilson(right, all);
                    format!(
                        "{what} ({}) {right} of {all}, {:.1} % [{low:.1}, {high:.1}]",
                        label(class),
                        100.0 * right as f64 / all as f64
                    )
                };
                println!(
                    "  area under the ROC curve {:.4}; {}; {}",
                    t.auc,
                    part(t.positive, "sensitivity", 1),
                    part(t.negative, "specificity", 0)
                );
            }
        }
        first.get_or_insert(right);
    }
    if a.json {
        println!("{}", serde_json::Value::from(rows));
    }
    Ok(())
}

/// What a network does with labelled pictures, in f64.
pub struct Judged {
    /// Which are classified rightly.
    pub right: Vec<bool>,
    /// How far the second of two classes is ahead of the first; empty for other numbers of classes.
    margins: Vec<f64>,
    /// Values outside of intervals.
    pub outside: u64,
    /// In how many pictures.
    pub pictures: usize,
}

pub fn judge(graph: &nn::Graph, metadata: &Metadata, set: &data::Dataset) -> Result<Judged> {
    let normalization = metadata
        .normalization
        .clone()
        .unwrap_or_else(nn::picture::imagenet_normalization);
    let classes = graph.output().shape().len();
    if classes != set.classes().len() {
        return Err(train::Error::Classes {
            outputs: classes,
            classes: set.classes().len(),
        }
        .into());
    }
    let results: Vec<(bool, Option<f64>, u64)> = (0..set.len())
        .into_par_iter()
        .map(|i| -> Result<_> {
            let e = graph.evaluate(&set.tensor(i, &normalization)?)?;
            let outside = e.outside.iter().map(|o| o.count as u64).sum();
            let margin = match e.output.values() {
                [first, second] => Some(second - first),
                _ => None,
            };
            Ok((e.output.argmax() == set.label(i), margin, outside))
        })
        .collect::<Result<_>>()?;
    Ok(Judged {
        right: results.iter().map(|r| r.0).collect(),
        margins: results.iter().filter_map(|r| r.1).collect(),
        outside: results.iter().map(|r| r.2).sum(),
        pictures: results.iter().filter(|r| r.2 > 0).count(),
    })
}

/// What tests of two classes are judged by, the second class being the finding (a disease).
struct Finding {
    /// Of pictures with the finding: found, all.
    positive: (usize, usize),
    /// Of the others: cleared, all.
    negative: (usize, usize),
    /// Area under the receiver operating characteristic: the share of pairs, one picture of each class, in which the one with the
    /// finding is ahead; ties count half.
    auc: f64,
}

/// None unless there are two classes and pictures of both.
fn finding(judged: &Judged, set: &data::Dataset) -> Option<Finding> {
    let mut found = Finding {
        positive: (0, 0),
        negative: (0, 0),
        auc: 0.0,
    };
    let mut order: Vec<usize> = (0..judged.margins.len()).collect();
    order.sort_by(|&a, &b| judged.margins[a].total_cmp(&judged.margins[b]));
    let mut pairs = 0.0;
    for ties in order.chunk_by(|&a, &b| judged.margins[a] == judged.margins[b]) {
        let positive = ties.iter().filter(|&&i| set.label(i) == 1).count();
        let negative = ties.len() - positive;
        pairs += positive as f64 * (found.negative.1 as f64 + negative as f64 / 2.0);
        let right = |class: usize| {
            ties.iter()
                .filter(|&&i| set.label(i) == class && judged.right[i])
                .count()
        };
        found.positive = (found.positive.0 + right(1), found.positive.1 + positive);
        found.negative = (found.negative.0 + right(0), found.negative.1 + negative);
    }
    let all = (found.positive.1 * found.negative.1) as f64;
    found.auc = pairs / all;
    (all > 0.0).then_some(found)
}

/// Wilson's 95 % interval of a share, in per cent.
pub fn wilson(right: usize, of: usize) -> (f64, f64) {
    let (n, z) = (of.max(1) as f64, 1.96);
    let p = right as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    (100.0 * (centre - half), 100.0 * (centre + half))
}

/// The 95 % interval of a paired difference of shares, in points (normal approximation).
pub fn paired_interval(gained: usize, lost: usize, of: usize) -> (f64, f64) {
    let (g, l, n) = (gained as f64, lost as f64, of.max(1) as f64);
    let d = (g - l) / n;
    let half = 1.96 * ((g + l - (g - l).powi(2) / n).max(0.0)).sqrt() / n;
    (100.0 * (d - half), 100.0 * (d + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_under_the_curve_counts_pairs() {
        let shape = data::Shape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let labels = [1, 0, 1, 0, 0];
        let classes = vec!["no".into(), "yes".into()];
        let set = data::Dataset::from_pixels(shape, classes, vec![0; 5], &labels).expect("a set");
        // of six pairs four are in order and one is a tie
        let margins = vec![2.0, -1.0, 0.5, 0.5, 1.0];
        let right = margins
            .iter()
            .zip(labels)
            .map(|(&m, l)| (m > 0.0) == (l == 1))
            .collect();
        let judged = Judged {
            right,
            margins,
            outside: 0,
            pictures: 0,
        };
        let f = finding(&judged, &set).expect("two classes");
        assert_eq!((f.positive, f.negative), ((2, 2), (1, 3)));
        assert!((f.auc - 4.5 / 6.0).abs() < 1e-12, "{}", f.auc);
        let only = set.subset(&[0, 2]).expect("a subset");
        let judged = Judged {
            right: vec![true; 2],
            margins: vec![1.0; 2],
            outside: 0,
            pictures: 0,
        };
        assert!(finding(&judged, &only).is_none());
    }
}
