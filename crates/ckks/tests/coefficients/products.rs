//! Products and packing: exactly modulo every prime where no error is, and errors against their formula.

use super::{Random, layers};
use ckks::folded::Convolution;
use ckks::packing::{convolve, packing_keys, switches};
use ckks::parameters::WEIGHT_BITS;
use ckks::{
    Arithmetic, Ciphertext, Clear, Coefficients, Context, Error, Evaluator, Info, KeyRequest,
    Level, Meter, Parameters, ParametersSpec, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use ring::{Coeff, Expander, RnsPoly};

const LEVEL: Level = Level::new(1);

pub(crate) fn toy(log_n: u32) -> Parameters {
    Parameters::new(ParametersSpec::toy_levelled(log_n, 1)).expect("parameters")
}

/// With the keys of packing.
fn evaluator(p: &Parameters, key: &SecretKey, spacing: usize) -> Evaluator {
    let mut request = KeyRequest::default();
    for name in packing_keys(p, spacing) {
        request.need(name, p.key_limit(LEVEL));
    }
    let keys = key.evaluation_keys(&request, &mut ChaCha20Rng::seed_from_u64(2));
    Evaluator::new(&Context::new(p), keys.expect("keys"))
}

/// The ciphertext (x, 0), which decrypts to x without any error and stays without one under every switch of keys.
pub(crate) fn exact(p: &Parameters, x: RnsPoly<Coeff>) -> Coefficients {
    let zero = RnsPoly::<Coeff>::zero(p.ring(), x.indices());
    both(p, [x, zero])
}

fn both(p: &Parameters, x: [RnsPoly<Coeff>; 2]) -> Coefficients {
    let info = Info {
        level: LEVEL,
        scale: 1.0,
        slots: p.max_slots(),
        degree: 1,
    };
    let polys = x.map(RnsPoly::into_ntt).into();
    let x = Ciphertext::from_polynomials(p, polys, info).expect("a ciphertext");
    Coefficients::of(
        &Evaluator::new(&Context::new(p), ckks::EvaluationKeys::new()),
        x,
    )
    .expect("coefficients")
}

/// Uniform residues: numbers of the size of the modulus.
pub(crate) fn uniform(p: &Parameters, seed: u8) -> RnsPoly<Coeff> {
    let indices = p.limbs(LEVEL);
    RnsPoly::from_limbs(p.ring(), indices.clone(), |k, out| {
        Expander::new([seed; 32]).uniform(k as u64, p.prime(indices[k]), out)
    })
}

pub(crate) fn phase(x: &Coefficients) -> RnsPoly<Coeff> {
    let x = x.value();
    assert!(
        x.polynomials()[1].iter().flatten().all(|&r| r == 0),
        "an exact one"
    );
    x.polynomials()[0].to_coeff()
}

fn integers(x: &RnsPoly<Coeff>, k: usize) -> Vec<i128> {
    x.limb(k).iter().map(|&r| i128::from(r)).collect()
}

/// A layer on numbers of the size of the modulus, garbage in all coefficients, packed: every coefficient is what the layout says, modulo every prime, with
/// weights up to the largest that a plan may have, 2^8.
#[test]
fn layers_are_exact_modulo_every_prime() {
    let p = toy(9);
    let key = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(1));
    let e = evaluator(&p, &key, p.n());
    let mut random = Random::new(3);
    for (number, layer) in layers().into_iter().enumerate() {
        let folded = layer.folded(p.n(), 1);
        let bits = WEIGHT_BITS[number % 2];
        let unit = f64::from(bits).exp2();
        let mut w = random.signed(bits + 8, layer.outputs * layer.row());
        let (most, last) = (1 << (bits + 8), w.len() - 1);
        (w[0], w[last]) = (most, -most);
        let xs: Vec<RnsPoly<Coeff>> = (0..folded.input().ciphertexts())
            .map(|i| uniform(&p, i as u8))
            .collect();
        let inputs: Vec<Coefficients> = xs.iter().map(|x| exact(&p, x.clone())).collect();
        let out = e.convolve(&inputs, &folded, &w, unit).expect("a layer");
        assert!(out.iter().flatten().all(|y| y.value().scale() == unit));
        for k in 0..2 {
            let q = i128::from(p.prime(k).value());
            let xs: Vec<Vec<i128>> = xs.iter().map(|x| integers(x, k)).collect();
            let want = folded.evaluate(&xs, &w).expect("evaluates");
            assert_eq!(out.len(), want.len());
            for (have, want) in out.iter().zip(want) {
                let have = phase(have.as_ref().expect("a ciphertext with channels"));
                let want: Vec<i128> = want.iter().map(|w| w.rem_euclid(q)).collect();
                assert_eq!(integers(&have, k), want, "{layer:?} modulo {q}");
            }
        }
    }
}

