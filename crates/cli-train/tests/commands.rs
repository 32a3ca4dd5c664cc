//! `search` and `adapt` from end to end on a small network of new weights: their files, their refusals, and the same again.

#[path = "../../cli/tests/support/npz.rs"]
mod npz;
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

/// Runs the program, expects a refusal with these words.
fn refused(arguments: &[&str], words: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .args(arguments)
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&out.stderr);
    let last = text.lines().last().unwrap_or_default();
    assert!(!out.status.success(), "{arguments:?}: {text}");
    for word in words {
        assert!(
            last.contains(word),
            "{arguments:?}: {word} is not in {last}"
        );
    }
}

#[test]
fn outputs_never_take_the_place_of_inputs_or_foreign_files() {
    let folder = Folder::new("outputs");
    prepare(&folder);
    let path = |name: &str| folder.file(name).to_str().expect("plain").to_string();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.file(name), text).expect("written");
        path(name)
    };
    let sentences = file("s.tsv", "0\tgood film\n1\tbad film\n");
    let notes = file("notes.txt", "mine");
    let (model, data) = (path("small.pvm"), path("train.bin"));
    let named = format!("a={model}");
    let (vocabulary, tokenize) = (
        ["vocabulary", "--sentences", &sentences, "-o"],
        ["tokenize", &sentences, "--tokenizer", &notes, "-o"],
    );
    let table = ["table", &named, "--data", &data, "-o"];
    let with = |command: &[&str], output: &str, words: &[&str]| {
        refused(&[command, &[output]].concat(), words);
        if words == ["needs"] {
            refused(&[command, &[output, "--force"]].concat(), words);
        }
    };
    for more in [&["adapt"][..], &["search", "--budget", "2bootstraps"]] {
        let from = [more, &[&model, "--train", &data, "-o", &notes]].concat();
        refused(&from, &["notes.txt", "no folder", "name another"]);
    }
    let adapt = [
        "adapt",
        &model,
        "--train",
        &data,
        "--held-out",
        "1000",
        "-o",
    ];
    with(&adapt, &path("run"), &["held_out = 1000", "--held-out N"]);
    with(&adapt, "-", &["--output <FOLDER>", "`-`"]);
    with(&vocabulary, &sentences, &["needs"]);
    with(&vocabulary, &notes, &["notes.txt", "--force"]);
    with(&tokenize, &sentences, &["needs"]);
    with(&tokenize, &notes, &["needs"]);
    with(&tokenize, &model, &["--force"]);
    with(&table, &model, &["needs"]);
    with(&table, &data, &["needs"]);
    with(&table, &notes, &["notes.txt", "--force"]);
    let study = ["study", "activations", "-o"];
    let foreign = file("mine.csv", "a,b\n");
    with(&study, &path("mine"), &["mine.csv", "--force"]);
    let out = folder.file("searched");
    std::fs::create_dir(&out).expect("made");
    std::fs::write(out.join("front.md"), "mine").expect("written");
    let searched = out.to_str().expect("plain");
    let search = [
        "search",
        &model,
        "--train",
        &data,
        "--budget",
        "2bootstraps",
        "-o",
        searched,
    ];
    refused(&search, &["front.md", "--force"]);
    let names = std::fs::read_dir(&out).expect("a folder").count();
    let text = |path: &Path| std::fs::read_to_string(path).expect("there");
    assert_eq!((names, &text(&out.join("front.md"))[..]), (1, "mine"));
    assert_eq!(text(&folder.file("notes.txt")), "mine");
    assert_eq!(text(Path::new(&foreign)), "a,b\n");
    assert_eq!(text(&folder.file("s.tsv")), "0\tgood film\n1\tbad film\n");
    // and with the user's word
    let done = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .args(vocabulary)
        .args([&notes, "--force"])
        .status();
    assert!(done.expect("starts").success());
    assert!(text(&folder.file("notes.txt")).contains("[UNK]"));
}

