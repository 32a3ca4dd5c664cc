//! What transformers would cost, from their shapes alone, beside what P2 published: Zimerman et al., arXiv 2410.09457, who proposed Power-Softmax.

use crate::error::{Result, named};
use crate::estimate_tokens::{Whole, held_bytes, whole};
use crate::files::{self, Existing};
use crate::kept_run::{Facts, Folder, Made};
use crate::machine::{Machine, Probing};
use crate::markdown::{Table, or_none};
use crate::memory::forget_peak;
use crate::network;
use crate::positions::{Positions, listed, no_language_model};
use crate::progress::{Listener, Say, duration};
use crate::require_memory;
use crate::session::{Precision, Session};
use crate::shares::{Share, add_measured, reference, shares};
use crate::stated::{Samples, stating};
use compiler::{Scale, Target, sketch};
use nn::approximations::Substitute;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use runtime::machine::available_memory;
use runtime::{Basis, Operation, Prediction, Purpose, Report, Step, Work, report};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use zoo::shape::{Kept, Polynomials, TransformerShape, sequence};

/// Names of published models that are known.
pub fn published() -> Vec<String> {
    let names = TransformerShape::published_names();
    names.iter().map(|&n| n.into()).collect()
}

/// Random pictures that networks for pictures are calibrated on.
const PICTURES: u64 = 100;
/// Degree of activations where none is given.
pub(crate) const DEGREE: usize = 15;
/// Tokens where no length is given.
pub(crate) const LENGTH: usize = 128;
/// Exponent of Power-Softmax where none is given.
pub(crate) const POWER: u32 = 4;
/// Bits of divisions and roots where nobody says.
pub(crate) const BITS: f64 = 12.0;
/// Most bytes of a config.json.
const CONFIG_LIMIT: u64 = 1 << 20;
/// ε of Power-Softmax over the mean of the powers.
const EPSILON: f64 = 0.25;
/// By how much intervals are wider than those of random weights: so that they are like those of networks trained here
/// (`training/stories/polynomial4.programs.csv`).
const WIDENED: f64 = 4.0;

/// Number of the first sequence that no calibration sees, and most of them that are simulated.
const UNSEEN: u64 = 1000;
const MOST_RUNS: u64 = 1000;
/// Integer weights of so many bytes leave memory, with what they are made of, before a run.
const APART: u64 = 32 << 20;

/// Channels below which linear layers are cheaper in slots: they are not looked at in coefficients.
const LEAST_WIDTH: usize = 256;

/// What is estimated, and for which machine.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Estimating {
    /// Transformers: tokens of an input; given several times, a row each. Vision transformers have those of their pictures.
    #[cfg_attr(
        feature = "clap",
        arg(long = "length", value_name = "N", default_values_t = [LENGTH])
    )]
    pub lengths: Vec<usize>,
    /// Inputs side by side in one run, a power of two; given several times, a row each. If none is given 1 (the least latency), and for transformers
    /// as many as fit (the most inputs an hour), but not where they are run. Networks from files take one such number.
    #[cfg_attr(feature = "clap", arg(long = "batch", value_name = "N"))]
    pub batches: Vec<usize>,
    /// Language models: positions whose logits are computed: all, last, or numbers from 0 on, separated by commas (a public first token is not counted).
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "WHICH", default_value_t = Positions::All, conflicts_with_all = ["size", "pictures", "save"])
    )]
    pub positions: Positions,
    /// Transformers: exponent of Power-Softmax, which stands for softmax (x^P over the sum of all x^P); even. 2 and 4 have been trained.
    #[cfg_attr(feature = "clap", arg(long, value_name = "P", default_value_t = POWER))]
    pub power: u32,
    /// Transformers: precision of divisions and roots, in bits; each bit costs levels.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "BITS", default_value_t = BITS)
    )]
    pub bits: f64,
    /// Degree of the polynomials that stand for activations; if none is given 15, and 4 for networks for pictures of published names.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub degree: Option<usize>,
    /// Networks for pictures: height and width of these. Shapes are then resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2,
    /// wide_resnet101_2, mobilenet_v2, vgg11, vgg13, vgg16, vgg19 (vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn with norms), convnext_tiny, convnext_small,
    /// convnext_base, convnextv2_atto, convnextv2_femto, convnextv2_pico, convnextv2_nano, convnextv2_tiny, convnextv2_base, efficientnet_lite0,
    /// efficientnet_lite1, efficientnet_lite2, efficientnet_lite3, efficientnet_lite4, clip_rn50.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub size: Option<usize>,
    /// Networks for pictures: random pictures to calibrate on, where the network is run or saved.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "N", default_value_t = PICTURES, requires = "size")
    )]
    pub pictures: u64,
    /// Networks for pictures: where the network goes with random weights, calibrated (.pvm), to be compiled.
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE", requires = "size"))]
    pub save: Option<PathBuf>,
    /// Networks from files: the activation, where a state dict does not name it.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME"))]
    pub activation: Option<String>,
    /// Networks from files: which output is the network's, where an ONNX file has several.
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME"))]
    pub network_output: Option<String>,
    /// What the saved network may take the place of.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub existing: Existing,
    /// Memory that a run may take: fewer rotation keys where it would take more; what is free here if none is given.
    #[cfg_attr(feature = "clap", arg(long, value_name = "SIZE", value_parser = crate::size))]
    pub max_memory: Option<u64>,
    /// What operations cost.
    #[cfg_attr(feature = "clap", arg(skip))]
    pub machine: Machine,
    /// Also compile each network, with random weights where it is no file's, and run it encrypted here: what the estimate is worth on this machine.
    #[cfg_attr(feature = "clap", arg(long))]
    pub run: bool,
    /// Transformers that are run: a folder for plan, keys, input and checkpoints of each run. The same command goes on with a run that was stopped.
    #[cfg_attr(
        feature = "clap",
        arg(
            long,
            value_name = "FOLDER",
            requires = "run",
            conflicts_with_all = ["size", "pictures", "save"]
        )
    )]
    pub keep: Option<PathBuf>,
}

