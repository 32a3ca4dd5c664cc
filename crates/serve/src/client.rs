//! The client's side of a service: what may leave a client's machine, sent so that a connection may break at any byte.
//!
//! Nothing here can hold a secret key. What is sent of files is [`PublicKeys`] and [`EncryptedInput`], and both are made from files
//! whose headers say so:
//!
//! ```compile_fail,E0308
//! fn send(remote: &polyveil_serve::client::Remote, client: &polyveil::Client) {
//!     let _ = remote.upload("plan", client.keys().secret_key(), &mut |_| {});
//! }
//! ```
//!
//! ```
//! fn send(remote: &polyveil_serve::client::Remote, keys: &polyveil_serve::client::PublicKeys) {
//!     let _ = remote.upload("plan", keys, &mut |_| {});
//! }
//! ```

use crate::error::{Code, Error, Result};
use crate::records::{PART, Plan, hex, ranges};
use polyveil::progress::silent;
use polyveil::runtime::ClientFile;
use polyveil::runtime::size;
use polyveil::runtime::wire::container::{self, Header};
use polyveil::{Listener, Progress};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::{Method, Response, StatusCode};
use ureq::{Agent, Body};

/// Digest of a body, BLAKE3 in hexadecimal digits.
pub const DIGEST: &str = "polyveil-digest";
/// The client's name for a request.
pub const IDEMPOTENCY: &str = "idempotency-key";

/// How the cause ends where the other side of TLS is not who it should be.
pub const UNTRUSTED: &str = "; nothing was sent";

/// Says how far something is.
fn say(tell: Listener<'_>, message: &str, fraction: f64, remaining: Option<f64>) {
    tell(Progress {
        message,
        fraction: Some(fraction),
        remaining,
    });
}

/// An account's token. It is shown nowhere.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Of its text.
    ///
    /// # Errors
    /// What can't be a token.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match (8..=256).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Self(text.into())),
            false => Err(Error::new(
                Code::BadRequest,
                "this is no token",
                "give the file that holds what the operator of the service gave you, and nothing else",
            )),
        }
    }
    /// For its owner's own file.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where evaluation keys are.
enum Source {
    File(File, PathBuf),
    Held(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(_, name) => write!(f, "{}", name.display()),
            Self::Held(_) => f.write_str("bytes"),
        }
    }
}

/// Evaluation keys: public, by their file's header.
#[derive(Debug)]
pub struct PublicKeys {
    source: Source,
    bytes: u64,
    digest: String,
    plan: String,
}

impl PublicKeys {
    /// Opens a file of evaluation keys, and reads it once for its digest.
    ///
    /// # Errors
    /// Files of another kind: a secret key's among them.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, header) = opened(path, container::Kind::EvaluationKeys)?;
        let mut hasher = blake3::Hasher::new();
        let bytes = std::io::copy(&mut file, &mut hasher).map_err(Error::io(path.display()))?;
        if bytes != header.length {
            let cause = format!("{}: {bytes} bytes of {}", path.display(), header.length);
            return Err(Error::new(Code::WrongFile, cause, "make the keys again"));
        }
        Ok(Self {
            source: Source::File(file, path.into()),
            bytes,
            digest: hex(hasher.finalize().as_bytes()),
            plan: hex(&header.ids.plan),
        })
    }
    /// From bytes, as the library's client gives them.
    ///
    /// # Errors
    /// Bytes of another kind: a secret key's among them.
    pub fn from_bytes(held: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        let all = held.as_ref();
        let header = public(&mut &all[..], container::Kind::EvaluationKeys, "the keys")?;
        if all.len() as u64 != header.length {
            let cause = format!("the keys have {} bytes of {}", all.len(), header.length);
            return Err(Error::new(Code::WrongFile, cause, "make the keys again"));
        }
        Ok(Self {
            bytes: header.length,
            digest: hex(blake3::hash(all).as_bytes()),
            plan: hex(&header.ids.plan),
            source: Source::Held(Box::new(held)),
        })
    }
    /// BLAKE3 of the file, by which the service knows it.
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// The digest of the plan that they were made for.
    pub fn plan(&self) -> &str {
        &self.plan
    }
    fn part(&self, offset: u64) -> Result<Vec<u8>> {
        let length = PART.min(self.bytes.saturating_sub(offset)) as usize;
        match &self.source {
            Source::Held(all) => {
                let part = (**all).as_ref().get(offset as usize..).unwrap_or_default();
                Ok(part[..length.min(part.len())].to_vec())
            }
            Source::File(file, name) => {
                let (mut file, mut bytes) = (file, vec![0; length]);
                let read = file
                    .seek(SeekFrom::Start(offset))
                    .and_then(|_| file.read_exact(&mut bytes));
                read.map_err(Error::io(name.display()))?;
                Ok(bytes)
            }
        }
    }
}

