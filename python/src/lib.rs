//! The native module of the Python package: arrays and options in, calls of the library, bytes and JSON out. What users see, with its defaults and
//! words, is `package/polyveil`.

mod arrays;
mod client;
mod errors;
mod make;
mod network;
mod plan;
mod server;
mod service;
mod work;

use pyo3::prelude::*;

/// Takes the instructions that `POLYVEIL_BACKEND` names, as the programs do.
fn choose_backend() -> PyResult<()> {
    let Some(name) = std::env::var_os("POLYVEIL_BACKEND") else {
        return Ok(());
    };
    let Some(backend) = ring::Backend::ALL.into_iter().find(|b| name == b.name()) else {
        let what = "POLYVEIL_BACKEND must be portable, avx2 or ifma; unset it for the fastest";
        return Err(errors::refused(what.into()));
    };
    ring::force_backend(Some(backend));
    Ok(())
}

/// The instructions that encryption uses in this process.
#[pyfunction]
fn backend() -> &'static str {
    ring::backend().name()
}

#[pymodule]
mod _native {
    use super::{Bound, PyModule, PyResult};

    #[pymodule_export]
    use super::backend;
    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::make::{adapt, calibrate, compile, evaluate, inspect, size};
    #[pymodule_export]
    use super::network::Network;
    #[pymodule_export]
    use super::plan::{Plan, Report};
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::service::Service;
    #[pymodule_export]
    use super::work::panics;

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::choose_backend()
    }
}
