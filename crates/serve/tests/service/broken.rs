//! Connections that break at any byte: what was sent stays sent, and what is fetched goes on.

use crate::proxy::Proxy;
use crate::support::{Party, Site, Toy, has};
use polyveil_serve::client::{EncryptedInput, PublicKeys, Remote, Token, Transport};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

fn remote(proxy: &Proxy, token: &str) -> Remote {
    let url = format!("http://{}", proxy.address);
    let token = Token::new(token).expect("a token");
    Remote::new(&url, token, Transport::Protected).expect("loopback")
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    let site = Site::new("upload", Toy::Large, "");
    let token = site.account("ada", "");
    let party = site.client("ada");
    let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
    assert!(
        party.keys.len() > 2 * (4 << 20) + 1000,
        "{}",
        party.keys.len()
    );
    // further each time: in a request's header, in a part, between parts, in an answer
    let cuts = [
        (0, 9),
        (90, 99),
        (500, 9999),
        (70_000, 9999),
        (5_000_000, 40),
        (4_300_000, 400),
        (99_999_999, 700),
    ];
    let proxy = Proxy::new(site.address, move |i| {
        cuts.get(i)
            .copied()
            .unwrap_or((4_500_000 + 100_000 * i, usize::MAX))
    });
    let remote = remote(&proxy, &token);
    remote
        .upload("toy", &keys, &mut |_| {})
        .expect("in the end");
    assert!(proxy.count.load(Ordering::SeqCst) > cuts.len());
    // parts that were there were not sent again
    let sent = proxy.sent.lock().expect("no panic").len();
    assert!(
        sent < 4 * party.keys.len(),
        "{sent} of {}",
        party.keys.len()
    );
    let state = remote.upload("toy", &keys, &mut |_| {}).expect("there");
    assert_eq!(state["state"], "ready");
}

#[test]
fn an_answer_goes_on_where_it_broke() {
    let site = Site::new("answer", Toy::Large, "");
    let token = site.account("ada", "");
    let party = site.client("ada");
    let whole = Proxy::new(site.address, |_| (usize::MAX, usize::MAX));
    let direct = remote(&whole, &token);
    let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
    direct.upload("toy", &keys, &mut |_| {}).expect("uploads");
    // the input, its events and its answer over connections that break after more and more bytes
    let input = party.input([1.0, 0.5, 0.25, 0.75]);
    let input = EncryptedInput::from_bytes(input).expect("an input");
    let proxy = Proxy::new(site.address, |i| {
        let grown = 3usize.saturating_pow(i as u32);
        (grown.saturating_mul(40_000), grown.saturating_mul(150))
    });
    let broken = remote(&proxy, &token);
    let job = broken.ask("toy", keys.digest(), &input).expect("asks");
    let id = job["id"].as_str().expect("an id");
    let job = broken.wait(id, &mut |_| {}).expect("waits");
    let mut answer = Vec::new();
    broken
        .answer(&job, &mut answer, &mut |_| {})
        .expect("fetches");
    assert!(proxy.count.load(Ordering::SeqCst) > 4);
    let mut same = Vec::new();
    direct
        .answer(&job, &mut same, &mut |_| {})
        .expect("fetches");
    assert!(answer == same && party.class(&answer) == 0);
    // it was one job, however often it was asked for
    assert_eq!(direct.jobs().expect("all").len(), 1);
    wire_has_ciphertexts_only(&whole, &party);
    wire_has_ciphertexts_only(&proxy, &party);
}

/// What goes over a connection that breaks: all who ask get the same.
enum Exchange {
    Ask,
    Answer,
}

/// Each byte of a request's head, of the head of its answer and of the beginning of their bodies is once the last one that comes through.
#[test]
fn a_connection_may_break_at_any_byte() {
    const ALL: (usize, usize) = (usize::MAX, usize::MAX);
    const THREADS: usize = 8;
    const BYTES: usize = 600;
    let site = Site::new("bytes", Toy::Small, "");
    let token = site.account("ada", "");
    let party = site.client("ada");
    let whole = Proxy::new(site.address, |_| ALL);
    let direct = remote(&whole, &token);
    let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
    direct.upload("toy", &keys, &mut |_| {}).expect("uploads");
    let input = EncryptedInput::from_bytes(party.input([1.0, 0.5, 0.25, 0.75]));
    let input = input.expect("an input");
    let job = direct.ask("toy", keys.digest(), &input).expect("asks");
    let job = direct.wait(job["id"].as_str().expect("an id"), &mut |_| {});
    let job = job.expect("waits");
    let mut answer = Vec::new();
    direct
        .answer(&job, &mut answer, &mut |_| {})
        .expect("fetches");
    let work = |thread: usize| {
        let limit = Arc::new(Mutex::new(ALL));
        let next = limit.clone();
        let proxy = Proxy::new(site.address, move |_| {
            std::mem::replace(&mut *next.lock().expect("no panic"), ALL)
        });
        let mut broke = 0;
        for bytes in (thread..BYTES).step_by(THREADS) {
            for cut in [(bytes, usize::MAX), (usize::MAX, bytes)] {
                for exchange in [Exchange::Ask, Exchange::Answer] {
                    *limit.lock().expect("no panic") = cut;
                    let before = proxy.count.load(Ordering::SeqCst);
                    // one that has no connection yet
                    let broken = remote(&proxy, &token);
                    match exchange {
                        Exchange::Ask => {
                            let same = broken.ask("toy", keys.digest(), &input).expect("asks");
                            assert_eq!(same["id"], job["id"], "{cut:?}");
                        }
                        Exchange::Answer => {
                            let mut same = Vec::new();
                            broken
                                .answer(&job, &mut same, &mut |_| {})
                                .expect("fetches");
                            assert!(same == answer, "{cut:?}");
                        }
                    }
                    broke += proxy.count.load(Ordering::SeqCst) - before - 1;
                }
            }
        }
        broke
    };
    let work = &work;
    let broke = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
        let broke = threads.into_iter().map(|t| t.join().expect("goes on"));
        broke.sum::<usize>()
    });
    // both heads of both are longer than half of that
    assert!(broke > 4 * BYTES / 2, "{broke}");
    assert_eq!(direct.jobs().expect("all").len(), 1);
}

/// Of all that left the client: neither what it asked nor its secret.
fn wire_has_ciphertexts_only(proxy: &Proxy, party: &Party) {
    let sent = proxy.sent.lock().expect("no panic");
    let row = [1.0, 0.5, 0.25, 0.75f64];
    let secret = party.client.keys().write(Vec::new(), "x").expect("writes");
    let row64: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
    let row32: Vec<u8> = row.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    // coefficients behind header, tag and length, in a byte each
    for secret in [&secret[204..268], &row64, &row32, b"1,0.5,0.25,0.75"] {
        assert!(!has(&sent, secret));
    }
    assert!(has(&sent, b"PVEIL"));
}
