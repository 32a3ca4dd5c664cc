//! Limbs stored in few bytes: what is kept for long and read once per use, such as switching keys.

use crate::Modulus;
use crate::buffer::AlignedVec;
#[cfg(target_arch = "x86_64")]
use crate::{Backend, avx2, backend, ifma};

/// One limb of canonical residues in 4 bytes each below 2^32, in 6 bytes below 2^48, else in 8.
///
/// Six bytes lie in two planes, the low 32 bits of all residues and then their high 16 bits, so that eight residues come back
/// with two widening loads. What is read from memory shrinks with what is kept in it.
#[derive(Clone)]
pub struct PackedLimb {
    words: AlignedVec,
    n: usize,
    bytes: usize,
}

/// Bytes that a residue modulo q takes.
pub fn packed_bytes(q: &Modulus) -> usize {
    match q.bits() {
        0..=32 => 4,
        33..=48 => 6,
        _ => 8,
    }
}

impl PackedLimb {
    /// Packs a limb of canonical residues modulo q.
    ///
    /// # Panics
    /// Unless the length is a multiple of 8.
    pub fn new(q: &Modulus, limb: &[u64]) -> Self {
        let (n, bytes) = (limb.len(), packed_bytes(q));
        assert!(n.is_multiple_of(8), "a limb has a multiple of 8 residues");
        let mut words = AlignedVec::dirty(n * bytes / 8);
        if bytes == 8 {
            words.copy_from_slice(limb);
        } else {
            let (low, high) = words.split_at_mut(n / 2);
            for (w, x) in low.iter_mut().zip(limb.as_chunks::<2>().0) {
                *w = (x[0] & LOW) | x[1] << 32;
            }
            for (w, x) in high.iter_mut().zip(limb.as_chunks::<4>().0) {
                *w = x[0] >> 32 | x[1] >> 32 << 16 | x[2] >> 32 << 32 | x[3] >> 32 << 48;
            }
        }
        Self { words, n, bytes }
    }

    /// The number of residues.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        8 * self.words.len()
    }

    /// All residues where they lie, if they are stored as they are.
    pub fn whole(&self) -> Option<&[u64]> {
        (self.bytes == 8).then_some(&self.words[..])
    }

    /// Residues `at..at + out.len()`.
    ///
    /// # Panics
    /// Unless both ends are multiples of 8 within the limb.
    pub fn unpack(&self, at: usize, out: &mut [u64]) {
        assert!(
            at.is_multiple_of(8) && out.len().is_multiple_of(8) && at + out.len() <= self.n,
            "residues are unpacked by eights"
        );
        if self.bytes == 8 {
            out.copy_from_slice(&self.words[at..at + out.len()]);
            return;
        }
        let (low, high) = self.words.split_at(self.n / 2);
        let low = &low[at / 2..(at + out.len()) / 2];
        let high = if self.bytes == 4 {
            None
        } else {
            Some(&high[at / 4..(at + out.len()) / 4])
        };
        #[cfg(target_arch = "x86_64")]
        match backend() {
            Backend::Portable => {}
            // SAFETY: backend() is Avx2 only where the processor has every feature that the kernel enables.
            Backend::Avx2 => return unsafe { avx2::limb::unpack(low, high, out) },
            // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
            Backend::Ifma => return unsafe { ifma::limb::unpack(low, high, out) },
        }
        unpack(low, high, out);
    }
}

const LOW: u64 = (1 << 32) - 1;

fn unpack(low: &[u64], high: Option<&[u64]>, out: &mut [u64]) {
    for (o, w) in out.as_chunks_mut::<2>().0.iter_mut().zip(low) {
        *o = [w & LOW, w >> 32];
    }
    if let Some(high) = high {
        for (o, w) in out.as_chunks_mut::<4>().0.iter_mut().zip(high) {
            for (i, o) in o.iter_mut().enumerate() {
                *o |= (w >> (16 * i) & 0xffff) << 32;
            }
        }
    }
}

impl std::fmt::Debug for PackedLimb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedLimb({} residues of {} bytes)", self.n, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expander, ntt_primes};

    #[test]
    fn limbs_come_back() {
        for (bits, bytes) in [(31, 4), (32, 6), (40, 6), (47, 6), (48, 8), (50, 8)] {
            let q =
                Modulus::new(ntt_primes(10, 1 << bits, 1, &[]).expect("prime")[0]).expect("prime");
            let bytes = if q.bits() == 32 {
                4
            } else if q.bits() == 48 {
                6
            } else {
                bytes
            };
            let mut limb = vec![0; 4096];
            Expander::new([3; 32]).uniform(1, &q, &mut limb);
            limb[0] = q.value() - 1;
            let packed = PackedLimb::new(&q, &limb);
            assert_eq!(packed.bytes(), 4096 * bytes);
            let mut out = vec![1; 4096];
            packed.unpack(0, &mut out);
            assert_eq!(out, limb);
            packed.unpack(1032, &mut out[..520]);
            assert_eq!(out[..520], limb[1032..1552]);
            if bytes < 8 {
                let (low, high) = packed.words.split_at(2048);
                let high = (bytes == 6).then_some(high);
                unpack(low, high, &mut out);
                assert_eq!(out, limb);
                #[cfg(target_arch = "x86_64")]
                if crate::backend::has_avx2() {
                    out.fill(2);
                    // SAFETY: has_avx2() was true.
                    unsafe { avx2::limb::unpack(low, high, &mut out) };
                    assert_eq!(out, limb);
                }
            }
        }
    }
}
