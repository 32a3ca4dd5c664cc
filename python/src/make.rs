//! From a trained network to a plan, and how it fares: calibration, adaptation, compilation, evaluation.

use crate::arrays::{Data, Set};
use crate::errors;
use crate::network::Network;
use crate::plan::{Plan, Report, machine};
use crate::work::work;
use polyveil::calibrate::{Calibrating, Meaning, Pools, calibrate_network};
use polyveil::ckks::ParametersSpec;
use polyveil::compiler::{Layers, Target, Watch};
use polyveil::data::Augmentation;
use polyveil::evaluate::{self as evaluation, Evaluation};
use polyveil::machine::Machine;
use polyveil::nn::PolyGraph;
use polyveil::nn::attention::PowerSoftmax;
use polyveil::nn::graph::is_plain;
use polyveil::task::Stated;
use polyveil::training::config::{self, Pixels};
use polyveil::training::{self, Adapted, Adapting, Examples, Saving, Scaling, Start};
use polyveil::{Error, Listener, Result, network, runtime};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is said of a normalisation, as JSON.
fn stated(json: Option<&str>) -> Result<Stated> {
    let Some(json) = json else {
        return Ok(Stated::default());
    };
    serde_json::from_str(json).map_err(|e| format!("normalization: {e}").into())
}

/// A trained network, from the file that it lies in.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Model {
    path: PathBuf,
    name: String,
    activation: Option<String>,
    network_output: Option<String>,
}

impl Model {
    fn load(&self) -> Result<network::Network> {
        if !is_plain(&self.name) {
            let what = "names have no control characters; give a plain one";
            return Err(format!("name = {:?}: {what}", self.name).into());
        }
        let (activation, output) = (self.activation.as_deref(), self.network_output.as_deref());
        network::load_output(&self.path, activation, output)
    }
}

