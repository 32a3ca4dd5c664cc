//! Adaptation without a folder, from files or from memory: what was trained comes back as a value.
#![cfg(feature = "train")]

use approx::Activation;
use polyveil::calibrate::{Calibrating, Material, Meaning, calibrate};
use polyveil::data::{self, Answers, Augmentation, Dataset, VectorOptions};
use polyveil::inputs::Source;
use polyveil::network::{self, Network};
use polyveil::nn::Metadata;
use polyveil::progress::{Listener, Progress, silent};
use polyveil::task::{Stated, Task};
use polyveil::training::config::{Data as PictureData, Pixels};
use polyveil::training::score::score;
use polyveil::training::{
    Adapting, Examples, Saving, Scaling, Start, Vectors, adapt_network, adapt_vectors,
};
use polyveil::zoo::resnet::Small;
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn adaptation_without_a_folder_gives_the_network_that_a_folder_holds() {
    let at = std::env::temp_dir().join(format!("polyveil-adapted-{}", std::process::id()));
    std::fs::create_dir_all(&at).expect("a folder");
    let mut rows = String::from("left,right,class\n");
    for i in 0..96 {
        let (left, right) = (f64::from(i % 8) / 7.0, f64::from(i / 12) / 7.0);
        let class = u8::from((left > 0.5) != (right > 0.5));
        writeln!(rows, "{left},{right},{class}").expect("text");
    }
    let data = at.join("rows.csv");
    std::fs::write(&data, rows).expect("writes");
    let start = Start {
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("data/xor.onnx"),
        activation: None,
        seed: 1,
        data: Vectors {
            vectors: data,
            split: None,
            labels: Some("class".into()),
            targets: Vec::new(),
            without: Vec::new(),
            heading: data::Heading::Told,
            classes: Vec::new(),
            held_out: None,
            normalization: Scaling::None,
        },
    };
    let how = Adapting {
        epochs: Some(3.0),
        ..Adapting::default()
    };
    let saving = Saving::default();
    let made = |folder| {
        let made = adapt_vectors(&start, &how, folder, &saving, &mut silent).expect("adapts");
        match made.network {
            Network::Polynomial(graph) => (graph, made.score),
            Network::Trained(..) => panic!("all activations are polynomials"),
        }
    };
    let (graph, score) = made(None);
    let network = network::load(&start.model, None).expect("reads");
    let how_read = VectorOptions {
        answers: Answers::Classes(start.data.labels.clone()),
        ..VectorOptions::default()
    };
    let set = data::Vectors::open(&start.data.vectors, &how_read).expect("reads");
    let at_hand = (network, set);
    let left: Vec<_> = std::fs::read_dir(&at).expect("there").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // a quarter of so few
    assert_eq!(score.answers, 24);

    let run = at.join("run");
    let (same, other) = made(Some(&run));
    let file = network::load_polynomial(&run.join("network.pvm")).expect("reads");
    std::fs::remove_dir_all(&at).expect("there");
    assert_eq!((graph.network(), &score), (same.network(), &other));
    assert_eq!(
        (graph.ranges(), &*graph.metadata().name),
        (same.ranges(), "network")
    );
    assert_eq!(file, *same);

    // the network and the rows themselves in the place of their files
    let (network, set) = at_hand;
    let examples = Examples::Rows(set, start.data.clone());
    let made = adapt_network(network, (examples, 1), &how, 0, &mut silent).expect("adapts");
    let Network::Polynomial(third) = made.network else {
        panic!("all activations are polynomials");
    };
    assert_eq!((third.network(), &made.score), (same.network(), &score));
    assert_eq!(third.ranges(), same.ranges());
}

/// A small network and so many pictures for it, which training takes so.
fn pictures(count: usize) -> (Network, Dataset, PictureData) {
    let (width, height) = (8, 8);
    let network = Small {
        width: 4,
        classes: 2,
        input: (height, width, 3),
        activation: Activation::named("silu").expect("known"),
    };
    let graph = network.graph(3).expect("a graph");
    let labels: Vec<usize> = (0..count).map(|i| i % 2).collect();
    let pixel = |i: usize| ((i * 37 + (i / 192 % 2) * 90) % 256) as u8;
    let shape = data::Shape {
        height,
        width,
        channels: 3,
    };
    let pixels = (0..count * shape.len()).map(pixel).collect();
    let classes = vec!["dark".into(), "bright".into()];
    let set = Dataset::from_pixels(shape, classes, pixels, &labels).expect("a set");
    let data = PictureData {
        train: "made up".into(),
        split: None,
        second: None,
        held_out: None,
        drop_twins: false,
        limit: None,
        labels: Vec::new(),
        normalization: Some("half".into()),
        size: None,
        skip_damaged: false,
        augmentation: Augmentation::default(),
    };
    (Network::Trained(graph, Metadata::default()), set, data)
}

