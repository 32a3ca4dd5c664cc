//! Vision transformers: ViT, which classifies a picture, and CLIP's image tower, which embeds it.
//!
//! A picture is cut into patches, each a token; a class token stands before them. Positions are learned; each block of attention and a layer of GELU
//! takes a layer norm first and adds its result (pre-norm); the answer is read from the class token. All tokens go the whole way with it: where layers lie in
//! coefficients that costs nothing more, and what is computed there must stay in the ranges that calibration found. CLIP has a norm before the first block, no bias at its patches, QuickGELU, and a projection in place of classes.
//!
//! The network's input is the picture. Its first node moves pixels, one column for each patch and one of zeros for the class token; the convolution whose
//! stride is its kernel is then a matrix on each column, and positions, the class token and the convolution's bias are one constant that is added.
//!
//! Tensors and nodes are called as in Hugging Face's checkpoints; those of OpenAI and open_clip (`visual.*`) are renamed when they are read.
//!
//! References: A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (2020); A. Radford et al.,
//! "Learning Transferable Visual Models From Natural Language Supervision" (2021).

use crate::blocks::{Blocks, Published, Role, Sizes, Tensors, Weights, collect, fresh, read};
use crate::config::{Fields, claimed, refuse};
use crate::encoder::channels;
use crate::family::{self, Claim, Model, Options};
use approx::Activation;
use nn::attention::{AttentionScheme, Mask};
use nn::format::Checkpoint;
use nn::format::state_dict::{StateDict, StateTensor};
use nn::{
    Attention, Conv2d, Graph, Metadata, NodeId, NormKind, Op, Parameter, Rearrange, Result, Shape,
};
use serde_json::Value;
use std::collections::BTreeMap;
use task::{Normalization, Outputs, Pictures, Task};

/// The registry's entry.
pub(crate) const FAMILY: family::Family = family::Family {
    name: "vision transformer",
    read: claim,
    leaves: Some(beside),
};

/// Tensors that lie beside a tower: the text's, a pooler, and what only training uses.
fn beside(name: &str) -> bool {
    let tower = ["visual.", "vision_model.", "vit."];
    let unused = ["position_ids", "mask_token"];
    !tower.iter().any(|t| name.starts_with(t))
        || name.contains("pooler.")
        || unused.iter().any(|u| name.ends_with(u))
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// ViT.
    Vit,
    /// CLIP's image tower.
    Clip,
}

/// What pictures are, and how they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Height and width of a patch.
    pub patch: usize,
}

impl Picture {
    /// Values of a patch.
    #[must_use]
    pub fn values(self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Tokens: the class token and the patches.
    fn tokens(self) -> usize {
        1 + (self.size / self.patch).pow(2)
    }
}

/// Sizes and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which of the two.
    pub family: Family,
    /// The sizes that all transformers have; the vocabulary are the outputs, the longest sequence is every picture's.
    pub sizes: Sizes,
    /// What pictures are.
    pub picture: Picture,
    /// ε of the norms.
    pub epsilon: f64,
    /// Of the inner layer.
    pub activation: Activation,
    /// Whether queries, keys and values have biases.
    pub biases: bool,
    /// The classes' names, if there are any.
    pub labels: Vec<String>,
}

/// Published models with their sizes.
pub(crate) const PUBLISHED: [Published<Config>; 3] = [
    ("vit-b-32", || published(Family::Vit, 32, 1000)),
    ("vit-b-16", || published(Family::Vit, 16, 1000)),
    ("clip-vit-b-32", || published(Family::Clip, 32, 512)),
];

fn published(family: Family, patch: usize, outputs: usize) -> Config {
    let picture = Picture {
        channels: 3,
        size: 224,
        patch,
    };
    let (activation, epsilon) = family.usual();
    Config {
        family,
        sizes: Sizes {
            vocabulary: outputs,
            max_length: picture.tokens(),
            ..Sizes::BASE
        },
        picture,
        epsilon,
        activation,
        biases: true,
        labels: Vec::new(),
    }
}

