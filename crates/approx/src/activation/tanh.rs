use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "tanh",
    aliases: &[],
    onnx: Some("Tanh"),
    value: f64::tanh,
    derivative: |x| 1.0 - x.tanh().powi(2),
};
