//! A run that was stopped and goes on ends bit for bit as one that was not stopped.

use data::{Augmentation, Dataset, Shape};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use task::Normalization;
use train::activation::RangeLoss;
use train::config::{Config, Data, Degrees, Network, Order, Stage, Substitution, Target};
use train::optimizer::{Clipping, Rate, Rule};
use train::{End, Event, Sources, Trainer};

const SIDE: usize = 8;

/// Pictures of three classes: stripes along, stripes across, neither, with noise.
fn pictures(count: usize, salt: u64) -> Dataset {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8 & 63
    };
    let mut pixels = Vec::new();
    let labels: Vec<usize> = (0..count).map(|i| i % 3).collect();
    for label in &labels {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let stripe = match label {
                    0 => y % 2,
                    1 => x % 2,
                    _ => 0,
                };
                pixels.push(60 + 80 * stripe as u8 + noise());
            }
        }
    }
    let classes = ["along", "across", "neither"].map(String::from).to_vec();
    Dataset::from_pixels(
        Shape {
            height: SIDE,
            width: SIDE,
            channels: 1,
        },
        classes,
        pixels,
        &labels,
    )
    .expect("a set")
}

fn sources() -> Sources {
    Sources {
        train: pictures(96, 1),
        second: Some(pictures(36, 2)),
        held_out: pictures(30, 3),
        normalization: Normalization::new(vec![0.4], vec![0.2]),
        skipped: Vec::new(),
        twins: 0,
        taken: data::Taken::Apart,
        mirrored: true,
    }
}