/// Products act on both halves of a ciphertext alike, in tiles of outputs and inputs alike.
#[test]
fn products_of_a_wide_layer_are_those_of_its_parts() {
    let p = toy(6);
    let e = Evaluator::new(&Context::new(&p), ckks::EvaluationKeys::new());
    let layer = super::Layer::new(300, 21, [2, 2], [3, 3]);
    let folded = layer.folded(p.n(), 1);
    let w = Random::new(4).signed(16, layer.outputs * layer.row());
    let xs: Vec<[RnsPoly<Coeff>; 2]> = (0..folded.input().ciphertexts())
        .map(|i| [uniform(&p, i as u8), uniform(&p, 200 - i as u8)])
        .collect();
    let inputs: Vec<Coefficients> = xs.iter().map(|x| both(&p, x.clone())).collect();
    assert!(inputs.len() > 40, "more than a tile of inputs");
    let all = e.weigh(&inputs, &folded, 0..21, &w, 1.0).expect("products");
    for (o, have) in all.iter().enumerate() {
        let alone = e
            .weigh(&inputs, &folded, o..o + 1, &w, 1.0)
            .expect("a product");
        for half in 0..2 {
            assert_eq!(
                have.value().polynomials()[half],
                alone[0].value().polynomials()[half]
            );
            // the coefficient of the output's first place, by the definition
            let k = 1;
            let q = i128::from(p.prime(k).value());
            let halves: Vec<Vec<i128>> = xs.iter().map(|x| integers(&x[half], k)).collect();
            let want = folded.evaluate(&halves, &w).expect("evaluates");
            let (ciphertext, at) = folded.output().at(o, 0, 0);
            let product = have.value().polynomials()[half].to_coeff();
            assert_eq!(
                i128::from(product.limb(k)[0]),
                want[ciphertext][at].rem_euclid(q)
            );
        }
    }
}

