//! Neural networks on encrypted data: the library under the programs.

#![allow(missing_docs, clippy::missing_errors_doc)] // until the modules that moved here are a library

pub mod arguments;
pub mod bench;
pub mod commands;
pub mod demo;
pub mod estimate;
pub mod evaluate;
pub mod inspect;
pub mod machine;
pub mod network;
pub mod prompts;
pub mod run;
pub mod sentences;
pub mod stated;
pub mod table;
pub mod tasks;
pub mod terminal;
pub mod text;
#[cfg(feature = "train")]
pub mod training;

pub use runtime;

/// What commands return.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a program was built with.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// A network, `.pvm`.
    pub model: &'static [u8],
    /// A picture.
    pub picture: &'static [u8],
    /// The commit.
    pub commit: Option<&'static str>,
}

pub fn size(text: &str) -> std::result::Result<u64, String> {
    runtime::parse_size(text)
        .ok_or_else(|| format!("`{text}` is not a size; write for example 12GB, 800MB or 4GiB"))
}
