#[path = "../../examples/division/profile.rs"]
mod profile;

use super::*;
use crate::Error;
use crate::sup::chebyshev_grid;
use profile::profile;

const ALL: [Function; 4] = [
    Function::Reciprocal,
    Function::Quotient,
    Function::InverseSquareRoot,
    Function::RootQuotient,
];

/// Largest relative error on a dense grid: evenly and evenly in the logarithm, ends included.
fn measured(p: &Program) -> f64 {
    let (low, high) = p.interval();
    (0..=20_000)
        .map(|i| f64::from(i) / 20_000.0)
        .flat_map(|i| {
            [
                low + i * (high - low),
                low * (high / low).powf(i).min(high / low),
            ]
        })
        .map(|x| (1.0 - p.eval(x) / p.function().value(x)).abs())
        .fold(0.0, f64::max)
}

/// What rounding in f64 can add, to first order: a few units in the last place of every value, times the degree for polynomials.
fn rounding(p: &Program) -> f64 {
    let profile = profile(p);
    let degrees = p.steps().iter().map(|step| match step {
        Step::Polynomial { polynomial, .. } => polynomial.degree(),
        _ => 0,
    });
    let sum: f64 = profile
        .iter()
        .zip([0, 0].into_iter().chain(degrees))
        .map(|((value, gain), degree)| value * gain * (degree + 1) as f64)
        .sum();
    16.0 * f64::EPSILON * sum
}

fn methods(function: Function) -> Vec<Method> {
    let mut methods = vec![
        Method::Polynomial { degree: 0 },
        Method::Polynomial { degree: 1 },
        Method::Polynomial { degree: 12 },
        Method::Polynomial { degree: 63 },
        Method::RelaxedNewton {
            degree: 1,
            steps: 1,
        },
        Method::RelaxedNewton {
            degree: 3,
            steps: 4,
        },
        Method::RelaxedNewton {
            degree: 20,
            steps: 2,
        },
        Method::Newton {
            degree: 7,
            steps: 1,
        },
        Method::Newton {
            degree: 20,
            steps: 3,
        },
    ];
    if !function.has_root() {
        methods.extend((1..=9).map(|steps| Method::OverRelaxation { start: 1, steps }));
        methods.extend((0..=7).map(|steps| Method::OverRelaxation { start: 3, steps }));
        methods.extend((1..=14).map(|steps| Method::Goldschmidt { steps }));
    }
    methods
}

