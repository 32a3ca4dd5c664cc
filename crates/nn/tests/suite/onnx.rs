//! ONNX files made in memory; what each must compute is written beside it.

use crate::{Stream, assert_close};
use approx::Activation;
use polyveil_nn::format::onnx;
use polyveil_nn::format::onnx_proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use polyveil_nn::{Error, Graph, Nonlinearity, Op, Shape, Tensor};
use prost::Message;

pub(crate) fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&d| DimensionProto {
            dim_value: d,
            dim_param: String::new(),
        })
        .collect();
    let tensor_type = Some(TensorTypeProto {
        elem_type: 1,
        shape: Some(TensorShapeProto { dim }),
    });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type }),
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data,
        ..TensorProto::default()
    }
}

pub(crate) fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: 7,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        r#type: 7,
        ..AttributeProto::default()
    }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i,
        r#type: 2,
        ..AttributeProto::default()
    }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        f,
        r#type: 1,
        ..AttributeProto::default()
    }
}

pub(crate) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: s.as_bytes().to_vec(),
        r#type: 3,
        ..AttributeProto::default()
    }
}

/// Operator `op` from `inputs` to `output`; the node's name is `n_` and the output's.
pub(crate) fn node(
    op: &str,
    inputs: &[&str],
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        name: format!("n_{output}"),
        op_type: op.into(),
        attribute,
        domain: String::new(),
    }
}

