//! What is known of each ONNX operator: its attributes, inputs and outputs. A node with anything else is refused by name, so that nothing
//! is ignored that could change what the operator computes. Of two operator sets that differ, both are known.

use super::onnx_proto::NodeProto;

/// Name, most inputs, most outputs, attributes. Second outputs are refused with their reason elsewhere, or do not matter (the mask of a
/// Dropout); so are attributes that only training or those outputs have.
type Operator = (&'static str, usize, usize, &'static str);

/// An attribute is followed by what it holds: a float, an integer, a text, or integers.
const OPERATORS: [Operator; 26] = [
    ("Add", 2, 1, ""),
    (
        "AveragePool",
        1,
        1,
        "auto_pad=s ceil_mode=i count_include_pad=i dilations=I kernel_shape=I pads=I strides=I",
    ),
    (
        "BatchNormalization",
        5,
        5,
        "epsilon=f momentum=f spatial=i training_mode=i",
    ),
    ("Cast", 1, 1, "round_mode=s saturate=i to=i"),
    ("Concat", usize::MAX, 1, "axis=i"),
    (
        "Conv",
        3,
        1,
        "auto_pad=s dilations=I group=i kernel_shape=I pads=I strides=I",
    ),
    ("Div", 2, 1, ""),
    ("Dropout", 3, 2, "ratio=f seed=i"),
    ("Flatten", 1, 1, "axis=i"),
    ("Gather", 2, 1, "axis=i"),
    ("Gelu", 1, 1, "approximate=s"),
    ("Gemm", 3, 1, "alpha=f beta=f transA=i transB=i"),
    ("GlobalAveragePool", 1, 1, ""),
    ("GlobalMaxPool", 1, 1, ""),
    ("Identity", 1, 1, ""),
    ("MatMul", 2, 1, ""),
    (
        "MaxPool",
        1,
        2,
        "auto_pad=s ceil_mode=i dilations=I kernel_shape=I pads=I storage_order=i strides=I",
    ),
    ("Mul", 2, 1, ""),
    ("Pad", 4, 1, "mode=s pads=I value=f"),
    (
        "ReduceMean",
        2,
        1,
        "axes=I keepdims=i noop_with_empty_axes=i",
    ),
    ("Reshape", 2, 1, "allowzero=i"),
    ("Shape", 1, 1, "end=i start=i"),
    ("Slice", 5, 1, "axes=I ends=I starts=I"),
    ("Squeeze", 2, 1, "axes=I"),
    ("Sub", 2, 1, ""),
    ("Unsqueeze", 2, 1, "axes=I"),
];

/// The activations of the registry take and give one value.
fn known(operator: &str) -> Option<Operator> {
    let found = OPERATORS.iter().find(|o| o.0 == operator);
    let activation = approx::Activation::of_onnx_operator(operator);
    (found.copied()).or_else(|| activation.map(|_| ("", 1, 1, "")))
}

/// The operators that are read, for messages.
pub(super) fn names() -> String {
    format!(
        "Constant, {}, and activations",
        OPERATORS.map(|o| o.0).join(", ")
    )
}

/// The number that onnx.proto has for what an attribute of an operator holds; None if there is no such attribute.
fn kind(attributes: &str, name: &str) -> Option<i32> {
    let holds = |a: &str| Some(a.strip_prefix(name)?.strip_prefix('=')?.to_string());
    Some(match &attributes.split(' ').find_map(holds)?[..] {
        "f" => 1,
        "i" => 2,
        "s" => 3,
        _ => 7,
    })
}

/// Why a node of an operator that is read can't be taken; nothing is said of other operators and of Constant.
pub(super) fn refusal(node: &NodeProto) -> Option<String> {
    let (_, inputs, outputs, attributes) = known(&node.op_type)?;
    for (i, a) in node.attribute.iter().enumerate() {
        let name = &a.name;
        let Some(kind) = kind(attributes, name) else {
            return Some(format!(
                "its attribute {name} is not known here, so it would be ignored; export the model without it"
            ));
        };
        // files of the first versions leave the type out
        if ![0, kind].contains(&a.r#type) {
            return Some(format!(
                "its attribute {name} is of another type than ONNX gives it"
            ));
        }
        if node.attribute[..i].iter().any(|b| b.name == *name) {
            return Some(format!("its attribute {name} is given twice"));
        }
    }
    let past = |list: &[String], most: usize| list.iter().skip(most).any(|n| !n.is_empty());
    if past(&node.input, inputs) {
        return Some(format!("it has more than {inputs} inputs"));
    }
    past(&node.output, outputs).then(|| format!("it has more than {outputs} outputs"))
}
