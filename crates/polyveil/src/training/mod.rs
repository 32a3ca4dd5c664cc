//! Adaptation, training, scoring and studies.
//!
//! Training takes hours and is stopped: it keeps a folder of checkpoints and of everything that was said. Adaptation can do without one, and gives its network
//! as a value either way.

pub mod corpus;
mod price;
mod run;
pub mod score;
pub mod search;
mod skips;
mod start;
pub mod study;
pub mod table;
pub mod tasks;

pub use ::train::vectors::Scaling;
pub use ::train::{Error, config, study::activations, surgery};
pub use run::{Adapted, Examples, Saving, adapt, adapt_network, adapt_vectors, train};
pub use start::{Adapting, Recipe, Start, Vectors};