/// An encrypted input, by its file's header.
#[derive(Clone, Debug)]
pub struct EncryptedInput {
    bytes: Vec<u8>,
    digest: String,
}

impl EncryptedInput {
    /// Opens a file of an encrypted input.
    ///
    /// # Errors
    /// Files of another kind.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, header) = opened(path, container::Kind::Input)?;
        let mut bytes = Vec::new();
        let most = header.length + 1;
        let read = (&mut file).take(most).read_to_end(&mut bytes);
        read.map_err(Error::io(path.display()))?;
        Self::of(bytes, header)
    }
    /// From bytes, as the library's client gives them.
    ///
    /// # Errors
    /// Bytes of another kind.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        let header = public(&mut &bytes[..], container::Kind::Input, "the input")?;
        Self::of(bytes, header)
    }
    fn of(bytes: Vec<u8>, header: Header) -> Result<Self> {
        if bytes.len() as u64 != header.length {
            let cause = format!("the input has {} bytes of {}", bytes.len(), header.length);
            return Err(Error::new(Code::WrongFile, cause, "encrypt it again"));
        }
        let digest = hex(blake3::hash(&bytes).as_bytes());
        Ok(Self { bytes, digest })
    }
}

/// A file of this kind, at its beginning; a secret key is refused by its header, before anything else is read of it.
fn opened(path: &Path, kind: container::Kind) -> Result<(File, Header)> {
    let name = path.display().to_string();
    let mut file = File::open(path).map_err(Error::io(&name))?;
    let header = public(&mut file, kind, &name)?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io(&name))?;
    Ok((file, header))
}

fn public(from: &mut impl Read, kind: container::Kind, name: &str) -> Result<Header> {
    let header = Header::read(from, name)?;
    if header.kind == container::Kind::ClientKey {
        let cause = format!(
            "{name} is a secret key, which never leaves its owner's machine; nothing was sent"
        );
        return Err(Error::new(
            Code::SecretKey,
            cause,
            "give the evaluation keys, or an encrypted input",
        ));
    }
    header.expect(kind, name)?;
    Ok(header)
}

/// Whether a token may cross a network as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Only to this machine itself, unless it is encrypted for a service that an authority of the web vouches for.
    #[default]
    Protected,
    /// The same, but these authorities vouch, and no other: their certificates, PEM.
    Authority(String),
    /// Anywhere: someone else protects the way, a tunnel say.
    AsItIs,
}

/// A service, as one account sees it.
#[derive(Clone, Debug)]
pub struct Remote {
    agent: Agent,
    base: String,
    token: Token,
    patience: Duration,
}

/// What goes with a request.
#[derive(Default)]
struct With<'a> {
    headers: Vec<(&'static str, String)>,
    body: Option<&'a [u8]>,
}

/// First and longest pause before a request is sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Bodies from this size on wait for the server's word before they are sent.
const ASKS_FIRST: usize = 16 << 10;
/// Bytes of an answer that are fetched at a time.
const RANGE: u64 = 8 << 20;
/// Times that parts of keys which the service misses are sent.
const ROUNDS: usize = 16;
/// Bytes of a client file where nobody says how much memory there is.
const CLIENT_FILE: u64 = 4 << 30;
/// Bytes of a JSON answer.
const LONGEST: u64 = 16 << 20;

