//! Neural networks on encrypted data, for many clients: a service over HTTP, and its client.
//!
//! ```text
//!        ┌────────── machine of the network's owner: compiles ──────────┐
//!        │ NAME.plan (weights)                            NAME.client   │
//!        ▼                                                       ▼
//!   the server: this crate's `Service`          a client: `client::Remote`, and the library's `Client`
//!   keys, inputs, answers: ciphertexts ◄───────► evaluation.keys, inputs; client.key never leaves
//! ```
//!
//! * [`service`] is what accounts may do, [`api`] says it in HTTP, [`listener`] holds connections to their limits, over
//!   [`tls`] where there is a certificate.
//! * [`engine`] carries out jobs: keys in memory, room for them, checkpoints. Jobs come to it through [`queue`].
//! * [`book`] keeps [`records`] in a transactional database, [`store`] keeps files, in a folder or partly in a [`bucket`], [`watch`] tells
//!   the operator.
//! * [`operator`] publishes plans and makes accounts; [`client`] and [`doctor`] are the other side, and in a browser the [`page`].
//!
//! Without the feature `server`, which is on by default, this is the client's library alone: [`client`], [`doctor`] and [`records`].
//!
//! The server has no type that could hold a secret key; the client sends nothing but what a file's header says to be public.

#![deny(missing_docs)]

#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "server")]
pub mod book;
#[cfg(feature = "server")]
pub mod bucket;
pub mod client;
pub mod doctor;
#[cfg(feature = "server")]
pub mod engine;
mod error;
#[cfg(feature = "server")]
pub mod listener;
#[cfg(feature = "server")]
pub mod operator;
#[cfg(feature = "server")]
pub mod page;
#[cfg(feature = "server")]
pub mod queue;
pub mod records;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
mod start;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "trust")]
mod trust;
#[cfg(feature = "server")]
pub mod watch;

pub use error::{Code, Error, Result};
#[cfg(feature = "server")]
pub use service::Service;
#[cfg(feature = "server")]
pub use start::{Start, serve};
