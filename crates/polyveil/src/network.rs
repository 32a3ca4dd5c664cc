//! Networks, pictures and plans from files.

use crate::client::Scaling;
use crate::error::{Error, Help, Result, named};
use crate::files::{self, Access};
use nn::{Graph, Metadata, PolyGraph, Tensor};
use runtime::{Client, ClientFile, Purpose, Step, VerifiedPlan};
use std::path::{Path, PathBuf};
use task::{Answer, Candidate, Normalization, Outputs, Picture, Pictures, Task};

/// A network as it was loaded.
pub enum Network {
    /// With activations to replace; metadata are empty unless the file has some.
    Trained(Graph, Metadata),
    /// Polynomial already.
    Polynomial(Box<PolyGraph>),
}

/// Loads any network.
pub fn load(path: &Path, activation: Option<&str>) -> Result<Network> {
    let activation = match activation {
        Some(name) => Some(approx::Activation::named(name).ok_or_else(|| {
            let what = format!(
                "there is no activation {name}; known are {}",
                approx::Activation::names()
            );
            Error::refused(what, Help::NameActivation)
        })?),
        None => None,
    };
    let model = zoo::open(path, &zoo::Options { activation }).map_err(named(path))?;
    Ok(match model {
        zoo::Model::Polynomial(graph) => Network::Polynomial(graph),
        model => {
            let (graph, metadata) = model.graph().map_err(named(path))?;
            Network::Trained(graph, metadata)
        }
    })
}

/// A calibrated polynomial network.
pub fn load_polynomial(path: &Path) -> Result<PolyGraph> {
    match load(path, None)? {
        Network::Polynomial(g) => Ok(*g),
        Network::Trained(g, _) => Ok(PolyGraph::try_from(g).map_err(named(path))?),
    }
}

