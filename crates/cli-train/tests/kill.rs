//! The program killed in mid-run and started again writes the same network, byte for byte.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-kill-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// Pictures as IDX: two classes, bright above or bright below, with noise.
fn pictures(folder: &Path, count: u32) -> PathBuf {
    let mut images = vec![0, 0, 8, 3];
    for n in [count, 12, 12] {
        images.extend(n.to_be_bytes());
    }
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(count.to_be_bytes());
    let mut state = 7u32;
    for i in 0..count {
        let class = i % 2;
        labels.push(class as u8);
        for y in 0..12 {
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let bright = u8::from((y < 6) == (class == 0)) * 90;
                images.push(bright + (state >> 25) as u8);
            }
        }
    }
    let path = folder.join("train-images-idx3-ubyte");
    std::fs::write(&path, images).expect("writes");
    std::fs::write(folder.join("train-labels-idx1-ubyte"), labels).expect("writes");
    path
}

fn start(config: &Path, output: &Path, threads: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .args([
            "train",
            "--checkpoint-every",
            "0",
            "--threads",
            threads,
            "--config",
        ])
        .arg(config)
        .arg("-o")
        .arg(output)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn wait(mut child: Child) {
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_killed_run_ends_with_the_same_network() {
    let root = folder("root");
    let train = pictures(&root, 400);
    let config = root.join("run.toml");
    let text = format!(
        r#"
batch = 16
network = {{ kind = "small", width = 4, activation = "silu" }}
data = {{ train = {train:?}, held_out = 40, normalization = "measured", augmentation = {{ crop_padding = 1 }} }}
[[stage]]
epochs = 3.0
patience = 2
[[stage]]
name = "degree"
epochs = 3.0
coefficient_rate = 0.1
guard = 0.1
reestimate = true
substitution = {{ degree = 4, order = {{ kind = "blend", share = 0.5 }} }}
"#
    );
    std::fs::write(&config, text).expect("writes");
    survives(&root, &config, &["network.pvm"]);
    let _ = std::fs::remove_dir_all(&root);
}

#[test]
fn a_killed_run_on_text_ends_with_the_same_model() {
    let root = folder("text");
    let text = root.join("text.txt");
    let words = ["to be ", "or not ", "to be, ", "that is ", "the question. "];
    let mut state = 7u32;
    let mut say = String::new();
    while say.len() < 6000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        say += words[(state >> 24) as usize % words.len()];
    }
    std::fs::write(&text, say).expect("writes");
    let config = root.join("run.toml");
    let adam = r#"rule = { kind = "adam-w", betas = [0.9, 0.99], decay = 0.1 }"#;
    let power = r#"{ power = { exponent = 4, epsilon = 1e-2, denominator = "mean", scaling = "largest" } }"#;
    let text = format!(
        r#"
batch = 8
network = {{ kind = "llama", layers = 2, width = 16, heads = 2, attention = {power} }}
data = {{ text = {text:?}, length = 16, held_out = 600 }}
[[stage]]
epochs = 3.0
{adam}
rate = {{ peak = 3e-3 }}
patience = 2
[[stage]]
name = "polynomial"
epochs = 3.0
{adam}
rate = {{ peak = 1e-3 }}
coefficient_rate = 0.1
guard = 0.1
variance_loss = {{ kind = "spread", weight = 0.01 }}
substitution = {{ degree = 4, order = {{ kind = "blend", share = 0.5 }} }}
roots = {{ bits = 10.0 }}
divisions = {{ bits = 10.0 }}
"#
    );
    std::fs::write(&config, text).expect("writes");
    // text has no intervals to be left out of here: the option is refused, not ignored
    let refused = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .args(["train", "--max-diverging", "2", "--config"])
        .arg(&config)
        .arg("-o")
        .arg(root.join("refused"))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("2 diverging inputs"),
        "{said}"
    );
    survives(
        &root,
        &config,
        &[
            "network.pvm",
            "model.safetensors",
            "config.json",
            "approximations.json",
            "alphabet.json",
        ],
    );
    looks_where_attention_looks(&root);
    let _ = std::fs::remove_dir_all(&root);
}

