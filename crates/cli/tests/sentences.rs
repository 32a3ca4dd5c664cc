//! An encoder from the command line: checkpoint and sentences, polynomials, plan, keys, sentence, class; and what is refused on the way.

mod support;

use nn::format::artefact;
use std::path::Path;
use support::{Folder, done, refused};
use task::Task;
use task::tokenizer::Long;
use zoo::bert::{Config, Family, Head};
use zoo::encoder::Encoder;

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nfilm\nnot\n,\n";

/// A checkpoint with its vocabulary, and sentences.
fn checkpoint(folder: &Folder) -> (String, String) {
    let config = Config {
        family: Family::Bert,
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head: 4,
            vocabulary: 10,
            max_length: 8,
        },
        types: 2,
        epsilon: 1e-2,
        padding: 0,
        activation: approx::Activation::Gelu,
        head: Head::Classification {
            labels: vec!["negative".into(), "positive".into()],
        },
    };
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let model = Encoder::new(config, |name, shape| {
        let gain = f32::from(u8::from(name.ends_with("LayerNorm.weight")));
        let count = shape.iter().product::<usize>();
        (0..count).map(|_| gain + random()).collect()
    });
    let path = folder.path("model");
    model.expect("fits").save(Path::new(&path)).expect("saves");
    folder.file("model/vocab.txt", VOCABULARY.as_bytes());
    let sentences = folder.file(
        "s.tsv",
        b"label\tsentence\n1\tgood film\n0\tbad , bad film\n0\tnot good\n1\tnot bad , film\n1\tgood , good\n0\tfilm\n",
    );
    (path, sentences)
}

