use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "relu",
    aliases: &[],
    onnx: Some("Relu"),
    value: |x| x.max(0.0),
    derivative: |x| f64::from(u8::from(x > 0.0)),
};
