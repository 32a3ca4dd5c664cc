//! Networks with norms on vectors and on pictures: their runs end in polynomial networks that compute what was trained, and whatever fails
//! after training leaves the trained network behind.

use data::{Dataset, Shape};
use nn::approximations::{Approximations, Substitute};
use nn::format::artefact;
use nn::lower::{Options, adapt};
use nn::{
    Conv2d, Graph, Linear, Metadata, NodeId, Nonlinearity, Norm, NormKind, Op, Parameter, Tensor,
};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use task::Normalization;
use train::config::{Config, Run};
use train::direct::{Finished, finish};
use train::sources::{Direct, Part};
use train::vectors::{Table, VectorConfig};
use train::{End, Error, Model, Parameterization, Sources, Trainer};
use zoo::random::uniform;

const STAGE: &str = "epochs = 3.0\nrate = { peak = 0.01 }\ncoefficient_rate = 0.1\nclipping = { kind = \"norm\", limit = 1.0 }\n\
    range_loss = { kind = \"boundary\", weight = 10.0, edge = 0.6 }\nguard = 0.1\n\
    substitution = { degree = 4, margin = 0.15, order = { kind = \"blend\", share = 0.3 } }";

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-norms-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

fn parameter(name: &str, shape: &[usize], bound: f64) -> Parameter {
    let count = shape.iter().product();
    Parameter::new(name, shape.to_vec(), uniform(7, name, count, bound)).expect("finite")
}

struct Builder(nn::NetworkBuilder<Nonlinearity>);

impl Builder {
    fn node(&mut self, name: &str, op: Op<Nonlinearity>, x: NodeId) -> NodeId {
        self.0.add(name, op, &[x]).expect("fits")
    }

    fn norm(&mut self, name: &str, kind: NormKind, channels: usize, x: NodeId) -> NodeId {
        let scale = vec![1.0; channels];
        let op = Op::Norm(Norm {
            kind,
            scale: Parameter::new(name, [channels], scale).expect("finite"),
            bias: (kind == NormKind::Layer).then(|| parameter(name, &[channels], 0.1)),
            epsilon: 1e-5,
        });
        self.node(name, op, x)
    }

    fn activation(&mut self, name: &str, of: approx::Activation, x: NodeId) -> NodeId {
        self.node(name, Op::Elementwise(Nonlinearity::Activation(of)), x)
    }

    fn linear(&mut self, name: &str, (from, to): (usize, usize), x: NodeId) -> NodeId {
        let op = Op::Linear(Linear {
            weight: parameter(name, &[to, from], 1.0),
            bias: Some(parameter(&format!("{name}.bias"), &[to], 0.5)),
        });
        self.node(name, op, x)
    }
}

/// A layer norm between two linear maps.
fn mlp() -> Graph {
    let mut b = Builder(Graph::builder());
    let x = b.0.input("x", nn::Shape::Vector(2)).expect("fits");
    let y = b.linear("first", (2, 12), x);
    let y = b.norm("norm", NormKind::Layer, 12, y);
    let y = b.activation("tanh", approx::Activation::Tanh, y);
    let y = b.linear("last", (12, 2), y);
    b.0.finish(y).expect("a network")
}

/// Norms over the channels of every pixel, of both kinds.
fn cnn() -> Graph {
    let mut b = Builder(Graph::builder());
    let x = b.0.input("x", nn::Shape::image(1, 8, 8)).expect("fits");
    let conv = |name: &str, shape| Op::Conv2d(Conv2d::new(parameter(name, shape, 0.6)));
    let y = b.node("conv", conv("conv", &[6, 1, 3, 3]), x);
    let y = b.norm("layer", NormKind::Layer, 6, y);
    let y = b.activation("silu", approx::Activation::Silu, y);
    let y = b.node("deeper", conv("deeper", &[6, 6, 3, 3]), y);
    let y = b.norm("mean square", NormKind::RootMeanSquare, 6, y);
    let y = b.node("pool", Op::GlobalAvgPool, y);
    let y = b.node("flat", Op::Flatten, y);
    let y = b.linear("last", (6, 2), y);
    b.0.finish(y).expect("a network")
}

