//! Where commands write and read: over other files, into devices, pipes, folders; who may read; names.

use super::kills::own_client;
use crate::attempt::{Start, Try, raw};
use crate::case::{Case, case, has, repeat, server_line};
use crate::fault::{Fault, Kind, Verdict, own};
use crate::lab::Lab;
use std::fs::{self, FileType};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

groups! {
    beside "keygen-over" 4 keygen_over "`keygen` where keys are: refused, they stay";
    beside "output-over" 30 output_over "an output that is an input of the command, a key, or a foreign file: refused, it stays";
    beside "output-devices" 8 output_devices "an output that is a device, a FIFO or a link: it stays what it is";
    beside "run-unwritable" 8 run_unwritable "`run` that can't write: refused before it computes";
    beside "unwritable" 10 unwritable "the other commands that can't write";
    beside "as-nobody" 0 as_nobody "as another user: modes, read-only folders, keys that may not be read";
    beside "secret-modes" 6 secret_modes "client.key: 0600 on a new file, a warning where others can read";
    beside "pipes" 8 pipes "`-`, /dev/stdin, FIFOs as inputs and outputs";
    beside "huge-inputs" 14 huge_inputs "sparse terabytes, /dev/zero, /dev/full, /dev/null, folders as any input: refused at once";
    beside "odd-names" 16 odd_names "names that are not UTF-8, long, with spaces, line feeds, escape codes";
}

fn keygen_over(_: &Lab) -> Vec<Case> {
    let line = "keygen @lev/net.client -o k --insecure-toy";
    let present = [
        &["client.key"][..],
        &["evaluation.keys"],
        &["client.key", "evaluation.keys"],
        &["client.key", "evaluation.keys", "releases.json"],
    ];
    (present.into_iter())
        .map(|names| {
            case(format!("{names:?}"), move |t| {
                for name in names {
                    t.file(&format!("k/{name}"), b"what was here before")?;
                }
                t.polyveil(line)?.refused(&["replace"])?;
                t.leftovers("k", &["client.key", "evaluation.keys", "releases.json"])
            })
        })
        .collect()
}

/// Copies of all that a command could need, which must stay.
fn present(t: &mut Try<'_>) -> Verdict {
    for name in ["net.plan", "net.client", "net.pvm", "trained.pvm"] {
        t.copy(&format!("@lev/{name}"), &format!("in/{name}"))?;
    }
    for name in ["client.key", "evaluation.keys", "x.input", "x.answer"] {
        t.copy(&format!("@lev/A/{name}"), &format!("in/{name}"))?;
    }
    t.copy("@lev/net.client", "in/network.client")?;
    t.copy("@0.png", "in/0.png")?;
    t.copy("@pictures.npz", "in/pictures.npz")?;
    t.file("in/letter.json", b"{\"to\": \"Alice\"}")?;
    let record = b"{ \"key\": \"00\", \"security\": 40, \"releases\": 3, \"used\": 1 }";
    t.file("in/releases.json", record)?;
    t.file("in/letter.txt", b"Dear Alice, ...").map(drop)
}

