//! The pictures of a run: to train on, to mix in, to calibrate on, and to make choices on.

use crate::config::{Checked, Config, Data, Network, Run};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::pass::Inputs;
use crate::trainer::Score;
use data::{Damaged, Dataset, Loader, LoaderOptions, Order, Resize, Skipped, Split};
use nn::{Normalization, Shape};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a step is made on.
#[derive(Debug, Clone, PartialEq)]
pub enum Batch {
    /// Pictures `(n, h, w, c)` and their labels.
    Pictures(Vec<f32>, Vec<usize>),
    /// Windows of tokens `(n, length)` and the token that follows each.
    Tokens(Vec<u16>, Vec<usize>),
    /// Sentences `(n, length)`, filled up with padding, and their classes (or the tokens behind masks, [`IGNORED`](crate::loss::IGNORED) elsewhere).
    Sentences(Vec<u16>, Vec<usize>),
}

impl Batch {
    /// What the model is given.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        match self {
            Self::Pictures(x, _) => Inputs::Pictures(x),
            Self::Tokens(t, _) | Self::Sentences(t, _) => Inputs::Tokens(t),
        }
    }

    /// What it should answer, a row of outputs each.
    #[must_use]
    pub fn labels(&self) -> &[usize] {
        match self {
            Self::Pictures(_, l) | Self::Tokens(_, l) | Self::Sentences(_, l) => l,
        }
    }

    /// How many labels count.
    #[must_use]
    pub fn counted(&self) -> usize {
        let counts = |l: &&usize| **l != crate::loss::IGNORED;
        self.labels().iter().filter(counts).count()
    }

    /// The batch in `parts` (or fewer) as equal as `rows` labels an input permit.
    pub(crate) fn parts(self, parts: usize, rows: usize) -> Vec<Self> {
        if parts <= 1 {
            return vec![self];
        }
        fn cut<T: Copy>(v: &[T], size: usize) -> impl Iterator<Item = Vec<T>> + '_ {
            v.chunks(size.max(1)).map(<[T]>::to_vec)
        }
        let n = self.labels().len() / rows;
        let size = n.div_ceil(parts);
        match &self {
            Self::Pictures(x, l) => cut(x, size * x.len() / n)
                .zip(cut(l, size * rows))
                .map(|(x, l)| Self::Pictures(x, l))
                .collect(),
            Self::Tokens(t, l) => cut(t, size * rows)
                .zip(cut(l, size * rows))
                .map(|(t, l)| Self::Tokens(t, l))
                .collect(),
            Self::Sentences(t, l) => cut(t, size * t.len() / n)
                .zip(cut(l, size * rows))
                .map(|(t, l)| Self::Sentences(t, l))
                .collect(),
        }
    }
}

impl From<data::Batch> for Batch {
    fn from(b: data::Batch) -> Self {
        Self::Pictures(b.images, b.labels)
    }
}

/// Batches one after the other.
pub type Batches = Box<dyn Iterator<Item = Result<Batch>>>;

/// What a run trains on: pictures ([`Sources`]) or text ([`Passages`](crate::language::Passages)).
pub trait Source {
    /// How its configurations name networks.
    type Network: Serialize + DeserializeOwned;
    /// How its configurations name data.
    type Data: Serialize + DeserializeOwned + Checked;

    /// Refuses a model that does not take these inputs or does not know these labels.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Classes`].
    fn fit(&self, model: &Model) -> Result<()>;

    /// Batches of one pass over the training data.
    fn batches_a_pass(&self, batch: usize) -> usize;

    /// The training batches of a pass from number `first` on, with this share of second data: a function of seed and pass.
    ///
    /// # Errors
    /// What the data bring.
    fn pass(
        &self,
        run: &Run<Self::Network, Self::Data>,
        pass: u64,
        first: usize,
        second: f32,
    ) -> Result<Batches>;

    /// At most so many inputs to calibrate on, spread over the training data, as they are.
    ///
    /// # Errors
    /// What the data bring.
    fn to_calibrate(&self, batch: usize, inputs: usize) -> Result<Batches>;

