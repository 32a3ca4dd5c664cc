//! What is too much, too slow, past its time or over a quota is refused with numbers, and the service goes on.

use crate::support::{Caller, Site, Toy, hash, longest_file, program, reply, request};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn ada(site: &Site, quotas: &str) -> Caller {
    Caller {
        address: site.address,
        token: site.account("ada", quotas),
    }
}

#[test]
fn bodies_that_are_too_long_are_refused_before_they_are_read() {
    let site = Site::new("bodies", Toy::Small, "");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    let most = 10_000_000_000u64;
    let head = |path: &str, length: &str| {
        let (token, digest) = (&ada.token, hash(b""));
        format!(
            "POST {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\npolyveil-digest: {digest}\r\nidempotency-key: x\r\n{length}"
        )
    };
    let jobs = format!("/v1/jobs?plan=toy&keys={keys}");
    for path in [&*jobs, "/v1/keys"] {
        let start = Instant::now();
        let said = request(
            site.address,
            &head(path, &format!("content-length: {most}")),
            &[],
        );
        said.refuses(413, "too_large");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let body = serde_json::json!({ "plan": "toy", "digest": hash(b"x"), "bytes": most });
    ada.call("POST", "/v1/keys", "", body.to_string().as_bytes())
        .refuses(413, "too_large");
    // one that does not say how long it is ends at the limit, too
    let mut stream = TcpStream::connect(site.address).expect("connects");
    let head = head(
        &jobs,
        "transfer-encoding: chunked\r\nhost: x\r\nconnection: close",
    );
    stream
        .write_all(format!("{head}\r\n\r\n").as_bytes())
        .expect("sends");
    let piece = [b"10000\r\n".to_vec(), vec![0; 1 << 16], b"\r\n".to_vec()].concat();
    let mut sent = 0u64;
    while stream.write_all(&piece).is_ok() {
        sent += 1 << 16;
        assert!(sent < 1 << 30, "it takes everything");
    }
    let left = std::fs::read_dir(site.folder.path("data/inputs")).expect("a folder");
    assert_eq!(left.count(), 0);
    // without a token nothing is read at all
    let none = request(
        site.address,
        &format!("POST {jobs} HTTP/1.1\r\ncontent-length: {most}"),
        &[],
    );
    none.refuses(401, "no_token");
    // headers have a limit
    let long = "a".repeat(200_000);
    let mut stream = TcpStream::connect(site.address).expect("connects");
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n").as_bytes());
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 431"),
        "{said}"
    );
    // addresses and methods that are none
    request(site.address, "GET /v2 HTTP/1.1", &[]).refuses(404, "not_found");
    ada.call("PUT", "/v1/jobs", "", b"x")
        .refuses(405, "wrong_method");
    // a method that is made up is said nowhere
    ada.call(&ada.token, "/v1/jobs", "", &[])
        .refuses(405, "wrong_method");
    let metrics = ada.get("/metrics").body;
    for all in [&metrics[..], site.said().as_bytes()] {
        assert!(!crate::support::has(all, ada.token.as_bytes()));
    }
    assert!(crate::support::has(&metrics, b"method=\"other\""));
    ada.get(&format!("/v1/jobs/{}/secrets", "0".repeat(32)))
        .refuses(404, "not_found");
    ada.get("/v1/keys/nonsense").refuses(400, "bad_request");
    ada.call("POST", "/v1/keys", "", b"nonsense")
        .refuses(400, "bad_request");
    assert_eq!(ada.get("/healthz").status, 200);
    assert_eq!(ada.get("/openapi.json").json()["openapi"], "3.1.0");
}

