//! What can go wrong in training, in the user's words.

use std::path::Path;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator that can't be trained.
    #[error("node {node}: {operator} can't be trained here: {remedy}")]
    Unsupported {
        /// The node.
        node: String,
        /// The operator.
        operator: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Weights or losses stopped being numbers.
    #[error(
        "{what} is not finite since epoch {epoch}, step {step}: lower the learning rate, clip gradients, or raise the range loss; the last checkpoint is from before"
    )]
    Diverged {
        /// The loss, or a parameter.
        what: String,
        /// From 0.
        epoch: usize,
        /// From 0, in the epoch.
        step: usize,
    },
    /// Polynomials that some input drives beyond all numbers.
    #[error(
        "one of the data drives the input of {node} out of all bounds (beyond {limit:e}): the polynomials hold nowhere for it; train on with a stronger range loss (`range_loss.weight`), or from a wider margin"
    )]
    Exploded {
        /// The first activation.
        node: String,
        /// The bound.
        limit: f32,
    },
    /// A trained network of which no polynomial network could be made or written.
    #[error("{error}; what was trained is in {kept}")]
    Unfinished {
        /// Why.
        error: Box<Error>,
        /// Where it was kept.
        kept: String,
    },
    /// The network's output and the data's classes differ.
    #[error(
        "the network has {outputs} outputs, the data {classes} classes: train with the classes that the network knows"
    )]
    Classes {
        /// Outputs.
        outputs: usize,
        /// Classes.
        classes: usize,
    },
    /// Inputs of another size than the network takes.
    #[error(
        "the network takes {needed}, the data holds {had}: resize pictures (`size` in the configuration), or leave columns of vectors out"
    )]
    Shape {
        /// The network's input.
        needed: String,
        /// The data's.
        had: String,
    },
    /// A resume that would not continue the same run.
    #[error(
        "{path}: this checkpoint belongs to another configuration ({field} is {had} there and {needed} here): resume with the configuration in the checkpoint's folder, or start anew in another folder"
    )]
    Configuration {
        /// The checkpoint.
        path: String,
        /// What differs.
        field: String,
        /// There.
        had: String,
        /// Here.
        needed: String,
    },
    /// A checkpoint that can't be read.
    #[error("{path}: {detail}")]
    Checkpoint {
        /// The file.
        path: String,
        /// Why.
        detail: String,
    },
    /// A value that a setting can't have.
    #[error("{setting} = {value}: {remedy}")]
    Setting {
        /// Its name in the configuration.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        remedy: String,
    },
    /// An interval that an input of the calibration set exceeds.
    #[error(
        "activation {node}: calibration saw {value:.4}, outside [{low:.4}, {high:.4}]: widen the interval, train longer with the range loss, or raise its weight"
    )]
    Interval {
        /// The activation.
        node: String,
        /// The value.
        value: f64,
        /// The interval's lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// A budget that no network keeps.
    #[error(
        "no network keeps {budget}: the nearest takes {nearest}, degrees {degrees}; allow {enough}, or offer lower degrees"
    )]
    Budget {
        /// What was allowed.
        budget: String,
        /// What the nearest network takes.
        nearest: String,
        /// Its degrees, in the order of the activations.
        degrees: String,
        /// A budget that it keeps.
        enough: String,
    },
    /// From whoever was asked what a network costs.
    #[error("{0}")]
    Cost(Box<dyn std::error::Error + Send + Sync>),
    /// A study that lacks a polynomial or a price.
    #[error("{what}: {source}")]
    Study {
        /// Of what.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A chart that can't be drawn.
    #[error("figure \"{title}\": {reason}")]
    Chart {
        /// Its title.
        title: String,
        /// Why.
        reason: String,
    },
    /// From the network.
    #[error(transparent)]
    Network(#[from] nn::Error),
    /// From the network's task: a vocabulary, a picture.
    #[error(transparent)]
    Task(#[from] task::Error),
    /// From the data.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// From a fit.
    #[error(transparent)]
    Fit(#[from] approx::Error),
    /// A file that can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// A value that a setting can't have.
    pub(crate) fn setting(
        setting: &'static str,
        value: impl ToString,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Setting {
            setting,
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }

    /// A file of a run that can't be gone on with.
    pub(crate) fn checkpoint(path: &Path, detail: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.display().to_string(),
            detail: detail.into(),
        }
    }

    pub(crate) fn unsupported(node: &str, operator: &str, remedy: &'static str) -> Self {
        Self::Unsupported {
            node: node.into(),
            operator: operator.into(),
            remedy,
        }
    }

    /// What happened to a file.
    pub(crate) fn file(path: &Path) -> impl Fn(std::io::Error) -> Self + Copy + '_ {
        |source| Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

/// Refuses what a setting can't be.
pub(crate) fn need(
    possible: bool,
    setting: &'static str,
    value: impl ToString,
    remedy: impl Into<String>,
) -> Result<()> {
    match possible {
        true => Ok(()),
        false => Err(Error::setting(setting, value, remedy)),
    }
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
