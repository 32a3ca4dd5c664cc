use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "softplus",
    aliases: &[],
    onnx: Some("Softplus"),
    value: |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
    derivative: |x| 1.0 / (1.0 + (-x).exp()),
};
