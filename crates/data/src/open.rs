//! Which format a path holds, and what all formats have in common.

use crate::dataset::{Dataset, ITEM_BYTES, Shape, Store};
use crate::error::Error;
use crate::options::{Options, Resize, Skipped};
use crate::{Result, cifar, folder, idx, npz, tar};
use flate2::read::MultiGzDecoder;
use nn::picture::Picture;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The pictures of a format that holds values, `(N, H, W, C)`; `classes` are its own names for the labels.
pub(crate) struct Raw {
    pub(crate) shape: Shape,
    pub(crate) pixels: Vec<u8>,
    /// A byte each: there may be as many as pixels.
    pub(crate) labels: Vec<u8>,
    pub(crate) classes: Vec<String>,
}

/// Names of classes that have none.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
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

impl Dataset {
    /// Reads a set of pictures; the second value lists those that were left out ([`crate::Damaged::Skip`]).
    ///
    /// Folders: `root/CLASS/*.jpg`, `.jpeg` or `.png`, or the same below `train`, `val`, `test`; hidden files and files of other
    /// names are no part of the set. Every picture is decoded here, those too that are decoded again at each access.
    ///
    /// # Errors
    /// All of [`Error`] but those of two sets.
    pub fn open(path: &Path, options: &Options) -> Result<(Self, Vec<Skipped>)> {
        options.check()?;
        let found = Found::at(path)?;
        if options.coarse && !matches!(found, Found::Cifar(_)) {
            return Err(Error::Option {
                detail: format!(
                    "{}: coarse labels are asked for, which only CIFAR-100 has; leave that out",
                    path.display()
                ),
            });
        }
        let raw = match found {
            Found::Folder => return folder::open_folder(path, options),
            Found::Tar(bytes) => return folder::open_tar(path, bytes, options),
            Found::Cifar(files) => cifar::open(path, files, options)?,
            Found::Idx(files) => idx::open(path, files, options)?,
            Found::Npz => npz::open(path, options)?,
        };
        Ok((raw.finish(path, options)?, Vec::new()))
    }
}

/// What lies at a path.
enum Found {
    Folder,
    Tar(Box<dyn Read>),
    Cifar(Vec<PathBuf>),
    Idx(Vec<PathBuf>),
    Npz,
}

impl Found {
    fn at(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        if path.is_dir() {
            let files: Vec<PathBuf> = visible(path)?.into_iter().filter(|p| p.is_file()).collect();
            let these = |is: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
                files.iter().filter(|p| is(&name(p))).cloned().collect()
            };
            let (cifar, idx) = (these(&|n| n.ends_with(".bin")), these(&idx::is_images));
            return Ok(match (cifar.is_empty(), idx.is_empty()) {
                (false, _) => Self::Cifar(cifar),
                (true, false) => Self::Idx(idx),
                (true, true) => Self::Folder,
            });
        }
        if name(path).ends_with(".bin") {
            return Ok(Self::Cifar(vec![path.into()]));
        }
        let mut head = Vec::new();
        let file = BufReader::new(File::open(path).map_err(io)?);
        file.take(512).read_to_end(&mut head).map_err(io)?;
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Ok(Self::Npz);
        }
        let gzipped = is_gzip(&head);
        if gzipped {
            head.clear();
            unpacked(path)?
                .take(512)
                .read_to_end(&mut head)
                .map_err(|e| Error::reading(path, "gzip", e))?;
        }
        if tar::is_header(&head) {
            return Ok(Self::Tar(unpacked(path)?));
        }
        match head[..] {
            [0, 0, _, 1, ..] if head[2] >= 8 => Err(Error::Unknown {
                path: path.into(),
                detail: "it holds labels or a list; give the file with the images".into(),
            }),
            [0, 0, 8..=14, 2..=4, ..] => Ok(Self::Idx(vec![path.into()])),
            _ => Err(Error::Unknown {
                path: path.into(),
                detail: if head.is_empty() {
                    "it is empty".into()
                } else {
                    "its format is not known here".into()
                },
            }),
        }
    }
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

/// The file as a stream, unpacked if it is gzipped.
pub(crate) fn unpacked(path: &Path) -> Result<Box<dyn Read>> {
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
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
        return Err(Error::TooLarge {
            path: path.into(),
            what: format!("what is read as {format}"),
            limit,
            remedy: "raise the memory limit if you trust the file",
        });
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
    let io = |source| Error::Io {
        path: folder.into(),
        source,
    };
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

impl Raw {
    /// Checks the labels, chooses, resizes.
    fn finish(self, path: &Path, options: &Options) -> Result<Dataset> {
        let classes = options.classes.clone().unwrap_or(self.classes);
        let label = |i: usize| usize::from(self.labels[i]);
        let count = self.labels.len();
        if let Some(index) = (0..count).find(|&i| label(i) >= classes.len()) {
            return Err(Error::Label {
                path: path.into(),
                index,
                label: label(index).to_string(),
                classes: classes.len(),
            });
        }
        if count == 0 {
            return Err(Error::Empty {
                path: path.into(),
                detail: "there is no picture in it; choose another file or split".into(),
            });
        }
        let (had, shape) = (self.shape, options.target(self.shape));
        // pictures of one pixel are most of all what is noted about them
        let total = options.chosen(count).len() as u64 * (shape.len() + ITEM_BYTES) as u64;
        if total > options.memory_limit {
            return Err(Error::TooLarge {
                path: path.into(),
                what: format!("the set in size {shape}"),
                limit: options.memory_limit,
                remedy: "raise the memory limit, or ask for a smaller size or fewer pictures",
            });
        }
        let chosen: Vec<usize> = options.chosen(count).collect();
        let labels = chosen.iter().map(|&i| label(i));
        let original = |i: usize| &self.pixels[i * had.len()..(i + 1) * had.len()];
        let pixels = if shape == had && chosen.len() == count {
            self.pixels
        } else if shape == had {
            chosen.iter().flat_map(|&i| original(i)).copied().collect()
        } else {
            let mut pixels = vec![0; chosen.len() * shape.len()];
            pixels
                .par_chunks_exact_mut(shape.len())
                .zip(&chosen)
                .try_for_each(|(out, &i)| {
                    let picture = Picture::from_pixels(
                        had.width,
                        had.height,
                        had.channels,
                        original(i).to_vec(),
                    )?;
                    let picture = resized(picture, options.resize);
                    out.copy_from_slice(&picture.pixels(shape.channels)?);
                    Some(())
                })
                .ok_or_else(|| Error::Option {
                    detail: format!(
                        "{}: pictures {had} can't be made {shape}; ask for another size",
                        path.display()
                    ),
                })?;
            pixels
        };
        let store = Store::Pixels(pixels);
        Ok(Dataset::from_store(shape, classes, store, labels))
    }
}
