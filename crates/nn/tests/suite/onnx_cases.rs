//! ONNX files that were read wrongly once: each is computed rightly now, or refused by name. The same small files lie with others in a folder
//! of cases, where there is one.

use crate::assert_close;
use crate::onnx::{float, floats, import, info, int, integers, ints, model, node, string};
use polyveil_nn::attention::Mask;
use polyveil_nn::format::onnx;
use polyveil_nn::format::onnx_proto::{
    FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};
use polyveil_nn::lower::{Options, adapt};
use polyveil_nn::{Error, Graph, Op, Shape, Tensor};
use std::path::{Path, PathBuf};

fn values(graph: &Graph, x: &[f64]) -> Vec<f64> {
    let x = Tensor::new(graph.input().shape(), x.to_vec()).expect("fits");
    graph
        .evaluate(&x)
        .expect("evaluates")
        .output
        .values()
        .to_vec()
}

/// What a network of a vector of three computes of 1, 10, 100.
fn of_three(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Vec<f64> {
    let graph = import(&[1, 3], nodes, constants).expect("imports");
    values(&graph, &[1.0, 10.0, 100.0])
}

/// Why a model from x to y is refused; the node n_y is named.
fn refusal(input: &[i64], nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> String {
    let e = import(input, nodes, constants)
        .expect_err("refused")
        .to_string();
    assert!(e.contains("node n_"), "{e}");
    e
}

fn of_type(data_type: i32, name: &str, dims: &[i64], int32_data: &[i32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type,
        int32_data: int32_data.to_vec(),
        ..TensorProto::default()
    }
}

fn with_opset(version: i64, mut model: ModelProto) -> Result<Graph, Error> {
    model.opset_import[0].version = version;
    onnx::from_proto(&model, onnx::Options::default())
}

#[test]
fn casts_of_computed_values_to_integers_and_truths_are_refused() {
    for to in [2, 3, 4, 5, 6, 7, 9, 12, 13, 8, 17, 0] {
        let cast = vec![
            node("Cast", &["x"], "a", vec![int("to", to)]),
            node("Cast", &["a"], "y", vec![int("to", 1)]),
        ];
        assert!(refusal(&[1, 3], cast, vec![]).contains("n_a"), "{to}");
    }
    let last = vec![node("Cast", &["x"], "y", vec![int("to", 7)])];
    assert!(refusal(&[1, 3], last, vec![]).contains("int64"));
    for to in [1, 10, 11, 16] {
        let cast = vec![node("Cast", &["x"], "y", vec![int("to", to)])];
        assert_eq!(of_three(cast, vec![]), [1.0, 10.0, 100.0]);
    }
}

#[test]
fn casts_of_constants_are_carried_out() {
    let through = |c: TensorProto, to: i64| {
        let nodes = vec![
            node("Cast", &["c"], "i", vec![int("to", to)]),
            node("Cast", &["i"], "g", vec![int("to", 1)]),
            node("Mul", &["x", "g"], "y", vec![]),
        ];
        import(&[1, 3], nodes, vec![c]).map(|g| values(&g, &[1.0, 10.0, 100.0])[0])
    };
    let whole = |v: i32| of_type(6, "c", &[], &[v]);
    let real = |v: f32| floats("c", &[], &[v]);
    for (c, to, right) in [
        (real(2.7), 7, 2.0),
        (real(-2.7), 6, -2.0),
        (real(2.7), 9, 1.0),
        (real(0.0), 9, 0.0),
        (whole(300), 2, 44.0),
        (whole(-1), 2, 255.0),
        (whole(200), 3, -56.0),
        (whole(70_000), 5, 4464.0),
        (whole(16_777_217), 1, 16_777_216.0),
        // half the unit of half precision above 2048, ties to even
        (real(2049.0), 10, 2048.0),
        (real(2051.0), 10, 2052.0),
        (real(257.0), 16, 256.0),
    ] {
        let had = through(c.clone(), to).expect("imports");
        assert_eq!(had, right, "{c:?} to {to}");
    }
    // ONNX leaves open what a float gives that does not fit
    for (c, to) in [
        (real(300.0), 2),
        (real(f32::NAN), 7),
        (real(1e30), 7),
        (real(1e5), 10),
        (whole(1), 12),
    ] {
        assert!(through(c, to).is_err(), "{to}");
    }
}

#[test]
fn shape_gives_the_axes_that_are_asked_for() {
    let scaled = |attributes| {
        let nodes = vec![
            node("Shape", &["x"], "s", attributes),
            node("Gather", &["s", "i"], "d", vec![]),
            node("Cast", &["d"], "g", vec![int("to", 1)]),
            node("Mul", &["x", "g"], "y", vec![]),
        ];
        let zero = of_type(6, "i", &[], &[0]);
        import(&[1, 3], nodes, vec![zero]).map(|g| values(&g, &[1.0, 10.0, 100.0]))
    };
    assert_eq!(
        scaled(vec![int("start", 1)]).expect("imports"),
        [3.0, 30.0, 300.0]
    );
    assert_eq!(
        scaled(vec![int("start", -1)]).expect("imports"),
        [3.0, 30.0, 300.0]
    );
    assert_eq!(
        scaled(vec![int("end", 1)]).expect("imports"),
        [1.0, 10.0, 100.0]
    );
    assert_eq!(
        scaled(vec![int("start", -9), int("end", 9)]).expect("imports"),
        [1.0, 10.0, 100.0]
    );
    // an empty list has no first axis
    assert!(scaled(vec![int("start", 1), int("end", -1)]).is_err());
    let nodes = vec![
        node("Shape", &["x"], "s", vec![int("start", 2)]),
        node("Gather", &["s", "i"], "d", vec![]),
        node("Unsqueeze", &["d", "z"], "u", vec![]),
        node("Concat", &["o", "u", "m", "o"], "t", vec![int("axis", 0)]),
        node("Reshape", &["x", "t"], "r", vec![]),
        node("ReduceMean", &["r"], "y", vec![ints("axes", &[2, 3])]),
    ];
    let lists = |name, v| integers(name, &[v]);
    let constants = vec![
        of_type(6, "i", &[], &[0]),
        lists("z", 0),
        lists("o", 1),
        lists("m", -1),
    ];
    let graph = import(&[1, 2, 3, 2], nodes, constants).expect("imports");
    let x: Vec<f64> = (0..12).map(f64::from).collect();
    assert_close(&values(&graph, &x), &[1.5, 5.5, 9.5], 1e-12);
}

#[test]
fn training_forms_are_refused_in_every_operator_set() {
    let norm = |others: &[&str], attributes| {
        let mut n = node(
            "BatchNormalization",
            &["x", "s", "b", "m", "v"],
            "y",
            attributes,
        );
        n.output.extend(others.iter().map(|o| o.to_string()));
        let one = |name, v| floats(name, &[1], &[v]);
        let constants = vec![one("s", 1.0), one("b", 0.0), one("m", 0.0), one("v", 1.0)];
        model(&[1, 1, 2, 2], vec![n], constants)
    };
    for opset in [7, 9, 13] {
        let e = with_opset(opset, norm(&["mm", "vv", "sm", "sv"], vec![])).expect_err("refused");
        assert!(
            e.to_string().contains("n_y") && e.to_string().contains("eval"),
            "{e}"
        );
    }
    for opset in [14, 15, 17, 20] {
        for (others, on) in [(&["rm", "rv"][..], 1), (&["rm", "rv"], 0), (&[], 1)] {
            let made = norm(
                others,
                vec![int("training_mode", on), float("momentum", 0.1)],
            );
            assert!(with_opset(opset, made).is_err());
        }
    }
    assert!(with_opset(9, norm(&["", ""], vec![float("momentum", 0.1)])).is_ok());
    assert!(with_opset(7, norm(&[], vec![int("spatial", 1)])).is_ok());
    assert!(with_opset(7, norm(&[], vec![int("spatial", 0)])).is_err());
    let drop = |training: TensorProto| {
        let nodes = vec![node("Dropout", &["x", "", "t"], "y", vec![int("seed", 1)])];
        import(&[1, 3], nodes, vec![training])
    };
    assert!(drop(of_type(9, "t", &[], &[0])).is_ok());
    for training in [of_type(9, "t", &[], &[1]), of_type(9, "t", &[2], &[0, 1])] {
        let e = drop(training).expect_err("refused").to_string();
        assert!(e.contains("eval"), "{e}");
    }
    // whether it trains is computed
    let nodes = vec![node("Dropout", &["x", "", "x"], "y", vec![])];
    assert!(import(&[1, 3], nodes, vec![]).is_err());
}

#[test]
fn old_operator_sets_are_refused_and_both_names_of_the_domain_are_read() {
    let add = || {
        let attributes = vec![int("axis", 1), int("broadcast", 1)];
        let c = floats("c", &[2], &[10.0, 20.0]);
        model(
            &[1, 2, 2, 2],
            vec![node("Add", &["x", "c"], "y", attributes)],
            vec![c],
        )
    };
    let drop = || {
        model(
            &[1, 3],
            vec![node("Dropout", &["x"], "y", vec![int("is_test", 0)])],
            vec![],
        )
    };
    let relu = || model(&[1, 3], vec![node("Relu", &["x"], "y", vec![])], vec![]);
    for version in [1, 5, 6] {
        for old in [add(), drop(), relu()] {
            let e = with_opset(version, old).expect_err("refused");
            assert!(matches!(e, Error::Version { .. }), "{e}");
        }
    }
    assert!(with_opset(27, relu()).is_err());
    for version in [7, 26] {
        assert!(with_opset(version, relu()).is_ok());
        // and their attributes are not ignored where the version claims another one
        let e = with_opset(version, add()).expect_err("refused").to_string();
        assert!(e.contains("axis"), "{e}");
        let e = with_opset(version, drop())
            .expect_err("refused")
            .to_string();
        assert!(e.contains("is_test"), "{e}");
    }
    let mut other = relu();
    other.opset_import[0].domain = "ai.onnx".into();
    assert!(onnx::from_proto(&other, onnx::Options::default()).is_ok());
    other.opset_import.extend(relu().opset_import);
    assert!(onnx::from_proto(&other, onnx::Options::default()).is_ok());
    other.opset_import[1].version = 9;
    assert!(onnx::from_proto(&other, onnx::Options::default()).is_err());
    // patterns, too
    let mut nodes = vec![
        node("Sigmoid", &["x"], "s", vec![]),
        node("Mul", &["s", "x"], "y", vec![]),
    ];
    nodes.iter_mut().for_each(|n| n.domain = "ai.onnx".into());
    let graph = import(&[1, 3], nodes, vec![]).expect("imports");
    assert_eq!(graph.nodes().len(), 2);
}

#[test]
fn constants_that_raise_the_rank_do() {
    let add = |dims: &[i64]| {
        let nodes = vec![
            node("Add", &["x", "c"], "a", vec![]),
            node("ReduceMean", &["a"], "y", vec![ints("axes", &[2, 3])]),
        ];
        let count = dims.iter().product::<i64>() as usize;
        import(
            &[1, 2, 2, 2],
            nodes,
            vec![floats("c", dims, &vec![0.0; count])],
        )
    };
    assert!(add(&[1, 2, 1, 1]).is_ok());
    let x: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(
        values(&add(&[1, 2, 1, 1]).expect("imports"), &x),
        [1.5, 5.5]
    );
    // the mean is over other axes then: channels and rows
    let five = add(&[1, 1, 2, 1, 1]).expect("imports");
    assert_eq!(values(&five, &x), [3.0, 4.0]);
    let nodes = vec![node("Gemm", &["x", "w", "b"], "y", vec![])];
    let constants = vec![
        floats("w", &[3, 2], &[1.0; 6]),
        floats("b", &[1, 1, 2], &[0.0; 2]),
    ];
    refusal(&[1, 3], nodes, constants);
}

#[test]
fn no_attribute_input_or_output_is_ignored() {
    let x: &[i64] = &[1, 2, 5, 5];
    let relu = |a| vec![node("Relu", &["x"], "y", a)];
    assert!(refusal(x, relu(vec![float("alpha", 0.1)]), vec![]).contains("alpha"));
    for (op, attribute) in [
        ("GlobalAveragePool", int("axis", 1)),
        ("Identity", int("to", 7)),
        ("Sigmoid", float("alpha", 2.0)),
        ("HardSwish", float("beta", 0.1)),
        ("Flatten", ints("axes", &[1])),
        ("Reshape", ints("shape", &[1, 50])),
    ] {
        let e = refusal(
            x,
            vec![node(op, &["x"], "y", vec![attribute.clone()])],
            vec![],
        );
        assert!(e.contains(&attribute.name), "{op}: {e}");
    }
    // of another type, and twice
    let wrong = vec![ints("axis", &[2])];
    assert!(refusal(x, vec![node("Flatten", &["x"], "y", wrong)], vec![]).contains("type"));
    let twice = vec![int("axis", 1), int("axis", 2)];
    assert!(refusal(x, vec![node("Flatten", &["x"], "y", twice)], vec![]).contains("twice"));
    let both = vec![node(
        "ReduceMean",
        &["x", "a"],
        "y",
        vec![ints("axes", &[2, 3])],
    )];
    assert!(refusal(x, both, vec![integers("a", &[2, 3])]).contains("twice"));
    let repeated = vec![node("Slice", &["x", "a", "b", "c"], "y", vec![])];
    let lists = [("a", &[0, 1]), ("b", &[3, 4]), ("c", &[2, 2])];
    let lists = lists.map(|(n, v)| integers(n, v)).to_vec();
    assert!(refusal(x, repeated, lists).contains("twice"));
    assert!(refusal(x, vec![node("Relu", &["x", "x"], "y", vec![])], vec![]).contains("inputs"));
    let mut two = relu(vec![]);
    two[0].output.push("z".into());
    assert!(refusal(x, two, vec![]).contains("outputs"));
    // neither are attributes inside of a pattern
    let nodes = vec![
        node("Sigmoid", &["x"], "s", vec![float("alpha", 2.0)]),
        node("Mul", &["x", "s"], "y", vec![]),
    ];
    assert!(refusal(x, nodes, vec![]).contains("alpha"));
    // lists of axes are integers
    let nodes = vec![node("ReduceMean", &["x", "a"], "y", vec![])];
    assert!(refusal(x, nodes, vec![floats("a", &[2], &[2.5, 3.0])]).contains("integers"));
    let strange = TensorProto {
        name: "s".into(),
        data_type: 8,
        dims: vec![1],
        ..TensorProto::default()
    };
    assert!(
        import(x, relu(vec![]), vec![strange]).is_ok(),
        "what nothing uses may be of any type"
    );
    // an operator of the file's own in place of ONNX'
    let mut own = model(x, relu(vec![]), vec![]);
    own.functions = vec![FunctionProto {
        name: "Relu".into(),
        domain: String::new(),
    }];
    assert!(onnx::from_proto(&own, onnx::Options::default()).is_err());
    own.functions[0].domain = "mine".into();
    assert!(onnx::from_proto(&own, onnx::Options::default()).is_ok());
    // one name, two values
    let twice = vec![
        node("Relu", &["x"], "y", vec![]),
        node("Sigmoid", &["x"], "y", vec![]),
    ];
    assert!(import(x, twice, vec![]).is_err());
}

#[test]
fn constants_that_are_subtracted_or_divided_by_are_added_or_multiplied() {
    let of = |op: &str, inputs: &[&str]| {
        of_three(
            vec![node(op, inputs, "y", vec![])],
            vec![floats("c", &[], &[4.0])],
        )
    };
    assert_eq!(of("Sub", &["x", "c"]), [-3.0, 6.0, 96.0]);
    assert_eq!(of("Sub", &["c", "x"]), [3.0, -6.0, -96.0]);
    assert_eq!(of("Div", &["x", "c"]), [0.25, 2.5, 25.0]);
    let two = |op: &str, inputs: &[&str], c: f32| {
        refusal(
            &[1, 3],
            vec![node(op, inputs, "y", vec![])],
            vec![floats("c", &[], &[c])],
        )
    };
    assert_eq!(of("Div", &["c", "x"]), [4.0, 0.4, 0.04]);
    assert_eq!(of("Sub", &["x", "x"]), [0.0; 3]);
    assert!(two("PRelu", &["c", "x"], 4.0).contains("polynomial"));
    assert!(
        import(
            &[1, 3],
            vec![node("Div", &["x", "c"], "y", vec![])],
            vec![floats("c", &[], &[0.0])]
        )
        .is_err()
    );
}

/// Messages that misled, each with what it must say now.
#[test]
fn refusals_name_the_cause() {
    let relu = || vec![node("Relu", &["x"], "y", vec![])];
    let of_input = |dims: &[i64]| {
        import(dims, relu(), vec![])
            .expect_err("refused")
            .to_string()
    };
    assert!(of_input(&[1; 6]).contains("is neither"));
    assert!(of_input(&[4, 3, 8, 8]).contains("batch size 4"));
    assert!(
        of_input(&[0, 3, 0, 8]).contains("(?, 3, ?, 8)")
            && of_input(&[0, 3, 0, 8]).contains("fixed sizes")
    );
    let mut named = model(&[0, 3, 0, 8], relu(), vec![]);
    let tensor = |m: &mut ModelProto, element: i32, free: &str| {
        let graph = m.graph.as_mut().expect("there");
        let tensor = graph.input[0]
            .r#type
            .as_mut()
            .and_then(|t| t.tensor_type.as_mut())
            .expect("one");
        tensor.elem_type = element;
        tensor.shape.as_mut().expect("one").dim[2].dim_param = free.into();
    };
    tensor(&mut named, 1, "H");
    assert!(
        onnx::from_proto(&named, onnx::Options::default())
            .expect_err("refused")
            .to_string()
            .contains("(?, 3, H, 8)")
    );
    let mut bytes = model(&[1, 3, 8, 8], relu(), vec![]);
    tensor(&mut bytes, 2, "");
    assert!(
        onnx::from_proto(&bytes, onnx::Options::default())
            .expect_err("refused")
            .to_string()
            .contains("uint8")
    );
    let pad = |input: &[i64], pads: &[i64]| {
        refusal(
            input,
            vec![node("Pad", &["x", "p"], "y", vec![])],
            vec![integers("p", pads)],
        )
    };
    assert!(pad(&[1, 3], &[0, -2, 0, -1]).contains("left"));
    let nodes = vec![
        node("RandomNormalLike", &["c"], "b", vec![]),
        node("Add", &["x", "b"], "y", vec![]),
    ];
    let e = refusal(&[1, 3], nodes, vec![floats("c", &[3], &[1.0; 3])]);
    assert!(e.contains("n_b") && e.contains("fold"), "{e}");
    let slice = vec![node("Slice", &["x", "a", "b", "c"], "y", vec![])];
    let lists = [("a", 4), ("b", 2), ("c", 2)]
        .map(|(n, v)| integers(n, &[v]))
        .to_vec();
    assert!(refusal(&[1, 2, 5, 5], slice, lists).contains("axis 2"));
    let mut sparse = model(&[1, 3], vec![node("Add", &["x", "w"], "y", vec![])], vec![]);
    let values = Some(floats("w", &[1], &[1.0]));
    sparse.graph.as_mut().expect("there").sparse_initializer = vec![SparseTensorProto { values }];
    assert!(
        onnx::from_proto(&sparse, onnx::Options::default())
            .expect_err("refused")
            .to_string()
            .contains("sparse")
    );
    // an input that nothing uses
    let mut two = model(&[1, 3], relu(), vec![]);
    let graph: &mut GraphProto = two.graph.as_mut().expect("there");
    graph.input.insert(0, info("k", &[]));
    assert_eq!(
        onnx::from_proto(&two, onnx::Options::default())
            .expect("imports")
            .input()
            .shape(),
        Shape::Vector(3)
    );
    // GELU as half precision writes it
    let half = |name: &str, bits| of_type(10, name, &[], &[bits]);
    let nodes = vec![
        node("Div", &["x", "s"], "d", vec![]),
        node("Erf", &["d"], "e", vec![]),
        node("Add", &["e", "o"], "a", vec![]),
        node("Mul", &["x", "a"], "m", vec![]),
        node("Mul", &["m", "h"], "y", vec![]),
    ];
    let constants = vec![half("s", 0x3da8), half("o", 0x3c00), half("h", 0x3800)];
    assert_close(&of_three(nodes, constants)[..1], &[0.8413], 1e-4);
}

/// The folder of cases, where there is one.
fn cases() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases");
    let named = std::env::var_os("POLYVEIL_CASES").map(PathBuf::from);
    Some(named.unwrap_or(beside).join("import")).filter(|p| p.is_dir())
}

/// Every file of the folder gives its right values or is refused.
#[test]
fn cases_of_the_folder_are_right_or_refused() {
    let Some(folder) = cases() else {
        eprintln!("skipped: no folder of cases; name one in POLYVEIL_CASES");
        return;
    };
    let text = std::fs::read_to_string(folder.join("values.txt")).expect("reads");
    let mut name = "";
    let (mut right, mut refused) = (0, 0);
    for line in text.lines() {
        let Some(stated) = line.strip_prefix("  right") else {
            if !line.starts_with(' ') {
                name = line.trim();
            }
            continue;
        };
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).expect("reads");
        let Ok(graph) = onnx::from_bytes(&bytes) else {
            refused += 1;
            continue;
        };
        let input = std::fs::read(folder.join(format!("{name}.input.f64"))).expect("reads");
        let x: Vec<f64> = (input.chunks_exact(8))
            .map(|b| f64::from_le_bytes(b.try_into().expect("eight")))
            .collect();
        let stated: Vec<f64> = (stated.trim().trim_matches(['[', ']']).split_whitespace())
            .filter_map(|v| v.parse().ok())
            .collect();
        // the list shows the first values
        if !stated.is_empty() {
            assert_close(&values(&graph, &x)[..stated.len()], &stated, 1e-4);
        }
        right += 1;
    }
    eprintln!("{right} right, {refused} refused");
    assert!(
        right >= 30 && refused >= 5,
        "{right} right, {refused} refused"
    );
}

