//! Times a training step on random pictures: `cargo run --release -p polyveil-train --example step [batch] [steps] [degree] [network] [size]`.
//! Degree 0 is the activation itself. The network is ResNet-20 with SiLU on pictures of 32×32, or one of torchvision's by its name with ReLU
//! and 10 classes, mostly resnet18 on 64×64. Prints milliseconds of wall and CPU time, medians. `training/pytorch_step.py` is the same in PyTorch.

use std::time::Instant;
use train::activation::Function;
use train::loss::Loss;
use train::mode::Mode;
use train::optimizer::{Clipping, Optimizer, Rule};
use train::{Model, Parameterization};
use zoo::imagenet::ImageNet;
use zoo::resnet::{ResNet, Skip};

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |i: usize, default: usize| {
        std::env::args()
            .nth(i)
            .and_then(|a| a.parse().ok())
            .unwrap_or(default)
    };
    let (batch, steps, degree) = (argument(1, 64), argument(2, 30), argument(3, 2));
    let graph = match std::env::args().nth(4) {
        None => {
            let network = ResNet {
                depth: 20,
                width: 16,
                classes: 10,
                input: (32, 32, 3),
                activation: approx::Activation::Silu,
                skip: Skip::Standard,
            };
            network.graph(1)?
        }
        Some(name) => {
            let mut network = ImageNet::named(&name, argument(5, 64), approx::Activation::Relu)
                .ok_or_else(|| format!("{name} is none of {:?}", ImageNet::NAMES))?;
            network.classes = 10;
            network.graph(1)?
        }
    };
    let mut model = Model::new(graph, Parameterization::Plain)?;
    if degree > 0 {
        let coefficients: Vec<f64> = (0..=degree)
            .map(|k| [0.5, 0.5, 0.1][k.min(2)] / (k + 1) as f64)
            .collect();
        for i in 0..model.units().count() {
            model.set_polynomial(i, &coefficients, (-8.0, 8.0), Function::Polynomial);
        }
    }
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();
    let input: Vec<f32> = (0..batch * model.input_shape().len())
        .map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0)
        .collect();
    let mut optimizer = Optimizer::default();
    let mut walls = Vec::new();
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for step in 0..steps + 5 {
        if step == 5 {
            walls.clear();
            forward.clear();
            backward.clear();
        }
        let began = Instant::now();
        model.clear_gradients();
        let outputs = model.forward(input.clone(), batch, Mode::Train);
        let outcome = Loss::default().evaluate(outputs, &labels, None);
        forward.push(began.elapsed().as_secs_f64());
        let half = Instant::now();
        model.backward(outcome.gradient);
        backward.push(half.elapsed().as_secs_f64());
        optimizer.step(
            &mut model.parameters,
            Rule::default(),
            0.001,
            0.0,
            Clipping::None,
        );
        walls.push(began.elapsed().as_secs_f64());
    }
    let median = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        1e3 * v[v.len() / 2]
    };
    println!(
        "batch {batch}, {} threads: {:.1} ms a step (median; {:.1} forward, {:.1} backward), shortest {:.1} ms; {:.1} CPU ms a step over all",
        rayon::current_num_threads(),
        median(&mut walls),
        median(&mut forward),
        median(&mut backward),
        1e3 * walls[0],
        1e3 * cpu() / (steps + 5) as f64
    );
    Ok(())
}
