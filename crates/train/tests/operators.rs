//! Every operator in training against the f64 oracle, both ways: outputs, and derivatives against differences of the oracle. Inputs come from a
//! linear layer each, whose biases' gradients are the gradients by the operator's inputs.

use approx::{Activation, Polynomial};
use nn::attention::{Denominator, Order, Scaling, Undivided};
use nn::format::onnx;
use nn::op::{AxisSlice, Boundary};
use nn::{
    Attention, AttentionScheme, AvgPool, BatchNorm, Conv2d, Graph, Linear, Mask, MaxPool, NodeId,
    Nonlinearity, Norm, NormKind, Op, Pad, Padding, Pairing, Parameter, PowerSoftmax, Rearrange,
    Repeat, Rotary, Shape, Slice, Softmax, Tensor, Unfold,
};
use std::path::Path;
use train::mode::Mode;
use train::{Model, Parameterization};
use zoo::random::uniform;

/// Numbers that every network here begins with.
const INPUTS: usize = 5;
const BATCH: usize = 2;

fn parameter(name: &str, shape: &[usize], bound: f64) -> Parameter {
    let count = shape.iter().product();
    Parameter::new(name, shape.to_vec(), uniform(3, name, count, bound)).expect("finite")
}

/// Of one size, none near 0.
fn positive(name: &str, count: usize) -> Parameter {
    let values: Vec<f32> = (uniform(4, name, count, 0.4).iter())
        .map(|v| 1.0 + v)
        .collect();
    Parameter::new(name, [count], values).expect("finite")
}

struct Builder(nn::NetworkBuilder<Nonlinearity>);

impl Builder {
    fn add(&mut self, name: &str, op: Op<Nonlinearity>, inputs: &[NodeId]) -> NodeId {
        self.0.add(name, op, inputs).expect("fits")
    }

    /// A value of this shape that depends on parameters: around `centre`, at most 1 away from it.
    fn port(&mut self, name: &str, x: NodeId, shape: Shape, centre: f32) -> NodeId {
        let bias = uniform(5, name, shape.len(), 0.5);
        let bias: Vec<f32> = bias.iter().map(|v| centre + v).collect();
        let op = Op::Linear(Linear {
            weight: parameter(name, &[shape.len(), INPUTS], 0.2),
            bias: Some(Parameter::new(name, [shape.len()], bias).expect("finite")),
        });
        let x = self.add(name, op, &[x]);
        self.add(&format!("{name}.shape"), Op::Reshape(shape), &[x])
    }
}

/// The inputs of a batch, `(n, INPUTS)`.
fn inputs(width: usize) -> Vec<f32> {
    uniform(6, "inputs", BATCH * width, 1.0)
}

/// What the oracle gives for a batch whose inputs are vectors, in its own order.
fn oracle(graph: &Graph, x: &[f32]) -> Vec<f64> {
    let shape = graph.input().shape();
    let one = |x: &[f32]| {
        let x = x.iter().map(|&v| f64::from(v)).collect();
        let x = Tensor::new(shape, x).expect("fits");
        let y = graph.evaluate(&x).expect("evaluates").output;
        y.values().to_vec()
    };
    x.chunks_exact(shape.len()).flat_map(one).collect()
}

