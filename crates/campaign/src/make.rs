//! How the laboratory is made.

use crate::attempt::{AT_MOST, Start, Try};
use crate::case::{checkpoint, run_line};
use crate::fault::{Fault, Kind, Verdict, own};
use crate::foreign;
use crate::lab::{LABELS, Lab, Net, PIXELS, SIDE, STANDARD};
use approx::Activation;
use nn::calibrate::FitOptions;
use nn::lower::{Options, Outliers, adapt};
use nn::{
    AvgPool, Conv2d, Linear, Metadata, Network, Nonlinearity, Op, Padding, Parameter, PolyGraph,
    Range, Shape, Tensor,
};
use polyveil_fuzz::random::Random;
use runtime::VerifiedPlan;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use task::{Input, Normalization, Outputs, Picture, Pictures, Task};

/// Pictures of the set for training, and for testing.
const TRAIN: usize = 120;
const TEST: usize = 80;

fn parameter(random: &mut Random, shape: &[usize], size: f64) -> Parameter {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| (size * random.centred()) as f32)
        .collect();
    Parameter::new("random", shape, values).expect("finite")
}

/// So many convolutions of 4 channels with SiLU behind each, then 3 classes.
fn trained(random: &mut Random, depth: usize) -> nn::Graph {
    let mut b = Network::<Nonlinearity>::builder();
    let mut x = (b.input("input", Shape::image(3, SIDE, SIDE))).expect("valid");
    let mut from = 3;
    for i in 1..=depth {
        let weight = parameter(
            random,
            &[4, from, 3, 3],
            (3.0 / (9 * from) as f64).sqrt() * 1.4,
        );
        let conv = Conv2d {
            padding: Padding::same(1),
            bias: Some(parameter(random, &[4], 0.3)),
            ..Conv2d::new(weight)
        };
        x = (b.add(format!("conv{i}"), Op::Conv2d(conv), &[x])).expect("valid");
        let act = Op::Elementwise(Nonlinearity::Activation(Activation::Silu));
        x = b.add(format!("act{i}"), act, &[x]).expect("valid");
        from = 4;
    }
    let pool = AvgPool {
        kernel: (4, 4),
        stride: (4, 4),
        padding: Padding::default(),
        count_include_pad: true,
    };
    x = b.add("pool", Op::AvgPool(pool), &[x]).expect("valid");
    x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let linear = Linear {
        weight: parameter(random, &[3, 16], 1.5),
        bias: Some(parameter(random, &[3], 0.2)),
    };
    x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    b.finish(x).expect("valid")
}

/// What comes out is what goes in: pictures as they reach a network.
fn identity() -> PolyGraph {
    let mut b = Network::<approx::Polynomial>::builder();
    let x = (b.input("input", Shape::image(3, SIDE, SIDE))).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let values = (0..PIXELS * PIXELS).map(|i| f32::from(i % (PIXELS + 1) == 0));
    let linear = Linear {
        weight: Parameter::new("one", [PIXELS, PIXELS], values.collect::<Vec<f32>>())
            .expect("finite"),
        bias: None,
    };
    let x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    let graph = PolyGraph::from(b.finish(x).expect("valid"));
    let ranges = vec![
        Range {
            min: -3.0,
            max: 3.0
        };
        graph.nodes().len()
    ];
    graph.with_ranges(ranges).expect("valid")
}

fn task(outputs: Outputs) -> Task {
    let shape = Shape::image(3, SIDE, SIDE);
    let pictures = Pictures::new(shape, Normalization::imagenet(), outputs);
    Task::Pictures(pictures.expect("valid"))
}

/// A polynomial network's bytes, with words of what it reads: square pictures of this size.
pub(crate) fn for_pictures(bytes: &[u8], side: usize) -> Verdict<Vec<u8>> {
    let graph = nn::format::artefact::from_bytes(bytes).map_err(own)?;
    let (shape, outputs) = (Shape::image(3, side, side), graph.output().shape());
    let outputs = Outputs::unsaid(outputs);
    let pictures = Pictures::new(shape, Normalization::imagenet(), outputs).map_err(own)?;
    let task = Task::Pictures(pictures);
    let name = graph.metadata().name.clone();
    let graph = graph.with_metadata(metadata(&name, &task));
    nn::format::artefact::to_bytes(&graph).map_err(own)
}

