//! The program refuses with one line that names the cause and the remedy, and with the documented exit code.

use approx::Polynomial;
use nn::{Metadata, Op, Parameter, PolyGraph, Range, Shape};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use task::{Normalization, Outputs, Pictures, Task};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn polyveil(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .args(arguments)
        // whatever was measured on this machine
        .env_remove("POLYVEIL_MACHINE")
        .env(
            "XDG_CONFIG_HOME",
            std::env::temp_dir().join("polyveil-none"),
        )
        .output()
        .expect("it starts")
}

/// Runs, expects this exit code, nothing on stdout, and these words in the last line of stderr.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let out = polyveil(arguments);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(out.stdout.is_empty());
    let last = text.trim_end().lines().last().unwrap_or_default();
    for w in words {
        assert!(
            last.contains(w),
            "{arguments:?}: {w:?} is missing in {text}"
        );
    }
}

/// (3, 4, 4) → dense → x² → dense → 2 classes, of which the second is ahead by about 1.6.
fn network(calibrated: bool) -> PolyGraph {
    let weight = |name: &str, rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| ((i * 7919 % 13) as f32 - 6.0) / 60.0)
            .collect();
        let bias = Parameter::new("bias", [2], vec![-0.8, 0.8]).expect("finite");
        Op::Linear(nn::Linear {
            weight: Parameter::new(name, [rows, columns], values).expect("finite"),
            bias: (rows == 2).then_some(bias),
        })
    };
    let mut b = nn::Network::<Polynomial>::builder();
    let x = b.input("x", Shape::image(3, 4, 4)).expect("valid");
    let f = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let d = b.add("dense", weight("w1", 8, 48), &[f]).expect("valid");
    let square = Polynomial::new(vec![2.0, 0.0, 2.0], (-2.0, 2.0)).expect("valid");
    let s = b
        .add("square", Op::Elementwise(square), &[d])
        .expect("valid");
    let y = b.add("classes", weight("w2", 2, 8), &[s]).expect("valid");
    let graph = PolyGraph::from(b.finish(y).expect("valid"));
    let normalization = Normalization::new(vec![0.5; 3], vec![0.25; 3]);
    let outputs = Outputs::Classes(vec!["no".into(), "yes".into()]);
    let pictures = Pictures::new(Shape::image(3, 4, 4), normalization, outputs).expect("fits");
    let metadata = Metadata {
        name: "tiny".into(),
        provenance: vec![],
        training: None,
        task: Some(Task::Pictures(pictures).to_bytes()),
    };
    let nodes = graph.nodes().len();
    let graph = graph.with_metadata(metadata);
    if calibrated {
        graph
            .with_ranges(vec![
                Range {
                    min: -2.0,
                    max: 2.0
                };
                nodes
            ])
            .expect("fits")
    } else {
        graph
    }
}

/// A grey PNG without compression.
fn png(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |c, &b| {
            (0..8).fold(c ^ u32::from(b), |c, _| {
                if c & 1 == 1 {
                    c >> 1 ^ 0xedb8_8320
                } else {
                    c >> 1
                }
            })
        })
    };
    let rows: Vec<u8> = (0..height)
        .flat_map(|_| std::iter::once(0).chain((0..3 * width).map(|_| 128)))
        .collect();
    let (mut a, mut b) = (1u32, 0u32);
    for &x in &rows {
        a = (a + u32::from(x)) % 65521;
        b = (b + a) % 65521;
    }
    let length = u16::try_from(rows.len()).expect("a small picture");
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend(length.to_le_bytes());
    data.extend((!length).to_le_bytes());
    data.extend(&rows);
    data.extend((b << 16 | a).to_be_bytes());
    let mut head = Vec::new();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (tag, body) in [(b"IHDR", &head), (b"IDAT", &data), (b"IEND", &Vec::new())] {
        out.extend(u32::try_from(body.len()).expect("small").to_be_bytes());
        let chunk: Vec<u8> = tag.iter().chain(body).copied().collect();
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain paths")
}

