//! ReLU by a composite sign: x·(1 + P(x/R))/2 with P = p_k ∘ … ∘ p_1, each p_i the odd minimax polynomial of the sign on what the former
//! may give.
//!
//! A single polynomial needs degree 0.14/ε for ReLU to within ε on [−1, 1] (Bernstein); the degree of a composition is the product of
//! its parts', so that each level halves the error. This is how encrypted networks run a ReLU that nobody retrained.
//!
//! Reference: E. Lee, J.-W. Lee, J.-S. No, Y.-S. Kim, "Minimax Approximation of Sign Function by Composite Polynomial for Homomorphic
//! Comparison" (2021); J. Lee et al., "Precise Approximation of Convolutional Neural Networks for Homomorphically Encrypted Data" (2021).

use crate::error::Error;
use crate::polynomial::Polynomial;
use crate::remez::minimax_sign;
use crate::sup::proven_maximum;

/// (α, degrees): the least depth with which the literature reaches an error of 2^−α of ReLU on [−1, 1].
pub const PUBLISHED_DEGREES: [(u32, &[usize]); 11] = [
    (4, &[5]),
    (5, &[13]),
    (6, &[3, 7]),
    (7, &[7, 7]),
    (8, &[7, 15]),
    (9, &[15, 15]),
    (10, &[7, 7, 13]),
    (11, &[7, 7, 27]),
    (12, &[7, 15, 27]),
    (13, &[15, 15, 27]),
    (14, &[15, 27, 29]),
];

/// ReLU on `[−R, R]` as x·(1 + P(x/R))/2.
#[derive(Debug, Clone, PartialEq)]
pub struct Composite {
    polynomials: Vec<Polynomial>,
    gap: f64,
    sign_error: f64,
    sup_error: f64,
}

impl Composite {
    /// With odd polynomials of these degrees, applied in this order. The gap around 0 inside of which the sign is given up is the one
    /// with the smallest error of ReLU: there the errors inside and outside are equal.
    ///
    /// # Errors
    /// [`Error::Interval`] unless `range` is positive and finite; [`Error::OddDegree`] without degrees or for an even one;
    /// [`Error::Degree`], [`Error::NotConverged`] where the exchange fails.
    pub fn relu(range: f64, degrees: &[usize]) -> Result<Self, Error> {
        if !(range > 0.0 && range.is_finite()) {
            return Err(Error::Interval {
                low: -range,
                high: range,
            });
        }
        if let Some(&degree) = degrees.iter().find(|d| *d % 2 == 0) {
            return Err(Error::OddDegree { degree });
        }
        if degrees.is_empty() {
            return Err(Error::OddDegree { degree: 0 });
        }
        // log2 of the gap by bisection: no sign of use to ReLU has a gap below 2^−30
        let (mut narrow, mut wide) = (-30.0_f64, -0.1_f64);
        for _ in 0..24 {
            let middle = 0.5 * (narrow + wide);
            let too_narrow = match signs(degrees, middle.exp2()) {
                Ok(signs) => signs.error_inside() < 0.5 * signs.error,
                Err(Error::Interval { .. }) => true,
                // errors under what doubles resolve: the sign is better than the gap is narrow
                Err(Error::NotConverged { .. }) => false,
                Err(other) => return Err(other),
            };
            *(if too_narrow { &mut narrow } else { &mut wide }) = middle;
        }
        let Signs {
            mut polynomials,
            gap,
            error,
            rounding,
        } = signs(degrees, narrow.exp2())?;
        // Odd P: the error is even in x, so one half shows all; there it is a polynomial of degree Π dᵢ + 1.
        let degree = degrees.iter().product::<usize>() + 1;
        let sign = |t: f64| polynomials.iter().fold(t, |t, p| p.eval(t));
        let relative = proven_maximum(|t| 0.5 * t * (1.0 - sign(t)), (0.0, 1.0), degree);
        polynomials[0] = polynomials[0].compose_affine(1.0 / range, 0.0)?;
        Ok(Self {
            polynomials,
            gap,
            sign_error: error,
            sup_error: range * (relative + 0.5 * rounding),
        })
    }

