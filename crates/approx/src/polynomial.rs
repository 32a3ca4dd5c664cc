//! A polynomial in the Chebyshev basis of an interval.

use crate::error::Error;
use serde::{Deserialize, Serialize};

/// `p(x) = Σ_k c_k T_k(t)`, `t = (2x − a − b)/(b − a)`, on the interval `[a, b]`.
///
/// There is at least one coefficient, all are finite, `a < b`, and the last coefficient is not zero unless it is the only one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Polynomial {
    coefficients: Vec<f64>,
    interval: (f64, f64),
}

#[derive(Serialize, Deserialize)]
struct Parts {
    coefficients: Vec<f64>,
    interval: (f64, f64),
}

impl TryFrom<Parts> for Polynomial {
    type Error = Error;
    fn try_from(parts: Parts) -> Result<Self, Error> {
        Self::new(parts.coefficients, parts.interval)
    }
}

impl From<Polynomial> for Parts {
    fn from(p: Polynomial) -> Self {
        Self {
            coefficients: p.coefficients,
            interval: p.interval,
        }
    }
}

pub(crate) fn check_interval((low, high): (f64, f64)) -> Result<(), Error> {
    if low.is_finite() && high.is_finite() && low < high && (high - low).is_finite() {
        Ok(())
    } else {
        Err(Error::Interval { low, high })
    }
}

pub(crate) fn check_degree(method: &'static str, degree: usize, limit: usize) -> Result<(), Error> {
    if degree > limit {
        return Err(Error::Degree {
            method,
            degree,
            limit,
        });
    }
    Ok(())
}

impl Polynomial {
    /// The polynomial with these Chebyshev coefficients (`coefficients[k]` belongs to `T_k`) on `interval = (a, b)`.
    /// Trailing zeros are dropped.
    ///
    /// # Errors
    /// [`Error::Interval`] unless `a < b` are finite; [`Error::Coefficient`] for an empty list or a coefficient that isn't finite.
    pub fn new(mut coefficients: Vec<f64>, interval: (f64, f64)) -> Result<Self, Error> {
        check_interval(interval)?;
        let mut all = coefficients.iter().enumerate();
        if let Some((index, &value)) = all.find(|(_, c)| !c.is_finite()) {
            return Err(Error::Coefficient { index, value });
        }
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        if coefficients.is_empty() {
            let (index, value) = (0, f64::NAN);
            return Err(Error::Coefficient { index, value });
        }
        Ok(Self {
            coefficients,
            interval,
        })
    }

    /// The polynomial `Σ m_k x^k` on `interval`, converted to the Chebyshev basis.
    ///
    /// # Errors
    /// As [`Polynomial::new`].
    pub fn from_monomial(monomial: &[f64], interval: (f64, f64)) -> Result<Self, Error> {
        check_interval(interval)?;
        let (half, middle) = half_and_middle(interval);
        // Horner with x = half·t + middle, the accumulator being kept in the Chebyshev basis.
        let mut sum: Vec<f64> = vec![0.0];
        for &m in monomial.iter().rev() {
            let mut next = vec![0.0; sum.len() + 1];
            for (k, &c) in sum.iter().enumerate() {
                next[k] += middle * c;
                // t·T_k = (T_{k+1} + T_{|k−1|})/2, and t·T_0 = T_1.
                if k == 0 {
                    next[1] += half * c;
                } else {
                    next[k + 1] += 0.5 * half * c;
                    next[k - 1] += 0.5 * half * c;
                }
            }
            next[0] += m;
            sum = next;
        }
        sum.truncate(monomial.len());
        Self::new(sum, interval)
    }

