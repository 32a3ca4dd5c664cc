//! A language model from the command line: checkpoint and text, polynomials, plan, keys, prompt, answer; and what is refused on the way.

mod support;

use nn::PolyGraph;
use nn::format::artefact;
use nn::format::state_dict::StateDict;
use std::path::Path;
use support::{Folder, done, no_usage, refused};
use task::{Prompts, Task};
use zoo::architecture::Architecture;
use zoo::architecture::llama;
use zoo::language::LanguageModel;

const PIECES: [&str; 12] = [
    "<unk>", "\n<s>\n", "\n</s>\n", " ", "a", "b", "c", "d", "ab", "cd", " a", "abcd",
];
/// Tokens of a prompt, the first included.
const LENGTH: usize = 6;

fn tokenizer() -> Vec<u8> {
    let mut bytes = 6i32.to_le_bytes().to_vec();
    for (i, piece) in PIECES.iter().enumerate() {
        bytes.extend((i as f32).to_le_bytes());
        bytes.extend(i32::try_from(piece.len()).expect("short").to_le_bytes());
        bytes.extend(piece.as_bytes());
    }
    bytes
}

fn model() -> LanguageModel {
    let config = llama::Config {
        sizes: zoo::blocks::Sizes {
            width: 8,
            hidden: 12,
            layers: 1,
            heads: 4,
            kv_heads: 2,
            head: 2,
            vocabulary: PIECES.len(),
            max_length: 16,
        },
        epsilon: 1e-2,
        base: 100.0,
        tied: true,
    };
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    LanguageModel::new(Architecture::Llama(config), |_, shape| {
        let gain = if shape.len() == 1 { 1.0 } else { 0.0 };
        let count = shape.iter().product::<usize>();
        (0..count).map(|_| gain + random()).collect()
    })
    .expect("fits")
}

/// A checkpoint, a tokenizer, a text, and the options that calibrate with them.
fn checkpoint(folder: &Folder) -> String {
    model()
        .save(Path::new(&folder.path("model")))
        .expect("saves");
    let tokenizer = folder.file("tok.bin", &tokenizer());
    let text = folder.file(
        "text.txt",
        b"ab cd a b c\nd c b a ab cd\ncd cd a d b c\nb abcd a d c\na a b b c c d\n",
    );
    format!("--text {text} --tokenizer {tokenizer} --length {LENGTH} --bits 10 --degree 7")
}

/// Compiles for a toy ring, which the command line doesn't.
fn toy_plan(folder: &Folder, model: &str, batch: usize) -> (PolyGraph, String) {
    toy_plan_at(folder, model, batch, "all")
}

/// The same, answering at these positions.
fn toy_plan_at(folder: &Folder, model: &str, batch: usize, positions: &str) -> (PolyGraph, String) {
    let graph = artefact::load(Path::new(model), 1 << 24).expect("reads");
    let positions: polyveil::Positions = positions.parse().expect("positions");
    let graph = positions.cut(graph).expect("within");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy(10)),
        batch,
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().unwrap_or_default());
    let client = client.expect("its task").write(Vec::new(), "x");
    folder.file("toy.client", &client.expect("writes"));
    let plan = plan.plan();
    let plan = folder.file("toy.plan", &plan.write(Vec::new(), "x").expect("writes"));
    (graph, plan)
}

fn prompts(graph: &PolyGraph) -> Prompts {
    match Task::of(graph.metadata()) {
        Ok(Some(Task::Prompts(prompts))) => prompts,
        other => panic!("a language model has prompts, not {other:?}"),
    }
}

