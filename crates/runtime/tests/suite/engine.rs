//! An engine that lives outside `ckks`, and two clients on one server.

use super::support::*;
use ckks::{
    Arithmetic, BlockMap, Ciphertext, Coefficients, Complex64, Context, CostTable, Engine,
    Evaluator, Info, KeyRequest, Level, RingSwitch,
};
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::*;
use ring::{Ntt, RnsPoly};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What a foreign engine keeps for a ciphertext: its polynomials, as if they were elsewhere.
#[derive(Clone)]
struct Held {
    polynomials: Vec<RnsPoly<Ntt>>,
    info: Info,
}

/// Where the circuits of a [`Recorder`] come from.
#[derive(Clone, Copy, PartialEq)]
enum Circuits {
    /// The trait.
    Provided,
    /// The evaluator: those that round in fewer places than what the trait provides.
    Evaluators,
}

/// Carries every operation out by an [`Evaluator`] and writes it down. It implements what the trait requires, and the change of rings, which
/// has keys of its own: all else, and what the trait gains later, comes by provided methods, unless the evaluator's own circuits are asked for.
struct Recorder {
    evaluator: Evaluator,
    circuits: Circuits,
    small: Option<Box<Recorder>>,
    log: Mutex<Vec<&'static str>>,
}

impl Recorder {
    fn new(evaluator: Evaluator, circuits: Circuits) -> Self {
        let small = RingSwitch::of(evaluator.context()).map(|switch| {
            let keys = evaluator.keys().in_small_ring();
            Box::new(Self::new(Evaluator::new(switch.small(), keys), circuits))
        });
        Self {
            evaluator,
            circuits,
            small,
            log: Mutex::default(),
        }
    }
    fn all(
        &self,
        operation: &'static str,
        results: std::result::Result<Vec<Ciphertext>, ckks::Error>,
    ) -> std::result::Result<Vec<Held>, ckks::Error> {
        let results = results?.into_iter();
        results.map(|y| self.note(operation, Ok(y))).collect()
    }
    fn coefficients(
        &self,
        x: &Coefficients<Held>,
    ) -> std::result::Result<Coefficients, ckks::Error> {
        Coefficients::of(&self.evaluator, self.of(x.value())?)
    }
    fn note(
        &self,
        operation: &'static str,
        result: std::result::Result<Ciphertext, ckks::Error>,
    ) -> std::result::Result<Held, ckks::Error> {
        self.log.lock().expect("no panic").push(operation);
        let c = result?;
        Ok(Held {
            polynomials: c.polynomials().to_vec(),
            info: self.evaluator.info(&c),
        })
    }
    fn of(&self, x: &Held) -> std::result::Result<Ciphertext, ckks::Error> {
        Ciphertext::from_polynomials(self.parameters(), x.polynomials.clone(), x.info)
    }
    fn seen(&self) -> BTreeSet<&'static str> {
        let log = self.log.lock().expect("no panic");
        log.iter().copied().collect()
    }
}

type Made = std::result::Result<Held, ckks::Error>;

impl Arithmetic for Recorder {
    type Value = Held;

