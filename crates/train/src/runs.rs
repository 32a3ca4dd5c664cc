//! Runs of every kind, told by their data.

pub use crate::checkpoint::{CHECKPOINT, CONFIGURATION};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::language::LanguageConfig;
use crate::sentences::SentenceConfig;
use crate::vectors::VectorConfig;
use std::path::{Path, PathBuf};

/// All that runs write into their folders besides.
pub const FILES: [&str; 14] = [
    "best.safetensors",
    "log.csv",
    "ranges.csv",
    "network.pvm",
    "unfinished.pvm",
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "alphabet.json",
    "tokenizer.json",
    "approximations.json",
    "pieces.json",
    "programs.csv",
    "stages",
];

/// The files and folders that a configuration names, and whatever else is a text in it.
#[must_use]
pub fn paths(configuration: &str) -> Vec<PathBuf> {
    let mut open: Vec<toml::Value> = toml::from_str(configuration).into_iter().collect();
    let mut paths = Vec::new();
    while let Some(value) = open.pop() {
        match value {
            toml::Value::String(text) => paths.push(text.into()),
            toml::Value::Array(all) => open.extend(all),
            toml::Value::Table(all) => open.extend(all.into_iter().map(|(_, v)| v)),
            _ => {}
        }
    }
    paths
}

/// A run of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyConfig {
    /// On pictures.
    Pictures(Config),
    /// On text: its data name a `text`.
    Text(LanguageConfig),
    /// On labelled sentences: its data name `sentences`.
    Sentences(SentenceConfig),
    /// On plain vectors: its data name `vectors`.
    Vectors(VectorConfig),
}

impl AnyConfig {
    /// Reads a TOML file of any kind. Relative paths in it count from the current folder.
    ///
    /// # Errors
    /// As `zoo::trained::Run::load`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        // what is no TOML at all is refused by the reader of any kind
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        let data = table.get("data").and_then(toml::Value::as_table);
        if data.is_some_and(|d| d.contains_key("text")) {
            return LanguageConfig::parse(&text).map(Self::Text);
        }
        if data.is_some_and(|d| d.contains_key("sentences")) {
            return SentenceConfig::parse(&text).map(Self::Sentences);
        }
        if data.is_some_and(|d| d.contains_key("vectors")) {
            return VectorConfig::parse(&text).map(Self::Vectors);
        }
        Config::parse(&text).map(Self::Pictures)
    }
}
