//! A second ring of smaller degree over the same primes.
//!
//! With t = N/N' every polynomial of the big ring is Σ_{i < t} X^i·p_i(X^t) with p_i in the small one: its residue classes. Products by
//! polynomials in X^t, and so key switching to a secret s'(X^t), act on each class apart.

use crate::{Coeff, Form, Ring, RnsPoly};

impl Ring {
    /// The ring of degree 2^log_n over the primes at `indices`, in this order. A prime that suits a degree suits every smaller one.
    ///
    /// # Errors
    /// As [`Ring::new`].
    ///
    /// # Panics
    /// If an index is not below the number of moduli.
    pub fn over(&self, log_n: u32, indices: &[usize]) -> Result<Ring, crate::Error> {
        let primes: Vec<u64> = indices.iter().map(|&i| self.modulus(i).value()).collect();
        Ring::new(log_n, &primes)
    }
}

impl RnsPoly<Coeff> {
    /// The residue classes p_i of the coefficients, p = Σ X^i·p_i(X^t), modulo the same primes, which `small` has at `indices`.
    ///
    /// # Panics
    /// If the degree of `small` does not divide this one's, or a modulus is another.
    #[must_use]
    pub fn classes(&self, small: &Ring, indices: &[usize]) -> Vec<Self> {
        let t = ratio(self.ring(), small);
        check_moduli(self, small, indices);
        (0..t)
            .map(|i| {
                RnsPoly::from_limbs(small, indices, |k, out| {
                    let from = self.limb(k)[i..].iter().step_by(t);
                    out.iter_mut().zip(from).for_each(|(o, x)| *o = *x);
                })
            })
            .collect()
    }

    /// Σ X^i·p_i(X^t), the inverse of [`RnsPoly::classes`], in a ring that has the moduli of the classes at `indices`.
    ///
    /// # Panics
    /// Unless there are as many classes as degrees ask for, all with the moduli at `indices`.
    #[must_use]
    pub fn from_classes(ring: &Ring, indices: &[usize], classes: &[Self]) -> Self {
        let t = classes.len();
        for c in classes {
            assert_eq!(ratio(ring, c.ring()), t, "{t} classes");
            check_moduli(c, ring, indices);
        }
        RnsPoly::from_limbs(ring, indices, |k, out| {
            for (i, class) in classes.iter().enumerate() {
                let to = out[i..].iter_mut().step_by(t);
                to.zip(class.limb(k)).for_each(|(o, x)| *o = *x);
            }
        })
    }
}

fn ratio(ring: &Ring, small: &Ring) -> usize {
    assert!(small.n() <= ring.n(), "a small ring has the lower degree");
    ring.n() / small.n()
}

fn check_moduli<F: Form>(x: &RnsPoly<F>, ring: &Ring, indices: &[usize]) {
    assert!(
        indices.len() == x.limbs()
            && (0..x.limbs()).all(|k| x.modulus(k) == ring.modulus(indices[k])),
        "the same moduli in the same order"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expander, Ntt, limb, ntt_primes};
    use num_bigint::BigInt;
    use num_traits::ToPrimitive;

    fn rings(log_n: u32, log_small: u32) -> (Ring, Ring) {
        let primes = ntt_primes(log_n, 1 << 45, 4, &[]).expect("primes");
        let ring = Ring::new(log_n, &primes).expect("ring");
        let small = ring.over(log_small, &[0, 3, 1]).expect("small ring");
        (ring, small)
    }

    fn random(ring: &Ring, indices: &[usize], seed: u8) -> RnsPoly<Coeff> {
        RnsPoly::from_limbs(ring, indices, |k, out| {
            Expander::new([seed; 32]).uniform(k as u64, ring.modulus(indices[k]), out)
        })
    }

    #[test]
    fn classes_come_back_and_lie_where_they_should() {
        for (log_n, log_small) in [(5, 3), (6, 6), (9, 4)] {
            let (ring, small) = rings(log_n, log_small);
            let x = random(&ring, &[3, 0], 1);
            let classes = x.classes(&small, &[1, 0]);
            let t = ring.n() / small.n();
            assert_eq!(classes.len(), t);
            for (i, c) in classes.iter().enumerate() {
                for j in 0..small.n() {
                    assert_eq!(c.limb(0)[j], x.limb(0)[i + t * j]);
                    assert_eq!(c.limb(1)[j], x.limb(1)[i + t * j]);
                }
            }
            assert_eq!(RnsPoly::from_classes(&ring, &[3, 0], &classes), x);
        }
    }

    /// Products by polynomials in X^t act on each class apart, against schoolbook products of big integers.
    #[test]
    fn products_in_the_subring_act_on_each_class() {
        let (ring, small) = rings(6, 4);
        let (n, t) = (ring.n(), ring.n() / small.n());
        let x = random(&ring, &[0, 1], 2);
        let s: Vec<i64> = (0..small.n() as i64).map(|i| i * i % 7 - 3).collect();
        let of = |ring: &Ring, indices: [usize; 2], s: &[i64]| {
            RnsPoly::<Coeff>::from_limbs(ring, indices, |k, out| {
                limb::from_i64(ring.modulus(indices[k]), out, s)
            })
            .into_ntt()
        };
        let mut wide = vec![0; n];
        s.iter().enumerate().for_each(|(j, &v)| wide[t * j] = v);
        let mut big = x.clone().into_ntt();
        big.mul_assign(&of(&ring, [0, 1], &wide));
        let classes: Vec<_> = x
            .classes(&small, &[0, 2])
            .into_iter()
            .map(|c| {
                let mut c = c.into_ntt();
                c.mul_assign(&of(&small, [0, 2], &s));
                c.into_coeff()
            })
            .collect();
        let big = big.into_coeff();
        assert_eq!(RnsPoly::from_classes(&ring, &[0, 1], &classes), big);
        for k in 0..2 {
            let q = BigInt::from(ring.modulus(k).value());
            let mut want = vec![BigInt::from(0); n];
            for i in 0..n {
                for (j, &v) in wide.iter().enumerate() {
                    let p = BigInt::from(x.limb(k)[i]) * v;
                    let sign = if i + j < n { 1 } else { -1 };
                    want[(i + j) % n] += p * sign;
                }
            }
            for (have, want) in big.limb(k).iter().zip(want) {
                assert_eq!(Some(*have), (((want % &q) + &q) % &q).to_u64());
            }
        }
    }

    #[test]
    fn one_ring_of_the_same_degree_reads_the_others_limbs() {
        let (ring, _) = rings(5, 3);
        let same = ring.over(5, &[3, 1]).expect("ring");
        let x: RnsPoly<Ntt> = random(&ring, &[1, 3], 3).into_ntt();
        let y = x.within(&same, &[1, 0]);
        assert!(y.ring().same(&same));
        // the transform of a prime is the same in every ring of one degree
        let (x, y) = (x.into_coeff(), y.into_coeff());
        assert!(x.iter().eq(y.iter()));
    }
}
