use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "sigmoid",
    aliases: &[],
    onnx: Some("Sigmoid"),
    value: sigmoid,
    derivative: |x| {
        let s = sigmoid(x);
        s * (1.0 - s)
    },
};

pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}
