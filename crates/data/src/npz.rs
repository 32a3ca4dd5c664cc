//! `.npz`: a zip of NumPy arrays of bytes, as MedMNIST has them (`train_images`, `train_labels`, …).

use crate::Result;
use crate::error::Error;
use crate::open::{Raw, numbers, picture_shape, read_all, unpacked};
use crate::options::{Options, Split};
use flate2::read::DeflateDecoder;
use nn::format::zip::{self, Entry};
use std::path::Path;

const FORMAT: &str = ".npz";

struct Array {
    dims: Vec<usize>,
    values: Vec<u8>,
}

fn malformed(path: &Path, detail: impl Into<String>) -> Error {
    Error::Malformed {
        path: path.into(),
        format: FORMAT,
        detail: detail.into(),
    }
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

/// What follows `'key':` in the head of an array.
fn field<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    let at = head.find(&format!("'{key}':"))? + key.len() + 3;
    Some(head[at..].trim_start())
}

/// An array of bytes from `.npy` bytes.
fn array(path: &Path, name: &str, mut bytes: Vec<u8>) -> Result<Array> {
    let broken = || {
        malformed(
            path,
            format!("{name} is no NumPy array; save it with numpy.savez_compressed"),
        )
    };
    let (head, length) = match bytes[..] {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
            (10, u32::from(u16::from_le_bytes([a, b])))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            (12, u32::from_le_bytes([a, b, c, d]))
        }
        _ => return Err(broken()),
    };
    let start = head + length as usize;
    let text = bytes.get(head..start).ok_or_else(broken)?;
    let text = std::str::from_utf8(text).map_err(|_| broken())?;
    let kind = field(text, "descr").ok_or_else(broken)?;
    if !kind.starts_with("'|u1'") {
        let kind = kind.split(',').next().unwrap_or_default();
        return Err(malformed(
            path,
            format!(
                "{name} holds values of type {kind}, only bytes ('|u1') are read; convert it with .astype('uint8')"
            ),
        ));
    }
    if !field(text, "fortran_order")
        .ok_or_else(broken)?
        .starts_with("False")
    {
        return Err(malformed(
            path,
            format!("{name} is in Fortran order; save numpy.ascontiguousarray of it"),
        ));
    }
    let dims = field(text, "shape")
        .and_then(|s| s.strip_prefix('(')?.split_once(')'))
        .and_then(|(dims, _)| {
            dims.split(',')
                .map(str::trim)
                .filter(|d| !d.is_empty())
                .map(|d| d.parse::<usize>().ok())
                .collect::<Option<Vec<_>>>()
        })
        .ok_or_else(broken)?;
    let needed = dims.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
    if needed != Some(bytes.len() - start) {
        return Err(malformed(
            path,
            format!(
                "{name} promises {dims:?} values, {} are there; copy or download it again",
                bytes.len() - start
            ),
        ));
    }
    bytes.drain(..start);
    Ok(Array {
        dims,
        values: bytes,
    })
}

/// The labels of one array.
fn labels(path: &Path, name: &str, entry: &Entry<'_>, limit: u64) -> Result<Vec<u8>> {
    let array = array(path, name, inflated(path, name, entry, limit)?)?;
    match array.dims[..] {
        [_] | [_, 1] => Ok(array.values),
        _ => Err(malformed(
            path,
            format!(
                "{name} has shape {:?}; one label for each picture, (N) or (N, 1), is read",
                array.dims
            ),
        )),
    }
}

/// The images and labels of one split.
pub(crate) fn open(path: &Path, options: &Options) -> Result<Raw> {
    let limit = options.memory_limit;
    let bytes = read_all(unpacked(path)?, limit, path, FORMAT)?;
    let entries = zip::entries(&bytes).map_err(|e| match e {
        nn::Error::Truncated { detail, .. } => Error::Truncated {
            path: path.into(),
            format: FORMAT,
            detail,
        },
        nn::Error::Malformed { detail, .. } => malformed(path, detail),
        other => malformed(path, other.to_string()),
    })?;
    // MedMNIST's names, Keras's, and those of a file without splits
    let mut candidates = vec![
        (None, "images.npy".to_owned(), "labels.npy".to_owned()),
        (None, "x.npy".to_owned(), "y.npy".to_owned()),
    ];
    for split in Split::ALL {
        for n in split.names() {
            candidates.push((
                Some(split),
                format!("{n}_images.npy"),
                format!("{n}_labels.npy"),
            ));
            candidates.push((Some(split), format!("x_{n}.npy"), format!("y_{n}.npy")));
        }
    }
    candidates
        .retain(|(_, x, y)| entries.contains_key(x.as_str()) && entries.contains_key(y.as_str()));
    if candidates.is_empty() {
        let there: Vec<&str> = entries.keys().take(8).copied().collect();
        return Err(Error::Unknown {
            path: path.into(),
            detail: format!(
                "it holds [{}], no pair like train_images and train_labels",
                there.join(", ")
            ),
        });
    }
    // a split may lack the last classes
    let mut most = 0;
    for (_, _, y) in &candidates {
        let labels = labels(path, y, &entries[y.as_str()], limit)?;
        most = most.max(labels.iter().max().map_or(0, |&l| usize::from(l) + 1));
    }
    let parts = candidates
        .into_iter()
        .map(|(s, x, y)| (s, (x, y)))
        .collect();
    let chosen = options.of_split(path, parts)?;
    let [(x, y)] = &chosen[..] else {
        return Err(malformed(
            path,
            "it holds several pairs of images and labels for this split; save one pair",
        ));
    };
    let images = array(path, x, inflated(path, x, &entries[x.as_str()], limit)?)?;
    let shape = picture_shape(&images.dims).ok_or_else(|| {
        malformed(
            path,
            format!(
                "{x} has shape {:?}; (N, H, W), (N, H, W, 1) and (N, H, W, 3) are read",
                images.dims
            ),
        )
    })?;
    let labels = labels(path, y, &entries[y.as_str()], limit)?;
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
        pixels: images.values,
        labels,
        classes: numbers(most),
    })
}
