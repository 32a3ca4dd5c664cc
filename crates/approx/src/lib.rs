//! Functions on an interval become polynomials.
