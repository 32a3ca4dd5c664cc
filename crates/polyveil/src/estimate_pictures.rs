//! What networks cost: convolutional ones of published shapes, every linear layer in coefficients, predicted of their shapes alone and, where asked, made
//! with random weights, calibrated on random pictures, and saved or run; and those of files, before anybody calibrates them on data of their own.

use crate::calibrate::{Calibrating, Pools, prepared};
use crate::error::Result;
use crate::estimate::{BITS, DEGREE as FILE_DEGREE, Estimating, LENGTH, POWER, digits};
use crate::files::{Content, Output};
use crate::machine::Probing;
use crate::memory::forget_peak;
use crate::network::{self, Network};
use crate::positions::{Positions, no_language_model};
use crate::progress::{Listener, Say, duration};
use crate::require_memory;
use crate::session::{Precision, Session};
use crate::shares::{Share, add_measured, reference, shares};
use crate::stated::{Samples, made_up, picture, stating};
use approx::{Activation, Polynomial, remez};
use compiler::{Target, coefficients};
use nn::approximations::Approximations;
use nn::calibrate::{FitOptions, batch_norms, calibrate};
use nn::lower::{Options, Outliers, adapt};
use nn::{Op, PolyGraph, Tensor};
use rayon::prelude::*;
use runtime::machine::{available_memory, peak_bytes};
use runtime::{ClearTwin, Prediction, VerifiedPlan};
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use zoo::imagenet::ImageNet;

/// The networks' activation, to be approximated.
const ACTIVATION: Activation = Activation::Silu;
/// Degree of activations where none is given.
pub(crate) const DEGREE: usize = 4;
/// By how much intervals are wider than what made-up inputs reach: what convolutions leave beside a picture goes through activations, too.
const MARGIN: f64 = 0.5;
/// Least degree: what is less is linear.
const LEAST_DEGREE: usize = 2;
/// Inputs that are made up for a file's network.
const MADE_UP: u64 = 2;
/// By how much answers and means may be larger than what few pictures reach: those of random pictures differ.
const RANGE_MARGIN: f64 = 3.0;

/// Names of networks that are known.
pub fn published() -> Vec<String> {
    let names = ImageNet::NAMES.iter().chain(&zoo::published::NAMES);
    names.map(|&name| name.into()).collect()
}

/// One network; JSON has the same names.
#[derive(Debug, Default, Serialize)]
pub struct Pictures {
    /// Its name.
    pub model: String,
    /// Height and width of pictures that its name leaves open.
    pub size: Option<usize>,
    /// Lengths of its input's axes.
    pub input: Vec<usize>,
    /// Degree of activations.
    pub degree: usize,
    /// CPU seconds of the run.
    pub cpu_seconds: Option<f64>,
    /// Seconds of the run by the clock.
    pub seconds: Option<f64>,
    /// Threads of the run.
    pub threads: usize,
    /// CPU milliseconds of the reference loop here, after a run the mean of before and after: what seconds of other machines are compared by.
    pub reference_ms: f64,
    /// CPU seconds as predicted, of the plan where there is one.
    pub predicted_cpu_seconds: f64,
    /// Seconds by the clock as predicted.
    pub predicted_seconds: f64,
    /// As many in an hour, one after the other, as predicted.
    pub pictures_per_hour: f64,
    /// Seconds of predicting it from shapes.
    pub estimated_in_seconds: f64,
    /// The most memory of keys and run.
    pub peak_bytes: Option<u64>,
    /// As predicted.
    pub predicted_peak_bytes: u64,
    /// From the polynomial network to the verified plan.
    pub compile_seconds: Option<f64>,
    /// The most memory until then, calibration included.
    pub compile_peak_bytes: Option<u64>,
    /// Evaluation keys, and their bytes as a file.
    pub keys: usize,
    /// Bytes of the evaluation keys' file.
    pub key_bytes: u64,
    /// Largest difference to the plan in the clear.
    pub max_abs_error: Option<f64>,
    /// What the plan states of it.
    pub stated_error: Option<f64>,
    /// Its bound for all inputs.
    pub error_bound: Option<f64>,
    /// What the plan states of its difference to the network in the clear: by integers in the place of weights, and sines of bootstraps.
    pub stated_weights: Option<f64>,
    /// Largest difference to the network in the clear: what integer weights and the bootstraps' sines change, too.
    pub network_error: Option<f64>,
    /// Largest magnitude of the network's answer.
    pub largest_logit: Option<f64>,
    /// Bootstraps, halves of one where layers lie in coefficients.
    pub bootstraps: u64,
    /// By the table of standardised security.
    pub security_bits: u32,
    /// Where the time goes, by what steps do.
    pub work: Vec<Share>,
}

