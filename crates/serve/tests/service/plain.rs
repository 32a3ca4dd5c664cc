//! What needs no server: names, ranges, quotas, the queue, numbers, the description, and where tokens go.

use polyveil_serve::api::{OPENAPI, ROUTES, range};
use polyveil_serve::client::{Remote, Token, Transport};
use polyveil_serve::queue::{InProcess, Queue, Ticket};
use polyveil_serve::records::{
    Account, Keys, PART, Progress, Quotas, day, digest, expect_name, hex, ranges,
};
use polyveil_serve::watch::Metrics;

#[test]
fn ranges_lie_within_the_file() {
    assert_eq!(range("bytes=0-9", 100), Some((0, 10)));
    assert_eq!(range("bytes=90-", 100), Some((90, 100)));
    assert_eq!(range("bytes=-10", 100), Some((90, 100)));
    assert_eq!(range("bytes=90-200", 100), Some((90, 100)));
    for bad in [
        "bytes=100-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=a-",
        "bytes=0-18446744073709551615",
    ] {
        assert_eq!(range(bad, 100), None, "{bad}");
    }
}

/// Headers are read from whoever sends them: a million that are near to ranges.
#[test]
fn whatever_is_asked_for_lies_within_the_file() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let pieces = [
        "bytes=",
        "-",
        "0",
        "9",
        "99",
        "100",
        "18446744073709551615",
        ",",
        " ",
        "=",
        "é",
        "+1",
    ];
    let mut held = 0;
    for _ in 0..1_000_000 {
        let mut text = if next(4) == 0 { "" } else { "bytes=" }.to_string();
        (0..1 + next(4)).for_each(|_| text += pieces[next(pieces.len())]);
        if let Some((from, to)) = range(&text, 100) {
            assert!(from < to && to <= 100, "{text}");
            held += 1;
        }
    }
    assert!(held > 1000, "{held}");
}

#[test]
fn the_description_has_every_address_and_no_other() {
    let description: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
    let described = description["paths"].as_object().expect("paths");
    let mut had = Vec::new();
    for (path, item) in described {
        for method in item.as_object().expect("methods").keys() {
            had.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut routed = Vec::new();
    for (path, methods) in ROUTES {
        let paths = match path.strip_suffix("{of}") {
            Some(begin) => vec![format!("{begin}answer"), format!("{begin}events")],
            None => vec![path.to_string()],
        };
        for path in paths {
            routed.extend(methods.iter().map(|m| format!("{m} {path}")));
        }
    }
    had.sort();
    routed.sort();
    assert_eq!(had, routed);
}

#[test]
fn names_and_digests_are_plain() {
    for good in ["a", "resnet-20", "A.b_c", "0"] {
        expect_name("plan", good).expect("a name");
    }
    for bad in [
        "",
        "..",
        ".a",
        "-a",
        "a/b",
        "a b",
        "ä",
        &"a".repeat(65),
        "a\n",
    ] {
        expect_name("plan", bad).expect_err("no name");
    }
    let bytes = [0xab; 32];
    assert_eq!(digest(&hex(&bytes)), Some(bytes));
    for bad in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
        assert_eq!(digest(bad), None);
    }
}

/// Names and digests come from whoever asks: a million of them never lead out of their folder.
#[test]
fn whatever_is_taken_for_a_name_is_one() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let letters = [
        "a", "0", ".", "..", "/", "-", "_", "\0", "é", "%2e", "\\", "f",
    ];
    for _ in 0..1_000_000 {
        let text: String = (0..next(80))
            .map(|_| letters[next(letters.len())])
            .collect();
        if expect_name("it", &text).is_ok() {
            let path = std::path::Path::new(&text);
            assert_eq!(path.file_name().and_then(|n| n.to_str()), Some(&*text));
        }
        if let Some(bytes) = digest(&text) {
            assert_eq!(hex(&bytes), text);
        }
    }
}

