use super::Definition;

/// √(2/π), and the factor of the cube.
const ROOT: f64 = 0.797_884_560_802_865_4;
const CUBE: f64 = 0.044_715;

pub(super) const DEFINITION: Definition = Definition {
    name: "gelutanh",
    aliases: &["gelu_new", "gelu_pytorch_tanh"],
    // an attribute of Gelu
    onnx: None,
    value: |x| 0.5 * x * (1.0 + (ROOT * (x + CUBE * x * x * x)).tanh()),
    derivative: |x| {
        let t = (ROOT * (x + CUBE * x * x * x)).tanh();
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBE * x * x)
    },
};
