//! Files of the final wire formats (`docs/format.md`): the fuzzer's toy plans with every operation, one that is a step of a sequence, and all that
//! their sides exchange, in `golden/VERSION`. A program reads those of the last two, whatever else it reads, and they give the same answers.

extern crate polyveil_runtime as runtime;

#[allow(dead_code, reason = "the fuzzer has more of a toy")]
#[path = "../../fuzz/src/toy.rs"]
mod toy;

use ckks::Parameters;
use ckks::parameters::Zone;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::alarm::gain;
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::wire::container::VERSION;
use runtime::{
    Alarm, Cache, ClearTwin, Client, ClientFile, Limits, Operation, Plan, Purpose, Server, State,
    Step, Sums, VerifiedPlan,
};
use std::path::PathBuf;
use std::sync::Arc;
use toy::{INPUT, SLOTS, TASK, Toy, fine, plans, step};

/// The first format that is final.
const FIRST: u16 = 6;
const NAMES: [&str; 4] = ["arithmetic", "polynomials", "bootstraps", "coefficients"];
/// The last two once more, under parameters whose bootstraps are exact enough to have an answer, and the last with an alarm, squared below the levels for
/// slots: the last of its numbers is what that reads; and with weights of 20 bits.
const ANSWERED: [&str; 4] = ["refreshed", "layers", "alarmed", "fine"];
/// A step of a sequence: its numbers are the answers of the first two runs.
const STEP: &str = "step";

fn path(version: u16, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(version.to_string()).join(name)
}

