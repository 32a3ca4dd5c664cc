//! Everything that can go wrong in this crate: one line that names the file and the remedy.

use crate::split::Split;
use std::path::{Path, PathBuf};

/// Why a set was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What a path holds is nothing that can be used: no known format, damaged, cut off, too large; no vector, a value that is no number, a label
    /// without class.
    #[error("{path}: {detail}")]
    Content {
        /// The file or folder.
        path: PathBuf,
        /// What was found, and what to do.
        detail: String,
    },
    /// A column of a table holds words where numbers are needed.
    #[error("{path}: {detail}")]
    Words {
        /// The file.
        path: PathBuf,
        /// Where the first is, and what to do.
        detail: String,
    },
    /// The first line of a table may be its heading or a row.
    #[error(
        "{path}: line {line} counts from {from} to {to}, which is the heading of columns without names, as pandas writes it, or the first row; say which it is"
    )]
    Heading {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The first number.
        from: usize,
        /// The last one.
        to: usize,
    },
    /// A picture can't be decoded.
    #[error("{picture}: {reason}; remove or replace it, or skip damaged pictures")]
    Damaged {
        /// Its path, or its name in an archive.
        picture: String,
        /// Why.
        reason: String,
    },
    /// Two pictures of one set differ in size.
    #[error("{picture} has {}×{} pixels, those before it {}×{}; ask for a size (resize) or scale them beforehand", had.0, had.1, needed.0, needed.1)]
    MixedSizes {
        /// The first that differs.
        picture: String,
        /// Width and height before it.
        needed: (usize, usize),
        /// Its width and height.
        had: (usize, usize),
    },
    /// The wanted part of a set isn't there, or there are several and none is named.
    #[error("{path}: {} is asked for, there are: {there}; name one of these splits, or none for a file without splits", wanted.map_or("no split".into(), |s| format!("the split {s}")))]
    Split {
        /// The file or folder.
        path: PathBuf,
        /// What was asked for.
        wanted: Option<Split>,
        /// What there is.
        there: String,
    },
    /// The columns of a table are not those that are needed.
    #[error("{}", other_columns(missing, unknown))]
    Columns {
        /// Those that it lacks.
        missing: Vec<String>,
        /// Those that it has besides.
        unknown: Vec<String>,
    },
    /// A number beyond the set.
    #[error("number {index} is asked for, the set has {count}, counted from 0")]
    Index {
        /// Asked for.
        index: usize,
        /// How many the set has.
        count: usize,
    },
    /// An option can't be followed, or sets don't fit each other.
    #[error("{0}")]
    Option(String),
}

fn other_columns(missing: &[String], unknown: &[String]) -> String {
    let listed = |names: &[String]| {
        let quoted = names.iter().take(16).map(|n| format!("{n:?}"));
        let more = ["", ", …"][usize::from(names.len() > 16)];
        quoted.collect::<Vec<_>>().join(", ") + more
    };
    let mut parts = Vec::new();
    if !missing.is_empty() {
        let remedy = "add them, or name the file's columns so";
        parts.push(format!(
            "columns that are needed are not there: {}; {remedy}",
            listed(missing)
        ));
    }
    if !unknown.is_empty() {
        parts.push(format!(
            "columns that are not needed are there: {}; leave them out",
            listed(unknown)
        ));
    }
    parts.join("; ")
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + Copy + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn content(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::Content {
            path: path.into(),
            detail: detail.into(),
        }
    }

    pub(crate) fn unknown(path: impl Into<PathBuf>, detail: impl std::fmt::Display) -> Self {
        Self::content(
            path,
            format!(
                "{detail}; understood are CIFAR-10 and CIFAR-100 binary files (.bin), folders, .tar and .tar.gz of CLASS/*.jpg or .png, IDX files (MNIST's …-images-idx3-ubyte, also .gz, with their labels beside them) and .npz (MedMNIST)"
            ),
        )
    }

    /// A column or array that a file does not have.
    pub(crate) fn column(path: &Path, wanted: &str, there: &[String]) -> Self {
        let there = there[..there.len().min(32)].join(", ");
        Self::content(path, format!("there is no {wanted}; there are: {there}"))
    }

    /// A value of a table that can't be used: a text's in its line and column, counted from 1, an array's in its row and column, counted from 0.
    pub(crate) fn cell(
        path: &Path,
        place: &str,
        (row, column): (usize, usize),
        detail: String,
    ) -> Self {
        Self::content(path, format!("{place} {row}, column {column}{detail}"))
    }

    /// The same refusal as one of the whole column.
    pub(crate) fn of_words(self) -> Self {
        match self {
            Self::Content { path, detail } => Self::Words { path, detail },
            other => other,
        }
    }

    /// A label that has no class, of picture or vector number `index`.
    pub(crate) fn label(path: &Path, index: usize, label: &str, classes: usize) -> Self {
        Self::content(
            path,
            format!(
                "number {index}, counted from 0, has the label {label:?}, which is none of the {classes} classes; give the classes of this set"
            ),
        )
    }

    pub(crate) fn malformed(
        path: impl Into<PathBuf>,
        format: &str,
        detail: impl std::fmt::Display,
    ) -> Self {
        Self::content(path, format!("not a usable {format} file: {detail}"))
    }

    pub(crate) fn truncated(path: &Path, format: &str, detail: impl std::fmt::Display) -> Self {
        let again = "copy or download it again";
        Self::content(
            path,
            format!("the {format} file is truncated: {detail}; {again}"),
        )
    }

    pub(crate) fn too_large(
        path: &Path,
        what: impl std::fmt::Display,
        limit: u64,
        remedy: &'static str,
    ) -> Self {
        Self::content(
            path,
            format!("{what} takes more than {limit} bytes; {remedy}"),
        )
    }

    pub(crate) fn option(detail: impl Into<String>) -> Self {
        Self::Option(detail.into())
    }

    /// An error of reading or unpacking: an early end is truncation.
    pub(crate) fn reading(path: &Path, format: &'static str, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match source.kind() {
            ErrorKind::UnexpectedEof => Self::truncated(path, format, "it ends early"),
            // what flate2 says of streams that are no deflate streams or whose checksums differ
            ErrorKind::InvalidInput | ErrorKind::InvalidData => Self::malformed(
                path,
                format,
                format!("it can't be unpacked ({source}); copy or download it again"),
            ),
            _ => Self::io(path)(source),
        }
    }
}

/// Refuses labels without a class.
pub(crate) fn check_labels(
    path: &Path,
    labels: impl Iterator<Item = usize>,
    classes: usize,
) -> crate::Result<()> {
    match labels.enumerate().find(|&(_, l)| l >= classes) {
        None => Ok(()),
        Some((index, label)) => Err(Error::label(path, index, &label.to_string(), classes)),
    }
}
