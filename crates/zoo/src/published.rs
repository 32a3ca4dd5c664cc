//! State dicts of published sizes with random values, of families that are read from state dicts alone. What a network costs depends on no weight, so
//! these stand for those that are trained.
//!
//! Sizes: ConvNeXt (Liu et al. 2022, table 9; Woo et al. 2023, table 8), EfficientNet-Lite (Tan and Le 2019, table 1, without squeeze-and-excite; stem, first and last stage are of one size) and
//! CLIP's RN50 (Radford et al. 2021, table 19). Names as timm's and open_clip's.

use crate::blocks::Initial;
use nn::format::Checkpoint;
use nn::format::state_dict::{StateDict, StateTensor};
use std::collections::BTreeMap;

/// Names that are known.
pub const NAMES: [&str; 15] = [
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnextv2_atto",
    "convnextv2_femto",
    "convnextv2_pico",
    "convnextv2_nano",
    "convnextv2_tiny",
    "convnextv2_base",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "clip_rn50",
];

/// Classes, and the width of what CLIP's towers share.
const OUTPUTS: usize = 1000;
const SHARED: usize = 1024;

/// A network of this name for pictures of `size`×`size`, its values a function of seed and names. None for another name, and for sizes that CLIP's
/// positions do not fit, which are multiples of 32.
#[must_use]
pub fn checkpoint(name: &str, size: usize, seed: u64) -> Option<Checkpoint> {
    let mut tensors = Tensors {
        seed,
        all: BTreeMap::new(),
    };
    let mut config = serde_json::json!({
        "architecture": name,
        "pretrained_cfg": {"input_size": [3, size, size]},
    });
    match name {
        "convnext_tiny" => tensors.convnext([3, 3, 9, 3], 96, false),
        "convnext_small" => tensors.convnext([3, 3, 27, 3], 96, false),
        "convnext_base" => tensors.convnext([3, 3, 27, 3], 128, false),
        "convnextv2_atto" => tensors.convnext([2, 2, 6, 2], 40, true),
        "convnextv2_femto" => tensors.convnext([2, 2, 6, 2], 48, true),
        "convnextv2_pico" => tensors.convnext([2, 2, 6, 2], 64, true),
        "convnextv2_nano" => tensors.convnext([2, 2, 8, 2], 80, true),
        "convnextv2_tiny" => tensors.convnext([3, 3, 9, 3], 96, true),
        "convnextv2_base" => tensors.convnext([3, 3, 27, 3], 128, true),
        "efficientnet_lite0" => tensors.efficientnet((10, 10)),
        "efficientnet_lite1" => tensors.efficientnet((10, 11)),
        "efficientnet_lite2" => tensors.efficientnet((11, 12)),
        "efficientnet_lite3" => tensors.efficientnet((12, 14)),
        "efficientnet_lite4" => tensors.efficientnet((14, 18)),
        "clip_rn50" if size > 0 && size.is_multiple_of(32) => {
            tensors.clip([3, 4, 6, 3], 64, size / 32);
            config = serde_json::Value::Null;
        }
        _ => return None,
    }
    Some(Checkpoint {
        config: (!config.is_null()).then(|| config.to_string()),
        preprocessor: None,
        tensors: StateDict::new(tensors.all),
    })
}

struct Tensors {
    seed: u64,
    all: BTreeMap<String, StateTensor>,
}

impl Tensors {
    fn add(&mut self, name: String, shape: &[usize], initial: Initial) {
        let values = initial.values(self.seed, &name, shape);
        let tensor = StateTensor {
            shape: shape.to_vec(),
            values: values.into_iter().map(f64::from).collect(),
        };
        self.all.insert(name, tensor);
    }

    fn all(&mut self, name: String, count: usize, value: f32) {
        self.add(name, &[count], Initial::All(value));
    }

    /// A matrix or kernels, whose outputs are about as large as their inputs.
    fn weight(&mut self, name: &str, shape: &[usize]) {
        let inputs: usize = shape[1..].iter().product();
        let bound = (3.0 / inputs as f64).sqrt();
        self.add(format!("{name}.weight"), shape, Initial::Within(bound));
    }

    fn biased(&mut self, name: &str, shape: &[usize]) {
        self.weight(name, shape);
        self.all(format!("{name}.bias"), shape[0], 0.0);
    }

    /// Scale and offset, of a layer's norm or a batch's.
    fn norm(&mut self, name: &str, channels: usize) {
        self.all(format!("{name}.weight"), channels, 1.0);
        self.all(format!("{name}.bias"), channels, 0.0);
    }

    fn batch_norm(&mut self, name: &str, channels: usize) {
        self.norm(name, channels);
        self.all(format!("{name}.running_mean"), channels, 0.0);
        self.all(format!("{name}.running_var"), channels, 1.0);
    }

    /// Blocks of the four stages, the first one's channels, and whether it is of version 2.
    fn convnext(&mut self, blocks: [usize; 4], width: usize, second: bool) {
        let mut from = 3;
        for (stage, blocks) in blocks.into_iter().enumerate() {
            let channels = width << stage;
            match stage {
                0 => {
                    self.biased("stem.0", &[channels, from, 4, 4]);
                    self.norm("stem.1", channels);
                }
                _ => {
                    self.norm(&format!("stages.{stage}.downsample.0"), from);
                    let name = format!("stages.{stage}.downsample.1");
                    self.biased(&name, &[channels, from, 2, 2]);
                }
            }
            for block in 0..blocks {
                let part = |p: &str| format!("stages.{stage}.blocks.{block}.{p}");
                self.biased(&part("conv_dw"), &[channels, 1, 7, 7]);
                self.norm(&part("norm"), channels);
                self.biased(&part("mlp.fc1"), &[4 * channels, channels]);
                self.biased(&part("mlp.fc2"), &[channels, 4 * channels]);
                match second {
                    true => self.norm(&part("mlp.grn"), 4 * channels),
                    // trained ones are about so large
                    false => self.all(part("gamma"), channels, 0.1),
                }
            }
            from = channels;
        }
        self.norm("head.norm", from);
        self.biased("head.fc", &[OUTPUTS, from]);
    }

