//! Neural networks on encrypted data: a client encrypts, a server computes on ciphertexts only, the client decrypts.
//!
//! ```
//! use polyveil::{calibrate::*, data::{Known, Vectors}, inputs::*, progress::silent, task::{Answer, Stated}, *};
//! # const ONNX: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/xor.onnx"));
//! // whoever has the network: polynomials in place of activations, fitted to data, then a plan
//! let known = Known::Classes { names: ["equal".into(), "different".into()].into(), labels: [0, 1, 1, 0].into() };
//! let table = Source::given("table", Given::Rows(Vectors::new(2, vec![0., 0., 0., 1., 1., 0., 1., 1.], known)?));
//! let options = Calibrating { degree: 7, normalization: Stated::named("none"), ..Default::default() };
//! let network = calibrate_network(network::from_bytes(ONNX, None, None)?, &[table], &options, &mut silent)?;
//! let plan = std::sync::Arc::new(compile(&network, &compiler::Target::default())?);
//! // the client: keys and an input, as bytes
//! let client = Client::new(client_file(&plan, &network)?)?;
//! let (keys, input) = (client.evaluation_keys()?, client.encrypt(&[Input::Row(vec![1.0, 0.0])])?);
//! // the server sees bytes and gives bytes
//! let answer = Server::new(plan, &keys)?.run(&input)?;
//! // the client again: scores of the classes "equal" and "different"
//! let scores = client.decrypt(&answer)?;
//! assert!(scores[1] > scores[0] + 0.5);
//! # assert!(matches!(client.read(&scores)?, Answer::Classes(s) if s.best() == 1));
//! # Ok::<_, Error>(())
//! ```
//!
//! The same on files: [`calibrate()`](calibrate::calibrate), [`network`], [`keys`], [`client`], [`serve`]. In one process, with what it took:
//! [`Session`]. How a network fares on data, encrypted and in the clear: [`evaluate`]. What it will cost: [`machine`], [`estimate`](mod@estimate).
//! Training and adaptation are behind the feature `train`; with the feature `clap`, options can be read from a command line.
//!
//! Nothing here prints: long work tells a [`Listener`] how far it is, and gives what it found as values. Work runs on the threads of the
//! caller's rayon pool (`pool.install(|| …)`). What a process has once is safe to share, and changes no result: `ring`'s store of memory, which
//! keeps what one user frees for the next one's ciphertexts and can be told what to say before memory ends, its choice of kernels, and the list of
//! files being written. A program that is about to end removes these by [`files::abandon`]: nothing in the process is written any more from then on.

#![deny(missing_docs)]

mod answers;
pub mod bench;
pub mod bench_table;
pub mod calibrate;
pub mod client;
#[cfg(feature = "clap")]
pub mod command_line;
pub mod demo;
pub mod error;
pub mod estimate;
pub mod estimate_pictures;
pub mod estimate_tokens;
pub mod evaluate;
pub mod files;
pub mod inputs;
pub mod inspect;
mod kept_run;
mod key_folder;
pub mod keys;
pub mod machine;
mod markdown;
mod memory;
pub mod network;
mod normalization;
#[cfg(feature = "clap")]
pub mod pixels;
pub mod positions;
pub mod progress;
mod questions;
pub mod serve;
mod server;
pub mod session;
pub mod shares;
mod stated;
#[cfg(feature = "train")]
pub mod training;

pub use {ckks, compiler, data, nn, runtime, task, zoo};

pub use answers::require_memory;
pub(crate) use answers::{answer_of, at_its_peak, largest_error};
pub use client::{Client, Input};
pub use error::{Error, Help, Result};
pub use positions::Positions;
pub use progress::{Listener, Progress};
pub use server::Server;
pub use session::Session;

/// Compiles a network, verifies its plan, and states its error: where the bound says little, by runs simulated on what is compiled (`docs/noise.md`).
///
/// # Errors
/// Those of [`compiler::compile`] and of verification; a task that can't be read; a lack of memory for compiling itself, unless the target says how much there is.
pub fn compile(graph: &nn::PolyGraph, target: &compiler::Target) -> Result<runtime::VerifiedPlan> {
    let inputs = stated::Samples::of(graph)?;
    stated::stating(compiled(graph, target)?, graph, &inputs)
}

/// As [`compile`], without simulated runs.
pub(crate) fn compiled(
    graph: &nn::PolyGraph,
    target: &compiler::Target,
) -> Result<runtime::VerifiedPlan> {
    let target = within_limits(target);
    // what clients could not read is not compiled for them
    task::Task::of(graph.metadata())?;
    network::refuse_silent(graph)?;
    Ok(compiler::compile(graph, &target)?)
}

/// With the room that there is, unless the target says how much.
fn within_limits(target: &compiler::Target) -> compiler::Target {
    compiler::Target {
        room: target.room.or_else(runtime::limits::here),
        ..target.clone()
    }
}

/// What compiling a network will take, the process's own memory included.
///
/// # Errors
/// Those of [`compiler::needs`].
pub fn needs(graph: &nn::PolyGraph, target: &compiler::Target) -> Result<compiler::Needs> {
    network::refuse_silent(graph)?;
    // before: what counting has taken is used again
    let resident = runtime::limits::resident();
    let needs = compiler::needs(graph, &within_limits(target))?;
    // what is checked when the work begins does not take it for the process's own
    ring::heap::trim();
    Ok(compiler::Needs {
        bytes: needs.bytes + resident,
        ..needs
    })
}

/// As [`needs`], said; none where it can't be foreseen, which the compiler refuses, if it is to be.
pub fn foreseen(
    graph: &nn::PolyGraph,
    target: &compiler::Target,
    tell: Listener<'_>,
) -> Option<compiler::Needs> {
    use progress::Say as _;
    let needs = needs(graph, target).ok()?;
    tell.note(format_args!(
        "compiling will take about {} of memory and {:.1} CPU seconds",
        runtime::size(needs.bytes),
        needs.seconds
    ));
    Some(needs)
}

/// What a client needs of a plan: keys are made from it.
///
/// # Errors
/// Those of [`network::require_plan_of`].
pub fn client_file(
    plan: &runtime::VerifiedPlan,
    graph: &nn::PolyGraph,
) -> Result<runtime::ClientFile> {
    network::require_plan_of(plan, graph)?;
    Ok(plan.client_file(network::task_bytes(graph))?)
}

/// The parameter set of a name, of an option.
#[cfg(feature = "clap")]
#[doc(hidden)]
pub fn parameters(name: &str) -> std::result::Result<ckks::ParametersSpec, String> {
    ckks::ParametersSpec::named(name).ok_or_else(|| {
        format!("`{name}` is no parameter set; there are standard-16, coefficients-16-K, coefficients-16-K-20 and levelled-LOGN-LEVELSxBITS-DIGIT (levelled-14-6x38-3); without a name the cheapest is chosen")
    })
}

/// Where linear layers are carried out, of an option.
#[cfg(feature = "clap")]
#[doc(hidden)]
pub fn layers(name: &str) -> std::result::Result<compiler::Layers, String> {
    compiler::Layers::named(name).ok_or_else(|| {
        let names = compiler::Layers::NAMES;
        format!("layers are carried out in no `{name}`; there are {names}")
    })
}

/// Bytes, of an option such as 12GB.
#[cfg(feature = "clap")]
#[doc(hidden)]
pub fn size(text: &str) -> std::result::Result<u64, String> {
    runtime::parse_size(text)
        .ok_or_else(|| format!("`{text}` is not a size; write for example 12GB, 800MB or 4GiB"))
}
