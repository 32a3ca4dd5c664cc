//! Minimax polynomials by the exchange algorithm.

use crate::error::Error;
use crate::polynomial::{
    Polynomial, chebyshev_polynomials, check_degree, check_interval, clenshaw, half_and_middle,
};
use crate::sup::{Approximation, golden_section};

/// Largest degree that [`remez`] accepts.
pub const DEGREE_LIMIT: usize = 127;
/// Rounds that exchange all points at once, and then rounds that exchange one.
const ROUNDS: [usize; 2] = [60, 400];

/// The polynomial of this degree with the smallest maximal error on the interval, to 1 % in that error or to rounding
/// (whichever comes first).
///
/// The result carries the levelled error of the last reference as `lower_bound`: no polynomial of this degree does better.
/// A kink at 0 (ReLU) is known to the search. Cost: about `rounds · degree³/3` multiplications, milliseconds.
///
/// # Errors
/// [`Error::Interval`], [`Error::Degree`] above [`DEGREE_LIMIT`], [`Error::Function`] where `f` isn't finite,
/// [`Error::NotConverged`].
///
/// Reference: E. Remez (1934); Cheney, "Introduction to Approximation Theory", ch. 3.
pub fn remez(
    f: impl Fn(f64) -> f64,
    interval: (f64, f64),
    degree: usize,
) -> Result<Approximation, Error> {
    check_interval(interval)?;
    check_degree("remez", degree, DEGREE_LIMIT)?;
    let (half, middle) = half_and_middle(interval);
    let kink = (-middle / half).clamp(-1.0, 1.0);
    let point = |t: f64| middle + half * t;
    let on = |degree| exchange_on(&|t| f(point(t)), &|_| 1.0, degree, kink, &point);
    let solved = match on(degree) {
        // Where the best polynomial of this degree is also the best of the next (even functions at even degrees, odd ones at odd
        // degrees, on a symmetric interval), a reference of degree + 2 points is degenerate and the next degree's is not.
        Err(refused @ Error::NotConverged { .. }) => on(degree + 1)
            .ok()
            .filter(|s| s.coefficients[degree + 1].abs() <= 1e-3 * s.lower)
            .ok_or(refused)?,
        other => other?,
    };
    let coefficients = solved.coefficients[..=degree].to_vec();
    Approximation::measure(
        f,
        Polynomial::new(coefficients, interval)?,
        Some(solved.lower),
    )
}

/// The odd polynomial of this (odd) degree that is nearest to the sign function on `[−high, −low] ∪ [low, high]`, to 1 % in its error:
/// by symmetry the odd polynomial nearest to 1 on `[low, high]`, where odd powers satisfy Haar's condition. On the gap `[−low, low]` it
/// is monotone: all its extrema lie outside. Its interval is `[−high, high]`.
pub(crate) fn minimax_sign(low: f64, high: f64, degree: usize) -> Result<Polynomial, Error> {
    if !(0.0 < low && low < high && high.is_finite()) {
        return Err(Error::Interval { low, high });
    }
    check_degree("minimax_sign", degree, DEGREE_LIMIT)?;
    let ratio = low / high;
    // In t, linear in x², the extrema lie about where those of a Chebyshev polynomial do.
    let point = |t: f64| (0.5 * (1.0 + t) + 0.5 * (1.0 - t) * ratio * ratio).sqrt();
    let functions = degree.div_ceil(2);
    let row = |t: f64| {
        let s = point(t);
        let (mut previous, mut current) = (s, s);
        let step = 4.0 * s * s - 2.0;
        (0..functions)
            .map(|_| {
                let value = current;
                // T_{k+2} = (4s² − 2)·T_k − T_{k−2}, and T_{−1} = T_1
                (previous, current) = (current, step * current - previous);
                value
            })
            .collect()
    };
    let odd = |c: &[f64]| -> Vec<f64> { c.iter().flat_map(|&c| [0.0, c]).collect() };
    let solved = exchange(&Problem {
        f: &|_| 1.0,
        row: &row,
        value: &|c, t| clenshaw(&odd(c), point(t)),
        functions,
        kink: -1.0,
        point: &|t| high * point(t),
    })?;
    Polynomial::new(odd(&solved.coefficients), (-high, high))
}