impl Default for Estimating {
    fn default() -> Self {
        Self {
            lengths: vec![LENGTH],
            positions: Positions::All,
            batches: Vec::new(),
            power: POWER,
            bits: BITS,
            degree: None,
            size: None,
            pictures: PICTURES,
            save: None,
            activation: None,
            network_output: None,
            existing: Existing::Kin,
            max_memory: None,
            machine: Machine::default(),
            run: false,
            keep: None,
        }
    }
}

impl Estimating {
    /// What stands for attention's softmax.
    pub(crate) fn attention(&self) -> Result<PowerSoftmax> {
        Ok(PowerSoftmax::new(self.power, EPSILON)?.over(Denominator::Mean))
    }
}

/// Seconds that P2 measured on one A100, by model and tokens: the whole run by purpose, in the order of [`Work::ALL`].
const PUBLISHED_RUN: (&str, usize, f64, [f64; 7]) = (
    "pythia-70m",
    128,
    93.0,
    [28.0, 17.0, 18.6, 8.8, 7.7, 15.0, 0.0],
);
/// Of its operator alone, all layers.
const PUBLISHED_ATTENTION: [(&str, usize, f64); 3] = [
    ("pythia-70m", 128, 2.7),
    ("pythia-70m", 1024, 8.6),
    ("llama-7b", 128, 16.6),
];

/// One row; JSON has the same names.
#[derive(Clone, Default, Serialize)]
struct Row {
    model: String,
    parameters: u64,
    tokens: usize,
    /// Of these, how many have logits, where these are not all.
    positions: Option<usize>,
    batch: usize,
    /// Where linear layers are carried out: slots or coefficients.
    layers: &'static str,
    /// Why not in coefficients, where they lie in slots.
    why_slots: Option<String>,
    /// CPU seconds with linear layers in slots.
    slots_cpu_seconds: f64,
    /// On the longest path, with layers in slots.
    levels: Option<usize>,
    bootstraps: u64,
    /// With layers in slots.
    bootstrapped_tensors: Option<usize>,
    input_ciphertexts: usize,
    answer_ciphertexts: usize,
    keys: usize,
    key_bytes: u64,
    weight_bytes: u64,
    #[serde(rename = "predicted_peak_bytes")]
    peak_bytes: u64,
    /// Into the memory that there is, where that is known.
    fits: Option<bool>,
    #[serde(rename = "predicted_cpu_seconds")]
    cpu_seconds: f64,
    #[serde(rename = "predicted_seconds")]
    seconds: f64,
    /// Inputs in an hour, one run after the other.
    prompts_per_hour: f64,
    cpu_seconds_by_purpose: BTreeMap<&'static str, f64>,
    /// Bootstraps for it included.
    power_softmax_cpu_seconds: f64,
    training_bytes: u64,
    training_bytes_recomputing: u64,
    /// Least and most.
    division_levels: (u32, u32),
    root_levels: (u32, u32),
    sketched_in_seconds: f64,
    #[serde(skip)]
    measured: Option<Measured>,
}

/// A run of the network with random weights; JSON has it with the estimate inside, under the names that runs of networks for pictures have.
#[derive(Clone, Default, Serialize)]
struct Measured {
    /// Where the plan's linear layers are carried out: in coefficients, if any is.
    layers: &'static str,
    compile_seconds: f64,
    seconds: f64,
    cpu_seconds: f64,
    bootstraps: u64,
    keys: usize,
    peak_bytes: u64,
    /// As predicted of the plan, scaled by a probe before the run.
    predicted_cpu_seconds: f64,
    predicted_seconds: f64,
    predicted_peak_bytes: u64,
    /// Inputs in an hour, one run after the other, as predicted.
    prompts_per_hour: f64,
    threads: usize,
    /// CPU milliseconds of the reference loop here, the mean of before and after.
    reference_ms: f64,
    /// The most memory until there was a plan.
    compile_peak_bytes: u64,
    key_bytes: u64,
    weight_bytes: u64,
    security_bits: u32,
    /// To the network in the clear.
    max_abs_error: f64,
    /// What bounds the part that encryption has, whatever simulated runs say.
    error_bound: f64,
    /// What is stated of it, and of the part that encryption has.
    stated_error: f64,
    stated_encryption_error: f64,
    largest_logit: f64,
    /// Where the time went, by what steps do.
    work: Vec<Share>,
    /// The same by what P2 divides by, and by primitive.
    purposes: Vec<report::Share>,
    primitives: Vec<report::Share>,
}

