//! What is refused, and that its one line names the cause and the remedy.

use data::{Dataset, Shape};
use std::ops::ControlFlow;
use std::path::PathBuf;
use task::{Normalization, Stated};
use train::config::{Config, Degrees, Network, Order, Pixels, Substitution};
use train::sources::Direct;
use train::{Error, Sources, Trainer};

const BASE: &str = r#"
batch = 8
network = { kind = "small", width = 4, activation = "silu" }
data = { train = "none", normalization = "measured" }
[[stage]]
epochs = 1.0
"#;

fn set(count: usize, channels: usize, classes: usize) -> Dataset {
    let shape = Shape {
        height: 8,
        width: 8,
        channels,
    };
    let pixels = (0..count * shape.len())
        .map(|i| (i * 7919 % 251) as u8)
        .collect();
    let labels: Vec<usize> = (0..count).map(|i| i % classes).collect();
    Dataset::from_pixels(
        shape,
        (0..classes).map(|c| format!("c{c}")).collect(),
        pixels,
        &labels,
    )
    .expect("a set")
}

fn sources() -> Sources {
    Sources {
        train: set(32, 1, 2),
        second: None,
        held_out: set(8, 1, 2),
        normalization: Normalization::new(vec![0.5], vec![0.25]),
        skipped: Vec::new(),
        twins: 0,
        taken: data::Taken::Apart,
        mirrored: true,
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!(
        "polyveil-train-refusals-{}-{name}",
        std::process::id()
    ));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// One line with all of these words.
fn says(e: &Error, words: &[&str]) {
    let text = e.to_string();
    assert!(!text.contains('\n'), "{text}");
    for w in words {
        assert!(text.contains(w), "{w:?} is missing in: {text}");
    }
}

fn train(config: &Config, sources: Sources, name: &str) -> Result<(), Error> {
    let (model, _) = train::networks::model(&config.network, (8, 8, 1), 2, config.seed)?;
    let mut trainer = Trainer::new(config, model, None, sources, Some(&folder(name)))?;
    trainer.run(&mut |_| ControlFlow::Continue(())).map(|_| ())
}

#[test]
fn odd_settings() {
    for (from, to, words) in [
        ("batch = 8", "batch = 1", &["batch = 1", "at least 2"][..]),
        (
            "epochs = 1.0",
            "epochs = -1.0",
            &["epochs = -1", "0 to 10,000"],
        ),
        ("epochs = 1.0", "epochs = nan", &["epochs = NaN"]),
        ("epochs = 1.0", "epoch = 1.0", &["epoch", "epochs"]),
        (
            "epochs = 1.0",
            "rate = { peak = -0.1 }",
            &["rate.peak", "at least 0"],
        ),
        (
            "epochs = 1.0",
            "rate = { warm_up = 2.0 }",
            &["rate.warm_up", "0 to 1"],
        ),
        (
            "epochs = 1.0",
            "second_share = 1.5",
            &["second_share", "0 to 1"],
        ),
        (
            "epochs = 1.0",
            "patience = 0",
            &["patience = 0", "leave it out"],
        ),
        ("epochs = 1.0", "guard = -0.5", &["guard", "at least 0"]),
        (
            "epochs = 1.0",
            "loss = { temperature = 0.0 }",
            &["loss.temperature", "above 0"],
        ),
        (
            "epochs = 1.0",
            "coefficient_rate = -1.0",
            &["coefficient_rate"],
        ),
        (
            "epochs = 1.0",
            "rule = { kind = \"sgd\", momentum = 1.0, decay = 0.0 }",
            &["rule", "below 1"],
        ),
        (
            "epochs = 1.0",
            "clipping = { kind = \"norm\", limit = 0.0 }",
            &["clipping.limit", "above 0"],
        ),
        (
            "epochs = 1.0",
            "range_loss = { kind = \"worst\", weight = -1.0 }",
            &["range_loss.weight"],
        ),
        (
            "epochs = 1.0",
            "target = { kind = \"fixed\", low = 2.0, high = 1.0 }",
            &["target", "lower one first"],
        ),
        (
            "epochs = 1.0",
            "substitution = { degree = 0 }",
            &["degree", "1 to 255"],
        ),
        (
            "epochs = 1.0",
            "substitution = { degree = 4, margin = -1.0 }",
            &["margin"],
        ),
        (
            "epochs = 1.0",
            "substitution = { degree = 4, interval = [3.0, -3.0] }",
            &["interval", "lower one first"],
        ),
        (
            "epochs = 1.0",
            "substitution = { degree = 4, order = { kind = \"blend\", share = 3.0 } }",
            &["order.share", "0 to 1"],
        ),
        ("epochs = 1.0", "second_from = nan", &["second_from"]),
        (
            "epochs = 1.0",
            "range_loss = { kind = \"boundary\", weight = 1.0, edge = nan }",
            &["range_loss.edge"],
        ),
        (
            "epochs = 1.0",
            "target = { kind = \"quantiles\", margin = nan }",
            &["target.margin"],
        ),
        (
            "data = {",
            "data = { augmentation = { resized_crop = { area = [nan, 1.0] } },",
            &["resized crop"],
        ),
        (
            "data = {",
            "data = { size = [0, 8],",
            &["size", "at least 1"],
        ),
    ] {
        let text = BASE.replace(from, to);
        assert_ne!(text, BASE);
        says(&Config::parse(&text).expect_err(to), words);
    }
    Config::parse(BASE).expect("the base is fine");
    let e = Config::parse(BASE.split("[[stage]]").next().expect("a part")).expect_err("no stage");
    says(&e, &["stage"]);
}

#[test]
fn networks_that_are_not_for_these_pictures() {
    let mut config = Config::parse(BASE).expect("parses");
    let mut other = sources();
    other.train = set(32, 1, 3);
    says(
        &train(&config, other, "classes").expect_err("classes"),
        &["2 outputs", "3 classes", "train with"],
    );
    let mut other = sources();
    other.train = set(32, 3, 2);
    says(
        &train(&config, other, "shape").expect_err("shape"),
        &["the network takes", "the data holds", "size"],
    );
    config.network = Network::Small {
        width: 4,
        activation: "maxout".into(),
    };
    says(
        &train(&config, sources(), "activation").expect_err("maxout"),
        &["activation = maxout", "known are relu"],
    );
    config.network = Network::File {
        path: "nowhere.onnx".into(),
        activation: None,
    };
    says(
        &train(&config, sources(), "file").expect_err("file"),
        &["nowhere.onnx"],
    );
}

#[test]
fn degrees_and_intervals_that_do_not_fit() {
    let mut config = Config::parse(BASE).expect("parses");
    let substitution = |degree, interval| {
        Some(Substitution {
            degree,
            order: Order::All,
            margin: 0.1,
            interval,
            floor: 0.02,
            pictures: 32,
        })
    };
    config.stages[0].substitution = substitution(Degrees::Each(vec![2, 4]), None);
    says(
        &train(&config, sources(), "degrees").expect_err("degrees"),
        &["degree = 2 degrees", "3 activations", "one degree for each"],
    );
    config.stages[0].substitution = substitution(Degrees::One(4), Some((-0.01, 0.01)));
    let e = train(&config, sources(), "interval").expect_err("interval");
    assert!(matches!(e, Error::Interval { .. }), "{e}");
    says(
        &e,
        &[
            "activation act1",
            "calibration saw",
            "[-0.0100, 0.0100]",
            "widen the interval",
        ],
    );
    // a wide one is taken as it is
    config.stages[0].substitution = substitution(Degrees::One(4), Some((-50.0, 60.0)));
    config.stages[0].epochs = 0.0;
    let (mut model, _) =
        train::networks::model(&config.network, (8, 8, 1), 2, 1).expect("a network");
    let s = sources();
    model
        .calibrate(s.batches(&s.train, 8).expect("batches"))
        .expect("calibrates");
    model
        .substitute(0..3, config.stages[0].substitution.as_ref().expect("there"))
        .expect("fits");
    assert!(model.units().all(|u| u.domain == (-50.0, 60.0)));
}

#[test]
fn pictures_that_can_not_be_used() {
    let root = folder("data");
    let open = |toml: &str| {
        Sources::open(
            &Config::parse(&BASE.replace("data = { train = \"none\"", toml))
                .expect("parses")
                .data,
            None,
        )
    };
    // IDX: labels 0, 1, 2
    let idx = root.join("train-images-idx3-ubyte");
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0, 4];
    images.extend((0..96).map(|i| (i * 37 % 256) as u8));
    std::fs::write(&idx, images).expect("writes");
    std::fs::write(
        root.join("train-labels-idx1-ubyte"),
        [0, 0, 8, 1, 0, 0, 0, 6, 0, 1, 2, 0, 1, 2],
    )
    .expect("writes");
    let at = format!("data = {{ train = {idx:?}");
    says(
        &open(&format!("{at}, held_out = 2, labels = [\"a\", \"b\"]")).expect_err("labels"),
        &["number 2", "\"2\"", "2 classes"],
    );
    for held_out in ["0", "6", "1000"] {
        says(
            &open(&format!("{at}, held_out = {held_out}")).expect_err("held out"),
            &[&format!("held_out = {held_out}"), "6 pictures"],
        );
    }
    let e = open(&format!("{at}, held_out = 2").replace("data = {", "data = { ")).expect("opens");
    assert_eq!(e.train.len(), 4);
    // intervals hold for mirror images where training takes some
    let row: Vec<f32> = (0..e.train.shape().len()).map(|i| i as f32).collect();
    assert!(train::sources::Direct::mirrored(&e, &row).is_none());
    let flipped = open(&format!(
        "{at}, held_out = 2, augmentation = {{ flip = true }}"
    ));
    let mirrored = train::sources::Direct::mirrored(&flipped.expect("opens"), &row);
    assert!(mirrored.is_some_and(|m| m != row));
    let config = Config::parse(&BASE.replace(
        "train = \"none\", normalization = \"measured\"",
        &format!("train = {idx:?}, held_out = 2"),
    ))
    .expect("parses");
    // ImageNet's is of colours, and nobody says another
    let mut data = config.data;
    let new = Sources::open(&data, None).and_then(|mut s| s.adopt(&data, None));
    says(
        &new.expect_err("grey"),
        &["normalization", "measured", "half"],
    );
    data.normalization = Some("imagenet".into());
    says(
        &Sources::open(&data, None).expect_err("grey"),
        &["normalization = imagenet", "measured"],
    );
    for (normalization, mean) in [
        (Pixels::from("half"), 0.5),
        (Pixels::from("none"), 0.0),
        (
            Pixels::Given(Stated {
                mean: vec![127.5],
                deviation: vec![51.0],
                range: Some((0.0, 255.0)),
                ..Stated::default()
            }),
            0.5,
        ),
    ] {
        data.normalization = Some(normalization);
        let opened = Sources::open(&data, None).expect("opens");
        assert_eq!(opened.normalization.mean, [mean]);
    }
    // a folder with pictures of two sizes
    for (name, side) in [("a", 4), ("b", 5)] {
        let class = root.join("folder").join(name);
        std::fs::create_dir_all(&class).expect("a folder");
        let picture =
            image::GrayImage::from_fn(side, side, |x, y| image::Luma([(x * 40 + y * 9) as u8]));
        picture.save(class.join("1.png")).expect("writes");
    }
    says(
        &open(&format!(
            "data = {{ train = {:?}, held_out = 1",
            root.join("folder")
        ))
        .expect_err("sizes"),
        &["5×5", "4×4", "resize"],
    );
    // numbers that are no bytes could be NaN
    let mut mean = sources();
    mean.normalization.mean[0] = f64::NAN;
    let config = Config::parse(BASE).expect("parses");
    let e = train(&config, mean, "nan").expect_err("NaN");
    says(&e, &["normali"]);
    let mut bare = sources();
    bare.normalization = Normalization::new(Vec::new(), Vec::new());
    says(
        &train(&config, bare, "bare").expect_err("none"),
        &["normali"],
    );
    let mut data = config.data.clone();
    data.normalization = Some("network".into());
    says(
        &sources()
            .adopt(&data, Some(&nn::Metadata::default()))
            .expect_err("unknown"),
        &["normalization = network", "measured"],
    );
}