#[test]
fn a_sentence_goes_through_all_commands_and_comes_back_with_the_twins_class() {
    let folder = Folder::new("enc-whole");
    let (model, sentences) = checkpoint(&folder);
    let pvm = folder.path("tiny.pvm");
    let calibrate = format!(
        "calibrate {model} --power 4 --epsilon 0.1 --length 6 --bits 10 --degree 7 --margin 0.5 -o {pvm}"
    );
    done(&format!("{calibrate} --sentences {sentences}"), &[]);
    let (said, _) = done(&format!("inspect {pvm}"), &[]);
    assert!(said.contains("up to 6 tokens of 10"), "{said}");

    let graph = artefact::load(Path::new(&pvm), 1 << 24).expect("reads");
    let Ok(Some(Task::Sentences(format))) = Task::of(graph.metadata()) else {
        panic!("an encoder takes sentences")
    };
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy(11)),
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().unwrap_or_default());
    let client = client.expect("its task").write(Vec::new(), "x");
    folder.file("toy.client", &client.expect("writes"));
    let plan = plan.plan();
    let plan = folder.file("toy.plan", &plan.write(Vec::new(), "x").expect("writes"));
    let keys = folder.path("keys");
    done(
        &format!(
            "keygen {} -o {keys} --insecure-toy",
            folder.path("toy.client")
        ),
        &[],
    );
    let (key, input, answer) = (
        folder.path("keys/client.key"),
        folder.path("x.input"),
        folder.path("x.answer"),
    );
    let sentence = "Bad film!";
    let encrypt = format!("encrypt --key {key} -o {input}");
    done(&format!("{encrypt} --text"), &[sentence]);
    let (report, _) = done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    assert!(report.contains("Power-Softmax"), "{report}");
    let tokens = format.encode(sentence, Long::Refuse).expect("known").0;
    assert_eq!(tokens, [2, 6, 7, 1, 3], "the unknown mark has a token");
    let twin = graph
        .evaluate(&format.input(&tokens).expect("fits"))
        .expect("evaluates");
    let (json, _) = done(&format!("decrypt --key {key} {answer} --json"), &[]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    for (a, b) in json["logits"]
        .as_array()
        .expect("two")
        .iter()
        .zip(twin.output.values())
    {
        let error = (a.as_f64().expect("a number") - b).abs();
        assert!(error < 1e-3, "{json} {:?}", twin.output.values());
    }
    assert_eq!(json["class"], twin.output.argmax());
    let (said, _) = done(&format!("decrypt --key {key} {answer}"), &[]);
    assert!(
        said.contains("positive") && said.contains("negative"),
        "{said}"
    );

    let long = "good , bad , film";
    refused(
        &format!("{encrypt} --text"),
        &[long],
        &["7 tokens is too long", "at most 6", "--truncate"],
    );
    let (_, notes) = done(&format!("{encrypt} --truncate --text"), &[long]);
    assert!(notes.contains("cut to 6 tokens"), "{notes}");
    refused(
        &format!("{encrypt} --text"),
        &[" "],
        &["no token to encrypt"],
    );
    refused(&format!("{encrypt} --image x.png"), &[], &["--text TEXT"]);
    refused(
        &format!("decrypt --key {key} {answer} --share --releases 1"),
        &[],
        &["can't be shared"],
    );

    let evaluate = |file: &str, more: &str| {
        format!(
            "evaluate --model {pvm} --plan {plan} --sentences {file} --count 3 --json -o {file}.jsonl {more}"
        )
    };
    let (json, notes) = done(&evaluate(&sentences, ""), &[]);
    assert!(notes.contains("stated error of each value"), "{notes}");
    let summary: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    assert_eq!(
        (&summary["sentences"], &summary["left_out"]),
        (&3.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(summary["same_class_as_clear"], 3, "{summary}");
    let number = |key: &str| summary[key].as_f64().expect("a number");
    assert!(
        number("max_abs_error") <= number("stated_error"),
        "{summary}"
    );
    // everything is there: nothing is run again
    assert_eq!(done(&evaluate(&sentences, ""), &[]), (json, String::new()));

    let file = folder.file("long.tsv", format!("0\tbad\n1\t{long}\n").as_bytes());
    refused(
        &evaluate(&file, ""),
        &[],
        &["long.tsv", "sentence 1", "too long", "--truncate"],
    );
    for (name, text, words) in [
        (
            "label.tsv",
            "0\tbad\n2\tgood\n",
            ["line 2 has the label \"2\"", "0 to 1"],
        ),
        (
            "word.tsv",
            "0\tbad\npositive\tgood\n",
            ["line 2", "\"positive\""],
        ),
        (
            "missing.tsv",
            "0\tbad\n1\tgood\nfilm\n",
            ["line 3 has no tab", "missing.tsv"],
        ),
        (
            "empty.tsv",
            "label\tsentence\n",
            ["no sentences", "empty.tsv"],
        ),
    ] {
        let file = folder.file(name, text.as_bytes());
        refused(&evaluate(&file, ""), &[], &words);
    }
}

#[test]
fn checkpoints_and_vocabularies_are_refused_with_what_is_wrong() {
    let folder = Folder::new("enc-refusals");
    let (model, sentences) = checkpoint(&folder);
    let pvm = folder.path("tiny.pvm");
    let calibrate = |more: &str| {
        format!("calibrate {model} --sentences {sentences} -o {pvm} --length 6 {more}")
    };
    refused(
        &calibrate("--power 3"),
        &[],
        &["even exponent", "3 was given"],
    );
    refused(&calibrate(""), &[], &["softmax has no polynomial form"]);
    refused(
        &calibrate("--power 4").replace("--length 6", "--length 9"),
        &[],
        &["9 tokens is too long", "at most 8"],
    );
    refused(
        &calibrate("--power 4").replace("--length 6", "--length 4"),
        &[],
        &["sentence 1", "too long", "--truncate"],
    );
    let other = folder.file("model/vocab.txt", format!("{VOCABULARY}more\n").as_bytes());
    refused(
        &calibrate("--power 4"),
        &[],
        &["does it belong to the model?", "10 needed, 11 given"],
    );
    std::fs::remove_file(other).expect("was written");
    refused(
        &calibrate("--power 4"),
        &[],
        &["vocab.txt", "tokenizer.json"],
    );
    folder.file("model/vocab.txt", VOCABULARY.as_bytes());
    let config = folder.path("model/config.json");
    let text = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, text.replace("ForSequenceClassification", "Model")).expect("writes");
    refused(&calibrate("--power 4"), &[], &["does not classify"]);

    // pictures, prompts and sentences are told apart
    let resnet = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/resnet20-poly.pvm"
    );
    if Path::new(resnet).exists() {
        refused(
            &format!("evaluate --model {resnet} --sentences {sentences} -o {pvm}.jsonl"),
            &[],
            &["no sentences"],
        );
    }
}
