//! Which instruction set the kernels use, decided at run time.

use std::sync::atomic::{AtomicU8, Ordering};

/// An implementation of the kernels, slower ones first; all of them compute the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Plain Rust on 64- and 128-bit integers.
    Portable,
    /// AVX2 and FMA: residues as exact doubles.
    Avx2,
    /// AVX-512 with 52-bit integer multiply-add.
    Ifma,
}

/// 1 + the backend's discriminant.
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);
const UNDECIDED: u8 = 0;

impl Backend {
    /// All of them, whether this processor can run them or not.
    pub const ALL: [Backend; 3] = [Backend::Portable, Backend::Avx2, Backend::Ifma];

    /// Its name: `portable`, `avx2` or `ifma`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Portable => "portable",
            Backend::Avx2 => "avx2",
            Backend::Ifma => "ifma",
        }
    }

    /// Those that this processor can run, the portable one first and the fastest last.
    pub fn available() -> impl Iterator<Item = Backend> {
        Self::ALL.into_iter().filter(|b| b.is_available())
    }

    fn is_available(self) -> bool {
        match self {
            Backend::Portable => true,
            Backend::Avx2 => has_avx2(),
            Backend::Ifma => has_ifma(),
        }
    }

    /// The fastest available one that is no faster than this one.
    fn or_below(self) -> Backend {
        Self::available()
            .filter(|&b| b <= self)
            .last()
            .unwrap_or(Backend::Portable)
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The backend that the next kernel call uses.
///
/// The fastest that this processor has, unless [`force_backend`] chose another. Cost: one relaxed atomic load.
#[inline]
pub fn backend() -> Backend {
    match CHOICE.load(Ordering::Relaxed) {
        1 => Backend::Portable,
        2 => Backend::Avx2,
        3 => Backend::Ifma,
        _ => decide(),
    }
}

/// Makes all later kernel calls of this process use `choice`, or the automatic choice again for `None`; returns what is then
/// in force, which is the fastest below `choice` where the processor lacks the instructions. For programs, tests and benchmarks, not
/// for libraries: it holds for the whole process. Results never differ.
pub fn force_backend(choice: Option<Backend>) -> Backend {
    match choice {
        None => decide(),
        Some(choice) => set(choice.or_below()),
    }
}

#[cold]
fn decide() -> Backend {
    set(Backend::Ifma.or_below())
}

fn set(b: Backend) -> Backend {
    CHOICE.store(1 + b as u8, Ordering::Relaxed);
    b
}

/// True if the processor and the operating system support every feature that the IFMA kernels enable.
pub(crate) fn has_ifma() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// True if the processor and the operating system support every feature that the AVX2 kernels enable.
pub(crate) fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// True if the vector AES instructions that the expander uses are there too.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_vaes() -> bool {
    is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("avx512bw")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the choice is the process's.
    #[test]
    fn every_available_backend_can_be_forced() {
        for b in Backend::ALL {
            let forced = force_backend(Some(b));
            assert_eq!(backend(), forced);
            assert!(forced <= b && (forced == b || !b.is_available()));
            let next_would_do = Backend::ALL
                .iter()
                .any(|&c| forced < c && c <= b && c.is_available());
            assert!(!next_would_do);
        }
        assert_eq!(Some(force_backend(None)), Backend::available().last());
    }

    #[test]
    fn available_ones_come_slowest_first() {
        let all: Vec<Backend> = Backend::available().collect();
        assert!(all[0] == Backend::Portable && all.is_sorted());
    }
}