    fn context(&self) -> &Context {
        self.evaluator.context()
    }
    fn info(&self, x: &Held) -> Info {
        x.info
    }
    fn add(&self, x: &Held, y: &Held) -> Made {
        self.note("add", self.evaluator.add(&self.of(x)?, &self.of(y)?))
    }
    fn sub(&self, x: &Held, y: &Held) -> Made {
        self.note("sub", self.evaluator.sub(&self.of(x)?, &self.of(y)?))
    }
    fn add_plain(&self, x: &Held, v: &[Complex64]) -> Made {
        self.note("add_plain", self.evaluator.add_plain(&self.of(x)?, v))
    }
    fn mul_plain(&self, x: &Held, v: &[Complex64], scale: f64) -> Made {
        self.note(
            "mul_plain",
            self.evaluator.mul_plain(&self.of(x)?, v, scale),
        )
    }
    fn linear_combination(
        &self,
        terms: &[(f64, &Held)],
        constant: f64,
        level: Level,
        scale: f64,
    ) -> Made {
        let all = terms
            .iter()
            .map(|(c, x)| Ok((*c, self.of(x)?)))
            .collect::<std::result::Result<Vec<_>, ckks::Error>>()?;
        let terms: Vec<(f64, &Ciphertext)> = all.iter().map(|(c, x)| (*c, x)).collect();
        let result = (self.evaluator).linear_combination(&terms, constant, level, scale);
        self.note("linear_combination", result)
    }
    fn mul_integer(&self, x: &Held, k: i64) -> Made {
        self.note("mul_integer", self.evaluator.mul_integer(&self.of(x)?, k))
    }
    fn divide_exactly(&self, x: &Held, m: u64) -> Made {
        self.note(
            "divide_exactly",
            self.evaluator.divide_exactly(&self.of(x)?, m),
        )
    }
    fn mul_i(&self, x: &Held) -> Made {
        self.note("mul_i", self.evaluator.mul_i(&self.of(x)?))
    }
    fn mul(&self, x: &Held, y: &Held) -> Made {
        self.note("mul", self.evaluator.mul(&self.of(x)?, &self.of(y)?))
    }
    fn relinearize(&self, x: &Held) -> Made {
        self.note("relinearize", self.evaluator.relinearize(&self.of(x)?))
    }
    fn rescale(&self, x: &Held) -> Made {
        self.note("rescale", self.evaluator.rescale(&self.of(x)?))
    }
    fn drop_to(&self, x: &Held, level: Level) -> Made {
        self.note("drop_to", self.evaluator.drop_to(&self.of(x)?, level))
    }
    fn with_scale(&self, x: &Held, scale: f64) -> Made {
        self.note("with_scale", self.evaluator.with_scale(&self.of(x)?, scale))
    }
    fn rotate(&self, x: &Held, by: i64) -> Made {
        self.note("rotate", self.evaluator.rotate(&self.of(x)?, by))
    }
    fn conjugate(&self, x: &Held) -> Made {
        self.note("conjugate", self.evaluator.conjugate(&self.of(x)?))
    }
    fn mod_raise(&self, x: &Held, to: Level, by: &[usize]) -> Made {
        self.note("mod_raise", self.evaluator.mod_raise(&self.of(x)?, to, by))
    }
    fn with_slots(&self, x: &Held, slots: usize) -> Made {
        self.note("with_slots", self.evaluator.with_slots(&self.of(x)?, slots))
    }
    fn small(&self) -> Option<&Self> {
        self.small.as_deref()
    }
    fn narrow(
        &self,
        x: &Coefficients<Held>,
    ) -> std::result::Result<Vec<Coefficients<Held>>, ckks::Error> {
        let small = ckks::typing::small_ring(self.parameters(), self.small())?;
        let classes = self.evaluator.narrow(&self.coefficients(x)?)?.into_iter();
        let held = classes.map(|c| small.note("narrow", Ok(c.into_value())));
        held.map(|c| Coefficients::of(small, c?)).collect()
    }
    fn widen(
        &self,
        classes: &[Option<Coefficients<Held>>],
    ) -> std::result::Result<Coefficients<Held>, ckks::Error> {
        let small = ckks::typing::small_ring(self.parameters(), self.small())?;
        let classes = classes.iter().map(|c| match c {
            Some(c) => small.coefficients(c).map(Some),
            None => Ok(None),
        });
        let classes = classes.collect::<std::result::Result<Vec<_>, _>>()?;
        let y = self.evaluator.widen(&classes)?.into_value();
        Coefficients::of(self, self.note("widen", Ok(y))?)
    }
    fn relinearize_rescale(&self, x: &Held) -> Made {
        if self.circuits == Circuits::Provided {
            return self.rescale(&self.relinearize(x)?);
        }
        let y = self.evaluator.relinearize_rescale(&self.of(x)?);
        self.note("relinearize_rescale", y)
    }
    fn linear(
        &self,
        xs: &[Held],
        map: &BlockMap,
        scale: f64,
    ) -> std::result::Result<Vec<Held>, ckks::Error> {
        if self.circuits == Circuits::Provided {
            return ckks::linear::apply(self, xs, map, scale);
        }
        let xs = xs.iter().map(|x| self.of(x));
        let xs = xs.collect::<std::result::Result<Vec<_>, _>>()?;
        self.all("linear", self.evaluator.linear(&xs, map, scale))
    }
    fn raise_linear(
        &self,
        x: &Held,
        to: Level,
        map: &BlockMap,
        scale: f64,
    ) -> std::result::Result<Vec<Held>, ckks::Error> {
        if self.circuits == Circuits::Provided {
            return ckks::linear::apply_raised(self, x, to, map, scale);
        }
        let y = self.evaluator.raise_linear(&self.of(x)?, to, map, scale);
        self.all("raise_linear", y)
    }
}

