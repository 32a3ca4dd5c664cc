//! A service on loopback with toy plans: whole runs, faults and load.

mod broken;
mod kills;
mod limits;
mod load;
mod page;
mod places;
mod plain;
mod proxy;
mod strangers;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod whole;