/// The polynomial p of this degree on [−1, 1] with the smallest max |1 − weight·p|, to 1 % in it: the one nearest to 1/weight in the
/// relative error. The weight must be positive.
pub(crate) fn minimax_relative(
    weight: impl Fn(f64) -> f64,
    degree: usize,
) -> Result<Polynomial, Error> {
    let solved = exchange_on(&|_| 1.0, &weight, degree, -1.0, &|t| t)?;
    Polynomial::new(solved.coefficients, (-1.0, 1.0))
}

/// What the exchange solves: `functions` functions of t on [−1, 1] that satisfy Haar's condition, against `f`.
struct Problem<'a> {
    f: &'a dyn Fn(f64) -> f64,
    /// The functions' values at t.
    row: &'a dyn Fn(f64) -> Vec<f64>,
    /// Their combination with these coefficients at t.
    value: &'a dyn Fn(&[f64], f64) -> f64,
    functions: usize,
    /// A point where `f` is not smooth, or an end.
    kink: f64,
    /// The point that t stands for, for messages.
    point: &'a dyn Fn(f64) -> f64,
}

struct Solved {
    coefficients: Vec<f64>,
    /// Largest levelled error of any reference.
    lower: f64,
}

/// All polynomials of a degree, times a weight; `f` and `weight` are functions of t.
fn exchange_on(
    f: &dyn Fn(f64) -> f64,
    weight: &dyn Fn(f64) -> f64,
    degree: usize,
    kink: f64,
    point: &dyn Fn(f64) -> f64,
) -> Result<Solved, Error> {
    let row = |t: f64| {
        let polynomials = chebyshev_polynomials(t).take(degree + 1);
        let weight = weight(t);
        polynomials.map(|value| weight * value).collect()
    };
    exchange(&Problem {
        f,
        row: &row,
        value: &|c, t| weight(t) * clenshaw(c, t),
        functions: degree + 1,
        kink,
        point,
    })
}

fn exchange(problem: &Problem<'_>) -> Result<Solved, Error> {
    let Problem {
        f: in_t,
        functions,
        kink,
        ..
    } = *problem;
    let mut reference = first_reference(functions);
    let mut scale: f64 = 0.0;
    for &t in &reference {
        let value = in_t(t);
        if !value.is_finite() {
            return Err(Error::Function {
                x: (problem.point)(t),
                value,
            });
        }
        scale = scale.max(value.abs());
    }
    let rounding = 64.0 * f64::EPSILON * scale.max(f64::MIN_POSITIVE);
    let mut best: Option<(Vec<f64>, f64)> = None;
    let mut lower: f64 = 0.0;
    let mut rounds = 0;
    while rounds < ROUNDS[0] + ROUNDS[1] {
        rounds += 1;
        let Some((coefficients, levelled)) = level_on(problem, &reference) else {
            break;
        };
        lower = lower.max(levelled.abs());
        let error = |t: f64| in_t(t) - (problem.value)(&coefficients, t);
        let extrema = alternating_extrema(&error, &reference, kink);
        let upper = extrema.iter().fold(0.0_f64, |m, e| m.max(e.1.abs()));
        if let Some(e) = extrema.iter().find(|e| !e.1.is_finite()) {
            return Err(Error::Function {
                x: (problem.point)(e.0),
                value: in_t(e.0),
            });
        }
        if best.as_ref().is_none_or(|b| upper < b.1) {
            best = Some((coefficients.clone(), upper));
        }
        if upper <= levelled.abs() * (1.0 + 1e-6) || upper <= rounding {
            break;
        }
        // Exchanges of all points may run in a circle where f has kinks; of one point, the levelled error never falls.
        let next = if rounds <= ROUNDS[0] {
            choose(extrema, functions + 1)
        } else {
            swap_one(&reference, levelled, &extrema)
        };
        let Some(next) = next else { break };
        if next == reference {
            break;
        }
        reference = next;
    }
    let upper = best.as_ref().map_or(f64::INFINITY, |b| b.1);
    match best {
        Some((coefficients, upper)) if upper <= 1.01 * lower || upper <= rounding => Ok(Solved {
            coefficients,
            lower,
        }),
        _ => Err(Error::NotConverged {
            iterations: rounds,
            lower,
            upper,
        }),
    }
}

/// `functions + 1` Chebyshev extreme points, moved a little off symmetry: on a symmetric reference the levelled error of an even or
/// odd function can vanish.
fn first_reference(functions: usize) -> Vec<f64> {
    (0..=functions)
        .map(|i| {
            let t = -(std::f64::consts::PI * i as f64 / functions as f64).cos();
            t + 0.07 * (1.0 - t * t) / functions as f64
        })
        .collect()
}

