//! No room on disk, files that may not grow, little memory.

use super::kills::training;
use crate::attempt::{AT_MOST, Start, Try};
use crate::case::{Case, case, has};
use crate::fault::{Fault, Kind, Verdict};
use crate::lab::Lab;
use nn::format::artefact;

groups! {
    beside "compile-shapes" 0 compile_shapes "`compile` of ten ResNet-18 shapes in 4 GB of address space: done, or refused before";
    beside "disk-full" 6 disk_full "no room (tmpfs in a name space of its own): one line, no half file";
    beside "file-limit" 6 file_limit "`ulimit -f` below need: one line, no half file";
    beside "process-limits" 8 process_limits "`ulimit -d` and `ulimit -n` below need: done, or refused; no abort";
    beside "address-space" 12 address_space "`ulimit -v` below need: done, or refused with a number; no abort";
}

/// Commands that write, with the names of what they write.
const WRITERS: [(&str, &str); 9] = table![
    ("keygen @lev/net.client -o OUT/k --insecure-toy", "k");
    ("encrypt --key @lev/A/client.key --image @0.png -o OUT/x.input", "x.input");
    ("run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input @lev/A/x.input -o OUT/x.answer --no-probe --machine shipped", "x.answer");
    ("run --plan @deep/net.plan --keys @deep/A/evaluation.keys --input @deep/A/x.input -o OUT/x.answer --no-probe --machine shipped", "x.answer");
    ("compile @lev/net.pvm -o OUT/x.plan --machine shipped --no-probe", "x.plan");
    ("calibrate @lev/trained.pvm --data @pictures.npz --degree 4 -o OUT/x.pvm", "x.pvm");
    ("train --config run.toml --checkpoint-every 0 -o OUT/run", "run");
    ("adapt @lev/trained.pvm --train @pictures.npz --held-out 20 --degree 4 --epochs 1 --checkpoint-every 0 -o OUT/run", "run");
    ("evaluate --model @lev/net.pvm --plan @lev/net.plan --data @pictures.npz --split test --count 20 --machine shipped --no-probe -o OUT/r.jsonl", "r.jsonl");
];

/// A small file system of its own with so much room, then the command, what it left, room again, and the command again, which goes on.
const FULL: &str = r#"exec unshare -rm sh -c '
mount -t tmpfs -o size=60m none full || exit 77
cp -r c full/c
head -c $((60 * 1048576 - KB * 1024)) /dev/zero >full/filler
"$@"; code=$?
find full -type f -size 0 -o -type f -name "*.part*" >left
rm full/filler
if [ $code != 0 ]; then
  resume=
  [ -e full/x.answer.checkpoint ] && resume=--resume
  "$@" $resume || exit 78
fi
cp full/x.answer . 2>/dev/null
exit $code' sh"#;

fn disk_full(_: &Lab) -> Vec<Case> {
    const SHARE: &str =
        "decrypt --key OUT/c/client.key @lev/A/x.answer --share --class-only --releases 5";
    let mut all = Vec::new();
    for (line, output) in WRITERS.into_iter().chain([(SHARE, "c")]) {
        // the client's own files take 24 kB
        for kilobytes in [24, 28, 40, 80, 250, 1500] {
            all.push(case(format!("{kilobytes} kB: {output}"), move |t| {
                Kind::Skipped.unless(has("unshare"), "no unshare here")?;
                training(t, false)?;
                super::kills::own_client(t, "lev")?;
                t.folder("full")?;
                let before = FULL.replace("KB", &kilobytes.to_string());
                let start = Start::behind(&before);
                let done = t.within(&line.replace("OUT", "full"), &start)?;
                match done.code {
                    Some(77) => {
                        return Err(Fault::new(Kind::Skipped, "no tmpfs may be mounted here"));
                    }
                    Some(78) => {
                        return Err(Fault::other("it does not go on where there is room again"));
                    }
                    _ => {}
                }
                if output == "x.answer" {
                    let net = if line.contains("@deep") {
                        "deep"
                    } else {
                        "lev"
                    };
                    t.same("x.answer", &format!("@{net}/A/x.answer"))?;
                }
                if done.code == Some(0) {
                    return Ok(());
                }
                // what is full is named
                done.refused(&["full"])?;
                let left = String::from_utf8_lossy(&t.bytes("left")?).into_owned();
                Kind::Other.unless(
                    left.trim().is_empty(),
                    format!("left behind: {}", left.replace('\n', " ")),
                )
            }));
        }
    }
    all
}

