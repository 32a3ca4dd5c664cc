use super::Definition;

/// α and λ of G. Klambauer et al., "Self-Normalizing Neural Networks" (2017).
const ALPHA: f64 = 1.673_263_242_354_377_2;
const LAMBDA: f64 = 1.050_700_987_355_480_5;

pub(super) const DEFINITION: Definition = Definition {
    name: "selu",
    aliases: &[],
    // ONNX' may have others
    onnx: None,
    value: |x| LAMBDA * if x > 0.0 { x } else { ALPHA * x.exp_m1() },
    derivative: |x| LAMBDA * if x > 0.0 { 1.0 } else { ALPHA * x.exp() },
};