#[test]
fn no_error_exceeds_its_bound_and_bounds_are_tight() {
    for function in ALL {
        for interval in [
            (0.4, 0.5),
            (0.1, 1.0),
            (0.01, 1.0),
            (2e-3, 3.0),
            (50.0, 9000.0),
        ] {
            for method in methods(function) {
                let p = match Program::new(function, interval, method) {
                    Ok(p) => p,
                    // plain Newton from too far away
                    Err(Error::Method { .. }) => {
                        assert!(matches!(method, Method::Newton { .. }) && function.has_root());
                        continue;
                    }
                    Err(Error::Precision { bits, .. }) => {
                        assert!(bits > 100.0 && !function.has_root());
                        continue;
                    }
                    Err(e) => panic!("{method} on {interval:?}: {e}"),
                };
                let (bound, measured, rounding) = (p.error(), measured(&p), rounding(&p));
                let name = format!("{} on {interval:?} by {method}", function.name());
                assert!(
                    measured <= bound * (1.0 + 1e-9) + rounding,
                    "{name}: {measured} > {bound}"
                );
                // the start's bound is at most 0.5 % too large, which every step of Newton's doubles
                let slack = match method {
                    Method::Newton { steps, .. } | Method::RelaxedNewton { steps, .. } => {
                        0.006 * f64::from(steps).exp2()
                    }
                    _ => 0.006,
                };
                if bound > 1e-10 {
                    assert!(
                        measured > (1.0 - slack) * bound,
                        "{name}: {measured} ≪ {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn steps_use_values_that_exist_and_the_input_stays_in_its_interval() {
    for function in ALL {
        for method in methods(function) {
            let Ok(p) = Program::new(function, (0.02, 2.0), method) else {
                continue;
            };
            for x in [0.02, 2.0] {
                assert!(
                    (p.input().0 * x + p.input().1).abs() <= 1.0 + 1e-12,
                    "{method}"
                );
            }
            for (i, step) in p.steps().iter().enumerate() {
                let here = FIRST + i;
                let terms = match step {
                    Step::Polynomial { of, polynomial } => {
                        assert_eq!(polynomial.interval(), (-1.0, 1.0));
                        vec![*of]
                    }
                    Step::Sum { terms, .. } => terms.iter().map(|t| t.1).collect(),
                    Step::Multiply {
                        left, right, add, ..
                    } => {
                        let mut values: Vec<usize> = add.iter().map(|t| t.1).collect();
                        values.extend([*left, *right]);
                        values
                    }
                };
                assert!(terms.iter().all(|&v| v < here), "{method}, step {i}");
                assert!(function.has_numerator() || !terms.contains(&NUMERATOR));
            }
        }
    }
}

#[test]
fn a_numerator_changes_the_result_by_its_factor_and_iterations_carry_it_for_no_level() {
    for (one, joint) in [
        (Function::Reciprocal, Function::Quotient),
        (Function::InverseSquareRoot, Function::RootQuotient),
    ] {
        for method in methods(one) {
            let (Ok(one), Ok(joint)) = (
                Program::new(one, (0.05, 1.0), method),
                Program::new(joint, (0.05, 1.0), method),
            ) else {
                continue;
            };
            assert_eq!(one.error(), joint.error());
            for (a, x) in [(0.7, 0.05), (-3.0, 0.4), (0.01, 1.0)] {
                let (expected, got) = (a * one.eval(x), joint.eval_quotient(a, x));
                assert!(
                    (expected - got).abs() <= 1e-9 * expected.abs(),
                    "{method} at {a}, {x}: {expected} and {got}"
                );
            }
            let more = joint.depth() - one.depth();
            let start_alone = match method {
                Method::Polynomial { .. } => true,
                // affine or quadratic in x: free, or one level below its ⌈log2⌉
                Method::OverRelaxation { start, steps } => start.ilog2() + steps < 2,
                Method::Goldschmidt { steps } => steps == 1,
                _ => false,
            };
            assert_eq!(more, u32::from(start_alone), "{method}");
        }
    }
}

#[test]
fn depths_and_products() {
    let cost = |function, method| {
        let p = Program::new(function, (1e-3, 1.0), method).expect("known");
        (p.depth(), p.multiplications())
    };
    let (one, joint) = (Function::Reciprocal, Function::Quotient);
    for steps in 2..10 {
        let products = 2 * steps as usize - 2;
        for method in [
            Method::OverRelaxation { start: 1, steps },
            Method::Goldschmidt { steps },
        ] {
            assert_eq!(cost(one, method), (steps, products));
            assert_eq!(cost(joint, method), (steps, products + 1));
        }
        // N = 3·2^(steps − 2) saves one product
        let three = Method::OverRelaxation {
            start: 3,
            steps: steps - 1,
        };
        assert_eq!(cost(one, three), (steps + 1, products + 1));
    }
    let root = Function::InverseSquareRoot;
    for (method, levels, products) in [
        (Method::Polynomial { degree: 7 }, 3, 5),
        (
            Method::RelaxedNewton {
                degree: 7,
                steps: 1,
            },
            5,
            8,
        ),
        (
            Method::RelaxedNewton {
                degree: 7,
                steps: 3,
            },
            9,
            14,
        ),
        (
            Method::RelaxedNewton {
                degree: 1,
                steps: 2,
            },
            5,
            6,
        ),
    ] {
        assert_eq!(cost(root, method), (levels, products), "{method}");
    }
    assert_eq!(
        cost(
            one,
            Method::Newton {
                degree: 7,
                steps: 2
            }
        ),
        (7, 9)
    );
}

/// Iterations of x ← κx(2 − κx), κ = 2/(1 + ε), the adaptive relaxation as published, until 1 − ε ≤ 2^−bits.
fn one_sided(ratio: f64, bits: f64) -> u32 {
    let (mut epsilon, mut steps) = (ratio, 0);
    while 1.0 - epsilon > (-bits).exp2() {
        let k = 2.0 / (1.0 + epsilon);
        epsilon *= k * (2.0 - k * epsilon);
        steps += 1;
    }
    steps
}

#[test]
fn levels_of_division_by_goldschmidt_and_by_adaptive_relaxation() {
    let least = |interval, bits, method: &dyn Fn(u32) -> Method| {
        (1..40)
            .map(|k| Program::new(Function::Reciprocal, interval, method(k)).expect("builds"))
            .find(|p| p.bits() >= bits)
            .expect("reaches")
            .depth()
    };
    // interval, bits, Goldschmidt, aSOR as published (one-sided), aSOR centred
    for (interval, bits, plain, published, centred) in [
        ((1e-3, 1.0), 10.0, 12, 8, 7),
        ((1e-3, 1.0), 20.0, 13, 8, 8),
        ((1e-3, 1.0), 30.0, 14, 9, 9),
        ((1e-2, 1.0), 10.0, 9, 6, 6),
        ((1e-2, 1.0), 20.0, 10, 7, 7),
        ((1e-2, 1.0), 30.0, 11, 7, 7),
        ((1e-1, 1.0), 10.0, 6, 4, 4),
        ((1e-1, 1.0), 20.0, 7, 5, 5),
        ((1e-1, 1.0), 30.0, 7, 6, 6),
        ((1e-3, 8.0), 10.0, 15, 9, 9),
        ((1e-3, 64.0), 10.0, 18, 11, 10),
        ((1e-3, 512.0), 10.0, 21, 12, 12),
        ((1e-3, 512.0), 20.0, 22, 13, 13),
        ((1e-4, 1.0), 10.0, 16, 9, 9),
        ((1e-6, 1.0), 10.0, 22, 13, 12),
    ] {
        assert_eq!(
            least(interval, bits, &|steps| Method::Goldschmidt { steps }),
            plain
        );
        assert_eq!(one_sided(interval.0 / interval.1, bits), published);
        let relaxed = least(interval, bits, &|steps| Method::OverRelaxation {
            start: 1,
            steps,
        });
        assert_eq!(relaxed, centred);
        // nothing is shallower
        let chosen = choose(Function::Reciprocal, interval, bits, 40).expect("reaches");
        assert_eq!(chosen.depth(), centred, "{interval:?}, {bits} bits");
    }
}

#[test]
fn over_relaxation_is_the_minimax_polynomial_and_the_published_recurrence() {
    for (low, steps) in [(0.3, 3u32), (0.01, 6), (1e-3, 7)] {
        let p = Program::new(
            Function::Reciprocal,
            (low, 1.0),
            Method::OverRelaxation { start: 1, steps },
        )
        .expect("builds");
        let q = Method::Polynomial {
            degree: (1 << steps) - 1,
        };
        let q = Program::new(Function::Reciprocal, (low, 1.0), q).expect("builds");
        let mut epsilon = low;
        let (mut y_at, mut x_at) = (vec![1.0; 101], Vec::new());
        let grid: Vec<f64> = (0..=100)
            .map(|i| low + (1.0 - low) * f64::from(i) / 100.0)
            .collect();
        x_at.extend(grid.iter().copied());
        for _ in 0..steps {
            let k = 2.0 / (1.0 + epsilon);
            for (y, d) in y_at.iter_mut().zip(&mut x_at) {
                *y *= k * (2.0 - k * *d);
                *d *= k * (2.0 - k * *d);
            }
            epsilon *= k * (2.0 - k * epsilon);
        }
        // one-sided: d in [ε, 1]; ours is that over the middle
        let middle = 0.5 * (1.0 + epsilon);
        for (x, y) in grid.iter().zip(&y_at) {
            let (ours, published) = (p.eval(*x), y / middle);
            assert!(
                (ours - published).abs() < 1e-9 * published,
                "{x}: {ours} {published}"
            );
            assert!((ours - q.eval(*x)).abs() < 1e-9 * ours);
        }
        assert!(((1.0 - epsilon) / (1.0 + epsilon) - p.error()).abs() < 1e-9);
    }
}

#[test]
fn chosen_programs_keep_every_promise() {
    for function in ALL {
        let mut former = 0;
        for low in [0.1, 1e-2, 1e-3] {
            let mut shallowest = 0;
            for bits in [10.0, 20.0, 30.0] {
                let p = choose(function, (low, 1.0), bits, 40).expect("reaches");
                let name = format!(
                    "{} on [{low}, 1] to {bits}: {}",
                    function.name(),
                    p.method()
                );
                assert!(p.bits() >= bits, "{name}");
                assert!(p.interval().0 <= low && p.interval().1 == 1.0, "{name}");
                assert!(
                    measured(&p) <= p.error() * (1.0 + 1e-9) + rounding(&p),
                    "{name}"
                );
                // more precision or a wider interval never takes fewer levels
                assert!(p.depth() >= shallowest, "{name}");
                shallowest = p.depth();
                if bits == 10.0 {
                    assert!(p.depth() >= former, "{name}");
                    former = p.depth();
                }
                if bits != 20.0 {
                    continue;
                }
                // a larger budget changes nothing, a smaller one is refused with what it needs and what there is
                let same = choose(function, (low, 1.0), bits, p.depth()).expect("enough");
                assert_eq!(same, p);
                let mut last = f64::INFINITY;
                for budget in [p.depth() - 1, p.depth() - 3, 0] {
                    let Err(Error::Unreachable { needed, best, .. }) =
                        choose(function, (low, 1.0), bits, budget)
                    else {
                        panic!("{name}: no refusal at {budget}");
                    };
                    assert_eq!(needed, Some(p.depth()));
                    assert!(best < bits && best < last, "{name} at {budget}: {best}");
                    last = best;
                }
            }
        }
    }
}

#[test]
fn what_a_refusal_offers_is_to_be_had() {
    for function in ALL {
        let Err(Error::Unreachable { best, .. }) = choose(function, (1e-3, 1.0), 20.0, 6) else {
            panic!("20 bits in 6 levels");
        };
        let p = choose(function, (1e-3, 1.0), best - 1e-6, 6).expect("offered");
        assert!(p.depth() <= 6 && (p.bits() - best).abs() < 1e-3);
        assert!(choose(function, (1e-3, 1.0), best + 1e-6, 6).is_err());
    }
}

#[test]
fn no_method_of_least_depth_has_fewer_products() {
    for (function, interval, bits) in [
        (Function::Reciprocal, (0.1, 1.0), 9.0),
        (Function::Quotient, (0.01, 1.0), 14.0),
        (Function::InverseSquareRoot, (0.1, 1.0), 14.0),
        (Function::InverseSquareRoot, (0.02, 1.0), 10.0),
        (Function::RootQuotient, (0.1, 1.0), 30.0),
        (Function::RootQuotient, (0.01, 1.0), 10.0),
    ] {
        let chosen = choose(function, interval, bits, 40).expect("reaches");
        let mut all: Vec<Method> = (0..64)
            .map(|degree| Method::Polynomial { degree })
            .collect();
        for steps in 0..8 {
            all.extend([1, 3].map(|start| Method::OverRelaxation { start, steps }));
            all.extend((1..32).map(|degree| Method::RelaxedNewton { degree, steps }));
            all.extend((1..32).map(|degree| Method::Newton { degree, steps }));
        }
        let best = all
            .into_iter()
            .filter_map(|m| Program::new(function, interval, m).ok())
            .filter(|p| p.bits() >= bits)
            .map(|p| (p.depth(), p.multiplications()))
            .min()
            .expect("some");
        assert_eq!((chosen.depth(), chosen.multiplications()), best);
    }
}

#[test]
fn the_profile_bounds_what_noise_does() {
    for function in [Function::Reciprocal, Function::InverseSquareRoot] {
        let p = choose(function, (0.01, 1.0), 20.0, 40).expect("reaches");
        let (largest, gain) = profile(&p)[INPUT];
        assert!((largest - 1.0).abs() < 1e-9);
        // the slope of ln y in v0 by difference quotients, largest at the lower end
        let (low, scale) = (p.interval().0, p.input().0);
        let h = 1e-6 * low;
        let slope = (p.eval(low + h) / p.eval(low)).ln() / (h * scale);
        assert!(
            (slope.abs() / gain - 1.0).abs() < 1e-3,
            "{slope} and {gain}"
        );
    }
    // every step: an error in its value, put into its constant
    let relaxed = Method::RelaxedNewton {
        degree: 3,
        steps: 3,
    };
    for p in [
        choose(Function::Reciprocal, (0.01, 1.0), 20.0, 40).expect("reaches"),
        Program::new(Function::Reciprocal, (0.05, 1.0), relaxed).expect("builds"),
        Program::new(Function::InverseSquareRoot, (0.05, 1.0), relaxed).expect("builds"),
    ] {
        let profile = profile(&p);
        for (i, &(largest, gain)) in profile[FIRST..].iter().enumerate() {
            let delta = 1e-7 * largest.min(1.0 / gain);
            let mut noisy = p.clone();
            match &mut noisy.steps[i] {
                Step::Polynomial { polynomial, .. } => {
                    *polynomial = polynomial.then_affine(1.0, delta).expect("finite");
                }
                Step::Sum { constant, .. } | Step::Multiply { constant, .. } => *constant += delta,
            }
            let measured = chebyshev_grid(p.interval(), 2048)
                .into_iter()
                .map(|x| (noisy.eval(x) / p.eval(x) - 1.0).abs() / delta)
                .fold(0.0, f64::max);
            assert!(
                (measured / gain - 1.0).abs() < 1e-2,
                "{}, step {i}: {measured} and {gain}",
                p.method()
            );
        }
    }
    // Newton's steps correct what came before them: the start's error arrives squared, far below its own size
    let gain_of_start = |degree, steps| {
        let method = Method::RelaxedNewton { degree, steps };
        let p = Program::new(Function::InverseSquareRoot, (0.1, 1.0), method).expect("builds");
        profile(&p)[FIRST].1
    };
    assert!(gain_of_start(15, 1) < 1e-3);
    assert!(gain_of_start(3, 1) > gain_of_start(7, 1));
}

#[test]
fn every_refusal() {
    let new = Program::new;
    let one = Function::Reciprocal;
    let polynomial = Method::Polynomial { degree: 3 };
    for interval in [
        (0.0, 1.0),
        (-1.0, 1.0),
        (1.0, 1.0),
        (2.0, 1.0),
        (1.0, f64::INFINITY),
        (f64::NAN, 1.0),
        (1e-300, 1e300),
    ] {
        assert!(matches!(
            new(one, interval, polynomial),
            Err(Error::Positive { .. })
        ));
        assert!(matches!(
            choose(one, interval, 10.0, 9),
            Err(Error::Positive { .. })
        ));
    }
    for bits in [0.0, -1.0, 41.0, f64::NAN] {
        assert!(matches!(
            choose(one, (0.1, 1.0), bits, 9),
            Err(Error::Precision { .. })
        ));
    }
    for (function, method) in [
        (
            Function::InverseSquareRoot,
            Method::Goldschmidt { steps: 3 },
        ),
        (
            Function::RootQuotient,
            Method::OverRelaxation { start: 1, steps: 3 },
        ),
        (one, Method::Goldschmidt { steps: 0 }),
        (one, Method::OverRelaxation { start: 1, steps: 0 }),
        (one, Method::OverRelaxation { start: 2, steps: 3 }),
        (
            one,
            Method::RelaxedNewton {
                degree: 0,
                steps: 3,
            },
        ),
        (
            one,
            Method::Newton {
                degree: 3,
                steps: 0,
            },
        ),
        // starts at w up to 1.9, beyond √3
        (
            Function::InverseSquareRoot,
            Method::Newton {
                degree: 1,
                steps: 2,
            },
        ),
    ] {
        assert!(
            matches!(
                new(function, (1e-4, 1.0), method),
                Err(Error::Method { .. })
            ),
            "{method}"
        );
    }
    for method in [
        Method::Polynomial { degree: 200 },
        Method::OverRelaxation { start: 1, steps: 9 },
    ] {
        assert!(matches!(
            new(one, (0.4, 0.5), method),
            Err(Error::Precision { .. })
        ));
    }
    assert!(matches!(
        new(one, (0.1, 1.0), Method::Polynomial { degree: 256 }),
        Err(Error::Degree { .. })
    ));
    let message = choose(one, (1e-3, 1.0), 20.0, 6)
        .expect_err("too few")
        .to_string();
    assert_eq!(
        message,
        "1/x on [0.001, 1] to 20 bits needs 8 levels, 6 are left; 6 give 4.8 bits: bootstrap before, raise 0.001, or ask for less"
    );
    let message = choose(one, (1e-30, 1.0), 20.0, 6)
        .expect_err("too wide")
        .to_string();
    assert!(
        message.contains("more levels than any method here"),
        "{message}"
    );
}