    /// With the degrees of [`PUBLISHED_DEGREES`] for this α.
    ///
    /// # Errors
    /// [`Error::Alpha`] unless α is in that table; as [`Composite::relu`].
    pub fn published_relu(range: f64, alpha: u32) -> Result<Self, Error> {
        let (_, degrees) = PUBLISHED_DEGREES
            .iter()
            .find(|(a, _)| *a == alpha)
            .ok_or(Error::Alpha { alpha })?;
        Self::relu(range, degrees)
    }

    /// The odd polynomials in the order in which they are applied: the first on `[−R, R]`, each other on a symmetric interval that holds
    /// what the former gives.
    #[must_use]
    pub fn polynomials(&self) -> &[Polynomial] {
        &self.polynomials
    }

    /// Outside of `(−gap·R, gap·R)` the sign is wanted; inside, ReLU is small enough not to need it.
    #[must_use]
    pub fn gap(&self) -> f64 {
        self.gap
    }

    /// Proven bound of `|P(x/R) − sign(x)|` for `gap·R ≤ |x| ≤ R`.
    #[must_use]
    pub fn sign_error(&self) -> f64 {
        self.sign_error
    }

    /// Proven bound of the error of ReLU on all of `[−R, R]`, at most 0.5 % above the largest.
    #[must_use]
    pub fn sup_error(&self) -> f64 {
        self.sup_error
    }

    /// P(x/R).
    #[must_use]
    pub fn sign(&self, x: f64) -> f64 {
        self.polynomials.iter().fold(x, |x, p| p.eval(x))
    }

    /// x·(1 + P(x/R))/2.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        0.5 * x * (1.0 + self.sign(x))
    }
}

/// Odd polynomials whose composition is near the sign on [gap, 1].
struct Signs {
    polynomials: Vec<Polynomial>,
    gap: f64,
    /// Proven bound of |P − 1| there.
    error: f64,
    /// Bound of what f64 evaluation adds to P.
    rounding: f64,
}

fn signs(degrees: &[usize], gap: f64) -> Result<Signs, Error> {
    let (mut low, mut high, mut error, mut rounding) = (gap, 1.0, 1.0, 0.0);
    let mut polynomials = Vec::with_capacity(degrees.len());
    for &degree in degrees {
        let p = minimax_sign(low, high, degree)?;
        let sum: f64 = p.coefficients().iter().map(|c| c.abs()).sum();
        // what came in grows by the slope; Clenshaw's recurrence adds at most this
        rounding = rounding * p.lipschitz() + 4.0 * (degree * degree) as f64 * f64::EPSILON * sum;
        error = proven_maximum(|x| 1.0 - p.eval(x), (low, high), degree) + rounding;
        (low, high) = (1.0 - error, 1.0 + error);
        polynomials.push(p);
    }
    Ok(Signs {
        polynomials,
        gap,
        error,
        rounding,
    })
}