/// Compares outputs, and every parameter's derivatives of Σ weight·output with differences of the oracle.
fn check(name: &str, graph: Graph) {
    let mut model = Model::new(graph, Parameterization::Plain).unwrap_or_else(|e| {
        panic!("{name}: {e}");
    });
    // the oracle normalises by running statistics
    model.frozen = true;
    let x = inputs(model.input_shape().len());
    let weights = uniform(7, name, BATCH * model.outputs(), 1.0);
    let lost = |y: &[f64]| -> f64 { y.iter().zip(&weights).map(|(y, &w)| y * f64::from(w)).sum() };
    let expected = oracle(&model.to_graph().expect("finite"), &x);
    let size = expected.iter().fold(0.1f64, |m, v| m.max(v.abs()));
    for mode in [Mode::Evaluate, Mode::Train] {
        let y = model.forward(x.clone(), BATCH, mode);
        assert_eq!(y.len(), expected.len(), "{name}");
        for (y, e) in y.iter().zip(&expected) {
            let off = (f64::from(*y) - e).abs();
            assert!(off < 2e-5 * size, "{name}, {mode:?}: {y} instead of {e}");
        }
    }
    model.clear_gradients();
    model.backward(weights.clone());
    let mut compared = 0;
    for k in 0..model.parameters.len() {
        let parameter = &model.parameters[k];
        let (gradient, called) = (parameter.gradient.clone(), parameter.name.clone());
        let largest = gradient.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for i in (0..gradient.len()).step_by((gradient.len() / 24).max(1)) {
            let old = model.parameters[k].values[i];
            let mut at = |v: f32| {
                model.parameters[k].values[i] = v;
                lost(&oracle(&model.to_graph().expect("finite"), &x))
            };
            let g = f64::from(gradient[i]);
            // a kink may lie within a long step, which a short one does not reach
            let mut slopes = Vec::new();
            let agrees = [2e-4, 2e-5, 2e-6].into_iter().any(|step: f32| {
                let (above, below) = (old + step, old - step);
                let slope = (at(above) - at(below)) / f64::from(above - below);
                slopes.push(slope);
                (slope - g).abs() < 2e-4 * (f64::from(largest) + slope.abs()) + 1e-5 * size
            });
            at(old);
            assert!(
                agrees,
                "{name}, {called}[{i}]: differences {slopes:?}, gradient {g}"
            );
            compared += 1;
        }
    }
    assert!(compared > 0, "{name} has parameters");
}

/// A network around operators: `build` is given values of these shapes around `centre`.
fn around(
    shapes: &[Shape],
    centre: f32,
    build: impl FnOnce(&mut Builder, &[NodeId]) -> NodeId,
) -> Graph {
    let mut b = Builder(Graph::builder());
    let x = b.0.input("x", Shape::Vector(INPUTS)).expect("fits");
    let ports: Vec<NodeId> = (shapes.iter().enumerate())
        .map(|(i, &s)| b.port(&format!("port{i}"), x, s, centre))
        .collect();
    let y = build(&mut b, &ports);
    let y = b.add("flat", Op::Flatten, &[y]);
    b.0.finish(y).expect("a network")
}

/// As [`around`], of one operator.
fn one(shapes: &[Shape], op: Op<Nonlinearity>) -> Graph {
    around(shapes, 0.0, |b, ports| b.add("op", op, ports))
}

fn image(c: usize, h: usize, w: usize) -> Shape {
    Shape::image(c, h, w)
}

fn padding(top: usize, left: usize, bottom: usize, right: usize) -> Padding {
    Padding {
        top,
        left,
        bottom,
        right,
    }
}

#[test]
fn convolutions() {
    // input; weights; stride, padding, dilation, groups
    type Geometry = ((usize, usize), Padding, (usize, usize), usize);
    let plain = ((1, 1), Padding::default(), (1, 1), 1);
    let cases: [(&str, Shape, [usize; 4], Geometry); 12] = [
        ("plain", image(3, 6, 5), [4, 3, 3, 3], plain),
        ("pointwise", image(5, 3, 4), [6, 5, 1, 1], plain),
        ("on a vector's pixel", image(5, 1, 1), [3, 5, 1, 1], plain),
        ("on tokens", image(5, 1, 7), [3, 5, 1, 1], plain),
        (
            "of a signal",
            image(4, 1, 11),
            [6, 2, 1, 5],
            ((1, 2), padding(0, 2, 0, 1), (1, 2), 2),
        ),
        (
            "of a signal along columns",
            image(2, 9, 1),
            [3, 2, 3, 1],
            ((2, 1), padding(1, 0, 1, 0), (1, 1), 1),
        ),
        (
            "strided",
            image(3, 9, 8),
            [5, 3, 3, 2],
            ((2, 3), padding(1, 0, 2, 1), (1, 1), 1),
        ),
        (
            "strided 1×1",
            image(4, 7, 7),
            [6, 4, 1, 1],
            ((2, 2), Padding::default(), (1, 1), 1),
        ),
        (
            "dilated",
            image(2, 9, 9),
            [3, 2, 3, 3],
            ((1, 1), Padding::same(2), (2, 3), 1),
        ),
        (
            "grouped",
            image(6, 5, 5),
            [9, 2, 3, 3],
            ((1, 1), Padding::same(1), (1, 1), 3),
        ),
        (
            "depthwise",
            image(5, 9, 8),
            [5, 1, 7, 7],
            ((1, 1), Padding::same(3), (1, 1), 5),
        ),
        (
            "depthwise, strided, more outputs",
            image(3, 8, 7),
            [6, 1, 3, 3],
            ((2, 2), padding(0, 1, 1, 0), (1, 1), 3),
        ),
    ];
    for (name, shape, weight, (stride, padding, dilation, groups)) in cases {
        for bias in [true, false] {
            let op = Op::Conv2d(Conv2d {
                weight: parameter("weight", &weight, 0.7),
                bias: bias.then(|| parameter("bias", &weight[..1], 0.5)),
                stride,
                padding,
                dilation,
                groups,
            });
            check(name, one(&[shape], op));
        }
    }
}

