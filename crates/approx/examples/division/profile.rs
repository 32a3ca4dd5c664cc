//! How large a program's values are, and how much of an error in each arrives.

use super::{FIRST, Program, Step};
use std::f64::consts::PI;

/// For every value: (its largest magnitude, the largest relative change of the result per unit of error in it), with a numerator of 1,
/// on a grid of the interval. The first says how much room a ciphertext needs, the second how much of its noise arrives.
pub(crate) fn profile(program: &Program) -> Vec<(f64, f64)> {
    let steps = program.steps();
    let mut profile = vec![(0.0_f64, 0.0_f64); FIRST + steps.len()];
    let derivatives: Vec<_> = (steps.iter())
        .map(|step| match step {
            Step::Polynomial { polynomial, .. } => Some(polynomial.derivative()),
            _ => None,
        })
        .collect();
    let (low, high) = program.interval();
    let (middle, half) = ((high + low) / 2.0, (high - low) / 2.0);
    for i in 0..=2048 {
        let x = middle - half * (PI * f64::from(i) / 2048.0).cos();
        let values = program.values(1.0, x);
        // adjoints, from the last value back
        let mut slopes = vec![0.0; values.len()];
        if let (Some(slope), Some(value)) = (slopes.last_mut(), values.last()) {
            *slope = 1.0 / value;
        }
        for (i, step) in steps.iter().enumerate().rev() {
            let slope = slopes[FIRST + i];
            match step {
                Step::Polynomial { of, .. } => {
                    let derivative = derivatives[i].as_ref();
                    slopes[*of] += slope * derivative.map_or(0.0, |d| d.eval(values[*of]));
                }
                Step::Sum { terms, .. } => {
                    for &(c, v) in terms {
                        slopes[v] += slope * c;
                    }
                }
                Step::Multiply {
                    factor,
                    left,
                    right,
                    add,
                    ..
                } => {
                    let product = slope * f64::from(*factor);
                    slopes[*left] += product * values[*right];
                    slopes[*right] += product * values[*left];
                    for &(c, v) in add {
                        slopes[v] += slope * c;
                    }
                }
            }
        }
        for (most, (value, slope)) in profile.iter_mut().zip(values.iter().zip(&slopes)) {
            most.0 = most.0.max(value.abs());
            most.1 = most.1.max(slope.abs());
        }
    }
    profile
}