/// Whether it is a file that holds a network, and neither a name nor a configuration, which is JSON.
pub fn is_network(name: &str) -> bool {
    let path = Path::new(name);
    let begin = || {
        let mut begin = Vec::new();
        std::fs::File::open(path)?
            .take(64)
            .read_to_end(&mut begin)?;
        Ok::<_, std::io::Error>(begin)
    };
    // a pipe would be waited for
    path.is_file() && begin().is_ok_and(|b| !b.trim_ascii_start().starts_with(b"{"))
}

/// What is estimated.
enum Subject {
    /// A network of a file, or a published one whose family is read from state dicts alone.
    Network(PolyGraph),
    /// A published one, and the degree of its activations.
    Published(ImageNet, usize),
}

/// A network by its name.
fn published_as(name: &str, a: &Estimating, tell: Listener<'_>) -> Result<Subject> {
    let unknown = || {
        let known = published().join(", ");
        format!("{name}: no such file, and no network for pictures that is known: {known}")
    };
    let size = a.size.ok_or_else(unknown)?;
    if a.positions != Positions::All {
        return Err(no_language_model("pictures").within(Path::new(name)));
    }
    let degree = a.degree.unwrap_or(DEGREE);
    let refuse = |has: bool, what: &str| match has {
        true => Err(format!("{name}: {what}")),
        false => Ok(()),
    };
    refuse(
        a.activation.is_some(),
        "a published shape has SiLU as its activation; another one can be given for files",
    )?;
    refuse(
        a.network_output.is_some(),
        "a published shape has one output",
    )?;
    refuse(
        a.batches.len() > 1,
        "one number of pictures side by side at a time",
    )?;
    refuse(
        a.lengths.iter().any(|&l| l != LENGTH),
        "pictures have no length",
    )?;
    let attends = zoo::published::NAMES.contains(&name);
    let usual = (a.power, a.bits) == (POWER, BITS);
    refuse(
        !(usual || attends),
        "it has no attention and divides nowhere, so there is no exponent and no precision to choose",
    )?;
    refuse(a.pictures == 0, "at least one picture to calibrate on")?;
    if let Some(network) = ImageNet::named(name, size, ACTIVATION) {
        return Ok(Subject::Published(network, degree));
    }
    let Some(checkpoint) = zoo::published::checkpoint(name, size, 1) else {
        return Err(match zoo::published::NAMES.contains(&name) {
            true => format!("{name} takes pictures of a multiple of 32, {size} is none").into(),
            false => unknown().into(),
        });
    };
    let model = zoo::identify(&checkpoint, &Some(ACTIVATION).into())?;
    drop(checkpoint);
    let inputs = match a.run || a.save.is_some() {
        true => a.pictures,
        false => MADE_UP,
    };
    let graph = made_polynomial(network::network(model)?, a, (degree, inputs), tell)?;
    Ok(Subject::Network(graph))
}

