//! Plain texts: vocabularies of word pieces, labelled sentences, passages and questions, `config.json` of encoders.

use super::sets::MEMORY_LIMIT;
use crate::archives::{join, split};
use crate::bytes;
use crate::decoder::{Decoder, Law, law, same, text_limit};
use crate::json;
use crate::random::Random;
use crate::scratch::Scratch;
use data::Sentences;
use task::tokenizer::WordPiece;

fn check_vocabulary(vocabulary: WordPiece) -> Law {
    for text in ["", "Good films", "a\u{301} \u{4e2d}\u{6587} \u{0} x.y"] {
        let tokens = vocabulary.encode(text);
        let known = tokens.iter().all(|&t| (t as usize) < vocabulary.len());
        law(known, "tokens of a text are tokens")?;
    }
    Ok(())
}

fn check_sentences(set: &Sentences) -> Law {
    let mut lines = set.lines().iter();
    law(
        !set.is_empty() && lines.all(|(text, label)| !text.is_empty() && *label < set.classes()),
        "every sentence has words and a class",
    )
}

/// Parts of lines twice, doubled, changed.
fn lines(r: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut text = seed.to_vec();
    for _ in 0..r.few() {
        let at = r.below(text.len() + 1);
        match r.below(4) {
            0 => text.insert(at, *r.pick(b"\t\n\r\" 019\xff")),
            1 => drop(text.drain(r.span(text.len()))),
            2 => {
                let part = text[r.span(text.len())].to_vec();
                text.splice(at..at, part);
            }
            _ => bytes::mutate(r, &mut text),
        }
    }
    text
}

fn limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + MEMORY_LIMIT as usize
}

pub(super) fn all() -> Vec<Decoder> {
    let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n.\n".to_vec();
    let read = |b: &[u8]| WordPiece::from_text(&String::from_utf8_lossy(b));
    let vocabulary = Decoder::new("vocabulary", vec![vocabulary])
        .mutants(|r, seeds| lines(r, &seeds[0]))
        .reads(read, check_vocabulary);

    let labelled = b"0\tgood films\n1\ta bad one\n0\tagain\n".to_vec();
    let scratch = Scratch::new("sentences");
    let sentences = Decoder::new("sentences", vec![labelled])
        .within(limit)
        .mutants(|r, seeds| lines(r, &seeds[0]))
        .decodes(move |probe| {
            let path = scratch.write("a.tsv", probe.bytes);
            match probe.count(|_| Sentences::open(&path, None)) {
                Ok(set) => check_sentences(&set).map(|()| true),
                Err(_) => Ok(false),
            }
        });

    let passages = b"{\"text\": \"they went to the film\"}\n{\"text\": \"a b\"}\n".to_vec();
    let asked = b"{\"goal\": \"to x\", \"sol1\": \"a\", \"sol2\": \"b\"}\n".to_vec();
    let seeds = vec![
        join(0, &[passages, Vec::new()]),
        join(1, &[asked, b"1\n".to_vec()]),
    ];
    let scratch = Scratch::new("questions");
    let questions = Decoder::new("questions", seeds)
        .within(limit)
        .mutants(|r, seeds| {
            let seed: &Vec<u8> = r.pick(seeds);
            let (flags, parts) = split(seed, 2);
            let parts: Vec<Vec<u8>> = parts.iter().map(|part| lines(r, part)).collect();
            join(flags, &parts)
        })
        .decodes(move |probe| {
            let (flags, parts) = split(probe.bytes, 2);
            let path = scratch.write("a.jsonl", parts[0]);
            let labels = scratch.write("a.lst", parts[1]);
            let read = probe.count(|_| match flags & 1 {
                0 => data::tasks::lambada(&path).map(|all| {
                    all.iter()
                        .all(|p| !p.context.is_empty() && !p.word.is_empty())
                }),
                _ => data::tasks::piqa(&path, &labels).map(|all| {
                    all.iter()
                        .all(|q| q.right < 2 && q.answers.iter().all(|a| !a.is_empty()))
                }),
            });
            match read {
                Ok(whole) => law(whole, "passages and questions are whole").map(|()| true),
                Err(_) => Ok(false),
            }
        });

    let bert = r#"{"model_type": "bert", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0, "id2label": {"0": "bad", "1": "good"}, "architectures": ["BertForSequenceClassification"]}"#;
    let config = |b: &[u8]| zoo::bert::Config::from_json(&String::from_utf8_lossy(b));
    let config = Decoder::new("encoder-config", vec![bert.into()])
        .mutants(json::generate)
        .reads(config, |c| {
            same(&c, zoo::bert::Config::from_json(&c.to_json()))
        });
    let vit = r#"{"model_type": "vit", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "num_channels": 3, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "qkv_bias": true, "id2label": {"0": "bad", "1": "good"}, "architectures": ["ViTForImageClassification"]}"#;
    let clip = r#"{"model_type": "clip", "projection_dim": 6, "architectures": ["CLIPModel"], "vision_config": {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "hidden_act": "quick_gelu"}}"#;
    let vision = |b: &[u8]| zoo::vit::Config::from_json(&String::from_utf8_lossy(b));
    let vision = Decoder::new("vision-config", vec![vit.into(), clip.into()])
        .mutants(json::generate)
        .reads(vision, |c| {
            law(
                c.check().is_ok() && c.sizes.max_length > 1,
                "sizes fit each other",
            )
        });
    let lite = r#"{"architecture": "tf_efficientnet_lite0", "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    let timms = |b: &[u8]| zoo::efficientnet::Config::from_json(&String::from_utf8_lossy(b));
    let timms = Decoder::new("timm-config", vec![lite.into()])
        .mutants(json::generate)
        .reads(timms, |c| {
            let divides = c.normalization.deviation.iter().all(|d| *d > 0.0);
            law(
                c.size.0.min(c.size.1) > 0 && divides,
                "sizes and deviations are there",
            )
        });
    vec![vocabulary, sentences, questions, config, vision, timms]
}
