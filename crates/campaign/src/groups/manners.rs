//! Command lines, signals, instruction sets, closed outputs, help, JSON.

use super::kills::{EVALUATE, evaluated};
use crate::attempt::Start;
use crate::case::{Case, case, has, run_line};
use crate::fault::{Fault, Kind};
use crate::lab::Lab;
use std::time::Duration;

groups! {
    beside "backends" 4 backends "the same bits with every instruction set and number of threads";
    beside "signals" 4 signals "signals during `run`: it ends at once, the checkpoint stays, resumed it gives the same bits";
    beside "command-lines" 60 command_lines "unknown, missing and absurd words, options and values: refused with a message, 1 or 2";
    beside "closed-output" 10 closed_output "stdout or stderr closed, full, or with a reader that goes: no panic, no work lost";
    beside "help" 12 help "help of every command, on any terminal";
    beside "json" 4 json "`--json`: JSON alone on stdout";
    beside "evaluate-bindings" 4 evaluate_bindings "results of another model, data, plan: refused";
    beside "version" 7 version "version with commit, completions; on a terminal (needs `script`) codes, and none under NO_COLOR or TERM=dumb";
}

fn backends(_: &Lab) -> Vec<Case> {
    let work: [(&str, &str, &str); 5] = table![
        ("answer", "run --plan @deep/net.plan --keys @deep/A/evaluation.keys --input @deep/A/x.input -o OUT --machine shipped --no-probe", "@deep/A/x.answer");
        ("answer, keys on disk", "run --plan @boot/net.plan --keys @boot/A/evaluation.keys --input @boot/A/x.input -o OUT --machine shipped --no-probe --keys-on-disk", "@boot/A/x.answer");
        ("plan", "compile @lev/net.pvm -o OUT --machine shipped --no-probe", "");
        ("pvm", "calibrate @lev/trained.pvm --data @pictures.npz --degree 4 -o OUT", "");
        ("training", "train --config run.toml -o OUT", "");
    ];
    let mut all = Vec::new();
    for (name, line, right) in work {
        for backend in ["ifma", "avx2", "portable"] {
            for threads in [1, 2] {
                all.push(case(format!("{name} {backend} {threads}"), move |t| {
                    super::kills::training(t, false)?;
                    let out = |folder: &str| match name {
                        "training" => format!("{folder}/run"),
                        _ => format!("{folder}/x"),
                    };
                    for folder in ["a", "b"] {
                        t.folder(folder)?;
                    }
                    let environment = [("POLYVEIL_BACKEND", backend)];
                    let start = Start::with(&environment);
                    let words = format!("{} --threads {threads}", line.replace("OUT", &out("a")));
                    t.within(&words, &start)?.ok()?;
                    let file = if name == "training" {
                        "run/network.pvm"
                    } else {
                        "x"
                    };
                    if right.is_empty() {
                        t.polyveil(&line.replace("OUT", &out("b")))?.ok()?;
                        return t.same(&format!("a/{file}"), &format!("b/{file}"));
                    }
                    t.same("a/x", right)
                }));
            }
        }
    }
    all
}

fn signals(_: &Lab) -> Vec<Case> {
    let names = ["INT", "TERM", "HUP", "QUIT", "USR1", "PIPE", "ALRM", "USR2"];
    let mut all = Vec::new();
    for n in 0..4 {
        for name in names {
            all.push(case(format!("{name} {n}"), move |t| {
                let line = run_line("deep", "A", "x.answer");
                let mut running = t.start(&line, &[], &Start::default())?;
                let wait = t.lab.net("deep").run.mul_f64(0.9 * t.random.uniform());
                std::thread::sleep(wait);
                let sent = running.elapsed();
                running.signal(name)?;
                let done = running.end()?;
                // PIPE is ignored by programs that see it as an error of writing
                let ended = done.code != Some(0);
                let prompt = !ended || done.wall <= sent + Duration::from_secs(5);
                Kind::Other.unless(prompt, "it takes more than 5 s to stop")?;
                if done.code == Some(0) {
                    return t.same("x.answer", "@deep/A/x.answer");
                }
                let resume = t.exists("x.answer.checkpoint");
                let said = !resume || name != "INT" || done.stderr.contains("--resume");
                Kind::Other.unless(said, "it does not say how to go on")?;
                let resume = if resume { "--resume" } else { "" };
                t.polyveil(&format!("{line} {resume}"))?.ok()?;
                t.same("x.answer", "@deep/A/x.answer")
            }));
        }
    }
    all
}

