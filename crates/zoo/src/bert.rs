//! BERT and RoBERTa: encoders of blocks of attention and a GELU layer, each with its residual *before* a layer norm; learned positions, and
//! token types; a head that predicts masked tokens or one that classifies from the first position.
//!
//! Tensors are called as in Hugging Face's checkpoints (`bert.encoder.layer.0.attention.self.query.weight`), and so are the graph's nodes, less
//! `.weight`; what a checkpoint without its head leaves out, the leading `bert.` or `roberta.`, is put back when it is read. The two differ in names,
//! in positions (RoBERTa's begin behind its padding token's number) and in the head that classifies.
//!
//! References: J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (2019); Y. Liu et al.,
//! "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (2019).

use crate::blocks::{Initial, Role, Sizes, Tensors};
use crate::config::{Fields, refuse};
use approx::Activation;
use nn::Result;
use serde_json::{Map, Value, json};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// BERT.
    Bert,
    /// RoBERTa.
    Roberta,
}

impl Family {
    /// Both, with their `model_type`.
    const ALL: [(&str, Self); 2] = [("bert", Self::Bert), ("roberta", Self::Roberta)];
}

/// What an encoder's last states are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// Nothing: the states themselves, `(D, 1, L)`.
    None,
    /// The tokens that stand behind masks: logits `(V, 1, L)` at all positions.
    MaskedLanguage,
    /// The sentence's class, from the first position: logits `(C, 1, 1)`.
    Classification {
        /// The classes' names.
        labels: Vec<String>,
    },
}

/// Sizes and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which of the two.
    pub family: Family,
    /// The sizes that all transformers have.
    pub sizes: Sizes,
    /// Token types.
    pub types: usize,
    /// ε of the norms.
    pub epsilon: f64,
    /// The token that fills short sentences up.
    pub padding: u32,
    /// Of the inner layer.
    pub activation: Activation,
    /// What the states are for.
    pub head: Head,
}

/// Published encoders with their sizes; they classify into two.
pub(crate) const PUBLISHED: [crate::blocks::Published<Config>; 2] = [
    ("bert-base", || published(Family::Bert, 30_522, 2, 0)),
    ("roberta-base", || published(Family::Roberta, 50_265, 1, 1)),
];

fn published(family: Family, vocabulary: usize, types: usize, padding: u32) -> Config {
    Config {
        family,
        sizes: Sizes {
            vocabulary,
            max_length: 512,
            ..Sizes::BASE
        },
        types,
        epsilon: 1e-12,
        padding,
        activation: Activation::Gelu,
        head: Head::Classification {
            labels: vec!["0".into(), "1".into()],
        },
    }
}

fn no_room(positions: usize, first: usize) -> nn::Error {
    refuse(format!(
        "{positions} positions, the first token's is {first}"
    ))
}

