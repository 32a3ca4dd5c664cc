//! A run's configuration: what is trained, on what, in which stages. `run.toml` in the run's folder; the same file repeats the run.

use crate::activation::RangeLoss;
use crate::error::{Error, Result, need};
use crate::inverse::{Iteration, VarianceLoss};
use crate::loss::Loss;
use crate::model::Model;
use crate::optimizer::{Clipping, Rate, Rule};
use crate::surgery::Where;
use data::{Augmentation, Split};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use task::Stated;

/// A run on pictures.
pub type Config = Run<Network, Data>;

/// Everything that decides a run's result, for networks and data of one kind: pictures ([`Config`]) or text
/// ([`LanguageConfig`](crate::language::LanguageConfig)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "N: Deserialize<'de>, D: Deserialize<'de>")
)]
pub struct Run<N, D> {
    /// Decides initial weights, order and augmentation.
    #[serde(default = "one")]
    pub seed: u64,
    /// Pictures, or windows of text, of a step.
    #[serde(default = "count::<64>")]
    pub batch: usize,
    /// What is trained.
    pub network: N,
    /// Batch normalisations to insert; the teacher gets none.
    pub batch_norms: Option<Where>,
    /// A network whose outputs the trained one imitates.
    pub teacher: Option<N>,
    /// On what.
    pub data: D,
    /// One after the other.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// A default of this many.
pub(crate) fn count<const N: usize>() -> usize {
    N
}

fn one() -> u64 {
    1
}

/// A network to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Network {
    /// From a file: ONNX, a ResNet state dict, `.pvm`.
    File {
        /// Its path.
        path: PathBuf,
        /// The activation that a state dict does not name.
        activation: Option<String>,
    },
    /// A residual network for small pictures, with new weights.
    Resnet {
        /// 20, 32, 44, 56, …
        depth: usize,
        /// Channels of the first stage.
        #[serde(default = "count::<16>")]
        width: usize,
        /// Its activation.
        activation: String,
        /// `standard`, `none`, `dirac`, `long-shared`.
        #[serde(default = "standard")]
        skip: String,
    },
    /// Linear layers with an activation between any two, for vectors, with new weights.
    Mlp {
        /// Widths of the layers between input and output.
        hidden: Vec<usize>,
        /// Its activation.
        activation: String,
    },
    /// Three convolutions, for small pictures and first steps, with new weights.
    Small {
        /// Channels of the first stage.
        #[serde(default = "count::<16>")]
        width: usize,
        /// Its activation.
        activation: String,
    },
}

fn standard() -> String {
    "standard".into()
}

/// Where pictures come from. Pictures that the run holds out are never trained on and never calibrate anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// To train on: CIFAR binary, folders or tars of classes, IDX, npz.
    pub train: PathBuf,
    /// Which part of `train`, where it has several: of an npz the training part without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// More, mixed in as stages ask: the better pictures where `train` is lossy.
    pub second: Option<PathBuf>,
    /// So many pictures of `second` (of `train` where there is none, unless that has a validation part, which is then taken and not trained on) are held
    /// out: choices are made on them. Those at its end, or, where the end lacks classes (as in a set sorted by class), as many spread over it. 1000
    /// without it, of fewer than 4000 a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<usize>,
    /// Whether near-duplicates of held-out pictures are taken out of `train` (where `train` holds lossy copies of `second`).
    #[serde(default)]
    pub drop_twins: bool,
    /// At most so many of `train`.
    pub limit: Option<usize>,
    /// Names of the classes, in the order of the labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How pixels become inputs; ImageNet's for new networks without it, and for others as their files say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Pixels>,
    /// Pictures are resized to (height, width).
    pub size: Option<(usize, usize)>,
    /// Whether damaged pictures are left out (and listed) instead of refused.
    #[serde(default)]
    pub skip_damaged: bool,
    /// Random changes of training pictures.
    #[serde(default)]
    pub augmentation: Augmentation,
}

/// How pixels become inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pixels {
    /// `measured` on the training pictures, `network`: as the network's file says, or a name that [`Stated`] knows.
    Named(String),
    /// By numbers.
    Given(Stated),
}

impl From<&str> for Pixels {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

impl Pixels {
    /// The name, where it is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Given(given) => given.name.as_deref(),
        }
    }
}