impl Engine for Recorder {
    fn upload(&self, x: Ciphertext) -> Made {
        self.note("upload", Ok(x))
    }
    fn download(&self, x: &Held) -> std::result::Result<Ciphertext, ckks::Error> {
        self.note("download", self.of(x)).and_then(|x| self.of(&x))
    }
    fn key_request(&self) -> KeyRequest {
        self.evaluator.key_request()
    }
    fn held_bytes(&self) -> u64 {
        self.evaluator.keys().bytes()
    }
    fn value_bytes(&self, level: Level) -> u64 {
        10 * self.evaluator.value_bytes(level)
    }
    fn cost_table(&self) -> CostTable {
        CostTable::default().scaled(0.5)
    }
}

/// Stops a run after a step.
struct Stop(usize);

impl<V> Observer<V> for Stop {
    fn end(&mut self, done: &Done<'_, V>) -> Result<()> {
        if done.index < self.0 {
            return Ok(());
        }
        Err(Error::Input {
            reason: "stopped".into(),
            remedy: "resume".into(),
        })
    }
}

fn small_tensor() -> Vec<f64> {
    tensor().iter().map(|v| v / 2.0).collect()
}

#[test]
fn an_engine_outside_ckks_runs_a_whole_plan() {
    let plan = plan(bootstrapped());
    let client = Client::new(client_file(&plan), &mut rng(1));
    let keys = client.evaluation_keys(&mut rng(2)).expect("keys");
    let key = keys.id;
    let evaluator = Evaluator::new(plan.context(), keys.keys);
    let engine = Recorder::new(evaluator, Circuits::Provided);
    let server = Server::with_engine(plan.clone(), engine, key).expect("keys are there");
    let x = small_tensor();
    let input = client
        .write_input(&x, Vec::new(), "input", &mut rng(3))
        .expect("input");
    let digest = input_digest(&input[..], "input").expect("digest");

    // in lock-step with the clear twin, with a checkpoint, until it is stopped behind its first bootstrap
    let folder = Folder::new("engine");
    let path = folder.file("foreign.checkpoint", &[]);
    let state = server.read_input(&input[..], "input").expect("input");
    let engine = server.engine();
    let mut check = LockStep::new(&plan, engine, &client, &state, Excess::Stop).expect("starts");
    let mut save = Checkpointer::new(&plan, engine, path.clone(), digest);
    let mut stop = Stop(2);
    let mut observers: [&mut dyn Observer<_>; 3] = [&mut check, &mut save, &mut stop];
    let stopped = server.run(state, &mut observers[..]);
    assert!(stopped.is_err_and(|e| e.to_string().contains("stopped")));
    assert_eq!(check.steps.len(), 3);

    let state = read_checkpoint(&path, &plan, &digest, server.key()).expect("a checkpoint");
    assert!(state.next > 0);
    let state = server.resume(state).expect("uploads");
    let answer = server.run(state, &mut ()).expect("runs");
    let answer = server
        .write_answer(&answer, Vec::new(), "answer")
        .expect("answer");
    let twin = ClearTwin::new(&plan, client.spec(), &x).expect("twin");
    close(
        &client.read_answer(&answer[..], "answer").expect("decrypts"),
        &twin.finish().expect("in range"),
        2e-3,
    );
    let seen = server.engine().seen();
    for operation in [
        "upload",
        "mul_plain",
        "rotate",
        "mod_raise",
        "conjugate",
        "mul",
        "rescale",
        "download",
    ] {
        assert!(seen.contains(operation), "{operation} not in {seen:?}");
    }
}