#[test]
fn runs_take_nothing_s_place_in_their_folders() {
    let folder = Folder::new("runs");
    prepare(&folder);
    let run = |out: &Path, more: &[&str]| {
        let config = folder.file("run.toml");
        let network = out.join("network.pvm");
        let network = match network.exists() {
            true => network,
            false => folder.file("small.pvm"),
        };
        let text = format!(
            "batch = 80\nnetwork = {{ kind = \"file\", path = {network:?} }}\ndata = {{ train = {:?}, held_out = 20, normalization = \"measured\" }}\n[[stage]]\nepochs = 1.0\n",
            folder.file("train.bin")
        );
        std::fs::write(&config, text).expect("written");
        let done = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .args(["train", "--config"])
            .args([&config, Path::new("-o"), out])
            .args(more)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.success(), text)
    };
    let there = |name: &str, from: Option<&str>| {
        let out = folder.file(&format!("with-{name}"));
        std::fs::create_dir(&out).expect("made");
        let bytes = from.map_or(b"mine".to_vec(), |n| {
            std::fs::read(folder.file(n)).expect("there")
        });
        std::fs::write(out.join(name), &bytes).expect("written");
        (out, bytes)
    };
    // the very network that is trained on
    let (out, bytes) = there("network.pvm", Some("small.pvm"));
    for more in [&[][..], &["--force"]] {
        let (good, text) = run(&out, more);
        assert!(!good && text.contains("needs"), "{text}");
    }
    assert!(std::fs::read(out.join("network.pvm")).expect("there") == bytes);
    assert_eq!(std::fs::read_dir(&out).expect("a folder").count(), 1);
    for name in ["log.csv", "run.toml", "config.json"] {
        let (out, bytes) = there(name, None);
        let (good, text) = run(&out, &[]);
        assert!(
            !good && text.contains(name) && text.contains("--force"),
            "{text}"
        );
        assert!(std::fs::read(out.join(name)).expect("there") == bytes);
        assert_eq!(std::fs::read_dir(&out).expect("a folder").count(), 1);
    }
    // a run goes on in its own folder, and names what a killed one left
    let (out, _) = there("log.csv.0a1b2c3d.partial", None);
    let (good, text) = run(&out, &[]);
    assert!(good && text.contains("log.csv.0a1b2c3d.partial"), "{text}");
    assert!(!out.join("log.csv.0a1b2c3d.partial").exists());
    std::fs::remove_file(out.join("network.pvm")).expect("written");
    let (good, text) = run(&out, &[]);
    assert!(good && out.join("network.pvm").exists(), "{text}");
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
            .args(["--recipe", "p1", "--degree", "6"])
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
    // nobody says how many are held out, and there are a hundred
    assert!(
        text.contains("75 pictures to train on, 25 held out"),
        "{text}"
    );
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

