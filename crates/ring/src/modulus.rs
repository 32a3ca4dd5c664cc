//! One prime modulus with its precomputed constants, and scalar arithmetic modulo it.

use crate::{Error, is_prime};

/// An odd prime `2^14 < q < 2^50` with the constants that Barrett and Shoup reduction need.
///
/// All arithmetic takes and gives canonical residues (`< q`) unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulus {
    pub(crate) q: u64,
    pub(crate) bits: u32,
    /// ⌊2^(bits+51) / q⌋, below 2^52.
    pub(crate) mu: u64,
    /// ⌊2^52 / q⌋.
    pub(crate) inv52: u64,
    /// ⌊2^64 / q⌋.
    pub(crate) inv64: u64,
    /// 2^52 mod q with its Shoup word.
    pub(crate) two52: Shoup,
    /// 2^92 mod q with its Shoup word.
    pub(crate) two92: Shoup,
    /// 2^64 mod q.
    pub(crate) two64: u64,
}

/// A fixed factor `w < q` with `w' = ⌊w·2^52 / q⌋`: multiplies any `a < 2^52` to a result in [0, 2q).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shoup {
    pub(crate) w: u64,
    pub(crate) ws: u64,
}

/// `a·w mod q` in [0, 2q), for `a < 2^52`.
#[inline(always)]
pub(crate) fn shoup_lazy(a: u64, s: Shoup, q: u64) -> u64 {
    let h = ((u128::from(a) * u128::from(s.ws)) >> 52) as u64;
    a.wrapping_mul(s.w).wrapping_sub(h.wrapping_mul(q))
}

/// `x - m` if `x >= m`, else `x`, without a branch; for `x < 2^63`.
#[inline(always)]
pub(crate) fn subtract_if_above(x: u64, m: u64) -> u64 {
    x.min(x.wrapping_sub(m))
}

impl Modulus {
    /// Checks `q` and computes its constants.
    ///
    /// # Errors
    /// [`Error::Modulus`] unless `q` is a prime with 2^14 < q < 2^50.
    pub fn new(q: u64) -> Result<Self, Error> {
        if q <= 1 << 14 || q >= 1 << 50 || !is_prime(q) {
            return Err(Error::Modulus { q });
        }
        let bits = 64 - q.leading_zeros();
        let wide = u128::from(q);
        let mut m = Modulus {
            q,
            bits,
            mu: ((1u128 << (bits + 51)) / wide) as u64,
            inv52: (1u64 << 52) / q,
            inv64: ((1u128 << 64) / wide) as u64,
            two52: Shoup::default(),
            two92: Shoup::default(),
            two64: ((1u128 << 64) % wide) as u64,
        };
        m.two52 = m.shoup((1u64 << 52) % q);
        m.two92 = m.shoup(((1u128 << 92) % wide) as u64);
        Ok(m)
    }

    /// The prime itself.
    #[inline]
    pub fn value(&self) -> u64 {
        self.q
    }

