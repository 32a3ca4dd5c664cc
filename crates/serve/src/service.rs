//! What a service does for its accounts: plans, keys and jobs, each asked for by the account that owns it.

use crate::book::{Book, Counter, JobOf, TokenOf};
use crate::engine::{Capacity, Engine, Live};
use crate::error::{Code, Error, Result};
use crate::queue::{InProcess, Queue};
use crate::records::{Account, Job, Keys, PART, Plan, Progress, State, digest, hex, now};
use crate::store::{Kind, Object, Store};
use crate::watch::{Log, Metrics};
use polyveil::runtime::size;
use polyveil::runtime::wire::container::{self, HEADER_LEN, Header};
use rand_core::RngCore;
use serde_json::json;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of one account that are on their way at the same time, each of which is in memory.
const PARTS_AT_ONCE: usize = 8;

/// A service over a folder.
pub struct Service {
    book: Arc<Book>,
    store: Arc<Store>,
    engine: Arc<Engine>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    /// Files of keys that are written to or checked now.
    uploads: Mutex<HashMap<String, Use>>,
}

/// What happens to a file of keys on its way.
enum Use {
    /// So many parts come, of an account.
    Parts(String, usize),
    /// It is checked as a whole: what is written to it now would not be seen.
    Completing,
}

/// Random bytes as hexadecimal digits: of a token, of an id.
pub fn random(bytes: usize) -> String {
    let mut drawn = vec![0; bytes];
    polyveil::session::rng().fill_bytes(&mut drawn);
    hex(&drawn)
}

/// What is kept of a token.
pub fn token_hash(token: &str) -> String {
    hex(blake3::hash(token.trim().as_bytes()).as_bytes())
}

/// A file of keys that is written to or checked: it is free again when this goes.
pub struct Held<'a> {
    service: &'a Service,
    name: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut uploads = self.service.uploads();
        let free = match uploads.get_mut(&self.name) {
            Some(Use::Parts(_, count)) => {
                *count -= 1;
                *count == 0
            }
            _ => true,
        };
        if free {
            uploads.remove(&self.name);
        }
    }
}

/// A job that is asked for, before its input has come.
#[derive(Clone, Debug)]
pub struct Asked {
    account: String,
    plan: Plan,
    keys: Keys,
    key: String,
    idempotency: String,
    /// BLAKE3 of the input.
    pub input: String,
    /// Its bytes at most.
    pub most: u64,
    /// The job's id.
    pub id: String,
}

fn no_such_job() -> Error {
    let remedy = "give the id of a job of this account; answers go after their time";
    Error::new(Code::NoSuchJob, "there is no such job", remedy)
}

fn no_such_keys(digest: &str) -> Error {
    Error::new(
        Code::NoSuchKeys,
        format!("this account has no keys with digest {digest}"),
        "upload the evaluation keys; keys that are not used go after their time",
    )
}

