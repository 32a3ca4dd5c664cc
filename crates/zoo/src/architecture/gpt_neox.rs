//! GPT-NeoX, the architecture of Pythia: attention and a GELU layer side by side behind their own layer norms (or one after the other),
//! rotary positions on a part of each head's channels.
//!
//! Tensors are called as in Hugging Face's checkpoints, except that `attention.query_key_value`, which holds each head's rows of all
//! three in turn, is kept as `attention.query`, `.key` and `.value`; the graph's nodes are called like the tensors, less `.weight`.
//!
//! References: S. Black et al., "GPT-NeoX-20B: An Open-Source Autoregressive Language Model" (2022); S. Biderman et al., "Pythia: A Suite for
//! Analyzing Large Language Models Across Training and Scaling" (2023).

use crate::blocks::{Blocks, Decoder, Heads, Role, Sizes, Tensors};
use crate::config::{Fields, refuse};
use approx::Activation;
use nn::NodeId;
use nn::Result;
use nn::attention::AttentionScheme;
use nn::format::state_dict::StateTensor;
use nn::{NormKind, Op};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Sizes and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Sizes: as many heads of keys and values as of queries, together as wide as a token; the inner layer is the GELU's.
    pub sizes: Sizes,
    /// ε of the norms.
    pub epsilon: f64,
    /// Share of each head's channels that turn with the position.
    pub rotary_share: f64,
    /// Base of the rotary positions.
    pub base: f64,
    /// Whether attention and the GELU layer take the same input.
    pub parallel: bool,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl Config {
    /// Channels of a head that turn: the whole part of the share.
    fn rotated(&self) -> usize {
        (self.sizes.head as f64 * self.rotary_share) as usize
    }

    const PARTS: [&str; 3] = ["query", "key", "value"];

    /// The checkpoint's tensor with each head's rows of queries, keys and values in turn, if `name` is a part of one: which, its shape, and
    /// which part.
    fn fused(&self, name: &str) -> Option<(String, Vec<usize>, usize)> {
        let (head, kind) = name.rsplit_once('.')?;
        let (prefix, part) = head.rsplit_once(".attention.")?;
        let part = Self::PARTS.iter().position(|p| *p == part)?;
        let mut shape = vec![3 * self.sizes.width];
        if kind == "weight" {
            shape.push(self.sizes.width);
        }
        Some((
            format!("{prefix}.attention.query_key_value.{kind}"),
            shape,
            part,
        ))
    }
}