const COMMANDS: [(&str, &[&str]); 16] = table![
    ("demo", &["--image", "--model"]);
    ("evaluate", &["--model", "--data", "--split", "--prompts", "--sentences", "--lambada", "--piqa", "--labels", "--count", "--skip", "--plan", "--batch", "--max-memory", "--output"]);
    ("calibrate", &["--data", "--text", "--tokens", "--length", "--tokenizer", "--first", "--power", "--epsilon", "--bits", "--leave-out", "--degree", "--margin", "--limit", "--activation", "--output"]);
    ("compile", &["--output", "--max-memory", "--batch", "--machine", "--prediction"]);
    ("estimate", &["--length", "--batch", "--power", "--bits", "--degree", "--max-memory", "--machine"]);
    ("keygen", &["--output"]);
    ("encrypt", &["--key", "--client", "--image", "--data", "--index", "--split", "--class-column", "--output"]);
    ("run", &["--plan", "--keys", "--input", "--output", "--checkpoint", "--key", "--report", "--max-memory", "--machine", "--prediction"]);
    ("decrypt", &["--key", "--client", "--text", "--count", "--releases", "--security-bits", "--class-bits"]);
    ("inspect", &["--json=x"]);
    ("bench", &["--table"]);
    ("train", &["--config", "--output", "--checkpoint-every", "--max-diverging"]);
    ("adapt", &["--train", "--held-out", "--degree", "--recipe", "--epochs", "--rate", "--seed", "--shift", "--contrast", "--output"]);
    ("search", &["--budget", "--degrees", "--pictures", "--points", "--output"]);
    ("score", &["--data", "--split", "--activation"]);
    ("study", &["--threads"]);
];

/// Values that no option takes, or that lead to a refusal.
const VALUES: [&str; 14] = table![
    ""; "-1"; "0"; "1e999"; "nan"; "99999999999999999999"; "18446744073709551615"; "x"; "-"; "--"; "/no/such/file"; "1,,2"; "\u{1f600}"; "0x10"
];

