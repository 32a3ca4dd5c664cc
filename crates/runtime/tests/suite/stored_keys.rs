//! Keys that stay in their file.

use crate::support::*;
use ckks::{EvaluationKeys, KeyName};
use polyveil_runtime::*;
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn open_keys(f: &Files, path: &Path, kept: &BTreeSet<KeyName>) -> Result<Server> {
    let file = std::fs::File::open(path).expect("opens");
    let name = path.display().to_string();
    Server::open(f.plan.clone(), file, &name, kept, &mut |_, _| {})
}

#[test]
fn keys_on_disk_give_the_same_answer() {
    let folder = Folder::new("keys-on-disk");
    for p in [levelled(), bootstrapped()] {
        let f = files(p);
        let path = folder.file("evaluation.keys", &f.keys);
        let want = answer(&f.server(), &f.input).expect("runs");
        let facts = f.plan.facts();
        let one: BTreeSet<KeyName> = facts.keys.0.keys().take(1).copied().collect();
        let half = facts.peak_without_keys / 2 + facts.peak_bytes / 2;
        let all = facts.keys_on_disk(facts.peak_bytes).kept;
        for kept in [BTreeSet::new(), one, facts.keys_on_disk(half).kept, all] {
            let server = open_keys(&f, &path, &kept).expect("opens");
            let held: BTreeSet<KeyName> = server.engine().keys().iter().map(|(&k, _)| k).collect();
            assert_eq!(held, kept);
            assert!(
                answer(&server, &f.input).expect("runs") == want,
                "{} keys kept",
                kept.len()
            );
        }
        // moving another file into its place does not reach an open one
        let server = open_keys(&f, &path, &BTreeSet::new()).expect("opens");
        let other = folder.file("other.keys", b"something else");
        std::fs::rename(&other, &path).expect("moves");
        assert!(answer(&server, &f.input).expect("runs") == want);
    }
}

#[test]
fn every_thread_beyond_two_adds_what_a_map_takes_on_it() {
    let plan = plan(levelled());
    let facts = plan.facts();
    let on = |threads| Prediction::new(&plan, Basis::shipped(), threads);
    assert_eq!(
        (on(1).peak_bytes, on(2).peak_bytes),
        (facts.peak_bytes, facts.peak_bytes)
    );
    // a limb of the baby step's image, and of three diagonals of 16 slots
    let n = plan.parameters().n() as u64;
    let each = 16 * (n + 3 * 16);
    assert!(
        [each, each - 16 * n].contains(&facts.thread_bytes),
        "{}",
        facts.thread_bytes
    );
    assert_eq!(on(5).peak_bytes, facts.peak_bytes + 3 * facts.thread_bytes);
    // no more threads than limbs
    assert!(on(1000).peak_bytes == on(2000).peak_bytes && on(1000).peak_bytes > on(5).peak_bytes);
    assert_eq!(
        on(5).fresh_bytes - on(2).fresh_bytes,
        3 * facts.thread_bytes
    );
}

#[test]
fn reads_of_stored_keys_are_predicted_exactly() {
    for p in [levelled(), bootstrapped()] {
        let f = files(p);
        let facts = f.plan.facts();
        let most = facts.peak_bytes;
        let least = facts.keys_on_disk(0);
        assert!(least.kept.is_empty() && least.peak_bytes < most);
        let everything = facts.keys_on_disk(most);
        assert_eq!(
            (everything.kept.len(), everything.peak_bytes),
            (facts.keys.0.len(), most)
        );
        assert_eq!((everything.reads, everything.read_bytes), (0, 0));
        let middle = facts.keys_on_disk((least.peak_bytes + most) / 2);
        assert!(!middle.kept.is_empty() && middle.reads > 0 && middle.reads < least.reads);
        for placement in [least, middle, everything] {
            assert!(placement.peak_bytes <= most);
            // the same keys, counted as they are brought
            let source = f.server();
            let source = source.engine().keys().clone();
            let mut keys = EvaluationKeys::new();
            for (&name, key) in source.iter().filter(|(k, _)| placement.kept.contains(k)) {
                keys.insert(name, key.clone());
            }
            let count = Arc::new(AtomicU64::new(0));
            let counter = count.clone();
            let keys = keys.with_stored(facts.keys.clone(), move |name| {
                counter.fetch_add(1, Ordering::Relaxed);
                let found = source.iter().find(|(k, _)| **k == name);
                Ok(found.expect("was listed").1.clone())
            });
            let keys = wire::ServerKeys {
                id: f.client.key(),
                keys,
            };
            let server = Server::new(f.plan.clone(), keys).expect("covers the plan");
            answer(&server, &f.input).expect("runs");
            assert_eq!(count.load(Ordering::Relaxed), placement.reads);
        }
    }
}