/// What tensors are called.
struct Names {
    class: &'static str,
    positions: &'static str,
    patches: &'static str,
    /// The norm before the first block.
    first: Option<&'static str>,
    block: &'static str,
    /// Of a block: its two norms, queries, keys, values, what is made of them, and the inner layer.
    parts: [&'static str; 8],
    last: &'static str,
    head: &'static str,
}

const VIT: Names = Names {
    class: "vit.embeddings.cls_token",
    positions: "vit.embeddings.position_embeddings",
    patches: "vit.embeddings.patch_embeddings.projection",
    first: None,
    block: "vit.encoder.layer",
    parts: [
        "layernorm_before",
        "layernorm_after",
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ],
    last: "vit.layernorm",
    head: "classifier",
};

const CLIP: Names = Names {
    class: "vision_model.embeddings.class_embedding",
    positions: "vision_model.embeddings.position_embedding.weight",
    patches: "vision_model.embeddings.patch_embedding",
    first: Some("vision_model.pre_layrnorm"),
    block: "vision_model.encoder.layers",
    parts: [
        "layer_norm1",
        "layer_norm2",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
    ],
    last: "vision_model.post_layernorm",
    head: "visual_projection",
};

impl Family {
    fn names(self) -> &'static Names {
        match self {
            Self::Vit => &VIT,
            Self::Clip => &CLIP,
        }
    }

    /// Activation and ε where nothing is said.
    fn usual(self) -> (Activation, f64) {
        match self {
            Self::Vit => (Activation::Gelu, 1e-12),
            Self::Clip => (Activation::QuickGelu, 1e-5),
        }
    }
}

impl Config {
    /// What `model_type` of a `config.json` says: of CLIP's, alone or beside the text's.
    pub(crate) const MODEL_TYPES: [&str; 3] = ["vit", "clip_vision_model", "clip"];

