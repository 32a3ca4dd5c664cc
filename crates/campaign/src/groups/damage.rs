//! Files with a bit flipped, cut or lengthened: refused, or as if nothing had been.

use crate::attempt::{Done, Start, Try};
use crate::case::{Case, case};
use crate::fault::{Fault, Kind, Verdict};
use crate::foreign;
use crate::lab::Lab;
use nn::format::artefact;
use std::sync::Arc;

groups! {
    beside "damage-own" 66 own "plan, client file, keys, input, answer, client.key, checkpoint damaged: refused, nothing written";
    beside "damage-inspect" 6 inspect "`inspect` of damaged evaluation.keys: refused, or it says that bodies were not read";
    beside "damage-pvm" 12 pvm "a .pvm damaged, compiled: refused";
    beside "damage-weight" 1 weight "an exponent bit of a weight flipped, compiled: refused";
    beside "damage-foreign" 30 foreign_formats "ONNX, .pt, safetensors, npz, CIFAR, CSV, tokenizer, llama2.c, PNG, JPEG damaged, in 4 GB: no crash";
    beside "damage-zip" 3 zip_member "a zip's member that fails its CRC-32: refused";
    beside "damage-in-use" 2 in_use "evaluation.keys changed, cut, gone under a run: a clear error, or the same answer";
}

/// 200 flips, 50 cuts, 2 longer files.
const FLIPS: usize = 200;
const CUTS: usize = 50;

/// One damage: its name, and what it does.
fn damaged(t: &mut Try<'_>, number: usize, bytes: &mut Vec<u8>) -> String {
    let length = bytes.len();
    match number {
        n if n < FLIPS => {
            // every eighth in the first kilobyte, where the heads are
            let within = if n % 8 == 0 { length.min(1024) } else { length };
            let bit = t.random.below(8 * within);
            bytes[bit / 8] ^= 1 << (bit % 8);
            format!("bit {bit} flipped")
        }
        n if n < FLIPS + CUTS => {
            bytes.truncate(t.random.below(length));
            format!("cut to {} of {length}", bytes.len())
        }
        n => {
            bytes.extend(vec![b'x'; [1, 1000][n % 2]]);
            format!("lengthened to {}", bytes.len())
        }
    }
}

