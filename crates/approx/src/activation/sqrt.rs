use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "sqrt",
    aliases: &[],
    onnx: Some("Sqrt"),
    value: f64::sqrt,
    derivative: |x| 0.5 / x.sqrt(),
};
