//! The program refuses with one line that names the cause and the remedy, and with the documented exit code.

use approx::Polynomial;
use nn::{Metadata, Normalization, Op, Parameter, PolyGraph, Range, Shape};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn polyveil(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .args(arguments)
        .output()
        .expect("it starts")
}

/// Runs, expects this exit code, nothing on stdout, and these words in the last line of stderr.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let out = polyveil(arguments);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(out.stdout.is_empty());
    let last = text.trim_end().lines().last().unwrap_or_default();
    for w in words {
        assert!(
            last.contains(w),
            "{arguments:?}: {w:?} is missing in {text}"
        );
    }
}

/// (3, 4, 4) → dense → x² → dense → 2 classes.
fn network(calibrated: bool) -> PolyGraph {
    let weight = |name: &str, rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| ((i * 7919 % 13) as f32 - 6.0) / 60.0)
            .collect();
        Op::Linear(nn::Linear {
            weight: Parameter::new(name, [rows, columns], values).expect("finite"),
            bias: None,
        })
    };
    let mut b = nn::Network::<Polynomial>::builder();
    let x = b.input("x", Shape::image(3, 4, 4)).expect("valid");
    let f = b.add("flatten", Op::Flatten, &[x]).expect("valid");
    let d = b.add("dense", weight("w1", 8, 48), &[f]).expect("valid");
    let square = Polynomial::new(vec![2.0, 0.0, 2.0], (-2.0, 2.0)).expect("valid");
    let s = b
        .add("square", Op::Elementwise(square), &[d])
        .expect("valid");
    let y = b.add("classes", weight("w2", 2, 8), &[s]).expect("valid");
    let graph = PolyGraph::from(b.finish(y).expect("valid"));
    let metadata = Metadata {
        name: "tiny".into(),
        labels: vec!["no".into(), "yes".into()],
        normalization: Some(Normalization {
            mean: vec![0.5; 3],
            deviation: vec![0.25; 3],
        }),
        provenance: vec![],
    };
    let nodes = graph.nodes().len();
    let graph = graph.with_metadata(metadata).expect("fits");
    if calibrated {
        graph
            .with_ranges(vec![
                Range {
                    min: -2.0,
                    max: 2.0
                };
                nodes
            ])
            .expect("fits")
    } else {
        graph
    }
}

/// A grey PNG without compression.
fn png(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0u32, |c, &b| {
            (0..8).fold(c ^ u32::from(b), |c, _| {
                if c & 1 == 1 {
                    c >> 1 ^ 0xedb8_8320
                } else {
                    c >> 1
                }
            })
        })
    };
    let rows: Vec<u8> = (0..height)
        .flat_map(|_| std::iter::once(0).chain((0..3 * width).map(|_| 128)))
        .collect();
    let (mut a, mut b) = (1u32, 0u32);
    for &x in &rows {
        a = (a + u32::from(x)) % 65521;
        b = (b + a) % 65521;
    }
    let length = u16::try_from(rows.len()).expect("a small picture");
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend(length.to_le_bytes());
    data.extend((!length).to_le_bytes());
    data.extend(&rows);
    data.extend((b << 16 | a).to_be_bytes());
    let mut head = Vec::new();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (tag, body) in [(b"IHDR", &head), (b"IDAT", &data), (b"IEND", &Vec::new())] {
        out.extend(u32::try_from(body.len()).expect("small").to_be_bytes());
        let chunk: Vec<u8> = tag.iter().chain(body).copied().collect();
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain paths")
}

#[test]
fn pictures_models_memory_and_roles_are_refused_with_a_remedy() {
    let folder = Folder::new("refusals");
    let bytes = nn::format::artefact::to_bytes(&network(true)).expect("writes");
    let model = folder.file("tiny.pvm", &bytes);
    let picture = folder.file("wide.png", &png(5, 4));
    let plan = folder.0.join("tiny.plan");

    refused(
        &["demo", "--model", text(&model), "--image", text(&picture)],
        1,
        &["wide.png", "5×4", "4×4", "--resize"],
    );
    let noise = folder.file("noise.png", b"this is no picture");
    refused(
        &["demo", "--model", text(&model), "--image", text(&noise)],
        1,
        &["noise.png", "PNG"],
    );

    let cut = folder.file("cut.pvm", &bytes[..bytes.len() - 9]);
    refused(&["compile", text(&cut), "-o", text(&plan)], 1, &["cut.pvm"]);
    let foreign = folder.file("foreign.pvm", b"GIF89a, not a model");
    refused(
        &["compile", text(&foreign), "-o", text(&plan)],
        1,
        &["foreign.pvm"],
    );
    let bare = folder.file(
        "bare.pvm",
        &nn::format::artefact::to_bytes(&network(false)).expect("writes"),
    );
    refused(
        &["compile", text(&bare), "-o", text(&plan)],
        1,
        &["calibrat"],
    );
    refused(
        &[
            "compile",
            text(&model),
            "-o",
            text(&plan),
            "--max-memory",
            "1MB",
        ],
        1,
        &["1.0 MB", "--max-memory"],
    );
    assert!(!plan.exists());
    refused(
        &[
            "compile",
            text(&model),
            "-o",
            text(&plan),
            "--max-memory",
            "plenty",
        ],
        2,
        &[],
    );

    let run = [
        "run",
        "--plan",
        text(&plan),
        "--input",
        "x.input",
        "-o",
        "x.answer",
    ];
    refused(
        &[&run[..], &["--check", "--keys", "evaluation.keys"]].concat(),
        1,
        &["--check", "client.key"],
    );
    refused(
        &[
            &run[..],
            &["--keys", "evaluation.keys", "--key", "client.key"],
        ]
        .concat(),
        1,
        &["server", "client.key"],
    );
    refused(&run, 1, &["evaluation keys", "keygen"]);
    refused(&["inspect", text(&picture)], 1, &["wide.png"]);
    refused(&["train"], 1, &["cargo build --release -p polyveil-train"]);
    refused(&["bench", "--quick", "--only", "nonsense"], 1, &["no row"]);

    let out = polyveil(&["inspect", "--json", text(&model)]);
    let object: serde_json::Value =
        serde_json::from_slice(&out.stdout).expect("JSON alone on stdout");
    assert_eq!(object["network"], "tiny");
}

#[test]
fn an_unknown_backend_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .args(["bench", "--quick"])
        .env("POLYVEIL_BACKEND", "sse2")
        .output()
        .expect("starts");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("portable, avx2 or ifma"), "{message}");
}
