//! A trained network and data become a polynomial network with calibrated ranges.
//!
//! Networks, language models and encoders may lie in files ([`calibrate()`]) or be at hand with what they are calibrated on ([`calibrate_network`]).

use crate::error::{Error, Help, Result, named};
use crate::files::stem;
use crate::inputs::{self, Given, Inputs, Source, lengths, lines, numbered};
use crate::memory;
use crate::network::{self, Network};
use crate::normalization::Foreign;
use crate::progress::{Listener, Say};
use approx::least_squares::WEIGHTED_DEGREE_LIMIT;
use data::{Split, Text, Vectors, Windows};
use nn::approximations::Approximations;
use nn::attention::{AttentionScheme, PowerSoftmax};
use nn::calibrate::FitOptions;
use nn::lower::{Numerator, Options, Outliers, adapt};
use nn::{Graph, Metadata, Nonlinearity, Op, PolyGraph, Shape};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use task::{Outputs, Pictures, Stated, Task, Tokenizer};
use zoo::trained::{Polynomials, Run, TrainedEncoder, TrainedLanguageModel};

/// Windows of text that are looked at unless it is said.
const WINDOWS: usize = 200;
/// Inputs on which answers are compared, at most.
const ANSWERS: usize = 200;
/// Classes known of so many of them, before a network that has few right is warned of.
const KNOWN: usize = 16;
/// An output that changes by more, relative to the largest one, is warned of.
const MOST_CHANGE: f64 = 0.05;
/// Margins beyond that say nothing of the data any more.
const MOST_MARGIN: f64 = 10.0;
/// Other inputs that are looked at unless it is said.
const INPUTS: usize = 2000;

/// What a network is calibrated on.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each calibration"
)]
pub enum Material {
    /// Inputs: pictures or rows, from one or several places; of sets in parts, the training part unless another is named.
    Inputs(Vec<Source>),
    /// Text in UTF-8, a passage a line: for a language model.
    Text(PathBuf),
    /// A file of tokens ([`Text::binary`]), as language models are trained on.
    Tokens(PathBuf),
    /// Labelled sentences: for an encoder.
    Sentences(Source),
}

impl Material {
    /// All files that are read.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Inputs(sources) => sources.iter().flat_map(Source::files).collect(),
            Self::Text(path) | Self::Tokens(path) => vec![path],
            Self::Sentences(source) => source.files(),
        }
    }
}

/// What is calibrated, at hand.
pub enum Subject {
    /// A network with inputs of one shape.
    Network(Network),
    /// A language model, on [`Given::Texts`] or [`Given::Tokens`].
    Language(Box<TrainedLanguageModel>),
    /// An encoder with its tokenizer, on [`Given::Sentences`].
    Encoder(Box<TrainedEncoder>),
}

impl From<Network> for Subject {
    fn from(network: Network) -> Self {
        Self::Network(network)
    }
}

impl From<TrainedLanguageModel> for Subject {
    fn from(model: TrainedLanguageModel) -> Self {
        Self::Language(Box::new(model))
    }
}

impl From<TrainedEncoder> for Subject {
    fn from(encoder: TrainedEncoder) -> Self {
        Self::Encoder(Box::new(encoder))
    }
}

/// What somebody says that a network's outputs are; names are one for each, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Scores of classes that exclude each other.
    Classes(Vec<String>),
    /// Labels of which each holds or does not.
    Labels(Vec<String>),
    /// Numbers.
    Values(Vec<String>),
    /// A picture or a map, in the network's own shape.
    Tensor,
}

/// What becomes of maxima over windows, which no polynomial computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pools {
    /// Networks that take some are refused.
    #[default]
    AsTheyAre,
    /// Means over the same windows stand for them, without training.
    Average,
}

/// How a network becomes polynomial.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrating {
    /// Name of the network in reports; its file's if none.
    pub name: Option<String>,
    /// What the outputs are, where the file does not say.
    pub outputs: Option<Meaning>,
    /// Activation of a network whose file does not name it.
    pub activation: Option<String>,
    /// Which output of an ONNX model is the network's, where it has several.
    pub network_output: Option<String>,
    /// What becomes of maxima.
    pub pools: Pools,
    /// How pixels or rows become inputs, of a network whose file does not say and that does not begin so itself; taken before what the file
    /// says.
    pub normalization: Stated,
    /// Degree of the polynomials.
    pub degree: usize,
    /// How much wider than the data the intervals are, relative to their width, at each end.
    pub margin: f64,
    /// Inputs to look at, at most; windows of text are 200 and others 2000 if none.
    pub limit: Option<usize>,
    /// Inputs that may leave an interval; they are left out and counted.
    pub leave_out: usize,
    /// Power-Softmax, for a network that was not trained with it: it takes the place of softmax.
    pub attention: Option<PowerSoftmax>,
    /// Precision of divisions and roots that are chosen here, in bits.
    pub bits: f64,
    /// Where the numerators of divisions and roots go that are chosen here.
    pub numerator: Numerator,
    /// Tokens of an input at most.
    pub length: Option<usize>,
    /// The tokenizer of a language model that has no alphabet of its own ([`tokenizer`]).
    pub tokenizer: Option<Tokenizer>,
    /// The public character that every prompt begins with, of a model by characters.
    pub first: Option<char>,
}

