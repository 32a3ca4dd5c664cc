//! A whole toy plan, from tensor to answer, through files; and every refusal on the way. Insecure toy rings.

use ckks::map::{Term, Values};
use ckks::{BlockMap, Bootstrap, Complex64, EvaluationKeys, KeyName, ParametersSpec, Polynomial};
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::report::{Answer, Measured};
use polyveil_runtime::sharing::{Flooding, Terms};
use polyveil_runtime::wire::container::Kind;
use polyveil_runtime::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

const SLOTS: usize = 16;

/// A circulant map with three diagonals; its definition on real vectors is `circulant`.
fn map(weights: [f32; 3]) -> BlockMap {
    let diagonal = |w: f32| Values::Real(vec![w; SLOTS].into());
    let term = |offset: usize, w: f32| Term {
        input: 0,
        output: 0,
        giant: offset & !1,
        baby: offset & 1,
        values: diagonal(w),
    };
    BlockMap::new(
        SLOTS,
        1,
        1,
        vec![
            term(0, weights[0]),
            term(1, weights[1]),
            term(5, weights[2]),
        ],
        vec![],
    )
    .expect("valid")
}

fn circulant(weights: [f32; 3], x: &[f64]) -> Vec<f64> {
    let w = weights.map(f64::from);
    (0..SLOTS)
        .map(|j| w[0] * x[j] + w[1] * x[(j + 1) % SLOTS] + w[2] * x[(j + 5) % SLOTS])
        .collect()
}

fn port(name: &str, register: usize, level: usize, unit: f64) -> Port {
    Port {
        name: name.into(),
        shape: vec![SLOTS],
        registers: vec![register],
        slots: SLOTS,
        places: (0..SLOTS as u32).map(|s| (0, s)).collect(),
        batch: 1,
        level,
        unit,
    }
}

fn linear(layer: &str, input: usize, output: usize, weights: [f32; 3]) -> Step {
    let bias = vec![Some(vec![0.125].into())];
    Step {
        layer: layer.into(),
        purpose: Purpose::Weights,
        operation: Operation::Linear {
            inputs: vec![input],
            outputs: vec![output],
            map: map(weights),
            bias,
            period: SLOTS,
        },
        unit: 1.0,
    }
}

const FIRST: [f32; 3] = [0.3, -0.2, 0.25];
const SECOND: [f32; 3] = [0.5, 0.1, -0.3];

/// linear → x² − 0.25 → linear, plus the square again; input unit 2.
fn levelled() -> Plan {
    Plan {
        parameters: ParametersSpec::toy_levelled(6, 4),
        description: Description {
            name: "toy".into(),
            input_bound: 2.0,
            client: None,
            labels: (0..SLOTS).map(|i| format!("class {i}")).collect(),
            ..Description::default()
        },
        input: port("x", 0, 4, 2.0),
        output: port("y", 5, 1, -3.0),
        steps: vec![
            linear("conv1", 0, 1, FIRST),
            Step {
                layer: "act1".into(),
                purpose: Purpose::Weights,
                operation: Operation::Square {
                    input: 1,
                    output: 2,
                    constant: -0.25,
                },
                unit: 1.0,
            },
            linear("conv2", 2, 3, SECOND),
            Step {
                layer: "add".into(),
                purpose: Purpose::Weights,
                operation: Operation::Align {
                    input: 2,
                    output: 4,
                    level: 1,
                },
                unit: 1.0,
            },
            Step {
                layer: "add".into(),
                purpose: Purpose::Weights,
                operation: Operation::Add {
                    left: 3,
                    right: 4,
                    output: 5,
                },
                unit: -3.0,
            },
        ],
    }
}

fn levelled_truth(x: &[f64]) -> Vec<f64> {
    let x: Vec<f64> = x.iter().map(|v| v / 2.0).collect();
    let s: Vec<f64> = circulant(FIRST, &x)
        .iter()
        .map(|v| (v + 0.125) * (v + 0.125) - 0.25)
        .collect();
    circulant(SECOND, &s)
        .iter()
        .zip(&s)
        .map(|(v, s)| (v + 0.125 + s) * -3.0)
        .collect()
}

fn tensor() -> Vec<f64> {
    (0..SLOTS).map(|i| (i as f64 * 0.7).sin() * 1.5).collect()
}

fn plan(plan: Plan) -> Arc<VerifiedPlan> {
    Arc::new(VerifiedPlan::new(plan).expect("verifies"))
}

struct Files {
    plan: Arc<VerifiedPlan>,
    client: Client,
    keys: Vec<u8>,
    input: Vec<u8>,
}

fn files(p: Plan) -> Files {
    let plan = plan(p);
    let client = Client::new(plan.client_spec(), &mut rng(1)).expect("client");
    let mut calls = 0;
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| calls += 1)
        .expect("keys");
    assert_eq!(
        (keys.len() as u64, calls),
        (client.evaluation_keys_bytes(), plan.facts().keys.0.len())
    );
    assert_eq!(keys.len() as u64, plan.facts().key_file_bytes);
    let bound = plan.plan().description.input_bound;
    let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
    let input = client
        .write_input(&x, Vec::new(), "input", &mut rng(3))
        .expect("input");
    assert_eq!(input.len() as u64, client.input_bytes());
    Files {
        plan,
        client,
        keys,
        input,
    }
}

impl Files {
    fn server(&self) -> Server {
        Server::read(self.plan.clone(), &self.keys[..], "keys", &mut |_, _| {}).expect("server")
    }
}

fn close(had: &[f64], want: &[f64], within: f64) {
    assert_eq!(had.len(), want.len());
    for (h, w) in had.iter().zip(want) {
        assert!((h - w).abs() <= within, "{had:?}\n{want:?}");
    }
}

