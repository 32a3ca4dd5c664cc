//! What is run to learn how fast a machine is: real operations whose work [`Meter`] counts, and the three loops of the probe.
//!
//! Values, keys and secrets are throw-away; nothing here decides anything. Clocks are the caller's.

use ckks::coefficients::Parts;
use ckks::map::{Term, Values};
use ckks::{
    Arithmetic, BlockMap, Bootstrap, Ciphertext, Complex64, Context, Cost, Encoder, Error,
    Evaluator, KeyRequest, Level, Meter, Parameters, ParametersSpec, Polynomial, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};
use rayon::prelude::*;
use ring::buffer::AlignedVec;
use ring::{Expander, Ntt, RnsPoly};
use serde::{Deserialize, Serialize};

/// Clocks read, or the time between two readings, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// CPU time of the process.
    pub cpu: f64,
    /// Wall time.
    pub wall: f64,
}

/// Medians of one call's times over `runs` runs after a first that warms up; calls shorter than 10 ms are repeated inside a run.
///
/// # Errors
/// What the call refuses.
pub fn time<E>(
    runs: usize,
    clock: &dyn Fn() -> Reading,
    call: impl FnMut() -> Result<(), E>,
) -> Result<Reading, E> {
    Ok(medians(&sample(runs, clock, call, || {})?))
}

/// One reading for each run, after a run that warms up; `between` is carried out before the first, between runs and after the last.
fn sample<E>(
    runs: usize,
    clock: &dyn Fn() -> Reading,
    mut call: impl FnMut() -> Result<(), E>,
    mut between: impl FnMut(),
) -> Result<Vec<Reading>, E> {
    let mut once = |inner: usize| -> Result<Reading, E> {
        let start = clock();
        for _ in 0..inner {
            call()?;
        }
        let end = clock();
        Ok(Reading {
            cpu: (end.cpu - start.cpu) / inner as f64,
            wall: (end.wall - start.wall) / inner as f64,
        })
    };
    let first = once(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let inner = (0.01 / first.wall.max(1e-9)).ceil().clamp(1.0, 10_000.0) as usize;
    between();
    (0..runs.max(1))
        .map(|_| {
            let reading = once(inner)?;
            between();
            Ok(reading)
        })
        .collect()
}

/// What [`time_beside_reference`] gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Medians of one call.
    pub taken: Reading,
    /// Median over the runs of CPU time in units of the reference: a run's time over the median of the references before and
    /// after it.
    pub references: f64,
    /// Median CPU seconds of one reference meanwhile.
    pub reference: f64,
}

/// References before and after every run: about 1 ms, in which the machine is as fast as in the run beside it.
const REFERENCES: usize = 9;

/// As [`time`], with the reference before and after every run.
///
/// # Errors
/// What the call refuses.
pub fn time_beside_reference<E>(
    runs: usize,
    clock: &dyn Fn() -> Reading,
    call: impl FnMut() -> Result<(), E>,
) -> Result<Timing, E> {
    let mut reference = Reference::default();
    let mut references: Vec<[f64; REFERENCES]> = Vec::new();
    let taken = sample(runs, clock, call, || {
        // brings its operands back into the first cache
        reference.run();
        references.push(std::array::from_fn(|_| {
            let start = clock().cpu;
            reference.run();
            clock().cpu - start
        }));
    })?;
    let ratios = taken
        .iter()
        .zip(references.windows(2))
        .map(|(t, beside)| t.cpu / median(beside.iter().flatten().copied()));
    Ok(Timing {
        references: median(ratios),
        reference: median(references.iter().flatten().copied()),
        taken: medians(&taken),
    })
}

fn medians(readings: &[Reading]) -> Reading {
    Reading {
        cpu: median(readings.iter().map(|r| r.cpu)),
        wall: median(readings.iter().map(|r| r.wall)),
    }
}

/// The upper one of an even number; NaN without values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    quartile(2, values).unwrap_or(f64::NAN)
}

