//! Transformers' entries in the registry: their `config.json` says what they are.

use crate::architecture::Architecture;
use crate::bert::Config;
use crate::config::claimed;
use crate::encoder::Encoder;
use crate::family::{Claim, Family, Model};
use crate::language::LanguageModel;

/// Language models.
pub(crate) const LANGUAGE: Family = Family {
    name: "language model",
    read: |checkpoint, _| {
        Ok(match claimed(checkpoint, Architecture::MODEL_TYPES) {
            Err(why) => Claim::Declined(why),
            Ok(config) => Claim::Model(Box::new(Model::Language(LanguageModel::from_checkpoint(
                config,
                &checkpoint.tensors,
            )?))),
        })
    },
    leaves: None,
};

/// Encoders.
pub(crate) const ENCODER: Family = Family {
    name: "encoder",
    read: |checkpoint, _| {
        Ok(match claimed(checkpoint, &Config::MODEL_TYPES) {
            Err(why) => Claim::Declined(why),
            Ok(config) => Claim::Model(Box::new(Model::Encoder(Encoder::from_checkpoint(
                config,
                &checkpoint.tensors,
            )?))),
        })
    },
    leaves: None,
};
