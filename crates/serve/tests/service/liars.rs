//! Services that say what is not so: a client neither fills its memory nor goes on for ever.

use crate::support::{Site, Toy};
use polyveil_serve::Code;
use polyveil_serve::client::{PublicKeys, Remote, Token, Transport};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers every request by its method and path, and counts the bytes of bodies that were sent to it.
fn liar(answer: fn(&str, &str) -> (u16, Value)) -> (Remote, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.expect("connects"), count.clone());
            std::thread::spawn(move || {
                let mut input = BufReader::new(stream.try_clone().expect("a handle"));
                loop {
                    let (mut first, mut length) = (String::new(), 0);
                    loop {
                        let mut line = String::new();
                        if input.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.trim_end().to_ascii_lowercase();
                        if let Some(n) = line.strip_prefix("content-length: ") {
                            length = n.parse().expect("a number");
                        }
                        if line == "expect: 100-continue" {
                            stream
                                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                                .expect("open");
                        }
                        match line.is_empty() {
                            true => break,
                            false if first.is_empty() => first = line,
                            false => {}
                        }
                    }
                    let read = std::io::copy(&mut (&mut input).take(length), &mut std::io::sink());
                    count.fetch_add(read.expect("a body") as usize, Ordering::SeqCst);
                    let mut words = first.split(' ');
                    let (method, path) = (words.next(), words.next());
                    let (status, body) = answer(method.unwrap_or(""), path.unwrap_or(""));
                    let body = body.to_string();
                    let all = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(all.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let token = Token::new("a_token_of_nobody").expect("a token");
    let remote = Remote::new(&format!("http://{address}"), token, Transport::Protected);
    (remote.expect("loopback"), sent)
}

#[test]
fn a_client_file_longer_than_memory_is_not_fetched() {
    let site = Site::new("long", Toy::Small, "");
    let token = site.account("ada", "");
    let url = format!("http://{}", site.address);
    let token = Token::new(&token).expect("a token");
    let honest = Remote::new(&url, token, Transport::Protected).expect("loopback");
    let mut plan = honest.plan("toy").expect("there");
    honest.client_file(&plan).expect("honest");
    plan.client_bytes = 1 << 60;
    // it has no such answer: what it says is enough
    let (remote, _) = liar(|_, _| (500, json!({})));
    let refused = remote.client_file(&plan).expect_err("too long");
    assert_eq!(refused.code, Code::TooLarge, "{refused}");
    assert!(refused.cause.contains("client file of toy"), "{refused}");
}

#[test]
fn keys_that_are_never_there_are_sent_so_often_and_no_more() {
    let site = Site::new("never", Toy::Small, "");
    let party = site.client("ada");
    let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
    for missing in ["0-18446744073709551615", "0,0-3,7-7,0-99", ""] {
        let (remote, sent) = match missing {
            "" => liar(|_, _| (200, json!({ "state": "incomplete", "missing": "" }))),
            "0,0-3,7-7,0-99" => liar(|_, _| {
                (
                    200,
                    json!({ "state": "incomplete", "missing": "0,0-3,7-7,0-99" }),
                )
            }),
            _ => liar(|_, _| {
                let all = "0-18446744073709551615";
                (200, json!({ "state": "incomplete", "missing": all }))
            }),
        };
        let refused = remote.upload("toy", &keys, &mut |_| {});
        let refused = refused.expect_err("never ready");
        assert_eq!(refused.code, Code::KeysIncomplete, "{refused}");
        let sent = sent.load(Ordering::SeqCst);
        let most = 16 * (party.keys.len() + 100) + 1000;
        assert!(sent <= most, "{sent} bytes of {most}");
        assert!(missing.is_empty() || sent >= party.keys.len(), "{sent}");
    }
}
