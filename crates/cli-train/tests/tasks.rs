//! `tasks` and `tokenize` on a small model of new weights with a tokenizer of bytes: their tables, and what they refuse.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use zoo::language::LanguageModel;

struct Folder(PathBuf);

impl Folder {
    /// A model, its tokenizer, a text, LAMBADA, PIQA and labels.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-lm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        let folder = Self(path);
        folder
            .model(257)
            .save(&folder.0.join("model"))
            .expect("saved");
        let mut tokens = vec!["<|end|>".to_string()];
        tokens.extend((0..=255).map(|b| task::tokenizer::published::letter(b).to_string()));
        let vocabulary: serde_json::Map<String, Value> = (tokens.into_iter().zip(0..))
            .map(|(t, i)| (t, i.into()))
            .collect();
        let made = json!({
            "added_tokens": [{"id": 0, "content": "<|end|>", "special": true, "normalized": false}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        });
        folder.write("model/tokenizer.json", &made.to_string());
        folder.write("text", &"the cat sat on the mat. ".repeat(20));
        folder.write(
            "lambada",
            "{\"text\": \"one two three\"}\n{\"text\": \"four five  six\"}\n{\"text\": \"a b\"}\n",
        );
        folder.write(
            "piqa",
            "{\"goal\": \"g\", \"sol1\": \"short\", \"sol2\": \"much longer\"}\n{\"goal\": \"h\", \"sol1\": \"u\", \"sol2\": \"v\"}\n",
        );
        folder.write("labels", "1\n0\n");
        folder
    }

    fn model(&self, vocabulary: usize) -> LanguageModel {
        train::language::Network::Llama {
            layers: 1,
            width: 8,
            heads: 2,
            kv_heads: None,
            hidden: Some(12),
            tied: true,
            attention: nn::AttentionScheme::Softmax,
        }
        .load(vocabulary, 64, 3)
        .expect("a model")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.file(name), content).expect("written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&dyn AsRef<Path>]) -> Output {
    let arguments = arguments.iter().map(|a| a.as_ref().as_os_str());
    Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .args(arguments)
        .output()
        .expect("runs")
}

fn said(o: &Output) -> String {
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    String::from_utf8_lossy(&o.stdout).into_owned()
}

fn refused(arguments: &[&dyn AsRef<Path>], words: &[&str]) {
    let o = run(arguments);
    let e = String::from_utf8_lossy(&o.stderr).into_owned();
    assert!(!o.status.success(), "{words:?}");
    for word in words {
        assert!(e.contains(word), "{e} doesn't say {word}");
    }
}

#[test]
fn models_are_compared() {
    let f = Folder::new("compared");
    let (model, text) = (f.file("model"), f.file("text"));
    let (lambada, piqa, labels) = (f.file("lambada"), f.file("piqa"), f.file("labels"));
    let table = said(&run(&[
        &"tasks",
        &model,
        &"--text",
        &text,
        &"--window",
        &"32",
        &"--stride",
        &"16",
        &"--lambada",
        &lambada,
        &"--piqa",
        &piqa,
        &"--labels",
        &labels,
        &"--power",
        &"4",
    ]));
    let rows: Vec<&str> = table.lines().filter(|l| l.contains("model |")).collect();
    // the head, softmax, power
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[1].contains("| softmax | exact |") && rows[2].contains("| power 4, ε 0.001 |"),
        "{table}"
    );
    assert_eq!(rows[1].matches('|').count(), 12, "{table}");

    let json = |shots: &str, limit: &str| -> serde_json::Value {
        let o = run(&[
            &"tasks",
            &model,
            &"--lambada",
            &lambada,
            &"--piqa",
            &piqa,
            &"--labels",
            &labels,
            &"--json",
            &"--shots",
            &shots,
            &"--limit",
            &limit,
        ]);
        serde_json::from_str(&said(&o)).expect("JSON")
    };
    let zero = json("0", "9");
    let row = &zero[0];
    assert_eq!(
        (&row["lambada"]["passages"], &row["piqa"]["questions"]),
        (&3.into(), &2.into())
    );
    assert!(row["text"].is_null());
    // new weights know nothing: about 1/257 a byte, so that " much longer" is less likely than " short"
    let sums = &row["piqa"]["sums"][0];
    assert!(sums[0].as_f64() > sums[1].as_f64(), "{sums}");
    // examples are read: they change what is likely; and a limit limits
    let one = json("1", "1");
    assert_eq!(one[0]["lambada"]["passages"], 1);
    assert_ne!(one[0]["lambada"]["sums"][0], row["lambada"]["sums"][0]);
}

