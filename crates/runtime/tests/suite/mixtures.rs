//! Two clients of one plan: their files are told apart before anything is computed.

use crate::support::*;
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::wire::container::{HEADER_LEN, Header, expect_together};
use polyveil_runtime::*;
use std::io::Read;

fn refused<T: std::fmt::Debug>(what: Result<T>, name: &str) {
    let e = what.expect_err("another client's");
    assert!(matches!(e, Error::OtherKey { .. }), "{e}");
    let message = e.to_string();
    assert!(
        message.contains(name) && message.contains("different clients"),
        "{message}"
    );
}

#[test]
fn files_of_two_clients_are_refused_by_their_headers() {
    let a = files(levelled());
    let b = other(&a);
    assert_ne!(a.client.key(), b.client.key());
    let (server, server_b) = (a.server(), b.server());
    assert_eq!(server.key(), a.client.key());
    // nothing but the header is read
    let header = |bytes: &[u8]| bytes[..HEADER_LEN as usize].to_vec();
    refused(
        server.read_input(&header(&b.input)[..], "b.input"),
        "b.input",
    );
    let answer_b = answer(&server_b, &b.input).expect("runs");
    refused(
        a.client.read_answer(&header(&answer_b)[..], "b.answer"),
        "b.answer",
    );
    // a state of one, run under the keys of the other
    let state = server_b.read_input(&b.input[..], "b").expect("its own");
    refused(server.run(state.clone(), &mut ()), "state");
    let check = LockStep::new(&a.plan, server.engine(), &a.client, &state, Excess::Stop).map(drop);
    refused(check, "encrypted input");

    let folder = Folder::new("mixtures");
    let path = folder.file("b.checkpoint", &[]);
    let digest = input_digest(&b.input[..], "b").expect("digest");
    let mut state = state;
    (b.plan)
        .advance(server_b.engine(), &mut state, &mut ())
        .expect("one step");
    Checkpointer::new(&b.plan, server_b.engine(), path.clone(), digest)
        .save(&state)
        .expect("saves");
    let again = read_checkpoint(&path, &b.plan, &digest, server_b.key()).expect("its own");
    assert_eq!(again.key, b.client.key());
    refused(
        read_checkpoint(&path, &b.plan, &digest, server.key()).map(drop),
        "b.checkpoint",
    );
}

#[test]
fn files_on_disk_are_compared_before_they_are_read() {
    let (a, levels) = (files(levelled()), files(batched()));
    let b = other(&a);
    let header = |name, bytes: &[u8]| {
        let (header, mut whole) = Header::ahead(bytes, name).expect("a header");
        let mut again = Vec::new();
        whole.read_to_end(&mut again).expect("reads");
        assert_eq!(again, bytes);
        (name, header)
    };
    let plan = a.plan.plan().write(Vec::new(), "x").expect("plan");
    let plan = header("net.plan", &plan);
    assert_eq!(plan.1.ids, a.plan.header().ids);
    let keys = header("a.keys", &a.keys);
    let input = header("a.input", &a.input);
    let secret = a.client.write(Vec::new(), "x").expect("writes");
    let secret = header("client.key", &secret);
    expect_together(&[plan, keys, input, secret]).expect("one client's");
    let foreign = header("b.input", &b.input);
    refused(expect_together(&[plan, keys, foreign]), "b.input");
    let foreign = header("b.keys", &b.keys);
    refused(expect_together(&[plan, foreign, input]), "a.input");
    let foreign = header("batched.input", &levels.input);
    let message = expect_together(&[plan, foreign])
        .expect_err("another plan's")
        .to_string();
    assert!(
        message.contains("batched.input") && message.contains("another plan"),
        "{message}"
    );
}

#[test]
fn keys_in_memory_are_those_of_the_file() {
    let f = files(levelled());
    let keys = f.client.evaluation_keys(&mut rng(2)).expect("keys");
    let parameters = f.plan.parameters();
    let bytes = keys.write(Vec::new(), "keys", parameters, *f.plan.digest());
    assert!(bytes.expect("writes") == f.keys);
    let server = Server::new(f.plan.clone(), keys).expect("covers the plan");
    assert_eq!(
        answer(&server, &f.input).expect("runs"),
        answer(&f.server(), &f.input).expect("runs")
    );
}

#[test]
fn ciphertexts_in_memory_are_those_of_one_client_too() {
    let a = files(levelled());
    let b = other(&a);
    let (server, server_b) = (a.server(), b.server());
    let request = b.client.encrypt(&tensor(), &mut rng(3)).expect("encrypts");
    refused(server.start(&request).map(drop), "encrypted input");
    let state = server_b.start(&request).expect("its own");
    let answer = server_b.run(state, &mut ()).expect("runs");
    refused(a.client.decrypt(&answer), "answer");
    refused(
        server.write_answer(&answer, Vec::new(), "x").map(drop),
        "answer",
    );
    close(
        &b.client.decrypt(&answer).expect("its own"),
        &levelled_truth(&tensor()),
        1e-4,
    );
}
