//! Every decoder of bytes from outside, with seeds made here.

mod language;
mod networks;
mod own;
mod pictures;
mod published;
mod records;
mod requests;
mod runs;
mod sets;
mod task;
mod texts;
mod training;
mod vectors;

use crate::decoder::Decoder;
use std::collections::BTreeMap;

/// All decoders; each name is unique.
pub(crate) fn all() -> Vec<Decoder> {
    let all = [
        own::all(),
        records::all(),
        requests::all(),
        runs::all(),
        networks::all(),
        language::all(),
        published::all(),
        task::all(),
        texts::all(),
        pictures::all(),
        sets::all(),
        vectors::all(),
        training::all(),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>();
    let names: BTreeMap<&str, usize> = all.iter().map(|d| (d.name, d.seeds.len())).collect();
    debug_assert!(names.len() == all.len() && names.values().all(|&seeds| seeds > 0));
    all
}
