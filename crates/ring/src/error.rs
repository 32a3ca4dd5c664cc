//! What can be wrong with the parameters of a ring.

/// A refused parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A modulus is not an odd prime in the supported range.
    #[error("modulus {q} is not a prime between 2^14 and 2^50")]
    Modulus {
        /// The refused number.
        q: u64,
    },
    /// The degree is outside 2^3 … 2^17.
    #[error("degree 2^{log_n} is outside 2^3 … 2^17")]
    Degree {
        /// log2 of the refused degree.
        log_n: u32,
    },
    /// A prime has no primitive 2N-th root of unity.
    #[error("prime {q} is not 1 modulo 2^{}, so it has no NTT of degree 2^{log_n}", log_n + 1)]
    NoRoot {
        /// The prime.
        q: u64,
        /// log2 of the degree.
        log_n: u32,
    },
    /// The same prime occurs twice in one list.
    #[error("modulus {q} occurs twice")]
    Repeated {
        /// The prime.
        q: u64,
    },
    /// Fewer primes exist in the supported range than were asked for.
    #[error("{needed} primes for degree 2^{log_n} were asked for, {had} exist")]
    TooFewPrimes {
        /// log2 of the degree.
        log_n: u32,
        /// How many were asked for.
        needed: usize,
        /// How many exist.
        had: usize,
    },
    /// A basis conversion from no modulus or from too many.
    #[error("a basis conversion takes 1 to {most} source moduli, not {had}")]
    SourceCount {
        /// The largest supported number.
        most: usize,
        /// The number given.
        had: usize,
    },
}
