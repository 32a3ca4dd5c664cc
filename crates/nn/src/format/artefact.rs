//! Our own file.