#[test]
fn linear_layers_and_normalisations() {
    let linear = Op::Linear(Linear {
        weight: parameter("weight", &[4, 7], 0.7),
        bias: None,
    });
    check("linear", one(&[Shape::Vector(7)], linear));
    for shape in [Shape::Vector(6), image(6, 1, 5), image(6, 3, 4)] {
        let batch = BatchNorm {
            scale: positive("scale", 6),
            bias: parameter("bias", &[6], 0.5),
            mean: parameter("mean", &[6], 0.5),
            variance: positive("variance", 6),
            epsilon: 1e-3,
        };
        check(
            &format!("batch norm of {shape}"),
            one(&[shape], Op::BatchNorm(batch)),
        );
        for kind in [NormKind::Layer, NormKind::RootMeanSquare] {
            for bias in [true, false] {
                let norm = Norm {
                    kind,
                    scale: positive("scale", 6),
                    epsilon: 1e-5,
                    bias: bias.then(|| parameter("bias", &[6], 0.5)),
                };
                check(
                    &format!("{kind:?} norm of {shape}"),
                    one(&[shape], Op::Norm(norm)),
                );
            }
        }
        for kind in [Softmax::Shares, Softmax::Logarithms] {
            check(
                &format!("{kind:?} of {shape}"),
                one(&[shape], Op::Softmax(kind)),
            );
        }
    }
}

#[test]
fn functions() {
    for f in Activation::ALL {
        // roots and inverses are of positive numbers
        let centre = match f {
            Activation::Sqrt | Activation::Reciprocal => 2.0,
            _ => 0.0,
        };
        let op = Op::Elementwise(f.into());
        let graph = around(&[image(3, 4, 5)], centre, |b, x| b.add("op", op.clone(), x));
        check(f.name(), graph);
        let wide = around(&[Shape::Vector(24)], centre, |b, x| {
            let stretch = match centre == 0.0 {
                true => Polynomial::from_monomial(&[0.3, 5.0], (-4.0, 4.0)),
                false => Polynomial::from_monomial(&[0.1, 1.5], (-4.0, 4.0)),
            };
            let stretch = Op::Elementwise(Nonlinearity::Polynomial(stretch.expect("finite")));
            let x = b.add("stretch", stretch, x);
            b.add("op", op, &[x])
        });
        check(f.name(), wide);
    }
    for coefficients in [
        &[0.7][..],
        &[0.1, -2.0],
        &[0.1, 0.5, 0.2],
        &[0.1, 0.5, 0.2, -0.1, 0.3],
    ] {
        let p = Polynomial::from_monomial(coefficients, (-2.0, 3.0)).expect("finite");
        let op = Op::Elementwise(Nonlinearity::Polynomial(p));
        check("polynomial", one(&[image(3, 4, 5)], op));
    }
}

#[test]
fn sums_products_and_constants() {
    let shape = image(3, 4, 2);
    for op in [Op::Add, Op::Mul] {
        check("of two", one(&[shape, shape], op.clone()));
        let twice = around(&[shape], 0.0, |b, x| b.add("op", op.clone(), &[x[0], x[0]]));
        check("with itself", twice);
        for swapped in [false, true] {
            let graph = around(&[shape], 0.0, |b, x| {
                let values = parameter("constant", &[shape.len()], 1.0);
                let c = b.add("constant", Op::Constant(shape, values), &[]);
                let inputs = if swapped { [c, x[0]] } else { [x[0], c] };
                b.add("op", op.clone(), &inputs)
            });
            check("with a constant", graph);
        }
        // squeeze and excite: one number a channel, repeated
        let graph = around(&[shape, image(3, 1, 1)], 0.0, |b, x| {
            let spread = Rearrange {
                shape,
                offsets: vec![(0..3).collect(), vec![0; 8]],
            };
            let y = b.add("spread", Op::Rearrange(spread), &x[1..]);
            b.add("op", op.clone(), &[x[0], y])
        });
        check("with one number a channel", graph);
    }
}