fn command_lines(_: &Lab) -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    // an absurd value with nothing else: wrong usage, or a refusal
    for (command, options) in COMMANDS {
        for option in options {
            for value in VALUES {
                all.push(case(format!("{command} {option} {value:?}"), move |t| {
                    t.with(command, &[option, value])?.turned_down()?;
                    t.leftovers(".", &[])
                }));
            }
            all.push(case(
                format!("{command} {option} without a value"),
                move |t| t.with(command, &[option])?.turned_down().map(drop),
            ));
        }
        // these two would begin to work for minutes
        let long = ["demo", "bench"].contains(&command);
        let few: &[&str] = if long { &[] } else { &["--threads"] };
        for word in few.iter().copied().chain([
            "--unknown",
            "-z",
            "extra words here",
            "--output",
            "--threads=0",
            "--threads=1025",
            "--threads=x",
        ]) {
            all.push(case(format!("{command} {word}"), move |t| {
                t.with(command, &[word])?.turned_down()?;
                t.leftovers(".", &[])
            }));
        }
    }
    // an absurd value where all the rest is right
    let right = table![
        ("run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer", &["--max-memory", "--machine", "--threads"][..]);
        ("decrypt --key @lev/A/client.key @lev/A/x.answer", &["--count", "--text", "--threads"]);
        ("encrypt --key @lev/A/client.key --data @pictures.npz --split test -o x.input", &["--index", "--class-column", "--threads"]);
        ("compile @lev/net.pvm -o x.plan", &["--max-memory", "--batch", "--machine"]);
        ("calibrate @lev/trained.pvm --data @pictures.npz -o x.pvm", &["--degree", "--margin", "--limit", "--activation", "--bits"]);
        ("evaluate --model @lev/net.pvm --data @pictures.npz --split test --plan @lev/net.plan -o r.jsonl", &["--count", "--skip", "--max-memory"]);
        ("estimate", &["--length", "--batch", "--bits", "--degree", "--power"]);
    ];
    for (line, options) in right {
        for option in options {
            for value in VALUES {
                all.push(case(format!("{line:.20} {option} {value:?}"), move |t| {
                    let done = t.with(line, &[option, value])?;
                    match done.code {
                        Some(0) => Ok(()),
                        _ => done.turned_down().map(drop),
                    }
                }));
            }
        }
    }
    let lines = [
        "",
        "nothing",
        "help nothing",
        "run run",
        "decrypt",
        "inspect",
        "inspect a b",
        "inspect missing",
        "compile",
        "compile missing -o x",
        "keygen missing -o k",
        "keygen @lev/net.client -o k",
        "keygen @lev/net.plan -o k --insecure-toy",
        "encrypt --key @lev/A/client.key -o x",
        "run --plan @lev/net.plan --input @lev/A/x.input -o x",
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x --check",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --class-only",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --share",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --count 2",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --text a",
        "evaluate --model @lev/net.pvm -o r",
        "evaluate --model @lev/net.pvm --data missing -o r",
        "evaluate --model @lev/trained.pvm --data @pictures.npz -o r",
        "evaluate --model @lev/net.pvm --data @pictures.npz --split test --plan @lev/net.plan --count 3 --skip 1000 -o r",
        "compile @lev/trained.pvm -o x",
        "compile @lev/net.pvm -o x.client",
        "compile @lev/net.pvm -o x --max-memory 1MB",
        "compile @lev/net.pvm -o x --batch 3",
        "compile @lev/net.pvm -o x --batch 1048576",
        "estimate nobody",
        "estimate @0.png",
        "bench --table missing",
        "bench --table @0.png",
        "search",
        "score",
        "study",
        "study nothing",
        "train --config missing -o r",
        "train --config @0.png -o r",
        "adapt missing --train @pictures.npz -o r",
        "score @lev/net.pvm --data missing",
        "demo --model @0.png",
        "demo --image missing",
        "calibrate @lev/trained.pvm --data @pictures.npz --labels a,a,b -o x.pvm",
        "calibrate @lev/trained.pvm --data @pictures.npz --activation nothing -o x.pvm",
    ];
    all.extend(lines.map(|line| {
        case(format!("line {line:?}"), move |t| {
            let done = t.polyveil(line)?;
            // an activation that is not asked for may be taken
            match line.contains("--activation nothing") {
                true => done.either().map(drop),
                false => done.turned_down().map(drop),
            }
        })
    }));
    for backend in ["", "avx512", "PORTABLE", "none", "ifma "] {
        all.push(case(format!("POLYVEIL_BACKEND={backend:?}"), move |t| {
            let environment = [("POLYVEIL_BACKEND", backend)];
            let start = Start::with(&environment);
            t.within("inspect @lev/net.plan", &start)?
                .turned_down()
                .map(drop)
        }));
    }
    all
}

