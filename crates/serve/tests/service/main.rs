//! A service on loopback with toy plans: whole runs, faults and load.

mod broken;
mod kills;
mod liars;
mod limits;
mod load;
mod page;
mod places;
mod plain;
mod proxy;
#[cfg(feature = "s3")]
mod s3;
mod strangers;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod whole;
