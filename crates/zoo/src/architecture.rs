//! The registry of families of causal language models: one line each.

use crate::blocks::{Blocks, Decoder, Initial, Role, Sizes};
use crate::config::{Fields, refuse};
use nn::attention::AttentionScheme;
use nn::format::state_dict::StateTensor;
use nn::{NodeId, Result};
use serde_json::Value;
use std::collections::BTreeMap;

macro_rules! registry {
    ($($(#[$about:meta])* $family:ident($file:ident),)*) => {
        $(pub mod $file;)*

        /// Which model, with its sizes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Architecture {
            $($(#[$about])* $family($file::Config),)*
        }

        /// Evaluates an expression of the family's configuration.
        macro_rules! each {
            ($own:expr, $c:ident => $result:expr) => {
                match $own { $(Architecture::$family($c) => $result,)* }
            };
        }

        impl Architecture {
            /// What `model_type` of the `config.json` of every known family says.
            pub(crate) const MODEL_TYPES: &[&str] = &[$($file::Config::MODEL_TYPE),*];

            fn read(json: &Value) -> Result<Self> {
                match json.get("model_type").and_then(Value::as_str) {
                    $(Some($file::Config::MODEL_TYPE) => $file::Config::read(json).map(Self::$family),)*
                    other => Err(refuse(format!(
                        "model_type is {}, {} are known",
                        other.unwrap_or("missing"),
                        Self::MODEL_TYPES.join(" and ")
                    ))),
                }
            }

            /// Names of the published models whose sizes are known.
            #[must_use]
            pub fn published_names() -> Vec<&'static str> {
                let mut names = Vec::new();
                $(names.extend($file::Config::PUBLISHED.iter().map(|p| p.0));)*
                names
            }

            /// A published model.
            #[must_use]
            pub fn published(name: &str) -> Option<Self> {
                $(if let Some((_, config)) = $file::Config::PUBLISHED.iter().find(|p| p.0 == name) {
                    return Some(Self::$family(config()));
                })*
                None
            }

            /// The same with an output head of its own.
            pub(crate) fn untied(self) -> Self {
                match self { $(Self::$family(c) => Self::$family($file::Config { tied: false, ..c }),)* }
            }

            /// The same structure with these sizes.
            pub(crate) fn resized(&self, sizes: Sizes) -> Self {
                match self { $(Self::$family(c) => Self::$family(c.resized(sizes)),)* }
            }

            /// The embedding's tensor and the output head's node.
            pub(crate) fn ends(&self) -> (&'static str, &'static str) {
                match self { $(Self::$family(_) => ($file::Config::EMBEDDING, $file::Config::HEAD),)* }
            }

            /// [`Decoder::initial`].
            pub(crate) fn initial(&self, role: Role, inputs: usize) -> Initial {
                let layers = self.sizes().layers;
                match self { $(Self::$family(_) => $file::Config::initial(role, inputs, layers),)* }
            }

            /// [`Decoder::INNER`].
            pub(crate) fn inner(&self) -> u64 {
                match self { $(Self::$family(_) => $file::Config::INNER,)* }
            }
        }
    };
}

registry! {
    /// Llama and what is built like it.
    Llama(llama),
    /// GPT-NeoX, as Pythia.
    GptNeoX(gpt_neox),
}

impl Architecture {
    /// From the text of a `config.json`.
    ///
    /// # Errors
    /// [`nn::Error::Malformed`] with the field that is missing, out of range or unknown.
    pub fn from_json(text: &str) -> Result<Self> {
        let architecture = Self::read(&Fields::parse(text)?)?;
        architecture.check()?;
        Ok(architecture)
    }

    /// The text of a `config.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}\n", each!(self, c => c.write()))
    }

    pub(crate) fn check(&self) -> Result<()> {
        each!(self, c => c.check())?;
        self.sizes().check_layers()
    }

    /// Every tensor of the model with its shape and role.
    ///
    /// # Errors
    /// Whatever `each` returns.
    pub fn tensors(
        &self,
        mut each: impl FnMut(String, Vec<usize>, Role) -> Result<()>,
    ) -> Result<()> {
        let Sizes {
            width, vocabulary, ..
        } = self.sizes();
        let (embedding, head) = self.ends();
        let end = |name| (format!("{name}.weight"), vec![vocabulary, width]);
        let (name, shape) = end(embedding);
        each(name, shape, Role::Tokens)?;
        each!(self, c => c.tensors(&mut each))?;
        let (name, shape) = end(head);
        match self.tied() {
            true => Ok(()),
            false => each(name, shape, Role::Linear),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        each!(self, c => c.sizes)
    }

    /// Whether the output head is the embedding.
    #[must_use]
    pub fn tied(&self) -> bool {
        each!(self, c => c.tied)
    }

    /// [`Decoder::stored`] with [`Decoder::part`].
    pub(crate) fn stored(
        &self,
        name: &str,
        shape: Vec<usize>,
    ) -> (String, Vec<usize>, Option<usize>) {
        each!(self, c => c.stored(name, shape))
    }

    pub(crate) fn part(&self, values: &[f64], part: usize) -> Vec<f64> {
        each!(self, c => c.part(values, part))
    }

    pub(crate) fn fuse(&self, tensors: &mut BTreeMap<String, StateTensor>) {
        each!(self, c => c.fuse(tensors));
    }

    pub(crate) fn blocks(
        &self,
        b: &mut Blocks<'_>,
        scheme: AttentionScheme,
        x: NodeId,
    ) -> Result<NodeId> {
        each!(self, c => c.blocks(b, scheme, x))
    }
}
