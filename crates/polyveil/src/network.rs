//! Networks, pictures and plans from files.

use crate::client::Scaling;
use crate::error::{Error, Help, Result, named};
use crate::files::{self, Access};
use compiler::Task;
use nn::picture::Picture;
use nn::{Graph, Metadata, Normalization, PolyGraph, Tensor};
use runtime::{Client, ClientFile, ClientSpec, Purpose, Step, VerifiedPlan};
use std::path::{Path, PathBuf};

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

/// A picture as the network's input.
pub fn picture(
    picture: &Picture,
    shape: nn::Shape,
    normalization: &Normalization,
    scaling: Scaling,
) -> Result<Tensor> {
    let fitted = match (scaling, shape) {
        (Scaling::Scale, nn::Shape::Image { height, width, .. }) => picture.fit(width, height),
        _ => picture.clone(),
    };
    Ok(fitted.to_tensor(shape, normalization)?)
}

/// A picture of a file as the network's input.
///
/// # Errors
/// A file that is no picture; another size, where that is refused.
pub fn picture_file(
    path: &Path,
    shape: nn::Shape,
    normalization: &Normalization,
    scaling: Scaling,
) -> Result<Tensor> {
    let loaded = Picture::load(path).map_err(named(path))?;
    picture(&loaded, shape, normalization, scaling).map_err(named(path))
}

/// The normalisation that a plan asks for.
pub fn normalization(task: &Task) -> Normalization {
    if task.mean.is_empty() {
        nn::picture::imagenet_normalization()
    } else {
        Normalization {
            mean: task.mean.clone(),
            deviation: task.deviation.clone(),
        }
    }
}

/// The shape of a plan's input.
pub fn input_shape(spec: &ClientSpec) -> Result<nn::Shape> {
    match spec.input.shape[..] {
        [channels, height, width] => Ok(nn::Shape::image(channels, height, width)),
        _ => Err(format!(
            "this plan takes {:?}, which is no picture",
            spec.input.shape
        )
        .into()),
    }
}

/// At most `limit` inputs under each of these paths: pictures as they lie there, or sets of labelled pictures (their training part
/// where they have parts), from which they are taken evenly.
pub fn data(
    paths: &[std::path::PathBuf],
    shape: nn::Shape,
    normalization: &Normalization,
    limit: usize,
) -> Result<Vec<Tensor>> {
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
            all.push(picture(&loaded, shape, normalization, Scaling::Refuse).map_err(named(file))?);
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
                all.push(set.tensor(i, normalization).map_err(named(path))?);
            }
        }
    }
    Ok(all)
}

/// The bytes of a network's task, which go into its client file.
pub fn task_of(graph: &PolyGraph) -> std::sync::Arc<[u8]> {
    Task::of(graph.metadata()).to_bytes()
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
    let task = Task::from_bytes(client.file().task());
    task.map_err(|e| format!("the client file's task can't be read ({e})").into())
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
    let client = plan.client_file(task_of(graph))?;
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

/// Indices of the largest values, largest first.
pub fn top(logits: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(count);
    order
}

/// A class's label, or its number.
pub fn label(labels: &[String], class: usize) -> String {
    labels
        .get(class)
        .cloned()
        .unwrap_or_else(|| format!("class {class}"))
}

/// Logits as probabilities.
pub(crate) fn probabilities(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
    let share = |l: &f64| (l - largest).exp() / total;
    logits.iter().map(share).collect()
}

/// The top classes as lines.
pub fn top_lines(logits: &[f64], labels: &[String]) -> String {
    let shares = probabilities(logits);
    let line = |c: usize| {
        let (label, share) = (label(labels, c), 100.0 * shares[c]);
        format!("  {label:14} {share:5.1}%  (logit {:+.4})\n", logits[c])
    };
    top(logits, 5).into_iter().map(line).collect()
}
