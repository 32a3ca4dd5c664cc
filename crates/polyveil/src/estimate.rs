//! What transformers would cost, from their shapes alone, beside what P2 (arXiv 2410.09457) published.

use crate::error::{Result, named};
use crate::files;
use crate::machine::{Machine, Probing};
use crate::markdown::{Table, or_none};
use crate::progress::{Listener, Say, duration};
use crate::require_memory;
use crate::session::{Precision, Session};
use compiler::{Scale, Sketch, Target, sketch};
use nn::approximations::Substitute;
use nn::attention::{AttentionScheme, Denominator, PowerSoftmax};
use runtime::machine::available_memory;
use runtime::{Basis, Prediction, Purpose, Work};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zoo::shape::{Kept, Polynomials, TransformerShape};

/// Names of published models that are known.
pub fn published() -> Vec<String> {
    let names = TransformerShape::published_names();
    names.iter().map(|&n| n.into()).collect()
}

/// Most bytes of a config.json.
const CONFIG_LIMIT: u64 = 1 << 20;
/// ε of Power-Softmax over the mean of the powers.
const EPSILON: f64 = 0.25;
/// By how much intervals are wider than those of random weights: so that they are like those of networks trained here
/// (`training/stories/polynomial4.programs.csv`).
const WIDENED: f64 = 4.0;

/// What is estimated, and for which machine.
#[derive(Clone, Debug)]
pub struct Estimating {
    /// Tokens of an input; several are several rows.
    pub lengths: Vec<usize>,
    /// Inputs in one run, powers of two; where there are none, one, and as many as there are slots for with one channel in a ciphertext.
    pub batches: Vec<usize>,
    /// Exponent of Power-Softmax, even.
    pub power: u32,
    /// Bits of divisions and roots.
    pub bits: f64,
    /// Degree of activations.
    pub degree: usize,
    /// Fewer rotation keys where a run needs more memory than this; what is free here if none.
    pub max_memory: Option<u64>,
    /// What operations cost.
    pub machine: Machine,
    /// Each network is made with random weights, compiled and run encrypted here, too: what the estimate is worth on this machine.
    pub run: bool,
}

impl Default for Estimating {
    fn default() -> Self {
        Self {
            lengths: vec![128],
            batches: Vec::new(),
            power: 4,
            bits: 12.0,
            degree: 15,
            max_memory: None,
            machine: Machine::default(),
            run: false,
        }
    }
}

/// Seconds that P2 measured on one A100, by model and tokens: the whole run by purpose, in the order of [`Work::ALL`].
const PUBLISHED_RUN: (&str, usize, f64, [f64; 6]) =
    ("pythia-70m", 128, 93.0, [28.0, 17.0, 18.6, 8.8, 7.7, 15.0]);
/// Of its operator alone, all layers.
const PUBLISHED_ATTENTION: [(&str, usize, f64); 3] = [
    ("pythia-70m", 128, 2.7),
    ("pythia-70m", 1024, 8.6),
    ("llama-7b", 128, 16.6),
];

/// One row.
struct Row {
    name: String,
    parameters: u64,
    length: usize,
    batch: usize,
    sketch: Sketch,
    /// CPU seconds by purpose.
    purposes: BTreeMap<&'static str, f64>,
    /// CPU seconds of Power-Softmax, bootstraps for it included.
    attention: f64,
    cpu_seconds: f64,
    seconds: f64,
    training: [u64; 2],
    /// Levels of divisions, roots: least and most.
    levels: [(u32, u32); 2],
    took: f64,
    measured: Option<Measured>,
}

/// A run of the network with random weights.
struct Measured {
    compiled: f64,
    seconds: f64,
    cpu_seconds: f64,
    bootstraps: u64,
    keys: usize,
    peak_bytes: u64,
    /// Of the plan: CPU seconds, peak.
    predicted: (f64, u64),
    /// Largest error of the answer, and its largest value.
    error: (f64, f64),
}

/// Estimates of several models: tables as text.
pub struct Estimates {
    rows: Vec<Row>,
    basis: Basis,
    limit: Option<u64>,
}