impl Default for Calibrating {
    fn default() -> Self {
        Self {
            name: None,
            outputs: None,
            activation: None,
            network_output: None,
            pools: Pools::default(),
            normalization: Stated::default(),
            degree: 15,
            margin: 0.1,
            limit: None,
            leave_out: 0,
            attention: None,
            bits: 12.0,
            numerator: Numerator::Apart,
            length: None,
            tokenizer: None,
            first: None,
        }
    }
}

impl Calibrating {
    /// Refuses what no polynomial can be fitted with.
    fn check(&self) -> Result<()> {
        let (margin, degree, most) = (self.margin, self.degree, WEIGHTED_DEGREE_LIMIT);
        if !(0.0..=MOST_MARGIN).contains(&margin) {
            return Err(format!("margin = {margin:?}: intervals are made wider by 0 to {MOST_MARGIN} times their width at each end; choose one of these").into());
        }
        if !(1..=most).contains(&degree) {
            return Err(format!(
                "degree = {degree}: polynomials have one of 1 to {most}; choose one of these"
            )
            .into());
        }
        if self
            .name
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(
                "the network's name is empty; give it one, or leave it to the file's".into(),
            );
        }
        match &self.outputs {
            Some(Meaning::Classes(names) | Meaning::Labels(names) | Meaning::Values(names)) => {
                told_apart(names)
            }
            Some(Meaning::Tensor) | None => Ok(()),
        }
    }

    fn options(&self) -> Options {
        Options {
            bits: self.bits,
            numerator: self.numerator,
            activations: FitOptions {
                degree: self.degree,
                margin: self.margin,
                ..FitOptions::default()
            },
            ..Options::default()
        }
    }
}

/// Calibrates a network; a polynomial one gets new ranges.
///
/// # Errors
/// Networks and data that can't be read or do not fit each other; values that leave given intervals.
pub fn calibrate(
    model: &Path,
    material: &Material,
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    a.check()?;
    let from = Some(model);
    let language = || TrainedLanguageModel::load(model).map_err(named(model));
    match material {
        Material::Inputs(sources) => {
            let (activation, output) = (a.activation.as_deref(), a.network_output.as_deref());
            let network = network::load_output(model, activation, output)?;
            network
                .read_as()
                .into_iter()
                .for_each(|line| tell.note(line));
            inputs(network, from, sources, a, tell)
        }
        Material::Text(path) => {
            let sources = [Source::of(path)];
            text(language()?, from, |v| stream(&sources, v), a, tell)
        }
        Material::Tokens(path) => {
            let tokens = |v: &Tokenizer| Text::binary(path, v.len()).map_err(named(path));
            text(language()?, from, tokens, a, tell)
        }
        Material::Sentences(source) => {
            let trained = TrainedEncoder::load(model).map_err(named(model))?;
            encoder(trained, from, std::slice::from_ref(source), a, tell)
        }
    }
}

/// As [`calibrate`], of a network ([`network::from_bytes`]), a language model or an encoder at hand.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_network(
    subject: impl Into<Subject>,
    sources: &[Source],
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    a.check()?;
    match subject.into() {
        Subject::Network(network) => inputs(network, None, sources, a, tell),
        Subject::Language(model) => text(*model, None, |v| stream(sources, v), a, tell),
        Subject::Encoder(trained) => encoder(*trained, None, sources, a, tell),
    }
}

/// Names of outputs by which nobody could tell them apart.
fn told_apart(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (i, name) in names.iter().enumerate() {
        let what = match name.trim() {
            "" => format!("output {i} has an empty name"),
            name if !seen.insert(name) => format!("two outputs are called {name}"),
            _ => continue,
        };
        return Err(format!("{what}; give each a name of its own").into());
    }
    Ok(())
}

/// A tokenizer from its file: `tokenizer.json`, a GGUF, an `alphabet.json`, or llama2.c's.
///
/// # Errors
/// Files that can't be read or are none.
pub fn tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::load(path).map_err(named(path))
}

/// What is wrong, with the model's file where there is one.
fn placed<E: Into<Error>>(model: Option<&Path>) -> impl Fn(E) -> Error + Copy {
    move |e| match model {
        Some(path) => e.into().within(path),
        None => e.into(),
    }
}

/// What a network is called of which nobody says it.
fn own_name(model: Option<&Path>) -> String {
    model.map_or_else(|| "network".into(), stem)
}

