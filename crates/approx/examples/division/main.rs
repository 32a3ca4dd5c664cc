//! The tables of `docs/division.md`: what division and inverse square roots cost on an interval to a precision.

mod profile;

use polyveil_approx::iteration::{FIRST, Step, choose};
use polyveil_approx::{Activation, Function, Method, Program, remez};

const BITS: [f64; 3] = [10.0, 20.0, 30.0];

fn main() -> Result<(), polyveil_approx::Error> {
    println!("## Chosen\n");
    println!(
        "| function | interval | bits | method | levels | products | proven error | measured | valid from | largest value | noise gain |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for function in [
        Function::Reciprocal,
        Function::Quotient,
        Function::InverseSquareRoot,
        Function::RootQuotient,
    ] {
        for low in [1e-1, 1e-2, 1e-3, 1e-4] {
            for bits in BITS {
                let program = choose(function, (low, 1.0), bits, 40)?;
                row(&program, (low, bits));
            }
        }
    }
    println!("\n## Levels of every method for 1/x\n");
    println!(
        "| interval | bits | Goldschmidt | aSOR, one-sided | aSOR, centred | polynomial | polynomial 7, Newton | polynomial 7, relaxed Newton | least for any circuit |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for interval in [
        (1e-1, 1.0),
        (1e-2, 1.0),
        (1e-3, 1.0),
        (1e-3, 8.0),
        (1e-3, 64.0),
        (1e-3, 512.0),
        (1e-4, 1.0),
        (1e-6, 1.0),
    ] {
        for bits in BITS {
            let least = |method: &dyn Fn(u32) -> Method| {
                levels(Function::Reciprocal, interval, bits, method)
            };
            println!(
                "| [{}, {}] | {bits} | {} | {} | {} | {} | {} | {} | {} |",
                interval.0,
                interval.1,
                least(&|steps| Method::Goldschmidt { steps }),
                one_sided(interval, bits),
                least(&|steps| Method::OverRelaxation { start: 1, steps }),
                least(&|k| Method::Polynomial {
                    degree: (1 << k) - 1
                }),
                least(&|steps| Method::Newton { degree: 7, steps }),
                least(&|steps| Method::RelaxedNewton { degree: 7, steps }),
                least_of_any(interval, bits),
            );
        }
    }
    println!("\n## Levels of every method for 1/√x\n");
    println!(
        "| interval | bits | polynomial | degree 1, Newton | degree 1, relaxed Newton | degree 15, relaxed Newton | chosen |"
    );
    println!("|---|---|---|---|---|---|---|");
    for low in [1e-1, 1e-2, 1e-3, 1e-4] {
        for bits in BITS {
            let least = |method: &dyn Fn(u32) -> Method| {
                levels(Function::InverseSquareRoot, (low, 1.0), bits, method)
            };
            println!(
                "| [{low}, 1] | {bits} | {} | {} | {} | {} | {} |",
                least(&|k| Method::Polynomial {
                    degree: (1 << k) - 1
                }),
                least(&|steps| Method::Newton { degree: 1, steps }),
                least(&|steps| Method::RelaxedNewton { degree: 1, steps }),
                least(&|steps| Method::RelaxedNewton { degree: 15, steps }),
                choose(Function::InverseSquareRoot, (low, 1.0), bits, 40)?.depth(),
            );
        }
    }
    println!("\n## Precision within a budget, [0.001, 1]\n");
    println!("| levels | 1/x: bits | 1/√x: bits |");
    println!("|---|---|---|");
    for budget in 3..=10 {
        println!(
            "| {budget} | {} | {} |",
            within(Function::Reciprocal, budget),
            within(Function::InverseSquareRoot, budget)
        );
    }
    println!("\n## Normalisation: a/√x where x is a variance plus ε\n");
    println!("| largest/least variance | bits | method | levels with the square | products |");
    println!("|---|---|---|---|---|");
    for ratio in [4.0, 16.0, 100.0, 1000.0] {
        for bits in [8.0, 12.0, 16.0] {
            let p = choose(Function::RootQuotient, (1.0, ratio), bits, 40)?;
            println!(
                "| {ratio} | {bits} | {} | {} | {} |",
                p.method(),
                p.depth() + 1,
                p.multiplications() + 1
            );
        }
    }
    println!("\n## GELU and SiLU by minimax polynomials\n");
    println!("| function | interval | degree 3 (2 levels) | 7 (3) | 15 (4) | 31 (5) |");
    println!("|---|---|---|---|---|---|");
    for f in [Activation::Gelu, Activation::Silu] {
        for range in [2.0, 4.0, 8.0, 16.0] {
            let error =
                |degree| remez(|x| f.value(x), (-range, range), degree).map(|a| a.sup_error);
            println!(
                "| {f} | [−{range}, {range}] | {:.1e} | {:.1e} | {:.1e} | {:.1e} |",
                error(3)?,
                error(7)?,
                error(15)?,
                error(31)?
            );
        }
    }
    Ok(())
}

