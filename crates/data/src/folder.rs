//! Picture files in a folder or tar, a class a folder (ImageNet's layout).

use crate::dataset::{Dataset, Store};
use crate::error::Error;
use crate::files::{name, resized, visible};
use crate::options::{Damaged, Options, Skipped, of_split};
use crate::source::Source;
use crate::split::Split;
use crate::{Result, Shape, tar};
use rayon::prelude::*;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use task::picture::FILE_LIMIT;

struct Found {
    class: String,
    /// File name, for the order within a class.
    file: String,
    source: Source,
}

fn is_picture(file: &str) -> bool {
    let extension = Path::new(file).extension().unwrap_or_default();
    !file.starts_with('.')
        && ["jpg", "jpeg", "png"]
            .iter()
            .any(|e| extension.eq_ignore_ascii_case(e))
}

/// A folder of classes, or of splits that are folders of classes.
pub(crate) fn open_folder(path: &Path, options: &Options) -> Result<(Dataset, Vec<Skipped>)> {
    let folders = |at: &Path| -> Result<Vec<PathBuf>> {
        Ok(visible(at)?.into_iter().filter(|p| p.is_dir()).collect())
    };
    let children = folders(path)?;
    let split = |folder: &PathBuf| Split::of_folder(&name(folder));
    let parts: Vec<(Option<Split>, PathBuf)> =
        if !children.is_empty() && children.iter().all(|c| split(c).is_some()) {
            children.into_iter().map(|c| (split(&c), c)).collect()
        } else {
            vec![(split(&path.to_path_buf()), path.into())]
        };
    let mut found = Vec::new();
    for part in of_split(path, options.split, parts)? {
        for class in folders(&part)? {
            let before = found.len();
            for file in visible(&class)? {
                if file.is_dir() {
                    return Err(Error::unknown(
                        file,
                        "a folder in a class's folder, where only pictures are expected",
                    ));
                }
                if is_picture(&name(&file)) {
                    found.push(Found {
                        class: name(&class),
                        file: name(&file),
                        source: Source::File(file),
                    });
                }
            }
            if found.len() == before {
                return Err(Error::content(
                    class,
                    "this class has no picture (.jpg, .jpeg, .png); add some or remove the folder",
                ));
            }
        }
    }
    finish(path, found, options)
}

/// A tar of the same, compressed pictures kept in memory.
pub(crate) fn open_tar(
    path: &Path,
    stream: impl Read,
    options: &Options,
) -> Result<(Dataset, Vec<Skipped>)> {
    // split, class and file of a member's name
    let parts = |member: &str| -> Option<(Option<Split>, String, String)> {
        let mut parts = member.rsplit('/').filter(|p| !p.is_empty() && *p != ".");
        let (file, class) = (parts.next()?, parts.next()?);
        let split = parts.next().and_then(Split::of_folder);
        (is_picture(file) && !class.starts_with('.')).then(|| (split, class.into(), file.into()))
    };
    let mut all = Vec::new();
    let limit = options.memory_limit;
    tar::members(
        stream,
        path,
        FILE_LIMIT,
        limit,
        |member| parts(member).is_some(),
        |member, bytes| {
            if let Some((split, class, file)) = parts(&member) {
                let source = Source::Member {
                    name: format!("{}: {member}", path.display()),
                    bytes,
                };
                all.push((
                    split,
                    Found {
                        class,
                        file,
                        source,
                    },
                ));
            }
        },
    )?;
    finish(path, of_split(path, options.split, all)?, options)
}

fn finish(
    path: &Path,
    mut found: Vec<Found>,
    options: &Options,
) -> Result<(Dataset, Vec<Skipped>)> {
    let empty = |detail: &str| Error::content(path, detail);
    found.sort_by(|a, b| (&a.class, &a.file).cmp(&(&b.class, &b.file)));
    let classes = options.classes.clone().unwrap_or_else(|| {
        let mut names: Vec<String> = found.iter().map(|f| f.class.clone()).collect();
        names.dedup();
        names
    });
    let chosen: Vec<usize> = options.chosen(found.len());
    let mut all: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let found: Vec<Found> = chosen.iter().filter_map(|&i| all[i].take()).collect();
    if found.is_empty() {
        return Err(empty(
            "there is no CLASS/*.jpg, .jpeg or .png in it; give the folder or tar that holds one folder for each class",
        ));
    }
    let numbers: HashMap<&String, usize> = classes.iter().zip(0..).collect();
    let mut labels = Vec::new();
    for (index, f) in found.iter().enumerate() {
        let label = numbers.get(&f.class).copied();
        labels.push(label.ok_or_else(|| Error::label(path, index, &f.class, classes.len()))?);
    }
    let mut decoded = Decoded::of(&found, options)?;
    let shape = decoded
        .shape
        .ok_or_else(|| empty("every picture in it is damaged; copy or download it again"))?;
    let labels = decoded.good.iter().map(|&i| labels[i]);
    let store = match decoded.pixels.take() {
        Some(pixels) => Store::Pixels(pixels),
        None => {
            let mut all: Vec<Option<Found>> = found.into_iter().map(Some).collect();
            let good = decoded.good.iter().filter_map(|&i| all[i].take());
            Store::Sources(good.map(|f| f.source).collect(), options.resize)
        }
    };
    let mut set = Dataset::from_store(shape, classes, store, labels);
    (set.transparent, set.greyed) = (decoded.transparent, decoded.greyed);
    set.by_name = options.classes.is_none();
    Ok((set, decoded.skipped))
}