/// What a network's inputs and outputs mean: what its file says, or pictures as the usual CIFAR-10 networks take them.
///
/// # Errors
/// A task that can't be read or is none of these shapes.
pub fn task_of(metadata: &Metadata, input: nn::Shape, output: nn::Shape) -> Result<Task> {
    let Some(task) = Task::of(metadata)? else {
        let outputs = Outputs::Classes(Vec::new());
        let pictures = Pictures::new(input, Normalization::imagenet(), outputs)?;
        return Ok(Task::Pictures(pictures));
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

/// How a network takes pictures.
///
/// # Errors
/// A network that takes something else.
pub fn pictures(task: &Task) -> Result<&Pictures> {
    match task {
        Task::Pictures(pictures) => Ok(pictures),
        other => Err(format!("this network takes {}, not pictures", other.kind()).into()),
    }
}

/// A picture as the network's input.
///
/// # Errors
/// Another size, where that is refused.
pub fn picture(picture: &Picture, task: &Pictures, scaling: Scaling) -> Result<Tensor> {
    Ok(match scaling {
        Scaling::Refuse => task.input(picture)?,
        Scaling::Scale => {
            let (width, height) = task.size();
            task.input(&picture.fit(width, height))?
        }
    })
}

/// A picture of a file as the network's input.
///
/// # Errors
/// A file that is no picture; another size, where that is refused.
pub fn picture_file(path: &Path, task: &Pictures, scaling: Scaling) -> Result<Tensor> {
    let loaded = Picture::load(path).map_err(named(path))?;
    picture(&loaded, task, scaling).map_err(named(path))
}

/// At most `limit` inputs under each of these paths: pictures as they lie there, or sets of labelled pictures (their training part
/// where they have parts), from which they are taken evenly.
pub fn data(paths: &[std::path::PathBuf], task: &Pictures, limit: usize) -> Result<Vec<Tensor>> {
    let mut all = Vec::new();
    for path in paths {
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = std::fs::read_dir(path)?
                .map(|e| Ok(e?.path()))
                .collect::<Result<_>>()?;
            files.sort();
        }
        files.retain(|f| {
            let is = |e: &str| f.extension().is_some_and(|x| x.eq_ignore_ascii_case(e));
            is("png") || is("jpg") || is("jpeg")
        });
        for file in files.iter().take(limit - all.len()) {
            let loaded = Picture::load(file).map_err(named(file))?;
            all.push(picture(&loaded, task, Scaling::Refuse).map_err(named(file))?);
        }
        if files.is_empty() && all.len() < limit {
            let open = |split| {
                let limit = Some(limit - all.len());
                let options = ::data::Options {
                    split,
                    limit,
                    ..::data::Options::default()
                };
                ::data::Dataset::open(path, &options)
            };
            let (set, _) = match open(None) {
                Err(::data::Error::Split { .. }) => open(Some(::data::Split::Train))?,
                other => other?,
            };
            for i in 0..set.len() {
                all.push(set.tensor(i, task.normalization()).map_err(named(path))?);
            }
        }
    }
    Ok(all)
}

/// The bytes of a network's task, which go into its client file.
pub fn task_bytes(graph: &PolyGraph) -> std::sync::Arc<[u8]> {
    graph.metadata().task.clone().unwrap_or_default()
}

/// The name of the client file in a folder of keys.
pub const CLIENT_FILE: &str = "network.client";

/// Reads a client file.
pub fn client_file(path: &Path) -> Result<ClientFile> {
    let name = path.display().to_string();
    Ok(ClientFile::read(files::open(path)?, &name)?)
}

/// Reads a client's key and its client file: `file`, or the one that lies beside the key.
pub fn client(key: &Path, file: Option<&Path>) -> Result<Client> {
    let beside = key.with_file_name(CLIENT_FILE);
    let file = client_file(file.unwrap_or(&beside))?;
    let name = key.display().to_string();
    Ok(Client::read(files::open(key)?, &name, file)?)
}

/// The task in a client file.
pub fn task(client: &Client) -> Result<Task> {
    let shape = |dims: &[usize]| match *dims {
        [channels, height, width] => nn::Shape::image(channels, height, width),
        _ => nn::Shape::Vector(dims.iter().product()),
    };
    let (spec, bytes) = (client.spec(), client.file().task());
    let metadata = Metadata {
        task: Some(bytes).filter(|b| !b.is_empty()).cloned(),
        ..Metadata::default()
    };
    task_of(
        &metadata,
        shape(&spec.input.shape),
        shape(&spec.output.shape),
    )
}

/// Reads and verifies a plan.
///
/// # Errors
/// Another kind of file, a damaged one, and plans that do not verify.
pub fn plan(path: &Path) -> Result<VerifiedPlan> {
    let name = path.display().to_string();
    Ok(VerifiedPlan::read(files::open(path)?, &name)?)
}

/// Writes a plan, and beside it, with the ending `client`, what clients need of it; gives the client file's name.
///
/// # Errors
/// A plan of that ending; the file system's.
pub fn save_plan(plan: &VerifiedPlan, graph: &PolyGraph, path: &Path) -> Result<PathBuf> {
    let beside = path.with_extension("client");
    if beside == path {
        return Err("the client file is written beside the plan, with the ending `client`: give the plan another name".into());
    }
    let client = plan.client_file(task_bytes(graph))?;
    files::write(path, Access::Everyone, |out, name| {
        Ok(plan.plan().write(out, name).map(drop)?)
    })?;
    files::write(&beside, Access::Everyone, |out, name| {
        Ok(client.write(out, name).map(drop)?)
    })?;
    Ok(beside)
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

/// An answer as lines: the five likeliest alternatives, or all numbers.
pub fn answer_lines(answer: &Answer<'_>) -> String {
    let line = |c: &Candidate| {
        let (name, share) = (&c.name, 100.0 * c.probability);
        format!("  {name:14} {share:5.1}%  (logit {:+.4})\n", c.score)
    };
    match answer {
        Answer::Classes(scores) => scores.top(5).iter().map(line).collect(),
        Answer::Labels(all) => all.iter().map(line).collect(),
        Answer::Values(all) => (all.iter())
            .map(|v| format!("  {:14} {:+.4}\n", v.name, v.value))
            .collect(),
        _ => String::new(),
    }
}