/// Estimates of several models: tables as text.
pub struct Estimates {
    rows: Vec<Row>,
    basis: Basis,
    limit: Option<u64>,
}

/// Sketches models, of published names or from their config.json, for every length and batch.
///
/// # Errors
/// Names and files that describe no transformer; lengths and batches that the slots do not hold.
pub fn estimate(models: &[String], a: &Estimating, tell: Listener<'_>) -> Result<Estimates> {
    let basis = a.machine.basis(Probing::AsItIs)?;
    let limit = a.max_memory.or_else(available_memory);
    let shapes: Vec<(String, TransformerShape)> = (models.iter())
        .map(|name| Ok((short(name), open(name)?)))
        .collect::<Result<_>>()?;
    let slots = ckks::Parameters::new(ckks::ParametersSpec::standard())?.max_slots();
    if let Some(length) = a.lengths.iter().find(|&&l| l < 2 || l > slots) {
        return Err(
            format!("an input's length must be 2 to {slots} tokens, it is {length}").into(),
        );
    }
    let mut out = Estimates {
        rows: Vec::new(),
        basis,
        limit,
    };
    for (which, &asked) in a.lengths.iter().enumerate() {
        for (name, shape) in &shapes {
            // pictures have the tokens that they have: one row
            let own = shape.tokens();
            if own.is_some() && which > 0 {
                continue;
            }
            let length = own.unwrap_or(asked);
            let positions = a.positions.of(length)?;
            let kind = match shape {
                TransformerShape::Language(_) => None,
                TransformerShape::Encoder(_) => Some("sentences"),
                TransformerShape::Vision(_) => Some("pictures"),
            };
            if let (Some(kind), true) = (kind, a.positions != Positions::All) {
                return Err(no_language_model(kind).within(Path::new(name)));
            }
            let full = (slots / length.next_power_of_two()).max(1);
            let batches: Vec<usize> = match &a.batches[..] {
                [] if a.run => vec![1],
                [] => vec![1, full],
                given => given.to_vec(),
            };
            if length > shape.sizes().max_length {
                tell.note(format_args!(
                    "{name} knows {} positions; {length} are costed as if it knew them",
                    shape.sizes().max_length
                ));
            }
            for batch in batches {
                let start = Instant::now();
                let job = Job {
                    a,
                    name,
                    shape,
                    length,
                    positions: positions.as_deref(),
                    batch,
                };
                let row = job.row(&out.basis, limit)?;
                let mut row = job.cheaper(row, &out.basis, limit);
                row.sketched_in_seconds = start.elapsed().as_secs_f64();
                tell.note(format_args!(
                    "{name}, {length} tokens, batch {batch}: sketched in {:.1} s, at most {} so far",
                    row.sketched_in_seconds,
                    runtime::size(runtime::machine::peak_bytes())
                ));
                if a.run {
                    row.measured = Some(job.run(&row, limit, tell)?);
                }
                out.rows.push(row);
            }
        }
    }
    Ok(out)
}

/// A published model's shape, or that of a config.json.
fn open(name: &str) -> Result<TransformerShape> {
    if let Some(shape) = TransformerShape::published(name) {
        return Ok(shape);
    }
    let path = Path::new(name);
    let path = match path.is_dir() {
        true => path.join("config.json"),
        false => path.to_path_buf(),
    };
    let bytes = match path.exists() {
        true => files::read(&path, CONFIG_LIMIT)?,
        false => {
            return Err(format!(
                "{name}: no such file, and no published model that is known: {}",
                TransformerShape::published_names().join(", ")
            )
            .into());
        }
    };
    let shape = TransformerShape::from_json(&String::from_utf8_lossy(&bytes));
    shape.map_err(named(&path))
}

/// A model's name for tables: that of its folder, where a file is given.
fn short(name: &str) -> String {
    let path = Path::new(name);
    let folder = match path.file_name().is_some_and(|f| f == "config.json") {
        true => path.parent().and_then(Path::file_name),
        false => path.file_name(),
    };
    folder.map_or_else(|| name.into(), |f| f.to_string_lossy().into_owned())
}

/// One row to be.
struct Job<'a> {
    a: &'a Estimating,
    name: &'a str,
    shape: &'a TransformerShape,
    length: usize,
    /// Those whose logits are wanted; all if none are said.
    positions: Option<&'a [usize]>,
    batch: usize,
}

