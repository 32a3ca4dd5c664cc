//! What an operator sees: a log of JSON lines, and numbers for Prometheus. Neither has a place for bytes of a body, a token or a key.

use crate::records::now;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Where lines go.
pub struct Log(Mutex<Box<dyn Write + Send>>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Writes there.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(out)))
    }

    /// One line: what happened, and facts of it. What can't be written is lost: the work goes on.
    pub fn say(&self, event: &str, facts: Value) {
        let mut line = Map::new();
        line.insert("time".into(), ((now() * 1e3).round() / 1e3).into());
        line.insert("event".into(), event.into());
        if let Value::Object(facts) = facts {
            line.extend(facts);
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// What a number is, to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Only ever more.
    Counter,
    /// As it is now.
    Gauge,
}

/// Names of all numbers, and what they say.
const KNOWN: [(&str, Sort, &str); 14] = [
    (
        "requests_total",
        Sort::Counter,
        "Requests by route and status.",
    ),
    ("refusals_total", Sort::Counter, "Refusals by code."),
    ("connections", Sort::Gauge, "Open connections."),
    (
        "connections_refused_total",
        Sort::Counter,
        "Connections beyond the limit.",
    ),
    ("jobs_total", Sort::Counter, "Jobs by how they ended."),
    (
        "jobs_resumed_total",
        Sort::Counter,
        "Jobs that went on from a checkpoint.",
    ),
    ("jobs_waiting", Sort::Gauge, "Jobs that wait."),
    ("jobs_running", Sort::Gauge, "Jobs that run."),
    (
        "run_cpu_seconds_total",
        Sort::Counter,
        "CPU seconds of runs.",
    ),
    ("key_sets", Sort::Gauge, "Sets of keys in memory."),
    ("key_bytes", Sort::Gauge, "Bytes of keys in memory."),
    (
        "key_loads_total",
        Sort::Counter,
        "Sets of keys read into memory.",
    ),
    (
        "key_evictions_total",
        Sort::Counter,
        "Sets of keys that left memory.",
    ),
    (
        "resident_bytes",
        Sort::Gauge,
        "Bytes of the process in memory.",
    ),
];

/// The numbers.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<BTreeMap<(&'static str, String), f64>>);

impl Metrics {
    fn with(&self, name: &'static str, labels: &[(&str, &str)], change: impl FnOnce(&mut f64)) {
        let escaped = |v: &str| {
            v.replace('\\', r"\\")
                .replace('"', "\\\"")
                .replace('\n', " ")
        };
        let labels = labels
            .iter()
            .map(|(k, v)| format!("{k}=\"{}\"", escaped(v)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry((name, labels)).or_default());
    }
    /// Adds to a number.
    pub fn add(&self, name: &'static str, labels: &[(&str, &str)], more: f64) {
        self.with(name, labels, |v| *v += more);
    }
    /// Sets a number.
    pub fn set(&self, name: &'static str, value: f64) {
        self.with(name, &[], |v| *v = value);
    }
    /// As text for Prometheus.
    pub fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, sort, help) in KNOWN {
            let sort = match sort {
                Sort::Counter => "counter",
                Sort::Gauge => "gauge",
            };
            let _ = writeln!(
                text,
                "# HELP polyveil_{name} {help}\n# TYPE polyveil_{name} {sort}"
            );
            for ((_, labels), value) in all
                .range((name, String::new())..)
                .take_while(|e| e.0.0 == name)
            {
                let _ = match labels.is_empty() {
                    true => writeln!(text, "polyveil_{name} {value}"),
                    false => writeln!(text, "polyveil_{name}{{{labels}}} {value}"),
                };
            }
        }
        text
    }
}
