//! Answers that can't be right: each test of them, on ciphertexts made for it, and on what goes wrong in earnest.

use crate::support::*;
use ckks::{Ciphertext, Complex64, Info, Level};
use polyveil_runtime::sharing::Terms;
use polyveil_runtime::*;

/// Two values in the first slots of a bootstrapped plan's answer; the rest of a period of 16 has no row.
fn with_unused() -> Plan {
    let mut p = bootstrapped();
    p.output.shape = vec![2];
    p.output.places.truncate(2);
    let Operation::Linear { map, bias, .. } = &mut p.steps[4].operation else {
        panic!("the last map")
    };
    let mask = |w: f32| {
        let row = |j| if j < 2 { w } else { 0.0 };
        ckks::map::Values::Real((0..SLOTS).map(row).collect())
    };
    let terms = map.terms().iter().zip(SECOND);
    let terms = terms.map(|(t, w)| ckks::map::Term {
        values: mask(w),
        ..t.clone()
    });
    let terms = terms.collect();
    *map = ckks::BlockMap::new(SLOTS, 1, 1, terms, vec![]).expect("valid");
    bias[0] = Some(
        (0..SLOTS)
            .map(|j| if j < 2 { 0.125 } else { 0.0 })
            .collect(),
    );
    p
}

/// The answer to the client's own input, in memory.
fn honest(f: &Files, x: &[f64]) -> Encrypted<Ciphertext> {
    let server = f.server();
    let input = f.client.encrypt(x, &mut rng(21)).expect("encrypts");
    let state = server.start(&input).expect("starts");
    server.run(state, &mut ()).expect("runs")
}