/// Sketches models, of published names or from their config.json, for every length and batch.
///
/// # Errors
/// Names and files that describe no transformer; lengths and batches that the slots do not hold.
pub fn estimate(models: &[String], a: &Estimating, tell: Listener<'_>) -> Result<Estimates> {
    let basis = a.machine.basis(Probing::AsItIs)?;
    let limit = a.max_memory.or_else(available_memory);
    let shapes: Vec<(String, TransformerShape)> = (models.iter())
        .map(|name| Ok((short(name), open(name)?)))
        .collect::<Result<_>>()?;
    let slots = ckks::Parameters::new(ckks::ParametersSpec::standard())?.max_slots();
    if let Some(length) = a.lengths.iter().find(|&&l| l < 2 || l > slots) {
        return Err(
            format!("an input's length must be 2 to {slots} tokens, it is {length}").into(),
        );
    }
    let mut out = Estimates {
        rows: Vec::new(),
        basis,
        limit,
    };
    for &length in &a.lengths {
        let full = (slots / length.next_power_of_two()).max(1);
        let batches: Vec<usize> = match &a.batches[..] {
            [] => vec![1, full],
            given => given.to_vec(),
        };
        for (name, shape) in &shapes {
            if length > shape.sizes().max_length {
                tell.note(format_args!(
                    "{name} knows {} positions; {length} are costed as if it knew them",
                    shape.sizes().max_length
                ));
            }
            for &batch in &batches {
                let start = Instant::now();
                let job = Job {
                    a,
                    name,
                    shape,
                    length,
                    batch,
                };
                let mut row = job.row(&out.basis, limit)?;
                row.took = start.elapsed().as_secs_f64();
                tell.note(format_args!(
                    "{name}, {length} tokens, batch {batch}: sketched in {:.1} s, at most {} so far",
                    row.took,
                    runtime::size(runtime::machine::peak_bytes())
                ));
                if a.run {
                    row.measured = Some(job.run(&row, &out.basis, limit, tell)?);
                }
                out.rows.push(row);
            }
        }
    }
    Ok(out)
}

/// A published model's shape, or that of a config.json.
fn open(name: &str) -> Result<TransformerShape> {
    if let Some(shape) = TransformerShape::published(name) {
        return Ok(shape);
    }
    let path = Path::new(name);
    let path = match path.is_dir() {
        true => path.join("config.json"),
        false => path.to_path_buf(),
    };
    let bytes = match path.exists() {
        true => files::read(&path, CONFIG_LIMIT)?,
        false => {
            return Err(format!(
                "{name}: no such file, and no published model that is known: {}",
                TransformerShape::published_names().join(", ")
            )
            .into());
        }
    };
    let shape = TransformerShape::from_json(&String::from_utf8_lossy(&bytes));
    shape.map_err(named(&path))
}

/// A model's name for tables: that of its folder, where a file is given.
fn short(name: &str) -> String {
    let path = Path::new(name);
    let folder = match path.file_name().is_some_and(|f| f == "config.json") {
        true => path.parent().and_then(Path::file_name),
        false => path.file_name(),
    };
    folder.map_or_else(|| name.into(), |f| f.to_string_lossy().into_owned())
}

/// One row to be.
struct Job<'a> {
    a: &'a Estimating,
    name: &'a str,
    shape: &'a TransformerShape,
    length: usize,
    batch: usize,
}