impl Service {
    /// Opens what a folder keeps; jobs that are not done wait again, in their order.
    ///
    /// # Errors
    /// The database's.
    pub fn open(
        book: Arc<Book>,
        store: Arc<Store>,
        capacity: Capacity,
        log: Arc<Log>,
    ) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let queue: Arc<dyn Queue> = Arc::new(InProcess::default());
        let kept = (book.clone(), store.clone());
        let watch = (log.clone(), metrics.clone());
        let engine = Arc::new(Engine::new(kept, queue, watch, capacity));
        let service = Self {
            book,
            store,
            engine,
            log,
            metrics,
            uploads: Mutex::default(),
        };
        service.sweep()?;
        let mut open: Vec<Job> = service.book.all()?;
        open.retain(|job| job.state == State::Open);
        open.sort_by_key(|job| job.number);
        open.iter().for_each(|job| service.engine.enter(job));
        if !open.is_empty() {
            service
                .log
                .say("jobs_taken_up", json!({ "jobs": open.len() }));
        }
        Ok(service)
    }

    /// The database.
    pub fn book(&self) -> &Book {
        &self.book
    }
    /// The files.
    pub fn store(&self) -> &Store {
        &self.store
    }
    /// What carries out jobs.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }
    /// The numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The account that a token is of.
    ///
    /// # Errors
    /// [`Code::UnknownToken`].
    pub fn account(&self, token: &str) -> Result<Account> {
        let unknown = || {
            let remedy = "give a token that the operator of this service made for you";
            Error::new(
                Code::UnknownToken,
                "this token is none of this service",
                remedy,
            )
        };
        // found by its hash: how long that takes says nothing about tokens
        let name: TokenOf = self.book.get(&token_hash(token))?.ok_or_else(unknown)?;
        self.book.get(&name.0)?.ok_or_else(unknown)
    }

    /// All plans that are served.
    ///
    /// # Errors
    /// The database's.
    pub fn plans(&self) -> Result<Vec<Plan>> {
        let mut plans: Vec<Plan> = self.book.all()?;
        plans.retain(|plan| plan.retired.is_none());
        Ok(plans)
    }

    /// A plan that is served.
    ///
    /// # Errors
    /// [`Code::NoSuchPlan`], [`Code::PlanRetired`].
    pub fn plan(&self, name: &str) -> Result<Plan> {
        let plan: Option<Plan> = self.book.get(name)?;
        let plan = plan.ok_or_else(|| {
            Error::new(
                Code::NoSuchPlan,
                "this service has no plan of this name",
                "give the name of one of its plans",
            )
        })?;
        plan.expect_served()?;
        Ok(plan)
    }

    /// The client file of a plan.
    ///
    /// # Errors
    /// Those of [`Service::plan`], and the file system's.
    pub fn client_file(&self, name: &str) -> Result<Object> {
        let plan = self.plan(name)?;
        self.store
            .read(Kind::Plans, &format!("{}.client", plan.digest))
    }

    /// All keys of an account.
    ///
    /// # Errors
    /// The database's.
    pub fn all_keys(&self, account: &str) -> Result<Vec<Keys>> {
        let mut keys: Vec<Keys> = self.book.all()?;
        keys.retain(|k| k.account == account && k.expires > now());
        Ok(keys)
    }

    /// Keys of an account.
    ///
    /// # Errors
    /// [`Code::NoSuchKeys`]: another account's are not there either.
    pub fn keys(&self, account: &str, digest: &str) -> Result<Keys> {
        let keys: Option<Keys> = self.book.get(&Keys::name(account, digest))?;
        keys.filter(|k| k.expires > now())
            .ok_or_else(|| no_such_keys(digest))
    }

    /// Says what keys will come. The same again finds what is there.
    ///
    /// # Errors
    /// Another size than the plan's keys have, quotas, a lack of room.
    pub fn declare_keys(
        &self,
        account: &str,
        plan: &str,
        digest_of: &str,
        bytes: u64,
    ) -> Result<Keys> {
        let plan = self.plan(plan)?;
        self.engine.admit(&plan)?;
        if digest(digest_of).is_none() {
            return Err(Error::new(
                Code::BadRequest,
                "`digest` is no BLAKE3 digest of 64 hexadecimal digits",
                "give the digest of the whole file of evaluation keys",
            ));
        }
        if bytes != plan.key_bytes {
            let code = if bytes > plan.key_bytes {
                Code::TooLarge
            } else {
                Code::WrongFile
            };
            let cause = format!(
                "evaluation keys for {} have {} bytes, not {bytes}",
                plan.name, plan.key_bytes
            );
            return Err(Error::new(
                code,
                cause,
                "make keys from the client file of this plan",
            ));
        }
        let name = Keys::name(account, digest_of);
        let keys = self.book.change(|c| {
            let had = c.get::<Keys>(&name)?.filter(|k| k.expires > now());
            if let Some(had) = had {
                return match had.plan_digest == plan.digest {
                    true => Ok(had),
                    false => Err(of_another_plan(&had, &plan)),
                };
            }
            let account: Account = c.get(account)?.ok_or_else(gone)?;
            let all = c.all::<Keys>()?;
            let own = all.iter().filter(|k| k.account == account.name);
            let used: u64 = own.map(|k| k.bytes).sum();
            let most = account.quotas.key_bytes;
            if used + bytes > most {
                return Err(Error::new(
                    Code::OverQuotaKeys,
                    format!(
                        "these keys have {}; {} of the account's {} are used",
                        size(bytes),
                        size(used),
                        size(most)
                    ),
                    "delete keys that are no longer used, or ask the operator for more",
                ));
            }
            self.store.require_room(bytes)?;
            let keys = Keys {
                account: account.name,
                digest: digest_of.into(),
                plan: plan.name.clone(),
                plan_digest: plan.digest.clone(),
                bytes,
                progress: Progress::Uploading { parts: [].into() },
                used: now(),
                expires: now() + self.engine.capacity().keys_stay,
            };
            c.put(&name, &keys)?;
            Ok(keys)
        })?;
        self.log.say(
            "keys_declared",
            json!({ "account": account, "plan": plan.name, "keys": digest_of, "bytes": bytes }),
        );
        Ok(keys)
    }

    /// A part is on its way, of so many bytes: asked for before one of them is read.
    ///
    /// # Errors
    /// Keys that are not there or complete, an offset that no part has, too many parts at once.
    pub fn begin_part(&self, keys: &Keys, offset: u64) -> Result<Held<'_>> {
        if keys.is_ready() {
            let remedy = "nothing is to be sent: they can be used";
            return Err(Error::new(
                Code::PartDiffers,
                "these keys are complete",
                remedy,
            ));
        }
        if !offset.is_multiple_of(PART) || offset >= keys.bytes {
            return Err(Error::new(
                Code::BadRequest,
                format!("no part begins at {offset}"),
                format!(
                    "send parts of {PART} bytes, the last one shorter, of {} in all",
                    keys.bytes
                ),
            ));
        }
        let mut uploads = self.uploads();
        let count = |of: &Use| match of {
            Use::Parts(account, count) if *account == keys.account => *count,
            _ => 0,
        };
        if uploads.values().map(count).sum::<usize>() >= PARTS_AT_ONCE {
            return Err(Error::new(
                Code::Busy,
                format!("{PARTS_AT_ONCE} parts of this account are on their way"),
                "send fewer at the same time",
            ));
        }
        let name = upload_name(keys);
        let none = Use::Parts(keys.account.clone(), 0);
        match uploads.entry(name.clone()).or_insert(none) {
            Use::Parts(_, count) => *count += 1,
            Use::Completing => return Err(completing()),
        }
        drop(uploads);
        Ok(Held {
            service: self,
            name,
        })
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a part that has come whole.
    ///
    /// # Errors
    /// Bytes of another digest than was said, what is no evaluation key file, another part than was sent before.
    pub fn put_part(&self, keys: &Keys, offset: u64, said: &str, bytes: &[u8]) -> Result<Keys> {
        let part = offset / PART;
        if hex(blake3::hash(bytes).as_bytes()) != said {
            let cause = format!("the part at {offset} is not what its digest says");
            return Err(Error::new(Code::Altered, cause, "send it again"));
        }
        if offset == 0 {
            self.expect_keys(bytes, keys)?;
        }
        let name = Keys::name(&keys.account, &keys.digest);
        let file = upload_name(keys);
        self.store.write_part(&file, part, bytes)?;
        self.book.change_soon(|c| {
            let mut had: Keys = c.get(&name)?.ok_or_else(|| no_such_keys(&keys.digest))?;
            if let Progress::Uploading { parts } = &mut had.progress {
                parts.insert(part);
            }
            had.used = now();
            had.expires = now() + self.engine.capacity().keys_stay;
            c.put(&name, &had)?;
            Ok(had)
        })
    }

    /// Refuses what is no file of evaluation keys of this plan, by its header. Of a secret key nothing is kept.
    fn expect_keys(&self, mut bytes: &[u8], keys: &Keys) -> Result<String> {
        let header = Header::read(&mut bytes, "the file")?;
        if header.kind == container::Kind::ClientKey {
            self.log
                .say("secret_key_refused", json!({ "account": keys.account }));
            return Err(Error::new(
                Code::SecretKey,
                "this is a client's secret key, which must never leave its owner's machine; nothing of it was kept",
                "treat it as lost: make new keys, and send the evaluation keys alone",
            ));
        }
        header.expect(container::Kind::EvaluationKeys, "the file")?;
        if hex(&header.ids.plan) != keys.plan_digest || header.length != keys.bytes {
            return Err(Error::new(
                Code::KeysOfAnotherPlan,
                format!(
                    "these keys were made for the plan {}, not for {} ({})",
                    hex(&header.ids.plan),
                    keys.plan,
                    keys.plan_digest
                ),
                "make keys from the client file of this plan",
            ));
        }
        Ok(header.ids.key.to_string())
    }

    /// All parts are there: the file is checked as a whole, and the keys can be used.
    ///
    /// # Errors
    /// Missing parts; a file that is not what was declared, of which nothing is kept then.
    pub fn complete_keys(&self, keys: &Keys) -> Result<Keys> {
        let (name, file) = (Keys::name(&keys.account, &keys.digest), upload_name(keys));
        match self.uploads().entry(file.clone()) {
            Entry::Occupied(_) => return Err(completing()),
            Entry::Vacant(free) => drop(free.insert(Use::Completing)),
        }
        let _held = Held {
            service: self,
            name: file.clone(),
        };
        // as they are now that nobody else changes them
        let keys = &self.keys(&keys.account, &keys.digest)?;
        if keys.is_ready() {
            return Ok(keys.clone());
        }
        let missing = keys.missing();
        if !missing.is_empty() {
            let cause = format!("parts {missing} of {} are missing", keys.parts());
            return Err(Error::new(Code::KeysIncomplete, cause, "send them"));
        }
        let checked = || -> Result<String> {
            if hex(&self.store.hash_upload(&file)?) != keys.digest {
                return Err(Error::new(
                    Code::Altered,
                    "the parts together are not the file whose digest was declared; nothing of them was kept",
                    "send all parts again, each at its offset",
                ));
            }
            let mut head = [0; HEADER_LEN as usize];
            let mut read = self.store.read(Kind::Uploads, &file)?;
            std::io::Read::read_exact(&mut read, &mut head).map_err(Error::io("keys"))?;
            self.expect_keys(&head, keys)
        };
        let key = match checked() {
            Ok(key) => key,
            Err(e) => {
                self.store.remove(Kind::Uploads, &file);
                self.book.change(|c| {
                    let empty = Keys {
                        progress: Progress::Uploading { parts: [].into() },
                        ..keys.clone()
                    };
                    c.put(&name, &empty)
                })?;
                return Err(e);
            }
        };
        self.store.send_ahead(&file, &keys.digest)?;
        let settling = self.store.settle();
        self.store.place_upload(&file, &keys.digest)?;
        let ready = self.book.change(|c| {
            let mut had: Keys = c.get(&name)?.ok_or_else(|| no_such_keys(&keys.digest))?;
            had.progress = Progress::Ready { key };
            c.put(&name, &had)?;
            Ok(had)
        })?;
        drop(settling);
        self.log.say(
            "keys_ready",
            json!({ "account": keys.account, "plan": keys.plan, "keys": keys.digest }),
        );
        Ok(ready)
    }

    /// Keys go, from disk too.
    ///
    /// # Errors
    /// Keys that are not there, or that jobs need.
    pub fn delete_keys(&self, account: &str, digest: &str) -> Result<()> {
        let keys = self.keys(account, digest)?;
        self.book.change(|c| {
            let jobs = c.all::<Job>()?;
            let needs =
                |j: &&Job| j.account == account && j.keys == digest && j.state == State::Open;
            let open = jobs.iter().filter(needs).count();
            if open > 0 {
                let cause = format!("{open} jobs that are not done need these keys");
                return Err(Error::new(
                    Code::KeysInUse,
                    cause,
                    "delete the jobs, or wait for them",
                ));
            }
            c.remove::<Keys>(&Keys::name(account, digest))
        })?;
        self.store.remove(Kind::Uploads, &upload_name(&keys));
        self.engine.forget_keys(digest);
        self.sweep()?;
        self.log.say(
            "keys_deleted",
            json!({ "account": account, "keys": digest }),
        );
        Ok(())
    }

    /// A job is asked for; where the same request came before, its job. Looked at before a byte of the input is read.
    ///
    /// # Errors
    /// Retired plans, keys that are not there or of another plan, quotas, a plan that the machine is too small for.
    pub fn ask(
        &self,
        account: &Account,
        (plan, keys): (&str, &str),
        (idempotency, input): (&str, &str),
    ) -> Result<std::result::Result<Job, Asked>> {
        let well = |text: &str| {
            (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if !well(idempotency) {
            return Err(Error::new(
                Code::BadRequest,
                "the header Idempotency-Key has 1 to 128 printed characters",
                "give a name of its own to each request, the same when it is sent again",
            ));
        }
        if digest(input).is_none() {
            return Err(digest_missing());
        }
        let name = request_name(&account.name, idempotency);
        if let Some(job) = self.book.get::<JobOf>(&name)?
            && let Some(job) = self.book.get::<Job>(&job.0)?
            && !matches!(job.state, State::Failed { .. })
        {
            return match job.input == input && job.plan == plan && job.keys == keys {
                true => Ok(Ok(job)),
                false => Err(conflict()),
            };
        }
        let plan = self.plan(plan)?;
        let keys = self.keys(&account.name, keys)?;
        let Progress::Ready { key } = &keys.progress else {
            let cause = format!(
                "parts {} of these keys are missing, or they are not completed",
                keys.missing()
            );
            return Err(Error::new(
                Code::KeysIncomplete,
                cause,
                "upload the keys to their end",
            ));
        };
        if keys.plan_digest != plan.digest {
            return Err(of_another_plan(&keys, &plan));
        }
        self.engine.admit(&plan)?;
        within_quotas(account, &plan, &self.book.all::<Job>()?)?;
        self.store.require_room(2 * plan.input_bytes)?;
        Ok(Err(Asked {
            account: account.name.clone(),
            key: key.clone(),
            idempotency: idempotency.into(),
            input: input.into(),
            most: plan.input_bytes,
            id: random(16),
            plan,
            keys,
        }))
    }

    /// Where the input of a job goes.
    ///
    /// # Errors
    /// The file system's.
    pub fn input(&self, asked: &Asked) -> Result<disk::Output> {
        self.store.create(Kind::Inputs, &asked.id)
    }

    /// The input has come: the job waits. Of several that ask for the same one wins, and all get its job.
    ///
    /// # Errors
    /// An input that is not what was said, of another kind, plan or client; quotas; a service that stops.
    pub fn submit(
        &self,
        asked: &Asked,
        head: &[u8],
        (had, bytes): ([u8; 32], u64),
        file: disk::Output,
    ) -> Result<Job> {
        if hex(&had) != asked.input {
            let cause = "the input is not what its digest says";
            return Err(Error::new(Code::Altered, cause, "send it again"));
        }
        self.expect_input(asked, head, bytes)?;
        if self.engine.is_stopping() {
            return Err(stopping());
        }
        let settling = self.store.settle();
        file.finish().map_err(Error::io("the input"))?;
        let made = self.book.change(|c| {
            let name = request_name(&asked.account, &asked.idempotency);
            if let Some(had) = c.get::<JobOf>(&name)?
                && let Some(had) = c.get::<Job>(&had.0)?
            {
                if !matches!(had.state, State::Failed { .. }) {
                    return match had.input == asked.input
                        && had.plan == asked.plan.name
                        && had.keys == asked.keys.digest
                    {
                        true => Ok((had, None)),
                        false => Err(conflict()),
                    };
                }
                c.remove::<Job>(&had.id)?;
            }
            let mut account: Account = c.get(&asked.account)?.ok_or_else(gone)?;
            within_quotas(&account, &asked.plan, &c.all::<Job>()?)?;
            account.count(asked.plan.cpu_seconds);
            c.put(&account.name, &account)?;
            let key_name = Keys::name(&asked.account, &asked.keys.digest);
            let mut keys: Keys = c
                .get(&key_name)?
                .ok_or_else(|| no_such_keys(&asked.keys.digest))?;
            keys.used = now();
            keys.expires = now() + self.engine.capacity().keys_stay;
            c.put(&key_name, &keys)?;
            let number = c.get::<Counter>("jobs")?.unwrap_or_default().0;
            c.put("jobs", &Counter(number + 1))?;
            let job = Job {
                id: asked.id.clone(),
                account: account.name,
                number,
                plan: asked.plan.name.clone(),
                plan_digest: asked.plan.digest.clone(),
                keys: asked.keys.digest.clone(),
                input: asked.input.clone(),
                idempotency: asked.idempotency.clone(),
                cpu_seconds: asked.plan.cpu_seconds,
                seconds: asked.plan.seconds,
                created: now(),
                state: State::Open,
            };
            c.put(&job.id, &job)?;
            c.put(&name, &JobOf(job.id.clone()))?;
            Ok((job.clone(), Some(job)))
        });
        drop(settling);
        if !matches!(made, Ok((_, Some(_)))) {
            self.store.remove(Kind::Inputs, &asked.id);
        }
        let (job, new) = made?;
        if new.is_some() {
            self.log.say("job_waits", json!({ "job": job.id, "account": job.account, "plan": job.plan, "keys": job.keys, "input_bytes": bytes, "predicted_cpu_seconds": job.cpu_seconds }));
            self.engine.enter(&job);
        }
        Ok(job)
    }

    fn expect_input(&self, asked: &Asked, mut head: &[u8], bytes: u64) -> Result<()> {
        let header = Header::read(&mut head, "the input")?;
        if header.kind == container::Kind::ClientKey {
            self.log
                .say("secret_key_refused", json!({ "account": asked.account }));
        }
        header.expect(container::Kind::Input, "the input")?;
        let other = |what: &str, remedy: &str| Err(Error::new(Code::WrongFile, what, remedy));
        if header.length != bytes {
            return other("the input is not as long as it says", "send the whole file");
        }
        if hex(&header.ids.plan) != asked.plan.digest {
            return other(
                "the input was encrypted for another plan",
                "encrypt it with the key of this plan's client file",
            );
        }
        if header.ids.key.to_string() != asked.key {
            return other(
                "the input was encrypted with another key than these evaluation keys belong to",
                "name the keys that were made with it",
            );
        }
        Ok(())
    }

    /// All jobs of an account, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn jobs(&self, account: &str) -> Result<Vec<Job>> {
        let mut jobs: Vec<Job> = self.book.all()?;
        jobs.retain(|job| job.account == account);
        jobs.sort_by_key(|job| std::cmp::Reverse(job.number));
        Ok(jobs)
    }

    /// A job of an account.
    ///
    /// # Errors
    /// [`Code::NoSuchJob`]: another account's is not there either.
    pub fn job(&self, account: &str, id: &str) -> Result<Job> {
        let job: Option<Job> = self.book.get(id)?;
        job.filter(|job| job.account == account)
            .ok_or_else(no_such_job)
    }

    /// A job that is not done.
    pub fn live(&self, id: &str) -> Option<Arc<Live>> {
        self.engine.live(id)
    }

    /// The answer of a job, and its digest.
    ///
    /// # Errors
    /// Jobs that are not done, or that failed: with their error.
    pub fn answer(&self, job: &Job) -> Result<(Object, String)> {
        match &job.state {
            State::Open => {
                let cause = "the job is not done";
                Err(Error::new(Code::NotDone, cause, "wait for it"))
            }
            State::Failed { error, .. } => Err(error.clone()),
            State::Done { digest, .. } => {
                let file = self.store.read(Kind::Answers, &job.id)?;
                Ok((file, digest.clone()))
            }
        }
    }

    /// A job goes, with its input and its answer; one that waits or runs is not done any more.
    ///
    /// # Errors
    /// [`Code::NoSuchJob`].
    pub fn delete_job(&self, account: &str, id: &str) -> Result<()> {
        let job = self.job(account, id)?;
        let waits = self.engine.queue().place(id).is_some();
        self.book.change(|c| {
            forget_job(c, &job)?;
            if let (true, Some(mut account)) = (waits, c.get::<Account>(account)?) {
                // nothing of it was done
                account.count(-job.cpu_seconds);
                c.put(&account.name.clone(), &account)?;
            }
            Ok(())
        })?;
        self.engine.cancel(id);
        for kind in [Kind::Inputs, Kind::Checkpoints, Kind::Answers] {
            self.store.remove(kind, id);
        }
        self.log
            .say("job_deleted", json!({ "job": id, "account": account }));
        Ok(())
    }

    /// Removes what is past its time, and files that no record names.
    ///
    /// # Errors
    /// The database's.
    pub fn sweep(&self) -> Result<()> {
        let settling = self.store.settle();
        let (keys, jobs, accounts) = self.book.change(|c| {
            let mut jobs = c.all::<Job>()?;
            let accounts: HashSet<String> =
                c.all::<Account>()?.into_iter().map(|a| a.name).collect();
            let mut gone = 0;
            for job in &jobs {
                let past = match &job.state {
                    State::Open => false,
                    State::Done { expires, .. } | State::Failed { expires, .. } => {
                        *expires <= now()
                    }
                };
                if past || !accounts.contains(&job.account) {
                    forget_job(c, job)?;
                    gone += 1;
                }
            }
            if gone > 0 {
                jobs = c.all()?;
            }
            let open: HashSet<(&str, &str)> = (jobs.iter().filter(|j| j.state == State::Open))
                .map(|j| (&*j.account, &*j.keys))
                .collect();
            let mut keys = c.all::<Keys>()?;
            let mut past = Vec::new();
            keys.retain(|k| {
                let in_use = open.contains(&(&*k.account, &*k.digest));
                let stays = (k.expires > now() || in_use) && accounts.contains(&k.account);
                if !stays {
                    past.push(Keys::name(&k.account, &k.digest));
                }
                stays
            });
            for name in past {
                c.remove::<Keys>(&name)?;
            }
            Ok((keys, jobs, accounts))
        })?;
        let mut named = HashSet::new();
        for keys in &keys {
            match keys.is_ready() {
                true => named.insert((Kind::Keys, keys.digest.clone())),
                false => named.insert((Kind::Uploads, upload_name(keys))),
            };
        }
        for job in &jobs {
            let kinds: &[Kind] = match job.state {
                State::Open => &[Kind::Inputs, Kind::Checkpoints, Kind::Answers],
                _ => &[Kind::Answers],
            };
            named.extend(kinds.iter().map(|k| (*k, job.id.clone())));
        }
        let gone = self.store.clean(&named);
        drop(settling);
        if gone > 0 {
            self.log.say(
                "files_removed",
                json!({ "files": gone, "accounts": accounts.len() }),
            );
        }
        Ok(())
    }
}

