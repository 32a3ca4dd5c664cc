//! One circuit, three interpreters: on random circuits the meter predicts level and scale exactly and names every key, and the
//! evaluator's values stay within the meter's bound of the clear ones, a bound at most 2^6 above the largest error seen.

use ckks::coefficients::Parts;
use ckks::map::{Classes, Giants, Term, Values};
use ckks::work::{At, Hoisting};
use ckks::{
    Arithmetic, BlockMap, Bootstrap, Clear, Complex64, Context, Error, Evaluator, HalfBootstrap,
    Info, Level, MapSize, Meter, Parameters, ParametersSpec, Polynomial, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A map whose diagonals (input, output, offset, values) have the lowest `count` offsets as baby steps.
fn split(
    slots: usize,
    [inputs, outputs]: [usize; 2],
    diagonals: Vec<(usize, usize, usize, Values)>,
    count: usize,
    folds: Vec<usize>,
) -> Result<BlockMap, Error> {
    let terms = diagonals
        .into_iter()
        .map(|(input, output, offset, values)| Term {
            input,
            output,
            giant: offset - offset % count,
            baby: offset % count,
            values,
        });
    BlockMap::new(slots, inputs, outputs, terms.collect(), folds)
}

const SLOTS: usize = 128;

/// A reproducible random circuit on two inputs of magnitude at most 1; every intermediate stays at most about 1.
struct Circuit {
    seed: u64,
    steps: usize,
}

fn unit(rng: &mut ChaCha20Rng) -> f64 {
    f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
}

impl Circuit {
    fn run<A: Arithmetic>(
        &self,
        a: &A,
        x: &A::Value,
        y: &A::Value,
    ) -> Result<Vec<A::Value>, Error> {
        let mut rng = ChaCha20Rng::seed_from_u64(self.seed);
        let mut pool = vec![x.clone(), y.clone()];
        let mut trace = Vec::new();
        for _ in 0..self.steps {
            let u = pool[rng.next_u32() as usize % pool.len()].clone();
            let v = pool[rng.next_u32() as usize % pool.len()].clone();
            let level = a.info(&u).level.min(a.info(&v).level);
            let p = a.parameters();
            // a bootstrap of the real part where little is left
            if level.index() < p.floor().index() + 4 {
                let low = a.align(&u, p.floor())?;
                let b = Bootstrap {
                    slots: SLOTS,
                    target: p.residual().index() - rng.next_u32() as usize % 4,
                    gain: 0.5,
                };
                let twice = a.add(&low, &a.conjugate(&low)?)?;
                let z = a.bootstrap(&Parts::one(twice), &b)?.first;
                trace.push(z.clone());
                pool = vec![z.clone(), z];
                continue;
            }
            let kind = rng.next_u32() % 9;
            let half = |w: &A::Value| -> Result<A::Value, Error> {
                // w/2 one level below
                let level = a.info(w).level;
                let below = p.below(level).expect("levels are left");
                let y = a.linear_combination(
                    &[(0.5, w)],
                    0.0,
                    level,
                    p.scale(below) * p.modulus(level),
                )?;
                a.with_exact_scale(&a.rescale(&y)?, p.scale(below))
            };
            let z = match kind {
                0 => half(&a.add(&a.align(&u, level)?, &a.align(&v, level)?)?)?,
                1 => half(&a.sub(&a.align(&u, level)?, &a.align(&v, level)?)?)?,
                2 => {
                    let z = a.mul_rescale(&a.align(&u, level)?, &a.align(&v, level)?)?;
                    let scale = p.scale(a.info(&z).level);
                    a.with_exact_scale(&z, scale)?
                }
                3 => a.rotate(&u, i64::from(rng.next_u32() % 7) - 3)?,
                4 => a.conjugate(&u)?,
                5 => a.mul_i(&u)?,
                6 => {
                    let offsets = [0usize, 1, 2, 5, 126];
                    let diagonals = offsets
                        .iter()
                        .map(|&o| {
                            (
                                0,
                                0,
                                o,
                                Values::Real(
                                    (0..SLOTS).map(|_| unit(&mut rng) as f32 * 0.15).collect(),
                                ),
                            )
                        })
                        .collect();
                    let map = split(SLOTS, [1, 1], diagonals, 2, vec![])?;
                    let scale = p.scale(p.below(a.info(&u).level).expect("levels are left"));
                    a.linear(&[u], &map, scale)?.swap_remove(0)
                }
                7 => {
                    // real part: polynomials are for real values
                    let real = half(&a.add(&u, &a.conjugate(&u)?)?)?;
                    if a.info(&real).level.index() < p.floor().index() + 4 {
                        real
                    } else {
                        let coefficients: Vec<f64> = (0..=7 + rng.next_u32() as usize % 8)
                            .map(|k| 0.3 * unit(&mut rng) / (1.0 + k as f64))
                            .collect();
                        a.polynomial(&real, &Polynomial::new(coefficients)?)?
                    }
                }
                _ => a.add_plain(&half(&u)?, &[Complex64::new(0.25, 0.0)])?,
            };
            trace.push(z.clone());
            pool.push(z);
            if pool.len() > 4 {
                pool.remove(0);
            }
        }
        Ok(trace)
    }
}

#[test]
fn three_interpreters_agree_on_random_circuits() {
    let parameters = Parameters::new(ParametersSpec::toy(10)).expect("toy");
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let mut slack = Vec::new();
    for seed in 0..24 {
        let circuit = Circuit { seed, steps: 14 };
        let level = parameters.residual();
        let data = |rng: &mut ChaCha20Rng| {
            (0..SLOTS)
                .map(|_| Complex64::new(unit(rng), unit(rng)) * 0.5)
                .collect::<Vec<_>>()
        };
        let (x, y) = (data(&mut rng), data(&mut rng));
        let meter = Meter::new(&Context::new(&parameters));
        let predicted = circuit
            .run(
                &meter,
                &meter.input(level, SLOTS, 0.75).expect("fits"),
                &meter.input(level, SLOTS, 0.75).expect("fits"),
            )
            .expect("meter");
        let clear = Clear::new(&Context::new(&parameters), seed);
        let meant = circuit
            .run(
                &clear,
                &clear.input(&x, level).expect("fits"),
                &clear.input(&y, level).expect("fits"),
            )
            .expect("clear");
        let evaluator = Evaluator::new(
            &Context::new(&parameters),
            secret
                .evaluation_keys(&meter.keys(), &mut rng)
                .expect("keys"),
        );
        let encrypt = |v: &[Complex64], rng: &mut ChaCha20Rng| {
            secret
                .encrypt(v, level, rng)
                .expect("fits")
                .expand(&parameters)
        };
        let (cx, cy) = (encrypt(&x, &mut rng), encrypt(&y, &mut rng));
        let done = circuit
            .run(&evaluator, &cx, &cy)
            .expect("the meter's keys suffice");
        let mut worst_ratio = 0.0f64;
        for (step, ((m, c), e)) in predicted.iter().zip(&meant).zip(&done).enumerate() {
            let infos: [Info; 3] = [meter.info(m), clear.info(c), evaluator.info(e)];
            assert!(
                infos.iter().all(|i| i.level == infos[0].level
                    && i.scale == infos[0].scale
                    && i.slots == infos[0].slots),
                "seed {seed} step {step}: {infos:?}"
            );
            let got = secret.decrypt(e).expect("degree");
            let error = got
                .iter()
                .zip(&c.values)
                .map(|(a, b)| (a - b).norm())
                .fold(0.0, f64::max);
            assert!(
                error <= m.error_bound(),
                "seed {seed} step {step}: error 2^{:.1} above the bound 2^{:.1}",
                error.log2(),
                m.error_bound().log2()
            );
            worst_ratio = worst_ratio.max(error / m.error_bound());
        }
        slack.push(-worst_ratio.log2());
    }
    let most = slack.iter().copied().fold(0.0, f64::max);
    println!(
        "bits between the largest error and its bound, per circuit: {:?}",
        slack
            .iter()
            .map(|s| (s * 10.0).round() / 10.0)
            .collect::<Vec<_>>()
    );
    assert!(
        // shares of one source add linearly where they may be one error: up to 9 bits where folds follow folds
        most <= 10.0,
        "the bound is 2^{most:.1} above the largest error of a circuit"
    );
}

#[test]
fn linear_is_its_definition() {
    // the override against rotations, products and sums: same level, scale and rotations, close values
    let parameters = Parameters::new(ParametersSpec::toy(10)).expect("toy");
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let diagonals = |rng: &mut ChaCha20Rng| {
        let mut d = Vec::new();
        for input in 0..2 {
            for output in 0..2 {
                for offset in [0usize, 3, 4, 9, 60] {
                    d.push((
                        input,
                        output,
                        offset,
                        Values::Complex(
                            (0..64)
                                .map(|_| Complex64::new(unit(rng), unit(rng)) * 0.2)
                                .collect(),
                        ),
                    ));
                }
            }
        }
        d
    };
    let map = split(64, [2, 2], diagonals(&mut rng), 4, vec![32]).expect("map");
    assert!(map.moves());
    override_is_definition(&parameters, &secret, &map, &mut rng);
    // giant steps 4, 8 and 60 = −4: by a key for each, or onto each other
    let chained = map.clone().with_giants(Giants::Chained);
    assert!(chained.rotations().is_subset(&map.rotations()));
    assert!(chained.rotations().len() < map.rotations().len());
    override_is_definition(&parameters, &secret, &chained, &mut rng);
    // rotated inputs are divided by P before they meet many diagonals, or where giant steps are many
    let at = At::new(&parameters, Level::new(6));
    let hoisting = |map: &BlockMap| at.hoisting(&MapSize::of(map));
    for count in [4, 64] {
        let few = split(64, [2, 2], diagonals(&mut rng), count, vec![32]).expect("map");
        let expected = [Hoisting::Single, Hoisting::Double][count / 64];
        assert_eq!(hoisting(&few), expected);
        override_is_definition(&parameters, &secret, &few, &mut rng);
    }
    for (babies, folds) in [(8, vec![]), (8, vec![32])] {
        let all = (0..256).map(|i| {
            let weights = (0..64).map(|_| 0.1 * unit(&mut rng) as f32).collect();
            (i / 128, i / 64 % 2, i % 64, Values::Real(weights))
        });
        let many = split(64, [2, 2], all.collect(), babies, folds).expect("map");
        for giants in [Giants::Apart, Giants::Chained] {
            let many = many.clone().with_giants(giants);
            assert_eq!(hoisting(&many), Hoisting::Single);
            override_is_definition(&parameters, &secret, &many, &mut rng);
        }
    }
    // multiples and masks of runs, nothing rotated: computed without the special primes, and without a key
    let mut values = |n: usize| (0..n).map(|_| 0.3 * unit(&mut rng) as f32).collect();
    let still: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|input| [(input, 0), (input, 1)])
        .map(|(input, output)| {
            let weights = match (input, output) {
                (0, 0) => Values::runs(values(1), 8),
                (0, _) => Values::runs(values(4), 8),
                // three classes of runs of four slots, of which some are left out
                (_, output) => Values::Kernel {
                    weights: values(3),
                    classes: Classes::new(4, (0..16).map(|j| j * j % 3).collect()).into(),
                    mask: (output == 0).then(|| [0b0110_1011, 0b1110_0111].into()),
                },
            };
            (input, output, 0, weights)
        })
        .collect();
    let folded = split(64, [2, 2], still.clone(), 1, vec![32]).expect("map");
    assert_eq!(hoisting(&folded), Hoisting::Single);
    override_is_definition(&parameters, &secret, &folded, &mut rng);
    let map = split(64, [2, 2], still, 1, vec![]).expect("map");
    assert!(!map.moves() && map.rotations().is_empty());
    override_is_definition(&parameters, &secret, &map, &mut rng);
}

