//! Published language models: GGUF, `tokenizer.json`.

use super::language::check_model;
use crate::decoder::{Decoder, Law, again, law, published_limit, same};
use crate::random::Random;
use crate::{bytes, json};
use nn::format::gguf;
use task::tokenizer::published::{Published, letter};
use task::{Embedding, Prompts, Task, Tokenizer};
use zoo::language::LanguageModel;

fn text(s: &str) -> Vec<u8> {
    let mut out = (s.len() as u64).to_le_bytes().to_vec();
    out.extend(s.as_bytes());
    out
}

fn texts(list: &[&str]) -> Vec<u8> {
    let mut out = 8u32.to_le_bytes().to_vec();
    out.extend((list.len() as u64).to_le_bytes());
    out.extend(list.iter().flat_map(|s| text(s)));
    out
}

/// A Llama of width 32 and one layer, its matrices of this type (1, 3 or 8).
fn model(kind: u32) -> Vec<u8> {
    let mut entries: Vec<(&str, u32, Vec<u8>)> = vec![
        ("general.architecture", 8, text("llama")),
        (
            "llama.attention.layer_norm_rms_epsilon",
            6,
            1e-5f32.to_le_bytes().into(),
        ),
        ("tokenizer.ggml.model", 8, text("gpt2")),
        ("tokenizer.ggml.pre", 8, text("smollm")),
        ("tokenizer.ggml.tokens", 9, texts(&["a", "b", "ab"])),
        ("tokenizer.ggml.merges", 9, texts(&["a b"])),
        ("tokenizer.ggml.add_bos_token", 7, vec![0]),
    ];
    for (key, value) in [
        ("llama.embedding_length", 32u32),
        ("llama.feed_forward_length", 32),
        ("llama.block_count", 1),
        ("llama.attention.head_count", 2),
        ("llama.attention.head_count_kv", 1),
        ("llama.context_length", 8),
        ("llama.vocab_size", 3),
        ("llama.rope.dimension_count", 16),
    ] {
        entries.push((key, 4, value.to_le_bytes().into()));
    }
    let tensors = [
        ("token_embd", vec![32, 3]),
        ("output_norm", vec![32]),
        ("blk.0.attn_norm", vec![32]),
        ("blk.0.attn_q", vec![32, 32]),
        ("blk.0.attn_k", vec![32, 16]),
        ("blk.0.attn_v", vec![32, 16]),
        ("blk.0.attn_output", vec![32, 32]),
        ("blk.0.ffn_norm", vec![32]),
        ("blk.0.ffn_gate", vec![32, 32]),
        ("blk.0.ffn_up", vec![32, 32]),
        ("blk.0.ffn_down", vec![32, 32]),
    ];
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    for (key, kind, value) in entries {
        out.extend(text(key));
        out.extend(kind.to_le_bytes());
        out.extend(value);
    }
    let mut data: Vec<u8> = Vec::new();
    for (name, axes) in tensors {
        let kind = if axes.len() == 1 { 0 } else { kind };
        let values: u64 = axes.iter().product();
        let length = match kind {
            0 => 4 * values,
            1 => 2 * values,
            3 => values / 32 * 20,
            _ => values / 32 * 34,
        };
        out.extend(text(&format!("{name}.weight")));
        out.extend((axes.len() as u32).to_le_bytes());
        out.extend(axes.iter().flat_map(|a| a.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        // small numbers in every type
        data.extend((0..length).map(|i| if kind == 0 && i % 4 == 3 { 0x3f } else { 0x20 }));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// Where a number stands that is as it is: the last of a few bytes before a zero, mostly a length or a count.
fn generate_model(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut file = r.pick(seeds).clone();
    for _ in 0..=r.below(3) {
        if r.one_in(2) {
            // before the data: lengths, types, axes, offsets
            let at = r.below(file.len().min(1600));
            let (few, any) = (r.below(40) as u64, r.boundary());
            let value = *r.pick(&[few, any]);
            let width = *r.pick(&[1usize, 4, 8]);
            bytes::put(&mut file, at, &value.to_le_bytes()[..width]);
        } else {
            bytes::mutate(r, &mut file);
        }
    }
    file
}

fn tokenizers() -> Vec<Vec<u8>> {
    let mut tokens = vec!["<|end|>".to_string()];
    tokens.extend((0x20..0x7f).map(|b| letter(b).to_string()));
    tokens.extend(["ab", "Ġab", "12"].map(String::from));
    let vocabulary: serde_json::Map<_, _> = (tokens.into_iter().zip(0..))
        .map(|(t, i)| (t, i.into()))
        .collect();
    let pairs = serde_json::json!({
        "added_tokens": [
            {"id": 0, "content": "<|end|>", "special": true, "normalized": false, "lstrip": true},
            {"id": 99, "content": "   ", "special": false, "normalized": true, "rstrip": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "Split", "pattern": {"Regex": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"},
                "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["a b", ["Ġ", "ab"]], "ignore_merges": true},
    })
    .to_string();
    let words = r###"{"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}, {"type": "NFC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, {"type": "Whitespace"}]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "a": 2, "ab": 3, "##b": 4, "b": 5}}}"###;
    for text in [words, &pairs] {
        Published::from_json(text).expect("a valid seed");
    }
    vec![pairs.into_bytes(), words.as_bytes().to_vec()]
}

fn check_tokenizer(read: Published) -> Law {
    let tokenizer = Tokenizer::from(read);
    let count = tokenizer.len();
    let rows = nn::Parameter::new("rows", [count, 1], vec![0.5; count]);
    let embedding = again(Embedding::new(&again(rows)?))?;
    let begin = tokenizer.frame()[0].first().copied();
    let passage = vec![begin.unwrap_or(0), 0];
    let task = Prompts::new(tokenizer.clone(), embedding, begin, vec![passage]);
    let task = Task::Prompts(again(task)?);
    same(&task, Task::from_bytes(&task.to_bytes()))?;
    for text in ["", "ab a bä 12", " \u{1F600}a  b<|end|>[CLS]"] {
        for tokens in [tokenizer.encode(text), tokenizer.sequence(text)] {
            // refused where something has no token
            let Ok(tokens) = tokens else { continue };
            let known = tokens.iter().all(|&t| (t as usize) < count);
            law(known, "tokens of a text are tokens")?;
            let holds = tokenizer.decode(&tokens).is_ok();
            law(holds, "tokens of a text are text")?;
        }
    }
    Ok(())
}

pub(super) fn all() -> Vec<Decoder> {
    let models = vec![model(1), model(3), model(8)];
    for file in &models {
        LanguageModel::from_bytes(file).expect("a valid seed");
    }
    let read = |b: &[u8]| {
        // refused or not, it ends
        let _ = gguf::File::read(b).map(|f| Tokenizer::of_gguf(&f).map(|_| ()));
        LanguageModel::from_bytes(b)
    };
    vec![
        Decoder::new("gguf", models)
            .mutants(generate_model)
            .reads(read, |model| check_model(&model)),
        Decoder::new("tokenizer-json", tokenizers())
            .within(published_limit)
            .mutants(json::generate)
            .reads(
                |b| Published::from_json(&String::from_utf8_lossy(b)),
                check_tokenizer,
            ),
    ]
}
