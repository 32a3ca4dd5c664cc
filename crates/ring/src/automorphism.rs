//! The automorphisms X → X^g, g odd.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expander, Modulus, Ring, limb, ntt_primes};

    /// a(X^g) in coefficient form.
    fn image(q: &Modulus, a: &[u64], g: u64) -> Vec<u64> {
        let n = a.len();
        let mut out = vec![0; n];
        for (i, &x) in a.iter().enumerate() {
            let e = ((i as u64 * g) % (2 * n as u64)) as usize;
            if e < n {
                out[e] = x
            } else {
                out[e - n] = q.neg(x)
            }
        }
        out
    }

    #[test]
    fn both_forms_agree() {
        for log_n in [3, 4, 8, 10] {
            let ring = Ring::new(log_n, &ntt_primes(log_n, 1 << 46, 1, &[]).expect("primes"))
                .expect("ring");
            let (q, n) = (ring.modulus(0), ring.n());
            let mut a = vec![0; n];
            Expander::new([1; 32]).uniform(0, q, &mut a);
            for g in [1, 3, 5, 25, 2 * n as u64 - 1, 125, 5 + 2 * n as u64] {
                let mut want = image(q, &a, g);
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
