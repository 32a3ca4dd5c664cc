//! Programs killed at any moment, and what is there afterwards.

use crate::attempt::{AT_MOST, Running, Start, Try};
use crate::case::{Case, case, checkpoint, has, repeat, run_line, server_line};
use crate::fault::{Fault, Kind, Verdict};
use crate::lab::{EMBEDDED, Lab, STANDARD};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

groups! {
    beside "kill-run" 6 kill_run "`run` with 2 bootstraps killed up to 3 times, then resumed: the same answer";
    beside "kill-run-threads" 2 kill_run_threads "the same, threads and instructions drawn anew at every resume";
    alone "kill-standard" 0 kill_standard "the same with keys that protect, by instructions that are fast: a network of the laboratory's, and the demonstration's";
    alone "kill-resnet18" 0 kill_resnet18 "a ResNet-18's shape at 224 px, weights beside its plan, killed ten times: the same answer, within the memory that was predicted";
    beside "resume-elsewhere" 2 resume_elsewhere "one checkpoint, resumed with other threads, instructions, keys on disk: the same answer";
    beside "resume-wrong" 12 resume_wrong "a checkpoint that does not belong: refused";
    beside "kill-keygen" 8 kill_keygen "`keygen` killed, then again";
    beside "kill-replace" 4 kill_replace "`keygen --replace` killed at any rename: one pair, old or new";
    beside "kill-encrypt" 3 kill_encrypt "`encrypt` killed, then again";
    beside "kill-compile" 1 kill_compile "`compile` killed, then again: the same plan";
    beside "kill-calibrate" 1 kill_calibrate "`calibrate` killed, then again: the same network";
    beside "kill-decrypt" 3 kill_decrypt "`decrypt` killed, then again";
    beside "kill-share" 4 kill_share "`decrypt --share` killed: nothing is printed that was not counted";
    beside "kill-train" 0 kill_train "`train` and `adapt` killed many times: the same network";
    beside "kill-evaluate" 1 kill_evaluate "`evaluate` killed, results cut: it goes on, each picture once";
    beside "on-disk" 1 on_disk "what is not to be lost is on disk itself before it gets its name, and its folder after that; `keygen --replace` too (needs strace)";
    beside "train-checkpoint" 4 train_checkpoint "a changed configuration, bits of a training checkpoint: refused";
}

/// Somewhere in what it takes, or a little after.
fn moment(t: &mut Try<'_>, whole: Duration) -> Duration {
    whole.mul_f64(1.1 * t.random.uniform())
}

fn killed_run(t: &mut Try<'_>, net: &str, backends: usize) -> Verdict {
    let whole = t.lab.net(net).run;
    let line = run_line(net, "A", "x.answer");
    let kills = resumed(t, &line, (Duration::ZERO, whole), (3, backends))?;
    t.same("x.answer", &format!("@{net}/A/x.answer"))?;
    if kills == 0 {
        t.leftovers(".", &["x.answer"])?;
    }
    Ok(())
}

/// Kills what writes x.answer up to `most` times, somewhere in what it takes `from` a moment on, and resumes it, each time with threads and one of the
/// first instruction sets drawn anew where there are any; how often it was killed.
fn resumed(
    t: &mut Try<'_>,
    line: &str,
    (from, whole): (Duration, Duration),
    (most, backends): (usize, usize),
) -> Verdict<usize> {
    let mut kills = 0;
    loop {
        let threads = match backends > 0 {
            true => format!(" --threads {}", 1 + t.random.below(2)),
            false => String::new(),
        };
        let backend = ["ifma", "avx2", "portable"][t.random.below(backends)];
        let environment = [("POLYVEIL_BACKEND", backend)];
        let resume = if t.exists("x.answer.checkpoint") {
            " --resume"
        } else {
            ""
        };
        let start = Start::with(if backends > 0 { &environment } else { &[] });
        let running = t.start(&format!("{line}{resume}{threads}"), &[], &start)?;
        if kills == most {
            running.end_within(AT_MOST)?.ok()?;
            break;
        }
        let after = from + moment(t, whole);
        match running.kill_after(after)? {
            Some(done) => {
                done.ok()?;
                break;
            }
            None => kills += 1,
        }
        if t.exists("x.answer") {
            // killed between its answer and its end: the answer is whole
            break;
        }
    }
    Ok(kills)
}