fn metadata(name: &str, task: &Task) -> Metadata {
    Metadata {
        name: name.into(),
        task: Some(task.to_bytes()),
        ..Metadata::default()
    }
}

/// Soft grey-to-coloured noise, with one black and one white pixel: like photographs, such pictures cover all bytes, and yet others leave the
/// intervals.
fn soft(random: &mut Random, class: usize) -> Vec<u8> {
    let tint = [0, 1, 2].map(|c| if c == class { 150.0 } else { 110.0 });
    let (dx, dy) = (4.0 * random.centred(), 4.0 * random.centred());
    (0..PIXELS)
        .map(|i| {
            let (c, x, y) = (i % 3, (i / 3 % SIDE) as f64, (i / 3 / SIDE) as f64);
            let value = tint[c] + dx * (x - 3.5) + dy * (y - 3.5) + 18.0 * random.centred();
            match i {
                0..3 => 0,
                _ if i >= PIXELS - 3 => 255,
                _ => value as u8,
            }
        })
        .collect()
}

impl Lab {
    /// Makes everything, in `root`.
    pub(crate) fn new(
        polyveil: PathBuf,
        root: PathBuf,
        seed: u64,
        say: &dyn Fn(String),
    ) -> Verdict<Self> {
        fs::create_dir_all(&root).map_err(own)?;
        let root = root.canonicalize().map_err(own)?;
        let mut random = Random::new(seed, "laboratory", 0);
        let pictures: Vec<Vec<u8>> = (0..TRAIN + TEST)
            .map(|i| soft(&mut random, i % LABELS.len()))
            .collect();
        let mut lab = Self {
            train: polyveil.with_file_name("polyveil-train"),
            polyveil,
            root,
            seed,
            nets: Vec::new(),
            full: Default::default(),
            pictures,
        };
        lab.write_pictures()?;
        let specs = [
            ("lev", 2, 4, ckks::ParametersSpec::toy_levelled(9, 10)),
            ("other", 2, 4, ckks::ParametersSpec::toy_levelled(9, 10)),
            ("boot", 3, 7, ckks::ParametersSpec::toy(9)),
            ("deep", 5, 7, ckks::ParametersSpec::toy(9)),
            ("id", 0, 0, ckks::ParametersSpec::toy_levelled(9, 3)),
        ];
        for (name, depth, degree, parameters) in specs {
            let net = lab.make(name, (depth, degree), parameters, &mut random)?;
            let bootstraps = (net.plan.plan().steps.iter())
                .filter(|s| matches!(s.operation, runtime::Operation::Bootstrap { .. }))
                .count();
            let run = net.run.as_secs_f64();
            say(format!(
                "{name}: {bootstraps} bootstraps, a run takes {run:.2} s"
            ));
            lab.nets.push(net);
        }
        lab.more()?;
        Ok(lab)
    }

    /// Numbers for what is made once.
    pub(crate) fn random(&self, name: &str) -> Random {
        Random::new(self.seed, name, 0)
    }

    /// A network at full size: [`STANDARD`], or else the demonstration's.
    pub(crate) fn full_size(&self, name: &'static str) -> Verdict<&Net> {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models");
        let [standard, embedded] = &self.full;
        let (place, of) = match name {
            STANDARD => (
                standard,
                (
                    "@deep/net.pvm".into(),
                    "@0.png".into(),
                    "--parameters standard-16",
                ),
            ),
            _ => (
                embedded,
                (
                    format!("{models}/resnet20-poly.pvm"),
                    format!("{models}/picture.png"),
                    "",
                ),
            ),
        };
        let made = place.get_or_init(|| self.protected(name, of));
        made.as_ref().map_err(Fault::clone)
    }

