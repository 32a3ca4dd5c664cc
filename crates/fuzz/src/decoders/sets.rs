//! Sets of labelled pictures: `data::Dataset::open` on files, with options that the mutant chooses.

use crate::archives::{self, Array, Member, join};
use crate::decoder::{Decoder, Outcome, Probe, law, text_limit};
use crate::random::Random;
use crate::scratch::Scratch;
use crate::zip;
use crate::{bytes, models};
use data::{Damaged, Dataset, Labels, Options, Resize, Split};
use std::path::Path;

/// What the sets are opened with.
pub(super) const MEMORY_LIMIT: u64 = 1 << 20;

/// The limit in the options, for what is unpacked, for the set, for a copy of it while it is resized or sorted out, for vectors that
/// grow.
fn set_limit(bytes: &[u8]) -> usize {
    text_limit(bytes) + 6 * MEMORY_LIMIT as usize
}

/// Beside that one picture at a time, before it is resized: 512 MiB at most, and the picture decoder's own tables.
fn files_limit(bytes: &[u8]) -> usize {
    set_limit(bytes) + (512 << 20) + (16 << 20)
}

fn options(flags: u8) -> Options {
    let flag = |bit: u8| flags & 1 << bit != 0;
    Options {
        split: match flags & 3 {
            0 => None,
            TRAIN => Some(Split::Train),
            2 => Some(Split::Validation),
            _ => Some(Split::Test),
        },
        resize: flag(2).then_some(Resize {
            height: 3,
            width: 2,
            shorter: 4,
        }),
        channels: flag(3).then_some(1),
        limit: flag(4).then_some(2),
        damaged: if flag(5) {
            Damaged::Skip
        } else {
            Damaged::Refuse
        },
        keep_originals: flag(6),
        coarse: flag(7),
        memory_limit: MEMORY_LIMIT,
        ..Options::default()
    }
}

fn check(probe: &mut Probe<'_>, path: &Path, flags: u8) -> Outcome {
    let mut options = options(flags);
    if path.extension().is_some_and(|e| e == "npz") && options.coarse {
        (options.coarse, options.labels) = (false, Labels::Several);
    }
    let Ok((set, skipped)) = probe.count(|_| Dataset::open(path, &options)) else {
        return Ok(false);
    };
    let size = set.shape().len();
    let holds = !set.is_empty() && size > 0 && matches!(set.shape().channels, 1 | 3);
    law(holds, "a set has pictures")?;
    let holds = options.resize.is_none() || (set.shape().height, set.shape().width) == (3, 2);
    law(holds, "pictures have the size asked for")?;
    let holds = options.limit.is_none_or(|most| set.len() <= most);
    law(holds, "a set has no more pictures than were asked for")?;
    let holds = skipped.is_empty() || options.damaged == Damaged::Skip;
    law(holds, "nothing is left out unasked")?;
    // thousands of pictures say no more than some
    for i in (0..set.len()).step_by(set.len() / 16 + 1) {
        let pixels = set.pixels(i).map_err(|e| e.to_string())?;
        law(pixels.len() == size, "a picture has the set's shape")?;
        let several = set.holding(i).len();
        let holds = set.label(i) < set.classes().len() || several > 1;
        law(
            holds,
            "a label is the place of a class, or there are several",
        )?;
        let holds = several == 0 || options.labels == Labels::Several;
        law(holds, "several labels are read where they are asked for")?;
    }
    if set.len() * size <= 1 << 12
        && let Ok(n) = set.channel_statistics()
    {
        let tensor = set.tensor(0, &n).map_err(|e| e.to_string())?;
        let holds = tensor.values().iter().all(|v| v.is_finite());
        law(holds, "inputs are finite")?;
    }
    Ok(true)
}

/// A decoder of sets that are these files; `open` is what is opened of them, empty for the folder.
fn set(
    name: &'static str,
    limit: fn(&[u8]) -> usize,
    files: &'static [&'static str],
    open: &'static str,
    seeds: Vec<Vec<u8>>,
    mutate: impl Fn(&mut Random) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Decoder {
    let scratch = Scratch::new(name);
    let usual: Vec<u8> = seeds.iter().map(|s| s[0]).collect();
    let generate = move |r: &mut Random, _: &[Vec<u8>]| {
        let mut flags = *r.pick(&usual);
        if r.one_in(3) {
            flags ^= 1 << r.below(8);
        }
        join(flags, &mutate(r))
    };
    let decode = move |probe: &mut Probe<'_>| {
        let (flags, parts) = archives::split(probe.bytes, files.len());
        for (name, bytes) in files.iter().zip(parts) {
            // an empty file is none, so that what may be missing is
            if bytes.is_empty() {
                scratch.remove(name);
            } else {
                scratch.write(name, bytes);
            }
        }
        check(probe, &scratch.path().join(open), flags)
    };
    Decoder::new(name, seeds)
        .within(limit)
        .mutants(generate)
        .decodes(decode)
}