    /// From the text of a `config.json`; what it leaves out is as in ViT-B/16 or CLIP's ViT-B/32, as Hugging Face's readers have it.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`] with the field that is out of range or unknown.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = Fields::parse(text)?;
        let model_type = json.get("model_type").and_then(Value::as_str);
        let (family, own, known) = match model_type {
            Some("vit") => (Family::Vit, &json, "ViTForImageClassification"),
            Some("clip_vision_model") => (Family::Clip, &json, "CLIPVisionModelWithProjection"),
            Some("clip") => (Family::Clip, &json["vision_config"], "CLIPModel"),
            other => {
                return Err(refuse(format!(
                    "model_type is {}, {} are known vision transformers",
                    other.unwrap_or("missing"),
                    Self::MODEL_TYPES.join(", ")
                )));
            }
        };
        match json["architectures"][0].as_str() {
            Some(architecture) if architecture != known => {
                return Err(refuse(format!(
                    "architectures is {architecture}, of {} only {known} is known",
                    model_type.unwrap_or_default()
                )));
            }
            _ => {}
        }
        let f = Fields(own);
        let size = |name: &str, usual| Ok::<_, nn::Error>(f.optional_size(name)?.unwrap_or(usual));
        let labels = match family {
            Family::Vit => f.labels()?,
            Family::Clip => Vec::new(),
        };
        let (patch, outputs) = match family {
            Family::Vit => (16, labels.len()),
            Family::Clip => (
                32,
                Fields(&json)
                    .optional_size("projection_dim")?
                    .unwrap_or(512),
            ),
        };
        let picture = Picture {
            channels: size("num_channels", 3)?,
            size: size("image_size", 224)?,
            patch: size("patch_size", patch)?,
        };
        let (width, heads) = (size("hidden_size", 768)?, size("num_attention_heads", 12)?);
        let (activation, epsilon) = family.usual();
        let config = Self {
            family,
            sizes: Sizes {
                layers: size("num_hidden_layers", 12)?,
                width,
                hidden: size("intermediate_size", 3072)?,
                heads,
                kv_heads: heads,
                head: width / heads,
                vocabulary: outputs,
                max_length: picture.tokens(),
            },
            picture,
            epsilon: f.number("layer_norm_eps", epsilon)?,
            activation: f.activation("hidden_act", activation)?,
            biases: f.flag("qkv_bias", true)?,
            labels,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that don't fit each other.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`].
    pub fn check(&self) -> Result<()> {
        self.sizes.check_heads()?;
        self.sizes.check_layers()?;
        let Picture { size, patch, .. } = self.picture;
        if patch == 0 || !size.is_multiple_of(patch) || size < 2 * patch {
            return Err(refuse(format!(
                "patches of {patch}×{patch} pixels don't cut pictures of {size}×{size} into several"
            )));
        }
        if Shape::image(self.picture.channels, size, size)
            .checked_len()
            .is_none()
        {
            return Err(refuse(format!(
                "pictures of {size}×{size} pixels are too large"
            )));
        }
        if self.sizes.layers == 0 || self.sizes.vocabulary == 0 {
            return Err(refuse(format!(
                "{} layers and {} outputs, at least one of each is needed",
                self.sizes.layers, self.sizes.vocabulary
            )));
        }
        Ok(())
    }

    /// The same structure with these sizes, on pictures like this.
    pub(crate) fn resized(&self, sizes: Sizes, picture: Picture) -> Self {
        Self {
            sizes,
            picture,
            labels: Vec::new(),
            ..self.clone()
        }
    }

    /// Every tensor, its shape and its role, given one at a time; the patches' as a matrix.
    pub(crate) fn tensors(&self, each: &mut Tensors<'_>) -> Result<()> {
        let (n, sizes) = (self.family.names(), &self.sizes);
        let (d, h) = (sizes.width, sizes.hidden);
        let (class, positions) = match self.family {
            Family::Vit => (vec![1, 1, d], vec![1, sizes.max_length, d]),
            Family::Clip => (vec![d], vec![sizes.max_length, d]),
        };
        each(n.class.into(), class, Role::Tokens)?;
        each(n.positions.into(), positions, Role::Positions)?;
        let mut layer = |name: &str, shape: Vec<usize>, role: Role, bias: bool| {
            let rows = vec![shape[0]];
            each(format!("{name}.weight"), shape, role)?;
            match bias {
                true => each(format!("{name}.bias"), rows, Role::Bias),
                false => Ok(()),
            }
        };
        let vit = self.family == Family::Vit;
        let patches = vec![d, self.picture.values()];
        layer(n.patches, patches, Role::Linear, vit)?;
        for norm in n.first.into_iter().chain([n.last]) {
            layer(norm, vec![d], Role::Scale, true)?;
        }
        let [before, after, query, key, value, output, up, down] = n.parts;
        for l in 0..sizes.layers {
            for (name, shape, role, bias) in [
                (before, vec![d], Role::Scale, true),
                (after, vec![d], Role::Scale, true),
                (query, vec![d, d], Role::Linear, self.biases),
                (key, vec![d, d], Role::Linear, self.biases),
                (value, vec![d, d], Role::Linear, self.biases),
                (output, vec![d, d], Role::Residual, true),
                (up, vec![h, d], Role::Linear, true),
                (down, vec![d, h], Role::Residual, true),
            ] {
                layer(&format!("{}.{l}.{name}", n.block), shape, role, bias)?;
            }
        }
        layer(n.head, vec![sizes.vocabulary, d], Role::Linear, vit)
    }
}

/// Where a graph begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the picture.
    Picture,
    /// With its patches, a column each, behind one for the class token: where it is the columns alone that matter.
    Patches,
}

/// A vision transformer with all its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionTransformer {
    config: Config,
    weights: Weights,
}

