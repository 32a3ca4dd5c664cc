//! A network for pictures whose layers lie in coefficients, through files: client, server, client; on a toy ring.

#[path = "support/npz.rs"]
mod npz;
mod support;

use approx::Activation;
use image::ImageFormat;
use nn::calibrate::FitOptions;
use nn::lower::{Options, Outliers, adapt};
use nn::{Metadata, PolyGraph, Tensor};
use npz::npz;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use support::{Folder, command, done, refused};
use task::{Normalization, Outputs, Picture, Pictures, Task};
use zoo::resnet::Small;

const NAMES: [&str; 3] = ["cat", "dog", "hen"];

/// Three convolutions of stride 2, random weights.
fn trained() -> nn::Graph {
    let small = Small {
        width: 4,
        classes: NAMES.len(),
        input: (16, 16, 3),
        activation: Activation::Silu,
    };
    small.graph(5).expect("valid")
}

/// The same, calibrated on pictures of noise.
fn network(pictures: &[Tensor]) -> PolyGraph {
    let graph = trained();
    let options = Options {
        activations: FitOptions {
            degree: 4,
            margin: 0.5,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let graph = adapt(&graph, pictures, &options).expect("finite").graph;
    let outputs = Outputs::Classes(NAMES.map(Into::into).into());
    let task = Pictures::new(graph.input_shape(), Normalization::imagenet(), outputs);
    graph.with_metadata(Metadata {
        name: "small".into(),
        task: Some(Task::Pictures(task.expect("fits")).to_bytes()),
        ..Metadata::default()
    })
}

/// A picture of noise.
fn png(seed: u64) -> Vec<u8> {
    let noise = zoo::random::uniform(seed, "pixels", 16 * 16 * 3, 127.0);
    let pixels: Vec<u8> = noise.iter().map(|v| (v + 128.0) as u8).collect();
    let picture = image::RgbImage::from_raw(16, 16, pixels).expect("as many");
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("encodes");
    bytes.into_inner()
}

#[test]
fn a_set_of_pictures_comes_by_a_redirect() {
    let folder = Folder::new("redirect");
    let graph = trained();
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &Metadata::default());
    let trained = folder.file("trained.pvm", &bytes.expect("writes"));
    let noise = zoo::random::uniform(7, "pixels", 12 * 16 * 16 * 3, 127.0);
    let pixels: Vec<u8> = noise.iter().map(|v| (v + 128.0) as u8).collect();
    let labels: Vec<u8> = (0..12).map(|i| i % 3).collect();
    let images = ("images.npy", "(12, 16, 16, 3)", &pixels[..]);
    let set = npz(&[images, ("labels.npy", "(12, 1)", &labels)]);
    let set = folder.file("set.npz", &set);
    let calibrate = |data: &str, made: &str| {
        format!("calibrate {trained} --data {data} --normalization half --degree 4 -o {made}")
    };
    let made = ["named.pvm", "redirected.pvm"].map(|name| folder.path(name));
    done(&calibrate(&set, &made[0]), &[]);
    let mut redirected = command(&calibrate("/dev/stdin", &made[1]), &[]);
    let set = std::fs::File::open(set).expect("there");
    let out = redirected.stdin(Stdio::from(set)).output().expect("starts");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let [named, redirected] = made.map(|path| {
        let graph = nn::format::artefact::load(Path::new(&path), 1 << 24);
        graph.expect("reads")
    });
    assert_eq!(named.network(), redirected.network());
    assert_eq!(named.ranges(), redirected.ranges());
}

#[test]
fn calibration_is_on_the_part_that_is_named() {
    let folder = Folder::new("parts");
    let bytes = nn::format::artefact::graph_to_bytes(&trained(), &Metadata::default());
    let trained = folder.file("trained.pvm", &bytes.expect("writes"));
    let pixels = zoo::random::uniform(7, "pixels", 12 * 16 * 16 * 3, 127.0);
    let pixels: Vec<u8> = pixels.iter().map(|v| (v + 128.0) as u8).collect();
    let labels: Vec<u8> = (0..12).map(|i| i % 3).collect();
    let (four, eight) = ("(4, 16, 16, 3)", "(8, 16, 16, 3)");
    let set = npz(&[
        ("val_images.npy", four, &pixels[..4 * 768]),
        ("val_labels.npy", "(4,)", &labels[..4]),
        ("test_images.npy", eight, &pixels[4 * 768..]),
        ("test_labels.npy", "(8,)", &labels[4..]),
    ]);
    let (set, made) = (folder.file("set.npz", &set), folder.path("made.pvm"));
    let calibrate = |part: &str| {
        format!(
            "calibrate {trained} --data {set} {part} --normalization half --degree 4 -o {made} --force"
        )
    };
    let there = ["set.npz", "validation, test"];
    refused(
        &calibrate(""),
        &[],
        &[&there[..], &["--split PART"]].concat(),
    );
    // nobody takes another part than the one that is named
    let named = ["the split train"];
    refused(
        &calibrate("--split train"),
        &[],
        &[&there[..], &named].concat(),
    );
    for (part, count) in [("validation", 4), ("test", 8)] {
        let (_, notes) = done(&calibrate(&format!("--split {part}")), &[]);
        let says = format!("calibrating on {count} inputs");
        assert!(notes.contains(&says), "{notes}");
    }
}

#[test]
fn several_labels_of_pictures_come_as_an_array() {
    let folder = Folder::new("several");
    let (shape, labels) = (nn::Shape::image(3, 16, 16), NAMES.map(Into::into).into());
    let task = Pictures::new(shape, Normalization::imagenet(), Outputs::Labels(labels));
    let task = Task::Pictures(task.expect("fits")).to_bytes();
    let pictures: Vec<Tensor> = (0..2)
        .map(|seed| {
            let noise = zoo::random::uniform(seed, "pixels", shape.len(), 1.0);
            let values = noise.iter().map(|v| f64::from(*v)).collect();
            Tensor::new(shape, values).expect("fits")
        })
        .collect();
    let graph = network(&pictures);
    let graph = graph.with_metadata(Metadata {
        task: Some(task),
        ..Metadata::default()
    });
    let pvm = nn::format::artefact::to_bytes(&graph).expect("writes");
    let pvm = folder.file("labels.pvm", &pvm);
    let of = |data: &str| format!("evaluate --model {pvm} --data {data} -o {data}.jsonl");
    let set = |name: &str, shape: &str, labels: &[u8]| {
        let images = ("images.npy", "(2, 16, 16, 3)", &[9; 2 * 768][..]);
        folder.file(name, &npz(&[images, ("labels.npy", shape, labels)]))
    };
    let two = set("two.npz", "(2, 2)", &[0, 1, 1, 1]);
    refused(&of(&two), &[], &["2 labels for each picture", "gives 3"]);
    let classes = set("classes.npz", "(2, 1)", &[0, 2]);
    refused(
        &of(&classes),
        &[],
        &["one class for each picture", "(N, 3)"],
    );
    let odd = set("odd.npz", "(2, 3)", &[0, 1, 1, 1, 2, 0]);
    refused(&of(&odd), &[], &["labels", "row 1, column 1", "0 or 1"]);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON alone on stdout")
}

#[test]
fn a_network_in_coefficients_goes_the_whole_way() {
    let folder = Folder::new("coefficients");
    let path = |name: &str| folder.path(name);
    let names: Vec<String> = (0..12)
        .map(|i| format!("set/{}/{i}.png", NAMES[i % 3]))
        .collect();
    for name in NAMES {
        std::fs::create_dir_all(path(&format!("set/{name}"))).expect("a folder");
    }
    for (seed, name) in (0..).zip(&names) {
        folder.file(name, &png(seed));
    }
    let inputs: Vec<Tensor> = (names.iter())
        .map(|name| {
            let picture = Picture::load(Path::new(&path(name))).expect("reads");
            picture
                .to_tensor(nn::Shape::image(3, 16, 16), &Normalization::imagenet())
                .expect("of that size")
        })
        .collect();
    let graph = network(&inputs);
    folder.file(
        "small.pvm",
        &nn::format::artefact::to_bytes(&graph).expect("writes"),
    );
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_coefficients(11, 2).expect("a preset")),
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
    let client = client
        .expect("its task")
        .write(Vec::new(), "x")
        .expect("writes");
    folder.file("toy.client", &client);
    // its weights in a file of their own
    let (file, weights) = (plan.plan())
        .write_beside((Vec::new(), "x"), (Vec::new(), "y"))
        .expect("writes");
    folder.file("toy.plan", &file);
    folder.file("toy.weights", &weights);
    let (text, _) = done(&format!("inspect {}", path("toy.weights")), &[]);
    assert!(text.contains("weights of a plan"), "{text}");

    // what the plan is, in words
    let [pvm, toy, key, keys] = [
        "small.pvm",
        "toy.plan",
        "keys/client.key",
        "keys/evaluation.keys",
    ]
    .map(path);
    let (text, _) = done(&format!("inspect {toy}"), &[]);
    for words in [
        "half bootstrap",
        "weigh",
        "slots to coefficients",
        "toy-coefficients-11",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(
        json(&done(&format!("inspect {toy} --json"), &[]).0)["bootstraps"],
        3
    );

    done(
        &format!(
            "keygen {} -o {} --insecure-toy",
            path("toy.client"),
            path("keys")
        ),
        &[],
    );
    let (image, input, answer) = (path(&names[0]), path("x.input"), path("x.answer"));
    // a picture from a pipe; a plan whose weights lie beside it, which a pipe has not
    let piped = |arguments: &str, file: &str| {
        let mut child = command(arguments, &[]);
        let child = child.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        let bytes = std::fs::read(file).expect("reads");
        pipe.write_all(&bytes).expect("is read");
        drop(pipe);
        let out = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.success(), said)
    };
    let (fine, said) = piped(&format!("encrypt --key {key} --image - -o {input}"), &image);
    assert!(fine, "{said}");
    let (fine, said) = piped("inspect -", &toy);
    assert!(
        !fine && said.contains("which a pipe does not have"),
        "{said}"
    );
    let svg = path("x.svg");
    let run = format!(
        "run --plan {toy} --keys {keys} --input {input} -o {answer} --check --key {key} --json --report {svg}"
    );
    let report = json(&done(&run, &[]).0);
    let purposes = report["purposes"].as_array().expect("a list");
    let seconds = |name: &str| {
        let found = purposes.iter().find(|p| p["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is missing in {purposes:?}"))["predicted_cpu_seconds"].as_f64()
    };
    assert!(seconds("matrices of weights") > Some(0.0) && seconds("bootstrapping") > Some(0.0));
    let svg = std::fs::read_to_string(svg).expect("a drawing");
    assert!(svg.contains("layer1") || svg.contains("act1"), "{svg}");

    // the class of the network in the clear
    let clear = graph.evaluate(&inputs[0]).expect("runs").output;
    let had = json(&done(&format!("decrypt --key {key} {answer} --json"), &[]).0);
    assert_eq!(had["label"], NAMES[clear.argmax()], "{had}");
    let largest = clear.values().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (value, want) in had["logits"]
        .as_array()
        .expect("logits")
        .iter()
        .zip(clear.values())
    {
        let value = value.as_f64().expect("a number");
        assert!((value - want).abs() < 1e-2 * largest, "{value}: {want}");
    }

    // on labelled pictures beside the network in the clear
    let (set, results) = (path("set"), path("results.jsonl"));
    let evaluate =
        format!("evaluate --model {pvm} --plan {toy} --data {set} --count 2 --json -o {results}");
    let summary = json(&done(&evaluate, &[]).0);
    assert_eq!(summary["refused"], 0, "{summary}");

    // again, over the same file
    done(
        &format!("run --plan {toy} --keys {keys} --input {input} -o {answer} --force"),
        &[],
    );
}