#[test]
fn a_prompt_goes_through_all_commands_and_comes_back_with_the_twins_tokens() {
    let folder = Folder::new("lm-whole");
    let options = checkpoint(&folder);
    let (model, pvm) = (folder.path("model"), folder.path("tiny.pvm"));
    done(
        &format!("calibrate {model} {options} --power 4 --epsilon 0.1 -o {pvm}"),
        &[],
    );
    let (graph, plan) = toy_plan(&folder, &pvm, 1);
    let format = prompts(&graph);
    assert_eq!(
        (format.length(), format.public(), format.passages().len()),
        (LENGTH, 1, 4)
    );

    let (said, _) = done(&format!("inspect {pvm}"), &[]);
    assert!(said.contains("up to 6 tokens of 12, 1 public"), "{said}");
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
    // shorter than the plan: filled up
    let prompt = "ab c";
    done(&format!("encrypt --key {key} -o {input} --text"), &[prompt]);
    let (report, _) = done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    for purpose in [
        "products of ciphertexts",
        "Power-Softmax",
        "norms and activations",
        "encoding",
    ] {
        assert!(report.contains(purpose), "{purpose} is missing in {report}");
    }
    let tokens = format.encode(prompt).expect("known");
    assert!(tokens.len() < LENGTH, "the prompt is short");
    let twin = graph
        .evaluate(&format.input(&tokens).expect("fits"))
        .expect("evaluates");
    assert!(twin.outside.is_empty(), "{:?}", twin.outside);
    let last = tokens.len() - 2;
    let truth: Vec<Vec<f64>> = (0..=last)
        .map(|p| {
            format
                .logits_at(twin.output.values(), p)
                .expect("a position")
        })
        .collect();
    let best = |v: &[f64]| {
        (0..v.len())
            .max_by(|&a, &b| v[a].total_cmp(&v[b]))
            .expect("logits")
    };
    let (json, _) = done(
        &format!("decrypt --key {key} {answer} --json --text"),
        &[prompt],
    );
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    let next: Vec<usize> = serde_json::from_value(json["next"].clone()).expect("tokens");
    assert_eq!(next, truth.iter().map(|v| best(v)).collect::<Vec<_>>());
    let candidates = json["candidates"].as_array().expect("a list");
    assert_eq!(candidates.len(), 5);
    for c in candidates {
        let token = c["token"].as_u64().expect("a token") as usize;
        let error = (c["logit"].as_f64().expect("a logit") - truth[last][token]).abs();
        assert!(error < 1e-3, "token {token}: {error}");
    }
    // what stands behind a prompt does not reach it
    let whole = format.encode("ab ca").expect("known");
    let other = graph
        .evaluate(&format.input(&whole).expect("fits"))
        .expect("evaluates");
    let at = |p| {
        format
            .logits_at(other.output.values(), p)
            .expect("a position")
    };
    for (a, b) in at(last).iter().zip(&truth[last]) {
        assert!((a - b).abs() < 1e-9);
    }

    let (text, notes) = done(&format!("decrypt --key {key} {answer}"), &[]);
    assert!(
        text.contains("next token:") && notes.contains("give the prompt"),
        "{text}{notes}"
    );
    refused(
        &format!("decrypt --key {key} {answer} --share --releases 1"),
        &[],
        &["can't be shared"],
    );
    refused(
        &format!("encrypt --key {key} -o {input} --text"),
        &["a b c d a b c d"],
        &["too long", "at most 6"],
    );
    refused(
        &format!("encrypt --key {key} -o {input} --text"),
        &["a z"],
        &["0x7a", "no token"],
    );
    refused(
        &format!("encrypt --key {key} -o {input} --text"),
        &[""],
        &["no token to encrypt"],
    );
    // what is asked for is text: no picture of any size
    let encrypt = format!("encrypt --key {key} -o {input}");
    let two = ["--text", "ab c", "--text", "d c"];
    for said in [
        refused(&encrypt, &two, &["--batch"]),
        refused(&format!("{encrypt} --image cat.png"), &[], &["--text"]),
        refused(
            &format!("{encrypt} --data cats.npz --index 0"),
            &[],
            &["--text"],
        ),
    ] {
        assert!(
            !said.contains("picture") && !said.contains("--resize"),
            "{said}"
        );
    }
    let prompts = folder.file("prompts.txt", b"abcd a\n\ncd cd\nb ac\n");
    let results = folder.path("results.jsonl");
    let evaluate =
        format!("evaluate --model {pvm} --plan {plan} --prompts {prompts} --json -o {results}");
    let (json, notes) = done(&evaluate, &[]);
    assert!(notes.contains("stated error of each value"), "{notes}");
    assert!(notes.contains("bootstraps: about "), "{notes}");
    let summary: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    assert_eq!(summary["prompts"], 3, "{summary}");
    assert_eq!(summary["different"], 0, "{summary}");
    let number = |key: &str| summary[key].as_f64().expect("a number");
    assert!(
        number("max_abs_error") <= number("stated_error"),
        "{summary}"
    );
    assert!(number("max_abs_error") > 0.0, "{summary}");
    // everything is there: nothing is run again
    let (again, notes) = done(&evaluate, &[]);
    assert_eq!((again, notes.as_str()), (json, ""));
    refused(
        &format!(
            "evaluate --model {pvm} --prompts {} -o {results}.long",
            folder.file("long.txt", b"a b c d a b c d\n")
        ),
        &[],
        &["long.txt", "prompt 0", "too long"],
    );
}