fn kill_standard(lab: &Lab) -> Vec<Case> {
    let nets = [STANDARD, STANDARD, STANDARD, STANDARD, EMBEDDED, EMBEDDED];
    let each = |net: &'static str| {
        let made = lab.full_size(net).map(drop);
        case(net, move |t| {
            made.clone().and_then(|()| killed_run(t, net, 2))
        })
    };
    nets.map(each).into()
}

/// Ten kills of a network that takes minutes and 4 GB, each time in what is left of it; threads are drawn anew at every resume.
fn kill_resnet18(_: &Lab) -> Vec<Case> {
    repeat(1, |t| {
        t.polyveil("estimate resnet18 --size 224 --pictures 4 --save bare.pvm --machine shipped")?
            .ok()?;
        let named = crate::make::for_pictures(&t.bytes("bare.pvm")?, 224)?;
        t.file("net.pvm", &named)?;
        // grey noise, well within what the network was calibrated on
        let pixels: Vec<u8> = (0..3 * 224 * 224)
            .map(|_| 100 + t.random.below(30) as u8)
            .collect();
        t.file("x.png", &crate::foreign::png(224, 224, &pixels))?;
        for line in [
            "compile net.pvm -o net.plan --layers coefficients --machine shipped --no-probe",
            "keygen net.client -o k",
            "encrypt --key k/client.key --image x.png -o x.input",
        ] {
            t.polyveil(line)?.ok()?;
        }
        Kind::Other.unless(t.exists("net.weights"), "no weights beside the plan")?;
        let line = "run --plan net.plan --keys k/evaluation.keys --input x.input --no-probe --machine shipped";
        let whole = format!("{line} -o whole.answer --threads 2 --json");
        let running = t.start(&whole, &[], &Start::default())?;
        let done = running.end_within(AT_MOST)?.ok()?;
        let report = done.json()?;
        let bytes = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        let (peak, predicted) = (bytes("peak_bytes"), bytes("predicted_peak_bytes"));
        let text = format!("a peak of {peak:e} bytes, {predicted:e} were predicted");
        Kind::Other.unless(peak <= predicted, text)?;
        // it reads its keys first, again in less time than at first; ten kills leave something to do, on a machine that others use less by then, too
        let steps = Duration::from_secs_f64(report["seconds"].as_f64().unwrap_or(0.0));
        let moments = (done.wall.saturating_sub(steps) / 2, steps / 10);
        let kills = resumed(t, &format!("{line} -o x.answer"), moments, (10, 1))?;
        let text = format!("it ended after {kills} kills");
        Kind::Other.unless(kills == 10, text)?;
        t.same("x.answer", "whole.answer")
    })
}

fn kill_run(_: &Lab) -> Vec<Case> {
    repeat(80, |t| killed_run(t, "deep", 0))
}

fn kill_run_threads(_: &Lab) -> Vec<Case> {
    repeat(12, |t| killed_run(t, "deep", 3))
}

fn resume_elsewhere(_: &Lab) -> Vec<Case> {
    let ways = [
        ("--threads 2", "ifma"),
        ("--threads 1", "avx2"),
        ("--threads 1", "portable"),
        ("--threads 1", "ifma"),
        ("--keys-on-disk --threads 1", "ifma"),
        ("--keys-on-disk --threads 2", "portable"),
        ("--threads 2", "portable"),
        ("--max-memory 4GB --threads 2", "avx2"),
    ];
    let each = |(words, backend): (&'static str, &'static str)| {
        case(format!("{words} {backend}"), move |t| {
            checkpoint(t)?;
            let line = format!("{} --resume {words}", run_line("deep", "A", "x.answer"));
            let environment = [("POLYVEIL_BACKEND", backend)];
            let start = Start::with(&environment);
            t.within(&line, &start)?.ok()?;
            t.same("x.answer", "@deep/A/x.answer")?;
            t.leftovers(".", &["x.answer"])
        })
    };
    ways.into_iter().map(each).collect()
}