#[test]
fn pictures_models_memory_and_roles_are_refused_with_a_remedy() {
    let folder = Folder::new("refusals");
    let bytes = nn::format::artefact::to_bytes(&network(true)).expect("writes");
    let model = folder.file("tiny.pvm", &bytes);
    let picture = folder.file("wide.png", &png(5, 4));
    let plan = folder.0.join("tiny.plan");

    refused(
        &["demo", "--model", text(&model), "--image", text(&picture)],
        1,
        &["wide.png", "5×4", "4×4", "--resize"],
    );
    let noise = folder.file("noise.png", b"this is no picture");
    refused(
        &["demo", "--model", text(&model), "--image", text(&noise)],
        1,
        &["noise.png", "PNG"],
    );

    let cut = folder.file("cut.pvm", &bytes[..bytes.len() - 9]);
    refused(&["compile", text(&cut), "-o", text(&plan)], 1, &["cut.pvm"]);
    let foreign = folder.file("foreign.pvm", b"GIF89a, not a model");
    refused(
        &["compile", text(&foreign), "-o", text(&plan)],
        1,
        &["foreign.pvm"],
    );
    let bare = folder.file(
        "bare.pvm",
        &nn::format::artefact::to_bytes(&network(false)).expect("writes"),
    );
    refused(
        &["compile", text(&bare), "-o", text(&plan)],
        1,
        &["calibrat"],
    );
    refused(
        &[
            "compile",
            text(&model),
            "-o",
            text(&plan),
            "--max-memory",
            "1MB",
        ],
        1,
        &["1.0 MB", "--max-memory"],
    );
    assert!(!plan.exists());
    refused(
        &[
            "compile",
            text(&model),
            "-o",
            text(&plan),
            "--max-memory",
            "plenty",
        ],
        2,
        &[],
    );

    let run = [
        "run",
        "--plan",
        text(&plan),
        "--input",
        "x.input",
        "-o",
        "x.answer",
    ];
    refused(
        &[&run[..], &["--check", "--keys", "evaluation.keys"]].concat(),
        1,
        &["--check", "client.key"],
    );
    refused(
        &[
            &run[..],
            &["--keys", "evaluation.keys", "--key", "client.key"],
        ]
        .concat(),
        1,
        &["server", "client.key"],
    );
    refused(&run, 1, &["evaluation keys", "keygen"]);
    refused(&["inspect", text(&picture)], 1, &["wide.png"]);
    refused(&["bench", "--quick", "--only", "nonsense"], 1, &["no row"]);

    let absent = folder.0.join("absent.json");
    let compile = |machine: &Path| -> Vec<String> {
        let arguments = ["compile", text(&model), "-o", text(&plan), "--no-probe"];
        let machine = ["--machine", text(machine)];
        arguments
            .into_iter()
            .chain(machine)
            .map(String::from)
            .collect()
    };
    let refuse = |machine: &Path, words: &[&str]| {
        let arguments = compile(machine);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&arguments, 1, words);
    };
    refuse(
        &absent,
        &["absent.json", "bench --save", "--machine shipped"],
    );
    let noise = folder.file("noise.json", b"{\"format\": 1, \"ntt\": ");
    refuse(&noise, &["noise.json", "cost table", "bench --save"]);
    assert!(!plan.exists());

    let out = polyveil(&["inspect", "--json", text(&model)]);
    let object: serde_json::Value =
        serde_json::from_slice(&out.stdout).expect("JSON alone on stdout");
    assert_eq!(object["network"], "tiny");
}

