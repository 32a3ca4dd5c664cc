//! What is said on stderr, and places for outputs that are refused.

use polyveil::Help;
use polyveil_serve::Error;
use std::io::Write;

/// A line on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A place that was refused, with this program's option.
pub(crate) fn refused(e: polyveil::Error) -> Error {
    let help = e.help();
    let mut e = Error::from(e);
    if help == Some(Help::Overwrite) {
        e.remedy += ": --force";
    }
    e
}