fn inputs(
    network: Network,
    model: Option<&Path>,
    sources: &[Source],
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    let place = placed(model);
    let ends = match &network {
        Network::Trained(g, _) => End::of(g),
        Network::Polynomial(_) => End::Open,
    };
    let (network, original) = prepared(network, a, tell).map_err(place)?;
    let foreign = match &network {
        Network::Trained(g, metadata) => {
            // Said before the data is read: calibration alone can't help such a network.
            g.refuse_maxima().map_err(placed(model))?;
            Foreign::of(g, metadata)
        }
        Network::Polynomial(g) => Foreign::of(g.network(), g.metadata()),
    };
    let output = foreign.output;
    let outputs = a.outputs.clone().map(|m| ends.outputs(m, output));
    let outputs = outputs.transpose().map_err(place)?;
    let said = outputs.is_some() || foreign.metadata.task.is_some();
    let own = Task::of(foreign.metadata).map_err(|e| place(e.into()))?;
    let unsaid = ends.unsaid(own.as_ref().and_then(Task::outputs), output);
    // what is wrong with them names their own file
    let rows = rows(&foreign, sources, &a.normalization)?;
    let said_of = (&a.normalization, outputs.or(unsaid));
    let mut task = task(&foreign, rows, said_of, tell).map_err(place)?;
    ends.check(task.outputs()).map_err(place)?;
    say_inputs(&task, tell);
    let most = a.limit.unwrap_or(INPUTS);
    let shapes: Vec<Shape> = match &network {
        Network::Trained(g, _) => g.nodes().iter().map(nn::Node::shape).collect(),
        Network::Polynomial(g) => g.nodes().iter().map(nn::Node::shape).collect(),
    };
    let (mut inputs, mut labelled, mut known) = (Vec::new(), false, Vec::new());
    for source in sources {
        let mut open = |task: &Task, split| {
            let source = Source {
                split,
                limit: Some(most),
                ..source.clone()
            };
            let set = Inputs::labelled(task, &source, None)?;
            let more = set.len().min(most - inputs.len());
            memory::calibrate(&shapes, inputs.len() + more)?;
            let classes = (0..set.len()).filter_map(|i| set.class(i)).max();
            let fits = output.len() > 1 && classes.is_some_and(|most| most < output.len());
            tell_unfit(&source.path, classes, output.len(), tell);
            let classes: Vec<_> = (0..more).map(|i| set.class(i)).collect();
            let tensors = set.tensors(more, tell)?;
            Ok((tensors, classes, fits, set.names().to_vec()))
        };
        let (more, classes, fits, names) = part(source.split, |split| open(&task, split))?;
        inputs.extend(more);
        known.extend(classes);
        labelled |= fits;
        if let Some(outputs) = named_by(&task, said, &names, output.len()) {
            let each = names.iter().take(16).enumerate();
            let each: Vec<String> = each.map(|(i, n)| format!("{i} = {n}")).collect();
            let more = ["", ", …"][usize::from(names.len() > 16)];
            let order = match names.is_sorted() {
                true => "alphabetical",
                false => "as the data number them",
            };
            tell.note(format_args!(
                "output {}{more} ({order}; labels that are named say otherwise)",
                each.join(", ")
            ));
            task = with_outputs(task, outputs)?;
        }
        if inputs.len() >= most {
            break;
        }
    }
    let clear = matches!(
        task.outputs(),
        Some(Outputs::Classes(_) | Outputs::Probabilities(_))
    );
    let task = match said || clear {
        true => task,
        false if labelled && matches!(task.outputs(), Some(Outputs::Values(_))) => {
            with_outputs(task, Outputs::Classes(Vec::new()))?
        }
        false => {
            let what = match task.outputs() {
                Some(Outputs::Tensor(shape)) => format!("numbers of shape {shape}"),
                _ => "numbers".into(),
            };
            let unsaid = match output.len() {
                1 => "output is".into(),
                n => format!("{n} outputs are"),
            };
            tell.note(format_args!(
                "nobody says what the network's {unsaid}: answers will be {what}, not classes"
            ));
            task
        }
    };
    tell.note(format_args!("calibrating on {} inputs", inputs.len()));
    too_few(&inputs).into_iter().for_each(|few| tell.note(few));
    let mut warn = |outside: usize| {
        if outside > 0 {
            tell.note(format_args!(
                "warning: on {outside} inputs a value leaves its polynomial's interval; a wider margin or a higher degree helps"
            ));
        }
    };
    let graph = match network {
        Network::Trained(g, metadata) => {
            let options = Options {
                outliers: Outliers::Keep,
                ..a.options()
            };
            let made = adapt(&g, &inputs, &options)?;
            warn(made.outside.len());
            for fit in &made.fits {
                tell.note(format_args!(
                    "  {}: saw [{:.3}, {:.3}], degree {}, error {:.2e}",
                    fit.node, fit.seen.min, fit.seen.max, a.degree, fit.root_mean_square_error
                ));
            }
            let original = original.as_ref().unwrap_or(&g);
            let data = (&inputs[..], &known[..], task.outputs());
            answers(original, &made.graph, data, tell)?;
            made.graph.with_metadata(metadata)
        }
        Network::Polynomial(g) => {
            let seen = nn::calibrate::calibrate(
                g.network(),
                &Approximations::default(),
                inputs.par_iter().cloned().map(Ok),
            )?;
            warn(seen.outside);
            g.with_ranges(seen.ranges)?
        }
    };
    network::refuse_silent(&graph).map_err(place)?;
    let metadata = Metadata {
        task: Some(task.to_bytes()),
        ..origin(&graph, model, a, inputs.len())
    };
    Ok(graph.with_metadata(metadata))
}

/// A network's name, and what it was made of.
fn origin(graph: &PolyGraph, model: Option<&Path>, a: &Calibrating, inputs: usize) -> Metadata {
    let mut metadata = graph.metadata().clone();
    if metadata.name.is_empty() {
        metadata.name = a.name.clone().unwrap_or_else(|| own_name(model));
    }
    let file = model.and_then(Path::file_name);
    let file = file.map_or_else(String::new, |n| format!("from {} ", n.to_string_lossy()));
    let provenance = format!("calibrated {file}on {inputs} inputs");
    metadata.provenance.push(provenance);
    metadata
}

/// What is opened of the part that is named, or else of the training part of a set in parts; whoever has none is to name another.
fn part<T>(named: Option<Split>, mut open: impl FnMut(Option<Split>) -> Result<T>) -> Result<T> {
    let unnamed = |e| match e {
        Error::Data(data::Error::Split { path, there, .. }) => {
            let wanted = None;
            Error::Data(data::Error::Split {
                path,
                wanted,
                there,
            })
        }
        e => e,
    };
    match open(named) {
        Err(Error::Data(data::Error::Split { wanted: None, .. })) => {
            open(Some(Split::Train)).map_err(unnamed)
        }
        other => other,
    }
}

