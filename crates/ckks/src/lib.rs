//! The RNS-CKKS scheme: parameters, keys, encoding, evaluation, circuits and bootstrapping.
//!
//! **The law**: every homomorphic circuit is written once over [`Arithmetic`] and read three ways: [`Clear`] (f64: what it means), [`Meter`] (levels, scales, noise, counts: what it costs) and
//! [`Evaluator`] (ciphertexts: what it does).
//!
//! Reading order: [`parameters`] ([`levelled`]: sets made to measure) → [`security`] → [`typing`] → [`map`] and [`Polynomial`] (what is evaluated) → [`context`] → [`arithmetic`] → [`encoder`] → [`ciphertext`] → [`keys`] → [`secret`] → [`engine`] → [`evaluator`] →
//! [`linear`] → [`polynomial`] → [`coefficients`] → [`bootstrap`] → [`clear`] → [`work`] and [`memory`] (what operations cost) → [`meter`] (`errors`: where a value's error comes from; `gains`: how maps let it grow).
//!
//! Notation: N ring degree, n slots (a power of two, n ≤ N/2; a vector of n slots is repeated N/2n times),
//! ℓ level (counts down to 0), `Q_ℓ` the product of level ℓ's primes, `S_ℓ` the canonical scale at level ℓ.
//! Levels are groups of primes; nothing outside [`parameters`] assumes limbs = level + 1.
//!
//! What this crate does not do: files, sockets, networks.

pub mod arithmetic;
pub mod bootstrap;
mod chebyshev;
pub mod ciphertext;
pub mod clear;
pub mod coefficients;
pub mod context;
mod dft;
pub mod encoder;
pub mod engine;
pub mod error;
mod errors;
pub mod evaluator;
pub mod folded;
mod gains;
pub mod keys;
pub mod levelled;
pub mod linear;
pub mod map;
pub mod memory;
pub mod meter;
pub mod packing;
pub mod parameters;
pub mod polynomial;
mod product;
pub mod ring_switch;
pub mod secret;
pub mod security;
mod tables;
pub mod typing;
pub mod work;

pub use arithmetic::Arithmetic;
pub use bootstrap::{Bootstrap, HalfBootstrap};
pub use chebyshev::Polynomial;
pub use ciphertext::{Ciphertext, EncodedPlain, SeededCiphertext};
pub use clear::{Clear, ClearValue};
pub use coefficients::{Coefficients, Descent};
pub use context::Context;
pub use dft::{Form, Transforms};
pub use encoder::Encoder;
pub use engine::Engine;
pub use error::Error;
pub use evaluator::Evaluator;
pub use folded::{Convolution, Folded, WeightRows};
pub use gains::ReadWeights;
pub use keys::{EvaluationKeys, KeyName, KeyRequest, KeyUse, SwitchingKey};
pub use map::BlockMap;
pub use meter::{Meter, MeterValue, Weights};
pub use num_complex::Complex64;
pub use parameters::{Level, Parameters, ParametersSpec};
pub use ring_switch::{RingSwitch, RingSwitchKeys};
pub use secret::{KeyMaker, SecretKey};
pub use typing::Info;
pub use work::{Cost, CostTable, MapSize};
