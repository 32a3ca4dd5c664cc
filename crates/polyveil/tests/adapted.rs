//! Adaptation without a folder: what was trained comes back as a value.
#![cfg(feature = "train")]

use polyveil::network::{self, Network};
use polyveil::progress::silent;
use polyveil::training::{Adapting, Saving, Scaling, Start, Vectors, adapt_vectors};
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
}
