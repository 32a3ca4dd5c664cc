//! What passes between client and server, as bytes: read and written by both sides, so that neither's source needs the other's.

pub(crate) mod ciphertexts;
pub(crate) mod client_file;
pub(crate) mod conformance;
pub mod container;
mod key_id;
pub(crate) mod keys;
pub(crate) mod packing;
pub(crate) mod ports;

pub use ciphertexts::Encrypted;
pub use client_file::{ClientFile, ClientSpec, TASK_LIMIT, task_digest};
pub use conformance::{parameters as checked_parameters, parameters_digest};
pub use key_id::KeyId;
pub use keys::ServerKeys;
