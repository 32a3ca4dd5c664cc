//! What is printed of answers: what they are, what cannot be right, and what is for their owner alone; on a toy ring.

mod support;

use approx::Polynomial;
use nn::{Metadata, Op, Parameter, PolyGraph, Range, Shape};
use serde_json::Value;
use support::{Folder, command, done, refused};
use task::{Outputs, Task, Vectors};

/// A row of four numbers → dense → x² on [−2, 2] → dense → two numbers, of which calibration saw up to 2.
fn network(outputs: Outputs) -> PolyGraph {
    let dense = |rows: usize, columns: usize, values: &[f32], bias: Option<Vec<f32>>| {
        Op::Linear(nn::Linear {
            weight: Parameter::new("weight", [rows, columns], values.to_vec()).expect("finite"),
            bias: bias.map(|b| Parameter::new("bias", [b.len()], b).expect("finite")),
        })
    };
    let mut b = nn::Network::<Polynomial>::builder();
    let x = b.input("x", Shape::Vector(4)).expect("valid");
    let d = b.add("first", dense(3, 4, &[0.25; 12], None), &[x]);
    let square = Polynomial::new(vec![2.0, 0.0, 2.0], (-2.0, 2.0)).expect("valid");
    let s = b.add("square", Op::Elementwise(square), &[d.expect("valid")]);
    let second = [0.5, 0.5, 0.25, -0.5, 0.1, 0.2];
    let last = dense(2, 3, &second, Some(vec![0.1, -0.1]));
    let y = b.add("last", last, &[s.expect("valid")]).expect("valid");
    let graph = PolyGraph::from(b.finish(y).expect("valid"));
    let columns = ["a", "b", "c", "d"].map(String::from).to_vec();
    let task = Vectors::new(columns, None, outputs).expect("fits");
    let nodes = graph.nodes().len();
    let range = Range {
        min: -2.0,
        max: 2.0,
    };
    let graph = graph.with_metadata(Metadata {
        name: "tiny".into(),
        task: Some(Task::Vectors(task).to_bytes()),
        ..Metadata::default()
    });
    graph.with_ranges(vec![range; nodes]).expect("fits")
}

/// The same, where calibration is said to have seen answers up to 0.1 only.
fn narrow() -> PolyGraph {
    let graph = network(Outputs::Classes(names()));
    let mut ranges = graph.ranges().expect("calibrated").to_vec();
    *ranges.last_mut().expect("some") = Range {
        min: -0.1,
        max: 0.1,
    };
    graph.with_ranges(ranges).expect("fits")
}

/// Within the intervals; and far beyond that of the square: its answer reaches 7.9, of 2.5 that are possible.
const ROWS: &str = "a,b,c,d\n1,1,1,1\n2.5,2.5,2.5,2.5\n";

/// A client of a network with these outputs, in a folder.
struct Toy {
    folder: Folder,
}

