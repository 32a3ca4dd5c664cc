//! Files on disk: what an output may replace, where it goes, and what of a run is lost when something goes wrong: nothing.

mod support;

use nn::format::artefact;
use runtime::checkpoint::{Checkpointer, input_digest};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use support::{Folder, done, no_usage, refused};

const XOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
const ROWS: &str = "name;left;right;differ\na;0;0;0\nb;0;1;1\nc;1;0;1\nd;1;1;0\n";

/// A toy plan, keys and an encrypted input, and the arguments that make an answer of them.
struct Ready {
    folder: Folder,
    encrypt: String,
    run: String,
    decrypt: String,
}

impl Ready {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let path = |name: &str| folder.path(name);
        let rows = folder.file("rows.csv", ROWS.as_bytes());
        let columns = "--without name --class-column differ";
        let model = path("xor.pvm");
        done(
            &format!(
                "calibrate {XOR} --data {rows} {columns} --normalization none --labels equal,different --degree 7 -o {model}"
            ),
            &[],
        );
        let graph = artefact::load(Path::new(&model), 1 << 20).expect("reads");
        let target = compiler::Target {
            parameters: Some(ckks::ParametersSpec::toy_levelled(9, 6)),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&graph, &target).expect("compiles");
        let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
        let client = client.expect("its task").write(Vec::new(), "x");
        folder.file("toy.client", &client.expect("writes"));
        folder.file(
            "toy.plan",
            &plan.plan().write(Vec::new(), "x").expect("writes"),
        );
        let keys = path("keys");
        done(
            &format!("keygen {} -o {keys} --insecure-toy", path("toy.client")),
            &[],
        );
        let encrypt =
            format!("encrypt --key {keys}/client.key --data {rows} --index 1 {columns} -o");
        done(&format!("{encrypt} {}", path("x.input")), &[]);
        let run = format!(
            "run --plan {} --keys {keys}/evaluation.keys --no-probe",
            path("toy.plan")
        );
        let decrypt = format!("decrypt --key {keys}/client.key --json");
        Self {
            folder,
            encrypt,
            run,
            decrypt,
        }
    }
    fn path(&self, name: &str) -> String {
        self.folder.path(name)
    }
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.path("")).expect("a folder");
        let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("entry").file_name();
        let mut names: Vec<_> = all
            .map(|e| name(e).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn bytes(path: &str) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}