#[test]
fn sets_smaller_than_a_batch_and_what_is_held_out_are_trained_on() {
    let how = Adapting {
        epochs: Some(1.0),
        ..Adapting::default()
    };
    let adapted = |held_out: Option<usize>, how: &Adapting, tell: Listener<'_>| {
        let (network, set, data) = pictures(48);
        let data = PictureData { held_out, ..data };
        adapt_network(network, (Examples::Pictures(set, data), 1), how, 0, tell)
    };
    for (held_out, left) in [(None, 36), (Some(8), 40)] {
        let mut said = Vec::new();
        let mut tell = |p: Progress<'_>| said.push(p.message.to_string());
        let made = adapted(held_out, &how, &mut tell).expect("adapts");
        assert_eq!(made.score.answers, 48 - left);
        let said = said.join("\n");
        for words in [
            format!("{left} pictures to train on, {} held out", 48 - left),
            format!("batches of {left} pictures, all that there are"),
        ] {
            assert!(said.contains(&words), "{words:?} is missing in {said}");
        }
    }
    // a batch that there is is taken as it is, and nothing said of it
    let small = Adapting {
        batch: Some(12),
        ..how.clone()
    };
    let mut tell = |p: Progress<'_>| assert!(!p.message.contains("batches"), "{}", p.message);
    adapted(None, &small, &mut tell).expect("adapts");
    // who names more than there are meant it
    for held_out in [0, 48, 1000] {
        let refused = adapted(Some(held_out), &how, &mut silent).err();
        let refused = refused.expect("too many or none").to_string();
        let named = format!("held_out = {held_out}");
        assert!(
            refused.contains(&named) && refused.contains("48 pictures"),
            "{refused}"
        );
    }
}

#[test]
fn a_network_and_pictures_at_hand_become_a_polynomial_network() {
    let how = Adapting {
        epochs: Some(1.0),
        ..Adapting::default()
    };
    let adapted = |normalization: Option<Pixels>, how: &Adapting| {
        let (network, set, data) = pictures(128);
        let data = PictureData {
            held_out: Some(16),
            normalization,
            ..data
        };
        let examples = Examples::Pictures(set, data);
        adapt_network(network, (examples, 1), how, 0, &mut silent)
    };
    let nothing = Adapting {
        batch: Some(0),
        ..Adapting::default()
    };
    let refused = adapted(Some("half".into()), &nothing).err();
    let refused = refused.expect("no batch").to_string();
    assert!(
        refused.contains("batch") && refused.contains("at least 2"),
        "{refused}"
    );
    let made = adapted(Some("half".into()), &how).expect("adapts");
    assert_eq!(made.score.answers, 16);
    let Network::Polynomial(graph) = &made.network else {
        panic!("all activations are polynomials");
    };
    let Ok(Task::Pictures(task)) = network::task_of_graph(graph) else {
        panic!("it takes pictures");
    };
    assert_eq!(task.normalization().mean, [0.5; 3]);
    let record = graph.metadata().training.as_ref().expect("a record");
    assert!(record.to_string().contains("made up"), "{record}");
    // nobody says how pixels become inputs
    let refused = adapted(None, &how).err().expect("refused").to_string();
    assert!(refused.contains("normalization"), "{refused}");
}

