//! Networks from files and from bytes, client files and plans.

use crate::error::{Error, Help, Result, named};
use crate::files::{self, Content, Existing, Output};
use crate::inputs::lengths;
use crate::progress::{Listener, Say};
use nn::evaluate::Evaluation;
use nn::{Graph, Metadata, PolyGraph, Shape, Tensor};
use runtime::machine::cpu_seconds;
use runtime::plan_file::BESIDE_FROM;
use runtime::wire::container::Kind;
use runtime::{ClientFile, Limits, Operation, Purpose, Step, VerifiedPlan};
use std::io::Read;
use std::path::{Path, PathBuf};
use task::{Answer, Candidate, Outputs, Task};

/// A network as it was loaded.
pub enum Network {
    /// With activations to replace; metadata are empty unless the file has some.
    Trained(Graph, Metadata),
    /// Polynomial already.
    Polynomial(Box<PolyGraph>),
}

impl Network {
    /// The shape of its input.
    pub fn input_shape(&self) -> Shape {
        match self {
            Self::Trained(g, _) => g.input().shape(),
            Self::Polynomial(g) => g.input_shape(),
        }
    }

    /// As which family's network a state dict was read, whose tensors do not say what is computed with them.
    pub fn read_as(&self) -> Option<&str> {
        let lines = match self {
            Self::Trained(_, metadata) => &metadata.provenance[..],
            Self::Polynomial(_) => &[],
        };
        let line = lines.iter().find(|line| line.starts_with(zoo::READ_AS));
        line.map(String::as_str)
    }

    /// What it computes in the clear, in f64, of one input, and where a value left its polynomial's interval on the way.
    ///
    /// # Errors
    /// An input of another shape.
    pub fn evaluate(&self, input: &Tensor) -> Result<Evaluation> {
        Ok(match self {
            Self::Trained(g, _) => g.evaluate(input),
            Self::Polynomial(g) => g.network().evaluate(input),
        }?)
    }

    /// The polynomial network that it is.
    ///
    /// # Errors
    /// Functions that are no polynomials.
    pub fn polynomial(self) -> Result<PolyGraph> {
        match self {
            Self::Polynomial(g) => Ok(*g),
            Self::Trained(g, _) => Ok(PolyGraph::try_from(g)?),
        }
    }
}

/// Values with the lengths of their axes, as JSON, which has no NaN: what is no number is a text, and said. So is a value that left its polynomial's
/// interval, beyond which the network's answer means nothing.
pub fn json(evaluation: &Evaluation, tell: Listener<'_>) -> serde_json::Value {
    let y = &evaluation.output;
    let strange = y.values().iter().filter(|v| !v.is_finite()).count();
    if strange > 0 {
        let all = y.values().len();
        tell.note(format_args!(
            "warning: {strange} of {all} values are NaN or infinite: the network is not defined there, or its weights are damaged"
        ));
    }
    let value = |v: &f64| match v.is_finite() {
        true => serde_json::json!(v),
        false => serde_json::json!(v.to_string()),
    };
    let values: Vec<serde_json::Value> = y.values().iter().map(value).collect();
    let mut json = serde_json::json!({"shape": y.shape().dims(), "values": values});
    let outside: Vec<String> = evaluation.outside.iter().map(ToString::to_string).collect();
    if let Some(first) = outside.first() {
        let more = match outside.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} nodes more"),
        };
        tell.note(format_args!(
            "warning: a value leaves its polynomial's interval, and what comes of it means nothing ({first}{more}); calibrate the network on inputs that cover it"
        ));
        json["outside"] = outside.into();
    }
    json
}

/// Loads any network.
///
/// # Errors
/// Those of [`zoo::open`], and for an activation that is not known.
pub fn load(path: &Path, activation: Option<&str>) -> Result<Network> {
    load_output(path, activation, None)
}

/// As [`load`], an ONNX model's output of this name.
///
/// # Errors
/// Those of [`load`].
pub fn load_output(path: &Path, activation: Option<&str>, output: Option<&str>) -> Result<Network> {
    let model = zoo::open(path, &options(activation, output)?).map_err(named(path))?;
    network(model).map_err(named(path))
}

