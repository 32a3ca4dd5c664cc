//! Pictures with labels.

use crate::error::{Error, check_labels};
use crate::options::{Resize, Taken, check_held_out, spread};
use crate::source::Source;
use crate::{Result, Shape};
use nn::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use task::{Normalization, Picture};

/// Where pictures lie; shared by all sets that were made of one.
pub(crate) enum Store {
    /// `(N, H, W, C)`.
    Pixels(Vec<u8>),
    /// Decoded at each access.
    Sources(Vec<Source>, Option<Resize>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pixels(values) => write!(f, "{} values", values.len()),
            Self::Sources(sources, _) => write!(f, "{} files", sources.len()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Item {
    place: usize,
    label: usize,
}

/// What a set notes of each picture.
pub(crate) const ITEM_BYTES: usize = size_of::<Item>();

/// Labelled pictures of one shape. Clones and subsets share the pixels.
#[derive(Clone)]
pub struct Dataset {
    shape: Shape,
    classes: Arc<[String]>,
    store: Arc<Store>,
    items: Vec<Item>,
    /// Which of several labels hold, by place, and how many a picture has; none where there is a class each.
    pub(crate) holding: (Arc<[bool]>, usize),
    pub(crate) transparent: usize,
    pub(crate) greyed: usize,
    pub(crate) divided: bool,
    pub(crate) by_name: bool,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("len", &self.len())
            .field("shape", &self.shape)
            .field("classes", &self.classes.len())
            .field("store", &self.store)
            .finish()
    }
}

impl Dataset {
    /// Labels are numbers below the number of classes, as the readers have checked.
    pub(crate) fn from_store(
        shape: Shape,
        classes: Vec<String>,
        store: Store,
        labels: impl Iterator<Item = usize>,
    ) -> Self {
        let items = labels.enumerate();
        let items = items.map(|(place, label)| Item { place, label });
        Self {
            shape,
            classes: classes.into(),
            items: items.collect(),
            holding: (Arc::new([]), 0),
            store: Arc::new(store),
            transparent: 0,
            greyed: 0,
            divided: false,
            by_name: false,
        }
    }

    /// How many of the pictures that were read from files are partly transparent, which is ignored.
    #[must_use]
    pub fn transparent(&self) -> usize {
        self.transparent
    }

    /// How many of the pictures had colours, of which one channel is left.
    #[must_use]
    pub fn greyed(&self) -> usize {
        self.greyed
    }

    /// What pictures are in a file that has floats from 0 to 1. Nothing tells pixels of 0 and 255 divided by 255 from pixels of 0 and 1.
    #[must_use]
    pub fn divided(&self) -> Option<&'static str> {
        self.divided
            .then_some("floats from 0 to 1, taken for pixels from 0 to 255 divided by 255")
    }

    /// Whether the classes' numbers are no more than their places in the list of their names: those of folders. Other formats number them.
    #[must_use]
    pub fn by_name(&self) -> bool {
        self.by_name
    }

    /// A set of pixels `(N, H, W, C)` that are at hand. Without classes nobody says what is on the pictures, and labels, one for each, say nothing.
    ///
    /// # Errors
    /// [`Error::Option`] when the counts don't fit or there is no picture, [`Error::Content`].
    pub fn from_pixels(
        shape: Shape,
        classes: Vec<String>,
        pixels: Vec<u8>,
        labels: &[usize],
    ) -> Result<Self> {
        let size = shape.len();
        if size == 0 || labels.is_empty() || labels.len().checked_mul(size) != Some(pixels.len()) {
            return Err(Error::option(format!(
                "{} labels and {} values of pictures {shape}; give one label and {size} values for each picture",
                labels.len(),
                pixels.len()
            )));
        }
        if !classes.is_empty() {
            let given = "the pixels given".as_ref();
            check_labels(given, labels.iter().copied(), classes.len())?;
        }
        Ok(Self::from_store(
            shape,
            classes,
            Store::Pixels(pixels),
            labels.iter().copied(),
        ))
    }

    /// Number of pictures, which is not 0 in a set that was opened.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a subset of none was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The shape of every picture.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The classes' names; a label is a place in this list.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of picture `i`.
    ///
    /// # Panics
    /// Unless `i < len()`.
    #[must_use]
    pub fn label(&self, i: usize) -> usize {
        self.items[i].label
    }

    /// Which of several labels hold for picture `i`; empty where there is a class each, or none.
    ///
    /// # Panics
    /// Unless `i < len()`.
    #[must_use]
    pub fn holding(&self, i: usize) -> &[bool] {
        let (all, width) = &self.holding;
        &all[self.items[i].place * width..][..*width]
    }

    fn item(&self, i: usize) -> Result<Item> {
        self.items.get(i).copied().ok_or(Error::Index {
            index: i,
            count: self.len(),
        })
    }

    /// The values of picture `i`, `(H, W, C)`.
    ///
    /// # Errors
    /// [`Error::Index`]; where pictures are decoded at each access also [`Error::Damaged`], since files can change.
    pub fn pixels(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        let item = self.item(i)?;
        Ok(match &*self.store {
            Store::Pixels(all) => {
                let size = self.shape.len();
                Cow::Borrowed(&all[item.place * size..(item.place + 1) * size])
            }
            Store::Sources(sources, resize) => {
                let source = &sources[item.place];
                Cow::Owned(source.values(*resize, self.shape)?)
            }
        })
    }

    /// Picture `i` as a network's input `(C, H, W)`: `(v/255 − mean[c])/deviation[c]`.
    ///
    /// # Errors
    /// Those of [`Self::pixels`]; [`Error::Option`] for a normalisation of another number of channels.
    pub fn tensor(&self, i: usize, normalization: &Normalization) -> Result<Tensor> {
        let pixels = self.pixels(i)?;
        let Shape {
            height,
            width,
            channels,
        } = self.shape;
        let planar: Vec<u8> = (0..channels)
            .flat_map(|c| pixels.iter().skip(c).step_by(channels).copied())
            .collect();
        let shape = nn::Shape::image(channels, height, width);
        task::picture::normalize(&planar, shape, normalization).map_err(|e| Error::option(format!("pictures {}: {e}; give a normalisation with one mean and deviation for each channel", self.shape)))
    }

    /// A part of picture `i` (left top corner and size, for a picture of this size), scaled to the set's shape; of the original where that
    /// is kept.
    pub(crate) fn region(
        &self,
        i: usize,
        part: impl FnOnce((usize, usize)) -> ((usize, usize), (usize, usize)),
    ) -> Result<Vec<u8>> {
        let Shape {
            height,
            width,
            channels,
        } = self.shape;
        let item = self.item(i)?;
        let picture = match &*self.store {
            Store::Pixels(_) => {
                Picture::from_pixels(width, height, channels, self.pixels(i)?.into_owned())
            }
            Store::Sources(sources, _) => Some(sources[item.place].picture()?),
        };
        let values = picture.and_then(|p| {
            let (at, size) = part(p.size());
            p.region(at, size, (width, height)).pixels(channels)
        });
        values.ok_or_else(|| {
            Error::option(format!(
                "pictures {} can't be cropped and scaled",
                self.shape
            ))
        })
    }

    /// The pictures with these numbers, in this order; one may come twice.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let items = indices.iter().map(|&i| self.item(i));
        Ok(Self {
            items: items.collect::<Result<_>>()?,
            ..self.clone()
        })
    }

