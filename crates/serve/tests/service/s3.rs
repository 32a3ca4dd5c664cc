//! Keys and answers in a bucket: a stand-in for S3 on this machine, which checks signatures, breaks connections and can be shut.

use crate::support::{Caller, Site, Toy, has, hash, program, refused};
use graviola::hashing::hmac::Hmac;
use graviola::hashing::{Hash, Sha256};
use polyveil_serve::client::{PublicKeys, Remote, Token, Transport};
use polyveil_serve::records::hex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where a bucket says whose it is.
const OWNER: &str = "site/service";

const SECRET: &str = "wJalrXUtnFEMI";

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<usize, Vec<u8>>>,
    /// Requests so far; one in so many breaks off, if not zero.
    count: AtomicUsize,
    breaks: AtomicUsize,
    shut: AtomicBool,
}

/// The stand-in.
struct Bucket {
    address: SocketAddr,
    state: Arc<State>,
}

/// A request as it came.
struct Asked {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Asked {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pairs = query.split('&').filter(|p| !p.is_empty());
        let query = pairs.map(|p| p.split_once('=').unwrap_or((p, "")));
        let query = query.map(|(k, v)| (k.into(), v.into())).collect();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
        }
        let length = headers
            .get("content-length")
            .map_or(Some(0), |l| l.parse().ok())?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            method,
            path: path.into(),
            query,
            headers,
            body,
        })
    }

    /// Signature version 4, computed from what came.
    fn is_signed(&self) -> bool {
        let header = |name: &str| self.headers.get(name).cloned().unwrap_or_default();
        let authorization = header("authorization");
        let field = |name: &str| -> String {
            let from = authorization.find(name).map_or(0, |at| at + name.len());
            authorization[from..]
                .split(',')
                .next()
                .unwrap_or_default()
                .trim()
                .into()
        };
        let (signed, scope) = (field("SignedHeaders="), field("Credential=ada/"));
        let mut canonical = format!("{}\n{}\n", self.method, self.path);
        let query: Vec<String> = self.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let _ = writeln!(canonical, "{}", query.join("&"));
        for name in signed.split(';') {
            let _ = writeln!(canonical, "{name}:{}", header(name));
        }
        let digest = hex(Sha256::hash(&self.body).as_ref());
        let _ = write!(canonical, "\n{signed}\n{digest}");
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            header("x-amz-date"),
            hex(Sha256::hash(canonical.as_bytes()).as_ref())
        );
        let mut key = format!("AWS4{SECRET}").into_bytes();
        for part in scope.split('/').chain([&*text]) {
            let mut hmac = Hmac::<Sha256>::new(&key);
            hmac.update(part);
            key = hmac.finish().as_ref().to_vec();
        }
        header("x-amz-content-sha256") == digest && field("Signature=") == hex(&key)
    }
}

impl Bucket {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("an address");
        let state: Arc<State> = Arc::default();
        let own = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                std::thread::spawn(move || answer(&stream, &own));
            }
        });
        Self { address, state }
    }

    /// A server's settings for it.
    fn settings(&self, command: &mut Command) {
        command
            .env("AWS_ACCESS_KEY_ID", "ada")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ENDPOINT", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true");
    }

    fn names(&self) -> Vec<String> {
        let objects = self.state.objects.lock().expect("no panic");
        objects.keys().cloned().collect()
    }
}