/// Inputs so few, or so alike, that their intervals say little of others.
fn too_few(inputs: &[nn::Tensor]) -> Option<String> {
    const FEW: usize = 10;
    let mut different: Vec<&[f64]> = Vec::new();
    for x in inputs {
        if !different.contains(&x.values()) {
            different.push(x.values());
        }
        if different.len() == FEW {
            return None;
        }
    }
    Some(format!(
        "only {} of these inputs are different: values of others will leave the intervals that they show; bring more, as different as those that will be encrypted",
        different.len()
    ))
}

/// Warns of classes that are none of the outputs; one output can be yes or no.
fn tell_unfit(path: &Path, last: Option<usize>, outputs: usize, tell: Listener<'_>) {
    if let Some(last) = last.filter(|&last| last >= outputs.max(2)) {
        tell.note(format_args!(
            "warning: {}: the data have classes 0 to {last}, which the network's outputs ({outputs}) can't be; they are not looked at",
            path.display()
        ));
    }
}

/// Says what becomes of pixels, and what numbers in a shape are.
fn say_inputs(task: &Task, tell: Listener<'_>) {
    match task {
        Task::Pictures(t) => tell.note(format_args!("pixels v become {}", t.normalization())),
        Task::Vectors(t) if t.shape().as_image().is_some() => {
            let how = match t.normalization() {
                None => "as they are",
                Some(_) => "normalised by channel",
            };
            let shape = t.shape();
            tell.note(format_args!(
                "inputs are {} numbers of shape {}, {how}",
                shape.len(),
                lengths(shape)
            ));
        }
        _ => {}
    }
}

/// The network less what calibration can do without: a softmax at its end, maxima where means may stand for them, and attention's softmax where
/// powers may. The second is the network that its answers are held against, where that is another.
pub(crate) fn prepared(
    network: Network,
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<(Network, Option<Graph>)> {
    let none = || {
        Err("the network has no attention that weighs by softmax: there is nothing that Power-Softmax could stand for".into())
    };
    let Network::Trained(mut graph, mut metadata) = network else {
        return match a.attention {
            Some(_) => none(),
            None => Ok((network, None)),
        };
    };
    if let Some(before) = graph.without_last_softmax()? {
        let left = "the softmax at the network's end is left to who reads its answers";
        tell.note(format_args!(
            "{left}: what is said of outputs is of the scores before it"
        ));
        metadata.provenance.push(left.into());
        graph = before;
    }
    let maxima = |n: &nn::Node<Nonlinearity>| matches!(n.op(), Op::MaxPool(_));
    let count = graph.nodes().iter().filter(|n| maxima(n)).count();
    let mut made = None;
    if count > 0 && a.pools == Pools::Average {
        tell.note(format_args!(
            "maxima over windows that become means: {count}"
        ));
        made = Some(graph.with_average_pools()?);
    }
    match (graph.attends_by_softmax(), a.attention) {
        (false, None) => {}
        (false, Some(_)) => {
            let softmax = |n: &&nn::Node<Nonlinearity>| matches!(n.op(), Op::Softmax(_));
            return match graph.nodes().iter().find(softmax) {
                Some(n) => Err(nn::Error::Softmax(n.name().into()).into()),
                None => none(),
            };
        }
        (true, None) => {
            return Err(Error::refused(
                "the network's attention weighs by softmax, which no polynomial computes, and nobody says what stands for it",
                Help::NameAttention,
            ));
        }
        (true, Some(power)) => {
            let scheme = AttentionScheme::Power(power);
            tell.note(format_args!("attention by softmax becomes {scheme}"));
            made = Some(made.as_ref().unwrap_or(&graph).with_attention(scheme));
        }
    }
    Ok(match made {
        None => (Network::Trained(graph, metadata), None),
        Some(made) => (Network::Trained(made, metadata), Some(graph)),
    })
}

/// Says what becomes of the answers to at most [`ANSWERS`] of these inputs, and how many are right where data say it.
fn answers(
    original: &Graph,
    made: &PolyGraph,
    (inputs, known, outputs): (&[nn::Tensor], &[Option<usize>], Option<&Outputs>),
    tell: Listener<'_>,
) -> Result<()> {
    let same = |a: &nn::Tensor, b: &nn::Tensor| agree(outputs, a, b);
    let chosen = data::spread(inputs.len(), ANSWERS);
    let both = chosen.par_iter().map(|&i| {
        let before = original.evaluate(&inputs[i])?.output;
        let after = made.network().evaluate(&inputs[i])?.output;
        let pairs = before.values().iter().zip(after.values());
        let change = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let largest = before.values().iter().map(|v| v.abs()).fold(0.0, f64::max);
        let class = known.get(i).copied().flatten();
        let class = class.filter(|&class| class < before.values().len());
        let right = class.map(|class| {
            let (before, after) = (before.argmax() == class, after.argmax() == class);
            (usize::from(before), usize::from(after))
        });
        Ok((same(&before, &after), change, largest, right))
    });
    type Beside = (Option<bool>, f64, f64, Option<(usize, usize)>);
    let all: Vec<Beside> = both.collect::<nn::Result<_>>()?;
    let same = all.iter().filter(|a| a.0.unwrap_or(true)).count();
    let change = all.iter().map(|a| a.1).fold(0.0, f64::max);
    let largest = all.iter().map(|a| a.2).fold(0.0, f64::max);
    let agreement = match outputs {
        Some(Outputs::Values(names))
            if names.len().max(original.output().shape().len()) == 1 || !names.is_empty() =>
        {
            String::new()
        }
        Some(Outputs::Classes(_) | Outputs::Values(_)) => {
            format!("the largest output is the same on {same}, ")
        }
        Some(Outputs::Labels(_) | Outputs::Probabilities(_)) => {
            format!("all labels that hold are the same on {same}, ")
        }
        _ => String::new(),
    };
    tell.note(format_args!(
        "answers beside the network's own, of {} of the inputs: {agreement}no output changes by more than {} (they reach {})",
        all.len(),
        figures(change),
        figures(largest)
    ));
    let classes = original.output().shape().len();
    let right: Vec<_> = all.iter().filter_map(|a| a.3).collect();
    if matches!(outputs, Some(Outputs::Classes(_))) && classes > 1 && !right.is_empty() {
        let count = |of: fn(&(usize, usize)) -> usize| right.iter().map(of).sum::<usize>();
        let (before, after) = (count(|r| r.0), count(|r| r.1));
        tell.note(format_args!(
            "of {} of them whose class is known the network itself has {before} right, the polynomial one {after}",
            right.len()
        ));
        if right.len() >= KNOWN && before * classes <= right.len() {
            tell.note("warning: that is no better than guessing: see that the classes stand in the order of the network's outputs, and that inputs are normalised as they were in training");
        }
    }
    if 100 * same < 99 * all.len() || change > MOST_CHANGE * largest {
        tell.note("warning: the polynomial network is not close to the original; a higher degree, more inputs, or training it as a polynomial network bring it nearer");
    }
    Ok(())
}

/// Whether two answers say the same, where they say something that is or is not so.
fn agree(outputs: Option<&Outputs>, a: &nn::Tensor, b: &nn::Tensor) -> Option<bool> {
    match outputs? {
        Outputs::Classes(_) if a.values().len() > 1 => Some(a.argmax() == b.argmax()),
        // nobody says what they are: they may be scores
        Outputs::Values(names) if names.is_empty() && a.values().len() > 1 => {
            Some(a.argmax() == b.argmax())
        }
        // one score is yes or no
        Outputs::Classes(_) => Some((a.values()[0] > 0.0) == (b.values()[0] > 0.0)),
        labels => Some(labels.holding(a.values())? == labels.holding(b.values())?),
    }
}

/// A number of three figures.
fn figures(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e4).contains(&size) => format!("{v:.2e}"),
        size => {
            let places = 2 - size.log10().floor() as i32;
            format!("{v:.*}", usize::try_from(places).unwrap_or(0))
        }
    }
}

