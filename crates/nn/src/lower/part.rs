//! Which part of a transformer a node belongs to, by the names that lowering gives.

/// A part of a lowered transformer, as its costs are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// Products of encrypted tensors with each other: queries with keys, weights with values, and the sums over them.
    Products,
    /// From scores to weights: powers, their sum, the division.
    Attention,
    /// Norms.
    Norm,
    /// Keys, values and queries brought to the places where products need them.
    Repacking,
}

impl Part {
    /// Of a node (or of the layer of a plan's step) with this name; None for what lowering left as it was: projections, activations,
    /// residual sums.
    #[must_use]
    pub fn of(node: &str) -> Option<Self> {
        let (base, part) = node.split_once('/')?;
        let layer = base.rsplit('.').next().unwrap_or(base);
        if layer.contains("norm") {
            return Some(Self::Norm);
        }
        let first = part.split('/').next().unwrap_or(part);
        // copies for heads that share keys and values are part of the projection that makes these
        if part.ends_with("/heads") {
            return None;
        }
        Some(match (first, part) {
            ("keys" | "values" | "queries" | "scaled" | "marks", _) => Self::Repacking,
            ("products" | "scores" | "weighed", _) | (_, "numerator") => Self::Products,
            _ => Self::Attention,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn names_that_lowering_gives() {
        let of = |part: &str| Part::of(&format!("model.layers.0.{part}"));
        for (name, part) in [
            ("self_attn/keys/unfolded", Some(Part::Repacking)),
            ("self_attn/keys/heads", None),
            ("self_attn/products", Some(Part::Products)),
            ("self_attn/numerator", Some(Part::Products)),
            ("self_attn/numerator/mean", Some(Part::Attention)),
            ("self_attn/power4", Some(Part::Attention)),
            ("self_attn/division/3/product", Some(Part::Attention)),
            ("input_layernorm/root/0", Some(Part::Norm)),
            ("input_layernorm/sum", Some(Part::Norm)),
            ("mlp.act_fn", None),
        ] {
            assert_eq!(of(name), part, "{name}");
        }
    }
}