impl Decoder for Config {
    const MODEL_TYPE: &'static str = "gpt_neox";
    const EMBEDDING: &'static str = "gpt_neox.embed_in";
    const HEAD: &'static str = "embed_out";
    const PUBLISHED: &'static [(&'static str, fn() -> Self)] = &[
        ("pythia-70m", || published(6, 512, 8)),
        ("pythia-160m", || published(12, 768, 12)),
        ("pythia-410m", || published(24, 1024, 16)),
        ("pythia-1.4b", || published(24, 2048, 16)),
    ];
    const INNER: u64 = 2;

    fn read(json: &Value) -> Result<Self> {
        let f = Fields(json);
        f.only("hidden_act", &"gelu".into())?;
        f.only("attention_bias", &true.into())?;
        let (base, rotary_share) = f.rotary("rotary_emb_base", "rotary_pct", 0.25)?;
        let config = Self {
            sizes: f.sizes()?,
            epsilon: f.number("layer_norm_eps", 1e-5)?,
            rotary_share,
            base,
            parallel: f.flag("use_parallel_residual", true)?,
            tied: f.flag("tie_word_embeddings", false)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        self.sizes.check_heads()?;
        if self.rotary_share > 1.0 || !self.rotated().is_multiple_of(2) {
            return Err(refuse(format!(
                "a share of {} makes {} channels of a head turn, which are no pairs of its {}",
                self.rotary_share,
                self.rotated(),
                self.sizes.head
            )));
        }
        Ok(())
    }

    fn write(&self) -> Value {
        self.sizes.write(json!({
            "model_type": Self::MODEL_TYPE,
            "architectures": ["GPTNeoXForCausalLM"],
            "hidden_act": "gelu",
            "layer_norm_eps": self.epsilon,
            "rotary_pct": self.rotary_share,
            "rotary_emb_base": self.base,
            "use_parallel_residual": self.parallel,
            "tie_word_embeddings": self.tied,
        }))
    }

    fn resized(&self, sizes: Sizes) -> Self {
        let rotary_share = match sizes.head == self.sizes.head {
            true => self.rotary_share,
            false => 1.0,
        };
        Self {
            sizes,
            rotary_share,
            ..self.clone()
        }
    }

    fn tensors(&self, each: &mut Tensors<'_>) -> Result<()> {
        let (d, h) = (self.sizes.width, self.sizes.hidden);
        for l in 0..self.sizes.layers {
            for (name, shape, role) in [
                ("input_layernorm", vec![d], Role::Scale),
                ("post_attention_layernorm", vec![d], Role::Scale),
                ("attention.query", vec![d, d], Role::Linear),
                ("attention.key", vec![d, d], Role::Linear),
                ("attention.value", vec![d, d], Role::Linear),
                ("attention.dense", vec![d, d], Role::Residual),
                ("mlp.dense_h_to_4h", vec![h, d], Role::Linear),
                ("mlp.dense_4h_to_h", vec![d, h], Role::Residual),
            ] {
                let bias = vec![shape[0]];
                each(format!("gpt_neox.layers.{l}.{name}.weight"), shape, role)?;
                each(format!("gpt_neox.layers.{l}.{name}.bias"), bias, Role::Bias)?;
            }
        }
        let last = |part| format!("gpt_neox.final_layer_norm.{part}");
        each(last("weight"), vec![d], Role::Scale)?;
        each(last("bias"), vec![d], Role::Bias)
    }

    fn stored(&self, name: &str, shape: Vec<usize>) -> (String, Vec<usize>, Option<usize>) {
        match self.fused(name) {
            Some((fused, shape, part)) => (fused, shape, Some(part)),
            None => (name.into(), shape, None),
        }
    }

    fn part(&self, values: &[f64], part: usize) -> Vec<f64> {
        let block = self.sizes.head * (values.len() / (3 * self.sizes.width));
        values
            .chunks(3 * block)
            .flat_map(|head| head[part * block..][..block].iter().copied())
            .collect()
    }

    fn fuse(&self, tensors: &mut BTreeMap<String, StateTensor>) {
        let names: Vec<String> = tensors.keys().cloned().collect();
        for name in names {
            let Some((fused, shape, part)) = self.fused(&name) else {
                continue;
            };
            let Some(own) = tensors.remove(&name) else {
                continue;
            };
            let length = shape.iter().product();
            let whole = tensors.entry(fused).or_insert_with(|| StateTensor {
                shape,
                values: vec![0.0; length],
            });
            let block = length / (3 * self.sizes.heads);
            for (to, from) in whole
                .values
                .chunks_mut(3 * block)
                .zip(own.values.chunks(block))
            {
                to[part * block..][..block].copy_from_slice(from);
            }
        }
    }

    fn blocks(&self, b: &mut Blocks<'_>, scheme: AttentionScheme, mut x: NodeId) -> Result<NodeId> {
        let heads = Heads {
            sizes: self.sizes,
            rotated: self.rotated(),
            base: self.base,
            scheme,
        };
        let layer_norm = (NormKind::Layer, self.epsilon);
        for l in 0..self.sizes.layers {
            let at = |name: &str| format!("gpt_neox.layers.{l}.{name}");
            let y = b.norm(&at("input_layernorm"), layer_norm, x)?;
            let [q, k, v] = [
                b.linear(&at("attention.query"), y)?,
                b.linear(&at("attention.key"), y)?,
                b.linear(&at("attention.value"), y)?,
            ];
            let y = b.attention(&at("attention"), &heads, [q, k, v])?;
            let y = b.linear(&at("attention.dense"), y)?;
            let attended = b.add(&at("attention_residual"), Op::Add, &[x, y])?;
            let from = if self.parallel { x } else { attended };
            let y = b.norm(&at("post_attention_layernorm"), layer_norm, from)?;
            let y = b.linear(&at("mlp.dense_h_to_4h"), y)?;
            let gelu = Op::Elementwise(Activation::Gelu.into());
            let y = b.add(&at("mlp.act"), gelu, &[y])?;
            let y = b.linear(&at("mlp.dense_4h_to_h"), y)?;
            x = b.add(&at("mlp_residual"), Op::Add, &[attended, y])?;
        }
        b.norm("gpt_neox.final_layer_norm", layer_norm, x)
    }
}

/// Pythia of these sizes.
fn published(layers: usize, width: usize, heads: usize) -> Config {
    Config {
        sizes: Sizes {
            layers,
            width,
            hidden: 4 * width,
            heads,
            kv_heads: heads,
            head: width / heads,
            vocabulary: 50_304,
            max_length: 2048,
        },
        epsilon: 1e-5,
        rotary_share: 0.25,
        base: 10_000.0,
        parallel: true,
        tied: false,
    }
}