#[test]
fn pools() {
    for (kernel, stride, padding) in [
        ((2, 2), (2, 2), Padding::default()),
        ((3, 2), (1, 2), padding(1, 0, 2, 1)),
        ((3, 3), (2, 2), Padding::same(1)),
    ] {
        for count_include_pad in [true, false] {
            let op = Op::AvgPool(AvgPool {
                kernel,
                stride,
                padding,
                count_include_pad,
            });
            check(&format!("{op:?}"), one(&[image(3, 7, 6)], op));
        }
    }
    check("global mean", one(&[image(3, 4, 5)], Op::GlobalAvgPool));
}

#[test]
fn values_that_only_move() {
    let shape = image(3, 4, 5);
    let slice = |begin, end, step| AxisSlice { begin, end, step };
    let sequence = image(3, 1, 6);
    let pad = |before, after, spatial| {
        Op::Pad(Pad {
            channels: (before, after),
            spatial,
        })
    };
    let rearrange = |shape: Shape, offsets: &[&[u32]]| {
        Op::Rearrange(Rearrange {
            shape,
            offsets: offsets.iter().map(|o| o.to_vec()).collect(),
        })
    };
    let none = Rearrange::ZERO;
    let cases = [
        (shape, pad(0, 0, padding(1, 2, 0, 1))),
        (shape, pad(2, 1, Padding::default())),
        (
            shape,
            Op::Slice(Slice {
                axes: vec![slice(1, 3, 1), slice(0, 4, 2), slice(1, 5, 3)],
            }),
        ),
        (
            Shape::Vector(9),
            Op::Slice(Slice {
                axes: vec![slice(2, 9, 3)],
            }),
        ),
        (shape, Op::Flatten),
        (shape, Op::Identity),
        (shape, Op::Reshape(image(10, 2, 3))),
        (shape, Op::Reshape(Shape::Vector(60))),
        (Shape::Vector(12), Op::Reshape(image(2, 3, 2))),
        // rows and columns exchanged; twice as large; a frame of zeros
        (
            shape,
            rearrange(
                image(3, 5, 4),
                &[&[0, 20, 40], &[0, 1, 2, 3, 4], &[0, 5, 10, 15]],
            ),
        ),
        (
            image(2, 2, 2),
            rearrange(image(2, 4, 4), &[&[0, 4], &[0, 0, 2, 2], &[0, 0, 1, 1]]),
        ),
        (
            image(2, 2, 2),
            rearrange(
                image(3, 2, 4),
                &[&[none, 4, 0], &[0, 2], &[none, 0, 1, none]],
            ),
        ),
        (
            sequence,
            Op::Unfold(Unfold {
                rows: 8,
                boundary: Boundary::Causal,
            }),
        ),
        (
            sequence,
            Op::Unfold(Unfold {
                rows: 6,
                boundary: Boundary::Cyclic,
            }),
        ),
        (sequence, Op::Repeat(Repeat { rows: 3 })),
    ];
    for (shape, op) in cases {
        check(&format!("{op:?} of {shape}"), one(&[shape], op));
    }
}

#[test]
fn rotary_positions() {
    for pairing in [Pairing::Adjacent, Pairing::Half] {
        for rotated in [4, 6] {
            let op = Op::Rotary(Rotary {
                head: 6,
                rotated,
                base: 100.0,
                pairing,
                first: 2,
            });
            check(&format!("{pairing:?}"), one(&[image(12, 1, 5)], op));
        }
    }
}

#[test]
fn attention() {
    let power = |exponent, denominator, scaling| {
        let p = PowerSoftmax::new(exponent, 1e-2).expect("valid");
        AttentionScheme::Power(p.over(denominator).scaled(scaling))
    };
    let schemes = [
        AttentionScheme::Softmax,
        power(2, Denominator::Sum, Scaling::None),
        power(4, Denominator::Mean, Scaling::Largest),
        AttentionScheme::Undivided(Undivided::new(4).expect("valid")),
    ];
    let (length, width) = (5, 3);
    for scheme in schemes {
        for (heads, kv_heads) in [(1, 1), (2, 2), (4, 2)] {
            let [q, k] = [heads, kv_heads].map(|h| image(h * width, 1, length));
            for order in [Order::Causal, Order::Full, Order::Marked] {
                for valid in [None, Some(3)] {
                    let op = Op::Attention(Attention {
                        heads,
                        kv_heads,
                        scale: 1.3,
                        mask: Mask { order, valid },
                        scheme,
                    });
                    let name = format!("{op:?}");
                    let graph = around(&[q, k, k], 0.0, |b, x| {
                        let mut x = x.to_vec();
                        if order == Order::Marked {
                            let marks = [1.0, 1.0, 1.0, 1.0, 0.0];
                            let marks = Parameter::new("marks", [5], marks.to_vec());
                            let marks = Op::Constant(image(1, 1, 5), marks.expect("finite"));
                            x.push(b.add("marks", marks, &[]));
                        }
                        b.add("op", op, &x)
                    });
                    check(&name, graph);
                }
            }
        }
    }
}

