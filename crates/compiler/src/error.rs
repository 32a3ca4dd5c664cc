//! Why a network was not compiled, in the user's units.

/// Everything that compilation refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network has no calibrated ranges.
    #[error(
        "layer {layer}: its values have no calibrated range; calibrate the network on sample inputs first"
    )]
    Calibration {
        /// The first layer that needs one.
        layer: String,
    },
    /// An operator, shape or structure that packing does not cover.
    #[error("layer {layer} ({operator}): {reason}; {remedy}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// Its operator.
        operator: String,
        /// What is not covered.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// One operation needs more levels than the parameters have.
    #[error(
        "layer {layer} needs {needed} levels in one piece but parameters `{parameters}` have {had}; lower the polynomial's degree to at most {degree} or take parameters with more levels"
    )]
    Depth {
        /// The layer.
        layer: String,
        /// Levels that it needs.
        needed: usize,
        /// Levels there are.
        had: usize,
        /// Largest degree that fits.
        degree: usize,
        /// Name of the parameter set.
        parameters: String,
    },
    /// The network is deeper than the parameters and they have no bootstrapping.
    #[error(
        "layer {layer} finds too few of the {had} levels of parameters `{parameters}` left, and they have no bootstrapping; take parameters with bootstrapping (`standard-16`) or at least {needed} levels, or leave the choice to the compiler"
    )]
    Levels {
        /// The first layer that no schedule reaches.
        layer: String,
        /// Levels on the longest path of the network.
        needed: usize,
        /// Levels there are.
        had: usize,
        /// Name of the parameter set.
        parameters: String,
    },
    /// A tensor needs too many ciphertexts.
    #[error(
        "layer {layer}: {values} values need {needed} ciphertexts of {slots} slots, at most {most} are supported; use smaller pictures or fewer channels"
    )]
    TooLarge {
        /// The layer.
        layer: String,
        /// Values of its tensor.
        values: usize,
        /// Ciphertexts needed.
        needed: usize,
        /// Slots of one.
        slots: usize,
        /// The most supported.
        most: usize,
    },
    /// A batch that is no power of two or leaves no slots for its inputs.
    #[error("a batch of {batch} inputs: a power of two of at most {most} is needed")]
    Batch {
        /// What was asked for.
        batch: usize,
        /// The most that the parameters' slots allow.
        most: usize,
    },
    /// A folded weight is not a finite single-precision number.
    #[error(
        "layer {layer}: a folded weight is {value}; look for a near-zero variance in its batch normalisation or retrain it with weight decay"
    )]
    Weight {
        /// The layer.
        layer: String,
        /// The value.
        value: f64,
    },
    /// A folded weight is larger than the integers that weights of layers in coefficients are rounded to.
    #[error(
        "layer {layer}: a folded weight is {value:.1} times as large as what it multiplies, and layers in coefficients have weights of up to {most}; compile it with linear layers in slots, or look for a near-zero variance in its batch normalisation"
    )]
    Integer {
        /// The layer.
        layer: String,
        /// The value, in units of a plan.
        value: f64,
        /// The largest magnitude that there is.
        most: f64,
    },
    /// No plan keeps the memory limit.
    #[error(
        "{} needs at least {} of memory but only {} are allowed; allow that much, or choose a smaller network", named(network), runtime::size(*needed), runtime::size(*had)
    )]
    Memory {
        /// The network's name.
        network: String,
        /// Predicted peak of the smallest plan, bytes.
        needed: u64,
        /// The limit, bytes.
        had: u64,
    },
    /// Compiling itself takes more memory than there is.
    #[error(
        "layer {layer}: to compile {} about {} of memory are needed, {} of them for the diagonals of this layer, but only {} {limit}; {}, or choose smaller pictures or fewer channels", named(network), runtime::size(*needed), runtime::size(*share), runtime::size(*had), limit.remedy()
    )]
    Packing {
        /// The layer that takes most.
        layer: String,
        /// The network's name.
        network: String,
        /// Bytes needed.
        needed: u64,
        /// What the layer takes of them.
        share: u64,
        /// Bytes that this process may have.
        had: u64,
        /// What leaves no more.
        limit: runtime::Limit,
    },
    /// Compiling itself takes more memory than there is, however its layers lie.
    #[error(
        "to compile {} about {} of memory are needed, but only {} {limit}; {}, or choose a smaller network", named(network), runtime::size(*needed), runtime::size(*had), limit.remedy()
    )]
    Room {
        /// The network's name.
        network: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes that this process may have.
        had: u64,
        /// What leaves no more.
        limit: runtime::Limit,
    },
    /// Linear layers can lie neither in slots nor in coefficients.
    #[error("in slots: {slots}; in coefficients: {coefficients}")]
    Neither {
        /// Why not in slots.
        slots: Box<Error>,
        /// Why not in coefficients.
        coefficients: Box<Error>,
    },
    /// The plan does not hold together, a defect of this program; or there is no memory to verify it.
    #[error("{}{}", .0, defect(.0))]
    Plan(#[from] runtime::Error),
    /// From the network's file format, whose checksum names the network.
    #[error(transparent)]
    Network(#[from] nn::Error),
    /// From the scheme.
    #[error(transparent)]
    Ckks(#[from] ckks::Error),
    /// From polynomial arithmetic.
    #[error("layer {layer}: {source}")]
    Polynomial {
        /// The layer.
        layer: String,
        /// The cause.
        #[source]
        source: approx::Error,
    },
}

/// A network in a sentence: those that come without a `.pvm` may have no name.
fn named(network: &str) -> String {
    match network {
        "" => "the network".into(),
        name => format!("network {name}"),
    }
}

/// What is said of a plan that is refused for itself.
fn defect(e: &runtime::Error) -> &'static str {
    match e {
        runtime::Error::Memory { .. } => "",
        _ => "; this is a defect of the compiler: please report it with the network",
    }
}