impl VisionTransformer {
    /// One whose weights `values(name, shape)` gives; the patches' convolution is a matrix there.
    ///
    /// # Errors
    /// `Error::Malformed` for sizes that don't fit each other, `Error::Length` and `Error::NotFinite` for values that don't fit.
    pub fn new(config: Config, mut values: impl FnMut(&str, &[usize]) -> Vec<f32>) -> Result<Self> {
        config.check()?;
        Self::with_roles(config, |name, shape, _| values(name, shape))
    }

    pub(crate) fn with_roles(
        config: Config,
        values: impl FnMut(&str, &[usize], Role) -> Vec<f32>,
    ) -> Result<Self> {
        let weights = fresh(|each| config.tensors(each), values)?;
        Ok(Self { config, weights })
    }

    /// From the text of a `config.json` and the tensors of Hugging Face's checkpoint; tensors that the model doesn't have are left aside, as those of
    /// CLIP's text tower.
    ///
    /// # Errors
    /// Those of [`Config::from_json`], `Error::MissingTensor`, `Error::TensorShape`, `Error::NotFinite`.
    pub fn from_checkpoint(config: &str, checkpoint: &StateDict) -> Result<Self> {
        Self::read(Config::from_json(config)?, checkpoint)
    }

    /// From the tensors of OpenAI's and open_clip's checkpoints (`visual.*`), which say all sizes but the heads', always 64 channels each, and not the
    /// activation: OpenAI's have QuickGELU, most others GELU.
    ///
    /// # Errors
    /// As [`VisionTransformer::from_checkpoint`].
    pub fn from_open_clip(checkpoint: &StateDict, activation: Activation) -> Result<Self> {
        let (config, renamed) = open_clip(checkpoint, activation)?;
        Self::read(config, &renamed)
    }

    fn read(config: Config, checkpoint: &StateDict) -> Result<Self> {
        let patches = format!("{}.weight", config.family.names().patches);
        let Picture {
            channels, patch, ..
        } = config.picture;
        let make = |name: &str, shape: Vec<usize>, _| {
            let stored = match name == patches {
                true => vec![config.sizes.width, channels, patch, patch],
                false => shape.clone(),
            };
            let values = read(checkpoint, name, &stored)?.iter().map(|&v| v as f32);
            Parameter::new(name, shape, values.collect::<Vec<f32>>())
        };
        let weights = collect(|each| config.tensors(each), make)?;
        Ok(Self { config, weights })
    }

    /// Sizes and constants.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network with this attention.
    ///
    /// # Errors
    /// `Error::Invalid` for pictures of more values than a tensor may have.
    pub fn graph(&self, scheme: AttentionScheme, start: Start) -> Result<Graph> {
        let (config, n) = (&self.config, self.config.family.names());
        let mut b = Blocks {
            weights: &self.weights,
            network: Graph::builder(),
            step: None,
        };
        let mut x = self.embedded(&mut b, start)?;
        let norm = (NormKind::Layer, config.epsilon);
        if let Some(first) = n.first {
            x = b.norm(first, norm, x)?;
        }
        for l in 0..config.sizes.layers {
            x = self.block(&mut b, l, scheme, x)?;
        }
        let x = b.norm(n.last, norm, x)?;
        let x = b.linear(n.head, x)?;
        let x = b.add("class", channels(0..config.sizes.vocabulary, 1), &[x])?;
        let output = b.add("outputs", Op::Flatten, &[x])?;
        b.network.finish(output)
    }

