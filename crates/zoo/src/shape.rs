//! Shapes of published transformers without their weights: sizes, tensors, and a stand-in of the same structure with a few channels.
//!
//! What a transformer's encrypted evaluation costs follows from its shape: how many values there are between which operators, not what they
//! are. A [`StandIn`] has the same blocks, heads and operators under the same names, made by the same constructors, with `head` channels
//! narrowed to two: it goes through lowering and a compiler's decisions in seconds, whatever the model's size.

use crate::architecture::Architecture;
use crate::bert;
use crate::blocks::{Role, Sizes};
use crate::encoder::{Encoder, Start};
use crate::language::LanguageModel;
use crate::random::mix;
use crate::vit::{self, Picture, VisionTransformer};
use nn::Graph;
use nn::Result;
use nn::attention::AttentionScheme;
use nn::calibrate::FitOptions;
use nn::lower::{Adapted, Options, adapt, expand};
use nn::{Op, PolyGraph, Shape, Tensor};
use std::collections::BTreeMap;

/// Channels that a stand-in's heads have.
const HEAD: usize = 2;
/// Tokens of a stand-in's sequence.
const TOKENS: usize = 8;
/// Sequences that a stand-in's intervals and ranges are taken from, and those of a network of [`LARGE`] or more weights, each of which takes minutes.
const SEQUENCES: [u64; 2] = [8, 2];
/// Weights of a large network.
const LARGE: usize = 300_000_000;

/// What training keeps of blocks for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All that they compute.
    Everything,
    /// What passes between them; the rest is computed again, one block at a time.
    Boundaries,
}

/// A transformer's sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum TransformerShape {
    /// Of a causal language model.
    Language(Architecture),
    /// Of an encoder.
    Encoder(bert::Config),
    /// Of pictures, whose patches are tokens: all of one number.
    Vision(vit::Config),
}

/// A network of another shape's structure.
#[derive(Debug, Clone, PartialEq)]
pub struct StandIn {
    /// Few channels, [`StandIn::tokens`] tokens.
    pub graph: Graph,
    /// Full number of channels by the stand-in's.
    pub channels: BTreeMap<usize, usize>,
    /// Tokens of its sequences.
    pub tokens: usize,
    /// Full number of channels of a head by the stand-in's: by how much others are narrowed, too.
    pub head: (usize, usize),
}

/// How a stand-in becomes polynomial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Polynomials {
    /// Precision of divisions and roots, relative, in bits.
    pub bits: f64,
    /// Degree of activations.
    pub degree: usize,
    /// By how much intervals of divisions and roots are widened at each end: those of random weights are narrower than trained ones'.
    pub widened: f64,
}

impl TransformerShape {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// Those of [`Architecture::from_json`], [`bert::Config::from_json`] and [`vit::Config::from_json`].
    pub fn from_json(text: &str) -> Result<Self> {
        let json = crate::config::Fields::parse(text)?;
        let model_type = json.get("model_type").and_then(|t| t.as_str());
        Ok(match model_type {
            Some(t) if bert::Config::MODEL_TYPES.contains(&t) => {
                Self::Encoder(bert::Config::from_json(text)?)
            }
            Some(t) if vit::Config::MODEL_TYPES.contains(&t) => {
                Self::Vision(vit::Config::from_json(text)?)
            }
            _ => Self::Language(Architecture::from_json(text)?),
        })
    }

