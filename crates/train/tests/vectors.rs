//! Runs on vectors: from a table to a network of polynomials, for classes and for numbers; resumed bit by bit; what is refused.

use nn::format::artefact;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use train::direct::{Finished, Start, finish, start};
use train::vectors::{Table, VectorConfig};
use train::{AnyConfig, End, Event, Trainer};

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