fn resume_wrong(_: &Lab) -> Vec<Case> {
    // what is named, and a word that its refusal must have
    let wrong = table![
        ("another input", "--plan @deep/net.plan --keys @deep/A/evaluation.keys --input other.input");
        ("another plan", "--plan @boot/net.plan --keys @boot/A/evaluation.keys --input @boot/A/x.input");
        ("other parameters", "--plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input");
        ("another client", "--plan @deep/net.plan --keys @deep/B/evaluation.keys --input @deep/B/x.input");
        ("another client's keys", "--plan @deep/net.plan --keys @deep/B/evaluation.keys --input @deep/A/x.input");
        ("another client's input", "--plan @deep/net.plan --keys @deep/A/evaluation.keys --input @deep/B/x.input");
    ];
    let mut all: Vec<Case> = (wrong.into_iter())
        .map(|(name, words)| {
            case(name, move |t| {
                checkpoint(t)?;
                let encrypt = "encrypt --key @deep/A/client.key --image @2.png -o other.input";
                t.polyveil(encrypt)?.ok()?;
                t.guard("x.answer.checkpoint")?;
                let line = format!("run {words} -o x.answer --resume --no-probe --machine shipped");
                t.polyveil(&line)?.refused(&[])?;
                t.leftovers(".", &["other.input", "x.answer.checkpoint"])
            })
        })
        .collect();
    let files = [
        ("an answer", "@deep/A/x.answer"),
        ("an input", "@deep/A/x.input"),
        ("keys", "@lev/A/evaluation.keys"),
        ("a plan", "@deep/net.plan"),
        ("a picture", "@0.png"),
    ];
    all.extend(files.map(|(name, file)| {
        case(format!("{name} as checkpoint"), move |t| {
            t.copy(file, "x.answer.checkpoint")?;
            let line = format!("{} --resume", run_line("deep", "A", "x.answer"));
            t.polyveil(&line)?.refused(&["checkpoint"])?;
            t.leftovers(".", &["x.answer.checkpoint"])
        })
    }));
    all.push(case("no checkpoint", |t| {
        let line = format!("{} --resume", run_line("deep", "A", "x.answer"));
        t.polyveil(&line)?
            .refused(&["x.answer.checkpoint", "--resume"])?;
        t.leftovers(".", &[])
    }));
    all
}

/// Whatever a folder of keys holds: nothing, or a pair that works or is refused. Whether it works.
fn pair(t: &mut Try<'_>, net: &str, folder: &str) -> Verdict<bool> {
    if !t.exists(&format!("{folder}/client.key")) {
        return Ok(false);
    }
    let key = format!("{folder}/client.key");
    let line = format!("encrypt --key {key} --image @0.png -o p.input --force");
    let encrypted = t.polyveil(&line)?;
    if encrypted.code != Some(0) {
        encrypted.refused(&[])?;
        return Ok(false);
    }
    let line = format!(
        "run --plan @{net}/net.plan --keys {folder}/evaluation.keys --input p.input -o p.answer --no-probe --machine shipped --force"
    );
    let run = t.polyveil(&line)?;
    if run.code != Some(0) {
        run.refused(&[])?;
        return Ok(false);
    }
    let pixels = t.pixels(0);
    Ok(!t.refused_or_right(net, &key, "p.answer", &pixels)?)
}

const KEYGEN: &str = "keygen @lev/net.client -o k --insecure-toy";

/// The program under `strace` with words of its own.
fn traced(t: &mut Try<'_>, words: &str, line: &str) -> Verdict<Running> {
    Kind::Skipped.unless(has("strace"), "no strace here")?;
    let program = t.lab.polyveil.clone().into_os_string();
    let words = t.words(words).into_iter().chain([program]);
    let words: Vec<_> = words.chain(t.words(line)).collect();
    t.spawn("strace".as_ref(), &words, &Start::default())
}

/// Kills `keygen` at a system call, or else at a moment. A try whose call is never made so often is none; the first rename always is made.
fn kill(t: &mut Try<'_>, line: &str, at: Option<(&str, usize)>) -> Verdict {
    let Some((call, when)) = at else {
        let after = moment(t, Duration::from_millis(40));
        return t
            .start(line, &[], &Start::default())?
            .kill_after(after)
            .map(drop);
    };
    let words = format!("-f -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={when}");
    let mut running = traced(t, &words, line)?;
    running.expected();
    let done = running.end()?;
    match (done.signal, done.code) {
        (Some(9), _) => Ok(()),
        (None, Some(0)) if (call, when) != ("rename", 1) => {
            let text = format!("{call} is never made {when} times");
            Err(Fault::new(Kind::Skipped, text))
        }
        _ => {
            let text = format!("not killed at {call} {when}: {}", done.last());
            Err(Fault::other(text))
        }
    }
}

