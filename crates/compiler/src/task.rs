//! What a client encodes and reads, as the bytes of a client file.

use nn::Metadata;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How inputs are made of a client's data and answers read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Task {
    /// Per-channel mean that the client subtracts from [0, 1] pixels.
    pub mean: Vec<f64>,
    /// Per-channel deviation that it divides by.
    pub deviation: Vec<f64>,
    /// Class labels, if any.
    pub labels: Vec<String>,
    /// A language model's vocabulary and embedding.
    pub client: Option<serde_json::Value>,
}

impl Task {
    /// That of a network.
    pub fn of(metadata: &Metadata) -> Self {
        let normalization = metadata.normalization.as_ref();
        Self {
            mean: normalization.map_or(Vec::new(), |n| n.mean.clone()),
            deviation: normalization.map_or(Vec::new(), |n| n.deviation.clone()),
            labels: metadata.labels.clone(),
            client: metadata.client(),
        }
    }
    /// Its bytes.
    pub fn to_bytes(&self) -> Arc<[u8]> {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
    /// Reads its bytes.
    ///
    /// # Errors
    /// Where they are no task's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes)
    }
}