impl Config {
    /// What `model_type` of a `config.json` says.
    pub(crate) const MODEL_TYPES: [&str; 2] = [Family::ALL[0].0, Family::ALL[1].0];

    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`] with the field that is missing, out of range or unknown.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = Fields::parse(text)?;
        let model_type = json.get("model_type").and_then(Value::as_str);
        let family = Family::ALL.into_iter().find(|f| model_type == Some(f.0));
        let Some((_, family)) = family else {
            return Err(refuse(format!(
                "model_type is {}, bert and roberta are known encoders",
                model_type.unwrap_or("missing")
            )));
        };
        let f = Fields(&json);
        f.only("position_embedding_type", &"absolute".into())?;
        f.only("is_decoder", &false.into())?;
        f.only("add_cross_attention", &false.into())?;
        let (padding, epsilon, types) = match family {
            Family::Bert => (0, 1e-12, 2),
            Family::Roberta => (1, 1e-5, 1),
        };
        let padding = match json.get("pad_token_id").filter(|v| !v.is_null()) {
            None => padding,
            Some(v) => (v.as_u64().and_then(|v| u32::try_from(v).ok()))
                .ok_or_else(|| refuse(format!("pad_token_id is {v}, which is no token")))?,
        };
        let mut config = Self {
            family,
            sizes: f.sizes()?,
            types: f.optional_size("type_vocab_size")?.unwrap_or(types),
            epsilon: f.number("layer_norm_eps", epsilon)?,
            padding,
            activation: f.activation("hidden_act", Activation::Gelu)?,
            head: head(&json)?,
        };
        config.check()?;
        // RoBERTa's first rows of positions are not a sequence's
        let (rows, first) = (config.sizes.max_length, config.first_position());
        let length = rows.checked_sub(first).filter(|&n| n > 0);
        config.sizes.max_length = length.ok_or_else(|| no_room(rows, first))?;
        Ok(config)
    }

    /// The text of a `config.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (kind, class) = match self.family {
            Family::Bert => ("bert", "Bert"),
            Family::Roberta => ("roberta", "Roberta"),
        };
        let suffix = match self.head {
            Head::None => "Model",
            Head::MaskedLanguage => "ForMaskedLM",
            Head::Classification { .. } => "ForSequenceClassification",
        };
        let sizes = Sizes {
            max_length: self.positions(),
            ..self.sizes
        };
        let mut json = sizes.write(json!({
            "model_type": kind,
            "architectures": [format!("{class}{suffix}")],
            "hidden_act": self.activation.to_string(),
            "type_vocab_size": self.types,
            "layer_norm_eps": self.epsilon,
            "pad_token_id": self.padding,
        }));
        if let Head::Classification { labels } = &self.head {
            let numbers: Map<String, Value> = (labels.iter().enumerate())
                .map(|(i, l)| (i.to_string(), l.clone().into()))
                .collect();
            json["id2label"] = numbers.into();
            json["label2id"] = (labels.iter().enumerate())
                .map(|(i, l)| (l.clone(), i.into()))
                .collect::<Map<String, Value>>()
                .into();
        }
        format!("{json:#}\n")
    }

    /// Refuses sizes that don't fit each other.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`].
    pub fn check(&self) -> Result<()> {
        self.sizes.check_heads()?;
        self.sizes.check_layers()?;
        if self.padding as usize >= self.sizes.vocabulary {
            return Err(refuse(format!(
                "pad_token_id is {}, the vocabulary has {} tokens",
                self.padding, self.sizes.vocabulary
            )));
        }
        if self.sizes.max_length == 0 {
            return Err(no_room(self.positions(), self.first_position()));
        }
        if let Head::Classification { labels } = &self.head
            && labels.len() < 2
        {
            return Err(refuse(format!(
                "{} classes, at least 2 can be told apart",
                labels.len()
            )));
        }
        Ok(())
    }

    /// The row of the table of positions that the first token takes.
    #[must_use]
    pub fn first_position(&self) -> usize {
        match self.family {
            Family::Bert => 0,
            Family::Roberta => self.padding as usize + 1,
        }
    }

    /// Rows of the table of positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.first_position() + self.sizes.max_length
    }

    /// The same structure with these sizes.
    pub(crate) fn resized(&self, sizes: Sizes) -> Self {
        Self {
            sizes: Sizes {
                head: sizes.width / sizes.heads.max(1),
                ..sizes
            },
            padding: self.padding.min(1),
            ..self.clone()
        }
    }

    /// The leading part of the encoder's names.
    pub(crate) fn prefix(&self) -> &'static str {
        match self.family {
            Family::Bert => "bert.",
            Family::Roberta => "roberta.",
        }
    }

    /// The full name of a tensor or node of the encoder.
    #[must_use]
    pub fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix())
    }

    /// The nodes of the head that predicts masked tokens: linear layer, norm, and the tied output whose bias stands alone.
    pub(crate) fn masked(&self) -> [&'static str; 3] {
        match self.family {
            Family::Bert => [
                "cls.predictions.transform.dense",
                "cls.predictions.transform.LayerNorm",
                "cls.predictions",
            ],
            Family::Roberta => ["lm_head.dense", "lm_head.layer_norm", "lm_head"],
        }
    }

    /// The nodes of the head that classifies: the layer before the tanh, and the one after it.
    pub(crate) fn classifier(&self) -> [&'static str; 2] {
        match self.family {
            Family::Bert => ["bert.pooler.dense", "classifier"],
            Family::Roberta => ["classifier.dense", "classifier.out_proj"],
        }
    }

    /// What a tensor of this role, whose rows have so many values, is before training.
    pub(crate) fn initial(role: Role, inputs: usize) -> Initial {
        match role {
            Role::Scale => Initial::All(1.0),
            Role::Bias => Initial::All(0.0),
            Role::Positions => Initial::Within(0.01),
            Role::Tokens => Initial::Within(0.035),
            Role::Linear | Role::Residual => Initial::Within(1.0 / (inputs as f64).sqrt()),
        }
    }

    /// Every tensor, its shape and its role, given one at a time.
    pub(crate) fn tensors(&self, each: &mut Tensors<'_>) -> Result<()> {
        let (d, h) = (self.sizes.width, self.sizes.hidden);
        for (name, rows, role) in [
            ("word", self.sizes.vocabulary, Role::Tokens),
            ("position", self.positions(), Role::Positions),
            ("token_type", self.types, Role::Tokens),
        ] {
            let name = self.name(&format!("embeddings.{name}_embeddings.weight"));
            each(name, vec![rows, d], role)?;
        }
        let mut layer = |name: String, shape: Vec<usize>, role: Role| {
            let bias = vec![shape[0]];
            each(format!("{name}.weight"), shape, role)?;
            each(format!("{name}.bias"), bias, Role::Bias)
        };
        layer(self.name("embeddings.LayerNorm"), vec![d], Role::Scale)?;
        for l in 0..self.sizes.layers {
            for (name, shape, role) in [
                ("attention.self.query", vec![d, d], Role::Linear),
                ("attention.self.key", vec![d, d], Role::Linear),
                ("attention.self.value", vec![d, d], Role::Linear),
                ("attention.output.dense", vec![d, d], Role::Residual),
                ("attention.output.LayerNorm", vec![d], Role::Scale),
                ("intermediate.dense", vec![h, d], Role::Linear),
                ("output.dense", vec![d, h], Role::Residual),
                ("output.LayerNorm", vec![d], Role::Scale),
            ] {
                layer(self.name(&format!("encoder.layer.{l}.{name}")), shape, role)?;
            }
        }
        match &self.head {
            Head::None => Ok(()),
            Head::MaskedLanguage => {
                let [dense, norm, output] = self.masked();
                layer(dense.into(), vec![d, d], Role::Linear)?;
                layer(norm.into(), vec![d], Role::Scale)?;
                let bias = format!("{output}.bias");
                each(bias, vec![self.sizes.vocabulary], Role::Bias)
            }
            Head::Classification { labels } => {
                let [dense, output] = self.classifier();
                layer(dense.into(), vec![d, d], Role::Linear)?;
                layer(output.into(), vec![labels.len(), d], Role::Linear)
            }
        }
    }
}

/// The head that a `config.json` names, by `architectures`, with its classes by `id2label` or `num_labels`.
fn head(json: &Value) -> Result<Head> {
    let architecture = json["architectures"][0].as_str().unwrap_or("Model");
    if architecture.ends_with("ForMaskedLM") || architecture == "BertForPreTraining" {
        return Ok(Head::MaskedLanguage);
    }
    if architecture.ends_with("ForSequenceClassification") {
        let labels = Fields(json).labels()?;
        return Ok(Head::Classification { labels });
    }
    if architecture.ends_with("Model") {
        return Ok(Head::None);
    }
    Err(refuse(format!(
        "architectures is {architecture}; …Model, …ForMaskedLM and …ForSequenceClassification are known"
    )))
}
