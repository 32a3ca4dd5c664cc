//! Client and server in one process: everything between them goes through bytes.

use crate::Result;
use crate::progress::{Listener, Say, duration};
use ckks::Ciphertext;
use nn::PolyGraph;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};
use runtime::machine::peak_bytes;
use runtime::preparation::{Preparation, Prepared};
use runtime::report::Measured;
use runtime::{
    Client, ClientFile, Error, Excess, LockStep, Observer, Placement, Prediction, Reporter, Server,
    ServerKeys, Stopwatch, VerifiedPlan, size,
};
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;
use std::time::Instant;

/// What is said of an answer of which nobody can tell whether it is right.
pub(crate) fn doubted(why: &runtime::Measure) -> String {
    format!(
        "nobody can tell whether this answer is right: {why}; compare with the network in the clear on the same input, and don't rely on it alone"
    )
}

/// Fresh randomness from the operating system, for secrets: what it drew can be computed from its state, so that is wiped on drop.
pub struct Randomness(Box<ChaCha20Rng>);

impl Randomness {
    /// Overwrites key and drawn words, which lie in the generator itself.
    fn wipe(&mut self) {
        *self.0 = ChaCha20Rng::from_seed([0; 32]);
        std::hint::black_box(&self.0);
    }
}

impl Drop for Randomness {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl RngCore for Randomness {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

impl CryptoRng for Randomness {}

/// Fresh randomness from the operating system.
pub fn rng() -> Randomness {
    Randomness(Box::new(ChaCha20Rng::from_os_rng()))
}

/// A client with new keys, and a server that holds its evaluation keys and the plan.
pub struct Session {
    client: Client,
    server: Server,
    prediction: Prediction,
}

/// What is measured of a run beside its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing.
    #[default]
    Unmeasured,
    /// The precision of every layer: intermediate values are decrypted, which takes time.
    EveryLayer,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The decrypted answers, one after the other.
    pub values: Vec<f64>,
    /// What speaks against them, where the error's bound is too wide to tell whether they are right.
    pub doubt: Option<runtime::Measure>,
    /// What it took.
    pub measured: Measured,
}

impl Session {
    /// Makes keys and sends the evaluation keys, one at a time through a pipe, so that neither side ever holds the file; the memory for
    /// the run is fetched meanwhile.
    ///
    /// # Errors
    /// A plan of another network, those of key generation, and a lack of memory.
    pub fn new(
        plan: Arc<VerifiedPlan>,
        graph: &PolyGraph,
        prediction: Prediction,
        tell: Listener<'_>,
    ) -> Result<Self> {
        let file = crate::client_file(&plan, graph)?;
        Self::of(plan, file, prediction, tell)
    }

