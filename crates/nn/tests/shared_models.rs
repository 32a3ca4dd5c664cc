//! Published networks on real pictures: import is proven by their accuracies.
//!
//! Needs the shared data (`POLYVEIL_SHARED_DATA`, or `../shared/data` beside the workspace); says so and passes without.

use approx::Activation;
use polyveil_nn::format::{DEFAULT_LIMIT, state_dict::StateDict};
use polyveil_nn::models::resnet_cifar;
use polyveil_nn::{Graph, picture};
use rayon::prelude::*;
use std::path::PathBuf;

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("POLYVEIL_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let file = root.join(path);
    if file.exists() {
        return Some(file);
    }
    eprintln!("SKIPPED: {path} not found; set POLYVEIL_SHARED_DATA");
    None
}

fn load(name: &str, activation: Activation) -> Option<Graph> {
    let weights = StateDict::load(&shared(name)?, DEFAULT_LIMIT).expect("reads");
    assert_eq!(resnet_cifar::depth(&weights), 20);
    Some(resnet_cifar::from_state_dict(&weights, activation).expect("builds"))
}

fn top1(graph: &Graph) -> Option<f64> {
    let records = picture::load_cifar(&shared("cifar10/test_lossless_500.bin")?).expect("reads");
    let normalization = picture::imagenet_normalization();
    let right = records
        .par_iter()
        .filter(|r| {
            let input = r.to_tensor(&normalization).expect("3 channels");
            graph.evaluate(&input).expect("fits").output.argmax() == usize::from(r.label)
        })
        .count();
    Some(100.0 * right as f64 / records.len() as f64)
}

#[test]
fn silu_network_from_torch_zip() {
    let Some(accuracy) = load("cnn/resnet20.silu.model", Activation::Silu).and_then(|g| top1(&g))
    else {
        return;
    };
    println!("resnet20.silu.model: {accuracy} %");
    assert!((accuracy - 93.6).abs() <= 0.4, "{accuracy}");
}

#[test]
fn relu_network_from_legacy_pickle() {
    let Some(accuracy) = load("cnn/resnet20-12fca82f.th", Activation::Relu).and_then(|g| top1(&g))
    else {
        return;
    };
    println!("resnet20-12fca82f.th: {accuracy} %");
    assert!((accuracy - 91.0).abs() <= 0.4, "{accuracy}");
}