/// The network with an answer at these positions, at all if none are said.
fn at(graph: nn::PolyGraph, positions: Option<&[usize]>) -> Result<nn::PolyGraph> {
    Ok(match positions {
        Some(positions) => graph.at_positions(positions)?,
        None => graph,
    })
}

impl Job<'_> {
    fn scheme(&self) -> Result<AttentionScheme> {
        Ok(AttentionScheme::Power(self.a.attention()?))
    }

    fn polynomials(&self) -> Polynomials {
        Polynomials {
            bits: self.a.bits,
            degree: self.a.degree.unwrap_or(DEGREE),
            widened: WIDENED,
        }
    }

    /// Makes the network with random weights, compiles it, and runs it encrypted beside itself in the clear.
    fn run(&self, row: &Row, limit: Option<u64>, tell: Listener<'_>) -> Result<Measured> {
        let name = self.name;
        let folder = self.a.keep.as_ref().map(|folder| {
            // whatever the network depends on: another is none to go on with
            let (weights, polynomials) = (self.shape.parameters()?, self.polynomials());
            let positions = self
                .positions
                .map_or_else(String::new, |p| format!("-at{}", listed(p)));
            let own = format!(
                "{name}-{weights}-{}-{}-power{}-bits{}-degree{}{positions}",
                self.length, self.batch, self.a.power, polynomials.bits, polynomials.degree
            );
            Folder::open(folder.join(own), tell)
        });
        let folder = folder.transpose()?;
        let found = folder.as_ref().map(|f| f.find(tell)).transpose()?.flatten();
        let (made, lowered) = match found {
            Some(made) => (made, None),
            None => {
                let (made, graph) = self.make(row, limit, tell)?;
                (made, Some(graph))
            }
        };
        let threads = rayon::current_num_threads();
        // the plan does not depend on what the machine does at the moment, but its run's time does
        let basis = self.a.machine.basis(Probing::Probe)?;
        let prediction = Prediction::new(&made.plan, basis, threads);
        let mut work = shares(&made.plan, &prediction.steps);
        tell.note(format_args!(
            "{name}: {} bootstraps, {} keys, peak {}, {} on {threads} threads; made in {}",
            made.plan.facts().bootstraps,
            made.plan.facts().keys.0.len(),
            runtime::size(made.plan.facts().peak_bytes),
            duration(prediction.seconds),
            duration(made.facts.compile_seconds)
        ));
        require_memory(&made.plan, prediction.peak_bytes, limit)?;
        // what weights are made of is as large as the network
        let file = match (&folder, &lowered) {
            (None, Some(graph)) => Some(crate::client_file(&made.plan, graph)?),
            _ => None,
        };
        let Made { plan, clear, facts } = made;
        let plan = match (&folder, &lowered) {
            (Some(folder), Some(graph)) => {
                let made = Made {
                    plan,
                    clear: clear.clone(),
                    facts,
                };
                folder.keep(&made, graph, tell)?
            }
            (None, _) if plan.plan().integer_bytes() >= APART => {
                let stored = network::through_files(&plan, tell)?;
                // a name that is taken again would keep its weights until the end
                drop(plan);
                Arc::new(stored)
            }
            _ => plan,
        };
        drop(lowered);
        let shape = plan.plan().input.shape.clone();
        let values: Vec<f64> = (self.inputs(&shape)?.iter())
            .flat_map(|x| x.values().to_vec())
            .collect();
        let before = reference();
        // what compiling took does not count as the run's
        forget_peak();
        let outcome = match (&folder, file) {
            (Some(folder), _) => {
                folder.run((&plan, &prediction), &values, &self.a.machine, tell)?
            }
            (None, Some(file)) => {
                let session = Session::of(plan.clone(), file, prediction.clone(), tell)?;
                session.run(&values, Precision::Unmeasured, tell)?
            }
            (None, None) => return Err("a plan without its network".into()),
        };
        let peak_bytes = runtime::machine::peak_bytes();
        let report = Report::new(
            &plan,
            &prediction,
            &outcome.measured,
            report::Answer::default(),
        );
        let weigh = |s: &Step| matches!(s.operation, Operation::Weigh { .. });
        let (layers, weight_bytes) = match plan.plan().steps.iter().any(weigh) {
            true => ("coefficients", plan.plan().integer_bytes()),
            false => ("slots", held_bytes(plan.plan())),
        };
        add_measured(&mut work, &plan, &outcome.measured.steps);
        let bounds = plan.answer_bounds();
        let (mut largest_error, mut largest_value) = (0.0f64, 0.0f64);
        for (a, t) in outcome.values.iter().zip(&clear) {
            largest_error = largest_error.max((a - t).abs());
            largest_value = largest_value.max(t.abs());
        }
        Ok(Measured {
            layers,
            compile_seconds: facts.compile_seconds,
            seconds: outcome.measured.seconds.unwrap_or_default(),
            cpu_seconds: outcome.measured.cpu_seconds.unwrap_or_default(),
            bootstraps: report.bootstraps,
            keys: plan.facts().keys.0.len(),
            peak_bytes,
            predicted_cpu_seconds: report.predicted_cpu_seconds,
            predicted_seconds: report.predicted_seconds,
            predicted_peak_bytes: plan.facts().peak_bytes,
            prompts_per_hour: 3600.0 * self.batch as f64 / report.predicted_seconds,
            threads,
            reference_ms: 0.5 * (before + reference()),
            compile_peak_bytes: facts.compile_peak_bytes,
            key_bytes: report.key_bytes,
            weight_bytes,
            security_bits: plan.parameters().security_bits(),
            max_abs_error: largest_error,
            error_bound: bounds.error,
            stated_error: bounds.of_network(),
            stated_encryption_error: bounds.stated_error(),
            largest_logit: largest_value,
            work,
            purposes: report.purposes,
            primitives: report.primitives,
        })
    }

    /// Inputs that calibration did not see.
    fn inputs(&self, shape: &[usize]) -> Result<Vec<nn::Tensor>> {
        let &[channels, height, width] = shape else {
            return Err("a transformer's input is no sequence".into());
        };
        let shape = nn::Shape::image(channels, height, width);
        let number = |i: usize| UNSEEN + MOST_RUNS + i as u64;
        Ok((0..self.batch)
            .map(|i| sequence(shape, number(i)))
            .collect())
    }

    /// The network with random weights, and its plan.
    fn make(
        &self,
        row: &Row,
        limit: Option<u64>,
        tell: Listener<'_>,
    ) -> Result<(Made, nn::PolyGraph)> {
        tell.note(format_args!(
            "{}: making the network with random weights and its plan, before a run of about {}",
            self.name,
            duration(row.seconds)
        ));
        // what the rows before took does not count as compiling
        forget_peak();
        let start = Instant::now();
        let lowered = self
            .shape
            .random(self.scheme()?, self.length)?
            .polynomials(self.polynomials())?;
        let graph = at(lowered.graph, self.positions)?;
        let target = Target {
            batch: self.batch,
            ..self.a.machine.target(limit)
        };
        // sequences that calibration did not see
        let shape = graph.input_shape();
        let samples = Samples::Made(Box::new(move |number, _| {
            Ok(sequence(shape, UNSEEN + number))
        }));
        let plan = crate::compiled(&graph, &target)?;
        let plan = Arc::new(stating(plan, &graph, &samples)?);
        let facts = Facts {
            compile_seconds: start.elapsed().as_secs_f64(),
            compile_peak_bytes: runtime::machine::peak_bytes(),
        };
        let mut clear = Vec::new();
        for x in self.inputs(&plan.plan().input.shape)? {
            clear.extend_from_slice(graph.evaluate(&x)?.output.values());
        }
        Ok((Made { plan, clear, facts }, graph))
    }

    /// The row with linear layers in coefficients, where that is cheaper; where it is not, or not known, why.
    fn cheaper(&self, row: Row, basis: &Basis, limit: Option<u64>) -> Row {
        let why = |why: String| Row {
            why_slots: Some(why),
            ..row.clone()
        };
        if self.batch > 1 {
            return why("coefficients hold one input in a run".into());
        }
        if self.shape.sizes().width < LEAST_WIDTH {
            return why(format!(
                "narrower than {LEAST_WIDTH} channels, coefficients are not looked at"
            ));
        }
        let threads = rayon::current_num_threads();
        let target = Target {
            cost: basis.cost.on(threads),
            room: runtime::limits::here(),
            ..Target::default()
        };
        let networks = self.scheme().map(|scheme| (scheme, self.polynomials()));
        let found = networks.and_then(|n| {
            let of = |max_memory| {
                let target = Target {
                    max_memory,
                    ..target.clone()
                };
                whole(self.shape, (self.length, self.positions), n, &target)
            };
            match of(limit) {
                // neither way keeps the limit: the cheaper one counts
                Err(_) if row.fits == Some(false) => of(None),
                found => found,
            }
        });
        let found = match found {
            Ok(found) => found,
            Err(e) => return why(format!("not in coefficients: {e}")),
        };
        if let Some(more) = too_much(&found, &row, limit) {
            return why(format!("coefficients would take {more}"));
        }
        let cpu_seconds = found.cpu_seconds();
        let seconds = basis.cost.wall(cpu_seconds, threads);
        Row {
            layers: "coefficients",
            slots_cpu_seconds: row.cpu_seconds,
            levels: None,
            bootstraps: found.bootstraps,
            bootstrapped_tensors: None,
            input_ciphertexts: found.ports.0,
            answer_ciphertexts: found.ports.1,
            keys: found.keys,
            key_bytes: found.key_bytes,
            weight_bytes: found.weight_bytes,
            peak_bytes: found.peak_bytes,
            fits: limit.map(|l| found.peak_bytes <= l),
            cpu_seconds,
            seconds,
            prompts_per_hour: 3600.0 / seconds,
            cpu_seconds_by_purpose: found.seconds,
            power_softmax_cpu_seconds: found.attention,
            ..row
        }
    }

    fn row(&self, basis: &Basis, limit: Option<u64>) -> Result<Row> {
        let count = self.positions.map(<[usize]>::len);
        let of = (count.unwrap_or(1), self.length);
        let small = self.shape.stand_in_at(self.scheme()?, of)?;
        let mut lowered = small.polynomials(self.polynomials())?;
        if let Some(count) = count {
            // what it costs depends on how many they are
            let last: Vec<usize> = (small.tokens - count..small.tokens).collect();
            lowered.graph = lowered.graph.at_positions(&last)?;
        }
        let mut levels = [(u32::MAX, 0); 2];
        for (node, piece) in &lowered.approximations.by_node {
            if let Substitute::Program(p) = piece {
                let attention = matches!(small.graph.node(*node).op(), nn::Op::Attention(_));
                let (least, most) = &mut levels[usize::from(!attention)];
                (*least, *most) = ((*least).min(p.depth()), (*most).max(p.depth()));
            }
        }
        let scale = Scale {
            channels: small.channels.clone(),
            tokens: (small.tokens, self.length),
            narrowed: small.head,
        };
        let threads = rayon::current_num_threads();
        let target = Target {
            cost: basis.cost.on(threads),
            batch: self.batch,
            max_memory: limit,
            ..Target::default()
        };
        let sketch = sketch(&lowered.graph, &scale, &target)?;
        let mut purposes: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut attention = 0.0;
        for part in &sketch.parts {
            *purposes.entry(part.work.name()).or_default() += part.seconds;
            if part.purpose == Purpose::Attention {
                attention += part.seconds;
            }
        }
        let cpu_seconds = sketch.cpu_seconds();
        let training = |kept| self.shape.training_bytes(self.length, 1, kept);
        let [division_levels, root_levels] = levels;
        Ok(Row {
            model: self.name.into(),
            parameters: self.shape.parameters()?,
            tokens: self.length,
            positions: count,
            batch: self.batch,
            layers: "slots",
            why_slots: None,
            slots_cpu_seconds: cpu_seconds,
            levels: Some(sketch.levels),
            bootstraps: sketch.bootstraps as u64,
            bootstrapped_tensors: Some(sketch.places),
            input_ciphertexts: sketch.ports.0,
            answer_ciphertexts: sketch.ports.1,
            keys: sketch.keys.0.len(),
            key_bytes: sketch.key_bytes,
            weight_bytes: sketch.weight_bytes,
            peak_bytes: sketch.peak_bytes,
            fits: limit.map(|l| sketch.peak_bytes <= l),
            cpu_seconds,
            seconds: basis.cost.wall(cpu_seconds, threads),
            prompts_per_hour: 3600.0 * self.batch as f64 / basis.cost.wall(cpu_seconds, threads),
            cpu_seconds_by_purpose: purposes,
            power_softmax_cpu_seconds: attention,
            training_bytes: training(Kept::Everything)?,
            training_bytes_recomputing: training(Kept::Boundaries)?,
            division_levels,
            root_levels,
            sketched_in_seconds: 0.0,
            measured: None,
        })
    }
}

