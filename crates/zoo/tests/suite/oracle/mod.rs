//! What models give in the clear.

pub(crate) mod encoder;
pub(crate) mod language;
