//! Security of every published key, from published tables.
//!
//! * Keys under the dense ternary secret: J.-P. Bossuat et al., "Security Guidelines for Implementing Homomorphic
//!   Encryption" (2024), ternary secrets, classical, 128 bits: the largest log QP for each N ([`TERNARY_128`]).
//! * The dense-to-sparse key of sparse-secret encapsulation encrypts under a secret of Hamming weight h with a modulus of
//!   about 100 bits; the guidelines' tables do not cover sparse secrets, so it is judged by [BTH22] (Bossuat,
//!   Troncoso-Pastoriza, Hubaux, "Bootstrapping for Approximate Homomorphic Encryption with Negligible
//!   Failure-Probability by Using Sparse-Secret Encapsulation"), which takes h = 32 at N ≥ 2^15 with a modulus of at most
//!   about 2^110 as 128-bit secure.

use crate::Parameters;

/// (log2 N, largest log2 QP) at 128 bits for ternary secrets [Bossuat et al. 2024].
pub const TERNARY_128: [(u32, f64); 8] = [
    (10, 26.0),
    (11, 53.0),
    (12, 106.0),
    (13, 214.0),
    (14, 430.0),
    (15, 868.0),
    (16, 1747.0),
    (17, 3523.0),
];

/// Largest log2 of the modulus of a key under an ephemeral secret of weight 32 [BTH22], by log2 N.
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

fn judge(limit: f64, log_modulus: f64) -> u32 {
    if log_modulus <= limit {
        128
    } else {
        // λ is nearly proportional to N/log Q at fixed secret; rounded down, only for the message of a refusal
        ((128.0 * limit / log_modulus).floor() as u32).min(127)
    }
}

/// Every kind of key that is published, with its security.
pub fn keys(parameters: &Parameters) -> Vec<KeySecurity> {
    let log_n = parameters.spec().log_n;
    let limit = TERNARY_128
        .iter()
        .find(|(n, _)| *n == log_n)
        .map_or(0.0, |x| x.1);
    let mut all = vec![KeySecurity {
        name: "relinearisation, rotation and conjugation keys".into(),
        log_modulus: parameters.log_qp(),
        bits: judge(limit, parameters.log_qp()),
        source: "Bossuat et al. 2024, ternary secret",
    }];
    if let Some(b) = parameters.bootstrap() {
        let log_modulus = parameters.modulus(crate::Level::new(0)).log2()
            + (parameters.prime(parameters.encapsulation_prime()).value() as f64).log2();
        let sparse_limit = SPARSE_128
            .iter()
            .find(|(n, _)| *n == log_n)
            .map_or(0.0, |x| x.1);
        all.push(KeySecurity {
            name: "sparse-to-dense key".into(),
            log_modulus: parameters.log_qp(),
            bits: judge(limit, parameters.log_qp()),
            source: "Bossuat et al. 2024, ternary secret",
        });
        all.push(KeySecurity {
            name: format!("dense-to-sparse key (h = {})", b.hamming_weight),
            log_modulus,
            bits: if b.hamming_weight < 32 {
                0
            } else {
                judge(sparse_limit, log_modulus)
            },
            source: "BTH22, sparse-secret encapsulation",
        });
    }
    all
}

/// The weakest of them.
pub fn limiting_key(parameters: &Parameters) -> KeySecurity {
    let mut all = keys(parameters);
    all.sort_by_key(|k| k.bits);
    all.swap_remove(0)
}

/// log2 of the probability that some coefficient of I exceeds K after ModRaise with a secret of weight h, in one
/// bootstrap: N times the tail of a sum of h + 1 uniforms on (−1/2, 1/2) beyond K + 1/4 (Irwin–Hall, Chernoff bound).
pub fn overflow_log2(n: usize, hamming_weight: usize, range: usize) -> f64 {
    let m = hamming_weight as f64 + 1.0;
    let t = range as f64 + 0.25;
    if t >= m / 2.0 {
        return f64::NEG_INFINITY;
    }
    // min over s > 0 of m·ln(sinh(s/2)/(s/2)) − s·t; ln sinh(x) = x + ln((1 − e^(−2x))/2)
    let best = (1..4000)
        .map(|i| {
            let s = f64::from(i) * 0.05;
            let x = s / 2.0;
            m * (x + ((1.0 - (-2.0 * x).exp()) / 2.0).ln() - x.ln()) - s * t
        })
        .fold(0.0f64, f64::min);
    best / std::f64::consts::LN_2 + 1.0 + (n as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ParametersSpec};

    #[test]
    fn the_standard_set_is_secure_and_its_bootstrap_does_not_overflow() {
        let p = Parameters::new(ParametersSpec::standard()).expect("secure");
        assert_eq!(p.security_bits(), 128);
        assert!(p.log_qp() < 1747.0);
        assert!(
            overflow_log2(p.n(), 32, 16) < -100.0,
            "{}",
            overflow_log2(p.n(), 32, 16)
        );
        // a smaller range would fail visibly often
        assert!(
            overflow_log2(p.n(), 32, 6) > -40.0,
            "{}",
            overflow_log2(p.n(), 32, 6)
        );
    }

    #[test]
    fn a_small_ring_is_refused_unless_it_is_named_a_toy() {
        let spec = ParametersSpec {
            name: "fast".into(),
            ..ParametersSpec::toy(11)
        };
        assert!(matches!(Parameters::new(spec), Err(Error::Insecure { .. })));
    }
}