const TRAIN: u8 = 1;
const RESIZE: u8 = 4;
const GREY: u8 = 8;
const SKIP: u8 = 32;
const KEEP: u8 = 64;
const COARSE: u8 = 128;

fn cifar() -> Decoder {
    let records = |labels: &[u8]| {
        let record: Vec<u8> = (0..labels.len() + 3072)
            .map(|i| labels.get(i).copied().unwrap_or(i as u8))
            .collect();
        record.repeat(2)
    };
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("class {i}")).collect();
        names.join("\n").into_bytes()
    };
    let ten = vec![records(&[7]), Vec::new(), names(10), Vec::new()];
    let hundred = vec![records(&[19, 99]), Vec::new(), Vec::new(), names(100)];
    let both = vec![records(&[7]), records(&[9]), Vec::new(), Vec::new()];
    let seeds = vec![
        join(0, &ten),
        join(RESIZE | GREY, &hundred),
        join(COARSE, &hundred),
        join(TRAIN, &both),
    ];
    let all = [ten, hundred, both];
    set(
        "set-cifar",
        set_limit,
        &[
            "data_batch_1.bin",
            "test_batch.bin",
            "batches.meta.txt",
            "fine_label_names.txt",
        ],
        "",
        seeds,
        move |r| {
            let mut files = r.pick(&all).clone();
            for _ in 0..r.few() {
                match r.below(6) {
                    0 => {
                        let labels: Vec<u8> =
                            (0..=r.below(2)).map(|_| r.below(101) as u8).collect();
                        files[r.below(2)] = records(&labels);
                    }
                    1 => files[2] = names(9 + r.below(3)),
                    2 => {
                        let at = 2 + r.below(2);
                        bytes::mutate(r, &mut files[at]);
                    }
                    3 => {
                        // a label, whose place the length decides
                        let length = files[0].len();
                        if let Some(label) = files[0].get_mut(3073 * r.below(length / 3073 + 1)) {
                            *label = r.next() as u8;
                        }
                    }
                    _ => {
                        let at = r.below(2);
                        bytes::mutate(r, &mut files[at]);
                    }
                }
            }
            let at = r.below(4);
            files[at] = archives::packed(r, std::mem::take(&mut files[at]));
            files
        },
    )
}

/// Pictures of one value: so many that they fit into the memory limit, but nothing else does, and more.
fn crowds() -> [Vec<u64>; 2] {
    [
        vec![MEMORY_LIMIT * 3 / 4, 1, 1],
        vec![MEMORY_LIMIT * 4, 1, 1],
    ]
}

