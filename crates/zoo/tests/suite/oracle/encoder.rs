//! What an encoder takes and gives for tokens in the clear, by the tables of its checkpoint.

use nn::{AttentionScheme, Norm, NormKind, Shape, Tensor};
use zoo::bert::Family;
use zoo::encoder::{Encoder, Start};

pub(crate) trait Oracle {
    /// What a graph that begins there takes for these tokens, filled up to `length` with padding: `(D + 1, 1, length)`, marks in the
    /// last channel. `types` has a token's type, 0 where it ends.
    fn input(
        &self,
        tokens: &[u32],
        types: &[u32],
        length: usize,
        start: Start,
    ) -> nn::Result<Tensor>;

    /// What the head gives for these tokens alone.
    fn logits(
        &self,
        tokens: &[u32],
        types: &[u32],
        length: usize,
        scheme: AttentionScheme,
    ) -> nn::Result<Tensor>;
}

impl Oracle for Encoder {
    fn input(
        &self,
        tokens: &[u32],
        types: &[u32],
        length: usize,
        start: Start,
    ) -> nn::Result<Tensor> {
        let (config, checkpoint) = (self.config(), self.to_checkpoint());
        let width = config.sizes.width;
        let table = |part: &str| {
            let name = format!("embeddings.{part}_embeddings.weight");
            checkpoint.parameter(&config.name(&name))
        };
        let (words, positions, kinds) = (table("word")?, table("position")?, table("token_type")?);
        let sum = |t: usize| {
            let token = tokens.get(t).copied().unwrap_or(config.padding);
            let kind = types.get(t).copied().unwrap_or(0) as usize;
            // RoBERTa's padding has a position of its own
            let position = match config.family {
                Family::Roberta if token == config.padding => config.padding as usize,
                _ => config.first_position() + t,
            };
            let rows = [
                words.row(token as usize),
                positions.row(position),
                kinds.row(kind),
            ];
            let [word, position, kind] = rows.map(|row| row.expect("a row of the table"));
            word.zip(position)
                .zip(kind)
                .map(|((word, position), kind)| word + position + kind)
        };
        let mut x = Tensor::sequence(width, (0..length).map(sum).collect())?.into_values();
        if start == Start::Normalized {
            let (scale, bias, epsilon) = self.norm();
            let norm = Norm {
                kind: NormKind::Layer,
                scale: scale.clone(),
                bias: Some(bias.clone()),
                epsilon,
            };
            x = norm.apply(&x, length);
        }
        x.resize((width + 1) * length, 0.0);
        x[width * length..][..tokens.len()].fill(1.0);
        Tensor::new(Shape::image(width + 1, 1, length), x)
    }

    fn logits(
        &self,
        tokens: &[u32],
        types: &[u32],
        length: usize,
        scheme: AttentionScheme,
    ) -> nn::Result<Tensor> {
        let graph = self.graph(length, scheme, Start::Normalized)?;
        let input = self.input(tokens, types, length, Start::Normalized)?;
        Ok(graph.evaluate(&input)?.output)
    }
}