/// The polynomial network of a file: that of a trained one on made-up inputs, with means for maxima and powers for attention's softmax.
fn of_file(path: &Path, a: &Estimating, tell: Listener<'_>) -> Result<PolyGraph> {
    let said = |has: bool, what: &str| match has {
        true => Err(format!("{}: {what}", path.display())),
        false => Ok(()),
    };
    said(
        a.size.is_some(),
        "a network from a file has inputs of its own size",
    )?;
    said(
        a.save.is_some(),
        "intervals of made-up inputs are nothing to keep; calibrate the network on data",
    )?;
    said(
        a.batches.len() > 1,
        "one number of inputs side by side at a time",
    )?;
    let several = a.batches.iter().any(|&b| b > 1);
    said(a.run && several, "what is run here is one input by itself")?;
    let (activation, output) = (a.activation.as_deref(), a.network_output.as_deref());
    let given = network::load_output(path, activation, output)?;
    given.read_as().into_iter().for_each(|line| tell.note(line));
    let degree = a.degree.unwrap_or(FILE_DEGREE);
    a.positions
        .cut(made_polynomial(given, a, (degree, MADE_UP), tell)?)
}

/// The polynomial network of one of any kind: polynomials of this degree and ranges of so many made-up inputs.
fn made_polynomial(
    given: Network,
    a: &Estimating,
    (degree, inputs): (usize, u64),
    tell: Listener<'_>,
) -> Result<PolyGraph> {
    let softmax = matches!(&given, Network::Trained(graph, _) if graph.attends_by_softmax());
    let calibrating = Calibrating {
        pools: Pools::Average,
        attention: softmax.then(|| a.attention()).transpose()?,
        ..Calibrating::default()
    };
    let network = prepared(given, &calibrating, tell)?.0;
    let shape = network.input_shape();
    let data: Vec<Tensor> = (0..inputs)
        .map(|seed| made_up(shape, seed))
        .collect::<Result<_>>()?;
    let graph = match network {
        Network::Polynomial(graph) if graph.ranges().is_some() => return Ok(*graph),
        // whose file is one of a trained network without functions
        Network::Polynomial(graph) => {
            let inputs = data.par_iter().cloned().map(Ok);
            let seen = calibrate(graph.network(), &Approximations::default(), inputs)?;
            return Ok(graph.with_ranges(seen.ranges)?);
        }
        Network::Trained(graph, _) => graph,
    };
    tell.note("polynomials and ranges from made-up inputs");
    let options = fitting(degree);
    Ok(adapt(&graph, &data, &options)?.graph)
}

