//! Encrypted runs in the rings that the compiler chooses: answers within what is stated.

use approx::Activation;
use ckks::ParametersSpec;
use data::{Known, Vectors};
use nn::attention::PowerSoftmax;
use nn::{Graph, Linear, Metadata, Network, Nonlinearity, Op, Parameter, PolyGraph, Shape, Tensor};
use polyveil::calibrate::{Calibrating, Meaning, Pools, calibrate_network};
use polyveil::inputs::{Given, Source};
use polyveil::machine::{Machine, Probing};
use polyveil::progress::silent;
use polyveil::session::{Precision, Session};
use polyveil::{compile, compiler::Target, network};
use runtime::VerifiedPlan;
use std::sync::Arc;
use task::{Outputs, Stated};

/// Levels of the rings that protect nothing: as many as the deepest network here takes, and a few more.
const LEVELS: usize = 18;

/// Numbers in [−1, 1): SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// How the networks here become polynomial, unless they say otherwise.
fn usual() -> Calibrating {
    Calibrating {
        degree: 4,
        margin: 0.3,
        normalization: Stated::named("none"),
        ..Calibrating::default()
    }
}

/// Calibrated on random inputs, which are given too.
fn calibrated(graph: &Graph, how: &Calibrating) -> (PolyGraph, Vec<Tensor>) {
    tried(graph, how).expect("calibrates")
}

/// As [`calibrated`], which may be refused.
fn tried(graph: &Graph, how: &Calibrating) -> polyveil::Result<(PolyGraph, Vec<Tensor>)> {
    let (shape, mut state) = (graph.input().shape(), 7);
    let values: Vec<f64> = (0..20 * shape.len()).map(|_| uniform(&mut state)).collect();
    let each = values.chunks(shape.len());
    let inputs = each.map(|v| Tensor::new(shape, v.to_vec()).expect("fits"));
    let inputs = inputs.collect();
    let all = Vectors::new(shape.len(), values, Known::Nothing).expect("fits");
    let source = Source::given("random inputs", Given::Tensors(shape, all));
    let network = network::Network::Trained(graph.clone(), Metadata::default());
    let made = calibrate_network(network, &[source], how, &mut silent)?;
    Ok((made, inputs))
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
    Case::new(graph.clone(), 2).encrypted()
}

/// A network with so many outputs, and how it becomes polynomial.
struct Case {
    graph: Graph,
    outputs: usize,
    how: Calibrating,
}

impl Case {
    fn new(graph: Graph, outputs: usize) -> Self {
        let how = usual();
        Self {
            graph,
            outputs,
            how,
        }
    }

    /// log2 N of the ring that the compiler chooses; the answer of an encrypted run is within what the plan states.
    fn encrypted(&self) -> u32 {
        let (plan, off, stated, _) = self.run(Target::default());
        // what is stated is not so wide that it says nothing
        assert!(off > stated / 1e4, "{off} {stated}");
        plan.parameters().spec().log_n
    }

    /// The same in a ring that protects nothing, with so many levels.
    fn on_toy(&self, levels: usize) {
        let target = Target {
            parameters: Some(ParametersSpec::toy_levelled(11, levels)),
            ..Target::default()
        };
        let (_, _, stated, largest) = self.run(target);
        assert!(stated < 0.01 * largest, "{stated} of {largest}");
    }

    /// The plan, the answer's error and what is stated of it, and its largest value.
    fn run(&self, target: Target) -> (Arc<VerifiedPlan>, f64, f64, f64) {
        let (graph, inputs) = calibrated(&self.graph, &self.how);
        let plan = Arc::new(compile(&graph, &target).expect("compiles"));
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
            found.len() == self.outputs && off > 0.0 && off <= stated,
            "{off} {stated}"
        );
        let largest = want.values().iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        (plan, off, stated, largest)
    }
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
    imported_of(18, input, nodes, constants)
}

/// As [`imported`], of this opset.
fn imported_of(
    opset: i64,
    input: &[i64],
    nodes: &[Operator],
    constants: &[(&str, &[i64], Constant)],
) -> Graph {
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
                        Constant::Bytes => {
                            let byte = |_| (200.0 * uniform(&mut state)) as i8 as u8;
                            (t.data_type, t.raw_data) = (3, (0..count).map(byte).collect());
                        }
                    }
                    t
                })
                .collect(),
            input: vec![info("x", input)],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto {
            version: opset,
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
    /// Random integers of eight bits.
    Bytes,
}