/// Of a prompt's continuation the last position is enough; what an answer does not hold is said before anything is encrypted, and after.
#[test]
fn answers_at_some_positions_go_through_all_commands() {
    let folder = Folder::new("lm-positions");
    let options = checkpoint(&folder);
    let (model, pvm) = (folder.path("model"), folder.path("tiny.pvm"));
    done(
        &format!("calibrate {model} {options} --power 4 --epsilon 0.1 -o {pvm}"),
        &[],
    );
    let whole = artefact::load(Path::new(&pvm), 1 << 24).expect("reads");
    let (graph, plan) = toy_plan_at(&folder, &pvm, 1, "2,4");
    let (format, all) = (prompts(&graph), prompts(&whole));
    assert_eq!(format.positions(), Some(&[2, 4][..]));
    let (client, keys) = (folder.path("toy.client"), folder.path("keys"));
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let (said, _) = done(&format!("inspect {client}"), &[]);
    assert!(said.contains("logits of positions 2,4 alone"), "{said}");
    let (key, input, answer) = (
        folder.path("keys/client.key"),
        folder.path("x.input"),
        folder.path("x.answer"),
    );
    let encrypt = format!("encrypt --key {key} -o {input} --text");
    // six tokens, the public first one included: the last is at position 4
    let prompt = "ab cb";
    let tokens = format.encode(prompt).expect("known");
    let (last, twin) = (tokens.len() - 2, all.input(&tokens).expect("fits"));
    assert_eq!(last, 4, "{tokens:?}");
    let (_, notes) = done(&encrypt, &[prompt]);
    assert!(!notes.contains("what follows the prompt is not"), "{notes}");
    let run =
        format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}");
    done(&run, &[]);
    let twin = whole.evaluate(&twin).expect("evaluates").output;
    let decrypt = format!("decrypt --key {key} {answer}");
    let (json, _) = done(&format!("{decrypt} --json --text"), &[prompt]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["positions"], serde_json::json!([2, 4]), "{json}");
    assert_eq!(json["next"].as_array().map(Vec::len), Some(2), "{json}");
    let truth = all.logits_at(twin.values(), last).expect("a position");
    for c in json["candidates"].as_array().expect("a list") {
        let token = c["token"].as_u64().expect("a token") as usize;
        let error = (c["logit"].as_f64().expect("a logit") - truth[token]).abs();
        assert!(error < 1e-3, "token {token}: {error}");
    }
    let (text, _) = done(&decrypt, &[]);
    assert!(text.contains("next token after position 4"), "{text}");
    // four tokens of which one is answered, and three of which none is
    let (some, none) = ("ab cd", "ab");
    let ends = |text| format.encode(text).expect("known").len() - 2;
    assert_eq!((ends(some), ends(none)), (3, 1));
    let (_, notes) = done(&encrypt, &[some]);
    assert!(
        notes.contains("positions 2,4 alone") && notes.contains("what follows the prompt is not"),
        "{notes}"
    );
    let (text, _) = done(&format!("{decrypt} --text"), &[some]);
    assert!(
        text.contains("what follows it is not in the answer") && !text.contains("next token"),
        "{text}"
    );
    let words = ["positions 2,4 alone", "ends at position 1"];
    refused(&encrypt, &[none], &words);
    refused(&format!("{decrypt} --text"), &[none], &words);

    let file = folder.file(
        "prompts.txt",
        format!("{prompt}\n{some}\n{none}\n").as_bytes(),
    );
    let results = folder.path("results.jsonl");
    let evaluate =
        format!("evaluate --model {pvm} --plan {plan} --prompts {file} --json -o {results}");
    let words = ["hold 2 positions, not 5", "--positions"];
    refused(&format!("{evaluate}.other"), &[], &words);
    let (json, notes) = done(&format!("{evaluate} --positions 2,4"), &[]);
    assert!(
        notes.contains("prompt 2 is left out: answers hold"),
        "{notes}"
    );
    let summary: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        [
            &summary["prompts"],
            &summary["positions"],
            &summary["different"]
        ],
        [2, 3, 0],
        "{summary}"
    );
    // by hand: what follows position 2 of both, the only token that is there to be found
    let nats = |text: &str| {
        let tokens = all.encode(text).expect("known");
        let twin = whole.evaluate(&all.input(&tokens).expect("fits"));
        let twin = twin.expect("evaluates").output;
        let logits = all.logits_at(twin.values(), 2).expect("a position");
        -task::scores::log_probability(&logits, tokens[4] as usize)
    };
    let perplexity = (0.5 * (nats(prompt) + nats(some))).exp();
    let own = summary["clear_perplexity"].as_f64().expect("a number");
    assert!((own / perplexity - 1.0).abs() < 1e-9, "{own}, {perplexity}");
    let lines = folder.file("lambada.jsonl", b"{\"text\": \"ab cd a\"}\n");
    let words = format!(
        "evaluate --model {pvm} --plan {plan} --lambada {lines} --json -o {results}.lambada"
    );
    let (_, notes) = done(&format!("{words} --positions 2,4"), &[]);
    assert!(notes.contains("needs the logits of position 3"), "{notes}");

    let compile = format!("compile {pvm} -o {}", folder.path("x.plan"));
    let outside = ["position 5", "0 to 4"];
    refused(&format!("{compile} --positions 5"), &[], &outside);
    no_usage(
        &format!("{compile} --positions first"),
        &["names no positions", "all, last"],
    );
    let twice = ["position 1 is named twice"];
    no_usage(&format!("{compile} --positions 1,1"), &twice);
    let resnet = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/resnet20-poly.pvm"
    );
    if Path::new(resnet).exists() {
        let compile = compile.replace(&pvm, resnet);
        refused(
            &format!("{compile} --positions last"),
            &[],
            &["takes pictures", "only a language model's answer"],
        );
    }
}