#[test]
fn channels_and_features_come_after_each_other() {
    let joined = |axis: i64| {
        let nodes = vec![
            node("Relu", &["x"], "r", vec![]),
            node("Concat", &["r", "x", "r"], "y", vec![int("axis", axis)]),
        ];
        import(&[1, 1, 1, 2], nodes, vec![])
    };
    for axis in [1, -3] {
        let graph = joined(axis).expect("imports");
        assert_eq!(
            values(&graph, &[-1.0, 2.0]),
            [0.0, 2.0, -1.0, 2.0, 0.0, 2.0]
        );
    }
    for axis in [2, -1] {
        let graph = joined(axis).expect("imports");
        let y = values(&graph, &[-1.0, 2.0]);
        assert_eq!(y, [0.0, 2.0, -1.0, 2.0, 0.0, 2.0], "axis {axis}");
    }
    let rows = vec![
        node("Relu", &["x"], "r", vec![]),
        node("Concat", &["x", "r"], "y", vec![int("axis", -1)]),
    ];
    let graph = import(&[1, 2], rows, vec![]).expect("imports");
    assert_eq!(values(&graph, &[-1.0, 2.0]), [-1.0, 2.0, 0.0, 2.0]);
    // of different sizes
    let nodes = vec![
        node("GlobalAveragePool", &["x"], "m", vec![]),
        node("Concat", &["x", "m"], "y", vec![int("axis", 1)]),
    ];
    assert!(import(&[1, 1, 2, 2], nodes, vec![]).is_err());
}