#[test]
fn outputs_never_take_the_place_of_inputs_secrets_or_foreign_files() {
    let r = Ready::new("outputs");
    let (key, model, input) = (
        r.path("keys/client.key"),
        r.path("xor.pvm"),
        r.path("x.input"),
    );
    let notes = r.folder.file("notes.txt", b"mine");
    let answer = r.path("x.answer");
    done(&format!("{} --input {input} -o {answer}", r.run), &[]);
    let run = format!("{} --input {input}", r.run);
    let before: Vec<Vec<u8>> = [&key, &model, &input, &notes].map(|p| bytes(p)).into();
    let hard = r.path("hard");
    std::fs::hard_link(&input, &hard).expect("link");
    for force in ["", "--force"] {
        refused(
            &format!("{} {key} {force}", r.encrypt),
            &[],
            &["client.key"],
        );
        refused(
            &format!("compile {model} -o {key} {force}"),
            &[],
            &["secret key"],
        );
        refused(
            &format!("compile {model} -o {model} {force}"),
            &[],
            &["needs"],
        );
        for output in [
            &input,
            &hard,
            &r.path("toy.plan"),
            &r.path("keys/evaluation.keys"),
        ] {
            refused(&format!("{run} -o {output} {force}"), &[], &["needs"]);
        }
        refused(
            &format!("{run} -o {answer} --report {answer} {force}"),
            &[],
            &["needs"],
        );
        refused(
            &format!("{run} -o {answer} --prediction {input} {force}"),
            &[],
            &["needs"],
        );
        refused(
            &format!("{run} -o {answer} --checkpoint {key} {force}"),
            &[],
            &["secret key"],
        );
    }
    for command in [
        format!("compile {model} -o {notes}"),
        format!("{} {notes}", r.encrypt),
        format!("{run} -o {notes}"),
    ] {
        refused(&command, &[], &["notes.txt", "--force"]);
    }
    refused(
        &format!("{run} -o {answer} --report {notes}"),
        &[],
        &["notes.txt", "--force"],
    );
    // what is written beside others, or read, without being named
    let beside = ["x.answer", "x.answer.checkpoint", "toy.weights"].map(|name| r.path(name));
    for beside in &beside {
        for what in ["--report", "--prediction"] {
            let command = format!("{run} -o {answer} {what} {beside} --force");
            refused(&command, &[], &["needs"]);
        }
    }
    let client = r.path("keys/network.client");
    let kept = bytes(&client);
    refused(&format!("{} {client} --force", r.encrypt), &[], &["needs"]);
    let check = format!("{run} --check --key {key} -o {client} --force");
    refused(&check, &[], &["needs"]);
    assert!(bytes(&client) == kept);
    let after: Vec<Vec<u8>> = [&key, &model, &input, &notes].map(|p| bytes(p)).into();
    assert!(before == after);
    done(&format!("{} {notes} --force", r.encrypt), &[]);
    assert!(bytes(&notes).starts_with(b"PVEIL"));
    // kin is replaced without a word
    done(&format!("{run} -o {answer}"), &[]);
    assert!(r.names().iter().all(|n| !n.contains("partial")));
}

#[test]
fn records_of_shared_answers_and_what_only_looks_like_ours_stay() {
    let r = Ready::new("marks");
    let (model, input) = (r.path("xor.pvm"), r.path("x.input"));
    let record =
        r#"{ "key": "00", "security": 40, "releases": 3, "used": 1, "class_refused": false }"#;
    let record = r.folder.file("keys/releases.json", record.as_bytes());
    let json = r.folder.file("package.json", b"{\"name\": \"mine\"}");
    let drawing = r
        .folder
        .file("drawing.svg", b"<?xml version=\"1.0\"?><svg/>");
    let plain = r.folder.file("plain.svg", b"<svg width=\"8\"/>");
    let kept = [&record, &json, &drawing, &plain];
    let before: Vec<Vec<u8>> = kept.map(|p| bytes(p)).into();
    let run = format!("{} --input {input} -o {}", r.run, r.path("x.answer"));
    let compile = format!("compile {model} -o {} --no-probe", r.path("x.plan"));
    for force in ["", "--force"] {
        for command in [
            format!("{compile} --prediction {record} {force}"),
            format!("{run} --prediction {record} {force}"),
            format!("{run} --report {record} {force}"),
            format!("{} {record} {force}", r.encrypt),
        ] {
            refused(&command, &[], &["releases.json", "record of shared"]);
        }
    }
    for command in [
        format!("{compile} --prediction {json}"),
        format!("{run} --prediction {json}"),
        format!("{run} --report {drawing}"),
        format!("{run} --report {plain}"),
    ] {
        refused(&command, &[], &["--force"]);
    }
    let after: Vec<Vec<u8>> = kept.map(|p| bytes(p)).into();
    assert!(before == after);
    // their own are replaced without a word
    let own = format!(
        "{run} --prediction {} --report {}",
        r.path("p.json"),
        r.path("r.svg")
    );
    done(&own, &[]);
    done(&own, &[]);
    done(
        &format!("{run} --prediction {json} --report {plain} --force"),
        &[],
    );
    assert!(bytes(&json) != before[1] && bytes(&plain) != before[3]);
    // what a plan writes beside itself may be no other output either
    for beside in ["x.client", "x.weights"] {
        let command = format!("{compile} --prediction {} --force", r.path(beside));
        refused(&command, &[], &["needs"]);
    }
    let mine = r.folder.file("x.weights", b"mine");
    refused(&compile, &[], &["x.weights", "--force"]);
    assert_eq!(bytes(&mine), b"mine");
}