#[test]
fn slow_clients_end_and_too_many_are_refused() {
    let site = Site::new(
        "slow",
        Toy::Small,
        "--header 0.5 --idle 0.7 --connections 20",
    );
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    // a header that never ends, a byte at a time
    let mut stream = TcpStream::connect(site.address).expect("connects");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) && stream.write_all(b"G").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() < Duration::from_secs(4));
    // a body that stops
    let input = party.input([0.5; 4]);
    let (token, digest) = (&ada.token, hash(&input));
    let mut stream = TcpStream::connect(site.address).expect("connects");
    let head = format!(
        "POST /v1/jobs?plan=toy&keys={keys} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\npolyveil-digest: {digest}\r\nidempotency-key: x\r\ncontent-length: {}\r\n\r\n",
        input.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(&input[..100]).expect("sends");
    let start = Instant::now();
    reply(stream).refuses(408, "too_slow");
    assert!(start.elapsed() < Duration::from_secs(4));
    // connections that do nothing
    let mut open = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        open.extend(TcpStream::connect(site.address));
        if open.len() > 400 {
            open.pop_front();
        }
    }
    assert!(!site.said().contains("panicked"), "{}", site.said());
    let refused = reply(open.back().expect("some"));
    refused.refuses(503, "busy");
    // those that were let in end by themselves, and others get in
    let start = Instant::now();
    loop {
        let mut stream = TcpStream::connect(site.address).expect("connects");
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        if said.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn quotas_are_held_to() {
    let site = Site::new("quotas", Toy::Small, "");
    let one = std::fs::metadata(site.client("size").path)
        .expect("keys")
        .len();
    let ada = ada(
        &site,
        &format!("--key-bytes {}B --open-jobs 2", one + one / 2),
    );
    let party = site.client("ada");
    let other = site.client("other");
    let keys = ada.upload(&party.keys);
    let refused = ada.declare(&other.keys).refuses(429, "over_quota_keys");
    assert!(
        refused["cause"]
            .as_str()
            .is_some_and(|c| c.contains("are used"))
    );
    // room is there again once the first ones go
    assert_eq!(
        ada.call("DELETE", &format!("/v1/keys/{keys}"), "", &[])
            .status,
        204
    );
    ada.upload(&other.keys);
    assert_eq!(
        ada.call("DELETE", &format!("/v1/keys/{}", other.digest()), "", &[])
            .status,
        204
    );
    let keys = ada.upload(&party.keys);
    // CPU seconds are those that are predicted
    site.operate("account quota ada --cpu-seconds 0.000001");
    let input = party.input([0.5; 4]);
    let refused = ada.ask(&keys, "one", &input).refuses(429, "over_quota_cpu");
    assert!(
        refused["remedy"]
            .as_str()
            .is_some_and(|r| r.contains("tomorrow"))
    );
    site.operate("account quota ada --cpu-seconds 100");
    let job = ada.job(&keys, "one", &input);
    ada.answer(&job);
    let left = ada.get("/v1/account").json()["cpu_seconds_left_today"].as_f64();
    assert!(left.is_some_and(|l| l > 90.0 && l < 100.0), "{left:?}");
    // open jobs: none may be
    site.operate("account quota ada --open-jobs 0");
    ada.ask(&keys, "two", &input)
        .refuses(429, "over_quota_jobs");
    // what was asked for before is found all the same
    assert_eq!(ada.ask(&keys, "one", &input).json()["id"], *job);
}

#[test]
fn retired_plans_name_their_successor_and_finish_their_jobs() {
    let site = Site::new("retired", Toy::Small, "");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    let input = party.input([0.5; 4]);
    let job = ada.job(&keys, "one", &input);
    let plan = site.folder.path("toy.plan");
    site.operate(&format!("plan add {plan} --name toy-2 --insecure-toy"));
    site.operate("plan retire toy --successor toy-2");
    for refused in [
        ada.get("/v1/plans/toy"),
        ada.get("/v1/plans/toy/client"),
        ada.declare(&site.client("late").keys),
        ada.ask(&keys, "two", &input),
    ] {
        let refused = refused.refuses(410, "plan_retired");
        assert!(
            refused["remedy"]
                .as_str()
                .is_some_and(|r| r.contains("toy-2")),
            "{refused}"
        );
    }
    let plans = ada.get("/v1/plans").json();
    assert_eq!(
        (plans.as_array().map(Vec::len), &plans[0]["name"]),
        (Some(1), &"toy-2".into())
    );
    assert_eq!(party.class(&ada.answer(&job)), 0);
}

#[test]
fn keys_are_of_one_plan() {
    let site = Site::new("plans", Toy::Small, "");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    Toy::Large.compile(&site.folder, "large");
    site.operate(&format!(
        "plan add {} --insecure-toy",
        site.folder.path("large.plan")
    ));
    let input = party.input([0.5; 4]);
    let headers = format!(
        "polyveil-digest: {}\r\nidempotency-key: x\r\n",
        hash(&input)
    );
    let of = ada.call(
        "POST",
        &format!("/v1/jobs?plan=large&keys={keys}"),
        &headers,
        &input,
    );
    let refused = of.refuses(409, "keys_of_another_plan");
    assert!(
        refused["cause"]
            .as_str()
            .is_some_and(|c| c.contains(&keys) && c.contains("large"))
    );
    // keys of this plan's size and another's header
    let plan = ada.get("/v1/plans/large").json();
    let mut false_keys = party.keys.clone();
    false_keys.resize(plan["key_bytes"].as_u64().expect("a size") as usize, 0);
    let digest = hash(&false_keys);
    let body = serde_json::json!({ "plan": "large", "digest": digest, "bytes": false_keys.len() });
    assert_eq!(
        ada.call("POST", "/v1/keys", "", body.to_string().as_bytes())
            .status,
        201
    );
    ada.part(&digest, 0, &false_keys[..4 << 20])
        .refuses(409, "keys_of_another_plan");
}

#[test]
fn keys_that_are_not_used_and_answers_go_after_their_time() {
    // two seconds, and one
    let site = Site::new(
        "expiry",
        Toy::Small,
        "--key-days 0.0000232 --answer-days 0.0000116 --sweep 0.1",
    );
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    let input = party.input([0.5; 4]);
    let job = ada.job(&keys, "one", &input);
    ada.answer(&job);
    let start = Instant::now();
    let gone = |path: &str| {
        while ada.get(path).status != 404 {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    gone(&format!("/v1/jobs/{job}"));
    gone(&format!("/v1/keys/{keys}"));
    let refused = ada.ask(&keys, "two", &input).refuses(404, "no_such_keys");
    assert!(
        refused["cause"].as_str().is_some_and(|c| c.contains(&keys)),
        "{refused}"
    );
    let empty = |kind: &str| {
        let left = std::fs::read_dir(site.folder.path(&format!("data/{kind}"))).expect("a folder");
        left.count() == 0
    };
    while !(empty("keys") && empty("answers")) {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_half_is_kept() {
    let mut site = Site::new("full", Toy::Large, "");
    let ada = ada(&site, "");
    let party = site.client("ada");
    site.stop();
    // no file may be longer than three parts: as a disk that is full when the keys come
    let start = program(&format!(
        "start --data {} --listen {}",
        site.folder.path("data"),
        site.address
    ));
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -f 12288; exec \"$0\" \"$@\""]);
    limited.arg(start.get_program()).args(start.get_args());
    site.spawn(&mut limited);
    let digest = party.digest();
    assert_eq!(ada.declare(&party.keys).status, 201);
    let part = 4 << 20;
    let mut full = 0;
    for (i, bytes) in party.keys.chunks(part).enumerate() {
        let said = ada.part(&digest, i * part, bytes);
        if said.status != 200 {
            said.refuses(507, "disk_full");
            full += 1;
        }
    }
    assert!(full > 0, "{} bytes fit", party.keys.len());
    ada.commit(&digest).refuses(409, "keys_incomplete");
    // with room again, what was kept is still there
    site.stop();
    site.start("");
    let missing = ada
        .call("HEAD", &format!("/v1/keys/{digest}"), "", &[])
        .header("polyveil-missing");
    assert!(missing.is_some_and(|m| !m.is_empty() && !m.starts_with('0')));
    ada.upload(&party.keys);
}

#[test]
fn a_database_on_a_full_disk_is_whole_once_there_is_room_again() {
    let site = Site::new("full-book", Toy::Small, "");
    let ada = ada(&site, "--key-bytes 900GB");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    // the database can't grow, and what would be written to its end is refused
    longest_file(site.id(), Some(4096));
    let mut full = 0;
    for i in 0..30 {
        let mut other = party.keys.clone();
        other[300] = i;
        let said = ada.declare(&other);
        if said.status != 201 {
            said.refuses(507, "disk_full");
            full += 1;
        }
    }
    assert!(full > 0);
    longest_file(site.id(), None);
    let job = ada.ask(&keys, "one", &party.input([0.5; 4])).json();
    let answer = ada.answer(job["id"].as_str().expect("an id"));
    assert_eq!(party.class(&answer), 0);
}

#[test]
fn a_plan_that_needs_more_memory_than_there_is_is_refused_with_the_numbers() {
    let mut site = Site::new("memory", Toy::Small, "--max-memory 1MB");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let refused = ada.declare(&party.keys).refuses(503, "machine_too_small");
    assert!(
        refused["cause"]
            .as_str()
            .is_some_and(|c| c.contains("1.00 MB") || c.contains("1.0 MB")),
        "{refused}"
    );
    // with less than all keys take they stay on disk, and the answer is the same
    let plan = ada.get("/v1/plans/toy").json();
    let bytes = |name: &str| plan[name].as_u64().expect("bytes");
    let all = bytes("run_memory") + bytes("key_memory");
    let middle = (bytes("least_memory") + all) / 2;
    assert!(middle < all);
    site.stop();
    site.start(&format!("--max-memory {middle}B"));
    let keys = ada.upload(&party.keys);
    let job = ada.ask(&keys, "one", &party.input([0.5; 4])).json();
    let answer = ada.answer(job["id"].as_str().expect("an id"));
    assert_eq!(party.class(&answer), 0);
    assert!(site.said().contains("\"on_disk\":true"), "{}", site.said());
}

#[test]
fn requests_that_are_none_do_no_harm() {
    let site = Site::new("random", Toy::Small, "--header 1 --idle 1");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    let input = party.input([0.5; 4]);
    let job = ada.job(&keys, "one", &input);
    let answer = ada.answer(&job);
    let (token, digest) = (&ada.token, hash(&input));
    let requests = [
        format!(
            "POST /v1/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: 40\r\n\r\n{{\"plan\":\"toy\",\"digest\":\"0\",\"bytes\":9999}}"
        ),
        format!(
            "PUT /v1/keys/{keys}/parts/0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\npolyveil-digest: {digest}\r\nconnection: close\r\ncontent-length: 5\r\n\r\nPVEIL"
        ),
        format!(
            "POST /v1/jobs?plan=toy&keys={keys} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\npolyveil-digest: {digest}\r\nidempotency-key: y\r\nconnection: close\r\ncontent-length: 5\r\n\r\nPVEIL"
        ),
        format!(
            "GET /v1/jobs/{job}/answer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nrange: bytes=10-20\r\nconnection: close\r\n\r\n"
        ),
    ];
    let mut random = 88_172_645_463_325_252u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for i in 0..3000 {
        let mut bytes = requests[i % requests.len()].clone().into_bytes();
        for _ in 0..1 + next(4) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = next(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n:%/ \0a9"[next(9)]),
            }
        }
        let mut stream = TcpStream::connect(site.address).expect("connects");
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 500"), "{bytes:?}: {said:?}");
    }
    // all is as it was
    assert!(ada.answer(&job) == answer && !site.said().contains("panicked"));
    assert_eq!(ada.get("/v1/jobs").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn answers_come_by_ranges() {
    let site = Site::new("ranges", Toy::Small, "");
    let ada = ada(&site, "");
    let party = site.client("ada");
    let keys = ada.upload(&party.keys);
    let job = ada.ask(&keys, "one", &party.input([0.5; 4])).json()["id"]
        .as_str()
        .expect("an id")
        .to_string();
    let answer = ada.answer(&job);
    let path = format!("/v1/jobs/{job}/answer");
    let part = ada.call("GET", &path, "range: bytes=10-29\r\n", &[]);
    assert_eq!((part.status, &part.body[..]), (206, &answer[10..30]));
    let whole = format!("bytes 10-29/{}", answer.len());
    assert_eq!(part.header("content-range"), Some(whole));
    assert_eq!(part.header("etag"), Some(format!("\"{}\"", hash(&answer))));
    let tail = ada.call("GET", &path, "range: bytes=-7\r\n", &[]);
    assert_eq!(&tail.body[..], &answer[answer.len() - 7..]);
    let beyond = format!("range: bytes={}-\r\n", answer.len());
    ada.call("GET", &path, &beyond, &[])
        .refuses(416, "wrong_range");
    // of an answer that is another by now, all of it comes
    let other = ada.call(
        "GET",
        &path,
        "range: bytes=0-9\r\nif-range: \"other\"\r\n",
        &[],
    );
    assert_eq!((other.status, other.body.len()), (200, answer.len()));
    // a job that is done says so at once, as an event
    let events = ada.get(&format!("/v1/jobs/{job}/events"));
    let text = String::from_utf8(events.body).expect("text");
    assert!(
        text.starts_with("event: done\ndata: {") && text.ends_with("}\n\n"),
        "{text}"
    );
}