/// What cannot be computed here says so, and by which node.
#[test]
fn what_would_be_another_value_is_refused() {
    let attention = |more: &[&str], constants: Vec<TensorProto>| {
        let nodes = vec![
            node("Reshape", &["x", "s"], "q", vec![]),
            node("Attention", &[&["q", "q", "q"], more].concat(), "y", vec![]),
        ];
        let shape = integers("s", &[1, 2, 3, 4]);
        let all = [vec![shape], constants].concat();
        with_opset(23, model(&[1, 24], nodes, all))
    };
    let refused = |had: Result<Graph, Error>, word: &str| {
        let e = had.expect_err("refused").to_string();
        assert!(e.contains("n_y") && e.contains(word), "{e}");
    };
    let past = floats("p", &[1, 2, 2, 4], &[0.5; 16]);
    refused(attention(&["", "p", "p"], vec![past]), "cache");
    let truths = |seen: &[i32]| vec![of_type(9, "m", &[3, 3], seen)];
    refused(attention(&["m"], truths(&[0; 9])), "mask");
    refused(
        attention(&["m"], vec![floats("m", &[3, 1, 1, 1], &[0.0; 3])]),
        "mask",
    );
    let x: Vec<f64> = (0..24).map(|i| f64::from(i % 7) / 4.0).collect();
    let of = |more: &[&str], constants| values(&attention(more, constants).expect("imports"), &x);
    assert_close(&of(&["m"], truths(&[1; 9])), &of(&[], vec![]), 1e-12);
    let low = floats(
        "m",
        &[3, 3],
        &[0.0, -2e4, -2e4, 0.0, 0.0, -2e4, 0.0, 0.0, 0.0],
    );
    let causal = of(&["m"], truths(&[1, 0, 0, 1, 1, 0, 1, 1, 1]));
    assert_close(&causal, &of(&["m"], vec![low]), 1e-12);
    assert_close(&causal[..4], &x[..4], 1e-12);
    // written out: a mask of zeros that makes three of one
    let nodes = vec![
        node("Reshape", &["x", "s"], "q", vec![]),
        node("Transpose", &["q"], "k", vec![ints("perm", &[0, 1, 3, 2])]),
        node("MatMul", &["q", "k"], "a", vec![]),
        node("Add", &["a", "m"], "b", vec![]),
        node("Softmax", &["b"], "w", vec![int("axis", -1)]),
        node("MatMul", &["w", "q"], "y", vec![]),
    ];
    let constants = vec![
        integers("s", &[1, 2, 3, 4]),
        floats("m", &[3, 1, 1, 1], &[0.0; 3]),
    ];
    let graph = import(&[1, 24], nodes, constants).expect("imports");
    assert_eq!(values(&graph, &x).len(), 3 * 24);

    let matrices = |x: &[i64], w: &[i64]| {
        let count = w.iter().product::<i64>() as usize;
        let w = floats("w", w, &vec![1.0; count]);
        refusal(x, vec![node("MatMul", &["x", "w"], "y", vec![])], vec![w])
    };
    assert!(matrices(&[1, 6, 3, 4], &[3, 4, 5]).contains("multiplied"));
    let pad = |pads: &[i64]| {
        let mode = vec![string("mode", "reflect")];
        let nodes = vec![node("Pad", &["x", "p"], "y", mode)];
        refusal(&[1, 6], nodes, vec![integers("p", pads)])
    };
    assert!(pad(&[0, -4, 0, 4]).contains("reflect") && pad(&[0, 5, 0, -5]).contains("reflect"));
    let celu = vec![node("Celu", &["x"], "y", vec![float("alpha", -0.5)])];
    assert!(refusal(&[1, 3], celu, vec![]).contains("alpha"));
    let clip = |low: f32, high: f32| {
        let nodes = vec![node("Clip", &["x", "a", "b"], "y", vec![])];
        let ends = vec![floats("a", &[], &[low]), floats("b", &[], &[high])];
        refusal(&[1, 3], nodes, ends)
    };
    assert!(clip(2.0, 1.0).contains("order") && clip(1e30, f32::INFINITY).contains("order"));
    let nodes = vec![
        node("Sub", &["a", "b"], "d", vec![]),
        node("Cast", &["d"], "c", vec![int("to", 1)]),
        node("Add", &["x", "c"], "y", vec![]),
    ];
    let large = vec![integers("a", &[(1 << 60) + 1]), integers("b", &[1 << 60])];
    assert!(refusal(&[1, 3], nodes, large).contains("2^53"));
}

