//! What a try may find.

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Another class or value than the clear network's, with exit code 0 and no word.
    Silent,
    /// A Rust panic.
    Panic,
    /// A signal that nobody sent.
    Abort,
    /// A file gone or changed that must not be.
    Lost,
    /// No end.
    Hang,
    /// Anything else that was promised.
    Other,
    /// Wrong where a value left its interval, of ordinary size, and the alarm was silent.
    Unseen,
    /// Not tried here.
    Skipped,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Silent,
        Self::Panic,
        Self::Abort,
        Self::Lost,
        Self::Hang,
        Self::Other,
        Self::Unseen,
        Self::Skipped,
    ];
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent wrong",
            Self::Panic => "panic",
            Self::Abort => "abort",
            Self::Lost => "lost file",
            Self::Hang => "hang",
            Self::Other => "other",
            Self::Unseen => "unseen",
            Self::Skipped => "skipped",
        }
    }
    /// A fault of this kind, unless what was promised holds.
    pub(crate) fn unless(self, holds: bool, text: impl Into<String>) -> Verdict {
        match holds {
            true => Ok(()),
            false => Err(Fault::new(self, text)),
        }
    }
}

/// A try that failed, or was not made.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::new(Kind::Other, text)
    }
}

pub(crate) type Verdict<T = ()> = Result<T, Fault>;

/// The campaign's own work failed.
pub(crate) fn own(e: impl std::fmt::Display) -> Fault {
    Fault::other(format!("the campaign itself: {e}"))
}