#[test]
fn layers_lie_where_the_user_says() {
    let folder = Folder::new("layers");
    let inputs: Vec<Tensor> = (0..3)
        .map(|seed| {
            let values = zoo::random::uniform(seed, "input", 3 * 16 * 16, 2.0);
            let values = values.into_iter().map(f64::from).collect();
            Tensor::new(nn::Shape::image(3, 16, 16), values).expect("fits")
        })
        .collect();
    let bytes = nn::format::artefact::to_bytes(&network(&inputs)).expect("writes");
    let (pvm, plan) = (folder.file("small.pvm", &bytes), folder.path("small.plan"));
    let compile = format!("compile {pvm} -o {plan} --force --json --machine shipped --layers");
    let said = |layers: &str| {
        let report = json(&done(&format!("{compile} {layers}"), &[]).0);
        report["parameters"].as_str().expect("a name").to_string()
    };
    assert_eq!(said("coefficients"), "coefficients-16-2");
    let (text, _) = done(&format!("inspect {plan}"), &[]);
    assert!(
        text.contains("half bootstrap") && text.contains("parameters   coefficients-16-2"),
        "{text}"
    );
    assert!(said("slots").starts_with("levelled-"));
    // a network without bootstraps is cheaper than any with
    assert!(said("cheapest").starts_with("levelled-"));
    let (text, _) = done(&format!("inspect {plan}"), &[]);
    assert!(text.contains("layers not in coefficients: "), "{text}");
    let out = command(&format!("{compile} diagonals"), &[])
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(
        !out.status.success() && text.contains("cheapest, slots, coefficients"),
        "{text}"
    );
}
