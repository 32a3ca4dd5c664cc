//! Training networks, and making trained networks polynomial without losing their accuracy.
//!
//! P1 (Baruch et al., arXiv 2304.14836) and what came after it: activations' inputs are held in intervals by a loss, activations become
//! polynomials on what calibration saw there, and the polynomial network is trained back.
//!
//! Modules in reading order: [`config`] (what a run is), [`sources`] (its pictures), [`parameter`], [`activation`] (units with
//! ranges), [`inverse`] (divisions and roots),
//! [`model`] (a graph in training), [`pass`] (forwards, backwards), [`loss`], [`optimizer`], [`calibration`] (ranges, substitution),
//! [`trainer`] (stages, logs, checkpoints), [`checkpoint`], [`memory`]; [`networks`] (networks to begin with), [`surgery`] (changes to them);
//! [`language`]
//! (runs on text), [`generate`] (text from models), [`tasks`] (what models make of text); [`search`] (degrees and bootstraps under a budget); [`study`] (tables from which choices follow), [`plot`] (their charts).
//!
//! The graph is its own tape: nodes are visited in order and in reverse, so that there is no second description of a network and no
//! automatic differentiation. The crate knows nothing of ciphertexts and plans; what a network costs under encryption is passed in.

pub mod activation;
pub mod approximations;
pub mod batch;
pub mod calibration;
pub mod checkpoint;
pub mod config;
pub mod direct;
pub mod error;
pub mod generate;
pub mod inverse;
pub mod language;
pub mod loss;
pub mod memory;
pub mod mode;
pub mod model;
pub mod networks;
pub mod optimizer;
pub mod parameter;
pub mod pass;
pub mod plot;
pub mod runs;
pub mod score;
pub mod search;
pub mod sentences;
pub mod sources;
pub mod study;
pub mod surgery;
pub mod tasks;
pub mod trainer;
pub mod vectors;

mod dirac;
mod layout;
mod sequence;
mod table;
mod workspace;

pub use config::Config;
pub use error::{Error, Result};
pub use model::{Model, Parameterization};
pub use runs::AnyConfig;
pub use score::Score;
pub use sources::Sources;
pub use trainer::{End, Event, Trainer};
