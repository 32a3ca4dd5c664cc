//! Polynomials as their Chebyshev coefficients: what they are and what they do on [−1, 1]. [`crate::polynomial`] evaluates them.

use crate::Error;

/// Coefficients in the Chebyshev basis on [−1, 1].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Polynomial {
    coefficients: Vec<f64>,
}

/// What a polynomial does on [−1, 1].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Bound on |p|.
    pub(crate) most: f64,
    /// Bound on |p′|.
    pub(crate) steepest: f64,
    /// Root mean square of p′.
    pub(crate) slope: f64,
    /// Root mean square of p.
    pub(crate) rms: f64,
}

/// Degree above which a polynomial is bounded by its coefficients alone: the work at points grows with its square.
const MOST_SAMPLED: usize = 127;

/// Σ cₖTₖ at each point by Clenshaw's recurrence, several points at once.
fn evaluate_at(c: &[f64], points: &[f64]) -> Vec<f64> {
    const LANES: usize = 8;
    let mut values = Vec::with_capacity(points.len());
    for block in points.chunks(LANES) {
        let mut x = [0.0; LANES];
        x[..block.len()].copy_from_slice(block);
        let (mut b1, mut b2) = ([0.0; LANES], [0.0; LANES]);
        for &c in c[1..].iter().rev() {
            for l in 0..LANES {
                (b1[l], b2[l]) = (2.0 * x[l] * b1[l] - b2[l] + c, b1[l]);
            }
        }
        let lane = |l: usize| x[l] * b1[l] - b2[l] + c[0];
        values.extend((0..block.len()).map(lane));
    }
    values
}

impl TryFrom<Vec<f64>> for Polynomial {
    type Error = Error;

    fn try_from(coefficients: Vec<f64>) -> Result<Self, Error> {
        Self::new(coefficients)
    }
}

impl From<Polynomial> for Vec<f64> {
    fn from(polynomial: Polynomial) -> Self {
        polynomial.coefficients
    }
}

