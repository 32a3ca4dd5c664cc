//! One structural error for the whole crate.

impl Error {
    /// An object that is not what these parameters ask for.
    pub fn conformance(object: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Conformance { object, reason }
    }
}

/// What went wrong, in the user's units.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The parameter set does not hold together.
    #[error("parameters `{name}`: {reason}")]
    Parameters {
        /// Name of the set.
        name: String,
        /// What is inconsistent, and the remedy.
        reason: String,
    },
    /// A published key would have less than the required security.
    #[error(
        "parameters `{name}` give {bits} bits of security ({key}); at least 128 are required: lower log QP or raise N, or ask for a toy set by name"
    )]
    Insecure {
        /// Name of the set.
        name: String,
        /// The key that limits.
        key: String,
        /// Its security in bits.
        bits: u32,
    },
    /// An operation needs more levels than its operand has.
    #[error("{operation} needs {needed} levels but {had} remain")]
    Levels {
        /// The operation.
        operation: &'static str,
        /// Levels needed.
        needed: usize,
        /// Levels left.
        had: usize,
    },
    /// Operands are at different levels.
    #[error("{operation}: operands at levels {left} and {right}; align them first")]
    LevelMismatch {
        /// The operation.
        operation: &'static str,
        /// Level of the first operand.
        left: usize,
        /// Level of the second operand.
        right: usize,
    },
    /// Operands have different scales.
    #[error("{operation}: operands at scales 2^{left:.6} and 2^{right:.6}")]
    ScaleMismatch {
        /// The operation.
        operation: &'static str,
        /// log2 of the first scale.
        left: f64,
        /// log2 of the second scale.
        right: f64,
    },
    /// An operation needs a ciphertext of another degree.
    #[error("{operation} needs a ciphertext of degree {needed} but got degree {had}")]
    Degree {
        /// The operation.
        operation: &'static str,
        /// Needed degree.
        needed: usize,
        /// Degree of the operand.
        had: usize,
    },
    /// A slot count is not a power of two or too large.
    #[error("{operation}: {slots} slots do not fit (a power of two of at most {most} is needed)")]
    Slots {
        /// The operation.
        operation: &'static str,
        /// The count given.
        slots: usize,
        /// The most that fit.
        most: usize,
    },
    /// The parameter set has no bootstrapping.
    #[error("parameters `{name}` have no bootstrapping: choose a set that has")]
    NoBootstrapping {
        /// Name of the set.
        name: String,
    },
    /// A key is missing or does not reach the level.
    #[error("no {key} up to level {level} among the evaluation keys: make keys for this plan")]
    MissingKey {
        /// Which key.
        key: String,
        /// The level at which it was needed.
        level: usize,
    },
    /// A key that is stored outside of memory could not be loaded.
    #[error("{key}: {reason}")]
    StoredKey {
        /// Which key.
        key: String,
        /// Why not, and the remedy.
        reason: String,
    },
    /// Weights that are stored outside of memory could not be read.
    #[error("{reason}")]
    StoredWeights {
        /// Why not, and the remedy.
        reason: String,
    },
    /// A value to be encoded is not finite or too large for the scale.
    #[error(
        "cannot encode a value of magnitude {magnitude:e} at scale 2^{log_scale:.1}: values must be finite and below 2^62 after scaling"
    )]
    Encode {
        /// The magnitude.
        magnitude: f64,
        /// log2 of the scale.
        log_scale: f64,
    },
    /// Key or ciphertext bytes do not conform to the parameters.
    #[error("{object} does not conform to the parameters: {reason}")]
    Conformance {
        /// What was read.
        object: &'static str,
        /// Why it does not conform.
        reason: String,
    },
    /// From the ring below.
    #[error(transparent)]
    Ring(#[from] ring::Error),
}
