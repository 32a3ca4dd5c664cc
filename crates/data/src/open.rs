//! Which format a path holds, and what all formats have in common.

use crate::dataset::{Dataset, ITEM_BYTES, Store};
use crate::error::{Error, check_labels};
use crate::files::{Raw, is_gzip, name, resized, unpacked, visible};
use crate::options::{Labels, Options, Skipped};
use crate::{Result, cifar, folder, idx, npy, npz, tar};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use task::Picture;

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
            return Err(Error::option(format!(
                "{}: coarse labels are asked for, which only CIFAR-100 has; leave that out",
                path.display()
            )));
        }
        let raw = match found {
            Found::Folder => return folder::open_folder(path, options),
            Found::Tar(bytes) => return folder::open_tar(path, bytes, options),
            Found::Cifar(files) => cifar::open(path, files, options)?,
            Found::Idx(files) => idx::open(path, files, options)?,
            Found::Npz => npz::open(path, options)?,
        };
        Ok((finish(raw, path, options)?, Vec::new()))
    }
}

/// Whether a file is an `.npz`, whose sets are in parts, by its content; one that can't be read is none.
#[must_use]
pub fn is_npz(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).is_ok_and(|mut f| f.read_exact(&mut head).is_ok() && is_zip(&head))
}

/// Whether a file is a table by its name (`.csv`, `.tsv`) or an array by its content (`.npy`), gzipped or not; one that can't be read is none.
#[must_use]
pub fn is_table(path: &Path) -> bool {
    let name = name(path).to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let array = || {
        let mut head = [0; npy::MARK.len()];
        unpacked(path).is_ok_and(|mut f| f.read_exact(&mut head).is_ok() && head == *npy::MARK)
    };
    name.ends_with(".csv") || name.ends_with(".tsv") || path.is_file() && array()
}

fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
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
        let io = Error::io(path);
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
        if is_zip(&head) {
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
        // behind the tars: a folder's name may begin as a picture does
        if let Some(format) = picture_format(&head) {
            return Err(Error::content(
                path,
                format!(
                    "it is a picture in {format}; PNG and JPEG are read: save it as one of these"
                ),
            ));
        }
        match head[..] {
            [0, 0, _, 1, ..] if head[2] >= 8 => Err(Error::unknown(
                path,
                "it holds labels or a list; give the file with the images",
            )),
            [0, 0, 8..=14, 2..=4, ..] => Ok(Self::Idx(vec![path.into()])),
            [] => Err(Error::unknown(path, "it is empty")),
            _ => Err(Error::unknown(path, "its format is not known here")),
        }
    }
}

/// The name of a format of pictures that are not read.
fn picture_format(head: &[u8]) -> Option<&'static str> {
    match head {
        _ if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") => Some("WebP"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("BMP"),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some("TIFF"),
        _ if head.starts_with(b"GIF8") => Some("GIF"),
        _ => None,
    }
}

/// Checks the labels, chooses, resizes.
fn finish(raw: Raw, path: &Path, options: &Options) -> Result<Dataset> {
    let classes = options.classes.clone().unwrap_or(raw.classes);
    let label = |i: usize| usize::from(raw.labels[i]);
    let count = raw.labels.len();
    if !(options.labels != Labels::Needed && classes.is_empty()) {
        check_labels(path, (0..count).map(label), classes.len())?;
    }
    if count == 0 {
        return Err(Error::content(
            path,
            "there is no picture in it; choose another file or split",
        ));
    }
    let (had, shape) = (raw.shape, options.target(raw.shape));
    // pictures of one pixel are most of all what is noted about them; known before their numbers are listed
    let kept = options.limit.map_or(count, |most| most.min(count));
    let width = raw.holding.len() / count;
    let total = kept as u64 * (shape.len() + ITEM_BYTES + width) as u64;
    if total > options.memory_limit {
        return Err(Error::too_large(
            path,
            format!("the set in size {shape}"),
            options.memory_limit,
            "ask for a smaller size or fewer pictures",
        ));
    }
    let chosen = options.chosen(count);
    let labels = chosen.iter().map(|&i| label(i));
    let original = |i: usize| &raw.pixels[i * had.len()..(i + 1) * had.len()];
    let pixels = if shape == had && chosen.len() == count {
        raw.pixels
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
            .ok_or_else(|| {
                Error::option(format!(
                    "{}: pictures {had} can't be made {shape}; ask for another size",
                    path.display()
                ))
            })?;
        pixels
    };
    let store = Store::Pixels(pixels);
    let mut set = Dataset::from_store(shape, classes, store, labels);
    let holding = |&i: &usize| raw.holding[i * width..][..width].iter().copied();
    set.holding = (chosen.iter().flat_map(holding).collect(), width);
    set.divided = raw.divided;
    if shape.channels < had.channels {
        set.greyed = kept;
    }
    Ok(set)
}