impl Job<'_> {
    fn scheme(&self) -> Result<AttentionScheme> {
        let power = PowerSoftmax::new(self.a.power, EPSILON)?.over(Denominator::Mean);
        Ok(AttentionScheme::Power(power))
    }

    fn polynomials(&self) -> Polynomials {
        Polynomials {
            bits: self.a.bits,
            degree: self.a.degree,
            widened: WIDENED,
        }
    }

    /// Makes the network with random weights, compiles it, and runs it encrypted beside itself in the clear.
    fn run(
        &self,
        row: &Row,
        basis: &Basis,
        limit: Option<u64>,
        tell: Listener<'_>,
    ) -> Result<Measured> {
        let name = self.name;
        tell.note(format_args!(
            "{name}: making the network with random weights and its plan, before a run of about {}",
            duration(row.seconds)
        ));
        let start = Instant::now();
        let lowered = self
            .shape
            .random(self.scheme()?, self.length)?
            .polynomials(self.polynomials())?;
        let target = Target {
            batch: self.batch,
            ..self.a.machine.target(limit)
        };
        let plan = Arc::new(crate::compile(&lowered.graph, &target)?);
        let compiled = start.elapsed().as_secs_f64();
        let facts = plan.facts();
        let threads = rayon::current_num_threads();
        let prediction = Prediction::new(&plan, basis.clone(), threads);
        tell.note(format_args!(
            "{name}: {} bootstraps, {} keys, peak {}, {} on {threads} threads; made in {}",
            facts.bootstraps,
            facts.keys.0.len(),
            runtime::size(facts.peak_bytes),
            duration(prediction.seconds),
            duration(compiled)
        ));
        require_memory(&plan, facts.peak_bytes, limit)?;
        let inputs: Vec<nn::Tensor> = (0..self.batch)
            .map(|i| zoo::shape::sequence(lowered.graph.input_shape(), i as u64))
            .collect();
        let session = Session::new(plan.clone(), &lowered.graph, prediction, tell)?;
        let values: Vec<f64> = inputs.iter().flat_map(|x| x.values().to_vec()).collect();
        let begun = Instant::now();
        let outcome = session.run(&values, Precision::Unmeasured, tell)?;
        let seconds = begun.elapsed().as_secs_f64();
        let peak_bytes = runtime::machine::peak_bytes();
        let predicted = (session.prediction().cpu_seconds, facts.peak_bytes);
        // its memory is the clear run's now
        drop(session);
        let mut error = (0.0f64, 0.0f64);
        let each = outcome.values.chunks(outcome.values.len() / inputs.len());
        for (x, answer) in inputs.iter().zip(each) {
            let clear = lowered.graph.evaluate(x)?.output;
            for (a, t) in answer.iter().zip(clear.values()) {
                error = (error.0.max((a - t).abs()), error.1.max(t.abs()));
            }
        }
        Ok(Measured {
            compiled,
            seconds,
            cpu_seconds: outcome.measured.cpu_seconds.unwrap_or_default(),
            bootstraps: facts.bootstraps,
            keys: facts.keys.0.len(),
            peak_bytes,
            predicted,
            error,
        })
    }

    fn row(&self, basis: &Basis, limit: Option<u64>) -> Result<Row> {
        let small = self.shape.stand_in(self.scheme()?)?;
        let lowered = small.polynomials(self.polynomials())?;
        let mut levels = [(u32::MAX, 0); 2];
        for (node, piece) in &lowered.approximations.by_node {
            if let Substitute::Program(p) = piece {
                let attention = matches!(small.graph.node(*node).op(), nn::Op::Attention(_));
                let (least, most) = &mut levels[usize::from(!attention)];
                (*least, *most) = ((*least).min(p.depth()), (*most).max(p.depth()));
            }
        }
        let scale = Scale {
            channels: small.channels.clone(),
            tokens: (small.tokens, self.length),
            narrowed: small.head,
        };
        let threads = rayon::current_num_threads();
        let target = Target {
            cost: basis.cost.on(threads),
            batch: self.batch,
            max_memory: limit,
            ..Target::default()
        };
        let sketch = sketch(&lowered.graph, &scale, &target)?;
        let mut purposes: BTreeMap<&'static str, f64> = BTreeMap::new();
        let mut attention = 0.0;
        for part in &sketch.parts {
            *purposes.entry(part.work.name()).or_default() += part.seconds;
            if part.purpose == Purpose::Attention {
                attention += part.seconds;
            }
        }
        let cpu_seconds = sketch.cpu_seconds();
        let training = |kept| self.shape.training_bytes(self.length, 1, kept);
        Ok(Row {
            name: self.name.into(),
            parameters: self.shape.parameters()?,
            length: self.length,
            batch: self.batch,
            purposes,
            attention,
            cpu_seconds,
            seconds: basis.cost.wall(cpu_seconds, threads),
            training: [training(Kept::Everything)?, training(Kept::Boundaries)?],
            levels,
            sketch,
            took: 0.0,
            measured: None,
        })
    }
}

fn fits(row: &Row, limit: Option<u64>) -> Option<bool> {
    limit.map(|l| row.sketch.peak_bytes <= l)
}

