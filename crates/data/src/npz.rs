//! `.npz`: a zip of NumPy arrays; pictures as MedMNIST has them (`train_images`, `train_labels`, …).

use crate::Result;
use crate::error::Error;
use crate::files::{Raw, numbers, picture_shape, read_all, unpacked};
use crate::npy::{Array, Place};
use crate::options::{Options, of_split};
use crate::split::Split;
use flate2::read::DeflateDecoder;
use nn::format::zip::{self, Entry};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = ".npz";

fn malformed(path: &Path, detail: impl Into<String>) -> Error {
    Error::malformed(path, FORMAT, detail)
}

/// The bytes of an entry, its length and checksum as the directory says.
fn inflated(path: &Path, name: &str, entry: &Entry<'_>, limit: u64) -> Result<Vec<u8>> {
    let bytes = match entry.method {
        zip::STORED => read_all(entry.bytes, limit, path, FORMAT)?,
        zip::DEFLATED => read_all(DeflateDecoder::new(entry.bytes), limit, path, FORMAT)?,
        other => {
            return Err(malformed(
                path,
                format!(
                    "{name} is compressed by method {other}; save it with numpy.savez_compressed"
                ),
            ));
        }
    };
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    if bytes.len() != entry.size || crc.sum() != entry.crc {
        return Err(malformed(
            path,
            format!(
                "{name} is damaged (its length or checksum differs); copy or download it again"
            ),
        ));
    }
    Ok(bytes)
}

/// The arrays of a file by name, without `.npy`.
pub(crate) struct Entries<'a> {
    path: &'a Path,
    all: BTreeMap<String, Entry<'a>>,
}

impl<'a> Entries<'a> {
    pub(crate) fn read(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let entries = zip::entries(bytes).map_err(|e| match e {
            nn::Error::Truncated { detail, .. } => Error::truncated(path, FORMAT, detail),
            nn::Error::Malformed { detail, .. } => malformed(path, detail),
            other => malformed(path, other.to_string()),
        })?;
        let arrays = entries
            .into_iter()
            .filter_map(|(name, entry)| Some((name.strip_suffix(".npy")?.to_owned(), entry)));
        Ok(Self {
            path,
            all: arrays.collect(),
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.all.keys().cloned().collect()
    }

    pub(crate) fn place<'b>(&'b self, name: &'b str) -> Place<'b> {
        Place {
            path: self.path,
            format: FORMAT,
            name,
        }
    }

    pub(crate) fn array(&self, name: &str, limit: u64) -> Result<Array> {
        let bytes = inflated(self.path, name, &self.all[name], limit)?;
        Array::read(bytes, self.place(name))
    }
}

/// The images and labels of one split.
pub(crate) fn open(path: &Path, options: &Options) -> Result<Raw> {
    let limit = options.memory_limit;
    let bytes = read_all(unpacked(path)?, limit, path, FORMAT)?;
    let entries = Entries::read(path, &bytes)?;
    let there = entries.names();
    // MedMNIST's names, Keras's, and those of a file without splits
    let mut candidates = vec![
        (None, "images".to_owned(), "labels".to_owned()),
        (None, "x".to_owned(), "y".to_owned()),
    ];
    for (split, n) in Split::spelled() {
        candidates.push((Some(split), format!("{n}_images"), format!("{n}_labels")));
        candidates.push((Some(split), format!("x_{n}"), format!("y_{n}")));
    }
    candidates.retain(|(_, x, y)| there.contains(x) && there.contains(y));
    if candidates.is_empty() {
        return Err(Error::unknown(
            path,
            format!(
                "it holds [{}], no pair like train_images and train_labels",
                there[..there.len().min(8)].join(", ")
            ),
        ));
    }
    // a split may lack the last classes
    let mut most = 0;
    for (_, _, y) in &candidates {
        let labels = entries.array(y, limit)?.labels(entries.place(y))?;
        most = most.max(labels.iter().max().map_or(0, |&l| usize::from(l) + 1));
    }
    let parts = candidates
        .into_iter()
        .map(|(s, x, y)| (s, (x, y)))
        .collect();
    let chosen = of_split(path, options.split, parts)?;
    let [(x, y)] = &chosen[..] else {
        return Err(malformed(
            path,
            "it holds several pairs of images and labels for this split; save one pair",
        ));
    };
    let images = entries.array(x, limit)?;
    let shape = picture_shape(&images.dims).ok_or_else(|| {
        malformed(
            path,
            format!(
                "{x} has shape {:?}; (N, H, W), (N, H, W, 1) and (N, H, W, 3) are read",
                images.dims
            ),
        )
    })?;
    let labels = entries.array(y, limit)?.labels(entries.place(y))?;
    if labels.len() != images.dims[0] {
        return Err(malformed(
            path,
            format!(
                "{y} has {} labels for the images {:?} of {x}; save as many of both",
                labels.len(),
                images.dims
            ),
        ));
    }
    Ok(Raw {
        shape,
        pixels: images.into_bytes(entries.place(x))?,
        labels,
        classes: numbers(most),
    })
}