    /// What is held out.
    ///
    /// # Errors
    /// What the data bring.
    fn held_out(&self, batch: usize) -> Result<Batches>;

    /// What choices go by: larger is better.
    fn merit(&self, score: &Score) -> f64;
}

impl Source for Sources {
    type Network = Network;
    type Data = Data;

    fn fit(&self, model: &Model) -> Result<()> {
        Self::fit(self, model)
    }

    fn batches_a_pass(&self, batch: usize) -> usize {
        Self::batches_a_pass(self, batch)
    }

    fn pass(&self, run: &Config, pass: u64, first: usize, second: f32) -> Result<Batches> {
        let epoch = self.loader(run, second)?.epoch(pass, first);
        Ok(Box::new(epoch.map(|b| Ok(b?.into()))))
    }

    fn to_calibrate(&self, batch: usize, inputs: usize) -> Result<Batches> {
        self.batches(&self.calibration(inputs)?, batch)
    }

    fn held_out(&self, batch: usize) -> Result<Batches> {
        self.batches(&self.held_out, batch)
    }

    fn merit(&self, score: &Score) -> f64 {
        score.accuracy()
    }
}

/// Opened data. Held-out pictures are in none of the other sets.
#[derive(Debug, Clone)]
pub struct Sources {
    /// To train on.
    pub train: Dataset,
    /// To mix in, and to calibrate on.
    pub second: Option<Dataset>,
    /// To make choices on.
    pub held_out: Dataset,
    /// How bytes become inputs.
    pub normalization: Normalization,
    /// Pictures that could not be read and were left out.
    pub skipped: Vec<Skipped>,
    /// Near-duplicates of held-out pictures that were taken out of the training pictures.
    pub twins: usize,
}