#[test]
fn the_part_that_is_named_is_trained_on() {
    let folder = Folder::new("parts");
    prepare(&folder);
    let pixels: Vec<u8> = (0..60 * 3072).map(|i| (i * 37 % 251) as u8).collect();
    let labels: Vec<u8> = (0..60).map(|i| i % 10).collect();
    let set = npz::npz(&[
        ("val_images.npy", "(20, 32, 32, 3)", &pixels[..20 * 3072]),
        ("val_labels.npy", "(20,)", &labels[..20]),
        ("test_images.npy", "(40, 32, 32, 3)", &pixels[20 * 3072..]),
        ("test_labels.npy", "(40,)", &labels[20..]),
    ]);
    let rows: Vec<u8> = (0..48).map(|i| i % 7 % 2).collect();
    let (first, second) = rows.split_at(24);
    let table = npz::npz(&[
        ("x_val.npy", "(12, 2)", first),
        ("y_val.npy", "(12,)", &first[..12]),
        ("x_test.npy", "(12, 2)", second),
        ("y_test.npy", "(12,)", &second[..12]),
    ]);
    std::fs::write(folder.file("set.npz"), set).expect("written");
    std::fs::write(folder.file("rows.npz"), table).expect("written");
    let path = |name: &str| folder.file(name).to_str().expect("plain").to_owned();
    let xor = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
    let pictures = [path("small.pvm"), "--train".into(), path("set.npz")];
    let vectors = [xor.into(), "--vectors".into(), path("rows.npz")];
    let adapt = |from: &[String], part: &[&str], out: &str| {
        let mut arguments: Vec<String> = vec!["adapt".into()];
        arguments.extend_from_slice(from);
        arguments.extend(part.iter().map(|&word| word.into()));
        arguments.extend(["-o".into(), path(out)]);
        arguments.extend(["--epochs", "1", "--normalization", "none"].map(String::from));
        arguments
    };
    for from in [&pictures, &vectors] {
        let unnamed = adapt(from, &[], "out");
        let unnamed: Vec<&str> = unnamed.iter().map(String::as_str).collect();
        refused(&unnamed, &["validation, test", "--split PART"]);
        let absent = adapt(from, &["--split", "train"], "out");
        let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
        refused(&absent, &["the split train", "validation, test"]);
    }
    // what is trained on is not chosen by
    for (from, part, says) in [
        (&pictures, "test", "40 pictures to train on, 20 held out"),
        (
            &pictures,
            "validation",
            "15 pictures to train on, 5 held out",
        ),
        (&vectors, "test", "9 vectors to train on, 3 held out"),
    ] {
        let out = format!("{part}-{}", says.len());
        let done = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .args(adapt(from, &["--split", part], &out))
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && text.contains(says), "{text}");
        // and the same file repeats the run
        let run = std::fs::read_to_string(folder.file(&out).join("run.toml"));
        let line = format!("split = \"{part}\"");
        assert!(run.expect("written").contains(&line));
    }
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
    // a file that says it is believed; who says another thing is told so
    let (own, said) = (folder.file("own.pvm"), task::Normalization::imagenet());
    let model = zoo::open(&net, &zoo::Options::default()).and_then(zoo::Model::graph);
    let (graph, _) = model.expect("readable");
    let classes = task::Outputs::Classes(Vec::new());
    let pictures = task::Pictures::new(graph.input().shape(), said, classes).expect("pictures");
    let metadata = nn::Metadata {
        task: Some(task::Task::Pictures(pictures).to_bytes()),
        ..nn::Metadata::default()
    };
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("written");
    std::fs::write(&own, bytes).expect("written");
    let scored = |more: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .arg("score")
            .arg(&own)
            .arg("--data")
            .arg(&images)
            .args(more)
            .output()
            .expect("starts");
        assert!(out.status.success(), "{out:?}");
        (
            String::from_utf8_lossy(&out.stderr).contains("what you say is for networks"),
            out.stdout,
        )
    };
    let (warned, scores) = scored(&[]);
    assert!(!warned);
    for (more, other) in [
        (&["--normalization", "imagenet"][..], false),
        (&["--normalization", "half"][..], true),
        (&["--mean", "3"][..], true),
    ] {
        assert_eq!(scored(more), (other, scores.clone()), "{more:?}");
    }
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
        ": layer conv3 takes most",
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

#[test]
fn shells_complete_and_models_without_a_checksum_are_warned_of() {
    let run = |words: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .args(words)
            .output();
        let out = program.expect("starts");
        let [said, warned] = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into());
        (said, warned)
    };
    for shell in ["bash", "zsh", "fish"] {
        let (script, _): (String, String) = run(&["completions", shell]);
        assert!(
            script.contains("polyveil-train") && script.contains("vocabulary"),
            "{shell}"
        );
    }
    let folder = Folder::new("unsealed");
    prepare(&folder);
    let new = folder.file("small.pvm");
    let bytes = std::fs::read(&new).expect("there");
    // as files began before version 8
    let old = folder.file("old.pvm");
    let head = String::from_utf8_lossy(&bytes[8..64]).into_owned();
    assert!(
        head.starts_with("{\"__metadata__\":{\"blake3\":\""),
        "{head}"
    );
    let begin = [&bytes[..8], b"{\"__metadata__\":{\"graph\":\"", &[b' '; 64]].concat();
    std::fs::write(&old, begin).expect("written");
    for (model, is_old) in [(&old, true), (&new, false)] {
        let model = model.to_str().expect("plain");
        let (_, warned) = run(&["score", model, "--data", "/nowhere"]);
        assert_eq!(warned.contains("no checksum"), is_old, "{warned}");
    }
}