/// Coefficients and levelled error `e` with `p(t_i) + (−1)^i e = f(t_i)` on the reference.
fn level_on(problem: &Problem<'_>, reference: &[f64]) -> Option<(Vec<f64>, f64)> {
    let n = reference.len();
    let mut matrix: Vec<Vec<f64>> = reference
        .iter()
        .enumerate()
        .map(|(i, &t)| {
            let mut row = (problem.row)(t);
            row.push(if i % 2 == 0 { 1.0 } else { -1.0 });
            row.push((problem.f)(t));
            row
        })
        .collect();
    // Gaussian elimination with partial pivoting.
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| matrix[a][k].abs().total_cmp(&matrix[b][k].abs()))?;
        matrix.swap(k, pivot);
        if matrix[k][k].abs() < 1e-14 {
            return None;
        }
        let (top, bottom) = matrix.split_at_mut(k + 1);
        let pivot_row = &top[k];
        for row in bottom {
            let factor = row[k] / pivot_row[k];
            if factor != 0.0 {
                for (a, b) in row[k..].iter_mut().zip(&pivot_row[k..]) {
                    *a -= factor * b;
                }
            }
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| matrix[k][j] * solution[j]).sum();
        solution[k] = (matrix[k][n] - known) / matrix[k][k];
    }
    let levelled = solution.pop()?;
    Some((solution, levelled))
}

/// Largest error of each maximal stretch of one sign, in order: `(t, error)` with alternating signs.
fn alternating_extrema(
    error: &impl Fn(f64) -> f64,
    reference: &[f64],
    kink: f64,
) -> Vec<(f64, f64)> {
    // The error's extrema lie between neighbouring reference points or beside them: sample every gap, ends and kink included.
    let mut breaks = vec![-1.0];
    breaks.extend(reference.iter().copied().filter(|t| -1.0 < *t && *t < 1.0));
    breaks.push(1.0);
    breaks.push(kink);
    breaks.sort_by(f64::total_cmp);
    breaks.dedup();
    const STEPS: usize = 24;
    let mut points = Vec::with_capacity(breaks.len() * STEPS);
    for pair in breaks.windows(2) {
        for s in 0..STEPS {
            points.push(pair[0] + (pair[1] - pair[0]) * s as f64 / STEPS as f64);
        }
    }
    points.push(1.0);
    let values: Vec<f64> = points.iter().map(|&t| error(t)).collect();
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return vec![(points[i], values[i])];
    }
    // The largest sample of each stretch of one sign, then refined between its neighbours.
    let mut tops: Vec<usize> = Vec::new();
    for (i, v) in values.iter().enumerate() {
        match tops.last_mut() {
            _ if *v == 0.0 => {}
            Some(top) if values[*top].signum() == v.signum() => {
                if v.abs() > values[*top].abs() {
                    *top = i;
                }
            }
            _ => tops.push(i),
        }
    }
    let refine = |i: usize| {
        let sign = values[i].signum();
        let mut best = (points[i], values[i]);
        for (low, high) in [(i.saturating_sub(1), i), (i, (i + 1).min(points.len() - 1))] {
            if low < high {
                let (t, value) = golden_section(&|t| sign * error(t), points[low], points[high]);
                if value > best.1.abs() {
                    best = (t, sign * value);
                }
            }
        }
        best
    };
    tops.into_iter().map(refine).collect()
}

/// The reference with the point of the largest error in place of the neighbour whose error has the same sign; the point at the other end
/// goes where there is none. `levelled` is the error at the first point (Remez' first algorithm).
fn swap_one(reference: &[f64], levelled: f64, extrema: &[(f64, f64)]) -> Option<Vec<f64>> {
    let &(t, error) = extrema
        .iter()
        .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
    let after = reference.partition_point(|&r| r < t);
    let alike = |i: usize| (levelled * error > 0.0) == i.is_multiple_of(2);
    let mut next = reference.to_vec();
    match after {
        0 if alike(0) => next[0] = t,
        0 => {
            next.pop();
            next.insert(0, t);
        }
        _ if alike(after - 1) => next[after - 1] = t,
        _ if after < next.len() => next[after] = t,
        _ => {
            next.remove(0);
            next.push(t);
        }
    }
    Some(next)
}