/// A margin never takes an interval to where its function has no values.
#[test]
fn roots_and_reciprocals_are_fitted_where_they_are_defined() {
    let adapted = |op: &str| {
        let nodes = vec![
            node("Mul", &["x", "x"], "s", vec![]),
            node("Add", &["s", "c"], "t", vec![]),
            node(op, &["t"], "y", vec![]),
        ];
        let graph = import(&[1, 3], nodes, vec![floats("c", &[], &[0.01])]).expect("imports");
        let inputs = (0..40).map(|i| {
            let x = (0..3).map(|k| f64::from(i * 3 + k) / 60.0 - 1.0).collect();
            Tensor::new(Shape::Vector(3), x).expect("fits")
        });
        let inputs: Vec<Tensor> = inputs.collect();
        adapt(&graph, &inputs, &Options::default())
            .expect("fits")
            .fits[0]
            .clone()
    };
    let low = |op: &str| adapted(op).approximation.polynomial.interval().0;
    assert_eq!(low("Sqrt"), 0.0);
    assert!(low("Reciprocal") > 0.0);
}

/// As tf2onnx writes networks of Keras: the picture's channels come last, and are put first before the first layer.
#[test]
fn pictures_whose_channels_come_last_are_pictures() {
    const H: usize = 16;
    const W: usize = 17;
    let of = |c: usize, mut nodes: Vec<NodeProto>| {
        let kernel: Vec<f32> = (0..2 * c * 9).map(|k| (k % 7) as f32 / 8.0).collect();
        nodes.push(node("Conv", &["t", "w"], "y", vec![]));
        let constants = vec![
            floats("w", &[2, c as i64, 3, 3], &kernel),
            floats("m", &[c as i64], &[0.5; 3][..c]),
            integers("s", &[-1, c as i64, H as i64, W as i64]),
            integers("p", &[0, 1, 1, 0, 0, 1, 1, 0]),
        ];
        import(&[1, H as i64, W as i64, c as i64], nodes, constants).expect("imports")
    };
    let first = || vec![ints("perm", &[0, 3, 1, 2])];
    let last = || vec![ints("perm", &[0, 2, 3, 1])];
    let x: Vec<f64> = (0..3 * H * W).map(|i| (i * i % 11) as f64 / 4.0).collect();
    let plain = of(3, vec![node("Transpose", &["x"], "t", first())]);
    assert_eq!(plain.input().shape(), Shape::image(3, H, W));
    // nothing is moved: a convolution of the picture
    assert_eq!(plain.nodes().len(), 2);
    let shifting = vec![
        node("Sub", &["x", "m"], "d", vec![]),
        node("Transpose", &["d"], "t", first()),
    ];
    let moved = of(3, shifting);
    assert_eq!(moved.input().shape(), Shape::image(3, H, W));
    let shifted: Vec<f64> = x.iter().map(|v| v - 0.5).collect();
    assert_close(&values(&moved, &x), &values(&plain, &shifted), 1e-12);
    let framed = vec![
        node("Pad", &["x", "p"], "z", vec![]),
        node("Transpose", &["z"], "t", first()),
    ];
    let framed = of(3, framed);
    assert_eq!(framed.input().shape(), Shape::image(3, H, W));
    assert_eq!(values(&framed, &x).len(), 2 * H * W);
    let grey = of(1, vec![node("Reshape", &["x", "s"], "t", vec![])]);
    assert_eq!(grey.input().shape(), Shape::image(1, H, W));
    // flattened as they came: the weights change places, and no value does
    let inner = (H - 2) * (W - 2);
    let classes: Vec<f32> = (0..4 * inner).map(|k| (k * k % 13) as f32).collect();
    let nodes = vec![
        node("Transpose", &["x"], "t", first()),
        node("Conv", &["t", "w"], "c", vec![]),
        node("Transpose", &["c"], "l", last()),
        node("Reshape", &["l", "s"], "f", vec![]),
        node("MatMul", &["f", "d"], "y", vec![]),
    ];
    let kernel: Vec<f32> = (0..54).map(|k| (k % 7) as f32 / 8.0).collect();
    let constants = vec![
        floats("w", &[2, 3, 3, 3], &kernel),
        integers("s", &[-1, 2 * inner as i64]),
        floats("d", &[2 * inner as i64, 2], &classes),
    ];
    let graph = import(&[1, H as i64, W as i64, 3], nodes, constants).expect("imports");
    let moves = |n: &polyveil_nn::Node<_>| matches!(n.op(), Op::Rearrange(_));
    assert!(!graph.nodes().iter().any(moves));
    let channels = values(&plain, &x);
    let expected = (0..2).map(|class| {
        let of = |place: usize, channel: usize| {
            let weight = classes[2 * (2 * place + channel) + class];
            channels[inner * channel + place] * f64::from(weight)
        };
        (0..inner).map(|p| of(p, 0) + of(p, 1)).sum::<f64>()
    });
    assert_close(&values(&graph, &x), &expected.collect::<Vec<_>>(), 1e-9);
    // here nobody says that it is a picture
    let signal = of(
        3,
        vec![
            node("Transpose", &["x"], "a", last()),
            node("Transpose", &["a"], "b", last()),
            node("Transpose", &["b"], "e", last()),
            node("Transpose", &["e"], "t", first()),
        ],
    );
    assert_eq!(signal.input().shape(), Shape::image(H, W, 3));
}

