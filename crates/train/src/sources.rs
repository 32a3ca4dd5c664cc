//! The pictures of a run: to train on, to mix in, to calibrate on, and to make choices on.

use crate::batch::Batch;
use crate::config::{Checked, Config, Data, Network, Pixels, Run};
use crate::error::{Error, Result, need};
use crate::model::Model;
use crate::score::Score;
use data::{Damaged, Dataset, Loader, LoaderOptions, Order, Resize, Skipped, Split, Taken};
use nn::{Metadata, Shape, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::Path;
use task::{Normalization, Outputs, Pictures, Stated, Task};

/// Batches one after the other.
pub type Batches = Box<dyn Iterator<Item = Result<Batch>>>;

/// A part of a run's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// To train on and to calibrate on.
    Train,
    /// To make choices on.
    HeldOut,
}

/// What a run trains on: pictures ([`Sources`]), vectors, text or sentences.
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

    /// How many inputs a part has.
    fn inputs(&self, part: Part) -> usize;

    /// Batches of a part's inputs of these numbers; what is random about them is a function of the name.
    ///
    /// # Errors
    /// What the data bring.
    fn numbered(
        &self,
        part: Part,
        numbers: Vec<usize>,
        batch: usize,
        name: (u64, u64),
    ) -> Result<Batches>;

    /// Inputs of a step of a run that asks for so many: no more than there are to train on.
    fn a_step(&self, batch: usize) -> usize {
        batch.min(self.inputs(Part::Train)).max(1)
    }

    /// Batches of one pass over the training data.
    fn batches_a_pass(&self, batch: usize) -> usize {
        (self.inputs(Part::Train) / batch).max(1)
    }

    /// The training batches of a pass from number `first` on, with this share of second data: a function of seed and pass.
    ///
    /// # Errors
    /// What the data bring.
    fn pass(
        &self,
        run: &Run<Self::Network, Self::Data>,
        pass: u64,
        first: usize,
        _second: f32,
    ) -> Result<Batches> {
        let inputs = self.inputs(Part::Train);
        let mut numbers = data::order(inputs, run.seed, pass);
        numbers.truncate(self.batches_a_pass(run.batch) * run.batch);
        let numbers = numbers.split_off((first * run.batch).min(numbers.len()));
        self.numbered(Part::Train, numbers, run.batch, (run.seed, pass))
    }

    /// At most so many inputs to calibrate on, spread over the training data, as they are.
    ///
    /// # Errors
    /// What the data bring.
    fn to_calibrate(&self, batch: usize, inputs: usize) -> Result<Batches> {
        let numbers = data::spread(self.inputs(Part::Train), inputs);
        self.numbered(Part::Train, numbers, batch, (0, u64::MAX))
    }

    /// What is held out.
    ///
    /// # Errors
    /// What the data bring.
    fn held_out(&self, batch: usize) -> Result<Batches> {
        let numbers = (0..self.inputs(Part::HeldOut)).collect();
        self.numbered(Part::HeldOut, numbers, batch, (1, u64::MAX))
    }

    /// What choices go by: larger is better.
    fn merit(&self, score: &Score) -> f64;
}

/// Data whose inputs are what the network takes.
pub trait Direct: Source<Network = Network> + Sized {
    /// A labelled set of it in memory.
    type Set;

    /// Opens what the configuration names, for a network that takes inputs of this shape, if there is one already.
    ///
    /// # Errors
    /// [`Error::Data`]; [`Error::Setting`] where nothing would remain to train on.
    fn open(data: &Self::Data, network: Option<Shape>) -> Result<Self>;

    /// As [`Self::open`], of a set at hand in the place of files: what the configuration says of reading them does not count.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn of(data: &Self::Data, set: Self::Set, network: Option<Shape>) -> Result<Self>;

    /// Takes the normalisation from the network, which has metadata if it is from a file, where the configuration leaves it to the network.
    ///
    /// # Errors
    /// [`Error::Setting`] for a network that has none where one is needed.
    fn adopt(&mut self, data: &Self::Data, network: Option<&Metadata>) -> Result<()>;

    /// The size of an input, (height, width, channels); vectors are one pixel.
    fn input(&self) -> (usize, usize, usize);

