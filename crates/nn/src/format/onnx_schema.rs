//! What is known of each ONNX operator: its attributes, inputs and outputs. A node with anything else is refused by name, so that nothing
//! is ignored that could change what the operator computes. Of two operator sets that differ, both are known.

use super::onnx_proto::NodeProto;

/// Name, most inputs, most outputs, attributes. Second outputs are refused with their reason elsewhere, or do not matter (the mask of a
/// Dropout); so are attributes that only training or those outputs have.
type Operator = (&'static str, usize, usize, &'static str);

/// What every operator has that makes one value of many along axes.
const REDUCED: &str = "axes=I keepdims=i noop_with_empty_axes=i";

/// An attribute is followed by what it holds: a float, an integer, a text, a tensor, floats, or integers.
const OPERATORS: [Operator; 77] = [
    ("Abs", 1, 1, ""),
    ("Add", 2, 1, ""),
    (
        "Attention",
        6,
        1,
        "is_causal=i kv_num_heads=i q_num_heads=i qk_matmul_output_mode=i scale=f softcap=f softmax_precision=i",
    ),
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
    ("Celu", 1, 1, "alpha=f"),
    ("Clip", 3, 1, "max=f min=f"),
    ("Concat", usize::MAX, 1, "axis=i"),
    ("ConstantOfShape", 1, 1, "value=t"),
    (
        "Conv",
        3,
        1,
        "auto_pad=s dilations=I group=i kernel_shape=I pads=I strides=I",
    ),
    (
        "ConvTranspose",
        3,
        1,
        "auto_pad=s dilations=I group=i kernel_shape=I output_padding=I output_shape=I pads=I strides=I",
    ),
    ("CumSum", 2, 1, "exclusive=i reverse=i"),
    ("DepthToSpace", 1, 1, "blocksize=i mode=s"),
    (
        "DequantizeLinear",
        3,
        1,
        "axis=i block_size=i output_dtype=i",
    ),
    ("Div", 2, 1, ""),
    ("Dropout", 3, 2, "ratio=f seed=i"),
    ("Einsum", usize::MAX, 1, "equation=s"),
    ("Elu", 1, 1, "alpha=f"),
    ("Expand", 2, 1, ""),
    ("Flatten", 1, 1, "axis=i"),
    ("Gather", 2, 1, "axis=i"),
    ("GatherElements", 2, 1, "axis=i"),
    ("GatherND", 2, 1, "batch_dims=i"),
    ("Gelu", 1, 1, "approximate=s"),
    ("Gemm", 3, 1, "alpha=f beta=f transA=i transB=i"),
    ("GlobalAveragePool", 1, 1, ""),
    ("GlobalMaxPool", 1, 1, ""),
    (
        "GroupNormalization",
        3,
        1,
        "epsilon=f num_groups=i stash_type=i",
    ),
    ("HardSigmoid", 1, 1, "alpha=f beta=f"),
    ("Identity", 1, 1, ""),
    ("InstanceNormalization", 3, 1, "epsilon=f"),
    ("LayerNormalization", 3, 3, "axis=i epsilon=f stash_type=i"),
    ("LeakyRelu", 1, 1, "alpha=f"),
    ("LogSoftmax", 1, 1, "axis=i"),
    ("LpNormalization", 1, 1, "axis=i p=i"),
    ("MatMul", 2, 1, ""),
    ("Max", usize::MAX, 1, ""),
    (
        "MaxPool",
        1,
        2,
        "auto_pad=s ceil_mode=i dilations=I kernel_shape=I pads=I storage_order=i strides=I",
    ),
    ("Mean", usize::MAX, 1, ""),
    ("Min", usize::MAX, 1, ""),
    ("Mod", 2, 1, "fmod=i"),
    ("Mul", 2, 1, ""),
    ("Neg", 1, 1, ""),
    ("NonZero", 1, 1, ""),
    ("PRelu", 2, 1, ""),
    ("Pad", 4, 1, "mode=s pads=I value=f"),
    ("Pow", 2, 1, ""),
    ("RMSNormalization", 2, 1, "axis=i epsilon=f stash_type=i"),
    ("Range", 3, 1, ""),
    ("Reciprocal", 1, 1, ""),
    ("ReduceL2", 2, 1, REDUCED),
    ("ReduceMax", 2, 1, REDUCED),
    ("ReduceMean", 2, 1, REDUCED),
    ("ReduceMin", 2, 1, REDUCED),
    ("ReduceProd", 2, 1, REDUCED),
    ("ReduceSum", 2, 1, REDUCED),
    ("ReduceSumSquare", 2, 1, REDUCED),
    ("Reshape", 2, 1, "allowzero=i"),
    (
        "Resize",
        4,
        1,
        "antialias=i axes=I coordinate_transformation_mode=s cubic_coeff_a=f exclude_outside=i extrapolation_value=f keep_aspect_ratio_policy=s mode=s nearest_mode=s scales=F",
    ),
    ("ScatterND", 3, 1, "reduction=s"),
    ("Selu", 1, 1, "alpha=f gamma=f"),
    ("Shape", 1, 1, "end=i start=i"),
    ("Slice", 5, 1, "axes=I ends=I starts=I"),
    ("Softmax", 1, 1, "axis=i"),
    ("SpaceToDepth", 1, 1, "blocksize=i"),
    ("Split", 2, usize::MAX, "axis=i num_outputs=i split=I"),
    ("Sqrt", 1, 1, ""),
    ("Squeeze", 2, 1, "axes=I"),
    ("Sub", 2, 1, ""),
    ("Sum", usize::MAX, 1, ""),
    ("Tile", 2, 1, ""),
    ("Transpose", 1, 1, "perm=I"),
    ("Trilu", 2, 1, "upper=i"),
    ("Unsqueeze", 2, 1, "axes=I"),
    ("Upsample", 2, 1, "mode=s scales=F"),
    ("Where", 3, 1, ""),
];

/// The activations of the registry take and give one value.
fn known(operator: &str) -> Option<Operator> {
    let found = OPERATORS.iter().find(|o| o.0 == operator);
    let activation = approx::Activation::of_onnx_operator(operator);
    (found.copied()).or_else(|| activation.map(|_| ("", 1, 1, "")))
}

/// Those of the list that are computed of constants only.
const OF_CONSTANTS: [&str; 7] = [
    "ConstantOfShape",
    "DequantizeLinear",
    "Mod",
    "NonZero",
    "Range",
    "ReduceProd",
    "ScatterND",
];

/// Whether an operator is of the list, but read of constants only.
pub(super) fn of_constants(operator: &str) -> bool {
    OF_CONSTANTS.contains(&operator)
}

/// The operators that are read of computed values, for messages.
pub(super) fn names() -> String {
    let computed = OPERATORS.map(|o| o.0).into_iter();
    let computed: Vec<&str> = computed.filter(|name| !of_constants(name)).collect();
    format!("Constant, {}, and activations", computed.join(", "))
}

/// The number that onnx.proto has for what an attribute of an operator holds; None if there is no such attribute.
fn kind(attributes: &str, name: &str) -> Option<i32> {
    let holds = |a: &str| Some(a.strip_prefix(name)?.strip_prefix('=')?.to_string());
    Some(match &attributes.split(' ').find_map(holds)?[..] {
        "f" => 1,
        "i" => 2,
        "s" => 3,
        "t" => 4,
        "F" => 6,
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