use Attribute::{List, Number, One, Text};
use Constant::{Bytes, Floats, Integers, Random};

fn squeeze_and_excite() -> Case {
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
    Case::new(graph, 4)
}

fn parts_and_sizes() -> Case {
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
    Case::new(graph, 4)
}

fn tokens() -> Case {
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
    Case::new(graph, 3)
}

/// Functions that are polynomials of degree 7 of a linear layer.
fn functions() -> Case {
    let graph = imported(
        &[1, 8],
        &[
            ("Gemm", "x w", "a", &[("transB", One(1))]),
            ("Elu", "a", "b", &[("alpha", Number(0.7))]),
            ("Selu", "a", "c", &[]),
            ("Mish", "a", "d", &[]),
            ("Celu", "a", "e", &[("alpha", Number(0.5))]),
            ("PRelu", "a slopes", "f", &[]),
            ("Softsign", "a", "g", &[]),
            ("Add", "b c", "h", &[]),
            ("Sub", "d e", "i", &[]),
            ("Add", "f g", "j", &[]),
            ("Add", "h i", "k", &[]),
            ("Add", "k j", "l", &[]),
            ("Gemm", "l v", "y", &[("transB", One(1))]),
        ],
        &[
            ("w", &[8, 8], Random),
            ("slopes", &[1], Floats(&[0.2])),
            ("v", &[3, 8], Random),
        ],
    );
    Case {
        how: Calibrating {
            degree: 7,
            ..usual()
        },
        ..Case::new(graph, 3)
    }
}

/// What divides by a root: of groups, of channels alone, of all channels' energies.
fn norms() -> Case {
    let graph = imported_of(
        21,
        &[1, 2, 4, 4],
        &[
            ("Conv", "x k", "a", &[("pads", List(&[1, 1, 1, 1]))]),
            (
                "GroupNormalization",
                "a ones shifts",
                "b",
                &[("epsilon", Number(0.05)), ("num_groups", One(2))],
            ),
            (
                "InstanceNormalization",
                "a ones shifts",
                "c",
                &[("epsilon", Number(0.05))],
            ),
            // ConvNeXt V2's
            ("ReduceL2", "a places", "d", &[("keepdims", One(1))]),
            ("ReduceMean", "d channels", "e", &[("keepdims", One(1))]),
            ("Add", "e little", "f", &[]),
            ("Div", "d f", "g", &[]),
            ("Mul", "a g", "h", &[]),
            ("Mul", "h factors", "i", &[]),
            ("Add", "i a", "j", &[]),
            ("Add", "b c", "l", &[]),
            ("Add", "l j", "m", &[]),
            // of a channel's own norm a mean over all places would say nothing
            ("Conv", "m last", "n", &[]),
            ("GlobalAveragePool", "n", "o", &[]),
            ("Flatten", "o", "y", &[]),
        ],
        &[
            ("k", &[4, 2, 3, 3], Random),
            ("ones", &[4], Floats(&[1.0; 4])),
            ("shifts", &[4], Random),
            ("places", &[2], Integers(&[2, 3])),
            ("channels", &[1], Integers(&[1])),
            ("little", &[], Floats(&[0.1])),
            ("factors", &[1, 4, 1, 1], Random),
            ("last", &[4, 4, 3, 3], Random),
        ],
    );
    Case {
        how: Calibrating {
            bits: 10.0,
            ..usual()
        },
        ..Case::new(graph, 4)
    }
}

/// A norm over the features, and integers as weights.
fn layer_norm_and_integers() -> Case {
    let graph = imported(
        &[1, 8],
        &[
            (
                "DequantizeLinear",
                "bytes scales zeros",
                "w",
                &[("axis", One(0))],
            ),
            ("Gemm", "x w", "a", &[("transB", One(1))]),
            (
                "LayerNormalization",
                "a ones shifts",
                "b",
                &[("epsilon", Number(0.05))],
            ),
            ("Gemm", "b v", "y", &[("transB", One(1))]),
        ],
        &[
            ("bytes", &[6, 8], Bytes),
            (
                "scales",
                &[6],
                Floats(&[0.01, 0.012, 0.009, 0.01, 0.008, 0.011]),
            ),
            ("zeros", &[6], Bytes),
            ("ones", &[6], Floats(&[1.0; 6])),
            ("shifts", &[6], Random),
            ("v", &[3, 6], Random),
        ],
    );
    // the usual margin, and no activation: what is squared in the norm keeps no interval
    Case {
        how: Calibrating {
            bits: 10.0,
            margin: Calibrating::default().margin,
            ..usual()
        },
        ..Case::new(graph, 3)
    }
}

