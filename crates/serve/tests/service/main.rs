//! A service on loopback with toy plans: whole runs, faults and load.

mod support;
mod whole;
