use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "elu",
    aliases: &[],
    // ONNX' has a factor
    onnx: None,
    value: |x| if x > 0.0 { x } else { x.exp_m1() },
    derivative: |x| if x > 0.0 { 1.0 } else { x.exp() },
};
