//! Inputs through client, server and client, beside the network in the clear: one line of JSON each, at hand or in a file, where it goes on after
//! it was stopped.

mod each;
mod prompts;
mod questions;
mod subject;

use crate::client::refusal;
use crate::error::{Result, named};
use crate::inputs::{Inputs, LOST, Source};
use crate::largest_error;
use crate::network::require_plan_of;
use crate::progress::{Listener, Say, duration};
use crate::questions::Questions;
use crate::session::{Precision, Session};
use crate::stated::{self, Samples};
use data::Answers;
use each::Each;
use nn::PolyGraph;
use questions::Asked;
use runtime::checkpoint::input_digest;
use runtime::report::Measured;
use runtime::{ClearTwin, Prediction, Report, Stopwatch, VerifiedPlan};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::iter;
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

impl Set {
    /// All files that are read.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Inputs(source) => source.files(),
            Self::Lambada(path) => vec![path],
            Self::Piqa(path, labels) => vec![path, labels],
        }
    }
}

/// An evaluation and its results.
pub struct Evaluation<'a> {
    graph: &'a PolyGraph,
    subject: Box<dyn Subject + 'a>,
    results: Results,
    wanted: Range<usize>,
}

impl<'a> Evaluation<'a> {
    /// `count` inputs of a set from number `first` on, whose results are kept at hand ([`Evaluation::results`]). What does not fit is refused before
    /// anything is computed.
    ///
    /// # Errors
    /// Files that can't be read, sets that do not fit the network.
    pub fn new(
        graph: &'a PolyGraph,
        task: &'a Task,
        set: &'a Set,
        (first, count): (usize, usize),
    ) -> Result<Self> {
        let prompts = || match task {
            Task::Prompts(format) => Ok(format),
            other => Err(format!("this network takes {}, no prompts", other.kind())),
        };
        let subject: Box<dyn Subject> = match set {
            Set::Inputs(source) => {
                let outputs = graph.output().shape().len();
                let inputs = Inputs::labelled(task, source, Some(outputs))?;
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
        let all = subject.len() / each;
        if first >= all {
            let noun = subject.noun();
            return Err(format!(
                "the set has {all} {noun}s: none is left where {first} are skipped"
            )
            .into());
        }
        if count == 0 {
            return Err("nothing is asked for: a count of 0".into());
        }
        let last = first.saturating_add(count).min(all);
        Ok(Self {
            graph,
            subject,
            results: Results::at_hand(),
            wanted: first * each..last * each,
        })
    }

    /// As [`Evaluation::new`], with results at the end of a file: inputs that it has are not run again.
    ///
    /// # Errors
    /// As [`Evaluation::new`], and results of something else.
    pub fn open(
        graph: &'a PolyGraph,
        task: &'a Task,
        set: &'a Set,
        range: (usize, usize),
        results: &Path,
    ) -> Result<Self> {
        let mut opened = Self::new(graph, task, set, range)?;
        let identity = identity(graph, (set, opened.subject.content()?), results)?;
        opened.results = Results::open(results, identity)?;
        Ok(opened)
    }

    /// The lines so far: one for each input, after one that says what they are of.
    pub fn results(&self) -> Vec<Value> {
        self.results.lines.borrow().clone()
    }

    /// Inputs that have no line yet; those that can't be taken are told.
    ///
    /// # Errors
    /// Results that can't be read, inputs that are refused.
    pub fn missing(&self, tell: Listener<'_>) -> Result<Vec<usize>> {
        self.subject.warn(tell);
        let mut open = Vec::new();
        for index in self.wanted.clone() {
            match self.subject.refuses(index)? {
                Some(why) => tell.note(why),
                None => open.push(index),
            }
        }
        let lines = self.results.lines.borrow();
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
        require_plan_of(plan, self.graph)?;
        let digest = hex(plan.digest());
        self.results.require_plan(&digest)?;
        let mut head = self.results.identity.clone();
        head.extend(row(json!({ "plan": digest, "prediction": prediction })));
        let mut error = None;
        // by the plan, or where it says nothing of it and the network brings examples along, now
        let mut simulated = plan.answer_bounds().simulated;
        if let (inputs @ Samples::Examples(_), None) = (Samples::of(self.graph)?, simulated) {
            let diverge = "simulated runs diverge: noise is larger than what the smallest divisors leave room for; train their intervals narrower, or let Power-Softmax add a larger ε";
            let runs = plan.runs_to_simulate();
            simulated = Some(stated::simulated(plan, self.graph, &inputs, runs)?.ok_or(diverge)?);
        }
        if let Some(simulated) = simulated {
            let stated = simulated.error + simulated.network.unwrap_or_default();
            let took = duration(start.elapsed().as_secs_f64());
            tell.note(format_args!(
                "stated error of each value: {stated:.2e}, {simulated} ({took})"
            ));
            head.insert("stated".into(), json!(simulated));
            error = Some(stated);
        }
        self.results.begin(head);
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
        let (batch, output) = (ports.input.batch, ports.output.elements());
        let (mut sum, mut runs, mut done) = (Stopwatch::default(), 0u32, 0);
        for group in missing.chunks(batch) {
            let mut taken = Vec::new();
            for &index in group {
                let (x, named) = self.subject.input(index)?;
                for (key, why) in ["transparent", "greyed"].into_iter().zip(LOST) {
                    if named.contains_key(key) {
                        let noun = self.subject.noun();
                        tell.note(format_args!("warning: {noun} {index} is {why}"));
                    }
                }
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
                if let Some(doubt) = outcome.doubt {
                    line.insert("doubt".into(), json!(doubt));
                }
                if batch > 1 {
                    line.insert("inputs_in_the_run".into(), together.into());
                }
                let line = self.results.append(line)?;
                let (all, noun) = (missing.len(), self.subject.noun());
                tell.note(format_args!("{done}/{all}: {noun} {}", in_short(&line)));
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
            "{noun} {index}: its answer cannot be right and is refused: it fails the test {}",
            line["refused"]
        ));
        Ok(())
    }

    /// What the lines of all inputs that were asked for say together.
    ///
    /// # Errors
    /// Results that can't be read.
    pub fn summary(&self) -> Result<Value> {
        let mut seen = BTreeSet::new();
        let lines = self.results.lines.borrow().clone().into_iter();
        let lines = lines.filter(|d| d["index"].as_u64().is_some_and(|i| seen.insert(i)));
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

/// A line of results for people: the answer beside the polynomial network's in the clear, how far it is off, and what the run took.
fn in_short(line: &Value) -> String {
    let mut said = line["index"].to_string();
    for (own, clear) in [("class", "clear_class"), ("next", "clear_next")] {
        let name = ["label", own].into_iter().find(|k| !line[k].is_null());
        let name = name.filter(|_| !line[own].is_null()).map(|k| &line[k]);
        match (name, line[own] == line[clear]) {
            (Some(name), true) => said += &format!(": {name}, as in the clear"),
            (Some(name), false) => said += &format!(": {name}, IN THE CLEAR {}", line[clear]),
            (None, _) => {}
        }
    }
    if line["labels"].is_array() {
        said += match line["labels"] == line["clear_labels"] {
            true => ": labels as in the clear",
            false => ": OTHER LABELS THAN IN THE CLEAR",
        };
    }
    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    let (off, seconds) = (number("max_abs_error"), number("seconds"));
    format!("{said}; off by {off:.1e} at most, in {}", duration(seconds))
}

/// A summary's fields in the order in which people are told them, behind the number of inputs.
const ORDER: &str = "left_out refused questions positions right same_class_as_clear all_labels_right \
    same_labels_as_clear same_token_as_clear too_close different lambada_right \
    lambada_right_clear last_word_perplexity last_word_perplexity_clear piqa_right piqa_right_clear piqa_right_by_length \
    piqa_right_by_length_clear cut perplexity clear_perplexity mean_target_error clear_mean_target_error max_abs_error \
    largest_mean_square_error stated_error median_seconds median_cpu_seconds peak_bytes";

/// [`Evaluation::summary`] for people: a line for each field that is known.
pub fn in_words(summary: &Value) -> String {
    let fields = summary.as_object().into_iter().flatten();
    let mut lines: Vec<_> = fields
        .filter_map(|(key, value)| {
            let number = value.as_f64()?;
            let shown = match key {
                _ if value.is_u64() => value.to_string(),
                _ if key.ends_with("bytes") => runtime::size(number as u64),
                _ if key.ends_with("seconds") => duration(number),
                _ => format!("{number:.3e}"),
            };
            let place = ORDER.split_whitespace().position(|k| k == key);
            Some((place, format!("{shown:>10}  {}\n", key.replace('_', " "))))
        })
        .collect();
    lines.sort_by_key(|(place, _)| *place);
    let mut lines: String = lines.into_iter().map(|(_, line)| line).collect();
    for label in summary["each_label"].as_array().into_iter().flatten() {
        let name = label["label"].as_str().unwrap_or_default();
        let number = |key: &str| label[key].as_u64();
        let same = number("same_as_clear").unwrap_or_default();
        lines += &match number("right").zip(number("holds")) {
            None => format!("{same:>10}  label {name} as in the clear\n"),
            Some((right, holds)) => format!(
                "{right:>10}  label {name} right, {same} as in the clear (it holds for {holds})\n"
            ),
        };
    }
    lines + "(clear: the same polynomial network in the clear)\n"
}

/// The plan's own range that these inputs leave: its input's, and operands of bootstraps.
fn leaves(session: &Session, values: &[f64]) -> Result<Option<String>> {
    let spec = session.client().spec();
    let most = spec.description.input_bound;
    match ClearTwin::new(session.plan(), spec, values).and_then(ClearTwin::finish) {
        Err(runtime::Error::Input { reason, .. }) if values.iter().any(|v| v.abs() > most) => {
            Ok(Some(reason))
        }
        Err(e @ runtime::Error::Range { .. }) => Ok(Some(e.to_string())),
        other => Ok(other.map(|_| None)?),
    }
}

/// What results are of: digests of the model and of the data, and how these are read.
fn identity(
    graph: &PolyGraph,
    (set, given): (&Set, Option<Vec<u8>>),
    results: &Path,
) -> Result<Row> {
    let (paths, read): (Vec<&Path>, _) = match set {
        Set::Inputs(s) => (
            // answers may lie in arrays of their own
            iter::once(&*s.path).chain(beside(&s.answers)).collect(),
            {
                let read = format!("{:?} {:?} {:?} {:?}", s.split, s.answers, s.without, s.cut);
                // results from before there was such an option go on
                match s.heading.is_told() {
                    true => read,
                    false => format!("{read} {:?}", s.heading),
                }
            },
        ),
        Set::Lambada(path) => (vec![path], "LAMBADA".into()),
        Set::Piqa(path, labels) => (vec![path, labels], "PIQA".into()),
    };
    let data = match given {
        Some(given) => vec![hex(&input_digest(&given[..], "inputs at hand")?)],
        None => {
            (paths.into_iter().map(|path| data_digest(path, results))).collect::<Result<_>>()?
        }
    };
    let model = hex(&nn::format::artefact::digest(graph)?);
    Ok(row(
        json!({ "model": model, "data": data.join(" "), "read_as": read }),
    ))
}

/// Files that answers lie in: tables and arrays by their paths, no columns.
fn beside(answers: &Answers) -> impl Iterator<Item = &Path> {
    let names: &[String] = match answers {
        Answers::Classes(name) => name.as_slice(),
        Answers::Numbers(names) => names,
        Answers::None => &[],
    };
    let paths = names.iter().map(Path::new);
    paths.filter(|p| p.is_file() && data::is_table(p))
}

/// Digest of a file's content, or of the names and contents of all files in a folder but the results.
fn data_digest(path: &Path, results: &Path) -> Result<String> {
    let of_file = |file: &Path| {
        let name = file.display().to_string();
        Ok::<_, crate::Error>(hex(&input_digest(crate::files::open(file)?, &name)?))
    };
    if !path.is_dir() {
        return of_file(path);
    }
    let results = results.canonicalize().ok();
    let (mut folders, mut files) = (vec![path.to_path_buf()], Vec::new());
    // a link may lead back to where it lies
    let mut seen = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        if !seen.insert(folder.canonicalize().map_err(named(&folder))?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(named(&folder))? {
            match entry.map_err(named(&folder))?.path() {
                within if within.is_dir() => folders.push(within),
                file if file.is_file() && file.canonicalize().ok() != results => {
                    let name = file.strip_prefix(path).unwrap_or(&file);
                    files.push(format!("{name:?} {}\n", of_file(&file)?));
                }
                _ => {}
            }
        }
    }
    files.sort();
    Ok(hex(&input_digest(files.concat().as_bytes(), "folder")?))
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Results: one line of JSON each; in a file, written at once by one process alone.
struct Results {
    path: PathBuf,
    file: Option<File>,
    /// Whether it is a file on disk.
    regular: bool,
    lines: RefCell<Vec<Value>>,
    /// What they are of.
    identity: Row,
    /// What is to be said of the next lines: written with the first of them, so that a run that gives none leaves nothing.
    head: RefCell<Option<Row>>,
    /// Whether the file was not there before.
    made: bool,
}

/// A refused evaluation leaves no empty file.
impl Drop for Results {
    fn drop(&mut self) {
        if self.made && self.lines.borrow().is_empty() {
            // a left-over costs nothing; the refusal is what counts
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Results {
    fn at_hand() -> Self {
        Self {
            path: "results".into(),
            file: None,
            regular: false,
            lines: RefCell::default(),
            identity: Row::new(),
            head: RefCell::default(),
            made: false,
        }
    }
    /// Opens the file and reads what is there; a line that a kill cut short does not parse and is done again.
    fn open(path: &Path, identity: Row) -> Result<Self> {
        let made = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(named(path))?;
        let regular = file.metadata().map_err(named(path))?.is_file();
        if regular && file.try_lock().is_err() {
            return Err(named(path)(
                "another evaluation writes to it; wait for it, or choose another file",
            ));
        }
        let mut text = String::new();
        if regular {
            let mut there = File::open(path).map_err(named(path))?;
            there.read_to_string(&mut text).map_err(named(path))?;
        }
        // killed while it said what it is of: nothing is lost with that, where it is what we say
        let whole = text.contains('\n') || serde_json::from_str::<Value>(&text).is_ok();
        let own = |(key, value): (&String, &Value)| {
            let begin = format!("{{\"{key}\":{value}");
            text.starts_with(&begin) || (begin.starts_with(&text) && text.contains(':'))
        };
        if !whole && identity.iter().any(own) {
            file.set_len(0).map_err(named(path))?;
            text.clear();
        }
        let mut lines: Vec<Value> = text
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        // heads alone are results of nothing
        let head = |l: &Value| l["model"].is_string() && l["read_as"].is_string();
        if !lines.is_empty() && lines.len() == text.lines().count() && lines.iter().all(head) {
            file.set_len(0).map_err(named(path))?;
            text.clear();
            lines.clear();
        }
        let other = |of: &Value| {
            identity
                .iter()
                .find(|(k, v)| of[*k] != **v)
                .map(|(k, _)| k.clone())
        };
        let mut heads = lines.iter().filter(|l| l["model"].is_string()).peekable();
        let refused = match (heads.peek().is_some(), heads.find_map(other)) {
            (_, Some(field)) => match &field[..] {
                "read_as" => "its inputs were read otherwise: with other columns, another part of the set, or cut".into(),
                "data" => "its results are of other data".into(),
                field => format!("its results are of another {field}"),
            },
            (false, _) if !text.trim().is_empty() => {
                "it does not say what its lines are results of".into()
            }
            _ => String::new(),
        };
        if !refused.is_empty() {
            return Err(named(path)(format!("{refused}; choose another file")));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            (&file).write_all(b"\n").map_err(named(path))?;
        }
        Ok(Self {
            path: path.into(),
            file: Some(file),
            regular,
            lines: RefCell::new(lines),
            identity,
            head: RefCell::new(None),
            made,
        })
    }
    /// Refuses another plan than that of the lines that are there.
    fn require_plan(&self, digest: &str) -> Result<()> {
        let lines = self.lines.borrow();
        match lines
            .iter()
            .any(|l| l["plan"].as_str().is_some_and(|p| p != digest))
        {
            true => Err(named(&self.path)(
                "its results are of another plan; choose another file, or take that plan",
            )),
            false => Ok(()),
        }
    }
    /// Says what the lines from here on are of.
    fn begin(&self, head: Row) {
        *self.head.borrow_mut() = Some(head);
    }
    fn append(&self, line: Row) -> Result<Value> {
        let line = Value::from(line);
        let head = self.head.borrow_mut().take().map(Value::from);
        let both: Vec<Value> = head.into_iter().chain([line.clone()]).collect();
        let text: String = both.iter().map(|l| format!("{l}\n")).collect();
        if let Some(mut file) = self.file.as_ref() {
            file.write_all(text.as_bytes()).map_err(named(&self.path))?;
            // a line is minutes of work: it must outlive the machine
            if self.regular {
                file.sync_data().map_err(named(&self.path))?;
                if self.made && self.lines.borrow().is_empty() {
                    let folder = disk::folder_of(&self.path);
                    disk::sync_folder(folder).map_err(named(folder))?;
                }
            }
        }
        self.lines.borrow_mut().extend(both);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_names_and_contents_but_for_the_results() {
        let folder = format!("polyveil-data-digest-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let (within, results) = (folder.join("cats"), folder.join("results.jsonl"));
        std::fs::create_dir_all(&within).expect("a folder");
        let put = |path: &Path, text: &str| {
            std::fs::write(path, text).expect("writes");
            data_digest(&folder, &results).expect("reads")
        };
        let first = put(&within.join("a.png"), "one");
        assert_ne!(put(&within.join("a.png"), "two"), first);
        assert_eq!(put(&within.join("a.png"), "one"), first);
        assert_eq!(put(&results, "a line"), first);
        std::os::unix::fs::symlink(&folder, within.join("back")).expect("links");
        assert_eq!(data_digest(&folder, &results).expect("ends"), first);
        assert_ne!(put(&folder.join("b.png"), ""), first);
        std::fs::remove_dir_all(&folder).expect("removes");
    }

    #[test]
    fn results_begin_with_the_first_line() {
        let name = format!("polyveil-results-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let identity = |read: &str| row(json!({ "model": "m", "data": "d", "read_as": read }));
        let open = |read: &str| Results::open(&path, identity(read));
        let results = open("a").expect("opens");
        results.begin(identity("a"));
        drop(results);
        assert!(!path.exists());
        // heads alone, as a kill leaves them
        let head = Value::from(identity("a"));
        std::fs::write(&path, format!("{head}\n")).expect("writes");
        let results = open("b").expect("nothing is lost");
        results.begin(identity("b"));
        for index in 0..2 {
            results
                .append(row(json!({ "index": index })))
                .expect("writes");
        }
        drop(results);
        let text = std::fs::read_to_string(&path).expect("reads");
        let lines = format!(
            "{}\n{{\"index\":0}}\n{{\"index\":1}}\n",
            Value::from(identity("b"))
        );
        assert_eq!(text, lines);
        // a head that a kill cut short is ours, what only looks like one is not
        let whole = Value::from(identity("b")).to_string();
        for left in [9, whole.len() - 3] {
            std::fs::write(&path, &whole[..left]).expect("writes");
            drop(open("b").expect("nothing is lost"));
            assert_eq!(std::fs::read_to_string(&path).expect("there"), "");
        }
        for foreign in ["{\"x", "{\"data", "{\"data\": [1, 2"] {
            std::fs::write(&path, foreign).expect("writes");
            let refused = open("b").err().expect("not ours").to_string();
            assert!(refused.contains("does not say what"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), foreign);
        }
        std::fs::write(&path, &text).expect("writes");
        let refused = open("a").err().expect("other inputs").to_string();
        assert!(
            refused.contains("read otherwise: with other columns"),
            "{refused}"
        );
        assert!(open("b").is_ok());
        std::fs::remove_file(&path).expect("removes");
    }
}
