//! Published architectures: [`resnet_cifar`] for pictures; [`llama`] and [`gpt_neox`] for text, which [`language`] loads, embeds for and
//! builds for any length.

pub mod gpt_neox;
pub mod language;
pub mod llama;
pub mod resnet_cifar;

mod config;
