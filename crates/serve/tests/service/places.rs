//! What the program writes, who may read it, and what it never takes the place of.

use crate::support::{Caller, Folder, Site, Toy, done, program, refused};
use polyveil::keys::{KeygenOptions, keygen};
use polyveil::machine::Machine;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn keys_in(folder: &Path) {
    let options = KeygenOptions {
        accept_toy: true,
        ..KeygenOptions::default()
    };
    let client = folder.join("network.client");
    keygen(&client, folder, options, &Machine::default(), &mut |_| {}).expect("makes keys");
}

/// Commands of the program, with a place for what they write, by its own help.
fn commands_with_outputs() -> Vec<String> {
    let help = |line: &str| done(&format!("{line} --help")).0;
    let inner = |line: &str| -> Vec<String> {
        let text = help(line);
        let list = text.split_once("Commands:\n").map_or("", |(_, rest)| rest);
        let list = list.split("\n\n").next().unwrap_or_default();
        // names stand two spaces in, what is behind them further
        let name = |l: &str| Some(l.strip_prefix("  ")?.split_whitespace().next()?.to_string());
        let lines = list.lines().filter(|l| !l.starts_with("   "));
        lines.filter_map(name).filter(|n| n != "help").collect()
    };
    let mut found = Vec::new();
    let mut open = inner("");
    assert!(open.len() > 5, "{open:?}");
    while let Some(line) = open.pop() {
        open.extend(inner(&line).iter().map(|name| format!("{line} {name}")));
        if help(&line).contains("--output") {
            found.push(line);
        }
    }
    found.sort();
    found
}

#[test]
fn no_output_takes_the_place_of_what_must_stay() {
    // whoever gives another command an output, tries it here
    assert_eq!(commands_with_outputs(), ["ask", "enrol"]);
    let site = Site::new("places", Toy::Small, "");
    let token = site.account("ada", "");
    let token_file = site.folder.file("ada.token", token.as_bytes());
    let keys = site.folder.path("keys");
    let at = |name: &str| PathBuf::from(site.folder.path(name));
    let enrol = |output: &str, more: &str| {
        format!(
            "enrol {} --token-file {token_file} -o {output} --insecure-toy {more}",
            site.url()
        )
    };
    done(&enrol(&keys, ""));
    // the same kind is replaced
    done(&enrol(&keys, ""));
    keys_in(Path::new(&keys));
    done(&format!("upload {keys}"));
    let secret = at("keys/client.key");
    let own = polyveil::Client::open(&secret, None).expect("its key");
    let row = polyveil::Input::Row(vec![1.0, 0.5, 0.25, 0.75]);
    let input = site
        .folder
        .file("x.input", &own.encrypt(&[row]).expect("encrypts"));
    let record = "{\n  \"key\": \"00\",\n  \"security\": 40,\n  \"releases\": 3,\n  \"used\": 1\n}";
    site.folder.file("keys/releases.json", record.as_bytes());
    site.folder.file("foreign", b"somebody's");
    fs::copy(&secret, at("another.key")).expect("copied");
    symlink("another.key", at("link")).expect("link");

    // one option, and what stays in spite of it
    let ask = |output: &Path, more: &str| {
        format!("ask {input} --keys {keys} -o {} {more}", output.display())
    };
    let cases = [
        ("keys/client.key", "secret key", "secret key"),
        ("another.key", "secret key", "secret key"),
        ("link", "secret key", "secret key"),
        ("x.input", "the same work needs", "the same work needs"),
        (
            "keys/evaluation.keys",
            "the same work needs",
            "the same work needs",
        ),
        (
            "keys/service.json",
            "the same work needs",
            "the same work needs",
        ),
        ("keys/network.client", "client file is there", "a part of"),
        (
            "keys/releases.json",
            "record of shared answers",
            "record of shared answers",
        ),
        (
            "foreign",
            "choose another name, or have it replaced: --force",
            "",
        ),
    ];
    for (name, why, even_so) in cases {
        let had = fs::read(at(name)).expect("there");
        refused(&ask(&at(name), ""), &[why]);
        if !even_so.is_empty() {
            refused(&ask(&at(name), "--force"), &[even_so]);
        }
        assert!(fs::read(at(name)).expect("there") == had, "{name}");
        assert!(at("link").is_symlink());
    }
    done(&ask(&at("foreign"), "--force"));
    let answer = fs::read(at("foreign")).expect("there");
    own.decrypt(&answer).expect("its own");
    // an old answer is of the same kind
    done(&ask(&at("foreign"), ""));

    // a folder's files, and secrets through no link
    for (name, content) in [("service.json", "theirs"), ("network.client", "theirs")] {
        let folder = site.folder.path(&format!("other-{name}"));
        fs::create_dir(&folder).expect("made");
        let place = Path::new(&folder).join(name);
        fs::write(&place, content).expect("written");
        refused(&enrol(&folder, ""), &["would take its place", "--force"]);
        assert_eq!(fs::read_to_string(&place).expect("there"), content);
        fs::copy(&secret, &place).expect("copied");
        refused(&enrol(&folder, "--force"), &["secret key"]);
        fs::remove_file(&place).expect("removed");
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
    }
    let linked = site.folder.path("linked");
    fs::create_dir(&linked).expect("made");
    symlink("../elsewhere", Path::new(&linked).join("service.json")).expect("link");
    refused(&enrol(&linked, "--force"), &["symbolic link"]);
    assert!(!at("elsewhere").exists());
    let token_there = site.folder.path("with-token");
    fs::create_dir(&token_there).expect("made");
    let place = Path::new(&token_there).join("service.json");
    fs::write(&place, &token).expect("written");
    let line = enrol(&token_there, "--force").replace(&token_file, place.to_str().expect("plain"));
    refused(&line, &["the same work needs"]);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&at("keys/service.json")), 0o600);
    assert_eq!(mode(&at("keys")), 0o700);
    // an open folder of keys is told, as keygen tells it
    fs::set_permissions(at("keys"), Permissions::from_mode(0o755)).expect("mode");
    let (_, said) = done(&enrol(&keys, ""));
    assert!(said.contains("look into this folder of keys"), "{said}");
}

