//! A trained network and pictures become a run that makes the network polynomial.

use crate::error::{Result, named};
use crate::normalization::{Begins, begins};
use crate::progress::{Listener, Say};
use nn::{Graph, Metadata};
use std::path::PathBuf;
use task::Stated;
use train::config::{Data, Degrees, Network, Order, Pixels, Run, Stage, Substitution, Target};
use train::surgery::Where;
pub use train::vectors::Data as Vectors;

/// A trained network and the data (pictures, or [`Vectors`]) with which it becomes polynomial: what [`adapt`](super::adapt) and [`search`](super::search::search)
/// start from.
#[derive(Debug, Clone)]
pub struct Start<D = Data> {
    /// The trained network: a state dict, ONNX, safetensors or .pvm.
    pub model: PathBuf,
    /// Its activation, where its file does not say.
    pub activation: Option<String>,
    /// Decides order and augmentation.
    pub seed: u64,
    /// The data.
    pub data: D,
}

impl<D> Start<D> {
    /// The network, read.
    pub(super) fn original(&self) -> Result<Original> {
        let activation = self.activation.as_deref();
        let activation = activation.and_then(approx::Activation::named);
        let network = zoo::open(&self.model, &activation.into())
            .and_then(zoo::Model::graph)
            .map_err(named(&self.model))?;
        Ok(Original {
            network,
            named: Network::File {
                path: self.model.clone(),
                activation: self.activation.clone(),
            },
        })
    }
}

/// A trained network with what its file says, and how a configuration names it.
pub(super) struct Original {
    pub(super) network: (Graph, Metadata),
    pub(super) named: Network,
}

impl Original {
    /// Of a network at hand, which configurations, and so records, call by its own name.
    pub(super) fn at_hand(network: crate::network::Network) -> Result<Self> {
        let (graph, metadata) = match network {
            crate::network::Network::Trained(graph, metadata) => (graph, metadata),
            crate::network::Network::Polynomial(graph) => zoo::Model::Polynomial(graph).graph()?,
        };
        Ok(Self {
            named: Network::File {
                path: PathBuf::from(&*metadata.name),
                activation: None,
            },
            network: (graph, metadata),
        })
    }

    /// Data with the normalisation by which the network begins itself, where neither its file nor anybody else says one.
    pub(super) fn normalised(&self, mut data: Data, tell: Listener<'_>) -> Data {
        let (graph, metadata) = &self.network;
        let left = data.normalization.as_ref();
        if left.is_none_or(|pixels| *pixels == "network".into())
            && let (None, Begins::Normalising(own)) = (&metadata.task, begins(graph))
        {
            tell.note(format_args!(
                "the network normalises pixels itself: v become {own}"
            ));
            data.normalization = Some(Pixels::Given(Stated {
                mean: own.mean,
                deviation: own.deviation,
                channels: own.channels,
                ..Stated::default()
            }));
        }
        data
    }

    /// A run that ends with polynomials in the network's activations.
    pub(super) fn config<D>(
        &self,
        (seed, data): (u64, D),
        stages: Vec<Stage>,
        tell: Listener<'_>,
    ) -> Run<Network, D> {
        Run {
            seed,
            batch: 64,
            network: self.named.clone(),
            batch_norms: None,
            teacher: self.teacher(tell),
            data,
            stages,
        }
    }

    /// The original network teaches, unless it takes maxima, which training does not compute: its averages then learn from labels alone.
    fn teacher(&self, tell: Listener<'_>) -> Option<Network> {
        let (graph, _) = &self.network;
        let maximum = |n: &&nn::Node<nn::Nonlinearity>| matches!(n.op(), nn::Op::MaxPool(_));
        if let Some(n) = graph.nodes().iter().find(maximum) {
            tell.note(format_args!(
                "node {} and all others of its kind become averages; the original can't teach, pictures' labels do",
                n.name()
            ));
            return None;
        }
        Some(self.named.clone())
    }
}

/// How a network becomes polynomial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Recipe {
    /// A loss on every value near its interval's edge, low degrees blended in, coefficients trained, the original as teacher.
    #[default]
    Boundary,
    /// As arXiv 2304.14836: a loss on each activation's worst violation of [−10, 10] first, then degree 18 by least squares with fixed
    /// coefficients and the loss fifty times as strong; labels alone teach.
    P1,
}

