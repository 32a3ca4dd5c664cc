//! Everyday manners: a reader who goes away or a full disk behind a log costs no result, signals say how to go on, and nothing that a file
//! says of itself reaches the terminal as a control sequence.

mod support;

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};
use support::{Folder, done, refused};

const XOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
const ROWS: &str = "name;left;right;differ\na;0;0;0\nb;0;1;1\nc;1;0;1\nd;1;1;0\n";

fn model(folder: &Folder, more: &[&str]) -> String {
    let rows = folder.file("rows.csv", ROWS.as_bytes());
    let model = folder.path("xor.pvm");
    done(
        &format!(
            "calibrate {XOR} --data {rows} --without name --class-column differ --normalization none --degree 7 -o {model}"
        ),
        more,
    );
    model
}

fn started(arguments: &str, out: Stdio, err: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyveil"));
    let command = command
        .args(arguments.split_whitespace())
        .env_remove("POLYVEIL_MACHINE");
    let child = command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn();
    child.expect("starts").wait_with_output().expect("ends")
}

/// The writing end of a pipe that nobody reads.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("a device")
        .into()
}

#[test]
fn closed_and_full_outputs_cost_no_result() {
    let folder = Folder::new("closed");
    let model = model(&folder, &["--labels", "equal,different"]);
    let plan = folder.path("xor.plan");
    let compile = format!("compile {model} --no-probe --json -o {plan}");
    for err in [nobody, full] {
        let out = started(&compile, Stdio::piped(), err());
        assert!(out.status.success(), "{:?}", out.status);
        assert!(std::fs::remove_file(&plan).is_ok());
    }
    let inspect = format!("inspect {model}");
    assert!(started(&inspect, nobody(), Stdio::piped()).status.success());
    for command in [&inspect, &compile] {
        let out = started(command, full(), Stdio::piped());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(
            said.contains("standard output") && !said.contains("panic"),
            "{said}"
        );
    }
    assert!(std::path::Path::new(&plan).exists());
}

#[test]
fn control_sequences_of_foreign_files_are_not_obeyed() {
    let folder = Folder::new("escapes");
    // a reader that refuses such labels is as good
    let model = folder.file("a\u{1b}[2J\nb.pvm", b"nothing");
    let out = Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .args(["inspect", &model])
        .output()
        .expect("starts");
    let said =
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(
        !said.contains('\u{1b}') && said.contains("\\u001b[2J"),
        "{said}"
    );
    // nobody writes such a label, and nobody reads one that somebody wrote
    let calibrate = format!(
        "calibrate {XOR} --data {} --without name --class-column differ --normalization none -o {}",
        folder.file("rows.csv", ROWS.as_bytes()),
        folder.path("xor.pvm")
    );
    let label = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let labels = ["--labels", &format!("equal,{label}")];
    refused(&calibrate, &labels, &["class 2", "control characters"]);
    let model = self::model(&folder, &["--labels", "equal,0123456789012"]);
    let graph = nn::format::artefact::load(std::path::Path::new(&model), 1 << 20).expect("reads");
    let mut metadata = graph.metadata().clone();
    let task = metadata.task.as_deref().expect("a task");
    let place = task.windows(13).position(|w| w == b"0123456789012");
    let mut bytes = task.to_vec();
    bytes[place.expect("there")..][..13].copy_from_slice(&label.as_bytes()[..13]);
    metadata.task = Some(bytes.into());
    let hostile = nn::format::artefact::to_bytes(&graph.with_metadata(metadata)).expect("writes");
    let hostile = folder.file("hostile.pvm", &hostile);
    let compile = format!("compile -o {}", folder.path("x.plan"));
    for command in ["inspect", &compile] {
        refused(
            &format!("{command} {hostile}"),
            &[],
            &["class 2", "control"],
        );
    }
}

#[test]
fn the_version_names_the_commit_and_shells_complete() {
    let (version, _) = done("--version", &[]);
    assert!(
        version.contains('(') && (version.contains("unknown") || version.trim_end().len() > 25),
        "{version}"
    );
    for shell in ["bash", "zsh", "fish"] {
        let (script, _) = done(&format!("completions {shell}"), &[]);
        assert!(script.contains("decrypt") && script.contains("class-only"));
    }
}

#[test]
fn a_signal_says_how_to_go_on_and_leaves_no_half_file() {
    let folder = Folder::new("signal");
    let fifo = folder.path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo")
            .success()
    );
    let plan = model(&folder, &["--labels", "equal,different"]).replace("xor.pvm", "xor.plan");
    done(
        &format!("compile {} --no-probe -o {plan}", folder.path("xor.pvm")),
        &[],
    );
    let results = folder.path("x.answer");
    // waits for its keys, which never come
    let run = format!("run --plan {plan} --no-probe --keys {fifo} --input {fifo} -o {results}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyveil"));
    let child = command
        .args(run.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("starts");
    let partial = || {
        let all = std::fs::read_dir(folder.path("")).expect("a folder");
        all.flatten()
            .any(|e| e.file_name().to_string_lossy().ends_with(".partial"))
    };
    for _ in 0..600 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        if partial() {
            break;
        }
    }
    assert!(partial(), "it opens its answer before it waits");
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill")
            .success()
    );
    let out = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("--resume"), "{said}");
    assert!(!partial());
}

