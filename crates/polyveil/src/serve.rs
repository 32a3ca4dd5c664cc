//! The server's side on files: a run, with checkpoints, and on the owner's machine its check.

use crate::client::Client;
use crate::error::{Error, Help, Result, named};
use crate::files::{self, Content, Existing, Output, folder_of, with_suffix};
use crate::network::{CLIENT_FILE, WEIGHTS};
use crate::progress::{Listener, Say, duration};
use crate::session::{fetched, prepare};
use crate::{answer_of, at_its_peak, require_memory};
use ckks::Ciphertext;
use runtime::checkpoint::{
    Checkpointer, Hashing, checkpoint_bytes, expect_checkpoint, read_checkpoint,
};
use runtime::limits::Room;
use runtime::machine::{cpu_seconds, peak_bytes, require_disk, require_of};
use runtime::report::{Answer, Measured};
use runtime::wire::container::{Digest, Header, Kind, Whole, expect_together};
use runtime::{
    Excess, KeyId, Limit, LockStep, Observer, Placement, PlanFacts, Prediction, Report, Reporter,
    Server, Stopwatch, VerifiedPlan, limits,
};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of a run.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// The file of the plan, which nothing takes the place of.
    pub plan: PathBuf,
    /// The client's evaluation keys.
    pub keys: PathBuf,
    /// The encrypted input.
    pub input: PathBuf,
    /// Where the encrypted answer goes.
    pub output: PathBuf,
    /// What the output may take the place of.
    pub existing: Existing,
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
        let more = facts.more_on(rayon::current_num_threads());
        let limited = self.max_memory.is_some_and(|m| m < peak_here(facts));
        (self.keys_on_disk || limited).then(|| {
            let room = self.max_memory.unwrap_or(0).saturating_sub(more);
            let mut placement = facts.keys_on_disk(room);
            placement.peak_bytes += more;
            placement
        })
    }

    /// Where checkpoints go, if the output is a file or a place is named.
    pub fn kept(&self) -> PathBuf {
        let beside = || with_suffix(&self.output, ".checkpoint");
        self.checkpoint.clone().unwrap_or_else(beside)
    }

    /// Refuses what can't be written, and files that do not belong together, by their headers alone: before the plan is verified and anything is
    /// measured. What is no regular file can be opened but once, and is looked at then.
    ///
    /// # Errors
    /// As said, files of other kinds, and a checkpoint to go on from that is not there.
    pub fn expect(&self, tell: Listener<'_>) -> Result<()> {
        let out = &self.output;
        if out.is_file() || out.is_dir() || !out.exists() {
            self.outputs(tell)?;
        }
        let kept = self.kept();
        if self.resume && !kept.exists() {
            return Err(named(&kept)(Error::refused(NO_CHECKPOINT, Help::Anew)));
        }
        let all = [
            (Some(&self.plan), Kind::Plan),
            (Some(&self.keys), Kind::EvaluationKeys),
            (Some(&self.input), Kind::Input),
            (self.check.as_ref(), Kind::ClientKey),
            (self.resume.then_some(&kept), Kind::Checkpoint),
        ];
        let mut together = Vec::new();
        for (path, kind) in all {
            let Some(path) = path.filter(|path| path.is_file()) else {
                continue;
            };
            let name = path.display().to_string();
            let header = Header::read(&mut files::open(path)?, &name)?;
            header.expect(kind, &name)?;
            together.push((name, header));
        }
        let each = together.iter().map(|(name, header)| (&**name, *header));
        Ok(expect_together(&each.collect::<Vec<_>>())?)
    }

    /// Its answer's file, opened, and where checkpoints go: beside it, but nowhere where it is a pipe or a device and no place is named.
    fn outputs<'a>(&'a self, tell: Listener<'_>) -> Result<(Output, Option<PathBuf>)> {
        let weights = self.plan.with_extension(WEIGHTS);
        let client = self
            .check
            .as_ref()
            .map(|key| key.with_file_name(CLIENT_FILE));
        let mut inputs = vec![self.plan.as_path(), &weights, &self.keys, &self.input];
        inputs.extend(self.check.as_deref().into_iter().chain(client.as_deref()));
        let besides =
            |more: Option<&'a Path>| inputs.iter().copied().chain(more).collect::<Vec<_>>();
        let (answer, kept) = (Kind::Answer, Kind::Checkpoint);
        let others = besides(self.checkpoint.as_deref());
        let output = Output::create(
            &self.output,
            Content::Container(answer),
            &others,
            self.existing,
            tell,
        )?;
        let kept_at_all = self.checkpoint.is_some() || output.is_file();
        let checkpoint = kept_at_all.then(|| self.kept());
        if let Some(path) = &checkpoint {
            // Opened and left again: a run is long before it writes the first one. What is there is looked at when the input is known.
            let others = besides(Some(&self.output));
            let content = Content::Container(kept);
            Output::create(path, content, &others, Existing::Any, tell)?;
        }
        Ok((output, checkpoint))
    }
}

