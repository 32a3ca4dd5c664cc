//! Inputs through client, server and client, beside the network in the clear: one line of JSON each, in a file; goes on where it was stopped.

mod each;
mod prompts;
mod questions;
mod stated;
mod subject;

pub use stated::Stated;

use crate::client::refusal;
use crate::error::{Result, named};
use crate::inputs::{Inputs, Source};
use crate::largest_error;
use crate::network::task_bytes;
use crate::progress::{Listener, Say, duration};
use crate::questions::Questions;
use crate::session::{Precision, Session};
use each::Each;
use nn::PolyGraph;
use questions::Asked;
use runtime::report::Measured;
use runtime::{ClearTwin, Prediction, Report, Stopwatch, VerifiedPlan};
use serde_json::{Value, json};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use subject::{Row, Subject, row};
use task::Task;

/// What a network is evaluated on.
#[derive(Clone, Debug)]
pub enum Set {
    /// Inputs of its task: labelled pictures, rows or sentences, or prompts.
    Inputs(Source),
    /// LAMBADA: passages whose last word is to be found.
    Lambada(PathBuf),
    /// PIQA: questions with two answers, and which is right.
    Piqa(PathBuf, PathBuf),
}

/// An evaluation and its file of results.
pub struct Evaluation<'a> {
    graph: &'a PolyGraph,
    task: &'a Task,
    subject: Box<dyn Subject + 'a>,
    results: Results,
    wanted: Range<usize>,
}

impl<'a> Evaluation<'a> {
    /// `count` inputs of a set from number `first` on; lines go to the end of `results`. What does not fit is refused before anything is
    /// computed.
    ///
    /// # Errors
    /// Files that can't be read, sets that do not fit the network.
    pub fn open(
        graph: &'a PolyGraph,
        task: &'a Task,
        set: &'a Set,
        (first, count): (usize, usize),
        results: &Path,
    ) -> Result<Self> {
        let prompts = || match task {
            Task::Prompts(format) => Ok(format),
            other => Err(format!("this network takes {}, no prompts", other.kind())),
        };
        let subject: Box<dyn Subject> = match set {
            Set::Inputs(source) => {
                let inputs = Inputs::open(task, source)?;
                Box::new(Each { task, inputs })
            }
            Set::Lambada(path) => Box::new(Asked {
                format: prompts()?,
                questions: Questions::lambada(path)?,
            }),
            Set::Piqa(path, labels) => Box::new(Asked {
                format: prompts()?,
                questions: Questions::piqa(path, labels)?,
            }),
        };
        let each = subject.together();
        let last = (first + count).min(subject.len() / each);
        Ok(Self {
            graph,
            task,
            subject,
            results: Results(results.into()),
            wanted: first * each..last.max(first) * each,
        })
    }

    /// Inputs that have no line yet; those that can't be taken are told.
    ///
    /// # Errors
    /// Results that can't be read, inputs that are refused.
    pub fn missing(&self, tell: Listener<'_>) -> Result<Vec<usize>> {
        let mut open = Vec::new();
        for index in self.wanted.clone() {
            match self.subject.refuses(index)? {
                Some(why) => tell.note(why),
                None => open.push(index),
            }
        }
        let lines = self.results.lines()?;
        open.retain(|i| !lines.iter().any(|d| d["index"] == *i));
        Ok(open)
    }

    /// States an error where the plan's own bound says nothing, makes keys, and runs what is missing.
    ///
    /// # Errors
    /// Another network's plan, a lack of memory.
    pub fn run(
        &self,
        plan: &Arc<VerifiedPlan>,
        prediction: Prediction,
        missing: &[usize],
        tell: Listener<'_>,
    ) -> Result<Report> {
        let start = Instant::now();
        let mut head = row(json!({ "prediction": prediction }));
        let examples = self.task.examples()?;
        let mut error = None;
        if !examples.is_empty() {
            let stated = stated::stated(plan, self.graph, &examples)?;
            let took = duration(start.elapsed().as_secs_f64());
            tell.note(format_args!("{stated} ({took})"));
            head.insert("stated".into(), json!(stated));
            error = Some(stated.error);
        }
        self.results.append(head)?;
        let session = Session::new(plan.clone(), self.graph, prediction, tell)?;
        let measured = self.each(&session, missing, error, tell)?;
        let found = runtime::report::Answer::default();
        Ok(Report::new(plan, session.prediction(), &measured, found))
    }