#[test]
fn a_text_becomes_tokens() {
    let f = Folder::new("tokens");
    let output = f.file("out.tokens");
    let o = run(&[
        &"tokenize",
        &f.file("text"),
        &f.file("lambada"),
        &"--tokenizer",
        &f.file("model"),
        &"-o",
        &output,
    ]);
    said(&o);
    let tokens = data::Text::binary(&output, 257).expect("reads");
    let bytes: usize = ["text", "lambada"]
        .map(|n| std::fs::read(f.file(n)).expect("there").len())
        .iter()
        .sum();
    assert_eq!(tokens.tokens().len(), bytes);
    assert_eq!(tokens.tokens()[0], 1 + u32::from(b't'));
    refused(
        &[
            &"tokenize",
            &f.file("none"),
            &"--tokenizer",
            &f.file("model"),
            &"--force",
            &"-o",
            &output,
        ],
        &["none"],
    );
    f.write("model/tokenizer.json", "{}");
    refused(
        &[
            &"tokenize",
            &f.file("text"),
            &"--tokenizer",
            &f.file("model"),
            &"--force",
            &"-o",
            &output,
        ],
        &["model", "tokenizer.json"],
    );
    f.write("alphabet.json", "[\"a\", \"b\"]");
    refused(
        &[
            &"tokenize",
            &f.file("text"),
            &"--tokenizer",
            &f.file("alphabet.json"),
            &"--force",
            &"-o",
            &output,
        ],
        &["'t'", "2 characters"],
    );
}

#[test]
fn what_can_t_be_judged_is_named() {
    let f = Folder::new("refusals");
    let (model, text) = (f.file("model"), f.file("text"));
    let (lambada, piqa, labels) = (f.file("lambada"), f.file("piqa"), f.file("labels"));
    refused(&[&"tasks", &model], &["nothing to judge by"]);
    refused(&[&"tasks", &model, &"--piqa", &piqa], &["--labels"]);
    refused(
        &[&"tasks", &model, &"--text", &text, &"--window", &"65"],
        &["text", "65 tokens", "64"],
    );
    refused(
        &[
            &"tasks",
            &model,
            &"--text",
            &text,
            &"--window",
            &"32",
            &"--stride",
            &"32",
        ],
        &["stride"],
    );
    refused(
        &[&"tasks", &model, &"--lambada", &lambada, &"--shots", &"3"],
        &["3 solved examples", "LAMBADA has 3"],
    );
    refused(
        &[&"tasks", &model, &"--lambada", &lambada, &"--power", &"3"],
        &["even exponent"],
    );
    f.write("labels", "1\n");
    refused(
        &[&"tasks", &model, &"--piqa", &piqa, &"--labels", &labels],
        &["1 labels", "2 questions"],
    );
    f.write(
        "lambada",
        &format!("{{\"text\": \"{} end\"}}\n", "word ".repeat(13)),
    );
    refused(
        &[&"tasks", &model, &"--lambada", &lambada],
        &["LAMBADA", "69 tokens", "64"],
    );
    f.write("lambada", "{\"text\": \"\\n end\"}\n");
    refused(
        &[&"tasks", &model, &"--lambada", &lambada],
        &["LAMBADA, line 1", "before what is to be found"],
    );
    f.write("labels", "1\n0\n");
    // a tokenizer of more tokens than the model has
    f.model(200).save(&f.file("small")).expect("saved");
    let small = f.file("small");
    refused(
        &[
            &"tasks",
            &small,
            &"--tokenizer",
            &model,
            &"--piqa",
            &piqa,
            &"--labels",
            &labels,
        ],
        &["small", "200 tokens", "257"],
    );
    refused(
        &[&"tasks", &small, &"--piqa", &piqa, &"--labels", &labels],
        &["--tokenizer FILE"],
    );
}