fn outputs(network: &network::Network) -> usize {
    match network {
        network::Network::Trained(g, _) => g.output().shape().len(),
        network::Network::Polynomial(g) => g.output().shape().len(),
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct CalibrateOptions {
    answers: Option<String>,
    names: Vec<String>,
    average_pools: bool,
    normalization: Option<String>,
    degree: usize,
    margin: f64,
    limit: Option<usize>,
    power: Option<u32>,
    epsilon: f64,
}

impl CalibrateOptions {
    fn calibrating(&self, model: &Model) -> Result<Calibrating> {
        let names = self.names.clone();
        let power = self.power.map(|p| PowerSoftmax::new(p, self.epsilon));
        Ok(Calibrating {
            name: Some(model.name.clone()),
            outputs: match (self.answers.as_deref(), &names[..]) {
                (Some("labels"), _) => Some(Meaning::Labels(names)),
                (Some("values"), _) => Some(Meaning::Values(names)),
                (Some("tensor"), _) => Some(Meaning::Tensor),
                (None, []) => None,
                (Some("classes") | None, _) => Some(Meaning::Classes(names)),
                (Some(other), _) => {
                    return Err(format!(
                        "answers = {other:?}: there are classes, labels, values and tensor"
                    )
                    .into());
                }
            },
            pools: match self.average_pools {
                true => Pools::Average,
                false => Pools::AsTheyAre,
            },
            normalization: stated(self.normalization.as_deref())?,
            degree: self.degree,
            margin: self.margin,
            limit: self.limit,
            attention: power.transpose()?,
            ..Calibrating::default()
        })
    }
}

/// Fits polynomials.
#[pyfunction]
pub(crate) fn calibrate(
    py: Python<'_>,
    model: Model,
    data: Data,
    options: CalibrateOptions,
    hear: &Bound<'_, PyAny>,
) -> PyResult<Network> {
    work(py, hear, |tell| {
        let network = model.load()?;
        let source = data.source(network.input_shape(), outputs(&network))?;
        let options = options.calibrating(&model)?;
        let graph = calibrate_network(network, &[source], &options, tell)?;
        Ok(Network::of(graph))
    })
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct AdaptOptions {
    normalization: Option<String>,
    degree: Option<usize>,
    epochs: Option<f64>,
    rate: Option<f32>,
    batch: Option<usize>,
    held_out: Option<usize>,
    seed: u64,
    shift: usize,
    flip: bool,
    max_diverging: usize,
    folder: Option<PathBuf>,
}

impl AdaptOptions {
    /// Of pictures: where nobody says it, as the network's file does.
    fn pixels(&self) -> Result<Option<Pixels>> {
        let stated = stated(self.normalization.as_deref())?;
        Ok(match &stated.name {
            Some(name) if stated == Stated::named(name) => Some(Pixels::Named(name.clone())),
            None if stated == Stated::default() => None,
            _ => Some(Pixels::Given(stated)),
        })
    }

    /// Of rows.
    fn scaling(&self) -> Result<Scaling> {
        let stated = stated(self.normalization.as_deref())?;
        match stated.name.as_deref() {
            Some("none") => Ok(Scaling::None),
            Some("measured") => Ok(Scaling::Measured),
            None if !stated.is_said() => Ok(Scaling::Network),
            _ => Err("numbers that a network is trained on are normalised by \"none\" or \"measured\"; normalise the array itself and say \"none\"".into()),
        }
    }

    fn pictures(&self, data: &Data) -> Result<config::Data> {
        Ok(config::Data {
            train: data.path.clone().unwrap_or_else(|| "an array".into()),
            split: None,
            second: None,
            held_out: self.held_out,
            drop_twins: false,
            limit: None,
            labels: data.classes.clone(),
            normalization: self.pixels()?,
            size: None,
            skip_damaged: false,
            augmentation: Augmentation {
                flip: self.flip,
                crop_padding: self.shift,
                ..Augmentation::default()
            },
        })
    }

    fn rows(&self, data: &Data) -> Result<training::Vectors> {
        Ok(training::Vectors {
            vectors: data.path.clone().unwrap_or_else(|| "an array".into()),
            split: None,
            labels: data.label_column.clone(),
            targets: data.target_columns.clone(),
            without: data.without.clone(),
            heading: data.heading(),
            classes: match data.target_columns.is_empty() {
                true => data.classes.clone(),
                false => Vec::new(),
            },
            held_out: self.held_out,
            normalization: self.scaling()?,
        })
    }

    fn adapted(&self, model: &Model, data: &Data, tell: Listener<'_>) -> Result<Adapted> {
        let how = Adapting {
            degree: self.degree,
            epochs: self.epochs,
            rate: self.rate,
            batch: self.batch,
            ..Adapting::default()
        };
        let network = model.load()?;
        let input = network.input_shape();
        let Some(path) = &data.path else {
            if self.folder.is_some() {
                return Err("a run keeps a folder where its network and its data are files: an array could have changed when it goes on".into());
            }
            let set = data.set(input, outputs(&network))?;
            let examples = match set.ok_or("data are an array or a path")? {
                Set::Pictures(set) => Examples::Pictures(set, self.pictures(data)?),
                Set::Rows(rows) => Examples::Rows(rows, self.rows(data)?),
            };
            let from = (examples, self.seed);
            return training::adapt_network(network, from, &how, self.max_diverging, tell);
        };
        let saving = Saving {
            max_diverging: self.max_diverging,
            ..Saving::default()
        };
        let (folder, rows) = (self.folder.as_deref(), takes_rows(path, input));
        match rows {
            true => {
                let start = start(model, self.seed, self.rows(data)?);
                training::adapt_vectors(&start, &how, folder, &saving, tell)
            }
            false => {
                let start = start(model, self.seed, self.pictures(data)?);
                training::adapt(&start, &how, folder, &saving, tell)
            }
        }
    }
}

/// Whether a file holds numbers for such a network, and no pictures.
fn takes_rows(path: &Path, input: polyveil::nn::Shape) -> bool {
    let picture = matches!(input.as_image(), Some((1 | 3, height, _)) if height > 1);
    !picture || polyveil::data::is_table(path)
}

fn start<D>(model: &Model, seed: u64, data: D) -> Start<D> {
    Start {
        model: model.path.clone(),
        activation: model.activation.clone(),
        seed,
        data,
    }
}

/// Trains a network as a polynomial one; gives its score on what was held out, as JSON.
#[pyfunction]
pub(crate) fn adapt(
    py: Python<'_>,
    model: Model,
    data: Data,
    options: AdaptOptions,
    hear: &Bound<'_, PyAny>,
) -> PyResult<(Network, String)> {
    work(py, hear, |tell| {
        let Adapted { score, network } = options.adapted(&model, &data, tell)?;
        let graph = network.polynomial()?;
        let mut metadata = graph.metadata().clone();
        metadata.name.clone_from(&model.name);
        let errors = score.errors.iter();
        let errors: Vec<_> = errors
            .map(|e| serde_json::json!({ "rmse": e.rmse, "r2": e.r2 }))
            .collect();
        let score = serde_json::json!({
            "right": score.right, "answers": score.answers, "accuracy": score.accuracy(), "loss": score.loss, "outside": score.outside,
            "errors": errors,
        });
        Ok((
            Network::of(graph.with_metadata(metadata)),
            score.to_string(),
        ))
    })
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct CompileOptions {
    max_memory: Option<u64>,
    batch: usize,
    layers: Option<String>,
    parameters: Option<String>,
    alarm: bool,
    machine: Option<PathBuf>,
}

impl CompileOptions {
    fn target(&self, machine: &Machine) -> Result<Target> {
        let unknown = |what: &str, name: &str, known: &str| {
            Error::from(format!("{what} = {name:?}: there are {known}"))
        };
        let layers = self
            .layers
            .as_deref()
            .map(|name| Layers::named(name).ok_or_else(|| unknown("layers", name, Layers::NAMES)));
        let parameters = self.parameters.as_deref().map(|name| {
            let known = "standard-16, coefficients-16-K, coefficients-16-K-20 and levelled-LOGN-LEVELSxBITS-DIGIT (levelled-14-6x38-3); without a name the cheapest is chosen";
            ParametersSpec::named(name).ok_or_else(|| unknown("parameters", name, known))
        });
        Ok(Target {
            parameters: parameters.transpose()?,
            layers: layers.transpose()?.unwrap_or_default(),
            keys_on_disk: true,
            batch: self.batch,
            watch: match self.alarm {
                true => Watch::Operands,
                false => Watch::Nothing,
            },
            ..machine.target(self.max_memory)
        })
    }

    fn compiled(&self, graph: &Arc<PolyGraph>, tell: Listener<'_>) -> Result<Plan> {
        let target = self.target(&machine(self.machine.as_deref(), tell)?)?;
        // said where it can be foreseen
        let _ = polyveil::foreseen(graph, &target, tell);
        Plan::of(polyveil::compile(graph, &target)?, graph)
    }
}

/// Plans how a network is computed on ciphertexts.
#[pyfunction]
pub(crate) fn compile(
    py: Python<'_>,
    network: &Network,
    options: CompileOptions,
    hear: &Bound<'_, PyAny>,
) -> PyResult<Plan> {
    let graph = &network.graph;
    work(py, hear, |tell| options.compiled(graph, tell))
}

/// Runs inputs encrypted, beside the network in the clear: a summary, a line for each, and in words, as JSON; what a run took on average.
#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "the other side names them")]
pub(crate) fn evaluate(
    py: Python<'_>,
    network: &Network,
    plan: Option<&Plan>,
    data: Data,
    range: (usize, usize),
    results: Option<PathBuf>,
    options: CompileOptions,
    hear: &Bound<'_, PyAny>,
) -> PyResult<(String, Option<Report>)> {
    let graph = &network.graph;
    let plan = plan.map(|p| p.plan.clone());
    work(py, hear, |tell| {
        let task = network::task_of_graph(graph)?;
        let source = data.source(graph.input_shape(), graph.output().shape().len())?;
        let set = evaluation::Set::Inputs(source);
        let opened = match &results {
            Some(path) => Evaluation::open(graph, &task, &set, range, path)?,
            None => Evaluation::new(graph, &task, &set, range)?,
        };
        let missing = opened.missing(tell)?;
        let report = match missing.is_empty() {
            true => None,
            false => {
                let table = machine(options.machine.as_deref(), tell)?;
                let plan = match plan {
                    Some(plan) => plan,
                    None => options.compiled(graph, tell)?.plan,
                };
                let made = table.predict(&plan, None, polyveil::machine::Probing::AsItIs)?;
                polyveil::require_memory(&plan, made.peak_bytes, options.max_memory)?;
                let report = opened.run(&plan, made, &missing, tell)?;
                Some(Report { report })
            }
        };
        let summary = opened.summary()?;
        let words = evaluation::in_words(&summary);
        let all =
            serde_json::json!({ "summary": summary, "results": opened.results(), "text": words });
        Ok((all.to_string(), report))
    })
}

/// What a file of ours is and who may see it, in words and as JSON.
#[pyfunction]
pub(crate) fn inspect(
    py: Python<'_>,
    path: PathBuf,
    hear: &Bound<'_, PyAny>,
) -> PyResult<(String, String)> {
    work(py, hear, |_| {
        let found = polyveil::inspect::inspect(&path, &Machine::default())?;
        Ok((found.text, found.json.to_string()))
    })
}

/// A number of bytes, from 12GB or 800MB.
#[pyfunction]
pub(crate) fn size(text: &str) -> PyResult<u64> {
    let what =
        || format!("{text:?} is not a size; write for example \"12GB\", \"800MB\" or \"4GiB\"");
    runtime::parse_size(text).ok_or_else(|| errors::refused(what()))
}