#[test]
fn packing_is_exact_and_unpacking_its_inverse() {
    let p = toy(7);
    let n = p.n();
    let key = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(1));
    let e = evaluator(&p, &key, n);
    let xs: Vec<RnsPoly<Coeff>> = (0..n).map(|i| uniform(&p, i as u8)).collect();
    let cts: Vec<Coefficients> = xs.iter().map(|x| exact(&p, x.clone())).collect();
    for (spacing, places) in [
        (1, vec![0]),
        (8, (0..8).collect()),
        (8, vec![5]),
        (16, vec![0, 1, 2, 3, 4, 6, 11]),
        (32, vec![31, 8, 16, 0]),
        (n, vec![0, 8, 16, 24, 99]),
        (n, (0..n).collect::<Vec<usize>>()),
    ] {
        // leaf i begins at coefficient 3i of x_i
        let leaves: Vec<(usize, usize, &Coefficients)> = places
            .iter()
            .enumerate()
            .map(|(i, &to)| (3 * i % spacing, to, &cts[i]))
            .collect();
        let packed = phase(&e.pack(&leaves, spacing).expect("packs"));
        for k in 0..2 {
            let mut want = vec![0; n];
            for (i, &to) in places.iter().enumerate() {
                for j in (0..n).step_by(spacing) {
                    want[to + j] = xs[i].limb(k)[3 * i % spacing + j];
                }
            }
            assert_eq!(packed.limb(k), want, "{spacing} {places:?}");
        }
    }
    for spacing in [1, 2, 8, n] {
        let classes = e.unpack(&cts[5], spacing).expect("unpacks");
        assert_eq!(classes.len(), spacing);
        for (i, class) in classes.iter().enumerate() {
            let class = phase(class);
            for k in 0..2 {
                let mut want = vec![0; n];
                for j in (0..n).step_by(spacing) {
                    want[j] = xs[5].limb(k)[i + j];
                }
                assert_eq!(class.limb(k), want, "class {i} of {spacing}");
            }
        }
    }
    let leaf = |to| (0, to, &cts[0]);
    assert!(e.pack(&[], 8).is_err() && e.pack(&[leaf(8)], 8).is_err());
    assert!(e.pack(&[leaf(1), leaf(1)], 8).is_err() && e.pack(&[leaf(0)], 6).is_err());
    assert!(e.unpack(&cts[0], 2 * n).is_err());
}

#[test]
fn keys_are_nested_and_a_missing_one_is_named() {
    let p = toy(7);
    let of = |spacing| packing_keys(&p, spacing);
    assert_eq!(of(1).len(), 0);
    for l in 0..7 {
        let (small, large) = (of(1 << l), of(2 << l));
        assert_eq!((small.len(), large.len()), (l, l + 1));
        assert!(large.starts_with(&small));
    }
    let key = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(1));
    let e = evaluator(&p, &key, 4);
    let x = exact(&p, uniform(&p, 1));
    assert!(e.pack(&[(0, 0, &x)], 4).is_ok());
    assert!(matches!(
        e.pack(&[(0, 0, &x)], 8),
        Err(Error::MissingKey { .. })
    ));
    assert_eq!(
        switches(&(0..64).collect::<Vec<_>>(), 64),
        [1, 2, 4, 8, 16, 32]
    );
    assert_eq!(switches(&[5], 64), [1; 6]);
    assert_eq!(switches(&[0, 1, 2, 3, 4, 5, 6], 8), [1, 2, 4]);
}

/// V·√((M² − 1)/3) with V the deviation of one switch, which rounds once: √((1 + 2N/3)/12).
#[test]
fn the_error_of_packing_is_what_the_formula_says() {
    let p = toy(10);
    let (n, spacing) = (p.n(), 64);
    let key = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(7));
    let e = evaluator(&p, &key, spacing);
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let xs: Vec<Coefficients> = (0..spacing)
        .map(|_| key.encrypt_coefficients(&vec![0.0; n], LEVEL, &mut rng))
        .map(|x| Coefficients::of(&e, x.expect("encrypts").expand(&p)).expect("coefficients"))
        .collect();
    let leaves: Vec<(usize, usize, &Coefficients)> =
        xs.iter().enumerate().map(|(i, x)| (0, i, x)).collect();
    let packed = key.decrypt_coefficients(&e.pack(&leaves, spacing).expect("packs"));
    let before: Vec<_> = xs.iter().map(|x| key.decrypt_coefficients(x)).collect();
    let errors = (0..n).map(|j| packed[j] - before[j % spacing][j - j % spacing]);
    let measured = (errors.map(|e| e * e).sum::<f64>() / n as f64).sqrt() * p.scale(LEVEL);
    let one = ((1.0 + 2.0 * n as f64 / 3.0) / 12.0).sqrt();
    let formula = one * (((spacing * spacing - 1) as f64) / 3.0).sqrt();
    println!("packing {spacing} leaves: measured {measured:.1}, formula {formula:.1}");
    assert!(
        (measured / formula - 1.0).abs() < 0.25,
        "{measured} {formula}"
    );
}

