//! The model against finite differences and against the f64 oracle.

use approx::Activation;
use nn::Tensor;
use train::activation::{Function, RangeLoss};
use train::loss::Loss;
use train::mode::Mode;
use train::{Model, Parameterization};
use zoo::resnet::{ResNet, Skip};

fn network(skip: Skip) -> ResNet {
    ResNet {
        depth: 8,
        width: 4,
        classes: 3,
        input: (8, 8, 2),
        activation: Activation::Silu,
        skip,
    }
}

fn inputs(batch: usize) -> Vec<f32> {
    (0..batch * 128)
        .map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 1.5)
        .collect()
}

fn model(skip: Skip) -> Model {
    let parameterization = if skip.dirac() {
        Parameterization::Dirac
    } else {
        Parameterization::Plain
    };
    Model::new(network(skip).graph(3).expect("a network"), parameterization).expect("trains")
}

/// The loss of a batch in training mode, with the range losses.
fn loss(model: &mut Model, batch: usize) -> f64 {
    let labels: Vec<usize> = (0..batch).map(|i| i % 3).collect();
    let outputs = model.forward(inputs(batch), batch, Mode::Train).to_vec();
    let outcome = Loss::default().evaluate(&outputs, &labels, None);
    outcome.loss + model.backward(outcome.gradient)
}

fn check(model: &mut Model) {
    check_by(model, 2e-3);
}

/// Compares derivatives with differences over `h` to both sides.
fn check_by(model: &mut Model, h: f32) {
    let batch = 6;
    model.clear_gradients();
    loss(model, batch);
    let gradients: Vec<Vec<f32>> = model
        .parameters
        .iter()
        .map(|p| p.gradient.clone())
        .collect();
    let mut compared = 0;
    for (k, gradient) in gradients.iter().enumerate() {
        let (name, size) = (model.parameters[k].name.clone(), gradient.len());
        if !model.parameters[k].trainable {
            continue;
        }
        for i in (0..size).step_by((size / 4).max(1)) {
            let old = model.parameters[k].values[i];
            let mut at = |v: f32| {
                model.parameters[k].values[i] = v;
                loss(model, batch)
            };
            let slope = (at(old + h) - at(old - h)) / f64::from(2.0 * h);
            at(old);
            let g = f64::from(gradient[i]);
            let tolerance = 0.02 * slope.abs().max(g.abs()) + 2e-3;
            assert!(
                (slope - g).abs() < tolerance,
                "{name}[{i}]: difference {slope}, gradient {g}"
            );
            compared += 1;
        }
    }
    assert!(compared > 50, "only {compared} derivatives were compared");
}

/// An activation without a kernel of its own is trained by the registry's value and derivative, and agrees with the oracle.
#[test]
fn activations_without_kernels_are_trained() {
    let network = ResNet {
        activation: Activation::HardSwish,
        ..network(Skip::Standard)
    };
    let graph = network.graph(3).expect("a network");
    let mut model = Model::new(graph.clone(), Parameterization::Plain).expect("trains");
    // wider differences reach over the corners at ±3: their error goes from 6e-3 to 1e-4
    check_by(&mut model, 5e-4);
    let mut fresh = Model::new(graph.clone(), Parameterization::Plain).expect("trains");
    let outputs = fresh.forward(inputs(1), 1, Mode::Evaluate).to_vec();
    let x = inputs(1);
    // a batch is (height, width, channels), the oracle's image (channels, height, width)
    let planes = (0..2).flat_map(|c| (0..64).map(move |i| (c, i)));
    let values = planes.map(|(c, i)| f64::from(x[2 * i + c])).collect();
    let x = Tensor::new(nn::Shape::image(2, 8, 8), values).expect("fits");
    let oracle = graph.evaluate(&x).expect("fits").output;
    for (own, oracle) in outputs.iter().zip(oracle.values()) {
        assert!((f64::from(*own) - oracle).abs() < 1e-4, "{own} {oracle}");
    }
}