/// What coefficients take more than slots do, or than there is where slots fit.
fn too_much(found: &Whole, slots: &Row, limit: Option<u64>) -> Option<String> {
    let (cpu_seconds, peak) = (found.cpu_seconds(), found.peak_bytes);
    if cpu_seconds >= slots.cpu_seconds {
        return Some(format!("{} CPU seconds", digits(cpu_seconds)));
    }
    let over = limit.is_some_and(|limit| peak > limit) && slots.fits == Some(true);
    over.then(|| format!("{} of memory", runtime::size(peak)))
}

fn giga(bytes: u64) -> String {
    digits(bytes as f64 / 1e9)
}

/// Three digits are as many as an estimate has.
pub(crate) fn digits(x: f64) -> String {
    match x {
        x if x < 10.0 => format!("{x:.1}"),
        x if x < 1000.0 => format!("{x:.0}"),
        x => {
            let whole = format!("{x:.0}");
            let mut grouped = String::new();
            for (i, c) in whole.chars().enumerate() {
                if i > 0 && (whole.len() - i).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(c);
            }
            grouped
        }
    }
}

impl Row {
    /// Tokens, and of how many there are logits.
    fn tokens(&self) -> String {
        match self.positions {
            None => self.tokens.to_string(),
            Some(positions) => format!("{}, logits of {positions}", self.tokens),
        }
    }

