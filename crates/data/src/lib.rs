//! Labelled pictures, vectors and text from files, augmentation, batches and windows, the same bytes for the same seed.
//!
//! ```no_run
//! use data::{Augmentation, Dataset, Loader, LoaderOptions, Options};
//! # fn main() -> data::Result<()> {
//! let (train, skipped) = Dataset::open("train_jpeg.tar.gz".as_ref(), &Options::default())?;
//! let options = LoaderOptions {
//!     augmentation: Augmentation { flip: true, crop_padding: 4, ..Augmentation::default() },
//!     normalization: train.channel_statistics()?,
//!     ..LoaderOptions::default()
//! };
//! for batch in Loader::new(train, options)?.epoch(0, 0) {
//!     let batch = batch?; // images (B, H, W, C), labels (B)
//! }
//! # Ok(()) }
//! ```
//!
//! **Formats**, told by content or layout: CIFAR-10 and CIFAR-100 binary files; folders or `.tar`, `.tar.gz` of `CLASS/*.jpg`; IDX
//! (MNIST), gzipped or not; `.npz` (MedMNIST). Vectors: CSV, `.npy`, `.npz`.
//!
//! **Determinism.** Order and augmentation are functions of (seed, epoch, index) by a counter-based generator: neither the number of
//! threads nor a resume changes a byte.
//!
//! **Trust.** Files are attacker's bytes: sizes are limited, and nothing is allocated because a header says so.
//!
//! Modules in reading order: [`dataset`] (pictures with labels), `open` and the formats `cifar`, `idx`, `npz`, `folder`, `tar`;
//! [`vectors`] and the formats `csv`, `npy`; [`augment`], [`loader`] (batches), [`mod@twins`] (near-duplicates); [`text`], [`sentences`],
//! [`tasks`].
//! The crate knows nothing of networks or training.

pub mod augment;
pub mod dataset;
pub mod error;
pub mod loader;
pub mod options;
pub mod sentences;
pub mod tasks;
pub mod text;
pub mod twins;
pub mod vectors;

mod cifar;
mod csv;
mod files;
mod folder;
mod idx;
mod npy;
mod npz;
mod open;
mod random;
mod shape;
mod source;
mod split;
mod tar;

pub use augment::{Augmentation, ResizedCrop};
pub use dataset::Dataset;
pub use error::Error;
pub use loader::{Batch, Epoch, Loader, LoaderOptions, Order};
pub use npy::{array_bytes, read_numbers};
pub use open::{is_npz, is_table};
pub use options::{Damaged, Labels, Options, Resize, Skipped, Taken, UNNAMED, spread};
pub use random::order;
pub use sentences::Sentences;
pub use shape::Shape;
pub use split::Split;
pub use text::{Text, Windows};
pub use twins::{Twin, twins};
pub use vectors::{Answers, Heading, Known, VectorOptions, Vectors};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
