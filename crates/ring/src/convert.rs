//! Fast basis conversion between lists of primes, exact by a floating-point correction.

use rayon::prelude::*;

use crate::modulus::Shoup;
#[cfg(target_arch = "x86_64")]
use crate::{Backend, avx2, backend, ifma};
use crate::{Error, Modulus, portable};

/// The most source moduli of one conversion.
pub const MOST_SOURCES: usize = 24;

/// Coefficients per tile of `y`: as many as the kernels take at a time, so that `finish_many` reads `y`, which
/// no near cache holds, strictly in order.
const STORED: usize = 64;

/// Conversion from k source moduli (at most 24), of product Q, to any target moduli.
///
/// With x given by its residues x_i: `y_i = x_i·(Q/q_i)^-1 mod q_i`, `v = round(Σ y_i/q_i)` in f64, and
/// `x = Σ y_i·(Q/q_i) − v·Q`, which is the centered representative in (−Q/2, Q/2\]. Exact unless |x|/Q is within 2^-40 of 1/2;
/// then the result may be off by ±Q, which all uses tolerate.
#[derive(Clone, Debug)]
pub struct Conversion {
    source: Vec<Modulus>,
    target: Vec<Modulus>,
    /// (Q/q_i)^-1 mod q_i.
    factors: Vec<Shoup>,
    /// 1/q_i.
    recips: Vec<f64>,
    /// Per target: Q/q_i mod t for each i, then −Q mod t.
    constants: Vec<Vec<u64>>,
}

impl Conversion {
    /// Precomputes the constants; a target may also be a source.
    ///
    /// # Errors
    /// [`Error::SourceCount`] for none or more than [`MOST_SOURCES`], [`Error::Repeated`] for a repeated source.
    pub fn new(source: &[Modulus], target: &[Modulus]) -> Result<Self, Error> {
        if source.is_empty() || source.len() > MOST_SOURCES {
            return Err(Error::SourceCount {
                most: MOST_SOURCES,
                had: source.len(),
            });
        }
        if let Some((_, q)) = source
            .iter()
            .enumerate()
            .find(|(i, q)| source[..*i].contains(q))
        {
            return Err(Error::Repeated { q: q.value() });
        }
        let others = |i: usize, t: &Modulus| {
            let rest = source.iter().enumerate().filter(|(j, _)| *j != i);
            rest.fold(1, |p, (_, q)| t.mul(p, t.reduce(q.value())))
        };
        let factors = source
            .iter()
            .enumerate()
            .map(|(i, q)| q.shoup(q.inv(others(i, q))))
            .collect();
        let constants = target
            .iter()
            .map(|t| {
                let mut c: Vec<u64> = (0..source.len()).map(|i| others(i, t)).collect();
                c.push(t.neg(others(usize::MAX, t)));
                c
            })
            .collect();
        let recips = source.iter().map(|q| 1.0 / q.value() as f64).collect();
        Ok(Conversion {
            source: source.to_vec(),
            target: target.to_vec(),
            factors,
            recips,
            constants,
        })
    }

    /// The source moduli.
    pub fn source(&self) -> &[Modulus] {
        &self.source
    }

    /// What does not depend on the target of the conversion of the numbers with residues `src[i]` (coefficient form): fills `y` (k·N words) and
    /// `v` (N words). Cost per coefficient: 3·k multiply-adds, and 2·k for each target.
    ///
    /// The layout of `y` is this type's own: tiles of consecutive coefficients, k rows each.
    ///
    /// # Panics
    /// If the number of slices or their lengths do not match.
    pub fn prepare(&self, src: &[&[u64]], y: &mut [u64], v: &mut [u64]) {
        let n = self.check_source(src);
        let k = self.source.len();
        assert!(
            y.len() == k * n && v.len() == n,
            "y takes k·N words, v takes N"
        );
        y.par_chunks_mut(k * STORED)
            .zip(v.par_chunks_mut(STORED))
            .with_min_len(32)
            .enumerate()
            .for_each(|(t, (y, v))| self.prepare_tile(src, t * STORED, y, v));
    }

