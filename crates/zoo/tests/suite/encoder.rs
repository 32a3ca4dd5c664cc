//! BERT and RoBERTa against references made by `golden/encoders.py`, their files, their padding, and every refusal.

use crate::language::{golden, numbers, tiny, tokens};
use crate::oracle::encoder::Oracle;
use crate::{Stream, assert_close, broken_tensors_are_named};
use nn::calibrate::FitOptions;
use nn::format::artefact;
use nn::format::state_dict::StateDict;
use nn::lower::{Options, adapt};
use nn::{AttentionScheme, Error, Parameter, PowerSoftmax, Purpose, Tensor};
use serde_json::Value;
use std::collections::BTreeSet;
use zoo::bert::{Config, Family, Head};
use zoo::encoder::{Encoder, Start};

const TINY: [&str; 4] = [
    "tiny_bert_masked.json",
    "tiny_bert_classes.json",
    "tiny_roberta_masked.json",
    "tiny_roberta_classes.json",
];

fn power() -> AttentionScheme {
    AttentionScheme::Power(PowerSoftmax::new(4, 0.1).expect("even"))
}

#[test]
fn tiny_encoders_are_hugging_faces() {
    for name in TINY {
        let golden = golden(name);
        let (config, tensors) = tiny(&golden);
        let checkpoint = StateDict::new(tensors.clone());
        let model = Encoder::from_checkpoint(&config, &checkpoint).expect("reads");
        let length = golden["length"].as_u64().expect("a length") as usize;
        for (i, sentence) in golden["sentences"]
            .as_array()
            .expect("some")
            .iter()
            .enumerate()
        {
            let (sentence, types) = (tokens(sentence), tokens(&golden["types"][i]));
            let logits = model
                .logits(&sentence, &types, length, AttentionScheme::Softmax)
                .expect("fits");
            let expected = &golden["logits"][i];
            if expected[0].is_array() {
                let width = logits.shape().dims()[2];
                for (t, row) in expected.as_array().expect("rows").iter().enumerate() {
                    let own: Vec<f64> = logits.values()[t..]
                        .iter()
                        .step_by(width)
                        .copied()
                        .collect();
                    assert_close(&own, &numbers(row), 1e-5);
                }
            } else {
                assert_close(logits.values(), &numbers(expected), 1e-5);
            }
            // the embeddings' norm inside or before the graph
            let graph = model.graph(length, AttentionScheme::Softmax, Start::Sums);
            let input = model.input(&sentence, &types, length, Start::Sums);
            let inside = graph.expect("builds").evaluate(&input.expect("fits"));
            assert_close(
                inside.expect("fits").output.values(),
                logits.values(),
                1e-12,
            );
        }

        // what is written is the checkpoint, and reads as the same model
        assert_eq!(model.to_checkpoint(), checkpoint);
        let folder = std::env::temp_dir().join(format!("polyveil-{}-{name}", std::process::id()));
        model.save(&folder).expect("writes");
        assert_eq!(Encoder::load(&folder).expect("reads"), model);
        std::fs::remove_dir_all(&folder).expect("was written");

        // without the leading name, and with yesterday's names of norms
        let bare = tensors.iter().map(|(n, t)| {
            let n = n
                .strip_prefix("bert.")
                .or(n.strip_prefix("roberta."))
                .unwrap_or(n);
            let n = n.replace("LayerNorm.weight", "LayerNorm.gamma");
            (n.replace("LayerNorm.bias", "LayerNorm.beta"), t.clone())
        });
        let again = Encoder::from_checkpoint(&config, &StateDict::new(bare.collect()));
        assert_eq!(again.expect("reads"), model);
    }
}

#[test]
fn broken_checkpoints_name_their_tensor() {
    for name in TINY {
        let (config, tensors) = tiny(&golden(name));
        broken_tensors_are_named(&tensors, |tensors| {
            Encoder::from_checkpoint(&config, &tensors).expect_err("broken")
        });
    }
}

#[test]
fn configurations_refuse_what_they_do_not_know() {
    for name in TINY {
        let config = golden(name)["config"].clone();
        let refused = |field: &str, value: Value, why: &str| {
            let mut config = config.clone();
            config[field] = value;
            let e = Config::from_json(&config.to_string())
                .expect_err(why)
                .to_string();
            assert!(e.contains(why), "{e}");
        };
        refused("model_type", "t5".into(), "model_type is t5");
        refused("hidden_act", "glu".into(), "hidden_act is glu");
        refused(
            "position_embedding_type",
            "relative_key".into(),
            "position_embedding_type",
        );
        refused("is_decoder", true.into(), "is_decoder");
        refused("hidden_size", Value::Null, "hidden_size is missing");
        refused("num_attention_heads", 5.into(), "5 heads");
        refused("num_hidden_layers", 2000.into(), "2000 layers");
        refused("pad_token_id", 19.into(), "pad_token_id is 19");
        refused("pad_token_id", (-1).into(), "which is no token");
        refused(
            "architectures",
            serde_json::json!(["BertForQuestionAnswering"]),
            "QuestionAnswering",
        );
        let read = Config::from_json(&config.to_string()).expect("known");
        assert_eq!(Config::from_json(&read.to_json()).expect("its own"), read);
    }
    let classes = golden("tiny_roberta_classes.json")["config"].clone();
    let with = |field: &str, value: Value| {
        let mut config = classes.clone();
        config[field] = value;
        Config::from_json(&config.to_string())
    };
    let e = with("id2label", serde_json::json!({"0": "a", "2": "b"})).expect_err("a gap");
    assert!(e.to_string().contains("class 1"), "{e}");
    let e = with("id2label", serde_json::json!({"0": "a"})).expect_err("one");
    assert!(e.to_string().contains("1 classes"), "{e}");
    let e = with("max_position_embeddings", 2.into()).expect_err("no room");
    assert!(e.to_string().contains("2 positions"), "{e}");
    let unnamed = with("id2label", Value::Null).expect("two classes");
    assert!(
        matches!(unnamed.head, Head::Classification { labels } if labels == ["LABEL_0", "LABEL_1"])
    );
}

