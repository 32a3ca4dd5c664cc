//! What a language model gives for tokens in the clear.

use nn::{AttentionScheme, Tensor};
use zoo::language::LanguageModel;

pub(crate) trait Oracle {
    /// The logits `(V, 1, L)` of all positions.
    fn logits(&self, tokens: &[u32], scheme: AttentionScheme) -> task::Result<Tensor>;
}

impl Oracle for LanguageModel {
    fn logits(&self, tokens: &[u32], scheme: AttentionScheme) -> task::Result<Tensor> {
        let graph = self.graph(tokens.len(), scheme)?;
        Ok(graph.evaluate(&self.embed(tokens)?)?.output)
    }
}