/// Queries, keys and values of a sequence (1, 3, 2) are its own; what is done to the scores before the softmax is said.
fn attending(between: Vec<NodeProto>, constants: Vec<TensorProto>) -> Result<Graph, Error> {
    let mut nodes = vec![
        node("Transpose", &["x"], "t", vec![ints("perm", &[0, 2, 1])]),
        node("MatMul", &["x", "t"], "s", vec![]),
    ];
    nodes.extend(between);
    nodes.push(node("Softmax", &["m"], "w", vec![int("axis", -1)]));
    nodes.push(node("MatMul", &["w", "x"], "y", vec![]));
    import(&[1, 3, 2], nodes, constants)
}

fn truths(name: &str, dims: &[i64], values: &[i32]) -> TensorProto {
    of_type(9, name, dims, values)
}

const ABOVE: [i32; 9] = [0, 1, 1, 0, 0, 1, 0, 0, 0];

#[test]
fn attention_under_a_constant_mask_is_read_as_attention() {
    let mask = |graph: &Graph| {
        let found = graph.nodes().iter().find_map(|n| match n.op() {
            Op::Attention(a) => Some(a.mask),
            _ => None,
        });
        found.expect("an attention")
    };
    let number = |v: f32| floats("f", &[], &[v]);
    let put = |fill: f32, hidden: TensorProto| {
        let choice = node("Where", &["h", "f", "s"], "m", vec![]);
        attending(vec![choice], vec![hidden, number(fill)]).expect("imports")
    };
    let added = |fill: f32, dims: &[i64], hidden: &[i32]| {
        let sum = node("Add", &["s", "h"], "m", vec![]);
        let values: Vec<f32> = hidden
            .iter()
            .map(|&h| if h == 1 { fill } else { 0.0 })
            .collect();
        attending(vec![sum], vec![floats("h", dims, &values)]).expect("imports")
    };
    for fill in [f32::NEG_INFINITY, -1e9, f32::MIN, -1e4] {
        assert_eq!(
            mask(&put(fill, truths("h", &[1, 3, 3], &ABOVE))),
            Mask::CAUSAL,
            "{fill}"
        );
        assert_eq!(mask(&added(fill, &[3, 3], &ABOVE)), Mask::CAUSAL, "{fill}");
        let last = Mask {
            valid: Some(2),
            ..Mask::FULL
        };
        assert_eq!(
            mask(&put(fill, truths("h", &[3], &[0, 0, 1]))),
            last,
            "{fill}"
        );
        assert_eq!(mask(&added(fill, &[1, 1, 3], &[0, 0, 1])), last, "{fill}");
    }
    // both, and the weights that they give
    let both = added(-1e4, &[3, 3], &[0, 1, 1, 0, 0, 1, 0, 0, 1]);
    let causal = Mask {
        valid: Some(2),
        ..Mask::CAUSAL
    };
    assert_eq!(mask(&both), causal);
    let x = [0.5, -1.0, 1.0, 0.25, -0.75, 2.0];
    let y = values(&both, &x);
    assert_close(&y[..2], &x[..2], 1e-12);
    let score = |i: usize, j: usize| (x[2 * i] * x[2 * j] + x[2 * i + 1] * x[2 * j + 1]).exp();
    let share = score(2, 0) / (score(2, 0) + score(2, 1));
    assert_close(
        &y[4..],
        &[0, 1].map(|c| share * x[c] + (1.0 - share) * x[2 + c]),
        1e-12,
    );
    // what hides other keys is computed, and is no attention
    let other = put(f32::NEG_INFINITY, truths("h", &[3], &[1, 0, 0]));
    let softmax = |n: &polyveil_nn::Node<_>| matches!(n.op(), Op::Softmax(_));
    assert!(other.nodes().iter().any(softmax));
    let y = values(&other, &x);
    let share = score(0, 1) / (score(0, 1) + score(0, 2));
    assert_close(
        &y[..2],
        &[0, 1].map(|c| share * x[2 + c] + (1.0 - share) * x[4 + c]),
        1e-9,
    );
}