fn small(head: Head) -> Encoder {
    let config = Config {
        family: Family::Bert,
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 2,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: 13,
            max_length: 9,
        },
        types: 2,
        epsilon: 1e-2,
        padding: 0,
        activation: approx::Activation::Gelu,
        head,
    };
    let mut s = Stream::new(71);
    Encoder::new(config, |name, shape| {
        let gain = f32::from(u8::from(name.ends_with("LayerNorm.weight")));
        let p = s.parameter(shape);
        p.values().iter().map(|v| gain + 0.7 * v).collect()
    })
    .expect("fits")
}

fn classes() -> Head {
    Head::Classification {
        labels: vec!["no".into(), "yes".into()],
    }
}

#[test]
fn padding_is_not_seen() {
    let model = small(classes());
    let sentence = [2, 7, 5, 11, 3];
    for scheme in [AttentionScheme::Softmax, power()] {
        let alone = model.logits(&sentence, &[], 5, scheme).expect("fits");
        let filled = model.logits(&sentence, &[], 9, scheme).expect("fits");
        assert_close(alone.values(), filled.values(), 1e-12);
        let other = model
            .logits(&[2, 7, 5, 11, 4], &[], 9, scheme)
            .expect("fits");
        assert!((other.values()[0] - filled.values()[0]).abs() > 1e-6);
    }
}

#[test]
fn a_lowered_encoder_is_its_graph_with_pieces() {
    let model = small(classes());
    let graph = model.graph(9, power(), Start::Normalized).expect("builds");
    let data: Vec<Tensor> = (1..=40u32)
        .map(|i| {
            let tokens: Vec<u32> = (0..1 + i % 9)
                .map(|t| (i * 31 + t * (i + 5)) % 13)
                .collect();
            model
                .input(&tokens, &[], 9, Start::Normalized)
                .expect("fits")
        })
        .collect();
    let options = Options {
        bits: 18.0,
        activations: FitOptions {
            degree: 30,
            ..FitOptions::default()
        },
        ..Options::default()
    };
    let lowered = adapt(&graph, &data, &options).expect("lowers");
    for x in &data {
        let own = lowered.graph.evaluate(x).expect("fits").output;
        let pieces = graph
            .evaluate_with(&lowered.approximations, x)
            .expect("fits")
            .output;
        assert_close(own.values(), pieces.values(), 1e-9);
        let exact = graph.evaluate(x).expect("fits").output;
        assert_close(own.values(), exact.values(), 1e-3);
    }
    // BERT's norms are named `LayerNorm` and lie in the blocks of attention: they are norms all the same
    let purposes = |of: &str| -> BTreeSet<Purpose> {
        let nodes = lowered.graph.nodes().iter();
        nodes
            .filter(|n| n.name().contains(of))
            .map(|n| n.purpose())
            .collect()
    };
    assert_eq!(
        purposes("attention.output.LayerNorm/root"),
        BTreeSet::from([Purpose::Norm])
    );
    assert_eq!(purposes("LayerNorm"), BTreeSet::from([Purpose::Norm]));
    assert_eq!(purposes("/division"), BTreeSet::from([Purpose::Attention]));
    assert_eq!(
        purposes("/products").union(&purposes("/weighed")).count(),
        1
    );
    assert_eq!(purposes("/unfolded"), BTreeSet::from([Purpose::Repacking]));
    let again = artefact::from_bytes(&artefact::to_bytes(&lowered.graph).expect("writes"));
    assert_eq!(again.expect("reads"), lowered.graph);
}

#[test]
fn weights_come_back_and_heads_change() {
    let model = small(Head::MaskedLanguage);
    let graph = model.graph(4, power(), Start::Sums).expect("builds");
    let zeros = |_: &str, shape: &[usize]| vec![0.0; shape.iter().product()];
    let mut other = Encoder::new(model.config().clone(), zeros).expect("fits");
    other = other.with_weights_of(&graph).expect("the same nodes");
    assert_ne!(other, model, "the embeddings are not in the graph");
    let positions = Parameter::new("positions", [9, 8], model.positions()).expect("finite");
    other = other
        .with_embeddings(model.words(), &positions)
        .expect("fits");
    // token types are added to positions in training
    let tokens = [2, 3, 4];
    let logits = |m: &Encoder| m.logits(&tokens, &[], 5, power()).expect("fits");
    assert_close(logits(&other).values(), logits(&model).values(), 1e-5);
    let wrong = Parameter::new("words", [5, 8], vec![0.0; 40]).expect("finite");
    assert!(matches!(
        other.with_embeddings(&wrong, &positions),
        Err(Error::TensorShape { .. })
    ));

    let classifier = model.with_head(classes(), 5).expect("fits");
    assert_eq!(classifier.words(), model.words());
    let out = classifier.logits(&tokens, &[], 5, power()).expect("fits");
    assert_eq!(out.values().len(), 2);
    let masked = classifier
        .graph(4, power(), Start::Normalized)
        .expect("builds");
    assert!(matches!(
        model.with_weights_of(&masked),
        Err(Error::MissingTensor { tensor, .. }) if tensor.starts_with("cls.")
    ));
}

#[test]
fn sentences_that_do_not_fit() {
    let model = small(classes());
    assert!(model.graph(10, power(), Start::Sums).is_err());
    assert!(model.graph(0, power(), Start::Sums).is_err());
}