#[test]
fn missing_parts_are_ranges() {
    let mut keys = Keys {
        account: "a".into(),
        digest: String::new(),
        plan: String::new(),
        plan_digest: String::new(),
        bytes: 6 * PART - 1,
        progress: Progress::Uploading {
            parts: [1, 4].into(),
        },
        used: 0.0,
        expires: 0.0,
    };
    assert_eq!(keys.missing(), "0,2-3,5");
    assert_eq!((keys.part_bytes(4), keys.part_bytes(5)), (PART, PART - 1));
    keys.progress = Progress::Ready { key: String::new() };
    assert_eq!(keys.missing(), "");
}

#[test]
fn a_new_day_counts_anew() {
    let mut account = Account {
        name: "a".into(),
        token: String::new(),
        quotas: Quotas {
            cpu_seconds: 10.0,
            ..Quotas::default()
        },
        day: day() - 1,
        used: 9.0,
    };
    assert_eq!(account.left(), 10.0);
    account.count(4.0);
    assert_eq!(account.left(), 6.0);
    account.count(-5.0);
    assert_eq!(account.left(), 10.0);
}

#[test]
fn first_come_first_served_until_it_is_closed() {
    let queue = InProcess::default();
    let ticket = |job: &str| Ticket {
        job: job.into(),
        keys: "k".into(),
    };
    for job in ["a", "b", "c"] {
        queue.put(ticket(job));
    }
    assert_eq!((queue.place("c"), queue.place("x")), (Some(2), None));
    assert!(queue.remove("b") && !queue.remove("b"));
    assert_eq!((queue.take(), queue.len()), (Some(ticket("a")), 1));
    queue.close();
    assert_eq!(queue.take(), None);
}

#[test]
fn numbers_are_written_with_their_labels() {
    let metrics = Metrics::default();
    metrics.add("jobs_total", &[("state", "done")], 2.0);
    metrics.add("jobs_total", &[("state", "done")], 1.0);
    metrics.add(
        "requests_total",
        &[("route", "/a\"b"), ("status", "200")],
        1.0,
    );
    metrics.set("key_sets", 4.0);
    let text = metrics.text();
    for line in [
        "# TYPE polyveil_jobs_total counter\npolyveil_jobs_total{state=\"done\"} 3\n",
        "polyveil_requests_total{route=\"/a\\\"b\",status=\"200\"} 1\n",
        "# TYPE polyveil_key_sets gauge\npolyveil_key_sets 4\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
}

#[test]
fn tokens_do_not_cross_networks_unprotected() {
    let token = || Token::new("pv_0123456789").expect("a token");
    for good in [
        "http://127.0.0.1:80",
        "http://localhost/",
        "http://[::1]:8080",
    ] {
        Remote::new(good, token(), Transport::Protected).expect(good);
    }
    for bad in [
        "http://example.org",
        "http://127.example.org",
        "http://127.0.0.1@example.org",
        "http://127.0.0.1:80@example.org",
        "ftp://localhost",
        "localhost:80",
        "http://10.0.0.1:8080",
    ] {
        Remote::new(bad, token(), Transport::Protected).expect_err(bad);
    }
    Remote::new("http://10.0.0.1", token(), Transport::AsItIs).expect("a tunnel");
    assert!(
        !format!(
            "{:?}",
            Remote::new("http://localhost", token(), Transport::Protected)
        )
        .contains("0123")
    );
    for bad in ["", "short", "two words 12345", "pv_ä123456789"] {
        Token::new(bad).expect_err(bad);
    }
}

#[test]
fn ranges_are_read() {
    assert_eq!(ranges("0-3,7"), [(0, 3), (7, 7)]);
    assert_eq!(ranges(""), []);
    assert_eq!(ranges("5-2,x,1"), [(1, 1)]);
}

#[test]
fn the_description_has_every_code() {
    let description: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
    let codes = &description["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
    let described = codes.as_array().expect("codes");
    for code in described {
        let code: polyveil_serve::Code = serde_json::from_value(code.clone()).expect("known");
        assert!(code.status().is_client_error() || code.status().is_server_error());
    }
    let source = include_str!("../../src/error.rs");
    let (names, _) = source.split_once("impl Code").expect("the list of codes");
    let names = names
        .lines()
        .filter(|l| l.starts_with("    ") && l.ends_with(',') && !l.contains("//"));
    assert_eq!(names.count(), described.len());
}
