//! The HTTP interface, version 1: `openapi.json` describes it, a test holds both together.

use crate::client::{DIGEST, IDEMPOTENCY};
use crate::engine::Stands;
use crate::error::{Code, Error, Result};
use crate::page::Page;
use crate::records::{Account, Job, Keys, PART, State, digest};
use crate::service::{Asked, Service, digest_missing, stopping};
use crate::store::Object;
use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequestParts, MatchedPath, Path, Query, Request, State as Of};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::{StreamExt, stream};
use polyveil::runtime::wire::container::HEADER_LEN;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;
use tokio::time::timeout;

/// Parts of keys that are missing, as ranges of numbers.
pub const MISSING: &str = "polyveil-missing";

/// All addresses and what they take.
pub const ROUTES: [(&str, &[Method]); 14] = [
    ("/healthz", &[Method::GET]),
    ("/metrics", &[Method::GET]),
    ("/openapi.json", &[Method::GET]),
    ("/v1/account", &[Method::GET]),
    ("/v1/plans", &[Method::GET]),
    ("/v1/plans/{plan}", &[Method::GET]),
    ("/v1/plans/{plan}/client", &[Method::GET]),
    ("/v1/keys", &[Method::GET, Method::POST]),
    (
        "/v1/keys/{digest}",
        &[Method::GET, Method::HEAD, Method::DELETE],
    ),
    ("/v1/keys/{digest}/parts/{offset}", &[Method::PUT]),
    ("/v1/keys/{digest}/commit", &[Method::POST]),
    ("/v1/jobs", &[Method::GET, Method::POST]),
    ("/v1/jobs/{job}", &[Method::GET, Method::DELETE]),
    ("/v1/jobs/{job}/{of}", &[Method::GET]),
];

/// The description of the interface.
pub const OPENAPI: &str = include_str!("openapi.json");

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a request's header.
    pub header: Duration,
    /// Without a byte, in either direction.
    pub idle: Duration,
    /// Bytes in a second that a body must come with at least, once `idle` has passed.
    pub rate: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            rate: 10_000,
        }
    }
}

/// What requests are answered from.
#[derive(Clone)]
pub struct App {
    /// The service.
    pub service: Arc<Service>,
    /// How long clients may take.
    pub patience: Patience,
    /// The page for browsers, if there is one.
    pub page: Option<Arc<Page>>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = json!({ "code": self.code, "cause": self.cause, "remedy": self.remedy });
        let mut response = (status, axum_json(&body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let with = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, with);
        }
        if self.passes() {
            let after = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

fn axum_json(value: &Value) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
}

fn answered(status: StatusCode, value: &Value) -> Response {
    (status, axum_json(value)).into_response()
}

/// The interface over a service.
pub fn router(app: App) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, (path, _)| {
        router.route(path, any(answer))
    });
    routes
        .fallback(elsewhere)
        .layer(from_fn_with_state(app.clone(), watched))
        .with_state(app)
}

/// What is no address of the interface: a file of the page, or nothing.
async fn elsewhere(Of(app): Of<App>, request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let page = app.page.as_ref();
    let file = page.and_then(|page| page.answer(method, path, request.headers()));
    file.unwrap_or_else(|| not_found().into_response())
}

fn not_found() -> Error {
    let remedy = "see /openapi.json for what there is";
    Error::new(Code::NotFound, "there is nothing of this address", remedy)
}

/// Counts and logs a request: its route, not its address, which has ids in it.
async fn watched(Of(app): Of<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_string(), |p| p.as_str().to_string());
    let mut response = next.run(request).await;
    let status = response.status();
    let (metrics, label) = (app.service.metrics(), status.as_u16().to_string());
    let labels = [("method", method), ("route", &*route), ("status", &*label)];
    metrics.add("requests_total", &labels, 1.0);
    let code = response.extensions_mut().remove::<Code>();
    if let Some(code) = code {
        let code = json!(code);
        metrics.add(
            "refusals_total",
            &[("code", code.as_str().unwrap_or_default())],
            1.0,
        );
    }
    let whose = response.extensions_mut().remove::<Whose>();
    app.service.log().say(
        "request",
        json!({ "method": method, "route": route, "status": status.as_u16(), "code": code,
            "account": whose.map(|w| w.0), "seconds": (start.elapsed().as_secs_f64() * 1e4).round() / 1e4 }),
    );
    response
}

/// A method's name for log and numbers. Whoever asks may make one up: there would be as many numbers, and what it holds is not ours to keep.
fn known(method: &Method) -> &'static str {
    let mut all = ROUTES.iter().flat_map(|r| r.1);
    let same = all.find(|m| *m == method);
    same.map_or("other", Method::as_str)
}