fn kill_keygen(_: &Lab) -> Vec<Case> {
    let killed = |t: &mut Try<'_>, at: Option<(&str, usize)>| {
        kill(t, KEYGEN, at)?;
        let there = ["client.key", "evaluation.keys"].map(|n| t.exists(&format!("k/{n}")));
        // what the kill left is no reason to fail, but a secret key, alone or not, is replaced by nobody who is not told to
        let again = t.polyveil(KEYGEN)?;
        if there.contains(&true) {
            again.refused(&["replace"])?;
        } else {
            again.ok()?;
        }
        Kind::Lost.unless(pair(t, "lev", "k")?, "the pair of keys does not work")?;
        t.leftovers("k", &["client.key", "evaluation.keys", "network.client"])
    };
    let renames = (1..=5).map(|n| {
        case(format!("rename {n}"), move |t| {
            killed(t, Some(("rename", n)))
        })
    });
    renames
        .chain(repeat(300, move |t| killed(t, None)))
        .collect()
}

/// Kills `keygen --replace` at a system call (where there is strace) or at a moment; the old pair or the new one must work.
fn kill_replace(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    let calls = "rename renameat2 link linkat unlink unlinkat fsync fchmod";
    for call in calls.split(' ') {
        for n in 1..=4 {
            all.push(case(format!("{call} {n}"), move |t| {
                replaced(t, |t, line| kill(t, line, Some((call, n))))
            }));
        }
    }
    all.extend(repeat(60, |t| replaced(t, |t, line| kill(t, line, None))));
    for name in ["client.key", "evaluation.keys"] {
        all.push(case(format!("{name} can't be replaced"), move |t| {
            replaced(t, |t, line| {
                t.folder(&format!("k/{name}.partial"))?;
                t.polyveil(line).map(drop)
            })
        }));
    }
    all
}

fn replaced(t: &mut Try<'_>, cut_short: impl FnOnce(&mut Try<'_>, &str) -> Verdict) -> Verdict {
    t.polyveil(KEYGEN)?.ok()?;
    cut_short(t, &format!("{KEYGEN} --replace"))?;
    if pair(t, "lev", "k")? {
        return Ok(());
    }
    // halves of two pairs were refused: the next keygen, which is not to replace anything, makes either pair whole
    t.polyveil(KEYGEN)?.refused(&["replace"])?;
    Kind::Lost.unless(pair(t, "lev", "k")?, "neither pair of keys works any more")
}

fn kill_encrypt(_: &Lab) -> Vec<Case> {
    repeat(40, |t| {
        let line = "encrypt --key @lev/A/client.key --image @0.png -o x.input";
        let after = moment(t, Duration::from_millis(15));
        t.start(line, &[], &Start::default())?.kill_after(after)?;
        t.polyveil(line)?.ok()?;
        let line = format!("{} --input x.input -o x.answer", server_line("lev", "A"));
        t.polyveil(&line)?.ok()?;
        let pixels = t.pixels(0);
        t.right("lev", "@lev/A/client.key", "x.answer", &pixels)
    })
}

/// A command that writes one file is killed, then run again; the file is that of a run that was not killed, which is made once.
fn written(lab: &Lab, count: usize, line: &'static str, file: &'static str) -> Vec<Case> {
    let folder = format!("tries/whole-{file}");
    let whole = Try::new(lab, lab.root.join(&folder), lab.random(file))
        .and_then(|mut t| t.polyveil(&format!("{line} -o {file}"))?.ok());
    let (whole, right) = (whole.map(|done| done.wall), format!("@{folder}/{file}"));
    repeat(count, move |t| {
        let line = format!("{line} -o {file}");
        let after = moment(t, whole.clone()?);
        t.start(&line, &[], &Start::default())?.kill_after(after)?;
        if t.exists(file) {
            t.same(file, &right)?;
        }
        t.polyveil(&line)?.ok()?;
        t.same(file, &right)
    })
}

fn kill_compile(lab: &Lab) -> Vec<Case> {
    let line = "compile @lev/net.pvm --machine shipped --no-probe";
    written(lab, 30, line, "net.plan")
}

fn kill_calibrate(lab: &Lab) -> Vec<Case> {
    let line = "calibrate @lev/trained.pvm --data @pictures.npz --degree 4";
    written(lab, 20, line, "net.pvm")
}