    /// The coefficients `m_k` of `Σ m_k x^k`. Ill-conditioned for large degrees on wide or off-centre intervals.
    #[must_use]
    pub fn to_monomial(&self) -> Vec<f64> {
        let (half, middle) = half_and_middle(self.interval);
        // Powers of t first, by the recurrence T_{k+1} = 2t·T_k − T_{k−1}.
        let n = self.coefficients.len();
        let (mut previous, mut current) = (vec![0.0; n], vec![0.0; n]);
        let mut in_t = vec![0.0; n];
        current[0] = 1.0;
        for (k, &c) in self.coefficients.iter().enumerate() {
            for (sum, &v) in in_t.iter_mut().zip(&current) {
                *sum += c * v;
            }
            let factor = if k == 0 { 1.0 } else { 2.0 };
            let mut next = vec![0.0; n];
            for j in 0..n {
                let shifted = if j == 0 { 0.0 } else { current[j - 1] };
                next[j] = factor * shifted - previous[j];
            }
            previous = current;
            current = next;
        }
        // Then substitute t = (x − middle)/half by Horner.
        let mut out = vec![0.0; n];
        for &c in in_t.iter().rev() {
            let mut next = vec![0.0; n];
            for j in 0..n {
                next[j] = -middle / half * out[j] + if j == 0 { 0.0 } else { out[j - 1] / half };
            }
            next[0] += c;
            out = next;
        }
        out
    }

    /// `p(x)` by Clenshaw's recurrence; no guard outside of the interval.
    #[must_use]
    pub fn eval(&self, x: f64) -> f64 {
        let (half, middle) = half_and_middle(self.interval);
        clenshaw(&self.coefficients, (x - middle) / half)
    }

    /// Chebyshev coefficients, `T_0` first; at least one.
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The interval `(a, b)`, `a < b`.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// Degree; 0 for constants, zero included.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// Multiplicative depth `⌈log2(degree + 1)⌉` of evaluating it: 3 → 2, 15 → 4, 31 → 5.
    #[must_use]
    pub fn depth(&self) -> u32 {
        depth_of_degree(self.degree())
    }

    /// The derivative `dp/dx` on the same interval.
    #[must_use]
    pub fn derivative(&self) -> Self {
        let (half, _) = half_and_middle(self.interval);
        let n = self.degree();
        let mut d = vec![0.0; n + 2];
        for k in (1..=n).rev() {
            d[k - 1] = d[k + 1] + 2.0 * k as f64 * self.coefficients[k];
        }
        d[0] *= 0.5;
        d.truncate(n.max(1));
        for c in &mut d {
            *c /= half;
        }
        while d.len() > 1 && d.last() == Some(&0.0) {
            d.pop();
        }
        Self {
            coefficients: d,
            interval: self.interval,
        }
    }

    /// `q(x) = p(scale·x + shift)` on the preimage of the interval. Exact: the coefficients stay, up to the sign of the odd ones.
    ///
    /// # Errors
    /// [`Error::Interval`] when `scale` is zero or the preimage isn't finite.
    pub(crate) fn compose_affine(&self, scale: f64, shift: f64) -> Result<Self, Error> {
        let (a, b) = self.interval;
        let (a, b) = ((a - shift) / scale, (b - shift) / scale);
        if scale < 0.0 {
            let flipped = self
                .coefficients
                .iter()
                .enumerate()
                .map(|(k, &c)| if k % 2 == 1 { -c } else { c });
            Self::new(flipped.collect(), (b, a))
        } else {
            Self::new(self.coefficients.clone(), (a, b))
        }
    }
}

/// `⌈log2(degree + 1)⌉`: levels that a polynomial of this degree takes.
#[must_use]
pub(crate) fn depth_of_degree(degree: usize) -> u32 {
    (degree + 1).next_power_of_two().trailing_zeros()
}

/// `(b − a)/2` and `(a + b)/2`.
pub(crate) fn half_and_middle((a, b): (f64, f64)) -> (f64, f64) {
    (0.5 * (b - a), 0.5 * (a + b))
}

/// `T_0(t)`, `T_1(t)`, …
pub(crate) fn chebyshev_polynomials(t: f64) -> impl Iterator<Item = f64> {
    let pairs = std::iter::successors(Some((t, 1.0)), move |&(previous, current)| {
        Some((current, 2.0 * t * current - previous))
    });
    pairs.map(|pair| pair.1)
}