#[test]
fn whoever_looks_is_told_who_takes_the_softmax() {
    let r = Ready::new("softmax");
    let answer = r.path("x.answer");
    done(
        &format!("{} --input {} -o {answer}", r.run, r.path("x.input")),
        &[],
    );
    for name in ["toy.plan", "toy.client", "keys/client.key", "xor.pvm"] {
        let (text, _) = done(&format!("inspect {}", r.path(name)), &[]);
        assert!(text.contains("takes the softmax"), "{name}: {text}");
    }
    let (_, said) = done(&format!("{} {answer}", r.decrypt), &[]);
    assert!(said.contains("shares are the softmax"), "{said}");
    // nobody knows what a plan without its client file gives
    std::fs::rename(r.path("toy.client"), r.path("away.client")).expect("moved");
    let (text, _) = done(&format!("inspect {}", r.path("toy.plan")), &[]);
    assert!(!text.contains("takes the softmax"), "{text}");
}

#[test]
fn a_network_of_a_published_shape_takes_nobody_s_place() {
    let r = Ready::new("shapes");
    let key = r.path("keys/client.key");
    let notes = r.folder.file("notes.txt", b"mine");
    let before = bytes(&key);
    let save = "estimate resnet18 --size 64 --pictures 1 --machine shipped --save";
    refused(&format!("{save} {notes}"), &[], &["notes.txt", "--force"]);
    for force in ["", "--force"] {
        refused(&format!("{save} {key} {force}"), &[], &["secret key"]);
    }
    refused(
        &format!(
            "estimate resnet34 {}",
            save.replacen("estimate", "", 1) + " x.pvm"
        ),
        &[],
        &["one network"],
    );
    assert!(bytes(&key) == before && bytes(&notes) == b"mine");
}

#[test]
fn left_overs_are_named_by_whoever_removes_them() {
    let r = Ready::new("left-overs");
    let rows = r.path("rows.csv");
    let columns = "--without name --class-column differ";
    let calibrate = format!(
        "calibrate {XOR} --data {rows} {columns} --normalization none --labels equal,different --degree 7"
    );
    let compile = format!("compile {} --no-probe", r.path("xor.pvm"));
    for (command, name) in [
        (format!("{calibrate} -o {}", r.path("y.pvm")), "y.pvm"),
        (format!("{compile} -o {}", r.path("y.plan")), "y.plan"),
        (format!("{compile} -o {}", r.path("y.plan")), "y.client"),
        (
            format!(
                "{compile} -o {} --prediction {}",
                r.path("y.plan"),
                r.path("y.json")
            ),
            "y.json",
        ),
        (
            format!(
                "{} --input {} -o {} --report {}",
                r.run,
                r.path("x.input"),
                r.path("y.answer"),
                r.path("y.svg")
            ),
            "y.svg",
        ),
    ] {
        let left = r.folder.file(&format!("{name}.0a1b2c3d.partial"), b"half");
        let (_, said) = done(&command, &[]);
        assert!(said.contains(&left), "{command}: {said}");
        assert!(!Path::new(&left).exists(), "{command}");
    }
}

/// What a command had begun to write went only where it ended by itself or by a signal.
#[test]
#[cfg(target_os = "linux")]
fn a_command_that_ends_without_memory_leaves_nothing_half_written() {
    let r = Ready::new("no-memory");
    let model = r.path("xor.pvm");
    let mut ended = 0;
    for mebibytes in [24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160] {
        let out = std::process::Command::new("sh")
            .args([
                "-c",
                "ulimit -v $0; exec \"$@\"",
                &(mebibytes << 10).to_string(),
            ])
            .arg(env!("CARGO_BIN_EXE_polyveil"))
            .args(["compile", &model, "--no-probe", "-o", &r.path("m.plan")])
            .env("POLYVEIL_MACHINE", "shipped")
            .output()
            .expect("it starts");
        // refused before the work, or ended in it
        ended += usize::from(!out.status.success());
        let names = r.names();
        assert!(
            names.iter().all(|n| !n.ends_with(".partial")),
            "{mebibytes} MiB: {names:?}"
        );
    }
    assert!(ended > 0);
}

