//! The negacyclic number-theoretic transform of one modulus.

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

use crate::buffer::AlignedVec;
use crate::modulus::Shoup;
#[cfg(target_arch = "x86_64")]
use crate::{Backend, avx2, backend, ifma};
use crate::{Error, Modulus, portable};

/// The NTT of one modulus for one N and for all smaller powers of two from 8 on.
///
/// Memory: 16·N bytes of twiddles; on IFMA 6·N bytes in the order that its kernels read, and 6·m bytes for each smaller size m
/// that has been used; on AVX2 16·N bytes of twiddles as doubles, from the first use on.
pub struct NttTable {
    q: Modulus,
    /// `w[i] = ψ^brv(i)`, brv on log_n bits; the first m entries are the table of size m with root ψ^(N/m).
    w: AlignedVec,
    ws: AlignedVec,
    /// (2^k)^-1 for each k up to log_n.
    scales: Vec<Shoup>,
    /// Per size 2^k, the last three layers' twiddles in blocks for the IFMA kernels.
    #[cfg(target_arch = "x86_64")]
    tails: Vec<OnceLock<AlignedVec>>,
    /// `w` for the AVX2 kernels.
    #[cfg(target_arch = "x86_64")]
    doubles: OnceLock<avx2::ntt::Twiddles>,
}

impl NttTable {
    /// Builds the tables for degree 2^log_n.
    ///
    /// ψ = g^((q-1)/2N) for the smallest g ≥ 2 that makes it primitive.
    ///
    /// # Errors
    /// [`Error::Degree`]; [`Error::NoRoot`] unless q ≡ 1 modulo 2N.
    pub fn new(log_n: u32, q: &Modulus) -> Result<Self, Error> {
        crate::primes::check_degree(log_n)?;
        let n = 1usize << log_n;
        let order = 2 * n as u64;
        let no_root = Error::NoRoot {
            q: q.value(),
            log_n,
        };
        if q.value() % order != 1 {
            return Err(no_root);
        }
        let psi = (2..)
            .map(|g| q.pow(g, (q.value() - 1) / order))
            .find(|&x| q.pow(x, n as u64) == q.value() - 1)
            .ok_or(no_root)?;
        let (mut w, mut ws) = (AlignedVec::zeroed(n), AlignedVec::zeroed(n));
        let root = q.shoup(psi);
        let mut power = 1;
        for i in 0..n {
            let at = reverse(i, log_n);
            w[at] = power;
            ws[at] = q.shoup(power).ws;
            power = q.mul_shoup(power, root);
        }
        let half = q.inv(2);
        let mut scale = 1;
        let scales = (0..=log_n)
            .map(|_| {
                let s = q.shoup(scale);
                scale = q.mul(scale, half);
                s
            })
            .collect();
        Ok(NttTable {
            q: *q,
            w,
            ws,
            scales,
            #[cfg(target_arch = "x86_64")]
            tails: (0..=log_n).map(|_| OnceLock::new()).collect(),
            #[cfg(target_arch = "x86_64")]
            doubles: OnceLock::new(),
        })
    }

    /// Coefficients in natural order to evaluations: `a[i] = p(ψ^(2·brv(i)+1))`.
    ///
    /// Takes and gives canonical residues. Cost: N/2·log2 N multiplications.
    ///
    /// # Panics
    /// If `a.len()` is not N.
    pub fn forward(&self, a: &mut [u64]) {
        assert_eq!(a.len(), self.w.len(), "an NTT takes exactly N residues");
        self.forward_sized(a);
    }

    /// The exact inverse of [`Self::forward`], with the factor 1/N.
    ///
    /// # Panics
    /// If `a.len()` is not N.
    pub fn inverse(&self, a: &mut [u64]) {
        assert_eq!(a.len(), self.w.len(), "an NTT takes exactly N residues");
        self.inverse_sized(a);
    }

    /// The transform of a smaller ring, of degree m = `a.len()`, with root ψ^(N/m).
    ///
    /// p(Y) with Y = X^(N/m) has at index i of the big transform the value `small[i / (N/m)]`.
    ///
    /// # Panics
    /// Unless m is a power of two from 8 to N.
    pub fn forward_sized(&self, a: &mut [u64]) {
        let m = self.checked_size(a);
        #[cfg(target_arch = "x86_64")]
        match backend() {
            // SAFETY: backend() is Avx2 only where the processor has every feature that the kernel enables.
            Backend::Avx2 if m >= avx2::ntt::LEAST => unsafe {
                return avx2::ntt::forward(&self.q, self.doubles(), a);
            },
            // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
            Backend::Ifma if m >= ifma::ntt::LEAST => unsafe {
                let (w, ws) = (&self.w[..m], &self.ws[..m]);
                return ifma::ntt::forward(&self.q, w, ws, self.tail(m), a);
            },
            _ => {}
        }
        portable::forward(&self.q, &self.w[..m], &self.ws[..m], a);
    }

