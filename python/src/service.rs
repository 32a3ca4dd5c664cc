//! A service of many clients, as one account sees it: the library's client of it. What it sends is evaluation keys and encrypted inputs, by their
//! headers; it has no type for a secret key.

use crate::client::Bytes;
use crate::errors;
use crate::work::work_or;
use polyveil::Listener;
use polyveil_serve::client::{EncryptedInput, PublicKeys, Remote, Token, Transport};
use polyveil_serve::{Code, Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Service {
    remote: Remote,
}

fn input(encrypted: &Bytes) -> Result<EncryptedInput> {
    match encrypted {
        Bytes::Held(bytes) => EncryptedInput::from_bytes(bytes.to_vec()),
        Bytes::File(path) => EncryptedInput::open(path),
    }
}

impl Service {
    /// What the service says, as JSON.
    fn told(
        &self,
        py: Python<'_>,
        hear: &Bound<'_, PyAny>,
        ask: impl FnOnce(&Remote, Listener<'_>) -> Result<Value> + Send,
    ) -> PyResult<String> {
        let value = work_or(py, hear, errors::of_service, |tell| ask(&self.remote, tell))?;
        Ok(value.to_string())
    }
}

#[pymethods]
impl Service {
    #[new]
    fn new(
        url: &str,
        token: &str,
        authority: Option<PathBuf>,
        protected_way: bool,
        patience: f64,
    ) -> PyResult<Self> {
        let made = || {
            let transport = match &authority {
                _ if protected_way => Transport::AsItIs,
                None => Transport::Protected,
                Some(path) => Transport::Authority(
                    std::fs::read_to_string(path).map_err(Error::io(path.display()))?,
                ),
            };
            let patience = Duration::try_from_secs_f64(patience).map_err(|e| {
                let remedy = "give a number of seconds";
                Error::new(
                    Code::BadRequest,
                    format!("patience {patience}: {e}"),
                    remedy,
                )
            })?;
            Ok(Remote::new(url, Token::new(token)?, transport)?.patient(patience))
        };
        let remote = made().map_err(errors::of_service)?;
        Ok(Self { remote })
    }

    fn account(&self, py: Python<'_>, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| remote.account())
    }

    fn plans(&self, py: Python<'_>, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| Ok(json!(remote.plans()?)))
    }

    fn plan(&self, py: Python<'_>, name: &str, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| Ok(json!(remote.plan(name)?)))
    }

    fn client_file<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = work_or(py, hear, errors::of_service, |_| {
            let file = self.remote.client_file(&self.remote.plan(name)?)?;
            Ok(file.write(Vec::new(), "the client file")?)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The digest by which the service knows the keys from now on.
    fn upload(
        &self,
        py: Python<'_>,
        plan: &str,
        keys: Bytes,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<String> {
        work_or(py, hear, errors::of_service, |tell| {
            let keys = match keys {
                Bytes::Held(bytes) => PublicKeys::from_bytes(bytes)?,
                Bytes::File(path) => PublicKeys::open(&path)?,
            };
            self.remote.upload(plan, &keys, tell)?;
            Ok(keys.digest().to_string())
        })
    }

    fn ask(
        &self,
        py: Python<'_>,
        plan: &str,
        keys: &str,
        encrypted: Bytes,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<String> {
        self.told(py, hear, |remote, _| {
            remote.ask(plan, keys, &input(&encrypted)?)
        })
    }

    fn job(&self, py: Python<'_>, id: &str, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| remote.job(id))
    }

    fn wait(&self, py: Python<'_>, id: &str, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, tell| remote.wait(id, tell))
    }

    /// The answer of a job, waited for.
    fn answer<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = work_or(py, hear, errors::of_service, |tell| {
            let job = self.remote.wait(id, tell)?;
            let mut answer = Vec::new();
            self.remote.answer(&job, &mut answer, tell)?;
            Ok(answer)
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn jobs(&self, py: Python<'_>, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| Ok(json!(remote.jobs()?)))
    }

    fn keys(&self, py: Python<'_>, hear: &Bound<'_, PyAny>) -> PyResult<String> {
        self.told(py, hear, |remote, _| Ok(json!(remote.keys()?)))
    }

    fn delete_job(&self, py: Python<'_>, id: &str, hear: &Bound<'_, PyAny>) -> PyResult<()> {
        work_or(py, hear, errors::of_service, |_| self.remote.delete_job(id))
    }

    fn delete_keys(&self, py: Python<'_>, digest: &str, hear: &Bound<'_, PyAny>) -> PyResult<()> {
        work_or(py, hear, errors::of_service, |_| {
            self.remote.delete_keys(digest)
        })
    }
}
