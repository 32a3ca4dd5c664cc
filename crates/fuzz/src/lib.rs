//! Reproducible choices, and small valid files of other people's formats: what the fuzzer mutates, and what campaigns
//! damage (docs/faults.md).

pub mod bytes;
pub mod random;
pub mod torch;
pub mod zip;