#[test]
fn what_cannot_be_written_is_refused_before_the_work() {
    let r = Ready::new("unwritable");
    // a broken input: whoever looks at the output first never comes to it
    let input = r.folder.file("broken.input", b"PVEIL");
    let run = format!("{} --input {input}", r.run);
    let missing = r.path("no/such/x");
    for (output, words) in [
        (format!("-o {missing}"), "does not exist"),
        (format!("-o {}", r.path("keys")), "directory"),
        (
            format!("-o {} --report {missing}", r.path("y")),
            "does not exist",
        ),
        (
            format!("-o {} --checkpoint {missing}", r.path("y")),
            "does not exist",
        ),
        (
            format!("-o {} --prediction {missing}", r.path("y")),
            "does not exist",
        ),
    ] {
        refused(&format!("{run} {output}"), &[], &[words]);
    }
    let rows = r.path("rows.csv");
    refused(
        &format!("calibrate nothing.onnx --data {rows} -o {missing}"),
        &[],
        &["does not exist"],
    );
    refused(
        &format!("compile nothing.pvm -o {missing}"),
        &[],
        &["does not exist"],
    );
}

#[test]
fn devices_pipes_and_links_stay_what_they_are() {
    let r = Ready::new("devices");
    let run = format!("{} --input {}", r.run, r.path("x.input"));
    done(&format!("{run} -o /dev/null"), &[]);
    done(&format!("compile {} -o /dev/null", r.path("xor.pvm")), &[]);
    let null = std::fs::metadata("/dev/null").expect("a device");
    assert!(null.file_type().is_char_device() && !Path::new("/dev/null.client").exists());
    done(&format!("{run} -o {}", r.path("a.answer")), &[]);
    // an answer through a pipe, and an input from one, which can be read once only
    let fifo = r.path("fifo");
    let mkfifo = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(mkfifo.expect("mkfifo").success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || bytes(&fifo)
    });
    done(&format!("{run} -o {fifo}"), &[]);
    assert!(reader.join().expect("read") == bytes(&r.path("a.answer")));
    let writer = std::thread::spawn({
        let (fifo, input) = (fifo.clone(), bytes(&r.path("x.input")));
        move || std::fs::write(fifo, input).expect("written")
    });
    done(
        &format!("{} --input {fifo} -o {}", r.run, r.path("b.answer")),
        &[],
    );
    writer.join().expect("written");
    assert!(bytes(&r.path("b.answer")) == bytes(&r.path("a.answer")));
    assert!(
        std::fs::metadata(&fifo)
            .expect("there")
            .file_type()
            .is_fifo()
    );
    // a link is followed for what is no secret, a planted one is not for a secret
    symlink("a.answer", r.path("link")).expect("link");
    done(&format!("{run} -o {}", r.path("link")), &[]);
    assert!(Path::new(&r.path("link")).is_symlink());
    let victim = r.folder.file("victim", b"mine");
    symlink(&victim, r.path("c.input.partial")).expect("link");
    done(&format!("{} {}", r.encrypt, r.path("c.input")), &[]);
    assert_eq!(bytes(&victim), b"mine");
    // a huge file is refused by its header
    // standard input and output
    use std::process::{Command, Stdio};
    let program = |arguments: &str, from: &str| {
        let from = std::fs::File::open(from).expect("there");
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyveil"));
        let out = command
            .args(arguments.split_whitespace())
            .stdin(Stdio::from(from))
            .output();
        let out = out.expect("starts");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        out.stdout
    };
    let answer = program(&format!("{} --input - -o -", r.run), &r.path("x.input"));
    assert!(answer == bytes(&r.path("a.answer")) && !Path::new("-").exists());
    let decrypted = program(&format!("{} -", r.decrypt), &r.path("a.answer"));
    assert!(String::from_utf8_lossy(&decrypted).contains("different"));
    // a pipe is read once
    let piped = |arguments: &str, bytes: &[u8]| {
        let mut child = support::command(arguments, &[]);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.stderr(Stdio::piped()).spawn().expect("starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        let sent = std::io::Write::write_all(&mut pipe, bytes);
        drop((sent, pipe));
        let out = child.wait_with_output().expect("ends");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (out.status.success(), text(&out.stdout) + &text(&out.stderr))
    };
    // a pipe has no client file beside it
    r.folder.file("alone.plan", &bytes(&r.path("toy.plan")));
    for name in ["alone.plan", "toy.client", "x.input", "a.answer", "xor.pvm"] {
        let (fine, text) = piped("inspect -", &bytes(&r.path(name)));
        let (said, noted) = done(&format!("inspect {}", r.path(name)), &[]);
        assert!(fine, "{name}: {text}");
        let of_file = (said + &noted).replace(&r.path(name), "/dev/stdin");
        assert_eq!(text, of_file, "{name}");
    }
    let (fine, text) = piped("inspect -", &bytes(&r.path("keys/client.key")));
    assert!(!fine && text.contains("secret key"), "{text}");
    let cut = bytes(&r.path("a.answer"));
    let (fine, text) = piped("inspect -", &cut[..cut.len() - 9]);
    assert!(!fine && text.contains("error: "), "{text}");
    let (fine, text) = piped("inspect -", &[0; 1000]);
    assert!(
        !fine && text.contains("neither a file of Polyveil's"),
        "{text}"
    );
    let keygen = format!("keygen - --insecure-toy -o {}", r.path("piped"));
    let client = bytes(&r.path("toy.client"));
    let (fine, text) = piped(&keygen, &client);
    assert!(
        fine && bytes(&r.path("piped/network.client")) == client,
        "{text}"
    );
    done(&format!("inspect {}", r.path("piped/client.key")), &[]);
    let huge = std::fs::File::create(r.path("huge")).expect("made");
    huge.set_len(1 << 40).expect("sparse");
    refused(
        &format!("{} --input {} -o {}", r.run, r.path("huge"), r.path("d")),
        &[],
        &["not a Polyveil file"],
    );
}