#[test]
fn weights_that_are_no_numbers() {
    let config = Config::parse(BASE).expect("parses");
    let (mut model, _) =
        train::networks::model(&config.network, (8, 8, 1), 2, 1).expect("a network");
    model.parameters[0].values[0] = f32::NAN;
    let e = model.to_graph().expect_err("NaN");
    says(&e, &["NaN", "position", "export the model again"]);
    let s = sources();
    let e = model
        .calibrate(s.batches(&s.train, 8).expect("batches"))
        .expect_err("NaN");
    says(&e, &["act1", "not finite"]);
    let mut many = sources();
    many.train = set(400, 1, 2);
    let mut trainer =
        Trainer::new(&config, model, None, many, Some(&folder("weights"))).expect("a run");
    let e = trainer
        .run(&mut |_| ControlFlow::Continue(()))
        .expect_err("diverged");
    says(&e, &["loss", "not finite", "learning rate"]);
}

#[test]
fn checkpoints_that_are_another_runs_or_damaged() {
    let config = Config::parse(BASE).expect("parses");
    let path = folder("checkpoint");
    let begin = |config: &Config| -> Result<(), Error> {
        let (model, _) = train::networks::model(&config.network, (8, 8, 1), 2, config.seed)?;
        let mut trainer = Trainer::new(config, model, None, sources(), Some(&path))?;
        trainer.run(&mut |_| ControlFlow::Continue(())).map(|_| ())
    };
    begin(&config).expect("trains");
    let mut other = config.clone();
    other.stages[0].rate.peak = 0.07;
    says(
        &begin(&other).expect_err("another"),
        &[
            "another configuration",
            "peak is 0.05",
            "0.07 here",
            "another folder",
        ],
    );
    other = config.clone();
    other.seed = 9;
    says(
        &begin(&other).expect_err("another"),
        &["seed is 1 there and 9 here"],
    );

    let file = path.join("checkpoint.safetensors");
    let sealed = std::fs::read(&file).expect("a checkpoint");
    let spoiled = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&file, bytes).expect("writes");
        let e = begin(&config).expect_err("spoiled");
        says(&e, words);
        says(
            &e,
            &["checkpoint.safetensors", "start from an older one or anew"],
        );
    };
    for at in (0..sealed.len()).step_by(sealed.len() / 20) {
        let mut bad = sealed.clone();
        bad[at] ^= 1 << (at % 8);
        spoiled(&bad, &[]);
    }
    // of the version without checksums, so that it is what is changed that is refused
    let mut good = sealed;
    let version = b"\"polyveil-checkpoint\":\"2\"";
    let at = good.windows(version.len()).position(|w| w == version);
    good[at.expect("a version") + version.len() - 2] = b'1';
    let good = good;
    for cut in [0, 5, 100, good.len() / 2, good.len() - 1] {
        spoiled(&good[..cut], &[]);
    }
    spoiled(b"not a checkpoint at all", &[]);
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .expect("there");
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    spoiled(
        &replaced(
            "\"polyveil-checkpoint\":\"1\"",
            "\"polyveil-checkpoint\":\"7\"",
        ),
        &["version 7", "version 2"],
    );
    spoiled(
        &replaced("polyveil-checkpoint", "something-different"),
        &["no checkpoint of a training run"],
    );
    spoiled(
        &replaced("value:conv1.weight", "value:conv9.weight"),
        &["value:conv1.weight is missing"],
    );
    // an activation's function that is none, a polynomial without coefficients, a domain from right to left
    let unit = |place: usize, value: f32| {
        let tensors = safetensors::SafeTensors::deserialize(&good).expect("a checkpoint");
        let data = tensors.tensor("unit:act1").expect("an activation").data();
        let at = data.as_ptr() as usize - good.as_ptr() as usize + 4 * place;
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for (place, value) in [(0, 7.0), (0, 1.0), (2, 99.0), (3, f32::NAN), (10, -1.0)] {
        spoiled(&unit(place, value), &["unit:act1"]);
    }
    std::fs::write(&file, &good).expect("writes");
    begin(&config).expect("the good one is still good");
    let _ = std::fs::remove_dir_all(path);
}
