//! Recomputation in backward passes: not a bit of another result, and no more memory than predicted.

use approx::Activation;
use std::sync::Mutex;
use train::activation::Function;
use train::config::Config;
use train::loss::Loss;
use train::memory::Kept;
use train::mode::Mode;
use train::optimizer::{Clipping, Optimizer, Rule};
use train::pass::Inputs;
use train::{Model, Parameterization};
use zoo::imagenet::ImageNet;
use zoo::resnet::{ResNet, Skip};

/// One test at a time: the process's size is measured.
static ALONE: Mutex<()> = Mutex::new(());

const BATCH: usize = 4;

fn small(skip: Skip) -> Model {
    let network = ResNet {
        depth: 20,
        width: 4,
        classes: 10,
        input: (12, 12, 3),
        activation: Activation::Silu,
        skip,
    };
    let mut model = Model::new(
        network.graph(1).expect("a network"),
        Parameterization::Plain,
    )
    .expect("trains");
    // clamped, and between a function and its polynomial
    for i in 0..model.units().count() {
        let function = match i % 3 {
            0 => Function::Polynomial,
            1 => Function::Blend { ratio: 0.3 },
            _ => Function::Original,
        };
        model.set_polynomial(i, &[0.4, 0.6, 0.2], (-0.5, 0.5), function);
    }
    for u in model.units_mut() {
        u.guard = Some(0.1);
    }
    model
}

fn large(name: &str, size: usize) -> Model {
    let mut network = ImageNet::named(name, size, Activation::Relu).expect("known");
    network.classes = 10;
    Model::new(
        network.graph(2).expect("a network"),
        Parameterization::Plain,
    )
    .expect("trains")
}

fn steps(model: &mut Model, batch: usize, count: usize) {
    let x = model.input_shape().len();
    let x: Vec<f32> = (0..batch * x)
        .map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0)
        .collect();
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();
    let mut optimizer = Optimizer::default();
    for _ in 0..count {
        model.clear_gradients();
        let outputs = model.run(Inputs::Numbers(&x), Mode::Train);
        let outcome = Loss::default().evaluate(outputs, &labels, None);
        model.backward(outcome.gradient);
        let moved = optimizer.step(
            &mut model.parameters,
            Rule::default(),
            0.01,
            0.0,
            Clipping::None,
        );
        assert!(moved.is_some(), "finite gradients");
    }
}

#[test]
fn two_steps_with_recomputation_give_the_same_weights_bit_for_bit() {
    let _alone = ALONE.lock();
    // joins of every block; long skips, which reach over cuts; blocks of three convolutions
    let makes: [fn() -> Model; 3] = [
        || small(Skip::Standard),
        || small(Skip::LongShared),
        || large("mobilenet_v2", 32),
    ];
    for make in makes {
        let (mut plain, mut again) = (make(), make());
        again.recompute = true;
        steps(&mut plain, BATCH, 2);
        steps(&mut again, BATCH, 2);
        for (a, b) in plain.parameters.iter().zip(&again.parameters) {
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&a.values) == bits(&b.values), "{}", a.name);
        }
        // running statistics, too
        assert_eq!(
            plain.to_graph().expect("finite"),
            again.to_graph().expect("finite")
        );
        let seen = |m: &Model| m.units().map(|u| (u.seen, u.quantiles)).collect::<Vec<_>>();
        assert_eq!(seen(&plain), seen(&again), "nothing is recorded twice");
        let (least, all) = (again.held(), plain.held());
        assert!(
            3 * least < 2 * all,
            "{least} floats with recomputation, {all} without"
        );
    }
}

/// A line of this process's status, in bytes.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with(key))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

#[test]
fn walks_hold_what_passes_hold() {
    let _alone = ALONE.lock();
    for name in ["resnet18", "mobilenet_v2"] {
        for kept in [Kept::Everything, Kept::Boundaries] {
            let mut m = large(name, 32);
            m.recompute = kept == Kept::Boundaries;
            // parts of a batch of 8
            for batch in [3, 2, 3] {
                steps(&mut m, batch, 1);
            }
            assert_eq!(m.held(), m.floats_in_training(kept, &[3, 2]), "{name}");
        }
        let mut m = large(name, 32);
        let x = vec![0.1; 4 * m.input_shape().len()];
        m.run(Inputs::Numbers(&x), Mode::Evaluate);
        assert_eq!(m.held(), m.floats_in_evaluation(4), "{name}");
    }
}

#[test]
fn cuts_bound_what_a_large_network_holds() {
    let _alone = ALONE.lock();
    let model = large("resnet50", 224);
    let of = |kept| 4 * model.floats_in_training(kept, &[32]) as u64;
    let (all, least) = (of(Kept::Everything), of(Kept::Boundaries));
    println!("ResNet-50 at 224, batch 32: {all} bytes, {least} recomputed");
    assert!(all > 4 * least, "{all}, {least}");
}

#[test]
fn what_is_held_is_what_was_predicted() {
    let _alone = ALONE.lock();
    let text = "batch = 8\n[network]\nkind = \"small\"\nwidth = 4\nactivation = \"silu\"\n[data]\ntrain = \"none\"\nheld_out = 30\n[[stage]]\nepochs = 1.0\n";
    let run = Config::parse(text).expect("a configuration");
    let mut predicted = Vec::new();
    for kept in [Kept::Boundaries, Kept::Everything] {
        let mut model = large("resnet18", 96);
        model.recompute = kept == Kept::Boundaries;
        let parameters: u64 = model.parameters.iter().map(|p| p.values.len() as u64).sum();
        let bytes = model.training_bytes((run.batch, &run.stages), kept, None);
        let measurable = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        let before = status("VmRSS:");
        steps(&mut model, 8, 2);
        let (held, passes) = (4 * model.held() as u64, bytes - 24 * parameters);
        assert!(
            held <= passes && passes < held + held / 50,
            "{held} of {passes}"
        );
        if let (true, Some(before), Some(peak)) = (measurable, before, status("VmHWM:")) {
            let grown = peak.saturating_sub(before);
            assert!(
                grown <= bytes,
                "{kept:?}: {grown} bytes, {bytes} were predicted"
            );
        }
        predicted.push(passes);
    }
    assert!(2 * predicted[0] < predicted[1], "{predicted:?}");
}
