//! What to read of a set and how.

use crate::error::Error;
use crate::split::Split;
use crate::{Result, Shape};
use std::path::Path;

/// What happens when a picture of a folder or tar can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Damaged {
    /// The set is refused; the error names the picture.
    #[default]
    Refuse,
    /// It is left out and listed.
    Skip,
}

/// Whether every picture needs a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Labels {
    /// It does.
    #[default]
    Needed,
    /// What stands beside the pictures of an `.npz` is read where it is classes; a set without them has no classes.
    Optional,
    /// A class, or several labels of which each holds or does not: an `.npz`'s labels `(N, L)`, 0 or 1 each.
    Several,
}

/// A picture that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path, or its name in an archive.
    pub picture: String,
    /// Why.
    pub reason: String,
}

/// Scaling before anything else: the picture's shorter side becomes `shorter`, then `height × width` are cut out of its middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Rows afterwards.
    pub height: usize,
    /// Columns afterwards.
    pub width: usize,
    /// The scaled picture's shorter side, at least `height` and `width`: 256 for 224 is ImageNet's custom.
    pub shorter: usize,
}

/// What [`crate::Dataset::open`] reads, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The classes in order; by default the format's own: folders' names sorted, CIFAR's names, numbers.
    pub classes: Option<Vec<String>>,
    /// Whether every picture needs a class.
    pub labels: Labels,
    /// CIFAR-100: read the 20 superclasses instead of the 100 classes.
    pub coarse: bool,
    /// Which part; needed where there are several.
    pub split: Option<Split>,
    /// At most so many pictures, evenly spaced over the set, since folders are sorted by class.
    pub limit: Option<usize>,
    /// Scale the pictures; needed where their sizes differ.
    pub resize: Option<Resize>,
    /// 1 (grey) or 3 (colour); by default what the format holds, 3 for picture files.
    pub channels: Option<usize>,
    /// Folders and tars: keep the files' own pictures and decode at each access, which
    /// [`crate::Augmentation::resized_crop`] is best with: otherwise it crops what `resize` left.
    pub keep_originals: bool,
    /// What happens to damaged pictures.
    pub damaged: Damaged,
    /// Most bytes of pixels to hold, and of what is noted of each picture. Picture files beyond it are decoded at each access; other
    /// formats are refused. Also the most that a file may take unpacked.
    pub memory_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            classes: None,
            labels: Labels::Needed,
            coarse: false,
            split: None,
            limit: None,
            resize: None,
            channels: None,
            keep_originals: false,
            damaged: Damaged::Refuse,
            memory_limit: 4 << 30,
        }
    }
}

/// What a part is called in [`Error::Split`] that a file has without a name, alone where it has no parts.
pub const UNNAMED: &str = "one without a name";

/// Most pixels that a side may have after resizing.
const LARGEST: usize = 4096;

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |detail: String| Err(Error::option(detail));
        if let Some(r) = self.resize
            && (r.height == 0
                || r.width == 0
                || r.shorter > LARGEST
                || r.shorter < r.height.max(r.width))
        {
            return refuse(format!(
                "resize: {}×{} can't be cut out of a picture whose shorter side is {}; give sizes from 1 to {LARGEST} and a shorter side that covers both",
                r.width, r.height, r.shorter
            ));
        }
        if let Some(c) = self.channels
            && c != 1
            && c != 3
        {
            return refuse(format!(
                "channels: {c}; pictures have 1 (grey) or 3 (colour)"
            ));
        }
        if self.limit == Some(0) {
            return refuse("limit: 0 pictures; leave it out to read all".into());
        }
        if let Some(classes) = &self.classes {
            let mut sorted: Vec<_> = classes.iter().collect();
            sorted.sort();
            if let Some(w) = sorted.windows(2).find(|w| w[0] == w[1]) {
                return refuse(format!(
                    "classes: {:?} is named twice; name each class once",
                    w[0]
                ));
            }
        }
        Ok(())
    }

    /// The shape after conversion of pictures that have `shape`.
    pub(crate) fn target(&self, shape: Shape) -> Shape {
        Shape {
            height: self.resize.map_or(shape.height, |r| r.height),
            width: self.resize.map_or(shape.width, |r| r.width),
            channels: self.channels.unwrap_or(shape.channels),
        }
    }

    /// Which of `count` pictures are read.
    pub(crate) fn chosen(&self, count: usize) -> Vec<usize> {
        spread(count, self.limit.unwrap_or(count))
    }
}

/// Refuses to hold out none or all of a set.
pub(crate) fn check_held_out(what: &str, held_out: usize, all: usize) -> Result<()> {
    if (1..all).contains(&held_out) {
        return Ok(());
    }
    Err(Error::option(format!(
        "{held_out} {what} of {all} are to be held out: hold out some, and leave some to train on"
    )))
}

/// Where pictures that are held out come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A set of their own.
    Apart,
    /// The end of a set.
    End,
    /// Evenly spaced over a set, whose end lacks classes.
    Spread,
}

/// At most `most` of the numbers below `count`, evenly spaced.
#[must_use]
pub fn spread(count: usize, most: usize) -> Vec<usize> {
    let kept = most.min(count);
    (0..kept)
        .map(|i| (i as u128 * count as u128 / kept as u128) as usize)
        .collect()
}

/// The parts of the wanted split, of parts that are told apart by `split`.
pub(crate) fn of_split<T>(
    path: &Path,
    wanted: Option<Split>,
    parts: Vec<(Option<Split>, T)>,
) -> Result<Vec<T>> {
    let mut there: Vec<Option<Split>> = Vec::new();
    for (split, _) in &parts {
        if !there.contains(split) {
            there.push(*split);
        }
    }
    let chosen = match wanted {
        None if there.len() <= 1 => return Ok(parts.into_iter().map(|(_, t)| t).collect()),
        Some(wanted) if there.contains(&Some(wanted)) => wanted,
        _ => {
            let names: Vec<String> = there
                .iter()
                .map(|s| s.map_or(UNNAMED.into(), |s| s.to_string()))
                .collect();
            return Err(Error::Split {
                path: path.into(),
                wanted,
                there: names.join(", "),
            });
        }
    };
    Ok(parts
        .into_iter()
        .filter(|(s, _)| *s == Some(chosen))
        .map(|(_, t)| t)
        .collect())
}
