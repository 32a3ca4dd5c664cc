//! Several at once, and for long.

use super::kills::{EVALUATE, SHARE, counted, evaluated, own_client, training};
use crate::attempt::{Done, Running, Start, Try};
use crate::case::{Case, case, repeat, run_line};
use crate::fault::{Fault, Kind, Verdict};
use crate::foreign;
use crate::lab::{Lab, SIDE};
use std::time::Duration;

groups! {
    alone "soak" 0 soak "`evaluate` of 400 pictures with a bootstrap each: the clear class, no growth";
    beside "runs-at-once" 4 runs_at_once "3 runs at once; 2 into one output: the file is whole";
    beside "keygens-at-once" 4 keygens_at_once "2 `keygen`s in one folder: one pair that works";
    beside "shares-at-once" 2 shares_at_once "4 `decrypt --share` at once: each number once, none too many";
    beside "trains-at-once" 0 trains_at_once "2 trainings in one folder; 2 `evaluate`s into one file";
    beside "releases" 14 releases "releases.json damaged, absurd terms: refused, nothing printed";
}

fn together(t: &mut Try<'_>, lines: &[String]) -> Verdict<Vec<Done>> {
    let all: Verdict<Vec<Running>> = (lines.iter())
        .map(|line| t.start(line, &[], &Start::default()))
        .collect();
    all?.into_iter().map(Running::end).collect()
}

/// The same twice at once: one of them at least must go through.
fn two(t: &mut Try<'_>, line: &str) -> Verdict {
    let done = together(t, &[line.into(), line.into()])?;
    let text = format!("both stop: {}", done[0].last());
    Kind::Other.unless(done.iter().any(|d| d.code == Some(0)), text)
}

fn runs_at_once(_: &Lab) -> Vec<Case> {
    let mut all = repeat(6, |t| {
        let lines = ["1", "2", "3"].map(|n| run_line("deep", "A", &format!("{n}.answer")));
        for done in together(t, &lines)? {
            done.ok()?;
        }
        ["1", "2", "3"]
            .iter()
            .try_for_each(|n| t.same(&format!("{n}.answer"), "@deep/A/x.answer"))
    });
    all.extend(repeat(12, |t| {
        let line = run_line("deep", "A", "x.answer");
        two(t, &line)?;
        t.same("x.answer", "@deep/A/x.answer")
    }));
    all.extend(repeat(12, |t| {
        let lines = ["A", "B"].map(|c| run_line("deep", c, "x.answer"));
        let done = together(t, &lines)?;
        let whole = ["A", "B"]
            .iter()
            .any(|c| t.same("x.answer", &format!("@deep/{c}/x.answer")).is_ok());
        Kind::Lost.unless(
            whole && done.iter().any(|d| d.code == Some(0)),
            "the file is neither answer",
        )
    }));
    all
}

fn keygens_at_once(_: &Lab) -> Vec<Case> {
    let each = |replace: &'static str| {
        move |t: &mut Try<'_>| {
            let line = format!("keygen @lev/net.client -o k --insecure-toy {replace}");
            two(t, &line)?;
            t.polyveil("encrypt --key k/client.key --image @0.png -o x.input")?
                .ok()?;
            t.polyveil("run --plan @lev/net.plan --keys k/evaluation.keys --input x.input -o x.answer --machine shipped --no-probe")?.ok()?;
            let pixels = t.pixels(0);
            t.right("lev", "k/client.key", "x.answer", &pixels)
        }
    };
    repeat(40, each(""))
        .into_iter()
        .chain(repeat(20, each("--replace")))
        .collect()
}

fn shares_at_once(_: &Lab) -> Vec<Case> {
    repeat(80, |t| {
        own_client(t, "lev")?;
        let line =
            "decrypt --key c/client.key @lev/A/x.answer --share --class-only --releases 10 --json"
                .to_string();
        for round in 1..=3u64 {
            let mut numbers = Vec::new();
            for done in together(t, &[line.clone(), line.clone(), line.clone(), line.clone()])? {
                if done.code == Some(0) {
                    numbers.extend(done.json()?["sharing"]["used"].as_u64());
                } else {
                    done.refused(&[])?;
                }
            }
            numbers.sort_unstable();
            let first = 4 * (round - 1) + 1;
            let right: Vec<u64> = (first..(first + 4).min(11)).collect();
            Kind::Other.unless(
                numbers == right,
                format!("round {round}: numbers {numbers:?}"),
            )?;
        }
        match counted(t)? {
            10 => Ok(()),
            n => Err(Fault::other(format!("{n} counted of 10"))),
        }
    })
}

fn trains_at_once(_: &Lab) -> Vec<Case> {
    let mut all = repeat(4, |t| {
        training(t, false)?;
        let line = "train --config run.toml --checkpoint-every 0 -o r/run".to_string();
        two(t, &line)?;
        t.polyveil("train --config run.toml -o whole/run")?.ok()?;
        t.same("r/run/network.pvm", "whole/run/network.pvm")
    });
    all.extend(repeat(4, |t| {
        let line = format!("{EVALUATE} --count 20 -o r.jsonl");
        two(t, &line)?;
        t.polyveil(&line)?.ok()?;
        let pictures = evaluated(t, "r.jsonl")?;
        Kind::Other.unless(
            pictures == (0..20).collect::<Vec<_>>(),
            format!("{} lines for 20 pictures", pictures.len()),
        )
    }));
    all
}

