//! Llama: blocks of attention and SwiGLU, each behind an RMS norm and beside a residual; rotary positions; keys and values shared by groups
//! of heads.
//!
//! Tensors are called as in Hugging Face's checkpoints (`model.layers.0.self_attn.q_proj.weight`), and so are the graph's nodes, less
//! `.weight`. A head's channel k turns with its channel k + d/2, the checkpoints' convention.
//!
//! References: H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models" (2023); N. Shazeer, "GLU Variants Improve
//! Transformer" (2020); J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints" (2023).

use crate::blocks::{Blocks, Decoder, Heads, Sizes, Tensors};
use crate::config::{Fields, refuse};
use approx::Activation;
use nn::NodeId;
use nn::Result;
use nn::attention::AttentionScheme;
use nn::{NormKind, Op, Pairing, Rotary};
use serde_json::{Value, json};

/// Sizes and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width D of a token.
    pub width: usize,
    /// Width of the SwiGLU's inner layer.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Channels of one head.
    pub head: usize,
    /// Tokens there are.
    pub vocabulary: usize,
    /// Longest sequence.
    pub max_length: usize,
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
            vocabulary: 512,
            max_length: 512,
            tied: true,
            ..published(5, 64, [8, 4], 172)
        }),
        ("smollm2-135m", || Self {
            vocabulary: 49_152,
            max_length: 8192,
            base: 100_000.0,
            tied: true,
            ..published(30, 576, [9, 3], 1536)
        }),
        ("llama-7b", || published(32, 4096, [32, 32], 11_008)),
    ];
    // gate, its activation, the other half, their product
    const INNER: u64 = 4;

    fn read(json: &Value) -> Result<Self> {
        let f = Fields(json);
        f.only("hidden_act", &"silu".into())?;
        f.only("attention_bias", &false.into())?;
        f.only("mlp_bias", &false.into())?;
        let (width, heads) = (f.size("hidden_size")?, f.size("num_attention_heads")?);
        let config = Self {
            width,
            hidden: f.size("intermediate_size")?,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads: f.optional_size("num_key_value_heads")?.unwrap_or(heads),
            head: f.optional_size("head_dim")?.unwrap_or(width / heads),
            vocabulary: f.size("vocab_size")?,
            max_length: f.size("max_position_embeddings")?,
            epsilon: f.number("rms_norm_eps", 1e-6)?,
            base: f.rotary("rope_theta", "partial_rotary_factor", 1.0)?.0,
            tied: f.flag("tie_word_embeddings", false)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(refuse(format!(
                "{} key/value heads don't divide {} heads",
                self.kv_heads, self.heads
            )));
        }
        if self.head == 0 || !self.head.is_multiple_of(2) {
            return Err(refuse(format!(
                "heads of {} channels can't be turned in pairs",
                self.head
            )));
        }
        Ok(())
    }

    fn write(&self) -> Value {
        json!({
            "model_type": Self::MODEL_TYPE,
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.max_length,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.base,
            "tie_word_embeddings": self.tied,
        })
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            layers: self.layers,
            width: self.width,
            hidden: self.hidden,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head: self.head,
            vocabulary: self.vocabulary,
            max_length: self.max_length,
        }
    }

    fn tied(&self) -> bool {
        self.tied
    }

    fn untied(self) -> Self {
        Self {
            tied: false,
            ..self
        }
    }

    fn resized(&self, to: Sizes) -> Self {
        Self {
            layers: to.layers,
            width: to.width,
            hidden: to.hidden,
            heads: to.heads,
            kv_heads: to.kv_heads,
            head: to.head,
            vocabulary: to.vocabulary,
            max_length: to.max_length,
            ..self.clone()
        }
    }

    fn tensors(&self, each: &mut Tensors<'_>) -> Result<()> {
        let (d, h) = (self.width, self.hidden);
        let (q, kv) = (self.heads * self.head, self.kv_heads * self.head);
        each(
            format!("{}.weight", Self::EMBEDDING),
            vec![self.vocabulary, d],
        )?;
        for l in 0..self.layers {
            for (name, shape) in [
                ("input_layernorm", vec![d]),
                ("self_attn.q_proj", vec![q, d]),
                ("self_attn.k_proj", vec![kv, d]),
                ("self_attn.v_proj", vec![kv, d]),
                ("self_attn.o_proj", vec![d, q]),
                ("post_attention_layernorm", vec![d]),
                ("mlp.gate_proj", vec![h, d]),
                ("mlp.up_proj", vec![h, d]),
                ("mlp.down_proj", vec![d, h]),
            ] {
                each(format!("model.layers.{l}.{name}.weight"), shape)?;
            }
        }
        each("model.norm.weight".into(), vec![d])?;
        if !self.tied {
            each(format!("{}.weight", Self::HEAD), vec![self.vocabulary, d])?;
        }
        Ok(())
    }

    fn blocks(&self, b: &mut Blocks<'_>, scheme: AttentionScheme, mut x: NodeId) -> Result<NodeId> {
        let heads = Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            rotary: Rotary {
                head: self.head,
                rotated: self.head,
                base: self.base,
                pairing: Pairing::Half,
                first: 0,
            },
            scheme,
        };
        let rms = (NormKind::RootMeanSquare, self.epsilon);
        for l in 0..self.layers {
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

/// With the sizes that published models share.
fn published(layers: usize, width: usize, [heads, kv_heads]: [usize; 2], hidden: usize) -> Config {
    Config {
        width,
        hidden,
        layers,
        heads,
        kv_heads,
        head: width / heads,
        vocabulary: 32_000,
        max_length: 2048,
        epsilon: 1e-5,
        base: 10_000.0,
        tied: false,
    }
}