    fn protected(
        &self,
        name: &'static str,
        (model, picture, parameters): (String, String, &str),
    ) -> Verdict<Net> {
        let mut t = Try::new(self, self.root.join(name), self.random(name))?;
        let there = t.path(&model).exists();
        Kind::Skipped.unless(there, "the repository's models are not there")?;
        for line in [
            format!("compile {model} -o net.plan {parameters} --machine shipped --no-probe"),
            "keygen net.client -o A".into(),
            format!("encrypt --key A/client.key --image {picture} -o A/x.input"),
        ] {
            t.polyveil(&line)?.ok()?;
        }
        let line = format!("{} --threads 2", run_line(name, "A", "A/x.answer"));
        let running = t.start(&line, &[], &Start::default())?;
        let run = running.end_within(AT_MOST)?.ok()?.wall;
        let graph = nn::format::artefact::load(&t.path(&model), 1 << 24).map_err(own)?;
        let task = Task::of(graph.metadata()).map_err(own)?;
        let task = task.ok_or_else(|| own("a network without a task"))?;
        let plan = VerifiedPlan::read(&t.bytes("net.plan")?[..], name).map_err(own)?;
        Ok(Net {
            name,
            graph,
            task,
            plan,
            run,
        })
    }

    /// A checkpoint of a run that was stopped, and a plan of the parameters that protect.
    fn more(&self) -> Verdict {
        let folder = self.root.join("std");
        let mut t = Try::new(self, folder, self.random("more"))?;
        checkpoint(&mut t)?;
        fs::rename(
            t.path("x.answer.checkpoint"),
            t.path("@deep/A/mid.checkpoint"),
        )
        .map_err(own)?;
        t.polyveil("compile @lev/net.pvm -o net.plan --machine shipped --no-probe")?
            .ok()?;
        self.language()
    }

    /// A client of the smallest language model, which takes prompts.
    fn language(&self) -> Verdict {
        let folder = self.root.join("lm");
        let mut t = Try::new(self, folder, self.random("lm"))?;
        let config = zoo::architecture::llama::Config {
            sizes: zoo::blocks::Sizes {
                width: 8,
                hidden: 12,
                layers: 1,
                heads: 4,
                kv_heads: 2,
                head: 2,
                vocabulary: foreign::PIECES.len(),
                max_length: 16,
            },
            epsilon: 1e-2,
            base: 100.0,
            tied: true,
        };
        let architecture = zoo::architecture::Architecture::Llama(config);
        let mut random = self.random("weights");
        let model = zoo::language::LanguageModel::new(architecture, |_, shape| {
            let gain = if shape.len() == 1 { 1.0 } else { 0.0 };
            let count = shape.iter().product::<usize>();
            (0..count)
                .map(|_| gain + 0.5 * random.centred() as f32)
                .collect()
        });
        let model = model.map_err(own)?;
        model.save(&t.path("model")).map_err(own)?;
        t.scratch("tok.bin", &foreign::tokenizer())?;
        let text = "ab cd a b c\nd c b a ab cd\ncd cd a d b c\nb abcd a d c\na a b b c c d\n";
        t.scratch("text.txt", text.as_bytes())?;
        t.polyveil("calibrate model --text text.txt --tokenizer tok.bin --length 6 --bits 10 --degree 7 --power 4 --epsilon 0.1 -o net.pvm")?
            .ok()?;
        let graph = nn::format::artefact::load(&t.path("net.pvm"), 1 << 24).map_err(own)?;
        let target = compiler::Target {
            parameters: Some(ckks::ParametersSpec::toy(10)),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&graph, &target).map_err(own)?;
        let task = graph.metadata().task.clone().unwrap_or_default();
        let client = plan.client_file(task).map_err(own)?;
        let client = client.write(Vec::new(), "client").map_err(own)?;
        t.scratch("net.client", &client)?;
        t.polyveil("keygen net.client -o A --insecure-toy")?
            .ok()
            .map(drop)
    }

