//! Language models: llama2.c's files, `config.json`.

use crate::decoder::{Decoder, Law, again, law, model_limit, same};
use crate::random::Random;
use crate::{bytes, json};
use nn::AttentionScheme;
use task::tokenizer::Scored;
use zoo::architecture::Architecture;
use zoo::language::LanguageModel;

/// Numbers of 4 bytes in a header; the rest of the file is as long as they announce, mostly.
const HEADER: usize = 7;

/// A model of a few numbers; its own output head where `own`.
pub(super) fn model(own: bool) -> Vec<u8> {
    let (width, hidden, layers, heads, kv, vocabulary, length) = (4, 4, 2, 2, 1, 3, 4);
    let sign = if own { -1 } else { 1 };
    let header = [width, hidden, layers, heads, kv, sign * vocabulary, length];
    let mut file: Vec<u8> = header.iter().flat_map(|v: &i32| v.to_le_bytes()).collect();
    fill(&mut file);
    file
}

/// What the header announces, if that is little.
fn announced(file: &[u8]) -> Option<usize> {
    let mut fields = [0i64; HEADER];
    for (field, raw) in fields.iter_mut().zip(file.as_chunks::<4>().0) {
        *field = i32::from_le_bytes(*raw).into();
    }
    let [width, hidden, layers, heads, kv, vocabulary, length] = fields;
    let own = vocabulary < 0;
    if fields.iter().any(|f| f.abs() > 64 || *f == 0) {
        return None;
    }
    let head = width / heads;
    let layer = 2 * width + 2 * width * width + 2 * kv * head * width + 3 * hidden * width;
    let embedding = vocabulary.abs() * width;
    let numbers =
        embedding * if own { 2 } else { 1 } + layers * layer + width + 2 * length * (head / 2);
    usize::try_from(4 * (HEADER as i64 + numbers))
        .ok()
        .filter(|n| *n <= bytes::MOST)
}

fn fill(file: &mut Vec<u8>) {
    if let Some(length) = announced(file) {
        let mut i = 0u32;
        file.truncate(length);
        while file.len() < length {
            i += 1;
            file.extend((0.25 + f32::from((i % 7) as u8) / 8.0).to_le_bytes());
        }
    }
}

fn generate_model(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut file = r.pick(seeds).clone();
    for _ in 0..=r.below(3) {
        match r.below(4) {
            0 | 1 => {
                let at = 4 * r.below(HEADER);
                let value = match r.below(3) {
                    0 => r.boundary() as i32,
                    1 => r.below(20) as i32 - 4,
                    _ => *r.pick(&[1, 2, 4, 6, 8, -3, 1 << 24, i32::MIN]),
                };
                bytes::put(&mut file, at, &value.to_le_bytes());
            }
            _ => bytes::mutate(r, &mut file),
        }
    }
    if !r.one_in(4) && file.len() >= 4 * HEADER {
        fill(&mut file);
    }
    file
}

/// Unknown, begin, end, all bytes if `whole` (a tokenizer need not spell everything), and some longer pieces.
fn tokenizer(whole: bool) -> Vec<u8> {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    if whole {
        pieces.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    }
    pieces.extend([" ", "a", "b", "ab", " a", "ä", " ab"].map(String::from));
    let mut file = 6i32.to_le_bytes().to_vec();
    for (i, piece) in pieces.iter().enumerate() {
        file.extend((i as f32).to_le_bytes());
        file.extend((piece.len() as i32).to_le_bytes());
        file.extend(piece.bytes());
    }
    file
}

fn configs() -> Vec<Vec<u8>> {
    let llama = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 5, "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true}"#;
    let pythia = r#"{"model_type": "gpt_neox", "hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 5, "max_position_embeddings": 16, "layer_norm_eps": 1e-5, "rotary_emb_base": 10000, "rotary_pct": 0.5, "hidden_act": "gelu", "use_parallel_residual": true, "tie_word_embeddings": false}"#;
    [llama, pythia].map(|s| s.as_bytes().to_vec()).to_vec()
}

/// What is checked of every accepted model.
pub(super) fn check_model(model: &LanguageModel) -> Law {
    let config = model.architecture().to_json();
    same(
        model,
        LanguageModel::from_checkpoint(&config, &model.to_checkpoint()),
    )?;
    let graph = model.graph(1, AttentionScheme::Softmax);
    law(graph.is_ok(), "an accepted model is a network")
}

fn check_embedding(model: LanguageModel) -> Law {
    check_model(&model)?;
    let sizes = model.architecture().sizes();
    if sizes.vocabulary > 1 {
        let x = again(model.embed(&[1]))?;
        let holds = x.values().len() == sizes.width;
        law(holds, "a token has the model's width")?;
    }
    Ok(())
}

fn check_tokenizer(tokenizer: Scored) -> Law {
    for text in ["", "ab a bä", " \u{1F600}a  b"] {
        // refused where a character has neither token nor bytes
        if let Ok(tokens) = tokenizer.encode(text) {
            let known = tokens.iter().all(|&t| (t as usize) < tokenizer.len());
            law(known, "tokens of a text are tokens")?;
            // pieces need not be text
            let _ = tokenizer.decode(&tokens);
        }
    }
    Ok(())
}

fn check_config(architecture: Architecture) -> Law {
    let config = architecture.to_json();
    same(&architecture, Architecture::from_json(&config))?;
    // without its tensors it is refused by name, whatever its sizes
    let none = nn::format::state_dict::StateDict::new(Default::default());
    let model = LanguageModel::from_checkpoint(&config, &none);
    law(model.is_err(), "a model needs its tensors")
}

pub(super) fn all() -> Vec<Decoder> {
    let config = |b: &[u8]| Architecture::from_json(&String::from_utf8_lossy(b));
    let texts = configs();
    for text in &texts {
        config(text).expect("a valid seed");
    }
    vec![
        Decoder::new("llama2c", vec![model(false), model(true)])
            .mutants(generate_model)
            .within(model_limit)
            .reads(LanguageModel::from_bytes, check_embedding),
        Decoder::new("tokenizer", vec![tokenizer(true), tokenizer(false)])
            .reads(Scored::from_bytes, check_tokenizer),
        Decoder::new("language-config", texts)
            .mutants(json::generate)
            .reads(config, check_config),
    ]
}
