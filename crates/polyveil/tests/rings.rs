//! Encrypted runs in the rings that the compiler chooses: answers within what is stated.

use approx::Activation;
use nn::calibrate::FitOptions;
use nn::lower::{Options, Outliers, adapt};
use nn::{Graph, Linear, Network, Nonlinearity, Op, Parameter, PolyGraph, Shape, Tensor};
use polyveil::machine::{Machine, Probing};
use polyveil::progress::silent;
use polyveil::session::{Precision, Session};
use polyveil::{compile, compiler::Target};
use std::sync::Arc;

/// Numbers in [−1, 1): SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Calibrated on random inputs, which are given too.
fn calibrated(graph: &Graph) -> (PolyGraph, Vec<Tensor>) {
    let (shape, mut state) = (graph.input().shape(), 7);
    let mut values = || (0..shape.len()).map(|_| uniform(&mut state)).collect();
    let inputs: Vec<Tensor> = (0..20)
        .map(|_| Tensor::new(shape, values()).expect("fits"))
        .collect();
    let options = Options {
        activations: FitOptions {
            degree: 4,
            margin: 0.3,
            ..FitOptions::default()
        },
        outliers: Outliers::Keep,
        ..Options::default()
    };
    (
        adapt(graph, &inputs, &options).expect("finite").graph,
        inputs,
    )
}

fn table() -> Graph {
    let mut state = 1;
    let mut dense = |from: usize, to: usize| {
        let size = (1.0 / from as f64).sqrt();
        let values = (0..from * to).map(|_| (size * uniform(&mut state)) as f32);
        let weight =
            Parameter::new("weight", [to, from], values.collect::<Vec<f32>>()).expect("finite");
        Op::Linear(Linear { weight, bias: None })
    };
    let mut b = Network::builder();
    let x = b.input("input", Shape::Vector(30)).expect("valid");
    let x = b.add("dense1", dense(30, 16), &[x]).expect("valid");
    let silu = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
    let x = b.add("act", silu, &[x]).expect("valid");
    let x = b.add("dense2", dense(16, 2), &[x]).expect("valid");
    b.finish(x).expect("valid")
}

fn small(width: usize, side: usize) -> Graph {
    zoo::resnet::Small {
        width,
        classes: 2,
        input: (side, side, 1),
        activation: Activation::Silu,
    }
    .graph(1)
    .expect("valid")
}

/// log2 N of the chosen ring; the answer of an encrypted run is within what the plan states.
fn runs(graph: &Graph) -> u32 {
    encrypted(graph, 2)
}

/// As [`runs`], of a network with so many outputs.
fn encrypted(graph: &Graph, outputs: usize) -> u32 {
    let (graph, inputs) = calibrated(graph);
    let plan = Arc::new(compile(&graph, &Target::default()).expect("compiles"));
    println!("{}", plan.plan().description.parameters);
    let stated = plan.facts().output_error + plan.facts().output_weights;
    let made = Machine::default().predict(&plan, None, Probing::AsItIs);
    let session = Session::new(plan.clone(), &graph, made.expect("made"), &mut silent);
    let session = session.expect("keys");
    let found = session.run(inputs[0].values(), Precision::Unmeasured, &mut silent);
    let found = found.expect("runs").values;
    let want = graph.evaluate(&inputs[0]).expect("fits").output;
    let off = found.iter().zip(want.values()).map(|(f, w)| (f - w).abs());
    let off = off.fold(0.0, f64::max);
    println!("largest error {off:.1e}, stated {stated:.1e}");
    assert!(
        found.len() == outputs && off > 0.0 && off <= stated,
        "{off} {stated}"
    );
    // what is stated is not so wide that it says nothing
    assert!(off > stated / 1e4, "{off} {stated}");
    plan.parameters().spec().log_n
}

#[test]
fn answers_in_rings_of_different_sizes_are_within_what_is_stated() {
    assert_eq!(runs(&table()), 13);
    assert_eq!(runs(&small(2, 8)), 14);
}

#[test]
#[ignore = "seconds in release: the network of the tutorial on chest X-rays"]
fn the_network_of_the_tutorial() {
    assert!(runs(&small(16, 28)) < 16);
}

/// A model from `x` of these lengths to `y`: operators with inputs, outputs and lists of integers or numbers, and constants.
fn imported(input: &[i64], nodes: &[Operator], constants: &[(&str, &[i64], Constant)]) -> Graph {
    use nn::format::onnx::{Options, from_proto};
    use nn::format::onnx_proto::*;
    let info = |name: &str, dims: &[i64]| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: 1,
                shape: Some(TensorShapeProto {
                    dim: (dims.iter())
                        .map(|&dim_value| DimensionProto {
                            dim_value,
                            ..DimensionProto::default()
                        })
                        .collect(),
                }),
            }),
        }),
    };
    let words = |text: &str| text.split(' ').map(String::from).collect();
    let attribute = |(name, value): &(&str, Attribute)| {
        let mut a = AttributeProto {
            name: (*name).into(),
            ..AttributeProto::default()
        };
        match value {
            Attribute::One(i) => (a.i, a.r#type) = (*i, 2),
            Attribute::Number(f) => (a.f, a.r#type) = (*f, 1),
            Attribute::List(ints) => (a.ints, a.r#type) = (ints.to_vec(), 7),
            Attribute::Text(s) => (a.s, a.r#type) = (s.as_bytes().to_vec(), 3),
        }
        a
    };
    let mut state = 5;
    let model = ModelProto {
        graph: Some(GraphProto {
            node: (nodes.iter())
                .map(|(op, input, output, attributes)| NodeProto {
                    op_type: (*op).into(),
                    input: words(input),
                    output: words(output),
                    attribute: attributes.iter().map(attribute).collect(),
                    ..NodeProto::default()
                })
                .collect(),
            initializer: (constants.iter())
                .map(|(name, dims, constant)| {
                    let mut t = TensorProto {
                        name: (*name).into(),
                        dims: dims.to_vec(),
                        ..TensorProto::default()
                    };
                    let count = dims.iter().product::<i64>();
                    match constant {
                        Constant::Random => {
                            t.data_type = 1;
                            t.float_data = (0..count)
                                .map(|_| 0.5 * uniform(&mut state) as f32)
                                .collect();
                        }
                        Constant::Floats(v) => (t.data_type, t.float_data) = (1, v.to_vec()),
                        Constant::Integers(v) => (t.data_type, t.int64_data) = (7, v.to_vec()),
                    }
                    t
                })
                .collect(),
            input: vec![info("x", input)],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            version: 18,
            ..OperatorSetIdProto::default()
        }],
        ..ModelProto::default()
    };
    from_proto(&model, Options::default()).expect("imports")
}

type Operator = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, Attribute)],
);