/// Refuses stages, and a batch, that no run can have.
///
/// # Errors
/// [`Error::Setting`].
pub fn check_stages(stages: &[Stage], batch: usize) -> Result<()> {
    let remedy = "at least 2, or batch statistics mean nothing";
    need(batch >= 2, "batch", batch, remedy)?;
    let remedy = "a run needs at least one [[stage]]";
    need(!stages.is_empty(), "stage", "none", remedy)?;
    stages.iter().try_for_each(|s| s.check(batch))
}

/// Settings that can be refused before anything is opened.
pub trait Checked {
    /// Refuses what can't be.
    ///
    /// # Errors
    /// [`Error::Setting`].
    fn check(&self) -> Result<()>;
}

impl Checked for Data {
    fn check(&self) -> Result<()> {
        if let Some((height, width)) = self.size {
            let value = format!("[{height}, {width}]");
            let remedy = "a height and a width of at least 1";
            need(height > 0 && width > 0, "size", value, remedy)?;
        }
        self.augmentation.check()?;
        Ok(())
    }
}

/// A part of the training with its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stage {
    /// For logs.
    pub name: String,
    /// Passes over the training pictures; a fraction ends within a pass. 0 only substitutes and calibrates.
    pub epochs: f64,
    /// Learning rate.
    pub rate: Rate,
    /// Learning rate of polynomials' coefficients, relative to the others'; 0 leaves them fixed.
    pub coefficient_rate: f32,
    /// The optimiser.
    pub rule: Rule,
    /// Limits on gradients.
    pub clipping: Clipping,
    /// Of the outputs.
    pub loss: Loss,
    /// Of the activations' inputs.
    pub range_loss: RangeLoss,
    /// Of normalisations' variances.
    pub variance_loss: VarianceLoss,
    /// Of what attention divides powers by.
    pub division_loss: VarianceLoss,
    /// Where the range loss holds them.
    pub target: Target,
    /// How activations become polynomials at the beginning.
    pub substitution: Option<Substitution>,
    /// How normalisations' inverse roots become programs at the beginning.
    pub roots: Option<Iteration>,
    /// How attention's divisions become programs at the beginning.
    pub divisions: Option<Iteration>,
    /// Polynomials see inputs clamped to their domain widened by this share on each side; in training only.
    pub guard: Option<f32>,
    /// Share of each batch from the second data, from `second_from` on.
    pub second_share: f32,
    /// Progress of the stage (0 to 1) from which the second data are mixed in.
    pub second_from: f64,
    /// Progress of the stage (0 to 1) from which normalisations keep their statistics as constants, so that training sees the ranges that
    /// inference will see: a batch's own statistics shrink the very picture that leaves its interval later.
    pub frozen_from: Option<f64>,
    /// Whether normalisations' statistics are measured again at the end, on the second data where there are any.
    pub reestimate: bool,
    /// Ends the stage after so many passes without a better accuracy on held-out pictures (a lower loss on held-out text), and goes back
    /// to the best.
    pub patience: Option<usize>,
    /// A step's batch goes through the network in so many parts, whose gradients are added: memory for time. Batch statistics are a part's.
    pub parts: usize,
    /// Backward passes compute activations again, block by block, from those between blocks: less memory for a third more work, and not a
    /// bit of another result.
    pub recompute: bool,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            name: "train".into(),
            epochs: 1.0,
            rate: Rate::default(),
            coefficient_rate: 0.0,
            rule: Rule::default(),
            clipping: Clipping::None,
            loss: Loss::default(),
            range_loss: RangeLoss::None,
            variance_loss: VarianceLoss::None,
            division_loss: VarianceLoss::None,
            target: Target::Domain,
            substitution: None,
            roots: None,
            divisions: None,
            guard: None,
            second_share: 0.0,
            second_from: 0.0,
            frozen_from: None,
            reestimate: false,
            patience: None,
            parts: 1,
            recompute: false,
        }
    }
}

/// The interval in which a range loss holds an activation's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Target {
    /// The same for all, [−10, 10] in P1.
    Fixed {
        /// Its lower end.
        low: f32,
        /// Its upper end.
        high: f32,
    },
    /// The polynomial's domain (its fit's interval).
    Domain,
    /// What calibration saw at the substitution, without margin, as in P1.
    Seen,
    /// The running quantiles of each activation's inputs (all but one value of 10⁴ at each end), widened by this share of their width.
    Quantiles {
        /// Relative to the quantiles' distance.
        margin: f32,
    },
}

