//! TLS in the server: a whole run over it, certificates that change, files that do not fit, and clients that do not shake hands.
//! `../tls/make.sh` made the certificates.

use crate::proxy::Proxy;
use crate::support::{Party, Site, Toy, done, has, refused};
use polyveil_serve::Code;
use polyveil_serve::client::{EncryptedInput, PublicKeys, Remote, Token, Transport};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const ONE: [&[u8]; 3] = [
    include_bytes!("../tls/one.pem"),
    include_bytes!("../tls/one-key.pem"),
    include_bytes!("../tls/one-authority.pem"),
];
const TWO: [&[u8]; 3] = [
    include_bytes!("../tls/two.pem"),
    include_bytes!("../tls/two-key.pem"),
    include_bytes!("../tls/two-authority.pem"),
];

/// A site whose server has certificate one.
fn site(name: &str, options: &str) -> Site {
    let mut site = Site::new(name, Toy::Small, "");
    site.stop();
    let [certificate, key] = files(&site, ONE);
    site.start(&format!(
        "--certificate {certificate} --certificate-key {key} {options}"
    ));
    site
}

/// Puts a certificate and its key where the server looks for them.
fn files(site: &Site, of: [&[u8]; 3]) -> [String; 2] {
    [("server.pem", of[0]), ("server.key", of[1])]
        .map(|(name, bytes)| site.folder.file(name, bytes))
}

fn trusting(address: std::net::SocketAddr, token: &str, authority: &[u8]) -> Remote {
    let pem = String::from_utf8(authority.to_vec()).expect("PEM");
    let token = Token::new(token).expect("a token");
    let url = format!("https://{address}");
    Remote::new(&url, token, Transport::Authority(pem)).expect("an authority")
}

fn run(remote: &Remote, party: &Party) -> Vec<u8> {
    let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
    remote.upload("toy", &keys, &mut |_| {}).expect("uploads");
    let input = EncryptedInput::from_bytes(party.input([1.0, 0.5, 0.25, 0.75]));
    let job = remote.ask("toy", keys.digest(), &input.expect("an input"));
    let job = job.expect("asks");
    let id = job["id"].as_str().expect("an id");
    let job = remote.wait(id, &mut |_| {}).expect("waits");
    let mut answer = Vec::new();
    remote
        .answer(&job, &mut answer, &mut |_| {})
        .expect("fetches");
    answer
}

#[test]
fn a_whole_run_is_seen_by_nobody_on_the_way() {
    let site = site("tls", "");
    let token = site.account("ada", "");
    let party = site.client("ada");
    // over connections that break after more and more bytes, in the handshake first
    let proxy = Proxy::new(site.address, |i| {
        let grown = 3usize.saturating_pow(i as u32);
        (grown.saturating_mul(100), grown.saturating_mul(300))
    });
    let answer = run(&trusting(proxy.address, &token, ONE[2]), &party);
    assert_eq!(party.class(&answer), 0);
    assert!(proxy.count.load(Ordering::SeqCst) > 4);
    // neither the token nor even ciphertexts
    let sent = proxy.sent.lock().expect("no panic").clone();
    for plain in [
        token.as_bytes(),
        b"PVEIL",
        b"HTTP/1.1",
        &party.keys[300..400],
    ] {
        assert!(!has(&sent, plain));
    }
    drop(sent);

    // the program remembers whom to trust
    let authority = site.folder.file("authority.pem", ONE[2]);
    let token_file = site.folder.file("ada.token", token.as_bytes());
    let url = format!("https://{}", site.address);
    let at = format!("{url} --token-file {token_file}");
    let (_, said) = done(&format!("doctor {at} --authority {authority}"));
    assert!(said.contains("all is well"), "{said}");
    let keys = site.folder.path("keys");
    done(&format!(
        "enrol {at} --authority {authority} -o {keys} --insecure-toy"
    ));
    std::fs::copy(&party.path, format!("{keys}/evaluation.keys")).expect("copies");
    let (_, said) = done(&format!("upload {keys}"));
    assert!(said.contains("are there"), "{said}");
    // the web's authorities do not vouch for this one, nor does another
    refused(
        &format!("doctor {at}"),
        &["UnknownIssuer", "nothing was sent", "--authority"],
    );
    let other = site.folder.file("other.pem", TWO[2]);
    refused(
        &format!("doctor {at} --authority {other}"),
        &["certificate", "nothing was sent", "--authority"],
    );
    refused(
        &format!("doctor {at} --authority {token_file}"),
        &["holds no certificate", "BEGIN CERTIFICATE"],
    );
    assert!(!site.said().contains("panicked"), "{}", site.said());
}

