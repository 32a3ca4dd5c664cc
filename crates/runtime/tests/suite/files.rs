//! Every file, and what is refused of it.

use crate::support::*;
use ckks::ParametersSpec;
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::wire::container::Kind;
use polyveil_runtime::*;

#[test]
fn client_key_survives_its_file_and_hides_itself() {
    let f = files(levelled());
    let bytes = f.client.write(Vec::new(), "client.key").expect("writes");
    let again = Client::read(&bytes[..], "client.key", f.client.file().clone()).expect("reads");
    assert_eq!(
        again.secret_key().coefficients(),
        f.client.secret_key().coefficients()
    );
    assert_eq!(again.spec(), f.client.spec());
    assert!(format!("{again:?}").contains("redacted"));
}

type Check<'a> = Box<dyn Fn(&[u8]) -> Result<()> + 'a>;

/// A small file of each kind with its reader.
fn every_file(f: &Files) -> Vec<(&'static str, Vec<u8>, Check<'_>)> {
    let server = f.server();
    let answer = server
        .run(
            server.read_input(&f.input[..], "x").expect("input"),
            &mut (),
        )
        .expect("runs");
    let answer = server
        .write_answer(&answer, Vec::new(), "x")
        .expect("answer");
    let path = std::env::temp_dir().join(format!("polyveil-toy-{}.checkpoint", std::process::id()));
    let digest = input_digest(&f.input[..], "x").expect("digest");
    let mut state = server.read_input(&f.input[..], "x").expect("input");
    f.plan
        .advance(server.engine(), &mut state, &mut ())
        .expect("one step");
    Checkpointer::new(&f.plan, server.engine(), path.clone(), digest)
        .save(&state)
        .expect("saves");
    let checkpoint = std::fs::read(&path).expect("written");
    let plan_bytes = f.plan.plan().write(Vec::new(), "x").expect("plan");
    let client_bytes = f.client.write(Vec::new(), "x").expect("client");
    vec![
        (
            "plan",
            plan_bytes,
            Box::new(|b| Plan::read(b, "x").map(drop)),
        ),
        (
            "client key",
            client_bytes,
            Box::new(|b| Client::read(b, "x", f.client.file().clone()).map(drop)),
        ),
        (
            "keys",
            f.keys.clone(),
            Box::new(|b| Server::read(f.plan.clone(), b, "x", &mut |_, _| {}).map(drop)),
        ),
        (
            "input",
            f.input.clone(),
            Box::new(move |b| server.read_input(b, "x").map(drop)),
        ),
        (
            "answer",
            answer,
            Box::new(|b| f.client.read_answer(b, "x").map(drop)),
        ),
        (
            "checkpoint",
            checkpoint,
            Box::new(move |b| {
                std::fs::write(&path, b).expect("writes");
                let read = read_checkpoint(&path, &f.plan, &digest, f.client.key()).map(drop);
                std::fs::remove_file(&path).expect("removes");
                read
            }),
        ),
    ]
}

#[test]
fn truncated_oversized_and_flipped_files_are_refused_everywhere() {
    let f = files(levelled());
    for (kind, good, read) in every_file(&f) {
        read(&good).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let refused = |bytes: &[u8], how: String| {
            let message = read(bytes)
                .expect_err(&format!("{kind}: {how}"))
                .to_string();
            assert!(
                message.contains(';') && !message.contains('\n'),
                "{kind}: {message}"
            );
        };
        // every byte of headers and section heads, then a sample of the bulk
        let positions: Vec<usize> = (0..good.len().min(400))
            .chain((400..good.len()).step_by(good.len() / 150 + 1))
            .collect();
        for &n in &positions {
            refused(&good[..n], format!("cut to {n}"));
            let mut bad = good.clone();
            bad[n] ^= 1 << (n % 8);
            refused(&bad, format!("byte {n} flipped"));
        }
        let mut long = good.clone();
        long.push(0);
        refused(&long, "one byte more".into());
        refused(b"P", "foreign".into());
    }
}

#[test]
fn files_of_another_kind_plan_or_parameter_set_are_named() {
    let f = files(levelled());
    let other = files(Plan {
        parameters: ParametersSpec::toy_levelled(8, 4),
        ..levelled()
    });
    let message = Server::read(
        f.plan.clone(),
        &other.keys[..],
        "other.keys",
        &mut |_, _| {},
    )
    .expect_err("refused")
    .to_string();
    assert!(
        message.contains("other.keys")
            && message.contains("parameter")
            && message.contains("make keys"),
        "{message}"
    );
    let message = f
        .server()
        .read_input(&other.input[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(message.contains("parameter"), "{message}");
    let message = f
        .server()
        .read_input(&f.keys[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains(Kind::Input.name()) && message.contains("encrypt an input"),
        "{message}"
    );
    let mut changed = levelled();
    changed.steps[1].operation = Operation::Square {
        input: 1,
        output: 2,
        constant: 0.5,
    };
    let changed = files(changed);
    let message = f
        .server()
        .read_input(&changed.input[..], "in.ct")
        .expect_err("refused")
        .to_string();
    assert!(message.contains("another plan"), "{message}");
}

#[test]
fn keys_that_do_not_cover_the_plan_are_named() {
    let f = files(levelled());
    let mut spec = f.plan.client_spec();
    let (dropped, _) = spec.keys.remove(0);
    let file = ClientFile::new(spec, [].into()).expect("no task");
    let client = Client::new(file, &mut rng(1)).expect("client");
    let keys = client
        .write_evaluation_keys(Vec::new(), "k", &mut rng(2), &mut |_, _| {})
        .expect("keys");
    let message = Server::read(f.plan.clone(), &keys[..], "few.keys", &mut |_, _| {})
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains(&dropped.to_string()) && message.contains("make new keys"),
        "{message}"
    );
}
