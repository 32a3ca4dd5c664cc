use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "reciprocal",
    aliases: &[],
    onnx: Some("Reciprocal"),
    value: |x| 1.0 / x,
    derivative: |x| -1.0 / (x * x),
};