    /// All pictures but those with these numbers.
    ///
    /// # Errors
    /// [`Error::Index`].
    pub fn without(&self, indices: &[usize]) -> Result<Self> {
        let mut keep = vec![true; self.len()];
        for &i in indices {
            self.item(i)?;
            keep[i] = false;
        }
        let kept: Vec<usize> = (0..self.len()).filter(|&i| keep[i]).collect();
        self.subset(&kept)
    }

    /// The pictures to train on and `held_out` of them to make choices on: those at the end, or, where the end lacks classes that the set has
    /// (as in a set sorted by class), as many spread over the whole set.
    ///
    /// # Errors
    /// [`Error::Option`] where one of both would be empty.
    pub fn hold_out(&self, held_out: usize) -> Result<(Self, Self, Taken)> {
        check_held_out("pictures", held_out, self.len())?;
        let (mut chosen, mut taken) = (spread(self.len(), held_out), Taken::Spread);
        let classes = |indices: &mut dyn Iterator<Item = usize>| -> usize {
            let found: BTreeSet<usize> = indices.map(|i| self.label(i)).collect();
            found.len()
        };
        let end = self.len() - held_out;
        if classes(&mut (end..self.len())) >= classes(&mut chosen.iter().copied()) {
            chosen = (end..self.len()).collect();
            taken = Taken::End;
        }
        Ok((self.without(&chosen)?, self.subset(&chosen)?, taken))
    }

    /// Refuses sets that can't be mixed.
    pub(crate) fn check_like(&self, other: &Self) -> Result<()> {
        if self.classes != other.classes {
            let most = self.classes.len().max(other.classes.len());
            let index = (0..most)
                .find(|&i| self.classes.get(i) != other.classes.get(i))
                .unwrap_or(0);
            let name = |set: &Self| set.classes.get(index).cloned().unwrap_or_default();
            return Err(Error::option(format!(
                "the sets' classes differ: number {index} is {:?} in one and {:?} in the other; open both with the same classes",
                name(self),
                name(other)
            )));
        }
        if self.shape != other.shape {
            return Err(Error::option(format!(
                "the sets' pictures differ: {} and {}; open both with the same size (resize) and channels",
                self.shape, other.shape
            )));
        }
        Ok(())
    }

    /// Mean and deviation of every channel of `v/255` over all pictures, exact sums: what inputs are normalised with.
    ///
    /// # Errors
    /// [`Error::Option`] for an empty set or a constant channel, those of [`Self::pixels`].
    pub fn channel_statistics(&self) -> Result<Normalization> {
        let channels = self.shape.channels;
        // of v and v² per channel: below 2^64 for 2^48 pixels
        type Sums = Vec<(u64, u64)>;
        let zero = || -> Sums { vec![(0, 0); channels] };
        let add = |mut a: Sums, b: Sums| {
            for (a, b) in a.iter_mut().zip(b) {
                *a = (a.0 + b.0, a.1 + b.1);
            }
            a
        };
        let sums = (0..self.len())
            .into_par_iter()
            .map(|i| {
                let mut sums = zero();
                for pixel in self.pixels(i)?.chunks_exact(channels) {
                    for (s, &v) in sums.iter_mut().zip(pixel) {
                        let v = u64::from(v);
                        *s = (s.0 + v, s.1 + v * v);
                    }
                }
                Ok(sums)
            })
            .try_reduce(zero, |a, b| Ok(add(a, b)))?;
        let count = (self.len() * self.shape.height * self.shape.width) as f64;
        let mut out = Normalization::default();
        for (c, &(sum, squares)) in sums.iter().enumerate() {
            let mean = sum as f64 / count;
            let deviation = (squares as f64 / count - mean * mean).max(0.0).sqrt();
            if count == 0.0 || deviation < 1e-6 {
                return Err(Error::option(format!(
                    "channel {c} is the same everywhere in these {} pictures, so it has no deviation to divide by; give the normalisation yourself",
                    self.len()
                )));
            }
            out.mean.push(mean / 255.0);
            out.deviation.push(deviation / 255.0);
        }
        Ok(out)
    }
}