    /// Names that [`TransformerShape::published`] knows.
    #[must_use]
    pub fn published_names() -> Vec<&'static str> {
        let mut names = Architecture::published_names();
        names.extend(bert::PUBLISHED.iter().map(|p| p.0));
        names.extend(vit::PUBLISHED.iter().map(|p| p.0));
        names
    }

    /// A published model's shape, as its `config.json` has it. Encoders classify into two.
    #[must_use]
    pub fn published(name: &str) -> Option<Self> {
        let encoder = || bert::PUBLISHED.iter().find(|p| p.0 == name);
        let vision = || vit::PUBLISHED.iter().find(|p| p.0 == name);
        Architecture::published(name)
            .map(Self::Language)
            .or_else(|| encoder().map(|p| Self::Encoder((p.1)())))
            .or_else(|| vision().map(|p| Self::Vision((p.1)())))
    }

    /// Every tensor of the model with its shape.
    fn tensors(&self, each: &mut dyn FnMut(&[usize])) -> Result<()> {
        let mut named = |_: String, shape: Vec<usize>, _| {
            each(&shape);
            Ok(())
        };
        match self {
            Self::Language(a) => a.tensors(named),
            Self::Encoder(c) => c.tensors(&mut named),
            Self::Vision(c) => c.tensors(&mut named),
        }
    }

    /// Number of parameters, embeddings included.
    ///
    /// # Errors
    /// None that sizes from a checked configuration could give.
    pub fn parameters(&self) -> Result<u64> {
        let mut count = 0u64;
        self.tensors(&mut |shape| count += shape.iter().map(|&n| n as u64).product::<u64>())?;
        Ok(count)
    }

    /// Its sizes.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        match self {
            Self::Language(a) => a.sizes(),
            Self::Encoder(c) => c.sizes,
            Self::Vision(c) => c.sizes,
        }
    }

    /// Tokens of an input, where all inputs have as many.
    #[must_use]
    pub fn tokens(&self) -> Option<usize> {
        match self {
            Self::Vision(c) => Some(c.sizes.max_length),
            Self::Language(_) | Self::Encoder(_) => None,
        }
    }

    /// Bytes that training takes at most on `batch` sequences at a time, without a teacher: for each parameter 16 (weight, gradient and AdamW's
    /// two moments in f32) and 22 while a checkpoint is written, as measured on SmolLM2 (`docs/plans.md`); what blocks keep for the backward
    /// pass (between them only, and of one block, where it recomputes); logits, their softmax and gradient.
    ///
    /// # Errors
    /// Those of [`TransformerShape::parameters`].
    pub fn training_bytes(&self, length: usize, batch: usize, kept: Kept) -> Result<u64> {
        let sizes = self.sizes();
        let [layers, width, hidden, heads, all] = [
            sizes.layers,
            sizes.width,
            sizes.hidden,
            sizes.heads,
            sizes.vocabulary,
        ]
        .map(|n| n as u64);
        let (inner, vocabulary) = match self {
            Self::Language(a) => (a.inner(), all),
            Self::Encoder(c) => match c.head {
                bert::Head::MaskedLanguage => (2, all),
                _ => (2, 1),
            },
            Self::Vision(_) => (2, 1),
        };
        let tokens = (length * batch) as u64;
        // of a token: two norms, queries and keys before and after they turn, values, what is attended, projected and added, twice
        let block = 11 * width + inner * hidden + heads * length as u64;
        let kept = match kept {
            Kept::Boundaries => layers * width + 2 * block,
            Kept::Everything => layers * block,
        };
        Ok(38 * self.parameters()? + 4 * tokens * (kept + 3 * vocabulary))
    }

    /// A network of this structure with few channels and tokens, and random weights.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`] for a structure that can't be narrowed.
    pub fn stand_in(&self, scheme: AttentionScheme) -> Result<StandIn> {
        self.narrowed(scheme, HEAD, TOKENS)
    }

    /// As [`TransformerShape::stand_in`], for an answer at `positions` of a sequence's `length`: with enough tokens that so many are told from all of them.
    ///
    /// # Errors
    /// Those of [`TransformerShape::stand_in`].
    pub fn stand_in_at(
        &self,
        scheme: AttentionScheme,
        (positions, length): (usize, usize),
    ) -> Result<StandIn> {
        let more = positions.next_power_of_two().saturating_mul(2);
        self.narrowed(scheme, HEAD, more.min(length).max(TOKENS))
    }

    /// The network itself for so many tokens, with random weights.
    ///
    /// # Errors
    /// Those of [`TransformerShape::stand_in`].
    pub fn random(&self, scheme: AttentionScheme, tokens: usize) -> Result<StandIn> {
        self.narrowed(scheme, self.sizes().head, tokens)
    }

    /// The shape of its first `layers` blocks, and what is before and after them.
    #[must_use]
    pub fn first(&self, layers: usize) -> Self {
        let sizes = Sizes {
            layers,
            ..self.sizes()
        };
        match self {
            Self::Language(a) => Self::Language(a.resized(sizes)),
            Self::Encoder(c) => Self::Encoder(c.resized(sizes)),
            Self::Vision(c) => Self::Vision(c.resized(sizes, c.picture)),
        }
    }

    /// The network for so many tokens, with random weights, in polynomials whose intervals and ranges are those of a stand-in: what it costs, without
    /// computing anything at full size.
    ///
    /// # Errors
    /// Those of [`TransformerShape::stand_in`] and [`adapt`].
    pub fn lowered(
        &self,
        scheme: AttentionScheme,
        tokens: usize,
        options: Polynomials,
    ) -> Result<PolyGraph> {
        let small = self.stand_in(scheme)?.polynomials(options)?;
        let full = self.random(scheme, tokens)?;
        let lowered = expand(&full.graph, &small.approximations, None)?;
        let ranges = small.graph.ranges();
        lowered.with_ranges(ranges.map(<[_]>::to_vec).unwrap_or_default())
    }

    fn narrowed(
        &self,
        scheme: AttentionScheme,
        small_head: usize,
        tokens: usize,
    ) -> Result<StandIn> {
        let sizes = self.sizes();
        let Sizes {
            width,
            hidden,
            heads,
            kv_heads,
            head,
            vocabulary,
            ..
        } = sizes;
        let by = head.div_ceil(small_head).max(1);
        let small_width = width.div_ceil(by);
        let mut small_hidden = hidden.div_ceil(by);
        let mut extra = 0;
        if by > 1 {
            // told apart by their numbers alone
            let others = [
                small_width,
                small_width + 1,
                heads * small_head,
                kv_heads * small_head,
            ];
            small_hidden += 2 * usize::from(others.contains(&small_hidden));
            extra = small_width + small_hidden + heads * small_head + 2;
        }
        let small = Sizes {
            width: small_width,
            hidden: small_hidden,
            head: small_head,
            vocabulary: if extra > 0 { extra } else { vocabulary },
            max_length: tokens,
            ..sizes
        };
        let mut random = Random(1);
        let mut values = |_: &str, shape: &[usize], role| random.tensor(role, shape);
        let mut channels = BTreeMap::from([
            (1, 1),
            (kv_heads * small_head, kv_heads * head),
            (heads * small_head, heads * head),
            (small_hidden, hidden),
            (small_width + 1, width + 1),
            (small_width, width),
        ]);
        if let Self::Encoder(bert::Config {
            head: bert::Head::Classification { labels },
            ..
        }) = self
        {
            channels.entry(labels.len()).or_insert(labels.len());
        }
        channels.insert(small.vocabulary, vocabulary);
        let mut picture = Picture {
            channels: 1,
            size: 1,
            patch: 1,
        };
        if let Self::Vision(c) = self {
            // an odd channel would be marks
            picture.channels = match extra {
                0 => c.picture.values(),
                _ => (extra + 2) & !1,
            };
            channels
                .entry(picture.channels)
                .or_insert(c.picture.values());
        }
        let graph = match self {
            Self::Language(a) => {
                LanguageModel::with_roles(a.resized(small), &mut values)?.graph(tokens, scheme)?
            }
            Self::Encoder(c) => Encoder::with_roles(c.resized(small), &mut values)?.graph(
                tokens,
                scheme,
                Start::Normalized,
            )?,
            Self::Vision(c) => {
                VisionTransformer::with_roles(c.resized(small, picture), &mut values)?
                    .graph(scheme, vit::Start::Patches)?
            }
        };
        Ok(StandIn {
            graph,
            channels,
            tokens,
            head: (small_head, head),
        })
    }
}