#[test]
fn an_engine_without_a_key_or_with_other_parameters_is_refused() {
    let plan = plan(bootstrapped());
    let recorder = |keys| {
        let evaluator = Evaluator::new(plan.context(), keys);
        Recorder::new(evaluator, Circuits::Provided)
    };
    let without = recorder(Default::default());
    let refused = Server::with_engine(plan.clone(), without, Default::default()).map(drop);
    assert!(refused.is_err_and(|e| e.to_string().contains("key")));
    let other = super::support::plan(levelled());
    let client = Client::new(client_file(&plan), &mut rng(1));
    let keys = client.evaluation_keys(&mut rng(2)).expect("keys").keys;
    let refused = Server::with_engine(other, recorder(keys), client.key()).map(drop);
    assert!(refused.is_err_and(|e| e.to_string().contains("toy")));
}

/// Files of a golden plan (`tests/golden.rs`).
struct Golden(PathBuf);

impl Golden {
    fn new(name: &str) -> Self {
        let version = polyveil_runtime::wire::container::VERSION;
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        Self(folder.join(format!("{version}/{name}.plan")))
    }
    fn path(&self, ending: &str) -> PathBuf {
        self.0.with_extension(ending)
    }
    fn file(&self, ending: &str) -> Vec<u8> {
        std::fs::read(self.path(ending)).expect("a golden file")
    }
    fn plan(&self) -> Arc<VerifiedPlan> {
        let weights = self.path("weights");
        let beside = weights.exists().then_some(weights.as_path());
        let bytes = self.file("plan");
        let plan = VerifiedPlan::read_within(&bytes[..], "plan", Limits::default(), beside);
        Arc::new(plan.expect("a plan"))
    }
    fn client(&self) -> Client {
        let file = ClientFile::read(&self.file("client")[..], "client").expect("a client file");
        Client::read(&self.file("key")[..], "key", file).expect("a key")
    }
    fn keys(&self, plan: &VerifiedPlan) -> ServerKeys {
        let (bytes, needed) = (self.file("keys"), &plan.facts().keys);
        let keys = ServerKeys::read(
            &bytes[..],
            "keys",
            plan.parameters(),
            needed,
            &mut |_, _| {},
        );
        keys.expect("evaluation keys")
    }
    fn recorder(&self, plan: &VerifiedPlan, circuits: Circuits) -> Recorder {
        let keys = self.keys(plan).keys;
        Recorder::new(Evaluator::new(plan.context(), keys), circuits)
    }
}

/// Of plans with a bootstrap and with layers in coefficients, one of which changes to the small ring and back.
#[test]
fn an_engine_outside_ckks_gives_the_evaluators_answer_bit_for_bit() {
    for (name, expected) in [
        ("refreshed", &["raise_linear", "linear"][..]),
        (
            "layers",
            &["narrow", "widen", "linear", "divide_exactly"][..],
        ),
    ] {
        let golden = Golden::new(name);
        let (plan, client) = (golden.plan(), golden.client());
        let input = golden.file("input");
        let built_in = Server::new(plan.clone(), golden.keys(&plan)).expect("keys are there");
        let answer = built_in.answer(&input, &mut ()).expect("runs");
        let truth = client.read_answer(&answer[..], "answer").expect("decrypts");
        let run = |circuits| {
            let engine = golden.recorder(&plan, circuits);
            let server = Server::with_engine(plan.clone(), engine, client.key());
            let server = server.expect("keys are there");
            let answer = server.answer(&input, &mut ()).expect("runs");
            let mut seen = server.engine().seen();
            seen.extend(server.engine().small().iter().flat_map(|s| s.seen()));
            (answer, seen)
        };
        let (same, seen) = run(Circuits::Evaluators);
        assert!(same == answer, "{name}: the answers differ in their bits");
        for operation in expected {
            assert!(seen.contains(operation), "{operation} not in {seen:?}");
        }
        // what the trait provides rounds in other places
        let (provided, seen) = run(Circuits::Provided);
        assert!(!seen.contains("linear") && seen.contains("mod_raise"));
        let provided = client.read_answer(&provided[..], "answer");
        close(&provided.expect("decrypts"), &truth, 1e-4);
    }
}