impl Toy {
    fn new(name: &str, outputs: Outputs) -> Self {
        let toy = Self {
            folder: Folder::new(name),
        };
        toy.compile(&network(outputs));
        toy.folder.file("rows.csv", ROWS.as_bytes());
        toy.keygen("keys");
        toy
    }
    fn compile(&self, graph: &PolyGraph) {
        let target = compiler::Target {
            parameters: Some(ckks::ParametersSpec::toy_levelled(9, 6)),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(graph, &target).expect("compiles");
        let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
        let client = client.expect("its task").write(Vec::new(), "x");
        self.folder.file("toy.client", &client.expect("writes"));
        let bytes = plan.plan().write(Vec::new(), "x").expect("writes");
        self.folder.file("toy.plan", &bytes);
    }
    fn path(&self, name: &str) -> String {
        self.folder.path(name)
    }
    fn keygen(&self, folder: &str) {
        let (client, folder) = (self.path("toy.client"), self.path(folder));
        done(&format!("keygen {client} -o {folder} --insecure-toy"), &[]);
    }
    /// Encrypts a row and runs; as arguments of a run, and the command that decrypts.
    fn run(&self, index: usize) -> (String, String) {
        let path = |name: &str| self.path(name);
        let (key, rows, input) = (path("keys/client.key"), path("rows.csv"), path("x.input"));
        done(
            &format!("encrypt --key {key} --data {rows} --index {index} -o {input}"),
            &[],
        );
        let (plan, keys, answer) = (
            path("toy.plan"),
            path("keys/evaluation.keys"),
            path("x.answer"),
        );
        let run = format!("run --plan {plan} --keys {keys} --input {input} -o {answer}");
        done(&run, &[]);
        (run, format!("decrypt --key {key} {answer}"))
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON alone on stdout")
}

fn names() -> Vec<String> {
    vec!["price".into(), "age".into()]
}

#[test]
fn answers_are_printed_as_what_they_are() {
    let near = |v: &Value, want: f64| {
        let had = v.as_f64().expect("a number");
        assert!((had - want).abs() < 1e-3, "{had}: {want}");
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (number, outputs) in [
        Outputs::Classes(names()),
        Outputs::Labels(names()),
        Outputs::Values(names()),
        Outputs::Probabilities(names()),
        Outputs::Tensor(Shape::Vector(2)),
        // the plan keeps the same values in a row
        Outputs::Tensor(Shape::image(2, 1, 1)),
    ]
    .into_iter()
    .enumerate()
    {
        let toy = Toy::new(&format!("kinds-{number}"), outputs.clone());
        let (_, decrypt) = toy.run(0);
        let (text, said) = done(&decrypt, &[]);
        assert!(said.contains("the alarm is silent"), "{said}");
        let answer = json(&done(&decrypt, &["--json"]).0);
        let [reads, most] = ["reads", "most"].map(|k| answer["alarm"][k].as_f64());
        assert!(reads < most && most.is_some(), "{answer}");
        assert_eq!(answer["answers"], outputs.kind());
        let shape = match &outputs {
            Outputs::Tensor(shape) => shape.dims(),
            _ => vec![2],
        };
        assert_eq!(answer["shape"], serde_json::json!(shape));
        let npy = toy.path("x.npy");
        done(&format!("{decrypt} --npy {npy}"), &[]);
        let (dims, _) = polyveil::data::read_numbers(npy.as_ref(), 1 << 10).expect("an array");
        assert_eq!(dims, [&[1][..], &shape].concat());
        // 1.35 and −0.3; only classes have shares of a whole
        let (share, has_class) = (text.contains('%'), answer["class"].is_u64());
        assert!(
            said.contains("of the polynomial network's in the clear"),
            "{said}"
        );
        // noise leaves nothing of other answers than classes
        assert_eq!(said.contains("--share"), has_class, "{said}");
        match &outputs {
            Outputs::Classes(_) => {
                assert!(
                    share && has_class && text.contains("price           83.9%"),
                    "{text}"
                );
                near(&answer["logits"][1], -0.3);
            }
            Outputs::Labels(_) => {
                assert!(
                    share && !has_class && text.contains("age             42.6%"),
                    "{text}"
                );
                near(&answer["labels"][0]["probability"], sigmoid(1.35));
            }
            Outputs::Values(_) => {
                assert!(
                    !share && !has_class && text.contains("age            -0.3000"),
                    "{text}"
                );
                assert_eq!(answer["values"][1]["name"], "age");
                near(&answer["values"][1]["value"], -0.3);
            }
            Outputs::Probabilities(_) => {
                assert!(
                    !has_class && text.contains("price          100.0%"),
                    "{text}"
                );
                near(&answer["probabilities"][0]["value"], 1.35);
            }
            _ => {
                assert!(
                    !share && !has_class && text.contains("2 values of shape (2"),
                    "{text}"
                );
                near(&answer["values"][0], 1.35);
            }
        }
        let share = [
            "--share",
            "--releases",
            "2",
            "--security-bits",
            "20",
            "--json",
        ];
        let class_only = [&share[..], &["--class-only"]].concat();
        let shared = json(&done(&decrypt, &share).0);
        assert_eq!(shared["may_be_shared"], true);
        let margins = ["margin", "needed_margin"].map(|key| shared["sharing"][key].is_f64());
        match has_class {
            true => {
                assert_eq!(margins, [true; 2]);
                done(&decrypt, &class_only);
            }
            false => {
                assert_eq!(margins, [false; 2]);
                refused(&decrypt, &class_only, &["no class"]);
            }
        }
    }
}

#[test]
fn what_outputs_are_is_said_or_values() {
    let xor = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
    let folder = Folder::new("kinds-said");
    let labelled = "name;left;right;differ\na;0;0;0\nb;0;1;1\nc;1;0;1\nd;1;1;0\n";
    let labelled = folder.file("labelled.csv", labelled.as_bytes());
    let plain = folder.file("plain.csv", b"left,right\n0,0\n0,1\n1,0\n1,1\n");
    let pvm = folder.path("xor.pvm");
    let outputs = |arguments: &str| {
        let (_, notes) = done(
            &format!("calibrate {xor} --normalization none {arguments} --degree 7 -o {pvm}"),
            &[],
        );
        let graph = nn::format::artefact::load(pvm.as_ref(), 1 << 20).expect("reads");
        let task = Task::of(graph.metadata()).expect("reads").expect("a task");
        (task.outputs().cloned().expect("outputs"), notes)
    };
    let labelled = format!("--data {labelled} --without name --class-column differ");
    let plain = format!("--data {plain}");
    // labelled data are classes, and what nobody names is none
    assert_eq!(outputs(&labelled).0, Outputs::Classes(vec![]));
    let (unsaid, notes) = outputs(&plain);
    assert_eq!(unsaid, Outputs::Values(vec![]));
    assert!(
        notes.contains("nobody says what the network's 2 outputs are"),
        "{notes}"
    );
    let said = |more: &str| outputs(&format!("{plain} {more}")).0;
    assert_eq!(said("--labels price,age"), Outputs::Classes(names()));
    assert_eq!(said("--values price,age"), Outputs::Values(names()));
    assert_eq!(
        said("--answers labels --labels price,age"),
        Outputs::Labels(names())
    );
    assert_eq!(said("--answers classes"), Outputs::Classes(vec![]));
    assert_eq!(said("--answers tensor"), Outputs::Tensor(Shape::Vector(2)));
}

#[test]
fn an_answer_that_cannot_be_right_is_not_printed() {
    let toy = Toy::new("refused", Outputs::Classes(names()));
    let (_, decrypt) = toy.run(1);
    let ends = |more: &[&str], words: &[&str]| {
        let out = command(&decrypt, more).output().expect("it starts");
        let [stdout, stderr] =
            [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
        assert_eq!(out.status.code(), Some(4), "{more:?}: {stderr}");
        let last = stderr.trim_end().lines().last().unwrap_or_default();
        for word in words {
            assert!(last.contains(word), "{word:?} is missing in {last}");
        }
        stdout
    };
    let words = [
        "x.answer",
        "cannot be right",
        "magnitude 7.9",
        "2.5",
        "interval",
        "other keys",
    ];
    assert_eq!(ends(&[], &words), "");
    let why = json(&ends(&["--json"], &words));
    assert_eq!(why["refused"], "magnitude");
    assert!(
        why["measured"].as_f64() > Some(7.0) && why["allowed"].as_f64() < Some(2.6),
        "{why}"
    );
    assert!(why["class"].is_null() && why["logits"].is_null());
    let share = ["--share", "--releases", "3", "--security-bits", "20"];
    assert_eq!(ends(&share, &["this try counts: 1 of 3"]), "");
    let class_only = [&share[..], &["--class-only"]].concat();
    assert_eq!(ends(&class_only, &["this try counts: 2 of 3"]), "");
    // a good answer has no class any more under this key
    let (_, decrypt) = toy.run(0);
    done(&decrypt, &[]);
    refused(&decrypt, &class_only, &["refused under this key before"]);
}

#[test]
fn a_share_that_is_stopped_may_have_been_counted() {
    let toy = Toy::new("stopped", Outputs::Classes(names()));
    let (key, fifo) = (toy.path("keys/client.key"), toy.path("fifo"));
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    for (share, counted) in [
        (&["--share", "--releases", "3"][..], true),
        (&[][..], false),
    ] {
        let mut child = command(&format!("decrypt --key {key} {fifo}"), share);
        let child = child.stderr(std::process::Stdio::piped()).spawn();
        let child = child.expect("it starts");
        // it is open once the program reads it, and then waits for an answer that never comes
        let writer = std::fs::OpenOptions::new().write(true).open(&fifo);
        let killed = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.expect("kill").success());
        let out = child.wait_with_output().expect("ends");
        drop(writer);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("stopped; "), "{said}");
        assert_eq!(said.contains("may count as a release"), counted, "{said}");
        assert!(!said.contains("nothing was written"), "{said}");
    }
}

/// Pictures of 2×2 → dense → x² on [−2, 2] → dense → two classes, of which calibration is said to have seen up to 0.1; a white one gives 4.5.
fn narrow_pictures() -> PolyGraph {
    let dense = |rows: usize, columns: usize, value: f32| {
        let weight = Parameter::new("w", [rows, columns], vec![value; rows * columns]);
        Op::Linear(nn::Linear {
            weight: weight.expect("finite"),
            bias: None,
        })
    };
    let shape = Shape::image(3, 2, 2);
    let mut b = nn::Network::<Polynomial>::builder();
    let x = b.input("x", shape).expect("valid");
    let f = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let d = b.add("first", dense(2, 12, 0.125), &[f]).expect("valid");
    let square = Polynomial::new(vec![2.0, 0.0, 2.0], (-2.0, 2.0)).expect("valid");
    let s = b.add("square", Op::Elementwise(square), &[d]);
    let y = b.add("last", dense(2, 2, 1.0), &[s.expect("valid")]);
    let graph = PolyGraph::from(b.finish(y.expect("valid")).expect("valid"));
    let normalization = task::Normalization::new(vec![0.0; 3], vec![1.0; 3]);
    let pictures = task::Pictures::new(shape, normalization, Outputs::Classes(names()));
    let mut ranges = vec![
        Range {
            min: -2.0,
            max: 2.0
        };
        graph.nodes().len()
    ];
    *ranges.last_mut().expect("some") = Range {
        min: -0.1,
        max: 0.1,
    };
    let graph = graph.with_metadata(Metadata {
        name: "narrow".into(),
        task: Some(Task::Pictures(pictures.expect("fits")).to_bytes()),
        ..Metadata::default()
    });
    graph.with_ranges(ranges).expect("fits")
}

#[test]
fn a_demo_says_as_json_why_it_shows_no_answer() {
    let folder = Folder::new("demo-refused");
    let bytes = nn::format::artefact::to_bytes(&narrow_pictures()).expect("writes");
    let (model, white) = (folder.file("n.pvm", &bytes), folder.path("white.png"));
    let picture = image::RgbImage::from_pixel(2, 2, image::Rgb([255; 3]));
    picture.save(&white).expect("a picture");
    let demo =
        format!("demo --model {model} --image {white} --machine shipped --no-probe --no-precision");
    for (more, says) in [(&[][..], false), (&["--json"][..], true)] {
        let out = command(&demo, more).output().expect("it starts");
        let [stdout, stderr] =
            [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
        assert_eq!(out.status.code(), Some(4), "{more:?}: {stderr}");
        assert!(stderr.contains("cannot be right"), "{stderr}");
        match says {
            true => assert_eq!(json(&stdout)["refused"], "magnitude"),
            false => assert_eq!(stdout, ""),
        }
    }
}

#[test]
fn files_are_compared_before_anything_else_and_checks_are_private() {
    let toy = Toy::new("check", Outputs::Classes(names()));
    toy.keygen("other");
    let (run, decrypt) = toy.run(0);
    let key = toy.path("keys/client.key");
    let other = toy.path("other/client.key");
    // the owner's report says whose it is
    let svg = toy.path("x.svg");
    let check = ["--check", "--key", &key, "--json", "--report", &svg];
    let (report, notes) = done(&run, &check);
    assert!(notes.contains("keep this report to yourself"), "{notes}");
    let report = json(&report);
    assert_eq!(
        (&report["may_be_shared"], &report["answers"]),
        (&false.into(), &"classes".into())
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&svg).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let svg = std::fs::read_to_string(svg).expect("a drawing");
    assert!(svg.contains("for the key's owner alone"), "{svg}");
    let (plain, _) = done(&run, &["--json"]);
    assert!(json(&plain)["may_be_shared"].is_null());
    // another client's key blames no layer
    refused(&run, &["--check", "--key", &other], &["different clients"]);
    refused(
        &decrypt.replace(&key, &other),
        &[],
        &["x.answer", "different clients"],
    );
    // the bodies are not looked at: they are gone
    for file in ["other/client.key", "keys/evaluation.keys"] {
        let bytes = std::fs::read(toy.path(file)).expect("there");
        toy.folder.file(file, &bytes[..192]);
    }
    refused(
        &decrypt.replace(&key, &other),
        &[],
        &["x.answer", "different clients"],
    );
}

#[test]
fn a_refused_answer_is_counted_by_evaluate() {
    let toy = Toy::new("evaluate", Outputs::Classes(names()));
    let graph = narrow();
    toy.compile(&graph);
    let (plan, pvm) = (toy.path("toy.plan"), toy.path("tiny.pvm"));
    let bytes = nn::format::artefact::to_bytes(&graph).expect("writes");
    toy.folder.file("tiny.pvm", &bytes);
    let (rows, results) = (toy.path("rows.csv"), toy.path("results.jsonl"));
    let evaluate =
        format!("evaluate --model {pvm} --plan {plan} --data {rows} --count 2 --json -o {results}");
    let (summary, notes) = done(&evaluate, &[]);
    let summary = json(&summary);
    assert_eq!(
        (&summary["rows"], &summary["refused"], &summary["left_out"]),
        (&0.into(), &1.into(), &1.into())
    );
    assert!(notes.contains("cannot be right"), "{notes}");
    let results = std::fs::read_to_string(results).expect("there");
    let line = results
        .lines()
        .find(|l| l.contains("refused"))
        .expect("a line");
    assert_eq!(json(line)["refused"], "magnitude");
}

#[test]
fn plans_and_answers_say_whether_there_is_an_alarm() {
    let folder = Folder::new("alarms");
    let graph = network(Outputs::Classes(names()));
    let bytes = nn::format::artefact::to_bytes(&graph).expect("a model");
    let pvm = folder.file("tiny.pvm", &bytes);
    folder.file("rows.csv", ROWS.as_bytes());
    let path = |name: &str| folder.path(name);
    for (option, of_plan, of_answer) in [
        ("", "the alarm watches 1 ciphertexts", "the alarm is silent"),
        ("--no-alarm", "nobody will see", "this plan has no alarm"),
    ] {
        let plan = path("x.plan");
        let compile =
            format!("compile {pvm} -o {plan} --machine shipped --no-probe --force {option}");
        let (_, said) = done(&compile, &[]);
        assert!(said.contains(of_plan), "{said}");
        let [client, keys, input, answer] = ["x.client", "keys", "x.input", "x.answer"].map(&path);
        for file in [&input, &answer] {
            let _ = std::fs::remove_file(file);
        }
        done(&format!("keygen {client} -o {keys} --replace"), &[]);
        let (inspected, _) = done(&format!("inspect {client}"), &[]);
        assert!(inspected.contains("alarm"), "{inspected}");
        let rows = path("rows.csv");
        done(
            &format!("encrypt --key {keys}/client.key --data {rows} --index 0 -o {input}"),
            &[],
        );
        done(
            &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
            &[],
        );
        let (_, said) = done(&format!("decrypt --key {keys}/client.key {answer}"), &[]);
        assert!(said.contains(of_answer), "{said}");
    }
}

#[test]
fn each_label_and_all_of_them_are_compared() {
    let toy = Toy::new("labels", Outputs::Labels(names()));
    let bytes = nn::format::artefact::to_bytes(&network(Outputs::Labels(names())));
    let pvm = toy.folder.file("tiny.pvm", &bytes.expect("writes"));
    // the price's score is above 0 everywhere, the age's below; columns are found by name
    let table = "age,a,b,c,d,price\n0,1,1,1,1,1\n1,.5,.5,.5,.5,1\n";
    let rows = toy.folder.file("labels.csv", table.as_bytes());
    let (plan, results) = (toy.path("toy.plan"), toy.path("results.jsonl"));
    let of = |data: &str, answers: &str, results: &str| {
        format!("evaluate --model {pvm} --plan {plan} --data {data} {answers} -o {results}")
    };
    let evaluate = of(&rows, "--value-columns age,price", &results);
    let (summary, notes) = done(&format!("{evaluate} --json"), &[]);
    assert!(notes.contains(": labels as in the clear"), "{notes}");
    let summary = json(&summary);
    let each = serde_json::json!([
        { "label": "price", "same_as_clear": 2, "right": 2, "holds": 2 },
        { "label": "age", "same_as_clear": 2, "right": 1, "holds": 1 },
    ]);
    assert_eq!(summary["each_label"], each, "{summary}");
    let counts = ["rows", "all_labels_right", "same_labels_as_clear"];
    assert_eq!(counts.map(|c| summary[c].as_u64()), [2, 1, 2].map(Some));
    let (text, _) = done(&evaluate, &[]);
    for line in [
        "1  all labels right\n",
        "2  same labels as clear\n",
        "1  label age right, 2 as in the clear (it holds for 1)\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
    let lines = std::fs::read_to_string(&results).expect("there");
    let second = json(lines.lines().last().expect("a line"));
    assert_eq!(second["labels"], serde_json::json!([true, false]));
    assert_eq!(second["true_labels"], serde_json::json!([true, true]));

    // what does not fit is refused before anything is run
    let says = |table: &str, answers: &str, words: &[&str]| {
        let rows = toy.folder.file("other.csv", table.as_bytes());
        let none = toy.path("none.jsonl");
        refused(&of(&rows, answers, &none), &[], words);
    };
    let others = table.replace("age", "is_age").replace("price", "is_price");
    says(
        &others,
        "--value-columns is_price,is_age",
        &[
            "other.csv",
            "is_price, is_age",
            "price, age",
            "name both alike",
        ],
    );
    let doubt = table.replace("\n1,", "\n0.5,");
    let both = "--value-columns price,age";
    says(&doubt, both, &["row 1: age is 0.5", "each of which holds"]);
    let one = "--value-columns price --without age";
    says(table, one, &["1 labels for each row", "gives 2"]);
    let class = "--class-column price --without age";
    says(
        table,
        class,
        &["2 labels", "one class for each row", "--value-columns"],
    );

    // labels in an array of their own are part of the data
    let array = |dims: &[usize], values: &[f64]| polyveil::data::array_bytes(dims, values);
    let x = toy.folder.file("x.npy", &array(&[1, 4], &[1.0; 4]));
    let y = toy.folder.file("y.npy", &array(&[1, 2], &[1.0, 0.0]));
    let results = toy.path("arrays.jsonl");
    let evaluate = of(&x, &format!("--value-columns {y}"), &results);
    let (text, _) = done(&evaluate, &[]);
    assert!(text.contains("1  all labels right\n"), "{text}");
    toy.folder.file("y.npy", &array(&[1, 2], &[0.0, 0.0]));
    refused(&evaluate, &[], &["its results are of other data"]);
}