enum Attribute {
    One(i64),
    Number(f32),
    List(&'static [i64]),
    Text(&'static str),
}

enum Constant {
    Random,
    Floats(&'static [f32]),
    Integers(&'static [i64]),
}

use Attribute::{List, Number, One, Text};
use Constant::{Floats, Integers, Random};

#[test]
#[ignore = "seconds in release: imported operators under encryption"]
fn squeeze_and_excite_with_hard_functions_gives_an_encrypted_answer() {
    let graph = imported(
        &[1, 2, 8, 8],
        &[
            (
                "Conv",
                "x w",
                "a",
                &[("pads", List(&[1, 1, 1, 1])), ("strides", List(&[2, 2]))],
            ),
            ("HardSwish", "a", "b", &[]),
            ("GlobalAveragePool", "b", "c", &[]),
            ("Conv", "c v", "d", &[]),
            (
                "HardSigmoid",
                "d",
                "e",
                &[("alpha", Number(0.25)), ("beta", Number(0.5))],
            ),
            ("Mul", "b e", "f", &[]),
            ("LeakyRelu", "f", "g", &[("alpha", Number(0.2))]),
            (
                "ReduceMean",
                "g",
                "y",
                &[("axes", List(&[2, 3])), ("keepdims", One(0))],
            ),
        ],
        &[("w", &[4, 2, 3, 3], Random), ("v", &[4, 4, 1, 1], Random)],
    );
    println!("2^{}", encrypted(&graph, 4));
}

#[test]
#[ignore = "seconds in release: imported operators under encryption"]
fn parts_and_sizes_of_pictures_give_an_encrypted_answer() {
    let graph = imported(
        &[1, 4, 4, 4],
        &[
            (
                "Split",
                "x",
                "a b",
                &[("axis", One(1)), ("num_outputs", One(2))],
            ),
            ("Resize", "a   sizes", "c", &[("mode", Text("linear"))]),
            ("ConvTranspose", "b w", "d", &[("strides", List(&[2, 2]))]),
            ("Sub", "d c", "e", &[]),
            ("Neg", "c", "f", &[]),
            ("Concat", "e f", "g", &[("axis", One(1))]),
            ("Pad", "g pads", "h", &[("mode", Text("reflect"))]),
            ("Pow", "h two", "i", &[]),
            ("Div", "i by", "j", &[]),
            ("Clip", "j zero six", "k", &[]),
            ("Slice", "k begin end axes steps", "l", &[]),
            ("ReduceSum", "l sum", "y", &[("keepdims", One(0))]),
        ],
        &[
            ("sizes", &[4], Integers(&[1, 2, 8, 8])),
            ("w", &[2, 2, 2, 2], Random),
            ("pads", &[8], Integers(&[0, 0, 1, 1, 0, 0, -2, 1])),
            ("two", &[], Floats(&[2.0])),
            ("by", &[1, 4, 1, 1], Floats(&[0.5, 0.6, 0.7, 0.8])),
            ("zero", &[], Floats(&[0.0])),
            ("six", &[], Floats(&[6.0])),
            ("begin", &[1], Integers(&[-1])),
            ("end", &[1], Integers(&[0])),
            ("axes", &[1], Integers(&[3])),
            ("steps", &[1], Integers(&[-3])),
            ("sum", &[2], Integers(&[2, 3])),
        ],
    );
    println!("2^{}", encrypted(&graph, 4));
}

#[test]
#[ignore = "seconds in release: imported operators under encryption"]
fn tokens_moved_and_multiplied_give_an_encrypted_answer() {
    let graph = imported(
        &[1, 6, 8],
        &[
            ("MatMul", "x w", "a", &[]),
            ("Add", "a bias", "b", &[]),
            ("Reshape", "b heads", "c", &[]),
            ("Transpose", "c", "d", &[("perm", List(&[0, 2, 1, 3]))]),
            ("Transpose", "c", "e", &[("perm", List(&[0, 2, 3, 1]))]),
            ("MatMul", "d e", "f", &[]),
            ("Softplus", "f", "g", &[]),
            ("MatMul", "g d", "h", &[]),
            ("Transpose", "h", "i", &[("perm", List(&[0, 2, 1, 3]))]),
            ("Reshape", "i flat", "j", &[]),
            ("Gather", "j first", "k", &[("axis", One(1))]),
            ("Gemm", "k v", "y", &[("transB", One(1))]),
        ],
        &[
            ("w", &[8, 4], Random),
            ("bias", &[4], Random),
            ("heads", &[4], Integers(&[1, 6, 2, 2])),
            ("flat", &[3], Integers(&[0, 0, -1])),
            ("first", &[], Integers(&[0])),
            ("v", &[3, 4], Random),
        ],
    );
    println!("2^{}", encrypted(&graph, 3));
}
