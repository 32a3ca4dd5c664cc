//! Adaptation, training, scoring and studies.

pub mod language;
pub mod price;
pub mod run;
pub mod search;
pub mod sentences;
pub mod skips;
pub mod study;
pub mod table;
pub mod tasks;
pub mod vocabulary;