    /// Runs inputs, as many at a time as the plan takes, and appends a line for each. One that leaves a range in the clear gets a line that
    /// says so, and no run; one whose answer can't be right, and all that share its ciphertexts, get one that says that. Gives what a run took on average.
    fn each(
        &self,
        session: &Session,
        missing: &[usize],
        stated: Option<f64>,
        tell: Listener<'_>,
    ) -> Result<Measured> {
        let ports = session.plan().plan();
        let (batch, output) = (ports.input.batch, ports.output.places.len());
        let (mut sum, mut runs, mut done) = (Stopwatch::default(), 0u32, 0);
        for group in missing.chunks(batch) {
            let mut taken = Vec::new();
            for &index in group {
                let (x, named) = self.subject.input(index)?;
                let clear = self.graph.evaluate(&x)?;
                match clear.outside.first() {
                    Some(outside) => self.leave_out(index, named, &outside.to_string(), tell)?,
                    None => taken.push((index, x.into_values(), named, clear.output.into_values())),
                }
            }
            // all at once; one by one only where one of them leaves a range of the plan's
            let all = |taken: &[(usize, Vec<f64>, Row, Vec<f64>)]| -> Vec<f64> {
                taken.iter().flat_map(|t| t.1.iter().copied()).collect()
            };
            if !taken.is_empty() && leaves(session, &all(&taken))?.is_some() {
                let mut within = Vec::new();
                for one in taken {
                    match leaves(session, &one.1)? {
                        Some(outside) => self.leave_out(one.0, one.2, &outside, tell)?,
                        None => within.push(one),
                    }
                }
                taken = within;
            }
            done += group.len();
            if taken.is_empty() {
                continue;
            }
            let outcome = match session.run(&all(&taken), Precision::Unmeasured, tell) {
                Err(e) => {
                    // nobody can tell which of them it is
                    let refused = row(refusal(&e).ok_or(e)?);
                    for (index, _, named, _) in taken {
                        self.refuse(index, named, &refused, tell)?;
                    }
                    continue;
                }
                outcome => outcome?,
            };
            let (measured, together) = (outcome.measured, taken.len());
            let answers = outcome.values.chunks(output);
            for ((index, _, named, clear), answer) in taken.into_iter().zip(answers) {
                let mut line = row(json!({ "index": index }));
                line.extend(named);
                line.extend(row(json!({
                    "max_abs_error": largest_error(answer, &clear), "seconds": measured.seconds, "cpu_seconds": measured.cpu_seconds,
                    "peak_bytes": measured.peak_bytes,
                })));
                line.extend(self.subject.compare(index, answer, &clear, stated));
                if let Some(stated) = stated {
                    line.insert("stated_error".into(), stated.into());
                }
                if batch > 1 {
                    line.insert("inputs_in_the_run".into(), together.into());
                }
                let line = self.results.append(line)?;
                tell.note(format_args!("{done}/{}: {line}", missing.len()));
            }
            runs += 1;
            for (step, (wall, cpu)) in measured.steps {
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

    fn leave_out(&self, index: usize, named: Row, outside: &str, tell: Listener<'_>) -> Result<()> {
        let mut line = row(json!({ "index": index, "outside": outside }));
        line.extend(named);
        self.results.append(line)?;
        let noun = self.subject.noun();
        tell.note(format_args!(
            "{noun} {index} leaves the calibrated ranges in the clear ({outside}) and is left out; calibrate on {noun}s that cover it"
        ));
        Ok(())
    }

    fn refuse(&self, index: usize, named: Row, why: &Row, tell: Listener<'_>) -> Result<()> {
        let mut line = row(json!({ "index": index }));
        line.extend(named);
        for key in ["refused", "measured", "allowed"] {
            line.insert(key.into(), why[key].clone());
        }
        let line = self.results.append(line)?;
        let noun = self.subject.noun();
        tell.note(format_args!(
            "{noun} {index}: its answer cannot be right and is refused: {line}"
        ));
        Ok(())
    }

    /// What the lines of all inputs that were asked for say together.
    ///
    /// # Errors
    /// Results that can't be read.
    pub fn summary(&self) -> Result<Value> {
        let lines = self.results.lines()?.into_iter();
        let (left_out, all): (Vec<_>, Vec<_>) = lines
            .filter(|d| self.wanted.clone().any(|i| d["index"] == i))
            .partition(|d| d["outside"].is_string());
        let (refused, all): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|d| d["refused"].is_string());
        let numbers = |key: &str| {
            let mut numbers: Vec<f64> = all.iter().filter_map(|d| d[key].as_f64()).collect();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        let largest = |key: &str| numbers(key).last().copied();
        let median = |key: &str| numbers(key).get(all.len() / 2).copied();
        let noun = self.subject.noun();
        let mut line = row(json!({
            format!("{noun}s"): all.len(), "left_out": left_out.len(), "refused": refused.len(), "max_abs_error": largest("max_abs_error"),
            "median_seconds": median("seconds"), "median_cpu_seconds": median("cpu_seconds"), "peak_bytes": largest("peak_bytes"),
        }));
        if let Some(stated) = largest("stated_error") {
            line.insert("stated_error".into(), stated.into());
        }
        line.extend(self.subject.summary(&all));
        Ok(line.into())
    }
}

/// Refuses a plan that is not this network's.
///
/// # Errors
/// As said.
pub fn require_plan_of(plan: &VerifiedPlan, graph: &PolyGraph) -> Result<()> {
    let (own, metadata) = (&plan.plan().description, graph.metadata());
    let shapes = [&plan.plan().input.shape, &plan.plan().output.shape];
    let same = [graph.input_shape(), graph.output().shape()]
        .iter()
        .zip(shapes)
        .all(|(a, b)| a.dims() == *b);
    if own.name != metadata.name
        || own.task != runtime::wire::task_digest(&task_bytes(graph))
        || !same
    {
        return Err(format!(
            "this is a plan of {}, not of {}; compile the network again",
            own.name, metadata.name
        )
        .into());
    }
    Ok(())
}

/// The plan's own range that these inputs leave: operands of bootstraps.
fn leaves(session: &Session, values: &[f64]) -> Result<Option<String>> {
    match ClearTwin::new(session.plan(), session.client().spec(), values)?.finish() {
        Err(e @ runtime::Error::Range { .. }) => Ok(Some(e.to_string())),
        other => Ok(other.map(|_| None)?),
    }
}

/// The file of results: one line of JSON each.
struct Results(PathBuf);

impl Results {
    /// What is there; a line that a kill cut short does not parse and is done again.
    fn lines(&self) -> Result<Vec<Value>> {
        let text = match self.0.exists() {
            true => std::fs::read_to_string(&self.0).map_err(named(&self.0))?,
            false => String::new(),
        };
        Ok(text
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect())
    }
    fn append(&self, line: Row) -> Result<Value> {
        let line = Value::from(line);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0)
            .map_err(named(&self.0))?;
        writeln!(file, "{line}").map_err(named(&self.0))?;
        Ok(line)
    }
}