/// The rows that are at hand, where their columns or statistics are asked for.
fn rows(foreign: &Foreign<'_>, sources: &[Source], stated: &Stated) -> Result<Option<Vectors>> {
    let asked = foreign.metadata.task.is_none() || stated.is_said();
    let own = Task::of(foreign.metadata)?;
    match (&own, sources.first()) {
        (None | Some(Task::Vectors(_)), Some(source)) if asked && source.is_rows(foreign.input) => {
            source.rows(own.as_ref(), foreign.input).map(Some)
        }
        _ => Ok(None),
    }
}

/// What inputs and outputs mean: what the file says, with the columns of rows, the normalisation and the outputs that are asked for.
fn task(
    foreign: &Foreign<'_>,
    rows: Option<Vectors>,
    (stated, outputs): (&Stated, Option<Outputs>),
    tell: Listener<'_>,
) -> Result<Task> {
    let mut task = foreign.task(stated, rows.as_ref(), tell)?;
    if let Some(outputs) = outputs {
        task = with_outputs(task, outputs)?;
    }
    task.check(foreign.input, foreign.output)?;
    Ok(task)
}

/// Outputs without names, or of which nobody says what they are, get those of the data's classes, where these are as many.
fn named_by(task: &Task, said: bool, names: &[String], count: usize) -> Option<Outputs> {
    let outputs = task.outputs()?;
    if count < 2 || names.len() != count || numbered(names) || !outputs.names().is_empty() {
        return None;
    }
    let names = names.to_vec();
    match outputs {
        Outputs::Classes(_) => Some(Outputs::Classes(names)),
        Outputs::Labels(_) => Some(Outputs::Labels(names)),
        Outputs::Probabilities(_) => Some(Outputs::Probabilities(names)),
        Outputs::Values(_) if !said => Some(Outputs::Classes(names)),
        _ => None,
    }
}

/// The same task with outputs of another meaning; those of text keep theirs.
pub(crate) fn with_outputs(task: Task, outputs: Outputs) -> Result<Task> {
    Ok(match task {
        Task::Vectors(t) => Task::Vectors(t.with_outputs(outputs)?),
        Task::Pictures(t) => {
            let normalization = t.normalization().clone();
            Task::Pictures(Pictures::new(t.shape(), normalization, outputs)?)
        }
        other => other,
    })
}

/// Why the outputs of a network that ends in a softmax are taken for nothing but classes.
const NO_CLASSES: &str = "the network ends in a softmax, which is left to who reads its answers: its outputs are classes and nothing else; export it without the softmax for others";

/// How a network ends, as far as that says what its outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In a sigmoid: outputs are probabilities already, of which no softmax can be taken.
    Sigmoid,
    /// In a softmax or its logarithm, which is left to who reads the answers: these take it of classes only, and of all of them.
    Softmax,
    /// In anything else.
    Open,
}