impl Remote {
    /// A service at an address.
    ///
    /// # Errors
    /// Addresses that this program does not reach, or over which the token would be seen.
    pub fn new(url: &str, token: Token, transport: Transport) -> Result<Self> {
        let refuse = |cause: &str, remedy: &str| Err(Error::new(Code::BadRequest, cause, remedy));
        let base = url.trim_end_matches('/');
        let (scheme, rest) = base.split_once("://").unwrap_or(("", ""));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host
            .rsplit_once(':')
            .map_or(host, |(name, port)| match port.parse::<u16>() {
                Ok(_) => name,
                Err(_) => host,
            });
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let here = host == "localhost" || address.is_ok_and(|a| a.is_loopback());
        match scheme {
            "http" if here || transport == Transport::AsItIs => {}
            "http" => {
                return refuse(
                    "whoever is on the way to this address would see the token",
                    "use https, or a tunnel to this machine (ssh -L), or say that the way is protected",
                );
            }
            "https" if cfg!(feature = "trust") => {}
            "https" => {
                return refuse(
                    "this program was built without TLS",
                    "build it with the feature `tls` (of the library `trust`), or use a tunnel to this machine",
                );
            }
            _ => {
                return refuse(
                    "this is no address of a service",
                    "give one that begins with http:// or https://",
                );
            }
        }
        let agent = Agent::config_builder();
        #[cfg(feature = "trust")]
        let agent = match (&transport, scheme) {
            (_, "http") => agent,
            (Transport::Authority(pem), _) => agent.tls_config(crate::trust::trust(Some(pem))?),
            _ => agent.tls_config(crate::trust::trust(None)?),
        };
        let step = Some(Duration::from_secs(30));
        let agent = agent
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_await_100(Some(Duration::from_secs(5)))
            .timeout_per_read(step)
            .timeout_per_write(step)
            .user_agent(concat!("polyveil-serve/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: agent.new_agent(),
            base: base.into(),
            token,
            patience: Duration::from_secs(600),
        })
    }

    /// How long a service that can't be reached is tried again.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn once(&self, method: &Method, path: &str, with: &With<'_>) -> Result<Response<Body>> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token.0));
        for (name, value) in &with.headers {
            request = request.header(*name, value);
        }
        if with.body.is_some_and(|b| b.len() >= ASKS_FIRST) {
            request = request.header("expect", "100-continue");
        }
        let unsent = |e: &dyn std::fmt::Display| {
            let remedy = "see that the address is right and the service runs";
            Error::new(Code::Unreachable, format!("{}: {e}", self.base), remedy)
        };
        // a name that is none will not become one
        let wrong = |e: ureq::http::Error| {
            let remedy = "give names, digests and ids as the service gives them";
            Error::new(Code::BadRequest, format!("{path}: {e}"), remedy)
        };
        let sent = match with.body {
            Some(body) => self.agent.run(request.body(body).map_err(wrong)?),
            None => self.agent.run(request.body(()).map_err(wrong)?),
        };
        #[cfg(feature = "trust")]
        if let Err(e) = &sent
            && crate::trust::is_refusal(e)
        {
            return Err(Error::new(
                Code::Refused,
                format!("{}: {e}{UNTRUSTED}", self.base),
                "see that this is the service's address, that its certificate names it and is in its time, and name the authority that vouches for it if it is none of the web's",
            ));
        }
        let mut response = sent.map_err(|e| unsent(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let mut text = Vec::new();
        let body = response
            .body_mut()
            .as_reader()
            .take(LONGEST)
            .read_to_end(&mut text);
        body.map_err(|e| unsent(&e))?;
        Err(serde_json::from_slice(&text).unwrap_or_else(|_| {
            // a proxy's word, or a body that HEAD does not have
            let code = match status {
                StatusCode::NOT_FOUND => Code::NotFound,
                s if s.is_server_error() => Code::Unreachable,
                _ => Code::Refused,
            };
            Error::new(
                code,
                format!("{}: {status}", self.base),
                "see that this is the address of a service",
            )
        }))
    }

    /// Sends until there is an answer that will not pass; every request here may be sent again. `take` reads the body, whose connection may break.
    fn send<T>(
        &self,
        method: &Method,
        path: &str,
        with: &With<'_>,
        tell: Listener<'_>,
        mut take: impl FnMut(Response<Body>) -> Result<T>,
    ) -> Result<T> {
        let (start, mut pause) = (Instant::now(), PAUSE.0);
        loop {
            match self.once(method, path, with).and_then(&mut take) {
                Err(e) if e.passes() && start.elapsed() < self.patience => {
                    again(tell, &e);
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE.1);
                }
                done => return done,
            }
        }
    }

