//! Exact RNS polynomial arithmetic.
