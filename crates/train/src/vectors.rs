//! Runs on plain vectors, and on signals and other numbers in a shape: classes, or numbers to predict.

use crate::batch::{Batch, Values, Wanted};
use crate::config::{Checked, Network, Run};
use crate::error::{Error, Result, need};
use crate::layout::to_hwc;
use crate::model::Model;
use crate::score::Score;
use crate::sources::{Batches, Direct, Part, Source, batches, fit, held_out};
use data::{Answers, Heading, Known, Split, VectorOptions, Vectors};
use nn::{Metadata, Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use task::{Normalization, Outputs, Task};

/// A run on vectors.
pub type VectorConfig = Run<Network, Data>;

/// How components become inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Each by its mean and deviation in the training vectors; numbers in a shape by those of their channel.
    #[default]
    Measured,
    /// As they are.
    None,
    /// As the network's file says.
    Network,
}

/// Vectors to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The file: CSV, `.npy` or `.npz`.
    pub vectors: PathBuf,
    /// Which part of an `.npz`, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// The classes' column of a CSV or array of an `.npz`, or another `.npy` file; what is called label, class, target or y without it.
    pub labels: Option<String>,
    /// Numbers to predict instead of classes: columns, arrays or files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Columns that are no part of the vectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Whether a table's first line names its columns, "yes" or "no"; without it, it does if some of its fields are no numbers.
    #[serde(default, skip_serializing_if = "Heading::is_told")]
    pub heading: Heading,
    /// Names of the classes, in the order of the labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// So many vectors are held out, spread over the file: choices are made on them. 1000 without it, of fewer than 4000 a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<usize>,
    /// How components become inputs.
    #[serde(default)]
    pub normalization: Scaling,
}

impl Data {
    /// For a network of this input.
    fn options(&self, network: Option<Shape>) -> VectorOptions {
        VectorOptions {
            shape: network.filter(|shape| shape.as_image().is_some()),
            answers: match &self.targets[..] {
                [] => Answers::Classes(self.labels.clone()),
                targets => Answers::Numbers(targets.to_vec()),
            },
            classes: (!self.classes.is_empty()).then(|| self.classes.clone()),
            without: self.without.clone(),
            heading: self.heading,
            split: self.split,
            ..VectorOptions::default()
        }
    }
}

impl Checked for Data {
    fn check(&self) -> Result<()> {
        let one = self.targets.is_empty() || (self.labels.is_none() && self.classes.is_empty());
        let remedy = "numbers to predict, or labels and their classes, but not both";
        need(one, "targets", format!("{:?}", self.targets), remedy)
    }
}

/// Opened vectors. Held-out ones are in no training.
#[derive(Debug, Clone)]
pub struct Table {
    /// To train on and to calibrate on.
    pub train: Vectors,
    /// To make choices on.
    pub held_out: Vectors,
    /// How components become inputs; None where they are as they are.
    pub normalization: Option<Normalization>,
    /// The network's input, of as many values as a vector: rows of numbers, channel by channel.
    shape: Shape,
    /// One over the variance of each number to predict.
    weights: Arc<[f32]>,
}

impl Table {
    fn batch(&self, set: &Vectors, numbers: &[usize]) -> Result<Batch> {
        let (mut x, mut classes, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for &i in numbers {
            let input = set.tensor(i, self.normalization.as_ref())?;
            let values: Vec<f32> = input.values().iter().map(|&v| v as f32).collect();
            x.extend(to_hwc(&values, self.shape));
            classes.extend(set.label(i));
            targets.extend(set.target(i).iter().map(|&v| v as f32));
        }
        let wanted = match set.known() {
            Known::Numbers { .. } => Wanted::Numbers {
                values: targets,
                weights: Arc::clone(&self.weights),
            },
            _ => Wanted::Classes(classes),
        };
        Ok(Batch {
            values: Values::Numbers(x),
            wanted,
        })
    }

    /// Mean and deviation of each component of the training vectors, of a shape those of its channel.
    fn measured(&self) -> Normalization {
        let channels = self.shape.dims()[0];
        let each = self.shape.len() / channels;
        let of = self.train.channel_statistics(channels);
        let spread = |all: Vec<f64>| -> Vec<f64> {
            let all = all.into_iter();
            all.flat_map(|v| std::iter::repeat_n(v, each)).collect()
        };
        Normalization::new(spread(of.mean), spread(of.deviation))
    }

    fn part(&self, part: Part) -> &Vectors {
        match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        }
    }
}

