//! Exact RNS polynomial arithmetic in Z_Q\[X\]/(X^N + 1).
//!
//! A polynomial modulo Q = q_0·q_1⋯ is kept as one *limb* per prime: a slice of `N` residues, canonical (`< q`) at every
//! public boundary. N is a power of two, every prime is at most 2^50 and 1 modulo 2N, so that the negacyclic NTT exists and
//! four times a residue still fits the 52-bit multiplier of AVX-512 IFMA.
//!
//! Notation: `q` a prime, `N` the degree, `ψ` the primitive 2N-th root of unity modulo q, `brv` bit reversal of log2 N bits.
//! NTT form holds `a[i] = p(ψ^(2·brv(i)+1))`.
//!
//! Modules in reading order: [`modulus`] (scalars), [`primes`], [`limb`] (vector kernels on one limb), [`ntt`], [`ring`](mod@ring),
//! [`automorphism`](mod@automorphism), [`convert`] (basis conversion), [`poly`] (typed polynomials), [`monomial`] (powers of X), [`classes`] (a small ring over the same primes), [`packed`] (limbs in few bytes), [`buffer`] (their memory), [`heap`] (what happens where there is none),
//! [`sample`] (randomness), [`backend`](mod@backend) (which instructions run), [`mod@reference`] (a fixed loop that times are compared with).
//!
//! The crate knows nothing of scales, slots or keys. `unsafe` occurs in `buffer` and `heap`, in the AVX2 and IFMA kernels and at the calls
//! to them; every such kernel has a portable twin that gives the same words.

pub mod automorphism;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod backend;
pub mod buffer;
pub mod classes;
pub mod convert;
mod error;
pub mod heap;
#[cfg(target_arch = "x86_64")]
mod ifma;
pub mod limb;
pub mod modulus;
pub mod monomial;
pub mod ntt;
pub mod packed;
pub mod poly;
mod portable;
pub mod primes;
pub mod reference;
pub mod ring;
pub mod sample;
#[cfg(target_arch = "x86_64")]
mod vector;

pub use automorphism::automorphism;
pub use backend::{Backend, backend, force_backend};
pub use convert::Conversion;
pub use error::Error;
pub use modulus::Modulus;
pub use monomial::Monomial;
pub use ntt::NttTable;
pub use packed::PackedLimb;
pub use poly::{Coeff, Form, Ntt, RnsPoly};
pub use primes::{is_prime, ntt_primes};
pub use reference::reference;
pub use ring::Ring;
pub use sample::{Expander, GAUSSIAN_SIGMA, Uniform, gaussian, sparse_ternary, ternary};