fn output_over(_: &Lab) -> Vec<Case> {
    let commands = table![
        ("encrypt", "encrypt --key in/client.key --image in/0.png -o OUT", &["client.key", "0.png", "network.client", "evaluation.keys", "net.plan", "x.answer", "letter.txt"][..]);
        ("compile", "compile in/net.pvm -o OUT --machine shipped --no-probe", &["net.pvm", "client.key", "evaluation.keys", "0.png", "letter.txt"]);
        ("run", "run --plan in/net.plan --keys in/evaluation.keys --input in/x.input -o OUT --no-probe --machine shipped", &["net.plan", "evaluation.keys", "x.input", "client.key", "0.png", "letter.txt"]);
        ("report", "run --plan in/net.plan --keys in/evaluation.keys --input in/x.input -o y.answer --report OUT --no-probe --machine shipped", &["net.plan", "evaluation.keys", "x.input", "client.key", "letter.txt", "letter.json", "releases.json"]);
        ("checkpoint", "run --plan in/net.plan --keys in/evaluation.keys --input in/x.input -o y.answer --checkpoint OUT --no-probe --machine shipped", &["net.plan", "evaluation.keys", "x.input", "client.key", "letter.txt"]);
        ("prediction", "run --plan in/net.plan --keys in/evaluation.keys --input in/x.input -o y.answer --prediction OUT --machine shipped", &["net.plan", "evaluation.keys", "x.input", "client.key", "letter.txt", "letter.json", "releases.json"]);
        ("calibrate", "calibrate in/trained.pvm --data in/pictures.npz --degree 4 -o OUT", &["trained.pvm", "pictures.npz", "client.key", "0.png", "letter.txt"]);
        ("evaluate", "evaluate --model in/net.pvm --plan in/net.plan --data in/pictures.npz --split test --count 1 --machine shipped --no-probe -o OUT", &["net.pvm", "net.plan", "pictures.npz", "client.key", "letter.txt"]);
    ];
    let mut all = Vec::new();
    for (name, line, outputs) in commands {
        for output in outputs {
            // the same file by its name, by a longer one, and by a link
            for (how, link) in [("in/", false), ("./in/../in/", false), ("link-", true)] {
                all.push(case(format!("{name} over {how}{output}"), move |t| {
                    present(t)?;
                    if link {
                        symlink(
                            t.path(&format!("in/{output}")),
                            t.path(&format!("link-{output}")),
                        )
                        .map_err(own)?;
                    }
                    let line = line.replace("OUT", &format!("{how}{output}"));
                    let done = t.polyveil(&line)?;
                    t.kept()?;
                    done.refused(&[]).map(drop)
                }));
            }
        }
    }
    all.push(case("report onto the answer", |t| {
        let line = format!(
            "{} --input @lev/A/x.input -o y.answer --report y.answer",
            server_line("lev", "A")
        );
        t.polyveil(&line)?.refused(&[]).map(drop)
    }));
    all.push(case("a plan beside another's client file", |t| {
        t.copy("@boot/net.client", "x.client")?;
        t.forget("x.client");
        t.polyveil("compile @lev/net.pvm -o x.client --machine shipped --no-probe")?
            .refused(&[])
            .map(drop)
    }));
    all
}

const OUTPUTS: [(&str, &str); 5] = table![
    ("encrypt", "encrypt --key @lev/A/client.key --image @0.png -o OUT");
    ("run", "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o OUT --no-probe --machine shipped");
    ("compile", "compile @lev/net.pvm -o OUT --machine shipped --no-probe");
    ("calibrate", "calibrate @lev/trained.pvm --data @pictures.npz --degree 4 -o OUT");
    ("prediction", "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o y.answer --machine shipped --prediction OUT");
];

/// A device of the try's own, where one may be made; a device of the system is never the target.
fn device(t: &Try<'_>, name: &str, minor: &str) -> Verdict {
    let made = std::process::Command::new("mknod")
        .arg(t.path(name))
        .args(["c", "1", minor])
        .stderr(std::process::Stdio::null())
        .status();
    Kind::Skipped.unless(
        made.is_ok_and(|s| s.success()),
        "no device may be made here",
    )
}

/// What was written into is what it was.
fn stays(t: &Try<'_>, name: &str, is: fn(&FileType) -> bool) -> Verdict {
    let found = fs::symlink_metadata(t.path(name)).map_err(own)?;
    Kind::Lost.unless(
        is(&found.file_type()),
        format!("{name} was replaced by a file"),
    )
}

