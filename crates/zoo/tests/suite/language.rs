//! Language models against references made by `golden/language.py`, their files, and every refusal.

use crate::oracle::language::Oracle;
use crate::{Stream, assert_close, broken_tensors_are_named};
use nn::format::state_dict::{StateDict, StateTensor};
use nn::{AttentionScheme, Error, Op, Parameter, PowerSoftmax, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use task::tokenizer::Scored as Tokenizer;
use zoo::architecture::Architecture;
use zoo::architecture::gpt_neox;
use zoo::language::LanguageModel;

pub(crate) fn golden(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(path.join(name)).expect("kept in the repository");
    serde_json::from_str(&text).expect("JSON")
}

pub(crate) fn numbers(v: &Value) -> Vec<f64> {
    let list = v.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

pub(crate) fn tokens(v: &Value) -> Vec<u32> {
    numbers(v).into_iter().map(|v| v as u32).collect()
}

/// The network of the project's test data, where it is.
pub(crate) fn stories() -> Option<(Vec<u8>, Vec<u8>)> {
    let root = std::env::var_os("POLYVEIL_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let read = |name: &str| std::fs::read(root.join("lm").join(name)).ok();
    let both = read("stories260K.bin").zip(read("tok512.bin"));
    if both.is_none() {
        eprintln!(
            "SKIPPED: lm/stories260K.bin and lm/tok512.bin not found; set POLYVEIL_SHARED_DATA"
        );
    }
    both
}

/// The first values and the sum of squares of each position's logits.
fn compare(logits: &Tensor, first: &Value, squares: &Value) {
    let length = logits.shape().dims()[2];
    let at = |c: usize, t: usize| logits.values()[c * length + t];
    for (t, row) in first.as_array().expect("rows").iter().enumerate() {
        let row = numbers(row);
        let own: Vec<f64> = (0..row.len()).map(|c| at(c, t)).collect();
        assert_close(&own, &row, 1e-4);
    }
    for (t, &sum) in numbers(squares).iter().enumerate() {
        let own: f64 = (0..logits.shape().dims()[0])
            .map(|c| at(c, t).powi(2))
            .sum();
        assert!((own - sum).abs() < 1e-4 * sum, "position {t}: {own} {sum}");
    }
}

#[test]
fn stories_are_llama2c() {
    let Some((model, _)) = stories() else { return };
    let golden = golden("stories260k.json");
    let model = LanguageModel::from_bytes(&model).expect("reads");
    let logits = model
        .logits(&tokens(&golden["tokens"]), AttentionScheme::Softmax)
        .expect("fits");
    compare(&logits, &golden["first_logits"], &golden["sum_of_squares"]);
    let length = logits.shape().dims()[2];
    for (t, &next) in tokens(&golden["next"]).iter().enumerate() {
        let at = |c: usize| logits.values()[c * length + t];
        let best = (0..512).max_by(|&a, &b| at(a).total_cmp(&at(b)));
        assert_eq!(best, Some(next as usize), "position {t}");
    }
    let power = AttentionScheme::Power(PowerSoftmax::new(4, 1e-3).expect("even"));
    let logits = model
        .logits(&tokens(&golden["power_tokens"]), power)
        .expect("fits");
    compare(
        &logits,
        &golden["power_first_logits"],
        &golden["power_sum_of_squares"],
    );
}

#[test]
fn stories_are_spelled_like_llama2c() {
    let Some((model, tokenizer)) = stories() else {
        return;
    };
    let tokenizer = Tokenizer::from_bytes(&tokenizer).expect("reads");
    assert_eq!(tokenizer.len(), 512);
    for pair in golden("stories260k.json")["encodings"]
        .as_array()
        .expect("a list")
    {
        let text = pair[0].as_str().expect("text");
        let own = tokenizer.encode(text).expect("all bytes");
        assert_eq!(own, tokens(&pair[1]), "{text:?}");
        assert_eq!(tokenizer.decode(&own).expect("known"), text);
    }
    let e = tokenizer.decode(&[1, 512]).expect_err("unknown");
    assert!(
        matches!(
            e,
            task::Error::Token {
                token: 512,
                vocabulary: 512
            }
        ),
        "{e}"
    );
    let model = LanguageModel::from_bytes(&model).expect("reads");
    let e = model.embed(&[1, 600]).expect_err("unknown");
    assert!(matches!(e, task::Error::Token { token: 600, .. }), "{e}");
    let e = model.embed(&[1; 513]).expect_err("too long");
    assert!(
        matches!(
            e,
            task::Error::TooLong {
                had: 513,
                limit: 512
            }
        ),
        "{e}"
    );
    assert!(model.embed(&[]).is_err());
}

/// As `formula` of the script.
fn formula(shape: &[usize], number: usize) -> Vec<f64> {
    let matrix = shape.len() > 1;
    let scale = if matrix { 0.25 } else { 0.1 };
    let base = if matrix || number % 2 == 1 { 0.0 } else { 1.0 };
    let step = 0.7 + 0.013 * number as f64;
    (0..shape.iter().product())
        .map(|i: usize| {
            let v = base + scale * ((i as f64 + 1.0) * step + number as f64).sin();
            f64::from(v as f32)
        })
        .collect()
}

pub(crate) fn tiny(golden: &Value) -> (String, BTreeMap<String, StateTensor>) {
    let tensors = golden["tensors"].as_object().expect("tensors");
    // serde_json's maps are sorted, as the script's list is
    let tensors = tensors.iter().enumerate().map(|(number, (name, shape))| {
        let shape: Vec<usize> = numbers(shape).into_iter().map(|v| v as usize).collect();
        let values = formula(&shape, number);
        (name.clone(), StateTensor { shape, values })
    });
    (golden["config"].to_string(), tensors.collect())
}

const TINY: [&str; 3] = [
    "tiny_gpt_neox_parallel.json",
    "tiny_gpt_neox_sequential.json",
    "tiny_llama.json",
];

#[test]
fn tiny_networks_are_hugging_faces() {
    for name in TINY {
        let golden = golden(name);
        let (config, tensors) = tiny(&golden);
        let checkpoint = StateDict::new(tensors);
        let model = LanguageModel::from_checkpoint(&config, &checkpoint).expect("reads");
        let sequence = tokens(&golden["tokens"]);
        let logits = model
            .logits(&sequence, AttentionScheme::Softmax)
            .expect("fits");
        let rows = golden["logits"].as_array().expect("rows");
        let mut expected = vec![0.0; logits.values().len()];
        for (t, row) in rows.iter().enumerate() {
            for (c, v) in numbers(row).into_iter().enumerate() {
                expected[c * rows.len() + t] = v;
            }
        }
        assert_close(logits.values(), &expected, 1e-5);

        // what is written is the checkpoint, and reads as the same model
        assert_eq!(model.to_checkpoint(), checkpoint);
        let folder = std::env::temp_dir().join(format!("polyveil-{}-{name}", std::process::id()));
        model.save(&folder).expect("writes");
        assert_eq!(LanguageModel::load(&folder).expect("reads"), model);
        std::fs::remove_dir_all(&folder).expect("was written");

        // a graph of any length holds the model's weights
        let graph = model.graph(5, AttentionScheme::Softmax).expect("builds");
        let mut other = LanguageModel::new(model.architecture().clone(), |_, shape| {
            vec![0.5; shape.iter().product()]
        })
        .expect("fits");
        other = other.with_weights_of(&graph).expect("the same nodes");
        assert_ne!(other, model, "the embedding is not in the graph");
        other = other.with_embedding(model.embedding()).expect("fits");
        assert_eq!(other, model);
    }
}

#[test]
fn tied_heads_part_when_trained() {
    let architecture = tied();
    let mut s = Stream::new(51);
    let model = LanguageModel::new(architecture, |_, shape| {
        s.parameter(shape).values().to_vec()
    })
    .expect("fits");
    let graph = model.graph(4, AttentionScheme::Softmax).expect("builds");
    assert_eq!(model.with_weights_of(&graph).expect("its own"), model);
    let head = graph.output();
    let Op::Conv2d(c) = head.op() else {
        panic!("the head is a convolution")
    };
    assert_eq!(c.weight.values(), model.embedding().values());
    // another model's graph stands for a trained one
    let other =
        LanguageModel::new(tied(), |_, shape| s.parameter(shape).values().to_vec()).expect("fits");
    let trained = other.graph(3, AttentionScheme::Softmax).expect("builds");
    let parted = model.with_weights_of(&trained).expect("the same nodes");
    assert!(!parted.architecture().tied());
    assert_eq!(parted.embedding(), model.embedding());
    let input = model.embed(&[1, 2, 3]).expect("known");
    assert_eq!(
        parted
            .graph(3, AttentionScheme::Softmax)
            .expect("builds")
            .evaluate(&input)
            .expect("fits"),
        trained.evaluate(&input).expect("fits")
    );
    let wrong = Parameter::new("e", [5, 17], vec![0.0; 85]).expect("finite");
    assert!(matches!(
        model.with_embedding(&wrong),
        Err(Error::TensorShape { .. })
    ));
}

fn tied() -> Architecture {
    Architecture::GptNeoX(gpt_neox::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: 11,
            max_length: 6,
        },
        epsilon: 1e-5,
        rotary_share: 0.5,
        base: 10_000.0,
        parallel: true,
        tied: true,
    })
}

#[test]
fn broken_checkpoints_name_their_tensor() {
    for name in TINY {
        let (config, tensors) = tiny(&golden(name));
        broken_tensors_are_named(&tensors, |tensors| {
            LanguageModel::from_checkpoint(&config, &tensors).expect_err("broken")
        });
    }
}

#[test]
fn configurations_refuse_what_they_do_not_know() {
    let llama = golden("tiny_llama.json")["config"].clone();
    let neox = golden("tiny_gpt_neox_parallel.json")["config"].clone();
    let with = |config: &Value, field: &str, value: Value| {
        let mut config = config.clone();
        config[field] = value;
        Architecture::from_json(&config.to_string())
    };
    let refused = |config: &Value, field: &str, value: Value, why: &str| {
        let e = with(config, field, value).expect_err(why).to_string();
        assert!(e.contains(why), "{e}");
    };
    for config in [&llama, &neox] {
        refused(config, "hidden_act", "relu".into(), "hidden_act");
        refused(config, "model_type", "bert".into(), "model_type is bert");
        refused(config, "hidden_size", 0.into(), "hidden_size is 0");
        refused(config, "hidden_size", Value::Null, "hidden_size is missing");
        refused(config, "hidden_size", u64::MAX.into(), "whole number");
        refused(config, "num_hidden_layers", 2000.into(), "2000 layers");
        refused(config, "tie_word_embeddings", 3.into(), "true or false");
        let scaling = serde_json::json!({"type": "linear", "factor": 2.0});
        refused(config, "rope_scaling", scaling, "rope_scaling");
        let scaled = serde_json::json!({"rope_type": "yarn"});
        refused(config, "rope_parameters", scaled, "rope_type");
        refused(config, "num_attention_heads", 5.into(), "5 heads");
    }
    refused(&llama, "num_key_value_heads", 3.into(), "don't divide");
    refused(&llama, "head_dim", 5.into(), "pairs");
    refused(&llama, "attention_bias", true.into(), "attention_bias");
    refused(&llama, "rms_norm_eps", (-1.0).into(), "above 0");
    refused(&neox, "rotary_pct", 0.4.into(), "no pairs");
    assert!(Architecture::from_json("[]").is_err());
    assert!(Architecture::from_json("{").is_err());
    for config in [&llama, &neox] {
        let read = Architecture::from_json(&config.to_string()).expect("known");
        let again = Architecture::from_json(&read.to_json()).expect("its own");
        assert_eq!(read, again);
    }
}

/// A model file of this header with as many zeros as it announces.
fn file(header: [i32; 7], numbers: usize) -> Vec<u8> {
    let head = header.iter().flat_map(|v| v.to_le_bytes());
    head.chain(std::iter::repeat_n(0, 4 * numbers)).collect()
}

#[test]
fn broken_files_of_llama2c() {
    // width 4, hidden 2, 1 layer, 2 heads of 2, 1 key/value head, 3 tokens, length 5
    let header = [4, 2, 1, 2, 1, 3, 5];
    let numbers = 3 * 4 + (2 * 4 + 2 * 16 + 2 * 8 + 3 * 8) + 4 + 2 * 5;
    let model = LanguageModel::from_bytes(&file(header, numbers)).expect("reads");
    assert!(model.architecture().tied());
    let own = [4, 2, 1, 2, 1, -3, 5];
    let model = LanguageModel::from_bytes(&file(own, numbers + 12)).expect("reads");
    assert!(!model.architecture().tied());
    for length in 0..28 + 4 * numbers {
        let e = LanguageModel::from_bytes(&file(header, numbers)[..length]).expect_err("cut");
        assert!(matches!(e, Error::Truncated { .. }), "{e}");
    }
    let e = LanguageModel::from_bytes(&file(header, numbers + 1)).expect_err("longer");
    assert!(matches!(e, Error::Malformed { .. }), "{e}");
    for (field, value) in [
        (0, 0),
        (0, -4),
        (0, 5),
        (1, i32::MAX),
        (2, 2000),
        (3, 3),
        (4, 3),
        (5, 0),
        (5, i32::MIN),
        (6, 0),
    ] {
        let mut header = header;
        header[field] = value;
        assert!(
            LanguageModel::from_bytes(&file(header, numbers)).is_err(),
            "{field} {value}"
        );
    }
    // names of layers that cannot be there are not made
    let deep = [4, 2, 300, 2, 1, 3, 5];
    let e = LanguageModel::from_bytes(&file(deep, numbers)).expect_err("no room");
    assert!(e.to_string().contains("300 layers"), "{e}");
    // sizes whose product overflows
    let huge = [1 << 24, 1 << 24, 1 << 24, 1, 1, 1 << 24, 1 << 24];
    assert!(LanguageModel::from_bytes(&file(huge, 10)).is_err());
}

/// A tokenizer file of these pieces.
fn pieces(list: &[(&[u8], f32)]) -> Vec<u8> {
    let mut bytes = 7i32.to_le_bytes().to_vec();
    for (piece, score) in list {
        bytes.extend(score.to_le_bytes());
        bytes.extend((piece.len() as i32).to_le_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes
}

#[test]
fn small_tokenizers() {
    let list: [(&[u8], f32); 8] = [
        (b"<unk>", 0.0),
        (b"<s>", 0.0),
        (b"</s>", 0.0),
        (b" ", -1.0),
        (b"a", -1.0),
        (b"b", -1.0),
        (b"ab", -3.0),
        (b"ba", -2.0),
    ];
    let bytes = pieces(&list);
    let t = Tokenizer::from_bytes(&bytes).expect("reads");
    // "ba" scores better than the "ab" before it
    assert_eq!(t.encode("aba").expect("spelled"), [1, 3, 4, 7]);
    assert_eq!(t.encode("").expect("spelled"), [1]);
    assert_eq!(t.decode(&[1, 3, 4, 7, 2]).expect("known"), "aba");
    let e = t.encode("ac").expect_err("no c");
    assert!(matches!(e, task::Error::Encoding(b'c')), "{e}");
    for length in 0..bytes.len() {
        // a cut between tokens leaves a shorter list, which is whole
        let whole = (4..=list.len()).any(|n| pieces(&list[..n]).len() == length)
            || pieces(&list[..3]).len() == length;
        assert_eq!(
            Tokenizer::from_bytes(&bytes[..length]).is_ok(),
            whole,
            "{length}"
        );
    }
    let mut negative = bytes.clone();
    negative[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    assert!(matches!(
        Tokenizer::from_bytes(&negative),
        Err(task::Error::Malformed { .. })
    ));
    let mut nan = bytes;
    nan[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(Tokenizer::from_bytes(&nan).is_err());
}
