//! How a polynomial is carried out: as a square, a quartic of two factors, or in the Chebyshev basis.
//!
//! With its argument's affine map free, x² + c takes one level and a quartic two; leading coefficients go into units.
//! Notation: x the network's argument on [lo, hi], t = scale·(x + shift) the plan's, y the plan's result, p(x) = unit·y.

use crate::error::Error;
use approx::Polynomial;
use runtime::{Operation, Register};

/// Results smaller than this fraction of what the scale allows would waste precision.
const LEAST_FILL: f64 = 1.0 / 16.0;
/// Largest factor or constant inside a quartic.
const LARGEST_FACTOR: f64 = 4.0;

/// What is done to t.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    /// t² + c.
    Square { constant: f64 },
    /// (t² + a·t + b)(t² − a·t + d) + e.
    Quartic { coefficients: [f64; 4] },
    /// Chebyshev coefficients on [−1, 1].
    General { coefficients: Vec<f64> },
}

impl Form {
    /// As a step of a plan.
    pub(crate) fn operation(&self, input: Register, output: Register) -> Result<Operation, Error> {
        Ok(match self {
            &Self::Square { constant } => Operation::Square {
                input,
                output,
                constant,
            },
            &Self::Quartic { coefficients } => Operation::Quartic {
                input,
                output,
                coefficients,
            },
            Self::General { coefficients } => Operation::Polynomial {
                input,
                output,
                polynomial: ckks::Polynomial::new(coefficients.clone())?,
            },
        })
    }
}

/// A polynomial made ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Activation {
    /// What is done to t.
    pub(crate) form: Form,
    /// t = scale·(x + shift).
    pub(crate) scale: f64,
    /// See `scale`.
    pub(crate) shift: f64,
    /// Largest |t|, at most 1.
    pub(crate) amplitude: f64,
    /// p(x) = unit·y.
    pub(crate) unit: f64,
    /// Largest |y|.
    pub(crate) fill: f64,
}

impl Activation {
    /// Levels that it takes.
    pub(crate) fn depth(&self) -> Result<usize, Error> {
        Ok(match &self.form {
            Form::Square { .. } => 1,
            Form::Quartic { .. } => 2,
            Form::General { coefficients } => ckks::Polynomial::new(coefficients.clone())?.depth(),
        })
    }

    /// The polynomial's interval as the plan has it, where it is narrower than [−1, 1].
    pub(crate) fn interval(&self, p: &Polynomial) -> Option<(f64, f64)> {
        let ends = <[f64; 2]>::from(p.interval()).map(|x| self.scale * (x + self.shift));
        let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        (low > -1.0 + 1e-6 || high < 1.0 - 1e-6).then_some((low, high))
    }

    /// The cheapest way when the argument's affine map is free; |y| ≤ `most`.
    pub(crate) fn absorbed(p: &Polynomial, most: f64) -> Self {
        let special = match p.degree() {
            2 => square(p, most),
            4 => quartic(p, most),
            _ => None,
        };
        special.unwrap_or_else(|| Self::general(p, most))
    }

    /// In the Chebyshev basis of its own interval; |y| ≤ `most`.
    pub(crate) fn general(p: &Polynomial, most: f64) -> Self {
        let (lo, hi) = p.interval();
        let unit = p.sup_norm().max(f64::MIN_POSITIVE) / most;
        Self {
            form: Form::General {
                coefficients: p.coefficients().iter().map(|c| c / unit).collect(),
            },
            scale: 2.0 / (hi - lo),
            shift: -0.5 * (lo + hi),
            amplitude: 1.0,
            unit,
            fill: most,
        }
    }