fn output_devices(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for (name, line) in OUTPUTS {
        let words = move |to: &str| line.replace("OUT", to);
        all.push(case(format!("{name} into a null device"), move |t| {
            device(t, "null", "3")?;
            let done = t.polyveil(&words("null"))?;
            stays(t, "null", FileType::is_char_device)?;
            done.either().map(drop)
        }));
        all.push(case(format!("{name} into a full device"), move |t| {
            device(t, "full", "7")?;
            let done = t.polyveil(&words("full"))?;
            stays(t, "full", FileType::is_char_device)?;
            done.refused(&["full"]).map(drop)
        }));
        all.push(case(format!("{name} into a FIFO"), move |t| {
            fifo(t, "fifo")?;
            // a reader that takes everything
            let start = Start::behind("cat fifo >got & exec");
            let done = t.start(&words("fifo"), &[], &start)?;
            let done = done.end_within(std::time::Duration::from_secs(60));
            // a reader that still waits is let go
            drop(
                fs::OpenOptions::new()
                    .write(true)
                    .custom_nonblocking()
                    .open(t.path("fifo")),
            );
            stays(t, "fifo", FileType::is_fifo)?;
            done?.either().map(drop)
        }));
        all.push(case(format!("{name} through a link"), move |t| {
            symlink(t.path("target"), t.path("link")).map_err(own)?;
            t.scratch("target", b"")?;
            t.polyveil(&words("link"))?.either()?;
            stays(t, "link", FileType::is_symlink)
        }));
    }
    all
}

fn fifo(t: &Try<'_>, name: &str) -> Verdict {
    let made = std::process::Command::new("mkfifo")
        .arg(t.path(name))
        .status();
    Kind::Skipped.unless(made.is_ok_and(|s| s.success()), "no FIFO can be made here")
}

trait NonBlocking {
    fn custom_nonblocking(&mut self) -> &mut Self;
}

impl NonBlocking for fs::OpenOptions {
    fn custom_nonblocking(&mut self) -> &mut Self {
        // O_NONBLOCK of Linux: opening fails where nobody reads
        std::os::unix::fs::OpenOptionsExt::custom_flags(self, 0o4000)
    }
}

fn run_unwritable(_: &Lab) -> Vec<Case> {
    let ways = [
        ("-o no/such/x.answer", "no/such"),
        ("-o folder", "folder"),
        ("-o folder/", "folder"),
        ("-o file/x.answer", "file"),
        ("-o x.answer --report no/such/r.svg", "no/such"),
        ("-o x.answer --report folder", "folder"),
        ("-o x.answer --checkpoint no/such/c", "no/such"),
        ("-o x.answer --checkpoint folder", "folder"),
        ("-o x.answer --prediction no/such/p.json", "no/such"),
        ("-o x.answer --prediction folder", "folder"),
    ];
    let mut all = Vec::new();
    for net in ["lev", "deep"] {
        for (words, named) in ways {
            all.push(case(format!("{net} {words}"), move |t| {
                t.folder("folder")?;
                t.file("file", b"a file")?;
                let line = format!("{} --input @{net}/A/x.input {words}", server_line(net, "A"));
                let done = t.polyveil(&line)?.refused(&[named])?;
                t.leftovers(".", &["folder", "file"])?;
                t.leftovers("folder", &[])?;
                // a refusal before the work; reading keys and verifying is not yet it
                let whole = t.lab.net("deep").run;
                match net == "deep" && done.wall > whole.mul_f64(0.8) {
                    true => Err(Fault::other("it computed before it noticed")),
                    false => Ok(()),
                }
            }));
        }
    }
    all
}