fn fitting(degree: usize) -> Options {
    Options {
        activations: FitOptions {
            degree,
            margin: MARGIN,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    }
}

/// What stands for an activation where no data says more.
fn polynomial(degree: usize) -> Result<Polynomial> {
    let fitted = remez(|x| ACTIVATION.value(x), (-4.0, 4.0), degree);
    Ok(fitted.map_err(|e| e.to_string())?.polynomial)
}

/// The network with random weights, its batch normalisations, polynomials and ranges from random pictures.
fn made(network: &ImageNet, degree: usize, pictures: u64, tell: Listener<'_>) -> Result<PolyGraph> {
    let graph = network.graph(1)?;
    let shape = graph.input().shape();
    let data: Vec<Tensor> = (0..pictures)
        .map(|i| picture(shape, i))
        .collect::<Result<_>>()?;
    tell.note("batch normalisations from the pictures");
    let graph = batch_norms(graph, &data)?;
    tell.note("polynomials and ranges from the pictures");
    Ok(adapt(&graph, &data, &fitting(degree))?.graph)
}

/// Predicts what a network of a published shape or of a file costs; where it is to be saved, or run encrypted beside itself in the clear, makes that of a
/// published shape with random weights.
///
/// # Errors
/// An unknown name, sizes that do not suit it, what is wrong with a file, a lack of memory.
pub fn pictures(name: &str, a: &Estimating, tell: Listener<'_>) -> Result<Pictures> {
    if a.degree.is_some_and(|d| d < LEAST_DEGREE) {
        return Err(format!(
            "{name}: polynomials of degree {LEAST_DEGREE} and more stand for activations"
        )
        .into());
    }
    let limit = a.max_memory.or_else(available_memory);
    let threads = rayon::current_num_threads();
    let basis = a.machine.basis(Probing::AsItIs)?;
    let target = Target {
        cost: basis.cost.on(threads),
        range_margin: RANGE_MARGIN,
        batch: a.batches.first().copied().unwrap_or(1),
        ..a.machine.target(limit)
    };
    let subject = match is_network(name) {
        true => Subject::Network(of_file(name.as_ref(), a, tell)?),
        false => published_as(name, a, tell)?,
    };
    let start = Instant::now();
    let (estimate, input, degree) = match &subject {
        Subject::Network(graph) => {
            let degrees = graph.nodes().iter().filter_map(|n| match n.op() {
                Op::Elementwise(p) => Some(p.degree()),
                _ => None,
            });
            let degree = degrees.max().unwrap_or(1);
            (
                compiler::estimate(graph, &target)?,
                graph.input_shape(),
                degree,
            )
        }
        Subject::Published(network, degree) => {
            let outline = network.outline(&polynomial(*degree)?)?;
            let estimate = coefficients::estimate(&outline, &target)?;
            (estimate, outline.input_shape(), *degree)
        }
    };
    let seconds = basis.cost.wall(estimate.cpu_seconds, threads);
    let mut out = Pictures {
        model: name.into(),
        size: a.size,
        input: input.dims(),
        degree,
        threads,
        reference_ms: reference(),
        predicted_cpu_seconds: estimate.cpu_seconds,
        predicted_seconds: seconds,
        pictures_per_hour: 3600.0 / seconds * target.batch as f64,
        estimated_in_seconds: start.elapsed().as_secs_f64(),
        predicted_peak_bytes: estimate.peak_bytes,
        keys: estimate.keys,
        key_bytes: estimate.key_bytes,
        bootstraps: estimate.bootstraps,
        security_bits: estimate.security_bits,
        ..Pictures::default()
    };
    if !a.run && a.save.is_none() {
        return Ok(out);
    }
    let open = |path: &PathBuf| Output::create(path, Content::Model, &[], a.existing, tell);
    let save = a.save.as_ref().map(open).transpose()?;
    // what networks before took does not count as compiling
    forget_peak();
    let published = matches!(subject, Subject::Published(..));
    let (graph, make): (_, fn(&PolyGraph, &Target) -> _) = match subject {
        Subject::Network(graph) => (graph, compiler::compile),
        Subject::Published(network, degree) => {
            tell.note(format_args!(
                "{name}, {input}: random weights, calibrated on {} random pictures",
                a.pictures
            ));
            (
                made(&network, degree, a.pictures, tell)?,
                coefficients::compile,
            )
        }
    };
    if let Some(output) = save {
        let path = output.path().to_path_buf();
        output.write_bytes(&nn::format::artefact::to_bytes(&graph)?)?;
        tell.note(format_args!("{name}: wrote {}", path.display()));
    }
    if !a.run {
        return Ok(out);
    }
    let start = Instant::now();
    let plan = make(&graph, &target)?;
    // inputs that calibration did not see, but such as it saw
    let seen = a.pictures;
    let samples = match published {
        true => Samples::Made(Box::new(move |number, _| picture(input, seen + 1 + number))),
        false => Samples::of(&graph)?,
    };
    let plan = Arc::new(stating(plan, &graph, &samples)?);
    let x = match published {
        true => picture(input, seen)?,
        // drawn nearer to the middle where a value leaves its interval
        false => samples.number(&graph, u64::MAX)?.0,
    };
    let compile_seconds = start.elapsed().as_secs_f64();
    // the plan does not depend on what the machine does at the moment, but its run's time does
    let prediction = Prediction::new(&plan, a.machine.basis(Probing::Probe)?, threads);
    let facts = plan.facts();
    tell.note(format_args!(
        "{name}: {} half bootstraps, {} keys, peak {}, {} CPU seconds predicted; compiled in {}",
        facts.bootstraps,
        facts.keys.0.len(),
        runtime::size(facts.peak_bytes),
        prediction.cpu_seconds.round(),
        duration(compile_seconds)
    ));
    out.predicted_cpu_seconds = prediction.cpu_seconds;
    out.predicted_seconds = prediction.seconds;
    out.pictures_per_hour = 3600.0 / prediction.seconds * target.batch as f64;
    out.predicted_peak_bytes = facts.peak_bytes;
    out.keys = facts.keys.0.len();
    out.key_bytes = facts.key_file_bytes;
    out.bootstraps = facts.bootstraps;
    out.compile_seconds = Some(compile_seconds);
    out.compile_peak_bytes = Some(peak_bytes());
    out.stated_weights = Some(plan.answer_bounds().stated_weights());
    out.work = shares(&plan, &prediction.steps);
    out.stated_error = Some(plan.answer_bounds().stated_error());
    out.error_bound = Some(plan.answer_bounds().error);
    require_memory(&plan, prediction.peak_bytes, limit)?;
    run(&mut out, plan, graph, prediction, &x, tell)?;
    Ok(out)
}

fn run(
    out: &mut Pictures,
    plan: Arc<VerifiedPlan>,
    graph: PolyGraph,
    prediction: Prediction,
    x: &Tensor,
    tell: Listener<'_>,
) -> Result<()> {
    tell.note(format_args!("{}: the plan in the clear", out.model));
    let twin = ClearTwin::new(&plan, &plan.client_spec(), x.values())?.finish()?;
    let clear = graph.evaluate(x)?.output;
    let most = twin.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let allowed = plan.answer_bounds().magnitude;
    if most > allowed {
        return Err(format!(
            "{}: an input that calibration did not see has an answer of {most:.3}, the plan allows {allowed:.3}; calibrate on more inputs",
            out.model
        )
        .into());
    }
    // what compiling and the twin took, and the network, do not count as the run's
    forget_peak();
    let session = Session::new(plan.clone(), &graph, prediction, tell)?;
    drop(graph);
    ring::heap::trim();
    let start = Instant::now();
    let outcome = session.run(x.values(), Precision::Unmeasured, tell)?;
    let largest = |of: &[f64]| {
        let apart = outcome.values.iter().zip(of).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, f64::max)
    };
    out.seconds = Some(start.elapsed().as_secs_f64());
    out.cpu_seconds = outcome.measured.cpu_seconds;
    add_measured(&mut out.work, &plan, &outcome.measured.steps);
    out.peak_bytes = Some(peak_bytes());
    // the clock changes in the course of a run
    out.reference_ms = 0.5 * (out.reference_ms + reference());
    out.max_abs_error = Some(largest(&twin));
    out.network_error = Some(largest(clear.values()));
    out.largest_logit = Some(clear.values().iter().fold(0.0, |m, v| v.abs().max(m)));
    Ok(())
}