impl Polynomial {
    /// From Chebyshev coefficients (constant first); trailing zeros are dropped.
    ///
    /// # Errors
    /// If empty, of degree over 1023, or a coefficient is not finite.
    pub fn new(mut coefficients: Vec<f64>) -> Result<Self, Error> {
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        if coefficients.is_empty()
            || coefficients.len() > 1024
            || coefficients.iter().any(|c| !c.is_finite())
        {
            let reason = "1 to 1024 finite coefficients are needed";
            return Err(Error::conformance("polynomial", reason));
        }
        Ok(Self { coefficients })
    }
    /// Chebyshev coefficients, constant first.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }
    /// Degree.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }
    /// Levels that evaluation consumes.
    pub fn depth(&self) -> usize {
        if let Some((half, _)) = self.even_part_in_t2() {
            1 + crate::parameters::depth_of(half.len() - 1)
        } else {
            crate::parameters::depth_of(self.degree()).max(1)
        }
    }
    /// p(x) by Clenshaw's recurrence.
    pub fn evaluate(&self, x: f64) -> f64 {
        let (mut b1, mut b2) = (0.0, 0.0);
        for &c in self.coefficients.iter().skip(1).rev() {
            (b1, b2) = (2.0 * x * b1 - b2 + c, b1);
        }
        x * b1 - b2 + self.coefficients[0]
    }
    /// Bounds on |p| and on |p′| over [−1, 1], and the root mean square of p′ over operands concentrated around 0, with the density of a
    /// Gaussian of deviation 1/4: calibrated intervals reach at least four deviations of the data. That of p is over operands that are uniform, which
    /// lie further apart.
    pub(crate) fn range(&self) -> Range {
        let degree = self.degree();
        let slope = self.derivative();
        if degree > MOST_SAMPLED {
            // |T_k| ≤ 1 and |T_k′| ≤ k²
            let sum = |c: &[f64], weight: fn(f64) -> f64| -> f64 {
                let terms = c.iter().enumerate();
                terms.map(|(k, c)| weight(k as f64) * c.abs()).sum()
            };
            let steepest = sum(&self.coefficients, |k| k * k);
            return Range {
                most: sum(&self.coefficients, |_| 1.0),
                steepest,
                slope: steepest,
                rms: sum(&self.coefficients, |_| 1.0),
            };
        }
        // between the points cos(πj/m) a polynomial of degree d exceeds them by 1/cos(πd/2m) at most
        let m = (4 * (degree + 1)).max(128);
        let beyond = 1.0 / (std::f64::consts::PI * degree as f64 / (2 * m) as f64).cos();
        let angle = |j: usize| std::f64::consts::PI * j as f64 / m as f64;
        let points: Vec<f64> = (0..=m).map(|j| angle(j).cos()).collect();
        let (values, slopes) = (
            evaluate_at(&self.coefficients, &points),
            evaluate_at(&slope, &points),
        );
        let most = |v: &[f64]| v.iter().map(|v| v.abs()).fold(0.0, f64::max) * beyond;
        // over operands of this density
        let root = |v: &[f64], density: fn(f64) -> f64| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for (j, (x, v)) in points.iter().zip(v).enumerate() {
                let weight = density(*x) * angle(j).sin();
                sum += weight * v * v;
                weights += weight;
            }
            (sum / weights).sqrt()
        };
        Range {
            most: most(&values),
            steepest: most(&slopes),
            slope: root(&slopes, |x| (-8.0 * x * x).exp()),
            rms: root(&values, |_| 1.0),
        }
    }
    /// Chebyshev coefficients of p′.
    fn derivative(&self) -> Vec<f64> {
        let c = &self.coefficients;
        let mut d = vec![0.0; c.len() + 1];
        for k in (1..c.len()).rev() {
            d[k - 1] = d[k + 1] + 2.0 * k as f64 * c[k];
        }
        d[0] /= 2.0;
        d.truncate(self.degree().max(1));
        d
    }
    /// Where all odd coefficients but that of T_1 vanish and it saves products without costing depth: the coefficients
    /// of the even part as a polynomial in T_2, and the coefficient of T_1.
    pub(crate) fn even_part_in_t2(&self) -> Option<(Vec<f64>, f64)> {
        let c = &self.coefficients;
        if c.len() < 4
            || c.iter()
                .enumerate()
                .any(|(i, &v)| i % 2 == 1 && i > 1 && v != 0.0)
        {
            return None;
        }
        let half: Vec<f64> = c.iter().step_by(2).copied().collect();
        let t1 = c[1];
        (crate::parameters::depth_of(half.len() - 1) < crate::parameters::depth_of(self.degree()))
            .then_some((half, t1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_bounds() {
        // as close as the points allow, and never below what a dense grid shows
        let far: Vec<f64> = (0..200).map(|k| 0.9f64.powi(k)).collect();
        for c in [
            vec![0.3],
            vec![0.0, 0.5],
            vec![0.1, 0.5, -0.2, 0.2],
            [vec![0.0; 16], vec![1.0]].concat(),
            (0..64).map(|k| 0.8f64.powi(k)).collect(),
            far,
        ] {
            let p = Polynomial::new(c).expect("finite");
            let range = p.range();
            let h = 1.0 / 8192.0;
            let (mut most, mut steepest) = (0.0f64, 0.0f64);
            for i in -8192..8192 {
                let x = f64::from(i) * h;
                most = most.max(p.evaluate(x).abs());
                steepest = steepest.max((p.evaluate(x + h) - p.evaluate(x)).abs() / h);
            }
            let close = if p.degree() > MOST_SAMPLED { 4.0 } else { 1.09 };
            assert!(
                range.most >= most && range.most <= close * most,
                "{range:?} {most}"
            );
            assert!(
                range.steepest >= 0.999 * steepest && range.steepest <= close * 1.01 * steepest,
                "{range:?} {steepest}"
            );
            assert!(range.slope <= range.steepest);
        }
    }
}