/// As [`load_output`], from the bytes of a file; weights beside it are not looked for.
///
/// # Errors
/// Those of [`load_output`].
pub fn from_bytes(
    bytes: impl Into<Vec<u8>>,
    activation: Option<&str>,
    output: Option<&str>,
) -> Result<Network> {
    let model = zoo::from_bytes(bytes.into(), &options(activation, output)?)?;
    Ok(network(model)?)
}

fn options(activation: Option<&str>, output: Option<&str>) -> Result<zoo::Options> {
    let activation = match activation {
        Some(name) => Some(approx::Activation::named(name).ok_or_else(|| {
            let known = approx::Activation::names();
            let what = format!("there is no activation {name}; known are {known}");
            Error::refused(what, Help::NameActivation)
        })?),
        None => None,
    };
    Ok(zoo::Options {
        activation,
        output: output.map(String::from),
    })
}

pub(crate) fn network(model: zoo::Model) -> nn::Result<Network> {
    Ok(match model {
        zoo::Model::Polynomial(graph) => Network::Polynomial(graph),
        model => {
            let (graph, metadata) = model.graph()?;
            Network::Trained(graph, metadata)
        }
    })
}

/// What a network computes in the clear, in f64, on the array in a `.npy` file: of one input, with a batch of 1 or without.
///
/// # Errors
/// Those of [`load_output`], a file that is no array, one of another shape than the network's input, values that are not finite.
pub fn values(
    model: &Path,
    activation: Option<&str>,
    output: Option<&str>,
    input: &Path,
) -> Result<Evaluation> {
    let network = load_output(model, activation, output)?;
    let (dims, numbers) = data::read_numbers(input, nn::format::DEFAULT_LIMIT)?;
    let shape = network.input_shape();
    if !is_of(&dims, shape) {
        return Err(format!(
            "the network takes one input of shape {}, {} has shape {dims:?}",
            lengths(shape),
            input.display()
        )
        .into());
    }
    if let Some((i, v)) = (numbers.iter().enumerate()).find(|(_, v)| !v.is_finite()) {
        return Err(format!(
            "{}: value {i}, counted from 0, is {v}; replace what is no finite number",
            input.display()
        )
        .into());
    }
    network.evaluate(&Tensor::new(shape, numbers)?)
}