fn kill_decrypt(_: &Lab) -> Vec<Case> {
    repeat(40, |t| {
        let line = "decrypt --key @lev/A/client.key @lev/A/x.answer --json";
        let after = moment(t, Duration::from_millis(12));
        t.start(line, &[], &Start::default())?.kill_after(after)?;
        let pixels = t.pixels(0);
        t.right("lev", "@lev/A/client.key", "@lev/A/x.answer", &pixels)
    })
}

/// A client's folder of its own, since sharing counts beside the key.
pub(super) fn own_client(t: &mut Try<'_>, net: &str) -> Verdict {
    for name in ["client.key", "network.client"] {
        t.copy(&format!("@{net}/A/{name}"), &format!("c/{name}"))?;
    }
    Ok(())
}

pub(super) const SHARE: &str = "--share --class-only --releases 50";

/// How many answers the record says were shared.
pub(super) fn counted(t: &Try<'_>) -> Verdict<u64> {
    let Ok(bytes) = std::fs::read(t.path("c/releases.json")) else {
        return Ok(0);
    };
    let json: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::new(Kind::Lost, format!("releases.json is damaged: {e}")))?;
    let used = json["used"].as_u64().or_else(|| json["shared"].as_u64());
    used.ok_or_else(|| Fault::other(format!("releases.json does not count: {json}")))
}

fn kill_share(_: &Lab) -> Vec<Case> {
    repeat(200, |t| {
        own_client(t, "lev")?;
        let line = format!("decrypt --key c/client.key @lev/A/x.answer {SHARE}");
        let after = moment(t, Duration::from_millis(15));
        let (_, printed) = t
            .start(&line, &[], &Start::default())?
            .kill_and_read(after)?;
        let printed = u64::from(!printed.trim().is_empty());
        let before = counted(t)?;
        Kind::Other.unless(
            printed <= before,
            "an answer was printed that was not counted",
        )?;
        t.polyveil(&line)?.ok()?;
        Kind::Other.unless(counted(t)? == before + 1, "the count does not go on")
    })
}

/// A configuration and pictures for a training of a second or two.
pub(super) fn training(t: &mut Try<'_>, degree: bool) -> Verdict {
    Kind::Skipped.unless(t.lab.train.exists(), "polyveil-train is not built")?;
    let data = t.path("@pictures.npz");
    let stage = match degree {
        true => {
            "\n[[stage]]\nname = \"degree\"\nepochs = 3.0\ncoefficient_rate = 0.1\nguard = 0.1\nreestimate = true\nsubstitution = { degree = 4, order = { kind = \"blend\", share = 0.5 } }\n"
        }
        false => "",
    };
    let text = format!(
        "batch = 16\nnetwork = {{ kind = \"small\", width = 4, activation = \"silu\" }}\ndata = {{ train = {data:?}, held_out = 20, normalization = \"measured\", augmentation = {{ crop_padding = 1 }} }}\n[[stage]]\nepochs = 4.0\npatience = 2\n{stage}"
    );
    t.file("run.toml", text.as_bytes()).map(drop)
}

fn survives(t: &mut Try<'_>, line: &str, most: usize) -> Verdict {
    let whole = t.polyveil(&format!("{line} -o whole/run"))?.ok()?.wall;
    for _ in 0..most {
        let after = moment(t, whole.mul_f64(0.6));
        let threads = 1 + t.random.below(2);
        let line = format!("{line} -o killed/run --threads {threads}");
        if t.start(&line, &[], &Start::default())?
            .kill_after(after)?
            .is_some()
        {
            break;
        }
    }
    t.polyveil(&format!("{line} -o killed/run"))?.ok()?;
    t.same("killed/run/network.pvm", "whole/run/network.pvm")
}

fn kill_train(_: &Lab) -> Vec<Case> {
    let train = repeat(12, |t| {
        training(t, true)?;
        survives(t, "train --config run.toml --checkpoint-every 0", 10)
    });
    let adapt = repeat(10, |t| {
        let line = "adapt @lev/trained.pvm --train @pictures.npz --held-out 20 --degree 4 --shift 1 --no-flip --epochs 3 --checkpoint-every 0";
        survives(t, line, 8)
    });
    train.into_iter().chain(adapt).collect()
}

