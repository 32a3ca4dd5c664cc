//! Files of both kinds, cut as Hugging Face cuts them, and every refusal.

use serde_json::{Value, json};
use tokenizer::byte_level::{self, Cut, letter};
use tokenizer::{Error, Tokenizer};

/// All bytes, three merges, one special token at the front.
fn pairs(cut: Cut) -> Tokenizer {
    let (tokens, merges) = vocabulary();
    byte_level::tokenizer(cut, &tokens, &merges, &[0]).expect("a tokenizer")
}

fn vocabulary() -> (Vec<String>, Vec<String>) {
    let mut tokens = vec!["<|endoftext|>".to_string()];
    tokens.extend((0..=255).map(|b| letter(b).to_string()));
    let merges = ["Ġ a", "a b", "Ġa b"].map(String::from).to_vec();
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    (tokens, merges)
}

fn word_piece() -> Value {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "film", "##s", "!", "caf", "##e",
    ];
    let vocab: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(i, w)| (w.to_string(), i.into()))
        .collect();
    let special = |id: usize| json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

#[test]
fn bytes_are_merged_in_the_order_of_the_merges() {
    let t = pairs(Cut::Gpt2);
    assert_eq!(t.len(), 260);
    let ab = t.token("Ġab").expect("there");
    // "Ġ a" comes before "a b", so " ab" is Ġa+b, which the third merge joins; the first "ab" has no space
    assert_eq!(
        t.encode("ab ab").expect("spelled"),
        [t.token("ab").expect("there"), ab]
    );
    for text in ["", "ab a bä  \u{1F600}\n12", "\u{0}\u{7f}"] {
        let tokens = t.encode(text).expect("all bytes are there");
        assert_eq!(t.decode(&tokens).expect("known"), text);
    }
    assert_eq!(
        t.encode("a<|endoftext|>").expect("special"),
        [t.token("a").expect("there"), 0]
    );
    assert_eq!(t.decode(&[0, ab]).expect("known"), " ab");
    assert_eq!(t.piece(0).as_deref(), Some("<|endoftext|>"));
    assert_eq!(t.piece(ab).as_deref(), Some(" ab"));
    assert_eq!(t.piece(260), None);
}

#[test]
fn smollm_takes_digits_one_by_one() {
    let (mut tokens, mut merges) = vocabulary();
    merges.push("1 2".into());
    tokens.push("12".into());
    let with = |cut| byte_level::tokenizer(cut, &tokens, &merges, &[]).expect("a tokenizer");
    assert_eq!(with(Cut::Gpt2).encode("12").expect("spelled").len(), 1);
    assert_eq!(with(Cut::Smollm).encode("12").expect("spelled").len(), 2);
    assert_eq!(Cut::named("smollm").expect("known"), Cut::Smollm);
    let e = Cut::named("llama-bpe").expect_err("another one");
    assert!(
        e.to_string().contains("llama-bpe") && e.to_string().contains("smollm"),
        "{e}"
    );
}

#[test]
fn words_are_cut_into_pieces_and_framed() {
    let t = Tokenizer::from_json(&word_piece().to_string()).expect("reads");
    assert_eq!(
        t.encode("A good Café films!").expect("cut"),
        [4, 5, 9, 10, 6, 7, 8]
    );
    // neither cut to 3 nor padded to 128, whatever the file says
    assert_eq!(t.sequence("a zebra").expect("cut"), [2, 4, 1, 3]);
    assert_eq!(t.decode(&[2, 6, 7, 3]).expect("known"), "films");
    let back = Tokenizer::from_json(t.to_json()).expect("its own file");
    assert_eq!(back, t);
    assert_ne!(pairs(Cut::Gpt2), pairs(Cut::Smollm));
}

