//! Carries out jobs: keys in memory, room for them, checkpoints, and what a job tells while it runs.

use crate::book::Book;
use crate::error::{Code, Error, Result};
use crate::queue::{Queue, Ticket};
use crate::records::{Account, Job, Keys, Plan, State, digest, hex, now};
use crate::store::{Kind, Store};
use crate::watch::{Log, Metrics};
use polyveil::ckks::Ciphertext;
use polyveil::machine::{Machine, Probing};
use polyveil::runtime::checkpoint::{Checkpointer, read_checkpoint};
use polyveil::runtime::interpreter::Done;
use polyveil::runtime::machine::cpu_seconds;
use polyveil::runtime::{Observer, Preparation, Reporter, Server, VerifiedPlan, limits};
use serde_json::json;
use std::collections::HashMap;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Where a job stands that is not done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stands {
    /// It waits.
    Waiting,
    /// Its keys are read.
    Loading,
    /// It runs.
    Running {
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Seconds to go, about.
        left: f64,
    },
    /// It ended: what is kept of it says how.
    Ended,
}

/// A job that is not done.
#[derive(Debug)]
pub struct Live {
    sender: watch::Sender<Stands>,
    cancelled: AtomicBool,
}

impl Live {
    /// Where it stands, now and later.
    pub fn watch(&self) -> watch::Receiver<Stands> {
        self.sender.subscribe()
    }
    fn tell(&self, stands: Stands) {
        self.sender.send_replace(stands);
    }
}

/// A client's keys in memory.
struct Loaded {
    server: Arc<Server>,
    bytes: u64,
    /// Runs that use them now.
    users: usize,
    used: u64,
}

/// What memory is promised to.
#[derive(Default)]
struct Ledger {
    sets: HashMap<String, Loaded>,
    /// Bytes of keys that are being read, by digest.
    loading: HashMap<String, u64>,
    /// Bytes that runs may take beside keys.
    running: u64,
    runs: usize,
    tick: u64,
}

impl Ledger {
    fn taken(&self) -> u64 {
        let sets = self.sets.values().map(|s| s.bytes).sum::<u64>();
        sets + self.loading.values().sum::<u64>() + self.running
    }
    /// Sets of keys go, those that were used longest ago first, until so much fits.
    fn make_room(&mut self, needed: u64, room: u64) -> usize {
        let mut gone = 0;
        while self.taken() + needed > room {
            let idle = self.sets.iter().filter(|(_, s)| s.users == 0);
            let Some(oldest) = idle.min_by_key(|(_, s)| s.used).map(|(k, _)| k.clone()) else {
                break;
            };
            self.sets.remove(&oldest);
            gone += 1;
        }
        gone
    }
}

/// What the machine may be used for.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// The most memory; what the system leaves if none.
    pub memory: Option<u64>,
    /// Runs at the same time.
    pub runs: usize,
    /// What operations cost here.
    pub machine: Machine,
    /// Seconds that keys stay unless they are used.
    pub keys_stay: f64,
    /// Seconds that answers stay.
    pub answers_stay: f64,
}

/// Carries out jobs.
pub struct Engine {
    book: Arc<Book>,
    store: Arc<Store>,
    queue: Arc<dyn Queue>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    capacity: Capacity,
    ledger: Mutex<Ledger>,
    freed: Condvar,
    plans: Mutex<HashMap<String, Weak<VerifiedPlan>>>,
    live: Mutex<HashMap<String, Arc<Live>>>,
    stopping: AtomicBool,
}

/// Pause before what storage put off, or the end of a job, is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How a run ended.
enum Outcome {
    Done {
        digest: String,
        bytes: u64,
        cpu: f64,
    },
    /// It goes on after a restart.
    Stopped,
    Cancelled,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run's hold on keys and memory.
struct Hold<'a> {
    engine: &'a Engine,
    /// Of keys that stay in memory.
    keys: Option<String>,
    server: Arc<Server>,
    bytes: u64,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut ledger = locked(&self.engine.ledger);
        ledger.running -= self.bytes;
        ledger.runs -= 1;
        if let Some(set) = self.keys.as_ref().and_then(|k| ledger.sets.get_mut(k)) {
            set.users -= 1;
        }
        drop(ledger);
        self.engine.freed.notify_all();
    }
}

