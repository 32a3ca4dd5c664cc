//! The server: a plan and a client's evaluation keys. Nothing in it could hold a secret key.

use crate::client::{Bytes, count};
use crate::plan::{Plan, Report, machine};
use crate::work::work;
use polyveil::files;
use polyveil::machine::Probing;
use polyveil::progress::duration;
use polyveil::runtime::machine::peak_bytes;
use polyveil::runtime::report::{Answer, Measured};
use polyveil::runtime::{self, Observer, Prediction, Reporter, Stopwatch};
use polyveil::serve::Serving;
use polyveil::{Listener, Progress, Result, ckks};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Computes on ciphertexts.
#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Server {
    server: runtime::Server,
    prediction: Prediction,
}

/// A step in words, as the library's own runs say it.
fn say(p: &runtime::Progress<'_>, tell: Listener<'_>) {
    let all = p.elapsed + p.remaining;
    tell(Progress {
        message: &format!(
            "step {}/{} {} ({}), about {} to go",
            p.steps.0 + 1,
            p.steps.1,
            p.layer,
            p.doing,
            duration(p.remaining)
        ),
        fraction: Some(if all > 0.0 { p.elapsed / all } else { 0.0 }),
        remaining: Some(p.remaining),
    });
}

impl Server {
    fn answer(
        &self,
        input: impl Read,
        name: &str,
        tell: Listener<'_>,
    ) -> Result<(Vec<u8>, Measured)> {
        let state = self.server.read_input(input, name)?;
        let mut told = |p: runtime::Progress<'_>| say(&p, tell);
        let mut reporter = Reporter::new(self.prediction.step_seconds(), &mut told);
        let mut watch = Stopwatch::default();
        let answer = {
            let mut observers: Vec<&mut dyn Observer<ckks::Ciphertext>> =
                vec![&mut reporter, &mut watch];
            self.server.run(state, &mut observers[..])?
        };
        let answer = self
            .server
            .write_answer(&answer, Vec::new(), "the answer")?;
        let sum = |of: fn(&(f64, f64)) -> f64| watch.steps.values().map(of).sum();
        let measured = Measured {
            seconds: Some(sum(|s| s.0)),
            cpu_seconds: Some(sum(|s| s.1)),
            steps: watch.steps,
            peak_bytes: Some(peak_bytes()),
            answer_bytes: Some(answer.len() as u64),
            ..Measured::default()
        };
        Ok((answer, measured))
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (plan, keys, max_memory, table, hear))]
    fn new(
        py: Python<'_>,
        plan: &Plan,
        keys: Bytes,
        max_memory: Option<u64>,
        table: Option<PathBuf>,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let plan = plan.plan.clone();
        work(py, hear, move |tell| {
            let serving = Serving {
                max_memory,
                ..Serving::default()
            };
            // keys at hand lie in memory already
            let placement = match &keys {
                Bytes::File(_) => serving.placement(&plan),
                Bytes::Held(_) => None,
            };
            let table = machine(table.as_deref(), tell)?;
            let prediction = table.predict(&plan, placement.as_ref(), Probing::AsItIs)?;
            polyveil::require_memory(&plan, prediction.peak_bytes, max_memory)?;
            let mut told = |done, all| count(tell, "reading key", (done, all));
            let server = match (&keys, &placement) {
                (Bytes::Held(bytes), _) => {
                    runtime::Server::read(plan, &bytes[..], "evaluation keys", &mut told)?
                }
                (Bytes::File(path), None) => {
                    let name = path.display().to_string();
                    runtime::Server::read(plan, files::open(path)?, &name, &mut told)?
                }
                (Bytes::File(path), Some(placement)) => {
                    let name = path.display().to_string();
                    let file =
                        File::open(path).map_err(|e| polyveil::Error::from(e).within(path))?;
                    runtime::Server::open(plan, file, &name, &placement.kept, &mut told)?
                }
            };
            Ok(Self { server, prediction })
        })
    }

    /// The encrypted answer, and what the run took.
    fn run<'py>(
        &self,
        py: Python<'py>,
        input: Bytes,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<(Bound<'py, PyBytes>, Report)> {
        let (answer, report) = work(py, hear, |tell| {
            let (answer, measured) = match &input {
                Bytes::Held(bytes) => self.answer(&bytes[..], "the input", tell)?,
                Bytes::File(path) => {
                    self.answer(files::open(path)?, &path.display().to_string(), tell)?
                }
            };
            let (plan, made) = (self.server.plan(), &self.prediction);
            let report = runtime::Report::new(plan, made, &measured, Answer::default());
            Ok((answer, report))
        })?;
        Ok((PyBytes::new(py, &answer), Report { report }))
    }
}
