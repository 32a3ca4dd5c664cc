//! Reading files with limits, and what all formats have in common.

use crate::Result;
use crate::error::Error;
use crate::options::Resize;
use crate::shape::Shape;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use task::Picture;

/// The pictures of a format that holds values, `(N, H, W, C)`; `classes` are its own names for the labels.
pub(crate) struct Raw {
    pub(crate) shape: Shape,
    pub(crate) pixels: Vec<u8>,
    /// Small: there may be as many as pixels.
    pub(crate) labels: Vec<u16>,
    pub(crate) classes: Vec<String>,
    /// Which of several labels hold, as many for each picture; empty where there is a class each.
    pub(crate) holding: Vec<bool>,
    /// Whether the file has them as floats from 0 to 1, which were taken for pixels divided by 255.
    pub(crate) divided: bool,
}

/// Names of classes that have none.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}

/// How many classes these labels need at least.
pub(crate) fn classes_of(labels: &[u16]) -> usize {
    labels.iter().max().map_or(0, |&l| usize::from(l) + 1)
}

/// The shape of pictures `(N, H, W)` or `(N, H, W, C)`; None for other axes, channels but 1 and 3, pictures without pixels.
pub(crate) fn picture_shape(dims: &[usize]) -> Option<Shape> {
    let (height, width, channels) = match *dims {
        [_, height, width] => (height, width, 1),
        [_, height, width, channels @ (1 | 3)] => (height, width, channels),
        _ => return None,
    };
    // also where N is 0 and so the product of all
    let size = height.checked_mul(width)?.checked_mul(channels)?;
    (size > 0).then_some(Shape {
        height,
        width,
        channels,
    })
}

pub(crate) fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

/// The file as a stream, unpacked if it is gzipped.
pub(crate) fn unpacked(path: &Path) -> Result<Box<dyn Read>> {
    let io = Error::io(path);
    // its format is looked at before, and what was read of a pipe then is gone
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        let what = "it is no regular file, and is read more than once; save it as one first";
        return Err(io(std::io::Error::other(what)));
    }
    let open = || Ok(BufReader::new(File::open(path).map_err(io)?));
    let mut head = Vec::new();
    open()?.take(2).read_to_end(&mut head).map_err(io)?;
    Ok(if is_gzip(&head) {
        Box::new(MultiGzDecoder::new(open()?))
    } else {
        Box::new(open()?)
    })
}

/// All that a stream gives, at most `limit` bytes.
pub(crate) fn read_all(
    stream: impl Read,
    limit: u64,
    path: &Path,
    format: &'static str,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::reading(path, format, e))?;
    if bytes.len() as u64 > limit {
        return Err(Error::too_large(
            path,
            format!("what is read as {format}"),
            limit,
            "split it, or take a part of it",
        ));
    }
    Ok(bytes)
}

/// A path's last part, as text.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What lies in a folder, sorted by name, without hidden files.
pub(crate) fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = Error::io(folder);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if !name(&path).starts_with('.') {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// The picture as [`Resize`] says, where one is asked for.
pub(crate) fn resized(picture: Picture, to: Option<Resize>) -> Picture {
    let Some(to) = to else {
        return picture;
    };
    let (width, height) = picture.size();
    let scale = to.shorter as f64 / width.min(height) as f64;
    let part = |wanted: usize, had: usize| {
        let part = ((wanted as f64 / scale).round() as usize).clamp(1, had);
        ((had - part) / 2, part)
    };
    let ((x, w), (y, h)) = (part(to.width, width), part(to.height, height));
    picture.region((x, y), (w, h), (to.width, to.height))
}