/// Two classes of points.
fn table(at: &Path) -> VectorConfig {
    let mut text = String::from("a,b,label\n");
    for i in 0..300 {
        let (x, y) = ((0.37 * f64::from(i)).sin(), (0.73 * f64::from(i)).cos());
        writeln!(text, "{x},{y},{}", u8::from(x * y > 0.0)).expect("text");
    }
    let data = at.join("table.csv");
    std::fs::write(&data, text).expect("a file");
    let text = format!(
        "batch = 20\n[network]\nkind = \"mlp\"\nhidden = [12]\nactivation = \"tanh\"\n[data]\nvectors = {data:?}\nheld_out = 60\n[[stage]]\n{STAGE}\n"
    );
    VectorConfig::parse(&text).expect("a configuration")
}

fn config() -> Config {
    let text = format!(
        "batch = 16\n[network]\nkind = \"small\"\nwidth = 4\nactivation = \"silu\"\n[data]\ntrain = \"none\"\nheld_out = 30\n[[stage]]\n{STAGE}\n"
    );
    Config::parse(&text).expect("a configuration")
}

/// Stripes along or across, of all contrasts.
fn pictures(count: usize) -> Dataset {
    let labels: Vec<usize> = (0..count).map(|i| i % 2).collect();
    let mut pixels = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        for at in 0..64 {
            let stripe = if *label == 0 { at / 8 % 2 } else { at % 2 };
            pixels.push((60 + (i * 31 + at * 7) % 40 + stripe * (20 + i % 90)) as u8);
        }
    }
    let shape = Shape {
        height: 8,
        width: 8,
        channels: 1,
    };
    let classes = ["along", "across"].map(String::from).to_vec();
    Dataset::from_pixels(shape, classes, pixels, &labels).expect("a set")
}

fn sources() -> Sources {
    Sources {
        train: pictures(96),
        second: None,
        held_out: pictures(30),
        normalization: Normalization::new(vec![0.4], vec![0.2]),
        skipped: Vec::new(),
        twins: 0,
        taken: data::Taken::Apart,
        mirrored: true,
    }
}

fn trained<'a, S: Direct>(
    config: &'a Run<S::Network, S::Data>,
    (graph, sources): (Graph, S),
    folder: &Path,
) -> Trainer<'a, S> {
    let model = Model::new(graph, Parameterization::Plain).expect("trains");
    let mut trainer = Trainer::new(config, model, None, sources, Some(folder)).expect("a run");
    let end = trainer.run(&mut |_| ControlFlow::Continue(()));
    assert_eq!(end.expect("trains"), End::Finished);
    trainer
}

/// The polynomial network's answers are those of the trained network, whose norms are exact, on inputs of training; no input of training or
/// choices leaves an interval.
fn agrees<S: Direct>(trainer: &mut Trainer<'_, S>, finished: &Finished) {
    let bytes = std::fs::read(finished.path.as_ref().expect("a path")).expect("a file");
    let made = artefact::from_bytes(&bytes).expect("polynomials");
    assert!(made.ranges().is_some());
    let exact = trainer.model.to_graph().expect("finite");
    let (mut change, mut largest) = (0.0f64, 0.0f64);
    for x in trainer.sources().examples(80).expect("inputs") {
        let (a, b) = (exact.evaluate(&x), made.evaluate(&x).expect("evaluates"));
        assert!(b.outside.is_empty(), "{:?}", b.outside);
        for (a, b) in (a.expect("evaluates").output.values().iter()).zip(b.output.values()) {
            change = change.max((a - b).abs());
            largest = largest.max(a.abs());
        }
    }
    // programs have 12 bits
    assert!(change < 2e-3 * largest, "{change} of {largest}");
    // and not the same by chance
    assert!(change > 0.0 && largest > 0.1, "{change} of {largest}");
    assert_eq!(finished.score.outside, 0);
    assert_eq!(
        finished.score.answers,
        trainer.sources().inputs(Part::HeldOut)
    );
}