fn closed_output(_: &Lab) -> Vec<Case> {
    let run =
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer";
    let commands: [(&str, &str); 9] = table![
        ("inspect @lev/net.plan", "");
        ("inspect @lev/net.plan --json", "");
        ("decrypt --key @lev/A/client.key @lev/A/x.answer", "");
        ("decrypt --key @lev/A/client.key @lev/A/x.answer --json", "");
        ("estimate stories260k --length 16", "");
        ("compile @lev/net.pvm -o x.plan --json", "x.plan");
        (run, "x.answer");
        ("calibrate @lev/trained.pvm --data @pictures.npz --degree 4 -o x.pvm", "x.pvm");
        ("train --config run.toml -o run", "run/network.pvm");
    ];
    // into a device that is full, a reader that takes a line or nothing, no descriptor at all
    let ways = table![
        ("stdout full", "exec", ">/dev/full");
        ("stderr full", "exec", "2>/dev/full");
        ("both full", "exec", ">/dev/full 2>&1");
        ("stdout to head", "", "| head -c 1 >/dev/null");
        ("stderr to head", "", "2>&1 >/dev/null | head -c 1 >/dev/null");
        ("both to nobody", "", "2>&1 | true");
        ("stdout closed", "exec", ">&-");
        ("stderr closed", "exec", "2>&-");
        ("all closed", "exec", "<&- >&- 2>&-");
    ];
    let mut all = Vec::new();
    for (line, file) in commands {
        for (name, before, after) in ways {
            all.push(case(format!("{name}: {line:.30}"), move |t| {
                super::kills::training(t, false)?;
                // the shell keeps what the program ended with, and what it said
                let before = match before {
                    "" => "{ ".to_string(),
                    _ => "( exec".to_string(),
                };
                let after = match after.starts_with('|') || after.contains("| ") {
                    true => format!("; echo $? >code; }} {after}"),
                    false => format!("{after} ); echo $? >code"),
                };
                let start = Start {
                    before: &before,
                    after: &after,
                    ..Start::default()
                };
                t.within(line, &start)?;
                let code = String::from_utf8_lossy(&t.bytes("code")?)
                    .trim()
                    .to_string();
                match code.as_str() {
                    "101" => return Err(Fault::new(Kind::Panic, format!("{name}: exit 101"))),
                    "0" | "1" | "141" => {}
                    other => return Err(Fault::new(Kind::Abort, format!("{name}: exit {other}"))),
                }
                Kind::Lost.unless(
                    file.is_empty() || t.exists(file),
                    format!("{name}: {file} was not written, exit {code}"),
                )
            }));
        }
    }
    all
}

fn help(_: &Lab) -> Vec<Case> {
    let names = table![
        ""; "demo"; "evaluate"; "calibrate"; "compile"; "estimate"; "keygen"; "encrypt"; "run"; "decrypt"; "inspect"; "bench"; "train"; "adapt"; "search"; "score"; "study"
    ];
    let mut all = Vec::new();
    for name in names {
        for how in ["--help", "-h", "help"] {
            all.push(case(format!("{name} {how}"), move |t| {
                let siblings = ["train", "adapt", "search", "score", "study"];
                let line = match how {
                    "help" if siblings.contains(&name) => return Ok(()),
                    "help" => format!("help {name}"),
                    _ => format!("{name} {how}"),
                };
                let start = Start {
                    bare: true,
                    ..Start::default()
                };
                let done = t.within(&line, &start)?.ok()?;
                Kind::Other.unless(done.stdout.contains("Usage"), "no usage")
            }));
        }
    }
    for (name, after) in [
        ("head", "| head -c 10"),
        ("closed", ">&-"),
        ("full", ">/dev/full"),
    ] {
        for command in ["", "run", "train", "help"] {
            all.push(case(format!("{command} --help, {name}"), move |t| {
                let before = if after.starts_with('|') { "" } else { "exec" };
                let start = Start {
                    before,
                    after,
                    bare: true,
                    ..Start::default()
                };
                t.within(&format!("{command} --help"), &start).map(drop)
            }));
        }
    }
    all
}

fn json(_: &Lab) -> Vec<Case> {
    let lines = [
        "inspect @lev/net.plan --json",
        "inspect @lev/net.client --json",
        "inspect @lev/net.pvm --json",
        "inspect @lev/A/client.key --json",
        "inspect @lev/A/evaluation.keys --json",
        "inspect @lev/A/x.input --json",
        "inspect @lev/A/x.answer --json",
        "inspect @deep/A/mid.checkpoint --json",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --json",
        "decrypt --key @id/A/client.key @id/A/x.answer --json",
        "run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o x.answer --json",
        "compile @lev/net.pvm -o x.plan --json",
        "estimate stories260k --length 16 --json",
        "score @lev/net.pvm --data @pictures.npz --split test --json",
    ];
    lines
        .map(|line| {
            case(line, move |t| {
                let done = t.polyveil(line)?.ok()?;
                match line.starts_with("estimate") {
                    // an object for each row
                    true => (done.stdout.lines()).try_for_each(|l| {
                        let json = serde_json::from_str::<serde_json::Value>(l);
                        json.map(drop)
                            .map_err(|e| Fault::other(format!("no JSON: {e}")))
                    }),
                    false => done.json().map(drop),
                }
            })
        })
        .into()
}