#[test]
fn a_stream_is_for_one_thing_and_no_file_is_called_so() {
    let r = Ready::new("streams");
    let run = format!("{} --input {}", r.run, r.path("x.input"));
    done(&format!("{run} -o {}", r.path("x.answer")), &[]);
    let (chart, model) = (r.path("r.svg"), r.path("xor.pvm"));
    let out = support::command(&format!("{run} -o - --report {chart}"), &[]).output();
    let out = out.expect("starts");
    assert!(out.stdout == bytes(&r.path("x.answer")));
    assert!(bytes(&chart).starts_with(b"<svg"));
    let compile = format!("compile {model} --no-probe");
    for two in [
        format!("{run} -o - --json"),
        format!("{run} -o /dev/stdout --report /dev/stdout"),
        format!("{compile} -o - --json"),
    ] {
        no_usage(&two, &["both would have /dev/stdout", "name a file"]);
    }
    let key = r.path("keys/client.key");
    let (x, rows) = (r.path("x.out"), r.path("rows.csv"));
    for (line, option) in [
        (format!("{} {x} --npy -", r.decrypt), "--npy"),
        (format!("{run} -o {x} --report -"), "--report"),
        (format!("{compile} -o {x} --prediction -"), "--prediction"),
        (
            format!("encrypt --key {key} --data - --index 0 -o {x}"),
            "--data",
        ),
        (format!("values {model} --input -"), "--input"),
        (
            format!("evaluate --model {model} --data {rows} -o -"),
            "--output",
        ),
        (format!("keygen {} -o -", r.path("toy.client")), "--output"),
        ("bench --save --machine -".into(), "--machine"),
        ("estimate resnet18 --size 32 --save -".into(), "--save"),
    ] {
        no_usage(&line, &[option]);
    }
    assert!(!Path::new("-").exists() && !Path::new(&x).exists());
}

