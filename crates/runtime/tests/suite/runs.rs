//! Runs: in the clear, under encryption, killed and resumed.

use crate::support::*;
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::report::{Answer, Measured};
use polyveil_runtime::sharing::Terms;
use polyveil_runtime::*;
use std::path::Path;

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

#[test]
fn lock_step_check_passes_and_measures_every_step() {
    let f = files(levelled());
    let server = f.server();
    let state = server.read_input(&f.input[..], "input").expect("input");
    let mut check =
        LockStep::new(&f.plan, server.engine(), &f.client, &state, Excess::Stop).expect("starts");
    server.run(state, &mut check).expect("within bounds");
    assert_eq!(check.steps.len(), f.plan.plan().steps.len());
    assert!(
        check
            .steps
            .values()
            .all(|p| p.largest < 1e-4 && p.mean <= p.largest)
    );
}

#[test]
fn a_check_stops_where_a_value_leaves_an_interval_whatever_the_answer_is() {
    // within [−1, 1], where the square is carried out, and beyond what the network was calibrated for
    let mut p = levelled();
    p.steps[1].interval = Some((-0.8, 0.4));
    let f = files(p);
    let server = f.server();
    let checked = |x: f64| {
        let input = f
            .client
            .encrypt(&[x; SLOTS], &mut rng(4))
            .expect("encrypts");
        let state = server.start(&input).expect("starts");
        let mut check = LockStep::new(&f.plan, server.engine(), &f.client, &state, Excess::Stop)
            .expect("starts");
        let answer = server.run(state, &mut check)?;
        Ok::<_, Error>(f.client.decrypt(&answer).expect("of ordinary size"))
    };
    checked(1.0).expect("inside");
    match checked(1.8).expect_err("outside") {
        Error::Range {
            layer,
            reached,
            limit,
        } => {
            assert_eq!(layer, "act1");
            assert!(reached > limit && reached < 1.0, "{reached} of {limit}");
        }
        other => panic!("{other}"),
    }
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
    assert!(refused(&[0.0; 5]).contains("5 values, but the network takes 16 (shape [16])"));
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
    let client = Client::new(client_file(&plan(uncalibrated)), &mut rng(1));
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
    let client = Client::new(client_file(&plan), &mut rng(1));
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
        let mut save = Checkpointer::new(&plan, server.engine(), path.clone(), digest);
        let mut killer = Kill(kill);
        let mut observers: [&mut dyn Observer<_>; 2] = [&mut save, &mut killer];
        let stopped = server.run(
            server.read_input(&input[..], "input").expect("input"),
            &mut observers[..],
        );
        assert!(stopped.is_err());
        let state = read_checkpoint(&path, &plan, &digest, client.key()).expect("a checkpoint");
        assert_eq!(state.next, if kill == 2 { 2 } else { 4 });
        let state = server.resume(state).expect("uploads");
        let rest = server.run(state, &mut ()).expect("runs");
        assert_eq!(
            server
                .write_answer(&rest, Vec::new(), "answer")
                .expect("answer"),
            whole
        );
        let other =
            read_checkpoint(&path, &plan, &[1; 32], client.key()).expect_err("another input");
        // to go on from it can't help
        assert_eq!(other.help(), Some(polyveil_runtime::Help::Anew));
        let message = other.to_string();
        assert!(message.contains("another encrypted input"), "{message}");
    }
    std::fs::remove_file(&path).expect("removes");
    assert!(read_checkpoint(Path::new("/nonexistent"), &plan, &digest, client.key()).is_err());
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
        class_bits: Some(10),
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
