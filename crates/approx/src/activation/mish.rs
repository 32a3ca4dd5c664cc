use super::Definition;

/// tanh(ln(1 + e^x)).
fn gate(x: f64) -> f64 {
    (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()
}

pub(super) const DEFINITION: Definition = Definition {
    name: "mish",
    aliases: &[],
    onnx: Some("Mish"),
    value: |x| x * gate(x),
    derivative: |x| {
        let t = gate(x);
        t + x * (1.0 - t * t) / (1.0 + (-x).exp())
    },
};