fn answer(mut stream: &TcpStream, state: &State) {
    let Some(asked) = Asked::read(stream) else {
        return;
    };
    let count = state.count.fetch_add(1, Ordering::SeqCst) + 1;
    let breaks = state.breaks.load(Ordering::SeqCst);
    let (status, headers, body) = match () {
        () if state.shut.load(Ordering::SeqCst) || !asked.is_signed() => (
            "403 Forbidden",
            String::new(),
            b"<Error><Code>AccessDenied</Code></Error>".to_vec(),
        ),
        () => carry_out(&asked, state),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\nlast-modified: Tue, 01 Dec 2026 00:00:00 GMT\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    let mut all = head.into_bytes();
    if asked.method != "HEAD" {
        all.extend(body);
    }
    // in the middle of an answer, after the work was done
    if breaks > 0 && count % breaks == 0 {
        all.truncate(all.len() / 2);
    }
    let _ = stream.write_all(&all);
}

fn carry_out(asked: &Asked, state: &State) -> (&'static str, String, Vec<u8>) {
    let mut objects = state.objects.lock().expect("no panic");
    let mut parts = state.parts.lock().expect("no panic");
    let name = asked
        .path
        .trim_start_matches("/pail")
        .trim_start_matches('/')
        .to_string();
    let tag = format!("etag: \"{}\"\r\n", hash(&asked.body));
    let has = |name: &str| asked.query.contains_key(name);
    let ok = "200 OK";
    match &*asked.method {
        "PUT" if has("partNumber") => {
            let number = asked.query["partNumber"].parse().expect("a number");
            parts.insert(number, asked.body.clone());
            (ok, tag, vec![])
        }
        "PUT" => {
            objects.insert(name, asked.body.clone());
            (ok, tag, vec![])
        }
        "POST" if has("uploads") => {
            parts.clear();
            let text = "<InitiateMultipartUploadResult><Bucket>pail</Bucket><Key>k</Key><UploadId>1</UploadId></InitiateMultipartUploadResult>";
            (ok, String::new(), text.into())
        }
        "POST" => {
            // the parts that are named, each as it came
            let named = String::from_utf8(asked.body.clone()).expect("XML");
            for part in parts.values() {
                assert!(named.contains(&hash(part)), "{named}");
            }
            objects.insert(name, parts.values().flatten().copied().collect());
            let text = "<CompleteMultipartUploadResult><Location>l</Location><Bucket>pail</Bucket><Key>k</Key><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
            (ok, String::new(), text.into())
        }
        "DELETE" => {
            objects.remove(&name);
            ("204 No Content", String::new(), vec![])
        }
        "GET" if has("list-type") => {
            let prefix = asked.query["prefix"].replace("%2F", "/");
            let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
            for (name, bytes) in objects.iter().filter(|(n, _)| n.starts_with(&prefix)) {
                let _ = write!(
                    text,
                    "<Contents><Key>{name}</Key><LastModified>2026-12-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{}</Size></Contents>",
                    bytes.len()
                );
            }
            text.push_str("</ListBucketResult>");
            (ok, String::new(), text.into())
        }
        // GET and HEAD
        _ => {
            let Some(bytes) = objects.get(&name) else {
                return (
                    "404 Not Found",
                    String::new(),
                    b"<Error><Code>NoSuchKey</Code></Error>".to_vec(),
                );
            };
            let range = asked
                .headers
                .get("range")
                .and_then(|r| polyveil_serve::api::range(r, bytes.len() as u64));
            match range {
                None => (ok, "etag: \"e\"\r\n".into(), bytes.clone()),
                Some((from, to)) => {
                    let said = format!(
                        "etag: \"e\"\r\ncontent-range: bytes {from}-{}/{}\r\n",
                        to - 1,
                        bytes.len()
                    );
                    (
                        "206 Partial Content",
                        said,
                        bytes[from as usize..to as usize].to_vec(),
                    )
                }
            }
        }
    }
}

/// A site whose server keeps keys and answers in the stand-in.
fn site(name: &str, toy: Toy, bucket: &Bucket, options: &str) -> Site {
    let mut site = Site::new(name, toy, "");
    site.stop();
    start(&mut site, bucket, options);
    site
}

fn start(site: &mut Site, bucket: &Bucket, options: &str) {
    let data = site.folder.path("data");
    let mut command = program(&format!(
        "start --data {data} --listen {} --bucket s3://pail/site {options}",
        site.address
    ));
    bucket.settings(&mut command);
    site.spawn(&mut command);
}

fn ada(site: &Site) -> Caller {
    Caller {
        address: site.address,
        token: site.account("ada", ""),
    }
}

fn count(site: &Site, kind: &str) -> usize {
    let there = std::fs::read_dir(site.folder.path(&format!("data/{kind}")));
    there.expect("a folder").count()
}

#[test]
fn keys_and_answers_lie_in_the_bucket_over_connections_that_break() {
    let bucket = Bucket::new();
    bucket.state.breaks.store(4, Ordering::SeqCst);
    let mut site = site("bucket", Toy::Large, &bucket, "");
    let (ada, party) = (ada(&site), site.client("ada"));
    assert!(party.keys.len() > 8 << 20);
    // the honest client, which waits while keys go on to the bucket
    let token = Token::new(&ada.token).expect("a token");
    let remote = Remote::new(&site.url(), token, Transport::Protected).expect("loopback");
    let public = PublicKeys::open(party.path.as_ref()).expect("keys");
    remote.upload("toy", &public, &mut |_| {}).expect("uploads");
    let keys = party.digest();
    let input = party.input([1.0, 0.5, 0.25, 0.75]);
    let job = ada.job(&keys, "one", &input);
    let done = remote.wait(&job, &mut |_| {}).expect("an answer");
    let mut answer = Vec::new();
    remote
        .answer(&done, &mut answer, &mut |_| {})
        .expect("fetches");
    assert_eq!(party.class(&answer), 0);
    // there, whole, and nowhere else
    let [there, answered] = [format!("site/keys/{keys}"), format!("site/answers/{job}")];
    assert_eq!(
        bucket.names(),
        [answered.clone(), there.clone(), OWNER.into()]
    );
    let objects = bucket.state.objects.lock().expect("no panic").clone();
    assert!(objects[&there] == party.keys && objects[&answered] == answer);
    for kind in ["keys", "answers", "uploads", "inputs", "checkpoints"] {
        assert_eq!(count(&site, kind), 0, "{kind}");
    }
    // ranges are fetched as they are asked for
    let part = ada.call(
        "GET",
        &format!("/v1/jobs/{job}/answer"),
        "range: bytes=10-29\r\n",
        &[],
    );
    assert_eq!((part.status, &part.body[..]), (206, &answer[10..30]));
    // after a restart they are still there, and with less memory than all keys take a copy is read from disk, which nobody sees
    let plan = ada.get("/v1/plans/toy").json();
    let bytes = |name: &str| plan[name].as_u64().expect("bytes");
    let middle = (bytes("least_memory") + bytes("run_memory") + bytes("key_memory")) / 2;
    site.stop();
    start(&mut site, &bucket, &format!("--max-memory {middle}B"));
    let again = ada.job(&keys, "two", &input);
    remote.wait(&again, &mut |_| {}).expect("an answer");
    assert!(ada.answer(&again) == answer);
    assert!(site.said().contains("\"on_disk\":true"), "{}", site.said());
    assert_eq!(count(&site, "uploads"), 0);
    // what goes, goes from the bucket, and what has no record is swept; what has another's name or place stays
    let stray = format!("site/keys/{}", "0".repeat(64));
    let others = [
        "elsewhere/keys/x".to_string(),
        "site/keys/read.me".to_string(),
    ];
    for name in [&stray].into_iter().chain(&others) {
        let mut objects = bucket.state.objects.lock().expect("no panic");
        objects.insert(name.clone(), vec![1]);
    }
    for job in [&job, &again] {
        let gone = ada.call("DELETE", &format!("/v1/jobs/{job}"), "", &[]);
        assert_eq!(gone.status, 204);
    }
    let gone = ada.call("DELETE", &format!("/v1/keys/{keys}"), "", &[]);
    assert_eq!(gone.status, 204);
    let [elsewhere, own] = others;
    assert_eq!(bucket.names(), [elsewhere, own, OWNER.into()]);
    assert!(!has(site.said().as_bytes(), SECRET.as_bytes()));
}

#[test]
fn a_bucket_that_is_shut_is_said() {
    let bucket = Bucket::new();
    let mut site = site("shut", Toy::Small, &bucket, "");
    let (ada, party) = (ada(&site), site.client("ada"));
    let keys = ada.upload(&party.keys);
    let job = ada.job(&keys, "one", &party.input([0.5; 4]));
    let answer = ada.answer(&job);
    bucket.state.shut.store(true, Ordering::SeqCst);
    let shut = ada
        .get(&format!("/v1/jobs/{job}/answer"))
        .refuses(503, "busy");
    assert!(
        shut["cause"].as_str().is_some_and(|c| c.contains("bucket")),
        "{shut}"
    );
    // a job waits for it, and whoever deletes one that waits so is heard
    let waits = ada.job(&keys, "two", &party.input([0.25; 4]));
    site.hears("\"storage_awaited\"", 1);
    let deleted = ada.job(&keys, "three", &party.input([0.25; 4]));
    let gone = ada.call("DELETE", &format!("/v1/jobs/{deleted}"), "", &[]);
    assert_eq!(gone.status, 204);
    // keys that can't be put there are still to be completed
    let other = site.client("other");
    let digest = other.digest();
    assert_eq!(ada.declare(&other.keys).status, 201);
    assert_eq!(ada.part(&digest, 0, &other.keys).status, 200);
    ada.commit(&digest).refuses(503, "busy");
    bucket.state.shut.store(false, Ordering::SeqCst);
    assert_eq!(ada.commit(&digest).status, 200);
    assert!(ada.get(&format!("/v1/jobs/{job}/answer")).body == answer);
    assert_eq!(party.class(&ada.answer(&waits)), 0);
    assert!(!site.said().contains("\"job_failed\""), "{}", site.said());

    // a server is not started on what it can't use
    site.stop();
    let data = site.folder.path("data");
    let line = format!("start --data {data} --listen 127.0.0.1:0 --bucket");
    refused(
        &format!("{line} pail"),
        &["no address of a bucket", "s3://NAME"],
    );
    bucket.state.shut.store(true, Ordering::SeqCst);
    let mut command = program(&format!("{line} s3://pail/site"));
    bucket.settings(&mut command);
    let out = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("its rights"),
        "{said}"
    );
}