/// In which order activations become polynomials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Order {
    /// All at once.
    All,
    /// One after the other over this share of the stage.
    OneByOne {
        /// From 0 to 1.
        share: f64,
    },
    /// All together, the polynomial's share rising from 0 to 1 over this share of the stage.
    Blend {
        /// From 0 to 1.
        share: f64,
    },
}

/// How activations become polynomials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Substitution {
    /// The polynomials' degree: one for all, or one for each activation.
    pub degree: Degrees,
    /// Order.
    #[serde(default = "all")]
    pub order: Order,
    /// What calibration saw is widened by this share of its width at each end.
    #[serde(default = "tenth")]
    pub margin: f64,
    /// Instead, fit on this interval for all activations and refuse where calibration exceeds it.
    pub interval: Option<(f64, f64)>,
    /// Share of the fit's weight that is spread evenly over the interval; 1 is P1's plain least squares.
    #[serde(default = "fiftieth")]
    pub floor: f64,
    /// Pictures (or windows of text) to calibrate on, from the second data where there are any.
    #[serde(default = "count::<2000>")]
    pub pictures: usize,
}

fn all() -> Order {
    Order::All
}

fn tenth() -> f64 {
    0.1
}

fn fiftieth() -> f64 {
    0.02
}

/// Degrees of a network's polynomials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Degrees {
    /// The same for all.
    One(usize),
    /// One for each activation, in topological order.
    Each(Vec<usize>),
}

impl Degrees {
    /// The degree of activation `i`.
    #[must_use]
    pub fn of(&self, i: usize) -> usize {
        match self {
            Self::One(d) => *d,
            Self::Each(d) => d.get(i).copied().unwrap_or(0),
        }
    }
}

