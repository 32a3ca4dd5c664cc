use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "hardswish",
    aliases: &["hard_swish"],
    onnx: Some("HardSwish"),
    value: |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
    derivative: |x| match x {
        x if x <= -3.0 => 0.0,
        x if x <= 3.0 => (2.0 * x + 3.0) / 6.0,
        x => {
            if x.is_nan() {
                x
            } else {
                1.0
            }
        }
    },
};
