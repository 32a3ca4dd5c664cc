//! Neural networks on encrypted data: the library under the programs.

#![allow(missing_docs, clippy::missing_errors_doc)] // until the modules that moved here are a library

mod answers;
pub mod bench;
pub mod bench_table;
pub mod calibrate;
pub mod client;
pub mod demo;
pub mod error;
pub mod estimate;
pub mod evaluate;
pub mod files;
pub mod inputs;
pub mod inspect;
pub mod keys;
pub mod machine;
mod markdown;
pub mod network;
pub mod progress;
pub mod serve;
pub mod session;
#[cfg(feature = "train")]
pub mod training;

pub use {ckks, compiler, data, nn, runtime, task};

pub use answers::require_memory;
pub(crate) use answers::{answer_of, largest_error};
pub use error::{Error, Help, Result};
pub use progress::{Listener, Progress};

/// Compiles a network and verifies its plan.
///
/// # Errors
/// Those of [`compiler::compile`] and of verification.
pub fn compile(graph: &nn::PolyGraph, target: &compiler::Target) -> Result<runtime::VerifiedPlan> {
    Ok(compiler::compile(graph, target)?)
}