impl Engine {
    /// Over what a service keeps.
    pub fn new(
        (book, store): (Arc<Book>, Arc<Store>),
        queue: Arc<dyn Queue>,
        (log, metrics): (Arc<Log>, Arc<Metrics>),
        capacity: Capacity,
    ) -> Self {
        Self {
            book,
            store,
            queue,
            log,
            metrics,
            capacity,
            ledger: Mutex::default(),
            freed: Condvar::new(),
            plans: Mutex::default(),
            live: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// What the machine may be used for.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Where jobs wait.
    pub fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// Bytes that runs and keys may take in all.
    fn room(&self) -> u64 {
        let here = limits::here().map_or(u64::MAX, |room| room.whole());
        here.min(self.capacity.memory.unwrap_or(u64::MAX))
    }

    /// Refuses a plan that would never find room, by its predicted peak; keys may be left on disk.
    ///
    /// # Errors
    /// [`Code::MachineTooSmall`].
    pub fn admit(&self, plan: &Plan) -> Result<()> {
        let needed = (plan.run_memory + plan.key_memory).min(plan.least_memory);
        let room = self.room();
        if needed <= room {
            return Ok(());
        }
        let size = polyveil::runtime::size;
        Err(Error::new(
            Code::MachineTooSmall,
            format!(
                "the plan {} needs {} of memory at least, the service may use {}",
                plan.name,
                size(needed),
                size(room)
            ),
            "ask the operator for a plan that was compiled for less memory, or a larger machine",
        ))
    }

    /// A job waits from now on.
    pub fn enter(&self, job: &Job) {
        let live = Live {
            sender: watch::Sender::new(Stands::Waiting),
            cancelled: AtomicBool::new(false),
        };
        locked(&self.live).insert(job.id.clone(), Arc::new(live));
        self.queue.put(Ticket {
            job: job.id.clone(),
            keys: job.keys.clone(),
        });
        self.count();
    }

    /// A job that is not done.
    pub fn live(&self, job: &str) -> Option<Arc<Live>> {
        locked(&self.live).get(job).cloned()
    }

    /// A job is not to be done: where it runs, it ends with its step.
    pub fn cancel(&self, job: &str) {
        if let Some(live) = self.live(job) {
            live.cancelled.store(true, Ordering::SeqCst);
            if self.queue.remove(job) {
                self.end(job, &live);
            }
        }
        self.count();
    }

    /// Keys go from memory, if they are there.
    pub fn forget_keys(&self, digest: &str) {
        let mut ledger = locked(&self.ledger);
        if ledger.sets.get(digest).is_some_and(|s| s.users == 0) {
            ledger.sets.remove(digest);
        }
        drop(ledger);
        self.count();
    }

    /// Nothing begins any more; runs write checkpoints when their step ends.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.queue.close();
        self.freed.notify_all();
    }

    /// Whether it stops.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Carries out jobs until it is stopped: the work of a thread.
    pub fn work(&self) {
        while let Some(ticket) = self.queue.take() {
            let Some(live) = self.live(&ticket.job) else {
                continue;
            };
            self.count();
            self.carry_out(&ticket.job, &live);
            self.count();
        }
    }

    /// The gauges.
    pub fn count(&self) {
        let ledger = locked(&self.ledger);
        let m = &self.metrics;
        m.set("jobs_waiting", self.queue.len() as f64);
        m.set("jobs_running", ledger.runs as f64);
        m.set("key_sets", ledger.sets.len() as f64);
        let bytes: u64 = ledger.sets.values().map(|s| s.bytes).sum();
        m.set("key_bytes", bytes as f64);
        m.set("resident_bytes", limits::resident() as f64);
    }

    fn end(&self, job: &str, live: &Live) {
        locked(&self.live).remove(job);
        live.tell(Stands::Ended);
    }

    fn carry_out(&self, id: &str, live: &Live) {
        let job = match self.book.get::<Job>(id) {
            Ok(Some(job)) if job.state == State::Open => job,
            // deleted meanwhile
            _ => return self.end(id, live),
        };
        let work = || self.run(&job, live);
        let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            let remedy = "report this; the same job would end the same way";
            Err(Error::new(Code::Internal, "the run panicked", remedy))
        });
        let until = now() + self.capacity.answers_stay;
        let state = match ended {
            Ok(Outcome::Stopped) => {
                self.log.say("job_stopped", json!({ "job": id }));
                return live.tell(Stands::Ended);
            }
            Ok(Outcome::Cancelled) => {
                self.log.say("job_cancelled", json!({ "job": id }));
                self.metrics
                    .add("jobs_total", &[("state", "cancelled")], 1.0);
                self.forget_files(id);
                return self.end(id, live);
            }
            Ok(Outcome::Done { digest, bytes, cpu }) => {
                self.log.say("job_done", json!({ "job": id, "account": job.account, "plan": job.plan, "cpu_seconds": cpu, "predicted_cpu_seconds": job.cpu_seconds, "answer_bytes": bytes }));
                self.metrics.add("jobs_total", &[("state", "done")], 1.0);
                self.metrics.add("run_cpu_seconds_total", &[], cpu);
                State::Done {
                    digest,
                    bytes,
                    cpu_seconds: cpu,
                    expires: until,
                }
            }
            Err(error) => {
                self.log.say("job_failed", json!({ "job": id, "account": job.account, "plan": job.plan, "code": error.code, "cause": error.cause }));
                self.metrics.add("jobs_total", &[("state", "failed")], 1.0);
                State::Failed {
                    error,
                    expires: until,
                }
            }
        };
        // on a full disk, say: what was computed is not thrown away
        while let Err(e) = self.settle(&job, &state) {
            let facts = json!({ "job": id, "cause": e.cause });
            self.log.say("job_not_settled", facts);
            if self.is_stopping() {
                // it is still open in the database, and goes on when the server does
                return live.tell(Stands::Ended);
            }
            std::thread::sleep(AGAIN);
        }
        self.end(id, live);
    }

    /// Writes down how a job ended; one that was deleted meanwhile leaves nothing.
    fn settle(&self, job: &Job, state: &State) -> Result<()> {
        let failed = matches!(state, State::Failed { .. });
        let there = self.book.change(|c| {
            let Some(mut now_kept) = c.get::<Job>(&job.id)? else {
                return Ok(false);
            };
            now_kept.state = state.clone();
            c.put(&job.id, &now_kept)?;
            let name = Keys::name(&job.account, &job.keys);
            if let Some(mut keys) = c.get::<Keys>(&name)? {
                keys.used = now();
                keys.expires = now() + self.capacity.keys_stay;
                c.put(&name, &keys)?;
            }
            if let (true, Some(mut account)) = (failed, c.get::<Account>(&job.account)?) {
                account.count(-job.cpu_seconds);
                c.put(&job.account, &account)?;
            }
            Ok(true)
        })?;
        self.store.remove(Kind::Inputs, &job.id);
        self.store.remove(Kind::Checkpoints, &job.id);
        if !there {
            self.store.remove(Kind::Answers, &job.id);
        }
        Ok(())
    }

    fn forget_files(&self, id: &str) {
        for kind in [Kind::Inputs, Kind::Checkpoints, Kind::Answers] {
            self.store.remove(kind, id);
        }
    }

    /// The plan, from memory where a set of keys is there for it.
    fn plan(&self, digest: &str) -> Result<Arc<VerifiedPlan>> {
        let mut plans = locked(&self.plans);
        plans.retain(|_, plan| plan.strong_count() > 0);
        if let Some(plan) = plans.get(digest).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let path = self.store.path(Kind::Plans, &format!("{digest}.plan"));
        let plan = Arc::new(polyveil::network::plan(&path)?);
        plans.insert(digest.into(), Arc::downgrade(&plan));
        Ok(plan)
    }

    /// Waits for room, then gives keys in memory; keys stay on disk where they would never fit.
    fn hold<'a>(&'a self, job: &Job, live: &Live) -> Result<Option<Hold<'a>>> {
        let plan = self.plan(&job.plan_digest)?;
        let facts = plan.facts();
        let run = facts.peak_without_keys + facts.more_on(rayon::current_num_threads());
        let key_bytes: u64 = facts.key_sizes.values().map(|s| s.memory).sum();
        let mut ledger = locked(&self.ledger);
        let placement = loop {
            if self.is_stopping() || live.cancelled.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let room = self.room();
            ledger.tick += 1;
            let tick = ledger.tick;
            let loading = ledger.loading.contains_key(&job.keys);
            if let Some(set) = ledger.sets.get_mut(&job.keys) {
                // held, so that it does not go for its own run
                set.users += 1;
                set.used = tick;
                let server = set.server.clone();
                let gone = ledger.make_room(run, room);
                self.metrics.add("key_evictions_total", &[], gone as f64);
                if ledger.taken() + run <= room || ledger.runs == 0 {
                    ledger.running += run;
                    ledger.runs += 1;
                    return Ok(Some(Hold {
                        engine: self,
                        keys: Some(job.keys.clone()),
                        server,
                        bytes: run,
                    }));
                }
                if let Some(set) = ledger.sets.get_mut(&job.keys) {
                    set.users -= 1;
                }
            } else if !loading {
                let gone = ledger.make_room(run + key_bytes, room);
                self.metrics.add("key_evictions_total", &[], gone as f64);
                if ledger.taken() + run + key_bytes <= room {
                    break None;
                }
                if ledger.runs == 0 && ledger.loading.is_empty() {
                    let more = facts.more_on(rayon::current_num_threads());
                    let mut placement = facts.keys_on_disk(room.saturating_sub(more));
                    placement.peak_bytes += more;
                    if placement.peak_bytes > room {
                        let what = format!("the plan {}", job.plan);
                        let of = Some(room);
                        polyveil::runtime::machine::require_memory(
                            &what,
                            placement.peak_bytes,
                            of,
                        )?;
                    }
                    break Some(placement);
                }
            }
            ledger = self
                .freed
                .wait(ledger)
                .unwrap_or_else(PoisonError::into_inner);
        };
        let (promised, stay) = match &placement {
            None => (run, key_bytes),
            Some(placement) => (placement.peak_bytes, 0),
        };
        ledger.loading.insert(job.keys.clone(), stay);
        ledger.running += promised;
        ledger.runs += 1;
        drop(ledger);
        live.tell(Stands::Loading);
        let read = catch_unwind(AssertUnwindSafe(|| {
            self.read_keys(&plan, job, placement.as_ref())
        }));
        let read = read.unwrap_or_else(|_| {
            Err(Error::new(
                Code::Internal,
                "reading keys panicked",
                "report this",
            ))
        });
        let mut ledger = locked(&self.ledger);
        ledger.loading.remove(&job.keys);
        let tick = ledger.tick;
        let done = match read {
            Ok(server) => {
                let server = Arc::new(server);
                let keys = placement.is_none().then(|| job.keys.clone());
                if keys.is_some() {
                    let set = Loaded {
                        server: server.clone(),
                        bytes: key_bytes,
                        users: 1,
                        used: tick,
                    };
                    ledger.sets.insert(job.keys.clone(), set);
                }
                Ok(Some(Hold {
                    engine: self,
                    keys,
                    server,
                    bytes: promised,
                }))
            }
            Err(e) => {
                ledger.running -= promised;
                ledger.runs -= 1;
                Err(e)
            }
        };
        drop(ledger);
        self.freed.notify_all();
        done
    }

    fn read_keys(
        &self,
        plan: &Arc<VerifiedPlan>,
        job: &Job,
        placement: Option<&polyveil::runtime::Placement>,
    ) -> Result<Server> {
        let name = "the evaluation keys";
        let preparation = Preparation::begin(plan.facts().buffer_bytes(placement))?;
        let plan = plan.clone();
        let server = match placement {
            Some(p) => {
                let file = self.store.local(Kind::Keys, &job.keys)?;
                Server::open(plan, file, name, &p.kept, &mut |_, _| {})?
            }
            None => {
                let file = self.store.read(Kind::Keys, &job.keys)?;
                let file = BufReader::with_capacity(1 << 20, file);
                Server::read(plan, file, name, &mut |_, _| {})?
            }
        };
        preparation.finish();
        self.metrics.add("key_loads_total", &[], 1.0);
        self.log.say("keys_loaded", json!({ "account": job.account, "keys": job.keys, "plan": job.plan, "on_disk": placement.is_some() }));
        Ok(server)
    }

    /// Tries again what storage that is away puts off, until it is done, or the job is not to be done any more.
    fn persist<T>(
        &self,
        job: &Job,
        live: &Live,
        away: &[Code],
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<Option<T>> {
        for tries in 0u64.. {
            match attempt() {
                Err(e) if away.contains(&e.code) => {
                    if tries % 60 == 0 {
                        let facts = json!({ "job": job.id, "cause": e.cause });
                        self.log.say("storage_awaited", facts);
                    }
                }
                done => return done.map(Some),
            }
            if self.is_stopping() || live.cancelled.load(Ordering::SeqCst) {
                break;
            }
            std::thread::sleep(AGAIN);
        }
        Ok(None)
    }

    fn run(&self, job: &Job, live: &Live) -> Result<Outcome> {
        let ended = |live: &Live| match live.cancelled.load(Ordering::SeqCst) {
            true => Outcome::Cancelled,
            false => Outcome::Stopped,
        };
        let hold = || self.hold(job, live);
        let Some(hold) = self.persist(job, live, &[Code::Busy], hold)?.flatten() else {
            return Ok(ended(live));
        };
        if self.is_stopping() || live.cancelled.load(Ordering::SeqCst) {
            return Ok(ended(live));
        }
        let server = &*hold.server;
        let plan = server.plan();
        let input = digest(&job.input)
            .ok_or_else(|| Error::new(Code::Internal, "the job names no input", "ask again"))?;
        let path = self.store.path(Kind::Checkpoints, &job.id);
        let state = match path.exists() {
            true => {
                let read = read_checkpoint(&path, plan, &input, server.key());
                match read.and_then(|state| server.resume(state)) {
                    Ok(state) => Some(state),
                    Err(e) => {
                        self.log.say(
                            "checkpoint_left",
                            json!({ "job": job.id, "cause": e.to_string() }),
                        );
                        None
                    }
                }
            }
            false => None,
        };
        let state = match state {
            Some(state) => {
                self.metrics.add("jobs_resumed_total", &[], 1.0);
                self.log
                    .say("job_resumed", json!({ "job": job.id, "step": state.next }));
                state
            }
            None => {
                let file = BufReader::new(self.store.read(Kind::Inputs, &job.id)?);
                server.read_input(file, "the input")?
            }
        };
        let prediction = self.capacity.machine.predict(plan, None, Probing::AsItIs)?;
        let mut told = |p: polyveil::runtime::Progress<'_>| {
            live.tell(Stands::Running {
                step: p.steps.0,
                steps: p.steps.1,
                left: p.remaining,
            });
        };
        let mut reporter = Reporter::new(prediction.step_seconds(), &mut told);
        let mut keeper = Keeper {
            saver: Checkpointer::new(plan, server.engine(), path.clone(), input)
                .sparing()
                .private(),
            live,
            engine: self,
            job: &job.id,
            steps: plan.plan().steps.len(),
            ended: false,
        };
        let cpu = cpu_seconds();
        let mut observers: [&mut dyn Observer<Ciphertext>; 2] = [&mut reporter, &mut keeper];
        let answer = server.run(state, &mut observers[..]);
        let answer = match (answer, keeper.ended) {
            (Ok(answer), _) => answer,
            (Err(_), true) => return Ok(ended(live)),
            (Err(e), false) => return Err(e.into()),
        };
        let bytes = server.write_answer(&answer, Vec::new(), "the answer")?;
        // what was computed is not thrown away
        let away = [Code::Busy, Code::DiskFull];
        let put = || self.store.put(Kind::Answers, &job.id, &bytes);
        if self.persist(job, live, &away, put)?.is_none() {
            return Ok(ended(live));
        }
        Ok(Outcome::Done {
            digest: hex(blake3::hash(&bytes).as_bytes()),
            bytes: bytes.len() as u64,
            cpu: cpu_seconds() - cpu,
        })
    }
}