/// What [`adapt`](super::adapt) may be told beside its start.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Adapting {
    /// How the network is trained; `p1` is there to compare with a paper.
    #[cfg_attr(
        feature = "clap",
        arg(long, value_enum, value_name = "NAME", default_value = "boundary")
    )]
    pub recipe: Recipe,
    /// Degree of the polynomials: higher ones are nearer to the original and take more levels, which is time; 2 to 7 where the network is trained. If
    /// none 4, and 18 by the recipe p1.
    #[cfg_attr(feature = "clap", arg(long, value_name = "D"))]
    pub degree: Option<usize>,
    /// Passes over the training pictures; if none as the degree needs, 8 for 4. The recipe p1 has as many again before the activations become
    /// polynomials.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub epochs: Option<f64>,
    /// The largest learning rate; if none as the degree needs, 0.02 for 4.
    #[cfg_attr(feature = "clap", arg(long, value_name = "R"))]
    pub rate: Option<f32>,
    /// Where batch normalisations are inserted: `after` every convolution, `before` every convolution but the first, or behind nodes of these
    /// names, separated by commas.
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHERE"))]
    pub batch_norms: Option<Where>,
    /// Pictures or rows of a training step, at most as many as there are to train on; if none 64.
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub batch: Option<usize>,
}

impl Adapting {
    /// `second` is what stages mix in.
    ///
    /// # Errors
    /// Settings that no run can have.
    pub(super) fn config<D>(
        &self,
        original: &Original,
        data: (u64, D),
        second: bool,
        tell: Listener<'_>,
    ) -> Result<Run<Network, D>> {
        let stages = match self.recipe {
            Recipe::Boundary => schedule(self.degree.unwrap_or(4), self.epochs, self.rate, second),
            Recipe::P1 => p1(self.degree.unwrap_or(18), self.epochs, self.rate),
        };
        let mut config = original.config(data, stages, tell);
        if self.recipe == Recipe::P1 {
            config.teacher = None;
        }
        config.batch_norms.clone_from(&self.batch_norms);
        config.batch = self.batch.unwrap_or(config.batch);
        train::config::check_stages(&config.stages, config.batch)?;
        Ok(config)
    }
}

/// The default schedule: higher degrees are nearer to the original and need less training.
pub(super) fn schedule(
    degree: usize,
    epochs: Option<f64>,
    rate: Option<f32>,
    second: bool,
) -> Vec<Stage> {
    use train::optimizer::{Clipping, Rate};
    let (default_epochs, default_rate, blend) = match degree {
        0..=3 => (15.0, 0.03, 0.4),
        4..=8 => (8.0, 0.02, 0.3),
        _ => (3.0, 0.003, 0.0),
    };
    let trainable = degree <= 8;
    vec![Stage {
        name: format!("degree-{degree}"),
        epochs: epochs.unwrap_or(default_epochs),
        rate: Rate {
            peak: rate.unwrap_or(default_rate),
            warm_up: 0.05,
            last: 0.0,
        },
        coefficient_rate: if trainable { 0.1 } else { 0.0 },
        clipping: Clipping::Norm { limit: 1.0 },
        loss: train::loss::Loss {
            teacher: 0.9,
            ..train::loss::Loss::default()
        },
        // weaker losses let single pictures diverge: training/README.md
        range_loss: train::activation::RangeLoss::Boundary {
            weight: 10.0,
            edge: 0.6,
        },
        target: Target::Domain,
        substitution: Some(Substitution {
            degree: Degrees::One(degree),
            order: if blend > 0.0 {
                Order::Blend { share: blend }
            } else {
                Order::All
            },
            // high degrees explode soon outside: a wide interval, and no step beyond it in training
            margin: if trainable { 0.15 } else { 0.5 },
            interval: None,
            floor: 0.02,
            pictures: 2000,
        }),
        guard: Some(if trainable { 0.1 } else { 0.0 }),
        second_share: if second { 0.375 } else { 0.0 },
        second_from: 0.5,
        frozen_from: Some(0.6),
        ..Stage::default()
    }]
}

/// The two stages of arXiv 2304.14836, with its toolbox's settings: λ = 0.002 on [−10, 10] with the original activations, then
/// least squares on evenly spread points and λ = 0.1 on the ranges that calibration saw.
fn p1(degree: usize, epochs: Option<f64>, rate: Option<f32>) -> Vec<Stage> {
    use train::activation::RangeLoss;
    use train::optimizer::Rate;
    let stage = |name: String, weight, target| Stage {
        name,
        epochs: epochs.unwrap_or(3.0),
        rate: Rate {
            peak: rate.unwrap_or(0.005),
            warm_up: 0.0,
            last: 0.0,
        },
        range_loss: RangeLoss::Worst { weight },
        target,
        ..Stage::default()
    };
    let interval = Target::Fixed {
        low: -10.0,
        high: 10.0,
    };
    vec![
        stage("range".into(), 0.002, interval),
        Stage {
            substitution: Some(Substitution {
                degree: Degrees::One(degree),
                order: Order::All,
                margin: 0.15,
                interval: None,
                floor: 1.0,
                pictures: 2000,
            }),
            guard: Some(0.0),
            ..stage(format!("degree-{degree}"), 0.1, Target::Seen)
        },
    ]
}