pub(super) const EVALUATE: &str = "evaluate --model @lev/net.pvm --plan @lev/net.plan --data @pictures.npz --split test --machine shipped --no-probe";

/// The numbers of the pictures in a results file.
pub(super) fn evaluated(t: &Try<'_>, file: &str) -> Verdict<Vec<u64>> {
    let text = String::from_utf8_lossy(&t.bytes(file)?).into_owned();
    let mut all = Vec::new();
    for line in text.lines() {
        // a line that a kill cut short stays, and its picture has another
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
            all.extend(json["index"].as_u64());
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn kill_evaluate(_: &Lab) -> Vec<Case> {
    let kills = repeat(10, |t| {
        let line = format!("{EVALUATE} --count 12 -o r.jsonl");
        for _ in 0..8 {
            let after = Duration::from_secs_f64(0.02 + 0.5 * t.random.uniform());
            if t.start(&line, &[], &Start::default())?
                .kill_after(after)?
                .is_some()
            {
                break;
            }
        }
        finished(t, &line)
    });
    let cuts = repeat(10, |t| {
        let line = format!("{EVALUATE} --count 12 -o r.jsonl");
        t.polyveil(&format!("{EVALUATE} --count 6 -o r.jsonl"))?
            .ok()?;
        let bytes = t.bytes("r.jsonl")?;
        let cut = 1 + t.random.below(bytes.len() - 1);
        t.scratch("r.jsonl", &bytes[..cut])?;
        finished(t, &line)
    });
    kills.into_iter().chain(cuts).collect()
}

fn finished(t: &mut Try<'_>, line: &str) -> Verdict {
    t.polyveil(line)?.ok()?;
    let all = evaluated(t, "r.jsonl")?;
    Kind::Other.unless(
        all == (0..12).collect::<Vec<_>>(),
        format!("pictures {all:?} for 12"),
    )
}

/// Calls that sync, rename and remove and did so, in their order, with the names of open files.
struct Calls<'a> {
    lines: Vec<String>,
    t: &'a Try<'a>,
}

impl Calls<'_> {
    /// The last rename of the first `before` calls for which `fits` holds of what is renamed and what to.
    fn rename(
        &self,
        before: usize,
        fits: impl Fn(&Path, &Path) -> bool,
    ) -> Option<(usize, PathBuf, PathBuf)> {
        let all = self.lines[..before].iter().enumerate().rev();
        let mut renames = all
            .filter(|(_, l)| l.contains("rename"))
            .filter_map(|(i, l)| {
                let mut words = l.split('"').skip(1).step_by(2);
                let mut path = || Some(self.t.path(words.next()?.trim_start_matches("./")));
                Some((i, path()?, path()?))
            });
        renames.find(|(_, from, to)| fits(from, to))
    }
    /// Whether a file or folder itself is synced among these calls.
    fn synced(&self, among: Range<usize>, path: &Path) -> bool {
        let open = format!("<{}>", path.display());
        let sync = |l: &String| l.contains("sync(") && l.contains(&open);
        self.lines[among].iter().any(sync)
    }
    /// Where a file gets its name: its own bytes are on disk before its first one, and its folder after its last.
    fn placed(&self, file: &Path) -> Verdict<usize> {
        let name = file.display();
        let last = self.rename(self.lines.len(), |_, to| to == file);
        let (last, mut source, _) =
            last.ok_or_else(|| Fault::other(format!("{name} is not renamed to its place")))?;
        let mut first = last;
        while let Some((i, from, _)) = self.rename(first, |_, to| to == source) {
            (first, source) = (i, from);
        }
        let whole = self.synced(0..first, &source);
        Kind::Other.unless(whole, format!("{name} gets its name before it is on disk"))?;
        let folder = file.parent().unwrap_or(file);
        let there = self.synced(last..self.lines.len(), folder);
        Kind::Other.unless(there, format!("the name of {name} is not on disk"))?;
        Ok(last)
    }
    /// An old secret key is kept under another name, which is on disk before the new one comes, and goes once the new pair's names are.
    fn kept(&self, secret: &Path, new: [usize; 2]) -> Verdict {
        let old = self.rename(new[0], |from, _| from == secret);
        let (at, _, aside) = old.ok_or_else(|| Fault::other("the old secret key is not kept"))?;
        let folders = [secret, &aside].map(|p| p.parent().unwrap_or(p));
        let kept = folders.iter().all(|f| self.synced(at..new[0], f));
        let text = "the old pair's new names are not on disk before the new pair's";
        Kind::Other.unless(kept, text)?;
        let gone = |l: &String| {
            let path = l.split('"').nth(1).map(|word| self.t.path(word));
            l.contains("unlink") && path.is_some_and(|p| p == aside)
        };
        let gone = self.lines.iter().position(gone);
        let gone = gone.ok_or_else(|| Fault::other("the old secret key is never removed"))?;
        let last = new[0].max(new[1]);
        let placed = last < gone && self.synced(last..gone, folders[0]);
        Kind::Other.unless(placed, "the old pair goes before the new one is on disk")
    }
}

