//! A polynomial graph becomes a verified plan.
