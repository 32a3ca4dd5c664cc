//! Networks that must not construct.

use crate::Stream;
use approx::{Activation, Polynomial};
use polyveil_nn::lower::{Options, adapt};
use polyveil_nn::{
    AvgPool, AxisSlice, BatchNorm, Conv2d, Error, Graph, Linear, MaxPool, NetworkBuilder,
    Nonlinearity, Op, Pad, Padding, Parameter, PolyGraph, Range, Shape, Slice, Tensor,
};

fn start(shape: Shape) -> (NetworkBuilder<Nonlinearity>, polyveil_nn::NodeId) {
    let mut b = Graph::builder();
    let x = b.input("x", shape).expect("valid");
    (b, x)
}

/// The detail of the refusal of `op` on `shape`.
fn refused(op: Op<Nonlinearity>, shape: Shape) -> String {
    let (mut b, x) = start(shape);
    let inputs = vec![x; op.arity()];
    match b.add("bad", op, &inputs) {
        Err(Error::Invalid { node, detail, .. }) if node == "bad" => detail,
        other => panic!("refusal expected: {other:?}"),
    }
}

#[test]
fn operators_refuse_what_they_cannot_take() {
    let mut s = Stream::new(4);
    let image = Shape::image(3, 8, 8);
    let conv = Conv2d::new(s.parameter(&[4, 3, 3, 3]));
    let with = |f: fn(&mut Conv2d)| {
        let mut c = conv.clone();
        f(&mut c);
        Op::Conv2d(c)
    };
    assert!(refused(with(|c| c.groups = 2), image).contains("groups"));
    assert!(refused(with(|c| c.groups = 0), image).contains("groups"));
    assert!(refused(with(|c| c.stride = (0, 1)), image).contains("window"));
    assert!(refused(with(|c| c.dilation = (9, 1)), image).contains("window"));
    assert!(refused(with(|c| c.dilation = (0, 1)), image).contains("dilation"));
    assert!(refused(with(|c| c.padding.top = usize::MAX), image).contains("window"));
    assert!(refused(with(|c| c.bias = Some(c.weight.clone())), image).contains("bias"));
    assert!(refused(Op::Conv2d(conv.clone()), Shape::Vector(9)).contains("needs an image"));
    assert!(refused(Op::Conv2d(conv), Shape::image(5, 8, 8)).contains("takes 3 channels"));
    assert!(refused(Op::Conv2d(Conv2d::new(s.parameter(&[4, 3]))), image).contains("4 axes"));
    let dense = |s: &mut Stream, shape: &[usize]| {
        Op::Linear(Linear {
            weight: s.parameter(shape),
            bias: None,
        })
    };
    assert!(refused(dense(&mut s, &[4, 5]), Shape::Vector(6)).contains("(5)"));
    assert!(refused(dense(&mut s, &[4]), Shape::Vector(4)).contains("2 axes"));
    let p = |v: Vec<f32>| Parameter::new("p", [v.len()], v).expect("finite");
    let norm = |variance: f32, epsilon: f64, n: usize| {
        let ones = || p(vec![1.0; n]);
        Op::BatchNorm(BatchNorm {
            scale: ones(),
            bias: ones(),
            mean: ones(),
            variance: p(vec![variance; n]),
            epsilon,
        })
    };
    assert!(refused(norm(1.0, 1e-5, 2), image).contains("shape"));
    assert!(refused(norm(-1.0, 1e-5, 3), image).contains("variance"));
    assert!(refused(norm(0.0, 0.0, 3), image).contains("variance"));
    assert!(refused(norm(1.0, f64::NAN, 3), image).contains("epsilon"));
    let pool = |kernel, padding| {
        Op::AvgPool(AvgPool {
            kernel,
            stride: (1, 1),
            padding,
            count_include_pad: true,
        })
    };
    assert!(refused(pool((9, 1), Padding::default()), image).contains("window"));
    assert!(refused(pool((2, 2), Padding::same(2)), image).contains("smaller"));
    assert!(refused(Op::GlobalAvgPool, Shape::Vector(3)).contains("image"));
    assert!(
        refused(
            Op::Pad(Pad {
                channels: (usize::MAX, 1),
                spatial: Padding::default()
            }),
            image
        )
        .contains("large")
    );
    assert!(
        refused(
            Op::Pad(Pad {
                channels: (1 << 40, 1),
                spatial: Padding::default()
            }),
            image
        )
        .contains("larger")
    );
    let axis = |begin, end, step| AxisSlice { begin, end, step };
    assert!(
        refused(
            Op::Slice(Slice {
                axes: vec![axis(0, 3, 1)]
            }),
            image
        )
        .contains("axes")
    );
    assert!(
        refused(
            Op::Slice(Slice {
                axes: vec![axis(0, 3, 1), axis(0, 9, 1), axis(0, 8, 1)]
            }),
            image
        )
        .contains("axis 1")
    );
    assert!(
        refused(
            Op::Slice(Slice {
                axes: vec![axis(2, 2, 1)]
            }),
            Shape::Vector(4)
        )
        .contains("not possible")
    );
    assert!(
        refused(
            Op::Slice(Slice {
                axes: vec![axis(0, 2, 0)]
            }),
            Shape::Vector(4)
        )
        .contains("not possible")
    );
    assert!(refused(Op::Reshape(Shape::Vector(5)), image).contains("numbers of values"));
    assert!(refused(Op::Constant(Shape::Vector(2), p(vec![1.0])), image).contains("does not fit"));
    assert!(refused(Op::Input(Shape::Vector(0)), image).contains("empty"));
}

