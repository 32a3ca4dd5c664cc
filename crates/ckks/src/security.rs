//! Security of every published key, from published tables; and the probability that a bootstrap fails, derived ([`overflow_log2`]).
//!
//! * Keys under the dense ternary secret: J.-P. Bossuat et al., "Security Guidelines for Implementing Homomorphic
//!   Encryption" (2024), ternary secrets, classical, 128 bits: the largest log QP for each N (`TERNARY_128`).
//! * The dense-to-sparse key of sparse-secret encapsulation encrypts under a secret of Hamming weight h with a modulus of
//!   about 100 bits; the guidelines' tables do not cover sparse secrets, so it is judged by \[BTH22\] (Bossuat,
//!   Troncoso-Pastoriza, Hubaux, "Bootstrapping for Approximate Homomorphic Encryption with Negligible
//!   Failure-Probability by Using Sparse-Secret Encapsulation"), which takes h = 32 at N ≥ 2^15 with a modulus of at most
//!   about 2^110 as 128-bit secure.

/// (log2 N, largest log2 QP) at 128 bits for ternary secrets [Bossuat et al. 2024].
const TERNARY_128: [(u32, f64); 8] = [
    (10, 26.0),
    (11, 53.0),
    (12, 106.0),
    (13, 214.0),
    (14, 430.0),
    (15, 868.0),
    (16, 1747.0),
    (17, 3523.0),
];

/// Largest log2 of the modulus of a key under an ephemeral secret of weight 32 \[BTH22\], by log2 N.
const SPARSE_128: [(u32, f64); 3] = [(15, 55.0), (16, 110.0), (17, 220.0)];

/// One published key's security.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySecurity {
    /// Which key.
    pub name: String,
    /// log2 of its modulus.
    pub log_modulus: f64,
    /// Bits of security: 128 where the table says at least 128; below the table an estimate by proportion.
    pub bits: u32,
    /// The source of the figure.
    pub source: &'static str,
}

/// Largest log2 QP of keys under the dense secret at 128 bits; 0 for rings that the table does not have.
pub fn ternary_limit(log_n: u32) -> f64 {
    limit(&TERNARY_128, log_n)
}

fn judge(limit: f64, log_modulus: f64) -> u32 {
    if log_modulus <= limit {
        128
    } else {
        // λ is nearly proportional to N/log Q at fixed secret; rounded down, only for the message of a refusal
        ((128.0 * limit / log_modulus).floor() as u32).min(127)
    }
}

/// Every kind of key that is published, with its security: for log2 N, log2 QP and, with bootstrapping, the Hamming weight of
/// the ephemeral secret and log2 of the dense-to-sparse key's modulus.
pub fn keys(log_n: u32, log_qp: f64, sparse: Option<(usize, f64)>) -> Vec<KeySecurity> {
    let dense = |name: &str| KeySecurity {
        name: name.into(),
        log_modulus: log_qp,
        bits: judge(ternary_limit(log_n), log_qp),
        source: "Bossuat et al. 2024, ternary secret",
    };
    let mut all = vec![dense("relinearisation, rotation and conjugation keys")];
    if let Some((hamming_weight, log_modulus)) = sparse {
        all.push(dense("sparse-to-dense keys"));
        all.push(KeySecurity {
            name: format!("dense-to-sparse key (h = {hamming_weight})"),
            log_modulus,
            bits: if hamming_weight < 32 {
                0
            } else {
                judge(limit(&SPARSE_128, log_n), log_modulus)
            },
            source: "BTH22, sparse-secret encapsulation",
        });
    }
    all
}

/// Every kind of key that a change of rings publishes ([`crate::RingSwitch`]): for log2 N, log2 N' and log2 of their modulus. What is under
/// the secret of the small ring is judged at its degree, whatever ring it lies in: a polynomial of degree N under s'(X^t) is N/N' samples of degree N'.
pub fn ring_switch_keys(log_n: u32, log_small: u32, log_modulus: f64) -> Vec<KeySecurity> {
    let of = |name: String, log_degree: u32| KeySecurity {
        name,
        log_modulus,
        bits: judge(limit(&TERNARY_128, log_degree), log_modulus),
        source: "Bossuat et al. 2024, ternary secret",
    };
    vec![
        of(
            format!("key down to the ring of degree 2^{log_small}"),
            log_small,
        ),
        of(
            format!("relinearisation and Galois keys of degree 2^{log_small}"),
            log_small,
        ),
        of(
            format!("key up from the ring of degree 2^{log_small}"),
            log_n,
        ),
    ]
}

