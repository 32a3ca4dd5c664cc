//! Files of the final wire formats (`docs/format.md`): the fuzzer's toy plans with every operation and all that their sides exchange, in
//! `golden/VERSION`. A program reads those of the last two, whatever else it reads, and they give the same answers.

extern crate polyveil_runtime as runtime;

#[allow(dead_code, reason = "the fuzzer has more of a toy")]
#[path = "../../fuzz/src/toy.rs"]
mod toy;

use ckks::parameters::Zone;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use runtime::checkpoint::{Checkpointer, read_checkpoint_from};
use runtime::wire::container::VERSION;
use runtime::{ClearTwin, Client, ClientFile, Limits, Plan, Server, State, VerifiedPlan};
use std::path::PathBuf;
use std::sync::Arc;
use toy::{INPUT, SLOTS, Toy, plans};

/// The first format that is final.
const FIRST: u16 = 6;
const NAMES: [&str; 4] = ["arithmetic", "polynomials", "bootstraps", "coefficients"];
/// The last two once more, under parameters whose bootstraps are exact enough to have an answer.
const ANSWERED: [&str; 2] = ["refreshed", "layers"];

fn path(version: u16, name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(version.to_string()).join(name)
}

fn answer_of(server: &Server, client: &Client, state: State<ckks::Ciphertext>) -> Vec<f64> {
    let answer = server.run(state, &mut ()).expect("runs");
    let bytes = server.write_answer(&answer, Vec::new(), "answer");
    values(client, &bytes.expect("in memory"))
}

/// Toys compute little that makes sense: of an answer that can't be right there are no values.
fn values(client: &Client, answer: &[u8]) -> Vec<f64> {
    match client.read_doubtful(answer, "answer") {
        Err(runtime::Error::Answer { .. }) => Vec::new(),
        judged => judged.expect("an answer").values,
    }
}

/// What they are given: no two values alike.
const GIVEN: [f64; SLOTS] = [0.5, -0.375, 0.25, 0.125, -0.5, 0.0, 0.3125, -0.1875];
/// How far the answers are from the plan's in the clear: their sine has degree 15, their scales few bits.
const WITHIN: f64 = 1e-4;

/// Instead of a sine of degree 3, whose values are none, one of degree 15.
fn answered() -> [Plan; 2] {
    let [.., bootstraps, coefficients] = plans();
    [bootstraps, coefficients].map(|mut plan| {
        let spec = &mut plan.parameters;
        if let Some(b) = &mut spec.bootstrap {
            b.eval_mod = vec![Zone::new(6, &[50])];
            (b.degree, b.double_angles) = (15, 2);
        }
        spec.special_bits.push(spec.special_bits[0]);
        plan
    })
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
            let file = |ending: &str| {
                let path = path(version, &format!("{name}.{ending}"));
                std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            };
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
            let same = |values: Vec<f64>, within: f64| {
                let close = |(a, b): (&f64, &f64)| (a - b).abs() <= within;
                let all = values.len() == known.len() && values.iter().zip(&known).all(close);
                assert!(all, "{name} of version {version}: {values:?}, {known:?}");
            };
            same(values(&client, &file("answer")), 1e-12);
            if ANSWERED.contains(&name) {
                let clear = ClearTwin::new(&plan, client.spec(), &GIVEN).expect("a tensor");
                same(clear.finish().expect("within its intervals"), WITHIN);
            }
            let input = server
                .read_input(&file("input")[..], name)
                .expect("an input");
            same(answer_of(&server, &client, input), 1e-3);
            let state =
                read_checkpoint_from(&file("checkpoint")[..], name, &plan, &INPUT, client.key());
            let state = server
                .resume(state.expect("a checkpoint"))
                .expect("resumes");
            same(answer_of(&server, &client, state), 1e-3);
        }
    }
}

#[test]
#[ignore = "writes the files of a format that becomes final, those that are not there"]
fn golden_files_are_made() {
    std::fs::create_dir_all(path(VERSION, "")).expect("a folder");
    let toys = NAMES.into_iter().zip(plans().map(Toy::new));
    let answered = ANSWERED.into_iter().zip(answered().map(given));
    let there = |name: &str| path(VERSION, &format!("{name}.plan")).exists();
    for (name, toy) in toys.chain(answered).filter(|(name, _)| !there(name)) {
        let known = values(&toy.client, &toy.answer);
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
        for (ending, bytes) in [
            ("plan", &bytes),
            ("weights", &weights),
            ("client", &toy.client_file),
            ("key", &toy.client_key),
            ("keys", &toy.keys),
            ("input", &toy.input),
            ("checkpoint", &toy.checkpoint),
            ("answer", &toy.answer),
            ("json", &known),
        ] {
            if !bytes.is_empty() {
                let path = path(VERSION, &format!("{name}.{ending}"));
                std::fs::write(path, bytes).expect("a file");
            }
        }
    }
}