fn unwritable(_: &Lab) -> Vec<Case> {
    let commands = table![
        OUTPUTS[0];
        OUTPUTS[2];
        OUTPUTS[3];
        ("keygen", "keygen @lev/net.client --insecure-toy -o OUT");
        ("train", "train --config run.toml -o OUT");
        ("adapt", "adapt @lev/trained.pvm --train @pictures.npz --held-out 20 --degree 4 --epochs 1 -o OUT");
        ("evaluate", "evaluate --model @lev/net.pvm --plan @lev/net.plan --data @pictures.npz --split test --count 2 --machine shipped --no-probe -o OUT");
    ];
    let mut all = Vec::new();
    for (name, line) in commands {
        let makes = ["keygen", "train", "adapt"].contains(&name);
        for to in ["no/such/x", "folder", "file/x", ""] {
            if makes && (to == "no/such/x" || to == "folder") {
                continue;
            }
            all.push(case(format!("{name} {to:?}"), move |t| {
                super::kills::training(t, false)?;
                t.folder("folder")?;
                t.file("file", b"a file")?;
                let (before, after) = line
                    .split_once(" OUT")
                    .unwrap_or((line.trim_end_matches(" OUT"), ""));
                let before = before.trim_end_matches(" -o");
                let done = t.with(&format!("{before} {after}"), &["-o", to])?;
                done.turned_down()?;
                t.leftovers(".", &["folder", "file", "run.toml"])?;
                t.leftovers("folder", &[])
            }));
        }
    }
    for name in ["keygen", "train"] {
        all.push(case(format!("{name} makes its folders"), move |t| {
            super::kills::training(t, false)?;
            let line = match name {
                "keygen" => "keygen @lev/net.client --insecure-toy -o new/folder/k",
                _ => "train --config run.toml -o new/folder/run",
            };
            t.polyveil(line)?.ok().map(drop)
        }));
    }
    all
}

/// Whether one is root, and so whether one can be somebody else.
fn root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout == b"0\n") && has("setpriv")
}

fn set(t: &Try<'_>, name: &str, mode: u32) -> Verdict {
    fs::set_permissions(t.path(name), fs::Permissions::from_mode(mode)).map_err(own)
}

/// Commands of somebody who is not root.
fn nobody(
    name: &str,
    work: impl Fn(&mut Try<'_>, &Start<'_>) -> Verdict + Send + Sync + 'static,
) -> Case {
    case(name, move |t| {
        Kind::Skipped.unless(root(), "only root can become nobody")?;
        set(t, ".", 0o777)?;
        // the program itself must be reachable
        let program = t.folder.join("polyveil");
        let _ = fs::copy(&t.lab.polyveil, &program);
        let start = Start::behind("exec setpriv --reuid 65534 --regid 65534 --clear-groups");
        work(t, &start)
    })
}

fn as_nobody(_: &Lab) -> Vec<Case> {
    fn keygen(t: &mut Try<'_>, start: &Start<'_>, umask: &str) -> Verdict {
        let before = format!("umask {umask}; {}", start.before);
        let start = Start {
            before: &before,
            ..start.clone()
        };
        t.within("keygen @lev/net.client -o k --insecure-toy", &start)?
            .ok()?;
        match (mode(t, "k/client.key")?, mode(t, "k")?) {
            (0o600, folder) if folder & 0o022 == 0 => Ok(()),
            (key, folder) => Err(Fault::other(format!(
                "client.key {key:o}, its folder {folder:o}"
            ))),
        }
    }
    fn locked(t: &mut Try<'_>, start: &Start<'_>, file: &str, line: &str) -> Verdict {
        own_client(t, "lev")?;
        set(t, file, 0o000)?;
        t.within(line, start)?.refused(&[file])?;
        set(t, file, 0o600)
    }
    let mut all = vec![
        nobody("umask 000", |t, s| keygen(t, s, "000")),
        nobody("umask 022", |t, s| keygen(t, s, "022")),
        nobody("umask 077", |t, s| keygen(t, s, "077")),
        nobody("a key that may not be read", |t, s| {
            locked(
                t,
                s,
                "c/client.key",
                "decrypt --key c/client.key @lev/A/x.answer",
            )
        }),
        nobody("a client file that may not be read", |t, s| {
            locked(
                t,
                s,
                "c/network.client",
                "decrypt --key c/client.key @lev/A/x.answer",
            )
        }),
        nobody("a record in a read-only folder", |t, s| {
            own_client(t, "lev")?;
            set(t, "c/client.key", 0o644)?;
            set(t, "c", 0o555)?;
            let line =
                "decrypt --key c/client.key @lev/A/x.answer --share --class-only --releases 5";
            let done = t.within(line, s)?.refused(&[])?;
            Kind::Other.unless(
                done.stdout.trim().is_empty(),
                "an answer was printed that was not counted",
            )
        }),
    ];
    for line in [
        "encrypt --key @lev/A/client.key --image @0.png -o ro/x",
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o ro/x --machine shipped --no-probe",
        "evaluate --model @lev/net.pvm --plan @lev/net.plan --data @pictures.npz --split test --count 1 -o ro/x --machine shipped --no-probe",
        "compile @lev/net.pvm -o ro/x --machine shipped --no-probe",
        "keygen @lev/net.client -o ro/k --insecure-toy",
        "calibrate @lev/trained.pvm --data @pictures.npz -o ro/x",
    ] {
        let command = line.split(' ').next().unwrap_or_default();
        let name = format!("{command} into a read-only folder");
        all.push(nobody(&name, move |t, start| {
            t.folder("ro")?;
            set(t, "ro", 0o555)?;
            t.within(line, start)?.refused(&["ro"])?;
            t.leftovers("ro", &[])
        }));
    }
    all
}

