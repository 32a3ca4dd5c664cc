use super::Definition;
use super::sigmoid::sigmoid;

pub(super) const DEFINITION: Definition = Definition {
    name: "silu",
    aliases: &["swish"],
    onnx: None,
    value: |x| x * sigmoid(x),
    derivative: |x| {
        let s = sigmoid(x);
        s * (1.0 + x * (1.0 - s))
    },
};
