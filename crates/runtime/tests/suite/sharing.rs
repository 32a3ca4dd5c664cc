//! Answers that are shared, and their count.

use crate::support::*;
use polyveil_runtime::sharing::{Flooding, Terms};
use polyveil_runtime::*;
use std::path::PathBuf;

/// A client, an answer to share, and a place for the record.
struct Sharing {
    files: Files,
    answer: Vec<u8>,
    record: PathBuf,
}

impl Sharing {
    fn new(name: &str) -> Self {
        let files = files(levelled());
        let server = files.server();
        let state = server.read_input(&files.input[..], "x").expect("input");
        let answer = server.run(state, &mut ()).expect("runs");
        let folder =
            std::env::temp_dir().join(format!("polyveil-share-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self {
            answer: server
                .write_answer(&answer, Vec::new(), "x")
                .expect("answer"),
            record: folder.join("releases.json"),
            files,
        }
    }
    fn share(
        &self,
        security: Option<u32>,
        releases: Option<u64>,
        seed: u64,
    ) -> Result<sharing::Shared> {
        let terms = Terms {
            security,
            releases,
            class_bits: Some(4),
        };
        self.files
            .client
            .share_answer(&self.answer[..], "x", &self.record, &terms, &mut rng(seed))
    }
    fn refused(&self, security: Option<u32>, releases: Option<u64>, words: &[&str]) {
        let message = self
            .share(security, releases, 7)
            .expect_err("refused")
            .to_string();
        for w in words {
            assert!(message.contains(w), "{w:?} is missing in {message}");
        }
        assert!(
            message.contains(';') && !message.contains('\n'),
            "{message}"
        );
    }
    fn used(&self) -> u64 {
        let record = std::fs::read(&self.record).expect("a record");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        record["used"].as_u64().expect("a number")
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        if let Some(folder) = self.record.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[test]
fn shared_answers_have_the_stated_noise_and_keep_the_class() {
    let s = Sharing::new("noise");
    let plain = s
        .files
        .client
        .read_answer(&s.answer[..], "x")
        .expect("decrypts");
    let bounds = s.files.client.spec().answer;
    assert_eq!(bounds.error, s.files.plan.facts().output_error);
    assert!(plain.iter().all(|v| v.abs() <= bounds.magnitude));
    let best = |v: &[f64]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]));
    let releases = 100;
    let mut squares = 0.0;
    let sigma = Flooding::new(bounds, SLOTS, 20, releases)
        .expect("in range")
        .sigma();
    for i in 0..releases {
        let shared = s
            .share(Some(20), Some(releases), 100 + i)
            .expect("a wide margin");
        assert_eq!((shared.used, shared.sigma), (i + 1, sigma));
        assert_eq!(best(&shared.values), best(&plain));
        assert!(
            shared.margin.expect("classes") >= shared.needed_margin.expect("of a class")
                && shared.bits > 0.0
        );
        squares += shared
            .values
            .iter()
            .zip(&plain)
            .inspect(|(a, b)| assert_ne!(a, b))
            .map(|(a, b)| ((a - b) / sigma).powi(2))
            .sum::<f64>();
    }
    let n = SLOTS as f64 * releases as f64;
    let deviations = (squares / n - 1.0) / (2.0 / n).sqrt();
    assert!(
        deviations.abs() < 5.0,
        "variance off by {deviations:.1} deviations"
    );
    s.refused(None, None, &["used up", "new keys"]);
    assert_eq!(s.used(), releases);
}

#[test]
fn shares_that_would_lose_the_class_are_refused() {
    let s = Sharing::new("margin");
    let remedies = ["larger scale", "fewer releases", "class alone"];
    // no answer of this plan could have that margin: refused unseen, not counted
    s.refused(Some(64), Some(1000), &remedies);
    assert!(!s.record.exists());
    // this answer has not: counted, since whoever notices the refusal learns of the noisy answer
    let bounds = s.files.client.spec().answer;
    let (security, releases) = (20..=64)
        .flat_map(|b| [1, 2, 3].map(|r| (b, r)))
        .filter(|&(b, r)| {
            let f = Flooding::new(bounds, SLOTS, b, r).expect("in range");
            f.needed_margin(4) <= 2.0 * bounds.magnitude
        })
        .max()
        .expect("some noise is small enough");
    s.refused(Some(security), Some(releases), &remedies);
    assert_eq!(s.used(), 1);
}