fn mode(t: &Try<'_>, name: &str) -> Verdict<u32> {
    Ok(fs::symlink_metadata(t.path(name))
        .map_err(own)?
        .permissions()
        .mode()
        & 0o777)
}

fn secret_modes(_: &Lab) -> Vec<Case> {
    let keygen = "keygen @lev/net.client -o k --insecure-toy";
    let mut all = Vec::new();
    for line in [
        "decrypt --key c/client.key @lev/A/x.answer",
        "encrypt --key c/client.key --image @0.png -o x.input",
        "inspect c/client.key",
    ] {
        for bits in [0o644, 0o640, 0o604, 0o666] {
            all.push(case(format!("{bits:o} {line:.12}"), move |t| {
                own_client(t, "lev")?;
                set(t, "c/client.key", bits)?;
                let done = t.polyveil(line)?;
                let said = done.stderr.to_lowercase() + &done.stdout.to_lowercase();
                match ["warning", "others", "chmod"]
                    .iter()
                    .any(|w| said.contains(w))
                {
                    true => Ok(()),
                    false => Err(Fault::other(
                        "a key that others can read is used without a word",
                    )),
                }
            }));
        }
    }
    for name in [
        "client.key.partial",
        "client.key.tmp",
        ".client.key.partial",
    ] {
        all.push(case(format!("a stale {name} of mode 666"), move |t| {
            t.scratch(&format!("k/{name}"), b"stale")?;
            set(t, &format!("k/{name}"), 0o666)?;
            t.polyveil(keygen)?.ok()?;
            match mode(t, "k/client.key")? {
                0o600 => Ok(()),
                m => Err(Fault::other(format!("the new client.key has mode {m:o}"))),
            }
        }));
    }
    for (name, line) in table![
        ("k/client.key.partial", keygen);
        ("k/evaluation.keys.partial", keygen);
        ("x.input.partial", "encrypt --key @lev/A/client.key --image @0.png -o x.input");
        ("x.answer.partial", "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer --machine shipped --no-probe");
    ] {
        all.push(case(format!("a link at {name}"), move |t| {
            t.file("victim", b"somebody's")?;
            t.folder("k")?;
            symlink(t.path("victim"), t.path(name)).map_err(own)?;
            t.polyveil(line)?.either().map(drop)
        }));
    }
    all.push(case("a link at client.key", move |t| {
        t.file("victim", b"somebody's")?;
        t.folder("k")?;
        symlink(t.path("victim"), t.path("k/client.key")).map_err(own)?;
        t.polyveil(&format!("{keygen} --replace"))?.either()?;
        t.kept()
    }));
    all
}

