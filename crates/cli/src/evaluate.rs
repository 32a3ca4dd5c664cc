//! evaluate: labelled pictures through client, server and client, one line of JSON each; goes on where it was stopped.

use crate::commands::{memory, rng, target};
use crate::demo::serve;
use crate::machine::Machine;
use crate::network::{self, load_polynomial, named};
use crate::run::answer_of;
use crate::terminal::{Line, note};
use crate::{EvaluateArgs, Result};
use ckks::Ciphertext;
use nn::PolyGraph;
use nn::picture::imagenet_normalization;
use runtime::{Client, Observer, Prediction, Reporter, Server, Stopwatch, VerifiedPlan};
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The file of results: one line of JSON each.
pub(crate) struct Results<'a>(pub(crate) &'a Path);

impl Results<'_> {
    /// What is there; a line that a kill cut short does not parse and is done again.
    pub(crate) fn lines(&self) -> Result<Vec<serde_json::Value>> {
        let text = if self.0.exists() {
            std::fs::read_to_string(self.0)?
        } else {
            String::new()
        };
        Ok(text
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect())
    }
    /// Which of the wanted ones have no line yet.
    pub(crate) fn missing(&self, wanted: Range<usize>) -> Result<Vec<usize>> {
        let done = self.lines()?;
        let done = |i: &usize| done.iter().any(|d| d["index"] == *i);
        Ok(wanted.filter(|i| !done(i)).collect())
    }
    /// The lines of the wanted ones: those left out, since they leave a range in the clear, and the others.
    pub(crate) fn of(
        &self,
        wanted: Range<usize>,
    ) -> Result<(Vec<serde_json::Value>, Vec<serde_json::Value>)> {
        let lines = self.lines()?.into_iter();
        Ok(lines
            .filter(|d| wanted.clone().any(|i| d["index"] == i))
            .partition(|d| d["outside"].is_string()))
    }
    pub(crate) fn append(&self, line: &serde_json::Value) -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0)
            .map_err(named(self.0))?;
        Ok(writeln!(file, "{line}")?)
    }
}

/// One input, or a batch of them, through client, server and client, in bytes: the answer's values, and how long each step took.
pub(crate) fn through(
    (client, server): (&Client, &Server),
    values: &[f64],
    prediction: &Prediction,
) -> Result<(Vec<f64>, Stopwatch)> {
    let request = client.write_input(values, Vec::new(), "encrypted input", &mut rng())?;
    let mut line = Line::new();
    let mut watch = Stopwatch::default();
    let mut tell = |p: runtime::Progress<'_>| line.progress(&p);
    let mut reporter = Reporter::new(prediction.step_seconds(), &mut tell);
    let state = server.read_input(&request[..], "encrypted input")?;
    let answer = {
        let mut observers: Vec<&mut dyn Observer<Ciphertext>> = vec![&mut reporter, &mut watch];
        server.run(state, &mut observers[..])?
    };
    line.done();
    let answer = server.write_answer(&answer, Vec::new(), "encrypted answer")?;
    Ok((client.read_answer(&answer[..], "encrypted answer")?, watch))
}

/// The plan of a network: as it was compiled, or compiled now.
pub(crate) fn plan(
    a: &EvaluateArgs,
    graph: &PolyGraph,
    machine: &Machine,
) -> Result<Arc<VerifiedPlan>> {
    let Some(path) = &a.plan else {
        let target = compiler::Target {
            batch: a.batch,
            ..target(machine, a.max_memory)
        };
        let plan = compiler::compile(graph, &target);
        return Ok(Arc::new(VerifiedPlan::new(plan.map_err(named(&a.model))?)?));
    };
    let plan = network::plan(path)?;
    let (own, metadata) = (&plan.plan().description, graph.metadata());
    let client = metadata.client();
    let shapes = [&plan.plan().input.shape, &plan.plan().output.shape];
    let same = [graph.input_shape(), graph.output().shape()]
        .iter()
        .zip(shapes)
        .all(|(a, b)| a.dims() == *b);
    if own.name != metadata.name || own.client != client || !same {
        return Err(format!(
            "{} is not a plan of {}; compile it again (`polyveil compile`)",
            path.display(),
            a.model.display()
        )
        .into());
    }
    Ok(Arc::new(plan))
}

/// Pictures and sentences are evaluated one by one.
pub(crate) fn alone(plan: Arc<VerifiedPlan>) -> Result<Arc<VerifiedPlan>> {
    match plan.plan().input.batch {
        1 => Ok(plan),
        n => Err(format!(
            "the plan takes {n} inputs at a time, here they are evaluated one by one: compile without --batch"
        )
        .into()),
    }
}

pub(crate) fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
    let graph = load_polynomial(&a.model)?;
    let normalization = graph
        .metadata()
        .normalization
        .clone()
        .unwrap_or_else(imagenet_normalization);
    let set = a.data.open()?;
    let wanted = a.skip..(a.skip + a.count).min(set.len());
    let results = Results(&a.output);
    let open = results.missing(wanted.clone())?;
    if !open.is_empty() {
        let machine = Machine::load(&a.predict)?;
        let plan = alone(plan(a, &graph, &machine)?)?;
        let prediction = machine.announce(&a.predict, &plan, None, threads)?;
        memory(&plan, plan.facts().peak_bytes, a.max_memory)?;
        results.append(&serde_json::json!({ "prediction": prediction }))?;
        let client = Client::new(plan.client_spec(), &mut rng())?;
        let server = serve(&client, &plan)?;
        for (turn, &index) in open.iter().enumerate() {
            let tensor = set.tensor(index, &normalization)?;
            let oracle = graph.evaluate(&tensor)?;
            if let Some(outside) = oracle.outside.first() {
                results.append(
                    &serde_json::json!({ "index": index, "true_class": set.label(index), "outside": outside.to_string() }),
                )?;
                note(format_args!(
                    "picture {index} leaves the calibrated ranges in the clear twin ({outside}) and is left out; calibrate on data that covers it (`polyveil calibrate`)"
                ));
                continue;
            }
            let oracle = oracle.output.into_values();
            let (logits, watch) = through((&client, &server), tensor.values(), &prediction)?;
            let found = answer_of(logits, &oracle, &graph.metadata().labels);
            let row = serde_json::json!({
                "index": index, "true_class": set.label(index), "class": found.class, "clear_class": found.clear_class,
                "max_abs_error": found.max_abs_error,
                "seconds": watch.steps.values().map(|s| s.0).sum::<f64>(), "cpu_seconds": watch.steps.values().map(|s| s.1).sum::<f64>(),
                "peak_bytes": runtime::machine::peak_bytes(),
            });
            results.append(&row)?;
            note(format_args!("{}/{}: {row}", turn + 1, open.len()));
        }
    }
    let (left_out, all) = results.of(wanted)?;
    let count = |key: &str| all.iter().filter(|d| d["class"] == d[key]).count();
    let largest = |key: &str| {
        all.iter()
            .filter_map(|d| d[key].as_f64())
            .fold(0.0, f64::max)
    };
    let mut cpu: Vec<f64> = all
        .iter()
        .filter_map(|d| d["cpu_seconds"].as_f64())
        .collect();
    cpu.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "pictures": all.len(), "left_out": left_out.len(), "same_class_as_clear": count("clear_class"), "right": count("true_class"),
            "max_abs_error": largest("max_abs_error"), "median_cpu_seconds": cpu.get(cpu.len() / 2), "peak_bytes": largest("peak_bytes"),
        })
    );
    Ok(())
}