#[test]
fn gradients_are_differences_with_every_kind_of_skip() {
    for skip in [Skip::Standard, Skip::None, Skip::Dirac, Skip::LongShared] {
        check(&mut model(skip));
    }
}

#[test]
fn frozen_statistics_are_constants_and_stay() {
    let mut m = model(Skip::Standard);
    m.momentum = 0.5;
    m.forward(inputs(6), 6, Mode::Train);
    m.frozen = true;
    let statistics = |m: &Model| -> Vec<f32> {
        let graph = m.to_graph().expect("finite");
        let norms = graph.nodes().iter().filter_map(|n| match n.op() {
            nn::Op::BatchNorm(b) => Some([b.mean.values(), b.variance.values()].concat()),
            _ => None,
        });
        norms.flatten().collect()
    };
    let before = statistics(&m);
    let outputs = m.forward(inputs(6), 6, Mode::Train).to_vec();
    assert_eq!(outputs, m.forward(inputs(6), 6, Mode::Evaluate));
    check(&mut m);
    m.forward(inputs(4), 4, Mode::Train);
    assert_eq!(before, statistics(&m));
}

#[test]
fn gradients_of_polynomials_blends_and_range_losses() {
    for (function, range_loss) in [
        (
            Function::Polynomial,
            RangeLoss::Boundary {
                weight: 0.3,
                edge: 0.2,
            },
        ),
        (Function::Blend { ratio: 0.3 }, RangeLoss::None),
        (Function::Original, RangeLoss::Worst { weight: 0.05 }),
    ] {
        let mut m = model(Skip::Standard);
        let units = m.units().count();
        for i in 0..units {
            m.set_polynomial(i, &[0.4, 0.6, 0.2, -0.05, 0.03], (-4.0, 4.5), function);
        }
        for u in m.units_mut() {
            u.target = (-1.0, 1.2);
        }
        for p in &mut m.parameters {
            p.trainable = true;
        }
        m.range_loss = range_loss;
        check(&mut m);
    }
}

#[test]
fn the_exported_graph_computes_what_the_model_computes() {
    for skip in [Skip::Standard, Skip::Dirac, Skip::LongShared] {
        let mut m = model(skip);
        // running statistics that are not the initial ones
        m.momentum = 0.5;
        m.forward(inputs(6), 6, Mode::Train);
        let units = m.units().count();
        for i in 0..units / 2 {
            m.set_polynomial(i, &[0.4, 0.6, 0.2], (-5.0, 5.0), Function::Polynomial);
        }
        let graph = m.to_graph().expect("exports");
        let outputs = m.forward(inputs(2), 2, Mode::Evaluate).to_vec();
        for (n, row) in outputs.chunks_exact(3).enumerate() {
            let hwc = &inputs(2)[n * 128..(n + 1) * 128];
            let chw: Vec<f64> = (0..128)
                .map(|k| f64::from(hwc[(k % 64) * 2 + k / 64]))
                .collect();
            let input = Tensor::new(graph.input().shape(), chw).expect("fits");
            let oracle = graph.evaluate(&input).expect("evaluates").output;
            for (a, b) in row.iter().zip(oracle.values()) {
                assert!(
                    (f64::from(*a) - b).abs() < 2e-4 * (1.0 + b.abs()),
                    "{skip:?}: {a} against the oracle's {b}"
                );
            }
        }
    }
}

#[test]
fn the_guard_works_in_training_only() {
    let mut m = model(Skip::None);
    let units = m.units().count();
    for i in 0..units {
        // far outside of its domain this one explodes
        m.set_polynomial(
            i,
            &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            (-0.05, 0.05),
            Function::Polynomial,
        );
    }
    for u in m.units_mut() {
        u.guard = Some(0.1);
    }
    let guarded = m.forward(inputs(4), 4, Mode::Train).to_vec();
    assert!(guarded.iter().all(|v| v.is_finite() && v.abs() < 1e3));
    let free = m.forward(inputs(4), 4, Mode::Evaluate).to_vec();
    assert!(
        free.iter().any(|v| !v.is_finite() || v.abs() > 1e3),
        "evaluation must not be guarded"
    );
    assert!(
        m.units().any(|u| u.seen.outside > 0),
        "and reports what lies outside"
    );
}