impl<N, D> Run<N, D>
where
    N: Serialize + DeserializeOwned,
    D: Serialize + DeserializeOwned + Checked,
{
    /// Reads a TOML file. Relative paths in it count from the current folder.
    ///
    /// # Errors
    /// [`Error::File`], and those of [`Self::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        Self::parse(&text)
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Data`] for an augmentation that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| {
            Error::setting(
                "configuration",
                e.span().map_or_else(String::new, |s| {
                    text[s].lines().next().unwrap_or_default().into()
                }),
                e.message(),
            )
        })?;
        config.check()?;
        Ok(config)
    }

    /// As TOML, every setting written out.
    ///
    /// # Errors
    /// [`Error::Setting`] for a path that is no text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::setting("configuration", String::new(), e.to_string()))
    }

    fn check(&self) -> Result<()> {
        self.data.check()?;
        check_stages(&self.stages, self.batch)
    }

    /// What a run on sequences trains and who teaches it; `load` makes a network and its model.
    pub(crate) fn networks<L>(
        &self,
        load: impl Fn(&N) -> Result<(L, Model)>,
    ) -> Result<(L, Model, Option<Model>)> {
        let remedy = "language models and encoders keep their own normalisations: leave it out";
        need(self.batch_norms.is_none(), "batch_norms", "given", remedy)?;
        let teacher = self.teacher.as_ref().map(&load).transpose()?;
        let (network, trained) = load(&self.network)?;
        Ok((network, trained, teacher.map(|(_, t)| t)))
    }
}

fn is_share(value: &f32) -> bool {
    (0.0..=1.0).contains(value)
}

fn ordered(low: f64, high: f64) -> bool {
    low.is_finite() && high.is_finite() && low < high
}

const LOWER_FIRST: &str = "two numbers, the lower one first";

impl Stage {
    fn check(&self, batch: usize) -> Result<()> {
        self.check_least()?;
        self.check_shares()?;
        let (momenta, decay) = match self.rule {
            Rule::Sgd { momentum, decay } => ([momentum, 0.0], decay),
            Rule::AdamW { betas, decay } => ([betas.0, betas.1], decay),
        };
        let possible =
            momenta.iter().all(|m| (0.0..1.0).contains(m)) && decay.is_finite() && decay >= 0.0;
        let remedy = "momentum and betas from 0 to below 1, a decay of at least 0";
        need(possible, "rule", format!("{:?}", self.rule), remedy)?;
        if let Clipping::Value { limit } | Clipping::Norm { limit } = self.clipping {
            let possible = limit.is_finite() && limit > 0.0;
            let remedy = "a number above 0, or kind = \"none\"";
            need(possible, "clipping.limit", limit, remedy)?;
        }
        if let Target::Fixed { low, high } = self.target {
            let possible = ordered(low.into(), high.into());
            need(possible, "target", format!("[{low}, {high}]"), LOWER_FIRST)?;
        }
        for (setting, how) in [("roots", self.roots), ("divisions", self.divisions)] {
            let Some(how) = how else { continue };
            let possible = (1.0..=60.0).contains(&how.bits)
                && (1.0..=1e6).contains(&how.factor)
                && how.pictures > 0;
            let remedy = "1 to 60 bits, a factor of at least 1, and something to calibrate on";
            need(possible, setting, format!("{how:?}"), remedy)?;
        }
        let (parts, remedy) = (self.parts, "at least 1, and no more than the batch has");
        need((1..=batch).contains(&parts), "parts", parts, remedy)?;
        let remedy = "at least one pass, or leave it out";
        need(self.patience != Some(0), "patience", 0, remedy)?;
        self.substitution
            .as_ref()
            .map_or(Ok(()), Substitution::check)
    }

    /// What must not be below 0.
    fn check_least(&self) -> Result<()> {
        let (weight, edge) = match self.range_loss {
            RangeLoss::None => (0.0, 0.0),
            RangeLoss::Worst { weight } => (weight, 0.0),
            RangeLoss::Boundary { weight, edge } => (weight, edge),
        };
        let margin = match self.target {
            Target::Quantiles { margin } => margin,
            _ => 0.0,
        };
        let number = "a number of at least 0";
        for (setting, value, remedy) in [
            ("rate.peak", self.rate.peak, "a learning rate of at least 0"),
            (
                "coefficient_rate",
                self.coefficient_rate,
                "a factor of at least 0; 0 leaves coefficients fixed",
            ),
            ("range_loss.weight", weight, number),
            (
                "range_loss.edge",
                edge,
                "a number of at least 0, relative to half the interval's width",
            ),
            (
                "target.margin",
                margin,
                "a share of the quantiles' distance of at least 0",
            ),
            (
                "guard",
                self.guard.unwrap_or(0.0),
                "a share of the domain's width of at least 0",
            ),
            ("variance_loss.weight", self.variance_loss.weight(), number),
            ("division_loss.weight", self.division_loss.weight(), number),
        ] {
            need(value.is_finite() && value >= 0.0, setting, value, remedy)?;
        }
        Ok(())
    }

    /// What lies between two numbers.
    fn check_shares(&self) -> Result<()> {
        let possible = (0.0..=10_000.0).contains(&self.epochs);
        let remedy = "a number of passes from 0 to 10,000";
        need(possible, "epochs", self.epochs, remedy)?;
        let (from, remedy) = (self.second_from, "the stage's progress from 0 to 1");
        need((0.0..=1.0).contains(&from), "second_from", from, remedy)?;
        for (setting, value) in [
            ("second_share", self.second_share),
            ("rate.warm_up", self.rate.warm_up),
            ("rate.last", self.rate.last),
            ("loss.smoothing", self.loss.smoothing),
            ("loss.teacher", self.loss.teacher),
        ] {
            need(is_share(&value), setting, value, "a share from 0 to 1")?;
        }
        let (t, remedy) = (self.loss.temperature, "a number above 0; 4 is usual");
        need(t.is_finite() && t > 0.0, "loss.temperature", t, remedy)
    }
}

impl Substitution {
    fn check(&self) -> Result<()> {
        let degrees = match &self.degree {
            Degrees::One(d) => std::slice::from_ref(d),
            Degrees::Each(d) => d,
        };
        let possible = !degrees.is_empty() && degrees.iter().all(|d| (1..=255).contains(d));
        let given = format!("{:?}", self.degree);
        need(possible, "degree", given, "degrees from 1 to 255")?;
        if let Order::OneByOne { share } | Order::Blend { share } = self.order {
            let possible = (0.0..=1.0).contains(&share);
            let remedy = "a share of the stage from 0 to 1";
            need(possible, "order.share", share, remedy)?;
        }
        if let Some((low, high)) = self.interval {
            let value = format!("[{low}, {high}]");
            need(ordered(low, high), "interval", value, LOWER_FIRST)?;
        }
        let possible = (0.0..=1.0).contains(&self.floor) && self.pictures > 0;
        let given = format!("floor {}, {} pictures", self.floor, self.pictures);
        let remedy = "a floor from 0 to 1 and at least one picture";
        need(possible, "substitution", given, remedy)?;
        let (margin, remedy) = (self.margin, "a share of the interval's width from 0 to 10");
        need((0.0..=10.0).contains(&margin), "margin", margin, remedy)
    }
}