#[test]
fn a_services_files_are_its_owners_alone_whatever_the_umask() {
    let folder = Folder::new("modes");
    Toy::Bootstraps.compile(&folder, "toy");
    let data = folder.path("data");
    // a shell sets it, and the program takes its place
    let umask = |line: &str| {
        let program = program(line);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
        command.arg(program.get_program()).args(program.get_args());
        command
    };
    let plan = folder.path("toy.plan");
    let published = umask(&format!("plan add {plan} --insecure-toy --data {data}")).output();
    assert!(published.expect("starts").status.success());
    let made = umask(&format!("account add ada --data {data}")).output();
    let token = String::from_utf8(made.expect("starts").stdout).expect("text");
    let mut site = Site::at(folder, "toy");
    let address = site.address;
    site.spawn(&mut umask(&format!(
        "start --data {data} --listen {address}"
    )));
    let caller = Caller {
        address,
        token: token.trim().into(),
    };
    let party = site.client("ada");
    let keys = caller.upload(&party.keys);
    let job = caller.job(&keys, "one", &party.input([0.5; 4]));
    let mut seen = std::collections::BTreeSet::new();
    let mut look = || {
        let mut open = vec![PathBuf::from(&data)];
        while let Some(path) = open.pop() {
            // what was finished or removed meanwhile
            let Ok(found) = fs::symlink_metadata(&path) else {
                continue;
            };
            let wanted = if found.is_dir() { 0o700 } else { 0o600 };
            let mode = found.permissions().mode() & 0o777;
            assert_eq!(mode, wanted, "{}: {mode:o}", path.display());
            if found.is_dir() {
                let entries = fs::read_dir(&path).expect("a folder").flatten();
                open.extend(entries.map(|e| e.path()));
            } else if let Some(kind) = path.parent().and_then(Path::file_name) {
                seen.insert(kind.to_owned());
            }
        }
    };
    let start = Instant::now();
    while !matches!(
        caller.get(&format!("/v1/jobs/{job}")).json()["state"].as_str(),
        Some("done")
    ) {
        look();
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    look();
    for kind in ["data", "plans", "keys", "inputs", "checkpoints", "answers"] {
        assert!(
            seen.contains(std::ffi::OsStr::new(kind)),
            "{kind} of {seen:?}"
        );
    }
    site.stop();
    // a database that an earlier version left to be read by others
    let book = Path::new(&data).join("book.redb");
    fs::set_permissions(&book, Permissions::from_mode(0o644)).expect("mode");
    site.operate("account list");
    assert_eq!(
        fs::metadata(&book).expect("there").permissions().mode() & 0o777,
        0o600
    );
    // a folder that was there and is open to others is told, and stays as it is
    for (mode, words) in [
        (0o755, "look into this folder of files"),
        (0o777, "put other files"),
    ] {
        fs::set_permissions(&data, Permissions::from_mode(mode)).expect("mode");
        let (_, said) = done(&format!("account list --data {data}"));
        assert!(said.contains(words) && said.contains("chmod 700"), "{said}");
    }
}

#[test]
fn a_folder_with_others_files_is_no_services() {
    let folder = Folder::new("not-a-service");
    Toy::Small.compile(&folder, "toy");
    let root = folder.path("");
    fs::create_dir(folder.path("keys")).expect("made");
    let secret = folder.file("keys/client.key", b"all that decrypts");
    let add = format!(
        "plan add {} --insecure-toy --data {root}",
        folder.path("toy.plan")
    );
    let start = format!("start --data {root} --listen 127.0.0.1:0");
    let account = format!("account add ada --data {root}");
    for line in [&add, &start, &account] {
        refused(
            line,
            &[
                "keys/client.key",
                "no file of a service",
                "choose another folder",
            ],
        );
    }
    for made in ["book.redb", "plans", "answers"] {
        assert!(!Path::new(&folder.path(made)).exists(), "{made}");
    }
    assert_eq!(fs::read(&secret).expect("stays"), b"all that decrypts");
}
