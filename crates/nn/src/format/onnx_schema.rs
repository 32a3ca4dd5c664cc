//! What is known of each ONNX operator: its attributes, inputs and outputs. A node with anything else is refused by name, so that nothing
//! is ignored that could change what the operator computes. Of two operator sets that differ, both are known.

use super::onnx_proto::NodeProto;

/// What an attribute holds, by the numbers of onnx.proto.
#[derive(Clone, Copy)]
enum Holds {
    Float = 1,
    Int = 2,
    Text = 3,
    Ints = 7,
}
use Holds::{Float, Int, Ints, Text};

/// Name, most inputs, most outputs, attributes.
type Operator = (&'static str, usize, usize, &'static [(&'static str, Holds)]);

/// Operators whose second outputs are refused with their reason elsewhere, or do not matter (the mask of a Dropout), may have them here.
const OPERATORS: &[Operator] = &[
    ("Add", 2, 1, &[]),
    (
        "AveragePool",
        1,
        1,
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("count_include_pad", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
    ),
    (
        "BatchNormalization",
        5,
        5,
        // momentum is for training only
        &[
            ("epsilon", Float),
            ("momentum", Float),
            ("spatial", Int),
            ("training_mode", Int),
        ],
    ),
    // how floats of eight bits and types that are not read are rounded
    (
        "Cast",
        1,
        1,
        &[("round_mode", Text), ("saturate", Int), ("to", Int)],
    ),
    ("Concat", usize::MAX, 1, &[("axis", Int)]),
    (
        "Conv",
        3,
        1,
        &[
            ("auto_pad", Text),
            ("dilations", Ints),
            ("group", Int),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
    ),
    ("Div", 2, 1, &[]),
    // training only
    ("Dropout", 3, 2, &[("ratio", Float), ("seed", Int)]),
    ("Flatten", 1, 1, &[("axis", Int)]),
    ("Gather", 2, 1, &[("axis", Int)]),
    ("Gelu", 1, 1, &[("approximate", Text)]),
    (
        "Gemm",
        3,
        1,
        &[
            ("alpha", Float),
            ("beta", Float),
            ("transA", Int),
            ("transB", Int),
        ],
    ),
    ("GlobalAveragePool", 1, 1, &[]),
    ("GlobalMaxPool", 1, 1, &[]),
    ("Identity", 1, 1, &[]),
    ("MatMul", 2, 1, &[]),
    (
        "MaxPool",
        1,
        2,
        // the order of the second output
        &[
            ("auto_pad", Text),
            ("ceil_mode", Int),
            ("dilations", Ints),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("storage_order", Int),
            ("strides", Ints),
        ],
    ),
    ("Mul", 2, 1, &[]),
    (
        "Pad",
        4,
        1,
        &[("mode", Text), ("pads", Ints), ("value", Float)],
    ),
    (
        "ReduceMean",
        2,
        1,
        &[
            ("axes", Ints),
            ("keepdims", Int),
            ("noop_with_empty_axes", Int),
        ],
    ),
    ("Reshape", 2, 1, &[("allowzero", Int)]),
    ("Shape", 1, 1, &[("end", Int), ("start", Int)]),
    (
        "Slice",
        5,
        1,
        &[("axes", Ints), ("ends", Ints), ("starts", Ints)],
    ),
    ("Squeeze", 2, 1, &[("axes", Ints)]),
    ("Sub", 2, 1, &[]),
    ("Unsqueeze", 2, 1, &[("axes", Ints)]),
];

/// The activations of the registry take and give one value.
fn known(operator: &str) -> Option<Operator> {
    let found = OPERATORS.iter().find(|o| o.0 == operator);
    let activation = approx::Activation::of_onnx_operator(operator);
    (found.copied()).or_else(|| activation.map(|_| ("", 1, 1, &[][..])))
}

/// The operators that are read, for messages.
pub(super) fn names() -> String {
    let names: Vec<_> = OPERATORS.iter().map(|o| o.0).collect();
    format!("Constant, {}, and activations", names.join(", "))
}

/// Why a node of an operator that is read can't be taken; nothing is said of other operators and of Constant.
pub(super) fn refusal(node: &NodeProto) -> Option<String> {
    let (_, inputs, outputs, attributes) = known(&node.op_type)?;
    for (i, a) in node.attribute.iter().enumerate() {
        let name = &a.name;
        let Some((_, holds)) = attributes.iter().find(|known| known.0 == name) else {
            return Some(format!(
                "its attribute {name} is not known here, so it would be ignored; export the model without it"
            ));
        };
        // files of the first versions leave the type out
        if ![0, *holds as i32].contains(&a.r#type) {
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