    /// As [`Session::new`], of what clients get of the network.
    pub(crate) fn of(
        plan: Arc<VerifiedPlan>,
        file: ClientFile,
        prediction: Prediction,
        tell: Listener<'_>,
    ) -> Result<Self> {
        let client = Client::new(file, &mut rng());
        let start = Instant::now();
        let preparation = prepare(&plan, None)?;
        let (reader, writer) = std::io::pipe()?;
        let (parameters, needed) = (plan.parameters(), &plan.facts().keys);
        let keys = std::thread::scope(|scope| {
            // reading keys is work of one thread: nothing of it leaves this one for a pool that isn't the caller's
            let received = std::thread::Builder::new().spawn_scoped(scope, || {
                let keys = BufReader::with_capacity(1 << 20, reader);
                ServerKeys::read(keys, "evaluation keys", parameters, needed, &mut |_, _| {})
            })?;
            let keys = BufWriter::with_capacity(1 << 20, writer);
            let mut told = |done, all| tell.count("key", done, all);
            let sent = client
                .write_evaluation_keys(keys, "evaluation keys", &mut rng(), &mut told)
                .and_then(|mut w| {
                    w.flush().map_err(|source| Error::Io {
                        file: "evaluation keys".into(),
                        source,
                    })
                });
            let received = received.join().map_err(|_| "the server stopped working")?;
            match sent {
                // the server's refusal ends the pipe, and is the cause
                Err(e) if received.is_ok() => Err(e.into()),
                _ => Ok::<_, crate::Error>(received?),
            }
        })?;
        let server = Server::new(plan.clone(), keys)?;
        tell.note(format_args!(
            "made and sent {} of evaluation keys in {}",
            size(plan.facts().key_file_bytes),
            duration(start.elapsed().as_secs_f64())
        ));
        fetched(&preparation.finish(), tell);
        Ok(Self {
            client,
            server,
            prediction,
        })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<VerifiedPlan> {
        self.server.plan()
    }

    /// What was predicted before.
    pub fn prediction(&self) -> &Prediction {
        &self.prediction
    }

    /// Encrypts inputs, one after the other as many as the plan takes at once, runs the plan, and decrypts.
    ///
    /// # Errors
    /// Inputs that do not fit, values that leave calibrated ranges, a lack of memory.
    pub fn run(&self, values: &[f64], precision: Precision, tell: Listener<'_>) -> Result<Outcome> {
        let request = self
            .client
            .write_input(values, Vec::new(), "encrypted input", &mut rng())?;
        let state = self.server.read_input(&request[..], "encrypted input")?;
        let mut check = match precision {
            Precision::Unmeasured => None,
            Precision::EveryLayer => Some(LockStep::new(
                self.plan(),
                self.server.engine(),
                &self.client,
                &state,
                Excess::Measure,
            )?),
        };
        let mut watch = Stopwatch::default();
        let mut told = |p: runtime::Progress<'_>| tell.step(&p);
        let mut reporter = Reporter::new(self.prediction.step_seconds(), &mut told);
        let answer = {
            let mut observers: Vec<&mut dyn Observer<Ciphertext>> = vec![&mut reporter, &mut watch];
            if let Some(c) = check.as_mut() {
                observers.push(c);
            }
            self.server.run(state, &mut observers[..])?
        };
        let answer = self
            .server
            .write_answer(&answer, Vec::new(), "encrypted answer")?;
        let judged = self.client.read_doubtful(&answer[..], "encrypted answer")?;
        let (values, doubt) = (judged.values, judged.doubt);
        if let Some(doubt) = &doubt {
            tell.note(format_args!("warning: {}", doubted(doubt)));
        }
        let sum = |of: fn(&(f64, f64)) -> f64| watch.steps.values().map(of).sum();
        Ok(Outcome {
            values,
            doubt,
            measured: Measured {
                seconds: Some(sum(|s| s.0)),
                cpu_seconds: Some(sum(|s| s.1)),
                steps: watch.steps,
                precision: check.map(|c| c.steps).unwrap_or_default(),
                peak_bytes: Some(peak_bytes()),
                input_bytes: Some(request.len() as u64),
                answer_bytes: Some(answer.len() as u64),
            },
        })
    }
}

/// Begins to fetch the memory that a plan's run will use.
pub(crate) fn prepare(plan: &VerifiedPlan, placement: Option<&Placement>) -> Result<Preparation> {
    Ok(Preparation::begin(plan.facts().buffer_bytes(placement))?)
}

pub(crate) fn fetched(p: &Prepared, tell: Listener<'_>) {
    tell.note(format_args!(
        "fetched {} of memory before the first step, beside the keys: {:.1} CPU seconds",
        size(p.bytes),
        p.cpu_seconds
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Machine, Probing};
    use std::path::Path;

    #[test]
    #[ignore = "full size: minutes and 6 GB"]
    fn the_embedded_networks_answer_passes_with_a_margin() {
        let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"));
        let graph = crate::network::load_polynomial(&models.join("resnet20-poly.pvm"));
        let graph = graph.expect("loads");
        let machine = Machine::default();
        let plan = crate::compile(&graph, &machine.target(None)).expect("compiles");
        let bounds = plan.answer_bounds();
        assert_eq!((bounds.unused, bounds.imaginary), (0.0, 0.0));
        let prediction = machine
            .predict(&plan, None, Probing::AsItIs)
            .expect("predicts");
        let mut silent = crate::progress::silent;
        let session = Session::new(Arc::new(plan), &graph, prediction, &mut silent);
        let session = session.expect("makes keys");
        let task = crate::network::task_of_graph(&graph).expect("a task");
        let picture = crate::inputs::Source::of(models.join("picture.png"));
        let x = crate::inputs::tensor(&task, &picture, 0, &mut silent).expect("fits");
        let input = session
            .client
            .encrypt(x.values(), &mut rng())
            .expect("encrypts");
        let state = session.server.start(&input).expect("starts");
        let answer = session.server.run(state, &mut ()).expect("runs");
        session.client.decrypt(&answer).expect("an honest answer");
        for m in session.client.measures(&answer).expect("its own") {
            println!(
                "{:?}: {:.3e} of {:.3e}, {:.1e}",
                m.test,
                m.measured,
                m.allowed,
                m.measured / m.allowed
            );
            assert!(m.measured <= m.allowed);
        }
    }

    #[test]
    fn a_generator_forgets() {
        let mut rng = rng();
        let (seed, drawn) = (rng.0.get_seed(), rng.next_u64());
        rng.wipe();
        assert!(seed != [0; 32] && rng.0.get_seed() == [0; 32] && rng.0.get_word_pos() == 0);
        assert_ne!(rng.next_u64(), drawn);
    }
}