    /// [`Self::inverse`] of `from`, written to `a`: reads a limb that no near cache holds once, where a copy would read it twice.
    ///
    /// # Panics
    /// If either length is not N.
    pub fn inverse_to(&self, a: &mut [u64], from: &[u64]) {
        assert_eq!(a.len(), self.w.len(), "an NTT takes exactly N residues");
        assert_eq!(from.len(), a.len(), "limbs differ in length");
        self.inverse_from(a, Some(from));
    }

    /// The exact inverse of [`Self::forward_sized`], with the factor 1/m.
    ///
    /// # Panics
    /// Unless m = `a.len()` is a power of two from 8 to N.
    pub(crate) fn inverse_sized(&self, a: &mut [u64]) {
        self.inverse_from(a, None);
    }

    /// The inverse of `from`, or of `a` itself.
    fn inverse_from(&self, a: &mut [u64], from: Option<&[u64]>) {
        let m = self.checked_size(from.unwrap_or(a));
        let scale = self.scales[m.trailing_zeros() as usize];
        #[cfg(target_arch = "x86_64")]
        if backend() == Backend::Ifma && m >= ifma::ntt::LEAST {
            // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
            return unsafe {
                let (w, ws) = (&self.w[..m], &self.ws[..m]);
                ifma::ntt::inverse(&self.q, w, ws, self.tail(m), scale, a, from)
            };
        }
        if let Some(from) = from {
            a.copy_from_slice(from);
        }
        #[cfg(target_arch = "x86_64")]
        if backend() == Backend::Avx2 && m >= avx2::ntt::LEAST {
            // SAFETY: backend() is Avx2 only where the processor has every feature that the kernel enables.
            return unsafe { avx2::ntt::inverse(&self.q, self.doubles(), self.w[1], scale, a) };
        }
        portable::inverse(&self.q, &self.w[..m], &self.ws[..m], scale, a);
    }

    fn checked_size(&self, a: &[u64]) -> usize {
        let m = a.len();
        assert!(
            m.is_power_of_two() && (8..=self.w.len()).contains(&m),
            "an NTT of size {m} in a ring of {}",
            self.w.len()
        );
        debug_assert!(
            a.iter().all(|&x| x < self.q.value()),
            "residues are canonical"
        );
        m
    }

    #[cfg(target_arch = "x86_64")]
    fn doubles(&self) -> &avx2::ntt::Twiddles {
        self.doubles
            .get_or_init(|| avx2::ntt::Twiddles::new(&self.q, &self.w))
    }

    /// For each 64 elements, that is 8 groups of 8: one twiddle per group for stride 4, one for stride 2 and one for stride 1,
    /// each as 8 words followed by their 8 Shoup words. The others of a group are these times ψ^(N/2), ψ^(N/4) and ψ^(3N/4): the
    /// kernels multiply twice rather than stream 2.3 times as much table from memory.
    #[cfg(target_arch = "x86_64")]
    fn tail(&self, m: usize) -> &[u64] {
        self.tails[m.trailing_zeros() as usize].get_or_init(|| {
            let mut tail = AlignedVec::dirty(6 * m / 8);
            for (block, out) in tail.as_chunks_mut::<48>().0.iter_mut().enumerate() {
                let (lanes, _) = out.as_chunks_mut::<16>();
                for ((per_group, layer), lanes) in
                    [(1, m / 8), (2, m / 4), (4, m / 2)].into_iter().zip(lanes)
                {
                    for g in 0..8 {
                        let at = layer + (8 * block + g) * per_group;
                        (lanes[g], lanes[8 + g]) = (self.w[at], self.ws[at]);
                    }
                }
            }
            tail
        })
    }
}

