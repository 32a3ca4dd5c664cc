//! Plans: what a network costs under encryption, and the files of a server and its clients. Reports: what a run did cost.

use crate::errors;
use crate::network::{existing, expect_new};
use crate::work::work;
use polyveil::machine::{Machine, Probing, forecast};
use polyveil::network::{self, PlanFiles};
use polyveil::nn::PolyGraph;
use polyveil::runtime::{self, ClientFile, VerifiedPlan};
use polyveil::{Listener, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The cost table in a file, or the shipped one.
pub(crate) fn machine(path: Option<&Path>, tell: Listener<'_>) -> Result<Machine> {
    path.map_or_else(|| Ok(Machine::default()), |path| Machine::open(path, tell))
}

/// A verified plan.
#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Plan {
    pub(crate) plan: Arc<VerifiedPlan>,
    /// What it was compiled from; none of a plan from its files.
    graph: Option<Arc<PolyGraph>>,
    /// What clients get; none where it does not lie beside a plan from its files.
    client: Option<ClientFile>,
}

impl Plan {
    pub(crate) fn of(plan: VerifiedPlan, graph: &Arc<PolyGraph>) -> Result<Self> {
        let client = polyveil::client_file(&plan, graph)?;
        Ok(Self {
            plan: Arc::new(plan),
            graph: Some(graph.clone()),
            client: Some(client),
        })
    }
}

#[pymethods]
impl Plan {
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, hear: &Bound<'_, PyAny>) -> PyResult<Self> {
        work(py, hear, |_| {
            let plan = network::plan(&path)?;
            let beside = path.with_extension("client");
            let client = match beside.is_file() {
                true => Some(network::client_file(&beside)?),
                false => None,
            };
            Ok(Self {
                plan: Arc::new(plan),
                graph: None,
                client,
            })
        })
    }

    /// Writes the plan and what goes with it; gives the names of the files.
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        overwrite: bool,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<PathBuf>> {
        work(py, hear, |tell| {
            let graph = self.graph.as_ref();
            let graph = graph.ok_or("this plan was read from its files: copy these")?;
            expect_new(&path, overwrite)?;
            let files = PlanFiles::create(&path, &[], existing(overwrite), tell)?;
            let beside = files.save(&self.plan, graph)?;
            let all = [Some(path), beside.client, beside.weights];
            Ok(all.into_iter().flatten().collect())
        })
    }

    fn client_file<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let file = self.client.as_ref();
        let file = file.ok_or_else(|| {
            errors::refused("the client file does not lie beside this plan, under its name with the ending .client; take it from where the plan was compiled".into())
        })?;
        let bytes = file.write(Vec::new(), "client file");
        Ok(PyBytes::new(
            py,
            &bytes.map_err(|e| errors::raised(e.into()))?,
        ))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.plan.plan().description.name
    }

    #[getter]
    fn batch(&self) -> usize {
        self.plan.plan().input.batch
    }

    /// What a run will take, as JSON.
    fn forecast(
        &self,
        py: Python<'_>,
        table: Option<PathBuf>,
        probe: bool,
        hear: &Bound<'_, PyAny>,
    ) -> PyResult<String> {
        work(py, hear, |tell| {
            let probing = match probe {
                true => Probing::Probe,
                false => Probing::AsItIs,
            };
            let made = machine(table.as_deref(), tell)?.predict(&self.plan, None, probing)?;
            let (facts, parameters) = (self.plan.facts(), self.plan.parameters());
            let bounds = self.plan.answer_bounds();
            let all = serde_json::json!({
                "seconds": made.seconds, "cpu_seconds": made.cpu_seconds, "threads": made.threads, "peak_bytes": made.peak_bytes,
                "key_bytes": facts.key_file_bytes, "security_bits": parameters.security_bits(), "bootstraps": facts.bootstraps,
                "steps": self.plan.plan().steps.len(), "error": bounds.of_network(), "parameters": parameters.spec().name,
                "text": forecast(&self.plan, &made, None),
            });
            Ok(all.to_string())
        })
    }
}

/// What a run cost, beside what was predicted.
#[pyclass(frozen, module = "polyveil._native")]
pub(crate) struct Report {
    pub(crate) report: runtime::Report,
}

#[pymethods]
impl Report {
    fn json(&self) -> String {
        self.report.to_json()
    }
    fn text(&self) -> String {
        self.report.to_text()
    }
    fn svg(&self) -> String {
        self.report.to_svg()
    }
}
