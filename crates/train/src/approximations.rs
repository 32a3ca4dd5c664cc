//! What stands in place of activations, divisions and inverse roots in networks of sequences, and the files that say so.

use crate::activation::Function;
use crate::checkpoint::write_whole;
use crate::error::Result;
use crate::model::Model;
use crate::score::Score;
use crate::sources::Source;
use crate::trainer::Trainer;
use nn::approximations::{Approximations, Substitute};
use nn::{Graph, Nonlinearity, Op};
use std::collections::BTreeMap;
use std::path::Path;

/// The graph that the model computes now with its original activations: what [`substitutes`] stand beside.
///
/// # Errors
/// [`crate::Error::Network`] for weights that are not finite.
pub fn graph(model: &Model) -> Result<Graph> {
    let original = model.template();
    Ok(model.to_graph()?.try_map(|name, function| {
        Ok(match original.find(name).map(nn::Node::op) {
            Some(Op::Elementwise(own @ Nonlinearity::Activation(_))) => own.clone(),
            _ => function,
        })
    })?)
}

/// What the model computes with in place of activations, divisions and inverse roots, beside its [`graph()`], for [`nn::lower::expand`]
/// and [`nn::Network::evaluate_with`].
///
/// # Errors
/// [`crate::Error::Fit`] for coefficients that are not finite.
pub fn substitutes(model: &Model) -> Result<Approximations> {
    let mut by_name = BTreeMap::new();
    let units = model.units();
    for u in units.filter(|u| u.original.is_some() && u.function != Function::Original) {
        if let Some(p) = u.polynomial(&model.parameters)? {
            by_name.insert(u.name.as_str(), Substitute::Polynomial(p));
        }
    }
    for u in model.inverses() {
        if let Some(p) = &u.program {
            by_name.insert(u.name.as_str(), Substitute::Program(p.clone()));
        }
    }
    let nodes = model.template().nodes().iter();
    Ok(Approximations {
        first: model.public,
        by_node: nodes
            .filter_map(|n| Some((n.id(), by_name.remove(n.name())?)))
            .collect(),
    })
}

/// What stands for divisions and inverse roots in a run's result: one line each of `programs.csv`.
#[must_use]
pub fn programs(model: &Model) -> String {
    let mut out = String::from("node,function,low,high,bits,levels,products\n");
    for u in model.inverses() {
        if let Some(p) = &u.program {
            let ((low, high), function) = (u.domain, u.function.name());
            let (levels, products) = (p.depth(), p.multiplications());
            let (name, bits) = (&u.name, u.bits);
            out += &format!("{name},{function},{low},{high},{bits},{levels},{products}\n");
        }
    }
    out
}

/// Puts a run's record into its network: these entries, the program and the configuration. Without a name, the folder's is the network's.
pub(crate) fn record(
    metadata: &mut nn::Metadata,
    folder: Option<&Path>,
    configuration: &str,
    mut entries: serde_json::Value,
) {
    let program = concat!("polyveil-train ", env!("CARGO_PKG_VERSION"));
    let digest = blake3::hash(configuration.as_bytes()).to_hex().to_string();
    entries["program"] = program.into();
    entries["configuration"] = configuration.into();
    entries["configuration_digest"] = digest.into();
    if metadata.name.is_empty() {
        let name = folder.map(|f| f.file_name().unwrap_or_default().to_string_lossy());
        metadata.name = name.unwrap_or("network".into()).into();
    }
    metadata.provenance.push(program.into());
    metadata.training = Some(entries);
}

/// The record of a run on sequences: how much was trained on and held out, and the score on so many of what was held out.
pub(crate) fn entries<S: Source>(
    trainer: &Trainer<'_, S>,
    (what, (train, held_out)): (&str, (usize, usize)),
    (of, score): (&str, &Score),
) -> serde_json::Value {
    serde_json::json!({
        "seed": trainer.config.seed,
        what: { "train": train, "held_out": held_out },
        "held_out": {
            "loss": score.loss,
            "right": score.right,
            of: score.answers,
            "values_outside_intervals": score.outside,
        },
        "log": trainer.position().log,
    })
}

/// Writes `network.pvm` with the record of its run, what stands in place of activations, roots and divisions in it as `approximations.json`, and
/// `programs.csv`.
pub(crate) fn write_network(
    folder: &Path,
    model: &Model,
    network: &Graph,
    configuration: &str,
    entries: serde_json::Value,
) -> Result<()> {
    let mut metadata = nn::Metadata::default();
    record(&mut metadata, Some(folder), configuration, entries);
    let bytes = nn::format::artefact::graph_to_bytes(network, &metadata)?;
    write_whole(&folder.join("network.pvm"), &bytes)?;
    let approximations = substitutes(model)?.to_json(&graph(model)?)?;
    let path = folder.join("approximations.json");
    write_whole(&path, approximations.as_bytes())?;
    write_whole(&folder.join("programs.csv"), programs(model).as_bytes())
}