/// The lowest `bits` bits of `i` in reverse order.
pub(crate) fn reverse(i: usize, bits: u32) -> usize {
    if bits == 0 {
        0
    } else {
        i.reverse_bits() >> (usize::BITS - bits)
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::ntt_primes;
    use crate::sample::Expander;

    fn table(log_n: u32, bits: u32) -> (Modulus, NttTable) {
        let q =
            Modulus::new(ntt_primes(log_n, 1 << bits, 1, &[]).expect("prime")[0]).expect("prime");
        let t = NttTable::new(log_n, &q).expect("table");
        (q, t)
    }

    fn random(q: &Modulus, n: usize, stream: u64) -> Vec<u64> {
        let mut a = vec![0; n];
        Expander::new([7; 32]).uniform(stream, q, &mut a);
        a
    }

    #[test]
    fn values_are_evaluations_in_the_documented_order() {
        for log_n in [3, 6, 7] {
            let (q, t) = table(log_n, 40);
            let n = 1usize << log_n;
            let a = random(&q, n, 1);
            let mut b = a.clone();
            t.forward(&mut b);
            for (i, &value) in b.iter().enumerate() {
                let x = q.pow(t.w[n / 2], 2 * reverse(i, log_n) as u64 + 1);
                let expected = a.iter().rev().fold(0, |s, &c| q.add(q.mul(s, x), c));
                assert_eq!(value, expected);
            }
        }
    }

    #[test]
    fn products_equal_schoolbook_over_big_integers() {
        for bits in [20, 31, 40, 46, 50] {
            for log_n in [3, 5, 6, 8] {
                let (q, t) = table(log_n, bits);
                let n = 1usize << log_n;
                let (mut a, mut b) = (random(&q, n, 2), random(&q, n, 3));
                a[0] = q.value() - 1;
                b[n - 1] = q.value() - 1;
                let mut product = vec![BigInt::from(0); n];
                for i in 0..n {
                    for j in 0..n {
                        let term = BigInt::from(a[i]) * BigInt::from(b[j]);
                        if i + j < n {
                            product[i + j] += term
                        } else {
                            product[i + j - n] -= term
                        }
                    }
                }
                t.forward(&mut a);
                t.forward(&mut b);
                crate::limb::mul(&q, &mut a, &b);
                t.inverse(&mut a);
                let big = BigInt::from(q.value());
                for (have, want) in a.iter().zip(product) {
                    assert_eq!(BigInt::from(*have), ((want % &big) + &big) % &big);
                }
            }
        }
    }

    #[test]
    fn inverse_undoes_forward_at_every_size() {
        for (log_n, bits) in [
            (10, 31),
            (12, 50),
            (13, 46),
            (14, 40),
            (15, 50),
            (16, 50),
            (17, 50),
        ] {
            let (q, t) = table(log_n, bits);
            let mut m = 8;
            while m <= 1 << log_n {
                for a in [random(&q, m, 4), vec![q.value() - 1; m]] {
                    let mut b = a.clone();
                    t.forward_sized(&mut b);
                    assert!(b.iter().all(|&x| x < q.value()));
                    if m == 1 << log_n {
                        let mut apart = vec![1; m];
                        t.inverse_to(&mut apart, &b);
                        assert_eq!(a, apart);
                    }
                    t.inverse_sized(&mut b);
                    assert_eq!(a, b);
                }
                m *= 2;
            }
        }
    }

    #[test]
    fn a_subring_transform_is_the_big_one_run_length_coded() {
        let (q, t) = table(10, 46);
        for m in [8usize, 16, 64, 128, 512, 1024] {
            let gap = 1024 / m;
            let mut small = random(&q, m, 5);
            let mut big = vec![0; 1024];
            small
                .iter()
                .enumerate()
                .for_each(|(i, &c)| big[i * gap] = c);
            t.forward(&mut big);
            t.forward_sized(&mut small);
            assert!(big.iter().enumerate().all(|(i, &x)| x == small[i / gap]));
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn vector_kernels_equal_portable_ones() {
        let (has_avx2, has_ifma) = (crate::backend::has_avx2(), crate::backend::has_ifma());
        for (log_n, bits) in [
            (6, 50),
            (6, 20),
            (7, 50),
            (7, 46),
            (8, 31),
            (8, 50),
            (9, 50),
            (9, 47),
            (10, 20),
            (10, 50),
            (11, 46),
            (11, 50),
            (12, 50),
            (12, 48),
            (13, 50),
            (13, 49),
            (14, 40),
            (14, 50),
            (15, 47),
            (15, 50),
            (16, 46),
            (16, 50),
            (17, 46),
            (17, 50),
        ] {
            let (q, t) = table(log_n, bits);
            let n = 1 << log_n;
            let mut ends = random(&q, n, 6);
            ends.iter_mut()
                .for_each(|x| *x = if *x & 1 == 0 { 0 } else { q.value() - 1 });
            for a in [random(&q, n, 7), vec![q.value() - 1; n], ends] {
                let scale = t.scales[log_n as usize];
                let (mut forward, mut inverse) = (a.clone(), a.clone());
                portable::forward(&q, &t.w, &t.ws, &mut forward);
                portable::inverse(&q, &t.w, &t.ws, scale, &mut inverse);
                if has_avx2 && n >= avx2::ntt::LEAST {
                    let (mut x, mut y) = (a.clone(), a.clone());
                    // SAFETY: has_avx2() was true.
                    unsafe {
                        avx2::ntt::forward(&q, t.doubles(), &mut x);
                        avx2::ntt::inverse(&q, t.doubles(), t.w[1], scale, &mut y);
                    }
                    assert!(x == forward, "AVX2 forward 2^{log_n}, {bits} bits");
                    assert!(y == inverse, "AVX2 inverse 2^{log_n}, {bits} bits");
                }
                if has_ifma && n >= ifma::ntt::LEAST {
                    let (mut x, mut y) = (a.clone(), a);
                    // SAFETY: has_ifma() was true.
                    unsafe {
                        ifma::ntt::forward(&q, &t.w, &t.ws, t.tail(n), &mut x);
                        ifma::ntt::inverse(&q, &t.w, &t.ws, t.tail(n), scale, &mut y, None);
                    }
                    assert!(x == forward, "IFMA forward 2^{log_n}, {bits} bits");
                    assert!(y == inverse, "IFMA inverse 2^{log_n}, {bits} bits");
                }
            }
        }
    }
}