#[test]
fn shares_at_the_same_time_are_all_counted() {
    let s = Sharing::new("race");
    let used = |worker: u64| -> Vec<u64> {
        (0..5)
            .map(|i| {
                s.share(Some(20), Some(20), 10 * worker + i)
                    .expect("promised")
                    .used
            })
            .collect()
    };
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let used = &used;
        let workers: Vec<_> = (0..4).map(|w| scope.spawn(move || used(w))).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("no panic"))
            .collect()
    });
    all.sort_unstable();
    assert_eq!(all, (1..=20).collect::<Vec<u64>>());
    s.refused(None, None, &["all 20 releases", "used up"]);
}

#[test]
fn releases_are_promised_once_and_counted_under_their_key() {
    let s = Sharing::new("count");
    s.refused(Some(20), None, &["how many answers"]);
    s.refused(Some(20), Some(0), &["0 releases", "1 to 1048576"]);
    s.refused(Some(3), Some(2), &["20 to 64 bits"]);
    assert!(!s.record.exists());
    assert_eq!(s.share(Some(20), Some(2), 1).expect("first").used, 1);
    s.refused(None, Some(9), &["2 releases at 20 bits", "new keys"]);
    s.refused(Some(21), None, &["2 releases at 20 bits", "new keys"]);
    let second = s.share(None, None, 2).expect("second");
    assert_eq!(
        (second.used, second.releases, second.security_bits),
        (2, 2, 20)
    );
    s.refused(Some(20), Some(2), &["all 2 releases", "used up"]);

    let good = std::fs::read_to_string(&s.record).expect("a record");
    let other = other(&s.files);
    let foreign = answer(&other.server(), &other.input).expect("runs");
    let terms = Terms {
        security: None,
        releases: Some(2),
        class_bits: Some(4),
    };
    let message = other
        .client
        .share_answer(&foreign[..], "x", &s.record, &terms, &mut rng(1))
        .expect_err("refused")
        .to_string();
    assert!(message.contains("another key"), "{message}");
    for bad in [
        String::new(),
        good.replace("\"used\": 2", "\"used\": 3"),
        good.replace("\"used\": 2", "\"used\": -1"),
        good.replace("\"security\": 20", "\"security\": 2"),
        good.replace("\"used\"", "\"spent\""),
        format!("{good}x"),
        " ".repeat(5000) + &good,
    ] {
        std::fs::write(&s.record, bad).expect("writes");
        s.refused(None, None, &["record of shared answers", "make new keys"]);
    }
}

#[test]
fn the_class_alone_is_shared_until_one_is_refused() {
    let s = Sharing::new("class");
    let client = &s.files.client;
    let share = |answer: &[u8], releases| {
        let terms = Terms {
            security: Some(20),
            releases,
            class_bits: Some(4),
        };
        client.share_class(answer, "x", &s.record, &terms)
    };
    let refused = |answer: &[u8], releases, words: &[&str]| {
        let message = share(answer, releases).expect_err("refused").to_string();
        for w in words {
            assert!(message.contains(w), "{w:?} is missing in {message}");
        }
        assert!(
            message.contains(';') && !message.contains('\n'),
            "{message}"
        );
    };
    refused(&s.answer, None, &["how many answers"]);
    refused(&s.answer, Some(0), &["0 releases"]);
    assert!(!s.record.exists());

    let plain = client.read_answer(&s.answer[..], "x").expect("answer");
    let best = (0..plain.len()).max_by(|&a, &b| plain[a].total_cmp(&plain[b]));
    let shared = share(&s.answer, Some(4)).expect("a wide lead");
    assert_eq!(
        (Some(shared.class), shared.used, shared.releases),
        (best, 1, 4)
    );
    assert_eq!(shared.needed_margin, 2.0 * client.spec().answer.error);
    // nothing but the class depends on the answer
    let fields = serde_json::to_value(shared).expect("JSON");
    let names: Vec<&String> = fields.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["class", "needed_margin", "releases", "used"]);
    // noisy answers and classes are counted together
    assert_eq!(s.share(Some(20), Some(4), 1).expect("noise").used, 2);

    // equal inputs give equal outputs, and the error alone has a favourite
    let server = s.files.server();
    let level = client
        .encrypt(&[0.0; SLOTS], &mut rng(5))
        .expect("encrypts");
    let tie = server
        .run(server.start(&level).expect("starts"), &mut ())
        .expect("runs");
    let tie = server.write_answer(&tie, Vec::new(), "x").expect("answer");
    refused(&tie, None, &["twice the error bound", "3 of 4", "new keys"]);
    assert_eq!(s.used(), 3);
    // that was the last: whether a class comes now must not tell more
    for answer in [&tie, &s.answer] {
        refused(answer, None, &["refused under this key before", "new keys"]);
    }
    assert_eq!(s.used(), 3);
    assert_eq!(s.share(None, None, 2).expect("noise").used, 4);
    refused(&s.answer, None, &["used up"]);
}