#[test]
fn options_that_would_be_ignored_are_refused() {
    let r = Ready::new("ignored");
    let (key, x) = (r.path("keys/client.key"), r.path("x.out"));
    let encrypt = format!("encrypt --key {key} -o {x}");
    let model = r.path("xor.pvm");
    let evaluate = format!("evaluate --model {model} --data a.bin -o {x}");
    for (line, option) in [
        (format!("{encrypt} --image a.png --index 19"), "--index"),
        (format!("{encrypt} --image a.png --split test"), "--split"),
        (format!("{encrypt} --text a --index 1"), "--index"),
        (format!("{encrypt} --text a --without id"), "--without"),
        (
            format!("{encrypt} --image a.png --class-column y"),
            "--class-column",
        ),
        (
            format!("evaluate --model {model} --prompts a.txt -o {x} --value-columns y"),
            "--value-columns",
        ),
        (
            format!("calibrate {model} --text a.txt -o {x} --without id"),
            "--without",
        ),
        (format!("{encrypt} --image a.png --truncate"), "--truncate"),
        (
            format!("{encrypt} --data a.bin --index 1 --truncate"),
            "--truncate",
        ),
        (format!("{evaluate} --truncate"), "--truncate"),
        (format!("{evaluate} --labels nope.txt"), "--labels"),
        (
            format!("calibrate {model} --data a.bin --truncate -o {x}"),
            "--truncate",
        ),
        (
            format!("calibrate {model} --text a.txt --resize -o {x}"),
            "--resize",
        ),
        ("bench --quick --with-network".into(), "--with-network"),
    ] {
        no_usage(&line, &["cannot be used with", option]);
    }
    // one picture is none of a folder's
    refused(
        &format!("{encrypt} --image {}", r.path("keys")),
        &[],
        &["keys: it is a folder"],
    );
    assert!(!Path::new(&x).exists());
}

#[test]
fn files_that_do_not_belong_together_are_refused_by_their_headers() {
    let r = Ready::new("foreign");
    let (input, answer) = (r.path("x.input"), r.path("x.answer"));
    done(&format!("{} --input {input} -o {answer}", r.run), &[]);
    let (client, keys) = (r.path("toy.client"), r.path("foreign"));
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let plan = r.path("toy.plan");
    let run = format!("run --plan {plan} --input {input} -o {answer} --keys");
    let foreign = format!("{run} {keys}/evaluation.keys");
    // whatever the plan holds behind its header, which is not looked at, and nothing is forecast
    let whole = bytes(&plan);
    std::fs::write(&plan, &whole[..whole.len() - 9]).expect("written");
    let said = support::command(&foreign, &[])
        .output()
        .expect("starts")
        .stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("x.input belongs to key pair"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    refused(
        &format!("{run} {input}"),
        &[],
        &["`evaluation keys` is needed"],
    );
    refused(
        &format!("{run} {}/keys/evaluation.keys --resume", r.path("")),
        &[],
        &["no checkpoint", "without --resume"],
    );
    // another client file than the key's is what is wrong, not the key
    let graph = artefact::load(Path::new(&r.path("xor.pvm")), 1 << 20).expect("reads");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(10, 6)),
        ..compiler::Target::default()
    };
    let other = compiler::compile(&graph, &target).expect("compiles");
    let other = other.client_file(graph.metadata().task.clone().expect("a task"));
    let other = other.expect("its task").write(Vec::new(), "x");
    let other = r.folder.file("other.client", &other.expect("writes"));
    let said = refused(
        &format!("{} {answer} --client {other}", r.decrypt),
        &[],
        &["other.client", "another client file", "network.client"],
    );
    assert!(!said.contains("keygen"), "{said}");
}