/// The file changed at one place, then refused with these words.
fn refused(change: impl Fn(&mut Value), words: &[&str]) {
    let mut file = word_piece();
    change(&mut file);
    let e = Tokenizer::from_json(&file.to_string())
        .expect_err("refused")
        .to_string();
    for word in words {
        assert!(e.contains(word), "{e} doesn't say {word}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    refused(
        |f| f["model"]["type"] = "Unigram".into(),
        &["model", "Unigram", "WordPiece"],
    );
    refused(
        |f| f["model"]["type"] = "BPE".into(),
        &["pre_tokenizer", "ByteLevel"],
    );
    refused(
        |f| f["normalizer"] = json!({"type": "Precompiled"}),
        &["normalizer", "Precompiled"],
    );
    refused(
        |f| f["pre_tokenizer"] = json!({"type": "Split"}),
        &["pre_tokenizer", "Split"],
    );
    refused(
        |f| f["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "Split"}]}),
        &["Split"],
    );
    refused(
        |f| f["post_processor"] = json!({}),
        &["post_processor", "no kind"],
    );
    refused(
        |f| f["decoder"] = json!({"type": "Fuse"}),
        &["decoder", "Fuse"],
    );
    refused(|f| f["model"]["vocab"] = json!({}), &["no vocabulary"]);
    refused(
        |f| f["model"]["vocab"]["film"] = (-1).into(),
        &["film", "-1"],
    );
    refused(|f| f["model"]["vocab"]["film"] = 100.into(), &["token 6"]);
    refused(
        |f| f["added_tokens"][1]["id"] = 7.into(),
        &["[UNK]", "number 7"],
    );
    refused(
        |f| f["added_tokens"][1]["content"] = "".into(),
        &["added token"],
    );
    refused(|f| f["added_tokens"] = 3.into(), &["added_tokens"]);
    refused(
        |f| f["post_processor"]["single"][0]["SpecialToken"]["id"] = "[X]".into(),
        &["[X]", "special tokens"],
    );
    refused(
        |f| f["post_processor"]["special_tokens"]["[CLS]"]["ids"][0] = 11.into(),
        &["token 11", "vocabulary has 11"],
    );
    refused(
        |f| {
            f["post_processor"] =
                json!({"type": "BertProcessing", "sep": ["[SEP]", 99], "cls": ["[CLS]", 2]})
        },
        &["token 99"],
    );
    refused(
        |f| f["post_processor"]["single"][1]["Sequence"]["id"] = "B".into(),
        &["second text"],
    );
    refused(|f| *f = 3.into(), &["object"]);
    refused(|f| f["model"] = Value::Null, &["vocabulary"]);
    refused(
        |f| f["model"]["unk_token"] = Value::Null,
        &["tokenizer.json"],
    );
    assert!(
        Tokenizer::from_json("{")
            .expect_err("cut")
            .to_string()
            .contains("tokenizer.json")
    );

    let (tokens, merges) = vocabulary();
    let mut file: Value = serde_json::from_str(pairs(Cut::Gpt2).to_json()).expect("JSON");
    file["model"]["dropout"] = 0.1.into();
    let e = Tokenizer::from_json(&file.to_string()).expect_err("random");
    assert!(
        matches!(
            e,
            Error::Unsupported {
                part: "dropout",
                ..
            }
        ),
        "{e}"
    );
    file["model"]["dropout"] = Value::Null;
    file["model"]["continuing_subword_prefix"] = "##".into();
    let e = Tokenizer::from_json(&file.to_string()).expect_err("a prefix");
    assert!(e.to_string().contains("continuing_subword_prefix"), "{e}");
    let e = byte_level::tokenizer(Cut::Gpt2, &tokens, &merges, &[260]).expect_err("beyond");
    assert!(
        matches!(
            e,
            Error::Count {
                needed: 260,
                had: 261,
                ..
            }
        ),
        "{e}"
    );
    let mut twice = tokens.clone();
    twice.push("ab".into());
    let e = byte_level::tokenizer(Cut::Gpt2, &twice, &merges, &[]).expect_err("twice");
    assert!(e.to_string().contains("\"ab\""), "{e}");
    let e = byte_level::tokenizer(Cut::Gpt2, &tokens, &["a zz".into()], &[]).expect_err("no token");
    assert!(matches!(e, Error::Malformed { .. }), "{e}");
}

#[test]
fn what_no_token_spells_is_refused_not_lost() {
    let (mut tokens, merges) = vocabulary();
    tokens.retain(|t| t != "q");
    let t = byte_level::tokenizer(Cut::Gpt2, &tokens, &merges, &[]).expect("a tokenizer");
    assert!(matches!(t.encode("aqua"), Err(Error::Bytes { byte: b'q' })));
    let e = t.decode(&[7, 259]).expect_err("unknown");
    assert!(
        matches!(
            e,
            Error::Token {
                token: 259,
                vocabulary: 259
            }
        ),
        "{e}"
    );
}

#[test]
fn files_that_are_none_or_too_large() {
    let folder = std::env::temp_dir().join(format!("polyveil-tokenizer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let e = Tokenizer::load(&folder).expect_err("nothing there");
    assert!(e.to_string().contains("tokenizer.json"), "{e}");
    std::fs::write(folder.join("tokenizer.json"), word_piece().to_string()).expect("written");
    assert_eq!(Tokenizer::load(&folder).expect("reads").len(), 11);
    let large = std::fs::File::create(folder.join("tokenizer.json")).expect("made");
    large.set_len(tokenizer::LIMIT + 1).expect("sparse");
    assert!(matches!(
        Tokenizer::load(&folder),
        Err(Error::TooLarge { .. })
    ));
    std::fs::remove_dir_all(&folder).expect("removed");
}