#[test]
fn a_maximum_is_refused_with_its_node_and_what_takes_its_place() {
    let pool = MaxPool {
        kernel: (3, 3),
        stride: (2, 2),
        padding: Padding::same(1),
        ceil_mode: true,
    };
    let graph = one(&[image(2, 6, 6)], Op::MaxPool(pool));
    let e = Model::new(graph.clone(), Parameterization::Plain).expect_err("refused");
    let words = ["op", "MaxPool", "mean over the same windows"];
    assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
    check("its mean", graph.with_average_pools().expect("replaces"));
}

/// A network as exporters write it, its input given by a linear layer, too.
fn behind_a_layer(graph: &Graph) -> Graph {
    let mut b = Builder(Graph::builder());
    let x = b.0.input("x", Shape::Vector(INPUTS)).expect("fits");
    let mut ids = Vec::new();
    for node in graph.nodes() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|i| ids[i.index()]).collect();
        ids.push(match node.op() {
            Op::Input(shape) => b.port("port", x, *shape, 0.0),
            op => b.add(node.name(), op.clone(), &inputs),
        });
    }
    let y = ids[graph.output().id().index()];
    let y = b.add("made flat", Op::Flatten, &[y]);
    b.0.finish(y).expect("a network")
}

/// Networks as exporters write them, with inputs of pictures, sequences and vectors.
#[test]
fn imported_networks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/import");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: there is no {}", folder.display());
        return;
    };
    let mut trained = 0;
    for file in files {
        let path = file.expect("a file").path();
        let name = path.display().to_string();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let Ok(graph) = onnx::from_bytes(&std::fs::read(&path).expect("reads")) else {
            continue;
        };
        let graph = graph.with_average_pools().expect("replaces");
        if graph.input().shape().len() > 200 {
            continue;
        }
        check(&name, behind_a_layer(&graph));
        trained += 1;
    }
    assert!(trained > 10, "{trained} networks of {}", folder.display());
    eprintln!("{trained} imported networks trained");
}

/// Random chains of operators and single ones, which the importer's tests hold against onnxruntime.
#[test]
fn imported_chains() {
    let files = [
        &include_bytes!("../../nn/tests/golden/chains.bin")[..],
        &include_bytes!("../../nn/tests/golden/operators.bin")[..],
    ];
    // that come to several operators, or to none of the importer's own
    let mut awaited = vec![
        "ConvTranspose",
        "Resize",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "ReduceL2",
        "Softmax",
        "Elu",
        "Selu",
        "Mish",
        "Softplus",
        "LeakyRelu",
        "PRelu",
        "Split",
        "Concat",
        "Clip",
        "Max",
        "Pow",
    ];
    let mut number = 0;
    for mut rest in files {
        // the model, its input and its answer, each behind its length
        let mut part = || {
            let (length, after) = rest.split_at_checked(4)?;
            let length = u32::from_le_bytes(length.try_into().expect("four")) as usize;
            let (bytes, after) = after.split_at(length);
            rest = after;
            Some(bytes)
        };
        while let Some(bytes) = part() {
            part();
            part();
            let graph = onnx::from_bytes(bytes).expect("reads");
            let graph = graph.with_average_pools().expect("replaces");
            check(&format!("chain {number}"), behind_a_layer(&graph));
            number += 1;
            // a node's operator is its field 4
            awaited.retain(|name| {
                let field = [&[0x22, name.len() as u8], name.as_bytes()].concat();
                !bytes.windows(field.len()).any(|w| w == field)
            });
        }
    }
    assert!(number > 200, "{number} chains");
    assert!(awaited.is_empty(), "no chain has {awaited:?}");
}
