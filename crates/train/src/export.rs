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
/// were seen, and how many of them, at most `allowed`, were left out because one of a polynomial's values exploded.
///
/// # Errors
/// What the data bring; [`Error::Exploded`]; [`Error::Fit`].
pub fn measure_intervals(
    model: &mut Model,
    sources: &Sources,
    batch: usize,
    margin: f32,
    allowed: usize,
) -> Result<(usize, usize)> {
    let set = sources.calibration(usize::MAX)?;
    model.clear_ranges();
    let (mut seen, mut left_out) = (0, 0);
    for set in [&set, &sources.held_out] {
        for batch in sources.plain(set, batch)? {
            let batch = batch?;
            let n = batch.labels.len();
            let shape = set.shape();
            let mirrored = mirrored(&batch.images, shape.width, shape.channels);
            let before: Vec<_> = model.units().map(|u| u.seen).collect();
            model.forward(batch.images.clone(), n, Mode::Evaluate);
            model.forward(mirrored.clone(), n, Mode::Evaluate);
            seen += n;
            if exploded(model).is_none() {
                continue;
            }
            restore(model, &before);
            let pixels = shape.height * shape.width * shape.channels;
            for (a, b) in batch
                .images
                .chunks_exact(pixels)
                .zip(mirrored.chunks_exact(pixels))
            {
                let before: Vec<_> = model.units().map(|u| u.seen).collect();
                model.forward(a.to_vec(), 1, Mode::Evaluate);
                model.forward(b.to_vec(), 1, Mode::Evaluate);
                if let Some(node) = exploded(model) {
                    left_out += 1;
                    if left_out > allowed {
                        let limit = EXPLODED;
                        return Err(Error::Exploded { node, limit });
                    }
                    restore(model, &before);
                }
            }
        }
    }
    model.redeclare_domains(margin)?;
    model.clear_ranges();
    Ok((seen, left_out))
}

/// The first activation whose input lies beyond all bounds.
fn exploded(model: &Model) -> Option<String> {
    let bounded = |u: &&crate::activation::Unit| {
        !u.seen.nan && u.seen.low >= -EXPLODED && u.seen.high <= EXPLODED
    };
    model.units().find(|u| !bounded(u)).map(|u| u.name.clone())
}

fn restore(model: &mut Model, seen: &[crate::activation::Seen]) {
    for (u, &seen) in model.units_mut().zip(seen) {
        u.seen = seen;
    }
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
    exploded: usize,
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
            "left_out_of_intervals": exploded,
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