#[test]
fn masks_without_an_answer_are_refused() {
    let whole = || truths("h", &[1, 3, 3], &[0, 1, 1, 1, 1, 1, 0, 0, 1]);
    let fill = || floats("f", &[], &[f32::NEG_INFINITY]);
    let put = vec![node("Where", &["h", "f", "s"], "m", vec![])];
    let e = attending(put, vec![whole(), fill()]).expect_err("a query that sees nothing");
    assert!(e.to_string().contains("itself"), "{e}");
    let values: Vec<f32> = [0, 0, 0, 1, 1, 1, 0, 0, 0]
        .map(|h| if h == 1 { f32::NEG_INFINITY } else { 0.0 })
        .to_vec();
    let sum = vec![node("Add", &["s", "h"], "m", vec![])];
    let e = attending(sum, vec![floats("h", &[3, 3], &values)]).expect_err("the same");
    assert!(e.to_string().contains("itself"), "{e}");
    // no softmax takes it
    let put = vec![node("Where", &["h", "f", "x"], "y", vec![])];
    let mask = truths("h", &[3], &[0, 1, 0]);
    let e = refusal(&[1, 3], put, vec![mask, fill()]);
    assert!(e.contains("n_y") && e.contains("-inf"), "{e}");
    // what is compared is computed
    let compared = vec![
        node("Greater", &["x", "f"], "h", vec![]),
        node("Where", &["h", "x", "f"], "y", vec![]),
    ];
    let e = refusal(&[1, 3], compared, vec![floats("f", &[], &[0.0])]);
    assert!(e.contains("n_h") && e.contains("comparing"), "{e}");
}