fn file_limit(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for (line, output) in WRITERS {
        for blocks in [0, 1, 8, 100] {
            all.push(case(format!("{blocks} blocks: {output}"), move |t| {
                training(t, false)?;
                t.folder("out")?;
                let line = line.replace("OUT", "out");
                // what is said goes through a pipe, which the limit does not hold for
                let before = format!("mkfifo said; cat said >&2 & ( ulimit -f {blocks}; exec");
                let start = Start {
                    before: &before,
                    after: ") >said 2>&1; c=$?; wait; exit $c",
                    ..Start::default()
                };
                let done = t.within(&line, &start)?;
                if done.code == Some(0) {
                    return Ok(());
                }
                done.refused(&[])?;
                let known = [output, "network.client", "x.client"];
                let known = if output == "run" || output == "k" || output == "r.jsonl" {
                    &known[..]
                } else {
                    &[]
                };
                t.leftovers("out", known)
            }));
        }
    }
    all
}

fn process_limits(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for (line, _) in WRITERS {
        for limit in [
            "d 30000", "d 60000", "d 160000", "d 500000", "n 4", "n 8", "n 16",
        ] {
            all.push(case(format!("{limit}: {line:.40}"), move |t| {
                if line.contains("run.toml") {
                    training(t, false)?;
                }
                t.folder("out")?;
                let before = format!("ulimit -{limit}; exec");
                let start = Start {
                    before: &before,
                    ..Start::default()
                };
                let done = t.within(&line.replace("OUT", "out"), &start)?;
                match done.code {
                    // the loader itself could not start it
                    Some(127) => Ok(()),
                    _ => done.either().map(drop),
                }
            }));
        }
    }
    all
}

fn address_space(lab: &Lab) -> Vec<Case> {
    let _ = lab;
    let more = [
        "inspect @lev/net.plan",
        "inspect @deep/A/evaluation.keys",
        "decrypt --key @lev/A/client.key @lev/A/x.answer",
        "decrypt --key @deep/A/client.key @deep/A/x.answer",
        "encrypt --key @lev/A/client.key --image /dev/zero -o OUT/x.input",
        "encrypt --key @lev/A/client.key --image bomb.png --resize -o OUT/x.input",
        "inspect /dev/zero",
        "calibrate /dev/zero --data @pictures.npz -o OUT/x.pvm",
        "keygen @std/net.client -o OUT/k",
        "run --plan @boot/net.plan --keys @boot/A/evaluation.keys --input @boot/A/x.input -o OUT/x.answer --no-probe --machine shipped --threads 64",
        "decrypt --key @lev/A/client.key @lev/A/x.answer --threads 1024",
    ];
    let lines = WRITERS.iter().map(|w| w.0).chain(more);
    let mut all = Vec::new();
    for line in lines {
        for kilobytes in [60_000, 100_000, 160_000, 240_000, 400_000, 800_000] {
            all.push(case(format!("{kilobytes} kB: {line:.40}"), move |t| {
                if line.contains("run.toml") {
                    training(t, false)?;
                }
                if line.contains("bomb") {
                    let side = 13_000;
                    let lines = vec![0; side * (1 + side / 8)];
                    let png =
                        crate::foreign::raw_png((side as u32, side as u32), (1, 0), &lines, &[]);
                    t.file("bomb.png", &png)?;
                }
                t.folder("out")?;
                let before = format!("ulimit -v {kilobytes}; exec");
                let start = Start::behind(&before);
                let done = t.within(&line.replace("OUT", "out"), &start)?;
                match done.code {
                    // the loader itself could not start it
                    Some(127) => Ok(()),
                    _ => done.either().map(drop),
                }
            }));
        }
    }
    all
}

