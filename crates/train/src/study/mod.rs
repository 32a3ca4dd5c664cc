//! Studies: tables and charts that one command makes, from which the choices of architecture follow.

pub mod activations;
pub mod attention;
