//! Published architectures: [`resnet_cifar`] for pictures; [`llama`] and [`gpt_neox`] for text, which [`language`] loads, embeds for and
//! builds for any length; [`bert`] (and RoBERTa) for sentences, which [`encoder`] does the same for; [`shape`] without weights.

pub mod bert;
pub mod encoder;
pub mod gpt_neox;
pub mod language;
pub mod llama;
pub mod resnet_cifar;
pub mod shape;

mod config;
