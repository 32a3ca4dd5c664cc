//! From a trained model to an artefact: intervals measured, ranges calibrated, the run's record inside.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::pass::Mode;
use crate::sources::Sources;
use crate::trainer::Score;
use nn::{Metadata, PolyGraph, Tensor};
use rayon::prelude::*;

/// Pictures on which the f64 oracle measures every node's range.
const RANGED: usize = 500;
/// No activation's input lies beyond this unless a polynomial exploded before it.
const EXPLODED: f32 = 1e4;

/// Declares the polynomials' intervals from what they see on all training pictures that calibrate (the second data where there are any)
/// and the held-out ones, as they are and mirrored, widened by `margin` times their width at each end. Gives back how many pictures
/// were seen.
///
/// # Errors
/// What the data bring; [`Error::Exploded`]; [`Error::Fit`].
pub fn measure_intervals(
    model: &mut Model,
    sources: &Sources,
    batch: usize,
    margin: f32,
) -> Result<usize> {
    let set = sources.calibration(usize::MAX)?;
    model.clear_ranges();
    let mut seen = 0;
    for set in [&set, &sources.held_out] {
        for batch in sources.plain(set, batch)? {
            let batch = batch?;
            let n = batch.labels.len();
            let shape = set.shape();
            let mirrored = mirrored(&batch.images, shape.width, shape.channels);
            model.forward(batch.images, n, Mode::Evaluate);
            model.forward(mirrored, n, Mode::Evaluate);
            seen += n;
            let bounded = |u: &&crate::activation::Unit| {
                !u.seen.nan && u.seen.low >= -EXPLODED && u.seen.high <= EXPLODED
            };
            if let Some(u) = model.units().find(|u| !bounded(u)) {
                return Err(Error::Exploded {
                    node: u.name.clone(),
                    limit: EXPLODED,
                });
            }
        }
    }
    model.redeclare_domains(margin)?;
    model.clear_ranges();
    Ok(seen)
}

fn mirrored(images: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(images.len());
    for row in images.chunks_exact(width * channels) {
        for pixel in row.chunks_exact(channels).rev() {
            out.extend_from_slice(pixel);
        }
    }
    out
}

/// What the run tells whoever gets the network.
#[must_use]
pub fn record(
    config: &Config,
    text: &str,
    sources: &Sources,
    held_out: &Score,
    log: &[String],
) -> serde_json::Value {
    serde_json::json!({
        "program": concat!("polyveil-train ", env!("CARGO_PKG_VERSION")),
        "configuration": text,
        "configuration_digest": blake3::hash(text.as_bytes()).to_hex().to_string(),
        "seed": config.seed,
        "pictures": {
            "train": sources.train.len(),
            "second": sources.second.as_ref().map(data::Dataset::len),
            "held_out": sources.held_out.len(),
            "twins_left_out": sources.twins,
        },
        "held_out": {
            "right": held_out.right,
            "pictures": held_out.pictures,
            "values_outside_intervals": held_out.outside,
        },
        "log": log,
    })
}

/// The polynomial network with calibrated ranges, or None while some activation is no polynomial.
///
/// # Errors
/// [`crate::Error::Network`].
pub fn polynomial(
    model: &Model,
    sources: &Sources,
    metadata: Metadata,
) -> Result<Option<PolyGraph>> {
    let graph = model.to_graph()?;
    if graph.activations().next().is_some() {
        return Ok(None);
    }
    let graph = PolyGraph::try_from(graph)?;
    let set = sources.calibration(RANGED)?;
    let inputs: Vec<nn::Result<Tensor>> = (0..set.len())
        .map(|i| Ok(Ok(set.tensor(i, &sources.normalization)?)))
        .collect::<Result<_>>()?;
    let calibration = nn::calibrate::calibrate(graph.network(), inputs.into_par_iter())?;
    Ok(Some(
        graph
            .with_ranges(calibration.ranges)?
            .with_metadata(metadata)?,
    ))
}
