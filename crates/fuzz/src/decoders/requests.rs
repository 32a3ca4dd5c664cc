//! Requests to a service of many clients, as clients may write them: method and address, a header a line, an empty line, a body.

use crate::bytes::{self, MOST};
use crate::decoder::{Decoder, Law, Outcome, Probe, law};
use crate::random::Random;
use crate::scratch::Scratch;
use crate::toy::{Toy, plans};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use polyveil_serve::operator::{self, NewQuotas, Security};
use polyveil_serve::records::{Job, State};
use polyveil_serve::{Service, api, book, engine, store, watch};
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Most bytes of an answer.
const ANSWER: usize = 1 << 22;
/// How long an answer may take; one without an end, which tells of a job that waits, is none that these requests get.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whose name and answer nobody may see; mutants can't have this name by chance.
const OTHER: &str = "eve-whose-name-is-never-said";
const OTHERS: &[u8] = b"eve's answer, which nobody else may see a byte of";
/// Ada's answer, which she asks for in ranges.
const OWN: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A service with a plan and two accounts; mutants come from one of them. Nothing is run: a job that is asked for waits until it is deleted.
struct Site {
    router: Router,
    service: Arc<Service>,
    runtime: Runtime,
    token: String,
    /// Keys that are there, and keys that were declared and are still to come.
    keys: [Vec<u8>; 2],
    /// Ada's job, which is done.
    job: Job,
    /// What stands for what in mutants: these differ from process to process.
    names: Vec<(&'static str, String)>,
    /// It holds the folder.
    _files: Scratch,
}

/// An answer.
type Said = (StatusCode, HeaderMap, Bytes);

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

impl Site {
    fn new(toy: &Toy) -> Self {
        let files = Scratch::new("requests");
        let root = files.path().join("data");
        let plan = toy.plan.plan().write(Vec::new(), "toy").expect("writes");
        let path = files.write("toy.plan", &plan);
        files.write("toy.client", &toy.client_file);
        let machine = polyveil::machine::Machine::default();
        operator::add_plan(&root, &path, "toy", Security::AnyForTests, &machine)
            .expect("published");
        let quotas = NewQuotas {
            cpu_seconds: Some(1e12),
            key_bytes: Some(4 * toy.keys.len() as u64),
            open_jobs: Some(64),
        };
        let token = operator::add_account(&root, "ada", quotas).expect("an account");
        let other = operator::add_account(&root, OTHER, quotas).expect("an account");
        let book = book::Book::open(&root.join(operator::BOOK)).map_err(|_| "a database");
        let capacity = engine::Capacity {
            memory: Some(1 << 30),
            runs: 1,
            machine,
            keys_stay: 1e9,
            answers_stay: 1e9,
        };
        let service = Service::open(
            Arc::new(book.expect("opened")),
            Arc::new(store::Store::open(&root).expect("a folder")),
            capacity,
            Arc::new(watch::Log::new(std::io::sink())),
        );
        let service = Arc::new(service.expect("opened"));
        let app = api::App {
            service: service.clone(),
            patience: api::Patience::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build();
        let mut pending = toy.keys.clone();
        if let Some(last) = pending.last_mut() {
            *last ^= 1;
        }
        let mut site = Self {
            router: api::router(app),
            service,
            runtime: runtime.expect("a thread"),
            token,
            keys: [toy.keys.clone(), pending],
            job: job("00000000000000000000000000000000", "ada", OWN),
            names: Vec::new(),
            _files: files,
        };
        let others = job("11111111111111111111111111111111", OTHER, OTHERS);
        site.put(&others, OTHERS);
        site.put(&site.job, OWN);
        site.names = vec![
            ("OTHERTOKEN", other),
            ("TOKEN", site.token.clone()),
            ("KEYS", digest(&site.keys[0])),
            ("PENDING", digest(&site.keys[1])),
            ("OTHERJOB", others.id),
            ("JOB", site.job.id.clone()),
        ];
        site.upload("TOKEN");
        site.upload("OTHERTOKEN");
        site.names.retain(|(name, _)| *name != "OTHERTOKEN");
        site.declare();
        site
    }

    /// A job that is done.
    fn put(&self, job: &Job, answer: &[u8]) {
        let kept = self.service.book().change(|c| c.put(&job.id, job));
        kept.expect("a record");
        let store = self.service.store();
        let put = store.put(store::Kind::Answers, &job.id, answer);
        put.expect("an answer");
    }

    fn expect(&self, text: &[u8], status: StatusCode) {
        let request = self.request(text).expect("a request");
        let (had, _, said) = self.send(request).expect("an answer");
        assert_eq!(had, status, "{}", String::from_utf8_lossy(&said));
    }

    /// An account sends the keys, whole.
    fn upload(&self, token: &str) {
        let size = self.keys[0].len();
        let head = |line: &str| {
            format!("{line}\nauthorization: Bearer {token}\npolyveil-digest: BODY\n\n")
        };
        let body = format!("{{\"plan\": \"toy\", \"digest\": \"KEYS\", \"bytes\": {size}}}");
        let body = self.named(body.as_bytes());
        let declared = [head("POST /v1/keys").into_bytes(), body].concat();
        self.expect(&declared, StatusCode::CREATED);
        let part = [head("PUT /v1/keys/KEYS/parts/0").as_bytes(), &self.keys[0]].concat();
        self.expect(&part, StatusCode::OK);
        self.expect(head("POST /v1/keys/KEYS/commit").as_bytes(), StatusCode::OK);
    }

    /// The other keys are still to come.
    fn declare(&self) {
        let head = |line: &str| format!("{line}\nauthorization: Bearer TOKEN\n\n");
        let request = self.request(head("DELETE /v1/keys/PENDING").as_bytes());
        let _ = self.send(request.expect("a request"));
        let size = self.keys[1].len();
        let body = format!("{{\"plan\": \"toy\", \"digest\": \"PENDING\", \"bytes\": {size}}}");
        let text = [
            head("POST /v1/keys").into_bytes(),
            self.named(body.as_bytes()),
        ]
        .concat();
        self.expect(&text, StatusCode::CREATED);
    }

    fn named(&self, text: &[u8]) -> Vec<u8> {
        let replace = |text: Vec<u8>, (name, value): &(&str, String)| {
            replaced(&text, name.as_bytes(), value.as_bytes())
        };
        self.names.iter().fold(text.to_vec(), replace)
    }

    /// None of what no client's library would send.
    fn request(&self, text: &[u8]) -> Option<Request<Body>> {
        let end = text.windows(2).position(|w| w == b"\n\n");
        let (head, body) = text.split_at(end.unwrap_or(text.len()));
        let body = body.get(2..).unwrap_or_default().to_vec();
        let head = replaced(&self.named(head), b"BODY", digest(&body).as_bytes());
        let mut lines = head.split(|b| *b == b'\n');
        let mut words = lines.next()?.splitn(2, |b| *b == b' ');
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
        *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
        for line in lines {
            let at = line.iter().position(|b| *b == b':')?;
            let name = HeaderName::from_bytes(&line[..at]).ok()?;
            let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }

    fn send(&self, request: Request<Body>) -> Result<Said, String> {
        let answered = async {
            let response = self.router.clone().oneshot(request).await;
            let (head, body) = response.unwrap_or_else(|never| match never {}).into_parts();
            let body = to_bytes(body, ANSWER).await.map_err(|e| e.to_string())?;
            Ok((head.status, head.headers, body))
        };
        let timed = async { tokio::time::timeout(PATIENCE, answered).await };
        (self.runtime.block_on(timed)).map_err(|_| "an answer without an end".to_string())?
    }

    fn check(&self, probe: &mut Probe<'_>) -> Outcome {
        let Some(request) = self.request(probe.bytes) else {
            return Ok(false);
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_string());
        let (status, headers, said) = probe.count(|_| self.send(request))?;
        for secret in [self.token.as_bytes(), OTHER.as_bytes(), OTHERS] {
            let head = headers.values().any(|v| has(v.as_bytes(), secret));
            law(
                !head && !has(&said, secret),
                "no answer holds a token or what is another's",
            )?;
        }
        if method == Method::HEAD {
            law(
                said.is_empty() && !status.is_server_error(),
                "nothing is said to HEAD",
            )?;
            return Ok(status.is_success());
        }
        if !status.is_success() {
            return refusal(status, &said).map(|()| false);
        }
        if let Some(range) = headers.get("content-range") {
            ranged(range, &said)?;
        }
        self.restore(&method, &path, status, &said)?;
        Ok(true)
    }

    /// Leaves the service as it was, and looks at what was changed.
    fn restore(&self, method: &Method, path: &str, status: StatusCode, said: &[u8]) -> Law {
        let state: Value = serde_json::from_slice(said).unwrap_or_default();
        let field = |name: &str| state[name].as_str().unwrap_or_default();
        let delete = |path: &str| -> Law {
            let text = format!("DELETE {path}\nauthorization: Bearer TOKEN\n\n");
            let request = self
                .request(text.as_bytes())
                .ok_or("an id that is no address")?;
            let (status, ..) = self.send(request)?;
            law(
                status == StatusCode::NO_CONTENT,
                "what was made can be deleted",
            )
        };
        let [there, pending] = self.keys.each_ref().map(|k| digest(k));
        if *method == Method::DELETE {
            match () {
                () if path.ends_with(&there) => self.upload("TOKEN"),
                () if path.ends_with(&pending) => self.declare(),
                () => self.put(&self.job, OWN),
            }
        } else if status == StatusCode::ACCEPTED {
            delete(&format!("/v1/jobs/{}", field("id")))?;
        } else if *method == Method::PUT {
            // one part is all: they are ready if and only if they are what was declared
            let text = "POST /v1/keys/PENDING/commit\nauthorization: Bearer TOKEN\n\n";
            let request = self.request(text.as_bytes()).ok_or("no request")?;
            let (status, ..) = self.send(request)?;
            let root = self.service.store().path(store::Kind::Keys, &pending);
            let kept = std::fs::read(root).ok();
            let right = match status {
                StatusCode::OK => kept.as_deref() == Some(&self.keys[1][..]),
                StatusCode::UNPROCESSABLE_ENTITY => kept.is_none(),
                _ => false,
            };
            law(
                right,
                "keys are ready when they are what was declared, and only then",
            )?;
            self.declare();
        } else if status == StatusCode::CREATED
            && ![&there, &pending].iter().any(|k| *k == field("digest"))
        {
            delete(&format!("/v1/keys/{}", field("digest")))?;
        }
        Ok(())
    }
}

fn job(id: &str, account: &str, answer: &[u8]) -> Job {
    Job {
        id: id.into(),
        account: account.into(),
        number: 0,
        plan: "toy".into(),
        plan_digest: String::new(),
        keys: String::new(),
        input: String::new(),
        idempotency: "done".into(),
        cpu_seconds: 1.0,
        seconds: 1.0,
        created: 0.0,
        state: State::Done {
            digest: digest(answer),
            bytes: answer.len() as u64,
            cpu_seconds: 1.0,
            expires: 1e12,
        },
    }
}

/// A range of an answer is that part of it; the client file's has the right length.
fn ranged(range: &HeaderValue, said: &[u8]) -> Law {
    let parse = |text: &str| -> Option<(usize, usize, usize)> {
        let (from, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
        let (to, whole) = rest.split_once('/')?;
        Some((from.parse().ok()?, to.parse().ok()?, whole.parse().ok()?))
    };
    let (from, to, whole) = (range.to_str().ok())
        .and_then(parse)
        .ok_or("a range that can't be read")?;
    law(
        from <= to && to < whole && to + 1 - from == said.len(),
        "a range is as long as it says",
    )?;
    law(
        whole != OWN.len() || said == &OWN[from..=to],
        "a range is that part of the answer",
    )
}

/// Every refusal has a code, a cause and a remedy, and none is the server's own fault.
fn refusal(status: StatusCode, said: &[u8]) -> Law {
    let text = || String::from_utf8_lossy(said).into_owned();
    if status.is_server_error() {
        return Err(format!("{status} for a request: {}", text()));
    }
    let error: Value =
        serde_json::from_slice(said).map_err(|e| format!("{status}: {e}: {}", text()))?;
    let said = |field: &str| error[field].as_str().is_some_and(|t| !t.is_empty());
    match ["code", "cause", "remedy"].into_iter().all(said) {
        true => Ok(()),
        false => Err(format!(
            "{status} without a code, a cause or a remedy: {}",
            text()
        )),
    }
}

fn has(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|w| w == part)
}

/// With another word for each of these.
fn replaced(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(word.len()).position(|w| w == word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by);
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}

const METHODS: &str = "GET HEAD POST PUT DELETE PATCH OPTIONS TRACE CONNECT get";
const ADDRESSES: &str = "/healthz /metrics /openapi.json /v1/account /v1/plans /v1/plans/toy /v1/plans/toy/client /v1/keys /v1/keys/KEYS
    /v1/keys/PENDING /v1/keys/KEYS/parts/0 /v1/keys/PENDING/parts/0 /v1/keys/PENDING/parts/4194304 /v1/keys/KEYS/commit /v1/keys/PENDING/commit
    /v1/jobs /v1/jobs/JOB /v1/jobs/JOB/answer /v1/jobs/JOB/events /v1/jobs/OTHERJOB /v1/jobs/OTHERJOB/answer /v1/jobs/OTHERJOB/events
    /v1/jobs/KEYS /v1/plans/%ff /v1/plans/..%2Ftoy /v1/keys/.. //v1 /v1/jobs?plan=toy&keys=KEYS /v1/jobs?plan=toy&keys=PENDING
    /v1/jobs?plan=%00&keys=KEYS&keys=0 /v1/jobs?plan=toy&plan=%ff&keys= * http://other/v1/jobs/JOB/answer";
/// A comma is a blank.
const HEADERS: &str = "authorization:Bearer,TOKEN authorization:bearer,TOKEN authorization:Basic,TOKEN authorization:TOKEN authorization:Bearer
    range:bytes=0-9 range:bytes=-1 range:bytes=-0 range:bytes=5-,7- range:bytes=9-5 range:bytes=18446744073709551615- range:bytes=0-18446744073709551615
    if-range:\"KEYS\" if-range:\"BODY\" content-length:0 content-length:18446744073709551616 content-length:99999999999 content-length:-1
    polyveil-digest:BODY polyveil-digest:KEYS idempotency-key:a idempotency-key:,b content-type:application/json transfer-encoding:chunked
    expect:100-continue";

/// Where the first line ends.
fn line(text: &[u8]) -> usize {
    text.iter().position(|b| *b == b'\n').unwrap_or(text.len())
}

/// One request of several, with other words, headers and bytes.
fn generate(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut text = r.pick(seeds).clone();
    for _ in 0..r.few() {
        match r.below(7) {
            0 => {
                let end = text.iter().position(|b| *b == b' ').unwrap_or(0);
                drop(text.splice(..end, r.word(METHODS)));
            }
            1 => {
                let from = text.iter().position(|b| *b == b' ').map_or(0, |at| at + 1);
                let to = line(&text).max(from);
                drop(text.splice(from..to, r.word(ADDRESSES)));
            }
            2 => {
                let word = r.word(HEADERS);
                let header = word.iter().map(|b| if *b == b',' { b' ' } else { *b });
                let header: Vec<u8> = [b'\n'].into_iter().chain(header).collect();
                let at = line(&text);
                bytes::insert(&mut text, at, &header);
            }
            3 => number(r, &mut text),
            4 | 5 => {
                // the body alone
                let at = text.windows(2).position(|w| w == b"\n\n");
                let mut body = text.split_off(at.map_or(text.len(), |at| at + 2));
                bytes::mutate(r, &mut body);
                text.append(&mut body);
            }
            _ => bytes::mutate(r, &mut text),
        }
    }
    text.truncate(MOST);
    text
}

/// Another number in the place of one of the head's.
fn number(r: &mut Random, text: &mut Vec<u8>) {
    let end = text
        .windows(2)
        .position(|w| w == b"\n\n")
        .unwrap_or(text.len());
    let starts =
        |i: &usize| text[*i].is_ascii_digit() && (*i == 0 || !text[i - 1].is_ascii_digit());
    let all: Vec<usize> = (0..end).filter(starts).collect();
    if all.is_empty() {
        return;
    }
    let from = *r.pick(&all);
    let digits = text[from..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let value = r.boundary().to_string();
    drop(text.splice(from..from + digits, value.into_bytes()));
}

/// An answer and a body at a time, and the database's pages.
fn limit(bytes: &[u8]) -> usize {
    (8 << 20) + 64 * bytes.len()
}

pub(super) fn all() -> Vec<Decoder> {
    let [plan, ..] = plans();
    let toy = Toy::of(plan, b"");
    let to = |line: &str, more: &str| {
        format!("{line}\nauthorization: Bearer TOKEN\n{more}\n").into_bytes()
    };
    let with = |head: Vec<u8>, body: &[u8]| [head, body.to_vec()].concat();
    let json = format!(
        "{{\"plan\": \"toy\", \"digest\": \"{}aa\", \"bytes\": {}}}",
        "0".repeat(62),
        toy.keys.len()
    );
    let asked = "idempotency-key: a\npolyveil-digest: BODY\n";
    let mut pending = toy.keys.clone();
    if let Some(last) = pending.last_mut() {
        *last ^= 1;
    }
    let seeds = vec![
        to("GET /v1/account", ""),
        to("GET /v1/plans/toy/client", "range: bytes=3-90\n"),
        to("HEAD /v1/keys/PENDING", ""),
        with(
            to("POST /v1/keys", "content-type: application/json\n"),
            json.as_bytes(),
        ),
        with(
            to("PUT /v1/keys/PENDING/parts/0", "polyveil-digest: BODY\n"),
            &pending,
        ),
        with(to("POST /v1/jobs?plan=toy&keys=KEYS", asked), &toy.input),
        to("GET /v1/jobs", ""),
        to("GET /v1/jobs/JOB/answer", "range: bytes=5-17\n"),
        to("GET /v1/jobs/JOB/events", ""),
        to("GET /v1/plans", ""),
    ];
    // the service is made when the first request comes: other decoders need none
    let site = OnceLock::new();
    let requests = Decoder::new("request", seeds)
        .within(limit)
        .mutants(generate)
        .decodes(move |probe| site.get_or_init(|| Site::new(&toy)).check(probe));
    vec![requests]
}
