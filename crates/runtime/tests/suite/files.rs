//! Every file, and what is refused of it.

use crate::support::*;
use ckks::ParametersSpec;
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint_from};
use polyveil_runtime::wire::container::{Header, Kind, Reader, Writer};
use polyveil_runtime::wire::task_digest;
use polyveil_runtime::*;
use std::sync::Arc;

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
    let digest = input_digest(&f.input[..], "x").expect("digest");
    let mut state = server.read_input(&f.input[..], "x").expect("input");
    f.plan
        .advance(server.engine(), &mut state, &mut ())
        .expect("one step");
    let checkpoint = Checkpointer::new(&f.plan, server.engine(), "x".into(), digest)
        .write(&state, Vec::new(), "x")
        .expect("in memory");
    let plan_bytes = f.plan.plan().write(Vec::new(), "x").expect("plan");
    let client_bytes = f.client.write(Vec::new(), "x").expect("client");
    vec![
        (
            "plan",
            plan_bytes,
            Box::new(|b| Plan::read(b, "x").map(drop)),
        ),
        (
            "client file",
            f.client.file().write(Vec::new(), "x").expect("writes"),
            Box::new(|b| ClientFile::read(b, "x").map(drop)),
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
                read_checkpoint_from(b, "x", &f.plan, &digest, f.client.key()).map(drop)
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

/// The file with a text of its first section replaced by another of the same length.
fn reworded(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let header = Header::read(&mut &file[..], "x").expect("a header");
    let mut all = sections(file, *b"last", &[]);
    all.pop();
    let mut reader = Reader::new(file, "x", header.kind).expect("a header");
    let out = Writer::new(Vec::new(), "x", header.kind, header.ids, all.clone());
    let mut out = out.expect("in memory");
    for (k, (tag, length)) in all.into_iter().enumerate() {
        let mut bytes = reader.section(tag, length).expect("as listed");
        if k == 0 {
            let text = String::from_utf8(bytes).expect("JSON");
            assert!(text.contains(from) && from.len() == to.len());
            bytes = text.replace(from, to).into_bytes();
        }
        out.section(&bytes).expect("in memory");
    }
    out.finish().expect("in memory")
}

#[test]
fn weights_of_a_precision_that_there_is_not_are_refused() {
    let plan = |bits| Plan {
        parameters: ParametersSpec::toy_coefficients(9, 9)
            .expect("a preset")
            .with_weight_bits(bits),
        ..bootstrapped()
    };
    let file = plan(20).write(Vec::new(), "x").expect("written");
    assert_eq!(Plan::read(&file[..], "x").expect("read").0, plan(20));
    let field = |bits: &str| format!("\"weight_bits\":{bits}");
    let [of_22, of_text] = ["22", "\"\""].map(|bits| reworded(&file, &field("20"), &field(bits)));
    let read = Plan::read(&of_22[..], "x").map(drop);
    let inspected = inspection::inspect(std::io::Cursor::new(&of_22), "x").map(drop);
    let made = VerifiedPlan::new(plan(22)).map(drop);
    let written = plan(22).write(Vec::new(), "x").map(drop);
    for refused in [read, inspected, made, written] {
        let told = refused.expect_err("no such precision").to_string();
        let words = "`weight_bits` of 22 for 1 levels of products; [16, 20] are supported";
        assert!(told.contains(words), "{told}");
    }
    assert!(Plan::read(&of_text[..], "x").is_err());
}

#[test]
fn keys_that_do_not_cover_the_plan_are_named() {
    let f = files(levelled());
    let mut spec = f.plan.client_spec();
    let (dropped, _) = spec.keys.remove(0);
    let file = ClientFile::new(spec, [].into()).expect("no task");
    let client = Client::new(file, &mut rng(1));
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

/// A small task, and a client that has it.
fn with_task() -> (VerifiedPlan, ClientFile) {
    let task: Arc<[u8]> = b"PVTK: labels, an embedding".as_slice().into();
    let mut p = levelled();
    p.description.task = task_digest(&task);
    let plan = VerifiedPlan::new(p).expect("verifies");
    let file = plan.client_file(task).expect("its task");
    (plan, file)
}

#[test]
fn a_client_file_holds_specification_and_task() {
    let (plan, file) = with_task();
    assert_eq!(file.spec(), &plan.client_spec());
    let bytes = file.write(Vec::new(), "x.client").expect("writes");
    let again = ClientFile::read(&bytes[..], "x.client").expect("reads");
    assert_eq!(again, file);
    assert_eq!(&again.task()[..4], b"PVTK");
    assert_eq!(again.write(Vec::new(), "x").expect("writes"), bytes);
    // the plan names the task: another does not go with it
    let e = plan.client_file(b"another".as_slice().into());
    let message = e.expect_err("another task").to_string();
    assert!(message.contains("not the task"), "{message}");
    let found = inspection::inspect(std::io::Cursor::new(&bytes), "x.client").expect("reads");
    assert!(found.key.is_none() && found.parameters.is_some());
}

/// Found by `polyveil-fuzz`: it was read, and what was written of it was refused.
#[test]
fn a_client_file_in_other_words_is_refused() {
    let (_, file) = with_task();
    let bytes = file.write(Vec::new(), "x").expect("writes");
    let mut reader = Reader::new(&bytes[..], "x", Kind::ClientFile).expect("a header");
    let mut section = |tag: &[u8; 4]| reader.section(*tag, 1 << 20).expect("as written");
    let (mut spec, places, task) = (section(b"spec"), section(b"plcs"), section(b"task"));
    spec.insert(1, b' ');
    let mut ids = Header::read(&mut &bytes[..], "x").expect("a header").ids;
    let mut hasher = blake3::Hasher::new();
    for part in [&spec, &places] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    ids.client = *hasher.finalize().as_bytes();
    let parts = [(*b"spec", &spec), (*b"plcs", &places), (*b"task", &task)];
    let lengths = parts.map(|(tag, bytes)| (tag, bytes.len() as u64)).to_vec();
    let mut out = Writer::new(Vec::new(), "x", Kind::ClientFile, ids, lengths).expect("writes");
    for (_, bytes) in parts {
        out.section(bytes).expect("writes");
    }
    let other = out.finish().expect("writes");
    let e = ClientFile::read(&other[..], "x").expect_err("other words");
    assert!(e.to_string().contains("does not name"), "{e}");
}

#[test]
#[ignore = "writes 200 MB"]
fn a_large_task_is_in_memory_once() {
    // what others take at the same time, or took before, is not looked at
    let _alone = alone();
    std::fs::write("/proc/self/clear_refs", "5").expect("a peak that is counted anew");
    let folder = Folder::new("large-task");
    let path = folder.0.join("x.client");
    let mut p = levelled();
    let size = 200 << 20;
    {
        let task: Arc<[u8]> = std::iter::repeat_n(7, size).collect();
        p.description.task = task_digest(&task);
        let file = VerifiedPlan::new(p).expect("verifies").client_file(task);
        let out = std::fs::File::create(&path).expect("creates");
        file.expect("its task").write(out, "x").expect("writes");
    }
    let input = std::fs::File::open(&path).expect("opens");
    let file = ClientFile::read(std::io::BufReader::new(input), "x").expect("reads");
    assert_eq!(file.task().len(), size);
    let peak = machine::peak_bytes();
    assert!(peak < 3 * size as u64 / 2, "{peak}");
}

#[test]
fn a_key_is_opened_with_its_client_file_alone() {
    let (plan, file) = with_task();
    let client = Client::new(file.clone(), &mut rng(1));
    let key = client.write(Vec::new(), "client.key").expect("writes");
    // the secret, and nothing that the client file says: one byte a coefficient
    let n = plan.parameters().n();
    assert_eq!(key.len(), 192 + 44 + n);
    let again = Client::read(&key[..], "client.key", file).expect("its own");
    assert_eq!((again.key(), again.spec()), (client.key(), client.spec()));
    let found = inspection::inspect(std::io::Cursor::new(&key), "client.key").expect("reads");
    assert_eq!(found.key, Some(client.key()));
    assert!(found.parameters.is_none());
    // of another plan, and of the same plan with another bound
    let batched = crate::support::plan(batched());
    let other = client_file(&batched);
    let e = Client::read(&key[..], "client.key", other).expect_err("of another plan");
    assert!(e.to_string().contains("another plan"), "{e}");
    let mut spec = plan.client_spec();
    spec.answer.error *= 2.0;
    let other = ClientFile::new(spec, again.file().task().clone()).expect("holds together");
    let e = Client::read(&key[..], "client.key", other).expect_err("another client file");
    let message = e.to_string();
    assert!(
        message.contains("another client file") && e.help() == Some(Help::MakeKeys),
        "{message}"
    );
}

/// The file with one more section before its end, or another one in the place of the last.
pub(crate) fn with_section(file: &[u8], tag: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = Header::read(&mut &file[..], "x").expect("a header");
    let mut out = Writer::new(
        Vec::new(),
        "x",
        header.kind,
        header.ids,
        sections(file, tag, payload),
    )
    .expect("in memory");
    let mut reader = Reader::new(file, "x", header.kind).expect("a header");
    for (tag, length) in sections(file, tag, payload)
        .iter()
        .take(header.sections as usize)
    {
        let bytes = reader.section(*tag, *length).expect("as listed");
        out.section(&bytes).expect("in memory");
    }
    out.section(payload).expect("in memory");
    out.finish().expect("in memory")
}

fn sections(file: &[u8], tag: [u8; 4], payload: &[u8]) -> Vec<([u8; 4], u64)> {
    let (mut at, mut all) = (192, Vec::new());
    while at < file.len() {
        let length = u64::from_le_bytes(file[at + 4..at + 12].try_into().expect("eight"));
        all.push((file[at..at + 4].try_into().expect("four"), length));
        at += 44 + length as usize;
    }
    all.push((tag, payload.len() as u64));
    all
}

#[test]
fn an_alarm_beside_an_answer_is_not_passed_over() {
    let f = files(levelled());
    let good = answer(&f.server(), &f.input).expect("runs");
    let alarm = with_section(&good, *b"alrm", &[7, 0, 0, 0, 1, 2, 3]);
    let message = f.client.read_answer(&alarm[..], "x.answer");
    let message = message.expect_err("unknown").to_string();
    assert!(
        message.contains("alarm of kind 7") && message.contains("update"),
        "{message}"
    );
    for (tag, payload) in [(*b"alrm", &[1u8, 0][..]), (*b"more", &[0; 8])] {
        let e = f
            .client
            .read_answer(&with_section(&good, tag, payload)[..], "x");
        assert!(matches!(e, Err(Error::File { .. })), "{e:?}");
    }
    // nowhere else is there room for one
    let input = with_section(&f.input, *b"alrm", &[7, 0, 0, 0]);
    assert!(f.server().read_input(&input[..], "x").is_err());
}

#[test]
fn sections_longer_than_they_can_be_are_refused_before_they_are_read() {
    let f = files(levelled());
    for (kind, good, read) in every_file(&f) {
        // the length that the first section states
        for length in [1u64 << 40, u64::MAX] {
            let mut bad = good.clone();
            bad[196..204].copy_from_slice(&length.to_le_bytes());
            let message = read(&bad).expect_err(kind).to_string();
            assert!(
                message.contains("at most") && message.contains("section"),
                "{kind}: {message}"
            );
        }
    }
}

#[test]
fn files_of_format_2_are_refused_by_version() {
    let f = files(levelled());
    for (kind, mut old, read) in every_file(&f) {
        old[6] = 2;
        let message = read(&old).expect_err(kind).to_string();
        assert!(
            message.contains("format version 2") && message.contains("make the file again"),
            "{kind}: {message}"
        );
    }
}
