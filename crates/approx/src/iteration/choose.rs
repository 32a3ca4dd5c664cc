//! The method with the fewest levels, then the fewest products.

use super::build::Builder;
use super::start::{START_DEGREE_LIMIT, products, theta};
use super::{Function, Method, Program};
use crate::error::Error;

/// Above, the rounding of doubles shows.
const BITS_LIMIT: f64 = 40.0;
/// More is no use: 2^−40 on [2^−60, 1] takes 36 levels.
const DEPTH_LIMIT: u32 = 40;

/// The program of least depth, of those the one with the fewest products, of those the one with the least error, whose relative error on
/// the interval is proven to be at most 2^−bits and whose depth is at most `budget` levels.
///
/// Its interval holds the one asked for and reaches below it where that costs nothing. Of the starts of one depth, one with the fewest
/// products that suffices is taken. Cost: about a millisecond for quotients, up to a second for roots on wide intervals, whose starts come
/// from the exchange algorithm. (Function, interval, method) make the same program again: [`Program::new`].
///
/// # Errors
/// [`Error::Positive`] unless 0 < low < high, [`Error::Precision`] unless 0 < bits ≤ 40, [`Error::Unreachable`] with the levels needed and
/// the precision at hand.
pub fn choose(
    function: Function,
    interval: (f64, f64),
    bits: f64,
    budget: u32,
) -> Result<Program, Error> {
    let mut builder = Builder::new(function, interval)?;
    if !(bits > 0.0 && bits <= BITS_LIMIT) {
        return Err(Error::Precision {
            bits,
            limit: BITS_LIMIT,
        });
    }
    let tolerance = (-bits).exp2();
    let methods = if function.has_root() {
        root_methods(&mut builder, tolerance)
    } else {
        quotient_methods(builder.ratio(), bits)
    };
    let best = methods
        .into_iter()
        .filter_map(|m| builder.build(m).ok())
        .filter(|p| p.error() <= tolerance)
        .min_by(|p, q| {
            (p.depth(), p.multiplications())
                .cmp(&(q.depth(), q.multiplications()))
                .then(p.error().total_cmp(&q.error()))
        });
    match best {
        Some(program) if program.depth() <= budget => Ok(widened(program, bits)),
        other => Err(Error::Unreachable {
            function: function.name(),
            low: interval.0,
            high: interval.1,
            bits,
            budget,
            needed: other.map(|p| p.depth()),
            best: best_bits(&mut builder, budget),
        }),
    }
}

/// An over-relaxed program that is more precise than asked for, on the wider interval on which it is as precise as asked for: same steps,
/// smaller constants, so smaller values, and x may fall below its lower end.
fn widened(program: Program, bits: f64) -> Program {
    let Method::OverRelaxation { start, steps } = program.method() else {
        return program;
    };
    let n = start as f64 * f64::from(steps).exp2();
    // a little less wide, for rounding
    let theta = bits.exp2().acosh() / n * (1.0 + 1e-9);
    let high = program.interval().1;
    // cosh θ = (1 + ratio)/(1 − ratio)
    let low = high * (0.5 * theta).tanh().powi(2);
    match Program::new(program.function(), (low, high), program.method()) {
        Ok(wide) if low < program.interval().0 && wide.bits() >= bits => wide,
        _ => program,
    }
}