#[test]
fn a_key_file_that_changes_while_in_use_is_an_error() {
    let folder = Folder::new("changed-keys");
    let f = files(levelled());
    let none = BTreeSet::new();
    let refused = |server: &Server, path: &Path| {
        let e = answer(server, &f.input).expect_err("a changed file");
        assert!(matches!(e, Error::Step { .. }), "{e}");
        let message = e.to_string();
        let name = path.display().to_string();
        for part in [
            &name[..],
            "changed while in use",
            "last checkpoint",
            "conv1",
        ] {
            assert!(message.contains(part), "{message}");
        }
    };
    let write = |path: &Path, at: u64, byte: u8| {
        let file = std::fs::File::options().write(true).open(path);
        file.expect("opens")
            .write_all_at(&[byte], at)
            .expect("writes");
    };
    // one bit, anywhere in a key: its head, its seed, its residues
    let section = f
        .keys
        .windows(4)
        .position(|w| w == b"key ")
        .expect("a key's section");
    let bytes = f
        .plan
        .facts()
        .key_sizes
        .values()
        .map(|s| s.file)
        .sum::<u64>() as usize;
    assert!(section + bytes < f.keys.len());
    let path = folder.file("evaluation.keys", &f.keys);
    let server = open_keys(&f, &path, &none).expect("opens");
    let want = answer(&server, &f.input).expect("runs");
    // offsets within every key alike, since not all are used by the first step
    let mut starts = Vec::new();
    let mut at = section;
    for size in f.plan.facts().key_sizes.values() {
        starts.push(at);
        at += size.file as usize + 44;
    }
    assert_eq!(at, f.keys.len());
    for offset in [0, 5, 12, 43, 44, 300] {
        for bit in [0, 7] {
            for &start in &starts {
                write(
                    &path,
                    (start + offset) as u64,
                    f.keys[start + offset] ^ 1 << bit,
                );
            }
            refused(&server, &path);
            for &start in &starts {
                write(&path, (start + offset) as u64, f.keys[start + offset]);
            }
        }
    }
    // put back, it serves again
    assert!(answer(&server, &f.input).expect("runs") == want);
    // cut short
    let file = std::fs::File::options().write(true).open(&path);
    file.expect("opens")
        .set_len(section as u64 + 100)
        .expect("cuts");
    refused(&server, &path);
    // what was wrong from the beginning is refused at the beginning
    let message = open_keys(&f, &path, &none)
        .expect_err("cut short")
        .to_string();
    assert!(message.contains("truncated"), "{message}");
    let mut flipped = f.keys.clone();
    flipped[section + 60] ^= 1;
    let flipped = folder.file("flipped.keys", &flipped);
    let e = open_keys(&f, &flipped, &none).expect_err("flipped");
    assert!(matches!(e, Error::File { .. }), "{e}");
    let message = open_keys(&f, Path::new("/dev/null"), &none)
        .expect_err("no regular file")
        .to_string();
    assert!(message.contains("no regular file"), "{message}");
}