/// Runs, expects success, returns (stdout, stderr).
fn done(arguments: &[&str]) -> (String, String) {
    let out = polyveil(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
    (text(&out.stdout), text(&out.stderr))
}

#[test]
fn answers_leave_the_client_with_noise_and_counted_or_not_at_all() {
    let folder = Folder::new("share");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(8, 4)),
        ..compiler::Target::default()
    };
    let graph = network(true);
    let compiled = compiler::compile(&graph, &target).expect("compiles");
    let client = compiled.client_file(graph.metadata().task.clone().unwrap_or_default());
    let client = client.expect("its task").write(Vec::new(), "x");
    let client = folder.file("tiny.client", &client.expect("writes"));
    let plan = folder.file(
        "tiny.plan",
        &compiled.plan().write(Vec::new(), "x").expect("writes"),
    );
    let picture = folder.file("grey.png", &png(4, 4));
    let path = |name: &str| folder.0.join(name);
    let (keys, key, public) = (
        path("keys"),
        path("keys/client.key"),
        path("keys/evaluation.keys"),
    );
    let (input, answer, record) = (
        path("x.input"),
        path("x.answer"),
        path("keys/releases.json"),
    );
    let keygen = ["keygen", text(&client), "-o", text(&keys), "--insecure-toy"];
    let encrypt = [
        "encrypt",
        "--key",
        text(&key),
        "--image",
        text(&picture),
        "-o",
        text(&input),
    ];
    let run = [
        "run",
        "--plan",
        text(&plan),
        "--keys",
        text(&public),
        "--input",
        text(&input),
        "-o",
        text(&answer),
    ];
    done(&keygen);
    // the same picture out of a set of labelled ones, and out of its own file
    for class in ["a", "b"] {
        std::fs::create_dir_all(path("set").join(class)).expect("a folder");
        folder.file(&format!("set/{class}/1.png"), &png(4, 4));
    }
    let set = path("set");
    let labelled = |index| {
        let data = ["--data", text(&set), "--index", index];
        [&encrypt[..3], &data, &encrypt[5..]].concat()
    };
    done(&labelled("1"));
    refused(&labelled("2"), 1, &["number 2", "has 2"]);
    for command in [&encrypt[..], &run] {
        done(command);
    }
    // keys on disk, by force or because of a limit, give the same answer
    let (facts, _) = done(&["inspect", text(&plan), "--json"]);
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    let peak = facts["predicted_peak_bytes"].as_u64().expect("a number");
    let limit = (peak - 1).to_string();
    let want = std::fs::read(&answer).expect("an answer");
    for more in [&["--keys-on-disk"][..], &["--max-memory", &limit]] {
        std::fs::remove_file(&answer).expect("is there");
        let (_, notes) = done(&[&run[..], more].concat());
        assert!(
            notes.contains("keys on disk: ") && notes.contains("assumed"),
            "{notes}"
        );
        assert!(std::fs::read(&answer).expect("an answer") == want);
    }
    refused(
        &[&run[..], &["--max-memory", "1MB"]].concat(),
        1,
        &["1.0 MB", "allow at least 4", "--max-memory"],
    );
    let (facts, _) = done(&["inspect", text(&path("keys/network.client"))]);
    assert!(facts.contains("2 values of magnitude up to"), "{facts}");

    let decrypt = ["decrypt", "--key", text(&key), text(&answer), "--json"];
    let with = |more: &[&'static str]| [&decrypt[..], more].concat();
    let (plain, notes) = done(&decrypt);
    assert!(
        notes.contains("keep this to yourself") && notes.contains("--share"),
        "{notes}"
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let plain = json(&plain);
    assert_eq!(
        (&plain["class"], &plain["may_be_shared"]),
        (&1.into(), &false.into())
    );

    refused(&with(&["--releases", "2"]), 2, &[]);
    refused(&with(&["--share"]), 1, &["--releases N"]);
    refused(
        &with(&["--share", "--releases", "0"]),
        1,
        &["0 releases", "--releases"],
    );
    refused(
        &with(&["--share", "--releases", "2", "--security-bits", "7"]),
        1,
        &["7 bits", "20 to 64"],
    );
    refused(
        &with(&["--share", "--releases", "2", "--class-bits", "0"]),
        1,
        &["--class-bits"],
    );
    refused(
        &with(&["--share", "--releases", "1000", "--security-bits", "64"]),
        1,
        &[
            "larger scale",
            "fewer releases",
            "--class-only",
            "SECURITY.md",
        ],
    );
    assert!(!record.exists());

    // the class and nothing else that depends on the answer, under the same count
    let class_only = with(&["--share", "--class-only", "--releases", "1"]);
    let (shared, notes) = done(&class_only);
    assert!(notes.contains("the class alone"), "{notes}");
    let shared = json(&shared);
    let needed = 2.0 * plain["encryption_error_bound"].as_f64().expect("a number");
    assert_eq!(
        shared,
        serde_json::json!({
            "class": 1, "label": plain["label"], "may_be_shared": true,
            "sharing": { "class": 1, "needed_margin": needed, "releases": 1, "used": 1 },
        })
    );
    refused(&class_only, 1, &["all 1 releases", "used up"]);
    std::fs::remove_file(&record).expect("removes");

    let (shared, notes) = done(&with(&[
        "--share",
        "--releases",
        "2",
        "--security-bits",
        "24",
    ]));
    assert!(
        notes.contains("may be passed on") && notes.contains("bits of the answer remain"),
        "{notes}"
    );
    let shared = json(&shared);
    assert_eq!(
        (&shared["class"], &shared["may_be_shared"]),
        (&1.into(), &true.into())
    );
    let sharing = &shared["sharing"];
    assert_eq!(
        (&sharing["used"], &sharing["releases"]),
        (&1.into(), &2.into())
    );
    let (sigma, difference) = (
        sharing["sigma"].as_f64().expect("a number"),
        shared["logits"][0].as_f64().expect("a number")
            - plain["logits"][0].as_f64().expect("a number"),
    );
    assert!(
        difference != 0.0 && difference.abs() < 10.0 * sigma,
        "{difference} for {sigma}"
    );
    assert!(sharing["bits"].as_f64().expect("a number") > 0.0);

    done(&with(&["--share"]));
    refused(
        &with(&["--share"]),
        1,
        &["all 2 releases", "used up", "keygen"],
    );
    // another client's keys, and a plan in the client file's place
    let others = path("others");
    done(&[
        "keygen",
        text(&client),
        "-o",
        text(&others),
        "--insecure-toy",
    ]);
    let mut mixed = run;
    let public = others.join("evaluation.keys");
    mixed[4] = text(&public);
    refused(&mixed, 1, &["x.input", "different clients"]);
    let mut mixed = decrypt;
    let key = others.join("client.key");
    mixed[2] = text(&key);
    refused(&mixed, 1, &["x.answer", "different clients"]);
    refused(
        &["keygen", text(&plan), "-o", text(&others)],
        1,
        &["`plan`", "`client file`"],
    );
    // what was counted under the old key goes with it
    done(&[&keygen[..], &["--replace"]].concat());
    assert!(!record.exists());
    // wrong usage: the parser's own words
    refused(&with(&["--class-only"]), 2, &["--help"]);
    let mixed = with(&["--share", "--class-only", "--class-bits", "9"]);
    refused(&mixed, 2, &["--help"]);
}

#[test]
fn predictions_are_stored_before_the_run_and_follow_the_cost_table() {
    let folder = Folder::new("predictions");
    let bytes = nn::format::artefact::to_bytes(&network(true)).expect("writes");
    let model = folder.file("tiny.pvm", &bytes);
    let plan = folder.0.join("tiny.plan");
    let stored = folder.0.join("prediction.json");
    let compile = |machine: &str| {
        let arguments = [
            "compile",
            text(&model),
            "-o",
            text(&plan),
            "--json",
            "--no-probe",
        ];
        let more = ["--machine", machine, "--prediction", text(&stored)];
        let out = polyveil(&[&arguments[..], &more].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let before: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&stored).expect("stored")).expect("JSON");
        for (in_report, in_prediction) in [
            ("predicted_seconds", "seconds"),
            ("predicted_cpu_seconds", "cpu_seconds"),
            ("predicted_peak_bytes", "peak_bytes"),
            ("basis", "basis"),
        ] {
            assert_eq!(report[in_report], before[in_prediction], "{in_report}");
        }
        (before, said)
    };
    let (shipped, _) = compile("shipped");
    assert_eq!(compile("shipped").0, shipped);
    assert!(shipped["basis"]["scaled"].is_null());

    // the same machine, all costs twice as high
    let origin = runtime::machine_file::Origin::here().expect("counts");
    let file = |origin| {
        let mut cost = cost::MachineCost::default();
        cost.table = cost.table.scaled(2.0);
        runtime::MachineFile::new(origin, "2000-01-31".into(), cost, &[]).to_json()
    };
    let machine = folder.file("machine.json", file(origin.clone()).as_bytes());
    let (slow, said) = compile(text(&machine));
    let cpu = |p: &serde_json::Value| p["cpu_seconds"].as_f64().expect("a number");
    // rounding decides between splits of equal cost, so not exactly
    let ratio = cpu(&slow) / cpu(&shipped);
    assert!((ratio - 2.0).abs() < 0.05, "{ratio}");
    assert!(said.contains("machine.json, measured 2000-01-31"), "{said}");

    // of another engine: left aside, in words
    let old = runtime::machine_file::Origin {
        engine: "0.0.1".into(),
        ..origin
    };
    let machine = folder.file("old.json", file(old).as_bytes());
    let (again, said) = compile(text(&machine));
    assert_eq!(again, shipped);
    assert!(
        said.contains("old.json is left aside (measured by engine 0.0.1"),
        "{said}"
    );
}

