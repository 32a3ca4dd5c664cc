//! Files of both kinds, cut as Hugging Face cuts them, and every refusal.

use serde_json::{Value, json};
use task::tokenizer::published::letter;
use task::tokenizer::{LIMIT, Published, Tokenizer};
use task::{Embedding, Error, Prompts, Task};

/// All bytes, three merges, one special token at the front.
fn pairs(cut: &str) -> Published {
    let (tokens, merges) = vocabulary();
    Published::byte_level(cut, tokens, &merges, &[0]).expect("a tokenizer")
}

fn vocabulary() -> (Vec<String>, Vec<String>) {
    let mut tokens = vec!["<|endoftext|>".to_string()];
    tokens.extend((0..=255).map(|b| letter(b).to_string()));
    let merges = ["Ġ a", "a b", "Ġa b"].map(String::from).to_vec();
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    (tokens, merges)
}

/// The vocabulary of [`pairs`] as a `tokenizer.json`.
fn json() -> Value {
    let (tokens, merges) = vocabulary();
    let vocab: serde_json::Map<String, Value> = (tokens.into_iter().zip(0..))
        .map(|(t, i)| (t, i.into()))
        .collect();
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
    })
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
    let t = pairs("gpt-2");
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
    let with = |cut| Published::byte_level(cut, tokens.clone(), &merges, &[]);
    let length = |cut| {
        let t = with(cut).expect("a tokenizer");
        t.encode("12").expect("spelled").len()
    };
    assert_eq!((length("gpt-2"), length("smollm")), (1, 2));
    assert_eq!((length("llama-bpe"), length("qwen2")), (1, 2));
    let e = with("tekken").expect_err("another one").to_string();
    assert!(e.contains("tekken") && e.contains("smollm"), "{e}");
}

#[test]
fn words_are_cut_into_pieces_and_framed() {
    let t: Tokenizer = Published::from_json(&word_piece().to_string())
        .expect("reads")
        .into();
    assert_eq!(
        t.encode("A good Café films!").expect("cut"),
        [4, 5, 9, 10, 6, 7, 8]
    );
    // neither cut to 3 nor padded to 128, whatever the file says
    assert_eq!(t.sequence("a zebra").expect("cut"), [2, 4, 1, 3]);
    assert_eq!(t.decode(&[2, 6, 7, 3]).expect("known"), "films");
    assert_ne!(pairs("gpt-2"), pairs("smollm"));
}

/// The file changed at one place, then refused with these words.
fn refused(change: impl Fn(&mut Value), words: &[&str]) {
    let mut file = word_piece();
    change(&mut file);
    let e = Published::from_json(&file.to_string())
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
        Published::from_json("{")
            .expect_err("cut")
            .to_string()
            .contains("tokenizer.json")
    );

    let (tokens, merges) = vocabulary();
    let mut file = json();
    file["model"]["dropout"] = 0.1.into();
    let e = Published::from_json(&file.to_string()).expect_err("random");
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
    let e = Published::from_json(&file.to_string()).expect_err("a prefix");
    assert!(e.to_string().contains("continuing_subword_prefix"), "{e}");
    let e = Published::byte_level("gpt-2", tokens.clone(), &merges, &[260]).expect_err("beyond");
    assert!(
        matches!(
            e,
            Error::Count {
                needed: 261,
                had: 260,
                ..
            }
        ),
        "{e}"
    );
    let mut twice = tokens.clone();
    twice.push("ab".into());
    let e = Published::byte_level("gpt-2", twice, &merges, &[]).expect_err("twice");
    assert!(e.to_string().contains("\"ab\""), "{e}");
    let e = Published::byte_level("gpt-2", tokens, &["a zz".into()], &[]).expect_err("no token");
    assert!(matches!(e, Error::Malformed { .. }), "{e}");
}