/// `study attention` over the run: a row for each of its four heads, and the same again.
fn looks_where_attention_looks(root: &Path) {
    let run = root.join("a/run");
    let output = root.join("study");
    let study = |network: &str| {
        Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
            .args(["study", "attention", network, "--windows", "5", "-o"])
            .arg(&output)
            .output()
            .expect("starts")
    };
    let network = format!("p = 4={}", run.display());
    let done = study(&network);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let csv = std::fs::read_to_string(output.with_extension("csv")).expect("written");
    assert_eq!(csv.lines().count(), 1 + 4, "{csv}");
    assert!(
        csv.lines().nth(4).expect("a head").starts_with("p = 4,"),
        "{csv}"
    );
    let svg = std::fs::read_to_string(output.with_extension("svg")).expect("written");
    assert!(svg.contains("layer 2"));
    let refused = study("nowhere");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && text.contains("NAME=FOLDER"),
        "{text}"
    );
}

/// However often the run is killed, these files of its result, and its logs, are those of a run that was not.
fn survives(root: &Path, config: &Path, results: &[&str]) {
    // the folder's name is the network's
    let (whole, killed) = (root.join("a/run"), root.join("b/run"));
    wait(start(config, &whole, "1"));
    let mut kills = 0;
    for stop in 1..=6u32 {
        let mut child = start(config, &killed, if stop % 2 == 0 { "1" } else { "2" });
        // SIGKILL, a little later after the first checkpoint each time
        let checkpoint = killed.join("checkpoint.safetensors");
        let begun = Instant::now();
        while !checkpoint.exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(17 * u64::from(stop)));
        child.kill().expect("a process");
        kills += usize::from(!child.wait().expect("it ends").success());
        if killed.join("network.pvm").exists() {
            break;
        }
    }
    assert!(kills > 0, "the run was over before it was killed");
    wait(start(config, &killed, "2"));
    for name in results.iter().chain(&["log.csv", "ranges.csv", "run.toml"]) {
        let read = |folder: &Path| std::fs::read(folder.join(name)).expect("a file");
        assert!(
            read(&whole) == read(&killed),
            "{name} differs after {kills} kills"
        );
    }
}

#[test]
fn adapt_makes_maxima_averages_and_says_who_teaches() {
    use nn::{Conv2d, Graph, Linear, MaxPool, Nonlinearity, Op, Padding, Parameter, Shape};
    let root = folder("maxima");
    let train = pictures(&root, 200);
    let parameter = |name: &str, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 7 % 11) as f32 - 5.0) / 10.0)
            .collect();
        Parameter::new(name, shape.to_vec(), values).expect("finite")
    };
    let mut b = Graph::builder();
    let x = b.input("input", Shape::image(1, 12, 12)).expect("valid");
    let convolution = Conv2d {
        padding: Padding::same(1),
        ..Conv2d::new(parameter("w", &[4, 1, 3, 3]))
    };
    let x = b.add("conv", Op::Conv2d(convolution), &[x]).expect("valid");
    let silu = Op::Elementwise(Nonlinearity::Activation(approx::Activation::Silu));
    let x = b.add("act", silu, &[x]).expect("valid");
    let pool = MaxPool {
        kernel: (2, 2),
        stride: (2, 2),
        padding: Padding::default(),
        ceil_mode: false,
    };
    let x = b.add("pool", Op::MaxPool(pool), &[x]).expect("valid");
    let x = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let linear = Linear {
        weight: parameter("l", &[2, 144]),
        bias: None,
    };
    let x = b.add("linear", Op::Linear(linear), &[x]).expect("valid");
    let graph = b.finish(x).expect("valid");
    let normalization = task::Normalization::new(vec![0.5], vec![0.25]);
    let outputs = task::Outputs::Classes(Vec::new());
    let pictures = task::Pictures::new(graph.input().shape(), normalization, outputs);
    let pictures = pictures.expect("pictures");
    let metadata = nn::Metadata {
        task: Some(task::Task::Pictures(pictures).to_bytes()),
        ..nn::Metadata::default()
    };
    let model = root.join("maxima.pvm");
    let bytes = nn::format::artefact::graph_to_bytes(&graph, &metadata).expect("writes");
    std::fs::write(&model, bytes).expect("writes");
    let output = Command::new(env!("CARGO_BIN_EXE_polyveil-train"))
        .arg("adapt")
        .arg(&model)
        .arg("--train")
        .arg(&train)
        .args(["--held-out", "40", "--degree", "2", "--epochs", "2", "-o"])
        .arg(root.join("run"))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("node pool") && said.contains("labels do"),
        "{said}"
    );
    let adapted = nn::format::artefact::load(&root.join("run/network.pvm"), 1 << 20);
    let adapted = adapted.expect("a polynomial network");
    let pool = adapted.find("pool").expect("kept by name");
    assert!(matches!(pool.op(), Op::AvgPool(_)));
    let _ = std::fs::remove_dir_all(&root);
}
