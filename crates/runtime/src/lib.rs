//! Carries out a verified plan on either side of the wire, and reports.
//!
//! * [`plan`] and [`operation`]: the program that the compiler writes; [`verified`] and [`facts`]: that program once one pass of
//!   [`ckks::Meter`] proved it, the only form that runs, and what is known of it;
//!   [`interpreter`]: carrying it out over any [`ckks::Arithmetic`].
//! * [`client`] holds the secret key, [`server`] cannot hold one.
//! * [`wire`]: what passes between them as bytes. Bytes from outside become checked objects or one clear error.
//! * [`answer`]: what an honest answer cannot be, which is refused; [`alarm`]: sums beside it that tell of values which left an interval.
//! * [`sharing`]: noise flooding for answers that leave the client, or their class alone, which needs none.
//! * [`plan_file`], [`checkpoint`], [`inspection`]: the server's own files, and what any file says about itself.
//! * [`check`]: the clear twin beside an encrypted run; [`noise`]: what error its answer will have, by simulation; [`prediction`]: what a run will cost, [`preparation`]: its memory, fetched ahead, [`placement`]: keys in memory or on disk, [`report`]: what it cost; [`machine`]: memory, disk and clocks, [`limits`]: how much memory is left, [`liveness`]: how long values take it, [`machine_file`]: what
//!   a machine was measured to cost.
//!
//! Notation: plan units are normalised values, network units are the network's own; network value = unit × plan value.
//!
//! Where there are no files, in a browser, [`checkpoint`], [`inspection`] and [`sharing`], whose record must outlive a crash, are not there.
//!
//! What this crate does not know: graphs, training, how a plan was chosen. It prints nothing.

pub mod alarm;
pub mod answer;
mod beside;
pub mod cache;
pub mod check;
#[cfg(unix)]
pub mod checkpoint;
pub mod client;
pub mod error;
pub mod facts;
pub mod folding;
#[cfg(unix)]
pub mod inspection;
pub mod integers;
pub mod interpreter;
pub mod limits;
pub mod liveness;
pub mod machine;
pub mod machine_file;
mod measure;
pub mod noise;
pub mod operation;
pub mod placement;
pub mod plan;
pub mod plan_file;
pub mod prediction;
pub mod preparation;
pub mod report;
pub mod server;
#[cfg(unix)]
pub mod sharing;
mod simulated;
mod size;
mod stored_keys;
pub mod verified;
mod verify;
pub mod wire;

pub use alarm::{Alarm, Owners, Sums};
pub use answer::{AnswerTest, Measure};
pub use cache::Cache;
pub use check::{ClearTwin, Excess, LockStep};
pub use client::{Client, Judged};
pub use error::{Error, Help, Limit, Remedy, Result};
pub use facts::PlanFacts;
pub use integers::Integers;
pub use interpreter::{Done, Observer, Progress, Reporter, State, Stopwatch};
pub use machine_file::MachineFile;
pub use noise::Noise;
pub use operation::{Operation, Purpose, Work};
pub use placement::Placement;
pub use plan::{Description, Kept, Plan, Port, Sequence, Step};
pub use plan_file::Limits;
pub use prediction::{Basis, Prediction};
pub use preparation::Preparation;
pub use report::Report;
pub use server::Server;
pub use size::{parse_size, size};
pub use verified::VerifiedPlan;
pub use wire::{
    ClientFile, ClientSpec, Encrypted, KeyId, ServerKeys, checked_parameters, parameters_digest,
};

/// A register of the program; written once.
pub type Register = usize;
