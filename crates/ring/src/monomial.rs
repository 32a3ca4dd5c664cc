//! Multiplication by powers of X.

use crate::buffer::AlignedVec;
use crate::{Coeff, Modulus, Ntt, RnsPoly};

/// X^e in NTT form modulo every prime of a ring, kept short: e = 2^a·odd lies in Z\[X^(2^a)\], whose transform has N/2^a values
/// (at least 8), each of which stands for a run of equal ones.
#[derive(Clone)]
pub struct Monomial {
    exponent: usize,
    limbs: Vec<AlignedVec>,
}

impl Monomial {
    /// X^exponent modulo all primes of the ring; any integer counts modulo 2N. Cost: one short NTT per prime.
    pub fn new(ring: &crate::Ring, exponent: i64) -> Self {
        let n = ring.n();
        let exponent = reduced(exponent, n);
        // the multiples of 2^a that are not below N are −X^(e − N)
        let step = 1 << exponent.trailing_zeros().min((n / 8).trailing_zeros());
        let limbs = (0..ring.moduli().len()).map(|k| {
            let mut limb = AlignedVec::zeroed(n / step);
            let q = ring.modulus(k).value();
            limb[exponent % n / step] = if exponent < n { 1 } else { q - 1 };
            ring.ntt(k).forward_sized(&mut limb);
            limb
        });
        Self {
            exponent,
            limbs: limbs.collect(),
        }
    }

    /// The exponent, from 0 to 2N − 1.
    pub fn exponent(&self) -> usize {
        self.exponent
    }

    /// The values modulo the prime number `index`, each standing for N/len equal ones: a factor for [`crate::limb::dot_runs`].
    ///
    /// # Panics
    /// If the ring has no such prime.
    pub fn limb(&self, index: usize) -> &[u64] {
        &self.limbs[index]
    }

    /// X^e·a.
    ///
    /// # Panics
    /// If the polynomial's ring has another degree or more primes.
    #[must_use]
    pub fn times(&self, a: &RnsPoly<Ntt>) -> RnsPoly<Ntt> {
        RnsPoly::from_limbs(a.ring(), a.indices(), |k, out| {
            let factor = self.limb(a.indices()[k]);
            crate::limb::dot_runs(a.modulus(k), out, &[(a.limb(k), factor)]);
        })
    }
}

impl RnsPoly<Coeff> {
    /// X^exponent·a for any integer exponent: a move of the coefficients; those that pass X^N change their sign.
    #[must_use]
    pub fn shifted(&self, exponent: i64) -> Self {
        let n = self.ring().n();
        let by = reduced(exponent, n);
        RnsPoly::from_limbs(self.ring(), self.indices(), |k, out| {
            shift(self.modulus(k), out, self.limb(k), by);
        })
    }
}

fn reduced(exponent: i64, n: usize) -> usize {
    exponent.rem_euclid(2 * n as i64) as usize
}

/// out = X^by·a, by below 2N.
fn shift(q: &Modulus, out: &mut [u64], a: &[u64], by: usize) {
    let n = a.len();
    let (stay, pass) = a.split_at(n - by % n);
    let (head, tail) = out.split_at_mut(by % n);
    tail.copy_from_slice(stay);
    head.copy_from_slice(pass);
    crate::limb::neg(q, if by < n { head } else { tail });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expander, Ring, ntt_primes};
    use num_bigint::BigInt;
    use num_traits::ToPrimitive;

    #[test]
    fn both_forms_shift_as_big_integers_do() {
        for log_n in [3u32, 4, 7, 9] {
            let primes = ntt_primes(log_n + 2, 1 << 40, 3, &[]).expect("primes");
            let ring = Ring::new(log_n, &primes).expect("ring");
            let n = ring.n() as i64;
            let indices = vec![2usize, 0];
            // a has the coefficients i^7 − 12345·i, as integers
            let a: Vec<BigInt> = (0..n)
                .map(|i| BigInt::from(i).pow(7) - BigInt::from(12345 * i))
                .collect();
            let residue = |x: &BigInt, q: u64| {
                let q = BigInt::from(q);
                (((x % &q) + &q) % &q).to_u64().expect("residue")
            };
            let poly = |a: &[BigInt]| {
                RnsPoly::<Coeff>::from_limbs(&ring, indices.clone(), |k, out| {
                    let q = primes[indices[k]];
                    out.iter_mut().zip(a).for_each(|(o, x)| *o = residue(x, q));
                })
            };
            let x = poly(&a);
            for e in [
                0,
                1,
                2,
                3,
                4,
                6,
                8,
                n / 2,
                n - 1,
                n,
                n + 1,
                n + 8,
                2 * n - 1,
                2 * n,
                -1,
                -4,
                -n,
                5 * n + 2,
            ] {
                let mut want = vec![BigInt::from(0); n as usize];
                for (i, c) in a.iter().enumerate() {
                    let to = (i as i64 + e).rem_euclid(2 * n);
                    let sign = if to < n { 1 } else { -1 };
                    want[(to % n) as usize] = c * sign;
                }
                let want = poly(&want);
                assert_eq!(x.shifted(e), want, "X^{e}, degree {n}");
                let m = Monomial::new(&ring, e);
                assert_eq!(m.exponent() as i64, e.rem_euclid(2 * n));
                assert_eq!(
                    m.times(&x.clone().into_ntt()).into_coeff(),
                    want,
                    "X^{e} in NTT form, degree {n}"
                );
            }
            assert_eq!(Monomial::new(&ring, n).limb(0).len(), 8);
        }
    }

    #[test]
    fn a_product_with_a_monomial_is_one_with_its_polynomial() {
        let ring = Ring::new(6, &ntt_primes(6, 1 << 30, 1, &[]).expect("primes")).expect("ring");
        let x = RnsPoly::<Ntt>::from_limbs(&ring, [0], |_, out| {
            Expander::new([4; 32]).uniform(0, ring.modulus(0), out);
        });
        for e in [1usize, 12, 63] {
            let mut whole = RnsPoly::<Coeff>::zero(&ring, [0]);
            whole.limb_mut(0)[e] = 1;
            let mut want = whole.into_ntt();
            want.mul_assign(&x);
            assert_eq!(Monomial::new(&ring, e as i64).times(&x), want);
        }
    }
}