#[test]
fn an_engine_says_what_its_steps_and_values_cost() {
    let golden = Golden::new("refreshed");
    let (plan, client) = (golden.plan(), golden.client());
    let own = Server::new(plan.clone(), golden.keys(&plan)).expect("keys are there");
    let engine = golden.recorder(&plan, Circuits::Provided);
    let other = Server::with_engine(plan.clone(), engine, client.key()).expect("keys are there");
    let steps = own.predicted_steps();
    assert_eq!(steps, plan.predicted_steps(&CostTable::default()));
    assert!(steps.iter().sum::<f64>() > 0.0);
    for (half, whole) in other.predicted_steps().iter().zip(&steps) {
        assert!((half - 0.5 * whole).abs() <= 1e-12 * whole);
    }
    let [(here, held), (there, keys)] =
        [own.engine_bytes(), other.engine_bytes()].map(|b| b.expect("reads"));
    assert!(here > 0 && there == 10 * here);
    // nothing is encoded yet
    assert_eq!(
        (held, keys),
        (own.engine().keys().bytes(), own.engine().keys().bytes())
    );
    // what the plan says of a run has this in it
    assert!(here + held < plan.facts().peak_bytes);
}

#[test]
fn an_engine_without_the_small_ring_of_a_plan_is_refused() {
    let golden = Golden::new("layers");
    let plan = golden.plan();
    let mut engine = golden.recorder(&plan, Circuits::Provided);
    engine.small = None;
    let refused = Server::with_engine(plan, engine, golden.client().key()).map(drop);
    assert!(refused.is_err_and(|e| e.to_string().contains("small ring")));
}

#[test]
fn two_clients_on_one_server_share_every_encoded_plaintext() {
    let plan = plan(bootstrapped());
    let x = small_tensor();
    let twin = ClearTwin::new(&plan, client_file(&plan).spec(), &x).expect("twin");
    let truth = twin.finish().expect("in range");
    assert_eq!(plan.context().encoded_bytes(), 0);
    let mut servers = Vec::new();
    let mut encoded = Vec::new();
    for seed in [10, 20] {
        let client = Client::new(client_file(&plan), &mut rng(seed));
        let keys = client.evaluation_keys(&mut rng(seed + 1)).expect("keys");
        let held = keys.keys.bytes();
        let server = Server::new(plan.clone(), keys).expect("server");
        let input = client
            .write_input(&x, Vec::new(), "input", &mut rng(seed + 2))
            .expect("input");
        let state = server.read_input(&input[..], "input").expect("input");
        let answer = server.run(state, &mut ()).expect("runs");
        close(&client.decrypt(&answer).expect("decrypts"), &truth, 2e-3);
        let bytes = server.engine().context().encoded_bytes();
        assert_eq!(server.engine().held_bytes(), held + bytes);
        encoded.push(bytes);
        servers.push(server);
    }
    assert!(encoded[0] > 0, "a bootstrap's diagonals are kept encoded");
    assert_eq!(encoded[0], encoded[1], "the second client adds none");
    assert_eq!(plan.context().encoded_bytes(), encoded[0]);
    // the formula that plans are verified with
    let bootstraps = plan.plan().steps.iter().filter_map(|s| match &s.operation {
        Operation::Bootstrap {
            inputs, bootstrap, ..
        } => Some(bootstrap.kept(inputs.len())),
        _ => None,
    });
    let predicted = ckks::memory::transforms(plan.parameters(), bootstraps);
    assert!(
        encoded[0] <= predicted && predicted < 2 * encoded[0],
        "{} of {predicted} predicted",
        encoded[0]
    );
}