    /// How many tenths as wide and as deep as the first it is.
    fn efficientnet(&mut self, (wider, deeper): (usize, usize)) {
        /// Blocks, channels, kernel of the stages; all but the first are made six times wider within.
        const STAGES: [[usize; 3]; 7] = [
            [1, 16, 3],
            [2, 24, 3],
            [2, 40, 5],
            [3, 80, 3],
            [3, 112, 5],
            [4, 192, 5],
            [1, 320, 3],
        ];
        let mut from = 32;
        self.weight("conv_stem", &[from, 3, 3, 3]);
        self.batch_norm("bn1", from);
        for (stage, [blocks, channels, kernel]) in STAGES.into_iter().enumerate() {
            // the nearest multiple of 8, and the next one where that is less than nine tenths
            let scaled = channels * wider;
            let mut channels = (scaled + 40) / 80 * 8;
            if channels * 100 < scaled * 9 {
                channels += 8;
            }
            let blocks = match stage {
                0 | 6 => blocks,
                _ => (blocks * deeper).div_ceil(10),
            };
            for block in 0..blocks {
                let part = |p: &str| format!("blocks.{stage}.{block}.{p}");
                let wide = if stage == 0 { from } else { 6 * from };
                let mut norms = vec![wide, channels];
                if stage == 0 {
                    self.weight(&part("conv_pw"), &[channels, wide, 1, 1]);
                } else {
                    self.weight(&part("conv_pw"), &[wide, from, 1, 1]);
                    self.weight(&part("conv_pwl"), &[channels, wide, 1, 1]);
                    norms.insert(0, wide);
                }
                self.weight(&part("conv_dw"), &[wide, 1, kernel, kernel]);
                for (number, channels) in (1..).zip(norms) {
                    self.batch_norm(&part(&format!("bn{number}")), channels);
                }
                from = channels;
            }
        }
        self.weight("conv_head", &[1280, from, 1, 1]);
        self.batch_norm("bn2", 1280);
        self.biased("classifier", &[OUTPUTS, 1280]);
    }

    /// Blocks of the four stages, the first one's channels within a block, and rows of places that the attention sees.
    fn clip(&mut self, blocks: [usize; 4], width: usize, side: usize) {
        let name = |p: &str| format!("visual.{p}");
        let half = width / 2;
        for (end, to, from) in [(1, half, 3), (2, half, half), (3, width, half)] {
            self.weight(&name(&format!("conv{end}")), &[to, from, 3, 3]);
            self.batch_norm(&name(&format!("bn{end}")), to);
        }
        let mut from = width;
        for (stage, blocks) in blocks.into_iter().enumerate() {
            let (within, to) = (width << stage, (4 * width) << stage);
            for block in 0..blocks {
                let part = |p: &str| name(&format!("layer{}.{block}.{p}", stage + 1));
                let sizes = [(within, from, 1), (within, within, 3), (to, within, 1)];
                for (end, (to, from, kernel)) in (1..).zip(sizes) {
                    self.weight(&part(&format!("conv{end}")), &[to, from, kernel, kernel]);
                    self.batch_norm(&part(&format!("bn{end}")), to);
                }
                if block == 0 {
                    self.weight(&part("downsample.0"), &[to, from, 1, 1]);
                    self.batch_norm(&part("downsample.1"), to);
                }
                from = to;
            }
        }
        let tokens = side * side + 1;
        let positions = name("attnpool.positional_embedding");
        let small = Initial::Within((3.0 / from as f64).sqrt());
        self.add(positions, &[tokens, from], small);
        for part in ["q_proj", "k_proj", "v_proj"] {
            self.biased(&name(&format!("attnpool.{part}")), &[from, from]);
        }
        self.biased(&name("attnpool.c_proj"), &[SHARED, from]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, identify};
    use approx::Activation;

    #[test]
    fn networks_have_the_published_sizes() {
        // numbers of parameters as timm and OpenAI count them, in which running means and variances do not count
        for (name, size, count) in [
            ("convnext_tiny", 64, 28_589_128),
            ("convnextv2_atto", 64, 3_708_400),
            ("convnextv2_femto", 64, 5_233_240),
            ("convnextv2_pico", 64, 9_066_280),
            ("convnextv2_nano", 64, 15_623_800),
            ("efficientnet_lite0", 64, 4_652_008),
            ("efficientnet_lite1", 64, 5_416_680),
            ("efficientnet_lite2", 64, 6_092_072),
            ("efficientnet_lite3", 64, 8_197_096),
            ("efficientnet_lite4", 64, 13_006_568),
            ("clip_rn50", 224, 38_316_896),
        ] {
            let checkpoint = checkpoint(name, size, 1).expect("known");
            let tensors = checkpoint.tensors.tensors().iter();
            let learned = tensors.filter(|(name, _)| !name.contains("running_"));
            let all: usize = learned.map(|(_, t)| t.values.len()).sum();
            assert_eq!(all, count, "{name}");
            let options = Options::from(Some(Activation::Silu));
            let model = identify(&checkpoint, &options).expect("read");
            let (graph, _) = model.graph().expect("of one shape");
            assert_eq!(graph.input().shape().dims(), [3, size, size], "{name}");
        }
        assert!(checkpoint("clip_rn50", 100, 1).is_none());
        assert!(checkpoint("convnext", 224, 1).is_none());
    }
}