/// Each class alone keeps the operand's error and takes V·√((M² − 1)/3) more, V the deviation of one switch; over all coefficients, which other classes
/// leave at zero, it is V·√(M − 1). Values, keys and switches in all three interpreters.
#[test]
fn unpacking_means_costs_and_errs_as_the_formula_says() {
    let p = toy(10);
    let (n, spacing) = (p.n(), 64);
    let context = Context::new(&p);
    let key = SecretKey::generate(&p, &mut ChaCha20Rng::seed_from_u64(17));
    let e = evaluator(&p, &key, spacing);
    let values = Random::new(18).signed(20, n);
    let values: Vec<f64> = values.iter().map(|&v| f64::from(v) / 2097152.0).collect();
    let x = key.encrypt_coefficients(&values, LEVEL, &mut ChaCha20Rng::seed_from_u64(19));
    let x = Coefficients::of(&e, x.expect("encrypts").expand(&p)).expect("coefficients");
    let before = key.decrypt_coefficients(&x);
    let had = e.unpack(&x, spacing).expect("unpacks");
    let clear = Clear::new(&context, 1);
    let x = clear.coefficients(&values, LEVEL).expect("coefficients");
    let meant = clear.unpack(&x, spacing).expect("unpacks");
    let meter = Meter::new(&context);
    let x = meter.input(LEVEL, p.max_slots(), 0.5).expect("an input");
    let foreseen = |x| {
        let x = Coefficients::of(&meter, x).expect("coefficients");
        meter.unpack(&x, spacing).expect("unpacks")
    };
    let bounds = foreseen(x.clone());
    let names: Vec<_> = meter.keys().0.into_keys().collect();
    let mut needed = packing_keys(&p, spacing);
    needed.sort_unstable();
    assert_eq!(names, needed);
    let switches: u64 = meter.key_use().times.values().sum();
    assert_eq!(switches, spacing as u64 - 1);
    let exact = foreseen(x.exact());
    let mut errors = Vec::new();
    for (i, ((e_of, c), m)) in had.iter().zip(&meant).zip(&bounds).enumerate() {
        let infos = [e.info(e_of.value()), clear.info(c.value())];
        assert_eq!(infos, [meter.info(m.value()); 2]);
        let (had, meant) = (key.decrypt_coefficients(e_of), clear.read(c).expect("read"));
        let bound = m.value().error_bound() / (n as f64).sqrt();
        for (j, (had, meant)) in had.iter().zip(meant).enumerate() {
            let mine = j % spacing == 0;
            let (want, was) = match mine {
                true => (values[i + j], before[i + j]),
                false => (0.0, 0.0),
            };
            assert!(
                (meant - want).abs() < 1e-12,
                "class {i}: {meant}, not {want}"
            );
            assert!(
                (had - meant).abs() <= bound,
                "class {i}: {had} of {bound:e}"
            );
            errors.push((mine, had - was));
        }
    }
    let rms = |errors: Vec<f64>| {
        let sum: f64 = errors.iter().map(|e| e * e).sum();
        (sum / errors.len() as f64).sqrt() * p.scale(LEVEL)
    };
    let kept = rms(errors.iter().filter(|e| e.0).map(|e| e.1).collect());
    let all = rms(errors.iter().map(|e| e.1).collect());
    let one = ((1.0 + 2.0 * n as f64 / 3.0) / 12.0).sqrt();
    let of = spacing as f64;
    let formulas = [
        one * ((of * of - 1.0) / 3.0).sqrt(),
        one * (of - 1.0).sqrt(),
    ];
    let said = exact[5].value().deviation() * p.scale(LEVEL) / (n as f64).sqrt();
    println!(
        "unpacking {spacing} classes: kept {kept:.1}, formula {:.1}, the meter {said:.1}; all {all:.1}, formula {:.1}",
        formulas[0], formulas[1]
    );
    for (what, had, formula) in [
        ("kept", kept, formulas[0]),
        ("all", all, formulas[1]),
        ("the meter", said, formulas[0]),
    ] {
        assert!((had / formula - 1.0).abs() < 0.1, "{what}: {had} {formula}");
    }
}

