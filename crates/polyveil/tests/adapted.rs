//! Adaptation without a folder, from files or from memory: what was trained comes back as a value.
#![cfg(feature = "train")]

use approx::Activation;
use polyveil::data::{self, Answers, Augmentation, Dataset, VectorOptions};
use polyveil::network::{self, Network};
use polyveil::nn::Metadata;
use polyveil::progress::silent;
use polyveil::task::Task;
use polyveil::training::config::{Data as PictureData, Pixels};
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
            labels: Some("class".into()),
            targets: Vec::new(),
            without: Vec::new(),
            classes: Vec::new(),
            held_out: 24,
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

#[test]
fn a_network_and_pictures_at_hand_become_a_polynomial_network() {
    let (width, height, count) = (8, 8, 128);
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
    let how = Adapting {
        epochs: Some(1.0),
        ..Adapting::default()
    };
    let adapted = |normalization: Option<Pixels>| {
        let data = PictureData {
            train: "made up".into(),
            second: None,
            held_out: 16,
            drop_twins: false,
            limit: None,
            labels: Vec::new(),
            normalization,
            size: None,
            skip_damaged: false,
            augmentation: Augmentation::default(),
        };
        let examples = Examples::Pictures(set.clone(), data);
        let network = Network::Trained(graph.clone(), Metadata::default());
        adapt_network(network, (examples, 1), &how, 0, &mut silent)
    };
    let made = adapted(Some("half".into())).expect("adapts");
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
    let refused = adapted(None).err().expect("refused").to_string();
    assert!(refused.contains("normalization"), "{refused}");
}