fn override_is_definition(
    parameters: &Parameters,
    secret: &SecretKey,
    map: &BlockMap,
    rng: &mut ChaCha20Rng,
) {
    let meter = Meter::new(&Context::new(parameters));
    let level = Level::new(6);
    let scale = parameters.scale(Level::new(5));
    let mx = &[(); 2].map(|()| meter.input(level, 64, 1.0).expect("fits"));
    meter.linear(mx, map, scale).expect("meter");
    let needed = meter.keys();
    let definition = Meter::new(&Context::new(parameters));
    ckks::linear::apply(&definition, mx, map, scale).expect("meter");
    assert_eq!(needed, definition.keys());
    let evaluator = Evaluator::new(
        &Context::new(parameters),
        secret.evaluation_keys(&needed, rng).expect("keys"),
    );
    let xs: Vec<_> = (0..2)
        .map(|_| {
            let v: Vec<Complex64> = (0..64)
                .map(|_| Complex64::new(unit(rng), unit(rng)) * 0.5)
                .collect();
            secret
                .encrypt(&v, level, rng)
                .expect("fits")
                .expand(parameters)
        })
        .collect();
    let fast = evaluator.linear(&xs, map, scale).expect("linear");
    let slow = ckks::linear::apply(&evaluator, &xs, map, scale).expect("linear");
    for (f, s) in fast.iter().zip(&slow) {
        assert_eq!(evaluator.info(f), evaluator.info(s));
        let (f, s) = (
            secret.decrypt(f).expect("degree"),
            secret.decrypt(s).expect("degree"),
        );
        let worst = f
            .iter()
            .zip(&s)
            .map(|(a, b)| (a - b).norm())
            .fold(0.0, f64::max);
        assert!(worst < 2f64.powi(-22), "{worst:e}");
    }
}