/// The value below which so many quarters of all lie.
fn quartile(quarters: usize, values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut v: Vec<f64> = values.collect();
    v.sort_by(f64::total_cmp);
    v.get(quarters * v.len() / 4).copied()
}

/// A number in [−1, 1).
fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Slots with |re|, |im| ≤ 1/√2.
pub fn random(slots: usize, rng: &mut impl RngCore) -> Vec<Complex64> {
    let r = std::f64::consts::FRAC_1_SQRT_2;
    (0..slots)
        .map(|_| Complex64::new(unit(rng) * r, unit(rng) * r))
        .collect()
}

/// Operands that circuits share, plain.
#[derive(Debug)]
pub struct Subjects {
    /// 64 diagonals, 8 baby and 8 giant steps.
    map: BlockMap,
    /// The same, whose diagonals an evaluator keeps encoded.
    kept: BlockMap,
    /// Degree 31.
    chebyshev: Polynomial,
    /// A vector of all slots.
    pub plain: Vec<Complex64>,
}

impl Subjects {
    /// For the ring's full slot count.
    ///
    /// # Errors
    /// If the ring has fewer than 64 slots.
    pub fn new(slots: usize, rng: &mut impl RngCore) -> Result<Self, Error> {
        let terms = (0..64)
            .map(|d| Term {
                input: 0,
                output: 0,
                giant: d / 8 * 8 % slots,
                baby: d % 8,
                values: Values::Real((0..slots).map(|_| unit(rng) as f32 / 64.0).collect()),
            })
            .collect();
        let map = BlockMap::new(slots, 1, 1, terms, vec![])?;
        Ok(Self {
            kept: map.clone().pinned(usize::MAX),
            map,
            chebyshev: Polynomial::new((0..32).map(|i| 0.25 / f64::from(i + 2)).collect())?,
            plain: random(slots, rng),
        })
    }
}

/// The circuits on a ciphertext; `add` and `mul_relin_rescale` take a second one.
pub const CIRCUITS: [&str; 9] = [
    "add",
    "mul_plain",
    "rescale",
    "rotate",
    "rotate_hoisted_8",
    "mul_relin_rescale",
    "linear_64",
    "linear_64_kept",
    "chebyshev_31",
];

/// Carries out one of [`CIRCUITS`] under any interpreter.
///
/// # Errors
/// A name that is not there, or what the operation refuses.
pub fn circuit<A: Arithmetic>(
    a: &A,
    name: &str,
    [x, y]: [&A::Value; 2],
    subjects: &Subjects,
) -> Result<(), Error> {
    let p = a.parameters();
    let level = a.info(x).level;
    match name {
        "add" => drop(a.add(x, y)?),
        "mul_plain" => drop(a.mul_plain(x, &subjects.plain, p.modulus(level))?),
        "rescale" => drop(a.rescale(x)?),
        "rotate" => drop(a.rotate(x, 1)?),
        "rotate_hoisted_8" => drop(a.rotate_many(x, &[1, 2, 3, 4, 5, 6, 7, 8])?),
        "mul_relin_rescale" => drop(a.mul_rescale(x, y)?),
        "linear_64" | "linear_64_kept" => {
            let map = if name == "linear_64" {
                &subjects.map
            } else {
                &subjects.kept
            };
            let below = ckks::typing::below(p, "linear", level)?;
            drop(a.linear(std::slice::from_ref(x), map, p.scale(below))?);
        }
        "chebyshev_31" => drop(a.polynomial(x, &subjects.chebyshev)?),
        other => {
            let reason = format!("there is no circuit `{other}`");
            return Err(Error::conformance("workload", reason));
        }
    }
    Ok(())
}

/// Where an operation runs: few limbs and one digit, or the whole chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Residual,
    Top,
}

/// An operation that a cost table is fitted to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operation {
    /// Its name, unique.
    pub name: &'static str,
    /// How much it counts in the fit.
    pub weight: f64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// All limbs of QP from NTT form and back.
    Transforms,
    /// All limbs of QP from a seed.
    Expansion,
    /// One vector of all slots.
    Encoding,
    Circuit(&'static str, Place),
    Bootstrap,
}

