//! Nothing but the place of the benchmarks; see `kernels.rs`.