fn pipes(_: &Lab) -> Vec<Case> {
    let decrypt = "decrypt --key @lev/A/client.key --json";
    let piped = |name: &'static str, file: &'static str, line: &'static str, how: &'static str| {
        case(format!("{name} {how}"), move |t| {
            let from = t.path(file).display().to_string();
            let (before, named) = match how {
                "-" => (format!("cat {from} |"), "-"),
                "/dev/stdin" => (format!("cat {from} |"), "/dev/stdin"),
                "redirected" => (format!("exec <{from};"), "-"),
                _ => {
                    fifo(t, "fifo")?;
                    (format!("cat {from} >fifo &"), "fifo")
                }
            };
            let start = Start::behind(&before);
            let running = t.start(&line.replace("IN", named), &[], &start)?;
            let done = running.end_within(std::time::Duration::from_secs(30))?;
            // keys are read more than once: of them `-` is no usage
            if named == "-" && done.code == Some(2) && done.stderr.contains("takes no `-`") {
                return Ok(());
            }
            done.either().map(drop)
        })
    };
    let mut all = Vec::new();
    for how in ["-", "/dev/stdin", "redirected", "fifo"] {
        all.push(piped(
            "answer",
            "@lev/A/x.answer",
            "decrypt --key @lev/A/client.key IN",
            how,
        ));
        all.push(piped("input", "@lev/A/x.input", "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input IN -o x.answer --machine shipped --no-probe", how));
        all.push(piped("plan", "@lev/net.plan", "run --plan IN --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer --machine shipped --no-probe", how));
        all.push(piped("keys", "@lev/A/evaluation.keys", "run --plan @lev/net.plan --keys IN --input @lev/A/x.input -o x.answer --machine shipped --no-probe", how));
        all.push(piped("keys on disk", "@lev/A/evaluation.keys", "run --plan @lev/net.plan --keys IN --input @lev/A/x.input -o x.answer --machine shipped --no-probe --keys-on-disk", how));
        all.push(piped(
            "picture",
            "@0.png",
            "encrypt --key @lev/A/client.key --image IN -o x.input",
            how,
        ));
        all.push(piped("any", "@lev/A/x.answer", "inspect IN", how));
    }
    all.push(case("a whole pipe", move |t| {
        // encrypt | run | decrypt, as far as `-` is known; what comes out is right or refused
        let lab = t.lab;
        let p = lab.polyveil.display();
        let r = lab.root.display();
        let before = format!(
            "{p} encrypt --key {r}/lev/A/client.key --image {r}/0.png -o - 2>/dev/null | {p} run --plan {r}/lev/net.plan --keys {r}/lev/A/evaluation.keys --input - -o - 2>/dev/null |"
        );
        let start = Start::behind(&before);
        let done = t.within(&format!("{decrypt} -"), &start)?.ok()?;
        let pixels = t.pixels(0);
        lab.net("lev").compare(&done.json()?, &pixels)?;
        t.leftovers(".", &[])
    }));
    all
}

fn huge_inputs(_: &Lab) -> Vec<Case> {
    let readers = [
        "run --plan FILE --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer --machine shipped --no-probe",
        "run --plan @lev/net.plan --keys FILE --input @lev/A/x.input -o x.answer --machine shipped --no-probe",
        "run --plan @lev/net.plan --keys FILE --input @lev/A/x.input -o x.answer --machine shipped --no-probe --keys-on-disk",
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input FILE -o x.answer --machine shipped --no-probe",
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer --machine shipped --no-probe --resume --checkpoint FILE",
        "decrypt --key @lev/A/client.key FILE",
        "decrypt --key FILE --client @lev/net.client @lev/A/x.answer",
        "decrypt --key @lev/A/client.key --client FILE @lev/A/x.answer",
        "encrypt --key @lev/A/client.key --image FILE -o x.input",
        "encrypt --key @lev/A/client.key --data FILE --index 0 -o x.input",
        "keygen FILE -o k --insecure-toy",
        "inspect FILE",
        "compile FILE -o x.plan --machine shipped --no-probe",
        "calibrate FILE --data @pictures.npz -o x.pvm",
        "calibrate @lev/trained.pvm --data FILE -o x.pvm",
        "train --config FILE -o run",
    ];
    let mut all = Vec::new();
    for line in readers {
        for file in [
            "huge",
            "headed",
            "/dev/zero",
            "/dev/full",
            "/dev/null",
            "folder",
        ] {
            all.push(case(format!("{file}: {line}"), move |t| {
                t.folder("folder")?;
                for name in ["huge", "headed"] {
                    let mut head = vec![0; 8];
                    if name == "headed" {
                        head = t.bytes("@lev/A/x.input")?;
                    }
                    t.scratch(name, &head)?;
                    let made = fs::OpenOptions::new().write(true).open(t.path(name));
                    made.and_then(|f| f.set_len(1 << 40)).map_err(own)?;
                }
                let start = Start::behind("ulimit -v 6000000; exec");
                let running = t.start(&line.replace("FILE", file), &[], &start)?;
                let done = running.end_within(std::time::Duration::from_secs(30))?;
                done.refused(&[])?;
                t.leftovers(".", &["folder", "huge", "headed"])
            }));
        }
    }
    all
}

