//! Which instruction set the kernels use, decided at run time.

use std::sync::atomic::{AtomicU8, Ordering};

/// An implementation of the kernels; all of them compute the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Plain Rust on 64- and 128-bit integers.
    Portable,
    /// AVX-512 with 52-bit integer multiply-add.
    Ifma,
}

const UNDECIDED: u8 = 0;
const PORTABLE: u8 = 1;
const IFMA: u8 = 2;

static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

/// The backend that the next kernel call uses.
///
/// The first call decides: [`Backend::Portable`] if the environment variable `POLYVEIL_BACKEND` is `portable`, else the
/// fastest that this processor has. Cost: one relaxed atomic load.
#[inline]
pub fn backend() -> Backend {
    match CHOICE.load(Ordering::Relaxed) {
        PORTABLE => Backend::Portable,
        IFMA => Backend::Ifma,
        _ => decide(),
    }
}

/// Makes all later kernel calls of this process use `choice`, or the automatic choice again for `None`; returns what is then
/// in force, which is portable where the processor lacks the instructions. For tests and benchmarks; results never differ.
pub fn force_backend(choice: Option<Backend>) -> Backend {
    match choice {
        None => {
            CHOICE.store(UNDECIDED, Ordering::Relaxed);
            decide()
        }
        Some(Backend::Ifma) if has_ifma() => set(Backend::Ifma),
        Some(_) => set(Backend::Portable),
    }
}

#[cold]
fn decide() -> Backend {
    let asked_portable = std::env::var_os("POLYVEIL_BACKEND").is_some_and(|v| v == "portable");
    set(if !asked_portable && has_ifma() {
        Backend::Ifma
    } else {
        Backend::Portable
    })
}

fn set(b: Backend) -> Backend {
    CHOICE.store(
        if b == Backend::Ifma { IFMA } else { PORTABLE },
        Ordering::Relaxed,
    );
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

    #[test]
    fn forcing_portable_is_possible_everywhere() {
        assert_eq!(force_backend(Some(Backend::Portable)), Backend::Portable);
        let automatic = force_backend(None);
        assert_eq!(
            automatic == Backend::Ifma,
            has_ifma() && std::env::var_os("POLYVEIL_BACKEND").is_none()
        );
    }
}
