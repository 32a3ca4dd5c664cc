//! Runs on vectors: from a table to a network of polynomials, for classes and for numbers; resumed bit by bit; what is refused.

use nn::format::artefact;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use train::direct::{Finished, Start, finish, start};
use train::vectors::{Table, VectorConfig};
use train::{AnyConfig, End, Event, Trainer};
use zoo::random::uniform;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-vectors-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&path));
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// Points in a square, which of three rings they lie in, and a smooth function of them; the third column says nothing.
fn table(path: &Path, columns: [&str; 5]) {
    let mut text = columns.join(";") + "\n";
    let (mut a, mut b) = (0.5f64, 0.5f64);
    for _ in 0..1200 {
        // the additive recurrence of the plastic number
        a = (a + 0.754_877_666_246_693) % 1.0;
        b = (b + 0.569_840_290_998_053) % 1.0;
        let (x, y) = (20.0 * a - 10.0, 4.0 * b + 96.0);
        let r = (2.0 * a - 1.0).hypot(2.0 * b - 1.0);
        let ring = if r < 0.5 {
            "inner"
        } else if r < 0.85 {
            "middle"
        } else {
            "outer"
        };
        let height = 1.0 + 0.8 * (3.0 * a).sin() + 0.6 * b * b;
        let cells = columns.map(|c| match c {
            "x" => x.to_string(),
            "y" => y.to_string(),
            "always" => "7".into(),
            "ring" => ring.into(),
            _ => height.to_string(),
        });
        writeln!(text, "{}", cells.join(";")).expect("text");
    }
    std::fs::write(path, text).expect("a file");
}

fn config(data: &Path, network: &str, what: &str, stage: &str) -> VectorConfig {
    let text = format!(
        "batch = 32\n[network]\n{network}\n[data]\nvectors = {data:?}\nheld_out = 200\n{what}\n[[stage]]\n{stage}\n"
    );
    VectorConfig::parse(&text).expect("a configuration")
}