/// No text of the drawing begins or ends outside of its box, at six units a character (eight for the title).
fn drawn_within_the_picture(report: &Report) {
    let mut report = report.clone();
    report.layers[0].layer = "model.layers.0.attention.output/division/12/product".into();
    let svg = report.to_svg();
    let number = |s: &str| -> f64 {
        s.split('"')
            .next()
            .expect("a value")
            .parse()
            .expect("a number")
    };
    let (_, size) = svg.split_once("viewBox=\"0 0 ").expect("a box");
    let width: f64 = size
        .split(' ')
        .next()
        .expect("a width")
        .parse()
        .expect("a number");
    for text in svg.split("<text x=\"").skip(1) {
        let (attributes, rest) = text.split_once('>').expect("attributes");
        let long = rest.split('<').next().expect("a text").chars().count() as f64;
        let long = long
            * if attributes.contains("bold") {
                8.0
            } else {
                6.0
            };
        let x = number(attributes);
        match attributes.contains("text-anchor=\"end\"") {
            true => assert!(x - long >= 0.0, "{text}"),
            false => assert!(x + long <= width, "{text}"),
        }
    }
}

#[test]
fn client_to_server_to_client_through_bytes() {
    let f = files(levelled());
    let server = f.server();
    let mut watch = Stopwatch::default();
    let answer = server
        .run(
            server.read_input(&f.input[..], "input").expect("input"),
            &mut watch,
        )
        .expect("runs");
    let bytes = server
        .write_answer(&answer, Vec::new(), "answer")
        .expect("answer");
    let logits = f
        .client
        .read_answer(&bytes[..], "answer")
        .expect("decrypts");
    close(&logits, &levelled_truth(&tensor()), 1e-4);
    let twin = ClearTwin::new(&f.plan, f.client.spec(), &tensor())
        .expect("twin")
        .finish()
        .expect("in range");
    close(&twin, &levelled_truth(&tensor()), 1e-6);
    let measured = Measured {
        steps: watch.steps,
        seconds: Some(1.0),
        ..Measured::default()
    };
    let prediction = Prediction::new(&f.plan, Basis::shipped(), 2);
    let report = Report::new(&f.plan, &prediction, &measured, Answer::default());
    assert!(report.to_text().contains("conv2") && report.to_svg().starts_with("<svg"));
    drawn_within_the_picture(&report);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    for key in [
        "class",
        "clear_class",
        "max_abs_error",
        "seconds",
        "predicted_seconds",
        "cpu_seconds",
        "predicted_cpu_seconds",
        "peak_bytes",
        "predicted_peak_bytes",
        "key_bytes",
        "security_bits",
        "log_qp",
        "bootstraps",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
}

/// A client, an answer to share, and a place for the record.
struct Sharing {
    files: Files,
    answer: Vec<u8>,
    record: PathBuf,
}

impl Sharing {
    fn new(name: &str) -> Self {
        let files = files(levelled());
        let server = files.server();
        let state = server.read_input(&files.input[..], "x").expect("input");
        let answer = server.run(state, &mut ()).expect("runs");
        let folder =
            std::env::temp_dir().join(format!("polyveil-share-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self {
            answer: server
                .write_answer(&answer, Vec::new(), "x")
                .expect("answer"),
            record: folder.join("releases.json"),
            files,
        }
    }
    fn share(
        &self,
        security: Option<u32>,
        releases: Option<u64>,
        seed: u64,
    ) -> Result<sharing::Shared> {
        let terms = Terms {
            security,
            releases,
            class_bits: 4,
        };
        self.files
            .client
            .share_answer(&self.answer[..], "x", &self.record, &terms, &mut rng(seed))
    }
    fn refused(&self, security: Option<u32>, releases: Option<u64>, words: &[&str]) {
        let message = self
            .share(security, releases, 7)
            .expect_err("refused")
            .to_string();
        for w in words {
            assert!(message.contains(w), "{w:?} is missing in {message}");
        }
        assert!(
            message.contains(';') && !message.contains('\n'),
            "{message}"
        );
    }
    fn used(&self) -> u64 {
        let record = std::fs::read(&self.record).expect("a record");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        record["used"].as_u64().expect("a number")
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        if let Some(folder) = self.record.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[test]
fn shared_answers_have_the_stated_noise_and_keep_the_class() {
    let s = Sharing::new("noise");
    let plain = s
        .files
        .client
        .read_answer(&s.answer[..], "x")
        .expect("decrypts");
    let bounds = s.files.client.spec().answer;
    assert_eq!(bounds.error, s.files.plan.facts().output_error);
    assert!(plain.iter().all(|v| v.abs() <= bounds.magnitude));
    let best = |v: &[f64]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]));
    let releases = 100;
    let mut squares = 0.0;
    let sigma = Flooding::new(bounds, SLOTS, 20, releases)
        .expect("in range")
        .sigma();
    for i in 0..releases {
        let shared = s
            .share(Some(20), Some(releases), 100 + i)
            .expect("a wide margin");
        assert_eq!((shared.used, shared.sigma), (i + 1, sigma));
        assert_eq!(best(&shared.values), best(&plain));
        assert!(shared.margin.expect("classes") >= shared.needed_margin && shared.bits > 0.0);
        squares += shared
            .values
            .iter()
            .zip(&plain)
            .inspect(|(a, b)| assert_ne!(a, b))
            .map(|(a, b)| ((a - b) / sigma).powi(2))
            .sum::<f64>();
    }
    let n = SLOTS as f64 * releases as f64;
    let deviations = (squares / n - 1.0) / (2.0 / n).sqrt();
    assert!(
        deviations.abs() < 5.0,
        "variance off by {deviations:.1} deviations"
    );
    s.refused(None, None, &["used up", "keygen"]);
    assert_eq!(s.used(), releases);
}

#[test]
fn shares_that_would_lose_the_class_are_refused() {
    let s = Sharing::new("margin");
    let remedies = ["larger scale", "fewer releases", "--class-only"];
    // no answer of this plan could have that margin: refused unseen, not counted
    s.refused(Some(64), Some(1000), &remedies);
    assert!(!s.record.exists());
    // this answer has not: counted, since whoever notices the refusal learns of the noisy answer
    let bounds = s.files.client.spec().answer;
    let (security, releases) = (20..=64)
        .flat_map(|b| [1, 2, 3].map(|r| (b, r)))
        .filter(|&(b, r)| {
            let f = Flooding::new(bounds, SLOTS, b, r).expect("in range");
            f.needed_margin(4) <= 2.0 * bounds.magnitude
        })
        .max()
        .expect("some noise is small enough");
    s.refused(Some(security), Some(releases), &remedies);
    assert_eq!(s.used(), 1);
}

#[test]
fn shares_at_the_same_time_are_all_counted() {
    let s = Sharing::new("race");
    let used = |worker: u64| -> Vec<u64> {
        (0..5)
            .map(|i| {
                s.share(Some(20), Some(20), 10 * worker + i)
                    .expect("promised")
                    .used
            })
            .collect()
    };
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let used = &used;
        let workers: Vec<_> = (0..4).map(|w| scope.spawn(move || used(w))).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("no panic"))
            .collect()
    });
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<u64>>());
    s.refused(None, None, &["all 20 releases", "used up"]);
}

