use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "hardsigmoid",
    aliases: &["hard_sigmoid"],
    // ONNX' has other factors unless told so
    onnx: None,
    value: |x| (x / 6.0 + 0.5).clamp(0.0, 1.0),
    derivative: |x| match x {
        x if x <= -3.0 || x > 3.0 => 0.0,
        x => {
            if x.is_nan() {
                x
            } else {
                1.0 / 6.0
            }
        }
    },
};
