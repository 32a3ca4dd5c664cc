//! Everything that can go wrong in this crate: one line that names the file and the remedy.

use crate::shape::Shape;
use crate::split::Split;
use std::path::PathBuf;

/// Why a set was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// A file or folder is of no format that is read here.
    #[error(
        "{path}: {detail}; understood are CIFAR-10 and CIFAR-100 binary files (.bin), folders, .tar and .tar.gz of CLASS/*.jpg or .png, IDX files (MNIST's …-images-idx3-ubyte, also .gz, with their labels beside them) and .npz (MedMNIST)"
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A file breaks its format's rules.
    #[error("{path}: not a usable {format} file: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// A file ends before it should.
    #[error("{path}: the {format} file is truncated: {detail}; copy or download it again")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The format it was read as.
        format: &'static str,
        /// What is missing.
        detail: String,
    },
    /// A file or something in it is larger than the limit.
    #[error("{path}: {what} takes more than {limit} bytes; {remedy}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// The limit in bytes.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no picture in it.
    #[error("{path}: {detail}")]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for.
        detail: String,
    },
    /// A picture can't be decoded.
    #[error("{picture}: {reason}; remove or replace it, or skip damaged pictures")]
    Damaged {
        /// Its path, or its name in an archive.
        picture: String,
        /// Why.
        reason: String,
    },
    /// A label has no class.
    #[error(
        "{path}: number {index} has label {label:?}, which is none of the {classes} classes; give the classes of this set"
    )]
    Label {
        /// The file or folder.
        path: PathBuf,
        /// Which, counted from 0.
        index: usize,
        /// A number, or a folder's name.
        label: String,
        /// How many classes there are.
        classes: usize,
    },
    /// A value of a table that can't be used.
    #[error("{path}: row {row}, column {column}{name} {detail}")]
    Cell {
        /// The file.
        path: PathBuf,
        /// The row: a CSV's line from 1, an array's row from 0.
        row: usize,
        /// The column: from 1 in a CSV, from 0 in an array.
        column: usize,
        /// The column's name or the array's, in words; empty where there is none.
        name: String,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// A column or array that a file does not have.
    #[error("{path}: there is no {wanted}; there are: {there}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        wanted: String,
        /// The names that there are.
        there: String,
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
    /// Two sets have different classes.
    #[error(
        "the sets' classes differ: number {index} is {first:?} in one and {second:?} in the other; open both with the same classes"
    )]
    Classes {
        /// The first difference.
        index: usize,
        /// The name in the first set; empty where it has fewer classes.
        first: String,
        /// The name in the second set; empty where it has fewer classes.
        second: String,
    },
    /// Two sets have pictures of different shapes.
    #[error(
        "the sets' pictures differ: {first} and {second}; open both with the same size (resize) and channels"
    )]
    Shapes {
        /// Of the first set.
        first: Shape,
        /// Of the second set.
        second: Shape,
    },
    /// A number beyond the set.
    #[error("number {index} is asked for, the set has {count}, counted from 0")]
    Index {
        /// Asked for.
        index: usize,
        /// How many the set has.
        count: usize,
    },
    /// An option can't be followed.
    #[error("{detail}")]
    Option {
        /// Which, why, and what to do.
        detail: String,
    },
}

impl Error {
    /// An error of reading or unpacking: an early end is truncation.
    pub(crate) fn reading(
        path: &std::path::Path,
        format: &'static str,
        source: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind;
        match source.kind() {
            ErrorKind::UnexpectedEof => Self::Truncated {
                path: path.into(),
                format,
                detail: "it ends early".into(),
            },
            // what flate2 says of streams that are no deflate streams or whose checksums differ
            ErrorKind::InvalidInput | ErrorKind::InvalidData => Self::Malformed {
                path: path.into(),
                format,
                detail: format!("it can't be unpacked ({source}); copy or download it again"),
            },
            _ => Self::Io {
                path: path.into(),
                source,
            },
        }
    }
}