#[test]
fn releases_are_promised_once_and_counted_under_their_key() {
    let s = Sharing::new("count");
    s.refused(Some(20), None, &["--releases"]);
    s.refused(Some(20), Some(0), &["0 releases", "--releases"]);
    s.refused(Some(3), Some(2), &["--security-bits"]);
    assert!(!s.record.exists());
    assert_eq!(s.share(Some(20), Some(2), 1).expect("first").used, 1);
    s.refused(None, Some(9), &["2 releases at 20 bits", "new keys"]);
    s.refused(Some(21), None, &["2 releases at 20 bits", "new keys"]);
    let second = s.share(None, None, 2).expect("second");
    assert_eq!(
        (second.used, second.releases, second.security_bits),
        (2, 2, 20)
    );
    s.refused(Some(20), Some(2), &["all 2 releases", "used up"]);

    let good = std::fs::read_to_string(&s.record).expect("a record");
    let other = Client::new(s.files.plan.client_spec(), &mut rng(77)).expect("client");
    let terms = Terms {
        security: None,
        releases: Some(2),
        class_bits: 4,
    };
    let message = other
        .share_answer(&s.answer[..], "x", &s.record, &terms, &mut rng(1))
        .expect_err("refused")
        .to_string();
    assert!(message.contains("another key"), "{message}");
    for bad in [
        String::new(),
        good.replace("\"used\": 2", "\"used\": 3"),
        good.replace("\"used\": 2", "\"used\": -1"),
        good.replace("\"security\": 20", "\"security\": 2"),
        good.replace("\"used\"", "\"spent\""),
        format!("{good}x"),
        " ".repeat(5000) + &good,
    ] {
        std::fs::write(&s.record, bad).expect("writes");
        s.refused(None, None, &["record of shared answers", "make new keys"]);
    }
}

#[test]
fn the_class_alone_is_shared_until_one_is_refused() {
    let s = Sharing::new("class");
    let client = &s.files.client;
    let share = |answer: &[u8], releases| {
        let terms = Terms {
            security: Some(20),
            releases,
            class_bits: 4,
        };
        client.share_class(answer, "x", &s.record, &terms)
    };
    let refused = |answer: &[u8], releases, words: &[&str]| {
        let message = share(answer, releases).expect_err("refused").to_string();
        for w in words {
            assert!(message.contains(w), "{w:?} is missing in {message}");
        }
        assert!(
            message.contains(';') && !message.contains('\n'),
            "{message}"
        );
    };
    refused(&s.answer, None, &["--releases"]);
    refused(&s.answer, Some(0), &["0 releases"]);
    assert!(!s.record.exists());

    let plain = client.read_answer(&s.answer[..], "x").expect("answer");
    let best = (0..plain.len()).max_by(|&a, &b| plain[a].total_cmp(&plain[b]));
    let shared = share(&s.answer, Some(4)).expect("a wide lead");
    assert_eq!(
        (Some(shared.class), shared.used, shared.releases),
        (best, 1, 4)
    );
    assert_eq!(shared.needed_margin, 2.0 * client.spec().answer.error);
    // nothing but the class depends on the answer
    let fields = serde_json::to_value(shared).expect("JSON");
    let names: Vec<&String> = fields.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["class", "needed_margin", "releases", "used"]);
    // noisy answers and classes are counted together
    assert_eq!(s.share(Some(20), Some(4), 1).expect("noise").used, 2);

    // equal inputs give equal outputs, and the error alone has a favourite
    let server = s.files.server();
    let level = client
        .encrypt(&[0.0; SLOTS], &mut rng(5))
        .expect("encrypts");
    let tie = server
        .run(server.start(&level).expect("starts"), &mut ())
        .expect("runs");
    let tie = server.write_answer(&tie, Vec::new(), "x").expect("answer");
    refused(&tie, None, &["twice the error bound", "3 of 4", "keygen"]);
    assert_eq!(s.used(), 3);
    // that was the last: whether a class comes now must not tell more
    for answer in [&tie, &s.answer] {
        refused(answer, None, &["refused under this key before", "keygen"]);
    }
    assert_eq!(s.used(), 3);
    assert_eq!(s.share(None, None, 2).expect("noise").used, 4);
    refused(&s.answer, None, &["used up"]);
}