/// The file as version 7 had it: without a checksum.
fn before_version_8(bytes: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("UTF-8");
    let (before, rest) = header.split_once("\"blake3\":\"").expect("a checksum");
    let header =
        format!("{before}{}", &rest[66..]).replace("\"polyveil\":\"8\"", "\"polyveil\":\"7\"");
    let mut old = bytes[..8].to_vec();
    old.extend(format!("{header:length$}").bytes());
    old.extend(&bytes[8 + length..]);
    old
}

#[test]
fn models_without_a_checksum_are_read_with_a_warning() {
    let folder = Folder::new("unsealed");
    let model = model(&folder, &["--labels", "equal,different"]);
    let old = before_version_8(&std::fs::read(&model).expect("there"));
    let old = folder.file("old.pvm", &old);
    let (rows, array) = (folder.path("rows.csv"), folder.path("x.npy"));
    let head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{head:117}\n").bytes());
    bytes.extend([0; 8]);
    std::fs::write(&array, bytes).expect("a file");
    let columns = "--without name --class-column differ";
    let out = folder.path("out");
    for (line, file) in [
        (format!("compile --no-probe --force -o {out} "), ""),
        ("inspect ".into(), ""),
        (format!("values --input {array} "), ""),
        (
            format!("calibrate --data {rows} {columns} --force -o {out}.pvm "),
            "",
        ),
        (
            format!(
                "evaluate --data {rows} {columns} --count 1 --no-probe -o {out}.jsonl --model "
            ),
            "out.jsonl",
        ),
    ] {
        for (model, warned) in [(&old, true), (&model, false)] {
            let (_, said) = done(&format!("{line}{model}"), &[]);
            let has = said.contains("warning") && said.contains("no checksum");
            assert_eq!(has, warned, "{line}{model}: {said}");
            if !file.is_empty() {
                std::fs::remove_file(folder.path(file)).expect("results");
            }
        }
    }
}

#[test]
fn a_model_in_a_plans_place_is_called_one() {
    let folder = Folder::new("model-as-plan");
    let model = model(&folder, &["--labels", "equal,different"]);
    let (rows, out) = (folder.path("rows.csv"), folder.path("out"));
    let words = ["xor.pvm", "a model", "`polyveil compile`"];
    for line in [
        format!("run --plan {model} --keys {rows} --input {rows} -o {out}"),
        format!("keygen {model} -o {out}"),
    ] {
        refused(&line, &[], &words);
    }
}

#[test]
fn a_newcomers_way_is_short_and_says_what_it_means() {
    let folder = Folder::new("newcomer");
    let model = model(&folder, &["--labels", "equal,different"]);
    let path = |name: &str| folder.path(name);
    let (inspected, _) = done(&format!("inspect {model}"), &[]);
    for line in ["as they are: left, right", "classes: equal, different"] {
        assert!(inspected.contains(line), "{inspected}");
    }
    let plan = path("xor.plan");
    let (_, said) = done(&format!("compile {model} -o {plan}"), &[]);
    assert!(said.contains("polynomial network's in the clear"), "{said}");
    // why these parameters is for whoever asks
    assert!(
        !said.contains("the network takes") && said.lines().count() < 10,
        "{said}"
    );
    let (inspected, _) = done(&format!("inspect {plan}"), &[]);
    assert!(
        inspected.contains("the network takes 5 levels"),
        "{inspected}"
    );
    let [client, keys, input, answer] = ["xor.client", "keys", "x.input", "x.answer"].map(path);
    done(&format!("keygen {client} -o {keys}"), &[]);
    let (inspected, _) = done(&format!("inspect {keys}/client.key"), &[]);
    assert!(
        inspected.contains("classes: equal, different"),
        "{inspected}"
    );
    let columns = "--without name --class-column differ";
    let rows = path("rows.csv");
    done(
        &format!("encrypt --key {keys}/client.key --data {rows} {columns} --index 1 -o {input}"),
        &[],
    );
    // a probe would take more than the run
    let run =
        format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}");
    let (json, _) = done(&run, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON alone");
    let bytes = |key: &str| json[key].as_u64().expect(key);
    assert!(
        bytes("peak_bytes") <= bytes("predicted_peak_bytes"),
        "{json}"
    );
    // a public file in the secret one's place is no secret that others can read
    let decrypt = format!("decrypt --key {keys}/evaluation.keys {answer}");
    let out = started(&decrypt, Stdio::piped(), Stdio::piped());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && !said.contains("warning"), "{said}");
    let results = path("results.jsonl");
    let evaluate =
        format!("evaluate --model {model} --plan {plan} --data {rows} {columns} -o {results}");
    let (summary, said) = done(&evaluate, &[]);
    for line in ["4  rows", "4  right\n", "4  same class as clear"] {
        assert!(summary.contains(line), "{summary}");
    }
    assert!(
        said.contains("2/4: row 1: \"different\", as in the clear; off by "),
        "{said}"
    );
    assert!(
        !summary.contains('{') && !said.contains('{'),
        "{summary}{said}"
    );
}