    /// How many outputs a network needs for it.
    fn outputs(&self) -> usize;

    /// At most so many inputs to calibrate on.
    ///
    /// # Errors
    /// What the data bring.
    fn examples(&self, most: usize) -> Result<Vec<Tensor>>;

    /// The inputs mirrored, where mirror images are inputs as well: intervals hold for both.
    fn mirrored(&self, _inputs: &[f32]) -> Option<Vec<f32>> {
        None
    }

    /// How inputs are made and what outputs mean; `network` says what its file knew before.
    ///
    /// # Errors
    /// For a task in the network's file that cannot be read or does not fit the data.
    fn task(&self, network: &Metadata) -> Result<Task>;

    /// What the run's record says of the data, under which name; so many inputs were left out of the intervals.
    fn record(&self, left_out: usize) -> (&'static str, serde_json::Value);

    /// How much there is to train on and to choose by, in words.
    fn summary(&self) -> String;

    /// What could not be read and was left out, in words.
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Batches of these numbers, which `make` makes.
pub(crate) fn batches(
    numbers: Vec<usize>,
    batch: usize,
    make: impl Fn(&[usize]) -> Result<Batch> + 'static,
) -> Batches {
    let count = numbers.len().div_ceil(batch);
    Box::new((0..count).map(move |b| make(&numbers[b * batch..numbers.len().min((b + 1) * batch)])))
}

/// How many of so many inputs are held out: those that are asked for, or 1000, of fewer than 4000 a quarter.
pub(crate) fn held_out(asked: Option<usize>, (all, noun): (usize, &str)) -> Result<usize> {
    let held_out = asked.unwrap_or((all / 4).clamp(1, 1000));
    let remedy = format!("choices need some of the {all} {noun}, and training the others");
    need((1..all).contains(&held_out), "held_out", held_out, remedy)?;
    Ok(held_out)
}

/// Refuses a model that takes or gives something else than the data have.
pub(crate) fn fit(
    (needed, had): (impl ToString, impl ToString),
    (outputs, classes): (usize, usize),
) -> Result<()> {
    let (needed, had) = (needed.to_string(), had.to_string());
    if needed != had {
        return Err(Error::Shape { needed, had });
    }
    if outputs != classes {
        return Err(Error::Classes { outputs, classes });
    }
    Ok(())
}

impl Source for Sources {
    type Network = Network;
    type Data = Data;

    fn fit(&self, model: &Model) -> Result<()> {
        let s = self.train.shape();
        let had = Shape::image(s.channels, s.height, s.width);
        let outputs = (model.outputs(), self.outputs());
        fit((model.input_shape(), had), outputs)
    }

    fn inputs(&self, part: Part) -> usize {
        self.part(part).len()
    }

    fn numbered(
        &self,
        part: Part,
        numbers: Vec<usize>,
        batch: usize,
        _: (u64, u64),
    ) -> Result<Batches> {
        self.batches(&self.part(part).subset(&numbers)?, batch)
    }

    fn pass(&self, run: &Config, pass: u64, first: usize, second: f32) -> Result<Batches> {
        let epoch = self.loader(run, second)?.epoch(pass, first);
        Ok(Box::new(epoch.map(|b| Ok(b?.into()))))
    }

    fn to_calibrate(&self, batch: usize, inputs: usize) -> Result<Batches> {
        self.batches(&self.calibration(inputs)?, batch)
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
    /// Where the held-out pictures come from.
    pub taken: Taken,
    /// Whether mirror images are inputs as well, as the data's augmentation says.
    pub mirrored: bool,
}

impl Direct for Sources {
    type Set = Dataset;

    fn open(c: &Data, _: Option<Shape>) -> Result<Self> {
        let options = |split| data::Options {
            classes: (!c.labels.is_empty()).then(|| c.labels.clone()),
            resize: c.size.map(|(height, width)| Resize {
                height,
                width,
                shorter: height.min(width),
            }),
            damaged: match c.skip_damaged {
                true => Damaged::Skip,
                false => Damaged::Refuse,
            },
            split,
            ..data::Options::default()
        };
        // what a file has in parts is trained on in part; one without parts is taken whole
        let open = |path: &Path, named: Option<Split>, how: data::Options| {
            let usual = data::is_npz(path).then_some(Split::Train);
            let split = |split| data::Options {
                split,
                ..how.clone()
            };
            match Dataset::open(path, &split(named.or(usual))) {
                Err(data::Error::Split { path, there, .. }) if named.is_none() => {
                    if there == data::UNNAMED {
                        return Dataset::open(&path, &split(None));
                    }
                    Err(data::Error::Split {
                        path,
                        wanted: None,
                        there,
                    })
                }
                other => other,
            }
        };
        let how = data::Options {
            limit: c.limit,
            ..options(None)
        };
        let (train, mut skipped) = open(&c.train, c.split, how)?;
        let mut second = None;
        if let Some(path) = &c.second {
            let how = data::Options {
                classes: Some(train.classes().to_vec()),
                ..options(None)
            };
            let (set, s) = open(path, None, how)?;
            skipped.extend(s);
            second = Some(set);
        }
        // without a part for choices, `held_out` pictures are taken out of those to train on
        let chosen_by = match c.split {
            None => data::is_npz(&c.train),
            Some(trained_on) => trained_on != Split::Validation,
        };
        let held_out = match chosen_by && second.is_none() {
            true => match Dataset::open(&c.train, &options(Some(Split::Validation))) {
                Err(data::Error::Split { .. }) => None,
                other => Some(other?.0),
            },
            false => None,
        };
        Self::opened(c, train, (second, held_out), skipped)
    }

    fn of(c: &Data, set: Dataset, _: Option<Shape>) -> Result<Self> {
        Self::opened(c, set, (None, None), Vec::new())
    }

    fn adopt(&mut self, c: &Data, network: Option<&Metadata>) -> Result<()> {
        let asked = match &c.normalization {
            None => network.is_some() || self.normalization.mean.is_empty(),
            Some(pixels) => *pixels == "network".into(),
        };
        if !asked {
            return Ok(());
        }
        self.normalization = match network.map(Task::of).transpose()?.flatten() {
            Some(Task::Pictures(p)) => p.normalization().clone(),
            _ => {
                let remedy = format!(
                    "no file says how the network's inputs were normalised: name {}, or measured, or give mean and deviation, as it was trained",
                    Stated::NAMES
                );
                return Err(Error::setting("normalization", "network", remedy));
            }
        };
        Ok(())
    }

    fn input(&self) -> (usize, usize, usize) {
        let s = self.train.shape();
        (s.height, s.width, s.channels)
    }

    fn outputs(&self) -> usize {
        self.train.classes().len()
    }

    fn examples(&self, most: usize) -> Result<Vec<Tensor>> {
        let set = self.calibration(most)?;
        let tensor = |i| set.tensor(i, &self.normalization);
        Ok((0..set.len()).map(tensor).collect::<data::Result<_>>()?)
    }

    fn mirrored(&self, inputs: &[f32]) -> Option<Vec<f32>> {
        if !self.mirrored {
            return None;
        }
        let s = self.train.shape();
        let mut out = Vec::with_capacity(inputs.len());
        for row in inputs.chunks_exact(s.width * s.channels) {
            for pixel in row.chunks_exact(s.channels).rev() {
                out.extend_from_slice(pixel);
            }
        }
        Some(out)
    }

    fn task(&self, network: &Metadata) -> Result<Task> {
        // the data's names, or the network's where the data have only numbers
        let mut classes = self.train.classes().to_vec();
        let numbers = classes.iter().enumerate().all(|(i, c)| *c == i.to_string());
        if let (true, Some(task)) = (numbers, Task::of(network)?)
            && let Some(own) = task.outputs().map(Outputs::names)
            && own.len() == classes.len()
        {
            classes = own.to_vec();
        }
        let s = self.train.shape();
        let shape = Shape::image(s.channels, s.height, s.width);
        let (normalization, outputs) = (self.normalization.clone(), Outputs::Classes(classes));
        let pictures = Pictures::new(shape, normalization, outputs)?;
        Ok(Task::Pictures(pictures))
    }

    fn record(&self, left_out: usize) -> (&'static str, serde_json::Value) {
        let record = json!({
            "train": self.train.len(),
            "second": self.second.as_ref().map(Dataset::len),
            "held_out": self.held_out.len(),
            "left_out_of_intervals": left_out,
            "twins_left_out": self.twins,
        });
        ("pictures", record)
    }

    fn summary(&self) -> String {
        let mut text = format!("{} pictures to train on", self.train.len());
        if let Some(second) = &self.second {
            text += &format!(" and {} to mix in", second.len());
        }
        text += &format!(", {} held out for choices", self.held_out.len());
        if self.taken == Taken::Spread {
            text += ", spread over the set, whose end lacks classes";
        }
        if self.twins > 0 {
            text += &format!(
                "; {} near-duplicates of held-out pictures left out",
                self.twins
            );
        }
        if let Some(how) = self.train.divided() {
            text += &format!("; they are {how}");
        }
        text
    }

    fn left_out(&self) -> Vec<String> {
        let skipped = self.skipped.iter();
        let line = |s: &Skipped| format!("{}: {}", s.picture, s.reason);
        let mut lines: Vec<String> = skipped.map(line).collect();
        match self.train.transparent() {
            0 => {}
            n => lines.push(format!("the transparency of {n} pictures is ignored")),
        }
        lines
    }
}

impl Sources {
    /// Of opened sets; what is held out comes from the second one, or from the first, unless it is a set of its own.
    fn opened(
        c: &Data,
        mut train: Dataset,
        (mut second, apart): (Option<Dataset>, Option<Dataset>),
        skipped: Vec<Skipped>,
    ) -> Result<Self> {
        let (held_out, taken) = if let Some(own) = apart {
            (own, Taken::Apart)
        } else {
            let from = second.as_ref().unwrap_or(&train);
            let count = held_out(c.held_out, (from.len(), "pictures"))?;
            let (kept, held_out, taken) = from.hold_out(count)?;
            match &mut second {
                Some(s) => *s = kept,
                None => train = kept,
            }
            (held_out, taken)
        };
        let mut twins = 0;
        if c.drop_twins {
            let found = data::twins(&held_out, &train)?;
            let indices: Vec<usize> = found.iter().flatten().map(|t| t.index).collect();
            twins = indices.len();
            train = train.without(&indices)?;
        }
        let channels = train.shape().channels;
        let stated = |stated: &Stated| {
            let name = stated.name.as_deref().unwrap_or("by numbers");
            let refuse =
                |e| Error::setting("normalization", name, format!("{e}; or take measured"));
            stated.normalization(channels).map_err(refuse)
        };
        let normalization = match &c.normalization {
            // none until `adopt` knows whether the network's file has one: nothing can be loaded before
            None if channels != 3 => Normalization::default(),
            None => Normalization::imagenet(),
            Some(Pixels::Given(given)) => stated(given)?,
            Some(Pixels::Named(name)) => match name.as_str() {
                "network" => Normalization::default(),
                "measured" => second.as_ref().unwrap_or(&train).channel_statistics()?,
                name => stated(&Stated::named(name))?,
            },
        };
        Ok(Self {
            train,
            second,
            held_out,
            normalization,
            skipped,
            twins,
            taken,
            mirrored: c.augmentation.flip,
        })
    }

    fn part(&self, part: Part) -> &Dataset {
        match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        }
    }

    /// At most so many pictures to calibrate on.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn calibration(&self, pictures: usize) -> Result<Dataset> {
        let from = self.second.as_ref().unwrap_or(&self.train);
        // spread over the whole set: folders are sorted by class
        Ok(from.subset(&data::spread(from.len(), pictures))?)
    }

    /// The pictures in their order, as they are.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn batches(&self, set: &Dataset, batch: usize) -> Result<Batches> {
        let options = LoaderOptions {
            batch,
            order: Order::Sequential,
            normalization: self.normalization.clone(),
            ..LoaderOptions::default()
        };
        let epoch = Loader::new(set.clone(), options)?.epoch(0, 0);
        Ok(Box::new(epoch.map(|b| Ok(b?.into()))))
    }

    /// The shuffled, augmented training pictures, with a share of each batch from the second data.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn loader(&self, config: &Config, second: f32) -> Result<Loader> {
        let options = LoaderOptions {
            batch: self.a_step(config.batch),
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