    /// The centered representatives modulo several targets, from the result of [`Self::prepare`]; runs on the calling thread, so that the
    /// caller can go on with a limb while it lies in its cache. Each tile of `y`, which no near cache holds as a whole, is read once for all
    /// targets.
    ///
    /// # Panics
    /// If the lengths do not match or there is no such target.
    pub fn finish_many(&self, y: &[u64], v: &[u64], dst: &mut [(usize, &mut [u64])]) {
        let k = self.source.len();
        assert!(
            y.len() == k * v.len() && dst.iter().all(|(_, d)| d.len() == v.len()),
            "y takes k·N words, v and the destinations take N"
        );
        for (t, (y, v)) in y.chunks(k * STORED).zip(v.chunks(STORED)).enumerate() {
            for (target, d) in dst.iter_mut() {
                let at = t * STORED;
                self.finish_tile(*target, y, v, &mut d[at..at + v.len()]);
            }
        }
    }

    fn check_source(&self, src: &[&[u64]]) -> usize {
        assert_eq!(
            src.len(),
            self.source.len(),
            "one source limb per source modulus"
        );
        src.iter()
            .for_each(|s| assert_eq!(s.len(), src[0].len(), "limbs differ in length"));
        src[0].len()
    }

    fn prepare_tile(&self, src: &[&[u64]], at: usize, y: &mut [u64], v: &mut [u64]) {
        let (q, f, r) = (&self.source[..], &self.factors[..], &self.recips[..]);
        #[cfg(target_arch = "x86_64")]
        if v.len().is_multiple_of(8) {
            match backend() {
                Backend::Portable => {}
                // SAFETY: backend() is Avx2 only where the processor has every feature that the kernel enables.
                Backend::Avx2 => return unsafe { avx2::convert::prepare(q, f, r, src, at, y, v) },
                // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
                Backend::Ifma => return unsafe { ifma::convert::prepare(q, f, r, src, at, y, v) },
            }
        }
        portable::convert_prepare(q, f, r, src, at, y, v);
    }