/// The account that asked, for the log.
#[derive(Clone)]
struct Whose(String);

async fn answer(Of(app): Of<App>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(path) = parts.extensions.get::<MatchedPath>().cloned() else {
        return not_found().into_response();
    };
    let names = Path::<HashMap<String, String>>::from_request_parts(&mut parts, &()).await;
    let names = names.map(|p| p.0).unwrap_or_default();
    let methods = ROUTES.iter().find(|r| r.0 == path.as_str()).map(|r| r.1);
    if !methods.is_some_and(|m| m.contains(&parts.method)) {
        let all = methods.unwrap_or_default().iter().map(Method::as_str);
        let all = all.collect::<Vec<_>>().join(", ");
        let cause = format!("this address takes {all}, and no other method");
        return Error::new(Code::WrongMethod, cause, "see /openapi.json").into_response();
    }
    let call = Call {
        app: &app,
        parts: &parts,
        names,
    };
    let open = match path.as_str() {
        "/healthz" => Some(call.health()),
        "/metrics" => Some(call.metrics()),
        "/openapi.json" => Some(answered(StatusCode::OK, &openapi())),
        _ => None,
    };
    if let Some(response) = open {
        return response;
    }
    let account = match block_in_place(|| call.account()) {
        Ok(account) => account,
        Err(e) => return e.into_response(),
    };
    let mut response = call
        .for_account(path.as_str(), &account, body)
        .await
        .unwrap_or_else(Error::into_response);
    response.extensions_mut().insert(Whose(account.name));
    response
}

fn openapi() -> Value {
    serde_json::from_str(OPENAPI).unwrap_or_default()
}

/// A request.
struct Call<'a> {
    app: &'a App,
    parts: &'a Parts,
    names: HashMap<String, String>,
}