fn completing() -> Error {
    let cause = "these keys are being written to or checked";
    Error::new(Code::Busy, cause, "try again in a moment")
}

fn upload_name(keys: &Keys) -> String {
    format!("{}-{}", keys.account, keys.digest)
}

fn request_name(account: &str, idempotency: &str) -> String {
    format!("{account}/{idempotency}")
}

/// A job's record goes, and the name of its request.
pub(crate) fn forget_job(c: &crate::book::Changing, job: &Job) -> Result<()> {
    c.remove::<Job>(&job.id)?;
    let name = request_name(&job.account, &job.idempotency);
    match c.get::<JobOf>(&name)? {
        Some(own) if own.0 == job.id => c.remove::<JobOf>(&name),
        _ => Ok(()),
    }
}

fn within_quotas(account: &Account, plan: &Plan, jobs: &[Job]) -> Result<()> {
    let open = jobs
        .iter()
        .filter(|j| j.account == account.name && j.state == State::Open);
    let (open, most) = (open.count() as u64, account.quotas.open_jobs);
    if open >= most {
        let cause = format!("{open} jobs of this account are not done, of {most} that may be");
        return Err(Error::new(
            Code::OverQuotaJobs,
            cause,
            "wait for them, or delete some",
        ));
    }
    if plan.cpu_seconds > account.left() {
        let cause = format!(
            "a run takes {:.1} CPU seconds, {:.1} of the account's {:.1} are left today",
            plan.cpu_seconds,
            account.left(),
            account.quotas.cpu_seconds
        );
        let remedy = "try again tomorrow (UTC), or ask the operator for more";
        return Err(Error::new(Code::OverQuotaCpu, cause, remedy));
    }
    Ok(())
}

fn of_another_plan(keys: &Keys, plan: &Plan) -> Error {
    Error::new(
        Code::KeysOfAnotherPlan,
        format!(
            "the keys {} are for the plan {} ({}), not for {} ({})",
            keys.digest, keys.plan, keys.plan_digest, plan.name, plan.digest
        ),
        "make keys from the client file of this plan and upload them",
    )
}

fn conflict() -> Error {
    Error::new(
        Code::IdempotencyConflict,
        "another request of this account had this Idempotency-Key",
        "give each request one of its own",
    )
}

fn gone() -> Error {
    let remedy = "give a token that the operator of this service made for you";
    Error::new(Code::UnknownToken, "this account was removed", remedy)
}

/// That nothing new is taken.
pub fn stopping() -> Error {
    let remedy = "send the request again in a moment; jobs go on after the restart";
    Error::new(Code::Stopping, "the service stops", remedy)
}

/// That a request does not say what its body is.
pub fn digest_missing() -> Error {
    Error::new(
        Code::BadRequest,
        "the header Polyveil-Digest is missing, or is no BLAKE3 digest of 64 hexadecimal digits",
        "give the digest of the body",
    )
}
