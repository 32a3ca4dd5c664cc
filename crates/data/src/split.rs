//! Parts of a set.

use serde::{Deserialize, Serialize};

/// Which part of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What is learned from.
    Train,
    /// What choices are made on.
    Validation,
    /// What is opened once, after every choice.
    Test,
}

impl Split {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The names that files and folders have for it, the usual one first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training", "data_batch"],
            Self::Validation => &["val", "valid", "validation"],
            Self::Test => &["test", "testing", "t10k"],
        }
    }

    /// All splits with each of their names.
    pub(crate) fn spelled() -> impl Iterator<Item = (Self, &'static str)> {
        let splits = Self::ALL.into_iter();
        splits.flat_map(|s| s.names().iter().map(move |n| (s, *n)))
    }

    /// The split that a folder's whole name stands for.
    pub(crate) fn of_folder(name: &str) -> Option<Self> {
        let mut all = Self::spelled();
        Some(all.find(|(_, n)| n.eq_ignore_ascii_case(name))?.0)
    }

    /// The split that a file's name begins with.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Some(Self::spelled().find(|(_, n)| name.starts_with(n))?.0)
    }
}

impl std::str::FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::of_folder(name)
            .ok_or_else(|| format!("`{name}` is no split; there are train, validation and test"))
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}