#[test]
fn what_a_half_bootstrap_means_is_what_its_circuit_computes() {
    let spec = ParametersSpec::toy_coefficients(9, 2).expect("a preset");
    let context = Context::new(&Parameters::new(spec).expect("toy"));
    let clear = Clear::new(&context, 3);
    let mut rng = ChaCha20Rng::seed_from_u64(13);
    for slots in [256, 32] {
        let v: Vec<f64> = (0..2 * slots).map(|_| 0.5 * unit(&mut rng)).collect();
        let x = clear.coefficients(&v, Level::new(0)).expect("fits");
        let h = HalfBootstrap {
            target: context.parameters().residual().index(),
        };
        let Parts { first, second } = clear.half_bootstrap(&x, &h).expect("meant");
        let circuit = h.apply(&clear, &x).expect("computed");
        assert_eq!(second.is_some(), circuit.second.is_some());
        let far = |a: &ckks::ClearValue, b: &ckks::ClearValue| {
            assert_eq!(a.info, b.info);
            (a.values.iter().zip(&b.values)).fold(0.0f64, |w, (a, b)| w.max((a - b).norm()))
        };
        assert!(far(&first, &circuit.first) < 2f64.powi(-26));
        if let (Some(a), Some(b)) = (second, circuit.second) {
            assert!(far(&a, &b) < 2f64.powi(-26));
        }
    }
}