/// The largest log2 of a modulus at a degree; 0 for a degree that the table has not.
fn limit(table: &[(u32, f64)], log_n: u32) -> f64 {
    let limit = table.iter().find(|(n, _)| *n == log_n);
    limit.map_or(0.0, |x| x.1)
}

/// P(I = k) for one coefficient after ModRaise with a sparse ternary secret of weight h, exact.
///
/// The operand is (c₀, c₁) modulo q₀ under the sparse secret s′, with phase m = c₀ + c₁·s′ modulo q₀; lifted to the centered
/// integers it is c₀ + c₁·s′ = m + q₀·I. Under ring-LWE the coefficients of c₁ are uniform, so a coefficient of c₁·s′/q₀ is a sum W of
/// h independent uniforms on (−1/2, 1/2) (Irwin–Hall, centered), and c₀/q₀ is what brings W to μ = m/q₀ modulo 1, within
/// [−1/2, 1/2): I = round(W − μ). Hence P(I = k) = P(|W − μ − k| < 1/2) = f(k + μ), where f is the density of h + 1 uniforms:
/// the centered cardinal B-spline of order h + 1. Here μ = 0: |μ| is at most 2^−11 (|x| ≤ 1/2 at S₀/q₀ = 2^−10), which moves the two-sided
/// tail beyond K by a factor below 1.001 (for h = 32 and K ≤ 15 the slope of ln f at K + 1 is at most 64).
///
/// Cost: h² operations. All terms of the recurrence (Cox–de Boor) are positive, so the relative error is about h·2^−53 even far in
/// the tail, down to 2^−1022 (h up to 150 at any k); the textbook sum with alternating signs loses all digits there.
pub fn integer_part(hamming_weight: usize, k: i64) -> f64 {
    let h = hamming_weight as i64;
    // at order m, values at k + (h + 1 − m)/2 − i for i = 0 … h + 1 − m; arguments are doubled to be integers
    let mut f: Vec<f64> = (0..=h)
        .map(|i| f64::from(u8::from((-1..1).contains(&(2 * k + h - 2 * i)))))
        .collect();
    for m in 2..=h + 1 {
        f = (0..=h + 1 - m)
            .map(|i| {
                let x = 2 * k + h + 1 - m - 2 * i;
                let (left, right) = ((m + x).max(0) as f64, (m - x).max(0) as f64);
                let at = i as usize;
                (left * f[at] + right * f[at + 1]) / (2 * (m - 1)) as f64
            })
            .collect();
    }
    f[0]
}

/// P(|I| > K) for one coefficient: the sum of [`integer_part`] beyond the range, which is P(|W| > K + 1/2). Zero where K ≥ h/2: as all
/// coefficients of c₀ and c₁ are below q₀/2, |I| < (h+1)/2 + |μ| whatever the ciphertext.
pub fn overflow(hamming_weight: usize, range: usize) -> f64 {
    let most = hamming_weight.div_ceil(2);
    // from the smallest term up
    let tail = (range + 1..=most)
        .rev()
        .fold(0.0, |sum, k| sum + integer_part(hamming_weight, k as i64));
    2.0 * tail
}

