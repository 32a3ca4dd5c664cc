use super::Definition;

pub(super) const DEFINITION: Definition = Definition {
    name: "gelu",
    aliases: &[],
    onnx: Some("Gelu"),
    value: |x| x * normal_distribution(x),
    derivative: |x| {
        normal_distribution(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    },
};

/// `Φ(x) = erfc(−x/√2)/2`.
fn normal_distribution(x: f64) -> f64 {
    0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// The complementary error function, to about 1e-15 relative to 1.
///
/// For |x| < 2.5 the series `erf x = 2/√π · e^(−x²) Σ 2^n x^(2n+1)/(2n+1)!!` (all terms of one sign, no cancellation), beyond that
/// the continued fraction `erfc x = e^(−x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …))))`.
fn erfc(x: f64) -> f64 {
    let magnitude = x.abs();
    if magnitude < 2.5 {
        let mut term = magnitude;
        let mut sum = magnitude;
        let mut n = 0.0;
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * magnitude * magnitude / (2.0 * n + 1.0);
            sum += term;
        }
        let erf = 2.0 / std::f64::consts::PI.sqrt() * (-magnitude * magnitude).exp() * sum;
        if x >= 0.0 { 1.0 - erf } else { 1.0 + erf }
    } else {
        let mut fraction = magnitude;
        for k in (1..=60).rev() {
            fraction = magnitude + 0.5 * f64::from(k) / fraction;
        }
        let tail = (-magnitude * magnitude).exp() / (std::f64::consts::PI.sqrt() * fraction);
        if x >= 0.0 { tail } else { 2.0 - tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_is_continuous_where_the_two_formulas_meet() {
        assert!((erfc(2.5 - 1e-12) - erfc(2.5)).abs() < 1e-14);
        assert!((erfc(2.5) - 4.069_520_174_449_589e-4).abs() < 1e-16);
    }
}