impl StandIn {
    /// The polynomial network: divisions, roots and activations on the intervals that random sequences show, and ranges.
    ///
    /// # Errors
    /// Those of [`adapt`].
    pub fn polynomials(&self, options: Polynomials) -> Result<Adapted> {
        let shape = self.graph.input().shape();
        let weights: usize = (self.graph.nodes().iter())
            .filter_map(|n| match n.op() {
                Op::Conv2d(c) => Some(c.weight.shape().iter().product::<usize>()),
                Op::Linear(l) => Some(l.weight.shape().iter().product()),
                _ => None,
            })
            .sum();
        let large = weights >= LARGE;
        let inputs: Vec<Tensor> = (0..SEQUENCES[usize::from(large)])
            .map(|i| sequence(shape, i))
            .collect();
        let options = Options {
            bits: options.bits,
            margin: options.widened - 1.0,
            activations: FitOptions {
                degree: options.degree,
                ..FitOptions::default()
            },
            ..Options::default()
        };
        adapt(&self.graph, &inputs, &options)
    }
}

/// A sequence of random tokens of differing sizes, an input of a [`StandIn`]; an encoder's marks are ones.
#[must_use]
pub fn sequence(shape: Shape, seed: u64) -> Tensor {
    let mut random = Random(0x5eed + seed);
    let mut x = Tensor::zeros(shape);
    let dims = shape.dims();
    let (channels, length) = (dims[0], dims[dims.len() - 1]);
    let sizes: Vec<f64> = (0..length).map(|_| 0.75 + 0.5 * random.next()).collect();
    for (c, row) in x.values_mut().chunks_mut(length).enumerate() {
        for (v, size) in row.iter_mut().zip(&sizes) {
            *v = size * random.symmetric() * 3f64.sqrt();
            if channels % 2 == 1 && c + 1 == channels {
                *v = 1.0;
            }
        }
    }
    x
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        let bits = mix(self.0);
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    fn symmetric(&mut self) -> f64 {
        2.0 * self.next() - 1.0
    }

    /// Norms scale by about one; projections keep a variance of one, those that are added to the sequence less of it.
    fn tensor(&mut self, role: Role, shape: &[usize]) -> Vec<f32> {
        let count: usize = shape.iter().product();
        let inputs = shape.last().copied().unwrap_or(1) as f64;
        let (mean, bound) = match role {
            Role::Scale => (1.0, 0.2),
            Role::Bias => (0.0, 0.1),
            Role::Residual => (0.0, 0.4 * (3.0 / inputs).sqrt()),
            Role::Tokens | Role::Positions | Role::Linear => (0.0, (3.0 / inputs).sqrt()),
        };
        let values = (0..count).map(|_| (mean + bound * self.symmetric()) as f32);
        values.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::attention::PowerSoftmax;

    #[test]
    fn published_shapes_have_their_published_numbers_of_parameters() {
        for (name, millions) in [
            ("pythia-70m", 70.4),
            ("pythia-160m", 162.3),
            ("pythia-410m", 405.3),
            ("pythia-1.4b", 1414.6),
            ("smollm2-135m", 134.5),
            ("llama-7b", 6738.4),
            ("stories260k", 0.26),
        ] {
            let shape = TransformerShape::published(name).expect(name);
            let count = shape.parameters().expect("sizes") as f64 / 1e6;
            assert!((count / millions - 1.0).abs() < 0.01, "{name}: {count} M");
        }
        // the encoder, its pooler and a classifier
        for (name, millions) in [
            ("bert-base", 109.5),
            ("roberta-base", 124.6),
            // 88,224,232 and 86,567,656 of torchvision's, 87,849,216 of OpenAI's image tower
            ("vit-b-32", 88.224),
            ("vit-b-16", 86.568),
            ("clip-vit-b-32", 87.849),
        ] {
            let shape = TransformerShape::published(name).expect(name);
            let count = shape.parameters().expect("sizes") as f64 / 1e6;
            assert!((count / millions - 1.0).abs() < 0.01, "{name}: {count} M");
        }
        let all = TransformerShape::published_names();
        assert!(all.iter().all(|n| TransformerShape::published(n).is_some()));
        assert_eq!(TransformerShape::published("gpt-5"), None);
    }

    #[test]
    fn a_stand_in_has_every_size_once_and_becomes_polynomial() {
        let scheme = AttentionScheme::Power(PowerSoftmax::new(4, 0.1).expect("valid"));
        for name in [
            "stories260k",
            "pythia-70m",
            "bert-base",
            "smollm2-135m",
            "vit-b-32",
            "clip-vit-b-32",
        ] {
            let shape = TransformerShape::published(name).expect(name);
            let shape = shape.first(1);
            let small = shape.stand_in(scheme).expect(name);
            for node in small.graph.nodes() {
                let channels = node.shape().dims()[0];
                assert!(
                    small.channels.contains_key(&channels),
                    "{name}: {} has {channels} channels",
                    node.name()
                );
            }
            let polynomial = small
                .polynomials(Polynomials {
                    bits: 12.0,
                    degree: 7,
                    widened: 1.25,
                })
                .expect(name);
            assert!(polynomial.graph.nodes().len() > small.graph.nodes().len());
        }
    }
}
