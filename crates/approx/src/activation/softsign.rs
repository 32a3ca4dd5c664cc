use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "softsign",
    aliases: &[],
    onnx: Some("Softsign"),
    value: |x| x / (1.0 + x.abs()),
    derivative: |x| (1.0 + x.abs()).powi(-2),
};