fn on_disk(_: &Lab) -> Vec<Case> {
    let each = table![
        ("keys", KEYGEN, &["k/client.key", "k/evaluation.keys"][..]);
        ("new keys", "keygen @lev/net.client -o k --insecure-toy --replace", &["k/client.key", "k/evaluation.keys"][..]);
        ("input", "encrypt --key @lev/A/client.key --image @0.png -o x.input", &["x.input"][..]);
        ("answer", "run --plan @deep/net.plan --keys @deep/A/evaluation.keys --input @deep/A/x.input -o x.answer", &["x.answer"][..]);
        ("count", "decrypt --key c/client.key @lev/A/x.answer --share --class-only --releases 50", &["c/releases.json"][..]);
    ];
    let tried = |(name, line, files): (&'static str, &'static str, &'static [&str])| {
        case(name, move |t| {
            own_client(t, "lev")?;
            if name == "new keys" {
                t.polyveil(KEYGEN)?.ok()?;
            }
            let trace =
                "-f -y -o trace -e trace=fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat";
            traced(t, trace, line)?.end()?.ok()?;
            let text = String::from_utf8_lossy(&t.bytes("trace")?).into_owned();
            let made = text.lines().filter(|l| l.ends_with("= 0"));
            let lines = made.map(String::from).collect();
            let t = &*t;
            let calls = Calls { lines, t };
            let placed: Verdict<Vec<usize>> =
                files.iter().map(|f| calls.placed(&t.path(f))).collect();
            match placed?[..] {
                [secret, public] if name == "new keys" => {
                    calls.kept(&t.path(files[0]), [secret, public])
                }
                _ => Ok(()),
            }
        })
    };
    each.map(tried).into()
}

fn train_checkpoint(_: &Lab) -> Vec<Case> {
    // stopped in the middle, so that there is something to go on from
    fn stopped(t: &mut Try<'_>) -> Verdict {
        training(t, true)?;
        let line = "train --config run.toml --checkpoint-every 0 -o r/run";
        let mut running = t.start(line, &[], &Start::default())?;
        while running.alive()? && !t.exists("r/run/checkpoint.safetensors") {
            std::thread::sleep(Duration::from_micros(500));
        }
        std::thread::sleep(Duration::from_millis(40));
        running.kill_after(Duration::ZERO)?;
        Kind::Skipped.unless(
            t.exists("r/run/checkpoint.safetensors"),
            "training ended before it could be stopped",
        )
    }
    let line = "train --config run.toml --checkpoint-every 0 -o r/run";
    let mut all = vec![case("another configuration", move |t| {
        stopped(t)?;
        let text = String::from_utf8_lossy(&t.bytes("run.toml")?).into_owned();
        t.forget("run.toml");
        t.scratch(
            "run.toml",
            text.replace("batch = 16", "batch = 8").as_bytes(),
        )?;
        t.polyveil(line)?.refused(&[]).map(drop)
    })];
    all.extend(repeat(40, move |t| {
        stopped(t)?;
        let mut bytes = t.bytes("r/run/checkpoint.safetensors")?;
        let bit = t.random.below(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        t.scratch("r/run/checkpoint.safetensors", &bytes)?;
        let done = t.polyveil(line)?;
        if done.code != Some(0) {
            return done.refused(&["checkpoint"]).map(drop);
        }
        t.polyveil("train --config run.toml -o whole/run")?.ok()?;
        let text = format!("bit {bit}: ");
        let same = t.same("r/run/network.pvm", "whole/run/network.pvm");
        same.map_err(|f| Fault::new(f.kind, text + &f.text))
    }));
    for c in &mut all[1..] {
        c.flip = true;
    }
    all
}