    fn write_pictures(&self) -> Verdict {
        let write = |name: &str, bytes: &[u8]| fs::write(self.root.join(name), bytes).map_err(own);
        let labels: Vec<u8> = (0..TRAIN + TEST)
            .map(|i| (i % LABELS.len()) as u8)
            .collect();
        let (train, test) = self.pictures.split_at(TRAIN);
        let shape = |n: usize| [n, SIDE, SIDE, 3];
        let npz = foreign::npz(&[
            ("train_images", &shape(TRAIN), &train.concat()),
            ("train_labels", &[TRAIN, 1], &labels[..TRAIN]),
            ("val_images", &shape(30), &train[..30].concat()),
            ("val_labels", &[30, 1], &labels[..30]),
            ("test_images", &shape(TEST), &test.concat()),
            ("test_labels", &[TEST, 1], &labels[TRAIN..]),
        ]);
        write("pictures.npz", &npz)?;
        write("cifar.bin", &foreign::cifar(20))?;
        write("residual.safetensors", &foreign::safetensors())?;
        write("toy.onnx", &foreign::onnx(4, 6, 3))?;
        for (i, pixels) in self.pictures.iter().enumerate().take(4) {
            write(&format!("{i}.png"), &foreign::png(SIDE, SIDE, pixels))?;
        }
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).into();
        let rows: Vec<String> = (0..40)
            .map(|i| format!("{},{},{},{},{}", i % 2, i % 3, i % 5, i % 7, i % 3))
            .collect();
        write(
            "rows.csv",
            format!("{},label\n{}\n", names.join(","), rows.join("\n")).as_bytes(),
        )
    }

    fn make(
        &self,
        name: &'static str,
        (depth, degree): (usize, usize),
        parameters: ckks::ParametersSpec,
        random: &mut Random,
    ) -> Verdict<Net> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).map_err(own)?;
        // what is told apart by its name alone is not told apart
        let title = if name == "other" { "lev" } else { name };
        let outputs = match depth {
            0 => Outputs::Values((0..PIXELS).map(|i| format!("v{i}")).collect()),
            _ => Outputs::Classes(LABELS.map(String::from).into()),
        };
        let task = task(outputs);
        let graph = match depth {
            0 => identity(),
            _ => {
                let graph = trained(random, depth);
                let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata(title, &task));
                fs::write(folder.join("trained.pvm"), bytes.map_err(own)?).map_err(own)?;
                let inputs: Vec<Tensor> = (self.pictures.iter())
                    .map(|p| {
                        let picture = Picture::from_pixels(SIDE, SIDE, 3, p.clone());
                        task.encode(&Input::Picture(&picture.expect("fits")))
                    })
                    .collect::<Result<_, _>>()
                    .map_err(own)?;
                let options = Options {
                    activations: FitOptions {
                        degree,
                        margin: 0.3,
                        ..FitOptions::default()
                    },
                    outliers: Outliers::Keep,
                    ..Options::default()
                };
                adapt(&graph, &inputs, &options).map_err(own)?.graph
            }
        }
        .with_metadata(metadata(title, &task));
        let bytes = nn::format::artefact::to_bytes(&graph).map_err(own)?;
        fs::write(folder.join("net.pvm"), bytes).map_err(own)?;
        let target = compiler::Target {
            parameters: Some(parameters),
            ..compiler::Target::default()
        };
        let plan = compiler::compile(&graph, &target).map_err(own)?;
        let client = plan.client_file(task.to_bytes()).map_err(own)?;
        let client = client.write(Vec::new(), "client").map_err(own)?;
        fs::write(folder.join("net.client"), client).map_err(own)?;
        let bytes = plan.plan().write(Vec::new(), "plan").map_err(own)?;
        fs::write(folder.join("net.plan"), bytes).map_err(own)?;
        let mut t = Try::new(self, folder, self.random(name))?;
        let mut run = Duration::ZERO;
        for (client, index) in [("A", 0), ("B", 1)] {
            t.polyveil(&format!("keygen net.client -o {client} --insecure-toy"))?
                .ok()?;
            let key = format!("--key {client}/client.key");
            let input = format!("{client}/x.input");
            t.polyveil(&format!("encrypt {key} --image @{index}.png -o {input}"))?
                .ok()?;
            let answer = format!("{client}/x.answer");
            let line = format!(
                "run --plan net.plan --keys {client}/evaluation.keys --input {input} -o {answer} --no-probe --machine shipped"
            );
            run = t.polyveil(&line)?.ok()?.wall;
        }
        Ok(Net {
            name,
            graph,
            task,
            plan,
            run,
        })
    }
}
