//! What is kept of accounts, plans, keys and jobs. All of it is plain data: no record has a place for a ciphertext, a token or a key.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |d| d.as_secs_f64())
}

const DAY: f64 = 86400.0;

/// The number of the day, by which quotas of CPU seconds are counted.
pub fn day() -> u64 {
    (now() / DAY) as u64
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest from 64 hexadecimal digits; none of anything else.
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let plain = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if text.len() != 64 || !text.as_bytes().iter().all(plain) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Refuses names that would not be file names, or that are long.
///
/// # Errors
/// As said.
pub fn expect_name(what: &str, name: &str) -> Result<()> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    let good = (1..=64).contains(&name.len())
        && name.as_bytes().iter().all(plain)
        && !name.starts_with(['.', '-']);
    match good {
        true => Ok(()),
        false => Err(Error::new(
            Code::BadRequest,
            format!("{what} {name:?} is no name of 1 to 64 letters, digits, `.`, `_` and `-`"),
            "choose such a name that begins with a letter or a digit",
        )),
    }
}

/// What an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quotas {
    /// Predicted CPU seconds of a day.
    pub cpu_seconds: f64,
    /// Bytes of keys, those on their way included.
    pub key_bytes: u64,
    /// Jobs that are not done.
    pub open_jobs: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            cpu_seconds: 36_000.0,
            key_bytes: 20_000_000_000,
            open_jobs: 100,
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its token, which is kept nowhere.
    pub token: String,
    /// What it may use.
    pub quotas: Quotas,
    /// The day that is counted.
    pub day: u64,
    /// CPU seconds that were predicted for this day's jobs.
    pub used: f64,
}

impl Account {
    /// CPU seconds that are left today.
    pub fn left(&self) -> f64 {
        let used = if self.day == day() { self.used } else { 0.0 };
        (self.quotas.cpu_seconds - used).max(0.0)
    }
    /// Counts CPU seconds; fewer than none gives some back.
    pub fn count(&mut self, seconds: f64) {
        if self.day != day() {
            (self.day, self.used) = (day(), 0.0);
        }
        self.used = (self.used + seconds).max(0.0);
    }
}

/// A plan that was retired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retired {
    /// What is to be used instead.
    pub successor: Option<String>,
}

/// A published plan, as clients may see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name at this service.
    pub name: String,
    /// Its digest, which keys and inputs name.
    pub digest: String,
    /// The network's name.
    pub network: String,
    /// What a client encrypts: pictures, rows, prompts, sentences.
    pub takes: String,
    /// Shape of one input.
    pub shape: Vec<usize>,
    /// Inputs in one run.
    pub batch: usize,
    /// The parameter set's name.
    pub parameters: String,
    /// Bits of security.
    pub security_bits: u32,
    /// Whether it protects nothing and was published all the same, for tests.
    pub insecure: bool,
    /// Bytes of the client file.
    pub client_bytes: u64,
    /// Bytes of a client's evaluation keys.
    pub key_bytes: u64,
    /// Most bytes of an encrypted input.
    pub input_bytes: u64,
    /// Steps of a run.
    pub steps: usize,
    /// Bootstraps of a run.
    pub bootstraps: u64,
    /// Predicted CPU seconds of a run.
    pub cpu_seconds: f64,
    /// Predicted seconds of a run on the server.
    pub seconds: f64,
    /// Bytes of the keys in the server's memory.
    pub key_memory: u64,
    /// Predicted bytes of the server's memory, without keys.
    pub run_memory: u64,
    /// The same where keys are read from disk as they are used.
    pub least_memory: u64,
    /// Whether it takes no new keys and jobs.
    pub retired: Option<Retired>,
}

impl Plan {
    /// Refuses a retired plan.
    ///
    /// # Errors
    /// [`Code::PlanRetired`], with the successor.
    pub fn expect_served(&self) -> Result<()> {
        let Some(retired) = &self.retired else {
            return Ok(());
        };
        let remedy = match &retired.successor {
            Some(next) => {
                format!("use its successor {next}: fetch that client file and make keys for it")
            }
            None => "ask the operator which plan is served instead".into(),
        };
        let cause = format!("the plan {} is retired", self.name);
        Err(Error::new(Code::PlanRetired, cause, remedy))
    }
}

/// Bytes of a part of a file of keys; the last one is shorter.
pub const PART: u64 = 4 << 20;

/// How far a set of keys is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Progress {
    /// Parts are missing.
    Uploading {
        /// Numbers of the parts that are there, with their digests' first bytes.
        parts: BTreeSet<u64>,
    },
    /// It can be used.
    Ready {
        /// The key pair.
        key: String,
    },
}

/// Evaluation keys of an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// Whose.
    pub account: String,
    /// BLAKE3 of the file.
    pub digest: String,
    /// The plan's name.
    pub plan: String,
    /// The plan's digest.
    pub plan_digest: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// When it was last used, seconds since 1970.
    pub used: f64,
    /// When it goes unless it is used before, seconds since 1970.
    pub expires: f64,
}

impl Keys {
    /// Its name in the database.
    pub fn name(account: &str, digest: &str) -> String {
        format!("{account}/{digest}")
    }
    /// Number of parts.
    pub fn parts(&self) -> u64 {
        self.bytes.div_ceil(PART)
    }
    /// Bytes of a part.
    pub fn part_bytes(&self, part: u64) -> u64 {
        self.bytes.saturating_sub(part * PART).min(PART)
    }
    /// Parts that are missing, as ranges of numbers (`0-3,7`).
    pub fn missing(&self) -> String {
        let Progress::Uploading { parts } = &self.progress else {
            return String::new();
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in (0..self.parts()).filter(|p| !parts.contains(p)) {
            match ranges.last_mut() {
                Some(last) if last.1 + 1 == part => last.1 = part,
                _ => ranges.push((part, part)),
            }
        }
        let text = ranges.iter().map(|(a, b)| match a == b {
            true => a.to_string(),
            false => format!("{a}-{b}"),
        });
        text.collect::<Vec<_>>().join(",")
    }
    /// Whether it can be used.
    pub fn is_ready(&self) -> bool {
        matches!(self.progress, Progress::Ready { .. })
    }
}

/// Reads ranges of numbers, as [`Keys::missing`] writes them.
pub fn ranges(text: &str) -> Vec<(u64, u64)> {
    let each = text.split(',').filter_map(|r| {
        let (from, to) = r.split_once('-').unwrap_or((r, r));
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    each.filter(|(a, b)| a <= b).collect()
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// It waits or runs.
    Open,
    /// There is an answer.
    Done {
        /// BLAKE3 of the answer.
        digest: String,
        /// Its bytes.
        bytes: u64,
        /// CPU seconds that it took since the server last started it.
        cpu_seconds: f64,
        /// When it goes, seconds since 1970.
        expires: f64,
    },
    /// There is none.
    Failed {
        /// Why.
        error: Error,
        /// When the record goes, seconds since 1970.
        expires: f64,
    },
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Its id: random, so that nobody guesses another's.
    pub id: String,
    /// Whose.
    pub account: String,
    /// Its number: jobs begin in this order.
    pub number: u64,
    /// The plan's name.
    pub plan: String,
    /// The plan's digest.
    pub plan_digest: String,
    /// Digest of the keys.
    pub keys: String,
    /// BLAKE3 of the input.
    pub input: String,
    /// The client's name for the request.
    pub idempotency: String,
    /// Predicted CPU seconds, which are counted.
    pub cpu_seconds: f64,
    /// Predicted seconds.
    pub seconds: f64,
    /// When it came, seconds since 1970.
    pub created: f64,
    /// How it stands.
    pub state: State,
}
