//! Polynomials that an iteration starts from, minimax in the relative error.

use crate::error::Error;
use crate::least_squares::interpolate;
use crate::polynomial::{Polynomial, depth_of_degree};
use crate::remez::minimax_relative;
use crate::sup::proven_maximum;

/// Largest degree of a start.
pub const START_DEGREE_LIMIT: usize = 255;

/// Beyond, constants and values grow out of proportion to what doubles resolve.
pub(super) const BITS_LIMIT: f64 = 100.0;

/// The error 1/T_N(σ) = 1/cosh(Nθ) of the minimax polynomial of degree N − 1 for 1/x.
///
/// # Errors
/// [`Error::Precision`] below 2^−100.
pub(super) fn reciprocal_error(ratio: f64, n: f64) -> Result<f64, Error> {
    let error = (n * theta(ratio)).cosh().recip();
    let bits = -error.log2();
    if bits <= BITS_LIMIT {
        Ok(error)
    } else {
        Err(Error::Precision {
            bits,
            limit: BITS_LIMIT,
        })
    }
}

/// A polynomial in t ∈ [−1, 1] for a function of ξ = x/h ∈ [l/h, 1], and a proven bound of its relative error.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) polynomial: Polynomial,
    pub(super) error: f64,
}

/// ξ = middle + half·t.
pub(super) fn middle_and_half(ratio: f64) -> (f64, f64) {
    (0.5 * (1.0 + ratio), 0.5 * (1.0 - ratio))
}

/// θ = acosh((1 + ratio)/(1 − ratio)), without the cancellation near 1: cosh θ − 1 = 2·sinh²(θ/2).
pub(super) fn theta(ratio: f64) -> f64 {
    2.0 * (ratio / (1.0 - ratio)).sqrt().asinh()
}

/// For 1/ξ, in closed form: ξ·p = 1 − T_N(s)/T_N(σ) with N = degree + 1 and s = −t.
pub(super) fn reciprocal(ratio: f64, degree: usize) -> Result<Start, Error> {
    check(degree)?;
    let n = (degree + 1) as f64;
    let error = reciprocal_error(ratio, n)?;
    let (middle, half) = middle_and_half(ratio);
    let p = |t: f64| (1.0 - error * (n * (-t).acos()).cos()) / (middle + half * t);
    Ok(Start {
        polynomial: Polynomial::new(interpolate(p, (-1.0, 1.0), degree), (-1.0, 1.0))?,
        error,
    })
}

/// For 1/√ξ, by the exchange algorithm. In √ξ the error 1 − √ξ·p is a polynomial of degree 2·degree + 1, hence the bound.
pub(super) fn inverse_square_root(ratio: f64, degree: usize) -> Result<Start, Error> {
    check(degree)?;
    let (middle, half) = middle_and_half(ratio);
    let root = |t: f64| (middle + half * t).max(0.0).sqrt();
    let polynomial = minimax_relative(root, degree)?;
    let error = proven_maximum(
        |r| 1.0 - r * polynomial.eval((r * r - middle) / half),
        (ratio.sqrt(), 1.0),
        2 * degree + 1,
    );
    Ok(Start { polynomial, error })
}

fn check(degree: usize) -> Result<(), Error> {
    if degree <= START_DEGREE_LIMIT {
        Ok(())
    } else {
        Err(Error::Degree {
            method: "the start of an iteration",
            degree,
            limit: START_DEGREE_LIMIT,
        })
    }
}

/// Products of two values in evaluating a polynomial of this degree at its least depth: Paterson–Stockmeyer in the Chebyshev basis,
/// p = q·T_{2^k} + r, with the power of two of baby steps that has the fewest.
pub(super) fn products(degree: usize) -> usize {
    let depth = depth_of_degree(degree) as usize;
    (1..=depth.max(1))
        .map(|log_baby| {
            let baby = 1usize << log_baby;
            let babies = baby.min(degree + 1).saturating_sub(2);
            let giants = (log_baby..=depth)
                .filter(|&e| 1usize << e <= degree)
                .count();
            babies + giants + nodes(degree, baby, depth.saturating_sub(1))
        })
        .min()
        .unwrap_or(0)
}

/// Products of the recursion; `budget` levels may be consumed before the node's own.
fn nodes(degree: usize, baby: usize, budget: usize) -> usize {
    if degree < baby && (degree < 2 || depth_of_degree(degree - 1) as usize <= budget) {
        return 0;
    }
    let k = 1usize << degree.ilog2();
    1 + nodes(degree - k, baby, budget.saturating_sub(1)) + nodes(k - 1, baby, budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_small_degrees() {
        // 2: T_2. 3: T_2 and q·T_2. 7: T_2, T_4, and q·T_4 whose q and r have one product each, or T_2, T_3, T_4 and less.
        for (degree, count) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (7, 5)] {
            assert_eq!(products(degree), count, "degree {degree}");
        }
        assert!((1..255).all(|d| products(d) <= products(d + 1) + 4));
    }

    #[test]
    fn the_reciprocal_start_is_the_one_that_the_exchange_finds() {
        for (ratio, degree) in [(0.1, 3), (0.01, 10), (0.003, 31)] {
            let (middle, half) = middle_and_half(ratio);
            let a = reciprocal(ratio, degree).expect("closed form");
            let b = minimax_relative(|t| middle + half * t, degree).expect("converges");
            let scale = a.polynomial.sup_norm();
            for i in -50..=50 {
                let t = f64::from(i) / 50.0;
                let (a, b) = (a.polynomial.eval(t), b.eval(t));
                assert!(
                    (a - b).abs() < 1e-4 * scale,
                    "degree {degree} at {t}: {a} {b}"
                );
            }
        }
    }
}