/// Writes checkpoints, and ends a run that is cancelled or whose server stops.
struct Keeper<'a> {
    saver: Checkpointer<'a>,
    live: &'a Live,
    engine: &'a Engine,
    job: &'a str,
    steps: usize,
    ended: bool,
}

impl Keeper<'_> {
    fn say(&self, saved: polyveil::runtime::Result<()>) {
        // without a checkpoint a run that is killed begins anew: no reason to give it up
        if let Err(e) = saved {
            let facts = json!({ "job": self.job, "cause": e.to_string() });
            self.engine.log.say("checkpoint_failed", facts);
        }
    }
}

impl Observer<Ciphertext> for Keeper<'_> {
    fn end(&mut self, done: &Done<'_, Ciphertext>) -> polyveil::runtime::Result<()> {
        let cancelled = self.live.cancelled.load(Ordering::SeqCst);
        let stopping = self.engine.is_stopping() && done.state.next < self.steps;
        if !cancelled && !stopping {
            let saved = self.saver.end(done);
            self.say(saved);
            return Ok(());
        }
        if !cancelled {
            self.say(self.saver.save(done.state));
        }
        self.ended = true;
        Err(polyveil::runtime::Error::Io {
            file: "the run".into(),
            source: std::io::ErrorKind::Interrupted.into(),
        })
    }
}
