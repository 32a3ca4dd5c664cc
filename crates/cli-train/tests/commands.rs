//! `search` and `adapt` from end to end on a small network of new weights: their files, their refusals, and the same again.

#[path = "../../cli/tests/support/onnx.rs"]
mod onnx;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyveil-search-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        Self(path)
    }
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A network with new weights, and pictures of noise in CIFAR's binary format.
fn prepare(folder: &Folder) {
    let network = zoo::resnet::Small {
        width: 4,
        classes: 10,
        input: (32, 32, 3),
        activation: approx::Activation::Silu,
    };
    let graph = network.graph(5).expect("valid");
    let (shape, outputs) = (graph.input().shape(), task::Outputs::Classes(Vec::new()));
    let pictures = task::Pictures::new(shape, task::Normalization::imagenet(), outputs);
    let pictures = pictures.expect("pictures");
    let metadata = nn::Metadata {
        task: Some(task::Task::Pictures(pictures).to_bytes()),
        ..nn::Metadata::default()
    };
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("written");
    std::fs::write(folder.file("small.pvm"), bytes).expect("written");
    let mut state = 1u64;
    let pictures: Vec<u8> = (0..100u8)
        .flat_map(|i| {
            let pixels = (0..3072).map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            [i % 10].into_iter().chain(pixels).collect::<Vec<u8>>()
        })
        .collect();
    std::fs::write(folder.file("train.bin"), pictures).expect("written");
}

fn search(folder: &Folder, budget: &str, output: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .arg("search")
        .arg(folder.file("small.pvm"))
        .arg("--train")
        .arg(folder.file("train.bin"))
        .args([
            "--held-out",
            "20",
            "--pictures",
            "10",
            "--degrees",
            "2,4,15",
        ])
        .args(["--points", "4", "--budget", budget, "-o"])
        .arg(output)
        .output()
        .expect("starts")
}

#[test]
fn a_budget_is_kept_or_the_nearest_is_offered() {
    let folder = Folder::new("budget");
    prepare(&folder);
    let out = folder.file("out");
    let done = search(&folder, "2bootstraps", &out);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let csv = std::fs::read_to_string(out.join("front.csv")).expect("written");
    let chosen: Vec<Vec<&str>> = csv
        .lines()
        .map(|l| l.split(',').collect::<Vec<_>>())
        .filter(|l| l[10] == "1")
        .collect();
    assert_eq!(chosen.len(), 1, "{csv}");
    assert!(chosen[0][2].parse::<usize>().expect("a number") <= 2);
    let config = train::Config::load(&out.join("run.toml")).expect("a configuration");
    let degrees: Vec<usize> = chosen[0][11]
        .split(' ')
        .map(|d| d.parse().expect("a degree"))
        .collect();
    let substitution = config.stages[0].substitution.as_ref().expect("substitutes");
    assert_eq!(
        substitution.degree,
        train::config::Degrees::Each(degrees.clone())
    );
    assert!(out.join("front.svg").exists() && out.join("front.md").exists());
    let again = folder.file("again");
    assert!(search(&folder, "2bootstraps", &again).status.success());
    assert_eq!(
        csv,
        std::fs::read_to_string(again.join("front.csv")).expect("written")
    );

    let refused = search(&folder, "0.001s", &folder.file("none"));
    let message = String::from_utf8_lossy(&refused.stderr);
    let last = message.lines().last().unwrap_or_default();
    assert!(!refused.status.success() && !folder.file("none").exists());
    assert!(
        last.contains("no network keeps")
            && last.contains("the nearest takes")
            && last.contains("degrees 2 2")
            && last.contains("--budget"),
        "{message}"
    );
    let refused = search(&folder, "60", &folder.file("none"));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("60s, 2min, 6bootstraps or 5GB"));
}

#[test]
fn adapt_follows_the_first_paper_where_asked() {
    let folder = Folder::new("recipe");
    prepare(&folder);
    let out = folder.file("out");
    let adapt = |norms: &str| {
        Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .arg("adapt")
            .arg(folder.file("small.pvm"))
            .arg("--train")
            .arg(folder.file("train.bin"))
            .args(["--held-out", "20", "--recipe", "p1", "--degree", "6"])
            .args(["--mean", "0.5", "--deviation", "64", "--range", "0..255"])
            .args(["--channels", "bgr"])
            .args(["--epochs", "1", "--batch-norms", norms, "-o"])
            .arg(&out)
            .output()
            .expect("starts")
    };
    let refused = adapt("nowhere");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && text.contains("nowhere"),
        "{text}"
    );
    let names: Vec<String> = {
        let file = folder.file("small.pvm");
        let (graph, _) = zoo::open(&file, &zoo::Options::default())
            .and_then(zoo::Model::graph)
            .expect("readable");
        let first = graph
            .nodes()
            .iter()
            .find(|n| matches!(n.op(), nn::Op::Elementwise(_)));
        vec![first.expect("an activation").name().into()]
    };
    let done = adapt(&names[0]);
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    let config = train::Config::load(&out.join("run.toml")).expect("a configuration");
    let losses: Vec<_> = config.stages.iter().map(|s| s.range_loss).collect();
    let worst = |weight| train::activation::RangeLoss::Worst { weight };
    assert_eq!(losses, [worst(0.002), worst(0.1)]);
    assert!(config.teacher.is_none());
    // what is said of pixels is kept, before what the network's file said
    let stated = task::Stated {
        mean: vec![0.5],
        deviation: vec![64.0],
        range: Some((0.0, 255.0)),
        channels: task::Channels::Bgr,
        ..task::Stated::default()
    };
    let kept = train::config::Pixels::Given(stated.clone());
    assert_eq!(config.data.normalization, Some(kept));
    let (graph, metadata) = zoo::open(&out.join("network.pvm"), &zoo::Options::default())
        .and_then(zoo::Model::graph)
        .expect("readable");
    match task::Task::of(&metadata).expect("reads") {
        Some(task::Task::Pictures(p)) => {
            assert_eq!(*p.normalization(), stated.normalization(3).expect("fits"));
        }
        other => panic!("{other:?}"),
    }
    let norm = graph.find(&format!("{}.norm", names[0])).expect("inserted");
    assert!(matches!(norm.op(), nn::Op::BatchNorm(_)));
    assert!(graph.activations().next().is_none(), "all are polynomials");
}