/// Bytes that decoding a picture may take whatever the limit of its set is.
const ORDINARY: u64 = 64 << 20;

/// What decoding every picture once gave.
struct Decoded {
    shape: Option<Shape>,
    /// Which are not damaged.
    good: Vec<usize>,
    /// Their values; None when the files are to be decoded again at each access.
    pixels: Option<Vec<u8>>,
    skipped: Vec<Skipped>,
    /// How many are partly transparent.
    transparent: usize,
    /// How many have colours that are lost.
    greyed: usize,
}

/// One picture: its size, its pixels where they are kept, whether it is partly transparent, and whether colours are lost.
type One = (Shape, Vec<u8>, [bool; 2]);

impl Decoded {
    fn of(found: &[Found], options: &Options) -> Result<Self> {
        let mut out = Self {
            shape: None,
            good: Vec::new(),
            pixels: (!options.keep_originals).then(Vec::new),
            skipped: Vec::new(),
            transparent: 0,
            greyed: 0,
        };
        let most = 16 * rayon::current_num_threads();
        // each thread decodes one; the limit is of a set's values, and may be small
        let limit = (options.memory_limit / rayon::current_num_threads() as u64).max(ORDINARY);
        let mut done = 0;
        while done < found.len() {
            // no more values wait to be added than may be kept; the first picture says how large they are
            let (known, held) = (out.shape, out.pixels.as_ref().map(Vec::len));
            let count = match (known, held) {
                (_, None) => most,
                (None, _) => 1,
                (Some(shape), Some(held)) => {
                    let room = options.memory_limit.saturating_sub(held as u64);
                    (room / shape.len() as u64).clamp(1, most as u64) as usize
                }
            };
            let chunk = &found[done..found.len().min(done + count)];
            let decoded: Vec<Result<One>> = chunk
                .par_iter()
                .map(|f| {
                    let picture = resized(f.source.picture_within(limit)?, options.resize);
                    let (width, height) = picture.size();
                    let shape = Shape {
                        height,
                        width,
                        channels: options.channels.unwrap_or(3),
                    };
                    let kept = held.is_some() && known.is_none_or(|k| k == shape);
                    let values = kept.then(|| picture.pixels(shape.channels)).flatten();
                    let greyed = shape.channels == 1 && picture.coloured();
                    let lost = [picture.transparent(), greyed];
                    Ok((shape, values.unwrap_or_default(), lost))
                })
                .collect();
            for (i, result) in decoded.into_iter().enumerate() {
                match result {
                    Ok((shape, values, [transparent, greyed])) => {
                        out.transparent += usize::from(transparent);
                        out.greyed += usize::from(greyed);
                        out.add(done + i, &chunk[i].source, shape, &values, options)?;
                    }
                    Err(Error::Damaged { picture, reason }) if options.damaged == Damaged::Skip => {
                        out.skipped.push(Skipped { picture, reason });
                    }
                    Err(e) => return Err(e),
                }
            }
            done += chunk.len();
        }
        Ok(out)
    }

    fn add(
        &mut self,
        index: usize,
        source: &Source,
        shape: Shape,
        values: &[u8],
        options: &Options,
    ) -> Result<()> {
        let first = *self.shape.get_or_insert(shape);
        if shape != first {
            return Err(Error::MixedSizes {
                picture: source.name(),
                needed: (first.width, first.height),
                had: (shape.width, shape.height),
            });
        }
        self.good.push(index);
        if let Some(pixels) = &mut self.pixels {
            if (pixels.len() + values.len()) as u64 > options.memory_limit {
                self.pixels = None;
            } else {
                pixels.extend(values);
            }
        }
        Ok(())
    }
}
