//! The reference: a fixed piece of arithmetic by which times on different machines, and at different hours of one machine, are
//! compared.
//!
//! **It is never optimised.** Published figures are ratios to its time; whoever changes it, or what the compiler may do with it,
//! makes all of them void. It shares no code with the kernels for that reason.
//!
//! For each of 64 registers of eight words: the sum of 1440 products, in two registers (the low 52 bits of each product and the
//! bits above), one product after another. So it is 64·1440 times two multiply-adds of eight lanes, 2·512·1440 in all, on
//! 8 KiB of operands that stay in the first-level cache. Each of the two sums is one chain of dependent instructions: the time
//! is 64·1440 latencies of the multiply-add, 0.10 ms at 3.7 GHz and 4 cycles, whatever else the processor does side by side.

#[cfg(target_arch = "x86_64")]
use crate::{Backend, backend, ifma};

/// Words of each operand and of the result.
pub const WORDS: usize = 512;
/// Products summed for each word.
pub const TERMS: usize = 1440;
/// Words of a register.
pub(crate) const LANES: usize = 8;

/// out\[8r + j\] = fold(Σ_k x\[8((r + k) mod 64) + j\]·y\[8(k mod 64) + j\]) for k < 1440 and words below 2^50, where fold adds the
/// upper and the lower half of a 128-bit number modulo 2^64: nothing is left out of the work, nothing is reduced.
///
/// IFMA on that backend, 128-bit integers on the others; the same words on all of them.
///
/// # Panics
/// If a word is 2^50 or more (in debug builds).
pub fn reference(out: &mut [u64; WORDS], x: &[u64; WORDS], y: &[u64; WORDS]) {
    debug_assert!(x.iter().chain(y).all(|w| w >> 50 == 0));
    #[cfg(target_arch = "x86_64")]
    if backend() == Backend::Ifma {
        // SAFETY: backend() is Ifma only where the processor has every feature that the kernel enables.
        unsafe { ifma::reference::reference(out, x, y) };
        return;
    }
    portable(out, x, y);
}

fn portable(out: &mut [u64; WORDS], x: &[u64; WORDS], y: &[u64; WORDS]) {
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
    for (r, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut sums = [0u128; LANES];
        for k in 0..TERMS {
            let (x, y) = (&x[(r + k) % x.len()], &y[k % y.len()]);
            for j in 0..LANES {
                sums[j] += u128::from(x[j]) * u128::from(y[j]);
            }
        }
        *out = sums.map(fold);
    }
}

pub(crate) fn fold(sum: u128) -> u64 {
    (sum as u64).wrapping_add((sum >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the definition, word by word.
    fn plain(x: &[u64; WORDS], y: &[u64; WORDS], word: usize) -> u64 {
        let (r, j) = (word / 8, word % 8);
        let sum = (0..1440)
            .map(|k| u128::from(x[8 * ((r + k) % 64) + j]) * u128::from(y[8 * (k % 64) + j]))
            .sum();
        fold(sum)
    }

    #[test]
    fn all_backends_give_the_words_of_the_definition() {
        let top = (1u64 << 50) - 1;
        let some: [u64; WORDS] =
            std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 14);
        for (x, y) in [(some, some.map(|w| top - w)), ([top; WORDS], [top; WORDS])] {
            let (mut here, mut twin) = ([1; WORDS], [2; WORDS]);
            reference(&mut here, &x, &y);
            portable(&mut twin, &x, &y);
            assert_eq!(here, twin);
            for word in [0, 1, 7, 8, 300, 511] {
                assert_eq!(here[word], plain(&x, &y, word), "word {word}");
            }
            #[cfg(target_arch = "x86_64")]
            if crate::backend::has_ifma() {
                let mut vector = [3; WORDS];
                // SAFETY: the processor has the features.
                unsafe { ifma::reference::reference(&mut vector, &x, &y) };
                assert_eq!(vector, twin);
            }
        }
    }
}
