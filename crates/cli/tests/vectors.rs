//! Rows of numbers through all commands, on a toy ring: calibrate → keygen → encrypt → run → decrypt, as classes and as values; and evaluate.

mod support;

use nn::format::artefact;
use std::path::Path;
use support::{Folder, done, refused};

const XOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
const ROWS: &str = "name;left;right;differ\na;0;0;0\nb;0;1;1\nc;1;0;1\nd;1;1;0\n";

/// Compiles for a toy ring, which the command line doesn't.
fn toy_plan(folder: &Folder, model: &str, batch: usize) -> nn::PolyGraph {
    let graph = artefact::load(Path::new(model), 1 << 20).expect("reads");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(9, 6)),
        batch,
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
    let client = client.expect("its task").write(Vec::new(), "x");
    folder.file("toy.client", &client.expect("writes"));
    let bytes = plan.plan().write(Vec::new(), "x").expect("writes");
    folder.file("toy.plan", &bytes);
    graph
}

/// Encrypts a row, runs, decrypts.
fn through(folder: &Folder, rows: &str, index: usize) -> serde_json::Value {
    let path = |name: &str| folder.path(name);
    let (key, input, answer) = (path("keys/client.key"), path("x.input"), path("x.answer"));
    let columns = "--without name --class-column differ";
    done(
        &format!("encrypt --key {key} --data {rows} --index {index} {columns} -o {input}"),
        &[],
    );
    let keys = path("keys/evaluation.keys");
    let plan = path("toy.plan");
    done(
        &format!("run --plan {plan} --keys {keys} --input {input} -o {answer}"),
        &[],
    );
    let (json, _) = done(&format!("decrypt --key {key} {answer} --json"), &[]);
    serde_json::from_str(&json).expect("JSON alone on stdout")
}

