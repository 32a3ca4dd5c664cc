//! Making keys is one step, whatever ends it and however many try at once.

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::{Folder, command, done, refused};

const XOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");

/// The client file of a toy plan.
fn client_file(folder: &Folder) -> String {
    let rows = folder.file("rows.csv", b"left,right\n0,0\n0,1\n1,0\n1,1\n");
    let pvm = folder.path("xor.pvm");
    done(
        &format!("calibrate {XOR} --normalization none --data {rows} --degree 7 -o {pvm}"),
        &[],
    );
    let graph = nn::format::artefact::load(pvm.as_ref(), 1 << 20).expect("reads");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(11, 6)),
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
    let client = client.expect("its task").write(Vec::new(), "x");
    folder.file("toy.client", &client.expect("writes"))
}

/// The id of a pair, whose files are whole and belong together.
fn pair(keys: &Path) -> runtime::KeyId {
    let read = |name: &str| std::fs::read(keys.join(name)).expect("there");
    let file = runtime::ClientFile::read(&read("network.client")[..], "x").expect("whole");
    let parameters = file.parameters().clone();
    let needed = file.spec().key_request();
    let client = runtime::Client::read(&read("client.key")[..], "x", file).expect("whole");
    let public = read("evaluation.keys");
    let public = runtime::ServerKeys::read(&public[..], "x", &parameters, &needed, &mut |_, _| {});
    assert_eq!(public.expect("whole").id, client.key());
    client.key()
}

/// What lies in a folder of keys, in order.
fn names(keys: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(keys).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn two_at_once_leave_one_whole_pair() {
    let folder = Folder::new("keys-race");
    let client = client_file(&folder);
    for round in 0..6 {
        let keys = folder.path(&format!("keys-{round}"));
        let replace: &[&str] = if round % 2 == 0 { &[] } else { &["--replace"] };
        let keygen = format!("keygen {client} -o {keys} --insecure-toy");
        let start = || {
            let mut keygen = command(&keygen, replace);
            keygen.stdout(Stdio::null()).stderr(Stdio::piped());
            keygen.spawn().expect("starts")
        };
        let both = [start(), start()].map(|c| c.wait_with_output().expect("ends"));
        let done = both.iter().filter(|o| o.status.success()).count();
        // without --replace the second one finds keys
        assert_eq!(done, if replace.is_empty() { 1 } else { 2 });
        for loser in both.iter().filter(|o| !o.status.success()) {
            let message = String::from_utf8_lossy(&loser.stderr);
            assert!(message.contains("already holds keys"), "{message}");
        }
        pair(Path::new(&keys));
        assert_eq!(
            names(Path::new(&keys)),
            ["client.key", "evaluation.keys", "network.client"]
        );
    }
}

#[test]
fn a_plan_does_not_replace_what_keys_were_made_for() {
    let folder = Folder::new("keys-of-a-plan");
    let (client, keys, pvm) = (
        client_file(&folder),
        folder.path("keys"),
        folder.path("xor.pvm"),
    );
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    let had = std::fs::read(&client).expect("there");
    for force in ["", "--force"] {
        let compile = format!("compile {pvm} -o {keys}/network.plan {force}");
        refused(&compile, &[], &["network.client", "client.key"]);
        let beside = Path::new(&keys).join("network.client");
        assert_eq!(std::fs::read(beside).expect("there"), had);
    }
}

#[test]
fn what_belongs_to_other_keys_stays() {
    let folder = Folder::new("keys-belongings");
    let client = client_file(&folder);
    for (name, content) in [
        (
            "releases.json",
            &b"{ \"key\": \"00\", \"security\": 40, \"releases\": 3, \"used\": 1 }"[..],
        ),
        ("network.client", b"mine"),
    ] {
        let keys = folder.path(&format!("keys-{name}"));
        std::fs::create_dir(&keys).expect("made");
        let file = Path::new(&keys).join(name);
        std::fs::write(&file, content).expect("written");
        let keygen = format!("keygen {client} -o {keys} --insecure-toy");
        refused(&keygen, &[], &[name, "choose another folder"]);
        assert_eq!(std::fs::read(&file).expect("there"), content);
        assert_eq!(names(Path::new(&keys)), [name]);
    }
    // what is no client file goes with no option
    let keys = folder.path("keys-network.client");
    let keygen = format!("keygen {client} -o {keys} --insecure-toy --replace");
    refused(&keygen, &[], &["network.client", "choose another folder"]);
    assert_eq!(names(Path::new(&keys)), ["network.client"]);
    // the same client file does no harm
    std::fs::copy(&client, Path::new(&keys).join("network.client")).expect("copied");
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    pair(Path::new(&keys));
}

#[test]
fn a_file_is_no_folder_of_keys() {
    let folder = Folder::new("keys-file");
    let client = client_file(&folder);
    let file = folder.file("notes.txt", b"mine");
    let keygen = format!("keygen {client} -o {file} --insecure-toy");
    let said = command(&keygen, &[]).output().expect("it starts").stderr;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("notes.txt: it is no folder") && said.contains("name another"),
        "{said}"
    );
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(std::fs::read(&file).expect("there"), b"mine");
}

#[test]
fn one_that_is_killed_leaves_a_whole_pair() {
    let folder = Folder::new("keys-killed");
    let client = client_file(&folder);
    let keys = folder.path("keys");
    let keygen = format!("keygen {client} -o {keys} --insecure-toy");
    done(&keygen, &[]);
    refused(&keygen, &[], &["already holds keys", "replace"]);
    let mut before = pair(Path::new(&keys));
    for pause in (0..20).map(|i| Duration::from_millis(7 * i)) {
        let mut child = command(&keygen, &["--replace"]);
        let mut child = child.stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(pause);
        child.kill().expect("kills");
        child.wait().expect("ends");
        // what is left is a pair, or the next one makes it one before anything else
        let folder = Path::new(&keys);
        if folder.join("replaced").exists() {
            command(&keygen, &[]).output().expect("it starts");
        }
        before = pair(folder);
    }
    done(&keygen, &["--replace"]);
    assert_ne!(pair(Path::new(&keys)), before);
    let whole = |n: &String| !n.contains("replaced");
    assert!(names(Path::new(&keys)).iter().all(whole));
}
