//! evaluate: inputs through client, server and client, beside the network in the clear, one line of JSON each; goes on where it was stopped.
//! Here is what pictures, `prompts` and `sentences` share, and pictures.

use crate::Result;
use crate::arguments::EvaluateArgs;
use crate::commands::{memory, rng, target};
use crate::demo::serve;
use crate::machine::Machine;
use crate::network::{self, load_polynomial, named, top};
use crate::run::answer_of;
use crate::stated::{Stated, stated};
use crate::terminal::{Line, duration, note};
use ckks::Ciphertext;
use nn::picture::imagenet_normalization;
use nn::{PolyGraph, Tensor};
use runtime::report::Measured;
use runtime::{ClearTwin, Client, Observer, Prediction, Reporter, Server, Stopwatch, VerifiedPlan};
use serde_json::json;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The file of results: one line of JSON each.
pub struct Results<'a>(pub(crate) &'a Path);

impl Results<'_> {
    /// What is there; a line that a kill cut short does not parse and is done again.
    pub fn lines(&self) -> Result<Vec<serde_json::Value>> {
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
    pub fn missing(&self, wanted: Range<usize>) -> Result<Vec<usize>> {
        let done = self.lines()?;
        let done = |i: &usize| done.iter().any(|d| d["index"] == *i);
        Ok(wanted.filter(|i| !done(i)).collect())
    }
    /// The lines of the wanted ones: those left out, since they leave a range in the clear, and the others.
    pub fn of(
        &self,
        wanted: Range<usize>,
    ) -> Result<(Vec<serde_json::Value>, Vec<serde_json::Value>)> {
        let lines = self.lines()?.into_iter();
        Ok(lines
            .filter(|d| wanted.clone().any(|i| d["index"] == i))
            .partition(|d| d["outside"].is_string()))
    }
    pub fn append(&self, line: &serde_json::Value) -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0)
            .map_err(named(self.0))?;
        Ok(writeln!(file, "{line}")?)
    }
}

/// The plan of a network: as it was compiled, or compiled now.
fn plan(a: &EvaluateArgs, graph: &PolyGraph, machine: &Machine) -> Result<Arc<VerifiedPlan>> {
    let Some(path) = &a.plan else {
        let target = compiler::Target {
            batch: a.batch,
            ..target(machine, a.max_memory)
        };
        let plan = compiler::compile(graph, &target);
        return Ok(Arc::new(plan.map_err(named(&a.model))?));
    };
    let plan = network::plan(path)?;
    let (own, metadata) = (&plan.plan().description, graph.metadata());
    let task = runtime::wire::task_digest(&network::task_of(graph));
    let shapes = [&plan.plan().input.shape, &plan.plan().output.shape];
    let same = [graph.input_shape(), graph.output().shape()]
        .iter()
        .zip(shapes)
        .all(|(a, b)| a.dims() == *b);
    if own.name != metadata.name || own.task != task || !same {
        return Err(format!(
            "{} is not a plan of {}; compile it again (`polyveil compile`)",
            path.display(),
            a.model.display()
        )
        .into());
    }
    Ok(Arc::new(plan))
}

/// A plan with its client and its server, and the network beside them.
pub struct Bench<'a> {
    /// What goes in: a picture, a prompt, a sentence.
    noun: &'static str,
    graph: &'a PolyGraph,
    results: &'a Results<'a>,
    pub plan: Arc<VerifiedPlan>,
    pub prediction: Prediction,
    client: Client,
    server: Server,
}

/// What the rows of one input say, beside what all rows have.
type Row = serde_json::Map<String, serde_json::Value>;

/// The fields of a JSON object.
pub fn row(object: serde_json::Value) -> Row {
    match object {
        serde_json::Value::Object(row) => row,
        _ => Row::new(),
    }
}

