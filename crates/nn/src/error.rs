//! Everything that can go wrong in this crate, in the user's units.

use crate::shape::Shape;
use std::path::Path;

impl Error {
    /// Bytes that break the rules of this format.
    pub fn malformed(format: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::Malformed { format, detail }
    }

    /// Bytes that end too early.
    pub fn truncated(format: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::Truncated { format, detail }
    }

    /// Why this file can't be read or written.
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + Copy {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// Why there is no polynomial or program for this node.
    pub fn approximation(node: &str) -> impl Fn(approx::Error) -> Self {
        move |source| Self::Approximation {
            node: node.into(),
            source,
        }
    }

    /// A tensor that is not among these.
    pub fn missing<'a>(tensor: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        Self::MissingTensor {
            tensor: tensor.into(),
            had: names.len(),
            example: names.first().copied().unwrap_or("none").into(),
        }
    }

    /// A tensor of another shape.
    pub fn shape(tensor: &str, needed: &[usize], had: &[usize]) -> Self {
        Self::TensorShape {
            tensor: tensor.into(),
            needed: needed.into(),
            had: had.into(),
        }
    }

    /// A node before which there is no node of this number.
    pub(crate) fn dangling(node: &str, input: usize) -> Self {
        Self::Dangling {
            node: node.into(),
            input,
        }
    }

    /// What an operator can't take.
    pub fn invalid(node: &str, operator: &str, detail: impl Into<String>) -> Self {
        Self::Invalid {
            node: node.into(),
            operator: operator.into(),
            detail: detail.into(),
        }
    }

    /// An activation where a polynomial is needed.
    pub(crate) fn not_polynomial(node: &str, activation: approx::Activation) -> Self {
        Self::NotPolynomial {
            node: node.into(),
            function: activation.to_string(),
        }
    }

    /// A division or a root where a program is needed.
    pub(crate) fn not_lowered(node: &str, operator: &str) -> Self {
        Self::NotLowered {
            node: node.into(),
            operator: operator.into(),
        }
    }
}