#[test]
fn prompts_that_share_a_run_come_back_with_their_own_tokens() {
    let folder = Folder::new("lm-batch");
    let options = checkpoint(&folder);
    let (model, pvm) = (folder.path("model"), folder.path("tiny.pvm"));
    done(
        &format!("calibrate {model} {options} --power 4 --epsilon 0.1 -o {pvm}"),
        &[],
    );
    // five positions in eight slots, 64 prompts: one channel fills the 512 slots of a ciphertext
    let (graph, plan) = toy_plan(&folder, &pvm, 64);
    let format = prompts(&graph);
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
    let prompts = ["ab c", "d c", "cd"];
    let texts: Vec<&str> = prompts.iter().flat_map(|p| ["--text", p]).collect();
    done(&format!("encrypt --key {key} -o {input}"), &texts);
    done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    let (lines, _) = done(&format!("decrypt --key {key} {answer} --json"), &texts);
    assert_eq!(lines.lines().count(), prompts.len(), "{lines}");
    for (prompt, line) in prompts.iter().zip(lines.lines()) {
        let tokens = format.encode(prompt).expect("known");
        let twin = graph.evaluate(&format.input(&tokens).expect("fits"));
        let twin = twin.expect("evaluates").output;
        let logits = format.logits_at(twin.values(), tokens.len() - 2);
        let logits = logits.expect("a position");
        let json: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for c in json["candidates"].as_array().expect("a list") {
            let token = c["token"].as_u64().expect("a token") as usize;
            let error = (c["logit"].as_f64().expect("a logit") - logits[token]).abs();
            assert!(error < 1e-3, "{prompt}, token {token}: {error}");
        }
    }
    let lines = folder.file("prompts.txt", b"abcd a\n\ncd cd\nb ac\n");
    let results = folder.path("results.jsonl");
    let (json, _) = done(
        &format!("evaluate --model {pvm} --plan {plan} --prompts {lines} --json -o {results}"),
        &[],
    );
    let summary: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    assert_eq!(
        (&summary["prompts"], &summary["different"]),
        (&3.into(), &0.into()),
        "{summary}"
    );
    let perplexity = |key: &str| summary[key].as_f64().expect("a number");
    let (own, clear) = (perplexity("perplexity"), perplexity("clear_perplexity"));
    assert!(own > 1.0 && (own / clear - 1.0).abs() < 1e-3, "{summary}");
    let rows = std::fs::read_to_string(&results).expect("results");
    assert_eq!(rows.matches("\"inputs_in_the_run\":3").count(), 3, "{rows}");

    last_words(&folder, &pvm, &plan, &graph, &format);
    refused(
        &format!("decrypt --key {key} {answer} --count 65"),
        &[],
        &["65 answers", "64 at a time"],
    );
    refused(
        &format!("compile {pvm} -o {} --batch 3", folder.path("x.plan")),
        &[],
        &["a batch of 3", "power of two"],
    );
}