fn as_json(row: &Row, limit: Option<u64>) -> serde_json::Value {
    let s = &row.sketch;
    json!({
        "model": row.name,
        "parameters": row.parameters,
        "tokens": row.length,
        "batch": row.batch,
        "levels": s.levels,
        "bootstraps": s.bootstraps,
        "bootstrapped_tensors": s.places,
        "input_ciphertexts": s.ports.0,
        "answer_ciphertexts": s.ports.1,
        "keys": s.keys.0.len(),
        "key_bytes": s.key_bytes,
        "weight_bytes": s.weight_bytes,
        "peak_bytes": s.peak_bytes,
        "fits": fits(row, limit),
        "cpu_seconds": row.cpu_seconds,
        "seconds": row.seconds,
        "cpu_seconds_by_purpose": row.purposes,
        "power_softmax_cpu_seconds": row.attention,
        "training_bytes": row.training[0],
        "training_bytes_recomputing": row.training[1],
        "division_levels": [row.levels[0].0, row.levels[0].1],
        "root_levels": [row.levels[1].0, row.levels[1].1],
        "sketched_in_seconds": row.took,
        "measured": row.measured.as_ref().map(|m| json!({
            "compiled_in_seconds": m.compiled,
            "seconds": m.seconds,
            "cpu_seconds": m.cpu_seconds,
            "bootstraps": m.bootstraps,
            "keys": m.keys,
            "peak_bytes": m.peak_bytes,
            "plan_cpu_seconds": m.predicted.0,
            "plan_peak_bytes": m.predicted.1,
            "largest_error": m.error.0,
            "largest_value": m.error.1,
        })),
    })
}

fn giga(bytes: u64) -> String {
    digits(bytes as f64 / 1e9)
}

/// Three digits are as many as an estimate has.
fn digits(x: f64) -> String {
    match x {
        x if x < 10.0 => format!("{x:.1}"),
        x if x < 1000.0 => format!("{x:.0}"),
        x => {
            let whole = format!("{x:.0}");
            let mut grouped = String::new();
            for (i, c) in whole.chars().enumerate() {
                if i > 0 && (whole.len() - i).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(c);
            }
            grouped
        }
    }
}

impl Estimates {
    /// The rows as JSON objects.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.rows.iter().map(|r| as_json(r, self.limit)).collect()
    }

    fn costs(&self, threads: usize) -> Table {
        let last = format!("on {threads} threads");
        let mut t = Table::default();
        for r in &self.rows {
            let s = &r.sketch;
            let fits = match fits(r, self.limit) {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            };
            let keys = format!("{}, {}", s.keys.0.len(), giga(s.key_bytes));
            t.row([
                ("model", r.name.clone()),
                ("M parameters", digits(r.parameters as f64 / 1e6)),
                ("tokens", r.length.to_string()),
                ("batch", r.batch.to_string()),
                ("levels", s.levels.to_string()),
                ("bootstraps", digits(s.bootstraps as f64)),
                ("keys, GB", keys),
                ("weights, GB", giga(s.weight_bytes)),
                ("peak, GB", giga(s.peak_bytes)),
                ("fits", fits.into()),
                ("CPU s", digits(r.cpu_seconds)),
                (&last, duration(r.seconds)),
                ("for one input", duration(r.seconds / r.batch as f64)),
            ]);
        }
        t
    }

    fn purposes(&self) -> Table {
        let names = Work::ALL.map(|p| p.name());
        let mut t = Table::default();
        let mut row = |name: &str, (length, batch): (usize, usize), each: [f64; 6], all: f64| {
            let head = [("model", name.into()), ("tokens", length.to_string())];
            let each = names.into_iter().zip(each).chain([("all", all)]);
            let cells = each.map(|(name, seconds)| (name, digits(seconds)));
            let head = head.into_iter().chain([("batch", batch.to_string())]);
            t.row(head.chain(cells));
        };
        for r in &self.rows {
            let each = names.map(|n| r.purposes.get(n).copied().unwrap_or(0.0));
            row(&r.name, (r.length, r.batch), each, r.cpu_seconds);
            let (name, length, all, each) = PUBLISHED_RUN;
            if (r.name.as_str(), r.length, r.batch) == (name, length, 1) {
                let name = format!("{name}, P2, A100 seconds");
                row(&name, (length, 1), each, all);
            }
        }
        t
    }

    fn attention(&self) -> Table {
        let mut t = Table::default();
        for r in &self.rows {
            let published = PUBLISHED_ATTENTION
                .iter()
                .find(|p| (p.0, p.1, 1) == (r.name.as_str(), r.length, r.batch));
            let alone = r.purposes.get(Work::Attention.name());
            t.row([
                ("model", r.name.clone()),
                ("tokens", r.length.to_string()),
                ("batch", r.batch.to_string()),
                ("CPU s with its bootstraps", digits(r.attention)),
                ("without", digits(alone.copied().unwrap_or(0.0))),
                ("P2, A100 seconds", or_none(published.map(|p| digits(p.2)))),
            ]);
        }
        t
    }

    fn training(&self) -> Table {
        let mut t = Table::default();
        let mut seen = Vec::new();
        for r in &self.rows {
            if !seen.contains(&(&r.name, r.length)) {
                seen.push((&r.name, r.length));
                let [kept, recomputed] = r.training.map(giga);
                t.row([
                    ("model", r.name.clone()),
                    ("tokens", r.length.to_string()),
                    ("GB, everything kept", kept),
                    ("GB, blocks recomputed", recomputed),
                ]);
            }
        }
        t
    }

    /// Estimated, predicted of the plan, measured.
    fn measured(&self) -> Option<Table> {
        let mut t = Table::default();
        self.rows.iter().find(|r| r.measured.is_some())?;
        for r in &self.rows {
            let Some(m) = &r.measured else { continue };
            let s = &r.sketch;
            let cpu_seconds = [r.cpu_seconds, m.predicted.0, m.cpu_seconds].map(digits);
            let peak = [s.peak_bytes, m.predicted.1, m.peak_bytes].map(giga);
            let error = format!("{:.1e}, {:.1}", m.error.0, m.error.1);
            t.row([
                ("model", r.name.clone()),
                ("tokens", r.length.to_string()),
                ("batch", r.batch.to_string()),
                ("bootstraps", format!("{}, {}", s.bootstraps, m.bootstraps)),
                ("keys", format!("{}, {}", s.keys.0.len(), m.keys)),
                ("CPU s", cpu_seconds.join(", ")),
                ("s", [r.seconds, m.seconds].map(digits).join(", ")),
                ("peak, GB", peak.join(", ")),
                ("compiled in", duration(m.compiled)),
                ("largest error, of values up to", error),
            ]);
        }
        Some(t)
    }
}