/// Every way to 2^−bits: with `needed` = N of the least degree N − 1 that any polynomial of that precision has.
fn quotient_methods(ratio: f64, bits: f64) -> Vec<Method> {
    let needed = ((bits.exp2()).acosh() / theta(ratio)).ceil().max(1.0);
    let plain = (bits * std::f64::consts::LN_2 / -((1.0 - ratio) / (1.0 + ratio)).ln()).max(1.0);
    let doublings = |n: f64| n.log2().ceil().clamp(0.0, f64::from(DEPTH_LIMIT)) as u32;
    let mut methods = vec![
        Method::OverRelaxation {
            start: 1,
            steps: doublings(needed).max(1),
        },
        Method::OverRelaxation {
            start: 3,
            steps: doublings(needed / 3.0),
        },
        Method::Goldschmidt {
            steps: doublings(plain).max(1),
        },
    ];
    if needed <= (START_DEGREE_LIMIT + 1) as f64 {
        let least = needed as usize - 1;
        let largest = (least + 1).next_power_of_two() - 1;
        let degree = (least..=largest).min_by_key(|&d| products(d));
        methods.extend(degree.map(|degree| Method::Polynomial { degree }));
    }
    // a step doubles N as well, but in two levels
    for steps in 1..=doublings(needed).clamp(1, 20) {
        let start = (needed * (-f64::from(steps)).exp2()).ceil();
        if (2.0..=(START_DEGREE_LIMIT + 1) as f64).contains(&start) {
            methods.push(Method::RelaxedNewton {
                degree: start as usize - 1,
                steps,
            });
        }
    }
    methods
}

/// For every number of Newton's steps that the least depth leaves room for, the start with the fewest products.
fn root_methods(builder: &mut Builder, tolerance: f64) -> Vec<Method> {
    let method = |degree, steps| match steps {
        0 => Method::Polynomial { degree },
        _ => Method::RelaxedNewton { degree, steps },
    };
    let largest = |levels: u32| (1usize << levels) - 1;
    // a polynomial alone does not carry a numerator along
    let product = u32::from(builder.has_numerator());
    let depth = |steps, levels| levels + if steps == 0 { product } else { 2 * steps };
    let mut reaches = |degree, steps| {
        builder
            .build(method(degree, steps))
            .is_ok_and(|p| p.error() <= tolerance)
    };
    // (steps, levels of the start). From many steps on: small starts, which are quick to make, bound what large ones are worth trying.
    let mut found: Vec<(u32, u32)> = Vec::new();
    let mut shallowest = DEPTH_LIMIT;
    for steps in (0..=DEPTH_LIMIT / 2).rev() {
        let levels = (1..=8)
            .take_while(|&levels| depth(steps, levels) <= shallowest)
            .find(|&levels| reaches(largest(levels), steps));
        if let Some(levels) = levels {
            shallowest = depth(steps, levels);
            found.push((steps, levels));
        }
    }
    found.retain(|&(steps, levels)| depth(steps, levels) == shallowest);
    found
        .into_iter()
        .map(|(steps, levels)| {
            // the least degree of those levels that reaches, then a larger one where that has fewer products
            let (mut fails, mut passes) = (largest(levels - 1), largest(levels));
            while passes - fails > 1 {
                let middle = fails + (passes - fails) / 2;
                *(if reaches(middle, steps) {
                    &mut passes
                } else {
                    &mut fails
                }) = middle;
            }
            let degree = (passes..=largest(levels)).min_by_key(|&d| products(d));
            method(degree.unwrap_or(passes), steps)
        })
        .collect()
}

/// The highest precision within a number of levels; 0 for none.
fn best_bits(builder: &mut Builder, budget: u32) -> f64 {
    let budget = budget.min(DEPTH_LIMIT);
    let mut methods = vec![Method::Polynomial { degree: 0 }];
    for steps in 0..=budget {
        methods.push(Method::OverRelaxation { start: 1, steps });
        if 2 * steps <= budget {
            // one level less for the product with a numerator that a polynomial alone takes
            for levels in [budget - 2 * steps, (budget - 2 * steps).saturating_sub(1)] {
                let degree = (1usize << levels.min(8)) - 1;
                methods.push(match steps {
                    0 => Method::Polynomial { degree },
                    _ => Method::RelaxedNewton { degree, steps },
                });
            }
        }
    }
    methods
        .into_iter()
        .filter_map(|m| builder.build(m).ok())
        .filter(|p| p.depth() <= budget)
        .map(|p| p.bits())
        .fold(0.0, f64::max)
}