/// log2 of the failure probability of one bootstrap, at most: the union bound over its coefficients of [`overflow`].
///
/// EvalMod's variable w = (v − 1/4)/(K + 1/2) covers v = I + μ from −K − 1/4 to K + 3/4. With |μ| < 1/4 that is exactly |I| ≤ K: the next
/// integers, −K − 1 and K + 1, lie outside on either side. A bootstrap of n slots has 2n `coefficients` that matter: below n = N/2
/// the trace onto the subring of Y = X^(N/2n) removes all others, whatever their I, before EvalMod.
///
/// −∞ where a failure is impossible: for h = 32 and K = 16, the presets, |I| < 16.5 + |μ| < 17. For h = 32 and 2^16 coefficients K = 15 gives
/// 2^−132.7, K = 14 2^−81.9, K = 12 2^−42.8, K = 8 2^−8.2.
pub fn overflow_log2(coefficients: usize, hamming_weight: usize, range: usize) -> f64 {
    (coefficients as f64 * overflow(hamming_weight, range))
        .log2()
        .min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chernoff's bound from above on [`overflow_log2`], in closed form: min over s > 0 of 2·coefficients·E(e^(sW))·e^(−s(K + 1/2)), with
    /// E(e^(sW)) = (sinh(s/2)/(s/2))^h. A check by other means.
    fn overflow_chernoff_log2(coefficients: usize, hamming_weight: usize, range: usize) -> f64 {
        let h = hamming_weight as f64;
        let t = range as f64 + 0.5;
        if t >= h / 2.0 {
            return f64::NEG_INFINITY;
        }
        // ln sinh(x) = x + ln((1 − e^(−2x))/2); any s gives a bound, so a grid does
        let best = (1..8000)
            .map(|i| {
                let s = f64::from(i) * 0.02;
                let x = s / 2.0;
                h * (x + ((1.0 - (-2.0 * x).exp()) / 2.0).ln() - x.ln()) - s * t
            })
            .fold(0.0f64, f64::min);
        (best / std::f64::consts::LN_2 + 1.0 + (coefficients as f64).log2()).min(0.0)
    }

    #[test]
    fn the_law_of_the_integer_part_is_the_b_spline() {
        // against the textbook sum with alternating signs, in integers
        for h in [1i128, 2, 3, 8, 15, 20] {
            let m = h + 1;
            let factorial: i128 = (1..=h).product();
            for k in 0..=h / 2 + 1 {
                let mut binomial = 1i128;
                let mut sum = 0i128;
                for i in 0..=m {
                    let x = 2 * k + m - 2 * i;
                    if x <= 0 {
                        break;
                    }
                    let term = binomial * x.pow(h as u32);
                    sum += if i % 2 == 0 { term } else { -term };
                    binomial = binomial * (m - i) / (i + 1);
                }
                let exact = sum as f64 / factorial as f64 / (h as f64).exp2();
                let got = integer_part(h as usize, k as i64);
                assert!(
                    (got - exact).abs() <= 1e-13 * exact,
                    "h {h} k {k}: {got:e} {exact:e}"
                );
                assert_eq!(got, integer_part(h as usize, -k as i64));
            }
        }
        for h in [8usize, 31, 32, 64, 192] {
            let range = -(h as i64)..=h as i64;
            let total: f64 = range.clone().map(|k| integer_part(h, k)).sum();
            let variance: f64 = range.map(|k| (k * k) as f64 * integer_part(h, k)).sum();
            assert!((total - 1.0).abs() < 1e-12, "h {h}: {total}");
            assert!((variance / ((h + 1) as f64 / 12.0) - 1.0).abs() < 1e-12);
        }
        // the last integer that can occur: all 33 uniforms near 1/2
        let log_factorial: f64 = (1..=32).map(|i| f64::from(i).log2()).sum();
        assert!((integer_part(32, 16).log2() + 32.0 + log_factorial).abs() < 1e-9);
    }

    #[test]
    fn chernoff_bounds_the_exact_tail() {
        for h in [2usize, 9, 16, 32, 64, 128] {
            for range in 0..h / 2 + 2 {
                let (exact, bound) = (
                    overflow_log2(1, h, range),
                    overflow_chernoff_log2(1, h, range),
                );
                assert!(exact <= bound, "h {h} K {range}: {exact} above {bound}");
                // both vanish together, and the bound is not far where there is a tail
                if bound.is_finite() {
                    assert!(
                        bound - exact < 8.0 + 0.1 * exact.abs(),
                        "h {h} K {range}: {exact} {bound}"
                    );
                }
            }
        }
    }
}
