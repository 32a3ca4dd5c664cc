//! Least squares in the Chebyshev basis: at Chebyshev nodes, or weighted by where the data lies.

use crate::error::Error;
use crate::polynomial::{
    Polynomial, chebyshev_polynomials, check_degree, check_interval, half_and_middle,
};
use crate::sup::Approximation;

/// Largest degree that [`chebyshev_least_squares`] accepts.
pub const CHEBYSHEV_DEGREE_LIMIT: usize = 4095;
/// Largest degree that [`weighted_least_squares`] accepts.
pub const WEIGHTED_DEGREE_LIMIT: usize = 255;

impl Polynomial {
    /// The same polynomial written in the basis of another interval.
    ///
    /// # Errors
    /// [`Error::Interval`] unless the new ends are finite and increasing; [`Error::Coefficient`] on overflow.
    pub fn on_interval(&self, interval: (f64, f64)) -> Result<Self, Error> {
        check_interval(interval)?;
        let coefficients = interpolate(|x| self.eval(x), interval, self.degree());
        Self::new(coefficients, interval)
    }
}

/// The polynomial of this degree that is nearest to `f` in the Chebyshev-weighted square mean: `f` is sampled at
/// `max(4·(degree + 1), 512)` Chebyshev nodes and its discrete Chebyshev series truncated. Near-minimax for smooth `f`.
///
/// # Errors
/// [`Error::Interval`], [`Error::Degree`] above [`CHEBYSHEV_DEGREE_LIMIT`], [`Error::Function`] where `f` isn't finite.
pub fn chebyshev_least_squares(
    f: impl Fn(f64) -> f64,
    interval: (f64, f64),
    degree: usize,
) -> Result<Approximation, Error> {
    check_interval(interval)?;
    check_degree("chebyshev_least_squares", degree, CHEBYSHEV_DEGREE_LIMIT)?;
    let nodes = (4 * (degree + 1)).max(512);
    let mut coefficients = discrete_chebyshev(&f, interval, nodes, degree);
    if let Some(x) = node_points(interval, nodes).find(|&x| !f(x).is_finite()) {
        return Err(Error::Function { x, value: f(x) });
    }
    coefficients.truncate(degree + 1);
    Approximation::measure(f, Polynomial::new(coefficients, interval)?, None)
}

/// The polynomial of this degree that minimises `Σ w_i (f(x_i) − p(x_i))²` over the `samples` `(x_i, w_i)` inside the interval.
///
/// Give a density of the data mixed with a floor over the whole interval: without the floor nothing holds the polynomial where
/// there is no data. Solved by Householder QR in the Chebyshev basis.
///
/// # Errors
/// [`Error::Interval`], [`Error::Degree`] above [`WEIGHTED_DEGREE_LIMIT`], [`Error::Samples`] when the samples do not determine the
/// polynomial, [`Error::Function`] where `f` isn't finite.
pub fn weighted_least_squares(
    f: impl Fn(f64) -> f64,
    interval: (f64, f64),
    degree: usize,
    samples: &[(f64, f64)],
) -> Result<Approximation, Error> {
    check_interval(interval)?;
    check_degree("weighted_least_squares", degree, WEIGHTED_DEGREE_LIMIT)?;
    let usable: Vec<(f64, f64)> = samples
        .iter()
        .copied()
        .filter(|&(x, w)| interval.0 <= x && x <= interval.1 && w > 0.0 && w.is_finite())
        .collect();
    let columns = degree + 1;
    if usable.len() < columns {
        return Err(Error::Samples {
            samples: usable.len(),
            degree,
        });
    }
    let (half, middle) = half_and_middle(interval);
    let rows = usable.len();
    // Column-major, one extra column for the right-hand side.
    let mut matrix = vec![vec![0.0; rows]; columns + 1];
    for (i, &(x, w)) in usable.iter().enumerate() {
        let value = f(x);
        if !value.is_finite() {
            return Err(Error::Function { x, value });
        }
        let (t, root) = ((x - middle) / half, w.sqrt());
        for (column, value) in matrix[..columns].iter_mut().zip(chebyshev_polynomials(t)) {
            column[i] = root * value;
        }
        matrix[columns][i] = root * value;
    }
    let coefficients = householder_solve(&mut matrix, rows).ok_or(Error::Samples {
        samples: usable.len(),
        degree,
    })?;
    Approximation::measure(f, Polynomial::new(coefficients, interval)?, None)
}