/// LAMBADA's task: short passages, one that is cut, and one whose word is longer than the plan.
fn last_words(folder: &Folder, pvm: &str, plan: &str, graph: &PolyGraph, format: &Prompts) {
    let passages = [
        "ab cd a",
        "cd b",
        "ab cd a b c d",
        "ab cdabcdabcdabcdabcdabcd",
    ];
    let lines: String = passages
        .iter()
        .map(|p| format!("{{\"text\": \"{p}\"}}\n"))
        .collect();
    let file = folder.file("lambada.jsonl", lines.as_bytes());
    let results = folder.path("lambada-results.jsonl");
    let evaluate =
        format!("evaluate --model {pvm} --plan {plan} --lambada {file} --json -o {results}");
    let (json, notes) = done(&evaluate, &[]);
    assert!(
        notes.contains("sequence 3 is left out: what is to be found is longer"),
        "{notes}"
    );
    let summary: serde_json::Value = serde_json::from_str(&json).expect("JSON alone on stdout");
    assert_eq!(
        (&summary["sequences"], &summary["cut"]),
        (&3.into(), &1.into()),
        "{summary}"
    );
    assert_eq!(summary["lambada_right"], summary["lambada_right_clear"]);
    let rows = std::fs::read_to_string(&results).expect("results");
    let rows = rows.lines().filter_map(|l| serde_json::from_str(l).ok());
    let rows: Vec<serde_json::Value> = rows
        .filter(|l: &serde_json::Value| l["index"].is_u64())
        .collect();
    let mut sum = 0.0;
    for (passage, row) in passages.iter().zip(&rows) {
        // by hand: the passage's tokens behind the context's, at most as many as the plan takes
        let all = format.tokens(passage).expect("known");
        let (context, _) = passage.rsplit_once(' ').expect("a word");
        let first = format.tokens(context).expect("known").len();
        let cut = all.len().saturating_sub(LENGTH);
        let tokens: Vec<u32> = [&all[..1], &all[1 + cut..]].concat();
        let twin = graph.evaluate(&format.input(&tokens).expect("fits"));
        let twin = twin.expect("evaluates").output;
        let mut log = 0.0;
        for i in first - cut..tokens.len() {
            let logits = format.logits_at(twin.values(), i - 2).expect("a position");
            let all: f64 = logits.iter().map(|l| l.exp()).sum();
            log += logits[tokens[i] as usize] - all.ln();
        }
        let number = |key: &str| row[key].as_f64().expect("a number");
        assert!(
            (number("clear_log_probability") - log).abs() < 1e-9,
            "{row}"
        );
        assert!((number("log_probability") - log).abs() < 1e-3, "{row}");
        assert_eq!(row["cut"].as_u64(), Some(cut as u64), "{row}");
        sum += log;
    }
    let perplexity = summary["last_word_perplexity_clear"]
        .as_f64()
        .expect("a number");
    assert!(
        (perplexity / (-sum / 3.0).exp() - 1.0).abs() < 1e-9,
        "{summary}"
    );

    let no_word = folder.file("no-word.jsonl", b"{\"text\": \"ab\"}\n");
    refused(
        &format!("evaluate --model {pvm} --lambada {no_word} -o {results}"),
        &[],
        &["no-word.jsonl", "line 1", "no last word"],
    );
    let piqa = folder.file(
        "piqa.jsonl",
        b"{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}\n",
    );
    let labels = folder.file("labels.lst", b"0\n1\n");
    refused(
        &format!("evaluate --model {pvm} --piqa {piqa} --labels {labels} -o {results}"),
        &[],
        &["labels.lst", "2 labels", "1 questions"],
    );
}

