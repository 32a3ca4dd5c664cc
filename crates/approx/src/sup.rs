//! Suprema of functions on an interval: a dense grid, then golden-section refinement around the best points.

use crate::error::Error;
use crate::polynomial::{Polynomial, half_and_middle};

/// A polynomial and how far it is from the function that it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Approximation {
    /// The polynomial.
    pub polynomial: Polynomial,
    /// `max |f − p|` over the interval, measured on a dense grid and refined.
    pub sup_error: f64,
    /// A proven lower bound of the error of **every** polynomial of this degree, where the method gives one (Remez).
    pub lower_bound: Option<f64>,
}

impl Approximation {
    /// Of this polynomial for `f` on the polynomial's interval; a lower bound where one is known.
    ///
    /// # Errors
    /// [`Error::Function`] where `f` is not finite.
    pub fn measure(
        f: impl Fn(f64) -> f64,
        polynomial: Polynomial,
        lower_bound: Option<f64>,
    ) -> Result<Self, Error> {
        let grid = 64 * (polynomial.degree() + 2);
        let interval = polynomial.interval();
        let error = |x: f64| (f(x) - polynomial.eval(x)).abs();
        let (x, sup_error) = maximum(error, interval, &[0.0], grid);
        if !sup_error.is_finite() {
            return Err(Error::Function { x, value: f(x) });
        }
        Ok(Self {
            polynomial,
            sup_error,
            lower_bound,
        })
    }
}

impl Polynomial {
    /// `max |p|` over the interval, found on a dense grid and refined.
    #[must_use]
    pub fn sup_norm(&self) -> f64 {
        maximum(
            |x| self.eval(x).abs(),
            self.interval(),
            &[],
            16 * (self.degree() + 1),
        )
        .1
    }

    /// `max |p'|` over the interval: the factor by which an input error can grow.
    #[must_use]
    pub(crate) fn lipschitz(&self) -> f64 {
        self.derivative().sup_norm()
    }
}

/// Where `g` is largest on the interval, and the value there. The grid is dense near both ends (Chebyshev points), contains
/// `extra` points inside the interval, and each of the best local maxima is refined. A NaN counts as larger than everything.
pub(crate) fn maximum(
    g: impl Fn(f64) -> f64,
    interval: (f64, f64),
    extra: &[f64],
    grid: usize,
) -> (f64, f64) {
    let mut points = chebyshev_grid(interval, grid);
    points.extend(
        extra
            .iter()
            .copied()
            .filter(|x| interval.0 < *x && *x < interval.1),
    );
    points.sort_by(f64::total_cmp);
    let values: Vec<f64> = points.iter().map(|&x| g(x)).collect();
    if let Some(i) = values.iter().position(|v| v.is_nan()) {
        return (points[i], f64::NAN);
    }
    let mut best = (points[0], values[0]);
    let floor = 0.9 * values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for i in 0..points.len() {
        if values[i] > best.1 {
            best = (points[i], values[i]);
        }
        let left = i.saturating_sub(1);
        let right = (i + 1).min(points.len() - 1);
        if (values[i] >= floor || floor <= 0.0)
            && values[i] >= values[left]
            && values[i] >= values[right]
        {
            // A kink may sit in the middle: each side on its own.
            for (low, high) in [(points[left], points[i]), (points[i], points[right])] {
                let refined = golden_section(&g, low, high);
                if refined.1 > best.1 {
                    best = refined;
                }
            }
        }
    }
    best
}

/// A proven bound of `max |p|` on the interval for a polynomial `p` of this degree, up to rounding in `p`: p(cos θ) is a trigonometric
/// polynomial, which within δ of its maximum keeps cos(degree·δ) of it, so that a grid of spacing π/m in θ misses at most
/// the factor cos(π·degree/2m). Here m = 16·degree: at most 0.5 % above the maximum.
///
/// Reference: M. Riesz (1914); H. Ehlich, K. Zeller (1964).
pub(crate) fn proven_maximum(p: impl Fn(f64) -> f64, interval: (f64, f64), degree: usize) -> f64 {
    let grid = 16 * degree.max(1);
    let largest = chebyshev_grid(interval, grid)
        .into_iter()
        .map(|x| p(x).abs())
        .fold(0.0, |m: f64, v| if v.is_nan() { v } else { m.max(v) });
    largest / (std::f64::consts::PI / 32.0).cos()
}

/// `count + 1` Chebyshev extreme points of the interval, ends included, in increasing order.
pub(crate) fn chebyshev_grid(interval: (f64, f64), count: usize) -> Vec<f64> {
    let (half, middle) = half_and_middle(interval);
    (0..=count)
        .map(|i| {
            if i == 0 {
                interval.0
            } else if i == count {
                interval.1
            } else {
                middle - half * (std::f64::consts::PI * i as f64 / count as f64).cos()
            }
        })
        .collect()
}

/// A local maximum of `g` between `low` and `high`.
pub(crate) fn golden_section(g: &impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> (f64, f64) {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut x1, mut x2) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut g1, mut g2) = (g(x1), g(x2));
    for _ in 0..44 {
        if g1 < g2 {
            low = x1;
            (x1, g1) = (x2, g2);
            x2 = low + RATIO * (high - low);
            g2 = g(x2);
        } else {
            high = x2;
            (x2, g2) = (x1, g1);
            x1 = high - RATIO * (high - low);
            g1 = g(x1);
        }
    }
    if g1 > g2 { (x1, g1) } else { (x2, g2) }
}
