//! The automorphisms X → X^g, g odd.

use crate::Modulus;
use crate::ntt::reverse;

/// The permutation of X → X^g on NTT form: `(σ_g a)[i] = a[perm[i]]`, for [`crate::limb::permute`].
///
/// Any odd g counts modulo 2N. Every aligned block of a power of two words comes from one such block.
///
/// # Panics
/// If g is even or log_n is above 17.
pub fn automorphism(log_n: u32, g: u64) -> Vec<u32> {
    assert!(g % 2 == 1, "X → X^{g} is no automorphism");
    assert!(log_n <= 17, "degree 2^{log_n} is above 2^17");
    let n = 1usize << log_n;
    let mask = 2 * n as u64 - 1;
    let g = g & mask;
    (0..n)
        .map(|i| {
            // σ_g a at ψ^e is a at ψ^(g·e).
            let e = ((2 * reverse(i, log_n) as u64 + 1) * g) & mask;
            reverse((e / 2) as usize, log_n) as u32
        })
        .collect()
}

/// out = a(X^g) in coefficient form.
///
/// # Panics
/// If the lengths differ or are no power of two, or if g is even.
pub fn apply_coeff(q: &Modulus, out: &mut [u64], a: &[u64], g: u64) {
    assert!(g % 2 == 1, "X → X^{g} is no automorphism");
    assert!(
        a.len() == out.len() && a.len().is_power_of_two(),
        "limbs of {} and {}",
        a.len(),
        out.len()
    );
    let n = a.len();
    let mask = 2 * n as u64 - 1;
    let g = g & mask;
    for (i, &x) in a.iter().enumerate() {
        let e = ((i as u64 * g) & mask) as usize;
        if e < n {
            out[e] = x
        } else {
            out[e - n] = q.neg(x)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expander, Ring, limb, ntt_primes};

    #[test]
    fn both_forms_agree() {
        for log_n in [3, 4, 8, 10] {
            let ring = Ring::new(log_n, &ntt_primes(log_n, 1 << 46, 1, &[]).expect("primes"))
                .expect("ring");
            let (q, n) = (ring.modulus(0), ring.n());
            let mut a = vec![0; n];
            Expander::new([1; 32]).uniform(0, q, &mut a);
            for g in [1, 3, 5, 25, 2 * n as u64 - 1, 125, 5 + 2 * n as u64] {
                let mut want = vec![0; n];
                apply_coeff(q, &mut want, &a, g);
                ring.ntt(0).forward(&mut want);
                let mut b = a.clone();
                ring.ntt(0).forward(&mut b);
                let mut have = vec![0; n];
                limb::permute(&mut have, &b, &automorphism(log_n, g));
                assert_eq!(have, want, "X^{g}, degree {n}");
            }
        }
    }

    #[test]
    fn aligned_blocks_stay_together() {
        for g in [5u64, 25, 511, 131071] {
            let perm = automorphism(16, g);
            for block in [8, 64, 4096, 32768] {
                let together = |c: &[u32]| c.iter().all(|p| p / block == c[0] / block);
                assert!(perm.chunks(block as usize).all(together));
            }
        }
    }
}