impl Operation {
    const fn circuit(name: &'static str, circuit: &'static str, place: Place) -> Self {
        Self {
            name,
            weight: 1.0,
            what: What::Circuit(circuit, place),
        }
    }
    const fn primitive(name: &'static str, what: What) -> Self {
        Self {
            name,
            weight: 0.5,
            what,
        }
    }
    /// Whether it is made of several kinds of work, as plans are.
    pub fn is_circuit(&self) -> bool {
        matches!(self.what, What::Circuit(..) | What::Bootstrap)
    }
}

/// What a cost table is fitted to, without a bootstrap.
pub const OPERATIONS: [Operation; 14] = [
    Operation::primitive("ntt", What::Transforms),
    Operation::primitive("expand", What::Expansion),
    Operation::primitive("encode", What::Encoding),
    Operation::circuit("add", "add", Place::Top),
    Operation::circuit("mul_plain", "mul_plain", Place::Residual),
    Operation::circuit("rescale", "rescale", Place::Residual),
    Operation::circuit("rescale_top", "rescale", Place::Top),
    Operation::circuit("rotate", "rotate", Place::Residual),
    Operation::circuit("rotate_top", "rotate", Place::Top),
    Operation::circuit("rotate_hoisted_8", "rotate_hoisted_8", Place::Residual),
    Operation::circuit("mul_relin_rescale", "mul_relin_rescale", Place::Residual),
    Operation::circuit("mul_relin_rescale_top", "mul_relin_rescale", Place::Top),
    Operation::circuit("linear_64", "linear_64", Place::Residual),
    Operation::circuit("chebyshev_31", "chebyshev_31", Place::Residual),
];

/// The bootstrap of all slots to the highest level; counts as four, since it is most of a deep network's time. Its keys take gigabytes.
pub const BOOTSTRAP: Operation = Operation {
    name: "bootstrap",
    weight: 4.0,
    what: What::Bootstrap,
};

fn bootstrap_of(p: &Parameters) -> Bootstrap {
    Bootstrap {
        slots: p.max_slots(),
        target: p.residual().index(),
        gain: 2.0,
    }
}

/// A vector as both operands of a bootstrap.
fn twice<V: Clone>(x: &V) -> Parts<V> {
    Parts {
        first: x.clone(),
        second: Some(x.clone()),
    }
}

/// The operands' level.
fn level(p: &Parameters, what: What) -> Level {
    match what {
        What::Circuit(_, Place::Residual) | What::Encoding => p.residual(),
        What::Circuit(_, Place::Top) | What::Transforms | What::Expansion => p.top(p.residual()),
        What::Bootstrap => p.floor(),
    }
}

/// Ring indices of QP at the top.
fn all_limbs(p: &Parameters) -> Vec<usize> {
    let top = p.limbs(p.top(p.residual()));
    top.iter().chain(p.special().iter()).copied().collect()
}

/// Counts an operation's work; circuits leave their keys in the meter.
fn count(meter: &Meter, subjects: &Subjects, operation: &Operation) -> Result<Cost, Error> {
    let p = meter.parameters();
    let limbs = all_limbs(p).len() as f64;
    let slots = p.max_slots() as f64;
    let before = meter.cost();
    let input = |bound| meter.input(level(p, operation.what), p.max_slots(), bound);
    let mut more = Cost::default();
    match operation.what {
        What::Transforms => more.ntts = 2.0 * limbs,
        What::Expansion => more.expansions = limbs,
        What::Encoding => more.encodes = slots * slots.log2(),
        What::Circuit(name, _) => {
            let x = input(1.0)?;
            circuit(meter, name, [&x, &x], subjects)?;
        }
        What::Bootstrap => drop(meter.bootstrap(&twice(&input(0.5)?), &bootstrap_of(p))?),
    }
    Ok(meter.cost().since(before).plus(more))
}

/// Operations, ready to run on this machine.
pub struct Workload {
    parameters: Parameters,
    subjects: Subjects,
    evaluator: Evaluator,
    encoder: Encoder,
    operations: Vec<(Operation, Cost, Option<Ciphertext>)>,
    /// Some between calls.
    transformed: Option<RnsPoly<Ntt>>,
}

