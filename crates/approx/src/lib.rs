//! Functions on an interval become polynomials with a known error and a known depth.
//!
//! Notation: `[a, b]` is the interval, `x` a point of it, `t = (2x − a − b)/(b − a)` its image in `[−1, 1]`,
//! `T_k` the Chebyshev polynomial of degree `k`; a [`Polynomial`] is `Σ c_k T_k(t)`.
//!
//! Modules in reading order: [`polynomial`] (the result type), [`activation`] (the functions that networks use),
//! [`least_squares`] and [`mod@remez`] (two ways from a function to a polynomial), [`composite`] (ReLU by a composite sign),
//! [`iteration`] (division and inverse square roots), [`error`].
//!
//! The crate knows real numbers only: no rings, no ciphertexts, no networks. It never clamps: outside of its interval a
//! polynomial is evaluated as the polynomial that it is.

pub mod activation;
pub mod composite;
pub mod error;
pub mod iteration;
pub mod least_squares;
pub mod polynomial;
pub mod remez;

mod sup;

pub use activation::Activation;
pub use composite::Composite;
pub use error::Error;
pub use iteration::{Function, Method, Program};
pub use least_squares::{chebyshev_least_squares, weighted_least_squares};
pub use polynomial::Polynomial;
pub use remez::remez;
pub use sup::Approximation;
