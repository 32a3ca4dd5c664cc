//! Many clients at once: none wrong, none lost, keys in memory within the limit.

use crate::support::{Caller, Party, Site, Toy};
use polyveil_serve::client::{EncryptedInput, PublicKeys, Remote, Token, Transport};

const CLIENTS: usize = 4;
const REQUESTS: usize = 12;

/// What the clear network says of a row.
fn clear(row: [f64; 4]) -> Vec<f64> {
    let row = nn::Tensor::new(nn::Shape::Vector(4), row.to_vec()).expect("fits");
    let graph = Toy::Small.network();
    let answer = graph.network().evaluate(&row).expect("evaluates");
    answer.output.values().to_vec()
}

fn row(client: usize, request: usize) -> [f64; 4] {
    [0, 1, 2, 3].map(|i| ((7 * client + 3 * request + i) % 11) as f64 / 11.0)
}

#[test]
fn four_clients_at_once_get_their_own_answers() {
    let site = Site::new("load", Toy::Small, "--runs 2");
    let work = |number: usize, token: String, party: Party| {
        let url = site.url();
        move || {
            let token = Token::new(&token).expect("a token");
            let remote = Remote::new(&url, token, Transport::Protected).expect("loopback");
            let keys = PublicKeys::open(party.path.as_ref()).expect("keys");
            remote.upload("toy", &keys, &mut |_| {}).expect("uploads");
            let asked: Vec<String> = (0..REQUESTS)
                .map(|i| {
                    let input = EncryptedInput::from_bytes(party.input(row(number, i)));
                    let job = remote.ask("toy", keys.digest(), &input.expect("an input"));
                    job.expect("asks")["id"].as_str().expect("an id").into()
                })
                .collect();
            for (i, id) in asked.iter().enumerate() {
                let job = remote.wait(id, &mut |_| {}).expect("done");
                let mut answer = Vec::new();
                remote
                    .answer(&job, &mut answer, &mut |_| {})
                    .expect("fetched");
                let had = party.client.decrypt(&answer).expect("can be right");
                for (had, want) in had.iter().zip(clear(row(number, i))) {
                    assert!((had - want).abs() < 1e-3, "client {number}, request {i}");
                }
                remote.delete_job(id).expect("goes");
            }
        }
    };
    let threads: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let token = site.account(&format!("client-{number}"), "");
            std::thread::spawn(work(
                number,
                token,
                site.client(&format!("client-{number}")),
            ))
        })
        .collect();
    for thread in threads {
        thread.join().expect("all answers are right");
    }
    site.hears("\"job_done\"", CLIENTS * REQUESTS);
    assert!(!site.said().contains("job_failed"));
}

#[test]
fn keys_leave_memory_for_others() {
    let mut site = Site::new("sets", Toy::Small, "");
    let token = site.account("ada", "");
    let caller = Caller {
        address: site.address,
        token,
    };
    let plan = caller.get("/v1/plans/toy").json();
    let bytes = |name: &str| plan[name].as_u64().expect("bytes");
    // two sets and a run
    site.stop();
    site.start(&format!(
        "--max-memory {}B",
        bytes("run_memory") + 2 * bytes("key_memory") + 1000
    ));
    let parties: Vec<Party> = (0..3).map(|i| site.client(&format!("{i}"))).collect();
    parties.iter().for_each(|p| drop(caller.upload(&p.keys)));
    for round in 0..2 {
        for party in &parties {
            let job = caller.ask(
                &party.digest(),
                &format!("{round}-{}", party.digest()),
                &party.input([0.5; 4]),
            );
            let answer = caller.answer(job.json()["id"].as_str().expect("an id"));
            assert_eq!(party.class(&answer), 0);
        }
    }
    let metrics = String::from_utf8(caller.get("/metrics").body).expect("text");
    for line in [
        "polyveil_key_sets 2\n",
        "polyveil_key_loads_total 6\n",
        "polyveil_key_evictions_total 4\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
}

/// A number of the service's metrics.
fn metric(caller: &Caller, name: &str) -> f64 {
    let text = String::from_utf8(caller.get("/metrics").body).expect("text");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|v| v.parse().ok()).expect("a number")
}

/// A client that asks the same again and again, and what it got first.
struct Asker {
    caller: Caller,
    party: Party,
    keys: String,
    input: Vec<u8>,
    answer: Vec<u8>,
}