    /// The estimate; of a run what names it and what its plan and it took, with the estimate, which may be of another plan, inside.
    fn json(&self) -> Value {
        let estimated = json!(self);
        let Some(Value::Object(run)) = self.measured.as_ref().map(|m| json!(m)) else {
            return estimated;
        };
        let mut row = json!({
            "model": self.model, "parameters": self.parameters, "tokens": self.tokens, "positions": self.positions, "batch": self.batch, "estimated": estimated,
        });
        if let Some(row) = row.as_object_mut() {
            row.extend(run);
        }
        row
    }
}

impl Estimates {
    /// The rows as JSON objects: of one that was run what was measured, and the estimate from shapes inside.
    pub fn json(&self) -> Vec<Value> {
        self.rows.iter().map(Row::json).collect()
    }

    fn costs(&self, threads: usize) -> Table {
        let last = format!("on {threads} threads");
        let mut t = Table::default();
        for r in &self.rows {
            let fits = match r.fits {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            t.row([
                ("model", r.model.clone()),
                ("M parameters", digits(r.parameters as f64 / 1e6)),
                ("tokens", r.tokens()),
                ("batch", r.batch.to_string()),
                ("layers in", r.layers.into()),
                ("levels", or_none(r.levels)),
                ("bootstraps", digits(r.bootstraps as f64)),
                ("keys, GB", format!("{}, {}", r.keys, giga(r.key_bytes))),
                ("weights, GB", giga(r.weight_bytes)),
                ("peak, GB", giga(r.peak_bytes)),
                ("fits", fits.into()),
                ("CPU s", digits(r.cpu_seconds)),
                ("all in slots", digits(r.slots_cpu_seconds)),
                (&last, duration(r.seconds)),
                ("for one input", duration(r.seconds / r.batch as f64)),
                ("an hour", digits(r.prompts_per_hour)),
            ]);
        }
        t
    }

    /// Why linear layers are in slots, and where: each reason once.
    fn reasons(&self) -> String {
        let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for r in &self.rows {
            if let Some(why) = &r.why_slots {
                let input = format!("{} ({} tokens, batch {})", r.model, r.tokens, r.batch);
                of.entry(why).or_default().push(input);
            }
        }
        let lines = of.iter().map(|(why, rows)| match rows.len() {
            1..=4 => format!("In slots: {}: {why}.\n", rows.join(", ")),
            count => format!("In slots: {count} rows: {why}.\n"),
        });
        lines.collect()
    }

    fn purposes(&self) -> Table {
        let names = Work::ALL.map(|p| p.name());
        let mut t = Table::default();
        let mut row = |name: &str, (length, batch): (usize, usize), each: [f64; 7], all: f64| {
            let head = [("model", name.into()), ("tokens", length.to_string())];
            let each = names.into_iter().zip(each).chain([("all", all)]);
            let cells = each.map(|(name, seconds)| (name, digits(seconds)));
            let head = head.into_iter().chain([("batch", batch.to_string())]);
            t.row(head.chain(cells));
        };
        for r in &self.rows {
            let each = names.map(|n| r.cpu_seconds_by_purpose.get(n).copied().unwrap_or(0.0));
            row(&r.model, (r.tokens, r.batch), each, r.cpu_seconds);
            let (name, length, all, each) = PUBLISHED_RUN;
            if (r.model.as_str(), r.tokens, r.batch) == (name, length, 1) {
                let name = format!("{name}, P2, A100 seconds");
                row(&name, (length, 1), each, all);
            }
        }
        t
    }

    fn attention(&self) -> Table {
        let mut t = Table::default();
        for r in &self.rows {
            let published = PUBLISHED_ATTENTION
                .iter()
                .find(|p| (p.0, p.1, 1) == (r.model.as_str(), r.tokens, r.batch));
            let alone = r.cpu_seconds_by_purpose.get(Work::Attention.name());
            t.row([
                ("model", r.model.clone()),
                ("tokens", r.tokens.to_string()),
                ("batch", r.batch.to_string()),
                (
                    "CPU s with its bootstraps",
                    digits(r.power_softmax_cpu_seconds),
                ),
                ("without", digits(alone.copied().unwrap_or(0.0))),
                ("P2, A100 seconds", or_none(published.map(|p| digits(p.2)))),
            ]);
        }
        t
    }

    fn training(&self) -> Table {
        let mut t = Table::default();
        let mut seen = Vec::new();
        for r in &self.rows {
            if !seen.contains(&(&r.model, r.tokens)) {
                seen.push((&r.model, r.tokens));
                t.row([
                    ("model", r.model.clone()),
                    ("tokens", r.tokens.to_string()),
                    ("GB, everything kept", giga(r.training_bytes)),
                    ("GB, blocks recomputed", giga(r.training_bytes_recomputing)),
                ]);
            }
        }
        t
    }

    /// Estimated, predicted of the plan, measured.
    fn measured(&self) -> Option<Table> {
        let mut t = Table::default();
        self.rows.iter().find(|r| r.measured.is_some())?;
        for r in &self.rows {
            let Some(m) = &r.measured else { continue };
            let cpu_seconds = [r.cpu_seconds, m.predicted_cpu_seconds, m.cpu_seconds].map(digits);
            let peak = [r.peak_bytes, m.predicted_peak_bytes, m.peak_bytes].map(giga);
            let error = format!("{:.1e}, {:.1}", m.max_abs_error, m.largest_logit);
            t.row([
                ("model", r.model.clone()),
                ("tokens", r.tokens.to_string()),
                ("batch", r.batch.to_string()),
                ("bootstraps", format!("{}, {}", r.bootstraps, m.bootstraps)),
                ("keys", format!("{}, {}", r.keys, m.keys)),
                ("CPU s", cpu_seconds.join(", ")),
                ("s", [r.seconds, m.seconds].map(digits).join(", ")),
                ("peak, GB", peak.join(", ")),
                ("compiled in", duration(m.compile_seconds)),
                ("largest error, of values up to", error),
            ]);
        }
        Some(t)
    }
}

impl std::fmt::Display for Estimates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = rayon::current_num_threads();
        let (rows, limit) = (&self.rows, self.limit);
        let room = limit.map_or("an unknown amount of memory".into(), runtime::size);
        let range = |levels: fn(&Row) -> (u32, u32)| {
            let all = rows.iter().map(levels);
            let least = all.clone().map(|l| l.0).min().unwrap_or(0);
            let most = all.map(|l| l.1).max().unwrap_or(0);
            format!("{least} to {most}")
        };
        writeln!(
            f,
            "128-bit security (standard-16); {threads} threads, cost table {}; {room} of memory.\nDivisions take {} levels, roots {}.\n\n{}\n{}",
            self.basis.source,
            range(|r| r.division_levels),
            range(|r| r.root_levels),
            self.costs(threads),
            self.reasons()
        )?;
        writeln!(
            f,
            "Where the CPU seconds go, and what P2 (Zimerman et al., arXiv 2410.09457, who proposed Power-Softmax) measured on one A100 GPU:\n\n{}",
            self.purposes()
        )?;
        writeln!(
            f,
            "Power-Softmax alone, from scores to weights, in all layers:\n\n{}",
            self.attention()
        )?;
        write!(
            f,
            "Memory of training by AdamW in f32, one sequence at a time (a stage's `parts = N` sends a batch through in N parts, so that large batches take no more):\n\n{}",
            self.training()
        )?;
        if let Some(table) = self.measured() {
            write!(
                f,
                "\nWith random weights, compiled and run encrypted here (estimated, predicted of the plan, measured):\n\n{table}"
            )?;
        }
        let largest = (rows.iter())
            .filter(|r| r.fits == Some(true))
            .max_by_key(|r| (r.parameters, r.tokens, std::cmp::Reverse(r.batch)));
        match (largest, limit) {
            (Some(r), _) => writeln!(
                f,
                "\nThe largest of these that fits this machine: {} with {} tokens, batch {}, {} in all, {} for one input.",
                r.model,
                r.tokens,
                r.batch,
                duration(r.seconds),
                duration(r.seconds / r.batch as f64)
            ),
            (None, Some(_)) => writeln!(f, "\nNone of these fits this machine."),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_keep_the_limit_that_slots_keep() {
        let slots = |fits| Row {
            cpu_seconds: 100.0,
            fits,
            ..Row::default()
        };
        let found = |seconds| Whole {
            seconds: [("all", seconds)].into(),
            peak_bytes: 8_000_000_000,
            ..Whole::default()
        };
        let more = |seconds, fits, limit| too_much(&found(seconds), &slots(fits), limit);
        let less = Some(7_000_000_000);
        let why = more(50.0, Some(true), less).expect("more than there is");
        assert!(why.contains("8.00 GB of memory"), "{why}");
        assert_eq!(more(50.0, Some(true), Some(8_000_000_000)), None);
        // neither fits, or nobody knows
        assert_eq!(more(50.0, Some(false), less), None);
        assert_eq!(more(50.0, None, None), None);
        let why = more(100.0, Some(false), less).expect("dearer");
        assert_eq!(why, "100 CPU seconds");
    }

    #[test]
    fn a_row_that_was_run_has_one_plan() {
        let mut row = Row {
            model: "pythia-70m".into(),
            tokens: 128,
            layers: "slots",
            levels: Some(178),
            seconds: 664.0,
            weight_bytes: 9,
            ..Row::default()
        };
        let estimated = row.json();
        assert_eq!(estimated["levels"], 178);
        row.measured = Some(Measured {
            layers: "coefficients",
            predicted_seconds: 187.0,
            weight_bytes: 5,
            ..Measured::default()
        });
        let run = row.json();
        assert_eq!(run["estimated"], estimated);
        let of = |key: &str| run[key].clone();
        assert_eq!([of("model"), of("layers")], ["pythia-70m", "coefficients"]);
        assert_eq!([of("tokens"), of("weight_bytes")], [128, 5]);
        assert_eq!(of("predicted_seconds"), 187.0);
        for key in ["levels", "fits", "why_slots", "cpu_seconds_by_purpose"] {
            assert!(run.get(key).is_none(), "{key} in {run}");
        }
    }
}
