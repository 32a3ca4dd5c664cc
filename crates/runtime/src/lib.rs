//! Carries out a verified plan on either side of the wire.
