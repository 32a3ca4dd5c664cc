//! The server's side on files: a run, with checkpoints, and on the owner's machine its check.

use crate::client::Client;
use crate::error::{Result, named};
use crate::files::{self, Access, folder_of, with_suffix};
use crate::progress::{Listener, Say, duration};
use crate::session::{fetched, prepare};
use crate::{answer_of, require_memory};
use ckks::Ciphertext;
use runtime::checkpoint::{Checkpointer, checkpoint_bytes, input_digest, read_checkpoint};
use runtime::machine::{cpu_seconds, peak_bytes, require_disk};
use runtime::report::{Answer, Measured};
use runtime::wire::container::expect_together;
use runtime::{
    Excess, LockStep, Observer, Placement, Prediction, Report, Reporter, Server, Stopwatch,
    VerifiedPlan,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a run.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// The file of the plan.
    pub plan: PathBuf,
    /// The client's evaluation keys.
    pub keys: PathBuf,
    /// The encrypted input.
    pub input: PathBuf,
    /// Where the encrypted answer goes.
    pub output: PathBuf,
    /// Where checkpoints go; beside the output if none.
    pub checkpoint: Option<PathBuf>,
    /// It goes on from the checkpoint of a run that was stopped.
    pub resume: bool,
    /// Keys are left on disk, but for as many as the limit allows; otherwise only where they do not all fit.
    pub keys_on_disk: bool,
    /// The most memory that it may take.
    pub max_memory: Option<u64>,
    /// The client's own key, on its owner's machine only: stops the run at the first layer whose error exceeds its bound.
    pub check: Option<PathBuf>,
}

impl Serving {
    /// Which keys the run leaves on disk: none where the plan keeps the limit without that.
    pub fn placement(&self, plan: &VerifiedPlan) -> Option<Placement> {
        let facts = plan.facts();
        let limited = self.max_memory.is_some_and(|m| m < facts.peak_bytes);
        (self.keys_on_disk || limited).then(|| facts.keys_on_disk(self.max_memory.unwrap_or(0)))
    }
}

/// Carries out a plan on an encrypted input, with keys on disk where there is a placement; writes the encrypted answer.
///
/// # Errors
/// Files that do not belong to the plan, a lack of memory or room on disk, and [`runtime::Error::Check`].
pub fn serve(
    plan: &Arc<VerifiedPlan>,
    prediction: &Prediction,
    placement: Option<&Placement>,
    a: &Serving,
    tell: Listener<'_>,
) -> Result<Report> {
    require_memory(plan, prediction.peak_bytes, a.max_memory)?;
    let mut together = vec![a.plan.as_path(), &a.keys, &a.input];
    together.extend(a.check.as_deref());
    expect_together(&together)?;
    let beside = with_suffix(&a.output, ".checkpoint");
    let checkpoint = a.checkpoint.clone().unwrap_or(beside);
    // a new checkpoint is complete before the old one goes
    require_disk(folder_of(&checkpoint), 2 * checkpoint_bytes(plan))?;
    let input = a.input.display().to_string();
    let digest = input_digest(files::open(&a.input)?, &input)?;
    let server = open(plan, placement, &a.keys, tell)?;
    let mut state = server.read_input(files::open(&a.input)?, &input)?;
    if a.resume {
        state = server.resume(read_checkpoint(&checkpoint, plan, &digest, server.key())?)?;
        let all = plan.plan().steps.len();
        tell.note(format_args!("going on at step {} of {all}", state.next + 1));
    }
    let client = a
        .check
        .as_deref()
        .map(|key| Client::open(key, None))
        .transpose()?;
    let mut check = client
        .as_ref()
        .map(|c| LockStep::new(plan, server.engine(), c.keys(), &state, Excess::Stop))
        .transpose()?;
    let mut watch = Stopwatch::default();
    let mut told = |p: runtime::Progress<'_>| tell.step(&p);
    let mut reporter = Reporter::new(prediction.step_seconds(), &mut told);
    let mut saver = Checkpointer::new(plan, server.engine(), checkpoint.clone(), digest);
    let cpu = cpu_seconds();
    let answer = {
        let mut observers: Vec<&mut dyn Observer<Ciphertext>> =
            vec![&mut reporter, &mut watch, &mut saver];
        if let Some(c) = check.as_mut() {
            observers.push(c);
        }
        server.run(state, &mut observers[..])?
    };
    files::write(&a.output, Access::Everyone, |out, name| {
        Ok(server.write_answer(&answer, out, name).map(drop)?)
    })?;
    if checkpoint.exists() {
        std::fs::remove_file(&checkpoint).map_err(named(&checkpoint))?;
    }
    let sum = |of: fn(&(f64, f64)) -> f64| -> f64 { watch.steps.values().map(of).sum() };
    let mut measured = Measured {
        seconds: Some(sum(|s| s.0)),
        cpu_seconds: Some(sum(|s| s.1)),
        peak_bytes: Some(peak_bytes()),
        input_bytes: Some(std::fs::metadata(&a.input)?.len()),
        answer_bytes: Some(std::fs::metadata(&a.output)?.len()),
        ..Measured::default()
    };
    tell.note(format_args!(
        "evaluated in {} ({:.1} CPU seconds; the process used {:.1} since it started to evaluate)",
        duration(sum(|s| s.0)),
        sum(|s| s.1),
        cpu_seconds() - cpu
    ));
    measured.steps = watch.steps;
    let mut found = Answer::default();
    if let (Some(client), Some(check)) = (&client, check) {
        let (precision, truth) = check.finish()?;
        measured.precision = precision;
        let logits = client.keys().decrypt(&answer)?;
        let labels = client
            .task()
            .outputs()
            .map_or(&[][..], task::Outputs::names);
        found = answer_of(logits, &truth, labels);
        tell.note("every layer stayed within its predicted bound");
    }
    Ok(Report::new(plan, prediction, &measured, found))
}

/// A server with its keys, in memory or partly on disk.
fn open(
    plan: &Arc<VerifiedPlan>,
    placement: Option<&Placement>,
    keys: &Path,
    tell: Listener<'_>,
) -> Result<Server> {
    let preparation = prepare(plan, placement);
    let name = keys.display().to_string();
    let mut told = |done, all| tell.count("reading key", done, all);
    let server = match placement {
        Some(p) => {
            let file = std::fs::File::open(keys).map_err(named(keys))?;
            Server::open(plan.clone(), file, &name, &p.kept, &mut told)?
        }
        None => Server::read(plan.clone(), files::open(keys)?, &name, &mut told)?,
    };
    fetched(&preparation.finish(), tell);
    Ok(server)
}
