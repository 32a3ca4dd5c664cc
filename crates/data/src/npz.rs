//! `.npz`: a zip of NumPy arrays; pictures as MedMNIST has them (`train_images`, `train_labels`, …).

use crate::Result;
use crate::error::Error;
use crate::files::{Raw, classes_of, numbers, read_all, unpacked};
use crate::npy::{Array, Place};
use crate::options::{Labels, Options, of_split};
use crate::split::Split;
use flate2::read::DeflateDecoder;
use nn::format::zip::{self, Entry};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = ".npz";

/// The arrays of a file by name, without `.npy`.
pub(crate) struct Entries<'a> {
    path: &'a Path,
    all: BTreeMap<String, Entry<'a>>,
}

impl<'a> Entries<'a> {
    pub(crate) fn read(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let entries = zip::entries(bytes).map_err(|e| match e {
            nn::Error::Truncated { detail, .. } => Error::truncated(path, FORMAT, detail),
            nn::Error::Malformed { detail, .. } => Error::malformed(path, FORMAT, detail),
            other => Error::malformed(path, FORMAT, other.to_string()),
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

    /// The array of a name that is there; its bytes have the length and checksum that the directory says.
    pub(crate) fn array(&self, name: &str, limit: u64) -> Result<Array> {
        let (path, place, entry) = (self.path, self.place(name), &self.all[name]);
        let bytes = match entry.method {
            zip::STORED => read_all(entry.bytes, limit, path, FORMAT)?,
            zip::DEFLATED => read_all(DeflateDecoder::new(entry.bytes), limit, path, FORMAT)?,
            other => {
                return Err(place.malformed(format_args!(
                    "is compressed by method {other}; save it with numpy.savez_compressed"
                )));
            }
        };
        if entry.expect(name, &bytes).is_err() {
            let detail = "is damaged (its length or checksum differs); copy or download it again";
            return Err(place.malformed(detail));
        }
        Array::read(bytes, place)
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
    let optional = options.labels == Labels::Optional;
    candidates.retain(|(_, x, y)| there.contains(x) && (optional || there.contains(y)));
    if candidates.is_empty() {
        return Err(Error::unknown(
            path,
            format!(
                "it holds [{}], no pair like train_images and train_labels",
                there[..there.len().min(8)].join(", ")
            ),
        ));
    }
    let labels_of = |y: &String| -> Result<Option<Vec<u16>>> {
        if !there.contains(y) {
            return Ok(None);
        }
        let array = entries.array(y, limit)?;
        if options.labels == Labels::Several && array.is_several() {
            return Ok(None);
        }
        match array.labels(entries.place(y)) {
            // several labels each, or numbers to predict: nobody asks for classes
            Err(_) if optional => Ok(None),
            labels => labels.map(Some),
        }
    };
    // a split may lack the last classes
    let mut most = 0;
    for (_, _, y) in &candidates {
        most = most.max(labels_of(y)?.map_or(0, |all| classes_of(&all)));
    }
    let parts = candidates.into_iter().map(|(s, x, y)| (s, (x, y)));
    let chosen = of_split(path, options.split, parts.collect())?;
    let [(x, y)] = &chosen[..] else {
        let detail = "it holds several pairs of images and labels for this split; save one pair";
        return Err(Error::malformed(path, FORMAT, detail));
    };
    let images = entries.array(x, limit)?;
    let dims = images.dims.clone();
    let mut holding = Vec::new();
    let (labels, most) = match labels_of(y)? {
        Some(labels) => (labels, most),
        None if options.labels == Labels::Several => {
            let array = entries.array(y, limit)?;
            holding = array.several(entries.place(y))?;
            (vec![0; array.dims[0]], 0)
        }
        None => (vec![0; dims.first().copied().unwrap_or(0)], 0),
    };
    if labels.len() != dims[0] {
        return Err(entries.place(y).malformed(format_args!(
            "has {} labels for the images {dims:?} of {x}; save as many of both",
            labels.len()
        )));
    }
    let (pixels, shape, divided) = images.pictures(entries.place(x))?;
    Ok(Raw {
        shape,
        pixels,
        labels,
        classes: numbers(most),
        holding,
        divided,
    })
}
