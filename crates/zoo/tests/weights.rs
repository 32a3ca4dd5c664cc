//! New weights are a function of the seed, the tensor's name and its role: the same in every release.

use nn::format::state_dict::StateDict;
use nn::{AttentionScheme, Graph, Op, Parameter};
use zoo::architecture::Architecture;
use zoo::architecture::llama;
use zoo::bert::{self, Head};
use zoo::blocks::Sizes;
use zoo::encoder::Encoder;
use zoo::language::LanguageModel;
use zoo::shape::TransformerShape;

/// FNV-1a.
fn digest(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |h, w| {
        (h ^ w).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Of all weights, in the order of their names.
fn stored(weights: &StateDict) -> u64 {
    let values = weights.tensors().values().flat_map(|t| &t.values);
    digest(values.map(|v| v.to_bits()))
}

/// Of a graph's weights, node by node.
fn built(graph: &Graph) -> u64 {
    let parameters = graph.nodes().iter().flat_map(|n| match n.op() {
        Op::Conv2d(c) => vec![Some(&c.weight), c.bias.as_ref()],
        Op::Norm(n) => vec![Some(&n.scale), n.bias.as_ref()],
        _ => Vec::new(),
    });
    let values = parameters.flatten().flat_map(Parameter::values);
    digest(values.map(|v| v.to_bits().into()))
}

const SIZES: Sizes = Sizes {
    layers: 2,
    width: 8,
    hidden: 32,
    heads: 4,
    kv_heads: 2,
    head: 2,
    vocabulary: 11,
    max_length: 6,
};

#[test]
fn of_a_llama_to_train() {
    for (tied, expected) in [
        (true, 0x1f1a_270e_5f2e_c325),
        (false, 0xa439_22eb_0227_8805),
    ] {
        let config = llama::Config {
            sizes: SIZES,
            epsilon: 1e-5,
            base: 10_000.0,
            tied,
        };
        let made = LanguageModel::random(Architecture::Llama(config), 3).expect("fits");
        assert_eq!(stored(&made.to_checkpoint()), expected, "tied: {tied}");
    }
}

#[test]
fn of_an_encoder_to_train_and_of_another_head() {
    let config = |head| bert::Config {
        family: bert::Family::Bert,
        sizes: Sizes {
            hidden: 12,
            heads: 2,
            head: 4,
            vocabulary: 10,
            ..SIZES
        },
        types: 2,
        epsilon: 1e-5,
        padding: 0,
        activation: approx::Activation::Gelu,
        head,
    };
    let classes = Head::Classification {
        labels: vec!["negative".into(), "positive".into()],
    };
    for (head, other, expected) in [
        (classes.clone(), Head::MaskedLanguage, 0x047c_3458_2456_2a6d),
        (Head::MaskedLanguage, classes, 0xee17_a0f4_3521_fa0d),
    ] {
        let made = Encoder::random(config(head.clone()), 3).expect("fits");
        assert_eq!(stored(&made.to_checkpoint()), expected, "{head:?}");
        let made = Encoder::random(config(other), 3).expect("fits");
        let made = made.with_head(head.clone(), 3).expect("fits");
        assert_eq!(stored(&made.to_checkpoint()), expected, "{head:?} later");
    }
}

#[test]
fn of_stand_ins() {
    for (name, expected) in [
        ("stories260k", 0x99b4_9655_9d89_5660),
        ("pythia-70m", 0x4938_3c80_8f88_244d),
        ("bert-base", 0x9c73_15ca_9fd2_c7c9),
    ] {
        let shape = TransformerShape::published(name).expect(name);
        let small = shape.stand_in(AttentionScheme::Softmax).expect(name);
        assert_eq!(built(&small.graph), expected, "{name}");
    }
}