    /// From the picture to the tokens with their positions.
    fn embedded(&self, b: &mut Blocks<'_>, start: Start) -> Result<NodeId> {
        let (config, n) = (&self.config, self.config.family.names());
        let (width, tokens, values) = (
            config.sizes.width,
            config.sizes.max_length,
            config.picture.values(),
        );
        let columns = Shape::image(values, 1, tokens);
        let x = match start {
            Start::Patches => b.add("patches", Op::Input(columns), &[])?,
            Start::Picture => {
                let Picture { channels, size, .. } = config.picture;
                let shape = Shape::image(channels, size, size);
                let picture = b.add("picture", Op::Input(shape), &[])?;
                // the input's check comes first: its values have small numbers
                let offsets = offsets(config.picture);
                let shape = columns;
                let cut = Op::Rearrange(Rearrange { shape, offsets });
                b.add("patches", cut, &[picture])?
            }
        };
        let weight = format!("{}.weight", n.patches);
        let weight = self.weights[&weight].reshaped(&weight, &[width, values, 1, 1])?;
        let x = b.add(n.patches, Op::Conv2d(Conv2d::new(weight)), &[x])?;
        let bias = self.weights.get(&format!("{}.bias", n.patches));
        let (class, positions) = (&self.weights[n.class], &self.weights[n.positions]);
        let mut constant = vec![0.0; width * tokens];
        for (d, row) in constant.chunks_mut(tokens).enumerate() {
            let bias = bias.map_or(0.0, |b| b.values()[d]);
            let own = positions.values()[d..].iter().step_by(width);
            for (t, (to, position)) in row.iter_mut().zip(own).enumerate() {
                *to = position + if t == 0 { class.values()[d] } else { bias };
            }
        }
        let shape = Shape::image(width, 1, tokens);
        let constant = Parameter::new(n.positions, shape.dims(), constant)?;
        let constant = b.add(n.positions, Op::Constant(shape, constant), &[])?;
        b.add("embedded", Op::Add, &[x, constant])
    }

    fn block(
        &self,
        b: &mut Blocks<'_>,
        l: usize,
        scheme: AttentionScheme,
        x: NodeId,
    ) -> Result<NodeId> {
        let (config, n) = (&self.config, self.config.family.names());
        let sizes = &config.sizes;
        let norm = (NormKind::Layer, config.epsilon);
        let at = |name: &str| format!("{}.{l}.{name}", n.block);
        let [before, after, query, key, value, output, up, down] = n.parts.map(at);
        let y = b.norm(&before, norm, x)?;
        let qkv = [
            b.linear(&query, y)?,
            b.linear(&key, y)?,
            b.linear(&value, y)?,
        ];
        let attention = Op::Attention(Attention {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            scale: 1.0 / (sizes.head as f64).sqrt(),
            mask: Mask::FULL,
            scheme,
        });
        let y = b.add(&at("attention"), attention, &qkv)?;
        let y = b.linear(&output, y)?;
        let x = b.add(&at("attention.residual"), Op::Add, &[x, y])?;
        let y = b.norm(&after, norm, x)?;
        let y = b.linear(&up, y)?;
        let activation = Op::Elementwise(config.activation.into());
        let y = b.add(&at("activation"), activation, &[y])?;
        let y = b.linear(&down, y)?;
        b.add(&at("residual"), Op::Add, &[x, y])
    }
}

/// Where the values of patches come from: by channel, row and column of a patch, then by patch, none for the class token.
fn offsets(picture: Picture) -> Vec<Vec<u32>> {
    let Picture {
        channels,
        size,
        patch,
    } = picture;
    // a tensor has fewer than 2^28 values
    let narrow = |at: usize| u32::try_from(at).unwrap_or(Rearrange::ZERO);
    let axis = |count: usize, step: usize| (0..count).map(|i| narrow(i * step)).collect();
    let side = size / patch;
    let first = |i: usize| narrow((i / side * size + i % side) * patch);
    let patches = (0..side * side).map(first);
    vec![
        axis(channels, size * size),
        axis(patch, size),
        axis(patch, 1),
        std::iter::once(Rearrange::ZERO).chain(patches).collect(),
    ]
}

/// OpenAI's names of a block's tensors, in the order of [`Names::parts`], queries, keys and values together.
const OPEN_CLIP: [&str; 5] = ["ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"];