/// What ONNX import makes of moved values, factors and functions: gradients are differences, values are the oracle's.
#[test]
fn moved_values_factors_and_imported_functions_are_trained() {
    use nn::{Conv2d, Graph, Linear, Nonlinearity, Op, Parameter, Rearrange, Shape};
    let mut seed = 1u32;
    let mut random = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        Parameter::new("random", shape, values).expect("finite")
    };
    let functions = [
        Activation::Elu,
        Activation::Selu,
        Activation::Softplus,
        Activation::Mish,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Softsign,
        Activation::HardSigmoid,
    ];
    for function in functions {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::image(2, 8, 8)).expect("valid");
        let conv = Op::Conv2d(Conv2d::new(random(&[4, 2, 3, 3])));
        let x = b.add("conv", conv, &[x]).expect("valid");
        // (4, 6, 6) to (6, 4, 7): rows as channels, a column of zeros, one taken twice
        let columns = vec![0, Rearrange::ZERO, 1, 2, 2, 4, 5];
        let moved = Op::Rearrange(Rearrange {
            shape: Shape::image(6, 4, 7),
            offsets: vec![
                (0..6).map(|i| 6 * i).collect(),
                (0..4).map(|i| 36 * i).collect(),
                columns,
            ],
        });
        let x = b.add("moved", moved, &[x]).expect("valid");
        let affine = approx::Polynomial::from_monomial(&[0.3, -1.5], (-8.0, 8.0)).expect("valid");
        let affine = Op::Elementwise(Nonlinearity::Polynomial(affine));
        let x = b.add("affine", affine, &[x]).expect("valid");
        let op = Op::Elementwise(Nonlinearity::Activation(function));
        let x = b.add("function", op, &[x]).expect("valid");
        let conv = Op::Conv2d(Conv2d::new(random(&[8, 6, 1, 1])));
        let x = b.add("mixed", conv, &[x]).expect("valid");
        let x = b.add("mean", Op::GlobalAvgPool, &[x]).expect("valid");
        let x = b.add("flat", Op::Flatten, &[x]).expect("valid");
        let (weight, bias) = (random(&[3, 8]), Some(random(&[3])));
        let x = b.add("dense", Op::Linear(Linear { weight, bias }), &[x]);
        let graph = b.finish(x.expect("valid")).expect("valid");
        let mut model = Model::new(graph.clone(), Parameterization::Plain).expect("trains");
        let outputs = model.forward(inputs(1), 1, Mode::Evaluate).to_vec();
        let given = inputs(1);
        let planes = (0..2).flat_map(|c| (0..64).map(move |i| 2 * i + c));
        let values = planes.map(|i| f64::from(given[i])).collect();
        let x = Tensor::new(Shape::image(2, 8, 8), values).expect("fits");
        let oracle = graph.evaluate(&x).expect("fits").output;
        for (own, oracle) in outputs.iter().zip(oracle.values()) {
            assert!(
                (f64::from(*own) - oracle).abs() < 1e-4,
                "{function}: {own} {oracle}"
            );
        }
        let batch = 6;
        model.clear_gradients();
        loss(&mut model, batch);
        let of: Vec<(usize, usize, f32)> = (model.parameters.iter().enumerate())
            .flat_map(|(k, p)| [0, p.gradient.len() / 2].map(|i| (k, i, p.gradient[i])))
            .collect();
        let h = 1e-3f32;
        for (k, i, g) in of {
            let old = model.parameters[k].values[i];
            let mut at = |v: f32| {
                model.parameters[k].values[i] = v;
                loss(&mut model, batch)
            };
            let slope = (at(old + h) - at(old - h)) / f64::from(2.0 * h);
            at(old);
            let within = 0.02 * slope.abs().max(f64::from(g.abs())) + 2e-3;
            assert!(
                (slope - f64::from(g)).abs() < within,
                "{function}: {slope} {g}"
            );
        }
    }
}