/// Solves min ‖A c − y‖ for `matrix` = columns of A followed by y; None when A is rank-deficient to working precision.
fn householder_solve(matrix: &mut [Vec<f64>], rows: usize) -> Option<Vec<f64>> {
    let columns = matrix.len() - 1;
    let mut diagonal = vec![0.0; columns];
    let mut largest: f64 = 0.0;
    for k in 0..columns {
        let norm = matrix[k][k..].iter().map(|v| v * v).sum::<f64>().sqrt();
        largest = largest.max(norm);
        if norm <= 1e-13 * largest || norm == 0.0 {
            return None;
        }
        let pivot = if matrix[k][k] > 0.0 { -norm } else { norm };
        diagonal[k] = pivot;
        // Reflector v = column − pivot·e_k, kept in place of the column.
        matrix[k][k] -= pivot;
        let (done, rest) = matrix.split_at_mut(k + 1);
        let v = &done[k][k..rows];
        let scale = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
        for column in rest {
            let projection = scale * v.iter().zip(&column[k..]).map(|(a, b)| a * b).sum::<f64>();
            for (c, x) in column[k..].iter_mut().zip(v) {
                *c -= projection * x;
            }
        }
    }
    let mut solution = vec![0.0; columns];
    for k in (0..columns).rev() {
        let known: f64 = (k + 1..columns).map(|j| matrix[j][k] * solution[j]).sum();
        solution[k] = (matrix[columns][k] - known) / diagonal[k];
    }
    Some(solution)
}

/// Chebyshev coefficients of the polynomial of this degree that interpolates `f` at `degree + 1` Chebyshev nodes.
pub(crate) fn interpolate(f: impl Fn(f64) -> f64, interval: (f64, f64), degree: usize) -> Vec<f64> {
    discrete_chebyshev(&f, interval, degree + 1, degree)
}

fn node_points(interval: (f64, f64), nodes: usize) -> impl Iterator<Item = f64> {
    let (half, middle) = half_and_middle(interval);
    (0..nodes).map(move |i| {
        middle + half * (std::f64::consts::PI * (i as f64 + 0.5) / nodes as f64).cos()
    })
}

/// The first `degree + 1` coefficients of the discrete Chebyshev series over `nodes` Chebyshev nodes.
fn discrete_chebyshev(
    f: &impl Fn(f64) -> f64,
    interval: (f64, f64),
    nodes: usize,
    degree: usize,
) -> Vec<f64> {
    let values: Vec<f64> = node_points(interval, nodes).map(f).collect();
    (0..=degree)
        .map(|k| {
            let sum: f64 = values
                .iter()
                .enumerate()
                .map(|(i, v)| {
                    v * (std::f64::consts::PI * k as f64 * (i as f64 + 0.5) / nodes as f64).cos()
                })
                .sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / nodes as f64
        })
        .collect()
}

/// Sample points for [`weighted_least_squares`]: `points` Chebyshev nodes of the interval, weighted by
/// `(1 − floor)·density(x) + floor/(b − a)` times the node's share of the interval. `density` should integrate to about 1.
#[must_use]
pub fn density_samples(
    density: impl Fn(f64) -> f64,
    interval: (f64, f64),
    floor: f64,
    points: usize,
) -> Vec<(f64, f64)> {
    let (half, middle) = half_and_middle(interval);
    (0..points)
        .map(|i| {
            let angle = std::f64::consts::PI * (i as f64 + 0.5) / points as f64;
            let share = half * angle.sin() * std::f64::consts::PI / points as f64;
            let x = middle + half * angle.cos();
            (
                x,
                ((1.0 - floor) * density(x) + floor / (2.0 * half)) * share,
            )
        })
        .collect()
}