/// ResNet-18 for small pictures with new weights, polynomial from the start: only its size counts.
fn resnet18(t: &mut Try<'_>, width: usize, side: usize) -> Verdict {
    use nn::{AvgPool, Conv2d, Linear, Network, Op, Padding, Parameter, PolyGraph, Range, Shape};
    let mut b = Network::<approx::Polynomial>::builder();
    let mut parameter = |shape: &[usize], size: f64| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| (size * t.random.centred()) as f32)
            .collect();
        Parameter::new("random", shape, values).expect("finite")
    };
    let polynomial = || {
        let c: Vec<f64> = (0..16).map(|i| 0.5f64.powi(i + 1)).collect();
        approx::Polynomial::new(c, (-8.0, 8.0)).expect("valid")
    };
    let mut from = 3;
    let mut x = b
        .input("input", Shape::image(3, side, side))
        .expect("valid");
    let mut number = 0;
    for stage in 0..4 {
        let to = width << stage;
        for block in 0..2 {
            for conv in 0..2 {
                let stride = 1 + usize::from(stage > 0 && block == 0 && conv == 0);
                let op = Conv2d {
                    stride: (stride, stride),
                    padding: Padding::same(1),
                    ..Conv2d::new(parameter(&[to, from, 3, 3], 0.05))
                };
                number += 1;
                x = b
                    .add(format!("conv{number}"), Op::Conv2d(op), &[x])
                    .expect("valid");
                let act = Op::Elementwise(polynomial());
                x = b.add(format!("act{number}"), act, &[x]).expect("valid");
                from = to;
            }
        }
    }
    let last = side.div_ceil(8);
    let pool = AvgPool {
        kernel: (last, last),
        stride: (last, last),
        padding: Padding::default(),
        count_include_pad: true,
    };
    x = b.add("pool", Op::AvgPool(pool), &[x]).expect("valid");
    x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let linear = Linear {
        weight: parameter(&[10, from], 0.1),
        bias: None,
    };
    x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    let graph = PolyGraph::from(b.finish(x).expect("valid"));
    let range = Range {
        min: -8.0,
        max: 8.0,
    };
    let ranges = vec![range; graph.nodes().len()];
    let graph = graph.with_ranges(ranges).expect("valid");
    let bytes = artefact::to_bytes(&graph).map_err(crate::fault::own)?;
    t.file("net.pvm", &bytes).map(drop)
}

fn compile_shapes(_: &Lab) -> Vec<Case> {
    let shapes = table![
        (16, 32); (32, 32); (64, 32); (8, 64); (16, 64); (32, 64); (64, 64); (16, 112); (32, 112); (64, 112)
    ];
    let plain = shapes.map(|s| (s, ""));
    let thrifty = [(16, 32), (32, 32)];
    let thrifty = thrifty
        .into_iter()
        .flat_map(|s| ["2GB", "3GB", "6GB"].map(|m| (s, m)));
    (plain.into_iter().chain(thrifty))
        .map(|((width, side), memory)| {
            case(
                format!("{width} channels, {side} pixels {memory}"),
                move |t| {
                    resnet18(t, width, side)?;
                    let memory = match memory {
                        "" => String::new(),
                        m => format!("--max-memory {m}"),
                    };
                    let line =
                        format!("compile net.pvm -o x.plan --machine shipped --no-probe {memory}");
                    let start = Start::behind("ulimit -v 4000000; exec");
                    let running = t.start(&line, &[], &start)?;
                    let done = running.end_within(AT_MOST)?;
                    if done.code != Some(0) {
                        done.refused(&["memory"])?;
                        return t.leftovers(".", &["net.pvm"]);
                    }
                    Ok(())
                },
            )
        })
        .collect()
}
