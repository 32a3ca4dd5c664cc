//! What stands in place of activations, divisions and inverse roots in networks of sequences, and the files that say so.

use crate::activation::Function;
use crate::checkpoint::write_whole;
use crate::error::Result;
use crate::model::Model;
use nn::approximations::{Approximations, Substitute};
use nn::{Graph, Nonlinearity, Op};
use std::collections::BTreeMap;
use std::path::Path;

/// The graph that the model computes now with its original activations: what [`substitutes`] stand beside.
///
/// # Errors
/// [`Error::Network`] for weights that are not finite.
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
/// [`Error::Fit`] for coefficients that are not finite.
pub fn substitutes(model: &Model) -> Result<Approximations> {
    let mut by_name = BTreeMap::new();
    for u in model.units().filter(|u| u.original.is_some()) {
        if let (true, Some(p)) = (
            u.function != Function::Original,
            u.polynomial(&model.parameters)?,
        ) {
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
            out += &format!(
                "{},{},{},{},{},{},{}\n",
                u.name,
                u.function.name(),
                u.domain.0,
                u.domain.1,
                u.bits,
                p.depth(),
                p.multiplications()
            );
        }
    }
    out
}

/// Writes `network.pvm` with the record of its run, what stands in place of activations, roots and divisions in it as `pieces.json`, and
/// `programs.csv`.
pub(crate) fn write_network(
    folder: &Path,
    model: &Model,
    network: &Graph,
    configuration: &str,
    mut record: serde_json::Value,
) -> Result<()> {
    let program = concat!("polyveil-train ", env!("CARGO_PKG_VERSION"));
    let digest = blake3::hash(configuration.as_bytes()).to_hex().to_string();
    record["program"] = program.into();
    record["configuration"] = configuration.into();
    record["configuration_digest"] = digest.into();
    let metadata = nn::Metadata {
        name: folder
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into()),
        provenance: vec![program.into()],
        training: Some(record),
        ..nn::Metadata::default()
    };
    let bytes = nn::format::artefact::graph_to_bytes(network, &metadata)?;
    write_whole(&folder.join("network.pvm"), &bytes)?;
    let pieces = substitutes(model)?.to_json(&graph(model)?)?;
    write_whole(&folder.join("pieces.json"), pieces.as_bytes())?;
    write_whole(&folder.join("programs.csv"), programs(model).as_bytes())
}