#[test]
fn secrets_are_private_whatever_lies_in_their_folder() {
    let r = Ready::new("private");
    let folder = r.path("planted");
    std::fs::create_dir(&folder).expect("made");
    for name in ["client.key.partial", "client.key.part"] {
        let path = r.folder.file(&format!("planted/{name}"), b"");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("mode");
    }
    let keygen = format!("keygen {} --insecure-toy -o", r.path("toy.client"));
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("mode");
    let (_, said) = done(&format!("{keygen} {folder}"), &[]);
    assert!(
        said.contains("others can put other keys") && said.contains("chmod 700"),
        "{said}"
    );
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let (_, said) = done(&format!("{keygen} {folder} --replace"), &[]);
    assert!(said.contains("others can look into"), "{said}");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("mode");
    let (_, said) = done(&format!("{keygen} {folder} --replace"), &[]);
    assert!(!said.contains("others"), "{said}");
    let mode = |path: &str| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&format!("{folder}/client.key")), 0o600);
    assert_eq!(mode(&r.path("keys")), 0o700);
    // a link in the secret's place
    let other = r.path("linked");
    std::fs::create_dir(&other).expect("made");
    symlink(r.path("stolen"), format!("{other}/client.key")).expect("link");
    refused(&format!("{keygen} {other}"), &[], &["client.key"]);
    assert!(!Path::new(&r.path("stolen")).exists());
}

#[test]
fn checkpoints_take_nobodys_place_and_are_not_begun_anew_silently() {
    let r = Ready::new("checkpoints");
    let (input, answer) = (r.path("x.input"), r.path("x.answer"));
    let run = format!("{} --input {input} -o {answer}", r.run);
    let notes = r.folder.file("notes.txt", b"mine");
    refused(&format!("{run} --checkpoint {notes}"), &[], &["notes.txt"]);
    assert_eq!(bytes(&notes), b"mine");
    refused(
        &format!("{run} --resume"),
        &[],
        &["no checkpoint", "without --resume"],
    );
    // one that a killed run of this plan and input left
    let plan = runtime::VerifiedPlan::read(&bytes(&r.path("toy.plan"))[..], "plan").expect("reads");
    let plan = Arc::new(plan);
    let keys = bytes(&r.path("keys/evaluation.keys"));
    let server =
        runtime::Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {}).expect("keys");
    let mut state = server
        .read_input(&bytes(&input)[..], "input")
        .expect("its own");
    plan.advance(server.engine(), &mut state, &mut ())
        .expect("one step");
    let digest = input_digest(&bytes(&input)[..], "input").expect("digest");
    let checkpoint = r.path("x.answer.checkpoint");
    Checkpointer::new(&plan, server.engine(), checkpoint.clone().into(), digest)
        .save(&state)
        .expect("saves");
    refused(&run, &[], &["x.answer.checkpoint", "--resume"]);
    assert!(Path::new(&checkpoint).exists() && !Path::new(&answer).exists());
    // another input's
    done(&format!("{} {}", r.encrypt, r.path("y.input")), &[]);
    let others = format!("{} --input {} -o {answer}", r.run, r.path("y.input"));
    refused(&others, &[], &["another encrypted input"]);
    // to go on from it can't help
    refused(
        &format!("{others} --resume"),
        &[],
        &["another encrypted input", "without `--resume`"],
    );
    let left = r.folder.file("x.answer.0a1b2c3d.partial", b"half");
    let (_, said) = done(&format!("{run} --resume"), &[]);
    assert!(
        said.contains("0a1b2c3d.partial") && !Path::new(&left).exists(),
        "{said}"
    );
    assert!(Path::new(&answer).exists() && !Path::new(&checkpoint).exists());
    done(&format!("{} {answer}", r.decrypt), &[]);
}
