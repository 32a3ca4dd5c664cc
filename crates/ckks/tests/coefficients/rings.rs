//! The change of rings: what comes back, its error, and the security of its keys.

use super::parameters;
use ckks::packing::packing_keys;
use ckks::{
    Arithmetic, Coefficients, Context, Error, Evaluator, KeyRequest, Level, Meter, Parameters,
    ParametersSpec, RingSwitch, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// A client of both rings.
pub(crate) struct Both {
    pub(crate) p: Parameters,
    pub(crate) switch: RingSwitch,
    pub(crate) key: SecretKey,
    /// Kept here alone, to look at what lies in between.
    small: SecretKey,
    pub(crate) evaluator: Evaluator,
}

impl Both {
    pub(crate) fn new(p: &Parameters, log_small: u32, level: Level, seed: u64) -> Self {
        let switch = RingSwitch::new(p, log_small, level).expect("two rings");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SecretKey::generate(p, &mut rng);
        let inner = switch.small().parameters();
        let small = SecretKey::generate(inner, &mut rng);
        let request = |p: &Parameters, spacing| {
            let mut request = KeyRequest::default();
            for name in packing_keys(p, spacing) {
                request.need(name, p.key_limit(level));
            }
            request
        };
        let keys = key
            .ring_switch_keys(&switch, &small, &request(inner, inner.n()), &mut rng)
            .expect("keys of the change");
        assert_eq!(keys.bytes(), switch.key_bytes(&keys.small.request()));
        let own = key
            .evaluation_keys(&request(p, 64), &mut rng)
            .expect("keys");
        let evaluator = Evaluator::new(&Context::new(p), own).with_small(&switch, keys);
        Self {
            p: p.clone(),
            switch,
            key,
            small,
            evaluator,
        }
    }
    pub(crate) fn encrypt(&self, v: &[f64], level: Level, seed: u64) -> Coefficients {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let x = self
            .key
            .encrypt_coefficients(v, level, &mut rng)
            .expect("encrypts");
        Coefficients::of(&self.evaluator, x.expand(&self.p)).expect("coefficients")
    }
}

fn rms(errors: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = errors.fold((0.0, 0.0), |(s, c), e| (s + e * e, c + 1.0));
    f64::sqrt(sum / count)
}

#[test]
fn classes_go_to_the_small_ring_and_back() {
    let p = Parameters::new(ParametersSpec::toy_levelled(10, 1)).expect("parameters");
    let level = Level::new(1);
    let both = Both::new(&p, 7, level, 1);
    let (e, t, n) = (&both.evaluator, both.switch.classes(), p.n());
    assert_eq!((t, both.switch.small().parameters().n()), (8, 128));
    let v: Vec<f64> = (0..n)
        .map(|i| (i * 37 % 1001) as f64 / 1000.0 - 0.5)
        .collect();
    for level in [1, 0].map(Level::new) {
        let x = both.encrypt(&v, level, 5);
        let before = both.key.decrypt_coefficients(&x);
        let classes = e.narrow(&x).expect("narrow");
        let scale = x.value().scale();
        // a switch rounds, times a secret of so many coefficients, and divides its key's errors by P
        let bottom = both.switch.wide().parameters();
        let digit = bottom
            .limbs(level)
            .iter()
            .map(|&i| bottom.prime(i).value() as f64);
        let part = digit.product::<f64>().log2() - bottom.log_p();
        let keyed = n as f64 * (ring::GAUSSIAN_SIGMA * part.exp2()).powi(2) / 12.0;
        let one = |coefficients: usize| keyed + (1.0 + 2.0 * coefficients as f64 / 3.0) / 12.0;
        let (down, both_ways) = (one(n / t).sqrt(), (one(n / t) + one(n)).sqrt());
        let errors = classes.iter().enumerate().flat_map(|(i, class)| {
            assert_eq!(
                (class.value().level(), class.value().scale()),
                (level, scale)
            );
            let got = both.small.decrypt_coefficients(class).to_vec();
            let want: Vec<f64> = before.iter().skip(i).step_by(t).copied().collect();
            assert_eq!(got.len(), want.len());
            got.into_iter().zip(want).map(|(g, w)| (g - w) * scale)
        });
        let measured = rms(errors);
        println!(
            "down at level {}: {measured:.2}, formula {down:.2}",
            level.index()
        );
        assert!((measured / down - 1.0).abs() < 0.15);
        let all: Vec<Option<Coefficients>> = classes.into_iter().map(Some).collect();
        let back = both
            .key
            .decrypt_coefficients(&e.widen(&all).expect("widen"));
        let measured = rms(back.iter().zip(before.iter()).map(|(b, x)| (b - x) * scale));
        println!("down and up: {measured:.2}, formula {both_ways:.2}");
        assert!((measured / both_ways - 1.0).abs() < 0.15);
        // the meter says the same, in slots
        let m = Meter::new(&Context::new(&p)).with_small(&both.switch);
        let y = m.input(level, n / 2, 0.5).expect("an input").exact();
        let y = m.narrow(&Coefficients::of(&m, y).expect("coefficients"));
        let y: Vec<_> = y.expect("narrow").into_iter().map(Some).collect();
        let y = m.widen(&y).expect("widen");
        let predicted = y.value().deviation() * scale / (n as f64).sqrt();
        assert!(
            (measured / predicted - 1.0).abs() < 0.15,
            "{measured} {predicted}"
        );
        // a missing class is zero
        let mut some = all;
        some[3] = None;
        let back = both
            .key
            .decrypt_coefficients(&e.widen(&some).expect("widen"));
        for (j, b) in back.iter().enumerate() {
            let want = if j % t == 3 { 0.0 } else { v[j] };
            assert!((b - want).abs() < 1e-6);
        }
    }
    let x = both.encrypt(&v, level, 6);
    let mut classes: Vec<Option<Coefficients>> = e
        .narrow(&x)
        .expect("narrow")
        .into_iter()
        .map(Some)
        .collect();
    assert!(e.widen(&classes[1..]).is_err() && e.widen(&vec![None; t]).is_err());
    let low = e
        .narrow(&both.encrypt(&v, Level::new(0), 6))
        .expect("narrow");
    classes[0] = low.into_iter().next();
    assert!(matches!(
        e.widen(&classes),
        Err(Error::LevelMismatch { .. })
    ));
    let alone = Evaluator::new(&Context::new(&p), ckks::EvaluationKeys::new());
    assert!(alone.narrow(&x).is_err() && alone.small().is_none());
}

/// Each kind of key at the degree of its secret: 178 of 214 bits at 2^13, and 2^12 has no room.
#[test]
fn keys_of_both_rings_are_judged_at_their_own_degree() {
    let p = parameters(ParametersSpec::coefficients(4));
    let switch = RingSwitch::new(&p, 13, p.products()).expect("two rings");
    let keys = switch.key_security();
    for k in &keys {
        println!(
            "{}: log {:.1}, {} bits ({})",
            k.name, k.log_modulus, k.bits, k.source
        );
    }
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|k| k.bits == 128));
    assert!((177.0..180.0).contains(&keys[0].log_modulus));
    assert_eq!(switch.classes(), 8);
    let refused = RingSwitch::new(&p, 12, p.products());
    assert!(
        matches!(refused, Err(Error::Insecure { bits: 76, .. })),
        "{refused:?}"
    );
    // more levels than the small ring has room for
    let high = RingSwitch::new(&p, 13, p.floor());
    assert!(matches!(high, Err(Error::Insecure { .. })));
    assert!(matches!(
        RingSwitch::new(&p, 16, p.products()),
        Err(Error::Parameters { .. })
    ));
    let toy = Parameters::new(ParametersSpec::toy_levelled(10, 1)).expect("parameters");
    let toy = RingSwitch::new(&toy, 7, Level::new(1)).expect("a toy's");
    assert!(toy.key_security().iter().all(|k| k.bits < 128));
}