/// Sizes, and the tensors under Hugging Face's names.
fn open_clip(from: &StateDict, activation: Activation) -> Result<(Config, StateDict)> {
    let dims = |name: &str| Ok::<_, nn::Error>(&from.require(name)?.shape[..]);
    let malformed = |detail: &str| nn::Error::malformed("checkpoint", detail);
    let &[width, channels, patch, _] = dims("visual.conv1.weight")? else {
        return Err(malformed("visual.conv1.weight is no convolution"));
    };
    let &[tokens, _] = dims("visual.positional_embedding")? else {
        return Err(malformed("visual.positional_embedding is no table"));
    };
    let &[_, outputs] = dims("visual.proj")? else {
        return Err(malformed("visual.proj is no matrix"));
    };
    let block = |l: usize| format!("visual.transformer.resblocks.{l}");
    let there = |l: &usize| from.find(&format!("{}.ln_1.weight", block(*l))).is_some();
    let layers = (0..).take_while(there).count();
    let fc = format!("{}.mlp.c_fc.bias", block(0));
    let hidden = dims(&fc)?.first().copied().unwrap_or(0);
    let side = (tokens.max(1) - 1).isqrt();
    let picture = Picture {
        channels,
        size: side.saturating_mul(patch),
        patch,
    };
    // the larger towers, H-14 and on, have heads of other widths, and the tensors don't say it
    if width > 1024 {
        return Err(malformed(&format!(
            "visual.conv1.weight: towers of {width} channels have heads of 80 channels and more, and the file does not say how many; take the model's folder in Hugging Face's form, whose config.json does"
        )));
    }
    let heads = width / 64;
    let config = Config {
        family: Family::Clip,
        sizes: Sizes {
            layers,
            width,
            hidden,
            heads,
            kv_heads: heads,
            head: 64,
            vocabulary: outputs,
            max_length: tokens,
        },
        picture,
        epsilon: Family::Clip.usual().1,
        activation,
        biases: true,
        labels: Vec::new(),
    };
    config.check()?;
    if picture.tokens() != tokens {
        return Err(malformed(&format!(
            "visual.positional_embedding has {tokens} rows, which are not those of square pictures"
        )));
    }
    let mut all: BTreeMap<String, StateTensor> = BTreeMap::new();
    let mut rename = |old: &str, new: String| {
        all.insert(new, from.require(old)?.clone());
        Ok::<_, nn::Error>(())
    };
    rename("visual.class_embedding", CLIP.class.into())?;
    rename("visual.positional_embedding", CLIP.positions.into())?;
    rename("visual.conv1.weight", format!("{}.weight", CLIP.patches))?;
    let [before, after, query, key, value, output, up, down] = CLIP.parts;
    let norms = [
        ("ln_pre", CLIP.first.unwrap_or_default()),
        ("ln_post", CLIP.last),
    ];
    for part in ["weight", "bias"] {
        for (old, new) in norms {
            rename(&format!("visual.{old}.{part}"), format!("{new}.{part}"))?;
        }
        for l in 0..layers {
            for (old, new) in OPEN_CLIP.into_iter().zip([before, after, output, up, down]) {
                let old = format!("{}.{old}.{part}", block(l));
                rename(&old, format!("{}.{l}.{new}.{part}", CLIP.block))?;
            }
        }
    }
    for l in 0..layers {
        for part in ["weight", "bias"] {
            let name = format!("{}.attn.in_proj_{part}", block(l));
            let whole = from.require(&name)?;
            let mut shape = whole.shape.clone();
            let rows = width.saturating_mul(3);
            if shape.first() != Some(&rows) || whole.values.is_empty() {
                return Err(nn::Error::shape(&name, &[rows, width], &shape));
            }
            shape[0] = width;
            let each = whole.values.chunks(whole.values.len() / 3);
            for (new, values) in [query, key, value].into_iter().zip(each) {
                let (shape, values) = (shape.clone(), values.to_vec());
                let name = format!("{}.{l}.{new}.{part}", CLIP.block);
                all.insert(name, StateTensor { shape, values });
            }
        }
    }
    let projection = read(from, "visual.proj", &[width, outputs])?;
    let turned = (0..outputs * width).map(|i| projection[i % width * outputs + i / width]);
    all.insert(
        format!("{}.weight", CLIP.head),
        StateTensor {
            shape: vec![outputs, width],
            values: turned.collect(),
        },
    );
    Ok((config, StateDict::new(all)))
}

