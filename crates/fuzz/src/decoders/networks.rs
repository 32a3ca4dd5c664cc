//! Networks and weights.

use super::{Decoder, Outcome, Probe, again, law, onnx_limit, text_limit};
use crate::{models, protobuf, safetensors, torch};
use nn::format::{Checkpoint, artefact, onnx, state_dict::StateDict};
use zoo::resnet;

fn check_state_dict(probe: &mut Probe<'_>) -> Outcome {
    let Ok(dict) = probe.count(StateDict::from_bytes) else {
        return Ok(false);
    };
    for (name, t) in dict.tensors() {
        law(
            t.shape.iter().product::<usize>() == t.values.len(),
            "a tensor's shape fits its values",
        )?;
        law(dict.find(name).is_some(), "a tensor is found by its name")?;
    }
    // who reads state dicts
    law(
        resnet::depth(&dict) >= 2,
        "a network has two layers at least",
    )?;
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
        tensors: dict,
    };
    let options = zoo::Options {
        activation: Some(approx::Activation::Relu),
    };
    let claimed = zoo::identify(&checkpoint, &options);
    law(
        other || trained.is_err() || claimed.is_ok(),
        "a network that can be built is claimed by its family",
    )?;
    Ok(true)
}

/// The laws of a polynomial network and of its file.
fn check_graph(g: &nn::PolyGraph) -> Result<(), String> {
    for n in g.nodes() {
        law(
            n.shape().checked_len().is_some(),
            "a node has a possible shape",
        )?;
        law(
            n.inputs().iter().all(|i| *i < n.id()),
            "a node's inputs come before it",
        )?;
    }
    let bytes = again(artefact::to_bytes(g))?;
    law(
        artefact::recognises(&bytes),
        "a written model is recognised",
    )?;
    let back = again(artefact::from_bytes(&bytes))?;
    law(&back == g, "a model read, written and read is the same")?;
    law(
        again(artefact::to_bytes(&back))? == bytes,
        "the same model gives the same bytes",
    )
}

pub(super) fn all() -> Vec<Decoder> {
    let (tensors, resnet) = (models::tensors(), models::resnet());
    let resnet: Vec<torch::Tensor<'_>> = resnet
        .iter()
        .map(|(n, shape, stride)| models::entry(n, shape, stride))
        .collect();
    let legacy = vec![
        torch::legacy(&tensors, true),
        torch::legacy(&tensors, false),
        torch::legacy(&resnet, false),
    ];
    let zips = vec![
        torch::zip(&tensors, true),
        torch::zip(&tensors, false),
        torch::zip(&resnet, false),
    ];
    let plain = models::safetensors();
    let plain_parts: Vec<_> = plain.iter().map(|f| safetensors::parts(f)).collect();
    let pvm = models::artefacts();
    let pvm_parts: Vec<_> = pvm.iter().map(|f| safetensors::parts(f)).collect();
    let onnx_seeds = models::onnx();
    let trees: Vec<_> = onnx_seeds
        .iter()
        .map(|f| protobuf::parse(f).expect("a valid seed"))
        .collect();
    vec![
        Decoder {
            name: "torch-legacy",
            seeds: legacy.iter().map(torch::Legacy::bytes).collect(),
            limit: text_limit,
            generate: Box::new(move |r| torch::generate_legacy(r, &legacy)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "torch-zip",
            seeds: zips.iter().map(torch::Zip::bytes).collect(),
            limit: text_limit,
            generate: Box::new(move |r| torch::generate_zip(r, &zips)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "safetensors",
            seeds: plain,
            limit: text_limit,
            generate: Box::new(move |r| safetensors::generate(r, &plain_parts)),
            decode: Box::new(check_state_dict),
        },
        Decoder {
            name: "pvm",
            seeds: pvm,
            limit: text_limit,
            generate: Box::new(move |r| safetensors::generate(r, &pvm_parts)),
            decode: Box::new(|probe| {
                let (recognised, read) =
                    probe.count(|b| (artefact::recognises(b), artefact::graph_from_bytes(b)));
                let Ok((graph, metadata)) = read else {
                    return Ok(false);
                };
                law(recognised, "a model that can be read is recognised")?;
                let bytes = again(artefact::graph_to_bytes(&graph, &metadata))?;
                law(
                    again(artefact::graph_from_bytes(&bytes))? == (graph, metadata),
                    "a network read, written and read is the same",
                )?;
                if let Ok(graph) = probe.count(artefact::from_bytes) {
                    check_graph(&graph)?;
                }
                Ok(true)
            }),
        },
        Decoder {
            name: "onnx",
            seeds: onnx_seeds,
            limit: onnx_limit,
            generate: Box::new(move |r| protobuf::generate(r, &trees)),
            decode: Box::new(|probe| {
                let Ok(graph) = probe.count(onnx::from_bytes) else {
                    return Ok(false);
                };
                for n in graph.nodes() {
                    law(
                        n.shape().checked_len().is_some(),
                        "a node has a possible shape",
                    )?;
                    law(
                        n.inputs().iter().all(|i| *i < n.id()),
                        "a node's inputs come before it",
                    )?;
                }
                if let Ok(graph) = nn::PolyGraph::try_from(graph) {
                    // constants as large as the whole picture are not worth the time
                    if graph.nodes().iter().all(|n| n.shape().len() <= 1 << 12) {
                        check_graph(&graph)?;
                    }
                }
                Ok(true)
            }),
        },
    ]
}