/// A model from `x` to `y`, decoded from its bytes.
pub(crate) fn model(
    input: &[i64],
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> ModelProto {
    ModelProto {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(GraphProto {
            node,
            name: "g".into(),
            initializer,
            input: vec![info("x", input)],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        ..ModelProto::default()
    }
}

pub(crate) fn import(
    input: &[i64],
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> Result<Graph, Error> {
    onnx::from_bytes(&model(input, node, initializer).encode_to_vec())
}

fn run(input: &[i64], nodes: Vec<NodeProto>, constants: Vec<TensorProto>, x: &Tensor) -> Tensor {
    import(input, nodes, constants)
        .expect("imports")
        .evaluate(x)
        .expect("fits")
        .output
}

const IMAGE: &[i64] = &[1, 2, 5, 5];

fn picture() -> Tensor {
    Stream::new(7).tensor(Shape::image(2, 5, 5))
}

fn weights(n: usize) -> Vec<f32> {
    let mut s = Stream::new(8);
    (0..n).map(|_| s.next() as f32).collect()
}

#[test]
fn a_whole_network() {
    let w = weights(3 * 2 * 3 * 3);
    let nodes = vec![
        node(
            "Conv",
            &["x", "w", "b"],
            "c",
            vec![
                ints("pads", &[1, 0, 1, 2]),
                ints("strides", &[2, 1]),
                ints("kernel_shape", &[3, 3]),
            ],
        ),
        node(
            "BatchNormalization",
            &["c", "s", "t", "m", "v"],
            "n",
            vec![float("epsilon", 1e-3)],
        ),
        node("Relu", &["n"], "r", vec![]),
        node("Dropout", &["r"], "d", vec![]),
        node("GlobalAveragePool", &["d"], "p", vec![]),
        node("Flatten", &["p"], "f", vec![]),
        node("Gemm", &["f", "fw", "fb"], "y", vec![int("transB", 1)]),
    ];
    let constants = vec![
        floats("w", &[3, 2, 3, 3], &w),
        floats("b", &[3], &[0.1, 0.2, 0.3]),
        floats("s", &[3], &[1.0, 2.0, -1.0]),
        floats("t", &[3], &[0.0, 0.5, 1.0]),
        floats("m", &[3], &[0.1, -0.1, 0.0]),
        floats("v", &[3], &[1.0, 0.5, 2.0]),
        floats("fw", &[2, 3], &[1.0, 2.0, 3.0, -1.0, 0.0, 1.0]),
        floats("fb", &[2], &[0.5, -0.5]),
    ];
    let graph = import(&[0, 2, 5, 5], nodes, constants).expect("a free batch axis is fine");
    assert_eq!(graph.nodes().len(), 7);
    assert!(graph.find("n_p").is_some() && graph.find("n_y").is_some());
    assert_eq!(
        graph.find("n_c").expect("there").shape(),
        Shape::image(3, 3, 5)
    );
    let x = picture();
    let mut pooled = [0.0; 3];
    for (o, sum) in pooled.iter_mut().enumerate() {
        for i in 0..3usize {
            for j in 0..5usize {
                let mut v = [0.1f32, 0.2, 0.3][o] as f64;
                for c in 0..2 {
                    for a in 0..3 {
                        for b in 0..3 {
                            let (row, column) = ((2 * i + a) as isize - 1, (j + b) as isize);
                            if (0..5).contains(&row) && column < 5 {
                                let at = (c * 5 + row as usize) * 5 + column as usize;
                                v += f64::from(w[((o * 2 + c) * 3 + a) * 3 + b]) * x.values()[at];
                            }
                        }
                    }
                }
                let variance = [1.0, 0.5, 2.0][o] + f64::from(1e-3f32);
                let normal = (v - [0.1f32, -0.1, 0.0][o] as f64) / f64::sqrt(variance);
                *sum += ([1.0, 2.0, -1.0][o] * normal + [0.0, 0.5, 1.0][o]).max(0.0) / 15.0;
            }
        }
    }
    let expected = [
        pooled[0] + 2.0 * pooled[1] + 3.0 * pooled[2] + 0.5,
        pooled[2] - pooled[0] - 0.5,
    ];
    assert_close(
        graph.evaluate(&x).expect("fits").output.values(),
        &expected,
        1e-12,
    );
}

fn only_activation(graph: &Graph) -> Activation {
    let found: Vec<_> = graph.activations().map(|(_, a)| a).collect();
    assert_eq!(
        (graph.nodes().len(), found.len()),
        (2, 1),
        "the pattern is one node"
    );
    found[0]
}

#[test]
fn activation_patterns() {
    let silu = |a: &str, b: &str| {
        vec![
            node("Sigmoid", &["x"], "s", vec![]),
            node("Mul", &[a, b], "y", vec![]),
        ]
    };
    for (a, b) in [("x", "s"), ("s", "x")] {
        assert_eq!(
            only_activation(&import(IMAGE, silu(a, b), vec![]).expect("imports")),
            Activation::Silu
        );
    }
    assert_eq!(
        only_activation(
            &import(IMAGE, vec![node("Gelu", &["x"], "y", vec![])], vec![]).expect("imports")
        ),
        Activation::Gelu
    );
    for (operator, activation) in [
        ("Relu", Activation::Relu),
        ("Sigmoid", Activation::Sigmoid),
        ("Tanh", Activation::Tanh),
        ("HardSwish", Activation::HardSwish),
    ] {
        let nodes = vec![node(operator, &["x"], "y", vec![])];
        let graph = import(IMAGE, nodes, vec![]).expect("imports");
        assert_eq!(only_activation(&graph), activation);
    }
    let constants = || {
        vec![
            floats("r2", &[], &[std::f32::consts::SQRT_2]),
            floats("i2", &[], &[std::f32::consts::FRAC_1_SQRT_2]),
            floats("one", &[], &[1.0]),
            floats("half", &[1], &[0.5]),
        ]
    };
    let after_half = vec![
        node("Div", &["x", "r2"], "d", vec![]),
        node("Erf", &["d"], "e", vec![]),
        node("Add", &["e", "one"], "a", vec![]),
        node("Mul", &["x", "a"], "m", vec![]),
        node("Mul", &["m", "half"], "y", vec![]),
    ];
    let before_half = vec![
        node("Mul", &["i2", "x"], "d", vec![]),
        node("Erf", &["d"], "e", vec![]),
        node("Add", &["one", "e"], "a", vec![]),
        node("Mul", &["half", "x"], "h", vec![]),
        node("Mul", &["h", "a"], "y", vec![]),
    ];
    for pattern in [after_half, before_half] {
        assert_eq!(
            only_activation(&import(IMAGE, pattern, constants()).expect("imports")),
            Activation::Gelu
        );
    }
    // A sigmoid of something else is no SiLU: a plain gate.
    let gate = vec![
        node("Relu", &["x"], "r", vec![]),
        node("Sigmoid", &["r"], "s", vec![]),
        node("Mul", &["x", "s"], "y", vec![]),
    ];
    let graph = import(IMAGE, gate, vec![]).expect("imports");
    assert!(matches!(graph.output().op(), Op::Mul));
    assert!(matches!(
        graph.find("n_s").map(|n| n.op()),
        Some(Op::Elementwise(Nonlinearity::Activation(
            Activation::Sigmoid
        )))
    ));
}

#[test]
fn automatic_padding() {
    let x = picture();
    let w = floats("w", &[1, 2, 2, 2], &weights(8));
    let conv = |attributes: Vec<AttributeProto>| {
        run(
            IMAGE,
            vec![node("Conv", &["x", "w"], "y", attributes)],
            vec![w.clone()],
            &x,
        )
    };
    let upper = conv(vec![string("auto_pad", "SAME_UPPER")]);
    assert_eq!(upper, conv(vec![ints("pads", &[0, 0, 1, 1])]));
    assert_eq!(
        conv(vec![string("auto_pad", "SAME_LOWER")]),
        conv(vec![ints("pads", &[1, 1, 0, 0])])
    );
    assert_eq!(
        conv(vec![string("auto_pad", "VALID")]).shape(),
        Shape::image(1, 4, 4)
    );
    let strided = conv(vec![
        string("auto_pad", "SAME_UPPER"),
        ints("strides", &[2, 2]),
    ]);
    assert_eq!(strided.shape(), Shape::image(1, 3, 3));
    let pool = |attributes| {
        run(
            IMAGE,
            vec![node("AveragePool", &["x"], "y", attributes)],
            vec![],
            &x,
        )
    };
    let kernel = ints("kernel_shape", &[2, 2]);
    let y = pool(vec![kernel.clone(), string("auto_pad", "SAME_UPPER")]);
    let corner = *y.values().last().expect("values");
    assert_close(&[corner], &[*x.values().last().expect("values")], 1e-15);
    let y = pool(vec![
        kernel,
        ints("pads", &[0, 0, 1, 1]),
        int("count_include_pad", 1),
    ]);
    assert_close(
        &[*y.values().last().expect("values")],
        &[corner / 4.0],
        1e-15,
    );
}

#[test]
fn maxima_and_windows_beyond_the_padding() {
    let x = picture();
    let pool = |op: &str, more: Vec<AttributeProto>| {
        let attributes = [
            vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
            more,
        ]
        .concat();
        run(IMAGE, vec![node(op, &["x"], "y", attributes)], vec![], &x)
    };
    let value = |c: usize, i: usize, j: usize| x.values()[(c * 5 + i) * 5 + j];
    let y = pool("MaxPool", vec![]);
    assert_eq!(y.shape(), Shape::image(2, 2, 2));
    let of = |c| {
        value(c, 0, 2)
            .max(value(c, 0, 3))
            .max(value(c, 1, 2))
            .max(value(c, 1, 3))
    };
    assert_eq!((y.values()[1], y.values()[5]), (of(0), of(1)));
    let y = pool("MaxPool", vec![int("ceil_mode", 1)]);
    assert_eq!(y.shape(), Shape::image(2, 3, 3));
    assert_eq!(y.values()[2], value(0, 0, 4).max(value(0, 1, 4)));
    assert_eq!(y.values()[8], value(0, 4, 4));
    let y = pool("AveragePool", vec![int("ceil_mode", 1)]);
    assert_close(
        &[y.values()[2], y.values()[8]],
        &[(value(0, 0, 4) + value(0, 1, 4)) / 2.0, value(0, 4, 4)],
        1e-15,
    );
    // padding counts, what lies beyond it does not
    let y = pool(
        "AveragePool",
        vec![
            int("ceil_mode", 1),
            int("count_include_pad", 1),
            ints("pads", &[1, 0, 0, 0]),
        ],
    );
    assert_eq!(y.shape(), Shape::image(2, 3, 3));
    assert_close(
        &[y.values()[0], y.values()[2]],
        &[
            (value(0, 0, 0) + value(0, 0, 1)) / 4.0,
            value(0, 0, 4) / 2.0,
        ],
        1e-15,
    );
    let all = run(
        IMAGE,
        vec![node("GlobalMaxPool", &["x"], "y", vec![])],
        vec![],
        &x,
    );
    assert_eq!(all.shape(), Shape::image(2, 1, 1));
    let largest = |c: usize| {
        x.values()[25 * c..][..25]
            .iter()
            .copied()
            .fold(f64::MIN, f64::max)
    };
    assert_eq!(all.values(), &[largest(0), largest(1)]);
    let mut positions = node("MaxPool", &["x"], "y", vec![ints("kernel_shape", &[2, 2])]);
    positions.output.push("where".into());
    let e = import(IMAGE, vec![positions], vec![]).expect_err("positions");
    assert!(e.to_string().contains("return_indices"), "{e}");
    // the mean over both spatial axes, one after the other
    let nodes = vec![
        node("ReduceMean", &["x"], "rows", vec![ints("axes", &[-2])]),
        node("ReduceMean", &["rows"], "y", vec![ints("axes", &[3])]),
    ];
    let y = run(IMAGE, nodes, vec![], &x);
    let mean = |c: usize| x.values()[25 * c..][..25].iter().sum::<f64>() / 25.0;
    assert_eq!(y.shape(), Shape::image(2, 1, 1));
    assert_close(y.values(), &[mean(0), mean(1)], 1e-15);
}

#[test]
fn shortcut_a_and_shapes() {
    let x = picture();
    let nodes = vec![
        node(
            "Slice",
            &["x", "starts", "ends", "axes", "steps"],
            "s",
            vec![],
        ),
        node("Pad", &["s", "pads"], "y", vec![string("mode", "constant")]),
    ];
    let constants = vec![
        integers("starts", &[0, 0]),
        integers("ends", &[i64::MAX, -1]),
        integers("axes", &[2, -1]),
        integers("steps", &[2, 2]),
        integers("pads", &[0, 1, 0, 0, 0, 2, 0, 0]),
    ];
    let y = run(IMAGE, nodes, constants, &x);
    assert_eq!(y.shape(), Shape::image(5, 3, 2));
    assert_eq!(y.values()[6], x.values()[0]);
    assert_eq!(y.values()[6 + 5], x.values()[22]);
    assert!(
        y.values()[..6]
            .iter()
            .chain(&y.values()[18..])
            .all(|v| *v == 0.0)
    );
    // x.view(x.size(0), -1) as exporters write it, and mean(dim=(2, 3)).
    let nodes = vec![
        node("Shape", &["x"], "sh", vec![]),
        node("Gather", &["sh", "zero"], "n", vec![int("axis", 0)]),
        node("Unsqueeze", &["n", "zeros"], "n1", vec![]),
        node("Concat", &["n1", "minus"], "to", vec![int("axis", 0)]),
        node("Reshape", &["x", "to"], "y", vec![]),
    ];
    let zero = TensorProto {
        name: "zero".into(),
        data_type: 7,
        int64_data: vec![0],
        ..TensorProto::default()
    };
    let y = run(
        IMAGE,
        nodes,
        vec![zero, integers("zeros", &[0]), integers("minus", &[-1])],
        &x,
    );
    assert_eq!((y.shape(), y.values()), (Shape::Vector(50), x.values()));
    let mean = |attributes| {
        run(
            IMAGE,
            vec![node("ReduceMean", &["x"], "y", attributes)],
            vec![],
            &x,
        )
    };
    let expected: Vec<f64> = x
        .values()
        .chunks(25)
        .map(|c| c.iter().sum::<f64>() / 25.0)
        .collect();
    let y = mean(vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
    assert_eq!(y.shape(), Shape::Vector(2));
    assert_close(y.values(), &expected, 1e-14);
    assert_eq!(
        mean(vec![ints("axes", &[-1, -2])]).shape(),
        Shape::image(2, 1, 1)
    );
}

#[test]
fn constants_broadcast_and_matmul() {
    let x = picture();
    let add = |dims: &[i64], values: &[f32]| {
        run(
            IMAGE,
            vec![node("Add", &["x", "c"], "y", vec![])],
            vec![floats("c", dims, values)],
            &x,
        )
    };
    let y = add(&[2, 1, 1], &[1.0, 2.0]);
    assert_close(
        &[y.values()[0], y.values()[30]],
        &[x.values()[0] + 1.0, x.values()[30] + 2.0],
        1e-15,
    );
    let y = add(&[], &[3.0]);
    assert_close(&[y.values()[49]], &[x.values()[49] + 3.0], 1e-15);
    let v = Tensor::new(Shape::Vector(2), vec![1.0, -2.0]).expect("fits");
    let nodes = vec![
        node("MatMul", &["x", "w"], "m", vec![]),
        node(
            "Constant",
            &[],
            "c",
            vec![AttributeProto {
                name: "value".into(),
                t: Some(floats("", &[3], &[0.0, 0.0, 1.0])),
                ..AttributeProto::default()
            }],
        ),
        node("Add", &["c", "m"], "y", vec![]),
    ];
    let y = run(
        &[1, 2],
        nodes,
        vec![floats("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
        &v,
    );
    assert_eq!(y.values(), &[-7.0, -8.0, -8.0]);
    let gemm = vec![node(
        "Gemm",
        &["x", "w", "b"],
        "y",
        vec![float("alpha", 2.0), float("beta", 0.5)],
    )];
    let y = run(
        &[1, 2],
        gemm,
        vec![floats("w", &[2, 1], &[1.0, 0.5]), floats("b", &[1], &[4.0])],
        &v,
    );
    assert_eq!(y.values(), &[2.0]);
}

#[test]
fn unsupported_operators_are_named() {
    for (op, hint) in [
        ("LSTM", "recurrent"),
        ("Exp", "constants only"),
        ("Exp", "torch.softmax"),
        ("ArgMax", "client"),
        ("Mod", "constants only"),
        ("Range", "constants only"),
        ("NonZero", "constants only"),
        ("ScatterND", "constants only"),
        ("Greater", "client"),
    ] {
        let e = import(IMAGE, vec![node(op, &["x"], "y", vec![])], vec![]).expect_err("refused");
        assert!(
            matches!(&e, Error::UnsupportedOperator { node, operator, .. } if node == "n_y" && operator == op),
            "{e}"
        );
        let e = e.to_string();
        assert!(e.contains(hint), "{e}");
        // what is refused is not among what is said to be read
        let read = e.split("read are").nth(1).expect("says what is read");
        assert!(!read.contains(&format!(" {op},")), "{e}");
    }
    let mut foreign = node("FusedConv", &["x"], "y", vec![]);
    foreign.domain = "com.microsoft".into();
    let e = import(IMAGE, vec![foreign], vec![]).expect_err("refused");
    assert!(e.to_string().contains("com.microsoft.FusedConv"), "{e}");
    // What the output doesn't need is not looked at.
    let nodes = vec![
        node("LSTM", &["x"], "unused", vec![]),
        node("Relu", &["x"], "y", vec![]),
    ];
    assert!(import(IMAGE, nodes, vec![]).is_ok());
}

#[test]
fn attributes_that_cannot_be_taken_are_named() {
    let detail = |nodes: Vec<NodeProto>, constants: Vec<TensorProto>| match import(
        IMAGE, nodes, constants,
    ) {
        Err(Error::Invalid { node, detail, .. }) => format!("{node}: {detail}"),
        other => panic!("refusal expected: {other:?}"),
    };
    let one = |op: &str, inputs: &[&str], a: Vec<AttributeProto>, c: Vec<TensorProto>| {
        detail(vec![node(op, inputs, "y", a)], c)
    };
    let w = || vec![floats("w", &[1, 2, 2, 2], &weights(8))];
    assert!(one("Conv", &["x", "w"], vec![ints("strides", &[0, 1])], w()).contains("strides"));
    assert!(one("Conv", &["x", "w"], vec![ints("pads", &[-1, 0, 0, 0])], w()).contains("-1"));
    assert!(
        one(
            "Conv",
            &["x", "w"],
            vec![ints("kernel_shape", &[3, 3])],
            w()
        )
        .contains("kernel_shape")
    );
    assert!(one("Conv", &["x", "w"], vec![string("auto_pad", "ODD")], w()).contains("auto_pad"));
    assert!(one("Conv", &["x", "x"], vec![], vec![]).contains("constant"));
    assert!(one("Conv", &["x"], vec![], vec![]).contains("missing"));
    assert!(one("Gemm", &["x", "w"], vec![], w()).contains("features"));
    assert!(
        one(
            "AveragePool",
            &["x"],
            vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[2, 1])],
            vec![]
        )
        .contains("dilations")
    );
    assert!(one("AveragePool", &["x"], vec![], vec![]).contains("kernel_shape"));
    assert!(one("ReduceMean", &["x"], vec![ints("axes", &[9])], vec![]).contains("outside"));
    assert!(
        one(
            "Pad",
            &["x"],
            vec![string("mode", "odd"), ints("pads", &[1; 8])],
            vec![]
        )
        .contains("odd")
    );
    assert!(one("Pad", &["x"], vec![ints("pads", &[0, 0, 0])], vec![]).contains("pads"));
    assert!(
        one(
            "Pad",
            &["x", "p", "v"],
            vec![],
            vec![integers("p", &[1; 8]), floats("v", &[], &[f32::INFINITY])]
        )
        .contains("zeros")
    );
    assert!(
        one(
            "Slice",
            &["x", "a", "b", "c", "d"],
            vec![],
            vec![
                integers("a", &[4]),
                integers("b", &[0]),
                integers("c", &[2]),
                integers("d", &[0])
            ]
        )
        .contains("step")
    );
    assert!(one("Flatten", &["x"], vec![int("axis", 9)], vec![]).contains("axis"));
    assert!(one("Reshape", &["x", "s"], vec![], vec![integers("s", &[1, 7])]).contains("values"));
    assert!(
        one(
            "Reshape",
            &["x", "s"],
            vec![],
            vec![integers("s", &[2, 5, 6])]
        )
        .contains("shape")
    );
    assert!(one("Squeeze", &["x"], vec![ints("axes", &[2, 3])], vec![]).contains("length 1"));
    assert!(
        one(
            "Add",
            &["x", "c"],
            vec![],
            vec![floats("c", &[3], &[0.0; 3])]
        )
        .contains("does not fit")
    );
    assert!(
        one(
            "BatchNormalization",
            &["x", "w", "w", "w", "w"],
            vec![int("training_mode", 1)],
            w()
        )
        .contains("eval")
    );
}

#[test]
fn broken_files() {
    let good = model(IMAGE, vec![node("Relu", &["x"], "y", vec![])], vec![]);
    let bytes = good.encode_to_vec();
    for length in 0..bytes.len() {
        let e = onnx::from_bytes(&bytes[..length]).expect_err("truncated");
        assert!(
            matches!(
                e,
                Error::Truncated { .. } | Error::Malformed { .. } | Error::Invalid { .. }
            ),
            "{length}: {e}"
        );
    }
    assert!(matches!(
        onnx::from_bytes(&bytes[..bytes.len() - 1]),
        Err(Error::Truncated { .. })
    ));
    assert!(matches!(
        onnx::from_bytes(b"\x89PNG\r\n\x1a\n and more"),
        Err(Error::Malformed { .. } | Error::Truncated { .. })
    ));
    assert!(
        matches!(onnx::from_bytes(&[]), Err(Error::Malformed { detail, .. }) if detail.contains("no graph"))
    );
    assert!(
        matches!(import(&[8, 2, 5, 5], vec![node("Relu", &["x"], "y", vec![])], vec![]), Err(Error::Invalid { detail, .. }) if detail.contains("batch"))
    );
    assert!(matches!(
        import(
            &[1, 2, 0, 0],
            vec![node("Relu", &["x"], "y", vec![])],
            vec![]
        ),
        Err(Error::Invalid { .. })
    ));
    assert!(
        matches!(import(IMAGE, vec![node("Relu", &["q"], "y", vec![])], vec![]), Err(Error::Invalid { detail, .. }) if detail.contains("q"))
    );
    assert!(matches!(
        import(IMAGE, vec![], vec![]),
        Err(Error::Malformed { .. })
    ));
    let mut two = good.clone();
    two.graph
        .as_mut()
        .expect("there")
        .output
        .push(info("z", &[]));
    assert!(matches!(
        onnx::from_proto(&two, onnx::Options::default()),
        Err(Error::Outputs(names)) if names == "y, z"
    ));
    let named = |output| onnx::Options {
        output: Some(output),
        ..onnx::Options::default()
    };
    assert!(onnx::from_proto(&two, named("y")).is_ok());
    assert!(onnx::from_proto(&two, named("z")).is_err());
    assert!(
        onnx::from_proto(&two, named("w"))
            .expect_err("refused")
            .to_string()
            .contains("y, z")
    );
    let conv = || vec![node("Conv", &["x", "w"], "y", vec![])];
    let mut nan = weights(8);
    nan[3] = f32::NAN;
    assert!(
        matches!(import(IMAGE, conv(), vec![floats("w", &[1, 2, 2, 2], &nan)]), Err(Error::NotFinite { tensor, index: 3, .. }) if tensor == "w")
    );
    assert!(matches!(
        import(IMAGE, conv(), vec![floats("w", &[1, 2, 2, 2], &nan[..7])]),
        Err(Error::Length { .. })
    ));
    let mut outside = floats("w", &[1], &[0.0]);
    outside.data_location = 1;
    assert!(
        matches!(import(IMAGE, conv(), vec![outside]), Err(Error::Malformed { detail, .. }) if detail.contains("external_data"))
    );
    let mut strange = floats("w", &[1], &[0.0]);
    strange.data_type = 14;
    assert!(matches!(
        import(IMAGE, conv(), vec![strange]),
        Err(Error::Malformed { .. })
    ));
    for i in 0..bytes.len() {
        for flip in [1, 0x10, 0x80] {
            let mut b = bytes.clone();
            b[i] ^= flip;
            drop(onnx::from_bytes(&b));
        }
    }
}

// Hostile files: small ones must not ask for much memory or time. Found by reading and by `polyveil-fuzz`.

fn refused(input: &[i64], nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> String {
    import(input, nodes, constants)
        .expect_err("hostile")
        .to_string()
}

#[test]
fn impossible_matrices_are_refused_at_once() {
    // no values, but 2^60 columns to go through, or 2^60 outputs to give a bias to
    let empty = |dims: &[i64]| floats("w", dims, &[]);
    let message = refused(
        &[1, 3],
        vec![node("MatMul", &["x", "w"], "y", vec![])],
        vec![empty(&[0, 1 << 60])],
    );
    assert!(message.contains("can't be multiplied"), "{message}");
    for bias in [&[][..], &[1]] {
        let message = refused(
            &[1, 3],
            vec![node("Gemm", &["x", "w", "b"], "y", vec![int("transB", 1)])],
            vec![empty(&[1 << 60, 0]), floats("b", bias, &[1.0])],
        );
        assert!(message.contains("no values"), "{message}");
    }
}

#[test]
fn automatic_padding_of_an_impossible_kernel_is_refused() {
    let message = refused(
        IMAGE,
        vec![node(
            "Conv",
            &["x", "w"],
            "y",
            vec![
                string("auto_pad", "SAME_UPPER"),
                ints("dilations", &[1 << 30, 1]),
            ],
        )],
        vec![floats("w", &[0, 2, 1 << 62, 1], &[])],
    );
    assert!(message.contains("Conv"), "{message}");
}

#[test]
fn constants_that_multiply_are_refused() {
    // each of 60 nodes doubles the one before
    let mut nodes = vec![node("Concat", &["c", "c"], "c0", vec![])];
    for i in 1..60 {
        let from = format!("c{}", i - 1);
        nodes.push(node("Concat", &[&from, &from], &format!("c{i}"), vec![]));
    }
    nodes.push(node("Reshape", &["x", "c59"], "y", vec![]));
    let message = refused(&[1, 3], nodes, vec![integers("c", &[1, 3])]);
    assert!(message.contains("constants"), "{message}");
    // one row, as large as the picture, again and again
    let mut nodes = vec![node("Add", &["x", "one"], "y0", vec![])];
    for i in 1..40 {
        let (from, to) = (
            format!("y{}", i - 1),
            if i == 39 { "y".into() } else { format!("y{i}") },
        );
        nodes.push(node("Add", &[&from, "one"], &to, vec![]));
    }
    let row = vec![floats("one", &[1024], &[1.0; 1024])];
    let message = refused(&[1, 1, 8192, 1024], nodes, row);
    assert!(message.contains("constants"), "{message}");
}

#[test]
fn constants_have_few_axes_and_as_many_values_as_they_say() {
    let axes = vec![1; 9];
    let add = || vec![node("Add", &["x", "c"], "y", vec![])];
    let message = refused(&[1, 3], add(), vec![floats("c", &axes, &[1.0])]);
    assert!(message.contains("axes"), "{message}");
    let message = refused(&[1, 3], add(), vec![floats("c", &[2], &[1.0])]);
    assert!(message.contains("needs 2 values"), "{message}");
}

#[test]
fn many_nodes_of_one_name_take_linear_time() {
    let count = 20_000;
    let mut nodes: Vec<NodeProto> = (0..count)
        .map(|i| {
            let from = if i == 0 {
                "x".into()
            } else {
                format!("v{}", i - 1)
            };
            node("Relu", &[&from], &format!("v{i}"), vec![])
        })
        .collect();
    nodes.push(node("Relu", &[&format!("v{}", count - 1)], "y", vec![]));
    for n in &mut nodes {
        n.name = "same".into();
    }
    let graph = import(&[1, 3], nodes, vec![]).expect("imports");
    assert_eq!(graph.nodes().len(), count + 2);
    assert!(graph.find("same#1").is_some() && graph.find(&format!("same#{count}")).is_some());
}