impl<'a> Bench<'a> {
    /// Compiles and predicts, states an error where `examples` to simulate on are given, and makes keys.
    pub fn new(
        noun: &'static str,
        a: &EvaluateArgs,
        graph: &'a PolyGraph,
        results: &'a Results<'a>,
        examples: Option<Vec<Tensor>>,
        threads: usize,
    ) -> Result<(Self, Option<Stated>)> {
        let machine = Machine::load(&a.predict)?;
        let plan = plan(a, graph, &machine)?;
        let prediction = machine.announce(&a.predict, &plan, None, threads)?;
        memory(&plan, plan.facts().peak_bytes, a.max_memory)?;
        let start = Instant::now();
        let stated = examples.map(|e| stated(&plan, graph, &e)).transpose()?;
        let mut head = row(json!({ "prediction": prediction }));
        if let Some(stated) = &stated {
            note(format_args!(
                "{stated} ({})",
                duration(start.elapsed().as_secs_f64())
            ));
            head.insert("stated".into(), json!(stated));
        }
        results.append(&head.into())?;
        let client = Client::new(plan.client_file(network::task_of(graph))?, &mut rng())?;
        let server = serve(&client, &plan)?;
        let bench = Self {
            noun,
            graph,
            results,
            plan,
            prediction,
            client,
            server,
        };
        Ok((bench, stated))
    }

    /// Runs the inputs with these indices, as many at a time as the plan takes, and appends a line for each: `input` gives the tensor and what
    /// names it, `compare` what its answer is beside the network's. One that leaves a range in the clear gets a line that says so, and no run.
    /// Gives what a run took on average.
    pub fn each(
        &self,
        open: &[usize],
        input: impl Fn(usize) -> Result<(Tensor, Row)>,
        compare: impl Fn(usize, &[f64], &[f64]) -> Row,
    ) -> Result<Measured> {
        let ports = self.plan.plan();
        let (batch, output) = (ports.input.batch, ports.output.places.len());
        let (mut sum, mut runs, mut done) = (Stopwatch::default(), 0u32, 0);
        for group in open.chunks(batch) {
            let mut taken = Vec::new();
            for &index in group {
                let (x, named) = input(index)?;
                let twin = self.graph.evaluate(&x)?;
                match twin.outside.first() {
                    Some(outside) => self.leave_out(index, named, &outside.to_string())?,
                    None => taken.push((index, x, named, twin.output.into_values())),
                }
            }
            // all at once; one by one only where one of them leaves a range of the plan's
            let values = |x: &Tensor| x.values().to_vec();
            let all = taken
                .iter()
                .flat_map(|t| values(&t.1))
                .collect::<Vec<f64>>();
            if !taken.is_empty() && self.leaves(&all)?.is_some() {
                let mut within = Vec::new();
                for one in taken {
                    match self.leaves(one.1.values())? {
                        Some(outside) => self.leave_out(one.0, one.2, &outside)?,
                        None => within.push(one),
                    }
                }
                taken = within;
            }
            done += group.len();
            if taken.is_empty() {
                continue;
            }
            let inputs: Vec<f64> = taken.iter().flat_map(|t| values(&t.1)).collect();
            let (answers, watch) =
                through((&self.client, &self.server), &self.prediction, &inputs)?;
            let seconds = |of: fn(&(f64, f64)) -> f64| watch.steps.values().map(of).sum::<f64>();
            let together = taken.len();
            for ((index, _, named, twin), answer) in taken.into_iter().zip(answers.chunks(output)) {
                let mut line = row(json!({ "index": index }));
                line.extend(named);
                line.extend(row(json!({
                    "max_abs_error": largest_error(answer, &twin), "seconds": seconds(|s| s.0), "cpu_seconds": seconds(|s| s.1),
                    "peak_bytes": runtime::machine::peak_bytes(),
                })));
                line.extend(compare(index, answer, &twin));
                if batch > 1 {
                    line.insert("inputs_in_the_run".into(), together.into());
                }
                let line = serde_json::Value::from(line);
                self.results.append(&line)?;
                note(format_args!("{done}/{}: {line}", open.len()));
            }
            runs += 1;
            for (step, (wall, cpu)) in watch.steps {
                let total = sum.steps.entry(step).or_default();
                *total = (total.0 + wall, total.1 + cpu);
            }
        }
        let one = |s: (f64, f64)| (s.0 / f64::from(runs), s.1 / f64::from(runs));
        Ok(Measured {
            steps: sum.steps.into_iter().map(|(i, s)| (i, one(s))).collect(),
            ..Measured::default()
        })
    }

