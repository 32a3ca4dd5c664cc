//! What the trainer reads: configurations and checkpoints.

use super::{Decoder, Probe, again, law, reads, same, text_limit};
use crate::scratch::Scratch;
use crate::{safetensors, toml};
use approx::Activation;
use train::activation::{Function, RangeLoss};
use train::checkpoint::{Position, Sums, restore, save};
use train::config::{Config, Data, Degrees, Network, Order, Stage, Substitution, Target};
use train::mode::Mode;
use train::optimizer::{Clipping, Optimizer, Rule};
use train::{Model, Parameterization};
use zoo::resnet::Small;

/// A configuration with every setting.
fn config() -> Config {
    let substitution = |degree, order| {
        Some(Substitution {
            degree,
            order,
            margin: 0.1,
            interval: Some((-3.0, 2.5)),
            floor: 0.02,
            pictures: 24,
        })
    };
    let file = Network::File {
        path: "network.onnx".into(),
        activation: Some("silu".into()),
    };
    Config {
        seed: 5,
        batch: 16,
        network: Network::Resnet {
            depth: 20,
            width: 16,
            activation: "relu".into(),
            skip: "standard".into(),
        },
        batch_norms: Some(train::surgery::Where::After(vec!["conv1".into()])),
        teacher: Some(file),
        data: Data {
            train: "train.tar.gz".into(),
            second: Some("second".into()),
            held_out: 30,
            drop_twins: true,
            limit: Some(1000),
            labels: vec!["cat".into(), "dog".into()],
            normalization: "measured".into(),
            size: Some((32, 24)),
            skip_damaged: true,
            augmentation: data::Augmentation {
                flip: true,
                crop_padding: 4,
                cutout: 8,
                resized_crop: Some(data::ResizedCrop::default()),
                contrast: Some((0.8, 1.5)),
            },
        },
        stages: vec![
            Stage {
                epochs: 2.5,
                range_loss: RangeLoss::Boundary {
                    weight: 0.01,
                    edge: 0.8,
                },
                target: Target::Quantiles { margin: 0.5 },
                patience: Some(3),
                ..Stage::default()
            },
            Stage {
                name: "blend".into(),
                rule: Rule::AdamW {
                    betas: (0.9, 0.99),
                    decay: 0.01,
                },
                clipping: Clipping::Norm { limit: 1.0 },
                target: Target::Fixed {
                    low: -5.0,
                    high: 5.0,
                },
                substitution: substitution(Degrees::One(6), Order::Blend { share: 0.5 }),
                guard: Some(0.1),
                ..Stage::default()
            },
            Stage {
                name: "one by one".into(),
                clipping: Clipping::Value { limit: 0.5 },
                range_loss: RangeLoss::Worst { weight: 0.001 },
                target: Target::Seen,
                substitution: substitution(
                    Degrees::Each(vec![4, 7]),
                    Order::OneByOne { share: 0.7 },
                ),
                second_share: 0.25,
                second_from: 0.5,
                reestimate: true,
                ..Stage::default()
            },
        ],
    }
}

const SHORT: &str = "[network]\nkind = \"small\"\nactivation = \"gelu\"\n\n[data]\ntrain = 'set'\n\n[[stage]]\nepochs = 1\n";

/// Pictures of 4×4 pixels, one channel, two classes.
fn model() -> Model {
    let network = Small {
        width: 1,
        classes: 2,
        input: (4, 4, 1),
        activation: Activation::Silu,
    };
    let graph = network.graph(1).expect("a valid seed");
    Model::new(graph, Parameterization::Plain).expect("a valid seed")
}

/// What the checkpoints' configuration is.
const CONFIGURATION: &str = "seed = 1\nbatch = 2\n";

