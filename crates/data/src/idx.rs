//! IDX files (MNIST, Fashion-MNIST): a file of images and one of labels, paired by name.

use crate::Result;
use crate::error::Error;
use crate::files::{Raw, classes_of, name, numbers, picture_shape, read_all, unpacked};
use crate::options::{Options, of_split};
use crate::split::Split;
use std::path::{Path, PathBuf};

const FORMAT: &str = "IDX";

/// Whether a file's name is that of images.
pub(crate) fn is_images(name: &str) -> bool {
    name.contains("images") && name.contains("idx")
}

/// An array of bytes: its axes' lengths and values.
fn array(path: &Path, limit: u64) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut bytes = read_all(unpacked(path)?, limit, path, FORMAT)?;
    let malformed = |detail: String| Error::malformed(path, FORMAT, detail);
    let truncated = |detail: String| Error::truncated(path, FORMAT, detail);
    let axes = match bytes[..] {
        [0, 0, 8, axes @ 1..=4, ..] => usize::from(axes),
        [0, 0, kind @ 9..=14, ..] => {
            return Err(malformed(format!(
                "its values are of type {kind:#04x}, only bytes (0x08) are read; convert it"
            )));
        }
        [0, 0, 8, axes, ..] => {
            return Err(malformed(format!(
                "it has {axes} axes; images have 3 or 4, labels 1"
            )));
        }
        _ => return Err(malformed("it begins with another mark; is it one?".into())),
    };
    let head = 4 + 4 * axes;
    let dims: Vec<usize> = bytes
        .get(4..head)
        .ok_or_else(|| truncated("its head is cut off".into()))?
        .chunks_exact(4)
        .map(|d| d.iter().fold(0, |v, &b| v << 8 | usize::from(b)))
        .collect();
    let needed = dims.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
    let had = bytes.len() - head;
    if needed.is_none_or(|needed| needed > had) {
        return Err(truncated(format!(
            "its head promises {dims:?} values, {had} are there"
        )));
    }
    if needed != Some(had) {
        return Err(malformed(format!(
            "its head promises {dims:?} values, {had} are there; copy or download it again"
        )));
    }
    bytes.drain(..head);
    Ok((dims, bytes))
}

/// The labels of a file of images.
fn labels_of(images: &Path) -> Result<PathBuf> {
    let had = name(images);
    let wanted = had
        .replace("images", "labels")
        .replace("idx3", "idx1")
        .replace("idx4", "idx1");
    let plain = wanted.strip_suffix(".gz").unwrap_or(&wanted).to_owned();
    [wanted.clone(), plain.clone(), format!("{plain}.gz")]
        .iter()
        .filter(|n| **n != had)
        .map(|n| images.with_file_name(n))
        .find(|p| p.is_file())
        .ok_or_else(|| {
            let detail = match had.contains("images") {
                true => format!("its labels are missing; put {wanted} beside it"),
                false => "labels are found by name; call this file NAME-images-idx3-ubyte and its labels NAME-labels-idx1-ubyte".into(),
            };
            Error::content(images, detail)
        })
}

/// One pair of files.
pub(crate) fn open(path: &Path, mut files: Vec<PathBuf>, options: &Options) -> Result<Raw> {
    // unpacked ones before gzipped ones of the same name
    files.dedup_by(|b, a| name(b).strip_suffix(".gz") == Some(name(a).as_str()));
    let parts = files.into_iter().map(|f| (Split::of_file(&name(&f)), f));
    let files = of_split(path, options.split, parts.collect())?;
    let [images] = &files[..] else {
        return Err(Error::unknown(
            path,
            "several files of images lie there; name one of them",
        ));
    };
    let (dims, pixels) = array(images, options.memory_limit)?;
    let shape = picture_shape(&dims).ok_or_else(|| {
        let detail =
            format!("{dims:?} is no list of grey or colour pictures; is it another kind of data?");
        Error::malformed(images, FORMAT, detail)
    })?;
    let labels_path = labels_of(images)?;
    let (labels_dims, labels) = array(&labels_path, options.memory_limit)?;
    if labels_dims[..] != dims[..1] {
        let detail = format!(
            "it has labels {labels_dims:?} for {} images; find the file that belongs to {}",
            dims[0],
            name(images)
        );
        return Err(Error::malformed(labels_path, FORMAT, detail));
    }
    let labels: Vec<u16> = labels.into_iter().map(u16::from).collect();
    Ok(Raw {
        shape,
        pixels,
        classes: numbers(classes_of(&labels)),
        labels,
        holding: Vec::new(),
        divided: false,
    })
}
