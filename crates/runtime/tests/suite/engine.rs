//! An engine that lives outside `ckks`, and two clients on one server.

use super::support::*;
use ckks::{
    Arithmetic, Ciphertext, Complex64, Context, Engine, Evaluator, Info, KeyRequest, Level,
};
use polyveil_runtime::checkpoint::{Checkpointer, input_digest, read_checkpoint};
use polyveil_runtime::*;
use ring::{Ntt, RnsPoly};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// What a foreign engine keeps for a ciphertext: its polynomials, as if they were elsewhere.
#[derive(Clone)]
struct Held {
    polynomials: Vec<RnsPoly<Ntt>>,
    info: Info,
}

/// Carries every operation out by an [`Evaluator`] and writes it down. It implements what the trait requires and nothing else:
/// circuits, and operations that the trait gains later, come by provided methods.
struct Recorder {
    evaluator: Evaluator,
    log: Mutex<Vec<&'static str>>,
}

impl Recorder {
    fn new(evaluator: Evaluator) -> Self {
        Self {
            evaluator,
            log: Mutex::default(),
        }
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
    let engine = Recorder::new(Evaluator::new(plan.context(), keys.keys));
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
    let without = Recorder::new(Evaluator::new(plan.context(), Default::default()));
    let refused = Server::with_engine(plan.clone(), without, Default::default()).map(drop);
    assert!(refused.is_err_and(|e| e.to_string().contains("key")));
    let other = super::support::plan(levelled());
    let client = Client::new(client_file(&plan), &mut rng(1));
    let keys = client.evaluation_keys(&mut rng(2)).expect("keys").keys;
    let foreign = Recorder::new(Evaluator::new(plan.context(), keys));
    let refused = Server::with_engine(other, foreign, client.key()).map(drop);
    assert!(refused.is_err_and(|e| e.to_string().contains("toy")));
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
