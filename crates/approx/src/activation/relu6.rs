use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "relu6",
    aliases: &[],
    onnx: None,
    value: |x| x.clamp(0.0, 6.0),
    derivative: |x| match x {
        x if x <= 0.0 || x > 6.0 => 0.0,
        x => {
            if x.is_nan() {
                x
            } else {
                1.0
            }
        }
    },
};