    /// For an argument that is x = `argument_unit`·t already, |t| ≤ 1: the basis of [−|unit|, |unit|]; |y| ≤ `most`.
    pub(crate) fn fixed(
        layer: &str,
        p: &Polynomial,
        argument_unit: f64,
        most: f64,
    ) -> Result<Self, Error> {
        let wide = p
            .on_interval((-argument_unit.abs(), argument_unit.abs()))
            .map_err(|source| Error::Polynomial {
                layer: layer.into(),
                source,
            })?;
        let unit = p.sup_norm().max(f64::MIN_POSITIVE) / most;
        let sign = argument_unit.signum();
        let mut coefficients = wide.coefficients().to_vec();
        for (k, c) in coefficients.iter_mut().enumerate() {
            let signed = if k % 2 == 1 { sign * *c } else { *c };
            *c = signed / unit;
        }
        Ok(Self {
            form: Form::General { coefficients },
            scale: 1.0 / argument_unit,
            shift: 0.0,
            amplitude: 1.0,
            unit,
            fill: most,
        })
    }

    /// Whether `p` may be written in the basis of [−`bound`, `bound`] without losing digits.
    pub(crate) fn extends(p: &Polynomial, bound: f64) -> bool {
        let (lo, hi) = p.interval();
        bound >= lo.abs().max(hi.abs()) * (1.0 - 1e-9)
            && p.on_interval((-bound, bound)).is_ok_and(|w| {
                w.coefficients().iter().map(|c| c.abs()).sum::<f64>() <= 8.0 * p.sup_norm()
            })
    }
}

/// p = a·((x + b/2a)² + rest).
fn square(p: &Polynomial, most: f64) -> Option<Activation> {
    let m = p.to_monomial();
    let &[m0, m1, a] = &m[..] else { return None };
    let shift = m1 / (2.0 * a);
    let reach = reach(p, shift);
    let largest = p.sup_norm();
    let scale = (most * a.abs() / largest).sqrt().min(1.0 / reach);
    let fill = largest * scale * scale / a.abs();
    let constant = scale * scale * (m0 / a - shift * shift);
    let made = Activation {
        form: Form::Square { constant },
        scale,
        shift,
        amplitude: scale * reach,
        unit: a / (scale * scale),
        fill,
    };
    (scale.is_finite() && constant.is_finite() && fill >= LEAST_FILL * most).then_some(made)
}

/// p = m4·(y⁴ + q2·y² + q1·y + q0), y = x + m3/4m4; then two quadratic factors and a remainder, of moderate size.
fn quartic(p: &Polynomial, most: f64) -> Option<Activation> {
    let m = p.to_monomial();
    let &[m0, m1, m2, m3, m4] = &m[..] else {
        return None;
    };
    let h = m3 / (4.0 * m4);
    let (b, c, d) = (m2 / m4, m1 / m4, m0 / m4);
    let q2 = b - 6.0 * h * h;
    let q1 = c - 2.0 * b * h + 8.0 * h * h * h;
    let q0 = d - c * h + b * h * h - 3.0 * h.powi(4);
    let reach = reach(p, h);
    let largest = p.sup_norm();
    let scale = (most * m4.abs() / largest).powf(0.25).min(1.0 / reach);
    let fill = largest * scale.powi(4) / m4.abs();
    let (q2, q1, q0) = (q2 * scale * scale, q1 * scale.powi(3), q0 * scale.powi(4));
    let amplitude = scale * reach;
    let size = |[a, b, d, e]: [f64; 4]| {
        let mut worst = e.abs().max(a.abs());
        for i in -16..=16i32 {
            let t = amplitude * f64::from(i) / 16.0;
            let (f, g) = (t * t + a * t + b, t * t - a * t + d);
            worst = worst.max(f.abs()).max(g.abs()).max((f * g).abs());
        }
        worst
    };
    let factors = |a: f64| {
        let difference = if a == 0.0 { 0.0 } else { q1 / a };
        let sum = q2 + a * a;
        let (b, d) = (0.5 * (sum - difference), 0.5 * (sum + difference));
        [a, b, d, q0 - b * d]
    };
    let from = if q1 == 0.0 { 0 } else { 1 };
    let (worst, coefficients) = (from..=64i32)
        .map(|i| factors(f64::from(i) / 32.0))
        .map(|c| (size(c), c))
        .min_by(|x, y| x.0.total_cmp(&y.0))?;
    let made = Activation {
        form: Form::Quartic { coefficients },
        scale,
        shift: h,
        amplitude,
        unit: m4 / scale.powi(4),
        fill,
    };
    (worst <= LARGEST_FACTOR && fill >= LEAST_FILL * most).then_some(made)
}

