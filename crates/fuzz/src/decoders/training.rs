//! What the trainer reads: configurations and checkpoints.

use crate::decoder::{Decoder, Probe, again, law, same};
use crate::scratch::Scratch;
use crate::{safetensors, toml};
use approx::Activation;
use train::activation::{Function, RangeLoss};
use train::checkpoint::{Position, Sums, restore, save};
use train::config::Config;
use train::mode::Mode;
use train::optimizer::{Clipping, Optimizer, Rule};
use train::{Model, Parameterization};
use zoo::resnet::Small;

/// Every setting.
const LONG: &str = r#"
seed = 5
batch = 16
network = { kind = "resnet", depth = 20, width = 16, activation = "relu", skip = "standard" }
batch_norms = { after = ["conv1"] }
teacher = { kind = "file", path = "network.onnx", activation = "silu" }

[data]
train = "train.tar.gz"
second = "second"
held_out = 30
drop_twins = true
limit = 1000
labels = ["cat", "dog"]
normalization = "measured"
size = [32, 24]
skip_damaged = true
augmentation = { flip = true, crop_padding = 4, cutout = 8, resized_crop = {}, contrast = [0.8, 1.5] }

[[stage]]
epochs = 2.5
range_loss = { kind = "boundary", weight = 0.01, edge = 0.8 }
target = { kind = "quantiles", margin = 0.5 }
patience = 3

[[stage]]
name = "blend"
rule = { kind = "adam-w", betas = [0.9, 0.99], decay = 0.01 }
clipping = { kind = "norm", limit = 1.0 }
target = { kind = "fixed", low = -5.0, high = 5.0 }
substitution = { degree = 6, order = { kind = "blend", share = 0.5 }, interval = [-3.0, 2.5], pictures = 24 }
guard = 0.1

[[stage]]
name = "one by one"
clipping = { kind = "value", limit = 0.5 }
range_loss = { kind = "worst", weight = 0.001 }
target = { kind = "seen" }
substitution = { degree = [4, 7], order = { kind = "one-by-one", share = 0.7 }, interval = [-3.0, 2.5], pictures = 24 }
second_share = 0.25
second_from = 0.5
reestimate = true
"#;

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
    Decoder::new("train-checkpoint", seeds)
        .apart(safetensors::parts, safetensors::generate)
        .decodes(decode)
}

fn configuration() -> Decoder {
    // a line for each setting
    let all = Config::parse(LONG).and_then(|c| c.to_toml());
    let seeds = [&all.expect("a valid seed"), SHORT]
        .map(|s| s.as_bytes().to_vec())
        .to_vec();
    let read = |b: &[u8]| {
        // files that are no text are refused where they are read
        let text = std::str::from_utf8(b).map_err(drop)?;
        Config::parse(text).map_err(drop)
    };
    let check = |config: Config| same(&config, Config::parse(&again(config.to_toml())?));
    Decoder::new("train-config", seeds)
        .mutants(toml::generate)
        .reads(read, check)
}

pub(super) fn all() -> Vec<Decoder> {
    vec![checkpoint(), configuration()]
}