#[test]
fn a_small_stack_is_enough_to_start_on() {
    let folder = Folder::new("stack");
    let model = model(&folder, &[]);
    let out = Command::new("sh")
        .args(["-c", "ulimit -s 64; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_polyveil"), "inspect", &model])
        .output()
        .expect("starts");
    assert!(out.status.success(), "{:?}", out);
}

#[test]
fn results_belong_to_one_model_and_one_set() {
    let folder = Folder::new("results");
    let model = model(&folder, &["--labels", "equal,different"]);
    let (rows, more) = (
        folder.path("rows.csv"),
        folder.file("more.csv", (ROWS.to_owned() + "e;0;1;1\n").as_bytes()),
    );
    let results = folder.path("results.jsonl");
    let columns = "--without name --class-column differ --no-probe";
    let evaluate = |model: &str, data: &str, count: &str| {
        format!(
            "evaluate --model {model} --data {data} {columns} --json --count {count} -o {results}"
        )
    };
    // nothing overflows, and beyond the end there is nothing
    let most = "18446744073709551615 --skip";
    let (json, _) = done(&evaluate(&model, &rows, &format!("{most} 3")), &[]);
    assert!(json.contains("\"rows\":1"), "{json}");
    for skip in ["4", "18446744073709551615"] {
        let evaluate = evaluate(&model, &rows, &format!("{most} {skip}"));
        refused(&evaluate, &[], &["4 rows"]);
    }
    // as if one had been computed, twice
    let graph = nn::format::artefact::load(std::path::Path::new(&model), 1 << 20).expect("reads");
    let digest = nn::format::artefact::digest(&graph).expect("writes");
    let of_rows = runtime::checkpoint::input_digest(ROWS.as_bytes(), "x").expect("reads");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let head = serde_json::json!({
        "model": hex(&digest), "data": hex(&of_rows), "read_as": "None Classes(Some(\"differ\")) [\"name\"] false"
    });
    let line = "{\"index\":0,\"max_abs_error\":0.5}\n";
    folder.file("results.jsonl", format!("{head}\n{line}{line}").as_bytes());
    let (json, _) = done(&evaluate(&model, &rows, "1"), &[]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json.as_object().expect("object").values().any(|v| *v == 1) && json["max_abs_error"] == 0.5,
        "{json}"
    );
    refused(
        &evaluate(&model, &more, "1"),
        &[],
        &["results.jsonl", "of other data"],
    );
    let other = folder.path("other.pvm");
    done(
        &format!(
            "calibrate {XOR} --data {rows} --without name --class-column differ --normalization none --degree 5 --labels equal,different -o {other}"
        ),
        &[],
    );
    refused(
        &evaluate(&other, &rows, "1"),
        &[],
        &["results.jsonl", "another model"],
    );
    // the plan of a network of the same name and shapes, and of nearly the same answers
    let plan = folder.path("other.plan");
    let graph = nn::format::artefact::to_bytes(&moved(graph)).expect("writes");
    std::fs::write(&other, graph).expect("writes");
    done(&format!("compile {other} --no-probe -o {plan}"), &[]);
    std::fs::remove_file(&results).expect("there");
    refused(
        &evaluate(&model, &rows, &format!("1 --plan {plan}")),
        &[],
        &["another network"],
    );
    refused(&evaluate(&model, &rows, "0"), &[], &["0"]);
    folder.file("results.jsonl", b"mine");
    refused(&evaluate(&model, &rows, "1"), &[], &["results.jsonl"]);
    assert_eq!(std::fs::read(&results).expect("there"), b"mine");
}

/// The same network but for its last layer's bias.
fn moved(graph: nn::PolyGraph) -> nn::PolyGraph {
    let (ranges, metadata) = (graph.ranges().map(<[_]>::to_vec), graph.metadata().clone());
    let mut b = nn::Network::<approx::Polynomial>::builder();
    let last = graph.output().id();
    let mut ids = Vec::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        let mut op = node.op().clone();
        if let (nn::Op::Linear(l), true) = (&mut op, i == last.index()) {
            let width = l.weight.shape()[0];
            let old = (l.bias.as_ref()).map_or(vec![0.0; width], |b| b.values().to_vec());
            let bias: Vec<f32> = old.iter().map(|b| b - 1e-4).collect();
            let bias = nn::Parameter::new("bias", [width], bias);
            l.bias = Some(bias.expect("finite"));
        }
        let inputs: Vec<_> = node.inputs().iter().map(|i| ids[i.index()]).collect();
        ids.push(match &op {
            nn::Op::Input(shape) => b.input(node.name(), *shape).expect("valid"),
            _ => b.add(node.name(), op, &inputs).expect("valid"),
        });
    }
    let graph =
        nn::PolyGraph::from(b.finish(ids[last.index()]).expect("valid")).with_metadata(metadata);
    match ranges {
        Some(ranges) => graph.with_ranges(ranges).expect("fits"),
        None => graph,
    }
}