#[test]
fn an_unknown_backend_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .args(["bench", "--quick"])
        .env("POLYVEIL_BACKEND", "sse2")
        .output()
        .expect("starts");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("portable, avx2 or ifma"), "{message}");
}

/// A protobuf field with a body.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("short");
    let mut out = vec![number << 3 | 2];
    if length < 128 {
        out.push(length);
    } else {
        out.extend([length & 127 | 128, 1]);
    }
    out.extend(body);
    out
}

/// An ONNX file: pictures of 4×4, MaxPool over 2×2, ReLU.
fn onnx_with_max_pool() -> Vec<u8> {
    let node = |op: &str, from: &str, to: &str, attribute: &[u8]| {
        let words = [(1, from), (2, to), (3, to), (4, op)];
        let words = words.iter().flat_map(|(n, w)| field(*n, w.as_bytes()));
        field(1, &words.chain(attribute.to_vec()).collect::<Vec<u8>>())
    };
    let kernel = [field(1, b"kernel_shape"), vec![8 << 3, 2, 8 << 3, 2]].concat();
    let dims = [1, 3, 4, 4].iter().flat_map(|&d| field(1, &[1 << 3, d]));
    let shape = field(2, &dims.collect::<Vec<u8>>());
    let kind = field(2, &field(1, &[vec![1 << 3, 1], shape].concat()));
    let input = [field(1, b"x"), kind].concat();
    let graph = [
        node("MaxPool", "x", "pooled", &field(5, &kernel)),
        node("Relu", "pooled", "y", &[]),
        field(11, &input),
        field(12, &field(1, b"y")),
    ]
    .concat();
    let opset = field(8, &[2 << 3, 17]);
    [vec![1 << 3, 8], field(7, &graph), opset].concat()
}