#[test]
fn several_labels_are_scored_one_by_one_and_together() {
    let at = std::env::temp_dir().join(format!("polyveil-labels-{}", std::process::id()));
    std::fs::create_dir_all(&at).expect("a folder");
    let (rows, pvm) = (at.join("rows.csv"), at.join("xor.pvm"));
    let table = "left,right,different,equal\n0,0,0,1\n0,1,1,0\n1,0,1,0\n1,1,0,1\n";
    std::fs::write(&rows, table).expect("writes");
    let names = ["equal", "different"].map(String::from).to_vec();
    let source = Source {
        answers: Answers::Numbers(vec!["different".into(), "equal".into()]),
        ..Source::of(&rows)
    };
    let xor = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/xor.onnx");
    let options = Calibrating {
        degree: 7,
        normalization: Stated::named("none"),
        outputs: Some(Meaning::Labels(names)),
        ..Calibrating::default()
    };
    let material = Material::Inputs(vec![source.clone()]);
    let graph = calibrate(&xor, &material, &options, &mut silent).expect("calibrates");
    let bytes = polyveil::nn::format::artefact::to_bytes(&graph).expect("writes");
    std::fs::write(&pvm, bytes).expect("writes");

    // the file that says nothing of its outputs is read as the one that does
    let stated = Stated::named("none");
    let of = |models: &[&Path], source: &Source| {
        let models: Vec<_> = models.iter().map(|m| m.to_path_buf()).collect();
        score(&models, source, None, &stated, &mut silent)
    };
    let both = of(&[&xor, &pvm], &source).expect("scores");
    let json = both.json();
    assert_eq!(
        (&json[0]["right"], &json[0]["rows"]),
        (&4.into(), &4.into())
    );
    let each = serde_json::json!([
        { "label": "equal", "right": 4, "holds": 2, "found": 2 },
        { "label": "different", "right": 4, "holds": 2, "found": 2 },
    ]);
    assert_eq!(json[0]["labels"], each);
    // a sum of its right answers is one of both labels' at least
    let right = |i: usize| json[1]["labels"][i]["right"].as_u64().expect("a number");
    let all = json[1]["right"].as_u64().expect("a number");
    assert!(all <= right(0).min(right(1)) && all + 4 >= right(0) + right(1));
    let text = both.to_string();
    for words in [
        "right are rows of which all 2 labels are",
        "equal right on 4 of 4, 100.0 %",
        "it holds for 2, found in 2 of these",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    // alone it gives numbers
    let alone = of(&[&xor], &source).expect("scores").json();
    assert!(alone[0]["labels"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(alone[0]["rmse"].as_array().map(Vec::len), Some(2));
    let unknown = Source {
        without: vec!["different".into(), "equal".into()],
        ..Source::of(&rows)
    };
    let refused = of(&[&pvm], &unknown)
        .expect_err("nothing is known")
        .to_string();
    assert!(refused.contains("0 or 1 for each label"), "{refused}");
    std::fs::remove_dir_all(&at).expect("there");
}

#[test]
fn signals_are_scored_by_networks_that_say_nothing_of_them() {
    let at = std::env::temp_dir().join(format!("polyveil-signals-{}", std::process::id()));
    std::fs::create_dir_all(&at).expect("a folder");
    let (rows, model) = (at.join("rows.csv"), at.join("sign.pvm"));
    let mut b = polyveil::nn::Graph::builder();
    let x = b
        .input("x", polyveil::nn::Shape::image(1, 1, 2))
        .expect("valid");
    let x = b
        .add("flat", polyveil::nn::Op::Flatten, &[x])
        .expect("valid");
    let weight = polyveil::nn::Parameter::new("weight", [2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let last = polyveil::nn::Linear {
        weight: weight.expect("finite"),
        bias: None,
    };
    let last = polyveil::nn::Op::Linear(last);
    let y = b.add("last", last, &[x]).expect("valid");
    let graph = b.finish(y).expect("valid");
    let bytes = polyveil::nn::format::artefact::graph_to_bytes(&graph, &Metadata::default());
    std::fs::write(&model, bytes.expect("writes")).expect("writes");
    // the class is the larger of two, but in the last row
    std::fs::write(&rows, "a,b,label\n3,1,0\n1,7,1\n-2,-3,0\n5,6,0\n").expect("writes");
    let source = Source {
        answers: Answers::Classes(None),
        ..Source::of(&rows)
    };
    let stated = Stated::named("none");
    let scores = score(&[model], &source, None, &stated, &mut silent).expect("scores");
    let json = scores.json();
    assert_eq!(
        (&json[0]["right"], &json[0]["rows"]),
        (&3.into(), &4.into())
    );
    // of rows that nobody says the answers of, none is right or wrong
    let unsaid = Source {
        answers: Answers::None,
        without: ["label".to_string()].into(),
        ..source
    };
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/xor.onnx");
    let refused = score(&[model], &unsaid, None, &stated, &mut silent).expect_err("no answers");
    let refused = refused.to_string();
    assert!(refused.contains("which answers are right"), "{refused}");
    std::fs::remove_dir_all(&at).expect("there");
}