/// Runs in `folder` until `stop` says so after a step.
fn go(config: &VectorConfig, folder: &Path, steps: usize) -> Option<Finished> {
    let Start {
        sources,
        model,
        teacher,
        metadata,
    } = start::<Table>(config, None).expect("starts");
    let mut trainer = Trainer::new(config, model, teacher, sources, Some(folder)).expect("a run");
    let mut left = steps;
    let end = trainer
        .run(&mut |_| {
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .expect("trains");
    (end == End::Finished).then(|| finish(&mut trainer, metadata, 0).expect("finishes"))
}

const COLUMNS: [&str; 5] = ["x", "y", "always", "ring", "height"];
const MLP: &str = "kind = \"mlp\"\nhidden = [24, 24]\nactivation = \"relu\"";
const CLASSES: &str = "labels = \"ring\"\nwithout = [\"height\"]";
const NUMBERS: &str = "targets = [\"height\"]\nwithout = [\"ring\"]";
const TRAIN: &str =
    "epochs = 40.0\nrate = { peak = 0.02 }\nclipping = { kind = \"norm\", limit = 1.0 }";
const ADAPT: &str = "epochs = 20.0\nrate = { peak = 0.01 }\ncoefficient_rate = 0.1\nclipping = { kind = \"norm\", limit = 1.0 }\n\
    loss = { teacher = 0.9 }\nrange_loss = { kind = \"boundary\", weight = 10.0, edge = 0.6 }\nguard = 0.1\n\
    substitution = { degree = 4, margin = 0.15, order = { kind = \"blend\", share = 0.3 } }";

/// Trains, then adapts what was trained with itself as teacher; the polynomial network's file.
fn both(name: &str, what: &str) -> (PathBuf, Finished, Finished) {
    let at = folder(name);
    let data = at.join("table.csv");
    table(&data, COLUMNS);
    let trained = go(
        &config(&data, MLP, what, TRAIN),
        &at.join("train"),
        usize::MAX,
    );
    let trained = trained.expect("finishes");
    let file = format!(
        "kind = \"file\"\npath = {:?}",
        trained.path.as_ref().expect("a path")
    );
    let what = format!("{what}\nnormalization = \"network\"\n[teacher]\n{file}");
    // columns are found by name
    let other = at.join("other.csv");
    table(&other, ["ring", "y", "height", "x", "always"]);
    let adapted = go(
        &config(&other, &file, &what, ADAPT),
        &at.join("adapt"),
        usize::MAX,
    );
    (data, trained, adapted.expect("finishes"))
}

fn vectors(data: &Path, answers: data::Answers, without: &str) -> data::Vectors {
    let options = data::VectorOptions {
        answers,
        without: vec![without.into()],
        ..data::VectorOptions::default()
    };
    let all = data::Vectors::open(data, &options).expect("a set");
    all.split(200).expect("held out").1
}

#[test]
fn classes_become_polynomial_with_nothing_outside() {
    let (data, trained, adapted) = both("classes", CLASSES);
    assert!(trained.score.accuracy() > 0.93, "{:?}", trained.score);
    assert!(adapted.score.accuracy() > 0.93, "{:?}", adapted.score);
    assert_eq!(
        (adapted.score.outside, adapted.measured),
        (0, Some((1200, 0)))
    );
    assert!(adapted.score.errors.is_empty());
    // the file alone: as the oracle computes it
    let bytes = std::fs::read(adapted.path.as_ref().expect("a path")).expect("a file");
    let network = artefact::from_bytes(&bytes).expect("polynomials");
    let held_out = vectors(&data, data::Answers::Classes(Some("ring".into())), "height");
    let Ok(Some(task::Task::Vectors(own))) = task::Task::of(network.metadata()) else {
        panic!("a network of vectors says so")
    };
    assert_eq!(own.outputs().names(), ["inner", "middle", "outer"]);
    let mut right = 0;
    for i in 0..held_out.len() {
        let x = own.input(held_out.values(i)).expect("an input");
        let e = network.evaluate(&x).expect("evaluates");
        assert!(e.outside.is_empty(), "{:?}", e.outside);
        right += usize::from(Some(e.output.argmax()) == held_out.label(i));
    }
    assert_eq!(right, adapted.score.right);
}

#[test]
fn numbers_are_predicted_by_polynomials() {
    let (data, trained, adapted) = both("numbers", NUMBERS);
    for finished in [&trained, &adapted] {
        let [errors] = finished.score.errors[..] else {
            panic!("one output");
        };
        assert!(errors.r2 > 0.97 && errors.rmse < 0.1, "{errors:?}");
    }
    assert_eq!(adapted.score.outside, 0);
    let network = artefact::from_bytes(
        &std::fs::read(adapted.path.as_ref().expect("a path")).expect("a file"),
    );
    let network = network.expect("polynomials");
    let held_out = vectors(&data, data::Answers::Numbers(vec!["height".into()]), "ring");
    let Ok(Some(task)) = task::Task::of(network.metadata()) else {
        panic!("a network of vectors says so")
    };
    let row = task::Input::Row(held_out.values(0));
    let x = task.encode(&row).expect("an input");
    let y = network.evaluate(&x).expect("evaluates").output.values()[0];
    assert!(
        (y - held_out.target(0)[0]).abs() < 0.3,
        "{y} for {:?}",
        held_out.target(0)
    );
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_by_bit() {
    let at = folder("resume");
    let data = at.join("table.csv");
    table(&data, COLUMNS);
    let stage = TRAIN.replace("40.0", "1.5");
    let config = config(&data, MLP, NUMBERS, &stage);
    let whole = go(&config, &at.join("whole"), usize::MAX).expect("finishes");
    for steps in [17, 20, usize::MAX] {
        go(&config, &at.join("parts"), steps);
    }
    let read = |run: &str, name: &str| std::fs::read(at.join(run).join(name)).expect("a file");
    // the metadata of a checkpoint are a map without order
    let checkpoint = |run: &str| {
        let bytes = read(run, "checkpoint.safetensors");
        let head = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + head]).expect("JSON");
        (json, bytes[8 + head..].to_vec())
    };
    assert!(checkpoint("whole") == checkpoint("parts"));
    assert_eq!(read("whole", "log.csv"), read("parts", "log.csv"));
    assert!(whole.score.answers == 200);
}

#[test]
fn odd_runs_are_refused() {
    let at = folder("refused");
    let data = at.join("table.csv");
    table(&data, COLUMNS);
    let says = |network: &str, what: &str, words: &[&str]| {
        let config = config(&data, network, what, TRAIN);
        let made = start::<Table>(&config, None).and_then(|s| {
            Trainer::new(
                &config,
                s.model,
                s.teacher,
                s.sources,
                Some(&at.join("run")),
            )
            .map(drop)
        });
        let line = made.expect_err("is refused").to_string();
        for w in words {
            assert!(line.contains(w), "{w:?} is missing in: {line}");
        }
    };
    says(
        MLP,
        "labels = \"colour\"",
        &["no colour", "x, y, always, ring, height"],
    );
    says(
        MLP,
        "labels = \"ring\"\nclasses = [\"inner\", \"outer\"]\nwithout = [\"height\"]",
        &["\"middle\"", "2 classes"],
    );
    says(
        MLP,
        "targets = [\"ring\"]",
        &["line 2, column 4 (\"ring\")", "no number"],
    );
    says(&MLP.replace("24, 24", "0"), CLASSES, &["hidden", "[0]"]);
    says(
        &MLP.replace("relu", "ruler"),
        CLASSES,
        &["activation", "ruler"],
    );
    says(
        "kind = \"small\"\nactivation = \"relu\"\nwidth = 4",
        CLASSES,
        &["the data holds"],
    );
    let both = format!(
        "[network]\n{MLP}\n[data]\nvectors = {data:?}\nheld_out = 200\ntargets = [\"height\"]\nlabels = \"ring\"\n[[stage]]\n{TRAIN}\n"
    );
    let line = VectorConfig::parse(&both)
        .expect_err("is refused")
        .to_string();
    assert!(
        line.contains("targets") && line.contains("not both"),
        "{line}"
    );
    // told from other runs by its data
    let path = at.join("run.toml");
    std::fs::write(
        &path,
        config(&data, MLP, CLASSES, TRAIN).to_toml().expect("text"),
    )
    .expect("a file");
    assert!(matches!(
        AnyConfig::load(&path).expect("a run"),
        AnyConfig::Vectors(_)
    ));
}

#[test]
fn a_run_without_a_folder_is_the_same_run() {
    let at = folder("nowhere");
    let data = at.join("table.csv");
    table(&data, COLUMNS);
    // steps that soon make it worse, so that it goes back to its best pass
    let stage = "epochs = 12.0\npatience = 1\nrate = { peak = 1.0 }";
    let config = config(&data, MLP, CLASSES, stage);
    let run = at.join("run");
    let [with, without] = [Some(run.as_path()), None].map(|folder| {
        let s = start::<Table>(&config, None).expect("starts");
        let trainer = Trainer::new(&config, s.model, s.teacher, s.sources, folder);
        let mut trainer = trainer.expect("a run");
        let mut back = false;
        let end = trainer.run(&mut |event| {
            back |= matches!(event, Event::Note(text) if text.contains("back to the best"));
            ControlFlow::Continue(())
        });
        assert_eq!((end.expect("trains"), back), (End::Finished, true));
        let finished = finish(&mut trainer, s.metadata, 0).expect("finishes");
        let zoo::Model::Trained(graph, _) = finished.network else {
            panic!("its activations are as they were")
        };
        (graph, finished.score, finished.path)
    });
    assert_eq!((&with.0, &with.1), (&without.0, &without.1));
    assert_eq!((with.2, without.2), (Some(run.join("network.pvm")), None));
}

/// Convolutions over the time of two channels, with new weights.
fn signals(outputs: usize) -> nn::Graph {
    let parameter = |name: &str, shape: &[usize], bound: f64| {
        let values = uniform(3, name, shape.iter().product(), bound);
        nn::Parameter::new(name, shape.to_vec(), values).expect("finite")
    };
    let mut b = nn::Graph::builder();
    let mut x = b.input("x", nn::Shape::image(2, 1, 16)).expect("fits");
    for (name, from, to) in [("first", 2, 6), ("second", 6, 8)] {
        let conv = nn::Conv2d {
            stride: (1, 2),
            bias: Some(parameter(&format!("{name}.bias"), &[to], 0.1)),
            ..nn::Conv2d::new(parameter(name, &[to, from, 1, 3], 0.6))
        };
        x = b.add(name, nn::Op::Conv2d(conv), &[x]).expect("fits");
        let relu = nn::Nonlinearity::Activation(approx::Activation::named("relu").expect("known"));
        let relu = nn::Op::Elementwise(relu);
        x = b.add(format!("{name}.relu"), relu, &[x]).expect("fits");
    }
    x = b.add("flat", nn::Op::Flatten, &[x]).expect("fits");
    let last = nn::Linear {
        weight: parameter("last", &[outputs, 24], 0.4),
        bias: None,
    };
    let y = b.add("last", nn::Op::Linear(last), &[x]).expect("fits");
    b.finish(y).expect("a network")
}

/// Waves of three lengths in two channels, the second on another scale; and which length, and how high.
fn waves() -> Vec<(Vec<f64>, usize, f64)> {
    let wave = |i: usize| {
        // what is held out is spread evenly: kinds must not be
        let (kind, turn) = (i * 31 / 7 % 3, 0.7 * i as f64);
        let height = 0.6 + 0.4 * (0.37 * i as f64).sin();
        let at = |t: usize| (turn + (kind + 1) as f64 * t as f64 * 0.6).sin() * height;
        let first = (0..16).map(at);
        let second = (0..16).map(|t| 50.0 + 10.0 * at(15 - t));
        (first.chain(second).collect(), kind, height)
    };
    (0..600).map(wave).collect()
}

/// A network of signals in a file, as a configuration names it.
fn signal_file(at: &Path, outputs: usize) -> String {
    let bytes = artefact::graph_to_bytes(&signals(outputs), &nn::Metadata::default());
    let path = at.join("signals.pvm");
    std::fs::write(&path, bytes.expect("writes")).expect("a file");
    format!("kind = \"file\"\npath = {path:?}")
}

#[test]
fn signals_are_classified_by_polynomials_in_their_own_shape() {
    let at = folder("signals");
    let data = at.join("signals.csv");
    let rows = waves().into_iter().map(|(values, kind, _)| {
        let cells: Vec<String> = values.iter().map(f64::to_string).collect();
        format!("{},{}\n", cells.join(","), ["low", "middle", "high"][kind])
    });
    let heading: String = (0..32).map(|i| format!("t{i},")).collect();
    std::fs::write(
        &data,
        format!("{heading}kind\n") + &rows.collect::<String>(),
    )
    .expect("a file");
    let (file, what) = (signal_file(&at, 3), "labels = \"kind\"");
    let stage = TRAIN.replace("40.0", "30.0");
    let trained = go(
        &config(&data, &file, what, &stage),
        &at.join("train"),
        usize::MAX,
    );
    let trained = trained.expect("finishes");
    assert!(trained.score.accuracy() > 0.95, "{:?}", trained.score);
    let path = trained.path.expect("a path");
    let file = format!("kind = \"file\"\npath = {path:?}");
    let what = format!("{what}\nnormalization = \"network\"\n[teacher]\n{file}");
    let adapted = go(
        &config(&data, &file, &what, ADAPT),
        &at.join("adapt"),
        usize::MAX,
    );
    let adapted = adapted.expect("finishes");
    assert!(adapted.score.accuracy() > 0.9, "{:?}", adapted.score);
    assert_eq!(adapted.score.outside, 0);

    // the file alone: as the oracle computes it, which counts channel by channel
    let bytes = std::fs::read(adapted.path.expect("a path")).expect("a file");
    let network = artefact::from_bytes(&bytes).expect("polynomials");
    let Ok(Some(task::Task::Vectors(own))) = task::Task::of(network.metadata()) else {
        panic!("a network of signals takes rows")
    };
    assert_eq!(own.shape(), nn::Shape::image(2, 1, 16));
    let means = &own.normalization().expect("measured").mean;
    assert!(means[..16].iter().all(|m| *m == means[0] && m.abs() < 1.0));
    assert!(means[16..].iter().all(|m| *m == means[16] && *m > 45.0));
    let options = data::VectorOptions {
        answers: data::Answers::Classes(Some("kind".into())),
        ..data::VectorOptions::default()
    };
    let all = data::Vectors::open(&data, &options).expect("a set");
    let held_out = all.split(200).expect("held out").1;
    let right = (0..held_out.len()).filter(|&i| {
        let x = own.input(held_out.values(i)).expect("an input");
        let y = network.evaluate(&x).expect("evaluates").output;
        Some(y.argmax()) == held_out.label(i)
    });
    assert_eq!(right.count(), adapted.score.right);
}

#[test]
fn numbers_are_predicted_of_arrays_in_the_networks_shape() {
    let at = folder("arrays");
    let waves = waves();
    let values: Vec<f64> = waves.iter().flat_map(|w| w.0.iter().copied()).collect();
    let heights: Vec<f64> = waves.iter().map(|w| w.2).collect();
    let write = |name: &str, dims: &[usize], values: &[f64]| {
        let path = at.join(name);
        std::fs::write(&path, data::array_bytes(dims, values)).expect("a file");
        path
    };
    let data = write("x.npy", &[600, 2, 16], &values);
    let heights = write("y.npy", &[600], &heights);
    let (file, what) = (signal_file(&at, 1), format!("targets = [{heights:?}]"));
    let stage = TRAIN.replace("40.0", "30.0");
    let run = at.join("run");
    let trained = go(&config(&data, &file, &what, &stage), &run, usize::MAX);
    let [errors] = trained.expect("finishes").score.errors[..] else {
        panic!("one output");
    };
    assert!(errors.r2 > 0.7, "{errors:?}");
    // axes in another order would be taken for the network's
    let turned = write("turned.npy", &[600, 16, 2], &values);
    let config = config(&turned, &file, &what, TRAIN);
    let refused = start::<Table>(&config, None).map(drop);
    let refused = refused.expect_err("another shape").to_string();
    assert!(
        refused.contains("(2, 1, 16)") && refused.contains("transpose"),
        "{refused}"
    );
}