#[test]
fn a_layer_norm_on_vectors_becomes_polynomial() {
    let at = folder("vectors");
    let config = table(&at);
    let table = Table::open(&config.data, None).expect("opens");
    let mut trainer = trained(&config, (mlp(), table), &at.join("run"));
    let finished = finish(&mut trainer, Metadata::default(), 0).expect("finishes");
    assert_eq!(finished.measured, Some((300, 0)));
    agrees(&mut trainer, &finished);
}

#[test]
fn norms_on_pictures_become_polynomial() {
    let at = folder("pictures");
    let config = config();
    let mut trainer = trained(&config, (cnn(), sources()), &at.join("run"));
    let finished = finish(&mut trainer, Metadata::default(), 0).expect("finishes");
    agrees(&mut trainer, &finished);
}

#[test]
fn the_lowering_supplies_what_is_not_given() {
    let graph = mlp();
    let points = (0..100).map(|i| vec![(0.37 * f64::from(i)).sin(), (0.73 * f64::from(i)).cos()]);
    let points = points.map(|p| Tensor::new(nn::Shape::Vector(2), p).expect("fits"));
    let points: Vec<Tensor> = points.collect();
    let whole = adapt(&graph, &points, &Options::default()).expect("lowers");
    assert_eq!(
        (whole.fits.len(), whole.approximations.by_node.len()),
        (1, 2)
    );
    let tanh = graph.find("tanh").expect("a node").id();
    let line = approx::Polynomial::from_monomial(&[0.0, 0.5], (-4.0, 4.0)).expect("finite");
    let given = Approximations {
        first: 0,
        by_node: [(tanh, Substitute::Polynomial(line.clone()))].into(),
    };
    let options = Options {
        given: Some(given),
        ..Options::default()
    };
    let made = adapt(&graph, &points, &options).expect("lowers");
    let by_node = &made.approximations.by_node;
    assert_eq!((made.fits.len(), by_node.len()), (0, 2));
    assert_eq!(by_node[&tanh], Substitute::Polynomial(line));
    // the norm is the same: it comes before
    let norm = graph.find("norm").expect("a node").id();
    assert_eq!(by_node[&norm], whole.approximations.by_node[&norm]);
}

#[test]
fn what_fails_after_training_leaves_the_trained_network() {
    let at = folder("unfinished");
    let config = table(&at);
    let table = Table::open(&config.data, None).expect("opens");
    let run = at.join("run");
    let mut trainer = trained(&config, (mlp(), table), &run);
    // the network's place is taken
    std::fs::create_dir_all(run.join("network.pvm").join("taken")).expect("a folder");
    let e = finish(&mut trainer, Metadata::default(), 0).expect_err("can't be written");
    assert!(matches!(e, Error::Unfinished { .. }), "{e}");
    assert!(e.to_string().contains("unfinished.pvm"), "{e}");
    let kept = std::fs::read(run.join("unfinished.pvm")).expect("a file");
    let (graph, metadata) = artefact::graph_from_bytes(&kept).expect("a network");
    let x = Tensor::new(nn::Shape::Vector(2), vec![0.3, -0.8]).expect("fits");
    assert_eq!(
        graph.evaluate(&x).expect("evaluates").output,
        trainer
            .model
            .to_graph()
            .expect("finite")
            .evaluate(&x)
            .expect("evaluates")
            .output
    );
    assert!(matches!(
        task::Task::of(&metadata),
        Ok(Some(task::Task::Vectors(_)))
    ));
    // and is gone once there is a polynomial one
    std::fs::remove_dir_all(run.join("network.pvm")).expect("there");
    finish(&mut trainer, Metadata::default(), 0).expect("finishes");
    assert!(run.join("network.pvm").is_file() && !run.join("unfinished.pvm").exists());
}