impl std::fmt::Debug for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Workload({:?}, {} operations)",
            self.parameters,
            self.operations.len()
        )
    }
}

impl Workload {
    /// Makes operands and keys, by a secret that is dropped.
    ///
    /// # Errors
    /// If the parameters are too small, or have no bootstrapping.
    pub fn new(
        parameters: &Parameters,
        operations: &[Operation],
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let p = parameters;
        let subjects = Subjects::new(p.max_slots(), rng)?;
        let context = Context::new(p);
        let meter = Meter::new(&context);
        let secret = SecretKey::generate(p, rng);
        let operations = operations
            .iter()
            .map(|o| {
                let cost = count(&meter, &subjects, o)?;
                let scale = if o.what == What::Bootstrap { 0.5 } else { 1.0 };
                let operand = o
                    .is_circuit()
                    .then(|| -> Result<_, Error> {
                        let v: Vec<Complex64> = subjects.plain.iter().map(|z| z * scale).collect();
                        Ok(secret.encrypt(&v, level(p, o.what), rng)?.expand(p))
                    })
                    .transpose()?;
                Ok((*o, cost, operand))
            })
            .collect::<Result<_, Error>>()?;
        let keys = secret.evaluation_keys(&meter.keys(), rng)?;
        let expander = Expander::new([7; 32]);
        let indices = all_limbs(p);
        let transformed = RnsPoly::from_limbs(p.ring(), indices.clone(), |k, limb| {
            expander.uniform(k as u64, p.prime(indices[k]), limb);
        });
        Ok(Self {
            evaluator: Evaluator::new(&context, keys),
            encoder: Encoder::new(p.max_slots()),
            parameters: p.clone(),
            subjects,
            operations,
            transformed: Some(transformed),
        })
    }
    /// What there is to run, with its work.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = (Operation, Cost)> {
        self.operations.iter().map(|o| (o.0, o.1))
    }
    /// Carries out operation `index` once.
    ///
    /// # Errors
    /// Never on a workload that was made.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn run(&mut self, index: usize) -> Result<(), Error> {
        let p = &self.parameters;
        let (operation, _, operand) = &self.operations[index];
        match (operation.what, operand) {
            (What::Transforms, _) => {
                if let Some(x) = self.transformed.take() {
                    self.transformed = Some(x.into_coeff().into_ntt());
                }
            }
            (What::Expansion, _) => {
                let expander = Expander::new([8; 32]);
                all_limbs(p).into_par_iter().for_each(|i| {
                    // a scratch of each thread, as inner products have
                    let mut limb = AlignedVec::dirty(p.n());
                    expander.uniform(i as u64, p.prime(i), &mut limb);
                    std::hint::black_box(&limb[..]);
                });
            }
            (What::Encoding, _) => {
                let scale = p.scale(p.residual());
                std::hint::black_box(self.encoder.encode(&self.subjects.plain, scale)?);
            }
            (What::Circuit(name, _), Some(x)) => {
                circuit(&self.evaluator, name, [x, x], &self.subjects)?;
            }
            (What::Bootstrap, Some(x)) => {
                drop(self.evaluator.bootstrap(&twice(x), &bootstrap_of(p))?);
            }
            (What::Circuit(..) | What::Bootstrap, None) => {
                debug_assert!(false, "every circuit has an operand");
            }
        }
        Ok(())
    }
}

/// For operands that need not be random.
fn fixed() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// The evaluation keys that operations need.
///
/// # Errors
/// As [`Workload::new`].
pub fn keys(p: &Parameters, operations: &[Operation]) -> Result<KeyRequest, Error> {
    let subjects = Subjects::new(p.max_slots(), &mut fixed())?;
    let meter = Meter::new(&Context::new(p));
    for o in operations {
        count(&meter, &subjects, o)?;
    }
    Ok(meter.keys())
}

