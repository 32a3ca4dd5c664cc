//! One structural error for the whole crate: every message names the cause and the remedy.

use crate::measure::Measure;
use crate::size;
use crate::wire::KeyId;

/// Which step of the way helps, for a program to say how it is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Help {
    /// Calibrate the network on data that covers its inputs.
    Calibrate,
    /// Compile the network.
    Compile,
    /// Compile the network for several inputs at a time.
    Batch,
    /// Make keys.
    MakeKeys,
    /// Encrypt an input.
    Encrypt,
    /// Run the plan.
    Run,
    /// Go on from a checkpoint, or leave it.
    Resume,
    /// Start from the beginning.
    Anew,
    /// Allow more memory, or leave keys on disk.
    Memory,
    /// Promise another number of shared answers, or another security.
    Terms,
    /// Share the class alone.
    ClassAlone,
    /// Measure the machine.
    Measure,
}

impl Help {
    /// With words of its own.
    pub fn with(self, words: impl Into<String>) -> Remedy {
        Remedy {
            words: words.into(),
            help: Some(self),
        }
    }
}

/// What to do: words, and the step of the way that they speak of, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The words.
    pub words: String,
    /// The step.
    pub help: Option<Help>,
}

impl<S: Into<String>> From<S> for Remedy {
    fn from(words: S) -> Self {
        Self {
            words: words.into(),
            help: None,
        }
    }
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// Why there is no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No more is free on the machine.
    Free,
    /// The process's own limits (`RLIMIT_AS`, `RLIMIT_DATA`) leave no more.
    Process,
    /// The control group that the process is in, or one above it, leaves no more.
    Group,
    /// The user allows no more.
    Allowed,
}

impl Limit {
    /// What helps against it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Free => "close other programs, use a larger machine",
            Self::Process => "raise this process's memory limit (RLIMIT_AS, RLIMIT_DATA)",
            Self::Group => "raise the memory limit of this container or control group",
            Self::Allowed => "allow more",
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Free => "are free",
            Self::Process => "are left by this process's memory limit",
            Self::Group => "are left by the memory limit of this container or control group",
            Self::Allowed => "are allowed",
        })
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is not what it should be.
    #[error("{file}: {field}: {problem}; {remedy}")]
    File {
        /// The file's name.
        file: String,
        /// The field that is wrong.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: Remedy,
    },
    /// Two clients' keys, inputs, answers or checkpoints were mixed.
    #[error(
        "{what} belongs to key pair {had}, but {needed} is in use: they are of different clients, or made before the keys were replaced; give the one that was made with these keys, or make it again"
    )]
    OtherKey {
        /// The file, or what else it is.
        what: String,
        /// The key pair in use.
        needed: KeyId,
        /// The one it belongs to.
        had: KeyId,
    },
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file's name.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A plan does not hold together.
    #[error("plan, step {step} (layer {layer}): {reason}")]
    Plan {
        /// Index of the step.
        step: usize,
        /// Its layer.
        layer: String,
        /// Why it is refused.
        reason: String,
    },
    /// A plan's ports do not hold together.
    #[error("plan, {port}: {reason}")]
    Port {
        /// The input or the output.
        port: String,
        /// Why it is refused.
        reason: String,
    },
    /// A step failed while it was carried out.
    #[error("step {step} (layer {layer}): {source}")]
    Step {
        /// Index of the step.
        step: usize,
        /// Its layer.
        layer: String,
        /// What the interpreter said.
        source: ckks::Error,
    },
    /// The input does not fit the plan.
    #[error("input: {reason}; {remedy}")]
    Input {
        /// What does not fit.
        reason: String,
        /// What to do.
        remedy: Remedy,
    },
    /// An answer can't be what the plan gives for an input of its ranges; see [`crate::answer`].
    #[error(
        "{what}: this cannot be right, nothing of it is shown: {why}{}; the likely causes are values that left an interval which the network was calibrated for, damage, and a server that ran another plan or used other keys: compare with the network in the clear on the same input, encrypt it and run it again, and tell nobody how it ended",
        told(counted)
    )]
    Answer {
        /// The file, or what else it is.
        what: String,
        /// Which test it fails.
        why: Measure,
        /// Of an answer that should have been shared: how many tries were counted under its key, this one included, and how many may be.
        counted: Option<(u64, u64)>,
    },
    /// An answer must not be shared.
    #[error("sharing: {reason}; {remedy}")]
    Sharing {
        /// Why not.
        reason: String,
        /// What to do.
        remedy: Remedy,
    },
    /// A value leaves the range for which the plan was compiled.
    #[error(
        "layer {layer}: the clear twin's value reaches {reached:.4} on this input but the plan was calibrated for at most {limit:.4}; calibrate on data that covers such inputs, or with a wider margin, and compile again"
    )]
    Range {
        /// The layer.
        layer: String,
        /// The value seen, in network units; its magnitude where the interval is the same on both sides.
        reached: f64,
        /// The end of the interval that it left, in network units.
        limit: f64,
    },
    /// More memory is needed than may be used.
    #[error("{what} needs about {} of memory but only {} {limit}; {remedy}", size(*needed), size(*had))]
    Memory {
        /// What needs it.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes at hand.
        had: u64,
        /// Which limit.
        limit: Limit,
        /// What to do.
        remedy: Remedy,
    },
    /// More disk space is needed than is free.
    #[error("{path}: about {} are needed but {} are free; free some space or choose another folder", size(*needed), size(*had))]
    Disk {
        /// The folder.
        path: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        had: u64,
    },
    /// A layer's error exceeds its predicted bound.
    #[error(
        "check failed at layer {layer} (step {step}): error {error:.3e} exceeds the predicted bound {bound:.3e} (network units)"
    )]
    Check {
        /// Index of the step.
        step: usize,
        /// Its layer.
        layer: String,
        /// Largest error, network units.
        error: f64,
        /// Predicted bound, network units.
        bound: f64,
    },
    /// From the scheme.
    #[error(transparent)]
    Ckks(#[from] ckks::Error),
}

fn told(counted: &Option<(u64, u64)>) -> String {
    counted.map_or_else(String::new, |(used, releases)| {
        format!(" (this try counts: {used} of {releases})")
    })
}

impl Error {
    /// The same, of an answer that was counted.
    pub(crate) fn counted(self, count: (u64, u64)) -> Self {
        match self {
            Self::Answer { what, why, .. } => Self::Answer {
                what,
                why,
                counted: Some(count),
            },
            other => other,
        }
    }
    /// The step of the way that helps, where there is one.
    pub fn help(&self) -> Option<Help> {
        match self {
            Self::File { remedy, .. }
            | Self::Input { remedy, .. }
            | Self::Sharing { remedy, .. }
            | Self::Memory { remedy, .. } => remedy.help,
            Self::Range { .. } => Some(Help::Calibrate),
            Self::Plan { .. } | Self::Port { .. } => Some(Help::Compile),
            Self::Step {
                source: ckks::Error::StoredKey { .. } | ckks::Error::StoredWeights { .. },
                ..
            } => Some(Help::Resume),
            _ => None,
        }
    }
    pub(crate) fn file(
        file: &str,
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<Remedy>,
    ) -> Self {
        Self::File {
            file: file.into(),
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
    pub(crate) fn io(file: &str) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            file: file.into(),
            source,
        }
    }
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