/// Runs with the bucket's settings, expects a refusal with these words.
fn refuses(bucket: &Bucket, line: &str, words: &[&str]) {
    let mut command = program(line);
    bucket.settings(&mut command);
    let out = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
}

#[test]
fn a_bucket_and_a_folder_belong_to_each_other() {
    let bucket = Bucket::new();
    let mut first = site("mine", Toy::Small, &bucket, "");
    let (ada, party) = (ada(&first), first.client("ada"));
    let keys = ada.upload(&party.keys);
    first.stop();
    let own = format!(
        "start --data {} --listen 127.0.0.1:0",
        first.folder.path("data")
    );
    // without it, or with another, keys that are there would not be found
    refuses(
        &bucket,
        &own,
        &["lie in s3://pail/site", "name that bucket"],
    );
    refuses(
        &bucket,
        &format!("{own} --bucket s3://pail/other"),
        &["lie in s3://pail/site, not in s3://pail/other"],
    );
    // two services would sweep each other's
    let mut second = Site::new("theirs", Toy::Small, "");
    let (eve, other) = (self::ada(&second), second.client("eve"));
    eve.upload(&other.keys);
    second.stop();
    let theirs = format!(
        "start --data {} --listen 127.0.0.1:0 --bucket",
        second.folder.path("data")
    );
    refuses(
        &bucket,
        &format!("{theirs} s3://pail/new"),
        &["already", "nothing is moved"],
    );
    let kept = second.folder.path("data/keys");
    std::fs::remove_dir_all(&kept).expect("goes");
    refuses(
        &bucket,
        &format!("{theirs} s3://pail/site"),
        &["another service", "of its own"],
    );
    assert_eq!(bucket.names(), [format!("site/keys/{keys}"), OWNER.into()]);
    // its own takes it again, and a mark that was lost is set again
    bucket.state.objects.lock().expect("no panic").remove(OWNER);
    start(&mut first, &bucket, "");
    assert_eq!(bucket.names(), [format!("site/keys/{keys}"), OWNER.into()]);
    let job = ada.job(&keys, "one", &party.input([0.5; 4]));
    assert_eq!(party.class(&ada.answer(&job)), 0);
}