impl Call<'_> {
    fn service(&self) -> &Service {
        &self.app.service
    }
    fn name(&self, of: &str) -> &str {
        self.names.get(of).map_or("", String::as_str)
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok())
    }

    fn health(&self) -> Response {
        match self.service().engine().is_stopping() {
            true => stopping().into_response(),
            false => answered(StatusCode::OK, &json!({ "status": "ok", "interface": 1 })),
        }
    }

    fn metrics(&self) -> Response {
        self.service().engine().count();
        let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
        (kind, self.service().metrics().text()).into_response()
    }

    fn account(&self) -> Result<Account> {
        let token = self.header("authorization").and_then(|h| {
            let (scheme, token) = h.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
        let token = token.ok_or_else(|| {
            let remedy = "send the header `Authorization: Bearer TOKEN`";
            Error::new(Code::NoToken, "the request has no token", remedy)
        })?;
        self.service().account(token)
    }

    async fn for_account(&self, path: &str, account: &Account, body: Body) -> Result<Response> {
        let (service, method) = (self.service(), &self.parts.method);
        let own = &*account.name;
        // files and the database are waited for here, requests of others meanwhile go on elsewhere
        let plain = || -> Result<Option<Response>> {
            Ok(Some(match (path, method.as_str()) {
                ("/v1/account", _) => answered(
                    StatusCode::OK,
                    &json!({ "name": own, "quotas": account.quotas, "cpu_seconds_left_today": account.left() }),
                ),
                ("/v1/plans", _) => answered(StatusCode::OK, &json!(service.plans()?)),
                ("/v1/plans/{plan}", _) => {
                    answered(StatusCode::OK, &json!(service.plan(self.name("plan"))?))
                }
                ("/v1/keys", "GET") => {
                    let all = service.all_keys(own)?;
                    answered(StatusCode::OK, &all.iter().map(keys_view).collect())
                }
                ("/v1/keys/{digest}", "DELETE") => {
                    service.delete_keys(own, self.digest_of_keys()?)?;
                    StatusCode::NO_CONTENT.into_response()
                }
                ("/v1/keys/{digest}", _) => {
                    with_missing(&service.keys(own, self.digest_of_keys()?)?, StatusCode::OK)
                }
                ("/v1/keys/{digest}/commit", _) => {
                    let keys = service.keys(own, self.digest_of_keys()?)?;
                    with_missing(&service.complete_keys(&keys)?, StatusCode::OK)
                }
                ("/v1/jobs", "GET") => {
                    let all = service.jobs(own)?;
                    answered(
                        StatusCode::OK,
                        &all.iter().map(|j| job_view(service, j)).collect(),
                    )
                }
                ("/v1/jobs/{job}", "DELETE") => {
                    service.delete_job(own, self.name("job"))?;
                    StatusCode::NO_CONTENT.into_response()
                }
                ("/v1/jobs/{job}", _) => {
                    let job = service.job(own, self.name("job"))?;
                    answered(StatusCode::OK, &job_view(service, &job))
                }
                ("/v1/plans/{plan}/client", _) => {
                    let file = service.client_file(self.name("plan"))?;
                    ranged(file, None, &self.parts.headers)?
                }
                ("/v1/jobs/{job}/{of}", _) if self.name("of") == "answer" => {
                    let job = service.job(own, self.name("job"))?;
                    let (file, digest) = service.answer(&job)?;
                    ranged(file, Some(&digest), &self.parts.headers)?
                }
                ("/v1/jobs/{job}/{of}", _) if self.name("of") == "events" => {
                    let job = service.job(own, self.name("job"))?;
                    events(self.app.clone(), job)
                }
                ("/v1/jobs/{job}/{of}", _) => return Err(not_found()),
                _ => return Ok(None),
            }))
        };
        if let Some(response) = block_in_place(plain)? {
            return Ok(response);
        }
        if service.engine().is_stopping() {
            return Err(stopping());
        }
        match path {
            "/v1/keys" => self.declare(account, body).await,
            "/v1/keys/{digest}/parts/{offset}" => self.part(account, body).await,
            "/v1/jobs" => self.ask(account, body).await,
            _ => Err(not_found()),
        }
    }

    fn digest_of_keys(&self) -> Result<&str> {
        let text = self.name("digest");
        match digest(text) {
            Some(_) => Ok(text),
            None => Err(Error::new(
                Code::BadRequest,
                "keys are named by 64 hexadecimal digits",
                "give the BLAKE3 digest of the file of evaluation keys",
            )),
        }
    }

    async fn declare(&self, account: &Account, body: Body) -> Result<Response> {
        let text = self.body(body, 4096)?.all().await?;
        let asked: Value = serde_json::from_slice(&text).map_err(|e| {
            let remedy = "send {\"plan\": NAME, \"digest\": BLAKE3, \"bytes\": N}";
            Error::new(
                Code::BadRequest,
                format!("the body is no JSON: {e}"),
                remedy,
            )
        })?;
        let text = |field: &str| asked[field].as_str().unwrap_or_default();
        let bytes = asked["bytes"].as_u64().unwrap_or_default();
        let keys = block_in_place(|| {
            self.service()
                .declare_keys(&account.name, text("plan"), text("digest"), bytes)
        })?;
        Ok(with_missing(&keys, StatusCode::CREATED))
    }

    async fn part(&self, account: &Account, body: Body) -> Result<Response> {
        let service = self.service();
        let said = self.header(DIGEST).filter(|d| digest(d).is_some());
        let said = said.ok_or_else(digest_missing)?;
        let offset: u64 = self.name("offset").parse().map_err(|_| {
            let remedy = "give the number of bytes before the part";
            Error::new(Code::BadRequest, "the offset is no number", remedy)
        })?;
        let (keys, held) = block_in_place(|| {
            let keys = service.keys(&account.name, self.digest_of_keys()?)?;
            let held = service.begin_part(&keys, offset)?;
            Ok::<_, Error>((keys, held))
        })?;
        let needed = keys.part_bytes(offset / PART);
        let bytes = self.body(body, needed)?.all().await?;
        if bytes.len() as u64 != needed {
            let cause = format!(
                "the part at {offset} has {needed} bytes, {} came",
                bytes.len()
            );
            return Err(Error::new(Code::Altered, cause, "send it whole"));
        }
        let keys = block_in_place(|| service.put_part(&keys, offset, said, &bytes))?;
        drop(held);
        Ok(with_missing(&keys, StatusCode::OK))
    }

    async fn ask(&self, account: &Account, body: Body) -> Result<Response> {
        let query = Query::<HashMap<String, String>>::try_from_uri(&self.parts.uri);
        let query = query.map(|q| q.0).unwrap_or_default();
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let [idempotency, input] =
            [IDEMPOTENCY, DIGEST].map(|h| self.header(h).unwrap_or_default());
        let names = (text("plan"), text("keys"));
        let asked = block_in_place(|| self.service().ask(account, names, (idempotency, input)))?;
        let job = match asked {
            Ok(job) => job,
            Err(asked) => self.input(&asked, body).await?,
        };
        let mut response = answered(StatusCode::ACCEPTED, &job_view(self.service(), &job));
        if let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id)) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    }

    /// Takes an input, on disk as it comes.
    async fn input(&self, asked: &Asked, body: Body) -> Result<Job> {
        let mut body = self.body(body, asked.most)?;
        let mut file = block_in_place(|| self.service().input(asked))?;
        let (mut head, mut hasher, mut count) = (Vec::new(), blake3::Hasher::new(), 0u64);
        while let Some(bytes) = body.next().await? {
            let missing = (HEADER_LEN as usize).saturating_sub(head.len());
            head.extend(bytes.iter().take(missing));
            hasher.update(&bytes);
            count += bytes.len() as u64;
            block_in_place(|| file.write_all(&bytes)).map_err(Error::io("the input"))?;
        }
        let had = (*hasher.finalize().as_bytes(), count);
        block_in_place(|| self.service().submit(asked, &head, had, file))
    }

    /// A body of at most so many bytes: refused by what it says of its length, before any of it is read.
    fn body(&self, body: Body, most: u64) -> Result<Incoming> {
        let said = self.header("content-length").and_then(|l| l.parse().ok());
        if said.is_some_and(|l: u64| l > most) {
            return Err(too_large(most));
        }
        Ok(Incoming {
            stream: body.into_data_stream(),
            most,
            had: 0,
            patience: self.app.patience,
            start: Instant::now(),
        })
    }
}