#[test]
fn wiring_is_checked() {
    let (mut b, x) = start(Shape::Vector(2));
    assert!(matches!(
        b.add("x", Op::Flatten, &[x]),
        Err(Error::Name { .. })
    ));
    assert!(matches!(
        b.add("", Op::Flatten, &[x]),
        Err(Error::Name { .. })
    ));
    assert!(matches!(
        b.add("y", Op::Add, &[x]),
        Err(Error::Invalid { .. })
    ));
    let other = start(Shape::Vector(3));
    let wide = b
        .add("wide", Op::Reshape(Shape::image(2, 1, 1)), &[x])
        .expect("valid");
    assert!(
        matches!(b.add("z", Op::Add, &[x, wide]), Err(Error::Invalid { detail, .. }) if detail.contains("equal shapes"))
    );
    let mut small = other.0;
    assert!(matches!(
        small.add("q", Op::Flatten, &[wide]),
        Err(Error::Dangling { .. })
    ));
    assert!(matches!(small.finish(wide), Err(Error::Dangling { .. })));
    let second = b.input("x2", Shape::Vector(2)).expect("valid");
    let sum = b.add("sum", Op::Add, &[x, second]).expect("valid");
    assert!(matches!(b.clone().finish(sum), Err(Error::Inputs(2))));
    // What the output doesn't depend on is dropped, the second input included.
    let graph = b.finish(wide).expect("valid");
    assert_eq!(graph.nodes().len(), 2);
    assert!(matches!(
        graph.evaluate(&Tensor::zeros(Shape::Vector(3))),
        Err(Error::InputShape { .. })
    ));
}

#[test]
fn weights_must_be_finite_and_fit() {
    let e = Parameter::new("layer1.weight", [2], vec![1.0, f32::NAN]).expect_err("NaN");
    assert!(matches!(&e, Error::NotFinite { tensor, index: 1, .. } if tensor == "layer1.weight"));
    assert!(e.to_string().contains("layer1.weight"), "{e}");
    assert!(matches!(
        Parameter::new("w", [2], vec![f32::INFINITY, 0.0]),
        Err(Error::NotFinite { index: 0, .. })
    ));
    assert!(matches!(
        Parameter::new("w", [3], vec![0.0; 2]),
        Err(Error::Length {
            needed: 3,
            had: 2,
            ..
        })
    ));
    assert!(matches!(
        Tensor::new(Shape::Vector(3), vec![0.0; 2]),
        Err(Error::Length { .. })
    ));
}