/// A file, the command that reads it as `d`, and the words that tell the file in the refusal.
fn each(
    name: &'static str,
    file: &'static str,
    line: &'static str,
    check: fn(&mut Try<'_>, Done) -> Verdict,
) -> Vec<Case> {
    (0..FLIPS + CUTS + 2)
        .map(|n| {
            let mut c = case(format!("{name} {n}"), move |t| {
                let mut bytes = t.bytes(file)?;
                let what = damaged(t, n, &mut bytes);
                t.file("d", &bytes)?;
                if line.contains(" k/") {
                    // the key's other half lies beside it
                    t.copy("@lev/net.client", "k/network.client")?;
                    t.file("k/client.key", &bytes)?;
                }
                let done = t.polyveil(line)?;
                check(t, done).map_err(|f| Fault::new(f.kind, format!("{what}: {}", f.text)))
            });
            c.flip = n < FLIPS;
            c
        })
        .collect()
}

fn refused(t: &mut Try<'_>, done: Done) -> Verdict {
    done.refused(&[])?;
    t.leftovers(".", &["d", "k"])
}

fn own(_: &Lab) -> Vec<Case> {
    let run = "--no-probe --machine shipped -o x.answer";
    let leak = |s: String| -> &'static str { Box::leak(s.into_boxed_str()) };
    let all = table![
        ("plan, run", "@lev/net.plan", leak(format!("run --plan d --keys @lev/A/evaluation.keys --input @lev/A/x.input {run}")));
        ("plan, inspect", "@lev/net.plan", "inspect d");
        ("client file, keygen", "@lev/net.client", "keygen d -o k --insecure-toy");
        ("client file, decrypt", "@lev/net.client", "decrypt --key @lev/A/client.key --client d @lev/A/x.answer");
        ("keys, run", "@lev/A/evaluation.keys", leak(format!("run --plan @lev/net.plan --keys d --input @lev/A/x.input {run}")));
        ("keys, on disk", "@lev/A/evaluation.keys", leak(format!("run --plan @lev/net.plan --keys d --input @lev/A/x.input {run} --keys-on-disk")));
        ("input, run", "@lev/A/x.input", leak(format!("run --plan @lev/net.plan --keys @lev/A/evaluation.keys --input d {run}")));
        ("answer, decrypt", "@lev/A/x.answer", "decrypt --key @lev/A/client.key d");
        ("client.key, decrypt", "@lev/A/client.key", "decrypt --key d --client @lev/net.client @lev/A/x.answer");
        ("client.key, encrypt", "@lev/A/client.key", "encrypt --key d --client @lev/net.client --image @0.png -o x.input");
        ("checkpoint, resume", "@deep/A/mid.checkpoint", leak(format!("run --plan @deep/net.plan --keys @deep/A/evaluation.keys --input @deep/A/x.input {run} --resume --checkpoint d")));
    ];
    // flips of every kind first, so that few tries see all
    let columns: Vec<Vec<Case>> = all
        .map(|(name, file, line)| each(name, file, line, refused))
        .into();
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut out = Vec::new();
    while out.len() < 11 * (FLIPS + CUTS + 2) {
        for column in &mut columns {
            out.extend(column.next());
        }
    }
    out
}

fn inspect(_: &Lab) -> Vec<Case> {
    each(
        "keys, inspect",
        "@lev/A/evaluation.keys",
        "inspect d",
        |_, done| {
            if done.code != Some(0) {
                return done.refused(&[]).map(drop);
            }
            let said = format!("{}{}", done.stdout, done.stderr);
            match said.contains("not checked")
                || said.contains("not read")
                || said.contains("unchecked")
            {
                true => Ok(()),
                false => Err(Fault::other(
                    "accepted, and no word that bodies were not checked",
                )),
            }
        },
    )
}

/// A damaged network that is accepted must be the one it was.
fn unharmed(t: &mut Try<'_>, done: Done) -> Verdict {
    if done.code != Some(0) {
        return done.refused(&[]).map(drop);
    }
    let (was, is) = (t.bytes("@lev/net.pvm")?, t.bytes("d")?);
    let read = |bytes: &[u8]| artefact::from_bytes(bytes).ok();
    match (read(&was), read(&is)) {
        (Some(a), Some(b)) if a == b => Ok(()),
        _ => Err(Fault::new(Kind::Silent, "accepted as another network")),
    }
}

fn pvm(_: &Lab) -> Vec<Case> {
    each(
        "pvm, compile",
        "@lev/net.pvm",
        "compile d -o x.plan --machine shipped --no-probe",
        unharmed,
    )
}

fn weight(lab: &Lab) -> Vec<Case> {
    let _ = lab;
    (0..12)
        .map(|i| {
            let mut c = case(format!("weight {i}"), |t| {
                let mut bytes = t.bytes("@lev/net.pvm")?;
                // weights are at the end, four bytes each, the exponent's bits in the last two
                let at = bytes.len() - 4 * (1 + t.random.below(200));
                bytes[at + 3] ^= 1 << t.random.below(6);
                t.file("d", &bytes)?;
                let done = t.polyveil("compile d -o x.plan --machine shipped --no-probe")?;
                unharmed(t, done)
            });
            c.flip = i < 12;
            c
        })
        .collect()
}

fn foreign_formats(lab: &Lab) -> Vec<Case> {
    let pixels = lab.pictures[0].clone();
    let files: Vec<(&'static str, Vec<u8>, &'static str)> = vec![
        (
            "onnx",
            foreign::onnx(4, 6, 3),
            "calibrate d.onnx --data @rows.csv --class-column label --normalization none --degree 4 -o x.pvm",
        ),
        (
            "pt",
            foreign::torch(),
            "calibrate d.pt --activation silu --normalization cifar10 --data @cifar.bin --degree 4 -o x.pvm",
        ),
        (
            "safetensors",
            foreign::safetensors(),
            "calibrate d.safetensors --activation silu --normalization cifar10 --data @cifar.bin --degree 4 -o x.pvm",
        ),
        (
            "npz",
            foreign::npz(&[
                ("test_images", &[4, 8, 8, 3], &pixels.repeat(4)),
                ("test_labels", &[4], &[0, 1, 2, 0]),
            ]),
            "encrypt --key @lev/A/client.key --data d.npz --split test --index 1 -o x.input",
        ),
        (
            "bin",
            foreign::cifar(3),
            "calibrate @residual.safetensors --activation silu --normalization cifar10 --data d.bin --degree 4 -o x.pvm",
        ),
        (
            "csv",
            b"a,b,c,d,label\n1,2,3,4,0\n2,3,4,5,1\n\"3\",4,5,6,2\n".to_vec(),
            "calibrate @toy.onnx --data d.csv --class-column label --normalization none --degree 4 -o x.pvm",
        ),
        (
            "tokenizer",
            foreign::tokenizer(),
            "calibrate @lm/model --text @lm/text.txt --tokenizer d.tokenizer --length 6 --bits 10 --degree 7 --power 4 --epsilon 0.1 -o x.pvm",
        ),
        (
            "llama2c",
            foreign::llama2c(),
            "calibrate d.llama2c --text @lm/text.txt --tokenizer @lm/tok.bin --length 6 --bits 10 --degree 7 --power 4 --epsilon 0.1 -o x.pvm",
        ),
        (
            "png",
            foreign::png(8, 8, &pixels),
            "encrypt --key @lev/A/client.key --image d.png -o x.input",
        ),
        (
            "jpg",
            foreign::jpeg(8, 8, &pixels),
            "encrypt --key @lev/A/client.key --image d.jpg -o x.input",
        ),
    ];
    let mut out = Vec::new();
    for n in 0..100 {
        for (end, bytes, line) in &files {
            let (end, line, bytes) = (*end, *line, Arc::new(bytes.clone()));
            let mut c = case(format!("{end} {n}"), move |t| {
                let mut bytes = bytes.to_vec();
                // the whole file first, which must be taken; then 70 flips, 25 cuts, 4 longer ones
                let what = match n {
                    0 => "whole".into(),
                    1..71 => damaged(t, n, &mut bytes),
                    71..96 => damaged(t, FLIPS, &mut bytes),
                    _ => damaged(t, FLIPS + CUTS + n, &mut bytes),
                };
                t.file(&format!("d.{end}"), &bytes)?;
                let start = Start::behind("ulimit -v 4000000; exec");
                let done = t.within(line, &start)?;
                let taken = if n == 0 { done.ok() } else { done.either() };
                taken
                    .map(drop)
                    .map_err(|f| Fault::new(f.kind, format!("{what}: {}", f.text)))
            });
            c.flip = (1..71).contains(&n);
            out.push(c);
        }
    }
    out
}

fn zip_member(lab: &Lab) -> Vec<Case> {
    let pixels = lab.pictures[0].clone();
    let npz = foreign::npz(&[
        ("test_images", &[1, 8, 8, 3], &pixels),
        ("test_labels", &[1], &[0]),
    ]);
    let files = [
        (
            "pt",
            foreign::torch(),
            "calibrate d.pt --activation silu --normalization cifar10 --data @cifar.bin --degree 4 -o x.pvm",
        ),
        (
            "npz",
            npz,
            "encrypt --key @lev/A/client.key --data d.npz --split test --index 0 -o x.input",
        ),
    ];
    let mut out = Vec::new();
    for n in 0..11 {
        for (end, bytes, line) in &files {
            let (end, line, bytes) = (*end, *line, Arc::new(bytes.clone()));
            let mut c = case(format!("{end} {n}"), move |t| {
                let mut bytes = bytes.to_vec();
                // a byte of a member's values: behind the first local head and its pickle or NumPy head
                let at = match end {
                    "npz" => 30 + "test_images.npy".len() + 80 + t.random.below(100),
                    _ => {
                        let name = b"m/data/0";
                        let from = bytes.windows(name.len()).position(|w| w == name);
                        from.unwrap_or(0) + name.len() + t.random.below(36)
                    }
                };
                if n > 0 {
                    bytes[at] ^= 1 << t.random.below(8);
                }
                t.file(&format!("d.{end}"), &bytes)?;
                let done = t.polyveil(line)?;
                match n {
                    0 => done.ok().map(drop),
                    _ => done.refused(&["d."]).map(drop),
                }
            });
            c.flip = n > 0;
            out.push(c);
        }
    }
    out
}

fn in_use(_: &Lab) -> Vec<Case> {
    type Way = fn(&mut Vec<u8>);
    let ways: [(&str, Way); 3] = [
        ("changed", |b| {
            let from = b.len() / 2;
            b[from..].iter_mut().for_each(|v| *v ^= 1);
        }),
        ("cut", |b| b.truncate(b.len() / 2)),
        ("gone", Vec::clear),
    ];
    let mut out = Vec::new();
    for (name, change) in ways {
        for n in 0..4 {
            out.push(case(format!("{name} {n}"), move |t| {
                let mut bytes = t.bytes("@deep/A/evaluation.keys")?;
                t.scratch("keys", &bytes)?;
                let line = "run --plan @deep/net.plan --keys keys --input @deep/A/x.input -o x.answer --no-probe --machine shipped --keys-on-disk";
                let running = t.start(line, &[], &Start::default())?;
                let wait = t.lab.net("deep").run.mul_f64(0.2 + 0.6 * t.random.uniform());
                std::thread::sleep(wait);
                change(&mut bytes);
                match bytes.is_empty() {
                    true => drop(std::fs::remove_file(t.path("keys"))),
                    false => drop(t.scratch("keys", &bytes)?),
                }
                let done = running.end()?;
                match done.code {
                    Some(0) => t.same("x.answer", "@deep/A/x.answer"),
                    _ => done.refused(&["keys"]).map(drop),
                }
            }));
        }
    }
    out
}
