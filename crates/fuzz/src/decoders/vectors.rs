//! Sets of plain vectors: `data::Vectors::open` on a CSV, `.npy` or `.npz` file, with options that the mutant chooses.

use super::sets::MEMORY_LIMIT;
use crate::archives::{self, Array, join};
use crate::bytes;
use crate::decoder::{Decoder, Outcome, Probe, law, text_limit};
use crate::random::Random;
use crate::scratch::Scratch;
use crate::zip;
use data::{Answers, Known, VectorOptions, Vectors};
use std::path::Path;

/// The limit in the options for what is unpacked and for the values, copies of them, different texts of labels with their places.
fn limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + 16 * MEMORY_LIMIT as usize
}

fn check(probe: &mut Probe<'_>, path: &Path, flags: u8) -> Outcome {
    let options = VectorOptions {
        answers: match flags & 3 {
            0 => Answers::None,
            1 => Answers::Classes(None),
            2 => Answers::Classes(Some("2".into())),
            _ => Answers::Numbers(vec!["y".into()]),
        },
        limit: (flags & 4 != 0).then_some(2),
        memory_limit: MEMORY_LIMIT,
        ..VectorOptions::default()
    };
    let Ok(set) = probe.count(|_| Vectors::open(path, &options)) else {
        return Ok(false);
    };
    law(
        !set.is_empty() && set.width() > 0 && options.limit.is_none_or(|most| set.len() <= most),
        "a set has vectors, and no more than were asked for",
    )?;
    for i in (0..set.len()).step_by(set.len() / 16 + 1) {
        let row = set.values(i);
        let holds = row.len() == set.width() && row.iter().all(|v| v.is_finite());
        law(holds, "a vector is finite and has the set's width")?;
        let known = match set.known() {
            Known::Nothing => options.answers == Answers::None,
            Known::Classes { names, .. } => set.label(i).is_some_and(|l| l < names.len()),
            Known::Numbers { width, .. } => set.target(i).len() == *width,
        };
        law(known, "what was asked for is known of every vector")?;
    }
    Ok(true)
}

fn generate_table(r: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut table = r.pick(seeds).to_vec();
    if r.one_in(64) {
        table = table.repeat(1 << r.below(12));
    }
    for _ in 0..r.few() {
        let at = r.below(table.len() + 1);
        match r.below(3) {
            0 => table.insert(at, *r.pick(b",;\t\"\n\r.-e0")),
            1 => drop(table.drain(r.span(table.len()))),
            _ => bytes::mutate(r, &mut table),
        }
    }
    archives::packed(r, table)
}

pub(super) fn all() -> Vec<Decoder> {
    let tables: [&[u8]; 4] = [
        b"x,y\n1,2\n-3.5e2,1\n",
        b"a;b;label\n1;.5;cat\n2;1;\"d\"\"og\"\n\n",
        b"\xef\xbb\xbf5\t2\n3\t4\r\n",
        b"\"a\nb\",y\r\n0,7\n",
    ];
    let arrays = [
        Array::new(&[3, 2]),
        Array::new(&[4]),
        Array::new(&[2, 1, 2]),
    ];
    const NAMES: [&str; 6] = ["x", "y", "x_train", "y_train", "data", "target"];
    let pair = [
        ("x", arrays[0].npy(None)),
        ("y", Array::new(&[3]).npy(None)),
    ];
    let table = |(flags, table): (u8, &&[u8])| join(flags, &[table.to_vec()]);
    let mut seeds: Vec<_> = (0..).zip(&tables).map(table).collect();
    seeds.push(join(0, &[arrays[0].npy(None)]));
    seeds.push(join(1, &[zip::file(&archives::npz(pair)).0]));
    let scratch = Scratch::new("set-vectors");
    let generate = move |r: &mut Random, _: &[Vec<u8>]| {
        let file = match r.below(4) {
            0 => {
                let mut array = r.pick(&arrays).clone();
                array.mutate(r);
                array.npy(Some(&mut *r))
            }
            1 => {
                let mut all = Vec::new();
                for _ in 0..=r.below(3) {
                    let mut array = r.pick(&arrays).clone();
                    if r.one_in(2) {
                        array.mutate(r);
                    }
                    let name = *r.pick(&NAMES);
                    all.push((name, array.npy(Some(&mut *r))));
                }
                let mut all = archives::npz(all);
                if r.one_in(4) {
                    zip::mutate(r, &mut all);
                }
                zip::encode(r, &all)
            }
            _ => generate_table(r, &tables),
        };
        join(r.below(8) as u8, &[file])
    };
    let decode = move |probe: &mut Probe<'_>| {
        let (flags, parts) = archives::split(probe.bytes, 1);
        let path = scratch.write("a", parts[0]);
        check(probe, &path, flags)
    };
    vec![
        Decoder::new("set-vectors", seeds)
            .within(limit)
            .mutants(generate)
            .decodes(decode),
    ]
}