impl Sources {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// [`Error::Data`]; [`Error::Setting`] where nothing would remain to train on.
    pub fn open(c: &Data) -> Result<Self> {
        let options = |split| data::Options {
            classes: (!c.labels.is_empty()).then(|| c.labels.clone()),
            resize: c.size.map(|(height, width)| Resize {
                height,
                width,
                shorter: height.min(width),
            }),
            damaged: if c.skip_damaged {
                Damaged::Skip
            } else {
                Damaged::Refuse
            },
            split,
            ..data::Options::default()
        };
        let npz = |path: &std::path::Path| {
            path.extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("npz"))
        };
        let splits = npz(&c.train);
        let (mut train, mut skipped) = Dataset::open(
            &c.train,
            &data::Options {
                limit: c.limit,
                ..options(splits.then_some(Split::Train))
            },
        )?;
        let mut second = None;
        if let Some(path) = &c.second {
            let (set, s) = Dataset::open(
                path,
                &data::Options {
                    classes: Some(train.classes().to_vec()),
                    ..options(npz(path).then_some(Split::Train))
                },
            )?;
            skipped.extend(s);
            second = Some(set);
        }
        let held_out = if splits && second.is_none() {
            Dataset::open(&c.train, &options(Some(Split::Validation)))?.0
        } else {
            let from = second.as_ref().unwrap_or(&train);
            if c.held_out == 0 || c.held_out >= from.len() {
                return Err(Error::Setting {
                    setting: "held_out",
                    value: c.held_out.to_string(),
                    remedy: format!(
                        "choices need some of the {} pictures, and training the others",
                        from.len()
                    ),
                });
            }
            let (kept, held_out) = from.split_at(from.len() - c.held_out)?;
            match &mut second {
                Some(s) => *s = kept,
                None => train = kept,
            }
            held_out
        };
        let mut twins = 0;
        if c.drop_twins {
            let found = data::twins(&held_out, &train)?;
            let indices: Vec<usize> = found.iter().flatten().map(|t| t.index).collect();
            twins = indices.len();
            train = train.without(&indices)?;
        }
        let normalization = match c.normalization.as_str() {
            "imagenet" if train.shape().channels != 3 => {
                return Err(Error::Setting {
                    setting: "normalization",
                    value: "imagenet".into(),
                    remedy: format!(
                        "that is for colour pictures, these are {}: say normalization = \"measured\"",
                        train.shape()
                    ),
                });
            }
            "imagenet" => nn::picture::imagenet_normalization(),
            // none until `adopt` has the network's: nothing can be loaded before
            "network" => Normalization {
                mean: Vec::new(),
                deviation: Vec::new(),
            },
            "measured" => second.as_ref().unwrap_or(&train).channel_statistics()?,
            other => {
                return Err(Error::Setting {
                    setting: "normalization",
                    value: other.into(),
                    remedy: "imagenet, measured, or network".into(),
                });
            }
        };
        Ok(Self {
            train,
            second,
            held_out,
            normalization,
            skipped,
            twins,
        })
    }

    /// Takes the normalisation from the network where the configuration leaves it to the network.
    ///
    /// # Errors
    /// [`Error::Setting`] for a network that has no normalisation.
    pub fn adopt(&mut self, c: &Data, network: &nn::Metadata) -> Result<()> {
        if c.normalization == "network" {
            self.normalization = network.normalization.clone().ok_or_else(|| Error::Setting {
                setting: "normalization",
                value: "network".into(),
                remedy: "the network's file does not say how its inputs were normalised: give imagenet or measured, as it was trained".into(),
            })?;
        }
        Ok(())
    }

    /// The classes' names for whoever gets the network: the data's, or the network's where the data has only numbers.
    #[must_use]
    pub fn labels(&self, network: &nn::Metadata) -> Vec<String> {
        let classes = self.train.classes();
        let numbers = classes.iter().enumerate().all(|(i, c)| *c == i.to_string());
        if numbers && network.labels.len() == classes.len() {
            network.labels.clone()
        } else {
            classes.to_vec()
        }
    }

    /// Refuses a network that does not take these pictures or does not know these classes.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Classes`].
    pub fn fit(&self, model: &Model) -> Result<()> {
        let s = self.train.shape();
        let had = Shape::image(s.channels, s.height, s.width);
        if model.input_shape() != had {
            return Err(Error::Shape {
                needed: model.input_shape().to_string(),
                had: had.to_string(),
            });
        }
        let classes = self.train.classes().len();
        if model.outputs() != classes {
            return Err(Error::Classes {
                outputs: model.outputs(),
                classes,
            });
        }
        Ok(())
    }

    /// Batches of one pass over the training pictures; the last, smaller one is left out.
    #[must_use]
    pub fn batches_a_pass(&self, batch: usize) -> usize {
        (self.train.len() / batch).max(1)
    }

    /// At most so many pictures to calibrate on.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn calibration(&self, pictures: usize) -> Result<Dataset> {
        let from = self.second.as_ref().unwrap_or(&self.train);
        // spread over the whole set: folders are sorted by class
        let n = pictures.min(from.len());
        let indices: Vec<usize> = (0..n).map(|i| i * from.len() / n).collect();
        Ok(from.subset(&indices)?)
    }

    /// The pictures in their order, as they are, for whoever takes batches of either kind.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn batches(&self, set: &Dataset, batch: usize) -> Result<Batches> {
        Ok(Box::new(self.plain(set, batch)?.map(|b| Ok(b?.into()))))
    }

    /// The pictures in their order, as they are.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn plain(
        &self,
        set: &Dataset,
        batch: usize,
    ) -> Result<impl Iterator<Item = data::Result<data::Batch>> + use<>> {
        let options = LoaderOptions {
            batch,
            order: Order::Sequential,
            normalization: self.normalization.clone(),
            ..LoaderOptions::default()
        };
        Ok(Loader::new(set.clone(), options)?.epoch(0, 0))
    }

    /// The shuffled, augmented training pictures, with a share of each batch from the second data.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn loader(&self, config: &Config, second: f32) -> Result<Loader> {
        let options = LoaderOptions {
            batch: config.batch,
            seed: config.seed,
            augmentation: config.data.augmentation,
            normalization: self.normalization.clone(),
            order: Order::Shuffled,
            ..LoaderOptions::default()
        };
        Ok(match &self.second {
            Some(s) if second > 0.0 => {
                Loader::mixed(self.train.clone(), s.clone(), f64::from(second), options)?
            }
            _ => Loader::new(self.train.clone(), options)?,
        })
    }
}