/// `count` consecutive extrema, the globally largest kept: the smaller end goes first. None when there are too few.
fn choose(mut extrema: Vec<(f64, f64)>, count: usize) -> Option<Vec<f64>> {
    while extrema.len() > count {
        let (first, last) = (extrema.first()?.1.abs(), extrema.last()?.1.abs());
        // With two or more to spare, an inner pair may be the smallest: removing both keeps the signs alternating.
        if extrema.len() >= count + 2 {
            let inner = (0..extrema.len() - 1).min_by(|&a, &b| {
                let pair = |i: usize| extrema[i].1.abs().max(extrema[i + 1].1.abs());
                pair(a).total_cmp(&pair(b))
            })?;
            let pair = extrema[inner].1.abs().max(extrema[inner + 1].1.abs());
            if pair < first.min(last) {
                extrema.drain(inner..inner + 2);
                continue;
            }
        }
        if first < last {
            extrema.remove(0);
        } else {
            extrema.pop();
        }
    }
    (extrema.len() == count).then(|| extrema.into_iter().map(|e| e.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, chebyshev_least_squares};

    #[test]
    fn best_line_for_the_square() {
        // Of all lines, 1/2 is nearest to x² on [−1, 1], with error 1/2.
        let a = remez(|x| x * x, (-1.0, 1.0), 1).expect("converges");
        assert!((a.sup_error - 0.5).abs() < 1e-9, "{}", a.sup_error);
    }

    #[test]
    fn known_errors_of_the_absolute_value() {
        // E_2(|x|) = 1/8; Bernstein's constant: n·E_n → 0.28016…
        let a = remez(f64::abs, (-1.0, 1.0), 2).expect("converges");
        assert!((a.sup_error - 0.125).abs() < 1e-7, "{}", a.sup_error);
        let b = remez(f64::abs, (-1.0, 1.0), 62).expect("converges");
        assert!(
            (62.0 * b.sup_error - 0.2801).abs() < 2e-3,
            "{}",
            62.0 * b.sup_error
        );
    }

    #[test]
    fn converges_for_every_activation_up_to_degree_63() {
        for f in Activation::ALL {
            for interval in [
                (-8.0, 8.0),
                (-5.0, 11.0),
                (-30.0, 20.0),
                (-0.5, 0.25),
                (0.5, 9.0),
            ] {
                // roots and reciprocals have no value at or below 0
                if ![interval.0, 0.0].iter().all(|&x| f.value(x).is_finite()) && interval.0 < 0.0 {
                    let refused = remez(|x| f.value(x), interval, 7).expect_err("no number");
                    assert!(matches!(refused, Error::Function { .. }), "{f}: {refused}");
                    continue;
                }
                for degree in [1, 2, 3, 7, 8, 15, 18, 27, 31, 40, 63] {
                    let a = remez(|x| f.value(x), interval, degree)
                        .unwrap_or_else(|e| panic!("{f} on {interval:?} at degree {degree}: {e}"));
                    let lower = a.lower_bound.expect("Remez gives one");
                    let scale = f.value(interval.0).abs().max(f.value(interval.1).abs());
                    assert!(
                        a.sup_error <= 1.01 * lower + 1e-13 * scale.max(1.0),
                        "{f} on {interval:?} at degree {degree}: {lower} … {}",
                        a.sup_error
                    );
                    let other =
                        chebyshev_least_squares(|x| f.value(x), interval, degree).expect("fits");
                    assert!(a.sup_error <= other.sup_error * 1.01 + 1e-13 * scale.max(1.0));
                }
            }
        }
    }

    #[test]
    fn every_refusal() {
        assert!(matches!(
            remez(|x| x, (0.0, 0.0), 3),
            Err(Error::Interval { .. })
        ));
        assert!(matches!(
            remez(|x| x, (0.0, 1.0), 1000),
            Err(Error::Degree { .. })
        ));
        assert!(matches!(
            remez(|x| 1.0 / (x - x), (0.0, 1.0), 3),
            Err(Error::Function { .. })
        ));
        // A function that rings far faster than the reference can follow: no level error is found.
        assert!(matches!(
            remez(
                |x| (x * 1e9).sin() * (x.to_bits() % 1013) as f64,
                (-1.0, 1.0),
                40
            ),
            Err(Error::NotConverged { .. })
        ));
    }
}