/// Attention as the exporters write it, whose softmax becomes powers; the one at the end goes.
fn attention() -> Case {
    let graph = imported(
        &[1, 4, 8],
        &[
            ("MatMul", "x wq", "q0", &[]),
            ("MatMul", "x wk", "k0", &[]),
            ("MatMul", "x wv", "v0", &[]),
            ("Reshape", "q0 heads", "q1", &[]),
            ("Reshape", "k0 heads", "k1", &[]),
            ("Reshape", "v0 heads", "v1", &[]),
            ("Transpose", "q1", "q", &[("perm", List(&[0, 2, 1, 3]))]),
            ("Transpose", "k1", "k", &[("perm", List(&[0, 2, 3, 1]))]),
            ("Transpose", "v1", "v", &[("perm", List(&[0, 2, 1, 3]))]),
            ("MatMul", "q k", "a", &[]),
            ("Mul", "a half", "b", &[]),
            ("Softmax", "b", "c", &[("axis", One(-1))]),
            ("MatMul", "c v", "d", &[]),
            ("Transpose", "d", "e", &[("perm", List(&[0, 2, 1, 3]))]),
            ("Reshape", "e rows", "f", &[]),
            ("MatMul", "f wo", "g", &[]),
            ("ReduceMean", "g tokens", "h", &[("keepdims", One(0))]),
            ("Softmax", "h", "y", &[("axis", One(-1))]),
        ],
        &[
            ("wq", &[8, 8], Random),
            ("wk", &[8, 8], Random),
            ("wv", &[8, 8], Random),
            ("wo", &[8, 3], Random),
            ("heads", &[4], Integers(&[1, 4, 2, 4])),
            ("rows", &[3], Integers(&[1, 4, 8])),
            ("half", &[], Floats(&[0.5])),
            ("tokens", &[1], Integers(&[1])),
        ],
    );
    Case {
        how: Calibrating {
            attention: Some(PowerSoftmax::new(2, 0.1).expect("even")),
            bits: 10.0,
            ..usual()
        },
        ..Case::new(graph, 3)
    }
}

/// Maxima that become means, and values written several times.
fn maxima_and_copies() -> Case {
    let graph = imported(
        &[1, 2, 4, 4],
        &[
            ("Conv", "x k", "a", &[("pads", List(&[1, 1, 1, 1]))]),
            ("Clip", "a zero six", "b", &[]),
            (
                "MaxPool",
                "b",
                "c",
                &[("kernel_shape", List(&[2, 2])), ("strides", List(&[2, 2]))],
            ),
            (
                "Resize",
                "c  twice",
                "d",
                &[
                    ("mode", Text("nearest")),
                    ("coordinate_transformation_mode", Text("asymmetric")),
                    ("nearest_mode", Text("floor")),
                ],
            ),
            ("Conv", "d l", "e", &[("pads", List(&[1, 1, 1, 1]))]),
            ("GlobalAveragePool", "e", "f", &[]),
            ("Flatten", "f", "y", &[]),
        ],
        &[
            ("k", &[4, 2, 3, 3], Random),
            ("zero", &[], Floats(&[0.0])),
            ("six", &[], Floats(&[6.0])),
            ("twice", &[4], Floats(&[1.0, 1.0, 2.0, 2.0])),
            ("l", &[3, 4, 3, 3], Random),
        ],
    );
    Case {
        how: Calibrating {
            pools: Pools::Average,
            ..usual()
        },
        ..Case::new(graph, 3)
    }
}

#[test]
fn moved_and_multiplied_values_give_a_decrypted_answer() {
    squeeze_and_excite().on_toy(LEVELS);
    parts_and_sizes().on_toy(LEVELS);
    tokens().on_toy(LEVELS);
    maxima_and_copies().on_toy(LEVELS);
}

#[test]
fn functions_and_norms_give_a_decrypted_answer() {
    functions().on_toy(LEVELS);
    norms().on_toy(LEVELS);
    layer_norm_and_integers().on_toy(LEVELS);
}

#[test]
fn attention_by_softmax_gives_a_decrypted_answer() {
    attention().on_toy(LEVELS);
}