#[test]
fn client_key_survives_its_file_and_hides_itself() {
    let f = files(levelled());
    let bytes = f.client.write(Vec::new(), "client.key").expect("writes");
    let again = Client::read(&bytes[..], "client.key").expect("reads");
    assert_eq!(
        again.secret_key().coefficients(),
        f.client.secret_key().coefficients()
    );
    assert_eq!(again.spec(), f.client.spec());
    assert!(format!("{again:?}").contains("redacted"));
}

#[test]
fn plans_survive_their_file_and_are_byte_identical() {
    let p = levelled();
    let bytes = p.write(Vec::new(), "x.plan").expect("writes");
    let (again, digest) = Plan::read(&bytes[..], "x.plan").expect("reads");
    assert_eq!((&again, digest), (&p, p.digest()));
    assert_eq!(again.write(Vec::new(), "x.plan").expect("writes"), bytes);
}

#[test]
fn lock_step_check_passes_and_measures_every_step() {
    let f = files(levelled());
    let server = f.server();
    let state = server.read_input(&f.input[..], "input").expect("input");
    let mut check = LockStep::new(&f.plan, &f.client, &state, Excess::Stop).expect("starts");
    server.run(state, &mut check).expect("within bounds");
    assert_eq!(check.steps.len(), f.plan.plan().steps.len());
    assert!(
        check
            .steps
            .values()
            .all(|p| p.largest < 1e-4 && p.mean <= p.largest)
    );
}

type Check<'a> = Box<dyn Fn(&[u8]) -> Result<()> + 'a>;

/// A small file of each kind with its reader.
fn every_file(f: &Files) -> Vec<(&'static str, Vec<u8>, Check<'_>)> {
    let server = f.server();
    let answer = server
        .run(
            server.read_input(&f.input[..], "x").expect("input"),
            &mut (),
        )
        .expect("runs");
    let answer = server
        .write_answer(&answer, Vec::new(), "x")
        .expect("answer");
    let path = std::env::temp_dir().join(format!("polyveil-toy-{}.checkpoint", std::process::id()));
    let digest = input_digest(&f.input[..], "x").expect("digest");
    let mut state = server.read_input(&f.input[..], "x").expect("input");
    f.plan
        .advance(server.evaluator(), &mut state, &mut ())
        .expect("one step");
    Checkpointer::new(&f.plan, path.clone(), digest)
        .save(&state)
        .expect("saves");
    let checkpoint = std::fs::read(&path).expect("written");
    let plan_bytes = f.plan.plan().write(Vec::new(), "x").expect("plan");
    let client_bytes = f.client.write(Vec::new(), "x").expect("client");
    vec![
        (
            "plan",
            plan_bytes,
            Box::new(|b| Plan::read(b, "x").map(drop)),
        ),
        (
            "client key",
            client_bytes,
            Box::new(|b| Client::read(b, "x").map(drop)),
        ),
        (
            "keys",
            f.keys.clone(),
            Box::new(|b| Server::read(f.plan.clone(), b, "x", &mut |_, _| {}).map(drop)),
        ),
        (
            "input",
            f.input.clone(),
            Box::new(move |b| server.read_input(b, "x").map(drop)),
        ),
        (
            "answer",
            answer,
            Box::new(|b| f.client.read_answer(b, "x").map(drop)),
        ),
        (
            "checkpoint",
            checkpoint,
            Box::new(move |b| {
                std::fs::write(&path, b).expect("writes");
                let read = read_checkpoint(&path, &f.plan, &digest, f.client.key()).map(drop);
                std::fs::remove_file(&path).expect("removes");
                read
            }),
        ),
    ]
}

#[test]
fn truncated_oversized_and_flipped_files_are_refused_everywhere() {
    let f = files(levelled());
    for (kind, good, read) in every_file(&f) {
        read(&good).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let refused = |bytes: &[u8], how: String| {
            let message = read(bytes)
                .expect_err(&format!("{kind}: {how}"))
                .to_string();
            assert!(
                message.contains(';') && !message.contains('\n'),
                "{kind}: {message}"
            );
        };
        // every byte of headers and section heads, then a sample of the bulk
        let positions: Vec<usize> = (0..good.len().min(400))
            .chain((400..good.len()).step_by(good.len() / 150 + 1))
            .collect();
        for &n in &positions {
            refused(&good[..n], format!("cut to {n}"));
            let mut bad = good.clone();
            bad[n] ^= 1 << (n % 8);
            refused(&bad, format!("byte {n} flipped"));
        }
        let mut long = good.clone();
        long.push(0);
        refused(&long, "one byte more".into());
        refused(b"P", "foreign".into());
    }
}