fn too_large(most: u64) -> Error {
    Error::new(
        Code::TooLarge,
        format!("the body may have {most} bytes"),
        "send what was made for this plan, and nothing else",
    )
}

/// A body that comes.
struct Incoming {
    stream: BodyDataStream,
    most: u64,
    had: u64,
    patience: Patience,
    start: Instant,
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let slow = || {
            let remedy = "send again over a faster connection";
            Error::new(Code::TooSlow, "the body came too slowly", remedy)
        };
        let next = timeout(self.patience.idle, self.stream.next());
        let Some(bytes) = next.await.map_err(|_| slow())? else {
            return Ok(None);
        };
        let bytes = bytes
            .map_err(|_| Error::new(Code::BadRequest, "the body broke off", "send it again"))?;
        self.had += bytes.len() as u64;
        if self.had > self.most {
            return Err(too_large(self.most));
        }
        let fair = self.patience.idle + Duration::from_secs(self.had / self.patience.rate.max(1));
        match self.start.elapsed() > fair {
            true => Err(slow()),
            false => Ok(Some(bytes)),
        }
    }
    async fn all(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

fn keys_view(keys: &Keys) -> Value {
    let mut view = json!(keys);
    view["part_bytes"] = PART.into();
    view["missing"] = keys.missing().into();
    if let Some(view) = view.as_object_mut() {
        view.remove("account");
        view.remove("parts");
    }
    view
}

/// Keys, and in the header what is missing of them: all that `HEAD` gives.
fn with_missing(keys: &Keys, status: StatusCode) -> Response {
    let mut response = answered(status, &keys_view(keys));
    // a list that is too long for a header is cut at a range: the rest is said when these are there
    let missing = keys.missing();
    let cut = match missing.len() > 2000 {
        true => missing[..2000].rfind(',').map_or("", |end| &missing[..end]),
        false => &missing,
    };
    if let Ok(value) = HeaderValue::from_str(cut) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(MISSING), value);
    }
    response
}

/// A job as its account sees it.
fn job_view(service: &Service, job: &Job) -> Value {
    let mut view = json!({
        "id": job.id, "plan": job.plan, "keys": job.keys, "input": job.input, "created": job.created,
        "predicted_seconds": job.seconds, "predicted_cpu_seconds": job.cpu_seconds,
    });
    match &job.state {
        State::Done {
            digest,
            bytes,
            cpu_seconds,
            expires,
        } => {
            view["state"] = "done".into();
            view["answer"] = json!({ "digest": digest, "bytes": bytes, "expires": expires });
            view["cpu_seconds"] = (*cpu_seconds).into();
        }
        State::Failed { error, expires } => {
            view["state"] = "failed".into();
            view["error"] = json!(error);
            view["expires"] = (*expires).into();
        }
        State::Open => {
            let stands = service.live(&job.id).map(|live| *live.watch().borrow());
            match stands {
                Some(Stands::Running { step, steps, left }) => {
                    view["state"] = "running".into();
                    view["step"] = step.into();
                    view["steps"] = steps.into();
                    view["seconds_left"] = left.into();
                }
                Some(Stands::Loading) => view["state"] = "loading".into(),
                _ => {
                    view["state"] = "waiting".into();
                    // 1 is the next one
                    view["place"] = service
                        .engine()
                        .queue()
                        .place(&job.id)
                        .map(|p| p + 1)
                        .into();
                }
            }
        }
    }
    view
}

