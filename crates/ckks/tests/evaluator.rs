//! The evaluator on an insecure toy ring: every operation means what it says.

use ckks::coefficients::Parts;
use ckks::map::{Term, Values};
use ckks::{
    Arithmetic, BlockMap, Bootstrap, Clear, Complex64, Context, Error, EvaluationKeys, Evaluator,
    KeyMaker, KeyName, KeyRequest, Level, Meter, Parameters, ParametersSpec, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn random(n: usize, rng: &mut ChaCha20Rng) -> Vec<Complex64> {
    let mut f = || f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
    (0..n)
        .map(|_| Complex64::new(f(), f()) * std::f64::consts::FRAC_1_SQRT_2)
        .collect()
}

fn worst(x: &[Complex64], y: &[Complex64]) -> f64 {
    assert_eq!(x.len(), y.len());
    x.iter()
        .zip(y)
        .map(|(a, b)| (a.re - b.re).abs().max((a.im - b.im).abs()))
        .fold(0.0, f64::max)
}

struct Setup {
    parameters: Parameters,
    secret: SecretKey,
    evaluator: Evaluator,
    rng: ChaCha20Rng,
}

fn setup(rotations: &[i64], seed: u64) -> Setup {
    let parameters = Parameters::new(ParametersSpec::toy(10)).expect("toy");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let limit = parameters.special()[0];
    let mut request = KeyRequest::default();
    request.need(KeyName::Relinearization, limit);
    request.need(KeyName::Raise(1), limit);
    request.need(KeyName::DenseToSparse, 1);
    request.need(
        KeyName::Galois(ckks::keys::conjugation_element(&parameters)),
        limit,
    );
    for &r in rotations {
        let g = ckks::keys::galois_element(&parameters, r);
        request.need(KeyName::Galois(g), limit);
        request.need(KeyName::Raise(g), limit);
    }
    let keys: EvaluationKeys = secret.evaluation_keys(&request, &mut rng).expect("keys");
    let evaluator = Evaluator::new(&Context::new(&parameters), keys);
    Setup {
        parameters,
        secret,
        evaluator,
        rng,
    }
}

#[test]
fn operations_mean_what_they_say() {
    let mut s = setup(&[1, 5, -3], 1);
    let level = Level::new(7);
    let (x, y) = (random(512, &mut s.rng), random(512, &mut s.rng));
    let cx = s
        .secret
        .encrypt(&x, level, &mut s.rng)
        .expect("fits")
        .expand(&s.parameters);
    let cy = s
        .secret
        .encrypt(&y, level, &mut s.rng)
        .expect("fits")
        .expand(&s.parameters);
    let e = &s.evaluator;
    let check = |name: &str, c: &ckks::Ciphertext, f: &dyn Fn(usize) -> Complex64| {
        let want: Vec<Complex64> = (0..512).map(f).collect();
        let error = worst(&s.secret.decrypt(c).expect("degree"), &want);
        println!("{name}: 2^{:.1}", error.log2());
        assert!(error < 2f64.powi(-18), "{name}: {error:e}");
    };
    check("encrypt", &cx, &|j| x[j]);
    check("add", &e.add(&cx, &cy).expect("add"), &|j| x[j] + y[j]);
    check("sub", &e.sub(&cx, &cy).expect("sub"), &|j| x[j] - y[j]);
    check(
        "add_plain",
        &e.add_plain(&cx, &y).expect("add_plain"),
        &|j| x[j] + y[j],
    );
    let p = e
        .rescale(
            &e.mul_plain(&cx, &y, s.parameters.modulus(level))
                .expect("mul_plain"),
        )
        .expect("rescale");
    check("mul_plain", &p, &|j| x[j] * y[j]);
    let p = e.mul(&cx, &cy).expect("mul");
    check("mul of degree 2", &p, &|j| x[j] * y[j]);
    check("mul", &e.mul_rescale(&cx, &cy).expect("mul"), &|j| {
        x[j] * y[j]
    });
    check("mul_i", &e.mul_i(&cx).expect("mul_i"), &|j| {
        x[j] * Complex64::new(0.0, 1.0)
    });
    check("conjugate", &e.conjugate(&cx).expect("conjugate"), &|j| {
        x[j].conj()
    });
    for by in [1i64, 5, -3] {
        check("rotate", &e.rotate(&cx, by).expect("rotate"), &|j| {
            x[(j as i64 + by).rem_euclid(512) as usize]
        });
    }
    let many = e.rotate_many(&cx, &[1, 0, 5]).expect("rotations");
    check("rotate_many", &many[2], &|j| x[(j + 5) % 512]);
    check(
        "align",
        &e.align(&cx, Level::new(4)).expect("align"),
        &|j| x[j],
    );
    let scale = s.parameters.scale(level) * s.parameters.modulus(level);
    let c = e
        .rescale(
            &e.linear_combination(&[(0.5, &cx), (-0.25, &cy)], 0.125, level, scale)
                .expect("combination"),
        )
        .expect("rescale");
    check("linear combination", &c, &|j| {
        x[j] * 0.5 - y[j] * 0.25 + 0.125
    });
    let p = ckks::Polynomial::new((0..32).map(|i| 0.3 / (1.0 + i as f64)).collect())
        .expect("polynomial");
    let top = s
        .secret
        .encrypt(
            &x.iter()
                .map(|v| Complex64::new(v.re, 0.0))
                .collect::<Vec<_>>(),
            s.parameters.residual(),
            &mut s.rng,
        )
        .expect("fits")
        .expand(&s.parameters);
    let y = e.polynomial(&top, &p).expect("polynomial");
    assert_eq!(e.info(&y).level, Level::new(8));
    check("polynomial", &y, &|j| {
        Complex64::new(p.evaluate(x[j].re), 0.0)
    });
}

#[test]
fn a_map_of_a_raised_ciphertext_is_its_definition() {
    let slots = 512;
    let mut s = setup(&[1, 2, 3, 4, 8, 508], 3);
    let top = s.parameters.top(s.parameters.residual());
    let terms = [(0, 0), (0, 1), (0, 3), (4, 0), (4, 2), (508, 1)];
    let terms = terms.map(|(giant, baby)| Term {
        input: 0,
        output: 0,
        giant,
        baby,
        values: Values::Complex(random(slots, &mut s.rng).into()),
    });
    let map = BlockMap::new(slots, 1, 1, terms.into(), Vec::new()).expect("a map");
    let x = random(slots, &mut s.rng);
    let x = (s.secret.encrypt(&x, Level::new(0), &mut s.rng)).expect("fits");
    let e = &s.evaluator;
    let x = e.with_scale(&x.expand(&s.parameters), s.parameters.scale(top));
    let x = x.expect("any");
    let scale = s.parameters.scale(s.parameters.below(top).expect("levels"));
    let slots_of = |y: Vec<ckks::Ciphertext>| s.secret.decrypt(&y[0]).expect("degree");
    let fast = slots_of(e.raise_linear(&x, top, &map, scale).expect("keys"));
    let defined = ckks::linear::apply_raised(e, &x, top, &map, scale).expect("keys");
    let error = worst(&fast, &slots_of(defined));
    println!("a map of a raised ciphertext: 2^{:.1}", error.log2());
    assert!(error < 2f64.powi(-24), "{error:e}");
    // and both are the map of what is raised
    let raised = e.mod_raise(&x, top, &[0]).expect("keys");
    let apart = slots_of(e.linear(&[raised], &map, scale).expect("keys"));
    assert!(worst(&fast, &apart) < 2f64.powi(-24));
    // a trace is a sum of rotations
    let sum = e.mod_raise(&x, top, &[0, 8]).expect("keys");
    let one = e.mod_raise(&x, top, &[0]).expect("keys");
    let two = e
        .add(&one, &e.rotate(&one, 8).expect("keys"))
        .expect("same");
    let error = worst(&slots_of(vec![sum]), &slots_of(vec![two]));
    assert!(error < 2f64.powi(-24), "{error:e}");
    let none = e.mod_raise(&x, top, &[]).map(drop);
    assert!(none.is_err_and(|e| e.to_string().contains("rotation")));
}

#[test]
fn bootstraps_refresh() {
    let rotations: Vec<i64> = (-64..64).chain((-512..512).step_by(8)).collect();
    let mut s = setup(&rotations, 2);
    let floor = s.parameters.floor();
    for (slots, target, gain) in [(512usize, 13usize, 2.0), (256, 13, 2.0), (64, 10, 1.0)] {
        let mut vector = || {
            let v = random(slots, &mut s.rng);
            let real = v.iter().map(|v| Complex64::new(0.5 * v.re, 0.0));
            real.collect::<Vec<_>>()
        };
        let (x, y) = (vector(), vector());
        let mut encrypt = |v: &[Complex64]| {
            let c = s.secret.encrypt(v, floor, &mut s.rng).expect("fits");
            c.expand(&s.parameters)
        };
        let b = Bootstrap {
            slots,
            target,
            gain,
        };
        let both = Parts {
            first: encrypt(&x),
            second: Some(encrypt(&y)),
        };
        let results = s.evaluator.bootstrap(&both, &b).expect("bootstrap");
        for (v, y) in [x, y].iter().zip(results.into_vec()) {
            assert_eq!(s.evaluator.info(&y).level, Level::new(target));
            let want: Vec<Complex64> = v.iter().map(|v| v * gain).collect();
            let error = worst(&s.secret.decrypt(&y).expect("degree"), &want);
            println!("slots {slots} target {target}: 2^{:.1}", error.log2());
            assert!(error < 2f64.powi(-17), "{slots} slots: {error:e}");
        }
    }
}

/// The message once gave the number of limbs as a level.
#[test]
fn a_plaintext_encoded_for_a_lower_level_is_refused_in_levels() {
    let mut s = setup(&[], 3);
    let x = random(512, &mut s.rng);
    let high = s.secret.encrypt(&x, Level::new(4), &mut s.rng);
    let high = high.expect("fits").expand(&s.parameters);
    let context = s.evaluator.context();
    let low = context.encode(&x, 1e9, Level::new(2)).expect("fits");
    assert_eq!(
        s.evaluator.mul_encoded(&high, &low).map(drop),
        Err(Error::Levels {
            operation: "mul_encoded",
            needed: 4,
            had: 2
        })
    );
}

#[test]
fn parameters_without_bootstrapping_refuse_one_in_the_same_words_everywhere() {
    let parameters = Parameters::new(ParametersSpec::toy_levelled(10, 3)).expect("toy");
    let context = Context::new(&parameters);
    let none = Error::NoBootstrapping {
        name: "toy-levelled-10".into(),
    };
    let b = Bootstrap {
        slots: 64,
        target: 3,
        gain: 1.0,
    };
    let meter = Meter::new(&context);
    let x = meter.input(Level::new(0), 64, 0.5).expect("fits");
    assert_eq!(
        meter.bootstrap(&Parts::one(x.clone()), &b),
        Err(none.clone())
    );
    assert_eq!(meter.mod_raise(&x, Level::new(3), &[0]), Err(none.clone()));
    let clear = Clear::new(&context, 1);
    let v = vec![Complex64::new(0.0, 0.0); 64];
    let x = clear.input(&v, Level::new(0)).expect("fits");
    assert_eq!(
        clear.bootstrap(&Parts::one(x.clone()), &b),
        Err(none.clone())
    );
    assert_eq!(clear.mod_raise(&x, Level::new(3), &[0]), Err(none.clone()));
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let x = secret.encrypt(&v, Level::new(0), &mut rng).expect("fits");
    let x = x.expand(&parameters);
    let evaluator = Evaluator::new(&context, EvaluationKeys::new());
    let refused = evaluator.bootstrap(&Parts::one(x.clone()), &b).map(drop);
    assert_eq!(refused, Err(none.clone()));
    let refused = evaluator.mod_raise(&x, Level::new(3), &[0]).map(drop);
    assert_eq!(refused, Err(none.clone()));
    let refused = KeyMaker::new(&secret).make(KeyName::Raise(1), 1, &mut rng);
    let refused = refused.map(drop);
    assert_eq!(refused, Err(none));
}