fn idx() -> Decoder {
    let pairs = [
        (Array::new(&[3, 2, 2]), Array::new(&[3])),
        (Array::new(&[2, 4, 3, 3]), Array::new(&[2])),
    ];
    let file =
        |(images, labels): &(Array, Array)| vec![images.idx(None), bytes::gzip(&labels.idx(None))];
    let seeds = vec![
        join(TRAIN, &file(&pairs[0])),
        join(RESIZE | GREY, &file(&pairs[1])),
    ];
    let crowds = crowds()
        .map(|axes| [Array::new(&axes), Array::new(&axes[..1])].map(|a| bytes::gzip(&a.idx(None))));
    set(
        "set-idx",
        set_limit,
        &["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        "train-images-idx3-ubyte",
        seeds,
        move |r| {
            if r.one_in(256) {
                return r.pick(&crowds).to_vec();
            }
            let (mut images, mut labels) = r.pick(&pairs).clone();
            for _ in 0..r.few() {
                if r.one_in(3) {
                    labels.mutate(r);
                } else {
                    images.mutate(r);
                }
            }
            [images, labels]
                .map(|a| {
                    let mut raw = a.idx(Some(&mut *r));
                    if r.one_in(16) {
                        bytes::mutate(r, &mut raw);
                    }
                    archives::packed(r, raw)
                })
                .to_vec()
        },
    )
}

fn npz() -> Decoder {
    let pairs = [
        (Array::new(&[3, 2, 2]), Array::new(&[3, 1])),
        (Array::new(&[2, 4, 3, 3]), Array::new(&[2])),
        (Array::new(&[1, 3, 3]), Array::new(&[1, 2])),
    ];
    let plain = |(images, labels): &(Array, Array)| [images.npy(None), labels.npy(None)];
    const NAMES: [[&str; 2]; 4] = [
        ["train_images", "train_labels"],
        ["images", "labels"],
        ["x_train", "y_train"],
        ["test_images", "test_labels"],
    ];
    let both = [(0, &pairs[0]), (3, &pairs[1])]
        .map(|(names, pair)| archives::npz(NAMES[names].into_iter().zip(plain(pair))));
    let several = archives::npz(NAMES[1].into_iter().zip(plain(&pairs[2])));
    let seeds = vec![
        join(TRAIN, &[zip::file(&both.concat()).0]),
        join(COARSE, &[zip::file(&several).0]),
    ];
    let crowds = crowds().map(|axes| {
        let arrays = plain(&(Array::new(&axes), Array::new(&axes[..1])));
        zip::file(&archives::npz(NAMES[1].into_iter().zip(arrays))).0
    });
    set("set-npz", set_limit, &["a.npz"], "a.npz", seeds, move |r| {
        if r.one_in(256) {
            return vec![r.pick(&crowds).clone()];
        }
        let mut all = Vec::new();
        for _ in 0..=r.below(2) {
            let (mut images, mut labels) = r.pick(&pairs).clone();
            if r.one_in(2) {
                images.mutate(r);
            }
            if r.one_in(4) {
                labels.mutate(r);
            }
            let names = *r.pick(&NAMES);
            let arrays = [images.npy(Some(&mut *r)), labels.npy(Some(&mut *r))];
            all.extend(archives::npz(names.into_iter().zip(arrays)));
        }
        if r.one_in(3) {
            zip::mutate(r, &mut all);
        }
        let raw = zip::encode(r, &all);
        let mut file = if r.one_in(4) {
            archives::packed(r, raw)
        } else {
            raw
        };
        if r.one_in(16) {
            bytes::mutate(r, &mut file);
        }
        vec![file]
    })
}

fn pictures() -> Vec<Vec<u8>> {
    let mut all = models::png();
    all.extend(models::jpeg());
    all
}

fn tar() -> Decoder {
    let pictures = pictures();
    let seed = vec![
        Member::new("@", b'L', b"train/cat/1.png\0"),
        Member::new("cut", b'0', &pictures[0]),
        Member::new("@", b'x', b"24 path=train/dog/a.png\n"),
        Member::new("cut", b'0', &pictures[1]),
        Member::new("train/dog/b.jpg", b'0', &pictures[4]),
        Member::new("readme", b'0', b"not a picture"),
    ];
    let file = archives::tar(&seed, None);
    let seeds = vec![
        join(0, &[bytes::gzip(&file)]),
        join(RESIZE | SKIP | KEEP, &[file]),
    ];
    // more pictures than may lie in memory at once, though each may, and more members
    let crowds = [(16, models::large_png()), (8192, Vec::new())].map(|(count, data)| {
        let all: Vec<Member> = (0..count)
            .map(|i| Member::new(&format!("a/{i:04}.png"), b'0', &data))
            .collect();
        bytes::gzip(&archives::tar(&all, None))
    });
    set(
        "set-tar",
        files_limit,
        &["a.tar"],
        "a.tar",
        seeds,
        move |r| {
            if r.one_in(1024) {
                return vec![r.pick(&crowds).clone()];
            }
            let raw = archives::generate_tar(r, &seed, &pictures);
            vec![archives::packed(r, raw)]
        },
    )
}

fn folder() -> Decoder {
    let pictures = pictures();
    let seeds = vec![
        join(
            TRAIN,
            &[
                pictures[0].clone(),
                pictures[4].clone(),
                pictures[1].clone(),
            ],
        ),
        join(
            TRAIN | SKIP | RESIZE,
            &[pictures[2].clone(), b"-".to_vec(), Vec::new()],
        ),
    ];
    set(
        "set-folder",
        files_limit,
        &["train/cat/1.png", "train/dog/2.jpg", "val/cat/3.jpeg"],
        "",
        seeds,
        move |r| {
            let mut files: Vec<Vec<u8>> = (0..3).map(|_| r.pick(&pictures).clone()).collect();
            for _ in 0..r.few() {
                let at = r.below(3);
                bytes::mutate(r, &mut files[at]);
            }
            files
        },
    )
}

pub(super) fn all() -> Vec<Decoder> {
    vec![cifar(), idx(), npz(), tar(), folder()]
}