/// The work of [`OPERATIONS`] and [`BOOTSTRAP`] as the meter counts it.
pub(crate) fn counted(p: &Parameters) -> Result<Vec<Cost>, Error> {
    // the counts do not depend on the values
    let subjects = Subjects::new(p.max_slots(), &mut fixed())?;
    OPERATIONS
        .iter()
        .chain([&BOOTSTRAP])
        .map(|o| count(&Meter::new(&Context::new(p)), &subjects, o))
        .collect()
}

/// A small ring with the chain of the standard set.
pub(crate) fn fingerprint_parameters() -> Result<Parameters, Error> {
    Parameters::new(ParametersSpec::toy(10))
}

/// [`ring::reference`](mod@ring::reference) with its operands: what all times are compared with.
#[derive(Debug)]
pub struct Reference {
    x: [u64; ring::reference::WORDS],
    y: [u64; ring::reference::WORDS],
    out: [u64; ring::reference::WORDS],
}

impl Default for Reference {
    fn default() -> Self {
        // Weyl's sequence
        let word = |seed: u64, i| {
            (i as u64 + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(seed)
        };
        let words = |seed| std::array::from_fn(|i| word(seed, i) >> 14);
        Self {
            x: words(1),
            y: words(2),
            out: [0; ring::reference::WORDS],
        }
    }
}

impl Reference {
    /// Once.
    pub fn run(&mut self) {
        ring::reference(
            std::hint::black_box(&mut self.out),
            std::hint::black_box(&self.x),
            std::hint::black_box(&self.y),
        );
        std::hint::black_box(&self.out);
    }
}

/// Words of each of the two vectors that the probe's stream adds: 64 MiB, more than one core's share of any cache.
pub const STREAM_WORDS: usize = 1 << 23;

/// What the probe's key switch runs with: N = 2^16, few limbs and three digits, so that its key is made in a moment.
///
/// # Errors
/// Never: a test makes it.
pub fn probe_parameters() -> Result<Parameters, Error> {
    Parameters::new(ParametersSpec::toy_levelled(16, 2))
}

/// What a probe takes on one thread, in CPU seconds: [`probe`] measures it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// One reference loop: [`Reference`].
    pub reference: f64,
    /// One addition over [`STREAM_WORDS`] words.
    pub stream: f64,
    /// One rotation by [`probe_parameters`].
    pub key_switch: f64,
    /// One GB of memory that the process had not before: the system clears it, and so does the host of a virtual machine.
    pub fresh: f64,
}

impl Probe {
    /// Of each time the middle one (of an even number the upper): how fast a machine was while a long measurement ran beside. None
    /// without probes.
    pub fn median(probes: &[Self]) -> Option<Self> {
        let middle = |of: fn(&Self) -> f64| quartile(2, probes.iter().map(of));
        Some(Self {
            reference: middle(|p| p.reference)?,
            stream: middle(|p| p.stream)?,
            key_switch: middle(|p| p.key_switch)?,
            fresh: middle(|p| p.fresh)?,
        })
    }
    /// The loops.
    pub(crate) fn parts(&self) -> [f64; 3] {
        [self.reference, self.stream, self.key_switch]
    }
}

/// Seconds of CPU time after which the probe's loops are not repeated again.
const PROBE_SECONDS: f64 = 1.2;
/// Most rounds over the probe's loops.
const PROBE_ROUNDS: usize = 40;
/// Reference loops in a round: about 2 ms, as long as the other loops.
const PROBE_REFERENCES: usize = 20;
/// Bytes that the probe fetches from the system: long enough to be timed, and what it leaves is used by the run.
const PROBE_FRESH: usize = 256 << 20;

/// Measures this machine's speed now. To be called where rayon has one thread; `clock` gives CPU seconds.
///
/// First fresh memory, which stays in the arena for the run. Then each loop runs once to warm up, and all in turn, so that what
/// disturbs the machine for a moment meets them all, for forty rounds or 1.2 s (always one round). Of each, the lower quartile
/// counts: other programs only add to a time. About a second, 3 s on a virtual machine whose fresh pages are dear; takes 400 MB.
///
/// # Errors
/// A lack of memory.
pub fn probe(clock: &dyn Fn() -> f64, rng: &mut impl CryptoRng) -> Result<Probe, Error> {
    probe_with(&probe_parameters()?, STREAM_WORDS, PROBE_FRESH, clock, rng)
}