    fn json(
        &self,
        method: &Method,
        path: &str,
        with: &With<'_>,
        tell: Listener<'_>,
    ) -> Result<Value> {
        self.send(method, path, with, tell, |mut response| {
            let mut text = Vec::new();
            let read = response
                .body_mut()
                .as_reader()
                .take(LONGEST)
                .read_to_end(&mut text);
            read.map_err(broken)?;
            if text.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&text).map_err(|e| {
                let remedy = "use the version of the program that the service is";
                Error::new(
                    Code::Refused,
                    format!("the answer can't be read ({e})"),
                    remedy,
                )
            })
        })
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.json(&Method::GET, path, &With::default(), &mut silent)
    }

    /// Whether the service is there.
    ///
    /// # Errors
    /// A service that can't be reached, or stops.
    pub fn health(&self) -> Result<Value> {
        self.get("/healthz")
    }

    /// What the account may use, and what is left of it.
    ///
    /// # Errors
    /// Those of the service.
    pub fn account(&self) -> Result<Value> {
        self.get("/v1/account")
    }

    /// The plans that are served.
    ///
    /// # Errors
    /// Those of the service.
    pub fn plans(&self) -> Result<Vec<Plan>> {
        read(self.get("/v1/plans")?)
    }

    /// A plan.
    ///
    /// # Errors
    /// Those of the service: [`Code::PlanRetired`] names the successor.
    pub fn plan(&self, name: &str) -> Result<Plan> {
        read(self.get(&format!("/v1/plans/{name}"))?)
    }

    /// The client file of a plan, checked.
    ///
    /// # Errors
    /// Those of the service; a file that is not of this plan.
    pub fn client_file(&self, plan: &Plan) -> Result<ClientFile> {
        // it is held in memory, and its length is the service's word
        let most = polyveil::runtime::machine::available_memory().map_or(CLIENT_FILE, |m| m / 2);
        if plan.client_bytes > most {
            let cause = format!(
                "the service says that the client file of {} has {}, and {} can be held here",
                plan.name,
                size(plan.client_bytes),
                size(most)
            );
            let remedy =
                "free memory, or ask the operator of the service whether that is its length";
            return Err(Error::new(Code::TooLarge, cause, remedy));
        }
        let path = format!("/v1/plans/{}/client", plan.name);
        let mut bytes = Vec::new();
        self.fetch(&path, (plan.client_bytes, None), &mut bytes, &mut silent)?;
        let file = ClientFile::read(&bytes[..], "the client file")?;
        if hex(&file.spec().plan) != plan.digest {
            let cause = "the client file is of another plan than the service says";
            return Err(Error::new(
                Code::WrongFile,
                cause,
                "tell the operator of the service",
            ));
        }
        Ok(file)
    }

    /// Sends evaluation keys, the parts that are missing. What was sent stays, whatever breaks.
    ///
    /// # Errors
    /// Those of the service.
    pub fn upload(&self, plan: &str, keys: &PublicKeys, tell: Listener<'_>) -> Result<Value> {
        let declared = json!({ "plan": plan, "digest": keys.digest, "bytes": keys.bytes });
        let body = declared.to_string();
        let with = With {
            headers: vec![("content-type", "application/json".into())],
            body: Some(body.as_bytes()),
        };
        let mut state = self.json(&Method::POST, "/v1/keys", &with, tell)?;
        let path = format!("/v1/keys/{}", keys.digest);
        let parts = keys.bytes.div_ceil(PART);
        for _ in 0..ROUNDS {
            if state["state"] == "ready" {
                return Ok(state);
            }
            // of what the keys have: the service may say anything
            let missing: BTreeSet<u64> = ranges(state["missing"].as_str().unwrap_or_default())
                .into_iter()
                .flat_map(|(a, b)| a..=b.min(parts.saturating_sub(1)))
                .collect();
            let count = missing.len();
            let mut done = 0;
            for part in missing {
                let bytes = keys.part(part * PART)?;
                let with = With {
                    headers: vec![(DIGEST, hex(blake3::hash(&bytes).as_bytes()))],
                    body: Some(&bytes),
                };
                let place = format!("{path}/parts/{}", part * PART);
                self.json(&Method::PUT, &place, &with, tell)?;
                done += 1;
                let share = done as f64 / count as f64;
                say(tell, &format!("part {done} of {count}"), share, None);
            }
            let commit = With {
                body: Some(b""),
                ..With::default()
            };
            state = match self.json(&Method::POST, &format!("{path}/commit"), &commit, tell) {
                // parts that another process sent meanwhile, or that went with a refusal
                Err(e) if e.code == Code::KeysIncomplete => self.get(&path)?,
                committed => committed?,
            };
        }
        match state["state"] == "ready" {
            true => Ok(state),
            false => {
                let cause =
                    format!("parts of the keys are missing, though they were sent {ROUNDS} times");
                let remedy = "tell the operator of the service, or delete the keys there and send them again";
                Err(Error::new(Code::KeysIncomplete, cause, remedy))
            }
        }
    }

    /// Asks for an input to be evaluated; the same input again finds the same job.
    ///
    /// # Errors
    /// Those of the service.
    pub fn ask(&self, plan: &str, keys: &str, input: &EncryptedInput) -> Result<Value> {
        // of everything that makes the request what it is: two encryptions of one input differ
        let request = format!("{plan}/{keys}/{}", input.digest);
        let with = With {
            headers: vec![
                (DIGEST, input.digest.clone()),
                (
                    IDEMPOTENCY,
                    hex(blake3::hash(request.as_bytes()).as_bytes()),
                ),
            ],
            body: Some(&input.bytes),
        };
        let path = format!("/v1/jobs?plan={plan}&keys={keys}");
        self.json(&Method::POST, &path, &with, &mut silent)
    }

    /// The account's keys.
    ///
    /// # Errors
    /// Those of the service.
    pub fn keys(&self) -> Result<Vec<Value>> {
        read(self.get("/v1/keys")?)
    }

    /// All jobs of the account, the newest first.
    ///
    /// # Errors
    /// Those of the service.
    pub fn jobs(&self) -> Result<Vec<Value>> {
        read(self.get("/v1/jobs")?)
    }

    /// A job.
    ///
    /// # Errors
    /// Those of the service.
    pub fn job(&self, id: &str) -> Result<Value> {
        self.get(&format!("/v1/jobs/{id}"))
    }

    /// Waits until a job is done, by its events.
    ///
    /// # Errors
    /// Why the job failed.
    pub fn wait(&self, id: &str, tell: Listener<'_>) -> Result<Value> {
        let path = format!("/v1/jobs/{id}/events");
        let (mut since, mut pause) = (Instant::now(), PAUSE.0);
        loop {
            let ended = self.once(&Method::GET, &path, &With::default());
            let ended = ended.and_then(|response| {
                events(response, &mut |job| {
                    (since, pause) = (Instant::now(), PAUSE.0);
                    stands(job, tell);
                })
            });
            match ended {
                Ok(job) if job["state"] == "done" => return Ok(job),
                Ok(job) => return Err(read(job["error"].clone())?),
                // a restart of the server is waited for
                Err(e) if e.passes() && since.elapsed() < self.patience => {
                    again(tell, &e);
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE.1);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Fetches the answer of a job that is done; it goes on where a connection broke.
    ///
    /// # Errors
    /// Those of the service and of the file system; an answer that is not what the service says.
    pub fn answer(&self, job: &Value, out: &mut dyn Write, tell: Listener<'_>) -> Result<()> {
        let id = job["id"].as_str().unwrap_or_default();
        let bytes = job["answer"]["bytes"].as_u64().unwrap_or_default();
        let digest = job["answer"]["digest"].as_str().unwrap_or_default();
        self.fetch(
            &format!("/v1/jobs/{id}/answer"),
            (bytes, Some(digest)),
            out,
            tell,
        )
    }

    fn fetch(
        &self,
        path: &str,
        (bytes, digest): (u64, Option<&str>),
        out: &mut dyn Write,
        tell: Listener<'_>,
    ) -> Result<()> {
        let (mut had, mut hasher) = (0, blake3::Hasher::new());
        let mut failed = None;
        while had < bytes {
            let last = (had + RANGE).min(bytes) - 1;
            let with = With {
                headers: vec![("range", format!("bytes={had}-{last}"))],
                body: None,
            };
            let before = had;
            let got = self.send(&Method::GET, path, &with, tell, |mut response| {
                if had > before {
                    // it broke within the range: the rest is asked for by itself
                    return Ok(());
                }
                let mut body = response.body_mut().as_reader();
                let mut piece = vec![0; 64 << 10];
                while had <= last {
                    let most = piece.len().min((last + 1 - had) as usize);
                    match body.read(&mut piece[..most]) {
                        Ok(0) | Err(_) => {
                            return if had > before {
                                Ok(())
                            } else {
                                Err(broken("it ended early"))
                            };
                        }
                        Ok(n) => {
                            hasher.update(&piece[..n]);
                            if let Err(e) = out.write_all(&piece[..n]) {
                                failed = Some(Error::io("the answer")(e));
                                return Ok(());
                            }
                            had += n as u64;
                        }
                    }
                }
                Ok(())
            });
            got?;
            if let Some(e) = failed {
                return Err(e);
            }
            let share = had as f64 / bytes as f64;
            say(tell, &format!("{had} of {bytes} bytes"), share, None);
        }
        match digest {
            Some(digest) if hex(hasher.finalize().as_bytes()) != digest => Err(Error::new(
                Code::Altered,
                "the answer is not what its digest says",
                "fetch it again",
            )),
            _ => Ok(()),
        }
    }

    /// A job goes, with its input and its answer.
    ///
    /// # Errors
    /// Those of the service.
    pub fn delete_job(&self, id: &str) -> Result<()> {
        self.delete(&format!("/v1/jobs/{id}"))
    }

    /// Keys go.
    ///
    /// # Errors
    /// Those of the service.
    pub fn delete_keys(&self, digest: &str) -> Result<()> {
        self.delete(&format!("/v1/keys/{digest}"))
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.json(&Method::DELETE, path, &With::default(), &mut silent)
            .map(drop)
    }
}

/// Says why something is tried again: whoever waits should know.
fn again(tell: Listener<'_>, e: &Error) {
    say(tell, &format!("{}; trying again", e.cause), 0.0, None);
}

fn broken(e: impl std::fmt::Display) -> Error {
    let remedy = "see that the service runs";
    Error::new(
        Code::Unreachable,
        format!("the connection broke: {e}"),
        remedy,
    )
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| {
        let remedy = "use the version of the program that the service is";
        Error::new(
            Code::Refused,
            format!("the answer can't be read ({e})"),
            remedy,
        )
    })
}

/// Reads a job's events to the last one, which says how it ended; where it stands is told again while nothing happens.
fn events(mut response: Response<Body>, tell: &mut dyn FnMut(&Value)) -> Result<Value> {
    let (mut name, mut last) = (String::new(), Value::Null);
    for line in BufReader::new(response.body_mut().as_reader().take(LONGEST)).lines() {
        let line = line.map_err(broken)?;
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.into();
        }
        let Some(data) = line.strip_prefix("data: ") else {
            if line.starts_with(':') && !last.is_null() {
                tell(&last);
            }
            continue;
        };
        let job: Value = serde_json::from_str(data).map_err(broken)?;
        match &*name {
            "done" | "failed" => return Ok(job),
            "progress" => {
                tell(&job);
                last = job;
            }
            _ => return Err(read(job)?),
        }
    }
    Err(broken("it ended early"))
}

/// Where a job stands, in words.
fn stands(job: &Value, tell: Listener<'_>) {
    let state = job["state"].as_str().unwrap_or_default();
    let duration = |v: &Value| polyveil::progress::duration(v.as_f64().unwrap_or_default());
    match state {
        "waiting" => {
            let text = match job["place"].as_u64() {
                Some(place) => format!(
                    "waiting, place {place}; a run takes about {}",
                    duration(&job["predicted_seconds"])
                ),
                None => "about to begin".into(),
            };
            say(tell, &text, 0.0, None);
        }
        "running" => {
            let left = &job["seconds_left"];
            let [step, steps] = ["step", "steps"].map(|n| job[n].as_u64().unwrap_or_default());
            let text = format!("step {step}/{steps}, about {} to go", duration(left));
            let share = step as f64 / steps.max(1) as f64;
            say(tell, &text, share.min(1.0), left.as_f64());
        }
        state => say(tell, state, 0.0, None),
    }
}
