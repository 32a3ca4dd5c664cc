//! Networks, pictures and plans from files.

use crate::Result;
use compiler::Task;
use nn::picture::Picture;
use nn::{Graph, Metadata, Normalization, PolyGraph, Tensor};
use runtime::{Client, ClientFile, ClientSpec, VerifiedPlan};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// A network as it was loaded.
pub enum Network {
    /// With activations to replace; metadata are empty unless the file has some.
    Trained(Graph, Metadata),
    /// Polynomial already.
    Polynomial(Box<PolyGraph>),
}

/// An error message with the file's name in front.
pub fn named<E: std::fmt::Display>(
    path: &Path,
) -> impl FnOnce(E) -> Box<dyn std::error::Error + Send + Sync> + '_ {
    move |e| {
        let (text, name) = (e.to_string(), path.display().to_string());
        if text.contains(&name) {
            text.into()
        } else {
            format!("{name}: {text}").into()
        }
    }
}

/// Loads any network.
pub fn load(path: &Path, activation: Option<&str>) -> Result<Network> {
    let activation = match activation {
        Some(name) => Some(approx::Activation::named(name).ok_or_else(|| {
            format!(
                "--activation {name}: known are {}",
                approx::Activation::names()
            )
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
    graph_shape: nn::Shape,
    normalization: &Normalization,
    resize: bool,
) -> Result<Tensor> {
    let fitted = match (resize, graph_shape) {
        (true, nn::Shape::Image { height, width, .. }) => picture.fit(width, height),
        _ => picture.clone(),
    };
    fitted.to_tensor(graph_shape, normalization).map_err(|e| match e {
        nn::Error::PictureSize { needed, had } => {
            format!("the picture has {}×{} pixels, the network takes {}×{}: scale it yourself or let `--resize` do it", had.0, had.1, needed.0, needed.1).into()
        }
        e => e.into(),
    })
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
            all.push(picture(&loaded, shape, normalization, false).map_err(named(file))?);
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

/// The same network with a name, labels and normalisation.
pub fn with_metadata(
    graph: PolyGraph,
    name: String,
    labels: Vec<String>,
    normalization: Normalization,
    provenance: String,
) -> Result<PolyGraph> {
    let mut metadata: Metadata = graph.metadata().clone();
    if metadata.name.is_empty() {
        metadata.name = name;
    }
    if !labels.is_empty() {
        metadata.labels = labels;
    }
    if metadata.normalization.is_none() {
        metadata.normalization = Some(normalization);
    }
    metadata.provenance.push(provenance);
    Ok(graph.with_metadata(metadata)?)
}

/// The bytes of a network's task, which go into its client file.
pub fn task_of(graph: &PolyGraph) -> std::sync::Arc<[u8]> {
    Task::of(graph.metadata()).to_bytes()
}

/// The name of the client file in a folder of keys.
pub const CLIENT_FILE: &str = "network.client";

/// Reads a client file.
pub fn client_file(path: &Path) -> Result<ClientFile> {
    let file = BufReader::new(open(path)?);
    Ok(ClientFile::read(file, &path.display().to_string())?)
}

/// Reads a client's key and its client file: `file`, or the one that lies beside the key.
pub fn client(key: &Path, file: Option<&Path>) -> Result<Client> {
    let beside = key.with_file_name(CLIENT_FILE);
    let file = client_file(file.unwrap_or(&beside))?;
    let reader = BufReader::new(open(key)?);
    Ok(Client::read(reader, &key.display().to_string(), file)?)
}

/// The task in a client file.
pub fn task(client: &Client) -> Result<Task> {
    let task = Task::from_bytes(client.file().task());
    Ok(task.map_err(|e| format!("the client file's task cannot be read ({e})"))?)
}

/// Reads and verifies a plan.
pub fn plan(path: &Path) -> Result<VerifiedPlan> {
    Ok(VerifiedPlan::read(
        BufReader::new(open(path)?),
        &path.display().to_string(),
    )?)
}

/// Opens a file; the message names it.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(named(path))
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

/// The top classes as lines.
pub fn top_lines(logits: &[f64], labels: &[String]) -> String {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
    top(logits, 5)
        .into_iter()
        .map(|c| {
            format!(
                "  {:14} {:5.1}%  (logit {:+.4})\n",
                label(labels, c),
                100.0 * (logits[c] - largest).exp() / total,
                logits[c]
            )
        })
        .collect()
}