#[test]
fn means_stand_for_maxima_where_asked_and_what_that_costs_is_said() {
    let folder = Folder::new("means");
    let onnx = folder.file("max.onnx", &onnx_with_max_pool());
    let values: Vec<f64> = (0..8 * 48).map(|i| f64::from(i * 7 % 23) / 23.0).collect();
    let array = polyveil::data::array_bytes(&[8, 3, 4, 4], &values);
    let (data, made) = (folder.file("x.npy", &array), folder.0.join("made.pvm"));
    let arguments = ["calibrate", text(&onnx), "--data", text(&data)];
    let options = ["--normalization", "none", "-o", text(&made)];
    let calibrate = [&arguments[..], &options].concat();
    refused(&calibrate, 1, &["maximum", "--pool average"]);
    let (_, said) = done(&[&calibrate[..], &["--pool", "average"]].concat());
    assert!(
        said.contains("maxima over windows that become means: 1"),
        "{said}"
    );
    let original = nn::format::onnx::from_bytes(&onnx_with_max_pool()).expect("reads");
    let made = nn::format::artefact::load(&made, 1 << 20).expect("loads");
    let pools = |n: &&nn::Node<Polynomial>| matches!(n.op(), Op::AvgPool(_));
    assert_eq!(made.network().nodes().iter().filter(pools).count(), 1);
    // the change that is said is the one that there is: a window's largest value and its mean are far apart
    let mut largest: f64 = 0.0;
    for x in values.chunks(48) {
        let x = nn::Tensor::new(Shape::image(3, 4, 4), x.to_vec()).expect("fits");
        let before = original.evaluate(&x).expect("evaluates").output;
        let after = made.evaluate(&x).expect("evaluates").output;
        let pairs = before.values().iter().zip(after.values());
        largest = pairs.map(|(a, b)| (a - b).abs()).fold(largest, f64::max);
    }
    let words =
        "answers beside the network's own, of 8 of the inputs: no output changes by more than ";
    let change = said
        .split(words)
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let change: f64 = change.expect(&said).parse().expect("a number");
    assert!(
        largest > 0.2 && (change / largest - 1.0).abs() < 0.01,
        "{change}, {largest}"
    );
    assert!(
        said.contains("warning: the polynomial network is not close"),
        "{said}"
    );
}

