//! A server that ends, asked to or not: jobs go on, and their answers have the same bits.

use crate::support::{Caller, Site, Toy, longest_file};
use std::time::{Duration, Instant};

/// What an undisturbed run gives for this input.
fn undisturbed(site: &Site, keys: &[u8], input: &[u8]) -> Vec<u8> {
    let server = runtime::Server::read(site.plan.clone(), keys, "x", &mut |_, _| {});
    server.expect("keys").answer(input, &mut ()).expect("runs")
}

#[test]
fn jobs_survive_kills_and_give_the_same_bits() {
    let mut site = Site::new("kills", Toy::Bootstraps, "");
    assert!(
        site.plan.facts().bootstraps > 1,
        "{}",
        site.plan.facts().bootstraps
    );
    let caller = Caller {
        address: site.address,
        token: site.account("ada", ""),
    };
    let party = site.client("ada");
    let keys = caller.upload(&party.keys);
    let inputs: Vec<Vec<u8>> = (1..=3)
        .map(|i| party.input([0.25 * f64::from(i); 4]))
        .collect();
    let start = Instant::now();
    let wanted: Vec<Vec<u8>> = (inputs.iter())
        .map(|x| undisturbed(&site, &party.keys, x))
        .collect();
    let once = start.elapsed() / 3;
    let mut jobs = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let job = caller.ask(&keys, &format!("request-{i}"), input);
        assert_eq!(job.status, 202, "{job:?}");
        jobs.push(job.json()["id"].as_str().expect("an id").to_string());
    }
    // moments that differ from each other and from run to run, most of them within a run
    let mut random = u64::from(std::process::id());
    let mut kills = 0;
    'kills: while kills < 11 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let moment = once.mul_f64((random >> 40) as f64 / (1u64 << 24) as f64 * 0.4);
        // in a run, and not while the server starts
        loop {
            let states = jobs
                .iter()
                .map(|job| caller.get(&format!("/v1/jobs/{job}")).json());
            let states: Vec<serde_json::Value> = states.collect();
            if states.iter().any(|s| s["state"] == "running") {
                break;
            }
            // a machine that became faster meanwhile
            if states.iter().all(|s| s["state"] == "done") {
                break 'kills;
            }
        }
        std::thread::sleep(moment);
        // once asked to, else not
        match kills {
            4 => site.stop(),
            _ => site.kill(),
        }
        site.start("");
        kills += 1;
    }
    assert!(kills > 4, "{kills}");
    for (job, wanted) in jobs.iter().zip(&wanted) {
        assert!(caller.answer(job) == *wanted, "other bits");
    }
    assert!(site.said().contains("\"job_resumed\""), "{}", site.said());
    // nothing is left but answers; files go after a job is said to be done
    let start = Instant::now();
    for kind in ["inputs", "checkpoints", "uploads"] {
        let folder = site.folder.path(&format!("data/{kind}"));
        while std::fs::read_dir(&folder).expect("a folder").count() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "{kind}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_server_that_is_asked_to_stop_leaves_checkpoints() {
    let mut site = Site::new("stop", Toy::Bootstraps, "");
    let caller = Caller {
        address: site.address,
        token: site.account("ada", ""),
    };
    let party = site.client("ada");
    let keys = caller.upload(&party.keys);
    let input = party.input([0.5; 4]);
    let job = caller.job(&keys, "one", &input);
    let start = Instant::now();
    while caller.get(&format!("/v1/jobs/{job}")).json()["state"] != "running" {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    site.stop();
    assert!(site.said().contains("\"job_stopped\""), "{}", site.said());
    let kept = std::fs::metadata(site.folder.path(&format!("data/checkpoints/{job}")));
    assert!(kept.expect("a checkpoint").len() > 0);
    site.start("");
    assert!(caller.answer(&job) == undisturbed(&site, &party.keys, &input));
    assert!(site.said().contains("\"job_resumed\""), "{}", site.said());
}

#[test]
fn an_answer_that_finds_no_room_waits_for_it() {
    let site = Site::new("room", Toy::Bootstraps, "");
    let caller = Caller {
        address: site.address,
        token: site.account("ada", ""),
    };
    let party = site.client("ada");
    let keys = caller.upload(&party.keys);
    let input = party.input([0.5; 4]);
    let job = caller.job(&keys, "one", &input);
    // from now on the disk is full
    longest_file(site.id(), Some(512));
    site.hears("\"storage_awaited\"", 1);
    let waits = caller.get(&format!("/v1/jobs/{job}")).json();
    assert_eq!(waits["state"], "running", "{waits}");
    longest_file(site.id(), None);
    assert!(caller.answer(&job) == undisturbed(&site, &party.keys, &input));
    assert!(!site.said().contains("job_failed"), "{}", site.said());
}