fn silu_network() -> Graph {
    let (mut b, x) = start(Shape::image(3, 2, 2));
    let y = b
        .add("act1", Op::Elementwise(Activation::Silu.into()), &[x])
        .expect("valid");
    let y = b
        .add("act2", Op::Elementwise(Activation::Relu.into()), &[y])
        .expect("valid");
    b.finish(y).expect("valid")
}

#[test]
fn polynomial_networks_take_no_maximum() {
    let pool = MaxPool {
        kernel: (2, 2),
        stride: (2, 2),
        padding: Padding::default(),
        ceil_mode: false,
    };
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(1, 4, 4)).expect("valid");
    let y = b.add("pool", Op::MaxPool(pool), &[x]).expect("valid");
    let y = b
        .add("act", Op::Elementwise(Activation::Silu.into()), &[y])
        .expect("valid");
    let graph = b.finish(y).expect("valid");
    let refused = |e: Error| {
        assert!(matches!(&e, Error::Maximum(node) if node == "pool"), "{e}");
        let text = e.to_string();
        for word in ["pool", "maximum", "adapting", "average pool"] {
            assert!(text.contains(word), "{text}");
        }
    };
    refused(PolyGraph::try_from(graph.clone()).expect_err("a maximum"));
    refused(graph.refuse_maxima().expect_err("a maximum"));
    // before anything is computed: this input would be refused by its shape
    let wrong = vec![Tensor::zeros(Shape::Vector(1))];
    refused(adapt(&graph, &wrong, &Options::default()).expect_err("a maximum"));
    let mut b = polyveil_nn::Network::<Polynomial>::builder();
    let x = b.input("x", Shape::image(1, 4, 4)).expect("valid");
    refused(
        b.add("pool", Op::MaxPool(pool), &[x])
            .expect_err("a maximum"),
    );
    for (kernel, padding) in [((0, 2), 0), ((5, 5), 0), ((2, 2), 2)] {
        let bad = MaxPool {
            kernel,
            padding: Padding::same(padding),
            ..pool
        };
        let mut b = Graph::builder();
        let x = b.input("x", Shape::image(1, 4, 4)).expect("valid");
        assert!(matches!(
            b.add("pool", Op::MaxPool(bad), &[x]),
            Err(Error::Invalid { .. })
        ));
    }
}

#[test]
fn poly_graphs_need_polynomials_and_fitting_ranges() {
    let graph = silu_network();
    let e = PolyGraph::try_from(graph.clone()).expect_err("not a polynomial");
    assert!(
        matches!(&e, Error::NotPolynomial { node, function } if node == "act1" && function == "silu"),
        "{e}"
    );
    assert!(
        e.to_string().contains("calibrating") && e.to_string().contains("adapting"),
        "{e}"
    );
    assert_eq!(graph.activations().count(), 2);
    let square = Polynomial::from_monomial(&[0.0, 0.0, 1.0], (-2.0, 2.0)).expect("valid");
    let network = graph.try_map(|_, _| Ok(square.clone()));
    let poly = PolyGraph::from(network.expect("replaces"));
    assert_eq!(poly.polynomials().count(), 2);
    let one = Range { min: 0.0, max: 1.0 };
    assert!(matches!(
        poly.clone().with_ranges(vec![one]),
        Err(Error::Count {
            needed: 3,
            had: 1,
            ..
        })
    ));
    let bad = Range { min: 1.0, max: 0.0 };
    assert!(
        matches!(poly.clone().with_ranges(vec![one, bad, one]), Err(Error::Range { node, .. }) if node == "act1")
    );
    let ranged = poly.clone().with_ranges(vec![one; 3]).expect("fits");
    assert_eq!(ranged.range(ranged.output().id()), Some(one));
}