/// Root of the weighted mean of squared errors of what approximates `f`: what [`weighted_least_squares`] minimises.
#[must_use]
pub fn weighted_root_mean_square(
    f: impl Fn(f64) -> f64,
    approximation: impl Fn(f64) -> f64,
    samples: &[(f64, f64)],
) -> f64 {
    let (mut sum, mut weight) = (0.0, 0.0);
    for &(x, w) in samples {
        let error = f(x) - approximation(x);
        sum += w * error * error;
        weight += w;
    }
    (sum / weight).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    #[test]
    fn reproduces_polynomials() {
        let f = |x: f64| 1.0 - 2.0 * x + 0.5 * x.powi(3);
        let a = chebyshev_least_squares(f, (-2.0, 5.0), 3).expect("fits");
        assert!(a.sup_error < 1e-12, "{}", a.sup_error);
        let samples: Vec<_> = (0..40)
            .map(|i| (-2.0 + 0.17 * f64::from(i), 1.0 + f64::from(i % 3)))
            .collect();
        let b = weighted_least_squares(f, (-2.0, 5.0), 5, &samples).expect("fits");
        assert!(b.sup_error < 1e-10, "{}", b.sup_error);
        assert_eq!(b.polynomial.depth(), 3);
    }

    #[test]
    fn smooth_functions_converge_geometrically() {
        let mut last = f64::INFINITY;
        for degree in [7, 15, 31, 63] {
            let a = chebyshev_least_squares(|x| Activation::Silu.value(x), (-8.0, 8.0), degree)
                .expect("fits");
            assert!(a.sup_error < 0.5 * last, "degree {degree}: {}", a.sup_error);
            last = a.sup_error;
        }
        assert!(last < 1e-9, "{last}");
    }

    #[test]
    fn weights_pull_the_error_to_where_there_is_no_data() {
        let silu = |x| Activation::Silu.value(x);
        let interval = (-20.0, 20.0);
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let samples = density_samples(density, interval, 0.01, 2000);
        let total: f64 = samples.iter().map(|s| s.1).sum();
        assert!((total - 1.0).abs() < 1e-3, "{total}");
        let weighted = weighted_least_squares(silu, interval, 15, &samples).expect("fits");
        let plain = chebyshev_least_squares(silu, interval, 15).expect("fits");
        let of = |p: &Polynomial| weighted_root_mean_square(silu, |x| p.eval(x), &samples);
        assert!(of(&weighted.polynomial) < 0.5 * of(&plain.polynomial));
        assert!(weighted.sup_error > plain.sup_error);
    }

    #[test]
    fn every_refusal() {
        let f = |x: f64| x;
        assert!(matches!(
            chebyshev_least_squares(f, (1.0, 0.0), 3),
            Err(Error::Interval { .. })
        ));
        assert!(matches!(
            chebyshev_least_squares(f, (0.0, 1.0), 10_000),
            Err(Error::Degree { .. })
        ));
        assert!(matches!(
            chebyshev_least_squares(|x| 1.0 / (x - x), (0.0, 1.0), 3),
            Err(Error::Function { .. })
        ));
        assert!(matches!(
            weighted_least_squares(f, (0.0, 1.0), 3, &[(0.5, 1.0)]),
            Err(Error::Samples { samples: 1, .. })
        ));
        let same = vec![(0.5, 1.0); 10];
        assert!(matches!(
            weighted_least_squares(f, (0.0, 1.0), 3, &same),
            Err(Error::Samples { .. })
        ));
        assert!(matches!(
            weighted_least_squares(f, (0.0, 1.0), 300, &same),
            Err(Error::Degree { .. })
        ));
        assert!(matches!(
            weighted_least_squares(|_| f64::NAN, (0.0, 1.0), 0, &same),
            Err(Error::Function { .. })
        ));
    }
}
