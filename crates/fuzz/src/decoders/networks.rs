//! Networks and weights.

use crate::decoder::{Decoder, Law, Outcome, Probe, again, law, onnx_limit, same};
use crate::torch::Root;
use crate::{models, protobuf, safetensors, torch};
use nn::format::{Checkpoint, artefact, onnx, state_dict::StateDict};
use zoo::resnet;

fn check_state_dict(dict: StateDict) -> Law {
    for (name, t) in dict.tensors() {
        let holds = t.shape.iter().product::<usize>() == t.values.len();
        law(holds, "a tensor's shape fits its values")?;
        law(dict.find(name).is_some(), "a tensor is found by its name")?;
    }
    // who reads state dicts
    let holds = resnet::depth(&dict) >= 2;
    law(holds, "a network has two layers at least")?;
    let trained = resnet::from_state_dict(&dict, approx::Activation::Relu);
    let polynomial = resnet::from_state_dict_with_polynomials(&dict);
    if let Ok(g) = &polynomial {
        law(trained.is_ok(), "polynomials are the only difference")?;
        check_graph(g)?;
    }
    let other = dict.tensors().keys().any(|k| k.ends_with(".poly"))
        || dict.find("layer4.0.conv1.weight").is_some();
    let checkpoint = Checkpoint {
        config: None,
        preprocessor: None,
        tensors: dict,
    };
    let options = zoo::Options {
        activation: Some(approx::Activation::Relu),
        ..zoo::Options::default()
    };
    let claimed = zoo::identify(&checkpoint, &options);
    let holds = other || trained.is_err() || claimed.is_ok();
    law(
        holds,
        "a network that can be built is claimed by its family",
    )
}

fn check_nodes<N>(nodes: &[nn::Node<N>]) -> Law {
    for n in nodes {
        let shape = n.shape().checked_len();
        law(shape.is_some(), "a node has a possible shape")?;
        let before = n.inputs().iter().all(|i| *i < n.id());
        law(before, "a node's inputs come before it")?;
    }
    Ok(())
}

/// The laws of a polynomial network and of its file.
fn check_graph(g: &nn::PolyGraph) -> Law {
    check_nodes(g.nodes())?;
    let bytes = again(artefact::to_bytes(g))?;
    let holds = artefact::recognises(&bytes);
    law(holds, "a written model is recognised")?;
    let back = again(artefact::from_bytes(&bytes))?;
    let rewritten = again(artefact::to_bytes(&back))?;
    law(rewritten == bytes, "the same model gives the same bytes")?;
    same(g, Ok::<_, String>(back))
}

fn check_artefact(probe: &mut Probe<'_>) -> Outcome {
    let (recognised, read) =
        probe.count(|b| (artefact::recognises(b), artefact::graph_from_bytes(b)));
    let Ok(read) = read else {
        return Ok(false);
    };
    law(recognised, "a model that can be read is recognised")?;
    let bytes = again(artefact::graph_to_bytes(&read.0, &read.1))?;
    same(&read, artefact::graph_from_bytes(&bytes))?;
    if let Ok(graph) = probe.count(artefact::from_bytes) {
        check_graph(&graph)?;
    }
    Ok(true)
}

pub(super) fn all() -> Vec<Decoder> {
    let (tensors, resnet) = (models::tensors(), models::resnet());
    let resnet: Vec<torch::Tensor<'_>> = resnet
        .iter()
        .map(|(n, shape, stride)| models::entry(n, shape, stride))
        .collect();
    let legacy = vec![
        torch::legacy(&tensors, Root::Wrapped),
        torch::legacy(&tensors, Root::Plain),
        torch::legacy(&resnet, Root::Plain),
    ];
    let zips = vec![
        torch::zip(&tensors, Root::Wrapped),
        torch::zip(&tensors, Root::Plain),
        torch::zip(&resnet, Root::Plain),
        torch::zip(&tensors, Root::Modules),
        torch::zip(&resnet, Root::Modules),
    ];
    let legacy_files = legacy.iter().map(torch::Legacy::bytes).collect();
    let zip_files = zips.iter().map(torch::Zip::bytes).collect();
    vec![
        Decoder::new("torch-legacy", legacy_files)
            .mutants(move |r, _| torch::generate_legacy(r, &legacy))
            .reads(StateDict::from_bytes, check_state_dict),
        Decoder::new("torch-zip", zip_files)
            .mutants(move |r, _| torch::generate_zip(r, &zips))
            .reads(StateDict::from_bytes, check_state_dict),
        Decoder::new("safetensors", models::safetensors())
            .apart(safetensors::parts, safetensors::generate)
            .reads(StateDict::from_bytes, check_state_dict),
        Decoder::new("pvm", models::artefacts())
            .apart(safetensors::parts, safetensors::generate)
            .decodes(check_artefact),
        Decoder::new("onnx", models::onnx())
            .within(onnx_limit)
            .apart(
                |file| protobuf::parse(file).expect("a valid seed"),
                protobuf::generate,
            )
            .reads(onnx::from_bytes, |graph| {
                check_nodes(graph.nodes())?;
                match nn::PolyGraph::try_from(graph) {
                    // constants as large as the whole picture are not worth the time
                    Ok(g) if g.nodes().iter().all(|n| n.shape().len() <= 1 << 12) => {
                        check_graph(&g)
                    }
                    _ => Ok(()),
                }
            }),
    ]
}