#[test]
fn files_of_another_kind_plan_or_parameter_set_are_named() {
    let f = files(levelled());
    let other = files(Plan {
        parameters: ParametersSpec::toy_levelled(8, 4),
        ..levelled()
    });
    let message = Server::read(
        f.plan.clone(),
        &other.keys[..],
        "other.keys",
        &mut |_, _| {},
    )
    .expect_err("refused")
    .to_string();
    assert!(
        message.contains("other.keys")
            && message.contains("parameter")
            && message.contains("keygen"),
        "{message}"
    );
    let message = f
        .server()
        .read_input(&other.input[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(message.contains("parameter"), "{message}");
    let message = f
        .server()
        .read_input(&f.keys[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains(Kind::Input.name()) && message.contains("polyveil encrypt"),
        "{message}"
    );
    let mut changed = levelled();
    changed.steps[1].operation = Operation::Square {
        input: 1,
        output: 2,
        constant: 0.5,
    };
    let changed = files(changed);
    let message = f
        .server()
        .read_input(&changed.input[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(message.contains("another plan"), "{message}");
}

#[test]
fn keys_that_do_not_cover_the_plan_are_named() {
    let f = files(levelled());
    let mut spec = f.plan.client_spec();
    let (dropped, _) = spec.keys.remove(0);
    let client = Client::new(spec, &mut rng(1)).expect("client");
    let keys = client
        .write_evaluation_keys(Vec::new(), "k", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    let message = Server::read(f.plan.clone(), &keys[..], "few.keys", &mut |_, _| {})
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains(&dropped.to_string()) && message.contains("keygen"),
        "{message}"
    );
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let f = files(levelled());
    let refused = |x: &[f64]| {
        f.client
            .encrypt(x, &mut rng(9))
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&[0.0; 5]).contains("--resize"));
    let mut x = tensor();
    x[3] = f64::NAN;
    assert!(refused(&x).contains("NaN"));
    x[3] = 2.5;
    let message = refused(&x);
    assert!(
        message.contains("2.5") && message.contains("calibrat"),
        "{message}"
    );
    let mut uncalibrated = levelled();
    uncalibrated.description.input_bound = 0.0;
    let client = Client::new(plan(uncalibrated).client_spec(), &mut rng(1)).expect("client");
    let message = client
        .encrypt(&tensor(), &mut rng(2))
        .expect_err("refused")
        .to_string();
    assert!(message.contains("calibrate"), "{message}");
}

#[test]
fn a_range_that_the_input_exceeds_is_found_in_the_clear_twin() {
    let mut wide = levelled();
    wide.steps[0] = linear("conv1", 0, 1, [3.0, 2.0, 1.0]);
    let f = files(wide);
    let message = ClearTwin::new(&f.plan, f.client.spec(), &[1.9; SLOTS])
        .expect("twin")
        .finish()
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains("act1") && message.contains("calibrate"),
        "{message}"
    );
}

#[test]
fn parameters_under_128_bits_are_refused_unless_named_toy() {
    let mut p = levelled();
    p.parameters.name = "fast".into();
    let message = VerifiedPlan::new(p).expect_err("refused").to_string();
    assert!(message.contains("128"), "{message}");
}

#[test]
fn plans_that_do_not_hold_together_are_refused_with_step_and_layer() {
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut p = levelled();
        change(&mut p);
        VerifiedPlan::new(p).expect_err("refused").to_string()
    };
    let message = refused(&|p| {
        p.steps[1].operation = Operation::Square {
            input: 7,
            output: 2,
            constant: 0.0,
        }
    });
    assert!(
        message.contains("act1") && message.contains("register 7"),
        "{message}"
    );
    let message = refused(&|p| p.steps[2] = linear("conv2", 2, 1, SECOND));
    assert!(message.contains("written twice"), "{message}");
    let message = refused(&|p| {
        p.steps[3].operation = Operation::Align {
            input: 2,
            output: 4,
            level: 2,
        }
    });
    assert!(message.contains("add"), "{message}");
    assert!(
        refused(&|p| p.steps[1].operation = Operation::Square {
            input: 1,
            output: 2,
            constant: f64::NAN
        })
        .contains("finite")
    );
    assert!(refused(&|p| p.output.level = 0).contains("level"));
    assert!(refused(&|p| p.output.places[3] = (1, 0)).contains("place"));
    assert!(refused(&|p| p.input.level = 1).contains("level"));
    assert!(
        refused(&|p| {
            p.steps[1].operation = Operation::Bootstrap {
                input: 1,
                output: 2,
                bootstrap: Bootstrap {
                    slots: SLOTS,
                    target: 3,
                    gain: 1.0,
                },
            };
        })
        .contains("bootstrapping")
    );
    assert!(refused(&|p| p.steps[0].unit = 0.0).contains("unit"));
}

#[test]
fn nan_weights_do_not_construct() {
    let bad = Values::Complex(vec![Complex64::new(f64::NAN, 0.0); SLOTS].into());
    let message = BlockMap::new(
        SLOTS,
        1,
        1,
        vec![Term {
            input: 0,
            output: 0,
            giant: 0,
            baby: 0,
            values: bad,
        }],
        vec![],
    )
    .expect_err("refused")
    .to_string();
    assert!(message.contains("NaN"), "{message}");
}

/// linear → bootstrap → polynomial → bootstrap → linear.
fn bootstrapped() -> Plan {
    let bootstrap = |input, output| Operation::Bootstrap {
        input,
        output,
        bootstrap: Bootstrap {
            slots: SLOTS,
            target: 4,
            gain: 1.0,
        },
    };
    let polynomial = Polynomial::new(vec![0.1, 0.3, 0.05]).expect("valid");
    Plan {
        parameters: ParametersSpec::toy(9),
        description: Description {
            name: "toy".into(),
            input_bound: 1.0,
            client: None,
            ..Description::default()
        },
        input: port("x", 0, 2, 2.0),
        output: port("y", 5, 3, 1.0),
        steps: vec![
            linear("conv1", 0, 1, FIRST),
            Step {
                layer: "refresh1".into(),
                purpose: Purpose::Weights,
                operation: bootstrap(1, 2),
                unit: 1.0,
            },
            Step {
                layer: "act1".into(),
                purpose: Purpose::Weights,
                operation: Operation::Polynomial {
                    input: 2,
                    output: 3,
                    polynomial,
                },
                unit: 1.0,
            },
            Step {
                layer: "refresh2".into(),
                purpose: Purpose::Weights,
                operation: bootstrap(3, 4),
                unit: 1.0,
            },
            linear("fc", 4, 5, SECOND),
        ],
    }
}

/// Noise is predicted for all N coefficients, from above where slots are few: simulated runs may err more than real ones, by up to
/// √(N/2n), not much less.
#[test]
fn simulated_errors_are_no_smaller_than_those_of_encrypted_runs() {
    for p in [levelled(), bootstrapped()] {
        let f = files(p);
        let (server, noise) = (f.server(), Noise::of(&f.plan).expect("measures"));
        let bound = f.plan.plan().description.input_bound;
        let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
        let exact = f.plan.simulate(&x, None).expect("runs");
        let twin = ClearTwin::new(&f.plan, f.client.spec(), &x).expect("fits");
        close(&exact, &twin.finish().expect("runs"), 1e-12);
        let rms = |all: &[Vec<f64>]| {
            let errors = all.iter().flat_map(|y| y.iter().zip(&exact));
            let squares: f64 = errors.map(|(a, b)| (a - b).powi(2)).sum();
            (squares / (all.len() * exact.len()) as f64).sqrt()
        };
        let encrypted: Vec<Vec<f64>> = (0..16)
            .map(|i| {
                let request = f.client.encrypt(&x, &mut rng(100 + i)).expect("encrypts");
                let state = server.start(&request).expect("fits");
                f.client
                    .decrypt(&server.run(state, &mut ()).expect("runs"))
                    .expect("decrypts")
            })
            .collect();
        let simulated: Vec<Vec<f64>> = (0..64)
            .map(|seed| f.plan.simulate(&x, Some((&noise, seed))).expect("runs"))
            .collect();
        assert_ne!(simulated[0], simulated[1], "draws differ");
        let ratio = rms(&encrypted) / rms(&simulated);
        let most = (f.plan.parameters().n() as f64 / (2 * SLOTS) as f64).sqrt();
        assert!(ratio < 1.3 && ratio > 0.5 / most, "{ratio} of {most}");
        assert!(noise.largest() > 0.0);
    }
}

#[test]
fn a_killed_run_resumes_with_the_same_answer() {
    let plan_ = bootstrapped();
    let plan = plan(plan_);
    let client = Client::new(plan.client_spec(), &mut rng(1)).expect("client");
    let keys = client
        .write_evaluation_keys(Vec::new(), "keys", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    let x: Vec<f64> = tensor().iter().map(|v| v / 2.0).collect();
    let input = client
        .write_input(&x, Vec::new(), "input", &mut rng(3))
        .expect("input");
    let server = Server::read(plan.clone(), &keys[..], "keys", &mut |_, _| {}).expect("server");
    let whole = server
        .run(
            server.read_input(&input[..], "input").expect("input"),
            &mut (),
        )
        .expect("runs");
    let whole = server
        .write_answer(&whole, Vec::new(), "answer")
        .expect("answer");
    let twin = ClearTwin::new(&plan, client.spec(), &x)
        .expect("twin")
        .finish()
        .expect("in range");
    close(
        &client.read_answer(&whole[..], "answer").expect("decrypts"),
        &twin,
        2e-3,
    );

    struct Kill(usize);
    impl<V> Observer<V> for Kill {
        fn end(&mut self, done: &Done<'_, V>) -> Result<()> {
            if done.index == self.0 {
                Err(Error::Input {
                    reason: "killed".into(),
                    remedy: "resume".into(),
                })
            } else {
                Ok(())
            }
        }
    }
    let path =
        std::env::temp_dir().join(format!("polyveil-resume-{}.checkpoint", std::process::id()));
    let digest = input_digest(&input[..], "input").expect("digest");
    for kill in [2, 3, 4] {
        let mut save = Checkpointer::new(&plan, path.clone(), digest);
        let mut killer = Kill(kill);
        let mut observers: [&mut dyn Observer<_>; 2] = [&mut save, &mut killer];
        let stopped = server.run(
            server.read_input(&input[..], "input").expect("input"),
            &mut observers[..],
        );
        assert!(stopped.is_err());
        let state = read_checkpoint(&path, &plan, &digest, client.key()).expect("a checkpoint");
        assert_eq!(state.next, if kill == 2 { 2 } else { 4 });
        let rest = server.run(state, &mut ()).expect("runs");
        assert_eq!(
            server
                .write_answer(&rest, Vec::new(), "answer")
                .expect("answer"),
            whole
        );
        let message = read_checkpoint(&path, &plan, &[1; 32], client.key())
            .expect_err("another input")
            .to_string();
        assert!(message.contains("another encrypted input"), "{message}");
    }
    std::fs::remove_file(&path).expect("removes");
    assert!(read_checkpoint(Path::new("/nonexistent"), &plan, &digest, client.key()).is_err());
}

// Hostile files. Found by reading and by `polyveil-fuzz`.

#[test]
fn a_specification_of_impossibly_many_primes_is_refused() {
    let levels = |levels| ckks::parameters::Zone {
        levels,
        bits: vec![40; 2],
    };
    for residual in [levels(usize::MAX), levels(usize::MAX / 2 + 1), levels(65)] {
        let spec = ParametersSpec {
            residual,
            ..ParametersSpec::toy_levelled(6, 4)
        };
        let message = checked_parameters(spec, "x.plan")
            .expect_err("hostile")
            .to_string();
        assert!(
            message.contains("x.plan") && message.contains("out of range"),
            "{message}"
        );
    }
}

#[test]
fn outputs_that_share_a_bias_share_its_memory() {
    let mut p = levelled();
    let term = |output| Term {
        input: 0,
        output,
        giant: 0,
        baby: 0,
        values: Values::Real(vec![0.5].into()),
    };
    let outputs = 100;
    let map = BlockMap::new(SLOTS, 1, outputs, (0..outputs).map(term).collect(), vec![]);
    p.steps[0].operation = Operation::Linear {
        inputs: vec![0],
        outputs: (10..10 + outputs).collect(),
        map: map.expect("valid"),
        bias: (0..outputs)
            .map(|_| Some(vec![0.125; SLOTS].into()))
            .collect(),
        period: SLOTS,
    };
    let bytes = p.write(Vec::new(), "x.plan").expect("writes");
    let (again, _) = Plan::read(&bytes[..], "x.plan").expect("reads");
    assert_eq!(again, p);
    let Operation::Linear { bias, .. } = &again.steps[0].operation else {
        panic!("a linear step");
    };
    let first = bias[0].as_ref().expect("a bias");
    assert!(bias.iter().flatten().all(|b| Arc::ptr_eq(b, first)));
}

#[test]
fn many_registers_alive_over_many_steps_are_counted() {
    let mut p = levelled();
    let step = |operation| Step {
        layer: "many".into(),
        purpose: Purpose::Weights,
        operation,
        unit: 1.0,
    };
    // nothing is released: the last steps read what the first ones wrote
    let count = 3000;
    let first = (0..count).map(|i| Operation::Align {
        input: 0,
        output: 10 + i,
        level: 1,
    });
    let last = (0..count).map(|i| Operation::Add {
        left: 10 + i,
        right: 10 + count - 1 - i,
        output: 10 + count + i,
    });
    p.steps = first.chain(last).map(step).collect();
    p.output.registers = vec![10 + count];
    p.output.level = 1;
    let plan = VerifiedPlan::new(p).expect("sound");
    // two polynomials of two limbs each
    let least = count as u64 * 2 * 2 * 8 * plan.parameters().n() as u64;
    assert!(plan.facts().peak_bytes > least);
    assert_eq!(plan.live_after(2 * count - 1).expect("a step").len(), 1);
}

/// Two tensors side by side: every slot of the map of one is two.
fn batched() -> Plan {
    let weight = |offset: usize| -> Arc<[f32]> {
        (0..SLOTS)
            .map(|j| ((3 * j + offset) as f32).cos() / 4.0)
            .collect()
    };
    let term = |offset: usize| Term {
        input: 0,
        output: 0,
        giant: 2 * (offset & !1),
        baby: 2 * (offset & 1),
        values: Values::runs(weight(offset), 2),
    };
    let two = |p: Port| Port {
        slots: 2 * SLOTS,
        batch: 2,
        ..p
    };
    let terms = [0, 1, 5].map(term).to_vec();
    Plan {
        input: two(port("x", 0, 2, 2.0)),
        output: two(port("y", 1, 1, 2.0)),
        steps: vec![Step {
            layer: "conv".into(),
            purpose: Purpose::Weights,
            operation: Operation::Linear {
                inputs: vec![0],
                outputs: vec![1],
                map: BlockMap::new(2 * SLOTS, 1, 1, terms, vec![]).expect("valid"),
                bias: vec![None],
                period: 2 * SLOTS,
            },
            unit: 2.0,
        }],
        ..levelled()
    }
}

#[test]
fn a_batch_is_as_many_inputs_one_by_one() {
    let f = files(batched());
    let bytes = f.plan.plan().write(Vec::new(), "x.plan").expect("writes");
    assert_eq!(
        &Plan::read(&bytes[..], "x.plan").expect("reads").0,
        f.plan.plan()
    );
    let server = f.server();
    let truth = |x: &[f64]| -> Vec<f64> {
        let weight = |j: usize, offset: usize| f64::from(((3 * j + offset) as f32).cos() / 4.0);
        let row = |j: usize| [0, 1, 5].map(|o| weight(j, o) * x[(j + o) % SLOTS]);
        (0..SLOTS).map(|j| row(j).iter().sum()).collect()
    };
    let (one, other) = (
        tensor(),
        tensor().iter().map(|v| 0.5 - v * v / 4.0).collect(),
    );
    let other: Vec<f64> = other;
    let both: Vec<f64> = one.iter().chain(&other).copied().collect();
    for (x, want) in [
        (&both, [truth(&one), truth(&other)]),
        // fewer than there is room for are repeated
        (&one, [truth(&one), truth(&one)]),
    ] {
        let input = f
            .client
            .write_input(x, Vec::new(), "input", &mut rng(3))
            .expect("encrypts");
        let bytes = answer(&server, &input).expect("runs");
        let had = f
            .client
            .read_answer(&bytes[..], "answer")
            .expect("decrypts");
        close(&had, &want.concat(), 1e-6);
        let twin = ClearTwin::new(&f.plan, f.client.spec(), x).expect("fits");
        close(&twin.finish().expect("runs"), &want.concat(), 1e-6);
    }
    let refused = |x: &[f64]| {
        let error = f.client.encrypt(x, &mut rng(3)).expect_err("does not fit");
        error.to_string()
    };
    assert!(refused(&[0.0; 3 * SLOTS]).contains("3 inputs, the plan takes 2 at a time"));
    assert!(refused(&[0.0; SLOTS + 1]).contains("17 values"));
    let terms = Terms {
        security: None,
        releases: Some(1),
        class_bits: 10,
    };
    let folder = Folder::new("batch");
    let record = folder.0.join("releases.json");
    let shared = f
        .client
        .share_answer(&[][..], "x", &record, &terms, &mut rng(4));
    let message = shared.expect_err("of two").to_string();
    assert!(message.contains("noise is sized for one"), "{message}");
    for (batch, problem) in [(3, "a batch of 3"), (64, "a batch of 64"), (4, "slot 8")] {
        let mut p = batched();
        p.input.batch = batch;
        let message = VerifiedPlan::new(p).expect_err("refused").to_string();
        assert!(message.contains(problem), "{message}");
    }
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyveil-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The answer file's bytes.
fn answer(server: &Server, input: &[u8]) -> Result<Vec<u8>> {
    let answer = server.run(server.read_input(input, "input")?, &mut ())?;
    server.write_answer(&answer, Vec::new(), "answer")
}

fn open_keys(f: &Files, path: &Path, kept: &BTreeSet<KeyName>) -> Result<Server> {
    let file = std::fs::File::open(path).expect("opens");
    let name = path.display().to_string();
    Server::open(f.plan.clone(), file, &name, kept, &mut |_, _| {})
}

#[test]
fn keys_on_disk_give_the_same_answer() {
    let folder = Folder::new("keys-on-disk");
    for p in [levelled(), bootstrapped()] {
        let f = files(p);
        let path = folder.file("evaluation.keys", &f.keys);
        let want = answer(&f.server(), &f.input).expect("runs");
        let facts = f.plan.facts();
        let one: BTreeSet<KeyName> = facts.keys.0.keys().take(1).copied().collect();
        let half = facts.peak_without_keys / 2 + facts.peak_bytes / 2;
        let all = facts.keys_on_disk(facts.peak_bytes).kept;
        for kept in [BTreeSet::new(), one, facts.keys_on_disk(half).kept, all] {
            let server = open_keys(&f, &path, &kept).expect("opens");
            let held: BTreeSet<KeyName> =
                server.evaluator().keys().iter().map(|(&k, _)| k).collect();
            assert_eq!(held, kept);
            assert!(
                answer(&server, &f.input).expect("runs") == want,
                "{} keys kept",
                kept.len()
            );
        }
        // moving another file into its place does not reach an open one
        let server = open_keys(&f, &path, &BTreeSet::new()).expect("opens");
        let other = folder.file("other.keys", b"something else");
        std::fs::rename(&other, &path).expect("moves");
        assert!(answer(&server, &f.input).expect("runs") == want);
    }
}

#[test]
fn reads_of_stored_keys_are_predicted_exactly() {
    for p in [levelled(), bootstrapped()] {
        let f = files(p);
        let facts = f.plan.facts();
        let most = facts.peak_bytes;
        let least = facts.keys_on_disk(0);
        assert!(least.kept.is_empty() && least.peak_bytes < most);
        let everything = facts.keys_on_disk(most);
        assert_eq!(
            (everything.kept.len(), everything.peak_bytes),
            (facts.keys.0.len(), most)
        );
        assert_eq!((everything.reads, everything.read_bytes), (0, 0));
        let middle = facts.keys_on_disk((least.peak_bytes + most) / 2);
        assert!(!middle.kept.is_empty() && middle.reads > 0 && middle.reads < least.reads);
        for placement in [least, middle, everything] {
            assert!(placement.peak_bytes <= most);
            // the same keys, counted as they are brought
            let source = f.server();
            let source = source.evaluator().keys().clone();
            let mut keys = EvaluationKeys::new();
            for (&name, key) in source.iter().filter(|(k, _)| placement.kept.contains(k)) {
                keys.insert(name, key.clone());
            }
            let count = Arc::new(AtomicU64::new(0));
            let counter = count.clone();
            let keys = keys.with_stored(facts.keys.clone(), move |name| {
                counter.fetch_add(1, Ordering::Relaxed);
                let found = source.iter().find(|(k, _)| **k == name);
                Ok(found.expect("was listed").1.clone())
            });
            let keys = wire::ServerKeys {
                id: f.client.key(),
                keys,
            };
            let server = Server::new(f.plan.clone(), keys).expect("covers the plan");
            answer(&server, &f.input).expect("runs");
            assert_eq!(count.load(Ordering::Relaxed), placement.reads);
        }
    }
}

#[test]
fn a_key_file_that_changes_while_in_use_is_an_error() {
    let folder = Folder::new("changed-keys");
    let f = files(levelled());
    let none = BTreeSet::new();
    let refused = |server: &Server, path: &Path| {
        let e = answer(server, &f.input).expect_err("a changed file");
        assert!(matches!(e, Error::Step { .. }), "{e}");
        let message = e.to_string();
        let name = path.display().to_string();
        for part in [&name[..], "changed while in use", "--resume", "conv1"] {
            assert!(message.contains(part), "{message}");
        }
    };
    let write = |path: &Path, at: u64, byte: u8| {
        let file = std::fs::File::options().write(true).open(path);
        file.expect("opens")
            .write_all_at(&[byte], at)
            .expect("writes");
    };
    // one bit, anywhere in a key: its head, its seed, its residues
    let section = f
        .keys
        .windows(4)
        .position(|w| w == b"key ")
        .expect("a key's section");
    let bytes = f
        .plan
        .facts()
        .key_sizes
        .values()
        .map(|s| s.file)
        .sum::<u64>() as usize;
    assert!(section + bytes < f.keys.len());
    let path = folder.file("evaluation.keys", &f.keys);
    let server = open_keys(&f, &path, &none).expect("opens");
    let want = answer(&server, &f.input).expect("runs");
    // offsets within every key alike, since not all are used by the first step
    let mut starts = Vec::new();
    let mut at = section;
    for size in f.plan.facts().key_sizes.values() {
        starts.push(at);
        at += size.file as usize + 44;
    }
    assert_eq!(at, f.keys.len());
    for offset in [0, 5, 12, 43, 44, 300] {
        for bit in [0, 7] {
            for &start in &starts {
                write(
                    &path,
                    (start + offset) as u64,
                    f.keys[start + offset] ^ 1 << bit,
                );
            }
            refused(&server, &path);
            for &start in &starts {
                write(&path, (start + offset) as u64, f.keys[start + offset]);
            }
        }
    }
    // put back, it serves again
    assert!(answer(&server, &f.input).expect("runs") == want);
    // cut short
    let file = std::fs::File::options().write(true).open(&path);
    file.expect("opens")
        .set_len(section as u64 + 100)
        .expect("cuts");
    refused(&server, &path);
    // what was wrong from the beginning is refused at the beginning
    let message = open_keys(&f, &path, &none)
        .expect_err("cut short")
        .to_string();
    assert!(message.contains("truncated"), "{message}");
    let mut flipped = f.keys.clone();
    flipped[section + 60] ^= 1;
    let flipped = folder.file("flipped.keys", &flipped);
    let e = open_keys(&f, &flipped, &none).expect_err("flipped");
    assert!(matches!(e, Error::File { .. }), "{e}");
    let message = open_keys(&f, Path::new("/dev/null"), &none)
        .expect_err("no regular file")
        .to_string();
    assert!(message.contains("no regular file"), "{message}");
}