/// ImageNet's normalisation was taken for every network that did not say another.
#[test]
fn nobody_guesses_how_pixels_are_normalised() {
    let folder = Folder::new("unsaid");
    let net = folder.file("net.onnx");
    std::fs::write(&net, onnx::means(3, &[])).expect("written");
    // pictures of 8×8 in three classes: the brightest channel, whatever else it is
    let pictures: Vec<u8> = (0..30u8)
        .flat_map(|i| {
            let class = i % 3;
            let pixels = (0..192).map(move |at| match at / 64 == class {
                true => 120 + i,
                false => 100 + i,
            });
            // interleaved
            let planar: Vec<u8> = pixels.collect();
            (0..192).map(move |at| planar[at % 3 * 64 + at / 3])
        })
        .collect();
    let idx = [
        &[0, 0, 8, 4, 0, 0, 0, 30, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 3][..],
        &pictures,
    ]
    .concat();
    let labels: Vec<u8> = [0, 0, 8, 1, 0, 0, 0, 30]
        .into_iter()
        .chain((0..30).map(|i| i % 3))
        .collect();
    let images = folder.file("train-images-idx4-ubyte");
    std::fs::write(&images, idx).expect("written");
    std::fs::write(folder.file("train-labels-idx1-ubyte"), labels).expect("written");
    let program = |command: &str, more: &[&str]| {
        let (option, data) = match command {
            "score" => ("--data", &images),
            _ => ("--train", &images),
        };
        let out = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .arg(command)
            .arg(&net)
            .arg(option)
            .arg(data)
            .args(more)
            .output()
            .expect("starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.success(), text(&out.stdout), text(&out.stderr))
    };
    let (good, _, message) = program("score", &[]);
    assert!(
        !good
            && message.contains("normalised")
            && message.contains("--normalization none|imagenet"),
        "{message}"
    );
    for normalization in ["none", "half"] {
        let (good, said, message) = program("score", &["--normalization", normalization]);
        assert!(good && said.contains("30 of 30"), "{said}{message}");
    }
    let (_, said, _) = program("score", &["--normalization", "imagenet"]);
    assert!(!said.contains("30 of 30"), "{said}");
    let out = folder.file("run");
    let (good, _, message) = program(
        "adapt",
        &["--held-out", "5", "-o", out.to_str().expect("plain")],
    );
    assert!(
        !good && message.contains("normalised") && message.contains("imagenet, cifar10, half"),
        "{message}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_without_enough_memory_ends_with_one_line() {
    let folder = Folder::new("memory");
    prepare(&folder);
    let train = |mebibytes: usize, width: usize| {
        let config = folder.file("run.toml");
        let text = format!(
            "batch = 80\nnetwork = {{ kind = \"small\", width = {width}, activation = \"silu\" }}\ndata = {{ train = {:?}, held_out = 20, normalization = \"measured\" }}\n[[stage]]\nepochs = 1.0\n",
            folder.file("train.bin")
        );
        std::fs::write(&config, text).expect("written");
        let out = folder.file(&format!("{width}-{mebibytes}"));
        let done = Command::new("sh")
            .args(["-c", "ulimit -v $0; exec \"$@\""])
            .arg((mebibytes << 10).to_string())
            .arg(env!("CARGO_BIN_EXE_polyveil-train"))
            .arg("train")
            .arg("--config")
            .args([&config, Path::new("-o"), &out])
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        let written = out.join("network.pvm").exists();
        (done.status.code(), text, written)
    };
    for (mebibytes, width) in [(48, 4), (64, 4), (200, 4), (64, 256), (90, 256), (450, 256)] {
        let (code, text, written) = train(mebibytes, width);
        assert_eq!(written, code == Some(0), "{mebibytes} MiB: {text}");
        if code != Some(0) {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.last().copied().unwrap_or_default();
            assert_eq!(code, Some(1), "{mebibytes} MiB: {text}");
            assert!(
                last.starts_with("polyveil-train: ") && last.contains("memory"),
                "{text}"
            );
        }
    }
    // counted before the first step
    let (code, text, _) = train(220, 256);
    assert_eq!(code, Some(1), "{text}");
    let words = [
        "training on batches of 80 needs about",
        "MB",
        "smaller batches",
    ];
    assert!(words.iter().all(|w| text.contains(w)), "{text}");
}

#[test]
fn a_small_stack_is_enough_to_start_on() {
    let out = Command::new("sh")
        .args(["-c", "ulimit -s 64; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_polyveil-train"), "adapt", "--help"])
        .output()
        .expect("starts");
    assert!(out.status.success(), "{out:?}");
}