fn probe_with(
    p: &Parameters,
    stream_words: usize,
    fresh_bytes: usize,
    clock: &dyn Fn() -> f64,
    rng: &mut impl CryptoRng,
) -> Result<Probe, Error> {
    let start = clock();
    let reservation = ring::buffer::reserve(fresh_bytes).ok_or_else(|| Error::Conformance {
        object: "probe",
        reason: format!("there is no memory for it: {fresh_bytes} bytes at once"),
    })?;
    let gigabytes = reservation.bytes() as f64 * 1e-9;
    reservation.populate();
    let fresh = (clock() - start) / gigabytes;

    let mut reference = Reference::default();
    let q = *p.prime(0);
    let fill = |value| {
        let mut words = AlignedVec::dirty(stream_words);
        words.fill(value);
        words
    };
    let (mut sum, addend) = (fill(1), fill(2));
    let subjects = Subjects::new(p.max_slots(), &mut fixed())?;
    let context = Context::new(p);
    let meter = Meter::new(&context);
    let input = meter.input(p.residual(), p.max_slots(), 1.0)?;
    circuit(&meter, "rotate", [&input, &input], &subjects)?;
    let secret = SecretKey::generate(p, rng);
    let evaluator = Evaluator::new(&context, secret.evaluation_keys(&meter.keys(), rng)?);
    let x = secret
        .encrypt(&subjects.plain, p.residual(), rng)?
        .expand(p);

    let mut round = |references: usize| -> Result<[f64; 3], Error> {
        let start = clock();
        for _ in 0..references {
            reference.run();
        }
        let referenced = clock();
        ring::limb::add(&q, &mut sum, &addend);
        std::hint::black_box(&sum);
        let streamed = clock();
        circuit(&evaluator, "rotate", [&x, &x], &subjects)?;
        Ok([
            (referenced - start) / references as f64,
            streamed - referenced,
            clock() - streamed,
        ])
    };
    round(1)?;
    let (mut rounds, start) = (Vec::new(), clock());
    while rounds.len() < PROBE_ROUNDS && (rounds.is_empty() || clock() - start < PROBE_SECONDS) {
        rounds.push(round(PROBE_REFERENCES)?);
    }
    let lower = |i: usize| quartile(1, rounds.iter().map(|r| r[i])).unwrap_or(f64::NAN);
    let [reference, stream, key_switch] = std::array::from_fn(lower);
    Ok(Probe {
        reference,
        stream,
        key_switch,
        fresh,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Observation, fit};
    use ckks::CostTable;
    use std::cell::Cell;

    #[test]
    fn every_operation_runs_and_counts_work() {
        let p = fingerprint_parameters().expect("valid");
        let all: Vec<Operation> = OPERATIONS.into_iter().chain([BOOTSTRAP]).collect();
        let mut workload =
            Workload::new(&p, &all, &mut ChaCha20Rng::seed_from_u64(1)).expect("makes keys");
        let listed: Vec<(Operation, Cost)> = workload.operations().collect();
        for (i, (operation, cost)) in listed.iter().enumerate() {
            workload.run(i).expect("runs");
            workload.run(i).expect("runs again");
            assert!(cost.seconds(&CostTable::default()) > 0.0, "{operation:?}");
        }
        let names: std::collections::BTreeSet<&str> = all.iter().map(|o| o.name).collect();
        assert_eq!((names.len(), listed.len()), (all.len(), all.len()));
        assert_eq!(
            counted(&p).expect("counts"),
            listed.iter().map(|o| o.1).collect::<Vec<_>>()
        );
        // the counts tell all kinds of work apart: see `machine`; any times give a table
        let observations: Vec<Observation> = listed
            .iter()
            .map(|(o, cost)| Observation {
                operation: o.name.into(),
                cost: *cost,
                seconds: 1.0,
                weight: o.weight,
            })
            .collect();
        fit(&observations, &CostTable::default()).expect("fits");
        let meter = Meter::new(&Context::new(&p));
        let x = meter.input(p.residual(), 64, 1.0).expect("fits");
        assert!(circuit(&meter, "juggle", [&x, &x], &workload.subjects).is_err());
    }

    #[test]
    fn times_are_medians_of_the_clock() {
        // one call takes 3, 1, 1, 5, 2 seconds of CPU and twice that of wall time
        let (now, calls) = (Cell::new(0.0), Cell::new(0usize));
        let clock = || Reading {
            cpu: now.get(),
            wall: 2.0 * now.get(),
        };
        let taken = time::<Error>(4, &clock, || {
            now.set(now.get() + [3.0, 1.0, 1.0, 5.0, 2.0][calls.get()]);
            calls.set(calls.get() + 1);
            Ok(())
        })
        .expect("runs");
        assert_eq!(
            taken,
            Reading {
                cpu: 2.0,
                wall: 4.0
            }
        );
        assert_eq!(calls.get(), 5);
    }

    #[test]
    fn ratios_are_to_the_references_beside_a_run() {
        // a step of the clock is one reference, a call 99 more; in the sixth call the machine becomes three times as slow
        let (now, step, calls) = (Cell::new(0.0), Cell::new(1.0), Cell::new(0usize));
        let clock = || {
            now.set(now.get() + step.get());
            Reading {
                cpu: now.get(),
                wall: 2.0 * now.get(),
            }
        };
        let timing = time_beside_reference::<Error>(9, &clock, || {
            calls.set(calls.get() + 1);
            if calls.get() == 6 {
                step.set(3.0);
            }
            now.set(now.get() + 99.0 * step.get());
            Ok(())
        })
        .expect("runs");
        let taken = Reading {
            cpu: 300.0,
            wall: 600.0,
        };
        assert_eq!(
            timing,
            Timing {
                taken,
                references: 100.0,
                reference: 3.0
            }
        );
        assert_eq!(calls.get(), 10);
    }

    #[test]
    fn probes_run_on_any_ring_and_stop_in_time() {
        let p = Parameters::new(ParametersSpec::toy_levelled(10, 2)).expect("valid");
        let run = |step: &dyn Fn(usize) -> f64| {
            let (now, readings) = (Cell::new(0.0), Cell::new(0usize));
            let clock = || {
                now.set(now.get() + step(readings.get()));
                readings.set(readings.get() + 1);
                now.get()
            };
            let mut rng = ChaCha20Rng::seed_from_u64(2);
            let probe = probe_with(&p, 1 << 12, 1 << 22, &clock, &mut rng).expect("runs");
            (probe, readings.get())
        };
        // every reading is 0.1 s after the last, so three rounds are enough
        let (probe, readings) = run(&|_| 0.1);
        assert!((probe.reference - 0.005).abs() < 1e-9);
        assert!((probe.stream - 0.1).abs() < 1e-9 && (probe.key_switch - 0.1).abs() < 1e-9);
        assert!((probe.fresh - 0.1 / (f64::from(1 << 22) * 1e-9)).abs() < 1e-6);
        // two for the fresh memory, four a round, one before and one after each
        assert_eq!(readings, 2 + 4 + 1 + 3 * 5);
        // a fast machine goes through all rounds; what disturbs half of them is not seen
        let (probe, readings) = run(&|i| if i / 30 % 2 == 1 { 5e-3 } else { 1e-3 });
        assert_eq!(readings, 2 + 4 + 1 + PROBE_ROUNDS * 5 - 1);
        assert!((probe.stream - 1e-3).abs() < 1e-9 && (probe.reference - 5e-5).abs() < 1e-9);
    }

    #[test]
    fn the_probes_ring_is_of_the_real_degree() {
        let p = probe_parameters().expect("valid");
        assert_eq!((p.n(), p.digits().len()), (1 << 16, 3));
    }
}