/// Refuses a network whose every answer is zero by calibration: a client could tell none from a wrong one.
pub(crate) fn refuse_silent(graph: &PolyGraph) -> Result<()> {
    let output = graph.output();
    match graph.range(output.id()) {
        Some(r) if r.min == 0.0 && r.max == 0.0 => Err(format!(
            "node {}: the network gave 0 for every output on every input of calibration, and such an answer could not be told from a wrong one; its weights are zeros or were lost on the way here, or a function before its end gives 0 for all that it gets: see what the network gives where it was trained",
            output.name()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Whether an array of these lengths, with a batch of 1 or without, is an input of this shape.
fn is_of(dims: &[usize], shape: Shape) -> bool {
    match *dims {
        [1, ref rest @ ..] if !rest.is_empty() => {
            shape.holds(rest) || dims.len() < 4 && shape.holds(dims)
        }
        _ => shape.holds(dims),
    }
}

/// A calibrated polynomial network.
///
/// # Errors
/// Those of [`load`], and for a network that is not polynomial.
pub fn load_polynomial(path: &Path) -> Result<PolyGraph> {
    load(path, None)?.polynomial().map_err(named(path))
}

/// A warning, where a model's file is from before version 8 and has no checksum; of a pipe nothing is known before it is read.
pub fn without_checksum(path: &Path) -> Option<String> {
    let mut head = [0; 64];
    let file = path.is_file().then(|| std::fs::File::open(path).ok())?;
    file?.read_exact(&mut head).ok()?;
    nn::format::artefact::begins_without_checksum(&head).then(|| {
        format!(
            "{} is from before version 8 of .pvm and has no checksum: damage to it would go unseen; make it again if you can",
            path.display()
        )
    })
}

/// What a network's inputs and outputs mean: what its file says, or rows of numbers as they are; outputs are numbers.
///
/// # Errors
/// A network of pictures whose file does not say how they are normalised; a task that can't be read or is none of these shapes.
pub fn task_of(metadata: &Metadata, input: Shape, output: Shape) -> Result<Task> {
    task_or(Task::of(metadata)?, input, output)
}

pub(crate) fn task_or(task: Option<Task>, input: Shape, output: Shape) -> Result<Task> {
    let task = match (task, input) {
        (Some(task), _) => task,
        (None, Shape::Vector(width)) => {
            let columns = (1..=width).map(|i| i.to_string()).collect();
            Task::Vectors(task::Vectors::new(columns, None, Outputs::unsaid(output))?)
        }
        (None, _) => return Err(crate::normalization::unsaid()),
    };
    task.check(input, output)?;
    Ok(task)
}

/// As [`task_of`], of a polynomial network.
///
/// # Errors
/// Those of [`task_of`].
pub fn task_of_graph(graph: &PolyGraph) -> Result<Task> {
    task_of(
        graph.metadata(),
        graph.input_shape(),
        graph.output().shape(),
    )
}

/// The bytes of a network's task, which go into its client file.
pub fn task_bytes(graph: &PolyGraph) -> std::sync::Arc<[u8]> {
    graph.metadata().task.clone().unwrap_or_default()
}

/// The name of the client file in a folder of keys.
pub const CLIENT_FILE: &str = "network.client";

/// The secret key in a client's folder.
pub(crate) const KEY: &str = "client.key";

/// Reads a client file.
///
/// # Errors
/// Those of [`ClientFile::read`], with the file's name.
pub fn client_file(path: &Path) -> Result<ClientFile> {
    let name = path.display().to_string();
    Ok(ClientFile::read(files::open(path)?, &name)?)
}

/// Reads and verifies a plan.
///
/// # Errors
/// Another kind of file, a damaged one, and plans that do not verify.
pub fn plan(path: &Path) -> Result<VerifiedPlan> {
    plan_within(path, Limits::default())
}

/// As [`plan()`], within limits of the caller's.
///
/// # Errors
/// As [`plan()`].
pub fn plan_within(path: &Path, limits: Limits) -> Result<VerifiedPlan> {
    let name = path.display().to_string();
    let (file, weights) = (files::open(path)?, path.with_extension(WEIGHTS));
    let plan = VerifiedPlan::read_within(file, &name, limits, Some(&weights));
    Ok(plan?)
}

/// The same plan with its integer weights in a file of which it reads some at a time, so that what they are made of can be dropped. The file lies among
/// temporary ones (`TMPDIR`) without a name from the moment it was read.
///
/// # Errors
/// The file system's; those of [`plan()`].
pub(crate) fn through_files(plan: &VerifiedPlan, tell: Listener<'_>) -> Result<VerifiedPlan> {
    let folder = std::env::temp_dir();
    let own: String = plan.digest()[..8]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let path = folder.join(format!("polyveil-{}-{own}.plan", std::process::id()));
    tell.note(format_args!(
        "weights of {} go to a file in {}, which TMPDIR names",
        runtime::size(plan.plan().integer_bytes()),
        folder.display()
    ));
    let mut opened = |path: &Path, kind| {
        let content = Content::Container(kind);
        Output::create(path, content, &[], Existing::Kin, tell)
    };
    let weights = path.with_extension(WEIGHTS);
    let files = [opened(&path, Kind::Plan)?, opened(&weights, Kind::Weights)?];
    write_apart(plan, files)?;
    let bytes = std::fs::metadata(&path).map_err(|e| named(&path)(e))?.len();
    let before = cpu_seconds();
    let read = self::plan(&path);
    tell.note(format_args!(
        "the plan, {}, read again and verified with its weights in {:.2} CPU seconds",
        runtime::size(bytes),
        cpu_seconds() - before
    ));
    for path in [&path, &weights] {
        std::fs::remove_file(path).map_err(|e| named(path)(e))?;
    }
    read
}

/// Writes a plan and the file of its integers.
fn write_apart(plan: &VerifiedPlan, [out, weights]: [Output; 2]) -> Result<()> {
    let (weights, plan) = weights.fill(|weights, its| {
        let (plan, ()) = out.fill(|out, name| {
            let written = plan.plan().write_beside((out, name), (weights, its));
            Ok(written.map(drop)?)
        })?;
        Ok(plan)
    })?;
    weights.place()?;
    plan.place()
}

/// The ending of a file of weights beside a plan.
pub(crate) const WEIGHTS: &str = "weights";

/// The files that a compilation writes, opened before it begins: a plan, and beside it, with the ending `client`, what clients need of
/// it. A plan that goes into a pipe or a device has nothing beside it. One whose layers in coefficients have a megabyte of weights or more has them
/// in a third file, with the ending `weights`: a run reads them from there as it needs them. Smaller ones stay one file, which is simpler to keep and to send.
#[derive(Debug)]
pub struct PlanFiles {
    plan: Output,
    /// The client file, and weights, where they are large; none where the plan is no file.
    beside: Option<[Output; 2]>,
}

/// What was written beside a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The client file; none where the plan went into a pipe or a device.
    pub client: Option<PathBuf>,
    /// The weights of layers in coefficients, where they are large: the server needs them beside the plan, under this name.
    pub weights: Option<PathBuf>,
}

impl PlanFiles {
    /// Opens them.
    ///
    /// # Errors
    /// Those of [`Output::create`], and a plan of that ending.
    pub fn create(
        path: &Path,
        others: &[&Path],
        existing: Existing,
        tell: Listener<'_>,
    ) -> Result<Self> {
        let mut open = |path: &Path, kind| {
            let content = Content::Container(kind);
            Output::create(path, content, others, existing, tell)
        };
        let plan = open(path, Kind::Plan)?;
        let beside = path.with_extension("client");
        if !plan.is_file() {
            return Ok(Self { plan, beside: None });
        }
        let weights = path.with_extension(WEIGHTS);
        if beside == path || weights == path {
            return Err("the client file, and a large plan's weights, are written beside the plan, with the endings `client` and `weights`: give the plan another name".into());
        }
        let (own, key) = (beside.ends_with(CLIENT_FILE), beside.with_file_name(KEY));
        if own && beside.exists() && key.exists() {
            return Err(named(&beside)(format!(
                "{} was made for what this file says, and can't read answers without it; give the plan another name, or keep keys in a folder of their own",
                key.display()
            )));
        }
        let client = open(&beside, Kind::ClientFile)?;
        let beside = Some([client, open(&weights, Kind::Weights)?]);
        Ok(Self { plan, beside })
    }

    /// Writes them; gives the client file's name.
    ///
    /// # Errors
    /// A plan of another network; the file system's.
    pub fn save(self, plan: &VerifiedPlan, graph: &PolyGraph) -> Result<Beside> {
        require_plan_of(plan, graph)?;
        let file = plan.client_file(task_bytes(graph))?;
        let of = plan.plan();
        let Some([client, weights]) = self.beside else {
            self.plan
                .write(|out, name| Ok(of.write(out, name).map(drop)?))?;
            return Ok(Beside::default());
        };
        let apart = of.integer_bytes() >= BESIDE_FROM;
        let places = [&client, &weights].map(|file| file.path().to_path_buf());
        if !apart {
            self.plan
                .write(|out, name| Ok(of.write(out, name).map(drop)?))?;
        } else {
            write_apart(plan, [self.plan, weights])?;
        }
        client.write(|out, name| Ok(file.write(out, name).map(drop)?))?;
        let [client, weights] = places;
        Ok(Beside {
            client: Some(client),
            weights: apart.then_some(weights),
        })
    }
}

/// Refuses a plan that was compiled from another network.
///
/// # Errors
/// As said.
pub fn require_plan_of(plan: &VerifiedPlan, graph: &PolyGraph) -> Result<()> {
    let (own, name) = (&plan.plan().description, &graph.metadata().name);
    if own.model == nn::format::artefact::digest(graph)? {
        return Ok(());
    }
    let other = match own.name == *name {
        true => format!("{name}, but of another network of that name than the model is"),
        false => format!("{}, not of {name}", own.name),
    };
    let ports = [&plan.plan().input.shape, &plan.plan().output.shape];
    let needed = [graph.input_shape(), graph.output().shape()].map(Shape::dims);
    if let (true, [input, output], [of, [_, _, had]]) =
        (own.name == *name, &needed, ports.map(|p| &p[..]))
        && of == &input[..]
        && output.get(2).is_some_and(|wanted| wanted != had)
    {
        let what = format!(
            "this is a plan of {name} whose answers hold {had} positions, not {}",
            output[2]
        );
        return Err(Error::refused(what, Help::NamePositions));
    }
    Err(format!("this is a plan of {other}; compile the network again").into())
}

/// Whether layers of a plan lie in coefficients, where their weights are integers.
pub(crate) fn in_coefficients(plan: &VerifiedPlan) -> bool {
    let integers = |o: &Operation| matches!(o, Operation::Weigh { .. });
    (plan.plan().steps.iter()).any(|s| integers(&s.operation))
}

/// Whether no input that could be made up kept the intervals of a network whose layers lie in coefficients: what lies there at places without a value was
/// then not looked at.
pub fn is_unseen_beside(plan: &VerifiedPlan) -> bool {
    let simulated = plan.answer_bounds().simulated;
    in_coefficients(plan) && simulated.is_none_or(|s| s.network.is_none())
}

/// Whether a plan divides, so that its worst-case bound says nothing: a language model's or an encoder's.
pub fn divides(plan: &VerifiedPlan) -> bool {
    let divides = |s: &Step| matches!(s.purpose, Purpose::Norm | Purpose::Attention);
    plan.plan().steps.iter().any(divides)
}

/// A class's label, or its number.
pub fn label(labels: &[String], class: usize) -> String {
    labels
        .get(class)
        .cloned()
        .unwrap_or_else(|| format!("class {class}"))
}

/// An answer as lines: the five likeliest classes, all labels or numbers, or what a tensor is like.
pub fn answer_lines(answer: &Answer<'_>) -> String {
    let line = |c: &Candidate| {
        let (name, share) = (&c.name, 100.0 * c.probability);
        format!("  {name:14} {share:5.1}%  (logit {:+.4})\n", c.score)
    };
    match answer {
        Answer::Classes(scores) => scores.top(5).iter().map(line).collect(),
        Answer::Labels(all) => all.iter().map(line).collect(),
        Answer::Values(all) => (all.iter())
            .map(|v| match v.value.abs() {
                // four places say nothing of these
                size if size > 0.0 && !(1e-2..1e6).contains(&size) => {
                    format!("  {:14} {:+.4e}\n", v.name, v.value)
                }
                _ => format!("  {:14} {:+.4}\n", v.name, v.value),
            })
            .collect(),
        Answer::Probabilities(all) => (all.iter())
            .map(|v| format!("  {:14} {:5.1}%\n", v.name, 100.0 * v.value.clamp(0.0, 1.0)))
            .collect(),
        Answer::Tensor(shape, values) => {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!(
                "  {} values of shape {shape}, row by row: {least:+.4} to {most:+.4}, mean {mean:+.4}\n",
                values.len()
            )
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_its_own_axes_and_a_batch_of_one_or_none() {
        let of = |dims: &[usize], c, h, w| is_of(dims, Shape::image(c, h, w));
        assert!(of(&[1, 3, 4, 5], 3, 4, 5) && of(&[3, 4, 5], 3, 4, 5));
        assert!(!of(&[1, 4, 5, 3], 3, 4, 5) && !of(&[2, 3, 4, 5], 3, 4, 5));
        assert!(!of(&[60], 3, 4, 5) && !of(&[1, 3, 20], 3, 4, 5) && !of(&[1, 1, 3, 4, 5], 3, 4, 5));
        // signals, and axes that a picture keeps as one
        assert!(of(&[1, 3, 5], 3, 1, 5) && of(&[3, 5], 3, 1, 5) && !of(&[1, 5, 3], 3, 1, 5));
        assert!(of(&[1, 2, 3, 4, 5], 2, 12, 5) && !of(&[1, 4, 6, 6], 1, 24, 6));
        let row = |dims: &[usize]| is_of(dims, Shape::Vector(6));
        assert!(row(&[6]) && row(&[1, 6]) && !row(&[6, 1]) && !row(&[2, 3]) && !row(&[1, 1, 6]));
    }
}
