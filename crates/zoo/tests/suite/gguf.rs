//! GGUF against what llama.cpp's own package wrote and Hugging Face's implementation computes (`golden/gguf.py`), and every refusal.

use crate::assert_close;
use crate::oracle::language::Oracle;
use nn::format::gguf::{File, Value as Metadata};
use nn::{AttentionScheme, Error};
use serde_json::Value;
use std::path::PathBuf;
use task::Tokenizer;
use zoo::architecture::Architecture;
use zoo::language::LanguageModel;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::fs::read(path.join(name)).expect("kept in the repository")
}

fn reference() -> Value {
    serde_json::from_slice(&golden("tiny_gguf.json")).expect("JSON")
}

fn numbers(v: &Value) -> Vec<f64> {
    let list = v.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

#[test]
fn a_tiny_llama_is_the_reference() {
    let (bytes, golden) = (golden("tiny.gguf"), reference());
    let model = LanguageModel::from_bytes(&bytes).expect("reads");
    let Architecture::Llama(c) = model.architecture() else {
        panic!("a Llama");
    };
    let s = &c.sizes;
    assert_eq!((s.width, s.hidden, s.layers, s.heads), (32, 64, 2, 2));
    assert_eq!(
        (s.kv_heads, s.head, s.vocabulary, s.max_length),
        (1, 16, 70, 48)
    );
    assert_eq!((c.epsilon, c.base, c.tied), (1e-5, 100_000.0, true));
    let tokens: Vec<u32> = numbers(&golden["tokens"])
        .iter()
        .map(|&t| t as u32)
        .collect();
    let logits = model
        .logits(&tokens, AttentionScheme::Softmax)
        .expect("fits");
    let (rows, n) = (numbers(&golden["logits"]), tokens.len());
    let own: Vec<f64> = (0..rows.len())
        .map(|i| logits.values()[i % 70 * n + i / 70])
        .collect();
    assert_close(&own, &rows, 1e-5);
    // by its path, too
    let path = std::env::temp_dir().join(format!("polyveil-{}.gguf", std::process::id()));
    std::fs::write(&path, &bytes).expect("written");
    assert_eq!(LanguageModel::load(&path).expect("reads"), model);
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn a_vocabulary_is_read() {
    let bytes = golden("tiny.gguf");
    let file = File::read(&bytes).expect("reads");
    let v = Tokenizer::of_gguf(&file).expect("reads").expect("there");
    let tokens = reference()["vocabulary"].clone();
    let tokens: Vec<&str> = tokens
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let Tokenizer::Published(published) = &v else {
        panic!("{v:?} is no vocabulary of pairs")
    };
    let places: Vec<_> = tokens.iter().map(|t| published.token(t)).collect();
    assert_eq!(places, (0..v.len() as u32).map(Some).collect::<Vec<_>>());
    // "a b" is merged, then "Ġ ab"; the first token is special
    let token = |t: &str| published.token(t).expect("there");
    assert_eq!(v.encode(" ab").expect("spelled"), [token("Ġab")]);
    assert_eq!(v.decode(&[0, token("ab")]).expect("known"), "ab");
}

// ── files made here ──────────────────────────────────────────────────────────────────────────────────────────────────

fn text(s: &str) -> Vec<u8> {
    let mut out = (s.len() as u64).to_le_bytes().to_vec();
    out.extend(s.as_bytes());
    out
}

/// Entries `(key, type, bytes)` and tensors `(name, axes innermost first, type, bytes)`.
#[derive(Clone)]
struct Made {
    version: u32,
    entries: Vec<(String, u32, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl Made {
    fn entry(&mut self, key: &str, kind: u32, bytes: &[u8]) {
        self.entries.retain(|e| e.0 != key);
        self.entries.push((key.into(), kind, bytes.to_vec()));
    }

    fn number(&mut self, key: &str, value: u32) {
        self.entry(key, 4, &value.to_le_bytes());
    }

    fn texts(&mut self, key: &str, list: &[&str]) {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((list.len() as u64).to_le_bytes());
        bytes.extend(list.iter().flat_map(|s| text(s)));
        self.entry(key, 9, &bytes);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.entries {
            out.extend(text(key));
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let (mut data, mut offsets) = (Vec::new(), Vec::new());
        for t in &self.tensors {
            offsets.push(data.len() as u64);
            data.extend(&t.3);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        for ((name, axes, kind, _), offset) in self.tensors.iter().zip(offsets) {
            out.extend(text(name));
            out.extend((axes.len() as u32).to_le_bytes());
            out.extend(axes.iter().flat_map(|a| a.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

/// A Llama of width 4, one layer, two heads of 2 and one of keys and values, 3 tokens.
fn llama() -> Made {
    let mut made = Made {
        version: 3,
        entries: Vec::new(),
        tensors: Vec::new(),
    };
    made.entry("general.architecture", 8, &text("llama"));
    for (key, value) in [
        ("embedding_length", 4),
        ("feed_forward_length", 6),
        ("block_count", 1),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("context_length", 8),
        ("vocab_size", 3),
        ("rope.dimension_count", 2),
    ] {
        made.number(&format!("llama.{key}"), value);
    }
    let epsilon = 1e-5f32.to_le_bytes();
    made.entry("llama.attention.layer_norm_rms_epsilon", 6, &epsilon);
    for (name, axes) in [
        ("token_embd", vec![4, 3]),
        ("output_norm", vec![4]),
        ("blk.0.attn_norm", vec![4]),
        ("blk.0.attn_q", vec![4, 4]),
        ("blk.0.attn_k", vec![4, 2]),
        ("blk.0.attn_v", vec![4, 2]),
        ("blk.0.attn_output", vec![4, 4]),
        ("blk.0.ffn_norm", vec![4]),
        ("blk.0.ffn_gate", vec![4, 6]),
        ("blk.0.ffn_up", vec![4, 6]),
        ("blk.0.ffn_down", vec![6, 4]),
    ] {
        let n: u64 = axes.iter().product();
        let values = (0..n).flat_map(|i| (0.5 + i as f32 / 8.0).to_le_bytes());
        made.tensors
            .push((format!("{name}.weight"), axes, 0, values.collect()));
    }
    made
}

#[test]
fn blocks_of_every_type() {
    for block in reference()["blocks"].as_array().expect("a list") {
        let hex = block["bytes"].as_str().expect("text");
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..][..2], 16).expect("hexadecimal"))
            .collect();
        let mut made = llama();
        let kind = block["type"].as_u64().expect("a number") as u32;
        made.tensors.push(("x".into(), vec![64], kind, bytes));
        let file = made.bytes();
        let file = File::read(&file).expect("reads");
        let values = file.values("x", &[64]).expect("there");
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        // to the last bit but one: their arithmetic is single precision, too
        assert_close(&values, &numbers(&block["values"]), 1e-6);
    }
}

#[test]
fn metadata_of_every_type() {
    let mut made = llama();
    made.entry("a", 0, &[200]);
    made.entry("b", 1, &[0xff]);
    made.entry("c", 3, &(-2i16).to_le_bytes());
    made.entry("d", 10, &u64::MAX.to_le_bytes());
    made.entry("e", 11, &(-3i64).to_le_bytes());
    made.entry("f", 12, &0.25f64.to_le_bytes());
    made.entry("g", 7, &[1]);
    let mut array = 6u32.to_le_bytes().to_vec();
    array.extend(2u64.to_le_bytes());
    array.extend([0; 8]);
    made.entry("h", 9, &array);
    let bytes = made.bytes();
    let file = File::read(&bytes).expect("reads");
    for (key, value) in [
        ("a", Metadata::Unsigned(200)),
        ("b", Metadata::Signed(-1)),
        ("c", Metadata::Signed(-2)),
        ("d", Metadata::Unsigned(u64::MAX)),
        ("e", Metadata::Signed(-3)),
        ("f", Metadata::F64(0.25)),
        ("g", Metadata::Bool(true)),
        ("h", Metadata::Other),
    ] {
        assert_eq!(file.metadata()[key], value, "{key}");
    }
    assert_eq!(Tokenizer::of_gguf(&file).expect("none"), None);
    let model = LanguageModel::from_bytes(&bytes).expect("reads");
    assert_eq!(model.architecture().sizes().vocabulary, 3);
    // a head of its own
    let mut own = llama();
    let embedding = own.tensors[0].clone();
    own.tensors
        .push(("output.weight".into(), embedding.1, 0, embedding.3));
    assert!(
        !LanguageModel::from_bytes(&own.bytes())
            .expect("reads")
            .architecture()
            .tied()
    );
    // heads whose width is not the model's over their number, and no number of tokens but the embedding's
    let mut wide = llama();
    wide.number("llama.attention.key_length", 2);
    wide.entries.retain(|e| e.0 != "llama.vocab_size");
    assert!(LanguageModel::from_bytes(&wide.bytes()).is_ok());
}

/// The file changed at one place is refused with these words.
fn refused(change: impl FnOnce(&mut Made), words: &[&str]) {
    let mut made = llama();
    change(&mut made);
    let bytes = made.bytes();
    let vocabulary = || {
        let file = File::read(&bytes).ok()?;
        Some(Tokenizer::of_gguf(&file).err()?.to_string())
    };
    let e = LanguageModel::from_bytes(&bytes).err();
    let e = e
        .map(|e| e.to_string())
        .or_else(vocabulary)
        .expect("refused");
    for word in words {
        assert!(e.contains(word), "{e} doesn't say {word}");
    }
}

#[test]
fn what_would_be_another_network_is_named() {
    refused(|m| m.version = 2, &["version 2", "reads 3"]);
    refused(
        |m| m.tensors[3].2 = 12,
        &["blk.0.attn_q.weight", "Q4_K", "Q4_1"],
    );
    refused(
        |m| m.tensors[3].2 = 99,
        &["blk.0.attn_q.weight", "number 99"],
    );
    refused(
        |m| m.tensors[3].2 = 8,
        &["blk.0.attn_q.weight", "rows of 4", "32"],
    );
    refused(
        |m| m.tensors[3].1 = vec![4, 3],
        &["blk.0.attn_q.weight", "[4, 4]"],
    );
    refused(
        |m| m.tensors[3].1 = vec![0],
        &["blk.0.attn_q.weight", "empty axis"],
    );
    refused(
        |m| m.tensors[3].1 = vec![1; 5],
        &["blk.0.attn_q.weight", "5 axes"],
    );
    refused(
        |m| m.tensors[3].1 = vec![u64::MAX / 2; 3],
        &["blk.0.attn_q.weight", "overflow"],
    );
    refused(
        |m| m.tensors[3].1 = vec![1 << 20; 2],
        &["truncated", "blk.0.attn_q.weight"],
    );
    refused(
        |m| drop(m.tensors.remove(3)),
        &["blk.0.attn_q.weight", "missing"],
    );
    refused(
        |m| m.tensors.push(m.tensors[3].clone()),
        &["blk.0.attn_q.weight", "twice"],
    );
    refused(
        |m| m.tensors[3].3[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
        &["blk.0.attn_q.weight", "NaN"],
    );
    refused(
        |m| {
            m.tensors
                .push(("rope_freqs.weight".into(), vec![1], 0, vec![0; 4]))
        },
        &["rope_freqs.weight", "another network"],
    );
    refused(
        |m| m.entry("general.architecture", 8, &text("qwen2")),
        &["qwen2", "llama is known"],
    );
    refused(|m| m.entries.clear(), &["general.architecture is missing"]);
    refused(
        |m| m.number("llama.expert_count", 8),
        &["expert_count is 8", "only 0"],
    );
    refused(
        |m| m.entry("llama.rope.scaling.type", 8, &text("yarn")),
        &["rope.scaling.type", "yarn"],
    );
    refused(
        |m| m.number("llama.rope.dimension_count", 1),
        &["dimension_count is 1", "only 2"],
    );
    refused(
        |m| m.number("llama.attention.value_length", 3),
        &["value_length is 3"],
    );
    refused(
        |m| m.number("llama.attention.head_count", 3),
        &["3 heads", "width 4"],
    );
    refused(
        |m| m.number("llama.attention.head_count_kv", 3),
        &["don't divide"],
    );
    refused(
        |m| m.number("llama.block_count", 0),
        &["llama.block_count is 0"],
    );
    refused(
        |m| m.entry("llama.block_count", 8, &text("1")),
        &["llama.block_count is \"1\""],
    );
    refused(
        |m| m.entries.retain(|e| e.0 != "llama.block_count"),
        &["llama.block_count is missing"],
    );
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    refused(
        |m| m.entry(epsilon, 6, &(-1f32).to_le_bytes()),
        &[epsilon, "above 0"],
    );
    refused(
        |m| m.entries.retain(|e| e.0 != epsilon),
        &[epsilon, "missing"],
    );
    refused(
        |m| m.number("general.alignment", 24),
        &["general.alignment", "power of two"],
    );
    refused(|m| m.number("general.alignment", 64), &["multiple of 64"]);
    refused(
        |m| m.entries.push(m.entries[0].clone()),
        &["general.architecture is given twice"],
    );
    refused(|m| m.entry("x", 7, &[2]), &["x is 2"]);
    refused(|m| m.entry("x", 13, &[]), &["x is of type 13"]);
    refused(
        |m| m.entry("x", 9, &[9, 0, 0, 0]),
        &["x is an array of type 9"],
    );
    let endless = [[4, 0, 0, 0].as_slice(), &u64::MAX.to_le_bytes()].concat();
    refused(|m| m.entry("x", 9, &endless), &["truncated", "x has"]);
    refused(
        |m| m.entry("x", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        &["x is not UTF-8"],
    );
}

/// A vocabulary of three tokens, then a change.
fn with(change: impl FnOnce(&mut Made)) -> impl FnOnce(&mut Made) {
    move |m| {
        m.entry("tokenizer.ggml.model", 8, &text("gpt2"));
        m.texts("tokenizer.ggml.tokens", &["a", "b", "ab"]);
        m.texts("tokenizer.ggml.merges", &["a b"]);
        change(m);
    }
}

#[test]
fn vocabularies_that_do_not_fit() {
    let mut made = llama();
    with(|_| {})(&mut made);
    let bytes = made.bytes();
    let file = File::read(&bytes).expect("reads");
    let v = Tokenizer::of_gguf(&file).expect("reads").expect("there");
    assert_eq!((v.len(), v.frame()), (3, [Vec::new(), Vec::new()]));
    assert_eq!(v.encode("aba").expect("spelled"), [2, 0]);
    let e = {
        let mut made = made.clone();
        made.texts("tokenizer.ggml.tokens", &["a", "b"]);
        LanguageModel::from_bytes(&made.bytes()).expect_err("two tokens")
    };
    assert!(
        matches!(
            e,
            Error::Count {
                needed: 3,
                had: 2,
                ..
            }
        ),
        "{e}"
    );
    refused(
        with(|m| m.entry("tokenizer.ggml.model", 8, &text("llama"))),
        &["tokenizer.ggml.model", "gpt2"],
    );
    refused(
        with(|m| m.entries.retain(|e| e.0 != "tokenizer.ggml.merges")),
        &["tokenizer.ggml.merges"],
    );
    refused(
        with(|m| m.number("tokenizer.ggml.bos_token_id", 3)),
        &["bos_token_id is 3", "3 tokens"],
    );
    refused(
        with(|m| m.number("tokenizer.ggml.pre", 3)),
        &["tokenizer.ggml.pre"],
    );
    let two = [[5, 0, 0, 0].as_slice(), &2u64.to_le_bytes(), &[0; 8]].concat();
    refused(
        with(|m| m.entry("tokenizer.ggml.token_type", 9, &two)),
        &["token_type", "3 tokens"],
    );
}

#[test]
fn tensors_that_share_bytes() {
    let made = llama();
    let mut bytes = made.bytes();
    // the second tensor's offset follows its name, its one axis and its type
    let name = b"output_norm.weight";
    let at = bytes.windows(name.len()).position(|w| w == name);
    let at = at.expect("there") + name.len() + 4 + 8 + 4;
    bytes[at..at + 8].fill(0);
    let e = LanguageModel::from_bytes(&bytes)
        .expect_err("overlapping")
        .to_string();
    assert!(e.contains("before the end of another"), "{e}");
}

#[test]
fn cut_anywhere_it_is_truncated() {
    let bytes = llama().bytes();
    for length in 4..bytes.len() {
        let e = LanguageModel::from_bytes(&bytes[..length]).expect_err("cut");
        assert!(matches!(e, Error::Truncated { .. }), "{length}: {e}");
    }
    let e = File::read(b"GGUX").expect_err("foreign");
    assert!(matches!(e, Error::Malformed { .. }), "{e}");
}
