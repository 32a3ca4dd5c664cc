//! Definitions of published networks that take their weights from a state dict under the public names.

pub mod resnet_cifar;
