//! The RNS-CKKS scheme, its circuits and bootstrapping.