#[test]
#[ignore = "seconds in release: imported operators in the rings that protect"]
fn imported_operators_in_the_rings_that_the_compiler_chooses() {
    for (name, case) in [
        ("squeeze and excite", squeeze_and_excite()),
        ("parts and sizes", parts_and_sizes()),
        ("tokens", tokens()),
        ("functions", functions()),
        ("norms", norms()),
        ("layer norm and integers", layer_norm_and_integers()),
        ("attention", attention()),
        ("maxima and copies", maxima_and_copies()),
    ] {
        println!("{name}: 2^{}", case.encrypted());
    }
}

/// A softmax at the end is left to whoever reads the answers, who takes it of all outputs: one over parts of them went unsaid.
#[test]
fn a_softmax_at_the_end_runs_over_all_outputs_or_is_refused() {
    let over = |opset, operator, shape: &'static [i64], axis, back| {
        let rank = [shape.len() as i64];
        let mut nodes: Vec<Operator> =
            vec![("MatMul", "x w", "l", &[]), ("Reshape", "l s", "r", &[])];
        let axis: &[(&str, Attribute)] = match axis {
            -1 => &[("axis", One(-1))],
            0 => &[("axis", One(0))],
            1 => &[("axis", One(1))],
            _ => &[("axis", One(2))],
        };
        match back {
            true => nodes.extend([(operator, "r", "q", axis), ("Flatten", "q", "y", &[][..])]),
            false => nodes.push((operator, "r", "y", axis)),
        }
        let outputs = [6, shape.iter().product()];
        let constants: [(&str, &[i64], _); 2] =
            [("w", &outputs, Random), ("s", &rank, Integers(shape))];
        imported_of(opset, &[1, 6], &nodes, &constants)
    };
    let pictures = imported(
        &[1, 1, 4, 4],
        &[
            ("Conv", "x k", "a", &[("pads", List(&[1, 1, 1, 1]))]),
            ("Softmax", "a", "y", &[("axis", One(1))]),
        ],
        &[("k", &[3, 1, 3, 3], Random)],
    );
    let (parts, alone) = ("over 3 of its 6 values", "over each value by itself");
    for (graph, node, says) in [
        (
            over(18, "Softmax", &[1, 2, 3], 1, false),
            "y",
            "over 2 of its 6 values",
        ),
        (over(18, "Softmax", &[1, 2, 3], -1, false), "y", parts),
        (over(18, "LogSoftmax", &[1, 2, 3], -1, false), "y", parts),
        (over(18, "Softmax", &[1, 2, 3], -1, true), "q", parts),
        (over(11, "Softmax", &[1, 2, 3], 2, false), "y", parts),
        (over(18, "Softmax", &[1, 6, 1, 1], -1, false), "y", alone),
        (over(18, "Softmax", &[1, 6], 0, false), "y", alone),
        (over(18, "Softmax", &[1, 1], 1, false), "y", alone),
        (pictures, "y", "over 3 of its 48 values"),
    ] {
        for outputs in [
            None,
            Some(Meaning::Classes(Vec::new())),
            Some(Meaning::Values(Vec::new())),
            Some(Meaning::Tensor),
        ] {
            let how = Calibrating { outputs, ..usual() };
            let refused = tried(&graph, &how).expect_err("of parts").to_string();
            for word in [
                format!("node {node} takes a softmax").as_str(),
                says,
                "export",
            ] {
                assert!(refused.contains(word), "{word:?} is missing in {refused}");
            }
        }
    }
    // wherever the axis of all outputs is; their shares are what the network gives
    for graph in [
        over(18, "Softmax", &[1, 6], -1, false),
        over(18, "Softmax", &[1, 6, 1, 1], 1, true),
        over(11, "Softmax", &[1, 2, 3], 1, false),
    ] {
        let (made, inputs) = calibrated(&graph, &usual());
        let task = network::task_of_graph(&made).expect("a task");
        assert_eq!(task.outputs(), Some(&Outputs::Classes(Vec::new())));
        let want = graph.evaluate(&inputs[3]).expect("fits").output;
        let scores = made.evaluate(&inputs[3]).expect("fits").output;
        let Ok(task::Answer::Classes(scores)) = task.decode(scores.values()) else {
            panic!("classes are decoded as such");
        };
        let top = scores.top(6);
        assert_eq!(top.len(), 6);
        for share in top {
            let want = want.values()[share.index];
            assert!((share.probability - want).abs() < 1e-6, "{share:?}: {want}");
        }
    }
}