/// Seconds of runs of every length.
fn in_figures(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.2}"),
        s => format!("{s:.0}"),
    }
}

impl std::fmt::Display for Pictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape: Vec<String> = self.input.iter().map(usize::to_string).collect();
        writeln!(
            f,
            "{}, {}, degree {}: {} bootstraps or halves of one, {} keys of {}, {} CPU seconds, {} on {} threads, {} inputs an hour, peak {} (predicted)",
            self.model,
            shape.join("×"),
            self.degree,
            self.bootstraps,
            self.keys,
            runtime::size(self.key_bytes),
            in_figures(self.predicted_cpu_seconds),
            duration(self.predicted_seconds),
            self.threads,
            digits(self.pictures_per_hour),
            runtime::size(self.predicted_peak_bytes),
        )?;
        if let (Some(cpu), Some(peak), Some(error)) =
            (self.cpu_seconds, self.peak_bytes, self.max_abs_error)
        {
            writeln!(
                f,
                "run: {} CPU seconds at a reference of {:.3} ms, peak {}, error {error:.1e} of {:.1e} stated",
                in_figures(cpu),
                self.reference_ms,
                runtime::size(peak),
                self.stated_error.unwrap_or_default()
            )?;
        }
        for share in &self.work {
            write!(
                f,
                "  {:28} {:4} steps, {:>7} CPU seconds predicted",
                share.what,
                share.steps,
                in_figures(share.predicted_cpu_seconds)
            )?;
            match share.cpu_seconds {
                Some(cpu) => writeln!(f, ", {} measured", in_figures(cpu))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