#[test]
fn bootstraps_of_one_vector_and_of_two_agree_in_three_interpreters() {
    let parameters = Parameters::new(ParametersSpec::toy(10)).expect("toy");
    let context = Context::new(&parameters);
    let (floor, top) = (parameters.floor(), parameters.residual().index());
    assert_eq!((floor.index(), top), (3, 13));
    let mut rng = ChaCha20Rng::seed_from_u64(14);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let cases = [
        (512, top, 2.0, 2),
        (512, 7, 0.6, 1),
        (64, top, 1.0, 2),
        (64, top, 1.0, 1),
        (8, 9, 3.5, 2),
        (4, 9, 3.5, 1),
    ];
    for (slots, target, gain, vectors) in cases {
        let b = Bootstrap {
            slots,
            target,
            gain,
        };
        let mut random = || -> Vec<Complex64> {
            (0..slots)
                .map(|_| Complex64::new(0.5 * unit(&mut rng), 0.0))
                .collect()
        };
        let v = Parts {
            first: random(),
            second: (vectors == 2).then(random),
        };
        let meter = Meter::new(&context);
        let predicted = v.each(|_| meter.input(floor, slots, 0.5)).expect("fits");
        let predicted = meter.bootstrap(&predicted, &b).expect("meter");
        let clear = Clear::new(&context, 5);
        let meant = v.each(|v| clear.input(v, floor)).expect("fits");
        let computed = b.apply(&clear, &meant).expect("the circuit");
        let meant = clear.bootstrap(&meant, &b).expect("clear");
        let keys = secret.evaluation_keys(&meter.keys(), &mut rng);
        let evaluator = Evaluator::new(&context, keys.expect("keys"));
        let x = v.each(|v| {
            Ok(secret
                .encrypt(v, floor, &mut rng.clone())?
                .expand(&parameters))
        });
        let done = evaluator.bootstrap(&x.expect("fits"), &b);
        let done = done.expect("the meter's keys suffice");
        let all = (v.into_vec().into_iter())
            .zip(predicted.into_vec())
            .zip(meant.into_vec())
            .zip(computed.into_vec())
            .zip(done.into_vec());
        for ((((v, predicted), meant), computed), done) in all {
            let info = meter.info(&predicted);
            assert_eq!(info.scale, parameters.scale(Level::new(target)));
            let infos = [&meant, &computed].map(|x| clear.info(x));
            assert_eq!(
                [infos[0], infos[1], evaluator.info(&done)],
                [info; 3],
                "{b:?}"
            );
            let had = secret.decrypt(&done).expect("degree");
            let far = |had: &[Complex64], want: &[Complex64]| {
                (want.iter().zip(had)).fold(0.0f64, |w, (a, b)| w.max((a - b).norm()))
            };
            assert!(far(&computed.values, &meant.values) < 2f64.powi(-24));
            let (error, bound) = (far(&had, &meant.values), predicted.error_bound());
            // the sine's bias apart
            let wanted: Vec<Complex64> = v.iter().map(|z| z * gain).collect();
            let off = far(&had, &wanted);
            println!(
                "{vectors} of {slots} slots, gain {gain}: error 2^{:.2}, bound 2^{:.2}, with the bias 2^{:.2}",
                error.log2(),
                bound.log2(),
                off.log2()
            );
            assert!(error <= bound && off < 2f64.powi(-19) * gain.max(1.0));
        }
    }
    let low = secret.encrypt(&[Complex64::new(0.1, 0.0); 8], Level::new(0), &mut rng);
    let evaluator = Evaluator::new(&context, Default::default());
    let b = Bootstrap {
        slots: 8,
        target: top,
        gain: 1.0,
    };
    let low = Parts::one(low.expect("fits").expand(&parameters));
    let refused = evaluator.bootstrap(&low, &b);
    assert!(refused.is_err_and(|e| e.to_string().contains("level")));
}
