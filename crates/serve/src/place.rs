//! What is said on stderr, and places for outputs that are refused.

use polyveil::Help;
use polyveil_serve::client::UNTRUSTED;
use polyveil_serve::{Code, Error};
use std::io::Write;

/// A line on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// An error with this program's option, where one helps.
pub(crate) fn with_option(mut e: Error) -> Error {
    if e.code == Code::Refused && e.cause.ends_with(UNTRUSTED) {
        e.remedy += ": --authority FILE";
    }
    e
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
