use super::Definition;
use super::sigmoid::sigmoid;

/// The sigmoid's slope, so that x·σ(1.702·x) is close to GELU.
const SLOPE: f64 = 1.702;

pub(super) const DEFINITION: Definition = Definition {
    name: "quickgelu",
    aliases: &["quick_gelu", "quick-gelu"],
    onnx: None,
    value: |x| x * sigmoid(SLOPE * x),
    derivative: |x| {
        let s = sigmoid(SLOPE * x);
        s * (1.0 + SLOPE * x * (1.0 - s))
    },
};