#[test]
fn a_certificate_is_read_anew_and_a_bad_one_is_not_taken() {
    let site = site("renewed", "");
    let token = site.account("ada", "");
    let hup = || {
        let id = site.id().to_string();
        let asked = Command::new("kill").args(["-HUP", &id]).status();
        assert!(asked.expect("kill").success());
    };
    let health = |of: [&[u8]; 3]| trusting(site.address, &token, of[2]).health();
    health(ONE).expect("one");
    // a key of another certificate: the server goes on with what it has
    site.folder.file("server.key", TWO[1]);
    hup();
    site.hears("\"certificate_kept\"", 1);
    assert!(
        site.said().contains("key of another certificate"),
        "{}",
        site.said()
    );
    health(ONE).expect("still one");
    files(&site, TWO);
    hup();
    site.hears("\"certificate_read\"", 1);
    health(TWO).expect("two");
    assert_eq!(health(ONE).map_err(|e| e.code), Err(Code::Refused));
}

#[test]
fn files_that_do_not_fit_are_refused_with_a_remedy() {
    let mut site = site("unfit", "");
    site.stop();
    let file = |name: &str, bytes: &[u8]| site.folder.file(name, bytes);
    let certificate = file("c.pem", ONE[0]);
    let key = file("k.pem", ONE[1]);
    let (other, empty) = (file("o.pem", TWO[1]), file("e.pem", b"nothing"));
    let mut damaged = ONE[1].to_vec();
    damaged[100] ^= 1;
    let damaged = file("d.pem", &damaged);
    let missing = site.folder.path("missing.pem");
    let data = site.folder.path("data");
    let start = |certificate: &str, key: &str, words: &[&str]| {
        let files = format!("--certificate {certificate} --certificate-key {key}");
        refused(
            &format!("start --data {data} --listen 127.0.0.1:0 {files}"),
            words,
        );
    };
    start(
        &certificate,
        &other,
        &["o.pem", "key of another certificate", "made together"],
    );
    start(&missing, &key, &["missing.pem", "may read"]);
    start(&certificate, &missing, &["missing.pem", "may read"]);
    start(
        &empty,
        &key,
        &["e.pem holds no certificate", "BEGIN CERTIFICATE"],
    );
    start(
        &certificate,
        &empty,
        &["e.pem holds no private key", "without a passphrase"],
    );
    start(&certificate, &certificate, &["c.pem holds no private key"]);
    start(&certificate, &damaged, &["d.pem"]);
}

#[test]
fn whoever_does_not_shake_hands_is_gone_in_time() {
    let site = site("silent", "--header 0.5 --idle 0.7 --connections 5");
    let token = site.account("ada", "");
    let remote = trusting(site.address, &token, ONE[2]);
    // says nothing; speaks no TLS; a secret would be read by nobody
    let silent: Vec<TcpStream> = (0..8)
        .filter_map(|_| TcpStream::connect(site.address).ok())
        .collect();
    let start = Instant::now();
    for mut stream in silent {
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("a timeout");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut plain = TcpStream::connect(site.address).expect("connects");
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sends");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!has(&said, b"HTTP"), "{said:?}");
    // random bytes where a handshake should be
    for seed in 0..200u32 {
        let noise = blake3::hash(&seed.to_le_bytes());
        let head = [&[22, 3, 1, 0, 28, 1, 0, 0, 24][..], noise.as_bytes()].concat();
        if let Ok(mut stream) = TcpStream::connect(site.address) {
            let _ = stream.write_all(&head[seed as usize % 9..]);
        }
    }
    remote.health().expect("others are served");
    assert!(!site.said().contains("panicked"), "{}", site.said());
}