impl End {
    pub(crate) fn of(graph: &Graph) -> Self {
        let last = graph.last_operator();
        match last.op() {
            Op::Elementwise(Nonlinearity::Activation(approx::Activation::Sigmoid)) => Self::Sigmoid,
            Op::Softmax(_) => Self::Softmax,
            _ => Self::Open,
        }
    }

    /// What outputs of this shape are where nobody names them but, perhaps, the network's file, if the end says more.
    fn unsaid(self, own: Option<&Outputs>, output: Shape) -> Option<Outputs> {
        let meant = own.cloned().unwrap_or_else(|| Outputs::unsaid(output));
        match (self, meant) {
            // a map of probabilities keeps its shape
            (Self::Sigmoid, Outputs::Tensor(_)) => None,
            (Self::Sigmoid, meant) => Some(Outputs::Probabilities(meant.names().to_vec())),
            (Self::Softmax, _) if own.is_none() => Some(Outputs::Classes(Vec::new())),
            _ => None,
        }
    }

    /// Refuses what a network that ends so does not give, whoever said it.
    fn check(self, outputs: Option<&Outputs>) -> Result<()> {
        match outputs.and_then(Outputs::classes) {
            None if self == Self::Softmax => Err(NO_CLASSES.into()),
            _ => Ok(()),
        }
    }

    /// What outputs of this shape are that somebody names.
    pub(crate) fn outputs(self, said: Meaning, output: Shape) -> Result<Outputs> {
        Ok(match (self, said) {
            (Self::Sigmoid, Meaning::Classes(names) | Meaning::Labels(names)) => {
                Outputs::Probabilities(names)
            }
            (_, Meaning::Classes(names)) => Outputs::Classes(names),
            (Self::Softmax, _) => {
                return Err(NO_CLASSES.into());
            }
            (_, Meaning::Labels(names)) => Outputs::Labels(names),
            (_, Meaning::Values(names)) => Outputs::Values(names),
            (_, Meaning::Tensor) => Outputs::Tensor(output),
        })
    }
}

/// The vocabulary, and the public first token.
fn vocabulary(a: &Calibrating, run: &Run) -> Result<(Tokenizer, Option<u32>)> {
    if let Some(tokenizer) = &a.tokenizer {
        let begin = tokenizer.frame()[0].first().copied();
        let begin = begin.filter(|_| run.public.unwrap_or(true));
        return Ok((tokenizer.clone(), begin));
    }
    let Some(alphabet) = &run.alphabet else {
        return Err(Error::refused(
            "the model's files have no vocabulary",
            Help::NameTokenizer,
        ));
    };
    let vocabulary = Tokenizer::Characters(alphabet.clone());
    let first = a.first.map(|c| vocabulary.encode(&c.to_string()));
    let first = first
        .transpose()?
        .and_then(|tokens| tokens.first().copied());
    match (run.public, first) {
        (Some(true), None) => Err(Error::refused(
            "the run left its first token public",
            Help::NameFirst,
        )),
        (Some(false), Some(_)) => Err(
            "the run's intervals are for an encrypted first token: no first character can be public".into(),
        ),
        _ => Ok((vocabulary, first)),
    }
}

/// Windows of the text that begin like prompts.
fn windows(a: &Calibrating, text: Text, begin: Option<u32>) -> Result<Vec<Vec<u32>>> {
    let length = a.length.ok_or_else(|| {
        Error::refused(
            "a language model takes prompts of a fixed length",
            Help::NameLength,
        )
    })?;
    let windows = Windows::new(text, length, begin)?;
    let all = windows.len();
    let take = a.limit.unwrap_or(WINDOWS).min(all);
    Ok((0..take)
        .map(|i| {
            let (mut tokens, mut next) = (Vec::new(), Vec::new());
            windows.window(i * all / take, &mut tokens, &mut next);
            tokens
        })
        .collect())
}

/// Texts as one stream of tokens. With a tokenizer, each text begins with its first token, and each line of a file is one; by characters, a file is
/// taken as it is.
fn stream(sources: &[Source], vocabulary: &Tokenizer) -> Result<Text> {
    let by_characters = matches!(vocabulary, Tokenizer::Characters(_));
    let encode = |text: &str| match by_characters {
        true => vocabulary.encode(text),
        false => vocabulary.sequence(text),
    };
    let mut tokens = Vec::new();
    for source in sources {
        let texts = match &source.given {
            Some(Given::Tokens(own)) => {
                tokens.extend(own);
                continue;
            }
            Some(Given::Texts(texts)) => Cow::Borrowed(texts),
            Some(_) => {
                let what = "a language model is calibrated on text or tokens";
                return Err(named(&source.path)(what));
            }
            None => {
                let text = inputs::text(&source.path)?;
                Cow::Owned(match by_characters {
                    true => vec![text],
                    false => lines(&text),
                })
            }
        };
        for text in texts.iter() {
            tokens.extend(encode(text).map_err(named(&source.path))?);
        }
    }
    Ok(Text::new(tokens, vocabulary.len())?)
}

/// The attention: the run's own, or the one that is asked for.
fn attention(a: &Calibrating, own: Option<AttentionScheme>) -> Result<AttentionScheme> {
    match (a.attention, own) {
        (Some(_), Some(_)) => Err(Error::refused(
            "the run says which attention it was trained with",
            Help::OwnAttention,
        )),
        (Some(power), None) => Ok(AttentionScheme::Power(power)),
        (None, Some(scheme)) => Ok(scheme),
        (None, None) => Err(Error::refused(
            "a checkpoint does not say how its attention becomes polynomial",
            Help::NameAttention,
        )),
    }
}