fn read(version: u16, name: &str, ending: &str) -> Vec<u8> {
    let path = path(version, &format!("{name}.{ending}"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Writes those files of a plan that have bytes.
fn write(name: &str, files: &[(&str, &[u8])]) {
    for (ending, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let path = path(VERSION, &format!("{name}.{ending}"));
        std::fs::write(path, bytes).expect("a file");
    }
}

fn close(name: &str, values: &[f64], known: &[f64], within: f64) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= within;
    let all = values.len() == known.len() && values.iter().zip(known).all(near);
    assert!(all, "{name}: {values:?}, {known:?}");
}

fn answer_of(
    server: &Server,
    client: &Client,
    state: State<ckks::Ciphertext>,
    name: &str,
) -> Vec<f64> {
    let answer = server.run(state, &mut ()).expect("runs");
    let bytes = server.write_answer(&answer, Vec::new(), "answer");
    values(client, &bytes.expect("in memory"), name)
}

/// Toys compute little that makes sense: of an answer that can't be right there are no values.
fn values(client: &Client, answer: &[u8], name: &str) -> Vec<f64> {
    match client.read_doubtful(answer, "answer") {
        Err(runtime::Error::Answer { .. }) => Vec::new(),
        judged => {
            let judged = judged.expect("an answer");
            let reads = judged.alarm.filter(|_| name == "alarmed");
            (judged.values.into_iter().chain(reads.map(|m| m.measured))).collect()
        }
    }
}

/// What they are given: no two values alike.
const GIVEN: [f64; SLOTS] = [0.5, -0.375, 0.25, 0.125, -0.5, 0.0, 0.3125, -0.1875];
/// How far the answers are from the plan's in the clear: their sine has degree 15, their scales few bits.
const WITHIN: f64 = 1e-4;

/// Instead of a sine of degree 3, whose values are none, one of degree 15.
fn answered() -> [Plan; 4] {
    let [.., bootstraps, coefficients] = plans();
    let [bootstraps, coefficients, fine] = [bootstraps, coefficients, fine()].map(|mut plan| {
        let spec = &mut plan.parameters;
        if let Some(b) = &mut spec.bootstrap {
            b.eval_mod = vec![Zone::new(6, &[50])];
            (b.degree, b.double_angles) = (15, 2);
        }
        spec.special_bits.push(spec.special_bits[0]);
        plan
    });
    let alarmed = alarmed(coefficients.clone());
    [bootstraps, coefficients, alarmed, fine]
}

/// With the fourth powers of what comes from the half bootstrap, squared at the level of SlotToCoeff and at that of products.
fn alarmed(mut plan: Plan) -> Plan {
    let parameters = Parameters::new(plan.parameters.clone()).expect("a valid seed");
    let gains = [2, 1].map(|level| gain(&parameters, level));
    let squares = |factor, input, output, level| Operation::Squares {
        inputs: vec![(factor, input)],
        sum: None,
        output,
        level,
    };
    let slots = 4;
    let operations = [
        // small values, of which the sums shall still say something
        squares(2.5 / (gains[0] * gains[1].sqrt()).sqrt(), 2, 6, 2),
        squares(1.0, 6, 7, 1),
        Operation::Fold {
            input: 7,
            output: 8,
            slots,
            level: 0,
        },
    ];
    let steps = operations.map(|operation| Step {
        layer: "alarm".into(),
        purpose: Purpose::Weights,
        operation,
        unit: 1.0,
        interval: None,
    });
    plan.steps.splice(2..2, steps);
    plan.description.alarm = Some(Alarm {
        first: Sums {
            register: 8,
            slots,
            owners: None,
        },
        level: 0,
        threshold: 0.25,
        reach: 1.5,
        watched: 1,
        more: Vec::new(),
    });
    plan
}

/// The two sides of a plan, and what they exchange where the input is [`GIVEN`].
fn given(plan: Plan) -> Toy {
    let mut toy = Toy::new(plan);
    let (server, name) = (&toy.server, "seed");
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let input = toy.client.write_input(&GIVEN, Vec::new(), name, &mut rng);
    toy.input = input.expect("in memory");
    let mut state = server.read_input(&toy.input[..], name).expect("an input");
    let step = toy.plan.advance(server.engine(), &mut state, &mut ());
    step.expect("a step");
    toy.checkpoint = Checkpointer::new(&toy.plan, server.engine(), name.into(), INPUT)
        .write(&state, Vec::new(), name)
        .expect("in memory");
    let answer = server.run(state, &mut ()).expect("runs");
    let answer = server.write_answer(&answer, Vec::new(), name);
    toy.answer = answer.expect("in memory");
    toy
}

#[test]
fn files_of_the_last_two_final_formats_give_known_values() {
    for version in FIRST.max(VERSION - 1)..=VERSION {
        for name in NAMES.into_iter().chain(ANSWERED) {
            let file = |ending: &str| read(version, name, ending);
            let weights = path(version, &format!("{name}.weights"));
            let beside = weights.exists().then_some(weights.as_path());
            let plan =
                VerifiedPlan::read_within(&file("plan")[..], name, Limits::default(), beside);
            let plan = Arc::new(plan.expect("a plan"));
            let client_file = ClientFile::read(&file("client")[..], name).expect("a client file");
            let client = Client::read(&file("key")[..], name, client_file).expect("a key");
            let keys = file("keys");
            let server = Server::read(plan.clone(), &keys[..], name, &mut |_, _| {});
            let server = server.expect("evaluation keys");
            let known: Vec<f64> = serde_json::from_slice(&file("json")).expect("numbers");
            let same = |values: Vec<f64>, within| close(name, &values, &known, within);
            same(values(&client, &file("answer"), name), 1e-12);
            if ANSWERED.contains(&name) {
                let clear = ClearTwin::new(&plan, client.spec(), &GIVEN).expect("a tensor");
                let mut values = clear.finish().expect("within its intervals");
                // what the alarm reads is not among them
                values.extend(&known[values.len()..]);
                same(values, WITHIN);
            }
            let input = server
                .read_input(&file("input")[..], name)
                .expect("an input");
            same(answer_of(&server, &client, input, name), 1e-3);
            let state =
                read_checkpoint_from(&file("checkpoint")[..], name, &plan, &INPUT, client.key());
            let state = server
                .resume(state.expect("a checkpoint"))
                .expect("resumes");
            same(answer_of(&server, &client, state, name), 1e-3);
        }
    }
}

/// More than its error, and less than its threshold.
#[test]
fn an_alarm_reads_something() {
    let known: Vec<f64> = serde_json::from_slice(&read(FIRST, "alarmed", "json")).expect("numbers");
    assert!(
        known.len() == SLOTS + 1 && (0.01..0.25).contains(&known[SLOTS]),
        "{known:?}"
    );
}

#[test]
fn steps_of_the_last_two_final_formats_give_known_values() {
    for version in FIRST.max(VERSION - 1)..=VERSION {
        let file = |ending: &str| read(version, STEP, ending);
        let plan = VerifiedPlan::read(&file("plan")[..], STEP).expect("a plan");
        let plan = Arc::new(plan);
        let client_file = ClientFile::read(&file("client")[..], STEP).expect("a client file");
        let client = Client::read(&file("key")[..], STEP, client_file).expect("a key");
        let keys = file("keys");
        let server = Server::read(plan.clone(), &keys[..], STEP, &mut |_, _| {});
        let server = server.expect("evaluation keys");
        let known: [Vec<f64>; 2] = serde_json::from_slice(&file("json")).expect("numbers");
        close(
            STEP,
            &values(&client, &file("answer"), STEP),
            &known[0],
            1e-12,
        );
        let input = plan.read_input(&file("input")[..], STEP, client.key());
        let input = input.expect("an input");
        let cache = |ending| Cache::read(&plan, client.key(), &file(ending)[..], STEP);
        let caches = ["cache", "next"].map(|ending| cache(ending).expect("a cache"));
        for (run, cache) in caches.iter().enumerate() {
            assert_eq!(cache.runs(), run);
            let (answer, next) = server.step(&input, cache, &mut ()).expect("runs");
            let bytes = server.write_answer(&answer, Vec::new(), STEP);
            let had = values(&client, &bytes.expect("in memory"), STEP);
            close(STEP, &had, &known[run], 1e-3);
            assert_eq!(next.runs(), run + 1);
        }
    }
}

/// Two runs of a step, whose place is the first.
fn stepped() {
    let rng = ChaCha20Rng::seed_from_u64;
    let plan = Arc::new(VerifiedPlan::new(step()).expect("a valid seed"));
    let file = plan.client_file(TASK.into()).expect("a valid seed");
    let client = Client::new(file.clone(), &mut rng(1));
    let keys = client
        .write_evaluation_keys(Vec::new(), STEP, &mut rng(2), &mut |_, _| {})
        .expect("in memory");
    let server = Server::read(plan.clone(), &keys[..], STEP, &mut |_, _| {}).expect("keys");
    let tensor = [GIVEN, [1.0; SLOTS]].concat();
    let input = client.input(&tensor, &mut rng(3)).expect("in memory");
    let read = plan.read_input(&input[..], STEP, client.key());
    let read = read.expect("an input");
    let run = |cache: &Cache| {
        let (answer, next) = server.step(&read, cache, &mut ()).expect("runs");
        let answer = server.write_answer(&answer, Vec::new(), STEP);
        (answer.expect("in memory"), next)
    };
    let first = Cache::empty(&plan, client.key()).expect("a valid seed");
    let (answer, next) = run(&first);
    let known = [&answer, &run(&next).0].map(|a| values(&client, a, STEP));
    assert!(known.iter().all(|v| v.len() == SLOTS) && known[0] != known[1]);
    let cache = |c: &Cache| c.write(&plan, Vec::new(), STEP).expect("in memory");
    let own = |bytes: runtime::Result<Vec<u8>>| bytes.expect("in memory");
    write(
        STEP,
        &[
            ("plan", &own(plan.plan().write(Vec::new(), STEP))),
            ("client", &own(file.write(Vec::new(), STEP))),
            ("key", &own(client.write(Vec::new(), STEP))),
            ("keys", &keys),
            ("input", &input),
            ("cache", &cache(&first)),
            ("next", &cache(&next)),
            ("answer", &answer),
            ("json", &serde_json::to_vec(&known).expect("numbers")),
        ],
    );
}

#[test]
#[ignore = "writes the files of a format that becomes final, those that are not there"]
fn golden_files_are_made() {
    std::fs::create_dir_all(path(VERSION, "")).expect("a folder");
    let toys = NAMES.into_iter().zip(plans().map(Toy::new));
    let answered = ANSWERED.into_iter().zip(answered().map(given));
    let there = |name: &str| path(VERSION, &format!("{name}.plan")).exists();
    for (name, toy) in toys.chain(answered).filter(|(name, _)| !there(name)) {
        let known = values(&toy.client, &toy.answer, name);
        assert!(name == "bootstraps" || name == "coefficients" || !known.is_empty());
        let known = serde_json::to_vec(&known).expect("numbers");
        let plan = toy.plan.plan();
        let (mut bytes, mut weights) = (Vec::new(), Vec::new());
        match plan.integer_bytes() {
            0 => bytes = plan.write(bytes, name).expect("in memory"),
            _ => {
                let both = plan.write_beside((bytes, name), (weights, name));
                (bytes, weights) = both.expect("in memory");
            }
        }
        write(
            name,
            &[
                ("plan", &bytes),
                ("weights", &weights),
                ("client", &toy.client_file),
                ("key", &toy.client_key),
                ("keys", &toy.keys),
                ("input", &toy.input),
                ("checkpoint", &toy.checkpoint),
                ("answer", &toy.answer),
                ("json", &known),
            ],
        );
    }
    if !there(STEP) {
        stepped();
    }
}
