//! Carries out a verified [`Plan`] on either side of the wire, and reports.
pub mod plan;
pub use plan::Plan;