#[test]
fn rows_come_back_as_classes_or_as_values() {
    let folder = Folder::new("rows");
    let rows = folder.file("rows.csv", ROWS.as_bytes());
    let pvm = folder.path("xor.pvm");
    let columns = "--without name --class-column differ";
    let calibrate =
        format!("calibrate {XOR} --data {rows} {columns} --normalization none --degree 7 -o {pvm}");
    let keygen = format!(
        "keygen {} -o {} --insecure-toy --replace",
        folder.path("toy.client"),
        folder.path("keys")
    );
    for outputs in ["--labels equal,different", "--values equal,different"] {
        done(&format!("{calibrate} {outputs}"), &[]);
        let graph = toy_plan(&folder, &pvm, 1);
        done(&keygen, &[]);
        for (index, row) in [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
            .iter()
            .enumerate()
        {
            let json = through(&folder, &rows, index);
            let x = nn::Tensor::new(nn::Shape::Vector(2), row.to_vec()).expect("two");
            let clear = graph.evaluate(&x).expect("evaluates").output;
            let bound = json["error_bound"].as_f64().expect("stated");
            let values: Vec<f64> = match json["logits"].as_array() {
                Some(logits) => {
                    assert_eq!(json["class"], usize::from(row[0] != row[1]), "{json}");
                    logits.iter().filter_map(|v| v.as_f64()).collect()
                }
                None => {
                    let values = json["values"].as_array().expect("values");
                    assert_eq!(values[1]["name"], "different");
                    values.iter().filter_map(|v| v["value"].as_f64()).collect()
                }
            };
            assert_eq!(values.len(), 2);
            for (had, clear) in values.iter().zip(clear.values()) {
                assert!((had - clear).abs() <= bound, "{json}: {clear}");
            }
        }
    }
}

#[test]
fn rows_go_side_by_side() {
    let folder = Folder::new("rows-batch");
    let rows = folder.file("rows.csv", ROWS.as_bytes());
    let path = |name: &str| folder.path(name);
    let (pvm, key) = (path("xor.pvm"), path("keys/client.key"));
    let columns = "--without name --class-column differ";
    let calibrate =
        format!("calibrate {XOR} --data {rows} {columns} --normalization none --degree 7 -o {pvm}");
    done(&calibrate, &[]);
    toy_plan(&folder, &pvm, 4);
    let (client, keys) = (path("toy.client"), path("keys"));
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let (input, answer) = (path("x.input"), path("x.answer"));
    let each: String = (0..4).map(|i| format!(" --index {i}")).collect();
    done(
        &format!("encrypt --key {key} --data {rows}{each} {columns} -o {input}"),
        &[],
    );
    let plan = path("toy.plan");
    done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    let (lines, _) = done(
        &format!("decrypt --key {key} {answer} --count 4 --json"),
        &[],
    );
    let classes: Vec<u64> = lines
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"))
        .filter_map(|answer| answer["class"].as_u64())
        .collect();
    assert_eq!(classes, [0, 1, 1, 0]);
    // fewer than the plan takes: nothing in the answer tells how many, so both sides say what to do
    let (_, said) = done(
        &format!("encrypt --key {key} --data {rows} --index 0 --index 1 {columns} -o {input}"),
        &[],
    );
    assert!(
        said.contains("2 of 4 inputs") && said.contains("--count 2"),
        "{said}"
    );
    let decrypt = format!("decrypt --key {key} {answer}");
    let (_, said) = done(&decrypt, &[]);
    assert!(
        said.contains("one answer of a plan that takes 4") && said.contains("--count N"),
        "{said}"
    );
    let (_, said) = done(&format!("{decrypt} --count 1"), &[]);
    assert!(!said.contains("--count"), "{said}");
    // places that nothing was encrypted for hold the others again
    done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    let (_, said) = done(&format!("{decrypt} --count 4"), &[]);
    assert!(
        said.contains("answer 3 is answer 1 again, as if 2 of 4"),
        "{said}"
    );
    let (_, said) = done(&format!("{decrypt} --count 2"), &[]);
    assert!(!said.contains("again"), "{said}");
    // before there is a record, too
    let record = path("keys/releases.json");
    refused(
        &format!("{decrypt} --npy {record}"),
        &[],
        &["take the place", "releases.json"],
    );
    let each = " --index 0".repeat(5);
    let more = format!("encrypt --key {key} --data {rows}{each} {columns} -o {input}");
    refused(&more, &[], &["5 inputs", "4 at a time"]);
    for count in ["0", "5"] {
        let words = [count, "4 at a time", "--count N"];
        refused(&format!("{decrypt} --count {count}"), &[], &words);
    }
}

#[test]
fn rows_that_do_not_fit_are_refused_with_row_and_column() {
    let folder = Folder::new("rows-refused");
    let pvm = folder.path("xor.pvm");
    let calibrate = |text: &str, more: &str, words: &[&str]| {
        let rows = folder.file("rows.csv", text.as_bytes());
        refused(
            &format!("calibrate {XOR} --data {rows} --normalization none {more} -o {pvm}"),
            &[],
            words,
        );
    };
    calibrate("a,b\n1,2\n3,\n", "", &["rows.csv", "b"]);
    let x = ["rows.csv: line 2, column 2", "\"x\"", "--without NAME"];
    calibrate("a,b\n1,x\n", "", &x);
    let picture = folder.file("a.png", b"");
    refused(
        &format!("calibrate {XOR} --data {picture} --normalization none -o {pvm}"),
        &[],
        &["a.png", "takes rows of numbers, these are pictures"],
    );
    calibrate("a,b,c\n1,2,3\n", "", &["xor.onnx", "3"]);
    calibrate("a,b\n1,2\n", "--without c", &["c"]);
    for margin in ["=-0.3", " 1e300", " nan", " inf"] {
        let words = ["margin = ", "0 to 10"];
        calibrate("a,b\n1,2\n", &format!("--margin{margin}"), &words);
    }
    for degree in ["0", "256"] {
        let words = [&*format!("degree = {degree}"), "1 to 255"];
        calibrate("a,b\n1,2\n", &format!("--degree {degree}"), &words);
    }
}

#[test]
fn classes_that_the_network_does_not_have_are_told() {
    let folder = Folder::new("rows-classes");
    let pvm = folder.path("xor.pvm");
    for (last, warned) in [(1, false), (2, true)] {
        let rows = format!("a,b,c\n0,0,0\n1,0,1\n1,1,{last}\n");
        let rows = folder.file("rows.csv", rows.as_bytes());
        let calibrate = format!(
            "calibrate {XOR} --data {rows} --class-column c --normalization none --degree 7 -o {pvm}"
        );
        let (_, said) = done(&calibrate, &[]);
        let has = said.contains("warning: ") && said.contains("classes 0 to 2");
        assert_eq!(has, warned, "{said}");
    }
}

/// Numbers as numpy writes them.
fn array(shape: &str, values: &[f64]) -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).expect("short").to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