/// A language model and text become a polynomial language model.
fn text(
    trained: TrainedLanguageModel,
    model: Option<&Path>,
    text: impl FnOnce(&Tokenizer) -> Result<Text>,
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    no_normalization(a)?;
    let attention = attention(a, trained.run.attention).map_err(placed(model))?;
    let (vocabulary, begin) = vocabulary(a, &trained.run)?;
    let windows = windows(a, text(&vocabulary)?, begin)?;
    tell.note(format_args!(
        "calibrating on {} windows, whole and cut short",
        windows.len()
    ));
    let with = (vocabulary, begin);
    let made = trained
        .polynomials(attention, with, &windows, &a.options(), a.leave_out)
        .map_err(placed(model))?;
    let length = made.format.length();
    let graph = trained.model.graph(length, attention)?;
    let what = ("language model", "prompts", length);
    let from = (a, model, trained.run.record);
    Ok(described(made, Task::Prompts, &graph, what, from, tell))
}

fn no_normalization(a: &Calibrating) -> Result<()> {
    match a.normalization.is_said() {
        true => Err("text has no normalisation: leave it out".into()),
        false => Ok(()),
    }
}

/// Tells what became of a transformer's functions; the polynomial network with its task and how it was made.
fn described<Format>(
    made: Polynomials<Format>,
    task: fn(Format) -> Task,
    graph: &Graph,
    (what, noun, length): (&str, &str, usize),
    (a, model, training): (&Calibrating, Option<&Path>, Option<serde_json::Value>),
    tell: Listener<'_>,
) -> PolyGraph {
    for node in made.approximations.described(graph) {
        tell.note(format_args!("  {node}"));
    }
    let (all, count) = (made.inputs, made.left_out.len());
    if let Some((_, first)) = made.left_out.first() {
        tell.note(format_args!(
            "{count} of {all} {noun} leave an interval and are left out; the first: {first}"
        ));
    }
    let name = own_name(model);
    let provenance = format!(
        "{what} of {name} for {noun} of {length} tokens; {all} {noun} calibrated, {count} of them left out"
    );
    made.graph.with_metadata(Metadata {
        name: a.name.clone().unwrap_or(name),
        provenance: vec![provenance],
        training,
        task: Some(task(made.format).to_bytes()),
    })
}