/// Every kind of stage: range loss with quantile targets and patience, blend with trainable coefficients, one by one to another degree
/// with the second data, fixed coefficients with AdamW and patience, and one that trains nothing.
fn config() -> Config {
    let substitution = |degree, order| {
        Some(Substitution {
            degree,
            order,
            margin: 0.1,
            interval: None,
            floor: 0.02,
            pictures: 24,
        })
    };
    let rate = Rate {
        peak: 0.02,
        warm_up: 0.1,
        last: 0.0,
    };
    let boundary = RangeLoss::Boundary {
        weight: 0.01,
        edge: 0.8,
    };
    Config {
        seed: 5,
        batch: 16,
        network: Network::Small {
            width: 4,
            activation: "silu".into(),
        },
        batch_norms: None,
        teacher: Some(Network::Small {
            width: 4,
            activation: "relu".into(),
        }),
        data: Data {
            train: "none".into(),
            split: None,
            second: None,
            held_out: Some(30),
            drop_twins: false,
            limit: None,
            labels: Vec::new(),
            normalization: Some("measured".into()),
            size: None,
            skip_damaged: false,
            augmentation: Augmentation {
                flip: true,
                crop_padding: 1,
                ..Augmentation::default()
            },
        },
        stages: vec![
            Stage {
                name: "float".into(),
                epochs: 2.5,
                rate,
                range_loss: boundary,
                target: Target::Quantiles { margin: 0.5 },
                patience: Some(1),
                ..Stage::default()
            },
            Stage {
                name: "blend".into(),
                epochs: 1.5,
                rate,
                coefficient_rate: 0.1,
                clipping: Clipping::Norm { limit: 1.0 },
                range_loss: boundary,
                substitution: substitution(Degrees::One(6), Order::Blend { share: 0.5 }),
                guard: Some(0.1),
                reestimate: true,
                ..Stage::default()
            },
            Stage {
                name: "one-by-one".into(),
                epochs: 2.0,
                rate: Rate {
                    peak: 0.005,
                    ..rate
                },
                coefficient_rate: 0.1,
                clipping: Clipping::Value { limit: 0.5 },
                range_loss: RangeLoss::Worst { weight: 0.001 },
                target: Target::Seen,
                substitution: substitution(Degrees::One(4), Order::OneByOne { share: 0.7 }),
                guard: Some(0.1),
                second_share: 0.25,
                second_from: 0.5,
                ..Stage::default()
            },
            Stage {
                name: "adam".into(),
                epochs: 4.0,
                rate: Rate {
                    peak: 0.002,
                    ..rate
                },
                rule: Rule::AdamW {
                    betas: (0.9, 0.99),
                    decay: 0.01,
                },
                guard: Some(0.1),
                patience: Some(1),
                ..Stage::default()
            },
            Stage {
                name: "measure".into(),
                epochs: 0.0,
                reestimate: true,
                guard: Some(0.1),
                ..Stage::default()
            },
        ],
    }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-resume-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Runs in `folder` until `stop` says so at the n-th event of this process.
fn go(
    config: &Config,
    folder: &Path,
    threads: usize,
    stop: &mut (dyn FnMut(usize, &Event<'_>) -> bool + Send),
) -> End {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    pool.install(|| {
        let input = (SIDE, SIDE, 1);
        let (model, _) =
            train::networks::model(&config.network, input, 3, config.seed).expect("a network");
        let teacher = config.teacher.as_ref().map(|t| {
            train::networks::model(t, input, 3, config.seed)
                .expect("a network")
                .0
        });
        let mut trainer =
            Trainer::new(config, model, teacher, sources(), Some(folder)).expect("a run");
        let mut events = 0;
        trainer
            .run(&mut |e| {
                events += 1;
                if stop(events, e) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .expect("trains")
    })
}

/// Everything that a run leaves: weights, statistics, optimiser, units and position are in the checkpoint.
fn results(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "checkpoint.safetensors",
            "log.csv",
            "ranges.csv",
            "run.toml"
        ]
    );
    [
        "checkpoint.safetensors",
        "log.csv",
        "ranges.csv",
        "run.toml",
    ]
    .map(|n| (n, contents(&folder.join(n))))
    .to_vec()
}

/// A file's bytes; a safetensors file's parts in the order of their names, since its metadata is a map without order.
fn contents(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("a file");
    if path.extension().is_none_or(|e| e != "safetensors") {
        return bytes;
    }
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a checkpoint");
    let mut parts: Vec<String> = header
        .metadata()
        .as_ref()
        .expect("metadata")
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    parts.sort();
    let mut out = parts.concat().into_bytes();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint");
    let mut names: Vec<_> = tensors.names().into_iter().map(str::to_owned).collect();
    names.sort();
    for name in names {
        out.extend(name.bytes());
        out.extend(tensors.tensor(&name).expect("there").data());
    }
    out
}

fn same(a: &[(&str, Vec<u8>)], b: &[(&str, Vec<u8>)], what: &str) {
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert!(a == b, "{what}: {name} differs");
    }
}

#[test]
fn stopped_anywhere_a_run_ends_as_if_it_had_not_been() {
    let config = config();
    let whole = folder("whole");
    let mut events = 0;
    assert_eq!(
        go(&config, &whole, 1, &mut |n, _| {
            events = n;
            false
        }),
        End::Finished
    );
    let expected = results(&whole);
    let log = String::from_utf8(expected[1].1.clone()).expect("text");
    for stage in ["float,1", "blend,2", "one-by-one,2", "adam,1"] {
        assert!(log.contains(stage), "{log}");
    }
    assert!(events > 40, "only {events} events");

    // at each event once, the threads changing
    let pieces = folder("pieces");
    let (mut stops, mut threads) = (0, 1);
    loop {
        // an event of a beginning is repeated: the stop must come later to make progress
        let end = go(&config, &pieces, threads, &mut |n, e| {
            n >= 2 && !matches!(e, Event::Note(_))
        });
        if end == End::Finished {
            break;
        }
        stops += 1;
        threads = threads % 3 + 1;
        assert!(stops <= events, "a stopped run makes no progress");
    }
    assert!(stops > 20, "only {stops} stops");
    same(
        &expected,
        &results(&pieces),
        "stopped after every second step",
    );

    // at one event: beginnings, ends of passes, between; with another number of threads
    for at in (1..events).step_by(4) {
        let once = folder("once");
        assert_eq!(go(&config, &once, 2, &mut |n, _| n == at), End::Stopped);
        assert_eq!(go(&config, &once, 1, &mut |_, _| false), End::Finished);
        same(
            &expected,
            &results(&once),
            &format!("stopped at event {at}"),
        );
    }

    // started again, a finished run changes nothing
    assert_eq!(go(&config, &whole, 2, &mut |_, _| false), End::Finished);
    same(&expected, &results(&whole), "finished and started again");
    for name in ["whole", "pieces", "once"] {
        let _ = std::fs::remove_dir_all(folder(name));
    }
}

/// A kill at any write: what lay in the folder at that moment is where the next process begins.
#[test]
fn killed_between_any_two_writes_a_run_ends_the_same() {
    let mut config = config();
    config.teacher = None;
    config.stages = vec![config.stages[0].clone(), config.stages[3].clone()];
    config.stages[0].epochs = 2.0;
    config.stages[1].substitution = Some(Substitution {
        degree: Degrees::One(4),
        order: Order::All,
        margin: 0.1,
        interval: None,
        floor: 0.02,
        pictures: 24,
    });
    let whole = folder("kill-whole");
    // copies of the folder at every event, as a kill there would leave it
    let copies = folder("kill-copies");
    let mut count = 0;
    let end = go(&config, &whole, 1, &mut |n, _| {
        let to = copies.join(n.to_string());
        std::fs::create_dir_all(&to).expect("a folder");
        for entry in std::fs::read_dir(&whole).expect("a folder") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
        }
        count = n;
        false
    });
    assert_eq!(end, End::Finished);
    let expected = results(&whole);
    for at in (1..=count).step_by(3) {
        let copy = copies.join(at.to_string());
        // also as if the kill had come between the best checkpoint and the run's, or before logs
        let _ = std::fs::remove_file(copy.join("log.csv"));
        assert_eq!(go(&config, &copy, 2, &mut |_, _| false), End::Finished);
        same(&expected, &results(&copy), &format!("killed at event {at}"));
    }
    for path in [whole, copies] {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[test]
fn patience_goes_back_to_the_best_pass_and_counts_polynomials_only() {
    let mut config = config();
    config.teacher = None;
    // too high a rate: later passes are worse
    let mut stage = config.stages[1].clone();
    stage.epochs = 6.0;
    stage.rate = Rate {
        peak: 0.6,
        warm_up: 0.0,
        last: 1.0,
    };
    stage.substitution = Some(Substitution {
        degree: Degrees::One(4),
        order: Order::Blend { share: 0.4 },
        margin: 0.1,
        interval: None,
        floor: 0.02,
        pictures: 24,
    });
    stage.patience = Some(1);
    config.stages = vec![stage];
    let path = folder("patience");
    let (mut accuracies, mut notes) = (Vec::new(), Vec::new());
    let _ = go(&config, &path, 2, &mut |_, e| {
        match e {
            Event::Epoch { held_out, .. } => accuracies.push(held_out.accuracy()),
            Event::Note(n) => notes.push(n.clone()),
            _ => {}
        }
        false
    });
    // the blend lasts 2.4 passes: the third is the first whose end counts, and no earlier one may end the stage
    assert!(accuracies.len() >= 4, "{accuracies:?}");
    let best =
        (2..accuracies.len()).fold(2, |b, i| if accuracies[i] > accuracies[b] { i } else { b });
    assert!(
        accuracies.len() == 6 || accuracies.len() == best + 2,
        "{accuracies:?}, {notes:?}"
    );
    let _ = std::fs::remove_dir_all(path);
}