impl Signs {
    /// Largest error of ReLU inside the gap, where P grows from 0: on a grid, for choosing the gap only.
    fn error_inside(&self) -> f64 {
        (1..=256)
            .map(|i| self.gap * f64::from(i) / 256.0)
            .map(|t| 0.5 * t * (1.0 - self.polynomials.iter().fold(t, |t, p| p.eval(t))))
            .fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_degrees_reach_their_precision_at_their_depth() {
        let depths = [4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];
        for ((alpha, degrees), depth) in PUBLISHED_DEGREES.into_iter().zip(depths) {
            let c = Composite::published_relu(1.0, alpha).expect("converges");
            let bits = -c.sup_error().log2();
            let parts: u32 = c.polynomials().iter().map(Polynomial::depth).sum();
            assert_eq!(parts + 1, depth, "α = {alpha}, {degrees:?}");
            assert!(
                bits >= f64::from(alpha),
                "α = {alpha}, {degrees:?}: {bits} bits"
            );
            // none is so good that it could stand for another α
            assert!(
                bits < f64::from(alpha) + 1.0,
                "α = {alpha}, {degrees:?}: {bits} bits"
            );
        }
    }

    #[test]
    fn no_error_exceeds_its_bound_and_bounds_are_tight() {
        for (range, degrees) in [(1.0, &[7usize, 7][..]), (20.0, &[15, 15, 27]), (0.5, &[5])] {
            let c = Composite::relu(range, degrees).expect("converges");
            let (mut relu, mut sign): (f64, f64) = (0.0, 0.0);
            let near = c.gap() * range;
            // evenly, and again around the gap
            for i in 0..=400_000 {
                let i = f64::from(i) / 400_000.0;
                for x in [i * range, 8.0 * i * near] {
                    if x > range {
                        continue;
                    }
                    for x in [x, -x] {
                        relu = relu.max((c.eval(x) - x.max(0.0)).abs());
                        if x.abs() >= near {
                            sign = sign.max((c.sign(x) - x.signum()).abs());
                        }
                    }
                }
            }
            for (measured, bound) in [(relu, c.sup_error()), (sign, c.sign_error())] {
                assert!(measured <= bound, "{degrees:?}: {measured} > {bound}");
                assert!(measured > 0.98 * bound, "{degrees:?}: {measured} ≪ {bound}");
            }
        }
    }

    #[test]
    fn each_polynomial_is_minimax() {
        // degree 1 on [a, 1]: c·x with 1 − c·a = c − 1
        let (a, p) = (0.25, minimax_sign(0.25, 1.0, 1).expect("converges"));
        assert!((p.eval(1.0) - 2.0 / (1.0 + a)).abs() < 1e-9);
        // the errors of degree d level off at (d + 1)/2 + 1 points of alternating sign
        for (low, high, degree) in [(0.01, 1.0, 15), (0.3, 1.7, 27), (0.002, 1.0, 27)] {
            let p = minimax_sign(low, high, degree).expect("converges");
            let error = |i: usize| p.eval(low + (high - low) * i as f64 / 1e5) - 1.0;
            let largest = (0..=100_000).map(|i| error(i).abs()).fold(0.0, f64::max);
            let mut signs: Vec<bool> = (0..=100_000)
                .map(error)
                .filter(|e| e.abs() > 0.98 * largest)
                .map(|e| e > 0.0)
                .collect();
            signs.dedup();
            assert!(
                signs.len() > degree.div_ceil(2),
                "degree {degree}: {}",
                signs.len()
            );
            assert!(p.coefficients().iter().step_by(2).all(|&c| c == 0.0));
        }
    }

    #[test]
    fn a_range_scales_everything() {
        let one = Composite::relu(1.0, &[7, 15]).expect("converges");
        let ten = Composite::relu(10.0, &[7, 15]).expect("converges");
        assert!((ten.sup_error() - 10.0 * one.sup_error()).abs() < 1e-12);
        assert!((ten.eval(3.0) - 10.0 * one.eval(0.3)).abs() < 1e-12);
        assert_eq!(ten.polynomials()[0].interval(), (-10.0, 10.0));
    }

    #[test]
    fn every_refusal() {
        let relu = Composite::relu;
        assert!(matches!(relu(0.0, &[7]), Err(Error::Interval { .. })));
        assert!(matches!(relu(f64::NAN, &[7]), Err(Error::Interval { .. })));
        assert!(matches!(
            relu(1.0, &[]),
            Err(Error::OddDegree { degree: 0 })
        ));
        assert!(matches!(
            relu(1.0, &[7, 8]),
            Err(Error::OddDegree { degree: 8 })
        ));
        assert!(matches!(relu(1.0, &[1001]), Err(Error::Degree { .. })));
        assert!(matches!(
            Composite::published_relu(1.0, 15),
            Err(Error::Alpha { alpha: 15 })
        ));
    }
}