/// Why a network, a file or an input was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor's length doesn't fit its shape.
    #[error("tensor {tensor}: shape {shape:?} needs {needed} values, {had} were given")]
    Length {
        /// Which tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values that the shape needs.
        needed: usize,
        /// Values given.
        had: usize,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor {tensor} holds {value} at position {index}; weights must be finite, so export the model again from a checkpoint that did not diverge"
    )]
    NotFinite {
        /// Which tensor.
        tensor: String,
        /// Position of the first bad value.
        index: usize,
        /// That value.
        value: f64,
    },
    /// An operator can't take what it is given.
    #[error("node {node} ({operator}): {detail}")]
    Invalid {
        /// The node's name.
        node: String,
        /// Its operator.
        operator: String,
        /// What is needed, what was given.
        detail: String,
    },
    /// Two nodes have the same name, or a name is empty or not [plain](crate::graph::is_plain).
    #[error(
        "node name {0:?} is empty, used twice or has control characters; give every node its own plain name"
    )]
    Name(String),
    /// A node refers to one that does not exist before it.
    #[error("node {node} takes the output of node number {input}, which does not exist before it")]
    Dangling {
        /// The node that refers.
        node: String,
        /// What it refers to.
        input: usize,
    },
    /// The network has no input, more than one, or the output doesn't depend on it: on how many it depends.
    #[error("the network needs exactly one input that its output depends on, {0} were found")]
    Inputs(usize),
    /// A node is not a polynomial.
    #[error(
        "node {node} applies {function}, which is not a polynomial; calibrating the network replaces it by one that is fitted to data, adapting it trains the network for one"
    )]
    NotPolynomial {
        /// The first such node.
        node: String,
        /// Its function.
        function: String,
    },
    /// A node takes a maximum; the first that does.
    #[error(
        "node {0} takes a maximum (MaxPool), which no polynomial computes; adapting the network replaces it by an average pool and trains the network back"
    )]
    Maximum(String),
    /// A node takes a softmax that is no attention's; the first that does.
    #[error(
        "node {0} takes a softmax, which no polynomial computes; at the end of a network, over all of its outputs, it is left to the client, and attention's becomes Power-Softmax by calibration, where it is read as one: a softmax over the keys of a product (MatMul) of queries with keys, which weighs values in a product behind it; as many queries as keys, no bias, no mask but constant ones that hide what comes behind each query or the last keys from all; export attention so, as torch's scaled_dot_product_attention is, and train the network with another function in the place of any other softmax"
    )]
    Softmax(String),
    /// A network ends in a softmax that does not run over all of its outputs together.
    #[error(
        "node {node} takes a softmax at the network's end over {}; whoever reads the answers takes one over all of them, as of the scores of classes, and no other: see that its axis is the one that was meant, or export the network without it and take it of the decrypted values",
        of_parts(*over, *values)
    )]
    SoftmaxOfParts {
        /// The node.
        node: String,
        /// How many values it runs over at a time.
        over: usize,
        /// How many values it has.
        values: usize,
    },
    /// An ONNX model has several outputs and none was named; their names.
    #[error("the model has several outputs; name the one that is the network's: {0}")]
    Outputs(String),
    /// A node divides or takes a root.
    #[error(
        "node {node} ({operator}) divides by what it computes, which needs calibrated intervals; calibrate the network first"
    )]
    NotLowered {
        /// The first such node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// Data leaves an interval that was chosen for it.
    #[error(
        "node {node} was given {value:.4}, outside of its interval [{:.4}, {:.4}]; {outside} of {all} inputs leave some interval: calibrate with a larger margin or more rounds, or train the ranges down", interval.0, interval.1
    )]
    Exceeded {
        /// The first node on some input.
        node: String,
        /// The value farthest outside.
        value: f64,
        /// The interval.
        interval: (f64, f64),
        /// Inputs that leave an interval.
        outside: usize,
        /// All inputs.
        all: usize,
    },
    /// Power-Softmax with an exponent that is not even or too large.
    #[error(
        "Power-Softmax takes an even exponent from 2 to 12, {0} was given; an odd one would give negative scores negative weights"
    )]
    Exponent(u32),
    /// Power-Softmax with an ε that can't be added to a divisor.
    #[error(
        "Power-Softmax adds ε to what it divides by, {0} was given; give 0 or a small positive number, for example 0.001"
    )]
    Epsilon(f64),
    /// An input tensor has another shape than the network's input.
    #[error("the network takes an input of shape {needed}, {had} was given")]
    InputShape {
        /// The network's.
        needed: Shape,
        /// The tensor's.
        had: Shape,
    },
    /// Ranges, labels or normalisation don't fit the network.
    #[error("{what}: {needed} needed, {had} given")]
    Count {
        /// Which list.
        what: &'static str,
        /// How many entries it must have.
        needed: usize,
        /// How many it has.
        had: usize,
    },
    /// A range's ends aren't finite or not in order.
    #[error("range [{min}, {max}] of node {node} is not two finite numbers in order")]
    Range {
        /// The node.
        node: String,
        /// Lower end.
        min: f64,
        /// Upper end.
        max: f64,
    },
    /// No polynomial could be made for a node.
    #[error("node {node}: {source}")]
    Approximation {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: approx::Error,
    },
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or something in it is larger than the limit.
    #[error("{what} takes {had} bytes, at most {limit} are read")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// Its size in bytes.
        had: u64,
    },
    /// A file ends before it should.
    #[error("the {format} file is truncated: {detail}; copy or download it again")]
    Truncated {
        /// The format it was read as.
        format: &'static str,
        /// What was missing.
        detail: String,
    },
    /// A file is not what it was taken for, or breaks its format's rules.
    #[error("not a usable {format} file: {detail}")]
    Malformed {
        /// The format it was read as.
        format: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A state dict, which does not say what its activations are.
    #[error(
        "these weights of a {family} don't say which activation they were trained with, nor hold polynomials in its place: name it, one of {known}"
    )]
    Unstated {
        /// The model family that the weights belong to.
        family: &'static str,
        /// Names of the known activations.
        known: String,
    },
    /// Tensors that belong to no known model family: every family's name with what speaks against it.
    #[error(
        "no known model family claims these tensors; a network of any other architecture goes in as ONNX (torch.onnx.export(model, (input,), \"net.onnx\")). {0}"
    )]
    Unclaimed(String),
    /// A file is of a version that this program doesn't know.
    #[error(
        "the {format} file has version {had}, this program reads {known}; use the matching release or convert the model again"
    )]
    Version {
        /// The format.
        format: &'static str,
        /// The file's version.
        had: String,
        /// The versions that can be read.
        known: &'static str,
    },
    /// A pickle asks for this Python object, which has no business in a state dict.
    #[error(
        "the pickle asks for {0}, which is refused; save the plain state dict: torch.save(model.state_dict(), path), or export the network as ONNX, which goes with any architecture: torch.onnx.export(model, (input,), \"net.onnx\")"
    )]
    PickleGlobal(String),
    /// A model needs a tensor that the file doesn't hold.
    #[error(
        "tensor {tensor} is missing; the file holds {had} tensors, for example {example}; is it another architecture?"
    )]
    MissingTensor {
        /// Which one.
        tensor: String,
        /// How many there are.
        had: usize,
        /// A name that is there.
        example: String,
    },
    /// A tensor has another shape than the model's configuration says.
    #[error(
        "tensor {tensor} has shape {had:?}, the configuration needs {needed:?}; take the config.json that belongs to these weights"
    )]
    TensorShape {
        /// Which one.
        tensor: String,
        /// The shape that the configuration needs.
        needed: Vec<usize>,
        /// The shape that it has.
        had: Vec<usize>,
    },
    /// An operator that can't be imported.
    #[error("node {node}: operator {operator} is not supported; {remedy}")]
    UnsupportedOperator {
        /// The node's name (or its first output's).
        node: String,
        /// The operator, with its domain if it has one.
        operator: String,
        /// What to do.
        remedy: String,
    },
    /// Calibration got no data.
    #[error("calibration needs at least one input, none was given")]
    NoData,
    /// A value overflowed during calibration.
    #[error(
        "node {node} computed {value}; the network diverges on this input, so ranges mean nothing: use a smaller degree, wider intervals or other weights"
    )]
    Diverged {
        /// The first node.
        node: String,
        /// NaN or an infinity.
        value: f64,
    },
}

fn of_parts(over: usize, values: usize) -> String {
    match over {
        1 => "each value by itself, which gives the same whatever the input".into(),
        _ => format!("{over} of its {values} values at a time, which no polynomial computes"),
    }
}