    /// The plan's own range that these inputs leave: operands of bootstraps.
    fn leaves(&self, values: &[f64]) -> Result<Option<String>> {
        match ClearTwin::new(&self.plan, self.client.spec(), values)?.finish() {
            Err(e @ runtime::Error::Range { .. }) => Ok(Some(e.to_string())),
            other => Ok(other.map(|_| None)?),
        }
    }

    fn leave_out(&self, index: usize, named: Row, outside: &str) -> Result<()> {
        let mut line = row(json!({ "index": index, "outside": outside }));
        line.extend(named);
        self.results.append(&line.into())?;
        let noun = self.noun;
        note(format_args!(
            "{noun} {index} leaves the calibrated ranges in the clear twin ({outside}) and is left out; calibrate on {noun}s that cover it (`polyveil calibrate`)"
        ));
        Ok(())
    }
}

/// Inputs through client, server and client, in bytes: the answers' values, and how long each step took.
pub fn through(
    (client, server): (&Client, &Server),
    prediction: &Prediction,
    values: &[f64],
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

/// The largest difference; infinite where one is NaN, which would be no maximum.
pub fn largest_error(answer: &[f64], truth: &[f64]) -> f64 {
    answer.iter().zip(truth).fold(0.0, |most, (a, t)| {
        let e = (a - t).abs();
        if e.is_nan() {
            f64::INFINITY
        } else {
            e.max(most)
        }
    })
}

/// How far the largest value leads.
pub fn margin(values: &[f64]) -> f64 {
    match top(values, 2)[..] {
        [first, second] => values[first] - values[second],
        _ => f64::INFINITY,
    }
}

/// All numbers of one key in results, ascending.
fn numbers(all: &[serde_json::Value], key: &str) -> Vec<f64> {
    let mut numbers: Vec<f64> = all.iter().filter_map(|d| d[key].as_f64()).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The summary of all lines that were asked for: what all evaluations say, and what `more` makes of the lines.
pub fn summary(
    noun: &str,
    results: &Results<'_>,
    wanted: Range<usize>,
    more: impl Fn(&[serde_json::Value]) -> Row,
) -> Result<()> {
    let (left_out, all) = results.of(wanted)?;
    let largest = |key: &str| numbers(&all, key).last().copied();
    let median = |key: &str| numbers(&all, key).get(all.len() / 2).copied();
    let mut line = row(json!({
        format!("{noun}s"): all.len(), "left_out": left_out.len(), "max_abs_error": largest("max_abs_error"),
        "median_seconds": median("seconds"), "median_cpu_seconds": median("cpu_seconds"), "peak_bytes": largest("peak_bytes"),
    }));
    if let Some(stated) = largest("stated_error") {
        line.insert("stated_error".into(), stated.into());
    }
    line.extend(more(&all));
    println!("{}", serde_json::Value::from(line));
    Ok(())
}

/// How many lines' class is that of the twin, and the true one.
pub fn classes(all: &[serde_json::Value]) -> Row {
    let count = |key: &str| all.iter().filter(|d| d["class"] == d[key]).count();
    row(json!({ "same_class_as_clear": count("clear_class"), "right": count("true_class") }))
}

pub fn evaluate(a: &EvaluateArgs, threads: usize) -> Result<()> {
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
        let (bench, _) = Bench::new("picture", a, &graph, &results, None, threads)?;
        let input = |index| -> Result<(Tensor, Row)> {
            let named = row(json!({ "true_class": set.label(index) }));
            Ok((set.tensor(index, &normalization)?, named))
        };
        bench.each(&open, input, |_, logits, oracle| {
            let found = answer_of(logits.to_vec(), oracle, &graph.metadata().labels);
            row(json!({ "class": found.class, "clear_class": found.clear_class }))
        })?;
    }
    summary("picture", &results, wanted, classes)
}