#[test]
fn checkpoints_attention_and_intervals_are_refused_with_what_is_wrong() {
    let folder = Folder::new("lm-refusals");
    let options = checkpoint(&folder);
    let (model, pvm) = (folder.path("model"), folder.path("tiny.pvm"));
    let calibrate = |more: &str| format!("calibrate {model} {options} -o {pvm} {more}");
    refused(
        &calibrate("--power 3"),
        &[],
        &["even exponent", "3 was given"],
    );
    refused(&calibrate("--power 4 --epsilon=-1"), &[], &["ε", "-1"]);
    refused(&calibrate(""), &[], &["--power"]);
    let short = calibrate("--power 4").replace("--length 6", "--length 17");
    refused(&short, &[], &["17 tokens is too long", "at most 16"]);
    let foreign = folder.file("foreign.bin", &tokenizer()[..60]);
    let foreign = calibrate("--power 4").replace(&folder.path("tok.bin"), &foreign);
    refused(&foreign, &[], &["foreign.bin"]);

    // a tensor is missing, or has another shape
    let stored = Path::new(&model).join("model.safetensors");
    let whole = std::fs::read(&stored).expect("reads");
    let tensors = || {
        StateDict::load(&stored, 1 << 24)
            .expect("reads")
            .tensors()
            .clone()
    };
    let name = "model.layers.0.mlp.up_proj.weight";
    let write = |edit: &dyn Fn(
        &mut std::collections::BTreeMap<String, nn::format::state_dict::StateTensor>,
    )| {
        let mut all = tensors();
        edit(&mut all);
        let bytes = StateDict::new(all).to_safetensors().expect("writes");
        std::fs::write(&stored, bytes).expect("writes");
    };
    write(&|all| drop(all.remove(name)));
    refused(&calibrate("--power 4"), &[], &[name, "is missing"]);
    std::fs::write(&stored, &whole).expect("writes");
    write(&|all| {
        if let Some(t) = all.get_mut(name) {
            t.shape.reverse();
        }
    });
    refused(&calibrate("--power 4"), &[], &[name, "[8, 12]", "[12, 8]"]);
    std::fs::write(&stored, &whole).expect("writes");

    // a run's own intervals, of which one is too narrow for the text
    let scheme = nn::AttentionScheme::Power(nn::PowerSoftmax::new(4, 0.1).expect("even"));
    let graph = self::model().graph(LENGTH, scheme).expect("builds");
    let network = artefact::graph_to_bytes(&graph, &nn::Metadata::default()).expect("writes");
    folder.file("model/network.pvm", &network);
    let polynomial = |bound: f64| {
        let p = approx::Polynomial::new(vec![0.1, 0.5, 0.1], (-bound, bound)).expect("valid");
        nn::approximations::Substitute::Polynomial(p)
    };
    let program = |function, interval| {
        nn::approximations::Substitute::Program(
            approx::iteration::choose(function, interval, 8.0, 16).expect("possible"),
        )
    };
    let pieces = |bound: f64| {
        let mut by_node = std::collections::BTreeMap::new();
        for node in graph.nodes() {
            let piece = match node.op() {
                nn::Op::Elementwise(_) => polynomial(bound),
                nn::Op::Norm(_) => program(approx::Function::RootQuotient, (1e-2, 100.0)),
                nn::Op::Attention(_) => program(approx::Function::Quotient, (0.09, 1000.0)),
                _ => continue,
            };
            by_node.insert(node.id(), piece);
        }
        let pieces = nn::approximations::Approximations { first: 1, by_node };
        folder.file(
            "model/approximations.json",
            pieces.to_json(&graph).expect("writes").as_bytes(),
        );
    };
    pieces(1e-3);
    refused(
        &calibrate(""),
        &[],
        &[
            "model.layers.0.mlp.act_fn",
            "outside of its interval [-0.0010, 0.0010]",
            "--leave-out",
        ],
    );
    refused(&calibrate("--power 4"), &[], &["leave --power out"]);
    pieces(50.0);
    let (_, notes) = done(&calibrate(""), &[]);
    assert!(notes.contains("a/sqrt(x) on [0.0100, 100.0000]"), "{notes}");

    // pictures and prompts are told apart
    let prompts = folder.file("prompts.txt", b"a b\n");
    let resnet = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/resnet20-poly.pvm"
    );
    if Path::new(resnet).exists() {
        refused(
            &format!("evaluate --model {resnet} --prompts {prompts} -o {pvm}.jsonl"),
            &[],
            &["no prompts"],
        );
    }
}