#[test]
fn arrays_are_rows_without_names_and_inputs_of_their_own_shape() {
    let folder = Folder::new("arrays");
    let rows = folder.file(
        "rows.npy",
        &array("(4, 2)", &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]),
    );
    let pvm = folder.path("xor.pvm");
    done(
        &format!("calibrate {XOR} --data {rows} --normalization none --degree 7 -o {pvm}"),
        &[],
    );
    let of = |shape: &str, values: &[f64]| {
        let x = folder.file("x.npy", &array(shape, values));
        format!("values {XOR} --input {x}")
    };
    let one = [0.0, 1.0];
    assert_eq!(done(&of("(2,)", &one), &[]), done(&of("(1, 2)", &one), &[]));
    refused(&of("(2, 1)", &one), &[], &["shape", "x.npy"]);
    // some functions make numbers of what is none
    refused(&of("(2,)", &[f64::NAN, 1.0]), &[], &["NaN", "x.npy"]);
    let (json, said) = done(&of("(2,)", &[1.7e308; 2]), &[]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json["values"][0].is_string() && said.contains("warning"),
        "{json}, {said}"
    );
    assert!(json["outside"].is_null(), "{json}");
    // beyond an interval a polynomial's answer means nothing, and looks like any other
    for (numbers, beyond) in [([0.0, 1.0], false), ([30.0, -40.0], true)] {
        let x = folder.file("x.npy", &array("(2,)", &numbers));
        let (json, said) = done(&format!("values {pvm} --input {x}"), &[]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let first = json["outside"][0].as_str().unwrap_or_default();
        assert_eq!(first.contains("values outside ["), beyond, "{json}");
        assert_eq!(said.contains("leaves its polynomial's interval"), beyond);
    }
}

#[test]
fn rows_of_other_columns_or_beyond_the_bound_are_refused_by_their_file() {
    let folder = Folder::new("columns");
    let rows = folder.file("rows.csv", ROWS.as_bytes());
    let pvm = folder.path("xor.pvm");
    let columns = "--without name --class-column differ";
    done(
        &format!(
            "calibrate {XOR} --data {rows} {columns} --normalization none --degree 7 -o {pvm}"
        ),
        &[],
    );
    toy_plan(&folder, &pvm, 1);
    let (toy, keys) = (folder.path("toy.client"), folder.path("keys"));
    done(&format!("keygen {toy} -o {keys} --insecure-toy"), &[]);
    let encrypt = |text: &str| {
        let (rows, input) = (
            folder.file("more.csv", text.as_bytes()),
            folder.path("x.input"),
        );
        format!("encrypt --key {keys}/client.key --data {rows} --index 0 -o {input} --force")
    };
    done(&encrypt("right,left\n0,1\n"), &[]);
    done(&encrypt("1,0\n"), &[]);
    refused(
        &encrypt("right,left,id\n0,1,7\n"),
        &[],
        &["more.csv", "\"id\"", "--without"],
    );
    refused(&encrypt("right,up\n0,1\n"), &[], &["\"left\"", "\"up\""]);
    // what is asked for is a row: no picture of any size
    let text = format!(
        "encrypt --key {keys}/client.key -o {}",
        folder.path("x.input")
    );
    for said in [
        refused(&encrypt("5,1,2\n"), &[], &["3"]),
        refused(&text, &["--text", "a"], &["takes rows"]),
    ] {
        assert!(
            !said.contains("picture") && !said.contains("--resize"),
            "{said}"
        );
    }
    refused(
        &encrypt("right,left\n0,90\n"),
        &[],
        &[
            "more.csv",
            "row 0",
            "\"left\" is 90",
            "ask whoever gave you the client file",
        ],
    );
    // a network of no file's columns is calibrated on rows without names
    let plain = folder.file("plain.csv", b"0,0\n0,1\n1,0\n1,1\n");
    done(
        &format!("calibrate {XOR} --data {plain} --normalization none --degree 7 -o {pvm} --force"),
        &[],
    );
}