impl Source for Table {
    type Network = Network;
    type Data = Data;

    fn fit(&self, model: &Model) -> Result<()> {
        let had = self.shape;
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
        let table = self.clone();
        let make = move |these: &[usize]| table.batch(table.part(part), these);
        Ok(batches(numbers, batch, make))
    }

    fn merit(&self, score: &Score) -> f64 {
        match self.train.known() {
            Known::Numbers { .. } => -score.loss,
            _ => score.accuracy(),
        }
    }
}

impl Direct for Table {
    type Set = Vectors;

    fn open(c: &Data, network: Option<Shape>) -> Result<Self> {
        let all = Vectors::open(&c.vectors, &c.options(network))?;
        Self::of(c, all, network)
    }

    fn of(c: &Data, all: Vectors, network: Option<Shape>) -> Result<Self> {
        let (train, held_out) = all.split(held_out(c.held_out, (all.len(), "rows"))?)?;
        let shape = network.filter(|shape| shape.len() == train.width());
        let shape = shape.unwrap_or(Shape::Vector(train.width()));
        let weights = match train.known() {
            Known::Numbers { width, .. } => {
                let targets = (0..train.len()).flat_map(|i| train.target(i).to_vec());
                let targets = Vectors::new(*width, targets.collect(), Known::Nothing)?;
                let deviations = targets.statistics().deviation.into_iter();
                deviations.map(|d| (1.0 / (d * d)) as f32).collect()
            }
            _ => Vec::new(),
        };
        let mut table = Self {
            train,
            held_out,
            normalization: None,
            shape,
            weights: weights.into(),
        };
        if c.normalization == Scaling::Measured {
            table.normalization = Some(table.measured());
        }
        Ok(table)
    }

    fn adopt(&mut self, c: &Data, network: Option<&Metadata>) -> Result<()> {
        let task = network.map(Task::of).transpose()?.flatten();
        if let Some(Task::Vectors(v)) = &task {
            for set in [&mut self.train, &mut self.held_out] {
                *set = set.clone().ordered(v.columns())?;
            }
            if c.normalization == Scaling::Measured {
                self.normalization = Some(self.measured());
            }
        }
        if c.normalization == Scaling::Network {
            self.normalization = match task {
                Some(Task::Vectors(v)) => v.normalization().cloned(),
                _ => {
                    let remedy = "no file says how the network's inputs were normalised: name none or measured, as it was trained";
                    return Err(Error::setting("normalization", "network", remedy));
                }
            };
        }
        Ok(())
    }

    fn input(&self) -> (usize, usize, usize) {
        (1, 1, self.train.width())
    }

    fn outputs(&self) -> usize {
        match self.train.known() {
            Known::Numbers { width, .. } => *width,
            _ => self.train.classes().len(),
        }
    }

    fn examples(&self, most: usize) -> Result<Vec<Tensor>> {
        let tensor = |i| -> Result<Tensor> {
            let row = self.train.tensor(i, self.normalization.as_ref())?;
            Ok(Tensor::new(self.shape, row.into_values())?)
        };
        let numbers = data::spread(self.train.len(), most).into_iter();
        numbers.map(tensor).collect()
    }

    fn task(&self, _network: &Metadata) -> Result<Task> {
        let columns = match self.train.columns() {
            [] => (0..self.train.width())
                .map(|i| format!("component {i}"))
                .collect(),
            names => names.to_vec(),
        };
        let outputs = match self.train.classes() {
            [] => Outputs::Values(Vec::new()),
            names => Outputs::Classes(names.to_vec()),
        };
        let vectors = task::Vectors::new(columns, self.normalization.clone(), outputs)?;
        Ok(Task::Vectors(match self.shape {
            Shape::Vector(_) => vectors,
            shape => vectors.shaped(shape)?,
        }))
    }

    fn record(&self, left_out: usize) -> (&'static str, serde_json::Value) {
        let record = serde_json::json!({
            "train": self.train.len(),
            "held_out": self.held_out.len(),
            "left_out_of_intervals": left_out,
        });
        ("vectors", record)
    }

    fn summary(&self) -> String {
        let (train, held_out) = (self.train.len(), self.held_out.len());
        let heading = match self.train.headless() {
            true => "; no heading, all lines of the table are rows",
            false => "",
        };
        format!("{train} vectors to train on, {held_out} held out for choices{heading}")
    }
}
