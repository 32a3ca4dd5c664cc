//! Llama: blocks of attention and SwiGLU, each behind an RMS norm and beside a residual; rotary positions; keys and values shared by groups
//! of heads.
//!
//! Tensors are called as in Hugging Face's checkpoints (`model.layers.0.self_attn.q_proj.weight`), and so are the graph's nodes, less
//! `.weight`. A head's channel k turns with its channel k + d/2, the checkpoints' convention.
//!
//! References: H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023); N. Shazeer, "GLU Variants Improve
//! Transformer" (2020); J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints" (2023).

use crate::blocks::{Blocks, Decoder, Heads, Role, Sizes, Tensors};
use crate::config::{Fields, refuse};
use approx::Activation;
use nn::NodeId;
use nn::Result;
use nn::attention::AttentionScheme;
use nn::{NormKind, Op};
use serde_json::{Value, json};

/// Sizes and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Sizes; the inner layer is the SwiGLU's.
    pub sizes: Sizes,
    /// ε of the norms.
    pub epsilon: f64,
    /// Base of the rotary positions.
    pub base: f64,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

impl Decoder for Config {
    const MODEL_TYPE: &'static str = "llama";
    const EMBEDDING: &'static str = "model.embed_tokens";
    const HEAD: &'static str = "lm_head";
    const PUBLISHED: &'static [(&'static str, fn() -> Self)] = &[
        ("stories260k", || Self {
            tied: true,
            ..published(5, 64, [8, 4], 172, [512, 512])
        }),
        ("smollm2-135m", || Self {
            base: 100_000.0,
            tied: true,
            ..published(30, 576, [9, 3], 1536, [49_152, 8192])
        }),
        ("llama-7b", || {
            published(32, 4096, [32, 32], 11_008, [32_000, 2048])
        }),
    ];
    // gate, its activation, the other half, their product
    const INNER: u64 = 4;

    fn read(json: &Value) -> Result<Self> {
        let f = Fields(json);
        f.only("hidden_act", &"silu".into())?;
        f.only("attention_bias", &false.into())?;
        f.only("mlp_bias", &false.into())?;
        let sizes = f.sizes()?;
        let config = Self {
            sizes: Sizes {
                kv_heads: f
                    .optional_size("num_key_value_heads")?
                    .unwrap_or(sizes.heads),
                head: f.optional_size("head_dim")?.unwrap_or(sizes.head),
                ..sizes
            },
            epsilon: f.number("rms_norm_eps", 1e-6)?,
            base: f.rotary("rope_theta", "partial_rotary_factor", 1.0)?.0,
            tied: f.flag("tie_word_embeddings", false)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let Sizes {
            heads,
            kv_heads,
            head,
            ..
        } = self.sizes;
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let detail = format!("{kv_heads} key/value heads don't divide {heads} heads");
            return Err(refuse(detail));
        }
        if head == 0 || !head.is_multiple_of(2) {
            let detail = format!("heads of {head} channels can't be turned in pairs");
            return Err(refuse(detail));
        }
        Ok(())
    }

    fn write(&self) -> Value {
        self.sizes.write(json!({
            "model_type": Self::MODEL_TYPE,
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "num_key_value_heads": self.sizes.kv_heads,
            "head_dim": self.sizes.head,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.base,
            "tie_word_embeddings": self.tied,
        }))
    }

    fn resized(&self, sizes: Sizes) -> Self {
        Self {
            sizes,
            ..self.clone()
        }
    }

    fn tensors(&self, each: &mut Tensors<'_>) -> Result<()> {
        let s = &self.sizes;
        let (d, h) = (s.width, s.hidden);
        let (q, kv) = (s.heads * s.head, s.kv_heads * s.head);
        for l in 0..s.layers {
            for (name, shape, role) in [
                ("input_layernorm", vec![d], Role::Scale),
                ("self_attn.q_proj", vec![q, d], Role::Linear),
                ("self_attn.k_proj", vec![kv, d], Role::Linear),
                ("self_attn.v_proj", vec![kv, d], Role::Linear),
                ("self_attn.o_proj", vec![d, q], Role::Residual),
                ("post_attention_layernorm", vec![d], Role::Scale),
                ("mlp.gate_proj", vec![h, d], Role::Linear),
                ("mlp.up_proj", vec![h, d], Role::Linear),
                ("mlp.down_proj", vec![d, h], Role::Residual),
            ] {
                each(format!("model.layers.{l}.{name}.weight"), shape, role)?;
            }
        }
        each("model.norm.weight".into(), vec![d], Role::Scale)
    }

    fn blocks(&self, b: &mut Blocks<'_>, scheme: AttentionScheme, mut x: NodeId) -> Result<NodeId> {
        let heads = Heads {
            sizes: self.sizes,
            rotated: self.sizes.head,
            base: self.base,
            scheme,
        };
        let rms = (NormKind::RootMeanSquare, self.epsilon);
        for l in 0..self.sizes.layers {
            let at = |name: &str| format!("model.layers.{l}.{name}");
            let y = b.norm(&at("input_layernorm"), rms, x)?;
            let [q, k, v] = [
                b.linear(&at("self_attn.q_proj"), y)?,
                b.linear(&at("self_attn.k_proj"), y)?,
                b.linear(&at("self_attn.v_proj"), y)?,
            ];
            let y = b.attention(&at("self_attn"), &heads, [q, k, v])?;
            let y = b.linear(&at("self_attn.o_proj"), y)?;
            x = b.add(&at("attention_residual"), Op::Add, &[x, y])?;
            let y = b.norm(&at("post_attention_layernorm"), rms, x)?;
            let gate = b.linear(&at("mlp.gate_proj"), y)?;
            let gate = b.add(
                &at("mlp.act_fn"),
                Op::Elementwise(Activation::Silu.into()),
                &[gate],
            )?;
            let up = b.linear(&at("mlp.up_proj"), y)?;
            let y = b.add(&at("mlp.product"), Op::Mul, &[gate, up])?;
            let y = b.linear(&at("mlp.down_proj"), y)?;
            x = b.add(&at("mlp_residual"), Op::Add, &[x, y])?;
        }
        b.norm("model.norm", rms, x)
    }
}

/// With the constants that published models share.
fn published(
    layers: usize,
    width: usize,
    [heads, kv_heads]: [usize; 2],
    hidden: usize,
    [vocabulary, max_length]: [usize; 2],
) -> Config {
    Config {
        sizes: Sizes {
            layers,
            width,
            hidden,
            heads,
            kv_heads,
            head: width / heads,
            vocabulary,
            max_length,
        },
        epsilon: 1e-5,
        base: 10_000.0,
        tied: false,
    }
}
