//! Why something is refused or fails: what was needed, what was had, what helps.

/// An error of the library. Its text names the file or layer, what was needed and had, and what helps, without speaking of any program's
/// commands; a program that offers more than words can look at [`Error::help`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is wrong with one file, or with the `place` inside of it.
    #[error("{}", in_place(place, source))]
    In {
        /// The file's name, or "sentence 3 of FILE".
        place: String,
        /// What.
        source: Box<Error>,
    },
    /// What was asked for does not fit what was given.
    #[error("{what}{}{}", if help.is_some() { "; " } else { "" }, help.map_or("", Help::words))]
    Refused {
        /// What was needed and had.
        what: String,
        /// What helps.
        help: Option<Help>,
    },
    /// A network, its file or its input.
    #[error(transparent)]
    Network(#[from] nn::Error),
    /// A task, its tokenizer or what a client gives it.
    #[error(transparent)]
    Task(task::Error),
    /// Data from files.
    #[error(transparent)]
    Data(#[from] data::Error),
    /// A network that can't be planned.
    #[error(transparent)]
    Compiler(#[from] compiler::Error),
    /// Plans, keys, inputs, answers and runs.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The scheme.
    #[error(transparent)]
    Scheme(#[from] ckks::Error),
    /// Training.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Training(#[from] train::Error),
    /// Files.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What helps against a refusal, for programs that have an option for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Help {
    /// A cost table of this machine is to be measured, or the shipped one to be taken.
    MeasureMachine,
    /// The attention that the network was trained with, or shall get, is to be named.
    NameAttention,
    /// The network was trained with an attention: none can be chosen.
    OwnAttention,
    /// The public first character is to be named.
    NameFirst,
    /// How many tokens a prompt has at most is to be said.
    NameLength,
    /// A prompt or a sentence is to be given.
    GiveText,
    /// How many inputs were encrypted together is to be said.
    NameCount,
    /// Which positions of a prompt answers hold is to be said.
    NamePositions,
    /// A vocabulary is to be named.
    NameTokenizer,
    /// Calibration is to see more.
    Calibrate,
    /// Calibration is to make intervals wider.
    Widen,
    /// The same, or layers are to lie in slots, which now lie in coefficients.
    WidenOrSlots,
    /// The network's functions are to be replaced by polynomials.
    MakePolynomial,
    /// A budget is to be raised, or lower degrees offered.
    RaiseBudget,
    /// The original network's activation is to be named.
    NameActivation,
    /// Another name is to be chosen, or what is there to be replaced on purpose.
    Overwrite,
    /// A run is to go on from its checkpoint, or to begin anew without it.
    Resume,
    /// A run is to start from its beginning.
    Anew,
    /// How pixels become the network's inputs is to be said.
    NameNormalization,
    /// How rows become the network's inputs is to be said.
    NameScaling,
    /// Where it stands which of several labels hold is to be said.
    NameLabels,
    /// Another folder is to be chosen, or the keys in it to be replaced on purpose.
    ReplaceKeys,
}

impl Help {
    /// In words, without any program's options.
    pub fn words(self) -> &'static str {
        match self {
            Self::MeasureMachine => "measure this machine's costs, or take the shipped ones",
            Self::NameAttention => {
                "say which Power-Softmax it shall compute, best after training with it"
            }
            Self::OwnAttention => "none can be chosen",
            Self::NameFirst => "say which character every prompt begins with",
            Self::NameLength => "say how many tokens one has at most",
            Self::GiveText => "give a prompt or a sentence",
            Self::NameCount => "say how many were encrypted together",
            Self::NamePositions => "say which positions these are",
            Self::NameTokenizer => "name the vocabulary that belongs to the model",
            Self::Calibrate => "calibrate on data that covers such inputs",
            Self::Widen => "make intervals as wide by calibration",
            Self::WidenOrSlots => {
                "make intervals as wide by calibration, or have layers lie in slots"
            }
            Self::MakePolynomial => "calibration or adaptation makes the network polynomial",
            Self::RaiseBudget => "raise the budget, or offer lower degrees",
            Self::NameActivation => "name the one that the network was trained with",
            Self::Resume => "go on from it, or remove it to begin anew",
            Self::Anew => "start from the beginning",
            Self::Overwrite => "choose another name, or have it replaced",
            Self::ReplaceKeys => "choose another folder, or replace them",
            Self::NameLabels => "name the columns, or the array, that hold 0 or 1 for each label",
            Self::NameNormalization => {
                "say it as the network was trained: none (v/255), imagenet, cifar10, half, or mean, deviation, range and channel order"
            }
            Self::NameScaling => {
                "say it as the network was trained: none, measured on these rows, or mean and deviation of each column"
            }
        }
    }
}

impl Error {
    /// A refusal with what helps.
    pub(crate) fn refused(what: impl Into<String>, help: Help) -> Self {
        Self::Refused {
            what: what.into(),
            help: Some(help),
        }
    }

    /// The same error about a file.
    #[must_use]
    pub fn within(self, path: &std::path::Path) -> Self {
        named(path)(self)
    }

    /// The innermost error, without the places around it.
    pub fn cause(&self) -> &Self {
        match self {
            Self::In { source, .. } => source.cause(),
            other => other,
        }
    }

    /// What helps, if the library knows more than words.
    pub fn help(&self) -> Option<Help> {
        match self.cause() {
            Self::Refused { help, .. } => *help,
            #[cfg(feature = "train")]
            Self::Training(train::Error::Budget { .. }) => Some(Help::RaiseBudget),
            _ => None,
        }
    }
}

impl From<task::Error> for Error {
    fn from(e: task::Error) -> Self {
        match e {
            task::Error::Nn(e) => Self::Network(e),
            e => Self::Task(e),
        }
    }
}

impl From<String> for Error {
    fn from(what: String) -> Self {
        Self::Refused { what, help: None }
    }
}

impl From<&str> for Error {
    fn from(what: &str) -> Self {
        what.to_string().into()
    }
}

/// The text with the place in front, unless it has it already.
fn in_place(place: &str, source: &Error) -> String {
    let text = source.to_string();
    match text.contains(place) {
        true => text,
        false => format!("{place}: {text}"),
    }
}

/// Names a file in errors about it.
pub(crate) fn named<E: Into<Error>>(path: &std::path::Path) -> impl FnOnce(E) -> Error + '_ {
    move |e| Error::In {
        place: path.display().to_string(),
        source: Box::new(e.into()),
    }
}

/// The library's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