    /// The number of bits of the prime: 2^(bits-1) < q < 2^bits.
    #[inline]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// a + b.
    #[inline]
    pub fn add(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.q && b < self.q);
        subtract_if_above(a + b, self.q)
    }

    /// a - b.
    #[inline]
    pub fn sub(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.q && b < self.q);
        let d = a.wrapping_sub(b);
        d.min(d.wrapping_add(self.q))
    }

    /// -a.
    #[inline]
    pub fn neg(&self, a: u64) -> u64 {
        debug_assert!(a < self.q);
        subtract_if_above(self.q - a, self.q)
    }

    /// a · b.
    #[inline]
    pub fn mul(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.q && b < self.q);
        let x = u128::from(a) * u128::from(b);
        // x/q - 2.5 < estimate <= x/q, so the remainder is below 2.5q.
        let top = (x >> (self.bits - 1)) as u64;
        let estimate = ((u128::from(top) * u128::from(self.mu)) >> 52) as u64;
        let r = (x as u64).wrapping_sub(estimate.wrapping_mul(self.q));
        subtract_if_above(subtract_if_above(r, 2 * self.q), self.q)
    }

    /// a^e, with 0^0 = 1.
    pub fn pow(&self, a: u64, mut e: u64) -> u64 {
        let (mut base, mut out) = (a, 1);
        while e > 0 {
            if e & 1 == 1 {
                out = self.mul(out, base);
            }
            base = self.mul(base, base);
            e >>= 1;
        }
        out
    }

    /// a^-1 by Fermat; gives 0 for 0.
    pub fn inv(&self, a: u64) -> u64 {
        self.pow(a, self.q - 2)
    }

    /// x mod q for any word.
    #[inline]
    pub fn reduce(&self, x: u64) -> u64 {
        let estimate = ((u128::from(x) * u128::from(self.inv64)) >> 64) as u64;
        subtract_if_above(x.wrapping_sub(estimate.wrapping_mul(self.q)), self.q)
    }

    /// x mod q for any double word.
    #[inline]
    pub(crate) fn reduce_u128(&self, x: u128) -> u64 {
        let high = self.mul(self.reduce((x >> 64) as u64), self.two64);
        self.add(high, self.reduce(x as u64))
    }

    /// The residue of a signed integer.
    #[inline]
    pub fn from_i64(&self, x: i64) -> u64 {
        let r = self.reduce(x.unsigned_abs());
        if x < 0 { self.neg(r) } else { r }
    }

    /// The residue of a signed double word.
    #[inline]
    pub fn from_i128(&self, x: i128) -> u64 {
        let r = self.reduce_u128(x.unsigned_abs());
        if x < 0 { self.neg(r) } else { r }
    }

    /// The representative in [-(q-1)/2, (q-1)/2].
    #[inline]
    pub fn centered(&self, x: u64) -> i64 {
        debug_assert!(x < self.q);
        if x > self.q / 2 {
            x as i64 - self.q as i64
        } else {
            x as i64
        }
    }

    /// The Shoup word of a canonical factor.
    pub(crate) fn shoup(&self, w: u64) -> Shoup {
        debug_assert!(w < self.q);
        let x = u128::from(w) << 52;
        let mut ws = (((x >> (self.bits - 1)) * u128::from(self.mu)) >> 52) as u64;
        let mut r = x - u128::from(ws) * u128::from(self.q);
        while r >= u128::from(self.q) {
            ws += 1;
            r -= u128::from(self.q);
        }
        Shoup { w, ws }
    }

    /// `a·w mod q`, canonical, for `a < 2^52`.
    #[inline(always)]
    pub(crate) fn mul_shoup(&self, a: u64, s: Shoup) -> u64 {
        subtract_if_above(shoup_lazy(a, s, self.q), self.q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_agree_with_wide_integers() {
        let mut x = 0x9e37_79b9_7f4a_7c15_u64;
        for q in [16411u64, 65537, 2147473409, 1125899906842597] {
            let m = Modulus::new(q).expect("prime");
            let mut values = vec![0, 1, 2, q / 2, q / 2 + 1, q - 2, q - 1];
            for _ in 0..200 {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                values.push((x >> 7) % q);
                let w = (u128::from(x) << 64) | u128::from(x.rotate_left(17));
                assert_eq!(u128::from(m.reduce_u128(w)), w % u128::from(q));
                assert_eq!(m.reduce(x), x % q);
                assert_eq!(
                    i128::from(m.from_i64(x as i64)),
                    i128::from(x as i64).rem_euclid(i128::from(q))
                );
                assert_eq!(
                    i128::from(m.from_i128(w as i128)),
                    (w as i128).rem_euclid(i128::from(q))
                );
            }
            assert_eq!(
                i128::from(m.from_i64(i64::MIN)),
                i128::from(i64::MIN).rem_euclid(i128::from(q))
            );
            assert_eq!(
                i128::from(m.from_i128(i128::MIN)),
                i128::MIN.rem_euclid(i128::from(q))
            );
            assert_eq!(
                u128::from(m.reduce_u128(u128::MAX)),
                u128::MAX % u128::from(q)
            );
            assert_eq!(m.reduce(u64::MAX), u64::MAX % q);
            for &a in &values {
                assert_eq!(m.add(a, m.neg(a)), 0);
                assert_eq!(m.from_i64(m.centered(a)), a);
                if a != 0 {
                    assert_eq!(m.mul(a, m.inv(a)), 1);
                }
                let s = m.shoup(a);
                assert_eq!(u128::from(s.ws), (u128::from(a) << 52) / u128::from(q));
                for &b in &values {
                    assert_eq!(
                        u128::from(m.mul(a, b)),
                        u128::from(a) * u128::from(b) % u128::from(q)
                    );
                    assert_eq!(m.mul_shoup(b, s), m.mul(a, b));
                    assert_eq!(m.add(a, b), (a + b) % q);
                    assert_eq!(m.sub(a, b), (a + q - b) % q);
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_not_a_supported_prime() {
        for q in [
            0,
            1,
            2,
            3,
            12289,
            16384,
            65536,
            (1 << 50) - 1,
            1 << 50,
            1125899906842679,
        ] {
            assert_eq!(Modulus::new(q), Err(Error::Modulus { q }));
        }
    }
}