/// What does not fit is refused before any work.
#[test]
fn products_refuse_what_is_not_the_layers_input() {
    let p = toy(9);
    let e = Evaluator::new(&Context::new(&p), ckks::EvaluationKeys::new());
    let folded: Convolution = super::Layer::new(9, 4, [6, 6], [3, 3]).folded(512, 1);
    let w = vec![1; 4 * folded.row()];
    let x = exact(&p, uniform(&p, 1));
    let weigh = |xs: &[Coefficients], outputs| e.weigh(xs, &folded, outputs, &w, 1.0);
    assert!(weigh(&[x.clone(), x.clone()], 0..4).is_ok());
    assert!(weigh(std::slice::from_ref(&x), 0..4).is_err() && weigh(&[], 0..4).is_err());
    assert!(weigh(&[x.clone(), x.clone()], 0..5).is_err());
    let other = x.with_scale(&e, 2.0).expect("scaled");
    assert!(matches!(
        weigh(&[x.clone(), other], 0..4),
        Err(Error::ScaleMismatch { .. })
    ));
    let low = x.drop_to(&e, Level::new(0)).expect("dropped");
    assert!(matches!(
        weigh(&[x, low], 0..4),
        Err(Error::LevelMismatch { .. })
    ));
}

/// What a layer means, by walking through products and packing and by sums over the kernel; what it costs, likewise.
#[test]
fn overrides_mean_and_count_what_the_circuit_does() {
    let p = toy(9);
    let context = Context::new(&p);
    let mut random = Random::new(9);
    for layer in layers().into_iter().step_by(3) {
        let folded = layer.folded(p.n(), 1);
        let w = random.signed(8, layer.outputs * layer.row());
        let clear = Clear::new(&context, 1);
        let xs: Vec<_> = (0..folded.input().ciphertexts())
            .map(|_| {
                random
                    .signed(10, p.n())
                    .iter()
                    .map(|&v| f64::from(v) / 1024.0)
                    .collect()
            })
            .map(|v: Vec<f64>| clear.coefficients(&v, LEVEL).expect("coefficients"))
            .collect();
        let short = clear.convolve(&xs, &folded, &w, 256.0).expect("a layer");
        let long = convolve(&clear, &xs, &folded, &w, 256.0).expect("a layer");
        for (x, y) in short.iter().zip(&long) {
            let [x, y] = [x, y].map(|x| x.as_ref().expect("has channels"));
            assert_eq!(clear.info(x.value()), clear.info(y.value()));
            let [x, y] = [x, y].map(|x| clear.read(x).expect("read"));
            let off = x
                .iter()
                .zip(&y)
                .map(|(x, y)| (x - y).abs())
                .fold(0.0, f64::max);
            assert!(off < 1e-10, "{layer:?}: {off:e}");
        }
        let meters = [Meter::new(&context), Meter::new(&context)];
        let [short, long] = [0, 1].map(|i| {
            let m = &meters[i];
            let x = m.input(LEVEL, p.max_slots(), 1.0).expect("an input");
            let x = vec![Coefficients::of(m, x).expect("coefficients"); xs.len()];
            let out = match i {
                0 => m.convolve(&x, &folded, &w, 256.0),
                _ => convolve(m, &x, &folded, &w, 256.0),
            };
            let out = out.expect("a layer").swap_remove(0).expect("has channels");
            (
                m.info(out.value()),
                m.keys(),
                m.cost().key_switches,
                m.key_use().times,
            )
        });
        assert_eq!(short, long, "{layer:?}");
    }
}