/// An encoder and sentences become a polynomial encoder.
fn encoder(
    mut trained: TrainedEncoder,
    model: Option<&Path>,
    sources: &[Source],
    a: &Calibrating,
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    no_normalization(a)?;
    if a.attention.is_some() {
        let own = match trained.attention {
            AttentionScheme::Power(_) => Some(trained.attention),
            _ => None,
        };
        trained.attention = attention(a, own).map_err(placed(model))?;
    }
    if let Some(length) = a.length {
        trained.length = length;
    }
    trained.labels().map_err(placed(model))?;
    let format = trained.format(Vec::new()).map_err(placed(model))?;
    let task = Task::Sentences(format);
    let sets: Vec<Inputs<'_>> = (sources.iter())
        .map(|source| Inputs::open(&task, source))
        .collect::<Result<_>>()?;
    let all: Vec<(&Inputs<'_>, usize)> = (sets.iter())
        .flat_map(|set| (0..set.len()).map(move |i| (set, i)))
        .collect();
    let sentences: Vec<Vec<u32>> = data::spread(all.len(), a.limit.unwrap_or(INPUTS))
        .into_iter()
        .map(|i| Ok(all[i].0.encode(all[i].1)?.tokens.unwrap_or_default().0))
        .collect::<Result<_>>()?;
    let n = sentences.len();
    tell.note(format_args!("calibrating on {n} sentences"));
    let made = trained
        .polynomials(&sentences, &a.options(), a.leave_out)
        .map_err(placed(model))?;
    let graph = trained.graph(zoo::encoder::Start::Normalized)?;
    let what = ("encoder", "sentences", trained.length);
    let from = (a, model, trained.run.record);
    Ok(described(made, Task::Sentences, &graph, what, from, tell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_outputs_apart() {
        let check = |outputs, name: &str| {
            let a = Calibrating {
                outputs: Some(outputs),
                name: Some(name.into()),
                ..Calibrating::default()
            };
            a.check().map_err(|e| e.to_string())
        };
        let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(check(Meaning::Classes(names(&["a", "b"])), "net"), Ok(()));
        assert_eq!(check(Meaning::Values(Vec::new()), "net"), Ok(()));
        for (outputs, words) in [
            (
                Meaning::Classes(names(&["a", "a"])),
                "two outputs are called a",
            ),
            (
                Meaning::Values(names(&["x", " x"])),
                "two outputs are called x",
            ),
            (
                Meaning::Labels(names(&["", "b"])),
                "output 0 has an empty name",
            ),
        ] {
            let refused = check(outputs, "net").expect_err("not told apart");
            assert!(refused.contains(words), "{refused}");
        }
        assert!(check(Meaning::Tensor, " ").is_err());
    }

    #[test]
    fn inputs_that_say_little_are_said() {
        let of = |v: f64| nn::Tensor::new(Shape::Vector(2), vec![v, 1.0]).expect("fits");
        let many: Vec<_> = (0..10).map(|i| of(f64::from(i))).collect();
        assert!(too_few(&many).is_none());
        let same = vec![of(1.0); 20];
        let said = too_few(&same).expect("a warning");
        assert!(
            said.contains("only 1 of these inputs are different"),
            "{said}"
        );
        assert!(too_few(&many[..9]).is_some_and(|s| s.contains("only 9")));
    }

    #[test]
    fn answers_agree_by_what_they_are() {
        let of = |v: &[f64]| nn::Tensor::new(Shape::Vector(v.len()), v.to_vec()).expect("fits");
        let (a, b) = (of(&[3.0, 1.0, -1.0]), of(&[3.0, 3.1, -1.0]));
        let names = Vec::new;
        let same = |outputs, a, b| agree(Some(&outputs), a, b);
        assert_eq!(same(Outputs::Classes(names()), &a, &b), Some(false));
        assert_eq!(same(Outputs::Labels(names()), &a, &b), Some(true));
        let c = of(&[0.4, 0.1, 0.2]);
        let d = of(&[0.6, 0.1, 0.2]);
        assert_eq!(same(Outputs::Labels(names()), &c, &d), Some(true));
        assert_eq!(same(Outputs::Probabilities(names()), &c, &d), Some(false));
        assert_eq!(same(Outputs::Values(names()), &a, &b), Some(false));
        let named = ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(same(Outputs::Values(named), &a, &b), None);
        // one score is yes or no
        let (yes, no) = (of(&[0.1]), of(&[-0.1]));
        assert_eq!(same(Outputs::Classes(names()), &yes, &no), Some(false));
        let each = [0.0, 1.404, 0.08266, 332.747, 6.1e-10, 51_460.0, 0.001];
        let said = [
            "0", "1.40", "0.0827", "333", "6.10e-10", "5.15e4", "0.00100",
        ];
        assert_eq!(each.map(figures), said);
    }

    #[test]
    fn a_network_that_ends_in_a_sigmoid_has_no_classes() {
        let ends = |last: Option<approx::Activation>| {
            let mut b = Graph::builder();
            let mut x = b.input("x", Shape::image(2, 1, 1)).expect("valid");
            if let Some(a) = last {
                let op = Op::Elementwise(Nonlinearity::Activation(a));
                x = b.add("last", op, &[x]).expect("valid");
            }
            let y = b.add("flat", Op::Flatten, &[x]).expect("valid");
            End::of(&b.finish(y).expect("valid")) == End::Sigmoid
        };
        assert!(ends(Some(approx::Activation::Sigmoid)));
        assert!(!ends(Some(approx::Activation::Silu)) && !ends(None));
        let names = || vec!["old".to_string(), "tall".into()];
        let of = |said, end: End| {
            end.outputs(said, Shape::Vector(2))
                .expect("means something")
        };
        assert_eq!(
            of(Meaning::Classes(names()), End::Sigmoid),
            Outputs::Probabilities(names())
        );
        assert_eq!(
            of(Meaning::Classes(names()), End::Open),
            Outputs::Classes(names())
        );
        assert_eq!(
            of(Meaning::Labels(names()), End::Sigmoid),
            Outputs::Probabilities(names())
        );
        assert_eq!(
            of(Meaning::Tensor, End::Open),
            Outputs::Tensor(Shape::Vector(2))
        );
    }

    #[test]
    fn a_model_of_70_000_tokens_is_calibrated_on_those_above_65_535() {
        let folder = std::env::temp_dir().join(format!("polyveil-wide-{}", std::process::id()));
        let config = zoo::architecture::llama::Config {
            sizes: zoo::blocks::Sizes {
                layers: 1,
                width: 4,
                hidden: 4,
                heads: 2,
                kv_heads: 2,
                head: 2,
                vocabulary: 70_000,
                max_length: 4,
            },
            epsilon: 1e-2,
            base: 100.0,
            tied: true,
        };
        let architecture = zoo::architecture::Architecture::Llama(config);
        let model = zoo::language::LanguageModel::random(architecture, 1).expect("fits");
        std::fs::create_dir_all(&folder).expect("a folder");
        model.save(&folder).expect("saves");
        let alphabet: Vec<char> = ('\u{20000}'..).take(70_000).collect();
        let json = serde_json::to_vec(&alphabet).expect("JSON");
        std::fs::write(folder.join("alphabet.json"), json).expect("writes");
        let ids: Vec<u32> = (0..24).map(|i| 65_530 + i * 197 % 4000).collect();
        let words: String = ids.iter().map(|&i| alphabet[i as usize]).collect();
        let (written, tokens) = (folder.join("text.txt"), folder.join("text.tokens"));
        std::fs::write(&written, words).expect("writes");
        std::fs::write(&tokens, Text::to_bytes(&ids, 70_000)).expect("writes");
        let a = Calibrating {
            attention: Some(PowerSoftmax::new(2, 0.1).expect("even")),
            length: Some(4),
            limit: Some(3),
            ..Calibrating::default()
        };
        let made = |material| {
            let graph = calibrate(&folder, &material, &a, &mut crate::progress::silent);
            Task::of(graph.expect("calibrates").metadata()).expect("reads")
        };
        let Some(Task::Prompts(prompts)) = made(Material::Text(written)) else {
            panic!("a language model has prompts");
        };
        let passages = prompts.passages().concat();
        assert!(passages.iter().all(|t| ids.contains(t)));
        assert!(passages.iter().any(|&t| t > 65_535), "{passages:?}");
        let Some(Task::Prompts(same)) = made(Material::Tokens(tokens)) else {
            panic!("a language model has prompts");
        };
        assert_eq!(same.passages(), prompts.passages());
        std::fs::remove_dir_all(&folder).expect("removes");
    }
}