fn releases(_: &Lab) -> Vec<Case> {
    let damages: [(&str, &[u8]); 14] = table![
        ("empty", b"");
        ("null", b"null");
        ("list", b"[]");
        ("object", b"{}");
        ("text", b"hello");
        ("cut", b"{\"releases\": 50, \"use");
        ("negative", b"{\"releases\":50,\"security\":40,\"used\":-1}");
        ("huge", b"{\"releases\":99999999999999999999,\"used\":0}");
        ("fraction", b"{\"releases\":50,\"used\":0.5}");
        ("binary", b"\x00\xff\xfe");
        ("twice", b"{\"releases\":50,\"used\":1}{\"releases\":50,\"used\":1}");
        ("used up", b"{\"releases\":50,\"used\":51}");
        ("deep", &[91; 100_000]);
        ("spaces", b"    ");
    ];
    let nothing = |done: Done| match done.stdout.trim().is_empty() {
        true => Ok(()),
        false => Err(Fault::other("an answer was printed")),
    };
    let mut all: Vec<Case> = (damages.into_iter())
        .map(|(name, bytes)| {
            case(name, move |t| {
                own_client(t, "lev")?;
                t.file("c/releases.json", bytes)?;
                let line = format!("decrypt --key c/client.key @lev/A/x.answer {SHARE}");
                nothing(t.polyveil(&line)?.refused(&["releases.json"])?)
            })
        })
        .collect();
    let terms = [
        "--releases 0",
        "--releases -1",
        "--releases 18446744073709551615",
        "--releases 18446744073709551616",
        "--releases 1.5",
        "--releases 10 --security-bits 0",
        "--releases 10 --security-bits 4294967295",
        "--releases 10 --class-bits 4294967295",
        "",
    ];
    for terms in terms {
        for class in ["", "--class-only"] {
            all.push(case(format!("{terms} {class}"), move |t| {
                own_client(t, "lev")?;
                let line =
                    format!("decrypt --key c/client.key @lev/A/x.answer --share {class} {terms}");
                let done = t.polyveil(&line)?;
                let taken = done.code == Some(0) && class.is_empty();
                Kind::Other.unless(!taken, "absurd terms are taken")?;
                // terms of noise mean nothing to a class alone
                match done.code {
                    Some(0) => Ok(()),
                    _ => nothing(done.turned_down()?),
                }
            }));
        }
    }
    all.push(case("other terms than the first", move |t| {
        own_client(t, "lev")?;
        t.polyveil(&format!(
            "decrypt --key c/client.key @lev/A/x.answer {SHARE}"
        ))?
        .ok()?;
        let line = "decrypt --key c/client.key @lev/A/x.answer --share --class-only --releases 51";
        nothing(t.polyveil(line)?.refused(&["50"])?)
    }));
    all.push(case("a folder", move |t| {
        own_client(t, "lev")?;
        t.folder("c/releases.json")?;
        nothing(
            t.polyveil(&format!(
                "decrypt --key c/client.key @lev/A/x.answer {SHARE}"
            ))?
            .refused(&["releases.json"])?,
        )
    }));
    all
}

/// Pages of a process that are in memory, in kB.
fn resident(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn soak(_: &Lab) -> Vec<Case> {
    ["lev", "boot"]
        .into_iter()
        .map(|net| {
            case(net, move |t| {
                let mut pixels = Vec::new();
                for i in 0..400 {
                    let mut one = t.lab.pictures[i % t.lab.pictures.len()].clone();
                    one.iter_mut().for_each(|p| *p = (f64::from(*p) + 6.0 * t.random.centred()) as u8);
                    pixels.extend(one);
                }
                let npz = foreign::npz(&[("test_images", &[400, SIDE, SIDE, 3], &pixels), ("test_labels", &[400], &[0; 400])]);
                t.file("many.npz", &npz)?;
                let line = format!(
                    "evaluate --model @{net}/net.pvm --plan @{net}/net.plan --data many.npz --split test --count 400 --machine shipped --no-probe -o r.jsonl"
                );
                let mut running = t.start(&line, &[], &Start::default())?;
                let lines = |t: &Try<'_>| std::fs::read(t.path("r.jsonl")).map_or(0, |b| b.iter().filter(|b| **b == b'\n').count());
                let (mut early, mut late) = (0, 0);
                while running.alive()? {
                    let done = lines(t);
                    let now = resident(running.id()).unwrap_or(0);
                    match done {
                        40..200 => early = early.max(now),
                        300.. => late = late.max(now),
                        _ => {}
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                running.end()?.ok()?;
                let grows = early > 0 && late > early + early / 20 + 4096;
                Kind::Other.unless(!grows, format!("grows: {early} kB early, {late} kB late"))?;
                // every picture is there once, with the class of its clear twin
                let text = String::from_utf8_lossy(&t.bytes("r.jsonl")?).into_owned();
                let mut seen = 0;
                for line in text.lines() {
                    let json: serde_json::Value = serde_json::from_str(line).map_err(crate::fault::own)?;
                    let (had, clear) = (&json["class"], &json["clear_class"]);
                    seen += usize::from(!json["index"].is_null());
                    Kind::Silent.unless(had == clear, format!("another class: {line:.200}"))?;
                }
                match seen {
                    400.. => Ok(()),
                    n => Err(Fault::other(format!("{n} lines of 400"))),
                }
            })
        })
        .collect()
}