#[test]
fn networks_with_maxima_or_activations_say_what_makes_them_polynomial() {
    let folder = Folder::new("trained");
    let onnx = folder.file("max.onnx", &onnx_with_max_pool());
    let output = folder.0.join("y.pvm");
    // before the data is looked at: there is none here
    let calibrate = |model: &Path, words: &[&str]| {
        let data = folder.0.join("absent.bin");
        let arguments = ["calibrate", text(model), "--data", text(&data)];
        refused(&[&arguments[..], &["-o", text(&output)]].concat(), 1, words);
    };
    let remedy = ["pooled", "maximum", "polyveil adapt", "average pool"];
    calibrate(&onnx, &[&remedy[..], &["max.onnx"]].concat());
    let graph = nn::format::onnx::from_bytes(&onnx_with_max_pool()).expect("reads");
    let metadata = Metadata {
        name: "trained".into(),
        training: Some(serde_json::json!({
            "epochs": 3,
            "held_out": {"accuracy": 0.5},
            "configuration": "[data]\nset = \"toy\"",
        })),
        ..Metadata::default()
    };
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("writes");
    let model = folder.file("trained.pvm", &bytes);
    calibrate(&model, &[&remedy[..], &["trained.pvm"]].concat());

    // its own files: explained by inspect, not compiled
    let (said, _) = done(&["inspect", text(&model)]);
    for word in [
        "trained",
        "relu",
        "maxima       1",
        "epochs",
        "accuracy",
        "    [data]\n",
        "polyveil adapt",
    ] {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    let (json, _) = done(&["inspect", "--json", text(&model)]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["maxima"], &json["activations"], &json["calibrated"]),
        (&1.into(), &1.into(), &false.into())
    );
    assert_eq!(json["training"]["epochs"], 3);
    let plan = folder.0.join("x.plan");
    let words = ["trained.pvm", "pooled", "adapt"];
    refused(&["compile", text(&model), "-o", text(&plan)], 1, &words);

    // nor does a softmax inside of a network become polynomial, unless it is attention's
    let mut b = nn::Graph::builder();
    let x = b.input("x", Shape::image(3, 4, 4)).expect("valid");
    let softmax = Op::Softmax(nn::Softmax::Shares);
    let y = b.add("shares", softmax, &[x]).expect("valid");
    let y = b.add("pool", Op::GlobalAvgPool, &[y]).expect("valid");
    let graph = b.finish(y).expect("valid");
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("writes");
    let model = folder.file("softmax.pvm", &bytes);
    let grey = folder.file("grey.png", &png(4, 4));
    let words = [
        "shares",
        "softmax",
        "`polyveil calibrate --power 4`",
        "train",
    ];
    let calibrate = ["calibrate", text(&model), "--data", text(&grey)];
    let options = ["--normalization", "none", "-o", text(&output)];
    refused(&[&calibrate[..], &options].concat(), 1, &words);
    refused(&["compile", text(&model), "-o", text(&plan)], 1, &words);

    // without the maximum, calibration reads our own file and keeps what it says
    let mut b = nn::Graph::builder();
    let x = b.input("x", Shape::image(3, 4, 4)).expect("valid");
    let silu = Op::Elementwise(approx::Activation::Silu.into());
    let y = b.add("act", silu, &[x]).expect("valid");
    let graph = b.finish(y).expect("valid");
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("writes");
    let model = folder.file("silu.pvm", &bytes);
    let words = ["silu.pvm", "act", "silu", "polyveil calibrate"];
    refused(&["compile", text(&model), "-o", text(&plan)], 1, &words);
    let picture = folder.file("grey.png", &png(4, 4));
    done(&[
        "calibrate",
        text(&model),
        "--data",
        text(&picture),
        "--normalization",
        "none",
        "-o",
        text(&output),
    ]);
    // sets of labelled pictures calibrate as well
    std::fs::create_dir_all(folder.0.join("set/class")).expect("a folder");
    folder.file("set/class/1.png", &png(4, 4));
    let (set, again) = (folder.0.join("set"), folder.0.join("again.pvm"));
    let arguments = ["calibrate", text(&model), "--data", text(&set)];
    let none = ["--normalization", "none", "-o", text(&again)];
    done(&[&arguments[..], &none].concat());
    let ranges = |path: &Path| {
        let made = nn::format::artefact::load(path, 1 << 20).expect("loads");
        format!("{:?}", made.ranges())
    };
    assert_eq!(ranges(&output), ranges(&again));
    let made = nn::format::artefact::load(&output, 1 << 20).expect("loads");
    assert_eq!(made.metadata().training, metadata.training);
    assert_eq!(made.metadata().name, "trained");
    assert_eq!(made.polynomials().count(), 1);
}

#[test]
fn training_is_handed_to_the_program_beside_this_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("sibling");
    // built programs lie together: here is one alone
    let program = folder.0.join("polyveil");
    std::fs::copy(env!("CARGO_BIN_EXE_polyveil"), &program).expect("copies");
    let run = |arguments: &[&str]| {
        Command::new(&program)
            .args(arguments)
            .output()
            .expect("starts")
    };
    let commands = ["train", "adapt", "search", "score", "study"];
    for command in commands {
        let out = run(&[command, "--config", "run.toml"]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(command), "{said}");
        assert!(
            said.contains("`cargo build --release -p polyveil-train-cli`"),
            "{said}"
        );
    }
    let sibling = folder.file("polyveil-train", b"#!/bin/sh\necho \"$@\"\nexit 7\n");
    std::fs::set_permissions(&sibling, std::fs::Permissions::from_mode(0o755)).expect("executable");
    for command in commands {
        let out = run(&[command, "--help", "-o", "x"]);
        assert_eq!(out.status.code(), Some(7));
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            format!("{command} --help -o x\n")
        );
    }
    let out = run(&["--threads", "2", "score", "a.pvm"]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "score --threads 2 a.pvm\n"
    );
}