/// Pause between two events of a job, at least, and between looks at its place.
const PAUSE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(1);
/// Looks without an event, after which a line says that the connection lives.
const QUIET: u32 = 10;

/// A job's progress as server-sent events, to its end.
fn events(app: App, job: Job) -> Response {
    let watch = app.service.live(&job.id).map(|live| live.watch());
    let begin = Some((app, job, watch, Value::Null));
    let stream = stream::unfold(begin, |state| async move {
        let (app, job, mut watch, last) = state?;
        if !last.is_null() {
            // progress is not told more often; an end is told at once
            let ended = async {
                match &mut watch {
                    Some(watch) => drop(watch.wait_for(|s| *s == Stands::Ended).await),
                    None => std::future::pending().await,
                }
            };
            let _ = timeout(PAUSE, ended).await;
        }
        let mut quiet = 0;
        loop {
            let kept = block_in_place(|| app.service.job(&job.account, &job.id));
            let kept = match kept {
                Ok(kept) => kept,
                Err(e) => return Some((event("gone", &json!(e)), None)),
            };
            let view = job_view(&app.service, &kept);
            match &kept.state {
                State::Done { .. } => return Some((event("done", &view), None)),
                State::Failed { .. } => return Some((event("failed", &view), None)),
                State::Open if app.service.engine().is_stopping() => {
                    return Some((event("stopping", &json!(stopping())), None));
                }
                State::Open if view != last => {
                    let next = Some((app, job, watch, view.clone()));
                    return Some((event("progress", &view), next));
                }
                State::Open => {}
            }
            let lost = match &mut watch {
                Some(watch) => matches!(timeout(LOOK, watch.changed()).await, Ok(Err(_))),
                None => {
                    tokio::time::sleep(LOOK).await;
                    false
                }
            };
            if lost {
                watch = None;
            }
            quiet += 1;
            if quiet % QUIET == 0 {
                let line = Ok::<_, std::io::Error>(Bytes::from_static(b": alive\n\n"));
                return Some((line, Some((app, job, watch, view))));
            }
        }
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (head, Body::from_stream(stream)).into_response()
}

fn event(name: &str, data: &Value) -> std::io::Result<Bytes> {
    Ok(format!("event: {name}\ndata: {data}\n\n").into())
}

/// Bytes of a file that are read at a time.
const PIECE: u64 = 256 << 10;

/// A file, or the range of it that is asked for.
fn ranged(file: Object, digest: Option<&str>, headers: &HeaderMap) -> Result<Response> {
    let length = file.length();
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let tag = digest.map(|d| format!("\"{d}\""));
    // a range of what it was before is no range of what it is now
    let same = text(header::IF_RANGE).is_none_or(|r| tag.as_deref() == Some(r));
    let asked = text(header::RANGE)
        .filter(|_| same)
        .map(|r| range(r, length));
    let (from, to, status) = match asked {
        None => (0, length, StatusCode::OK),
        Some(Some((from, to))) => (from, to, StatusCode::PARTIAL_CONTENT),
        Some(None) => {
            let remedy = "ask for one range of bytes that begins in it, as `bytes=0-99`";
            let cause = format!("there are {length} bytes, and no such range of them");
            return Err(Error::new(Code::WrongRange, cause, remedy));
        }
    };
    let file = file.part(from..to)?;
    let stream = stream::unfold(Some((file, to - from)), |state| async move {
        let (mut file, left) = state?;
        if left == 0 {
            return None;
        }
        let mut piece = vec![0; left.min(PIECE) as usize];
        let read = block_in_place(|| file.read_exact(&mut piece));
        let next = read.is_ok().then(|| (file, left - piece.len() as u64));
        Some((read.map(|()| Bytes::from(piece)), next))
    });
    let mut response = (status, Body::from_stream(stream)).into_response();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, "application/octet-stream".into());
    put(header::CONTENT_LENGTH, (to - from).to_string());
    put(header::ACCEPT_RANGES, "bytes".into());
    if let Some(tag) = tag {
        put(header::ETAG, tag);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        put(
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{length}", to - 1),
        );
    }
    Ok(response)
}

/// The range of a file of so many bytes that a header asks for; none of what is no such range.
pub fn range(text: &str, length: u64) -> Option<(u64, u64)> {
    let (from, to) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (length.saturating_sub(last.parse().ok()?), length),
        (from, "") => (from.parse().ok()?, length),
        (from, to) => {
            let to: u64 = to.parse().ok()?;
            (from.parse().ok()?, to.checked_add(1)?.min(length))
        }
    };
    (from < to && to <= length).then_some((from, to))
}