fn row(program: &Program, (asked, bits): (f64, f64)) {
    let (low, high) = program.interval();
    let measured = (0..=200_000)
        .map(|i| f64::from(i) / 200_000.0)
        // evenly, and evenly in the logarithm
        .flat_map(|i| [low + i * (high - low), low * (high / low).powf(i)])
        .map(|x| (1.0 - program.eval(x) / program.function().value(x)).abs())
        .fold(0.0, f64::max);
    let profile = profile::profile(program);
    let largest = profile.iter().map(|p| p.0).fold(0.0, f64::max);
    let gain = profile.iter().map(|p| p.1).fold(0.0, f64::max);
    println!(
        "| {} | [{asked}, {high}] | {bits} | {} | {} | {} | {:.2e} | {measured:.2e} | {low:.1e} | {largest:.0e} | {gain:.0e} |",
        program.function().name(),
        program.method(),
        program.depth(),
        program.multiplications(),
        program.error(),
    );
}

/// The depth of the shallowest of these methods that reaches the precision; – where none does.
fn levels(
    function: Function,
    interval: (f64, f64),
    bits: f64,
    method: &dyn Fn(u32) -> Method,
) -> String {
    (1..=30)
        .map_while(|k| match method(k) {
            Method::Polynomial { degree } if degree > 255 => None,
            method => Some(Program::new(function, interval, method)),
        })
        .flatten()
        .find(|p| p.bits() >= bits)
        .map_or_else(|| "–".into(), |p| p.depth().to_string())
}

/// Iterations of x ← κx(2 − κx), κ = 2/(1 + ε), ε ← κε(2 − κε), until 1 − ε is small: adaptive relaxation as published.
fn one_sided((low, high): (f64, f64), bits: f64) -> u32 {
    let mut epsilon = low / high;
    let mut steps = 0;
    while 1.0 - epsilon > (-bits).exp2() {
        let k = 2.0 / (1.0 + epsilon);
        epsilon *= k * (2.0 - k * epsilon);
        steps += 1;
    }
    steps
}

/// k levels give polynomials of degree at most 2^k, whose error is at least 1/T_(2^k + 1)(σ).
fn least_of_any((low, high): (f64, f64), bits: f64) -> u32 {
    let theta = 2.0 * (low / (high - low)).sqrt().asinh();
    (0..)
        .find(|&k| ((f64::from(k).exp2() + 1.0) * theta).cosh() >= bits.exp2())
        .unwrap_or(0)
}

fn within(function: Function, budget: u32) -> String {
    match choose(function, (1e-3, 1.0), 40.0, budget) {
        Err(polyveil_approx::Error::Unreachable { best, .. }) => format!("{best:.1}"),
        Err(error) => error.to_string(),
        Ok(_) => "over 40".into(),
    }
}