#[test]
fn what_no_token_spells_is_refused_not_lost() {
    let (mut tokens, merges) = vocabulary();
    tokens.retain(|t| t != "q");
    let t = Published::byte_level("gpt-2", tokens, &merges, &[]).expect("a tokenizer");
    assert!(matches!(t.encode("aqua"), Err(Error::Encoding(b'q'))));
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
    large.set_len(LIMIT + 1).expect("sparse");
    assert!(matches!(
        Tokenizer::load(&folder),
        Err(Error::TooLarge { .. })
    ));
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn a_file_and_a_vocabulary_give_the_same_tokenizer_and_bytes_keep_it() {
    let read = Published::from_json(&json().to_string()).expect("reads");
    assert_eq!(read, pairs("gpt-2"));
    // merges as lists of two, and the pattern written out
    let mut file = json();
    let merges = [["Ġ", "a"], ["a", "b"], ["Ġa", "b"]];
    file["model"]["merges"] = json!(merges);
    let pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
    ]});
    assert_eq!(
        Published::from_json(&file.to_string()).expect("reads"),
        read
    );
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+".into();
    let e = Published::from_json(&file.to_string()).expect_err("another pattern");
    assert!(e.to_string().contains(r"\\p{L}+"), "{e}");
    for tokenizer in [
        read,
        pairs("llama-bpe")
            .framed(vec![0], Vec::new())
            .expect("there"),
        Published::from_json(&word_piece().to_string()).expect("reads"),
    ] {
        let n = tokenizer.len();
        // models have more rows than tokens
        let rows = nn::Parameter::new("rows", [n + 3, 1], vec![0.5; n + 3]).expect("fits");
        let embedding = Embedding::new(&rows).expect("a table");
        let begin = tokenizer.frame()[0].first().copied();
        let passage = vec![begin.unwrap_or(0), 1, 2];
        let task = Prompts::new(tokenizer.into(), embedding, begin, vec![passage]);
        let task = Task::Prompts(task.expect("fits"));
        assert_eq!(Task::from_bytes(&task.to_bytes()).expect("reads"), task);
    }
}

/// As Pythia's: the normal form, runs of spaces as tokens of their own, and what takes white space along.
#[test]
fn added_tokens_come_first() {
    let mut file = json();
    file["normalizer"] = json!({"type": "NFC"});
    let added = file["added_tokens"].as_array_mut().expect("a list");
    for (id, content) in [(260, "   "), (261, "  ")] {
        added.push(json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}));
    }
    added.push(json!({"id": 262, "content": "<mask>", "lstrip": true, "rstrip": true, "normalized": false, "special": true}));
    let t = Published::from_json(&file.to_string()).expect("reads");
    let token = |t: &Published, text: &str| t.token(text).expect("there");
    let (a, space_a) = (token(&t, "a"), token(&t, "Ġa"));
    // the longest of those that begin at one place
    assert_eq!(t.encode("a    a").expect("spelled"), [a, 260, space_a]);
    assert_eq!(t.encode("a     a").expect("spelled"), [a, 260, 261, a]);
    assert_eq!(t.encode("a <mask>  a").expect("spelled"), [a, 262, a]);
    // a special one is no text, another one is
    assert_eq!(t.decode(&[a, 260, 262, 0, a]).expect("known"), "a   a");
    // e with a combining acute is one character in the normal form
    assert_eq!(
        t.encode("e\u{301}").expect("spelled"),
        t.encode("é").expect("spelled")
    );
    let single = {
        file["added_tokens"][1]["single_word"] = true.into();
        Published::from_json(&file.to_string()).expect_err("single words")
    };
    assert!(single.to_string().contains("single word"), "{single}");
}

#[test]
fn what_stands_around_a_sequence() {
    let mut file = json();
    file["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "trim_offsets": false},
        {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}},
    ]});
    let t: Tokenizer = Published::from_json(&file.to_string())
        .expect("reads")
        .into();
    assert_eq!(t.frame(), [vec![0], Vec::new()]);
    let plain = t.encode("ab").expect("spelled");
    assert_eq!(
        t.sequence("ab").expect("spelled"),
        [&[0], &plain[..]].concat()
    );
    file["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 2], "trim_offsets": true, "add_prefix_space": false});
    let t: Tokenizer = Published::from_json(&file.to_string())
        .expect("reads")
        .into();
    assert_eq!(t.frame(), [vec![2], vec![1]]);
}

/// A pair that comes first in the list is joined first wherever it stands, and what it makes may join on; long words take no longer than their length times its
/// logarithm.
#[test]
fn long_words_are_merged_in_order() {
    let tokens = ["a", "b", "aa", "ab", "aaaa"].map(String::from).to_vec();
    let merges = ["a a", "a b", "aa aa"].map(String::from);
    let t = Published::byte_level("gpt-2", tokens, &merges, &[]).expect("a tokenizer");
    assert_eq!(t.encode("aaab").expect("spelled"), [2, 3]);
    assert_eq!(t.encode("aaaaa").expect("spelled"), [4, 0]);
    assert_eq!(
        t.encode(&"a".repeat(1 << 18)).expect("spelled"),
        vec![4; 1 << 16]
    );
}