/// The predicted peak on as many threads as the caller's pool has, all keys in memory.
fn peak_here(facts: &PlanFacts) -> u64 {
    facts.peak_bytes + facts.more_on(rayon::current_num_threads())
}

const NO_CHECKPOINT: &str = "there is no checkpoint to go on from";

/// Refuses a checkpoint that this run would replace, or that it can't go on from.
fn expect_place(
    path: &Path,
    resume: bool,
    plan: &VerifiedPlan,
    input: &Digest,
    key: KeyId,
) -> Result<()> {
    if !path.exists() {
        return match resume {
            true => Err(named(path)(Error::refused(NO_CHECKPOINT, Help::Anew))),
            false => Ok(()),
        };
    }
    if !path.is_file() {
        return Ok(());
    }
    match expect_checkpoint(path, plan, input, key) {
        Ok(()) if resume => Ok(()),
        Ok(()) => Err(named(path)(Error::refused(
            "a checkpoint of this very run is there",
            Help::Resume,
        ))),
        Err(e) if resume => Err(e.into()),
        Err(e) => {
            let what = format!(
                "checkpoints would take its place, and it is none of this run ({e}); move it away, or keep checkpoints elsewhere"
            );
            Err(Error::from(what))
        }
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
    let (measured, found) = measure(plan, prediction, placement, a, &mut (), tell)?;
    Ok(Report::new(plan, prediction, &measured, found))
}

/// [`serve`], watched by one more observer, which comes behind the checkpoints'; gives what was measured, and the answer where it was checked.
pub(crate) fn measure(
    plan: &Arc<VerifiedPlan>,
    prediction: &Prediction,
    placement: Option<&Placement>,
    a: &Serving,
    more: &mut impl Observer<Ciphertext>,
    tell: Listener<'_>,
) -> Result<(Measured, Answer)> {
    require_memory(plan, prediction.peak_bytes, a.max_memory)?;
    let (output, checkpoint) = a.outputs(tell)?;
    let [keys, input, key] = [Some(&a.keys), Some(&a.input), a.check.as_ref()]
        .map(|path| path.map_or_else(String::new, |p| p.display().to_string()));
    // each is opened once: it may be a pipe
    let (keys_header, keys_file) =
        Header::ahead(File::open(&a.keys).map_err(named(&a.keys))?, &keys)?;
    let (input_header, input_file) = Header::ahead(files::open(&a.input)?, &input)?;
    let mut together = vec![
        ("the plan", plan.header()),
        (&keys, keys_header),
        (&input, input_header),
    ];
    if let Some(path) = &a.check {
        together.push((&key, Header::read(&mut files::open(path)?, &key)?));
    }
    expect_together(&together)?;
    let mut input_file = Hashing::new(input_file);
    let encrypted = plan.read_input(&mut input_file, &input, keys_header.ids.key)?;
    let digest = input_file.digest();
    if let Some(path) = &checkpoint {
        expect_place(path, a.resume, plan, &digest, keys_header.ids.key)?;
        // a new checkpoint is complete before the old one goes
        require_disk(folder_of(path), 2 * checkpoint_bytes(plan))?;
    }
    let server = open(plan, placement, keys_file, &keys, (tell, &limits::here))?;
    let mut state = server.start(&encrypted)?;
    drop(encrypted);
    if let (true, Some(path)) = (a.resume, &checkpoint) {
        state = server.resume(read_checkpoint(path, plan, &digest, server.key())?)?;
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
    let mut saver = (checkpoint.as_ref())
        .map(|path| Checkpointer::new(plan, server.engine(), path.clone(), digest).sparing());
    let cpu = cpu_seconds();
    let answer = {
        let mut observers: Vec<&mut dyn Observer<Ciphertext>> = vec![&mut reporter, &mut watch];
        if let Some(s) = saver.as_mut() {
            observers.push(s);
        }
        observers.push(more);
        if let Some(c) = check.as_mut() {
            observers.push(c);
        }
        server.run(state, &mut observers[..])?
    };
    let is_file = output.is_file();
    output.write(|out, name| Ok(server.write_answer(&answer, out, name).map(drop)?))?;
    // the answer is on disk; of checkpoints goes what this run wrote or went on from
    let own = a.resume || saver.is_some_and(|s| s.has_written());
    if let Some(path) = checkpoint.filter(|path| own && path.is_file()) {
        std::fs::remove_file(&path).map_err(named(&path))?;
    }
    let sum = |of: fn(&(f64, f64)) -> f64| -> f64 { watch.steps.values().map(of).sum() };
    let mut measured = Measured {
        seconds: Some(sum(|s| s.0)),
        cpu_seconds: Some(sum(|s| s.1)),
        peak_bytes: Some(peak_bytes()),
        input_bytes: Some(input_header.length),
        answer_bytes: match is_file {
            true => Some(
                std::fs::metadata(&a.output)
                    .map_err(named(&a.output))?
                    .len(),
            ),
            false => None,
        },
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
        let values = client.keys().decrypt(&answer)?;
        found = answer_of(values, &truth, client.task());
        found.may_be_shared = Some(false);
        tell.note("every layer stayed within its predicted bound");
        tell.note("keep this report to yourself: whoever sees decrypted values or their errors can attack the key (IND-CPA-D, SECURITY.md)");
    }
    Ok((measured, found))
}

/// A server with its keys, in memory or partly on disk.
fn open(
    plan: &Arc<VerifiedPlan>,
    placement: Option<&Placement>,
    keys: Whole<File>,
    name: &str,
    (tell, room): (Listener<'_>, &dyn Fn() -> Option<Room>),
) -> Result<Server> {
    let preparation = prepare(plan, placement)?;
    let mut told = |done, all| tell.count("reading key", done, all);
    let server = match placement {
        Some(p) => Server::open(plan.clone(), keys.into_inner().1, name, &p.kept, &mut told)?,
        None => {
            let keys = BufReader::with_capacity(1 << 20, keys);
            Server::read(plan.clone(), keys, name, &mut told)?
        }
    };
    fetched(&preparation.finish(), tell);
    // another run may have passed the same check at the same time: by now each has taken what it holds
    let shared = room().filter(|room| room.limit != Limit::Process);
    let peak = placement.map_or_else(|| peak_here(plan.facts()), |p| p.peak_bytes);
    let what = format!("this plan for {}", plan.plan().description.name);
    let instead = ", wait for the other, or leave keys on disk";
    require_of(shared, &what, peak, instead).map_err(|e| at_its_peak(plan, e))?;
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_folder::tests::plan_that_does_nothing;
    use crate::session::rng;

    #[test]
    fn memory_that_another_run_took_meanwhile_is_seen_once_the_keys_are_read() {
        let plan = Arc::new(plan_that_does_nothing("toy"));
        let client =
            runtime::Client::new(plan.client_file([].into()).expect("no task"), &mut rng());
        let keys = client.write_evaluation_keys(Vec::new(), "x", &mut rng(), &mut |_, _| {});
        let path = format!("polyveil-second-check-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::write(&path, keys.expect("writes")).expect("a file");
        let opened = |bytes: u64, limit: Limit| {
            let (read, looked) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
            let mut tell = |p: crate::Progress<'_>| {
                read.set(read.get() + usize::from(p.message.contains("reading key")));
            };
            let room = || {
                // not before all keys were read: what another run takes meanwhile counts
                looked.set(read.get());
                Some(Room {
                    bytes,
                    resident: 0,
                    limit,
                })
            };
            let (_, file) = Header::ahead(File::open(&path).expect("opens"), "x").expect("keys");
            let server = open(&plan, None, file, "x", (&mut tell, &room));
            assert!(looked.get() > 0 && looked.get() == read.get());
            server.map(drop)
        };
        opened(u64::MAX, Limit::Free).expect("enough");
        for limit in [Limit::Free, Limit::Group] {
            let e = opened(1000, limit).expect_err("too little").to_string();
            assert!(
                e.contains("this plan for toy") && e.contains("wait for the other"),
                "{e}"
            );
        }
        // its own limit has the keys in it already
        opened(1000, Limit::Process).expect("as it was");
        std::fs::remove_file(&path).expect("removes");
    }
}