    fn finish_tile(&self, j: usize, y: &[u64], v: &[u64], out: &mut [u64]) {
        let (q, c) = (&self.target[j], &self.constants[j][..]);
        #[cfg(target_arch = "x86_64")]
        if v.len().is_multiple_of(8) {
            match backend() {
                Backend::Portable => {}
                // SAFETY: backend() is Avx2 only where the processor has every feature that the kernel enables.
                Backend::Avx2 => return unsafe { avx2::convert::finish(q, c, y, v, out) },
                // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
                Backend::Ifma => return unsafe { ifma::convert::finish(q, c, y, v, out) },
            }
        }
        portable::convert_finish(q, c, y, v, out);
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_traits::ToPrimitive;

    use super::*;
    use crate::{Expander, ntt_primes};

    fn moduli(bits: u32, count: usize, skip: &[u64]) -> Vec<Modulus> {
        let q = ntt_primes(10, 1 << bits, count, skip).expect("primes");
        q.into_iter()
            .map(|q| Modulus::new(q).expect("prime"))
            .collect()
    }

    fn residue(x: &BigInt, q: &Modulus) -> u64 {
        let q = BigInt::from(q.value());
        (((x % &q) + &q) % &q).to_u64().expect("residue")
    }

    /// Random and boundary numbers in (−Q/2, Q/2].
    fn numbers(product: &BigInt, n: usize) -> Vec<BigInt> {
        let near: BigInt = product >> 39;
        let half = (product - 1) / 2;
        let mut x: Vec<BigInt> = vec![
            0.into(),
            1.into(),
            (-1).into(),
            &half - &near,
            &near - &half,
            near.clone(),
            -near,
            12345.into(),
        ];
        let words = moduli(50, 1, &[]);
        let mut stream = 0;
        while x.len() < n {
            let mut w = vec![0; 26];
            Expander::new([9; 32]).uniform(stream, &words[0], &mut w);
            let big = w
                .iter()
                .fold(BigInt::from(0), |s, w| (s << 50) + BigInt::from(*w))
                % product;
            let centered = if big > half { big - product } else { big };
            let distance = &half
                - if centered < BigInt::from(0) {
                    -centered.clone()
                } else {
                    centered.clone()
                };
            if distance > (product >> 40) {
                x.push(centered);
            }
            stream += 1;
        }
        x.truncate(n);
        x
    }

    #[test]
    fn conversions_equal_big_integers() {
        for (k, bits, n) in [
            (1, 50, 8),
            (2, 50, 64),
            (3, 40, 20),
            (5, 46, 520),
            (15, 50, 16),
            (16, 50, 16),
            (24, 50, 296),
            (24, 31, 8),
        ] {
            let source = moduli(bits, k, &[]);
            let skip: Vec<u64> = source.iter().map(Modulus::value).collect();
            let mut target = moduli(50, 2, &skip);
            target.extend(moduli(36, 1, &skip));
            target.extend(moduli(20, 1, &skip));
            target.push(source[0]);
            let product = source.iter().fold(BigInt::from(1), |p, q| p * q.value());
            let x = numbers(&product, n);
            let src: Vec<Vec<u64>> = source
                .iter()
                .map(|q| x.iter().map(|x| residue(x, q)).collect())
                .collect();
            let src: Vec<&[u64]> = src.iter().map(|s| &s[..]).collect();
            let conversion = Conversion::new(&source, &target).expect("conversion");
            let (mut y, mut v) = (vec![0; k * n], vec![0; n]);
            conversion.prepare(&src, &mut y, &mut v);
            let mut out = vec![vec![1; n]; target.len()];
            let mut dst: Vec<(usize, &mut [u64])> =
                out.iter_mut().map(|o| &mut o[..]).enumerate().collect();
            conversion.finish_many(&y, &v, &mut dst);
            for (o, t) in out.iter().zip(&target) {
                x.iter().zip(o).for_each(|(x, o)| {
                    assert_eq!(residue(x, t), *o, "{k} sources of {bits} bits, {x}")
                });
            }
            if n % 8 == 0 {
                vector_equals_portable(&conversion, &src);
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn vector_equals_portable(_: &Conversion, _: &[&[u64]]) {}

    #[cfg(target_arch = "x86_64")]
    fn vector_equals_portable(c: &Conversion, src: &[&[u64]]) {
        let (k, n) = (src.len(), src[0].len());
        let (mut y2, mut v2) = (vec![0; k * n], vec![0; n]);
        let top: Vec<Vec<u64>> = c.source.iter().map(|q| vec![q.value() - 1; n]).collect();
        let top: Vec<&[u64]> = top.iter().map(|t| &t[..]).collect();
        macro_rules! twins {
            ($vector:ident, $has:ident) => {
                if crate::backend::$has() {
                    for src in [src, &top] {
                        let (mut y, mut v) = (vec![7; k * n], vec![7; n]);
                        let (q, f, r) = (&c.source, &c.factors, &c.recips);
                        // SAFETY: the processor has the features.
                        unsafe { $vector::convert::prepare(q, f, r, src, 0, &mut y, &mut v) };
                        portable::convert_prepare(q, f, r, src, 0, &mut y2, &mut v2);
                        assert!(y == y2 && v == v2);
                        for (t, constants) in c.target.iter().zip(&c.constants) {
                            let (mut a, mut b) = (vec![0; n], vec![0; n]);
                            // SAFETY: the processor has the features.
                            unsafe { $vector::convert::finish(t, constants, &y, &v, &mut a) };
                            portable::convert_finish(t, constants, &y, &v, &mut b);
                            assert_eq!(a, b);
                        }
                    }
                }
            };
        }
        twins!(avx2, has_avx2);
        twins!(ifma, has_ifma);
    }

    #[test]
    fn refuses_bad_sources() {
        let q = moduli(40, 25, &[]);
        assert_eq!(
            Conversion::new(&[], &q).err(),
            Some(Error::SourceCount { most: 24, had: 0 })
        );
        assert_eq!(
            Conversion::new(&q, &q).err(),
            Some(Error::SourceCount { most: 24, had: 25 })
        );
        assert_eq!(
            Conversion::new(&[q[0], q[0]], &q).err(),
            Some(Error::Repeated { q: q[0].value() })
        );
    }
}