fn odd_names(_: &Lab) -> Vec<Case> {
    let long = "n".repeat(246);
    let longer = "n".repeat(250);
    let names: Vec<Vec<u8>> = vec![
        b"with spaces".to_vec(),
        "\u{1f512} \u{e9}\u{4e2d}".as_bytes().to_vec(),
        b"\xff\xfe\x80".to_vec(),
        b"line\nfeed".to_vec(),
        b"\x1b[31mred\x1b[0m".to_vec(),
        b"\x1b]0;title\x07".to_vec(),
        b"-dash".to_vec(),
        b"'quotes\"$HOME`x`".to_vec(),
        b"tab\tand\rreturn".to_vec(),
        long.into_bytes(),
        longer.into_bytes(),
        b"%s%n{}{0}".to_vec(),
    ];
    let mut all = Vec::new();
    for (i, name) in names.iter().enumerate() {
        for what in ["written", "read", "missing", "foreign", "folder"] {
            let name = name.clone();
            all.push(case(format!("{i} {what}"), move |t| {
                let path = t.folder.join(raw(&name));
                let words = |t: &Try<'_>, line: &str| -> Vec<std::ffi::OsString> {
                    (line.split_whitespace())
                        .map(|w| match w {
                            "ODD" => path.clone().into_os_string(),
                            "ODD/x" => path.join("x").into_os_string(),
                            w if w.starts_with('@') => t.path(w).into_os_string(),
                            w => w.into(),
                        })
                        .collect()
                };
                let program = t.lab.polyveil.clone();
                let go = |t: &mut Try<'_>, line: &str| {
                    let all = words(t, line);
                    t.spawn(&program, &all, &Start::default())?.end()
                };
                match what {
                    "foreign" => drop(fs::write(&path, b"not ours").map_err(own)?),
                    "read" => drop(fs::copy(t.path("@lev/A/x.answer"), &path).map_err(own)?),
                    "folder" => fs::create_dir(&path).map_err(own)?,
                    _ => {}
                }
                let line = match what {
                    "written" => "encrypt --key @lev/A/client.key --image @0.png -o ODD",
                    "folder" => "encrypt --key @lev/A/client.key --image @0.png -o ODD/x",
                    _ => "decrypt --key @lev/A/client.key ODD",
                };
                let done = go(t, line)?;
                let said = done.stderr.clone() + &done.stdout;
                // progress draws its line with escape codes, but only on a terminal
                if said.contains('\x1b') || said.contains('\x07') {
                    return Err(Fault::other(
                        "control characters of a name are printed as they are",
                    ));
                }
                match what {
                    "missing" | "foreign" => done.refused(&[]).map(drop),
                    // a name that leaves no room for a suffix may be refused
                    _ if name.len() > 240 => done.either().map(drop),
                    _ => done.ok().map(drop),
                }
            }));
        }
    }
    all.extend(repeat(4, |t| {
        let text = format!("name{}\u{1b}[2J", t.random.below(1000));
        let line = "calibrate @lev/trained.pvm --data @pictures.npz --degree 4 -o x.pvm";
        t.with(line, &["--labels", &format!("{text},b,c")])?
            .either()?;
        if !t.exists("x.pvm") {
            return Ok(());
        }
        let done = t.polyveil("inspect x.pvm")?;
        match done.stdout.contains('\x1b') {
            true => Err(Fault::other(
                "control characters of a label are printed as they are",
            )),
            false => Ok(()),
        }
    }));
    all
}