#[test]
fn classes_of_texts_name_the_outputs() {
    let folder = Folder::new("texts");
    let rows = ROWS
        .replace(";0\n", ";equal\n")
        .replace(";1\n", ";different\n");
    let (rows, pvm) = (
        folder.file("rows.csv", rows.as_bytes()),
        folder.path("xor.pvm"),
    );
    let calibrate = format!(
        "calibrate {XOR} --data {rows} --without name --class-column differ --normalization none --degree 7 -o {pvm} --force"
    );
    let (_, notes) = done(&calibrate, &[]);
    let said =
        "output 0 = different, 1 = equal (alphabetical; labels that are named say otherwise)";
    assert!(notes.contains(said), "{notes}");
    let graph = artefact::load(Path::new(&pvm), 1 << 20).expect("reads");
    let task = task::Task::of(graph.metadata()).expect("reads");
    let task = task.expect("a task");
    let names = task.outputs().expect("outputs").names();
    assert_eq!(names, ["different", "equal"]);
    let (_, notes) = done(&format!("{calibrate} --labels equal,different"), &[]);
    assert!(!notes.contains("output 0"), "{notes}");
    refused(
        &format!("{calibrate} --labels same,other"),
        &[],
        &["different, equal", "same, other"],
    );
}

/// A picture of 28×28 as the referee's harness writes one: strokes from point to point, numbers from 0 to 1 in a line.
fn drawn(points: &[(f64, f64)]) -> String {
    let distance = |(x, y): (f64, f64), ends: &[(f64, f64)]| {
        let ([(x0, y0), (x1, y1)], steps) = ([ends[0], ends[1]], 60);
        (0..=steps)
            .map(|t| f64::from(t) / f64::from(steps))
            .map(|t| (x - x0 - t * (x1 - x0)).hypot(y - y0 - t * (y1 - y0)))
            .fold(f64::INFINITY, f64::min)
    };
    let pixel = |i: u32| {
        let at = (f64::from(i % 28), f64::from(i / 28));
        let nearest = points.windows(2).map(|ends| distance(at, ends));
        (1.8 - nearest.fold(f64::INFINITY, f64::min)).clamp(0.0, 1.0)
    };
    let pixels: Vec<String> = (0..28 * 28).map(|i| format!("{:.6}", pixel(i))).collect();
    pixels.join(" ")
}

