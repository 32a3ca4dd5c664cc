//! What is refused or fails: always with a code for programs, a cause and a remedy for people.

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use ureq::http::StatusCode;

/// What went wrong, for programs. The names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The request can't be read.
    BadRequest,
    /// The request has no token.
    NoToken,
    /// The token is none of this service.
    UnknownToken,
    /// There is nothing of this address.
    NotFound,
    /// This address takes other methods.
    WrongMethod,
    /// There is no plan of this name.
    NoSuchPlan,
    /// The plan is no longer served.
    PlanRetired,
    /// This account has no such keys.
    NoSuchKeys,
    /// Parts of the keys are missing.
    KeysIncomplete,
    /// The keys are of another plan.
    KeysOfAnotherPlan,
    /// Jobs that are not done need the keys.
    KeysInUse,
    /// The file is not what was declared, or is damaged.
    Altered,
    /// Something else was sent for this part before.
    PartDiffers,
    /// A secret key was sent.
    SecretKey,
    /// The file is of another kind, plan or client.
    WrongFile,
    /// The body is longer than it may be.
    TooLarge,
    /// The body came too slowly.
    TooSlow,
    /// The account's share of storage for keys is used up.
    OverQuotaKeys,
    /// The account's CPU seconds of this day are used up.
    OverQuotaCpu,
    /// The account has too many jobs that are not done.
    OverQuotaJobs,
    /// Too much at the same time.
    Busy,
    /// The plan needs more memory than the machine has.
    MachineTooSmall,
    /// There is no room on the server's disk.
    DiskFull,
    /// The idempotency key belongs to another request.
    IdempotencyConflict,
    /// This account has no such job.
    NoSuchJob,
    /// The job is not done.
    NotDone,
    /// The range is not within the answer.
    WrongRange,
    /// The service stops.
    Stopping,
    /// Something that the library refuses.
    Refused,
    /// The operator's command does not fit what there is.
    Conflict,
    /// The server's own fault.
    Internal,
    /// The service can't be reached, or the connection broke.
    Unreachable,
}

impl Code {
    /// The status that it is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::UnknownToken => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoSuchPlan | Self::NoSuchKeys | Self::NoSuchJob => {
                StatusCode::NOT_FOUND
            }
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::PlanRetired => StatusCode::GONE,
            Self::KeysIncomplete
            | Self::KeysOfAnotherPlan
            | Self::KeysInUse
            | Self::PartDiffers
            | Self::IdempotencyConflict
            | Self::NotDone
            | Self::Conflict => StatusCode::CONFLICT,
            Self::Altered | Self::SecretKey | Self::WrongFile | Self::Refused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::OverQuotaKeys | Self::OverQuotaCpu | Self::OverQuotaJobs => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::WrongRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Busy | Self::Stopping | Self::MachineTooSmall => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Unreachable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error, as it is written into answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// What was needed and had.
    pub cause: String,
    /// What helps.
    pub remedy: String,
}

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error.
    pub fn new(code: Code, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// A file that the operating system refuses, for `map_err`. Where the disk is full is told apart: it is nobody's mistake.
    pub fn io(what: impl Display) -> impl FnOnce(std::io::Error) -> Self {
        move |e| {
            use std::io::ErrorKind;
            // of a bucket that is read like a file
            if let Some(own) = e.get_ref().and_then(|e| e.downcast_ref::<Self>()) {
                return own.clone();
            }
            let full = matches!(
                e.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            );
            match full {
                true => Self::new(Code::DiskFull, format!("{what}: {e}"), FULL),
                false => Self::new(
                    Code::Internal,
                    format!("{what}: {e}"),
                    "see that the folder is there and can be written to",
                ),
            }
        }
    }

    /// Whether the same request may succeed later without anything being changed.
    pub fn passes(&self) -> bool {
        matches!(
            self.code,
            Code::Unreachable | Code::Busy | Code::Stopping | Code::TooSlow
        )
    }
}

const FULL: &str = "try again later; the operator of the service must make room on its disk";

impl From<polyveil::runtime::Error> for Error {
    fn from(e: polyveil::runtime::Error) -> Self {
        use polyveil::runtime::Error as Of;
        match e {
            Of::Io { file, source } => Self::io(file)(source),
            Of::Disk { .. } => Self::new(Code::DiskFull, e.to_string(), FULL),
            Of::OtherKey { .. } => {
                let remedy =
                    "send the input that was encrypted with the key of these evaluation keys";
                Self::new(Code::WrongFile, e.to_string(), remedy)
            }
            Of::Memory { .. } => Self::new(
                Code::MachineTooSmall,
                e.to_string(),
                "use a larger machine, or compile the plan for less memory",
            ),
            Of::File {
                file,
                field,
                problem,
                remedy,
            } => Self::new(
                Code::WrongFile,
                format!("{file}: {field}: {problem}"),
                remedy.words,
            ),
            Of::Input { reason, remedy } => Self::new(Code::WrongFile, reason, remedy.words),
            e => Self::new(
                Code::Refused,
                e.to_string(),
                "see the cause; make the file again if it is damaged",
            ),
        }
    }
}

impl From<polyveil::Error> for Error {
    fn from(e: polyveil::Error) -> Self {
        match e {
            polyveil::Error::Runtime(e) => e.into(),
            polyveil::Error::In { place, source } => {
                let inner = Self::from(*source);
                match inner.cause.contains(&place) {
                    true => inner,
                    false => Self {
                        cause: format!("{place}: {}", inner.cause),
                        ..inner
                    },
                }
            }
            polyveil::Error::Io(e) => Self::io("a file")(e),
            polyveil::Error::Refused {
                what,
                help: Some(help),
            } => Self::new(Code::Refused, what, help.words()),
            e => Self::new(Code::Refused, e.to_string(), "see the cause"),
        }
    }
}