/// `Σ c_k T_k(t)`.
pub(crate) fn clenshaw(coefficients: &[f64], t: f64) -> f64 {
    let (mut b1, mut b2) = (0.0, 0.0);
    for &c in coefficients.iter().skip(1).rev() {
        (b1, b2) = (2.0 * t * b1 - b2 + c, b1);
    }
    t * b1 - b2 + coefficients.first().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Polynomial {
        /// `scale·p(x) + shift` on the same interval.
        pub(crate) fn then_affine(&self, scale: f64, shift: f64) -> Result<Self, Error> {
            let mut coefficients: Vec<f64> = self.coefficients.iter().map(|c| scale * c).collect();
            coefficients[0] += shift;
            Self::new(coefficients, self.interval)
        }
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!(
            (a - b).abs() <= tolerance,
            "{a} and {b} differ by more than {tolerance}"
        );
    }

    #[test]
    fn evaluates_chebyshev_polynomials_as_cosines() {
        for k in 0..20usize {
            let mut c = vec![0.0; k + 1];
            c[k] = 1.0;
            let p = Polynomial::new(c, (-3.0, 5.0)).expect("valid");
            for i in 0..=50 {
                let t: f64 = -1.0 + 2.0 * f64::from(i) / 50.0;
                close(p.eval(4.0 * t + 1.0), (k as f64 * t.acos()).cos(), 1e-12);
            }
            close(p.sup_norm(), 1.0, 1e-12);
        }
    }

    #[test]
    fn depth_is_the_rounded_up_logarithm() {
        for (degree, depth) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (7, 3),
            (15, 4),
            (16, 5),
            (27, 5),
            (31, 5),
            (63, 6),
        ] {
            assert_eq!(depth_of_degree(degree), depth, "degree {degree}");
        }
    }

    #[test]
    fn monomials_survive_the_round_trip() {
        let m = [0.5, -1.25, 3.0, 0.125, -0.75];
        let p = Polynomial::from_monomial(&m, (-1.5, 2.5)).expect("valid");
        assert_eq!(p.degree(), 4);
        for (a, b) in p.to_monomial().iter().zip(m) {
            close(*a, b, 1e-12);
        }
        for i in 0..=20 {
            let x = -3.0 + 0.3 * f64::from(i);
            close(p.eval(x), m.iter().rev().fold(0.0, |s, c| s * x + c), 1e-10);
        }
    }

    #[test]
    fn derivative_matches_the_monomial_derivative() {
        let p = Polynomial::from_monomial(&[1.0, 2.0, -3.0, 4.0], (-2.0, 1.0)).expect("valid");
        let d = p.derivative();
        for i in 0..=10 {
            let x = -2.0 + 0.3 * f64::from(i);
            close(d.eval(x), 2.0 - 6.0 * x + 12.0 * x * x, 1e-10);
        }
        let constant = Polynomial::new(vec![7.0], (0.0, 1.0)).expect("valid");
        assert_eq!(constant.derivative().eval(0.3), 0.0);
    }

    #[test]
    fn affine_maps_compose_exactly() {
        let p = Polynomial::from_monomial(&[1.0, -2.0, 0.5, 0.25], (-2.0, 6.0)).expect("valid");
        for (scale, shift) in [(2.0, 1.0), (-0.5, 3.0)] {
            let q = p.compose_affine(scale, shift).expect("valid");
            let r = p.then_affine(scale, shift).expect("valid");
            for i in 0..=10 {
                let x = -1.0 + 0.2 * f64::from(i);
                close(q.eval(x), p.eval(scale * x + shift), 1e-11);
                close(r.eval(x), scale * p.eval(x) + shift, 1e-11);
            }
        }
        let moved = p.on_interval((0.0, 1.0)).expect("valid");
        close(moved.eval(5.0), p.eval(5.0), 1e-9);
    }

    #[test]
    fn sup_norm_and_lipschitz_of_a_parabola() {
        let p = Polynomial::from_monomial(&[0.0, 0.0, 1.0], (-1.0, 3.0)).expect("valid");
        close(p.sup_norm(), 9.0, 1e-12);
        close(p.lipschitz(), 6.0, 1e-12);
    }

    #[test]
    fn refuses_bad_intervals_and_coefficients() {
        assert!(matches!(
            Polynomial::new(vec![1.0], (1.0, 1.0)),
            Err(Error::Interval { .. })
        ));
        assert!(matches!(
            Polynomial::new(vec![1.0], (0.0, f64::INFINITY)),
            Err(Error::Interval { .. })
        ));
        assert!(matches!(
            Polynomial::new(vec![], (0.0, 1.0)),
            Err(Error::Coefficient { .. })
        ));
        assert!(matches!(
            Polynomial::new(vec![0.0, f64::NAN], (0.0, 1.0)),
            Err(Error::Coefficient { index: 1, .. })
        ));
    }
}
