//! Networks, pictures and plans from files.

use crate::Result;
use nn::format::{DEFAULT_LIMIT, artefact, onnx, read_limited, state_dict::StateDict};
use nn::models::resnet_cifar;
use nn::picture::{Picture, cifar_records};
use nn::{Graph, Metadata, Normalization, PolyGraph, Tensor};
use runtime::plan::Description;
use runtime::{ClientSpec, VerifiedPlan};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// A network as it was loaded.
pub(crate) enum Network {
    /// With activations to replace; metadata are empty unless the file has some.
    Trained(Graph, Metadata),
    /// Polynomial already.
    Polynomial(Box<PolyGraph>),
}

/// An error message with the file's name in front.
pub(crate) fn named<E: std::fmt::Display>(
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
pub(crate) fn load(path: &Path, activation: Option<&str>) -> Result<Network> {
    let bytes = read_limited(path, DEFAULT_LIMIT)?;
    if artefact::recognises(&bytes) {
        return match artefact::from_bytes(&bytes) {
            Ok(g) => Ok(Network::Polynomial(Box::new(g))),
            Err(nn::Error::NotPolynomial { .. } | nn::Error::Maximum { .. }) => {
                let (graph, metadata) = artefact::graph_from_bytes(&bytes).map_err(named(path))?;
                Ok(Network::Trained(graph, metadata))
            }
            Err(e) => Err(named(path)(e)),
        };
    }
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
    {
        return Ok(Network::Trained(
            onnx::from_bytes(&bytes).map_err(named(path))?,
            Metadata::default(),
        ));
    }
    let weights = StateDict::from_bytes(&bytes).map_err(named(path))?;
    if weights.tensors().keys().any(|k| k.ends_with(".poly")) {
        return Ok(Network::Polynomial(Box::new(
            resnet_cifar::from_state_dict_with_polynomials(&weights).map_err(named(path))?,
        )));
    }
    let name = activation.ok_or_else(|| format!("{}: a state dict does not say which activation it was trained with; name it: --activation relu (or silu, gelu, sigmoid, tanh)", path.display()))?;
    let activation = activation_named(name)?;
    Ok(Network::Trained(
        resnet_cifar::from_state_dict(&weights, activation).map_err(named(path))?,
        Metadata::default(),
    ))
}

fn activation_named(name: &str) -> Result<approx::Activation> {
    use approx::Activation::{Gelu, Relu, Sigmoid, Silu, Tanh};
    Ok(match name.to_ascii_lowercase().as_str() {
        "relu" => Relu,
        "silu" | "swish" => Silu,
        "gelu" => Gelu,
        "sigmoid" => Sigmoid,
        "tanh" => Tanh,
        _ => {
            return Err(
                format!("--activation {name}: known are relu, silu, gelu, sigmoid, tanh").into(),
            );
        }
    })
}

/// A calibrated polynomial network.
pub(crate) fn load_polynomial(path: &Path) -> Result<PolyGraph> {
    match load(path, Some("relu"))? {
        Network::Polynomial(g) => Ok(*g),
        Network::Trained(g, _) => match PolyGraph::try_from(g) {
            Ok(g) => Ok(g),
            Err(e) => Err(named(path)(e)),
        },
    }
}

/// A picture as the network's input.
pub(crate) fn picture(
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
pub(crate) fn normalization(description: &Description) -> Normalization {
    if description.mean.is_empty() {
        nn::picture::imagenet_normalization()
    } else {
        Normalization {
            mean: description.mean.clone(),
            deviation: description.deviation.clone(),
        }
    }
}

/// The shape of a plan's input.
pub(crate) fn input_shape(spec: &ClientSpec) -> Result<nn::Shape> {
    match spec.input.shape[..] {
        [channels, height, width] => Ok(nn::Shape::image(channels, height, width)),
        _ => Err(format!(
            "this plan takes {:?}, which is no picture",
            spec.input.shape
        )
        .into()),
    }
}

/// All inputs under these paths, at most `limit`, lazily decoded.
pub(crate) fn data(
    paths: &[std::path::PathBuf],
    shape: nn::Shape,
    normalization: &Normalization,
    limit: usize,
) -> Result<Vec<nn::Result<Tensor>>> {
    let mut all = Vec::new();
    for path in paths {
        let mut files = Vec::new();
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                files.push(entry?.path());
            }
            files.sort();
        } else {
            files.push(path.clone());
        }
        for file in files {
            if all.len() >= limit {
                return Ok(all);
            }
            let is = |extension: &str| {
                file.extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case(extension))
            };
            if is("bin") {
                let records =
                    cifar_records(&read_limited(&file, DEFAULT_LIMIT)?).map_err(named(&file))?;
                all.extend(
                    records
                        .iter()
                        .take(limit - all.len())
                        .map(|r| r.to_tensor(normalization)),
                );
            } else if is("png") || is("jpg") || is("jpeg") {
                let picture = Picture::load(&file).map_err(named(&file))?;
                all.push(Ok(
                    self::picture(&picture, shape, normalization, false).map_err(named(&file))?
                ));
            } else if !path.is_dir() {
                return Err(format!("{}: calibration data are CIFAR-10 binary files (.bin) or pictures (.png, .jpg)", file.display()).into());
            }
        }
    }
    if all.is_empty() {
        return Err("calibration data: nothing was found there; give CIFAR-10 binary files (.bin) or folders of pictures (.png, .jpg)".into());
    }
    Ok(all)
}

/// The same network with a name, labels and normalisation.
pub(crate) fn with_metadata(
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

/// Reads and verifies a plan.
pub(crate) fn plan(path: &Path) -> Result<VerifiedPlan> {
    Ok(VerifiedPlan::read(
        BufReader::new(open(path)?),
        &path.display().to_string(),
    )?)
}

/// Opens a file; the message names it.
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(named(path))
}

/// Indices of the largest values, largest first.
pub(crate) fn top(logits: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(count);
    order
}

/// A class's label, or its number.
pub(crate) fn label(labels: &[String], class: usize) -> String {
    labels
        .get(class)
        .cloned()
        .unwrap_or_else(|| format!("class {class}"))
}

/// The top classes as lines.
pub(crate) fn top_lines(logits: &[f64], labels: &[String]) -> String {
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