impl std::fmt::Display for Estimates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = rayon::current_num_threads();
        let (rows, limit) = (&self.rows, self.limit);
        let room = limit.map_or("an unknown amount of memory".into(), runtime::size);
        let range = |i: usize| {
            let all = rows.iter().map(|r| r.levels[i]);
            let least = all.clone().map(|l| l.0).min().unwrap_or(0);
            let most = all.map(|l| l.1).max().unwrap_or(0);
            format!("{least} to {most}")
        };
        writeln!(
            f,
            "128-bit security (standard-16); {threads} threads, cost table {}; {room} of memory.\nDivisions take {} levels, roots {}.\n\n{}",
            self.basis.source,
            range(0),
            range(1),
            self.costs(threads)
        )?;
        writeln!(
            f,
            "Where the CPU seconds go, and what P2 measured on one A100:\n\n{}",
            self.purposes()
        )?;
        writeln!(
            f,
            "Power-Softmax alone, from scores to weights, in all layers:\n\n{}",
            self.attention()
        )?;
        write!(
            f,
            "Training by AdamW in f32, one sequence at a time (`parts` makes batches of any size of it):\n\n{}",
            self.training()
        )?;
        if let Some(table) = self.measured() {
            write!(
                f,
                "\nWith random weights, compiled and run encrypted here (estimated, predicted of the plan, measured):\n\n{table}"
            )?;
        }
        let largest = (rows.iter())
            .filter(|r| fits(r, limit) == Some(true))
            .max_by_key(|r| (r.parameters, r.length, std::cmp::Reverse(r.batch)));
        match (largest, limit) {
            (Some(r), _) => writeln!(
                f,
                "\nThe largest of these that fits this machine: {} with {} tokens, batch {}, {} in all, {} for one input.",
                r.name,
                r.length,
                r.batch,
                duration(r.seconds),
                duration(r.seconds / r.batch as f64)
            ),
            (None, Some(_)) => writeln!(f, "\nNone of these fits this machine."),
            (None, None) => Ok(()),
        }
    }
}