/// Largest |x + shift| on the interval.
fn reach(p: &Polynomial, shift: f64) -> f64 {
    let (lo, hi) = p.interval();
    (lo + shift).abs().max((hi + shift).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(a: &Activation, x: f64) -> f64 {
        let t = a.scale * (x + a.shift);
        assert!(
            t.abs() <= a.amplitude * (1.0 + 1e-12),
            "|{t}| > {}",
            a.amplitude
        );
        let y = match &a.form {
            Form::Square { constant } => t * t + constant,
            Form::Quartic {
                coefficients: [a, b, d, e],
            } => (t * t + a * t + b) * (t * t - a * t + d) + e,
            Form::General { coefficients } => ckks::Polynomial::new(coefficients.clone())
                .expect("valid")
                .evaluate(t),
        };
        assert!(y.abs() <= a.fill * (1.0 + 1e-9), "|{y}| > {}", a.fill);
        a.unit * y
    }

    fn check(p: &Polynomial, a: &Activation) {
        let (lo, hi) = p.interval();
        for i in 0..=40 {
            let x = lo + (hi - lo) * f64::from(i) / 40.0;
            assert!(
                (value(a, x) - p.eval(x)).abs() <= 1e-11 * (1.0 + p.sup_norm()),
                "{p:?} at {x}: {} and {}",
                value(a, x),
                p.eval(x)
            );
        }
    }

    #[test]
    fn squares_quartics_and_the_rest_compute_the_polynomial() {
        for (monomial, interval, depth) in [
            (vec![0.1, 0.5, 0.25], (-3.0, 3.0), 1),
            (vec![0.1, 0.5, -0.25], (-3.0, 5.0), 1),
            (vec![0.0, 1.0, 1e-4], (-1.0, 1.0), 2),
            (vec![0.1, 0.5, 0.3, 0.05, -0.04], (-2.0, 2.0), 2),
            (vec![0.0, 0.5, 0.4, 0.0, -0.02], (-3.0, 3.0), 2),
            (vec![0.2, 0.0, 0.4, 0.0, 0.1], (-1.0, 1.5), 2),
            (vec![0.0, 0.5, 0.3, 0.1], (-3.0, 2.0), 2),
        ] {
            let p = Polynomial::from_monomial(&monomial, interval).expect("valid");
            for most in [1.0, 0.5] {
                let a = Activation::absorbed(&p, most);
                assert_eq!(a.depth().expect("valid"), depth, "{monomial:?}");
                check(&p, &a);
                check(&p, &Activation::general(&p, most));
            }
        }
    }

    #[test]
    fn a_fixed_argument_keeps_the_polynomial() {
        let p =
            Polynomial::from_monomial(&[0.1, 0.5, 0.3, 0.05, -0.04], (-2.0, 2.5)).expect("valid");
        for unit in [3.0, -3.0] {
            let a = Activation::fixed("act", &p, unit, 0.5).expect("valid");
            for i in 0..=20 {
                let x = -2.0 + 4.5 * f64::from(i) / 20.0;
                assert!((value(&a, x) - p.eval(x)).abs() < 1e-12);
            }
        }
        assert!(Activation::extends(&p, 2.6));
        assert!(!Activation::extends(&p, 2.0));
        let narrow = Polynomial::new(vec![0.0; 15].into_iter().chain([1.0]).collect(), (0.0, 1.0))
            .expect("valid");
        assert!(!Activation::extends(&narrow, 1.0));
    }
}