#[test]
fn einsums_that_are_not_read_say_what_to_write() {
    let of = |equation: &str, inputs: &[&str]| {
        let nodes = vec![node(
            "Einsum",
            inputs,
            "y",
            vec![string("equation", equation)],
        )];
        refusal(&[1, 3, 3], nodes, vec![floats("w", &[3, 3], &[1.0; 9])])
    };
    for (equation, inputs, words) in [
        ("bii->bi", &["x"][..], "diagonal"),
        ("...ij,jk->...ik", &["x", "w"], "letters"),
        ("bij,jk->bil", &["x", "w"], "axis l"),
        ("bij,jk->bik", &["x"], "2 terms"),
        ("ij,jk->ik", &["x", "w"], "[1, 3, 3]"),
        ("bij,bjk->ik", &["x", "w"], "[3, 3]"),
    ] {
        let e = of(equation, inputs);
        assert!(e.contains(words), "{equation}: {e}");
    }
}

#[test]
fn a_small_file_asks_for_no_large_tables() {
    let refused = |input: &[i64], nodes: Vec<NodeProto>, constants: Vec<TensorProto>| {
        let e = import(input, nodes, constants).expect_err("too much");
        let e = e.to_string();
        assert!(
            e.contains("too many") || e.contains("too large") || e.contains("more values"),
            "{e}"
        );
    };
    let axis = || of_type(7, "a", &[], &[]);
    let axis = TensorProto {
        int64_data: vec![1],
        ..axis()
    };
    refused(
        &[1, 1 << 20],
        vec![node("CumSum", &["x", "a"], "y", vec![])],
        vec![axis],
    );
    let filled = |shape: &[i64], output: &str| {
        let name = format!("{output}s");
        (
            node("ConstantOfShape", &[&name], output, vec![]),
            integers(&name, shape),
        )
    };
    let (a, of_a) = filled(&[1 << 11, 1, 1 << 11], "a");
    let (b, of_b) = filled(&[1 << 11, 1 << 11], "b");
    let product = node("MatMul", &["a", "b"], "c", vec![]);
    let sum = node("Add", &["x", "c"], "y", vec![]);
    refused(&[1, 3], vec![a, b, product, sum.clone()], vec![of_a, of_b]);
    // each place of many has a whole row
    let (i, of_i) = filled(&[1 << 20, 1], "i");
    let i = NodeProto {
        attribute: vec![polyveil_nn::format::onnx_proto::AttributeProto {
            name: "value".into(),
            t: Some(integers("v", &[0])),
            r#type: 4,
            ..Default::default()
        }],
        ..i
    };
    let gather = node("GatherND", &["x", "i"], "y", vec![]);
    refused(&[1, 1 << 10], vec![i, gather], vec![of_i]);
    let outer = node(
        "Einsum",
        &["x", "x"],
        "y",
        vec![string("equation", "bi,bj->bij")],
    );
    refused(&[1, 1 << 15], vec![outer], vec![]);
}

#[test]
fn two_inputs_are_named_with_the_way_out() {
    let mut two = model(&[1, 3], vec![node("Add", &["x", "z"], "y", vec![])], vec![]);
    let graph = two.graph.as_mut().expect("a graph");
    graph.input.push(info("z", &[1, 3]));
    let e = onnx::from_proto(&two, onnx::Options::default()).expect_err("two inputs");
    let e = e.to_string();
    assert!(e.contains("x, z") && e.contains("one input"), "{e}");
}