/// One at a run's beginning, one in its middle.
fn checkpoints(scratch: &Scratch) -> Vec<Vec<u8>> {
    let write = |model: &Model, optimizer: &Optimizer, position: &Position| {
        let path = scratch.path().join("seed");
        save(&path, model, optimizer, position, CONFIGURATION).expect("a scratch file");
        std::fs::read(path).expect("a scratch file")
    };
    let first = write(&model(), &Optimizer::default(), &Position::default());
    let mut model = model();
    let (domain, half) = ((-2.0, 3.0), Function::Blend { ratio: 0.5 });
    model.set_polynomial(0, &[0.25, 0.5, 0.125], domain, Function::Polynomial);
    model.set_polynomial(2, &[0.5, 0.25], domain, half);
    for (i, u) in model.units_mut().enumerate() {
        u.target = (-1.5, 2.5);
        (u.quantiles, u.guard) = (Some((-1.0, 1.0)), (i == 0).then_some(0.1));
        (u.seen.low, u.seen.high, u.seen.outside) = (-1.25, 2.0, 3);
    }
    let moments = |v: f32| {
        let all = model.parameters.iter();
        all.map(|p| vec![v; p.values.len()]).collect()
    };
    let optimizer = Optimizer {
        first: moments(0.5),
        second: moments(0.25),
        steps: 17,
    };
    let position = Position {
        stage: 1,
        epoch: 2,
        batch: 3,
        passes: 9,
        sums: Sums {
            loss: 1.5,
            range_loss: 0.25,
            right: 4,
            pictures: 6,
            steps: 3,
            skipped: 1,
        },
        best: Some((0.75, 1)),
        substituted: 2,
        log: vec!["float,1,2".into()],
        ranges: vec!["float,1,act1".into()],
    };
    vec![write(&model, &optimizer, &position), first]
}

fn checkpoint() -> Decoder {
    let scratch = Scratch::new("checkpoint");
    let seeds = checkpoints(&scratch);
    let decode = move |probe: &mut Probe<'_>| {
        let path = scratch.write("checkpoint", probe.bytes);
        let restored = |run: &mut Model, optimizer: &mut Optimizer| {
            restore(&path, run, optimizer, CONFIGURATION)
        };
        let (mut run, mut optimizer) = (model(), Optimizer::default());
        let Ok(position) = probe.count(|_| restored(&mut run, &mut optimizer)) else {
            return Ok(false);
        };
        again(save(&path, &run, &optimizer, &position, CONFIGURATION))?;
        let (mut back, mut moments) = (model(), Optimizer::default());
        same(&position, restored(&mut back, &mut moments))?;
        // as text, since numbers may be none
        let text = |m: &Model, o: &Optimizer| format!("{m:?} {o:?}");
        let equal = text(&back, &moments) == text(&run, &optimizer);
        law(equal, "a checkpoint read, written and read is the same")?;
        // who goes on from it
        run.range_loss = RangeLoss::Boundary {
            weight: 0.1,
            edge: 0.9,
        };
        let outputs = run.forward(vec![0.5; 32], 2, Mode::Train).to_vec();
        run.backward(outputs);
        run.forward(vec![-0.5; 16], 1, Mode::Evaluate);
        let (parameters, rule) = (&mut run.parameters, Rule::default());
        optimizer.step(parameters, rule, 0.1, 0.1, Clipping::None);
        let mut units = run.units();
        let whole = units.all(|u| u.function == Function::Original || u.coefficients.is_some());
        law(whole, "a polynomial has coefficients")?;
        // refused where weights are no numbers
        drop(run.to_graph());
        Ok(true)
    };
    let parts = (
        safetensors::parts as fn(&[u8]) -> _,
        safetensors::generate as _,
    );
    Decoder::parsed("train-checkpoint", text_limit, seeds, parts, decode)
}

fn configuration() -> Decoder {
    let all = config().to_toml().expect("a valid seed");
    let seeds = [&all, SHORT].map(|s| s.as_bytes().to_vec()).to_vec();
    let read = |b: &[u8]| {
        // files that are no text are refused where they are read
        let text = std::str::from_utf8(b).map_err(drop)?;
        Config::parse(text).map_err(drop)
    };
    let check = |config: Config| same(&config, Config::parse(&again(config.to_toml())?));
    Decoder::new(
        "train-config",
        text_limit,
        seeds,
        toml::generate,
        reads(read, check),
    )
}

pub(super) fn all() -> Vec<Decoder> {
    vec![checkpoint(), configuration()]
}