fn claim(checkpoint: &Checkpoint, options: &Options) -> Result<Claim> {
    let model = match claimed(checkpoint, &Config::MODEL_TYPES) {
        Ok(config) => VisionTransformer::from_checkpoint(config, &checkpoint.tensors)?,
        Err(_) if checkpoint.tensors.find("visual.class_embedding").is_some() => {
            let activation = options.activation(FAMILY.name)?;
            VisionTransformer::from_open_clip(&checkpoint.tensors, activation)?
        }
        Err(why) => {
            return Ok(Claim::Declined(format!(
                "{why}, and it has no tensor visual.class_embedding"
            )));
        }
    };
    let graph = model.graph(AttentionScheme::Softmax, Start::Picture)?;
    let metadata = model.metadata(checkpoint.preprocessor.as_deref())?;
    Ok(Claim::Model(Box::new(Model::Trained(graph, metadata))))
}

impl VisionTransformer {
    /// Pixels as the file beside the weights normalises them, or as CLIP's do; without either there is no task. Classes under names of their own.
    fn metadata(&self, preprocessor: Option<&str>) -> Result<Metadata> {
        let Config {
            family,
            picture,
            labels,
            ..
        } = &self.config;
        let usual = *family == Family::Clip && picture.channels == 3;
        let normalization = match preprocessor {
            Some(text) => Some(normalization(text, picture.channels)?),
            None => usual.then(clip_normalization),
        };
        let numbered = |(i, label): (usize, &String)| *label == format!("LABEL_{i}");
        let outputs = match family {
            Family::Clip => Outputs::Values(Vec::new()),
            Family::Vit if labels.iter().enumerate().all(numbered) => Outputs::Classes(Vec::new()),
            Family::Vit => Outputs::Classes(labels.clone()),
        };
        let shape = Shape::image(picture.channels, picture.size, picture.size);
        let task = normalization.map(|n| Pictures::new(shape, n, outputs));
        let task = task.transpose().map_err(|e| refuse(e.to_string()))?;
        Ok(Metadata {
            task: task.map(|t| Task::Pictures(t).to_bytes()),
            ..Metadata::default()
        })
    }
}

/// How CLIP's networks take pixels.
pub(crate) fn clip_normalization() -> Normalization {
    Normalization::new(
        vec![0.481_454_66, 0.457_827_5, 0.408_210_73],
        vec![0.268_629_54, 0.261_302_58, 0.275_777_11],
    )
}

/// What a `preprocessor_config.json` says of pixels.
fn normalization(text: &str, channels: usize) -> Result<Normalization> {
    let refuse = |detail: String| nn::Error::malformed("preprocessor_config.json", detail);
    let json: Value = serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?;
    let rescaled = json["do_rescale"].as_bool().unwrap_or(true);
    let factor = json["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
    if !rescaled || (255.0 * factor - 1.0).abs() > 1e-6 {
        return Err(refuse(format!(
            "pixels are scaled by {}, only 1/255 is known; take the file away and say how they are normalised",
            if rescaled { factor } else { 1.0 }
        )));
    }
    if json["do_normalize"] == false {
        return Ok(Normalization::new(vec![0.0; channels], vec![1.0; channels]));
    }
    let list = |name: &str| -> Result<Vec<f64>> {
        let all = json[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let numbers: Option<Vec<f64>> = all.iter().map(Value::as_f64).collect();
        let fits = numbers.filter(|n| n.len() == channels);
        fits.ok_or_else(|| refuse(format!("{name} must have {channels} numbers")))
    };
    Ok(Normalization::new(list("image_mean")?, list("image_std")?))
}