fn evaluate_bindings(_: &Lab) -> Vec<Case> {
    let line = |count: &str| format!("{EVALUATE} --count {count} -o r.jsonl");
    // beside results of the laboratory's, by what is another in the line
    let others = table![
        ("another model", "lev/", "other/", "2");
        ("another plan", "lev/net.plan", "other/net.plan", "4");
        ("another split", "split test", "split train", "2");
        ("missing data", "@pictures.npz", "missing.npz", "2");
    ];
    let other =
        move |(name, from, to, count): (&'static str, &'static str, &'static str, &'static str)| {
            case(name, move |t| {
                t.polyveil(&line("2"))?.ok()?;
                t.guard("r.jsonl")?;
                let line = line(count).replace(from, to);
                t.polyveil(&line)?.refused(&[]).map(drop)
            })
        };
    let mut all: Vec<Case> = others.map(other).into();
    for (name, plan) in [("network", "other/net.plan"), ("shape", "id/net.plan")] {
        all.push(case(format!("a plan of another {name}"), move |t| {
            let line = line("2").replace("lev/net.plan", plan);
            t.polyveil(&line)?.refused(&["plan"])?;
            t.leftovers(".", &[])
        }));
    }
    for bytes in [&b"\xff\xfe\x00\x80\n"[..], b"Dear Alice,\n"] {
        all.push(case("results that are something else", move |t| {
            t.file("r.jsonl", bytes)?;
            let done = t.polyveil(&line("2"))?;
            done.refused(&["r.jsonl"]).map(drop)
        }));
    }
    all.push(case("nothing to do", move |t| {
        t.polyveil(&line("0"))?.either().map(drop)
    }));
    all.push(case("beyond the end", move |t| {
        t.polyveil(&line("2 --skip 80"))?.turned_down().map(drop)
    }));
    // all that are left, and the same again
    for (count, times, range) in [
        ("18446744073709551615 --skip 70", 1, 70..80),
        ("3", 2, 0..3),
    ] {
        all.push(case(format!("{count}, {times} times"), move |t| {
            for _ in 0..times {
                t.polyveil(&line(count))?.ok()?;
            }
            let right = evaluated(t, "r.jsonl")? == range.clone().collect::<Vec<_>>();
            Kind::Other.unless(right, "other pictures, or some of them twice")
        }));
    }
    all
}

fn version(_: &Lab) -> Vec<Case> {
    let word = |name: &'static str, line: &'static str, has: fn(&str) -> bool| {
        case(name, move |t| {
            let start = Start {
                bare: true,
                ..Start::default()
            };
            let done = t.within(line, &start)?.ok()?;
            Kind::Other.unless(
                has(&done.stdout),
                format!("it says {:?}", done.stdout.trim()),
            )
        })
    };
    let hexadecimal = |s: &str| {
        s.split(|c: char| !c.is_ascii_hexdigit())
            .any(|w| w.len() >= 7)
    };
    let mut all = vec![word("version with commit", "--version", hexadecimal)];
    let shells = ["completions bash", "completions zsh", "completions fish"];
    all.extend(shells.map(|line| word(line, line, |s| s.contains("polyveil"))));
    // on a terminal, which knows codes where nothing is said against it
    for (environment, codes) in [
        (("TERM", "xterm"), true),
        (("NO_COLOR", "1"), false),
        (("TERM", "dumb"), false),
    ] {
        all.push(case(format!("{environment:?}"), move |t| {
            Kind::Skipped.unless(has("script"), "no script here, which makes a terminal")?;
            let client = t.path("@lev/net.client");
            let line = format!(
                "{} keygen {} -o k --insecure-toy",
                t.lab.polyveil.display(),
                client.display()
            );
            let words = ["-qec", &line, "/dev/null"].map(std::ffi::OsString::from);
            let pairs = [("TERM", "xterm"), ("NO_COLOR", ""), environment];
            let start = Start::with(&pairs);
            let done = t.spawn("script".as_ref(), &words, &start)?.end()?.ok()?;
            let right = done.stdout.contains('\u{1b}') == codes;
            Kind::Other.unless(right, "escape codes, or none where there should be some")
        }));
    }
    all
}