#[test]
fn the_referees_stages_tell_drawn_digits_apart() {
    let here = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../benchmarks/he-org/install.py"
    );
    let python = |script: &str, arguments: &[&str]| {
        std::process::Command::new("python3")
            .arg(Path::new(here).with_file_name(script))
            .args(arguments)
            .env("POLYVEIL", env!("CARGO_BIN_EXE_polyveil"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
    };
    let folder = Folder::new("referee");
    let root = folder.path("harness");
    // where the harness has a folder of this name, stages are programs in its folder `build`
    std::fs::create_dir_all(Path::new(&root).join("submission")).expect("a folder");
    let installed = match python("install.py", &[&root, "mnist"]) {
        Ok(installed) => installed,
        Err(e) => return eprintln!("skipped: the referee's stages need python3, and {e}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    let ring: Vec<(f64, f64)> = (0..=24)
        .map(|a| f64::from(a) * std::f64::consts::PI / 12.0)
        .map(|a| (14.0 + 5.5 * a.cos(), 13.5 + 8.0 * a.sin()))
        .collect();
    let digits = [
        drawn(&[(15.0, 5.0), (13.0, 22.0)]),
        drawn(&ring),
        drawn(&[(8.0, 7.0), (19.0, 7.0), (13.0, 22.0)]),
    ];
    let pixels = folder.file("pixels.txt", digits.join("\n").as_bytes());
    let labels = folder.file("labels.txt", b"1\n0\n7\n");
    let driven = python("drive.py", &[&root, "mnist", "1", &pixels, &labels]).expect("it starts");
    assert!(driven.status.success(), "{}", text(&driven.stderr));
    let root = Path::new(&root);
    let predictions = root.join("io/small/encrypted_model_predictions.txt");
    assert_eq!(
        std::fs::read_to_string(predictions).expect("a file"),
        "1\n0\n7\n"
    );
    let measured = std::fs::read(root.join("measurements/small/results-1.json")).expect("a file");
    let measured: serde_json::Value = serde_json::from_slice(&measured).expect("JSON");
    assert_eq!(measured["Quality"]["accuracy"], 1.0);
    let keys = measured["Bandwidth"]["Public and evaluation keys"].as_u64();
    assert!(keys.is_some_and(|bytes| bytes < 100_000_000), "{keys:?}");
}

#[test]
fn a_heading_of_numbers_is_no_row_unless_that_is_said() {
    let folder = Folder::new("numbers-as-heading");
    // as pandas writes columns without names
    let rows = folder.file("rows.csv", b"0,1\n0,0\n0,1\n1,0\n1,1\n");
    let pvm = folder.path("xor.pvm");
    let calibrate =
        format!("calibrate {XOR} --data {rows} --normalization none --degree 7 -o {pvm}");
    let words = ["rows.csv", "counts from 0 to 1", "--heading yes|no"];
    refused(&calibrate, &[], &words);
    let (_, said) = done(&format!("{calibrate} --heading yes"), &[]);
    assert!(said.contains("calibrating on 4 inputs"), "{said}");
    assert!(!said.contains("no heading"), "{said}");
    let (_, said) = done(&format!("{calibrate} --heading no"), &[]);
    assert!(said.contains("calibrating on 5 inputs"), "{said}");
    toy_plan(&folder, &pvm, 1);
    let (client, keys) = (folder.path("toy.client"), folder.path("keys"));
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let input = folder.path("x.input");
    let encrypt = |index: usize, more: &str| {
        format!("encrypt --key {keys}/client.key --data {rows} --index {index} {more} -o {input}")
    };
    refused(&encrypt(0, ""), &[], &words);
    // with a heading there are four rows, without one five
    refused(&encrypt(4, "--heading yes"), &[], &["the set has 4"]);
    done(&encrypt(4, "--heading no"), &[]);
    let evaluate = format!(
        "evaluate --model {pvm} --data {rows} --plan {} -o {}",
        folder.path("toy.plan"),
        folder.path("lines")
    );
    refused(&evaluate, &[], &words);
    // what does not count is a row, which is said
    let plain = folder.file("plain.csv", b"0,0\n0,1\n1,0\n1,1\n");
    let (_, said) = done(&calibrate.replace(&rows, &plain), &[]);
    assert_eq!(said.matches("plain.csv: no heading").count(), 1, "{said}");
    assert!(said.contains("calibrating on 4 inputs"), "{said}");
}

#[test]
fn numbers_that_are_names_of_classes_are_matched_as_names() {
    let folder = Folder::new("numbers-as-names");
    let rows = folder.file(
        "rows.csv",
        b"left,right,class\n0,0,1\n0,1,2\n1,0,2\n1,1,1\n",
    );
    let pvm = folder.path("xor.pvm");
    let (_, said) = done(
        &format!(
            "calibrate {XOR} --data {rows} --class-column class --labels 1,2 --normalization none --degree 7 -o {pvm}"
        ),
        &[],
    );
    assert!(!said.contains("can't be"), "{said}");
    assert!(
        said.contains("of 4 of them whose class is known the network itself has 4 right"),
        "{said}"
    );
}
