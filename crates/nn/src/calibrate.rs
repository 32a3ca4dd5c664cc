//! Ranges and densities over a data set, and the polynomials made from them.
