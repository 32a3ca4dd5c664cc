//! Noise is a measured quantity: every formula of the meter against ciphertexts, and EvalMod's failures against their derivation.
//!
//! Each test prints measured and predicted figures; `docs/noise.md` quotes them. Values are compared as root mean squares over all slots,
//! which are those over all N coefficients (Parseval). An operation's own noise is measured on encryptions of zero, as the difference of
//! the decryptions before and after it, and predicted for an operand without error.

use ckks::coefficients::{Parts, slot_of};
use ckks::map::{Term, Values};
use ckks::parameters::{BootstrapSpec, Zone};
use ckks::{
    Arithmetic, BlockMap, Bootstrap, Ciphertext, Clear, Coefficients, Complex64, Context, Descent,
    Encoder, Evaluator, HalfBootstrap, KeyRequest, Level, Meter, MeterValue, Parameters,
    ParametersSpec, Polynomial, SecretKey, security,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::f64::consts::{PI, TAU};
use std::sync::Arc;

/// Deviations of a normal variable that a correct formula stays within but once in 10^5 tests.
const Z: f64 = 4.42;
const LOG_N: u32 = 10;
const SLOTS: usize = 1 << (LOG_N - 1);

// -------------------------------------------------------------------------------------------------
// statistics

/// Moments of |error| over slots.
#[derive(Clone, Copy, Default)]
struct Spread {
    squares: f64,
    fourths: f64,
    count: f64,
}

impl Spread {
    fn see(&mut self, got: &[Complex64], want: &[Complex64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            let e = (g - w).norm_sqr();
            self.squares += e;
            self.fourths += e * e;
            self.count += 1.0;
        }
    }
    fn deviation(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
    /// E|e|⁴/(E|e|²)²: 2 for complex Gaussians of one variance, 4 for a product of two.
    fn kurtosis(&self) -> f64 {
        self.fourths * self.count / self.squares.powi(2)
    }
}

/// Asserts that the measured mean square is `ratio`²·predicted². `ratio` is 1 where the meter's formula is meant to be exact, and otherwise
/// derived where it is an estimate from above.
///
/// The mean square of `count` complex Gaussians has relative variance 1/count. An error e·s (rounding times secret) weighs slot j by
/// |s(ζⱼ)|², itself nearly exponentially distributed over j: 2/count. The mean of |s(ζⱼ)|² is the secret's weight, with relative
/// variance 1/2N, and that of a key's own errors 2/N: both count once per key.
fn check(name: &str, measured: &Spread, predicted: f64, ratio: f64, n: usize, keys: usize) {
    let relative = measured.deviation() / predicted;
    let variance = 2.0 / measured.count + 2.0 / (n as f64 * keys as f64);
    let tolerance = Z * variance.sqrt();
    println!(
        "{name:<58} measured 2^{:.3} predicted 2^{:.3} ratio {relative:.4} expected {ratio:.4} ± {:.4}",
        measured.deviation().log2(),
        predicted.log2(),
        ratio * tolerance / 2.0,
    );
    assert!(
        ((relative / ratio).powi(2) - 1.0).abs() < tolerance,
        "{name}: measured/predicted {relative}, expected {ratio}"
    );
}

/// Φ by its series around 0 [Marsaglia 2004]; for |x| ≤ 7.
fn normal_cdf(x: f64) -> f64 {
    let (mut sum, mut term, mut i) = (x, x, 1.0);
    while term.abs() > 1e-17 {
        i += 2.0;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / TAU.sqrt()
}

/// Upper quantile of χ² at Z normal deviations (Wilson–Hilferty).
fn chi_square_limit(degrees: f64) -> f64 {
    let v = 2.0 / (9.0 * degrees);
    degrees * (1.0 - v + Z * v.sqrt()).powi(3)
}

/// P(X ≤ k) for a binomial variable.
fn binomial_cdf(k: usize, trials: usize, p: f64) -> f64 {
    let mut term = trials as f64 * (-p).ln_1p();
    let mut sum = term.exp();
    for i in 0..k {
        term += ((trials - i) as f64 / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
        sum += term.exp();
    }
    sum.min(1.0)
}

/// Clopper–Pearson interval for `k` of `trials` at a two-sided confidence of 99.9 %.
fn clopper_pearson(k: usize, trials: usize) -> (f64, f64) {
    let solve = |goes_up: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if goes_up(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    };
    let low = if k == 0 {
        0.0
    } else {
        solve(&|p| 1.0 - binomial_cdf(k - 1, trials, p) < 0.0005)
    };
    (low, solve(&|p| binomial_cdf(k, trials, p) > 0.0005))
}

#[test]
fn the_interval_covers_as_it_says() {
    // exact ends for none of n: 1 − 0.0005^(1/n); the coverage for a small binomial by enumeration
    let (low, high) = clopper_pearson(0, 1000);
    assert!(low == 0.0 && (high - (1.0 - 0.0005f64.powf(1e-3))).abs() < 1e-9);
    for p in [0.01, 0.1, 0.5] {
        let missed: f64 = (0..=40)
            .filter(|&k| {
                let (low, high) = clopper_pearson(k, 40);
                !(low..=high).contains(&p)
            })
            .map(|k| {
                let below = if k == 0 {
                    0.0
                } else {
                    binomial_cdf(k - 1, 40, p)
                };
                binomial_cdf(k, 40, p) - below
            })
            .sum();
        assert!(missed <= 0.001, "p {p}: {missed}");
    }
}

// -------------------------------------------------------------------------------------------------
// ciphertexts

fn uniform(rng: &mut ChaCha20Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Slots of magnitude 1 and random phase: bound and root mean square agree, so the meter's products are not estimates.
fn phases(slots: usize, rng: &mut ChaCha20Rng) -> Vec<Complex64> {
    (0..slots)
        .map(|_| Complex64::from_polar(1.0, TAU * uniform(rng)))
        .collect()
}

fn zeros(slots: usize) -> Vec<Complex64> {
    vec![Complex64::new(0.0, 0.0); slots]
}

struct Setup {
    parameters: Parameters,
    secret: SecretKey,
    evaluator: Evaluator,
    rng: ChaCha20Rng,
}

impl Setup {
    fn new(parameters: &Parameters, request: &KeyRequest, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let secret = SecretKey::generate(parameters, &mut rng);
        let keys = secret.evaluation_keys(request, &mut rng).expect("keys");
        Self {
            parameters: parameters.clone(),
            secret,
            evaluator: Evaluator::new(&Context::new(parameters), keys),
            rng,
        }
    }
    fn encrypt(&mut self, v: &[Complex64], level: Level) -> Ciphertext {
        self.secret
            .encrypt(v, level, &mut self.rng)
            .expect("fits")
            .expand(&self.parameters)
    }
    fn decrypt(&self, x: &Ciphertext) -> Vec<Complex64> {
        self.secret.decrypt(x).expect("degree")
    }
}

/// The polynomial's coefficients, divided by the scale, of a vector of slots: 2n of them.
fn coefficients(slots: &[Complex64]) -> Vec<f64> {
    let mut w = slots.to_vec();
    Encoder::new(w.len())
        .to_coefficients(&mut w)
        .expect("a power of two");
    w.iter()
        .map(|c| c.re)
        .chain(w.iter().map(|c| c.im))
        .collect()
}

/// P far above every digit: what a key switch adds is the rounding of its division by P.
fn wide() -> Parameters {
    Parameters::new(ParametersSpec::toy_levelled(LOG_N, 5)).expect("toy")
}

/// P as large as a digit: what a key switch adds is the keys' own errors.
fn narrow() -> Parameters {
    Parameters::new(ParametersSpec {
        name: "toy-narrow".into(),
        special_bits: vec![50, 40, 40],
        dnum: 2,
        ..ParametersSpec::toy_levelled(LOG_N, 5)
    })
    .expect("toy")
}

const TOP: Level = Level::new(5);

// -------------------------------------------------------------------------------------------------
// fresh noise

#[test]
fn fresh_noise_is_the_discrete_gaussian() {
    // zero decrypted to coefficients: the noise itself, integers
    let parameters = wide();
    let mut s = Setup::new(&parameters, &KeyRequest::default(), 1);
    let most = 20i32;
    let weights: Vec<f64> = (-most..=most)
        .map(|k| (-PI * f64::from(k * k) / 64.0).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let mut counts = vec![0.0f64; weights.len()];
    let mut samples = 0.0;
    for _ in 0..256 {
        let zero = s.encrypt(&zeros(SLOTS), TOP);
        for c in coefficients(&s.decrypt(&zero)) {
            let e = c * parameters.scale(TOP);
            assert!((e - e.round()).abs() < 1e-3 && e.abs() < 20.5, "{e}");
            #[expect(clippy::cast_possible_truncation, reason = "at most 20")]
            let index = (e.round() as i32 + most) as usize;
            counts[index] += 1.0;
            samples += 1.0;
        }
    }
    let moment = |power: i32, w: &[f64]| -> f64 {
        (-most..=most)
            .zip(w)
            .map(|(k, w)| f64::from(k).powi(power) * w)
            .sum::<f64>()
            / w.iter().sum::<f64>()
    };
    // mean, variance and kurtosis, each within Z deviations of what that many independent draws give
    let variance = moment(2, &weights);
    let measured = moment(2, &counts);
    println!(
        "fresh noise: sigma {:.5} of {samples} coefficients, the table's {:.5}, 8/sqrt(2 pi) = {:.5}",
        measured.sqrt(),
        variance.sqrt(),
        ring::GAUSSIAN_SIGMA
    );
    assert!(moment(1, &counts).abs() < Z * (variance / samples).sqrt());
    assert!((measured / variance - 1.0).abs() < Z * (2.0 / samples).sqrt());
    assert!((variance.sqrt() / ring::GAUSSIAN_SIGMA - 1.0).abs() < 1e-6);
    let kurtosis = moment(4, &counts) / measured.powi(2);
    assert!((kurtosis - 3.0).abs() < Z * (24.0 / samples).sqrt());
    // and the whole law: Pearson's chi-square, bins with fewer than 10 expected joined
    let (mut chi, mut bins, mut rest) = (0.0, 0.0, (0.0, 0.0));
    for (w, c) in weights.iter().zip(&counts) {
        let expected = samples * w / total;
        if expected < 10.0 {
            rest = (rest.0 + expected, rest.1 + c);
        } else {
            chi += (c - expected).powi(2) / expected;
            bins += 1.0;
        }
    }
    chi += (rest.1 - rest.0).powi(2) / rest.0.max(1.0);
    println!("chi-square {chi:.1} in {bins} bins and a rest");
    assert!(chi < chi_square_limit(bins));
}

#[test]
fn fresh_noise_in_slots_is_gaussian_of_the_predicted_deviation() {
    let parameters = wide();
    let mut s = Setup::new(&parameters, &KeyRequest::default(), 2);
    let predicted = Meter::new(&Context::new(&parameters))
        .input(TOP, SLOTS, 1.0)
        .expect("fits")
        .deviation();
    let mut spread = Spread::default();
    let mut normal = Vec::new();
    for _ in 0..64 {
        let x = phases(SLOTS, &mut s.rng);
        let c = s.encrypt(&x, TOP);
        let got = s.decrypt(&c);
        spread.see(&got, &x);
        let unit = predicted / 2f64.sqrt();
        normal.extend(
            got.iter()
                .zip(&x)
                .flat_map(|(g, x)| [(g - x).re / unit, (g - x).im / unit]),
        );
    }
    check(
        "fresh encryption",
        &spread,
        predicted,
        1.0,
        1 << LOG_N,
        usize::MAX,
    );
    assert!((spread.kurtosis() - 2.0).abs() < Z * (20.0 / spread.count).sqrt());
    // Kolmogorov–Smirnov against the predicted Gaussian: P(√n·D > 2.5) = 7·10^−6
    normal.sort_unstable_by(f64::total_cmp);
    let n = normal.len() as f64;
    let distance = normal
        .iter()
        .enumerate()
        .map(|(i, &x)| {
            let f = normal_cdf(x);
            (f - i as f64 / n).abs().max(((i + 1) as f64 / n - f).abs())
        })
        .fold(0.0, f64::max);
    println!("Kolmogorov-Smirnov sqrt(n) D = {:.2}", n.sqrt() * distance);
    assert!(n.sqrt() * distance < 2.5);
}

#[test]
fn a_sparse_vector_sees_its_share_of_the_noise() {
    // decoding n slots reads 2n of the N coefficients; the meter counts all N: an estimate from above by √(N/2n)
    let parameters = wide();
    let mut s = Setup::new(&parameters, &KeyRequest::default(), 3);
    let slots = SLOTS / 8;
    let predicted = Meter::new(&Context::new(&parameters))
        .input(TOP, slots, 1.0)
        .expect("fits")
        .deviation();
    let mut spread = Spread::default();
    for _ in 0..128 {
        let x = phases(slots, &mut s.rng);
        let c = s.encrypt(&x, TOP);
        spread.see(&s.decrypt(&c), &x);
    }
    let ratio = (1.0f64 / 8.0).sqrt();
    check(
        "fresh encryption, N/16 slots",
        &spread,
        predicted,
        ratio,
        1 << LOG_N,
        usize::MAX,
    );
}

// -------------------------------------------------------------------------------------------------
// operations' own noise

const KEYS: usize = 8;
const REPEATS: usize = 8;

#[test]
fn key_switching_and_rescaling_add_what_the_meter_says() {
    for (set, parameters) in [("P >> digits", wide()), ("P = digits", narrow())] {
        let meter = Meter::new(&Context::new(&parameters));
        let zero = meter.input(TOP, SLOTS, 0.0).expect("fits").exact();
        let rotation = meter.rotate(&zero, 5).expect("degree").deviation();
        let conjugation = meter.conjugate(&zero).expect("degree").deviation();
        let square = meter.mul(&zero, &zero).expect("degree");
        let relinearization = meter.relinearize(&square).expect("degree").deviation();
        let mut product = zero.clone();
        product.info.scale = zero.info.scale * parameters.modulus(TOP);
        let rescaling = meter.rescale(&product).expect("levels").deviation();
        let mut spreads = [Spread::default(); 4];
        for seed in 0..KEYS as u64 {
            let mut s = Setup::new(&parameters, &meter.keys(), 100 + seed);
            for _ in 0..REPEATS {
                let (x, y) = (s.encrypt(&zeros(SLOTS), TOP), s.encrypt(&zeros(SLOTS), TOP));
                let e = &s.evaluator;
                let before = s.decrypt(&x);
                let mut want = before.clone();
                want.rotate_left(5);
                spreads[0].see(&s.decrypt(&e.rotate(&x, 5).expect("key")), &want);
                let want: Vec<Complex64> = before.iter().map(|v| v.conj()).collect();
                spreads[1].see(&s.decrypt(&e.conjugate(&x).expect("key")), &want);
                let xy = e.mul(&x, &y).expect("degree");
                spreads[2].see(
                    &s.decrypt(&e.relinearize(&xy).expect("key")),
                    &s.decrypt(&xy),
                );
                let v = phases(SLOTS, &mut s.rng);
                let xv = e.mul_plain(&x, &v, parameters.modulus(TOP)).expect("fits");
                spreads[3].see(
                    &s.decrypt(&e.rescale(&xv).expect("levels")),
                    &s.decrypt(&xv),
                );
            }
        }
        for (name, spread, predicted) in [
            ("rotation", spreads[0], rotation),
            ("conjugation", spreads[1], conjugation),
            ("relinearisation", spreads[2], relinearization),
            ("rescale", spreads[3], rescaling),
        ] {
            check(
                &format!("{name}, {set}"),
                &spread,
                predicted,
                1.0,
                1 << LOG_N,
                KEYS,
            );
        }
        // where the meter's tail comes from: a rounding error times the secret is a product of two Gaussians in every slot. The mean over
        // slots of |s(ζ)|⁴ has relative variance 5/slots per key.
        let kurtosis = spreads[3].kurtosis();
        println!("kurtosis of rescaling in slots: {kurtosis:.2}, of a product of Gaussians: 4");
        assert!((kurtosis / 4.0 - 1.0).abs() < Z * (5.0 / (SLOTS * KEYS) as f64).sqrt() + 0.02);
    }
}

#[test]
fn raising_adds_what_the_meter_says() {
    // ModRaise read modulo q0, where q0·I vanishes: the switch to the sparse secret and that back, whose special primes are single ones.
    for (set, spec) in [
        ("a special prime near q0", ParametersSpec::toy(LOG_N)),
        (
            "2^3 below",
            ParametersSpec {
                special_bits: vec![47; 6],
                ..overflowing(LOG_N, 6, 25)
            },
        ),
    ] {
        let parameters = Parameters::new(spec).expect("toy");
        let top = parameters.top(parameters.residual());
        let meter = Meter::new(&Context::new(&parameters));
        let base = Level::new(0);
        let x = meter.input(base, SLOTS, 0.5).expect("fits");
        let predicted = meter
            .mod_raise(&x.exact(), top, &[0])
            .expect("bootstraps")
            .deviation();
        let mut spread = Spread::default();
        for seed in 0..KEYS as u64 {
            let mut s = Setup::new(&parameters, &meter.keys(), 200 + seed);
            for _ in 0..REPEATS {
                let v: Vec<Complex64> = phases(SLOTS, &mut s.rng).iter().map(|v| v * 0.5).collect();
                let c = s.encrypt(&v, base);
                let y = s.evaluator.mod_raise(&c, top, &[0]).expect("keys");
                let y = s.evaluator.drop_to(&y, base).expect("levels");
                spread.see(&s.decrypt(&y), &s.decrypt(&c));
            }
        }
        check(
            &format!("ModRaise, {set}"),
            &spread,
            predicted,
            1.0,
            1 << LOG_N,
            KEYS,
        );
    }
}

// -------------------------------------------------------------------------------------------------
// circuits

#[test]
fn sums_and_products_have_the_predicted_noise() {
    let parameters = wide();
    let meter = Meter::new(&Context::new(&parameters));
    let x = meter.input(TOP, SLOTS, 1.0).expect("fits");
    let plain_scale = parameters.modulus(TOP);
    let other = meter.input(TOP, SLOTS, 1.0).expect("fits");
    let sum = meter.add(&x, &other).expect("same place").deviation();
    let twice = meter.add(&x, &x).expect("same place").deviation();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let unit = phases(SLOTS, &mut rng);
    let uneven: Vec<Complex64> = unit.iter().map(|v| v * uniform(&mut rng)).collect();
    let largest = uneven.iter().map(|v| v.norm()).fold(0.0, f64::max);
    let energy = uneven.iter().map(|v| v.norm_sqr()).sum::<f64>() / SLOTS as f64;
    let times = |v: &[Complex64]| {
        let y = meter.mul_plain(&x, v, plain_scale).expect("fits");
        (
            y.deviation(),
            meter.rescale(&y).expect("levels").deviation(),
        )
    };
    let (unit_before, unit_after) = times(&unit);
    let (uneven_before, uneven_after) = times(&uneven);
    let lowered = |product: MeterValue| {
        let product = meter.relinearize(&product).expect("degree");
        meter.rescale(&product).expect("levels").deviation()
    };
    let product_after = lowered(meter.mul(&x, &other).expect("degree"));
    let square_after = lowered(meter.mul(&x, &x).expect("degree"));
    let mut spreads = [Spread::default(); 6];
    for seed in 0..KEYS as u64 {
        let mut s = Setup::new(&parameters, &meter.keys(), 300 + seed);
        for _ in 0..REPEATS {
            let (v, w) = (phases(SLOTS, &mut s.rng), phases(SLOTS, &mut s.rng));
            let (x, y) = (s.encrypt(&v, TOP), s.encrypt(&w, TOP));
            let e = &s.evaluator;
            let times = |a: &[Complex64], b: &[Complex64]| -> Vec<Complex64> {
                a.iter().zip(b).map(|(a, b)| a * b).collect()
            };
            let want: Vec<Complex64> = v.iter().zip(&w).map(|(a, b)| a + b).collect();
            spreads[0].see(&s.decrypt(&e.add(&x, &y).expect("same place")), &want);
            let want: Vec<Complex64> = v.iter().map(|a| a + a).collect();
            spreads[5].see(&s.decrypt(&e.add(&x, &x).expect("same place")), &want);
            for (k, plain) in [(1, &unit), (2, &uneven)] {
                let y = e.mul_plain(&x, plain, plain_scale).expect("fits");
                spreads[k].see(
                    &s.decrypt(&e.rescale(&y).expect("levels")),
                    &times(&v, plain),
                );
            }
            spreads[3].see(
                &s.decrypt(&e.mul_rescale(&x, &y).expect("keys")),
                &times(&v, &w),
            );
            spreads[4].see(
                &s.decrypt(&e.mul_rescale(&x, &x).expect("keys")),
                &times(&v, &v),
            );
        }
    }
    let n = 1 << LOG_N;
    check("sum of two", &spreads[0], sum, 1.0, n, KEYS);
    check("sum of one with itself", &spreads[5], twice, 1.0, n, KEYS);
    check(
        "times a plaintext of magnitude 1, rescaled",
        &spreads[1],
        unit_after,
        1.0,
        n,
        KEYS,
    );
    // the meter takes a plaintext by its largest value, not by its mean square
    let rescaling = unit_after.powi(2) - unit_before.powi(2);
    let by_mean = uneven_before.powi(2) - x.deviation().powi(2) * (largest.powi(2) - energy);
    let ratio = ((by_mean + rescaling) / uneven_after.powi(2)).sqrt();
    check(
        "times a plaintext of uneven magnitude, rescaled",
        &spreads[2],
        uneven_after,
        ratio,
        n,
        KEYS,
    );
    check(
        "product of two, relinearised, rescaled",
        &spreads[3],
        product_after,
        1.0,
        n,
        KEYS,
    );
    check(
        "square, relinearised, rescaled",
        &spreads[4],
        square_after,
        1.0,
        n,
        KEYS,
    );
}

#[test]
fn block_maps_have_the_predicted_noise() {
    for (set, parameters) in [("P >> digits", wide()), ("P = digits", narrow())] {
        let meter = Meter::new(&Context::new(&parameters));
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        // baby steps 1 to 7, giant steps 0 and 8; every term is rotated, as the formula assumes
        let terms = [1usize, 2, 5, 7, 9, 14]
            .iter()
            .map(|&o| {
                let sign = |v: &Complex64| if v.re < 0.0 { -0.3f32 } else { 0.3 };
                let d: Vec<f32> = phases(SLOTS, &mut rng).iter().map(sign).collect();
                Term {
                    input: 0,
                    output: 0,
                    giant: o / 8 * 8,
                    baby: o % 8,
                    values: Values::Real(d.into()),
                }
            })
            .collect();
        let map = BlockMap::new(SLOTS, 1, 1, terms, vec![]).expect("map");
        let scale = parameters.scale(Level::new(4));
        let x = meter.input(TOP, SLOTS, 1.0).expect("fits");
        let predicted = meter.linear(&[x], &map, scale).expect("levels")[0].deviation();
        let mut spread = Spread::default();
        for seed in 0..KEYS as u64 {
            let mut s = Setup::new(&parameters, &meter.keys(), 400 + seed);
            for _ in 0..REPEATS {
                let v = phases(SLOTS, &mut s.rng);
                let c = s.encrypt(&v, TOP);
                let y = s.evaluator.linear(&[c], &map, scale).expect("keys");
                let mut want = zeros(SLOTS);
                for t in map.terms() {
                    for (j, w) in want.iter_mut().enumerate() {
                        *w += t.values.at(j) * v[(j + t.giant + t.baby) % SLOTS];
                    }
                }
                spread.see(&s.decrypt(&y[0]), &want);
            }
        }
        check(
            &format!("block map, {set}"),
            &spread,
            predicted,
            1.0,
            1 << LOG_N,
            KEYS,
        );
    }
}

#[test]
fn polynomials_have_noise_within_their_window() {
    // An estimate, not a bound: the meter takes T_k's root mean square as 1/√2, which operands around 0 exceed (T_2 and T_4 are near ±1), and
    // products' errors as if they were one error twice, which lies above. Operands as the meter assumes: Gaussian of deviation 1/4.
    let parameters = wide();
    let meter = Meter::new(&Context::new(&parameters));
    let x = meter.input(TOP, SLOTS, 1.0).expect("fits");
    for (name, coefficients) in [
        ("cubic", vec![0.1, 0.5, 0.2, 0.2]),
        ("of degree 15", (0..16).map(|k| 0.6f64.powi(k)).collect()),
        ("T_16", [vec![0.0; 16], vec![1.0]].concat()),
    ] {
        let polynomial = Polynomial::new(coefficients).expect("coefficients");
        let predicted = meter
            .polynomial(&x, &polynomial)
            .expect("levels")
            .deviation();
        let mut spread = Spread::default();
        for seed in 0..KEYS as u64 {
            let mut s = Setup::new(&parameters, &meter.keys(), 450 + seed);
            let v: Vec<f64> = (0..SLOTS)
                .map(|_| {
                    // the sum of 12 uniforms has deviation 1
                    let sum: f64 = (0..12).map(|_| uniform(&mut s.rng)).sum();
                    ((sum - 6.0) / 4.0).clamp(-1.0, 1.0)
                })
                .collect();
            let complex = |v: f64| Complex64::new(v, 0.0);
            let c = s.encrypt(&v.iter().map(|&v| complex(v)).collect::<Vec<_>>(), TOP);
            let y = s.evaluator.polynomial(&c, &polynomial).expect("keys");
            let want: Vec<Complex64> = v.iter().map(|&v| complex(polynomial.evaluate(v))).collect();
            spread.see(&s.decrypt(&y), &want);
        }
        let ratio = spread.deviation() / predicted;
        println!(
            "polynomial {name}: measured 2^{:.3} predicted 2^{:.3} ratio {ratio:.4} window 0.5 to 2",
            spread.deviation().log2(),
            predicted.log2(),
        );
        assert!((0.5..2.0).contains(&ratio), "{name}: {ratio}");
    }
}

#[test]
fn bootstrapped_noise_is_within_its_window() {
    // Small values, so that the sine's own error vanishes. Upper estimates: T_k's root mean square, which is taken as 1/√2, and for
    // n < N/2 the noise that arises after EvalMod, of which decoding reads 2n coefficients of N, as in a fresh ciphertext; and y + conj(y),
    // whose errors add linearly though their imaginary parts cancel.
    let parameters = Parameters::new(ParametersSpec::toy(LOG_N)).expect("toy");
    let floor = parameters.floor();
    for (slots, vectors) in [(SLOTS, 2), (SLOTS, 1), (SLOTS / 8, 2), (SLOTS / 8, 1)] {
        let b = Bootstrap {
            slots,
            target: parameters.residual().index(),
            gain: 1.0,
        };
        let meter = Meter::new(&Context::new(&parameters));
        let x = meter.input(floor, slots, 1e-3).expect("fits");
        let x = Parts {
            second: (vectors == 2).then(|| x.clone()),
            first: x,
        };
        let predicted = meter.bootstrap(&x, &b).expect("levels").first.deviation();
        let mut spread = Spread::default();
        for seed in 0..2 {
            let mut s = Setup::new(&parameters, &meter.keys(), 500 + seed);
            for _ in 0..3 {
                let mut vector = || -> Vec<Complex64> {
                    let v = phases(slots, &mut s.rng);
                    v.iter().map(|v| Complex64::new(1e-3 * v.re, 0.0)).collect()
                };
                let v = Parts {
                    first: vector(),
                    second: (vectors == 2).then(vector),
                };
                let c = Parts {
                    first: s.encrypt(&v.first, floor),
                    second: v.second.as_ref().map(|v| s.encrypt(v, floor)),
                };
                let y = s.evaluator.bootstrap(&c, &b).expect("keys");
                for (y, v) in y.into_vec().iter().zip(v.into_vec()) {
                    spread.see(&s.decrypt(y), &v);
                }
            }
        }
        let ratio = spread.deviation() / predicted;
        let share = (slots as f64 / SLOTS as f64).sqrt();
        println!(
            "bootstrap of {vectors} of {slots} slots: measured 2^{:.3} predicted 2^{:.3} ratio {ratio:.4} window {:.4} to 1.1",
            spread.deviation().log2(),
            predicted.log2(),
            0.5 * share,
        );
        assert!(
            (0.5 * share..1.1).contains(&ratio),
            "{vectors} of {slots} slots: {ratio}"
        );
    }
}

#[test]
fn the_sine_falls_short_by_its_cube() {
    let parameters = Parameters::new(ParametersSpec::toy(LOG_N)).expect("toy");
    let floor = parameters.floor();
    let slots = 16;
    let b = Bootstrap {
        slots,
        target: parameters.residual().index(),
        gain: 1.0,
    };
    let meter = Meter::new(&Context::new(&parameters));
    let x = meter.input(floor, slots, 0.5).expect("fits");
    meter.bootstrap(&Parts::one(x), &b).expect("levels");
    let mut s = Setup::new(&parameters, &meter.keys(), 510);
    let c = s.encrypt(&vec![Complex64::new(0.5, 0.0); slots], floor);
    let y = s.evaluator.bootstrap(&Parts::one(c), &b);
    let got = s.decrypt(&y.expect("keys").first);
    let short = 0.5 - got.iter().map(|v| v.re).sum::<f64>() / slots as f64;
    let (base, angle) = (Level::new(0), b.angle(&parameters));
    let whole = TAU * parameters.scale(base) / parameters.modulus(base);
    assert!((angle / whole - 1.0).abs() < 1e-9);
    let derived = 0.5 - (0.5 * angle).sin() / angle;
    let bound = angle * angle / 6.0 * 0.125;
    println!(
        "sine short of 1/2 by 2^{:.3}, derived 2^{:.3}, bound 2^{:.3}",
        short.log2(),
        derived.log2(),
        bound.log2()
    );
    assert!((short / derived - 1.0).abs() < 0.02);
    assert!(derived <= bound);
}

// -------------------------------------------------------------------------------------------------
// values in coefficients

fn in_coefficients() -> Parameters {
    Parameters::new(ParametersSpec::toy_coefficients(LOG_N, 4).expect("a preset")).expect("toy")
}

/// Seen by a test as if they were slots of no imaginary part.
fn real(v: &[f64]) -> Vec<Complex64> {
    v.iter().map(|&x| Complex64::new(x, 0.0)).collect()
}

#[test]
fn a_half_bootstraps_noise_is_within_its_window() {
    // The meter's estimate from above: T_k's root mean square is taken as 1/√2, as for bootstraps; and its errors of slots are complex, of which
    // the real part counts here. Beside the sine, which is what a half bootstrap means.
    let parameters = in_coefficients();
    let context = Context::new(&parameters);
    let base = Level::new(0);
    for (slots, target) in [(SLOTS, 8), (SLOTS, 5), (SLOTS / 8, 8)] {
        let h = HalfBootstrap { target };
        let meter = Meter::new(&context);
        let scale = parameters.base_scale(Level::new(target));
        let x = meter.input(base, slots, 0.5).expect("fits");
        let x = Coefficients::of(&meter, x).expect("level 0");
        let x = x.with_scale(&meter, scale).expect("any");
        let parts = meter.half_bootstrap(&x, &h).expect("levels");
        let predicted = parts.first.deviation();
        let clear = Clear::new(&context, 0);
        let mut spread = Spread::default();
        for seed in 0..2 {
            let mut s = Setup::new(&parameters, &meter.keys(), 520 + seed);
            for _ in 0..3 {
                let v: Vec<f64> = (0..2 * slots).map(|_| uniform(&mut s.rng) - 0.5).collect();
                let meant = clear.coefficients(&v, base).expect("fits");
                let meant = meant.with_scale(&clear, scale).expect("any");
                let meant = clear.half_bootstrap(&meant, &h).expect("levels");
                let c = s.secret.encrypt_coefficients(&v, base, &mut s.rng);
                let e = &s.evaluator;
                let c = Coefficients::of(e, c.expect("fits").expand(&parameters));
                let c = c.expect("level 0").with_scale(e, scale).expect("any");
                let y = e.half_bootstrap(&c, &h).expect("keys");
                let parts = [(Some(y.first), Some(meant.first)), (y.second, meant.second)];
                for (y, meant) in parts {
                    let (Some(y), Some(meant)) = (y, meant) else {
                        assert!(slots < SLOTS);
                        continue;
                    };
                    let got: Vec<f64> = s.decrypt(&y).iter().map(|z| z.re).collect();
                    spread.see(&real(&got), &meant.values);
                }
            }
        }
        let ratio = spread.deviation() / predicted;
        // decoding reads 2n of N coefficients
        let share = (slots as f64 / SLOTS as f64).sqrt();
        println!(
            "half bootstrap of {slots} slots to {target}: measured 2^{:.3} predicted 2^{:.3} ratio {ratio:.4} window {:.4} to {:.4}",
            spread.deviation().log2(),
            predicted.log2(),
            0.2 * share,
            0.7 * share,
        );
        assert!((0.2 * share..0.7 * share).contains(&ratio), "{ratio}");
    }
}

#[test]
fn the_way_down_adds_what_the_meter_says() {
    // exact zeros apart, SlotToCoeff's own noise: its plaintexts' rounding, key switches and rescales
    let parameters = in_coefficients();
    let context = Context::new(&parameters);
    let (floor, low) = (parameters.floor(), parameters.products());
    let mask: Arc<[f32]> = (0..32)
        .map(|j| if j % 3 == 0 { 0.0 } else { 1.0 })
        .collect();
    for masks in [vec![], vec![mask.clone(), mask]] {
        let d = Descent {
            slots: SLOTS,
            scale: parameters.scale(low),
            masks,
        };
        let meter = Meter::new(&context);
        let x = meter.input(floor, SLOTS, 1.0).expect("fits").exact();
        let parts = Parts {
            first: x.clone(),
            second: Some(x),
        };
        let y = meter.to_coefficients(&parts, &d).expect("levels");
        // an error of e in every coefficient is one of e·√N in slots
        let predicted = y.value().deviation() / (parameters.n() as f64).sqrt();
        let mut spread = Spread::default();
        for seed in 0..4 {
            let mut s = Setup::new(&parameters, &meter.keys(), 530 + seed);
            for _ in 0..2 {
                let signs = |s: &mut Setup| -> Vec<Complex64> {
                    let sign = |_| if uniform(&mut s.rng) < 0.5 { -1.0 } else { 1.0 };
                    real(&(0..SLOTS).map(sign).collect::<Vec<f64>>())
                };
                let (re, im) = (signs(&mut s), signs(&mut s));
                let (a, b) = (s.encrypt(&re, floor), s.encrypt(&im, floor));
                // what was encrypted, noise included
                let (re, im) = (s.decrypt(&a), s.decrypt(&b));
                let parts = Parts {
                    first: a,
                    second: Some(b),
                };
                let y = s.evaluator.to_coefficients(&parts, &d).expect("keys");
                let mut want = vec![0.0; 2 * SLOTS];
                for j in 0..SLOTS {
                    let at = slot_of(j, SLOTS);
                    let mask = |i: usize| {
                        let mask = d.masks.get(i);
                        mask.map_or(1.0, |m| f64::from(m[at % m.len()]))
                    };
                    let z = re[at] * mask(0) + im[at] * mask(1) * Complex64::new(0.0, 1.0);
                    (want[j], want[j + SLOTS]) = (z.re, z.im);
                }
                let got = s.secret.decrypt_coefficients(&y);
                spread.see(&real(&got), &real(&want));
            }
        }
        let ratio = spread.deviation() / predicted;
        println!(
            "SlotToCoeff with {} masks: measured 2^{:.3} predicted 2^{:.3} ratio {ratio:.4} window 0.4 to 1",
            d.masks.len(),
            spread.deviation().log2(),
            predicted.log2()
        );
        assert!((0.4..1.0).contains(&ratio), "{ratio}");
    }
}

#[test]
fn squares_below_the_levels_for_slots_have_the_predicted_noise() {
    // What the alarm of a plan in coefficients computes (`runtime::alarm`): sums of squares at levels whose scales are made for linear layers, so that
    // they come with a gain, which a factor in front of them undoes.
    const MEANT: f64 = 0.75;
    fn factor(p: &Parameters, level: Level) -> f64 {
        let (scale, below) = (p.scale(level), p.below(level).expect("a level"));
        (MEANT / (scale / p.modulus(level) * (scale / p.scale(below)))).sqrt()
    }
    fn squares<A: Arithmetic>(a: &A, xs: [&A::Value; 2], level: Level) -> A::Value {
        let p = a.parameters();
        let square = |x: &A::Value| {
            let (above, scale) = (p.above(level, a.info(x).level), p.scale(level));
            let terms = [(factor(p, level), x)];
            let y = a
                .linear_combination(&terms, 0.0, above, scale * p.modulus(above))
                .expect("levels");
            let y = a.rescale(&y).expect("levels");
            let y = a.with_exact_scale(&y, scale).expect("its own");
            a.mul(&y, &y).expect("degree")
        };
        let sum = a.add(&square(xs[0]), &square(xs[1])).expect("same place");
        let y = a.relinearize_rescale(&sum).expect("keys");
        let below = p.below(level).expect("a level");
        a.with_scale(&y, p.scale(below)).expect("any")
    }
    let parameters = in_coefficients();
    let meter = Meter::new(&Context::new(&parameters));
    let floor = parameters.floor().index();
    let from = Level::new(floor + 1);
    let levels: Vec<Level> = (1..=floor).map(Level::new).collect();
    let predicted: Vec<f64> = levels
        .iter()
        .map(|&level| {
            let (x, y) = (meter.input(from, SLOTS, 1.0), meter.input(from, SLOTS, 1.0));
            squares(&meter, [&x.expect("fits"), &y.expect("fits")], level).deviation()
        })
        .collect();
    let mut spreads = vec![Spread::default(); levels.len()];
    for seed in 0..KEYS as u64 {
        let mut s = Setup::new(&parameters, &meter.keys(), 540 + seed);
        for _ in 0..REPEATS {
            let (v, w) = (phases(SLOTS, &mut s.rng), phases(SLOTS, &mut s.rng));
            let (x, y) = (s.encrypt(&v, from), s.encrypt(&w, from));
            let both = v.iter().zip(&w);
            let want: Vec<Complex64> = both.map(|(a, b)| (a * a + b * b) * MEANT).collect();
            for (&level, spread) in levels.iter().zip(&mut spreads) {
                let got = squares(&s.evaluator, [&x, &y], level);
                spread.see(&s.decrypt(&got), &want);
            }
        }
    }
    for ((level, spread), predicted) in levels.iter().zip(&spreads).zip(predicted) {
        let name = format!("sum of two squares at level {}", level.index());
        check(&name, spread, predicted, 1.0, 1 << LOG_N, KEYS);
    }
}

// -------------------------------------------------------------------------------------------------
// EvalMod's failures

/// A small chain with bootstrapping for the preset's secret (h = 32), any range K and a cosine of the given degree.
fn overflowing(log_n: u32, range: usize, degree: usize) -> ParametersSpec {
    let double_angles = 2;
    let zone = |levels: usize, bits: u32| Zone {
        levels,
        bits: vec![bits],
    };
    ParametersSpec {
        name: format!("toy-range-{range}"),
        log_n,
        base_bits: 50,
        residual: zone(1, 42),
        bootstrap: Some(BootstrapSpec {
            product: zone(0, 30),
            log_ratio: 10.65,
            small_ring: None,
            weight_bits: 16,
            slot_to_coeff: zone(1, 37),
            eval_mod: vec![zone(ckks::parameters::depth_of(degree) + double_angles, 50)],
            coeff_to_slot: zone(1, 50),
            hamming_weight: 32,
            range,
            degree,
            double_angles,
        }),
        special_bits: vec![50; 6],
        dnum: 2,
        log_scale: 42,
    }
}

/// The integer part I of every coefficient after ModRaise, read with the secret key.
fn integer_parts(s: &Setup, x: &Ciphertext) -> Vec<i64> {
    let p = &s.parameters;
    let raised = s
        .evaluator
        .mod_raise(x, p.top(p.residual()), &[0])
        .expect("keys");
    // two limbs hold |m + q0·I|
    let low = s.evaluator.drop_to(&raised, Level::new(1)).expect("levels");
    let unit = p.scale(Level::new(0)) / p.modulus(Level::new(0));
    coefficients(&s.decrypt(&low))
        .iter()
        .map(|c| {
            let v = c * unit;
            assert!((v - v.round()).abs() < 0.01, "{v}");
            #[expect(clippy::cast_possible_truncation, reason = "at most 17")]
            {
                v.round() as i64
            }
        })
        .collect()
}

#[test]
fn the_integer_part_has_the_derived_law() {
    let parameters = Parameters::new(overflowing(LOG_N, 16, 63)).expect("toy");
    let meter = Meter::new(&Context::new(&parameters));
    let x = meter.input(Level::new(0), SLOTS, 0.5).expect("fits");
    meter
        .mod_raise(&x, parameters.top(parameters.residual()), &[0])
        .expect("bootstraps");
    // batch means: coefficients of one ciphertext share c₁'s, ciphertexts do not
    let (keys, each) = (4, 100);
    let mut fractions: Vec<Vec<f64>> = vec![Vec::new(); 8];
    for seed in 0..keys {
        let mut s = Setup::new(&parameters, &meter.keys(), 600 + seed);
        for _ in 0..each {
            let v: Vec<Complex64> = phases(SLOTS, &mut s.rng).iter().map(|v| v * 0.5).collect();
            let c = s.encrypt(&v, Level::new(0));
            let parts = integer_parts(&s, &c);
            assert!(parts.iter().all(|i| i.abs() <= 16));
            for (k, f) in fractions.iter_mut().enumerate() {
                let count = parts
                    .iter()
                    .filter(|i| i.unsigned_abs() as usize == k)
                    .count();
                f.push(count as f64 / parts.len() as f64);
            }
        }
    }
    for (k, f) in fractions.iter().enumerate() {
        let n = f.len() as f64;
        let mean = f.iter().sum::<f64>() / n;
        let variance = f.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let want = security::integer_part(32, k as i64) * if k == 0 { 1.0 } else { 2.0 };
        println!(
            "P(|I| = {k}): measured {mean:.3e} derived {want:.3e} deviations {:.1}",
            (mean - want) / (variance / n).sqrt()
        );
        // no estimate of the deviation from fewer than 40 events
        if want * n * parameters.n() as f64 > 40.0 {
            assert!(
                (mean - want).abs() < Z * (variance / n).sqrt(),
                "P(|I| = {k})"
            );
        }
    }
}

/// What a number of bootstraps on a small ring showed.
#[derive(Debug, Default)]
struct Outcome {
    trials: usize,
    /// Bootstraps with a coefficient beyond K among the 2n that matter.
    overflows: usize,
    /// Bootstraps with one among the others only.
    elsewhere: usize,
    /// Bootstraps carried out to the end.
    complete: usize,
    /// Those with a wrong answer.
    wrong: usize,
    /// Largest |I| seen.
    most: i64,
}

/// A coefficient is wrong if it is off by more: in the sets below EvalMod errs by less than 2^−15 within its interval, beyond it by 2^−8 or
/// more. (A cosine of higher degree than its interval needs would stay right some way beyond.)
const WRONG: f64 = 1.0 / 2048.0;

/// Raises `trials` ciphertexts of n slots and reads I; bootstraps to the end those of which `complete(trial, overflow)` holds, where
/// `overflow` tells of any of N coefficients, and asserts that exactly the coefficients with |I| > K come back wrong.
fn observe(
    parameters: &Parameters,
    slots: usize,
    trials: usize,
    seed: u64,
    complete: impl Fn(usize, bool) -> bool + Send,
) -> Outcome {
    // limbs this short are not worth a handover to another thread
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("one thread")
        .install(|| observe_here(parameters, slots, trials, seed, complete))
}

fn observe_here(
    parameters: &Parameters,
    slots: usize,
    trials: usize,
    seed: u64,
    complete: impl Fn(usize, bool) -> bool,
) -> Outcome {
    const PER_KEY: usize = 1000;
    let range = parameters.bootstrap().expect("bootstraps").range;
    let h = HalfBootstrap {
        target: parameters.residual().index(),
    };
    let meter = Meter::new(&Context::new(parameters));
    let x = meter.input(Level::new(0), slots, 0.5).expect("fits");
    let x = Coefficients::of(&meter, x).expect("level 0");
    meter.half_bootstrap(&x, &h).expect("levels");
    let mut out = Outcome::default();
    let mut s = Setup::new(parameters, &meter.keys(), seed);
    for trial in 0..trials {
        if trial > 0 && trial % PER_KEY == 0 {
            s = Setup::new(parameters, &meter.keys(), seed + (trial / PER_KEY) as u64);
        }
        let v: Vec<Complex64> = phases(slots, &mut s.rng).iter().map(|v| v * 0.5).collect();
        let c = s.encrypt(&v, Level::new(0));
        let all = integer_parts(&s, &c);
        // the trace keeps the coefficients of Y = X^(N/2n)
        let gap = parameters.max_slots() / slots;
        let parts: Vec<i64> = all.iter().copied().step_by(gap).collect();
        let beyond = |i: &i64| i.unsigned_abs() as usize > range;
        let overflow = all.iter().any(beyond);
        let counts = parts.iter().any(beyond);
        out.trials += 1;
        out.overflows += usize::from(counts);
        out.elsewhere += usize::from(overflow && !counts);
        out.most = parts.iter().map(|i| i.abs()).fold(out.most, i64::max);
        if complete(trial, overflow) {
            let x = Coefficients::of(&s.evaluator, c).expect("level 0");
            let y = s.evaluator.half_bootstrap(&x, &h).expect("keys");
            let values: Vec<f64> = (y.into_vec().iter())
                .flat_map(|y| s.decrypt(y))
                .map(|z| z.re)
                .collect();
            let place = |j: usize| j / slots * slots + slot_of(j % slots, slots);
            let got: Vec<f64> = (0..2 * slots).map(|j| values[place(j)]).collect();
            let want = coefficients(&v);
            let wrong: Vec<bool> = got
                .iter()
                .zip(&want)
                .map(|(g, w)| (g - w).abs() > WRONG)
                .collect();
            assert_eq!(
                wrong,
                parts.iter().map(beyond).collect::<Vec<_>>(),
                "trial {trial}: I {parts:?}"
            );
            out.complete += 1;
            out.wrong += usize::from(wrong.contains(&true));
        }
    }
    out
}

/// Prints the measured rate and asserts that the derived one is within its 99.9 % confidence interval.
fn agrees(name: &str, failures: usize, trials: usize, coefficients: usize, range: usize) {
    // coefficients are nearly independent: far less than the interval lies between this and the union bound
    let derived =
        1.0 - (1.0 - security::overflow(32, range)).powi(i32::try_from(coefficients).expect("few"));
    let union = security::overflow_log2(coefficients, 32, range).exp2();
    let (low, high) = clopper_pearson(failures, trials);
    println!(
        "{name}: {failures} of {trials} failed, {:.3e}, 99.9 % interval {low:.3e} to {high:.3e}; derived {derived:.3e}, union bound {union:.3e}",
        failures as f64 / trials as f64
    );
    assert!((low..=high).contains(&derived), "{name}");
}

const SMALL: u32 = 6;
const SMALL_SLOTS: usize = 1 << (SMALL - 1);

/// (K, slots, degree of the cosine): ranges lowered until a bootstrap fails with a probability of 10^−4 to 10^−2, each with about the least
/// degree that suffices.
const LOWERED: [(usize, usize, usize); 3] = [(5, 8, 23), (6, 32, 25), (7, 32, 27)];

#[test]
fn evalmod_fails_as_often_as_derived() {
    // 10^4 raised ciphertexts; complete bootstraps of all that overflow and of some that do not
    for (range, slots, degree) in LOWERED {
        let parameters = Parameters::new(overflowing(SMALL, range, degree)).expect("toy");
        let seen = observe(&parameters, slots, 10_000, 700, |trial, overflow| {
            overflow || trial % 50 == 0
        });
        println!("K = {range}: {seen:?}");
        assert_eq!(seen.wrong, seen.overflows);
        // coefficients that the trace removes do no harm
        assert_eq!(seen.elsewhere > 0, slots < SMALL_SLOTS);
        agrees(
            &format!("K = {range}, {slots} slots"),
            seen.overflows,
            seen.trials,
            2 * slots,
            range,
        );
    }
}

#[test]
fn evalmod_does_not_fail_with_the_preset_range() {
    let parameters = Parameters::new(overflowing(SMALL, 16, 63)).expect("toy");
    let seen = observe(&parameters, SMALL_SLOTS, 400, 800, |_, _| true);
    println!("K = 16: {seen:?}");
    assert_eq!((seen.overflows, seen.wrong), (0, 0));
    // the lowered ranges above would have failed here
    assert!(seen.most > 5);
}

#[test]
#[ignore = "slow: 4·10^4 complete bootstraps"]
fn evalmod_fails_as_often_as_derived_over_complete_bootstraps() {
    for (range, slots, degree) in LOWERED {
        let parameters = Parameters::new(overflowing(SMALL, range, degree)).expect("toy");
        let seen = observe(&parameters, slots, 10_000, 900, |_, _| true);
        println!("K = {range}: {seen:?}");
        agrees(
            &format!("K = {range}, {slots} slots"),
            seen.wrong,
            seen.complete,
            2 * slots,
            range,
        );
    }
    let parameters = Parameters::new(overflowing(SMALL, 16, 63)).expect("toy");
    let seen = observe(&parameters, SMALL_SLOTS, 10_000, 1000, |_, _| true);
    println!("K = 16: {seen:?}");
    assert_eq!((seen.overflows, seen.wrong), (0, 0));
}