/// The test that an answer fails.
fn fails(client: &Client, answer: &Encrypted<Ciphertext>) -> Measure {
    let e = client.decrypt(answer).expect_err("can't be right");
    let message = e.to_string();
    let words = [
        "the answer: this cannot be right",
        "interval",
        "other keys",
        "run it again",
    ];
    for w in words {
        assert!(message.contains(w), "{w:?} is missing in {message}");
    }
    match e {
        Error::Answer {
            why, counted: None, ..
        } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn honest_answers_pass_with_a_margin() {
    for (name, p) in [
        ("levelled", levelled()),
        ("batched", batched()),
        ("bootstrapped", bootstrapped()),
        ("bootstrapped, two values", with_unused()),
    ] {
        let f = files(p);
        let bound = f.plan.plan().description.input_bound;
        let mut worst = [0.0f64; 5];
        for run in 0..10 {
            let wave = |i| bound * (f64::from(i) * 0.7 + f64::from(run)).sin();
            let x: Vec<f64> = (0..SLOTS as u32).map(wave).collect();
            let answer = honest(&f, &x);
            f.client.decrypt(&answer).expect("an honest answer");
            let measures = f.client.measures(&answer).expect("its own");
            for (w, m) in worst.iter_mut().zip(measures).skip(1) {
                *w = w.max(m.measured / m.allowed);
            }
        }
        let [_, magnitude, imaginary, replicas, unused] = worst;
        println!(
            "{name}: of what is allowed, magnitude {magnitude:.3}, imaginary {imaginary:.1e}, replicas {replicas:.1e}, unused {unused:.1e}"
        );
        assert!(magnitude <= 1.0 && imaginary.max(replicas).max(unused) < 0.5);
    }
}

#[test]
fn a_plan_says_what_stands_beside_its_values() {
    let p = plan(with_unused());
    assert_eq!(
        (p.answer_bounds().unused, p.answer_bounds().imaginary),
        (0.0, 0.0)
    );
    // rows, and a bias, where no value is
    let mut rows = bootstrapped();
    rows.output.shape = vec![2];
    rows.output.places.truncate(2);
    let bounds = plan(rows).answer_bounds();
    assert_eq!(bounds.unused, bounds.magnitude);
    let mut biased = with_unused();
    if let Operation::Linear { bias, .. } = &mut biased.steps[4].operation {
        bias[0] = Some(vec![0.125].into());
    }
    assert_eq!(plan(biased).answer_bounds().unused, 0.125);
    // a map of complex numbers
    let mut turned = with_unused();
    if let Operation::Linear { map, .. } = &mut turned.steps[4].operation {
        let term = ckks::map::Term {
            values: ckks::map::Values::Complex(vec![Complex64::new(0.0, 0.5)].into()),
            ..map.terms()[0].clone()
        };
        *map = ckks::BlockMap::new(SLOTS, 1, 1, vec![term], vec![]).expect("valid");
    }
    let bounds = plan(turned).answer_bounds();
    assert_eq!(bounds.imaginary, bounds.magnitude);
}

#[test]
fn each_test_refuses_what_it_is_for() {
    let f = files(with_unused());
    let (client, port) = (&f.client, &f.plan.plan().output);
    let parameters = f.plan.parameters();
    let bounds = client.spec().answer;
    let (level, error) = (Level::new(port.level), bounds.error);
    assert!(error < 1e-3 * bounds.magnitude);
    // what an honest server never computes
    let made = |slots: &[Complex64], scale: f64| {
        let c = client.secret_key().encrypt(slots, level, &mut rng(5));
        let c = c.expect("encrypts").expand(parameters);
        let info = Info {
            level,
            scale: c.scale() * scale,
            slots: SLOTS,
            degree: 1,
        };
        let c = Ciphertext::from_polynomials(parameters, c.polynomials().to_vec(), info);
        Encrypted {
            key: client.key(),
            ciphertexts: vec![c.expect("fits")],
        }
    };
    let value = |re: f64, im: f64| Complex64::new(re, im);
    let mut good = vec![value(0.0, 0.0); SLOTS];
    good[0] = value(0.9 * bounds.magnitude / port.unit, 0.0);
    client
        .decrypt(&made(&good, 1.0))
        .expect("it could be right");
    let change = |slot: usize, v: Complex64| {
        let mut slots = good.clone();
        slots[slot] = v;
        fails(client, &made(&slots, 1.0))
    };
    let most = bounds.magnitude + error;
    let m = change(1, value(-1.001 * most, 0.0));
    assert_eq!((m.test, m.allowed), (AnswerTest::Magnitude, most));
    assert!((m.measured / most - 1.001).abs() < 1e-3, "{m:?}");
    let m = change(1, value(0.0, 2.0 * error));
    assert_eq!((m.test, m.allowed), (AnswerTest::Imaginary, error));
    // in a slot without a value, too
    assert_eq!(
        change(7, value(0.0, 2.0 * error)).test,
        AnswerTest::Imaginary
    );
    let m = change(7, value(2.0 * error, 0.0));
    assert_eq!((m.test, m.allowed), (AnswerTest::Unused, error));
    // a period of 32 where the port says 16
    let mut twice = [&good[..], &good[..]].concat();
    client
        .decrypt(&made(&twice, 1.0))
        .expect("it could be right");
    twice[SLOTS + 1] = value(0.1, 0.0);
    let m = fails(client, &made(&twice, 1.0));
    assert_eq!((m.test, m.allowed), (AnswerTest::Replicas, 2.0 * error));
    assert_eq!(fails(client, &made(&good, 0.0)).test, AnswerTest::Finite);
}

#[test]
fn where_the_bound_says_nothing_there_is_doubt_and_no_refusal() {
    // calibration saw next to nothing: what comes out is its own error
    let plan = plan(with_unused());
    let mut spec = plan.client_spec();
    spec.answer.magnitude = 1e-2 * spec.answer.error;
    let (error, port) = (spec.answer.error, spec.output.clone());
    let file = ClientFile::new(spec, [].into()).expect("no task");
    let client = Client::new(file, &mut rng(3));
    let keys = client.write_evaluation_keys(Vec::new(), "x", &mut rng(4), &mut |_, _| {});
    let keys = keys.expect("writes");
    let server = Server::read(plan.clone(), &keys[..], "x", &mut |_, _| {}).expect("reads");
    let answer = |largest: f64| {
        let mut slots = vec![Complex64::new(0.0, 0.0); SLOTS];
        slots[0] = Complex64::new(largest / port.unit, 0.0);
        let level = Level::new(port.level);
        let c = client.secret_key().encrypt(&slots, level, &mut rng(5));
        let answer = Encrypted {
            key: client.key(),
            ciphertexts: vec![c.expect("encrypts").expand(plan.parameters())],
        };
        server
            .write_answer(&answer, Vec::new(), "x")
            .expect("writes")
    };
    // more than is expected, less than the bound: shown with the doubt, and not where nobody would see it
    let file = answer(0.5 * error);
    let judged = client.read_doubtful(&file[..], "x").expect("no refusal");
    let (values, doubt) = (judged.values, judged.doubt);
    assert!((values[0].abs() / (0.5 * error) - 1.0).abs() < 0.1);
    let doubt = doubt.expect("a doubt");
    assert_eq!(doubt.test, AnswerTest::Magnitude);
    assert!(doubt.to_string().contains("too wide to tell"), "{doubt}");
    let e = client
        .read_answer(&file[..], "x")
        .expect_err("values alone");
    assert!(e.to_string().contains("too wide to tell"), "{e}");
    // beyond the bound it is refused
    match client.read_doubtful(&answer(2.0 * error)[..], "x") {
        Err(Error::Answer { why, .. }) => {
            assert_eq!(why.test, AnswerTest::Magnitude);
            assert!(why.to_string().contains("is possible"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_keys_under_a_false_name_are_found_out() {
    for p in [levelled(), batched(), bootstrapped(), with_unused()] {
        let a = files(p);
        let b = other(&a);
        let bound = a.plan.plan().description.input_bound;
        let x: Vec<f64> = tensor().iter().map(|v| v * bound / 2.0).collect();
        // as if nothing named a key: audits of security and faults, F1
        let mut answer = honest(&b, &x);
        answer.key = a.client.key();
        let m = fails(&a.client, &answer);
        assert!(m.measured > 10.0 * m.allowed, "{m:?}");
        let mut input = a.client.encrypt(&x, &mut rng(3)).expect("encrypts");
        input.key = b.client.key();
        let server = b.server();
        let state = server.start(&input).expect("starts");
        let mut answer = server.run(state, &mut ()).expect("runs");
        answer.key = a.client.key();
        fails(&a.client, &answer);
    }
}

/// Both bootstraps' operands go far beyond 1/2, by as much as `factor` says.
fn wild(factor: f32) -> Plan {
    let mut p = bootstrapped();
    p.steps[0] = linear("conv1", 0, 1, FIRST.map(|w| w * factor));
    p
}

#[test]
fn values_that_leave_an_interval_are_found_out_where_they_grow() {
    let ones: Vec<f64> = (0..SLOTS)
        .map(|i| if i % 5 == 1 { -1.0 } else { 1.0 })
        .collect();
    let f = files(wild(4000.0));
    let twin = ClearTwin::new(&f.plan, f.client.spec(), &ones).expect("fits");
    assert!(matches!(twin.finish(), Err(Error::Range { .. })));
    let m = fails(&f.client, &honest(&f, &ones));
    println!("{m}");
    // small inputs stay inside of the same plan
    let little: Vec<f64> = ones.iter().map(|v| v * 1e-4).collect();
    f.client.decrypt(&honest(&f, &little)).expect("inside");
}

#[test]
fn a_refused_answer_counts_as_shared() {
    let f = files(with_unused());
    let folder = Folder::new("refused-answers");
    let record = folder.0.join("releases.json");
    let (server, b) = (f.server(), other(&f));
    let mut answer = honest(&b, &[0.25; SLOTS]);
    answer.key = f.client.key();
    let answer = server
        .write_answer(&answer, Vec::new(), "x")
        .expect("writes");
    let terms = |releases| Terms {
        security: Some(20),
        releases,
        class_bits: Some(4),
    };
    let noisy = |releases| {
        let (terms, mut rng) = (terms(releases), rng(9));
        let shared = f
            .client
            .share_answer(&answer[..], "x.answer", &record, &terms, &mut rng);
        shared.expect_err("can't be right")
    };
    let class = |answer: &[u8]| {
        f.client
            .share_class(answer, "x.answer", &record, &terms(Some(3)))
    };
    // terms come first, whatever the answer is
    assert!(noisy(None).to_string().contains("how many answers"));
    assert!(!record.exists());
    let counted = |e: Error, want: (u64, u64)| {
        let message = e.to_string();
        let words = format!("this try counts: {} of {}", want.0, want.1);
        assert!(
            message.starts_with("x.answer: ") && message.contains(&words),
            "{message}"
        );
        assert!(matches!(e, Error::Answer { counted: Some(c), .. } if c == want));
    };
    counted(noisy(Some(3)), (1, 3));
    counted(class(&answer).expect_err("can't be right"), (2, 3));
    // an answer that could be right has no class any more under this key
    let good = honest(&f, &tensor().iter().map(|v| v / 2.0).collect::<Vec<_>>());
    let good = server.write_answer(&good, Vec::new(), "x").expect("writes");
    let message = class(&good).expect_err("refused").to_string();
    assert!(
        message.contains("refused under this key before"),
        "{message}"
    );
    counted(noisy(None), (3, 3));
    assert!(noisy(None).to_string().contains("used up"));
}