impl Asker {
    /// Of a network's own shape: numbers that are the same in each run.
    fn new(site: &Site, name: &str) -> Self {
        let caller = Caller {
            address: site.address,
            token: site.account(name, "--cpu-seconds 1e9 --key-bytes 900GB"),
        };
        let party = site.client(name);
        let keys = caller.upload(&party.keys);
        let count = site.plan.plan().input.shape.iter().product::<usize>();
        let values: Vec<f64> = (0..count).map(|i| (i % 11) as f64 / 11.0).collect();
        let client = party.client.keys();
        let input = client.input(&values, &mut polyveil::session::rng());
        let mut asker = Self {
            caller,
            party,
            keys,
            input: input.expect("encrypts"),
            answer: Vec::new(),
        };
        asker.answer = asker.ask("first");
        let first = asker.party.client.keys().answer(&asker.answer);
        first.expect("can be right");
        asker
    }

    /// Asks, waits, fetches and deletes.
    fn ask(&self, name: &str) -> Vec<u8> {
        let asked = self.caller.ask(&self.keys, name, &self.input).json();
        let id = asked["id"].as_str().unwrap_or_else(|| panic!("{asked}"));
        let answer = self.caller.answer(id);
        let gone = self
            .caller
            .call("DELETE", &format!("/v1/jobs/{id}"), "", &[]);
        assert_eq!(gone.status, 204);
        answer
    }

    /// None is lost, and all have the same bits.
    fn again(&self, name: &str) {
        assert!(self.ask(name) == self.answer, "{name} is wrong");
    }
}

/// A service of the network that `POLYVEIL_PLAN` names (its client file beside it), or of a toy.
fn measured(name: &str, toy: Toy) -> Site {
    match std::env::var("POLYVEIL_PLAN") {
        Ok(plan) => Site::of(name, &plan),
        Err(_) => Site::new(name, toy, ""),
    }
}

/// How many requests: `POLYVEIL_REQUESTS`.
fn requests(otherwise: usize) -> usize {
    let given = std::env::var("POLYVEIL_REQUESTS").ok();
    given.map_or(otherwise, |n| n.parse().expect("a number"))
}

#[test]
#[ignore = "a minute or more: 1,000 requests; POLYVEIL_PLAN and POLYVEIL_REQUESTS choose others"]
fn memory_stays_flat_over_a_thousand_requests() {
    let site = measured("soak", Toy::Small);
    let asker = Asker::new(&site, "ada");
    let (all, mut before) = (requests(1000), 0.0);
    for i in 0..all {
        asker.again(&format!("request-{i}"));
        if i == all / 5 {
            before = metric(&asker.caller, "polyveil_resident_bytes");
        }
    }
    let after = metric(&asker.caller, "polyveil_resident_bytes");
    println!(
        "{:.2} MB after {} requests, {:.2} MB after {all}",
        before / 1e6,
        all / 5,
        after / 1e6
    );
    assert!((after / before - 1.0).abs() < 0.03, "{before} {after}");
}

#[test]
#[ignore = "measures: wants a quiet machine; POLYVEIL_PLAN and POLYVEIL_REQUESTS choose another network and number"]
fn clients_at_once_get_as_much_as_one_after_the_other() {
    let mut site = measured("throughput", Toy::Bootstraps);
    // room for one run, all clients' keys, and what the process itself takes
    let first = Asker::new(&site, "first");
    let plan = first.caller.get("/v1/plans/toy").json();
    let bytes = |name: &str| plan[name].as_u64().expect("bytes");
    let most = bytes("run_memory") + CLIENTS as u64 * bytes("key_memory") + (64 << 20);
    site.stop();
    site.start(&format!("--max-memory {most}B"));
    let askers = (1..CLIENTS).map(|i| Asker::new(&site, &format!("client-{i}")));
    let askers: Vec<Asker> = [first].into_iter().chain(askers).collect();
    askers[0].again("keys into memory");
    let rounds = requests(5);
    let start = std::time::Instant::now();
    for round in 0..rounds {
        for asker in &askers {
            asker.again(&format!("alone-{round}"));
        }
    }
    let alone = start.elapsed();
    let start = std::time::Instant::now();
    let resident = std::thread::scope(|scope| {
        let work = |asker: &Asker| (0..rounds).for_each(|i| asker.again(&format!("together-{i}")));
        let threads: Vec<_> = askers
            .iter()
            .map(|a| scope.spawn(move || work(a)))
            .collect();
        let mut resident = 0.0f64;
        while !threads.iter().all(|t| t.is_finished()) {
            resident = resident.max(metric(&askers[0].caller, "polyveil_resident_bytes"));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        resident
    });
    let together = start.elapsed();
    let share = alone.as_secs_f64() / together.as_secs_f64();
    println!(
        "{CLIENTS} clients, {rounds} requests each, none lost or wrong: {alone:?} one after the other, {together:?} at once: {share:.2} of the throughput; {:.0} MB resident of {:.0} allowed",
        resident / 1e6,
        most as f64 / 1e6
    );
    assert!(resident <= most as f64 && share >= 0.9, "{share}");
}
